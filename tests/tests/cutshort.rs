//! `backup`, `restore` and `rollback` that are killed, or whose disk fails, at any call: done again they succeed; half a backup, half a
//! data directory and half a rollback are never taken for whole ones; and the data they work on are not hurt.
//!
//! Time-boxed for `tests/run`; `tests/soak first` goes through all calls. `DAWNWATCH_SEED` repeats a run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use dawnwatch_proto::api::History;
use dawnwatch_tests::house::{Agent, Server, ServerOptions, binary};
use dawnwatch_tests::inject::{Fault, Plan, What, fired};
use dawnwatch_tests::needs::{Need, are_met};
use dawnwatch_tests::wait::until_true;

/// Calls that make, fill, name, remove and make durable what lies on disk.
const CALLS: [&str; 6] = [
    "write,?copy_file_range,?sendfile",
    "fsync,fdatasync,?syncfs",
    "?rename,?renameat,?renameat2,?link,?linkat",
    "?unlink,?unlinkat,?rmdir",
    "?mkdir,?mkdirat",
    "ftruncate,?fchmod,?chmod,?fchmodat",
];

/// The quick form begins no round after this, each of the three.
const WITHIN: Duration = Duration::from_secs(9);

/// Highest number of a call that is tried, quick and long.
const NTH_QUICK: u64 = 20;
const NTH_LONG: u32 = 200;

const SOON: Duration = Duration::from_secs(60);

/// Data directories that all rounds begin from; nobody changes them.
struct Made {
    _dir: tempfile::TempDir,
    /// Of a server that ran for a while.
    early: PathBuf,
    /// The same after it ran once more: its last start was one of another version, so that it has a way back.
    late: PathBuf,
    /// A backup of `early`.
    backup: PathBuf,
}

static MADE: LazyLock<Made> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| dir.path().join(name);
    let (early, late, backup) = (at("early"), at("late"), at("backup"));
    let mut server = Server::start(&early, &ServerOptions::default());
    let token = server.token(1);
    let mut agent = Agent::join(&at("web01"), "web01", server.address, &token.join);
    agent.configure(50, "");
    agent.start();
    await_samples(&server, 20);
    server.stop();
    drop(server);
    agent.stop();
    good(&care(&early, &["backup", &text_of(&backup)]));
    copy_dir(&early, &late);
    // As if the version before had written it.
    let version = fs::read_to_string(late.join("version")).expect("the version");
    let (body, _) = version.split_once("sum ").expect("a checksum");
    let body = body.replace("server 0", "server 00");
    let sum = crc32c::crc32c(body.as_bytes());
    fs::write(late.join("version"), format!("{body}sum {sum:08x}\n")).expect("a version");
    let mut server = Server::start(&late, &ServerOptions::default());
    let token = server.token(1);
    let mut agent = Agent::join(&at("web02"), "web02", server.address, &token.join);
    agent.configure(50, "");
    agent.start();
    until_true("a way back", SOON, || late.join("pre-upgrade").is_dir());
    server.stop();
    agent.stop();
    Made {
        _dir: dir,
        early,
        late,
        backup,
    }
});

#[test]
fn a_backup_that_was_cut_short_is_made_again() {
    if !are_met(&[Need::Strace]) {
        return;
    }
    let made = &*MADE;
    // Its own: a backup stages its snapshot within the data, and other tests look at those meanwhile.
    let own = tempfile::tempdir().expect("a temporary directory");
    let data = own.path().join("data");
    copy_dir(&made.late, &data);
    let before = contents(&data);
    let fired = plan("backup").run(|fault| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (to, back) = (dir.path().join("backup"), dir.path().join("back"));
        // Every second one into an earlier backup.
        let earlier = fault.nth.is_multiple_of(2);
        if earlier {
            copy_dir(&made.backup, &to);
        }
        let first = broken(fault, dir.path(), &data, &["backup", &text_of(&to)]);
        // Nothing is said to be a backup that is none.
        let put = care(&back, &["restore", &text_of(&to)]);
        let is_one = to.join("MANIFEST").exists();
        assert!(is_one || !earlier, "the earlier one is gone: {first:?}");
        assert_eq!(put.status.success(), is_one, "{first:?}\n{put:?}");
        if is_one {
            good(&care(&back, &["verify"]));
            fs::remove_dir_all(&back).expect("it is there");
        }
        good(&care(&data, &["backup", &text_of(&to)]));
        good(&care(&back, &["restore", &text_of(&to)]));
        good(&care(&back, &["verify"]));
        first.hit
    });
    assert!(fired > 0, "the fault never happened");
    let after = contents(&data);
    assert!(before == after, "the data are not what they were");
}

#[test]
fn a_restore_that_was_cut_short_is_done_again() {
    if !are_met(&[Need::Strace]) {
        return;
    }
    let made = &*MADE;
    let from = text_of(&made.backup);
    let before = contents(&made.backup);
    let mut halves = 0;
    let fired = plan("restore").run(|fault| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let back = dir.path().join("back");
        let first = broken(fault, dir.path(), &back, &["restore", &from]);
        let half = back.join("restoring").exists();
        halves += usize::from(half);
        if half {
            // Neither started nor backed up.
            let start = ["run", "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0"];
            let refused = care(&back, &start);
            let said = text(&refused);
            assert_eq!(refused.status.code(), Some(78), "{first:?}\n{said}");
            assert!(said.contains("restore again"), "{said}");
            let to = text_of(&dir.path().join("to"));
            assert!(!care(&back, &["backup", &to]).status.success(), "{first:?}");
        }
        let whole = !half && fs::read_dir(&back).is_ok_and(|mut held| held.next().is_some());
        if whole {
            assert!(text(&care(&back, &["restore", &from])).contains("something in it"));
        } else {
            good(&care(&back, &["restore", &from]));
        }
        good(&care(&back, &["verify"]));
        assert!(back.join("restored").exists(), "{first:?}");
        first.hit
    });
    assert!(fired > 0 && halves > 0, "the fault never happened");
    assert!(before == contents(&made.backup), "the backup changed");
}

#[test]
fn a_rollback_that_was_cut_short_is_done_again() {
    if !are_met(&[Need::Strace]) {
        return;
    }
    let made = &*MADE;
    let (before, after) = (contents(&made.early), contents(&made.late));
    let fired = plan("rollback").run(|fault| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data = dir.path().join("data");
        copy_dir(&made.late, &data);
        let first = broken(fault, dir.path(), &data, &["rollback"]);
        let midway = ["leaving", "returning"].map(|end| data.join(format!("pre-upgrade.{end}")));
        if midway.iter().any(|mark| mark.exists()) {
            let start = ["run", "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0"];
            let refused = care(&data, &start);
            assert_eq!(refused.status.code(), Some(78), "{first:?}\n{refused:?}");
        } else if data.join("pre-upgrade").exists() {
            assert!(
                contents(&data) == after,
                "not begun, and changed: {first:?}"
            );
        }
        if !data.join("restored").exists() || midway.iter().any(|mark| mark.exists()) {
            let again = care(&data, &["rollback"]);
            assert!(again.status.success(), "{first:?}\n{}", text(&again));
        }
        good(&care(&data, &["verify"]));
        let aside = contents(&data.join("after-upgrade"));
        assert!(aside == after, "what was put aside is not whole: {first:?}");
        let back = contents(&data);
        for (path, bytes) in &before {
            // Who is who stays as it is; of logs the whole frames are kept.
            if !path.starts_with("identity/") {
                let same = back
                    .get(path)
                    .map_or(0, |found| found.len().min(bytes.len()));
                let found = back.get(path).map(|found| &found[..same]);
                assert_eq!(found, Some(&bytes[..same]), "{path}: {first:?}");
            }
        }
        let hosts = |all: &BTreeMap<String, Vec<u8>>| all["identity/state.json"].clone();
        assert!(hosts(&back) == hosts(&after), "{first:?}");
        first.hit
    });
    assert!(fired > 0, "the fault never happened");
}

/// What came of a command with a fault.
#[derive(Debug)]
#[allow(dead_code, reason = "what it said is for whoever reads a failure")]
struct First {
    hit: bool,
    fault: Fault,
    calls: Vec<String>,
    said: String,
}

fn broken(fault: Fault, dir: &Path, data: &Path, words: &[&str]) -> First {
    let log = dir.join("strace");
    let before = fault.from_start(&log);
    let mut command = Command::new(&before[0]);
    command.args(&before[1..]).arg(binary("dawnwatch-server"));
    command.arg("--data").arg(data).args(words);
    let output = command.stdin(Stdio::null()).output().expect("strace runs");
    let (said, calls) = (text(&output), fired(&log));
    // What is said to people is no file.
    let of_files = |call: &&String| !call.contains("write(1<") && !call.contains("write(2<");
    let hit = calls.iter().any(|call| of_files(&call));
    assert!(!said.contains("panicked"), "{fault:?}: {calls:?}\n{said}");
    First {
        hit,
        fault,
        calls,
        said,
    }
}

fn plan(name: &'static str) -> Plan {
    let whats = [What::Kill, What::Error("EIO"), What::Error("ENOSPC")];
    let kinds = CALLS
        .iter()
        .flat_map(|calls| whats.map(|what| (*calls, what)));
    Plan {
        name,
        kinds: kinds.collect(),
        within: WITHIN,
        nth_quick: NTH_QUICK,
        nth_long: NTH_LONG,
    }
}

fn await_samples(server: &Server, least: usize) {
    let path = "/api/v1/history?host=web01&series=node_load1&from=2020-01-01T00:00:00Z";
    until_true("samples", SOON, || {
        let history = server.get::<History>(path);
        history.is_ok_and(|history| history.points.len() >= least)
    });
}

fn care(data: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(binary("dawnwatch-server"));
    command.arg("--data").arg(data).args(words);
    command.stdin(Stdio::null()).output().expect("it runs")
}

fn good(output: &Output) {
    assert!(output.status.success(), "{}", text(output));
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    let text = [String::from_utf8_lossy(out), String::from_utf8_lossy(err)];
    text.concat()
}

fn text_of(path: &Path) -> String {
    path.display().to_string()
}

/// All files of the rooms below a directory, without the zeros at the end of a log.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).expect("a directory").flatten() {
            let path = entry.path();
            let name = path.strip_prefix(dir).expect("below it");
            let name = name.display().to_string();
            let other = [
                "pre-upgrade",
                "after-upgrade",
                "index",
                "LOCK",
                "restored",
                "reserve",
                "first-",
                "version",
                "clean",
            ];
            if other.iter().any(|other| name.starts_with(other)) {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else if path.is_file() {
                let mut bytes = fs::read(&path).expect("a file");
                let written = bytes.iter().rposition(|byte| *byte != 0);
                bytes.truncate(written.map_or(0, |last| last + 1));
                all.insert(name, bytes);
            }
        }
    }
    all
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
