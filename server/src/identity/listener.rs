//! The agents' listener: handshakes side by side, bounded, and never ended by what one connection does. Connections that stand are
//! bounded too: strangers, who show no certificate (to join, to fetch the agent), in all and by address; hosts each for itself.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use dawnwatch_proto::HostId;
use rustls::server::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use super::{Proven, certificate};
use crate::clock::Clock;
use crate::places::{Place, Places};

/// Of connections that find no place is told this often: whoever opens them must not fill a log.
const TELL_EVERY_MS: u64 = 60_000;

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
    /// Connections without a certificate in all.
    pub strangers: usize,
    /// Connections without a certificate from one remote address. Loopback is not bounded.
    pub strangers_of_one: usize,
    /// How long such a connection may stand.
    pub stranger_time: Duration,
    /// Connections of one host.
    pub of_one_host: usize,
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
            // A rollout over a large fleet at once; silent ones take 50 MB together.
            strangers: 4_096,
            // All hosts of a site behind one address that are set up at once, and no more.
            strangers_of_one: 512,
            // The agent over a line of 32 kbit/s.
            stranger_time: Duration::from_secs(3_600),
            // An agent has one, and leaves behind one each time its line breaks, for 20 s.
            of_one_host: 32,
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
    standing: Arc<Standing>,
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
        standing: Arc::new(Standing::new(limits)),
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
        let standing = Arc::clone(&self.standing);
        self.handshakes.spawn(async move {
            let _place = place;
            match tokio::time::timeout(timeout, accepting).await {
                Ok(Ok(stream)) => TlsConn::new(stream, addr, &standing),
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

/// The connections that stand.
#[derive(Debug)]
struct Standing {
    strangers: Arc<Semaphore>,
    by_address: Places,
    hosts: Places<HostId>,
    stranger_time: Duration,
    /// Those that found no place since that was told.
    refused: AtomicU64,
    told_ms: AtomicU64,
}

/// The place of a connection that stands.
#[derive(Debug)]
enum Stands {
    Host {
        _place: Place<HostId>,
    },
    Stranger {
        _of_all: OwnedSemaphorePermit,
        _place: Place,
        until: Pin<Box<Sleep>>,
    },
}

impl Standing {
    fn new(limits: Limits) -> Standing {
        Standing {
            strangers: Arc::new(Semaphore::new(limits.strangers)),
            by_address: Places::new(limits.strangers_of_one),
            hosts: Places::new(limits.of_one_host),
            stranger_time: limits.stranger_time,
            refused: AtomicU64::new(0),
            told_ms: AtomicU64::new(0),
        }
    }

    /// Counts a connection that is closed for want of a place, and tells of them once a minute.
    fn refused(&self, last: Peer) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let now_ms = Clock.boot_ms();
        if now_ms >= self.told_ms.load(Ordering::Relaxed) {
            let next_ms = now_ms.saturating_add(TELL_EVERY_MS);
            self.told_ms.store(next_ms, Ordering::Relaxed);
            let closed = self.refused.swap(0, Ordering::Relaxed);
            let with = if last.host.is_some() {
                "of one host"
            } else {
                "without a certificate"
            };
            tracing::warn!(closed, last = %last.addr, "too many connections {with}: further ones are closed");
        }
    }

    /// A place for a connection; none where there are too many of its kind.
    fn place(&self, peer: Peer) -> Option<Stands> {
        if let Some(proven) = peer.host {
            let place = self.hosts.of(proven.id)?;
            return Some(Stands::Host { _place: place });
        }
        let of_all = Arc::clone(&self.strangers).try_acquire_owned().ok()?;
        Some(Stands::Stranger {
            _of_all: of_all,
            _place: self.by_address.take(peer.addr.ip())?,
            until: Box::pin(tokio::time::sleep(self.stranger_time)),
        })
    }
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct TlsConn {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    stands: Stands,
}

impl TlsConn {
    fn new(stream: TlsStream<TcpStream>, addr: SocketAddr, standing: &Standing) -> Option<TlsConn> {
        let (tcp, session) = stream.get_ref();
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%addr, %error, "cannot set TCP_NODELAY");
        }
        let leaf = session.peer_certificates().and_then(|chain| chain.first());
        let host = leaf.and_then(|leaf| certificate::proven(leaf));
        let peer = Peer { addr, host };
        let Some(stands) = standing.place(peer) else {
            standing.refused(peer);
            return None;
        };
        Some(TlsConn {
            stream,
            peer,
            stands,
        })
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
        if let Stands::Stranger { until, .. } = &mut self.stands
            && until.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
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
    use std::net::Ipv4Addr;

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
    use tokio::io::AsyncReadExt;
    use tokio_rustls::TlsConnector;
    use tokio_stream::StreamExt;

    use super::*;
    use crate::identity::Identity;

    /// Believes everybody.
    #[derive(Debug)]
    struct Anybody;

    impl ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ECDSA_NISTP256_SHA256]
        }
    }

    type Client = tokio_rustls::client::TlsStream<TcpStream>;

    /// A connection without a certificate.
    async fn stranger(addr: SocketAddr) -> Client {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_no_client_auth();
        let tcp = TcpStream::connect(addr).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, tcp).await.unwrap()
    }

    async fn listen(limits: Limits) -> (Incoming, SocketAddr) {
        let dir = tempfile::tempdir().unwrap();
        let (identity, _) = Identity::open(dir.path(), Clock.wall(), &[]).unwrap();
        let config = identity.server_config(Arc::new(|| Clock.wall())).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        (incoming(listener, config, limits), addr)
    }

    #[tokio::test]
    async fn strangers_that_say_nothing_take_no_more_than_their_places() {
        let limits = Limits {
            strangers: 2,
            ..Limits::default()
        };
        let (mut incoming, addr) = listen(limits).await;
        let mut stand = Vec::new();
        for _ in 0..2 {
            let (client, conn) = tokio::join!(stranger(addr), incoming.next());
            stand.push((client, conn.unwrap().unwrap()));
        }
        let is_closed = async {
            let mut third = stranger(addr).await;
            third.read_u8().await.unwrap_err();
        };
        tokio::select! {
            () = is_closed => {}
            _ = incoming.next() => panic!("a third one"),
        }
        stand.pop();
        let (_client, conn) = tokio::join!(stranger(addr), incoming.next());
        assert!(conn.unwrap().unwrap().peer.host.is_none());
    }

    #[tokio::test]
    async fn a_stranger_does_not_stay_for_ever() {
        let limits = Limits {
            stranger_time: Duration::from_millis(20),
            ..Limits::default()
        };
        let (mut incoming, addr) = listen(limits).await;
        let (_client, conn) = tokio::join!(stranger(addr), incoming.next());
        let error = conn.unwrap().unwrap().read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_host_takes_no_more_than_its_own_places() {
        let standing = Standing::new(Limits {
            strangers: 0,
            of_one_host: 2,
            ..Limits::default()
        });
        let of = |id| Peer {
            addr: SocketAddr::from(([192, 0, 2, 1], 7)),
            host: Some(Proven {
                id: HostId(id),
                generation: 1,
                not_after: Clock.wall(),
            }),
        };
        let held = [1, 1, 2].map(|id| standing.place(of(id)).unwrap());
        assert!(standing.place(of(1)).is_none());
        assert!(standing.place(of(2)).is_some(), "the other one");
        drop(held);
        assert!(standing.place(of(1)).is_some());
    }
}
