//! The threads that nobody waits for.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use dawnwatch_segment::Disk;
use tokio::sync::mpsc;

use super::Failed;
use crate::erase::Eraser;
use crate::history::History;
use crate::identity::Identity;
use crate::index::Index;
use crate::journal::Submit;
use crate::scrub::Scrub;

/// What they work with.
pub(super) struct With<'a> {
    pub(super) disk: &'a Arc<dyn Disk>,
    pub(super) data: &'a Path,
    pub(super) history: &'a Arc<History>,
    pub(super) index: &'a Arc<Index>,
    pub(super) identity: &'a Arc<Identity>,
    pub(super) journal: &'a mpsc::Sender<Submit>,
    pub(super) stopping: &'a Arc<AtomicBool>,
}

/// Starts those who erase and who look for damage; they end soon after the server is told to stop.
/// After the engine heard of the start, which ends what the last run said: what they find is said of this one.
pub(super) fn start(with: With<'_>) -> Result<[JoinHandle<()>; 2], Failed> {
    let eraser = Eraser {
        disk: Arc::clone(with.disk),
        data: with.data.to_owned(),
        history: Arc::clone(with.history),
        index: Arc::clone(with.index),
        journal: with.journal.clone(),
        stopping: Arc::clone(with.stopping),
    };
    let scrub = Scrub {
        data: with.data.to_owned(),
        history: Arc::clone(with.history),
        identity: Arc::clone(with.identity),
        journal: with.journal.clone(),
        stopping: Arc::clone(with.stopping),
    };
    let failed = |name| move |source| Failed::thread(name, source);
    let eraser = eraser.start().map_err(failed("erase"))?;
    Ok([eraser, scrub.start().map_err(failed("scrub"))?])
}
