//! Delivers the spool over one stream, strictly in order, and says what is true now while it does.
//!
//! [`Uplink::run`] dials the servers in turn, for ever. One connection is a `session`: hello, welcome, then everything
//! after what the server holds. Nothing is forgotten before the server acknowledges it; what was sent twice the server
//! counts once by (host, epoch, number). [`course`] is what a session says and does with what it hears, without its sockets;
//! `window` bounds what is in flight, `backoff` says when to try again.

mod backoff;
pub mod course;
mod session;
mod shared;
mod window;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use dawnwatch_proto::event::Started;
use tonic::transport::Channel;

use crate::clock::Clock;
pub use shared::{Progress, Shared, TICK};

use backoff::{Backoff, chance};
use course::End;

/// Reaches a server. The real one speaks TLS with the host's certificate; tests dial in the clear on loopback.
pub trait Dial {
    /// The servers to try in turn, best first: asked before each try, for a host may join another server meanwhile.
    fn servers(&self) -> Vec<String>;

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
    fn servers(&self) -> Vec<String> {
        D::servers(self)
    }

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
    /// What the host is.
    pub facts: &'a Started,
    /// Asks the time.
    pub clock: Clock,
    /// Times of a stream.
    pub timing: Timing,
}

/// What was said in the log, so that an outage is a line for each server and not a page.
#[derive(Debug, Default)]
struct Said {
    why: BTreeMap<String, String>,
    is_first_ack_told: bool,
}

impl<D: Dial> Uplink<'_, D> {
    /// Delivers for ever.
    pub async fn run(&self) {
        let mut backoff = Backoff::new(self.timing.retry);
        let mut said = Said::default();
        let mut at = 0_usize;
        loop {
            let servers = self.dial.servers();
            let Some(server) = servers.get(at % servers.len().max(1)) else {
                // The identity names one, and the configuration too; a file edited by hand may not.
                tracing::error!(
                    "no server is named: re-join with: dawnwatch-agent join SERVER LINE"
                );
                tokio::time::sleep(backoff.next(chance(self.clock.boot_ms()))).await;
                continue;
            };
            let end = self.once(server, &mut backoff, &mut said).await;
            let was_connected = self.shared.is_connected();
            self.shared.set_connected(false);
            if let Some(why) = said.end(server, was_connected, &end, self.shared.backlog()) {
                self.shared.streams(Err(&why));
            }
            let chance = chance(self.clock.boot_ms());
            let wait = match end {
                End::Again(_) => Duration::ZERO,
                End::Later(_) => backoff.next(chance),
                End::After(wait, _) => backoff::asked(wait, chance),
                End::Unauthenticated(_) => {
                    self.dial.unauthenticated();
                    backoff.next(chance)
                }
                End::Refused(_) => backoff::slow(chance),
            };
            // A server that worked comes first again: behind it in the list may stand one that never answers.
            if !was_connected {
                at = at.wrapping_add(1);
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
        said.why.clear();
        self.shared.streams(Ok(server));
        session.run(inbound, &mut said.is_first_ack_told).await
    }
}

impl Said {
    /// Says why a connection, or the attempt at one, ended, and gives what it said; the same reason again is said at DEBUG.
    fn end(
        &mut self,
        server: &str,
        was_connected: bool,
        end: &End,
        backlog: u64,
    ) -> Option<String> {
        let text = match end {
            End::Again(why) => {
                tracing::info!(server, "connecting anew: {why}");
                return None;
            }
            End::Later(why) | End::Unauthenticated(why) if was_connected => {
                format!("connection to {server} lost: {why}; trying again")
            }
            End::Later(why) => format!("no connection to {server}: {why}; trying again"),
            End::After(_, why) => format!("{server} cannot serve this host: {why}; trying again"),
            End::Unauthenticated(why) => format!("{why}; trying with a fresh certificate"),
            End::Refused(why) => format!("{why}; asking again every minute"),
        };
        if self.why.get(server) == Some(&text) {
            tracing::debug!("{text}");
        } else {
            tracing::warn!(backlog, "{text}");
            self.why.insert(server.to_owned(), text.clone());
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests;
