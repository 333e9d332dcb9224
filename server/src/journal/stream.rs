//! A stream as the journal sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

/// The journal's disk takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server's disk is full: nothing was taken in; free space in its data directory")]
pub struct Full;

/// What a stream hears: epoch id and the last sequence number that is durable, or that nothing was taken in.
pub type Heard = Result<(u64, u64), Full>;

/// A stream as the journal sees it: where it hears what is durable, as epoch id and last sequence number.
///
/// Acknowledgements are cumulative. So once something of a stream was refused, everything after it is refused as well, also
/// when there is room again: else the numbers refused would count as held. The next stream starts from what is held.
#[derive(Debug)]
pub struct Stream {
    pub(super) durable: mpsc::UnboundedSender<Heard>,
    pub(super) refused: AtomicBool,
}

impl Stream {
    /// A stream, and where its end hears from the journal.
    #[must_use]
    pub fn new() -> (Arc<Stream>, mpsc::UnboundedReceiver<Heard>) {
        let (durable, hears) = mpsc::unbounded_channel();
        let refused = AtomicBool::new(false);
        (Arc::new(Stream { durable, refused }), hears)
    }

    pub(super) fn refuse(&self) {
        self.refused.store(true, Ordering::Relaxed);
        // A stream that is gone asks anew when it comes back.
        let _ = self.durable.send(Err(Full));
    }
}
