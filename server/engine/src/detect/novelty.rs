//! Log lines that are not as usual: a kind that nobody wrote in 90 days, one that comes far more often than is usual for the hour,
//! one that got worse.
//!
//! | | error or worse | warning | milder |
//! |---|---|---|---|
//! | new to the fleet | finding | finding, once learned | folded, once learned |
//! | new to the host, others have had it for a day | folded, once learned | folded, once learned | nothing |
//! | far over the usual | finding | finding, once learned | folded, once learned |
//! | was notice or milder, comes as an error | finding | | |
//!
//! Learning lasts for the first 14 nights of the fleet, and of a host; rates and severities also want to have seen a kind for a day.
//! What a backlog brings is no burst. A kind that an agent read in the old journal is known. A finding ends when its lines did
//! not come for six hours (a day where one was critical or worse): what was said at ten in the evening still stands at dawn.

use dawnwatch_proto::HostId;
use dawnwatch_proto::event::{Line, LogCounts, Template, TemplateCount};
use dawnwatch_proto::review::Severity;
use jiff::{SignedDuration, Timestamp};

use crate::clock::ms_between;
use crate::config::{Measure, Rule as Set};
use crate::detect::rate::Judged;
use crate::engine::{Engine, Out};
use crate::input::At;
use crate::logged::Finding;
use crate::logs::{KNOWN_MS, Met, Minute, Rule};
use crate::night::Nights;

/// Nights of learning.
pub(crate) const LEARNING_NIGHTS: u32 = 14;
/// Severities of syslog that say that something is broken: error and worse.
pub(crate) const ERROR: u8 = 3;
/// Severities that may need somebody: warning and worse.
const WARNING: u8 = 4;
/// What others have had for so long is no news of the fleet any more.
const NEWS_MS: i64 = 86_400_000;
/// A kind is known by its rate and severity after so long: each hour of a day was seen.
const USUAL_MS: i64 = 86_400_000;
/// Longest span of counts that is taken as one minute; a longer one is spread.
const SPAN_MS_MAX: u32 = 90_000;
const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;

/// Whose event it is, when it was taken in, when it was, and whether that is long ago.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Of {
    pub(crate) id: HostId,
    pub(crate) at: At,
    pub(crate) stamp: Timestamp,
    pub(crate) late: bool,
}

impl Engine {
    /// A host met a shape of log lines, or says one anew.
    pub(crate) fn template(&mut self, of: Of, template: &Template, out: &mut Out) {
        let logs = &mut self.state.logs;
        logs.since.get_or_insert(of.stamp);
        let Met::New { key, elsewhere } = logs.meet(of.id, of.stamp, template) else {
            return;
        };
        if template.old {
            return;
        }
        let news = elsewhere.is_none_or(|first| ms_between(first, of.stamp) < NEWS_MS);
        let Some(rule) = self.log_rule(Measure::NewLogLine) else {
            return;
        };
        let learning = self.learning(of);
        let mildest = mildest_of(&rule);
        let severity = match (news, template.severity) {
            (true, ..=ERROR) => rule.severity,
            (_, _) if learning => return,
            (true, at) if at <= mildest => rule.severity,
            (true, _) => Severity::Info,
            (false, at) if at <= mildest => Severity::Info,
            (false, _) => return,
        };
        let tail = if news {
            self.never_seen(of.stamp)
        } else {
            "new on this host; others have it".to_owned()
        };
        let finding = Finding {
            of,
            rule: Rule::New,
            name: rule.name,
            key,
            severity,
            syslog: template.severity,
            lines: 0,
            bound: 0.0,
            tail,
        };
        self.logged(finding, out);
    }

    /// How often lines of each shape came.
    pub(crate) fn log_counts(&mut self, of: Of, counts: &LogCounts, out: &mut Out) {
        let logs = &mut self.state.logs;
        logs.since.get_or_insert(of.stamp);
        let host = logs.host(of.id, of.stamp);
        host.cut = host.cut.saturating_add(counts.lines_cut);
        host.skipped = host.skipped.saturating_add(counts.lines_skipped);
        // The span that ends with a minute belongs to it.
        let number = of
            .stamp
            .as_millisecond()
            .saturating_sub(1)
            .div_euclid(MINUTE_MS);
        if number > host.minute.number {
            let fresh = Minute {
                number,
                ..Minute::default()
            };
            let minute = std::mem::replace(&mut host.minute, fresh);
            self.minute(of, minute, out);
        }
        for count in &counts.counts {
            let Some(key) = self.state.logs.key_of(of.id, count.template) else {
                continue;
            };
            self.counted(of, key, *count, out);
        }
        let minute = &mut self.state.logs.host(of.id, of.stamp).minute;
        minute.backlog |= counts.backlog > 0;
        if counts.span_ms > SPAN_MS_MAX {
            minute.spread(counts.span_ms);
        }
    }

    fn counted(&mut self, of: Of, key: u32, count: TemplateCount, out: &mut Out) {
        let Of { id, stamp, .. } = of;
        let logs = &mut self.state.logs;
        let shape = logs.touch(key);
        shape.lines = shape.lines.saturating_add(u64::from(count.count));
        shape.last = shape.last.max(stamp);
        shape.severity = shape.severity.min(count.severity);
        let host = logs.host(id, stamp);
        let lines = host.minute.counts.entry(key).or_default();
        *lines = lines.saturating_add(count.count);
        let Some(seen) = host.seen.get_mut(&key) else {
            return;
        };
        seen.last = seen.last.max(stamp);
        let usual = ms_between(seen.first, stamp) >= USUAL_MS;
        let was = seen.severity;
        seen.severity = was.min(count.severity);
        if usual && count.severity <= ERROR && was > WARNING {
            self.got_worse(of, key, count.severity, was, out);
        }
        self.count_up(of, key, count.count, out);
    }

    fn got_worse(&mut self, of: Of, key: u32, now: u8, was: u8, out: &mut Out) {
        let Some(rule) = self.log_rule(Measure::LogSeverity) else {
            return;
        };
        let word = dawnwatch_proto::api::severity_word;
        let finding = Finding {
            of,
            rule: Rule::Severity,
            name: rule.name,
            key,
            severity: rule.severity,
            syslog: now,
            lines: 0,
            bound: 0.0,
            tail: format!("was {}, is {}", word(was), word(now)),
        };
        self.logged(finding, out);
    }

    /// A minute of a host is over: what of it was far over the usual.
    fn minute(&mut self, of: Of, minute: Minute, out: &mut Out) {
        let Some(rule) = self.log_rule(Measure::LogRate) else {
            return;
        };
        let hold = u8::try_from(rule.hold_seconds.div_ceil(60).max(1)).unwrap_or(u8::MAX);
        let mut bursts = Vec::new();
        let host = self.state.logs.host(of.id, of.stamp);
        for (key, lines) in minute.counts {
            let Some(seen) = host.seen.get_mut(&key) else {
                continue;
            };
            if minute.backlog {
                continue;
            }
            if ms_between(seen.first, of.stamp) < USUAL_MS {
                seen.usual.learn(minute.number, lines);
                continue;
            }
            let judged = seen.usual.judge(minute.number, lines, rule.bound, hold);
            if let Judged::Burst { bound } = judged {
                bursts.push((key, lines, bound));
            }
        }
        for (key, lines, bound) in bursts {
            self.burst(of, &rule, (key, lines, bound), out);
        }
    }

    fn burst(&mut self, of: Of, rule: &Set, burst: (u32, u32, u32), out: &mut Out) {
        let (key, lines, bound) = burst;
        // A kind that is new has a finding, and its lines are counted there.
        if self.is_told(Rule::New, key) {
            return;
        }
        let syslog = self.state.logs.touch(key).severity;
        let severity = match (syslog, self.learning(of)) {
            (..=ERROR, _) | (..=WARNING, false) => rule.severity,
            (_, true) => return,
            (_, false) => Severity::Info,
        };
        let finding = Finding {
            of,
            rule: Rule::Rate,
            name: rule.name.clone(),
            key,
            severity,
            syslog,
            lines,
            bound: f64::from(bound),
            tail: format!(
                "usual for the hour are at most {}",
                f64::from(bound) / rule.bound
            ),
        };
        self.logged(finding, out);
    }

    /// A whole line: the evidence of what goes on around it.
    pub(crate) fn log_line(&mut self, of: Of, line: &Line) {
        self.state.logs.since.get_or_insert(of.stamp);
        let kept = self.state.logs.line(of.id, of.stamp, line);
        self.attach(of.id, kept);
    }

    /// The rule about log lines that measures this, where it is on.
    fn log_rule(&self, measure: Measure) -> Option<Set> {
        let mut rules = self.state.config.rules.iter();
        rules.find(|r| r.enabled && r.measure == measure).cloned()
    }

    /// Whether too little is known of the fleet, or of the host, to call a warning new.
    fn learning(&self, of: Of) -> bool {
        let fleet = self.state.server.first.unwrap_or(of.at.wall);
        let host = self
            .state
            .logs
            .hosts
            .get(&of.id)
            .map_or(of.stamp, |h| h.since);
        nights_since(&self.nights, fleet.max(host), of.at.wall) <= LEARNING_NIGHTS
    }

    /// How long nobody saw a kind, in words.
    fn never_seen(&self, at: Timestamp) -> String {
        let since = self.state.logs.since.unwrap_or(at);
        match ms_between(since, at).clamp(0, KNOWN_MS) / DAY_MS {
            0 => "never seen before".to_owned(),
            1 => "never seen in a day".to_owned(),
            days => format!("never seen in {days} days"),
        }
    }
}

/// Nights that were not over yet at a moment and have begun by another, at most one more than are learned from.
pub(crate) fn nights_since(nights: &Nights, from: Timestamp, until: Timestamp) -> u32 {
    let mut at = until;
    for count in 0..=LEARNING_NIGHTS {
        let night = nights.last(at);
        let before = night.start.checked_sub(SignedDuration::from_millis(1));
        let (true, Ok(before)) = (night.end > from, before) else {
            return count;
        };
        at = before;
    }
    LEARNING_NIGHTS + 1
}

/// The mildest severity that counts, as a word.
pub(crate) fn mildest(rule: &Set) -> &'static str {
    dawnwatch_proto::api::severity_word(mildest_of(rule))
}

fn mildest_of(rule: &Set) -> u8 {
    (0..=WARNING)
        .rev()
        .find(|severity| f64::from(*severity) <= rule.bound)
        .unwrap_or(0)
}

impl Minute {
    /// The counts of a longer span, as those of one of its minutes.
    fn spread(&mut self, span_ms: u32) {
        let minutes = (span_ms / 60_000).max(1);
        for lines in self.counts.values_mut() {
            *lines = lines.div_ceil(minutes);
        }
    }
}
