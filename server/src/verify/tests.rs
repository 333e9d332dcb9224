use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use dawnwatch_engine::effect::{Effect, Entry};
use dawnwatch_engine::input::Input;
use dawnwatch_engine::{At, Engine};
use dawnwatch_proto::event::{Event, EventBody, Line};
use dawnwatch_proto::{Kind, Schema, Series};
use dawnwatch_segment::{Disk, Log, RealDisk};
use jiff::Timestamp;

use super::*;
use crate::checkpoint::{self, Checkpoint};
use crate::history::History;
use crate::history::events::EventRow;
use crate::history::head::Row;
use crate::identity::Identity;
use crate::identity::people::People;
use crate::journal::{self, Group, Held as HeldSeqs};
use crate::keep::clean::Clean;
use crate::ledger::{Frame, Ledger};
use crate::{nights, plain};

const HOST: HostId = HostId(7);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

fn stamp(position: u64) -> At {
    At {
        wall: at(position.cast_signed()),
        boot_ms: position * 1_000,
        position,
    }
}

/// A data directory with a file of every kind, as a clean stop leaves it.
pub(crate) fn build(data: &Path) {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    drop(Identity::open(&data.join("identity"), at(0), &["mon.example".to_owned()]).unwrap());
    let people = People::open(&data.join("identity")).unwrap();
    people.admin_link(at(0)).unwrap();
    history(&disk, data);
    let ids = [
        ("N-2026-10-05.json", "{}\n"),
        ("N-2026-10-05.evidence.json", "{ }\n"),
    ];
    fs::create_dir_all(data.join("nights")).unwrap();
    for (name, text) in ids {
        fs::write(data.join("nights").join(name), text).unwrap();
    }
    ledger(data, ids);
    journal(data);
    for (frame, position) in [(3, 2), (9, 8)] {
        let checkpoint = Checkpoint {
            frame,
            at: stamp(position),
            engine: Engine::new().save(),
            held: HeldSeqs::default(),
            pending: Vec::new(),
            head: Vec::new(),
        };
        checkpoint::write(data, &checkpoint).unwrap();
    }
    let skip = checkpoint::summed("4\n");
    checkpoint::replace(&data.join("journal/skip"), skip.as_bytes()).unwrap();
    // Reserved space of the segments in use: as much of it as a test needs.
    for (room, bytes) in [("journal", 4_096), ("ledger", 8_192)] {
        let mut all = files::list(data, room).unwrap().into_iter();
        let last = all.rfind(|held| held.name.ends_with(".seg")).unwrap();
        let file = fs::File::options().write(true).open(data.join(last.path()));
        file.unwrap().set_len(bytes).unwrap();
    }
    Clean::write(data).unwrap();
}

/// Three hours: the first of them expired, all with their summaries.
fn history(disk: &Arc<dyn Disk>, data: &Path) {
    let (history, damage) = History::open(disk, data).unwrap();
    assert_eq!(damage, [""; 0]);
    let schema = Schema::new(vec![Series::new("node_load1", Kind::Gauge)]);
    history.schema(HOST, &schema).unwrap();
    for hour in 1..=3u64 {
        for position in hour * 100..hour * 100 + 50 {
            let row = Row {
                time_ms: stamp(position * 30).wall.as_millisecond(),
                schema: schema.id(),
                values: vec![position.cast_signed() * 7_919 % 1_000].into(),
                position,
            };
            history.push(HOST, row, 0);
            let body = EventBody::Line(Line {
                template: 1,
                severity: 3,
                source: "kernel".to_owned(),
                text: format!("line {position}"),
                cut_from: 0,
            });
            let time = stamp(position * 30).wall;
            history.push_event(HOST, EventRow::of(&Event { time, body }, time, position), 0);
        }
        let sealing = history.begin_seal();
        let now = at(hour.cast_signed() * 3_600);
        history.seal(&sealing, hour * 100 + 49, now).unwrap();
        history.summarise().unwrap();
    }
    history.erase(HostId(99)).unwrap();
    history.expire_oldest();
}

/// Five frames in two segments.
fn ledger(data: &Path, nights: [(&str, &str); 2]) {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    drop(Ledger::open(&disk, data).unwrap());
    let options = dawnwatch_segment::Options {
        kind: *b"LEDG",
        ..journal::options()
    };
    let (mut log, _) = Log::open(disk, &data.join("ledger"), options).unwrap();
    let mut head = crate::ledger::START;
    let mut append = |position: u64, effects: Vec<Effect>| {
        let frame = Frame {
            position,
            wall: stamp(position).wall,
            effects,
        };
        let payload = plain::bytes_after([&[1], &head[..]].concat(), &frame);
        head = crate::ledger::open_frame(1, &payload).unwrap().head;
        log.append(&payload).unwrap();
        if position == 3 {
            log.rotate().unwrap();
        }
    };
    let server = |what: &str| {
        let what = what.to_owned();
        Effect::Record(Entry::Server { what })
    };
    append(1, vec![server("first")]);
    append(3, vec![server("x"); 50]);
    append(5, vec![server("y"); 50]);
    let night = "N-2026-10-05".to_owned();
    let [review, evidence] = nights.map(|(_, text)| nights::hash_of(text.as_bytes()));
    let sealed = Entry::Sealed {
        night: night.clone(),
        hash: review,
    };
    let kept = Entry::Evidence {
        night,
        hash: evidence,
    };
    append(7, vec![Effect::Record(sealed), Effect::Record(kept)]);
    append(8, vec![server("last")]);
    log.sync().unwrap();
    drop(log);
    assert_eq!(
        Ledger::open(&(Arc::new(RealDisk) as Arc<dyn Disk>), data)
            .unwrap()
            .position(),
        8
    );
}

/// Eight groups in three segments.
fn journal(data: &Path) {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (mut log, _) = Log::open(disk, &data.join("journal"), journal::options()).unwrap();
    for position in 1..=8 {
        let group = Group {
            at: stamp(position),
            inputs: vec![Input::Tick],
        };
        log.append(&plain::bytes_after(vec![1], &group)).unwrap();
        if position == 3 || position == 6 {
            log.rotate().unwrap();
        }
    }
    log.sync().unwrap();
}

fn look(data: &Path) -> Report {
    verify(data, &mut |_| {}).unwrap()
}

fn paths(data: &Path) -> Vec<PathBuf> {
    let all = files::list_all(data).unwrap();
    all.iter().map(|held| data.join(held.path())).collect()
}

#[test]
fn a_sound_directory_of_every_kind_is_sound_stopped_and_running() {
    let dir = tempfile::tempdir().unwrap();
    build(dir.path());
    let report = look(dir.path());
    assert_eq!((report.damages.as_slice(), report.sound), (&[][..], true));
    assert_eq!(
        (report.unknown.len(), report.notes.len()),
        (0, 0),
        "{}",
        report.text()
    );
    let rooms: std::collections::BTreeSet<&str> = files::list_all(dir.path())
        .unwrap()
        .iter()
        .map(|held| held.room)
        .collect();
    assert_eq!(rooms.len(), ROOMS.len(), "a file of every kind");
    // Without the mark, as after a kill: the same files are sound, but for the space that the test took away.
    fs::remove_file(dir.path().join("clean")).unwrap();
    let killed = look(dir.path());
    assert!(
        killed
            .damages
            .iter()
            .all(|d| d.what.contains("not reserved")),
        "{}",
        killed.text()
    );
    let lock = fs::File::create(dir.path().join("LOCK")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let live = look(dir.path());
    assert!(live.running && live.sound, "{}", live.text());
}

/// Positions of a file: its head and tail byte by byte, and more over all of it.
fn positions(length: usize) -> Vec<usize> {
    let spread = (0..64).map(|i| i * length / 64);
    let head = 0..length.min(40);
    let tail = length.saturating_sub(40)..length;
    let all: std::collections::BTreeSet<usize> = head.chain(tail).chain(spread).collect();
    all.into_iter().filter(|at| *at < length).collect()
}

#[test]
fn every_flip_is_found_in_every_kind_of_file() {
    let dir = tempfile::tempdir().unwrap();
    build(dir.path());
    let (mut flips, mut found) = (0, 0);
    for path in paths(dir.path()) {
        let whole = fs::read(&path).unwrap();
        for at in positions(whole.len()) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&path, &flipped).unwrap();
            let report = look(dir.path());
            flips += 1;
            if report.sound {
                eprintln!(
                    "not found: byte {at} of {} in {}",
                    whole.len(),
                    path.display()
                );
            } else {
                found += 1;
            }
        }
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(found, flips);
    assert!(flips > 1_000, "{flips}");
    assert!(look(dir.path()).sound);
}

#[test]
fn every_cut_every_zeroed_page_and_every_missing_file_is_found_by_name() {
    let dir = tempfile::tempdir().unwrap();
    build(dir.path());
    let mut damages = 0;
    for path in paths(dir.path()) {
        let whole = fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let named = |what: &str| {
            let report = look(dir.path());
            let named = report
                .damages
                .iter()
                .any(|damage| damage.file.contains(&name));
            // A key and its certificate are one: which of them is damaged shows only by the other.
            let pair = report
                .damages
                .iter()
                .any(|d| d.file.starts_with("identity/"));
            assert!(
                named || (pair && name.contains('.')),
                "{what} of {name}\n{}",
                report.text()
            );
        };
        for cut in [0, 1, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..cut]).unwrap();
            named(&format!("cut at {cut}"));
            damages += 1;
        }
        for page in (0..whole.len()).step_by(whole.len().div_ceil(5).max(4_096)) {
            let mut zeroed = whole.clone();
            let end = (page + 4_096).min(whole.len());
            if zeroed[page..end].iter().all(|byte| *byte == 0) {
                continue;
            }
            zeroed[page..end].fill(0);
            fs::write(&path, &zeroed).unwrap();
            named(&format!("page at {page}"));
            damages += 1;
        }
        fs::remove_file(&path).unwrap();
        named("removal");
        damages += 1;
        fs::write(&path, &whole).unwrap();
    }
    assert!(damages > 100, "{damages}");
    assert!(look(dir.path()).sound);
}

#[test]
fn without_the_mark_of_a_clean_stop_the_files_speak_of_each_other() {
    let dir = tempfile::tempdir().unwrap();
    build(dir.path());
    fs::remove_file(dir.path().join("clean")).unwrap();
    for (gone, told) in [
        ("history/00000000000000000249.dwh", "its summary is there"),
        ("history/expired", "its summary is there"),
        ("nights/N-2026-10-05.json", "the ledger says"),
        ("journal/00000000000000000001.seg", "are gone, from frame 3"),
        ("journal/00000000000000000004.seg", "gone with a segment"),
        ("ledger/00000000000000000001.seg", "are gone, from frame 1"),
        (
            "history/schemas/00000000000000000001.seg",
            "not in the schema log",
        ),
        ("identity/ca.key", "it is gone"),
        ("identity/state.json", "it is gone"),
    ] {
        let path = dir.path().join(gone);
        let whole = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let report = look(dir.path());
        let found = report
            .damages
            .iter()
            .any(|damage| damage.what.contains(told));
        assert!(found, "{gone}\n{}", report.text());
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn a_damage_says_where_what_it_costs_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    build(dir.path());
    let path = dir.path().join("history/00000000000000000249.dwh");
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 4;
    fs::write(&path, &bytes).unwrap();
    fs::write(dir.path().join("history/holiday\u{1b}[31m.jpg"), "x").unwrap();
    let report = look(dir.path());
    let damage = &report.damages[0];
    assert_eq!(
        (damage.file.as_str(), damage.place.as_str()),
        ("history/00000000000000000249.dwh", "byte 8")
    );
    assert_eq!(damage.from, Some(stamp(200 * 30).wall));
    assert_eq!(damage.to, Some(stamp(249 * 30).wall));
    assert_eq!((damage.costs, damage.hosts_all), (Cost::Samples, 1));
    assert_eq!((report.unknown_all, report.damages_all), (1, 1));
    let text = report.text();
    assert!(
        text.contains("DAMAGED: 1") && text.contains("backup"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "{text}");
    let missing = verify(&dir.path().join("nights/none"), &mut |_| {}).unwrap_err();
    assert!(missing.to_string().contains("none"));
}
