//! Who is told of an incident now, who reads it in the review, and why: the reason is a value that is shown.
//!
//! Muting is never judging: whatever is decided here, the incident is recorded and stands in the review.

use dawnwatch_proto::review::Severity;
use serde::{Deserialize, Serialize};

use crate::config::{Channel, Config};
use crate::effect::Reason;
use crate::incident::{Incident, Kind, State};
use crate::own::CHANNEL;

/// An open critical incident is repeated this often until somebody takes it.
const REMIND_MS: u64 = 600_000;
/// Messages about one incident in an hour; a first message and one of a higher severity always go.
const HOURLY_MAX: usize = 6;
/// Repeats in one night or working day, of all incidents together: whoever slept through forty sleeps on.
const REPEATS_MAX: u32 = 40;
const HOUR_MS: u64 = 3_600_000;

/// What the decision rests on besides the incident.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment<'a> {
    pub(crate) config: &'a Config,
    /// Nobody is at work.
    pub(crate) night: bool,
    pub(crate) boot_ms: u64,
}

/// Repeats since the last opening or closing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Repeats {
    night: bool,
    count: u32,
}

impl Repeats {
    /// Counts anew where night became day or day night.
    pub(crate) fn at(&mut self, night: bool) {
        if self.night != night {
            *self = Repeats { night, count: 0 };
        }
    }
}

/// Decides after a change of the incident. Returns the channels to tell, with the reason.
pub(crate) fn decide(incident: &mut Incident, moment: Moment<'_>) -> Vec<(String, Reason)> {
    if incident.state == State::Closed {
        let hearing = std::mem::take(&mut incident.hearing);
        return hearing
            .into_keys()
            .filter(|name| moment.config.channels.iter().any(|c| c.name == *name))
            .map(|name| (name, Reason::Closed))
            .collect();
    }
    let Some(severity) = incident.present() else {
        note(
            incident,
            "found in data that came late: pages only if it still holds at present".to_owned(),
        );
        return Vec::new();
    };
    let mut tell = Vec::new();
    let mut why = Vec::new();
    for channel in &moment.config.channels {
        if is_about(incident, &channel.name) {
            continue;
        }
        match judge(incident, channel, severity, moment) {
            Ok(reason) => tell.push((channel.name.clone(), reason)),
            Err(Some(held)) => why.push(held),
            Err(None) => {}
        }
    }
    if moment.config.channels.is_empty() {
        why.push("nobody is told: no channel is configured".to_owned());
    }
    for (name, reason) in &tell {
        incident.hearing.insert(name.clone(), severity);
        if *reason == Reason::Opened {
            why.push(format!(
                "{}: told {name} at once",
                circumstances(severity, moment)
            ));
        }
    }
    if !tell.is_empty() {
        page(incident, moment.boot_ms);
    }
    for line in why {
        note(incident, line);
    }
    tell
}

/// Whether it says of this very channel that it does not work: then it is no way to tell of it.
fn is_about(incident: &Incident, channel: &str) -> bool {
    incident
        .alerts
        .iter()
        .any(|a| a.is_firing() && a.rule == CHANNEL && a.subject == channel)
}

/// Notes a reason once.
fn note(incident: &mut Incident, line: String) {
    if !incident.policy.contains(&line) {
        incident.policy.push(line);
    }
}

/// Whether a channel is told, or why it is not; nothing where it knows already.
fn judge(
    incident: &Incident,
    channel: &Channel,
    severity: Severity,
    moment: Moment<'_>,
) -> Result<Reason, Option<String>> {
    let bound = bound(channel, moment.night);
    let name = &channel.name;
    let known = incident.hearing.get(name);
    let taken = incident.state == State::Acknowledged;
    if severity == Severity::Info {
        return Err(Some("info never pages: it stands in the review".to_owned()));
    }
    if severity < bound {
        let line = format!(
            "{}: waits for the review (channel {name} pages from {})",
            circumstances(severity, moment),
            word(bound)
        );
        return Err(known.is_none().then_some(line));
    }
    let risen = known.is_some_and(|told| severity > *told);
    // Of a further kind of log lines the first message has said enough.
    let fresh = incident.kind == Kind::Fault
        && incident
            .alerts
            .iter()
            .skip(incident.alerts_told)
            .any(|a| a.is_present() && a.severity >= bound);
    let reason = match known {
        None if !taken => Reason::Opened,
        Some(_) if risen => Reason::Worse,
        Some(_) if fresh && !taken => Reason::Worse,
        None | Some(_) => return Err(None),
    };
    let first = incident.revision == 0 || risen;
    if !first && hourly(incident, moment.boot_ms) >= HOURLY_MAX {
        return Err(Some(format!(
            "over {HOURLY_MAX} messages in an hour: held back from {name}"
        )));
    }
    Ok(reason)
}

/// The channel that a critical incident goes out on where another one failed: none where a working one has it already.
pub(crate) fn another_way(
    incident: &mut Incident,
    failed: &str,
    working: &[String],
    boot_ms: u64,
) -> Option<String> {
    let critical = incident.present() == Some(Severity::Critical);
    if incident.state != State::Open || !critical {
        return None;
    }
    if working
        .iter()
        .any(|name| incident.hearing.contains_key(name))
    {
        return None;
    }
    let Some(name) = working.first() else {
        note(
            incident,
            format!("channel {failed} fails, and there is no other that works"),
        );
        return None;
    };
    note(
        incident,
        format!("channel {failed} fails: told {name} in its place"),
    );
    incident.hearing.insert(name.clone(), Severity::Critical);
    page(incident, boot_ms);
    Some(name.clone())
}

/// Whether there can be anything to repeat: cheap, and asked every second.
pub(crate) fn may_remind(incident: &Incident) -> bool {
    incident.state == State::Open
        && incident.revision > 0
        && incident.severity == Severity::Critical
}

/// The channels that are told again of a critical incident that nobody took.
pub(crate) fn remind(
    incident: &mut Incident,
    moment: Moment<'_>,
    repeats: &mut Repeats,
) -> Vec<(String, Reason)> {
    if !may_remind(incident) {
        return Vec::new();
    }
    let due = incident
        .pages
        .back()
        .is_none_or(|last| moment.boot_ms.saturating_sub(*last) >= REMIND_MS);
    let critical = incident.present() == Some(Severity::Critical);
    if !critical || !due {
        return Vec::new();
    }
    if repeats.count >= REPEATS_MAX || hourly(incident, moment.boot_ms) >= HOURLY_MAX {
        return Vec::new();
    }
    let mut tell = Vec::new();
    for channel in &moment.config.channels {
        // One that was told in the place of another stays told.
        let takes = bound(channel, moment.night) <= Severity::Critical
            || incident.hearing.contains_key(&channel.name);
        if !takes || is_about(incident, &channel.name) {
            continue;
        }
        let known = incident.hearing.contains_key(&channel.name);
        let reason = if known {
            Reason::Reminder
        } else {
            Reason::Opened
        };
        incident
            .hearing
            .insert(channel.name.clone(), Severity::Critical);
        tell.push((channel.name.clone(), reason));
    }
    if !tell.is_empty() {
        page(incident, moment.boot_ms);
        repeats.count += 1;
    }
    tell
}

/// Who hears of a severity, and when: a column of the table of rules.
pub(crate) fn wakes(severity: Severity, config: &Config) -> String {
    if severity == Severity::Info {
        return "nobody: the review".to_owned();
    }
    let names = |night: bool| {
        let names: Vec<&str> = config
            .channels
            .iter()
            .filter(|c| severity >= bound(c, night))
            .map(|c| c.name.as_str())
            .collect();
        names.join(", ")
    };
    match (names(false), names(true)) {
        (day, night) if day.is_empty() && night.is_empty() => {
            "nobody: no channel takes it".to_owned()
        }
        (day, night) if day == night => format!("{day} at once"),
        (day, night) if night.is_empty() => format!("{day} by day; at night the review"),
        (day, night) if day.is_empty() => format!("{night} at night"),
        (day, night) => format!("{day} by day; {night} at night"),
    }
}

/// At night and by day, the least severity that a channel hears of.
fn bound(channel: &Channel, night: bool) -> Severity {
    if night { channel.night } else { channel.day }
}

/// A message goes out: counts it.
fn page(incident: &mut Incident, boot_ms: u64) {
    incident.revision += 1;
    incident.alerts_told = incident.alerts.len();
    incident.pages.push_back(boot_ms);
    if incident.pages.len() > HOURLY_MAX {
        incident.pages.pop_front();
    }
}

fn hourly(incident: &Incident, boot_ms: u64) -> usize {
    incident
        .pages
        .iter()
        .filter(|page| boot_ms.saturating_sub(**page) < HOUR_MS)
        .count()
}

fn circumstances(severity: Severity, moment: Moment<'_>) -> String {
    let when = if moment.night { "at night" } else { "by day" };
    format!("{} {when}", word(severity))
}

/// A severity as people read it.
pub(crate) fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

#[cfg(test)]
mod tests;
