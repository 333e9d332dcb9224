//! Room on the disk for the time when there is none: the file `reserve` in the data directory, given back when the disk is full.
//!
//! | state | the file | meaning |
//! |---|---|---|
//! | held | as long as what is reserved | nothing is wrong |
//! | given back | empty | the disk was full: what streams bring is refused, everything else goes on in the room that this made |
//! | none | not there | there was never enough room for one, or the file system reserves none: a full disk holds everything up |
//!
//! The room is taken again once that leaves 16 MiB free. Agents keep in their spools what was refused.

use std::fs::{self, Metadata, OpenOptions};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate, statvfs};
use rustix::io::{Errno, retry_on_intr};

/// The file.
pub const FILE: &str = "reserve";

/// Judging a thousand hosts by their heartbeats writes some 50 MB between two checkpoints, which free it again; the ledger of
/// a bad night is some MB.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// On a small disk not more than this part of it.
const PART: u64 = 4;

/// Less is not worth it: not even a segment of the journal finds room.
const BYTES_MIN: u64 = 20 * 1024 * 1024;

/// What must stay free beside it before streams are taken in again: a segment of the journal, so that it does not end at once.
const MARGIN_BYTES: u64 = 16 * 1024 * 1024;

/// At a start with less room than this it is given back: recovery writes a little.
const START_BYTES_MIN: u64 = 2 * 1024 * 1024;

/// Between two looks whether there is room again.
const LOOK_EVERY_MS: u64 = 1_000;

/// The reserved room. Shared by who writes and who tells of it.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    /// Whether it was given back.
    given: AtomicBool,
    /// How much there is to give; 0 where there is none.
    held: AtomicU64,
    looked_ms: AtomicU64,
    /// Giving and taking never meet.
    file: Mutex<()>,
}

impl Reserve {
    /// Finds or makes it in a data directory. Never fails: without it a server does what it can.
    #[must_use]
    pub fn open(data: &Path) -> Reserve {
        let path = data.join(FILE);
        let file = fs::metadata(&path).ok();
        let length = file.as_ref().map(Metadata::len);
        // A copy of it may have its length and no room behind.
        let held = file
            .filter(|file| file.blocks().saturating_mul(512) >= file.len())
            .map_or(0, |file| file.len());
        let reserve = Reserve {
            given: AtomicBool::new(length == Some(0)),
            held: AtomicU64::new(held),
            looked_ms: AtomicU64::new(0),
            file: Mutex::new(()),
            path,
        };
        let free = reserve.room().map_or(u64::MAX, |(free, _)| free);
        if held == 0 {
            reserve.take();
        } else if free < START_BYTES_MIN {
            reserve.give();
        }
        reserve
    }

    /// One that has nothing to give and refuses nobody.
    #[must_use]
    pub fn none() -> Reserve {
        Reserve {
            path: PathBuf::new(),
            given: AtomicBool::new(false),
            held: AtomicU64::new(0),
            looked_ms: AtomicU64::new(0),
            file: Mutex::new(()),
        }
    }

    /// Whether the disk was full and there is not enough room yet: what streams bring is not taken in.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.given.load(Ordering::Relaxed)
    }

    /// How many bytes must be free before streams are taken in again.
    #[must_use]
    pub fn wanted_bytes(&self) -> u64 {
        let size = self.room().map_or(BYTES_MAX, |(_, size)| reserved(size));
        size + MARGIN_BYTES
    }

    /// Gives the room back, because a write met a full disk. True where that made room: write again.
    pub fn give(&self) -> bool {
        let _alone = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if self.held.swap(0, Ordering::Relaxed) == 0 {
            return false;
        }
        let emptied = OpenOptions::new()
            .write(true)
            .open(&self.path)
            .and_then(|file| file.set_len(0));
        match emptied {
            Ok(()) => {
                self.given.store(true, Ordering::Relaxed);
                tracing::error!(
                    "disk full: agents keep what they measure; judging and messages go on in reserved room"
                );
                true
            }
            Err(error) => {
                tracing::error!(%error, path = %self.path.display(), "reserved room could not be given back");
                false
            }
        }
    }

    /// Takes the room again where there is enough; looks at most once a second. Called by who would refuse.
    pub fn look(&self, now_ms: u64) {
        if !self.is_given() {
            return;
        }
        let due = self.looked_ms.load(Ordering::Relaxed) + LOOK_EVERY_MS;
        if now_ms >= due {
            self.looked_ms.store(now_ms, Ordering::Relaxed);
            self.take();
        }
    }

    fn take(&self) {
        let _alone = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((free, size)) = self.room() else {
            return;
        };
        let bytes = reserved(size);
        if bytes < BYTES_MIN || free < bytes + MARGIN_BYTES {
            return;
        }
        match self.allocate(bytes) {
            Ok(()) => {
                self.held.store(bytes, Ordering::Relaxed);
                if self.given.swap(false, Ordering::Relaxed) {
                    tracing::info!("there is room on the disk again, agents are told to go on");
                }
            }
            // Others write too: it may have become less.
            Err(Errno::NOTSUP | Errno::NOSYS) => self.cannot(),
            Err(error) => tracing::debug!(%error, "reserved room could not be taken"),
        }
    }

    /// This file system reserves nothing (ext2 and ext3, NFS before 4.2): nobody may be refused for want of what can never be.
    fn cannot(&self) {
        self.given.store(false, Ordering::Relaxed);
        tracing::warn!(
            path = %self.path.display(),
            "no room reserved, this file system cannot: should the disk be full, judging waits and messages with it"
        );
    }

    fn allocate(&self, bytes: u64) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        let file = rustix::fs::open(&self.path, flags, Mode::RUSR | Mode::WUSR)?;
        match retry_on_intr(|| fallocate(&file, FallocateFlags::empty(), 0, bytes)) {
            Ok(()) => rustix::fs::fsync(&file),
            // A part of it would be taken for the whole, and an empty file says that it was given back.
            Err(error) if self.is_given() && error != Errno::NOTSUP && error != Errno::NOSYS => {
                rustix::fs::ftruncate(&file, 0)?;
                Err(error)
            }
            Err(error) => {
                rustix::fs::unlink(&self.path)?;
                Err(error)
            }
        }
    }

    /// Bytes that are free for this process, and bytes of the whole.
    fn room(&self) -> Option<(u64, u64)> {
        let stat = statvfs(self.path.parent()?).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Some((bytes(stat.f_bavail), bytes(stat.f_blocks)))
    }
}

/// How much is reserved on a disk of this size.
fn reserved(size: u64) -> u64 {
    (size / PART).min(BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_given_once_and_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::open(dir.path());
        let length = || fs::metadata(dir.path().join(FILE)).unwrap().len();
        let whole = length();
        assert!((BYTES_MIN..=BYTES_MAX).contains(&whole), "{whole}");
        assert!(!reserve.is_given());
        assert!(reserve.give(), "there is room to give");
        assert!(reserve.is_given());
        assert_eq!(length(), 0);
        assert!(!reserve.give(), "only once");
        assert!(Reserve::open(dir.path()).wanted_bytes() > whole);

        // A start finds it as it was left, and takes it again where there is room.
        fs::write(dir.path().join(FILE), b"").unwrap();
        let reserve = Reserve::open(dir.path());
        assert!(!reserve.is_given());
        assert_eq!(length(), whole);
        assert!(reserve.give());
        reserve.look(10_000);
        assert!(!reserve.is_given());
        assert_eq!(length(), whole);
    }

    /// Files of `/proc` cannot be reserved for, as those of ext3 cannot; an earlier server left an empty one there.
    #[test]
    fn where_nothing_can_be_reserved_nobody_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        std::os::unix::fs::symlink("/proc/self/comm", &path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        let reserve = Reserve::open(dir.path());
        assert!(!reserve.is_given() && !reserve.give());
        assert!(fs::symlink_metadata(&path).is_err(), "none");
        // Room that was given back before the data came here is not waited for either.
        let reserve = Reserve::open(dir.path());
        assert!(reserve.give());
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/proc/self/comm", &path).unwrap();
        reserve.look(10_000);
        assert!(!reserve.is_given());
        assert!(fs::symlink_metadata(&path).is_err(), "none");
    }

    /// `cp -a` makes holes of what was only reserved.
    #[test]
    fn a_copy_without_room_behind_it_is_reserved_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        fs::File::create(&path).unwrap().set_len(BYTES_MAX).unwrap();
        let room = || fs::metadata(&path).unwrap().blocks() * 512;
        assert_eq!(room(), 0);
        let reserve = Reserve::open(dir.path());
        assert!(room() >= BYTES_MIN, "{}", room());
        assert!(reserve.give() && room() == 0);
    }

    #[test]
    fn a_small_disk_reserves_less_or_nothing() {
        for (size, wanted) in [
            (1 << 40, BYTES_MAX),
            (128 << 20, 32 << 20),
            (64 << 20, 16 << 20),
        ] {
            assert_eq!(reserved(size), wanted);
        }
        let none = Reserve::none();
        assert!(!none.give() && !none.is_given());
    }
}
