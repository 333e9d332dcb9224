//! The wall to the file system: what a log asks of a disk, and the real one.

use std::fmt::Debug;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Advice, FallocateFlags};
use rustix::io::Errno;

/// A file system as a log sees it. Names in a directory are durable only after [`Disk::sync_dir`].
pub trait Disk: Send + Sync + Debug {
    /// Creates a file that must not exist yet, for reading and writing.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens an existing file for reading only.
    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Lists the names in a directory, in no particular order; names that are not UTF-8 are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Renames a file within one directory, over an existing one if there is one.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Creates a directory and the missing ones above it, durably.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file. What is written is durable only after [`DiskFile::sync_data`].
#[allow(
    clippy::len_without_is_empty,
    reason = "the length of a file can fail, emptiness is not asked"
)]
pub trait DiskFile: Send + Debug {
    /// Tells the length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Reads at an offset; fewer bytes than asked mean the end of the file, zero is behind it.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Writes all bytes at an offset; after an error any part of them may be there.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes the content and the length durable.
    fn sync_data(&mut self) -> io::Result<()>;
    /// Cuts the file, or extends it with zeros.
    fn set_len(&mut self, len: u64) -> io::Result<()>;
    /// Reserves space up to `len` and extends the file with zeros to it, where the file system can; never shortens.
    fn preallocate(&mut self, len: u64) -> io::Result<()>;
    /// Drops what is cached of the file and already synced, so that it is read from the disk again.
    fn drop_cache(&mut self) -> io::Result<()>;
}

/// Segments hold what hosts say of themselves: for their owner only.
const FILE_MODE: u32 = 0o600;

/// Directories likewise.
const DIR_MODE: u32 = 0o700;

/// The real file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile(File);

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(RealFile(
            OpenOptions::new().read(true).write(true).open(path)?,
        )))
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(RealFile(File::open(path)?)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut missing = Vec::new();
        let mut at = Some(dir);
        while let Some(here) = at {
            if here.as_os_str().is_empty() || here.is_dir() {
                break;
            }
            missing.push(here);
            at = here.parent();
        }
        for here in missing.into_iter().rev() {
            match DirBuilder::new().mode(DIR_MODE).create(here) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Ok(()) | Err(_) => {}
            }
            self.sync_dir(here.parent().unwrap_or(Path::new("/")))?;
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = if dir.as_os_str().is_empty() {
            Path::new(".")
        } else {
            dir
        };
        File::open(dir)?.sync_all()
    }
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            let at = offset.saturating_add(crate::frame::wide(done));
            match self.0.read_at(&mut into[done..], at) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn preallocate(&mut self, len: u64) -> io::Result<()> {
        loop {
            match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, len) {
                Err(Errno::INTR) => {}
                // Reserving is only for speed and for meeting a full disk early: a log works without it.
                Ok(()) | Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn drop_cache(&mut self) -> io::Result<()> {
        Ok(rustix::fs::fadvise(&self.0, 0, None, Advice::DontNeed)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_real_disk_does_what_the_trait_says() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("a/b/c");
        let disk = RealDisk;
        disk.create_dir_all(&dir).unwrap();
        disk.create_dir_all(&dir).unwrap();
        let path = dir.join("x");
        let mut file = disk.create(&path).unwrap();
        assert_eq!(
            disk.create(&path).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        file.write_at(3, b"abc").unwrap();
        let mut buf = [9; 8];
        assert_eq!(file.read_at(0, &mut buf).unwrap(), 6);
        assert_eq!(&buf[..6], b"\0\0\0abc");
        assert_eq!(file.read_at(6, &mut buf).unwrap(), 0);
        file.set_len(4).unwrap();
        file.preallocate(4096).unwrap();
        file.preallocate(10).unwrap();
        file.sync_data().unwrap();
        file.drop_cache().unwrap();
        assert!([4, 4096].contains(&file.len().unwrap()));
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        disk.rename(&path, &dir.join("y")).unwrap();
        disk.sync_dir(&dir).unwrap();
        assert_eq!(disk.list(&dir).unwrap(), ["y"]);
        assert_eq!(
            disk.open(&path).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        assert!(
            disk.open_read(&dir.join("y"))
                .unwrap()
                .write_at(0, b"z")
                .is_err()
        );
        disk.open(&dir.join("y"))
            .unwrap()
            .write_at(0, b"z")
            .unwrap();
        disk.remove(&dir.join("y")).unwrap();
        assert!(disk.list(&dir).unwrap().is_empty());
    }
}
