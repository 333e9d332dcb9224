//! One open log file: who it is, how far it was read, what comes next.
//!
//! A file is known by device, inode and its **head**, the first KiB: an inode that was given to another file is seen by its
//! head, and so is a file that was copied and emptied (`copytruncate`) and filled again beyond where it was read. What was not
//! read of it by then is read from the copy; what was written between the copying and the emptying, logrotate itself loses.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use super::frame::{Framer, Raw};
use super::miner::{hash_of, mix};
use super::saved::Mark;
use super::shaper::When;

/// Bytes of the head that a file is known by.
pub(crate) const HEAD_BYTES: usize = 1_024;

/// Bytes of one read.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;

/// A file this far behind is not read in full any more: its lines are counted up to where it is near again.
const LAG_BYTES_MAX: u64 = 64 << 20;

/// So many bytes of a line cost as much to shape as a short line.
const LINE_COST_BYTES: u64 = 256;

/// What was written before the host was watched is read from this far back.
pub(crate) const LEARN_BYTES: u64 = 256 * 1024;

/// Who a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    /// Bytes of the head that the hash is over.
    pub(crate) head_bytes: u32,
    pub(crate) head_hash: u64,
}

/// What one round may still cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// Lines to shape; a long one counts for several.
    pub(crate) lines: u64,
    /// Bytes to read.
    pub(crate) bytes: u64,
}

/// What a file gives.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Given<'a> {
    /// A line.
    Line(Raw<'a>, When),
    /// A line that is only counted.
    Skipped,
}

/// A file that is read.
#[derive(Debug)]
pub(crate) struct Tail {
    file: File,
    pub(crate) identity: Identity,
    /// Bytes read.
    offset: u64,
    framer: Framer,
    /// What lies before this was written before the host was watched.
    old_until: u64,
    /// What lies before this was written while no agent ran.
    backlog_until: u64,
    /// Rounds without anything new.
    pub(crate) quiet: u32,
    seen: Option<(u64, i64, i64)>,
    skipping: bool,
}

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// At its beginning: it is new.
    Start,
    /// At its beginning, and what is in it was written while no agent ran.
    StartOfBacklog,
    /// Near its end, to learn from.
    Learn,
}

impl Tail {
    /// Opens a file. None where it is none that can be tailed: a directory, a device, a pipe.
    pub(crate) fn open(path: &Path, from: From) -> io::Result<Option<Tail>> {
        let Some((file, meta)) = open(path)? else {
            return Ok(None);
        };
        let identity = Identity::of(&file, &meta, HEAD_BYTES)?;
        let size = meta.len();
        let offset = match from {
            From::Start | From::StartOfBacklog => 0,
            From::Learn => size.saturating_sub(LEARN_BYTES),
        };
        Ok(Some(Tail {
            file,
            identity,
            offset,
            // The first line that is read may have begun before.
            framer: Framer::within(offset > 0),
            old_until: if from == From::Learn { size } else { 0 },
            backlog_until: if from == From::StartOfBacklog {
                size
            } else {
                0
            },
            quiet: 0,
            seen: None,
            skipping: false,
        }))
    }

    /// Opens a file where an earlier run stopped, if it is that file.
    pub(crate) fn resume(path: &Path, mark: &Mark) -> io::Result<Option<Tail>> {
        let Some((file, meta)) = open(path)? else {
            return Ok(None);
        };
        let known = Identity::from(mark);
        if !known.is(&file, &meta)? {
            return Ok(None);
        }
        Ok(Some(Tail {
            file,
            identity: known,
            offset: mark.offset.min(meta.len()),
            framer: Framer::within(mark.given_up),
            old_until: 0,
            backlog_until: meta.len(),
            quiet: 0,
            seen: None,
            skipping: false,
        }))
    }

    /// Opens a copy of a file that was emptied, where reading of that one stopped, if it is a copy of it.
    pub(crate) fn copy(path: &Path, of: &Identity, offset: u64) -> io::Result<Option<Tail>> {
        let Some((file, meta)) = open(path)? else {
            return Ok(None);
        };
        let (head_bytes, head_hash) = head(&file, of.head_bytes as usize)?;
        let is_copy = head_bytes > 0 && (head_bytes, head_hash) == (of.head_bytes, of.head_hash);
        if !is_copy || of.is_place(meta.dev(), meta.ino()) || meta.len() < offset {
            return Ok(None);
        }
        let identity = Identity::of(&file, &meta, HEAD_BYTES)?;
        Ok(Some(Tail {
            file,
            identity,
            offset,
            framer: Framer::default(),
            old_until: 0,
            backlog_until: 0,
            quiet: 0,
            seen: None,
            skipping: false,
        }))
    }

    /// Where the first line begins that was not handed out.
    fn told(&self) -> u64 {
        self.offset - self.framer.pending()
    }

    /// How far it is told.
    pub(crate) fn mark(&self, path: &Path) -> Mark {
        Mark {
            path: path.to_string_lossy().into_owned(),
            offset: self.told(),
            given_up: self.framer.is_given_up(),
            ..self.identity.mark()
        }
    }

    /// Looks at the file anew: whether it is still the same, from its own beginning on. A file that was emptied is begun
    /// again; who it was and how far it was told is given back, for there may be a copy of it.
    pub(crate) fn check(&mut self) -> io::Result<Option<(Identity, u64)>> {
        let meta = self.file.metadata()?;
        let now = (meta.len(), meta.mtime(), meta.mtime_nsec());
        if self.seen == Some(now) {
            return Ok(None);
        }
        self.seen = Some(now);
        let mut emptied = None;
        if !self.identity.is(&self.file, &meta)? {
            emptied = Some((self.identity, self.told()));
            self.framer = Framer::default();
            self.identity = Identity::of(&self.file, &meta, HEAD_BYTES)?;
            (self.offset, self.old_until, self.backlog_until) = (0, 0, 0);
        } else if meta.len() < self.offset {
            // The same head and shorter: its tail was cut off. What is there was read.
            self.framer = Framer::default();
            self.offset = meta.len();
        }
        if (self.identity.head_bytes as usize) < HEAD_BYTES
            && meta.len() > u64::from(self.identity.head_bytes)
        {
            self.identity = Identity::of(&self.file, &meta, HEAD_BYTES)?;
        }
        Ok(emptied)
    }

    /// Reads on, as far as the budget goes; whether the end was reached.
    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        budget: &mut Budget,
        each: &mut dyn FnMut(Given<'_>),
    ) -> io::Result<bool> {
        loop {
            let lag = self.file.metadata()?.len().saturating_sub(self.offset);
            // Behind by much: counted only, until it is near again.
            self.skipping = lag > LAG_BYTES_MAX || (self.skipping && lag > LAG_BYTES_MAX / 2);
            if budget.bytes == 0 || (budget.lines == 0 && !self.skipping) {
                return Ok(false);
            }
            let (when, until) = self.when();
            let most =
                usize::try_from((until - self.offset).min(budget.bytes)).unwrap_or(usize::MAX);
            let most = most.min(buffer.len());
            let n = match self.file.read_at(&mut buffer[..most], self.offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if n == 0 {
                self.quiet = self.quiet.saturating_add(1);
                return Ok(true);
            }
            self.quiet = 0;
            self.offset += n as u64;
            budget.bytes = budget.bytes.saturating_sub(n as u64);
            let only_counted = self.skipping && budget.lines == 0;
            self.framer.push(&buffer[..n], |raw| {
                if only_counted {
                    each(Given::Skipped);
                } else {
                    let cost = 1 + raw.bytes.len() as u64 / LINE_COST_BYTES;
                    budget.lines = budget.lines.saturating_sub(cost);
                    each(Given::Line(raw, when));
                }
            });
        }
    }

    /// Nothing more will come: the line under way is handed out.
    pub(crate) fn end(&mut self, each: &mut dyn FnMut(Given<'_>)) {
        self.framer.end(|raw| each(Given::Line(raw, When::Live)));
    }

    /// From here on nothing can be read, as on a disk that is broken.
    #[cfg(test)]
    pub(crate) fn fail(&mut self) {
        self.file = File::options().write(true).open("/dev/null").unwrap();
    }

    /// When it was written to last.
    pub(crate) fn modified(&self) -> io::Result<(i64, i64)> {
        let meta = self.file.metadata()?;
        Ok((meta.mtime(), meta.mtime_nsec()))
    }

    fn when(&self) -> (When, u64) {
        if self.offset < self.old_until {
            (When::Old, self.old_until)
        } else if self.offset < self.backlog_until {
            (When::Backlog, self.backlog_until)
        } else {
            (When::Live, u64::MAX)
        }
    }
}

impl Identity {
    fn of(file: &File, meta: &Metadata, most: usize) -> io::Result<Identity> {
        let (head_bytes, head_hash) = head(file, most)?;
        Ok(Identity {
            dev: meta.dev(),
            ino: meta.ino(),
            head_bytes,
            head_hash,
        })
    }

    /// Whether a file is this one.
    fn is(&self, file: &File, meta: &Metadata) -> io::Result<bool> {
        if (meta.dev(), meta.ino()) != (self.dev, self.ino) {
            return Ok(false);
        }
        let now = Identity::of(file, meta, self.head_bytes as usize)?;
        Ok(now == *self)
    }

    /// Whether two are one file as far as its number says.
    pub(crate) fn is_place(&self, dev: u64, ino: u64) -> bool {
        (self.dev, self.ino) == (dev, ino)
    }

    /// A mark with this identity.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            dev: self.dev,
            ino: self.ino,
            head_bytes: self.head_bytes,
            head_hash: self.head_hash,
            ..Mark::default()
        }
    }

    /// Who a mark speaks of.
    pub(crate) fn from(mark: &Mark) -> Identity {
        Identity {
            dev: mark.dev,
            ino: mark.ino,
            head_bytes: mark
                .head_bytes
                .min(u32::try_from(HEAD_BYTES).unwrap_or(u32::MAX)),
            head_hash: mark.head_hash,
        }
    }
}

/// Who is at a path, by number alone, and when it was written to.
pub(crate) fn place(path: &Path) -> io::Result<Metadata> {
    std::fs::metadata(path)
}

/// Opens what can be tailed. Never waits: what is at the path may be a pipe by now.
fn open(path: &Path) -> io::Result<Option<(File, Metadata)>> {
    use std::os::unix::fs::OpenOptionsExt as _;
    if !std::fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let file = File::options()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
        .open(path)?;
    let meta = file.metadata()?;
    Ok(meta.is_file().then_some((file, meta)))
}

fn head(file: &File, most: usize) -> io::Result<(u32, u64)> {
    let (mut bytes, mut n) = ([0; HEAD_BYTES], 0);
    let most = most.min(HEAD_BYTES);
    while n < most {
        match file.read_at(&mut bytes[n..most], n as u64) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((
        u32::try_from(n).unwrap_or(0),
        mix(hash_of(b"head"), &bytes[..n]),
    ))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn read(tail: &mut Tail, lines: u64) -> (bool, u64, u64) {
        let mut budget = Budget {
            lines,
            bytes: 256 << 20,
        };
        let (mut shaped, mut skipped) = (0, 0);
        let mut buffer = vec![0; CHUNK_BYTES];
        let at_end = tail.read(&mut buffer, &mut budget, &mut |given| match given {
            Given::Line(..) => shaped += 1,
            Given::Skipped => skipped += 1,
        });
        (at_end.unwrap(), shaped, skipped)
    }

    #[test]
    fn a_flood_is_counted_to_the_line_and_a_burst_is_read_in_full() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        std::fs::write(&path, "").unwrap();
        let mut tail = Tail::open(&path, From::Start).unwrap().unwrap();
        let line = format!("{} flood\n", "y".repeat(1_017));
        let mut file = File::options().append(true).open(&path).unwrap();
        // More than a reader may be behind: 90 MiB.
        let flood: u64 = 90 << 10;
        file.write_all(line.repeat(usize::try_from(flood).unwrap()).as_bytes())
            .unwrap();
        let (at_end, shaped, skipped) = read(&mut tail, 5_000);
        assert!(!at_end && (1_250..=1_350).contains(&shaped), "{shaped}");
        // Up to half of what it may be behind, which is read in full at its own pace.
        assert!(
            skipped.abs_diff(flood - shaped - (32 << 10)) < 200,
            "{skipped}"
        );
        let (mut all, mut rounds) = (shaped + skipped, 0);
        loop {
            let (at_end, shaped, skipped) = read(&mut tail, 50_000);
            assert_eq!(skipped, 0);
            (all, rounds) = (all + shaped, rounds + 1);
            if at_end {
                break;
            }
        }
        assert_eq!((all, rounds > 2), (flood, true));
    }

    #[test]
    fn a_file_is_known_again_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        std::fs::write(&path, "one\ntwo\n").unwrap();
        let mut tail = Tail::open(&path, From::Start).unwrap().unwrap();
        assert_eq!(read(&mut tail, 10).1, 2);
        assert_eq!(tail.check().unwrap(), None);
        let mark = tail.mark(&path);
        assert_eq!(mark.offset, 8);
        // More of the same file.
        std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
        let mut again = Tail::resume(&path, &mark).unwrap().unwrap();
        assert_eq!(read(&mut again, 10).1, 1);
        // Emptied and filled beyond where it was read, in the same inode.
        std::fs::write(&path, "other\nlines\nhere\n").unwrap();
        assert!(Tail::resume(&path, &mark).unwrap().is_none());
        assert_eq!(again.check().unwrap().map(|(_, told)| told), Some(14));
        assert_eq!(read(&mut again, 10).1, 3);
        // Its tail cut off: what is there was read.
        std::fs::write(&path, "other\nlines\nhere\n".get(..6).unwrap()).unwrap();
        assert!(again.check().unwrap().is_some());
    }
}
