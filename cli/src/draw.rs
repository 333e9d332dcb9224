//! Drawing with the words of the review: what page, mail and command have in common comes from `dawnwatch_proto`.

use dawnwatch_proto::api::{Incident, LiveReview, Now};
use dawnwatch_proto::review::Severity;
use dawnwatch_proto::review::text::{self, Section, Text};
use jiff::Timestamp;

use crate::session::Session;

pub(crate) use dawnwatch_proto::review::text::{duration, when};

/// The review of a night, or one of its blocks whole.
pub(crate) fn review(
    live: &LiveReview,
    full: Option<Section>,
    color: bool,
    session: &Session,
) -> String {
    let options = Text {
        full,
        ..options(color, session)
    };
    text::review(live, &options)
}

/// What is open now.
pub(crate) fn now(now: &Now, color: bool, session: &Session) -> String {
    text::now(now, &options(color, session))
}

/// All about an incident.
pub(crate) fn incident(incident: &Incident, now: &Now, color: bool, session: &Session) -> String {
    text::incident(incident, &now.zone, now.at, &options(color, session))
}

/// Why an incident is one.
pub(crate) fn why(incident: &Incident, now: &Now, color: bool, session: &Session) -> String {
    text::why(incident, &now.zone, now.at, &options(color, session))
}

fn options(color: bool, session: &Session) -> Text {
    Text {
        color,
        zone: session.asked_zone(),
        ..Text::screen()
    }
}

/// Where times lie further apart, a day of the week is no longer one day.
const WEEKDAY_DAYS_MAX: i64 = 6;

/// How times between these two are shown, so that each is one time.
pub(crate) fn clock_format(first: Timestamp, last: Timestamp) -> &'static str {
    if last.duration_since(first).as_hours() < 24 * WEEKDAY_DAYS_MAX {
        "%a %H:%M:%S"
    } else {
        "%Y-%m-%d %H:%M:%S"
    }
}

/// `1 host`, `9 hosts`.
pub(crate) fn count(n: u32, what: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{n} {what}{s}")
}

/// Whole seconds from one time to another, zero where they are out of order.
pub(crate) fn seconds_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_secs()).unwrap_or(0)
}

/// The word for a severity.
pub(crate) fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}
