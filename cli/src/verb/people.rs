//! `dawnwatch people`: who may log in to the page. Only root, on the server's own machine.

use clap::{Subcommand, ValueEnum};
use dawnwatch_proto::api::{BearerToken, NewPerson, NewRole, PersonState, Role, SetupLink};
use dawnwatch_proto::untrusted::term;
use jiff::tz::TimeZone;

use crate::client::{Document, escape};
use crate::fail::Fail;
use crate::session::{Answer, Session};
use crate::table::{Cell, Side, Table};

/// What is done with people.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Adds a person and prints the one-time link that sets the password
    Add {
        /// The name to log in with
        name: String,
        /// What the person may do
        #[arg(long, value_enum, default_value_t = RoleWord::Viewer)]
        role: RoleWord,
    },
    /// Takes a person's password, sessions and tokens away and prints a one-time link that sets another
    Reset {
        /// The name
        name: String,
    },
    /// Lists who may log in
    List,
    /// Gives a person another role
    Role {
        /// The name
        name: String,
        /// What the person may do from here on
        #[arg(value_enum)]
        role: RoleWord,
    },
    /// Removes a person
    Remove {
        /// The name
        name: String,
    },
    /// Prints a one-time link that makes whoever opens it an admin
    AdminLink,
    /// Makes a token for scripts that acts as this person
    Token {
        /// The name
        name: String,
    },
}

/// A role as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleWord {
    /// Sees everything, changes nothing
    Viewer,
    /// Also takes incidents, and labels and renames hosts
    Operator,
    /// Also lets hosts join and leave
    Admin,
}

impl RoleWord {
    fn role(self) -> Role {
        match self {
            RoleWord::Viewer => Role::Viewer,
            RoleWord::Operator => Role::Operator,
            RoleWord::Admin => Role::Admin,
        }
    }
}

/// What a request without a body is sent with.
const NOTHING: [(); 0] = [];

pub(crate) fn run(verb: &Verb, session: &Session) -> Result<Answer, Fail> {
    let server = &session.server;
    let of = |name: &str, act: &str| format!("people/{}/{act}", escape(name));
    match verb {
        Verb::Add { name, role } => {
            let wish = NewPerson {
                name: name.clone(),
                role: role.role(),
            };
            show_link(session, &server.post("people", &wish)?)
        }
        Verb::Reset { name } => show_link(session, &server.post(&of(name, "reset"), &NOTHING)?),
        Verb::AdminLink => show_link(session, &server.post("admin-link", &NOTHING)?),
        Verb::List => {
            let document = server.get("people", &[])?;
            session.table(&document, || people(&document.read::<Vec<PersonState>>()?))
        }
        Verb::Role { name, role } => {
            let wish = NewRole { role: role.role() };
            show_person(session, &server.post(&of(name, "role"), &wish)?)
        }
        Verb::Remove { name } => show_person(session, &server.post(&of(name, "remove"), &NOTHING)?),
        Verb::Token { name } => show_token(session, &server.post(&of(name, "token"), &NOTHING)?),
    }
}

fn show_person(session: &Session, document: &Document) -> Result<Answer, Fail> {
    session.table(document, || people(&[document.read::<PersonState>()?]))
}

fn people(list: &[PersonState]) -> Result<Table, Fail> {
    let head = [
        ("name", Side::Left),
        ("role", Side::Left),
        ("login", Side::Left),
        ("tokens", Side::Right),
        ("id", Side::Left),
    ];
    let mut table = Table::new(&head, "nobody: dawnwatch people admin-link");
    for person in list {
        let login = if person.ready {
            "password set"
        } else {
            "link not used yet"
        };
        table.row(vec![
            Cell::text(term(&person.name)),
            Cell::text(person.role.word()),
            Cell::text(login),
            Cell::text(person.tokens.to_string()),
            Cell::text(person.id.clone()),
        ]);
    }
    Ok(table)
}

fn show_link(session: &Session, document: &Document) -> Result<Answer, Fail> {
    let link = || document.read::<SetupLink>();
    session.drawing(
        document,
        |_| {
            let zone = session.now().map(|now| session.zone(&now.zone))?;
            Ok(draw(&link()?, &zone))
        },
        || {
            let link = link()?;
            let head = [
                ("name", Side::Left),
                ("link", Side::Left),
                ("expires", Side::Left),
            ];
            let mut table = Table::new(&head, "");
            table.row(vec![
                Cell::text(link.name),
                Cell::text(link.link),
                Cell::text(link.expires.to_string()),
            ]);
            Ok(table)
        },
    )
}

fn draw(link: &SetupLink, zone: &TimeZone) -> String {
    let until = link.expires.to_zoned(zone.clone());
    let until = until.strftime("%a %-d %b %H:%M %Z");
    let whom = if link.name.is_empty() {
        "for a new admin".to_owned()
    } else {
        format!("for {}", term(&link.name))
    };
    let mut out = format!("{}\n  {whom}, works once, until {until}\n", link.link);
    if let Some(tunnel) = &link.tunnel {
        out.push_str(&format!("  from elsewhere first: {tunnel}\n"));
    }
    out
}

fn show_token(session: &Session, document: &Document) -> Result<Answer, Fail> {
    let token = || document.read::<BearerToken>();
    session.drawing(
        document,
        |_| {
            let token = token()?;
            let name = term(&token.name);
            Ok(format!(
                "{}\n  acts as {name}; shown this once; ends with: dawnwatch people reset {name}\n",
                token.token
            ))
        },
        || {
            let token = token()?;
            let mut table = Table::new(&[("name", Side::Left), ("token", Side::Left)], "");
            table.row(vec![Cell::text(token.name), Cell::text(token.token)]);
            Ok(table)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_says_for_whom_and_until_when() {
        let mut link = SetupLink {
            name: "A. Ruiz\u{1b}".to_owned(),
            link: "http://127.0.0.1:7440/setup?code=abc".to_owned(),
            tunnel: Some("ssh -N -L 7440:127.0.0.1:7440 root@mon01".to_owned()),
            expires: "2026-10-05T08:30:00Z".parse().unwrap(),
        };
        let want = "http://127.0.0.1:7440/setup?code=abc\n  for A. Ruiz\\u{1b}, works once, until Mon 5 Oct 08:30 UTC\n  \
                    from elsewhere first: ssh -N -L 7440:127.0.0.1:7440 root@mon01\n";
        assert_eq!(draw(&link, &TimeZone::UTC), want);
        link.name.clear();
        assert!(draw(&link, &TimeZone::UTC).contains("for a new admin"));
    }
}
