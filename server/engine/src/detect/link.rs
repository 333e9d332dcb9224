//! One way in the network: what one host's pings to one target say, tick by tick.
//!
//! - Down is what the agent says: three probes in a row without an answer, of a target that answered before. Who never
//!   answered is no outage: what that means depends on what it is.
//! - Loss is judged over two minutes of probes, against the rule's bound and against what this way usually loses: a wireless
//!   link that drops its share every day is no news. Probes of an outage count as outage, not as loss.

use std::collections::{BTreeMap, VecDeque};

use dawnwatch_proto::probe::{self, Method, Role, TARGETS_MAX};
use dawnwatch_proto::{SchemaId, Series};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::Rule;
use crate::detect::measure::{Column, Rows};
use crate::detect::threshold::{EVIDENCE_MAX, Edge, Phase, Sample};
use crate::host::Host;
use crate::incident::AlertRef;

/// Ticks that a loss is judged over: two minutes, sixty probes.
const WINDOW_TICKS: usize = 12;
/// With fewer probes than this in the window a share says nothing.
const WINDOW_PROBES_MIN: u64 = 20;
/// Mean round trips kept to draw: five minutes.
const RECENT_MAX: usize = 30;
/// Ticks of the window that must have lost something: a burst of a moment is no loss.
const LOSING_TICKS_MIN: usize = 3;
/// What is usual is learned over a day of ticks.
const USUAL_TICKS: f64 = 8_640.0;
/// No more than this share is learned as usual: what loses more is broken, not used to it, and a fault must not hide the next.
const LEARNED_MAX: f64 = 0.10;
/// So many deviations above the usual loss is news.
const USUAL_DEVIATIONS: f64 = 6.0;
/// A way that usually loses more than this has three losses in a row by chance: a second tick must agree.
const STEADY_LOSS_MAX: f64 = 0.01;
/// A way that nobody has reported for this long is forgotten.
const FORGOTTEN_MS: u64 = 3_600_000;

/// The columns of one target.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Columns {
    success: Option<Column>,
    min: Option<Column>,
    avg: Option<Column>,
    max: Option<Column>,
    jitter: Option<Column>,
    sent: Option<Column>,
    lost: Option<Column>,
}

/// The columns of all pings of a schema.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Pings {
    pub(crate) targets: BTreeMap<(Role, String), Columns>,
    /// How IPv4 and IPv6 are asked.
    methods: [Option<Column>; 2],
}

/// What one host's pings to one target say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Link {
    /// It answered at least once.
    pub(crate) answered: bool,
    /// The latest report says that three probes in a row had no answer.
    pub(crate) failing: bool,
    pub(crate) state: State,
    pub(crate) since: Timestamp,
    pub(crate) since_ms: u64,
    /// The latest report: boot time of the server, and its stamp.
    pub(crate) seen_ms: u64,
    pub(crate) seen: Timestamp,
    /// Ticks in a row that said down.
    down_ticks: u32,
    /// Sent and lost of the last ticks without an outage.
    window: VecDeque<(u64, u64)>,
    /// Mean share lost, and mean of its square.
    usual: (f64, f64),
    pub(crate) loss: Option<Loss>,
    phase: Phase,
    pub(crate) rtt: Option<(f64, f64, f64)>,
    pub(crate) jitter: Option<f64>,
    /// Mean round trip while it answered last.
    pub(crate) rtt_before: Option<f64>,
    pub(crate) recent: VecDeque<Option<f64>>,
    /// Probes sent and lost since it is down, or since it was first asked in vain.
    pub(crate) outage: (u64, u64),
}

/// Whether answers come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    /// Nothing can be said.
    Unknown,
    /// Answers come.
    Up,
    /// Answers came, and do not any more.
    Down,
    /// It was asked, and never answered.
    Never,
}

/// A loss that is news.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Loss {
    pub(crate) since: Timestamp,
    pub(crate) share: f64,
    pub(crate) worst: f64,
    pub(crate) evidence: Vec<(Timestamp, f64)>,
}

/// One report of a target.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Report {
    pub(crate) success: Option<bool>,
    /// Probes since the report before, and how many of them were lost.
    pub(crate) probes: Option<(u64, u64)>,
    pub(crate) rtt: Option<(f64, f64, f64)>,
    pub(crate) jitter: Option<f64>,
}

/// When a report came: its stamp, and the server's boot time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct When {
    pub(crate) stamp: Timestamp,
    pub(crate) boot_ms: u64,
}

impl Pings {
    /// Takes a column if it is of a ping. Returns whether it was.
    pub(crate) fn take(&mut self, series: &Series, column: Column) -> bool {
        if series.name == probe::METHOD {
            let family = usize::from(series.get("family") == Some("ipv6"));
            self.methods[family] = Some(column);
            return true;
        }
        let (Some(target), Some(role)) =
            (series.get("target"), series.get("role").and_then(Role::of))
        else {
            return false;
        };
        let key = (role, target.to_owned());
        if self.targets.len() >= TARGETS_MAX && !self.targets.contains_key(&key) {
            return false;
        }
        let columns = self.targets.entry(key).or_default();
        let slot = match series.name.as_str() {
            probe::SUCCESS => &mut columns.success,
            probe::RTT_MIN => &mut columns.min,
            probe::RTT_AVG => &mut columns.avg,
            probe::RTT_MAX => &mut columns.max,
            probe::JITTER => &mut columns.jitter,
            probe::SENT => &mut columns.sent,
            probe::LOST => &mut columns.lost,
            _ => return false,
        };
        *slot = Some(column);
        true
    }

    /// How pings go out, in words; empty where the host does not say.
    pub(crate) fn method(&self, row: &[i64], v6: bool) -> String {
        let value = self.methods[usize::from(v6)].and_then(|column| column.read(row));
        let number = value.map(|value| {
            #[allow(clippy::cast_possible_truncation, reason = "a small whole number")]
            let number = value as i64;
            number
        });
        let method = number.and_then(Method::of);
        method.map_or(String::new(), |method| method.word().to_owned())
    }
}

impl Columns {
    /// What a row says of the target.
    pub(crate) fn report(&self, rows: Rows<'_>) -> Report {
        let read = |column: Option<Column>| column.and_then(|c| c.read(rows.row));
        let grown = |column: Option<Column>| column.and_then(|c| c.growth(rows));
        Report {
            success: read(self.success).map(|value| value > 0.5),
            probes: grown(self.sent).zip(grown(self.lost)).map(|(sent, lost)| {
                let (sent, lost) = (whole(sent), whole(lost));
                (sent, lost.min(sent))
            }),
            rtt: match (read(self.min), read(self.avg), read(self.max)) {
                (Some(min), Some(avg), Some(max)) => Some((min, avg, max)),
                _ => None,
            },
            jitter: read(self.jitter),
        }
    }
}

impl Host {
    /// Takes the pings of a tick, before the tick itself is judged. Returns whether there were any.
    pub(crate) fn pinged(
        &mut self,
        when: When,
        tick: (SchemaId, &[i64]),
        rule: Option<&Rule>,
    ) -> bool {
        let (schema, row) = tick;
        let Some(plan) = self.plans.get(&schema).filter(|p| p.width == row.len()) else {
            return false;
        };
        if plan.pings.targets.is_empty() && self.links.is_empty() {
            return false;
        }
        let rows = self.rows(schema, row, when.stamp);
        let reports: Vec<_> = plan
            .pings
            .targets
            .iter()
            .map(|(key, columns)| (key, columns.report(rows)))
            .collect();
        for (key, report) in reports {
            match self.links.get_mut(key) {
                Some(link) => link.take(when, report, rule),
                None => {
                    let mut link = Link::new(when);
                    link.take(when, report, rule);
                    self.links.insert(key.clone(), link);
                }
            }
        }
        self.links
            .retain(|_, link| when.boot_ms.saturating_sub(link.seen_ms) < FORGOTTEN_MS);
        true
    }
}

impl Link {
    pub(crate) fn new(when: When) -> Link {
        Link {
            answered: false,
            failing: false,
            state: State::Unknown,
            since: when.stamp,
            since_ms: when.boot_ms,
            seen_ms: when.boot_ms,
            seen: when.stamp,
            down_ticks: 0,
            window: VecDeque::new(),
            usual: (0.0, 0.0),
            loss: None,
            phase: Phase::Clear,
            rtt: None,
            jitter: None,
            rtt_before: None,
            recent: VecDeque::new(),
            outage: (0, 0),
        }
    }

    /// Takes in a report; the rule says what loss is news, none where it is switched off.
    pub(crate) fn take(&mut self, when: When, report: Report, rule: Option<&Rule>) {
        (self.seen_ms, self.seen) = (when.boot_ms, when.stamp);
        (self.rtt, self.jitter) = (report.rtt, report.jitter);
        if self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(report.rtt.map(|(_, avg, _)| avg));
        self.answered |= report.success == Some(true);
        self.failing = report.success == Some(false);
        if let Some((_, avg, _)) = report.rtt {
            self.rtt_before = Some(avg);
        }
        self.turn(when, report);
        match report.probes {
            Some(probes) if self.state == State::Up && report.success == Some(true) => {
                self.lose(when, probes, rule);
            }
            Some((sent, lost)) if matches!(self.state, State::Down | State::Never) => {
                let (all, gone) = self.outage;
                self.outage = (all.saturating_add(sent), gone.saturating_add(lost));
            }
            Some(_) | None => {}
        }
    }

    /// Up, down, never answered or unknown.
    fn turn(&mut self, when: When, report: Report) {
        let steady = self.usual.0 < STEADY_LOSS_MAX;
        self.down_ticks = match report.success {
            Some(false) => self.down_ticks.saturating_add(1),
            Some(true) | None => 0,
        };
        let state = match report.success {
            None => State::Unknown,
            Some(true) => State::Up,
            Some(false) if !self.answered => State::Never,
            Some(false) if steady || self.down_ticks > 1 => State::Down,
            Some(false) => self.state,
        };
        if state != self.state {
            self.state = state;
            (self.since, self.since_ms) = (when.stamp, when.boot_ms);
            self.outage = (0, 0);
        }
    }

    fn lose(&mut self, when: When, probes: (u64, u64), rule: Option<&Rule>) {
        if self.window.len() >= WINDOW_TICKS {
            self.window.pop_front();
        }
        self.window.push_back(probes);
        let share = self.share();
        let bound = self.bound(rule);
        let learned = share.min(LEARNED_MAX);
        let (mean, square) = &mut self.usual;
        *mean += (learned - *mean) / USUAL_TICKS;
        *square += (learned * learned - *square) / USUAL_TICKS;
        let (Some(rule), Some(bound)) = (rule, bound) else {
            (self.loss, self.phase) = (None, Phase::Clear);
            return;
        };
        if share < rule.bound && self.phase == Phase::Clear {
            return;
        }
        let own = Rule {
            bound,
            clear: rule.clear.max(bound / 2.0).min(bound),
            ..rule.clone()
        };
        let sample = Sample {
            at: when.stamp,
            clock_ms: when.stamp.as_millisecond(),
            value: share,
        };
        match self.phase.take(&own, sample) {
            Edge::Fire(pending) => {
                self.loss = Some(Loss {
                    since: pending.since,
                    share,
                    worst: pending.worst,
                    evidence: pending.evidence,
                });
                let firing = crate::detect::threshold::Firing::new(NO_ALERT, sample.clock_ms);
                self.phase = Phase::Firing(firing);
            }
            Edge::Clear(..) => self.loss = None,
            Edge::Observe(_) => {
                if let Some(loss) = &mut self.loss {
                    loss.share = share;
                    loss.worst = loss.worst.max(share);
                    if loss.evidence.len() < EVIDENCE_MAX {
                        loss.evidence.push((when.stamp, share));
                    }
                }
            }
            Edge::None => {}
        }
    }

    /// What share lost is news.
    fn bound(&self, rule: Option<&Rule>) -> Option<f64> {
        let (mean, square) = self.usual;
        let deviation = libm::sqrt((square - mean * mean).max(0.0));
        Some(
            rule?
                .bound
                .max(mean + USUAL_DEVIATIONS * deviation)
                .min(1.0),
        )
    }

    /// Share lost within the window; none of too few.
    fn share(&self) -> f64 {
        let (sent, lost) = self.counts();
        let losing = self.window.iter().filter(|(_, lost)| *lost > 0).count();
        if sent < WINDOW_PROBES_MIN || (self.loss.is_none() && losing < LOSING_TICKS_MIN) {
            return 0.0;
        }
        ratio(lost, sent)
    }

    /// Probes of the window, and how many of them were lost.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let sum = |(sent, lost): (u64, u64), (s, l): &(u64, u64)| {
            (sent.saturating_add(*s), lost.saturating_add(*l))
        };
        self.window.iter().fold((0, 0), sum)
    }
}

/// The phase of a loss is about no alert of its own: that belongs to the target.
const NO_ALERT: AlertRef = AlertRef {
    incident: 0,
    index: 0,
};

#[allow(clippy::cast_precision_loss, reason = "a share for people")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "growth of a counter: whole, and not below zero"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests;
