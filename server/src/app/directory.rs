//! The data directory: who holds it, and what a clean stop leaves in it.

use std::fs::{self, File};
use std::path::Path;

use jiff::Timestamp;

use super::Failed;
use crate::keep::clean::Clean;
use crate::keep::upgrade::{self, Begun};

/// Files that are told as gone at a start: the rest is for `verify`.
const MISSING_TOLD: usize = 20;

/// Holds a data directory that is there, so that no server starts on it meanwhile; as long as the file lives.
///
/// # Errors
/// [`Failed::InUse`] where a server runs on it, [`Failed::Data`] where it cannot be used.
pub fn hold(data: &Path) -> Result<File, Failed> {
    if !data.is_dir() {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        let path = data.to_owned();
        return Err(Failed::Data { path, source });
    }
    lock(data)
}

/// Makes the data directory and locks it; the lock lasts as long as the file.
pub(super) fn lock(data: &Path) -> Result<File, Failed> {
    let failed = |source| Failed::Data {
        path: data.to_owned(),
        source,
    };
    fs::create_dir_all(data).map_err(failed)?;
    fs::set_permissions(data, std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .map_err(failed)?;
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(data.join("LOCK"))
        .map_err(failed)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Failed::InUse(data.to_owned())),
        Err(errno) => Err(failed(errno.into())),
    }
}

/// Leaves the mark of a clean stop.
pub(super) fn mark_clean(data: &Path) -> Result<(), Failed> {
    Clean::write(data).map_err(|source| Failed::Data {
        path: data.to_owned(),
        source,
    })
}

/// What is not as the last clean stop left it, before anything is written.
fn missing(data: &Path) -> Vec<String> {
    let clean = Clean::read(data);
    let missing = clean.map(|clean| clean.missing(data).unwrap_or_default());
    let missing = missing.unwrap_or_default().into_iter();
    // Damage is told, not listed: `verify` does that.
    missing
        .take(MISSING_TOLD)
        .map(|one| one.to_string())
        .collect()
}

/// Refuses data of a later version, and keeps the way back where another version begins. Returns what is not as the last clean stop left it.
pub(super) fn begin(data: &Path, now: Timestamp) -> Result<Vec<String>, Failed> {
    let missing = missing(data);
    match upgrade::begin(data, now)? {
        Begun::Same | Begun::First => {}
        Begun::Upgraded { from } => tracing::info!(
            from = from.unwrap_or_else(|| "an earlier version".to_owned()),
            to = env!("CARGO_PKG_VERSION"),
            "another version begins: pre-upgrade/ is kept for 7 days, dawnwatch-server rollback returns to it"
        ),
    }
    Ok(missing)
}

/// Removes the way back once its time is over.
pub(super) fn forget_upgrade(data: &Path, now: Timestamp) {
    match upgrade::forget(data, now) {
        Ok(true) => tracing::info!("pre-upgrade/ removed: this version has run for 7 days"),
        Ok(false) => {}
        Err(error) => tracing::warn!(%error, "pre-upgrade/ not removed"),
    }
}
