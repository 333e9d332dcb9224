//! What a night keeps of its findings: `nights/<id>.evidence.json`, canonical like the review and written beside it at
//! sealing, its SHA-256 in the same ledger frame as the review's. Raw history lives for weeks, a night for ever.
//!
//! Of each finding: the incident as it stood, the samples of its alerts' series and the log lines of its host from half an
//! hour before its start to half an hour after it, or to the sealing. Caveats: a series that the server derives and that no
//! host sends has only the samples within its alert; what a host sent under the id of before a merge is not in here.

use std::path::Path;
use std::sync::Arc;

use dawnwatch_proto::api::{
    EVIDENCE_FORMAT, Evidence, FindingEvidence, Incident, LogLine, SeriesEvidence,
};
use dawnwatch_proto::review::Review;
use dawnwatch_proto::{EventBody, HostId, Series};
use jiff::{SignedDuration, Timestamp};

use super::Error;
use crate::history::History;
use crate::history::events::Wanted;
use crate::history::query::thin;

/// So much before and after the start of a finding: what led to it and what came of it.
const AROUND: SignedDuration = SignedDuration::from_mins(30);

/// Findings of a night with evidence, worst first: a morning reads no more of them one by one.
const FINDINGS_MAX: usize = 100;

/// Series of one finding: what it is about, not everything that moved with it.
const SERIES_MAX: usize = 8;

/// Points of a series: two a minute, as many as a chart on a page shows.
const POINTS_MAX: usize = 120;

/// Lines before the start of a finding, and as many after it.
const LINES_EACH_MAX: usize = 10;

/// Bytes of a line: what it says stands at its beginning.
const LINE_BYTES_MAX: usize = 1_024;

/// Lines that are read at once while the first ones after a start are looked for: a storm is halved until it fits.
const LINES_READ_MAX: usize = 200;

/// Damages that are named: a broken disk says the same of every file.
const DAMAGED_MAX: usize = 20;

/// The watch waits while evidence is copied. A disk too slow for this costs the evidence of the mildest findings.
const BUDGET_MS: u64 = 2_000;

/// The nights that have evidence, by id.
///
/// # Errors
/// Where the directory cannot be listed.
pub fn list(data: &Path) -> Result<Vec<String>, Error> {
    let dir = data.join("nights");
    let names = match std::fs::read_dir(&dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.and_then(|entries| {
            let names = entries.map(|entry| Ok(entry?.file_name()));
            names.collect::<std::io::Result<Vec<_>>>()
        }),
    };
    let names = names.map_err(|source| Error::Io {
        what: "list",
        path: dir,
        source,
    })?;
    let id =
        |name: &std::ffi::OsString| Some(name.to_str()?.strip_suffix(".evidence.json")?.to_owned());
    let mut ids: Vec<String> = names.iter().filter_map(id).collect();
    ids.sort();
    Ok(ids)
}

/// Copies out of history what belongs to the findings of a review. `spent` says how many milliseconds have gone.
#[must_use]
pub fn gather(
    history: &History,
    review: &Review,
    incidents: &[Arc<Incident>],
    spent: impl Fn() -> u64,
) -> Evidence {
    let sealed = review.sealed.unwrap_or(review.until);
    let mut evidence = Evidence {
        format: EVIDENCE_FORMAT,
        night: review.id.clone(),
        zone: review.zone.clone(),
        sealed,
        findings: Vec::new(),
        left_out: 0,
        damaged: Vec::new(),
    };
    let rows = review.critical.iter().chain(&review.today);
    for row in rows.chain(&review.healed) {
        let incident = incidents.iter().find(|incident| incident.id == row.id);
        match incident {
            Some(incident) if evidence.findings.len() < FINDINGS_MAX && spent() < BUDGET_MS => {
                let kept = finding(history, incident, sealed, &mut evidence.damaged);
                evidence.findings.push(kept);
            }
            Some(_) | None => evidence.left_out += 1,
        }
    }
    evidence.damaged.sort();
    evidence.damaged.dedup();
    evidence.damaged.truncate(DAMAGED_MAX);
    evidence
}

/// Writes the canonical bytes of a night's evidence.
///
/// # Errors
/// What the file system says.
pub fn write(data: &Path, night: &str, bytes: &[u8]) -> Result<(), Error> {
    super::replace(path(data, night), bytes)
}

/// Reads the evidence of a night; none where there is none, as of nights that were sealed before evidence was kept.
///
/// # Errors
/// Where the file cannot be read or is of another format.
pub fn read(data: &Path, night: &str) -> Result<Option<Evidence>, Error> {
    if !super::is_plain(night) {
        return Ok(None);
    }
    super::open(path(data, night), EVIDENCE_FORMAT, |kept: &Evidence| {
        kept.format
    })
}

fn path(data: &Path, night: &str) -> std::path::PathBuf {
    data.join("nights").join(format!("{night}.evidence.json"))
}

fn finding(
    history: &History,
    incident: &Incident,
    sealed: Timestamp,
    damaged: &mut Vec<String>,
) -> FindingEvidence {
    let begun = incident.since;
    let from = begun.saturating_sub(AROUND).unwrap_or(Timestamp::MIN);
    let to = begun.saturating_add(AROUND).unwrap_or(Timestamp::MAX);
    // What it is called a finding for may have begun long before the night; what came after the sealing is not known.
    let to = to.min(sealed.max(from));
    let known = history.series(incident.host);
    let mut named: Vec<&str> = Vec::new();
    for alert in &incident.alerts {
        if !alert.series.is_empty() && !named.contains(&alert.series.as_str()) {
            named.push(&alert.series);
        }
    }
    let more = named.len().saturating_sub(SERIES_MAX);
    let series = named.iter().take(SERIES_MAX).filter_map(|name| {
        let sent = known.iter().find(|one| one.to_string() == *name);
        // A disk that died is in no schema of its host any more.
        let series = sent.cloned().or_else(|| history.named(name))?;
        let kept = samples(history, incident.host, &series, (from, to), damaged);
        (sent.is_some() || kept.samples > 0).then_some(kept)
    });
    let series = series.collect();
    let (lines, lines_more) = lines(history, incident, (from, to), damaged);
    FindingEvidence {
        incident: incident.clone(),
        from,
        to,
        series,
        series_more: u32::try_from(more).unwrap_or(u32::MAX),
        lines,
        lines_more,
    }
}

fn samples(
    history: &History,
    host: HostId,
    series: &Series,
    (from, to): (Timestamp, Timestamp),
    damaged: &mut Vec<String>,
) -> SeriesEvidence {
    let read = history.read(host, series, from, to);
    let shown = thin(read.values(series.kind), POINTS_MAX);
    damaged.extend(read.damaged);
    SeriesEvidence {
        series: series.to_string(),
        kind: series.kind,
        points: shown.points,
        peaks: shown.peaks,
        samples: read.raw.len() as u64,
    }
}

/// The last lines before the start of an incident and the first ones after it, and whether there are more.
fn lines(
    history: &History,
    incident: &Incident,
    (from, to): (Timestamp, Timestamp),
    damaged: &mut Vec<String>,
) -> (Vec<LogLine>, bool) {
    let begun = incident.since.clamp(from, to);
    let mut read = |from, to, limit| {
        let host = Some(incident.host);
        let wanted = Wanted {
            host,
            from,
            to,
            limit,
        };
        let found =
            history.events_where(&wanted, |_, event| matches!(event.body, EventBody::Line(_)));
        damaged.extend(found.damaged);
        (found.events, found.more)
    };
    let (mut all, more_before) = read(from, begun, LINES_EACH_MAX);
    let (mut until, mut more_after) = (to, false);
    let mut after = loop {
        let (after, more) = read(begun, until, LINES_READ_MAX);
        let half = until.duration_since(begun) / 2;
        if !more || half < SignedDuration::from_secs(1) {
            more_after |= more;
            break after;
        }
        // History hands out the latest; the first ones are wanted.
        (until, more_after) = (begun.saturating_add(half).unwrap_or(until), true);
    };
    more_after |= after.len() > LINES_EACH_MAX;
    after.truncate(LINES_EACH_MAX);
    all.append(&mut after);
    let shown = all.into_iter().filter_map(|(host, time, event)| {
        let EventBody::Line(line) = event.body else {
            return None;
        };
        let (text, cut_from) = cut(line.text, line.cut_from);
        Some(LogLine {
            time,
            host,
            name: incident.name.clone(),
            severity: line.severity,
            source: line.source,
            text,
            cut_from,
        })
    });
    (shown.collect(), more_before || more_after)
}

/// A line within its bound, and how long it was where it was cut.
fn cut(mut text: String, cut_from: u32) -> (String, u32) {
    if text.len() <= LINE_BYTES_MAX {
        return (text, cut_from);
    }
    let whole = u32::try_from(text.len()).unwrap_or(u32::MAX);
    text.truncate(text.floor_char_boundary(LINE_BYTES_MAX));
    (text, cut_from.max(whole))
}

#[cfg(test)]
mod tests;
