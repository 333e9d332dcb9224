//! Debian's node_exporter beside us, restricted to a set of collectors and scraped once a second as Prometheus would.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, sleep};

/// The command of the Debian package.
pub(crate) const COMMAND: &str = "prometheus-node-exporter";

/// A running exporter.
#[derive(Debug)]
pub(crate) struct Exporter {
    child: Child,
    /// Series of one scrape.
    pub(crate) series: usize,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    scrapes: AtomicU64,
    bytes: AtomicU64,
}

impl Exporter {
    /// Starts an exporter with these collectors and scrapes it every second, compressed, over one connection.
    pub(crate) async fn start(collectors: &[&str]) -> anyhow::Result<Exporter> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(COMMAND);
        command.arg(format!("--web.listen-address={address}"));
        command.args([
            "--collector.disable-defaults",
            "--web.disable-exporter-metrics",
        ]);
        command.args(collectors.iter().map(|name| format!("--collector.{name}")));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command
            .spawn()
            .with_context(|| format!("{COMMAND}: not installed?"))?;
        let counts = Arc::<Counts>::default();
        let mut exporter = Exporter {
            child,
            series: 0,
            counts,
        };
        let mut stream = connect(address).await?;
        let text = scrape(&mut stream, "identity").await?;
        let text = String::from_utf8_lossy(&text);
        exporter.series = text
            .lines()
            .filter(|line| line.starts_with("node_"))
            .count();
        let counts = Arc::clone(&exporter.counts);
        tokio::spawn(async move {
            let mut second = interval(Duration::from_secs(1));
            second.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                second.tick().await;
                let Ok(answer) = scrape(&mut stream, "gzip").await else {
                    return;
                };
                counts
                    .bytes
                    .fetch_add(answer.len() as u64, Ordering::Relaxed);
                counts.scrapes.fetch_add(1, Ordering::Relaxed);
            }
        });
        Ok(exporter)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it.
    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Scrapes that were answered, and their bytes, header and body.
    pub(crate) fn scraped(&self) -> (u64, u64) {
        let counts = &self.counts;
        (
            counts.scrapes.load(Ordering::Relaxed),
            counts.bytes.load(Ordering::Relaxed),
        )
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    for _ in 0..100 {
        if let Ok(stream) = TcpStream::connect(address).await {
            return Ok(stream);
        }
        sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("{COMMAND} does not listen on {address} within 5 s")
}

/// One request and its whole answer.
async fn scrape(stream: &mut TcpStream, encoding: &str) -> anyhow::Result<Vec<u8>> {
    let request =
        format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: {encoding}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(16 * 1024);
    while !is_whole(&answer)? {
        anyhow::ensure!(
            stream.read_buf(&mut answer).await? > 0,
            "the exporter hung up"
        );
    }
    Ok(answer)
}

/// Whether an answer has come to its end, by its length or its last chunk.
fn is_whole(answer: &[u8]) -> anyhow::Result<bool> {
    let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(false);
    };
    let text = String::from_utf8_lossy(&answer[..head]).to_lowercase();
    anyhow::ensure!(
        text.starts_with("http/1.1 200"),
        "the exporter answers: {text}"
    );
    if text.contains("transfer-encoding: chunked") {
        return Ok(answer.ends_with(b"\r\n0\r\n\r\n"));
    }
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.context("an answer has a length")?.trim().parse()?;
    Ok(answer.len() >= head + 4 + length)
}
