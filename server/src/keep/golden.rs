//! What the formats are, byte by byte: a fixed value of each kind must be written as `golden.txt` says, and what stands there must
//! be read. Files that a module has a golden of its own for are not here: the table of formats in ARCHITECTURE.md names them.
//!
//! `UPDATE_GOLDEN=1 cargo test -p dawnwatch-server --lib keep::golden` writes the file anew; a line that changes is a change of format:
//! its version goes up, and what was written before must still be read.

use std::path::Path;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use dawnwatch_engine::At;
use dawnwatch_engine::effect::{Effect, Entry};
use dawnwatch_engine::input::Input;
use dawnwatch_proto::{Kind, Schema, Series};
use dawnwatch_segment::{Disk, Log, Read, Reader, RealDisk};
use jiff::Timestamp;

use super::restored::Restored;
use super::version::Version;
use crate::checkpoint::{self, Checkpoint};
use crate::history::schemas::{Known, Schemas};
use crate::journal::{self, Group, Held};
use crate::ledger::{self, Frame, Ledger};
use crate::plain;

fn at() -> At {
    At {
        wall: Timestamp::from_second(1_790_000_000).unwrap(),
        boot_ms: 77_000,
        position: 9,
    }
}

fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

/// The payloads of a log, as they are on disk.
fn payloads(dir: &Path, kind: [u8; 4]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for read in Reader::open(disk(), dir, kind, 1).unwrap() {
        match read.unwrap() {
            Read::Frame { payload, .. } => found.push(payload.to_vec()),
            Read::Damage { .. } => panic!("damage"),
        }
    }
    found
}

fn schemas() -> [Schema; 2] {
    let one = |name: &str| Schema::new(vec![Series::new(name, Kind::Gauge)]);
    [one("node_load1"), one("node_load5")]
}

/// A fixed value of each kind, written.
fn written(data: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let (mut log, _) = Log::open(disk(), &data.join("journal"), journal::options()).unwrap();
    let group = Group {
        at: at(),
        inputs: vec![Input::Tick, Input::ClockStep { by_ms: -5 }],
    };
    let payload = plain::bytes_after(vec![journal::VERSION], &group);
    log.append(&payload).unwrap();
    log.sync().unwrap();
    let mut book = Ledger::open(&disk(), data).unwrap();
    let frame = Frame {
        position: 9,
        wall: at().wall,
        effects: vec![Effect::Record(Entry::Server {
            what: "golden".to_owned(),
        })],
    };
    book.append(&frame).unwrap();
    book.append(&frame).unwrap();
    let state = Checkpoint {
        frame: 4,
        at: at(),
        engine: vec![1, 2, 3],
        held: Held::default(),
        pending: Vec::new(),
        head: vec![4],
    };
    checkpoint::write(data, &state).unwrap();
    let known = Schemas::open(&disk(), &data.join("schemas")).unwrap();
    let [a, b] = schemas();
    known.add(&a).unwrap();
    known.add(&b).unwrap();
    known.add_union(&[a.id(), b.id()]).unwrap();
    known.sync().unwrap();
    let mark = Restored {
        until: Some(at().wall),
        how: "restored from a backup".to_owned(),
    };
    mark.write(data).unwrap();
    let version = Version {
        server: "0.1.0".to_owned(),
        since: at().wall,
        formats: [("hour".to_owned(), 3)].into(),
    };
    version.write(data).unwrap();
    let file = |name: &str| std::fs::read(data.join(name)).unwrap();
    let mut all = vec![
        ("checkpoint", file("checkpoint/00000000000000000004.ckpt")),
        ("restored", file("restored")),
        ("version", file("version")),
        // `journal/skip`, `history/expired` and `history/erased` are such lines too.
        ("summed", checkpoint::summed("4\n17\n").into_bytes()),
    ];
    let one = payloads(&data.join("journal"), *b"JRNL").into_iter();
    all.extend(one.map(|payload| ("journal", payload)));
    let one = payloads(&data.join("ledger"), *b"LEDG").into_iter();
    all.extend(one.map(|payload| ("ledger", payload)));
    let one = payloads(&data.join("schemas"), *b"SCHM").into_iter();
    all.extend(one.map(|payload| ("schema", payload)));
    all
}

#[test]
fn every_form_is_written_as_ever_and_what_was_written_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/keep/golden.txt");
    let dir = tempfile::tempdir().unwrap();
    let now: String = written(dir.path())
        .iter()
        .map(|(kind, bytes)| format!("{kind} {}\n", HEXLOWER.encode(bytes)))
        .collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(now, golden, "a form has changed");

    let mut known = Known::default();
    let mut kinds = std::collections::BTreeMap::<&str, usize>::new();
    for line in golden.lines() {
        let (kind, hex) = line.split_once(' ').unwrap();
        let bytes = HEXLOWER.decode(hex.as_bytes()).unwrap();
        *kinds.entry(kind).or_default() += 1;
        let to = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            let path = to.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, &bytes).unwrap();
        };
        match kind {
            "journal" => assert_eq!(journal::decode(1, &bytes).unwrap().inputs.len(), 2),
            "ledger" => assert_eq!(ledger::open_frame(1, &bytes).unwrap().frame.position, 9),
            "checkpoint" => {
                put("checkpoint/00000000000000000004.ckpt");
                let read = checkpoint::read(to.path(), 4).unwrap();
                assert_eq!((read.at, read.engine), (at(), vec![1, 2, 3]));
            }
            "schema" => known.take(&bytes).unwrap(),
            "restored" => {
                put("restored");
                assert_eq!(Restored::read(to.path()).unwrap().until, Some(at().wall));
            }
            "version" => {
                put("version");
                let read = Version::read(to.path()).unwrap().unwrap();
                assert_eq!((read.since, read.formats["hour"]), (at().wall, 3));
            }
            "summed" => {
                put("summed");
                let read = checkpoint::read_summed(&to.path().join("summed"));
                assert_eq!(read.unwrap().unwrap(), "4\n17\n");
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!((kinds["ledger"], kinds["schema"]), (2, 3));
    let [a, b] = schemas();
    let series = [a.series(), b.series()].concat();
    let union = known.get(Schema::new(series).id()).expect("the union");
    assert_eq!(union.series().len(), 2);
}
