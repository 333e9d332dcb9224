//! Renewing: a new key and a new certificate at half of the old one's life.
//!
//! The old certificate goes on to count until the new one is first used, so a lost answer costs nothing: the pending
//! key is kept, and the server answers the same question with the same generation.

use std::time::Duration;

use dawnwatch_proto::pb::enrolment_client::EnrolmentClient;
use dawnwatch_proto::{MESSAGE_BYTES_MAX, pb};
use jiff::Timestamp;
use rcgen::{KeyPair, SigningKey};
use tokio::time::timeout;

use super::join::{CALL_TIMEOUT, check_chain, csr, is_no};
use super::store::{self, Purpose, StoreError};
use super::{Address, ConnectError, Identity, LoadError, connect};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What an expired certificate's key signs, before the request's bytes.
const PROOF_PREFIX: &[u8] = b"dawnwatch renew";

/// Renewals are spread over this share of a certificate's life, so that a fleet that joined in one hour does not renew
/// in one.
const SPREAD_OF_LIFE: i64 = 10;

/// Renewing came to nothing; the old certificate is in force.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// The server cannot be spoken to.
    #[error("cannot renew this host's certificate: {0}")]
    Connect(#[from] ConnectError),
    /// The server says no: trying again does not help, joining again does.
    #[error("the server does not renew this host's certificate: {0}")]
    Refused(String),
    /// The server cannot at the moment.
    #[error("the server did not renew this host's certificate: {0}; it is tried again")]
    Failed(String),
    /// The identity cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The identity cannot be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key could not be made or used.
    #[error("cannot make a key: {0}")]
    Key(#[source] rcgen::Error),
}

impl Identity {
    /// Renews the certificate where half of its life is over. Says whether the identity changed, which takes a new
    /// connection to come into force.
    ///
    /// # Errors
    /// What stands in the way; the old certificate stays in force.
    pub async fn renew_if_due(
        &mut self,
        server: &str,
        now_wall: Timestamp,
    ) -> Result<bool, RenewError> {
        if !self.is_due(now_wall) {
            return Ok(false);
        }
        self.renew(server, now_wall).await?;
        Ok(true)
    }

    /// Whether half of the certificate's life is over, and this host's share of the spread.
    #[must_use]
    pub fn is_due(&self, now_wall: Timestamp) -> bool {
        let life = self.not_after.as_second() - self.not_before.as_second();
        let spread =
            i64::try_from(self.host_id.0 % 1_000).unwrap_or(0) * life / SPREAD_OF_LIFE / 1_000;
        let due = self.not_before.as_second() + life / 2 + spread;
        self.server_time(now_wall).as_second() >= due
    }

    /// Renews the certificate, also one that ended: what to do where the server says `Unauthenticated`.
    ///
    /// # Errors
    /// What stands in the way; the old certificate stays in force.
    pub async fn renew(&mut self, server: &str, now_wall: Timestamp) -> Result<(), RenewError> {
        if self.reload()? {
            // Somebody joined again beside this agent: that identity is fresher than any renewal of ours.
            return Ok(());
        }
        let key = self.pending_key()?;
        let reply = self.ask(server, &key).await?;
        check_chain(&reply.chain, &self.document.pins, &key, self.host_id)
            .map_err(|why| RenewError::Failed(format!("the answer cannot be right ({why})")))?;
        let mut document = self.document.clone();
        document.leaf = reply.chain.into_iter().next().unwrap_or_default();
        document.key = key.serialize_der();
        document.offset_ms = reply
            .server_wall_ms
            .saturating_sub(now_wall.as_millisecond());
        store::save(&self.state, &document)?;
        *self = Identity::new(&self.state, document)?;
        store::forget_pending(&self.state)?;
        Ok(())
    }

    /// The key that a lost answer was about, or a fresh one, stored before the server hears of it.
    fn pending_key(&self) -> Result<KeyPair, RenewError> {
        let purpose = Purpose::Renew {
            host_id: self.host_id,
        };
        // A kill after the last renewal may have left the key that is in force.
        let pending = store::pending(&self.state, &purpose).filter(|key| *key != self.document.key);
        if let Some(key) = pending.and_then(|key| KeyPair::try_from(key).ok()) {
            return Ok(key);
        }
        let key = KeyPair::generate().map_err(RenewError::Key)?;
        store::save_pending(&self.state, purpose, key.serialized_der())?;
        Ok(key)
    }

    async fn ask(&self, server: &str, key: &KeyPair) -> Result<pb::RenewReply, RenewError> {
        let address: Address = server.parse().map_err(ConnectError::from)?;
        let channel =
            connect::channel_with(self.client_config()?, &address, CONNECT_TIMEOUT).await?;
        let csr = csr(key).map_err(RenewError::Key)?;
        let held = KeyPair::try_from(self.document.key.clone()).map_err(RenewError::Key)?;
        let proof = held
            .sign(&[PROOF_PREFIX, &csr].concat())
            .map_err(RenewError::Key)?;
        let request = pb::RenewRequest {
            certificate: self.document.leaf.clone(),
            csr,
            proof,
        };
        let mut client = EnrolmentClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let reply = timeout(CALL_TIMEOUT, client.renew(request)).await;
        let reply = reply.map_err(|_| {
            RenewError::Failed(format!("no answer within {} s", CALL_TIMEOUT.as_secs()))
        })?;
        match reply {
            Ok(reply) => Ok(reply.into_inner()),
            Err(status) if is_no(&status) => Err(RenewError::Refused(status.message().to_owned())),
            Err(status) => Err(RenewError::Failed(status.message().to_owned())),
        }
    }
}
