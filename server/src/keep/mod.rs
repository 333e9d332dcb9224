//! What keeps a data directory through the years: what belongs to it, copies of it, and the way back after an upgrade.
//!
//! - [`files`]: which files there are.
//! - [`clean`]: what a clean stop leaves behind, so that a start and `verify` see what went missing while nobody ran.

pub mod clean;
pub mod files;
