//! What a process costs, as the kernel accounts for it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use anyhow::Context as _;

/// CPU time of a process and the children it waited for, threads that ended included; in steps of 10 ms.
///
/// # Errors
/// Where it does not run.
pub fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("{path}: does it still run?"))?;
    let after_name = text.rsplit_once(')').context("stat has a name")?.1;
    // utime, stime, cutime and cstime are the 14th to 17th field; the state, after the name, is the third.
    let ticks = after_name.split_whitespace().skip(11).take(4);
    let ticks: Vec<u64> = ticks.map(str::parse).collect::<Result<_, _>>()?;
    Ok(Duration::from_millis(ticks.iter().sum::<u64>() * 10))
}

/// The most memory that a process ever had resident, in MiB.
///
/// # Errors
/// Where it does not run.
pub fn peak_mib(pid: u32) -> anyhow::Result<f64> {
    status_mib(pid, "VmHWM:")
}

/// The memory that a process has resident, in MiB.
///
/// # Errors
/// Where it does not run.
pub fn resident_mib(pid: u32) -> anyhow::Result<f64> {
    status_mib(pid, "VmRSS:")
}

fn status_mib(pid: u32, field: &str) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("{path}: does it still run?"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.split_whitespace().next());
    let kib: u32 = kib.context("status has memory")?.parse()?;
    Ok(f64::from(kib) / 1024.0)
}

/// Lets this process open as many files as it may.
pub fn raise_open_files() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    // Where it fails, opening says so.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
}

/// Bytes that the logs in a directory hold: of each file all up to its last byte that is not zero, for they take their room in
/// advance.
///
/// # Errors
/// Where a file cannot be read.
pub fn written_in(dir: &std::path::Path) -> anyhow::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            sum += written_in(&path)?;
            continue;
        }
        let bytes = match fs::read(&path) {
            // Released between the listing and the look.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            read => read?,
        };
        sum += bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last as u64 + 1);
    }
    Ok(sum)
}

/// Bytes on disk of a file or of everything in a directory: what its files take of the disk, as `du` says.
#[must_use]
pub fn bytes_in(path: &std::path::Path) -> u64 {
    let Ok(data) = fs::symlink_metadata(path) else {
        return 0;
    };
    if !data.is_dir() {
        return data.blocks() * 512;
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| bytes_in(&entry.path())).sum()
}
