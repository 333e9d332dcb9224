//! What the server knows of hosts and join tokens: one small document, written whole, so that a token's use and the
//! host it made are kept together or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dawnwatch_proto::HostId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::document::Document;
use super::named::NamedRecord;

/// Version of the document; version 1 had no checksum.
pub(crate) const VERSION: u32 = 2;

/// Certificates remembered for each host: the one in use, the one being taken up, and two lost on the way.
pub(super) const ISSUED_MAX: usize = 4;

/// A host's name is a label on every page and in every message.
pub(super) const NAME_CHARS_MAX: usize = 64;

/// A host, as identity knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    /// Its id, chosen by the server at joining, for ever.
    pub id: HostId,
    /// The name it goes by: what it asked for, made unique.
    pub name: String,
    /// The name it asked for.
    pub asked: String,
    /// Hash of its machine-id, hex; empty where it has none.
    pub machine: String,
    /// When it joined first.
    pub joined: Timestamp,
    /// Labels of the token it joined with.
    pub labels: Vec<(String, String)>,
    /// The newest certificate generation seen in use; older ones are refused.
    pub generation: u64,
    /// Certificates handed out of this generation and later ones.
    pub issued: Vec<Issued>,
    /// Generations up to this one are refused for good; 0 for none.
    #[serde(default)]
    pub denied: u64,
    /// When it left for good.
    #[serde(default)]
    pub retired: Option<Timestamp>,
    /// Names it went by before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// The host that it is, set up anew: what it sends is that host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged: Option<HostId>,
    /// When it was erased: its name is a pseudonym since, and who it was is nowhere in here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased: Option<Timestamp>,
}

/// A certificate handed out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// Its generation: counts up with every new key.
    pub generation: u64,
    /// SHA-256 of its public key, hex: a retry with the same key gets the same generation.
    pub key: String,
    /// The join token that it goes back to.
    pub token: String,
    /// When it was handed out.
    pub at: Timestamp,
}

/// A join token. Its secret is not here: only the hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Its id.
    pub id: String,
    /// SHA-256 of the secret, hex.
    pub secret: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it expires.
    pub expires: Timestamp,
    /// How many hosts may join with it in all.
    pub uses: u32,
    /// How many hosts may still join with it.
    pub uses_left: u32,
    /// Labels that hosts get that join with it.
    pub labels: Vec<(String, String)>,
    /// Whether a person took it back.
    #[serde(default)]
    pub revoked: bool,
}

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    version: u32,
    pub(super) hosts: BTreeMap<HostId, Arc<HostRecord>>,
    pub(super) tokens: BTreeMap<String, TokenRecord>,
    /// Hosts that people named, by name in lower case.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) named: BTreeMap<String, Arc<NamedRecord>>,
    /// Hosts that are another one, set up anew: few, and asked for with each answer. Found when the document is read.
    #[serde(skip)]
    pub(super) merged: BTreeSet<HostId>,
}

impl Default for State {
    fn default() -> State {
        State {
            version: VERSION,
            hosts: BTreeMap::new(),
            tokens: BTreeMap::new(),
            named: BTreeMap::new(),
            merged: BTreeSet::new(),
        }
    }
}

impl Document for State {
    const FILE: &'static str = "state.json";
    const VERSION: u32 = VERSION;

    fn of_this_version(self) -> State {
        let merged = self.hosts.values().filter(|host| host.merged.is_some());
        State {
            version: VERSION,
            merged: merged.map(|host| host.id).collect(),
            ..self
        }
    }
}

impl State {
    /// A host, to be changed.
    pub(super) fn host_mut(&mut self, id: HostId) -> Option<&mut HostRecord> {
        self.hosts.get_mut(&id).map(Arc::make_mut)
    }

    /// A name like the one asked for that no other host has.
    pub(super) fn free_name(&self, asked: &str, id: HostId) -> String {
        let others = || self.hosts.values().filter(|host| host.id != id);
        if !others().any(|host| host.name.eq_ignore_ascii_case(asked)) {
            return asked.to_owned();
        }
        // Once for all numbers that are tried: of a thousand hosts called localhost each tries a thousand.
        let taken: BTreeSet<String> = others().map(|h| h.name.to_ascii_lowercase()).collect();
        let numbered = |number: usize| {
            let end = format!("-{number}");
            // Ascii throughout, so bytes are characters.
            let keep = asked.len().min(NAME_CHARS_MAX - end.len());
            format!("{}{end}", &asked[..keep])
        };
        let mut number = 2;
        while taken.contains(&numbered(number).to_ascii_lowercase()) {
            number += 1;
        }
        numbered(number)
    }
}

impl HostRecord {
    /// The newest generation handed out.
    pub(super) fn newest(&self) -> u64 {
        let issued = self.issued.iter().map(|issued| issued.generation).max();
        issued.unwrap_or(0).max(self.generation)
    }

    /// Takes note of a certificate handed out.
    pub(super) fn note(&mut self, issued: Issued) {
        self.issued
            .retain(|old| old.generation != issued.generation);
        self.issued.push(issued);
        while self.issued.len() > ISSUED_MAX {
            // The first is in use; the one after it was lost on the way longest ago.
            self.issued.remove(1);
        }
    }

    /// Takes note that a generation is in use: all before it are over.
    pub(super) fn confirm(&mut self, generation: u64) {
        self.generation = self.generation.max(generation);
        self.issued
            .retain(|issued| issued.generation >= self.generation);
    }
}

/// The name a host may have: what it asked for, with every other character replaced, and never empty.
pub(super) fn clean_name(asked: &str) -> String {
    let keep = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
            c
        } else {
            '-'
        }
    };
    let name: String = asked
        .trim()
        .chars()
        .take(NAME_CHARS_MAX)
        .map(keep)
        .collect();
    if name.is_empty() {
        "host".to_owned()
    } else {
        name
    }
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::document::parse;
    use crate::identity::{IdentityError, files};

    fn host(id: u128, name: &str) -> HostRecord {
        HostRecord {
            id: HostId(id),
            name: name.to_owned(),
            asked: name.to_owned(),
            machine: String::new(),
            joined: Timestamp::UNIX_EPOCH,
            labels: vec![("site".to_owned(), "hq".to_owned())],
            generation: 1,
            issued: Vec::new(),
            denied: 0,
            retired: None,
            aliases: Vec::new(),
            merged: None,
            erased: None,
        }
    }

    fn issued(generation: u64) -> Issued {
        let at = Timestamp::UNIX_EPOCH;
        Issued {
            generation,
            key: format!("key{generation}"),
            token: "t".to_owned(),
            at,
        }
    }

    #[test]
    fn the_document_has_this_form() {
        let mut state = State::default();
        let mut one = host(1, "web01");
        one.note(issued(1));
        state.hosts.insert(one.id, Arc::new(one));
        let token = TokenRecord {
            id: "aebagbaf".to_owned(),
            secret: "00ff".to_owned(),
            created: Timestamp::UNIX_EPOCH,
            expires: Timestamp::UNIX_EPOCH,
            uses: 2,
            uses_left: 1,
            labels: Vec::new(),
            revoked: false,
        };
        state.tokens.insert(token.id.clone(), token);
        let golden = include_str!("testdata/state-1.json");
        assert_eq!(parse::<State>(golden.as_bytes()).unwrap(), state);
        let golden = include_str!("testdata/state-2.json");
        assert_eq!(String::from_utf8(files::print(&state)).unwrap(), golden);
        assert_eq!(parse::<State>(golden.as_bytes()).unwrap(), state);
    }

    #[test]
    fn a_document_of_another_kind_is_refused() {
        let newer = parse::<State>(br#"{"version":3,"people":{}}"#).unwrap_err();
        assert!(
            matches!(newer, IdentityError::Newer { version: 3, .. }),
            "{newer}"
        );
        for bytes in [&b""[..], b"{", b"{}", br#"{"version":1,"hosts":3}"#] {
            let error = parse::<State>(bytes).unwrap_err();
            assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
        }
    }

    #[test]
    fn names_are_clean_and_unique() {
        for (asked, want) in [
            ("web01", "web01"),
            ("  db.example_1  ", "db.example_1"),
            ("", "host"),
            ("a\u{1b}[31m b/ü", "a--31m-b--"),
        ] {
            assert_eq!(clean_name(asked), want);
        }
        let long = "x".repeat(100);
        assert_eq!(clean_name(&long).len(), NAME_CHARS_MAX);
        let mut state = State::default();
        for (id, name) in [(1, "web01"), (2, "WEB01-2"), (3, &clean_name(&long))] {
            state.hosts.insert(HostId(id), Arc::new(host(id, name)));
        }
        assert_eq!(state.free_name("web01", HostId(9)), "web01-3");
        assert_eq!(state.free_name("web01", HostId(1)), "web01");
        let squeezed = state.free_name(&clean_name(&long), HostId(9));
        assert_eq!((squeezed.len(), &squeezed[62..]), (NAME_CHARS_MAX, "-2"));
    }

    #[test]
    fn only_certificates_that_still_count_are_remembered() {
        let mut one = host(1, "web01");
        for generation in 1..=9 {
            one.note(issued(generation));
        }
        assert_eq!(one.issued.len(), ISSUED_MAX);
        assert_eq!(one.newest(), 9);
        one.confirm(8);
        let left: Vec<u64> = one.issued.iter().map(|issued| issued.generation).collect();
        assert_eq!((one.generation, left), (8, vec![8, 9]));
        one.confirm(3);
        assert_eq!(one.generation, 8, "a generation never falls");
    }
}
