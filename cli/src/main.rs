//! The `dawnwatch` command: asks the server on its Unix socket and draws what it answers.
//!
//! - [`args`]: what was typed; [`session`]: what is meant by it for every verb.
//! - [`verb`]: one file per verb; each turns an answer of the server into text.
//! - [`client`]: the way to the server.
//! - [`moment`], [`find`]: from people's times and names to exact ones.
//! - [`table`], [`chart`], [`draw`]: drawing.
//! - [`fail`]: exit codes and sentences.
//!
//! The command never asks its own clock: "two hours ago" is by the server's.

mod args;
mod chart;
mod client;
mod draw;
mod fail;
mod find;
mod moment;
#[cfg(test)]
mod sample;
mod session;
mod table;
mod verb;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind as Refused;
use dawnwatch_proto::untrusted::term;

use crate::args::Args;
use crate::fail::Fail;
use crate::session::Session;

fn main() -> ExitCode {
    let code = std::panic::catch_unwind(run).unwrap_or(fail::BUG);
    ExitCode::from(code)
}

fn run() -> u8 {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Nothing can be done where not even this can be written.
            let _ = error.print();
            let asked = matches!(error.kind(), Refused::DisplayHelp | Refused::DisplayVersion);
            return if asked { 0 } else { fail::USAGE };
        }
    };
    let answer = Session::new(&args.global)
        .and_then(|session| verb::run(args.verb.as_ref(), &session))
        .and_then(|answer| print(&answer.text).map(|()| answer.code));
    answer.unwrap_or_else(|fail| {
        complain(&fail);
        fail.code
    })
}

/// Writes to standard output. A reader that has enough, such as `head`, is no failure.
fn print(text: &str) -> Result<(), Fail> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Fail::new(
            fail::CANNOT_CREATE,
            format!("cannot write the answer: {error}"),
        )),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn complain(fail: &Fail) {
    let lines: Vec<String> = fail.text.lines().map(term).collect();
    let _ = writeln!(std::io::stderr(), "dawnwatch: {}", lines.join("\n"));
}
