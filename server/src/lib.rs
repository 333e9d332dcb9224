//! The server: takes in, keeps, judges, tells.
//!
//! One way through: [`ingest`] -> [`journal`] -> [`watch`] -> [`ledger`] -> [`notify`]. Reads go past it: [`api`] answers
//! from the [`published::Published`] view and from [`history`].
//!
//! - [`app`]: knows all rooms, starts and stops them.
//! - [`clock`]: the only one who asks what time it is.
//! - [`config`]: `dawnwatch.toml`, every mistake at once.
//! - [`identity`]: the CA, join tokens, hosts, TLS.
//! - [`ingest`]: the agents' stream.
//! - [`journal`]: stamped inputs, synced before they are acknowledged or judged.
//! - [`watch`]: the one thread that drives the pure engine, and its recovery.
//! - [`ledger`]: what happened and who did what, hash-chained.
//! - [`checkpoint`]: what recovery starts from.
//! - [`nights`]: sealed reviews.
//! - [`published`]: what readers see.
//! - [`history`]: the head and the hour files.
//! - `erase`: takes erased hosts out of what is on disk.
//! - `scrub`: reads hour files again, for what a disk loses silently.
//! - [`index`]: finds what ledger and history hold; may be deleted.
//! - [`keep`]: which files there are, what a clean stop leaves, copies, the way back after an upgrade.
//! - [`verify`]: reads every file and names every damage.
//! - [`notify`]: the outbox and its channels.
//! - [`targets`]: who pings whom.
//! - [`api`]: the JSON API.
//! - [`web`]: the port for people and the Unix socket: logins, roles, pages.
//! - [`supervisor`]: tells the service manager that the server is ready.
//! - [`handout`]: the agent for hosts that have none, and the line that fetches it.

pub mod api;
pub mod app;
pub mod checkpoint;
pub mod clock;
pub mod config;
mod erase;
pub mod handout;
pub mod history;
pub mod identity;
pub mod index;
pub mod ingest;
pub mod journal;
pub mod keep;
pub mod ledger;
pub mod nights;
pub mod notify;
mod places;
mod plain;
pub mod published;
pub mod reserve;
mod scrub;
pub mod supervisor;
pub mod targets;
pub mod verify;
pub mod vitals;
pub mod watch;
pub mod web;
