//! Looks through the files of an identity without changing any: what `verify` says of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use dawnwatch_proto::HostId;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use x509_parser::parse_x509_certificate;

use super::authority::{Authority, CA_CERTIFICATE, CA_KEY, SERVER_CERTIFICATE, SERVER_KEY};
use super::document::{self, Document as _};
use super::files;
use super::people::Book;
use super::state::{HostRecord, State};

/// A file of the identity that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// Its name in the directory.
    pub file: &'static str,
    /// What is wrong with it.
    pub what: String,
    /// Whether the server makes it anew by itself.
    pub mends: bool,
}

/// Names of the files that an identity consists of.
pub const FILES: [&str; 6] = [
    CA_KEY,
    CA_CERTIFICATE,
    SERVER_KEY,
    SERVER_CERTIFICATE,
    State::FILE,
    Book::FILE,
];

/// What hosts are called; empty where that cannot be read.
#[must_use]
pub fn names(dir: &Path) -> BTreeMap<HostId, String> {
    let state = document::read::<State>(dir).ok().flatten();
    let hosts = state.map(|state| state.hosts).unwrap_or_default();
    let name = |(id, host): (&HostId, &Arc<HostRecord>)| (*id, host.name.clone());
    hosts.iter().map(name).collect()
}

/// What is wrong with the identity in this directory; empty where all is sound.
#[must_use]
pub fn wrong_with(dir: &Path) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    let mut say = |file, what: String, mends| wrong.push(Wrong { file, what, mends });
    let read = |name| match files::read(dir, name) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err("it is gone".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    match read(State::FILE) {
        Ok(bytes) => {
            if let Err(error) = document::parse::<State>(&bytes) {
                say(State::FILE, error.to_string(), false);
            }
        }
        Err(what) => say(State::FILE, what, false),
    }
    // Where no page was ever served there is none.
    if let Ok(Some(bytes)) = files::read(dir, Book::FILE)
        && let Err(error) = document::parse::<Book>(&bytes)
    {
        say(Book::FILE, error.to_string(), false);
    }
    let authority = match (read(CA_KEY), read(CA_CERTIFICATE)) {
        (Err(what), _) => {
            say(CA_KEY, what, false);
            None
        }
        (Ok(_), Err(what)) => {
            say(CA_CERTIFICATE, what, true);
            None
        }
        (Ok(key), Ok(certificate)) => match Authority::of(key, certificate.clone()) {
            Err(error) => {
                // The file of the pair that is at fault is named by the error itself.
                let damaged = matches!(&error, super::IdentityError::Damaged { file, .. } if *file == CA_CERTIFICATE);
                let file = if damaged { CA_CERTIFICATE } else { CA_KEY };
                say(file, error.to_string(), false);
                None
            }
            Ok(authority) => {
                if !is_self_signed(&certificate) {
                    let what = "its signature does not hold".to_owned();
                    say(CA_CERTIFICATE, what, false);
                }
                Some(authority)
            }
        },
    };
    for (name, found) in [
        (SERVER_KEY, read(SERVER_KEY)),
        (SERVER_CERTIFICATE, read(SERVER_CERTIFICATE)),
    ] {
        if let Err(what) = found {
            say(name, what, true);
        }
    }
    if let (Some(authority), Ok(key), Ok(leaf)) =
        (authority, read(SERVER_KEY), read(SERVER_CERTIFICATE))
    {
        if !authority.signed(&leaf) {
            let what = "it is not a certificate that our CA signed".to_owned();
            say(SERVER_CERTIFICATE, what, true);
        } else if authority.pair(key, leaf).is_err() {
            say(
                SERVER_KEY,
                "it does not belong to server.der".to_owned(),
                true,
            );
        }
    }
    wrong
}

fn is_self_signed(der: &[u8]) -> bool {
    let Ok((_, cert)) = parse_x509_certificate(der) else {
        return false;
    };
    let key = &cert.public_key().subject_public_key.data;
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.as_ref());
    cert.signature_algorithm == cert.tbs_certificate.signature
        && key
            .verify(cert.tbs_certificate.as_ref(), &cert.signature_value.data)
            .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Identity, people};
    use jiff::Timestamp;

    #[test]
    fn every_flip_and_every_missing_file_of_an_identity_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        drop(Identity::open(dir.path(), now, &["mon.example".to_owned()]).unwrap());
        people::People::open(dir.path())
            .unwrap()
            .admin_link(now)
            .unwrap();
        assert_eq!(wrong_with(dir.path()), []);
        for name in FILES {
            let path = dir.path().join(name);
            let whole = std::fs::read(&path).unwrap();
            for at in 0..whole.len() {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << (at % 8);
                std::fs::write(&path, &flipped).unwrap();
                assert_ne!(wrong_with(dir.path()), [], "{name} byte {at}");
            }
            for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
                std::fs::write(&path, &whole[..cut]).unwrap();
                assert_ne!(wrong_with(dir.path()), [], "{name} cut at {cut}");
            }
            std::fs::remove_file(&path).unwrap();
            if name != Book::FILE {
                assert_ne!(wrong_with(dir.path()), [], "{name} is gone");
            }
            std::fs::write(&path, &whole).unwrap();
        }
        assert_eq!(wrong_with(dir.path()), []);
    }
}
