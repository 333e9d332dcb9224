//! The mark of a clean stop: file `clean`, a text. Its first line is `dawnwatch clean 1`, then one line a file that was there, its
//! length and its path, then where the logs end, then the CRC32C, in hex, of all lines before. An earlier server's mark is empty.
//!
//! ```text
//! dawnwatch clean 1
//! 16777216 journal/00000000000000000001.seg
//! end journal 12
//! sum 0a1b2c3d
//! ```
//!
//! Nothing but a start may change a data directory that has one, so what differs from it is damage: a log whose last frames are
//! gone looks like one that ends there, and a file that was removed looks like one that never was.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use dawnwatch_segment::{Disk, Read, Reader, RealDisk};

use super::files;
use crate::checkpoint;

/// Its name.
pub const FILE: &str = "clean";

const FIRST: &str = "dawnwatch clean 1";

/// Longest mark that is read: 40,000 files take 3 MiB.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The logs of a data directory, by their directory and kind.
pub const LOGS: [(&str, [u8; 4]); 3] = [
    ("journal", *b"JRNL"),
    ("ledger", *b"LEDG"),
    ("history/schemas", *b"SCHM"),
];

/// What a clean stop left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clean {
    /// Every file, by path, and its length.
    pub files: BTreeMap<String, u64>,
    /// The position behind the last frame of each log, by its directory.
    pub ends: BTreeMap<String, u64>,
}

impl Clean {
    /// Looks at a data directory that nobody writes to.
    ///
    /// # Errors
    /// What the file system says.
    pub fn of(data: &Path) -> io::Result<Clean> {
        let all = files::list_all(data)?;
        let kept = all.iter().filter(|held| !files::is_unfinished(&held.name));
        let files = kept.map(|held| (held.path(), held.bytes)).collect();
        let ends = LOGS.map(|(room, kind)| (room.to_owned(), end_of(data, room, kind)));
        Ok(Clean {
            files,
            ends: ends.into(),
        })
    }

    /// Leaves the mark.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(data: &Path) -> io::Result<()> {
        checkpoint::replace(&data.join(FILE), Clean::of(data)?.print().as_bytes())
    }

    /// Reads the mark; none where there is none, or an earlier server's, or a damaged one.
    #[must_use]
    pub fn read(data: &Path) -> Option<Clean> {
        let path = data.join(FILE);
        let length = fs::metadata(&path).ok()?.len();
        let text = fs::read_to_string(path).ok();
        text.filter(|_| length <= BYTES_MAX)
            .and_then(|text| Clean::parse(&text))
    }

    fn print(&self) -> String {
        let mut text = format!("{FIRST}\n");
        for (path, bytes) in &self.files {
            let _ = writeln!(text, "{bytes} {path}");
        }
        for (room, end) in &self.ends {
            let _ = writeln!(text, "end {room} {end}");
        }
        let sum = crc32c::crc32c(text.as_bytes());
        let _ = writeln!(text, "sum {sum:08x}");
        text
    }

    fn parse(text: &str) -> Option<Clean> {
        let (body, sum) = text.strip_suffix('\n')?.rsplit_once("\nsum ")?;
        let body = format!("{body}\n");
        if sum != format!("{:08x}", crc32c::crc32c(body.as_bytes())) {
            return None;
        }
        let mut clean = Clean::default();
        for line in body.strip_prefix(FIRST)?.lines().filter(|l| !l.is_empty()) {
            let (first, rest) = line.split_once(' ')?;
            if first == "end" {
                let (room, end) = rest.rsplit_once(' ')?;
                clean.ends.insert(room.to_owned(), end.parse().ok()?);
            } else {
                clean.files.insert(rest.to_owned(), first.parse().ok()?);
            }
        }
        Some(clean)
    }

    /// The files that are gone since, and those whose length is another one, with the length they had.
    ///
    /// # Errors
    /// What the file system says.
    pub fn missing(&self, data: &Path) -> io::Result<Vec<Missing>> {
        let found = files::list_all(data)?.into_iter();
        let found: BTreeMap<String, u64> = found.map(|held| (held.path(), held.bytes)).collect();
        let lacks = self.files.iter().filter_map(|(path, bytes)| {
            let found = found.get(path).copied();
            // People may change something while the last room stops: these two documents have checksums of their own.
            let free = path.starts_with("identity/") && found.is_some();
            (!free && found != Some(*bytes)).then(|| Missing {
                path: path.clone(),
                had: *bytes,
                has: found,
            })
        });
        Ok(lacks.collect())
    }
}

/// A file that is not as the last stop left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its path.
    pub path: String,
    /// The length it had.
    pub had: u64,
    /// The length it has; none where it is gone.
    pub has: Option<u64>,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.has {
            None => write!(f, "{} is gone since the last stop", self.path),
            Some(has) => write!(
                f,
                "{} had {} bytes at the last stop and has {has}",
                self.path, self.had
            ),
        }
    }
}

/// The position behind the last frame of a log, 0 where it cannot be read.
fn end_of(data: &Path, room: &str, kind: [u8; 4]) -> u64 {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    // From its end: the reader begins with the last segment.
    let Ok(reader) = Reader::open(
        Arc::clone(&disk),
        &data.join(room),
        kind,
        last_segment(data, room),
    ) else {
        return 0;
    };
    let mut end = 0;
    for read in reader {
        match read {
            Ok(Read::Frame { position, .. }) => end = position + 1,
            Ok(Read::Damage { to_position, .. }) => end = to_position,
            Err(_) => return 0,
        }
    }
    end
}

/// The first position of the last segment that has frames, by the names.
fn last_segment(data: &Path, room: &str) -> u64 {
    let Ok(entries) = fs::read_dir(data.join(room)) else {
        return 1;
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut first: Vec<u64> = names
        .filter_map(|name| name.strip_suffix(".seg")?.parse().ok())
        .collect();
    first.sort_unstable();
    // An empty last segment says nothing of where the one before ends: so that one is read too.
    first.iter().rev().nth(1).copied().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_and_no_flip_passes() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("nights")).unwrap();
        fs::write(dir.path().join("nights/N-2026-10-05.json"), "{}\n").unwrap();
        fs::write(dir.path().join("nights/x.tmp"), "").unwrap();
        Clean::write(dir.path()).unwrap();
        let clean = Clean::read(dir.path()).unwrap();
        assert_eq!(clean.files.len(), 1);
        assert_eq!(clean.missing(dir.path()).unwrap(), []);
        let path = dir.path().join(FILE);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 7);
            fs::write(&path, &flipped).unwrap();
            assert_eq!(Clean::read(dir.path()), None, "byte {at}");
        }
        fs::write(&path, &whole).unwrap();
        fs::remove_file(dir.path().join("nights/N-2026-10-05.json")).unwrap();
        let missing = clean.missing(dir.path()).unwrap();
        assert_eq!(missing[0].path, "nights/N-2026-10-05.json");
        assert_eq!((missing[0].had, missing[0].has), (3, None));
        fs::write(&path, "").unwrap();
        assert_eq!(Clean::read(dir.path()), None);
    }
}
