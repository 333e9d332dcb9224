//! `join SERVER LINE`: trades a join line for an identity.

use std::io::Read;
use std::path::Path;

use clap::Args;

use super::{Failure, exit, runtime, say};
use crate::clock::Clock;
use crate::identity::{self, Identity};
use crate::state::{DEFAULT_DIR, State, StateError};

/// Longest input that may hold a join line.
const LINE_BYTES_MAX: u64 = 4 * 1024;

/// Joins this host to a server.
#[derive(Debug, Args)]
pub(super) struct Join {
    /// The server: HOST or HOST:PORT; an IPv6 address in square brackets.
    server: String,
    /// The join line that the server shows (`dawnwatch token create`), or - to read it from standard input.
    line: String,
    /// Name to ask for instead of the host's own.
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
}

impl Join {
    pub(super) fn main(self, state: &Path) -> Result<(), Failure> {
        let line = if self.line == "-" {
            from_stdin()?
        } else {
            self.line
        };
        let hostname = self.hostname;
        let now = Clock.wall();
        let before = Identity::load(state).ok().map(|identity| identity.host_id);
        let joined = runtime()?
            .block_on(identity::join(
                &self.server,
                line.trim(),
                state,
                hostname,
                now,
            ))
            .map_err(|error| Failure::new(error.exit_code(), error))?;
        let (name, id) = (&joined.host_name, joined.host_id);
        if before == Some(id) {
            say(&format!(
                "joined as {name} ({id}), as before: nothing is lost by joining again"
            ));
        } else {
            say(&format!("joined as {name} ({id})"));
        }
        if joined.offset_ms.unsigned_abs() > 30_000 {
            let seconds = joined.offset_ms / 1_000;
            say(&format!(
                "this host's clock is {} s {} the server's: the data is stored at corrected times, but mend the clock",
                seconds.unsigned_abs(),
                if seconds > 0 { "behind" } else { "ahead of" },
            ));
        }
        say(&next(state));
        Ok(())
    }
}

/// What to do next, in commands that can be pasted.
fn next(state: &Path) -> String {
    if let Err(StateError::InUse(_)) = State::lock(state) {
        return "the agent that runs here takes it up within 15 seconds".to_owned();
    }
    let at = match state.to_str() {
        Some(DEFAULT_DIR) | None => String::new(),
        Some(other) => format!(" --state {other}"),
    };
    format!(
        "start it with: dawnwatch-agent run{at}\ncheck it with: dawnwatch-agent doctor{at}\n\
         running this join again is safe: it stays the same host, and the line is not used up further"
    )
}

fn from_stdin() -> Result<String, Failure> {
    let mut line = String::new();
    std::io::stdin()
        .take(LINE_BYTES_MAX)
        .read_to_string(&mut line)
        .map_err(|error| {
            Failure::new(exit::USAGE, format!("cannot read the join line: {error}"))
        })?;
    Ok(line)
}
