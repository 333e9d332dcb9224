//! Everything that reads bytes which a stranger, a damaged disk or a careless hand may have made, as functions over any bytes.
//!
//! A target panics where something is wrong, and only there: what does not decode is refused without a word, what does decode must
//! encode again to what says the same, and lengths that are told must not exceed what came. The same functions are called by
//! libFuzzer (`tests/soak fuzz`, the crate in `tests/fuzz`) and, with what [`noise`] makes of their seeds, by `tests/tests/fuzz.rs`.
//!
//! - `kept`: what lies on disk: `frame`, `segment`, `block`, `hour_file`, `summary`, `saved`.
//! - `told`: what comes from elsewhere: `wire`, `join_line`, `config`, `csv_hosts`, `log_line`.
//! - [`seal`]: puts checksums right, so that noise reaches what is behind them.
//! - [`seeds`]: what the real writers write.
//! - [`noise`]: changes of bytes that a seed gives.
//!
//! Where a checksum stands before what is read, the first byte of the input is odd if it is to be put right.

mod kept;
pub mod noise;
pub mod seal;
pub mod seeds;
mod told;

pub use kept::{block, frame, hour_file, saved, segment, summary};
pub use told::{config, csv_hosts, join_line, log_line, wire};

/// Longest input: some of what is read grows to hundreds of times its bytes, as it may.
pub const INPUT_BYTES_MAX: usize = 64 * 1024;

/// One of them.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: of the function, and of the binary in `tests/fuzz`.
    pub name: &'static str,
    /// Takes any bytes.
    pub run: fn(&[u8]),
    /// Bytes that are worth beginning from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 11] = [
    target("frame", frame, seeds::frame),
    target("segment", segment, seeds::segment),
    target("hour_file", hour_file, seeds::hour_file),
    target("block", block, seeds::block),
    target("summary", summary, seeds::summary),
    target("wire", wire, seeds::wire),
    target("join_line", join_line, seeds::join_line),
    target("config", config, seeds::config),
    target("csv_hosts", csv_hosts, seeds::csv_hosts),
    target("saved", saved, seeds::saved),
    target("log_line", log_line, seeds::log_line),
];

const fn target(name: &'static str, run: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, seeds }
}

/// Writes the seeds of a target into the directory that `DAWNWATCH_FUZZ_CORPUS` names, if it does: libFuzzer begins from files.
///
/// # Panics
/// Where there is no such target, or the directory cannot be written.
pub fn lay(name: &str) {
    let Some(dir) = std::env::var_os("DAWNWATCH_FUZZ_CORPUS") else {
        return;
    };
    let target = TARGETS.iter().find(|target| target.name == name);
    let seeds = (target.expect("one of the targets").seeds)();
    for (number, seed) in seeds.iter().enumerate() {
        let path = std::path::Path::new(&dir).join(format!("seed-{number:02}"));
        std::fs::write(path, seed).expect("a directory with room");
    }
}
