//! Who is reached by whom: from the pings of many hosts to one word about a target, a way, or a silent host.
//!
//! - What no observer reaches is about the target; what only some do not reach is about the way between. One target has one
//!   incident, whoever sees it.
//! - A host that reports and answers no pings is no host down: its ways are. One that is silent is left to `fate`.
//! - Judged every second from the latest reports, so that observers whose ticks fall apart can agree first.

use std::collections::{BTreeMap, BTreeSet};

use dawnwatch_proto::probe::{self, Role};
use dawnwatch_proto::review::Severity;
use dawnwatch_proto::{HostId, SchemaId, Series};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::{Measure, Rule};
use crate::detect::Anomaly;
use crate::detect::absence::{SERVER, host_anomaly};
use crate::detect::link::{Link, State, When};
use crate::engine::{Engine, Out};
use crate::incident::{AlertRef, JOIN_MS};
use crate::input::At;
use crate::words;

mod outage;

pub(crate) use outage::NEVER_MS;

/// A report older than this says nothing of the present: four ticks.
pub(crate) const FRESH_MS: u64 = 45_000;
/// A host heard of within this is proven to live, whatever pings say.
pub(crate) const LIVES_MS: u64 = 15_000;
/// A way to a host that reports is called down after this: a host that died is silent by then, and has its own incident.
const OWN_WAY_MS: u64 = 25_000;
/// Observers named in a sentence; the rest is counted.
const NAMED_MAX: usize = 3;
/// Why an alert ends: somebody gets answers,
const ANSWERS: &str = "answers again";
/// or nobody asks any more, and nothing is known.
const UNASKED: &str = "nobody pings it any more";
/// Subjects of this beginning belong together, whatever the rule.
const SUBJECT: &str = "way to ";

/// What is pinged, whoever does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Goal {
    /// A host with an agent, by name.
    Host(String),
    /// A target of the configuration.
    Target(String),
    /// A gateway of a site: many sites have the same address.
    Gateway(String, String),
    /// The server.
    Server,
}

/// What is known of all ways together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reach {
    /// Who pings what.
    pub(crate) observers: BTreeMap<Goal, BTreeSet<HostId>>,
    /// What somebody does not reach well.
    bad: BTreeSet<Goal>,
    cases: BTreeMap<Goal, Case>,
}

/// What fires about one goal, or did within the last minutes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Case {
    name: String,
    outage: Option<AlertRef>,
    loss: Option<AlertRef>,
    /// Outages that are over, together.
    out_ms: i64,
    /// When the last alert ended, boot time.
    ended_ms: u64,
}

/// A host that pings a goal, and what it says.
#[derive(Debug, Clone, Copy)]
struct Seen<'a> {
    name: &'a str,
    key: &'a (Role, String),
    link: &'a Link,
}

/// Which of the two alerts of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Outage,
    Loss,
}

impl Goal {
    fn name(&self) -> String {
        match self {
            Goal::Host(name) | Goal::Target(name) => name.clone(),
            Goal::Gateway(_, address) => format!("gateway {address}"),
            Goal::Server => "the server".to_owned(),
        }
    }

    fn subject(&self) -> String {
        match self {
            Goal::Host(name) => format!("{SUBJECT}host {name}"),
            Goal::Target(name) => format!("{SUBJECT}target {name}"),
            Goal::Gateway(site, address) => format!("{SUBJECT}gateway {address} of {site}"),
            Goal::Server => format!("{SUBJECT}server"),
        }
    }
}

/// Whether two subjects are one way or target, whatever the rule.
pub(crate) fn is_way(subject: &str) -> bool {
    subject.starts_with(SUBJECT)
}

impl Engine {
    /// Takes the pings of a tick that is of the present.
    pub(crate) fn pinged(
        &mut self,
        id: HostId,
        at: At,
        stamp: Timestamp,
        tick: (SchemaId, &[i64]),
    ) {
        let rule = self.rule(Measure::PingLoss).cloned();
        let Some(host) = self.state.hosts.get_mut(&id) else {
            return;
        };
        let when = When {
            stamp,
            boot_ms: at.boot_ms,
        };
        if !host.pinged(when, tick, rule.as_ref()) {
            return;
        }
        let Some(host) = self.state.hosts.get(&id) else {
            return;
        };
        let site = self.facts(host).site.unwrap_or_default();
        let goals: Vec<(Goal, bool)> = host
            .links
            .iter()
            .map(|(key, link)| (goal(key.0, &key.1, &site), is_bad(key, link)))
            .collect();
        let reach = &mut self.state.reach;
        for (goal, bad) in goals {
            if bad {
                reach.bad.insert(goal.clone());
            }
            match reach.observers.get_mut(&goal) {
                Some(observers) => drop(observers.insert(id)),
                None => drop(reach.observers.insert(goal, BTreeSet::from([id]))),
            }
        }
    }

    /// Looks at every goal that somebody does not reach well, or did not until now.
    pub(crate) fn reach(&mut self, at: At, out: &mut Out) {
        let reach = &self.state.reach;
        if reach.bad.is_empty() && reach.cases.is_empty() {
            return;
        }
        let goals: BTreeSet<Goal> = reach
            .bad
            .iter()
            .chain(reach.cases.keys())
            .cloned()
            .collect();
        for goal in goals {
            let seen = self.seen(&goal, at);
            let fine = !seen.iter().any(|seen| is_bad(seen.key, seen.link));
            let answers = seen.iter().any(|seen| seen.link.state == State::Up);
            let end = if answers { ANSWERS } else { UNASKED };
            let outage = self.outage(&goal, &seen, at);
            let loss = self.loss(&goal, &seen, at);
            if fine {
                self.state.reach.bad.remove(&goal);
            }
            self.judge_way(&goal, (Kind::Outage, end), outage, at, out);
            self.judge_way(&goal, (Kind::Loss, end), loss, at, out);
            let over = |case: &Case| {
                let idle = case.outage.is_none() && case.loss.is_none();
                let ms = at.boot_ms.saturating_sub(case.ended_ms);
                idle && i64::try_from(ms).unwrap_or(i64::MAX) >= JOIN_MS
            };
            if self.state.reach.cases.get(&goal).is_some_and(over) {
                self.state.reach.cases.remove(&goal);
            }
        }
    }

    /// Forgets who has stopped asking.
    pub(crate) fn prune_reach(&mut self) {
        let hosts = &self.state.hosts;
        let asks = |goal: &Goal, id: &HostId| {
            hosts.get(id).is_some_and(|host| {
                !host.card.retired && host.links.keys().any(|key| is_of(key, goal))
            })
        };
        self.state.reach.observers.retain(|goal, observers| {
            observers.retain(|id| asks(goal, id));
            !observers.is_empty()
        });
    }

    /// The reports of a goal that speak of the present.
    fn seen(&self, goal: &Goal, at: At) -> Vec<Seen<'_>> {
        let Some(observers) = self.state.reach.observers.get(goal) else {
            return Vec::new();
        };
        let hosts = observers.iter().filter_map(|id| self.state.hosts.get(id));
        let present = hosts.filter(|host| !host.card.retired);
        present
            .flat_map(|host| {
                let links = host.links.iter().filter(|(key, _)| is_of(key, goal));
                links.map(|(key, link)| Seen {
                    name: &host.card.name,
                    key,
                    link,
                })
            })
            .filter(|seen| at.boot_ms.saturating_sub(seen.link.seen_ms) <= FRESH_MS)
            .collect()
    }

    /// A goal that loses pings.
    fn loss(&self, goal: &Goal, seen: &[Seen<'_>], at: At) -> Option<(String, Anomaly)> {
        let rule = self.rule(Measure::PingLoss)?;
        let lossy: Vec<Seen<'_>> = seen
            .iter()
            .filter(|s| s.link.loss.is_some())
            .copied()
            .collect();
        let worst = lossy
            .iter()
            .filter_map(|seen| Some((seen, seen.link.loss.as_ref()?)))
            .max_by(|(_, a), (_, b)| a.share.total_cmp(&b.share));
        let (worst_seen, loss) = worst?;
        if !self.may_judge(goal, u64::MAX, at) {
            return None;
        }
        let what = format!("loses {} of pings", words::percent(loss.share));
        let (sent, lost) = worst_seen.link.counts();
        let mut why = format!("{what}: {lost} of {sent} from {}", named(&lossy));
        why.push_str(&format!(" (bound {})", words::percent(rule.bound)));
        let severity = rule.severity.min(self.severity(goal, rule));
        let mut anomaly = host_anomaly(&rule.name, severity, loss.since, at, what, why);
        anomaly.series = series(probe::LOST, worst_seen.key);
        (anomaly.observed, anomaly.worst) = (loss.share, loss.worst);
        anomaly.bound = rule.bound;
        anomaly.evidence = loss.evidence.clone();
        Some((subject_name(goal, &lossy, seen.len()), anomaly))
    }

    /// Whether a goal's ways are to be judged: those to a host only while it reports, and not before its silence would show.
    fn may_judge(&self, goal: &Goal, for_ms: u64, at: At) -> bool {
        let Goal::Host(name) = goal else {
            return true;
        };
        let host = self.state.hosts.values().find(|h| h.card.name == *name);
        host.is_some_and(|host| {
            let lives = |(heard_ms, _)| at.boot_ms.saturating_sub(heard_ms) <= LIVES_MS;
            let here = !host.card.retired && host.goodbye.is_none();
            // What was said while it was away is no word on its ways.
            let for_ms = for_ms.min(at.boot_ms.saturating_sub(host.here_ms));
            here && host.heard.is_some_and(lives) && for_ms >= OWN_WAY_MS
        })
    }

    fn severity(&self, goal: &Goal, rule: &Rule) -> Severity {
        let Goal::Target(name) = goal else {
            return rule.severity;
        };
        let target = self.state.config.targets.iter().find(|t| t.name == *name);
        target.map_or(rule.severity, |target| target.severity)
    }

    /// Begins, goes on with or ends one alert of a goal; why it ends is said with its kind.
    fn judge_way(
        &mut self,
        goal: &Goal,
        (kind, end): (Kind, &str),
        found: Option<(String, Anomaly)>,
        at: At,
        out: &mut Out,
    ) {
        let case = self
            .state
            .reach
            .cases
            .get(goal)
            .cloned()
            .unwrap_or_default();
        let known = match kind {
            Kind::Outage => case.outage,
            Kind::Loss => case.loss,
        };
        match (found, known) {
            (None, None) => {}
            (Some((name, mut anomaly)), None) => {
                anomaly.subject = goal.subject();
                anomaly.why = format!("{name}: {}", anomaly.why);
                let alert = self.open_as(SERVER, &name, at, anomaly, out);
                if let Some(incident) = self.state.incidents.change(alert.incident) {
                    name.clone_into(&mut incident.name);
                }
                self.remember_way(goal, kind, Some(alert), Case { name, ..case }, at);
            }
            (Some((name, anomaly)), Some(alert)) => {
                if name != case.name {
                    self.rename(alert, &name, anomaly, out);
                    self.remember_way(goal, kind, Some(alert), Case { name, ..case }, at);
                } else if let Some(known) = self.state.incidents.peek(alert)
                    && known.observed.total_cmp(&anomaly.observed).is_ne()
                    && let Some(known) = self.state.incidents.alert(alert)
                {
                    known.observed = anomaly.observed;
                    // Told at its worst: what it falls to on its way out is no news.
                    if anomaly.worst > known.worst {
                        known.worst = anomaly.worst;
                        known.what = anomaly.what;
                        known.why = format!("{name}: {}", anomaly.why);
                    }
                    if anomaly.evidence.len() > known.evidence.len() {
                        known.evidence = anomaly.evidence;
                    }
                }
            }
            (None, Some(alert)) => {
                let mut case = case;
                self.end_way((kind, end), alert, &mut case, at, out);
                self.remember_way(goal, kind, None, case, at);
            }
        }
    }

    fn remember_way(
        &mut self,
        goal: &Goal,
        kind: Kind,
        alert: Option<AlertRef>,
        case: Case,
        at: At,
    ) {
        let mut case = case;
        match kind {
            Kind::Outage => case.outage = alert,
            Kind::Loss => case.loss = alert,
        }
        if alert.is_none() {
            case.ended_ms = at.boot_ms;
        }
        self.state.reach.cases.insert(goal.clone(), case);
    }

    /// Others see it too, or do not any more: the same incident under another name.
    fn rename(&mut self, alert: AlertRef, name: &str, anomaly: Anomaly, out: &mut Out) {
        if let Some(incident) = self.state.incidents.change(alert.incident) {
            name.clone_into(&mut incident.name);
        }
        if let Some(known) = self.state.incidents.alert(alert) {
            known.what = anomaly.what;
            known.why = format!("{name}: {}", anomaly.why);
            known.worst = known.worst.max(anomaly.worst);
            known.severity = known.severity.max(anomaly.severity);
        }
        out.touched.insert(alert.incident);
    }

    /// It is over: what it came to is what it is called by from here on.
    fn end_way(
        &mut self,
        (kind, end): (Kind, &str),
        alert: AlertRef,
        case: &mut Case,
        at: At,
        out: &mut Out,
    ) {
        let mut end = end;
        if let Some(known) = self.state.incidents.alert(alert) {
            if known.what == outage::NEVER && end == ANSWERS {
                end = "it answers";
            }
            known.what = match kind {
                Kind::Outage => {
                    let from = known.evidence.last().map_or(known.since, |(from, _)| *from);
                    case.out_ms += crate::clock::ms_between(from, at.wall).max(0);
                    let span = words::duration(case.out_ms);
                    match known.times {
                        1 => format!("no answer to pings for {span}"),
                        times => format!("{times} drops, {span} in all"),
                    }
                }
                Kind::Loss => format!("lost {} of pings at worst", words::percent(known.worst)),
            };
        }
        self.resolve(alert, at.wall, end, out);
    }

    /// A host is gone for good: nobody asks for it any more.
    pub(crate) fn unreached(&mut self, name: &str, at: At, out: &mut Out) {
        let goal = Goal::Host(name.to_owned());
        let reach = &mut self.state.reach;
        reach.observers.remove(&goal);
        reach.bad.remove(&goal);
        let Some(case) = reach.cases.remove(&goal) else {
            return;
        };
        for alert in [case.outage, case.loss].into_iter().flatten() {
            self.resolve(alert, at.wall, UNASKED, out);
        }
    }

    pub(crate) fn rule(&self, measure: Measure) -> Option<&Rule> {
        let mut rules = self.state.config.rules.iter();
        rules.find(|rule| rule.enabled && rule.measure == measure)
    }
}

fn goal(role: Role, target: &str, site: &str) -> Goal {
    match role {
        Role::Mesh | Role::Host => Goal::Host(target.to_owned()),
        Role::Target => Goal::Target(target.to_owned()),
        Role::Gateway => Goal::Gateway(site.to_owned(), target.to_owned()),
        Role::Server => Goal::Server,
    }
}

/// Whether a way leads to a goal; gateways of other sites are told apart by who observes them.
fn is_of((role, target): &(Role, String), goal: &Goal) -> bool {
    match goal {
        Goal::Host(name) => matches!(role, Role::Mesh | Role::Host) && target == name,
        Goal::Target(name) => *role == Role::Target && target == name,
        Goal::Gateway(_, address) => *role == Role::Gateway && target == address,
        Goal::Server => *role == Role::Server,
    }
}

fn is_bad((role, _): &(Role, String), link: &Link) -> bool {
    let never = *role == Role::Target && link.state == State::Never;
    link.state == State::Down || never || link.loss.is_some()
}

/// What an incident is about: the goal, where nobody reaches it well, else the ways of those who do not.
fn subject_name(goal: &Goal, bad: &[Seen<'_>], observers: usize) -> String {
    let alone = observers == 1 && matches!(goal, Goal::Target(_));
    if bad.len() == observers && (observers > 1 || alone) {
        return goal.name();
    }
    format!("link {} - {}", named(bad), goal.name())
}

/// The names of some observers.
fn named(seen: &[Seen<'_>]) -> String {
    let mut names: Vec<&str> = seen.iter().map(|seen| seen.name).collect();
    names.sort_unstable();
    names.dedup();
    list(&names)
}

/// Names as a sentence has them: `web01, web02 and 3 more`.
pub(crate) fn list(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [some @ .., last] if names.len() <= NAMED_MAX => format!("{} and {last}", some.join(", ")),
        _ => {
            let more = names.len() - NAMED_MAX;
            format!("{} and {more} more", names[..NAMED_MAX].join(", "))
        }
    }
}

fn series(name: &str, (role, target): &(Role, String)) -> String {
    let series = Series::new(name, dawnwatch_proto::Kind::Gauge);
    series
        .label("target", target)
        .label("role", role.word())
        .to_string()
}
