//! How the agent that runs here is doing, for who waits for it: a small file in the state directory.
//!
//! It is written when something changes, a few times a day as a rule, and not synced: it is about this run alone, and a file
//! that a crash left behind is told by its `pid` and `started`.
//!
//! ```text
//! dawnwatch-agent status 1          magic and version; a reader of another version takes it as absent
//! pid 4711
//! started 2026-10-05T06:00:00Z
//! server mon01:7443                 while a stream is up
//! sampled 2026-10-05T06:00:07Z      when the server acknowledged the first sample of this run
//! trouble cannot resolve mon01 ...  why there is no stream
//! ```

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;

use jiff::Timestamp;

use crate::clock::Clock;
use crate::uplink::Shared;

/// Its name in the state directory.
const FILE: &str = "status";

/// First line of the file.
const HEAD: &str = "dawnwatch-agent status 1";

/// Longest file that is read, and longest trouble that is written: a sentence.
const BYTES_MAX: usize = 4 * 1024;

/// How an agent is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Its process.
    pub pid: u32,
    /// When it started, by this host's clock.
    pub started: Timestamp,
    /// The server whose stream is up.
    pub server: Option<String>,
    /// When the first sample of this run was acknowledged.
    pub sampled: Option<Timestamp>,
    /// Why there is no stream.
    pub trouble: Option<String>,
}

impl Status {
    /// Reads what the agent of a state directory wrote last; none where there is nothing, or nothing that can be understood.
    #[must_use]
    pub fn read(state: &Path) -> Option<Status> {
        let mut text = String::new();
        let file = fs::File::open(state.join(FILE)).ok()?;
        file.take(BYTES_MAX as u64).read_to_string(&mut text).ok()?;
        parse(&text)
    }

    /// Forgets what an earlier run wrote.
    ///
    /// # Errors
    /// Where the file is there and cannot be removed.
    pub fn forget(state: &Path) -> io::Result<()> {
        match fs::remove_file(state.join(FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn write(&self, state: &Path) -> io::Result<()> {
        let next = state.join("status.next");
        fs::write(&next, self.text())?;
        fs::rename(next, state.join(FILE))
    }

    fn text(&self) -> String {
        let mut text = format!("{HEAD}\npid {}\nstarted {}\n", self.pid, self.started);
        let mut line = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                let one = value.replace(['\n', '\r'], " ");
                let end = one.floor_char_boundary(BYTES_MAX / 4);
                text.push_str(&format!("{key} {}\n", &one[..end]));
            }
        };
        line("server", self.server.clone());
        line("sampled", self.sampled.map(|at| at.to_string()));
        line("trouble", self.trouble.clone());
        text
    }
}

fn parse(text: &str) -> Option<Status> {
    let rest = text.strip_prefix(HEAD)?.strip_prefix('\n')?;
    let mut status = Status::default();
    for line in rest.lines() {
        let (key, value) = line.split_once(' ')?;
        match key {
            "pid" => status.pid = value.parse().ok()?,
            "started" => status.started = Timestamp::from_str(value).ok()?,
            "server" => status.server = Some(value.to_owned()),
            "sampled" => status.sampled = Some(Timestamp::from_str(value).ok()?),
            "trouble" => status.trouble = Some(value.to_owned()),
            // A later build may say more.
            _ => {}
        }
    }
    Some(status)
}

/// Keeps the file true, for ever. A disk that takes nothing is told by the spool; here it is no reason to stop.
pub async fn run(shared: &Shared, state: &Path, clock: Clock) {
    let mut status = Status {
        pid: std::process::id(),
        started: clock.wall(),
        ..Status::default()
    };
    loop {
        let progress = shared.progress();
        if progress.is_sampled && status.sampled.is_none() {
            status.sampled = Some(clock.wall());
        }
        (status.server, status.trouble) = (progress.server, progress.trouble);
        if let Err(error) = status.write(state) {
            tracing::debug!(%error, "cannot write the status file");
        }
        shared.progressed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Status::read(dir.path()), None);
        let status = Status {
            pid: 4_711,
            started: "2026-10-05T06:00:00Z".parse().unwrap(),
            server: Some("mon01:7443".to_owned()),
            sampled: Some("2026-10-05T06:00:07Z".parse().unwrap()),
            trouble: Some("two\nlines".to_owned()),
        };
        status.write(dir.path()).unwrap();
        let want = "dawnwatch-agent status 1\npid 4711\nstarted 2026-10-05T06:00:00Z\nserver mon01:7443\n\
                    sampled 2026-10-05T06:00:07Z\ntrouble two lines\n";
        assert_eq!(fs::read_to_string(dir.path().join(FILE)).unwrap(), want);
        let read = Status::read(dir.path()).unwrap();
        assert_eq!(read.trouble.as_deref(), Some("two lines"));
        assert_eq!((read.pid, read.sampled), (status.pid, status.sampled));
        Status::forget(dir.path()).unwrap();
        Status::forget(dir.path()).unwrap();
        assert_eq!(Status::read(dir.path()), None);
    }

    #[test]
    fn odd_files_are_no_status() {
        for text in [
            "",
            "dawnwatch-agent status 2\npid 1\n",
            "dawnwatch-agent status 1\npid x\n",
            "dawnwatch-agent status 1\npid\n",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert!(parse("dawnwatch-agent status 1\npid 1\nmood good\n").is_some());
    }
}
