//! What can be typed.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::verb::find;
use crate::verb::{ack, history, hosts, incidents, logs, net, people, review, show, token, why};

/// What is open now; with a verb: what happened, what was watched, why.
#[derive(Debug, Parser)]
#[command(
    name = "dawnwatch",
    version,
    after_help = "Times: 03:00, -2h, \"sun 03:12\", 2026-10-05, RFC 3339, now, a night's id.\n\
    Exit codes: 0 worked, 64 usage, 65 unknown thing or bad data, 69 server not reachable, 70 our bug, 73 cannot write,\n\
    77 not allowed; with review --exit-code 0 quiet, 1 attention, 2 critical, 3 blind."
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

/// What holds for every verb.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// How to print the answer
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    /// Data directory of the server to ask
    #[arg(
        long,
        global = true,
        env = "DAWNWATCH_DATA",
        value_name = "DIR",
        default_value = "/var/lib/dawnwatch-server"
    )]
    pub(crate) data: PathBuf,
    /// Socket of the server to ask, where it is not in the data directory
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Colours; never with NO_COLOR set or on a pipe, unless `always`
    #[arg(long, global = true, value_enum, default_value_t = When::Auto)]
    pub(crate) color: When,
    /// Time zone to read and show times in, instead of the server's
    #[arg(long, global = true, value_name = "ZONE")]
    pub(crate) tz: Option<String>,
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Table,
    /// The server's document as it is
    Json,
    /// For spreadsheets
    Csv,
    /// Markdown
    Md,
}

/// Whether something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// Where it fits
    Auto,
    /// In any case
    Always,
    /// In no case
    Never,
}

/// What is asked.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// The record of a night: the last sealed one, or the one under way
    Review(review::Args),
    /// Anything by its id or name: an incident, a host, a night
    Show(show::Args),
    /// Why an incident is one, ranks where it does, and paged or not
    #[command(alias = "explain")]
    Why(why::Args),
    /// Incidents: open ones, or all
    Incidents(incidents::Args),
    /// All hosts, and how they are; import, label, rename, retire, merge
    Hosts(hosts::Args),
    /// One series of a host as picture and table; without a series the list of them
    History(history::Args),
    /// Finds hosts, incidents, findings and shapes of log lines by words, however old
    Find(find::Args),
    /// The sealed nights, latest first
    Nights,
    /// Takes an incident: no further reminders
    Ack(ack::Args),
    /// Makes and lists join tokens for agents
    #[command(subcommand)]
    Token(token::Verb),
    /// Who may log in to the page: adds, resets, lists, removes
    #[command(subcommand)]
    People(people::Verb),
    /// Log lines of severity warning and worse, and the shapes of all lines
    Logs(logs::Args),
    /// The rules: severity, wakes whom, condition
    Rules,
    /// Who reaches whom: round trips, losses, ways that are down
    Net(net::Args),
}
