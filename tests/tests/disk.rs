//! Disks that turn read-only or slow, and a process without file descriptors: what is said, and what goes on.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use dawnwatch_proto::api::{Host, Incident};
use dawnwatch_tests::chance::{Chance, setting};
use dawnwatch_tests::faketime::real_now;
use dawnwatch_tests::image::Image;
use dawnwatch_tests::inject::{Fault, What, fired};
use dawnwatch_tests::needs::{Need, are_met};
use dawnwatch_tests::say;
use dawnwatch_tests::stage::{SOON, Stage};
use dawnwatch_tests::wait::{until, until_true};

/// Room for server and agents, mostly reserved segments.
const IMAGE_MEGABYTES: u64 = 256;

/// How often the disk is full; `DAWNWATCH_FULL_ROUNDS` makes it more.
const FULL_ROUNDS: u64 = 4;

/// At most so much is left of the disk: a few seconds of a spool. The journal's segment has its room reserved.
const LEFT_KILOBYTES_MAX: u64 = 12;

/// How long the disk is slow; `DAWNWATCH_SLOW_SECONDS` makes it longer.
const SLOW_SECONDS: u64 = 8;

/// An incident says that the journal is slow after a minute of it.
const TOLD_WITHIN: Duration = Duration::from_secs(100);

/// A host that was not heard of for this long is called silent.
const SILENT_MS: i64 = 30_000;

/// What a sync takes longer, in microseconds.
const SLOW_US: u32 = 2_000_000;

/// So many descriptors are enough to serve one agent, and soon used up by others.
const DESCRIPTORS: &str = "--nofile=96:96";

/// What the kernel says of a file system that takes nothing.
const READ_ONLY: &str = "Read-only file system";

#[test]
fn a_disk_that_turns_read_only_ends_the_server_with_one_line_and_nothing_lost() {
    if !are_met(&[Need::PowerCut]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let image = Image::mount(dir.path(), IMAGE_MEGABYTES);
    let mut stage = Stage::start(dir.path(), &image.point, 1);
    image.fail();
    let mut server = stage.server.take().expect("it is up");
    let status = until("the server to end", SOON, || server.ended());
    let log = server.log();
    let last = log.lines().last().unwrap_or_default();
    assert_eq!(status.code(), Some(74), "{log}");
    assert!(
        last.starts_with("dawnwatch-server: ") && last.contains(READ_ONLY),
        "{last}"
    );

    let ended = stage
        .start_server(Vec::new())
        .expect_err("nothing can be written");
    let last = ended.log.lines().last().unwrap_or_default();
    say(&format!(
        "a start on a read-only disk: {} {last}",
        ended.status
    ));
    assert!(
        matches!(ended.status.code(), Some(73 | 74 | 77)),
        "{ended:?}"
    );
    assert!(
        last.contains(READ_ONLY) && last.contains("writ"),
        "no fix: {last}"
    );

    // The agent keeps what it can in memory, says so once, and is there when the server is.
    let agent = &mut stage.guests[0].agent;
    assert_eq!(agent.ended(), None, "{}", agent.log());
    let told = agent.log().matches(READ_ONLY).count();
    assert!(told < 10, "a log that fills: {told} times\n{}", agent.log());
    agent.kill();
    image.unmount();
    image.mount_again();
    let before = stage.acked();
    stage.start_server(Vec::new()).expect("the server starts");
    stage.guests[0].agent.start();
    stage.await_acks(&before);
    let found = stage.settle();
    assert!(found.is_good() && found.compared > 0, "{found:?}");
}

#[test]
fn an_agent_that_finds_its_disk_read_only_ends_with_one_line() {
    if !are_met(&[Need::PowerCut]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let image = Image::mount(dir.path(), IMAGE_MEGABYTES);
    let mut stage = Stage::start(dir.path(), &image.point, 1);
    stage.kill_server();
    let agent = &mut stage.guests[0].agent;
    agent.kill();
    image.fail();
    agent.start();
    let status = until("the agent to end", SOON, || agent.ended());
    let log = agent.log();
    let last = log.lines().last().unwrap_or_default();
    say(&format!("an agent on a read-only disk: {status} {last}"));
    assert!(matches!(status.code(), Some(73 | 74 | 77)), "{status}");
    assert!(
        last.contains(READ_ONLY) && last.contains("mount its"),
        "{last}"
    );
}

/// The disk of server and agents is full again and again, down to some free kilobytes: both go on, or are killed meanwhile.
#[test]
fn a_disk_that_fills_up_again_and_again_loses_nothing() {
    if !are_met(&[Need::PowerCut]) {
        return;
    }
    let seed = setting("DAWNWATCH_SEED", 20_261_122);
    let rounds = setting("DAWNWATCH_FULL_ROUNDS", FULL_ROUNDS);
    let mut chance = Chance::new(seed);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let image = Image::mount(dir.path(), IMAGE_MEGABYTES);
    let mut stage = Stage::start(dir.path(), &image.point, 2);
    let (mut kills, mut starts) = (0, 0);
    for round in 0..rounds {
        let left = chance.below(LEFT_KILOBYTES_MAX);
        let ballast = image.fill(left);
        // What the disk is short of when it fills, or while it is full, is the experiment itself.
        std::thread::sleep(Duration::from_millis(200 + chance.below(1_000)));
        if chance.one_in(2) {
            stage.kill_server();
            kills += 1;
            // On a full disk it may say that it cannot start, and why.
            match stage.start_server(Vec::new()) {
                Ok(()) => starts += 1,
                Err(ended) => assert!(ended.log.contains("No space left"), "{ended:?}"),
            }
        }
        for guest in &mut stage.guests {
            if chance.one_in(3) {
                guest.agent.kill();
                guest.agent.start();
            }
        }
        std::fs::remove_file(ballast).expect("the ballast");
        if stage.server.is_none() {
            let started = stage.start_server(Vec::new());
            assert!(
                started.is_ok(),
                "round {round}, {left} KiB left: {started:?}"
            );
        }
        let server = stage.server.as_mut().expect("it is up");
        assert_eq!(server.ended(), None, "{}", server.log());
        for guest in &mut stage.guests {
            // An agent that found no room at its start has ended with one line.
            if guest.agent.ended().is_some() {
                guest.agent.start();
            }
        }
        let before = stage.acked();
        stage.await_acks(&before);
        let found = stage.check();
        assert!(found.is_good(), "round {round}, {left} KiB left: {found:?}");
    }
    let found = stage.settle();
    let mut log = stage.server().log();
    for guest in &stage.guests {
        log.push_str(&guest.agent.log());
    }
    assert!(!log.contains("panicked"), "{log}");
    let refused = log.matches("No space left").count();
    say(&format!(
        "RESULT full seed={seed} rounds={rounds} refused={refused} kills={kills} starts_while_full={starts} compared={} lost={} repeated={}",
        found.compared,
        found.lost.len(),
        found.repeated
    ));
    assert!(refused > 0, "the disk was never full");
    assert!(found.is_good() && found.compared > 0, "{found:?}");
}

#[test]
fn a_server_without_descriptors_serves_again_once_there_are_some() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut stage = Stage::start(dir.path(), dir.path(), 1);
    stage.kill_server();
    let few = ["prlimit", DESCRIPTORS].map(str::to_owned).to_vec();
    stage.start_server(few).expect("the server starts");
    let (address, web) = (stage.server().address, stage.server().web);
    let before = stage.acked();
    stage.await_acks(&before);
    let connect = |at| TcpStream::connect(at).expect("the kernel's queue takes it");
    let crowd: Vec<TcpStream> = (0..100)
        .flat_map(|_| [connect(address), connect(web)])
        .collect();
    until_true("the server to run out of descriptors", SOON, || {
        stage.server().log().contains("Too many open files")
    });
    drop(crowd);
    let agent = &mut stage.guests[0].agent;
    agent.kill();
    agent.start();
    let before = stage.acked();
    stage.await_acks(&before);
    // The port for people, too, and the socket.
    connect(web);
    let found = stage.settle();
    assert!(found.is_good() && found.compared > 0, "{found:?}");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a harness with a time box")]
fn a_slow_disk_holds_up_no_sign_of_life_and_loses_nothing() {
    if !are_met(&[Need::Strace]) {
        return;
    }
    let within = Duration::from_secs(setting("DAWNWATCH_SLOW_SECONDS", SLOW_SECONDS));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut stage = Stage::start(dir.path(), dir.path(), 2);
    let live = |stage: &Stage| {
        let hosts: Vec<Host> = stage.server().get("/api/v1/hosts").expect("hosts");
        hosts.iter().all(|host| host.state == "live")
    };
    until_true("each host to be live", SOON, || live(&stage));
    let log = dir.path().join("strace");
    let (calls, what, nth) = ("fdatasync", What::Slow(SLOW_US), 0);
    let attached = Fault { calls, what, nth }.attach(stage.server().pid(), &log);
    let end = Instant::now() + within;
    let (mut oldest, mut told) = (0, false);
    while Instant::now() < end {
        let hosts: Vec<Host> = stage.server().get("/api/v1/hosts").expect("hosts");
        for host in hosts {
            assert_eq!(host.state, "live");
            let seen = host.last_seen.expect("a live host was seen");
            let age = real_now().as_millisecond() - seen.as_millisecond();
            oldest = oldest.max(age);
        }
        let incidents: Vec<Incident> = stage.server().get("/api/v1/incidents").expect("incidents");
        told |= incidents
            .iter()
            .any(|one| one.what.contains("journal is slow"));
        std::thread::sleep(Duration::from_millis(250));
    }
    let slow = fired(&log).len();
    drop(attached);
    let found = stage.settle();
    say(&format!(
        "RESULT slow seconds={} slow_syncs={slow} oldest_sign_of_life_ms={oldest} told={told} compared={} lost={} repeated={}",
        within.as_secs(),
        found.compared,
        found.lost.len(),
        found.repeated
    ));
    assert!(slow > 0, "the fault never happened");
    // Hosts are called silent after three ticks and more: none may come near it by the server's own fault.
    assert!(
        oldest < SILENT_MS,
        "signs of life were held up for {oldest} ms"
    );
    assert!(
        told || within < TOLD_WITHIN,
        "nobody was told of a slow disk"
    );
    assert!(found.is_good() && found.compared > 0, "{found:?}");
}
