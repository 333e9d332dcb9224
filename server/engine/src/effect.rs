//! What the server must do after a step, in order. Effects of one step make one ledger frame, synced before any leaves.

use dawnwatch_proto::HostId;
use dawnwatch_proto::review::{Review, Severity};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::input::Outcome;

/// What [`Entry::Host`] says where a host was erased: the name beside it is its pseudonym.
pub const ERASED: &str = "erased";

/// The one list out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    /// Write to the ledger.
    Record(Entry),
    /// Send; the whole entry goes into the ledger frame, which is the durable outbox.
    Notify(Notification),
    /// Write the sealed review to `nights/`.
    SealNight(Box<Review>),
}

/// What the ledger keeps for ever. Only add variants at the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Entry {
    /// An alert changed state.
    Alert {
        /// Its incident.
        incident: String,
        /// The rule that found it.
        rule: String,
        /// The host.
        host: HostId,
        /// The series, or empty.
        series: String,
        /// `pending`, `firing`, `resolved`.
        state: String,
        /// How bad.
        severity: Severity,
        /// When the change happened, in the time of the samples.
        at: Timestamp,
        /// Value seen.
        observed: f64,
        /// Why, in words.
        why: String,
    },
    /// An incident changed state.
    Incident {
        /// Its id.
        id: String,
        /// The host.
        host: HostId,
        /// `open`, `acknowledged`, `closed`.
        state: String,
        /// How bad it got.
        severity: Severity,
        /// When.
        at: Timestamp,
        /// Who did it, where a person did.
        by: String,
        /// What happened, in words.
        what: String,
    },
    /// What came of a notification.
    Delivered {
        /// The notification's key.
        key: String,
        /// What came of it.
        outcome: Outcome,
        /// What the far end said.
        answer: String,
    },
    /// A host joined, was renamed or retired.
    Host {
        /// The host.
        id: HostId,
        /// Its name.
        name: String,
        /// What happened.
        what: String,
    },
    /// The server started, stopped, jumped in time, took up rules.
    Server {
        /// What happened.
        what: String,
    },
    /// A night was sealed.
    Sealed {
        /// `N-2026-10-05`.
        night: String,
        /// SHA-256 of its canonical JSON, filled in by the server.
        hash: String,
    },
    /// Somebody did something that changes who may do what, or tried to.
    Person {
        /// Who, by id; `root` on the server's own machine, `server` for the server itself.
        by: String,
        /// Whom it is about, by id, or empty.
        about: String,
        /// What was done.
        what: String,
    },
    /// What a sealed night keeps of its findings was written; the server adds it to the frame that seals the night. A later one
    /// of the same night holds from there on: a host was erased from it.
    Evidence {
        /// `N-2026-10-05`.
        night: String,
        /// SHA-256 of its canonical JSON.
        hash: String,
    },
}

/// A message to one channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// Stable over restarts and retries: incident, revision, channel. Receivers may drop repeats by it.
    pub key: String,
    /// Name of the channel.
    pub channel: String,
    /// Incident told of; empty for a sealed review.
    pub incident: String,
    /// Why we speak.
    pub reason: Reason,
    /// When it was decided.
    pub decided: Timestamp,
    /// What the message says.
    pub content: Content,
}

/// Why we speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// An incident opened.
    Opened,
    /// It got worse: higher severity, or something else is hit.
    Worse,
    /// It is over.
    Closed,
    /// Nobody took it yet.
    Reminder,
    /// A review was sealed.
    Review,
    /// Somebody asked for a test.
    Test,
}

/// What a message says, before a channel gives it its form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Content {
    /// About an incident, as it stood when the message was decided.
    Incident(Box<IncidentContent>),
    /// A sealed review.
    Review(Box<Review>),
    /// A test of the channel.
    Test,
}

/// An incident as a message tells it (the message at 03:12 of PRODUCT.md).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IncidentContent {
    /// The incident as it stood.
    pub incident: dawnwatch_proto::api::Incident,
    /// Zone to show times in.
    pub zone: String,
    /// Hosts that are fine, and hosts in all.
    pub fine: (u32, u32),
    /// Last known values of the host, such as `CPU 12 %`, and when.
    pub last: Option<(Timestamp, String)>,
    /// What changed on the host in the last 24 hours.
    pub changed: Vec<String>,
    /// Earlier incidents of this host by the same rule: date and id.
    pub before: Vec<String>,
    /// Who else was told by this step, by channel name.
    pub told: Vec<String>,
}
