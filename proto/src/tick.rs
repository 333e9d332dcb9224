//! What an agent's spool holds, in order: ticks, events, and the gaps where something had to go.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::series::SchemaId;

/// The raw value of a column that could not be read at this instant.
pub const MISSING: i64 = i64::MIN;

/// One instant of one host: a row of raw integers that follows a schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// When it was read, by the agent's clock.
    pub time: Timestamp,
    /// The schema that the row follows.
    pub schema: SchemaId,
    /// One raw integer a series, [`MISSING`] where it could not be read.
    pub row: Vec<i64>,
}

/// Why numbers are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// The spool reached its size bound during a long outage.
    SpoolFull,
    /// The agent's disk gave back something else than was written.
    SpoolDamaged,
    /// The agent's disk took no more.
    DiskFull,
    /// The spool reached its age bound during a long outage.
    TooOld,
    /// A reason that this build does not know.
    Other,
}

/// A counted hole in an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// First sequence number that is gone.
    pub from_seq: u64,
    /// Last sequence number that is gone.
    pub to_seq: u64,
    /// Time of the first item that is gone, as far as known.
    pub from: Timestamp,
    /// Time of the last item that is gone, as far as known.
    pub to: Timestamp,
    /// How many ticks are gone.
    pub ticks: u64,
    /// How many events are gone.
    pub events: u64,
    /// Why.
    pub reason: GapReason,
}

/// What carries a sequence number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item {
    /// Numbers.
    Tick(Tick),
    /// Something that is not a number.
    Event(Event),
    /// A hole; takes up the sequence numbers it covers.
    Gap(Gap),
}

impl Item {
    /// How many sequence numbers the item takes up.
    #[must_use]
    pub fn width(&self) -> u64 {
        match self {
            Item::Tick(_) | Item::Event(_) => 1,
            Item::Gap(gap) => gap.to_seq - gap.from_seq + 1,
        }
    }
}
