//! `tests/bench agent`: what the agent costs beside node_exporter, what a tick weighs on the wire, and what it costs the
//! server, in one run on one machine. Prints one Markdown table.
//!
//! - [`process`]: CPU and memory of a tree of processes.
//! - [`relay`]: a TCP relay that counts bytes.
//! - [`exporter`]: node_exporter, restricted, scraped once a second.
//! - [`load`]: many hosts with their own certificates and streams.
//! - [`table`]: what was measured beside what was wanted.
//!
//! Caveats: the machine is not kept quiet, so read the ratios, not the milliseconds; bytes are counted above TCP, whose
//! header adds 32 bytes a segment; node_exporter has neither TLS nor a spool, and a scraper's own cost is not counted.

mod exporter;
mod load;
mod process;
mod relay;
mod table;

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use dawnwatch_proto::api::{History, Host};
use dawnwatch_tests::house::{Agent, Server, ServerOptions};
use dawnwatch_tests::wait::until_true;
use tokio::runtime::Runtime;

use crate::exporter::Exporter;
use crate::load::Fleet;
use crate::process::{Cpu, pss_kib};
use crate::relay::{Passed, Relay};

/// What every reading of ours has and the peer can be restricted to.
const SUBJECTS: [&str; 6] = [
    "cpu",
    "meminfo",
    "loadavg",
    "diskstats",
    "filesystem",
    "netdev",
];

/// What the agent reads besides.
const FURTHER: [&str; 5] = ["stat", "vmstat", "pressure", "filefd", "uname"];

/// Time between two ticks of the agent whose CPU is measured.
const QUICK_MS: u64 = 1_000;

/// The product's own pace.
const REAL_MS: u64 = 10_000;

/// Time for everything to settle: TLS, first base row, first acknowledgement, Go's heap.
const WARM_UP: Duration = Duration::from_secs(20);

/// Waiting for what takes a second or two.
const SOON: Duration = Duration::from_secs(30);

/// Slices of the first part; their median is what counts.
const SLICES: u32 = 5;

/// What the agent of collections alone is told.
const COLLECTING: &str = "ping = false\n[logs]\njournald = false\nfiles = []";

/// Ways that the agent of the product's pace pings besides that to its server and its gateway, if it has one.
const TARGETS: &str = "[server]\npinger = \"real\"\n[[target]]\nname = \"one\"\naddress = \"127.0.0.2\"\n[[target]]\nname = \"two\"\naddress = \"127.0.0.3\"\n";

/// How long the server is watched with all streams open and none of the hosts pushing: shorter than it takes to call a host
/// silent.
const IDLE: Duration = Duration::from_secs(10);

/// How long the hosts push at each pace.
const LOAD: Duration = Duration::from_secs(15);

/// What is measured, and for how long.
#[derive(Debug, Parser)]
#[command(name = "bench-agent")]
struct Line {
    /// Seconds of each of the five slices in which agent and exporters are measured.
    #[arg(long, default_value_t = 24)]
    slice_seconds: u64,
    /// Hosts that push to the server.
    #[arg(long, default_value_t = 50)]
    hosts: u32,
    /// Ticks a second that they push together, one by one: as many as 2,000 hosts at the product's pace.
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Ticks a second that keep the server busy, as the peer was when it was measured.
    #[arg(long, default_value_t = 4_000)]
    busy_rate: u32,
}

/// Everything that runs.
struct Stage {
    runtime: Runtime,
    server: Server,
    /// One tick a second through a relay, and nothing but collecting: what the peer does.
    quick: (Agent, Relay),
    /// The product's own pace, through another, with pings, logs and all else that an agent does.
    real: (Agent, Relay),
    /// The product's own pace, and nothing but collecting.
    plain: (Agent, Relay),
    /// The same subjects, and all subjects of ours.
    peers: [Exporter; 2],
}

/// What came out.
#[derive(Debug, Default)]
struct Measured {
    /// CPU of one collection: ours, the peer with the same subjects, the peer with all of ours.
    cpu: [Vec<Duration>; 3],
    /// Proportional set size of the same three, KiB.
    pss_kib: [u64; 3],
    /// Series of the same three.
    series: [usize; 3],
    /// Bytes of one scrape of the two peers.
    scrape_bytes: [u64; 2],
    /// Ticks at one a second, and what they weighed.
    quick: (f64, Passed),
    /// Ticks at the product's pace, and what they weighed.
    real: (f64, Passed),
    /// Ticks at that pace of the agent that does nothing but collecting, and what they weighed.
    plain: (f64, Passed),
    /// CPU of the agent at the product's pace over a time.
    whole: (Duration, Duration),
    /// Series of the agent at the product's pace.
    real_series: u32,
    /// Series of the agents that do nothing but collecting.
    plain_series: u32,
    /// CPU of the server over ticks pushed, at both rates, less what the same time costs idle.
    load: [(Duration, u64); 2],
    /// CPU of the server over the time before.
    idle: (Duration, Duration),
}

fn main() -> anyhow::Result<()> {
    let line = Line::parse();
    let dir = tempfile::tempdir()?;
    let load_before = std::fs::read_to_string("/proc/loadavg")?;
    let mut stage = set_up(dir.path())?;
    sleep(WARM_UP);
    let mut measured = Measured::default();
    let (began, passed) = (now(), stage.real.1.passed());
    let plain_passed = stage.plain.1.passed();
    let pid = stage.real.0.pid().context("the agent runs")?;
    let before = Cpu::of(pid)?;
    beside_the_peers(&mut stage, &line, &mut measured)?;
    server_under_load(&stage, &line, dir.path(), &mut measured)?;
    measured.real = (
        (now() - began).as_secs_f64() / 10.0,
        stage.real.1.passed().since(passed),
    );
    measured.plain = (measured.real.0, stage.plain.1.passed().since(plain_passed));
    measured.whole = (Cpu::of(pid)?.since(&before), now() - began);
    measured.real_series = series_of(&stage.server, "real")?;
    measured.plain_series = series_of(&stage.server, "plain")?;
    memory(&mut stage, &mut measured)?;
    table::print(&line, &measured, load_before.trim());
    Ok(())
}

#[allow(
    clippy::disallowed_methods,
    reason = "a benchmark measures by the real clock"
)]
fn now() -> Instant {
    Instant::now()
}

fn set_up(dir: &Path) -> anyhow::Result<Stage> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let data = dir.join("server");
    std::fs::create_dir(&data)?;
    std::fs::write(data.join("dawnwatch.toml"), TARGETS)?;
    let server = Server::start(&data, &ServerOptions::default());
    let token = server.token(3);
    let agent = |name: &str, tick_ms: u64, further: &str| -> anyhow::Result<(Agent, Relay)> {
        let mut agent = Agent::join(&dir.join(name), name, server.address, &token.join);
        let relay = runtime.block_on(Relay::start(server.address))?;
        let further = format!("servers = [\"{}\"]\n{further}", relay.address);
        agent.configure(tick_ms, &further);
        agent.start();
        until_true("the first acknowledgement", SOON, || {
            agent.log().contains("first sample acknowledged")
        });
        Ok((agent, relay))
    };
    let quick = agent("quick", QUICK_MS, COLLECTING)?;
    let real = agent("real", REAL_MS, "")?;
    let plain = agent("plain", REAL_MS, COLLECTING)?;
    let all: Vec<&str> = SUBJECTS.into_iter().chain(FURTHER).collect();
    let peers = [
        runtime.block_on(Exporter::start(&SUBJECTS))?,
        runtime.block_on(Exporter::start(&all))?,
    ];
    Ok(Stage {
        runtime,
        server,
        quick,
        real,
        plain,
        peers,
    })
}

/// CPU of agent and exporters, slice by slice, and the bytes of a tick a second meanwhile.
fn beside_the_peers(stage: &mut Stage, line: &Line, measured: &mut Measured) -> anyhow::Result<()> {
    let slice = Duration::from_secs(line.slice_seconds);
    let agent = stage.quick.0.pid().context("the agent runs")?;
    let pids = [agent, stage.peers[0].pid(), stage.peers[1].pid()];
    let (began, passed) = (now(), stage.quick.1.passed());
    let scraped = [stage.peers[0].scraped(), stage.peers[1].scraped()];
    let mut before = look(pids)?;
    for number in 1..=SLICES {
        sleep((began + slice * number).saturating_duration_since(now()));
        let after = look(pids)?;
        for ((cpu, after), before) in measured.cpu.iter_mut().zip(&after).zip(&before) {
            // One collection a second on both sides.
            cpu.push(after.since(before) / u32::try_from(line.slice_seconds)?);
        }
        before = after;
    }
    measured.quick = (
        (now() - began).as_secs_f64(),
        stage.quick.1.passed().since(passed),
    );
    for (at, peer) in stage.peers.iter().enumerate() {
        let (scrapes, bytes) = peer.scraped();
        let (scrapes, bytes) = (scrapes - scraped[at].0, bytes - scraped[at].1);
        let wanted = u64::from(SLICES) * line.slice_seconds;
        anyhow::ensure!(
            scrapes.abs_diff(wanted) <= 2,
            "{scrapes} scrapes instead of {wanted}"
        );
        measured.scrape_bytes[at] = bytes / scrapes;
        measured.series[at + 1] = peer.series;
    }
    Ok(())
}

/// How many series a host's agent sends.
fn series_of(server: &Server, name: &str) -> anyhow::Result<u32> {
    let hosts: Vec<Host> = server.get("/api/v1/hosts")?;
    let host = hosts.into_iter().find(|host| host.name == name);
    Ok(host.context("the host is there")?.series)
}

fn look(pids: [u32; 3]) -> anyhow::Result<[Cpu; 3]> {
    Ok([Cpu::of(pids[0])?, Cpu::of(pids[1])?, Cpu::of(pids[2])?])
}

/// CPU of the server for one pushed tick: what the load adds to what it spends while nobody pushes.
fn server_under_load(
    stage: &Stage,
    line: &Line,
    dir: &Path,
    measured: &mut Measured,
) -> anyhow::Result<()> {
    let token = stage.server.token(line.hosts);
    let hosts = usize::try_from(line.hosts)?;
    let address = stage.server.address;
    let began = jiff::Timestamp::UNIX_EPOCH;
    let joined = stage
        .runtime
        .block_on(Fleet::join(dir, address, &token.join, hosts));
    let mut fleet = joined.context("join the load")?;
    measured.series[0] = fleet.series();
    // The first push of a host brings its schema, and the first ones after joining find cold caches.
    stage
        .runtime
        .block_on(fleet.push(line.rate, Duration::from_secs(2)))?;
    sleep(Duration::from_secs(2));

    let pid = stage.server.pid();
    let (idle_began, before) = (now(), Cpu::of(pid)?);
    sleep(IDLE);
    let idle = Cpu::of(pid)?;
    measured.idle = (idle.since(&before), now() - idle_began);

    for (rate, load) in [line.rate, line.busy_rate]
        .into_iter()
        .zip(&mut measured.load)
    {
        let (load_began, before) = (now(), Cpu::of(pid)?);
        let pushed = stage.runtime.block_on(fleet.push(rate, LOAD))?;
        // The last group is journalled and judged within a second.
        sleep(Duration::from_secs(1));
        let spent = Cpu::of(pid)?.since(&before);
        let share = (now() - load_began).as_secs_f64() / measured.idle.1.as_secs_f64();
        *load = (spent.saturating_sub(measured.idle.0.mul_f64(share)), pushed);
    }

    // A server that took nothing in would be the quickest of all.
    let last = line.hosts - 1;
    let path = format!("/api/v1/history?host=load{last:03}&series=node_load1&from={began}");
    let history: History = stage.server.get(&path)?;
    anyhow::ensure!(
        history.samples == fleet.pushed_by_each(),
        "pushed {} ticks a host, the history has {}",
        fleet.pushed_by_each(),
        history.samples
    );
    Ok(())
}

/// Memory at the end, of each where no twin shares its pages.
fn memory(stage: &mut Stage, measured: &mut Measured) -> anyhow::Result<()> {
    stage.quick.0.kill();
    stage.plain.0.kill();
    measured.pss_kib[0] = pss_kib(stage.real.0.pid().context("the agent runs")?)?;
    let together = [
        pss_kib(stage.peers[0].pid())?,
        pss_kib(stage.peers[1].pid())?,
    ];
    let [_, all] = &mut stage.peers;
    measured.pss_kib[2] = together[1];
    all.stop();
    measured.pss_kib[1] = pss_kib(stage.peers[0].pid())?;
    Ok(())
}
