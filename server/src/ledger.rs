//! What happened and who did what: one group's effects are one frame, synced before any effect leaves, hash-chained. More than
//! a frame holds becomes several; only the last of them says that the group is dealt with, so that after a crash between them
//! all of it is written and carried out again.
//!
//! Frame payload: version u8, the SHA-256 of the frame before (32 bytes), then the postcard form of [`Frame`]. The chain's
//! head is the SHA-256 of the last payload; each sealed review prints it, so a ledger changed afterwards shows.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use dawnwatch_engine::Effect;
use dawnwatch_segment::{Disk, Log, Options, Read, Reader};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::plain;

/// Ledger segments: a ledger grows for ever, slowly. Their space is reserved: what is journalled before the disk is full can
/// still be carried out.
pub(crate) const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

/// Effects of one group that take more than this are split: far below what a frame holds, so that one more review fits.
const FRAME_BYTES: usize = 4 * 1024 * 1024;

/// Version of the frame payload.
pub(crate) const VERSION: u8 = 1;

/// Length of a SHA-256.
const HASH: usize = 32;

/// Why the ledger cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log below.
    #[error(transparent)]
    Log(#[from] dawnwatch_segment::Error),
    /// A frame that passed its checksum and still makes no sense.
    #[error(
        "ledger frame {frame} cannot be read ({why}); it was written by another version of dawnwatch-server"
    )]
    Frame {
        /// The frame's position.
        frame: u64,
        /// What is wrong.
        why: String,
    },
}

/// What one group of inputs led to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// Journal position of the last input of the group: effects at or below it are never carried out again.
    pub position: u64,
    /// The server's wall clock.
    pub wall: Timestamp,
    /// The effects, in order.
    pub effects: Vec<Effect>,
}

/// The open ledger.
#[derive(Debug)]
pub struct Ledger {
    log: Log,
    head: [u8; HASH],
    position: u64,
}

impl Ledger {
    /// Opens the ledger of a data directory and finds its head.
    ///
    /// # Errors
    /// Where the log cannot be opened or its last frame was written by another version.
    pub fn open(disk: &Arc<dyn Disk>, data: &Path) -> Result<Ledger, Error> {
        let dir = data.join("ledger");
        let (log, recovery) = Log::open(Arc::clone(disk), &dir, options())?;
        if let Some(cut) = recovery.cut {
            tracing::info!(bytes = cut.bytes, "torn tail of the ledger cut off");
        }
        let from = log
            .segments()
            .iter()
            .rev()
            .map(|s| s.first_position)
            .find(|first| *first < log.next_position());
        let mut ledger = Ledger {
            log,
            head: [0; HASH],
            position: 0,
        };
        for read in Reader::open(Arc::clone(disk), &dir, *b"LEDG", from.unwrap_or(1))? {
            if let Read::Frame { position, payload } = read? {
                ledger.position = decode(position, &payload)?.1.position;
                ledger.head = hash(&payload);
            }
        }
        Ok(ledger)
    }

    /// Appends the effects of a group and syncs: at return they are durable.
    ///
    /// # Errors
    /// Where the disk is full or failed: no effect may leave.
    pub fn append(&mut self, frame: &Frame) -> Result<(), Error> {
        let mut head = self.head;
        let payloads: Vec<Vec<u8>> = split(frame, self.position)
            .iter()
            .map(|part| {
                let mut payload = vec![VERSION];
                payload.extend_from_slice(&head);
                let payload = plain::bytes_after(payload, &**part);
                head = hash(&payload);
                payload
            })
            .collect();
        if let Err(error) = self.log.append_many(&payloads) {
            self.log.heal()?;
            return Err(error.into());
        }
        self.log.sync()?;
        self.head = head;
        self.position = frame.position;
        Ok(())
    }

    /// The journal position up to which all effects are in the ledger.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The last frame; 0 where there is none.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.log.next_position() - 1
    }

    /// The head of the hash chain, hex.
    #[must_use]
    pub fn head(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.head)
    }
}

/// Reads the whole ledger, checking the chain: a frame whose hash does not follow is an error. Returns how many there are.
///
/// # Errors
/// As [`walk`].
pub fn verify(disk: &Arc<dyn Disk>, data: &Path) -> Result<u64, Error> {
    let mut frames = 0;
    walk(disk, data, |_| frames += 1)?;
    Ok(frames)
}

/// What stands for the frame before the first.
pub(crate) const START: [u8; HASH] = [0; HASH];

/// A frame as `verify` sees it.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The hash of the frame before, as it says.
    pub(crate) before: [u8; HASH],
    /// Its own hash.
    pub(crate) head: [u8; HASH],
    /// What it says.
    pub(crate) frame: Frame,
}

/// Opens the payload of a frame.
pub(crate) fn open_frame(position: u64, payload: &[u8]) -> Result<Opened, Error> {
    let (before, frame) = decode(position, payload)?;
    Ok(Opened {
        before,
        head: hash(payload),
        frame,
    })
}

/// Shows every frame of a ledger in order, checking the chain.
///
/// # Errors
/// Where the log cannot be read, is damaged, or a frame's hash does not follow.
pub fn walk(disk: &Arc<dyn Disk>, data: &Path, mut see: impl FnMut(Frame)) -> Result<(), Error> {
    let mut head = [0; HASH];
    for read in Reader::open(Arc::clone(disk), &data.join("ledger"), *b"LEDG", 1)? {
        match read? {
            Read::Frame {
                position: frame,
                payload,
            } => {
                let (before, decoded) = decode(frame, &payload)?;
                if before != head {
                    let why = "the hash chain is broken before it".to_owned();
                    return Err(Error::Frame { frame, why });
                }
                head = hash(&payload);
                see(decoded);
            }
            Read::Damage { from_position, .. } => {
                let why = "damaged on disk".to_owned();
                return Err(Error::Frame {
                    frame: from_position,
                    why,
                });
            }
        }
    }
    Ok(())
}

/// A frame and where it stands.
#[derive(Debug)]
pub struct Seen {
    /// Its position in the ledger.
    pub frame: u64,
    /// What it says.
    pub of: Frame,
}

/// Shows the frames `from` to `until` of a ledger that may still be growing behind them. What is damaged is passed over and
/// logged: [`verify`] is who judges a ledger.
///
/// # Errors
/// Where the log cannot be read, or `see` says so.
pub fn walk_from<E: From<Error>>(
    disk: &Arc<dyn Disk>,
    data: &Path,
    from: u64,
    until: u64,
    mut see: impl FnMut(Seen) -> Result<(), E>,
) -> Result<(), E> {
    let reader = Reader::open(Arc::clone(disk), &data.join("ledger"), *b"LEDG", from);
    for read in reader.map_err(Error::from)? {
        match read.map_err(Error::from)? {
            Read::Frame { position, .. } if position > until => break,
            Read::Frame { position, payload } => match decode(position, &payload) {
                Ok((_, of)) => see(Seen {
                    frame: position,
                    of,
                })?,
                Err(error) => tracing::warn!(%error, "ledger frame passed over"),
            },
            Read::Damage { from_position, .. } if from_position > until => break,
            Read::Damage {
                from_position,
                bytes,
                ..
            } => tracing::warn!(from_position, bytes, "damage in the ledger passed over"),
        }
    }
    Ok(())
}

/// The frame, or parts of it that fit; all but the last stand at the position before it.
fn split(frame: &Frame, before: u64) -> Vec<Cow<'_, Frame>> {
    let sizes: Vec<usize> = frame
        .effects
        .iter()
        .map(|e| plain::bytes(e).len())
        .collect();
    if sizes.iter().sum::<usize>() <= FRAME_BYTES {
        return vec![Cow::Borrowed(frame)];
    }
    let mut parts = vec![Vec::new()];
    let mut bytes = 0;
    for (effect, size) in frame.effects.iter().zip(sizes) {
        if bytes + size > FRAME_BYTES && bytes > 0 {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        parts
            .last_mut()
            .expect("there is one from the start on")
            .push(effect.clone());
    }
    let last = parts.len() - 1;
    let part = |(i, effects)| {
        let position = if i == last { frame.position } else { before };
        Cow::Owned(Frame {
            position,
            wall: frame.wall,
            effects,
        })
    };
    parts.into_iter().enumerate().map(part).collect()
}

fn options() -> Options {
    Options {
        kind: *b"LEDG",
        segment_bytes: SEGMENT_BYTES,
        preallocate: true,
        header_note: Vec::new(),
    }
}

fn decode(position: u64, payload: &[u8]) -> Result<([u8; HASH], Frame), Error> {
    let broken = |why: String| Error::Frame {
        frame: position,
        why,
    };
    let Some((version, rest)) = payload.split_first() else {
        return Err(broken("empty".to_owned()));
    };
    if *version != VERSION {
        return Err(broken(format!(
            "version {version}, this build reads {VERSION}"
        )));
    }
    let Some((before, body)) = rest.split_first_chunk::<HASH>() else {
        return Err(broken("too short".to_owned()));
    };
    let frame = postcard::from_bytes(body).map_err(|e| broken(e.to_string()))?;
    Ok((*before, frame))
}

fn hash(payload: &[u8]) -> [u8; HASH] {
    let mut out = [0; HASH];
    out.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, payload).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use dawnwatch_engine::Entry;
    use dawnwatch_segment::RealDisk;

    fn frame(position: u64) -> Frame {
        let effects = vec![Effect::Record(Entry::Server {
            what: format!("event {position}"),
        })];
        Frame {
            position,
            wall: Timestamp::UNIX_EPOCH,
            effects,
        }
    }

    #[test]
    fn the_chain_goes_on_over_a_restart_and_shows_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let mut ledger = Ledger::open(&disk, dir.path()).unwrap();
        ledger.append(&frame(3)).unwrap();
        ledger.append(&frame(9)).unwrap();
        let head = ledger.head();
        drop(ledger);
        let mut ledger = Ledger::open(&disk, dir.path()).unwrap();
        assert_eq!((ledger.position(), ledger.head()), (9, head));
        ledger.append(&frame(10)).unwrap();
        drop(ledger);
        assert_eq!(verify(&disk, dir.path()).unwrap(), 3);

        // Somebody rewrites history with a valid checksum: the frame itself reads well, the chain does not.
        let other = tempfile::tempdir().unwrap();
        let mut forged = Ledger::open(&disk, other.path()).unwrap();
        forged.append(&frame(4)).unwrap();
        forged.head = ledger_head_after(&disk, dir.path(), 1);
        forged.append(&frame(9)).unwrap();
        assert!(
            verify(&disk, other.path())
                .unwrap_err()
                .to_string()
                .contains("hash chain")
        );
    }

    #[test]
    fn a_storm_is_split_and_half_of_it_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let mut ledger = Ledger::open(&disk, dir.path()).unwrap();
        ledger.append(&frame(3)).unwrap();
        let one = Effect::Record(Entry::Server {
            what: "x".repeat(64 * 1024),
        });
        let storm = Frame {
            position: 9,
            wall: Timestamp::UNIX_EPOCH,
            effects: vec![one; 400],
        };
        ledger.append(&storm).unwrap();
        assert_eq!(ledger.position(), 9);
        drop(ledger);
        let mut seen = Vec::new();
        walk(&disk, dir.path(), |f| {
            seen.push((f.position, f.effects.len()))
        })
        .unwrap();
        let effects: usize = seen.iter().map(|(_, effects)| effects).sum();
        assert_eq!((seen[0].0, seen.last().unwrap().0, effects), (3, 9, 401));
        assert!(seen.len() > 5 && seen[1..seen.len() - 1].iter().all(|(at, _)| *at == 3));

        // A crash before the last part: the position is the one before, so all of it is done again.
        let torn = dir.path().join("ledger");
        let last = std::fs::read_dir(&torn)
            .unwrap()
            .map(|e| e.unwrap().path())
            .max()
            .unwrap();
        let file = std::fs::File::options().write(true).open(&last).unwrap();
        let end = Log::open(Arc::clone(&disk), &torn, options())
            .unwrap()
            .0
            .segments()
            .last()
            .unwrap()
            .bytes;
        file.set_len(end - 1).unwrap();
        assert_eq!(Ledger::open(&disk, dir.path()).unwrap().position(), 3);
    }

    fn ledger_head_after(disk: &Arc<dyn Disk>, data: &Path, frames: usize) -> [u8; HASH] {
        let reader = Reader::open(Arc::clone(disk), &data.join("ledger"), *b"LEDG", 1).unwrap();
        let Read::Frame { payload, .. } = reader.into_iter().nth(frames - 1).unwrap().unwrap()
        else {
            panic!("damage in a fresh ledger")
        };
        hash(&payload)
    }
}
