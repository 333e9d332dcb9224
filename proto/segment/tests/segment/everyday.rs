//! A log that nothing happens to.

use std::path::Path;
use std::sync::Arc;

use dawnwatch_segment::sim::{Call, SimDisk};
use dawnwatch_segment::{
    Disk, Error, Log, NOTE_BYTES_MAX, Options, PAYLOAD_BYTES_MAX, Reader, RealDisk,
};

use crate::{KIND, disk_of, files, open, options, payload, see, see_all};

#[test]
fn what_is_appended_is_read_on_a_real_disk() {
    for preallocate in [false, true] {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("deep/log");
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let options = options(400, preallocate);
        let (mut log, recovery) = Log::open(Arc::clone(&disk), &dir, options.clone()).unwrap();
        assert_eq!(recovery.next_position, 1);
        assert_eq!(
            (
                log.first_position(),
                log.next_position(),
                log.durable_position()
            ),
            (1, 1, 0)
        );
        assert_eq!(log.sync().unwrap(), 0);
        for position in 1..=50 {
            assert_eq!(log.append(&payload(position)).unwrap(), position);
        }
        let group = [payload(51), payload(52), payload(53)];
        assert_eq!(log.append_many(&group).unwrap(), 51..54);
        assert_eq!(log.append_many::<&[u8]>(&[]).unwrap(), 54..54);
        assert_eq!(log.sync().unwrap(), 53);
        let expected: Vec<_> = (1..54)
            .map(|position| (position, payload(position)))
            .collect();
        check_segments(&log, &dir, preallocate);

        let seen = see(Reader::open(Arc::clone(&disk), &dir, KIND, 0).unwrap());
        assert_eq!((seen.frames, seen.damage.len()), (expected.clone(), 0));
        for from in [1, 2, 17, 53, 54, 1000] {
            let rest: Vec<_> = expected
                .iter()
                .filter(|(p, _)| *p >= from)
                .cloned()
                .collect();
            assert_eq!(see(log.read(from)).frames, rest, "from {from}");
            let reader = Reader::open(Arc::clone(&disk), &dir, KIND, from).unwrap();
            assert_eq!(see(reader).frames, rest, "from {from}");
        }
        drop(log);

        let (mut log, recovery) = Log::open(Arc::clone(&disk), &dir, options).unwrap();
        assert_eq!((recovery.next_position, recovery.cut), (54, None));
        assert_eq!(log.durable_position(), 53);
        assert_eq!(log.append(&payload(54)).unwrap(), 54);
        assert_eq!(see(log.read(54)).frames, [(54, payload(54))]);
    }
}

fn check_segments(log: &Log, dir: &Path, preallocate: bool) {
    assert!(log.segments().len() > 3);
    let mut next = 1;
    let mut total = 0;
    for (index, segment) in log.segments().iter().enumerate() {
        assert_eq!(segment.first_position, next);
        assert_eq!(segment.name, format!("{next:020}.seg"));
        assert!(segment.bytes <= 400);
        let on_disk = std::fs::metadata(dir.join(&segment.name)).unwrap().len();
        if index + 1 == log.segments().len() && preallocate {
            assert!(on_disk == 400 || on_disk == segment.bytes);
        } else {
            assert_eq!(on_disk, segment.bytes);
        }
        total += segment.bytes;
        next = segment.last_position + 1;
    }
    assert_eq!(next, 54);
    assert_eq!(log.bytes(), total);
}

#[test]
fn a_reader_goes_on_with_the_log() {
    for preallocate in [false, true] {
        let disk = SimDisk::new(1);
        let (mut log, _) = open(&disk, &options(300, preallocate));
        let mut reader = log.read(3);
        assert!(reader.next().is_none());
        let mut expected = 3;
        for round in 0..40 {
            for _ in 0..=round % 4 {
                log.append(&payload(log.next_position())).unwrap();
            }
            assert!(
                reader.next().is_none(),
                "it ends where the log ended when it was made"
            );
            log.read_on(&mut reader);
            for (position, content) in see(reader.by_ref()).frames {
                assert_eq!((position, content), (expected, payload(expected)));
                expected += 1;
            }
            assert_eq!(expected, log.next_position().max(3));
        }
        assert!(log.segments().len() > 5);
    }
}

#[test]
fn a_standalone_reader_follows_a_writer() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, &options(1 << 20, true));
    let mut reader = Reader::open(Arc::new(disk), crate::dir(), KIND, 1).unwrap();
    for position in 1..20 {
        assert!(reader.next().is_none());
        log.append(&payload(position)).unwrap();
        assert_eq!(see(reader.by_ref()).frames, [(position, payload(position))]);
    }
}

#[test]
fn release_removes_whole_segments_and_never_the_active_one() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, &options(200, true));
    for position in 1..=40 {
        log.append(&payload(position)).unwrap();
    }
    log.sync().unwrap();
    let third = log.segments()[2].clone();
    assert_eq!(log.release(third.first_position).unwrap(), 2);
    assert_eq!(log.release(third.last_position).unwrap(), 0);
    assert_eq!(log.first_position(), third.first_position);
    let seen = see_all(&disk, 1);
    assert_eq!(seen.frames[0].0, third.first_position);
    assert_eq!(seen.damage, [], "what was released is no damage");
    assert!(log.release(u64::MAX).unwrap() > 0);
    assert_eq!(log.segments().len(), 1);
    log.rotate().unwrap();
    log.release(u64::MAX).unwrap();
    assert_eq!((log.first_position(), log.next_position()), (41, 41));
    log.rotate().unwrap();
    assert_eq!(log.segments().len(), 1, "an empty segment is not rotated");
    drop(log);
    disk.power_cut();
    let (log, _) = open(&disk, &options(200, true));
    assert_eq!(
        log.next_position(),
        41,
        "positions go on though nothing is kept"
    );
}

#[test]
fn another_note_begins_another_segment() {
    let disk = SimDisk::new(1);
    let note = |note: &str| Options {
        header_note: note.into(),
        ..options(1 << 20, true)
    };
    let notes = |log: &Log| -> Vec<(u64, Vec<u8>)> {
        let segments = log.segments().iter();
        segments
            .map(|s| (s.first_position, s.note.clone().unwrap()))
            .collect()
    };
    let (mut log, _) = open(&disk, &note("a"));
    log.append(b"1").unwrap();
    let (log, _) = open(&disk, &note("b"));
    assert_eq!(notes(&log), [(1, b"a".to_vec()), (2, b"b".to_vec())]);
    let (log, _) = open(&disk, &note("c"));
    assert_eq!(
        notes(&log),
        [(1, b"a".to_vec()), (2, b"c".to_vec())],
        "an empty one is replaced"
    );
    let (log, _) = open(&disk, &note("c"));
    assert_eq!(notes(&log), [(1, b"a".to_vec()), (2, b"c".to_vec())]);
    disk.power_cut();
    let (mut log, _) = open(&disk, &note("c"));
    assert_eq!(log.append(b"2").unwrap(), 2);
    assert_eq!(see_all(&disk, 1).frames.len(), 2);
}

#[test]
fn what_is_too_large_or_empty_is_refused_and_changes_nothing() {
    let disk = SimDisk::new(1);
    let long = Options {
        header_note: vec![1; NOTE_BYTES_MAX + 1],
        ..options(100, false)
    };
    let refused = Log::open(Arc::new(disk.clone()), crate::dir(), long);
    assert!(matches!(
        refused,
        Err(Error::NoteTooLong { bytes: 257, .. })
    ));
    let (mut log, _) = open(&disk, &options(100, false));
    assert!(matches!(log.append(b""), Err(Error::Empty { .. })));
    let large = vec![1; PAYLOAD_BYTES_MAX + 1];
    let group: [&[u8]; 2] = [b"fine", &large];
    assert!(matches!(
        log.append_many(&group),
        Err(Error::TooLarge { .. })
    ));
    assert_eq!(
        log.append(&large[1..]).unwrap(),
        1,
        "neither poisons the log, and the limit itself fits"
    );
    let seen = see(log.read(1));
    assert!(seen.frames.len() == 1 && seen.frames[0].1 == large[1..]);
    assert_eq!(see_all(&disk, 1), seen);
}

#[test]
fn other_kinds_and_newer_versions_are_refused_and_stay_untouched() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, &options(100, true));
    for position in 1..10 {
        log.append(&payload(position)).unwrap();
    }
    let sound = files(&disk);
    for index in 0..sound.len() {
        let mut newer = sound.clone();
        newer.push((format!("{:020}.new", 99), b"left over".to_vec()));
        let header = &mut newer[index].1[..28];
        header[8..12].copy_from_slice(&2_u32.to_le_bytes());
        let crc = crc32c::crc32c(&header[..24]);
        header[24..].copy_from_slice(&crc.to_le_bytes());
        let disk = disk_of(&newer);
        let refused = Log::open(Arc::new(disk.clone()), crate::dir(), options(100, true));
        let error = refused.unwrap_err();
        assert!(
            matches!(
                error,
                Error::NewerVersion {
                    found: 2,
                    known: 1,
                    ..
                }
            ),
            "{error}"
        );
        newer.sort();
        assert_eq!(files(&disk), newer);
    }
    let disk = disk_of(&sound);
    let other = Options {
        kind: *b"JRNL",
        ..options(100, true)
    };
    let error = Log::open(Arc::new(disk.clone()), crate::dir(), other).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("a log of kind 'TEST', wanted 'JRNL'"),
        "{error}"
    );
    assert_eq!(files(&disk), sound);
    assert_eq!(disk.calls(Call::Write) + disk.calls(Call::Remove), 0);
}

#[test]
fn foreign_names_are_left_alone() {
    let disk = SimDisk::new(1);
    disk.put(&crate::dir().join("skip"), b"7");
    disk.put(&crate::dir().join("1.seg"), b"x");
    let (mut log, _) = open(&disk, &options(100, false));
    log.append(b"1").unwrap();
    log.release(u64::MAX).unwrap();
    assert_eq!(files(&disk).len(), 3);
}
