//! The whole room over real files and a real spool: what was written is told, each line once.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use dawnwatch_proto::event::{LogCounts, Template};
use dawnwatch_proto::{Event, EventBody, Item};
use dawnwatch_segment::{Disk, RealDisk};
use jiff::Timestamp;

use super::*;
use crate::spool::{Cursor, Limits, Spool, Start};

/// Rounds follow each other quickly in tests.
const QUICK: Duration = Duration::from_millis(2);

/// A host with a directory of logs and a state directory.
struct Host {
    dir: tempfile::TempDir,
    run: u64,
    disk: Arc<dyn Disk>,
    settings: Settings,
}

impl Host {
    fn new() -> Host {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            files: vec![dir.path().join("log/*.log").to_string_lossy().into_owned()],
            journald: false,
            ..Settings::default()
        };
        fs::create_dir(dir.path().join("log")).unwrap();
        Host {
            dir,
            run: 0,
            disk: Arc::new(RealDisk),
            settings,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("log").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path(name));
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn spool(&mut self) -> Spool {
        self.run += 1;
        let limits = Limits {
            bytes_max: 1 << 30,
            items_max: u64::MAX,
        };
        let start = Start {
            id: self.run,
            at: Timestamp::UNIX_EPOCH,
        };
        Spool::open(
            Arc::clone(&self.disk),
            &self.dir.path().join("spool"),
            limits,
            start,
        )
        .unwrap()
    }

    /// Reads until all that is there was read, then stops as told, or dies as killed.
    fn read(&mut self, killed: bool, while_reading: impl FnOnce(&Host)) {
        self.read_until(killed, 0, while_reading);
    }

    /// The same, and waits until the spool holds so many items.
    fn read_until(&mut self, killed: bool, items: u64, while_reading: impl FnOnce(&Host)) {
        let shared = Shared::new(self.spool(), None);
        let state = self.dir.path().join("state");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let logs = Logs::start_every(QUICK, self.settings.clone(), &state, Clock).unwrap();
            // The first round of all is over when its cursor is there.
            let rounds = async {
                while !state.join("logs/cursor.0").exists() {
                    tokio::time::sleep(QUICK).await;
                }
                while_reading(self);
                while shared.backlog() < items {
                    tokio::time::sleep(QUICK).await;
                }
                tokio::time::sleep(QUICK * 5).await;
            };
            tokio::select! {
                () = logs.run(&shared) => {}
                () = rounds => {}
            }
            if !killed {
                logs.stop(&shared).await;
            }
        });
    }

    /// Reads while a story goes on, then stops as told.
    fn read_along(&mut self, story: impl AsyncFnOnce(&Host, &Shared)) {
        let shared = Shared::new(self.spool(), None);
        let state = self.dir.path().join("state");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let logs = Logs::start_every(QUICK, self.settings.clone(), &state, Clock).unwrap();
            // The first round of all is over when its cursor is there.
            let story = async {
                until(|| state.join("logs/cursor.0").exists()).await;
                story(self, &shared).await;
            };
            tokio::select! {
                () = logs.run(&shared) => {}
                () = story => {}
            }
            logs.stop(&shared).await;
        });
    }

    /// Everything that was ever told.
    fn events(&mut self) -> Vec<Event> {
        let mut spool = self.spool();
        let mut events = Vec::new();
        for epoch in spool.epochs() {
            let mut cursor = Cursor::new(epoch.id, 1);
            for entry in spool.read(&mut cursor, usize::MAX, usize::MAX) {
                match entry.item {
                    Item::Event(event) => events.push(event),
                    Item::Tick(_) | Item::Gap(_) => panic!("{:?}", entry.item),
                }
            }
        }
        events
    }

    fn told(&mut self) -> Told {
        let mut told = Told::default();
        for event in self.events() {
            match event.body {
                EventBody::Template(one) => {
                    told.templates.insert(one.id, one);
                }
                EventBody::LogCounts(counts) => {
                    for one in &counts.counts {
                        *told.counts.entry(one.template).or_default() += u64::from(one.count);
                    }
                    told.spans.push(counts);
                }
                EventBody::Line(line) => told.lines.push((line.severity, line.text)),
                EventBody::Trouble { text, .. } => told.troubles.push(text),
                other @ (EventBody::Started(_)
                | EventBody::Goodbye(_)
                | EventBody::Processes(_)
                | EventBody::Unknown) => panic!("{other:?}"),
            }
        }
        told
    }
}

async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(QUICK).await;
    }
}

#[derive(Debug, Default)]
struct Told {
    templates: BTreeMap<u32, Template>,
    counts: BTreeMap<u32, u64>,
    spans: Vec<LogCounts>,
    lines: Vec<(u8, String)>,
    troubles: Vec<String>,
}

impl Told {
    /// Lines by the text of their shape.
    fn by_text(&self) -> BTreeMap<&str, u64> {
        let text = |id| self.templates[id].text.as_str();
        self.counts.iter().map(|(id, n)| (text(id), *n)).collect()
    }

    fn sum(&self, of: impl Fn(&LogCounts) -> u64) -> u64 {
        self.spans.iter().map(of).sum()
    }
}

#[test]
fn what_was_there_is_learned_and_what_comes_is_told() {
    let mut host = Host::new();
    host.write("a.log", "old peer 10.0.0.1 gone\n");
    host.read(false, |host| {
        host.write(
            "a.log",
            "old peer 10.0.0.2 gone\nERROR disk 7 password=hunter2 failed\nhalf",
        );
        host.write("a.log", " a line\n\n\n");
    });
    let told = host.told();
    let old = told.templates.values().find(|t| t.old).unwrap();
    assert_eq!(
        (old.text.as_str(), old.example.as_str()),
        ("old peer <ip> gone", "old peer 10.0.0.1 gone")
    );
    let want = BTreeMap::from([
        ("old peer <ip> gone", 1),
        ("ERROR disk <num> password=<redacted> failed", 1),
        ("half a line", 1),
    ]);
    assert_eq!(told.by_text(), want);
    assert_eq!(
        told.lines,
        [(3, "ERROR disk 7 password=<redacted> failed".to_owned())]
    );
    assert_eq!(told.sum(|c| c.backlog), 0);
}

#[test]
fn a_restart_reads_the_backlog_and_keeps_the_numbers() {
    let mut host = Host::new();
    host.read(false, |host| host.write("a.log", "one x\n"));
    host.write("a.log", "one x\ntwo y\n");
    host.write("b.log", "three z\n");
    host.read(false, |_| {});
    let told = host.told();
    assert_eq!(
        told.by_text(),
        BTreeMap::from([("one x", 2), ("two y", 1), ("three z", 1)])
    );
    assert_eq!(told.sum(|c| c.backlog), 3);
    assert!(told.templates.values().all(|t| !t.old));
}

/// Lines of five shapes with a number each, as a program writes them.
struct Writer {
    path: PathBuf,
    written: BTreeMap<&'static str, u64>,
    n: u64,
}

impl Writer {
    const WORDS: [&str; 5] = ["alpha", "beta", "gamma", "delta", "epsilon"];

    fn new(host: &Host) -> Writer {
        Writer {
            path: host.path("a.log"),
            written: BTreeMap::new(),
            n: 0,
        }
    }

    /// Writes a line, in two halves now and then.
    fn line(&mut self) {
        self.n += 1;
        let word = Writer::WORDS[usize::try_from(self.n % 5).unwrap()];
        let text = format!("{word} began with item {}\n", self.n);
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.path)
            .unwrap();
        let half = if self.n.is_multiple_of(7) {
            4
        } else {
            text.len()
        };
        file.write_all(&text.as_bytes()[..half]).unwrap();
        file.write_all(&text.as_bytes()[half..]).unwrap();
        *self.written.entry(word).or_default() += 1;
    }

    fn archive(&self, n: u32) -> PathBuf {
        self.path.with_extension(format!("log.{n}"))
    }

    /// Moves the archives up by one, as logrotate does.
    fn make_room(&self) {
        for n in (1..20).rev() {
            let _ = fs::rename(self.archive(n), self.archive(n + 1));
        }
    }

    fn rename(&self) {
        self.make_room();
        fs::rename(&self.path, self.archive(1)).unwrap();
    }

    fn copy_and_empty(&self) {
        self.make_room();
        fs::copy(&self.path, self.archive(1)).unwrap();
        OpenOptions::new()
            .write(true)
            .open(&self.path)
            .unwrap()
            .set_len(0)
            .unwrap();
    }
}

/// Every line once, through rotations of both kinds and kills of the reader at any moment.
#[test]
fn every_line_is_told_once_through_rotations_and_kills() {
    let mut host = Host::new();
    host.write("a.log", "");
    let mut writer = Writer::new(&host);
    host.read(true, |_| {});
    // A simple generator: the test is the same each time, the interleaving with the reader is not.
    let mut seed = 7_u64;
    let mut next = move |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % n
    };
    let (mut kills, mut renames, mut copies) = (0, 0, 0);
    for _ in 0..60 {
        let killed = next(3) > 0;
        kills += u32::from(killed);
        host.read(killed, |_| {
            for _ in 0..next(12) {
                for _ in 0..=next(30) {
                    writer.line();
                }
                match next(6) {
                    0 => {
                        writer.rename();
                        renames += 1;
                        writer.line();
                    }
                    1 => {
                        writer.copy_and_empty();
                        copies += 1;
                        writer.line();
                    }
                    _ => {}
                }
                std::thread::sleep(Duration::from_millis(next(6)));
            }
        });
        // While no agent runs.
        for _ in 0..next(20) {
            writer.line();
        }
        if next(4) == 0 {
            writer.rename();
            writer.line();
        }
    }
    host.read(false, |_| {});
    assert!(
        kills > 20 && renames > 20 && copies > 20,
        "{kills} {renames} {copies}"
    );
    let told = host.told();
    let by_word: BTreeMap<_, _> = told
        .by_text()
        .into_iter()
        .map(|(text, n)| (text.split(' ').next().unwrap().to_owned(), n))
        .collect();
    let want: BTreeMap<_, _> = writer
        .written
        .iter()
        .map(|(word, n)| ((*word).to_owned(), *n))
        .collect();
    assert_eq!(by_word, want);
    assert_eq!(told.sum(|c| c.lines_skipped), 0);
}

#[test]
fn odd_files_harm_nothing() {
    let mut host = Host::new();
    host.write("a.log", "");
    host.write("first.log", "");
    fs::hard_link(host.path("first.log"), host.path("linked.log")).unwrap();
    fs::create_dir(host.path("dir.log")).unwrap();
    host.write("a.log.1.gz", "never read\n");
    std::os::unix::fs::symlink(host.path("gone"), host.path("dangling.log")).unwrap();
    host.read(false, |host| {
        let mut long = vec![b'x'; 10 << 20];
        long.extend_from_slice(b"\nERROR \xff\x00 \x1b[31m odd\r\nlast words\n");
        fs::write(host.path("a.log"), long).unwrap();
        host.write("first.log", "once only\n");
    });
    let told = host.told();
    let by_text = told.by_text();
    assert_eq!(by_text.get("last words"), Some(&1), "{by_text:?}");
    assert_eq!(by_text.get("once only"), Some(&1), "{by_text:?}");
    assert_eq!(told.counts.values().sum::<u64>(), 4, "{by_text:?}");
    assert_eq!(
        told.lines,
        [(3, "ERROR \u{fffd}\0 \u{1b}[31m odd".to_owned())]
    );
}

#[test]
fn a_spool_that_takes_nothing_stops_the_reading_and_loses_nothing() {
    let mut host = Host::new();
    host.write("a.log", "");
    host.read(false, |_| {});
    // A spool on a disk without any room: nothing of what is read may count as told.
    let disk = dawnwatch_segment::sim::SimDisk::new(1);
    disk.set_capacity(Some(0));
    let real = std::mem::replace(&mut host.disk, Arc::new(disk));
    host.write("a.log", "ERROR while the disk is full\n");
    host.read(false, |host| {
        host.write("a.log", "and one more\n");
        std::thread::sleep(Duration::from_millis(50));
    });
    host.disk = real;
    assert!(host.told().counts.is_empty());
    host.read(false, |_| {});
    let told = host.told();
    assert_eq!(
        told.by_text(),
        BTreeMap::from([("ERROR while the disk is full", 1), ("and one more", 1)])
    );
    assert_eq!(told.lines.len(), 1);
}

#[test]
fn a_spool_that_is_full_for_a_while_has_each_line_once_when_there_is_room() {
    let mut host = Host::new();
    let disk = Arc::new(dawnwatch_segment::sim::SimDisk::new(1));
    host.disk = Arc::clone(&disk) as Arc<dyn Disk>;
    host.write("a.log", "");
    host.read(false, |_| {});
    host.read_along(async |host, shared| {
        let state = host.dir.path().join("state/logs");
        let cursors = || (0..3).filter(|at| state.join(format!("cursor.{at}")).exists());
        // A shape and a line each.
        for (text, items) in [
            ("ERROR one\n", 2),
            ("ERROR two x\n", 4),
            ("ERROR three y z\n", 6),
        ] {
            host.write("a.log", text);
            until(|| shared.backlog() >= items).await;
        }
        until(|| cursors().count() == 3).await;
        disk.set_capacity(Some(0));
        host.write("a.log", "ERROR while it is full\n");
        until(|| cursors().count() < 3).await;
        disk.set_capacity(None);
        until(|| shared.backlog() >= 8).await;
    });
    let told = host.told();
    let lines: Vec<_> = told.lines.iter().map(|(_, text)| text.as_str()).collect();
    let want = [
        "ERROR one",
        "ERROR two x",
        "ERROR three y z",
        "ERROR while it is full",
    ];
    assert_eq!(lines, want);
    assert_eq!(told.by_text(), want.map(|text| (text, 1)).into());
}

#[test]
fn what_is_left_of_a_file_is_read_though_nothing_is_at_its_path() {
    let mut host = Host::new();
    host.write("a.log", "");
    host.read(false, |_| {});
    host.write("a.log", "last words\n");
    fs::rename(host.path("a.log"), host.path("a.log.1")).unwrap();
    // What another file says moves the cursor on.
    host.write("b.log", "another one\n");
    host.read(false, |_| {});
    host.write("a.log", "a new file\n");
    host.read(false, |_| {});
    let want = BTreeMap::from([("last words", 1), ("a new file", 1), ("another one", 1)]);
    assert_eq!(host.told().by_text(), want);
}

/// What writes journals as journald does, but wherever one likes.
const REMOTE: &str = "/lib/systemd/systemd-journal-remote";

fn has_journal_tools() -> bool {
    let is_there = Path::new(REMOTE).exists() && Path::new("/usr/bin/journalctl").exists();
    if !is_there {
        println!("SKIPPED: systemd-journal-remote and journalctl are needed");
    }
    is_there
}

impl Host {
    /// Has a journal of its own to be read, and nothing in it.
    fn journal(&mut self) -> PathBuf {
        let journal = self.dir.path().join("journal");
        fs::create_dir(&journal).unwrap();
        self.settings.journald = true;
        self.settings.journal_directory = Some(journal.clone());
        journal
    }
}

/// Writes a journal file of entries: program, priority, message.
fn write_journal(journal: &Path, name: &str, at: Timestamp, entries: &[(&str, u8, &str)]) {
    let mut text = String::new();
    for (i, (program, priority, message)) in entries.iter().enumerate() {
        let micros = at.as_microsecond() + i64::try_from(i).unwrap();
        text.push_str(&format!("__REALTIME_TIMESTAMP={micros}\n__MONOTONIC_TIMESTAMP={micros}\n_BOOT_ID=0123456789abcdef0123456789abcdef\nPRIORITY={priority}\nSYSLOG_IDENTIFIER={program}\n_SYSTEMD_UNIT={program}.service\nMESSAGE={message}\n\n"));
    }
    let export = journal.join(format!("{name}.export"));
    fs::write(&export, text).unwrap();
    let out = journal.join(format!("{name}.journal"));
    let done = std::process::Command::new(REMOTE)
        .arg("-o")
        .arg(out)
        .arg(export)
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn what_the_journal_gets_after_the_clock_was_set_back_is_new() {
    if !has_journal_tools() {
        return;
    }
    let mut host = Host::new();
    let journal = host.journal();
    let past = Clock.wall() - jiff::SignedDuration::from_hours(2);
    write_journal(&journal, "a", past, &[("sshd", 6, "an old line")]);
    host.read_along(async |_, shared| {
        until(|| shared.backlog() >= 1).await;
        let set_back = past + jiff::SignedDuration::from_hours(1);
        write_journal(&journal, "b", set_back, &[("sshd", 3, "disk gone")]);
        until(|| shared.backlog() >= 3).await;
    });
    let told = host.told();
    assert_eq!(told.lines, [(3, "disk gone".to_owned())]);
    assert_eq!(told.by_text(), BTreeMap::from([("disk gone", 1)]));
    assert_eq!(told.sum(|c| c.backlog), 0);
}

/// The journal, as `systemd-journal-remote` writes one and `journalctl` reads it.
#[test]
fn the_journal_is_read_and_its_copy_in_a_file_counts_once() {
    if !has_journal_tools() {
        return;
    }
    let mut host = Host::new();
    let journal = host.journal();
    let past = Clock.wall() - jiff::SignedDuration::from_hours(1);
    write_journal(
        &journal,
        "a",
        past,
        &[("sshd", 6, "session opened for user root")],
    );
    host.read_until(false, 1, |_| {});
    // Written while no agent runs: three, one of them by the agent itself, one of them in a file too.
    host.write("sys.log", "");
    let now = Clock.wall();
    write_journal(
        &journal,
        "b",
        now,
        &[
            ("sshd", 3, "fatal: peer 10.0.0.1 gone"),
            ("dawnwatch-agent", 3, "our own"),
            ("cron", 6, "job done"),
        ],
    );
    host.write(
        "sys.log",
        "Nov 22 03:00:00 web01 sshd[77]: fatal: peer 10.0.0.1 gone\n",
    );
    // Two shapes and a line more.
    host.read_until(false, 4, |_| {});
    let told = host.told();
    let by_text = told.by_text();
    assert_eq!(
        by_text.get("fatal: peer <ip> gone"),
        Some(&1),
        "{by_text:?} {:?}",
        told.troubles
    );
    assert_eq!(by_text.get("job done"), Some(&1), "{by_text:?}");
    assert_eq!(by_text.len(), 2, "{by_text:?}");
    assert_eq!(told.lines, [(3, "fatal: peer 10.0.0.1 gone".to_owned())]);
    assert!(
        told.templates
            .values()
            .any(|t| t.old && t.source == "sshd.service")
    );
}
