//! The agent's command line: parse, log, run, and one clear sentence where that fails.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use dawnwatch_agent::cmd::{self, Line, exit};
use tracing_subscriber::EnvFilter;

/// The variable that sets the log level, such as `debug`.
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
    let filter = EnvFilter::try_from_env(LOG_ENV).unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
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

#[allow(
    clippy::print_stderr,
    reason = "the one sentence for the person at the terminal"
)]
fn complain(text: &str) {
    eprintln!("dawnwatch-agent: {text}");
}
