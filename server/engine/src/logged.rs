//! Findings about log lines: where one belongs, what it is called, when it is over.
//!
//! The same kind on many hosts is one finding. What comes on a host shortly after something broke there is evidence of that. Several
//! new kinds of one host within minutes are one finding; beyond [`FINDINGS_MAX`] in a day all further ones gather in one.

use std::collections::BTreeSet;

use dawnwatch_proto::HostId;
use dawnwatch_proto::api;
use dawnwatch_proto::review::Severity;
use jiff::Timestamp;

use crate::clock::ms_between;
use crate::detect::Anomaly;
use crate::detect::novelty::Of;
use crate::effect::Entry;
use crate::engine::{Engine, Out};
use crate::incident::{AlertRef, Incident, Kind};
use crate::input::At;
use crate::logs::{Firing, Rule};
use crate::words;

/// Findings of their own within [`FINDINGS_MS`]: a morning with more of them is read by nobody (PRODUCT: at most 10 after 180 hosts
/// joined).
pub(crate) const FINDINGS_MAX: usize = 5;
/// Further ones, for lines that are critical or worse.
const GRAVE_FINDINGS_MAX: usize = 3;
/// From one morning to the next.
const FINDINGS_MS: u64 = 24 * 3_600_000;
/// Kinds that a host writes within this time of each other are one finding.
const TOGETHER_MS: i64 = 600_000;
/// A finding ends when its lines did not come for so long.
const QUIET_MS: u64 = 6 * 3_600_000;
/// The same, where a line was critical or worse.
const GRAVE_QUIET_MS: u64 = 24 * 3_600_000;
/// A burst ends when no minute was over the bound for so long.
const BURST_QUIET_MS: u64 = 600_000;
/// A line that comes again this soon after its finding ended is still about it.
const AGAIN_MS: i64 = 86_400_000;
/// Severities of syslog that are critical or worse.
const GRAVE: u8 = 2;
/// Findings that fire are looked through this often.
const LOOK_MS: u64 = 60_000;
/// Hosts named in the reason of a finding.
const NAMED_MAX: usize = 5;
/// Hosts remembered of a finding.
const HOSTS_MAX: usize = 2_000;

/// What a detector found of log lines.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) of: Of,
    pub(crate) rule: Rule,
    /// Name of the rule.
    pub(crate) name: String,
    pub(crate) key: u32,
    pub(crate) severity: Severity,
    /// Severity of the lines.
    pub(crate) syslog: u8,
    /// Lines so far; of a burst: lines a minute.
    pub(crate) lines: u32,
    pub(crate) bound: f64,
    /// What is said behind the number.
    pub(crate) tail: String,
}

/// Where a finding belongs.
enum Home {
    /// It is evidence of an incident.
    Evidence(u64),
    /// It is part of a finding.
    Part(u64),
    /// It stands alone.
    Own,
    /// It is one of too many.
    Gather,
}

impl Engine {
    /// Takes up what a detector found.
    pub(crate) fn logged(&mut self, finding: Finding, out: &mut Out) {
        let Of { id, at, stamp, .. } = finding.of;
        let slot = (finding.rule, finding.key);
        if let Some(firing) = self.state.logs.alerts.get(&slot).cloned()
            && self.goes_on(&firing, &finding, out)
        {
            return;
        }
        let anomaly = self.anomaly(&finding);
        let number = match self.home_of(&finding, &anomaly) {
            Home::Evidence(number) => return self.as_evidence(number, anomaly, out),
            Home::Part(number) => number,
            Home::Own => {
                if finding.severity > Severity::Info {
                    self.state.logs.opened.push_back(at.boot_ms);
                }
                self.begin_logged(id, &anomaly)
            }
            Home::Gather => {
                let number = self.begin_logged(id, &anomaly);
                self.state.logs.gathering = Some(number);
                number
            }
        };
        let parts = self
            .state
            .incidents
            .get(number)
            .map_or(0, |i| i.alerts.len());
        if parts >= crate::incident::ALERTS_MAX {
            if let Some(incident) = self.state.incidents.change(number) {
                incident.kinds_more = incident.kinds_more.saturating_add(1);
            }
            return;
        }
        let mut entry = fired(id, &anomaly);
        let alert = self.state.incidents.place(number, anomaly);
        if let Some(incident) = self.state.incidents.change(number) {
            add_host(&mut incident.hosts, id);
            if let Entry::Alert { incident: home, .. } = &mut entry {
                *home = incident.id();
            }
        }
        out.record(entry);
        out.touched.insert(number);
        let firing = Firing {
            alert,
            began: stamp,
            seen: stamp,
            seen_ms: at.boot_ms,
            over: false,
            tail: finding.tail,
            grave: finding.syslog <= GRAVE,
        };
        self.state.logs.alerts.insert(slot, firing);
    }

    /// What is told already goes on, on one host more perhaps. Returns false where that was long ago.
    fn goes_on(&mut self, firing: &Firing, finding: &Finding, out: &mut Out) -> bool {
        let Of {
            id,
            at,
            stamp,
            late,
        } = finding.of;
        if firing.over && ms_between(firing.seen, stamp) > AGAIN_MS {
            return false;
        }
        let fresh = self.anomaly(finding);
        let number = firing.alert.incident;
        let Some(incident) = self.state.incidents.change(number) else {
            return false;
        };
        add_host(&mut incident.hosts, id);
        let Some(alert) = incident.alerts.get_mut(firing.alert.index) else {
            return false;
        };
        if finding.rule == Rule::Rate {
            alert.observe(stamp, f64::from(finding.lines));
        }
        let risen = finding.severity > alert.severity;
        if risen {
            (alert.severity, alert.why) = (finding.severity, fresh.why.clone());
        }
        if !late && alert.past {
            alert.past = false;
            out.touched.insert(number);
        }
        if risen || firing.over {
            if firing.over {
                let lines = alert.observed;
                alert.again(fresh);
                alert.observed = alert.observed.max(lines);
            }
            out.touched.insert(number);
        }
        if let Some(firing) = self.state.logs.alerts.get_mut(&(finding.rule, finding.key)) {
            firing.over = false;
            firing.grave |= finding.syslog <= GRAVE;
            (firing.seen, firing.seen_ms) = (firing.seen.max(stamp), at.boot_ms);
        }
        true
    }

    fn anomaly(&mut self, finding: &Finding) -> Anomaly {
        let Of { stamp, late, .. } = finding.of;
        let shape = self.state.logs.touch(finding.key);
        let word = api::severity_word(finding.syslog);
        let lines = f64::from(finding.lines);
        Anomaly {
            rule: finding.name.clone(),
            subject: shape.text.clone(),
            series: String::new(),
            severity: finding.severity,
            since: stamp,
            fired: stamp,
            observed: lines,
            worst: lines,
            bound: finding.bound,
            what: called(finding.rule, lines, &finding.tail),
            why: format!("\"{}\" ({}, {word})", shape.text, shape.source),
            evidence: Vec::new(),
            late,
        }
    }

    fn home_of(&mut self, finding: &Finding, anomaly: &Anomaly) -> Home {
        let Of { id, at, .. } = finding.of;
        if finding.severity == Severity::Info {
            let part = self.open_log_of(id, |i| i.severity == Severity::Info);
            return part.map_or(Home::Own, Home::Part);
        }
        if let Some(number) = self.near(id, anomaly.fired, at) {
            return Home::Evidence(number);
        }
        let soon = |i: &Incident| {
            let mut alerts = i.alerts.iter();
            alerts.any(|a| ms_between(a.fired, anomaly.fired).abs() < TOGETHER_MS)
        };
        let gathering = self.state.logs.gathering;
        let part = self.open_log_of(id, |i| {
            i.severity > Severity::Info && Some(i.number) != gathering && soon(i)
        });
        if let Some(number) = part {
            return Home::Part(number);
        }
        let logs = &mut self.state.logs;
        while let Some(opened) = logs.opened.front()
            && at.boot_ms.saturating_sub(*opened) > FINDINGS_MS
        {
            logs.opened.pop_front();
        }
        let grave = finding.syslog <= GRAVE;
        if logs.opened.len() < FINDINGS_MAX + if grave { GRAVE_FINDINGS_MAX } else { 0 } {
            return Home::Own;
        }
        let open = gathering.filter(|n| self.state.incidents.open.contains(n));
        open.map_or(Home::Gather, Home::Part)
    }

    /// The latest open finding about log lines of a host alone that fits.
    fn open_log_of(&self, id: HostId, fits: impl Fn(&Incident) -> bool) -> Option<u64> {
        let open = self.state.incidents.open.iter().rev();
        let mut incidents = open.filter_map(|n| self.state.incidents.get(*n));
        let found = incidents.find(|i| i.kind == Kind::Log && i.host == id && fits(i));
        found.map(|i| i.number)
    }

    fn begin_logged(&mut self, id: HostId, anomaly: &Anomaly) -> u64 {
        let host = self.state.hosts.get(&id);
        let name = host.map_or_else(String::new, |h| h.card.name.clone());
        self.state.incidents.begin_of(Kind::Log, id, &name, anomaly)
    }

    /// Further lines of a shape that is told of.
    pub(crate) fn count_up(&mut self, of: Of, key: u32, lines: u32, out: &mut Out) {
        for rule in [Rule::New, Rule::Severity] {
            let Some(firing) = self.state.logs.alerts.get_mut(&(rule, key)) else {
                continue;
            };
            if firing.over && ms_between(firing.seen, of.stamp) > AGAIN_MS {
                continue;
            }
            let (at, tail) = (firing.alert, firing.tail.clone());
            let over = std::mem::replace(&mut firing.over, false);
            (firing.seen, firing.seen_ms) = (firing.seen.max(of.stamp), of.at.boot_ms);
            let Some(alert) = self.state.incidents.alert(at) else {
                continue;
            };
            alert.observed += f64::from(lines);
            alert.worst = alert.worst.max(f64::from(lines));
            alert.what = called(rule, alert.observed, &tail);
            if over {
                alert.until = None;
                alert.times = alert.times.saturating_add(1);
            }
            if over || alert.past && !of.late {
                alert.past = of.late;
                out.touched.insert(at.incident);
            }
        }
    }

    /// Whether a shape is told of at present.
    pub(crate) fn is_told(&self, rule: Rule, key: u32) -> bool {
        let firing = self.state.logs.alerts.get(&(rule, key));
        firing.is_some_and(|firing| !firing.over)
    }

    /// Ends what did not come for long, and what belongs to rules that are off.
    pub(crate) fn logs_over(&mut self, at: At, out: &mut Out) {
        if at.boot_ms.saturating_sub(self.state.logs.looked_ms) < LOOK_MS {
            return;
        }
        self.state.logs.looked_ms = at.boot_ms;
        let mut ended: Vec<(AlertRef, Timestamp)> = Vec::new();
        for ((rule, _), firing) in &mut self.state.logs.alerts {
            let quiet_ms = match rule {
                Rule::Rate => BURST_QUIET_MS,
                Rule::New | Rule::Severity if firing.grave => GRAVE_QUIET_MS,
                Rule::New | Rule::Severity => QUIET_MS,
            };
            if !firing.over && at.boot_ms.saturating_sub(firing.seen_ms) >= quiet_ms {
                firing.over = true;
                ended.push((firing.alert, firing.seen));
            }
        }
        let old = |firing: &Firing| firing.over && ms_between(firing.seen, at.wall) > AGAIN_MS;
        self.state.logs.alerts.retain(|_, firing| !old(firing));
        for (alert, seen) in ended {
            self.resolve(alert, seen, "", out);
        }
    }

    /// Ends the findings of rules that are off.
    pub(crate) fn log_rules_changed(&mut self, at: At, out: &mut Out) {
        let rules = &self.state.config.rules;
        let off = |name: &str| !rules.iter().any(|r| r.enabled && r.name == name);
        let mut ended = Vec::new();
        for firing in self.state.logs.alerts.values_mut().filter(|f| !f.over) {
            let incident = self.state.incidents.get(firing.alert.incident);
            let alert = incident.and_then(|i| i.alerts.get(firing.alert.index));
            if alert.is_some_and(|alert| off(&alert.rule)) {
                firing.over = true;
                ended.push(firing.alert);
            }
        }
        for alert in ended {
            self.resolve(alert, at.wall, "rule switched off", out);
        }
    }

    /// Puts the names of the hosts into a finding that is about several.
    pub(crate) fn name_hosts(&self, incident: &Incident, shown: &mut api::Incident) {
        if incident.hosts.len() < 2 {
            return;
        }
        let hosts = &self.state.hosts;
        let mut names: Vec<&str> = incident
            .hosts
            .iter()
            .filter_map(|id| Some(hosts.get(id)?.card.name.as_str()))
            .collect();
        names.sort_unstable();
        let more = names.len().saturating_sub(NAMED_MAX);
        names.truncate(NAMED_MAX);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        shown.name = words::count(incident.hosts.len(), "host");
        (shown.service, shown.owner) = (None, None);
        if let Some(alert) = shown.alerts.first_mut() {
            alert.why = format!("{}; on {}{more}", alert.why, names.join(", "));
        }
    }
}

impl Incident {
    /// What a finding about log lines is called: its worst kind, and how many more there are.
    pub(crate) fn logged(&self) -> String {
        let kinds = self.alerts.len() + usize::try_from(self.kinds_more).unwrap_or(0);
        let named = self.named();
        let first = named.first().map_or("", |alert| alert.what.as_str());
        match kinds {
            0 | 1 => first.to_owned(),
            _ => {
                let lines: f64 = self.alerts.iter().map(|a| a.observed).sum();
                format!("{kinds} new kinds of log lines, {lines:.0} lines in all; first: {first}")
            }
        }
    }

    /// What came near it and is not named.
    pub(crate) fn kinds_left_out(&self) -> Option<String> {
        let more = usize::try_from(self.kinds_more).unwrap_or(usize::MAX);
        (more > 0).then(|| {
            format!(
                "{} of log lines more: dawnwatch logs",
                words::count(more, "new kind")
            )
        })
    }
}

/// What a finding says: the number changes as lines come.
fn called(rule: Rule, lines: f64, tail: &str) -> String {
    let times = if lines < 2.0 {
        String::new()
    } else {
        format!(", {lines:.0} times")
    };
    match rule {
        Rule::New => format!("new log line, {tail}{times}"),
        Rule::Rate => format!("log line {lines:.0} times a minute, {tail}"),
        Rule::Severity => format!("log line got worse: {tail}{times}"),
    }
}

pub(crate) fn fired(host: HostId, anomaly: &Anomaly) -> Entry {
    Entry::Alert {
        incident: String::new(),
        rule: anomaly.rule.clone(),
        host,
        series: String::new(),
        state: "firing".to_owned(),
        severity: anomaly.severity,
        at: anomaly.fired,
        observed: anomaly.observed,
        why: anomaly.why.clone(),
    }
}

fn add_host(hosts: &mut BTreeSet<HostId>, id: HostId) {
    if hosts.len() < HOSTS_MAX {
        hosts.insert(id);
    }
}
