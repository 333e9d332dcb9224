//! What recovery starts from: the engine, the head, the pending outbox, at a journal position.
//!
//! File `checkpoint/{frame:020}.ckpt`: magic "DWCK", version u32 LE, CRC32C u32 LE of the rest, then the postcard form of
//! [`Checkpoint`]. Two are kept: a newest one that cannot be read costs a longer replay and nothing else.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use dawnwatch_engine::At;
use dawnwatch_engine::effect::Notification;
use serde::{Deserialize, Serialize};

use crate::journal::Held;
use crate::plain;

const MAGIC: &[u8; 4] = b"DWCK";
const VERSION: u32 = 1;
const HEADER: usize = 12;

/// The state of the watch after a journal frame.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The first journal frame that is not in it.
    pub frame: u64,
    /// The stamp of the last input in it.
    pub at: At,
    /// `Engine::save`.
    pub engine: Vec<u8>,
    /// What the journal held.
    pub held: Held,
    /// Notifications whose fate is not known.
    pub pending: Vec<Notification>,
    /// `Head::save`: rows that are in no durable file yet.
    pub head: Vec<u8>,
}

/// A checkpoint could not be written.
#[derive(Debug, thiserror::Error)]
#[error("write checkpoint {}: {source}", path.display())]
pub struct WriteError {
    path: PathBuf,
    source: io::Error,
}

/// Writes a checkpoint (tmp, fsync, rename, fsync of the directory) and removes all but the newest two. Returns the frame
/// below which the journal is not needed by any of them.
///
/// # Errors
/// [`WriteError`]; the older checkpoints still stand.
pub fn write(data: &Path, checkpoint: &Checkpoint) -> Result<u64, WriteError> {
    let dir = data.join("checkpoint");
    let path = dir.join(format!("{:020}.ckpt", checkpoint.frame));
    let body = plain::bytes(checkpoint);
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&crc(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    replace(&path, &bytes).map_err(|source| WriteError {
        path: path.clone(),
        source,
    })?;
    let mut frames = list(&dir);
    while frames.len() > 2 {
        // A checkpoint that cannot be removed is removed after the next one.
        let _ = fs::remove_file(dir.join(format!("{:020}.ckpt", frames.remove(0))));
    }
    Ok(frames.first().copied().unwrap_or(checkpoint.frame))
}

/// Reads the newest checkpoint that can be read; the second value lists those that could not.
#[must_use]
pub fn newest(data: &Path) -> (Option<Checkpoint>, Vec<String>) {
    let dir = data.join("checkpoint");
    let mut damaged = Vec::new();
    for frame in list(&dir).into_iter().rev() {
        let path = dir.join(format!("{frame:020}.ckpt"));
        match read(&path) {
            Ok(checkpoint) => return (Some(checkpoint), damaged),
            Err(why) => damaged.push(format!("{}: {why}", path.display())),
        }
    }
    (None, damaged)
}

fn read(path: &Path) -> Result<Checkpoint, String> {
    let bytes = fs::read(path).map_err(|e| e.to_string())?;
    let (header, body) = bytes.split_at_checked(HEADER).ok_or("too short")?;
    if &header[..4] != MAGIC {
        return Err("not a checkpoint".to_owned());
    }
    let word = |at: usize| {
        header[at..]
            .first_chunk::<4>()
            .map_or(0, |b| u32::from_le_bytes(*b))
    };
    if word(4) != VERSION {
        return Err(format!("version {}, this build reads {VERSION}", word(4)));
    }
    if word(8) != crc(body) {
        return Err("damaged on disk".to_owned());
    }
    postcard::from_bytes(body).map_err(|e| e.to_string())
}

fn list(dir: &Path) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let name = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
    let mut frames: Vec<u64> = entries
        .filter_map(name)
        .filter_map(|name| name.strip_suffix(".ckpt")?.parse().ok())
        .collect();
    frames.sort_unstable();
    frames
}

/// Replaces a file whole: a reader sees the old or the new one, a power cut leaves one of them.
///
/// # Errors
/// What the file system says.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path
        .parent()
        .ok_or_else(|| io::Error::other("a path without a directory"))?;
    fs::create_dir_all(dir)?;
    let tmp = path.with_extension("tmp");
    let mut file = File::create(&tmp)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&tmp, path)?;
    File::open(dir)?.sync_all()
}

fn crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(frame: u64) -> Checkpoint {
        Checkpoint {
            frame,
            at: crate::journal::origin(),
            engine: vec![1, 2, 3],
            held: Held::default(),
            pending: Vec::new(),
            head: Vec::new(),
        }
    }

    #[test]
    fn two_are_kept_and_a_damaged_one_falls_back() {
        let dir = tempfile::tempdir().unwrap();
        assert!(newest(dir.path()).0.is_none());
        assert_eq!(write(dir.path(), &checkpoint(5)).unwrap(), 5);
        assert_eq!(write(dir.path(), &checkpoint(9)).unwrap(), 5);
        assert_eq!(write(dir.path(), &checkpoint(12)).unwrap(), 9);
        assert_eq!(newest(dir.path()).0.unwrap().frame, 12);
        let path = dir
            .path()
            .join("checkpoint")
            .join(format!("{:020}.ckpt", 12));
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let (found, damaged) = newest(dir.path());
            assert_eq!(
                (found.unwrap().frame, damaged.len()),
                (9, 1),
                "cut at {cut}"
            );
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &flipped).unwrap();
            assert_eq!(newest(dir.path()).0.unwrap().frame, 9, "bit {bit}");
        }
    }
}
