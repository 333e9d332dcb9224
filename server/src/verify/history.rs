//! Hour files and their summaries: each for itself, and against each other, for an hour whose file was removed is told by its
//! summary.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::Timestamp;

use super::Look;
use super::hour::{Broken, Hour, hour};
use super::report::{Cost, Damage, FROM_BACKUP, of_room};
use crate::history::schemas::Known;
use crate::history::summary::HOUR_S;
use crate::history::summary::file::{self, SummaryAt};
use crate::history::{EXPIRED, erased};
use crate::keep::files::Held;

/// An hour is 3600 s, and a storm of events makes files of less: the span of a file that cannot be read is taken from its neighbours, never longer than
/// this before its sealing.
const HOUR_AND_A_BIT_S: i64 = 2 * 3_600;

impl Look<'_> {
    /// Reads hour files, summaries and the mark of what expired.
    pub(super) fn history(&mut self, schemas: &Known) {
        let held = self.list("history");
        let summaries: BTreeMap<(u64, u32), SummaryAt> = held
            .iter()
            .filter_map(|held| SummaryAt::of_name(&held.name))
            .map(|at| ((at.through, at.step_s), at))
            .collect();
        let expired = self.expired();
        self.erased();
        let mut raw = BTreeSet::new();
        let (mut parts, mut read) = (0, 0);
        for held in held.iter().filter(|held| held.name.ends_with(".dwh")) {
            let Some(through) = through_of(&held.name) else {
                continue;
            };
            raw.insert(through);
            if let Some(seen) = self.hour(held, through, &summaries) {
                parts += seen.parts;
                read += 1;
                self.strange_schemas(held, &seen, schemas);
            }
            self.done(held.bytes);
        }
        for at in summaries.values() {
            self.summary(at, raw.contains(&at.through));
        }
        self.gone(&raw, &summaries, expired);
        let lacks = raw
            .iter()
            .filter(|through| !summaries.contains_key(&(**through, HOUR_S)));
        let lacks = lacks.count();
        if lacks > 0 && self.clean.is_none() {
            self.report.note(format!(
                "{lacks} hour files have no summary yet: it is made at the next start or sealing"
            ));
        }
        let kind = format!(
            "{:<16} {read} hour files with {parts} parts, {} summaries",
            "history",
            summaries.len()
        );
        self.report.kinds.push(kind);
    }

    fn hour(
        &mut self,
        held: &Held,
        through: u64,
        summaries: &BTreeMap<(u64, u32), SummaryAt>,
    ) -> Option<Hour> {
        let path = self.data.join(held.path());
        match hour(&path) {
            Ok(seen) if seen.through == through => {
                for broken in &seen.broken {
                    let damage = self.broken(&held.path(), broken);
                    self.report.damage(damage);
                }
                Some(seen)
            }
            Ok(seen) => {
                let what = format!("its name is not its own: it is that of {}", seen.through);
                let damage = Damage::of(&held.path(), "", what, Cost::Samples, FROM_BACKUP);
                self.report.damage(damage);
                Some(seen)
            }
            // Its time came while the directory was read.
            Err(_) if self.is_live && !path.exists() => None,
            Err(error) => {
                let (from, to) = span(&path, through, summaries);
                let what = if let crate::history::Error::Damaged { why, .. } = error {
                    why
                } else {
                    error.to_string()
                };
                let damage = Damage::of(&held.path(), "", what, Cost::Samples, FROM_BACKUP);
                self.report.damage(damage.within(from, to));
                None
            }
        }
    }

    fn broken(&self, file: &str, broken: &Broken) -> Damage {
        let place = format!("byte {}", broken.offset);
        let what = broken.what.clone();
        let at = |ms| Timestamp::from_millisecond(ms).ok();
        Damage::of(file, &place, what, Cost::Samples, FROM_BACKUP)
            .within(at(broken.min_ms), at(broken.max_ms))
            .with_hosts([self.name(broken.host)])
    }

    /// Blocks whose series nobody knows.
    fn strange_schemas(&mut self, held: &Held, seen: &Hour, schemas: &Known) {
        let strange = seen.schemas.iter().filter(|id| !schemas.has(**id));
        let strange = strange.count();
        if strange > 0 {
            let what = format!("{strange} of its schemas are not in the schema log");
            let cure = "copy history/schemas out of a backup; hosts that still send them say them anew, and it is well by itself";
            self.report
                .damage(Damage::of(&held.path(), "", what, Cost::Samples, cure));
        }
    }

    fn summary(&mut self, at: &SummaryAt, has_raw: bool) {
        let name = format!("history/{}", at.name());
        let path = self.data.join(&name);
        let bytes = std::fs::metadata(&path).map_or(0, |meta| meta.len());
        match file::check(&path, at) {
            Err(_) if self.is_live && !path.exists() => {}
            Err(what) => {
                let (costs, cure) = if has_raw {
                    of_room(&name)
                } else {
                    (Cost::Samples, FROM_BACKUP)
                };
                let second = |s| Timestamp::from_second(s).ok();
                let damage = Damage::of(&name, "", what, costs, cure);
                self.report
                    .damage(damage.within(second(at.min_s), second(at.max_s)));
            }
            Ok(0) => {}
            Ok(left_out) => self.report.note(format!(
                "{name}: made without {left_out} blocks of its hour file that could not be read"
            )),
        }
        self.done(bytes);
    }

    /// Hours whose summary is there and whose file is not, though it is not its time yet.
    fn gone(
        &mut self,
        raw: &BTreeSet<u64>,
        summaries: &BTreeMap<(u64, u32), SummaryAt>,
        expired: Option<u64>,
    ) {
        let Some(expired) = expired else { return };
        for at in summaries.values() {
            if at.step_s != HOUR_S || at.through <= expired || raw.contains(&at.through) {
                continue;
            }
            let name = format!("history/{:020}.dwh", at.through);
            let told = self
                .clean
                .as_ref()
                .is_some_and(|clean| clean.files.contains_key(&name));
            let late = self.is_live && self.expired_now() >= at.through;
            if told || late {
                continue;
            }
            let what = "it is gone, and its summary is there".to_owned();
            let second = |s| Timestamp::from_second(s).ok();
            let damage = Damage::of(&name, "", what, Cost::Samples, FROM_BACKUP);
            self.report
                .damage(damage.within(second(at.min_s), second(at.max_s)));
        }
    }

    /// The position up to which hour files were removed; none where the mark cannot be read.
    fn expired(&mut self) -> Option<u64> {
        let path = self.data.join("history").join(EXPIRED);
        let found = crate::history::read_expired(&path);
        match found {
            Ok(position) => {
                if position > 0 {
                    self.done(std::fs::metadata(&path).map_or(0, |meta| meta.len()));
                }
                Some(position)
            }
            Err(what) => {
                let cure = "start the server: it writes it anew when the next hour file expires";
                let damage = Damage::of("history/expired", "", what, Cost::Nothing, cure);
                self.report.damage(damage);
                None
            }
        }
    }

    /// The list of erased hosts.
    fn erased(&mut self) {
        let path = self.data.join("history").join(erased::FILE);
        match erased::read(&path) {
            Ok(_) => {
                if let Ok(meta) = std::fs::metadata(&path) {
                    self.done(meta.len());
                }
            }
            Err(what) => {
                let cure = "start the server: it writes it anew from what identity knows";
                let file = format!("history/{}", erased::FILE);
                self.report
                    .damage(Damage::of(&file, "", what, Cost::Nothing, cure));
            }
        }
    }

    fn expired_now(&self) -> u64 {
        let path = self.data.join("history").join(EXPIRED);
        crate::history::read_expired(&path).unwrap_or(0)
    }
}

fn through_of(name: &str) -> Option<u64> {
    name.strip_suffix(".dwh")?.parse().ok()
}

/// The span of an hour file that cannot be read: what its summary says, or else the time before it was written.
pub(crate) fn span(
    path: &Path,
    through: u64,
    summaries: &BTreeMap<(u64, u32), SummaryAt>,
) -> (Option<Timestamp>, Option<Timestamp>) {
    let second = |s| Timestamp::from_second(s).ok();
    if let Some(at) = summaries.get(&(through, HOUR_S)) {
        return (second(at.min_s), second(at.max_s));
    }
    let written = std::fs::metadata(path).and_then(|meta| meta.modified());
    let Some(written) = written.ok().and_then(|at| Timestamp::try_from(at).ok()) else {
        return (None, None);
    };
    let from = second(written.as_second() - HOUR_AND_A_BIT_S);
    (from, Some(written))
}
