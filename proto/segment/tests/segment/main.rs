//! The log from outside: everyday use, golden files, damage, power cuts, failing disks.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod damage;
mod everyday;
mod faults;
mod golden;
mod oracle;
mod power;

use std::path::Path;
use std::sync::Arc;

use dawnwatch_segment::sim::SimDisk;
use dawnwatch_segment::{Disk, Log, Options, Read, Reader, Recovery};

const KIND: [u8; 4] = *b"TEST";

fn dir() -> &'static Path {
    Path::new("/log")
}

fn options(segment_bytes: u64, preallocate: bool) -> Options {
    Options {
        kind: KIND,
        segment_bytes,
        preallocate,
        header_note: b"n1".to_vec(),
    }
}

fn open(disk: &SimDisk, options: &Options) -> (Log, Recovery) {
    Log::open(Arc::new(disk.clone()), dir(), options.clone()).unwrap()
}

/// What a reader met: frames, and damage as (segment, from, to, bytes).
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    frames: Vec<(u64, Vec<u8>)>,
    damage: Vec<(String, u64, u64, u64)>,
}

fn see(reader: impl Iterator<Item = Result<Read, dawnwatch_segment::Error>>) -> Seen {
    let mut seen = Seen::default();
    for item in reader {
        match item.unwrap() {
            Read::Frame { position, payload } => seen.frames.push((position, payload)),
            Read::Damage {
                segment,
                from_position,
                to_position,
                bytes,
            } => {
                seen.damage
                    .push((segment, from_position, to_position, bytes));
            }
        }
    }
    seen
}

fn see_all(disk: &SimDisk, from: u64) -> Seen {
    see(Reader::open(Arc::new(disk.clone()), dir(), KIND, from).unwrap())
}

/// A payload that tells its position and differs in size from its neighbours.
fn payload(position: u64) -> Vec<u8> {
    let mut text = format!("frame {position} ").into_bytes();
    let more = usize::try_from(position * 7 % 23).unwrap();
    text.extend(std::iter::repeat_n(b'x', more));
    text
}

fn files(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let mut names = disk.list(dir()).unwrap();
    names.sort();
    let read = |name: String| {
        let content = disk.content(&dir().join(&name)).unwrap();
        (name, content)
    };
    names.into_iter().map(read).collect()
}

fn disk_of(files: &[(String, Vec<u8>)]) -> SimDisk {
    let disk = SimDisk::new(1);
    for (name, content) in files {
        disk.put(&dir().join(name), content);
    }
    disk
}
