//! The join line: what an admin pastes on a host so that it can trust the server, and the server it.
//!
//! `dw1.<pin>.<id>.<secret>`, every part in lower-case base32 without padding:
//!
//! | part | bytes | what |
//! |---|---|---|
//! | pin | 32 | SHA-256 of the CA's public key (SPKI): the agent checks it before the secret leaves the host |
//! | id | 5 | names the token on the server |
//! | secret | 20 | proves the right to join; the server keeps only its SHA-256 |

use std::fmt;
use std::str::FromStr;

/// Bytes of a token's id: enough to tell all tokens of a site apart, short enough to read out.
pub const TOKEN_ID_BYTES: usize = 5;

/// Bytes of a token's secret: 160 random bits, beyond any search.
pub const SECRET_BYTES: usize = 20;

/// Bytes of a pin: one SHA-256.
pub const PIN_BYTES: usize = 32;

/// What the line begins with: format and version.
const PREFIX: &str = "dw1";

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// A join line, taken apart.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinLine {
    /// SHA-256 of the CA's SPKI.
    pub pin: [u8; PIN_BYTES],
    /// The token's id, in base32.
    pub id: String,
    /// The token's secret, in base32.
    pub secret: String,
}

/// Why a text is not a join line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadJoinLine {
    /// It does not begin like one.
    #[error(
        "not a join line: it must begin with \"dw1.\"; copy the whole line that the server printed"
    )]
    Prefix,
    /// It has too few or too many parts.
    #[error(
        "the join line has {0} parts and must have 4 (dw1.hash.id.secret); copy the whole line that the server printed"
    )]
    Parts(usize),
    /// A part was cut, or mistyped.
    #[error("the join line's {0} is cut or mistyped; copy the whole line that the server printed")]
    Part(&'static str),
}

impl JoinLine {
    /// Puts a line together from its raw parts.
    #[must_use]
    pub fn new(
        pin: [u8; PIN_BYTES],
        id: [u8; TOKEN_ID_BYTES],
        secret: [u8; SECRET_BYTES],
    ) -> JoinLine {
        JoinLine {
            pin,
            id: encode(&id),
            secret: encode(&secret),
        }
    }
}

impl fmt::Display for JoinLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{PREFIX}.{}.{}.{}",
            encode(&self.pin),
            self.id,
            self.secret
        )
    }
}

/// Shows everything but the secret, so that a line never reaches a log whole.
impl fmt::Debug for JoinLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "JoinLine({PREFIX}.{}.{}.<secret>)",
            encode(&self.pin),
            self.id
        )
    }
}

impl FromStr for JoinLine {
    type Err = BadJoinLine;

    fn from_str(text: &str) -> Result<JoinLine, BadJoinLine> {
        let text = text.trim();
        let parts: Vec<&str> = text.split('.').collect();
        if parts[0] != PREFIX {
            return Err(BadJoinLine::Prefix);
        }
        let [_, pin, id, secret] = parts[..] else {
            return Err(BadJoinLine::Parts(parts.len()));
        };
        let pin = decode(pin).ok_or(BadJoinLine::Part("hash"))?;
        let id: [u8; TOKEN_ID_BYTES] = decode(id).ok_or(BadJoinLine::Part("id"))?;
        let secret: [u8; SECRET_BYTES] = decode(secret).ok_or(BadJoinLine::Part("secret"))?;
        Ok(JoinLine::new(pin, id, secret))
    }
}

/// Lower-case base32 (RFC 4648) without padding.
fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 8 / 5 + 1);
    let (mut held, mut bits) = (0_u16, 0_u32);
    for byte in bytes {
        held = (held << 8) | u16::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(char::from(ALPHABET[usize::from((held >> bits) & 31)]));
        }
        held &= (1 << bits) - 1;
    }
    if bits > 0 {
        out.push(char::from(ALPHABET[usize::from((held << (5 - bits)) & 31)]));
    }
    out
}

/// The bytes of a base32 text of exactly this length; none where anything is odd, left-over bits included.
fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != (N * 8).div_ceil(5) {
        return None;
    }
    let mut out = [0; N];
    let mut at = 0;
    let (mut held, mut bits) = (0_u16, 0_u32);
    for c in text.bytes() {
        let c = c.to_ascii_lowercase();
        let value = ALPHABET.iter().position(|a| *a == c)?;
        held = (held << 5) | u16::try_from(value).ok()?;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            *out.get_mut(at)? = u8::try_from(held >> bits).ok()?;
            at += 1;
        }
        held &= (1 << bits) - 1;
    }
    (at == N && held == 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line() -> JoinLine {
        JoinLine::new([7; 32], [1, 2, 3, 4, 5], [9; 20])
    }

    #[test]
    fn base32_is_that_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "my"),
            ("fo", "mzxq"),
            ("foo", "mzxw6"),
            ("foob", "mzxw6yq"),
            ("fooba", "mzxw6ytb"),
            ("foobar", "mzxw6ytboi"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn a_line_has_this_form() {
        assert_eq!(
            line().to_string(),
            concat!(
                "dw1.a4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4dq",
                ".aebagbaf.beeqscijbeeqscijbeeqscijbeeqscij"
            )
        );
    }

    #[test]
    fn what_is_no_line_is_told_why() {
        let whole = line().to_string();
        let cut = &whole[..whole.len() - 1];
        for (text, want) in [
            ("", BadJoinLine::Prefix),
            ("dw2.a.b.c", BadJoinLine::Prefix),
            ("web01", BadJoinLine::Prefix),
            ("dw1", BadJoinLine::Parts(1)),
            ("dw1.a.b", BadJoinLine::Parts(3)),
            (&format!("{whole}.x"), BadJoinLine::Parts(5)),
            ("dw1.a.b.c", BadJoinLine::Part("hash")),
            (
                &whole.replace("aebagbaf", "aebagba1"),
                BadJoinLine::Part("id"),
            ),
            (cut, BadJoinLine::Part("secret")),
        ] {
            assert_eq!(text.parse::<JoinLine>(), Err(want), "{text}");
        }
    }

    #[test]
    fn the_secret_is_not_in_the_debug_form() {
        assert!(!format!("{:?}", line()).contains(&line().secret));
    }

    proptest! {
        #[test]
        fn prints_and_parses_alike(pin: [u8; 32], id: [u8; 5], secret: [u8; 20]) {
            let line = JoinLine::new(pin, id, secret);
            prop_assert_eq!(line.to_string().parse::<JoinLine>(), Ok(line.clone()));
            prop_assert_eq!(format!("  {line}\n").parse::<JoinLine>(), Ok(line));
        }

        #[test]
        fn one_changed_letter_is_another_line_or_none(at in 4_usize..90, to in "[a-z2-7]") {
            let text = line().to_string();
            let at = at.min(text.len() - 1);
            prop_assume!(&text[at..=at] != "." && text[at..=at] != to);
            let changed = format!("{}{to}{}", &text[..at], &text[at + 1..]);
            if let Ok(other) = changed.parse::<JoinLine>() {
                prop_assert_ne!(other, line());
            }
        }

        #[test]
        fn no_text_panics(text in ".{0,200}") {
            let _ = text.parse::<JoinLine>();
        }
    }
}
