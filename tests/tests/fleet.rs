//! Three hundred agents with real TLS on loopback, and a server that is killed under them: all come back, nobody is called
//! silent, and no acknowledged sample is missing. `tests/bench reconnect` does the same with thousands.

use std::sync::atomic::Ordering;
use std::time::Duration;

use dawnwatch_proto::api::{History, Incident, Now};
use dawnwatch_tests::bench::crowd::Crowd;
use dawnwatch_tests::bench::fleet::{Times, join_all};
use dawnwatch_tests::bench::process::raise_open_files;
use dawnwatch_tests::faketime::real_now;
use dawnwatch_tests::house::{Server, ServerOptions};
use dawnwatch_tests::wait::until_true;

const AGENTS: u32 = 300;

/// Milliseconds between two ticks.
const TICK_MS: i64 = 2_000;

/// A loaded machine takes its time for three hundred handshakes.
const BACK: Duration = Duration::from_secs(120);

#[test]
fn all_come_back_after_a_kill_and_nobody_is_called_silent() {
    raise_open_files();
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let server = Server::start(&dir.path().join("server"), &ServerOptions::default());
    let line = server.token(AGENTS).join;
    let address = server.address.to_string();
    let now_ms = real_now().as_millisecond();
    let states = dir.path().join("hosts");
    let joined = join_all(
        &states,
        &address,
        &line,
        0..u64::from(AGENTS),
        Times::backlog(0, now_ms),
    );
    let members = runtime.block_on(joined).unwrap();
    let crowd = {
        let _inside = runtime.enter();
        Crowd::of(members, TICK_MS)
    };
    let counts = std::sync::Arc::clone(&crowd.counts);
    let all = || counts.connected.load(Ordering::Relaxed) == u64::from(AGENTS);
    until_true("all agents to be connected", BACK, all);
    until_true("all hosts to be live", BACK, || live(&server) == AGENTS);

    let server = server.kill_and_start(&ServerOptions::default());
    let back = || counts.welcomed.load(Ordering::Relaxed) >= 2 * u64::from(AGENTS) && all();
    until_true("all agents to be back", BACK, back);
    until_true("all hosts to be live again", BACK, || {
        live(&server) == AGENTS
    });

    let members = runtime.block_on(crowd.stop());
    assert_eq!(members.len(), usize::try_from(AGENTS).unwrap());
    assert_eq!(
        counts.lost.load(Ordering::Relaxed),
        0,
        "a welcome that holds less than was acknowledged"
    );
    let open: Vec<Incident> = server.get("/api/v1/incidents?state=all").unwrap();
    let about: Vec<_> = open
        .iter()
        .filter(|incident| incident.name.starts_with('g'))
        .map(|incident| (&incident.name, &incident.what))
        .collect();
    assert!(
        about.is_empty(),
        "nothing was wrong with any host: {about:?}"
    );
    // Sent is sent once the stream took it; the last ones are on their way when all stop.
    let from = now_ms / 1_000 - 60;
    let from = jiff::Timestamp::from_second(from).unwrap();
    for member in &members {
        let path = format!(
            "/api/v1/history?host={}&series=cpu_user&from={from}",
            member.name
        );
        let (least, most) = (member.acked(), member.sent());
        let history: History = server.get(&path).unwrap();
        let found = history.samples;
        assert!(
            (least..=most).contains(&found) && history.repeated == 0,
            "{}: {found} samples, {least} acknowledged, {most} sent",
            member.name
        );
        assert!(least >= 1, "{}: something was acknowledged", member.name);
    }
}

fn live(server: &Server) -> u32 {
    let now: Now = server.get("/api/v1/now").expect("the server answers");
    now.hosts_live
}
