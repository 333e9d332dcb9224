//! A peer under the same samples, by remote write.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dawnwatch_tests::bench::fleet::Times;
use dawnwatch_tests::bench::ours::poll;
use dawnwatch_tests::bench::peer::{Form, Kind, Load, Peer};
use dawnwatch_tests::bench::process::{cpu, peak_mib};
use dawnwatch_tests::bench::{g1, ms_since, now};
use dawnwatch_tests::faketime::real_now;

use super::{BEFORE_KILL, Figures, Line, SETTLE};

/// Hosts in one request of a backlog: 1,400 samples, about what their agents put together.
const TOGETHER: u64 = 20;

/// Connections that push: fewer than there are agents is to the peer's advantage.
const CONNECTIONS: u64 = 8;

/// Samples are found within this after they were taken.
const VISIBLE: Duration = Duration::from_secs(30);

/// The further tick after the kill is so many seconds after the last push that can have been planned: later than all others, for
/// nothing out of order is taken, and less than the peers take of the future.
const LAST_TICK_S: i64 = 120;

pub(super) fn measure(kind: Kind, line: &Line, dir: &Path) -> anyhow::Result<Figures> {
    let mut figures = Figures {
        bulk_by_series: Some(bulk(kind, line, &dir.join("series"), Form::Series)?),
        ..Figures::default()
    };
    let data = dir.join("data");
    let mut peer = Peer::start(kind, &data)?;
    let mut times = Times::backlog(line.ticks, real_now().as_millisecond());
    let before = cpu(peer.pid())?;
    let load = Load::new(line.hosts, 0..line.ticks, times, Form::Hosts(TOGETHER));
    let sent = load.send(peer.address)?;
    let mut acked = load.acked();
    std::thread::sleep(SETTLE);
    figures.bulk = (cpu(peer.pid())? - before).as_secs_f64() * 1e6 / float(sent);

    // From here on ticks have the time that they are sent at, as ours have.
    times.live_from_ms = real_now().as_millisecond();
    times.live_step_ms = i64::try_from(line.hosts * 1_000 / line.pushes)?;
    let rounds = line.pushes * line.push_seconds / line.hosts;
    let load = pushes(line, line.ticks..line.ticks + rounds, times);
    let before = cpu(peer.pid())?;
    let pushed = load.send(peer.address)?;
    std::thread::sleep(Duration::from_secs(2));
    let each = float(pushed / g1::SERIES as u64);
    figures.push_us = (cpu(peer.pid())? - before).as_secs_f64() * 1e6 / each;
    figures.peak_mib = peak_mib(peer.pid())?;
    add(&mut acked, &load.acked());
    control(&peer, line, times, &acked)?;

    let from = line.ticks + rounds;
    let load = pushes(line, from..from + 60 * line.pushes / line.hosts, times);
    kill(&mut peer, &load)?;
    add(&mut acked, &load.acked());
    figures.acked = acked.iter().sum();
    come_back(&mut peer, line, times, &mut figures)?;
    // What was written last is found only after a while.
    std::thread::sleep(Duration::from_secs(3));
    figures.lost = missing(&acked, &found(&peer, line, times)?);
    Ok(figures)
}

/// Asks the question that counts losses before anything can have been lost: where it misses samples now, it says nothing
/// after a kill.
fn control(peer: &Peer, line: &Line, times: Times, acked: &[u64]) -> anyhow::Result<()> {
    let until = now() + VISIBLE;
    loop {
        let found = found(peer, line, times)?;
        if found == acked {
            return Ok(());
        }
        let sums: [u64; 2] = [found.iter().sum(), acked.iter().sum()];
        anyhow::ensure!(
            now() < until,
            "{} finds {} of {} samples before it was killed: the count of its losses would be wrong",
            peer.kind.command(),
            sums[0],
            sums[1]
        );
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Samples of each host from before the first to after the last that can have been sent.
fn found(peer: &Peer, line: &Line, times: Times) -> anyhow::Result<Vec<u64>> {
    // Pushes go on for no longer than this after the first one, and the further sample is later than all.
    let most = i64::try_from(line.push_seconds)? + LAST_TICK_S;
    let to = times.live_from_ms / 1_000 + most - 1;
    peer.count(line.hosts, times.from_ms / 1_000 - 1, to)
}

/// What is acknowledged and not found, host by host: what one has beyond what was acknowledged makes up for nobody's loss.
fn missing(acked: &[u64], found: &[u64]) -> u64 {
    let pairs = acked.iter().zip(found);
    pairs
        .map(|(acked, found)| acked.saturating_sub(*found))
        .sum()
}

fn add(sum: &mut [u64], more: &[u64]) {
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum += more;
    }
}

fn kill(peer: &mut Peer, load: &Load) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let address = peer.address;
        let pushing = scope.spawn(move || load.send(address));
        std::thread::sleep(BEFORE_KILL);
        // What is answered from here on came out of the socket's buffer, and was answered all the same.
        load.stop.store(true, Ordering::Relaxed);
        peer.kill();
        let failed = |_| anyhow::anyhow!("a sender panicked");
        pushing.join().map_err(failed)?.map(|_| ())
    })
}

/// Starts it again and times what it can do when.
fn come_back(
    peer: &mut Peer,
    line: &Line,
    mut times: Times,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let (began, until) = (now(), now() + Duration::from_secs(60));
    peer.again()?;
    let at = real_now().as_second() + 120;
    let one = peer.query("count_over_time(cpu_user{hostname=\"host_0000\"}[5h])", at);
    let http = peer.http();
    // A tick later than all others, and than what is counted.
    times.live_from_ms += (i64::try_from(line.push_seconds)? + LAST_TICK_S) * 1_000;
    times.live_step_ms = 0;
    std::thread::scope(|scope| {
        let peer = &*peer;
        let ready = scope.spawn(move || peer.until_ready().map(|()| ms_since(began)));
        figures.history_ms = poll(until, || {
            let body = http.body(&one).ok()?;
            let found = body.windows(7).any(|w| w == b"\"value\"");
            found.then(|| ms_since(began))
        })?;
        figures.ack_ms = poll(until, || {
            let load = Load {
                connections: 1,
                ..pushes_of(1, line.ticks..line.ticks + 1, times)
            };
            load.send(peer.address).ok().map(|_| ms_since(began))
        })?;
        let ready = ready.join().map_err(|_| anyhow::anyhow!("a look panicked"));
        figures.ready_ms = ready??;
        Ok(())
    })
}

fn bulk(kind: Kind, line: &Line, data: &Path, form: Form) -> anyhow::Result<f64> {
    let peer = Peer::start(kind, data)?;
    let times = Times::backlog(line.ticks, real_now().as_millisecond());
    let before = cpu(peer.pid())?;
    let acked = Load::new(line.hosts, 0..line.ticks, times, form).send(peer.address)?;
    std::thread::sleep(SETTLE);
    Ok((cpu(peer.pid())? - before).as_secs_f64() * 1e6 / float(acked))
}

fn pushes(line: &Line, ticks: std::ops::Range<u64>, times: Times) -> Load {
    #[allow(clippy::cast_precision_loss, reason = "some thousands")]
    let a_second = line.pushes as f64;
    Load {
        connections: CONNECTIONS,
        a_second: Some(a_second),
        ..pushes_of(line.hosts, ticks, times)
    }
}

fn pushes_of(hosts: u64, ticks: std::ops::Range<u64>, times: Times) -> Load {
    Load::new(hosts, ticks, times, Form::Hosts(1))
}

#[allow(clippy::cast_precision_loss, reason = "counts of samples")]
fn float(count: u64) -> f64 {
    count as f64
}
