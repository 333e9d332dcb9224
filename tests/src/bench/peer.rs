//! Debian's Prometheus and VictoriaMetrics, fed with G1 by remote write: protobuf, snappy, keep-alive.
//!
//! Caveats: both are the versions that Debian has, years old; newer ones may be better. They take samples in the clear and
//! without a client's identity. VictoriaMetrics answers before what it took is on disk.

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;

use super::fleet::Times;
use super::g1;
use super::http::{Kept, To};
use super::ours::{free_port, poll};

const WITHIN: Duration = Duration::from_secs(120);

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Debian's `prometheus`.
    Prometheus,
    /// Debian's `victoria-metrics`.
    Victoria,
}

impl Kind {
    /// Its command, which is the name of its package too.
    #[must_use]
    pub fn command(self) -> &'static str {
        match self {
            Kind::Prometheus => "prometheus",
            Kind::Victoria => "victoria-metrics",
        }
    }

    /// The path where it says whether it is ready.
    #[must_use]
    pub fn ready(self) -> &'static str {
        match self {
            Kind::Prometheus => "/-/ready",
            Kind::Victoria => "/health",
        }
    }

    /// The version of its Debian package.
    #[must_use]
    pub fn version(self) -> String {
        let asked = Command::new("dpkg-query")
            .args(["-W", "-f", "${Version}", self.command()])
            .output();
        let said = asked.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
        said.unwrap_or_default()
    }
}

/// A running peer.
#[derive(Debug)]
pub struct Peer {
    /// Which.
    pub kind: Kind,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it keeps its data.
    pub data: PathBuf,
    child: Child,
}

impl Peer {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// Where it is not installed or does not become ready.
    pub fn start(kind: Kind, data: &Path) -> anyhow::Result<Peer> {
        fs::create_dir_all(data)?;
        let address = free_port()?;
        let peer = Peer {
            kind,
            address,
            data: data.to_owned(),
            child: spawn(kind, data, address)?,
        };
        peer.until_ready()?;
        Ok(peer)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again, without waiting.
    ///
    /// # Errors
    /// Where the process does not start.
    pub fn again(&mut self) -> anyhow::Result<()> {
        self.child = spawn(self.kind, &self.data, self.address)?;
        Ok(())
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// Where it does not.
    pub fn until_ready(&self) -> anyhow::Result<()> {
        let path = self.kind.ready();
        let to = self.http();
        poll(super::now() + WITHIN, || {
            matches!(to.get(path), Ok((200, _))).then_some(())
        })
        .with_context(|| format!("{} does not become ready", self.kind.command()))
    }

    /// Where it is asked.
    #[must_use]
    pub fn http(&self) -> To {
        To::Tcp(self.address)
    }

    /// The path of a query as of a time in Unix seconds.
    #[must_use]
    pub fn query(&self, text: &str, at_s: i64) -> String {
        let mut out = String::new();
        for byte in text.bytes() {
            if byte.is_ascii_alphanumeric() {
                out.push(char::from(byte));
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
        let nocache = match self.kind {
            Kind::Prometheus => "",
            Kind::Victoria => "&nocache=1",
        };
        format!("/api/v1/query?query={out}&time={at_s}{nocache}")
    }

    /// How many samples it finds of each of so many hosts, over all of their series, between two times in Unix seconds.
    ///
    /// # Errors
    /// Where it does not answer with numbers.
    pub fn count(&self, hosts: u64, from_s: i64, to_s: i64) -> anyhow::Result<Vec<u64>> {
        let mut found = vec![0; usize::try_from(hosts)?];
        let range = to_s - from_s;
        for name in g1::NAMES {
            let text = format!("count_over_time({name}{{hostname=~\"host_.*\"}}[{range}s])");
            let body = self.http().body(&self.query(&text, to_s))?;
            let answer: serde_json::Value = serde_json::from_slice(&body)?;
            let all = answer.pointer("/data/result");
            for one in all
                .and_then(serde_json::Value::as_array)
                .into_iter()
                .flatten()
            {
                let text = |path: &str| one.pointer(path).and_then(serde_json::Value::as_str);
                let host = text("/metric/hostname").and_then(|name| name.strip_prefix("host_"));
                let host: usize = host.context("an answer names its host")?.parse()?;
                let count: u64 = text("/value/1").context("an answer has a value")?.parse()?;
                *found.get_mut(host).context("a host that nobody fed")? += count;
            }
        }
        Ok(found)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(kind: Kind, data: &Path, address: SocketAddr) -> anyhow::Result<Child> {
    let mut command = Command::new(kind.command());
    match kind {
        Kind::Prometheus => {
            let config = data.with_extension("yml");
            fs::write(&config, "global: {}\n")?;
            command.arg(format!("--config.file={}", config.display()));
            command.arg(format!("--storage.tsdb.path={}", data.display()));
            command.arg(format!("--web.listen-address={address}"));
            command.args(["--web.enable-remote-write-receiver", "--log.level=error"]);
            command.arg("--storage.tsdb.retention.time=60d");
            command.arg("--query.max-samples=1000000000");
        }
        Kind::Victoria => {
            command.arg(format!("-storageDataPath={}", data.display()));
            command.arg(format!("-httpListenAddr={address}"));
            // Its own default ends every connection after two minutes, and a retention of a month drops older samples.
            command.args(["-http.connTimeout=1h", "-retentionPeriod=3"]);
            command.args(["-loggerLevel=ERROR", "-search.maxUniqueTimeseries=3000000"]);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null());
    match command.spawn() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            anyhow::bail!("{0} is missing: apt-get install {0}", kind.command())
        }
        started => Ok(started?),
    }
}

/// How samples are put into requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One tick of so many hosts: what Prometheus and vmagent send, in order of time.
    Hosts(u64),
    /// 120 ticks of one host, series after series: the cheapest that can be sent, which no agent of theirs does.
    Series,
}

/// Ticks of a series in one request: 20 minutes. Prometheus takes nothing that is an hour older than the newest sample.
const TICKS_TOGETHER: usize = 120;

/// What is sent.
#[derive(Debug)]
pub struct Load {
    /// How many hosts.
    pub hosts: u64,
    /// Which ticks of each.
    pub ticks: std::ops::Range<u64>,
    /// Their times.
    pub times: Times,
    /// How.
    pub form: Form,
    /// Over so many connections.
    pub connections: u64,
    /// So many requests a second in all, or as many as go.
    pub a_second: Option<f64>,
    /// Samples of each host that were answered well.
    pub acked: Vec<AtomicU64>,
    /// Turns true where no more is to be sent.
    pub stop: AtomicBool,
}

impl Load {
    /// All of it, as fast as it goes.
    #[must_use]
    pub fn new(hosts: u64, ticks: std::ops::Range<u64>, times: Times, form: Form) -> Load {
        Load {
            hosts,
            ticks,
            times,
            form,
            connections: 2,
            a_second: None,
            acked: (0..hosts).map(|_| AtomicU64::new(0)).collect(),
            stop: AtomicBool::new(false),
        }
    }

    /// Sends everything; the samples that were answered well.
    ///
    /// # Errors
    /// Where a request is not answered well. After [`Load::stop`] that is no error.
    pub fn send(&self, to: SocketAddr) -> anyhow::Result<u64> {
        let result = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.connections)
                .map(|worker| scope.spawn(move || self.work(to, worker)))
                .collect();
            let ends = workers.into_iter().map(|worker| worker.join());
            ends.collect::<Vec<_>>()
        });
        for end in result {
            let end = end.map_err(|_| anyhow::anyhow!("a sender panicked"))?;
            if !self.stop.load(Ordering::Relaxed) {
                end?;
            }
        }
        Ok(self.acked().iter().sum())
    }

    /// Samples of each host that were answered well so far.
    #[must_use]
    pub fn acked(&self) -> Vec<u64> {
        let of_host = |count: &AtomicU64| count.load(Ordering::Relaxed);
        self.acked.iter().map(of_host).collect()
    }

    fn work(&self, to: SocketAddr, worker: u64) -> anyhow::Result<()> {
        let share = |n: u64| self.hosts * n / self.connections;
        let numbers: Vec<u64> = (share(worker)..share(worker + 1)).collect();
        let mut out = Sender::new(to, &numbers, self);
        match self.form {
            Form::Series => {
                for from in self.ticks.clone().step_by(TICKS_TOGETHER) {
                    let to = (from + TICKS_TOGETHER as u64).min(self.ticks.end);
                    for host in 0..numbers.len() {
                        out.of_host(host, from..to)?;
                    }
                }
                Ok(())
            }
            Form::Hosts(together) => {
                for tick in self.ticks.clone() {
                    for from in (0..numbers.len()).step_by(usize::try_from(together)?) {
                        let to = (from + usize::try_from(together)?).min(numbers.len());
                        if self.stop.load(Ordering::Relaxed) {
                            return Ok(());
                        }
                        out.one_tick(from..to, tick)?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// One connection, and the hosts that are sent over it.
struct Sender<'a> {
    load: &'a Load,
    http: Kept,
    hosts: Vec<g1::Host>,
    numbers: Vec<u64>,
    /// Labels of each series of each host, coded.
    labels: Vec<Vec<u8>>,
    body: Vec<u8>,
    began: std::time::Instant,
    requests: u32,
}

impl<'a> Sender<'a> {
    fn new(to: SocketAddr, numbers: &[u64], load: &'a Load) -> Sender<'a> {
        let host = |number: &u64| {
            let mut host = g1::Host::new(*number);
            while host.ticks() < load.ticks.start {
                host.next_row();
            }
            host
        };
        let of_host = |number: &u64| {
            let number = *number;
            g1::NAMES.iter().map(move |name| labels(number, name))
        };
        Sender {
            load,
            http: Kept::new(to),
            hosts: numbers.iter().map(host).collect(),
            numbers: numbers.to_vec(),
            labels: numbers.iter().flat_map(of_host).collect(),
            body: Vec::new(),
            began: super::now(),
            requests: 0,
        }
    }

    fn one_tick(&mut self, hosts: std::ops::Range<usize>, tick: u64) -> anyhow::Result<()> {
        self.body.clear();
        for index in hosts.clone() {
            let host = &mut self.hosts[index];
            let at = self.load.times.of(host, tick);
            for (i, raw) in host.next_row().iter().enumerate() {
                let labels = &self.labels[index * g1::SERIES + i];
                series(&mut self.body, labels, &[sample(i, *raw, at)]);
            }
        }
        self.post(hosts, g1::SERIES)
    }

    fn of_host(&mut self, index: usize, ticks: std::ops::Range<u64>) -> anyhow::Result<()> {
        self.body.clear();
        let mut all: Vec<Vec<Vec<u8>>> = vec![Vec::new(); g1::SERIES];
        for tick in ticks {
            let host = &mut self.hosts[index];
            let at = self.load.times.of(host, tick);
            for (i, raw) in host.next_row().iter().enumerate() {
                all[i].push(sample(i, *raw, at));
            }
        }
        let of_host = all.iter().map(Vec::len).sum();
        for (i, samples) in all.iter().enumerate() {
            series(
                &mut self.body,
                &self.labels[index * g1::SERIES + i],
                samples,
            );
        }
        self.post(index..index + 1, of_host)
    }

    /// Posts what is in the body: so many samples of each of these hosts.
    fn post(&mut self, hosts: std::ops::Range<usize>, of_each: usize) -> anyhow::Result<()> {
        const HEAD: &str = "POST /api/v1/write HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\n";
        if let Some(a_second) = self.load.a_second {
            #[allow(clippy::cast_precision_loss, reason = "a handful of connections")]
            let each = self.load.connections as f64 / a_second;
            let due = self.began + Duration::from_secs_f64(each * f64::from(self.requests));
            std::thread::sleep(due.saturating_duration_since(super::now()));
        }
        self.requests += 1;
        let packed = snap::raw::Encoder::new().compress_vec(&self.body)?;
        self.http.post(HEAD, &packed)?;
        for number in &self.numbers[hosts] {
            let count = &self.load.acked[usize::try_from(*number)?];
            count.fetch_add(of_each as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn labels(host: u64, name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for (label, value) in [
        ("__name__", name.to_owned()),
        ("dc", format!("dc{}", host % 8)),
        ("hostname", format!("host_{host:04}")),
        ("rack", format!("r{:02}", host % 40)),
    ] {
        let mut one = Vec::new();
        field(&mut one, 1, label.as_bytes());
        field(&mut one, 2, value.as_bytes());
        field(&mut out, 1, &one);
    }
    out
}

/// A `TimeSeries` of a `WriteRequest`.
fn series(out: &mut Vec<u8>, labels: &[u8], samples: &[Vec<u8>]) {
    // Each sample: key and length before it, both of one byte.
    let length: usize = samples.iter().map(|sample| sample.len() + 2).sum();
    out.push(1 << 3 | 2);
    varint(out, (labels.len() + length) as u64);
    out.extend_from_slice(labels);
    for sample in samples {
        field(out, 2, sample);
    }
}

/// A `Sample`: value as a double, time as a varint.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "the peers' form: doubles, and times after 1970"
)]
fn sample(series: usize, raw: i64, at_ms: i64) -> Vec<u8> {
    let value = raw as f64 / f64::from(g1::div(series));
    let mut out = vec![1 << 3 | 1];
    out.extend_from_slice(&value.to_le_bytes());
    out.push(2 << 3);
    varint(&mut out, at_ms as u64);
    out
}

fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v.to_le_bytes()[0] | 0x80);
        v >>= 7;
    }
    out.push(v.to_le_bytes()[0]);
}
