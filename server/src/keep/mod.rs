//! What keeps a data directory through the years: what belongs to it, copies of it, and the way back after an upgrade.
//!
//! - [`files`]: which files there are.
//! - [`snapshot`]: all of it at one moment, also while a server runs.
//! - [`backup`]: a copy elsewhere, and the way to put it back; [`restored`] tells the engine.
//! - [`version`]: which version wrote it; [`upgrade`]: the way back from another one.
//! - [`clean`]: what a clean stop leaves behind, so that a start and `verify` see what went missing while nobody ran.

pub mod backup;
pub mod clean;
pub mod files;
mod manifest;
pub mod restored;
pub mod snapshot;
pub mod upgrade;
pub mod version;

#[cfg(test)]
mod golden;
