//! Dials with the host's certificate, and sees to it that there is a good one.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tonic::transport::Channel;

use crate::clock::Clock;
use crate::identity::{self, ConnectError, Identity, RenewError};
use crate::uplink::{Dial, Shared, Unreachable};

/// Longest wait for DNS, TCP and TLS of one address.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Time between two looks at the certificate of a stream that is up: lives are counted in days.
const RENEW_EVERY: Duration = Duration::from_secs(3_600);

/// The real way to a server.
#[derive(Debug)]
pub(super) struct Tls {
    identity: RefCell<Identity>,
    clock: Clock,
    refused: Cell<bool>,
}

impl Tls {
    pub(super) fn new(identity: Identity, clock: Clock) -> Tls {
        Tls {
            identity: RefCell::new(identity),
            clock,
            refused: Cell::new(false),
        }
    }

    /// Looks after the certificate while a stream is up, for ever.
    pub(super) async fn keep_fresh(&self, shared: &Shared, servers: &[String]) {
        for server in servers.iter().cycle() {
            tokio::time::sleep(RENEW_EVERY).await;
            if !shared.is_connected() {
                continue;
            }
            match self.renew(server, false).await {
                Ok(true) => shared.renew(),
                Ok(false) => {}
                Err(error) => tracing::warn!(server, "{error}"),
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
    async fn dial(&self, server: &str) -> Result<Channel, Unreachable> {
        // Somebody may have joined again beside this agent.
        let reloaded = self.identity.borrow_mut().reload();
        reloaded.map_err(|error| Unreachable::Refused(error.to_string()))?;
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
