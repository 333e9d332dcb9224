//! The spool over a simulated disk: whatever happens, what is read and what is counted as gone is what was written.

use std::path::Path;
use std::sync::Arc;

use dawnwatch_proto::event::GoodbyeReason;
use dawnwatch_proto::{Event, EventBody, Gap, Item};
use dawnwatch_segment::hooked::Hooked;
use dawnwatch_segment::sim::{Call, Failure, SimDisk};
use proptest::prelude::*;

use super::hooks::Mood;
use super::*;

const DIR: &str = "/state/spool";

/// Small enough that a few hundred ticks are many segments.
const SMALL: Limits = Limits {
    bytes_max: 64 * 1024,
    items_max: u64::MAX,
};
const LARGE: Limits = Limits {
    bytes_max: 1 << 30,
    items_max: u64::MAX,
};

fn open(disk: &Arc<SimDisk>, limits: Limits, id: u64) -> Spool {
    Spool::open(
        Arc::clone(disk) as Arc<dyn Disk>,
        Path::new(DIR),
        limits,
        Start {
            id,
            at: sample::time(0),
        },
    )
    .unwrap()
}

fn tick(spool: &mut Spool, n: u64) {
    let (tick, schema) = sample::tick(n);
    spool.append_tick(&tick, &schema);
}

fn all(spool: &mut Spool, epoch: u64, from: u64) -> Vec<Entry> {
    let mut cursor = Cursor::new(epoch, from);
    let mut out = Vec::new();
    loop {
        let some = spool.read(&mut cursor, 7, 1 << 20);
        if some.is_empty() {
            return out;
        }
        out.extend(some);
    }
}

/// Numbers follow each other from `from`; gives (ticks read, events read, ticks gone, events gone).
fn tally(entries: &[Entry], from: u64) -> (u64, u64, u64, u64) {
    let mut next = from;
    let mut sum = (0, 0, 0, 0);
    for entry in entries {
        assert_eq!(entry.seq, next, "{entry:?}");
        next = entry.last_seq() + 1;
        match &entry.item {
            Item::Tick(_) => sum.0 += 1,
            Item::Event(_) => sum.1 += 1,
            Item::Gap(gap) => (sum.2, sum.3) = (sum.2 + gap.ticks, sum.3 + gap.events),
        }
    }
    sum
}

#[test]
fn what_goes_in_comes_out_from_any_number_on() {
    let disk = Arc::new(SimDisk::new(1));
    let mut spool = open(&disk, LARGE, 9);
    spool.append_event(sample::event_of(1));
    for n in 2..=500 {
        tick(&mut spool, n);
    }
    assert_eq!(
        spool.epochs(),
        [EpochSpan {
            id: 9,
            first_seq: 1,
            last_seq: 500
        }]
    );
    for from in [1, 2, 3, 180, 181, 182, 499, 500] {
        let entries = all(&mut spool, 9, from);
        assert_eq!(entries.len() as u64, 501 - from);
        for entry in &entries {
            match &entry.item {
                Item::Tick(tick) => {
                    assert_eq!(tick, &sample::tick(entry.seq).0);
                    assert_eq!(entry.schema.as_deref(), Some(&*sample::schema()));
                }
                item @ (Item::Event(_) | Item::Gap(_)) => assert_eq!(item, &sample::event(1)),
            }
        }
    }
    assert!(all(&mut spool, 9, 501).is_empty());
    assert!(all(&mut spool, 8, 1).is_empty());
}

#[test]
fn a_cursor_at_the_end_goes_on_with_what_comes() {
    let disk = Arc::new(SimDisk::new(1));
    let mut spool = open(&disk, SMALL, 9);
    let mut cursor = Cursor::new(9, 1);
    for n in 1..=2_000 {
        tick(&mut spool, n);
        let entries = spool.read(&mut cursor, 512, 1 << 20);
        assert_eq!(entries.len(), 1, "at {n}");
        assert_eq!(entries[0].item, Item::Tick(sample::tick(n).0));
        spool.ack(9, n);
    }
    assert_eq!(spool.backlog(), 0);
    assert!(
        spool.bytes() <= 2 * SMALL.segment_bytes() + 4_096,
        "{}",
        spool.bytes()
    );
}

#[test]
fn batches_are_bounded() {
    let disk = Arc::new(SimDisk::new(1));
    let mut spool = open(&disk, LARGE, 9);
    for n in 1..=1_000 {
        tick(&mut spool, n);
    }
    let mut cursor = Cursor::new(9, 1);
    assert_eq!(spool.read(&mut cursor, 512, 1 << 20).len(), 512);
    let entries = spool.read(&mut cursor, 512, 1_000);
    let bytes: usize = entries.iter().map(|e| e.bytes).sum();
    assert!(bytes < 4_000 && entries.len() > 10, "{bytes}");
    assert_eq!(entries[0].seq, 513);
}

#[test]
fn each_run_is_an_epoch_and_acknowledged_ones_go() {
    let disk = Arc::new(SimDisk::new(1));
    for run in 1..=5 {
        let mut spool = open(&disk, LARGE, run);
        for n in 1..=run * 10 {
            tick(&mut spool, n);
        }
    }
    let mut spool = open(&disk, LARGE, 6);
    let spans = spool.epochs();
    assert_eq!(spans.len(), 6);
    for (span, run) in spans.iter().zip(1..=5) {
        assert_eq!(
            *span,
            EpochSpan {
                id: run,
                first_seq: 1,
                last_seq: run * 10
            }
        );
        assert_eq!(tally(&all(&mut spool, run, 1), 1), (run * 10, 0, 0, 0));
    }
    assert_eq!(
        spans[5],
        EpochSpan {
            id: 6,
            first_seq: 1,
            last_seq: 0
        }
    );
    assert_eq!(spool.backlog(), 150);
    spool.ack(1, 10);
    spool.ack(2, 7);
    spool.ack(77, 7);
    assert_eq!(spool.epochs()[0].id, 2);
    assert_eq!(spool.backlog(), 133);
    spool.ack(2, u64::MAX);
    drop(spool);
    let spool = open(&disk, LARGE, 7);
    assert_eq!(
        spool.epochs().iter().map(|s| s.id).collect::<Vec<_>>(),
        [3, 4, 5, 7]
    );
}

#[test]
fn a_goodbye_makes_a_clean_stop() {
    let disk = Arc::new(SimDisk::new(1));
    let goodbye = EventBody::Goodbye(GoodbyeReason::Stopped);
    let mut spool = open(&disk, LARGE, 1);
    assert!(spool.last_stop_clean(), "there was no run before");
    tick(&mut spool, 1);
    let mut spool = open(&disk, LARGE, 2);
    assert!(!spool.last_stop_clean());
    spool.append_event(Event {
        time: sample::time(1),
        body: goodbye,
    });
    spool.ack(1, 1);
    spool.ack(2, 1);
    let spool = open(&disk, LARGE, 3);
    assert!(spool.last_stop_clean());
    let spool = {
        drop(spool);
        open(&disk, LARGE, 4)
    };
    assert!(
        spool.last_stop_clean(),
        "a run that wrote nothing changes nothing"
    );
}

#[test]
fn a_full_spool_drops_the_oldest_ticks_keeps_the_events_and_counts_all() {
    let disk = Arc::new(SimDisk::new(1));
    let mut spool = open(&disk, SMALL, 1);
    let (mut ticks, mut events) = (0, 0);
    for n in 1..=6_000 {
        if n % 100 == 0 {
            spool.append_event(sample::event_of(n));
            events += 1;
        } else {
            tick(&mut spool, n);
            ticks += 1;
        }
        assert!(spool.bytes() <= SMALL.bytes_max, "{} at {n}", spool.bytes());
    }
    for reopened in [false, true] {
        let entries = all(&mut spool, 1, 1);
        let (read, told, gone, unheard) = tally(&entries, 1);
        assert_eq!(
            (read + gone, told + unheard),
            (ticks, events),
            "reopened: {reopened}"
        );
        assert!(gone > 1_000, "nothing was dropped");
        assert_eq!(unheard, 0, "events outlive ticks");
        assert_eq!(entries.last().unwrap().seq, 6_000);
        let Item::Gap(Gap { reason, from, .. }) = &entries[0].item else {
            panic!("{entries:?}")
        };
        assert_eq!((*reason, *from), (GapReason::SpoolFull, sample::time(1)));
        for from in [2, 99, 100, 101, 2_345, 5_999] {
            let (read, told, gone, unheard) = tally(&all(&mut spool, 1, from), from);
            assert_eq!(read + told + gone + unheard, 6_001 - from, "from {from}");
        }
        spool = open(&disk, SMALL, 2);
    }
    spool.ack(1, 6_000);
    assert_eq!(spool.epochs().len(), 1);
    assert!(disk.content(&Path::new(DIR).join("kept")).is_none());
}

#[test]
fn a_cursor_survives_the_drop_of_what_it_stands_in() {
    let disk = Arc::new(SimDisk::new(1));
    let mut spool = open(&disk, SMALL, 1);
    for n in 1..=1_000 {
        tick(&mut spool, n);
    }
    let mut cursor = Cursor::new(1, 1);
    let mut entries = spool.read(&mut cursor, 10, 1 << 20);
    for n in 1_001..=5_000 {
        tick(&mut spool, n);
    }
    loop {
        let some = spool.read(&mut cursor, 512, 1 << 20);
        if some.is_empty() {
            break;
        }
        entries.extend(some);
    }
    let (read, _, gone, _) = tally(&entries, 1);
    assert_eq!(read + gone, 5_000);
    assert!(gone > 0);
}

#[test]
fn hours_are_counted_in_items() {
    let disk = Arc::new(SimDisk::new(1));
    let limits = Limits {
        bytes_max: 64 * 1024,
        items_max: 400,
    };
    let mut spool = open(&disk, limits, 1);
    for n in 1..=1_400 {
        tick(&mut spool, n);
    }
    let entries = all(&mut spool, 1, 1);
    let Item::Gap(gap) = &entries[0].item else {
        panic!("{entries:?}")
    };
    assert_eq!(gap.reason, GapReason::TooOld);
    let (read, _, gone, _) = tally(&entries, 1);
    assert_eq!(read + gone, 1_400);
    assert!((400..900).contains(&read), "{read}");
}

#[test]
fn a_full_disk_is_counted_and_heals() {
    let disk = Arc::new(SimDisk::new(1));
    let mut spool = open(&disk, LARGE, 1);
    for n in 1..=10 {
        tick(&mut spool, n);
    }
    assert!(spool.take_trouble().is_none());
    disk.set_capacity(Some(0));
    for n in 11..=60 {
        tick(&mut spool, n);
    }
    spool.append_event(sample::event_of(61));
    let trouble = spool.take_trouble().unwrap();
    assert!(
        trouble.contains("No space left") || trouble.contains("full"),
        "{trouble}"
    );
    assert!(spool.take_trouble().is_none(), "told once");
    disk.set_capacity(None);
    for n in 62..=70 {
        tick(&mut spool, n);
    }
    let spans = spool.epochs();
    let mut sum = (0, 0, 0, 0);
    for span in &spans {
        let (a, b, c, d) = tally(&all(&mut spool, span.id, 1), 1);
        sum = (sum.0 + a, sum.1 + b, sum.2 + c, sum.3 + d);
    }
    assert_eq!(sum, (19, 1, 50, 0), "{spans:?}");
}

#[test]
fn a_failed_sync_begins_a_new_epoch() {
    let disk = Arc::new(SimDisk::new(1));
    let mut spool = open(&disk, LARGE, 1);
    tick(&mut spool, 1);
    let before = spool.generation();
    disk.fail_nth(Call::Sync, 1, Failure::Eio);
    spool.sync();
    assert!(disk.fired(Call::Sync) > 0);
    tick(&mut spool, 2);
    assert_eq!(spool.generation(), before + 1);
    let mut sum = 0;
    for span in spool.epochs() {
        let (read, _, gone, _) = tally(&all(&mut spool, span.id, 1), 1);
        sum += read + gone;
    }
    assert_eq!(sum, 2, "{:?}", spool.epochs());
}

#[test]
fn crash_loops_do_not_grow_the_hello() {
    let disk = Arc::new(SimDisk::new(1));
    let runs = EPOCHS_MAX as u64 + 50;
    for run in 1..=runs {
        let mut spool = open(&disk, LARGE, run);
        spool.append_event(sample::event_of(run));
    }
    let mut spool = open(&disk, LARGE, runs + 1);
    spool.append_event(sample::event_of(1));
    let spans = spool.epochs();
    assert!(spans.len() <= EPOCHS_MAX, "{}", spans.len());
    let mut sum = 0;
    for span in spans {
        let (_, told, _, gone) = tally(&all(&mut spool, span.id, 1), 1);
        sum += told + gone;
    }
    assert_eq!(sum, runs + 1);
}

#[test]
fn a_damaged_frame_costs_at_most_its_chapter() {
    let disk = Arc::new(SimDisk::new(1));
    let mut spool = open(&disk, LARGE, 1);
    for n in 1..=600 {
        tick(&mut spool, n);
    }
    spool.sync();
    drop(spool);
    let path = Path::new(DIR).join(format!("{:020}.seg", 1));
    let mut bytes = disk.content(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    disk.put(&path, &bytes);
    let mut spool = open(&disk, LARGE, 2);
    let entries = all(&mut spool, 1, 1);
    let (read, _, gone, _) = tally(&entries, 1);
    assert_eq!(read + gone, 600);
    assert!(gone > 0 && gone <= 181, "{gone}");
    let damaged =
        |e: &Entry| matches!(&e.item, Item::Gap(g) if g.reason == GapReason::SpoolDamaged);
    assert!(entries.iter().any(damaged));
}

#[derive(Debug, Clone)]
enum Step {
    Ticks(u64),
    Event,
    Sync,
    Kill,
    Cut,
    AckSome(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1u64..400).prop_map(Step::Ticks),
        3 => Just(Step::Event),
        2 => Just(Step::Sync),
        2 => Just(Step::Kill),
        1 => Just(Step::Cut),
        2 => (1u64..100).prop_map(Step::AckSome),
    ];
    proptest::collection::vec(step, 1..40)
}

/// What one epoch was given, and what of it must survive a power cut.
#[derive(Debug, Clone, Copy, Default)]
struct Given {
    id: u64,
    items: u64,
    synced: u64,
    acked: u64,
    /// Up to here no power cut can have torn anything.
    solid: u64,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Kills and power cuts at any point: numbers stay whole, nothing synced is lost, nothing is invented.
    #[test]
    fn nothing_is_lost_uncounted(seed in any::<u64>(), steps in steps(), small in any::<bool>()) {
        let disk = Arc::new(SimDisk::new(seed));
        let limits = if small { SMALL } else { LARGE };
        let mut run = 1;
        let mut spool = open(&disk, limits, run);
        let mut given = vec![Given { id: run, ..Given::default() }];
        for step in steps {
            let last = given.len() - 1;
            match step {
                Step::Ticks(n) => {
                    for _ in 0..n {
                        given[last].items += 1;
                        tick(&mut spool, given[last].items);
                    }
                }
                Step::Event => {
                    given[last].items += 1;
                    spool.append_event(sample::event_of(given[last].items));
                }
                Step::Sync => {
                    spool.sync();
                    given[last].synced = given[last].items;
                }
                Step::AckSome(percent) => {
                    let Some(g) = given.iter_mut().find(|g| g.acked < g.items) else { continue };
                    g.acked += ((g.items - g.acked) * percent / 100).max(1);
                    spool.ack(g.id, g.acked);
                }
                Step::Kill | Step::Cut => {
                    drop(spool);
                    given[last].solid =
                        if matches!(step, Step::Cut) { given[last].synced } else { given[last].items };
                    if matches!(step, Step::Cut) {
                        disk.power_cut();
                    }
                    run += 1;
                    spool = open(&disk, limits, run);
                    if matches!(step, Step::Cut) {
                        // Opening makes durable what is left: that is the new truth.
                        for g in &mut given {
                            let left = spool.last_seq(g.id);
                            prop_assert!(left <= g.items);
                            prop_assert!(left >= g.synced || g.acked >= g.synced, "{g:?} left {left}");
                            if left > 0 || g.acked == 0 {
                                g.items = left;
                            } else {
                                g.items = g.acked;
                            }
                            g.acked = g.acked.min(g.items);
                        }
                    }
                    for g in &mut given {
                        g.synced = g.items;
                    }
                    given.push(Given { id: run, ..Given::default() });
                }
            }
        }
        let last = given.len() - 1;
        given[last].solid = given[last].items;
        for g in given.iter().filter(|g| g.acked < g.items) {
            let from = g.acked + 1;
            let entries = all(&mut spool, g.id, from);
            let (ticks, events, gone, unheard) = tally(&entries, from);
            prop_assert_eq!(ticks + events + gone + unheard, g.items - g.acked, "{:?}", g);
            for entry in &entries {
                match &entry.item {
                    Item::Tick(tick) => prop_assert_eq!(tick, &sample::tick(entry.seq).0),
                    item @ Item::Event(_) => prop_assert_eq!(item, &sample::event(entry.seq)),
                    Item::Gap(gap) => prop_assert!(small || gap.from_seq > g.solid, "{:?} {:?}", gap, g),
                }
            }
        }
    }
}

/// A spool of several runs, each of several segments, with `ticks` items a run; every tenth an event.
fn runs(disk: &Arc<SimDisk>, ticks: &[u64]) {
    let mut n = 0;
    for (run, ticks) in (1..).zip(ticks) {
        let mut spool = open_at(disk, MEDIUM, run, n);
        for _ in 0..*ticks {
            n += 1;
            if n % 10 == 0 {
                spool.append_event(sample::event_of(n));
            } else {
                tick(&mut spool, n);
            }
        }
        spool.sync();
    }
}

/// No drops at a few thousand ticks, and several segments a run.
const MEDIUM: Limits = Limits {
    bytes_max: 256 * 1024,
    items_max: u64::MAX,
};

fn open_at(disk: &Arc<SimDisk>, limits: Limits, id: u64, n: u64) -> Spool {
    let start = Start {
        id,
        at: sample::time(n),
    };
    Spool::open(
        Arc::clone(disk) as Arc<dyn Disk>,
        Path::new(DIR),
        limits,
        start,
    )
    .unwrap()
}

fn segments(disk: &SimDisk) -> Vec<std::path::PathBuf> {
    let mut names = disk.list(Path::new(DIR)).unwrap();
    names.retain(|name| name.ends_with(".seg"));
    names.sort();
    names.iter().map(|name| Path::new(DIR).join(name)).collect()
}

/// Everything of every epoch: (ticks read, events read, ticks gone, events gone), and its gaps.
fn everything(spool: &mut Spool) -> ((u64, u64, u64, u64), Vec<Gap>) {
    let (mut sum, mut gaps) = ((0, 0, 0, 0), Vec::new());
    for span in spool.epochs() {
        let entries = all(spool, span.id, 1);
        let (a, b, c, d) = tally(&entries, 1);
        sum = (sum.0 + a, sum.1 + b, sum.2 + c, sum.3 + d);
        for entry in entries {
            if let Item::Gap(gap) = entry.item {
                gaps.push(gap);
            }
        }
    }
    (sum, gaps)
}

#[test]
fn a_damaged_header_costs_nothing() {
    let disk = Arc::new(SimDisk::new(1));
    runs(&disk, &[300, 1_500, 300]);
    let files = segments(&disk);
    assert!(files.len() >= 4, "{files:?}");
    for file in &files {
        let bytes = disk.content(file).unwrap();
        let mut damaged = bytes.clone();
        damaged[20] ^= 1;
        disk.put(file, &damaged);
    }
    let mut spool = open_at(&disk, MEDIUM, 4, 2_101);
    let (sum, gaps) = everything(&mut spool);
    assert_eq!((sum, gaps), ((1_890, 210, 0, 0), Vec::new()));
    let lasts: Vec<_> = spool.epochs().iter().map(|e| (e.id, e.last_seq)).collect();
    assert_eq!(lasts, [(1, 300), (2, 1_500), (3, 300), (4, 0)]);
}

#[test]
fn a_segment_that_is_rubbish_is_a_gap_between_its_neighbours() {
    for at in 0..3 {
        let disk = Arc::new(SimDisk::new(1));
        runs(&disk, &[300, 300, 300, 300]);
        let files = segments(&disk);
        let len = disk.content(&files[at]).unwrap().len();
        disk.put(&files[at], &vec![0x5a; len]);
        let mut spool = open_at(&disk, MEDIUM, 9, 1_201);
        // What nobody owned is told by the epoch under way.
        spool.append_event(sample::event_of(1_201));
        let (sum, gaps) = everything(&mut spool);
        assert_eq!(sum, (810, 91, 300, 0), "segment {at}");
        let [gap] = gaps.as_slice() else {
            panic!("{gaps:?}")
        };
        let n = 300 * at as u64;
        let want = match at {
            0 => (sample::time(300), sample::time(300)),
            _ => (sample::time(n), sample::time(n + 300)),
        };
        assert_eq!((gap.from, gap.to), want, "segment {at}");
        assert_eq!(gap.reason, GapReason::SpoolDamaged);
        let again = open_at(&disk, MEDIUM, 10, 1_202).backlog();
        assert_eq!(again, spool.backlog(), "counted once");
    }
}

#[test]
fn a_segment_that_is_gone_is_a_gap() {
    let disk = Arc::new(SimDisk::new(1));
    runs(&disk, &[300, 3_000, 300]);
    let files = segments(&disk);
    assert!(files.len() >= 5, "{files:?}");
    disk.remove(&files[2]).unwrap();
    let mut spool = open_at(&disk, MEDIUM, 4, 3_601);
    let (sum, gaps) = everything(&mut spool);
    assert_eq!(sum.0 + sum.1 + sum.2 + sum.3, 3_600);
    let [gap] = gaps.as_slice() else {
        panic!("{gaps:?}")
    };
    let before = sample::time(300 + gap.from_seq - 1);
    assert_eq!(
        (gap.from, gap.to),
        (before, sample::time(300 + gap.to_seq + 1))
    );
}

#[test]
fn a_damaged_list_of_what_was_kept_loses_no_count() {
    let fill = || {
        let disk = Arc::new(SimDisk::new(1));
        let mut spool = open(&disk, SMALL, 1);
        for n in 1..=6_000 {
            tick(&mut spool, n);
        }
        spool.sync();
        disk
    };
    let kept = |disk: &SimDisk, name: &str| disk.put(&Path::new(DIR).join(name), b"rubbish");
    let disk = fill();
    let (whole, _) = everything(&mut open_at(&disk, SMALL, 2, 6_001));
    kept(&disk, "kept");
    let (copied, _) = everything(&mut open_at(&disk, SMALL, 3, 6_002));
    assert_eq!(copied, whole);
    kept(&disk, "kept");
    kept(&disk, "kept.copy");
    let (counted, gaps) = everything(&mut open_at(&disk, SMALL, 4, 6_003));
    assert_eq!(counted.0 + counted.2, 6_000);
    assert_eq!(gaps[0].reason, GapReason::SpoolDamaged);
    assert_eq!(gaps[0].from, sample::time(0), "the epoch's beginning");
}

#[test]
fn what_a_failed_sync_took_back_has_its_times() {
    let disk = Arc::new(SimDisk::new(1));
    let mut spool = open(&disk, LARGE, 1);
    for n in 1..=100 {
        tick(&mut spool, n);
    }
    spool.sync();
    assert!(spool.to_sync().is_none(), "nothing twice");
    for n in 101..=200 {
        tick(&mut spool, n);
    }
    disk.fail_nth(Call::Sync, 1, Failure::Eio);
    spool.sync();
    assert!(disk.fired(Call::Sync) > 0);
    tick(&mut spool, 201);
    let (sum, gaps) = everything(&mut spool);
    assert_eq!(sum.0 + sum.2, 201);
    assert!(!gaps.is_empty(), "the failed sync took nothing back");
    for gap in gaps {
        assert!(
            gap.from >= sample::time(100) && gap.to <= sample::time(201),
            "{gap:?}"
        );
    }
}

/// A record that counts lost ticks, written while another thread syncs what was before it, is not durable with it: where the
/// next sync fails and takes it, what it counted is still counted.
#[test]
fn lost_ticks_counted_during_a_sync_outlive_the_failure_of_the_next() {
    let disk = Arc::new(SimDisk::new(1));
    let mut spool = open(&disk, LARGE, 1);
    (1..=10).for_each(|n| tick(&mut spool, n));
    let done = spool.to_sync().expect("ten ticks").sync();
    for n in 11..=15 {
        disk.fail_nth(Call::Write, 1, Failure::Enospc);
        tick(&mut spool, n);
    }
    assert_eq!(disk.fired(Call::Write), 5, "five ticks were lost");
    (16..=20).for_each(|n| tick(&mut spool, n));
    spool.synced(done);
    disk.fail_nth(Call::Sync, 1, Failure::Eio);
    spool.sync();
    assert_eq!(disk.fired(Call::Sync), 1);
    (21..=25).for_each(|n| tick(&mut spool, n));
    let (sum, gaps) = everything(&mut spool);
    assert!(sum.0 < 20, "the failed sync took nothing back: {gaps:?}");
    assert_eq!(sum.0 + sum.2, 25, "{gaps:?}");
}

/// What may happen to a file.
#[derive(Debug, Clone)]
enum Harm {
    Flip(usize),
    Zero(usize),
    Rubbish,
    Remove,
}

fn harms() -> impl Strategy<Value = Vec<(usize, Harm)>> {
    let harm = prop_oneof![
        4 => any::<usize>().prop_map(Harm::Flip),
        2 => any::<usize>().prop_map(Harm::Zero),
        1 => Just(Harm::Rubbish),
        1 => Just(Harm::Remove),
    ];
    proptest::collection::vec((any::<usize>(), harm), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever a disk does to segments that are not the last: all is read or counted, and every gap has its times.
    #[test]
    fn damage_is_counted_and_dated(
        ticks in proptest::collection::vec(1u64..1_200, 2..5),
        harms in harms(),
    ) {
        let disk = Arc::new(SimDisk::new(1));
        runs(&disk, &ticks);
        let total: u64 = ticks.iter().sum();
        let files = segments(&disk);
        let (_, files) = files.split_last().unwrap();
        for (at, harm) in harms {
            let at = at % files.len();
            let Some(mut bytes) = disk.content(&files[at]) else { continue };
            match harm {
                Harm::Flip(bit) => {
                    let bit = bit % (bytes.len() * 8);
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
                Harm::Zero(from) => {
                    let from = from % bytes.len();
                    let to = (from + 4_096).min(bytes.len());
                    bytes[from..to].fill(0);
                }
                Harm::Rubbish => bytes.fill(0x5a),
                // The first one may be gone because it was delivered: that is no damage.
                Harm::Remove if at > 0 => {
                    disk.remove(&files[at]).unwrap();
                    continue;
                }
                Harm::Remove => continue,
            }
            disk.put(&files[at], &bytes);
        }
        let mut spool = open_at(&disk, MEDIUM, 99, total + 1);
        spool.append_event(sample::event_of(total + 1));
        let ((ticks, events, gone, unheard), gaps) = everything(&mut spool);
        prop_assert_eq!(ticks + events + gone + unheard, total + 1, "{:?}", gaps);
        for gap in gaps {
            prop_assert!(gap.from >= sample::time(0) && gap.from <= gap.to, "{:?}", gap);
            prop_assert!(gap.to <= sample::time(total + 1), "{:?}", gap);
        }
    }
}

#[test]
fn a_segment_that_says_its_epoch_begins_behind_it_stops_no_start() {
    for base in [0, 5, u64::MAX] {
        let disk = Arc::new(SimDisk::new(1));
        let options = dawnwatch_segment::Options {
            kind: KIND,
            segment_bytes: 4_096,
            preallocate: false,
            header_note: epoch::note(7, base, sample::time(0)),
        };
        let dir = Path::new(DIR);
        let (mut log, _) = Log::open(Arc::clone(&disk) as Arc<dyn Disk>, dir, options).unwrap();
        log.append(b"no entry").unwrap();
        log.sync().unwrap();
        let mut spool = open(&disk, LARGE, 9);
        tick(&mut spool, 1);
        let (ticks, ..) = tally(&all(&mut spool, 9, 1), 1);
        assert_eq!(ticks, 1, "base {base}");
    }
}

/// What was dropped before and is acknowledged meanwhile, and what is dropped after it, do not touch: the file of what was
/// dropped must be read again all the same. Found by `nothing_is_lost_uncounted`.
#[test]
fn what_is_dropped_around_an_acknowledgement_stays_counted() {
    let disk = Arc::new(SimDisk::new(0));
    let mut spool = open(&disk, SMALL, 1);
    spool.append_event(sample::event_of(1));
    drop(spool);
    let mut spool = open(&disk, SMALL, 2);
    (1..=343).for_each(|n| tick(&mut spool, n));
    drop(spool);
    let mut spool = open(&disk, SMALL, 3);
    (1..=1_048).for_each(|n| tick(&mut spool, n));
    spool.ack(2, 212);
    (1_049..=1_397).for_each(|n| tick(&mut spool, n));
    assert!(spool.kept.covers(2), "something was dropped");
    spool.ack(2, 231);
    (1_398..=1_611).for_each(|n| tick(&mut spool, n));
    drop(spool);
    let mut spool = open(&disk, SMALL, 4);
    let (ticks, _, gone, _) = tally(&all(&mut spool, 2, 232), 232);
    assert_eq!(ticks + gone, 343 - 231);
}

/// A spool on a disk with moods.
fn open_flaky(disk: &Arc<SimDisk>, limits: Limits) -> (Spool, Arc<Mood>) {
    let mood = Arc::new(Mood::about(""));
    (open_in(&mood, disk, limits, 1), mood)
}

/// A spool on a disk in such a mood.
fn open_in(mood: &Arc<Mood>, disk: &Arc<SimDisk>, limits: Limits, id: u64) -> Spool {
    let moody = Hooked {
        disk: SimDisk::clone(disk),
        hooks: Arc::clone(mood),
    };
    let at = sample::time(0);
    Spool::open(Arc::new(moody), Path::new(DIR), limits, Start { id, at }).unwrap()
}

#[test]
fn a_disk_with_a_bad_moment_costs_nothing() {
    let (mut spool, mood) = open_flaky(&Arc::new(SimDisk::new(1)), LARGE);
    (1..=3_000).for_each(|n| tick(&mut spool, n));
    let mut cursor = Cursor::new(1, 1);
    let mut entries = Vec::new();
    while cursor.next_seq() < 2_900 {
        mood.set(true);
        for turn in 0..10 {
            // A stream that ended begins anew where the server is.
            if turn == 5 {
                cursor = Cursor::new(1, cursor.next_seq());
            }
            entries.extend(spool.read(&mut cursor, 10, 1 << 20));
        }
        mood.set(false);
        entries.extend(spool.read(&mut cursor, 500, 1 << 20));
    }
    assert!(mood.failed() > 10, "{mood:?}");
    entries.extend(spool.read(&mut cursor, 512, 1 << 20));
    assert_eq!(tally(&entries, 1), (3_000, 0, 0, 0));
}

#[test]
fn a_disk_that_stays_unreadable_for_minutes_is_damaged() {
    let (mut spool, mood) = open_flaky(&Arc::new(SimDisk::new(1)), LARGE);
    (1..=100).for_each(|n| tick(&mut spool, n));
    mood.set(true);
    let mut n = 100;
    let entries = loop {
        // Each try from its beginning, as by a connection that does not last.
        let mut cursor = Cursor::new(1, 1);
        let some = spool.read(&mut cursor, 512, 1 << 20);
        if !some.is_empty() {
            break some;
        }
        n += 1;
        assert!(n < 1_000, "the backlog waits for ever");
        tick(&mut spool, n);
    };
    assert!((120..200).contains(&n), "after {} ticks", n - 100);
    assert_eq!(tally(&entries, 1), (0, 0, n, 0));
    let Item::Gap(gap) = &entries[0].item else {
        panic!("{entries:?}")
    };
    assert_eq!(gap.reason, GapReason::SpoolDamaged);
    // Where nothing of it was sent and the disk comes to itself, it is all there.
    mood.set(false);
    assert_eq!(tally(&all(&mut spool, 1, 1), 1), (n, 0, 0, 0));
    mood.set(true);
    assert!(
        spool.read(&mut Cursor::new(1, 1), 1, 1).is_empty(),
        "minutes again"
    );
}

/// One item in fifty is an event. Gives the ticks and events, and the most bytes.
fn fill(spool: &mut Spool, from: u64, to: u64) -> (u64, u64, u64) {
    let (mut ticks, mut events, mut bytes) = (0, 0, 0);
    for n in from..=to {
        if n % 50 == 0 {
            spool.append_event(sample::event_of(n));
            events += 1;
        } else {
            tick(spool, n);
            ticks += 1;
        }
        bytes = spool.bytes().max(bytes);
    }
    (ticks, events, bytes)
}

#[test]
fn a_full_spool_drops_nothing_unread_while_the_disk_has_a_bad_moment() {
    let (mut spool, mood) = open_flaky(&Arc::new(SimDisk::new(1)), SMALL);
    let (mut ticks, mut events) = (0, 0);
    let mut n = 1;
    // Wherever the moment falls: also where a segment is dropped.
    for _ in 0..200 {
        mood.set(true);
        let bad = fill(&mut spool, n, n + 14);
        mood.set(false);
        let good = fill(&mut spool, n + 15, n + 29);
        (ticks, events, n) = (ticks + bad.0 + good.0, events + bad.1 + good.1, n + 30);
        let most = SMALL.bytes_max + SMALL.segment_bytes();
        assert!(bad.2.max(good.2) < most, "{} bytes at {n}", bad.2);
    }
    assert!(mood.failed() > 0, "no drop met a bad moment");
    let (read, told, gone, unheard) = tally(&all(&mut spool, 1, 1), 1);
    assert_eq!((read + gone, told, unheard), (ticks, events, 0));
    assert!(gone > 1_000, "nothing was dropped");
    let damaged = spool.kept.entries(1, 1).into_iter().find(
        |entry| matches!(&entry.item, Item::Gap(gap) if gap.reason == GapReason::SpoolDamaged),
    );
    assert_eq!(damaged, None);
}

#[test]
fn a_full_spool_on_a_disk_that_stays_unreadable_keeps_its_bound() {
    let (mut spool, mood) = open_flaky(&Arc::new(SimDisk::new(1)), SMALL);
    mood.set(true);
    let (ticks, events, bytes) = fill(&mut spool, 1, 6_000);
    let most = SMALL.bytes_max + SMALL.segment_bytes() / 2;
    assert!(
        mood.failed() > 100 && bytes < most,
        "{mood:?}, {bytes} bytes"
    );
    mood.set(false);
    let (read, told, gone, unheard) = tally(&all(&mut spool, 1, 1), 1);
    assert_eq!(read + told + gone + unheard, ticks + events);
    assert!(gone > 1_000, "nothing was dropped");
}

#[test]
fn a_power_cut_in_a_crash_loop_loses_no_count() {
    let disk = Arc::new(SimDisk::new(1));
    let runs = EPOCHS_MAX as u64 + 10;
    for run in 1..=runs {
        let mut spool = open(&disk, LARGE, run);
        spool.append_event(sample::event_of(run));
        spool.sync();
    }
    for run in 1..=10 {
        let spool = open(&disk, LARGE, runs + run);
        assert!(spool.epochs().len() <= EPOCHS_MAX);
        drop(spool);
        disk.power_cut();
    }
    let ((_, told, _, gone), _) = everything(&mut open(&disk, LARGE, runs + 11));
    assert_eq!(told + gone, runs);
    assert!(gone > 0, "no epoch was forgotten");
}

/// While the disk does not take the count of the oldest epochs they stay where they are, and the server's limit is kept.
#[test]
fn a_crash_loop_on_a_full_disk_names_no_more_epochs_than_the_server_takes() {
    let disk = Arc::new(SimDisk::new(1));
    let runs = EPOCHS_MAX as u64 + 10;
    for run in 1..=runs {
        open(&disk, LARGE, run).append_event(sample::event_of(run));
    }
    let mut waited = 0;
    // Whichever write is refused: of the segment, of what was dropped, of the count.
    for nth in 1..=8 {
        disk.fail_nth(Call::Write, nth, Failure::Enospc);
        let mut spool = open(&disk, LARGE, runs + nth);
        waited += usize::from(spool.epochs.len() > EPOCHS_MAX);
        assert!(spool.epochs().len() <= EPOCHS_MAX, "write {nth}");
        disk.clear_faults();
        spool.append_event(sample::event_of(runs + nth));
        assert!(spool.epochs.len() <= EPOCHS_MAX, "write {nth}");
    }
    assert!(waited > 0, "no count was refused");
    let ((_, told, _, gone), _) = everything(&mut open(&disk, LARGE, runs + 9));
    assert_eq!(told + gone, runs + 8);
}

#[test]
fn strays_are_counted_once_and_for_good() {
    let stray = || {
        let disk = Arc::new(SimDisk::new(1));
        runs(&disk, &[300, 300]);
        let files = segments(&disk);
        let len = disk.content(&files[0]).unwrap().len();
        disk.put(&files[0], &vec![0x5a; len]);
        disk
    };
    let mut stayed = 0;
    // Whichever removal fails: of what no opening left behind, or of the segment.
    for nth in 1..=3 {
        let disk = stray();
        let file = segments(&disk).remove(0);
        disk.fail_nth(Call::Remove, nth, Failure::Eio);
        let mut spool = open_at(&disk, MEDIUM, 9, 601);
        (601..=602).for_each(|n| tick(&mut spool, n));
        assert_eq!(disk.fired(Call::Remove), 1, "removal {nth}");
        assert_eq!(everything(&mut spool).0, (272, 30, 300, 0), "removal {nth}");
        stayed += usize::from(disk.content(&file).is_some());
        // Opened anew in the same run.
        disk.fail_nth(Call::Sync, 1, Failure::Eio);
        spool.sync();
        tick(&mut spool, 603);
        assert_eq!(disk.fired(Call::Sync), 1, "removal {nth}");
        let ((ticks, events, gone, _), _) = everything(&mut spool);
        assert_eq!(ticks + events + gone, 603, "removal {nth}");
    }
    assert!(stayed > 0, "the segment was always removed");
    let disk = stray();
    drop(open_at(&disk, MEDIUM, 9, 601));
    disk.power_cut();
    let mut spool = open_at(&disk, MEDIUM, 10, 601);
    assert_eq!(everything(&mut spool).0, (270, 30, 300, 0), "for good");
}

#[test]
fn what_was_kept_outlives_a_bad_moment_at_the_start() {
    let full = || {
        let disk = Arc::new(SimDisk::new(1));
        fill(&mut open(&disk, SMALL, 1), 1, 6_000);
        disk
    };
    let mood = Arc::new(Mood::about("kept"));
    let count = |disk: &Arc<SimDisk>, bad: u64| {
        mood.set(true);
        let mut spool = open_in(&mood, disk, SMALL, 2);
        (1..=bad).for_each(|n| tick(&mut spool, 6_000 + n));
        mood.set(false);
        tick(&mut spool, 6_001 + bad);
        let ((ticks, events, gone, unheard), _) = everything(&mut spool);
        let all = ticks + events + gone + unheard;
        assert_eq!(all, 6_001 + bad, "{bad} ticks");
        events
    };
    assert_eq!(count(&full(), 5), 120, "an event is lost");
    assert!(mood.failed() > 5);
    // It does not hold up the spool for ever: what the segments still say of it is a gap.
    assert!(count(&full(), 100) < 120, "the spool waits for ever");
}
