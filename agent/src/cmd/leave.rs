//! `leave`: says goodbye for good, then forgets who this host was.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use dawnwatch_proto::event::GoodbyeReason;
use dawnwatch_proto::{Event, EventBody};

use super::run::{Agent, refusal};
use super::{Failure, exit, runtime, say};
use crate::clock::Clock;
use crate::config::Config;
use crate::identity::{self, Identity};
use crate::state::spool_dir;

/// Longest wait for the server to take the goodbye.
const GOODBYE_MAX: Duration = Duration::from_secs(15);

/// Leaves the server.
#[derive(Debug, Args)]
pub(super) struct Leave {
    /// Confirms it: what was not delivered yet is lost.
    #[arg(long)]
    yes: bool,
}

impl Leave {
    pub(super) fn main(&self, config: &Config, state: &Path) -> Result<(), Failure> {
        if !self.yes {
            let identity = Identity::load(state).map_err(|error| refusal(&error))?;
            let text = format!(
                "this makes {} leave {}, and deletes its certificate and spool in {}; confirm with: dawnwatch-agent leave --yes",
                identity.host_name,
                identity.servers.join(", "),
                state.display()
            );
            return Err(Failure::new(exit::USAGE, text));
        }
        let agent = Agent::open(config, state, None)?;
        let is_told = runtime()?.block_on(say_goodbye(&agent));
        drop(agent);
        identity::leave(state).map_err(|error| Failure::new(exit::CANNOT_CREATE, error))?;
        let spool = spool_dir(state);
        std::fs::remove_dir_all(&spool).map_err(|error| {
            let text = format!("left, but cannot delete {}: {error}", spool.display());
            Failure::new(exit::CANNOT_CREATE, text)
        })?;
        say(if is_told {
            "left: the server knows, and this host's certificate and spool are deleted"
        } else {
            "left, but no server could be told: retire this host there, or it is reported as silent"
        });
        Ok(())
    }
}

async fn say_goodbye(agent: &Agent) -> bool {
    let body = EventBody::Goodbye(GoodbyeReason::Leave);
    agent.shared.event(Event {
        time: Clock.wall(),
        body,
    });
    let uplink = agent.uplink();
    tokio::select! {
        () = uplink.run() => false,
        () = agent.shared.all_acked() => true,
        () = tokio::time::sleep(GOODBYE_MAX) => false,
    }
}
