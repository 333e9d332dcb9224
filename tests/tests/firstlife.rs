//! A first start of the server and a joining of a host that are killed, or whose disk fails, at any call: done again, they succeed.
//!
//! Time-boxed for `tests/run`; `tests/soak first` goes through all calls. `DAWNWATCH_SEED` repeats a run.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use dawnwatch_proto::api::Host;
use dawnwatch_tests::house::{Agent, Server, ServerOptions, binary};
use dawnwatch_tests::inject::{Plan, What, fired};
use dawnwatch_tests::needs::{Need, are_met};
use dawnwatch_tests::wait::until_true;

/// Calls that make, fill, name and make durable what lies on disk.
const CALLS: [&str; 6] = [
    "openat",
    "write,pwrite64",
    "fsync,fdatasync",
    "?rename,?renameat,?renameat2,?link,?linkat",
    "ftruncate,fallocate,?fchmod,?chmod,?fchmodat",
    "?mkdir,?mkdirat",
];

/// A host that joined is seen within this.
const SOON: Duration = Duration::from_secs(20);

/// The quick form begins no round after this, the first starts and the joinings each.
const WITHIN: Duration = Duration::from_secs(10);

/// Highest number of a call that is tried, quick and long.
const NTH_QUICK: u64 = 12;
const NTH_LONG: u32 = 120;

#[test]
fn a_first_start_that_was_cut_short_is_done_again() {
    if !are_met(&[Need::Strace]) {
        return;
    }
    let fired = plan("first-start").run(|fault| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (data, log) = (dir.path().join("server"), dir.path().join("strace"));
        let options = ServerOptions {
            through: fault.from_start(&log),
            ..ServerOptions::default()
        };
        let first = Server::try_start(&data, &options);
        let told = format!("{fault:?}: {first:?}");
        let hit = !fired(&log).is_empty();
        drop(first);
        let again = Server::try_start(&data, &ServerOptions::default());
        let server = again.unwrap_or_else(|ended| panic!("{told}\nand then: {}", ended.log));
        assert!(
            !server.log().contains("panicked"),
            "{told}\n{}",
            server.log()
        );
        let _agent = join_anew(&server, dir.path());
        await_hosts(&server, 1, &told);
        hit
    });
    assert!(fired > 0, "the fault never happened");
}

#[test]
fn a_joining_that_was_cut_short_is_done_again() {
    if !are_met(&[Need::Strace]) {
        return;
    }
    let house = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&house.path().join("server"), &ServerOptions::default());
    let token = server.token(10_000);
    let mut names = 0;
    let fired = plan("join").run(|fault| {
        names += 1;
        let name = format!("web{names}");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (state, log) = (dir.path().join("agent"), dir.path().join("strace"));
        let words = fault.from_start(&log);
        let mut join = Command::new(&words[0]);
        join.args(&words[1..])
            .arg(binary("dawnwatch-agent"))
            .args(["join", &server.address.to_string(), &token.join])
            .args(["--hostname", &name, "--state"])
            .arg(&state);
        let first = join.stdin(Stdio::null()).output().expect("strace runs");
        let said = String::from_utf8_lossy(&first.stderr).into_owned();
        assert!(!said.contains("panicked"), "{fault:?}: {said}");
        let mut agent = Agent::join(&state, &name, server.address, &token.join);
        // The answer to the first may have been lost, not the host: it is the same one.
        await_hosts(&server, names, &format!("{fault:?}: {said}"));
        agent.start();
        agent.stop();
        !fired(&log).is_empty()
    });
    assert!(fired > 0, "the fault never happened");
}

fn plan(name: &'static str) -> Plan {
    Plan {
        name,
        kinds: kinds(),
        within: WITHIN,
        nth_quick: NTH_QUICK,
        nth_long: NTH_LONG,
    }
}

fn kinds() -> Vec<(&'static str, What)> {
    let whats = [What::Kill, What::Error("EIO"), What::Error("ENOSPC")];
    let each = CALLS
        .iter()
        .flat_map(|calls| whats.map(|what| (*calls, what)));
    // These do not fail here: what opens and writes is more than the disk.
    each.filter(|(calls, what)| {
        *what == What::Kill || !["openat", "write,pwrite64"].contains(calls)
    })
    .collect()
}

fn join_anew(server: &Server, dir: &Path) -> Agent {
    let token = server.token(1);
    Agent::join(&dir.join("agent"), "web01", server.address, &token.join)
}

fn await_hosts(server: &Server, count: usize, told: &str) {
    let what = format!("{count} hosts after {told}");
    until_true(&what, SOON, || {
        let hosts: Vec<Host> = server.get("/api/v1/hosts").expect("hosts");
        hosts.len() == count
    });
}
