//! One watched path with all that was rotated away from it.
//!
//! A file that was renamed is read to its end before the one that took its place, and stays open for a while, because its
//! writer may still hold it. Files that came and went between two rounds are found beside it: they were written to after the
//! last one that is known, and are none of those that were read. Compressed ones are never read: their lines were.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::saved::Mark;
use super::tail::{Budget, From, Given, Identity, Tail, place};

/// Rounds without news after which a rotated file is closed: a writer that has not reopened by then never will.
const QUIET_ROUNDS_MAX: u32 = 30;

/// Most rotated files of one path that are open at a time; the oldest is closed beyond it.
const ROTATED_MAX: usize = 8;

/// Most files that are remembered as read: what logrotate keeps uncompressed, several times over.
const DONE_MAX: usize = 32;

/// Most names that are looked at in the directory of a rotated file.
const NAMES_MAX: usize = 4_096;

/// Endings of compressed files.
const COMPRESSED: [&str; 7] = [".gz", ".xz", ".bz2", ".zst", ".lz4", ".zip", ".Z"];

/// A path, and what was there before.
#[derive(Debug)]
pub(crate) struct Family {
    path: PathBuf,
    current: Option<Tail>,
    /// Oldest first.
    rotated: Vec<Tail>,
    done: VecDeque<Identity>,
    /// Where the next file at this path is read from.
    next: From,
    /// What is in the way, so that it is told once.
    trouble: Option<ErrorKind>,
}

impl Family {
    /// A path that was not watched before.
    pub(crate) fn new(path: PathBuf, from: From) -> Family {
        Family {
            path,
            current: None,
            rotated: Vec::new(),
            done: VecDeque::new(),
            next: from,
            trouble: None,
        }
    }

    /// A path with what an earlier run knew of it.
    pub(crate) fn resume(path: PathBuf, marks: &[Mark]) -> Family {
        // What came to this path meanwhile was written while no agent ran.
        let mut family = Family::new(path, From::StartOfBacklog);
        family.done = marks
            .iter()
            .filter(|m| m.is_done)
            .map(Identity::from)
            .collect();
        for mark in marks.iter().filter(|m| !m.is_done) {
            let at_path = || Tail::resume(&family.path, mark).ok().flatten();
            let beside = || {
                family
                    .beside()
                    .iter()
                    .find_map(|(path, _)| Tail::resume(path, mark).ok().flatten())
            };
            if let Some(tail) = at_path().filter(|_| !mark.is_rotated) {
                family.current = Some(tail);
            } else if let Some(tail) = beside() {
                family.rotated.push(tail);
            } else if !family.find_copy(&Identity::from(mark), mark.offset) {
                let path = family.path.display();
                tracing::warn!(%path, "a log file was removed or compressed before it was read to its end");
            }
        }
        if family.current.is_none() {
            // A chain of rotations while no agent ran.
            family.find_between(From::StartOfBacklog);
        }
        family
    }

    /// The path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether nothing of it is open any more.
    pub(crate) fn is_over(&self) -> bool {
        self.current.is_none() && self.rotated.is_empty()
    }

    /// Whether a file by this number is read here.
    pub(crate) fn reads(&self, dev: u64, ino: u64) -> bool {
        let all = self.current.iter().chain(&self.rotated);
        all.map(|tail| tail.identity).any(|i| i.is_place(dev, ino))
    }

    /// How far all of it is told.
    pub(crate) fn marks(&self, into: &mut Vec<Mark>) {
        for done in &self.done {
            into.push(Mark {
                path: self.path.to_string_lossy().into_owned(),
                is_done: true,
                ..done.mark()
            });
        }
        for tail in &self.rotated {
            into.push(Mark {
                is_rotated: true,
                ..tail.mark(&self.path)
            });
        }
        into.extend(self.current.iter().map(|tail| tail.mark(&self.path)));
    }

    /// Reads what is new. An error is given back once, until it is another one.
    pub(crate) fn round(
        &mut self,
        buffer: &mut [u8],
        budget: &mut Budget,
        each: &mut dyn FnMut(Given<'_>),
    ) -> Option<io::Error> {
        let done = self.look().and_then(|()| self.read(buffer, budget, each));
        let Err(error) = done else {
            self.trouble = None;
            return None;
        };
        let again = self.trouble.replace(error.kind()) == Some(error.kind());
        (!again).then_some(error)
    }

    /// Looks who is at the path.
    fn look(&mut self) -> io::Result<()> {
        let meta = match place(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.rotate();
                return Ok(());
            }
            found => found?,
        };
        if let Some(tail) = &mut self.current {
            if tail.identity.is_place(meta.dev(), meta.ino()) {
                if let Some((was, told)) = tail.check()? {
                    self.find_copy(&was, told);
                }
                return Ok(());
            }
            self.rotate();
        }
        // Of a file that is read already (renamed back, or a link to it) there is nothing to read twice.
        if let Some(at) = self
            .rotated
            .iter()
            .position(|t| t.identity.is_place(meta.dev(), meta.ino()))
        {
            self.current = Some(self.rotated.remove(at));
            return Ok(());
        }
        // Others may have come and gone since the path was seen empty.
        self.find_between(From::Start);
        self.current = Tail::open(&self.path, self.next)?;
        if let Some(tail) = &self.current
            && self.done.contains(&tail.identity)
        {
            // Read to its end under another name.
            self.current = None;
        }
        self.next = From::Start;
        Ok(())
    }

    /// Reads the rotated ones to their ends, then the one at the path.
    fn read(
        &mut self,
        buffer: &mut [u8],
        budget: &mut Budget,
        each: &mut dyn FnMut(Given<'_>),
    ) -> io::Result<()> {
        let (mut all_read, mut failed) = (true, None);
        for tail in &mut self.rotated {
            match tail.read(buffer, budget, each) {
                Ok(is_read) => all_read &= is_read,
                // What cannot be read is given up like one that is quiet, and holds up nobody meanwhile.
                Err(error) => {
                    tail.quiet = tail.quiet.saturating_add(1);
                    failed = failed.or(Some(error));
                }
            }
        }
        while let Some(at) = self.rotated.iter().position(|t| t.quiet > QUIET_ROUNDS_MAX) {
            self.close(at, each);
        }
        while self.rotated.len() > ROTATED_MAX && all_read {
            self.close(0, each);
        }
        if all_read && let Some(tail) = &mut self.current {
            tail.read(buffer, budget, each)?;
        }
        failed.map_or(Ok(()), Err)
    }

    fn close(&mut self, at: usize, each: &mut dyn FnMut(Given<'_>)) {
        let mut tail = self.rotated.remove(at);
        tail.end(each);
        self.done.push_back(tail.identity);
        while self.done.len() > DONE_MAX {
            self.done.pop_front();
        }
    }

    /// The file at the path is another one now.
    fn rotate(&mut self) {
        if let Some(tail) = self.current.take() {
            self.rotated.push(tail);
            self.find_between(From::Start);
        }
    }

    /// A file was emptied before it was read to its end: the copy that was made of it, if there is one.
    fn find_copy(&mut self, was: &Identity, told: u64) -> bool {
        let copy = self
            .beside()
            .iter()
            .filter(|(_, meta)| !self.reads(meta.dev(), meta.ino()))
            .find_map(|(path, _)| Tail::copy(path, was, told).ok().flatten());
        let is_found = copy.is_some();
        self.rotated.extend(copy);
        is_found
    }

    /// Files that were at the path since the last one that is known, and were renamed before anybody looked.
    fn find_between(&mut self, from: From) {
        let Some(since) = self.rotated.last().and_then(|tail| tail.modified().ok()) else {
            return;
        };
        let mut found: Vec<_> = self
            .beside()
            .into_iter()
            .filter(|(_, meta)| (meta.mtime(), meta.mtime_nsec()) >= since)
            .filter(|(_, meta)| !self.reads(meta.dev(), meta.ino()))
            .filter_map(|(path, meta)| {
                let tail = Tail::open(&path, from).ok().flatten()?;
                (!self.done.contains(&tail.identity))
                    .then_some(((meta.mtime(), meta.mtime_nsec()), tail))
            })
            .collect();
        found.sort_by_key(|(modified, _)| *modified);
        self.rotated.extend(found.into_iter().map(|(_, tail)| tail));
    }

    /// The rotated files of this path, as their names say.
    fn beside(&self) -> Vec<(PathBuf, fs::Metadata)> {
        let (Some(dir), Some(name)) = (
            self.path.parent(),
            self.path.file_name().and_then(|n| n.to_str()),
        ) else {
            return Vec::new();
        };
        let Ok(entries) = fs::read_dir(dir) else {
            return Vec::new();
        };
        let rotated = |entry: &fs::DirEntry| {
            entry
                .file_name()
                .to_str()
                .is_some_and(|other| is_rotated_from(other, name))
        };
        let files = entries.flatten().take(NAMES_MAX).filter(rotated);
        files
            .filter_map(|entry| {
                Some((
                    entry.path(),
                    place(&entry.path()).ok().filter(fs::Metadata::is_file)?,
                ))
            })
            .collect()
    }
}

/// Whether one name is that of a file rotated away from another: `syslog.1`, `app.log-20261122`, `app-2026-11-22.log`.
pub(crate) fn is_rotated_from(name: &str, of: &str) -> bool {
    if is_compressed(name) || name == of {
        return false;
    }
    let (stem, ending) = of.rsplit_once('.').unwrap_or((of, ""));
    let tail = name.strip_prefix(of).or_else(|| {
        let rest = name.strip_prefix(stem)?;
        rest.strip_suffix(ending)
            .filter(|rest| !ending.is_empty() && rest.ends_with('.'))
    });
    tail.is_some_and(|tail| {
        tail.len() > 1
            && tail.starts_with(['.', '-', '_'])
            && (tail.bytes().any(|b| b.is_ascii_digit())
                || matches!(tail, ".old" | ".prev" | ".bak"))
            && tail
                .bytes()
                .all(|b| b.is_ascii_digit() || b"-_.:Tolprevbak".contains(&b))
    })
}

/// Whether a name is that of a compressed file.
pub(crate) fn is_compressed(name: &str) -> bool {
    COMPRESSED.iter().any(|ending| name.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::tail::CHUNK_BYTES;

    #[test]
    fn a_rotated_file_that_cannot_be_read_holds_up_nobody_and_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        fs::write(&path, "one\n").unwrap();
        let mut family = Family::new(path.clone(), From::Start);
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut round = |family: &mut Family| {
            let mut budget = Budget {
                lines: 100,
                bytes: 1 << 20,
            };
            let mut lines = 0;
            let trouble = family.round(&mut buffer, &mut budget, &mut |_| lines += 1);
            (lines, trouble.is_some())
        };
        assert_eq!(round(&mut family), (1, false));
        fs::rename(&path, dir.path().join("a.log.1")).unwrap();
        assert_eq!(round(&mut family), (0, false));
        family.rotated[0].fail();
        fs::write(&path, "two\nthree\n").unwrap();
        assert_eq!(round(&mut family), (2, true), "told once");
        for _ in 0..QUIET_ROUNDS_MAX {
            assert_eq!(round(&mut family), (0, false));
        }
        assert!(family.rotated.is_empty());
    }
}
