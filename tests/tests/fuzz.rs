//! The quick form of `tests/soak fuzz`: every seed, and some thousand changes of seeds that are always the same.

use std::panic::{AssertUnwindSafe, catch_unwind};

use dawnwatch_tests::chance::{Chance, setting};
use dawnwatch_tests::fuzzing::{TARGETS, Target, noise};
use dawnwatch_tests::say;

/// Changes that each target gets; `DAWNWATCH_FUZZ_CHANGES` sets another number.
const CHANGES: u64 = 1_500;

/// What the process may hold at its worst, beside what it held before: the largest thing that is read is a block of 11 MiB.
const GROWTH_KIB_MAX: u64 = 192 * 1024;

/// The first input at which a target panics, by the number of its change; seeds are number 0.
fn search(target: &Target, changes: u64, seed: u64) -> Option<(u64, Vec<u8>)> {
    let seeds = (target.seeds)();
    let fails = |input: &[u8]| catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err();
    if let Some(seed) = seeds.iter().find(|seed| fails(seed)) {
        return Some((0, seed.clone()));
    }
    let mut chance = Chance::new(seed);
    (1..=changes).find_map(|number| {
        let input = noise::change(&mut chance, &seeds);
        fails(&input).then_some((number, input))
    })
}

#[test]
fn nothing_that_is_read_panics() {
    let before = peak_kib();
    let (changes, seed) = (
        setting("DAWNWATCH_FUZZ_CHANGES", CHANGES),
        setting("DAWNWATCH_SEED", 1),
    );
    let mut failed = Vec::new();
    for target in &TARGETS {
        if let Some((number, input)) = search(target, changes, seed) {
            say(&format!(
                "{}: change {number}: {} bytes: {}",
                target.name,
                input.len(),
                hex(&input)
            ));
            failed.push(target.name);
        }
    }
    assert!(failed.is_empty(), "{failed:?} panicked, see above");
    let grown = peak_kib().saturating_sub(before);
    assert!(
        grown <= GROWTH_KIB_MAX,
        "{grown} KiB were held at the worst"
    );
}

#[test]
fn every_seed_is_read_whole() {
    for target in &TARGETS {
        let seeds = (target.seeds)();
        assert!(seeds.len() >= 2, "{}", target.name);
        assert!(seeds.iter().all(|seed| !seed.is_empty()), "{}", target.name);
    }
}

#[test]
fn the_noise_finds_a_decoder_that_believes_a_length() {
    // Length, then as many bytes; one that does not look whether they are there, one that gives up at more than five.
    fn believes(data: &[u8]) {
        if let Some((length, rest)) = data.split_first() {
            let _text = &rest[..usize::from(*length)];
        }
    }
    fn forgets(data: &[u8]) {
        let kept: Vec<u8> = data.iter().copied().take(5).collect();
        assert_eq!(kept, data, "what was read is written again");
    }
    let seeds = || vec![b"\x04dawn".to_vec(), b"\x02up".to_vec()];
    for run in [believes, forgets] {
        let wrong = Target {
            name: "wrong",
            run,
            seeds,
        };
        let found = search(&wrong, CHANGES, 1);
        assert!(
            found.is_some_and(|(number, _)| number > 0),
            "it was not caught"
        );
    }
}

fn hex(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(4_096)];
    shown.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The most memory that the process held so far.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    number.expect("the kernel says it in KiB")
}
