//! The list of a backup's files: `MANIFEST`, a text: `dawnwatch backup 1`, then `version V`, `made TIME`, `until TIME` (the last that had come
//! in), then `file SHA256 BYTES STORED` a file, then `sum CRC32C` over all lines before.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use jiff::Timestamp;

use super::snapshot::{Error, failed};

/// Its name.
pub(super) const MANIFEST: &str = "MANIFEST";

const FIRST: &str = "dawnwatch backup 1";

/// Longest manifest that is read: 40,000 files take 6 MiB.
const MANIFEST_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The version of the server that made it.
    pub version: String,
    /// When.
    pub made: Timestamp,
    /// When the last input came in that is in it.
    pub until: Option<Timestamp>,
    /// The files, by where they are stored.
    pub(super) files: BTreeMap<String, Sum>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) sha256: String,
    pub(super) bytes: u64,
}

impl Manifest {
    /// Reads the manifest of a backup.
    ///
    /// # Errors
    /// Where there is none, or it is damaged, or of a later version.
    pub fn read(from: &Path) -> Result<Manifest, Error> {
        let path = from.join(MANIFEST);
        let refuse = |why: &str| {
            let source = io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
            failed("read", &path)(source)
        };
        let length = fs::metadata(&path).map_err(failed("read", &path))?.len();
        if length > MANIFEST_BYTES_MAX {
            return Err(refuse("it is too long"));
        }
        let text = fs::read_to_string(&path).map_err(failed("read", &path))?;
        let (first, _) = text.split_once('\n').unwrap_or_default();
        if first != FIRST && first.starts_with("dawnwatch backup ") {
            return Err(refuse(
                "a later dawnwatch-server made this backup: restore it with that version",
            ));
        }
        Manifest::parse(&text).ok_or_else(|| refuse("it is damaged: take another backup"))
    }

    pub(super) fn print(&self) -> String {
        let mut text = format!("{FIRST}\nversion {}\nmade {}\n", self.version, self.made);
        if let Some(until) = self.until {
            let _ = writeln!(text, "until {until}");
        }
        for (stored, sum) in &self.files {
            let _ = writeln!(text, "file {} {} {stored}", sum.sha256, sum.bytes);
        }
        let sum = crc32c::crc32c(text.as_bytes());
        let _ = writeln!(text, "sum {sum:08x}");
        text
    }

    fn parse(text: &str) -> Option<Manifest> {
        let (body, sum) = text.strip_suffix('\n')?.rsplit_once("\nsum ")?;
        let body = format!("{body}\n");
        if sum != format!("{:08x}", crc32c::crc32c(body.as_bytes())) {
            return None;
        }
        let mut manifest = Manifest {
            version: String::new(),
            made: Timestamp::UNIX_EPOCH,
            until: None,
            files: BTreeMap::new(),
        };
        for line in body.lines().skip(1) {
            let (word, rest) = line.split_once(' ')?;
            match word {
                "version" => rest.clone_into(&mut manifest.version),
                "made" => manifest.made = rest.parse().ok()?,
                "until" => manifest.until = Some(rest.parse().ok()?),
                "file" => {
                    let mut parts = rest.splitn(3, ' ');
                    let sha256 = parts.next()?.to_owned();
                    let bytes = parts.next()?.parse().ok()?;
                    let stored = parts.next()?;
                    // It becomes the name of a file that is written.
                    // Two slashes would make the rest of it a path from the root on.
                    let plain = !stored
                        .split('/')
                        .any(|part| ["", ".", ".."].contains(&part));
                    plain.then(|| {
                        manifest
                            .files
                            .insert(stored.to_owned(), Sum { sha256, bytes })
                    })?;
                }
                _ => return None,
            }
        }
        Some(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_names_no_file_outside_of_itself() {
        let read = |stored: &str| {
            let sum = Sum {
                sha256: "00".to_owned(),
                bytes: 1,
            };
            let manifest = Manifest {
                version: "0.1.0".to_owned(),
                made: Timestamp::UNIX_EPOCH,
                until: None,
                files: [(stored.to_owned(), sum)].into(),
            };
            Manifest::parse(&manifest.print())
        };
        assert!(read("set-1/journal/1.seg").is_some());
        for stored in [
            "/etc/passwd",
            "files//etc/passwd",
            "files/../../etc/passwd",
            "files/./x",
            "files/",
        ] {
            assert_eq!(read(stored), None, "{stored}");
        }
    }
}
