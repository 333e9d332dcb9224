//! `tests/bench query`: how long answers take, ours through the real API and the peers' through theirs. Prints one Markdown
//! table.
//!
//! Our history is written by the server's own library, hour after hour, as if the hosts that joined had sent it: 24 hours of
//! 1,000 hosts cannot be fed in minutes. Then a real server is started on it. The peers are fed 66 minutes over their wire,
//! which is what they can take in the time; their answers are of that.
//!
//! With `--data` it leaves everything in a directory, and finds it there the next time.
//!
//! Caveats: everything lies in the page cache; each question is asked over a connection that is kept, ours over a Unix socket.

mod build;
mod review;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use dawnwatch_proto::HostId;
use dawnwatch_tests::bench::fleet::{Times, join_all};
use dawnwatch_tests::bench::http::{Open, To};
use dawnwatch_tests::bench::ours::Ours;
use dawnwatch_tests::bench::peer::{Form, Kind, Load, Peer};
use dawnwatch_tests::bench::process::{cpu, raise_open_files};
use dawnwatch_tests::bench::table::{heading, load, median};
use dawnwatch_tests::bench::{ms_since, now};
use dawnwatch_tests::faketime::real_now;

/// How often each question is asked after the first time.
const REPEATS: usize = 9;

/// Hours of the night.
const NIGHT: i64 = 14;

/// Ticks that the peers are fed.
const PEER_TICKS: u64 = 400;

/// What is measured.
#[derive(Debug, Parser)]
#[command(name = "bench-query")]
struct Line {
    /// Hosts of 70 series each.
    #[arg(long, default_value_t = 1_000)]
    hosts: u64,
    /// Hours of history; the night needs 14, and one series a day.
    #[arg(long, default_value_t = 24)]
    hours: u64,
    /// Leaves the peers out.
    #[arg(long)]
    alone: bool,
    /// Where ours lies from one run to the next: what is there is asked again, not written again.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Hosts of the weekend whose first page is timed; 0 leaves it out.
    #[arg(long, default_value_t = 1_000)]
    review_hosts: u64,
}

/// What was said to each question; none where it was not asked.
type Answers = Vec<Option<Answered>>;

/// How long the answers to one question took.
#[derive(Debug, Clone)]
struct Answered {
    first_ms: f64,
    p50_ms: f64,
    max_ms: f64,
    cpu_ms: f64,
    bytes: usize,
}

fn main() -> anyhow::Result<()> {
    let line = Line::parse();
    raise_open_files();
    let load_before = load();
    let temporary = tempfile::tempdir()?;
    let dir = line.data.as_deref().unwrap_or(temporary.path());
    std::fs::create_dir_all(dir)?;
    let (ours, within) = ours(&line, dir)?;
    let mut peers = Vec::new();
    for kind in [Kind::Prometheus, Kind::Victoria] {
        if !line.alone {
            peers.push((
                kind,
                theirs(kind, &line, &temporary.path().join(kind.command()))?,
            ));
        }
    }
    print(&line, &ours, &peers, &load_before);
    print_within(&within);
    if line.review_hosts > 0 {
        let morning = review::measure(temporary.path(), line.review_hosts, REPEATS)?;
        print_morning(&line, &morning);
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "as below")]
fn print_within(within: &build::Within) {
    println!();
    println!(
        "Within our history itself, without HTTP and JSON: one series of 24 h, {:.2} ms; the highest of each host of {NIGHT} h, {:.2} ms.",
        within.series_ms, within.highest_ms
    );
}

#[allow(clippy::print_stdout, reason = "as below")]
fn print_morning(line: &Line, morning: &review::Morning) {
    let review::Morning {
        ready_ms,
        first_ms,
        p50_ms,
        bytes,
        verdict,
    } = morning;
    println!();
    println!(
        "The review page of {} hosts and 62 h ({verdict}, {} KB), after a restart of the server: the first request takes **{first_ms:.2} ms** (goal <= 300), the median of {REPEATS} more {p50_ms:.2} ms; from the start of the process until it is ready {ready_ms:.0} ms. Load average after: {}.",
        line.review_hosts,
        bytes / 1_000,
        load()
    );
}

/// Asks a question ten times, over one connection.
fn ask(to: &To, pid: u32, path: &str) -> anyhow::Result<Answered> {
    let mut open = Open::new(to)?;
    let mut times = Vec::new();
    let (mut first_ms, mut bytes) = (0.0, 0);
    let mut before = Duration::ZERO;
    for number in 0..=REPEATS {
        let began = now();
        bytes = open.body(path)?.len();
        let took = ms_since(began);
        if number == 0 {
            first_ms = took;
            before = cpu(pid)?;
        } else {
            times.push(took);
        }
    }
    let spent = cpu(pid)? - before;
    Ok(Answered {
        first_ms,
        p50_ms: median(&times),
        max_ms: times.iter().copied().fold(0.0, f64::max),
        cpu_ms: spent.as_secs_f64() * 1e3 / f64::from(u32::try_from(REPEATS)?),
        bytes,
    })
}

/// What ours is asked about.
struct Filled {
    ours: Ours,
    /// Hosts in order, each with its name.
    hosts: Vec<(HostId, String)>,
    /// The end of the last hour.
    end_ms: i64,
}

/// A server that is stopped, with as many hours as are wanted in its data directory: written, or found there.
fn filled(line: &Line, dir: &Path) -> anyhow::Result<Filled> {
    let (data, told) = (dir.join("ours"), dir.join("ours.json"));
    if let Ok(text) = std::fs::read(&told) {
        let (hosts, end_ms) = serde_json::from_slice(&text)?;
        let ours = Ours::stopped(&data)?;
        return Ok(Filled {
            ours,
            hosts,
            end_ms,
        });
    }
    let mut ours = Ours::start(&data, &[])?;
    let join_line = ours.join_line(line.hosts)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let now_ms = real_now().as_millisecond();
    // The last hour that has ended.
    let end_ms = now_ms.div_euclid(3_600_000) * 3_600_000;
    let (states, address) = (dir.join("hosts"), ours.address.to_string());
    let times = Times::backlog(0, now_ms);
    let joined = join_all(&states, &address, &join_line, 0..line.hosts, times);
    let members = runtime.block_on(joined)?;
    let hosts: Vec<_> = members
        .iter()
        .map(|member| (member.host(), member.name.clone()))
        .collect();
    ours.stop()?;
    let ids: Vec<HostId> = hosts.iter().map(|(id, _)| *id).collect();
    build::write(&data, &ids, line.hours, end_ms)?;
    std::fs::write(&told, serde_json::to_vec(&(&hosts, end_ms))?)?;
    Ok(Filled {
        ours,
        hosts,
        end_ms,
    })
}

fn ours(line: &Line, dir: &Path) -> anyhow::Result<(Answers, build::Within)> {
    let Filled {
        mut ours,
        hosts,
        end_ms,
    } = filled(line, dir)?;
    let (id, name) = hosts.get(hosts.len() / 2).context("there are hosts")?;
    let at = |ms: i64| jiff::Timestamp::from_millisecond(ms);
    let last = |hours: i64| anyhow::Ok((at(end_ms - hours * 3_600_000)?, at(end_ms)?));
    let within = build::within(&ours.data, *id, last(24)?, last(NIGHT)?, REPEATS)?;
    ours.again()?;
    ours.until_ready()?;
    let span = |hours: i64| {
        let (from, to) = last(hours)?;
        anyhow::Ok(format!("from={from}&to={to}"))
    };
    let (day, night) = (span(24)?, span(NIGHT)?);
    let as_theirs = i64::try_from(PEER_TICKS)? * dawnwatch_tests::bench::g1::TICK_MS;
    let short = format!("from={}&to={}", at(end_ms - as_theirs)?, at(end_ms)?);
    let (to, pid) = (ours.api(), ours.pid());
    let mut out = Vec::new();
    let one = format!("/api/v1/history?host={name}&series=cpu_user&points=9000");
    for path in [
        "/readyz".to_owned(),
        format!("{one}&form=columns&{short}"),
        format!("{one}&form=columns&{day}"),
        format!("{one}&{day}"),
        format!("/api/v1/fleet?series=cpu_user&{night}&by=max"),
        format!("/api/v1/fleet?series=cpu_user&{night}&by=max&top=10"),
        format!("/api/v1/fleet?series=cpu_user&{night}&by=p95&top=10"),
    ] {
        out.push(ask(&to, pid, &path)?);
    }
    // All series of a host are so many questions; ten times all of them.
    let path = |series: &str| {
        format!("/api/v1/history?host={name}&series={series}&{day}&points=1440&form=columns")
    };
    let mut all = Answered {
        first_ms: 0.0,
        p50_ms: 0.0,
        max_ms: 0.0,
        cpu_ms: 0.0,
        bytes: 0,
    };
    for series in dawnwatch_tests::bench::g1::NAMES {
        let one = ask(&to, pid, &path(series))?;
        all.first_ms += one.first_ms;
        all.p50_ms += one.p50_ms;
        all.max_ms += one.max_ms;
        all.cpu_ms += one.cpu_ms;
        all.bytes += one.bytes;
    }
    out.insert(4, all);
    Ok((out.into_iter().map(Some).collect(), within))
}

fn theirs(kind: Kind, line: &Line, dir: &Path) -> anyhow::Result<Answers> {
    let mut peer = Peer::start(kind, &dir.join("data"))?;
    let times = Times::backlog(PEER_TICKS, real_now().as_millisecond());
    let load = Load::new(line.hosts, 0..PEER_TICKS, times, Form::Hosts(20));
    load.send(peer.address)?;
    std::thread::sleep(Duration::from_secs(15));
    peer.kill();
    peer.again()?;
    peer.until_ready()?;
    std::thread::sleep(Duration::from_secs(2));
    let at = real_now().as_second();
    let host = line.hosts / 2;
    let mut out = Vec::new();
    out.push(Some(ask(&peer.http(), peer.pid(), kind.ready())?));
    for text in [
        format!("cpu_user{{hostname=\"host_{host:04}\"}}[4100s]"),
        format!("{{hostname=\"host_{host:04}\"}}[4100s]"),
        "max_over_time(cpu_user[4100s])".to_owned(),
        "topk(10, max_over_time(cpu_user[4100s]))".to_owned(),
        "topk(10, quantile_over_time(0.95, cpu_user[4100s]))".to_owned(),
    ] {
        out.push(Some(ask(&peer.http(), peer.pid(), &peer.query(&text, at))?));
    }
    // They have no day.
    out.insert(2, None);
    out.insert(3, None);
    Ok(out)
}

#[allow(clippy::print_stdout, reason = "the table is what this program is for")]
fn print(line: &Line, ours: &[Option<Answered>], peers: &[(Kind, Answers)], load_before: &str) {
    println!("{}", heading(load_before));
    println!(
        "G1: {} hosts x 70 series; ours {} h, the peers 66 min; first / median of {REPEATS} / most, in ms; CPU of one",
        line.hosts, line.hours
    );
    println!();
    println!("| question | dawnwatch | Prometheus | VictoriaMetrics | goal |");
    println!("|---|---|---|---|---|");
    let shown = |one: Option<&Option<Answered>>| match one.and_then(Option::as_ref) {
        Some(one) => format!(
            "{:.2} / **{:.2}** / {:.2} (CPU {:.1}; {} KB)",
            one.first_ms,
            one.p50_ms,
            one.max_ms,
            one.cpu_ms,
            one.bytes / 1_000
        ),
        None => "-".to_owned(),
    };
    for (i, (what, goal)) in QUESTIONS.iter().enumerate() {
        let peer = |kind| {
            let found = peers.iter().find(|(one, _)| *one == kind);
            shown(found.and_then(|(_, answers)| answers.get(i)))
        };
        println!(
            "| {what} | {} | {} | {} | {goal} |",
            shown(ours.get(i)),
            peer(Kind::Prometheus),
            peer(Kind::Victoria)
        );
    }
}

const QUESTIONS: [(&str, &str); 8] = [
    ("whether it is ready: what any question costs", ""),
    ("one series raw, 66 min of each, ours in columns", ""),
    ("one series raw, 24 h, in columns", "<= 0.3"),
    ("the same, each point with its time in words", ""),
    (
        "all 70 series of a host, ours one after the other, 24 h in 1,440 points each; theirs raw, 66 min",
        "",
    ),
    (
        "the highest of each host; ours a night of 14 h, theirs 66 min",
        "<= 5",
    ),
    ("of these the first ten", ""),
    (
        "the first ten by the 95th percentile, from samples; ours 14 h, theirs 66 min",
        "",
    ),
];
