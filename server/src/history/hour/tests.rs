use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use dawnwatch_engine::block::{Effort, TICKS_MAX};
use dawnwatch_proto::{Kind, MISSING, Schema, SchemaId, Series};
use dawnwatch_segment::{Disk, RealDisk};
use jiff::Timestamp;

use super::*;
use crate::history::events::EventRow;
use crate::history::head::{HostRows, Mini, Row};
use crate::history::schemas::Schemas;
use crate::plain;

fn schemas(dir: &Path) -> Schemas {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    Schemas::open(&disk, &dir.join("schemas")).unwrap()
}

fn row(i: i64, schema: SchemaId, values: Vec<i64>) -> Row {
    Row {
        time_ms: i * 10_000,
        schema,
        values: values.into(),
        position: 1,
    }
}

/// Three hosts with four mini blocks of two columns, and an event each.
fn hosts() -> BTreeMap<HostId, HostRows> {
    let mut hosts = BTreeMap::new();
    for host in 1..=3u128 {
        let mut rows = HostRows::default();
        for part in 0..4i64 {
            let ticks = part * 60..part * 60 + 60;
            let part: Vec<Row> = ticks
                .map(|i| row(i, SchemaId(9), vec![i % 60, 5]))
                .collect();
            rows.minis.extend(Mini::of(&part, Effort::Quick));
        }
        rows.events = vec![EventRow {
            time_ms: 5,
            position: 1,
            bytes: b"\x08\x05".as_slice().into(),
        }];
        hosts.insert(HostId(host), rows);
    }
    hosts
}

fn written(dir: &Path, hosts: &BTreeMap<HostId, HostRows>) -> HourFile {
    write(dir, hosts, &schemas(dir), (77, Timestamp::UNIX_EPOCH)).unwrap()
}

fn short(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap()
}

/// A file of blocks of an earlier version, as it was written.
fn earlier(version: u32, block: &[u8]) -> Vec<u8> {
    let mut file = MAGIC.to_vec();
    file.extend(version.to_le_bytes());
    file.extend(block);
    // host, schema, lowest and highest time, offset, length, checksum
    let at = (2u128, 9u64, 10_000i64, 30_000i64, 8u64, short(block));
    let at = (at.0, at.1, at.2, at.3, at.4, at.5, crc32c::crc32c(block));
    let events = vec![(2u128, 5i64, 5i64, 1u32, 8u64, 1u32, 0u32)];
    let footer = match version {
        1 => plain::bytes(&(77u64, 0i64, vec![at])),
        _ => plain::bytes(&(77u64, 0i64, vec![at], events)),
    };
    file.extend(&footer);
    file.extend(short(&footer).to_le_bytes());
    file.extend(crc32c::crc32c(&footer).to_le_bytes());
    file.extend(END);
    file
}

#[test]
fn files_of_versions_1_and_2_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let block = [
        1, 3, 2, 8, 2, 4, 2, 162, 156, 1, 162, 156, 1, 2, 0, 12, 1, 16, 6, 1,
    ];
    for (version, events) in [(1, 0), (2, 1)] {
        let path = dir.path().join("old.dwh");
        fs::write(&path, earlier(version, &block)).unwrap();
        let file = HourFile::open(&path).unwrap();
        assert_eq!(
            (file.footer.through, file.events_of(None).len()),
            (77, events)
        );
        let at = file.blocks_of(HostId(2))[0];
        assert_eq!((at.head, at.schema), (0, SchemaId(9)));
        assert_eq!(file.read(&at).unwrap(), block);
        let want = [(10_000, 7), (20_000, 9), (30_000, MISSING)];
        assert_eq!(file.column(&at, 1).unwrap(), want);
        assert!(file.column(&at, 2).is_err());
    }
    fs::write(dir.path().join("later.dwh"), earlier(4, &block)).unwrap();
    assert!(HourFile::open(&dir.path().join("later.dwh")).is_err());
}

#[test]
fn the_format_stays() {
    let dir = tempfile::tempdir().unwrap();
    let file = written(dir.path(), &hosts());
    let bytes = fs::read(&file.path).unwrap();
    assert_eq!(bytes[..8], *b"DWHH\x03\0\0\0");
    assert_eq!((bytes.len(), crc32c::crc32c(&bytes)), (236, 3_089_110_309));
}

#[test]
fn what_is_written_is_read_and_every_flip_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let file = written(dir.path(), &hosts());
    assert_eq!(
        file.footer.blocks.len(),
        3,
        "four mini blocks became one block a host"
    );
    let block = file.blocks_of(HostId(2))[0];
    assert_eq!((block.min_ms, block.max_ms), (0, 239 * 10_000));
    assert!(file.meets(0, 1) && file.meets(239 * 10_000, 9_999_999));
    assert!(!file.meets(-5, 0) && !file.meets(239 * 10_000 + 1, 9_999_999));
    let bytes = file.read(&block).unwrap();
    assert_eq!(Block::open(&bytes).unwrap().times_ms().unwrap().len(), 240);
    let want: Vec<(i64, i64)> = (0..240).map(|i| (i * 10_000, i % 60)).collect();
    assert_eq!(file.column(&block, 0).unwrap(), want);
    assert!(file.column(&block, 2).is_err());
    assert!(file.blocks_of(HostId(4)).is_empty());

    let whole = fs::read(&file.path).unwrap();
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(&file.path, &flipped).unwrap();
        let found = match HourFile::open(&file.path) {
            Err(_) => true,
            Ok(file) => {
                let mut blocks = file.footer.blocks.iter();
                let mut events = file.footer.events.iter();
                let both = |block| file.column(block, 0).and(file.column(block, 1));
                let read = blocks.clone().any(|block| file.read(block).is_err());
                let columns = blocks.any(|block| both(block).is_err());
                assert_eq!(read, columns, "at byte {at}");
                read || events.any(|chunk| file.read_events(chunk).is_err())
            }
        };
        assert!(found, "flip at byte {at} of {}", whole.len());
    }
    for cut in 0..whole.len() {
        fs::write(&file.path, &whole[..cut]).unwrap();
        assert!(HourFile::open(&file.path).is_err(), "cut at {cut}");
    }
}

fn gauge(name: &str) -> Series {
    Series::new(name, Kind::Gauge)
}

/// A host's hour of 40 noisy series; from these ticks on it has the series that are named as well, or no longer.
fn hour(changes: &[(i64, &[&str])], schemas: &Schemas) -> HostRows {
    let mut rows = HostRows::default();
    let mut raw: Vec<Row> = Vec::new();
    for i in 0..360i64 {
        let change = changes.iter().rev().find(|(from, _)| *from <= i);
        let more = change.map_or(&[][..], |(_, more)| more);
        let names = (0..40).map(|n| format!("s{n}"));
        let names = names.chain(more.iter().map(|one| (*one).to_owned()));
        let schema = Schema::new(names.map(|name| gauge(&name)).collect());
        schemas.add(&schema).unwrap();
        let noise = |n: i64| {
            let mix = (i * 40 + n + 1).wrapping_mul(0x1E37_79B9_7F4A_7C15);
            let mix = (mix ^ (mix >> 29)).wrapping_mul(0x3F58_476D_1CE4_E5B9);
            (mix >> 20).rem_euclid(1 << (n % 12))
        };
        let values = (0..40).map(noise).chain(more.iter().map(|_| 70 + i % 2));
        let next = row(i, schema.id(), values.collect());
        if raw.len() == 60 || raw.last().is_some_and(|last| last.schema != next.schema) {
            rows.minis.extend(Mini::of(&raw, Effort::Quick));
            raw.clear();
        }
        raw.push(next);
    }
    // The latest rows are sealed as they are.
    rows.raw = raw;
    rows
}

#[test]
fn a_change_of_schema_splits_no_hour() {
    let dir = tempfile::tempdir().unwrap();
    let known = schemas(dir.path());
    let mut sizes = Vec::new();
    let changes: [&[(i64, &[&str])]; 3] = [
        &[(0, &["a", "b"])],
        &[(0, &["a", "b"]), (100, &["b", "c"]), (230, &["c", "d"])],
        &[(0, &["a", "b"]), (50, &["b"]), (90, &["a", "b"])],
    ];
    for (n, changes) in changes.into_iter().enumerate() {
        let hosts = BTreeMap::from([(HostId(1), hour(changes, &known))]);
        let at = (n as u64 + 1, Timestamp::UNIX_EPOCH);
        let file = write(dir.path(), &hosts, &known, at).unwrap();
        let [block] = file.footer.blocks[..] else {
            panic!("{} blocks", file.footer.blocks.len());
        };
        // What a restart reads of the log.
        let known = schemas(dir.path());
        let union = known.get(block.schema).unwrap();
        let ticks = |name: &str| {
            let column = union.series().iter().position(|one| one.name == name);
            let read = file.column(&block, column.unwrap()).unwrap();
            assert_eq!(read.len(), 360);
            let there = read.iter().filter(|(_, value)| *value != MISSING);
            there.map(|(time, _)| time / 10_000).collect::<Vec<i64>>()
        };
        assert_eq!(ticks("s7"), (0..360).collect::<Vec<i64>>());
        if n == 1 {
            assert_eq!(ticks("a"), (0..100).collect::<Vec<i64>>());
            assert_eq!(ticks("b"), (0..230).collect::<Vec<i64>>());
            assert_eq!(ticks("c"), (100..360).collect::<Vec<i64>>());
        }
        // Each of them sent as many samples, but for 40 of the last.
        sizes.push(f64::from(block.length) / (360.0 * 42.0));
    }
    println!("bytes a sample without and with changes of schema: {sizes:.4?}");
    assert!(
        sizes[1] < sizes[0] * 1.05 && sizes[2] < sizes[0] * 1.05,
        "{sizes:?}"
    );
}

#[test]
fn what_does_not_fit_into_one_block_is_split() {
    let dir = tempfile::tempdir().unwrap();
    let known = schemas(dir.path());
    let plain = Schema::new(vec![gauge("x"), gauge("y")]);
    let finer = Schema::new(vec![gauge("x").quantum(1, 100), gauge("z")]);
    let other = Schema::new(vec![gauge("z"), gauge("y")]);
    for schema in [&plain, &finer, &other] {
        known.add(schema).unwrap();
    }
    let unknown = SchemaId(5);
    let blocks = |ids: &[SchemaId], ticks: i64| {
        let mut rows = HostRows::default();
        for (n, id) in (0..).zip(ids) {
            let part: Vec<Row> = (0..ticks)
                .map(|i| row(n * ticks + i, *id, vec![i, 3]))
                .collect();
            rows.minis.extend(Mini::of(&part, Effort::Quick));
        }
        let hosts = BTreeMap::from([(HostId(1), rows)]);
        let file = write(dir.path(), &hosts, &known, (1, Timestamp::UNIX_EPOCH)).unwrap();
        let blocks = file.footer.blocks.iter();
        blocks.map(|block| block.schema).collect::<Vec<SchemaId>>()
    };
    let (a, b, c) = (plain.id(), finer.id(), other.id());
    assert_eq!(blocks(&[a, a, c, a], 60).len(), 1);
    assert_eq!(
        blocks(&[a, b, a], 60),
        [a, b, a],
        "a series counted in another unit"
    );
    assert_eq!(
        blocks(&[a, unknown, a], 60),
        [a, unknown, a],
        "series that nobody knows"
    );
    assert_eq!(blocks(&[a; 13], 60), [a, a], "more than {TICKS_MAX} rows");
}
