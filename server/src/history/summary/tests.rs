use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dawnwatch_proto::{HostId, Schema, Series};
use dawnwatch_segment::{Disk, RealDisk};
use jiff::Timestamp;

use super::draw::{Drawn, Wanted};
use super::file::SummaryAt;
use super::*;
use crate::history::History;
use crate::history::head::Row;

const HOST: HostId = HostId(7);
const YEAR_S: i64 = 365 * 86_400;

fn schema() -> Schema {
    Schema::new(vec![
        Series::new("x_bytes", Kind::Gauge).quantum(1, 4),
        Series::new("x_total", Kind::Counter),
        Series::new("y_bytes", Kind::Gauge),
    ])
}

/// Numbers without a pattern, the same at each run.
fn noise(i: i64) -> i64 {
    let mixed = i.wrapping_mul(6_364_136_223_846_793_005) >> 40;
    mixed.rem_euclid(1_000)
}

/// The samples of a house: a noisy level that is missing at times, a count that begins anew every 500, a constant.
fn sample(i: i64) -> (i64, [i64; 3]) {
    let level = if i % 17 == 0 { MISSING } else { noise(i) };
    (i * 10_000, [level, (i % 500) * 7 + noise(i) / 200, 5])
}

fn open(dir: &Path) -> History {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (history, damage) = History::open(&disk, dir).unwrap();
    assert_eq!(damage, [""; 0]);
    history.schema(HOST, &schema()).unwrap();
    history
}

fn push(history: &History, position: u64, numbers: impl Iterator<Item = i64>) {
    for i in numbers {
        let (time_ms, values) = sample(i);
        let row = Row {
            time_ms,
            schema: schema().id(),
            values: values.to_vec().into(),
            position,
        };
        history.push(HOST, row, history.through());
    }
}

fn seal(history: &History, position: u64, at_s: i64) {
    let sealing = history.begin_seal();
    let now = Timestamp::from_second(at_s).unwrap();
    history.seal(&sealing, position, now).unwrap();
    history.summarise().unwrap();
}

/// Ten hours in three files, one of them late, and the head.
fn house(dir: &Path) -> History {
    let history = open(dir);
    push(&history, 1, 0..1_000);
    seal(&history, 1, 10_000);
    push(&history, 2, 2_000..3_100);
    seal(&history, 2, 31_000);
    push(&history, 3, 1_000..2_000);
    push(&history, 3, 3_100..3_300);
    seal(&history, 3, 33_000);
    push(&history, 4, 3_300..3_600);
    history
}

fn draw(history: &History, column: usize, points: usize) -> Drawn {
    let drawn = history.draw(&Wanted {
        hosts: &[HOST],
        series: &schema().series()[column],
        from: Timestamp::UNIX_EPOCH,
        to: Timestamp::from_second(36_000).unwrap(),
        points,
    });
    assert_eq!(drawn.damaged, [""; 0]);
    drawn
}

/// What the ten hours come to, reckoned sample by sample: mean and maximum of each step.
#[allow(clippy::cast_precision_loss, reason = "small numbers")]
fn naive(column: usize, step_s: i64) -> Vec<(i64, f64, f64)> {
    let all = (0..3_600)
        .map(sample)
        .map(|(time, values)| (time, values[column]));
    let all: Vec<(i64, i64)> = all.filter(|(_, value)| *value != MISSING).collect();
    let series = schema().series()[column].clone();
    let scale = f64::from(series.mul) / f64::from(series.div);
    let mut out = Vec::new();
    for start in (0..36_000_000).step_by(usize::try_from(step_s * 1_000).unwrap()) {
        let end = start + step_s * 1_000;
        let from = all.partition_point(|(time, _)| *time < start);
        let to = all.partition_point(|(time, _)| *time < end);
        if series.kind == Kind::Gauge {
            let values: Vec<i64> = all[from..to].iter().map(|(_, value)| *value).collect();
            let mean = values.iter().sum::<i64>() as f64 / values.len() as f64;
            out.push((
                start,
                mean * scale,
                *values.iter().max().unwrap() as f64 * scale,
            ));
            continue;
        }
        let (mut grown, mut fastest) = (0, 0);
        let first = from.saturating_sub(1);
        for pair in all[first..to].windows(2) {
            let by = if pair[1].1 >= pair[0].1 {
                pair[1].1 - pair[0].1
            } else {
                pair[1].1
            };
            grown += by;
            fastest = fastest.max(by);
        }
        let seconds = (all[to - 1].0 - all[first].0) as f64 / 1_000.0;
        // All samples are ten seconds apart.
        out.push((start, grown as f64 / seconds, fastest as f64 / 10.0));
    }
    out
}

fn shown(drawn: &Drawn) -> Vec<(i64, f64, f64)> {
    let both = drawn.points.iter().zip(&drawn.peaks);
    both.map(|((at, mean), peak)| (at.as_millisecond(), mean.unwrap(), peak.unwrap()))
        .collect()
}

fn files(dir: &Path, end: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(dir.join("history"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = all
        .filter(|path| path.to_str().unwrap().ends_with(end))
        .collect();
    all.sort();
    all
}

/// What it shows, of which kind of series, the samples, and start, count and shape of each summary.
type Case<'a> = (&'a str, Kind, &'a [(i64, i64)], &'a [(i64, u32, Shape)]);

#[test]
fn samples_become_summaries() {
    let gauge = |min, max, sum| Shape::Gauge { min, max, sum };
    let counter = |increase, steepest: Option<(i128, i64)>| Shape::Counter {
        increase,
        steepest: steepest.map(|(by, ms)| Growth { by, ms }),
    };
    let hour = 3_600_000;
    let rows: [Case<'_>; 9] = [
        ("nothing", Kind::Gauge, &[], &[]),
        ("all missing", Kind::Counter, &[(5, MISSING)], &[]),
        (
            "one level",
            Kind::Gauge,
            &[(5, -3)],
            &[(0, 1, gauge(-3, -3, -3))],
        ),
        (
            "one count",
            Kind::Counter,
            &[(5, 3)],
            &[(0, 1, counter(0, None))],
        ),
        (
            "levels, one missing",
            Kind::Gauge,
            &[(0, 4), (10, MISSING), (20, -2), (30, 1)],
            &[(0, 3, gauge(-2, 4, 3))],
        ),
        (
            "sums are wide",
            Kind::Gauge,
            &[(0, i64::MAX), (1, i64::MAX)],
            &[(0, 2, gauge(i64::MAX, i64::MAX, 2 * i128::from(i64::MAX)))],
        ),
        (
            "a count that began anew",
            Kind::Counter,
            &[(0, 10), (10, 15), (20, 4), (40, 24)],
            &[(0, 4, counter(29, Some((20, 20))))],
        ),
        (
            "a count that stands",
            Kind::Counter,
            &[(0, 10), (10, 10)],
            &[(0, 2, counter(0, Some((0, 1))))],
        ),
        (
            "two hours, and one before 1970",
            Kind::Gauge,
            &[(-1, 1), (0, 2), (hour - 1, 3), (hour, 4)],
            &[
                (-hour, 1, gauge(1, 1, 1)),
                (0, 2, gauge(2, 3, 5)),
                (hour, 1, gauge(4, 4, 4)),
            ],
        ),
    ];
    for (name, kind, samples, want) in rows {
        let got = reduce(samples, kind, HOUR_S);
        let got: Vec<_> = got
            .iter()
            .map(|(start, one)| (*start, one.count, one.shape))
            .collect();
        assert_eq!(got, want, "{name}");
    }
}

#[test]
fn parts_put_together_are_the_whole() {
    for (column, kind) in [(0, Kind::Gauge), (1, Kind::Counter)] {
        let all: Vec<_> = (0..2_000)
            .map(sample)
            .map(|(time, values)| (time, values[column]))
            .collect();
        let whole = reduce(&all, kind, HOUR_S);
        for size in [1, 7, 60, 333] {
            let mut parts: Vec<Summary> = Vec::new();
            for chunk in all.chunks(size).rev() {
                parts.extend(reduce(chunk, kind, FIVE_MINUTES_S).into_values());
            }
            assert_eq!(
                together(parts, HOUR_S),
                whole,
                "{kind:?} in parts of {size}"
            );
        }
    }
}

#[test]
fn a_file_byte_by_byte() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path());
    push(&history, 1, 359..361);
    seal(&history, 1, 3_700);
    let [path] = &files(dir.path(), ".dws")[..] else {
        panic!("one file");
    };
    let name = path.file_name().unwrap().to_str().unwrap();
    assert_eq!(name, "00000000000000000001_3700_3590_3600.1h.dws");
    let got: String = fs::read(path)
        .unwrap()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(got, GOLDEN_FILE);
}

/// What an earlier form left is no damage to the samples: they answer, and the summary is made anew.
#[test]
fn a_file_of_an_earlier_version_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let history = house(dir.path());
    let want = shown(&draw(&history, 0, 10));
    let path = files(dir.path(), ".1h.dws").remove(0);
    let whole = fs::read(&path).unwrap();
    let mut earlier = whole.clone();
    earlier[4] = 2;
    fs::write(&path, &earlier).unwrap();
    let at = SummaryAt::of_name(path.file_name().unwrap().to_str().unwrap()).unwrap();
    let said = file::check(&path, &at).unwrap_err();
    assert_eq!(said, "written by another version");
    assert_eq!(shown(&draw(&history, 0, 10)), want);
    history.summarise().unwrap();
    assert_eq!(fs::read(&path).unwrap(), whole);
}

/// Header; head of a group of one host with one page, and the page with three series; directory; trailer.
const GOLDEN_FILE: &str = concat!(
    "4457534d03000000100e0000000000000100000000000000740e000000000000",
    "0106db6795e22596423429ed8f46",
    "010700000000000000000000000000000002",
    "5d20811e9000b8635b10a7",
    "06db6795e22596420520054d0002",
    "3ff39924a33ff0af06216a88c0743a",
    "815910318d360ef60e6001000000040000005228c16694",
    "070000000000000000000000000000005f0000002b000000cd08896c",
    "01000000db046b5d44575346",
);

#[test]
fn names_are_taken_back_and_others_are_not() {
    let at = SummaryAt {
        through: 12,
        sealed_s: 99,
        min_s: -5,
        max_s: 7,
        step_s: FIVE_MINUTES_S,
    };
    assert_eq!(at.name(), "00000000000000000012_99_-5_7.5m.dws");
    assert_eq!(SummaryAt::of_name(&at.name()), Some(at));
    for other in [
        "",
        "1_2_3_4.1h.dws",
        "00000000000000000012_99_-5.5m.dws",
        "x.dws",
        "00000000000000000012_99_-5_7.2h.dws",
    ] {
        assert_eq!(SummaryAt::of_name(other), None, "{other}");
    }
    assert!(at.meets(7_999, 9_000) && at.meets(-9_000, -4_999));
    assert!(!at.meets(8_000, 9_000) && !at.meets(-9_000, -5_000));
}

#[test]
fn hours_are_what_their_samples_come_to() {
    let dir = tempfile::tempdir().unwrap();
    let history = house(dir.path());
    let saved = crate::checkpoint::whole(&history.save());
    let check = |history: &History, what: &str| {
        for column in 0..3 {
            let drawn = draw(history, column, 10);
            assert_eq!((drawn.resolution_s, drawn.repeated), (HOUR_S, 0));
            assert_eq!(
                shown(&drawn),
                naive(column, 3_600),
                "{what}: hours of column {column}"
            );
            let drawn = draw(history, column, 5);
            assert_eq!(drawn.resolution_s, 2 * HOUR_S);
            assert_eq!(
                shown(&drawn),
                naive(column, 7_200),
                "{what}: two hours of column {column}"
            );
        }
        let drawn = draw(history, 0, 11);
        assert_eq!((drawn.resolution_s, drawn.points.len()), (0, 11), "{what}");
    };
    check(&history, "at once");
    drop(history);
    let history = open(dir.path());
    history.restore(&saved).unwrap();
    check(&history, "after a start");
    // Without any summary the samples answer, and the start makes one anew.
    for path in files(dir.path(), ".1h.dws") {
        fs::remove_file(path).unwrap();
    }
    check(&history, "summaries gone");
    let sealing = history.begin_seal();
    check(&history, "while an hour is being sealed");
    history.seal(&sealing, 4, Timestamp::UNIX_EPOCH).unwrap();
    check(&history, "sealed, not summarised");
    drop(history);
    let history = open(dir.path());
    assert_eq!(
        files(dir.path(), ".1h.dws").len(),
        1,
        "a start is not held up by all of them"
    );
    check(&history, "one made");
    history.summarise().unwrap();
    assert_eq!(files(dir.path(), ".1h.dws").len(), 4);
    check(&history, "all made");
    // What a reader finds that took the head before the sealing ended, and the files after it.
    let (time_ms, values) = sample(3_599);
    let row = Row {
        time_ms,
        schema: schema().id(),
        values: values.to_vec().into(),
        position: 4,
    };
    history.head().push(HOST, row);
    check(&history, "in head and file");
}

#[test]
fn a_crash_between_the_two_files_is_made_good() {
    let dir = tempfile::tempdir().unwrap();
    let history = house(dir.path());
    drop(history);
    let newest = files(dir.path(), ".1h.dws").pop().unwrap();
    let was = fs::read(&newest).unwrap();
    // Not yet begun, and killed while it was written.
    for torn in [None, Some(&was[..40])] {
        fs::remove_file(&newest).unwrap();
        let tmp = newest.with_extension("tmp");
        if let Some(torn) = torn {
            fs::write(&tmp, torn).unwrap();
        }
        drop(open(dir.path()));
        assert_eq!(fs::read(&newest).unwrap(), was);
        assert!(!tmp.exists());
    }
}

#[test]
fn a_damaged_summary_stops_no_start_and_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path());
    push(&history, 1, 0..400);
    seal(&history, 1, 4_000);
    drop(history);
    let path = files(dir.path(), ".1h.dws").pop().unwrap();
    let whole = fs::read(&path).unwrap();
    let at = SummaryAt::of_name(path.file_name().unwrap().to_str().unwrap()).unwrap();
    // Every series of every host: damage concerns those that it is in.
    let read = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let dir = dir.path().join("history");
        let schema = schema();
        let mut all = schema.series().iter();
        all.try_for_each(|series| file::read(&dir, &at, None, series).map(drop))
    };
    assert!(read(&whole).is_ok());
    for i in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[i] ^= 1 << (i % 8);
        assert!(
            read(&flipped).is_err(),
            "flip at byte {i} of {}",
            whole.len()
        );
        assert!(read(&whole[..i]).is_err(), "cut at {i}");
    }
    let history = open(dir.path());
    let drawn = draw(&history, 0, 5);
    let in_hours = |drawn: &Drawn| {
        drawn
            .points
            .iter()
            .map(|(_, value)| *value)
            .collect::<Vec<_>>()
    };
    assert_eq!((drawn.samples, drawn.resolution_s), (376, 7_200));
    assert_eq!(
        fs::read(&path).unwrap(),
        whole[..whole.len() - 1],
        "still cut"
    );
    history.summarise().unwrap();
    assert_eq!(fs::read(&path).unwrap(), whole, "made anew");
    assert_eq!(in_hours(&draw(&history, 0, 5)), in_hours(&drawn));

    // Where the samples are gone it is said, and what else is there is shown.
    history.expire_now();
    assert_eq!(files(dir.path(), ".dwh").len(), 0);
    fs::write(&path, &whole[..50]).unwrap();
    assert_eq!(
        in_hours(&draw(&history, 0, 5)),
        in_hours(&drawn),
        "of the 5-minute ones"
    );
    fs::write(&files(dir.path(), ".5m.dws")[0], b"DWSM").unwrap();
    let found = open(dir.path()).draw(&Wanted {
        hosts: &[HOST],
        series: &schema().series()[0],
        from: Timestamp::UNIX_EPOCH,
        to: Timestamp::from_second(36_000).unwrap(),
        points: 5,
    });
    assert_eq!(
        (found.points.len(), found.damaged.len()),
        (0, 2),
        "{:?}",
        found.damaged
    );
}

#[test]
fn what_expires_leaves_five_minutes() {
    let dir = tempfile::tempdir().unwrap();
    let history = house(dir.path());
    assert_eq!(files(dir.path(), ".5m.dws").len(), 0);
    history.expire_now();
    let count = |end| files(dir.path(), end).len();
    assert_eq!(
        (count(".dwh"), count(".1h.dws"), count(".5m.dws")),
        (0, 3, 3)
    );
    for column in 0..3 {
        let close = draw(&history, column, 1_000);
        assert_eq!(close.resolution_s, FIVE_MINUTES_S);
        assert_eq!(shown(&close), naive(column, 300), "column {column}");
        assert_eq!(shown(&draw(&history, column, 10)), naive(column, 3_600));
    }
    assert_eq!(draw(&history, 0, 60).resolution_s, 600);
    // Of the head alone there are samples.
    let late = history.draw(&Wanted {
        hosts: &[HOST],
        series: &schema().series()[2],
        from: Timestamp::from_second(33_100).unwrap(),
        to: Timestamp::from_second(36_000).unwrap(),
        points: 1_000,
    });
    assert_eq!((late.resolution_s, late.points.len()), (0, 290));
    // Without the 5-minute ones the hours answer.
    for path in files(dir.path(), ".5m.dws") {
        fs::remove_file(path).unwrap();
    }
    let saved = crate::checkpoint::whole(&history.save());
    let history = open(dir.path());
    history.restore(&saved).unwrap();
    let close = draw(&history, 0, 1_000);
    assert_eq!(
        (close.resolution_s, shown(&close)),
        (HOUR_S, naive(0, 3_600))
    );
}

#[test]
fn summaries_go_after_three_years() {
    let dir = tempfile::tempdir().unwrap();
    let history = house(dir.path());
    history.expire_now();
    let late = Timestamp::from_second(4 * YEAR_S).unwrap();
    history.expire_summaries(late).unwrap();
    assert_eq!(
        files(dir.path(), ".dws").len(),
        6,
        "a clock set wrong costs nothing"
    );
    let early = Timestamp::from_second(3 * YEAR_S + 31_500).unwrap();
    history.expire_summaries_but(0, early).unwrap();
    assert_eq!(
        files(dir.path(), ".dws").len(),
        2,
        "the last hour is younger"
    );
    history.expire_summaries_but(1, late).unwrap();
    assert_eq!(files(dir.path(), ".dws").len(), 2);
    history.expire_summaries_but(0, late).unwrap();
    assert_eq!(files(dir.path(), ".dws").len(), 0);
    // Nothing older than the head is known, so its samples answer, those that could not be read among them.
    assert_eq!(draw(&history, 0, 10).samples, 300, "the head");
}

/// Hosts over three groups, each with its own level; every tenth has another schema with another quantum.
fn fleet(dir: &Path) -> (History, Vec<HostId>) {
    let history = open(dir);
    let other = Schema::new(vec![
        Series::new("y_bytes", Kind::Gauge),
        Series::new("x_bytes", Kind::Gauge).quantum(1, 2),
    ]);
    let hosts: Vec<HostId> = (1..=150).map(|number| HostId(number << 64)).collect();
    for (host, number) in hosts.iter().zip(1i64..) {
        let plain = number % 10 != 0;
        let schema = if plain { schema() } else { other.clone() };
        history.schema(*host, &schema).unwrap();
        for i in 0..400i64 {
            let level = number * 1_000 + noise(i);
            let values = match plain {
                true => vec![level, i * number, 5],
                false => vec![5, level / 2],
            };
            let row = Row {
                time_ms: i * 10_000,
                schema: schema.id(),
                values: values.into(),
                position: u64::try_from(i / 150).unwrap() + 1,
            };
            history.push(*host, row, history.through());
        }
    }
    (history, hosts)
}

/// What `fleet` says of a host, reckoned by hand: minimum, mean, maximum, last.
fn by_hand(number: i64) -> [f64; 4] {
    let level = |i: i64| {
        let level = number * 1_000 + noise(i);
        if number % 10 == 0 {
            (level / 2) as f64 / 2.0
        } else {
            level as f64 / 4.0
        }
    };
    let all: Vec<f64> = (0..400).map(level).collect();
    let least = all.iter().copied().fold(f64::INFINITY, f64::min);
    let most = all.iter().copied().fold(0.0, f64::max);
    [least, all.iter().sum::<f64>() / 400.0, most, all[399]]
}

#[test]
fn a_series_of_all_hosts_is_what_its_samples_come_to() {
    let dir = tempfile::tempdir().unwrap();
    let (history, hosts) = fleet(dir.path());
    let series = history.named("x_bytes").unwrap();
    let day = (
        Timestamp::UNIX_EPOCH,
        Timestamp::from_second(86_400).unwrap(),
    );
    let check = |history: &History, what: &str| {
        let found = history.fleet(&series, day, &|host| host);
        assert_eq!((found.hosts.len(), found.damaged.len()), (150, 0), "{what}");
        for (host, number) in hosts.iter().zip(1i64..) {
            let one = &found.hosts[host];
            let [least, mean, most, last] = by_hand(number);
            assert_eq!(
                (one.samples, one.min, one.max, one.last),
                (400, Some(least), most, Some(last)),
                "{what}: host {number}"
            );
            assert!((one.mean - mean).abs() < 1e-6, "{what}: host {number}");
        }
    };
    check(&history, "in the head");
    let sealing = history.begin_seal();
    check(&history, "while it is being sealed");
    history
        .seal(&sealing, 9, Timestamp::from_second(4_000).unwrap())
        .unwrap();
    check(&history, "in an hour file alone");
    history.summarise().unwrap();
    check(&history, "in summaries");
    history.expire_now();
    check(&history, "samples gone");

    let rates = history.fleet(&history.named("x_total").unwrap(), day, &|host| host);
    assert_eq!(rates.hosts.len(), 135, "every tenth host has none");
    let third = rates.hosts[&hosts[2]];
    assert_eq!((third.mean, third.max, third.min), (0.3, 0.3, None));
    let early = {
        let second = Timestamp::from_second(1).unwrap();
        // The second host is the first one, set up anew.
        let merged = |host| if host == hosts[1] { hosts[0] } else { host };
        history.fleet(&series, (day.0, second), &merged)
    };
    assert_eq!(early.hosts[&hosts[2]].samples, 360, "the whole first hour");
    assert_eq!(
        early.hosts[&hosts[0]].samples, 720,
        "and that of its other name"
    );
    assert_eq!(early.hosts.len(), 149);
    assert_eq!(history.named("x_byte"), None);
    assert_eq!(history.notations_with("_bytes", 9), ["x_bytes", "y_bytes"]);
}

#[test]
fn hosts_leave_a_file_of_many() {
    let dir = tempfile::tempdir().unwrap();
    let (history, hosts) = fleet(dir.path());
    seal(&history, 9, 4_000);
    let path = files(dir.path(), ".dws").remove(0);
    let at = SummaryAt::of_name(path.file_name().unwrap().to_str().unwrap()).unwrap();
    let series = history.named("x_bytes").unwrap();
    let folder = dir.path().join("history");
    let read = || {
        let read = file::read(&folder, &at, None, &series);
        read.unwrap().unwrap().parts
    };
    let before = read();
    // A whole group, and some of the next one.
    let gone = |host: HostId| hosts[..70].contains(&host) || host == hosts[149];
    assert!(file::write_without(&folder, &at, gone).unwrap());
    let kept: Vec<_> = before
        .iter()
        .filter(|(host, _)| !gone(*host))
        .copied()
        .collect();
    assert_eq!(read(), kept);
    assert_eq!(file::check(&path, &at), Ok(0));
    let one = file::read(&folder, &at, Some(hosts[70]), &series);
    assert_eq!(one.unwrap().unwrap().parts, kept[..2]);
}

#[test]
fn a_percentile_is_of_all_samples() {
    let dir = tempfile::tempdir().unwrap();
    let (history, hosts) = fleet(dir.path());
    let series = history.named("x_bytes").unwrap();
    let day = (
        Timestamp::UNIX_EPOCH,
        Timestamp::from_second(86_400).unwrap(),
    );
    let of = |names: Vec<HostId>| {
        let found = history.percentiles([names].into_iter(), &series, day, 0.95);
        found[&hosts[0]]
    };
    let check = |found: f64, mut all: Vec<i64>, place: usize| {
        all.sort_unstable();
        assert!((found - all[place] as f64 / 4.0).abs() < 1e-9, "{found}");
    };
    let own: Vec<i64> = (0..400).map(|i| 1_000 + noise(i)).collect();
    check(of(vec![hosts[0]]), own.clone(), 380);
    // What it sent under another name before somebody said that it is this host.
    let before = HostId(77);
    history.schema(before, &schema()).unwrap();
    for i in 400..500i64 {
        let row = Row {
            time_ms: i * 10_000,
            schema: schema().id(),
            values: vec![9_000 + i, 0, 5].into(),
            position: 4,
        };
        history.push(before, row, history.through());
    }
    let all = own.into_iter().chain(9_400..9_500).collect();
    check(of(vec![hosts[0], before]), all, 475);
}

/// A night of nine hour files; three hosts, of which each is away in some hours.
fn night(dir: &Path) -> History {
    let history = open(dir);
    for host in 2..4 {
        history.schema(HostId(host), &schema()).unwrap();
    }
    for hour in 0..9 {
        for host in (1..4).filter(|host| (hour + host) % 4 != 0) {
            for i in hour * 360..(hour + 1) * 360 {
                let (time_ms, values) = sample(i + 10_000 * host);
                let row = Row {
                    time_ms: time_ms - 100_000_000 * host,
                    schema: schema().id(),
                    values: values.to_vec().into(),
                    position: u64::try_from(hour).unwrap() + 1,
                };
                history.push(HostId(host.unsigned_abs().into()), row, history.through());
            }
        }
        seal(
            &history,
            u64::try_from(hour).unwrap() + 1,
            (hour + 1) * 3_600,
        );
    }
    history
}

#[test]
fn two_threads_read_what_one_would() {
    let dir = tempfile::tempdir().unwrap();
    drop(night(dir.path()));
    let span = |to| {
        let at = |s| Timestamp::from_second(s).unwrap();
        (at(0), at(to))
    };
    let fleet = |history: &History, name: &str| {
        let series = history.named(name).unwrap();
        history.fleet(&series, span(9 * 3_600), &|host| host)
    };
    let history = open(dir.path());
    let (levels, counts) = (fleet(&history, "x_bytes"), fleet(&history, "x_total"));
    for host in 1..4 {
        let there = || (0..9).filter(|hour| (hour + host) % 4 != 0);
        let numbers = there().flat_map(|hour| hour * 360..(hour + 1) * 360);
        let values = numbers.map(|i| sample(i + 10_000 * host).1[0]);
        let values: Vec<i64> = values.filter(|value| *value != MISSING).collect();
        let id = HostId(host.unsigned_abs().into());
        let total = levels.hosts[&id];
        assert_eq!(total.samples, values.len() as u64, "host {host}");
        let least = *values.iter().min().unwrap() as f64 / 4.0;
        assert_eq!(total.min, Some(least), "host {host}");
        assert_eq!(counts.hosts[&id].samples, 360 * there().count() as u64);
    }
    // What a few hours come to is read by one thread.
    let series = history.named("x_bytes").unwrap();
    let few = history.fleet(&series, span(3 * 3_600), &|host| host);
    assert_eq!(few.hosts.len(), 3);

    // Damaged summaries at an even and at an odd place: the samples answer.
    for path in &files(dir.path(), ".dws")[2..4] {
        let mut bytes = fs::read(path).unwrap();
        bytes[40] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    let history = open(dir.path());
    assert_eq!(fleet(&history, "x_bytes"), levels);
    let history = open(dir.path());
    assert_eq!(fleet(&history, "x_total"), counts);
    assert_eq!(files(dir.path(), ".dws").len(), 9);
}

#[test]
fn a_summary_that_cannot_be_read_is_told_in_every_answer() {
    let dir = tempfile::tempdir().unwrap();
    let history = night(dir.path());
    history.expire_now();
    let hourly = &files(dir.path(), ".1h.dws")[3];
    fs::write(hourly, b"DWSM").unwrap();
    let series = history.named("x_bytes").unwrap();
    let at = |s| Timestamp::from_second(s).unwrap();
    let answer = || history.fleet(&series, (at(0), at(9 * 3_600)), &|host| host);
    let first = answer();
    assert_eq!(first.damaged.len(), 1);
    assert_eq!(answer(), first);
}
