//! The whole path by seed: every seed must end with nothing lost and nothing doubled, the same one always in the same way; and each
//! lie must be caught.
//!
//! `tests/soak sim --seeds N [--from N]` runs more. One seed alone, with all that happens:
//! `DAWNWATCH_SIM_TRACE=1 DAWNWATCH_SIM_FROM=SEED DAWNWATCH_SIM_SEEDS=1 cargo test -p dawnwatch-tests --test simulation every -- --nocapture`

use std::collections::BTreeMap;

use dawnwatch_tests::chance::setting;
use dawnwatch_tests::say;
use dawnwatch_tests::sim::{Lie, run};

/// Seeds of one `cargo test`.
const SEEDS: u64 = 40;

/// A lie must be caught within so many seeds.
const SEEDS_OF_A_LIE: u64 = 40;

/// Seeds beyond the usual ones that found something once, and what.
const FOUND: [(u64, &str); 3] = [
    (
        73,
        "a sync that fails while the spool begins a segment takes back a tick that the server has: told and counted as gone",
    ),
    (
        522,
        "a clock that was set back goes through the same hour again, and a tick meets the very millisecond of another",
    ),
    (
        3_330,
        "a failed sync takes a record that counts lost ticks, and the spool counts it as one",
    ),
];

/// Every fault that is drawn; over all seeds each must have fired.
const FAULTS: [&str; 13] = [
    "agent clock set",
    "agent disk full",
    "agent killed",
    "agent power cut",
    "agent stopped",
    "agent suspended",
    "black hole",
    "connection cut",
    "acknowledgements lost",
    "partition",
    "server clock set",
    "server killed",
    "server power cut",
];

#[test]
fn every_seed_loses_nothing_and_doubles_nothing() {
    let (from, seeds) = (
        setting("DAWNWATCH_SIM_FROM", 1),
        setting("DAWNWATCH_SIM_SEEDS", SEEDS),
    );
    let (mut faults, mut failed) = (BTreeMap::new(), Vec::new());
    let (mut compared, mut messages) = (0, 0);
    for seed in from..from + seeds {
        let outcome = run(seed, Lie::None);
        compared += outcome.compared;
        messages += outcome.messages;
        for (fault, fired) in outcome.faults {
            *faults.entry(fault).or_insert(0) += fired;
        }
        if !outcome.wrong.is_empty() {
            say(&format!("seed {seed}: {:#?}", outcome.wrong));
            failed.push(seed);
        }
    }
    let fired: u64 = faults.values().sum();
    say(&format!(
        "RESULT sim from={from} seeds={seeds} faults={fired} compared={compared} messages={messages} failed={}",
        failed.len()
    ));
    assert!(
        failed.is_empty(),
        "seeds {failed:?} failed; one alone: DAWNWATCH_SIM_TRACE=1 DAWNWATCH_SIM_SEEDS=1 DAWNWATCH_SIM_FROM={} \
         cargo test -p dawnwatch-tests --test simulation every -- --nocapture",
        failed[0]
    );
    if seeds >= SEEDS {
        for fault in FAULTS {
            assert!(faults.contains_key(fault), "{fault} never fired");
        }
    }
}

#[test]
fn seeds_that_found_something_pass() {
    for (seed, what) in FOUND {
        let wrong = run(seed, Lie::None).wrong;
        assert!(wrong.is_empty(), "seed {seed}, once {what}: {wrong:#?}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [3, 77, 1_002] {
        let (once, again) = (run(seed, Lie::None), run(seed, Lie::None));
        assert_eq!(once, again, "seed {seed}");
        assert_ne!(once.trace, run(seed + 1, Lie::None).trace);
    }
}

/// The seed by which a lie is caught.
fn caught(lie: Lie) {
    let seed = (1..=SEEDS_OF_A_LIE).find(|seed| !run(*seed, lie).wrong.is_empty());
    let seed = seed.unwrap_or_else(|| panic!("{lie:?} passes as the truth"));
    say(&format!("{lie:?} is caught by seed {seed}"));
}

#[test]
fn an_acknowledgement_before_the_sync_is_caught() {
    caught(Lie::AckBeforeSync);
}

#[test]
fn a_disk_that_does_not_sync_is_caught() {
    caught(Lie::SyncDoesNothing);
}

#[test]
fn a_journal_that_forgets_what_it_holds_is_caught() {
    caught(Lie::NoDedupe);
}

#[test]
fn a_message_that_does_not_leave_is_caught() {
    caught(Lie::MessageForgotten);
}

#[test]
fn a_gap_that_is_not_counted_is_caught() {
    caught(Lie::GapForgotten);
}
