//! The systemd unit: written, started, taken away. The package's own unit, where there is one, is left as it is.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::super::{Failure, exit, say};
use super::host::gone;

/// The unit's name.
pub(super) const UNIT: &str = "dawnwatch-agent.service";

/// The unit, as packages ship it.
const UNIT_TEXT: &str = include_str!("../../../../deploy/units/dawnwatch-agent.service");

/// The drop-in that allows pings.
const PING_TEXT: &str = include_str!("../../../../deploy/units/ping.conf");

/// Where a unit that was written by hand lies; it wins over a package's.
const UNIT_PATH: &str = "/etc/systemd/system/dawnwatch-agent.service";

/// Where its drop-ins lie.
const DROP_INS: &str = "/etc/systemd/system/dawnwatch-agent.service.d";

/// Where packages put their units.
const PACKAGED: [&str; 2] = [
    "/usr/lib/systemd/system/dawnwatch-agent.service",
    "/lib/systemd/system/dawnwatch-agent.service",
];

/// Groups that may read logs. A unit that names a missing group does not start, so only those that are there are named.
const GROUPS: [&str; 2] = ["systemd-journal", "adm"];

/// Whether systemd is this system's manager (sd_booted(3)).
pub(super) fn systemd_runs() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Whether the unit came with a package.
pub(super) fn is_packaged() -> bool {
    PACKAGED.iter().any(|path| Path::new(path).exists())
}

/// Writes the unit and its drop-ins, as far as they are not so yet.
pub(super) fn write(with_ping: bool) -> Result<(), Failure> {
    if is_packaged() {
        // One that an earlier install wrote would hide the package's for ever.
        delete(UNIT_PATH)?;
    } else {
        put(UNIT_PATH, UNIT_TEXT)?;
    }
    let text = fs::read_to_string("/etc/group").unwrap_or_default();
    match groups(&text) {
        Some(text) => put(&format!("{DROP_INS}/groups.conf"), &text)?,
        None => delete(&format!("{DROP_INS}/groups.conf"))?,
    }
    if with_ping {
        put(&format!("{DROP_INS}/ping.conf"), PING_TEXT)?;
    }
    Ok(())
}

/// The drop-in that names the groups of this system that may read logs.
fn groups(group_file: &str) -> Option<String> {
    let is_there = |name: &&str| {
        group_file
            .lines()
            .any(|line| line.split(':').next() == Some(*name))
    };
    let names: Vec<&str> = GROUPS.into_iter().filter(is_there).collect();
    if names.is_empty() {
        return None;
    }
    Some(format!(
        "# Logs that this host's groups may read. Written by dawnwatch-agent install.\n[Service]\nSupplementaryGroups={}\n",
        names.join(" ")
    ))
}

fn put(path: &str, text: &str) -> Result<(), Failure> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let put = (|| {
        if let Some(dir) = Path::new(path).parent() {
            fs::create_dir_all(dir)?;
        }
        let next = format!("{path}.next");
        fs::write(&next, text)?;
        fs::set_permissions(&next, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        fs::rename(&next, path)
    })();
    put.map_err(|error: std::io::Error| {
        Failure::new(exit::CANNOT_CREATE, format!("cannot write {path}: {error}"))
    })?;
    say(&format!("unit: {path}"));
    Ok(())
}

fn delete(path: &str) -> Result<(), Failure> {
    let failed = |error| {
        Failure::new(
            exit::CANNOT_CREATE,
            format!("cannot delete {path}: {error}"),
        )
    };
    gone(fs::remove_file(path)).map_err(failed)
}

/// Starts the unit anew, and at each boot.
pub(super) fn start() -> Result<(), Failure> {
    systemctl(&["daemon-reload"])?;
    systemctl(&["enable", "--quiet", UNIT])?;
    // A unit that gave up before is taken as new.
    let _ = systemctl(&["reset-failed", UNIT]);
    systemctl(&["restart", "--no-block", UNIT])
}

/// Stops the unit for good; one that is not there is stopped well.
pub(super) fn stop() {
    let _ = systemctl(&["disable", "--now", "--quiet", UNIT]);
}

/// Takes away what [`write()`] wrote.
pub(super) fn remove() -> Result<(), Failure> {
    delete(UNIT_PATH)?;
    let failed = |error| {
        Failure::new(
            exit::CANNOT_CREATE,
            format!("cannot delete {DROP_INS}: {error}"),
        )
    };
    gone(fs::remove_dir_all(DROP_INS)).map_err(failed)?;
    if systemd_runs() {
        systemctl(&["daemon-reload"])?;
    }
    Ok(())
}

/// How the unit is, in systemd's word: active, activating, failed.
pub(super) fn state() -> String {
    said("systemctl", &["is-active", UNIT])
}

/// The last lines that the unit logged.
pub(super) fn journal() -> String {
    said(
        "journalctl",
        &[
            "--unit",
            UNIT,
            "--lines",
            "8",
            "--output",
            "cat",
            "--no-pager",
            "--quiet",
        ],
    )
}

fn systemctl(arguments: &[&str]) -> Result<(), Failure> {
    let output = run("systemctl", arguments);
    let output = output
        .map_err(|error| Failure::new(exit::INTERNAL, format!("cannot run systemctl: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let text = format!("systemctl {}: {}", arguments.join(" "), said.trim());
    Err(Failure::new(exit::INTERNAL, text))
}

fn said(program: &str, arguments: &[&str]) -> String {
    run(program, arguments)
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}

fn run(program: &str, arguments: &[&str]) -> std::io::Result<Output> {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_groups_that_are_there_are_named() {
        let line = |file: &str| {
            groups(file).map(|text| text.lines().last().unwrap_or_default().to_owned())
        };
        assert_eq!(
            line("root:x:0:\nadm:x:4:\n").as_deref(),
            Some("SupplementaryGroups=adm")
        );
        let both = line("adm:x:4:\nsystemd-journal:x:101:\n");
        assert_eq!(
            both.as_deref(),
            Some("SupplementaryGroups=systemd-journal adm")
        );
        assert_eq!(line("wheel:x:10:\nadmin:x:4:\n"), None);
    }

    #[test]
    fn the_unit_runs_what_is_installed() {
        assert!(UNIT_TEXT.contains(&format!("\nExecStart={} run\n", super::super::host::BINARY)));
        assert!(UNIT_TEXT.contains(&format!("\nUser={}\n", super::super::host::USER)));
    }
}
