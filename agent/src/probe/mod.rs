//! Pings: the gateway, the server, and what the server names.
//!
//! - `stats`: what a target's probes come to, from one tick to the next. Pure.
//! - `board`: the targets and their stats, shared with the collector.
//! - `ping`: ICMP echoes over the kind of socket that is permitted; `tcp`: connections where neither is.
//! - `gateway`: the way out, from the kernel's routing tables.
//! - `rounds`: who is asked when.
//!
//! Probes run beside the ticks and hold none of them up: a tick takes what has come in since the one before.

mod board;
mod gateway;
mod ping;
mod rounds;
mod stats;
mod tcp;

use std::time::Duration;

pub use board::{Board, Row};
pub use ping::{Sockets, permitted};
pub(crate) use rounds::{Rounds, run};

/// Time between two probes of one target, unless the configuration says otherwise: five a tick tell a lost packet from a loss.
pub const INTERVAL: Duration = Duration::from_secs(2);

/// Longest wait for an answer: far above a satellite's round trip, and below the interval, so that one probe of a target is
/// under way at most.
const ANSWER_MAX: Duration = Duration::from_millis(1_500);

/// What came of one probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Echo {
    /// An answer, after so long.
    Answered(Duration),
    /// None in time, or word that there is no way.
    Lost,
    /// It could not be asked: no permission, no address.
    Unable,
}
