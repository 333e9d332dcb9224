//! A connection to the server: name, socket, TLS, HTTP/2, each with its own error.

use std::future::{Ready, ready};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use dawnwatch_proto::SERVER_NAME;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::Service;

use super::{Address, BadAddress, Identity};

/// A dead connection is noticed within 20 seconds, also where nothing is being sent. Each question and its answer weigh as
/// much as half a tick, so not more often than that.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// How long the answer to a keep-alive may take.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(4);

/// Answers are small; a large window would be memory set aside on every host.
const WINDOW_BYTES: u32 = 64 * 1024;

/// Headers from the server: a status and a sentence.
const HEADERS_BYTES_MAX: u32 = 16 * 1024;

/// Requests that may wait for the connection: one stream and one call beside it.
const REQUESTS_WAITING_MAX: usize = 16;

/// A server cannot be spoken to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is none.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// Its name is not known.
    #[error("cannot resolve {server}: {source}; check the name and this host's DNS")]
    Resolve {
        /// The server.
        server: String,
        /// Why not.
        source: io::Error,
    },
    /// Nobody takes the connection.
    #[error(
        "cannot connect to {server}: {source}; check the address, that the server runs, and firewalls on the way"
    )]
    Connect {
        /// The server.
        server: String,
        /// Why not.
        source: io::Error,
    },
    /// It took too long.
    #[error(
        "no answer from {server} within {seconds} s; check the address, that the server runs, and firewalls on the way"
    )]
    Timeout {
        /// The server.
        server: String,
        /// How long it was tried.
        seconds: u64,
    },
    /// It is another server.
    #[error(
        "the server at {server} is not the one this host joined: its CA is another; check the address, or re-join with: dawnwatch-agent join SERVER LINE"
    )]
    WrongServer {
        /// The server.
        server: String,
    },
    /// Its certificate ended before this host's own was made.
    #[error(
        "the server at {server} shows a certificate that ended long ago; check that the server's clock is right and restart it"
    )]
    Expired {
        /// The server.
        server: String,
    },
    /// TLS came to nothing.
    #[error("{server} does not speak TLS as a dawnwatch server does ({source}); check the port")]
    Tls {
        /// The server.
        server: String,
        /// Why not.
        source: io::Error,
    },
    /// HTTP/2 came to nothing.
    #[error("{server} does not speak HTTP/2 as a dawnwatch server does: {source}")]
    Http {
        /// The server.
        server: String,
        /// Why not.
        source: tonic::transport::Error,
    },
    /// The stored certificate and key do not make a pair.
    #[error(
        "this host's certificate and key cannot be used: {0}; re-join with: dawnwatch-agent join SERVER LINE"
    )]
    Setup(#[source] rustls::Error),
}

/// One connection to a server, ready for the generated clients. It is **this** connection and no other: when it ends, calls
/// fail, and the caller makes another channel, so that every attempt to connect ends in an error of its own.
///
/// # Errors
/// What stands in the way, and what to do.
pub async fn channel(
    identity: &Identity,
    server: &str,
    connect_timeout: Duration,
) -> Result<Channel, ConnectError> {
    let server: Address = server.parse()?;
    channel_with(identity.client_config()?, &server, connect_timeout).await
}

/// The same as [`channel`] without HTTP/2: whether TLS comes to stand is what `doctor` asks.
///
/// # Errors
/// What stands in the way, and what to do.
pub async fn connect_raw(
    identity: &Identity,
    server: &str,
    connect_timeout: Duration,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let server: Address = server.parse()?;
    secure(identity.client_config()?, &server, connect_timeout).await
}

/// The same as [`channel`] with a TLS set-up of the caller's: who joins has no identity yet.
///
/// # Errors
/// What stands in the way, and what to do.
pub async fn channel_with(
    config: ClientConfig,
    server: &Address,
    connect_timeout: Duration,
) -> Result<Channel, ConnectError> {
    let stream = secure(config, server, connect_timeout).await?;
    // Names the server in HTTP's own terms; TLS is below, in the connection.
    let endpoint = Endpoint::from(Uri::from_static("http://dawnwatch-server"))
        .connect_timeout(connect_timeout)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .http2_max_header_list_size(HEADERS_BYTES_MAX)
        .buffer_size(REQUESTS_WAITING_MAX);
    let once = Once(Some(TokioIo::new(stream)));
    let failed = |source| ConnectError::Http {
        server: server.to_string(),
        source,
    };
    endpoint.connect_with_connector(once).await.map_err(failed)
}

/// Hands out the one connection.
struct Once(Option<TokioIo<TlsStream<TcpStream>>>);

impl Service<Uri> for Once {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        let ended = || io::Error::new(ErrorKind::ConnectionAborted, "the connection ended");
        ready(self.0.take().ok_or_else(ended))
    }
}

/// Name, socket and TLS, within one deadline.
async fn secure(
    config: ClientConfig,
    server: &Address,
    connect_timeout: Duration,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let deadline = Instant::now() + connect_timeout;
    let late = || ConnectError::Timeout {
        server: server.to_string(),
        seconds: connect_timeout.as_secs(),
    };
    let dialled = timeout_at(deadline, dial(server, connect_timeout)).await;
    let tcp = dialled.map_err(|_| late())??;
    let odd = |_| ConnectError::Setup(rustls::Error::General("the fixed name is none".to_owned()));
    let name = ServerName::try_from(SERVER_NAME).map_err(odd)?;
    let shaking = TlsConnector::from(Arc::new(config)).connect(name, tcp);
    let stream = timeout_at(deadline, shaking).await.map_err(|_| late())?;
    stream.map_err(|error| tls_error(server, error))
}

async fn dial(server: &Address, connect_timeout: Duration) -> Result<TcpStream, ConnectError> {
    let resolved = lookup_host((server.host.as_str(), server.port)).await;
    let resolve = |source| ConnectError::Resolve {
        server: server.to_string(),
        source,
    };
    let addresses: Vec<SocketAddr> = resolved.map_err(resolve)?.collect();
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in &addresses {
        // Where one family of addresses leads nowhere, there must be time left for the other.
        let share = if addresses.len() > 1 {
            connect_timeout / 2
        } else {
            connect_timeout
        };
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Without it a tick would wait for the acknowledgement of the one before.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "cannot set TCP_NODELAY");
                }
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(ErrorKind::TimedOut, "no answer"),
        }
    }
    Err(ConnectError::Connect {
        server: server.to_string(),
        source: last,
    })
}

fn tls_error(server: &Address, error: io::Error) -> ConnectError {
    let server = server.to_string();
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(rustls::Error::InvalidCertificate(why)) = inner {
        return if matches!(why, CertificateError::Expired) {
            ConnectError::Expired { server }
        } else {
            ConnectError::WrongServer { server }
        };
    }
    ConnectError::Tls {
        server,
        source: error,
    }
}
