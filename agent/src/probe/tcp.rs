//! A TCP connection as a probe, where no ping is permitted: opened or refused, somebody answered.

use std::io::ErrorKind;
use std::net::SocketAddr;

use dawnwatch_proto::probe::Method;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use super::{ANSWER_MAX, Echo};

/// Where a target has no known port: the echo service. Hardly anybody runs it, so a host that lives refuses; a port that is
/// in use, such as SSH's, would fill a log with probes.
pub(super) const PORT: u16 = 7;

/// Connects, and lets go at once.
pub(super) async fn connect(to: SocketAddr) -> Echo {
    let start = Instant::now();
    match tokio::time::timeout(ANSWER_MAX, TcpStream::connect(to)).await {
        Ok(Ok(_)) => Echo::Answered(start.elapsed()),
        Ok(Err(error)) => {
            let kind = error.kind();
            // Who refuses is alive.
            if matches!(
                kind,
                ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset
            ) {
                Echo::Answered(start.elapsed())
            } else if kind == ErrorKind::PermissionDenied {
                Echo::Unable
            } else {
                Echo::Lost
            }
        }
        Err(_) => Echo::Lost,
    }
}

/// Whether connections can be made at all.
pub(super) fn method(v6: bool) -> Method {
    let socket = if v6 {
        TcpSocket::new_v6()
    } else {
        TcpSocket::new_v4()
    };
    match socket {
        Ok(_) => Method::Tcp,
        Err(_) => Method::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn opened_or_refused_somebody_answered() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(matches!(connect(address).await, Echo::Answered(_)));
        drop(listener);
        assert!(matches!(connect(address).await, Echo::Answered(_)));
    }
}
