//! An alert: an anomaly with a life. It begins when a condition has held for long enough and ends when it has been clear for
//! long enough; one that fires again while its incident is open goes on instead of being born twice.

use dawnwatch_proto::api;
use dawnwatch_proto::review::Severity;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::detect::Anomaly;
use crate::detect::threshold::EVIDENCE_MAX;

/// One alert of an incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Alert {
    pub(crate) rule: String,
    pub(crate) subject: String,
    pub(crate) series: String,
    pub(crate) severity: Severity,
    pub(crate) since: Timestamp,
    pub(crate) fired: Timestamp,
    pub(crate) until: Option<Timestamp>,
    pub(crate) what: String,
    pub(crate) why: String,
    pub(crate) observed: f64,
    pub(crate) worst: f64,
    pub(crate) bound: f64,
    pub(crate) evidence: Vec<(Timestamp, f64)>,
    pub(crate) late: bool,
    /// Found in late data and not seen to hold at present: it wakes nobody.
    pub(crate) past: bool,
    /// How often it has begun to fire.
    pub(crate) times: u32,
}

impl Alert {
    pub(crate) fn new(anomaly: Anomaly) -> Alert {
        Alert {
            rule: anomaly.rule,
            subject: anomaly.subject,
            series: anomaly.series,
            severity: anomaly.severity,
            since: anomaly.since,
            fired: anomaly.fired,
            until: None,
            what: anomaly.what,
            why: anomaly.why,
            observed: anomaly.observed,
            worst: anomaly.worst,
            bound: anomaly.bound,
            evidence: anomaly.evidence,
            late: anomaly.late,
            past: anomaly.late,
            times: 1,
        }
    }

    pub(crate) fn is_firing(&self) -> bool {
        self.until.is_none()
    }

    /// Fires at present: what a page may be about.
    pub(crate) fn is_present(&self) -> bool {
        self.is_firing() && !self.past
    }

    /// The same condition fires again.
    pub(crate) fn again(&mut self, anomaly: Anomaly) {
        let first = self.since.min(anomaly.since);
        let mut evidence = std::mem::take(&mut self.evidence);
        evidence.extend(anomaly.evidence.iter().copied());
        evidence.truncate(EVIDENCE_MAX);
        let (worst, times, late) = (self.worst, self.times, self.late);
        *self = Alert::new(anomaly);
        self.since = first;
        self.worst = self.worst.max(worst);
        self.times = times.saturating_add(1);
        self.late = self.late && late;
        self.evidence = evidence;
    }

    /// A further sample while it fires.
    pub(crate) fn observe(&mut self, at: Timestamp, value: f64) {
        self.observed = value;
        self.worst = self.worst.max(value);
        if self.evidence.len() < EVIDENCE_MAX {
            self.evidence.push((at, value));
        }
    }

    /// What an API client reads.
    pub(crate) fn shown(&self) -> api::Alert {
        let state = if self.is_firing() {
            "firing"
        } else {
            "resolved"
        };
        let mut why = self.why.clone();
        if self.times > 1 {
            why.push_str(&format!("; {} times in all", self.times));
        }
        api::Alert {
            rule: self.rule.clone(),
            series: self.series.clone(),
            state: state.to_owned(),
            severity: self.severity,
            since: self.since,
            fired: Some(self.fired),
            until: self.until,
            why,
            observed: self.observed,
            worst: self.worst,
            bound: self.bound,
            evidence: self.evidence.clone(),
            late: self.late,
        }
    }
}
