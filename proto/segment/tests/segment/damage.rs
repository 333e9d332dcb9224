//! Logs cut, flipped, zeroed and bereft of files.

use std::ops::Range;

use dawnwatch_segment::Disk;
use dawnwatch_segment::sim::SimDisk;
use proptest::prelude::*;

use crate::{Seen, disk_of, files, open, options, payload, see_all};

type Files = Vec<(String, Vec<u8>)>;

/// A log with its files and, per file, where each frame stands.
struct Sample {
    files: Files,
    frames: Vec<(u64, Vec<u8>)>,
    places: Vec<(usize, Range<usize>)>,
}

fn sample(payloads: &[Vec<u8>], segment_bytes: u64, preallocate: bool) -> Sample {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, &options(segment_bytes, preallocate));
    let mut frames = Vec::new();
    let mut places = Vec::new();
    for payload in payloads {
        let position = log.append(payload).unwrap();
        let end = usize::try_from(log.segments().last().unwrap().bytes).unwrap();
        places.push((log.segments().len() - 1, end - payload.len() - 8..end));
        frames.push((position, payload.clone()));
    }
    log.sync().unwrap();
    Sample {
        files: files(&disk),
        frames,
        places,
    }
}

fn payloads(count: u64) -> Vec<Vec<u8>> {
    (1..=count).map(payload).collect()
}

/// Opens, checks what is read, appends, opens again: what is there stays, and the log goes on.
fn opens_with(files: &Files, expected: &[(u64, Vec<u8>)], segment_bytes: u64, what: &str) -> Seen {
    let disk = disk_of(files);
    for preallocate in [false, true] {
        let (log, recovery) = open(&disk, &options(segment_bytes, preallocate));
        let seen = see_all(&disk, 1);
        assert_eq!(seen.frames, expected, "{what}");
        assert_eq!(crate::see(log.read(1)).frames, expected, "{what}");
        assert_eq!(recovery.next_position, log.next_position());
    }
    let (mut log, recovery) = open(&disk, &options(segment_bytes, false));
    assert_eq!(recovery.cut, None, "{what}: cut once, whole ever after");
    let position = log.append(b"after").unwrap();
    log.sync().unwrap();
    disk.power_cut();
    open(&disk, &options(segment_bytes, false));
    let seen = see_all(&disk, 1);
    let mut with_next = expected.to_vec();
    with_next.push((position, b"after".to_vec()));
    assert_eq!(seen.frames, with_next, "{what}");
    seen
}

fn cut_everywhere(sample: &Sample, segment_bytes: u64) {
    let last = sample.files.len() - 1;
    for cut in 0..=sample.files[last].1.len() {
        let mut files = sample.files.clone();
        files[last].1.truncate(cut);
        let whole = sample
            .places
            .iter()
            .take_while(|(file, at)| *file < last || at.end <= cut);
        let expected = &sample.frames[..whole.count()];
        let what = format!("cut at {cut}");
        assert_eq!(see_all(&disk_of(&files), 1).frames, expected, "{what}");
        let seen = opens_with(&files, expected, segment_bytes, &what);
        assert_eq!(seen.damage, [], "{what}");
    }
}

#[test]
fn cut_at_every_byte() {
    for preallocate in [false, true] {
        cut_everywhere(&sample(&payloads(12), 200, preallocate), 200);
    }
}

/// Positions are kept, nothing is invented, and at most `lost` frames are missing.
fn check_subset(seen: &Seen, sample: &Sample, lost: usize, what: &str) {
    let mut all = sample.frames.iter();
    for frame in &seen.frames {
        assert!(
            all.any(|expected| expected == frame),
            "{what}: invented or doubled {frame:?}"
        );
    }
    let missing = sample
        .frames
        .iter()
        .filter(|frame| !seen.frames.contains(frame));
    let missing: Vec<u64> = missing.map(|(position, _)| *position).collect();
    assert!(missing.len() <= lost, "{what}: lost {missing:?}");
    let last = sample.frames.len();
    for position in missing {
        let reported = seen
            .damage
            .iter()
            .any(|(_, from, to, _)| (*from..*to).contains(&position));
        let torn_tail = position == sample.frames[last - 1].0;
        assert!(
            reported || torn_tail,
            "{what}: {position} is missing unreported: {seen:?}"
        );
    }
}

#[test]
fn flip_every_bit() {
    for preallocate in [false, true] {
        let sample = sample(&payloads(14), 180, preallocate);
        assert!(sample.files.len() >= 3);
        let mut hits = 0;
        for file in 0..sample.files.len() {
            for bit in 0..sample.files[file].1.len() * 8 {
                let mut files = sample.files.clone();
                files[file].1[bit / 8] ^= 1 << (bit % 8);
                let what = format!("file {file}, bit {bit}");
                let disk = disk_of(&files);
                let seen = see_all(&disk, 1);
                check_subset(&seen, &sample, 1, &what);
                let frames = seen.frames.clone();
                let (log, recovery) = open(&disk, &options(180, preallocate));
                let after = see_all(&disk, 1);
                check_subset(&after, &sample, 1, &what);
                assert_eq!(after.frames, frames, "{what}");
                assert!(log.next_position() > frames.last().unwrap().0, "{what}");
                let noticed = !seen.damage.is_empty() || recovery.cut.is_some();
                assert!(noticed, "{what}: not noticed");
                hits += usize::from(frames.len() < sample.frames.len());
            }
        }
        assert!(hits > 500, "the flips must hit frames: {hits}");
    }
}

#[test]
fn a_damaged_header_costs_no_frame() {
    for count in [3, 12] {
        let sample = sample(&payloads(count), 200, false);
        let last = sample.files.len() - 1;
        for file in 0..=last {
            let mut files = sample.files.clone();
            files[file].1[1] = b'?';
            let seen = opens_with(&files, &sample.frames, 200, "header");
            let first = sample.places.iter().position(|(f, _)| *f == file).unwrap();
            let first = sample.frames[first].0;
            assert_eq!(seen.damage, [(files[file].0.clone(), first, first, 28)]);
        }
    }
}

#[test]
fn a_last_segment_without_header_or_frames_is_made_anew() {
    let sample = sample(&payloads(6), 200, false);
    let next = 7;
    let name = format!("{next:020}.seg");
    for content in [vec![], vec![0; 4096], b"DWSG".to_vec(), vec![b'#'; 3000]] {
        let mut files = sample.files.clone();
        files.push((name.clone(), content));
        let disk = disk_of(&files);
        let (log, recovery) = open(&disk, &options(200, false));
        assert_eq!(
            (recovery.next_position, recovery.replaced.as_ref()),
            (next, Some(&name))
        );
        assert_eq!(log.segments().last().unwrap().name, name);
        opens_with(&files, &sample.frames, 200, "headerless");
    }
}

#[test]
fn a_zeroed_page_costs_the_frames_in_it() {
    for preallocate in [false, true] {
        let sample = sample(&payloads(3000), 64 << 10, preallocate);
        let last = sample.files.len() - 1;
        assert_eq!(last, 1);
        for file in 0..=last {
            for page in [0, 1, 3, 4] {
                let mut files = sample.files.clone();
                let zeroed = page * 4096..(page + 1) * 4096;
                files[file].1[zeroed.clone()].fill(0);
                let hit = |(f, at): &(usize, Range<usize>)| {
                    *f == file && at.start < zeroed.end && at.end > zeroed.start
                };
                let places = sample.frames.iter().zip(&sample.places);
                let lost: Vec<u64> = places
                    .clone()
                    .filter(|(_, p)| hit(p))
                    .map(|(f, _)| f.0)
                    .collect();
                let left: Vec<_> = places
                    .filter(|(_, p)| !hit(p))
                    .map(|(f, _)| f.clone())
                    .collect();
                assert!(lost.len() > 50);
                let seen = opens_with(&files, &left, 64 << 10, &format!("{file} {page}"));
                let (from, to) = (lost[0], lost[lost.len() - 1] + 1);
                assert_eq!(seen.damage.len(), 1, "{:?}", seen.damage);
                assert_eq!((seen.damage[0].1, seen.damage[0].2), (from, to));
                assert!(seen.damage[0].3 >= 4000);
                assert_eq!(see_all(&disk_of(&files), to - 1).frames[0].0, to);
            }
        }
    }
}

/// Found by noise: a frame between lost ones and zeros was there while its segment was the last, and gone when another followed.
#[test]
fn a_lone_frame_before_zeros_stays_when_the_log_goes_on() {
    let sample = sample(&payloads(5), 64 << 10, false);
    let mut files = sample.files.clone();
    let bytes = &mut files[0].1;
    // Without its header the segment is kept as it is, and the log goes on in another.
    bytes[1] = b'?';
    let at = |frame: usize| sample.places[frame].1.clone();
    bytes[at(0).start..at(1).end].fill(0xff);
    bytes[at(3)].fill(0);
    let left = [sample.frames[2].clone(), sample.frames[4].clone()];
    assert_eq!(see_all(&disk_of(&files), 1).frames, left);
    opens_with(&files, &left, 64 << 10, "a lone frame");
}

/// Found by noise: a copy of the last frame among lost ones was taken for it once another segment followed, and those between were gone.
#[test]
fn a_copy_of_the_last_frame_hides_nothing_when_the_log_goes_on() {
    let sample = sample(&payloads(8), 64 << 10, false);
    let mut files = sample.files.clone();
    let bytes = &mut files[0].1;
    bytes[1] = b'?';
    let at = |frame: usize| sample.places[frame].1.clone();
    let (lost, copy) = (at(0).start..at(3).end, bytes[at(7)].to_vec());
    bytes[lost.clone()].fill(0xff);
    // As far behind as seven of the smallest frames would reach.
    let start = lost.start + 72;
    assert!(start + copy.len() <= lost.end);
    bytes[start..start + copy.len()].copy_from_slice(&copy);
    let left = sample.frames[4..].to_vec();
    assert_eq!(see_all(&disk_of(&files), 1).frames, left);
    opens_with(&files, &left, 64 << 10, "a copy");
}

#[test]
fn a_missing_segment_is_reported_with_its_positions() {
    let sample = sample(&payloads(30), 200, false);
    let mut files = sample.files.clone();
    files.remove(2);
    let kept = sample
        .frames
        .iter()
        .zip(&sample.places)
        .filter(|(_, (file, _))| *file != 2);
    let kept: Vec<_> = kept.map(|(frame, _)| frame.clone()).collect();
    let lost = sample
        .frames
        .iter()
        .zip(&sample.places)
        .filter(|(_, (file, _))| *file == 2);
    let lost: Vec<u64> = lost.map(|(frame, _)| frame.0).collect();
    let seen = opens_with(&files, &kept, 200, "missing");
    assert_eq!(
        seen.damage,
        [(files[1].0.clone(), lost[0], lost[lost.len() - 1] + 1, 0)]
    );
}

#[test]
fn a_damaged_length_in_a_noisy_log_is_found_behind() {
    // Payloads full of small numbers: nearly every offset looks like a frame's length.
    let noisy: Vec<Vec<u8>> = (1..60_u8)
        .map(|i| {
            [i % 3, i, 0, 0]
                .into_iter()
                .cycle()
                .take(400 + usize::from(i))
                .collect()
        })
        .collect();
    let sample = sample(&noisy, 8 << 10, false);
    for (index, (file, at)) in sample.places.iter().enumerate() {
        let mut files = sample.files.clone();
        files[*file].1[at.start + 1] ^= 0x40;
        let seen = see_all(&disk_of(&files), 1);
        check_subset(&seen, &sample, 1, &format!("frame {index}"));
        assert_eq!(seen.frames.len(), sample.frames.len() - 1);
    }
}

#[test]
fn a_reader_goes_on_behind_damage_at_the_end_of_a_live_log() {
    for preallocate in [false, true] {
        let disk = SimDisk::new(1);
        let (mut log, _) = open(&disk, &options(1 << 20, preallocate));
        for position in 1..=3 {
            log.append(&payload(position)).unwrap();
        }
        let active = log.segments()[0].clone();
        let mut file = disk.open(&crate::dir().join(&active.name)).unwrap();
        file.write_at(active.bytes - 1, b"#").unwrap();
        let mut reader = log.read(3);
        let seen = crate::see(reader.by_ref());
        assert_eq!(seen.frames, []);
        assert_eq!((seen.damage[0].1, seen.damage[0].2), (3, 4));
        log.append(&payload(4)).unwrap();
        log.read_on(&mut reader);
        let seen = crate::see(reader);
        assert_eq!((seen.frames, seen.damage.len()), (vec![(4, payload(4))], 1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, ..ProptestConfig::default() })]

    #[test]
    fn any_log_cut_anywhere(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 1..12),
        segment_bytes in 60_u64..400,
        preallocate: bool,
    ) {
        cut_everywhere(&sample(&payloads, segment_bytes, preallocate), segment_bytes);
    }

    #[test]
    fn any_overwritten_stretch(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 1..30),
        noise in prop::collection::vec(any::<u8>(), 1..100),
        file in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
    ) {
        let sample = sample(&payloads, 300, false);
        let file = file.index(sample.files.len());
        let mut files = sample.files.clone();
        let start = at.index(files[file].1.len());
        let end = (start + noise.len()).min(files[file].1.len());
        files[file].1[start..end].copy_from_slice(&noise[..end - start]);
        let disk = disk_of(&files);
        for _ in 0..2 {
            let seen = see_all(&disk, 1);
            let mut all = sample.frames.iter();
            for frame in &seen.frames {
                prop_assert!(all.any(|expected| expected == frame), "invented {frame:?}");
            }
            for ((position, content), (f, place)) in sample.frames.iter().zip(&sample.places) {
                let hit = *f == file && place.start < end && place.end > start;
                if !hit {
                    prop_assert!(seen.frames.contains(&(*position, content.clone())), "{position}");
                }
            }
            open(&disk, &options(300, false));
        }
    }
}
