//! A disk for tests whose syncs take as long as the test wants.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dawnwatch_segment::{Disk, DiskFile};

/// Between two looks at whether the test lets go.
const STEP: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(crate) struct SlowDisk<D> {
    pub(crate) disk: D,
    /// While set, no sync of a file ends.
    pub(crate) held: Arc<AtomicBool>,
}

#[derive(Debug)]
struct SlowFile {
    file: Box<dyn DiskFile>,
    held: Arc<AtomicBool>,
}

impl<D: Disk> SlowDisk<D> {
    fn slow(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(SlowFile {
            file,
            held: Arc::clone(&self.held),
        })
    }
}

impl<D: Disk> Disk for SlowDisk<D> {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.disk.create(path).map(|file| self.slow(file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open(path).map(|file| self.slow(file))
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open_read(path).map(|file| self.slow(file))
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

impl DiskFile for SlowFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, into)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        while self.held.load(Ordering::SeqCst) {
            std::thread::sleep(STEP);
        }
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
