//! One night as one value. The engine makes it, `nights/` keeps it, page, mail and command draw it.

pub mod text;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::HostId;

/// The format of a sealed review; readers accept this level and the one before.
pub const FORMAT: u32 = 1;

/// What a night comes to. The order is that of the exit codes 0 to 3, not of badness: BLIND stands beside the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// Everything was watched and nothing needs anybody.
    Quiet,
    /// Something needs somebody today.
    Attention,
    /// Something cannot wait.
    Critical,
    /// Too little was watched to say.
    Blind,
}

/// How bad an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Needs somebody by day.
    Warning,
    /// Wakes somebody.
    Critical,
}

/// How much a host or service matters.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Importance {
    /// Nobody misses it over a weekend.
    Low,
    /// The usual.
    #[default]
    Normal,
    /// An unwatched quarter of an hour makes the night BLIND.
    High,
}

/// One night, sealed or so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Review {
    /// [`FORMAT`].
    pub format: u32,
    /// `N-2026-10-05`: the date on which it ends. With a shift calendar a letter follows: `N-2026-10-05b`.
    pub id: String,
    /// The unwatched span, half-open.
    pub start: Timestamp,
    /// End of the span: the opening of the next working hours.
    pub end: Timestamp,
    /// What the review covers so far: `end`, or the moment it was made or sealed if that came first.
    pub until: Timestamp,
    /// IANA name of the zone that times are shown in.
    pub zone: String,
    /// False while zone and hours are guesses that nobody confirmed.
    pub calendar_confirmed: bool,
    /// Working hours as the header shows them, such as `Mon-Fri 08:00-18:00`.
    pub hours: String,
    /// When it was sealed; none while it is still being written.
    pub sealed: Option<Timestamp>,
    /// Night n of the nights of learning, while learning.
    pub learning: Option<(u32, u32)>,
    /// What the night comes to.
    pub verdict: Verdict,
    /// BLIND as well as the verdict ("CRITICAL, and 9 hosts not watched").
    pub blind: bool,
    /// One sentence that a non-technical person understands.
    pub sentence: String,
    /// What was watched.
    pub coverage: Coverage,
    /// Critical and still open, worst first.
    pub critical: Vec<Row>,
    /// Needs somebody today.
    pub today: Vec<Row>,
    /// Healed by itself.
    pub healed: Vec<Row>,
    /// Incidents of severity info in the window: counted, not listed.
    #[serde(default)]
    pub folded: u32,
    /// What people or machines changed.
    pub changed: Vec<Change>,
    /// What is known of tonight and the coming days.
    pub tonight: Vec<String>,
    /// What was told to whom.
    pub messages: Messages,
    /// Findings, and how many of them were decided on.
    pub findings: u32,
    /// Findings that were signed off.
    pub signed_off: u32,
    /// Head of the ledger's hash chain at the moment of making, hex; empty in a review so far.
    #[serde(default)]
    pub ledger_head: String,
    /// Version of the time zone data that the times were reckoned with.
    pub tzdb: String,
}

/// How much of the night was truly watched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// Watched time over expected time, 0 to 1; 1 where nothing was expected.
    pub ratio: f64,
    /// Hosts in the denominator.
    pub hosts: u32,
    /// Time that was to be watched, all hosts together, in seconds.
    pub expected_seconds: u64,
    /// Time that was watched.
    pub watched_seconds: u64,
    /// Time that the server itself was up in the window.
    pub server_up_seconds: u64,
    /// Length of the window so far.
    pub window_seconds: u64,
    /// What was not watched, longest first.
    pub unwatched: Vec<Unwatched>,
    /// Samples that agents counted as dropped.
    pub ticks_dropped: u64,
    /// The server's first start, where that was within the window: before it nothing was expected.
    #[serde(default)]
    pub first_start: Option<Timestamp>,
    /// Hosts that joined within the window and count from then on.
    #[serde(default)]
    pub joined: u32,
    /// Jumps of the server's wall clock that touch the window: when, and by how many seconds. Time that was jumped over
    /// never was, and was not expected.
    #[serde(default)]
    pub jumps: Vec<(Timestamp, i64)>,
}

/// A host that was not watched for a while.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unwatched {
    /// The host.
    pub host: HostId,
    /// Its name.
    pub name: String,
    /// How long in all, seconds.
    pub seconds: u64,
    /// First moment that was not watched.
    pub from: Timestamp,
    /// Why, in words.
    pub reason: String,
    /// How much it matters.
    pub importance: Importance,
}

/// What a finding was before it became what it is called by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turned {
    /// Since when the words of `what` hold.
    pub at: Timestamp,
    /// What it was from its beginning on, such as `filling`.
    pub from: String,
}

/// A finding as it stands in a review.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// `I-318`, `F-077`, `J-021`, `L-052`.
    pub id: String,
    /// Host or link, as shown first.
    pub subject: String,
    /// What people call it, if a service is set.
    pub service: Option<String>,
    /// What happened: `volume /data full`, `off or hung`.
    pub what: String,
    /// How bad it got.
    pub severity: Severity,
    /// Since when.
    pub since: Timestamp,
    /// Where `what` began later than that: since when it holds, and what came first.
    #[serde(default)]
    pub turned: Option<Turned>,
    /// Until when, if it ended.
    pub until: Option<Timestamp>,
    /// Cause, or `cause unknown`.
    pub cause: String,
    /// Person responsible, if set.
    pub owner: Option<String>,
    /// Who took it, and when.
    pub taken: Option<(String, Timestamp)>,
    /// Lines of evidence below the row: values, bounds, other hosts hit.
    pub evidence: Vec<String>,
    /// Why it stands where it stands.
    pub rank: String,
    /// The rank as a number: higher first.
    pub score: u32,
    /// What it is at this moment, on a live view of a sealed review: `open`, `acknowledged`, `closed`.
    pub state: String,
}

/// Something that was changed during the night.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// In words, with who did it if known.
    pub text: String,
    /// What many hosts did alike, such as `joined`: many of one group share a line. Empty: stands alone.
    #[serde(default)]
    pub group: String,
}

/// What was told to whom.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Messages {
    /// Names of the channels that are configured.
    pub channels: Vec<String>,
    /// Messages that were to be sent.
    pub sent: u32,
    /// Messages that the channel's far end accepted.
    pub arrived: u32,
    /// Incidents told of that a person took.
    pub confirmed: u32,
    /// Messages that will never arrive: refused for good by the far end.
    pub lost: u32,
    /// Messages still being tried.
    pub pending: u32,
    /// Alerts of the night.
    pub events: u32,
}
