//! Our own rustls set-up: TLS 1.3 alone, a client certificate where there is one, time from the Clock.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme, version,
};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::{Identity, IdentityError, Now, certificate};

/// The certificate that is served, replaced without a restart.
pub(super) struct Served(ArcSwap<CertifiedKey>);

impl Served {
    pub(super) fn new(certified: Arc<CertifiedKey>) -> Served {
        Served(ArcSwap::new(certified))
    }

    pub(super) fn swap(&self, certified: Arc<CertifiedKey>) {
        self.0.store(certified);
    }

    pub(super) fn leaf(&self) -> Vec<u8> {
        self.0
            .load()
            .cert
            .first()
            .map(|leaf| leaf.to_vec())
            .unwrap_or_default()
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Served")
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Identity {
    /// The TLS set-up of the agents' listener. Time comes from `now`, never from the system behind our back.
    ///
    /// # Errors
    /// Where TLS cannot be set up.
    pub fn server_config(&self, now: Now) -> Result<Arc<ServerConfig>, IdentityError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = HostVerifier::new(self.authority.load().certificate.clone(), &provider);
        let mut config = ServerConfig::builder_with_details(provider, Arc::new(OurTime(now)))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(IdentityError::Tls)?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(self.served.clone());
        // Agents speak HTTP/2; what fetches the agent for a host that has none may know HTTP/1.1 alone.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Agents stay connected for weeks: resumption would only keep secrets around.
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

struct OurTime(Now);

impl fmt::Debug for OurTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OurTime")
    }
}

impl TimeProvider for OurTime {
    fn current_time(&self) -> Option<UnixTime> {
        unix_time((self.0)())
    }
}

fn unix_time(at: jiff::Timestamp) -> Option<UnixTime> {
    let seconds = u64::try_from(at.as_second()).ok()?;
    Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}

/// Lets in who has a client certificate of our CA, expired or not, and who has none. Who may do what is decided by
/// [`Identity::check`], which can say why; a TLS alert cannot.
#[derive(Debug)]
struct HostVerifier {
    ca: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl HostVerifier {
    fn new(ca: CertificateDer<'static>, provider: &CryptoProvider) -> HostVerifier {
        HostVerifier {
            ca,
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl ClientCertVerifier for HostVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let bad = |error: CertificateError| Error::InvalidCertificate(error);
        verify_at(
            &self.ca,
            end_entity,
            now,
            KeyUsage::client_auth(),
            &self.algorithms,
        )
        .map_err(bad)?;
        if certificate::proven(end_entity).is_none() {
            return Err(bad(CertificateError::ApplicationVerificationFailure));
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Whether a host's certificate was signed by our CA, at whatever time.
pub(super) fn is_host_of(ca: &CertificateDer<'_>, leaf: &CertificateDer<'_>) -> bool {
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    let at = UnixTime::since_unix_epoch(Duration::ZERO);
    verify_at(ca, leaf, at, KeyUsage::client_auth(), &algorithms).is_ok()
}

/// Whether a server's certificate was signed by our CA, at whatever time.
pub(super) fn signed_by(ca: &CertificateDer<'_>, leaf: &CertificateDer<'_>) -> bool {
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    let at = UnixTime::since_unix_epoch(Duration::ZERO);
    verify_at(ca, leaf, at, KeyUsage::server_auth(), &algorithms).is_ok()
}

/// Verifies the chain at the moment of the leaf's life that is nearest to `now`.
fn verify_at(
    ca: &CertificateDer<'_>,
    leaf: &CertificateDer<'_>,
    now: UnixTime,
    usage: KeyUsage,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), CertificateError> {
    let facts = certificate::facts(leaf).map_err(|_| CertificateError::BadEncoding)?;
    let start = unix_time(facts.not_before).ok_or(CertificateError::BadEncoding)?;
    let end = unix_time(facts.not_after).ok_or(CertificateError::BadEncoding)?;
    let at = if now < start { start } else { now.min(end) };
    let anchor = anchor_from_trusted_cert(ca).map_err(|_| CertificateError::BadEncoding)?;
    let cert = EndEntityCert::try_from(leaf).map_err(|_| CertificateError::BadEncoding)?;
    cert.verify_for_usage(algorithms.all, &[anchor], &[], at, usage, None, None)
        .map(|_| ())
        .map_err(|_| CertificateError::UnknownIssuer)
}
