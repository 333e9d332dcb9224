//! History: the head in memory, hour files on disk. Partitioned by arrival, not by sample time: every hour whatever the head
//! holds is sealed into one immutable file, so late data is no special case.
//!
//! - [`head`]: what came in since the last sealing.
//! - [`hour`]: the file format.
//! - [`schemas`]: which series a schema id stands for.
//! - [`query`]: one series of one host over a span.
//! - `quantum`: the quantum that raw values are counted in.
//! - [`events`]: what happened that is not a number.
//! - `erased`: hosts that go from all of these.
//! - [`summary`]: what is left of samples when they are too many to read, or gone.

pub(crate) mod erased;
pub mod events;
pub mod head;
pub mod hour;
mod quantum;
pub mod query;
pub mod schemas;
pub mod summary;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use dawnwatch_proto::{HostId, Schema, SchemaId, Series};
use dawnwatch_segment::Disk;
use jiff::Timestamp;

use events::EventRow;
use head::{Head, HostRows, Row, Saved};
use hour::HourFile;
use schemas::Schemas;
use summary::keep::{self, Summaries};

/// Raw samples are kept this long, counted from their arrival.
const RAW_DAYS: i64 = 35;

/// So many of the latest files are kept whatever their age: 35 days of hours. A clock that jumps a year ahead removes none.
const FILES_KEPT: usize = 35 * 24;

/// The head is sealed before the hour is over once its events take this much: a storm of log lines costs more files, never
/// memory without bound.
const HEAD_EVENT_BYTES: usize = 64 * 1024 * 1024;

/// The same for its rows. An hour of 10,000 hosts takes some 350 MiB; a fleet that comes back after the server was away for a night
/// brings fourteen hours of them within minutes, and each checkpoint is a copy.
const HEAD_ROW_BYTES: usize = 512 * 1024 * 1024;

/// Says up to which journal position files were removed.
pub(crate) const EXPIRED: &str = "expired";

/// Why history cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that is not what it should be.
    #[error("{}: {why}; samples in it cannot be shown", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Whether a file is there for good is not known: the server must start anew from what is on disk.
    #[error("make {} durable: {source}; look at the disk and the kernel log, then start again", path.display())]
    InDoubt {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The schema log.
    #[error(transparent)]
    Log(#[from] dawnwatch_segment::Error),
}

/// Rows on their way into an hour file.
pub type Sealing = Arc<BTreeMap<HostId, HostRows>>;

/// The hour files, by journal position. Shared: whoever reads keeps what was there, and a question copies no list.
type Files = Arc<Vec<Arc<HourFile>>>;

/// The history of all hosts. Written by the watch alone, read by all.
#[derive(Debug)]
pub struct History {
    dir: PathBuf,
    head: Mutex<Head>,
    files: RwLock<Files>,
    schemas: Schemas,
    summaries: RwLock<Arc<Summaries>>,
    /// Files up to this journal position were removed.
    expired: AtomicU64,
    erased: erased::Erased,
}

impl History {
    /// Opens the history of a data directory. Files that cannot be read are left alone and named.
    ///
    /// # Errors
    /// Where the directory or the schema log cannot be opened.
    pub fn open(disk: &Arc<dyn Disk>, data: &Path) -> Result<(History, Vec<String>), Error> {
        let dir = data.join("history");
        let io = |what| {
            let path = dir.clone();
            move |source| Error::Io { what, path, source }
        };
        fs::create_dir_all(&dir).map_err(io("create"))?;
        let schemas = Schemas::open(disk, &dir.join("schemas"))?;
        let mut files = Vec::new();
        let (mut damaged, mut unreadable) = (Vec::new(), Vec::new());
        let mut summaries = Summaries::new();
        for entry in fs::read_dir(&dir).map_err(io("list"))? {
            let path = entry.map_err(io("list"))?.path();
            match path.extension().and_then(|e| e.to_str()) {
                Some("dwh") => match HourFile::open(&path) {
                    Ok(file) => files.push(Arc::new(file)),
                    Err(error) => unreadable.push((path, error)),
                },
                // What is in them is looked at when it is asked for: a damaged one stops no start.
                Some("dws") => keep::note(&mut summaries, &path),
                // A seal that did not finish: its rows come back from checkpoint and journal.
                Some("tmp") => fs::remove_file(&path).map_err(io("remove unfinished"))?,
                Some(_) | None => {}
            }
        }
        // The names of all summaries are needed: they say which time it was.
        damaged.extend(
            unreadable
                .iter()
                .map(|(path, error)| lost(path, error, &summaries)),
        );
        // After a kill the latest name may be in the cache only, and rows in a file that is found are kept nowhere else.
        fs::File::open(&dir)
            .and_then(|dir| dir.sync_all())
            .map_err(io("sync directory"))?;
        files.sort_by_key(|file| file.footer.through);
        // Unreadable: at worst what is gone is still found by its words.
        let expired = read_expired(&dir.join(EXPIRED)).unwrap_or_else(|why| {
            damaged.push(format!("history/{EXPIRED} cannot be used: {why}"));
            0
        });
        // Unreadable: identity knows them too, and tells of them anew at the start.
        let erased = erased::Erased::open(&dir).unwrap_or_else(|why| {
            damaged.push(format!("history/{} cannot be used: {why}", erased::FILE));
            erased::Erased::default()
        });
        let head = Mutex::new(Head::default());
        let history = History {
            dir,
            head,
            files: RwLock::new(Arc::new(files)),
            schemas,
            summaries: RwLock::new(Arc::new(summaries)),
            expired: AtomicU64::new(expired),
            erased,
        };
        // A crash between an hour's two files; on a full disk the next sealing tries again.
        if let Err(error) = history.summarise_at_start() {
            damaged.push(error.to_string());
        }
        Ok((history, damaged))
    }

    /// The journal position up to which all rows are in durable files.
    #[must_use]
    pub fn through(&self) -> u64 {
        self.files()
            .iter()
            .map(|file| file.footer.through)
            .max()
            .unwrap_or(0)
    }

    /// Takes note of a schema, durably before any row refers to it on disk.
    ///
    /// # Errors
    /// Where the schema log cannot be written.
    pub fn schema(&self, host: HostId, schema: &Schema) -> Result<(), Error> {
        self.schemas.add(schema)?;
        self.head().current(host, schema.id());
        Ok(())
    }

    /// Takes a row in; rows that are in a durable file already are left out.
    pub fn push(&self, host: HostId, row: Row, through: u64) {
        if row.position > through && !self.is_erased(host) {
            self.head().push(host, row);
        }
    }

    /// Takes an event in; events that are in a durable file already are left out.
    pub fn push_event(&self, host: HostId, event: EventRow, through: u64) {
        if event.position > through && !self.is_erased(host) {
            self.head().push_event(host, event);
        }
    }

    /// Whether the head holds so much that it should be sealed before the hour is over.
    #[must_use]
    pub fn is_heavy(&self) -> bool {
        let bytes = self.head().bytes();
        bytes.events >= HEAD_EVENT_BYTES || bytes.rows >= HEAD_ROW_BYTES
    }

    /// What came in up to this journal position is no longer in history.
    #[must_use]
    pub fn expired(&self) -> u64 {
        self.expired.load(Ordering::Acquire)
    }

    /// What a checkpoint keeps of the head.
    #[must_use]
    pub fn save(&self) -> Saved {
        self.head().save()
    }

    /// Puts back what a checkpoint kept, but for what has reached a durable file since.
    ///
    /// # Errors
    /// Where the bytes are of another version.
    pub fn restore(&self, saved: &[u8]) -> Result<(), String> {
        let mut head = Head::restore(saved, self.through())?;
        for host in self.erased() {
            head.erase(host);
        }
        *self.head() = head;
        Ok(())
    }

    /// Puts all rows of the head aside for sealing, while the watch stands still; they stay readable.
    #[must_use]
    pub fn begin_seal(&self) -> Sealing {
        self.head().begin_seal()
    }

    /// Puts back what was put aside for sealing.
    pub fn undo_seal(&self) {
        self.head().undo_seal();
    }

    /// Writes what was put aside into an hour file: all rows up to the journal position `through`.
    ///
    /// # Errors
    /// Where the file cannot be written: the rows go back to the head. [`Error::InDoubt`] where it may be there all the same.
    pub fn seal(&self, sealing: &Sealing, through: u64, now: Timestamp) -> Result<(), Error> {
        if sealing.is_empty() {
            return Ok(());
        }
        let _work = self.erased.work();
        let sealing = self.sealable(sealing);
        match hour::write(&self.dir, &sealing, &self.schemas, (through, now)) {
            Ok(file) => {
                let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
                Arc::make_mut(&mut files).push(Arc::new(file));
                self.head().end_seal();
                Ok(())
            }
            Err(error) => {
                self.head().undo_seal();
                Err(error)
            }
        }
    }

    /// Removes files whose samples all arrived longer ago than raw data is kept; as many as fill that time are kept in any
    /// case, so that a clock set wrong costs nothing.
    ///
    /// # Errors
    /// Where a file cannot be removed.
    pub fn expire(&self, now: Timestamp) -> Result<(), Error> {
        let _work = self.erased.work();
        self.expire_all_but(FILES_KEPT, now)
    }

    /// Removes all files, as if their time had come.
    #[cfg(test)]
    pub(crate) fn expire_now(&self) {
        let late = Timestamp::from_second(365 * 86_400).expect("a year");
        self.expire_all_but(0, late).expect("files are removed");
    }

    /// Removes the oldest file, as if its time had come.
    #[cfg(test)]
    pub(crate) fn expire_oldest(&self) {
        let late = Timestamp::from_second(2_000_000_000).expect("a time");
        let kept = self.files().len() - 1;
        self.expire_all_but(kept, late).expect("a file is removed");
    }

    fn expire_all_but(&self, kept: usize, now: Timestamp) -> Result<(), Error> {
        let before = now.as_second() - RAW_DAYS * 86_400;
        loop {
            let files = self.files();
            let Some(oldest) = files.first().filter(|_| files.len() > kept) else {
                break;
            };
            // One that was sealed while the clock was ahead is as old as the first after it that was not: else it, and all that
            // came later, would stay until that time has come.
            let mut sealed = files.iter().map(|file| file.footer.sealed_s);
            if sealed
                .find(|s| *s <= now.as_second())
                .is_none_or(|s| s >= before)
            {
                break;
            }
            // No lock is held meanwhile: nothing that reads waits.
            self.before_raw_goes(oldest)?;
            self.remove_raw(oldest)?;
        }
        self.expire_summaries(now)
    }

    fn remove_raw(&self, raw: &HourFile) -> Result<(), Error> {
        let through = raw.footer.through;
        let path = self.dir.join(EXPIRED);
        let text = crate::checkpoint::summed(&format!("{through}\n"));
        crate::checkpoint::replace(&path, text.as_bytes()).map_err(|source| {
            let what = "write";
            Error::Io { what, path, source }
        })?;
        self.expired.store(through, Ordering::Release);
        match fs::remove_file(&raw.path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                let (what, path) = ("remove expired", raw.path.clone());
                return Err(Error::Io { what, path, source });
            }
            Ok(()) | Err(_) => {}
        }
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut files).retain(|file| file.footer.through != through);
        Ok(())
    }

    /// Whether the series of a schema are known.
    #[must_use]
    pub fn knows(&self, schema: SchemaId) -> bool {
        self.schemas.has(schema)
    }

    /// The series that a host sends at present.
    #[must_use]
    pub fn series(&self, host: HostId) -> Vec<Series> {
        let latest = self.latest(host);
        latest.map_or_else(Vec::new, |schema| schema.series().to_vec())
    }

    /// The same, shared; none of a host that has sent nothing.
    #[must_use]
    pub fn latest(&self, host: HostId) -> Option<Arc<Schema>> {
        if self.is_erased(host) {
            return None;
        }
        let id = self.head().latest(host).or_else(|| {
            self.files()
                .iter()
                .rev()
                .find_map(|file| file.blocks_of(host).last().map(|b| b.schema))
        });
        self.schemas.get(id?)
    }

    /// The hour files that are read at present, by journal position.
    #[must_use]
    pub(crate) fn hour_files(&self) -> Vec<(u64, PathBuf)> {
        let files = self.files();
        let all = files.iter();
        all.map(|file| (file.footer.through, file.path.clone()))
            .collect()
    }

    fn files(&self) -> Files {
        self.files
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn head(&self) -> std::sync::MutexGuard<'_, Head> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is lost with an hour file that cannot be read, and of which time.
fn lost(path: &Path, error: &Error, summaries: &Summaries) -> String {
    let name = path.file_stem().and_then(|name| name.to_str());
    let through = name.and_then(|name| name.parse().ok()).unwrap_or(0);
    let (from, to) = crate::verify::span(path, through, summaries);
    let minute = |at: Timestamp| at.strftime("%F %H:%M").to_string();
    match (from, to) {
        (Some(from), Some(to)) => {
            format!(
                "{error}, which are those of {}-{} UTC",
                minute(from),
                minute(to)
            )
        }
        _ => error.to_string(),
    }
}

/// The journal position up to which hour files were removed; 0 where none was.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn read_expired(path: &Path) -> Result<u64, String> {
    let Some(text) = crate::checkpoint::read_summed(path)? else {
        return Ok(0);
    };
    let position = text.trim();
    position
        .parse()
        .map_err(|_| format!("{position:?} is no position"))
}

#[cfg(test)]
mod tests;
