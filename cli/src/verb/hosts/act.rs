//! Changes of one host.

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
        act(&self.host, "retire", &(), session)
    }
}

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
