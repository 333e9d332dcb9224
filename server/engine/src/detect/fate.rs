//! What is known of a host while it is silent: whether anybody gets an answer from it.
//!
//! Never "off" while anybody does, and "off or hung" only where two places that are in touch with each other get none: the
//! server, which hears nothing, and an agent, whose pings were answered before. Who never answered pings stays unknown.

use dawnwatch_proto::probe::Role;
use dawnwatch_proto::review::Severity;

use crate::clock::add_ms;
use crate::config::Measure;
use crate::detect::absence::SILENT_WHAT;
use crate::detect::link::{Link, State};
use crate::detect::reach::{FRESH_MS, Goal, list};
use crate::engine::{Engine, Out};
use crate::host::Host;
use crate::input::At;

/// A report this long after the host's last word is of the silence: three probes, and a tick to tell of them.
const SINCE_MS: u64 = 15_000;
/// An observer that was not heard of for this long may be cut off itself.
const OBSERVER_MS: u64 = 20_000;

const WORKS_WHAT: &str = "monitoring lost, host works";
const OFF_WHAT: &str = "off or hung";

/// How a silence is called when it is over.
pub(crate) fn was(what: &str) -> Option<&'static str> {
    if what.starts_with(WORKS_WHAT) {
        Some("monitoring was lost, host worked")
    } else if what.starts_with(OFF_WHAT) {
        Some("was off or hung")
    } else {
        None
    }
}

/// Whether the host is known to work while its agent is silent.
pub(crate) fn works(what: &str) -> bool {
    what.starts_with(WORKS_WHAT)
}

/// What can be said of a silent host.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fate {
    pub(crate) what: String,
    /// Who says so; empty where nobody can tell.
    pub(crate) why: String,
    pub(crate) severity: Severity,
    /// Somebody asked and got an answer, or got none: not only nobody who could tell.
    told: bool,
}

impl Engine {
    /// What is known of a host that is silent; `severity` is the rule's.
    pub(crate) fn fate(&self, host: &Host, at: At, severity: Severity) -> Fate {
        let observers = self.observers(host, at);
        let answered: Vec<&str> = names(&observers, |link| link.state == State::Up);
        if !answered.is_empty() {
            let by = list(&answered);
            return Fate {
                what: format!("{WORKS_WHAT} (ping answers {by})"),
                why: format!("the host answers pings of {by}"),
                severity: severity.min(Severity::Warning),
                told: true,
            };
        }
        let once = observers.iter().any(|(_, _, link)| link.answered);
        let none = names(&observers, |link| link.failing && once);
        // The server's own pinger stands where the server stands: it is no second place.
        let elsewhere = observers
            .iter()
            .any(|(_, role, link)| *role == Role::Mesh && link.failing && once);
        if elsewhere {
            let mut places = vec!["server"];
            places.extend(&none);
            let touch = if self.reach_each_other(&none) {
                format!("these {} reach each other", number(places.len()))
            } else {
                "all of them reach the server".to_owned()
            };
            return Fate {
                what: OFF_WHAT.to_owned(),
                why: format!("silent to {}; {touch}", list(&places)),
                severity,
                told: true,
            };
        }
        let why = match (none.is_empty(), observers.is_empty()) {
            (false, _) => format!("no answer to pings of {}", list(&none)),
            (true, false) => "it never answered pings".to_owned(),
            (true, true) => String::new(),
        };
        Fate {
            what: SILENT_WHAT.to_owned(),
            told: !none.is_empty(),
            why,
            severity,
        }
    }

    /// Brings what is said of silent hosts up to date, and counts those that are known to be down as watched.
    pub(crate) fn fates(&mut self, at: At, out: &mut Out) {
        let Some(rule) = self.rule(Measure::Silent).cloned() else {
            return;
        };
        let silent: Vec<_> = self
            .state
            .hosts
            .iter()
            .filter_map(|(id, host)| {
                let slot = host.slots.get(host.slot(&rule.name)?)?;
                Some((*id, slot.alerts().next()?))
            })
            .collect();
        for (id, alert) in silent {
            let Some(host) = self.state.hosts.get(&id) else {
                continue;
            };
            let fate = self.fate(host, at, rule.severity);
            let why = self.silence_in_words(host, at, &fate.why);
            let Some(known) = self.state.incidents.peek(alert) else {
                continue;
            };
            let off = known.what == OFF_WHAT;
            // What was known stays known while those who told it are away.
            let news = fate.what != known.what && fate.told;
            // One observer more or less is no news of the host.
            let same_kind = works(&fate.what) && works(&known.what);
            if off && let Some(host) = self.state.hosts.get_mut(&id) {
                let heard = host.heard.map_or(at.wall, |(heard_ms, _)| {
                    let ms = at.boot_ms.saturating_sub(heard_ms);
                    add_ms(at.wall, -i64::try_from(ms).unwrap_or(i64::MAX))
                });
                host.down.add(heard, at.wall);
            }
            if news
                && !same_kind
                && let Some(known) = self.state.incidents.alert(alert)
            {
                (known.what, known.why, known.severity) = (fate.what, why, fate.severity);
                out.touched.insert(alert.incident);
            }
        }
    }

    /// Who pings a host, by what, and what came of it during its silence.
    fn observers(&self, host: &Host, at: At) -> Vec<(&str, Role, &Link)> {
        let goal = Goal::Host(host.card.name.clone());
        let Some(observers) = self.state.reach.observers.get(&goal) else {
            return Vec::new();
        };
        let silent_since = host.heard.map_or(0, |(heard_ms, _)| heard_ms);
        let mut out = Vec::new();
        for id in observers.iter().filter(|id| **id != host.card.id) {
            let Some(observer) = self.state.hosts.get(id).filter(|o| !o.card.retired) else {
                continue;
            };
            let near = |(heard_ms, _)| at.boot_ms.saturating_sub(heard_ms) <= OBSERVER_MS;
            if !observer.heard.is_some_and(near) {
                continue;
            }
            for role in [Role::Mesh, Role::Host] {
                let Some(link) = observer.links.get(&(role, host.card.name.clone())) else {
                    continue;
                };
                let fresh = at.boot_ms.saturating_sub(link.seen_ms) <= FRESH_MS;
                if fresh && link.seen_ms >= silent_since.saturating_add(SINCE_MS) {
                    out.push((observer.card.name.as_str(), role, link));
                }
            }
        }
        out
    }

    /// Whether of every two observers one gets answers from the other.
    fn reach_each_other(&self, names: &[&str]) -> bool {
        let host = |name: &str| self.state.hosts.values().find(|h| h.card.name == name);
        let reaches = |from: &str, to: &str| {
            let key = (Role::Mesh, to.to_owned());
            host(from).is_some_and(|h| h.links.get(&key).is_some_and(|l| l.state == State::Up))
        };
        names.iter().enumerate().all(|(i, a)| {
            names[i + 1..]
                .iter()
                .all(|b| reaches(a, b) || reaches(b, a))
        })
    }
}

fn names<'a>(observers: &[(&'a str, Role, &Link)], is: impl Fn(&Link) -> bool) -> Vec<&'a str> {
    let mut names: Vec<&str> = observers
        .iter()
        .filter(|(_, _, link)| is(link))
        .map(|(name, ..)| *name)
        .collect();
    names.dedup();
    names
}

fn number(n: usize) -> String {
    match n {
        2 => "two".to_owned(),
        3 => "three".to_owned(),
        4 => "four".to_owned(),
        _ => n.to_string(),
    }
}
