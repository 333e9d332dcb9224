//! Power cuts, by seed; with disks that lie as the controls.

use std::io;
use std::path::Path;
use std::sync::Arc;

use dawnwatch_segment::hooked::{Hooked, Hooks};
use dawnwatch_segment::sim::SimDisk;
use dawnwatch_segment::{Disk, DiskFile, Error, Log, Options};

use crate::oracle::Oracle;
use crate::{dir, options, see_all};

/// Whose syncs can be empty promises.
#[derive(Debug)]
struct Lying {
    syncs_data: bool,
    syncs_names: bool,
}

impl Hooks for Lying {
    fn sync_data(&self, file: &mut dyn DiskFile) -> io::Result<()> {
        match self.syncs_data {
            true => file.sync_data(),
            false => Ok(()),
        }
    }

    fn sync_dir(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        match self.syncs_names {
            true => disk.sync_dir(dir),
            false => Ok(()),
        }
    }
}

fn text(error: Error) -> String {
    error.to_string()
}

/// Rounds of use and power cut on one disk; tells what was lost.
fn rounds(seed: u64, syncs_data: bool, syncs_names: bool) -> Result<u64, String> {
    let disk = SimDisk::new(seed);
    let lying: Arc<dyn Disk> = Arc::new(Hooked {
        disk: disk.clone(),
        hooks: Arc::new(Lying {
            syncs_data,
            syncs_names,
        }),
    });
    let mut oracle = Oracle::default();
    let mut draw = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut dice = |sides: u64| {
        draw = draw
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (draw >> 33) % sides
    };
    let mut torn = 0;
    for round in 0..4 {
        let options = Options {
            header_note: format!("epoch {}", seed % 2 * round).into(),
            ..options(2000, seed.is_multiple_of(3))
        };
        let (mut log, recovery) = Log::open(Arc::clone(&lying), dir(), options).map_err(text)?;
        oracle.opened(&recovery)?;
        oracle.check(&see_all(&disk, 1))?;
        torn += u64::from(recovery.cut.is_some());
        for _ in 0..dice(40) {
            match dice(10) {
                0..=5 => oracle.append(&mut log, 1 + dice(12)).map_err(text)?,
                6..=7 => oracle.sync(&mut log).map_err(text)?,
                8 => log.rotate().map_err(text)?,
                _ => {
                    let below = oracle.durable().saturating_sub(dice(60));
                    oracle.release(&mut log, below).map_err(text)?;
                }
            }
        }
        drop(log);
        // Sometimes only the process dies: what it wrote is in the cache.
        if dice(4) > 0 {
            disk.power_cut();
        }
    }
    Ok(torn)
}

#[test]
fn nothing_synced_is_lost_in_any_power_cut() {
    let mut torn = 0;
    for seed in 0..300 {
        match rounds(seed, true, true) {
            Ok(cuts) => torn += cuts,
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    assert!(torn > 50, "power cuts must tear tails: {torn}");
}

#[test]
fn control_a_disk_that_does_not_sync_loses_data() {
    let lost = (0..50)
        .filter(|seed| rounds(*seed, false, true).is_err())
        .count();
    assert!(lost > 10, "the oracle must notice: {lost} of 50");
}

#[test]
fn control_a_directory_not_synced_loses_segments() {
    let lost = (0..50)
        .filter(|seed| rounds(*seed, true, false).is_err())
        .count();
    assert!(lost > 10, "the oracle must notice: {lost} of 50");
}

#[test]
fn a_segment_behind_a_directory_sync_is_there_after_the_cut() {
    for (syncs_names, expected) in [(true, 0), (false, 1)] {
        let mut vanished = 0;
        for seed in 0..20 {
            let disk = SimDisk::new(seed);
            let lying: Arc<dyn Disk> = Arc::new(Hooked {
                disk: disk.clone(),
                hooks: Arc::new(Lying {
                    syncs_data: true,
                    syncs_names,
                }),
            });
            let open = || Log::open(Arc::clone(&lying), dir(), options(1 << 20, false)).unwrap();
            let (mut log, _) = open();
            log.append(b"one").unwrap();
            log.rotate().unwrap();
            log.append(b"two").unwrap();
            assert_eq!(log.sync().unwrap(), 2);
            disk.power_cut();
            vanished += u64::from(see_all(&disk, 1).frames.len() < 2);
        }
        assert_eq!(vanished.min(1), expected, "{vanished} of 20");
    }
}
