//! `dawnwatch show`: anything by its id or name.

use dawnwatch_proto::api::{Host, Incident, LiveReview, Now};
use dawnwatch_proto::review::Importance;
use dawnwatch_proto::untrusted::term;
use jiff::tz::TimeZone;

use crate::client::Document;
use crate::draw;
use crate::fail::Fail;
use crate::find;
use crate::moment::is_night;
use crate::session::{Answer, Session};
use crate::table::{self, Cell, Side, Table};
use crate::verb::{hosts, incidents, review};

/// What is to be shown.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// An incident (I-318), a finding (L-052), a host (its name or the beginning of its id) or a night (N-2026-10-05)
    what: String,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Answer, Fail> {
    let what = args.what.trim();
    if is_night(what) {
        return night(what, session);
    }
    if what.contains('-')
        && let Some(id) = incident_id(what)
    {
        return incident(&id, session);
    }
    let document = session.server.get("hosts", &[("state", "all")])?;
    let hosts = document.read::<Vec<Host>>()?;
    let host = match (find::host(&hosts, what), incident_id(what)) {
        (Ok(host), _) => host,
        (Err(_), Some(id)) => return incident(&id, session),
        (Err(fail), None) => return Err(fail),
    };
    let alone = Document(one_of(&document, &host.id.to_string())?);
    session.drawing(
        &alone,
        |_| Ok(draw_host(host, &session.now()?, session)),
        || Ok(facts(host)),
    )
}

/// The id of an incident from `I-318`, `i-318` or `318`, of a finding about log lines from `L-052`, `l-52`.
pub(crate) fn incident_id(text: &str) -> Option<String> {
    let text = text.trim();
    let (letter, number) = match text.split_at_checked(2) {
        Some(("I-" | "i-", number)) => ('I', number),
        Some(("L-" | "l-", number)) => ('L', number),
        Some(_) | None => ('I', text),
    };
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let value = number.trim_start_matches('0');
    digits.then(|| match letter {
        'L' => format!("L-{value:0>3}"),
        _ => format!("I-{number}"),
    })
}

fn incident(id: &str, session: &Session) -> Result<Answer, Fail> {
    let document = session.server.get(&format!("incidents/{id}"), &[])?;
    let incident = document.read::<Incident>()?;
    session.drawing(
        &document,
        |color| Ok(draw::incident(&incident, &session.now()?, color, session)),
        || {
            session.now().map(|now| {
                incidents::table(
                    std::slice::from_ref(&incident),
                    now.at,
                    &session.zone(&now.zone),
                )
            })
        },
    )
}

fn night(id: &str, session: &Session) -> Result<Answer, Fail> {
    let id = review::night(id)?;
    let document = session.server.get("review", &[("night", id.as_str())])?;
    let live = document.read::<LiveReview>()?;
    session.drawing(
        &document,
        |color| Ok(draw::review(&live, None, color, session)),
        || Ok(review::table(&live)),
    )
}

/// One host's document out of the list, untouched.
fn one_of(document: &Document, id: &str) -> Result<String, Fail> {
    let all = document.read::<Vec<serde_json::Value>>()?;
    let one = all
        .into_iter()
        .find(|host| host.get("id").and_then(serde_json::Value::as_str) == Some(id));
    Ok(one.unwrap_or_default().to_string())
}

fn draw_host(host: &Host, now: &Now, session: &Session) -> String {
    let zone = session.zone(&now.zone);
    let service = host
        .service
        .as_deref()
        .map(|service| format!(" ({})", term(service)))
        .unwrap_or_default();
    let seen = host.last_seen.map_or("never".to_owned(), |seen| {
        let ago = draw::duration(draw::seconds_between(seen, now.at));
        format!("{}, {ago} ago", draw::when(seen, &zone, now.at))
    });
    let values: Vec<String> = host
        .values
        .iter()
        .map(|(name, value)| format!("{} {}", term(table::short(name)), hosts::show(name, *value)))
        .collect();
    let or = |text: &Option<String>, none: &str| text.as_deref().map_or(none.to_owned(), term);
    let lines = [
        (
            "HOST",
            format!("{}{service}: {}", term(&host.name), term(&host.state)),
        ),
        ("ID", host.id.to_string()),
        ("LAST SEEN", seen),
        (
            "VALUES",
            if values.is_empty() {
                "none".to_owned()
            } else {
                values.join(" | ")
            },
        ),
        ("OWNER", or(&host.owner, "nobody")),
        ("SITE", or(&host.site, "not set")),
        ("IMPORTANCE", importance(host.importance).to_owned()),
        ("SYSTEM", term(&host.system)),
        (
            "AGENT",
            format!("{}, {} series", term(&host.agent_version), host.series),
        ),
        (
            "CLOCK",
            format!("{:+.3} s against the server's", host.clock_offset_seconds),
        ),
        (
            "JOINED",
            host.joined
                .to_zoned(zone.clone())
                .strftime("%a %-d %b %Y %H:%M %Z")
                .to_string(),
        ),
    ];
    let mut out = String::new();
    for (name, text) in lines {
        out.push_str(&format!("{name:<11}{text}\n"));
    }
    out.push_str(&open(host, now, &zone));
    out.push_str(&format!(
        "\ndawnwatch history {} | dawnwatch incidents --all\n",
        term(&host.name)
    ));
    out
}

/// The host's open incidents.
fn open(host: &Host, now: &Now, zone: &TimeZone) -> String {
    let open: Vec<Incident> = now
        .open
        .iter()
        .filter(|incident| incident.host == host.id)
        .cloned()
        .collect();
    if open.is_empty() {
        return "OPEN       nothing\n".to_owned();
    }
    format!(
        "\nOPEN\n{}",
        incidents::table(&open, now.at, zone).text(false)
    )
}

/// The host as one row for programs.
fn facts(host: &Host) -> Table {
    let head = [
        "id",
        "host",
        "state",
        "last_seen",
        "service",
        "owner",
        "site",
        "importance",
        "system",
        "agent",
        "joined",
    ];
    let mut table = Table::new(&head.map(|key| (key, Side::Left)), "");
    let text = |text: &Option<String>| Cell::text(text.clone().unwrap_or_default());
    table.row(vec![
        Cell::text(host.id.to_string()),
        Cell::text(host.name.as_str()),
        Cell::text(host.state.as_str()),
        Cell::text(
            host.last_seen
                .map(|seen| seen.to_string())
                .unwrap_or_default(),
        ),
        text(&host.service),
        text(&host.owner),
        text(&host.site),
        Cell::text(importance(host.importance)),
        Cell::text(host.system.as_str()),
        Cell::text(host.agent_version.as_str()),
        Cell::text(host.joined.to_string()),
    ]);
    table
}

fn importance(importance: Importance) -> &'static str {
    match importance {
        Importance::Low => "low",
        Importance::Normal => "normal",
        Importance::High => "high",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn ids_of_incidents() {
        for (text, want) in [
            ("I-318", Some("I-318")),
            ("i-318", Some("I-318")),
            ("318", Some("I-318")),
            ("L-052", Some("L-052")),
            ("l-52", Some("L-052")),
            ("L-1204", Some("L-1204")),
            ("L-", None),
            ("I-", None),
            ("web01", None),
            ("I-3x", None),
            ("I-3/ack", None),
        ] {
            assert_eq!(incident_id(text).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn a_host() {
        let now = Now {
            at: sample::now(),
            zone: "Europe/Berlin".to_owned(),
            calendar_confirmed: true,
            hosts: 3,
            hosts_live: 1,
            hosts_missing: 0,
            open: vec![sample::incident()],
            last_night: None,
            notices: Vec::new(),
        };
        let session = Session::new(&crate::args::Global {
            output: crate::args::Output::Table,
            data: "/nowhere".into(),
            socket: None,
            color: crate::args::When::Never,
            tz: None,
        });
        let got = draw_host(&sample::hosts()[1], &now, &session.unwrap());
        sample::golden("host", &got);
    }
}
