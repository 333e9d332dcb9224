//! The state directory: identity, spool, and the lock that keeps a second agent out.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Where the agent keeps its state unless told otherwise.
pub const DEFAULT_DIR: &str = "/var/lib/dawnwatch-agent";

/// The state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another agent owns it.
    #[error(
        "the state directory {0} is in use by another dawnwatch-agent: stop that one, or give this one its own with --state"
    )]
    InUse(PathBuf),
    /// It cannot be made or opened.
    #[error(
        "cannot {what} {path}: {source}; {}, or choose another with --state",
        advice(source)
    )]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn advice(error: &io::Error) -> &'static str {
    let is = |kinds: &[ErrorKind]| kinds.contains(&error.kind());
    if is(&[ErrorKind::ReadOnlyFilesystem]) {
        "mount its filesystem for writing"
    } else if is(&[ErrorKind::StorageFull, ErrorKind::QuotaExceeded]) {
        "free space on its filesystem"
    } else if is(&[ErrorKind::NotADirectory, ErrorKind::AlreadyExists]) {
        "move away what is in its place"
    } else {
        "run as the user that owns it"
    }
}

/// The state directory, owned by this process until dropped.
#[derive(Debug)]
pub struct State {
    dir: PathBuf,
    _lock: File,
}

impl State {
    /// Makes the directory if need be (mode 0700) and locks it.
    ///
    /// # Errors
    /// [`StateError`] where it cannot be made or another agent owns it.
    pub fn lock(dir: &Path) -> Result<State, StateError> {
        let failed = |what, path: &Path, source| StateError::Io {
            what,
            path: path.to_owned(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|e| failed("create the state directory", dir, e))?;
        let path = dir.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| failed("open", &path, e))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(State {
                dir: dir.to_owned(),
                _lock: lock,
            }),
            Err(Errno::WOULDBLOCK) => Err(StateError::InUse(dir.to_owned())),
            Err(e) => Err(failed("lock", &path, e.into())),
        }
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the spool lies.
    #[must_use]
    pub fn spool_dir(&self) -> PathBuf {
        spool_dir(&self.dir)
    }
}

/// Where the spool of a state directory lies.
#[must_use]
pub fn spool_dir(state: &Path) -> PathBuf {
    state.join("spool")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_agents_cannot_share_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("a/b");
        let first = State::lock(&state).unwrap();
        let error = State::lock(&state).unwrap_err();
        assert!(matches!(error, StateError::InUse(_)), "{error}");
        drop(first);
        State::lock(&state).unwrap();
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "").unwrap();
        let error = State::lock(&file.join("x")).unwrap_err().to_string();
        assert!(error.contains("create the state directory"), "{error}");
        assert!(error.contains("--state"), "{error}");
    }
}
