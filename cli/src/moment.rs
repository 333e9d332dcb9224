//! Times as people type them: `03:00`, `-2h`, `sun 03:12`, `2026-10-05`, RFC 3339, `now`, a night's id.

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use crate::fail::Fail;

/// Longest span that is taken: twenty years; more is a slip of the keyboard.
const SPAN_SECONDS_MAX: i64 = 20 * 366 * 86_400;

/// What a person meant by a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Moment {
    /// A point in time.
    At(Timestamp),
    /// A night by its id.
    Night(String),
}

/// Reads a time. A clock time or weekday is the latest one that is not after `now`.
pub(crate) fn moment(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Moment, Fail> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("now") {
        return Ok(Moment::At(now));
    }
    if is_night(text) {
        return Ok(Moment::Night(format!(
            "N{}",
            text[1..].to_ascii_lowercase()
        )));
    }
    let at = match text.strip_prefix('-') {
        Some(span) => seconds(span).map(|s| now.checked_sub(SignedDuration::from_secs(s)).ok()),
        None => Some(absolute(text, now, zone)),
    };
    at.flatten().map(Moment::At).ok_or_else(|| {
        Fail::usage(format!(
            "{text:?} is no time: write 03:00, -2h, \"sun 03:12\", 2026-10-05, \"2026-10-05 03:00\", \
             2026-10-05T03:00:00Z, now or a night's id such as N-2026-10-05"
        ))
    })
}

/// Whether the text has the shape of a night's id: `N-2026-10-05`, `N-2026-10-05b`.
pub(crate) fn is_night(text: &str) -> bool {
    let Some(("n" | "N", date)) = text.split_once('-') else {
        return false;
    };
    let digits = date.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    date.len() - digits.len() <= 1 && digits.len() == 10 && digits.parse::<Date>().is_ok()
}

/// Reads a span such as `90s`, `2h`, `1d12h`, `1w`, in seconds.
pub(crate) fn seconds(text: &str) -> Option<i64> {
    let mut total: i64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..number_end].parse().ok()?;
        rest = rest[number_end..].trim_start();
        let unit_end = rest
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        let each = match &rest[..unit_end] {
            "s" | "sec" => 1,
            "m" | "min" => 60,
            "h" => 3_600,
            "d" => 86_400,
            "w" => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(each)?)?;
        rest = rest[unit_end..].trim_start();
    }
    (total <= SPAN_SECONDS_MAX).then_some(total)
}

/// The zone of this name.
pub(crate) fn zone(name: &str) -> Result<TimeZone, Fail> {
    TimeZone::get(name).map_err(|_| {
        let names: Vec<String> = jiff::tz::db()
            .available()
            .map(|name| name.to_string())
            .collect();
        let near = crate::find::near(name, names.iter().map(String::as_str));
        let text =
            format!("unknown time zone {name:?}: give an IANA name such as Europe/Berlin or UTC");
        Fail::usage(text).suggest(&near)
    })
}

fn absolute(text: &str, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    let today = now.to_zoned(zone.clone()).date();
    if let Some(clock) = clock(text) {
        return latest(today, clock, 1, now, zone);
    }
    let mark = if text.starts_with(|c: char| c.is_ascii_digit()) {
        [' ', 'T']
    } else {
        [' ', ' ']
    };
    let (first, rest) = text.split_once(mark).unwrap_or((text, "00:00"));
    let clock = clock(rest.trim())?;
    if let Ok(date) = first.parse::<Date>() {
        return at(date.to_datetime(clock), zone);
    }
    if first.eq_ignore_ascii_case("yesterday") {
        return at(today.yesterday().ok()?.to_datetime(clock), zone);
    }
    let weekday = weekday(first)?;
    let back = i64::from(weekday.until(today.weekday()));
    latest(today.checked_sub(back.days()).ok()?, clock, 7, now, zone)
}

/// The clock time on this date, or `step` days before if that is still to come.
fn latest(
    date: Date,
    clock: Time,
    step: i64,
    now: Timestamp,
    zone: &TimeZone,
) -> Option<Timestamp> {
    let here = at(date.to_datetime(clock), zone)?;
    if here <= now {
        return Some(here);
    }
    at(date.checked_sub(step.days()).ok()?.to_datetime(clock), zone)
}

/// A local time; one that a clock change skips or repeats is taken as the calendar in people's heads does.
fn at(local: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    local
        .to_zoned(zone.clone())
        .ok()
        .map(|zoned| zoned.timestamp())
}

fn clock(text: &str) -> Option<Time> {
    let mut parts = text.split(':');
    let mut part = |least: usize| -> Option<i8> {
        let digits = parts.next()?;
        let fits =
            (least..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| digits.parse().ok()).flatten()
    };
    let colons = text.matches(':').count();
    let (hour, minute) = (part(1)?, part(2)?);
    let second = if colons == 2 { part(2)? } else { 0 };
    if colons <= 2 {
        Time::new(hour, minute, second, 0).ok()
    } else {
        None
    }
}

fn weekday(text: &str) -> Option<Weekday> {
    let text = text.to_ascii_lowercase();
    let days = [
        ("monday", Weekday::Monday),
        ("tuesday", Weekday::Tuesday),
        ("wednesday", Weekday::Wednesday),
        ("thursday", Weekday::Thursday),
        ("friday", Weekday::Friday),
        ("saturday", Weekday::Saturday),
        ("sunday", Weekday::Sunday),
    ];
    let fits = |name: &str| text.len() >= 3 && name.starts_with(&text);
    days.into_iter()
        .find(|(name, _)| fits(name))
        .map(|(_, day)| day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday 5 October 2026, 07:30 in Berlin.
    fn check(text: &str, want: &str) {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let now = "2026-10-05T05:30:00Z".parse().unwrap();
        let got = match moment(text, now, &zone) {
            Ok(Moment::At(at)) => at.to_string(),
            Ok(Moment::Night(id)) => id,
            Err(fail) => fail.code.to_string(),
        };
        assert_eq!(got, want, "{text:?}");
    }

    #[test]
    fn moments() {
        for (text, want) in [
            ("now", "2026-10-05T05:30:00Z"),
            ("03:00", "2026-10-05T01:00:00Z"),
            ("7:30", "2026-10-05T05:30:00Z"),
            ("07:30:01", "2026-10-04T05:30:01Z"),
            ("23:00", "2026-10-04T21:00:00Z"),
            ("-2h", "2026-10-05T03:30:00Z"),
            ("-1d12h", "2026-10-03T17:30:00Z"),
            ("-90 min", "2026-10-05T04:00:00Z"),
            ("sun 03:12", "2026-10-04T01:12:00Z"),
            ("Sunday 03:12", "2026-10-04T01:12:00Z"),
            ("Tue 03:00", "2026-09-29T01:00:00Z"),
            ("THU 03:00", "2026-10-01T01:00:00Z"),
            ("mon 07:00", "2026-10-05T05:00:00Z"),
            ("mon 08:00", "2026-09-28T06:00:00Z"),
            ("fri", "2026-10-01T22:00:00Z"),
            ("yesterday 01:00", "2026-10-03T23:00:00Z"),
            ("2026-10-05", "2026-10-04T22:00:00Z"),
            ("2026-10-05 03:00", "2026-10-05T01:00:00Z"),
            ("2026-10-05T03:00", "2026-10-05T01:00:00Z"),
            ("2026-10-05T03:00:00Z", "2026-10-05T03:00:00Z"),
            ("2026-10-05T03:00:00+02:00", "2026-10-05T01:00:00Z"),
            ("2026-03-29 02:30", "2026-03-29T01:30:00Z"),
            ("n-2026-10-05", "N-2026-10-05"),
            ("n-2026-10-05B", "N-2026-10-05b"),
        ] {
            check(text, want);
        }
    }

    #[test]
    fn what_is_no_time_is_said_so() {
        for text in [
            "",
            "-",
            "-2",
            "-h",
            "2h",
            "25:00",
            "12:60",
            "12:00:00:00",
            "soon",
            "su 03:00",
            "sun 3",
            "-99999999w",
            "N-2026-13-05",
            "1:2:3:4",
            "1:2",
            "+1:00",
        ] {
            check(text, "64");
        }
    }

    #[test]
    fn zones_are_suggested() {
        let fail = zone("Europe/Berln").unwrap_err();
        assert_eq!(fail.code, 64);
        assert!(fail.text.contains("Europe/Berlin"), "{}", fail.text);
        assert!(zone("UTC").is_ok());
    }
}
