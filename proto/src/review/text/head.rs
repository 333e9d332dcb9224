//! The head of a review: which night, the verdict, what was watched, what is new since it was sealed.

use std::fmt::Write as _;

use super::layout::{cut, wrap};
use super::page::{Page, SUBJECT_COLUMNS_MAX};
use super::{Ink, duration, seconds_between, verdict, when};
use crate::review::Verdict;
use crate::untrusted::term;

/// What line two says where nobody can be told.
pub(super) const NO_CHANNEL: &str =
    "nobody is told of anything at night: add a [[channel]] to dawnwatch.toml";

/// Lines for what was watched.
const WATCHED_LINES_MAX: usize = 3;

/// Hosts named as not watched; the rest is counted.
const UNWATCHED_NAMED_MAX: usize = 4;

/// Jumps of the server's clock named; the rest is counted.
const JUMPS_NAMED_MAX: usize = 2;

impl Page<'_> {
    pub(super) fn head(&self) -> Vec<String> {
        let review = self.review;
        let columns = self.options.columns();
        let mut lines = self.window();
        if review.messages.channels.is_empty() {
            lines.extend(self.label("NO CHANNEL", NO_CHANNEL, 2, Some(Ink::Red)));
        }
        let notes = self.notes();
        if !notes.is_empty() {
            lines.extend(wrap(&notes.join(" | "), columns, 2, 2));
        }
        let (word, ink) = verdict(review.verdict);
        let sentence = term(&review.sentence);
        if let Some(and) = self.and_blind() {
            let and = format!("{word}, {and}");
            lines.push(self.options.paint(&and, ink));
            lines.extend(self.label("", &sentence, 3, None));
        } else {
            lines.extend(self.label(word, &sentence, 4, Some(ink)));
        }
        lines.extend(self.watched());
        lines.extend(self.since());
        lines
    }

    /// What to know before reading: still learning, a calendar that is a guess.
    pub(super) fn notes(&self) -> Vec<String> {
        let review = self.review;
        let mut notes = Vec::new();
        if let Some((nth, of)) = review.learning {
            notes.push(format!("learning {nth} of {of}"));
        }
        if !review.calendar_confirmed {
            let (zone, hours) = (term(&review.zone), term(&review.hours));
            notes.push(format!(
                "zone {zone} and hours {hours} are guessed: set or confirm them in [calendar] of dawnwatch.toml"
            ));
        }
        notes
    }

    /// What is said beside another verdict where too little was watched.
    pub(super) fn and_blind(&self) -> Option<String> {
        let review = self.review;
        if !review.blind || review.verdict == Verdict::Blind {
            return None;
        }
        Some(match review.coverage.unwatched.len() {
            0 => "and BLIND: too little was watched".to_owned(),
            1 => "and 1 host not watched".to_owned(),
            n => format!("and {n} hosts not watched"),
        })
    }

    /// `NIGHT N-2026-10-05   Fri 2 Oct 18:00 -> Mon 5 Oct 08:00 CEST, 62 h, sealed 07:00`.
    fn window(&self) -> Vec<String> {
        let line = format!("NIGHT {}   {}", term(&self.review.id), self.window_text());
        if line.chars().count() <= self.options.columns() {
            return vec![line];
        }
        wrap(&line, self.options.columns(), 2, 2)
    }

    /// `Fri 2 Oct 18:00 -> Mon 5 Oct 08:00 CEST, 62 h, sealed 07:00`.
    pub(super) fn window_text(&self) -> String {
        let review = self.review;
        let (start, end) = (self.local(review.start), self.local(review.end));
        let name = |zoned: &jiff::Zoned| zoned.strftime("%Z").to_string();
        // Named twice only where the clock changed in between.
        let start_zone = if name(&start) == name(&end) {
            String::new()
        } else {
            format!(" {}", name(&start))
        };
        let sealed = match review.sealed {
            Some(sealed) => {
                let sealed = self.local(sealed);
                let format = if sealed.date() == end.date() {
                    "sealed %H:%M"
                } else {
                    "sealed %a %-d %b %H:%M"
                };
                sealed.strftime(format).to_string()
            }
            None => self
                .local(review.until)
                .strftime("so far, until %a %H:%M")
                .to_string(),
        };
        format!(
            "{}{start_zone} -> {}, {}, {sealed}",
            start.strftime("%a %-d %b %H:%M"),
            end.strftime("%a %-d %b %H:%M %Z"),
            duration(seconds_between(review.start, review.end)),
        )
    }

    /// As many names as fit into three lines; the rest is counted.
    fn watched(&self) -> Vec<String> {
        let unwatched = self.unwatched();
        let mut named = unwatched.len().min(UNWATCHED_NAMED_MAX);
        loop {
            let text = self.watched_naming(&unwatched, named);
            let lines = self.label("WATCHED", &text, usize::MAX, None);
            if lines.len() <= WATCHED_LINES_MAX || named == 0 {
                return self.label("WATCHED", &text, WATCHED_LINES_MAX, None);
            }
            named -= 1;
        }
    }

    fn watched_naming(&self, unwatched: &[String], named: usize) -> String {
        let coverage = &self.review.coverage;
        let mut text = self.watched_share();
        let mut names: Vec<String> = unwatched[..named].to_vec();
        match unwatched.len() - named {
            0 => {}
            more => names.push(format!("{more} more: dawnwatch review --watched")),
        }
        if !names.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(text, "; not watched: {}", names.join(", "));
        }
        let _ = write!(text, ". {}", self.server_up());
        if coverage.ticks_dropped > 0 {
            let _ = write!(text, " Agents dropped {} samples.", coverage.ticks_dropped);
        }
        text
    }

    /// `98.7 % of 42 hosts`.
    pub(super) fn watched_share(&self) -> String {
        let coverage = &self.review.coverage;
        match coverage.hosts {
            0 => "no host was there to be watched".to_owned(),
            1 => format!("{} of 1 host", percent(coverage.ratio)),
            hosts => format!("{} of {hosts} hosts", percent(coverage.ratio)),
        }
    }

    pub(super) fn server_up(&self) -> String {
        let coverage = &self.review.coverage;
        let (up, window) = (coverage.server_up_seconds, coverage.window_seconds);
        let time = |at| when(at, &self.zone, self.review.until);
        let mut text = if window.saturating_sub(up) < 60 {
            format!("Server up all {}", duration(window))
        } else {
            format!("Server up {} of {}", duration(up), duration(window))
        };
        if let Some(first) = coverage.first_start {
            let _ = write!(text, " since its first start {}", time(first));
        }
        let shown = coverage.jumps.iter().take(JUMPS_NAMED_MAX);
        let each = shown.map(|(at, by)| {
            let sign = if *by < 0 { '-' } else { '+' };
            format!("{sign}{} at {}", duration(by.unsigned_abs()), time(*at))
        });
        let jumps = each.collect::<Vec<_>>().join(", ");
        let more = match coverage.jumps.len().saturating_sub(JUMPS_NAMED_MAX) {
            0 => String::new(),
            1 => " and once more".to_owned(),
            more => format!(" and {more} times more"),
        };
        if !jumps.is_empty() {
            let _ = write!(text, "; server clock jumped {jumps}{more}");
        }
        text.push('.');
        text
    }

    pub(super) fn unwatched(&self) -> Vec<String> {
        let each = self.review.coverage.unwatched.iter().map(|host| {
            let name = cut(&term(&host.name), SUBJECT_COLUMNS_MAX);
            let reason = match host.reason.as_str() {
                "" => String::new(),
                reason => format!(" ({})", cut(&term(reason), 2 * SUBJECT_COLUMNS_MAX)),
            };
            format!("{name} {}{reason}", duration(host.seconds))
        });
        each.collect()
    }

    /// `SINCE 07:00`; with the date where that is a day ago.
    pub(super) fn since_label(&self, sealed: jiff::Timestamp) -> String {
        let day = self.live.at.duration_since(sealed).as_hours() < 24;
        let format = if day { "SINCE %H:%M" } else { "SINCE %-d %b" };
        self.local(sealed).strftime(format).to_string()
    }

    fn since(&self) -> Vec<String> {
        let Some(sealed) = self.review.sealed else {
            return Vec::new();
        };
        let label = self.since_label(sealed);
        if self.live.since.is_empty() {
            return self.label(&label, "nothing new", 1, None);
        }
        let since: Vec<String> = self.live.since.iter().map(|text| term(text)).collect();
        self.label_listed(&label, &since, 3, "dawnwatch incidents")
    }
}

/// Rounded down, so that 100 % is never said of less.
pub(super) fn percent(ratio: f64) -> String {
    if ratio >= 1.0 {
        return "100 %".to_owned();
    }
    let tenths = (ratio * 1000.0 + 1e-9).floor();
    format!("{:.1} %", tenths / 10.0)
}
