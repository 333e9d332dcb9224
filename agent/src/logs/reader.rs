//! The thread that reads: one round a second over all files, shapes what they give, and hands it to the spool with the
//! cursor it stands behind.
//!
//! A failure is treated as a kill would be: everything in memory is forgotten, and what is on disk is gone on from. So a full
//! disk stops the reading and moves no offset.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use dawnwatch_proto::{Event, EventBody};
use dawnwatch_segment::RealDisk;

use super::Settings;
use super::family::Family;
use super::journald::{Journal, Place};
use super::kept::Shapes;
use super::lines::Lines;
use super::places::{self, Found};
use super::redact::{Redactor, compile};
use super::saved::{Count, Cursor, Ring, Slot};
use super::shaper::{Shaper, When};
use super::tail::{Budget, CHUNK_BYTES, From, Given};
use super::twice::Twins;
use crate::clock::Clock;

/// Time between two rounds where the configuration names nothing to read.
const IDLE_ROUND: Duration = Duration::from_secs(60);

/// Rounds that are left out while the spool takes nothing.
const PAUSE_ROUNDS: u32 = 5;

/// Rounds between two looks for files that are new.
const FIND_ROUNDS: usize = 10;

/// Length of a span of counts.
const SPAN_MS: u64 = 60_000;

/// Length of a tick, as far as whole lines are concerned.
const TICK_MS: u64 = 10_000;

/// Most lines of one file that are shaped in one round: some 20 ms of one CPU.
const FILE_LINES_MAX: u64 = 10_000;

/// Most lines of all files in one round: a flood costs no more than this.
const ROUND_LINES_MAX: u64 = 20_000;

/// Most bytes of one file in one round: what a flood of a million lines a second writes, counted at memory's speed.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// What the thread asks of the agent's own thread.
#[derive(Debug)]
pub(crate) enum Ask {
    /// The position that the spool had when it was opened; asked until there is one.
    Position(mpsc::SyncSender<Option<u64>>),
    /// Keep these events, and write the cursor that stands behind them.
    Keep(Batch),
}

/// Events with their cursor.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) events: Vec<Event>,
    pub(crate) slot: Slot,
    pub(crate) answer: mpsc::SyncSender<Answer>,
}

/// How keeping came out.
#[derive(Debug)]
pub(crate) enum Answer {
    /// They are in the spool; whether all before them is on the disk for good.
    Kept { slot: Slot, is_durable: bool },
    /// They are not, and the cursor neither.
    Refused,
}

/// What the thread runs with.
#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) settings: Settings,
    pub(crate) dir: PathBuf,
    pub(crate) clock: Clock,
    /// Time between two rounds.
    pub(crate) round: Duration,
    pub(crate) ask: tokio::sync::mpsc::Sender<Ask>,
    /// Closed when the agent stops.
    pub(crate) stop: mpsc::Receiver<()>,
    /// Position in the spool of the last events that it took in this run.
    pub(crate) reached: Cell<u64>,
}

/// The agent's own thread is gone, or wants this one to end.
struct Stopped;

/// Something in the way: begin again from what is on disk.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("the spool takes nothing")]
    Refused,
    #[error(transparent)]
    Shapes(#[from] dawnwatch_segment::Error),
    #[error("cannot make {0}: {1}")]
    Directory(PathBuf, std::io::Error),
}

impl Thread {
    /// Reads until told to stop.
    pub(crate) fn run(self) {
        let mut is_told = false;
        loop {
            let failed = match self.until_failure() {
                Ok(Stopped) => return,
                Err(failed) => failed,
            };
            if !is_told {
                tracing::warn!("logs are not read for now: {failed}");
                is_told = true;
            }
            if self.is_stopped(self.round * PAUSE_ROUNDS) {
                return;
            }
        }
    }

    fn until_failure(&self) -> Result<Stopped, Failed> {
        let Some(position) = self.position() else {
            return Ok(Stopped);
        };
        let mut reader = Reader::open(self, position)?;
        // Where nothing is to be read, only the cursor is kept true.
        let settings = &self.settings;
        let is_idle = settings.files.is_empty() && !settings.journald;
        let round = if is_idle { IDLE_ROUND } else { self.round };
        loop {
            let is_last = self.is_stopped(round);
            reader.round(is_last)?;
            if is_last {
                return Ok(Stopped);
            }
        }
    }

    /// Waits; whether the agent stops.
    fn is_stopped(&self, wait: Duration) -> bool {
        !matches!(
            self.stop.recv_timeout(wait),
            Err(mpsc::RecvTimeoutError::Timeout)
        )
    }

    /// The spool's position when it was opened, or what it took of us since; waits for a spool that cannot be opened yet.
    fn position(&self) -> Option<u64> {
        loop {
            let (answer, answered) = mpsc::sync_channel(1);
            self.ask.blocking_send(Ask::Position(answer)).ok()?;
            if let Some(position) = answered.recv().ok()? {
                return Some(position.max(self.reached.get()));
            }
            if self.is_stopped(self.round * PAUSE_ROUNDS) {
                return None;
            }
        }
    }
}

/// All that is read, and how far.
struct Reader<'a> {
    thread: &'a Thread,
    ring: Ring,
    shapes: Shapes,
    families: Vec<Family>,
    buffer: Vec<u8>,
    lines: Lines,
    /// Shapes that the last run kept and did not tell.
    untold: Vec<EventBody>,
    journal: Option<Journal>,
    journal_cursor: String,
    round: usize,
    /// When files were looked for, Unix milliseconds.
    looked_ms: i64,
    span_ms: u64,
    tick_ms: u64,
    /// When this run began, Unix milliseconds: what the journal has from before is backlog.
    began_ms: i64,
    /// The journal was never read on this host: what is in it is learned from.
    is_first_journal: bool,
    /// All that the journal had from before was read: what comes is new, whatever the host's clock has done meanwhile.
    is_journal_near: bool,
    /// Something was read that the cursor on disk does not know of.
    is_ahead: bool,
    /// Nothing was ever read on this host: what is there is learned from.
    is_first: bool,
    more_files: usize,
}

impl<'a> Reader<'a> {
    fn open(thread: &'a Thread, position: u64) -> Result<Reader<'a>, Failed> {
        let dir = &thread.dir;
        std::fs::create_dir_all(dir).map_err(|e| Failed::Directory(dir.clone(), e))?;
        let (ring, cursor) = Ring::open(dir, position);
        let (shapes, known) = Shapes::open(Arc::new(RealDisk), &dir.join("shapes"))?;
        let own = thread
            .settings
            .redact
            .iter()
            .filter_map(|p| compile(p).ok());
        let mut shaper = Shaper::new(Redactor::new(own.collect()));
        let is_first = cursor.is_none();
        let cursor = cursor.unwrap_or_default();
        let told = usize::try_from(cursor.told).unwrap_or(usize::MAX);
        let untold = known.iter().skip(told).filter(|k| k.shape.into == 0);
        let untold = untold.map(Shaper::template).collect();
        for one in known {
            shaper.restore(one);
        }
        cursor.restore(&mut shaper.counts);
        let now = thread.clock.boot_ms();
        let mut reader = Reader {
            thread,
            ring,
            shapes,
            families: Vec::new(),
            buffer: vec![0; CHUNK_BYTES],
            lines: Lines {
                shaper,
                twins: None,
            },
            untold,
            journal: None,
            journal_cursor: cursor.journal.clone(),
            round: 0,
            looked_ms: cursor.looked_ms,
            span_ms: now,
            tick_ms: now,
            began_ms: thread.clock.wall().as_millisecond(),
            is_first_journal: cursor.journal.is_empty(),
            is_journal_near: false,
            is_ahead: is_first,
            is_first,
            more_files: 0,
        };
        reader.resume(&cursor);
        reader.find_journal();
        Ok(reader)
    }

    /// Takes up the files of the last run, and those that are new since.
    fn resume(&mut self, cursor: &Cursor) {
        let mut paths = self.find().files;
        // A path may be empty for now (rotated, and nothing written since): what is left of its last file is read all the same.
        for mark in &cursor.marks {
            let path = PathBuf::from(&mark.path);
            let settings = &self.thread.settings;
            if !paths.contains(&path)
                && paths.len() < places::FILES_MAX
                && !path.exists()
                && places::fits(&path, &settings.files, &settings.exclude)
            {
                paths.push(path);
            }
        }
        for path in paths {
            let name = path.to_string_lossy();
            let marks: Vec<_> = cursor
                .marks
                .iter()
                .filter(|m| m.path == name)
                .cloned()
                .collect();
            let family = if marks.is_empty() {
                // One that is younger than the last cursor was written while no agent ran; an older one is learned from.
                let from = if places::is_younger(&path, cursor.looked_ms) && !self.is_first {
                    From::StartOfBacklog
                } else {
                    From::Learn
                };
                Family::new(path, from)
            } else {
                Family::resume(path, &marks)
            };
            self.families.push(family);
        }
    }

    fn round(&mut self, is_last: bool) -> Result<(), Failed> {
        let now = self.thread.clock.boot_ms();
        if now.saturating_sub(self.tick_ms) >= TICK_MS {
            self.tick_ms = now;
            self.lines.shaper.tick();
        }
        if is_last || self.round.is_multiple_of(FIND_ROUNDS) {
            self.find_new();
        }
        let mut events = std::mem::take(&mut self.untold);
        // The journal first: it says more of a line than a file that has it too.
        if !is_last {
            self.read_journal(now, &mut events);
        }
        self.read_files(&mut events);
        let (more, known) = self.lines.shaper.take();
        events.extend(more);
        let span = now.saturating_sub(self.span_ms);
        let is_due = span >= SPAN_MS || is_last;
        if is_due {
            self.find_journal();
            self.span_ms = now;
            if !self.lines.shaper.counts.is_empty() {
                events.push(
                    self.lines
                        .shaper
                        .flush(u32::try_from(span).unwrap_or(u32::MAX)),
                );
            }
        }
        // Where reading began is kept at once.
        if events.is_empty() && !(is_due && self.is_ahead) && !self.is_first {
            return Ok(());
        }
        self.shapes.keep(&known)?;
        self.commit(events, is_due)
    }

    /// Hands events to the spool, with the cursor that stands behind them.
    fn commit(&mut self, bodies: Vec<EventBody>, is_due: bool) -> Result<(), Failed> {
        let time = self.thread.clock.wall();
        let slot = self.ring.next(self.cursor());
        let (answer, answered) = mpsc::sync_channel(1);
        let batch = Batch {
            events: bodies
                .into_iter()
                .map(|body| Event { time, body })
                .collect(),
            slot,
            answer,
        };
        let sent = self.thread.ask.blocking_send(Ask::Keep(batch));
        let Ok(Answer::Kept { slot, is_durable }) = sent
            .map_err(|_| ())
            .and_then(|()| answered.recv().map_err(|_| ()))
        else {
            return Err(Failed::Refused);
        };
        // What counted until here is on the disk for good before this one follows it.
        if is_due
            && is_durable
            && let Err(error) = self.ring.settle()
        {
            tracing::warn!(%error, "the cursor of the logs cannot be synced");
        }
        self.ring.committed(&slot);
        self.thread.reached.set(slot.position());
        (self.is_ahead, self.is_first) = (false, false);
        Ok(())
    }

    fn cursor(&self) -> Cursor {
        let counts = &self.lines.shaper.counts;
        let count = |(template, (count, severity)): (&u32, &(u32, u8))| Count {
            template: *template,
            count: *count,
            severity: u32::from(*severity),
        };
        let mut marks = Vec::new();
        for family in &self.families {
            family.marks(&mut marks);
        }
        Cursor {
            marks,
            journal: self.journal_cursor.clone(),
            told: self.shapes.records(),
            counts: counts.shapes.iter().map(count).collect(),
            lines_cut: counts.lines_cut,
            lines_skipped: counts.lines_skipped,
            backlog: counts.backlog,
            looked_ms: self.looked_ms,
            ..Cursor::default()
        }
    }

    /// Reads what is new in all files; another one is first in each round, so that none waits for the others for ever.
    fn read_files(&mut self, events: &mut Vec<EventBody>) {
        let n = self.families.len();
        self.round = self.round.wrapping_add(1);
        let mut lines_left = ROUND_LINES_MAX;
        for i in 0..n {
            let family = &mut self.families[(self.round + i) % n];
            let lines = lines_left.min(FILE_LINES_MAX);
            let mut budget = Budget {
                lines,
                bytes: FILE_BYTES_MAX,
            };
            let path = family.path().to_owned();
            let (sink, is_ahead) = (&mut self.lines, &mut self.is_ahead);
            let trouble = family.round(&mut self.buffer, &mut budget, &mut |given| {
                *is_ahead = true;
                match given {
                    Given::Line(raw, when) => sink.of_file(&path, raw, when),
                    Given::Skipped => sink.shaper.skipped(1),
                }
            });
            lines_left -= lines - budget.lines;
            if let Some(error) = trouble {
                tracing::warn!(path = %path.display(), %error, "a log file cannot be read");
                let advice = "let the agent's user read it (on Debian: group adm), or leave it out with [logs] exclude";
                events.push(EventBody::Trouble {
                    subject: "logs".to_owned(),
                    text: format!("cannot read {}: {error}; {advice}", path.display()),
                });
            }
        }
    }

    /// Reads what is new in the journal.
    fn read_journal(&mut self, now_ms: u64, events: &mut Vec<EventBody>) {
        let Some(journal) = &mut self.journal else {
            return;
        };
        let (began_ms, is_first) = (self.began_ms, self.is_first_journal);
        let is_near = self.is_journal_near;
        let (lines, last, is_ahead) = (&mut self.lines, &mut None, &mut self.is_ahead);
        let round = journal.round(now_ms, &self.journal_cursor, FILE_LINES_MAX, &mut |entry| {
            let when = match !is_near && entry.time_ms < began_ms {
                true if is_first => When::Old,
                true => When::Backlog,
                false => When::Live,
            };
            *is_ahead = true;
            lines.of_journal(&entry, when);
            *last = Some(entry.cursor);
        });
        self.lines.shaper.skipped(round.skipped);
        self.is_journal_near |= round.is_whole;
        if let Some(cursor) = last.take() {
            self.journal_cursor = cursor;
        }
        if let Some(text) = round.trouble {
            tracing::warn!("{text}");
            let subject = "logs".to_owned();
            events.push(EventBody::Trouble { subject, text });
        }
    }

    /// Takes up the journal, where there is one by now.
    fn find_journal(&mut self) {
        let settings = &self.thread.settings;
        if !settings.journald || self.journal.is_some() {
            return;
        }
        match Place::find(settings.journal_directory.as_deref()) {
            Ok(place) => {
                self.journal = Some(Journal::new(place));
                self.lines.twins = Some(Twins::default());
            }
            Err(why) => tracing::debug!(why, "the journal is not read"),
        }
    }

    fn find(&mut self) -> Found {
        self.looked_ms = self.thread.clock.wall().as_millisecond();
        let settings = &self.thread.settings;
        let found = places::find(&settings.files, &settings.exclude);
        if found.more > 0 && self.more_files == 0 {
            tracing::warn!(more = found.more, "more log files than are read");
            self.untold.push(EventBody::Trouble {
                subject: "logs".to_owned(),
                text: format!(
                    "{} log files are not read, for there are more than {}: name fewer with [logs] files and exclude",
                    found.more,
                    places::FILES_MAX
                ),
            });
        }
        self.more_files = found.more;
        found
    }

    /// Takes up files that are new, and leaves those that are gone for good.
    fn find_new(&mut self) {
        let found = self.find();
        for path in found.files {
            // Those that are gone have their place until they are read to their ends.
            if self.families.len() < places::FILES_MAX
                && !self.families.iter().any(|family| family.path() == path)
            {
                self.families.push(Family::new(path, From::Start));
            }
        }
        self.families
            .retain(|family| family.path().exists() || !family.is_over());
    }
}
