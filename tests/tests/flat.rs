//! The house stays as large as it is: memory and descriptors of a server with many agents, and of one of these.

use std::time::{Duration, Instant};

use dawnwatch_tests::chance::setting;
use dawnwatch_tests::faketime::real_now;
use dawnwatch_tests::flat::{Course, Sample, warm_up_s};
use dawnwatch_tests::house::{Agent, Server, ServerOptions};
use dawnwatch_tests::say;

/// Ten times the usual pace, so that what fills up with ticks fills up ten times as fast.
const TICK_MS: u64 = 1_000;

/// Time between two samples.
const EVERY: Duration = Duration::from_secs(10);

#[test]
#[ignore = "takes hours: tests/soak flat"]
#[allow(clippy::disallowed_methods, reason = "a test waits by the real clock")]
fn server_and_agent_stay_as_large_as_they_are() {
    let (minutes, agents) = (
        setting("DAWNWATCH_FLAT_MINUTES", 180),
        setting("DAWNWATCH_FLAT_AGENTS", 20),
    );
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(&dir.path().join("server"), &ServerOptions::default());
    let token = server.token(u32::try_from(agents).expect("some agents"));
    let agents: Vec<Agent> = (1..=agents)
        .map(|number| {
            let name = format!("web{number:02}");
            let mut agent =
                Agent::join(&dir.path().join(&name), &name, server.address, &token.join);
            agent.configure(TICK_MS, "");
            agent.start();
            agent
        })
        .collect();
    let watched = [
        ("server", server.pid()),
        ("agent", agents[0].pid().expect("it runs")),
    ];
    let (start, length) = (Instant::now(), Duration::from_secs(60 * minutes));
    let warm_up_s = warm_up_s(real_now().as_second().cast_unsigned());
    let enough_s = warm_up_s + 3_600 + 900;
    assert!(
        length.as_secs() >= enough_s,
        "it wants {} minutes: an hour and a quarter after the first hour is sealed",
        enough_s.div_ceil(60)
    );
    let mut samples = [Vec::new(), Vec::new()];
    while start.elapsed() < length {
        for ((name, pid), samples) in watched.iter().zip(&mut samples) {
            let sample = Sample::of(*pid, start.elapsed().as_secs());
            samples.push(sample.unwrap_or_else(|| panic!("the {name} is gone")));
        }
        std::thread::sleep(EVERY);
    }
    let hosts: Vec<dawnwatch_proto::api::Host> = server.get("/api/v1/hosts").expect("it answers");
    let mut grown = Vec::new();
    for ((name, _), samples) in watched.iter().zip(&samples) {
        let course = Course::of(samples, warm_up_s).expect("enough samples");
        let ([before, after], most) = (course.anon_kib, course.most_kib);
        let [open_before, open_after] = course.descriptors;
        say(&format!(
            "RESULT flat-{name} agents={} minutes={minutes} warm_up_minutes={} anon_kib={before},{after} most_kib={most} descriptors={open_before},{open_after}",
            hosts.len(),
            warm_up_s / 60,
        ));
        grown.extend(course.growth().map(|what| format!("{name}: {what}")));
    }
    assert_eq!(hosts.len(), agents.len(), "not every agent is known");
    assert!(grown.is_empty(), "{grown:?}");
}
