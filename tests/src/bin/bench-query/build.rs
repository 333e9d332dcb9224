//! Hours of history, written by the server's own library in place of a server that ran for a day.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;

use dawnwatch_proto::HostId;
use dawnwatch_segment::{Disk, RealDisk};
use dawnwatch_server::history::History;
use dawnwatch_server::history::head::Row;
use dawnwatch_tests::bench::table::median;
use dawnwatch_tests::bench::{g1, ms_since, now};
use jiff::Timestamp;

/// Ticks of an hour.
const HOUR: i64 = 360;

/// Writes so many hours that end at a time: an hour file with its summaries each.
pub(super) fn write(data: &Path, hosts: &[HostId], hours: u64, end_ms: i64) -> anyhow::Result<()> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (history, damage) = History::open(&disk, data)?;
    anyhow::ensure!(damage.is_empty(), "{damage:?}");
    let schema = g1::schema();
    let mut sources: Vec<g1::Host> = (0..).map(g1::Host::new).take(hosts.len()).collect();
    // What the server has taken in by now has a number below.
    let base = 1_000_000;
    for hour in 0..hours {
        let position = base + hour;
        let from_ms = end_ms - i64::try_from(hours - hour)? * HOUR * g1::TICK_MS;
        for (host, source) in hosts.iter().zip(&mut sources) {
            if hour == 0 {
                history.schema(*host, &schema)?;
            }
            for tick in 0..HOUR {
                let row = Row {
                    time_ms: from_ms + tick * g1::TICK_MS,
                    schema: schema.id(),
                    values: source.next_row().into(),
                    position,
                };
                history.push(*host, row, 0);
            }
        }
        let sealing = history.begin_seal();
        let now = Timestamp::from_millisecond(from_ms + HOUR * g1::TICK_MS)?;
        history.seal(&sealing, position, now)?;
        history.summarise()?;
        dawnwatch_tests::say(&format!("hour {} of {hours} is written", hour + 1));
    }
    Ok(())
}

/// What the history itself takes for two of the questions, milliseconds: without HTTP, without text.
#[derive(Debug)]
pub(super) struct Within {
    /// One series of a host, raw.
    pub(super) series_ms: f64,
    /// The highest of each host.
    pub(super) highest_ms: f64,
}

/// Asks the history of a data directory that no server runs on: a series of a host in one span, the fleet's in another.
pub(super) fn within(
    data: &Path,
    host: HostId,
    day: (Timestamp, Timestamp),
    night: (Timestamp, Timestamp),
    repeats: usize,
) -> anyhow::Result<Within> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (history, _) = History::open(&disk, data)?;
    let series = history.named("cpu_user").context("G1 has the series")?;
    let (mut one, mut all) = (Vec::new(), Vec::new());
    for _ in 0..=repeats {
        let began = now();
        let points = history.read(host, &series, day.0, day.1);
        one.push(ms_since(began));
        anyhow::ensure!(
            points.damaged.is_empty() && !points.raw.is_empty(),
            "{points:?}"
        );
        let began = now();
        let fleet = history.fleet(&series, night, &|host| host);
        all.push(ms_since(began));
        anyhow::ensure!(
            fleet.damaged.is_empty() && !fleet.hosts.is_empty(),
            "{fleet:?}"
        );
    }
    // The first of each opened the files.
    Ok(Within {
        series_ms: median(&one[1..]),
        highest_ms: median(&all[1..]),
    })
}
