use dawnwatch_proto::Kind;
use dawnwatch_proto::event::{Event, EventBody};
use dawnwatch_segment::RealDisk;

use super::events::Wanted;
use super::*;

const HOST: HostId = HostId(7);

fn series() -> Series {
    Series::new("node_load1", Kind::Gauge)
}

fn open(dir: &Path) -> History {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (history, damage) = History::open(&disk, dir).unwrap();
    assert_eq!(damage, [""; 0]);
    history
}

fn schema() -> Schema {
    Schema::new(vec![series()])
}

/// A row a second; its position in the journal is its number.
fn push(history: &History, numbers: impl Iterator<Item = u64>) {
    let through = history.through();
    for position in numbers {
        let row = Row {
            time_ms: i64::try_from(position).unwrap() * 1_000,
            schema: schema().id(),
            values: vec![i64::try_from(position).unwrap()].into(),
            position,
        };
        history.push(HOST, row, through);
    }
}

/// The numbers that history holds, and how many it held twice.
fn held(history: &History) -> (Vec<i64>, u64) {
    let to = Timestamp::from_second(1_000_000).unwrap();
    let points = history.read(HOST, &series(), Timestamp::UNIX_EPOCH, to);
    assert_eq!(points.damaged, [""; 0]);
    let values = points.raw.iter().map(|(_, value)| *value);
    (values.collect(), points.repeated)
}

fn all(to: i64) -> (Vec<i64>, u64) {
    ((1..=to).collect(), 0)
}

#[test]
fn a_crash_after_the_rename_doubles_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path());
    history.schema(HOST, &schema()).unwrap();
    push(&history, 1..=150);
    let before = crate::checkpoint::whole(&history.save());
    push(&history, 151..=170);
    let sealing = history.begin_seal();
    push(&history, 171..=200);
    let between = crate::checkpoint::whole(&history.save());
    assert_eq!(held(&history), all(200), "while it is being sealed");
    history.seal(&sealing, 170, Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(held(&history), all(200), "after it");
    push(&history, 201..=230);
    drop(history);

    // From a checkpoint before the sealing, from one during it, and from none: the journal is replayed from there.
    for (saved, from) in [(before.as_slice(), 151), (&between, 201), (&[], 1)] {
        let history = open(dir.path());
        assert_eq!(history.through(), 170);
        history.restore(saved).unwrap();
        push(&history, from..=230);
        assert_eq!(held(&history), all(230), "replayed from {from}");
    }
}

#[test]
fn an_hour_that_cannot_be_written_stays_in_the_head() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path());
    history.schema(HOST, &schema()).unwrap();
    push(&history, 1..=10);
    let sealing = history.begin_seal();
    push(&history, 11..=20);
    let in_the_way = dir.path().join("history").join(format!("{:020}.tmp", 10));
    fs::create_dir(&in_the_way).unwrap();
    history
        .seal(&sealing, 10, Timestamp::UNIX_EPOCH)
        .unwrap_err();
    assert_eq!((history.through(), held(&history)), (0, all(20)));
    fs::remove_dir(&in_the_way).unwrap();
    let sealing = history.begin_seal();
    history.seal(&sealing, 20, Timestamp::UNIX_EPOCH).unwrap();
    push(&history, 1..=25);
    assert_eq!((history.through(), held(&history)), (20, all(25)));
}

#[test]
fn a_clock_a_year_ahead_removes_nothing_that_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path());
    history.schema(HOST, &schema()).unwrap();
    for hour in 1..=3 {
        push(&history, hour..=hour);
        let sealing = history.begin_seal();
        let now = Timestamp::from_second(i64::try_from(hour).unwrap() * 3_600).unwrap();
        history.seal(&sealing, hour, now).unwrap();
    }
    let year = Timestamp::from_second(366 * 86_400).unwrap();
    history.expire(year).unwrap();
    assert_eq!(held(&history), all(3));
    let early = Timestamp::from_second(RAW_DAYS * 86_400).unwrap();
    history.expire_all_but(1, early).unwrap();
    assert_eq!(held(&history), all(3), "none is older than that");
    // One that somebody removed already does not keep the others.
    fs::remove_file(dir.path().join("history").join(format!("{:020}.dwh", 1))).unwrap();
    history.expire_all_but(1, year).unwrap();
    assert_eq!(held(&history).0, [3]);
    assert_eq!(held(&open(dir.path())).0, [3]);
}

#[test]
fn an_hour_that_was_sealed_by_a_clock_ten_years_ahead_keeps_none_of_the_later_ones() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path());
    history.schema(HOST, &schema()).unwrap();
    let day = |days: i64| Timestamp::from_second(days * 86_400).unwrap();
    for (number, days) in [(1, 1), (2, 3_650), (3, 2), (4, 3), (5, 40)] {
        push(&history, number..=number);
        let sealing = history.begin_seal();
        history.seal(&sealing, number, day(days)).unwrap();
    }
    history.expire_all_but(1, day(36)).unwrap();
    assert_eq!(held(&history), all(5), "the first is not older than that");
    history.expire_all_but(1, day(37)).unwrap();
    assert_eq!(held(&history).0, [2, 3, 4, 5]);
    history.expire_all_but(1, day(38)).unwrap();
    assert_eq!(held(&history).0, [4, 5]);
    history.expire_all_but(1, day(60)).unwrap();
    assert_eq!(held(&history).0, [5]);
}

fn trouble(number: u64) -> Event {
    Event {
        time: Timestamp::UNIX_EPOCH,
        body: EventBody::Trouble {
            subject: "n".to_owned(),
            text: number.to_string(),
        },
    }
}

/// An event a second, of two hosts in turn; its position in the journal is its number.
fn push_events(history: &History, numbers: impl Iterator<Item = u64>) {
    let through = history.through();
    for number in numbers {
        let at = Timestamp::from_second(i64::try_from(number).unwrap()).unwrap();
        let row = EventRow::of(&trouble(number), at, number);
        history.push_event(HostId(u128::from(number % 2)), row, through);
    }
}

fn events_held(
    history: &History,
    host: Option<HostId>,
    span: (i64, i64),
    limit: usize,
) -> Vec<u64> {
    let at = |second| Timestamp::from_second(second).unwrap();
    let found = history.events(host, at(span.0), at(span.1), limit);
    let number = |(host, at, event): &(HostId, Timestamp, Event)| {
        let number = u64::try_from(at.as_second()).unwrap();
        assert_eq!(
            (event, *host),
            (&trouble(number), HostId(u128::from(number % 2)))
        );
        number
    };
    found.iter().map(number).collect()
}

#[test]
fn events_are_held_exactly_once_over_sealing_and_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path());
    let held = |history: &History| events_held(history, None, (0, 1_000), 1_000);
    let all = |to: u64| (1..=to).collect::<Vec<u64>>();
    push_events(&history, 1..=150);
    let before = crate::checkpoint::whole(&history.save());
    push_events(&history, 151..=170);
    let sealing = history.begin_seal();
    push_events(&history, 171..=200);
    let between = crate::checkpoint::whole(&history.save());
    assert_eq!(held(&history), all(200), "while they are being sealed");
    history.seal(&sealing, 170, Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(held(&history), all(200), "after it");
    push_events(&history, 201..=230);
    assert_eq!(
        events_held(&history, None, (160, 180), 1_000),
        (160..180).collect::<Vec<_>>()
    );
    assert_eq!(
        events_held(&history, Some(HostId(1)), (166, 176), 3),
        [171, 173, 175]
    );
    assert_eq!(events_held(&history, None, (0, 1_000), 2), [229, 230]);
    let wanted = Wanted {
        host: None,
        from: Timestamp::UNIX_EPOCH,
        to: Timestamp::from_second(150).unwrap(),
        limit: 2,
    };
    let odd = |_: HostId, event: &Event| matches!(&event.body, EventBody::Trouble { text, .. } if text.ends_with('1'));
    let found = history.events_where(&wanted, odd);
    let numbers: Vec<i64> = found
        .events
        .iter()
        .map(|(_, at, _)| at.as_second())
        .collect();
    assert_eq!((numbers, found.more), (vec![131, 141], true));
    drop(history);
    for (saved, from) in [(before.as_slice(), 151), (&between, 201), (&[], 1)] {
        let history = open(dir.path());
        history.restore(saved).unwrap();
        push_events(&history, from..=230);
        assert_eq!(held(&history), all(230), "replayed from {from}");
        let sealing = history.begin_seal();
        history.undo_seal();
        drop(sealing);
        assert_eq!(held(&history), all(230), "put back");
    }
}

#[test]
fn events_of_a_host_are_those_of_before_it_was_merged_too() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path());
    // Of host 1, then of host 0, in turn.
    push_events(&history, 1..=6);
    let found = |limit, before: &[HostId]| {
        let wanted = Wanted {
            host: Some(HostId(1)),
            from: Timestamp::UNIX_EPOCH,
            to: Timestamp::from_second(60).unwrap(),
            limit,
        };
        let found = history.events_joined(&wanted, before, |_| true);
        let times = found.events.iter().map(|(_, at, _)| at.as_second());
        (times.collect::<Vec<_>>(), found.more)
    };
    assert_eq!(found(9, &[]), (vec![1, 3, 5], false));
    assert_eq!(found(9, &[HostId(0)]), ((1..=6).collect(), false));
    assert_eq!(found(2, &[HostId(0)]), (vec![5, 6], true));
}

#[test]
fn what_a_host_sent_within_a_span_is_known_though_it_sends_it_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path());
    let gone = Series::new("disk_up", Kind::Gauge);
    let of = |seconds: std::ops::Range<u64>, schema: &Schema| {
        history.schema(HOST, schema).unwrap();
        for position in seconds {
            let row = Row {
                time_ms: i64::try_from(position).unwrap() * 1_000,
                schema: schema.id(),
                values: vec![1; schema.series().len()].into(),
                position,
            };
            history.push(HOST, row, 0);
        }
    };
    of(1..100, &Schema::new(vec![series(), gone.clone()]));
    of(100..300, &schema());
    let at = |s| Timestamp::from_second(s).unwrap();
    let within = |from, to| history.series_within(&[HOST], at(from), at(to));
    assert_eq!(within(290, 300), [series()]);
    for what in ["in the head", "in a file"] {
        assert_eq!(within(0, 300), [series(), gone.clone()], "{what}");
        assert_eq!(history.series(HOST), [series()], "{what}");
        let sealing = history.begin_seal();
        history.seal(&sealing, 300, at(300)).unwrap();
    }
    assert_eq!(history.series_within(&[HostId(8)], at(0), at(300)), []);
}

#[test]
fn a_storm_of_events_makes_the_head_heavy_until_it_is_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path());
    let line = EventBody::Line(dawnwatch_proto::event::Line {
        text: "x".repeat(64 * 1024),
        ..Default::default()
    });
    let event = Event {
        time: Timestamp::UNIX_EPOCH,
        body: line,
    };
    let pushed = (1u64..).take_while(|position| {
        history.push_event(
            HOST,
            EventRow::of(&event, Timestamp::UNIX_EPOCH, *position),
            0,
        );
        !history.is_heavy()
    });
    assert!((1_000..1_100).contains(&pushed.count()));
    let sealing = history.begin_seal();
    assert!(!history.is_heavy());
    history.undo_seal();
    drop(sealing);
    assert!(history.is_heavy());
}

/// Puts an hour of two hosts into a file, with its summaries.
fn hour_of_two(history: &History, other: HostId) {
    let through = history.through();
    history.schema(HOST, &schema()).unwrap();
    push(history, 1..=150);
    for position in 1..=150u64 {
        let row = Row {
            time_ms: i64::try_from(position).unwrap() * 1_000,
            schema: schema().id(),
            values: vec![7].into(),
            position,
        };
        history.push(other, row, through);
    }
    for host in [HOST, other] {
        let (time, body) = (Timestamp::UNIX_EPOCH, EventBody::Unknown);
        let event = EventRow::of(&Event { time, body }, time, 150);
        history.push_event(host, event, through);
    }
    let sealing = history.begin_seal();
    history.seal(&sealing, 150, Timestamp::UNIX_EPOCH).unwrap();
    history.summarise().unwrap();
}

#[test]
fn an_erased_host_leaves_the_files_and_the_other_stays() {
    let dir = tempfile::tempdir().unwrap();
    let other = HostId(9);
    let history = open(dir.path());
    hour_of_two(&history, other);
    push(&history, 151..=160);
    let saved = crate::checkpoint::whole(&history.save());
    let hosts = std::collections::BTreeSet::from([other]);
    let holding = |history: &History| {
        let mut files = history.holding(&hosts);
        files.retain(|one| matches!(one, erased::Holding::Raw(_)));
        files.len()
    };
    assert_eq!(holding(&history), 1);
    history.erase(other).unwrap();
    let wanted = Wanted {
        host: None,
        from: Timestamp::UNIX_EPOCH,
        to: Timestamp::from_second(1_000_000).unwrap(),
        limit: 10,
    };
    let shown = |history: &History| {
        let events = history.events_where(&wanted, |_, _| true).events;
        let hosts: Vec<HostId> = events.into_iter().map(|(host, ..)| host).collect();
        let points = history.read(other, &series(), wanted.from, wanted.to);
        (hosts, points.raw.len(), history.series(other).len())
    };
    assert_eq!(
        shown(&history),
        (vec![HOST], 0, 0),
        "at once, before any file is written anew"
    );
    drop(history);

    // A crash here: what is to be done is known, and a checkpoint of before brings nothing back.
    let history = open(dir.path());
    history.restore(&saved).unwrap();
    assert_eq!(history.erasing(), hosts);
    let written = |history: &History| {
        let files = history.holding(&hosts);
        let anew = files
            .iter()
            .map(|one| history.write_without(*one, &hosts).unwrap());
        anew.filter(|anew| *anew).count()
    };
    assert_eq!(written(&history), 2, "the hour file and its summaries");
    assert_eq!(written(&history), 0, "once is enough");
    history.erase_done(&hosts).unwrap();
    assert_eq!(shown(&history), (vec![HOST], 0, 0));
    assert_eq!(held(&history), all(160));
    drop(history);

    // Nothing of it is in the files, also for who knows nothing of its erasing.
    std::fs::remove_file(dir.path().join("history/erased")).unwrap();
    let history = open(dir.path());
    assert_eq!(holding(&history), 0);
    assert_eq!(shown(&history), (vec![HOST], 0, 0));
    for at in history.summaries().values() {
        let of = |host| {
            summary::file::read(&history.dir, at, Some(host), &series())
                .unwrap()
                .unwrap()
        };
        let path = history.dir.join(at.name());
        assert_eq!(summary::file::check(&path, at), Ok(0));
        assert!(of(other).parts.is_empty());
        assert!(!of(HOST).parts.is_empty());
    }
}

#[test]
fn what_is_damaged_keeps_no_erased_host_in_the_other_files() {
    let dir = tempfile::tempdir().unwrap();
    let other = HostId(9);
    let history = open(dir.path());
    hour_of_two(&history, other);
    let hosts = std::collections::BTreeSet::from([other]);
    history.erase(other).unwrap();
    let files = history.holding(&hosts);
    let [
        erased::Holding::Raw(through),
        summary @ erased::Holding::Summary(at),
    ] = files[..]
    else {
        panic!("{files:?}");
    };
    // A disk that gives back less than it took: no later try will do better, so others are not kept waiting.
    let raw = history.hour_files().remove(0).1;
    let whole = fs::read(&raw).unwrap();
    fs::write(&raw, &whole[..40]).unwrap();
    let holding = erased::Holding::Raw(through);
    let refused = history.write_without(holding, &hosts).unwrap_err();
    assert!(matches!(refused, Error::Damaged { .. }), "{refused}");
    assert!(!raw.with_extension("tmp").exists());
    fs::write(&raw, &whole).unwrap();
    assert!(history.write_without(holding, &hosts).unwrap());

    // A summary that cannot be written without it goes, and its hour makes it anew.
    let path = history.dir.join(at.name());
    fs::write(&path, b"DWSM").unwrap();
    assert!(history.write_without(summary, &hosts).unwrap());
    assert!(!path.exists());
    history.summarise().unwrap();
    let made = history.summaries().values().next().copied().unwrap();
    let read = summary::file::read(&history.dir, &made, None, &series());
    let parts = read.unwrap().unwrap().parts;
    assert!(!parts.is_empty() && parts.iter().all(|(host, _)| *host == HOST));
}

#[test]
fn a_summary_that_is_made_while_a_host_is_erased_is_made_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let other = HostId(9);
    let history = open(dir.path());
    hour_of_two(&history, other);
    let hosts = std::collections::BTreeSet::from([other]);
    history.erase(other).unwrap();
    let files = history.holding(&hosts);
    // The hour's time comes after the files were listed and before its turn: its 5-minute summaries are made of all of it.
    history.expire_now();
    for one in files {
        history.write_without(one, &hosts).unwrap();
    }
    history.erase_done(&hosts).unwrap();
    assert_eq!(history.summaries().len(), 2);
    for at in history.summaries().values() {
        let path = history.dir.join(at.name());
        assert_eq!(summary::file::check(&path, at), Ok(0));
        let read = summary::file::read(&history.dir, at, None, &series());
        let parts = read.unwrap().unwrap().parts;
        assert!(parts.iter().any(|(host, _)| *host == HOST));
        assert!(!parts.iter().any(|(host, _)| *host == other), "{at:?}");
    }
}

#[test]
fn an_hour_that_is_being_sealed_is_written_without_a_host_that_was_erased_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path());
    history.schema(HOST, &schema()).unwrap();
    push(&history, 1..=150);
    let sealing = history.begin_seal();
    history.erase(HOST).unwrap();
    push(&history, 151..=160);
    history.seal(&sealing, 150, Timestamp::UNIX_EPOCH).unwrap();
    let hosts = std::collections::BTreeSet::from([HOST]);
    let raw = history.holding(&hosts).into_iter();
    assert_eq!(
        raw.filter(|one| matches!(one, erased::Holding::Raw(_)))
            .count(),
        0
    );
    assert_eq!(held(&history), all(0));
}
