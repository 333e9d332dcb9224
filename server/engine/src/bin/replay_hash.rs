//! Runs a season through the engine and prints the hash of its effects and of its state: two builds that agree are the same judge.
//!
//! `replay_hash SEED HOURS [RESTORE_EVERY]`; with the last, the engine is saved and restored after every so many steps.

use std::process::ExitCode;

use dawnwatch_engine::{EffectHash, Engine, story};

#[allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for tests"
)]
fn main() -> ExitCode {
    let numbers: Vec<u64> = std::env::args()
        .skip(1)
        .filter_map(|arg| arg.parse().ok())
        .collect();
    let (seed, hours, every) = match numbers.as_slice() {
        [seed, hours] => (*seed, *hours, u64::MAX),
        [seed, hours, every] if *every > 0 => (*seed, *hours, *every),
        _ => {
            eprintln!("usage: replay_hash SEED HOURS [RESTORE_EVERY]");
            return ExitCode::from(64);
        }
    };
    let mut engine = Engine::new();
    let mut hash = EffectHash::default();
    let mut effects_seen = 0;
    for (step, (at, input)) in (1_u64..).zip(story::season(seed, hours)) {
        let effects = engine.step(at, input);
        effects_seen += effects.len();
        hash.add(&effects);
        if step.is_multiple_of(every) {
            match Engine::restore(&engine.save()) {
                Ok(restored) => engine = restored,
                Err(error) => {
                    eprintln!("{error}");
                    return ExitCode::from(70);
                }
            }
        }
    }
    println!("{:016x} {effects_seen}", hash.value());
    ExitCode::SUCCESS
}
