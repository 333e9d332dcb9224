//! `join SERVER LINE`: trades a join line for an identity.

use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use clap::Args;

use super::{Failure, exit, failure_of, runtime, say};
use crate::clock::Clock;
use crate::identity::{self, Identity};
use crate::state::DEFAULT_DIR;

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
    /// Says only who this host is: another command says what comes next.
    #[arg(long, hide = true)]
    brief: bool,
}

impl Join {
    pub(super) fn main(self, state: &Path) -> Result<(), Failure> {
        let line = line(&self.line)?;
        if let Some((uid, gid)) = other_owner(state) {
            let asked = Asked {
                server: &self.server,
                line: &line,
                hostname: self.hostname.as_deref(),
                state,
            };
            as_owner(&asked, uid, gid)?;
            say(&next(state));
            return Ok(());
        }
        let hostname = self.hostname;
        let now = Clock.wall();
        let before = Identity::load(state).ok().map(|identity| identity.host_id);
        let joined = runtime()?
            .block_on(identity::join(&self.server, &line, state, hostname, now))
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
        if !self.brief {
            say(&next(state));
        }
        Ok(())
    }
}

/// What is asked of a join as another user.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) server: &'a str,
    pub(super) line: &'a str,
    pub(super) hostname: Option<&'a str>,
    pub(super) state: &'a Path,
}

/// Who owns the state directory, where root is asked and somebody else owns it: what root wrote there, the agent that runs as
/// its owner could not read.
fn other_owner(state: &Path) -> Option<(u32, u32)> {
    let meta = std::fs::metadata(state).ok()?;
    (rustix::process::geteuid().is_root() && meta.uid() != 0).then(|| (meta.uid(), meta.gid()))
}

/// Joins as the owner of the state directory: this binary once more, under that user. The line goes through a pipe, where no
/// list of processes shows it.
pub(super) fn as_owner(asked: &Asked<'_>, uid: u32, gid: u32) -> Result<(), Failure> {
    let failed = |error| {
        Failure::new(
            exit::INTERNAL,
            format!("cannot join as user {uid}: {error}"),
        )
    };
    let own = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(own);
    command
        .args(["join", asked.server, "-", "--brief", "--state"])
        .arg(asked.state);
    if let Some(name) = asked.hostname {
        command.args(["--hostname", name]);
    }
    command.uid(uid).gid(gid).current_dir("/");
    let pipes = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = pipes.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ended before it read the line says why.
        let _ = stdin.write_all(asked.line.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        return Err(failure_of(&output));
    }
    say(String::from_utf8_lossy(&output.stdout).trim_end());
    Ok(())
}

/// What to do next, in commands that can be pasted.
fn next(state: &Path) -> String {
    if super::is_running(state) {
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

/// The join line of the command line, or of standard input where that says so.
pub(super) fn line(given: &str) -> Result<String, Failure> {
    let line = if given == "-" {
        from_stdin()?
    } else {
        given.to_owned()
    };
    Ok(line.trim().to_owned())
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
