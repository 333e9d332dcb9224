//! `backup` and `restore`: a second data directory, elsewhere, with a sum of every file.
//!
//! ```text
//! DAWNWATCH-BACKUP     says what this is and how to put it back; locked while a backup is made
//! MANIFEST             every file with its SHA-256: what is not in it does not count
//! files/               what never changes: hour files, summaries, nights; kept from one backup to the next
//! set-N/               the rest as it was at backup N
//! ```
//!
//! [`Manifest`] is replaced by rename when all that it names is durable, so that a backup that was cut off leaves the one before.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use ring::digest::{Context, SHA256};

use super::files::LOG_SEGMENTS;
pub use super::manifest::Manifest;
use super::manifest::{MANIFEST, Sum};
use super::restored::Restored;
use super::snapshot::{self, Error, create, failed, private_dir, sync_dir};
use crate::checkpoint;
use crate::verify::Progress;

const NOTE: &str = "DAWNWATCH-BACKUP";

/// In a data directory while a backup is put back into it, and locked by who does: without it half of the data would look like a whole.
pub(super) const HALF: &str = "restoring";

/// Bytes that are read at once.
const CHUNK: usize = 256 * 1024;

/// Where a snapshot lies within the data directory while it is copied. It ends like all that is unfinished.
const STAGE: &str = "backup.tmp";

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Files in the backup.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were there from an earlier backup.
    pub kept: usize,
    /// When the last input came in that is in it.
    pub until: Option<Timestamp>,
}

/// Makes a backup of `data` in `to`, also while a server runs; every file is read again and compared at the end.
///
/// # Errors
/// Where `to` holds something else, or what the file system says; the backup before stays as it was.
pub fn backup(
    data: &Path,
    to: &Path,
    now: Timestamp,
    tell: &mut dyn FnMut(&Progress),
) -> Result<Done, Error> {
    let _lock = open(data, to)?;
    let _stage = hold_stage(data)?;
    let before = read_if_there(to)?;
    let stage = data.join(STAGE);
    remove_dir(&stage)?;
    let taken = snapshot::take(data, &stage)?;
    let done = store(&stage, to, before, taken.until, now, tell);
    // Also where it failed: a snapshot that stays holds room that expired files should give back.
    remove_dir(&stage)?;
    done
}

/// Checks where the backup goes, and holds it.
fn open(data: &Path, to: &Path) -> Result<File, Error> {
    let refuse = |why: &str| failed("back up to", to)(io::Error::other(why.to_owned()));
    if super::files::list_all(data)
        .map_err(failed("list", data))?
        .is_empty()
    {
        let why = "there is nothing of dawnwatch-server in it; is it the right directory? name it with --data";
        return Err(failed("back up", data)(io::Error::other(why)));
    }
    if is_half_restored(data) {
        let why = "a restore into it was cut off, so only a part of the data is there: run that restore again";
        return Err(failed("back up", data)(io::Error::other(why)));
    }
    private_dir(to)?;
    let (inner, outer) = (real(to)?, real(data)?);
    if inner.starts_with(&outer) || outer.starts_with(&inner) {
        return Err(refuse(
            "it lies within the data directory, or around it: choose another place, best on another disk",
        ));
    }
    let mut entries = fs::read_dir(to).map_err(failed("list", to))?;
    let note = to.join(NOTE);
    if entries.next().is_some() && !note.exists() {
        return Err(refuse(
            "there is something else in it: name an empty directory or an earlier backup",
        ));
    }
    close_to_others(to)?;
    if !note.exists() {
        let mut file = create(&note)?;
        let text = "A backup of dawnwatch-server. To put it back: dawnwatch-server --data NEW restore THIS-DIRECTORY\nIt holds keys: keep it as closed as the server itself.\n";
        file.write_all(text.as_bytes())
            .map_err(failed("write", &note))?;
    }
    let lock = File::open(&note).map_err(failed("open", &note))?;
    match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(_) => Err(refuse("another backup is being made there: wait for it")),
    }
}

/// Holds the place of the snapshot: there is one in a data directory, wherever a backup goes.
fn hold_stage(data: &Path) -> Result<File, Error> {
    let dir = File::open(data).map_err(failed("open", data))?;
    match rustix::fs::flock(&dir, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(dir),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let why = "another backup of it is being made, to another place: wait for it";
            Err(failed("back up", data)(io::Error::other(why)))
        }
        Err(errno) => Err(failed("lock", data)(errno.into())),
    }
}

fn real(path: &Path) -> Result<PathBuf, Error> {
    fs::canonicalize(path).map_err(failed("find", path))
}

fn close_to_others(path: &Path) -> Result<(), Error> {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(path, mode).map_err(failed("close to others", path))
}

fn remove_dir(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether a file never changes once it has its name.
fn is_immutable(path: &str) -> bool {
    path.ends_with(".dwh") || path.ends_with(".dws") || path.starts_with("nights/")
}

fn store(
    stage: &Path,
    to: &Path,
    before: Option<Manifest>,
    until: Option<Timestamp>,
    now: Timestamp,
    tell: &mut dyn FnMut(&Progress),
) -> Result<Done, Error> {
    let before = before.map(|manifest| (manifest.files, manifest.made));
    let (known, before) = before.unwrap_or_default();
    let set = format!("set-{}", next_set(to)?);
    let mut manifest = Manifest {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        made: now,
        until,
        files: BTreeMap::new(),
    };
    let all = walk(stage)?;
    let mut progress = Progress {
        files_all: 2 * all.len() as u64,
        bytes_all: 2 * all.iter().map(|(_, bytes)| bytes).sum::<u64>(),
        ..Progress::default()
    };
    let mut kept = 0;
    for (path, bytes) in all {
        let kept_as = format!("files/{path}");
        let is_other = match known.get(&kept_as) {
            Some(sum) => is_rewritten(&stage.join(&path), sum, before)?,
            None => false,
        };
        let stored = if is_immutable(&path) && !is_other {
            kept_as
        } else {
            format!("{set}/{path}")
        };
        let target = to.join(&stored);
        let there = fs::metadata(&target).map_or(0, |meta| meta.len());
        let sum = match known.get(&stored) {
            Some(sum) if sum.bytes == bytes && there == bytes && is_whole(&target, sum)? => {
                kept += 1;
                sum.clone()
            }
            Some(_) | None => put(&stage.join(&path), &target)?,
        };
        manifest.files.insert(stored, sum);
        progress.files += 1;
        progress.bytes += bytes;
        tell(&progress);
    }
    sync_all_dirs(to, &manifest)?;
    for (stored, sum) in &manifest.files {
        let path = to.join(stored);
        if !is_whole(&path, sum)? {
            let why = "what was written reads back as something else; look at that disk";
            return Err(failed("verify", &path)(io::Error::other(why)));
        }
        progress.files += 1;
        progress.bytes += sum.bytes;
        tell(&progress);
    }
    let path = to.join(MANIFEST);
    checkpoint::replace(&path, manifest.print().as_bytes()).map_err(failed("write", &path))?;
    close_file(&path)?;
    sweep(to, &manifest)?;
    Ok(Done {
        files: manifest.files.len(),
        bytes: manifest.files.values().map(|sum| sum.bytes).sum(),
        kept,
        until,
    })
}

/// Whether a file that never changes was written anew since the backup before, as without an erased host: that must not take the
/// place of what the manifest before still names. One that a disk changed is none: the sound copy stays.
fn is_rewritten(path: &Path, sum: &Sum, before: Timestamp) -> Result<bool, Error> {
    let meta = fs::metadata(path).map_err(failed("look at", path))?;
    let modified = meta.modified().ok();
    let modified = modified.and_then(|at| Timestamp::try_from(at).ok());
    let is_later = modified.is_none_or(|at| at >= before);
    Ok(meta.len() != sum.bytes || is_later && !is_whole(path, sum)?)
}

fn close_file(path: &Path) -> Result<(), Error> {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(path, mode).map_err(failed("close to others", path))
}

/// A number that no set has.
fn next_set(to: &Path) -> Result<u64, Error> {
    let entries = fs::read_dir(to).map_err(failed("list", to))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let last = names.filter_map(|name| name.strip_prefix("set-")?.parse::<u64>().ok());
    Ok(last.max().unwrap_or(0) + 1)
}

/// Copies a file and makes it durable; its sum is of what was read.
fn put(from: &Path, to: &Path) -> Result<Sum, Error> {
    if let Some(dir) = to.parent() {
        private_dir(dir)?;
    }
    // Half of a copy that was cut off, or one that turned out damaged.
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("replace", to)(error));
        }
        Ok(()) | Err(_) => {}
    }
    let source = File::open(from).map_err(failed("read", from))?;
    let mut out = create(to)?;
    let sum = pass(source, from, |chunk| {
        out.write_all(chunk).map_err(failed("write", to))
    })?;
    out.sync_all().map_err(failed("sync", to))?;
    // What is read to compare it comes from the disk then, as far as the system grants it.
    let _ = rustix::fs::fadvise(&out, 0, None, rustix::fs::Advice::DontNeed);
    Ok(sum)
}

fn pass(
    mut source: File,
    name: &Path,
    mut see: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<Sum, Error> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        let read = source.read(&mut buffer).map_err(failed("read", name))?;
        if read == 0 {
            break;
        }
        context.update(&buffer[..read]);
        see(&buffer[..read])?;
        bytes += read as u64;
    }
    let sha256 = data_encoding::HEXLOWER.encode(context.finish().as_ref());
    Ok(Sum { sha256, bytes })
}

fn is_whole(path: &Path, sum: &Sum) -> Result<bool, Error> {
    let file = File::open(path).map_err(failed("read", path))?;
    Ok(pass(file, path, |_| Ok(()))? == *sum)
}

/// All files below a directory, by their paths there.
fn walk(dir: &Path) -> Result<Vec<(String, u64)>, Error> {
    let mut all = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).map_err(failed("list", &at))? {
            let entry = entry.map_err(failed("list", &at))?;
            let meta = entry.metadata().map_err(failed("look at", &entry.path()))?;
            if meta.is_dir() {
                open.push(entry.path());
            } else if let Ok(path) = entry.path().strip_prefix(dir) {
                all.push((path.to_string_lossy().into_owned(), meta.len()));
            }
        }
    }
    all.sort();
    Ok(all)
}

fn sync_all_dirs(to: &Path, manifest: &Manifest) -> Result<(), Error> {
    let dirs = manifest.files.keys().flat_map(|stored| {
        let above = Path::new(stored).ancestors().skip(1);
        above.map(|dir| to.join(dir)).collect::<Vec<_>>()
    });
    let dirs: std::collections::BTreeSet<PathBuf> = dirs.collect();
    dirs.iter().try_for_each(|dir| sync_dir(dir))
}

/// Removes what no manifest names any more: sets of before, and what expired.
fn sweep(to: &Path, manifest: &Manifest) -> Result<(), Error> {
    for (path, _) in walk(to)? {
        let ours = path.starts_with("files/") || path.starts_with("set-");
        if ours && !manifest.files.contains_key(&path) {
            let path = to.join(path);
            fs::remove_file(&path).map_err(failed("remove", &path))?;
        }
    }
    // Directories that are empty now; one that is not stays.
    for entry in fs::read_dir(to).map_err(failed("list", to))?.flatten() {
        let set = entry.file_name().to_string_lossy().starts_with("set-");
        if set && walk(&entry.path())?.is_empty() {
            remove_dir(&entry.path())?;
        }
    }
    Ok(())
}

fn read_if_there(to: &Path) -> Result<Option<Manifest>, Error> {
    if to.join(MANIFEST).exists() {
        Manifest::read(to).map(Some)
    } else {
        Ok(None)
    }
}

/// Puts a backup back into `data`, which must be empty or not there; every file is compared with its sum.
///
/// # Errors
/// Where `data` is in use, the backup is damaged, or what the file system says; what was begun is removed again.
pub fn restore(
    from: &Path,
    data: &Path,
    tell: &mut dyn FnMut(&Progress),
) -> Result<Manifest, Error> {
    let manifest = Manifest::read(from)?;
    let mark = data.join(HALF);
    let taken = fs::read_dir(data).is_ok_and(|mut entries| entries.next().is_some());
    if taken && !mark.exists() {
        let why = "there is something in it: name a directory that is empty or not there yet";
        return Err(failed("restore to", data)(io::Error::other(why)));
    }
    private_dir(data)?;
    close_to_others(data)?;
    let _lock = begin_restore(data, &mark)?;
    // What one that was cut off left: nothing else was in it.
    clear(data)?;
    let done = fill(from, data, &manifest, tell);
    if let Err(error) = done {
        // Half of a data directory must not be started: where it cannot be removed, the mark stays.
        if clear(data).is_ok() {
            let _ = fs::remove_file(&mark);
        }
        return Err(error);
    }
    fs::remove_file(&mark).map_err(failed("remove", &mark))?;
    sync_dir(data)?;
    Ok(manifest)
}

/// Leaves the mark of a restore that is under way, durably, and holds it.
fn begin_restore(data: &Path, mark: &Path) -> Result<File, Error> {
    if !mark.exists() {
        create(mark)?;
    }
    sync_dir(data)?;
    let lock = File::open(mark).map_err(failed("open", mark))?;
    match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        // One that ended in this moment took its mark along.
        Ok(()) if mark.exists() => Ok(lock),
        Ok(()) | Err(_) => {
            let why = "another restore is at work there: wait for it";
            Err(failed("restore to", data)(io::Error::other(why)))
        }
    }
}

/// Whether a restore into this directory was cut off, or is still at work.
pub(super) fn is_half_restored(data: &Path) -> bool {
    data.join(HALF).exists()
}

/// Removes all but the mark.
fn clear(data: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(data).map_err(failed("list", data))? {
        let path = entry.map_err(failed("list", data))?.path();
        if path.ends_with(HALF) {
            continue;
        }
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.map_err(failed("remove", &path))?;
    }
    Ok(())
}

fn fill(
    from: &Path,
    data: &Path,
    manifest: &Manifest,
    tell: &mut dyn FnMut(&Progress),
) -> Result<(), Error> {
    let mut progress = Progress {
        files_all: manifest.files.len() as u64,
        bytes_all: manifest.files.values().map(|sum| sum.bytes).sum(),
        ..Progress::default()
    };
    let mut dirs = vec![data.to_owned()];
    for (stored, sum) in &manifest.files {
        let Some((_, path)) = stored.split_once('/') else {
            continue;
        };
        let target = data.join(path);
        if put(&from.join(stored), &target)? != *sum {
            let why = "it is not what was backed up: the backup is damaged; take another one, or copy this file out of another";
            let source = io::Error::new(io::ErrorKind::InvalidData, why);
            return Err(failed("restore", &from.join(stored))(source));
        }
        dirs.extend(target.parent().map(Path::to_owned));
        progress.files += 1;
        progress.bytes += sum.bytes;
        tell(&progress);
    }
    for room in super::files::ROOMS {
        private_dir(&data.join(room))?;
    }
    for (room, bytes) in LOG_SEGMENTS {
        reserve(data, room, bytes)?;
    }
    let mark = Restored {
        until: manifest.until,
        how: "restored from a backup".to_owned(),
    };
    mark.write(data).map_err(failed("mark", data))?;
    dirs.sort();
    dirs.dedup();
    dirs.iter().try_for_each(|dir| sync_dir(dir))
}

/// Gives the last segment of a log the length that a segment in use has.
pub(super) fn reserve(data: &Path, room: &'static str, bytes: u64) -> Result<(), Error> {
    let held = super::files::list(data, room).map_err(failed("list", &data.join(room)))?;
    let Some(last) = held.iter().rfind(|held| held.name.ends_with(".seg")) else {
        return Ok(());
    };
    let path = data.join(last.path());
    let file = File::options().write(true).open(&path);
    let file = file.map_err(failed("open", &path))?;
    if last.bytes < bytes {
        file.set_len(bytes)
            .map_err(failed("reserve space for", &path))?;
    }
    file.sync_all().map_err(failed("sync", &path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify;

    fn now() -> Timestamp {
        Timestamp::from_second(1_790_100_000).unwrap()
    }

    fn sound(data: &Path) -> bool {
        let report = verify::verify(data, &mut |_| {}).unwrap();
        assert_eq!(report.damages, []);
        report.sound
    }

    #[test]
    fn what_is_backed_up_comes_back_and_the_second_backup_copies_what_is_new() {
        let dir = tempfile::tempdir().unwrap();
        let (data, to, back) = (
            dir.path().join("data"),
            dir.path().join("to"),
            dir.path().join("back"),
        );
        verify::tests::build(&data);
        let first = backup(&data, &to, now(), &mut |_| {}).unwrap();
        assert_eq!(first.kept, 0);
        assert_eq!(
            first.until,
            Some(Timestamp::from_second(1_790_000_008).unwrap())
        );
        assert!(!data.join(STAGE).exists());
        let mode = |path: &Path| {
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions())
                & 0o777
        };
        assert_eq!((mode(&to), mode(&to.join(MANIFEST))), (0o700, 0o600));
        let second = backup(&data, &to, now(), &mut |_| {}).unwrap();
        // Two hour files, four summaries, two files of a night.
        assert_eq!((second.files, second.kept), (first.files, 8));
        let sets = fs::read_dir(&to).unwrap().flatten();
        let sets = sets.filter(|entry| entry.file_name().to_string_lossy().starts_with("set-"));
        assert_eq!(sets.count(), 1, "the set of the first backup is gone");

        let manifest = restore(&to, &back, &mut |_| {}).unwrap();
        assert_eq!(manifest.until, first.until);
        assert!(sound(&back));
        // As if it had been killed before its last step.
        fs::write(back.join(HALF), "").unwrap();
        let half = verify::verify(&back, &mut |_| {}).unwrap();
        let mut whats = half.damages.iter().map(|damage| damage.what.as_str());
        assert!(whats.any(|what| what == "a restore was cut off"));
        assert!(backup(&back, &dir.path().join("no"), now(), &mut |_| {}).is_err());
        fs::write(back.join("journal/half"), "x").unwrap();
        restore(&to, &back, &mut |_| {}).unwrap();
        assert!(sound(&back) && !back.join("journal/half").exists());
        for room in super::super::files::ROOMS {
            for held in super::super::files::list(&data, room).unwrap() {
                let (a, b) = (
                    fs::read(data.join(held.path())).unwrap(),
                    fs::read(back.join(held.path())).unwrap(),
                );
                let whole = a.len().min(b.len());
                assert_eq!(a[..whole], b[..whole], "{}", held.path());
                let longer = if a.len() > whole { &a } else { &b };
                assert!(
                    longer[whole..].iter().all(|byte| *byte == 0),
                    "{}",
                    held.path()
                );
            }
        }
        let again = restore(&to, &back, &mut |_| {}).unwrap_err().to_string();
        assert!(again.contains("something in it"), "{again}");
    }

    #[test]
    fn a_second_backup_to_elsewhere_waits_for_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        verify::tests::build(&data);
        let mut tried = Vec::new();
        let mut meanwhile = |progress: &Progress| {
            if progress.files == 3 {
                let second = backup(&data, &other, now(), &mut |_| {});
                tried.push(second.unwrap_err().to_string());
            }
        };
        backup(&data, &one, now(), &mut meanwhile).unwrap();
        assert!(
            tried.len() == 1 && tried[0].contains("another backup of it"),
            "{tried:?}"
        );
        let back = dir.path().join("back");
        restore(&one, &back, &mut |_| {}).unwrap();
        assert!(sound(&back));
        backup(&data, &other, now(), &mut |_| {}).unwrap();
    }

    #[test]
    fn what_was_written_anew_in_the_same_length_is_backed_up_and_what_rotted_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (data, to) = (dir.path().join("data"), dir.path().join("to"));
        verify::tests::build(&data);
        backup(&data, &to, now(), &mut |_| {}).unwrap();
        let is_night = |held: &&super::super::files::Held| held.name.ends_with(".evidence.json");
        let nights = super::super::files::list(&data, "nights").unwrap();
        let night = nights.iter().find(is_night).unwrap().path();
        let whole = fs::read(data.join(&night)).unwrap();
        let with = |byte: u8, seconds: i64| {
            let mut bytes = whole.clone();
            bytes[2] = byte;
            fs::write(data.join(&night), bytes).unwrap();
            let file = File::options().append(true).open(data.join(&night));
            let at = now().as_second() + seconds;
            let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(at.unsigned_abs());
            file.unwrap().set_modified(at).unwrap();
        };
        let mut tries = 0;
        let mut kept = |later: i64| {
            let at = Timestamp::from_second(now().as_second() + later).unwrap();
            backup(&data, &to, at, &mut |_| {}).unwrap();
            tries += 1;
            let back = dir.path().join(format!("back-{tries}"));
            restore(&to, &back, &mut |_| {}).unwrap();
            fs::read(back.join(&night)).unwrap()[2]
        };
        // A host's name gave way to a pseudonym of eight letters.
        with(b'e', 60);
        assert_eq!([kept(120), kept(180)], [b'e'; 2]);
        // The disk lost a bit; nobody wrote it.
        with(b'd', 60);
        assert_eq!(kept(240), b'e');
    }

    #[test]
    fn places_that_would_harm_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        verify::tests::build(&data);
        let refused = |to: &Path, part: &str| {
            let error = backup(&data, to, now(), &mut |_| {})
                .unwrap_err()
                .to_string();
            assert!(error.contains(part), "{error}");
        };
        refused(&data.join("backup"), "within the data directory");
        refused(dir.path(), "within the data directory, or around it");
        let other = dir.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("holiday.jpg"), "x").unwrap();
        refused(&other, "something else");
        let empty = dir.path().join("empty");
        fs::create_dir(&empty).unwrap();
        let error = backup(&empty, &dir.path().join("to"), now(), &mut |_| {}).unwrap_err();
        assert!(
            error.to_string().contains("nothing of dawnwatch"),
            "{error}"
        );
        assert!(!dir.path().join("to").exists());
    }

    #[test]
    fn a_damaged_backup_restores_nothing_and_mends_with_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let (data, to) = (dir.path().join("data"), dir.path().join("to"));
        verify::tests::build(&data);
        backup(&data, &to, now(), &mut |_| {}).unwrap();
        let stored: Vec<String> = Manifest::read(&to).unwrap().files.into_keys().collect();
        assert!(stored.len() > 15);
        for (i, stored) in stored.iter().enumerate() {
            let path = to.join(stored);
            let whole = fs::read(&path).unwrap();
            let mut flipped = whole.clone();
            flipped[i * whole.len() / 40] ^= 1;
            fs::write(&path, &flipped).unwrap();
            let back = dir.path().join(format!("back-{i}"));
            let error = restore(&to, &back, &mut |_| {}).unwrap_err();
            assert_eq!(error.source.kind(), io::ErrorKind::InvalidData, "{stored}");
            assert_eq!(fs::read_dir(&back).unwrap().count(), 0, "{stored}");
            fs::write(&path, &whole).unwrap();
        }
        let hour = stored
            .iter()
            .find(|stored| stored.ends_with(".dwh"))
            .unwrap();
        fs::write(to.join(hour), "x").unwrap();
        let mended = backup(&data, &to, now(), &mut |_| {}).unwrap();
        assert_eq!(mended.kept, 7);
        let text = fs::read_to_string(to.join(MANIFEST)).unwrap();
        fs::write(to.join(MANIFEST), text.replace("version 0", "version 1")).unwrap();
        let error = restore(&to, &dir.path().join("x"), &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
        fs::write(to.join(MANIFEST), text.replace("backup 1", "backup 2")).unwrap();
        let error = restore(&to, &dir.path().join("x"), &mut |_| {}).unwrap_err();
        assert!(
            error.to_string().contains("later dawnwatch-server"),
            "{error}"
        );
    }
}
