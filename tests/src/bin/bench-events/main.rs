//! `tests/bench events`: what pings, logs and incidents cost the server: hosts that send what real agents send beside the numbers
//! of G1, one kind after the other, over mutual TLS with durable acknowledgements. Prints one Markdown table.
//!
//! Caveats: nothing of the peers takes any of it, so there is nothing beside it; the machine is not kept quiet; each kind comes
//! alone and far more often than from real hosts, whose groups of inputs are smaller and so dearer in synced writes.
//! Of the last two rows the ticks of all hosts are taken off as they were measured in the first one, which on a busy machine is
//! no exact figure; the ledger's bytes are.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use dawnwatch_proto::api::Incident;
use dawnwatch_tests::bench::fleet::{Member, Times, join_all};
use dawnwatch_tests::bench::life::{self, What};
use dawnwatch_tests::bench::now;
use dawnwatch_tests::bench::ours::{Ours, poll};
use dawnwatch_tests::bench::process::{cpu, peak_mib, raise_open_files, resident_mib, written_in};
use dawnwatch_tests::bench::table::{heading, load};
use dawnwatch_tests::faketime::real_now;
use tokio::runtime::Runtime;
use tokio::time::{MissedTickBehavior, interval};

/// After everything is sent: what was put off is done.
const SETTLE: Duration = Duration::from_secs(3);

/// Of ten hosts one falls silent.
const SILENT_OF: usize = 10;

/// Silent hosts are told of after half a minute; nothing takes longer than this.
const WITHIN: Duration = Duration::from_secs(180);

/// What is measured, and how much of it.
#[derive(Debug, Parser)]
#[command(name = "bench-events")]
struct Line {
    /// Hosts.
    #[arg(long, default_value_t = 200)]
    hosts: u64,
    /// Items a second, host after host.
    #[arg(long, default_value_t = 1_000)]
    a_second: u64,
    /// Seconds of each kind.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

/// What one kind came to.
struct Row {
    what: String,
    count: u64,
    cpu_us: f64,
    journal: f64,
    ledger: f64,
    resident_mib: f64,
}

/// The server, and what it had spent and written when it was looked at last.
struct Meter {
    ours: Ours,
    cpu: Duration,
    journal: u64,
    ledger: u64,
}

fn main() -> anyhow::Result<()> {
    let line = Line::parse();
    raise_open_files();
    let load_before = load();
    let dir = tempfile::tempdir()?;
    let (rows, peak) = measure(&line, dir.path())?;
    print(&line, &rows, peak, &load_before);
    Ok(())
}

fn measure(line: &Line, dir: &Path) -> anyhow::Result<(Vec<Row>, f64)> {
    let runtime = Runtime::new()?;
    let ours = Ours::start(&dir.join("ours"), &[])?;
    let join_line = ours.join_line(line.hosts)?;
    let mut times = Times::backlog(0, real_now().as_millisecond());
    times.live_step_ms = i64::try_from(line.hosts * 1_000 / line.a_second)?;
    let (states, address) = (dir.join("hosts"), ours.address.to_string());
    let joined = join_all(&states, &address, &join_line, 0..line.hosts, times);
    let mut members = runtime.block_on(joined)?;
    for member in &mut members {
        runtime.block_on(member.connect())?;
    }
    let mut meter = Meter {
        ours,
        cpu: Duration::ZERO,
        journal: 0,
        ledger: 0,
    };
    let pings = Arc::new(life::schema());
    let mut rows = Vec::new();
    for (what, words) in [
        (What::Pings, "a tick of the pings of 4 targets, 29 series"),
        (What::Counts, "counts of log lines of 6 shapes"),
        (What::Lines, "a whole log line of warning, some 150 bytes"),
        (What::Templates, "a shape of log lines that is new"),
        (What::Processes, "a table of 10 processes"),
    ] {
        for member in &mut members {
            member.lives(what, &pings);
            member.times.live_from_ms = real_now().as_millisecond()
                - i64::try_from(member.sent())? * member.times.live_step_ms;
        }
        meter.look()?;
        let count = runtime.block_on(push(&mut members, line))?;
        std::thread::sleep(SETTLE);
        rows.push(meter.row(words, count)?);
    }
    let tick = &rows[0];
    let tick = (tick.cpu_us, tick.journal);
    rows.extend(incidents(&runtime, &mut members, &mut meter, &pings, tick)?);
    let peak = peak_mib(meter.ours.pid())?;
    Ok((rows, peak))
}

/// Pushes single items, host after host, at a pace.
async fn push(members: &mut [Member], line: &Line) -> anyhow::Result<u64> {
    let wanted = line.a_second * line.seconds;
    let mut pace = interval(Duration::from_secs(line.seconds) / u32::try_from(wanted)?);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut pushed = 0;
    while pushed < wanted {
        for member in &mut *members {
            pace.tick().await;
            member.send(1).await?;
            pushed += 1;
        }
    }
    Ok(pushed)
}

/// Some hosts vanish and come back: what a host costs, without what the ticks of all cost that go on meanwhile.
fn incidents(
    runtime: &Runtime,
    members: &mut [Member],
    meter: &mut Meter,
    pings: &Arc<dawnwatch_proto::Schema>,
    tick: (f64, f64),
) -> anyhow::Result<[Row; 2]> {
    for member in &mut *members {
        member.lives(What::Pings, pings);
    }
    meter.look()?;
    let silent = members.len() / SILENT_OF;
    let (gone, stay) = members.split_at_mut(silent);
    gone.iter_mut().for_each(Member::vanish);
    let ticks = keep_on(runtime, stay, || told(&meter.ours, silent))?;
    let opened = meter.row(
        "a host that falls silent, until its incident is open",
        silent as u64,
    )?;
    let opened = opened.without(ticks, tick);
    meter.look()?;
    for member in &mut *gone {
        runtime.block_on(member.connect())?;
    }
    let ticks = keep_on(runtime, members, || told(&meter.ours, 0))?;
    let closed = meter.row("it comes back, until the incident is closed", silent as u64)?;
    Ok([opened, closed.without(ticks, tick)])
}

/// A tick of each host every second until something is so; how many that were.
fn keep_on(
    runtime: &Runtime,
    members: &mut [Member],
    done: impl Fn() -> bool,
) -> anyhow::Result<u64> {
    let until = now() + WITHIN;
    let mut ticks = 0;
    poll(until, || {
        for member in &mut *members {
            runtime.block_on(member.send(1)).ok()?;
            ticks += 1;
        }
        std::thread::sleep(Duration::from_secs(1));
        done().then_some(())
    })
    .context("the server tells of the hosts")?;
    Ok(ticks)
}

impl Row {
    /// Less what so many ticks cost, as it was measured of them alone: microseconds and bytes of the journal.
    fn without(mut self, ticks: u64, (cpu_us, journal): (f64, f64)) -> Row {
        let share = float(ticks) / float(self.count);
        self.cpu_us = (self.cpu_us - share * cpu_us).max(0.0);
        self.journal = (self.journal - share * journal).max(0.0);
        self
    }
}

/// Whether so many alerts are in open incidents; of none, whether no incident is open.
fn told(ours: &Ours, alerts: usize) -> bool {
    let Ok(all) = ours.get::<Vec<Incident>>("/api/v1/incidents?state=open") else {
        return false;
    };
    let named: usize = all.iter().map(|incident| incident.alerts.len()).sum();
    if alerts == 0 {
        all.is_empty()
    } else {
        named >= alerts
    }
}

impl Meter {
    fn look(&mut self) -> anyhow::Result<()> {
        self.cpu = cpu(self.ours.pid())?;
        self.journal = written_in(&self.ours.data.join("journal"))?;
        self.ledger = written_in(&self.ours.data.join("ledger"))?;
        Ok(())
    }

    /// What was spent and written since the last look.
    fn row(&self, what: &str, count: u64) -> anyhow::Result<Row> {
        let spent = cpu(self.ours.pid())? - self.cpu;
        let journal = written_in(&self.ours.data.join("journal"))? - self.journal;
        let ledger = written_in(&self.ours.data.join("ledger"))? - self.ledger;
        let each = float(count);
        Ok(Row {
            what: what.to_owned(),
            count,
            cpu_us: spent.as_secs_f64() * 1e6 / each,
            journal: float(journal) / each,
            ledger: float(ledger) / each,
            resident_mib: resident_mib(self.ours.pid())?,
        })
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts and bytes")]
fn float(count: u64) -> f64 {
    count as f64
}

#[allow(clippy::print_stdout, reason = "the table is what this program is for")]
fn print(line: &Line, rows: &[Row], peak: f64, load_before: &str) {
    println!("{}", heading(load_before));
    println!(
        "{} hosts, {} items a second; ours alone: neither Prometheus nor VictoriaMetrics takes any of this. Peak RSS {peak:.0} MiB",
        line.hosts, line.a_second
    );
    println!();
    println!(
        "| what | how many | CPU of one, us | journal, bytes | ledger, bytes | RSS then, MiB |"
    );
    println!("|---|---|---|---|---|---|");
    for row in rows {
        println!(
            "| {} | {} | {:.0} | {:.0} | {:.0} | {:.0} |",
            row.what, row.count, row.cpu_us, row.journal, row.ledger, row.resident_mib
        );
    }
}
