//! The commands: one file each. Every failure is one clear line and the exit code of its kind.

mod collect;
mod dial;
mod doctor;
mod install;
mod join;
mod leave;
mod run;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use clap::{Args, Parser, Subcommand};

use crate::config::Config;
use crate::state::{DEFAULT_DIR, State, StateError};

/// Exit codes after sysexits, as PRODUCT.md has them.
pub mod exit {
    /// The command line is wrong.
    pub const USAGE: u8 = 64;
    /// What was given is damaged, such as a join line cut in copying.
    pub const BAD_DATA: u8 = 65;
    /// No server can be reached.
    pub const UNREACHABLE: u8 = 69;
    /// A bug or a system that cannot be asked.
    pub const INTERNAL: u8 = 70;
    /// Something cannot be created or is in use.
    pub const CANNOT_CREATE: u8 = 73;
    /// The server says no.
    pub const NOT_ALLOWED: u8 = 77;
    /// The configuration, or that the host never joined.
    pub const CONFIG: u8 = 78;
}

/// Why a command ends without success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// What to do, in one sentence.
    pub text: String,
}

impl Failure {
    fn new(code: u8, error: impl ToString) -> Failure {
        Failure {
            code,
            text: error.to_string(),
        }
    }
}

/// What concerns every command.
const AFTER_HELP: &str = "\
The first step: dawnwatch-agent install SERVER LINE, as root. Without root: join SERVER LINE, then run.
DAWNWATCH_LOG sets how much is logged: error, warn, info (the default), debug.
Exit codes: 0 worked, 64 usage, 65 bad join line, 69 server not reachable, 70 our bug, 73 cannot create or in use,
77 not allowed, 78 configuration or not joined.";

/// Measures this host and delivers what it measured without loss.
#[derive(Debug, Parser)]
#[command(name = "dawnwatch-agent", version, after_help = AFTER_HELP)]
pub struct Line {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

/// Where configuration and state are.
#[derive(Debug, Args)]
struct Place {
    /// Configuration file [default: /etc/dawnwatch-agent/config.toml, which may be absent].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// State directory: identity and spool [default: /var/lib/dawnwatch-agent].
    #[arg(long, global = true, value_name = "DIR", env = "DAWNWATCH_AGENT_STATE")]
    state: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Installs for good, as root: user, unit, joining, and waits for the first acknowledged sample.
    Install(install::Install),
    /// Stops and removes what install made.
    Uninstall(install::Uninstall),
    /// Joins this host to a server, once.
    Join(join::Join),
    /// Measures and delivers, until told to stop.
    Run(run::Run),
    /// Says what is wrong, and what to do.
    Doctor,
    /// Leaves the server: says goodbye, forgets identity and spool.
    Leave(leave::Leave),
    /// Shows what this host measures.
    Collect(collect::Collect),
}

/// Runs a command.
///
/// # Errors
/// [`Failure`] with the sentence to show and the code to end with.
pub fn main(line: Line) -> Result<(), Failure> {
    let config = Config::load(line.place.config.as_deref())
        .map_err(|error| Failure::new(exit::CONFIG, error))?;
    let state = line.place.state.or_else(|| config.state.clone());
    let state = state.unwrap_or_else(|| PathBuf::from(DEFAULT_DIR));
    match line.command {
        Command::Install(install) => install.main(&state),
        Command::Uninstall(uninstall) => uninstall.main(&state),
        Command::Join(join) => join.main(&state),
        Command::Run(run) => run.main(&config, &state),
        Command::Doctor => doctor::main(&config, &state),
        Command::Leave(leave) => leave.main(&config, &state),
        Command::Collect(collect) => collect.main(&config),
    }
}

/// Whether an agent owns this state directory at present.
fn is_running(state: &Path) -> bool {
    // Looking must not make the file, whose owner would then be whoever looked.
    state.join("lock").exists() && matches!(State::lock(state), Err(StateError::InUse(_)))
}

/// The failure of a command of our own that ran as another user: its sentence and its code.
fn failure_of(output: &Output) -> Failure {
    let said = String::from_utf8_lossy(&output.stderr);
    // Its log, if any, stands before its sentence.
    let lines: Vec<&str> = said.trim_end().lines().collect();
    let at = lines
        .iter()
        .position(|line| line.starts_with(PREFIX))
        .unwrap_or(0);
    let text = lines.get(at..).unwrap_or_default().join("\n");
    let code = output
        .status
        .code()
        .and_then(|code| u8::try_from(code).ok());
    Failure {
        code: code.unwrap_or(exit::INTERNAL),
        text: text.strip_prefix(PREFIX).unwrap_or(&text).to_owned(),
    }
}

/// What stands before the sentence of a failure.
pub const PREFIX: &str = "dawnwatch-agent: ";

/// Prints a line for the person at the terminal; one who has read enough and closed the pipe is no failure.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// A runtime of one thread: the agent waits for sockets and timers, and computes next to nothing.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(exit::INTERNAL, format!("cannot start: {error}")))
}
