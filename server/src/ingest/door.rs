//! At the door of a stream: who it is of, and whether a copy of the host came later.

use std::net::IpAddr;
use std::sync::PoisonError;

use dawnwatch_engine::input::{Input, Twice};
use dawnwatch_proto::{HostId, pb};
use tokio::sync::oneshot;
use tonic::Status;

use super::Shared;
use super::twice::{Heard, Speaker};
use crate::identity::Proven;
use crate::journal::Submit;

/// Who a stream is of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Who {
    pub(super) proven: Proven,
    pub(super) host: HostId,
    /// Counts streams.
    pub(super) number: u64,
    pub(super) from: Option<IpAddr>,
}

impl Shared {
    /// Whether the agent behind a hello may speak for its host, or is a copy that came later. Where there are two, the engine
    /// is told.
    pub(super) async fn speaks(&self, who: &Who, hello: &pb::Hello) -> Result<(), Status> {
        let from = who.from.map(|from| from.to_canonical().to_string());
        let from = from.unwrap_or_else(|| "an unknown address".to_owned());
        let Some(speaker) = Speaker::of(who.proven.generation, hello, &from) else {
            return Ok(());
        };
        let sessions = self.sessions.lock();
        let taken = sessions
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(&who.host);
        let speakers = self.speakers.lock();
        let heard = speakers
            .unwrap_or_else(PoisonError::into_inner)
            .hear(who.host, speaker, taken);
        let (first, second, refused) = match heard {
            Heard::One => return Ok(()),
            Heard::First { second } => (from, second, false),
            Heard::Second { first, second } => (first, second, true),
        };
        let name = self.identity.host(who.host).map(|host| host.name);
        let name = name.unwrap_or_default();
        tracing::warn!(host = name, first, second, "identity used twice");
        let text = format!(
            "an agent at {first} speaks for {name} with this very identity: if this machine is a copy of it, re-join under a name of its own: dawnwatch-agent join SERVER LINE --hostname NAME (dawnwatch token create on the server prints a line)"
        );
        let host = who.host;
        let twice = Twice {
            host,
            first,
            second,
        };
        let input = Box::new(Input::Twice(Box::new(twice)));
        self.submit(Submit::Input(input, None)).await?;
        if refused {
            Err(Status::permission_denied(text))
        } else {
            Ok(())
        }
    }

    /// Makes this the host's session; the one before it is told to end.
    pub(super) fn enter(&self, host: HostId, number: u64) -> oneshot::Receiver<()> {
        let (end, ended) = oneshot::channel();
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, before)) = sessions.insert(host, (number, end)) {
            let _ = before.send(());
        }
        self.gauges.streams(sessions.len());
        ended
    }

    pub(super) fn leave(&self, host: HostId, number: u64) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions
            .get(&host)
            .is_some_and(|(current, _)| *current == number)
        {
            sessions.remove(&host);
        }
        self.gauges.streams(sessions.len());
    }
}
