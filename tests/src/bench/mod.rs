//! What the benchmarks share: the same data, sent to us and to the peers, on the same machine in the same run.
//!
//! - [`crowd`]: hosts that live and come back by themselves.
//! - [`g1`]: the data set, integers that anybody can make anew.
//! - [`fleet`]: many hosts with their own certificates and streams, as the server sees real ones.
//! - [`life`]: what agents send beside it: pings, logs, processes.
//! - [`ours`]: our server as a process that is killed and timed.
//! - [`peer`]: Debian's Prometheus and VictoriaMetrics, fed by remote write.
//! - [`http`]: one request and its answer, over TCP or a Unix socket.
//! - [`process`]: CPU and memory of a process.
//! - [`table`]: medians, and the lines of a table.

pub mod crowd;
pub mod fleet;
pub mod g1;
pub mod http;
pub mod life;
pub mod ours;
pub mod peer;
pub mod process;
pub mod table;

use std::time::Instant;

/// The moment, for measuring.
#[must_use]
#[allow(
    clippy::disallowed_methods,
    reason = "a benchmark measures by the real clock"
)]
pub fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since a moment.
#[must_use]
pub fn ms_since(began: Instant) -> f64 {
    (now() - began).as_secs_f64() * 1e3
}
