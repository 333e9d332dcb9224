//! Where a far end is: asked anew for every attempt, within bounded time; where nobody answers, where it last was.
//!
//! The system's resolver cannot be called off, so a lookup that hangs stays behind on its thread, and no second one is
//! begun while it does.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::Failure;

/// Time for a lookup: two tries at a resolver's usual patience are beyond it, and the message waits meanwhile.
const LOOKUP_SECONDS: u64 = 5;

/// An address is used without the resolver for so long: over a night with a broken resolver, not for ever.
const GOOD_MS_MAX: u64 = 24 * 3_600_000;

/// Addresses that are tried in one attempt: both families, and a spare of each.
const ADDRESSES_MAX: usize = 4;

/// Asks where a name is.
type Lookup = Arc<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// The addresses of one name.
pub(super) struct Addresses {
    host: String,
    port: u16,
    lookup: Lookup,
    patience: Duration,
    under_way: Option<Receiver<io::Result<Vec<SocketAddr>>>>,
    /// What was found last, and when.
    good: Option<(Vec<SocketAddr>, u64)>,
}

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Addresses")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl Addresses {
    /// Asks the system.
    pub(super) fn of(host: &str, port: u16) -> Addresses {
        let system = |host: &str, port| Ok((host, port).to_socket_addrs()?.collect());
        Addresses {
            // An address in a URL stands in brackets where it is IPv6.
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            lookup: Arc::new(system),
            patience: Duration::from_secs(LOOKUP_SECONDS),
            under_way: None,
            good: None,
        }
    }

    /// At least one address, or why there is none.
    pub(super) fn find(&mut self, now_ms: u64) -> Result<Vec<SocketAddr>, Failure> {
        let why = match self.ask() {
            Ok(mut found) if !found.is_empty() => {
                found.truncate(ADDRESSES_MAX);
                self.good = Some((found.clone(), now_ms));
                return Ok(found);
            }
            Ok(_) => "it has no address".to_owned(),
            Err(error) => error.to_string(),
        };
        if let Some((good, at_ms)) = &self.good
            && now_ms.saturating_sub(*at_ms) <= GOOD_MS_MAX
        {
            tracing::debug!(
                host = self.host,
                why,
                "name not found, using its last address"
            );
            return Ok(good.clone());
        }
        Err(Failure::transient(format!("look up {}: {why}", self.host)))
    }

    fn ask(&mut self) -> io::Result<Vec<SocketAddr>> {
        let answer = match self.under_way.take() {
            Some(answer) => answer,
            None => self.begin()?,
        };
        match answer.recv_timeout(self.patience) {
            Ok(found) => found,
            Err(RecvTimeoutError::Timeout) => {
                self.under_way = Some(answer);
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "no answer from the resolver",
                ))
            }
            Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the lookup broke")),
        }
    }

    fn begin(&self) -> io::Result<Receiver<io::Result<Vec<SocketAddr>>>> {
        let (sender, answer) = sync_channel(1);
        let (lookup, host, port) = (Arc::clone(&self.lookup), self.host.clone(), self.port);
        std::thread::Builder::new()
            .name("notify-lookup".to_owned())
            .spawn(move || {
                // Nobody waits any more where the channel was set anew.
                let _ = sender.send(lookup(&host, port));
            })?;
        Ok(answer)
    }
}

/// Tells the HTTP client what was found before.
#[derive(Debug, Clone, Default)]
pub(super) struct Found(Arc<Mutex<Vec<SocketAddr>>>);

impl Found {
    /// Sets what the next request uses.
    pub(super) fn set(&self, addresses: Vec<SocketAddr>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }
}

impl Resolver for Found {
    fn resolve(
        &self,
        _: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut out = self.empty();
        for address in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            out.push(*address);
        }
        if out.is_empty() {
            Err(ureq::Error::HostNotFound)
        } else {
            Ok(out)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    fn at(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 443))
    }

    fn of(
        lookup: impl Fn(usize) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Addresses {
        let calls = AtomicUsize::new(0);
        let mut out = Addresses::of("hooks.example.org", 443);
        out.lookup = Arc::new(move |_, _| lookup(calls.fetch_add(1, Ordering::SeqCst)));
        out
    }

    #[test]
    fn the_last_good_address_serves_for_a_day() {
        let mut addresses = of(|call| match call {
            0 => Ok((1..9).map(at).collect()),
            1 => Ok(Vec::new()),
            4 => Ok(vec![at(9)]),
            _ => Err(io::Error::other("resolver is dead")),
        });
        let four = vec![at(1), at(2), at(3), at(4)];
        assert_eq!(
            addresses.find(1_000),
            Ok(four.clone()),
            "no more than are tried"
        );
        assert_eq!(addresses.find(2_000), Ok(four.clone()), "an empty answer");
        assert_eq!(addresses.find(1_000 + GOOD_MS_MAX), Ok(four));
        let why = addresses.find(1_001 + GOOD_MS_MAX).unwrap_err().to_string();
        assert_eq!(why, "look up hooks.example.org: resolver is dead");
        assert_eq!(addresses.find(2 * GOOD_MS_MAX), Ok(vec![at(9)]), "it moved");
    }

    #[test]
    fn a_lookup_that_hangs_is_not_begun_twice() {
        let (go, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let mut addresses = of(move |call| {
            wait.lock().unwrap().recv().unwrap();
            Ok(vec![at(u8::try_from(call).unwrap())])
        });
        addresses.patience = Duration::from_millis(1);
        for _ in 0..3 {
            let why = addresses.find(0).unwrap_err().to_string();
            assert_eq!(
                why,
                "look up hooks.example.org: no answer from the resolver"
            );
        }
        go.send(()).unwrap();
        addresses.patience = crate::notify::receiver::PATIENCE;
        assert_eq!(
            addresses.find(0),
            Ok(vec![at(0)]),
            "the first call's answer"
        );
    }

    #[test]
    fn the_system_knows_this_machine() {
        for host in ["127.0.0.1", "[::1]"] {
            let found = Addresses::of(host, 25).find(0).unwrap();
            assert!(
                found
                    .iter()
                    .all(|at| at.ip().is_loopback() && at.port() == 25),
                "{found:?}"
            );
        }
    }
}
