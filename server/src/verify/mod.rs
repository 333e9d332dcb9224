//! Reads every file of a data directory and names every damage: which file, where, what it costs, what to do. Changes nothing,
//! and works while the server runs: what is being written or removed meanwhile is no damage.
//!
//! - [`report`]: what was found, as a value and as text.
//! - `logs`: journal, ledger, schema log.
//! - `history`: hour files and summaries, against each other and against the schema log.
//! - `hour`: the one place that knows what a whole hour file is.
//! - `small`: checkpoints, nights, identity, marks.
//!
//! What it cannot see: a file that vanished while the server was not stopped cleanly, where no other file speaks of it (the newest
//! checkpoint, the last segment of the schema log, an hour file together with its summaries); and the last frames of a log that a crash tore. After a clean
//! stop every file and the end of every log is known ([`crate::keep::clean`]). The index is not read: it is made anew from the rest.

mod history;
mod hour;
pub(crate) mod logs;
pub mod report;
mod small;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use dawnwatch_proto::HostId;
use dawnwatch_proto::untrusted::term;

use crate::keep::clean::Clean;
use crate::keep::files::{self, BESIDE, DERIVED, Held, ROOMS};
use crate::keep::upgrade;
pub(crate) use history::span;
pub use hour::{Hour, hour};
pub use report::{Cost, Damage, Report};

/// A directory that cannot be verified at all.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {source}", path.display())]
pub struct Error {
    /// What was read.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// How far it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Files read.
    pub files: u64,
    /// Files in all, as they were at the beginning.
    pub files_all: u64,
    /// Bytes of the files read.
    pub bytes: u64,
    /// Bytes in all.
    pub bytes_all: u64,
}

/// Reads everything. `tell` is called after every file.
///
/// # Errors
/// Where the directory cannot be listed, or holds nothing of dawnwatch's.
pub fn verify(data: &Path, tell: &mut dyn FnMut(&Progress)) -> Result<Report, Error> {
    let failed = |source| Error {
        path: data.to_owned(),
        source,
    };
    std::fs::read_dir(data).map_err(failed)?;
    let all = files::list_all(data).map_err(failed)?;
    if all.is_empty() {
        let why = "there is nothing of dawnwatch-server in it; is it the right directory? name it with --data";
        return Err(failed(io::Error::new(io::ErrorKind::NotFound, why)));
    }
    let is_live = is_running(data);
    let mut look = Look {
        data,
        is_live,
        clean: Clean::read(data).filter(|_| !is_live),
        names: crate::identity::sound::names(&data.join("identity")),
        report: Report::new(data, is_live),
        progress: Progress {
            files_all: all.len() as u64,
            bytes_all: all.iter().map(|held| held.bytes).sum(),
            ..Progress::default()
        },
        tell,
    };
    look.run(&all);
    Ok(look.report)
}

/// Reads what is kept for ever, the ledger and the sealed nights, while the server runs on it.
pub(crate) fn records(data: &Path) -> Vec<Damage> {
    let mut look = Look {
        data,
        is_live: true,
        clean: None,
        names: BTreeMap::new(),
        report: Report::new(data, true),
        progress: Progress::default(),
        tell: &mut |_| {},
    };
    let nights = look.ledger();
    look.nights(&nights);
    look.report.finish();
    look.report.damages
}

/// Whether a server holds the directory.
#[must_use]
pub fn is_running(data: &Path) -> bool {
    let Ok(file) = File::open(data.join("LOCK")) else {
        return false;
    };
    let tried = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared);
    tried == Err(rustix::io::Errno::WOULDBLOCK)
}

/// A look through a data directory.
struct Look<'a> {
    data: &'a Path,
    /// Whether a server runs on it.
    is_live: bool,
    /// What the last clean stop left, if that was the last thing that happened.
    clean: Option<Clean>,
    /// What hosts are called.
    names: BTreeMap<HostId, String>,
    report: Report,
    progress: Progress,
    tell: &'a mut dyn FnMut(&Progress),
}

impl Look<'_> {
    fn run(&mut self, all: &[Held]) {
        self.unknown(all);
        self.cut_off();
        self.since_the_stop();
        self.identity();
        // The order in which a running server goes on: what is read later may know more, never less.
        let checkpoints = self.checkpoints();
        let nights = self.ledger();
        let schemas = self.schemas();
        self.history(&schemas);
        self.nights(&nights);
        self.journal(&checkpoints);
        self.report.finish();
    }

    /// Names what is not ours.
    fn unknown(&mut self, all: &[Held]) {
        for held in all {
            if files::is_unfinished(&held.name) || is_known(held) {
                continue;
            }
            self.report.unknown(term(&held.path()));
        }
        let Ok(entries) = std::fs::read_dir(self.data) else {
            return;
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
            .collect();
        names.sort();
        for name in names {
            let known = [&ROOMS[..], &BESIDE[..], &DERIVED[..]].concat();
            let aside = [upgrade::AFTER, upgrade::BEFORE];
            let aside = aside.iter().any(|aside| name.starts_with(aside));
            if !known.contains(&name.as_str()) && !aside && !files::is_unfinished(&name) {
                self.report.unknown(term(&name));
            }
        }
    }

    /// Says that a restore or a rollback was cut off: whatever is there is sound, and not all of it.
    fn cut_off(&mut self) {
        if let Some((mark, what)) = upgrade::cut_off(self.data) {
            let cure = "run that command again";
            let damage = Damage::of(mark, "", what.to_owned(), Cost::State, cure);
            self.report.damage(damage);
        }
    }

    /// Names what is not as the last clean stop left it.
    fn since_the_stop(&mut self) {
        let Some(clean) = self.clean.clone() else {
            return;
        };
        for lacks in clean.missing(self.data).unwrap_or_default() {
            let what = match lacks.has {
                None => "it is gone since the server stopped".to_owned(),
                Some(has) => format!(
                    "it had {} bytes when the server stopped, and has {has}",
                    lacks.had
                ),
            };
            let (cost, cure) = report::of_room(&lacks.path);
            self.report
                .damage(Damage::of(&lacks.path, "", what, cost, cure));
        }
    }

    /// A file was read.
    fn done(&mut self, bytes: u64) {
        self.progress.files += 1;
        self.progress.bytes += bytes;
        self.report.files += 1;
        self.report.bytes += bytes;
        (self.tell)(&self.progress);
    }

    fn list(&mut self, room: &'static str) -> Vec<Held> {
        match files::list(self.data, room) {
            Ok(held) => held,
            Err(error) => {
                let (cost, cure) = report::of_room(room);
                let what = format!("it cannot be listed: {error}");
                self.report.damage(Damage::of(room, "", what, cost, cure));
                Vec::new()
            }
        }
    }

    fn name(&self, host: HostId) -> String {
        if host == dawnwatch_engine::vitals::SERVER {
            return "the server itself".to_owned();
        }
        let name = self.names.get(&host).map(|name| term(name));
        name.unwrap_or_else(|| host.to_string())
    }
}

/// Whether a file of a room has a name that we give.
fn is_known(held: &Held) -> bool {
    let name = held.name.as_str();
    let digits = |end: &str| {
        let number = name.strip_suffix(end);
        number.is_some_and(|n| n.len() == 20 && n.bytes().all(|b| b.is_ascii_digit()))
    };
    match held.room {
        "identity" => crate::identity::sound::FILES.contains(&name),
        "checkpoint" => digits(".ckpt"),
        "history" => {
            digits(".dwh")
                || name == crate::history::EXPIRED
                || name == crate::history::erased::FILE
                || crate::history::summary::file::SummaryAt::of_name(name).is_some()
        }
        "nights" => name.ends_with(".json"),
        "journal" => digits(".seg") || name == "skip",
        _ => digits(".seg"),
    }
}
