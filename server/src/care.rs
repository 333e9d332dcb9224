//! The commands that care for a data directory: `verify`. What people read goes to stdout, how far it is to stderr.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::ValueEnum;
use dawnwatch_server::clock::Clock;
use dawnwatch_server::verify::report::size;
use dawnwatch_server::verify::{self, Progress};

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
#[allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is what the person who asks reads"
)]
pub(crate) fn verify(data: &Path, output: Output) -> ExitCode {
    let mut teller = Teller::new("verify");
    let report = verify::verify(data, &mut |progress| teller.tell(progress));
    drop(teller);
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            eprintln!("dawnwatch-server: {error}");
            let denied = error.source.kind() == std::io::ErrorKind::PermissionDenied;
            return ExitCode::from(if denied { 77 } else { 64 });
        }
    };
    match output {
        Output::Text => print!("{}", report.text()),
        Output::Json => println!(
            "{}",
            serde_json::to_string_pretty(&report).expect("a report of plain values always prints")
        ),
    }
    ExitCode::from(u8::from(!report.sound))
}
