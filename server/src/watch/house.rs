//! What is due every so often: the hour's file, a checkpoint, findings about the server itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dawnwatch_engine::input::Notice;

use super::sealer::{Outcome, Sealer};
use super::{Error, Watch};
use crate::checkpoint::{self, Checkpoint};
use crate::history::{self, head::Saved};

/// A checkpoint is written at least this often.
const CHECKPOINT_EVERY_MS: u64 = 10 * 60 * 1_000;

/// A checkpoint is written after so much of the journal, so that a replay stays within seconds.
const CHECKPOINT_EVERY_BYTES: u64 = 256 * 1024 * 1024;

/// A checkpoint that failed is tried again after this: until it succeeds the journal only grows.
const CHECKPOINT_AGAIN_MS: u64 = 60 * 1_000;

/// A heavy head that could not be sealed is tried again after this: it is written whole each time, and grows meanwhile.
const SEAL_AGAIN_MS: u64 = 20 * 1_000;

impl Watch {
    /// Seals the hour and writes a checkpoint when they are due, and tells what waits to be told.
    pub(super) fn keep_house(&mut self) -> Result<(), Error> {
        if let Some(outcome) = self.sealer.as_mut().and_then(Sealer::ended) {
            self.sealed(outcome)?;
        }
        let hour = self.hour();
        let sealed = *self.sealed_hour.get_or_insert(hour);
        let heavy = self.at.boot_ms >= self.seal_again_ms && self.tools.history.is_heavy();
        if (hour != sealed || heavy) && !self.sealer.as_ref().is_some_and(Sealer::is_busy) {
            if self.tools.published.reserve().is_given() {
                self.expire_only(hour);
            } else {
                self.sealed_hour = Some(hour);
                self.begin_seal();
            }
        }
        let due = self.at.boot_ms >= self.checkpoint_ms + CHECKPOINT_EVERY_MS;
        let much = self.checkpoint_bytes >= CHECKPOINT_EVERY_BYTES;
        if due || much || self.tools.history.wants_checkpoint() {
            self.checkpoint();
        }
        self.notices
            .retain(|notice| !(self.tools.notice)(notice.clone()));
        Ok(())
    }

    /// The hour of the last input, counted from 1970.
    pub(super) fn hour(&self) -> i64 {
        self.at.wall.as_second().div_euclid(3_600)
    }

    /// On a full disk the head keeps its rows: reserved room is not for them. What has lived long enough goes all the same.
    fn expire_only(&mut self, hour: i64) {
        if self.expired_hour.replace(hour) != Some(hour)
            && let Err(error) = self.tools.history.expire(self.at.wall)
        {
            self.history_notice(format!("remove old history: {error}"));
        }
    }

    fn begin_seal(&mut self) {
        if self.sealer.is_none() {
            match Sealer::start() {
                Ok(sealer) => self.sealer = Some(sealer),
                Err(error) => {
                    self.unsealed(format!("start the thread that seals the hour: {error}"));
                }
            }
        }
        let Some(sealer) = &mut self.sealer else {
            return;
        };
        let history = Arc::clone(&self.tools.history);
        let sealing = history.begin_seal();
        let (through, now) = (self.at.position, self.at.wall);
        sealer.begin(Box::new(move || {
            history.seal(&sealing, through, now)?;
            let summarised = history.summarise();
            // On a full disk it is this that makes room.
            history.expire(now)?;
            summarised
        }));
    }

    /// Waits for the hour that is being sealed, and takes note of what came of it.
    ///
    /// # Errors
    /// As [`Watch::run`].
    pub fn finish_seal(&mut self) -> Result<(), Error> {
        match self.sealer.as_mut().and_then(Sealer::wait) {
            Some(outcome) => self.sealed(outcome),
            None => Ok(()),
        }
    }

    fn sealed(&mut self, outcome: Outcome) -> Result<(), Error> {
        match outcome {
            Ok(Ok(())) => self.history_notice(String::new()),
            // The file may be there or not: only a start from what is on disk tells.
            Ok(Err(error @ history::Error::InDoubt { .. })) => return Err(error.into()),
            Ok(Err(error)) => self.unsealed(error.to_string()),
            Err(_) => {
                self.tools.history.undo_seal();
                self.unsealed("sealing the hour panicked: please report it".to_owned());
            }
        }
        Ok(())
    }

    fn unsealed(&mut self, text: String) {
        self.seal_again_ms = self.at.boot_ms.saturating_add(SEAL_AGAIN_MS);
        self.history_notice(text);
    }

    /// Says what is wrong with history, or by an empty text that nothing is any more.
    fn history_notice(&mut self, text: String) {
        if !text.is_empty() {
            tracing::warn!(
                text,
                "history: rows that are in no file stay in memory and journal"
            );
        }
        self.notices.retain(|notice| notice.subject != "history");
        self.notices.push(Notice {
            subject: "history".to_owned(),
            text,
            critical: false,
        });
    }

    /// A checkpoint that cannot be written costs a longer recovery, never data: the journal stays.
    pub(super) fn checkpoint(&mut self) {
        self.checkpoint_bytes = 0;
        self.checkpoint_ms = self.at.boot_ms;
        match checkpoint::write(&self.tools.data, &self.snapshot()) {
            Ok(below) => self.tools.release.store(below, Ordering::Release),
            Err(error) => {
                let early = CHECKPOINT_EVERY_MS - CHECKPOINT_AGAIN_MS;
                self.checkpoint_ms = self.at.boot_ms.saturating_sub(early);
                tracing::warn!(%error, "checkpoint not written, recovery will take longer");
            }
        }
    }

    /// The state after the last frame.
    #[must_use]
    pub fn snapshot(&self) -> Checkpoint<Saved> {
        Checkpoint {
            frame: self.frame,
            at: self.at,
            engine: self.engine.save(),
            held: self.held.clone(),
            pending: self.pending.iter().cloned().collect(),
            head: self.tools.history.save(),
        }
    }
}
