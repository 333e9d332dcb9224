//! `dawnwatch history`: one series of a host as picture and table.

use dawnwatch_proto::api::{FleetBy, History, Host, NightHead};
use dawnwatch_proto::quantity::Unit;
use dawnwatch_proto::untrusted::term;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::chart;
use crate::client::Document;
use crate::draw;
use crate::fail::{DATA, Fail};
use crate::find;
use crate::moment::{Moment, moment};
use crate::session::{Answer, Session};
use crate::table::{Cell, Side, Table};
use crate::verb::fleet;

/// Most rows of the table under the picture: it and the picture fit one screen.
const TABLE_ROWS_MAX: usize = 12;

/// Most points that may be asked for: a day in ticks of ten seconds, with room.
const POINTS_MAX: i64 = 10_000;

/// What the server itself is called: what it measures of itself is history too.
const SERVER: &str = "server";

/// Which series, from when to when.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The host: its name, or the beginning of its name or id; server: the server itself; left out with --all-hosts
    #[arg(required_unless_present = "all_hosts")]
    host: Option<String>,
    /// The series: name, name{labels}, or words that are in it; one that is sent no more by its whole name{labels}; without it
    /// the series are listed
    series: Vec<String>,
    /// Start, such as -2h, 03:00 or a night's id
    #[arg(
        long,
        default_value = "-2h",
        allow_hyphen_values = true,
        value_name = "TIME"
    )]
    from: String,
    /// End
    #[arg(long, allow_hyphen_values = true, value_name = "TIME")]
    to: Option<String>,
    /// Most points to ask for; where there are more samples, each point is a mean
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(2..=POINTS_MAX))]
    points: u32,
    /// One line a host instead, most first, in whole hours; the words name the series
    #[arg(long)]
    all_hosts: bool,
    /// With --all-hosts: what to sort by
    #[arg(long, value_parser = fleet::by(), default_value = "max", requires = "all_hosts")]
    by: FleetBy,
    /// With --all-hosts: how many hosts to show
    #[arg(long, default_value_t = 20, requires = "all_hosts", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    top: u32,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Answer, Fail> {
    let host = args.host.as_deref().unwrap_or_default();
    if args.all_hosts {
        let words = std::iter::once(host).chain(args.series.iter().map(String::as_str));
        let series = words.collect::<Vec<_>>().join(" ");
        let (from, to, zone) = span(args, session)?;
        return fleet::run(
            series.trim(),
            (from, to),
            &zone,
            (args.by, args.top),
            session,
        );
    }
    let hosts = session
        .server
        .get("hosts", &[("state", "all")])?
        .read::<Vec<Host>>()?;
    let host = measured(&hosts, host)?;
    let document = session.server.get("series", &[("host", host.as_str())])?;
    let all = document.read::<Vec<String>>()?;
    if args.series.is_empty() {
        return session.table(&document, || Ok(list(&all)));
    }
    let wanted = args.series.join(" ");
    let (from, to, zone) = span(args, session)?;
    let asked = |series: &str| {
        let query = [
            ("host", host.as_str()),
            ("series", series),
            ("from", &from.to_string()),
            ("to", &to.to_string()),
            ("points", &args.points.to_string()),
        ];
        session.server.get("history", &query)
    };
    let document = match find::series(&all, &wanted) {
        Ok(series) => asked(series)?,
        Err(none) => no_more(asked(&wanted), &wanted, none)?,
    };
    let history = || document.read::<History>();
    session.drawing(
        &document,
        |_| Ok(draw(&history()?, args.points, (from, to), &zone)),
        || history().map(|history| points(&history)),
    )
}

/// What has series, as the server is asked for it: a host by its id, or the server itself. A host of that name goes before it.
fn measured(hosts: &[Host], wanted: &str) -> Result<String, Fail> {
    let is_host = |host: &Host| {
        let names = std::iter::once(&host.name).chain(&host.aliases);
        names
            .into_iter()
            .any(|name| name.eq_ignore_ascii_case(wanted))
    };
    if wanted.eq_ignore_ascii_case(SERVER) && !hosts.iter().any(is_host) {
        return Ok(SERVER.to_owned());
    }
    find::host(hosts, wanted).map(|host| host.id.to_string())
}

/// The answer for a series that the host sends no more, as of a disk that died: its whole name finds it.
fn no_more(answer: Result<Document, Fail>, wanted: &str, none: Fail) -> Result<Document, Fail> {
    match answer {
        Ok(document) if document.read::<History>()?.series == wanted => Ok(document),
        Err(other) if other.code != DATA => Err(other),
        Ok(_) | Err(_) => Err(none),
    }
}

/// The asked time. A night as the start takes its end along; a night as the end means its end.
fn span(args: &Args, session: &Session) -> Result<(Timestamp, Timestamp, TimeZone), Fail> {
    let now = session.now()?;
    let zone = session.zone(&now.zone);
    let mut night_end = None;
    let from = match moment(&args.from, now.at, &zone)? {
        Moment::At(at) => at,
        Moment::Night(id) => {
            let night = night(&id, session)?;
            night_end = Some(night.end.min(now.at));
            night.start
        }
    };
    let to = match args
        .to
        .as_deref()
        .map(|to| moment(to, now.at, &zone))
        .transpose()?
    {
        None => night_end.unwrap_or(now.at),
        Some(Moment::At(at)) => at,
        Some(Moment::Night(id)) => night(&id, session)?.end,
    };
    if from >= to {
        let text = format!(
            "from {from} to {to} is no time: --from must be before --to, and not in the future"
        );
        return Err(Fail::usage(text));
    }
    Ok((from, to, zone))
}

fn night(id: &str, session: &Session) -> Result<NightHead, Fail> {
    let nights = session
        .server
        .get("nights", &[])?
        .read::<Vec<NightHead>>()?;
    let near = find::near(id, nights.iter().map(|night| night.id.as_str()));
    nights
        .into_iter()
        .find(|night| night.id == id)
        .ok_or_else(|| {
            Fail::data(format!(
                "no sealed night {id} (list them with: dawnwatch nights)"
            ))
            .suggest(&near)
        })
}

fn list(all: &[String]) -> Table {
    let mut table = Table::new(
        &[("series", Side::Left)],
        "the host has sent no samples yet",
    );
    for series in all {
        table.row(vec![Cell::text(series.as_str())]);
    }
    table
}

/// Every point, for programs.
fn points(history: &History) -> Table {
    let mut head = vec![("time", Side::Left), ("value", Side::Right)];
    if !history.peaks.is_empty() {
        head.push(("max", Side::Right));
    }
    let mut table = Table::new(&head, "no samples in this time");
    let number =
        |value: Option<f64>| value.map_or(Cell::none(), |value| Cell::text(value.to_string()));
    for (i, (time, value)) in history.points.iter().enumerate() {
        let mut row = vec![Cell::text(time.to_string()), number(*value)];
        if !history.peaks.is_empty() {
            row.push(number(peak(history, i)));
        }
        table.row(row);
    }
    table
}

/// The highest value behind a point: of one that stands for itself, its own.
fn peak(history: &History, i: usize) -> Option<f64> {
    let own = history.points.get(i).and_then(|(_, value)| *value);
    history.peaks.get(i).copied().flatten().or(own)
}

/// A point as it is drawn.
#[derive(Clone, Copy)]
struct Shown {
    time: Timestamp,
    mean: f64,
    max: f64,
}

fn draw(
    history: &History,
    asked: u32,
    (from, to): (Timestamp, Timestamp),
    zone: &TimeZone,
) -> String {
    let unit = Unit::of(&history.series, history.kind);
    let mut out = title(history, unit);
    if history.damaged > 0 {
        out.push_str(&format!(
            "{} parts of this time cannot be read; the server's log names them\n",
            history.damaged
        ));
    }
    let shown = |(i, (time, value)): (usize, &(Timestamp, Option<f64>))| {
        let (time, mean) = (*time, (*value)?);
        let max = peak(history, i).unwrap_or(mean);
        Some(Shown { time, mean, max })
    };
    let present: Vec<Shown> = history
        .points
        .iter()
        .enumerate()
        .filter_map(shown)
        .collect();
    let (Some(first), Some(last)) = (present.first(), present.last()) else {
        out.push_str(&format!(
            "no samples from {} to {}\n",
            draw::when(from, zone, to),
            draw::when(to, zone, to)
        ));
        return out;
    };
    if history.resolution_seconds > 0 {
        let means = means(history.resolution_seconds);
        out.push_str(&format!("{means}, picture and max show the highest\n"));
    } else if history.samples > u64::from(asked) {
        let each = history.samples.div_ceil(history.points.len().max(1) as u64);
        let peaks = if history.peaks.is_empty() {
            ""
        } else {
            ", picture and max show the highest"
        };
        out.push_str(&format!(
            "each point is the mean of about {each} samples{peaks}; all: --points N\n"
        ));
    }
    // Before the first sample there is nothing to see; after the last, silence is worth seeing.
    let start = first.time.max(from);
    let times = history.points.iter().enumerate();
    let highest: Vec<(Timestamp, Option<f64>)> = times
        .map(|(i, (time, _))| (*time, peak(history, i)))
        .collect();
    let span = (start, to.max(last.time));
    out.push_str(&chart::draw(&highest, span, zone, unit));
    let least = present.iter().min_by(|a, b| a.mean.total_cmp(&b.mean));
    let most = present.iter().max_by(|a, b| a.max.total_cmp(&b.max));
    let (least, most) = (least.unwrap_or(first), most.unwrap_or(first));
    let format = draw::clock_format(first.time, last.time);
    let clock = |at: Timestamp| at.to_zoned(zone.clone()).strftime(format).to_string();
    for (name, value, time) in [
        ("min", least.mean, least.time),
        ("max", most.max, most.time),
        ("last", last.mean, last.time),
    ] {
        let (value, time) = (unit.show(value), clock(time));
        out.push_str(&format!("{name:<4} {value:>12}  {time}\n"));
    }
    out.push('\n');
    out.push_str(&steps(&present, unit, &clock).text(false));
    out
}

/// What the points of summaries are.
fn means(seconds: u32) -> String {
    match (seconds / 3_600, seconds / 60) {
        (1, _) => "hourly means".to_owned(),
        (0, minutes) => format!("means of {minutes} minutes"),
        (hours, _) => format!("means of {hours} hours"),
    }
}

fn title(history: &History, unit: Unit) -> String {
    let counts = if history.samples == 1 {
        "1 sample".to_owned()
    } else {
        format!("{} samples", history.samples)
    };
    let words = if unit.words().is_empty() {
        String::new()
    } else {
        format!("  {}", unit.words())
    };
    format!(
        "{}  {}{words}  {counts}\n",
        term(&history.name),
        term(&history.series)
    )
}

/// The points put together into a few rows of equal numbers of points.
fn steps(present: &[Shown], unit: Unit, clock: &dyn Fn(Timestamp) -> String) -> Table {
    let head = [
        ("from", Side::Left),
        ("min", Side::Right),
        ("mean", Side::Right),
        ("max", Side::Right),
    ];
    let mut table = Table::new(&head, "");
    for part in present.chunks(present.len().div_ceil(TABLE_ROWS_MAX).max(1)) {
        let values = || part.iter().map(|point| point.mean);
        let most = part
            .iter()
            .map(|point| point.max)
            .fold(f64::NEG_INFINITY, f64::max);
        #[allow(clippy::cast_precision_loss, reason = "a few thousand points")]
        let mean = values().sum::<f64>() / part.len() as f64;
        table.row(vec![
            Cell::text(clock(part[0].time)),
            Cell::text(unit.show(values().fold(f64::INFINITY, f64::min))),
            Cell::text(unit.show(mean)),
            Cell::text(unit.show(most)),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_picture_and_a_table() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let span = (sample::at("2026-10-05T03:30:00Z"), sample::now());
        let got = draw(&sample::history(), 240, span, &zone);
        sample::golden("history", &got);
    }

    #[test]
    fn means_are_called_means() {
        let mut history = sample::history();
        history.samples = 1_000;
        let got = draw(
            &history,
            240,
            (sample::at("2026-10-05T05:00:00Z"), sample::now()),
            &TimeZone::UTC,
        );
        assert!(
            got.contains("\neach point is the mean of about 6 samples; all: --points N\n"),
            "{got}"
        );
    }

    #[test]
    fn summaries_say_what_they_are() {
        let mut history = sample::history();
        let span = (sample::at("2026-10-05T05:00:00Z"), sample::now());
        for (seconds, want) in [
            (300, "means of 5 minutes, "),
            (3_600, "hourly means, "),
            (93_600, "means of 26 hours, "),
        ] {
            history.resolution_seconds = seconds;
            let got = draw(&history, 240, span, &TimeZone::UTC);
            assert!(
                got.lines()
                    .nth(1)
                    .is_some_and(|line| line.starts_with(want)),
                "{got}"
            );
        }
    }

    #[test]
    fn a_peak_between_the_means_is_seen() {
        let mut history = sample::history();
        history.samples = 1_000;
        history.peaks = history.points.iter().map(|(_, value)| *value).collect();
        history.peaks[10] = Some(42.0);
        let span = (sample::at("2026-10-05T05:00:00Z"), sample::now());
        let got = draw(&history, 240, span, &TimeZone::UTC);
        assert!(
            got.contains("6 samples, picture and max show the highest; all"),
            "{got}"
        );
        assert!(got.contains("max            42  Mon 05:01:40\n"), "{got}");
        assert!(got.contains("\n42 ┤"), "{got}");
        let csv = points(&history).csv();
        assert!(csv.starts_with("time,value,max\n"), "{csv}");
        assert!(csv.contains("\n2026-10-05T05:01:40Z,0.1,42\n"), "{csv}");
    }

    #[test]
    fn times_of_weeks_have_a_date() {
        let mut history = sample::history();
        let hours = |i: usize| jiff::SignedDuration::from_hours(i64::try_from(i).unwrap());
        for (i, (time, value)) in history.points.iter_mut().enumerate() {
            *time = sample::at("2026-09-05T05:00:00Z") + hours(i);
            *value = Some(if i == 100 { 9.0 } else { 1.0 });
        }
        let span = (sample::at("2026-09-05T05:00:00Z"), sample::now());
        let got = draw(&history, 240, span, &TimeZone::UTC);
        assert!(
            got.contains("max             9  2026-09-09 09:00:00\n"),
            "{got}"
        );
        assert!(got.contains("\n2026-09-05 05:00"), "{got}");
    }

    #[test]
    fn the_server_is_asked_for_by_its_name() {
        let mut hosts = sample::hosts();
        hosts[0].name = "server01".to_owned();
        assert_eq!(measured(&hosts, "server"), Ok("server".to_owned()));
        let id = |i: usize| Ok(hosts[i].id.to_string());
        assert_eq!(measured(&hosts, "server0"), id(0));
        assert_eq!(measured(&hosts, "db02"), id(1));
        hosts[0].aliases = vec!["Server".to_owned()];
        assert_eq!(measured(&hosts, "server"), Ok(hosts[0].id.to_string()));
    }

    #[test]
    fn nothing_is_said_so() {
        let mut history = sample::history();
        history.points.clear();
        history.samples = 0;
        let span = (sample::at("2026-10-05T03:30:00Z"), sample::now());
        let want = "web01  node_load1  0 samples\nno samples from Mon 03:30 to Mon 05:30\n";
        assert_eq!(draw(&history, 240, span, &TimeZone::UTC), want);
        // What the disk lost is told from what was never there.
        history.damaged = 2;
        let got = draw(&history, 240, span, &TimeZone::UTC);
        assert!(
            got.contains("samples\n2 parts of this time cannot be read; the server's log"),
            "{got}"
        );
    }

    #[test]
    fn every_point_for_programs() {
        let csv = points(&sample::history()).csv();
        assert_eq!(csv.lines().count(), 181);
        assert!(
            csv.contains("\n2026-10-05T05:10:00Z,\n"),
            "a hole is an empty value"
        );
        assert!(csv.contains("\n2026-10-05T05:00:10Z,0.01\n"));
    }
}
