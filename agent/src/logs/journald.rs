//! The journal, through `journalctl -o json`: run when there is something new, never kept.
//!
//! A `journalctl --follow` would hold some six MiB for as long as the agent runs, which is as much as the agent itself; one
//! run costs some ten milliseconds. So the journal's files are looked at each round (journald touches them with every entry),
//! and where they changed, one run reads what lies behind the saved cursor, at most every few seconds. Only this one program
//! is ever started, by its absolute path, without a shell.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::entry::{Entry, FIELDS, parse};
use super::frame::Framer;

/// Where the program may be.
const PROGRAMS: [&str; 2] = ["/usr/bin/journalctl", "/bin/journalctl"];

/// Where the system keeps its journal: for good, and until the next boot.
const DIRECTORIES: [&str; 2] = ["/var/log/journal", "/run/log/journal"];

/// Least time between two runs.
const RUN_EVERY_MS: u64 = 5_000;

/// Time after which the journal is asked though its files look the same.
const RUN_AT_LEAST_MS: u64 = 300_000;

/// Longest that a run may take: a journal of many gigabytes on a slow disk is sought through in less.
const RUN_MS_MAX: u64 = 120_000;

/// Wait after a run that failed; doubled each time, up to [`RUN_AT_LEAST_MS`].
const FAILED_WAIT_MS: u64 = 10_000;

/// Entries from before the host was watched that are learned from.
const LEARN_ENTRIES: u32 = 2_000;

/// Longest that one round waits for more of a run's output.
const WAIT_ROUND_MS: u64 = 200;

/// Most of what a failing run says that is told.
const SAID_BYTES_MAX: u64 = 512;

/// Most names of journal files that are looked at.
const NAMES_MAX: usize = 1_024;

/// Where the journal is, and the program that reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    program: PathBuf,
    /// Its directories, of which one at least has journal files.
    directories: Vec<PathBuf>,
    /// Whether the directory must be named to the program.
    is_own: bool,
}

impl Place {
    /// Finds the journal.
    ///
    /// # Errors
    /// Says what is not there.
    pub(crate) fn find(directory: Option<&Path>) -> Result<Place, String> {
        let program = PROGRAMS
            .map(PathBuf::from)
            .into_iter()
            .find(|path| path.is_file());
        let program = program.ok_or("journalctl is not installed")?;
        let directories = match directory {
            Some(own) => vec![own.to_owned()],
            None => DIRECTORIES.map(PathBuf::from).to_vec(),
        };
        let place = Place {
            program,
            directories,
            is_own: directory.is_some(),
        };
        if place.state().0 == 0 {
            let names: Vec<_> = place
                .directories
                .iter()
                .map(|d| d.display().to_string())
                .collect();
            return Err(format!("no journal in {}", names.join(" or ")));
        }
        Ok(place)
    }

    /// Number of journal files, and when one of them was touched last.
    fn state(&self) -> (usize, (i64, i64)) {
        let (mut files, mut newest) = (0, (0, 0));
        let mut look = |dir: &Path| {
            for entry in fs::read_dir(dir)
                .into_iter()
                .flatten()
                .flatten()
                .take(NAMES_MAX)
            {
                let Ok(meta) = entry.metadata() else { continue };
                if entry.path().extension().is_some_and(|e| e == "journal") {
                    files += 1;
                    newest = newest.max((meta.mtime(), meta.mtime_nsec()));
                }
            }
        };
        for dir in &self.directories {
            look(dir);
            // One directory for each machine id.
            for entry in fs::read_dir(dir)
                .into_iter()
                .flatten()
                .flatten()
                .take(NAMES_MAX)
            {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    look(&entry.path());
                }
            }
        }
        (files, newest)
    }

    fn command(&self, cursor: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--output=json", "--all", "--no-pager"]);
        command.arg(format!("--output-fields={FIELDS}"));
        if cursor.is_empty() {
            command.arg(format!("--lines={LEARN_ENTRIES}"));
        } else {
            command.arg(format!("--after-cursor={cursor}"));
        }
        if self.is_own {
            command.args(
                self.directories
                    .iter()
                    .map(|d| format!("--directory={}", d.display())),
            );
        }
        command.env_clear().env("LC_ALL", "C.UTF-8");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// The journal as it is read.
#[derive(Debug)]
pub(crate) struct Journal {
    place: Place,
    run: Option<Run>,
    /// What its files looked like when the last run began.
    seen: Option<(usize, (i64, i64))>,
    last_ms: u64,
    failures: u32,
    told: String,
}

#[derive(Debug)]
struct Run {
    child: Child,
    out: ChildStdout,
    framer: Framer,
    since_ms: u64,
    /// The budget of a round ended it: there is more.
    is_cut: bool,
}

/// What a round gave.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// Lines that were no entries, or too long.
    pub(crate) skipped: u64,
    /// A run ended that read all there was.
    pub(crate) is_whole: bool,
    /// What a person should know; each thing once.
    pub(crate) trouble: Option<String>,
}

impl Journal {
    /// A journal that was not read yet in this run of the agent.
    pub(crate) fn new(place: Place) -> Journal {
        Journal {
            place,
            run: None,
            seen: None,
            last_ms: 0,
            failures: 0,
            told: String::new(),
        }
    }

    /// Begins a run if one is due, and hands out what a run gave so far, at most so many entries.
    pub(crate) fn round(
        &mut self,
        now_ms: u64,
        cursor: &str,
        mut entries: u64,
        each: &mut dyn FnMut(Entry),
    ) -> Round {
        let mut round = Round::default();
        if self.run.is_none()
            && let Err(error) = self.begin(now_ms, cursor)
        {
            self.failed(
                format!("cannot run {}: {error}", self.place.program.display()),
                &mut round,
            );
        }
        let Some(run) = &mut self.run else {
            return round;
        };
        let ended = run.read(&mut entries, &mut round.skipped, each);
        let is_late = now_ms.saturating_sub(run.since_ms) > RUN_MS_MAX;
        if !(ended || is_late || run.is_cut) {
            return round;
        }
        let Some(run) = self.run.take() else {
            return round;
        };
        match run.end(is_late) {
            // The rest follows in the next round.
            End::Cut => self.seen = None,
            End::Well(said) => {
                self.failures = 0;
                round.is_whole = true;
                if !said.is_empty() {
                    self.tell(said, &mut round);
                }
            }
            End::Badly(said) => self.failed(said, &mut round),
        }
        round
    }

    fn begin(&mut self, now_ms: u64, cursor: &str) -> io::Result<()> {
        let waited = now_ms.saturating_sub(self.last_ms);
        let backoff = FAILED_WAIT_MS << self.failures.min(6);
        let wait = if self.failures > 0 {
            backoff.min(RUN_AT_LEAST_MS)
        } else {
            RUN_EVERY_MS
        };
        let is_first = self.last_ms == 0;
        if waited < wait && !is_first {
            return Ok(());
        }
        let state = self.place.state();
        if self.seen == Some(state) && waited < RUN_AT_LEAST_MS {
            return Ok(());
        }
        (self.seen, self.last_ms) = (Some(state), now_ms.max(1));
        let mut child = self.place.command(cursor).spawn()?;
        let out = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        fcntl_setfl(&out, fcntl_getfl(&out)? | OFlags::NONBLOCK)?;
        self.run = Some(Run {
            child,
            out,
            framer: Framer::default(),
            since_ms: now_ms,
            is_cut: false,
        });
        Ok(())
    }

    fn failed(&mut self, said: String, round: &mut Round) {
        self.failures = self.failures.saturating_add(1);
        self.tell(format!("the journal cannot be read: {said}"), round);
    }

    fn tell(&mut self, said: String, round: &mut Round) {
        if self.told != said {
            self.told.clone_from(&said);
            round.trouble = Some(said);
        }
    }
}

impl Run {
    /// Reads what is there; whether the end was reached.
    fn read(&mut self, entries: &mut u64, skipped: &mut u64, each: &mut dyn FnMut(Entry)) -> bool {
        let mut buffer = vec![0; 32 * 1024];
        let mut waits = WAIT_ROUND_MS / WAIT_MS;
        loop {
            match self.out.read(&mut buffer) {
                Ok(0) => return true,
                Ok(n) => self.framer.push(&buffer[..n], |raw| {
                    // What is beyond the budget is read again from the last cursor.
                    if *entries == 0 {
                        self.is_cut = true;
                        return;
                    }
                    *entries -= 1;
                    match parse(raw.bytes).filter(|_| raw.cut_from == 0) {
                        Some(entry) => each(entry),
                        None => *skipped += 1,
                    }
                }),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let wait = Timespec {
                        tv_sec: 0,
                        tv_nsec: i64::try_from(WAIT_MS).unwrap_or(0) * 1_000_000,
                    };
                    let mut fds = [PollFd::new(&self.out, PollFlags::IN)];
                    if waits == 0 {
                        return false;
                    }
                    waits -= 1;
                    let _ = poll(&mut fds, Some(&wait));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
            if self.is_cut {
                return false;
            }
        }
    }

    /// Waits for the program to be gone; what it said is in its last words.
    fn end(mut self, is_late: bool) -> End {
        drop(self.out);
        if self.is_cut || is_late {
            let _ = self.child.kill();
        }
        let mut said = Vec::new();
        if let Some(last) = self.child.stderr.take() {
            let _ = last.take(SAID_BYTES_MAX).read_to_end(&mut said);
        }
        let said = String::from_utf8_lossy(&said);
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        let status = self.child.wait();
        if self.is_cut {
            return End::Cut;
        }
        match status {
            Ok(status) if status.success() => End::Well(said),
            Ok(status) if said.is_empty() => End::Badly(format!("journalctl ended with {status}")),
            Ok(_) => End::Badly(said),
            Err(error) => End::Badly(error.to_string()),
        }
    }
}

/// One wait for more output.
const WAIT_MS: u64 = 20;

enum End {
    /// There is more.
    Cut,
    /// What it said beside.
    Well(String),
    /// Why it failed.
    Badly(String),
}

impl Drop for Journal {
    fn drop(&mut self) {
        if let Some(run) = &mut self.run {
            let _ = run.child.kill();
            let _ = run.child.wait();
        }
    }
}
