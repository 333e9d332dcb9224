//! A disk with somebody between it and its user, who may refuse, hold up or swallow what is asked: for tests.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{Disk, DiskFile};

/// What stands between; by itself it lets everything pass.
#[allow(
    clippy::missing_errors_doc,
    reason = "what stands between says what it wants"
)]
pub trait Hooks: Debug + Send + Sync {
    /// Before a file is opened for reading alone, and before each reading of a file.
    fn read(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    /// In place of making a file's content durable.
    fn sync_data(&self, file: &mut dyn DiskFile) -> io::Result<()> {
        file.sync_data()
    }

    /// In place of making the names in a directory durable.
    fn sync_dir(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        disk.sync_dir(dir)
    }
}

/// The disk.
#[derive(Debug)]
pub struct Hooked<D, H> {
    /// The disk behind it.
    pub disk: D,
    /// What stands between.
    pub hooks: Arc<H>,
}

#[derive(Debug)]
struct HookedFile<H> {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    hooks: Arc<H>,
}

impl<D, H: Hooks + 'static> Hooked<D, H> {
    fn wrap(&self, path: &Path, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(HookedFile {
            file,
            path: path.to_owned(),
            hooks: Arc::clone(&self.hooks),
        })
    }
}

impl<D: Disk, H: Hooks + 'static> Disk for Hooked<D, H> {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.wrap(path, self.disk.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.wrap(path, self.disk.open(path)?))
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.hooks.read(path)?;
        Ok(self.wrap(path, self.disk.open_read(path)?))
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
        self.hooks.sync_dir(&self.disk, dir)
    }
}

impl<H: Hooks> DiskFile for HookedFile<H> {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.hooks.read(&self.path)?;
        self.file.read_at(offset, into)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.hooks.sync_data(&mut *self.file)
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
