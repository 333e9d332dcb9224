//! Our server under the same samples, sent as agents send them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use dawnwatch_proto::api::History;
use dawnwatch_tests::bench::fleet::{Member, Times, join_all};
use dawnwatch_tests::bench::ours::{Ours, poll};
use dawnwatch_tests::bench::process::{bytes_in, cpu, peak_mib, written_in};
use dawnwatch_tests::bench::{g1, ms_since, now};
use dawnwatch_tests::faketime::real_now;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::{BEFORE_KILL, Figures, Line, SETTLE};

pub(super) fn measure(line: &Line, dir: &Path) -> anyhow::Result<Figures> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut figures = Figures::default();
    let data = dir.join("ours");
    let mut ours = Ours::start(&data, &[])?;
    let join_line = ours.join_line(line.hosts)?;
    let address = ours.address.to_string();
    let times = Times::backlog(line.ticks, real_now().as_millisecond());
    let states = dir.join("hosts");
    let joined = join_all(&states, &address, &join_line, 0..line.hosts, times);
    let mut members = runtime.block_on(joined)?;

    let before = cpu(ours.pid())?;
    members = runtime.block_on(catch_up(members, line.ticks))?;
    std::thread::sleep(SETTLE);
    let samples = line.hosts * line.ticks * g1::SERIES as u64;
    figures.bulk = (cpu(ours.pid())? - before).as_secs_f64() / millions(samples);
    let written = |name: &str| Ok(per_sample(written_in(&data.join(name))?, samples));
    let share = |name: &str| per_sample(bytes_in(&data.join(name)), samples);
    let logs: anyhow::Result<[f64; 2]> =
        written("journal").and_then(|j| Ok([j, written("ledger")?]));
    let [journal, ledger] = logs?;
    figures.disk = Some([journal, share("checkpoint"), ledger, share("history")]);

    set_live(&mut members, line);
    let before = cpu(ours.pid())?;
    let during = Duration::from_secs(line.push_seconds);
    let pushed = runtime.block_on(push(&mut members, line.pushes, during))?;
    std::thread::sleep(Duration::from_secs(2));
    figures.push_us = (cpu(ours.pid())? - before).as_secs_f64() * 1e6 / float(pushed);
    figures.peak_mib = peak_mib(ours.pid())?;

    // Before anything can have been lost, the question that counts losses finds everything.
    let sent: Vec<u64> = members.iter().map(Member::sent).collect();
    let until = now() + Duration::from_secs(30);
    let found_all = || (missing(&ours, &members, &sent).ok()? == 0).then_some(());
    poll(until, found_all).context("ours does not find all samples before it was killed")?;

    kill_under_load(line, &runtime, &mut ours, &mut members, &mut figures)?;
    Ok(figures)
}

/// Connects all and sends everything; done when all is acknowledged.
async fn catch_up(members: Vec<Member>, ticks: u64) -> anyhow::Result<Vec<Member>> {
    let mut tasks = JoinSet::new();
    for mut member in members {
        tasks.spawn(async move {
            member.connect().await?;
            member.send(ticks).await?;
            member.until_acked(ticks).await?;
            anyhow::Ok(member)
        });
    }
    let mut members = Vec::new();
    while let Some(done) = tasks.join_next().await {
        members.push(done??);
    }
    Ok(members)
}

/// From here on ticks have the time that they are sent at.
fn set_live(members: &mut [Member], line: &Line) {
    for member in members {
        member.times.live_from_ms = real_now().as_millisecond();
        member.times.live_step_ms =
            i64::try_from(line.hosts * 1_000 / line.pushes).unwrap_or(1_000);
    }
}

/// Pushes single ticks, host after host, at a pace.
async fn push(members: &mut [Member], a_second: u64, during: Duration) -> anyhow::Result<u64> {
    let wanted = a_second * during.as_secs();
    let mut pace = interval(during / u32::try_from(wanted)?);
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

fn kill_under_load(
    line: &Line,
    runtime: &Runtime,
    ours: &mut Ours,
    members: &mut [Member],
    figures: &mut Figures,
) -> anyhow::Result<()> {
    // Ended by the kill: the error is what is wanted.
    let pushing = async {
        let long = Duration::from_secs(60);
        push(members, line.pushes, long).await.err()
    };
    let ended = runtime.block_on(async {
        let kill = async {
            tokio::time::sleep(BEFORE_KILL).await;
            ours.kill();
        };
        tokio::join!(pushing, kill).0
    });
    anyhow::ensure!(ended.is_some(), "the load did not notice the kill");
    // In quiet running an acknowledgement stands for up to 16 ticks: what was stored and not yet acknowledged counts for nothing.
    let acked: Vec<u64> = members.iter().map(Member::acked).collect();
    figures.acked = acked.iter().sum::<u64>() * g1::SERIES as u64;

    let began = now();
    ours.again()?;
    let from = real_now().as_second() - 86_400;
    let first = history_path(&members[0].name, from, 10)?;
    std::thread::scope(|scope| {
        let ours = &*ours;
        let ready = scope.spawn(move || ours.until_ready().map(|()| ms_since(began)));
        let history = scope.spawn(move || {
            let until = began + Duration::from_secs(60);
            poll(until, || {
                let history: History = ours.get(&first).ok()?;
                (history.samples > 0).then(|| ms_since(began))
            })
        });
        figures.ack_ms = runtime.block_on(fresh_ack(&mut members[0], began))?;
        let failed = |_| anyhow::anyhow!("a look panicked");
        figures.ready_ms = ready.join().map_err(failed)??;
        figures.history_ms = history.join().map_err(failed)??;
        anyhow::Ok(())
    })?;

    figures.lost = missing(ours, members, &acked)?;
    Ok(())
}

/// Samples that were acknowledged and are not found.
fn missing(ours: &Ours, members: &[Member], acked: &[u64]) -> anyhow::Result<u64> {
    let from = real_now().as_second() - 86_400;
    let mut missing = 0;
    for (member, acked) in members.iter().zip(acked) {
        let history: History = ours.get(&history_path(&member.name, from, 10_000)?)?;
        missing += acked.saturating_sub(history.samples) * g1::SERIES as u64;
    }
    Ok(missing)
}

/// Milliseconds until a further tick is acknowledged.
async fn fresh_ack(member: &mut Member, began: Instant) -> anyhow::Result<f64> {
    while member.connect().await.is_err() {
        anyhow::ensure!(ms_since(began) < 60_000.0, "no connection within a minute");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let next = member.sent() + 1;
    member.times.live_from_ms = real_now().as_millisecond()
        - i64::try_from(member.sent() - member.times.backlog)? * member.times.live_step_ms;
    member.send(1).await?;
    member.until_acked(next).await?;
    Ok(ms_since(began))
}

/// All samples of a series since a time: every sample counts in `samples`, however few points are drawn.
fn history_path(name: &str, from_s: i64, points: usize) -> anyhow::Result<String> {
    let from = jiff::Timestamp::from_second(from_s)?;
    Ok(format!(
        "/api/v1/history?host={name}&series=cpu_user&from={from}&points={points}"
    ))
}

#[allow(clippy::cast_precision_loss, reason = "counts of samples")]
fn float(count: u64) -> f64 {
    count as f64
}

fn millions(count: u64) -> f64 {
    float(count) / 1e6
}

fn per_sample(bytes: u64, samples: u64) -> f64 {
    float(bytes) / float(samples)
}
