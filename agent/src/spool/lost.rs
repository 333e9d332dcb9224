//! What the disk did not take, counted until it takes something again.

use dawnwatch_proto::{Gap, GapReason, Item};
use jiff::Timestamp;

use super::record::times;

/// Losses not told yet, one for each reason.
#[derive(Debug, Default)]
pub(super) struct Losses {
    open: Vec<Gap>,
}

/// How much is lost, and of what time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lost {
    pub(super) ticks: u64,
    pub(super) events: u64,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

impl Losses {
    /// Counts an item.
    pub(super) fn add(&mut self, item: &Item, reason: GapReason) {
        let (ticks, events) = match item {
            Item::Tick(_) => (1, 0),
            Item::Event(_) => (0, 1),
            Item::Gap(gap) => (gap.ticks, gap.events),
        };
        let (from, to) = times(item);
        let lost = Lost {
            ticks,
            events,
            from,
            to,
        };
        self.count(lost, reason);
    }

    /// Counts items that are not at hand.
    pub(super) fn count(&mut self, lost: Lost, reason: GapReason) {
        if let Some(gap) = self.open.iter_mut().find(|gap| gap.reason == reason) {
            gap.ticks += lost.ticks;
            gap.events += lost.events;
            gap.from = gap.from.min(lost.from);
            gap.to = gap.to.max(lost.to);
        } else {
            self.open.push(Gap {
                from_seq: 0,
                to_seq: 0,
                from: lost.from,
                to: lost.to.max(lost.from),
                ticks: lost.ticks,
                events: lost.events,
                reason,
            });
        }
    }

    /// The first loss to tell, under one sequence number of its own.
    pub(super) fn first(&self, seq: u64) -> Option<Gap> {
        let mut gap = self.open.first()?.clone();
        (gap.from_seq, gap.to_seq) = (seq, seq);
        Some(gap)
    }

    /// The first loss is on disk.
    pub(super) fn told(&mut self) {
        self.open.remove(0);
    }
}
