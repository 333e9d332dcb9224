//! What stands before the words of a log line: times, a host's name, the program and its process. It differs from line to
//! line without meaning anything, so it is taken off before lines are compared.
//!
//! General shapes only: a priority in angle brackets, a time in any of the usual forms (brackets around it or not), and after
//! a time `host program[pid]:` as syslog writes it. What is not surely a header stays.

/// A line, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Header<'a> {
    /// What the line says.
    pub(crate) rest: &'a str,
    /// Program, where syslog's header names one.
    pub(crate) program: Option<&'a str>,
    /// Its process, where it is named.
    pub(crate) pid: Option<u32>,
    /// Severity of a priority in angle brackets.
    pub(crate) severity: Option<u8>,
}

/// Words that stand after a time and are no host's name.
const LEVELS: [&str; 14] = [
    "TRACE", "DEBUG", "INFO", "NOTICE", "WARN", "WARNING", "ERR", "ERROR", "CRIT", "CRITICAL",
    "ALERT", "EMERG", "FATAL", "PANIC",
];

/// Takes the header off a line.
pub(crate) fn strip(line: &str) -> Header<'_> {
    let mut header = Header {
        rest: line,
        ..Header::default()
    };
    if let Some((severity, rest)) = priority(line) {
        header.severity = Some(severity);
        header.rest = rest;
    }
    let Some(rest) = time(header.rest) else {
        return header;
    };
    header.rest = rest.trim_start_matches([' ', '\t', '|', ',', ':', '-']);
    if let Some((program, pid, rest)) = program(header.rest) {
        header.program = Some(program);
        header.pid = pid;
        header.rest = rest;
    }
    header
}

/// `<34>`, or `<34>1 ` as RFC 5424 has it.
fn priority(line: &str) -> Option<(u8, &str)> {
    let (number, rest) = line.strip_prefix('<')?.split_once('>')?;
    if number.len() > 3 {
        return None;
    }
    let number: u8 = number.parse().ok().filter(|n| *n < 192)?;
    Some((number & 7, rest.strip_prefix("1 ").unwrap_or(rest)))
}

/// The line behind a time it begins with. A time is a run of date-like words that holds a clock's `h:m`, or a date
/// followed by one; numbers alone are none.
fn time(line: &str) -> Option<&str> {
    if let Some(inside) = line.strip_prefix('[') {
        let (inner, rest) = inside.split_once(']')?;
        let left = time_words(inner)?;
        return left.trim().is_empty().then_some(rest);
    }
    time_words(line)
}

fn time_words(line: &str) -> Option<&str> {
    let (mut rest, mut clock, mut named) = (line, false, false);
    // Weekday, month, day, clock, year, zone: no form has more words.
    for _ in 0..6 {
        let trimmed = rest.trim_start_matches(' ');
        let end = trimmed.find([' ', '|', '\t', ']']).unwrap_or(trimmed.len());
        let word = &trimmed[..end];
        if is_clock(word) && !clock {
            clock = true;
        } else if clock {
            if !(is_zone(word) || (named && is_year(word))) {
                break;
            }
        } else if !is_date(word) {
            break;
        }
        named |= word.starts_with(|c: char| c.is_ascii_alphabetic());
        rest = &trimmed[end..];
        if rest.starts_with(['|', '\t']) {
            break;
        }
    }
    clock.then_some(rest)
}

fn is_clock(word: &str) -> bool {
    // A clock may stand behind a date in the same word: 2026-11-22T02:48:15.123Z, 20171223-22:15:29:606.
    let from = word.find(['T', '_']).map_or(0, |at| at + 1);
    let tail = match word[from..].rfind('-') {
        Some(at) if word[from..].find(':').is_some_and(|c| c > at) => &word[from + at + 1..],
        _ => &word[from..],
    };
    let tail = tail.trim_end_matches(',');
    let mut colons = 0;
    for byte in tail.bytes() {
        match byte {
            b':' => colons += 1,
            b'0'..=b'9' | b'.' | b',' | b'Z' | b'+' | b'-' => {}
            _ => return false,
        }
    }
    let date_ok = word[..from]
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'/' | b'.' | b'T' | b'_'));
    (1..=4).contains(&colons)
        && tail.starts_with(|c: char| c.is_ascii_digit())
        && tail.len() >= 4
        && date_ok
}

fn is_date(word: &str) -> bool {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    const DAYS: &str = "MonTueWedThuFriSatSun";
    let name = word.trim_end_matches(',');
    let named = |list: &str| name.len() == 3 && list.find(name).is_some_and(|at| at % 3 == 0);
    if named(MONTHS) || named(DAYS) {
        return true;
    }
    let digits = name.bytes().filter(u8::is_ascii_digit).count();
    let marks = name.len() - digits;
    let plain = name
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'/' | b'.'));
    plain
        && ((marks == 0 && (1..=2).contains(&digits)) || ((1..=2).contains(&marks) && digits >= 3))
}

fn is_year(word: &str) -> bool {
    word.len() == 4 && word.starts_with(['1', '2']) && word.bytes().all(|b| b.is_ascii_digit())
}

fn is_zone(word: &str) -> bool {
    let digits = || word[1..].bytes().all(|b| b.is_ascii_digit() || b == b':');
    matches!(word, "UTC" | "GMT" | "CET" | "CEST" | "Z" | "AM" | "PM")
        || ((5..=6).contains(&word.len()) && word.starts_with(['+', '-']) && digits())
}

/// `host program[pid]: rest` and `host program: rest`.
fn program(text: &str) -> Option<(&str, Option<u32>, &str)> {
    let (host, rest) = text.split_once(' ')?;
    let host_like = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
    if host.is_empty() || !host.chars().all(host_like) || host.ends_with(':') {
        return None;
    }
    if LEVELS.iter().any(|level| host.eq_ignore_ascii_case(level)) {
        return None;
    }
    let end = rest.find(": ").or_else(|| {
        let end = rest.len().checked_sub(1)?;
        rest.ends_with(':').then_some(end)
    })?;
    let tag = &rest[..end];
    let said = rest[end + 1..].trim_start_matches(' ');
    let (name, pid) = match tag.split_once('[') {
        Some((name, pid)) => (name, Some(pid.strip_suffix(']')?.parse().ok()?)),
        None => (tag, None),
    };
    let name_like = |c: char| !c.is_whitespace() && !matches!(c, '"' | '[' | ']' | '{' | '}' | '=');
    if name.is_empty() || name.len() > 48 || !name.chars().all(name_like) {
        return None;
    }
    Some((name, pid, said))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    #[allow(clippy::too_many_lines, reason = "a table")]
    fn headers_are_known_by_their_general_shape() {
        for (line, program, pid, rest) in [
            (
                "Jun 14 15:16:01 combo sshd(pam_unix)[19939]: check pass; user unknown",
                Some("sshd(pam_unix)"),
                Some(19939),
                "check pass; user unknown",
            ),
            (
                "Nov  2 02:48:15 web01 kernel: oom",
                Some("kernel"),
                None,
                "oom",
            ),
            (
                "2026-11-22T02:48:15.123456+00:00 web01 cron[7]: (root) CMD (x)",
                Some("cron"),
                Some(7),
                "(root) CMD (x)",
            ),
            (
                "[Sun Dec 04 04:47:44 2005] [error] mod_jk child",
                None,
                None,
                "[error] mod_jk child",
            ),
            (
                "[Sun Dec 04 04:47:44.123456 2005] [core:error] x",
                None,
                None,
                "[core:error] x",
            ),
            (
                "2026/11/22 10:00:00 [error] 12#12: *3 open() failed",
                None,
                None,
                "[error] 12#12: *3 open() failed",
            ),
            (
                "17/06/09 20:10:40 INFO executor.Backend: Registered",
                None,
                None,
                "INFO executor.Backend: Registered",
            ),
            (
                "2026-11-22 10:00:00,123 ERROR a.b: c",
                None,
                None,
                "ERROR a.b: c",
            ),
            (
                "2026-11-22T10:00:00Z  INFO app: started",
                None,
                None,
                "INFO app: started",
            ),
            (
                "2026-11-22 10:00:00.123 UTC [33] LOG:  checkpoint starting",
                None,
                None,
                "[33] LOG:  checkpoint starting",
            ),
            (
                "20171223-22:15:29:606|Step_LSC|30002312|onStand 3579",
                None,
                None,
                "Step_LSC|30002312|onStand 3579",
            ),
            (
                "03-17 16:13:38.811  1702  2395 D Window: x",
                None,
                None,
                "1702  2395 D Window: x",
            ),
            (
                "<34>Oct 11 22:14:15 mymachine su: failed",
                Some("su"),
                None,
                "failed",
            ),
            (
                "no header here: at all",
                None,
                None,
                "no header here: at all",
            ),
            ("12 apples and 3 pears", None, None, "12 apples and 3 pears"),
            ("", None, None, ""),
            ("[instance: 3] up", None, None, "[instance: 3] up"),
            (
                "10.0.0.1 - - [22/Nov/2026:10:00:00 +0000] \"GET /\" 200",
                None,
                None,
                "10.0.0.1 - - [22/Nov/2026:10:00:00 +0000] \"GET /\" 200",
            ),
        ] {
            let found = strip(line);
            assert_eq!(
                (found.program, found.pid, found.rest),
                (program, pid, rest),
                "{line}"
            );
        }
        assert_eq!(strip("<34>Oct 11 22:14:15 m su: x").severity, Some(2));
        assert_eq!(strip("<192>x").severity, None);
    }

    proptest! {
        #[test]
        fn nothing_panics_and_the_rest_is_an_end_of_the_line(line in "\\PC{0,60}|[0-9:\\-\\[\\] T<>a-z.]{0,60}") {
            prop_assert!(line.ends_with(strip(&line).rest));
        }
    }
}
