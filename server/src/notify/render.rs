//! What a message says: subject, one line for a lock screen, and a body. Pure, and made of nothing but what is known: a
//! line without content is left out. Text that others wrote (host names, mount points) comes out visible and inert.

mod incident;
#[cfg(test)]
pub(crate) mod samples;

use dawnwatch_engine::effect::{Content, Notification};
use dawnwatch_proto::api::LiveReview;
use dawnwatch_proto::review::{self, Review, Verdict};
use dawnwatch_proto::untrusted::term;

/// Longest short form, in characters: what a lock screen or a text message shows.
pub const SHORT_CHARS_MAX: usize = 160;

/// Longest subject, in characters: longer ones are cut by mail programs anyway.
pub const SUBJECT_CHARS_MAX: usize = 150;

/// Widest line of a body, in characters: what every mail program shows without breaking it.
pub const BODY_COLUMNS: usize = 72;

/// A message in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// One line; the first 40 characters carry host, service, state and time.
    pub subject: String,
    /// One line of at most [`SHORT_CHARS_MAX`] characters.
    pub short: String,
    /// Lines of at most [`BODY_COLUMNS`] characters.
    pub body: String,
}

/// Puts a notification into words.
#[must_use]
pub fn text(notification: &Notification) -> Text {
    match &notification.content {
        Content::Incident(content) => incident::text(notification, content),
        Content::Review(review) => review_text(review),
        Content::Test => test_text(notification),
    }
}

fn review_text(review: &Review) -> Text {
    let mut verdict = verdict_word(review.verdict).to_owned();
    if review.blind && review.verdict != Verdict::Blind {
        verdict.push_str(", BLIND");
    }
    let subject = format!("Night {}: {verdict} - {}", review.id, review.sentence);
    let subject = one_line(&subject, SUBJECT_CHARS_MAX);
    Text {
        short: clip(&subject, SHORT_CHARS_MAX),
        subject,
        body: review_body(review),
    }
}

/// As on the first screen, for mail. A notification is decided in the step that seals: nothing happened since.
fn review_body(review: &Review) -> String {
    let at = review.sealed.unwrap_or(review.until);
    let live = LiveReview {
        at,
        review: review.clone(),
        since: Vec::new(),
    };
    review::text::review(&live, &review::text::Text::mail())
}

fn test_text(notification: &Notification) -> Text {
    let channel = term(&notification.channel);
    let subject = format!("dawnwatch test: channel {channel} works");
    let body = format!(
        "{}\n{}",
        wrap(
            "",
            &format!("This is a test of channel {channel}. Nothing is wrong.")
        ),
        wrap("", &format!("Asked for at {}.", notification.decided)),
    );
    Text {
        short: one_line(&subject, SHORT_CHARS_MAX),
        subject: one_line(&subject, SUBJECT_CHARS_MAX),
        body,
    }
}

/// A verdict as it is shown.
#[must_use]
pub(crate) fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Quiet => "QUIET",
        Verdict::Attention => "ATTENTION",
        Verdict::Critical => "CRITICAL",
        Verdict::Blind => "BLIND",
    }
}

/// One inert line of bounded length.
fn one_line(text: &str, chars_max: usize) -> String {
    clip(&term(text), chars_max)
}

/// At most so many characters; what was cut shows as an ellipsis.
#[must_use]
pub(crate) fn clip(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    out.truncate(out.trim_end().len());
    out.push('…');
    out
}

/// A paragraph with a word in its margin, broken at blanks into lines of at most [`BODY_COLUMNS`]; a longer word is
/// broken too. Ends with a line feed.
fn wrap(margin: &str, text: &str) -> String {
    /// Room for the longest word in the margin and a blank.
    const MARGIN: usize = 9;
    let indent = if margin.is_empty() { 0 } else { MARGIN };
    let width = BODY_COLUMNS - indent;
    let mut lines: Vec<String> = vec![String::new()];
    let mut used = 0;
    for word in term(text).split_whitespace() {
        let mut rest: Vec<char> = word.chars().collect();
        let blank = usize::from(used > 0);
        if used + blank + rest.len() > width && used > 0 {
            lines.push(String::new());
            used = 0;
        }
        while rest.len() > width {
            let tail = rest.split_off(width);
            push(&mut lines, &rest);
            lines.push(String::new());
            rest = tail;
        }
        if used > 0 {
            push(&mut lines, &[' ']);
            used += 1;
        }
        push(&mut lines, &rest);
        used += rest.len();
    }
    let mut out = String::new();
    for (i, line) in lines.iter().enumerate() {
        let head = if i == 0 { margin } else { "" };
        let full = format!("{head:indent$}{line}");
        out.push_str(full.trim_end());
        out.push('\n');
    }
    out
}

fn push(lines: &mut [String], chars: &[char]) {
    if let Some(line) = lines.last_mut() {
        line.extend(chars);
    }
}

#[cfg(test)]
mod tests;
