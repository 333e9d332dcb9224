//! Another wall clock for processes, set by the test while they run (libfaketime).
//!
//! Only `CLOCK_REALTIME` is another; what passes, passes at the usual pace. The clock is a distance to the real one and the
//! same for every process that is given [`FakeClock::env`], whenever it starts.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::{SignedDuration, Timestamp};

/// Where Debian puts the library, one directory an architecture.
const LIBRARIES: &str = "/usr/lib";

/// A wall clock that the test sets.
#[derive(Debug)]
pub struct FakeClock {
    file: PathBuf,
    library: PathBuf,
    ahead: SignedDuration,
}

impl FakeClock {
    /// A clock that shows this time at this moment. Its file lies in `dir`.
    ///
    /// # Panics
    /// Where libfaketime is not installed ([`crate::needs`] says whether it is), or the file cannot be written.
    #[must_use]
    pub fn new(dir: &Path, shows: Timestamp) -> FakeClock {
        let library = library().expect("libfaketime is installed");
        let ahead = SignedDuration::ZERO;
        let mut clock = FakeClock {
            file: dir.join("faketime"),
            library,
            ahead,
        };
        clock.set(shows);
        clock
    }

    /// Sets it: it shows this time at this moment, in every process that has it.
    ///
    /// # Panics
    /// Where its file cannot be written.
    pub fn set(&mut self, shows: Timestamp) {
        self.ahead = shows.duration_since(real_now());
        // Renamed into place: no process reads half a number.
        let half = self.file.with_extension("half");
        fs::write(&half, format!("{:+.3}\n", self.ahead.as_secs_f64())).expect("the clock is set");
        fs::rename(&half, &self.file).expect("the clock is set");
    }

    /// What it shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        real_now() + self.ahead
    }

    /// The environment of a process that has this clock.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        let pairs = [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    /// The environment of a process that has this clock as it stands, and hears nothing of later settings: it reads no file at
    /// each look.
    #[must_use]
    pub fn env_as_it_stands(&self) -> Vec<(String, String)> {
        let mut env = self.env();
        env.retain(|(name, _)| {
            !matches!(
                name.as_str(),
                "FAKETIME_TIMESTAMP_FILE" | "FAKETIME_NO_CACHE"
            )
        });
        let ahead = format!("{:+.3}", self.ahead.as_secs_f64());
        env.push(("FAKETIME".to_owned(), ahead));
        env
    }
}

/// The library for programs with threads; none where it is not installed.
#[must_use]
pub fn library() -> Option<PathBuf> {
    let dirs = fs::read_dir(LIBRARIES)
        .ok()?
        .flatten()
        .map(|entry| entry.path());
    let mut found = dirs
        .map(|dir| dir.join("faketime/libfaketimeMT.so.1"))
        .filter(|path| path.exists());
    found.next()
}

/// Removes what the library leaves in shared memory when its process is killed.
pub fn sweep(pid: u32) {
    for name in [
        format!("faketime_shm_{pid}"),
        format!("sem.faketime_sem_{pid}"),
    ] {
        // Most often there is nothing: a process that ends by itself sweeps for itself.
        let _ = fs::remove_file(Path::new("/dev/shm").join(name));
    }
}

/// The real time.
#[must_use]
#[allow(
    clippy::disallowed_methods,
    reason = "a fake clock is a distance to the real one"
)]
pub fn real_now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::UNIX_EPOCH + SignedDuration::try_from(since).unwrap_or_default()
}
