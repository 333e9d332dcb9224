//! The thread that seals hours. There is one for the life of the server: the allocator keeps what sealing an hour took for the
//! thread that took it, and a new thread each hour would be given room of its own, hour after hour.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;

use crate::history;

/// The sealing of one hour.
type Work = Box<dyn FnOnce() -> Result<(), history::Error> + Send>;

/// What came of it; an error where it panicked.
pub(super) type Outcome = thread::Result<Result<(), history::Error>>;

/// Seals one hour after the other, beside the watch.
#[derive(Debug)]
pub(super) struct Sealer {
    works: SyncSender<Work>,
    outcomes: Receiver<Outcome>,
    is_busy: bool,
}

impl Sealer {
    /// Starts its thread, which ends with this.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn start() -> std::io::Result<Sealer> {
        let (works, taken) = sync_channel::<Work>(1);
        let (told, outcomes) = sync_channel(1);
        thread::Builder::new()
            .name("seal".to_owned())
            .spawn(move || {
                for work in taken {
                    if told.send(catch_unwind(AssertUnwindSafe(work))).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Sealer {
            works,
            outcomes,
            is_busy: false,
        })
    }

    /// Whether an hour is being sealed, or nobody has heard yet what came of it.
    pub(super) fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Begins to seal an hour; the one before is over, and was heard of.
    pub(super) fn begin(&mut self, work: Work) {
        assert!(!self.is_busy, "one hour at a time");
        self.is_busy = true;
        self.works.send(work).expect("its thread catches panics");
    }

    /// What came of the hour, if it is over.
    pub(super) fn ended(&mut self) -> Option<Outcome> {
        match self.outcomes.try_recv() {
            Ok(outcome) => {
                self.is_busy = false;
                Some(outcome)
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }

    /// Waits for what comes of the hour; none where no hour is being sealed.
    pub(super) fn wait(&mut self) -> Option<Outcome> {
        if !self.is_busy {
            return None;
        }
        self.is_busy = false;
        Some(self.outcomes.recv().expect("its thread catches panics"))
    }
}
