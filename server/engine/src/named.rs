//! Hosts by name: what people said of them, those that were named and never joined, and those that may be another one.
//!
//! - A name stands for a host that goes by it, went by it before, or shares its first label where one of the two has no domain.
//! - A name that was imported and that no host goes by counts as not watched from the import on.
//! - Hours in which a host is expected to be up: outside of them it is in no denominator, and its silence is no alert.

use std::collections::{BTreeMap, BTreeSet};

use dawnwatch_proto::HostId;
use dawnwatch_proto::api::Missing;
use dawnwatch_proto::review::Severity;
use jiff::Timestamp;

use crate::clock::ms_between;
use crate::config::{Calendar, HostFacts, Week};
use crate::detect::absence::host_anomaly;
use crate::engine::{Engine, Out};
use crate::host::Host;
use crate::input::{At, Named};
use crate::night::{Nights, Span};
use crate::words;

/// Names that are remembered: as many as hosts.
pub const NAMED_MAX: usize = 20_000;
/// A name that was imported gets this long to join before it is a finding: somebody is still installing.
const JOIN_WITHIN_MS: i64 = 3_600_000;
/// Names told in a finding; the rest is counted.
const NAMES_TOLD_MAX: usize = 3;
/// Spans of a window that are looked at: two a day for a year.
const SPANS_MAX: usize = 800;
/// A host that goes off this long before its hours end goes home early, and wakes nobody.
const EARLY_MS: i64 = 900_000;
/// A host that is silent this long while another like it reports may have been set up anew.
const LIKE_SILENT_MS: u64 = 300_000;

/// A name that was imported and never joined.
pub(crate) const NEVER_JOINED: &str = "never_joined";
/// A host that may be another one, set up anew.
pub(crate) const SAME_HOST: &str = "same_host";

/// Whether a name stands for a host of that name: the same, or the same but for a domain that only one of them has.
#[must_use]
pub fn same_name(one: &str, other: &str) -> bool {
    let shorter = |short: &str, long: &str| {
        !short.contains('.')
            && long
                .split_once('.')
                .is_some_and(|(label, _)| label.eq_ignore_ascii_case(short))
    };
    one.eq_ignore_ascii_case(other) || shorter(one, other) || shorter(other, one)
}

/// Whether a host is expected to be up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Off by plan.
    Off,
    /// On since then.
    Since(Timestamp),
}

impl Engine {
    /// Takes a name in, or takes it back.
    pub(crate) fn named(&mut self, at: At, named: Named, out: &mut Out) {
        let key = named.facts.name.to_lowercase();
        let known = self.state.named.get(&key);
        if named.gone {
            if self.state.named.remove(&key).is_none() {
                return;
            }
            self.changed(
                at.wall,
                None,
                format!("{} no longer named", named.facts.name),
            );
        } else {
            if known == Some(&named) || known.is_none() && self.state.named.len() >= NAMED_MAX {
                return;
            }
            if known.is_none() && named.expected.is_some() {
                let text = format!("{} named as a host to watch", named.facts.name);
                let group = "named as hosts to watch".to_owned();
                self.changed_in_group(at.wall, text, group);
            }
            self.state.named.insert(key, named);
        }
        self.shown.forget();
        self.names(at, out);
    }

    /// What people said of a host, by any name that it goes by.
    pub(crate) fn named_facts(&self, host: &Host) -> Option<&Named> {
        let named = &self.state.named;
        let own = std::iter::once(&host.card.name).chain(&host.card.aliases);
        let mut exact = own.filter_map(|name| named.get(&name.to_lowercase()));
        exact.next().or_else(|| {
            let name = host.card.name.as_str();
            // Few names are short forms, and facts are remembered until something changes.
            named.values().find(|n| same_name(&n.facts.name, name))
        })
    }

    /// Names that were imported and that no host goes by, by name.
    #[must_use]
    pub fn missing(&self) -> Vec<Missing> {
        let mut known: BTreeSet<String> = BTreeSet::new();
        for host in self.state.hosts.values() {
            for name in std::iter::once(&host.card.name).chain(&host.card.aliases) {
                let name = name.to_lowercase();
                if let Some((label, _)) = name.split_once('.') {
                    // With a dot behind: `web01.` says that some `web01` with a domain is there.
                    known.insert(format!("{label}."));
                }
                known.insert(name);
            }
        }
        let joined = |key: &str| {
            let other = match key.split_once('.') {
                Some((label, _)) => label.to_owned(),
                None => format!("{key}."),
            };
            known.contains(key) || known.contains(&other)
        };
        let named = self.state.named.iter();
        let expected = named.filter_map(|(key, named)| Some((key, named, named.expected?)));
        let gone = expected.filter(|(key, _, _)| !joined(key));
        gone.map(|(_, named, since)| Missing {
            name: named.facts.name.clone(),
            since,
            address: named.address.clone(),
            site: named.facts.site.clone(),
            service: named.facts.service.clone(),
            owner: named.facts.owner.clone(),
            importance: named.facts.importance.unwrap_or_default(),
        })
        .collect()
    }

    /// Findings about names: never joined, and joined as somebody else.
    pub(crate) fn names(&mut self, at: At, out: &mut Out) {
        let late: Vec<Missing> = if self.state.named.is_empty() {
            Vec::new()
        } else {
            let missing = self.missing().into_iter();
            missing
                .filter(|m| ms_between(m.since, at.wall) >= JOIN_WITHIN_MS)
                .collect()
        };
        let found = (!late.is_empty()).then(|| {
            let names: Vec<&str> = late.iter().map(|m| m.name.as_str()).collect();
            let told = names[..names.len().min(NAMES_TOLD_MAX)].join(", ");
            let hosts = words::count(names.len(), "host");
            let what = match names.len().saturating_sub(NAMES_TOLD_MAX) {
                0 => format!("{hosts} named and never joined: {told}"),
                more => format!("{hosts} named and never joined: {told} and {more} more"),
            };
            let why = format!(
                "{what}; not watched: install the agent there, or take the name back \
                 (dawnwatch hosts --missing, dawnwatch hosts forget NAME)"
            );
            let since = late.iter().map(|m| m.since).min().unwrap_or(at.wall);
            host_anomaly(NEVER_JOINED, Severity::Warning, since, at, what, why)
        });
        self.about_server(NEVER_JOINED, found, at, "all joined or taken back", out);
        self.same_hosts(at, out);
    }

    /// A host that reports while one like it fell silent for good: set up anew, perhaps. Nobody merges them but a person.
    fn same_hosts(&mut self, at: At, out: &mut Out) {
        let silent = |host: &Host| {
            let heard_ms = host.heard.map_or(0, |(boot_ms, _)| boot_ms);
            !host.card.retired && at.boot_ms.saturating_sub(heard_ms) >= LIKE_SILENT_MS
        };
        let hosts = &self.state.hosts;
        let mut asked: Vec<(String, Option<(String, String)>)> = Vec::new();
        let open = &self.state.server_alerts;
        for host in hosts.values() {
            let could = !host.card.like.is_empty() || host.card.merged.is_some();
            let key = format!("{SAME_HOST} {}", host.card.id);
            if !could && !open.contains_key(&key) {
                continue;
            }
            let lives = !host.card.retired && host.heard.is_some() && !silent(host);
            let like = host.card.like.iter().filter_map(|id| hosts.get(id));
            let old = like
                .filter(|old| lives && silent(old))
                .max_by_key(|old| old.heard);
            let names = old.map(|old| (host.card.name.clone(), old.card.name.clone()));
            asked.push((key, names));
        }
        for (key, names) in asked {
            let found = names.map(|(new, old)| {
                let what = format!("same host? {new} joined, {old} is silent");
                let why = format!(
                    "{what}; they have the same machine or the same name: if {new} is {old} set up anew, \
                     dawnwatch hosts merge {new} {old}; else retire {old}"
                );
                let mut anomaly = host_anomaly(SAME_HOST, Severity::Warning, at.wall, at, what, why);
                anomaly.subject = new;
                anomaly
            });
            self.about_server(&key, found, at, "settled", out);
        }
    }

    /// A host turned out to be another one, set up anew: what was watched of it was watched of that one, and itself it never was.
    /// Its stream goes on as that one's where it was, so what was taken from its beginning goes along.
    pub(crate) fn merged(&mut self, id: HostId, into: HostId, at: At, out: &mut Out) {
        let Some(new) = self.state.hosts.get_mut(&id) else {
            return;
        };
        new.retired = Some(new.card.joined);
        let (watched, down) = (new.watched.clone(), new.down.clone());
        let (heard, facts, name) = (new.heard, new.facts.clone(), new.card.name.clone());
        let (clock, gaps) = (new.clock.clone(), new.gaps.clone());
        self.drop_slots(id, at, out);
        let Some(old) = self.state.hosts.get_mut(&into) else {
            return;
        };
        self.state.logs.merge(id, into);
        old.watched.join(&watched);
        old.down.join(&down);
        old.heard = old.heard.max(heard);
        if heard.is_some() {
            old.clock = clock;
        }
        old.facts = facts.or(old.facts.take());
        for (from, to, ticks) in gaps {
            old.gap(from, to, ticks);
        }
        let text = format!("set up anew: {name} is this host");
        self.host_changed(at, into, text, out);
        self.back(into, at, out);
        self.explain(into, at, at.wall, "the host was set up anew", out);
        self.names(at, out);
    }

    /// Hosts that are not expected always: whether they are at a moment.
    pub(crate) fn expected_now(&self, at: Timestamp) -> BTreeMap<HostId, Expected> {
        let mut out = BTreeMap::new();
        let set = |facts: &HostFacts| facts.hours.is_some();
        let by_config = self.state.config.hosts.iter().any(set);
        if !by_config && !self.state.named.values().any(|n| set(&n.facts)) {
            return out;
        }
        // Many hosts, few kinds of hours.
        let mut kinds: BTreeMap<Week, Option<Expected>> = BTreeMap::new();
        for host in self.state.hosts.values() {
            let Some(week) = self.facts(host).hours else {
                continue;
            };
            let expected = *kinds.entry(week).or_insert_with_key(|week| {
                let span = self.opening(week)?.at(at);
                let on = matches!(span, Span::Working { .. });
                Some(if on && ms_between(at, span.end()) > EARLY_MS {
                    Expected::Since(span.start())
                } else {
                    Expected::Off
                })
            });
            if let Some(expected) = expected {
                out.insert(host.card.id, expected);
            }
        }
        out
    }

    /// What was silent when its hours ended is not expected to answer.
    pub(crate) fn off_by_plan(&mut self, id: HostId, rule: &str, at: At, out: &mut Out) {
        let Some(host) = self.state.hosts.get_mut(&id) else {
            return;
        };
        let Some(slot) = host.slot(rule) else {
            return;
        };
        let alerts: Vec<_> = host.slots.remove(slot).alerts().collect();
        for alert in alerts {
            self.resolve(
                alert,
                at.wall,
                "its hours ended, it is not expected to answer",
                out,
            );
        }
    }

    /// The parts of a window in which a host is expected; none where that is always.
    pub(crate) fn expected_within(
        &self,
        week: &Week,
        from: Timestamp,
        to: Timestamp,
    ) -> Option<Vec<(Timestamp, Timestamp)>> {
        let nights = self.opening(week)?;
        let mut out = Vec::new();
        let mut at = from;
        for _ in 0..SPANS_MAX {
            if at >= to {
                break;
            }
            let span = nights.at(at);
            if let Span::Working { .. } = span {
                out.push((at, span.end().min(to)));
            }
            at = span.end();
        }
        Some(out)
    }

    /// Hours as a calendar; none where they never end: expected always.
    fn opening(&self, week: &Week) -> Option<Nights> {
        let calendar = Calendar {
            zone: self.state.config.calendar.zone.clone(),
            weekdays: week.clone(),
            holidays: Vec::new(),
            ..Calendar::default()
        };
        let nights = Nights::new(&calendar).ok()?;
        nights.has_spans().then_some(nights)
    }
}

/// Facts of the configuration, overridden fact by fact by what people said of this host.
pub(crate) fn overlay(facts: &mut HostFacts, named: &Named) {
    let own = &named.facts;
    facts.service = own.service.clone().or(facts.service.take());
    facts.owner = own.owner.clone().or(facts.owner.take());
    facts.site = own.site.clone().or(facts.site.take());
    facts.importance = own.importance.or(facts.importance);
    facts.hours = own.hours.clone().or(facts.hours.take());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_a_host_with_or_without_its_domain() {
        for (one, other, want) in [
            ("web01", "web01", true),
            ("web01", "WEB01", true),
            ("web01", "web01.example.org", true),
            ("Web01.example.org", "web01", true),
            ("web01.example.org", "web01.example.net", false),
            ("web01", "web011", false),
            ("web", "web01", false),
            ("", "web01", false),
        ] {
            assert_eq!(same_name(one, other), want, "{one} {other}");
        }
    }
}
