//! `dawnwatch incidents`: the list of them.

use dawnwatch_proto::api::Incident;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::draw;
use crate::fail::Fail;
use crate::session::{Answer, Session};
use crate::table::{Cell, Paint, Side, Table};

/// Which incidents.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Closed ones too
    #[arg(long)]
    all: bool,
    /// Only those that are open or taken: as without options
    #[arg(long, conflicts_with = "all")]
    open: bool,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Answer, Fail> {
    let state = if args.all { "all" } else { "open" };
    let document = session.server.get("incidents", &[("state", state)])?;
    session.table(&document, || {
        let (incidents, now) = (document.read::<Vec<Incident>>()?, session.now()?);
        let table = table(&incidents, now.at, &session.zone(&now.zone));
        let hint = "nothing is open; closed ones: dawnwatch incidents --all";
        Ok(if args.all { table } else { table.none(hint) })
    })
}

/// Incidents as rows, in the order given.
pub(crate) fn table(incidents: &[Incident], now: Timestamp, zone: &TimeZone) -> Table {
    let head = [
        ("id", Side::Left),
        ("severity", Side::Left),
        ("state", Side::Left),
        ("host", Side::Left),
        ("since", Side::Left),
        ("duration", Side::Right),
        ("owner", Side::Left),
        ("what", Side::Left),
    ];
    let mut table = Table::new(&head, "no incidents");
    for incident in incidents {
        let until = incident.until.unwrap_or(now);
        let seconds = draw::seconds_between(incident.since, until);
        let open = incident.until.is_none();
        let person = incident
            .taken
            .as_ref()
            .map(|(by, _)| by)
            .or(incident.owner.as_ref());
        table.row(vec![
            Cell::text(incident.id.as_str()),
            Cell::text(draw::severity(incident.severity)).paint(if open {
                Paint::of(incident.severity)
            } else {
                Paint::Dim
            }),
            Cell::text(incident.state.as_str()),
            Cell::text(incident.name.as_str()),
            Cell::new(
                draw::when(incident.since, zone, now),
                incident.since.to_string(),
            ),
            Cell::new(draw::duration(seconds), seconds.to_string()),
            person.map_or(Cell::new("nobody", ""), |person| {
                Cell::text(person.as_str())
            }),
            Cell::text(incident.what.as_str()),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_list() {
        let mut closed = sample::incident();
        closed.id = "I-9".to_owned();
        closed.state = "closed".to_owned();
        closed.until = Some(sample::at("2026-10-04T01:14:08Z"));
        (closed.taken, closed.owner) = (None, None);
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let table = table(&[sample::incident(), closed], sample::now(), &zone);
        sample::golden("incidents", &table.text(false));
        let want = "id,severity,state,host,since,duration,owner,what\n\
                    I-318,critical,acknowledged,db02,2026-10-04T01:12:08Z,101872,A. Ruiz,off or hung\n\
                    I-9,critical,closed,db02,2026-10-04T01:12:08Z,120,,off or hung\n";
        assert_eq!(table.csv(), want);
    }
}
