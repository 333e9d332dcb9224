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

pub(super) fn measure(kind: Kind, line: &Line, dir: &Path) -> anyhow::Result<Figures> {
    let mut figures = Figures {
        bulk_by_series: Some(bulk(kind, line, &dir.join("series"), Form::Series)?),
        ..Figures::default()
    };
    let data = dir.join("data");
    let mut peer = Peer::start(kind, &data)?;
    let times = Times::backlog(line.ticks, real_now().as_millisecond());
    let before = cpu(peer.pid())?;
    let load = Load::new(line.hosts, 0..line.ticks, times, Form::Hosts(TOGETHER));
    let mut acked = load.send(peer.address)?;
    std::thread::sleep(SETTLE);
    figures.bulk = (cpu(peer.pid())? - before).as_secs_f64() * 1e6 / float(acked);

    let rounds = line.pushes * line.push_seconds / line.hosts;
    let mut load = pushes(line, line.ticks..line.ticks + rounds, times);
    let before = cpu(peer.pid())?;
    let pushed = load.send(peer.address)?;
    std::thread::sleep(Duration::from_secs(2));
    let each = float(pushed / g1::SERIES as u64);
    figures.push_us = (cpu(peer.pid())? - before).as_secs_f64() * 1e6 / each;
    figures.peak_mib = peak_mib(peer.pid())?;
    acked += pushed;

    let from = line.ticks + rounds;
    load = pushes(line, from..from + 60 * line.pushes / line.hosts, times);
    std::thread::scope(|scope| {
        let address = peer.address;
        let load = &load;
        let pushing = scope.spawn(move || load.send(address));
        std::thread::sleep(BEFORE_KILL);
        // What is answered from here on came out of the socket's buffer, and was answered all the same.
        load.stop.store(true, Ordering::Relaxed);
        peer.kill();
        let sent = pushing
            .join()
            .map_err(|_| anyhow::anyhow!("a sender panicked"))??;
        acked += sent;
        anyhow::Ok(())
    })?;
    figures.acked = acked;

    let (began, until) = (now(), now() + Duration::from_secs(60));
    peer.again()?;
    let at = real_now().as_second() + 120;
    let one = peer.query("count_over_time(cpu_user{hostname=\"host_0000\"}[5h])", at);
    let http = peer.http();
    std::thread::scope(|scope| {
        let peer = &peer;
        let ready = scope.spawn(move || peer.until_ready().map(|()| ms_since(began)));
        figures.history_ms = poll(until, || {
            let body = http.body(&one).ok()?;
            let found = body.windows(7).any(|w| w == b"\"value\"");
            found.then(|| ms_since(began))
        })?;
        let last = from + 61 * line.pushes / line.hosts;
        figures.ack_ms = poll(until, || {
            let load = Load {
                connections: 1,
                ..pushes_of(1, last..last + 1, times)
            };
            load.send(peer.address).ok().map(|_| ms_since(began))
        })?;
        let ready = ready.join().map_err(|_| anyhow::anyhow!("a look panicked"));
        figures.ready_ms = ready??;
        anyhow::Ok(())
    })?;
    // What was written last is found only after a while.
    std::thread::sleep(Duration::from_secs(3));
    figures.lost = figures.acked.saturating_sub(peer.count(at)?);
    Ok(figures)
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
