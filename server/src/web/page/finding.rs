//! A row of findings, the same in review, open list and incidents: id, what, how long, cause, who has it, evidence, reason.

use askama::Template;
use askama::filters::HtmlSafe;
use dawnwatch_proto::api::Incident;
use dawnwatch_proto::review::text::{RowPhrases, row_phrases, severity};
use dawnwatch_proto::review::{Row, Severity, Verdict};
use dawnwatch_proto::untrusted::term;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Rows of a block on one page before it says how many more there are: what a person reads.
pub(super) const ROWS_SHOWN: usize = 40;

/// Rows of a block that was asked for in full: a browser still draws it at once.
pub(super) const ROWS_MAX: usize = 1_000;

/// Lines of evidence below a row of an incident that is open; its page has them all.
const EVIDENCE_SHOWN: usize = 3;

/// One row.
#[derive(Debug, Template)]
#[template(path = "finding.html")]
pub(super) struct Finding {
    href: String,
    tone: &'static str,
    severity: &'static str,
    state: Option<String>,
    words: RowPhrases,
}

impl HtmlSafe for Finding {}

impl Finding {
    /// A row of a review that reaches to `until`.
    pub(super) fn of_row(row: &Row, until: Timestamp, zone: &TimeZone) -> Finding {
        let words = row_phrases(row, until, zone);
        Finding {
            href: href(&row.id),
            tone: tone(row.severity),
            severity: severity(row.severity),
            state: (!row.state.is_empty()).then(|| term(&row.state)),
            words,
        }
    }

    /// An incident as it stands at a moment.
    pub(super) fn of_incident(incident: &Incident, now: Timestamp, zone: &TimeZone) -> Finding {
        let row = Row {
            id: incident.id.clone(),
            subject: incident.name.clone(),
            service: incident.service.clone(),
            what: incident.what.clone(),
            severity: incident.severity,
            since: incident.since,
            turned: incident.turned.clone(),
            until: incident.until,
            cause: incident.cause.clone(),
            owner: incident.owner.clone(),
            taken: incident.taken.clone(),
            evidence: incident
                .alerts
                .iter()
                .take(EVIDENCE_SHOWN)
                .map(|alert| alert.why.clone())
                .collect(),
            rank: incident.why.join("; "),
            score: 0,
            state: incident.state.clone(),
        };
        Finding::of_row(&row, now, zone)
    }
}

/// The page of a finding.
pub(super) fn href(id: &str) -> String {
    format!("/incidents/{}", super::encoded(id))
}

/// The class that gives a severity its colour; the word stands beside it.
pub(super) fn tone(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "bad",
        Severity::Warning => "warn",
        Severity::Info => "calm",
    }
}

/// The class that gives a verdict its colour.
pub(super) fn verdict_tone(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Quiet => "good",
        Verdict::Attention => "warn",
        Verdict::Critical => "bad",
        Verdict::Blind => "blind",
    }
}

/// A block of rows under a heading.
#[derive(Debug, Template)]
#[template(path = "block.html")]
pub(super) struct Block {
    key: &'static str,
    title: &'static str,
    count: usize,
    findings: Vec<Finding>,
    more: usize,
    more_href: String,
    folded: Option<String>,
}

impl HtmlSafe for Block {}

impl Block {
    /// Shows at most so many of `count` rows; the rest is counted and linked.
    pub(super) fn new(
        (key, title): (&'static str, &'static str),
        findings: Vec<Finding>,
        count: usize,
        more_href: String,
    ) -> Block {
        Block {
            key,
            title,
            count,
            more: count.saturating_sub(findings.len()),
            findings,
            more_href,
            folded: None,
        }
    }

    /// Says what is not listed on purpose.
    pub(super) fn folded(mut self, text: Option<String>) -> Block {
        self.folded = text;
        self
    }

    /// The list goes on elsewhere: a pager below says so.
    pub(super) fn paged(mut self) -> Block {
        self.more = 0;
        self
    }
}
