//! Outages of the line and of what is at its ends: partitions short and long, a spool that is full, agents and servers that start
//! again and again, a line that loses packets. What heals tells nobody more than once, and all that was measured is there, or is
//! a gap that is counted.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use dawnwatch_proto::api::{History, Host, Incident, LiveReview};
use dawnwatch_proto::{GapReason, Item};
use dawnwatch_tests::chance::{Chance, setting};
use dawnwatch_tests::chaos::{Weather, count};
use dawnwatch_tests::house::{Agent, Launch, Server, ServerOptions};
use dawnwatch_tests::needs::{Need, are_met};
use dawnwatch_tests::netns::{Lan, exec, inside};
use dawnwatch_tests::say;
use dawnwatch_tests::stage::{Guest, Net, SOON, Stage};
use dawnwatch_tests::wait::{until, until_true};

/// Nothing passes, and nobody is told: packets go nowhere.
const HOLE: Weather = Weather {
    delay: Duration::ZERO,
    jitter: Duration::ZERO,
    rate: None,
    swallows_up: true,
    swallows_down: true,
    cut_below: None,
    resets: false,
};

/// A partition that nobody is told of.
const SHORT: Duration = Duration::from_secs(10);

/// A host is silent after 30 s; what a loaded machine adds.
const SILENT_WITHIN: Duration = Duration::from_secs(30 + 30);

/// A spool of a few minutes.
const SPOOL_BYTES: u64 = 1 << 20;

/// How long a line loses packets.
const LOSSY_FOR: Duration = Duration::from_secs(35);

/// Of a hundred packets so many get lost, each way.
const LOST_PERCENT: u64 = 10;

/// Starts of an agent within a minute, and of the server.
const AGENT_STARTS: usize = 20;
const SERVER_STARTS: usize = 12;

#[test]
fn a_short_partition_is_nothing_and_a_long_one_is_told_once() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut stage = Stage::start_over(dir.path(), dir.path(), 1, Some(seed()));
    let Net { far, .. } = net(&stage.guests[0]);
    let mut swallowed = 0;
    far.set(HOLE);
    watched_for(SHORT, || {
        assert_ne!(
            state(stage.server()),
            "silent",
            "ten seconds are no silence"
        );
    });
    far.set(Weather::default());
    far.cut();
    stage.await_acks(&stage.acked());
    assert!(
        count(&far.fired.swallowed_up) > swallowed,
        "nothing was swallowed"
    );
    swallowed = count(&far.fired.swallowed_up);
    assert!(
        silences(stage.server()).is_empty(),
        "a short partition tells nobody"
    );

    far.set(HOLE);
    let told = until("the silence to be told", SILENT_WITHIN, || {
        silences(stage.server()).pop()
    });
    assert!(told.what.starts_with("silent"), "{told:?}");
    assert!(
        count(&far.fired.swallowed_up) > swallowed,
        "nothing was swallowed"
    );
    // Everything that is told from here on is told of what healed.
    let known: BTreeSet<String> = incidents(stage.server())
        .into_iter()
        .map(|one| one.id)
        .collect();
    far.set(Weather::default());
    far.cut();
    until_true("the host to be back", SOON, || {
        state(stage.server()) == "live" && silences(stage.server())[0].until.is_some()
    });
    stage.await_acks(&stage.acked());
    let found = stage.settle();
    let after: Vec<Incident> = incidents(stage.server())
        .into_iter()
        .filter(|one| !known.contains(&one.id))
        .collect();
    let late = silences(stage.server());
    say(&format!(
        "RESULT outage partition swallowed_bytes={} silent={} compared={} lost={} repeated={}",
        count(&net(&stage.guests[0]).far.fired.swallowed_up),
        late.len(),
        found.compared,
        found.lost.len(),
        found.repeated
    ));
    assert_eq!(late.len(), 1, "told once: {late:?}");
    assert!(
        after.is_empty(),
        "late data tells of what healed: {after:?}"
    );
    assert!(found.is_good() && found.compared > 100, "{found:?}");
    assert!(is_filled(stage.server(), "web01"), "no hole is left");
}

#[test]
fn what_a_full_spool_drops_is_counted_and_told_with_its_reason() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut stage = Stage::start_over(dir.path(), dir.path(), 1, Some(seed()));
    let lines = dir.path().join("app.log");
    let mut number = 0;
    write_lines(&lines, 1, &mut number);
    let near = net(&stage.guests[0]).near.address;
    let guest = &mut stage.guests[0];
    guest.agent.stop();
    let further = format!(
        "servers = [\"{near}\"]\nspool_bytes = {SPOOL_BYTES}\n[logs]\nfiles = [\"{}\"]\njournald = false",
        lines.display()
    );
    guest.agent.configure(100, &further);
    guest.agent.start();
    stage.await_acks(&stage.acked());
    let (near, agent) = (&net(&stage.guests[0]).near, &stage.guests[0].agent);
    near.set(HOLE);
    near.cut();
    // Ticks alone would take minutes to fill it: lines of ever new shapes come with them, and are dropped last.
    let mut seen = BTreeSet::new();
    until_true("the spool to drop what is oldest", SOON, || {
        write_lines(&lines, 40, &mut number);
        let held = segments(&agent.state.join("spool"));
        let is_gone = seen.iter().any(|name| !held.contains(name));
        seen.extend(held);
        is_gone
    });
    let acked = stage.acked();
    near.set(Weather::default());
    near.cut();
    stage.await_acks(&acked);
    let found = stage.settle();
    let (read, gaps) = counted(&stage.guests[0]);
    let told = until("all that was dropped to be told", SOON, || {
        let told = told_dropped(stage.server());
        (told == gaps).then_some(told)
    });
    say(&format!(
        "RESULT outage spool read={read} dropped={gaps} told={told} compared={} lost={} repeated={}",
        found.compared,
        found.lost.len(),
        found.repeated
    ));
    assert!(gaps > 0, "the spool was never full");
    // Most of what a full spool keeps is lines: those are dropped last.
    assert!(found.is_good() && found.compared > 30, "{found:?}");
}

#[test]
fn agents_and_servers_that_start_again_and_again_are_no_silence() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut stage = Stage::start(dir.path(), dir.path(), 1);
    for _ in 0..AGENT_STARTS {
        let before = stage.acked();
        stage.guests[0].agent.kill();
        stage.guests[0].agent.start();
        stage.await_acks(&before);
        assert_ne!(state(stage.server()), "silent");
    }
    for round in 0..SERVER_STARTS {
        // Half of them are stopped, half are killed.
        if round % 2 == 0 {
            stage.stop_server();
        } else {
            stage.kill_server();
        }
        stage.start_server(Vec::new()).expect("the server starts");
        // One that is killed before it has written anything has told nobody that it started.
        stage.await_acks(&stage.acked());
    }
    let found = stage.settle();
    let server = stage.server();
    let review: LiveReview = server
        .get("/api/v1/review?night=so-far")
        .expect("the review");
    let changed = review.review.changed;
    let starts = changed
        .iter()
        .filter(|one| one.text.contains("; was down "));
    let starts = starts.count();
    let agents = stage.guests[0].agent.log().matches(" connected").count();
    say(&format!(
        "RESULT outage storm agent_starts={AGENT_STARTS} connected={agents} server_starts={starts} compared={} lost={} repeated={}",
        found.compared,
        found.lost.len(),
        found.repeated
    ));
    assert!(agents >= AGENT_STARTS, "the agent connected {agents} times");
    assert_eq!(
        starts, SERVER_STARTS,
        "each start is told once: {changed:?}"
    );
    assert!(silences(server).is_empty(), "nobody was silent");
    // Six kills are one too many for a server that stays up; six stops by hand are nobody's business.
    let storms = incidents(server);
    let mut alerts = storms.iter().flat_map(|one| &one.alerts);
    let storm = alerts.find(|alert| alert.rule == "server_restarting");
    let why = &storm.expect("the restarts are an incident").why;
    assert!(why.contains("started 5 times"), "{why}");
    assert!(found.is_good() && found.compared > 100, "{found:?}");
}

#[test]
fn a_line_that_loses_every_tenth_packet_loses_no_sample() {
    if !are_met(&[Need::Namespaces, Need::Nft]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut lan = Lan::new(7);
    let space = lan.host(2);
    let data = dir.path().join("server");
    let options = ServerOptions {
        listen: Some(lan.listen()),
        ..ServerOptions::default()
    };
    let server = Server::start(&data, &options);
    let launch = Launch {
        through: inside(&space),
        env: Vec::new(),
    };
    let line = server.token(1).join;
    let state_dir = dir.path().join("web01");
    let mut agent = Agent::join_by(&state_dir, "web01", server.address, &line, launch);
    agent.configure(100, "ping = false\n[logs]\njournald = false\nfiles = []");
    lossy(&space, server.address.port());
    agent.start();
    until_true("the host to be live", SOON, || state(&server) == "live");
    watched_for(LOSSY_FOR, || {
        assert_ne!(state(&server), "silent", "packets lost are no silence");
    });
    let lost = dropped(&space);
    exec(&space, &["nft", "flush table inet dw"]);
    agent.stop();
    until_true("all of it", SOON, || is_filled(&server, "web01"));
    let history = history(&server, "web01");
    say(&format!(
        "RESULT outage loss dropped={} of {} packets samples={} repeated={}",
        lost.1, lost.0, history.samples, history.repeated
    ));
    assert!(lost.1 > 20, "next to nothing was dropped: {lost:?}");
    assert_eq!(history.repeated, 0);
    assert!(silences(&server).is_empty(), "nobody was silent");
}

fn seed() -> u64 {
    setting("DAWNWATCH_SEED", 20_261_122)
}

fn net(guest: &Guest) -> &Net {
    guest.net.as_ref().expect("a network that may turn bad")
}

/// What must not happen is looked for so long.
#[allow(clippy::disallowed_methods, reason = "a test waits by the real clock")]
fn watched_for(time: Duration, mut look: impl FnMut()) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        look();
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// What the server calls its only host; nothing before it knows of one.
fn state(server: &Server) -> String {
    let hosts: Vec<Host> = server.get("/api/v1/hosts").expect("hosts");
    hosts
        .first()
        .map_or_else(String::new, |host| host.state.clone())
}

fn incidents(server: &Server) -> Vec<Incident> {
    server
        .get("/api/v1/incidents?state=all")
        .expect("incidents")
}

/// Incidents about a silence, over or not.
fn silences(server: &Server) -> Vec<Incident> {
    let mut all = incidents(server);
    all.retain(|one| one.alerts.iter().any(|alert| alert.rule == "silent"));
    all
}

fn history(server: &Server, host: &str) -> History {
    let path = format!("/api/v1/history?host={host}&series=node_load1&from=2020-01-01T00:00:00Z");
    until("the history to answer", SOON, || server.get(&path).ok())
}

/// Whether ticks stand close together from the first to the last: ten times the usual distance is left to a loaded machine.
fn is_filled(server: &Server, host: &str) -> bool {
    let points = history(server, host).points;
    let mut pairs = points.windows(2);
    points.len() > 100 && pairs.all(|pair| pair[1].0.duration_since(pair[0].0).as_millis() < 2_000)
}

/// Adds long lines to a log, each of a shape of its own: `number` tells them apart by their commas.
fn write_lines(log: &Path, lines: usize, number: &mut u64) {
    let mut chance = Chance::new(*number);
    let mut text = String::new();
    for _ in 0..lines {
        text.push_str("ERROR");
        for word in 0..120 {
            let comma = word < 14 && (*number >> word) & 1 == 1;
            text.push_str(if comma { ", " } else { " " });
            for _ in 0..4 + chance.below(4) {
                let letter = u8::try_from(chance.below(26)).unwrap_or(0);
                text.push(char::from(b'a' + letter));
            }
        }
        text.push('\n');
        *number += 1;
    }
    let file = File::options().create(true).append(true).open(log);
    let mut file = file.expect("a log");
    file.write_all(text.as_bytes()).expect("lines are written");
}

/// Names of the files that a spool consists of.
fn segments(spool: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(spool).expect("a spool").flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".seg"))
        .collect()
}

/// Of the last run of an agent: items that were acknowledged, and items that gaps stand for. No number is missing between them,
/// so that both together are all that it wrote.
fn counted(guest: &Guest) -> (u64, u64) {
    let seen = guest.proxy.seen.lock();
    let seen = seen.unwrap_or_else(PoisonError::into_inner);
    let (mut read, mut gaps) = (0, 0);
    for (epoch, last) in &seen.acked {
        let mut seq = 1;
        while seq <= *last {
            let item = seen.sent.get(&(*epoch, seq));
            let item = item.unwrap_or_else(|| panic!("number {seq} of {last} was never sent"));
            match item {
                Item::Tick(_) | Item::Event(_) => read += 1,
                Item::Gap(gap) => {
                    assert_eq!(gap.reason, GapReason::SpoolFull, "{gap:?}");
                    assert_eq!(gap.ticks + gap.events, item.width(), "{gap:?}");
                    gaps += item.width();
                }
            }
            seq += item.width();
        }
    }
    (read, gaps)
}

/// Ticks and events that the review says were dropped by a full spool.
fn told_dropped(server: &Server) -> u64 {
    let live: LiveReview = server
        .get("/api/v1/review?night=so-far")
        .expect("the review");
    let changed = live.review.changed.iter();
    let full = changed.filter(|one| one.text.contains("its spool was full"));
    let numbers = full.flat_map(|one| one.text.split_whitespace());
    let numbers = numbers.filter_map(|word| word.parse::<u64>().ok());
    numbers.sum()
}

/// Loses packets of the agents' port, each way by chance.
fn lossy(space: &str, port: u16) {
    let rule = |chain: &str, side: &str| {
        format!(
            "add rule inet dw {chain} tcp {side} {port} counter; \
             add rule inet dw {chain} tcp {side} {port} numgen random mod 100 < {LOST_PERCENT} counter drop"
        )
    };
    let text = format!(
        "add table inet dw; \
         add chain inet dw in {{ type filter hook input priority 0; }}; \
         add chain inet dw out {{ type filter hook output priority 0; }}; {}; {}",
        rule("in", "sport"),
        rule("out", "dport")
    );
    exec(space, &["nft", &text]);
}

/// Packets that came by, and those of them that were dropped.
fn dropped(space: &str) -> (u64, u64) {
    let text = exec(space, &["nft", "list", "table", "inet", "dw"]);
    let counts: Vec<u64> = text
        .split("packets ")
        .skip(1)
        .filter_map(|rest| rest.split_whitespace().next()?.parse().ok())
        .collect();
    let [came, dropped_in, left, dropped_out] = counts[..] else {
        panic!("four counters are in: {text}");
    };
    (came + left, dropped_in + dropped_out)
}
