//! How far the logs were read, on disk: `logs/cursor.0` to `logs/cursor.2` in the state directory.
//!
//! A cursor is written just before the events that it stands behind go into the spool, and says at which position of the
//! spool the last of them will lie. At the next start the newest cursor counts whose position the spool reached. So after a
//! kill -9 each line is told once: either the spool has its events and the cursor counts, or neither; one that does not count is
//! removed, for the spool soon passes its position with other items. Three files, so that
//! the one that is written is never the one that counts, nor the one that a power cut would leave (the spool syncs every
//! 30 s): after a power cut, lines of up to two minutes may be told twice, and none is missed.
//!
//! | bytes | meaning |
//! |---|---|
//! | 4 | `"DWLC"` |
//! | 1 | version, [`VERSION`] |
//! | 8 | first bytes of SHA-256 over the rest |
//! | rest | protobuf: [`Cursor`] |

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use prost::Message;
use ring::digest::{SHA256, digest};

use super::severity::INFO;
use super::shaper::Counts;

const MAGIC: &[u8; 4] = b"DWLC";
const VERSION: u8 = 1;
const DIGEST_BYTES: usize = 8;

/// Files of the ring.
pub(crate) const SLOTS: usize = 3;

/// Longest cursor that is read: all files and all shapes counted come to a tenth of it.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Everything that a restart needs to go on where the last run ended.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Cursor {
    /// Counts up with every cursor that is written.
    #[prost(uint64, tag = "1")]
    pub(crate) serial: u64,
    /// Position in the spool of the last event that this cursor stands behind.
    #[prost(uint64, tag = "2")]
    pub(crate) position: u64,
    /// Files, current and rotated.
    #[prost(message, repeated, tag = "3")]
    pub(crate) marks: Vec<Mark>,
    /// The journal's own cursor; empty for none.
    #[prost(string, tag = "4")]
    pub(crate) journal: String,
    /// Records of the log of shapes that were told.
    #[prost(uint64, tag = "5")]
    pub(crate) told: u64,
    /// Counts of the span under way.
    #[prost(message, repeated, tag = "6")]
    pub(crate) counts: Vec<Count>,
    /// See `LogCounts`.
    #[prost(uint64, tag = "7")]
    pub(crate) lines_cut: u64,
    /// See `LogCounts`.
    #[prost(uint64, tag = "8")]
    pub(crate) lines_skipped: u64,
    /// See `LogCounts`.
    #[prost(uint64, tag = "9")]
    pub(crate) backlog: u64,
    /// When new files were looked for last, Unix milliseconds.
    #[prost(int64, tag = "10")]
    pub(crate) looked_ms: i64,
}

impl Cursor {
    /// The counts of the span that the last run did not end.
    pub(crate) fn restore(&self, counts: &mut Counts) {
        for count in &self.counts {
            let severity = u8::try_from(count.severity).unwrap_or(INFO);
            counts
                .shapes
                .insert(count.template, (count.count, severity));
        }
        counts.lines_cut = self.lines_cut;
        counts.lines_skipped = self.lines_skipped;
        counts.backlog = self.backlog;
    }
}

/// How far a file was read.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Mark {
    /// The path that is watched.
    #[prost(string, tag = "1")]
    pub(crate) path: String,
    /// Device.
    #[prost(uint64, tag = "2")]
    pub(crate) dev: u64,
    /// Inode.
    #[prost(uint64, tag = "3")]
    pub(crate) ino: u64,
    /// Bytes of the head that the hash is over, at most 1,024.
    #[prost(uint32, tag = "4")]
    pub(crate) head_bytes: u32,
    /// Hash of the head.
    #[prost(fixed64, tag = "5")]
    pub(crate) head_hash: u64,
    /// Where the first line begins that is not told.
    #[prost(uint64, tag = "6")]
    pub(crate) offset: u64,
    /// The offset lies within a line that was told already.
    #[prost(bool, tag = "7")]
    pub(crate) given_up: bool,
    /// It was rotated away and is read to its end.
    #[prost(bool, tag = "8")]
    pub(crate) is_rotated: bool,
    /// It was read to its end and is not read again.
    #[prost(bool, tag = "9")]
    pub(crate) is_done: bool,
}

/// Lines of one shape.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Count {
    #[prost(uint32, tag = "1")]
    pub(crate) template: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) count: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) severity: u32,
}

/// The three files, and which of them must stay.
#[derive(Debug)]
pub(crate) struct Ring {
    dir: PathBuf,
    serial: u64,
    /// The one that counts.
    committed: Option<usize>,
    /// The newest that a power cut leaves.
    durable: Option<usize>,
}

/// A cursor to be written, with the place for it.
#[derive(Debug)]
pub(crate) struct Slot {
    path: PathBuf,
    at: usize,
    cursor: Cursor,
}

impl Slot {
    /// Writes the cursor as standing behind this position. Not synced.
    pub(crate) fn write(&mut self, position: u64) -> io::Result<()> {
        self.cursor.position = position;
        fs::write(&self.path, encode(&self.cursor))
    }

    /// The position that it was written with.
    pub(crate) fn position(&self) -> u64 {
        self.cursor.position
    }

    /// Takes it back: the spool did not take the events.
    pub(crate) fn remove(&self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

impl Ring {
    /// Opens the ring of a directory; the cursor that counts, given the position that the spool had when it was opened.
    pub(crate) fn open(dir: &Path, spool: u64) -> (Ring, Option<Cursor>) {
        let mut cursors: Vec<(usize, Cursor)> = (0..SLOTS)
            .filter_map(|at| match load(&slot(dir, at)) {
                Ok(cursor) => Some((at, cursor)),
                Err(error) => {
                    if error.kind() != io::ErrorKind::NotFound {
                        tracing::warn!(%error, "a cursor of the logs cannot be read");
                    }
                    None
                }
            })
            .collect();
        cursors.sort_by_key(|(_, cursor)| cursor.serial);
        let serial = cursors.last().map_or(0, |(_, cursor)| cursor.serial);
        // Where the spool was taken away, the oldest cursor loses nothing.
        let reached = cursors
            .iter()
            .rposition(|(_, cursor)| cursor.position <= spool);
        let found = (!cursors.is_empty()).then(|| cursors.remove(reached.unwrap_or(0)));
        // What others did not reach by now, the spool's own items soon do: such a cursor would count for events that never were.
        for (at, _) in cursors.iter().filter(|(_, c)| c.position > spool) {
            if let Err(error) = fs::remove_file(slot(dir, *at)) {
                tracing::warn!(%error, "a cursor that does not count cannot be removed");
            }
        }
        let committed = found.as_ref().map(|(at, _)| *at);
        // A kill may have come before it was synced: then a power cut would not leave it.
        let durable = committed.filter(|at| {
            let synced = File::open(slot(dir, *at)).and_then(|file| file.sync_data());
            synced.is_ok()
        });
        let ring = Ring {
            dir: dir.to_owned(),
            serial,
            committed,
            durable,
        };
        (ring, found.map(|(_, cursor)| cursor))
    }

    /// The place for the next cursor.
    pub(crate) fn next(&mut self, mut cursor: Cursor) -> Slot {
        self.serial += 1;
        cursor.serial = self.serial;
        let at = (0..SLOTS)
            .find(|at| Some(*at) != self.committed && Some(*at) != self.durable)
            .unwrap_or(0);
        Slot {
            path: slot(&self.dir, at),
            at,
            cursor,
        }
    }

    /// The spool has what this cursor stands behind.
    pub(crate) fn committed(&mut self, slot: &Slot) {
        self.committed = Some(slot.at);
    }

    /// Everything up to the cursor that counts is on the disk for good: makes the cursor so too.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        if let Some(at) = self.committed.filter(|at| Some(*at) != self.durable) {
            File::open(slot(&self.dir, at))?.sync_data()?;
            self.durable = Some(at);
        }
        Ok(())
    }
}

fn slot(dir: &Path, at: usize) -> PathBuf {
    dir.join(format!("cursor.{at}"))
}

fn encode(cursor: &Cursor) -> Vec<u8> {
    let rest = cursor.encode_to_vec();
    let mut out = Vec::with_capacity(rest.len() + 16);
    out.extend_from_slice(MAGIC);
    out.push(VERSION);
    out.extend_from_slice(&digest(&SHA256, &rest).as_ref()[..DIGEST_BYTES]);
    out.extend_from_slice(&rest);
    out
}

fn load(path: &Path) -> io::Result<Cursor> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)?;
    decode(&bytes).map_err(|why| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{}: {why}", path.display()),
        )
    })
}

fn decode(bytes: &[u8]) -> Result<Cursor, &'static str> {
    let rest = bytes.strip_prefix(MAGIC).ok_or("is no cursor")?;
    let (version, rest) = rest.split_first().ok_or("is cut short")?;
    if *version != VERSION {
        return Err("is of another version");
    }
    let (sum, rest) = rest.split_at_checked(DIGEST_BYTES).ok_or("is cut short")?;
    if &digest(&SHA256, rest).as_ref()[..DIGEST_BYTES] != sum {
        return Err("is damaged");
    }
    Cursor::decode(rest).map_err(|_| "is damaged")
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;

    fn cursor(journal: &str) -> Cursor {
        Cursor {
            journal: journal.to_owned(),
            ..Cursor::default()
        }
    }

    fn commit(ring: &mut Ring, journal: &str, position: u64) {
        let mut slot = ring.next(cursor(journal));
        slot.write(position).unwrap();
        ring.committed(&slot);
    }

    #[test]
    fn the_cursor_counts_that_the_spool_reached() {
        let dir = tempfile::tempdir().unwrap();
        let open = |spool| Ring::open(dir.path(), spool);
        let (mut ring, none) = open(0);
        assert_eq!(none, None);
        commit(&mut ring, "a", 10);
        ring.settle().unwrap();
        commit(&mut ring, "b", 20);
        commit(&mut ring, "c", 30);
        // Written, and killed before the spool had its events.
        ring.next(cursor("d")).write(40).unwrap();
        for (spool, want) in [
            (40, "d"),
            (39, "c"),
            (30, "c"),
            (29, "a"),
            (10, "a"),
            (3, "a"),
        ] {
            assert_eq!(open(spool).1.unwrap().journal, want, "spool at {spool}");
        }
        // What never counted does not begin to when the spool has gone on by itself.
        assert_eq!(open(50).1.unwrap().journal, "a");
    }

    #[test]
    fn damage_is_no_cursor() {
        let dir = tempfile::tempdir().unwrap();
        let (mut ring, _) = Ring::open(dir.path(), 0);
        commit(&mut ring, "a", 1);
        commit(&mut ring, "b", 2);
        let path = dir.path().join("cursor.1");
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(decode(&bad).is_err(), "byte {at}");
            assert!(decode(&good[..at]).is_err(), "cut at {at}");
        }
        fs::write(&path, b"").unwrap();
        assert_eq!(Ring::open(dir.path(), 9).1.unwrap().journal, "a");
    }

    #[test]
    fn the_form_is_the_documented_one() {
        let cursor = Cursor {
            serial: 3,
            position: 9,
            marks: vec![Mark {
                path: "/var/log/syslog".to_owned(),
                dev: 64,
                ino: 77,
                head_bytes: 1_024,
                head_hash: 0x0102_0304_0506_0708,
                offset: 4_096,
                given_up: true,
                is_rotated: true,
                is_done: true,
            }],
            journal: "s=1;i=2".to_owned(),
            told: 2,
            counts: vec![Count {
                template: 5,
                count: 6,
                severity: 4,
            }],
            lines_cut: 1,
            lines_skipped: 2,
            backlog: 3,
            looked_ms: 1_790_000_000_000,
        };
        let golden = "44574c4301095264a46360d338080310091a2a0a0f2f7661722f6c6f672f7379736c6f671040184d2080082908070605040302013080203801400148012207733d313b693d32280232060805100618043801400248035080d8c1a28c34";
        assert_eq!(HEXLOWER.encode(&encode(&cursor)), golden);
        let bytes = HEXLOWER.decode(golden.as_bytes()).unwrap();
        assert_eq!(bytes[..5], *b"DWLC\x01");
        assert_eq!(decode(&bytes).unwrap(), cursor);
    }
}
