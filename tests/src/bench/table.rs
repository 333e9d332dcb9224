//! Medians, and what stands above every table.

use std::fs;
use std::process::Command;

/// The median; of an even number the lower one.
///
/// # Panics
/// Where there is none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) / 2]
}

/// All values, for whoever wants to see how far they lie apart.
#[must_use]
pub fn spread(values: &[f64], digits: usize) -> String {
    let all: Vec<String> = values.iter().map(|v| format!("{v:.digits$}")).collect();
    all.join(" ")
}

/// When, where and of what: date, commit, processors, load.
#[must_use]
pub fn heading(load_before: &str) -> String {
    let today = crate::faketime::real_now().strftime("%F").to_string();
    let git = Command::new("git")
        .args(["-C", concat!(env!("CARGO_MANIFEST_DIR"), "/..")])
        .args(["describe", "--always", "--dirty", "--abbrev=9"])
        .output();
    let commit = git.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
    let commit = commit.unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let after = load();
    format!(
        "{today}, commit {commit}, {cpus} CPUs, load average {load_before} before, {after} after"
    )
}

/// The load averages.
#[must_use]
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let words: Vec<&str> = text.split_whitespace().take(3).collect();
    words.join(" ")
}
