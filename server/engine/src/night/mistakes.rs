//! What can be wrong with a calendar: every mistake at once, with what to do.

use std::collections::BTreeSet;

use jiff::civil::Date;
use jiff::tz::TimeZoneDatabase;

use super::{MINUTES_A_DAY, WEEKDAYS};
use crate::config::Calendar;

/// Longest run of days without working hours: a year of holidays is a typing error, and the search stays bounded.
pub const CLOSED_DAYS_MAX: i32 = 400;

/// Most working spans on one weekday: more is a typing error, and the letters of the ids stay few.
pub const SPANS_A_DAY_MAX: usize = 12;

/// Everything that is wrong with a calendar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("calendar: {}", self.mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct CalendarError {
    /// The mistakes, at least one.
    pub mistakes: Vec<CalendarMistake>,
}

/// One mistake in a calendar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CalendarMistake {
    /// The bundled time zone data has no such zone.
    #[error("unknown time zone {zone:?}{}", suggest(.near))]
    UnknownZone {
        /// What was asked for.
        zone: String,
        /// Names that are close to it, best first.
        near: Vec<String>,
    },
    /// A working span is empty, starts after midnight of the next day or lasts more than a day.
    #[error(
        "{weekday}: working hours from minute {from} to {to}: a span starts before 24:00, ends after it starts and lasts \
         at most 24 h"
    )]
    Span {
        /// `Mon`.
        weekday: &'static str,
        /// Start in minutes after midnight.
        from: u16,
        /// End in minutes after midnight.
        to: u16,
    },
    /// Too many spans on one weekday.
    #[error("{weekday}: {count} working spans: at most {SPANS_A_DAY_MAX}")]
    TooManySpans {
        /// `Mon`.
        weekday: &'static str,
        /// How many there were.
        count: usize,
    },
    /// Holidays leave no working hours for too long.
    #[error(
        "no working hours for over {CLOSED_DAYS_MAX} days from {from}: remove holidays, or all working hours"
    )]
    ClosedTooLong {
        /// First closed day.
        from: Date,
    },
}

pub(super) fn span_mistakes(calendar: &Calendar) -> Vec<CalendarMistake> {
    let mut mistakes = Vec::new();
    for (weekday, spans) in WEEKDAYS.into_iter().zip(&calendar.weekdays) {
        if spans.len() > SPANS_A_DAY_MAX {
            mistakes.push(CalendarMistake::TooManySpans {
                weekday,
                count: spans.len(),
            });
        }
        for (from, to) in spans.iter().copied() {
            if from >= MINUTES_A_DAY || to <= from || to - from > MINUTES_A_DAY {
                mistakes.push(CalendarMistake::Span { weekday, from, to });
            }
        }
    }
    mistakes
}

/// Looks for a run of closed days that no search would cross.
pub(super) fn closed_too_long(
    calendar: &Calendar,
    holidays: &BTreeSet<Date>,
) -> Option<CalendarMistake> {
    let closed = |date: Date| {
        let weekday =
            usize::try_from(date.weekday().to_monday_zero_offset()).expect("a weekday is 0 to 6");
        calendar.weekdays[weekday].is_empty() || holidays.contains(&date)
    };
    let mut searched = Date::MIN;
    for from in holidays {
        if *from < searched {
            continue;
        }
        let mut day = *from;
        let mut days = 0;
        while closed(day) && days <= CLOSED_DAYS_MAX {
            day = day.tomorrow().ok()?;
            days += 1;
        }
        if days > CLOSED_DAYS_MAX {
            return Some(CalendarMistake::ClosedTooLong { from: *from });
        }
        searched = day;
    }
    None
}

/// Names of zones that are close to a mistyped one: at most three, best first.
pub(super) fn near_zones(wanted: &str) -> Vec<String> {
    let wanted = wanted.to_ascii_lowercase();
    let wanted_city = wanted.rsplit('/').next().unwrap_or(&wanted);
    let mut near: Vec<(usize, String)> = Vec::new();
    for name in TimeZoneDatabase::bundled().available() {
        let name = name.as_str();
        let lower = name.to_ascii_lowercase();
        let city = lower.rsplit('/').next().unwrap_or(&lower);
        let distance = distance(&wanted, &lower).min(distance(wanted_city, city));
        near.push((distance, name.to_owned()));
    }
    near.sort();
    let far = (wanted_city.chars().count() / 3).max(1);
    near.into_iter()
        .filter(|(distance, _)| *distance <= far)
        .take(3)
        .map(|(_, name)| name)
        .collect()
}

/// Edit distance by characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn suggest(near: &[String]) -> String {
    match near {
        [] => ": give an IANA name such as Europe/Madrid".to_owned(),
        near => format!(": did you mean {}?", near.join(" or ")),
    }
}
