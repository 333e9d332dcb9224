//! `dawnwatch net`: who reaches whom, how fast, and what gets lost.

use dawnwatch_proto::api::Link;
use jiff::Timestamp;

use crate::draw;
use crate::fail::Fail;
use crate::session::{Answer, Session};
use crate::table::{Cell, Paint, Side, Table};

/// Steps of a sparkline, lowest first.
const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Where nothing answered.
const NO_ANSWER: char = 'x';

/// Ticks that are drawn: two and a half minutes.
const DRAWN_MAX: usize = 15;

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only what this host pings, or what pings it
    pub(crate) host: Option<String>,
    /// Only what does not answer well
    #[arg(long)]
    pub(crate) bad: bool,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Answer, Fail> {
    let document = session.server.get("net", &[])?;
    session.table(&document, || {
        let mut links = document.read::<Vec<Link>>()?;
        if let Some(host) = &args.host {
            links.retain(|link| link.from == *host || link.to == *host);
        }
        if args.bad {
            links.retain(|link| link.state != "up");
        }
        Ok(table(&links, session.now()?.at))
    })
}

fn table(links: &[Link], now: Timestamp) -> Table {
    let head = [
        ("from", Side::Left),
        ("to", Side::Left),
        ("role", Side::Left),
        ("state", Side::Left),
        ("since", Side::Right),
        ("rtt", Side::Right),
        ("max", Side::Right),
        ("jitter", Side::Right),
        ("lost", Side::Right),
        ("trend", Side::Left),
        ("method", Side::Left),
    ];
    let none = "no pings: agents send them from their first minute on, unless ping = false stands in their configuration";
    let mut table = Table::new(&head, none);
    for link in links {
        let (avg, max) = match link.rtt_seconds {
            Some((_, avg, max)) => (milliseconds(Some(avg)), milliseconds(Some(max))),
            None => (Cell::none(), Cell::none()),
        };
        let since = draw::duration(draw::seconds_between(link.since, now));
        let lost = Cell::new(
            format!("{} of {}", link.lost, link.sent),
            link.lost.to_string(),
        );
        table.row(vec![
            Cell::text(link.from.as_str()),
            Cell::text(link.to.as_str()),
            Cell::text(link.role.word()),
            Cell::text(link.state.as_str()).paint(paint(&link.state)),
            Cell::new(since, link.since.to_string()),
            avg,
            max,
            milliseconds(link.jitter_seconds),
            lost,
            Cell::new(trend(&link.recent), ""),
            Cell::text(link.method.as_str()),
        ]);
    }
    table
}

fn milliseconds(seconds: Option<f64>) -> Cell {
    seconds.map_or(Cell::none(), |seconds| {
        Cell::new(format!("{:.1} ms", seconds * 1_000.0), seconds.to_string())
    })
}

/// The latest round trips as a sparkline from zero to the longest, so that a steady way is a flat line.
fn trend(recent: &[Option<f64>]) -> String {
    let drawn = &recent[recent.len().saturating_sub(DRAWN_MAX)..];
    let most = drawn.iter().flatten().copied().fold(0.0, f64::max);
    let step = |value: f64| {
        if most <= 0.0 {
            return STEPS[0];
        }
        let share = (value / most).clamp(0.0, 1.0);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of seven steps"
        )]
        let index = (share * 7.0) as usize;
        STEPS[index.min(STEPS.len() - 1)]
    };
    drawn
        .iter()
        .map(|value| value.map_or(NO_ANSWER, step))
        .collect()
}

fn paint(state: &str) -> Paint {
    match state {
        "up" => Paint::Good,
        "down" | "lossy" => Paint::Bad,
        _ => Paint::Dim,
    }
}

#[cfg(test)]
mod tests {
    use dawnwatch_proto::HostId;
    use dawnwatch_proto::probe::Role;
    use jiff::SignedDuration;

    use super::*;
    use crate::sample;

    fn link(to: &str, role: Role, state: &str) -> Link {
        let down = state == "down";
        Link {
            host: HostId(1),
            from: "web01".to_owned(),
            to: to.to_owned(),
            role,
            state: state.to_owned(),
            since: sample::now() - SignedDuration::from_mins(3),
            method: "ICMP, datagram socket".to_owned(),
            rtt_seconds: (!down).then_some((0.0003, 0.000_41, 0.0012)),
            jitter_seconds: (!down).then_some(0.000_1),
            sent: 60,
            lost: if down { 60 } else { 0 },
            recent: if down {
                vec![Some(0.0004), Some(0.0008), None, None]
            } else {
                vec![Some(0.0004); 40]
            },
            seen: sample::now(),
        }
    }

    #[test]
    fn a_list() {
        let links = [
            link("10.0.0.1", Role::Gateway, "up"),
            link("web02", Role::Mesh, "down"),
        ];
        let table = table(&links, sample::now());
        sample::golden("net", &table.text(false));
        assert!(
            table.csv().contains("web01,10.0.0.1,gateway,up,"),
            "{}",
            table.csv()
        );
    }

    #[test]
    fn trends() {
        for (recent, want) in [
            (vec![], ""),
            (vec![Some(0.0), Some(0.0)], "▁▁"),
            (vec![Some(0.001), Some(0.0005), None], "█▄x"),
            (vec![Some(f64::NAN), Some(1.0)], "▁█"),
        ] {
            assert_eq!(trend(&recent), want, "{recent:?}");
        }
    }
}
