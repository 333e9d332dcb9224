//! `tests/bench server`: what taking samples in costs our server and the peers, and what a kill under load costs each, with
//! the same samples in one run on one machine. Prints one Markdown table.
//!
//! - [`ours`]: our server, with agents' own wire: mutual TLS, durable acknowledgements.
//! - [`theirs`]: Prometheus and VictoriaMetrics, by remote write in the clear.
//!
//! Caveats: the machine is not kept quiet, so read the ratios; the senders run beside the servers and their cost is not
//! counted; names of G1 fit none of our rules of thresholds, so those have nothing to do; killed is the process, not the
//! machine, so what the peers had not synced comes back from the page cache.

mod ours;
mod theirs;

use std::path::Path;
use std::time::Duration;

use clap::Parser;
use dawnwatch_tests::bench::peer::Kind;
use dawnwatch_tests::bench::process::raise_open_files;
use dawnwatch_tests::bench::table::{heading, load, median, spread};

/// After everything is sent: what was put off is done, caches are flushed.
const SETTLE: Duration = Duration::from_secs(10);

/// How long the load goes on before the kill.
const BEFORE_KILL: Duration = Duration::from_secs(5);

/// What is measured, and how much of it.
#[derive(Debug, Parser)]
#[command(name = "bench-server")]
struct Line {
    /// Hosts of 70 series each.
    #[arg(long, default_value_t = 200)]
    hosts: u64,
    /// Ticks of each that are sent as backlog.
    #[arg(long, default_value_t = 400)]
    ticks: u64,
    /// Pushes a second, one tick of one host each.
    #[arg(long, default_value_t = 1_000)]
    pushes: u64,
    /// Seconds of pushing.
    #[arg(long, default_value_t = 15)]
    push_seconds: u64,
    /// How often everything is done; the median counts.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Leaves the peers out.
    #[arg(long)]
    alone: bool,
}

/// What came out of one run of one server.
#[derive(Debug, Default, Clone)]
struct Figures {
    /// CPU-seconds for a million samples of a backlog.
    bulk: f64,
    /// The same, all ticks of a series together; peers alone.
    bulk_by_series: Option<f64>,
    /// Microseconds of CPU for a pushed tick.
    push_us: f64,
    /// Most memory over all of it, MiB.
    peak_mib: f64,
    /// Milliseconds from the start after the kill until it says that it is ready.
    ready_ms: f64,
    /// Until history answers with what was there.
    history_ms: f64,
    /// Until a further sample is acknowledged.
    ack_ms: f64,
    /// Samples that were acknowledged before the kill.
    acked: u64,
    /// And are not there after it.
    lost: u64,
    /// Bytes of journal, checkpoint, ledger and history for a sample after the backlog; ours alone.
    disk: Option<[f64; 4]>,
}

fn main() -> anyhow::Result<()> {
    let line = Line::parse();
    raise_open_files();
    let load_before = load();
    let mut all: [Vec<Figures>; 3] = Default::default();
    for run in 1..=line.runs {
        let dir = tempfile::tempdir()?;
        dawnwatch_tests::say(&format!("run {run} of {}", line.runs));
        all[0].push(ours::measure(&line, dir.path())?);
        if line.alone {
            continue;
        }
        for (kind, out) in [Kind::Prometheus, Kind::Victoria]
            .into_iter()
            .zip(&mut all[1..])
        {
            out.push(theirs::measure(kind, &line, &peer_dir(dir.path(), kind))?);
        }
    }
    print(&line, &all, &load_before);
    Ok(())
}

fn peer_dir(dir: &Path, kind: Kind) -> std::path::PathBuf {
    dir.join(kind.command())
}

#[allow(clippy::print_stdout, reason = "the table is what this program is for")]
fn print(line: &Line, all: &[Vec<Figures>; 3], load_before: &str) {
    let Line {
        hosts,
        ticks,
        pushes,
        runs,
        ..
    } = line;
    println!("{}", heading(load_before));
    println!(
        "G1: {hosts} hosts x 70 series x {ticks} ticks of backlog, then {pushes} pushes of 70 samples a second; median of {runs}"
    );
    println!();
    println!(
        "| what | dawnwatch, mutual TLS, durable acks | Prometheus {} | VictoriaMetrics {} | ratio to the better | goal |",
        Kind::Prometheus.version(),
        Kind::Victoria.version()
    );
    println!("|---|---|---|---|---|---|");
    for (what, digits, goal, figure) in ROWS {
        let of = |runs: &Vec<Figures>| runs.iter().filter_map(figure).collect::<Vec<f64>>();
        let each: Vec<Vec<f64>> = all.iter().map(of).collect();
        let shown: Vec<String> = each
            .iter()
            .map(|values| match values[..] {
                [] => "-".to_owned(),
                _ => format!(
                    "{:.*} ({})",
                    *digits,
                    median(values),
                    spread(values, *digits)
                ),
            })
            .collect();
        let peers = each[1..].iter().filter(|values| !values.is_empty());
        let best = peers.map(|values| median(values)).reduce(f64::min);
        let ratio = match (each[0].is_empty(), best) {
            (false, Some(best)) if best > 0.0 => format!("{:.2}", median(&each[0]) / best),
            _ => String::new(),
        };
        println!("| {what} | {} | {ratio} | {goal} |", shown.join(" | "));
    }
    if let Some(disk) = all[0].iter().find_map(|one| one.disk) {
        let [journal, checkpoint, ledger, history] = disk;
        println!(
            "\nOurs on disk before the hour is sealed, bytes a sample (logs take their room in advance: what is written in them): journal {journal:.2}, checkpoint {checkpoint:.2}, ledger {ledger:.3}, history {history:.2}"
        );
    }
}

/// A row: what, decimals, goal, and which figure.
type Row = (
    &'static str,
    usize,
    &'static str,
    fn(&Figures) -> Option<f64>,
);

#[allow(clippy::cast_precision_loss, reason = "counts of samples")]
const ROWS: &[Row] = &[
    (
        "CPU-s per million samples of backlog",
        2,
        "<= 0.31 x VictoriaMetrics",
        |f| Some(f.bulk),
    ),
    (
        "the same, 20 minutes of a host in one request, which no agent of theirs sends",
        2,
        "",
        |f| f.bulk_by_series,
    ),
    (
        "CPU per push of one agent (70 samples), us",
        0,
        "<= 0.25 x VictoriaMetrics",
        |f| Some(f.push_us),
    ),
    ("peak RSS, MiB", 0, "", |f| Some(f.peak_mib)),
    ("kill -9 under load: says it is ready, ms", 0, "", |f| {
        Some(f.ready_ms)
    }),
    ("history answers, ms", 0, "", |f| Some(f.history_ms)),
    (
        "a further sample is acknowledged, ms",
        0,
        "all three < 1,000",
        |f| Some(f.ack_ms),
    ),
    ("acknowledged samples before the kill", 0, "", |f| {
        Some(f.acked as f64)
    }),
    ("of these lost", 0, "0", |f| Some(f.lost as f64)),
];
