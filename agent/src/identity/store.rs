//! The identity on disk: one file that is replaced whole, and one for a key whose certificate is still on its way.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use data_encoding::{BASE64, HEXLOWER};
use dawnwatch_proto::HostId;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The identity in force.
pub(super) const FILE: &str = "identity.json";

/// A key that the server may have certified already.
const PENDING: &str = "identity.pending.json";

/// Version of both files; a later one is refused.
const VERSION: u32 = 1;

/// Servers remembered: more addresses than one server has.
const SERVERS_MAX: usize = 8;

/// The identity in force. Keys are PKCS #8, certificates DER.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Document {
    version: u32,
    pub(super) host_id: HostId,
    pub(super) host_name: String,
    pub(super) servers: Vec<String>,
    pub(super) pins: Vec<Pin>,
    /// The join token it goes back to: joining once more with its line costs nothing.
    pub(super) token: String,
    pub(super) offset_ms: i64,
    #[serde(with = "base64")]
    pub(super) leaf: Vec<u8>,
    #[serde(with = "base64")]
    pub(super) key: Vec<u8>,
}

/// A key on its way to a certificate.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    version: u32,
    pub(super) purpose: Purpose,
    #[serde(with = "base64")]
    pub(super) key: Vec<u8>,
}

/// What a pending key is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Purpose {
    /// Joining with this line.
    Join { pin: Pin, token: String },
    /// Renewing this host's certificate.
    Renew { host_id: HostId },
}

/// SHA-256 of a CA's public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin(pub [u8; 32]);

impl Serialize for Pin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Pin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pin, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(D::Error::custom)?;
        <[u8; 32]>::try_from(bytes)
            .map(Pin)
            .map_err(|_| D::Error::custom("a pin has 32 bytes"))
    }
}

mod base64 {
    use super::{BASE64, Deserialize, Deserializer, Serializer};
    use serde::de::Error;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64.decode(text.as_bytes()).map_err(D::Error::custom)
    }
}

/// The identity could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is none.
    #[error(
        "this host has not joined a server ({} is not there): run dawnwatch-agent join SERVER LINE",
        .0.display()
    )]
    NotJoined(PathBuf),
    /// It is there and may not or cannot be read.
    #[error("cannot read {}: {source}; run as root, or as the user the agent runs as", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is not what was written.
    #[error("{} is damaged ({why}): re-join with dawnwatch-agent join SERVER LINE", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A later version wrote it.
    #[error("{} was written by a later dawnwatch-agent: upgrade, or roll back", .0.display())]
    Newer(PathBuf),
}

/// The identity could not be stored.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}; run as root, and see whether the disk is full or read-only", path.display())]
pub struct StoreError {
    path: PathBuf,
    source: io::Error,
}

impl Document {
    pub(super) fn new(host_id: HostId, host_name: String, pin: Pin, token: String) -> Document {
        Document {
            version: VERSION,
            host_id,
            host_name,
            servers: Vec::new(),
            pins: vec![pin],
            token,
            offset_ms: 0,
            leaf: Vec::new(),
            key: Vec::new(),
        }
    }

    /// Puts this server first in the list.
    pub(super) fn prefer(&mut self, server: &str) {
        self.servers.retain(|known| known != server);
        self.servers.insert(0, server.to_owned());
        self.servers.truncate(SERVERS_MAX);
    }
}

pub(super) fn load(state: &Path) -> Result<Document, LoadError> {
    read(state, FILE)?.ok_or_else(|| LoadError::NotJoined(state.join(FILE)))
}

/// Which file the identity in force is, when it was written, and how long it is.
pub(super) fn stamp(state: &Path) -> Option<[i128; 3]> {
    let meta = std::fs::metadata(state.join(FILE)).ok()?;
    let written_ns = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
    Some([meta.ino().into(), written_ns, meta.len().into()])
}

pub(super) fn save(state: &Path, document: &Document) -> Result<(), StoreError> {
    write(state, FILE, document)
}

/// The pending key of this purpose; one that cannot be read was for nothing.
pub(super) fn pending(state: &Path, purpose: &Purpose) -> Option<Vec<u8>> {
    let pending: Pending = read(state, PENDING).ok().flatten()?;
    (pending.purpose == *purpose).then_some(pending.key)
}

/// Keeps a key until its certificate is stored.
pub(super) fn save_pending(state: &Path, purpose: Purpose, key: &[u8]) -> Result<(), StoreError> {
    write(
        state,
        PENDING,
        &Pending {
            version: VERSION,
            purpose,
            key: key.to_owned(),
        },
    )
}

pub(super) fn forget_pending(state: &Path) -> Result<(), StoreError> {
    remove(state, PENDING)
}

/// Stores a line of text.
pub(super) fn save_text(state: &Path, name: &str, text: &str) -> Result<(), StoreError> {
    try_write(state, name, format!("{text}\n").as_bytes()).map_err(|source| StoreError {
        path: state.join(name),
        source,
    })
}

/// Forgets who this host is; the spool is not touched.
///
/// # Errors
/// Where the files cannot be removed.
pub fn leave(state: &Path) -> Result<(), StoreError> {
    remove(state, FILE)?;
    remove(state, PENDING)
}

/// Makes the state directory, for the agent's eyes only.
pub(super) fn make_dir(state: &Path) -> Result<(), StoreError> {
    let made = DirBuilder::new().mode(0o700).recursive(true).create(state);
    made.map_err(|source| StoreError {
        path: state.to_owned(),
        source,
    })
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

fn read<T: DeserializeOwned>(state: &Path, name: &str) -> Result<Option<T>, LoadError> {
    let path = state.join(name);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(LoadError::Read { path, source }),
    };
    let damaged = |error: serde_json::Error| LoadError::Damaged {
        path: path.clone(),
        why: error.to_string(),
    };
    let found: VersionOnly = serde_json::from_slice(&bytes).map_err(damaged)?;
    if found.version > VERSION {
        return Err(LoadError::Newer(path));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

/// Whole or not at all: temporary file, fsync, rename, fsync of the directory.
fn write(state: &Path, name: &str, document: &impl Serialize) -> Result<(), StoreError> {
    let put = serde_json::to_vec_pretty(document)
        .map_err(io::Error::from)
        .and_then(|mut bytes| {
            bytes.push(b'\n');
            try_write(state, name, &bytes)
        });
    put.map_err(|source| StoreError {
        path: state.join(name),
        source,
    })
}

fn try_write(state: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let tmp = state.join(format!(".{name}.tmp"));
    ignore_missing(std::fs::remove_file(&tmp))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&tmp)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(&tmp, state.join(name))?;
    File::open(state)?.sync_all()
}

fn remove(state: &Path, name: &str) -> Result<(), StoreError> {
    let path = state.join(name);
    let removed = std::fs::remove_file(&path).and_then(|()| File::open(state)?.sync_all());
    ignore_missing(removed).map_err(|source| StoreError { path, source })
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn document() -> Document {
        let mut document = Document::new(
            HostId(1),
            "web01".to_owned(),
            Pin([7; 32]),
            "aebagbaf".to_owned(),
        );
        document.prefer("mon:7443");
        document.leaf = vec![1, 2, 3];
        document.key = vec![4, 5];
        document
    }

    #[test]
    fn the_file_has_this_form_and_is_for_the_agent_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        make_dir(&state).unwrap();
        save(&state, &document()).unwrap();
        let text = std::fs::read_to_string(state.join(FILE)).unwrap();
        assert_eq!(text, include_str!("testdata/identity-1.json"));
        assert!(load(&state).unwrap() == document());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&state), mode(&state.join(FILE))), (0o700, 0o600));
    }

    #[test]
    fn a_pending_key_serves_its_purpose_alone() {
        let dir = tempfile::tempdir().unwrap();
        let join = Purpose::Join {
            pin: Pin([7; 32]),
            token: "a".to_owned(),
        };
        let other = Purpose::Join {
            pin: Pin([7; 32]),
            token: "b".to_owned(),
        };
        assert_eq!(pending(dir.path(), &join), None);
        save_pending(dir.path(), join.clone(), &[9]).unwrap();
        assert_eq!(pending(dir.path(), &join), Some(vec![9]));
        assert_eq!(pending(dir.path(), &other), None);
        assert_eq!(
            pending(dir.path(), &Purpose::Renew { host_id: HostId(1) }),
            None
        );
        forget_pending(dir.path()).unwrap();
        forget_pending(dir.path()).unwrap();
        assert_eq!(pending(dir.path(), &join), None);
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let told = |bytes: Option<&str>| {
            if let Some(bytes) = bytes {
                std::fs::write(dir.path().join(FILE), bytes).unwrap();
            }
            load(dir.path()).err().unwrap().to_string()
        };
        assert!(told(None).contains("has not joined"));
        assert!(told(Some("{")).contains("is damaged"));
        assert!(told(Some("{\"version\":1}")).contains("is damaged"));
        assert!(told(Some("{\"version\":2}")).contains("later dawnwatch-agent"));
    }

    #[test]
    fn leaving_removes_the_identity_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &document()).unwrap();
        save_pending(dir.path(), Purpose::Renew { host_id: HostId(1) }, &[9]).unwrap();
        std::fs::write(dir.path().join("spool"), b"x").unwrap();
        leave(dir.path()).unwrap();
        leave(dir.path()).unwrap();
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn the_server_that_worked_last_is_first() {
        let mut document = document();
        for number in 0..20 {
            document.prefer(&format!("mon{number}:7443"));
        }
        document.prefer("mon15:7443");
        assert_eq!(document.servers.len(), SERVERS_MAX);
        assert_eq!(document.servers[..2], ["mon15:7443", "mon19:7443"]);
    }
}
