//! What logs say: read, redacted and shaped on this host, so that a flood of text leaves it as a few numbers.
//!
//! ```text
//! files -> tail, family -> frame -+-> header, severity -> twice -> redact -> mask -> miner -> shaper -> spool
//! journal ---------> journald ----+
//! ```
//! - `places` finds files, `family` follows one path through rotations, `tail` reads one file, `frame` cuts lines.
//! - `lines` says what becomes of a line. `header`, `severity`, `redact`, `mask`, `miner` and `shaper` are pure; `twice` leaves out what came before.
//! - `journald` runs the journal's own reader, `entry` is what that writes.
//! - `saved` and `kept` are what is on disk; `reader` is the thread that ties all together.
//!
//! A line's time is the time at which it is read. What was written before the agent first ran is learned from and not told;
//! what was written while no agent ran is told as backlog.

mod entry;
mod family;
mod frame;
mod header;
mod journald;
mod kept;
mod lines;
mod mask;
mod miner;
mod places;
mod reader;
mod redact;
mod saved;
mod severity;
mod shaper;
mod tail;
mod twice;

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::uplink::Shared;
use dawnwatch_proto::EventBody;
use frame::Framer;
use lines::Lines;
use reader::{Answer, Ask, Batch, Thread};
use redact::Redactor;
use shaper::{Shaper, When};

/// Time between two rounds of reading.
const ROUND: Duration = Duration::from_secs(1);

/// Longest wait for the last counts when the agent stops.
const LAST_MAX: Duration = Duration::from_secs(2);

/// Stack of the reading thread: it calls nothing deep.
const STACK_BYTES: usize = 256 * 1024;

/// What is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Patterns of files.
    pub files: Vec<String>,
    /// Patterns of files that are left out.
    pub exclude: Vec<String>,
    /// Whether the journal is read, where there is one.
    pub journald: bool,
    /// Where the journal lies, if not where the system says.
    pub journal_directory: Option<PathBuf>,
    /// What is taken out of lines beside what looks like a secret by itself.
    pub redact: Vec<String>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            files: places::DEFAULT_FILES.map(str::to_owned).to_vec(),
            exclude: Vec::new(),
            journald: true,
            journal_directory: None,
            redact: Vec::new(),
        }
    }
}

/// The reading of logs: a thread, and what it asks of the agent's own.
#[derive(Debug)]
pub struct Logs {
    asked: Mutex<tokio::sync::mpsc::Receiver<Ask>>,
    /// Dropped to stop the thread.
    stop: RefCell<Option<mpsc::Sender<()>>>,
}

impl Logs {
    /// Starts reading; `state` is the agent's state directory.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(settings: Settings, state: &Path, clock: Clock) -> io::Result<Logs> {
        Logs::start_every(ROUND, settings, state, clock)
    }

    fn start_every(
        round: Duration,
        settings: Settings,
        state: &Path,
        clock: Clock,
    ) -> io::Result<Logs> {
        let (ask, asked) = tokio::sync::mpsc::channel(1);
        let (stop, stopped) = mpsc::channel();
        let thread = Thread {
            settings,
            dir: state.join("logs"),
            clock,
            round,
            ask,
            stop: stopped,
            reached: Cell::default(),
        };
        std::thread::Builder::new()
            .name("logs".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || thread.run())?;
        Ok(Logs {
            asked: Mutex::new(asked),
            stop: RefCell::new(Some(stop)),
        })
    }

    /// Keeps what is read, for ever.
    pub async fn run(&self, shared: &Shared) {
        self.serve(shared).await;
        std::future::pending().await
    }

    /// Ends the reading: the last counts are kept, unless that takes long.
    pub async fn stop(&self, shared: &Shared) {
        self.stop.borrow_mut().take();
        if tokio::time::timeout(LAST_MAX, self.serve(shared))
            .await
            .is_err()
        {
            tracing::warn!("the last counts of the logs did not come in time");
        }
    }

    /// Answers until the thread ends.
    async fn serve(&self, shared: &Shared) {
        let mut asked = self.asked.lock().await;
        while let Some(ask) = asked.recv().await {
            // A thread that is gone needs no answer.
            match ask {
                Ask::Position(answer) => {
                    let _ = answer.send(shared.with_spool(|spool| spool.found()));
                }
                Ask::Keep(batch) => keep(shared, batch),
            }
        }
    }
}

/// Writes the cursor, then the events it stands behind.
fn keep(shared: &Shared, batch: Batch) {
    let Batch {
        events,
        mut slot,
        answer,
    } = batch;
    let kept = shared.events(events, |position| slot.write(position));
    let answered = match kept {
        Ok(is_durable) => Answer::Kept { slot, is_durable },
        Err(why) => {
            tracing::debug!(why, "what the logs say is not kept");
            if let Err(error) = slot.remove()
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, "a cursor of the logs cannot be taken back");
            }
            Answer::Refused
        }
    };
    let _ = answer.send(answered);
}

/// What is read on this host, and what cannot be and why: for `doctor`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Files that are read.
    pub files: Vec<PathBuf>,
    /// Files that are there and cannot be read, with the reason.
    pub unreadable: Vec<(PathBuf, String)>,
    /// Files beyond the bound.
    pub more: usize,
    /// Why the journal is not read; none where it is.
    pub no_journal: Option<String>,
}

/// Looks at the logs of this host, as reading them would.
#[must_use]
pub fn look(settings: &Settings) -> Seen {
    let found = places::find(&settings.files, &settings.exclude);
    let mut seen = Seen {
        more: found.more,
        ..Seen::default()
    };
    for path in found.files {
        match std::fs::File::open(&path) {
            Ok(_) => seen.files.push(path),
            Err(error) => seen.unreadable.push((path, error.to_string())),
        }
    }
    let off = || Err("it is switched off by [logs] journald".to_owned());
    let journal = match settings.journald {
        true => journald::Place::find(settings.journal_directory.as_deref()),
        false => off(),
    };
    seen.no_journal = journal.err();
    seen
}

/// What the bytes of a log file, read in these pieces, are told as: shapes, whole lines, and the counts at last. Nothing is kept,
/// and only the usual secrets are taken out.
#[must_use]
pub fn shape(pieces: &[&[u8]]) -> Vec<EventBody> {
    let mut lines = Lines {
        shaper: Shaper::new(Redactor::default()),
        twins: None,
    };
    let mut framer = Framer::default();
    let path = Path::new("file");
    for piece in pieces {
        framer.push(piece, |raw| lines.of_file(path, raw, When::Live));
    }
    framer.end(|raw| lines.of_file(path, raw, When::Live));
    let (mut events, _) = lines.shaper.take();
    events.push(lines.shaper.flush(0));
    events
}

/// Whether a pattern of files can be used.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn check_files(pattern: &str) -> Result<(), String> {
    places::check(pattern).map_err(str::to_owned)
}

/// Whether a pattern of what is redacted can be used.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn check_redact(pattern: &str) -> Result<(), String> {
    redact::compile(pattern).map(|_| ())
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod scores;
