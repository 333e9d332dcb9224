//! Who asks: what the guard puts into the request's extensions for every handler behind it.

use dawnwatch_proto::api::Role;

/// Who root is called where it acts on the server's own machine.
pub const ROOT: &str = "root";

/// Who asks. Handlers of routes that need a login find it with `Extension<Person>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Stable id; `root` on the Unix socket.
    pub id: String,
    /// The name to show.
    pub name: String,
    /// What the person may do.
    pub role: Role,
    /// What forms carry in a hidden field `csrf`; empty where the request did not come with a browser's session.
    pub csrf: String,
}

impl Person {
    /// Whoever may open the Unix socket.
    #[must_use]
    pub fn root() -> Person {
        Person {
            id: ROOT.to_owned(),
            name: ROOT.to_owned(),
            role: Role::Admin,
            csrf: String::new(),
        }
    }

    /// Whether it came over the Unix socket.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.id == ROOT
    }
}
