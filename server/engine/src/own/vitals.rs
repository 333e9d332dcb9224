//! Rules about the server's own numbers: a slow journal, messages that do not leave, a data directory that fills up.

use std::collections::VecDeque;

use dawnwatch_proto::review::Severity;
use serde::{Deserialize, Serialize};

use crate::config::{Measure, Rule};
use crate::detect::absence::{host_anomaly, seconds_as_ms};
use crate::detect::{Anomaly, phrase};
use crate::engine::{Engine, Out};
use crate::input::At;
use crate::vitals::Vitals;
use crate::words;

const JOURNAL_SLOW: &str = "journal_slow";
const OUTBOX_OLD: &str = "outbox_old";
const SERVER_DISK: &str = "server_disk";

/// What is said of an alert whose rule was turned off.
pub(super) const OFF: &str = "the rule is off";

/// Of the free share at which the data directory needs somebody, so much is left when it needs somebody tonight.
const CRITICAL_OF_WARNING: f64 = 0.5;
/// Full within this many days is worth a word today; more is believed only when it is a day beyond.
pub(crate) const FULL_DAYS: f64 = 7.0;
const FULL_DAYS_BACK: f64 = 8.0;
/// Used space is noted this often, so often: two days, in which a nightly job shows as what it is.
const MARK_EVERY_MS: u64 = 3_600_000;
const MARKS_MAX: usize = 48;
/// With fewer hours than this nothing is foretold.
const MARKS_MIN: usize = 6;

const DAY_MS: f64 = 86_400_000.0;

/// What the engine remembers of the server's own numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Strain {
    /// Since when the journal has been slow, or has not been any more: boot time.
    slow_ms: Option<u64>,
    calm_ms: Option<u64>,
    /// Used bytes by boot time, once an hour, oldest first.
    marks: VecDeque<(u64, u64)>,
    /// Size that the marks are of.
    size_bytes: u64,
    /// What it grows by.
    bytes_a_day: Option<f64>,
}

/// When the data directory is full.
#[derive(Debug, Clone, Copy)]
struct Forecast {
    days: f64,
    bytes_a_day: f64,
}

impl Engine {
    /// The server looked at itself.
    pub(crate) fn vitals(&mut self, at: At, vitals: &Vitals, out: &mut Out) {
        self.server_restarting(at, out);
        match self.own_rule(Measure::JournalWait) {
            Some(rule) => self.journal_slow(&rule, at, vitals, out),
            None => self.about_server(JOURNAL_SLOW, None, at, OFF, out),
        }
        match self.own_rule(Measure::OutboxAge) {
            Some(rule) => self.outbox_old(&rule, at, vitals, out),
            None => self.about_server(OUTBOX_OLD, None, at, OFF, out),
        }
        if vitals.size_bytes > 0 {
            self.state.strain.mark(at.boot_ms, vitals);
            match self.own_rule(Measure::DataDirectoryUsed) {
                Some(rule) => self.server_disk(&rule, at, vitals, out),
                None => self.about_server(SERVER_DISK, None, at, OFF, out),
            }
        }
    }

    pub(super) fn own_rule(&self, measure: Measure) -> Option<Rule> {
        let mut rules = self.state.config.rules.iter();
        rules
            .find(|rule| rule.enabled && rule.measure == measure)
            .cloned()
    }

    fn journal_slow(&mut self, rule: &Rule, at: At, vitals: &Vitals, out: &mut Out) {
        let took_ms = vitals.lag_ms.max(vitals.sync_max_us / 1_000);
        let strain = &mut self.state.strain;
        if took_ms <= seconds_as_ms(rule.bound) {
            strain.slow_ms = None;
            let since = *strain.calm_ms.get_or_insert(at.boot_ms);
            if at.boot_ms - since >= u64::from(rule.clear_seconds) * 1_000 {
                self.about_server(JOURNAL_SLOW, None, at, "the journal keeps up again", out);
            }
            return;
        }
        strain.calm_ms = None;
        let since = *strain.slow_ms.get_or_insert(at.boot_ms);
        let held_ms = at.boot_ms - since;
        let hold_ms = u64::from(rule.hold_seconds) * 1_000;
        if held_ms < hold_ms || self.state.server_alerts.contains_key(JOURNAL_SLOW) {
            return;
        }
        let why = format!(
            "the longest wait of the last 10 s was {}, the longest sync {} (bound {} for {}); {} wait: the disk under the data directory is too slow or at fault",
            seconds(vitals.lag_ms),
            seconds(vitals.sync_max_us / 1_000),
            phrase::seconds(rule.bound),
            phrase::seconds(f64::from(rule.hold_seconds)),
            count(vitals.queue_inputs, "input"),
        );
        let what = "journal is slow: what comes in waits for the disk".to_owned();
        let found = own(JOURNAL_SLOW, rule.severity, at, held_ms, what, why);
        self.about_server(JOURNAL_SLOW, Some(found), at, "", out);
    }

    fn outbox_old(&mut self, rule: &Rule, at: At, vitals: &Vitals, out: &mut Out) {
        if vitals.outbox == 0 || vitals.outbox_oldest_ms <= seconds_as_ms(rule.bound) {
            return self.about_server(OUTBOX_OLD, None, at, "nothing waits that long", out);
        }
        if self.state.server_alerts.contains_key(OUTBOX_OLD) {
            return;
        }
        let waited = i64::try_from(vitals.outbox_oldest_ms).unwrap_or(i64::MAX);
        let why = format!(
            "{} not delivered, the oldest for {} (bound {}): look at the channels",
            count(vitals.outbox, "message"),
            words::duration(waited),
            phrase::seconds(rule.bound),
        );
        let what = "messages do not leave the server".to_owned();
        let held_ms = vitals.outbox_oldest_ms;
        let found = own(OUTBOX_OLD, rule.severity, at, held_ms, what, why);
        self.about_server(OUTBOX_OLD, Some(found), at, "", out);
    }

    /// One alert, whichever is worst: two lines about one disk would say no more.
    fn server_disk(&mut self, rule: &Rule, at: At, vitals: &Vitals, out: &mut Out) {
        let known = self.state.server_alerts.get(SERVER_DISK);
        let known = known.and_then(|known| self.state.incidents.alert(*known));
        // Where it fires already it ends a little later than it began.
        let (warns, pages) = known.map_or((false, false), |alert| {
            (true, alert.severity == Severity::Critical)
        });
        let free = vitals.free_bytes as f64 / vitals.size_bytes as f64;
        // More than the bound by this much ends it: free space moves to and fro with every hour's file.
        let back = (rule.bound - rule.clear).max(0.0);
        let (warning, critical) = self::free(rule);
        let below = |bound: f64, fires: bool| free < bound + if fires { back } else { 0.0 };
        let left = || {
            let (free, size) = (vitals.free_bytes as f64, vitals.size_bytes as f64);
            format!("{} free of {}", words::bytes(free), words::bytes(size))
        };
        let (severity, what, why) = if below(critical, pages) {
            let what = format!("data directory less than {} free", words::percent(critical));
            let why = format!(
                "{}; when it is full nothing that agents bring is taken in",
                left()
            );
            (Severity::Critical, what, why)
        } else if below(warning, warns) {
            let what = format!("data directory less than {} free", words::percent(warning));
            (rule.severity, what, left())
        } else if let Some(forecast) = self.state.strain.forecast(vitals.free_bytes, warns) {
            let why = format!("{}; by what it grew by in most of the last hours", left());
            (rule.severity, forecast.words(), why)
        } else {
            let over = "there is room in the data directory";
            return self.about_server(SERVER_DISK, None, at, over, out);
        };
        let found = own(SERVER_DISK, severity, at, 0, what, why);
        self.about_server(SERVER_DISK, Some(found), at, "", out);
    }
}

/// The free shares below which the data directory needs somebody, and needs somebody tonight.
pub(crate) fn free(rule: &Rule) -> (f64, f64) {
    let warning = 1.0 - rule.bound;
    (warning, warning * CRITICAL_OF_WARNING)
}

impl Strain {
    /// Notes used space once an hour, and what it leads to.
    fn mark(&mut self, boot_ms: u64, vitals: &Vitals) {
        let last = self.marks.back();
        if last.is_some_and(|(ms, _)| boot_ms - ms < MARK_EVERY_MS) {
            return;
        }
        // A file system that was grown: what was used before stands, what is left does not matter here.
        if self.size_bytes != vitals.size_bytes {
            self.size_bytes = vitals.size_bytes;
            self.marks.clear();
        }
        if self.marks.len() >= MARKS_MAX {
            self.marks.pop_front();
        }
        let used = vitals.size_bytes.saturating_sub(vitals.free_bytes);
        self.marks.push_back((boot_ms, used));
        self.bytes_a_day = self.growth();
    }

    /// When it is full at its present growth; what fires already ends a day later than it began.
    fn forecast(&self, free_bytes: u64, fires: bool) -> Option<Forecast> {
        let bytes_a_day = self.bytes_a_day?;
        let days = free_bytes as f64 / bytes_a_day;
        let bound = if fires { FULL_DAYS_BACK } else { FULL_DAYS };
        (days <= bound).then_some(Forecast { days, bytes_a_day })
    }

    /// The median of the slopes between any two marks, or of those from hour to hour where that is less: neither one large
    /// file nor a clean-up is growth, and most hours must have some.
    fn growth(&self) -> Option<f64> {
        if self.marks.len() < MARKS_MIN {
            return None;
        }
        let marks: Vec<(u64, u64)> = self.marks.iter().copied().collect();
        let hourly = marks.windows(2).map(|pair| slope(pair[0], pair[1]));
        let hourly = median(hourly.collect());
        let mut any = Vec::with_capacity(marks.len() * marks.len() / 2);
        for (i, from) in marks.iter().enumerate() {
            any.extend(marks[i + 1..].iter().map(|to| slope(*from, *to)));
        }
        let bytes_a_day = median(any).min(hourly);
        (bytes_a_day > 0.0).then_some(bytes_a_day)
    }
}

/// Bytes a day between two marks.
fn slope(from: (u64, u64), to: (u64, u64)) -> f64 {
    (to.1 as f64 - from.1 as f64) / ((to.0 - from.0) as f64 / DAY_MS)
}

/// The lower one of an even number.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) / 2]
}

impl Forecast {
    fn words(self) -> String {
        // Down, for who reads "3 days" counts on them.
        let days = match self.days.floor() {
            days if days < 1.0 => "less than a day".to_owned(),
            days if days < 2.0 => "about 1 day".to_owned(),
            days => format!("about {days:.0} days"),
        };
        let growth = words::bytes(self.bytes_a_day);
        format!("data directory full in {days}: +{growth} a day")
    }
}

fn own(rule: &str, severity: Severity, at: At, held_ms: u64, what: String, why: String) -> Anomaly {
    let held_ms = i64::try_from(held_ms).unwrap_or(0);
    let since = crate::clock::add_ms(at.wall, -held_ms);
    host_anomaly(rule, severity, since, at, what, why)
}

fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1_000.0)
}

fn count(n: u64, noun: &str) -> String {
    words::count(usize::try_from(n).unwrap_or(usize::MAX), noun)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    fn check(used_gb: &[u64], want: Option<&str>) {
        let mut strain = Strain::default();
        for (hour, used) in (0..).zip(used_gb) {
            let vitals = Vitals {
                size_bytes: 1_000 * GB,
                free_bytes: (1_000 - used) * GB,
                ..Vitals::default()
            };
            strain.mark(hour * MARK_EVERY_MS, &vitals);
        }
        let free = (1_000 - used_gb[used_gb.len() - 1]) * GB;
        let words = strain.forecast(free, false).map(Forecast::words);
        assert_eq!(words.as_deref(), want, "{used_gb:?}");
    }

    #[test]
    fn steady_growth_is_foretold() {
        let found = Some("data directory full in about 3 days: +223.5 GiB a day");
        check(&[10, 20, 30, 40, 50, 60], found);
        check(&[10, 20, 30, 40, 50], None);
        check(&[1, 2, 3, 4, 5, 6, 7, 8], None);
        let found = Some("data directory full in less than a day: +2.2 TiB a day");
        check(&[100, 200, 300, 400, 500, 600], found);
    }

    #[test]
    fn one_large_file_and_a_clean_up_are_no_growth() {
        check(&[10, 10, 10, 500, 500, 500, 500], None);
        check(&[900, 100, 90, 80, 70, 60, 50], None);
        let found = Some("data directory full in about 2 days: +223.5 GiB a day");
        check(&[10, 20, 30, 300, 310, 320, 330, 340], found);
    }

    #[test]
    fn the_marks_are_bounded() {
        let mut strain = Strain::default();
        for hour in 0..1_000 {
            let vitals = Vitals {
                size_bytes: GB,
                free_bytes: GB / 2,
                ..Vitals::default()
            };
            strain.mark(hour * MARK_EVERY_MS, &vitals);
        }
        assert_eq!(strain.marks.len(), MARKS_MAX);
    }
}
