//! What a certificate or a request says, and the making of both kinds of leaf.

use dawnwatch_proto::{HostId, SERVER_NAME};
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType, SubjectPublicKeyInfo,
};
use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::{IdentityError, Proven};

/// A leaf is good for this long: a host may be off for a holiday, a stolen key is of little use.
pub const LEAF_SECONDS: i64 = 30 * 24 * 3600;

/// Leaves begin this much before they are made, so that a peer's slow clock does not matter.
pub const BACKDATE_SECONDS: i64 = 24 * 3600;

/// The CA outlives the machines it serves; its certificate is made anew, with the same key, at half of this.
pub(super) const CA_SECONDS: i64 = 10 * 365 * 24 * 3600;

/// A request is a key, a name and a signature: some 250 bytes for P-256.
pub(super) const CSR_BYTES_MAX: usize = 4 * 1024;

/// How the identity of a host is written into its certificate.
const HOST_URI: &str = "dawnwatch://host/";

/// What dawnwatch reads in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    /// The DNS names and addresses it is made out to.
    pub(super) names: Vec<String>,
    /// The `dawnwatch://` identity, where it has exactly one.
    pub(super) uri: Option<String>,
    /// SHA-256 of the public key (SPKI).
    pub(super) key: [u8; 32],
}

/// Reads a certificate; says what is wrong where it is none.
pub(super) fn facts(der: &[u8]) -> Result<Facts, String> {
    let (rest, cert) =
        x509_parser::parse_x509_certificate(der).map_err(|error| error.to_string())?;
    if !rest.is_empty() {
        return Err("bytes after the certificate".to_owned());
    }
    let time = |seconds| Timestamp::from_second(seconds).map_err(|error| error.to_string());
    let san = cert
        .subject_alternative_name()
        .map_err(|error| error.to_string())?;
    let mut names = Vec::new();
    let mut uris = Vec::new();
    for name in san.iter().flat_map(|san| &san.value.general_names) {
        if let GeneralName::DNSName(name) = name {
            names.push((*name).to_owned());
        } else if let GeneralName::IPAddress(bytes) = name {
            names.extend(address(bytes));
        } else if let GeneralName::URI(uri) = name {
            uris.push((*uri).to_owned());
        }
    }
    Ok(Facts {
        not_before: time(cert.validity().not_before.timestamp())?,
        not_after: time(cert.validity().not_after.timestamp())?,
        names,
        uri: if uris.len() == 1 { uris.pop() } else { None },
        key: sha256(cert.public_key().raw),
    })
}

/// The host that a certificate of our CA stands for; none where it stands for no host.
pub(super) fn proven(der: &[u8]) -> Option<Proven> {
    let facts = facts(der).ok()?;
    let uri = facts.uri?;
    let (id, generation) = uri.strip_prefix(HOST_URI)?.split_once('/')?;
    Some(Proven {
        id: id.parse().ok()?,
        generation: generation.parse().ok()?,
        not_after: facts.not_after,
    })
}

/// SHA-256.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// The public key of a request, and its hash. Everything else in the request is ignored; its signature must show that
/// the sender holds the private key.
pub(super) fn csr_key(csr: &[u8]) -> Result<(SubjectPublicKeyInfo, [u8; 32]), String> {
    if csr.len() > CSR_BYTES_MAX {
        return Err(format!(
            "{} bytes are over the limit of {CSR_BYTES_MAX}",
            csr.len()
        ));
    }
    let (rest, csr) = X509CertificationRequest::from_der(csr).map_err(|error| error.to_string())?;
    if !rest.is_empty() {
        return Err("bytes after the request".to_owned());
    }
    csr.verify_signature()
        .map_err(|_| "it is not signed by its own key".to_owned())?;
    let raw = csr.certification_request_info.subject_pki.raw;
    let key = SubjectPublicKeyInfo::from_der(raw).map_err(|error| error.to_string())?;
    if rcgen::PublicKeyData::algorithm(&key) != &rcgen::PKCS_ECDSA_P256_SHA256 {
        return Err("only P-256 keys are taken".to_owned());
    }
    Ok((key, sha256(raw)))
}

/// The CA's own certificate. Subject, key and beginning stay the same for ever, so that a later one takes its place
/// unnoticed, and a clock that ran ahead for a while leaves no trace in when the CA was made.
pub(super) fn ca_params(made: Timestamp, now: Timestamp) -> CertificateParams {
    let mut params = params("dawnwatch CA", made, now, CA_SECONDS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A server certificate: the fixed name, and the names that people gave.
pub(super) fn server_params(
    now: Timestamp,
    names: &[String],
) -> Result<CertificateParams, IdentityError> {
    let mut params = params(SERVER_NAME, now, now, LEAF_SECONDS);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for name in server_names(names) {
        let san = match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => {
                let text = rcgen::string::Ia5String::try_from(name.clone());
                SanType::DnsName(text.map_err(|_| IdentityError::Name(name))?)
            }
        };
        params.subject_alt_names.push(san);
    }
    Ok(params)
}

/// The names of a server certificate, sorted, each once.
pub(super) fn server_names(names: &[String]) -> Vec<String> {
    let mut all: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
    all.push(SERVER_NAME.to_owned());
    all.sort();
    all.dedup();
    all
}

/// A host certificate: who it is stands in the URI; the name is there for people who look at it.
pub(super) fn host_params(
    now: Timestamp,
    id: HostId,
    generation: u64,
) -> Result<CertificateParams, IdentityError> {
    let mut params = params(&id.to_string(), now, now, LEAF_SECONDS);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let uri = format!("{HOST_URI}{id}/{generation}");
    let uri = rcgen::string::Ia5String::try_from(uri).map_err(IdentityError::Crypto)?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    Ok(params)
}

fn params(name: &str, made: Timestamp, now: Timestamp, seconds: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let date = |seconds: i64| {
        let seconds = u64::try_from(seconds).unwrap_or(0);
        rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(seconds)
    };
    params.not_before = date(made.as_second() - BACKDATE_SECONDS);
    params.not_after = date(now.as_second() + seconds);
    params
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(v4).to_string());
    }
    let v6 = <[u8; 16]>::try_from(bytes).ok()?;
    Some(std::net::Ipv6Addr::from(v6).to_string())
}

/// The DER of every certificate of a chain, as tonic sends it.
pub(super) fn ders(chain: &[CertificateDer<'static>]) -> Vec<Vec<u8>> {
    chain.iter().map(|der| der.to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{Issuer, KeyPair};

    fn now() -> Timestamp {
        "2026-10-05T08:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_host_certificate_says_who_it_is_and_nothing_more() {
        let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let id = HostId::v7(1, 2);
        let issuer = Issuer::new(ca_params(now(), now()), &ca_key);
        let leaf = host_params(now(), id, 7)
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        let got = proven(leaf.der()).unwrap();
        let not_after = "2026-11-04T08:00:00Z".parse().unwrap();
        assert_eq!(
            got,
            Proven {
                id,
                generation: 7,
                not_after
            }
        );
        let facts = facts(leaf.der()).unwrap();
        assert_eq!(facts.not_before, "2026-10-04T08:00:00Z".parse().unwrap());
        assert_eq!(facts.names, Vec::<String>::new());
        let (_, cert) = x509_parser::parse_x509_certificate(leaf.der()).unwrap();
        let usage = cert.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth && !usage.any);
        assert!(!cert.basic_constraints().unwrap().unwrap().value.ca);
    }

    #[test]
    fn a_server_certificate_stands_for_no_host() {
        let key = KeyPair::generate().unwrap();
        let names = vec![
            "Mon.example".to_owned(),
            "192.0.2.7".to_owned(),
            "::1".to_owned(),
        ];
        let cert = server_params(now(), &names)
            .unwrap()
            .self_signed(&key)
            .unwrap();
        assert_eq!(proven(cert.der()), None);
        let mut got = facts(cert.der()).unwrap().names;
        got.sort();
        assert_eq!(got, server_names(&names));
        assert_eq!(got, ["192.0.2.7", "::1", "dawnwatch-server", "mon.example"]);
    }

    #[test]
    fn a_request_counts_only_with_its_own_p256_signature() {
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        assert_eq!(csr_key(csr.der()).unwrap().1, sha256(&spki(&key)));
        let mut forged = csr.der().to_vec();
        *forged.last_mut().unwrap() ^= 1;
        assert!(csr_key(&forged).is_err());
        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let other = CertificateParams::default()
            .serialize_request(&other)
            .unwrap();
        assert_eq!(
            csr_key(other.der()).unwrap_err(),
            "only P-256 keys are taken"
        );
        for odd in [&b""[..], b"\x30\x00", &[0x30; 5000]] {
            assert!(csr_key(odd).is_err());
        }
    }

    fn spki(key: &KeyPair) -> Vec<u8> {
        rcgen::PublicKeyData::subject_public_key_info(key)
    }
}
