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
    /// Begins to listen for those that end it: before, they end it at once.
    pub(super) fn listen(hang_up: Signal) -> Result<Signals, Failed> {
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up,
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

/// Begins to listen for the signal to reload.
pub(super) fn hang_up() -> Result<Signal, Failed> {
    listen(SignalKind::hangup())
}

fn listen(kind: SignalKind) -> Result<Signal, Failed> {
    signal(kind).map_err(Failed::signals)
}
