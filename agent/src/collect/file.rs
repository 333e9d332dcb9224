//! A file of the kernel that is opened once and read again from its start.
//!
//! One read is enough where it comes back short. The kernel writes such a file record by record into a buffer of its own, of a
//! page or more, and a read gives what is in it; it stops before the end only where the next record would not fit any more
//! (`seq_read_iter`), and a file of one record is always given whole. So what ends further than a record before a page is whole:
//! no second read has to be told that there is nothing left. Tables whose records have no bound are read
//! until nothing comes ([`KernelFile::unbounded`]).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::CollectError;

/// Largest kernel file that is read: the mount table of a machine with some thousand containers stays below.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// First size of a buffer: one page, as much as the kernel hands out of most tables in one read.
const BUFFER_BYTES: usize = 4096;

/// A read that gives fewer bytes was the last: a page less the longest record, a line of numbers for one disk or interface, which
/// takes some 450 bytes where every number has 20 digits.
pub(crate) const WHOLE_BELOW: usize = BUFFER_BYTES - 512;

/// A file of `/proc` or `/sys`, kept open.
#[derive(Debug)]
pub(crate) struct KernelFile {
    path: PathBuf,
    file: Option<File>,
    buffer: Vec<u8>,
    len: usize,
    /// Reads that give fewer bytes are the last.
    whole_below: usize,
}

impl KernelFile {
    /// Names a file; it is opened at the first read.
    pub(crate) fn new(path: PathBuf) -> KernelFile {
        KernelFile {
            path,
            file: None,
            buffer: Vec::new(),
            len: 0,
            whole_below: WHOLE_BELOW,
        }
    }

    /// The same for a table whose records may be of any length: it is read until nothing comes.
    pub(crate) fn unbounded(self) -> KernelFile {
        KernelFile {
            whole_below: 0,
            ..self
        }
    }

    /// The file's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The open file, if the last read went well.
    pub(crate) fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// What the last read gave.
    pub(crate) fn text(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    /// Reads the whole file as it is now.
    pub(crate) fn read(&mut self) -> Result<&[u8], CollectError> {
        self.len = 0;
        match self.fill() {
            Ok(true) => Ok(self.text()),
            Ok(false) => {
                let (path, limit) = (self.path.clone(), FILE_BYTES_MAX);
                Err(CollectError::TooLarge { path, limit })
            }
            Err(source) => {
                // What stands behind the handle is gone (an interface, a reloaded module): open it anew next time.
                self.file = None;
                Err(CollectError::Read {
                    path: self.path.clone(),
                    source,
                })
            }
        }
    }

    /// False where the file is over the limit.
    fn fill(&mut self) -> io::Result<bool> {
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(File::open(&self.path)?),
        };
        if self.buffer.is_empty() {
            self.buffer.resize(BUFFER_BYTES, 0);
        }
        let mut len = 0;
        loop {
            if len == self.buffer.len() {
                if len > FILE_BYTES_MAX {
                    return Ok(false);
                }
                self.buffer.resize((len * 2).min(FILE_BYTES_MAX + 1), 0);
            }
            match file.read_at(&mut self.buffer[len..], len as u64) {
                Ok(0) => break,
                Ok(n) => len += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            if len < self.whole_below {
                break;
            }
        }
        self.len = len;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_it_is_now() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stat");
        std::fs::write(&path, "one").unwrap();
        let mut file = KernelFile::new(path.clone());
        assert_eq!(file.read().unwrap(), b"one");
        let mut table = KernelFile::new(path.clone()).unbounded();
        let edge = WHOLE_BELOW;
        for size in [0, 1, edge - 1, edge, 4095, 4096, 4097, 70_000, 3] {
            std::fs::write(&path, vec![b'x'; size]).unwrap();
            assert_eq!(file.read().unwrap().len(), size);
            assert_eq!(table.read().unwrap().len(), size);
        }
    }

    #[test]
    fn a_missing_file_is_an_error_that_says_which() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("absent");
        let mut file = KernelFile::new(path.clone());
        let error = file.read().unwrap_err().to_string();
        assert!(
            error.contains("absent") && error.contains("No such file"),
            "{error}"
        );
        std::fs::write(&path, "back").unwrap();
        assert_eq!(file.read().unwrap(), b"back");
    }

    #[test]
    fn a_file_over_the_limit_is_refused_and_read_when_it_shrinks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mountinfo");
        std::fs::write(&path, vec![b'x'; FILE_BYTES_MAX + 1]).unwrap();
        let mut file = KernelFile::new(path.clone());
        assert!(matches!(file.read(), Err(CollectError::TooLarge { .. })));
        std::fs::write(&path, "small").unwrap();
        assert_eq!(file.read().unwrap(), b"small");
    }
}
