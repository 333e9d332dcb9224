//! Whose certificates are believed: the machine's own list, as every other program here believes it, or one file.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::Failure;

/// Where distributions keep the list: Debian, Fedora, SUSE, Alpine.
const SYSTEM_LISTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The certificates of `ca_file`, else of the machine's list; those that no check can use are left out.
pub(super) fn roots(ca_file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let path = match ca_file {
        Some(path) => path.to_owned(),
        None => SYSTEM_LISTS.iter().map(PathBuf::from).find(|path| path.exists()).ok_or_else(|| {
            Failure::transient(
                "this machine has no list of certificate authorities: install ca-certificates, or set ca_file",
            )
        })?,
    };
    let pem = std::fs::read(&path)
        .map_err(|e| Failure::transient(format!("read {}: {e}", path.display())))?;
    let roots = usable(&pem);
    if roots.is_empty() {
        let why = format!("{} holds no certificate in PEM form", path.display());
        return Err(Failure::transient(why));
    }
    Ok(roots)
}

fn usable(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    let mut out = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem).flatten() {
        if RootCertStore::empty().add(certificate.clone()).is_ok() {
            out.push(certificate);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let why = |path: &Path| roots(Some(path)).unwrap_err().to_string();
        assert!(
            why(&path).contains("ca.pem: No such file"),
            "{}",
            why(&path)
        );
        std::fs::write(
            &path,
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        assert!(why(&path).ends_with("ca.pem holds no certificate in PEM form"));
    }

    #[test]
    fn one_good_certificate_among_bad_ones_is_enough() {
        let key = rcgen::KeyPair::generate().unwrap();
        let good = rcgen::CertificateParams::new(vec!["ca.test".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let pem = format!("{bad}{}{bad}", good.pem());
        assert_eq!(usable(pem.as_bytes()), [good.der().clone()]);
    }
}
