use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use dawnwatch_engine::input::Batch;
use dawnwatch_proto::{Gap, GapReason, Item, Kind, Schema, SchemaId, Series, Tick};
use dawnwatch_segment::sim::{Call, Failure, SimDisk};
use dawnwatch_segment::{Read, Reader};
use proptest::prelude::*;

use super::*;

const HOST: HostId = HostId(7);
const EPOCH: u64 = 99;

/// A tick whose value says which number it has.
fn tick(seq: u64) -> Item {
    Item::Tick(Tick {
        time: Timestamp::UNIX_EPOCH,
        schema: SchemaId(1),
        row: vec![i64::try_from(seq).unwrap()],
    })
}

fn gap(from_seq: u64, to_seq: u64) -> Item {
    Item::Gap(Gap {
        from_seq,
        to_seq,
        from: Timestamp::UNIX_EPOCH,
        to: Timestamp::UNIX_EPOCH,
        ticks: to_seq - from_seq + 1,
        events: 0,
        reason: GapReason::SpoolFull,
    })
}

fn batch(first_seq: u64, items: Vec<Item>) -> Batch {
    Batch {
        host: HOST,
        epoch: EPOCH,
        first_seq,
        items,
        offset_ms: None,
    }
}

/// A batch from a number on: an item for each width, ticks of width 1, gaps of more (or where the spool dropped a tick).
fn batch_of(first_seq: u64, widths: &[(u64, bool)]) -> Batch {
    let mut seq = first_seq;
    let mut items = Vec::new();
    for (width, dropped) in widths {
        if *width == 1 && !dropped {
            items.push(tick(seq));
        } else {
            items.push(gap(seq, seq + width - 1));
        }
        seq += width;
    }
    batch(first_seq, items)
}

proptest! {
    /// F26: whatever comes twice, overlaps, or was dropped by the spool after it was held, each number counts once.
    #[test]
    fn every_number_counts_once(
        batches in prop::collection::vec(
            (0u64..30, prop::collection::vec((1u64..5, any::<bool>()), 0..12)), 0..40)
    ) {
        let mut held = Held::default();
        let mut next = 1;
        let mut most = 0;
        for (back, widths) in batches {
            // An agent goes on where the server stands, or from anywhere before.
            let first_seq = (most + 1u64).saturating_sub(back).max(1);
            let mut batch = batch_of(first_seq, &widths);
            most = most.max(first_seq + widths.iter().map(|(width, _)| width).sum::<u64>() - 1);
            held.trim(&mut batch);
            if batch.items.is_empty() {
                continue;
            }
            prop_assert_eq!(batch.first_seq, next);
            for item in &batch.items {
                match item {
                    Item::Tick(tick) => prop_assert_eq!(tick.row[0].unsigned_abs(), next),
                    Item::Gap(gap) => {
                        prop_assert_eq!(gap.from_seq, next);
                        prop_assert_eq!(gap.ticks, item.width());
                    }
                    Item::Event(_) => unreachable!("none was made"),
                }
                next += item.width();
            }
            held.apply(&Input::Batch(batch));
            prop_assert_eq!(held.last(HOST, EPOCH), next - 1);
        }
        prop_assert_eq!(held.last(HOST, EPOCH), most);
    }
}

#[test]
fn a_gap_of_one_number_counts_all_that_a_full_disk_lost() {
    let lost = |ticks| {
        let Item::Gap(gap) = gap(1, 1) else {
            unreachable!("it was made a gap")
        };
        Item::Gap(Gap {
            ticks,
            events: 2,
            reason: GapReason::DiskFull,
            ..gap
        })
    };
    let mut batch = batch(1, vec![lost(40)]);
    Held::default().trim(&mut batch);
    assert_eq!(batch.items, [lost(40)]);
}

/// What a spool drops may have such a gap in it: joined, it counts more than it has numbers, also where a part of it is held.
#[test]
fn a_gap_that_counts_more_than_its_numbers_keeps_what_is_over() {
    let mut held = Held::default();
    held.apply(&Input::Batch(batch(1, vec![gap(1, 5)])));
    for (ticks, want) in [(10, 5), (1_000, 995)] {
        let Item::Gap(whole) = gap(1, 10) else {
            unreachable!("it was made a gap")
        };
        let mut batch = batch(1, vec![Item::Gap(Gap { ticks, ..whole })]);
        held.trim(&mut batch);
        let [Item::Gap(left)] = &batch.items[..] else {
            panic!("{:?}", batch.items);
        };
        assert_eq!((batch.first_seq, left.from_seq, left.ticks), (6, 6, want));
    }
}

#[test]
fn the_epoch_in_use_is_never_forgotten() {
    let mut held = Held::default();
    for start in 1..2_000 {
        let of_start = |epoch, seq| Batch {
            epoch,
            ..batch(seq, vec![tick(seq)])
        };
        held.apply(&Input::Batch(of_start(start + 10, 1)));
        held.apply(&Input::Batch(of_start(1, start)));
    }
    assert_eq!((held.last(HOST, 1), held.last(HOST, 2_009)), (1_999, 1));
    assert_eq!(
        held.last(HOST, 1_700),
        1,
        "a hello names the last few hundred"
    );
    assert_eq!(held.last(HOST, 11), 0, "silent for longest");
}

#[test]
fn a_frame_put_together_is_a_group() {
    let at = At {
        position: 300,
        ..origin()
    };
    let inputs: Vec<Input> = (0..300).map(|by_ms| Input::ClockStep { by_ms }).collect();
    let bytes: Vec<u8> = inputs.iter().flat_map(plain::bytes).collect();
    let group = decode(1, &frame(at, inputs.len(), &bytes)).unwrap();
    assert_eq!(group, Group { at, inputs });
    let mut newer = frame(at, 0, &[]);
    newer[0] = 9;
    assert!(
        decode(4, &newer)
            .unwrap_err()
            .to_string()
            .contains("frame 4")
    );
}

/// A journal's thread on a simulated disk.
struct Stage {
    to: mpsc::Sender<Submit>,
    groups: Receiver<Written>,
    thread: JoinHandle<Result<(), Error>>,
}

fn dir() -> &'static Path {
    Path::new("/data")
}

/// Starts the journal with what it shall find in its queue at once, so in one group.
fn start(disk: &SimDisk, first: Vec<Submit>) -> Stage {
    let on: Arc<dyn Disk> = Arc::new(disk.clone());
    let (log, _) = open(&on, dir()).unwrap();
    let (to, inbox) = mpsc::channel(QUEUE);
    let (groups, taken) = sync_channel(1_000);
    for submit in first {
        to.blocking_send(submit).unwrap();
    }
    let journal = Journal {
        log,
        stamper: Stamper::after(origin(), Clock.wall(), Clock.boot_ms()),
        held: Held::default(),
        clock: Clock,
        groups,
        refusing: false,
        gauges: Arc::new(crate::vitals::Gauges::new(dir())),
        reserve: Arc::new(Reserve::none()),
    };
    let thread = std::thread::spawn(move || journal.run(inbox, &Release::default()));
    Stage {
        to,
        groups: taken,
        thread,
    }
}

impl Stage {
    fn ask(&self) -> oneshot::Receiver<Vec<u64>> {
        let (reply, held) = oneshot::channel();
        self.to
            .blocking_send(Submit::Held(HOST, vec![EPOCH], reply))
            .unwrap();
        held
    }

    fn stop(self) -> (Result<(), Error>, Vec<Written>) {
        // A journal that failed has hung up.
        let _ = self.to.blocking_send(Submit::Stop);
        let ended = self.thread.join().unwrap();
        (ended, self.groups.iter().collect())
    }
}

fn bring(stream: &Arc<Stream>, seq: u64) -> Submit {
    let input = Input::Batch(batch(seq, vec![tick(seq)]));
    Submit::Stream(Box::new(input), Arc::clone(stream), None)
}

/// What is on the disk.
fn on_disk(disk: &SimDisk) -> Vec<Group> {
    let on: Arc<dyn Disk> = Arc::new(disk.clone());
    let reader = Reader::open(on, &dir().join("journal"), *b"JRNL", 1).unwrap();
    let group = |read| match read {
        Ok(Read::Frame { position, payload }) => decode(position, &payload).unwrap(),
        other => panic!("{other:?}"),
    };
    reader.map(group).collect()
}

#[test]
fn what_is_told_to_be_held_survives_a_power_cut() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let (stream, mut hears) = Stream::new();
        let (reply, held) = oneshot::channel();
        let welcome = Submit::Held(HOST, vec![EPOCH], reply);
        let stage = start(&disk, vec![bring(&stream, 1), welcome, bring(&stream, 2)]);
        assert_eq!(
            held.blocking_recv().unwrap(),
            [2],
            "all of its group is durable"
        );
        disk.power_cut();
        let kept: usize = on_disk(&disk).iter().map(|group| group.inputs.len()).sum();
        assert_eq!(kept, 2);
        assert_eq!(hears.blocking_recv(), Some(Ok((EPOCH, 1))));
        assert_eq!(hears.blocking_recv(), Some(Ok((EPOCH, 2))));
        drop(stage);
    }
}

#[test]
fn a_sync_that_fails_ends_it_and_nobody_is_told_anything() {
    let disk = SimDisk::new(3);
    let (stream, mut hears) = Stream::new();
    let (reply, mut held) = oneshot::channel();
    let (durable, mut replied) = oneshot::channel();
    let first = vec![
        bring(&stream, 1),
        Submit::Held(HOST, vec![EPOCH], reply),
        Submit::Input(Box::new(Input::Tick), Some(durable)),
    ];
    // Opening syncs too; the fault is for the group.
    let on: Arc<dyn Disk> = Arc::new(disk.clone());
    drop(open(&on, dir()).unwrap());
    let stage = {
        let before = disk.calls(Call::Sync);
        drop(open(&on, dir()).unwrap());
        disk.fail_nth(
            Call::Sync,
            disk.calls(Call::Sync) - before + 1,
            Failure::Eio,
        );
        start(&disk, first)
    };
    drop(stream);
    let (ended, groups) = stage.stop();
    assert_eq!(disk.fired(Call::Sync), 1, "the fault happened");
    assert!(ended.unwrap_err().to_string().contains("sync"));
    assert_eq!(groups.len(), 0);
    assert_eq!(hears.blocking_recv(), None);
    assert!(held.try_recv().is_err() && replied.try_recv().is_err());
}

#[test]
fn a_full_disk_refuses_takes_back_and_goes_on() {
    let disk = SimDisk::new(5);
    let stage = start(&disk, Vec::new());
    assert_eq!(stage.ask().blocking_recv().unwrap(), [0], "the log is open");
    let (stream, mut hears) = Stream::new();
    let schema = Schema::new(vec![Series::new("up", Kind::Gauge)]);
    let announce = |stream: &Arc<Stream>| {
        let (host, schema) = (HOST, schema.clone());
        Submit::Stream(
            Box::new(Input::Schema { host, schema }),
            Arc::clone(stream),
            None,
        )
    };

    disk.fail_nth(Call::Write, 1, Failure::Enospc);
    stage.to.blocking_send(bring(&stream, 1)).unwrap();
    assert_eq!(hears.blocking_recv(), Some(Err(Full)));
    assert_eq!(disk.fired(Call::Write), 1, "the fault happened");
    // There is room again. The next number of the same stream must not hide the one refused.
    stage.to.blocking_send(bring(&stream, 2)).unwrap();
    assert_eq!(hears.blocking_recv(), Some(Err(Full)));
    assert_eq!(stage.ask().blocking_recv().unwrap(), [0]);

    let (stream, mut hears) = Stream::new();
    disk.fail_nth(Call::Write, 1, Failure::Enospc);
    stage.to.blocking_send(announce(&stream)).unwrap();
    assert_eq!(
        hears.blocking_recv(),
        Some(Err(Full)),
        "a schema refused is told too"
    );

    let (stream, mut hears) = Stream::new();
    stage.to.blocking_send(announce(&stream)).unwrap();
    stage.to.blocking_send(bring(&stream, 1)).unwrap();
    stage.to.blocking_send(bring(&stream, 2)).unwrap();
    while hears.blocking_recv() != Some(Ok((EPOCH, 2))) {}
    let (ended, groups) = stage.stop();
    ended.unwrap();
    let inputs: Vec<Input> = groups.iter().flat_map(|w| w.group.inputs.clone()).collect();
    let want = [
        Input::Schema { host: HOST, schema },
        Input::Batch(batch(1, vec![tick(1)])),
        Input::Batch(batch(2, vec![tick(2)])),
    ];
    assert_eq!(inputs, want);
    let mut next = 1;
    for written in &groups {
        assert_eq!(
            written.group.at.position, next,
            "no position is left out or given twice"
        );
        next = written.group.last_position() + 1;
    }
    let taken: Vec<Group> = groups.into_iter().map(|written| written.group).collect();
    assert_eq!(on_disk(&disk), taken);
}

#[test]
fn many_large_batches_make_frames_that_fit() {
    let disk = SimDisk::new(1);
    let (stream, mut hears) = Stream::new();
    let wide = |seq: u64| {
        let row = vec![i64::MAX; 2_000];
        let (time, schema) = (Timestamp::UNIX_EPOCH, SchemaId(1));
        let item = Item::Tick(Tick { time, schema, row });
        Submit::Stream(
            Box::new(Input::Batch(batch(seq, vec![item; 100]))),
            Arc::clone(&stream),
            None,
        )
    };
    // 2 MB each: together far over what one frame may hold.
    let stage = start(&disk, (0..15).map(|i| wide(1 + i * 100)).collect());
    while hears.blocking_recv() != Some(Ok((EPOCH, 1_500))) {}
    let (ended, groups) = stage.stop();
    ended.unwrap();
    assert!(groups.len() >= 5 && groups.iter().all(|w| w.bytes < 16 << 20));
}

/// Bytes that stand for more than a frame holds, from a peer that means harm: its stream ends, and the journal goes on.
#[test]
fn a_batch_that_fits_no_frame_costs_its_stream_alone() {
    let disk = SimDisk::new(1);
    let ((harmful, mut hears), (other, mut hears_too)) = (Stream::new(), Stream::new());
    let row = vec![i64::MAX; 2_000];
    let (time, schema) = (Timestamp::UNIX_EPOCH, SchemaId(1));
    let item = Item::Tick(Tick { time, schema, row });
    let huge = batch(1, vec![item; 900]);
    let whole = Batch {
        host: HostId(8),
        ..batch(1, vec![tick(1)])
    };
    let of = |batch, stream: &Arc<Stream>| {
        Submit::Stream(Box::new(Input::Batch(batch)), Arc::clone(stream), None)
    };
    // What comes behind it on the same stream is refused as well: its numbers would count as held.
    let behind = batch(901, vec![tick(901)]);
    let submits = vec![of(huge, &harmful), of(behind, &harmful), of(whole, &other)];
    let stage = start(&disk, submits);
    assert_eq!(hears.blocking_recv(), Some(Err(Full)));
    assert_eq!(hears_too.blocking_recv(), Some(Ok((EPOCH, 1))));
    let (ended, groups) = stage.stop();
    ended.unwrap();
    let inputs = groups.iter().flat_map(|written| &written.group.inputs);
    let hosts: Vec<HostId> = inputs
        .map(|input| {
            let Input::Batch(batch) = input else {
                panic!("{input:?}");
            };
            batch.host
        })
        .collect();
    assert_eq!(hosts, [HostId(8)]);
}

/// Rows of which thousands come in a few bytes: a group of them is written before it takes much memory.
#[test]
fn groups_of_rows_that_are_small_on_disk_are_bound_by_memory() {
    let disk = SimDisk::new(1);
    let (stream, mut hears) = Stream::new();
    let flat = |seq: u64| {
        let row = vec![0; 2_000];
        let (time, schema) = (Timestamp::UNIX_EPOCH, SchemaId(1));
        let item = Item::Tick(Tick { time, schema, row });
        let input = Box::new(Input::Batch(batch(seq, vec![item; 512])));
        Submit::Stream(input, Arc::clone(&stream), None)
    };
    let stage = start(&disk, (0..9).map(|i| flat(1 + i * 512)).collect());
    while hears.blocking_recv() != Some(Ok((EPOCH, 9 * 512))) {}
    let (ended, groups) = stage.stop();
    ended.unwrap();
    let most = groups
        .iter()
        .map(|written| written.group.inputs.len())
        .max();
    assert!(most.is_some_and(|most| (2..=3).contains(&most)), "{most:?}");
}
