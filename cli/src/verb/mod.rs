//! The verbs, one file each.

pub(crate) mod ack;
pub(crate) mod find;
pub(crate) mod fleet;
pub(crate) mod history;
pub(crate) mod hosts;
pub(crate) mod incidents;
pub(crate) mod logs;
pub(crate) mod net;
pub(crate) mod nights;
pub(crate) mod now;
pub(crate) mod people;
pub(crate) mod review;
pub(crate) mod rules;
pub(crate) mod show;
pub(crate) mod token;
pub(crate) mod why;

use crate::args::Verb;
use crate::fail::Fail;
use crate::session::{Answer, Session};

/// Does what was asked; nothing asked is: what is open now.
pub(crate) fn run(verb: Option<&Verb>, session: &Session) -> Result<Answer, Fail> {
    match verb {
        None => now::run(session),
        Some(Verb::Review(args)) => review::run(args, session),
        Some(Verb::Show(args)) => show::run(args, session),
        Some(Verb::Why(args)) => why::run(args, session),
        Some(Verb::Incidents(args)) => incidents::run(args, session),
        Some(Verb::Hosts(args)) => hosts::run(args, session),
        Some(Verb::History(args)) => history::run(args, session),
        Some(Verb::Find(args)) => find::run(args, session),
        Some(Verb::Nights) => nights::run(session),
        Some(Verb::Ack(args)) => ack::run(args, session),
        Some(Verb::Token(verb)) => token::run(verb, session),
        Some(Verb::People(verb)) => people::run(verb, session),
        Some(Verb::Net(args)) => net::run(args, session),
        Some(Verb::Logs(args)) => logs::run(args, session),
        Some(Verb::Rules) => rules::run(session),
    }
}
