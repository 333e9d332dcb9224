use std::path::Path;
use std::sync::Arc;

use dawnwatch_proto::{HostId, Kind, MISSING, Schema, Series};
use dawnwatch_segment::{Disk, RealDisk};
use jiff::Timestamp;

use super::{common, raw_in};
use crate::history::History;
use crate::history::head::Row;
use crate::history::summary::draw::{Drawn, Wanted};

const HOST: HostId = HostId(7);

/// Samples of each of the three parts, ten seconds apart: a mini block and some rows of each are in the head.
const EACH: i64 = 100;

#[test]
fn a_common_quantum_divides_both() {
    let table = [
        ((1, 1), (1, 1), (1, 1)),
        ((1_024, 1), (4_096, 1), (1_024, 1)),
        ((1, 100), (1, 1_000), (1, 1_000)),
        ((1, 4), (1, 6), (1, 12)),
        ((3, 1), (2, 1), (1, 1)),
        // Too fine for 32 bits: the finer of the two.
        ((1, 4_294_967_291), (1, 4_294_967_279), (1, 4_294_967_291)),
    ];
    for (a, b, want) in table {
        assert_eq!((common(a, b), common(b, a)), (want, want), "{a:?} {b:?}");
    }
}

#[test]
fn values_stay_what_they_were_worth() {
    let table = [
        (5, (4_096, 1), (1_024, 1), 20),
        (-5, (1, 4), (1, 12), -15),
        (3, (1, 2), (1, 1), 2),
        (-3, (1, 2), (1, 1), -2),
        (MISSING, (4_096, 1), (1_024, 1), MISSING),
        (i64::MAX, (4_096, 1), (1_024, 1), i64::MAX),
        (i64::MIN + 1, (4_096, 1), (1_024, 1), i64::MIN + 1),
        (7, (u32::MAX, 1), (1, u32::MAX), i64::MAX),
    ];
    for (raw, from, to, want) in table {
        assert_eq!(raw_in(raw, from, to), want, "{raw} {from:?} {to:?}");
    }
}

/// A host whose memory was doubled twice: what it sends is counted in KiB, then in 4 KiB, then in 2.
fn schema(part: i64) -> Schema {
    let kib = [1_024, 4_096, 2_048][usize::try_from(part).unwrap()];
    Schema::new(vec![
        Series::new("memory_bytes", Kind::Gauge).quantum(kib, 1),
        Series::new("sent_bytes_total", Kind::Counter).quantum(kib, 1),
    ])
}

/// Bytes that are whole in each quantum: a level, and a count that grows by 8 KiB a sample.
fn bytes(i: i64) -> [i64; 2] {
    [(400 + i % 7) * 4_096, i * 8_192]
}

fn open(dir: &Path) -> History {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    History::open(&disk, dir).unwrap().0
}

fn push(history: &History, part: i64, start_s: i64) {
    let schema = schema(part);
    history.schema(HOST, &schema).unwrap();
    for i in part * EACH..(part + 1) * EACH {
        let raw = bytes(i).map(|bytes| bytes / i64::from(schema.series()[0].mul));
        let row = Row {
            time_ms: start_s * 1_000 + i * 10_000,
            schema: schema.id(),
            values: raw.to_vec().into(),
            position: u64::try_from(i + 1).unwrap(),
        };
        history.push(HOST, row, history.through());
    }
}

fn seal(history: &History, part: i64) {
    let sealing = history.begin_seal();
    let through = u64::try_from((part + 1) * EACH).unwrap();
    let now = Timestamp::from_second(10_000).unwrap();
    history.seal(&sealing, through, now).unwrap();
    history.summarise().unwrap();
}

fn draw(history: &History, name: &str, points: usize) -> Drawn {
    let present = schema(2);
    let series = present
        .series()
        .iter()
        .find(|one| one.name == name)
        .unwrap();
    let drawn = history.draw(&Wanted {
        hosts: &[HOST],
        series,
        from: Timestamp::UNIX_EPOCH,
        to: Timestamp::from_second(7_200).unwrap(),
        points,
    });
    assert_eq!(drawn.damaged, [""; 0]);
    drawn
}

#[allow(clippy::cast_precision_loss, reason = "small numbers")]
fn check(history: &History, what: &str) {
    let level = draw(history, "memory_bytes", 10_000);
    let shown: Vec<f64> = level.points.iter().filter_map(|(_, v)| *v).collect();
    let want: Vec<f64> = (0..3 * EACH).map(|i| bytes(i)[0] as f64).collect();
    assert_eq!(shown, want, "{what}");
    let rates = draw(history, "sent_bytes_total", 10_000);
    let slow = rates.points.iter().filter(|(_, v)| *v != Some(819.2));
    assert_eq!((slow.count(), rates.samples), (0, 300), "{what}");

    check_summaries(history, 1, what);
    let all = (
        Timestamp::UNIX_EPOCH,
        Timestamp::from_second(7_200).unwrap(),
    );
    for series in schema(0).series().iter().chain(schema(1).series()) {
        let found = history.percentiles([vec![HOST]].into_iter(), series, all, 0.95)[&HOST];
        let want = match series.kind {
            Kind::Gauge => 406.0 * 4_096.0,
            Kind::Counter => 819.2,
        };
        assert!((found - want).abs() < 1e-9, "{what}: {series} {found}");
    }
}

/// Means and peaks of an answer made of summaries, and what the fleet's says of the host.
#[allow(
    clippy::cast_precision_loss,
    clippy::float_cmp,
    reason = "small numbers, which are exact"
)]
fn check_summaries(history: &History, points: usize, what: &str) {
    let level = draw(history, "memory_bytes", points);
    assert!(level.resolution_s > 0, "{what}: not made of summaries");
    assert_eq!(level.samples, 300, "{what}");
    let top = level.peaks.iter().flatten().copied().fold(0.0, f64::max);
    assert_eq!(top, 406.0 * 4_096.0, "{what}");
    if points == 1 {
        let sum: i64 = (0..3 * EACH).map(|i| bytes(i)[0]).sum();
        let mean = sum as f64 / 300.0;
        let near = |(_, value): &(Timestamp, Option<f64>)| (value.unwrap() - mean).abs() < 1.0;
        assert!(level.points.iter().all(near), "{what}: {:?}", level.points);
    }
    let rates = draw(history, "sent_bytes_total", points);
    for (i, (at, rate)) in rates.points.iter().enumerate() {
        let near = |value: Option<f64>| (value.unwrap() - 819.2).abs() < 0.001;
        assert!(near(*rate) && near(rates.peaks[i]), "{what}: {at} {rate:?}");
    }
    let all = (
        Timestamp::UNIX_EPOCH,
        Timestamp::from_second(7_200).unwrap(),
    );
    let level = history.fleet(&schema(0).series()[0], all, &|host| host);
    assert_eq!(level.hosts[&HOST].max, 406.0 * 4_096.0, "{what}");
}

#[test]
fn each_part_is_shown_by_its_own_quantum() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path());
    for part in 0..3 {
        push(&history, part, 0);
    }
    check(&history, "all in the head");
    seal(&history, 2);
    check(&history, "in one hour file");
    drop(history);
    // The sealed hour has three blocks: no union of schemas counts a series in two ways.
    let history = open(dir.path());
    check(&history, "after a start");
    history.expire_now();
    check_summaries(
        &history,
        1,
        "summaries of five minutes and of the hour alone",
    );
    check_summaries(&history, 24, "summaries of five minutes alone");

    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path());
    for part in 0..3 {
        push(&history, part, 0);
        match part {
            2 => check(&history, "two files and the head"),
            _ => seal(&history, part),
        }
    }
    history.expire_oldest();
    check_summaries(&history, 1, "a summary, a file and the head");
    check_summaries(&history, 24, "the same in steps of five minutes");
}
