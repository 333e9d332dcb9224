//! `dawnwatch hosts`: all hosts, and how they are.

use dawnwatch_proto::Kind;
use dawnwatch_proto::api::Host;
use jiff::Timestamp;

use crate::draw;
use crate::fail::Fail;
use crate::quantity::Unit;
use crate::session::{Answer, Session};
use crate::table::{Cell, Paint, Side, Table};

/// Most value columns: as many fit 100 columns beside the others.
const VALUES_MAX: usize = 4;

pub(crate) fn run(session: &Session) -> Result<Answer, Fail> {
    let document = session.server.get("hosts", &[])?;
    session.table(&document, || {
        Ok(table(&document.read::<Vec<Host>>()?, session.now()?.at))
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
        "goodbye" => Paint::Dim,
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
