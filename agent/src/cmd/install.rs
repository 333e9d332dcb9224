//! `install SERVER LINE`: everything from a binary to a first acknowledged sample, and `uninstall`.
//!
//! Run as root, and as often as one likes: each step looks first and changes only what is not so yet.
//!
//! 1. The binary lies in `/usr/bin`.
//! 2. The system's user `dawnwatch-agent` is there, and the state directory is its own.
//! 3. This host joins, as that user: root writes nothing into a directory that another owns.
//! 4. The unit is written, enabled and started anew.
//! 5. The server acknowledges a sample within 30 seconds, or the reason why not is told and the exit code says so.
//!
//! Where systemd does not run (a container, a chroot), or with `--no-service`, the agent is run once until its first sample is
//! acknowledged, and how to run it for good is printed.

mod host;
mod service;
mod wait;

use std::path::Path;

use clap::Args;
use dawnwatch_proto::JoinLine;

use super::{Failure, exit, join, say};
use crate::identity::Identity;
use crate::state::DEFAULT_DIR;
use crate::status::Status;
use host::User;

/// Installs the agent on this host.
#[derive(Debug, Args)]
pub(super) struct Install {
    /// The server: HOST or HOST:PORT; an IPv6 address in square brackets.
    server: String,
    /// The join line that the server shows (`dawnwatch token create`), or - to read it from standard input.
    line: String,
    /// Name to ask for instead of the host's own.
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Lets the agent send pings (CAP_NET_RAW) where the system allows them to nobody.
    #[arg(long)]
    with_ping: bool,
    /// Writes no unit and starts nothing for good.
    #[arg(long)]
    no_service: bool,
}

impl Install {
    pub(super) fn main(self, state: &Path) -> Result<(), Failure> {
        only_root("install")?;
        let own_state = Path::new(DEFAULT_DIR);
        if state != own_state {
            let text = format!(
                "install uses {DEFAULT_DIR}; with a state directory of your own use join and run"
            );
            return Err(Failure::new(exit::USAGE, text));
        }
        let line = join::line(&self.line)?;
        // Before anything is changed: a line that was cut in copying is told at once.
        let parsed: JoinLine = line
            .parse()
            .map_err(|error| Failure::new(exit::BAD_DATA, error))?;
        if host::place_binary()? {
            say(&format!("binary: {}", host::BINARY));
        }
        let (user, is_new) = host::user()?;
        if is_new {
            say(&format!("user: {} made", host::USER));
        }
        host::state_dir(state, &user)?;
        self.join(&line, &parsed, state, &user)?;
        if self.no_service || !service::systemd_runs() {
            return self.once(state, &user);
        }
        service::write(self.with_ping)?;
        // What is there from here on is of the run that starts now.
        Status::forget(state).map_err(|error| Failure::new(exit::CANNOT_CREATE, error))?;
        service::start()?;
        say("service: enabled and started; waiting for the first acknowledged sample");
        wait::sampled(state)
    }

    /// Joins; a host that joined this server before needs no line that is still good.
    fn join(
        &self,
        line: &str,
        parsed: &JoinLine,
        state: &Path,
        user: &User,
    ) -> Result<(), Failure> {
        let asked = join::Asked {
            server: &self.server,
            line,
            hostname: self.hostname.as_deref(),
            state,
        };
        match join::as_owner(&asked, user.uid, user.gid) {
            Err(refused) if refused.code == exit::NOT_ALLOWED => {
                let before = Identity::load(state)
                    .ok()
                    .filter(|identity| identity.trusts(&parsed.pin));
                let identity = before.ok_or(refused)?;
                say(&format!(
                    "joined before as {} ({}): stays so",
                    identity.host_name, identity.host_id
                ));
                Ok(())
            }
            other => other,
        }
    }

    /// Delivers one sample without a service manager.
    fn once(&self, state: &Path, user: &User) -> Result<(), Failure> {
        let how = format!(
            "run it for good as the user {}: {} run",
            host::USER,
            host::BINARY
        );
        if super::is_running(state) {
            say(
                "an agent runs here already and takes the new identity up within 15 seconds; restart it for a new binary",
            );
            return wait::sampled(state);
        }
        say("no service: running once, until the first sample is acknowledged");
        host::as_user(&["run", "--once"], user)?;
        say(&format!("first sample acknowledged; {how}"));
        Ok(())
    }
}

/// Takes the agent off this host.
#[derive(Debug, Args)]
pub(super) struct Uninstall {
    /// Leaves the server too, and deletes identity, spool and user.
    #[arg(long)]
    purge: bool,
}

impl Uninstall {
    pub(super) fn main(&self, state: &Path) -> Result<(), Failure> {
        only_root("uninstall")?;
        if service::systemd_runs() {
            service::stop();
        }
        let is_packaged = service::is_packaged();
        service::remove()?;
        if self.purge {
            if let (Ok(_), Some(user)) = (Identity::load(state), host::known_user()?) {
                // A server that is gone for good is no reason to stay installed.
                if let Err(failure) = host::as_user(&["leave", "--yes"], &user) {
                    say(&format!("did not leave the server: {}", failure.text));
                }
            }
            host::purge(state)?;
        }
        if is_packaged {
            say("stopped; the binary belongs to a package: apt-get remove dawnwatch-agent");
        } else {
            host::remove_binary()?;
            say("uninstalled");
        }
        if !self.purge && state.exists() {
            say(&format!(
                "kept: {} (uninstall --purge deletes it and leaves the server)",
                state.display()
            ));
        }
        Ok(())
    }
}

fn only_root(what: &str) -> Result<(), Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let text = format!(
        "{what} makes a user and a service: run it as root (sudo dawnwatch-agent {what} ...)"
    );
    Err(Failure::new(exit::NOT_ALLOWED, text))
}
