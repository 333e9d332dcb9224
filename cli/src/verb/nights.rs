//! `dawnwatch nights`: the sealed nights.

use dawnwatch_proto::api::NightHead;
use dawnwatch_proto::review::Verdict;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::draw;
use crate::fail::Fail;
use crate::session::{Answer, Session};
use crate::table::{Cell, Paint, Side, Table};

pub(crate) fn run(session: &Session) -> Result<Answer, Fail> {
    let document = session.server.get("nights", &[])?;
    session.table(&document, || {
        let (nights, now) = (document.read::<Vec<NightHead>>()?, session.now()?);
        Ok(table(&nights, now.at, &session.zone(&now.zone)))
    })
}

/// Nights as rows, latest first; the server has them in the order of time.
fn table(nights: &[NightHead], now: Timestamp, zone: &TimeZone) -> Table {
    let head = [
        ("id", Side::Left),
        ("start", Side::Left),
        ("end", Side::Left),
        ("verdict", Side::Left),
        ("sentence", Side::Left),
    ];
    let none = "no night is sealed yet; so far: dawnwatch review so-far";
    let mut table = Table::new(&head, none);
    let when = |at: Timestamp| Cell::new(draw::when(at, zone, now), at.to_string());
    for night in nights.iter().rev() {
        let (verdict, paint) = match night.verdict {
            Verdict::Quiet => ("QUIET", Paint::Good),
            Verdict::Attention => ("ATTENTION", Paint::Warn),
            Verdict::Critical => ("CRITICAL", Paint::Bad),
            Verdict::Blind => ("BLIND", Paint::Bad),
        };
        table.row(vec![
            Cell::text(night.id.as_str()),
            when(night.start),
            when(night.end),
            Cell::text(verdict).paint(paint),
            Cell::text(night.sentence.as_str()),
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
        let night = NightHead {
            id: "N-2026-10-05".to_owned(),
            start: sample::at("2026-10-02T16:00:00Z"),
            end: sample::at("2026-10-05T06:00:00Z"),
            sealed: sample::at("2026-10-05T05:00:00Z"),
            verdict: Verdict::Quiet,
            sentence: "Nothing needs you.".to_owned(),
        };
        let before = NightHead {
            id: "N-2026-10-02".to_owned(),
            ..night.clone()
        };
        let csv = table(&[before, night], sample::now(), &TimeZone::UTC).csv();
        let want = "id,start,end,verdict,sentence\n\
                    N-2026-10-05,2026-10-02T16:00:00Z,2026-10-05T06:00:00Z,QUIET,Nothing needs you.\n\
                    N-2026-10-02,2026-10-02T16:00:00Z,2026-10-05T06:00:00Z,QUIET,Nothing needs you.\n";
        assert_eq!(csv, want);
    }
}
