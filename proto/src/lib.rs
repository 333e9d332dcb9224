//! The language that agent, server and command share. Pure: no clock, no socket, no file.
//!
//! - [`pb`]: the generated wire messages of `dawnwatch/v1/dawnwatch.proto`.
//! - [`host`], [`series`], [`tick`], [`event`]: what they mean, checked on the way in.
//! - [`probe`]: what agents ping, and what the series of it are called.
//! - [`joinline`]: the line that an admin pastes on a host.
//! - [`offset`]: how far an agent's clock is off, whatever messages take on their way.
//! - [`wire`]: the row codec and its state on both ends of a connection.
//! - [`review`]: one night as one value, and its text form.
//! - [`api`]: the documents of the JSON API.
//! - [`people`]: people and their roles, as these documents tell of them.
//! - [`quantity`]: values with their unit, as people read them.
//! - [`untrusted`]: how text from elsewhere reaches a terminal.

pub mod api;
pub mod event;
pub mod host;
pub mod joinline;
pub mod offset;
pub mod people;
pub mod probe;
pub mod quantity;
pub mod review;
pub mod series;
pub mod tick;
pub mod untrusted;
pub mod wire;

/// Generated wire messages.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod pb {
    tonic::include_proto!("dawnwatch.v1");
}

pub use event::{Event, EventBody};
pub use host::HostId;
pub use joinline::JoinLine;
pub use series::{Kind, Schema, SchemaId, Series};
pub use tick::{Gap, GapReason, Item, MISSING, Tick};

/// The protocol level that this build speaks; peers one level apart understand each other. Level 1 knew no rows that move the base
/// row and no tables that name processes again: it was never released, and no level lies between.
pub const PROTOCOL: u32 = 3;

/// The port of the agents' gRPC listener.
pub const AGENT_PORT: u16 = 7443;

/// The port that people reach the page by.
pub const PAGE_PORT: u16 = 7440;

/// The name every server certificate carries, whatever address an agent dials.
pub const SERVER_NAME: &str = "dawnwatch-server";

/// Largest message either side accepts after inflation: one full batch of ticks with room to spare.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why a message from a peer was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A field that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A bound of DESIGN.md section 8 is exceeded.
    #[error("{what}: {got} is over the limit of {limit}")]
    OverLimit {
        /// What was counted.
        what: &'static str,
        /// How many there were.
        got: u64,
        /// How many there may be.
        limit: u64,
    },
    /// A value that no honest peer sends.
    #[error("{what}: {why}")]
    Invalid {
        /// The field.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
}
