//! One night as one value: what is open, what needs somebody, what healed, what was watched, and one sentence for it.
//!
//! [`build`] makes a review, [`live`] says what changed since one was sealed. Names and causes stay raw here: whoever
//! draws a review escapes them.

mod sentence;

use std::collections::BTreeMap;
use std::sync::Arc;

use dawnwatch_proto::HostId;
use dawnwatch_proto::api::{Alert, Incident, LiveReview};
use dawnwatch_proto::review::text::{duration, when};
use dawnwatch_proto::review::{
    Change, FORMAT, Importance, Messages, Review, Row, Severity, Verdict,
};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::config::Config;
use crate::coverage::{self, HostSpans, Reckoned, Watched, Window};
use crate::night::{self, Night};
use sentence::{Telling, sentence};

/// Rows kept a block: a storm of 5,000 incidents must not make a review that nobody can load. The rest is counted in
/// the block's last row.
pub const ROWS_MAX: usize = 500;

/// Lines of evidence kept a row.
pub const EVIDENCE_MAX: usize = 8;

/// Lines kept of what happened since sealing: a night of long ago has seen much since.
pub const SINCE_MAX: usize = 100;

/// Changes kept: a fleet of 1,000 that joins in one night makes two each.
pub const CHANGES_MAX: usize = 2_500;

/// What a review is made of.
#[derive(Debug, Clone, Copy)]
pub struct ReviewInput<'a> {
    /// The night.
    pub night: &'a Night,
    /// The present.
    pub now: Timestamp,
    /// When it is sealed: the present, for a review that is final.
    pub sealed: Option<Timestamp>,
    /// The configuration in force.
    pub config: &'a Config,
    /// All incidents that are open or touch the night; others are passed over.
    pub incidents: &'a [Arc<Incident>],
    /// All hosts, retired ones included.
    pub hosts: &'a [HostInput<'a>],
    /// When the server was up.
    pub server_up: &'a Watched,
    /// When the server started for the first time.
    pub first_start: Option<Timestamp>,
    /// Jumps of the server's wall clock, in order: the time after it, and milliseconds.
    pub jumps: &'a [(Timestamp, i64)],
    /// What was changed; what lies outside the night is passed over.
    pub changes: &'a [Change],
    /// What is known of tonight.
    pub tonight: &'a [String],
    /// What was told to whom.
    pub messages: &'a Messages,
    /// Night n of the nights of learning, while learning.
    pub learning: Option<(u32, u32)>,
    /// Samples that agents dropped.
    pub ticks_dropped: u64,
    /// Findings that were signed off.
    pub signed_off: u32,
}

/// A host as a review sees it.
#[derive(Debug, Clone)]
pub struct HostInput<'a> {
    /// Its id.
    pub id: HostId,
    /// Its name.
    pub name: &'a str,
    /// How much it matters.
    pub importance: Importance,
    /// When it joined.
    pub joined: Timestamp,
    /// When it was retired.
    pub retired: Option<Timestamp>,
    /// When it was expected to be up; none: always.
    pub expected: Option<Vec<(Timestamp, Timestamp)>>,
    /// What its ticks vouch for.
    pub watched: &'a Watched,
    /// From a goodbye to the return.
    pub down: &'a Watched,
    /// Why it was not watched, if it was not, in words: `monitoring lost`.
    pub reason: String,
}

/// Makes the review of a night, sealed or so far.
#[must_use]
pub fn build(input: &ReviewInput<'_>) -> Review {
    let (night, config) = (input.night, input.config);
    let until = night
        .end
        .min(input.sealed.unwrap_or(input.now))
        .max(night.start);
    let Reckoned { coverage, blind } = reckon(input, until);
    let zone = night::zone(&config.calendar.zone).unwrap_or(TimeZone::UTC);
    let Blocks {
        mut critical,
        mut today,
        mut healed,
        folded,
    } = blocks(input, until);
    let verdict = if !critical.is_empty() {
        Verdict::Critical
    } else if blind {
        Verdict::Blind
    } else if !today.is_empty() {
        Verdict::Attention
    } else {
        Verdict::Quiet
    };
    let telling = Telling {
        critical: &critical,
        today: &today,
        healed: &healed,
        coverage: &coverage,
        blind,
        zone: &zone,
    };
    let sentence = sentence(&telling);
    let findings = count(critical.len() + today.len());
    for block in [&mut critical, &mut today, &mut healed] {
        cut(block);
    }
    Review {
        format: FORMAT,
        id: night.id.clone(),
        start: night.start,
        end: night.end,
        until,
        zone: config.calendar.zone.clone(),
        calendar_confirmed: config.calendar.confirmed,
        hours: night::hours(&config.calendar),
        sealed: input.sealed,
        learning: input.learning,
        verdict,
        blind,
        sentence,
        findings,
        signed_off: input.signed_off,
        coverage,
        critical,
        today,
        healed,
        folded,
        changed: changed(input, until),
        tonight: input.tonight.to_vec(),
        messages: input.messages.clone(),
        ledger_head: String::new(),
        tzdb: night::tzdb().to_owned(),
    }
}

/// Puts what happened since sealing above a review, and each row's present state into it.
#[must_use]
pub fn live(review: &Review, at: Timestamp, incidents: &[Arc<Incident>]) -> LiveReview {
    let sealed = review;
    let mut review = review.clone();
    let by_id: BTreeMap<&str, &Incident> = incidents
        .iter()
        .map(|incident| (incident.id.as_str(), incident.as_ref()))
        .collect();
    let now_of = |id: &str| by_id.get(id);
    for row in review
        .critical
        .iter_mut()
        .chain(&mut review.today)
        .chain(&mut review.healed)
    {
        if let Some(incident) = now_of(&row.id) {
            row.state.clone_from(&incident.state);
            row.taken.clone_from(&incident.taken);
        }
    }
    let since = sealed
        .sealed
        .map_or_else(Vec::new, |moment| since(sealed, moment, at, incidents));
    LiveReview { at, review, since }
}

/// What opened, ended or came to light after sealing, in order.
fn since(
    review: &Review,
    sealed: Timestamp,
    at: Timestamp,
    incidents: &[Arc<Incident>],
) -> Vec<String> {
    let zone = night::zone(&review.zone).unwrap_or(TimeZone::UTC);
    let time = |time| when(time, &zone, at);
    let blocks = [&review.critical, &review.today, &review.healed];
    let whole = blocks.iter().all(|block| block.len() < ROWS_MAX);
    let rows: BTreeMap<&str, &Row> = blocks
        .into_iter()
        .flatten()
        .map(|row| (row.id.as_str(), row))
        .collect();
    let mut edges: Vec<(Timestamp, String)> = Vec::new();
    for incident in incidents
        .iter()
        .filter(|incident| incident.severity > Severity::Info)
    {
        let (id, name, what) = (&incident.id, &incident.name, &incident.what);
        let word = severity(incident.severity);
        let began = time(incident.since);
        if incident.since >= review.until && incident.since <= at {
            edges.push((
                incident.since,
                format!("new {word}: {id} {name}, {what}, {began}"),
            ));
        } else if incident.since < review.until
            && whole
            && !rows.contains_key(id.as_str())
            && incident.until.is_none_or(|end| end >= review.start)
        {
            // It belongs to the night, but its data came after sealing.
            edges.push((
                incident.since,
                format!("late {word}: {id} {name}, {what}, {began}"),
            ));
        }
        if let Some(row) = rows.get(id.as_str())
            && row.severity < incident.severity
        {
            let turned = incident.turned.as_ref().map_or(incident.since, |t| t.at);
            let turned_at = turned.max(sealed);
            edges.push((
                turned_at,
                format!("worse: {id} {name} is {word}, {what}, {}", time(turned)),
            ));
        }
        if let Some(end) = incident.until.filter(|end| sealed <= *end && *end <= at) {
            edges.push((end, format!("over: {id} {name}, {}", time(end))));
        }
    }
    edges.sort();
    let more = edges.len().saturating_sub(SINCE_MAX);
    let mut lines: Vec<String> = edges
        .into_iter()
        .take(SINCE_MAX)
        .map(|(_, text)| text)
        .collect();
    if more > 0 {
        lines.push(format!("{more} more: dawnwatch incidents"));
    }
    lines
}

fn changed(input: &ReviewInput<'_>, until: Timestamp) -> Vec<Change> {
    let inside = |change: &&Change| input.night.start <= change.at && change.at < until;
    let mut changed: Vec<Change> = input.changes.iter().filter(inside).cloned().collect();
    changed.sort_by_key(|change| change.at);
    let older = changed.len().saturating_sub(CHANGES_MAX);
    changed.drain(..older);
    changed
}

fn reckon(input: &ReviewInput<'_>, until: Timestamp) -> Reckoned {
    let window = Window {
        start: input.night.start,
        until,
        server_up: input.server_up,
        ticks_dropped: input.ticks_dropped,
        first_start: input.first_start,
        jumps: input.jumps,
    };
    let hosts: Vec<HostSpans<'_>> = input
        .hosts
        .iter()
        .map(|host| HostSpans {
            id: host.id,
            name: host.name,
            importance: host.importance,
            joined: host.joined,
            retired: host.retired,
            expected: host.expected.as_deref(),
            watched: host.watched,
            down: host.down,
            reason: &host.reason,
        })
        .collect();
    coverage::reckon(&window, &hosts)
}

struct Blocks {
    critical: Vec<Row>,
    today: Vec<Row>,
    healed: Vec<Row>,
    folded: u32,
}

fn blocks(input: &ReviewInput<'_>, until: Timestamp) -> Blocks {
    let start = input.night.start;
    let importance: BTreeMap<HostId, Importance> = input
        .hosts
        .iter()
        .map(|host| (host.id, host.importance))
        .collect();
    let row = |incident: &Incident, ended| {
        let importance = importance.get(&incident.host).copied();
        row(incident, importance.unwrap_or_default(), ended, until)
    };
    let mut blocks = Blocks {
        critical: Vec::new(),
        today: Vec::new(),
        healed: Vec::new(),
        folded: 0,
    };
    for incident in input.incidents {
        // An end that lies ahead of what the review covers has not come yet.
        let ended = incident.until.filter(|end| *end <= until);
        if incident.since >= until || ended.is_some_and(|end| end < start) {
            continue;
        }
        match (ended, incident.severity) {
            (_, Severity::Info) => blocks.folded += 1,
            (None, Severity::Critical) => blocks.critical.push(row(incident, ended)),
            (None, Severity::Warning) => blocks.today.push(row(incident, ended)),
            (Some(_), Severity::Critical | Severity::Warning) => {
                blocks.healed.push(row(incident, ended));
            }
        }
    }
    for block in [&mut blocks.critical, &mut blocks.today, &mut blocks.healed] {
        block.sort_by(|a, b| {
            b.score
                .cmp(&a.score)
                .then(a.since.cmp(&b.since))
                .then(a.id.cmp(&b.id))
        });
    }
    blocks
}

/// Bounds a block; what is cut is counted in its last row, never lost silently.
fn cut(block: &mut Vec<Row>) {
    if block.len() <= ROWS_MAX {
        return;
    }
    let rest = block.split_off(ROWS_MAX - 1);
    let Some(mut last) = rest.first().cloned() else {
        return;
    };
    last.id = String::new();
    last.subject = format!("{} more", rest.len());
    last.service = None;
    last.what = "all of lower rank: dawnwatch incidents".to_owned();
    last.evidence = Vec::new();
    last.owner = None;
    last.taken = None;
    block.push(last);
}

fn row(
    incident: &Incident,
    importance: Importance,
    ended: Option<Timestamp>,
    until: Timestamp,
) -> Row {
    let seconds = seconds_between(incident.since, ended.unwrap_or(until));
    let (score, rank) = rank(incident.severity, importance, ended.is_none(), seconds);
    let mut evidence: Vec<String> = Vec::new();
    let mut fired: Vec<&Alert> = incident.alerts.iter().collect();
    fired.retain(|alert| alert.state != "pending");
    // What the row is called by has its evidence first.
    fired.sort_by_key(|alert| std::cmp::Reverse(alert.severity));
    for why in fired.into_iter().map(|alert| &alert.why) {
        if !why.is_empty() && *why != incident.what && !evidence.contains(why) {
            evidence.push(why.clone());
        }
    }
    if evidence.len() > EVIDENCE_MAX {
        let more = evidence.len() - EVIDENCE_MAX + 1;
        evidence.truncate(EVIDENCE_MAX - 1);
        evidence.push(format!("{more} more: dawnwatch show {}", incident.id));
    }
    let state = match (ended, incident.state.as_str()) {
        (None, "closed") if incident.taken.is_some() => "acknowledged",
        (None, "closed") => "open",
        (_, state) => state,
    };
    Row {
        id: incident.id.clone(),
        subject: incident.name.clone(),
        service: incident.service.clone(),
        what: incident.what.clone(),
        severity: incident.severity,
        since: incident.since,
        turned: incident.turned.clone().filter(|_| ended.is_none()),
        until: ended,
        cause: incident.cause.clone(),
        owner: incident.owner.clone(),
        taken: incident.taken.clone(),
        evidence,
        rank,
        score,
        state: state.to_owned(),
    }
}

/// Severity, importance, still open, duration: each outweighs all that follow it.
fn rank(severity_of: Severity, importance: Importance, open: bool, seconds: u64) -> (u32, String) {
    let minutes = u32::try_from(seconds / 60).unwrap_or(u32::MAX).min(99_999);
    let (severity_part, matters) = (
        match severity_of {
            Severity::Info => 0,
            Severity::Warning => 1,
            Severity::Critical => 2,
        },
        match importance {
            Importance::Low => (0, "low"),
            Importance::Normal => (1, "normal"),
            Importance::High => (2, "high"),
        },
    );
    let score =
        severity_part * 10_000_000 + matters.0 * 1_000_000 + u32::from(open) * 500_000 + minutes;
    let state = if open { "still open" } else { "over" };
    let rank = format!(
        "{}, {} importance, {state}, {}",
        severity(severity_of),
        matters.1,
        duration(seconds)
    );
    (score, rank)
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

fn seconds_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_secs()).unwrap_or(0)
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
