//! `dawnwatch token`: join tokens for agents.

use clap::Subcommand;
use dawnwatch_proto::api::{NewToken, Token, TokenState};
use dawnwatch_proto::untrusted::term;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::draw;
use crate::fail::Fail;
use crate::moment;
use crate::session::{Answer, Session};
use crate::table::{Cell, Side, Table};

/// What is done with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Makes a join token and prints the command to paste on a host
    Create(Create),
    /// Lists the tokens that still let hosts join
    List,
}

/// A wish for a token.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// How many hosts may join with it
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    uses: u32,
    /// How long it is good for, such as 12h or 7d
    #[arg(long, default_value = "1d", value_name = "SPAN")]
    expires: String,
    /// A label that hosts get that join with it, such as site=hq; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
}

pub(crate) fn run(verb: &Verb, session: &Session) -> Result<Answer, Fail> {
    match verb {
        Verb::Create(wish) => create(wish, session),
        Verb::List => list(session),
    }
}

fn create(wish: &Create, session: &Session) -> Result<Answer, Fail> {
    let document = session.server.post("tokens", &new_token(wish)?)?;
    let token = || document.read::<Token>();
    session.drawing(
        &document,
        |_| {
            Ok(draw(
                &token()?,
                &session.now().map(|now| session.zone(&now.zone))?,
            ))
        },
        || {
            let token = token()?;
            let head = [
                ("id", Side::Left),
                ("uses", Side::Right),
                ("expires", Side::Left),
                ("command", Side::Left),
                ("install", Side::Left),
            ];
            let mut table = Table::new(&head, "");
            table.row(vec![
                Cell::text(token.id),
                Cell::text(token.uses.to_string()),
                Cell::text(token.expires.to_string()),
                Cell::text(token.command),
                Cell::text(token.install),
            ]);
            Ok(table)
        },
    )
}

fn new_token(wish: &Create) -> Result<NewToken, Fail> {
    let seconds = moment::seconds(&wish.expires).and_then(|seconds| u64::try_from(seconds).ok());
    let expires_seconds = seconds.filter(|seconds| *seconds > 0).ok_or_else(|| {
        Fail::usage(format!(
            "--expires {:?} is no span: write 12h, 7d or 2w",
            wish.expires
        ))
    })?;
    let mut labels = Vec::new();
    for label in &wish.label {
        match label.split_once('=') {
            Some((name, value)) if !name.is_empty() && !value.is_empty() => {
                labels.push((name.to_owned(), value.to_owned()));
            }
            Some(_) | None => {
                return Err(Fail::usage(format!(
                    "--label {label:?} is none: write name=value, such as site=hq"
                )));
            }
        }
    }
    Ok(NewToken {
        uses: wish.uses,
        expires_seconds,
        labels,
    })
}

fn draw(token: &Token, zone: &TimeZone) -> String {
    let expires = token
        .expires
        .to_zoned(zone.clone())
        .strftime("%a %-d %b %Y %H:%M %Z");
    let hosts = if token.uses == 1 {
        "1 host".to_owned()
    } else {
        format!("{} hosts", token.uses)
    };
    let told = format!(
        "Token {}: good for {hosts}, until {expires}. Its secret is shown only this once.\n",
        term(&token.id)
    );
    let command = term(&token.command);
    if token.install.is_empty() {
        let why = if token.no_install.is_empty() {
            String::new()
        } else {
            format!(
                "No line to paste where there is no agent: {}.\n",
                term(&token.no_install)
            )
        };
        return format!("{command}\n\n{told}{why}");
    }
    format!(
        "Paste on a host as root: it fetches the agent from this server, checks it, installs it, joins and waits for the first \
         acknowledged sample.\n\n{}\n\nWhere the agent is installed from a package: dawnwatch-agent install ADDRESS LINE, \
         from the end of that line. By hand:\n\n{command}\n\n{told}",
        term(&token.install)
    )
}

fn list(session: &Session) -> Result<Answer, Fail> {
    let document = session.server.get("tokens", &[])?;
    session.table(&document, || {
        let (tokens, now) = (document.read::<Vec<TokenState>>()?, session.now()?);
        Ok(table(&tokens, now.at, &session.zone(&now.zone)))
    })
}

fn table(tokens: &[TokenState], now: Timestamp, zone: &TimeZone) -> Table {
    let head = [
        ("id", Side::Left),
        ("uses_left", Side::Right),
        ("expires", Side::Left),
    ];
    let mut table = Table::new(&head, "no tokens: make one with: dawnwatch token create");
    for token in tokens {
        table.row(vec![
            Cell::text(token.id.as_str()),
            Cell::text(token.uses_left.to_string()),
            Cell::new(
                draw::when(token.expires, zone, now),
                token.expires.to_string(),
            ),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn wish(expires: &str, label: &[&str]) -> Create {
        let label = label.iter().map(|label| (*label).to_owned()).collect();
        Create {
            uses: 200,
            expires: expires.to_owned(),
            label,
        }
    }

    #[test]
    fn a_wish_is_checked_here() {
        let good = new_token(&wish("7d", &["site=hq", "role=a=b"])).unwrap();
        assert_eq!((good.uses, good.expires_seconds), (200, 604_800));
        assert_eq!(good.labels[1], ("role".to_owned(), "a=b".to_owned()));
        for bad in [
            wish("7", &[]),
            wish("0s", &[]),
            wish("", &[]),
            wish("1d", &["site"]),
            wish("1d", &["=x"]),
        ] {
            assert_eq!(new_token(&bad).unwrap_err().code, 64, "{bad:?}");
        }
    }

    #[test]
    fn the_command_stands_alone_on_its_line() {
        let mut token = Token {
            id: "k7".to_owned(),
            join: "dw1.a.k7.s".to_owned(),
            command: "dawnwatch-agent join 192.0.2.1:7443 dw1.a.k7.s".to_owned(),
            install: String::new(),
            no_install: "there is none".to_owned(),
            expires: sample::at("2026-10-12T05:30:00Z"),
            uses: 1,
        };
        let want = "dawnwatch-agent join 192.0.2.1:7443 dw1.a.k7.s\n\n\
                    Token k7: good for 1 host, until Mon 12 Oct 2026 05:30 UTC. Its secret is shown only this once.\n\
                    No line to paste where there is no agent: there is none.\n";
        assert_eq!(draw(&token, &TimeZone::UTC), want);
        token.install = "(curl)".to_owned();
        let drawn = draw(&token, &TimeZone::UTC);
        for line in ["(curl)", &token.command] {
            assert!(drawn.lines().any(|drawn| drawn == line), "{drawn}");
        }
    }
}
