//! `[rules.NAME]`: bounds, times, severity of the built-in rules.

use dawnwatch_engine::config::{Measure, Rule};
use dawnwatch_proto::review::Severity;

use super::mistake::meant;
use super::reader::{Reader, Section};

/// A condition that must hold longer than a day is a trend, which a threshold cannot judge.
const HOLD_SECONDS_MAX: u32 = 86_400;

/// Heartbeats come every 10 s: a host is not silent before two of them are missing.
const SILENT_SECONDS_MIN: f64 = 20.0;

/// A host that may be silent for longer than a day is not watched.
const SILENT_SECONDS_MAX: f64 = 86_400.0;

/// A journal that takes an hour is no journal.
const WAIT_SECONDS_MAX: f64 = 3_600.0;

/// Messages are tried again within the first minute.
const AGE_SECONDS_MIN: f64 = 60.0;

/// Largest count that a rule can wait for: what is over it is never reached within ten minutes.
const COUNT_MAX: f64 = 1_000.0;

/// Below this every machine would be too hot.
const CELSIUS_MIN: f64 = 20.0;

/// Above this no machine works.
const CELSIUS_MAX: f64 = 150.0;
/// Less than twice the usual is usual.
const LOG_TIMES_MIN: f64 = 2.0;

/// More than that never comes: the rule is better turned off.
const LOG_TIMES_MAX: f64 = 1_000.0;

/// How the severities are written.
pub(super) const SEVERITIES: [(&str, Severity); 3] = [
    ("info", Severity::Info),
    ("warning", Severity::Warning),
    ("critical", Severity::Critical),
];

pub(super) fn read(reader: &mut Reader<'_>, section: &Section<'_>, rules: &mut [Rule]) {
    for (name, at) in section.keys() {
        let Some(rule) = rules.iter_mut().find(|rule| rule.name == name) else {
            let names: Vec<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
            let hint = meant(name, &names);
            reader.mistake(at, format!("unknown rule \"{name}\" in [rules]"), hint);
            continue;
        };
        if let Some(section) = reader.section(section, name) {
            one(reader, &section, rule);
        }
    }
}

fn one(reader: &mut Reader<'_>, section: &Section<'_>, rule: &mut Rule) {
    let keys = [
        "bound",
        "clear",
        "hold",
        "clear_hold",
        "severity",
        "enabled",
    ];
    reader.known(section, &keys);
    bounds(reader, section, rule);
    if let Some(seconds) = hold(reader, section, "hold") {
        rule.hold_seconds = seconds;
    }
    if let Some(seconds) = hold(reader, section, "clear_hold") {
        rule.clear_seconds = seconds;
    }
    if let Some(severity) = reader.choice(section, "severity", &SEVERITIES) {
        rule.severity = severity;
    }
    if let Some(enabled) = reader.boolean(section, "enabled") {
        rule.enabled = enabled;
    }
}

fn hold(reader: &mut Reader<'_>, section: &Section<'_>, key: &str) -> Option<u32> {
    let (seconds, at) = reader.span_seconds(section, key)?;
    if seconds > HOLD_SECONDS_MAX {
        reader.mistake(at, format!("{key} must be at most 24h"), None);
        return None;
    }
    Some(seconds)
}

fn bounds(reader: &mut Reader<'_>, section: &Section<'_>, rule: &mut Rule) {
    let room = rule.bound - rule.clear;
    if let Some((bound, at)) = bound_of(reader, section, rule.measure) {
        match allowed(rule.measure, bound) {
            Ok(()) => {
                // The distance at which the rule clears moves along with its bound.
                rule.clear = (bound - room).max(0.0);
                rule.bound = bound;
            }
            Err((why, hint)) => reader.mistake(at, format!("bound = {bound}: {why}"), Some(hint)),
        }
    }
    if let Some((clear, at)) = reader.number(section, "clear") {
        if clears_itself(rule.measure) {
            let text = format!("{} has no \"clear\": it clears by itself", section.title);
            reader.mistake(at, text, Some("leave it out".to_owned()));
        } else if !(0.0..=rule.bound).contains(&clear) {
            let text = format!(
                "clear = {clear} must lie between 0 and bound = {}",
                rule.bound
            );
            reader.mistake(at, text, None);
        } else {
            rule.clear = clear;
        }
    }
}

/// Whether a measure knows only yes and no, or ends by itself.
fn clears_itself(measure: Measure) -> bool {
    matches!(
        measure,
        Measure::Silent
            | Measure::FilesystemReadonly
            | Measure::UnitFailed
            | Measure::ClockUnsynced
            | Measure::NewLogLine
            | Measure::LogRate
            | Measure::LogSeverity
            | Measure::JournalWait
            | Measure::OutboxAge
            | Measure::ServerRestarts
    )
}

/// The bound: a number, or a length of time.
fn bound_of(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    measure: Measure,
) -> Option<(f64, super::reader::At)> {
    let of_time = [Measure::Silent, Measure::JournalWait, Measure::OutboxAge];
    if of_time.contains(&measure) {
        let (seconds, at) = reader.span_seconds(section, "bound")?;
        return Some((f64::from(seconds), at));
    }
    reader.number(section, "bound")
}

/// A share of a whole.
fn share(bound: f64) -> Result<(), (String, String)> {
    if bound > 0.0 && bound <= 1.0 {
        return Ok(());
    }
    let share = if bound > 1.0 && bound <= 100.0 {
        bound / 100.0
    } else {
        0.95
    };
    Err((
        "a share above 0 and up to 1 is wanted".to_owned(),
        format!("write it like {share}"),
    ))
}

/// A number of things.
fn count(bound: f64) -> Result<(), (String, String)> {
    if (1.0..=COUNT_MAX).contains(&bound) {
        return Ok(());
    }
    Err((
        format!("a count from 1 to {COUNT_MAX} is wanted"),
        "write it like 5".to_owned(),
    ))
}

/// The mildest severity of log lines that counts.
fn syslog_severity(bound: f64) -> Result<(), (String, String)> {
    let severities = [0.0, 1.0, 2.0, 3.0, 4.0];
    if severities
        .iter()
        .any(|one: &f64| one.total_cmp(&bound).is_eq())
    {
        return Ok(());
    }
    Err((
        "a syslog severity from 0 (emergency) to 4 (warning) is wanted".to_owned(),
        "the default is 4; 3 leaves warnings out".to_owned(),
    ))
}

/// Whether a bound makes sense for a measure; else why not, and what to write.
fn allowed(measure: Measure, bound: f64) -> Result<(), (String, String)> {
    let within = |from: f64, to: f64, why: String, hint: &str| {
        if (from..=to).contains(&bound) {
            Ok(())
        } else {
            Err((why, hint.to_owned()))
        }
    };
    match measure {
        Measure::FilesystemUsed
        | Measure::InodesUsed
        | Measure::MemoryUsed
        | Measure::SwapUsed
        | Measure::CpuBusy
        | Measure::PingLoss
        | Measure::CpuPressure
        | Measure::MemoryPressure
        | Measure::IoPressure
        | Measure::ConntrackUsed
        | Measure::FileHandlesUsed
        | Measure::DataDirectoryUsed
        | Measure::TemperatureOfCritical => share(bound),
        Measure::JournalWait => {
            let why = "1s to 1h are possible".to_owned();
            within(1.0, WAIT_SECONDS_MAX, why, "the default is \"2s\"")
        }
        Measure::OutboxAge => {
            let why = "1m to 24h are possible".to_owned();
            within(
                AGE_SECONDS_MIN,
                SILENT_SECONDS_MAX,
                why,
                "the default is \"15m\"",
            )
        }
        Measure::UnitRestarts
        | Measure::OomKills
        | Measure::RaidMissing
        | Measure::ServerRestarts => count(bound),
        Measure::Temperature => {
            let why = format!("degrees Celsius from {CELSIUS_MIN} to {CELSIUS_MAX} are wanted");
            within(CELSIUS_MIN, CELSIUS_MAX, why, "the default is 90")
        }
        Measure::FilesystemReadonly
        | Measure::TargetDown
        | Measure::UnitFailed
        | Measure::ClockUnsynced => Err((
            "this rule knows only yes and no".to_owned(),
            "leave it out; enabled = false turns the rule off".to_owned(),
        )),
        Measure::NewLogLine => syslog_severity(bound),
        Measure::LogRate => {
            let why = "2 to 1000 times the usual are possible".to_owned();
            within(LOG_TIMES_MIN, LOG_TIMES_MAX, why, "the default is 4")
        }
        Measure::LogSeverity => Err((
            "this rule has no bound: it is about errors that were none".to_owned(),
            "leave it out; enabled = false turns the rule off".to_owned(),
        )),
        Measure::Silent => {
            let why = "20s to 24h are possible".to_owned();
            within(
                SILENT_SECONDS_MIN,
                SILENT_SECONDS_MAX,
                why,
                "the default is \"30s\"",
            )
        }
    }
}
