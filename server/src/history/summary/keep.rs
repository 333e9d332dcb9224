//! When summary files are made and removed.
//!
//! - An hour's summaries are made right after its raw file, and of a raw file without them at the next start or sealing: a
//!   crash between the two costs nothing.
//! - Before a raw file goes, those of five minutes are made.
//! - All go after three years, counted from arrival; as many as fill that time stay in any case.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use jiff::Timestamp;

use super::file::{self, SummaryAt};
use super::{FIVE_MINUTES_S, HOUR_S};
use crate::history::hour::HourFile;
use crate::history::{Error, History};

/// Summaries are kept this long, counted from arrival.
const SUMMARY_DAYS: i64 = 3 * 365;

/// So many of the latest files of each step stay whatever their age: three years of hours.
const SUMMARIES_KEPT: usize = 3 * 365 * 24;

/// Most missing files that are made after one sealing: history of an earlier version gets its summaries within two days, and
/// no hour waits long for the one before.
const MADE_AFTER_SEALING: usize = 24;

/// Most missing files that are made at a start: the one that a crash left out.
const MADE_AT_START: usize = 1;

/// Which summary files there are, by journal position and step.
pub type Summaries = BTreeMap<(u64, u32), SummaryAt>;

/// Takes note of a file of the history directory if its name is that of a summary file.
pub(crate) fn note(known: &mut Summaries, path: &Path) {
    let name = path.file_name().and_then(|name| name.to_str());
    if let Some(at) = name.and_then(SummaryAt::of_name) {
        known.insert((at.through, at.step_s), at);
    }
}

impl History {
    /// Makes the hourly summaries that are missing, the latest first; what is too much for once waits for the next sealing.
    ///
    /// # Errors
    /// Where a file cannot be written; nothing but the summary is missing then.
    pub fn summarise(&self) -> Result<(), Error> {
        let _work = self.erased.work();
        self.make_missing(MADE_AFTER_SEALING)
    }

    /// As [`History::summarise`], so much of it that a start is not held up.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub(crate) fn summarise_at_start(&self) -> Result<(), Error> {
        self.make_missing(MADE_AT_START)
    }

    fn make_missing(&self, most: usize) -> Result<(), Error> {
        let files = self.files();
        let known = self.summaries();
        let missing = |raw: &&_| {
            let raw: &HourFile = raw;
            !known.contains_key(&(raw.footer.through, HOUR_S))
        };
        let newest_first = files.iter().rev().map(|file| &**file);
        for raw in newest_first.filter(missing).take(most) {
            self.make(raw, HOUR_S)?;
        }
        Ok(())
    }

    fn make(&self, raw: &HourFile, step_s: u32) -> Result<(), Error> {
        let key = (raw.footer.through, step_s);
        if !self.summaries().contains_key(&key) {
            let at = file::write(&self.dir, raw, &self.schemas, step_s)?;
            // Whoever takes erased hosts out of the files listed them before there was this one, or could not read its hour.
            let erased = self.erased();
            if !erased.is_empty() {
                file::write_without(&self.dir, &at, |host| erased.contains(&host))?;
            }
            self.with_summaries(|known| known.insert(key, at));
        }
        Ok(())
    }

    /// Makes what has to be there before a raw file goes. On a full disk those of five minutes are done without, for it is
    /// the raw file that takes the room.
    pub(crate) fn before_raw_goes(&self, raw: &HourFile) -> Result<(), Error> {
        let hourly = self.make(raw, HOUR_S);
        match self.make(raw, FIVE_MINUTES_S) {
            Err(Error::Io { source, path, .. })
                if source.kind() == ErrorKind::StorageFull && hourly.is_ok() =>
            {
                tracing::warn!(
                    path = %path.display(),
                    "no room for the 5-minute summaries of an expired hour: its hourly ones stay"
                );
                Ok(())
            }
            made => hourly.and(made),
        }
    }

    /// Removes summaries whose time is over.
    pub(crate) fn expire_summaries(&self, now: Timestamp) -> Result<(), Error> {
        self.expire_summaries_but(SUMMARIES_KEPT, now)
    }

    pub(super) fn expire_summaries_but(&self, kept: usize, now: Timestamp) -> Result<(), Error> {
        let before = now.as_second() - SUMMARY_DAYS * 86_400;
        for step_s in [HOUR_S, FIVE_MINUTES_S] {
            let known = self.summaries();
            let all: Vec<&SummaryAt> = known.values().filter(|at| at.step_s == step_s).collect();
            let spare = all.len().saturating_sub(kept);
            for at in all.iter().take(spare).filter(|at| at.sealed_s < before) {
                // Forgotten first: nobody looks for a file that is going.
                self.forget(at);
                file::remove(&self.dir, at)?;
            }
        }
        Ok(())
    }

    /// Reads the summaries of an hour file that is there against their checksums; one that is damaged is made anew after the next
    /// sealing.
    pub(crate) fn check_summaries(&self, through: u64) {
        let known = self.summaries();
        for at in known
            .range((through, 0)..=(through, u32::MAX))
            .map(|(_, at)| at)
        {
            let path = self.dir.join(at.name());
            if let Err(why) = file::check(&path, at) {
                tracing::warn!(path = %path.display(), why, "a summary is damaged: its hour makes it anew");
                self.forget(at);
            }
        }
    }

    /// A summary that turned out damaged while its raw file is there: it is made anew after the next sealing.
    pub(in crate::history) fn forget(&self, at: &SummaryAt) {
        self.with_summaries(|known| known.remove(&(at.through, at.step_s)));
    }

    /// All summary files, as they are at present.
    pub(in crate::history) fn summaries(&self) -> Arc<Summaries> {
        let known = self.summaries.read();
        Arc::clone(&known.unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes them; who reads keeps what was there, so that a question costs no copy of three years' names.
    fn with_summaries<T>(&self, act: impl FnOnce(&mut Summaries) -> T) -> T {
        let known = self.summaries.write();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        act(Arc::make_mut(&mut known))
    }
}
