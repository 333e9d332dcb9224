//! People: names, roles, passwords, one-time links and tokens for scripts, in one small document of their own.
//!
//! Invariants: no password, link or token is kept, only its hash. A link works once and for a short time; looking at it
//! uses nothing up. Ids are never used again, so what the ledger says of an id stays true when its name is gone.

mod book;

use std::fmt;
use std::path::{Path, PathBuf};

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use dawnwatch_proto::api::Role;
use jiff::{SignedDuration, Timestamp};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

pub(super) use book::Book;

use super::document::{self, Kept};
use super::password::Password;
use super::{IdentityError, certificate, files};

/// Version of the document; version 1 had no checksum.
pub(crate) const VERSION: u32 = 2;

/// People in all: a large operations department, several times over.
pub const PEOPLE_MAX: usize = 1_000;

/// Links that may be open at a time: more than anybody hands out in half an hour.
const LINKS_MAX: usize = 100;

/// Tokens of one person: one for each script.
const TOKENS_OF_ONE_MAX: usize = 20;

/// Longest name, in characters: it stands in tables.
const NAME_CHARS_MAX: usize = 64;

/// A link that makes an admin is for the person who sits there.
const ADMIN_LINK_FOR: SignedDuration = SignedDuration::from_mins(30);

/// A link that sets a password goes by chat or mail to a person who may be asleep.
const PASSWORD_LINK_FOR: SignedDuration = SignedDuration::from_hours(48);

/// Bytes of chance in a link or token.
const SECRET_BYTES: usize = 25;

/// What tokens for scripts begin with, so that they are recognised where they do not belong.
pub const TOKEN_PREFIX: &str = "dwp_";

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonRecord {
    /// `P-3`, for ever.
    pub id: String,
    /// The name to log in with and to show.
    pub name: String,
    /// What the person may do.
    pub role: Role,
    /// None until the link was used.
    pub password: Option<Password>,
    /// When the person was added.
    pub created: Timestamp,
    /// Counts up with every change that ends the sessions: a new password, a reset.
    #[serde(default)]
    pub generation: u64,
    /// Tokens for scripts.
    #[serde(default)]
    pub tokens: Vec<ScriptToken>,
}

/// A token for scripts; acts as the person it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptToken {
    /// SHA-256 of the whole token, hex.
    hash: String,
    /// When it was made.
    created: Timestamp,
}

/// What a link is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkFor {
    /// A new admin, who chooses a name.
    Admin,
    /// The password of this person.
    Password(PersonRecord),
}

/// A code that was just made: shown once.
#[derive(Clone, PartialEq, Eq)]
pub struct Code {
    /// What stands in the link.
    pub text: String,
    /// Until when it works.
    pub expires: Timestamp,
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Code")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Why something about people was not done.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    /// The files.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// There is no such person.
    #[error("there is nobody called {0:?}: see dawnwatch people list")]
    Nobody(String),
    /// The name is taken.
    #[error("there is somebody called {0:?} already")]
    Taken(String),
    /// The name cannot be used.
    #[error(
        "a name has 1 to {NAME_CHARS_MAX} characters that can be seen, and no blank at its ends"
    )]
    Name,
    /// The link is none, was used, or is too old.
    #[error(
        "this link was used, is too old, or never was: ask for a new one (dawnwatch people reset NAME, or dawnwatch people admin-link)"
    )]
    Link,
}

/// The people of this server.
pub struct People {
    dir: PathBuf,
    random: SystemRandom,
    book: Kept<Book>,
    /// Whether there was a document at the start.
    first: bool,
}

impl fmt::Debug for People {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("People")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl People {
    /// Opens the document in the identity directory; without one there is nobody yet.
    ///
    /// # Errors
    /// Where it cannot be read, is damaged, or was written by a later version.
    pub fn open(dir: &Path) -> Result<People, IdentityError> {
        files::private_dir(dir)?;
        let book = document::read(dir)?;
        Ok(People {
            dir: dir.to_owned(),
            random: SystemRandom::new(),
            first: book.is_none(),
            book: Kept::new(dir, book.unwrap_or_default()),
        })
    }

    /// Whether nobody was ever added or invited before this start.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.first
    }

    /// Whether nobody can log in as admin.
    #[must_use]
    pub fn lacks_admin(&self) -> bool {
        let book = self.book.load();
        let admin = |one: &PersonRecord| one.role == Role::Admin && one.password.is_some();
        !book.people.values().any(admin)
    }

    /// Everybody, by name.
    #[must_use]
    pub fn list(&self) -> Vec<PersonRecord> {
        let mut all: Vec<PersonRecord> = self.book.load().people.values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// A person by id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<PersonRecord> {
        self.book.load().people.get(id).cloned()
    }

    /// A person by name, in whatever case.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<PersonRecord> {
        self.book.load().named(name).cloned()
    }

    /// Adds a person; the code sets the password.
    ///
    /// # Errors
    /// A name that is taken or no name; a bound; a file that cannot be written.
    pub fn add(
        &self,
        name: &str,
        role: Role,
        now: Timestamp,
    ) -> Result<(PersonRecord, Code), PeopleError> {
        let code = self.code(now, PASSWORD_LINK_FOR)?;
        self.change(now, |book| {
            let person = book.add(name, role, now)?;
            book.link(&code, Some(person.id.clone()))?;
            Ok((person, code))
        })
    }

    /// Takes a person's password away; the code sets another. Sessions and tokens end.
    ///
    /// # Errors
    /// Nobody of that name; a file that cannot be written.
    pub fn reset(&self, name: &str, now: Timestamp) -> Result<(PersonRecord, Code), PeopleError> {
        let code = self.code(now, PASSWORD_LINK_FOR)?;
        self.change(now, |book| {
            let person = book.named_mut(name)?;
            person.password = None;
            person.generation += 1;
            person.tokens.clear();
            let person = person.clone();
            book.links
                .retain(|link| link.person.as_ref() != Some(&person.id));
            book.link(&code, Some(person.id.clone()))?;
            Ok((person, code))
        })
    }

    /// Removes a person, the name included.
    ///
    /// # Errors
    /// Nobody of that name; a file that cannot be written.
    pub fn remove(&self, name: &str, now: Timestamp) -> Result<PersonRecord, PeopleError> {
        self.change(now, |book| {
            let person = book.named_mut(name)?.clone();
            book.people.remove(&person.id);
            book.links
                .retain(|link| link.person.as_ref() != Some(&person.id));
            Ok(person)
        })
    }

    /// Gives a person another role, in force with the next request.
    ///
    /// # Errors
    /// Nobody of that name; a file that cannot be written.
    pub fn set_role(
        &self,
        name: &str,
        role: Role,
        now: Timestamp,
    ) -> Result<PersonRecord, PeopleError> {
        self.change(now, |book| {
            let person = book.named_mut(name)?;
            person.role = role;
            Ok(person.clone())
        })
    }

    /// A code with which somebody becomes admin under a name of their choice. One is good at a time.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn admin_link(&self, now: Timestamp) -> Result<Code, PeopleError> {
        let code = self.code(now, ADMIN_LINK_FOR)?;
        self.change(now, |book| {
            book.links.retain(|link| link.person.is_some());
            book.link(&code, None)?;
            Ok(code)
        })
    }

    /// What a code is good for; looking uses nothing up.
    ///
    /// # Errors
    /// [`PeopleError::Link`].
    pub fn look(&self, code: &str, now: Timestamp) -> Result<LinkFor, PeopleError> {
        let book = self.book.load();
        let link = book.found(code, now).ok_or(PeopleError::Link)?;
        match &link.person {
            None => Ok(LinkFor::Admin),
            Some(id) => {
                let person = book.people.get(id).ok_or(PeopleError::Link)?;
                Ok(LinkFor::Password(person.clone()))
            }
        }
    }

    /// Uses a code up: sets the password of its person, or makes an admin called `name`.
    ///
    /// # Errors
    /// A code that is no good any more; a name that is taken or none; a file that cannot be written.
    pub fn use_link(
        &self,
        code: &str,
        name: &str,
        password: Password,
        now: Timestamp,
    ) -> Result<PersonRecord, PeopleError> {
        self.change(now, |book| {
            let link = book.found(code, now).ok_or(PeopleError::Link)?.clone();
            let id = match link.person {
                Some(id) => id,
                None => book.add(name, Role::Admin, now)?.id,
            };
            book.links.retain(|other| other.hash != link.hash);
            let person = book.people.get_mut(&id).ok_or(PeopleError::Link)?;
            person.password = Some(password);
            person.generation += 1;
            Ok(person.clone())
        })
    }

    /// Changes a person's own password; other sessions end.
    ///
    /// # Errors
    /// The person is gone; a file that cannot be written.
    pub fn set_password(
        &self,
        id: &str,
        password: Password,
        now: Timestamp,
    ) -> Result<PersonRecord, PeopleError> {
        self.change(now, |book| {
            let person = book.people.get_mut(id);
            let person = person.ok_or_else(|| PeopleError::Nobody(id.to_owned()))?;
            person.password = Some(password);
            person.generation += 1;
            Ok(person.clone())
        })
    }

    /// Makes a token for scripts; it acts as this person until the next reset.
    ///
    /// # Errors
    /// Nobody of that name; a bound; a file that cannot be written.
    pub fn create_token(
        &self,
        name: &str,
        now: Timestamp,
    ) -> Result<(PersonRecord, String), PeopleError> {
        let secret = self.secret()?;
        self.change(now, |book| {
            let person = book.named_mut(name)?;
            if person.tokens.len() >= TOKENS_OF_ONE_MAX {
                return Err(full(
                    "tokens of one person",
                    TOKENS_OF_ONE_MAX,
                    "end them with people reset",
                ));
            }
            let token = format!("{TOKEN_PREFIX}{}_{secret}", person.id);
            person.tokens.push(ScriptToken {
                hash: hash(&token),
                created: now,
            });
            Ok((person.clone(), token))
        })
    }

    /// Whose token this is.
    #[must_use]
    pub fn of_token(&self, token: &str) -> Option<PersonRecord> {
        let (id, _) = token.strip_prefix(TOKEN_PREFIX)?.split_once('_')?;
        let book = self.book.load();
        let person = book.people.get(id)?;
        let found = hash(token);
        let is = |one: &ScriptToken| bool::from(one.hash.as_bytes().ct_eq(found.as_bytes()));
        person.tokens.iter().any(is).then(|| person.clone())
    }

    /// Salt for a password.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub fn salt(&self) -> Result<[u8; 16], IdentityError> {
        let mut bytes = [0; 16];
        self.random
            .fill(&mut bytes)
            .map_err(|_| IdentityError::Random)?;
        Ok(bytes)
    }

    /// A text of 200 bits of chance.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub fn secret(&self) -> Result<String, IdentityError> {
        let mut bytes = [0; SECRET_BYTES];
        self.random
            .fill(&mut bytes)
            .map_err(|_| IdentityError::Random)?;
        Ok(BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    }

    fn code(&self, now: Timestamp, length: SignedDuration) -> Result<Code, IdentityError> {
        let expires = now.saturating_add(length).unwrap_or(Timestamp::MAX);
        let text = self.secret()?;
        Ok(Code { text, expires })
    }

    /// Changes the document: the change is in force once the file is in place, else not at all.
    fn change<T>(
        &self,
        now: Timestamp,
        change: impl FnOnce(&mut Book) -> Result<T, PeopleError>,
    ) -> Result<T, PeopleError> {
        self.book.change(|book| {
            book.links.retain(|link| link.expires > now);
            change(book)
        })
    }
}

fn full(what: &'static str, limit: usize, remedy: &'static str) -> PeopleError {
    PeopleError::Identity(IdentityError::Full {
        what,
        limit,
        remedy,
    })
}

/// The form in which a code or token is kept: chance of 200 bits needs no slow hash.
pub(crate) fn hash(secret: &str) -> String {
    HEXLOWER.encode(&certificate::sha256(secret.as_bytes()))
}

#[cfg(test)]
mod tests;
