//! Which files a data directory consists of, and what they are for.

use std::fs;
use std::io;
use std::path::Path;

/// The directories that hold what must be kept, in the order in which they are looked through. `index/` is not among them: it is made
/// anew from the others.
pub const ROOMS: [&str; 7] = [
    "identity",
    "checkpoint",
    "ledger",
    "history",
    "history/schemas",
    "nights",
    "journal",
];

/// The logs whose last segment has its space reserved, and how long it is then.
pub const LOG_SEGMENTS: [(&str, u64); 2] = [
    ("journal", crate::journal::SEGMENT_BYTES),
    ("ledger", crate::ledger::SEGMENT_BYTES),
];

/// Files in the data directory itself that belong to it and hold nothing that has to be checked: locks, sockets, marks, secrets shown
/// once, and what people write.
pub const BESIDE: [&str; 11] = [
    "LOCK",
    "api.sock",
    "clean",
    "version",
    "restored",
    "restoring",
    "first-join",
    "first-admin",
    "dawnwatch.toml",
    crate::reserve::FILE,
    "lost+found",
];

/// Directories that belong to a data directory and are not looked into.
pub const DERIVED: [&str; 4] = ["index", "index.damaged", "pre-upgrade", "after-upgrade"];

/// A file of a data directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    /// The room, one of [`ROOMS`].
    pub room: &'static str,
    /// Its name there.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

impl Held {
    /// Its path within the data directory.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.room, self.name)
    }
}

/// The files of a room, sorted by name; none where there is no such directory. What is going while it is listed is left out.
///
/// # Errors
/// What the file system says.
pub fn list(data: &Path, room: &'static str) -> io::Result<Vec<Held>> {
    let entries = match fs::read_dir(data.join(room)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut held = Vec::new();
    for entry in entries {
        let entry = entry?;
        let meta = match entry.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            meta => meta?,
        };
        if meta.is_file() {
            held.push(Held {
                room,
                name: entry.file_name().to_string_lossy().into_owned(),
                bytes: meta.len(),
            });
        }
    }
    held.sort();
    Ok(held)
}

/// The files of all rooms.
///
/// # Errors
/// What the file system says.
pub fn list_all(data: &Path) -> io::Result<Vec<Held>> {
    let mut all = Vec::new();
    for room in ROOMS {
        all.extend(list(data, room)?);
    }
    Ok(all)
}

/// Whether a name is that of a write that did not finish: it was never in force and is removed or replaced by the next one.
#[must_use]
pub fn is_unfinished(name: &str) -> bool {
    let ends = [".tmp", ".new"];
    ends.iter().any(|end| name.ends_with(end))
}
