//! A simulated disk whose syncs of content are empty promises.

use std::io;
use std::path::Path;

use dawnwatch_segment::sim::SimDisk;
use dawnwatch_segment::{Disk, DiskFile};

/// The disk.
#[derive(Debug, Clone)]
pub(super) struct Lying(pub(super) SimDisk);

#[derive(Debug)]
struct LyingFile(Box<dyn DiskFile>);

fn wrap(file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
    Box::new(LyingFile(file))
}

impl Disk for Lying {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.0.create(path).map(wrap)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.0.open(path).map(wrap)
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.0.open_read(path).map(wrap)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.0.create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_dir(dir)
    }
}

impl DiskFile for LyingFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, into)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, bytes)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn preallocate(&mut self, len: u64) -> io::Result<()> {
        self.0.preallocate(len)
    }

    fn drop_cache(&mut self) -> io::Result<()> {
        self.0.drop_cache()
    }
}
