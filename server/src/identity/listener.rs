//! The agents' listener: handshakes side by side, bounded, and never ended by what one connection does.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::server::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use super::{Proven, certificate};

/// What one listener takes on at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Handshakes under way; further connections wait in the kernel's queue.
    pub handshakes: usize,
    /// Handshakes under way from one remote address, so that one cannot keep all others out.
    pub handshakes_of_one: usize,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// How long accepting pauses where the system is out of file descriptors or memory.
    pub pause: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            // Each holds a descriptor and some 20 KiB, and an honest one is done in milliseconds.
            handshakes: 256,
            // A site behind one address comes back all at once after an outage.
            handshakes_of_one: 128,
            handshake_timeout: Duration::from_secs(5),
            pause: Duration::from_millis(100),
        }
    }
}

/// Who is at the other end of a connection: `request.extensions().get::<Peer>()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Where it comes from.
    pub addr: SocketAddr,
    /// What its certificate proved; none where it showed none.
    pub host: Option<Proven>,
}

/// Connections whose handshake is done, for tonic's `serve_with_incoming`. What goes wrong with one connection never
/// ends the stream, nor holds up another. Dropping it ends every handshake under way.
pub struct Incoming {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    limits: Limits,
    handshakes: JoinSet<Option<TlsConn>>,
    by_address: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
    pause: Option<Pin<Box<Sleep>>>,
}

/// Takes connections from the listener and shakes hands with them.
#[must_use]
pub fn incoming(listener: TcpListener, config: Arc<ServerConfig>, limits: Limits) -> Incoming {
    Incoming {
        listener,
        acceptor: TlsAcceptor::from(config),
        limits,
        handshakes: JoinSet::new(),
        by_address: Arc::default(),
        pause: None,
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

impl Stream for Incoming {
    type Item = io::Result<TlsConn>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.accept(cx);
        loop {
            match ready!(poll_handshakes(&mut self.handshakes, cx)) {
                Some(conn) => return Poll::Ready(Some(Ok(conn))),
                // A place is free again: somebody may be waiting for it.
                None => self.accept(cx),
            }
        }
    }
}

/// The next handshake that is done, with what came of it. Where none is under way there is nothing to wait for here.
fn poll_handshakes(
    handshakes: &mut JoinSet<Option<TlsConn>>,
    cx: &mut Context<'_>,
) -> Poll<Option<TlsConn>> {
    match handshakes.poll_join_next(cx) {
        Poll::Ready(Some(done)) => Poll::Ready(done.unwrap_or_else(|error| {
            tracing::error!(%error, "a handshake broke off");
            None
        })),
        Poll::Ready(None) | Poll::Pending => Poll::Pending,
    }
}

impl Incoming {
    /// Takes what waits in the kernel's queue, as far as there is room.
    fn accept(&mut self, cx: &mut Context<'_>) {
        while self.handshakes.len() < self.limits.handshakes {
            if let Some(pause) = &mut self.pause {
                if pause.as_mut().poll(cx).is_pending() {
                    return;
                }
                self.pause = None;
            }
            match self.listener.poll_accept(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok((stream, addr))) => self.start(stream, addr),
                Poll::Ready(Err(error)) if is_of_one_connection(&error) => {}
                Poll::Ready(Err(error)) => {
                    tracing::warn!(%error, "cannot accept connections, trying again");
                    self.pause = Some(Box::pin(tokio::time::sleep(self.limits.pause)));
                }
            }
        }
    }

    fn start(&mut self, stream: TcpStream, addr: SocketAddr) {
        let Some(place) = self.place(addr.ip()) else {
            tracing::debug!(%addr, "too many handshakes from one address");
            return;
        };
        let accepting = self.acceptor.accept(stream);
        let timeout = self.limits.handshake_timeout;
        self.handshakes.spawn(async move {
            let _place = place;
            match tokio::time::timeout(timeout, accepting).await {
                Ok(Ok(stream)) => Some(TlsConn::new(stream, addr)),
                Ok(Err(error)) => {
                    tracing::debug!(%addr, %error, "handshake failed");
                    None
                }
                Err(_) => {
                    tracing::debug!(%addr, "handshake took too long");
                    None
                }
            }
        });
    }

    /// A place for one handshake of this address; none where it holds too many. This machine itself is not bounded.
    fn place(&self, ip: IpAddr) -> Option<Place> {
        let mut table = self
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let held = table.entry(ip).or_insert(0);
        if *held >= self.limits.handshakes_of_one && !ip.to_canonical().is_loopback() {
            return None;
        }
        *held += 1;
        Some(Place {
            ip,
            table: self.by_address.clone(),
        })
    }
}

/// One handshake's share of its address's bound, given back when dropped.
struct Place {
    ip: IpAddr,
    table: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(held) = table.get_mut(&self.ip) else {
            return;
        };
        *held -= 1;
        if *held == 0 {
            table.remove(&self.ip);
        }
    }
}

/// Errors of `accept` that concern one connection and not the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    [
        ConnectionAborted,
        ConnectionRefused,
        ConnectionReset,
        Interrupted,
    ]
    .contains(&error.kind())
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct TlsConn {
    stream: TlsStream<TcpStream>,
    peer: Peer,
}

impl TlsConn {
    fn new(stream: TlsStream<TcpStream>, addr: SocketAddr) -> TlsConn {
        let (tcp, session) = stream.get_ref();
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%addr, %error, "cannot set TCP_NODELAY");
        }
        let leaf = session.peer_certificates().and_then(|chain| chain.first());
        let host = leaf.and_then(|leaf| certificate::proven(leaf));
        TlsConn {
            stream,
            peer: Peer { addr, host },
        }
    }
}

impl Connected for TlsConn {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}

impl AsyncRead for TlsConn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsConn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    #[tokio::test]
    async fn one_address_cannot_take_every_place() {
        let dir = tempfile::tempdir().unwrap();
        let now: jiff::Timestamp = "2026-10-05T08:00:00Z".parse().unwrap();
        let (identity, _) = Identity::open(dir.path(), now, &[]).unwrap();
        let config = identity.server_config(Arc::new(move || now)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let limits = Limits {
            handshakes_of_one: 2,
            ..Limits::default()
        };
        let incoming = incoming(listener, config, limits);
        let (greedy, other): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let held: Vec<_> = (0..2).map(|_| incoming.place(greedy).unwrap()).collect();
        assert!(incoming.place(greedy).is_none());
        assert!(incoming.place(other).is_some());
        let local: Vec<_> = (0..9)
            .map(|_| incoming.place([127, 0, 0, 1].into()))
            .collect();
        assert!(
            local.iter().all(Option::is_some),
            "this machine is not bounded"
        );
        drop((held, local));
        assert!(incoming.place(greedy).is_some());
        assert!(
            incoming.by_address.lock().unwrap().is_empty(),
            "nothing is left behind"
        );
    }
}
