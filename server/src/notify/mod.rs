//! The way out: one queue and one plain thread for each channel, so that a hanging receiver holds up nobody else.
//!
//! - [`Outbox`]: takes notifications, sends them at least once, tells what came of each. Its durable part is the ledger:
//!   at start everything that has no outcome there is sent again, with the same key.
//! - `queue`: what is sent next, and when; pure, time is an argument. `retry`: back-off and token bucket, pure too.
//! - [`webhook`], [`email`]: the channels, each a [`Notifier`]. A further channel is its file, a variant of
//!   [`ChannelKind`] and a line in [`ChannelSettings::notifier`].
//! - [`render`]: what a message says, before a channel gives it its form; pure. `trust`: whose certificates are believed;
//!   `address`: where a far end is, also while the resolver is not there.
//!
//! Caveat: a storm of incidents is slowed down by the token bucket, not gathered into one message.

mod address;
pub mod email;
mod outbox;
mod queue;
#[cfg(test)]
mod receiver;
pub mod render;
mod retry;
mod trust;
pub mod webhook;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dawnwatch_engine::effect::Notification;
use dawnwatch_proto::untrusted;
use jiff::Timestamp;

pub use email::{EmailSettings, Tls};
pub use outbox::Outbox;
pub use webhook::WebhookSettings;

/// Longest answer of a far end that is kept, in characters: enough to see what it says, not enough to fill a ledger.
pub const ANSWER_CHARS_MAX: usize = 200;

/// A moment on both clocks of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Wall clock: for stamps that a far end reads.
    pub wall: Timestamp,
    /// `CLOCK_BOOTTIME` in milliseconds: for waiting.
    pub boot_ms: u64,
}

/// Tells what time it is.
pub type Clock = Arc<dyn Fn() -> Now + Send + Sync>;

/// One way of sending.
pub trait Notifier: Send {
    /// Sends one notification and waits for the far end's word; returns what it said. Blocking, bounded in time.
    ///
    /// # Errors
    /// [`Failure::Transient`] where trying again may help, [`Failure::Permanent`] where it cannot.
    fn deliver(&mut self, notification: &Notification, now: Now) -> Result<String, Failure>;
}

/// Why a notification did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Trying again may help.
    #[error("{why}")]
    Transient {
        /// What happened, in words.
        why: String,
        /// When to try again.
        again: Again,
    },
    /// The far end refuses it for good.
    #[error("{why}")]
    Permanent {
        /// What happened and what to do, in words.
        why: String,
    },
}

impl Failure {
    /// A failure that ordinary back-off deals with.
    #[must_use]
    pub fn transient(why: impl Into<String>) -> Failure {
        Failure::Transient {
            why: why.into(),
            again: Again::Backoff,
        }
    }

    /// A failure that no repetition mends.
    #[must_use]
    pub fn permanent(why: impl Into<String>) -> Failure {
        Failure::Permanent { why: why.into() }
    }
}

/// When to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Soon, then ever more seldom.
    Backoff,
    /// At the pace of a mail server that greylists: 1, 5, 15, 30 minutes.
    Greylist,
    /// The far end said when; until then nothing else is sent to it either.
    After(Duration),
}

/// A channel, as the configuration sets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelSettings {
    /// Its name; unique.
    pub name: String,
    /// How it sends.
    pub kind: ChannelKind,
}

/// How a channel sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelKind {
    /// JSON by HTTP POST.
    Webhook(WebhookSettings),
    /// Mail by SMTP.
    Email(EmailSettings),
}

impl ChannelSettings {
    /// Makes the channel's sender.
    #[must_use]
    pub fn notifier(&self) -> Box<dyn Notifier> {
        match &self.kind {
            ChannelKind::Webhook(settings) => Box::new(webhook::Webhook::new(settings.clone())),
            ChannelKind::Email(settings) => Box::new(email::Email::new(settings.clone())),
        }
    }
}

/// Text that never reaches a log, a page or a debug print.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// Shows it, for sending only.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// A far end's words as they are kept: on one line, inert, at most [`ANSWER_CHARS_MAX`] characters.
fn answer(text: &str) -> String {
    // Escaping lengthens: what is cut before it bounds the work, what is cut after it bounds the result.
    let start: String = text.trim().chars().take(ANSWER_CHARS_MAX).collect();
    render::clip(&untrusted::term(&start), ANSWER_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_short_and_inert() {
        assert_eq!(answer(" ok\r\n"), "ok");
        assert_eq!(answer("a\x1b[2Jb\nc"), r"a\u{1b}[2Jb\u{a}c");
        assert_eq!(
            answer(&"\0".repeat(9_999)).chars().count(),
            ANSWER_CHARS_MAX
        );
    }

    #[test]
    fn secrets_are_not_printed() {
        let settings = WebhookSettings {
            url: Secret::new("https://chat.example/hooks/T0P"),
            secret: Some(Secret::new("hush")),
            ca_file: None,
        };
        let text = format!("{settings:?}");
        assert!(!text.contains("T0P") && !text.contains("hush"), "{text}");
    }
}
