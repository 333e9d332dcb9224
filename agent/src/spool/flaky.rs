//! A disk for tests that cannot be read while the test says so.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dawnwatch_segment::sim::SimDisk;
use dawnwatch_segment::{Disk, DiskFile};

/// How it has gone so far.
#[derive(Debug, Default)]
pub(crate) struct Mood {
    /// How many further reads fail.
    pub(crate) bad: AtomicU64,
    /// How many did.
    pub(crate) failed: AtomicU64,
}

/// The simulated disk, some of whose files cannot be opened for reading, nor read where they are open, while its mood is bad.
#[derive(Debug)]
pub(crate) struct FlakyDisk {
    pub(crate) disk: Arc<SimDisk>,
    pub(crate) mood: Arc<Mood>,
    /// How the names of these files begin.
    pub(crate) names: &'static str,
}

#[derive(Debug)]
struct FlakyFile {
    file: Box<dyn DiskFile>,
    mood: Arc<Mood>,
}

impl Mood {
    fn check(&self) -> io::Result<()> {
        let less = |left: u64| left.checked_sub(1);
        let order = Ordering::SeqCst;
        if self.bad.fetch_update(order, order, less).is_err() {
            return Ok(());
        }
        self.failed.fetch_add(1, order);
        Err(io::Error::other("too many open files"))
    }

    /// Makes reads fail, or not, until told otherwise.
    pub(crate) fn set(&self, is_bad: bool) {
        let bad = if is_bad { u64::MAX } else { 0 };
        self.bad.store(bad, Ordering::SeqCst);
    }

    /// How many reads have failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::SeqCst)
    }
}

impl FlakyDisk {
    fn is_flaky(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(self.names))
    }

    fn flaky(&self, path: &Path, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        if !self.is_flaky(path) {
            return file;
        }
        let mood = Arc::clone(&self.mood);
        Box::new(FlakyFile { file, mood })
    }
}

impl Disk for FlakyDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.disk.create(path).map(|file| self.flaky(path, file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open(path).map(|file| self.flaky(path, file))
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        if self.is_flaky(path) {
            self.mood.check()?;
        }
        self.disk.open_read(path).map(|file| self.flaky(path, file))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
}

impl DiskFile for FlakyFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.mood.check()?;
        self.file.read_at(offset, into)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn preallocate(&mut self, len: u64) -> io::Result<()> {
        self.file.preallocate(len)
    }

    fn drop_cache(&mut self) -> io::Result<()> {
        self.file.drop_cache()
    }
}
