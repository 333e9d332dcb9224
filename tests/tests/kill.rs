//! SIGKILL rounds of agent and server against an oracle that takes its list of acknowledged ticks from a proxy between them,
//! never from either's own state. Every acknowledged tick must be in the server's history once, with its values.
//!
//! Time-boxed for `tests/run`; `DAWNWATCH_KILL_SECONDS` makes it longer, `DAWNWATCH_SEED` repeats a run.

use std::fs;
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dawnwatch_proto::api::{History, Host};
use dawnwatch_proto::{Kind, MISSING, Series};
use dawnwatch_tests::house::{Agent, Server, ServerOptions};
use dawnwatch_tests::proxy::{Proxy, Seen};
use dawnwatch_tests::say;
use dawnwatch_tests::wait::{until, until_true};

/// Ticks come this often: two hundred times the usual pace, so that a kill hits something.
const TICK_MS: u64 = 50;

/// Waiting for what must come within a few ticks and one back-off.
const SOON: Duration = Duration::from_secs(60);

/// The gauges that are compared: their values change from tick to tick.
const GAUGES: [&str; 3] = [
    "node_memory_MemFree_bytes",
    "node_load1",
    "dawnwatch_agent_resident_memory_bytes",
];

struct Stage {
    _dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    server: Server,
    agent: Agent,
    proxy: Proxy,
}

fn stage() -> Stage {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("server");
    let server = Server::start(&data, &ServerOptions::default());
    let token = server.token(1);
    let state = dir.path().join("agent");
    let mut agent = Agent::join(&state, "web01", server.address, &token.join);
    let copy = dir.path().join("identity-of-the-proxy");
    copy_dir(&data.join("identity"), &copy);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    let proxy = runtime.block_on(Proxy::start(server.address, &copy, &state));
    agent.configure(TICK_MS, &format!("servers = [\"{}\"]", proxy.address));
    agent.start();
    Stage {
        _dir: dir,
        runtime,
        server,
        agent,
        proxy,
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("the identity") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}

fn acked(proxy: &Proxy) -> usize {
    proxy
        .seen
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .acked_ticks()
        .len()
}

/// What the oracle finds.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    /// Acknowledged values that were compared.
    compared: usize,
    /// Acknowledged ticks that the history does not have, or has with another value.
    lost: Vec<String>,
    /// Samples that are held more than once.
    repeated: u64,
}

fn check(seen: &Seen, server: &Server) -> Found {
    let mut found = Found::default();
    for name in GAUGES {
        let history: History = until("the history to answer", SOON, || {
            server
                .get(&format!(
                    "/api/v1/history?host=web01&series={name}&from=2020-01-01T00:00:00Z"
                ))
                .ok()
        });
        found.repeated += history.repeated;
        for tick in seen.acked_ticks() {
            let schema = &seen.schemas[&tick.schema.0];
            let gauge = |series: &Series| series.name == name && series.kind == Kind::Gauge;
            let Some(column) = schema.series().iter().position(gauge) else {
                continue;
            };
            if tick.row[column] == MISSING {
                continue;
            }
            found.compared += 1;
            let want = Some(schema.series()[column].value(tick.row[column]));
            let held = history
                .points
                .iter()
                .find(|(at, _)| *at == tick.time)
                .map(|(_, value)| *value);
            if held != Some(want) {
                found.lost.push(format!(
                    "{name} at {}: acknowledged {want:?}, held {held:?}",
                    tick.time
                ));
            }
        }
    }
    found
}

/// The next of a row of numbers that a seed gives (splitmix64).
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a harness with a time box")]
fn nothing_acknowledged_is_lost_or_doubled_by_kill_9() {
    let mut seed = setting("DAWNWATCH_SEED", 20_261_122);
    let within = Duration::from_secs(setting("DAWNWATCH_KILL_SECONDS", 45));
    say(&format!("kill -9: seed {seed}, {within:?}"));
    let mut stage = stage();
    until_true("the first acknowledgement", SOON, || {
        acked(&stage.proxy) > 0
    });
    let (mut agents, mut servers) = (0, 0);
    let end = Instant::now() + within;
    while Instant::now() < end {
        // The moment of the kill is the experiment itself: nothing to wait for.
        std::thread::sleep(Duration::from_millis(100 + next(&mut seed) % 1_400));
        if next(&mut seed).is_multiple_of(3) {
            stage.server = stage.server.kill_and_start(&ServerOptions::default());
            servers += 1;
        } else {
            stage.agent.kill();
            stage.agent.start();
            agents += 1;
        }
    }
    let before = acked(&stage.proxy);
    until_true("an acknowledgement after the last kill", SOON, || {
        acked(&stage.proxy) > before
    });
    // In quiet running the next one comes in a minute; a goodbye is acknowledged at once, and all before it.
    stage.agent.stop();
    let found = {
        let seen = stage
            .proxy
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        check(&seen, &stage.server)
    };
    say(&format!(
        "kill -9: {agents} agent kills, {servers} server kills, {} values compared",
        found.compared
    ));
    assert!(agents > 0 && servers > 0, "the fault never happened");
    assert!(
        found.compared > 100,
        "next to nothing was compared: {found:?}"
    );
    assert_eq!((found.lost.as_slice(), found.repeated), (&[][..], 0));
    let hosts: Vec<Host> = stage.server.get("/api/v1/hosts").expect("hosts");
    assert_eq!(hosts.len(), 1);
    drop(stage.proxy);
    stage.runtime.shutdown_background();
}

/// The negative control: a proxy that acknowledges a batch and keeps it. If the oracle does not notice, it proves nothing.
#[test]
fn the_oracle_notices_an_acknowledgement_that_was_a_lie() {
    let mut stage = stage();
    until_true("the first acknowledgement", SOON, || {
        acked(&stage.proxy) > 0
    });
    stage.proxy.lie.store(true, Ordering::Relaxed);
    until_true("the lie", SOON, || !stage.proxy.lie.load(Ordering::Relaxed));
    let told = acked(&stage.proxy);
    assert!(told > 0);
    stage.agent.kill();
    let seen = stage
        .proxy
        .seen
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let found = check(&seen, &stage.server);
    assert!(!found.lost.is_empty(), "the oracle saw no loss: {found:?}");
    drop(seen);
    drop(stage.proxy);
    stage.runtime.shutdown_background();
}
