//! A moment in a page: said as people say it, exact for machines and on demand.

use askama::Template;
use askama::filters::HtmlSafe;
use dawnwatch_proto::review::text::when;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// `<time datetime="...">Sun 03:12</time>`.
#[derive(Debug, Clone, PartialEq, Eq, Template)]
#[template(path = "time.html")]
pub(crate) struct Moment {
    iso: String,
    full: String,
    text: String,
}

impl HtmlSafe for Moment {}

impl Moment {
    /// As it is said at `now`.
    pub(crate) fn new(at: Timestamp, zone: &TimeZone, now: Timestamp) -> Moment {
        Moment::said(at, zone, when(at, zone, now))
    }

    /// With seconds, date and zone in full.
    pub(crate) fn exact(at: Timestamp, zone: &TimeZone) -> Moment {
        let text = at
            .to_zoned(zone.clone())
            .strftime("%a %-d %b %Y %H:%M:%S")
            .to_string();
        Moment::said(at, zone, text)
    }

    /// The time of day, to the second.
    pub(crate) fn clock(at: Timestamp, zone: &TimeZone) -> Moment {
        let text = at.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string();
        Moment::said(at, zone, text)
    }

    fn said(at: Timestamp, zone: &TimeZone, text: String) -> Moment {
        let local = at.to_zoned(zone.clone());
        Moment {
            iso: at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            full: local.strftime("%a %-d %b %Y %H:%M:%S %Z").to_string(),
            text,
        }
    }
}

impl Moment {
    /// What is said.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}
