//! A server whose disk is full goes on: it judges, it tells people, it refuses what agents bring and they keep it, and when there
//! is room again nobody has to do anything.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so and ends"
)]

use std::fs;
use std::time::Duration;

use dawnwatch_proto::api::{History, Incident, Now};
use dawnwatch_tests::house::{Agent, Server, ServerOptions};
use dawnwatch_tests::mounts::{Tmpfs, fill};
use dawnwatch_tests::needs::{self, Need};
use dawnwatch_tests::receivers::Webhook;
use dawnwatch_tests::wait::{until, until_true};

/// Longest wait for anything; machines that build beside their tests are slow.
const WITHIN: Duration = Duration::from_secs(120);

const TICK_MS: u64 = 500;

/// Agents of samples alone: nothing else of theirs is to be counted.
const QUIET: &str = "ping = false\n[logs]\njournald = false\nfiles = []";

#[test]
fn a_full_disk_stops_neither_judging_nor_messages() {
    if !needs::are_met(&[Need::Mounts]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let disk = Tmpfs::mount(&dir.path().join("server"), "192m");
    let webhook = Webhook::start();
    let settings = format!(
        "[[channel]]\nname = \"ops\"\ntype = \"webhook\"\nurl = \"http://{}/hook\"\n",
        webhook.address
    );
    fs::write(disk.point.join("dawnwatch.toml"), settings).unwrap();
    let mut server = Server::start(&disk.point, &ServerOptions::default());
    let reserve = disk.point.join("reserve");
    assert!(
        fs::metadata(&reserve).unwrap().len() > 0,
        "room is reserved"
    );
    let join = |name: &str| {
        let line = server.token(1).join;
        let mut agent = Agent::join(&dir.path().join(name), name, server.address, &line);
        agent.configure(TICK_MS, QUIET);
        agent.start();
        agent
    };
    let (mut stays, mut dies) = (join("stays01"), join("dies01"));
    let now = |server: &Server| -> Now { server.get("/api/v1/now").expect("the server answers") };
    until_true("both to report", WITHIN, || now(&server).hosts_live == 2);

    let ballast = disk.point.join("ballast");
    fill(&ballast, 1.0);
    let told = |server: &Server| {
        let notices = now(server).notices;
        notices
            .iter()
            .any(|n| n.contains("agents keep what they measure"))
    };
    until_true("the server to say that its disk is full", WITHIN, || {
        // What the journal's segment has room for is taken in first.
        fill(&ballast, 1.0);
        told(&server)
    });
    assert_eq!(fs::metadata(&reserve).unwrap().len(), 0, "given back");

    // What happens now is judged and told.
    dies.kill();
    let silent = until("the silence to be told", WITHIN, || {
        let all: Vec<Incident> = server.get("/api/v1/incidents").ok()?;
        all.into_iter().find(|i| i.name == "dies01")
    });
    until_true("the message", WITHIN, || {
        webhook
            .posted()
            .iter()
            .any(|posted| posted.body.to_string().contains(&silent.id))
    });
    let of_others = |server: &Server| -> Vec<Incident> {
        let all: Vec<Incident> = server.get("/api/v1/incidents").expect("incidents");
        all.into_iter().filter(|i| i.name == "stays01").collect()
    };
    assert!(told(&server), "it was full all the time");
    assert!(of_others(&server).is_empty(), "{:?}", of_others(&server));

    // A restart on the full disk finds room to start, and goes on refusing.
    server = server.kill_and_start(&ServerOptions::default());
    until_true("the server to say it again", WITHIN, || told(&server));

    fs::remove_file(&ballast).unwrap();
    until_true("room again", WITHIN, || !told(&server));
    assert!(fs::metadata(&reserve).unwrap().len() > 0, "taken again");
    let path = "/api/v1/history?host=stays01&series=node_load1&from=2020-01-01T00:00:00Z";
    let whole = |server: &Server| -> History { server.get(path).expect("history") };
    let before = whole(&server).samples;
    until_true("the backlog and more", WITHIN, || {
        whole(&server).samples >= before + 20 && now(&server).hosts_live == 1
    });
    let history = whole(&server);
    assert_eq!(history.repeated, 0);
    let apart =
        |pair: &[(jiff::Timestamp, Option<f64>)]| pair[1].0.duration_since(pair[0].0).as_secs();
    let widest = history.points.windows(2).map(apart).max();
    assert!(
        widest.unwrap_or(0) <= 4,
        "a hole of {widest:?} s: {:?}",
        history.points
    );
    assert!(of_others(&server).is_empty(), "{:?}", of_others(&server));
    stays.kill();
}
