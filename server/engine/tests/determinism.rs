//! The same inputs give the same effects: over save and restore at every k-th step, and over two processes.
//!
//! `REPLAY_HASH` names another build of `replay_hash` to compare with; `tests/run` makes a release build of it.

use std::io::Write;
use std::process::Command;

use dawnwatch_engine::{EffectHash, Engine, story};

const SEED: u64 = 7;
const HOURS: u64 = 12;

fn run(seed: u64, hours: u64, every: usize) -> (u64, usize) {
    let mut engine = Engine::new();
    let mut hash = EffectHash::default();
    let mut count = 0;
    for (step, (at, input)) in story::season(seed, hours).into_iter().enumerate() {
        let effects = engine.step(at, input);
        count += effects.len();
        hash.add(&effects);
        if (step + 1).is_multiple_of(every) {
            engine = Engine::restore(&engine.save()).expect("just saved");
        }
    }
    (hash.value(), count)
}

#[test]
fn saving_and_restoring_changes_nothing() {
    let (hash, count) = run(SEED, HOURS, usize::MAX);
    assert!(
        count > 100,
        "only {count} effects: the season is too quiet to tell anything"
    );
    for every in [7, 50] {
        assert_eq!(
            run(SEED, HOURS, every),
            (hash, count),
            "restored every {every} steps"
        );
    }
    assert_eq!(
        run(SEED, 3, 1),
        run(SEED, 3, usize::MAX),
        "restored every step"
    );
}

#[test]
fn another_season_is_another_hash() {
    assert_ne!(run(SEED, 3, usize::MAX), run(SEED + 1, 3, usize::MAX));
}

#[test]
fn two_processes_agree() {
    let here = run(SEED, 6, usize::MAX);
    let mut programs = vec![env!("CARGO_BIN_EXE_replay_hash").to_owned()];
    match std::env::var("REPLAY_HASH") {
        Ok(program) => programs.push(program),
        Err(_) => {
            // Not printed: cargo would keep that back.
            let text = "SKIPPED: comparison with a release build: tests/run makes one";
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }
    for program in programs {
        for every in [None, Some("50")] {
            let (seed, hours) = (SEED.to_string(), "6".to_owned());
            let mut command = Command::new(&program);
            command.args([seed, hours]).args(every);
            let out = command.output().unwrap();
            let there = String::from_utf8(out.stdout).unwrap();
            assert_eq!(
                there.trim(),
                format!("{:016x} {}", here.0, here.1),
                "{program} {every:?}"
            );
        }
    }
}
