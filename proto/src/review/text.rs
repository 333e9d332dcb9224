//! The review, the open list and incidents as text: the same lines on a terminal, on a pipe and in a mail.
//!
//! - `review`: the first screen of PRODUCT.md, at most [`LINES_MAX`] lines.
//! - `now`: what is open, at most [`NOW_LINES_MAX`] lines. `incident` and `why`: one incident.
//! - `phrases`: the same words in pieces, for whoever lays them out otherwise: the page.
//! - `duration`, `when`, `sparkline`, `number`: the words that all of them use.
//!
//! Every text from outside goes through [`untrusted::term`]; nothing else here makes a line longer than the width.
//! Caveat: width is counted in characters, so scripts with double-width characters run over.

mod case;
mod head;
mod layout;
mod page;
mod phrases;
mod short;

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

pub use case::{incident, why};
pub use page::review;
pub use phrases::{Phrases, RowPhrases, phrases, row_phrases};
pub use short::now;

use crate::review::{Row, Severity, Turned, Verdict};
use crate::untrusted;

/// Most lines of a review on one screen: what a manager reads in a minute.
pub const LINES_MAX: usize = 40;

/// Most lines of the open list: it is typed many times a day.
pub const NOW_LINES_MAX: usize = 12;

/// Narrowest width that is laid out; a narrower terminal wraps by itself.
const WIDTH_MIN: usize = 72;

/// How to draw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Columns.
    pub width: usize,
    /// Whether owners stand in a column of their own on the right. Mail has proportional fonts: none there.
    pub aligned: bool,
    /// Whether to use ANSI colours; they only repeat what the words say.
    pub color: bool,
    /// IANA zone to show times in, if not that of the review.
    pub zone: Option<String>,
    /// A block to show in full, in place of the first screen.
    pub full: Option<Section>,
}

/// A block of a review that can be asked for in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// What was not watched.
    Watched,
    /// Critical and still open.
    Critical,
    /// Needs somebody today.
    Today,
    /// Healed by itself.
    Healed,
    /// What was changed.
    Changed,
    /// What is known of tonight.
    Tonight,
}

impl Text {
    /// A terminal of 100 columns without colour.
    #[must_use]
    pub fn screen() -> Text {
        Text {
            width: 100,
            aligned: true,
            color: false,
            zone: None,
            full: None,
        }
    }

    /// The body of a mail: 72 columns, nothing aligned.
    #[must_use]
    pub fn mail() -> Text {
        Text {
            width: 72,
            aligned: false,
            color: false,
            zone: None,
            full: None,
        }
    }

    fn columns(&self) -> usize {
        self.width.max(WIDTH_MIN)
    }

    fn zone_of(&self, theirs: &str) -> TimeZone {
        zone(self.zone.as_deref().unwrap_or(theirs))
    }

    fn paint(&self, text: &str, ink: Ink) -> String {
        if !self.color {
            return text.to_owned();
        }
        let code = match ink {
            Ink::Red => "1;31",
            Ink::Yellow => "1;33",
            Ink::Green => "1;32",
            Ink::Magenta => "1;35",
            Ink::Bold => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

impl Default for Text {
    fn default() -> Text {
        Text::screen()
    }
}

impl Section {
    /// The option of `dawnwatch review` that asks for it, without dashes.
    #[must_use]
    pub fn flag(self) -> &'static str {
        match self {
            Section::Watched => "watched",
            Section::Critical => "critical",
            Section::Today => "today",
            Section::Healed => "healed",
            Section::Changed => "changed",
            Section::Tonight => "tonight",
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Ink {
    Red,
    Yellow,
    Green,
    Magenta,
    Bold,
}

/// A length of time as people say it: `27 h 48 m`, `41 m`, `30 s`, `5 d 3 h`.
#[must_use]
pub fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |a: u64, unit_a: &str, b: u64, unit_b: &str| match b {
        0 => format!("{a} {unit_a}"),
        b => format!("{a} {unit_a} {b} {unit_b}"),
    };
    if minutes == 0 {
        format!("{seconds} s")
    } else if hours == 0 {
        format!("{minutes} m")
    } else if hours < 100 {
        two(hours, "h", minutes % 60, "m")
    } else {
        two(days, "d", hours % 24, "h")
    }
}

/// A moment as people say it near `now`: `Sun 03:12`; with the date where it is a week away, with the year where that
/// is another.
#[must_use]
pub fn when(at: Timestamp, zone: &TimeZone, now: Timestamp) -> String {
    let (local, here) = (at.to_zoned(zone.clone()), now.to_zoned(zone.clone()));
    let days = local.date().duration_since(here.date()).as_hours() / 24;
    let format = match days {
        -6..=6 => "%a %H:%M",
        _ if local.year() == here.year() => "%-d %b %H:%M",
        _ => "%-d %b %Y %H:%M",
    };
    local.strftime(format).to_string()
}

/// Values as a line of blocks, from the least to the greatest; a blank where one is missing.
#[must_use]
pub fn sparkline(values: &[Option<f64>]) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let known = || {
        values
            .iter()
            .flatten()
            .copied()
            .filter(|value| value.is_finite())
    };
    let least = known().fold(f64::INFINITY, f64::min);
    let most = known().fold(f64::NEG_INFINITY, f64::max);
    let block = |value: &Option<f64>| {
        let Some(value) = value.filter(|value| value.is_finite()) else {
            return ' ';
        };
        // Halved first, so that the range of two huge values of opposite sign is no infinity.
        let (above, range) = (value / 2.0 - least / 2.0, most / 2.0 - least / 2.0);
        let share = if range > 0.0 { above / range } else { 0.0 };
        let mut index = 0;
        for bound in [0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875] {
            index += usize::from(share >= bound);
        }
        BLOCKS[index]
    };
    values.iter().map(block).collect()
}

/// A value in about four digits: `96.25`, `0.031`, `1240000`, `3.10e-5`.
#[must_use]
pub fn number(value: f64) -> String {
    let size = value.abs();
    let text = if size >= 1e15 || (0.0 < size && size < 1e-3) {
        return format!("{value:.2e}");
    } else if size >= 1000.0 {
        return format!("{value:.0}");
    } else if size >= 100.0 {
        format!("{value:.1}")
    } else if size >= 10.0 {
        format!("{value:.2}")
    } else if size >= 1.0 {
        format!("{value:.3}")
    } else {
        format!("{value:.4}")
    };
    if text.contains('.') {
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    text
}

/// The zone of this name in the bundled data; UTC where there is none.
#[must_use]
pub fn zone(name: &str) -> TimeZone {
    TimeZoneDatabase::bundled()
        .get(name)
        .unwrap_or(TimeZone::UTC)
}

/// Whole seconds from one moment to a later one; 0 where it is earlier.
#[must_use]
pub fn seconds_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_secs()).unwrap_or(0)
}

/// The word for how bad something is.
#[must_use]
pub fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

fn verdict(verdict: Verdict) -> (&'static str, Ink) {
    match verdict {
        Verdict::Quiet => ("QUIET", Ink::Green),
        Verdict::Attention => ("ATTENTION", Ink::Yellow),
        Verdict::Critical => ("CRITICAL", Ink::Red),
        Verdict::Blind => ("BLIND", Ink::Magenta),
    }
}

/// The word for what a night comes to: `CRITICAL`.
#[must_use]
pub fn verdict_word(of: Verdict) -> &'static str {
    verdict(of).0
}

/// `db02 (billing)`, safe to print.
#[must_use]
pub fn subject(name: &str, service: Option<&str>) -> String {
    let name = untrusted::term(name);
    match service {
        Some(service) => format!("{name} ({})", untrusted::term(service)),
        None => name,
    }
}

/// Who has it: the person who took it, else the owner, else nobody.
#[must_use]
pub fn holder(
    owner: Option<&str>,
    taken: Option<&(String, Timestamp)>,
    zone: &TimeZone,
    now: Timestamp,
) -> String {
    match (taken, owner) {
        (Some((who, at)), _) => {
            format!("{}, took it {}", untrusted::term(who), when(*at, zone, now))
        }
        (None, Some(owner)) => untrusted::term(owner),
        (None, None) => "nobody".to_owned(),
    }
}

/// Longest that what came first is shown, in columns.
const FIRST_COLUMNS_MAX: usize = 32;

/// `since Sun 03:12`; where what it is called by began later, `since Mon 03:30, filling since Sun 03:20`.
#[must_use]
pub fn since(since: Timestamp, turned: Option<&Turned>, zone: &TimeZone, now: Timestamp) -> String {
    let began = when(since, zone, now);
    match turned {
        Some(turned) => {
            let from = layout::cut(&untrusted::term(&turned.from), FIRST_COLUMNS_MAX);
            let at = when(turned.at, zone, now);
            format!("since {at}, {from} since {began}")
        }
        None => format!("since {began}"),
    }
}

/// `since Mon 03:30, filling since Sun 03:20, 27 h 40 m`; where that takes more than `room` columns, what came first
/// apart from it.
fn open_span(
    began: Timestamp,
    turned: Option<&Turned>,
    until: Timestamp,
    zone: &TimeZone,
    room: usize,
) -> (String, Option<String>) {
    let length = duration(seconds_between(began, until));
    let whole = format!("{}, {length}", since(began, turned, zone, until));
    let Some(turned) = turned.filter(|_| whole.chars().count() > room) else {
        return (whole, None);
    };
    let first = format!(
        "{} since {}",
        untrusted::term(&turned.from),
        when(began, zone, until)
    );
    let at = when(turned.at, zone, until);
    (format!("since {at}, {length} in all"), Some(first))
}

/// `since Sun 03:12, 27 h 48 m`, or `Sun 02:00-02:41, 41 m` for what is over; and what came first where there is no room for it.
fn span(row: &Row, until: Timestamp, zone: &TimeZone, room: usize) -> (String, Option<String>) {
    let length = duration(seconds_between(row.since, row.until.unwrap_or(until)));
    match row.until {
        None => open_span(row.since, row.turned.as_ref(), until, zone, room),
        Some(end) => {
            let (a, b) = (row.since.to_zoned(zone.clone()), end.to_zoned(zone.clone()));
            let end = if a.date() == b.date() {
                b.strftime("-%H:%M").to_string()
            } else {
                format!(" - {}", when(end, zone, until))
            };
            let since = when(row.since, zone, until);
            (format!("{since}{end}, {length}"), None)
        }
    }
}

#[cfg(test)]
mod tests;
