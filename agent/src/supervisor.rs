//! What a service manager is told: ready, alive, stopping (sd_notify(3)). Without one nothing is said.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Where the manager listens.
const SOCKET_ENV: &str = "NOTIFY_SOCKET";

/// How often it wants to hear that this process lives, in microseconds.
const WATCHDOG_ENV: &str = "WATCHDOG_USEC";

/// Tells the manager; where there is none, or it does not listen, that is no trouble of this process.
pub fn tell(state: &str) {
    let Some(path) = std::env::var_os(SOCKET_ENV) else {
        return;
    };
    let path = path.to_string_lossy();
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(path.as_ref()),
    };
    let told = address.and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        // A manager that hangs must not hang who tells it.
        socket.set_nonblocking(true)?;
        socket.send_to_addr(state.as_bytes(), &address)
    });
    if let Err(error) = told {
        tracing::debug!(%error, state, "the service manager was not told");
    }
}

/// Tells the manager that this process lives, twice as often as it wants to hear it, for ever. The agent has one thread: one
/// that hangs says nothing, and is started anew.
pub async fn live() {
    let wanted = std::env::var(WATCHDOG_ENV)
        .ok()
        .and_then(|text| every(&text));
    let Some(every) = wanted else {
        return std::future::pending().await;
    };
    loop {
        tell("WATCHDOG=1");
        tokio::time::sleep(every).await;
    }
}

fn every(microseconds: &str) -> Option<Duration> {
    let wanted: u64 = microseconds.parse().ok()?;
    (wanted > 0).then(|| Duration::from_micros(wanted / 2).max(Duration::from_millis(100)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_hears_twice_as_often_as_it_wants() {
        assert_eq!(every("60000000"), Some(Duration::from_secs(30)));
        assert_eq!(every("1"), Some(Duration::from_millis(100)));
        assert_eq!(every("0"), None);
        assert_eq!(every("soon"), None);
    }
}
