//! What is told with an incident because it happened near it: its host's last lines, new kinds of lines, and who was using the machine.

use std::collections::BTreeSet;

use dawnwatch_proto::event::Process;
use dawnwatch_proto::review::Severity;
use dawnwatch_proto::{HostId, api};
use jiff::Timestamp;

use crate::alert::Alert;
use crate::clock::{add_ms, ms_between};
use crate::config::Measure;
use crate::detect::Anomaly;
use crate::effect::Entry;
use crate::engine::{Engine, Out};
use crate::incident::{Incident, State};
use crate::input::At;
use crate::logged::fired;
use crate::logs::{KeptLine, Rule};
use crate::words;

/// Kinds that come this soon after something broke on their host are evidence of that.
const NEAR_MS: i64 = 900_000;
/// Kinds of lines named as evidence of an incident.
const EVIDENCE_KINDS_MAX: usize = 8;
/// Whole lines kept with an incident.
const LINES_MAX: usize = 10;
/// Of these, the same text so many times: what was said fifty times is evidence twice.
const SAME_MAX: usize = 2;
/// Of these, so many from before it began.
const LINES_BEFORE_MAX: usize = 6;
/// Lines this long before an incident may tell why.
const BEFORE_MS: i64 = 600_000;
/// A table of processes tells who it was within this time; it comes once a minute.
const PROCESSES_MS: i64 = 180_000;
/// Processes named.
const USERS_MAX: usize = 2;

impl Engine {
    /// The incident of a host that something just belonged to.
    pub(crate) fn near(&self, id: HostId, stamp: Timestamp, at: At) -> Option<u64> {
        let incident = self.state.incidents.get(self.state.incidents.latest(id)?)?;
        if incident.severity == Severity::Info {
            return None;
        }
        let mut alerts = incident.alerts.iter();
        let begun = |a: &Alert| (0..NEAR_MS).contains(&ms_between(a.fired, stamp));
        let over = incident.closed_ms.is_some_and(|closed| {
            let ms = i64::try_from(at.boot_ms.saturating_sub(closed)).unwrap_or(i64::MAX);
            ms < crate::incident::JOIN_MS
        });
        let near = incident.state != State::Closed && alerts.any(begun) || over;
        near.then_some(incident.number)
    }

    /// Everything near an incident is told with it, and does not keep it open.
    pub(crate) fn as_evidence(&mut self, number: u64, anomaly: Anomaly, out: &mut Out) {
        let Some(incident) = self.state.incidents.change(number) else {
            return;
        };
        let kinds = incident.alerts.iter().filter(|a| a.rule == anomaly.rule);
        if kinds.count() >= EVIDENCE_KINDS_MAX {
            incident.kinds_more = incident.kinds_more.saturating_add(1);
            return;
        }
        let mut entry = fired(incident.host, &anomaly);
        if let Entry::Alert {
            incident: home,
            state,
            severity,
            ..
        } = &mut entry
        {
            *home = incident.id();
            "resolved".clone_into(state);
            *severity = Severity::Info;
        }
        let mut alert = Alert::new(anomaly);
        alert.until = Some(alert.fired);
        alert.severity = Severity::Info;
        incident.alerts.push(alert);
        out.record(entry);
    }

    /// A whole line is evidence of what goes on: of its own finding, and of what broke on its host just then.
    pub(crate) fn attach(&mut self, id: HostId, line: KeptLine) {
        let mut homes: BTreeSet<u64> = BTreeSet::new();
        for rule in [Rule::New, Rule::Rate, Rule::Severity] {
            let firing = self.state.logs.alerts.get(&(rule, line.key));
            homes.extend(firing.filter(|f| !f.over).map(|f| f.alert.incident));
        }
        let latest = self.state.incidents.latest(id);
        homes.extend(latest.filter(|n| {
            let incident = self.state.incidents.get(*n);
            incident.is_some_and(|i| {
                let mut alerts = i.alerts.iter();
                i.state != State::Closed
                    && alerts.any(|a| (0..NEAR_MS).contains(&ms_between(a.fired, line.time)))
            })
        }));
        let host = self.state.hosts.get(&id);
        let name = host.map_or_else(String::new, |h| h.card.name.clone());
        for number in homes {
            let room = |i: &Incident| {
                let same = i.lines.iter().filter(|l| l.text == line.text).count();
                i.lines.len() < LINES_MAX && same < SAME_MAX
            };
            if self.state.incidents.get(number).is_some_and(room)
                && let Some(incident) = self.state.incidents.change(number)
            {
                incident.lines.push(line.shown(id, &name));
            }
        }
    }

    /// The host's last lines before something broke there.
    pub(crate) fn lines_before(&mut self, id: HostId, number: u64) {
        let Some(host) = self.state.logs.hosts.get(&id) else {
            return;
        };
        let Some(incident) = self
            .state
            .incidents
            .get(number)
            .filter(|i| i.lines.is_empty())
        else {
            return;
        };
        let fired = incident.alerts.iter().map(|a| (a.since, a.fired)).min();
        let Some((since, fired)) = fired else {
            return;
        };
        let from = add_ms(since, -BEFORE_MS);
        let near = host
            .lines
            .iter()
            .filter(|l| from <= l.time && l.time <= fired);
        let near: Vec<&KeptLine> = near.collect();
        let skipped = near.len().saturating_sub(LINES_BEFORE_MAX);
        let name = incident.name.clone();
        let lines: Vec<api::LogLine> = near[skipped..]
            .iter()
            .map(|line| line.shown(id, &name))
            .collect();
        if !lines.is_empty()
            && let Some(incident) = self.state.incidents.change(number)
        {
            incident.lines = lines;
        }
    }

    /// Who was using what a rule measures, in words, where a table of processes of just then is known.
    pub(crate) fn users(&self, id: HostId, measure: Measure, at: Timestamp) -> String {
        let logs = self.state.logs.hosts.get(&id);
        let Some((when, busy, large)) = logs.and_then(|logs| logs.processes.as_ref()) else {
            return String::new();
        };
        if ms_between(*when, at).abs() > PROCESSES_MS {
            return String::new();
        }
        let of = |p: &Process| match p.unit.as_str() {
            "" => format!("{} (pid {})", p.name, p.pid),
            unit => format!("{} (pid {}, {unit})", p.name, p.pid),
        };
        let busy = busy
            .iter()
            .filter(|p| p.cpu_permille > 0)
            .take(USERS_MAX)
            .map(|p| {
                let share = words::percent(f64::from(p.cpu_permille) / 1_000.0);
                format!("{} {share} of a CPU", of(p))
            });
        let large = large
            .iter()
            .filter(|p| p.rss_bytes > 0)
            .take(USERS_MAX)
            .map(|p| {
                #[allow(clippy::cast_precision_loss, reason = "a size for people")]
                let size = words::bytes(p.rss_bytes as f64);
                format!("{} {size}", of(p))
            });
        #[allow(
            clippy::wildcard_enum_match_arm,
            reason = "a table of processes tells of these alone"
        )]
        let (verb, users): (&str, Vec<String>) = match measure {
            Measure::CpuBusy | Measure::CpuPressure => ("eating the CPU", busy.collect()),
            Measure::MemoryUsed | Measure::SwapUsed | Measure::MemoryPressure => {
                ("holding memory", large.collect())
            }
            _ => return String::new(),
        };
        if users.is_empty() {
            return String::new();
        }
        format!("; {verb}: {}", users.join(", "))
    }
}
