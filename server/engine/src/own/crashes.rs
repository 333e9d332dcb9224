//! A server that does not stay up: each start after a stop that was not clean counts.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::vitals::OFF;
use crate::clock::ms_between;
use crate::config::Measure;
use crate::detect::absence::host_anomaly;
use crate::engine::{Engine, Out};
use crate::input::At;
use crate::words;

const RESTARTING: &str = "server_restarting";

/// Starts are counted over this long, and the alert ends when none came for as long.
pub(crate) const WITHIN_MS: i64 = 3_600_000;

/// Starts that are remembered: no rule may ask for more.
const STARTS_MAX: usize = 1_000;

/// Starts after a stop that was not clean, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Crashes {
    starts: VecDeque<Timestamp>,
}

impl Crashes {
    /// Takes note of one.
    pub(crate) fn count(&mut self, at: At) {
        if self.starts.len() >= STARTS_MAX {
            self.starts.pop_front();
        }
        self.starts.push_back(at.wall);
    }
}

impl Engine {
    /// Judges how often the server was started.
    pub(crate) fn server_restarting(&mut self, at: At, out: &mut Out) {
        let Some(rule) = self.own_rule(Measure::ServerRestarts) else {
            return self.about_server(RESTARTING, None, at, OFF, out);
        };
        let starts = &mut self.state.crashes.starts;
        // One that lies ahead was counted by a clock that was wrong.
        starts.retain(|start| (0..=WITHIN_MS).contains(&ms_between(*start, at.wall)));
        let Some(first) = starts.front().copied() else {
            let over = format!("it stayed up for {}", words::duration(WITHIN_MS));
            return self.about_server(RESTARTING, None, at, &over, out);
        };
        if (starts.len() as f64) < rule.bound || self.state.server_alerts.contains_key(RESTARTING) {
            return;
        }
        let times = words::count(starts.len(), "time");
        let why = format!(
            "started {times} within {}, each time after a stop that was not clean (bound {:.0} within {}): a crash, a kill or a lack of memory; its log and the kernel's say which",
            words::duration(ms_between(first, at.wall)),
            rule.bound,
            words::duration(WITHIN_MS)
        );
        let what = "the server does not stay up".to_owned();
        let found = host_anomaly(RESTARTING, rule.severity, first, at, what, why);
        self.about_server(RESTARTING, Some(found), at, "", out);
    }
}
