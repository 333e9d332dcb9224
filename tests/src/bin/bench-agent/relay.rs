//! A TCP relay that counts what passes: everything above TCP, so TLS, HTTP/2 and gRPC in both directions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// A read above this holds the list of a host's series, which is announced once a connection and whenever a disk, mount or
/// interface comes or goes; a tick, its base row included, stays far below.
const ANNOUNCEMENT_BYTES: usize = 2_048;

/// What has passed.
#[derive(Debug, Default)]
struct Counts {
    up: AtomicU64,
    down: AtomicU64,
    /// Reads that gave something: close to the number of TCP segments.
    reads: AtomicU64,
    /// Bytes in reads above [`ANNOUNCEMENT_BYTES`], which the others do not count.
    announced: AtomicU64,
}

/// What had passed at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Passed {
    /// Bytes from agent to server.
    pub(crate) up: u64,
    /// Bytes from server to agent.
    pub(crate) down: u64,
    /// Reads of either direction.
    pub(crate) reads: u64,
    /// Bytes that announced series, either way; not counted above.
    pub(crate) announced: u64,
}

impl Passed {
    /// What passed after an earlier moment.
    pub(crate) fn since(self, before: Passed) -> Passed {
        Passed {
            up: self.up - before.up,
            down: self.down - before.down,
            reads: self.reads - before.reads,
            announced: self.announced - before.announced,
        }
    }
}

/// A running relay; its tasks end with the runtime.
#[derive(Debug)]
pub(crate) struct Relay {
    /// Where the agent connects.
    pub(crate) address: SocketAddr,
    counts: Arc<Counts>,
}

impl Relay {
    /// Listens on a free port and passes everything on to the server.
    pub(crate) async fn start(server: SocketAddr) -> anyhow::Result<Relay> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let counts = Arc::<Counts>::default();
        let counted = Arc::clone(&counts);
        tokio::spawn(async move {
            while let Ok((agent, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(server).await else {
                    continue;
                };
                let _ = agent
                    .set_nodelay(true)
                    .and_then(|()| server.set_nodelay(true));
                let (from_agent, to_agent) = agent.into_split();
                let (from_server, to_server) = server.into_split();
                let (up, down) = (Arc::clone(&counted), Arc::clone(&counted));
                tokio::spawn(async move { pass(from_agent, to_server, &up, &up.up).await });
                tokio::spawn(async move { pass(from_server, to_agent, &down, &down.down).await });
            }
        });
        Ok(Relay { address, counts })
    }

    /// What has passed so far.
    pub(crate) fn passed(&self) -> Passed {
        Passed {
            up: self.counts.up.load(Ordering::Relaxed),
            down: self.counts.down.load(Ordering::Relaxed),
            reads: self.counts.reads.load(Ordering::Relaxed),
            announced: self.counts.announced.load(Ordering::Relaxed),
        }
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, counts: &Counts, bytes: &AtomicU64) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read) = from.read(&mut buffer).await {
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
        let kind = if read > ANNOUNCEMENT_BYTES {
            &counts.announced
        } else {
            bytes
        };
        kind.fetch_add(read as u64, Ordering::Relaxed);
        counts.reads.fetch_add(1, Ordering::Relaxed);
    }
}
