//! People, as the JSON API tells of them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a person may do. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sees everything, changes nothing.
    Viewer,
    /// Takes incidents, labels and renames hosts.
    Operator,
    /// Also lets hosts join and leave.
    Admin,
}

impl Role {
    /// All of them, the weakest first.
    pub const ALL: [Role; 3] = [Role::Viewer, Role::Operator, Role::Admin];

    /// `viewer`, `operator`, `admin`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }

    /// The role of this word.
    #[must_use]
    pub fn of(word: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.word() == word)
    }
}

/// A person in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonState {
    /// `P-3`: what the ledger says of who did what.
    pub id: String,
    /// The name to log in with.
    pub name: String,
    /// What the person may do.
    pub role: Role,
    /// When the person was added.
    pub created: Timestamp,
    /// Whether a password is set; without one the link was not used yet.
    pub ready: bool,
    /// How many tokens for scripts there are.
    pub tokens: u32,
}

/// A wish for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewPerson {
    /// The name to log in with.
    pub name: String,
    /// What the person may do.
    pub role: Role,
}

/// A wish for another role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRole {
    /// What the person may do from here on.
    pub role: Role,
}

/// A one-time link: the only time that its code is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupLink {
    /// Whose password it sets; empty where it makes an admin, who chooses a name.
    pub name: String,
    /// What to open in a browser.
    pub link: String,
    /// How to reach the page from elsewhere first, where it listens on loopback alone.
    pub tunnel: Option<String>,
    /// Until when it works.
    pub expires: Timestamp,
}

/// A token for scripts: the only time that it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BearerToken {
    /// As whom it acts.
    pub name: String,
    /// What goes behind `Authorization: Bearer`.
    pub token: String,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Me {
    /// The name.
    pub name: String,
    /// What one may do.
    pub role: Role,
}
