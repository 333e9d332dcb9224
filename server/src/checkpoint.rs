//! What recovery starts from: the engine, the head, the pending outbox, at a journal position.
//!
//! File `checkpoint/{frame:020}.ckpt`: magic "DWCK", version u32 LE, CRC32C u32 LE of the version and the rest, then the postcard form of
//! [`Checkpoint`]. Two are kept: a newest one that cannot be read costs a longer replay and nothing else.

use std::fs::{self, File};
use std::io::{self, BufWriter, IntoInnerError, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use dawnwatch_engine::At;
use dawnwatch_engine::effect::Notification;
use serde::{Deserialize, Serialize};

use crate::journal::Held;
use crate::plain;

const MAGIC: &[u8; 4] = b"DWCK";
/// Version of the file.
pub const VERSION: u32 = 1;
const HEADER: usize = 12;
/// What is written at a time.
const BUFFER_BYTES: usize = 64 * 1024;

/// Bytes that are given piece by piece. Of a large fleet the head is hundreds of megabytes, and an allocator keeps for hours what a
/// large list took once it has given such a list back.
pub trait Pieces {
    /// How many bytes these are.
    fn size(&self) -> u64;

    /// Gives them.
    ///
    /// # Errors
    /// What the writer says.
    fn write(&self, out: &mut dyn Write) -> io::Result<()>;
}

impl Pieces for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(self)
    }
}

/// What is given, at once.
#[cfg(test)]
pub(crate) fn whole(pieces: &impl Pieces) -> Vec<u8> {
    let mut bytes = Vec::new();
    pieces.write(&mut bytes).expect("memory takes all");
    assert_eq!(pieces.size(), bytes.len() as u64);
    bytes
}

/// The state of the watch after a journal frame.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Checkpoint<Head = Vec<u8>> {
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
    pub head: Head,
}

impl<Head: Pieces> Checkpoint<Head> {
    /// Its postcard form up to the bytes of the head, which stand last in it.
    fn before_head(&self) -> Vec<u8> {
        plain::bytes(&(
            self.frame,
            &self.at,
            &self.engine,
            &self.held,
            &self.pending,
            self.head.size(),
        ))
    }

    /// Writes the file. Its checksum is known last, and stands before the rest.
    fn write(&self, file: &File) -> io::Result<()> {
        let header = [&MAGIC[..], &VERSION.to_le_bytes(), &[0; 4]].concat();
        (&*file).write_all(&header)?;
        let mut out = BufWriter::with_capacity(
            BUFFER_BYTES,
            Summed {
                file,
                crc: crc(VERSION, &[]),
            },
        );
        out.write_all(&self.before_head())?;
        self.head.write(&mut out)?;
        let summed = out.into_inner().map_err(IntoInnerError::into_error)?;
        file.write_all_at(&summed.crc.to_le_bytes(), header.len() as u64 - 4)
    }
}

/// A checkpoint could not be written.
#[derive(Debug, thiserror::Error)]
#[error("write checkpoint {}: {source}", path.display())]
pub struct WriteError {
    path: PathBuf,
    source: io::Error,
}

/// Why a checkpoint cannot be taken up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Damaged, or not there: an older one may do.
    #[error("{0}")]
    Damaged(String),
    /// Written by a version that this build does not read: nothing may go on from less than it knows.
    #[error("{0}")]
    Version(String),
}

/// Writes a checkpoint (tmp, fsync, rename, fsync of the directory) and removes all but the newest two. One that
/// goes further than this is of a journal whose end was lost, and is removed too. Returns the frame below which the journal is
/// not needed by any of them.
///
/// # Errors
/// [`WriteError`]; the older checkpoints still stand.
pub fn write(data: &Path, checkpoint: &Checkpoint<impl Pieces>) -> Result<u64, WriteError> {
    let dir = data.join("checkpoint");
    let path = dir.join(format!("{:020}.ckpt", checkpoint.frame));
    remove_unfinished(&dir);
    replace_by(&path, |file| checkpoint.write(file))
        .map_err(|source| WriteError { path, source })?;
    let (mut frames, lost): (Vec<u64>, Vec<u64>) = list(&dir)
        .into_iter()
        .partition(|frame| *frame <= checkpoint.frame);
    let old = frames.len().saturating_sub(2);
    for frame in lost.into_iter().chain(frames.drain(..old)) {
        // A checkpoint that cannot be removed is removed after the next one.
        let _ = fs::remove_file(dir.join(format!("{frame:020}.ckpt")));
    }
    Ok(frames.first().copied().unwrap_or(checkpoint.frame))
}

/// What a kill left of one that was being written. Its name never comes again, and it may be hundreds of megabytes.
fn remove_unfinished(dir: &Path) {
    let paths = fs::read_dir(dir).into_iter().flatten().flatten();
    for path in paths.map(|entry| entry.path()) {
        if path.extension().is_some_and(|extension| extension == "tmp") {
            // One that cannot be removed is removed before the next one.
            let _ = fs::remove_file(path);
        }
    }
}

/// The frames that there are checkpoints of, newest first.
#[must_use]
pub fn frames(data: &Path) -> Vec<u64> {
    let mut frames = list(&data.join("checkpoint"));
    frames.reverse();
    frames
}

/// Reads a checkpoint.
///
/// # Errors
/// [`ReadError`] says whether an older one may take its place.
pub fn read(data: &Path, frame: u64) -> Result<Checkpoint, ReadError> {
    let path = data.join("checkpoint").join(format!("{frame:020}.ckpt"));
    let damaged = |why: &str| ReadError::Damaged(format!("{}: {why}", path.display()));
    let bytes = fs::read(&path).map_err(|e| damaged(&e.to_string()))?;
    let Some((header, body)) = bytes.split_at_checked(HEADER) else {
        return Err(damaged("too short"));
    };
    let word = |at: usize| {
        header[at..]
            .first_chunk::<4>()
            .map_or(0, |b| u32::from_le_bytes(*b))
    };
    if &header[..4] != MAGIC {
        return Err(damaged("not a checkpoint"));
    }
    if word(8) != crc(word(4), body) {
        return Err(damaged("damaged on disk"));
    }
    if word(4) > VERSION {
        let (path, version) = (path.display(), word(4));
        let why = format!("{path} has version {version}, this build reads up to {VERSION}");
        return Err(ReadError::Version(why));
    }
    postcard::from_bytes(body).map_err(|e| damaged(&e.to_string()))
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
    replace_by(path, |mut file| file.write_all(bytes))
}

fn replace_by(path: &Path, write: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    let dir = path
        .parent()
        .ok_or_else(|| io::Error::other("a path without a directory"))?;
    fs::create_dir_all(dir)?;
    let tmp = path.with_extension("tmp");
    let synced = |file: File| write(&file).and_then(|()| file.sync_all());
    let written = File::create(&tmp)
        .and_then(synced)
        .and_then(|()| fs::rename(&tmp, path));
    if let Err(error) = written {
        // On a full disk what is left of it would take the room that is missing.
        let _ = fs::remove_file(&tmp);
        return Err(error);
    }
    File::open(dir)?.sync_all()
}

/// A small text of lines with a last line `sum `, the CRC32C, in hex, of the lines before.
#[must_use]
pub fn summed(text: &str) -> String {
    format!("{text}sum {:08x}\n", crc32c::crc32c(text.as_bytes()))
}

/// Reads a text that [`summed`] made. None where there is no such file.
///
/// # Errors
/// What is wrong with it.
pub fn read_summed(path: &Path) -> Result<Option<String>, String> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|error| format!("it cannot be read: {error}"))?,
    };
    let body = text.find("sum ").map(|at| &text[..at]);
    match body.filter(|body| summed(body) == text) {
        Some(body) => Ok(Some(body.to_owned())),
        None => Err("its checksum does not match".to_owned()),
    }
}

/// A file, and the checksum of what was written to it.
struct Summed<'a> {
    file: &'a File,
    crc: u32,
}

impl Write for Summed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.crc = crc32c::crc32c_append(self.crc, &bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Over version and content, so that a version that flipped is told from a later one.
fn crc(version: u32, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&version.to_le_bytes()), body)
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

    /// The frame of the first one that can be read, and how many before it could not.
    fn newest(data: &Path) -> (Option<u64>, usize) {
        let mut damaged = 0;
        for frame in frames(data) {
            match read(data, frame) {
                Ok(found) => return (Some(found.frame), damaged),
                Err(ReadError::Damaged(_)) => damaged += 1,
                Err(ReadError::Version(why)) => panic!("{why}"),
            }
        }
        (None, damaged)
    }

    #[test]
    fn two_are_kept_and_a_damaged_one_falls_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(newest(dir.path()), (None, 0));
        assert_eq!(write(dir.path(), &checkpoint(5)).unwrap(), 5);
        assert_eq!(write(dir.path(), &checkpoint(9)).unwrap(), 5);
        assert_eq!(write(dir.path(), &checkpoint(12)).unwrap(), 9);
        assert_eq!(newest(dir.path()), (Some(12), 0));
        let path = dir
            .path()
            .join("checkpoint")
            .join(format!("{:020}.ckpt", 12));
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(newest(dir.path()), (Some(9), 1), "cut at {cut}");
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &flipped).unwrap();
            assert_eq!(newest(dir.path()).0, Some(9), "bit {bit}");
        }
    }

    #[test]
    fn what_a_kill_left_of_one_goes_with_the_next() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &checkpoint(3)).unwrap();
        let half = dir.path().join("checkpoint/00000000000000000005.tmp");
        fs::write(&half, b"DWCK").unwrap();
        write(dir.path(), &checkpoint(8)).unwrap();
        assert!(!half.exists());
        assert_eq!(frames(dir.path()), [8, 3]);
    }

    #[test]
    fn what_is_written_in_parts_is_the_form_of_the_whole() {
        let dir = tempfile::tempdir().unwrap();
        for bytes in [0, 1, 127, 128, 100_000] {
            let whole = Checkpoint {
                head: vec![7; bytes],
                ..checkpoint(5)
            };
            write(dir.path(), &whole).unwrap();
            let path = dir.path().join("checkpoint/00000000000000000005.ckpt");
            assert_eq!(fs::read(path).unwrap()[HEADER..], plain::bytes(&whole));
            assert_eq!(read(dir.path(), 5).unwrap().head, whole.head);
        }
    }

    #[test]
    fn a_later_version_is_no_damage_and_what_goes_too_far_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &checkpoint(3)).unwrap();
        write(dir.path(), &checkpoint(8)).unwrap();
        let path = |frame: u64| {
            dir.path()
                .join("checkpoint")
                .join(format!("{frame:020}.ckpt"))
        };
        let mut later = fs::read(path(8)).unwrap();
        later[4..8].copy_from_slice(&2u32.to_le_bytes());
        let sum = crc(2, &later[HEADER..]);
        later[8..12].copy_from_slice(&sum.to_le_bytes());
        fs::write(path(8), &later).unwrap();
        assert!(matches!(read(dir.path(), 8), Err(ReadError::Version(_))));
        assert_eq!(write(dir.path(), &checkpoint(4)).unwrap(), 3);
        assert_eq!(frames(dir.path()), [4, 3]);
    }

    #[test]
    fn a_small_text_reads_back_and_no_flip_passes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        assert_eq!(read_summed(&path), Ok(None));
        let whole = summed("12\n345\n").into_bytes();
        fs::write(&path, &whole).unwrap();
        assert_eq!(read_summed(&path), Ok(Some("12\n345\n".to_owned())));
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &flipped).unwrap();
            assert!(read_summed(&path).is_err(), "bit {bit}");
        }
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(read_summed(&path).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("x.json")).unwrap();
        replace(
            &dir.path().join("x.json"),
            b"a file cannot replace a directory",
        )
        .unwrap_err();
        assert!(!dir.path().join("x.tmp").exists());
    }
}
