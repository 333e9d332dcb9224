//! The one sentence of a review: what a boss reads who reads nothing else. Fixed templates, no adjectives.

use dawnwatch_proto::review::text::duration;
use dawnwatch_proto::review::{Coverage, Row, Severity};
use jiff::tz::TimeZone;

use crate::coverage;

/// Longest `what` in the sentence, in characters: a person who reads one sentence reads a short one.
const SENTENCE_WHAT_MAX: usize = 60;

/// Things named one by one in the sentence; more are counted.
const SENTENCE_NAMED_MAX: usize = 2;

/// What the sentence is made of.
pub(super) struct Telling<'a> {
    pub(super) critical: &'a [Row],
    pub(super) today: &'a [Row],
    pub(super) healed: &'a [Row],
    pub(super) coverage: &'a Coverage,
    pub(super) blind: bool,
    pub(super) zone: &'a TimeZone,
}

pub(super) fn sentence(telling: &Telling<'_>) -> String {
    let (critical, today) = (telling.critical, telling.today);
    if telling.coverage.hosts == 0 && critical.is_empty() {
        return "No host was there to be watched: nothing can be said about this night.".to_owned();
    }
    let mut parts = Vec::new();
    if !critical.is_empty() {
        let verb = format!("cannot wait: {}", named(critical, telling.zone));
        parts.push(things(critical.len(), &verb));
        match (today.len(), telling.blind) {
            (0, true) => {}
            (0, false) => parts.push("All else worked.".to_owned()),
            (n, _) => parts.push(format!("{} more {} you today.", number(n), needs(n))),
        }
    } else if !today.is_empty() {
        let verb = format!(
            "{} you today: {}",
            needs(today.len()),
            named(today, telling.zone)
        );
        parts.push(things(today.len(), &verb));
    }
    let loud = !parts.is_empty();
    if telling.blind {
        parts.push(blind(telling.coverage, loud));
    } else if !loud {
        parts.push(quiet(telling.coverage));
    }
    let healed = telling
        .healed
        .iter()
        .filter(|row| row.severity == Severity::Critical)
        .count();
    if healed > 0 {
        let first = subject(&telling.healed[0]);
        parts.push(match healed {
            1 => format!("One critical fault healed by itself: {first}."),
            n => format!(
                "{} critical faults healed by themselves, first {first}.",
                number(n)
            ),
        });
    }
    parts.join(" ")
}

fn quiet(coverage: &Coverage) -> String {
    let hosts = coverage.hosts;
    let gaps = coverage.unwatched.len();
    if gaps > 0 {
        return format!(
            "Nothing needs you; {gaps} of {hosts} hosts went unwatched for a short while."
        );
    }
    let watched = match (hosts, coverage.joined) {
        (1, 0) => "the one host was watched all night".to_owned(),
        (1, _) => "the one host was watched since it joined".to_owned(),
        (_, 0) => format!("{hosts} of {hosts} hosts were watched all night"),
        (_, joined) if joined == hosts => {
            format!("{hosts} of {hosts} hosts were watched since they joined")
        }
        (_, 1) => {
            format!("{hosts} of {hosts} hosts were watched all night, one of them since it joined")
        }
        (_, joined) => format!(
            "{hosts} of {hosts} hosts were watched all night, {joined} of them since they joined"
        ),
    };
    let jumped = match coverage.jumps.as_slice() {
        [] => String::new(),
        [(_, by)] => format!(
            "; the server's clock jumped {} by {}",
            if *by < 0 { "back" } else { "ahead" },
            duration(by.unsigned_abs())
        ),
        jumps => format!("; the server's clock jumped {} times", jumps.len()),
    };
    format!("Nothing needs you: {watched}{jumped}.")
}

fn blind(coverage: &Coverage, loud: bool) -> String {
    let (hosts, gaps) = (coverage.hosts, coverage.unwatched.len());
    let down = coverage
        .window_seconds
        .saturating_sub(coverage.server_up_seconds);
    let were = if gaps == 1 { "was" } else { "were" };
    let what = if gaps > 0 {
        format!("{gaps} of {hosts} hosts {were} not watched")
    } else if down >= coverage::LISTED_SECONDS_MIN {
        format!(
            "nothing was watched for {} while the monitor itself was down",
            duration(down)
        )
    } else {
        "too little was watched".to_owned()
    };
    if loud {
        let mut what = what;
        if let Some(first) = what.get(..1).map(str::to_uppercase) {
            what.replace_range(..1, &first);
        }
        format!("{what}: there may be more.")
    } else {
        format!("Nothing needs anybody, but {what}: we cannot call the night quiet.")
    }
}

fn things(count: usize, rest: &str) -> String {
    let number = number(count);
    let noun = if count == 1 { "thing" } else { "things" };
    format!("{number} {noun} {rest}.")
}

/// The first rows by name; the rest is counted by the number before.
fn named(rows: &[Row], zone: &TimeZone) -> String {
    let name = |row: &Row| {
        let held = row.turned.as_ref().map_or(row.since, |turned| turned.at);
        let since = held.to_zoned(zone.clone()).strftime("%A %H:%M").to_string();
        format!("{}, {} since {since}", subject(row), short(&row.what))
    };
    if rows.len() <= SENTENCE_NAMED_MAX {
        rows.iter().map(name).collect::<Vec<_>>().join("; ")
    } else {
        format!("first {}", rows.first().map(name).unwrap_or_default())
    }
}

fn subject(row: &Row) -> String {
    match &row.service {
        Some(service) => format!("{service} ({})", row.subject),
        None => row.subject.clone(),
    }
}

/// What happened, up to its first semicolon and bounded.
fn short(what: &str) -> String {
    let what = what.split(';').next().unwrap_or(what).trim_end();
    if what.chars().count() <= SENTENCE_WHAT_MAX {
        return what.to_owned();
    }
    let mut cut: String = what.chars().take(SENTENCE_WHAT_MAX - 1).collect();
    cut.push('…');
    cut
}

fn number(count: usize) -> String {
    const WORDS: [&str; 13] = [
        "No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten",
        "Eleven", "Twelve",
    ];
    WORDS
        .get(count)
        .map_or_else(|| count.to_string(), |word| (*word).to_owned())
}

fn needs(count: usize) -> &'static str {
    if count == 1 { "needs" } else { "need" }
}
