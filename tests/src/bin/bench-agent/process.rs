//! What a tree of processes costs, as the kernel accounts for it.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::Context as _;

/// CPU time of every thread of a process tree, by thread id, in nanoseconds.
#[derive(Debug, Clone)]
pub(crate) struct Cpu(BTreeMap<u32, u64>);

impl Cpu {
    /// Reads the scheduler's own account: exact, where `stat` counts hundredths of a second.
    pub(crate) fn of(pid: u32) -> anyhow::Result<Cpu> {
        let mut threads = BTreeMap::new();
        for pid in tree(pid)? {
            for task in numbers(&format!("/proc/{pid}/task"))? {
                // A thread may end between the two looks.
                let Ok(text) = fs::read_to_string(format!("/proc/{pid}/task/{task}/schedstat"))
                else {
                    continue;
                };
                let on_cpu = text.split_whitespace().next().unwrap_or("0");
                threads.insert(
                    task,
                    on_cpu.parse().context("schedstat begins with a number")?,
                );
            }
        }
        Ok(Cpu(threads))
    }

    /// What was spent since an earlier look. A thread that ended meanwhile counts for nothing.
    pub(crate) fn since(&self, before: &Cpu) -> Duration {
        let spent = self
            .0
            .iter()
            .map(|(thread, now)| now.saturating_sub(before.0.get(thread).copied().unwrap_or(0)));
        Duration::from_nanos(spent.sum())
    }
}

/// Proportional set size of a process tree, in KiB: memory that is shared counts by its share.
pub(crate) fn pss_kib(pid: u32) -> anyhow::Result<u64> {
    let mut sum = 0;
    for pid in tree(pid)? {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).context(path)?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        sum += kib.context("smaps_rollup has a line Pss")?.parse::<u64>()?;
    }
    Ok(sum)
}

/// A process and its descendants.
fn tree(pid: u32) -> anyhow::Result<Vec<u32>> {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(&pid) = all.get(at) {
        at += 1;
        for task in numbers(&format!("/proc/{pid}/task"))? {
            let path = format!("/proc/{pid}/task/{task}/children");
            let children = fs::read_to_string(path).unwrap_or_default();
            all.extend(
                children
                    .split_whitespace()
                    .filter_map(|child| child.parse::<u32>().ok()),
            );
        }
    }
    Ok(all)
}

fn numbers(dir: &str) -> anyhow::Result<Vec<u32>> {
    let entries = fs::read_dir(dir).with_context(|| format!("read {dir}: does it still run?"))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(names.collect())
}
