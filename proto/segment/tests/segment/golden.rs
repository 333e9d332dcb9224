//! The bytes on disk stay what they are: a log built today equals the files in `golden/`, and those are read.
//! `BLESS=1` writes them anew, for a new version of the format.

use std::path::PathBuf;
use std::sync::Arc;

use dawnwatch_segment::sim::SimDisk;
use dawnwatch_segment::{Options, Reader, RealDisk};

use crate::{KIND, disk_of, files, open, options, see, see_all};

fn golden_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn frames() -> Vec<(u64, Vec<u8>)> {
    vec![
        (1, b"a".to_vec()),
        (2, b"the night of 2 October".to_vec()),
        (3, vec![0; 40]),
        (4, (0..=255).collect()),
    ]
}

fn build() -> Vec<(String, Vec<u8>)> {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, &options(1 << 20, false));
    log.append(&frames()[0].1).unwrap();
    log.append_many(&[&frames()[1].1, &frames()[2].1]).unwrap();
    log.sync().unwrap();
    let other_note = Options {
        header_note: Vec::new(),
        ..options(1 << 20, false)
    };
    let (mut log, _) = open(&disk, &other_note);
    log.append(&frames()[3].1).unwrap();
    files(&disk)
}

#[test]
fn a_log_built_today_equals_the_golden_files() {
    let built = build();
    assert_eq!(built.len(), 2);
    for (name, content) in built {
        let path = golden_dir().join(name);
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &content).unwrap();
        }
        let golden = std::fs::read(&path).unwrap();
        assert_eq!(content, golden, "{}", path.display());
    }
}

#[test]
fn the_golden_files_are_read_and_taken_up() {
    let reader = Reader::open(Arc::new(RealDisk), &golden_dir(), KIND, 0).unwrap();
    let seen = see(reader);
    assert_eq!(seen.frames, frames());
    assert_eq!(seen.damage, []);

    let mut golden = Vec::new();
    for entry in std::fs::read_dir(golden_dir()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        golden.push((name, std::fs::read(path).unwrap()));
    }
    let disk = disk_of(&golden);
    let (mut log, recovery) = open(&disk, &options(1 << 20, false));
    assert_eq!((recovery.next_position, recovery.cut), (5, None));
    let notes: Vec<_> = log
        .segments()
        .iter()
        .map(|segment| segment.note.clone().unwrap())
        .collect();
    assert_eq!(notes, [b"n1".to_vec(), vec![], b"n1".to_vec()]);
    assert_eq!(log.append(b"next").unwrap(), 5);
    assert_eq!(see_all(&disk, 5).frames, [(5, b"next".to_vec())]);
}

#[test]
fn the_layout_is_the_documented_one() {
    let (_, first) = build().swap_remove(0);
    let mut expected = Vec::new();
    expected.extend_from_slice(b"DWSGTEST");
    expected.extend_from_slice(&1_u32.to_le_bytes());
    expected.extend_from_slice(&1_u64.to_le_bytes());
    expected.extend_from_slice(&[2, 0, b'n', b'1']);
    assert_eq!(&first[..24], &expected);
    // Behind the header's checksum: the first frame, one byte long.
    assert_eq!(&first[28..32], &[1, 0, 0, 0]);
    assert_eq!(first[36], b'a');
}
