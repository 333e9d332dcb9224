//! Changes of one host.

use std::io::{BufRead, IsTerminal, Read, Write};

use dawnwatch_proto::api::{Done, Labels, To};
use dawnwatch_proto::untrusted::term;
use serde::Serialize;

use crate::client::escape;
use crate::fail::Fail;
use crate::session::{Answer, Session};
use crate::table::{Cell, Side, Table};

/// Sets facts and labels.
#[derive(Debug, clap::Args)]
pub(super) struct Label {
    /// The host, joined or only named
    host: String,
    /// owner=ruiz, site=hq, service=shop, importance=high, hours=..., address=..., or any other; an empty value takes it away
    #[arg(required = true, value_name = "NAME=VALUE")]
    labels: Vec<String>,
}

/// Another name.
#[derive(Debug, clap::Args)]
pub(super) struct Rename {
    /// The host
    host: String,
    /// Its name from here on
    to: String,
}

/// It left for good.
#[derive(Debug, clap::Args)]
pub(super) struct Retire {
    /// The host
    host: String,
    /// Removes its name and all that it sent, for good
    #[arg(long)]
    erase: bool,
    /// Does not ask before it erases
    #[arg(long, requires = "erase")]
    yes: bool,
}

/// It is an old one, set up anew.
#[derive(Debug, clap::Args)]
pub(super) struct Merge {
    /// The host that joined
    new: String,
    /// The host that it is
    old: String,
}

/// A name is taken back.
#[derive(Debug, clap::Args)]
pub(super) struct Forget {
    /// The name
    host: String,
}

impl Label {
    pub(super) fn run(&self, session: &Session) -> Result<Answer, Fail> {
        let mut labels = Vec::new();
        for label in &self.labels {
            match label.split_once('=') {
                Some((name, value)) if !name.is_empty() => {
                    labels.push((name.to_owned(), value.to_owned()));
                }
                Some(_) | None => {
                    return Err(Fail::usage(format!(
                        "{label:?} is no label: write name=value, such as owner=ruiz"
                    )));
                }
            }
        }
        act(&self.host, "label", &Labels { labels }, session)
    }
}

impl Rename {
    pub(super) fn run(&self, session: &Session) -> Result<Answer, Fail> {
        let to = self.to.clone();
        act(&self.host, "rename", &To { to }, session)
    }
}

impl Retire {
    pub(super) fn run(&self, session: &Session) -> Result<Answer, Fail> {
        if !self.erase {
            return act(&self.host, "retire", &(), session);
        }
        if !self.yes {
            sure(&self.host)?;
        }
        act(&self.host, "erase", &(), session)
    }
}

/// Says what will go and what stays, and has the name typed once more.
fn sure(host: &str) -> Result<(), Fail> {
    let mut terminal = std::io::stderr();
    if !std::io::stdin().is_terminal() {
        return Err(Fail::usage(format!(
            "{} is erased for good only with --yes, or after being asked on a terminal",
            term(host)
        )));
    }
    let asked = format!(
        "This erases {0} for good.\n\
         Goes: its name, address, labels and certificates; its samples, summaries and log lines; its page and what search finds.\n\
         Stays: incidents and watched time under a pseudonym; its name in the ledger and in sealed nights, in messages sent,\n\
         in backups made before, and in pre-upgrade/ and after-upgrade/ of the server's data directory.\n\
         Type {0} to erase it: ",
        term(host)
    );
    let mut typed = String::new();
    let answered = terminal
        .write_all(asked.as_bytes())
        .and_then(|()| terminal.flush())
        .and_then(|()| {
            std::io::stdin()
                .lock()
                .take(ANSWER_BYTES_MAX)
                .read_line(&mut typed)
        });
    if answered.is_ok() && typed.trim() == host {
        return Ok(());
    }
    Err(Fail::usage("nothing was erased"))
}

/// Longest answer that is read: a name has at most 64 characters.
const ANSWER_BYTES_MAX: u64 = 256;

impl Merge {
    pub(super) fn run(&self, session: &Session) -> Result<Answer, Fail> {
        let to = self.old.clone();
        act(&self.new, "merge", &To { to }, session)
    }
}

impl Forget {
    pub(super) fn run(&self, session: &Session) -> Result<Answer, Fail> {
        act(&self.host, "forget", &(), session)
    }
}

fn act<T: Serialize>(host: &str, verb: &str, body: &T, session: &Session) -> Result<Answer, Fail> {
    let path = format!("hosts/{}/{verb}", escape(host));
    let document = session.server.post(&path, body)?;
    let done = document.read::<Done>()?;
    session.drawing(
        &document,
        |_| Ok(format!("{}\n", term(&done.text))),
        || {
            let mut table = Table::new(&[("done", Side::Left)], "");
            table.row(vec![Cell::text(done.text.as_str())]);
            Ok(table)
        },
    )
}
