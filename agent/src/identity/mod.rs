//! Who this host is, and how it knows its server.
//!
//! - [`address`]: `host`, `host:port`, `[v6]:port`.
//! - [`trust`]: which server is ours, whatever the clock says.
//! - [`connect`]: a connection to it, with errors that say what to do.
//! - [`join()`]: a join line becomes an identity.
//! - [`renew`]: a fresh certificate at half of the old one's life.
//! - `store`: the two files behind it.
//!
//! Invariants: the private key never leaves the host. Nothing secret is sent before the server proved that it holds the CA
//! of the join line. A key is on disk before the server hears of it, and the old identity is there until the one that
//! follows it is whole on disk, so that a kill at any point never locks the host out.

use std::fmt;
use std::path::{Path, PathBuf};

use dawnwatch_proto::HostId;
use jiff::{SignedDuration, Timestamp};
use rustls::ClientConfig;

pub mod address;
pub mod connect;
pub mod join;
pub mod renew;
mod store;
pub mod trust;

pub use address::{Address, BadAddress};
pub use connect::{ConnectError, channel, connect_raw};
pub use join::{JoinError, Joined, join};
pub use renew::RenewError;
pub use store::{LoadError, StoreError, leave};

/// A clock estimate this far from the stored one is worth a write; smaller moves are the uplink's business.
const OFFSET_CHANGE_MS: i64 = 10_000;

/// The identity of a joined host.
#[derive(Clone)]
pub struct Identity {
    /// Its id.
    pub host_id: HostId,
    /// The name the server knows it by.
    pub host_name: String,
    /// The servers it may speak to, as `host:port`, best first.
    pub servers: Vec<String>,
    /// When the certificate begins: real time is known to be later.
    pub not_before: Timestamp,
    /// When the certificate ends.
    pub not_after: Timestamp,
    /// The server's clock minus this host's, as last seen.
    pub offset_ms: i64,
    state: PathBuf,
    document: store::Document,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("host_id", &self.host_id)
            .field("host_name", &self.host_name)
            .field("servers", &self.servers)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads the identity of a joined host.
    ///
    /// # Errors
    /// Where the host never joined, or its files cannot be read.
    pub fn load(state: &Path) -> Result<Identity, LoadError> {
        let document = store::load(state)?;
        Identity::new(state, document)
    }

    fn new(state: &Path, document: store::Document) -> Result<Identity, LoadError> {
        let facts = trust::facts(&document.leaf).map_err(|why| LoadError::Damaged {
            path: state.join(store::FILE),
            why,
        })?;
        Ok(Identity {
            host_id: document.host_id,
            host_name: document.host_name.clone(),
            servers: document.servers.clone(),
            not_before: facts.not_before,
            not_after: facts.not_after,
            offset_ms: document.offset_ms,
            state: state.to_owned(),
            document,
        })
    }

    /// Takes up what a `join` beside a running agent has stored. Says whether anything changed.
    ///
    /// # Errors
    /// Where the files cannot be read.
    pub fn reload(&mut self) -> Result<bool, LoadError> {
        let stored = store::load(&self.state)?;
        if stored == self.document {
            return Ok(false);
        }
        *self = Identity::new(&self.state, stored)?;
        Ok(true)
    }

    /// Tells one writing of the stored identity from another without reading it; none where it cannot be looked at.
    #[must_use]
    pub fn stamp(&self) -> Option<[i128; 3]> {
        store::stamp(&self.state)
    }

    /// Whether this host knows the server whose CA key has this SHA-256.
    #[must_use]
    pub fn trusts(&self, pin: &[u8; 32]) -> bool {
        self.document.pins.contains(&store::Pin(*pin))
    }

    /// The TLS set-up: our server alone, the fixed name, this host's certificate.
    ///
    /// # Errors
    /// Where the stored certificate and key do not make a pair.
    pub fn client_config(&self) -> Result<ClientConfig, ConnectError> {
        let pair = (self.document.leaf.clone(), self.document.key.clone());
        trust::client_config(
            self.document.pins.clone(),
            Some(self.not_before),
            Some(pair),
        )
        .map_err(ConnectError::Setup)
    }

    /// The time by the server's clock, as well as this host can tell.
    #[must_use]
    pub fn server_time(&self, now_wall: Timestamp) -> Timestamp {
        now_wall
            .saturating_add(SignedDuration::from_millis(self.offset_ms))
            .unwrap_or(now_wall)
    }

    /// Takes note of the server's clock, and stores it where it moved far: by it the agent tells when to renew.
    ///
    /// # Errors
    /// Where it cannot be stored; it is in force all the same.
    pub fn note_server_time(
        &mut self,
        server_wall_ms: i64,
        now_wall: Timestamp,
    ) -> Result<(), StoreError> {
        let offset_ms = server_wall_ms.saturating_sub(now_wall.as_millisecond());
        let moved = offset_ms.saturating_sub(self.document.offset_ms);
        self.offset_ms = offset_ms;
        // What a `join` beside this agent has stored is not written over.
        let ours = store::load(&self.state).is_ok_and(|stored| stored == self.document);
        if moved.saturating_abs() < OFFSET_CHANGE_MS || !ours {
            return Ok(());
        }
        self.document.offset_ms = offset_ms;
        store::save(&self.state, &self.document)
    }
}
