//! The sled database below `index/`, and nothing else in the house knows that it is one.
//!
//! | tree | key | value |
//! |---|---|---|
//! | `docs` | `doc::key` | CRC32C u32 LE, postcard form of [`Doc`] |
//! | `words` | word, 0, key of the document | nothing |
//! | `times` | first byte of the kind, u64 BE counting down from the highest as `since` rises, key of the document | nothing |
//! | `meta` | `place` | CRC32C u32 LE, postcard form of [`Place`]: how far ledger and history are in it |
//!
//! sled 0.34.7 as measured: values of 4 KiB at most, batches of 500 keys at most, `flush()` only, one thread, 16 MiB of cache; a
//! half-written snapshot is deleted before opening, which needs 128 MiB of room and is done on a thread of its own, for a
//! damaged database panics or hangs.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::doc::{self, Doc, Docs};
use super::{FOUND_MAX, Found, Query};
use crate::plain;

/// Counts up with every change of what is written: an index of another version is built anew.
const VERSION: u32 = 3;

/// Longest value: longer ones go to files of their own, which sled never gives back.
const VALUE_BYTES_MAX: usize = 4 * 1024;

/// Most keys in a batch: a batch holds a lock that all of sled waits for.
const BATCH_KEYS: usize = 500;

/// sled's own cache.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// Room that opening needs: it writes a snapshot.
const ROOM_BYTES: u64 = 128 * 1024 * 1024;

/// A database that does not open within this, and what its size takes, is damaged.
const OPEN_WITHIN: Duration = Duration::from_secs(20);

/// A sound one is read at no less a second: 200,000 shapes of a thousand hosts, 950 MB, took 6 s on a fast disk.
const OPEN_BYTES_A_SECOND: u64 = 4 * 1024 * 1024;

/// Documents that one search looks at, of each kind where it has no word: a word that is everywhere is not looked up in ten years of incidents.
const LOOKED_AT_MAX: usize = 20_000;

/// Why the index cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// The disk has no room; nothing is wrong with what is there.
    #[error("less than 128 MiB are free on the disk")]
    NoRoom,
    /// What it is built from cannot be read.
    #[error("{0}")]
    Source(String),
    /// Something must go from it without a trace, and sled forgets nothing at once: to be removed and built anew.
    #[error("a host was erased")]
    Anew,
    /// Damaged, or of another version: to be put aside and built anew.
    #[error("{0}")]
    Damaged(String),
}

impl From<sled::Error> for Error {
    fn from(error: sled::Error) -> Error {
        Error::Damaged(error.to_string())
    }
}

impl From<crate::ledger::Error> for Error {
    fn from(error: crate::ledger::Error) -> Error {
        Error::Source(error.to_string())
    }
}

/// How far the sources are in the index.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    version: u32,
    /// The last ledger frame.
    pub(super) frame: u64,
    /// CRC32C of what that frame decodes to: another ledger needs another index.
    pub(super) frame_sum: u32,
    /// Journal position up to which events are in it.
    pub(super) events: u64,
}

/// The open database.
#[derive(Debug)]
pub(super) struct Store {
    db: sled::Db,
    docs: sled::Tree,
    words: sled::Tree,
    times: sled::Tree,
    meta: sled::Tree,
    /// What was changed and is not written.
    fresh: BTreeMap<Vec<u8>, Doc>,
    /// Templates told up to this journal position are in history no more, and are not found any more.
    expired: u64,
    /// Damage met while something was taken in, where nothing could be answered.
    met: Option<Error>,
}

impl Store {
    /// Opens the index of a data directory, or begins one.
    pub(super) fn open(data: &Path) -> Result<Store, Error> {
        let dir = path(data);
        fs::create_dir_all(&dir).map_err(|e| Error::Damaged(e.to_string()))?;
        let room = rustix::fs::statvfs(&dir).map_err(|e| Error::Damaged(e.to_string()))?;
        if room.f_bavail.saturating_mul(room.f_frsize) < ROOM_BYTES {
            return Err(Error::NoRoom);
        }
        remove_half_snapshots(&dir);
        let patience = patience(&dir);
        let (done, opened) = sync_channel(1);
        let spawned = std::thread::Builder::new()
            .name("index-open".to_owned())
            .spawn(move || {
                let opened = catch_unwind(AssertUnwindSafe(|| open(&dir)));
                // Nobody waits any more where this took too long.
                let _ = done.send(opened.unwrap_or_else(|_| Err(panicked())));
            });
        spawned.map_err(|e| Error::Damaged(e.to_string()))?;
        opened
            .recv_timeout(patience)
            .unwrap_or_else(|_| Err(Error::Damaged("opening it took too long".to_owned())))
    }

    /// How far the sources are in it; from the beginning where it is new.
    pub(super) fn place(&self) -> Result<Place, Error> {
        let place = self.meta.get("place")?;
        place.map_or(Ok(Place::default()), |v| checked(&v))
    }

    /// Writes what was changed, and the place that it belongs to last.
    pub(super) fn commit(&mut self, place: &Place) -> Result<(), Error> {
        if let Some(error) = self.met.take() {
            return Err(error);
        }
        let fresh = std::mem::take(&mut self.fresh);
        let mut docs = Batch::new(&self.docs);
        let mut words = Batch::new(&self.words);
        let mut times = Batch::new(&self.times);
        for (key, doc) in &fresh {
            docs.insert(key.clone(), summed(doc))?;
            if doc.kind == doc::NAME {
                continue;
            }
            for word in doc.words() {
                words.insert(word_key(&word, key), Vec::new())?;
            }
            times.insert(time_key(doc.since, key), Vec::new())?;
        }
        // What leads to a document before the place that says that it is there.
        docs.end()?;
        words.end()?;
        times.end()?;
        let version = VERSION;
        let place = Place {
            version,
            ..place.clone()
        };
        self.meta.insert("place", summed(&place))?;
        Ok(())
    }

    /// Hands all to the system.
    pub(super) fn flush(&self) -> Result<(), Error> {
        self.db.flush()?;
        Ok(())
    }

    /// Searches. What the index leads to is looked at itself: a word that no longer is its own leads to nothing.
    pub(super) fn search(&self, query: &Query) -> Result<Found, Error> {
        let longest = query.words.iter().max_by_key(|word| word.len());
        let limit = query.limit.clamp(1, FOUND_MAX);
        let mut found = BTreeMap::new();
        let mut more = false;
        for entries in match longest {
            Some(word) => vec![self.words.scan_prefix(word)],
            None => self.of_kinds(query),
        } {
            for (looked_at, entry) in entries.keys().enumerate() {
                let entry = entry?;
                let Some(key) = doc_key(&entry, longest.is_some()) else {
                    return Err(Error::Damaged("a key that leads nowhere".to_owned()));
                };
                if looked_at >= LOOKED_AT_MAX {
                    more = true;
                    break;
                }
                let Some(doc) = self.doc(key)? else { continue };
                if !self.is_gone(&doc) && fits(&doc, query) {
                    found.insert((std::cmp::Reverse(doc.since), key.to_vec()), doc);
                    if found.len() > limit {
                        found.pop_last();
                        more = true;
                    }
                }
            }
        }
        let docs = found.into_values().collect();
        Ok(Found { docs, more })
    }

    /// What has the wanted kind, or each kind apart, latest first from the wanted end on: a fleet has a thousand shapes of log lines for
    /// each incident.
    fn of_kinds(&self, query: &Query) -> Vec<sled::Iter> {
        let is_wanted = |kind: &&str| query.kind.is_none() || query.kind.as_deref() == Some(*kind);
        let kinds = ["incident", "finding", "template"].into_iter();
        let of_kind = |kind: &str| {
            let kind = kind.as_bytes()[0];
            let latest = query.to.map_or(0, countdown).to_be_bytes();
            let from = [&[kind][..], &latest].concat();
            self.times.range(from..vec![kind + 1])
        };
        kinds.filter(is_wanted).map(of_kind).collect()
    }

    /// Whether history no longer holds what it tells of.
    fn is_gone(&self, doc: &Doc) -> bool {
        doc.kind == "template" && doc.frames.iter().all(|at| *at <= self.expired)
    }

    /// Takes note of what history no longer holds.
    pub(super) fn forget_before(&mut self, expired: u64) {
        self.expired = expired;
    }

    fn doc(&self, key: &[u8]) -> Result<Option<Doc>, Error> {
        self.docs.get(key)?.map(|v| checked(&v)).transpose()
    }

    /// The ledger frames that tell of an incident.
    pub(super) fn frames(&self, incident: &str) -> Result<Vec<u64>, Error> {
        let key = doc::key("incident", dawnwatch_proto::HostId(0), incident);
        Ok(self.doc(&key)?.map(|doc| doc.frames).unwrap_or_default())
    }
}

impl Docs for Store {
    fn get(&mut self, key: &[u8]) -> Option<Doc> {
        if let Some(doc) = self.fresh.get(key) {
            return Some(doc.clone());
        }
        self.doc(key).unwrap_or_else(|error| {
            self.met = Some(error);
            None
        })
    }

    fn put(&mut self, doc: Doc) {
        self.fresh.insert(doc.key(), doc);
    }
}

/// Where the index of a data directory is.
pub(super) fn path(data: &Path) -> PathBuf {
    data.join("index")
}

/// Puts an index aside that cannot be used: one is kept, for who wants to know.
pub(super) fn put_aside(data: &Path) -> std::io::Result<()> {
    let aside = data.join("index.damaged");
    match fs::remove_dir_all(&aside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    match fs::rename(path(data), &aside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes the index, and the one that was put aside.
pub(super) fn remove(data: &Path) -> std::io::Result<()> {
    for dir in [path(data), data.join("index.damaged")] {
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

pub(super) fn panicked() -> Error {
    Error::Damaged("sled panicked over it".to_owned())
}

fn open(dir: &Path) -> Result<Store, Error> {
    let db = sled::Config::new()
        .path(dir)
        .cache_capacity(CACHE_BYTES)
        .open()?;
    let tree = |name: &str| db.open_tree(name);
    let store = Store {
        docs: tree("docs")?,
        words: tree("words")?,
        times: tree("times")?,
        meta: tree("meta")?,
        db,
        fresh: BTreeMap::new(),
        expired: 0,
        met: None,
    };
    let place = store.place()?;
    if place.version != VERSION && (place.version != 0 || !store.docs.is_empty()) {
        return Err(Error::Damaged(
            "it has no place, or is of another version".to_owned(),
        ));
    }
    // Damage shows when it is read, and it shall show here.
    for entry in store.docs.iter().values() {
        checked::<Doc>(&entry?)?;
    }
    for entry in store.words.iter().chain(store.times.iter()) {
        entry?;
    }
    Ok(store)
}

/// How long opening a database may take: it is read as a whole.
fn patience(dir: &Path) -> Duration {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let bytes: u64 = entries
        .filter_map(|entry| entry.metadata().ok())
        .map(|file| file.len())
        .sum();
    OPEN_WITHIN + Duration::from_secs(bytes / OPEN_BYTES_A_SECOND)
}

/// A snapshot that was being written when the power went stops sled from opening.
fn remove_half_snapshots(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            // What cannot be removed shows when sled opens.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Keys on their way into a tree, a bounded number at a time.
struct Batch<'a> {
    tree: &'a sled::Tree,
    batch: sled::Batch,
    keys: usize,
}

impl<'a> Batch<'a> {
    fn new(tree: &'a sled::Tree) -> Batch<'a> {
        Batch {
            tree,
            batch: sled::Batch::default(),
            keys: 0,
        }
    }

    fn insert(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), Error> {
        assert!(value.len() <= VALUE_BYTES_MAX, "a value of {}", value.len());
        self.batch.insert(key, value);
        self.keys += 1;
        if self.keys < BATCH_KEYS {
            return Ok(());
        }
        self.end()
    }

    fn end(&mut self) -> Result<(), Error> {
        self.keys = 0;
        self.tree.apply_batch(std::mem::take(&mut self.batch))?;
        Ok(())
    }
}

fn word_key(word: &str, key: &[u8]) -> Vec<u8> {
    let mut out = word.as_bytes().to_vec();
    out.push(0);
    out.extend_from_slice(key);
    out
}

fn time_key(since: Timestamp, key: &[u8]) -> Vec<u8> {
    let mut out = vec![key.first().copied().unwrap_or(b'?')];
    out.extend_from_slice(&countdown(since).to_be_bytes());
    out.extend_from_slice(key);
    out
}

/// The sign turned over, so that the order of the bytes is that of the numbers; counted down, so that the latest comes first.
fn countdown(at: Timestamp) -> u64 {
    let rising = at.as_millisecond().cast_unsigned() ^ (1 << 63);
    u64::MAX - rising
}

/// The key of the document behind a word or a time.
fn doc_key(entry: &[u8], word: bool) -> Option<&[u8]> {
    if word {
        let end = entry.iter().position(|byte| *byte == 0)?;
        Some(&entry[end + 1..])
    } else {
        entry.get(9..)
    }
}

fn fits(doc: &Doc, query: &Query) -> bool {
    let words = doc.words();
    query.host.is_none_or(|host| host == doc.host)
        && query.kind.as_ref().is_none_or(|kind| *kind == doc.kind)
        && query.to.is_none_or(|to| doc.since < to)
        && query.from.is_none_or(|from| {
            doc.since >= from
                || doc.until.is_some_and(|until| until >= from)
                || (doc.kind != "template" && doc.until.is_none())
        })
        && query
            .words
            .iter()
            .all(|wanted| words.iter().any(|word| word.starts_with(wanted.as_str())))
}

fn summed<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = plain::bytes_after(vec![0; 4], value);
    let sum = crc32c::crc32c(&out[4..]);
    out[..4].copy_from_slice(&sum.to_le_bytes());
    out
}

fn checked<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let damaged = || Error::Damaged("a value in it is damaged".to_owned());
    let (sum, body) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
    if u32::from_le_bytes(*sum) != crc32c::crc32c(body) {
        return Err(damaged());
    }
    postcard::from_bytes(body).map_err(|_| damaged())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An incident of yesterday, and more shapes of log lines told today than are looked at.
    #[test]
    fn what_happened_is_found_behind_any_number_of_shapes() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        let doc = |kind: &str, id: u64, since| Doc {
            kind: kind.to_owned(),
            id: id.to_string(),
            host: dawnwatch_proto::HostId(7),
            name: String::new(),
            state: String::new(),
            severity: dawnwatch_proto::review::Severity::Info,
            since: at(since),
            until: None,
            text: String::new(),
            night: String::new(),
            frames: vec![1],
        };
        store.put(doc("incident", 0, 100));
        for id in 1..=LOOKED_AT_MAX as u64 {
            store.put(doc("template", id, 200));
        }
        store.commit(&Place::default()).unwrap();
        let ids = |kind: Option<&str>, to: Option<i64>| {
            let query = Query {
                kind: kind.map(str::to_owned),
                to: to.map(at),
                limit: FOUND_MAX,
                ..Query::default()
            };
            let found = store.search(&query).unwrap();
            let docs = found.docs.into_iter().map(|doc| doc.id);
            (docs.collect::<Vec<_>>(), found.more)
        };
        let incident = (vec!["0".to_owned()], false);
        assert_eq!(ids(Some("incident"), None), incident);
        assert_eq!(ids(None, Some(150)), incident);
        assert_eq!(ids(None, Some(100)), (Vec::new(), false), "begun before");
        assert_eq!(ids(Some("finding"), None), (Vec::new(), false));
        let (all, more) = ids(None, None);
        assert_eq!((all.len(), more), (FOUND_MAX, true));
    }

    /// Five thousand hosts: more than a fixed time would do for.
    #[test]
    fn a_large_index_is_not_taken_for_a_damaged_one() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(patience(&dir.path().join("absent")), OPEN_WITHIN);
        let db = fs::File::create(dir.path().join("db")).unwrap();
        db.set_len(4 << 30).unwrap();
        assert_eq!(
            patience(dir.path()),
            OPEN_WITHIN + Duration::from_secs(1_024)
        );
    }
}
