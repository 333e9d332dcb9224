//! Who is who: the CA, the server's certificate, join tokens, hosts, and the TLS that proves them.
//!
//! - `authority`: the CA's key and what it signs.
//! - `certificate`: what a certificate says.
//! - [`state`]: hosts and tokens on disk.
//! - `document`: a file that many change at once.
//! - `enrol`: the decisions behind joining and renewing.
//! - `erase`: who a host was is forgotten.
//! - `tokens`, `hosts`: what can be done with them; [`Identity::check`] is the one gate.
//! - [`join`]: the gRPC service for joining and renewing.
//! - [`people`], [`password`]: who may log in, and as what.
//! - `tls`: our own rustls set-up.
//! - [`sound`]: looks through the files without changing any.
//! - [`listener`]: connections whose handshake is done.
//!
//! Invariants: nothing but the certificate says who a host is. A secret is never stored, only its hash. A use of a token and
//! the host it made are written in one file, so there is never one without the other. A new generation of a
//! certificate ends the one before only when it is first used, so no lost answer locks a host out.
//!
//! Caveats: certificates that expired, and hosts that were denied, still complete a TLS handshake, so that they can be told
//! why they are refused; [`Identity::check`] is what refuses them. The CA's key is not protected by a passphrase.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use dawnwatch_proto::{HostId, JoinLine};
use jiff::{SignedDuration, Timestamp};
use ring::rand::{SecureRandom, SystemRandom};

mod authority;
mod certificate;
mod document;
mod enrol;
mod erase;
mod files;
mod hosts;
pub mod join;
pub mod listener;
pub mod named;
pub mod password;
pub mod people;
pub mod sound;
pub mod state;
mod tls;
mod tokens;

pub use certificate::{BACKDATE_SECONDS, LEAF_SECONDS};
pub use enrol::{GRACE, HOSTS_MAX, JoinRefusal};
pub use hosts::Refusal;
pub use join::Enrolment;
pub use listener::{Incoming, Limits, Peer, TlsConn, incoming};
pub use named::{HostError, NamedRecord};
pub use state::{HostRecord, Issued, TokenRecord};
pub use tokens::{LABELS_MAX, TOKENS_MAX};

use authority::Authority;
use document::{Document as _, Kept};
use state::State;

/// Answers what time it is; the app passes the Clock.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The first join line is for the first afternoon.
const FIRST_LINE_EXPIRES: SignedDuration = SignedDuration::from_hours(24);

/// The first join line is good for a whole site.
const FIRST_LINE_USES: u32 = 500;

/// Who is who, on disk and in memory.
pub struct Identity {
    dir: PathBuf,
    random: SystemRandom,
    authority: ArcSwap<Authority>,
    names: Vec<String>,
    served: Arc<tls::Served>,
    state: Kept<State>,
    /// Held while certificates are renewed.
    renewing: Mutex<()>,
}

/// Whether this start was the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum First {
    /// The first start: here is a join line for 24 hours and 500 hosts. Its secret is shown this once.
    Start(JoinLine),
    /// There was an identity already.
    Again,
}

/// What a client certificate of our CA says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proven {
    /// The host.
    pub id: HostId,
    /// The certificate's generation.
    pub generation: u64,
    /// When the certificate ends.
    pub not_after: Timestamp,
}

/// What went wrong with the identity's files or keys.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what it was.
    #[error("identity/{file} is damaged ({why}): bring it back from a backup")]
    Damaged {
        /// The file.
        file: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// One of a pair of files is gone.
    #[error(
        "identity/{0} is missing, and what it belonged to is there: bring it back from a backup"
    )]
    Missing(&'static str),
    /// A file was written by a later version.
    #[error(
        "identity/{file} was written by a later dawnwatch (version {version} of the file): upgrade, or roll back"
    )]
    Newer {
        /// The file.
        file: &'static str,
        /// The file's version.
        version: u32,
    },
    /// A name cannot stand in a certificate.
    #[error("the server name {0:?} cannot stand in a certificate: use a DNS name or an address")]
    Name(String),
    /// A key or certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Crypto(#[source] rcgen::Error),
    /// TLS could not be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[source] rustls::Error),
    /// The system gave no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// There is no such host.
    #[error("no host has the id {0}")]
    NoHost(HostId),
    /// There is no such token.
    #[error("there is no join token {0:?}: see dawnwatch token list")]
    NoToken(String),
    /// A bound is reached.
    #[error("{what}: {limit} is the limit: {remedy}")]
    Full {
        /// What there is too much of.
        what: &'static str,
        /// How much there may be.
        limit: usize,
        /// What to do.
        remedy: &'static str,
    },
}

impl Identity {
    /// Opens the identity in this directory, and makes it at the first start: CA, server certificate (made out to the
    /// fixed name and to `names`), and a first join line.
    ///
    /// # Errors
    /// Where a file cannot be read or written, is damaged, or half of a pair is gone.
    pub fn open(
        dir: &Path,
        now: Timestamp,
        names: &[String],
    ) -> Result<(Identity, First), IdentityError> {
        files::private_dir(dir)?;
        let state = files::read(dir, State::FILE)?;
        let first = state.is_none();
        let authority = Authority::open(dir, now, first)?;
        let certified = authority.server_certificate(dir, now, names)?;
        let state = state.as_deref().map(document::parse).transpose()?;
        let identity = Identity {
            dir: dir.to_owned(),
            random: SystemRandom::new(),
            authority: ArcSwap::from_pointee(authority),
            names: names.to_vec(),
            served: Arc::new(tls::Served::new(certified)),
            state: Kept::new(dir, state.unwrap_or_default()),
            renewing: Mutex::new(()),
        };
        if !first {
            return Ok((identity, First::Again));
        }
        // The document is written last: its absence is what says that a first start was not finished.
        let expires = now
            .saturating_add(FIRST_LINE_EXPIRES)
            .unwrap_or(Timestamp::MAX);
        let line = identity.create_token(FIRST_LINE_USES, expires, Vec::new(), now)?;
        Ok((identity, First::Start(line)))
    }

    /// Renews the server's certificate at half of its life, and the CA's, with the same key, at half of its. Call it every
    /// hour or so. Connections that stand are not touched. Says whether anything was renewed.
    ///
    /// # Errors
    /// Where the new certificate cannot be made or stored; the old one stays in force.
    pub fn renew_if_due(&self, now: Timestamp) -> Result<bool, IdentityError> {
        let _renewing = self
            .renewing
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let renewed = self.authority.load().renew_if_due(&self.dir, now)?;
        let ca_renewed = renewed.is_some();
        if let Some(authority) = renewed {
            self.authority.store(Arc::new(authority));
        }
        let authority = self.authority.load();
        if !ca_renewed && !authority.server_is_due(&self.served.leaf(), now) {
            return Ok(false);
        }
        self.served
            .swap(authority.renew_server(&self.dir, now, &self.names)?);
        tracing::info!("renewed the server's certificate");
        Ok(true)
    }

    /// SHA-256 of the CA's public key: what join lines carry.
    #[must_use]
    pub fn pin(&self) -> [u8; 32] {
        self.authority.load().pin
    }

    /// Changes the document: the change is in force once the file is in place, else not at all.
    fn change<T, E: From<IdentityError>>(
        &self,
        change: impl FnOnce(&mut State) -> Result<T, E>,
    ) -> Result<T, E> {
        self.state.change(change)
    }

    fn random<const N: usize>(&self) -> Result<[u8; N], IdentityError> {
        let mut bytes = [0; N];
        self.random
            .fill(&mut bytes)
            .map_err(|_| IdentityError::Random)?;
        Ok(bytes)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
