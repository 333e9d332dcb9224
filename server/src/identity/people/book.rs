//! The document: people, and the links that are open.

use std::collections::BTreeMap;

use dawnwatch_proto::api::Role;
use dawnwatch_proto::untrusted::term;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::{
    Code, LINKS_MAX, NAME_CHARS_MAX, PEOPLE_MAX, PeopleError, PersonRecord, VERSION, full, hash,
};
use crate::identity::document::Document;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Link {
    /// SHA-256 of the code, hex.
    pub(super) hash: String,
    /// Whose password it sets; none where it makes an admin.
    pub(super) person: Option<String>,
    pub(super) expires: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::identity) struct Book {
    pub(super) version: u32,
    /// The number of the next person.
    pub(super) next: u64,
    pub(super) people: BTreeMap<String, PersonRecord>,
    pub(super) links: Vec<Link>,
}

impl Default for Book {
    fn default() -> Book {
        Book {
            version: VERSION,
            next: 1,
            people: BTreeMap::new(),
            links: Vec::new(),
        }
    }
}

impl Document for Book {
    const FILE: &'static str = "people.json";
    const VERSION: u32 = VERSION;

    fn of_this_version(self) -> Book {
        Book {
            version: VERSION,
            ..self
        }
    }
}

impl Book {
    pub(super) fn named(&self, name: &str) -> Option<&PersonRecord> {
        let name = name.trim().to_lowercase();
        self.people
            .values()
            .find(|one| one.name.to_lowercase() == name)
    }

    pub(super) fn named_mut(&mut self, name: &str) -> Result<&mut PersonRecord, PeopleError> {
        let id = self.named(name).map(|one| one.id.clone());
        let person = id.and_then(|id| self.people.get_mut(&id));
        person.ok_or_else(|| PeopleError::Nobody(name.to_owned()))
    }

    pub(super) fn add(
        &mut self,
        name: &str,
        role: Role,
        now: Timestamp,
    ) -> Result<PersonRecord, PeopleError> {
        let chars = name.chars().count();
        // What would look like another name, or is one that root acts under, is none.
        let seen = term(name) == name && name.trim() == name;
        if chars == 0 || chars > NAME_CHARS_MAX || !seen || name.eq_ignore_ascii_case("root") {
            return Err(PeopleError::Name);
        }
        if self.named(name).is_some() {
            return Err(PeopleError::Taken(name.to_owned()));
        }
        if self.people.len() >= PEOPLE_MAX {
            return Err(full("people", PEOPLE_MAX, "remove those who left"));
        }
        let person = PersonRecord {
            id: format!("P-{}", self.next),
            name: name.to_owned(),
            role,
            password: None,
            created: now,
            generation: 0,
            tokens: Vec::new(),
        };
        self.next += 1;
        self.people.insert(person.id.clone(), person.clone());
        Ok(person)
    }

    pub(super) fn link(&mut self, code: &Code, person: Option<String>) -> Result<(), PeopleError> {
        if self.links.len() >= LINKS_MAX {
            return Err(full("open links", LINKS_MAX, "let some be used or run out"));
        }
        self.links.push(Link {
            hash: hash(&code.text),
            person,
            expires: code.expires,
        });
        Ok(())
    }

    pub(super) fn found(&self, code: &str, now: Timestamp) -> Option<&Link> {
        let hash = hash(code);
        let is = |link: &Link| bool::from(link.hash.as_bytes().ct_eq(hash.as_bytes()));
        self.links
            .iter()
            .find(|link| is(link) && link.expires > now)
    }
}
