//! A disk that fails at every single call, and one that is full.

use std::sync::Arc;

use dawnwatch_segment::sim::{Call, Failure, SimDisk};
use dawnwatch_segment::{Error, Log};

use crate::oracle::Oracle;
use crate::{dir, open, options, see_all};

/// Uses every part of a log; the numbers of calls are always the same.
fn work(log: &mut Log, oracle: &mut Oracle) -> Result<(), Error> {
    for step in 0..12_u64 {
        oracle.append(log, 1 + step % 3)?;
        if step % 2 == 1 {
            oracle.sync(log)?;
        }
        if step == 7 {
            oracle.release(log, oracle.durable())?;
        }
    }
    log.rotate()
}

/// Fails one call; returns whether it was reached.
fn fail_one(seed: u64, call: Call, nth: u64, failure: Failure, preallocate: bool) -> bool {
    let what = format!("{call:?} {nth} {failure:?} preallocate {preallocate}");
    let disk = SimDisk::new(seed);
    let options = options(500, preallocate);
    let mut oracle = Oracle::default();
    disk.fail_nth(call, nth, failure);
    match Log::open(Arc::new(disk.clone()), dir(), options.clone()) {
        Err(_) => assert_eq!(disk.fired(call), 1, "{what}"),
        Ok((mut log, _)) => {
            let result = work(&mut log, &mut oracle);
            if disk.fired(call) == 0 {
                result.unwrap();
                return false;
            }
            let error = result.expect_err(&what);
            assert_eq!(
                error.is_full(),
                failure == Failure::Enospc,
                "{what}: {error}"
            );
            after_the_fault(&mut log, &mut oracle, call, &what);
        }
    }
    for cut in [false, true] {
        if cut {
            disk.power_cut();
        }
        let (mut log, recovery) = open(&disk, &options);
        oracle
            .opened(&recovery)
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        oracle
            .check(&see_all(&disk, 1))
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        work(&mut log, &mut oracle).unwrap();
    }
    true
}

/// A failed sync ends the log, a failed write can be healed, a failed release harms nothing.
fn after_the_fault(log: &mut Log, oracle: &mut Oracle, call: Call, what: &str) {
    let next = log.next_position();
    if log.sync().is_ok() {
        assert!(
            matches!(call, Call::SyncDir | Call::Remove),
            "{what}: a failed call was forgotten"
        );
        work(log, oracle).unwrap();
        return;
    }
    for result in [
        log.append(b"x").map(drop),
        log.sync().map(drop),
        log.rotate(),
    ] {
        assert!(
            matches!(result, Err(Error::Poisoned { .. })),
            "{what}: {result:?}"
        );
    }
    assert_eq!(log.next_position(), next, "{what}");
    match call {
        Call::Sync | Call::SyncDir => {
            let healed = log.heal();
            assert!(
                matches!(healed, Err(Error::Poisoned { .. })),
                "{what}: {healed:?}"
            );
            assert!(
                matches!(log.append(b"x"), Err(Error::Poisoned { .. })),
                "{what}"
            );
        }
        Call::Write | Call::Create | Call::Rename | Call::Remove => {
            log.heal().unwrap();
            assert_eq!(log.next_position(), next, "{what}");
            oracle.goes_on_at(next);
            work(log, oracle).unwrap();
        }
    }
}

#[test]
fn every_call_may_fail() {
    let calls = [
        Call::Write,
        Call::Sync,
        Call::SyncDir,
        Call::Create,
        Call::Rename,
        Call::Remove,
    ];
    for preallocate in [false, true] {
        for failure in [Failure::Eio, Failure::Enospc] {
            for call in calls {
                let mut reached = 0;
                while fail_one(reached, call, reached + 1, failure, preallocate) {
                    reached += 1;
                }
                assert!(reached > 0, "{call:?} was never reached");
            }
        }
    }
}

#[test]
fn a_full_disk_is_survived_without_losing_anything() {
    for preallocate in [false, true] {
        for capacity in (600..2600).step_by(37) {
            let disk = SimDisk::new(capacity);
            disk.set_capacity(Some(capacity));
            let options = options(500, preallocate);
            let (mut log, _) = open(&disk, &options);
            let mut oracle = Oracle::default();
            for _ in 0..30 {
                let result = oracle
                    .append(&mut log, 2)
                    .and_then(|()| oracle.sync(&mut log));
                let Err(error) = result else { continue };
                assert!(error.is_full(), "{error}");
                log.heal().unwrap();
                oracle.goes_on_at(log.next_position());
                oracle.check(&see_all(&disk, 1)).unwrap();
                log.sync().unwrap();
                oracle.release(&mut log, oracle.durable()).unwrap();
            }
            assert!(disk.fired(Call::Write) > 0, "never full at {capacity}");
            disk.power_cut();
            let (_, recovery) = open(&disk, &options);
            oracle.opened(&recovery).unwrap();
            oracle.check(&see_all(&disk, 1)).unwrap();
        }
    }
}

#[test]
fn a_failed_sync_is_not_forgotten_by_opening_anew() {
    // The cache shows the frames, the disk does not have them: opening must not call them durable.
    let mut fewer = 0;
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let (mut log, _) = open(&disk, &options(1 << 20, false));
        for _ in 0..5 {
            log.append(&[b'x'; 300]).unwrap();
        }
        disk.fail_nth(Call::Sync, 1, Failure::Eio);
        log.sync().unwrap_err();
        assert_eq!(disk.fired(Call::Sync), 1);
        drop(log);
        let (log, _) = open(&disk, &options(1 << 20, false));
        let durable = log.durable_position();
        let before = see_all(&disk, 1);
        drop(log);
        disk.power_cut();
        open(&disk, &options(1 << 20, false));
        assert_eq!(see_all(&disk, 1), before, "seed {seed}");
        fewer += u64::from(durable < 5);
    }
    assert!(fewer > 10, "the failed syncs must lose something: {fewer}");
}

#[test]
fn a_name_left_unsynced_by_a_kill_is_made_durable_by_opening() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let (mut log, _) = open(&disk, &options(1 << 20, false));
        log.append(b"one").unwrap();
        disk.fail_nth(Call::SyncDir, 1, Failure::Eio);
        log.rotate().unwrap_err();
        assert_eq!(disk.fired(Call::SyncDir), 1);
        drop(log);
        let (mut log, _) = open(&disk, &options(1 << 20, false));
        assert_eq!(
            log.segments().len(),
            2,
            "the segment is there, its name not yet durable"
        );
        log.append(b"two").unwrap();
        assert_eq!(log.sync().unwrap(), 2);
        disk.power_cut();
        assert_eq!(see_all(&disk, 1).frames.len(), 2, "seed {seed}");
    }
}

#[test]
fn a_refused_frame_does_not_come_back() {
    // The whole frame reaches the disk though the call fails; healing must remove it durably.
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let (mut log, _) = open(&disk, &options(1 << 20, false));
        log.append(b"kept").unwrap();
        log.sync().unwrap();
        disk.fail_nth(Call::Write, 1, Failure::Enospc);
        log.append_many(&[b"a", b"b", b"c", b"d", b"e"])
            .unwrap_err();
        assert_eq!(disk.fired(Call::Write), 1);
        log.heal().unwrap();
        disk.power_cut();
        assert_eq!(
            see_all(&disk, 1).frames,
            [(1, b"kept".to_vec())],
            "seed {seed}"
        );
    }
}
