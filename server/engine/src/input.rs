//! What the engine is told. Each input is stamped, journalled and synced before the engine sees it.

use dawnwatch_proto::{HostId, Item, Schema, SchemaId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::{Config, HostFacts};
use crate::vitals::Vitals;

/// When, and where in the journal, an input was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    /// The server's wall clock: for calendars and for what people read.
    pub wall: Timestamp,
    /// The server's `CLOCK_BOOTTIME` in milliseconds, plus what earlier boots added: for holding times and absence.
    /// Never falls from one input to the next.
    pub boot_ms: u64,
    /// The input's position in the journal: counts up by one.
    pub position: u64,
}

/// The one enum in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Input {
    /// The configuration in force from here on.
    Config(Box<Config>),
    /// The server started.
    Started(Started),
    /// The server's wall clock jumped against `CLOCK_BOOTTIME`, by this many milliseconds.
    ClockStep {
        /// New minus old.
        by_ms: i64,
    },
    /// A host joined or its card changed.
    Host(HostCard),
    /// A schema that later rows of this host follow.
    Schema {
        /// The host.
        host: HostId,
        /// The series, in column order.
        schema: Schema,
    },
    /// Items of one host, in order; the journal has dropped what it held already.
    Batch(Batch),
    /// What is true now on a host whose backlog is still on its way.
    Heartbeat(Heartbeat),
    /// Time passed: every second or so.
    Tick,
    /// A person's act.
    Order(Order),
    /// What came of a notification.
    Delivered(Delivered),
    /// The server's own finding about itself: a configuration not taken up, a damaged frame.
    Server(Notice),
    /// A host that people named, whether it joined or not; a later one of the same name replaces it.
    Named(Box<Named>),
    /// What the server measured of itself.
    Vitals(Box<Vitals>),
    /// A copy of a host tried to speak for it, with the host's own key.
    Twice(Box<Twice>),
    /// The server went back to how it was before: what came in since is gone.
    Restored(Restored),
}

/// One identity used by two machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Twice {
    /// The host.
    pub host: HostId,
    /// Where the one that was there first speaks from.
    pub first: String,
    /// Where the one speaks from that came later, and is refused.
    pub second: String,
}

/// A host by name, as people named it: by an import, or by a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// What is known of it; its name is a name here, no glob. These facts hold over those of the configuration.
    pub facts: HostFacts,
    /// Where it answers, if that was said.
    pub address: Option<String>,
    /// Other labels.
    pub labels: Vec<(String, String)>,
    /// Since when it is to be watched: it counts as not watched until it joins. None: only its facts were given.
    pub expected: Option<Timestamp>,
    /// The name is taken back: nothing is known of it any more.
    pub gone: bool,
}

/// The server's start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Version of the server.
    pub version: String,
    /// Whether the last run stopped cleanly.
    pub clean: bool,
    /// When the last run was last known to be up; none at the first start.
    pub last_up: Option<Timestamp>,
}

/// A way back that the server went: its state is that of `until`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// When the last input came in that is still known.
    pub until: Timestamp,
    /// What was done, in words: `restored from a backup`, `rolled back to before an upgrade`.
    pub how: String,
}

/// What identity knows of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCard {
    /// Its id.
    pub id: HostId,
    /// The name it goes by.
    pub name: String,
    /// When it joined.
    pub joined: Timestamp,
    /// Labels of the token it joined with, such as `site`.
    pub labels: Vec<(String, String)>,
    /// It left for good: kept in history, out of coverage, never silent again.
    pub retired: bool,
    /// Names it went by before.
    pub aliases: Vec<String>,
    /// Hosts that it may be, set up anew: they have its machine id, or the name that it asked for.
    pub like: Vec<HostId>,
    /// It is that host: what it sends is that host's.
    pub merged: Option<HostId>,
    /// It was erased: its name is a pseudonym, and nothing of it is known any more. It is retired as well, for ever.
    pub erased: bool,
}

impl HostCard {
    /// A host of which no more is known than that it joined.
    #[must_use]
    pub fn new(id: HostId, name: impl Into<String>, joined: Timestamp) -> HostCard {
        HostCard {
            id,
            name: name.into(),
            joined,
            labels: Vec::new(),
            retired: false,
            aliases: Vec::new(),
            like: Vec::new(),
            merged: None,
            erased: false,
        }
    }
}

/// Items of one host with consecutive sequence numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The host, from its certificate.
    pub host: HostId,
    /// The spool epoch.
    pub epoch: u64,
    /// Sequence number of the first item.
    pub first_seq: u64,
    /// Ticks, events, gaps.
    pub items: Vec<Item>,
    /// The agent's clock minus the server's when the message came in, milliseconds; none for a backlog.
    pub offset_ms: Option<i64>,
}

/// What is true now on a host; never stored, never counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The host, from its certificate.
    pub host: HostId,
    /// The agent's clock minus the server's, milliseconds.
    pub offset_ms: i64,
    /// Items that the agent still holds.
    pub backlog: u64,
    /// Current values, if the agent sent them.
    pub row: Option<(SchemaId, Vec<i64>)>,
}

/// A person's act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Who.
    pub by: String,
    /// What.
    pub act: Act,
}

/// What a person can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// Takes an incident.
    Acknowledge {
        /// Its id, `I-318`.
        incident: String,
        /// A remark.
        note: String,
    },
    /// Something the shell did by itself, on files of its own: people, tokens, logins. It is only recorded.
    Noted {
        /// Id of the person it is about, or empty.
        about: String,
        /// What was done, in words that hold no name.
        what: String,
    },
    /// The evidence of a sealed night was written anew, without a host that was erased.
    Rewritten {
        /// `N-2026-10-05`.
        night: String,
        /// SHA-256 of its canonical JSON, as it is from here on.
        hash: String,
    },
}

/// What came of a notification. Only outcomes that end it, or a first failure, are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// The notification's stable key.
    pub key: String,
    /// What came of it.
    pub outcome: Outcome,
    /// What the far end said.
    pub answer: String,
}

/// What came of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The far end accepted it.
    Arrived,
    /// The far end refused it for good.
    Refused,
    /// It has been tried for five minutes without success and is still being tried.
    Struggling,
}

/// Something the server says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Stable subject, such as `config` or `journal`: a later notice of the same subject replaces it.
    pub subject: String,
    /// What and what to do; empty where it is over.
    pub text: String,
    /// Whether it needs somebody tonight.
    pub critical: bool,
}
