//! Log lines and their shapes, as the API hands them out.
//!
//! All text in here was written by others: `untrusted` or a template engine's escaping stands between it and any reader.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::HostId;

/// A whole log line, redacted on its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When it was read, by the server's clock.
    pub time: Timestamp,
    /// The host that wrote it.
    pub host: HostId,
    /// The host's name.
    pub name: String,
    /// Syslog severity, 0 emergency to 7 debug.
    pub severity: u8,
    /// A unit, a syslog identifier or a file.
    pub source: String,
    /// The line.
    pub text: String,
    /// Bytes of the line as it was, where it was cut; else 0.
    #[serde(default)]
    pub cut_from: u32,
}

/// Log lines of a span, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logs {
    /// Zone to show times in.
    pub zone: String,
    /// The lines: the latest, where there are more than were asked for.
    pub lines: Vec<LogLine>,
    /// There are earlier lines that fit as well.
    pub more: bool,
    /// Lines of the span that hosts did not send whole, over their bounds: counted, not kept.
    pub cut: u64,
    /// What could not be read of the history, in words.
    #[serde(default)]
    pub damaged: Vec<String>,
}

/// The shape of log lines, over all hosts that know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogTemplate {
    /// Its text, with `<*>`, `<ip>`, `<num>` and the like where lines differ.
    pub text: String,
    /// Where it was met first.
    pub source: String,
    /// Syslog severity, 0 emergency to 7 debug: the worst seen.
    pub severity: u8,
    /// The first line of it.
    pub example: String,
    /// When it was met first.
    pub first: Timestamp,
    /// When it came last.
    pub last: Timestamp,
    /// Lines of this shape since it was met first.
    pub lines: u64,
    /// Hosts that have it.
    pub hosts: u32,
    /// Some of them by name.
    pub names: Vec<String>,
    /// The finding that is open about it.
    pub finding: Option<String>,
}

/// Shapes of log lines, those that came last first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogTemplates {
    /// Zone to show times in.
    pub zone: String,
    /// The shapes.
    pub templates: Vec<LogTemplate>,
    /// Shapes that fit as well and are not among them.
    pub more: u64,
    /// Shapes that were met and not remembered, over the bounds of the server.
    pub dropped: u64,
}

/// The word for a syslog severity; what is no severity is the mildest.
#[must_use]
pub fn severity_word(severity: u8) -> &'static str {
    match severity {
        0 => "emergency",
        1 => "alert",
        2 => "critical",
        3 => "error",
        4 => "warning",
        5 => "notice",
        6 => "info",
        7.. => "debug",
    }
}

/// The syslog severity of a word or its usual short form.
#[must_use]
pub fn severity_named(word: &str) -> Option<u8> {
    Some(match word.to_ascii_lowercase().as_str() {
        "0" | "emergency" | "emerg" | "panic" => 0,
        "1" | "alert" => 1,
        "2" | "critical" | "crit" => 2,
        "3" | "error" | "err" => 3,
        "4" | "warning" | "warn" => 4,
        "5" | "notice" => 5,
        "6" | "info" => 6,
        "7" | "debug" => 7,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_have_names_both_ways() {
        for severity in 0..8 {
            let word = severity_word(severity);
            assert_eq!(severity_named(word), Some(severity), "{word}");
            assert_eq!(severity_named(&severity.to_string()), Some(severity));
        }
        assert_eq!(severity_named("Err"), Some(3));
        assert_eq!(severity_named("loud"), None);
    }
}
