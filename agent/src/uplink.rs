//! Delivers the spool over one stream, strictly in order, and says what is true now while it does.
//!
//! [`Uplink::run`] dials the servers in turn, for ever. One connection is a `session`: hello, welcome, then everything
//! after what the server holds. Nothing is forgotten before the server acknowledges it; what was sent twice the server
//! counts once by (host, epoch, number). `window` bounds what is in flight, `backoff` says when to try again.

mod backoff;
mod session;
mod shared;
mod window;

use std::future::Future;
use std::time::Duration;

use dawnwatch_proto::event::Started;
use tonic::transport::Channel;

use crate::clock::Clock;
pub use shared::{Shared, TICK};

use backoff::{Backoff, chance};
use session::End;

/// Reaches a server. The real one speaks TLS with the host's certificate; tests dial in the clear on loopback.
pub trait Dial {
    /// Connects to one address.
    fn dial(&self, server: &str) -> impl Future<Output = Result<Channel, Unreachable>>;

    /// The server said welcome, and what time it has.
    fn welcomed(&self, server_wall_ms: i64) {
        let _ = server_wall_ms;
    }

    /// The server does not accept who this host says it is: before the next try it may have to prove itself anew.
    fn unauthenticated(&self) {}
}

/// Why there is no connection, as a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreachable {
    /// It may be there later.
    Later(String),
    /// A person must mend it: wrong server, certificate refused.
    Refused(String),
}

/// A random number, for an epoch's id and for jitter; where the system has none, time has to do.
#[must_use]
pub fn random(boot_ms: u64) -> u64 {
    chance(boot_ms)
}

impl<D: Dial> Dial for &D {
    fn dial(&self, server: &str) -> impl Future<Output = Result<Channel, Unreachable>> {
        D::dial(self, server)
    }

    fn welcomed(&self, server_wall_ms: i64) {
        D::welcomed(self, server_wall_ms);
    }

    fn unauthenticated(&self) {
        D::unauthenticated(self);
    }
}

/// Times of a stream; the defaults are the product's, tests shorten them.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Longest time without a word to the server: it calls a host silent after thirty seconds.
    pub heartbeat: Duration,
    /// Longest wait for the welcome.
    pub welcome: Duration,
    /// Bound of the wait after a first failure; it doubles with each further one, up to a minute.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            heartbeat: Duration::from_secs(10),
            welcome: Duration::from_secs(20),
            retry: backoff::FIRST,
        }
    }
}

/// The uplink of one agent.
#[derive(Debug)]
pub struct Uplink<'a, D> {
    /// Spool and bells.
    pub shared: &'a Shared,
    /// Reaches a server.
    pub dial: D,
    /// Servers to try in turn.
    pub servers: Vec<String>,
    /// What the host is.
    pub facts: &'a Started,
    /// Asks the time.
    pub clock: Clock,
    /// Times of a stream.
    pub timing: Timing,
}

/// What was said in the log, so that an outage is a line and not a page.
#[derive(Debug, Default)]
struct Said {
    why_lost: Option<String>,
    is_first_ack_told: bool,
}

impl<D: Dial> Uplink<'_, D> {
    /// Delivers for ever.
    pub async fn run(&self) {
        let mut backoff = Backoff::new(self.timing.retry);
        let mut said = Said::default();
        for server in self.servers.iter().cycle() {
            let end = self.once(server, &mut backoff, &mut said).await;
            self.shared.set_connected(false);
            let chance = chance(self.clock.boot_ms());
            let (wait, why) = match end {
                End::Again(why) => (Duration::ZERO, why),
                End::Later(why) => (backoff.next(chance), why),
                End::After(wait, why) => (backoff::asked(wait, chance), why),
                End::Unauthenticated(why) => {
                    self.dial.unauthenticated();
                    (backoff.next(chance), why)
                }
                End::Refused(why) => (backoff::slow(chance), why),
            };
            if said.why_lost.as_ref() == Some(&why) {
                tracing::debug!(server, wait_seconds = wait.as_secs_f32(), "{why}");
            } else {
                tracing::warn!(
                    server,
                    backlog = self.shared.backlog(),
                    "not connected: {why}"
                );
                said.why_lost = Some(why);
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn once(&self, server: &str, backoff: &mut Backoff, said: &mut Said) -> End {
        let channel = match self.dial.dial(server).await {
            Ok(channel) => channel,
            Err(Unreachable::Later(why)) => return End::Later(why),
            Err(Unreachable::Refused(why)) => return End::Refused(why),
        };
        let (session, inbound) = match self.open(channel).await {
            Ok(opened) => opened,
            Err(end) => return end,
        };
        self.shared.set_connected(true);
        backoff.reset();
        let name = session.host_name();
        tracing::info!(server, name, backlog = self.shared.backlog(), "connected");
        said.why_lost = None;
        session.run(inbound, &mut said.is_first_ack_told).await
    }
}

#[cfg(test)]
mod tests;
