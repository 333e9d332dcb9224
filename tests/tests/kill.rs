//! SIGKILL rounds of agents and server against an oracle that takes its list of acknowledged ticks from proxies between them,
//! never from either's own state. Every acknowledged tick must be in the server's history once, with its values.
//!
//! Time-boxed for `tests/run`. `tests/soak kill` runs it until so many agents and servers were killed; `DAWNWATCH_SEED` repeats a run.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dawnwatch_proto::api::Host;
use dawnwatch_tests::chance::{Chance, setting};
use dawnwatch_tests::oracle::Found;
use dawnwatch_tests::say;
use dawnwatch_tests::stage::{SOON, Stage};
use dawnwatch_tests::wait::until_true;

/// Agents on one server.
const AGENTS: usize = 4;

/// A house is used for this long, then checked and left for a fresh one: so that what is compared stays small.
const CAMPAIGN: Duration = Duration::from_secs(25);

/// What was killed, and what that cost.
#[derive(Debug, Default)]
struct Toll {
    agents: u64,
    servers: u64,
    /// How long the server took to be ready again, in milliseconds, highest.
    ready_ms_max: u128,
    found: Found,
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_by_kill_9() {
    let seed = setting("DAWNWATCH_SEED", 20_261_122);
    let (agents, servers) = (
        setting("DAWNWATCH_KILL_AGENTS", 1),
        setting("DAWNWATCH_KILL_SERVERS", 1),
    );
    let mut chance = Chance::new(seed);
    let mut toll = Toll::default();
    while toll.agents < agents || toll.servers < servers {
        campaign(&mut chance, &mut toll);
        say(&format!(
            "RESULT kill seed={seed} agents={} servers={} compared={} lost={} repeated={} ready_ms_max={}",
            toll.agents,
            toll.servers,
            toll.found.compared,
            toll.found.lost.len(),
            toll.found.repeated,
            toll.ready_ms_max
        ));
        assert!(toll.found.is_good(), "{:?}", toll.found);
        assert!(
            toll.agents > 0 && toll.servers > 0,
            "the fault never happened"
        );
        assert!(toll.found.compared > 100, "next to nothing was compared");
    }
}

#[allow(clippy::disallowed_methods, reason = "a harness with a time box")]
fn campaign(chance: &mut Chance, toll: &mut Toll) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut stage = Stage::start(dir.path(), dir.path(), AGENTS);
    let end = Instant::now() + CAMPAIGN;
    while Instant::now() < end {
        // The moment of the kill is the experiment itself: nothing to wait for.
        std::thread::sleep(Duration::from_millis(50 + chance.below(400)));
        if chance.one_in(3) {
            stage.kill_server();
            let down = Instant::now();
            stage.start_server(Vec::new()).expect("the server starts");
            toll.ready_ms_max = toll.ready_ms_max.max(down.elapsed().as_millis());
            toll.servers += 1;
            continue;
        }
        for guest in &mut stage.guests {
            if !chance.one_in(3) {
                guest.agent.kill();
                guest.agent.start();
                toll.agents += 1;
            }
        }
    }
    toll.found.add(stage.settle());
    let hosts: Vec<Host> = stage.server().get("/api/v1/hosts").expect("hosts");
    assert_eq!(hosts.len(), AGENTS);
}

/// The negative control: a proxy that acknowledges a batch and keeps it. If the oracle does not notice, it proves nothing.
#[test]
fn the_oracle_notices_an_acknowledgement_that_was_a_lie() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut stage = Stage::start(dir.path(), dir.path(), 1);
    let lie = std::sync::Arc::clone(&stage.guests[0].proxy.lie);
    lie.store(true, Ordering::Relaxed);
    until_true("the lie", SOON, || !lie.load(Ordering::Relaxed));
    stage.guests[0].agent.kill();
    let found = stage.check_now();
    assert!(!found.lost.is_empty(), "the oracle saw no loss: {found:?}");
}
