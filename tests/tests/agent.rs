//! The agent as a process: what its commands say and end with, and what it does in odd surroundings. Real servers, TLS and
//! disks; what a host's life does to an agent is done to this one.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dawnwatch_proto::api::Host;
use dawnwatch_proto::{GapReason, Item};
use dawnwatch_tests::faketime::{FakeClock, real_now};
use dawnwatch_tests::house::{Agent, Launch, Server, ServerOptions, binary};
use dawnwatch_tests::mounts::{Tmpfs, fill};
use dawnwatch_tests::needs::{self, Need};
use dawnwatch_tests::proxy::Proxy;
use dawnwatch_tests::wait::{until, until_true};
use jiff::SignedDuration;
use rustix::process::{Pid, Signal, kill_process};

/// Waiting for what comes within a few back-offs.
const SOON: Duration = Duration::from_secs(60);

/// Fifty times the usual pace.
const TICK_MS: u64 = 200;

/// What a command said.
struct Said {
    code: i32,
    out: String,
    err: String,
}

fn agent(arguments: &[&str]) -> Said {
    let output = Command::new(binary("dawnwatch-agent"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("dawnwatch-agent runs");
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is UTF-8")
}

fn host(server: &Server, name: &str) -> Option<Host> {
    let hosts: Vec<Host> = server.get("/api/v1/hosts").ok()?;
    hosts.into_iter().find(|host| host.name == name)
}

fn is_in(server: &Server, name: &str, state: &str) -> bool {
    host(server, name).is_some_and(|host| host.state == state)
}

/// A server, a host that joined it, and the proxy between them that sees what is sent.
struct Stage {
    runtime: tokio::runtime::Runtime,
    server: Server,
    agent: Agent,
    proxy: Proxy,
}

impl Stage {
    fn new(dir: &Path, state: &Path, launch: Launch) -> Stage {
        let data = dir.join("server");
        let server = Server::start(&data, &ServerOptions::default());
        let token = server.token(1);
        let agent = Agent::join_by(state, "web01", server.address, &token.join, launch);
        let copy = dir.join("identity-of-the-proxy");
        fs::create_dir_all(&copy).expect("a directory");
        for entry in fs::read_dir(data.join("identity")).expect("the identity") {
            let entry = entry.expect("an entry");
            fs::copy(entry.path(), copy.join(entry.file_name())).expect("a copy");
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let proxy = runtime.block_on(Proxy::start(server.address, &copy, state));
        agent.configure(TICK_MS, &format!("servers = [\"{}\"]", proxy.address));
        Stage {
            runtime,
            server,
            agent,
            proxy,
        }
    }

    fn sent(&self) -> Vec<Item> {
        let seen = self
            .proxy
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        seen.sent.values().cloned().collect()
    }

    fn ticks(&self) -> usize {
        let ticks = |item: &Item| matches!(item, Item::Tick(_));
        self.sent().into_iter().filter(ticks).count()
    }

    fn end(self) {
        drop(self.agent);
        drop(self.proxy);
        self.runtime.shutdown_background();
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "one story, told in order")]
fn each_command_says_what_is_wrong_and_ends_with_its_code() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&dir.path().join("server"), &ServerOptions::default());
    let other = Server::start(&dir.path().join("other"), &ServerOptions::default());
    let (address, line) = (server.address.to_string(), server.token(2).join);
    let state = dir.path().join("state");
    let at = ["--state", text(&state)];
    let run = |words: &[&str]| agent(&[words, &at].concat());

    let said = run(&["run"]);
    assert_eq!(said.code, 78, "{}", said.err);
    assert!(
        said.err.contains("dawnwatch-agent join SERVER LINE"),
        "{}",
        said.err
    );
    let said = run(&["doctor"]);
    assert_eq!(said.code, 78, "{}", said.err);
    assert!(said.out.contains("FAIL  identity"), "{}", said.out);
    assert!(!state.exists(), "looking made something");

    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("its address").to_string()
    };
    let secret = line
        .rsplit('.')
        .next()
        .expect("a line has parts")
        .to_owned();
    for (server, line, code, told) in [
        (
            closed.as_str(),
            line.as_str(),
            69,
            "check the address, that the server runs",
        ),
        (&address, "dw1.cut", 65, "2 parts"),
        (
            &other.address.to_string(),
            &line,
            77,
            "Nothing was sent to it",
        ),
        ("https://x", &line, 64, "scheme"),
    ] {
        let said = run(&["join", server, line]);
        assert_eq!(said.code, code, "{}", said.err);
        assert!(said.err.contains(told), "{}", said.err);
        assert!(!said.err.contains(&secret), "{}", said.err);
    }

    let said = run(&["join", &address, &line, "--hostname", "web01"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("joined as web01"), "{}", said.out);
    let next = format!("dawnwatch-agent run --state {}", state.display());
    assert!(said.out.contains(&next), "{}", said.out);
    let again = run(&["join", &address, &line, "--hostname", "web01"]);
    assert_eq!(again.code, 0, "{}", again.err);
    let id = |said: &Said| said.out.split(['(', ')']).nth(1).map(str::to_owned);
    assert_eq!(id(&again), id(&said), "another host");
    assert!(again.out.contains("as before"), "{}", again.out);

    let said = run(&["doctor"]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert!(said.out.contains("ok    certificate"), "{}", said.out);
    assert!(
        said.out.contains(&format!("ok    server {address}")),
        "{}",
        said.out
    );
    let said = agent(&["collect", "--once"]);
    assert!(
        said.code == 0 && said.out.contains("node_load1 "),
        "{}",
        said.out
    );
    assert_eq!(agent(&["collect"]).code, 64);
    assert_eq!(agent(&["run", "--tick-seconds", "0"]).code, 64);

    let said = run(&["leave"]);
    assert_eq!(said.code, 64);
    assert!(said.err.contains("leave --yes"), "{}", said.err);
    let mut running = Agent::join(&state, "web01", server.address, &line);
    running.configure(TICK_MS, "");
    running.start();
    until_true("the host to be live", SOON, || {
        is_in(&server, "web01", "live")
    });
    for second in [run(&["run"]), run(&["leave", "--yes"])] {
        assert_eq!(second.code, 73, "{}", second.err);
        assert!(second.err.contains("in use by another"), "{}", second.err);
    }
    assert!(running.stop().is_some_and(|status| status.success()));
    let said = run(&["leave", "--yes"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("the server knows"), "{}", said.out);
    until_true("the host to have left", SOON, || {
        host(&server, "web01").is_none_or(|host| host.state == "goodbye")
    });
    assert!(!state.join("identity.json").exists() && !state.join("spool").exists());
    assert_eq!(run(&["run"]).code, 78);
    assert!(!running.log().contains(&secret), "{}", running.log());
    drop(server);
    let said = agent(&["--config", "/nonexistent/x.toml", "doctor"]);
    assert_eq!(said.code, 78, "{}", said.err);
    let bad = dir.path().join("bad.toml");
    fs::write(&bad, "server = \"mon\"\ntick_seconds = 0\n").expect("a file");
    let said = agent(&["--config", text(&bad), "run"]);
    assert_eq!(said.code, 78, "{}", said.err);
    assert!(said.err.contains("has 2 mistakes:"), "{}", said.err);
}

/// Acknowledgements come once a minute in quiet running, and 64 batches may be in flight: an agent that ticks fast must not
/// run into its own bound in between.
#[test]
fn a_fast_agent_is_not_held_up_by_quiet_acknowledgements() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&dir.path().join("server"), &ServerOptions::default());
    let state = dir.path().join("state");
    let mut running = Agent::join(&state, "web01", server.address, &server.token(1).join);
    running.configure(50, "");
    running.start();
    until_true(
        "three times as many samples as may be in flight",
        SOON / 2,
        || {
            let path = "/api/v1/history?host=web01&series=node_load1";
            server
                .get::<dawnwatch_proto::api::History>(path)
                .is_ok_and(|history| history.samples > 192)
        },
    );
}

#[test]
fn a_join_beside_a_running_agent_is_taken_up() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let old = Server::start(&dir.path().join("old"), &ServerOptions::default());
    let new = Server::start(&dir.path().join("new"), &ServerOptions::default());
    let state = dir.path().join("state");
    let mut running = Agent::join(&state, "web01", old.address, &old.token(1).join);
    running.configure(TICK_MS, "");
    running.start();
    until_true("the host to be live", SOON, || is_in(&old, "web01", "live"));
    let _ = Agent::join(&state, "web01", new.address, &new.token(1).join);
    until_true("the other server to have it", SOON, || {
        is_in(&new, "web01", "live")
    });
    assert!(
        running.log().contains("a join beside this agent"),
        "{}",
        running.log()
    );
    assert!(running.stop().is_some_and(|status| status.success()));
}

#[test]
fn a_server_that_is_gone_is_one_plain_line_and_another_is_tried() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut server = Server::start(&dir.path().join("server"), &ServerOptions::default());
    let state = dir.path().join("state");
    let mut agent = Agent::join(&state, "web01", server.address, &server.token(1).join);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let closed = listener.local_addr().expect("its address");
    drop(listener);
    let servers = format!("servers = [\"{closed}\", \"{}\"]", server.address);
    agent.configure(TICK_MS, &servers);
    agent.start();
    until_true("the host to be live", SOON, || {
        is_in(&server, "web01", "live")
    });
    let log = agent.log();
    assert!(log.contains(&format!("no connection to {closed}")), "{log}");
    assert!(
        log.contains("check the address, that the server runs, and firewalls"),
        "{log}"
    );
    server.kill();
    let lost = format!("connection to {} lost: ", server.address);
    until_true("the loss to be told", SOON, || agent.log().contains(&lost));
    assert!(!agent.log().contains("close_notify"), "{}", agent.log());
    let _server = server.kill_and_start(&ServerOptions::default());
    until_true("it to be connected again", SOON, || {
        agent.log().matches(" connected").count() >= 2
    });
    let log = agent.log();
    assert_eq!(log.matches(&lost).count(), 1, "{log}");
    assert_eq!(log.matches("first sample acknowledged").count(), 1, "{log}");
}

#[test]
fn a_full_disk_costs_ticks_that_are_counted_and_no_heartbeat() {
    if !needs::are_met(&[Need::Mounts]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let tmpfs = Tmpfs::mount(&dir.path().join("small"), "4m");
    let mut stage = Stage::new(dir.path(), &tmpfs.point.join("state"), Launch::default());
    // The log and the configuration lie on the small disk too, and are there already.
    stage.agent.start();
    until_true("the host to be live", SOON, || {
        is_in(&stage.server, "web01", "live")
    });
    let filler = tmpfs.point.join("filler");
    fill(&filler, 2.0);
    let full_at = real_now();
    let heard = || host(&stage.server, "web01").and_then(|host| host.last_seen);
    let later = full_at + SignedDuration::from_secs(20);
    until_true("heartbeats from a full disk", SOON, || {
        heard().is_some_and(|at| at > later)
    });
    assert!(is_in(&stage.server, "web01", "live"));
    let before = stage.ticks();
    fs::remove_file(&filler).expect("space again");
    until_true("ticks after the full disk", SOON, || {
        stage.ticks() > before + 5
    });
    // Now and then the disk takes a short record after all: there may be several gaps.
    let mut lost = 0;
    let mut until = full_at;
    for item in stage.sent() {
        if let Item::Gap(gap) = item
            && gap.reason == GapReason::DiskFull
        {
            assert!(gap.from > full_at - SignedDuration::from_secs(5), "{gap:?}");
            until = until.max(gap.to);
            lost += gap.ticks;
        }
    }
    assert!(
        until > later - SignedDuration::from_secs(5),
        "the gap ends at {until}"
    );
    // Twenty seconds have a hundred ticks; some found room in the last page.
    assert!((40..200).contains(&lost), "{lost} ticks counted as lost");
    stage.end();
}

#[test]
fn a_state_directory_that_cannot_be_written_is_told_once_and_clearly() {
    if !needs::are_met(&[Need::Mounts]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&dir.path().join("server"), &ServerOptions::default());
    let tmpfs = Tmpfs::mount(&dir.path().join("disk"), "4m");
    let state = tmpfs.point.join("state");
    let line = server.token(1).join;
    let _ = Agent::join(&state, "web01", server.address, &line);
    let remount = |how: &str| {
        let mut mount = Command::new("mount");
        let options = format!("remount,{how}");
        mount.args(["-o", &options]).arg(&tmpfs.point);
        assert!(mount.status().is_ok_and(|status| status.success()));
    };
    remount("ro");
    let address = server.address.to_string();
    for words in [&["run"][..], &["join", &address, &line]] {
        let said = agent(&[words, &["--state", text(&state)]].concat());
        assert_eq!(said.code, 73, "{words:?}: {}", said.err);
        assert!(said.err.contains("ead-only file system"), "{}", said.err);
    }
    remount("rw");
}

#[test]
fn neither_a_clock_that_jumps_nor_a_pause_makes_a_burst_or_a_stall() {
    if !needs::are_met(&[Need::Faketime]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut clock = FakeClock::new(dir.path(), real_now());
    let launch = Launch {
        env: clock.env(),
        ..Launch::default()
    };
    let mut stage = Stage::new(dir.path(), &dir.path().join("state"), launch);
    stage.agent.start();
    until_true("ticks", SOON, || stage.ticks() > 5);
    // Three seconds have fifteen ticks.
    let window = Duration::from_secs(3);
    let in_window = |what: &str| {
        let before = stage.ticks();
        std::thread::sleep(window);
        let ticks = stage.ticks() - before;
        assert!(
            (6..=22).contains(&ticks),
            "{what}: {ticks} ticks in {window:?}"
        );
    };
    in_window("before");
    for hours in [1, -2, 24 * 365, -24 * 365] {
        clock.set(clock.now() + SignedDuration::from_hours(hours));
        in_window(&format!("{hours} h"));
    }
    let pid = stage.agent.pid().and_then(|pid| i32::try_from(pid).ok());
    let pid = pid.and_then(Pid::from_raw).expect("the agent runs");
    kill_process(pid, Signal::STOP).expect("it stops");
    std::thread::sleep(Duration::from_secs(6));
    let before = stage.ticks();
    kill_process(pid, Signal::CONT).expect("it goes on");
    std::thread::sleep(Duration::from_secs(2));
    let ticks = stage.ticks() - before;
    assert!(
        (3..=14).contains(&ticks),
        "{ticks} ticks in the two seconds after a pause"
    );
    stage.end();
}

#[test]
fn a_certificate_is_renewed_at_half_of_its_life() {
    if !needs::are_met(&[Need::Faketime]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let _ = binary("dawnwatch-agent");
    let mut clock = FakeClock::new(dir.path(), real_now());
    let options = ServerOptions {
        env: clock.env(),
        ..ServerOptions::default()
    };
    let server = Server::start(&dir.path().join("server"), &options);
    let launch = Launch {
        env: clock.env(),
        ..Launch::default()
    };
    let state = dir.path().join("state");
    let line = server.token(1).join;
    let mut agent = Agent::join_by(&state, "web01", server.address, &line, launch);
    agent.configure(TICK_MS, "");
    agent.start();
    until_true("the first acknowledgement", SOON, || {
        agent.log().contains("first sample acknowledged")
    });
    assert!(!agent.log().contains("certificate renewed"), "too early");
    agent.stop();
    let identity = || fs::read_to_string(state.join("identity.json")).expect("the identity");
    let before = identity();
    clock.set(clock.now() + SignedDuration::from_hours(20 * 24));
    agent.start();
    until_true("the renewal", SOON, || {
        agent.log().contains("certificate renewed")
    });
    until_true("an acknowledgement after it", SOON, || {
        agent.log().matches("first sample acknowledged").count() == 2
    });
    assert_ne!(identity(), before);
    assert!(!state.join("identity.pending.json").exists());
}

/// A relay whose connections can be frozen: both ends stay open, and nothing passes any more.
struct Relay {
    address: SocketAddr,
    connections: Arc<Mutex<Vec<Arc<Connection>>>>,
}

#[derive(Default)]
struct Connection {
    frozen: AtomicBool,
    withheld: AtomicU64,
    /// When agent and server closed it.
    ended: Mutex<[Option<Instant>; 2]>,
}

impl Relay {
    fn start(server: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let address = listener.local_addr().expect("its address");
        let connections = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&connections);
        std::thread::spawn(move || {
            for agent in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(server) else {
                    continue;
                };
                let connection = Arc::new(Connection::default());
                list.lock().expect("no panic").push(Arc::clone(&connection));
                let (up, down) = (Arc::clone(&connection), connection);
                let ends = (agent.try_clone(), server.try_clone());
                let (Ok(agent_too), Ok(server_too)) = ends else {
                    continue;
                };
                std::thread::spawn(move || pass(agent, server_too, &up, 0));
                std::thread::spawn(move || pass(server, agent_too, &down, 1));
            }
        });
        Relay {
            address,
            connections,
        }
    }

    fn freeze(&self) -> Vec<Arc<Connection>> {
        let list = self.connections.lock().expect("no panic").clone();
        for connection in &list {
            connection.frozen.store(true, Ordering::SeqCst);
        }
        list
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "a relay measures real connections"
)]
fn pass(mut from: TcpStream, mut to: TcpStream, connection: &Connection, side: usize) {
    let mut bytes = [0; 4_096];
    while let Ok(n) = from.read(&mut bytes)
        && n > 0
    {
        if connection.frozen.load(Ordering::SeqCst) {
            connection.withheld.fetch_add(n as u64, Ordering::SeqCst);
        } else if to.write_all(&bytes[..n]).is_err() {
            break;
        }
    }
    connection.ended.lock().expect("no panic")[side] = Some(Instant::now());
    // The end of a frozen connection does not pass either.
    if !connection.frozen.load(Ordering::SeqCst) {
        let _ = to.shutdown(Shutdown::Both);
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "what is measured is real time")]
fn both_ends_notice_within_twenty_seconds_that_nothing_passes() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&dir.path().join("server"), &ServerOptions::default());
    let relay = Relay::start(server.address);
    let state = dir.path().join("state");
    let mut agent = Agent::join(&state, "web01", server.address, &server.token(1).join);
    agent.configure(TICK_MS, &format!("servers = [\"{}\"]", relay.address));
    agent.start();
    until_true("the host to be live", SOON, || {
        is_in(&server, "web01", "live")
    });
    // The negative control: without a fault nothing ends.
    std::thread::sleep(Duration::from_secs(3));
    let connections = relay.freeze();
    let began = Instant::now();
    assert_eq!(connections.len(), 1);
    let ends = until("both ends to close", Duration::from_secs(40), || {
        let ended = *connections[0].ended.lock().expect("no panic");
        ended[0].zip(ended[1])
    });
    assert!(
        connections[0].withheld.load(Ordering::SeqCst) > 0,
        "nothing was withheld"
    );
    let seconds = [ends.0, ends.1].map(|end| (end - began).as_secs_f64());
    println!(
        "agent after {:.1} s, server after {:.1} s",
        seconds[0], seconds[1]
    );
    assert!(seconds.iter().all(|s| *s <= 21.0), "{seconds:?}");
    until_true("it to be connected again", SOON, || {
        agent.log().matches(" connected").count() >= 2
    });
    assert!(agent.log().contains("no answer"), "{}", agent.log());
    let _ = agent.stop();
}
