//! The house stays as large as it is: memory and descriptors of a server with many agents, and of one of these.

use std::time::{Duration, Instant};

use dawnwatch_tests::chance::setting;
use dawnwatch_tests::flat::{Course, SAMPLES_MIN, Sample};
use dawnwatch_tests::house::{Agent, Server, ServerOptions};
use dawnwatch_tests::say;

/// Ten times the usual pace, so that what fills up with ticks fills up ten times as fast.
const TICK_MS: u64 = 1_000;

/// Time between two samples, at most.
const EVERY: Duration = Duration::from_secs(10);

#[test]
#[ignore = "takes minutes: tests/soak flat"]
#[allow(clippy::disallowed_methods, reason = "a test waits by the real clock")]
fn server_and_agent_stay_as_large_as_they_are() {
    let (minutes, agents) = (
        setting("DAWNWATCH_FLAT_MINUTES", 5),
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
    let every = EVERY.min(length / u32::try_from(4 * SAMPLES_MIN).unwrap_or(u32::MAX));
    let mut samples = [Vec::new(), Vec::new()];
    while start.elapsed() < length {
        for ((name, pid), samples) in watched.iter().zip(&mut samples) {
            let sample = Sample::of(*pid, start.elapsed().as_secs());
            samples.push(sample.unwrap_or_else(|| panic!("the {name} is gone")));
        }
        std::thread::sleep(every);
    }
    let hosts: Vec<dawnwatch_proto::api::Host> = server.get("/api/v1/hosts").expect("it answers");
    let mut grown = Vec::new();
    for ((name, _), samples) in watched.iter().zip(&samples) {
        let course = Course::of(samples).expect("enough samples");
        let ([first, second, last], [before, after]) = (course.rss_kib, course.descriptors);
        say(&format!(
            "RESULT flat-{name} agents={} minutes={minutes} samples={} rss_kib={first},{second},{last} kib_an_hour={} descriptors={before},{after}",
            hosts.len(),
            samples.len(),
            course.slope_kib_an_hour,
        ));
        grown.extend(course.growth().map(|what| format!("{name}: {what}")));
    }
    assert_eq!(hosts.len(), agents.len(), "not every agent is known");
    assert!(grown.is_empty(), "{grown:?}");
}
