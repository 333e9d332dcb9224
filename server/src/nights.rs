//! Sealed reviews: one canonical JSON file a night under `nights/`, its SHA-256 in the ledger. Never changed afterwards.
//!
//! - [`evidence`]: samples and lines around its findings, beside it.

pub mod evidence;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dawnwatch_proto::api::NightHead;
use dawnwatch_proto::review::{FORMAT, Review};

use crate::checkpoint;

/// A sealed night cannot be kept or read.
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
        source: io::Error,
    },
    /// A file that is not a review.
    #[error("{}: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// The canonical bytes of a review, or of its evidence, and their SHA-256 in hex. Fields stand in the order of the type, numbers in their
/// shortest form, so the same value has the same bytes everywhere.
#[must_use]
pub fn canonical<T: serde::Serialize>(review: &T) -> (Vec<u8>, String) {
    let mut bytes =
        serde_json::to_vec_pretty(review).expect("a review of plain values always serialises");
    bytes.push(b'\n');
    let hash = hash_of(&bytes);
    (bytes, hash)
}

/// The SHA-256, in hex, by which the ledger knows these bytes.
#[must_use]
pub fn hash_of(bytes: &[u8]) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, bytes);
    data_encoding::HEXLOWER.encode(hash.as_ref())
}

/// Writes a sealed review; writing the same one again changes nothing.
///
/// # Errors
/// What the file system says.
pub fn write(data: &Path, review: &Review, bytes: &[u8]) -> Result<(), Error> {
    replace(path(data, &review.id), bytes)
}

fn replace(path: PathBuf, bytes: &[u8]) -> Result<(), Error> {
    checkpoint::replace(&path, bytes).map_err(|source| Error::Io {
        what: "write",
        path,
        source,
    })
}

/// Reads a sealed review; none where there is no such night.
///
/// # Errors
/// Where the file cannot be read or is of another format.
pub fn read(data: &Path, id: &str) -> Result<Option<Review>, Error> {
    if !is_plain(id) {
        return Ok(None);
    }
    open(path(data, id), FORMAT, |review: &Review| review.format)
}

/// Whether an id may be a file's name: it comes from whoever asks.
fn is_plain(id: &str) -> bool {
    id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Reads a file of a known format; none where there is no such file.
fn open<T: serde::de::DeserializeOwned>(
    path: PathBuf,
    known: u32,
    format: impl Fn(&T) -> u32,
) -> Result<Option<T>, Error> {
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(Error::Io {
                what: "read",
                path,
                source,
            });
        }
    };
    let value: T = serde_json::from_slice(&bytes).map_err(|e| Error::Damaged {
        path: path.clone(),
        why: e.to_string(),
    })?;
    let format = format(&value);
    if format > known {
        let why = format!("format {format}, this build reads {known}");
        return Err(Error::Damaged { path, why });
    }
    Ok(Some(value))
}

/// The sealed nights, oldest first. A file that cannot be read is passed over and logged.
///
/// # Errors
/// Where the directory cannot be listed.
pub fn list(data: &Path) -> Result<Vec<NightHead>, Error> {
    let dir = data.join("nights");
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => {
            return Err(Error::Io {
                what: "list",
                path: dir,
                source,
            });
        }
    };
    let mut ids: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| Some(name.strip_suffix(".json")?.to_owned()))
        .filter(|id| is_plain(id))
        .collect();
    ids.sort();
    let mut heads = Vec::with_capacity(ids.len());
    for id in ids {
        match read(data, &id) {
            Ok(Some(review)) => heads.push(head(&review)),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "sealed night cannot be read"),
        }
    }
    heads.sort_by_key(|head| head.end);
    Ok(heads)
}

/// The line of a review in a list.
#[must_use]
pub fn head(review: &Review) -> NightHead {
    NightHead {
        id: review.id.clone(),
        start: review.start,
        end: review.end,
        sealed: review.sealed.unwrap_or(review.until),
        verdict: review.verdict,
        sentence: review.sentence.clone(),
    }
}

fn path(data: &Path, id: &str) -> PathBuf {
    data.join("nights").join(format!("{id}.json"))
}
