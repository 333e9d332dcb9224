//! The one watch: a plain thread that drives the pure engine over the journal's groups and carries out its effects.
//!
//! Of each group: step every input; put the effects into one ledger frame; sync it; only then let them leave. Recovery is the
//! same walk over the journal from the newest checkpoint, with every effect at or below the ledger's position left out. A
//! panic in a step is caught: its position goes to `journal/skip`, and the watch starts again from the checkpoint without it.

mod house;
mod outstanding;
mod recovery;
mod sealed;
mod sealer;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use dawnwatch_engine::effect::{Effect, Notification};
use dawnwatch_engine::input::{Delivered, Input, Notice, Outcome};
use dawnwatch_engine::vitals::{SERVER, Vitals};
use dawnwatch_engine::{At, Engine};
use dawnwatch_proto::Item;
use dawnwatch_segment::Disk;

use crate::checkpoint;
use crate::history::events::EventRow;
use crate::history::head::Row;
use crate::history::{self, History};
use crate::index::Poke;
use crate::journal::{self, Group, Held, Release, Written};
use crate::ledger::{self, Frame, Ledger};
use crate::nights;
use crate::published::Published;
use crate::vitals::Gauges;

use outstanding::Outstanding;
use sealer::Sealer;

pub(crate) use recovery::read_skip;
pub use recovery::{Recovered, recover};

/// The view is published at most this often while nothing happens.
const PUBLISH_EVERY_MS: u64 = 1_000;

/// A full disk is tried again this often: the journal waits behind the watch, and the agents' spools behind the journal.
const FULL_PAUSE: Duration = Duration::from_millis(500);

/// Why the watch cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// The journal's log cannot be read.
    #[error(transparent)]
    Log(#[from] dawnwatch_segment::Error),
    /// The ledger cannot be written.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// History cannot be written.
    #[error(transparent)]
    History(#[from] history::Error),
    /// A sealed night cannot be written.
    #[error(transparent)]
    Night(#[from] nights::Error),
    /// The list of skipped positions cannot be written.
    #[error("write {}: {source}", path.display())]
    Skip {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A checkpoint that must be written cannot.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::WriteError),
    /// A checkpoint of a version that this build does not read.
    #[error("{0}; start the version that wrote it, or begin with another data directory")]
    Version(String),
    /// A step panicked; its position.
    #[error("step {0} panicked")]
    Poison(u64),
    /// Too many steps panicked.
    #[error(
        "{count} inputs could not be judged: please report it with the file {}", path.display()
    )]
    Poisoned {
        /// How many.
        count: usize,
        /// The list of them.
        path: PathBuf,
    },
}

impl Error {
    /// Whether the cause is a full disk, which mends itself once somebody makes room.
    fn is_full(&self) -> bool {
        match self {
            Error::Journal(journal::Error::Log(error))
            | Error::Log(error)
            | Error::Ledger(ledger::Error::Log(error))
            | Error::History(history::Error::Log(error)) => error.is_full(),
            Error::History(history::Error::Io { source, .. })
            | Error::Night(nights::Error::Io { source, .. }) => {
                let kind = source.kind();
                kind == std::io::ErrorKind::StorageFull || kind == std::io::ErrorKind::QuotaExceeded
            }
            Error::Journal(journal::Error::Frame { .. })
            | Error::Ledger(ledger::Error::Frame { .. })
            | Error::History(history::Error::Damaged { .. } | history::Error::InDoubt { .. })
            | Error::Night(nights::Error::Damaged { .. })
            | Error::Skip { .. }
            | Error::Checkpoint(_)
            | Error::Version(_)
            | Error::Poison(_)
            | Error::Poisoned { .. } => false,
        }
    }
}

/// How an input is judged: [`Engine::step`].
pub type Step = fn(&mut Engine, At, Input) -> Vec<Effect>;

/// What the watch works with.
pub struct Tools {
    /// The disk of journal and ledger.
    pub disk: Arc<dyn Disk>,
    /// The data directory.
    pub data: PathBuf,
    /// Rows go here.
    pub history: Arc<History>,
    /// Where views are published.
    pub published: Arc<Published>,
    /// Notifications leave here.
    pub notify: Box<dyn Fn(Notification) + Send>,
    /// Findings about the server itself go back in as inputs; false where there is no room at present.
    pub notice: Box<dyn Fn(Notice) -> bool + Send>,
    /// Frames below this may be released.
    pub release: Release,
    /// Whether the server stops: a full disk is waited for no longer.
    pub stopping: Arc<AtomicBool>,
    /// Told how far the ledger is durable.
    pub poke: Arc<Poke>,
    /// [`Engine::step`], or what a test puts before it.
    pub step: Step,
    /// Told how long things take, and what waits in the outbox.
    pub gauges: Arc<Gauges>,
}

impl std::fmt::Debug for Tools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tools")
            .field("data", &self.data)
            .finish_non_exhaustive()
    }
}

/// The watch: engine, ledger and what goes with a journal position.
#[derive(Debug)]
pub struct Watch {
    tools: Tools,
    engine: Engine,
    ledger: Ledger,
    held: Held,
    pending: Outstanding,
    skip: BTreeSet<u64>,
    /// The next journal frame.
    frame: u64,
    at: At,
    /// Whether effects leave: not before recovery is complete.
    live: bool,
    published_ms: u64,
    checkpoint_ms: u64,
    /// Journal bytes since the last checkpoint.
    checkpoint_bytes: u64,
    sealed_hour: Option<i64>,
    /// A heavy head is not sealed before this, in boot time: the last try failed.
    seal_again_ms: u64,
    /// Started with the first hour that is sealed.
    sealer: Option<Sealer>,
    /// When files that have lived long enough were last removed while the disk was full.
    expired_hour: Option<i64>,
    /// Findings about the server that wait for room in the journal's queue.
    notices: Vec<Notice>,
}

impl Watch {
    /// Sends again what was never known to arrive; called once, when recovery is complete.
    pub fn send_pending(&self) {
        for notification in self.pending.iter() {
            (self.tools.notify)(notification.clone());
        }
    }

    /// Runs until the journal has gone, then writes a last checkpoint.
    ///
    /// # Errors
    /// A disk that fails: the process must start anew from what is on disk.
    pub fn run(mut self, groups: &Receiver<Written>) -> Result<(), Error> {
        while let Ok(written) = groups.recv() {
            self.turn(&written)?;
        }
        self.end()
    }

    /// Judges one group and carries out what comes of it: one turn of the thread.
    ///
    /// # Errors
    /// As [`Watch::run`].
    pub fn turn(&mut self, written: &Written) -> Result<(), Error> {
        // After a poisoned input the journal was read up to its frame already.
        if written.frame < self.frame {
            return Ok(());
        }
        match self.apply(written.frame, &written.group, written.bytes) {
            Ok(_) => {}
            Err(Error::Poison(position)) => {
                self.skip(position)?;
                let (damage, _) = self.rebuild(written.frame)?;
                for what in damage {
                    tracing::warn!(what, "found while going on after a poisoned input");
                }
                self.publish();
                self.checkpoint();
            }
            Err(error) => return Err(error),
        }
        self.keep_house()
    }

    /// Ends cleanly: waits for the hour that is being sealed, and writes a last checkpoint.
    ///
    /// # Errors
    /// As [`Watch::run`].
    pub fn end(&mut self) -> Result<(), Error> {
        self.finish_seal()?;
        self.checkpoint();
        Ok(())
    }

    /// Steps a group and carries out its effects. Returns the number of inputs.
    fn apply(&mut self, frame: u64, group: &Group, bytes: u64) -> Result<u64, Error> {
        let through = self.tools.history.through();
        let mut effects = Vec::new();
        for (at, input) in group.stamped() {
            self.held.apply(input);
            // Also of an input that is passed over: its position is taken.
            self.at = at;
            if self.skip.contains(&at.position) {
                continue;
            }
            let stepped = catch_unwind(AssertUnwindSafe(|| self.step(at, input, through)));
            let stepped = stepped.unwrap_or(Err(Error::Poison(at.position)));
            effects.append(&mut stepped?);
        }
        self.frame = frame + 1;
        self.checkpoint_bytes += bytes;
        let news = !effects.is_empty();
        self.carry_out(group.last_position(), group.at, effects)?;
        if self.live && (news || self.at.boot_ms >= self.published_ms + PUBLISH_EVERY_MS) {
            self.publish();
        }
        Ok(group.inputs.len() as u64)
    }

    fn step(&mut self, at: At, input: &Input, through: u64) -> Result<Vec<Effect>, Error> {
        let input_of = input.clone();
        let (tools, engine) = (&self.tools, &mut self.engine);
        let effects = tools.gauges.step(|| (tools.step)(engine, at, input_of));
        self.keep(at, input, through)?;
        Ok(effects)
    }

    /// Puts what an input carries into history, and settles what it says of the outbox.
    fn keep(&mut self, at: At, input: &Input, through: u64) -> Result<(), Error> {
        match input {
            Input::Schema { host, schema } => {
                self.with_room(|watch| Ok(watch.tools.history.schema(*host, schema)?))?;
            }
            Input::Batch(batch) => {
                let history = &self.tools.history;
                for (item, time) in batch.items.iter().zip(self.engine.stamps()) {
                    match item {
                        Item::Tick(tick) => {
                            let row = Row {
                                time_ms: time.as_millisecond(),
                                schema: tick.schema,
                                values: tick.row.as_slice().into(),
                                position: at.position,
                            };
                            history.push(batch.host, row, through);
                        }
                        Item::Event(event) => {
                            let row = EventRow::of(event, time, at.position);
                            history.push_event(batch.host, row, through);
                        }
                        Item::Gap(_) => {}
                    }
                }
            }
            Input::Vitals(vitals) => {
                let schema = Vitals::schema();
                self.with_room(|watch| Ok(watch.tools.history.schema(SERVER, &schema)?))?;
                let row = Row {
                    time_ms: at.wall.as_millisecond(),
                    schema: schema.id(),
                    values: vitals.row().into(),
                    position: at.position,
                };
                self.tools.history.push(SERVER, row, through);
            }
            Input::Delivered(Delivered { key, outcome, .. }) => match outcome {
                Outcome::Arrived | Outcome::Refused => {
                    self.pending.remove(key);
                    self.count_pending();
                }
                Outcome::Struggling => {}
            },
            Input::Host(card) if card.erased => {
                self.with_room(|watch| Ok(watch.tools.history.erase(card.id)?))?;
            }
            Input::Config(_)
            | Input::Started(_)
            | Input::ClockStep { .. }
            | Input::Host(_)
            | Input::Heartbeat(_)
            | Input::Tick
            | Input::Order(_)
            | Input::Server(_)
            | Input::Named(_)
            | Input::Twice(_)
            | Input::Restored(_) => {}
        }
        Ok(())
    }

    /// One ledger frame, synced, and only then the effects. What the ledger has already is not done again.
    fn carry_out(&mut self, last: u64, at: At, effects: Vec<Effect>) -> Result<(), Error> {
        for effect in &effects {
            if let Effect::Notify(notification) = effect {
                self.pending.insert(notification.clone());
            }
        }
        if !effects.is_empty() {
            self.count_pending();
        }
        if effects.is_empty() || last <= self.ledger.position() {
            return Ok(());
        }
        let mut frame = Frame {
            position: last,
            wall: at.wall,
            effects,
        };
        self.with_room(|watch| watch.write_nights(at.wall, &mut frame.effects))?;
        self.with_room(|watch| Ok(watch.ledger.append(&frame)?))?;
        self.tools.poke.ledger(self.ledger.frames());
        if !self.live {
            return Ok(());
        }
        for effect in frame.effects {
            if let Effect::Notify(notification) = effect {
                (self.tools.notify)(notification);
            }
        }
        Ok(())
    }

    fn count_pending(&self) {
        let oldest = self.pending.iter().map(|one| one.decided).min();
        self.tools.gauges.outbox(self.pending.len(), oldest);
    }

    /// Does what a full disk can refuse, again and again until there is room: what is journalled must be carried out, and a
    /// server that ended here would only meet the same disk again. Before recovery is complete the start fails.
    fn with_room<T>(
        &mut self,
        mut work: impl FnMut(&mut Watch) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut told = false;
        loop {
            match work(self) {
                Err(error) if error.is_full() && self.tools.published.reserve().give() => {}
                Err(error) if error.is_full() && self.may_wait() => {
                    if !told {
                        tracing::error!(%error, "disk full, judging waits until there is room");
                    }
                    told = true;
                    self.tools.published.halt(true);
                    std::thread::sleep(FULL_PAUSE);
                }
                done => {
                    if told {
                        self.tools.published.halt(false);
                        tracing::info!("there is room on the disk again, judging goes on");
                    }
                    return done;
                }
            }
        }
    }

    fn may_wait(&self) -> bool {
        self.live && !self.tools.stopping.load(Ordering::Relaxed)
    }

    /// Shows readers how things stand. A view that panics leaves the one before in place: judging goes on.
    fn publish(&mut self) {
        self.published_ms = self.at.boot_ms;
        let (engine, wall) = (&mut self.engine, self.at.wall);
        match catch_unwind(AssertUnwindSafe(|| engine.view(wall))) {
            Ok(view) => self.tools.published.publish(self.at.position, view),
            Err(_) => tracing::error!("the view panicked, readers see the one before"),
        }
    }
}

#[cfg(test)]
mod tests;
