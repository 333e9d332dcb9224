//! What answers about history cost, without HTTP: a day of one series, and a night's highest of 1,000 hosts; reading, and writing
//! as JSON. The history is written by the library itself: G1, of which the first series stand for all.

#[path = "../engine/tests/blocks/g1.rs"]
mod g1;

use std::path::Path;
use std::sync::{Arc, LazyLock};

use dawnwatch_proto::api::{Fleet, FleetHost};
use dawnwatch_proto::{HostId, Kind, Schema, Series};
use dawnwatch_segment::{Disk, RealDisk};
use dawnwatch_server::api::points::{About, Form, document};
use dawnwatch_server::history::History;
use dawnwatch_server::history::head::Row;
use dawnwatch_server::history::summary::draw::{Found, Wanted};
use dawnwatch_server::history::summary::fleet::OfFleet;
use divan::{Bencher, black_box};
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;

/// Ticks of an hour.
const HOUR: usize = 360;

/// Ticks of an hour of all hosts but the first: summaries are as long.
const FEW: usize = 60;

/// Hours of the day; the last of them are the night.
const DAY: usize = 24;

/// Hours of the night.
const NIGHT: usize = 14;

/// Hosts of the night; the first alone has the day.
const HOSTS: u64 = 1_000;

/// Series of a host.
const SERIES: usize = 8;

/// The end of all of it: a full hour.
const END_MS: i64 = 1_760_400_000_000;

fn main() {
    divan::main();
}

struct Stage {
    history: History,
    series: Series,
    _dir: TempDir,
}

static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a directory");
    let history = open(dir.path());
    let one = |i| Series::new(&format!("level_{i}"), Kind::Gauge).quantum(1, 100);
    let schema = Schema::new((0..SERIES).map(one).collect());
    let ticks = |host: u64| if host == 0 { HOUR } else { FEW };
    let rows: Vec<_> = (0..HOSTS)
        .map(|host| g1::host(host, (ticks(host) * DAY) as u64, 0).1)
        .map(|rows| rows.into_iter().map(|row| row[..SERIES].into()).collect())
        .collect::<Vec<Vec<Arc<[i64]>>>>();
    for hour in 0..DAY {
        let hosts = if hour < DAY - NIGHT { 1 } else { HOSTS };
        let from = END_MS - ((DAY - hour) * HOUR) as i64 * 10_000;
        for (host, rows) in (0..hosts).zip(&rows) {
            let ticks = ticks(host);
            let host = HostId(u128::from(host) + 1);
            history.schema(host, &schema).expect("the disk takes it");
            for (tick, values) in rows[hour * ticks..(hour + 1) * ticks].iter().enumerate() {
                let row = Row {
                    time_ms: from + (tick * 3_600_000 / ticks) as i64,
                    schema: schema.id(),
                    values: Arc::clone(values),
                    position: hour as u64 + 1,
                };
                history.push(host, row, 0);
            }
        }
        let sealing = history.begin_seal();
        let now = at(from + 3_600_000);
        let sealed = history.seal(&sealing, hour as u64 + 1, now);
        sealed.expect("the disk takes it");
        history.summarise().expect("the disk takes it");
    }
    Stage {
        history: open(dir.path()),
        series: schema.series()[0].clone(),
        _dir: dir,
    }
});

fn open(dir: &Path) -> History {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (history, damage) = History::open(&disk, dir).expect("it opens");
    assert!(damage.is_empty(), "{damage:?}");
    history
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).expect("a time")
}

fn last(hours: usize) -> (Timestamp, Timestamp) {
    let end = at(END_MS);
    (end - SignedDuration::from_hours(hours as i64), end)
}

fn a_day() -> Found {
    let (from, to) = last(DAY);
    let found = STAGE.history.find(&Wanted {
        hosts: &[HostId(1)],
        series: &STAGE.series,
        from,
        to,
        points: HOUR * DAY,
    });
    let is_whole = matches!(&found, Found::Samples(points) if points.raw.len() == HOUR * DAY);
    assert!(is_whole, "{found:?}");
    found
}

fn a_night() -> OfFleet {
    let found = STAGE
        .history
        .fleet(&STAGE.series, last(NIGHT), &|host| host);
    assert_eq!(found.hosts.len() as u64, HOSTS);
    found
}

#[divan::bench]
fn day_read(bencher: Bencher<'_, '_>) {
    a_day();
    bencher.bench(a_day);
}

#[divan::bench(args = ["points", "columns"])]
fn day_written(bencher: Bencher<'_, '_>, form: &str) {
    let found = a_day();
    let about = About {
        host: HostId(1),
        name: "web01",
        series: "level_0",
        kind: Kind::Gauge,
        zone: "Europe/Berlin",
    };
    let form = match form {
        "points" => Form::Points,
        _ => Form::Columns,
    };
    bencher.bench(|| document(&about, black_box(&found), form));
}

#[divan::bench]
fn night_read(bencher: Bencher<'_, '_>) {
    a_night();
    bencher.bench(a_night);
}

#[divan::bench]
fn night_written(bencher: Bencher<'_, '_>) {
    let hosts = a_night().hosts.into_iter().map(|(host, total)| FleetHost {
        host,
        name: format!("host-{}", host.0),
        samples: total.samples,
        min: total.min,
        mean: total.mean,
        max: total.max,
        last: total.last,
        p95: None,
    });
    let (from, to) = last(NIGHT);
    let fleet = Fleet {
        series: "level_0".to_owned(),
        kind: Kind::Gauge,
        zone: "Europe/Berlin".to_owned(),
        from,
        to,
        by: "max".to_owned(),
        hosts: hosts.collect(),
        hosts_total: HOSTS,
        damaged: 0,
    };
    bencher.bench(|| serde_json::to_vec(black_box(&fleet)));
}
