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
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        Spool::open(disk, &self.dir.path().join("spool"), limits, start).unwrap()
    }

    /// Reads until all that is there was read, then stops as told, or dies as killed.
    fn read(&mut self, killed: bool, while_reading: impl FnOnce(&Host)) {
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
                other => panic!("{other:?}"),
            }
        }
        told
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
