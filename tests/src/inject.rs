//! Processes whose system calls fail, hang, lie or kill where a test says so, by strace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

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
        let mut words = vec!["strace".to_owned(), "-D".to_owned()];
        words.extend(self.words(log));
        words
    }

    /// Puts the fault on a process that runs.
    ///
    /// # Panics
    /// Where strace does not get hold of it.
    #[must_use]
    pub fn attach(&self, pid: u32, log: &Path) -> Attached {
        let mut strace = Command::new("strace");
        strace
            .args(self.words(log))
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

    fn words(&self, log: &Path) -> Vec<String> {
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
        words.split(' ').map(str::to_owned).collect()
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
