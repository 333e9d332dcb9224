//! The agent: measures one host and delivers what it measured without loss.
//!
//! - [`collect`] reads and parses the kernel's tables; [`facts`] describes the host once, at start.
//! - [`sampler`] turns one reading into one tick; [`spool`] keeps it on disk until the server has it.
//! - [`durable`] syncs the spool beside all else.
//! - [`logs`] reads what the host's programs say, and shapes and redacts it.
//! - [`uplink`] delivers the spool in order over one stream; [`identity`] proves who is speaking.
//! - [`config`] is what an admin may set, [`state`] the directory that one agent owns, [`clock`] the only clock.
//! - [`probe`] pings the gateway, the server and what the server names, beside the ticks.
//! - [`goodbye`] tells why the agent is told to stop.
//! - [`status`] tells who waits for it how a running agent is doing.
//! - `beside` runs all of these on one thread, `alarm` wakes it when a tick is due and not before.
//! - [`supervisor`] is told by sd_notify that the agent is ready, lives, stops.
//! - [`doctor`] says what is wrong and what to do; [`cmd`] has one file per command.

mod alarm;
mod beside;
pub mod clock;
pub mod cmd;
pub mod collect;
pub mod config;
pub mod doctor;
pub mod durable;
pub mod facts;
pub mod goodbye;
pub mod identity;
pub mod logs;
pub mod probe;
pub mod sampler;
pub mod spool;
pub mod state;
pub mod status;
pub mod supervisor;
pub mod uplink;
