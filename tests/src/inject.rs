//! Processes whose system calls fail, hang, lie or kill where a test says so, by strace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::chance::{Chance, setting};
use crate::say;
use crate::wait::until_true;

/// strace is at work within this.
const WITHIN: Duration = Duration::from_secs(20);

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The process is killed as it makes it.
    Kill,
    /// It fails with this.
    Error(&'static str),
    /// It says that it was done, and nothing is.
    Lie,
    /// It takes so many microseconds longer.
    Slow(u32),
}

/// A fault: which calls, what becomes of them, and which of them (each thread counts its own).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// System calls by name, with commas between.
    pub calls: &'static str,
    /// What becomes of them.
    pub what: What,
    /// The number of the call from 1 on; 0 for each.
    pub nth: u32,
}

impl Fault {
    /// The words before a program that has the fault from its start. It keeps the process id that it was started with.
    #[must_use]
    pub fn from_start(&self, log: &Path) -> Vec<String> {
        self.from_start_on(log, &[])
    }

    /// The same for calls on these files alone; on any where none are named.
    #[must_use]
    pub fn from_start_on(&self, log: &Path, files: &[PathBuf]) -> Vec<String> {
        let mut words = vec!["strace".to_owned(), "-D".to_owned()];
        words.extend(self.words(log, files));
        words
    }

    /// Puts the fault on a process that runs.
    ///
    /// # Panics
    /// Where strace does not get hold of it.
    #[must_use]
    pub fn attach(&self, pid: u32, log: &Path) -> Attached {
        self.attach_on(pid, log, &[])
    }

    /// The same for calls on these files alone; on any where none are named.
    ///
    /// # Panics
    /// As [`Fault::attach`] does.
    #[must_use]
    pub fn attach_on(&self, pid: u32, log: &Path, files: &[PathBuf]) -> Attached {
        let mut strace = Command::new("strace");
        strace
            .args(self.words(log, files))
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit());
        let child = strace.spawn().expect("strace starts");
        let mut attached = Attached { child };
        until_true("strace to be attached to each thread", WITHIN, || {
            let strace = attached
                .child
                .try_wait()
                .expect("a child can be waited for");
            if let Some(strace) = strace {
                // Where the process was killed by the first call that it made, there is nothing left to be attached to.
                assert!(
                    strace.success(),
                    "strace does not get hold of process {pid}"
                );
                return true;
            }
            let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
                return true;
            };
            let traced = |path: PathBuf| {
                let status = fs::read_to_string(path.join("status")).unwrap_or_default();
                !status.contains("TracerPid:\t0\n")
            };
            threads.flatten().all(|thread| traced(thread.path()))
        });
        attached
    }

    fn words(&self, log: &Path, files: &[PathBuf]) -> Vec<String> {
        let calls = self.calls;
        let what = match self.what {
            What::Kill => "signal=KILL".to_owned(),
            What::Error(error) => format!("error={error}"),
            What::Lie => "retval=0".to_owned(),
            What::Slow(us) => format!("delay_enter={us}"),
        };
        let nth = match self.nth {
            0 => String::new(),
            nth => format!(":when={nth}"),
        };
        let log = log.display();
        let words = format!("-f -y -qq -o {log} -e trace={calls} -e inject={calls}:{what}{nth}");
        let on = |file: &PathBuf| ["-P".to_owned(), file.display().to_string()];
        let words = words.split(' ').map(str::to_owned);
        words.chain(files.iter().flat_map(on)).collect()
    }
}

/// What is gone through: kinds of calls, what becomes of them, and up to which number.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What the result is called.
    pub name: &'static str,
    /// Calls, and what becomes of them.
    pub kinds: Vec<(&'static str, What)>,
    /// The quick form begins no round after this.
    pub within: Duration,
    /// Highest number of a call that is tried, quick and long.
    pub nth_quick: u64,
    /// See `nth_quick`.
    pub nth_long: u32,
}

/// Numbers without a fault that fired before the long form goes on to the next call: each thread counts its own.
const UNREACHED_MAX: u32 = 3;

impl Plan {
    /// Goes through calls, faults and numbers: by a seed for a time, or with `DAWNWATCH_INJECT_ALL` through all of them. A round says whether its
    /// fault fired; gives how many did.
    #[allow(clippy::disallowed_methods, reason = "a harness with a time box")]
    pub fn run(&self, mut round: impl FnMut(Fault) -> bool) -> usize {
        let seed = setting("DAWNWATCH_SEED", 20_261_122);
        let (mut tried, mut hit) = (0, 0);
        let mut one = |fault| {
            let reached = round(fault);
            tried += 1;
            hit += usize::from(reached);
            reached
        };
        if setting("DAWNWATCH_INJECT_ALL", 0) > 0 {
            for (calls, what) in self.kinds.iter().copied() {
                let mut unreached = 0;
                for nth in 1..=self.nth_long {
                    let reached = one(Fault { calls, what, nth });
                    unreached = if reached { 0 } else { unreached + 1 };
                    if unreached == UNREACHED_MAX {
                        break;
                    }
                }
            }
        } else {
            let (mut chance, end) = (Chance::new(seed), Instant::now() + self.within);
            while Instant::now() < end {
                let (calls, what) = self.kinds[chance.index(self.kinds.len())];
                let nth = u32::try_from(1 + chance.below(self.nth_quick)).unwrap_or(1);
                one(Fault { calls, what, nth });
            }
        }
        let name = self.name;
        say(&format!(
            "RESULT {name} seed={seed} rounds={tried} fired={hit} not_done_again=0"
        ));
        hit
    }
}

/// The calls that a fault befell, as strace wrote them down.
#[must_use]
pub fn fired(log: &Path) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let hit = |line: &&str| {
        line.contains("(INJECTED)") || line.contains("(DELAYED)") || line.ends_with("= ?")
    };
    text.lines().filter(hit).map(str::to_owned).collect()
}

/// strace on a running process; the process goes on without it when it is dropped.
#[derive(Debug)]
pub struct Attached {
    child: Child,
}

impl Drop for Attached {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok();
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            // By this signal it lets go; killed outright it would too, but between two calls of the process only.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}
