//! The page's own certificate: two PEM files, looked at every few seconds, taken up when they change and still fit.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;

use crate::config::Tls;

/// Largest certificate or key file that is read: a chain of ten takes some 20 KiB.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {} for the page: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{} holds no {what} in PEM: {why}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// Certificate and key do not fit, or TLS cannot use them.
    #[error("certificate {} and its key cannot be used: {why}", path.display())]
    Unfit {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// The certificate in force.
pub struct Certificate {
    files: Tls,
    served: ArcSwap<CertifiedKey>,
    /// The files as they were when last looked at.
    seen: Mutex<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.served.load_full())
    }
}

impl Certificate {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// Where they cannot be read or do not fit.
    pub fn load(files: &Tls) -> Result<Arc<Certificate>, CertificateError> {
        let seen = read_both(files)?;
        let certified = certified(files, &seen)?;
        Ok(Arc::new(Certificate {
            files: files.clone(),
            served: ArcSwap::from_pointee(certified),
            seen: Mutex::new(seen),
        }))
    }

    /// Takes changed files up; says whether they were. Files that changed and do not fit are said once, and what was served
    /// before is served on.
    ///
    /// # Errors
    /// Where changed files cannot be used.
    pub fn reload(&self) -> Result<bool, CertificateError> {
        let found = read_both(&self.files)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == found {
            return Ok(false);
        }
        let certified = certified(&self.files, &found);
        *seen = found;
        self.served.store(Arc::new(certified?));
        Ok(true)
    }

    /// The TLS set-up of the port.
    ///
    /// # Errors
    /// Where TLS cannot be set up.
    pub fn config(self: &Arc<Certificate>) -> Result<Arc<ServerConfig>, CertificateError> {
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| self.unfit(&error))?;
        let mut config = config
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn unfit(&self, error: &rustls::Error) -> CertificateError {
        CertificateError::Unfit {
            path: self.files.cert.clone(),
            why: error.to_string(),
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read_both(files: &Tls) -> Result<(Vec<u8>, Vec<u8>), CertificateError> {
    Ok((read(&files.cert)?, read(&files.key)?))
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    use std::io::Read;
    let read = || {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path)?;
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|source| CertificateError::Read {
        path: path.to_owned(),
        source,
    })
}

fn certified(
    files: &Tls,
    (cert, key): &(Vec<u8>, Vec<u8>),
) -> Result<CertifiedKey, CertificateError> {
    let pem = |path: &Path, what, why: String| CertificateError::Pem {
        path: path.to_owned(),
        what,
        why,
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert).collect();
    let chain = chain.map_err(|error| pem(&files.cert, "certificate", error.to_string()))?;
    if chain.is_empty() {
        return Err(pem(&files.cert, "certificate", "there is none".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| pem(&files.key, "private key", error.to_string()))?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| CertificateError::Unfit {
        path: files.cert.clone(),
        why: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(dir: &Path, name: &str) -> rcgen::KeyPair {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let cert = params.self_signed(&key).unwrap();
        std::fs::write(dir.join("cert.pem"), cert.pem()).unwrap();
        std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
        key
    }

    #[test]
    fn changed_files_are_taken_up_and_unfit_ones_leave_the_old_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let files = Tls {
            cert: dir.path().join("cert.pem"),
            key: dir.path().join("key.pem"),
        };
        let error = Certificate::load(&files).unwrap_err().to_string();
        assert!(error.contains("cert.pem"), "{error}");
        make(dir.path(), "one.example");
        let certificate = Certificate::load(&files).unwrap();
        let leaf = || certificate.served.load().cert[0].to_vec();
        let first = leaf();
        assert!(!certificate.reload().unwrap());

        let old_key = std::fs::read(&files.key).unwrap();
        make(dir.path(), "two.example");
        assert!(certificate.reload().unwrap());
        assert_ne!(leaf(), first);

        let second = leaf();
        std::fs::write(&files.key, old_key).unwrap();
        let error = certificate.reload().unwrap_err().to_string();
        assert!(error.contains("cannot be used"), "{error}");
        assert_eq!(leaf(), second);
        assert!(!certificate.reload().unwrap(), "said once");
        std::fs::write(&files.cert, "no certificate").unwrap();
        let error = certificate.reload().unwrap_err().to_string();
        assert!(error.contains("holds no certificate"), "{error}");
    }
}
