//! Recovery: the newest checkpoint that can be used, then the journal after it, leaving out poisoned positions.

use std::collections::BTreeSet;
use std::sync::Arc;

use dawnwatch_engine::input::Notice;
use dawnwatch_engine::{At, Engine, RestoreError};
use dawnwatch_segment::{Read, Reader};

use super::outstanding::Outstanding;
use super::{Error, Tools, Watch};
use crate::checkpoint::{self, ReadError};
use crate::journal::{self, Held};
use crate::ledger::Ledger;

/// Inputs that are passed over: so many that cannot be judged are no odd input, but an engine that cannot judge.
const SKIPPED_MAX: usize = 1_000;

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
}

/// Builds the watch from checkpoint, journal and ledger. `next_frame` is where the journal goes on. Nothing is sent: see
/// [`Watch::send_pending`].
///
/// # Errors
/// Where what is on disk cannot be read at all, or is of a later version.
pub fn recover(tools: Tools, next_frame: u64) -> Result<Recovered, Error> {
    let ledger = Ledger::open(&tools.disk, &tools.data)?;
    tools.poke.ledger(ledger.frames());
    let skip = read_skip(&tools.data.join("journal").join("skip"));
    let (skip, no_skip) = match skip {
        Ok(skip) => (skip, None),
        // What could not be judged is found again: by a panic, as the first time.
        Err(why) => (
            BTreeSet::new(),
            Some(format!("journal/skip cannot be used: {why}")),
        ),
    };
    let mut watch = Watch {
        tools,
        engine: Engine::new(),
        ledger,
        held: Held::default(),
        pending: Outstanding::default(),
        skip,
        frame: 1,
        at: journal::origin(),
        live: false,
        published_ms: 0,
        checkpoint_ms: 0,
        checkpoint_bytes: 0,
        sealed_hour: None,
        seal_again_ms: 0,
        sealer: None,
        expired_hour: None,
        notices: Vec::new(),
    };
    let (mut damage, replayed) = watch.rebuild(u64::MAX)?;
    damage.extend(no_skip);
    damage.extend(watch.catch_up(next_frame)?);
    let history = Arc::clone(&watch.tools.history);
    watch.held.forget_schemas(|id| history.knows(id));
    watch.sealed_hour = (watch.at.position > 0).then(|| watch.hour());
    watch.publish();
    watch.live = true;
    let (held, at) = (watch.held.clone(), watch.at);
    Ok(Recovered {
        watch,
        held,
        at,
        damage,
        replayed,
    })
}

impl Watch {
    /// Loads the newest checkpoint and walks the journal after it, up to and with the frame `until`: in a running server
    /// what comes after it may not be durable yet.
    pub(super) fn rebuild(&mut self, until: u64) -> Result<(Vec<String>, u64), Error> {
        // The head is about to be replaced: no worker may still put rows into a file.
        self.finish_seal()?;
        loop {
            let mut damage = self.load()?;
            match self.replay(until, &mut damage) {
                Ok(inputs) => return Ok((damage, inputs)),
                Err(Error::Poison(position)) => self.skip(position)?,
                Err(error) => return Err(error),
            }
        }
    }

    fn replay(&mut self, until: u64, damage: &mut Vec<String>) -> Result<u64, Error> {
        let mut replayed = 0;
        let reader = Reader::open(
            Arc::clone(&self.tools.disk),
            &self.tools.data.join("journal"),
            journal::options().kind,
            self.frame,
        )?;
        for read in reader {
            match read? {
                Read::Frame { position, .. } if position > until => break,
                Read::Frame { position, payload } => {
                    let group = journal::decode(position, &payload)?;
                    replayed += self.apply(position, &group, payload.len() as u64)?;
                }
                Read::Damage { segment, bytes, .. } => {
                    damage.push(format!(
                        "journal damaged: {bytes} bytes of {segment} after {}",
                        self.at.wall
                    ));
                }
            }
        }
        Ok(replayed)
    }

    /// Starts from the newest checkpoint that can be used, or from nothing.
    fn load(&mut self) -> Result<Vec<String>, Error> {
        let mut damage = Vec::new();
        for frame in checkpoint::frames(&self.tools.data) {
            match self.take_up(frame) {
                Ok(()) => return Ok(damage),
                Err(ReadError::Version(why)) => return Err(Error::Version(why)),
                Err(ReadError::Damaged(why)) => {
                    damage.push(format!("checkpoint cannot be used: {why}"));
                }
            }
        }
        if let Err(why) = self.tools.history.restore(&[]) {
            damage.push(why);
        }
        self.engine = Engine::new();
        self.held = Held::default();
        self.pending = Outstanding::default();
        (self.frame, self.at) = (1, journal::origin());
        (self.checkpoint_ms, self.checkpoint_bytes) = (0, 0);
        Ok(damage)
    }

    /// Takes up a checkpoint whole, or changes nothing.
    fn take_up(&mut self, frame: u64) -> Result<(), ReadError> {
        let found = checkpoint::read(&self.tools.data, frame)?;
        let engine = Engine::restore(&found.engine).map_err(|error| match error {
            RestoreError::Newer { .. } | RestoreError::Older { .. } => {
                ReadError::Version(error.to_string())
            }
            RestoreError::NotSaved | RestoreError::Damaged | RestoreError::Unreadable(_) => {
                ReadError::Damaged(error.to_string())
            }
        })?;
        let restored = self.tools.history.restore(&found.head);
        restored.map_err(ReadError::Damaged)?;
        (self.engine, self.held) = (engine, found.held);
        (self.frame, self.at) = (found.frame, found.at);
        self.pending = found.pending.into_iter().collect();
        (self.checkpoint_ms, self.checkpoint_bytes) = (self.at.boot_ms, 0);
        Ok(())
    }

    /// Where the end of the journal was lost, what was made from it may know more: positions and frames must go on after
    /// all that were ever given, or new inputs would count as carried out already.
    fn catch_up(&mut self, next_frame: u64) -> Result<Option<String>, Error> {
        let skipped = self.skip.last().copied().unwrap_or(0);
        let known = self.ledger.position().max(self.tools.history.through());
        let known = known.max(skipped);
        let lost = self.at.position < known || self.frame > next_frame;
        if !lost {
            return Ok(None);
        }
        let text = format!(
            "the end of the journal is lost: it goes up to input {}, the ledger or history to {known}",
            self.at.position
        );
        self.at.position = self.at.position.max(known);
        if self.frame > next_frame {
            self.frame = next_frame;
            checkpoint::write(&self.tools.data, &self.snapshot())?;
        }
        Ok(Some(text))
    }

    /// Passes over an input from here on, also after a restart.
    pub(super) fn skip(&mut self, position: u64) -> Result<(), Error> {
        tracing::error!(position, "input passed over: judging it panicked");
        let path = self.tools.data.join("journal").join("skip");
        self.skip.insert(position);
        if self.skip.len() > SKIPPED_MAX {
            let count = self.skip.len();
            return Err(Error::Poisoned { count, path });
        }
        let lines = self.skip.iter().map(|position| format!("{position}\n"));
        let text: String = lines.collect();
        checkpoint::replace(&path, checkpoint::summed(&text).as_bytes())
            .map_err(|source| Error::Skip { path, source })?;
        self.notices.push(Notice {
            subject: "poison".to_owned(),
            text: format!(
                "input {position} could not be judged and was passed over; please report it with journal/skip"
            ),
            critical: false,
        });
        Ok(())
    }
}

/// The inputs that are passed over; none where there is no such file.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read_skip(path: &std::path::Path) -> Result<BTreeSet<u64>, String> {
    let Some(text) = checkpoint::read_summed(path)? else {
        return Ok(BTreeSet::new());
    };
    let position = |line: &str| {
        line.trim()
            .parse()
            .map_err(|_| format!("{line:?} is no position"))
    };
    text.lines().map(position).collect()
}
