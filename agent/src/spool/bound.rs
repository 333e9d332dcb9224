//! What leaves the spool: what the server holds, and, over the bound, the oldest segments.

use dawnwatch_proto::{GapReason, Item};
use dawnwatch_segment::{Log, SegmentInfo};

use super::epoch::Epoch;
use super::{Cursor, Spool};

/// Epochs named in one hello: a host in a crash loop starts more often than this, and its oldest starts are counted.
pub(super) const EPOCHS_MAX: usize = 256;

impl Spool {
    /// Removes what the server holds.
    pub(super) fn release(&mut self) {
        let mut below = 1;
        for epoch in &self.epochs {
            below = epoch.base + epoch.acked + 1;
            if epoch.acked < epoch.last_seq() {
                break;
            }
        }
        let current = self.epochs.len().saturating_sub(1);
        let mut index = 0;
        self.epochs.retain(|e| {
            index += 1;
            index > current || e.acked < e.last_seq()
        });
        if self.kept.last() > 0 && self.kept.last() < below {
            self.kept.remove(self.disk.as_ref(), &self.dir);
        }
        if let Some(log) = &mut self.log {
            if let Err(error) = log.release(below) {
                self.trouble = Some(format!(
                    "the spool cannot remove what is delivered: {error}"
                ));
            }
            let first = log.first_position();
            for epoch in &mut self.epochs {
                let held = if self.kept.covers(epoch.id) {
                    epoch.first
                } else {
                    first
                };
                epoch.first = held.clamp(epoch.base + 1, epoch.last + 1);
            }
        }
    }

    /// Drops whole segments, oldest first, until the bounds hold.
    pub(super) fn enforce(&mut self) {
        while let Some(reason) = self.over_bound() {
            let Some(oldest) = self
                .log
                .as_ref()
                .and_then(|log| log.segments().first())
                .cloned()
            else {
                return;
            };
            self.drop_segment(&oldest, reason);
            let gone = |log: &Log| log.segments().first().is_none_or(|s| s.name != oldest.name);
            if !self.log.as_ref().is_some_and(gone) {
                return;
            }
        }
        self.forget_oldest_epochs();
    }

    /// Bounds the hello: the count of the oldest epoch goes to the one under way.
    fn forget_oldest_epochs(&mut self) {
        let first = self.log.as_ref().map_or(0, Log::first_position);
        while self.epochs.len() > EPOCHS_MAX && self.epochs[0].last < first {
            let epoch = self.epochs.remove(0);
            if let Some(gap) = self.kept.forget(epoch.id) {
                self.losses.add(&Item::Gap(gap), GapReason::SpoolFull);
            }
            self.kept.save(self.disk.as_ref(), &self.dir);
        }
    }

    fn over_bound(&self) -> Option<GapReason> {
        let log = self.log.as_ref()?;
        let [oldest, _, ..] = log.segments() else {
            return None;
        };
        let rest = log.next_position() - 1 - oldest.last_position;
        if self.bytes() + self.limits.segment_bytes() > self.limits.bytes_max {
            Some(GapReason::SpoolFull)
        } else if rest >= self.limits.items_max {
            Some(GapReason::TooOld)
        } else if self.epochs.len() > EPOCHS_MAX && self.epochs[0].last >= oldest.first_position {
            Some(GapReason::SpoolFull)
        } else {
            None
        }
    }

    /// Moves what must survive of the oldest segment to `kept`, then removes the segment.
    fn drop_segment(&mut self, segment: &SegmentInfo, reason: GapReason) {
        // By the table of epochs, not by its header: that may be what is damaged.
        let holds =
            |e: &&Epoch| e.base < segment.first_position && segment.first_position <= e.last;
        if let Some(epoch) = self.epochs.iter().find(holds).copied()
            && epoch.base + epoch.acked < segment.last_position
        {
            let Epoch { id, base, .. } = epoch;
            // What the server holds of it is no loss any more; beside what follows it would leave a hole in the file.
            if self.kept.last_seq(id) <= epoch.acked {
                self.kept.forget(id);
            }
            let from = (segment.first_position - base)
                .max(epoch.acked + 1)
                .max(self.kept.last_seq(id) + 1);
            let to = segment.last_position - base;
            let mut cursor = Cursor::new(id, from);
            while let Some(entry) = self.entry(&mut cursor, to) {
                self.kept.add(id, base, entry, reason);
            }
            self.kept.cut(self.limits.segment_bytes());
        }
        self.drops += 1;
        let is_kept = self.kept.save(self.disk.as_ref(), &self.dir);
        if let Some(log) = &mut self.log
            && let Err(error) = log.release(segment.last_position + 1)
        {
            self.failed(&error);
        }
        if !is_kept {
            // On a full disk the segment had to go first.
            self.kept.save(self.disk.as_ref(), &self.dir);
        }
    }
}
