//! A data directory at one moment, as files beside it that nobody changes any more: links of what is immutable, copies of the rest.
//!
//! It asks nothing of a running server. What makes it one state that a server can start from is the order: checkpoints first, then
//! the ledger (all that the checkpoint's engine decided is in it), then history (rows that left the checkpoint's head are in it),
//! then the schemas that those rows refer to, the nights that the ledger sealed, and the journal last, which knows all of it. Of a log's last segment only whole
//! frames are taken. Who is who stands last: a host that is known too early does no harm.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::files::{self, Held, is_unfinished};
use crate::checkpoint;
use crate::history::EXPIRED;
use crate::verify::logs;

/// A server that writes two checkpoints while one snapshot is taken is met once; not this often.
const TRIES: usize = 4;

/// Files of the data directory itself that belong to a copy, where they are there.
const TOP: [&str; 2] = ["dawnwatch.toml", super::version::FILE];

/// Why a copy could not be made or put back.
#[derive(Debug, thiserror::Error)]
#[error("{what} {}: {source}", path.display())]
pub struct Error {
    /// What was tried.
    pub what: &'static str,
    /// On which file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Says of an error of the system what was tried on what.
pub(super) fn failed(what: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error {
        what,
        path: path.clone(),
        source,
    }
}

/// What a snapshot is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The server's clock at the last group of the journal; none where it is empty.
    pub until: Option<Timestamp>,
}

/// Takes a snapshot of `data` into the directory `into`, which must be on the same disk and must not be there yet.
///
/// # Errors
/// What the file system says; what was begun is removed again.
pub fn take(data: &Path, into: &Path) -> Result<Taken, Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        match try_take(data, into) {
            Ok(Some(taken)) => return Ok(taken),
            Ok(None) if tries < TRIES => drop(fs::remove_dir_all(into)),
            Ok(None) => {
                drop(fs::remove_dir_all(into));
                let why = io::Error::other(
                    "the checkpoints went on faster than they could be linked; try again",
                );
                return Err(failed("take a snapshot of", data)(why));
            }
            Err(error) => {
                drop(fs::remove_dir_all(into));
                return Err(error);
            }
        }
    }
}

/// None where the parts do not belong together.
fn try_take(data: &Path, into: &Path) -> Result<Option<Taken>, Error> {
    private_dir(into)?;
    for room in files::ROOMS {
        private_dir(&into.join(room))?;
    }
    let checkpoints = link_all(data, into, "checkpoint")?;
    log(data, into, "ledger", *b"LEDG")?;
    link_all(data, into, "history")?;
    log(data, into, "history/schemas", *b"SCHM")?;
    link_all(data, into, "nights")?;
    let until = log(data, into, "journal", *b"JRNL")?;
    link_all(data, into, "identity")?;
    for name in TOP {
        copy_if_there(&data.join(name), &into.join(name))?;
    }
    // The newest checkpoint must be one that the journal goes on from.
    let newest = checkpoint::frames(into).first().copied();
    let first = logs::first_of(&into.join("journal"));
    let joins = newest.is_none_or(|frame| first.is_some_and(|first| first <= frame));
    Ok((checkpoints && joins).then_some(Taken { until }))
}

/// Links the immutable files of a room. False where one of them was gone meanwhile and that must not be.
fn link_all(data: &Path, into: &Path, room: &'static str) -> Result<bool, Error> {
    let held = files::list(data, room).map_err(failed("list", &data.join(room)))?;
    let mut whole = true;
    // The mark of what expired last: a file that went while this ran is below it then.
    let (mark, held): (Vec<Held>, Vec<Held>) = held
        .into_iter()
        .filter(|held| !is_unfinished(&held.name))
        .partition(|held| held.name == EXPIRED);
    for held in held.into_iter().chain(mark) {
        let (from, to) = (data.join(held.path()), into.join(held.path()));
        match link(&from, &to) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => whole = false,
            linked => linked?,
        }
    }
    Ok(whole)
}

/// A second name, or a copy where the file system has no such thing.
fn link(from: &Path, to: &Path) -> Result<(), Error> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(failed("link", from)(error)),
        Err(_) => copy(from, to, u64::MAX),
    }
}

fn copy_if_there(from: &Path, to: &Path) -> Result<(), Error> {
    match copy(from, to, u64::MAX) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(()),
        copied => copied,
    }
}

/// Takes a log: its closed segments by links, its last one up to the end of its last whole frame. Small files beside them are copied.
fn log(
    data: &Path,
    into: &Path,
    room: &'static str,
    kind: [u8; 4],
) -> Result<Option<Timestamp>, Error> {
    let end = logs::end_of(&data.join(room), kind);
    let held = files::list(data, room).map_err(failed("list", &data.join(room)))?;
    for held in held.iter().filter(|held| !is_unfinished(&held.name)) {
        let (from, to) = (data.join(held.path()), into.join(held.path()));
        let first = held
            .name
            .strip_suffix(".seg")
            .and_then(|n| n.parse::<u64>().ok());
        let done = match first {
            // Begun since the end was looked for: the snapshot ends before it.
            Some(first) if first > end.last => continue,
            Some(first) if first < end.last => link(&from, &to),
            Some(_) => copy(&from, &to, end.bytes.unwrap_or(u64::MAX)),
            None => copy(&from, &to, u64::MAX),
        };
        match done {
            // Released meanwhile: a checkpoint has what was in it.
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => {}
            done => done?,
        }
    }
    Ok(end.until)
}

/// Copies the first bytes of a file.
pub(super) fn copy(from: &Path, to: &Path, bytes: u64) -> Result<(), Error> {
    let source = File::open(from).map_err(failed("read", from))?;
    let mut out = create(to)?;
    io::copy(&mut source.take(bytes), &mut out).map_err(failed("copy to", to))?;
    out.flush().map_err(failed("write", to))
}

/// Creates a file that is for its owner alone.
pub(super) fn create(path: &Path) -> Result<File, Error> {
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600);
    options.open(path).map_err(failed("create", path))
}

/// Creates a directory, and those above it, for its owner alone; one that is there is well.
pub(super) fn private_dir(path: &Path) -> Result<(), Error> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(path).map_err(failed("create", path))
}

/// Makes what was done in a directory durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(failed("sync", path))
}
