//! What may stand between the spool and its disk in tests.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use dawnwatch_segment::DiskFile;
use dawnwatch_segment::hooked::Hooks;

/// Between two looks at whether the test lets go.
const STEP: Duration = Duration::from_millis(1);

/// A disk some of whose files cannot be opened for reading, nor read where they are open, while its mood is bad.
#[derive(Debug)]
pub(crate) struct Mood {
    /// How the names of these files begin.
    names: &'static str,
    /// How many further reads fail.
    bad: AtomicU64,
    failed: AtomicU64,
}

impl Mood {
    /// A good mood about files whose names begin like this.
    pub(crate) fn about(names: &'static str) -> Mood {
        Mood {
            names,
            bad: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Makes reads fail, or not, until told otherwise.
    pub(crate) fn set(&self, is_bad: bool) {
        let bad = if is_bad { u64::MAX } else { 0 };
        self.bad.store(bad, Ordering::SeqCst);
    }

    /// How many reads have failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::SeqCst)
    }
}

impl Hooks for Mood {
    fn read(&self, path: &Path) -> io::Result<()> {
        let name = path.file_name().and_then(|name| name.to_str());
        if !name.is_some_and(|name| name.starts_with(self.names)) {
            return Ok(());
        }
        let less = |left: u64| left.checked_sub(1);
        let order = Ordering::SeqCst;
        if self.bad.fetch_update(order, order, less).is_err() {
            return Ok(());
        }
        self.failed.fetch_add(1, order);
        Err(io::Error::other("too many open files"))
    }
}

/// A disk whose syncs of files take as long as the test wants.
#[derive(Debug, Default)]
pub(crate) struct Held(AtomicBool);

impl Held {
    /// While it holds, no sync ends.
    pub(crate) fn set(&self, holds: bool) {
        self.0.store(holds, Ordering::SeqCst);
    }
}

impl Hooks for Held {
    fn sync_data(&self, file: &mut dyn DiskFile) -> io::Result<()> {
        while self.0.load(Ordering::SeqCst) {
            std::thread::sleep(STEP);
        }
        file.sync_data()
    }
}
