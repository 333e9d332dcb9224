//! One incident with its evidence, and why it stands where it stands.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::layout::{cut, wrap};
use super::{Ink, Text, duration, number, seconds_between, severity, sparkline, subject, when};
use crate::api::{Alert, Incident, LogLine, Told, severity_word};
use crate::review::Severity;
use crate::untrusted::term;

/// Alerts drawn; a host on fire has a few dozen, and the JSON has them all.
const ALERTS_MAX: usize = 20;

/// Notifications drawn, the latest of them.
const TOLD_MAX: usize = 20;

/// Log lines drawn, the latest of them: what was said last tells most, and a screen has no room for more.
const LINES_MAX: usize = 10;

/// Rows of the screen that one log line may take: a stack trace in one line would push the rest off it.
const LINE_ROWS_MAX: usize = 4;

/// Draws everything about an incident that somebody needs who was just woken by it.
#[must_use]
pub fn incident(incident: &Incident, zone: &str, at: Timestamp, options: &Text) -> String {
    let mut case = Case::new(incident, zone, at, options);
    case.head();
    case.alerts(false);
    case.lines();
    case.told();
    case.section("WHY", &incident.why);
    case.out
}

/// Draws why an incident stands where it stands: the rules, the bounds and the samples.
#[must_use]
pub fn why(incident: &Incident, zone: &str, at: Timestamp, options: &Text) -> String {
    let mut case = Case::new(incident, zone, at, options);
    case.head();
    case.section("WHY", &incident.why);
    case.alerts(true);
    case.lines();
    case.out
}

struct Case<'a> {
    incident: &'a Incident,
    zone: TimeZone,
    at: Timestamp,
    options: &'a Text,
    out: String,
}

impl Case<'_> {
    fn new<'a>(incident: &'a Incident, zone: &str, at: Timestamp, options: &'a Text) -> Case<'a> {
        Case {
            incident,
            zone: options.zone_of(zone),
            at,
            options,
            out: String::new(),
        }
    }

    fn line(&mut self, text: &str) {
        self.out.push_str(text.trim_end());
        self.out.push('\n');
    }

    fn wrapped(&mut self, indent: usize, text: &str) {
        let columns = self.options.columns().saturating_sub(indent);
        for line in wrap(text, columns, 2, usize::MAX) {
            self.line(&format!("{}{line}", " ".repeat(indent)));
        }
    }

    fn section(&mut self, title: &str, texts: &[String]) {
        self.line(&self.options.paint(title, Ink::Bold));
        if texts.is_empty() {
            self.line(" nothing was recorded");
        }
        for text in texts {
            self.wrapped(1, &term(text));
        }
    }

    fn head(&mut self) {
        let incident = self.incident;
        let ink = match incident.severity {
            Severity::Info => Ink::Bold,
            Severity::Warning => Ink::Yellow,
            Severity::Critical => Ink::Red,
        };
        let state = self
            .options
            .paint(&severity(incident.severity).to_uppercase(), ink);
        let subject = subject(&incident.name, incident.service.as_deref());
        let subject = cut(&subject, self.options.columns().saturating_sub(32));
        self.line(&format!(
            "{} {subject}  {state}, {}",
            term(&incident.id),
            term(&incident.state)
        ));
        let end = incident.until.unwrap_or(self.at);
        let exact = |at: Timestamp| {
            at.to_zoned(self.zone.clone())
                .strftime("%a %-d %b %Y %H:%M:%S %Z")
                .to_string()
        };
        let since = format!(
            "{}, {}",
            exact(incident.since),
            duration(seconds_between(incident.since, end))
        );
        let what = match &incident.turned {
            Some(turned) => format!(
                "{}, since {}; before: {}",
                term(&incident.what),
                exact(turned.at),
                term(&turned.from)
            ),
            None => term(&incident.what),
        };
        let until = incident
            .until
            .map_or_else(|| "still open".to_owned(), exact);
        let owner = incident
            .owner
            .as_deref()
            .map_or_else(|| "nobody".to_owned(), term);
        let taken = incident.taken.as_ref().map_or_else(
            || format!("by nobody: dawnwatch ack {}", term(&incident.id)),
            |(who, at)| format!("by {}, {}", term(who), exact(*at)),
        );
        for (label, text) in [
            ("WHAT", what),
            ("SINCE", since),
            ("UNTIL", until),
            ("CAUSE", term(&incident.cause)),
            ("OWNER", owner),
            ("TAKEN", taken),
        ] {
            // A finding about log lines looks for no cause: what was logged is all that is known.
            if text.is_empty() {
                continue;
            }
            let lines = wrap(&text, self.options.columns().saturating_sub(9), 0, 4);
            for (i, line) in lines.iter().enumerate() {
                self.line(&format!("{:<9}{line}", if i == 0 { label } else { "" }));
            }
        }
    }

    fn alerts(&mut self, samples: bool) {
        self.line(&self.options.paint("ALERTS", Ink::Bold));
        let alerts = &self.incident.alerts;
        if alerts.is_empty() {
            self.line(" none");
        }
        for alert in alerts.iter().take(ALERTS_MAX) {
            self.alert(alert, samples);
        }
        match alerts.len().saturating_sub(ALERTS_MAX) {
            0 => {}
            more => {
                let id = term(&self.incident.id);
                self.line(&format!(" {more} more: dawnwatch show {id} --output json"));
            }
        }
    }

    fn alert(&mut self, alert: &Alert, samples: bool) {
        let time = |at: Timestamp| when(at, &self.zone, self.at);
        let ended = alert
            .until
            .map_or_else(String::new, |until| format!(" until {}", time(until)));
        let fired = alert
            .fired
            .map_or_else(String::new, |fired| format!(", fired {}", time(fired)));
        let late = if alert.late {
            ", found in late data"
        } else {
            ""
        };
        let series = match alert.series.as_str() {
            "" => String::new(),
            series => format!("  {}", term(series)),
        };
        let head = format!(
            "{} ({}, {}) since {}{ended}{fired}{late}{series}",
            term(&alert.rule),
            severity(alert.severity),
            term(&alert.state),
            time(alert.since),
        );
        self.wrapped(1, &head);
        if !alert.why.is_empty() {
            self.wrapped(3, &term(&alert.why));
        }
        let values: Vec<Option<f64>> = alert
            .evidence
            .iter()
            .map(|(_, value)| Some(*value))
            .collect();
        let bounds = format!(
            "now {}, worst {}, bound {}",
            number(alert.observed),
            number(alert.worst),
            number(alert.bound)
        );
        let (Some((first, _)), Some((last, _))) = (alert.evidence.first(), alert.evidence.last())
        else {
            self.wrapped(3, &bounds);
            return;
        };
        let zone = self.zone.clone();
        let clock = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string();
        let line = format!(
            "{}  {}-{}, {bounds}",
            sparkline(&values),
            clock(*first),
            clock(*last)
        );
        self.line(&format!(
            "   {}",
            cut(&line, self.options.columns().saturating_sub(3))
        ));
        if samples {
            let each = alert
                .evidence
                .iter()
                .map(|(at, value)| format!("{} {}", clock(*at), number(*value)));
            let text = each.collect::<Vec<_>>().join(" | ");
            self.wrapped(3, &text);
        }
    }

    /// What was logged around its start; no section where nothing was.
    fn lines(&mut self) {
        let lines = &self.incident.lines;
        if lines.is_empty() {
            return;
        }
        self.line(&self.options.paint("LOGGED", Ink::Bold));
        let earlier = lines.len().saturating_sub(LINES_MAX);
        if earlier > 0 {
            let id = term(&self.incident.id);
            self.line(&format!(
                " {earlier} earlier: dawnwatch show {id} --output json"
            ));
        }
        for line in &lines[earlier..] {
            let text = self.logged(line);
            let columns = self.options.columns().saturating_sub(1);
            for row in wrap(&text, columns, 2, LINE_ROWS_MAX) {
                self.line(&format!(" {row}"));
            }
        }
    }

    fn logged(&self, line: &LogLine) -> String {
        let time = line.time.to_zoned(self.zone.clone());
        let host = if line.name == self.incident.name {
            String::new()
        } else {
            format!("{} ", term(&line.name))
        };
        // Before the text: the end of a long one is not drawn.
        let cut = match line.cut_from {
            0 => String::new(),
            bytes => format!(", cut from {bytes} bytes"),
        };
        format!(
            "{} {host}{} {}{cut}: {}",
            time.strftime("%H:%M:%S"),
            term(&line.source),
            severity_word(line.severity),
            term(&line.text)
        )
    }

    fn told(&mut self) {
        self.line(&self.options.paint("TOLD", Ink::Bold));
        let told = &self.incident.told;
        if told.is_empty() {
            self.line(" nobody");
        }
        let older = told.len().saturating_sub(TOLD_MAX);
        if older > 0 {
            let id = term(&self.incident.id);
            self.line(&format!(
                " {older} earlier: dawnwatch show {id} --output json"
            ));
        }
        for told in &told[older..] {
            let text = self.told_line(told);
            self.wrapped(1, &text);
        }
    }

    fn told_line(&self, told: &Told) -> String {
        let time = |at: Timestamp| when(at, &self.zone, self.at);
        let fate = match told.at {
            Some(at) => format!("{} {}", term(&told.fate), time(at)),
            None => term(&told.fate),
        };
        let answer = match told.answer.as_str() {
            "" => String::new(),
            answer => format!(" ({})", cut(&term(answer), 120)),
        };
        format!(
            "{} via {}, {}: {fate}{answer}",
            term(&told.reason),
            term(&told.channel),
            time(told.decided)
        )
    }
}
