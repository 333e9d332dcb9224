//! Hosts that people named: an import of a list, labels on one. Kept beside the hosts that joined, because a name is there before
//! its host is.

mod csv;

use std::collections::BTreeSet;
use std::sync::Arc;

use dawnwatch_engine::config::HostFacts;
use dawnwatch_engine::input::Named;
use dawnwatch_engine::named::{NAMED_MAX, same_name};
use dawnwatch_proto::HostId;
use dawnwatch_proto::api::Imported;
use dawnwatch_proto::review::Importance;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::state::{HostRecord, State, clean_name};
use super::{Identity, IdentityError};
use crate::config::parse_expected;

/// Labels of one host beside its facts: more would be a database.
const LABELS_MAX: usize = 32;

/// Names of before that an import lists as not in its file; the rest is counted by the difference.
const LISTED_MAX: usize = 100;

/// A host by name, as people named it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedRecord {
    /// The name as it was given.
    pub name: String,
    /// Where it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// What people call what it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Person responsible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// How much it matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub importance: Option<Importance>,
    /// When it is expected to be up, as it was written: `always`, `Mon-Fri 07:00-19:00`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<String>,
    /// Other labels, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<(String, String)>,
    /// Since when it is to be watched; none where only a label was set on a host that joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Timestamp>,
}

/// Why a change of hosts is not made. The text is for the person who asked.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// What was asked makes no sense, or cannot be.
    #[error("{0}")]
    Refused(String),
    /// Mistakes in a file, each with its line.
    #[error("{}", .0.join("\n"))]
    Mistakes(Vec<String>),
    /// It could not be stored.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl NamedRecord {
    /// What the engine is told.
    #[must_use]
    pub fn input(&self, gone: bool) -> Named {
        Named {
            facts: HostFacts {
                name: self.name.clone(),
                service: self.service.clone(),
                owner: self.owner.clone(),
                site: self.site.clone(),
                importance: self.importance,
                // It was checked when it was taken in.
                hours: self.hours.as_deref().and_then(|h| parse_expected(h).ok()),
            },
            address: self.address.clone(),
            labels: self.labels.clone(),
            expected: self.expected,
            gone,
        }
    }

    /// Sets a fact or a label; an empty value takes it away.
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let text = |what: &str| -> Result<Option<String>, String> {
            csv::fact(what, value).map(|value| (!value.is_empty()).then_some(value))
        };
        match name {
            "address" => self.address = text(name)?,
            "site" => self.site = text(name)?,
            "service" => self.service = text(name)?,
            "owner" => self.owner = text(name)?,
            "importance" => self.importance = csv::importance(value)?,
            "hours" => self.hours = csv::hours(value)?,
            "name" => return Err("a name is changed with: dawnwatch hosts rename".to_owned()),
            label => {
                let label = csv::fact("label", label)?;
                if label.is_empty() {
                    return Err("a label needs a name".to_owned());
                }
                self.labels.retain(|(known, _)| *known != label);
                if let Some(value) = text(name)? {
                    self.labels.push((label, value));
                    self.labels.sort();
                }
                if self.labels.len() > LABELS_MAX {
                    return Err(format!("{LABELS_MAX} labels are the limit of a host"));
                }
            }
        }
        Ok(())
    }

    /// Takes over the facts that another gives.
    fn take(&mut self, other: &NamedRecord) {
        let over = |mine: &mut Option<String>, given: &Option<String>| {
            if given.is_some() {
                mine.clone_from(given);
            }
        };
        over(&mut self.address, &other.address);
        over(&mut self.site, &other.site);
        over(&mut self.service, &other.service);
        over(&mut self.owner, &other.owner);
        over(&mut self.hours, &other.hours);
        self.importance = other.importance.or(self.importance);
        self.expected = self.expected.or(other.expected);
    }
}

/// Reads a list of hosts, as [`Identity::import_hosts`] does.
///
/// # Errors
/// All mistakes of the file at once, each with its line.
pub fn read_hosts(text: &str) -> Result<Vec<NamedRecord>, Vec<String>> {
    csv::read(text)
}

impl Identity {
    /// All names, by name.
    #[must_use]
    pub fn named(&self) -> Vec<NamedRecord> {
        let state = self.state.load();
        let named = state.named.values();
        named.map(|record| NamedRecord::clone(record)).collect()
    }

    /// Imports a list of hosts: a CSV file with a header. What a file leaves empty stays as it was; importing it again changes
    /// nothing. Returns what came of it, and the names that are new or changed.
    ///
    /// # Errors
    /// All mistakes of the file at once; nothing is taken in then.
    pub fn import_hosts(
        &self,
        text: &str,
        dry_run: bool,
        now: Timestamp,
    ) -> Result<(Imported, Vec<NamedRecord>), HostError> {
        let rows = read_hosts(text).map_err(HostError::Mistakes)?;
        let import = |state: &mut State| import(state, rows, now);
        if dry_run {
            let mut state = State::clone(&self.state.load());
            let (mut out, _) = import(&mut state)?;
            out.dry_run = true;
            return Ok((out, Vec::new()));
        }
        self.change(import)
    }

    /// Sets facts and labels of a host, joined or only named.
    ///
    /// # Errors
    /// Where a value makes no sense.
    pub fn label_host(
        &self,
        name: &str,
        labels: &[(String, String)],
    ) -> Result<NamedRecord, HostError> {
        self.change(|state| {
            if !state.named.contains_key(&name.to_lowercase()) && state.named.len() >= NAMED_MAX {
                return Err(HostError::Refused(format!(
                    "{NAMED_MAX} names are the limit"
                )));
            }
            let record = state.named.entry(name.to_lowercase()).or_insert_with(|| {
                Arc::new(NamedRecord {
                    name: name.to_owned(),
                    ..NamedRecord::default()
                })
            });
            let record = Arc::make_mut(record);
            for (label, value) in labels {
                record
                    .set(label, value)
                    .map_err(|why| HostError::Refused(format!("{label}: {why}")))?;
            }
            Ok(record.clone())
        })
    }

    /// Takes a name back that never joined.
    ///
    /// # Errors
    /// Where there is no such name, or a host goes by it.
    pub fn forget_name(&self, name: &str) -> Result<NamedRecord, HostError> {
        self.change(|state| {
            let Some(record) = state.named.remove(&name.to_lowercase()) else {
                let text = format!("{name} is not among the names that were imported");
                return Err(HostError::Refused(text));
            };
            if let Some(host) = state.goes_by(&record.name) {
                let text = format!("{} joined as {}: retire it instead", record.name, host.name);
                return Err(HostError::Refused(text));
            }
            Ok(NamedRecord::clone(&record))
        })
    }

    /// Gives a host another name; the old one stays as an alias. Returns the host, and its entry among the names before and after.
    ///
    /// # Errors
    /// Where the name is none, or another host has it.
    pub fn rename_host(
        &self,
        id: HostId,
        to: &str,
    ) -> Result<(HostRecord, Option<(NamedRecord, NamedRecord)>), HostError> {
        if clean_name(to) != to {
            let text = format!("{to:?} is no name: letters, digits, dots, - and _, at most 64");
            return Err(HostError::Refused(text));
        }
        self.change(|state| {
            let other =
                |host: &&Arc<HostRecord>| host.id != id && host.name.eq_ignore_ascii_case(to);
            if let Some(other) = state.hosts.values().find(other) {
                let text = format!("{} is the name of another host", other.name);
                return Err(HostError::Refused(text));
            }
            let host = state.host_mut(id).ok_or(IdentityError::NoHost(id))?;
            let old = std::mem::replace(&mut host.name, to.to_owned());
            host.aliases.retain(|alias| !alias.eq_ignore_ascii_case(to));
            if !old.eq_ignore_ascii_case(to) && !host.aliases.contains(&old) {
                host.aliases.push(old.clone());
                let over = host.aliases.len().saturating_sub(ALIASES_MAX);
                host.aliases.drain(..over);
            }
            let host = host.clone();
            let moved = state.named.remove(&old.to_lowercase()).map(|before| {
                let mut after = NamedRecord::clone(&before);
                to.clone_into(&mut after.name);
                let named = Arc::new(after.clone());
                state.named.insert(to.to_lowercase(), named);
                (NamedRecord::clone(&before), after)
            });
            Ok((host, moved))
        })
    }

    /// One host is another, set up anew: what it sends is that host's from here on, and the certificates of before are over.
    /// Returns both.
    ///
    /// # Errors
    /// Where they are the same, or one of them is merged or retired already.
    pub fn merge_hosts(
        &self,
        new: HostId,
        old: HostId,
    ) -> Result<(HostRecord, HostRecord), HostError> {
        self.change(|state| {
            if new == old {
                let text = "a host cannot be merged with itself".to_owned();
                return Err(HostError::Refused(text));
            }
            for id in [new, old] {
                let host = state.hosts.get(&id).ok_or(IdentityError::NoHost(id))?;
                let why = if host.merged.is_some() {
                    "was merged already"
                } else if host.retired.is_some() {
                    "was retired: join it again first"
                } else {
                    continue;
                };
                return Err(HostError::Refused(format!("{} {why}", host.name)));
            }
            // Whoever became the new one before goes on as the old one as well.
            for host in state.hosts.values_mut().filter(|h| h.merged == Some(new)) {
                Arc::make_mut(host).merged = Some(old);
            }
            let merged = state.host_mut(new).ok_or(IdentityError::NoHost(new))?;
            merged.merged = Some(old);
            let merged = merged.clone();
            state.merged.insert(new);
            let kept = state.host_mut(old).ok_or(IdentityError::NoHost(old))?;
            kept.denied = kept.newest();
            Ok((merged, kept.clone()))
        })
    }

    /// The host that another is, set up anew; itself for nearly all.
    #[must_use]
    pub fn as_host(&self, id: HostId) -> HostId {
        let state = self.state.load();
        state
            .hosts
            .get(&id)
            .and_then(|host| host.merged)
            .unwrap_or(id)
    }

    /// Hosts whose samples are another host's.
    #[must_use]
    pub fn merged_into(&self, id: HostId) -> Vec<HostId> {
        let state = self.state.load();
        let into = |one: &HostId| state.hosts.get(one).and_then(|host| host.merged);
        let merged = state.merged.iter().copied();
        merged.filter(|one| into(one) == Some(id)).collect()
    }

    /// Hosts that this one may be, set up anew: of the same machine, or of the name that it asked for.
    #[must_use]
    pub fn like(&self, host: &HostRecord) -> Vec<HostId> {
        let state = self.state.load();
        let others = state.hosts.values().filter(|other| {
            let machine = !host.machine.is_empty() && other.machine == host.machine;
            let standing = other.retired.is_none() && other.merged.is_none();
            other.id != host.id
                && standing
                && other.joined < host.joined
                && (machine || other.asked.eq_ignore_ascii_case(&host.asked))
        });
        others.map(|other| other.id).take(LIKE_MAX).collect()
    }
}

/// Names of before that are remembered of a host.
const ALIASES_MAX: usize = 8;

/// Hosts that one may be: clones of one image have the same machine id, and are many.
const LIKE_MAX: usize = 8;

impl State {
    /// The host that goes by a name, retired ones included.
    fn goes_by(&self, name: &str) -> Option<&Arc<HostRecord>> {
        self.hosts.values().find(|host| {
            same_name(name, &host.name) || host.aliases.iter().any(|alias| same_name(name, alias))
        })
    }
}

fn import(
    state: &mut State,
    rows: Vec<NamedRecord>,
    now: Timestamp,
) -> Result<(Imported, Vec<NamedRecord>), HostError> {
    let mut out = Imported {
        rows: count(rows.len()),
        ..Imported::default()
    };
    let given: BTreeSet<String> = rows.iter().map(|row| row.name.to_lowercase()).collect();
    let mut changed = Vec::new();
    for mut row in rows {
        row.expected = Some(now);
        out.joined += u32::from(state.goes_by(&row.name).is_some());
        let key = row.name.to_lowercase();
        if let Some(known) = state.named.get_mut(&key) {
            let mut after = NamedRecord::clone(known);
            after.take(&row);
            if after != **known {
                out.changed += 1;
                changed.push(after.clone());
                *known = Arc::new(after);
            }
        } else {
            out.new += 1;
            changed.push(row.clone());
            state.named.insert(key, Arc::new(row));
        }
    }
    if state.named.len() > NAMED_MAX {
        let names = state.named.len();
        let text = format!("{names} names would be known then, {NAMED_MAX} are the limit");
        return Err(HostError::Refused(text));
    }
    let imported = state
        .named
        .iter()
        .filter(|(_, named)| named.expected.is_some());
    let others = imported.filter(|(key, _)| !given.contains(*key));
    out.not_in_file = others
        .map(|(_, named)| named.name.clone())
        .take(LISTED_MAX)
        .collect();
    Ok((out, changed))
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
