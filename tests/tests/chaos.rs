//! A bad network between agent and server: connections cut in the middle of a frame, acknowledgements that never arrive, peers
//! that vanish without a word, a slow line. What the server acknowledged is in its history once, whatever the agent heard of it.
//!
//! The oracle reads acknowledgements off the wire between two bad networks, one to the agent and one to the server. Time-boxed for
//! `tests/run`; `DAWNWATCH_CUTS` sets how many connections are cut, `DAWNWATCH_SEED` where.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use dawnwatch_proto::api::Host;
use dawnwatch_tests::chance::{Chance, setting};
use dawnwatch_tests::chaos::{Chaos, Fired, Weather, count};
use dawnwatch_tests::say;
use dawnwatch_tests::stage::{Guest, Net, SOON, Stage};
use dawnwatch_tests::wait::until_true;

/// Agents whose connections are cut.
const AGENTS: usize = 4;

/// Connections are cut within so many bytes of the agent: in the handshake, in the schema, and in ticks.
const CUT_BELOW: u64 = 48 * 1_024;

/// Both ends give up a peer that vanished within this: keep-alive's 15 s and 4 s, and what a loaded machine adds.
const NOTICED_WITHIN: Duration = Duration::from_secs(20 + 10);

/// What a slow line has to be looked at for: longer than the 30 s without a sign after which a host is silent.
const SLOW_FOR: Duration = Duration::from_secs(35);

#[test]
fn connections_cut_in_the_middle_of_a_frame_lose_and_double_nothing() {
    let (wanted, seed) = (setting("DAWNWATCH_CUTS", 40), seed());
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut stage = Stage::start_over(dir.path(), dir.path(), AGENTS, Some(seed));
    let mut chance = Chance::new(seed);
    for guest in &stage.guests {
        for side in net(guest).sides() {
            side.set(Weather {
                cut_below: Some(CUT_BELOW),
                resets: chance.one_in(2),
                ..Weather::default()
            });
            side.cut();
        }
    }
    let within = SOON + Duration::from_secs(3) * u32::try_from(wanted).unwrap_or(u32::MAX);
    until_true("connections to be cut", within, || {
        total(&stage, |fired| &fired.cuts_inside) >= wanted
    });
    for guest in &stage.guests {
        for side in net(guest).sides() {
            side.set(Weather::default());
            side.cut();
        }
    }
    let found = stage.settle();
    say(&format!(
        "RESULT chaos cuts seed={seed} connections={} cuts={} inside={} compared={} lost={} repeated={}",
        total(&stage, |fired| &fired.connections),
        total(&stage, |fired| &fired.cuts),
        total(&stage, |fired| &fired.cuts_inside),
        found.compared,
        found.lost.len(),
        found.repeated
    ));
    assert!(found.is_good(), "{found:?}");
    assert!(found.compared > 100, "next to nothing was compared");
}

#[test]
fn acknowledgements_that_never_arrive_double_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut stage = Stage::start_over(dir.path(), dir.path(), 1, Some(seed()));
    for round in 0..6 {
        let guest = &stage.guests[0];
        let Net { near, far } = net(guest);
        // On the near side the oracle sees acknowledgements that the agent does not; on the far side nobody sees them.
        let (hole, is_near) = if round % 2 == 0 {
            (near, true)
        } else {
            (far, false)
        };
        let (acked, swallowed) = (guest.acked(), count(&hole.fired.swallowed_down));
        hole.set(Weather {
            swallows_down: true,
            ..Weather::default()
        });
        if is_near {
            until_true("ticks acknowledged to nobody", SOON, || {
                guest.acked() > acked + 5
            });
        }
        until_true("acknowledgements to be lost", SOON, || {
            count(&hole.fired.swallowed_down) > swallowed
        });
        hole.set(Weather::default());
        hole.cut();
        stage.await_acks(&stage.acked());
    }
    let found = stage.settle();
    let swallowed = total(&stage, |fired| &fired.swallowed_down);
    say(&format!(
        "RESULT chaos acks swallowed_bytes={swallowed} compared={} lost={} repeated={}",
        found.compared,
        found.lost.len(),
        found.repeated
    ));
    assert!(found.is_good(), "{found:?}");
    assert!(found.compared > 100, "next to nothing was compared");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a test of how long it takes")]
fn both_ends_notice_a_peer_that_vanished() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut stage = Stage::start_over(dir.path(), dir.path(), 1, Some(seed()));
    let Net { near, far } = net(&stage.guests[0]);
    let hole = Weather {
        swallows_up: true,
        swallows_down: true,
        ..Weather::default()
    };
    // The agent ends its connection on the near side, the server its own on the far one: each by itself.
    near.set(hole);
    far.set(hole);
    let since = Instant::now();
    let (mut agent, mut server) = (None, None);
    until_true("both ends to notice", NOTICED_WITHIN, || {
        if count(&near.fired.agent_noticed) > 0 {
            agent.get_or_insert_with(|| since.elapsed());
        }
        if count(&far.fired.server_noticed) > 0 {
            server.get_or_insert_with(|| since.elapsed());
        }
        agent.is_some() && server.is_some()
    });
    say(&format!(
        "RESULT chaos vanished agent={agent:?} server={server:?}"
    ));
    assert!(
        count(&near.fired.swallowed_up) > 0,
        "the agent's words got through"
    );
    for side in [near, far] {
        side.set(Weather::default());
        side.cut();
    }
    let found = stage.settle();
    assert!(found.is_good(), "{found:?}");
}

/// 800 ms and 64 kbit/s: a tick takes a second to arrive, and at the beginning, with handshake and schema before it, more than two.
#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "what must not happen is looked for so long"
)]
fn a_slow_line_is_neither_silence_nor_a_wrong_clock() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut stage = Stage::start_over(dir.path(), dir.path(), 1, Some(seed()));
    let far = &net(&stage.guests[0]).far;
    far.set(Weather {
        delay: Duration::from_millis(800),
        jitter: Duration::from_millis(100),
        rate: Some(64_000 / 8),
        ..Weather::default()
    });
    // The handshake too goes over the slow line.
    let connections = count(&far.fired.connections);
    far.cut();
    until_true("a stream over the slow line", SOON, || {
        count(&far.fired.connections) > connections
    });
    let before = stage.acked();
    stage.await_acks(&before);
    let end = Instant::now() + SLOW_FOR;
    let mut offset_seconds_max: f64 = 0.0;
    while Instant::now() < end {
        let hosts: Vec<Host> = stage.server().get("/api/v1/hosts").expect("hosts");
        assert_eq!(hosts[0].state, "live", "a slow line is taken for silence");
        offset_seconds_max = offset_seconds_max.max(hosts[0].clock_offset_seconds.abs());
        std::thread::sleep(Duration::from_millis(250));
    }
    let (delayed, acked) = (count(&far.fired.delayed), stage.acked());
    assert!(
        delayed > 10_000,
        "next to nothing went over the slow line: {delayed}"
    );
    assert!(
        acked > before,
        "nothing was acknowledged over the slow line"
    );
    // One machine, one clock.
    assert!(
        offset_seconds_max < 0.3,
        "the delay is taken for a clock that is {offset_seconds_max} s off"
    );
    far.set(Weather::default());
    far.cut();
    // The oracle finds no sample that is kept at another time than its own.
    let found = stage.settle();
    say(&format!(
        "RESULT chaos slow delayed_bytes={delayed} offset_seconds_max={offset_seconds_max} compared={} lost={} repeated={}",
        found.compared,
        found.lost.len(),
        found.repeated
    ));
    assert!(found.is_good(), "{found:?}");
    assert!(found.compared > 100, "next to nothing was compared");
}

fn seed() -> u64 {
    setting("DAWNWATCH_SEED", 20_261_122)
}

fn net(guest: &Guest) -> &Net {
    guest.net.as_ref().expect("a network that may turn bad")
}

/// What happened on all sides together.
fn total(stage: &Stage, of: impl Fn(&Fired) -> &AtomicU64) -> u64 {
    let sides = stage.guests.iter().flat_map(|guest| net(guest).sides());
    sides.map(|side: &Chaos| count(of(&side.fired))).sum()
}
