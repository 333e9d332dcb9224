//! Which version wrote a data directory: file `version`.
//!
//! Lines and a checksum ([`checkpoint::summed`]): `server VERSION`, `since TIME` (the first start of that version on these data), then
//! `format NAME NUMBER` for every kind of file. It is written before anything else that a version writes, so a program that
//! does not know one of the formats can say so and leave everything as it is.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::Path;

use jiff::Timestamp;

use crate::checkpoint;

/// Its name.
pub const FILE: &str = "version";

/// The formats that this build writes; it reads these and, where a module says so, earlier ones. A change of one of them belongs here and into
/// the table of formats in ARCHITECTURE.md.
#[must_use]
pub fn formats() -> BTreeMap<String, u32> {
    [
        ("segment", dawnwatch_segment::VERSION),
        ("journal", u32::from(crate::journal::VERSION)),
        ("ledger", u32::from(crate::ledger::VERSION)),
        ("checkpoint", checkpoint::VERSION),
        ("head", u32::from(crate::history::head::SAVED[4])),
        ("engine", u32::from(dawnwatch_engine::SAVED_VERSION)),
        ("hour", crate::history::hour::VERSION),
        ("block", u32::from(dawnwatch_engine::block::VERSION)),
        ("events", u32::from(crate::history::events::VERSION)),
        ("schema-union", crate::history::schemas::UNION_VERSION),
        ("summary", crate::history::summary::file::VERSION),
        ("night", dawnwatch_proto::review::FORMAT),
        ("evidence", dawnwatch_proto::api::EVIDENCE_FORMAT),
        ("identity", crate::identity::state::VERSION),
        ("people", crate::identity::people::VERSION),
    ]
    .map(|(name, number)| (name.to_owned(), number))
    .into()
}

/// What wrote a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The server's version.
    pub server: String,
    /// When it first started on these data.
    pub since: Timestamp,
    /// The formats that it writes, by name.
    pub formats: BTreeMap<String, u32>,
}

impl Version {
    /// This build's.
    #[must_use]
    pub fn own(now: Timestamp) -> Version {
        Version {
            server: env!("CARGO_PKG_VERSION").to_owned(),
            since: now,
            formats: formats(),
        }
    }

    /// Reads the version of a data directory; none where it has none, as before there was such a file.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn read(data: &Path) -> Result<Option<Version>, String> {
        let text = checkpoint::read_summed(&data.join(FILE))?;
        let text = text.map(|text| Version::parse(&text).ok_or("it makes no sense".to_owned()));
        text.transpose()
    }

    /// Writes it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, data: &Path) -> io::Result<()> {
        let mut text = format!("server {}\nsince {}\n", self.server, self.since);
        for (name, number) in &self.formats {
            let _ = writeln!(text, "format {name} {number}");
        }
        checkpoint::replace(&data.join(FILE), checkpoint::summed(&text).as_bytes())
    }

    fn parse(text: &str) -> Option<Version> {
        let mut version = Version::own(Timestamp::UNIX_EPOCH);
        version.formats.clear();
        for line in text.lines() {
            let (word, rest) = line.split_once(' ')?;
            match word {
                "server" => rest.clone_into(&mut version.server),
                "since" => version.since = rest.parse().ok()?,
                "format" => {
                    let (name, number) = rest.rsplit_once(' ')?;
                    version
                        .formats
                        .insert(name.to_owned(), number.parse().ok()?);
                }
                // A later version may say more.
                _ => {}
            }
        }
        Some(version)
    }

    /// Formats that this build does not know, or not yet, in words; empty where it reads all of it.
    #[must_use]
    pub fn unknown(&self) -> Vec<String> {
        let own = formats();
        let unknown = self.formats.iter().filter_map(|(name, number)| {
            let known = own.get(name).copied().unwrap_or(0);
            (*number > known).then(|| match known {
                0 => format!("{name} {number} (this version has no such files)"),
                known => format!("{name} {number} (this version reads up to {known})"),
            })
        });
        unknown.collect()
    }

    /// Whether the same program, as far as its files go, wrote both.
    #[must_use]
    pub fn is_same(&self, other: &Version) -> bool {
        self.server == other.server && self.formats == other.formats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_reads_back_and_knows_what_it_does_not_know() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Version::read(dir.path()), Ok(None));
        let own = Version::own(Timestamp::UNIX_EPOCH);
        own.write(dir.path()).unwrap();
        let read = Version::read(dir.path()).unwrap().unwrap();
        assert_eq!((read.is_same(&own), read.unknown().len()), (true, 0));
        let mut later = own.clone();
        later.server = "9.1.0".to_owned();
        *later.formats.get_mut("hour").unwrap() += 1;
        later.formats.insert("moods".to_owned(), 1);
        assert!(!later.is_same(&own));
        assert_eq!(later.unknown().len(), 2, "{:?}", later.unknown());
        let text = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        std::fs::write(dir.path().join(FILE), text.replace("hour 3", "hour 2")).unwrap();
        let flipped = text.replace("server 0", "server 1");
        std::fs::write(dir.path().join(FILE), flipped).unwrap();
        assert!(Version::read(dir.path()).is_err());
    }
}
