//! `dawnwatch find`: by words, whatever it is and however old.

use dawnwatch_proto::api::{Found, Search};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::draw;
use crate::fail::Fail;
use crate::session::{Answer, Session};
use crate::table::{Cell, Paint, Side, Table};

/// What is sought.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Words, or their beginnings: all of them must be there
    #[arg(required = true)]
    words: Vec<String>,
    /// Only of this host
    #[arg(long)]
    host: Option<String>,
    /// Only of this kind: host, incident, finding or template
    #[arg(long)]
    kind: Option<String>,
    /// So many at most
    #[arg(long, default_value_t = 50)]
    limit: u32,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Answer, Fail> {
    let (words, limit) = (args.words.join(" "), args.limit.to_string());
    let mut asked = vec![("q", words.as_str()), ("limit", limit.as_str())];
    asked.extend(args.host.as_deref().map(|host| ("host", host)));
    asked.extend(args.kind.as_deref().map(|kind| ("kind", kind)));
    let document = session.server.get("search", &asked)?;
    session.table(&document, || {
        let (search, now) = (document.read::<Search>()?, session.now()?);
        let table = table(&search.found, now.at, &session.zone(&now.zone));
        Ok(table.none("nothing is found by all of these words: try fewer, or their beginnings"))
    })
}

fn table(found: &[Found], now: Timestamp, zone: &TimeZone) -> Table {
    let head = [
        ("kind", Side::Left),
        ("id", Side::Left),
        ("host", Side::Left),
        ("since", Side::Left),
        ("state", Side::Left),
        ("what", Side::Left),
    ];
    let mut table = Table::new(&head, "nothing");
    for one in found {
        let id = if one.kind == "host" {
            ""
        } else {
            one.id.as_str()
        };
        let open = one.until.is_none() && one.kind != "template" && one.kind != "host";
        let severity = one.severity.filter(|_| open);
        table.row(vec![
            Cell::text(one.kind.as_str()),
            Cell::text(id).paint(severity.map_or(Paint::Dim, Paint::of)),
            Cell::text(one.name.as_str()),
            Cell::new(draw::when(one.since, zone, now), one.since.to_string()),
            Cell::text(one.state.as_str()),
            Cell::text(one.text.as_str()),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use dawnwatch_proto::HostId;
    use dawnwatch_proto::review::Severity;

    #[test]
    fn what_was_found_is_drawn_and_cannot_write_on_the_terminal() {
        let found = [Found {
            kind: "template".to_owned(),
            id: "7".to_owned(),
            host: HostId(1),
            name: "db02".to_owned(),
            state: String::new(),
            severity: Some(Severity::Warning),
            since: sample::at("2026-10-04T01:12:08Z"),
            until: None,
            text: "sshd: peer <ip>\u{1b}[2J gone".to_owned(),
            night: None,
        }];
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let table = table(&found, sample::now(), &zone);
        assert!(!table.text(false).contains('\u{1b}'));
        assert!(table.csv().contains("template,7,db02,2026-10-04T01:12:08Z"));
    }
}
