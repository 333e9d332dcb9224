//! Dials with the host's certificate, and sees to it that there is a good one.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tonic::transport::Channel;

use crate::alarm::Alarm;
use crate::clock::Clock;
use crate::identity::{self, ConnectError, Identity, RenewError};
use crate::uplink::{Dial, Shared, Unreachable};

/// Longest wait for DNS, TCP and TLS of one address.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Time between two looks at whether somebody joined again beside this agent: a person waits for it.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// Looks between two questions whether the certificate is due: an hour, for lives are counted in days.
const LOOKS_A_RENEWAL: u32 = 240;

/// The real way to a server.
#[derive(Debug)]
pub(super) struct Tls {
    identity: RefCell<Identity>,
    /// Those of the configuration; where it names none, those of the identity are tried.
    servers: Vec<String>,
    clock: Clock,
    refused: Cell<bool>,
}

impl Tls {
    pub(super) fn new(identity: Identity, servers: Vec<String>, clock: Clock) -> Tls {
        Tls {
            identity: RefCell::new(identity),
            servers,
            clock,
            refused: Cell::new(false),
        }
    }

    /// Looks after the certificate while a stream is up, for ever.
    pub(super) async fn keep_fresh(&self, shared: &Shared) {
        let mut looks = 0_u32;
        let mut stamp = None;
        let alarm = Alarm::new();
        loop {
            alarm.sleep(LOOK_EVERY).await;
            looks = looks.wrapping_add(1);
            // Each writing is a file of its own: one that was read needs no second reading.
            let now = self.identity.borrow().stamp();
            if (now.is_none() || now != stamp) && self.reload() {
                shared.renew();
            }
            stamp = now;
            if !looks.is_multiple_of(LOOKS_A_RENEWAL) || !shared.is_connected() {
                continue;
            }
            let servers = self.servers();
            let turn = usize::try_from(looks / LOOKS_A_RENEWAL).unwrap_or(0);
            let Some(server) = servers.get(turn % servers.len().max(1)) else {
                continue;
            };
            match self.renew(server, false).await {
                Ok(true) => shared.renew(),
                Ok(false) => {}
                Err(error) => tracing::warn!(server, "{error}"),
            }
        }
    }

    /// Takes up what a `join` beside this agent has stored; tells whether there was anything. An identity that cannot be
    /// read at the moment is no reason to stop: the one in memory is as good as it was.
    fn reload(&self) -> bool {
        match self.identity.borrow_mut().reload() {
            Ok(false) => false,
            Ok(true) => {
                tracing::info!("took up the identity that a join beside this agent stored");
                true
            }
            Err(error) => {
                tracing::debug!("{error}");
                false
            }
        }
    }

    /// Renews where it is due, or in any case; tells whether the identity changed.
    async fn renew(&self, server: &str, always: bool) -> Result<bool, RenewError> {
        let mut identity = self.identity.borrow().clone();
        let changed = if always {
            identity
                .renew(server, self.clock.wall())
                .await
                .map(|()| true)
        } else {
            identity.renew_if_due(server, self.clock.wall()).await
        }?;
        if changed {
            tracing::info!(server, not_after = %identity.not_after, "certificate renewed");
            self.identity.replace(identity);
        }
        Ok(changed)
    }
}

impl Dial for Tls {
    fn servers(&self) -> Vec<String> {
        self.reload();
        if self.servers.is_empty() {
            self.identity.borrow().servers.clone()
        } else {
            self.servers.clone()
        }
    }

    async fn dial(&self, server: &str) -> Result<Channel, Unreachable> {
        let refused = self.refused.take();
        match self.renew(server, refused).await {
            Ok(_) => {}
            Err(error @ RenewError::Refused(_)) if refused => {
                return Err(Unreachable::Refused(error.to_string()));
            }
            // With the certificate at hand the stream may work all the same.
            Err(error) => tracing::debug!(server, "{error}"),
        }
        let identity = self.identity.borrow().clone();
        identity::channel(&identity, server, CONNECT_MAX)
            .await
            .map_err(|error| match error {
                ConnectError::Address(_)
                | ConnectError::WrongServer { .. }
                | ConnectError::Setup(_) => Unreachable::Refused(error.to_string()),
                ConnectError::Resolve { .. }
                | ConnectError::Connect { .. }
                | ConnectError::Timeout { .. }
                | ConnectError::Expired { .. }
                | ConnectError::Tls { .. }
                | ConnectError::Http { .. } => Unreachable::Later(error.to_string()),
            })
    }

    fn welcomed(&self, server_wall_ms: i64) {
        let noted = self
            .identity
            .borrow_mut()
            .note_server_time(server_wall_ms, self.clock.wall());
        if let Err(error) = noted {
            tracing::warn!("{error}");
        }
    }

    fn unauthenticated(&self) {
        self.refused.set(true);
    }
}
