//! What can go wrong with a log, in sentences that say what was tried, on which file, and what to do.

use std::io;
use std::path::{Path, PathBuf};

/// Says why a log could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("{what} {}: {source}{}", path.display(), advice(source))]
    Io {
        /// What was tried, as a verb: "write", "sync".
        what: &'static str,
        /// The file or directory it was tried on.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// An earlier write or sync failed, so nothing more is taken.
    #[error("log {} takes nothing more: an earlier {failed} failed; {cure}", dir.display())]
    Poisoned {
        /// The log's directory.
        dir: PathBuf,
        /// What failed: "write" or "sync".
        failed: &'static str,
        /// What the caller can do about it.
        cure: &'static str,
    },
    /// A segment was written by a later version of this program.
    #[error(
        "{} has segment format {found}, this program knows up to {known}; nothing was changed: \
         start the newer program again, or roll its data back",
        path.display()
    )]
    NewerVersion {
        /// The segment file.
        path: PathBuf,
        /// The version it carries.
        found: u32,
        /// The newest version this program knows.
        known: u32,
    },
    /// A segment belongs to another kind of log.
    #[error(
        "{} belongs to a log of kind '{}', wanted '{}'; nothing was changed: check the configured directory",
        path.display(),
        found.escape_ascii(),
        wanted.escape_ascii()
    )]
    WrongKind {
        /// The segment file.
        path: PathBuf,
        /// The kind it carries.
        found: [u8; 4],
        /// The kind that was asked for.
        wanted: [u8; 4],
    },
    /// A payload is over the limit of one frame.
    #[error("a frame for {} has {bytes} bytes, the limit is {limit}; split it", dir.display())]
    TooLarge {
        /// The log's directory.
        dir: PathBuf,
        /// The size of the payload.
        bytes: usize,
        /// The most a frame holds.
        limit: usize,
    },
    /// A payload is empty: length zero marks the end of what is written.
    #[error("a frame for {} is empty; a log holds only frames with content", dir.display())]
    Empty {
        /// The log's directory.
        dir: PathBuf,
    },
    /// The note for the segment headers is over its limit.
    #[error("the segment note for {} has {bytes} bytes, the limit is {limit}; shorten it", dir.display())]
    NoteTooLong {
        /// The log's directory.
        dir: PathBuf,
        /// The size of the note.
        bytes: usize,
        /// The most a header holds.
        limit: usize,
    },
}

impl Error {
    /// Tells whether the cause is a full disk or a spent quota.
    pub fn is_full(&self) -> bool {
        match self {
            Error::Io { source, .. } => is_full(source),
            Error::Poisoned { .. }
            | Error::NewerVersion { .. }
            | Error::WrongKind { .. }
            | Error::TooLarge { .. }
            | Error::Empty { .. }
            | Error::NoteTooLong { .. } => false,
        }
    }

    /// Wraps an I/O error for use in `map_err`.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { what, path, source }
    }
}

pub(crate) fn is_full(error: &io::Error) -> bool {
    // Not every ENOSPC carries that kind: one rebuilt from a kind alone has no number.
    error.kind() == io::ErrorKind::StorageFull || error.kind() == io::ErrorKind::QuotaExceeded
}

fn advice(error: &io::Error) -> &'static str {
    if is_full(error) {
        return "; free space there or lower the bound on what is kept";
    }
    match error
        .raw_os_error()
        .map(rustix::io::Errno::from_raw_os_error)
    {
        Some(rustix::io::Errno::ROFS) => "; remount the file system for writing",
        Some(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => {
            "; give this user the right to it (chown)"
        }
        Some(rustix::io::Errno::IO) => "; look at the disk and the kernel log, then start again",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_say_what_where_and_what_to_do() {
        let full = Error::io("write", Path::new("spool/1.seg"))(io::Error::from_raw_os_error(28));
        assert!(full.is_full());
        let text = full.to_string();
        assert!(
            text.starts_with("write spool/1.seg: No space left on device"),
            "{text}"
        );
        assert!(
            text.ends_with("free space there or lower the bound on what is kept"),
            "{text}"
        );

        let quota = Error::io("write", Path::new("x"))(io::Error::from_raw_os_error(122));
        assert!(quota.is_full());
        let broken = Error::io("sync", Path::new("x"))(io::Error::from_raw_os_error(5));
        assert!(!broken.is_full());
        assert!(broken.to_string().contains("kernel log"));

        let newer = Error::NewerVersion {
            path: "j/1.seg".into(),
            found: 9,
            known: 1,
        };
        assert_eq!(
            newer.to_string(),
            "j/1.seg has segment format 9, this program knows up to 1; nothing was changed: start the \
             newer program again, or roll its data back"
        );
    }
}
