//! What people set. The server reads `dawnwatch.toml`, checks it and hands it over as an input, so that a replay judges
//! by the rules of then.

use std::collections::BTreeMap;

use dawnwatch_proto::review::{Importance, Severity};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// Everything the engine judges by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Working hours, holidays, zone.
    pub calendar: Calendar,
    /// Threshold and absence rules, in the order they are shown.
    pub rules: Vec<Rule>,
    /// Channels and what goes to each.
    pub channels: Vec<Channel>,
    /// Facts about hosts, by glob over their name; the last match wins for each fact.
    pub hosts: Vec<HostFacts>,
    /// What is watched without an agent, by ping.
    pub targets: Vec<Target>,
}

/// Something that is pinged by agents and has none itself: a printer, a switch, a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// What people call it.
    pub name: String,
    /// IPv4 or IPv6 address, or a name that the pinging host resolves.
    pub address: String,
    /// Glob over the names of the hosts that ping it; none: the server's pinger.
    pub from: Option<String>,
    /// Port to connect to where no ping is permitted.
    pub tcp_port: Option<u16>,
    /// How bad it is when it does not answer.
    pub severity: Severity,
}

/// When people are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calendar {
    /// IANA name.
    pub zone: String,
    /// Whether a person set or confirmed zone and hours.
    pub confirmed: bool,
    /// Working spans of each weekday, Monday first, in minutes after local midnight; an end may pass 1,440 and so cross
    /// midnight. Half-open. No spans at all on a day: closed.
    pub weekdays: [Vec<(u16, u16)>; 7],
    /// Closed days.
    pub holidays: Vec<Date>,
    /// The review is sealed this many minutes before opening.
    pub seal_before_minutes: u16,
}

impl Default for Calendar {
    fn default() -> Calendar {
        let day = vec![(8 * 60, 18 * 60)];
        let weekdays = [
            day.clone(),
            day.clone(),
            day.clone(),
            day.clone(),
            day,
            Vec::new(),
            Vec::new(),
        ];
        Calendar {
            zone: "UTC".to_owned(),
            confirmed: false,
            weekdays,
            holidays: Vec::new(),
            seal_before_minutes: 60,
        }
    }
}

/// One rule of the table "condition, severity, wakes whom".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name, such as `disk_full`.
    pub name: String,
    /// What is measured.
    pub measure: Measure,
    /// Fires at or beyond this value (below it for measures that run out).
    pub bound: f64,
    /// Clears at or within this value: hysteresis.
    pub clear: f64,
    /// How long the condition must hold, seconds of `CLOCK_BOOTTIME` or of sample time.
    pub hold_seconds: u32,
    /// How long it must be clear.
    pub clear_seconds: u32,
    /// How bad it is.
    pub severity: Severity,
    /// Off rules stay in the table.
    pub enabled: bool,
}

/// What a rule measures, each a pure function of one host's ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Used share of a filesystem's bytes, 0 to 1, for each mount point; fires at or above.
    FilesystemUsed,
    /// Used share of a filesystem's inodes.
    InodesUsed,
    /// A filesystem that was writable is read-only: 1.
    FilesystemReadonly,
    /// 1 - MemAvailable / MemTotal.
    MemoryUsed,
    /// Used share of swap.
    SwapUsed,
    /// Share of all CPUs that is neither idle nor iowait.
    CpuBusy,
    /// Share of time that some task waited for CPU (PSI).
    CpuPressure,
    /// Share of time that all tasks waited for memory at once (PSI full).
    MemoryPressure,
    /// Share of time that all tasks waited for I/O at once (PSI full).
    IoPressure,
    /// Seconds since the host was last heard of, without a goodbye.
    Silent,
    /// Share of the pings to a target that had no answer, over the last minutes.
    PingLoss,
    /// A target that answered before does not any more: 1.
    TargetDown,
    /// A systemd unit is in the state "failed": 1, for each unit that agents show.
    UnitFailed,
    /// How often a systemd unit was restarted by systemd within ten minutes.
    UnitRestarts,
    /// Processes killed for lack of memory within ten minutes, on the host and in each unit.
    OomKills,
    /// Degrees Celsius, for each sensor.
    Temperature,
    /// Share of a sensor's critical temperature; at least 1 while the hardware raises its alarm.
    TemperatureOfCritical,
    /// The kernel's clock is not disciplined by a time server: 1.
    ClockUnsynced,
    /// Disks that a RAID array lacks.
    RaidMissing,
    /// Used share of the table of tracked connections.
    ConntrackUsed,
    /// Used share of the file handles of the whole host.
    FileHandlesUsed,
    /// A shape of log lines that nobody saw in 90 days; the bound is the mildest syslog severity that counts.
    NewLogLine,
    /// Lines of one shape a minute, in multiples of what is usual for the host at this hour.
    LogRate,
    /// A shape that used to be of severity notice or milder comes as an error or worse.
    LogSeverity,
    /// Seconds that what comes in waits until the server has made it durable.
    JournalWait,
    /// Seconds that the oldest message has waited to be delivered.
    OutboxAge,
    /// Used share of the disk of the server's data directory; half of what is left at the bound is critical.
    DataDirectoryUsed,
    /// Starts of the server within an hour, each after a stop that was not clean.
    ServerRestarts,
}

/// A way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// Least severity that goes out at once at night; less waits for the review.
    pub night: Severity,
    /// Least severity that goes out at once by day.
    pub day: Severity,
    /// Whether sealed reviews go out here.
    pub reviews: bool,
}

/// Facts about the hosts whose name matches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Glob over the host's name: `*` and `?`.
    pub name: String,
    /// What people call what it does.
    pub service: Option<String>,
    /// Person responsible.
    pub owner: Option<String>,
    /// Where it stands.
    pub site: Option<String>,
    /// How much it matters.
    pub importance: Option<Importance>,
    /// When it is expected to be up: spans of each weekday, Monday first, in minutes after local midnight. None: always.
    pub hours: Option<Week>,
}

/// Spans of each weekday, Monday first, in minutes after local midnight; an end past midnight belongs to the day it began on.
pub type Week = [Vec<(u16, u16)>; 7];

/// The rules that hold without configuration.
#[must_use]
pub fn default_rules() -> Vec<Rule> {
    use Measure::{
        ClockUnsynced, ConntrackUsed, CpuBusy, CpuPressure, DataDirectoryUsed, FileHandlesUsed,
        FilesystemReadonly, FilesystemUsed, InodesUsed, IoPressure, JournalWait, LogRate,
        LogSeverity, MemoryPressure, MemoryUsed, NewLogLine, OomKills, OutboxAge, PingLoss,
        RaidMissing, ServerRestarts, Silent, SwapUsed, TargetDown, Temperature,
        TemperatureOfCritical, UnitFailed, UnitRestarts,
    };
    use Severity::{Critical, Info, Warning};
    // name, measure, bound, clear, hold, clear hold, severity
    #[rustfmt::skip]
    let table = [
        ("disk_full", FilesystemUsed, 0.95, 0.93, 60, 60, Critical),
        ("disk_filling", FilesystemUsed, 0.85, 0.83, 300, 300, Warning),
        ("inodes_full", InodesUsed, 0.95, 0.93, 60, 60, Critical),
        ("disk_readonly", FilesystemReadonly, 1.0, 0.5, 30, 30, Critical),
        ("memory_full", MemoryUsed, 0.97, 0.92, 120, 120, Critical),
        ("memory_high", MemoryUsed, 0.90, 0.85, 600, 300, Warning),
        ("swap_high", SwapUsed, 0.80, 0.70, 600, 300, Warning),
        ("cpu_busy", CpuBusy, 0.95, 0.85, 900, 300, Warning),
        ("cpu_pressure", CpuPressure, 0.60, 0.40, 900, 300, Warning),
        ("memory_pressure", MemoryPressure, 0.20, 0.10, 300, 300, Warning),
        ("io_pressure", IoPressure, 0.50, 0.30, 900, 300, Warning),
        ("unit_failed", UnitFailed, 1.0, 0.5, 30, 60, Warning),
        ("unit_restarting", UnitRestarts, 5.0, 0.0, 0, 0, Warning),
        ("unit_oom", OomKills, 1.0, 0.0, 0, 0, Warning),
        ("temperature_high", Temperature, 90.0, 85.0, 120, 300, Warning),
        ("temperature_critical", TemperatureOfCritical, 1.0, 0.95, 60, 300, Critical),
        ("clock_unsynced", ClockUnsynced, 1.0, 0.5, 3_600, 300, Info),
        ("raid_degraded", RaidMissing, 1.0, 0.0, 60, 60, Critical),
        ("conntrack_full", ConntrackUsed, 0.90, 0.80, 60, 300, Critical),
        ("open_files_full", FileHandlesUsed, 0.90, 0.80, 60, 300, Warning),
        ("silent", Silent, 30.0, 30.0, 0, 0, Critical),
        ("target_down", TargetDown, 1.0, 1.0, 0, 0, Warning),
        ("ping_loss", PingLoss, 0.05, 0.02, 0, 120, Warning),
        ("new_log_line", NewLogLine, 4.0, 4.0, 0, 0, Warning),
        ("log_rate", LogRate, 4.0, 4.0, 180, 600, Warning),
        ("log_severity", LogSeverity, 3.0, 3.0, 0, 0, Warning),
        ("journal_slow", JournalWait, 2.0, 2.0, 60, 60, Warning),
        ("outbox_old", OutboxAge, 900.0, 900.0, 0, 0, Warning),
        ("server_disk", DataDirectoryUsed, 0.90, 0.89, 0, 0, Warning),
        ("server_restarting", ServerRestarts, 5.0, 0.0, 0, 0, Critical),
    ];
    let mut rules = Vec::with_capacity(table.len());
    for (name, measure, bound, clear, hold_seconds, clear_seconds, severity) in table {
        rules.push(Rule {
            name: name.to_owned(),
            measure,
            bound,
            clear,
            hold_seconds,
            clear_seconds,
            severity,
            enabled: true,
        });
    }
    rules
}

impl Default for Config {
    fn default() -> Config {
        Config {
            calendar: Calendar::default(),
            rules: default_rules(),
            channels: Vec::new(),
            hosts: Vec::new(),
            targets: Vec::new(),
        }
    }
}

impl Config {
    /// The facts that hold for a host of this name: later entries override earlier ones, fact by fact.
    #[must_use]
    pub fn facts(&self, name: &str) -> HostFacts {
        let mut out = HostFacts {
            name: name.to_owned(),
            ..HostFacts::default()
        };
        for facts in self.hosts.iter().filter(|facts| glob(&facts.name, name)) {
            out.service = facts.service.clone().or(out.service);
            out.owner = facts.owner.clone().or(out.owner);
            out.site = facts.site.clone().or(out.site);
            out.importance = facts.importance.or(out.importance);
            out.hours = facts.hours.clone().or(out.hours);
        }
        out
    }

    /// The channels by name.
    #[must_use]
    pub fn channels_by_name(&self) -> BTreeMap<&str, &Channel> {
        self.channels
            .iter()
            .map(|channel| (channel.name.as_str(), channel))
            .collect()
    }
}

/// Whether a name matches a glob of `*` (any run) and `?` (any one character).
#[must_use]
pub fn glob(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            Some(_) | None => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                (p, n) = (at + 1, from + 1);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, name, want) in [
            ("web*", "web01", true),
            ("web??", "web01", true),
            ("web?", "web01", false),
            ("*01", "web01", true),
            ("w*b*1", "web01", true),
            ("*", "", true),
            ("", "a", false),
            ("a*b", "acbc", false),
        ] {
            assert_eq!(glob(pattern, name), want, "{pattern} {name}");
        }
    }

    #[test]
    fn the_last_match_wins_fact_by_fact() {
        let facts = |name: &str, owner: Option<&str>, site: Option<&str>| HostFacts {
            name: name.to_owned(),
            owner: owner.map(str::to_owned),
            site: site.map(str::to_owned),
            ..HostFacts::default()
        };
        let hosts = vec![
            facts("*", Some("ops"), Some("hq")),
            facts("db*", Some("ruiz"), None),
        ];
        let config = Config {
            hosts,
            ..Config::default()
        };
        let got = config.facts("db02");
        assert_eq!(
            (got.owner.as_deref(), got.site.as_deref()),
            (Some("ruiz"), Some("hq"))
        );
    }
}
