//! Segments that could not be read a moment ago.
//!
//! A host without a free descriptor, or a disk with a bad moment, says nothing of what lies on the disk: reading is tried
//! again for minutes before what stands there counts as damaged. What a checksum finds is damage at once.

use std::collections::BTreeMap;

/// Ticks for which reading at one place is tried again: five minutes at the usual pace. Counted in ticks, for a clock may
/// jump, and a host that slept for hours wakes up to a disk that is not there yet.
pub(super) const TICKS_MAX: u64 = 30;

/// Where reading fails, by the first position of the segment: no more of them than there are segments.
#[derive(Debug, Default)]
pub(super) struct Unreadable {
    /// Ticks that the spool was given.
    ticks: u64,
    places: BTreeMap<u64, Place>,
}

#[derive(Debug)]
struct Place {
    /// What was to be read. What lies before it may still be readable, and says nothing of it.
    position: u64,
    /// The count of ticks when it failed for the first time.
    since: u64,
}

impl Unreadable {
    /// A tick's time went by.
    pub(super) fn tick(&mut self) {
        self.ticks += 1;
    }

    /// Reading a position of a segment failed. Whether it has for so long that it counts as damage.
    pub(super) fn failed(&mut self, segment: u64, position: u64) -> bool {
        let since = self.ticks;
        let place = self.places.entry(segment);
        let place = place.or_insert(Place { position, since });
        place.position = place.position.min(position);
        self.ticks - place.since >= TICKS_MAX
    }

    /// Reading a position of a segment came out well.
    pub(super) fn passed(&mut self, segment: u64, position: u64) {
        if let Some(place) = self.places.get(&segment)
            && place.position <= position
        {
            self.places.remove(&segment);
        }
    }

    /// Segments before a position are gone.
    pub(super) fn released(&mut self, below: u64) {
        if !self.places.is_empty() {
            self.places = self.places.split_off(&below);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_read_before_the_place_says_nothing_of_it() {
        let mut unreadable = Unreadable::default();
        assert!(!unreadable.failed(1, 50));
        assert!(!unreadable.failed(101, 150));
        for _ in 0..TICKS_MAX {
            // A stream that begins anew comes to the same place again.
            unreadable.passed(1, 49);
            assert!(!unreadable.failed(1, 50));
            unreadable.tick();
        }
        assert!(unreadable.failed(1, 50), "minutes went by");
        unreadable.passed(1, 50);
        assert!(!unreadable.failed(1, 50), "it came to itself");
        assert!(unreadable.failed(101, 150), "the other one did not");
        unreadable.released(101);
        assert_eq!(unreadable.places.len(), 1);
    }
}
