//! Who uses the machine: the busiest and the largest processes since the look before, from `/proc/PID/stat`.
//!
//! Names are the kernel's short ones; arguments are never read, for they may hold secrets.
//!
//! A file that stays open is read again for a third of what it costs to open, read and close it. It belongs to one process for
//! ever: when that ends reading fails, and what has its number next is opened anew. Of the kernel's own threads, which are most of
//! what a small host has, `schedstat` says all that changes, for a third of that again.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, RawDir};

use dawnwatch_proto::event::{Process, Processes};

use super::Roots;
use super::small::{read_again, read_small};
use super::text::{fields, lines, number};

/// Processes looked at: reading more would take longer than what it tells is worth.
const READ_MAX: usize = 10_000;

/// Files of processes kept open: each takes some 5 KiB of the kernel's memory and a descriptor of the 1,024 that a service has.
/// Of more processes than these, what came last is opened at each look.
const OPEN_MAX: usize = 256;

/// The flag of `stat` that marks the kernel's own threads (`PF_KTHREAD`).
const KERNEL_FLAG: u64 = 0x0020_0000;

/// Bytes of one reading of the list of processes: some thousand of them.
const LIST_BYTES: usize = 32 * 1024;

/// Shown of each kind: the busiest, and the largest.
const SHOWN_MAX: usize = 5;

/// Longest time between two looks that is told as one span: after a suspend nobody knows who was busy when.
const SPAN_US_MAX: i64 = 600_000_000;

/// What is remembered of a process from one look to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    pid: u32,
    /// When it started, in ticks since the boot: tells a process from a later one of the same number.
    started: u64,
    cpu_ticks: u64,
    rss_pages: u64,
}

/// A file of a process that stays open.
#[derive(Debug)]
enum Open {
    /// Its `stat`.
    Stat(File),
    /// The `schedstat` of a thread of the kernel, which has no memory; when it started.
    Kernel(File, u64),
}

/// The table of processes.
#[derive(Debug)]
pub(super) struct Table {
    proc: PathBuf,
    page_bytes: u64,
    ticks_per_second: u64,
    /// By number.
    before: Vec<Seen>,
    /// By number: the files of some of these that are open.
    open: Vec<(u32, Open)>,
    /// The `cgroup` of those that were shown last.
    groups: Vec<(u32, File)>,
    before_us: Option<i64>,
}

/// What a look found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Top {
    pub(super) processes: Option<Processes>,
    pub(super) trouble: Option<String>,
}

impl Table {
    pub(super) fn new(roots: &Roots) -> Table {
        Table {
            proc: roots.proc.clone(),
            page_bytes: roots.asks.page_bytes.into(),
            ticks_per_second: u64::from(roots.asks.ticks_per_second).max(1),
            before: Vec::new(),
            open: Vec::new(),
            groups: Vec::new(),
            before_us: None,
        }
    }

    /// Reads all processes; the first look has nothing to compare with and shows none.
    pub(super) fn look(&mut self, now_us: i64) -> Top {
        let (pids, more) = pids(&self.proc);
        let now = self.read(&pids);
        let trouble = self.trouble(&pids, more);
        let before = std::mem::replace(&mut self.before, now);
        let span_us = self.before_us.replace(now_us).map(|then| now_us - then);
        let span_us = span_us.filter(|us| (1..=SPAN_US_MAX).contains(us));
        let mut processes = span_us.map(|span_us| self.top(&before, span_us));
        if let Some(processes) = &mut processes {
            self.name_units(&mut processes.top);
        }
        Top { processes, trouble }
    }

    /// Reads these processes, sorted by number; what ended meanwhile is left out.
    fn read(&mut self, pids: &[u32]) -> Vec<Seen> {
        let mut buffer = Vec::new();
        let mut now = Vec::with_capacity(pids.len());
        let mut known = std::mem::take(&mut self.open).into_iter().peekable();
        for pid in pids {
            // Files of numbers that are not there any more are closed here.
            while known.next_if(|(other, _)| other < pid).is_some() {}
            let open = known.next_if(|(other, _)| other == pid);
            let again = open.and_then(|(_, open)| self.again(*pid, open, &mut buffer));
            let Some((seen, open)) = again.or_else(|| self.first(*pid, &mut buffer)) else {
                continue;
            };
            now.push(seen);
            if self.open.len() < OPEN_MAX {
                self.open.push((*pid, open));
            }
        }
        now
    }

    /// Reads a process whose file is open; none where that process ended.
    fn again(&self, pid: u32, open: Open, buffer: &mut Vec<u8>) -> Option<(Seen, Open)> {
        let seen = match &open {
            Open::Stat(file) => parse(pid, read_again(file, buffer)?)?.0,
            Open::Kernel(file, started) => Seen {
                pid,
                started: *started,
                cpu_ticks: run_ticks(read_again(file, buffer)?, self.ticks_per_second)?,
                rss_pages: 0,
            },
        };
        Some((seen, open))
    }

    /// Reads a process of which no file is open.
    fn first(&self, pid: u32, buffer: &mut Vec<u8>) -> Option<(Seen, Open)> {
        let dir = self.proc.join(pid.to_string());
        let file = File::open(dir.join("stat")).ok()?;
        let (seen, flags) = parse(pid, read_again(&file, buffer)?)?;
        if flags & KERNEL_FLAG != 0
            && let Ok(file) = File::open(dir.join("schedstat"))
        {
            // Both files count the same time, not with the same rounding: one of them is compared with itself.
            return self.again(pid, Open::Kernel(file, seen.started), buffer);
        }
        Some((seen, Open::Stat(file)))
    }

    /// The kernel's name of a process that is shown: it changes when the process begins another program.
    fn name(&self, pid: u32) -> Option<String> {
        let mut buffer = Vec::new();
        let at = self.open.binary_search_by_key(&pid, |(pid, _)| *pid);
        let text = match at.ok().map(|at| &self.open[at].1) {
            Some(Open::Stat(file)) => read_again(file, &mut buffer),
            Some(Open::Kernel(..)) | None => {
                read_small(&self.proc.join(pid.to_string()).join("stat"), &mut buffer)
            }
        }?;
        let open = text.iter().position(|byte| *byte == b'(')?;
        let close = text.iter().rposition(|byte| *byte == b')')?;
        let name = text.get(open + 1..close)?;
        Some(String::from_utf8_lossy(name).into_owned())
    }

    /// Says which unit each of these belongs to, as far as it belongs to one.
    fn name_units(&mut self, top: &mut [Process]) {
        let mut buffer = Vec::new();
        let mut known = std::mem::take(&mut self.groups);
        for process in top {
            let mut look = |file: File| {
                let unit = unit_in(read_again(&file, &mut buffer)?);
                Some((unit.unwrap_or_default(), file))
            };
            let at = known.iter().position(|(pid, _)| *pid == process.pid);
            let again = at.and_then(|at| look(known.swap_remove(at).1));
            let path = || self.proc.join(process.pid.to_string()).join("cgroup");
            let Some((unit, file)) = again.or_else(|| look(File::open(path()).ok()?)) else {
                continue;
            };
            process.unit = unit;
            self.groups.push((process.pid, file));
        }
    }

    fn trouble(&self, pids: &[u32], more: bool) -> Option<String> {
        if more {
            return Some(format!(
                "more than {READ_MAX} processes: the busiest of the others are not shown"
            ));
        }
        // Somebody started whoever looks: where the first process is out of sight, so are all of other users.
        (!pids.is_empty() && pids.first() != Some(&1)).then(|| {
            let path = self.proc.display();
            format!(
                "processes of others cannot be seen in {path} (is it mounted with hidepid?): the busiest are not all shown"
            )
        })
    }

    fn top(&self, before: &[Seen], span_us: i64) -> Processes {
        let span_ms = u64::try_from(span_us / 1_000).unwrap_or(1).max(1);
        let newest = before.iter().map(|one| one.started).max().unwrap_or(0);
        let busy = |seen: &Seen| {
            let known = before.binary_search_by_key(&seen.pid, |one| one.pid);
            let known = known.ok().map(|at| before[at]);
            let known = known.filter(|one| one.started == seen.started);
            match known {
                Some(one) => seen.cpu_ticks.saturating_sub(one.cpu_ticks),
                // It was there at the look before and not read, as one of too many: when it used what it has, nobody knows.
                None if seen.started < newest => 0,
                // What a process used before it was first seen: all of it within the span, or nearly.
                None => seen.cpu_ticks,
            }
        };
        let mut all: Vec<(u64, &Seen)> = self.before.iter().map(|one| (busy(one), one)).collect();
        let busiest = |a: &(u64, &Seen), b: &(u64, &Seen)| {
            (b.0, b.1.rss_pages, a.1.pid).cmp(&(a.0, a.1.rss_pages, b.1.pid))
        };
        all.sort_unstable_by_key(|(_, one)| std::cmp::Reverse((one.rss_pages, one.pid)));
        let mut shown: Vec<(u64, &Seen)> = all.iter().take(SHOWN_MAX).copied().collect();
        all.sort_unstable_by(busiest);
        for one in all.iter().take(SHOWN_MAX).filter(|one| one.0 > 0) {
            if shown.iter().all(|(_, known)| known.pid != one.1.pid) {
                shown.push(*one);
            }
        }
        shown.sort_unstable_by(busiest);
        let process = |(ticks, seen): &(u64, &Seen)| {
            let permille = ticks * 1_000_000 / (span_ms * self.ticks_per_second);
            Process {
                pid: seen.pid,
                name: self.name(seen.pid).unwrap_or_default(),
                unit: String::new(),
                cpu_permille: u32::try_from(permille).unwrap_or(u32::MAX),
                rss_bytes: seen.rss_pages.saturating_mul(self.page_bytes),
            }
        };
        Processes {
            span_ms: u32::try_from(span_ms).unwrap_or(u32::MAX),
            top: shown.iter().map(process).collect(),
        }
    }
}

/// The numbers of the processes, sorted, and whether there are more than are looked at.
fn pids(proc: &Path) -> (Vec<u32>, bool) {
    let mut pids = Vec::new();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(dir) = rustix::fs::open(proc, flags, Mode::empty()) else {
        return (pids, false);
    };
    let mut buffer = Vec::with_capacity(LIST_BYTES);
    let mut entries = RawDir::new(dir.as_fd(), buffer.spare_capacity_mut());
    while let Some(Ok(entry)) = entries.next() {
        let Ok(pid) = entry.file_name().to_str().unwrap_or("").parse() else {
            continue;
        };
        if pids.len() >= READ_MAX {
            return (pids, true);
        }
        pids.push(pid);
    }
    pids.sort_unstable();
    (pids, false)
}

/// The CPU time of `schedstat`, whose first number counts nanoseconds.
fn run_ticks(text: &[u8], ticks_per_second: u64) -> Option<u64> {
    let ns = number(fields(text.trim_ascii()).next()?)?;
    let ticks = u128::from(ns) * u128::from(ticks_per_second) / 1_000_000_000;
    u64::try_from(ticks).ok()
}

/// `1234 (a name) S 1 ...`: the name may hold anything, so what follows its last bracket counts.
/// Its flags come second.
fn parse(pid: u32, text: &[u8]) -> Option<(Seen, u64)> {
    let end = text.iter().rposition(|byte| *byte == b')')?;
    // The state is the third value of the line and the first one here.
    let mut fields = fields(text[end + 1..].trim_ascii()).skip(6);
    let flags = number(fields.next()?)?;
    let mut fields = fields.skip(4);
    let (user, system) = (number(fields.next()?)?, number(fields.next()?)?);
    let started = number(fields.nth(6)?)?;
    let rss_pages = number(fields.nth(1)?)?;
    let seen = Seen {
        pid,
        started,
        cpu_ticks: user.saturating_add(system),
        rss_pages,
    };
    Some((seen, flags))
}

/// The innermost unit of the path in `0::/system.slice/a.service` or `1:name=systemd:/system.slice/a.service`.
fn unit_in(text: &[u8]) -> Option<String> {
    let line = lines(text)
        .find(|line| line.starts_with(b"0::/") && line.len() > 4)
        .or_else(|| lines(text).find(|line| find(line, b":name=systemd:/").is_some()))?;
    let is_unit = |part: &&[u8]| part.ends_with(b".service") || part.ends_with(b".scope");
    let part = line.split(|byte| *byte == b'/').rev().find(is_unit)?;
    Some(String::from_utf8_lossy(part).into_owned())
}

fn find(line: &[u8], part: &[u8]) -> Option<usize> {
    line.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(pid: u32, name: &str, cpu: u64, started: u64, pages: u64) -> String {
        format!(
            "{pid} ({name}) S 1 1 1 0 -1 4194560 100 200 0 0 {cpu} 0 0 0 20 0 1 0 {started} 1000000 {pages} 18446744073709551615 1 1\n"
        )
    }

    #[test]
    fn a_name_may_hold_anything() {
        for name in ["a", "a b", "a) S 1 (b", "((", ""] {
            let text = stat(7, name, 42, 99, 10);
            let want = Seen {
                pid: 7,
                started: 99,
                cpu_ticks: 42,
                rss_pages: 10,
            };
            let read = parse(7, text.as_bytes());
            assert_eq!(read, Some((want, 4_194_560)), "{name}");
        }
        for text in ["", "7 (a", "7 (a) S", "7 (a) S 1 1 1 0 -1 0 0 0 0 0 x 0"] {
            assert_eq!(parse(7, text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn units_of_both_kinds_of_control_groups() {
        for (text, want) in [
            ("0::/system.slice/nginx.service\n", Some("nginx.service")),
            (
                "0::/user.slice/user-1.slice/user@1.service/app.slice/x.service\n",
                Some("x.service"),
            ),
            (
                "0::/user.slice/user-1.slice/session-4.scope\n",
                Some("session-4.scope"),
            ),
            (
                "2:cpu:/\n1:name=systemd:/system.slice/a.service\n0::/\n",
                Some("a.service"),
            ),
            ("0::/\n", None),
            ("0::/system.slice\n", None),
            ("", None),
        ] {
            assert_eq!(unit_in(text.as_bytes()).as_deref(), want, "{text}");
        }
    }

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn put(&self, pid: u32, name: &str, cpu: u64, started: u64, pages: u64) {
            let dir = self.0.path().join(pid.to_string());
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("stat"), stat(pid, name, cpu, started, pages)).unwrap();
            std::fs::write(dir.join("cgroup"), format!("0::/x.slice/{name}.service\n")).unwrap();
        }

        fn table(&self) -> Table {
            let roots = Roots {
                proc: self.0.path().to_owned(),
                ..Roots::default()
            };
            let mut table = Table::new(&roots);
            table.ticks_per_second = 100;
            table.page_bytes = 4096;
            table
        }
    }

    #[test]
    fn one_that_was_overlooked_is_not_the_busiest_when_it_is_seen() {
        let tree = Tree(tempfile::tempdir().unwrap());
        tree.put(1, "init", 500, 0, 10);
        tree.put(9, "later", 0, 700, 10);
        let mut table = tree.table();
        table.look(0);
        // Ten days of CPU since its start, which was before that look; and one that began since.
        tree.put(5, "overlooked", 86_400_000, 600, 20);
        tree.put(12, "new", 600, 701, 5);
        let busy = |table: &mut Table, us| {
            let top = table.look(us).processes.unwrap().top;
            let all = top.into_iter().map(|one| (one.pid, one.cpu_permille));
            all.collect::<std::collections::BTreeMap<_, _>>()
        };
        let first = busy(&mut table, 60_000_000);
        assert_eq!((first[&5], first[&12]), (0, 100));
        tree.put(5, "overlooked", 86_401_200, 600, 20);
        assert_eq!(busy(&mut table, 120_000_000)[&5], 200);
    }

    #[test]
    fn the_busiest_come_first_and_the_largest_are_there() {
        let tree = Tree(tempfile::tempdir().unwrap());
        tree.put(1, "init", 500, 0, 10);
        for pid in 2..40 {
            tree.put(pid, &format!("p{pid}"), 1_000, 5, u64::from(pid));
        }
        let mut table = tree.table();
        assert_eq!(table.look(0), Top::default(), "nothing to compare with");
        // 30 s of CPU within a minute; a process of a known number that is another one; one that is only large.
        tree.put(3, "p3", 4_000, 5, 3);
        tree.put(4, "other", 600, 77, 4);
        tree.put(50, "large", 0, 80, 9_999);
        let top = table.look(60_000_000).processes.unwrap();
        assert_eq!(top.span_ms, 60_000);
        let shown: Vec<_> = top
            .top
            .iter()
            .map(|one| (one.pid, one.name.as_str(), one.cpu_permille))
            .collect();
        assert_eq!(
            shown[..3],
            [(3, "p3", 500), (4, "other", 100), (50, "large", 0)]
        );
        assert_eq!(shown.len(), SHOWN_MAX + 2);
        assert_eq!(top.top[0].unit, "p3.service");
        assert_eq!(top.top[2].rss_bytes, 9_999 * 4096);
        assert_eq!(
            table.look(60_000_000 + SPAN_US_MAX + 1).processes,
            None,
            "slept"
        );
    }

    #[test]
    fn threads_of_the_kernel_are_followed_by_their_nanoseconds() {
        let tree = Tree(tempfile::tempdir().unwrap());
        tree.put(1, "init", 500, 0, 10);
        let dir = tree.0.path().join("2");
        std::fs::create_dir(&dir).unwrap();
        let kernel = stat(2, "kswapd0", 7, 3, 0).replace(" 4194560 ", " 2129984 ");
        std::fs::write(dir.join("stat"), kernel).unwrap();
        let run = |ns: u64| std::fs::write(dir.join("schedstat"), format!("{ns} 12 5\n")).unwrap();
        run(90_000_000_000);
        let mut table = tree.table();
        assert_eq!(table.look(0), Top::default());
        run(120_000_000_000);
        let top = table.look(60_000_000).processes.unwrap();
        let first = &top.top[0];
        assert_eq!(
            (
                first.pid,
                first.name.as_str(),
                first.cpu_permille,
                first.rss_bytes
            ),
            (2, "kswapd0", 500, 0)
        );
        // Another process has the number: its files are others.
        std::fs::remove_dir_all(&dir).unwrap();
        std::fs::remove_dir_all(tree.0.path().join("1")).unwrap();
        tree.put(1, "init", 500, 0, 10);
        assert_eq!(table.look(120_000_000).processes.unwrap().top.len(), 1);
        tree.put(2, "sh", 600, 90, 20);
        let top = table.look(180_000_000).processes.unwrap();
        assert_eq!(
            (top.top[0].name.as_str(), top.top[0].cpu_permille),
            ("sh", 100)
        );
    }

    #[test]
    fn more_processes_than_files_are_read_all_the_same() {
        let tree = Tree(tempfile::tempdir().unwrap());
        let last = u32::try_from(OPEN_MAX).unwrap() + 20;
        for pid in 1..=last {
            tree.put(pid, "p", 100, 5, 1);
        }
        let mut table = tree.table();
        table.look(0);
        assert_eq!(table.open.len(), OPEN_MAX);
        tree.put(last, "busy", 700, 5, 1);
        let top = table.look(60_000_000).processes.unwrap();
        assert_eq!((top.top[0].pid, top.top[0].cpu_permille), (last, 100));
    }

    #[test]
    fn hidden_processes_are_told() {
        let tree = Tree(tempfile::tempdir().unwrap());
        tree.put(77, "own", 1, 1, 1);
        let trouble = tree.table().look(0).trouble.unwrap();
        assert!(trouble.contains("hidepid"), "{trouble}");
        let empty = Tree(tempfile::tempdir().unwrap());
        assert_eq!(empty.table().look(0), Top::default());
    }
}
