//! `dawnwatch logs`: whole log lines, and the shapes of all lines.

use dawnwatch_proto::api::{Host, LogTemplates, Logs, severity_word};
use dawnwatch_proto::untrusted::term;
use jiff::tz::TimeZone;

use crate::draw;
use crate::fail::Fail;
use crate::find;
use crate::moment::{Moment, moment};
use crate::session::{Answer, Session};
use crate::table::{Cell, Paint, Side, Table};

/// Most lines that can be asked for.
const LIMIT_MAX: i64 = 5_000;

/// Which lines.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A host by its name or the beginning of its id; without one, all hosts
    host: Option<String>,
    /// Start, such as -2h or 03:00
    #[arg(
        long,
        default_value = "-2h",
        allow_hyphen_values = true,
        value_name = "TIME"
    )]
    since: String,
    /// End
    #[arg(long, allow_hyphen_values = true, value_name = "TIME")]
    until: Option<String>,
    /// Mildest severity, such as error
    #[arg(long, value_name = "SEVERITY", conflicts_with = "templates")]
    severity: Option<String>,
    /// Only what holds this text, in capitals or not
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
    /// Shapes of lines instead of lines
    #[arg(long)]
    templates: bool,
    /// Most lines: the latest ones
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=LIMIT_MAX))]
    limit: u32,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Answer, Fail> {
    let host = match &args.host {
        None => None,
        Some(name) => {
            let hosts = session
                .server
                .get("hosts", &[("state", "all")])?
                .read::<Vec<Host>>()?;
            Some(find::host(&hosts, name)?.id.to_string())
        }
    };
    let limit = args.limit.to_string();
    let mut query = vec![("limit", limit.as_str())];
    query.extend(host.as_deref().map(|host| ("host", host)));
    query.extend(args.grep.as_deref().map(|text| ("text", text)));
    if args.templates {
        let document = session.server.get("templates", &query)?;
        let templates = || document.read::<LogTemplates>();
        return session.drawing(
            &document,
            |color| templates().map(|found| shapes_text(&found, session, color)),
            || templates().map(|found| shapes(&found, &session.zone(&found.zone))),
        );
    }
    let now = session.now()?;
    let zone = session.zone(&now.zone);
    let time = |text: &str| match moment(text, now.at, &zone)? {
        Moment::At(at) => Ok(at.to_string()),
        Moment::Night(id) => Err(Fail::usage(format!(
            "{id} is a night: give a time such as -2h or 03:00"
        ))),
    };
    let from = time(&args.since)?;
    let to = args.until.as_deref().map(time).transpose()?;
    query.push(("from", &from));
    query.extend(to.as_deref().map(|to| ("to", to)));
    query.extend(args.severity.as_deref().map(|word| ("severity", word)));
    let document = session.server.get("logs", &query)?;
    let logs = || document.read::<Logs>();
    session.drawing(
        &document,
        |color| logs().map(|found| lines_text(&found, session, color)),
        || logs().map(|found| lines(&found, &session.zone(&found.zone))),
    )
}

fn lines_text(logs: &Logs, session: &Session, color: bool) -> String {
    let mut out = lines(logs, &session.zone(&logs.zone)).text(color);
    if logs.more {
        out.push_str("there are earlier lines: give --limit, or a shorter span\n");
    }
    if logs.cut > 0 {
        out.push_str(&format!(
            "{} lines were not sent whole by their hosts, over 64 a tick; they are counted: dawnwatch logs --templates\n",
            logs.cut
        ));
    }
    for damaged in &logs.damaged {
        out.push_str(&format!("not readable: {}\n", term(damaged)));
    }
    out
}

fn lines(logs: &Logs, zone: &TimeZone) -> Table {
    let head = ["time", "host", "severity", "source", "line"].map(|key| (key, Side::Left));
    let mut table = Table::new(&head, "no lines of severity warning or worse in this span");
    let format = match (logs.lines.first(), logs.lines.last()) {
        (Some(first), Some(last)) => draw::clock_format(first.time, last.time),
        _ => "",
    };
    for line in &logs.lines {
        let time = line.time.to_zoned(zone.clone());
        let text = if line.cut_from > 0 {
            format!("{} [cut, was {} bytes]", line.text, line.cut_from)
        } else {
            line.text.clone()
        };
        table.row(vec![
            Cell::new(time.strftime(format).to_string(), line.time.to_string()),
            Cell::text(line.name.as_str()),
            severity(line.severity),
            Cell::text(line.source.as_str()),
            Cell::new(text, line.text.as_str()),
        ]);
    }
    table
}

fn shapes_text(found: &LogTemplates, session: &Session, color: bool) -> String {
    let mut out = shapes(found, &session.zone(&found.zone)).text(color);
    if found.more > 0 {
        out.push_str(&format!("{} more: give --limit or --grep\n", found.more));
    }
    if found.dropped > 0 {
        out.push_str(&format!(
            "{} shapes were met and not remembered: the dictionary is full\n",
            found.dropped
        ));
    }
    out
}

fn shapes(found: &LogTemplates, zone: &TimeZone) -> Table {
    let head = [
        ("last", Side::Left),
        ("first", Side::Left),
        ("lines", Side::Right),
        ("hosts", Side::Right),
        ("severity", Side::Left),
        ("source", Side::Left),
        ("finding", Side::Left),
        ("shape", Side::Left),
    ];
    let mut table = Table::new(&head, "no shapes of log lines are known");
    let latest = found.templates.iter().map(|one| one.last).max();
    for one in &found.templates {
        let now = latest.unwrap_or(one.last);
        let time = |at| Cell::new(draw::when(at, zone, now), at.to_string());
        table.row(vec![
            time(one.last),
            time(one.first),
            Cell::text(one.lines.to_string()),
            Cell::text(one.hosts.to_string()),
            severity(one.severity),
            Cell::text(one.source.as_str()),
            one.finding.as_deref().map_or_else(Cell::none, Cell::text),
            Cell::text(one.text.as_str()),
        ]);
    }
    table
}

fn severity(severity: u8) -> Cell {
    let paint = match severity {
        0..=2 => Paint::Bad,
        3 | 4 => Paint::Warn,
        5.. => Paint::None,
    };
    Cell::text(severity_word(severity)).paint(paint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use dawnwatch_proto::HostId;
    use dawnwatch_proto::api::LogLine;

    #[test]
    fn hostile_lines_are_harmless_everywhere() {
        let line = |text: &str| LogLine {
            time: sample::at("2026-10-04T01:11:52Z"),
            host: HostId(1),
            name: "db02".to_owned(),
            severity: 3,
            source: "kernel".to_owned(),
            text: text.to_owned(),
            cut_from: 0,
        };
        let mut logs = Logs {
            zone: "Europe/Berlin".to_owned(),
            lines: vec![
                line("\x1b[2Jgone"),
                line("=cmd|' /C calc'!A0"),
                line("x\r\nBcc: all@example.org"),
                line("<script>alert(1)</script> | **b**"),
            ],
            more: false,
            cut: 0,
            damaged: Vec::new(),
        };
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let table = lines(&logs, &berlin);
        for text in [table.text(true), table.csv(), table.md()] {
            assert!(!text.contains("\x1b[2J") && !text.contains('\r'), "{text}");
            assert_eq!(text.lines().filter(|l| l.starts_with("Bcc")).count(), 0);
        }
        assert!(table.csv().contains(",'=cmd|"), "{}", table.csv());
        assert!(table.text(false).contains("Sun 03:11:52  db02  error"));
        assert!(!table.md().contains("<script>"), "{}", table.md());
        // Of two Sundays it must be said which.
        logs.lines[0].time = sample::at("2026-09-27T01:11:52Z");
        let text = lines(&logs, &berlin).text(false);
        assert!(text.contains("2026-10-04 03:11:52  db02  error"), "{text}");
    }
}
