//! What is wrong on this host, and what to do: each check is one row, and none of them disturbs an agent that runs.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use dawnwatch_proto::untrusted::term;
use jiff::Timestamp;

use crate::cmd::exit;
use crate::collect::{Collectors, Roots};
use crate::config::Config;
use crate::identity::{ConnectError, Identity, connect_raw};
use crate::logs;
use crate::probe::permitted;
use crate::state::{State, StateError, spool_dir};

/// Longest wait for one server.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// A certificate that was not renewed with this much life left has something in its way.
const RENEWED_DAYS_MIN: i64 = 10;

/// A clock that is off by more is a finding on the server too.
const CLOCK_MS_MAX: u64 = 30_000;

/// Less free space than this, and the spool will soon take nothing.
const FREE_BYTES_MIN: u64 = 64 << 20;

/// Files that are named; of the rest the number is enough.
const LOGS_NAMED_MAX: usize = 4;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Nothing to do.
    Ok,
    /// Works, but look at it.
    Warn,
    /// Does not work.
    Fail,
}

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub what: String,
    /// How it is.
    pub health: Health,
    /// What was found, and what to do.
    pub said: String,
    /// Exit code if this is the first that fails.
    pub code: u8,
}

impl Check {
    fn new(what: impl ToString, health: Health, code: u8, said: impl ToString) -> Check {
        Check {
            what: what.to_string(),
            health,
            said: said.to_string(),
            code,
        }
    }
}

/// Looks at everything.
pub async fn examine(config: &Config, state: &Path, now: Timestamp) -> Vec<Check> {
    let mut checks = vec![
        directory(state),
        spool(config, state),
        kernel(config.roots()),
        ping(config),
        logs(&logs::look(&config.logs)),
    ];
    let identity = match Identity::load(state) {
        Err(error) => {
            checks.push(Check::new("identity", Health::Fail, exit::CONFIG, error));
            return checks;
        }
        Ok(identity) => identity,
    };
    let who = format!("{} ({})", identity.host_name, identity.host_id);
    checks.push(Check::new("identity", Health::Ok, 0, who));
    checks.push(certificate(identity.not_after, identity.server_time(now)));
    checks.push(clock(identity.offset_ms));
    let servers = if config.servers.is_empty() {
        &identity.servers
    } else {
        &config.servers
    };
    for server in servers {
        checks.push(reach(&identity, server).await);
    }
    checks
}

/// The checks as people read them.
#[must_use]
pub fn table(checks: &[Check]) -> String {
    let width = checks
        .iter()
        .map(|check| check.what.chars().count())
        .max()
        .unwrap_or(0);
    let mut out = String::new();
    for check in checks {
        let health = match check.health {
            Health::Ok => "ok  ",
            Health::Warn => "warn",
            Health::Fail => "FAIL",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "{health}  {:width$}  {}",
            term(&check.what),
            term(&check.said)
        );
    }
    out
}

fn directory(state: &Path) -> Check {
    let row = |health, said: String| Check::new("state", health, exit::CANNOT_CREATE, said);
    if !state.is_dir() {
        return row(Health::Warn, format!("{} is not there", state.display()));
    }
    // Looking must not make the file, whose owner would then be whoever looked.
    if !state.join("lock").exists() {
        let said = format!("{}; no agent has run here", state.display());
        return row(Health::Warn, said);
    }
    match State::lock(state) {
        Ok(_) => row(
            Health::Warn,
            format!("{}; no agent is running", state.display()),
        ),
        Err(StateError::InUse(dir)) => row(
            Health::Ok,
            format!("{}; an agent is running", dir.display()),
        ),
        Err(error @ StateError::Io { .. }) => row(Health::Fail, error.to_string()),
    }
}

fn spool(config: &Config, state: &Path) -> Check {
    let row = |health, said: String| Check::new("spool", health, exit::CANNOT_CREATE, said);
    let dir = spool_dir(state);
    let Ok(entries) = fs::read_dir(&dir) else {
        return row(Health::Ok, "empty".to_owned());
    };
    let bytes: u64 = entries
        .flatten()
        .filter_map(|e| e.metadata().ok())
        .map(|m| m.len())
        .sum();
    let said = format!("{} KiB", bytes / 1_024);
    let free = rustix::fs::statvfs(&dir).map(|s| s.f_bavail.saturating_mul(s.f_frsize));
    match free {
        Ok(free) if free < FREE_BYTES_MIN => {
            let mib = free / (1 << 20);
            row(
                Health::Warn,
                format!("{said}; only {mib} MiB free on its disk: free some"),
            )
        }
        Ok(_) | Err(_) if config.spool_bytes.is_some_and(|max| bytes > max / 10 * 9) => row(
            Health::Warn,
            format!("{said}: nearly full, the oldest ticks go next"),
        ),
        Ok(_) | Err(_) => row(Health::Ok, said),
    }
}

fn kernel(roots: Roots) -> Check {
    let mut collectors = Collectors::new(roots);
    collectors.looks().look();
    let reading = collectors.read();
    let series = reading.row.len();
    if reading.troubles.is_empty() {
        return Check::new("kernel", Health::Ok, 0, format!("{series} series"));
    }
    let troubles: Vec<_> = reading
        .troubles
        .iter()
        .map(|(s, text)| format!("{s}: {text}"))
        .collect();
    let said = format!("{series} series, but {}", troubles.join("; "));
    Check::new("kernel", Health::Warn, exit::INTERNAL, said)
}

/// How pings go out as the user that asks; the agent may be another.
fn ping(config: &Config) -> Check {
    if config.ping.is_some_and(|every| every.is_zero()) {
        let said =
            "switched off in the configuration: the way to gateway and server is not measured";
        return Check::new("ping", Health::Ok, 0, said);
    }
    match permitted() {
        (said, None) => Check::new("ping", Health::Ok, 0, said),
        (_, Some(trouble)) => Check::new("ping", Health::Warn, exit::NOT_ALLOWED, trouble),
    }
}

fn logs(seen: &logs::Seen) -> Check {
    let journal = match &seen.no_journal {
        None => "the journal".to_owned(),
        Some(why) => format!("not the journal ({why})"),
    };
    let count = |n: usize| match n {
        0 => "no files".to_owned(),
        1 => "1 file".to_owned(),
        n => format!("{n} files"),
    };
    let mut said = format!("{journal}, {}", count(seen.files.len()));
    let names = seen.files.iter().take(LOGS_NAMED_MAX);
    let names: Vec<_> = names.map(|path| path.display().to_string()).collect();
    if !names.is_empty() {
        let more = seen.files.len() - names.len();
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        said.push_str(&format!(": {}{more}", names.join(", ")));
    }
    for (path, why) in seen.unreadable.iter().take(LOGS_NAMED_MAX) {
        said.push_str(&format!("; cannot read {}: {why}", path.display()));
    }
    if !seen.unreadable.is_empty() {
        said.push_str("; let the agent's user read them (on Debian: group adm), or leave them out with [logs] exclude");
    }
    if seen.more > 0 {
        said.push_str(&format!(
            "; {} more files than are read: name fewer with [logs] files",
            seen.more
        ));
    }
    let nothing = seen.files.is_empty() && seen.no_journal.is_some();
    let health = if nothing || !seen.unreadable.is_empty() || seen.more > 0 {
        Health::Warn
    } else {
        Health::Ok
    };
    Check::new("logs", health, 0, said)
}

fn certificate(not_after: Timestamp, now: Timestamp) -> Check {
    let days = (not_after.as_second() - now.as_second()).div_euclid(86_400);
    let row = |health, said: String| Check::new("certificate", health, exit::NOT_ALLOWED, said);
    if days < 0 {
        let said = "it has ended: a running agent renews it within 90 days, else re-join with: dawnwatch-agent join SERVER LINE";
        row(Health::Fail, said.to_owned())
    } else if days < RENEWED_DAYS_MIN {
        let said =
            format!("good for {days} days and not renewed: is the agent running and connected?");
        row(Health::Warn, said)
    } else {
        row(Health::Ok, format!("good for {days} days"))
    }
}

fn clock(offset_ms: i64) -> Check {
    let off = offset_ms.unsigned_abs();
    if off > CLOCK_MS_MAX {
        let said = format!(
            "{} s {} the server's, as last seen: mend it (chrony, systemd-timesyncd); data is stored at corrected times",
            off / 1_000,
            if offset_ms > 0 { "behind" } else { "ahead of" },
        );
        return Check::new("clock", Health::Warn, exit::INTERNAL, said);
    }
    Check::new(
        "clock",
        Health::Ok,
        0,
        format!("{off} ms off the server's, as last seen"),
    )
}

async fn reach(identity: &Identity, server: &str) -> Check {
    let what = format!("server {server}");
    match connect_raw(identity, server, CONNECT_MAX).await {
        Ok(_) => Check::new(
            what,
            Health::Ok,
            0,
            "name, connection and certificate are good",
        ),
        Err(error) => {
            let code = match &error {
                ConnectError::Address(_) | ConnectError::Setup(_) => exit::CONFIG,
                ConnectError::WrongServer { .. } => exit::NOT_ALLOWED,
                ConnectError::Resolve { .. }
                | ConnectError::Connect { .. }
                | ConnectError::Timeout { .. }
                | ConnectError::Expired { .. }
                | ConnectError::Tls { .. }
                | ConnectError::Http { .. } => exit::UNREACHABLE,
            };
            Check::new(what, Health::Fail, code, error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_and_clocks_are_judged() {
        let at = |days: i64| Timestamp::from_second(1_764_000_000 + days * 86_400).unwrap();
        for (left, want) in [
            (30, Health::Ok),
            (10, Health::Ok),
            (9, Health::Warn),
            (0, Health::Warn),
            (-1, Health::Fail),
        ] {
            assert_eq!(certificate(at(left), at(0)).health, want, "{left} days");
        }
        for (offset, want) in [
            (0, Health::Ok),
            (-30_000, Health::Ok),
            (30_001, Health::Warn),
            (i64::MIN, Health::Warn),
        ] {
            assert_eq!(clock(offset).health, want, "{offset} ms");
        }
        assert!(clock(60_000).said.contains("60 s behind"));
    }

    #[test]
    fn logs_are_named_and_so_is_what_is_in_the_way() {
        let mut seen = logs::Seen {
            files: vec!["/a".into()],
            ..logs::Seen::default()
        };
        let check = logs(&seen);
        assert_eq!(
            (check.health, check.said.as_str()),
            (Health::Ok, "the journal, 1 file: /a")
        );
        seen.unreadable.push(("/b".into(), "denied".to_owned()));
        seen.no_journal = Some("none".to_owned());
        let check = logs(&seen);
        assert_eq!(check.health, Health::Warn);
        assert!(
            check
                .said
                .starts_with("not the journal (none), 1 file: /a; cannot read /b: denied; let"),
            "{}",
            check.said
        );
        let none = logs::Seen {
            no_journal: Some("none".to_owned()),
            ..logs::Seen::default()
        };
        assert_eq!(logs(&none).health, Health::Warn);
    }

    #[test]
    fn the_table_is_even_and_inert() {
        let checks = [
            Check::new("a", Health::Ok, 0, "fine"),
            Check::new("server x", Health::Fail, 69, "no\x1b[2J"),
        ];
        assert_eq!(
            table(&checks),
            "ok    a         fine\nFAIL  server x  no\\u{1b}[2J\n"
        );
    }

    #[tokio::test]
    async fn a_host_that_never_joined_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let checks = examine(&Config::default(), dir.path(), now).await;
        let failed: Vec<_> = checks.iter().filter(|c| c.health == Health::Fail).collect();
        assert_eq!(failed.len(), 1);
        assert_eq!(
            (failed[0].what.as_str(), failed[0].code),
            ("identity", exit::CONFIG)
        );
        assert!(failed[0].said.contains("join"), "{}", failed[0].said);
        let missing = examine(&Config::default(), &dir.path().join("x"), now).await;
        assert!(
            missing
                .iter()
                .any(|c| c.what == "state" && c.health == Health::Warn)
        );
    }
}
