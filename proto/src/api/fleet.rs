//! One series of all hosts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{HostId, Kind};

/// What hosts are ranked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FleetBy {
    /// The highest value.
    Max,
    /// The mean.
    Mean,
    /// The lowest value, least first.
    Min,
    /// The last value.
    Last,
    /// The 95th percentile of all samples.
    P95,
}

impl FleetBy {
    /// All of them.
    pub const ALL: [FleetBy; 5] = [
        FleetBy::Max,
        FleetBy::Mean,
        FleetBy::Min,
        FleetBy::Last,
        FleetBy::P95,
    ];

    /// What it is called in questions and answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FleetBy::Max => "max",
            FleetBy::Mean => "mean",
            FleetBy::Min => "min",
            FleetBy::Last => "last",
            FleetBy::P95 => "p95",
        }
    }

    /// The order in words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            FleetBy::Max => "Highest value first",
            FleetBy::Mean => "Highest mean first",
            FleetBy::Min => "Lowest value first",
            FleetBy::Last => "Highest last value first",
            FleetBy::P95 => "Highest 95th percentile first; reads every sample",
        }
    }

    /// What a host is ranked by, greater first; none where that is not known of it.
    #[must_use]
    pub fn rank(self, host: &FleetHost) -> Option<f64> {
        match self {
            FleetBy::Max => Some(host.max),
            FleetBy::Mean => Some(host.mean),
            FleetBy::Min => host.min.map(|min| -min),
            FleetBy::Last => host.last,
            FleetBy::P95 => host.p95,
        }
    }
}

/// What one series came to on every host, in whole hours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fleet {
    /// The series in Prometheus notation.
    pub series: String,
    /// `gauge` or `counter`; of a counter all values are rates a second.
    pub kind: Kind,
    /// Zone to show times in.
    pub zone: String,
    /// The first hour.
    pub from: Timestamp,
    /// The end of the last hour.
    pub to: Timestamp,
    /// What the hosts are sorted by, most first: `max`, `mean`, `last`, `p95`, or `min` with the least first.
    pub by: String,
    /// The hosts, as many as were asked for.
    pub hosts: Vec<FleetHost>,
    /// Hosts that have the series in these hours, shown or not.
    pub hosts_total: u64,
    /// Parts of these hours that could not be read; the server's log names them.
    pub damaged: u64,
}

/// One host of a [`Fleet`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FleetHost {
    /// The host.
    pub host: HostId,
    /// Its name.
    pub name: String,
    /// Samples behind it.
    pub samples: u64,
    /// Lowest value; none of a counter.
    pub min: Option<f64>,
    /// Mean value.
    pub mean: f64,
    /// Highest value.
    pub max: f64,
    /// Last value; none of a counter.
    pub last: Option<f64>,
    /// The value that 95 of 100 samples stay at or below; where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95: Option<f64>,
}
