//! The CA: one P-256 key for ever, a certificate over it, and what it signs.

use std::path::Path;
use std::sync::Arc;

use dawnwatch_proto::HostId;
use jiff::Timestamp;
use rcgen::{CertificateParams, Issuer, KeyPair, PublicKeyData, SubjectPublicKeyInfo};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::certificate::{self, BACKDATE_SECONDS, CA_SECONDS, Facts};
use super::{IdentityError, files};

pub(super) const CA_KEY: &str = "ca.key";
pub(super) const CA_CERTIFICATE: &str = "ca.der";
pub(super) const SERVER_KEY: &str = "server.key";
pub(super) const SERVER_CERTIFICATE: &str = "server.der";

/// The CA's key and certificate.
pub(super) struct Authority {
    key: KeyPair,
    pub(super) certificate: CertificateDer<'static>,
    facts: Facts,
    /// SHA-256 of the public key.
    pub(super) pin: [u8; 32],
}

impl Authority {
    /// Reads the CA; makes it where there is none and `make` allows it.
    pub(super) fn open(dir: &Path, now: Timestamp, make: bool) -> Result<Authority, IdentityError> {
        let key = match files::read(dir, CA_KEY)? {
            Some(bytes) => read_key(CA_KEY, bytes)?,
            None if make && files::read(dir, CA_CERTIFICATE)?.is_none() => make_key(dir, CA_KEY)?,
            None => return Err(IdentityError::Missing(CA_KEY)),
        };
        match files::read(dir, CA_CERTIFICATE)? {
            Some(bytes) => Authority::new(key, bytes.into()),
            // The key is what counts: a certificate over it can be made at any time.
            None => Authority::certify(dir, key, now, now),
        }
    }

    /// The CA of a key and a certificate over it.
    pub(super) fn of(key: Vec<u8>, certificate: Vec<u8>) -> Result<Authority, IdentityError> {
        Authority::new(read_key(CA_KEY, key)?, certificate.into())
    }

    /// Whether a server's certificate is one of ours.
    pub(super) fn signed(&self, leaf: &[u8]) -> bool {
        super::tls::signed_by(&self.certificate, &leaf.to_vec().into())
    }

    /// A server's key and certificate, if they belong together.
    pub(super) fn pair(
        &self,
        key: Vec<u8>,
        leaf: Vec<u8>,
    ) -> Result<Arc<CertifiedKey>, IdentityError> {
        self.certified(key, leaf.into())
    }

    fn certify(
        dir: &Path,
        key: KeyPair,
        made: Timestamp,
        now: Timestamp,
    ) -> Result<Authority, IdentityError> {
        let certificate = certificate::ca_params(made, now).self_signed(&key);
        let certificate = certificate.map_err(IdentityError::Crypto)?;
        files::write(dir, CA_CERTIFICATE, certificate.der())?;
        Authority::new(key, certificate.into())
    }

    fn new(key: KeyPair, certificate: CertificateDer<'static>) -> Result<Authority, IdentityError> {
        let damaged = |why| IdentityError::Damaged {
            file: CA_CERTIFICATE,
            why,
        };
        let facts = certificate::facts(&certificate).map_err(damaged)?;
        let pin = certificate::sha256(&key.subject_public_key_info());
        if facts.key != pin {
            return Err(damaged(format!("it does not belong to {CA_KEY}")));
        }
        Ok(Authority {
            key,
            certificate,
            facts,
            pin,
        })
    }

    /// The same CA with a fresh certificate, where half of the old one's life is over.
    pub(super) fn renew_if_due(
        &self,
        dir: &Path,
        now: Timestamp,
    ) -> Result<Option<Authority>, IdentityError> {
        if self.facts.not_after.as_second() - now.as_second() > CA_SECONDS / 2 {
            return Ok(None);
        }
        let key = read_key(CA_KEY, self.key.serialize_der())?;
        tracing::info!("renewed the CA's certificate; its key stays");
        Authority::certify(dir, key, self.made(), now).map(Some)
    }

    /// The server's certificate: the stored one where it is good and made out to these names, else a fresh one.
    pub(super) fn server_certificate(
        &self,
        dir: &Path,
        now: Timestamp,
        names: &[String],
    ) -> Result<Arc<CertifiedKey>, IdentityError> {
        let stored = files::read(dir, SERVER_KEY)?.zip(files::read(dir, SERVER_CERTIFICATE)?);
        if let Some((key, leaf)) = stored
            && self.is_good(&leaf, names)
            && !self.server_is_due(&leaf, now)
            && let Ok(certified) = self.certified(key, leaf.into())
        {
            return Ok(certified);
        }
        self.renew_server(dir, now, names)
    }

    /// Makes a server certificate over a new key.
    pub(super) fn renew_server(
        &self,
        dir: &Path,
        now: Timestamp,
        names: &[String],
    ) -> Result<Arc<CertifiedKey>, IdentityError> {
        let params = certificate::server_params(self.sane(now), names)?;
        let key = KeyPair::generate().map_err(IdentityError::Crypto)?;
        let leaf = self.sign(&params, &key)?;
        let certified = self.certified(key.serialize_der(), leaf.clone())?;
        // A crash in between leaves a pair that does not match, which the next start replaces.
        files::write(dir, SERVER_KEY, key.serialized_der())?;
        files::write(dir, SERVER_CERTIFICATE, &leaf)?;
        Ok(certified)
    }

    /// Whether half of this certificate's life is over, or it is from a future that turned out wrong.
    pub(super) fn server_is_due(&self, leaf: &[u8], now: Timestamp) -> bool {
        let Ok(facts) = certificate::facts(leaf) else {
            return true;
        };
        let (start, end) = (facts.not_before.as_second(), facts.not_after.as_second());
        let now = self.sane(now).as_second();
        now >= start + (end - start) / 2 || now < start
    }

    /// A certificate for a host's key, with the CA's behind it.
    pub(super) fn host_chain(
        &self,
        key: &SubjectPublicKeyInfo,
        id: HostId,
        generation: u64,
        now: Timestamp,
    ) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
        let params = certificate::host_params(self.sane(now), id, generation)?;
        Ok(vec![self.sign(&params, key)?, self.certificate.clone()])
    }

    /// A clock that stands before the CA's making is certainly wrong: nothing is dated by it.
    fn sane(&self, now: Timestamp) -> Timestamp {
        now.max(self.made())
    }

    /// When the CA was made first.
    fn made(&self) -> Timestamp {
        let made = self.facts.not_before.as_second() + BACKDATE_SECONDS;
        Timestamp::from_second(made).unwrap_or(self.facts.not_before)
    }

    fn sign(
        &self,
        params: &CertificateParams,
        key: &impl PublicKeyData,
    ) -> Result<CertificateDer<'static>, IdentityError> {
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key);
        let issuer = issuer.map_err(IdentityError::Crypto)?;
        let leaf = params
            .signed_by(key, &issuer)
            .map_err(IdentityError::Crypto)?;
        Ok(leaf.into())
    }

    fn is_good(&self, leaf: &[u8], names: &[String]) -> bool {
        let Ok(facts) = certificate::facts(leaf) else {
            return false;
        };
        let mut made_out_to = facts.names;
        made_out_to.sort();
        made_out_to == certificate::server_names(names) && self.signed(leaf)
    }

    fn certified(
        &self,
        key: Vec<u8>,
        leaf: CertificateDer<'static>,
    ) -> Result<Arc<CertifiedKey>, IdentityError> {
        // The CA's certificate goes along: a joining agent compares its key with the join line.
        let chain = vec![leaf, self.certificate.clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
        let certified = CertifiedKey::from_der(chain, key, &default_provider());
        certified.map(Arc::new).map_err(IdentityError::Tls)
    }
}

fn make_key(dir: &Path, name: &'static str) -> Result<KeyPair, IdentityError> {
    let key = KeyPair::generate().map_err(IdentityError::Crypto)?;
    files::write(dir, name, key.serialized_der())?;
    Ok(key)
}

fn read_key(file: &'static str, bytes: Vec<u8>) -> Result<KeyPair, IdentityError> {
    KeyPair::try_from(bytes).map_err(|error| IdentityError::Damaged {
        file,
        why: error.to_string(),
    })
}
