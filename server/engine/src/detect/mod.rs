//! The detectors: each looks at one host and says what is wrong and since when; what becomes of it is decided elsewhere.
//!
//! - `measure`: columns and what is reckoned from them; `subjects` for units, sensors and tables; `growth` over ten minutes.
//! - `phrase`: measures in words.
//! - `threshold`: a bound, held for a while, with hysteresis.
//! - `absence`: a host that should talk and does not; `fate`: what is known of it meanwhile.
//! - `twice`: one identity on two machines.
//! - `link`: one host's pings to one target; `reach`: what those of many come to.
//! - `novelty`: log lines that are not as usual; `rate`: what is far over the usual.

pub(crate) mod absence;
pub(crate) mod fate;
pub(crate) mod growth;
pub(crate) mod link;
pub(crate) mod measure;
pub(crate) mod novelty;
pub(crate) mod phrase;
pub(crate) mod rate;
pub(crate) mod reach;
pub(crate) mod subjects;
pub(crate) mod threshold;
pub(crate) mod twice;

use dawnwatch_proto::review::Severity;
use jiff::Timestamp;

/// What a detector found, as it begins to fire.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Anomaly {
    pub(crate) rule: String,
    /// Mount point or the like; empty where it is about the host.
    pub(crate) subject: String,
    /// Prometheus notation; empty where it is about the host.
    pub(crate) series: String,
    pub(crate) severity: Severity,
    pub(crate) since: Timestamp,
    pub(crate) fired: Timestamp,
    pub(crate) observed: f64,
    pub(crate) worst: f64,
    pub(crate) bound: f64,
    /// A few words: `/data 96.2 % full`.
    pub(crate) what: String,
    /// With bound and time: `/data 96.2 % full for 1 m (bound 95 %), 2.1 GiB free of 50.0 GiB`.
    pub(crate) why: String,
    pub(crate) evidence: Vec<(Timestamp, f64)>,
    /// Found in data that came late.
    pub(crate) late: bool,
}
