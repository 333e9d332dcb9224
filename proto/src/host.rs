//! The identity of a host: chosen by the server at joining, proven by the certificate ever after.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A host's UUIDv7, shown in the usual hyphenated form.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub u128);

impl HostId {
    /// Makes a UUIDv7 (RFC 9562) from a Unix time in milliseconds and 74 random bits.
    #[must_use]
    pub fn v7(unix_ms: u64, random: u128) -> HostId {
        let time = u128::from(unix_ms & 0xffff_ffff_ffff) << 80;
        let rand_a = (random & 0xfff) << 64;
        let rand_b = (random >> 12) & ((1 << 62) - 1);
        HostId(time | (7 << 76) | rand_a | (2 << 62) | rand_b)
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let h = format!("{:032x}", self.0);
        write!(
            f,
            "{}-{}-{}-{}-{}",
            &h[..8],
            &h[8..12],
            &h[12..16],
            &h[16..20],
            &h[20..]
        )
    }
}

impl fmt::Debug for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The text is not a host id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a host id: {0:?}")]
pub struct NotAHostId(String);

impl FromStr for HostId {
    type Err = NotAHostId;

    fn from_str(text: &str) -> Result<HostId, NotAHostId> {
        let dashes = [8, 13, 18, 23];
        let bytes = text.as_bytes();
        let shape = bytes.len() == 36
            && bytes.iter().enumerate().all(|(i, b)| {
                if dashes.contains(&i) {
                    *b == b'-'
                } else {
                    b.is_ascii_hexdigit()
                }
            });
        if !shape {
            return Err(NotAHostId(text.to_owned()));
        }
        u128::from_str_radix(&text.replace('-', ""), 16)
            .map(HostId)
            .map_err(|_| NotAHostId(text.to_owned()))
    }
}

impl Serialize for HostId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for HostId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HostId, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            u128::deserialize(deserializer).map(HostId)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_parses_alike() {
        let id = HostId::v7(1_764_000_000_123, u128::MAX);
        let text = id.to_string();
        assert_eq!(text.parse::<HostId>().unwrap(), id);
        assert_eq!(&text[14..15], "7", "version nibble of {text}");
        assert!(
            matches!(&text[19..20], "8" | "9" | "a" | "b"),
            "variant of {text}"
        );
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{text}\""));
    }

    #[test]
    fn later_ids_sort_later() {
        assert!(HostId::v7(1, u128::MAX) < HostId::v7(2, 0));
    }

    #[test]
    fn refuses_what_is_no_id() {
        for text in ["", "web01", "0192-", "zzzzzzzz-zzzz-zzzz-zzzz-zzzzzzzzzzzz"] {
            assert!(text.parse::<HostId>().is_err(), "{text}");
        }
    }
}
