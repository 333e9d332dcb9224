//! One series of all hosts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{HostId, Kind};

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
    #[serde(default)]
    pub p95: Option<f64>,
}
