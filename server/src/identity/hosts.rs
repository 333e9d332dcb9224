//! Hosts: who may speak, who left, who was shut out.

use dawnwatch_proto::HostId;
use jiff::Timestamp;
use tonic::{Code, Status};

use super::state::HostRecord;
use super::{Identity, IdentityError, Peer, Proven};

/// Why a peer may not speak. The text is for the agent's log, so it says what to do on the host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It showed no certificate of ours.
    #[error("this call needs a client certificate: join first with dawnwatch-agent join")]
    NoCertificate,
    /// Its certificate ended.
    #[error("the certificate of {name} ended on {ended}: renew it")]
    Expired {
        /// The host's name.
        name: String,
        /// When it ended.
        ended: Timestamp,
    },
    /// A later certificate of this host is in use: this is an old backup, or a copy.
    #[error(
        "{name} has a newer certificate in use, so this one is from an old backup or a copied host: re-join with: dawnwatch-agent join SERVER LINE (dawnwatch token create on the server prints a line)"
    )]
    OldGeneration {
        /// The host's name.
        name: String,
    },
    /// Nobody knows the host: its record is gone.
    #[error(
        "this server does not know host {0}: re-join with: dawnwatch-agent join SERVER LINE (dawnwatch token create on the server prints a line)"
    )]
    Unknown(HostId),
    /// The host left for good.
    #[error(
        "{name} was retired: if it is to be watched again, re-join with: dawnwatch-agent join SERVER LINE (dawnwatch token create on the server prints a line)"
    )]
    Retired {
        /// The host's name.
        name: String,
    },
    /// The host was shut out.
    #[error(
        "the certificate of {name} was taken back on the server: re-join with: dawnwatch-agent join SERVER LINE (dawnwatch token create on the server prints a line)"
    )]
    Denied {
        /// The host's name.
        name: String,
    },
}

/// `Unauthenticated` means that renewing helps, `PermissionDenied` that only joining again does.
impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Status {
        let code = match refusal {
            Refusal::NoCertificate | Refusal::Expired { .. } => Code::Unauthenticated,
            Refusal::OldGeneration { .. }
            | Refusal::Unknown(_)
            | Refusal::Retired { .. }
            | Refusal::Denied { .. } => Code::PermissionDenied,
        };
        Status::new(code, refusal.to_string())
    }
}

impl Identity {
    /// Whether a host may speak: call it at the start of each stream, and every few seconds on one that lives. The first use
    /// of a new certificate ends the old one.
    ///
    /// # Errors
    /// The reason why it may not.
    pub fn check(&self, proven: &Proven, now: Timestamp) -> Result<(), Refusal> {
        let host = self.standing(proven)?;
        if now > proven.not_after {
            return Err(Refusal::Expired {
                name: host.name,
                ended: proven.not_after,
            });
        }
        if proven.generation > host.generation {
            self.confirm(proven);
        }
        Ok(())
    }

    /// The host behind a connection, checked.
    ///
    /// # Errors
    /// Where it showed no certificate, or may not speak.
    pub fn admit(&self, peer: Option<&Peer>, now: Timestamp) -> Result<Proven, Refusal> {
        let proven = peer
            .and_then(|peer| peer.host)
            .ok_or(Refusal::NoCertificate)?;
        self.check(&proven, now)?;
        Ok(proven)
    }

    /// All hosts, by id; the retired are among them.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostRecord> {
        let state = self.state.load();
        let hosts = state.hosts.values();
        hosts.map(|host| HostRecord::clone(host)).collect()
    }

    /// One host.
    #[must_use]
    pub fn host(&self, id: HostId) -> Option<HostRecord> {
        let state = self.state.load();
        state.hosts.get(&id).map(|host| HostRecord::clone(host))
    }

    /// Notes that a host left for good; it is refused until it joins again.
    ///
    /// # Errors
    /// Where there is no such host, or the change cannot be stored.
    pub fn retire(&self, id: HostId, now: Timestamp) -> Result<HostRecord, IdentityError> {
        self.change_host(id, |host| host.retired = host.retired.or(Some(now)))
    }

    /// Takes back every certificate that a host was given; it is refused until it joins again.
    ///
    /// # Errors
    /// Where there is no such host, or the change cannot be stored.
    pub fn deny(&self, id: HostId) -> Result<HostRecord, IdentityError> {
        self.change_host(id, |host| host.denied = host.newest())
    }

    /// The host of a certificate, unless all its generations up to this one are over.
    pub(super) fn standing(&self, proven: &Proven) -> Result<HostRecord, Refusal> {
        let state = self.state.load();
        let host = state
            .hosts
            .get(&proven.id)
            .ok_or(Refusal::Unknown(proven.id))?;
        let name = || host.name.clone();
        if host.retired.is_some() {
            return Err(Refusal::Retired { name: name() });
        }
        if proven.generation <= host.denied {
            return Err(Refusal::Denied { name: name() });
        }
        if proven.generation < host.generation {
            return Err(Refusal::OldGeneration { name: name() });
        }
        Ok(HostRecord::clone(host))
    }

    /// A generation that this server does not remember handing out is taken as well: only our CA can have signed it, and a
    /// server restored from a backup has forgotten some.
    fn confirm(&self, proven: &Proven) {
        let generation = proven.generation;
        if let Err(error) = self.change_host(proven.id, |host| host.confirm(generation)) {
            // It is confirmed again at its next check.
            tracing::warn!(host = %proven.id, generation, %error, "cannot note the new certificate");
        }
    }

    fn change_host(
        &self,
        id: HostId,
        change: impl FnOnce(&mut HostRecord),
    ) -> Result<HostRecord, IdentityError> {
        self.change(|state| {
            let host = state.host_mut(id).ok_or(IdentityError::NoHost(id))?;
            change(host);
            Ok(host.clone())
        })
    }
}
