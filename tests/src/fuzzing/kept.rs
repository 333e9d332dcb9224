//! What lies on disk.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dawnwatch_agent::spool::{Cursor, Limits, Spool, Start};
use dawnwatch_engine::Engine;
use dawnwatch_engine::block::{Block, Effort, Head, TICKS_MAX, encode};
use dawnwatch_proto::series::SERIES_MAX;
use dawnwatch_proto::{Event, HostId, pb};
use dawnwatch_segment::sim::SimDisk;
use dawnwatch_segment::{Disk, Log, Options, Read, Reader};
use dawnwatch_server::history::events;
use dawnwatch_server::history::head::Head as Rows;
use dawnwatch_server::history::hour::{BlockAt, HourFile};
use dawnwatch_server::history::schemas::Known;
use dawnwatch_server::history::summary::file;
use dawnwatch_server::{checkpoint, journal, ledger};
use jiff::Timestamp;
use prost::Message;

use super::seal;

/// Values that a block may have to be coded again: all forms are tried, which takes its time.
const VALUES_AGAIN: usize = 4_096;

/// Blocks of an hour file that are read: a few bytes may name one block a thousand times.
const BLOCKS_READ: usize = 32;

/// The log that the `segment` target reads.
pub(super) const SPOOL: [u8; 4] = *b"SPOL";
/// Where it lies on a simulated disk.
pub(super) const SEGMENT: &str = "/log/00000000000000000001.seg";

/// Whether checksums are put right, and the input.
fn sealed(data: &[u8]) -> (bool, Vec<u8>) {
    let (first, rest) = data.split_first().unwrap_or((&0, &[]));
    (first % 2 == 1, rest.to_vec())
}

/// What stands in frames; the first byte says whose: the journal's, the ledger's, the schemas'.
///
/// # Panics
/// Where something is wrong.
pub fn frame(data: &[u8]) {
    let (first, payload) = data.split_first().unwrap_or((&0, &[]));
    match first % 3 {
        0 => {
            let Ok(group) = journal::decode(1, payload) else {
                return;
            };
            let once = journal_frame(&group);
            let again = journal::decode(1, &once).expect("it was just written");
            assert!(
                once == journal_frame(&again),
                "a group says something else when it is read again"
            );
        }
        1 => {
            let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
            let options = options(*b"LEDG");
            let (mut log, _) = Log::open(Arc::clone(&disk), Path::new("/data/ledger"), options)
                .expect("an empty disk");
            // One that is empty or too long is no frame.
            if log.append(payload).and_then(|_| log.sync()).is_err() {
                return;
            }
            let mut frames = 0;
            let walked = ledger::walk(&disk, Path::new("/data"), |_| frames += 1);
            assert!(walked.is_err() || frames == 1, "{frames} frames of one");
            // A damaged end must not stop the start with a panic.
            let _opened = ledger::Ledger::open(&disk, Path::new("/data"));
        }
        _ => {
            let mut known = Known::default();
            let _taken = known.take(payload);
        }
    }
}

/// The journal's frame of a group.
pub(super) fn journal_frame(group: &journal::Group) -> Vec<u8> {
    postcard::to_extend(group, vec![1]).expect("a group always serialises")
}

pub(super) fn options(kind: [u8; 4]) -> Options {
    Options {
        kind,
        segment_bytes: 1 << 20,
        preallocate: false,
        header_note: Vec::new(),
    }
}

/// The first segment of a log: read, opened, appended to, and opened as an agent's spool.
///
/// # Panics
/// Where something is wrong.
pub fn segment(data: &[u8]) {
    let (seal, mut bytes) = sealed(data);
    if seal {
        seal::segment(&mut bytes);
    }
    let (sim, dir) = (SimDisk::new(1), Path::new("/log"));
    sim.put(Path::new(SEGMENT), &bytes);
    let disk: Arc<dyn Disk> = Arc::new(sim);
    let before = frames(&disk, dir);
    let told: usize = before.iter().map(|(_, payload)| payload.len()).sum();
    assert!(told <= bytes.len(), "more was read than there is");
    assert!(
        before.is_sorted_by(|a, b| a.0 < b.0),
        "positions do not rise"
    );
    if let Ok((mut log, _)) = Log::open(Arc::clone(&disk), dir, options(SPOOL)) {
        let position = log.append(b"dawn").and_then(|at| log.sync().map(|_| at));
        let mut want = before;
        want.push((position.expect("a sound disk"), b"dawn".to_vec()));
        assert!(
            frames(&disk, dir) == want,
            "frames were lost or came by opening and appending"
        );
    }
    let disk = SimDisk::new(1);
    disk.put(Path::new(SEGMENT), &bytes);
    let (limits, start) = (
        Limits {
            bytes_max: 1 << 20,
            items_max: 10_000,
        },
        Start {
            id: 7,
            at: Timestamp::UNIX_EPOCH,
        },
    );
    if let Ok(mut spool) = Spool::open(Arc::new(disk), dir, limits, start) {
        for epoch in spool.epochs() {
            let _entries = spool.read(&mut Cursor::new(epoch.id, epoch.first_seq), 512, 1 << 20);
        }
    }
}

fn frames(disk: &Arc<dyn Disk>, dir: &Path) -> Vec<(u64, Vec<u8>)> {
    let Ok(reader) = Reader::open(Arc::clone(disk), dir, SPOOL, 1) else {
        return Vec::new();
    };
    let frame = |read| match read {
        Ok(Read::Frame { position, payload }) => Some((position, payload)),
        Ok(Read::Damage { .. }) | Err(_) => None,
    };
    reader.filter_map(frame).collect()
}

/// A block of history.
///
/// # Panics
/// Where something is wrong.
pub fn block(data: &[u8]) {
    let (seal, mut bytes) = sealed(data);
    if seal {
        seal::block(&mut bytes);
    }
    let _head = Head::open(&bytes).map(|head| head.times_ms());
    let _read = read_block(&bytes);
}

/// Times and rows of a block, as far as they decode.
fn read_block(bytes: &[u8]) -> Option<(Vec<i64>, Vec<Vec<i64>>)> {
    let block = Block::open(bytes).ok()?;
    let (ticks, columns) = (block.ticks(), block.columns());
    assert!(
        ticks <= TICKS_MAX && columns <= SERIES_MAX,
        "{ticks} x {columns}"
    );
    let (times, rows) = (block.times_ms().ok()?, block.rows().ok()?);
    assert!(times.len() == ticks && rows.len() == ticks);
    assert!(rows.iter().all(|row| row.len() == columns));
    if ticks * columns <= VALUES_AGAIN {
        let slices: Vec<&[i64]> = rows.iter().map(Vec::as_slice).collect();
        for effort in [Effort::Quick, Effort::Best] {
            let again = encode(&times, &slices, effort);
            let again = Block::open(&again).expect("it was just written");
            assert_eq!(again.times_ms().as_ref(), Ok(&times));
            assert_eq!(again.rows().as_ref(), Ok(&rows));
        }
    }
    Some((times, rows))
}

/// A file of an hour.
///
/// # Panics
/// Where something is wrong.
pub fn hour_file(data: &[u8]) {
    let (seal, mut bytes) = sealed(data);
    if seal {
        seal::hour_file(&mut bytes);
    }
    let Ok(file) = HourFile::open(&written("fuzz.dwh", &bytes)) else {
        return;
    };
    for at in file.footer.blocks.iter().take(BLOCKS_READ) {
        one_block(&file, at, bytes.len());
    }
    for chunk in file.footer.events.iter().take(BLOCKS_READ) {
        let Ok(chunk) = file.read_events(chunk) else {
            continue;
        };
        assert!(chunk.len() <= bytes.len());
        for (_, event) in events::decode(&chunk).unwrap_or_default() {
            let _event = pb::Event::decode(event).map(Event::from_pb);
        }
    }
    if let Some(host) = file.footer.blocks.first().map(|block| block.host) {
        let _places = (file.blocks_of(host), file.events_of(Some(host)));
    }
}

fn one_block(file: &HourFile, at: &BlockAt, most: usize) {
    let Ok(bytes) = file.read(at) else {
        let _column = file.column(at, 0);
        return;
    };
    assert!(bytes.len() <= most, "more was read than there is");
    let Some((times, rows)) = read_block(&bytes) else {
        return;
    };
    let width = rows.first().map_or(0, Vec::len);
    for i in [0, width / 2, width.saturating_sub(1)] {
        let want = times
            .iter()
            .zip(&rows)
            .filter_map(|(time, row)| Some((*time, *row.get(i)?)));
        let column = file.column(at, i).unwrap_or_default();
        assert!(
            column.is_empty() || column.into_iter().eq(want),
            "column {i} is another one read alone"
        );
    }
}

/// A file of summaries.
///
/// # Panics
/// Where something is wrong.
pub fn summary(data: &[u8]) {
    let (seal, mut bytes) = sealed(data);
    if seal {
        seal::summary_file(&mut bytes);
    }
    let long = |at: usize| {
        let eight = bytes.get(at..).and_then(|b| b.first_chunk());
        eight.map_or(0, |b| u64::from_le_bytes(*b))
    };
    let at = file::SummaryAt {
        through: long(16),
        sealed_s: 0,
        min_s: 0,
        max_s: 0,
        step_s: u32::try_from(long(8) & 0xffff_ffff).unwrap_or(0),
    };
    let path = written(&at.name(), &bytes);
    let dir = path.parent().expect("it lies in a directory");
    let checked = file::check(&path, &at);
    let schema = super::seeds::schema();
    let one = &schema.series()[1];
    for host in [None, Some(HostId(1)), Some(HostId(3))] {
        let read = file::read(dir, &at, host, one);
        assert!(
            checked.is_err() || read.is_ok(),
            "a file that is sound cannot be read: {read:?}"
        );
        let parts = read.ok().flatten().map_or(0, |read| read.parts.len());
        // Steps that are alike take no bits: a group says of so many at most that they are there.
        let groups = bytes.len() / file::GROUP_BYTES_MIN;
        assert!(
            parts <= groups * file::GROUP_STEPS_MAX,
            "{parts} summaries in {} bytes",
            bytes.len()
        );
    }
    let anew = file::write_without(dir, &at, |host| host == HostId(1));
    assert!(checked.is_err() || anew.is_ok(), "{anew:?}");
    if anew.is_ok_and(|anew| anew) && checked.is_ok() {
        let again = file::check(&path, &at);
        assert!(again.is_ok(), "written anew, and damaged: {again:?}");
    }
    fs::remove_file(path).expect("it was just written");
}

/// A saved engine, a checkpoint, or the rows in one; the first byte says which.
///
/// # Panics
/// Where something is wrong.
pub fn saved(data: &[u8]) {
    let (seal, mut bytes) = sealed(data);
    match data.first().map_or(0, |first| first / 2 % 3) {
        0 => {
            if seal {
                seal::engine(&mut bytes);
            }
            let Ok(engine) = Engine::restore(&bytes) else {
                return;
            };
            let once = engine.save();
            let again = Engine::restore(&once).expect("it was just saved").save();
            assert!(
                once == again,
                "an engine is another one when it is restored"
            );
        }
        1 => {
            if seal {
                seal::checkpoint(&mut bytes);
            }
            let path = written("checkpoint/00000000000000000001.ckpt", &bytes);
            let data = path.parent().and_then(Path::parent).expect("two above it");
            let Ok(one) = checkpoint::read(data, 1) else {
                return;
            };
            let told = one.engine.len() + one.head.len();
            assert!(told <= bytes.len(), "more was read than there is");
        }
        _ => {
            let Ok(rows) = Rows::restore(&bytes, 0) else {
                return;
            };
            let _events = rows.events(None);
        }
    }
}

/// A file in a directory of this thread's own, with these bytes.
fn written(name: &str, bytes: &[u8]) -> PathBuf {
    thread_local! {
        static DIR: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
    }
    DIR.with_borrow_mut(|dir| {
        let dir = dir.get_or_insert_with(|| {
            let dir = tempfile::tempdir().expect("a directory");
            fs::create_dir(dir.path().join("checkpoint")).expect("a directory");
            dir
        });
        let path = dir.path().join(name);
        fs::write(&path, bytes).expect("a file");
        path
    })
}
