//! `tests/bench reconnect`: thousands of agents with real TLS on loopback in two loader processes, and a server that is
//! killed and started again: how long until all are back, at what rate, with how much memory, and whether anybody is called
//! silent for it. Prints one Markdown table.
//!
//! - [`loader`]: one of the processes that agents live in.
//!
//! Caveats: the loaders share the processors with the server, and their half of each handshake costs as much as the server's;
//! with thousands of agents elsewhere the server would have both processors.

mod loader;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use dawnwatch_proto::api::{Incident, Now};
use dawnwatch_tests::bench::ours::Ours;
use dawnwatch_tests::bench::process::{cpu, peak_mib, raise_open_files, resident_mib};
use dawnwatch_tests::bench::table::{heading, load};
use dawnwatch_tests::bench::{ms_since, now};

/// Loader processes.
const LOADERS: u64 = 2;

/// Between two looks at the loaders.
const STEP: Duration = Duration::from_millis(100);

/// Agents that are not back after this will not come.
const BACK_WITHIN: Duration = Duration::from_secs(600);

/// Long enough for silence to be noticed (30 s) and told.
const WATCH: Duration = Duration::from_secs(60);

/// What is measured.
#[derive(Debug, Parser)]
#[command(name = "bench-reconnect")]
struct Line {
    /// Agents in all.
    #[arg(long, default_value_t = 2_000)]
    agents: u64,
    /// Seconds of quiet running that are measured before the kill.
    #[arg(long, default_value_t = 30)]
    quiet_seconds: u64,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, clap::Subcommand)]
enum Role {
    /// One of the processes that agents live in.
    #[command(hide = true)]
    Load(loader::Load),
}

fn main() -> anyhow::Result<()> {
    let line = Line::parse();
    raise_open_files();
    match &line.role {
        Some(Role::Load(load)) => loader::run(load),
        None => bench(&line),
    }
}

fn bench(line: &Line) -> anyhow::Result<()> {
    let load_before = load();
    let dir = tempfile::tempdir()?;
    let mut ours = Ours::start(&dir.path().join("server"), &[])?;
    let join_line = ours.join_line(line.agents)?;
    let began = now();
    let loaders: Vec<Loader> = (0..LOADERS)
        .map(|number| Loader::start(line, number, dir.path(), &ours, &join_line))
        .collect::<Result<_, _>>()?;
    let all = |loaders: &[Loader]| total(loaders).connected == line.agents;
    wait(BACK_WITHIN * 3, || all(&loaders)).context("all agents join and connect")?;
    let joined_s = ms_since(began) / 1e3;
    wait(WATCH, || live(&ours).is_ok_and(|live| live == line.agents))
        .context("all hosts are live")?;

    let quiet = Duration::from_secs(line.quiet_seconds);
    let before = cpu(ours.pid())?;
    std::thread::sleep(quiet);
    let quiet_cpu = (cpu(ours.pid())? - before).as_secs_f64() / quiet.as_secs_f64();
    let (quiet_mib, joined_peak) = (resident_mib(ours.pid())?, peak_mib(ours.pid())?);

    let before = total(&loaders);
    ours.kill();
    let killed = now();
    ours.again()?;
    let mut curve = vec![(0.0, 0)];
    wait(BACK_WITHIN, || {
        let welcomed = total(&loaders).welcomed - before.welcomed;
        curve.push((ms_since(killed) / 1e3, welcomed));
        welcomed >= line.agents && all(&loaders)
    })
    .context("all agents come back")?;
    let back_s = ms_since(killed) / 1e3;
    std::thread::sleep(WATCH);
    let incidents: Vec<Incident> = ours.get("/api/v1/incidents?state=all")?;
    let about_hosts: Vec<&Incident> = incidents
        .iter()
        .filter(|incident| incident.name.starts_with('g'))
        .collect();
    let end = Ended {
        joined_s,
        back_s,
        peak_rate: peak_rate(&curve),
        quiet_cpu,
        quiet_mib,
        joined_peak,
        back_peak: peak_mib(ours.pid())?,
        live: live(&ours)?,
        false_silent: about_hosts.len() as u64,
        after: total(&loaders),
    };
    print(line, &end, &load_before);
    for incident in about_hosts.iter().take(5) {
        dawnwatch_tests::say(&format!("{}: {}", incident.name, incident.what));
    }
    drop(loaders);
    Ok(())
}

/// What came out.
struct Ended {
    joined_s: f64,
    back_s: f64,
    peak_rate: f64,
    quiet_cpu: f64,
    quiet_mib: f64,
    joined_peak: f64,
    back_peak: f64,
    live: u64,
    false_silent: u64,
    after: Status,
}

/// The most agents that came back within a second.
fn peak_rate(curve: &[(f64, u64)]) -> f64 {
    let mut most = 0.0f64;
    for (i, (at, count)) in curve.iter().enumerate() {
        let from = curve[..i]
            .iter()
            .rev()
            .find(|(before, _)| at - before >= 1.0);
        if let Some((before, earlier)) = from {
            #[allow(clippy::cast_precision_loss, reason = "some thousands")]
            let rate = (count - earlier) as f64 / (at - before);
            most = most.max(rate);
        }
    }
    most
}

fn live(ours: &Ours) -> anyhow::Result<u64> {
    let now: Now = ours.get("/api/v1/now")?;
    Ok(u64::from(now.hosts_live))
}

fn wait(within: Duration, mut done: impl FnMut() -> bool) -> anyhow::Result<()> {
    let end = now() + within;
    while !done() {
        anyhow::ensure!(now() < end, "waited {within:?} in vain");
        std::thread::sleep(STEP);
    }
    Ok(())
}

#[allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "the table is what this program is for; counts of agents"
)]
fn print(line: &Line, end: &Ended, load_before: &str) {
    let agents = line.agents as f64;
    println!("{}", heading(load_before));
    println!(
        "{} agents of 70 series every 10 s, mutual TLS, in {LOADERS} processes beside the server; the server killed and started again",
        line.agents
    );
    println!();
    println!("| what | measured | goal |\n|---|---|---|");
    println!(
        "| all are back after | {:.1} s | <= 120 s for 10,000 |",
        end.back_s
    );
    println!(
        "| accepted a second, mean / peak | {:.0} / {:.0} | |",
        agents / end.back_s,
        end.peak_rate
    );
    println!(
        "| RSS in quiet running / peak of joining / peak of coming back | {:.0} / {:.0} / {:.0} MiB | <= 1,536 MiB |",
        end.quiet_mib, end.joined_peak, end.back_peak
    );
    println!("| incidents about a host | {} | 0 |", end.false_silent);
    println!(
        "| welcomes that held less than was acknowledged | {} | 0 |",
        end.after.lost
    );
    println!(
        "| hosts live a minute after | {} of {} | all |",
        end.live, line.agents
    );
    println!(
        "| CPU in quiet running | {:.1} % of one processor, {:.0} us a tick | |",
        end.quiet_cpu * 100.0,
        end.quiet_cpu * 10.0 * 1e6 / agents
    );
    println!(
        "| joined and connected, the first time | {:.1} s; attempts that failed since then: {} | |",
        end.joined_s, end.after.failed
    );
}

/// What a loader says of its agents.
#[derive(Debug, Clone, Copy, Default)]
struct Status {
    connected: u64,
    welcomed: u64,
    failed: u64,
    lost: u64,
}

fn total(loaders: &[Loader]) -> Status {
    let mut sum = Status::default();
    for loader in loaders {
        let one = *loader.status.lock().unwrap_or_else(PoisonError::into_inner);
        sum.connected += one.connected;
        sum.welcomed += one.welcomed;
        sum.failed += one.failed;
        sum.lost += one.lost;
    }
    sum
}

/// A loader process. It ends when its standard input does.
struct Loader {
    child: Child,
    status: Arc<Mutex<Status>>,
}

impl Loader {
    fn start(
        line: &Line,
        number: u64,
        dir: &Path,
        ours: &Ours,
        join_line: &str,
    ) -> anyhow::Result<Loader> {
        let share = |n: u64| (line.agents * n / LOADERS).to_string();
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("load").arg("--dir").arg(dir.join("hosts"));
        command.args(["--server", &ours.address.to_string()]);
        command.args(["--line", join_line]);
        command.args(["--from", &share(number), "--to", &share(number + 1)]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let out = BufReader::new(child.stdout.take().context("it has an output")?);
        let status = Arc::<Mutex<Status>>::default();
        let told = Arc::clone(&status);
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let mut words = line.split(' ').map(|word| word.parse().unwrap_or(0));
                let mut next = || words.next().unwrap_or(0);
                let status = Status {
                    connected: next(),
                    welcomed: next(),
                    failed: next(),
                    lost: next(),
                };
                *told.lock().unwrap_or_else(PoisonError::into_inner) = status;
            }
        });
        Ok(Loader { child, status })
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
