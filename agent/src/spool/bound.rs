//! What leaves the spool: what the server holds, and, over the bound, the oldest segments.

use dawnwatch_proto::{Gap, GapReason, Item};
use dawnwatch_segment::{Log, SegmentInfo};

use super::epoch::Epoch;
use super::kept::join;
use super::sync::Unsynced;
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
            self.unreadable.released(first);
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

    /// Drops whole segments, oldest first, until the bounds hold, or until one cannot be read: that is tried again.
    pub(super) fn enforce(&mut self) {
        self.put_off = false;
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
    }

    /// Does what had to wait, where nothing else is being written: tells strays, drops what could not be read before, bounds
    /// the hello, and saves what the disk did not take before.
    pub(super) fn keep_bounds(&mut self) {
        self.tell_strays();
        if self.put_off || self.epochs.len() > EPOCHS_MAX {
            self.enforce();
        }
        self.forget_oldest_epochs();
        if self.kept.is_unsaved() {
            self.kept.save(self.disk.as_ref(), &self.dir);
        }
    }

    /// Bounds the hello: the count of the oldest epochs goes to the one under way, and only then they go from `kept`.
    fn forget_oldest_epochs(&mut self) {
        let first = self.log.as_ref().map_or(0, Log::first_position);
        let over = self.epochs.len().saturating_sub(EPOCHS_MAX);
        let oldest = self.epochs.iter().take(over);
        let gone: Vec<u64> = oldest
            .take_while(|e| e.last < first)
            .map(|e| e.id)
            .collect();
        if gone.is_empty() {
            return;
        }
        let mut rest = self.kept.clone();
        let gap = gone.iter().filter_map(|id| rest.forget(*id)).reduce(join);
        if let Some(gap) = gap
            && !self.tell(gap, GapReason::SpoolFull)
        {
            return;
        }
        for id in gone {
            self.kept.forget(id);
            self.epochs.retain(|epoch| epoch.id != id);
        }
        self.kept.save(self.disk.as_ref(), &self.dir);
    }

    /// Tells of segments of which nobody knows whose they were, then removes them, so that they are counted once.
    fn tell_strays(&mut self) {
        let Some((last, gap)) = self.strays.take() else {
            return;
        };
        if !self.tell(gap.clone(), GapReason::SpoolDamaged) {
            self.strays = Some((last, gap));
            return;
        }
        self.strays_told = last;
        // Where it fails they go with what the server acknowledges next.
        if let Some(log) = &mut self.log
            && let Err(error) = log.release(last + 1)
        {
            self.trouble = Some(format!("the spool cannot remove what is damaged: {error}"));
        }
    }

    /// Writes a gap under one number of its own and makes it durable, before what it counts goes for good. A power cut between the
    /// two counts it twice, where the other order would not count it at all. Whether the disk took it.
    fn tell(&mut self, mut gap: Gap, reason: GapReason) -> bool {
        let seq = self.next_seq();
        (gap.from_seq, gap.to_seq, gap.reason) = (seq, seq, reason);
        if let Err(error) = self.write_one(&Item::Gap(gap), None) {
            if let Some(error) = error {
                self.failed(&error);
            }
            return false;
        }
        match self.log.as_mut().map(Log::sync) {
            Some(Ok(_)) => self.unsynced = Unsynced::since(self.newest),
            // It is among what was not synced, and counted again where it is lost.
            Some(Err(error)) => self.failed(&error),
            None => {}
        }
        true
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

    /// Moves what must survive of the oldest segment to `kept`, then removes the segment. One that cannot be read stays until
    /// it can, or counts as damaged: in ticks that is no more than a few KiB over the bound.
    fn drop_segment(&mut self, segment: &SegmentInfo, reason: GapReason) {
        // By the table of epochs, not by its header: that may be what is damaged.
        let holds =
            |e: &&Epoch| e.base < segment.first_position && segment.first_position <= e.last;
        if let Some(epoch) = self.epochs.iter().find(holds).copied()
            && epoch.base + epoch.acked < segment.last_position
        {
            let Epoch { id, base, .. } = epoch;
            let before = self.kept.clone();
            // What the server holds of it is no loss any more; beside what follows it would leave a hole in the file.
            if self.kept.last_seq(id) <= epoch.acked {
                self.kept.forget(id);
            }
            let from = (segment.first_position - base)
                .max(epoch.acked + 1)
                .max(self.kept.last_seq(id) + 1);
            let to = segment.last_position.min(epoch.last) - base;
            let mut cursor = Cursor::new(id, from);
            while let Some(entry) = self.entry(&mut cursor, to) {
                self.kept.add(id, base, entry, reason);
            }
            if cursor.next_seq() <= to {
                self.kept = before;
                self.put_off = true;
                return;
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
        self.unreadable.released(segment.last_position + 1);
    }
}
