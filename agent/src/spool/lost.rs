//! What the disk did not take, counted until it takes something again.

use dawnwatch_proto::{Gap, GapReason, Item};
use jiff::Timestamp;

/// Losses not told yet, one for each reason.
#[derive(Debug, Default)]
pub(super) struct Losses {
    open: Vec<Gap>,
}

impl Losses {
    /// Counts an item.
    pub(super) fn add(&mut self, item: &Item, reason: GapReason) {
        let (ticks, events, from, to) = match item {
            Item::Tick(tick) => (1, 0, tick.time, tick.time),
            Item::Event(event) => (0, 1, event.time, event.time),
            Item::Gap(gap) => (gap.ticks, gap.events, gap.from, gap.to),
        };
        self.grow(ticks, events, from, to, reason);
    }

    /// Counts items whose times are not known: 1970 stands for that.
    pub(super) fn count(&mut self, ticks: u64, events: u64, reason: GapReason) {
        self.grow(
            ticks,
            events,
            Timestamp::UNIX_EPOCH,
            Timestamp::UNIX_EPOCH,
            reason,
        );
    }

    fn grow(&mut self, ticks: u64, events: u64, from: Timestamp, to: Timestamp, reason: GapReason) {
        if let Some(gap) = self.open.iter_mut().find(|gap| gap.reason == reason) {
            gap.ticks += ticks;
            gap.events += events;
            gap.from = known(gap.from, from).min(known(from, gap.from));
            gap.to = gap.to.max(to);
        } else {
            self.open.push(Gap {
                from_seq: 0,
                to_seq: 0,
                from,
                to,
                ticks,
                events,
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

/// A time, or the other one where it is not known.
fn known(time: Timestamp, other: Timestamp) -> Timestamp {
    if time == Timestamp::UNIX_EPOCH {
        other
    } else {
        time
    }
}
