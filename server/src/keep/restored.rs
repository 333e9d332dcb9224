//! The mark of a way back: file `restored`, which the next start tells the engine and removes.
//!
//! Two lines and a checksum ([`checkpoint::summed`]): when the last input came in that is still known (`-` where none did), and what
//! was done, in words.

use std::fs;
use std::io;
use std::path::Path;

use jiff::Timestamp;

use crate::checkpoint;

/// Its name.
pub const FILE: &str = "restored";

/// A way back that was gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// When the last input came in that is still known; none where nothing is.
    pub until: Option<Timestamp>,
    /// What was done.
    pub how: String,
}

impl Restored {
    /// Leaves the mark.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, data: &Path) -> io::Result<()> {
        let until = self.until.map_or("-".to_owned(), |at| at.to_string());
        let text = checkpoint::summed(&format!("{until}\n{}\n", self.how));
        checkpoint::replace(&data.join(FILE), text.as_bytes())
    }

    /// Reads the mark; none where there is none. A damaged one still says that it was there.
    #[must_use]
    pub fn read(data: &Path) -> Option<Restored> {
        let path = data.join(FILE);
        if !path.exists() {
            return None;
        }
        let text = checkpoint::read_summed(&path).ok().flatten();
        let text = text.unwrap_or_else(|| "-\nput back to an earlier state\n".to_owned());
        let (until, how) = text.split_once('\n')?;
        Some(Restored {
            until: until.parse().ok(),
            how: how.trim().to_owned(),
        })
    }

    /// Removes the mark: what it says is in the journal.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove(data: &Path) -> io::Result<()> {
        match fs::remove_file(data.join(FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_and_a_damaged_one_is_not_overlooked() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Restored::read(dir.path()), None);
        let mark = Restored {
            until: Some(Timestamp::UNIX_EPOCH),
            how: "restored from a backup".to_owned(),
        };
        mark.write(dir.path()).unwrap();
        assert_eq!(Restored::read(dir.path()), Some(mark));
        fs::write(dir.path().join(FILE), "19").unwrap();
        assert_eq!(Restored::read(dir.path()).unwrap().until, None);
        Restored::remove(dir.path()).unwrap();
        Restored::remove(dir.path()).unwrap();
        assert_eq!(Restored::read(dir.path()), None);
    }
}
