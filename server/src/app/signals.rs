//! What the server is told from outside.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failed;

/// The signals that it listens for.
pub(super) struct Signals {
    pub(super) terminate: Signal,
    pub(super) interrupt: Signal,
    pub(super) hang_up: Signal,
}

impl Signals {
    /// Begins to listen.
    pub(super) fn listen() -> Result<Signals, Failed> {
        let listen = |kind| signal(kind).map_err(Failed::signals);
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal to end.
    pub(super) async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
