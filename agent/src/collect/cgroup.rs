//! Memory, CPU time and out-of-memory kills of the largest services, from the tree of control groups (version 2).
//!
//! A service keeps its columns while it runs; one that is twice as large as the smallest shown takes its place.
//! Caveat: a group vanishes with its service, and what happened in it since the last look with it. A kill that ended the whole
//! service shows as a failed unit and in the host's own count.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dawnwatch_proto::series::LABEL_BYTES_MAX;
use dawnwatch_proto::{MISSING, Series};

use super::metric::Metric;
use super::small::{number_in, read_small};
use super::text::{fields, lines, number, raw};
use super::{CollectError, Collector, Out, Roots, Shape};

/// Most services that have columns: together they hold nearly all memory of a usual host.
const SHOWN_MAX: usize = 20;

/// Services looked at.
const SERVICES_MAX: usize = 512;

/// Directories entered in one look.
const DIRS_MAX: usize = 4_096;

/// Slices within slices that are entered.
const DEPTH_MAX: usize = 5;

/// Looks without it after which a service loses its columns.
const GONE_LOOKS: u32 = 5;

/// Memory is told in steps of 64 KiB.
const MEMORY_QUANTUM: u32 = 64 * 1024;

/// What this collector shows.
pub(crate) const METRICS: &[Metric] = &[
    Metric::gauge(
        "dawnwatch_unit_memory_bytes",
        "Memory of a unit's control group, its cached files included.",
    )
    .quantum(MEMORY_QUANTUM, 1),
    Metric::counter(
        "dawnwatch_unit_cpu_seconds_total",
        "CPU time of a unit's control group.",
    )
    .quantum(1, 1_000),
    Metric::counter(
        "dawnwatch_unit_oom_kills_total",
        "Processes of a unit that were killed for lack of memory.",
    ),
];

/// The collector of control groups.
#[derive(Debug)]
pub(crate) struct Cgroups {
    root: PathBuf,
    shown: Vec<Shown>,
    /// Services of the look before: what was there for a moment only gets no columns.
    before: Option<BTreeSet<String>>,
}

#[derive(Debug)]
struct Shown {
    name: String,
    /// Memory in bytes when last seen.
    memory: u64,
    absent_looks: u32,
    row: [i64; 3],
}

/// A running service.
#[derive(Debug)]
struct Service {
    name: String,
    dir: PathBuf,
    memory: u64,
}

impl Cgroups {
    /// Names the tree.
    pub(crate) fn new(roots: &Roots) -> Cgroups {
        Cgroups {
            root: roots.sys.join("fs/cgroup"),
            shown: Vec::new(),
            before: None,
        }
    }

    /// Chooses who has columns; says whether they are others than before.
    fn choose(&mut self, services: &[Service]) -> bool {
        let mut changed = false;
        for shown in &mut self.shown {
            let seen = services.iter().find(|one| one.name == shown.name);
            shown.absent_looks = seen.map_or(shown.absent_looks + 1, |_| 0);
            shown.memory = seen.map_or(0, |one| one.memory);
        }
        let count = self.shown.len();
        self.shown.retain(|one| one.absent_looks <= GONE_LOOKS);
        changed |= self.shown.len() != count;
        let mut newcomers: Vec<&Service> = services
            .iter()
            .filter(|one| self.shown.iter().all(|shown| shown.name != one.name))
            .filter(|one| {
                self.before
                    .as_ref()
                    .is_none_or(|before| before.contains(&one.name))
            })
            .collect();
        newcomers.sort_by(|a, b| b.memory.cmp(&a.memory).then(a.name.cmp(&b.name)));
        for one in newcomers {
            if self.shown.len() >= SHOWN_MAX {
                let smallest = self.shown.iter().enumerate().min_by_key(|(_, s)| s.memory);
                let Some((at, _)) = smallest.filter(|(_, s)| one.memory / 2 >= s.memory.max(1))
                else {
                    break;
                };
                self.shown.remove(at);
            }
            changed = true;
            self.shown.push(Shown {
                name: one.name.clone(),
                memory: one.memory,
                absent_looks: 0,
                row: [MISSING; 3],
            });
        }
        self.before = Some(services.iter().map(|one| one.name.clone()).collect());
        changed
    }
}

impl Collector for Cgroups {
    fn name(&self) -> &'static str {
        "cgroup"
    }

    fn collect(&mut self, out: &mut Out) -> Result<Shape, CollectError> {
        if !self.root.join("cgroup.controllers").exists() {
            return Err(CollectError::NotAvailable("control groups of version 2"));
        }
        let services = services(&self.root);
        let changed = self.choose(&services);
        let mut buffer = Vec::new();
        for shown in &mut self.shown {
            let seen = services.iter().find(|one| one.name == shown.name);
            shown.row = seen.map_or([MISSING; 3], |one| row(one, &mut buffer));
            out.row.extend(shown.row);
        }
        Ok(if changed { Shape::Changed } else { Shape::Same })
    }

    fn describe(&self, series: &mut Vec<Series>) {
        for shown in &self.shown {
            let of = |metric: &Metric| metric.series().label("unit", &shown.name);
            series.extend(METRICS.iter().map(of));
        }
    }
}

/// Every service below the slices; what is below a service is its own affair.
fn services(root: &Path) -> Vec<Service> {
    let mut found = Vec::new();
    let mut dirs = vec![(root.to_owned(), 0)];
    let mut entered = 0;
    while let Some((dir, depth)) = dirs.pop() {
        entered += 1;
        // A group that vanishes meanwhile has nothing in it.
        let Ok(entries) = std::fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.ends_with(".service") && found.len() < SERVICES_MAX {
                if name.len() > LABEL_BYTES_MAX {
                    continue;
                }
                // The memory controller may be switched off: CPU time is told all the same.
                let dir = entry.path();
                let memory = number_in(&dir.join("memory.current")).unwrap_or(0);
                let memory = u64::try_from(memory).unwrap_or(0);
                found.push(Service { name, dir, memory });
            } else if name.ends_with(".slice")
                && depth < DEPTH_MAX
                && entered + dirs.len() < DIRS_MAX
            {
                dirs.push((entry.path(), depth + 1));
            }
        }
    }
    // The same name in two slices (of two users) is told once: the first by path.
    found.sort_by(|a, b| a.name.cmp(&b.name).then(a.dir.cmp(&b.dir)));
    found.dedup_by(|a, b| a.name == b.name);
    found
}

fn row(service: &Service, buffer: &mut Vec<u8>) -> [i64; 3] {
    let memory = number_in(&service.dir.join("memory.current"));
    let memory = memory.and_then(|bytes| u64::try_from(bytes).ok());
    let cpu_us = read_small(&service.dir.join("cpu.stat"), buffer)
        .and_then(|text| value(text, "usage_usec"));
    let kills = read_small(&service.dir.join("memory.events"), buffer)
        .and_then(|text| value(text, "oom_kill"));
    [
        memory.map_or(MISSING, |bytes| raw(bytes / u64::from(MEMORY_QUANTUM))),
        cpu_us.map_or(MISSING, |us| raw(us / 1_000)),
        kills.map_or(MISSING, raw),
    ]
}

/// The value of a line `key 123`.
fn value(text: &[u8], key: &str) -> Option<u64> {
    let mut fields = lines(text)
        .map(fields)
        .find_map(|mut fields| (fields.next() == Some(key.as_bytes())).then_some(fields))?;
    number(fields.next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, memory: u64) -> Service {
        Service {
            name: name.to_owned(),
            dir: PathBuf::new(),
            memory,
        }
    }

    fn names(cgroups: &Cgroups) -> Vec<&str> {
        cgroups.shown.iter().map(|one| one.name.as_str()).collect()
    }

    #[test]
    fn the_largest_come_first_and_stay() {
        let mut cgroups = Cgroups::new(&Roots::default());
        let many: Vec<Service> = (0..30)
            .map(|i| service(&format!("s{i}"), 1_000 + i))
            .collect();
        assert!(cgroups.choose(&many));
        assert_eq!(cgroups.shown.len(), SHOWN_MAX);
        assert_eq!(cgroups.shown[0].name, "s29");
        assert!(!cgroups.choose(&many));
        // A newcomer must have been there twice and be twice as large as the smallest.
        let mut more = many;
        more.push(service("small", 1_500));
        more.push(service("big", 9_000));
        assert!(!cgroups.choose(&more));
        assert!(cgroups.choose(&more));
        assert!(names(&cgroups).contains(&"big") && !names(&cgroups).contains(&"small"));
        assert!(!names(&cgroups).contains(&"s10"), "the smallest made room");
        assert!(!cgroups.choose(&more), "and nothing flaps");
    }

    #[test]
    fn a_service_that_ended_keeps_its_columns_for_a_while() {
        let mut cgroups = Cgroups::new(&Roots::default());
        cgroups.choose(&[service("a", 5)]);
        for _ in 0..GONE_LOOKS {
            assert!(!cgroups.choose(&[]));
        }
        assert!(cgroups.choose(&[]));
        assert!(cgroups.shown.is_empty());
    }

    #[test]
    fn keys_are_whole_words() {
        let text = b"low 0\noom 4\noom_kill 2\noom_group_kill x\n";
        assert_eq!(value(text, "oom_kill"), Some(2));
        assert_eq!(value(text, "oom"), Some(4));
        assert_eq!(value(text, "oom_group_kill"), None);
        assert_eq!(value(b"", "oom"), None);
    }
}
