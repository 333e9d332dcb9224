//! Files that hold secrets or must never be half written: temporary file, fsync, rename, fsync of the directory.
//!
//! The two documents, `state.json` and `people.json`, end in a field `sum` from version 2 on: the CRC32C, in hex, of all bytes
//! before the comma that stands in front of it. A name or a role in which a bit flipped is still good JSON, and must not pass for what was written.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::IdentityError;

/// Makes the directory, for the server's eyes only; leaves one that is there as it is, but closes it to others.
pub(super) fn private_dir(dir: &Path) -> Result<(), IdentityError> {
    let made = DirBuilder::new().mode(0o700).recursive(true).create(dir);
    let closed = made.and_then(|()| {
        let permissions = std::fs::metadata(dir)?.permissions();
        if permissions.mode() & 0o077 == 0 {
            return Ok(());
        }
        std::fs::set_permissions(dir, PermissionsExt::from_mode(0o700))
    });
    closed.map_err(|source| IdentityError::Write {
        path: dir.to_owned(),
        source,
    })
}

/// Puts the file in place, whole or not at all, readable by the server alone.
pub(super) fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), IdentityError> {
    let path = dir.join(name);
    try_write(dir, name, bytes).map_err(|source| IdentityError::Write { path, source })
}

/// As [`write()`], with the system's own error.
pub(super) fn try_write(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let tmp = dir.join(format!(".{name}.tmp"));
    // What a crash left behind was never in force.
    match std::fs::remove_file(&tmp) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&tmp)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(&tmp, dir.join(name))?;
    File::open(dir)?.sync_all()
}

/// The file's bytes; none where there is no such file.
pub(super) fn read(dir: &Path, name: &str) -> Result<Option<Vec<u8>>, IdentityError> {
    let path = dir.join(name);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IdentityError::Read { path, source }),
    }
}

/// What stands before the checksum of a document.
const SUM: &[u8] = b",\n  \"sum\": \"";

/// What stands behind it.
const SUM_END: &[u8] = b"\"\n}\n";

/// Prints a document with its checksum behind it.
pub(super) fn print(document: &impl serde::Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(document).expect("maps with text keys always print");
    // Behind the last field: before its line's end and the closing brace.
    bytes.truncate(bytes.len().saturating_sub(2));
    let sum = format!("{:08x}", crc32c::crc32c(&bytes));
    for part in [SUM, sum.as_bytes(), SUM_END] {
        bytes.extend_from_slice(part);
    }
    bytes
}

/// Checks a document against its checksum. `version` is what it says of itself, and `known` the latest that this build reads.
pub(super) fn check(bytes: &[u8], version: u32, known: u32) -> Result<(), String> {
    let digits = bytes
        .strip_suffix(SUM_END)
        .and_then(|rest| rest.split_last_chunk::<8>());
    let summed = digits.and_then(|(rest, sum)| Some((rest.strip_suffix(SUM)?, sum)));
    match summed {
        Some((body, sum)) if format!("{:08x}", crc32c::crc32c(body)).as_bytes() == sum => Ok(()),
        Some(_) => Err("its checksum does not match".to_owned()),
        None if (2..=known).contains(&version) => Err("its checksum is missing".to_owned()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_for_the_server_alone_and_survives_a_stale_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("identity");
        private_dir(&dir).unwrap();
        std::fs::write(dir.join(".ca.key.tmp"), b"half").unwrap();
        write(&dir, "ca.key", b"whole").unwrap();
        assert_eq!(
            read(&dir, "ca.key").unwrap().as_deref(),
            Some(&b"whole"[..])
        );
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&dir.join("ca.key"))), (0o700, 0o600));
        assert!(!dir.join(".ca.key.tmp").exists());
        assert_eq!(read(&dir, "none").unwrap(), None);
    }

    #[test]
    fn every_flip_and_cut_of_a_document_is_found() {
        let whole = print(&serde_json::json!({ "name": "db02", "role": "viewer", "version": 2 }));
        assert_eq!(check(&whole, 2, 2), Ok(()));
        let read: serde_json::Value = serde_json::from_slice(&whole).unwrap();
        assert_eq!(read["name"], "db02");
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&flipped, 2, 2).is_err(), "bit {bit}");
        }
        for cut in 0..whole.len() {
            assert!(check(&whole[..cut], 2, 2).is_err(), "cut at {cut}");
        }
        assert_eq!(check(b"{\"version\":1}", 1, 2), Ok(()));
    }

    #[test]
    fn a_directory_open_to_others_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        private_dir(dir.path()).unwrap();
        let mode = std::fs::metadata(dir.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
