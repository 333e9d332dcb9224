//! `dawnwatch history --all-hosts`: one series of every host, most first.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use dawnwatch_proto::api::{Fleet, FleetBy, FleetHost};
use dawnwatch_proto::quantity::Unit;
use dawnwatch_proto::untrusted::term;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::draw;
use crate::fail::Fail;
use crate::session::{Answer, Session};
use crate::table::{Cell, Side, Table};

/// Reads what hosts are sorted by.
pub(crate) fn by() -> impl TypedValueParser<Value = FleetBy> {
    let values = FleetBy::ALL.map(|by| PossibleValue::new(by.name()).help(by.words()));
    let find = |name: String| FleetBy::ALL.into_iter().find(|by| by.name() == name);
    PossibleValuesParser::new(values).try_map(move |name| find(name).ok_or("unknown order"))
}

pub(crate) fn run(
    series: &str,
    (from, to): (Timestamp, Timestamp),
    zone: &TimeZone,
    (by, top): (FleetBy, u32),
    session: &Session,
) -> Result<Answer, Fail> {
    if series.is_empty() {
        return Err(Fail::usage(
            "name the series: dawnwatch history --all-hosts SERIES (list those of a host with: dawnwatch history HOST)"
                .to_owned(),
        ));
    }
    let query = [
        ("series", series),
        ("from", &from.to_string()),
        ("to", &to.to_string()),
        ("by", by.name()),
        ("top", &top.to_string()),
    ];
    let document = session.server.get("fleet", &query)?;
    let fleet = || document.read::<Fleet>();
    session.drawing(
        &document,
        |_| Ok(drawn(&fleet()?, zone)),
        || fleet().map(|fleet| table(&fleet, None)),
    )
}

fn drawn(fleet: &Fleet, zone: &TimeZone) -> String {
    let unit = Unit::of(&fleet.series, fleet.kind);
    let words = match unit.words() {
        "" => String::new(),
        words => format!("  {words}"),
    };
    let mut out = format!(
        "{}{words}  {} of {} hosts, by {}, whole hours {} to {}\n",
        term(&fleet.series),
        fleet.hosts.len(),
        fleet.hosts_total,
        term(&fleet.by),
        draw::when(fleet.from, zone, fleet.to),
        draw::when(fleet.to, zone, fleet.to),
    );
    if fleet.damaged > 0 {
        out.push_str(&format!(
            "{} parts of these hours cannot be read; the server's log names them\n",
            fleet.damaged
        ));
    }
    out.push('\n');
    out.push_str(&table(fleet, Some(unit)).text(false));
    out
}

/// A line a host; numbers as they are where no unit is given.
fn table(fleet: &Fleet, unit: Option<Unit>) -> Table {
    let p95 = fleet.hosts.iter().any(|host| host.p95.is_some());
    let gauge = fleet.hosts.iter().any(|host| host.min.is_some());
    let mut head = vec![("host", Side::Left), ("max", Side::Right)];
    if p95 {
        head.push(("p95", Side::Right));
    }
    head.push(("mean", Side::Right));
    if gauge {
        head.extend([("min", Side::Right), ("last", Side::Right)]);
    }
    head.push(("samples", Side::Right));
    let mut table = Table::new(&head, "no host has samples of it in these hours");
    let number = |value: Option<f64>| match (value, unit) {
        (None, _) => Cell::none(),
        (Some(value), Some(unit)) => Cell::text(unit.show(value)),
        (Some(value), None) => Cell::text(value.to_string()),
    };
    for host in &fleet.hosts {
        let FleetHost {
            name,
            samples,
            min,
            mean,
            max,
            last,
            ..
        } = host;
        let mut row = vec![Cell::text(name.as_str()), number(Some(*max))];
        if p95 {
            row.push(number(host.p95));
        }
        row.push(number(Some(*mean)));
        if gauge {
            row.extend([number(*min), number(*last)]);
        }
        row.push(Cell::text(samples.to_string()));
        table.row(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn fleet() -> Fleet {
        let host = |i: usize, max: f64| FleetHost {
            host: sample::hosts()[i].id,
            name: sample::hosts()[i].name.clone(),
            samples: 5_040,
            min: Some(0.01),
            mean: 0.4,
            max,
            last: Some(0.2),
            p95: None,
        };
        Fleet {
            series: "node_load1".to_owned(),
            kind: dawnwatch_proto::Kind::Gauge,
            zone: "Europe/Berlin".to_owned(),
            from: sample::at("2026-10-04T16:00:00Z"),
            to: sample::at("2026-10-05T06:00:00Z"),
            by: "max".to_owned(),
            hosts: vec![host(1, 17.25), host(0, 3.5)],
            hosts_total: 171,
            damaged: 0,
        }
    }

    #[test]
    fn a_line_a_host() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        sample::golden("fleet", &drawn(&fleet(), &zone));
        let mut rates = fleet();
        rates.damaged = 2;
        for host in &mut rates.hosts {
            (host.min, host.last, host.p95) = (None, None, Some(2.0));
        }
        let got = drawn(&rates, &zone);
        assert!(
            got.contains("\n2 parts of these hours cannot be read"),
            "{got}"
        );
        assert!(got.contains("HOST   MAX  P95  MEAN  SAMPLES\n"), "{got}");
    }

    #[test]
    fn numbers_for_programs() {
        let csv = table(&fleet(), None).csv();
        let want = "host,max,mean,min,last,samples\ndb02,17.25,0.4,0.01,0.2,5040\ndb01,3.5,0.4,0.01,0.2,5040\n";
        assert_eq!(csv, want);
    }
}
