//! The words of the first screen in pieces, for whoever lays them out otherwise. Same words, same order, nothing cut.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::head::NO_CHANNEL;
use super::page::Page;
use super::{Text, holder, span, subject, verdict};
use crate::api::LiveReview;
use crate::review::{Row, Severity};
use crate::untrusted::term;

/// What the head and the tail of a review say. Every text is safe to print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phrases {
    /// `Fri 2 Oct 18:00 -> Mon 5 Oct 08:00 CEST, 62 h, sealed 07:00`.
    pub window: String,
    /// `CRITICAL`.
    pub verdict: &'static str,
    /// `and 9 hosts not watched`, where the night is blind as well.
    pub and_blind: Option<String>,
    /// The sentence for people who are no technicians.
    pub sentence: String,
    /// Where no channel is configured: that, and what to do.
    pub no_channel: Option<&'static str>,
    /// Learning, a guessed calendar.
    pub notes: Vec<String>,
    /// `98.7 % of 42 hosts`.
    pub watched: String,
    /// Each host that was not watched: `web04 5 h 20 m (monitoring lost)`, longest first.
    pub unwatched: Vec<String>,
    /// `Server up all 62 h.`, and dropped samples.
    pub server_up: String,
    /// `SINCE 07:00` of a sealed review, and each thing that is new since then.
    pub since: Option<(String, Vec<String>)>,
    /// What was changed, alike things in one piece.
    pub changed_folded: Vec<String>,
    /// What was changed, one by one.
    pub changed: Vec<String>,
    /// What is known of tonight.
    pub tonight: Vec<String>,
    /// What was told to whom.
    pub messages: String,
    /// `0 of 5`.
    pub signed: String,
}

/// The pieces of a review.
#[must_use]
pub fn phrases(live: &LiveReview) -> Phrases {
    let options = Text::screen();
    let review = &live.review;
    let page = Page {
        live,
        review,
        options: &options,
        zone: options.zone_of(&review.zone),
    };
    let since = review.sealed.map(|sealed| {
        let each = live.since.iter().map(|text| term(text));
        (page.since_label(sealed), each.collect())
    });
    let mut server_up = page.server_up();
    if review.coverage.ticks_dropped > 0 {
        server_up.push_str(&format!(
            " Agents dropped {} samples.",
            review.coverage.ticks_dropped
        ));
    }
    Phrases {
        window: page.window_text(),
        verdict: verdict(review.verdict).0,
        and_blind: page.and_blind(),
        sentence: term(&review.sentence),
        no_channel: review.messages.channels.is_empty().then_some(NO_CHANNEL),
        notes: page.notes(),
        watched: page.watched_share(),
        unwatched: page.unwatched(),
        server_up,
        since,
        changed_folded: page.changed_folded(),
        changed: page.changed(),
        tonight: review.tonight.iter().map(|text| term(text)).collect(),
        messages: page.messages(),
        signed: page.signed(),
    }
}

/// What a row says. Every text is safe to print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowPhrases {
    /// `I-318`.
    pub id: String,
    /// `db02 (billing)`.
    pub subject: String,
    /// What happened.
    pub what: String,
    /// `since Sun 03:12, 27 h 48 m`.
    pub span: String,
    /// Cause, or that it is unknown; empty where `what` says it already.
    pub cause: String,
    /// Who has it, or nobody.
    pub holder: String,
    /// Lines of evidence.
    pub evidence: Vec<String>,
    /// Why it stands where it stands.
    pub rank: String,
}

/// The pieces of a row of a review that reaches to `until`.
#[must_use]
pub fn row_phrases(row: &Row, until: Timestamp, zone: &TimeZone) -> RowPhrases {
    let (mut span, _) = span(row, until, zone, usize::MAX);
    if row.until.is_none() && row.state == "closed" {
        span.push_str(", closed since");
    }
    if row.until.is_some() && row.severity == Severity::Critical {
        span.push_str(", was critical");
    }
    let (what, cause) = (term(&row.what), term(&row.cause));
    RowPhrases {
        id: term(&row.id),
        subject: subject(&row.subject, row.service.as_deref()),
        span,
        cause: if what.contains(&cause) {
            String::new()
        } else {
            cause
        },
        what,
        holder: holder(row.owner.as_deref(), row.taken.as_ref(), zone, until),
        evidence: row.evidence.iter().map(|line| term(line)).collect(),
        rank: term(&row.rank),
    }
}
