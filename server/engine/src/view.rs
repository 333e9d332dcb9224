//! What readers see: the documents of the API, made from the state at a moment.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use dawnwatch_proto::HostId;
use dawnwatch_proto::api::{self, LiveReview, Now};
use dawnwatch_proto::review::{Review, Severity};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::{add_ms, ms_between};
use crate::config::HostFacts;
use crate::detect::measure::Rows;
use crate::detect::{absence, fate, phrase};
use crate::engine::{Changed, Engine};
use crate::host::Host;
use crate::incident::{Incident, State};
use crate::named::{self, Expected};
use crate::night::{Nights, Span};
use crate::policy;
use crate::review;
use crate::shapes::ShapeView;
use crate::words;

/// A host heard of within this time is live.
const LIVE_MS: u64 = 30_000;

/// A review so far is made anew when something happened or a host reported for the first time, else at most this often: it reckons a whole night of the whole
/// fleet, 0.7 ms for a thousand hosts.
const REVIEW_EVERY_MS: u64 = 2_000;

/// Everything that is read, as it stood at one moment. Published every second, so what did not change is shared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// What is open.
    pub now: Now,
    /// All hosts that are not retired, by name.
    pub hosts: Vec<api::Host>,
    /// All incidents that are remembered, latest first.
    pub incidents: Vec<Arc<api::Incident>>,
    /// Hosts that left for good, by name.
    pub retired: Vec<api::Host>,
    /// Hosts that were named and never joined, by name.
    pub missing: Vec<api::Missing>,
    /// The table of rules.
    pub rules: Vec<api::Rule>,
    /// The night under way, or by day the one that ended last, as it stood at most ten seconds ago.
    pub so_far: Arc<Review>,
    /// The last sealed night, with what happened since.
    pub sealed: Option<Arc<LiveReview>>,
    /// Who pings what, and what came of it, as it stood at most five seconds ago.
    pub net: Arc<Vec<api::Link>>,
    /// The shapes of all hosts' log lines, as they stood at most ten seconds ago.
    pub templates: Arc<Vec<Arc<ShapeView>>>,
    /// Shapes that were met and not remembered, over the bounds of the dictionary.
    pub templates_dropped: u64,
}

/// What readers were shown last, so that only what changed is made anew. No part of the state: judging never looks at it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shown {
    incidents: BTreeMap<u64, Arc<api::Incident>>,
    facts: BTreeMap<HostId, HostFacts>,
    /// The review so far, the boot time that it was made at, and how many hosts had reported by then.
    so_far: Option<(u64, usize, Arc<Review>)>,
    sealed: Option<Arc<LiveReview>>,
    pub(crate) net: Option<(u64, Arc<Vec<api::Link>>)>,
}

impl Shown {
    /// Something happened: the review so far is made anew at the next look, not only when it is old.
    pub(crate) fn news(&mut self) {
        self.so_far = None;
    }

    /// Names, owners or rules changed: everything is made anew.
    pub(crate) fn forget(&mut self) {
        *self = Shown::default();
    }
}

impl Engine {
    /// Everything that is read, at a moment of the server's wall clock.
    #[must_use]
    pub fn view(&mut self, at: Timestamp) -> View {
        let news = self.refresh();
        let incidents: Vec<Arc<api::Incident>> =
            self.shown.incidents.values().rev().cloned().collect();
        let sealed = self.sealed(at, news, &incidents);
        let so_far = self.recent_so_far(at);
        let templates = self.shapes();
        View {
            now: self.now(at),
            hosts: self.hosts(),
            retired: self.retired(),
            missing: self.missing(),
            rules: self.rules(),
            so_far,
            sealed,
            net: self.recent_net(),
            templates,
            templates_dropped: self.state.logs.dropped,
            incidents,
        }
    }

    /// Makes what changed anew. Returns whether any incident did.
    fn refresh(&mut self) -> bool {
        if self.shown.facts.is_empty() {
            let hosts = self.state.hosts.values();
            let facts = hosts.map(|host| (host.card.id, self.facts(host)));
            let facts = facts.collect();
            self.shown.facts = facts;
        }
        let mut changed = std::mem::take(&mut self.state.incidents.changed);
        if self.shown.incidents.is_empty() {
            changed.extend(self.state.incidents.all.keys());
        }
        for number in &changed {
            let incident = self.state.incidents.get(*number);
            match incident.map(|incident| Arc::new(self.incident_shown(incident))) {
                Some(shown) => self.shown.incidents.insert(*number, shown),
                None => self.shown.incidents.remove(number),
            };
        }
        let all = &self.state.incidents.all;
        if self.shown.incidents.len() != all.len() {
            self.shown.incidents.retain(|n, _| all.contains_key(n));
        }
        !changed.is_empty()
    }

    fn sealed(
        &mut self,
        at: Timestamp,
        news: bool,
        incidents: &[Arc<api::Incident>],
    ) -> Option<Arc<LiveReview>> {
        let last = self.state.sealing.last.as_ref()?;
        let known = self.shown.sealed.as_ref();
        if let Some(known) = known.filter(|k| !news && k.review.id == last.id) {
            return Some(Arc::clone(known));
        }
        let live = Arc::new(review::live(last, at, incidents));
        self.shown.sealed = Some(Arc::clone(&live));
        Some(live)
    }

    fn recent_so_far(&mut self, at: Timestamp) -> Arc<Review> {
        let boot_ms = self.state.last.map_or(0, |last| last.boot_ms);
        let reported = self
            .state
            .hosts
            .values()
            .filter(|host| host.heard.is_some())
            .count();
        if let Some((made_ms, known, review)) = &self.shown.so_far
            && *known == reported
            && boot_ms.saturating_sub(*made_ms) < REVIEW_EVERY_MS
            && review.until <= at
            && at < review.end
        {
            return Arc::clone(review);
        }
        let review = Arc::new(self.so_far(at));
        self.shown.so_far = Some((boot_ms, reported, Arc::clone(&review)));
        review
    }

    /// What is open at a moment.
    #[must_use]
    pub fn now(&self, at: Timestamp) -> Now {
        let state = &self.state;
        let joined = state.hosts.values().filter(|h| !h.card.retired);
        let live = joined
            .clone()
            .filter(|h| self.host_state(h) == "live")
            .count();
        let mut open: Vec<&Incident> = state
            .incidents
            .open
            .iter()
            .filter_map(|n| state.incidents.all.get(n))
            .collect();
        open.sort_by_key(|i| (Reverse(i.severity), i.since, i.number));
        Now {
            at,
            zone: state.config.calendar.zone.clone(),
            calendar_confirmed: state.config.calendar.confirmed,
            hosts: u32::try_from(joined.count()).unwrap_or(u32::MAX),
            hosts_live: u32::try_from(live).unwrap_or(u32::MAX),
            hosts_missing: u32::try_from(self.missing().len()).unwrap_or(u32::MAX),
            open: open
                .into_iter()
                .map(|incident| api::Incident::clone(&self.incident_known(incident)))
                .collect(),
            last_night: state.sealing.heads.back().cloned(),
            notices: self.notices(),
        }
    }

    /// The calendar in force, for rendering and for finding nights.
    #[must_use]
    pub fn nights(&self) -> &Nights {
        &self.nights
    }

    /// The night under way, or the one that ended last, as it stands.
    #[must_use]
    pub fn so_far(&self, at: Timestamp) -> Review {
        let night = match self.nights.at(at) {
            Span::Night(night) => night,
            Span::Working { .. } => self.nights.last(at),
        };
        self.review(&night, at, None)
    }

    fn hosts(&self) -> Vec<api::Host> {
        let incidents = &self.state.incidents;
        let mut worst: BTreeMap<HostId, Severity> = BTreeMap::new();
        for incident in incidents.open.iter().filter_map(|n| incidents.get(*n)) {
            let known = worst.entry(incident.host).or_insert(incident.severity);
            *known = incident.severity.max(*known);
        }
        let hosts = self.state.hosts.values().filter(|h| !h.card.retired);
        let shown = |host: &Host| self.host_shown(host, worst.get(&host.card.id).copied());
        let mut out: Vec<api::Host> = hosts.map(shown).collect();
        let expected = self
            .state
            .last
            .map_or_else(BTreeMap::new, |last| self.expected_now(last.wall));
        for host in &mut out {
            if host.state == "silent" && expected.get(&host.id) == Some(&Expected::Off) {
                "off".clone_into(&mut host.state);
            }
        }
        out.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        out
    }

    fn retired(&self) -> Vec<api::Host> {
        let hosts = self.state.hosts.values();
        // What turned out to be another host is found under that one's name.
        let retired = hosts.filter(|h| h.card.retired && h.card.merged.is_none() && !h.card.erased);
        let mut out: Vec<api::Host> = retired.map(|host| self.host_shown(host, None)).collect();
        out.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        out
    }

    fn host_shown(&self, host: &Host, worst: Option<Severity>) -> api::Host {
        let facts = self.facts(host);
        let (values, series) = host.latest().map_or((Vec::new(), 0), |(plan, before)| {
            let row = Rows {
                row: &before.row,
                before: None,
            };
            let mut values = plan.glance(row);
            if let Some(cpu) = host.cpu_ratio {
                values.insert(0, ("cpu_ratio".to_owned(), cpu));
            }
            (values, plan.width)
        });
        let started = host.facts.clone().unwrap_or_default();
        let system = format!("{} {}", started.os, started.kernel);
        #[allow(clippy::cast_precision_loss, reason = "seconds for people")]
        let clock_offset_seconds = host.clock.estimate_ms().unwrap_or(0) as f64 / 1_000.0;
        api::Host {
            id: host.card.id,
            name: host.card.name.clone(),
            state: self.host_state(host).to_owned(),
            joined: host.card.joined,
            last_seen: host.heard.map(|(_, wall)| wall),
            importance: facts.importance.unwrap_or_default(),
            service: facts.service,
            owner: facts.owner,
            site: facts.site,
            aliases: host.card.aliases.clone(),
            labels: self.labels(host),
            agent_version: started.agent_version,
            system: system.trim().to_owned(),
            clock_offset_seconds,
            series: u32::try_from(series).unwrap_or(u32::MAX),
            worst,
            values,
        }
    }

    /// Facts by configuration; the site may come from the token it joined with.
    pub(crate) fn facts(&self, host: &Host) -> HostFacts {
        if let Some(known) = self.shown.facts.get(&host.card.id) {
            return known.clone();
        }
        let mut facts = self.state.config.facts(&host.card.name);
        if let Some(named) = self.named_facts(host) {
            named::overlay(&mut facts, named);
        }
        if facts.site.is_none() {
            let site = host.card.labels.iter().find(|(name, _)| name == "site");
            facts.site = site.map(|(_, value)| value.clone());
        }
        facts
    }

    /// Labels of the token it joined with, and those that people gave it since.
    fn labels(&self, host: &Host) -> Vec<(String, String)> {
        let mut labels: BTreeMap<String, String> = host.card.labels.iter().cloned().collect();
        if let Some(named) = self.named_facts(host) {
            labels.extend(named.labels.iter().cloned());
        }
        labels.into_iter().collect()
    }

    fn host_state(&self, host: &Host) -> &'static str {
        let now = self.state.last.map_or(0, |last| last.boot_ms);
        match host.heard {
            _ if host.card.retired => "retired",
            _ if host.goodbye.is_some() => "goodbye",
            None => "never",
            Some((heard, _)) if now.saturating_sub(heard) < LIVE_MS => "live",
            Some(_) => "silent",
        }
    }

    /// Heard of lately, or away on purpose.
    pub(crate) fn is_live(&self, host: &Host) -> bool {
        matches!(self.host_state(host), "live" | "goodbye")
    }

    fn rules(&self) -> Vec<api::Rule> {
        let config = &self.state.config;
        let set = config.rules.iter().map(|rule| {
            let condition = phrase::condition(rule);
            let (condition, wakes) = if rule.enabled {
                (condition, policy::wakes(rule.severity, config))
            } else {
                (
                    format!("{condition} (off)"),
                    "nobody: the rule is off".to_owned(),
                )
            };
            api::Rule {
                name: rule.name.clone(),
                condition,
                severity: rule.severity,
                wakes,
            }
        });
        let built_in = absence::built_in()
            .into_iter()
            .map(|(name, condition, severity)| api::Rule {
                name: name.to_owned(),
                condition: condition.to_owned(),
                severity,
                wakes: policy::wakes(severity, config),
            });
        set.chain(built_in).collect()
    }

    fn notices(&self) -> Vec<String> {
        let state = &self.state;
        let mut out = Vec::new();
        if state.config.channels.is_empty() {
            let text =
                "no channel is configured: nobody is told at night; add one to dawnwatch.toml";
            out.push(text.to_owned());
        } else if !state
            .config
            .channels
            .iter()
            .any(|c| c.night <= Severity::Critical)
        {
            out.push("no channel takes messages at night".to_owned());
        }
        let notices = state.server.notices.values();
        out.extend(notices.map(|n| format!("{}: {}", n.subject, n.text)));
        for host in state
            .hosts
            .values()
            .filter(|h| !h.card.retired && h.refused > 0)
        {
            let rows = usize::try_from(host.refused).unwrap_or(usize::MAX);
            let rows = words::count(rows, "row");
            out.push(format!(
                "{}: {rows} that fit no schema were passed over",
                host.card.name
            ));
        }
        out
    }

    /// An incident as the API shows it, as made before where it did not change since.
    pub(crate) fn incident_known(&self, incident: &Incident) -> Arc<api::Incident> {
        let known = self.shown.incidents.get(&incident.number);
        match known.filter(|_| !self.state.incidents.changed.contains(&incident.number)) {
            Some(known) => Arc::clone(known),
            None => Arc::new(self.incident_shown(incident)),
        }
    }

    /// An incident as the API shows it.
    pub(crate) fn incident_shown(&self, incident: &Incident) -> api::Incident {
        let Some(host) = self.state.hosts.get(&incident.host) else {
            return incident.shown(None, None);
        };
        let facts = self.facts(host);
        let mut shown = incident.shown(facts.service, facts.owner);
        shown.name.clone_from(&host.card.name);
        self.name_hosts(incident, &mut shown);
        if incident.state != State::Closed && self.is_silent(incident) {
            let works = incident
                .alerts
                .iter()
                .any(|a| a.is_firing() && fate::works(&a.what));
            let cause = if works {
                "agent ended, or cut off from the server"
            } else {
                "cause unknown until it answers"
            };
            cause.clone_into(&mut shown.cause);
        }
        shown
    }

    fn is_silent(&self, incident: &Incident) -> bool {
        let silent = |rule: &str| {
            let rules = self.state.config.rules.iter();
            rules
                .filter(|r| r.measure == crate::config::Measure::Silent)
                .any(|r| r.name == rule)
        };
        incident
            .alerts
            .iter()
            .any(|a| a.is_firing() && silent(&a.rule))
    }

    /// A change with the host's name before it.
    pub(crate) fn change_text(&self, change: &Changed) -> String {
        match change.host.and_then(|id| self.state.hosts.get(&id)) {
            Some(host) => format!("{} {}", host.card.name, change.text),
            None => change.text.clone(),
        }
    }

    /// Why a host was not watched, if it was not.
    pub(crate) fn unwatched_reason(&self, host: &Host) -> String {
        let day_ago = self.state.last.map(|last| add_ms(last.wall, -86_400_000));
        let latest = self.state.incidents.latest(host.card.id);
        let incident = latest.and_then(|n| self.state.incidents.all.get(&n));
        let cause = incident.and_then(|i| {
            i.cause.clone().filter(|_| {
                day_ago.is_none_or(|day| i.until.is_none_or(|until| ms_between(day, until) > 0))
            })
        });
        let works = |i: &Incident| {
            i.alerts
                .iter()
                .any(|a| a.is_firing() && fate::works(&a.what))
        };
        if incident.is_some_and(works) {
            return "monitoring lost, host works".to_owned();
        }
        cause.unwrap_or_else(|| "silent: monitoring lost, or host off".to_owned())
    }
}
