//! The whole path of a sample under a simulated clock, by seed: agents with their spools, links, and a server, in one thread.
//!
//! What runs is the product's own code: [`dawnwatch_agent::spool`], [`dawnwatch_agent::uplink::course`],
//! [`dawnwatch_server::ingest::Talk`], journal, watch, engine, ledger and history. What is simulated is around it: clocks, the
//! disks of spool, journal, ledger and schemas, the links, and who is killed when. Not simulated are the disk of checkpoints and
//! hour files (real files, written whole and synced), TLS, HTTP/2, and threads: the order in which they run is drawn.
//!
//! - `world` lets time pass, `faults` draws what goes wrong; [`Temper`] is what a seed is like.
//! - `agent`, `link`, `server` are the players, `oracle` compares what they did with what is held.
//! - [`Lie`] is what a control breaks on purpose: an oracle that does not notice proves nothing.

mod agent;
mod faults;
mod link;
mod lying;
mod oracle;
mod server;
mod world;

use std::collections::BTreeMap;

pub use faults::Temper;

/// What is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Nothing.
    None,
    /// The server acknowledges a batch when it comes, before the journal has it.
    AckBeforeSync,
    /// The server's disk says that it synced and did not.
    SyncDoesNothing,
    /// The journal forgets what it holds before each group.
    NoDedupe,
    /// A message that should leave does not, once.
    MessageForgotten,
    /// The agent's spool counts what it drops as delivered.
    GapForgotten,
}

/// What a run came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Of everything that happened, in order: the same seed gives the same number.
    pub trace: u64,
    /// How often each fault fired.
    pub faults: BTreeMap<&'static str, u64>,
    /// Items that were compared.
    pub compared: u64,
    /// Messages that were compared.
    pub messages: u64,
    /// What the oracle found, in words.
    pub wrong: Vec<String>,
}

/// Runs a seed to its end.
#[must_use]
pub fn run(seed: u64, lie: Lie) -> Outcome {
    world::World::new(seed, lie).run()
}

/// What the oracle says is kept up to this many sentences: the first ones tell.
const WRONG_MAX: usize = 8;

/// What happened, as a hash; and as text where somebody looks for why.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    is_said: bool,
    pub(crate) outcome: Outcome,
}

impl Trace {
    fn new() -> Trace {
        Trace {
            hash: 0xcbf2_9ce4_8422_2325,
            is_said: std::env::var_os("DAWNWATCH_SIM_TRACE").is_some(),
            outcome: Outcome::default(),
        }
    }

    /// Takes note of what happened.
    pub(crate) fn note(&mut self, text: &str) {
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.is_said {
            crate::say(text);
        }
    }

    /// Takes note of a fault that fired.
    pub(crate) fn fault(&mut self, what: &'static str) {
        *self.outcome.faults.entry(what).or_default() += 1;
        self.note(what);
    }

    /// The oracle found something.
    pub(crate) fn wrong(&mut self, text: String) {
        self.note(&text);
        if self.outcome.wrong.len() < WRONG_MAX {
            self.outcome.wrong.push(text);
        }
    }
}
