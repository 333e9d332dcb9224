//! A server that is lost with its machine: `backup` while it works, `restore` elsewhere under another name, and the same agents go on
//! without joining anew. And what `verify` says, and the server does, about damaged data.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use dawnwatch_proto::api::{History, Host};
use dawnwatch_tests::faketime::real_now;
use dawnwatch_tests::house::{Agent, Server, ServerOptions, binary};
use dawnwatch_tests::say;
use dawnwatch_tests::wait::{until, until_true};
use jiff::Timestamp;

const SOON: Duration = Duration::from_secs(60);

/// Two hundred times the usual pace.
const TICK_MS: u64 = 50;

fn care(data: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(binary("dawnwatch-server"));
    command.arg("--data").arg(data).args(words);
    command.stdin(Stdio::null()).output().expect("it runs")
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

fn points(server: &Server, host: &str) -> Vec<(Timestamp, f64)> {
    let path = format!("/api/v1/history?host={host}&series=node_load1&from=2020-01-01T00:00:00Z");
    let history: History = until("the history to answer", SOON, || server.get(&path).ok());
    assert_eq!(history.repeated, 0, "{host}");
    let some = history.points.iter();
    some.filter_map(|(at, value)| Some((*at, (*value)?)))
        .collect()
}

/// Hours that open once a week, three days from now: the review is that of a night, whatever the weekday.
fn always_night() -> String {
    let opens = real_now() + jiff::SignedDuration::from_hours(72);
    let day = opens.to_zoned(jiff::tz::TimeZone::UTC).strftime("%a");
    format!("[calendar]\nzone = \"UTC\"\nhours = \"{day} 08:00-09:00\"\n")
}

/// A port that is free at present.
fn free_port() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

#[test]
#[allow(
    clippy::too_many_lines,
    reason = "one life of a server, and its second"
)]
fn restored_elsewhere_under_another_name_agents_go_on_without_joining_anew() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("server");
    fs::create_dir_all(&data).expect("the data directory");
    fs::write(data.join("dawnwatch.toml"), always_night()).expect("the configuration");
    let mut server = Server::start(&data, &ServerOptions::default());
    let token = server.token(3);
    let elsewhere = free_port();
    let mut agents: Vec<Agent> = (1..=3)
        .map(|n| {
            let name = format!("web{n:02}");
            let state = dir.path().join(&name);
            let agent = Agent::join(&state, &name, server.address, &token.join);
            agent.configure(
                TICK_MS,
                &format!("servers = [\"{}\", \"{elsewhere}\"]", server.address),
            );
            agent
        })
        .collect();
    for agent in &mut agents {
        agent.start();
    }
    let enough = |server: &Server, least: usize| {
        ["web01", "web02", "web03"]
            .iter()
            .all(|host| points(server, host).len() >= least)
    };
    until_true("samples of three agents", SOON, || enough(&server, 40));

    // What history shows is journalled and synced: it must be in a backup that begins after it was seen.
    let before: Vec<Vec<(Timestamp, f64)>> = agents
        .iter()
        .map(|agent| points(&server, &agent.name))
        .collect();
    let to = dir.path().join("backup");
    let to_text = to.display().to_string();
    for round in 0..2 {
        let made = care(&data, &["backup", &to_text]);
        assert!(made.status.success(), "{round}: {}", text(&made));
        assert!(text(&made).contains("verified"), "{}", text(&made));
    }
    // More comes in that the backup does not have, and is acknowledged: the agents stop in between, for a goodbye is
    // acknowledged with all before it.
    let had = points(&server, "web01").len();
    until_true("samples after the backup", SOON, || {
        points(&server, "web01").len() > had + 40
    });
    agents[0].stop();
    let lost_from = before[0].last().expect("samples").0;
    server.kill();
    let old_address = server.address;
    drop(server);
    fs::remove_dir_all(&data).expect("the machine is gone");

    let new = dir.path().join("another-machine");
    let put = care(&new, &["restore", &to_text, "--name", "mon2.example"]);
    assert!(put.status.success(), "{}", text(&put));
    assert!(text(&put).contains("--name mon2.example"), "{}", text(&put));
    let sound = care(&new, &["verify"]);
    assert!(sound.status.success(), "{}", text(&sound));
    let again = care(&new, &["restore", &to_text]);
    assert_eq!(again.status.code(), Some(73), "{}", text(&again));

    agents[0].start();
    let options = ServerOptions {
        listen: Some(elsewhere),
        names: vec!["mon2.example".to_owned()],
        ..ServerOptions::default()
    };
    let server = Server::start(&new, &options);
    assert_ne!(server.address, old_address);
    for (agent, before) in agents.iter().zip(&before) {
        let last = before.last().expect("samples").0;
        until_true("new samples", SOON, || {
            let now = points(&server, &agent.name);
            now.last()
                .is_some_and(|(at, _)| *at > last + Duration::from_secs(2))
        });
        let now = points(&server, &agent.name);
        let lost = before.iter().filter(|point| !now.contains(point)).count();
        assert_eq!(lost, 0, "{} of {} of {}", lost, before.len(), agent.name);
        say(&format!(
            "{}: {} samples before the backup, all there",
            agent.name,
            before.len()
        ));
    }
    let hosts: Vec<Host> = server.get("/api/v1/hosts").expect("hosts");
    assert_eq!(hosts.len(), 3, "nobody joined anew");
    // The first screen of the review says what happened, also after one more start.
    let server = server.kill_and_start(&options);
    let on_screen = |section: &str| {
        let review = text(&server.command(&["review"]));
        let lines = review.lines().skip_while(|line| !line.starts_with(section));
        let mut lines = lines.take_while(|line| !line.starts_with("HEALED"));
        (
            lines.any(|line| line.contains("server  restored from a backup of")),
            review,
        )
    };
    until_true("the review to say so", SOON, || on_screen("TODAY").0);
    let (_, review) = on_screen("TODAY");
    say(&review);
    let gone = points(&server, "web01")
        .iter()
        .filter(|(at, _)| *at > lost_from)
        .count();
    say(&format!("web01: {gone} samples since the backup"));
    assert!(!new.join("restored").exists(), "told once");
}

#[test]
fn damage_is_found_told_and_stops_no_start() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("server");
    let mut server = Server::start(&data, &ServerOptions::default());
    let token = server.token(1);
    let state = dir.path().join("web01");
    let mut agent = Agent::join(&state, "web01", server.address, &token.join);
    agent.configure(TICK_MS, "");
    agent.start();
    until_true("samples", SOON, || points(&server, "web01").len() > 20);
    let live = care(&data, &["verify"]);
    assert!(live.status.success(), "{}", text(&live));
    assert!(
        text(&live).contains("while the server runs"),
        "{}",
        text(&live)
    );
    agent.stop();
    server.stop();
    drop(server);
    let sound = care(&data, &["verify", "--output", "json"]);
    assert_eq!(sound.status.code(), Some(0), "{}", text(&sound));

    // Every file that is no part of the identity, damaged in its middle: told, and the server starts all the same.
    let rooms = ["journal", "ledger", "checkpoint", "history/schemas"];
    let mut damaged = 0;
    for room in rooms {
        let keep = dir.path().join("keep");
        copy_dir(&data, &keep);
        for entry in fs::read_dir(data.join(room)).expect("a room").flatten() {
            let path = entry.path();
            let length = entry.metadata().expect("a file").len();
            if !path.is_file() || length == 0 {
                continue;
            }
            let mut bytes = fs::read(&path).expect("a file");
            // Within what is written: the reserved space behind it is zeros.
            let written = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
            bytes[written / 2] ^= 0x10;
            fs::write(&path, bytes).expect("a damaged file");
        }
        let found = care(&data, &["verify"]);
        assert_eq!(found.status.code(), Some(1), "{room}: {}", text(&found));
        assert!(
            text(&found).contains(&format!("{room}/")),
            "{room}: {}",
            text(&found)
        );
        let mut server = Server::start(&data, &ServerOptions::default());
        server.stop();
        damaged += 1;
        drop(server);
        fs::remove_dir_all(&data).expect("the damaged data");
        fs::rename(&keep, &data).expect("the sound data");
    }
    assert_eq!(damaged, rooms.len());

    // The identity is what nothing can be made from: a clear end, and nothing is written over it.
    let key = data.join("identity/ca.key");
    let whole = fs::read(&key).expect("a key");
    let mut bytes = whole.clone();
    bytes[40] ^= 1;
    fs::write(&key, bytes).expect("a damaged key");
    let refused = care(
        &data,
        &["run", "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0"],
    );
    assert_eq!(refused.status.code(), Some(74), "{}", text(&refused));
    assert!(text(&refused).contains("backup"), "{}", text(&refused));
    fs::write(&key, whole).expect("the key");
    assert_eq!(care(&data, &["verify"]).status.code(), Some(0));
    let nothing = care(&dir.path().join("nothing"), &["verify"]);
    assert_eq!(nothing.status.code(), Some(64), "{}", text(&nothing));
}

#[test]
fn an_earlier_version_refuses_later_data_and_rollback_leads_back() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("server");
    let port = free_port();
    let options = ServerOptions {
        listen: Some(port),
        ..ServerOptions::default()
    };
    let some = |server: &Server, host: &str, least: usize| {
        until_true("samples", SOON, || points(server, host).len() >= least);
        points(server, host)
    };
    let join = |server: &Server, host: &str| {
        let token = server.token(1);
        let state = dir.path().join(host);
        let mut agent = Agent::join(&state, host, server.address, &token.join);
        agent.configure(TICK_MS, "");
        agent.start();
        agent
    };
    let mut server = Server::start(&data, &options);
    let mut early = join(&server, "web01");
    some(&server, "web01", 20);
    early.stop();
    let before = points(&server, "web01");
    server.stop();
    drop(server);
    // As if 9.0 had started on it after us: it kept the way back, and writes a format that we do not know.
    let own = fs::read_to_string(data.join("version")).expect("the version");
    rewrite_version(&data, &own.replace("server 0", "server 00"));
    let mut server = Server::start(&data, &options);
    let mut late = join(&server, "web02");
    some(&server, "web02", 5);
    server.stop();
    drop(server);
    assert!(
        data.join("pre-upgrade/journal").is_dir(),
        "another version keeps the way back"
    );
    let later = own
        .replace("server 0", "server 9")
        .replace("format hour ", "format hour 9");
    rewrite_version(&data, &later);
    let refused = care(
        &data,
        &["run", "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0"],
    );
    assert_eq!(refused.status.code(), Some(78), "{}", text(&refused));
    assert!(text(&refused).contains("rollback"), "{}", text(&refused));
    let back = care(&data, &["rollback"]);
    assert!(back.status.success(), "{}", text(&back));
    assert!(data.join("after-upgrade/journal").is_dir());
    let sound = care(&data, &["verify"]);
    assert_eq!(sound.status.code(), Some(0), "{}", text(&sound));
    let mut server = Server::start(&data, &options);
    let in_use = care(&data, &["rollback"]);
    assert_eq!(in_use.status.code(), Some(73), "{}", text(&in_use));
    // What came in before is there, and hosts go on, also the one that joined since.
    let kept = points(&server, "web01");
    assert!(
        before.iter().all(|point| kept.contains(point)),
        "samples are gone"
    );
    early.start();
    some(&server, "web01", before.len() + 5);
    let had = points(&server, "web02").len();
    some(&server, "web02", had + 5);
    late.stop();
    early.stop();
    server.stop();
}

/// Puts another text with a sound checksum in the place of `version`.
fn rewrite_version(data: &Path, text: &str) {
    let (body, _) = text.split_once("sum ").expect("a checksum");
    let sum = crc32c::crc32c(body.as_bytes());
    fs::write(data.join("version"), format!("{body}sum {sum:08x}\n")).expect("a version");
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory").flatten() {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_dir(&path, &to);
        } else if path.is_file() {
            fs::copy(&path, &to).expect("a copy");
        }
    }
}
