//! The one watch: a plain thread that drives the pure engine over the journal's groups and carries out its effects.
//!
//! Of each group: step every input; put the effects into one ledger frame; sync it; only then let them leave. Recovery is the
//! same walk over the journal from the newest checkpoint, with every effect at or below the ledger's position left out. A
//! panic in a step is caught: its position goes to `journal/skip`, and the watch starts again from the checkpoint without it.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

use dawnwatch_engine::effect::{Effect, Entry, Notification};
use dawnwatch_engine::input::{Delivered, Input, Notice, Outcome};
use dawnwatch_engine::{At, Engine};
use dawnwatch_proto::Item;
use dawnwatch_segment::{Disk, Read, Reader};

use crate::checkpoint::{self, Checkpoint};
use crate::history::head::Row;
use crate::history::{self, History};
use crate::journal::{self, Group, Held, Release};
use crate::ledger::{self, Frame, Ledger};
use crate::nights;
use crate::published::Published;

/// A checkpoint is written at least this often.
const CHECKPOINT_EVERY_MS: u64 = 10 * 60 * 1_000;

/// The view is published at most this often while nothing happens.
const PUBLISH_EVERY_MS: u64 = 1_000;

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
    /// A step panicked; its position.
    #[error("step {0} panicked")]
    Poison(u64),
}

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
    /// Findings about the server itself go back in as inputs.
    pub notice: Box<dyn Fn(Notice) + Send>,
    /// Frames below this may be released.
    pub release: Release,
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
    pending: BTreeMap<String, Notification>,
    skip: BTreeSet<u64>,
    /// The next journal frame.
    frame: u64,
    at: At,
    published_ms: u64,
    checkpoint_ms: u64,
    sealed_hour: Option<i64>,
    sealer: Option<JoinHandle<Result<(), history::Error>>>,
}

/// What recovery found besides a state to go on from.
#[derive(Debug)]
pub struct Recovered {
    /// The watch, ready for the next group.
    pub watch: Watch,
    /// What the journal holds.
    pub held: Held,
    /// The stamp of the last input, or the origin.
    pub at: At,
    /// Damage, as the person who must know reads it.
    pub damage: Vec<String>,
    /// Inputs that were replayed.
    pub replayed: u64,
    /// Whether anything had been journalled before.
    pub first: bool,
}

/// Builds the watch from checkpoint, journal and ledger. Sends nothing: see [`Watch::send_pending`].
///
/// # Errors
/// Where what is on disk cannot be read at all.
pub fn recover(tools: Tools) -> Result<Recovered, Error> {
    let ledger = Ledger::open(&tools.disk, &tools.data)?;
    let skip = read_skip(&tools.data);
    let mut watch = Watch {
        tools,
        engine: Engine::new(),
        ledger,
        held: Held::default(),
        pending: BTreeMap::new(),
        skip,
        frame: 1,
        at: journal::origin(),
        published_ms: 0,
        checkpoint_ms: 0,
        sealed_hour: None,
        sealer: None,
    };
    let (damage, replayed) = watch.rebuild()?;
    let (held, at) = (watch.held.clone(), watch.at);
    Ok(Recovered {
        held,
        at,
        damage,
        replayed,
        first: at.position == 0,
        watch,
    })
}

impl Watch {
    /// Loads the newest checkpoint and walks the journal after it, leaving out poisoned positions.
    fn rebuild(&mut self) -> Result<(Vec<String>, u64), Error> {
        let mut replayed = 0;
        loop {
            let mut damage = self.load();
            let reader = Reader::open(
                Arc::clone(&self.tools.disk),
                &self.tools.data.join("journal"),
                journal::options().kind,
                self.frame,
            )?;
            let mut poisoned = None;
            for read in reader {
                match read? {
                    Read::Frame {
                        position: frame,
                        payload,
                    } => match self.apply(frame, journal::decode(frame, &payload)?) {
                        Ok(inputs) => replayed += inputs,
                        Err(Error::Poison(position)) => {
                            poisoned = Some(position);
                            break;
                        }
                        Err(error) => return Err(error),
                    },
                    Read::Damage { segment, bytes, .. } => {
                        damage.push(format!(
                            "journal damaged: {bytes} bytes of {segment} after {}",
                            self.at.wall
                        ));
                    }
                }
            }
            match poisoned {
                None => return Ok((damage, replayed)),
                Some(position) => self.skip(position)?,
            }
        }
    }

    /// Starts from the newest checkpoint that can be used, or from nothing.
    fn load(&mut self) -> Vec<String> {
        let (found, mut damage) = checkpoint::newest(&self.tools.data);
        self.engine = Engine::new();
        self.held = Held::default();
        self.pending.clear();
        (self.frame, self.at) = (1, journal::origin());
        let Some(found) = found else {
            if let Err(error) = self.tools.history.restore(&[]) {
                damage.push(error);
            }
            return damage;
        };
        match Engine::restore(&found.engine) {
            Ok(engine) => {
                if let Err(error) = self.tools.history.restore(&found.head) {
                    damage.push(error);
                }
                (self.engine, self.held) = (engine, found.held);
                (self.frame, self.at) = (found.frame, found.at);
                self.pending = found
                    .pending
                    .into_iter()
                    .map(|n| (n.key.clone(), n))
                    .collect();
            }
            Err(error) => damage.push(format!("checkpoint cannot be used: {error}")),
        }
        self.checkpoint_ms = self.at.boot_ms;
        damage
    }

    /// Sends again what was never known to arrive; called once, when recovery is complete.
    pub fn send_pending(&self) {
        for notification in self.pending.values() {
            (self.tools.notify)(notification.clone());
        }
    }

    /// Runs until the journal has gone, then writes a last checkpoint.
    ///
    /// # Errors
    /// A disk that fails: the process must start anew from what is on disk.
    pub fn run(mut self, groups: &Receiver<(u64, Group)>) -> Result<(), Error> {
        self.publish();
        while let Ok((frame, group)) = groups.recv() {
            if frame < self.frame {
                continue;
            }
            match self.apply(frame, group) {
                Ok(_) => {}
                Err(Error::Poison(position)) => {
                    self.skip(position)?;
                    self.rebuild()?;
                    let text = format!(
                        "input {position} could not be judged and was passed over; please report it with journal/skip"
                    );
                    (self.tools.notice)(Notice {
                        subject: "poison".to_owned(),
                        text,
                        critical: false,
                    });
                }
                Err(error) => return Err(error),
            }
            self.keep_house()?;
        }
        self.finish_seal();
        self.checkpoint();
        Ok(())
    }

    /// Steps a group and carries out its effects. Returns the number of inputs.
    fn apply(&mut self, frame: u64, group: Group) -> Result<u64, Error> {
        let last = group.last_position();
        let through = self.tools.history.through();
        let mut effects = Vec::new();
        for (at, input) in group.stamped() {
            self.held.apply(input);
            if self.skip.contains(&at.position) {
                continue;
            }
            let engine = &mut self.engine;
            let stepped = catch_unwind(AssertUnwindSafe(|| engine.step(at, input.clone())));
            effects.extend(stepped.map_err(|_| Error::Poison(at.position))?);
            self.keep(at, input, through)?;
            self.at = at;
        }
        self.frame = frame + 1;
        let news = !effects.is_empty();
        self.carry_out(last, group.at, effects)?;
        if news || self.at.boot_ms >= self.published_ms + PUBLISH_EVERY_MS {
            self.publish();
        }
        Ok(group.inputs.len() as u64)
    }

    /// Puts what an input carries into history, and settles what it says of the outbox.
    fn keep(&mut self, at: At, input: &Input, through: u64) -> Result<(), Error> {
        match input {
            Input::Schema { host, schema } => self.tools.history.schema(*host, schema)?,
            Input::Batch(batch) => {
                for (item, time) in batch.items.iter().zip(self.engine.stamps()) {
                    let Item::Tick(tick) = item else { continue };
                    let row = Row {
                        time_ms: time.as_millisecond(),
                        schema: tick.schema,
                        values: tick.row.as_slice().into(),
                        position: at.position,
                    };
                    self.tools.history.push(batch.host, row, through);
                }
            }
            Input::Delivered(Delivered { key, outcome, .. }) => match outcome {
                Outcome::Arrived | Outcome::Refused => {
                    self.pending.remove(key);
                }
                Outcome::Struggling => {}
            },
            Input::Config(_)
            | Input::Started(_)
            | Input::ClockStep { .. }
            | Input::Host(_)
            | Input::Heartbeat(_)
            | Input::Tick
            | Input::Order(_)
            | Input::Server(_) => {}
        }
        Ok(())
    }

    /// One ledger frame, synced, and only then the effects. What the ledger has already is not done again.
    fn carry_out(&mut self, last: u64, at: At, mut effects: Vec<Effect>) -> Result<(), Error> {
        for effect in &effects {
            if let Effect::Notify(notification) = effect {
                self.pending
                    .insert(notification.key.clone(), notification.clone());
            }
        }
        if effects.is_empty() || last <= self.ledger.position() {
            return Ok(());
        }
        let mut hashes = BTreeMap::new();
        for effect in &mut effects {
            if let Effect::SealNight(review) = effect {
                review.ledger_head = self.ledger.head();
                let (bytes, hash) = nights::canonical(review);
                nights::write(&self.tools.data, review, &bytes)?;
                hashes.insert(review.id.clone(), hash);
                self.tools.published.sealed(nights::head(review));
            }
        }
        for effect in &mut effects {
            if let Effect::Record(Entry::Sealed { night, hash }) = effect {
                hashes.get(night).unwrap_or(&String::new()).clone_into(hash);
            }
        }
        let frame = Frame {
            position: last,
            wall: at.wall,
            effects,
        };
        self.ledger.append(&frame)?;
        for effect in frame.effects {
            if let Effect::Notify(notification) = effect {
                (self.tools.notify)(notification);
            }
        }
        Ok(())
    }

    fn publish(&mut self) {
        self.published_ms = self.at.boot_ms;
        self.tools
            .published
            .publish(self.at.position, self.engine.view(self.at.wall));
    }

    /// Seals the hour and writes a checkpoint when they are due.
    fn keep_house(&mut self) -> Result<(), Error> {
        let hour = self.at.wall.as_second().div_euclid(3_600);
        let sealed = *self.sealed_hour.get_or_insert(hour);
        if hour != sealed && self.sealer.as_ref().is_none_or(JoinHandle::is_finished) {
            self.finish_seal();
            self.sealed_hour = Some(hour);
            let (sealing, history) = (
                self.tools.history.begin_seal(),
                Arc::clone(&self.tools.history),
            );
            let (through, now) = (self.at.position, self.at.wall);
            self.sealer = Some(std::thread::spawn(move || {
                history.seal(&sealing, through, now)?;
                history.expire(now)
            }));
        }
        if self.at.boot_ms >= self.checkpoint_ms + CHECKPOINT_EVERY_MS {
            self.checkpoint();
        }
        Ok(())
    }

    fn finish_seal(&mut self) {
        let Some(sealer) = self.sealer.take() else {
            return;
        };
        if let Ok(Err(error)) = sealer.join() {
            tracing::warn!(%error, "hour could not be sealed, its rows stay in memory and journal");
            let notice = Notice {
                subject: "history".to_owned(),
                text: error.to_string(),
                critical: false,
            };
            (self.tools.notice)(notice);
        }
    }

    /// A checkpoint that cannot be written costs a longer recovery, never data: the journal stays.
    fn checkpoint(&mut self) {
        self.checkpoint_ms = self.at.boot_ms;
        let checkpoint = Checkpoint {
            frame: self.frame,
            at: self.at,
            engine: self.engine.save(),
            held: self.held.clone(),
            pending: self.pending.values().cloned().collect(),
            head: self.tools.history.save(),
        };
        match checkpoint::write(&self.tools.data, &checkpoint) {
            Ok(below) => self.tools.release.store(below, Ordering::Release),
            Err(error) => {
                tracing::warn!(%error, "checkpoint not written, recovery will take longer")
            }
        }
    }

    fn skip(&mut self, position: u64) -> Result<(), Error> {
        tracing::error!(position, "input passed over: judging it panicked");
        self.skip.insert(position);
        let path = self.tools.data.join("journal").join("skip");
        let text: String = self
            .skip
            .iter()
            .map(|position| format!("{position}\n"))
            .collect();
        checkpoint::replace(&path, text.as_bytes()).map_err(|source| Error::Skip { path, source })
    }
}

fn read_skip(data: &std::path::Path) -> BTreeSet<u64> {
    let text = std::fs::read_to_string(data.join("journal").join("skip")).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.trim().parse().ok())
        .collect()
}
