//! Measures in words: what is wrong, and a rule's condition.

use dawnwatch_proto::probe::DOWN_PROBES;

use super::absence::seconds_as_ms;
use super::growth::WINDOW_MS;
use super::novelty;
use super::rate::FLOOR;
use super::reach::NEVER_MS;
use crate::config::{Measure, Rule};
use crate::own::crashes::WITHIN_MS;
use crate::own::vitals::{self, FULL_DAYS};
use crate::words;

/// What is wrong, in a few words: `/data 96.2 % full`.
pub(crate) fn phrase(measure: Measure, subject: &str, value: f64) -> String {
    let share = words::percent(value);
    match measure {
        Measure::FilesystemUsed => format!("{subject} {share} full"),
        Measure::InodesUsed => format!("{subject} {share} of inodes used"),
        Measure::FilesystemReadonly => format!("{subject} became read-only"),
        Measure::MemoryUsed => format!("memory {share} used"),
        Measure::SwapUsed => format!("swap {share} used"),
        Measure::CpuBusy => format!("CPU {share} busy"),
        Measure::CpuPressure => format!("tasks wait for CPU {share} of the time"),
        Measure::MemoryPressure => format!("everything waits for memory {share} of the time"),
        Measure::IoPressure => format!("everything waits for I/O {share} of the time"),
        Measure::UnitFailed => format!("unit {subject} failed"),
        Measure::UnitRestarts => {
            let times = many(value, "time");
            format!("unit {subject} restarted {times} in {}", window())
        }
        Measure::OomKills => {
            let killed = format!("out of memory: {} killed", many(value, "process"));
            if subject.is_empty() {
                killed
            } else {
                format!("unit {subject} {killed}")
            }
        }
        Measure::Temperature => format!("{subject} is {value:.0} C hot"),
        Measure::TemperatureOfCritical => {
            format!("{subject} is at {share} of its critical temperature")
        }
        Measure::ClockUnsynced => "clock is not synchronised".to_owned(),
        Measure::RaidMissing => format!("RAID {subject} lacks {}", many(value, "disk")),
        Measure::ConntrackUsed => format!("table of tracked connections {share} full"),
        Measure::FileHandlesUsed => format!("{share} of all open files used"),
        Measure::Silent => "silent".to_owned(),
        Measure::NewLogLine => "new log line".to_owned(),
        Measure::LogRate => "log lines far over the usual".to_owned(),
        Measure::LogSeverity => "log line got worse".to_owned(),
        Measure::PingLoss => format!("loses {share} of pings"),
        Measure::TargetDown => "does not answer".to_owned(),
        Measure::JournalWait => "journal is slow".to_owned(),
        Measure::OutboxAge => "messages do not leave the server".to_owned(),
        Measure::DataDirectoryUsed => format!("data directory {share} full"),
        Measure::ServerRestarts => "the server does not stay up".to_owned(),
    }
}

/// The bound that a reason names: ` (bound 95 %)`; nothing where the rule knows only yes and no.
pub(crate) fn bound(rule: &Rule) -> String {
    let number = format!("{:.0}", rule.bound);
    let bound = match rule.measure {
        Measure::FilesystemReadonly
        | Measure::UnitFailed
        | Measure::ClockUnsynced
        | Measure::OomKills
        | Measure::RaidMissing
        | Measure::NewLogLine
        | Measure::LogRate
        | Measure::LogSeverity => return String::new(),
        Measure::UnitRestarts | Measure::ServerRestarts => number,
        Measure::Temperature => format!("{number} C"),
        Measure::FilesystemUsed
        | Measure::InodesUsed
        | Measure::MemoryUsed
        | Measure::SwapUsed
        | Measure::CpuBusy
        | Measure::CpuPressure
        | Measure::MemoryPressure
        | Measure::IoPressure
        | Measure::TemperatureOfCritical
        | Measure::ConntrackUsed
        | Measure::FileHandlesUsed
        | Measure::Silent
        | Measure::PingLoss
        | Measure::TargetDown
        | Measure::DataDirectoryUsed => words::percent(rule.bound),
        Measure::JournalWait | Measure::OutboxAge => seconds(rule.bound),
    };
    format!(" (bound {bound})")
}

/// A rule's condition, as the table of rules shows it.
pub(crate) fn condition(rule: &Rule) -> String {
    if let Some(whole) = whole_condition(rule) {
        return whole;
    }
    let bound = words::percent(rule.bound);
    let number = format!("{:.0}", rule.bound);
    let what = match rule.measure {
        Measure::FilesystemUsed => format!("a file system {bound} full or more"),
        Measure::InodesUsed => format!("{bound} of a file system's inodes used or more"),
        Measure::FilesystemReadonly => "a file system became read-only".to_owned(),
        Measure::MemoryUsed => format!("memory {bound} used or more"),
        Measure::SwapUsed => format!("swap {bound} used or more"),
        Measure::CpuBusy => format!("CPU {bound} busy or more"),
        Measure::CpuPressure => format!("tasks wait for CPU {bound} of the time or more"),
        Measure::MemoryPressure => {
            format!("everything waits for memory {bound} of the time or more")
        }
        Measure::IoPressure => format!("everything waits for I/O {bound} of the time or more"),
        Measure::UnitFailed => "a systemd unit failed".to_owned(),
        Measure::Temperature => format!("a sensor at {number} C or more"),
        Measure::TemperatureOfCritical => {
            format!("a sensor at {bound} of its critical temperature or more, or its own alarm")
        }
        Measure::ClockUnsynced => "a host's clock is not synchronised".to_owned(),
        Measure::RaidMissing => {
            format!("a RAID array lacks {} or more", many(rule.bound, "disk"))
        }
        Measure::ConntrackUsed => format!("the table of tracked connections {bound} full or more"),
        Measure::FileHandlesUsed => format!("{bound} of a host's open files used or more"),
        Measure::UnitRestarts
        | Measure::OomKills
        | Measure::Silent
        | Measure::NewLogLine
        | Measure::LogRate
        | Measure::LogSeverity
        | Measure::TargetDown
        | Measure::PingLoss
        | Measure::OutboxAge
        | Measure::ServerRestarts
        | Measure::DataDirectoryUsed => String::new(),
        Measure::JournalWait => {
            let long = seconds(rule.bound);
            format!("what comes in takes the server over {long} to make durable,")
        }
    };
    if rule.hold_seconds == 0 {
        return what;
    }
    let hold = words::duration(i64::from(rule.hold_seconds) * 1_000);
    format!("{what} for {hold}")
}

/// Conditions that have their time in their words.
fn whole_condition(rule: &Rule) -> Option<String> {
    let bound = words::percent(rule.bound);
    let number = format!("{:.0}", rule.bound);
    let hold = words::duration(i64::from(rule.hold_seconds) * 1_000);
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "all others are told by `condition`, which names each"
    )]
    Some(match rule.measure {
        Measure::UnitRestarts => format!(
            "a systemd unit restarted {number} times or more in {}",
            window()
        ),
        Measure::OomKills => format!(
            "{number} or more processes killed for lack of memory in {}, on a host or in a unit",
            window()
        ),
        Measure::Silent => format!(
            "nothing heard for {:.0} s, and no goodbye",
            rule.bound.max(0.0)
        ),
        Measure::NewLogLine => format!(
            "a log line of severity {} or worse, of a kind that no host wrote in 90 days; error or worse while learning",
            novelty::mildest(rule)
        ),
        Measure::LogRate => format!(
            "log lines of one kind over {number} times the usual of the hour, and {FLOOR} a minute, for {hold}"
        ),
        Measure::LogSeverity => {
            "a kind of log line that was notice or milder comes as an error or worse".to_owned()
        }
        Measure::TargetDown => {
            format!(
                "{DOWN_PROBES} pings in a row without an answer where answers came before, or a target that never answered for {}",
                words::duration(NEVER_MS)
            )
        }
        Measure::PingLoss => {
            format!("{bound} of the pings of the last minutes lost, or far more than usual")
        }
        Measure::OutboxAge => {
            format!(
                "a message waits over {} to be delivered",
                seconds(rule.bound)
            )
        }
        Measure::ServerRestarts => format!(
            "the server started {number} times or more within {}, each time after a stop that was not clean",
            words::duration(WITHIN_MS)
        ),
        Measure::DataDirectoryUsed => {
            let (warning, critical) = vitals::free(rule);
            format!(
                "the data directory is full within {FULL_DAYS:.0} d at its present growth, or less than {} of it is free; under {} critical",
                words::percent(warning),
                words::percent(critical)
            )
        }
        _ => return None,
    })
}

/// A length of time that a rule has in seconds.
pub(crate) fn seconds(seconds: f64) -> String {
    let ms = seconds_as_ms(seconds);
    words::duration(i64::try_from(ms).unwrap_or(i64::MAX))
}

fn window() -> String {
    words::duration(WINDOW_MS)
}

/// A count of things, from a value: `1 disk`, `2 processes`.
fn many(value: f64, noun: &str) -> String {
    let end = match noun {
        _ if (value - 1.0).abs() < 0.5 => "",
        "process" => "es",
        _ => "s",
    };
    format!("{value:.0} {noun}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_understand_what_is_wrong() {
        for (measure, subject, value, want) in [
            (
                Measure::UnitFailed,
                "nginx.service",
                1.0,
                "unit nginx.service failed",
            ),
            (
                Measure::UnitRestarts,
                "a.service",
                7.0,
                "unit a.service restarted 7 times in 10 m",
            ),
            (
                Measure::OomKills,
                "",
                1.0,
                "out of memory: 1 process killed",
            ),
            (
                Measure::OomKills,
                "a.service",
                2.0,
                "unit a.service out of memory: 2 processes killed",
            ),
            (
                Measure::Temperature,
                "cpu temp1",
                93.4,
                "cpu temp1 is 93 C hot",
            ),
            (Measure::RaidMissing, "md0", 1.0, "RAID md0 lacks 1 disk"),
            (Measure::RaidMissing, "md0", 2.0, "RAID md0 lacks 2 disks"),
        ] {
            assert_eq!(phrase(measure, subject, value), want);
        }
    }
}
