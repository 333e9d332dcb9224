//! `dawnwatch review`: the record of a night.

use dawnwatch_proto::api::LiveReview;
use dawnwatch_proto::review::text::Section;
use dawnwatch_proto::review::{Row, Verdict};

use crate::draw;
use crate::fail::Fail;
use crate::moment::is_night;
use crate::session::{Answer, Session};
use crate::table::{Cell, Paint, Side, Table};

/// Which night, and how much of it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which night: an id such as N-2026-10-05 or its date, -1 for the one before, so-far
    #[arg(value_name = "NIGHT", allow_hyphen_values = true)]
    which: Option<String>,
    /// Which night, as above
    #[arg(
        long,
        value_name = "NIGHT",
        allow_hyphen_values = true,
        conflicts_with = "which"
    )]
    night: Option<String>,
    /// Shows all that was not watched
    #[arg(long, group = "block")]
    watched: bool,
    /// Shows every row of what is critical and open
    #[arg(long, group = "block")]
    critical: bool,
    /// Shows every row of what needs somebody today
    #[arg(long, group = "block")]
    today: bool,
    /// Shows every row of what healed by itself
    #[arg(long, group = "block")]
    healed: bool,
    /// Shows every change
    #[arg(long, group = "block")]
    changed: bool,
    /// Shows all that is known of tonight and the coming days
    #[arg(long, group = "block")]
    tonight: bool,
    /// Ends with the verdict: 0 quiet, 1 attention, 2 critical, 3 blind
    #[arg(long)]
    exit_code: bool,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Answer, Fail> {
    let wanted = args.which.as_deref().or(args.night.as_deref());
    let night = wanted.map(night).transpose()?;
    let query: Vec<(&str, &str)> = night
        .iter()
        .map(|night| ("night", night.as_str()))
        .collect();
    let document = session.server.get("review", &query)?;
    let live = document.read::<LiveReview>()?;
    let block = block(args);
    let mut answer = session.drawing(
        &document,
        |color| Ok(draw::review(&live, block, color, session)),
        || Ok(table(&live)),
    )?;
    if args.exit_code {
        answer.code = exit_code(live.review.verdict);
    }
    Ok(answer)
}

fn block(args: &Args) -> Option<Section> {
    let asked = [
        (args.watched, Section::Watched),
        (args.critical, Section::Critical),
        (args.today, Section::Today),
        (args.healed, Section::Healed),
        (args.changed, Section::Changed),
        (args.tonight, Section::Tonight),
    ];
    asked
        .into_iter()
        .find(|(asked, _)| *asked)
        .map(|(_, block)| block)
}

/// The night as the server understands it.
pub(crate) fn night(text: &str) -> Result<String, Fail> {
    let back = text
        .strip_prefix('-')
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    if text == "so-far" || back {
        return Ok(text.to_owned());
    }
    if is_night(text) {
        return Ok(format!("N{}", text[1..].to_ascii_lowercase()));
    }
    let dated = format!("N-{text}");
    if is_night(&dated) {
        return Ok(dated.to_ascii_lowercase().replacen('n', "N", 1));
    }
    Err(Fail::usage(format!(
        "{text:?} is no night: write an id such as N-2026-10-05, its date, -1 for the one before, or so-far"
    )))
}

/// The exit code of a verdict.
pub(crate) fn exit_code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Quiet => 0,
        Verdict::Attention => 1,
        Verdict::Critical => 2,
        Verdict::Blind => 3,
    }
}

/// The findings as rows for programs.
pub(crate) fn table(live: &LiveReview) -> Table {
    let head = [
        ("night", Side::Left),
        ("block", Side::Left),
        ("id", Side::Left),
        ("severity", Side::Left),
        ("state", Side::Left),
        ("host", Side::Left),
        ("service", Side::Left),
        ("what", Side::Left),
        ("since", Side::Left),
        ("until", Side::Left),
        ("owner", Side::Left),
        ("taken_by", Side::Left),
        ("cause", Side::Left),
    ];
    let mut table = Table::new(&head, "no findings");
    let review = &live.review;
    let blocks = [
        ("critical", &review.critical),
        ("today", &review.today),
        ("healed", &review.healed),
    ];
    for (block, rows) in blocks {
        for row in rows {
            table.row(cells(&review.id, block, row));
        }
    }
    table
}

fn cells(night: &str, block: &str, row: &Row) -> Vec<Cell> {
    let text = |text: &Option<String>| Cell::text(text.clone().unwrap_or_default());
    vec![
        Cell::text(night),
        Cell::text(block),
        Cell::text(row.id.as_str()),
        Cell::text(draw::severity(row.severity)).paint(Paint::of(row.severity)),
        Cell::text(row.state.as_str()),
        Cell::text(row.subject.as_str()),
        text(&row.service),
        Cell::text(row.what.as_str()),
        Cell::text(row.since.to_string()),
        Cell::text(row.until.map(|until| until.to_string()).unwrap_or_default()),
        text(&row.owner),
        text(&row.taken.as_ref().map(|(by, _)| by.clone())),
        Cell::text(row.cause.as_str()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nights() {
        for (text, want) in [
            ("so-far", Some("so-far")),
            ("-1", Some("-1")),
            ("-12", Some("-12")),
            ("n-2026-10-05", Some("N-2026-10-05")),
            ("2026-10-05", Some("N-2026-10-05")),
            ("2026-10-05B", Some("N-2026-10-05b")),
            ("-", None),
            ("-x", None),
            ("last", None),
            ("2026-13-05", None),
        ] {
            assert_eq!(night(text).ok().as_deref(), want, "{text}");
        }
    }

    #[test]
    fn a_verdict_is_an_exit_code() {
        let verdicts = [
            Verdict::Quiet,
            Verdict::Attention,
            Verdict::Critical,
            Verdict::Blind,
        ];
        assert_eq!(verdicts.map(exit_code), [0, 1, 2, 3]);
    }
}
