//! `tests/bench disk`: bytes that a further hour of samples takes on disk, ours and the peers', of data set G1 as it is and
//! with some milliseconds of jitter. Prints one Markdown table.
//!
//! Ours is a real server under a wall clock that is set forward: it takes two hours in as backlog, seals each when the
//! clock's hour ends, and the second one is what counts. Prometheus is fed 3.5 hours, for it makes no block of less than
//! three; its block of two hours counts, and beside it what it holds in its log. VictoriaMetrics is fed the same and is made
//! to merge everything.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use dawnwatch_tests::bench::fleet::{Member, Times, join_all};
use dawnwatch_tests::bench::ours::{Ours, poll};
use dawnwatch_tests::bench::peer::{Form, Kind, Load, Peer};
use dawnwatch_tests::bench::process::{bytes_in, raise_open_files};
use dawnwatch_tests::bench::table::{heading, load};
use dawnwatch_tests::bench::{g1, now};
use dawnwatch_tests::faketime::{FakeClock, library, real_now};

/// Ticks of an hour.
const HOUR: u64 = 360;

/// Ticks that the peers are given: three and a half hours.
const PEER_TICKS: u64 = 1_260;

/// What is measured.
#[derive(Debug, Parser)]
#[command(name = "bench-disk")]
struct Line {
    /// Hosts of 70 series each.
    #[arg(long, default_value_t = 100)]
    hosts: u64,
    /// Milliseconds that a tick is off its time at most, in the second half of the table.
    #[arg(long, default_value_t = 5)]
    jitter: i64,
    /// Leaves the peers out.
    #[arg(long)]
    alone: bool,
}

/// Bytes a sample.
#[derive(Debug, Default)]
struct Share {
    /// What stays, in words and bytes.
    kept: Vec<(&'static str, f64)>,
    /// What is beside it for some time, in words: of ours it is no share of a sample, for logs and the index take their room
    /// in advance.
    beside: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    let line = Line::parse();
    raise_open_files();
    anyhow::ensure!(
        library().is_some(),
        "libfaketime is missing: apt-get install faketime"
    );
    let load_before = load();
    let mut rows = Vec::new();
    for jitter in [0, line.jitter] {
        let dir = tempfile::tempdir()?;
        rows.push((jitter, "dawnwatch", ours(&line, dir.path(), jitter)?));
        if line.alone {
            continue;
        }
        let (prometheus, victoria) = std::thread::scope(|scope| {
            let one = scope.spawn(|| prometheus(&line, &dir.path().join("p"), jitter));
            let other = victoria(&line, &dir.path().join("v"), jitter);
            (one.join(), other)
        });
        let failed = |_| anyhow::anyhow!("feeding Prometheus panicked");
        rows.push((jitter, "Prometheus", prometheus.map_err(failed)??));
        rows.push((jitter, "VictoriaMetrics", victoria?));
    }
    print(&line, &rows, &load_before);
    Ok(())
}

fn ours(line: &Line, dir: &Path, jitter: i64) -> anyhow::Result<Share> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let data = dir.join("ours");
    // Half an hour before an hour ends: on a slow machine all of it is still sent within one.
    let hour = real_now().as_second().div_euclid(3_600) * 3_600 + 1_800;
    let mut clock = FakeClock::new(dir, jiff::Timestamp::from_second(hour)?);
    let mut ours = Ours::start(&data, &clock.env())?;
    let join_line = ours.join_line(line.hosts)?;
    let mut times = Times::backlog(2 * HOUR, hour * 1_000);
    times.jitter_ms = jitter;
    let address = ours.address.to_string();
    let states = dir.join("hosts");
    let joined = join_all(&states, &address, &join_line, 0..line.hosts, times);
    let mut members = runtime.block_on(joined)?;
    let samples = line.hosts * HOUR * g1::SERIES as u64;
    let history = data.join("history");
    let (mut sealed, mut beside) = (Vec::new(), Vec::new());
    for number in 1..=2u64 {
        runtime.block_on(async {
            for member in &mut members {
                if !member.is_connected() {
                    member.connect().await?;
                }
                member.send(HOUR).await?;
            }
            for member in &members {
                member.until_acked(number * HOUR).await?;
            }
            anyhow::Ok(())
        })?;
        // Stopped and started, it writes the checkpoint that it would write within ten minutes.
        ours.stop()?;
        beside = Vec::new();
        for (name, what) in [
            ("journal", "journal, until the hour is in two checkpoints"),
            ("checkpoint", "two checkpoints"),
            ("ledger", "ledger"),
            ("index", "index"),
        ] {
            beside.push(in_all(what, &data.join(name)));
        }
        ours.again()?;
        ours.until_ready()?;
        clock.set(
            jiff::Timestamp::from_second(hour)?
                + jiff::SignedDuration::from_hours(i64::try_from(number)?),
        );
        wake(&runtime, &mut members)?;
        let files = || count(&history, ".1h.dws");
        let wanted = usize::try_from(number)?;
        poll(now() + Duration::from_secs(60), || {
            (files() >= wanted).then_some(())
        })
        .with_context(|| format!("hour {number} is sealed and summarised"))?;
        sealed.push((ending(&history, ".dwh"), ending(&history, ".dws")));
    }
    let (before, after) = (sealed[0], sealed[1]);
    Ok(Share {
        kept: vec![
            ("hour file", share(after.0 - before.0, samples)),
            ("summaries", share(after.1 - before.1, samples)),
        ],
        beside,
    })
}

/// Something must come in for the server to look at its clock; a welcome alone does it.
fn wake(runtime: &tokio::runtime::Runtime, members: &mut [Member]) -> anyhow::Result<()> {
    runtime.block_on(async {
        for member in members {
            member.connect().await?;
        }
        Ok(())
    })
}

fn ending(dir: &Path, end: &str) -> u64 {
    files(dir, end).iter().map(|path| bytes_in(path)).sum()
}

fn count(dir: &Path, end: &str) -> usize {
    files(dir, end).len()
}

fn files(dir: &Path, end: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let all = entries.map(|entry| entry.path());
    all.filter(|path| path.to_string_lossy().ends_with(end))
        .collect()
}

fn times(jitter: i64) -> Times {
    let long = i64::try_from(PEER_TICKS).unwrap_or(0) * g1::TICK_MS;
    let now_ms = real_now().as_millisecond();
    // Blocks are cut at even hours: begun a tick after one, the first is whole, and no jitter puts a block before it.
    let from_ms = (now_ms - long).div_euclid(7_200_000) * 7_200_000 + g1::TICK_MS;
    Times {
        from_ms,
        jitter_ms: jitter,
        ..Times::backlog(PEER_TICKS, now_ms)
    }
}

fn prometheus(line: &Line, dir: &Path, jitter: i64) -> anyhow::Result<Share> {
    let peer = Peer::start(Kind::Prometheus, &dir.join("data"))?;
    let load = Load::new(line.hosts, 0..PEER_TICKS, times(jitter), Form::Hosts(20));
    load.send(peer.address)?;
    let block = poll(now() + Duration::from_secs(180), || {
        let entries = std::fs::read_dir(&peer.data).ok()?.flatten();
        let mut blocks = entries.map(|entry| entry.path());
        // One that is being written has a name that ends otherwise; the directory above may be called anything.
        let whole = |path: &PathBuf| path.extension().is_none() && path.join("meta.json").exists();
        blocks.find(whole)
    })
    .context("Prometheus writes a block")?;
    let meta: serde_json::Value = serde_json::from_slice(&std::fs::read(block.join("meta.json"))?)?;
    let held = meta
        .pointer("/stats/numSamples")
        .and_then(serde_json::Value::as_u64);
    let held = held.context("a block says how many samples it has")?;
    Ok(Share {
        kept: vec![
            ("chunks", share(bytes_in(&block.join("chunks")), held)),
            ("index", share(bytes_in(&block.join("index")), held)),
        ],
        beside: vec![
            in_all("log", &peer.data.join("wal")),
            in_all("head chunks", &peer.data.join("chunks_head")),
        ],
    })
}

fn victoria(line: &Line, dir: &Path, jitter: i64) -> anyhow::Result<Share> {
    let peer = Peer::start(Kind::Victoria, &dir.join("data"))?;
    let load = Load::new(line.hosts, 0..PEER_TICKS, times(jitter), Form::Hosts(20));
    let samples = load.send(peer.address)?;
    let http = peer.http();
    http.body("/internal/force_flush")?;
    std::thread::sleep(Duration::from_secs(5));
    http.get("/internal/force_merge")?;
    std::thread::sleep(Duration::from_secs(15));
    Ok(Share {
        kept: vec![
            ("data", share(bytes_in(&peer.data.join("data")), samples)),
            (
                "index",
                share(bytes_in(&peer.data.join("indexdb")), samples),
            ),
        ],
        beside: Vec::new(),
    })
}

#[allow(clippy::cast_precision_loss, reason = "bytes")]
fn in_all(what: &str, dir: &Path) -> String {
    format!("{what} {:.1} MiB", bytes_in(dir) as f64 / 1_048_576.0)
}

#[allow(clippy::cast_precision_loss, reason = "bytes and samples")]
fn share(bytes: u64, samples: u64) -> f64 {
    bytes as f64 / samples as f64
}

#[allow(clippy::print_stdout, reason = "the table is what this program is for")]
fn print(line: &Line, rows: &[(i64, &'static str, Share)], load_before: &str) {
    println!("{}", heading(load_before));
    println!(
        "G1: {} hosts x 70 series, a tick every 10 s; its entropy is 0.718 bytes a sample (0.724 with jitter kept once a host and tick)",
        line.hosts
    );
    println!();
    println!(
        "| data | whose | bytes a sample that stay | of which | beside it for some hours, in all | goal |"
    );
    println!("|---|---|---|---|---|---|");
    for (jitter, whose, share) in rows {
        let words = |parts: &[(&str, f64)]| {
            let all: Vec<String> = parts
                .iter()
                .map(|(what, n)| format!("{what} {n:.3}"))
                .collect();
            all.join(", ")
        };
        let sum: f64 = share.kept.iter().map(|(_, n)| n).sum();
        let data = match jitter {
            0 => "G1".to_owned(),
            jitter => format!("G1 +-{jitter} ms"),
        };
        let goal = match (*whose, jitter) {
            ("dawnwatch", 0) => "<= 0.82",
            ("dawnwatch", _) => "<= 0.85",
            _ => "",
        };
        println!(
            "| {data} | {whose} | **{sum:.3}** | {} | {} | {goal} |",
            words(&share.kept),
            share.beside.join(", ")
        );
    }
}
