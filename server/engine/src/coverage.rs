//! What was truly watched. Silence is never good news, so time counts only where something says that it was watched.
//!
//! - [`Watched`] keeps spans of time; the engine adds one tick at a time.
//! - [`reckon`] counts a window as PRODUCT.md does: from joining on, a host that said goodbye was watched (and down),
//!   a retired one is out, and nobody was watched while the server itself was down.
//!
//! Caveat: a silent host counts as not watched, whatever the cause, until more than one observer can vouch for it.

use std::collections::BTreeMap;

use dawnwatch_proto::HostId;
use dawnwatch_proto::review::{Coverage, Importance, Unwatched};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Most spans kept a host: one that comes and goes every minute for 68 hours, a long weekend. Beyond it the oldest is
/// forgotten, and what is forgotten is not watched.
pub const SPANS_MAX: usize = 4096;

/// A hole at the end of the window that is no hole yet: the next tick may be on its way, and silence begins after it.
pub const TAIL_MS: i64 = 30_000;

/// Below this share of the fleet's time a night is BLIND.
pub const RATIO_MIN: f64 = 0.98;

/// An important host that went unwatched for longer makes the night BLIND.
pub const IMPORTANT_SECONDS_MAX: u64 = 15 * 60;

/// Shorter holes count in the ratio, but the host is not listed: a restarted agent is no news.
pub const LISTED_SECONDS_MIN: u64 = 60;

/// Smaller jumps of the server's clock are not told in a review: time servers make them.
const JUMP_TOLD_MS: i64 = 60_000;

/// Spans of time, half-open, apart from each other. Milliseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    spans: BTreeMap<i64, i64>,
}

impl Watched {
    /// Adds a span. One that is empty or runs backwards adds nothing.
    pub fn add(&mut self, from: Timestamp, to: Timestamp) {
        self.insert(from.as_millisecond(), to.as_millisecond());
    }

    /// Adds what a tick vouches for: the interval before it. Holes of up to half an interval beside it are closed, so
    /// that jitter leaves none.
    pub fn tick(&mut self, at: Timestamp, interval_ms: u32) {
        let at = at.as_millisecond();
        let interval = i64::from(interval_ms);
        let mut from = at.saturating_sub(interval);
        // The steady path: the span that grows is the last one.
        if let Some(mut last) = self.spans.last_entry()
            && *last.key() <= from
            && *last.get() <= at
            && from.saturating_sub(*last.get()) <= interval / 2
        {
            *last.get_mut() = at;
            return;
        }
        if let Some((_, end)) = self.spans.range(..=from).next_back()
            && from.saturating_sub(*end) <= interval / 2
        {
            from = from.min(*end);
        }
        let mut to = at;
        if let Some((start, _)) = self.spans.range(at..).next()
            && start.saturating_sub(at) <= interval / 2
        {
            to = *start;
        }
        self.insert(from, to);
    }

    /// Adds all that is in another.
    pub fn join(&mut self, other: &Watched) {
        for (from, to) in &other.spans {
            self.insert(*from, *to);
        }
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// End of the last span.
    #[must_use]
    pub fn last(&self) -> Option<Timestamp> {
        let (_, end) = self.spans.last_key_value()?;
        Timestamp::from_millisecond(*end).ok()
    }

    /// Seconds within the window that are in it, the rest of a second dropped.
    #[must_use]
    pub fn seconds_within(&self, from: Timestamp, to: Timestamp) -> u64 {
        seconds(&self.within(from.as_millisecond(), to.as_millisecond()))
    }

    /// What of the window is not in it.
    #[must_use]
    pub fn gaps(&self, from: Timestamp, to: Timestamp) -> Vec<(Timestamp, Timestamp)> {
        let (from, to) = (from.as_millisecond(), to.as_millisecond());
        let gaps = complement(&self.within(from, to), from, to);
        gaps.into_iter()
            .filter_map(|(a, b)| time(a).zip(time(b)))
            .collect()
    }

    /// Forgets what ended before this moment.
    pub fn prune(&mut self, before: Timestamp) {
        let before = before.as_millisecond();
        while let Some(first) = self.spans.first_entry()
            && *first.get() <= before
        {
            first.remove();
        }
    }

    fn insert(&mut self, mut from: i64, mut to: i64) {
        if from >= to {
            return;
        }
        if let Some((start, end)) = self.spans.range(..=from).next_back()
            && *end >= from
        {
            from = *start;
            to = to.max(*end);
        }
        while let Some((start, end)) = self.spans.range(from..=to).next() {
            to = to.max(*end);
            let start = *start;
            self.spans.remove(&start);
        }
        self.spans.insert(from, to);
        while self.spans.len() > SPANS_MAX {
            self.spans.pop_first();
        }
    }

    fn within(&self, from: i64, to: i64) -> Vec<(i64, i64)> {
        let mut out = Vec::new();
        if from >= to {
            return out;
        }
        let first = self
            .spans
            .range(..=from)
            .next_back()
            .map_or(from, |(start, _)| *start);
        for (start, end) in self.spans.range(first..to) {
            let (start, end) = ((*start).max(from), (*end).min(to));
            if start < end {
                out.push((start, end));
            }
        }
        out
    }
}

/// A host as coverage sees it.
#[derive(Debug, Clone, Copy)]
pub struct HostSpans<'a> {
    /// Its id.
    pub id: HostId,
    /// Its name.
    pub name: &'a str,
    /// How much it matters.
    pub importance: Importance,
    /// It counts from here on.
    pub joined: Timestamp,
    /// It counts up to here.
    pub retired: Option<Timestamp>,
    /// When it was expected to be up; none: always.
    pub expected: Option<&'a [(Timestamp, Timestamp)]>,
    /// What its ticks vouch for.
    pub watched: &'a Watched,
    /// From a goodbye to the return.
    pub down: &'a Watched,
    /// Why it was not watched, if it was not, in words.
    pub reason: &'a str,
}

impl HostSpans<'_> {
    /// The time that was to be watched.
    fn wanted(&self, frame: &Frame, from: i64, to: i64) -> Vec<(i64, i64)> {
        let wanted = intersection(&frame.whole, &[(from, to)]);
        let Some(expected) = self.expected else {
            return wanted;
        };
        let expected = expected.iter();
        let expected: Vec<(i64, i64)> = expected
            .map(|(a, b)| (a.as_millisecond(), b.as_millisecond()))
            .collect();
        intersection(&wanted, &expected)
    }
}

/// A window of a night.
#[derive(Debug, Clone, Copy)]
pub struct Window<'a> {
    /// Start of the night.
    pub start: Timestamp,
    /// What is counted up to: the end, the sealing or the present.
    pub until: Timestamp,
    /// When the server was up.
    pub server_up: &'a Watched,
    /// Samples that agents dropped in the window.
    pub ticks_dropped: u64,
    /// When the server started for the first time; before that nothing was to be watched.
    pub first_start: Option<Timestamp>,
    /// Jumps of the server's wall clock, in order: the time after it, and milliseconds.
    pub jumps: &'a [(Timestamp, i64)],
}

/// What a window comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Reckoned {
    /// As the review shows it.
    pub coverage: Coverage,
    /// Whether too little was watched to say that a night was quiet.
    pub blind: bool,
}

/// What a window comes down to: the time that was to be watched, and when the server was up in it.
struct Frame {
    start: i64,
    until: i64,
    /// Without what the server's clock jumped over: that time never was.
    whole: Vec<(i64, i64)>,
    server: Vec<(i64, i64)>,
}

impl Frame {
    fn new(window: &Window<'_>) -> Frame {
        let until = window.until.as_millisecond();
        let first = window
            .first_start
            .map_or(i64::MIN, Timestamp::as_millisecond);
        let start = window.start.as_millisecond().max(first).min(until);
        let over = intersection(&jumped_over(window.jumps), &[(start, until)]);
        let whole = complement(&over, start, until);
        let up = with_tail(window.server_up.within(start, until), until);
        let server = intersection(&up, &whole);
        Frame {
            start,
            until,
            whole,
            server,
        }
    }
}

/// Counts what was watched.
#[must_use]
pub fn reckon(window: &Window<'_>, hosts: &[HostSpans<'_>]) -> Reckoned {
    let frame = Frame::new(window);
    let (mut expected_ms, mut watched_ms, mut counted, mut joined) = (0_u64, 0_u64, 0_u32, 0);
    let mut blind = false;
    let mut unwatched = Vec::new();
    for host in hosts {
        let from = frame.start.max(host.joined.as_millisecond());
        let to = host.retired.map_or(frame.until, |retired| {
            frame.until.min(retired.as_millisecond())
        });
        let wanted = host.wanted(&frame, from, to);
        if from >= to || wanted.is_empty() {
            continue;
        }
        counted += 1;
        joined += u32::from(from > window.start.as_millisecond());
        let mut own = with_tail(
            union(&host.watched.within(from, to), &host.down.within(from, to)),
            to,
        );
        // Who joined a moment ago and was heard: the first tick is still on its way.
        if own.is_empty() && to - from <= TAIL_MS {
            own.push((from, to));
        }
        let truly = intersection(&intersection(&own, &frame.server), &wanted);
        let (expected, watched) = (length(&wanted), length(&truly));
        expected_ms = expected_ms.saturating_add(expected);
        watched_ms = watched_ms.saturating_add(watched);
        let lost_seconds = expected.saturating_sub(watched) / 1000;
        blind |= host.importance == Importance::High && lost_seconds > IMPORTANT_SECONDS_MAX;
        // What the server missed while it was down is told once, not once a host.
        let holes = intersection(&complement(&own, from, to), &frame.server);
        let holes = intersection(&holes, &wanted);
        let first = holes.first().and_then(|(hole, _)| time(*hole));
        if let Some(first) = first.filter(|_| seconds(&holes) >= LISTED_SECONDS_MIN) {
            unwatched.push(Unwatched {
                host: host.id,
                name: host.name.to_owned(),
                seconds: seconds(&holes),
                from: first,
                reason: host.reason.to_owned(),
                importance: host.importance,
            });
        }
    }
    unwatched.sort_by(|a, b| b.seconds.cmp(&a.seconds).then_with(|| a.host.cmp(&b.host)));
    let ratio = if expected_ms == 0 {
        1.0
    } else {
        as_f64(watched_ms) / as_f64(expected_ms)
    };
    let coverage = Coverage {
        ratio,
        hosts: counted,
        expected_seconds: expected_ms / 1000,
        watched_seconds: watched_ms / 1000,
        server_up_seconds: seconds(&frame.server),
        window_seconds: seconds(&frame.whole),
        unwatched,
        ticks_dropped: window.ticks_dropped,
        first_start: window
            .first_start
            .filter(|first| window.start < *first && *first <= window.until),
        joined,
        jumps: jumps_within(window),
    };
    Reckoned {
        coverage,
        blind: blind || ratio < RATIO_MIN || counted == 0,
    }
}

/// The time that the clock jumped over, unless it went back and ran through it after all.
fn jumped_over(jumps: &[(Timestamp, i64)]) -> Vec<(i64, i64)> {
    let mut over = Vec::new();
    for (at, by_ms) in jumps {
        let at = at.as_millisecond();
        over = intersection(&over, &[(i64::MIN, at)]);
        if *by_ms > 0 {
            over = union(&over, &[(at.saturating_sub(*by_ms), at)]);
        }
    }
    over
}

/// The jumps that a reader of this window should know of, in seconds.
fn jumps_within(window: &Window<'_>) -> Vec<(Timestamp, i64)> {
    let within = |at: &Timestamp| (window.start..=window.until).contains(at);
    let mut told = Vec::new();
    for (at, by_ms) in window.jumps {
        // A jump ahead is of the night that it ends in and of the one that it left.
        let left = at.as_millisecond().saturating_sub((*by_ms).max(0));
        let moment = [Some(*at), time(left)].into_iter().flatten().find(within);
        if let Some(moment) = moment.filter(|_| by_ms.saturating_abs() >= JUMP_TOLD_MS) {
            told.push((moment, by_ms / 1000));
        }
    }
    told
}

/// Closes a short hole at the end: what is on its way is not missing yet.
fn with_tail(mut spans: Vec<(i64, i64)>, until: i64) -> Vec<(i64, i64)> {
    if let Some((_, end)) = spans.last_mut()
        && until.saturating_sub(*end) <= TAIL_MS
    {
        *end = until;
    }
    spans
}

fn union(a: &[(i64, i64)], b: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let mut all: Vec<(i64, i64)> = a.iter().chain(b).copied().collect();
    all.sort_unstable();
    let mut out: Vec<(i64, i64)> = Vec::with_capacity(all.len());
    for (from, to) in all {
        match out.last_mut() {
            Some((_, end)) if from <= *end => *end = to.max(*end),
            Some(_) | None => out.push((from, to)),
        }
    }
    out
}

fn intersection(a: &[(i64, i64)], b: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let mut out = Vec::new();
    let (mut i, mut j) = (0, 0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        let (from, to) = (x.0.max(y.0), x.1.min(y.1));
        if from < to {
            out.push((from, to));
        }
        if x.1 <= y.1 {
            i += 1;
        } else {
            j += 1;
        }
    }
    out
}

fn complement(spans: &[(i64, i64)], from: i64, to: i64) -> Vec<(i64, i64)> {
    let mut out = Vec::new();
    let mut at = from;
    for (start, end) in spans {
        if at < *start {
            out.push((at, *start));
        }
        at = *end;
    }
    if at < to {
        out.push((at, to));
    }
    out
}

/// Milliseconds in all.
fn length(spans: &[(i64, i64)]) -> u64 {
    let parts = spans
        .iter()
        .map(|(from, to)| u64::try_from(to.saturating_sub(*from)).unwrap_or(0));
    parts.fold(0, u64::saturating_add)
}

fn seconds(spans: &[(i64, i64)]) -> u64 {
    length(spans) / 1000
}

fn time(ms: i64) -> Option<Timestamp> {
    Timestamp::from_millisecond(ms).ok()
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a share needs no more than 53 bits"
)]
fn as_f64(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn t(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn watched(spans: &[(i64, i64)]) -> Watched {
        let mut out = Watched::default();
        for (from, to) in spans {
            out.add(t(*from), t(*to));
        }
        out
    }

    fn spans(watched: &Watched) -> Vec<(i64, i64)> {
        watched
            .spans
            .iter()
            .map(|(from, to)| (*from, *to))
            .collect()
    }

    #[test]
    fn ticks_with_jitter_leave_no_hole_and_a_missing_one_does() {
        let mut jittery = Watched::default();
        for at in [10_000, 20_400, 29_900, 44_000, 54_000, 70_000] {
            jittery.tick(Timestamp::from_millisecond(at).unwrap(), 10_000);
        }
        // 44.0 vouches for [34, 44), 4.1 s after the one before: closed. 70.0 is 6 s late: not closed.
        assert_eq!(spans(&jittery), [(0, 54_000), (60_000, 70_000)]);
    }

    #[test]
    fn a_tick_that_comes_late_closes_the_hole_it_belongs_to() {
        let mut late = watched(&[(0, 10), (22, 40)]);
        late.tick(t(20), 10_000);
        assert_eq!(spans(&late), [(0, 40_000)]);
        late.tick(t(5), 10_000);
        assert_eq!(spans(&late), [(-5_000, 40_000)]);
    }

    #[test]
    fn odd_spans_add_nothing() {
        let mut odd = watched(&[(5, 5), (9, 3)]);
        odd.tick(t(9), 0);
        assert!(odd.is_empty());
        assert_eq!((odd.last(), odd.seconds_within(t(0), t(9))), (None, 0));
    }

    #[test]
    fn the_oldest_is_forgotten_at_the_bound() {
        let mut many = Watched::default();
        let count = i64::try_from(SPANS_MAX).unwrap() + 10;
        for i in 0..count {
            many.add(t(i * 2), t(i * 2 + 1));
        }
        assert_eq!(many.spans.len(), SPANS_MAX);
        assert_eq!(many.seconds_within(t(0), t(20)), 0);
        assert_eq!(many.last(), Some(t(count * 2 - 1)));
        many.prune(t(count * 2 - 3));
        assert_eq!(many.spans.len(), 1);
    }

    proptest! {
        #[test]
        fn spans_are_a_set_of_seconds(
            adds in proptest::collection::vec((0_i64..120, -3_i64..20), 0..40),
            from in 0_i64..120,
            length in 0_i64..60,
        ) {
            let mut got = Watched::default();
            let mut want = [false; 160];
            for (start, length) in adds {
                got.add(t(start), t(start + length));
                for second in start..start + length {
                    want[usize::try_from(second).unwrap()] = true;
                }
            }
            let inside = |s: &i64| want[usize::try_from(*s).unwrap()];
            let to = (from + length).min(159);
            let count = (from..to).filter(inside).count();
            prop_assert_eq!(got.seconds_within(t(from), t(to)), u64::try_from(count).unwrap());
            let mut gap_seconds = Vec::new();
            for (a, b) in got.gaps(t(from), t(to)) {
                gap_seconds.extend(a.as_second()..b.as_second());
            }
            let want_gaps: Vec<i64> = (from..to).filter(|s| !inside(s)).collect();
            prop_assert_eq!(gap_seconds, want_gaps);
            let kept = spans(&got);
            prop_assert!(kept.windows(2).all(|pair| pair[0].1 < pair[1].0), "{kept:?}");
        }
    }

    const HOUR: i64 = 3600;

    struct Case {
        importance: Importance,
        joined: i64,
        retired: Option<i64>,
        watched: Vec<(i64, i64)>,
        down: Vec<(i64, i64)>,
    }

    fn case(watched: &[(i64, i64)]) -> Case {
        Case {
            importance: Importance::Normal,
            joined: -HOUR,
            retired: None,
            watched: watched.to_vec(),
            down: Vec::new(),
        }
    }

    /// A window of ten hours from 0.
    fn count(server_up: &[(i64, i64)], cases: &[Case]) -> Reckoned {
        let spans: Vec<_> = cases
            .iter()
            .map(|case| (watched(&case.watched), watched(&case.down)))
            .collect();
        let hosts: Vec<HostSpans<'_>> = (1_u128..)
            .zip(cases.iter().zip(&spans))
            .map(|(id, (case, (watched, down)))| HostSpans {
                expected: None,
                id: HostId(id),
                name: "web01",
                importance: case.importance,
                joined: t(case.joined),
                retired: case.retired.map(t),
                watched,
                down,
                reason: "silent",
            })
            .collect();
        let server_up = watched(server_up);
        let window = Window {
            start: t(0),
            until: t(10 * HOUR),
            server_up: &server_up,
            ticks_dropped: 3,
            first_start: None,
            jumps: &[],
        };
        reckon(&window, &hosts)
    }

    const ALL: (i64, i64) = (0, 10 * HOUR);

    #[test]
    fn a_night_that_was_watched() {
        let got = count(&[ALL], &[case(&[(0, 10 * HOUR - 20)]), case(&[ALL])]);
        assert!(!got.blind);
        assert_eq!(got.coverage.hosts, 2);
        assert!(
            (got.coverage.ratio - 1.0).abs() < 1e-12,
            "the last tick is on its way"
        );
        assert_eq!(
            (got.coverage.unwatched.len(), got.coverage.ticks_dropped),
            (0, 3)
        );
    }

    #[test]
    fn blind_under_98_percent_of_the_fleet() {
        let host = |hole: i64| [case(&[(0, HOUR), (HOUR + hole, 10 * HOUR)])];
        assert!(
            !count(&[ALL], &host(12 * 60)).blind,
            "98 % exactly is enough"
        );
        let got = count(&[ALL], &host(12 * 60 + 1));
        assert!(got.blind);
        let hole = &got.coverage.unwatched[0];
        assert_eq!((hole.seconds, hole.from), (721, t(HOUR)));
    }

    #[test]
    fn blind_where_an_important_host_was_not_watched_for_over_15_minutes() {
        for (importance, hole, want) in [
            (Importance::High, 15 * 60, false),
            (Importance::High, 15 * 60 + 1, true),
            (Importance::Normal, 15 * 60 + 1, false),
        ] {
            let mut cases: Vec<Case> = (0..20).map(|_| case(&[ALL])).collect();
            cases[7] = case(&[(0, HOUR), (HOUR + hole, 10 * HOUR)]);
            cases[7].importance = importance;
            assert_eq!(count(&[ALL], &cases).blind, want, "{importance:?} {hole}");
        }
    }

    #[test]
    fn goodbye_counts_as_watched_joining_and_retiring_bound_the_time() {
        let mut goodbye = case(&[(0, 4 * HOUR)]);
        goodbye.down = vec![(4 * HOUR, 10 * HOUR)];
        let mut joined = case(&[(5 * HOUR, 10 * HOUR)]);
        joined.joined = 5 * HOUR;
        let mut retired = case(&[(0, 2 * HOUR)]);
        retired.retired = Some(2 * HOUR);
        let mut gone = case(&[]);
        gone.retired = Some(-1);
        let got = count(&[ALL], &[goodbye, joined, retired, gone]);
        assert!(!got.blind, "{got:?}");
        assert_eq!(
            (got.coverage.hosts, got.coverage.expected_seconds),
            (3, 17 * 3600)
        );
        assert_eq!(got.coverage.watched_seconds, 17 * 3600);
    }

    #[test]
    fn nobody_is_watched_while_the_server_is_down_and_no_host_is_blamed() {
        let up = [(0, 5 * HOUR), (6 * HOUR, 10 * HOUR)];
        let got = count(&up, &[case(&[ALL]), case(&[ALL])]);
        assert!(got.blind);
        assert_eq!(got.coverage.server_up_seconds, 9 * 3600);
        assert_eq!(got.coverage.watched_seconds, 18 * 3600);
        assert!(got.coverage.unwatched.is_empty());
    }

    #[test]
    fn a_host_that_never_sent_anything_is_all_hole_and_no_host_at_all_is_blind() {
        let got = count(&[ALL], &[case(&[ALL]), case(&[])]);
        assert_eq!(got.coverage.unwatched[0].seconds, 36_000);
        assert!((got.coverage.ratio - 0.5).abs() < 1e-12);
        let none = count(&[ALL], &[]);
        assert!(none.blind && (none.coverage.ratio - 1.0).abs() < 1e-12);
    }
}
