//! The judge: a pure state machine from inputs to effects.
//!
//! `Engine::restore(saved)`, `save()` and `step(at, input) -> effects` are its only doors; `view(at)` reads.
//! No clock, no chance, no file, no socket, no hash order: the same inputs give the same effects, on any machine.
//!
//! - [`block`]: the codecs of history.
//! - [`config`]: what people set: rules, calendar, routes, facts about hosts.
//! - [`input`]: what comes in, stamped and journalled by the server before it gets here.
//! - [`effect`]: what the server must do, in order.
//! - [`Engine`]: steps; `intake` (what hosts send), `detect` (what is wrong), `telling` and `policy` (who hears of it),
//!   `seal` (the nights) are parts of it, [`View`] is what it shows.
//! - [`night`]: the calendar: when a night starts, ends and is sealed.
//! - [`named`]: hosts by name, joined or not.
//! - [`coverage`]: what was truly watched.
//! - [`review`]: one night as one value.
//! - [`scrub`]: takes the names of erased hosts out of what was written before.
//! - [`vitals`]: what the server measures of itself.
//! - [`story`]: a fleet in a few lines of text, for golden stories and the demonstration.

mod alert;
pub mod block;
mod clock;
pub mod config;
pub mod coverage;
mod delivery;
mod detect;
pub mod effect;
mod engine;
mod erase;
mod evidence;
mod host;
mod incident;
pub mod input;
mod intake;
mod judging;
mod logged;
mod logs;
pub mod named;
mod net;
pub mod night;
mod own;
mod policy;
pub mod review;
mod saved;
pub mod scrub;
mod seal;
mod shapes;
pub mod story;
mod telling;
mod view;
pub mod vitals;
mod words;

pub use config::Config;
pub use effect::{Effect, Entry};
pub use engine::Engine;
pub use input::{At, Input};
pub use saved::{EffectHash, RestoreError, VERSION as SAVED_VERSION};
pub use shapes::ShapeView;
pub use view::View;
