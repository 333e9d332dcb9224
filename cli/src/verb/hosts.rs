//! `dawnwatch hosts`: all hosts, and how they are; what is done with them.

mod act;
mod import;

use clap::Subcommand;
use dawnwatch_proto::Kind;
use dawnwatch_proto::api::{Host, Missing};
use dawnwatch_proto::quantity::Unit;
use jiff::Timestamp;

use crate::draw;
use crate::fail::Fail;
use crate::session::{Answer, Session};
use crate::table::{Cell, Paint, Side, Table};

/// Most value columns: as many fit 100 columns beside the others.
const VALUES_MAX: usize = 4;

/// Which hosts, or what to do with one.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    /// Only hosts that were named and never joined: they are not watched
    #[arg(long, conflicts_with = "retired")]
    missing: bool,
    /// Only hosts that left for good
    #[arg(long)]
    retired: bool,
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// What is done with hosts.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Names hosts that are to be watched, from a CSV file; what does not join counts as not watched
    Import(import::Args),
    /// Sets facts of a host: owner=ruiz site=hq service=shop importance=high hours="Mon-Fri 07:00-19:00", or any other label
    Label(act::Label),
    /// Gives a host another name; it is found under both
    Rename(act::Rename),
    /// A host left for good: history stays, it counts no longer and is never silent again; with --erase its name and all that it sent go too
    Retire(act::Retire),
    /// A host that joined is an old one, set up anew: it goes on as that one
    Merge(act::Merge),
    /// Takes a name back that was imported and never joined
    Forget(act::Forget),
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Answer, Fail> {
    match &args.verb {
        None if args.missing => missing(session),
        None => list(args, session),
        Some(Verb::Import(args)) => import::run(args, session),
        Some(Verb::Label(args)) => args.run(session),
        Some(Verb::Rename(args)) => args.run(session),
        Some(Verb::Retire(args)) => args.run(session),
        Some(Verb::Merge(args)) => args.run(session),
        Some(Verb::Forget(args)) => args.run(session),
    }
}

fn list(args: &Args, session: &Session) -> Result<Answer, Fail> {
    let query: &[(&str, &str)] = if args.retired {
        &[("state", "retired")]
    } else {
        &[]
    };
    let document = session.server.get("hosts", query)?;
    session.table(&document, || {
        let now = session.now()?;
        let mut table = table(&document.read::<Vec<Host>>()?, now.at);
        if now.hosts_missing > 0 && !args.retired {
            let hosts = draw::count(now.hosts_missing, "host");
            table.note(format!(
                "{hosts} named and never joined, not watched: dawnwatch hosts --missing"
            ));
        }
        Ok(table)
    })
}

fn missing(session: &Session) -> Result<Answer, Fail> {
    let document = session.server.get("hosts/missing", &[])?;
    session.table(&document, || {
        let now = session.now()?;
        let zone = session.zone(&now.zone);
        let head = [
            ("host", Side::Left),
            ("named", Side::Left),
            ("address", Side::Left),
            ("site", Side::Left),
            ("service", Side::Left),
            ("owner", Side::Left),
        ];
        let mut table = Table::new(&head, "none: every host that was named has joined");
        let text = |text: &Option<String>| text.as_deref().map_or(Cell::none(), Cell::text);
        for host in document.read::<Vec<Missing>>()? {
            table.row(vec![
                Cell::text(host.name.as_str()),
                Cell::new(
                    draw::when(host.since, &zone, now.at),
                    host.since.to_string(),
                ),
                text(&host.address),
                text(&host.site),
                text(&host.service),
                text(&host.owner),
            ]);
        }
        Ok(table)
    })
}

/// Hosts as rows, in the order given.
fn table(hosts: &[Host], now: Timestamp) -> Table {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in hosts.iter().flat_map(|host| &host.values) {
        if !names.contains(&name.as_str()) && names.len() < VALUES_MAX {
            names.push(name);
        }
    }
    let mut head = vec![
        ("host", Side::Left),
        ("state", Side::Left),
        ("last_seen", Side::Right),
        ("worst", Side::Left),
    ];
    head.extend(names.iter().map(|name| (*name, Side::Right)));
    head.extend([
        ("series", Side::Right),
        ("agent", Side::Left),
        ("service", Side::Left),
        ("owner", Side::Left),
    ]);
    let mut table = Table::new(&head, "no hosts: join one with: dawnwatch token create");
    for host in hosts {
        table.row(cells(host, &names, now));
    }
    table
}

fn cells(host: &Host, names: &[&str], now: Timestamp) -> Vec<Cell> {
    let seen = host.last_seen.map_or(Cell::new("never", ""), |seen| {
        Cell::new(
            draw::duration(draw::seconds_between(seen, now)),
            seen.to_string(),
        )
    });
    let worst = host.worst.map_or(Cell::none(), |worst| {
        Cell::text(draw::severity(worst)).paint(Paint::of(worst))
    });
    let mut out = vec![
        Cell::text(host.name.as_str()),
        Cell::text(host.state.as_str()).paint(paint(&host.state)),
        seen,
        worst,
    ];
    for wanted in names {
        let value = host.values.iter().find(|(name, _)| name == wanted);
        out.push(value.map_or(Cell::none(), |(name, value)| {
            Cell::new(show(name, *value), value.to_string())
        }));
    }
    let text = |text: &Option<String>| text.as_deref().map_or(Cell::none(), Cell::text);
    out.extend([
        Cell::text(host.series.to_string()),
        Cell::text(host.agent_version.as_str()),
        text(&host.service),
        text(&host.owner),
    ]);
    out
}

/// A latest value with its unit.
pub(crate) fn show(name: &str, value: f64) -> String {
    Unit::of(name, Kind::Gauge).show(value)
}

pub(crate) fn paint(state: &str) -> Paint {
    match state {
        "live" => Paint::Good,
        "silent" => Paint::Bad,
        "goodbye" | "off" | "retired" => Paint::Dim,
        _ => Paint::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_list() {
        let table = table(&sample::hosts(), sample::now());
        sample::golden("hosts", &table.text(false));
        let csv = table.csv();
        let want = "db02,silent,2026-10-04T01:12:08Z,critical,,,81,0.1.0,billing,A. Ruiz";
        assert_eq!(csv.lines().nth(2), Some(want), "{csv}");
    }

    #[test]
    fn no_hosts_says_what_to_do() {
        assert_eq!(
            table(&[], sample::now()).text(false),
            "no hosts: join one with: dawnwatch token create\n"
        );
    }
}
