//! What was sent and not acknowledged, and how much of it there may be.
//!
//! A heartbeat queues behind what the kernel already holds. So on a slow link little may be under way at once: the
//! window shrinks where acknowledgements are slow while a backlog drains, and grows where they are quick.

use std::collections::VecDeque;

/// Most batches in flight (DESIGN section 8).
pub(crate) const BATCHES_MAX: usize = 64;

/// Smallest window: 16 seconds of a 64 kbit/s link.
const BYTES_MIN: usize = 128 * 1024;

/// Largest window: what a server journals in one group.
const BYTES_MAX: usize = 2 * 1024 * 1024;

/// An acknowledgement within this time says that the link carries more.
const QUICK_MS: u64 = 2_000;

/// One later than this says that it carries less.
const SLOW_MS: u64 = 8_000;

/// Without any acknowledgement for this long the stream is dead, whatever TCP thinks; in quiet running one comes a minute.
const DEAD_MS: u64 = 180_000;

#[derive(Debug)]
struct Sent {
    epoch: u32,
    last_seq: u64,
    bytes: usize,
    at_ms: u64,
    backlog: bool,
}

/// Batches in flight.
#[derive(Debug)]
pub(crate) struct Window {
    sent: VecDeque<Sent>,
    bytes: usize,
    bytes_max: usize,
}

impl Window {
    pub(crate) fn new() -> Window {
        Window {
            sent: VecDeque::new(),
            bytes: 0,
            bytes_max: BYTES_MIN * 2,
        }
    }

    /// Whether another batch may be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.sent.len() < BATCHES_MAX && self.bytes < self.bytes_max
    }

    /// A batch was sent; `backlog`: more was waiting behind it.
    pub(crate) fn sent(
        &mut self,
        epoch: u32,
        last_seq: u64,
        bytes: usize,
        at_ms: u64,
        backlog: bool,
    ) {
        self.bytes += bytes;
        self.sent.push_back(Sent {
            epoch,
            last_seq,
            bytes,
            at_ms,
            backlog,
        });
    }

    /// Everything up to this number of this epoch (and of those before it) is durable on the server.
    pub(crate) fn acked(&mut self, epoch: u32, seq: u64, now_ms: u64) {
        while let Some(first) = self.sent.front()
            && (first.epoch, first.last_seq) <= (epoch, seq)
        {
            let took_ms = now_ms.saturating_sub(first.at_ms);
            if first.backlog && took_ms > SLOW_MS {
                self.bytes_max = (self.bytes_max / 2).max(BYTES_MIN);
            } else if first.backlog && took_ms < QUICK_MS {
                self.bytes_max = (self.bytes_max + first.bytes).min(BYTES_MAX);
            }
            self.bytes -= first.bytes;
            self.sent.pop_front();
        }
    }

    /// Whether the oldest batch has waited so long that nobody will acknowledge it.
    pub(crate) fn is_dead(&self, now_ms: u64) -> bool {
        self.sent
            .front()
            .is_some_and(|first| now_ms.saturating_sub(first.at_ms) > DEAD_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixty_four_batches_are_the_most() {
        let mut window = Window::new();
        for seq in 1..=64 {
            assert!(window.has_room());
            window.sent(0, seq, 10, 0, false);
        }
        assert!(!window.has_room());
        window.acked(0, 1, 1);
        assert!(window.has_room());
        window.acked(0, 64, 1);
        assert!(window.sent.is_empty() && window.bytes == 0);
    }

    #[test]
    fn an_acknowledgement_covers_earlier_epochs_only() {
        let mut window = Window::new();
        window.sent(0, 90, 1, 0, true);
        window.sent(1, 5, 1, 0, true);
        window.sent(1, 9, 1, 0, true);
        window.acked(1, 5, 1);
        assert_eq!(window.sent.len(), 1);
        window.acked(0, 1_000, 1);
        assert_eq!(window.sent.len(), 1);
    }

    #[test]
    fn a_slow_link_gets_less_and_a_quick_one_more() {
        let drain = |took_ms| {
            let mut window = Window::new();
            for seq in 1..=100 {
                window.sent(0, seq, 60_000, 0, true);
                window.acked(0, seq, took_ms);
            }
            window.bytes_max
        };
        assert_eq!(drain(10_000), BYTES_MIN);
        assert_eq!(drain(100), BYTES_MAX);
        assert_eq!(drain(5_000), BYTES_MIN * 2);
        let mut quiet = Window::new();
        quiet.sent(0, 1, 200, 0, false);
        assert!(!quiet.is_dead(60_000) && quiet.is_dead(180_001));
        quiet.acked(0, 1, 60_000);
        assert_eq!(quiet.bytes_max, BYTES_MIN * 2);
        assert!(!quiet.is_dead(u64::MAX));
    }
}
