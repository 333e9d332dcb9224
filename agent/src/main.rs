//! The agent's command line: parse, log, run, and one clear sentence where that fails.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use dawnwatch_agent::cmd::{self, Line, exit};
use tracing::level_filters::LevelFilter;

/// The variable that sets the log level: off, error, warn, info, debug or trace. One level for all: an agent is small, and
/// a language of filters would be half a megabyte of it.
const LOG_ENV: &str = "DAWNWATCH_LOG";

fn main() -> ExitCode {
    let line = match Line::try_parse() {
        Ok(line) => line,
        Err(told) => {
            let code = if told.use_stderr() { exit::USAGE } else { 0 };
            // A closed terminal is no reason to fail differently.
            let _ = told.print();
            return ExitCode::from(code);
        }
    };
    let level = level(std::env::var(LOG_ENV).ok().as_deref());
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    match cmd::main(line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure.text);
            ExitCode::from(failure.code)
        }
    }
}

/// What is asked for; INFO where nothing is, or nothing that can be understood.
fn level(asked: Option<&str>) -> LevelFilter {
    // An empty text would parse as ERROR.
    let asked = asked.filter(|text| !text.trim().is_empty());
    asked
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(LevelFilter::INFO)
}

#[allow(
    clippy::print_stderr,
    reason = "the one sentence for the person at the terminal"
)]
fn complain(text: &str) {
    eprintln!("{}{text}", cmd::PREFIX);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_what_is_asked_for_and_info_otherwise() {
        for (asked, want) in [
            (None, LevelFilter::INFO),
            (Some(""), LevelFilter::INFO),
            (Some(" "), LevelFilter::INFO),
            (Some("loud"), LevelFilter::INFO),
            (Some("debug"), LevelFilter::DEBUG),
            (Some("WARN"), LevelFilter::WARN),
            (Some("off"), LevelFilter::OFF),
        ] {
            assert_eq!(level(asked), want, "{asked:?}");
        }
    }
}
