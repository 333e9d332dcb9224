//! Which server is ours: the one whose chain ends in the pinned CA key, under the fixed name.
//!
//! **Time.** A host with a dead clock battery must be able to join and to report, so this host's clock has no say in it: a
//! chain is verified at a moment at which it is valid. The price is that an expired server certificate would pass; it is
//! bounded from below by what the host knows for certain: it is later than the beginning of its own certificate, so a
//! server certificate that ended before that is refused. A stolen server key is thus of use until the host's next
//! renewal after the stolen certificate's end (45 days at most), never for ever. The CA's key is what must be kept.

use std::sync::Arc;
use std::time::Duration;

use dawnwatch_proto::SERVER_NAME;
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, TrustAnchor, UnixTime,
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme, version,
};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::extensions::GeneralName;

pub use super::store::Pin;

/// Longest chain looked at: leaf, CA, and a CA that takes over.
const CHAIN_MAX: usize = 4;

/// What this agent reads in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    /// The `dawnwatch://` identity, where there is one.
    pub(super) uri: Option<String>,
    /// The public key (SPKI).
    pub(super) key: Vec<u8>,
}

/// Reads a certificate; says what is wrong where it is none.
pub(super) fn facts(der: &[u8]) -> Result<Facts, String> {
    let (_, cert) = x509_parser::parse_x509_certificate(der).map_err(|error| error.to_string())?;
    let time = |seconds| Timestamp::from_second(seconds).map_err(|error| error.to_string());
    let san = cert
        .subject_alternative_name()
        .map_err(|error| error.to_string())?;
    let names = san.iter().flat_map(|san| &san.value.general_names);
    let uri = names
        .filter_map(|name| {
            if let GeneralName::URI(uri) = name {
                Some(*uri)
            } else {
                None
            }
        })
        .next();
    Ok(Facts {
        not_before: time(cert.validity().not_before.timestamp())?,
        not_after: time(cert.validity().not_after.timestamp())?,
        uri: uri.map(str::to_owned),
        key: cert.public_key().raw.to_vec(),
    })
}

/// A TLS set-up that trusts the pinned CA alone, and shows this certificate (DER, and PKCS #8 key) where there is one.
pub(super) fn client_config(
    pins: Vec<Pin>,
    floor: Option<Timestamp>,
    pair: Option<(Vec<u8>, Vec<u8>)>,
) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = OurServer::new(pins, floor, &provider);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match pair {
        None => builder.with_no_client_auth(),
        Some((leaf, key)) => {
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
            builder.with_client_auth_cert(vec![leaf.into()], key)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    // One connection lives for weeks: a cache of sessions would only take memory.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Whether this certificate was made for a host by a CA of ours; the CA's certificate is in the chain.
pub(super) fn is_host_of(pins: &[Pin], leaf: &[u8], chain: &[Vec<u8>]) -> bool {
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    let chain: Vec<CertificateDer<'_>> = chain
        .iter()
        .map(|der| CertificateDer::from(der.as_slice()))
        .collect();
    let leaf = CertificateDer::from(leaf);
    verify(pins, &leaf, &chain, KeyUsage::client_auth(), &algorithms).is_ok()
}

#[derive(Debug)]
struct OurServer {
    pins: Vec<Pin>,
    floor: Option<Timestamp>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl OurServer {
    fn new(pins: Vec<Pin>, floor: Option<Timestamp>, provider: &CryptoProvider) -> OurServer {
        OurServer {
            pins,
            floor,
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl ServerCertVerifier for OurServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let usage = KeyUsage::server_auth();
        let facts = verify(
            &self.pins,
            end_entity,
            intermediates,
            usage,
            &self.algorithms,
        )?;
        let name = ServerName::try_from(SERVER_NAME)
            .map_err(|_| Error::InvalidCertificate(CertificateError::NotValidForName))?;
        cert(end_entity)?
            .verify_is_valid_for_subject_name(&name)
            .map_err(|_| Error::InvalidCertificate(CertificateError::NotValidForName))?;
        if self.floor.is_some_and(|floor| facts.not_after < floor) {
            return Err(Error::InvalidCertificate(CertificateError::Expired));
        }
        Ok(ServerCertVerified::assertion())
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

/// Finds the pinned CA in the chain and verifies the leaf against it, at the beginning of the leaf's life.
fn verify(
    pins: &[Pin],
    leaf: &CertificateDer<'_>,
    chain: &[CertificateDer<'_>],
    usage: KeyUsage,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<Facts, Error> {
    let unknown = || Error::InvalidCertificate(CertificateError::UnknownIssuer);
    let bad = || Error::InvalidCertificate(CertificateError::BadEncoding);
    let anchor = chain
        .iter()
        .take(CHAIN_MAX)
        .find_map(|ca| pinned(pins, ca))
        .ok_or_else(unknown)?;
    let facts = facts(leaf).map_err(|_| bad())?;
    let seconds = u64::try_from(facts.not_before.as_second()).map_err(|_| bad())?;
    let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let leaf = cert(leaf)?;
    leaf.verify_for_usage(algorithms.all, &[anchor], &[], at, usage, None, None)
        .map_err(|_| unknown())?;
    Ok(facts)
}

/// The CA as an anchor, if its key is pinned. Both readings are webpki's, so that no two parsers can disagree.
fn pinned<'a>(pins: &[Pin], ca: &'a CertificateDer<'a>) -> Option<TrustAnchor<'a>> {
    let cert = EndEntityCert::try_from(ca).ok()?;
    let hash = digest(&SHA256, &cert.subject_public_key_info());
    if !pins.iter().any(|pin| pin.0 == hash.as_ref()) {
        return None;
    }
    anchor_from_trusted_cert(ca).ok()
}

fn cert<'a>(der: &'a CertificateDer<'a>) -> Result<EndEntityCert<'a>, Error> {
    EndEntityCert::try_from(der)
        .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))
}
