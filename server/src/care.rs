//! The commands that care for a data directory: `verify`, `backup`, `restore`, `rollback`. What people read goes to stdout, how far it is to stderr.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::ValueEnum;
use dawnwatch_proto::untrusted::term;
use dawnwatch_server::app;
use dawnwatch_server::clock::Clock;
use dawnwatch_server::keep::backup as copies;
use dawnwatch_server::keep::snapshot::Error;
use dawnwatch_server::keep::upgrade::{self, RolledBack, UpgradeError};
use dawnwatch_server::verify::report::size;
use dawnwatch_server::verify::{self, Progress};
use jiff::Timestamp;

use crate::say;

/// A terminal is told this often.
const DRAW_EVERY_MS: u64 = 200;

/// What is no terminal is told this often: a log of it stays readable.
const SAY_EVERY_MS: u64 = 10_000;

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For scripts.
    Json,
}

/// Says how far long work is.
pub(crate) struct Teller {
    what: &'static str,
    began_ms: u64,
    told_ms: u64,
    drawn: bool,
}

impl Teller {
    pub(crate) fn new(what: &'static str) -> Teller {
        let now = Clock.boot_ms();
        Teller {
            what,
            began_ms: now,
            told_ms: now,
            drawn: false,
        }
    }

    pub(crate) fn tell(&mut self, progress: &Progress) {
        let now = Clock.boot_ms();
        let terminal = std::io::stderr().is_terminal();
        let every = if terminal {
            DRAW_EVERY_MS
        } else {
            SAY_EVERY_MS
        };
        if now < self.told_ms + every {
            return;
        }
        self.told_ms = now;
        let passed_ms = (now - self.began_ms).max(1);
        let rate = progress.bytes.saturating_mul(1_000) / passed_ms;
        let text = format!(
            "{}: {} of {} files, {} of {}, {}/s",
            self.what,
            progress.files,
            progress.files_all,
            size(progress.bytes),
            size(progress.bytes_all),
            size(rate)
        );
        let mut err = std::io::stderr();
        // What cannot be said is not worth failing for.
        let _ = if terminal {
            self.drawn = true;
            write!(err, "\r\x1b[K{text}")
        } else {
            writeln!(err, "{text}")
        };
        let _ = err.flush();
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        if self.drawn {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// Exit code 0 where all is sound, 1 where damage was found, 64 where there is nothing to verify, 77 where it may not be read.
pub(crate) fn verify(data: &Path, output: Output) -> ExitCode {
    let mut teller = Teller::new("verify");
    let report = verify::verify(data, &mut |progress| teller.tell(progress));
    drop(teller);
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            say::err(format_args!("{error}"));
            let denied = error.source.kind() == std::io::ErrorKind::PermissionDenied;
            return ExitCode::from(if denied { 77 } else { 64 });
        }
    };
    match output {
        Output::Text => say::out(format_args!("{}", report.text().trim_end())),
        Output::Json => say::out(format_args!(
            "{}",
            serde_json::to_string_pretty(&report).expect("a report of plain values always prints")
        )),
    }
    ExitCode::from(u8::from(!report.sound))
}

/// Exit code 0 where the backup is whole; 73 where it cannot be made, 77 where it may not, 65 where an earlier one is damaged.
pub(crate) fn backup(data: &Path, to: &Path) -> ExitCode {
    let mut teller = Teller::new("backup");
    let done = copies::backup(data, to, Clock.wall(), &mut |progress| {
        teller.tell(progress);
    });
    drop(teller);
    match done {
        Ok(done) => {
            say::out(format_args!(
                "verified {} files, {} ({} of them kept from an earlier backup), {} in {}",
                done.files,
                size(done.bytes),
                done.kept,
                until(done.until),
                to.display()
            ));
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

/// Exit codes as [`backup`]'s.
pub(crate) fn restore(from: &Path, data: &Path, names: &[String]) -> ExitCode {
    let mut teller = Teller::new("restore");
    let done = copies::restore(from, data, &mut |progress| teller.tell(progress));
    drop(teller);
    let manifest = match done {
        Ok(manifest) => manifest,
        Err(error) => return failed(&error),
    };
    let mut run = format!("dawnwatch-server --data {} run", data.display());
    for name in names {
        run.push_str(&format!(" --name {}", term(name)));
    }
    say::out(format_args!(
        "restored and verified: {}, made {} by version {}",
        until(manifest.until),
        manifest.made.strftime("%Y-%m-%d %H:%M UTC"),
        term(&manifest.version)
    ));
    say::out(format_args!("Next:"));
    say::out(format_args!(
        "  1. give the directory to the server's user: chown -R dawnwatch-server: {}",
        data.display()
    ));
    say::out(format_args!(
        "  2. see that the old server stays off: two servers with one CA confuse the agents"
    ));
    say::out(format_args!("  3. {run}"));
    say::out(format_args!(
        "  4. agents reach it by the address that they know: move that name or address, or set servers = [...] in their configuration; nobody joins anew"
    ));
    say::out(format_args!(
        "What came in after the backup and agents no longer have shows as gaps, with this backup as the reason."
    ));
    ExitCode::SUCCESS
}

/// Exit code 0 where it was done; 78 where there is no way back, else as [`backup`]'s.
pub(crate) fn rollback(data: &Path) -> ExitCode {
    let _held = match app::hold(data) {
        Ok(held) => held,
        Err(failed) => {
            say::err(format_args!("{failed}"));
            return ExitCode::from(failed.exit_code());
        }
    };
    match upgrade::rollback(data) {
        Ok(done) => {
            say::out(format_args!("{}", rolled_back(&done)));
            ExitCode::SUCCESS
        }
        Err(UpgradeError::Io(error)) => failed(&error),
        Err(error) => {
            say::err(format_args!("{error}"));
            ExitCode::from(78)
        }
    }
}

fn rolled_back(done: &RolledBack) -> String {
    let to = done
        .to
        .as_deref()
        .map_or("the version before".to_owned(), term);
    let people = if done.keeps_identity {
        "Hosts and people stay as they are."
    } else {
        "Hosts and people are those of before: who came since joins again."
    };
    let listed = |what: &str, names: &[String]| match names {
        [] => format!("  no {what}"),
        [one] => format!("  {what}: {one}"),
        [first, .., last] => format!("  {what}: {}, {first} to {last}", names.len()),
    };
    format!(
        "rolled back: {}. {people}\nPut aside in {}:\n{}\n{}\nNext: install dawnwatch-server {to} and start it.",
        until(done.until),
        done.aside.display(),
        listed("hour files", &done.hours),
        listed("nights", &done.nights),
    )
}

fn until(at: Option<Timestamp>) -> String {
    at.map_or("nothing had come in yet".to_owned(), |at| {
        format!("all up to {}", at.strftime("%Y-%m-%d %H:%M:%S UTC"))
    })
}

fn failed(error: &Error) -> ExitCode {
    say::err(format_args!("{error}"));
    let kind = error.source.kind();
    ExitCode::from(if kind == std::io::ErrorKind::PermissionDenied {
        77
    } else if kind == std::io::ErrorKind::InvalidData {
        65
    } else {
        73
    })
}
