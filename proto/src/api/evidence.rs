//! What a sealed night keeps of its findings, so that it can be read when the raw history is gone.
//!
//! All text in here was written by others: `untrusted` or a template engine's escaping stands between it and any reader.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Incident, LogLine};

/// The format of a night's evidence; readers accept this level and lower ones.
pub const EVIDENCE_FORMAT: u32 = 1;

/// The evidence of one sealed night.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// [`EVIDENCE_FORMAT`].
    pub format: u32,
    /// `N-2026-10-05`.
    pub night: String,
    /// IANA name of the zone to show times in.
    pub zone: String,
    /// When it was copied: at sealing. Nothing after it is in here.
    pub sealed: Timestamp,
    /// Findings in the order of the review: worst first.
    pub findings: Vec<FindingEvidence>,
    /// Findings of the review whose samples and lines are not in here, over the bounds.
    pub left_out: u32,
    /// What could not be read of the history, in words.
    pub damaged: Vec<String>,
}

/// What is kept of one finding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FindingEvidence {
    /// The finding as it stood at sealing.
    pub incident: Incident,
    /// First moment of what is copied.
    pub from: Timestamp,
    /// End of what is copied.
    pub to: Timestamp,
    /// Samples of the series of its alerts, in the order of the alerts.
    pub series: Vec<SeriesEvidence>,
    /// Series of its alerts that are not in here, over the bounds.
    pub series_more: u32,
    /// Whole lines of its host: the last ones before its start and the first ones after it, oldest first.
    pub lines: Vec<LogLine>,
    /// There were more lines than these.
    pub lines_more: bool,
}

/// The samples of one series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesEvidence {
    /// The series in Prometheus notation.
    pub series: String,
    /// `gauge` or `counter`; a counter's points are its rate a second.
    pub kind: crate::Kind,
    /// Time and value, thinned to means; none where samples are missing.
    pub points: Vec<(Timestamp, Option<f64>)>,
    /// The highest value behind each point; empty where nothing was thinned.
    pub peaks: Vec<Option<f64>>,
    /// How many raw samples stand behind the points.
    pub samples: u64,
}
