//! System calls of server and agent that kill, or fail, at the Nth time: from the start of the process, or once it is at work.
//! Whatever happens, nothing acknowledged is lost or doubled, the process ends by itself or can be stopped, the next start
//! succeeds and is served, and the ledger is whole. A sync of journal or ledger that failed ends the server.
//!
//! Quick here: time-boxed, at calls, faults and numbers that a seed gives. `tests/soak inject` goes through all of them.

use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use dawnwatch_tests::chance::{Chance, setting};
use dawnwatch_tests::house::binary;
use dawnwatch_tests::inject::{Fault, What, fired};
use dawnwatch_tests::needs::{Need, are_met};
use dawnwatch_tests::oracle::Found;
use dawnwatch_tests::say;
use dawnwatch_tests::stage::{SOON, Stage};
use dawnwatch_tests::wait::until;
use rustix::process::Signal;

/// Calls that change what is on disk, or make it durable.
const CALLS: [&str; 6] = [
    "pwrite64",
    "fsync,fdatasync",
    "?rename,?renameat,?renameat2",
    "?unlink,?unlinkat",
    "ftruncate,fallocate",
    "?mkdir,?mkdirat",
];

/// Calls that are killed at as well. They do not fail on whatever they are made: an event that wakes a thread is written too, and no disk
/// fails that.
const CALLS_TO_DIE_AT: [&str; 2] = ["write,writev", "openat"];

/// Calls that fail on files alone, those of [`Site::files`].
const CALLS_ON_FILES: &str = "write";

/// A server under test writes no more frames of the journal than this until it is stopped.
const FRAMES_MAX: u64 = 2_000;

/// A process is watched for this long for its fault; then it is told to stop, which makes further calls.
const WATCHED: Duration = Duration::from_millis(500);

/// After its fault a process has this long to end by itself.
const ENDING: Duration = Duration::from_millis(1_500);

/// After so many rounds a house is left for a fresh one: so that what is compared stays small.
const ROUNDS: usize = 25;

/// Highest number of a call that the quick form takes, and the long one.
const NTH_QUICK: u64 = 4;
const NTH_LONG: u32 = 200;

/// The quick form begins no round after this.
const WITHIN: Duration = Duration::from_secs(55);

/// Numbers without a fault that fired before the long form goes on to the next call: each thread counts its own.
const UNREACHED_MAX: u32 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Server,
    Agent,
}

/// When the fault is put on the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    FromStart,
    AtWork,
}

const WHENS: [When; 2] = [When::FromStart, When::AtWork];

#[derive(Debug, Clone, Copy)]
struct Round {
    who: Who,
    when: When,
    fault: Fault,
}

/// What came of all rounds.
#[derive(Debug, Default)]
struct Toll {
    rounds: usize,
    kills: usize,
    errors: usize,
    unreached: usize,
    ended: usize,
    found: Found,
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a harness with a time box")]
fn nothing_acknowledged_is_lost_by_calls_that_kill_or_fail() {
    if !are_met(&[Need::Strace]) {
        return;
    }
    let seed = setting("DAWNWATCH_SEED", 20_261_122);
    let mut chance = Chance::new(seed);
    let mut toll = Toll::default();
    let mut site = Site::start();
    // A checkpoint is written at each stop.
    let fault = Fault {
        calls: CALLS_ON_FILES,
        what: What::Error("EIO"),
        nth: 1,
    };
    let (who, when) = (Who::Server, When::AtWork);
    let failed = site.round(Round { who, when, fault }, &mut toll);
    assert!(failed, "no write of a file failed");
    let all = setting("DAWNWATCH_INJECT_ALL", 0) > 0;
    let (mut kinds, end) = (kinds(), Instant::now() + WITHIN);
    while !kinds.is_empty() && (all || Instant::now() < end) {
        let (who, calls, what) = kinds.swap_remove(chance.index(kinds.len()));
        if all {
            site.all_numbers(who, calls, what, &mut toll);
        } else {
            let when = WHENS[chance.index(WHENS.len())];
            let nth = u32::try_from(1 + chance.below(NTH_QUICK)).unwrap_or(1);
            let fault = Fault { calls, what, nth };
            site.round(Round { who, when, fault }, &mut toll);
        }
    }
    site.leave(&mut toll);
    say(&toll.line(seed));
    assert!(
        toll.kills > 0 && toll.errors > 0,
        "the fault never happened"
    );
    assert!(toll.found.compared > 100, "next to nothing was compared");
}

/// Every kind of fault.
fn kinds() -> Vec<(Who, &'static str, What)> {
    let mut kinds = Vec::new();
    for who in [Who::Server, Who::Agent] {
        for calls in CALLS {
            let whats = [What::Kill, What::Error("EIO"), What::Error("ENOSPC")];
            kinds.extend(whats.map(|what| (who, calls, what)));
        }
        kinds.extend(CALLS_TO_DIE_AT.map(|calls| (who, calls, What::Kill)));
        let whats = [What::Kill, What::Error("EIO"), What::Error("ENOSPC")];
        kinds.extend(whats.map(|what| (who, CALLS_ON_FILES, what)));
    }
    kinds
}

impl Toll {
    fn line(&self, seed: u64) -> String {
        format!(
            "RESULT inject seed={seed} rounds={} kills={} errors={} unreached={} ended_by_error={} compared={} lost={} repeated={}",
            self.rounds,
            self.kills,
            self.errors,
            self.unreached,
            self.ended,
            self.found.compared,
            self.found.lost.len(),
            self.found.repeated
        )
    }
}

/// A house that is broken again and again.
struct Site {
    stage: Stage,
    dir: tempfile::TempDir,
    rounds: usize,
}

impl Site {
    fn start() -> Site {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Site {
            stage: Stage::start(dir.path(), dir.path(), 1),
            dir,
            rounds: 0,
        }
    }

    /// One kind of fault at every number that is reached.
    fn all_numbers(&mut self, who: Who, calls: &'static str, what: What, toll: &mut Toll) {
        for when in WHENS {
            let mut unreached = 0;
            for nth in 1..=NTH_LONG {
                let fault = Fault { calls, what, nth };
                let reached = self.round(Round { who, when, fault }, toll);
                unreached = if reached { 0 } else { unreached + 1 };
                if unreached == UNREACHED_MAX {
                    break;
                }
            }
        }
    }

    /// One fault and what must hold after it; whether it happened.
    fn round(&mut self, round: Round, toll: &mut Toll) -> bool {
        if self.rounds == ROUNDS {
            std::mem::replace(self, Site::start()).leave(toll);
            say(&toll.line(0));
        }
        self.rounds += 1;
        toll.rounds += 1;
        let log = self.dir.path().join(format!("strace.{}", self.rounds));
        let said = self.said().len();
        let before = self.stage.acked();
        let ended = match round.who {
            Who::Server => self.break_server(round, &log),
            Who::Agent => self.break_agent(round, &log),
        };
        let hit = fired(&log);
        let said = self.said().split_off(said);
        let told = || format!("{round:?}\n{hit:#?}\n{ended:?}\n{said}");
        assert_eq!(panics(&said), Vec::<&str>::new(), "{}", told());
        let killed = ended.is_some_and(|status| status.code().is_none());
        match round.fault.what {
            _ if hit.is_empty() && !killed => toll.unreached += 1,
            What::Kill => {
                assert!(killed, "not killed: {}", told());
                toll.kills += 1;
            }
            What::Error(_) | What::Lie | What::Slow(_) => {
                toll.errors += 1;
                toll.ended += usize::from(ended.is_some());
                let sync = |line: &String| {
                    let durable = ["/journal/", "/ledger/"]
                        .iter()
                        .any(|log| line.contains(log));
                    line.contains("sync(") && durable
                };
                let must_end = round.who == Who::Server && hit.iter().any(sync);
                assert!(
                    !must_end || ended.is_some_and(|status| status.code() == Some(74)),
                    "went on after a failed sync: {}",
                    told()
                );
            }
        }
        self.serve(&before, &told());
        let found = self.stage.check();
        assert!(found.is_good(), "{found:?}\n{}", told());
        killed || !hit.is_empty()
    }

    /// Starts all that is down, without faults, and waits until it serves.
    fn serve(&mut self, before: &[usize], told: &str) {
        if self.stage.server.is_none() {
            let started = self.stage.start_server(Vec::new());
            assert!(started.is_ok(), "does not start again: {started:?}\n{told}");
        }
        // Anew in any case: an agent that waits before it tries again costs time.
        let agent = &mut self.stage.guests[0].agent;
        agent.kill();
        agent.start_through(Vec::new());
        agent.start();
        self.stage.await_acks(before);
    }

    /// How the server ended by itself, if it did; it is down at the end.
    #[allow(clippy::unwrap_in_result, reason = "a test may panic")]
    fn break_server(&mut self, round: Round, log: &std::path::Path) -> Option<ExitStatus> {
        let files = self.files(round);
        let attached = match round.when {
            When::FromStart => {
                self.stage.kill_server();
                let through = round.fault.from_start_on(log, &files);
                if let Err(ended) = self.stage.start_server(through) {
                    return Some(ended.status);
                }
                None
            }
            When::AtWork => {
                let pid = self.stage.server().pid();
                Some(round.fault.attach_on(pid, log, &files))
            }
        };
        let mut server = self.stage.server.take().expect("it was started");
        let mut ended = watch(log, &mut || server.ended());
        if ended.is_none() {
            server.signal(Signal::TERM);
            let stopped = until("the server to stop", SOON, || server.ended());
            // A stop that a fault befell has failed; else it is no end by itself.
            ended = (!stopped.success()).then_some(stopped);
        }
        drop(attached);
        ended
    }

    /// How the agent ended by itself, if it did; it is down at the end.
    #[allow(clippy::unwrap_in_result, reason = "a test may panic")]
    fn break_agent(&mut self, round: Round, log: &std::path::Path) -> Option<ExitStatus> {
        let files = self.files(round);
        let agent = &mut self.stage.guests[0].agent;
        let attached = match round.when {
            When::FromStart => {
                agent.kill();
                agent.start_through(round.fault.from_start_on(log, &files));
                agent.start();
                None
            }
            When::AtWork => {
                let pid = agent.pid().expect("it runs");
                Some(round.fault.attach_on(pid, log, &files))
            }
        };
        let mut ended = watch(log, &mut || agent.ended());
        if ended.is_none() {
            agent.signal(Signal::TERM);
            let stopped = until("the agent to stop", SOON, || agent.ended());
            ended = (!stopped.success()).then_some(stopped);
        }
        drop(attached);
        ended
    }

    /// The files that are written by plain calls: the server's checkpoint, its marks and who is who, the agent's cursors of its logs. None
    /// where a fault is on any file.
    fn files(&self, round: Round) -> Vec<PathBuf> {
        if round.fault.calls != CALLS_ON_FILES {
            return Vec::new();
        }
        let (server, agent) = (
            self.dir.path().join("server"),
            self.dir.path().join("web01"),
        );
        if round.who == Who::Agent {
            let cursor = |slot| agent.join(format!("logs/cursor.{slot}"));
            return (0..3).map(cursor).collect();
        }
        let held = std::fs::read_dir(server.join("checkpoint"))
            .into_iter()
            .flatten();
        let number = |path: PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
        let last = held
            .flatten()
            .filter_map(|entry| number(entry.path()))
            .max();
        let frames = last.unwrap_or(0)..last.unwrap_or(0) + FRAMES_MAX;
        let checkpoints = frames.map(|frame| format!("checkpoint/{frame:020}.tmp"));
        let others = ["clean.tmp", "version.tmp", "identity/.state.json.tmp"];
        let all = checkpoints.chain(others.map(str::to_owned));
        all.map(|name| server.join(name)).collect()
    }

    /// What both logged so far.
    fn said(&self) -> String {
        let logs = ["server.server.log", "web01.agent.log"];
        let read = |name: &&str| std::fs::read(self.dir.path().join(name)).unwrap_or_default();
        let text = logs.iter().map(read);
        text.map(|text| String::from_utf8_lossy(&text).into_owned())
            .collect()
    }

    /// The end of a house: all is compared, and the ledger is whole.
    fn leave(mut self, toll: &mut Toll) {
        let found = self.stage.settle();
        assert!(found.is_good(), "{found:?}");
        toll.found.add(found);
        self.stage.stop_server();
        let data: PathBuf = self.dir.path().join("server");
        let mut verify = Command::new(binary("dawnwatch-server"));
        let verified = verify.arg("--data").arg(data).arg("verify").output();
        let verified = verified.expect("dawnwatch-server runs");
        assert!(verified.status.success(), "{verified:?}");
    }
}

/// Where something of ours panicked. What the index is made with does where its own sync fails; that is caught, and the index is
/// built anew.
fn panics(said: &str) -> Vec<&str> {
    let ours = |line: &&str| line.contains("panicked at") && !line.contains("/registry/src/");
    said.lines().filter(ours).collect()
}

/// Waits until a process ends by itself after its fault; none where there is no fault in time, or it goes on.
#[allow(clippy::disallowed_methods, reason = "a harness with a time box")]
fn watch(
    log: &std::path::Path,
    ended: &mut dyn FnMut() -> Option<ExitStatus>,
) -> Option<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = ended() {
            return Some(status);
        }
        let within = if fired(log).is_empty() {
            WATCHED
        } else {
            ENDING
        };
        if start.elapsed() > within {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
