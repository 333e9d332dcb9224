//! Passwords: argon2id, kept as salt, hash and the cost they were made with.

use argon2::{Algorithm, Argon2, Params, Version};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

/// Shortest password: what OWASP asks of one that is the only factor.
pub const CHARS_MIN: usize = 12;

/// Longest password, in bytes: longer than any sentence, and hashing it costs nothing that matters.
pub const BYTES_MAX: usize = 512;

/// Memory of one hash, KiB: OWASP's first choice. Verifications side by side are bounded by `web`, so that logins neither fill
/// the memory nor take both cores.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// A password as it is kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Password {
    /// `argon2id`.
    algorithm: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    /// Hex.
    salt: String,
    /// Hex.
    hash: String,
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password")
    }
}

/// Why a password is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Weak {
    /// Too short.
    #[error(
        "the password has fewer than {CHARS_MIN} characters: three or four words are easy to keep"
    )]
    Short,
    /// Too long.
    #[error("the password has more than {BYTES_MAX} bytes")]
    Long,
    /// It is the name, or one character over and over.
    #[error(
        "the password can be guessed from the name, or is one character repeated: choose another"
    )]
    Guessable,
}

/// Whether a password may be taken.
///
/// # Errors
/// Why not.
pub fn check(text: &str, name: &str) -> Result<(), Weak> {
    if text.len() > BYTES_MAX {
        return Err(Weak::Long);
    }
    if text.chars().count() < CHARS_MIN {
        return Err(Weak::Short);
    }
    let (lower, name) = (text.to_lowercase(), name.to_lowercase());
    let first = text.chars().next();
    let repeated = text.chars().all(|c| Some(c) == first);
    let of_name = !name.is_empty() && lower.replace(&name, "").chars().count() < 4;
    if repeated || of_name {
        return Err(Weak::Guessable);
    }
    Ok(())
}

impl Password {
    /// Hashes a password: takes 19 MiB and some 30 ms, so never on a socket's thread.
    #[must_use]
    pub fn new(text: &str, salt: [u8; SALT_BYTES]) -> Password {
        let mut password = Password {
            algorithm: "argon2id".to_owned(),
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            lanes: LANES,
            salt: HEXLOWER.encode(&salt),
            hash: String::new(),
        };
        let hash = password.hash(text).expect("our own cost is a valid one");
        password.hash = HEXLOWER.encode(&hash);
        password
    }

    /// What is compared with where there is no such person, so that the answer takes as long.
    #[must_use]
    pub fn of_nobody() -> Password {
        Password {
            algorithm: "argon2id".to_owned(),
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            lanes: LANES,
            salt: HEXLOWER.encode(&[0; SALT_BYTES]),
            hash: HEXLOWER.encode(&[0; HASH_BYTES]),
        }
    }

    /// Whether this is the password. Takes as long as [`Password::new`].
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        let kept = HEXLOWER.decode(self.hash.as_bytes());
        match (self.hash(text), kept) {
            (Some(found), Ok(kept)) => bool::from(found.as_slice().ct_eq(&kept)),
            (None, _) | (_, Err(_)) => false,
        }
    }

    fn hash(&self, text: &str) -> Option<[u8; HASH_BYTES]> {
        if self.algorithm != "argon2id" || text.len() > BYTES_MAX {
            return None;
        }
        let params =
            Params::new(self.memory_kib, self.passes, self.lanes, Some(HASH_BYTES)).ok()?;
        let salt = HEXLOWER.decode(self.salt.as_bytes()).ok()?;
        let mut out = [0; HASH_BYTES];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(text.as_bytes(), &salt, &mut out)
            .ok()?;
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_itself_is_the_password() {
        let password = Password::new("correct horse battery", [7; SALT_BYTES]);
        assert!(password.is("correct horse battery"));
        for other in ["correct horse batter", "Correct horse battery", ""] {
            assert!(!password.is(other), "{other:?}");
        }
        assert!(!Password::of_nobody().is(""));
        let kept = serde_json::to_string(&password).unwrap();
        assert!(!kept.contains("horse"));
        // Kept passwords are read for ever: the same words, salt and cost give this hash in every version.
        assert_eq!(
            password.hash, "58b44651ad77fc1dcc5f39c5b1edf71487783bef836982faba561430486946a1",
            "{kept}"
        );
    }

    #[test]
    fn weak_passwords_are_refused() {
        for (text, name, want) in [
            ("elevenchars", "ann", Err(Weak::Short)),
            ("twelve chars", "ann", Ok(())),
            ("aaaaaaaaaaaaaaa", "ann", Err(Weak::Guessable)),
            ("AnnabelSmith1", "annabelsmith", Err(Weak::Guessable)),
            ("äöüäöüäöüäöü", "ann", Ok(())),
            (&"x".repeat(600), "ann", Err(Weak::Long)),
        ] {
            assert_eq!(check(text, name), want, "{text}");
        }
    }
}
