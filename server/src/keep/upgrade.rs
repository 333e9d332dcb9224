//! The way back after an upgrade.
//!
//! The first start of another version keeps `pre-upgrade/`, a snapshot ([`super::snapshot`]: mostly links, so it costs little room), before
//! it writes anything else. `rollback` returns to it: what was written since goes to `after-upgrade/`, by renames alone, and is
//! never removed. `pre-upgrade/` goes after a week, once the new version has sealed a night.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use super::clean;
use super::files::{self, LOG_SEGMENTS};
use super::restored::{self, Restored};
use super::snapshot::{self, Error, failed, sync_dir};
use super::version::{self, Version};
use crate::verify::logs;

/// Where the state before an upgrade is kept.
pub const BEFORE: &str = "pre-upgrade";

/// Where what was written after it is put aside.
pub const AFTER: &str = "after-upgrade";

/// `pre-upgrade/` while what was written since is put aside: a rollback that was cut off goes on with that.
const LEAVING: &str = "pre-upgrade.leaving";

/// `pre-upgrade/` on its way back: a rollback that was cut off goes on from here.
const RETURNING: &str = "pre-upgrade.returning";

/// The way back is kept this long: a weekend and the week that shows what is wrong.
const KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What is moved by a rollback.
const MOVED: [&str; 13] = [
    "identity",
    "checkpoint",
    "ledger",
    "history",
    "nights",
    "journal",
    "index",
    "index.damaged",
    "dawnwatch.toml",
    clean::FILE,
    version::FILE,
    restored::FILE,
    "api.sock",
];

/// Why a start does not go on, or there is no way back.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// A later version wrote the data.
    #[error(
        "dawnwatch-server {server} wrote this data directory and this is {}, which does not read: {}; nothing was changed. Start {server} again, or go back to \
         how things were before the upgrade with: dawnwatch-server rollback", env!("CARGO_PKG_VERSION"), what.join(", ")
    )]
    Newer {
        /// The version that wrote it.
        server: String,
        /// The formats that this one does not read.
        what: Vec<String>,
    },
    /// The file that says which version it was is damaged.
    #[error(
        "the file version of the data directory is damaged ({0}): copy it out of a backup, or remove it if the same version goes on"
    )]
    Damaged(String),
    /// A rollback was cut off.
    #[error(
        "a rollback was cut off in the middle: run dawnwatch-server rollback again, it goes on where it stopped"
    )]
    Midway,
    /// A restore was cut off.
    #[error(
        "a restore into {} was cut off, so only a part of the data is there: run the same dawnwatch-server restore again, it begins anew", .0.display()
    )]
    HalfRestored(PathBuf),
    /// There is nothing to go back to.
    #[error(
        "there is no pre-upgrade/ in {}: it is kept for 7 days after the first start of another version", .0.display()
    )]
    NoWay(PathBuf),
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] Error),
}

/// What a start found about its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// The same version as before.
    Same,
    /// There were no data.
    First,
    /// Another version: the way back is kept.
    Upgraded {
        /// The version before; none where it left no mark.
        from: Option<String>,
    },
}

/// Called by a start that holds the directory, before anything is written: refuses data of a later version, keeps the way back where
/// another version begins.
///
/// # Errors
/// [`UpgradeError`]; nothing was changed.
pub fn begin(data: &Path, now: Timestamp) -> Result<Begun, UpgradeError> {
    if data.join(LEAVING).exists() || data.join(RETURNING).exists() {
        return Err(UpgradeError::Midway);
    }
    if super::backup::is_half_restored(data) {
        return Err(UpgradeError::HalfRestored(data.to_owned()));
    }
    let found = Version::read(data).map_err(UpgradeError::Damaged)?;
    let own = Version::own(now);
    if let Some(found) = &found {
        let what = found.unknown();
        if !what.is_empty() {
            let server = found.server.clone();
            return Err(UpgradeError::Newer { server, what });
        }
        if found.is_same(&own) {
            return Ok(Begun::Same);
        }
    }
    let has_data = !files::list_all(data)
        .map_err(failed("list", data))?
        .is_empty();
    if has_data {
        keep(data)?;
    }
    own.write(data)
        .map_err(failed("write", &data.join(version::FILE)))?;
    Ok(match (has_data, found) {
        (false, _) => Begun::First,
        (true, found) => Begun::Upgraded {
            from: found.map(|found| found.server),
        },
    })
}

/// The mark of a restore or a rollback that was cut off, and what that means; none where there is none.
#[must_use]
pub fn cut_off(data: &Path) -> Option<(&'static str, &'static str)> {
    let rollback = [LEAVING, RETURNING].into_iter();
    let mut marks = rollback.map(|mark| (mark, "a rollback was cut off"));
    let rollback = marks.find(|(mark, _)| data.join(mark).exists());
    let restore = super::backup::is_half_restored(data);
    rollback.or(restore.then_some((super::backup::HALF, "a restore was cut off")))
}

/// Puts a snapshot where the way back begins, in the place of an earlier one.
fn keep(data: &Path) -> Result<(), Error> {
    let (tmp, old) = (
        data.join("pre-upgrade.tmp"),
        data.join("pre-upgrade.old.tmp"),
    );
    for left in [&tmp, &old] {
        remove(left)?;
    }
    snapshot::take(data, &tmp)?;
    // All of it at once: it is many small directories.
    let dir = fs::File::open(data).map_err(failed("open", data))?;
    rustix::fs::syncfs(&dir).map_err(|errno| failed("sync", data)(errno.into()))?;
    let before = data.join(BEFORE);
    if before.exists() {
        fs::rename(&before, &old).map_err(failed("rename", &before))?;
    }
    fs::rename(&tmp, &before).map_err(failed("rename", &tmp))?;
    sync_dir(data)?;
    remove(&old)
}

fn remove(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", dir)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes the way back once its time is over and the new version has sealed a night. Says whether it did.
///
/// # Errors
/// What the file system says.
pub fn forget(data: &Path, now: Timestamp) -> Result<bool, Error> {
    let before = data.join(BEFORE);
    if !before.exists() {
        return Ok(false);
    }
    let since = Version::read(data).ok().flatten().map(|found| found.since);
    let over = since.is_some_and(|since| now.duration_since(since) >= KEPT);
    if !over || files_since(data, &before, "nights").is_empty() {
        return Ok(false);
    }
    let going = data.join("pre-upgrade.old.tmp");
    remove(&going)?;
    fs::rename(&before, &going).map_err(failed("rename", &before))?;
    remove(&going)?;
    Ok(true)
}

/// What a rollback did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledBack {
    /// The version to start; none where it left no mark.
    pub to: Option<String>,
    /// Where what was written since lies.
    pub aside: PathBuf,
    /// When the last input came in that is still known.
    pub until: Option<Timestamp>,
    /// Hour files that are put aside.
    pub hours: Vec<String>,
    /// Nights that are put aside.
    pub nights: Vec<String>,
    /// Whether hosts and people stay as they are.
    pub keeps_identity: bool,
}

/// Goes back to before the upgrade. The caller holds the directory.
///
/// # Errors
/// Where there is no way back, or what the file system says; run again, it goes on where it stopped.
pub fn rollback(data: &Path) -> Result<RolledBack, UpgradeError> {
    let returning = data.join(RETURNING);
    if !returning.exists() {
        leave(data, &returning)?;
    }
    let aside = last_aside(data)?;
    let keeps_identity = is_same_identity(data, &returning, &aside);
    let hours = files_since(&aside, &returning, "history");
    let nights = files_since(&aside, &returning, "nights");
    bring_back(data, &returning, &aside, keeps_identity)?;
    let until = logs::end_of(&data.join("journal"), *b"JRNL").until;
    let to = Version::read(data).ok().flatten().map(|found| found.server);
    let mark = Restored {
        until,
        how: "rolled back to before an upgrade".to_owned(),
    };
    mark.write(data).map_err(failed("mark", data))?;
    // The last step: until here a second rollback goes on from the beginning of this one's end.
    remove(&returning)?;
    sync_dir(data)?;
    Ok(RolledBack {
        to,
        aside,
        until,
        hours,
        nights,
        keeps_identity,
    })
}

/// The first half: what there is goes aside. Every step has its mark, so that one that was cut off goes on and never begins anew: a
/// second place aside would have only a part of it.
fn leave(data: &Path, returning: &Path) -> Result<(), UpgradeError> {
    let (before, leaving) = (data.join(BEFORE), data.join(LEAVING));
    if !leaving.exists() {
        if !before.exists() {
            return Err(UpgradeError::NoWay(data.to_owned()));
        }
        snapshot::private_dir(&free_aside(data)?)?;
        sync_dir(data)?;
        fs::rename(&before, &leaving).map_err(failed("rename", &before))?;
        sync_dir(data)?;
    }
    set_aside(data, &leaving, &last_aside(data)?)?;
    fs::rename(&leaving, returning).map_err(failed("rename", &leaving))?;
    Ok(sync_dir(data)?)
}

fn aside(data: &Path, n: u32) -> PathBuf {
    match n {
        1 => data.join(AFTER),
        n => data.join(format!("{AFTER}-{n}")),
    }
}

/// The number of the last place that was begun, 0 where none was. People may have removed an earlier one to have its room.
fn last_number(data: &Path) -> io::Result<u32> {
    let mut last = 0;
    for entry in fs::read_dir(data)? {
        let name = entry?.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix(AFTER));
        let number = match rest {
            Some("") => Some(1),
            Some(rest) => rest.strip_prefix('-').and_then(|n| n.parse().ok()),
            None => None,
        };
        last = last.max(number.unwrap_or(0));
    }
    Ok(last)
}

/// The last place that was begun.
fn last_aside(data: &Path) -> Result<PathBuf, Error> {
    let last = last_number(data).map_err(failed("list", data))?;
    Ok(aside(data, last.max(1)))
}

/// A place with nothing in it, behind all others.
fn free_aside(data: &Path) -> Result<PathBuf, Error> {
    let last = last_number(data).map_err(failed("list", data))?;
    let place = aside(data, last.max(1));
    let is_taken = fs::read_dir(&place).is_ok_and(|mut held| held.next().is_some());
    Ok(if is_taken {
        aside(data, last + 1)
    } else {
        place
    })
}

/// Moves what there is to `aside`; a part of it may be there from a try that was cut off.
fn set_aside(data: &Path, before: &Path, aside: &Path) -> Result<(), Error> {
    snapshot::private_dir(aside)?;
    for name in MOVED {
        // What people wrote stays where nothing takes its place.
        if name == "dawnwatch.toml" && !before.join(name).exists() {
            continue;
        }
        let (from, to) = (data.join(name), aside.join(name));
        match fs::rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed.map_err(failed("put aside", &from))?,
        }
    }
    sync_dir(aside)?;
    sync_dir(data)
}

fn bring_back(
    data: &Path,
    returning: &Path,
    aside: &Path,
    keeps_identity: bool,
) -> Result<(), Error> {
    for name in MOVED {
        let (from, to) = (returning.join(name), data.join(name));
        if from.exists() && !(name == "identity" && keeps_identity) {
            fs::rename(&from, &to).map_err(failed("bring back", &from))?;
        }
    }
    if keeps_identity && !data.join("identity").exists() {
        // Copies: what was put aside stays whole.
        let tmp = data.join("identity.tmp");
        remove(&tmp)?;
        snapshot::private_dir(&tmp)?;
        let held = files::list(aside, "identity").map_err(failed("list", aside))?;
        for held in held.iter().filter(|held| !files::is_unfinished(&held.name)) {
            snapshot::copy(&aside.join(held.path()), &tmp.join(&held.name), u64::MAX)?;
        }
        fs::rename(&tmp, data.join("identity")).map_err(failed("bring back", &tmp))?;
    }
    for (room, bytes) in LOG_SEGMENTS {
        super::backup::reserve(data, room, bytes)?;
    }
    let dir = fs::File::open(data).map_err(failed("open", data))?;
    rustix::fs::syncfs(&dir).map_err(|errno| failed("sync", data)(errno.into()))
}

/// Whether hosts and people are written as the earlier version reads them: then those who came since stay.
fn is_same_identity(data: &Path, before: &Path, after: &Path) -> bool {
    let of = |dir: &Path| {
        let formats = Version::read(dir)
            .ok()
            .flatten()
            .map(|found| found.formats)?;
        Some((*formats.get("identity")?, *formats.get("people")?))
    };
    // Where a rollback goes on, the mark of the earlier version may be back already.
    let (before, after) = (of(before).or_else(|| of(data)), of(after));
    before.is_some() && before == after
}

/// The names of the files of a room that the earlier state does not have.
fn files_since(data: &Path, before: &Path, room: &'static str) -> Vec<String> {
    let names = |dir: &Path| -> Vec<String> {
        let held = files::list(dir, room).unwrap_or_default().into_iter();
        let kept = held.filter(|held| held.name.ends_with(".dwh") || held.name.ends_with(".json"));
        kept.map(|held| held.name).collect()
    };
    let old = names(before);
    let mut new = names(data);
    new.retain(|name| !old.contains(name) && !name.ends_with(".evidence.json"));
    new
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::verify;

    fn at(days: i64) -> Timestamp {
        Timestamp::from_second(1_790_100_000 + days * 86_400).unwrap()
    }

    fn contents(data: &Path) -> BTreeMap<String, Vec<u8>> {
        let all = files::list_all(data).unwrap().into_iter();
        all.map(|held| (held.path(), fs::read(data.join(held.path())).unwrap()))
            .collect()
    }

    fn sound(data: &Path) {
        let report = verify::verify(data, &mut |_| {}).unwrap();
        assert_eq!(report.damages, []);
    }

    /// A data directory of an earlier version, on which this one starts.
    fn upgraded(data: &Path) -> BTreeMap<String, Vec<u8>> {
        verify::tests::build(data);
        let mut old = Version::own(at(-30));
        old.server = "0.0.9".to_owned();
        old.write(data).unwrap();
        let before = contents(data);
        let begun = begin(data, at(0)).unwrap();
        let from = Some("0.0.9".to_owned());
        assert_eq!(begun, Begun::Upgraded { from });
        assert_eq!(begin(data, at(0)).unwrap(), Begun::Same);
        before
    }

    /// What the new version does: an hour, a night, a checkpoint, and none of the old ones.
    fn go_on(data: &Path) {
        fs::write(data.join("history/00000000000000000400.dwh"), "a new hour").unwrap();
        fs::write(data.join("nights/N-2026-10-06.json"), "a new night").unwrap();
        for held in files::list(data, "checkpoint").unwrap() {
            fs::remove_file(data.join(held.path())).unwrap();
        }
        let journal = data.join("journal/00000000000000000007.seg");
        let mut bytes = fs::read(&journal).unwrap();
        bytes.truncate(30);
        fs::write(&journal, bytes).unwrap();
        let _ = fs::remove_file(data.join(clean::FILE));
    }

    #[test]
    fn a_rollback_returns_to_before_and_removes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let before = upgraded(dir.path());
        go_on(dir.path());
        let after = contents(dir.path());
        let done = rollback(dir.path()).unwrap();
        assert_eq!(
            (done.to.as_deref(), done.keeps_identity),
            (Some("0.0.9"), true)
        );
        assert_eq!(done.hours, ["00000000000000000400.dwh"]);
        assert_eq!(done.nights, ["N-2026-10-06.json"]);
        assert_eq!(
            contents(&dir.path().join(AFTER)),
            after,
            "nothing is removed"
        );
        let back = contents(dir.path());
        assert_eq!(
            back.keys().collect::<Vec<_>>(),
            before.keys().collect::<Vec<_>>()
        );
        for (path, bytes) in &before {
            let same = back[path].len().min(bytes.len());
            assert_eq!(back[path][..same], bytes[..same], "{path}");
        }
        let mark = Restored::read(dir.path()).unwrap();
        assert_eq!(
            mark.until,
            Some(Timestamp::from_second(1_790_000_008).unwrap())
        );
        sound(dir.path());
        assert!(!dir.path().join(BEFORE).exists() && !dir.path().join(RETURNING).exists());
        let none = rollback(dir.path()).unwrap_err().to_string();
        assert!(none.contains("7 days"), "{none}");
        // Again upgraded, again rolled back: what the first put aside stays.
        begin(dir.path(), at(1)).unwrap();
        let again = rollback(dir.path()).unwrap();
        assert!(
            again.aside.ends_with("after-upgrade-2"),
            "{:?}",
            again.aside
        );
    }

    #[test]
    fn what_earlier_rollbacks_put_aside_may_be_removed_in_any_order() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path();
        upgraded(data);
        rollback(data).unwrap();
        begin(data, at(1)).unwrap();
        rollback(data).unwrap();
        // The first one has taken room for long enough; what the second one put aside stays.
        fs::remove_dir_all(data.join(AFTER)).unwrap();
        let second = contents(&data.join("after-upgrade-2"));
        begin(data, at(2)).unwrap();
        let third = rollback(data).unwrap();
        assert_eq!(third.aside, data.join("after-upgrade-3"));
        assert_eq!(contents(&data.join("after-upgrade-2")), second);
        sound(data);
        begin(data, at(3)).unwrap();
    }

    #[test]
    fn a_rollback_that_was_cut_off_goes_on_and_no_start_comes_between() {
        // Cut after so many renames, by undoing the last steps of a whole one.
        let dir = tempfile::tempdir().unwrap();
        let before = upgraded(dir.path());
        go_on(dir.path());
        // As after the first phase and half of the second.
        let aside = dir.path().join(AFTER);
        set_aside(dir.path(), &dir.path().join(BEFORE), &aside).unwrap();
        fs::rename(dir.path().join(BEFORE), dir.path().join(RETURNING)).unwrap();
        fs::rename(
            dir.path().join(RETURNING).join("ledger"),
            dir.path().join("ledger"),
        )
        .unwrap();
        let refused = begin(dir.path(), at(0)).unwrap_err();
        assert!(matches!(refused, UpgradeError::Midway), "{refused}");
        let found = verify::verify(dir.path(), &mut |_| {}).unwrap();
        let mut whats = found.damages.iter().map(|damage| damage.what.as_str());
        assert!(whats.any(|what| what == "a rollback was cut off"));
        rollback(dir.path()).unwrap();
        assert_eq!(contents(dir.path()).len(), before.len());
        sound(dir.path());
        begin(dir.path(), at(0)).unwrap();
    }

    #[test]
    fn a_rollback_cut_off_while_it_puts_aside_puts_all_in_one_place() {
        // Cut before each of the renames of the first half.
        for moved in 0..MOVED.len() {
            let dir = tempfile::tempdir().unwrap();
            let before = upgraded(dir.path());
            go_on(dir.path());
            let after = contents(dir.path());
            let (data, aside) = (dir.path(), dir.path().join(AFTER));
            fs::create_dir(&aside).unwrap();
            fs::rename(data.join(BEFORE), data.join(LEAVING)).unwrap();
            for name in &MOVED[..moved] {
                let _ = fs::rename(data.join(name), aside.join(name));
            }
            let refused = begin(data, at(0)).unwrap_err();
            assert!(matches!(refused, UpgradeError::Midway), "{refused}");
            let done = rollback(data).unwrap();
            assert_eq!((done.aside, done.keeps_identity), (aside.clone(), true));
            assert_eq!(contents(&aside), after, "after {moved}");
            assert_eq!(contents(data).len(), before.len(), "after {moved}");
            sound(data);
        }
    }

    #[test]
    fn data_of_a_later_version_are_refused_and_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        verify::tests::build(dir.path());
        let mut later = Version::own(at(0));
        later.server = "7.0.0".to_owned();
        *later.formats.get_mut("ledger").unwrap() = 77;
        later.write(dir.path()).unwrap();
        let (before, top) = (
            contents(dir.path()),
            fs::read_dir(dir.path()).unwrap().count(),
        );
        let refused = begin(dir.path(), at(0)).unwrap_err().to_string();
        for part in ["7.0.0", env!("CARGO_PKG_VERSION"), "ledger 77", "rollback"] {
            assert!(refused.contains(part), "{part}: {refused}");
        }
        assert_eq!(contents(dir.path()), before);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), top);
        fs::write(dir.path().join(version::FILE), "server 0.1.0").unwrap();
        let damaged = begin(dir.path(), at(0)).unwrap_err().to_string();
        assert!(damaged.contains("backup"), "{damaged}");
    }

    #[test]
    fn the_way_back_goes_after_a_week_and_a_sealed_night() {
        let dir = tempfile::tempdir().unwrap();
        upgraded(dir.path());
        assert!(
            !forget(dir.path(), at(8)).unwrap(),
            "no night was sealed since"
        );
        fs::write(dir.path().join("nights/N-2026-10-06.json"), "a new night").unwrap();
        assert!(!forget(dir.path(), at(6)).unwrap(), "not yet");
        assert!(forget(dir.path(), at(8)).unwrap());
        assert!(!dir.path().join(BEFORE).exists());
        assert!(!forget(dir.path(), at(9)).unwrap());
    }

    #[test]
    fn an_empty_directory_is_nobody_s_upgrade() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(begin(dir.path(), at(0)).unwrap(), Begun::First);
        assert!(!dir.path().join(BEFORE).exists());
    }
}
