//! Frames with checksums in append-only segments: one code for the agent's spool and the server's journal and ledger.
//!
//! - [`Log`] appends, syncs, rotates and releases; [`Log::open`] recovers and says in a [`Recovery`] what it cut.
//! - [`Reader`] goes through the frames in order and reports what is damaged as [`Read::Damage`] between the good ones.
//! - [`Disk`] is the small wall to the file system: [`RealDisk`] is the real one, [`sim::SimDisk`] a simulated one with
//!   power cuts and injected errors, [`hooked::Hooked`] one that somebody stands in front of.
//!
//! Promises: a position that [`Log::sync`] returned survives a power cut; nothing is read that was not appended;
//! after a failed sync nothing is ever acknowledged again by the same [`Log`]. Positions count up by one over the
//! whole log and start at 1.
//!
//! Inside: `frame` is one frame, `header` the head of a segment file, `scan` walks one segment through a `window`, `resync` finds the way
//! again behind damage, `recover` opens a log, `files` names and makes segment files.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may panic"))]

mod disk;
mod error;
mod files;
mod frame;
mod header;
pub mod hooked;
mod log;
mod reader;
mod recover;
mod resync;
mod scan;
pub mod sim;
mod window;

pub use disk::{Disk, DiskFile, RealDisk};
pub use error::Error;
pub use frame::{FRAME_HEADER_BYTES, PAYLOAD_BYTES_MAX};
pub use header::{NOTE_BYTES_MAX, VERSION};
pub use log::{Log, Options, SegmentInfo};
pub use reader::{Read, Reader};
pub use recover::{Cut, Recovery};
