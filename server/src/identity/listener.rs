//! The agents' listener: handshakes side by side, bounded, and never ended by what one connection does.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
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
use crate::places::Places;

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
    by_address: Places,
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
        by_address: Places::new(limits.handshakes_of_one),
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
        let Some(place) = self.by_address.take(addr.ip()) else {
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
