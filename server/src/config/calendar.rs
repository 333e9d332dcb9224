//! `[calendar]`: zone, working hours, holidays, sealing hour.

use dawnwatch_engine::config::{Calendar, Week};
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::mistake::nearest;
use super::reader::{Reader, Section};

/// Keys of the weekdays, Monday first.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// The sealing hour may lie at most this far before opening: a review sealed earlier tells of half a night.
const SEAL_BEFORE_SECONDS_MAX: u32 = 12 * 3_600;

/// Holidays that are read: forty years of twenty-five.
const HOLIDAYS_MAX: usize = 1_000;

const KEYS: [&str; 13] = [
    "zone",
    "hours",
    "mon",
    "tue",
    "wed",
    "thu",
    "fri",
    "sat",
    "sun",
    "holidays",
    "holidays_ics",
    "seal_before",
    "confirmed",
];

pub(super) fn read(reader: &mut Reader<'_>, section: &Section<'_>, calendar: &mut Calendar) {
    reader.known(section, &KEYS);
    zone(reader, section, calendar);
    hours(reader, section, calendar);
    holidays(reader, section, calendar);
    if let Some((seconds, at)) = reader.span_seconds(section, "seal_before") {
        let minutes = u16::try_from(seconds / 60).ok();
        match minutes.filter(|_| seconds <= SEAL_BEFORE_SECONDS_MAX && seconds.is_multiple_of(60)) {
            Some(minutes) => calendar.seal_before_minutes = minutes,
            None => reader.mistake(
                at,
                "seal_before must be whole minutes, at most 12 h before opening".to_owned(),
                Some("the default is \"1h\"".to_owned()),
            ),
        }
    }
    let set_hours = section.has("hours") || DAYS.iter().any(|day| section.has(day));
    calendar.confirmed = match reader.boolean(section, "confirmed") {
        Some(confirmed) => confirmed,
        None => section.has("zone") && set_hours,
    };
}

fn zone(reader: &mut Reader<'_>, section: &Section<'_>, calendar: &mut Calendar) {
    let Some((name, at)) = reader.text(section, "zone") else {
        return;
    };
    if let Ok(zone) = TimeZone::get(&name)
        && let Some(name) = zone.iana_name()
    {
        name.clone_into(&mut calendar.zone);
        return;
    }
    let known: Vec<String> = jiff::tz::db()
        .available()
        .map(|name| name.to_string())
        .collect();
    let hint = match near_zone(&name, &known) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => "write an IANA name like \"Europe/Berlin\" or \"UTC\"".to_owned(),
    };
    reader.mistake(at, format!("unknown time zone {name:?}"), Some(hint));
}

/// A zone whose whole name is near, or whose city was written alone.
fn near_zone<'a>(name: &str, known: &'a [String]) -> Option<&'a str> {
    let city = |zone: &'a str| zone.rsplit('/').next().unwrap_or(zone);
    let alone = name.rsplit('/').next().unwrap_or(name).replace(' ', "_");
    let same_city = known
        .iter()
        .find(|zone| city(zone).eq_ignore_ascii_case(&alone));
    same_city
        .map(String::as_str)
        .or_else(|| nearest(name, known.iter().map(String::as_str)))
}

/// When a host is expected to be up: `always`, or hours like those of the calendar.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn parse_expected(text: &str) -> Result<Week, String> {
    if text.trim().eq_ignore_ascii_case("always") {
        return Ok(std::array::from_fn(|_| vec![(0, DAY)]));
    }
    let week = parse_week(text)?;
    if let Some((one, other)) = overlap(&week) {
        return Err(format!("{one} and {other} overlap"));
    }
    Ok(week)
}

/// The key `hours` of a host.
pub(super) fn expected(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Week> {
    let (text, at) = reader.text(section, "hours")?;
    match parse_expected(&text) {
        Ok(week) => Some(week),
        Err(why) => {
            let hint = "write it like \"Mon-Fri 07:00-19:00\", or \"always\"".to_owned();
            reader.mistake(at, format!("hours: {why}"), Some(hint));
            None
        }
    }
}

fn hours(reader: &mut Reader<'_>, section: &Section<'_>, calendar: &mut Calendar) {
    let mut week: Week = calendar.weekdays.clone();
    if let Some((text, at)) = reader.text(section, "hours") {
        match parse_week(&text) {
            Ok(parsed) => week = parsed,
            Err(why) => {
                let hint = "write it like \"Mon-Fri 08:00-18:00, Sat 09:00-12:00\"".to_owned();
                reader.mistake(at, format!("hours: {why}"), Some(hint));
            }
        }
    }
    for (day, spans) in DAYS.iter().zip(week.iter_mut()) {
        let Some((text, at)) = reader.text(section, day) else {
            continue;
        };
        match parse_day(&text) {
            Ok(parsed) => *spans = parsed,
            Err(why) => {
                let hint = "write it like \"08:00-12:00, 13:00-18:00\" or \"closed\"".to_owned();
                reader.mistake(at, format!("{day}: {why}"), Some(hint));
            }
        }
    }
    if let Some((one, other)) = overlap(&week) {
        // Told where the later of the two is set: by its day, else in the line for all days.
        let day = other
            .get(..3)
            .filter(|day| section.has(day))
            .unwrap_or("hours");
        let text = format!("working hours overlap: {one} and {other}");
        reader.mistake(
            section.at_of(day),
            text,
            Some("join them into one span".to_owned()),
        );
    } else if week.iter().all(Vec::is_empty) {
        let text = "no working hours on any day, so no night would ever end".to_owned();
        let hint = Some("set at least one span".to_owned());
        reader.mistake(section.at_of("hours"), text, hint);
    } else {
        calendar.weekdays = week;
    }
}

/// `Mon-Fri 08:00-18:00, Sat 09:00-12:00`: a span without a day belongs to the days before it.
fn parse_week(text: &str) -> Result<Week, String> {
    let mut week = Week::default();
    let mut days: Vec<usize> = Vec::new();
    for part in text.split(',') {
        let part = part.trim();
        let span = match part.split_once(char::is_whitespace) {
            Some((names, span)) => {
                days = parse_days(names)?;
                span
            }
            None => part,
        };
        if days.is_empty() {
            return Err(format!("{part:?} names no day"));
        }
        let span = parse_hours(span)?;
        for day in &days {
            week[*day].push(span);
        }
    }
    for spans in &mut week {
        spans.sort_unstable();
    }
    Ok(week)
}

/// `Mon`, `Mon-Fri`, `Sat-Mon`.
fn parse_days(text: &str) -> Result<Vec<usize>, String> {
    let day = |name: &str| {
        let short = name.trim().to_ascii_lowercase();
        let found = DAYS.iter().position(|day| short.starts_with(day));
        found.ok_or_else(|| format!("{name:?} is no weekday"))
    };
    let Some((first, last)) = text.split_once('-') else {
        return Ok(vec![day(text)?]);
    };
    let (first, last) = (day(first)?, day(last)?);
    let count = (last + 7 - first) % 7 + 1;
    Ok((0..count).map(|i| (first + i) % 7).collect())
}

/// `08:00-12:00, 13:00-18:00`, or `closed`.
fn parse_day(text: &str) -> Result<Vec<(u16, u16)>, String> {
    if text.trim().is_empty() || text.trim() == "closed" {
        return Ok(Vec::new());
    }
    let mut spans = Vec::new();
    for part in text.split(',') {
        spans.push(parse_hours(part)?);
    }
    spans.sort_unstable();
    Ok(spans)
}

/// `08:00-18:00` in minutes after midnight; `22:00-06:00` ends on the next day.
fn parse_hours(text: &str) -> Result<(u16, u16), String> {
    let text = text.trim();
    let Some((start, end)) = text.split_once('-') else {
        return Err(format!("{text:?} is no span of time"));
    };
    let (start, end) = (parse_time(start)?, parse_time(end)?);
    if start == DAY {
        return Err(format!(
            "{text:?} starts at 24:00: write 00:00 on the next day"
        ));
    }
    match start.cmp(&end) {
        std::cmp::Ordering::Less => Ok((start, end)),
        std::cmp::Ordering::Equal => Err(format!("{text:?} is empty")),
        std::cmp::Ordering::Greater if end == 0 => Ok((start, DAY)),
        std::cmp::Ordering::Greater => Ok((start, end + DAY)),
    }
}

/// `08:00`, `8:00`, `24:00` in minutes after midnight.
fn parse_time(text: &str) -> Result<u16, String> {
    let wrong = || format!("{:?} is no time of day", text.trim());
    let (hour, minute) = text.trim().split_once(':').ok_or_else(wrong)?;
    let digits = |s: &str| (1..=2).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(hour) || !digits(minute) || minute.len() != 2 {
        return Err(wrong());
    }
    let (hour, minute): (u16, u16) = (
        hour.parse().map_err(|_| wrong())?,
        minute.parse().map_err(|_| wrong())?,
    );
    let time = hour * 60 + minute;
    if minute > 59 || time > DAY {
        return Err(wrong());
    }
    Ok(time)
}

/// Two spans of a week that share a minute, in words.
fn overlap(week: &Week) -> Option<(String, String)> {
    let mut spans: Vec<(u32, u32, String)> = Vec::new();
    let mut day_start = 0;
    for (name, day) in DAYS.iter().zip(week) {
        for &(start, end) in day {
            let (start_week, end_week) = (day_start + u32::from(start), day_start + u32::from(end));
            spans.push((start_week, end_week, format!("{name} {}", show(start, end))));
        }
        day_start += u32::from(DAY);
    }
    // What runs past Sunday midnight meets the next Monday.
    if let Some((start, end, name)) = spans.first().cloned() {
        spans.push((start + day_start, end + day_start, name));
    }
    let touching = spans.windows(2).find(|pair| pair[1].0 < pair[0].1)?;
    Some((touching[0].2.clone(), touching[1].2.clone()))
}

fn show(start: u16, end: u16) -> String {
    let end = if end > DAY { end - DAY } else { end };
    let (h, m) = (|t: u16| t / 60, |t: u16| t % 60);
    format!(
        "{:02}:{:02}-{:02}:{:02}",
        h(start),
        m(start),
        h(end),
        m(end)
    )
}

fn holidays(reader: &mut Reader<'_>, section: &Section<'_>, calendar: &mut Calendar) {
    if let Some((_, at)) = reader.text(section, "holidays_ics") {
        reader.mistake(
            at,
            "holidays_ics is not supported by this version".to_owned(),
            Some("list the dates: holidays = [\"2026-12-25\"]".to_owned()),
        );
    }
    let dates = reader.texts(section, "holidays");
    if let Some((_, at)) = dates.get(HOLIDAYS_MAX) {
        let text = format!("more than {HOLIDAYS_MAX} holidays");
        reader.mistake(at.clone(), text, Some("leave out the past".to_owned()));
        return;
    }
    for (text, at) in dates {
        match text.parse::<Date>() {
            Ok(date) if text.len() == "2026-12-25".len() => calendar.holidays.push(date),
            Ok(_) | Err(_) => reader.mistake(
                at,
                format!("holidays: {text:?} is no date"),
                Some("write it like \"2026-12-25\"".to_owned()),
            ),
        }
    }
    calendar.holidays.sort_unstable();
    calendar.holidays.dedup();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weeks() {
        let week = |text| parse_week(text).map(|week| week.map(|day| day.len()));
        for (text, want) in [
            ("Mon-Fri 08:00-18:00", Ok([1, 1, 1, 1, 1, 0, 0])),
            ("Sat-Mon 8:00-12:00, 13:00-17:00", Ok([2, 0, 0, 0, 0, 2, 2])),
            (
                "monday 08:00-18:00, Sun 22:00-06:00",
                Ok([1, 0, 0, 0, 0, 0, 1]),
            ),
            (
                "08:00-18:00",
                Err("\"08:00-18:00\" names no day".to_owned()),
            ),
            ("Mo-Fr 08:00-18:00", Err("\"Mo\" is no weekday".to_owned())),
            ("Mon 08:00", Err("\"08:00\" is no span of time".to_owned())),
            (
                "Mon 25:00-26:00",
                Err("\"25:00\" is no time of day".to_owned()),
            ),
            (
                "Mon 08:00-08:00",
                Err("\"08:00-08:00\" is empty".to_owned()),
            ),
            ("", Err("\"\" names no day".to_owned())),
        ] {
            assert_eq!(week(text), want, "{text}");
        }
    }

    #[test]
    fn hours_may_cross_midnight() {
        for (text, want) in [
            ("08:00-18:00", Some((480, 1080))),
            ("22:00-06:00", Some((1320, 1800))),
            ("16:00-00:00", Some((960, 1440))),
            ("00:00-24:00", Some((0, 1440))),
            ("24:00-25:00", None),
            ("24:00-06:00", None),
            ("08:60-09:00", None),
            ("8-18", None),
            ("008:00-09:00", None),
            ("+8:00-09:00", None),
        ] {
            assert_eq!(parse_hours(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn overlaps_are_found_within_and_across_days() {
        for (text, want) in [
            ("Mon-Sun 00:00-24:00", None),
            ("Mon 08:00-12:00, 12:00-18:00", None),
            (
                "Mon 08:00-12:00, 11:00-18:00",
                Some(("mon 08:00-12:00", "mon 11:00-18:00")),
            ),
            (
                "Mon 22:00-06:00, Tue 05:00-09:00",
                Some(("mon 22:00-06:00", "tue 05:00-09:00")),
            ),
            (
                "Sun 22:00-06:00, Mon 05:00-09:00",
                Some(("sun 22:00-06:00", "mon 05:00-09:00")),
            ),
            ("Sun 22:00-06:00, Mon 06:00-09:00", None),
        ] {
            let week = parse_week(text).unwrap();
            let want = want.map(|(a, b)| (a.to_owned(), b.to_owned()));
            assert_eq!(overlap(&week), want, "{text}");
        }
    }

    #[test]
    fn zones_are_found_by_city_and_by_spelling() {
        let known = ["Europe/Berlin", "Europe/Paris", "America/New_York", "UTC"].map(str::to_owned);
        for (text, want) in [
            ("Berlin", Some("Europe/Berlin")),
            ("Germany/Berlin", Some("Europe/Berlin")),
            ("new york", Some("America/New_York")),
            ("Europe/Pariss", Some("Europe/Paris")),
            ("Mars", None),
        ] {
            assert_eq!(near_zone(text, &known), want, "{text}");
        }
    }
}
