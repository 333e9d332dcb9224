//! Things that come and go: CPUs, disks, mounts, interfaces.
//!
//! A thing becomes part of the schema when it was there in [`SETTLE_READS`] reads in a row (at the very first read at
//! once), and leaves it after [`GONE_READS`] reads without it; in between its columns are `MISSING`. So neither a
//! mount that lives for a moment nor a link that flaps changes the schema.

/// In how many reads in a row a thing is seen before it gets columns.
pub(crate) const SETTLE_READS: u32 = 2;

/// After how many reads without it a thing loses its columns: 5 minutes of ticks.
pub(crate) const GONE_READS: u32 = 30;

/// Things by name, in the order in which they first appeared.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    bound: usize,
    refused: usize,
    cursor: usize,
    first: bool,
}

#[derive(Debug)]
struct Slot<T> {
    name: Vec<u8>,
    value: T,
    present: bool,
    listed: bool,
    seen_reads: u32,
    absent_reads: u32,
}

impl<T> Slots<T> {
    /// Room for at most `bound` things.
    pub(crate) fn new(bound: usize) -> Slots<T> {
        Slots {
            slots: Vec::new(),
            bound,
            refused: 0,
            cursor: 0,
            first: true,
        }
    }

    /// Begins a read: nothing has been seen yet.
    pub(crate) fn begin(&mut self) {
        self.cursor = 0;
        self.refused = 0;
        for slot in &mut self.slots {
            slot.present = false;
        }
    }

    /// Whether a thing is known, with columns or without.
    pub(crate) fn has(&self, name: &[u8]) -> bool {
        self.slots.iter().any(|slot| slot.name == name)
    }

    /// Takes note that a thing is there, and gives its value; none where there is no room for it.
    pub(crate) fn see(&mut self, name: &[u8], make: impl FnOnce() -> T) -> Option<&mut T> {
        // Kernels list things in one order, so the next slot is nearly always the right one.
        let expected = self
            .slots
            .get(self.cursor)
            .is_some_and(|slot| slot.name == name);
        let at = match expected {
            true => Some(self.cursor),
            false => self.slots.iter().position(|slot| slot.name == name),
        };
        let at = match at {
            Some(at) => at,
            None if self.slots.len() >= self.bound => {
                self.refused += 1;
                return None;
            }
            None => {
                self.slots.push(Slot {
                    name: name.to_vec(),
                    value: make(),
                    present: false,
                    listed: false,
                    seen_reads: 0,
                    absent_reads: 0,
                });
                self.slots.len() - 1
            }
        };
        self.cursor = at + 1;
        let slot = &mut self.slots[at];
        slot.present = true;
        Some(&mut slot.value)
    }

    /// Ends a read; says whether another set of things is listed.
    pub(crate) fn end(&mut self) -> bool {
        let mut changed = false;
        for slot in &mut self.slots {
            if slot.present {
                slot.seen_reads = slot.seen_reads.saturating_add(1);
                slot.absent_reads = 0;
                if !slot.listed && (self.first || slot.seen_reads >= SETTLE_READS) {
                    slot.listed = true;
                    changed = true;
                }
            } else {
                slot.seen_reads = 0;
                slot.absent_reads = slot.absent_reads.saturating_add(1);
            }
        }
        self.first = false;
        self.slots.retain(|slot| {
            let keep = slot.present || (slot.listed && slot.absent_reads <= GONE_READS);
            changed |= slot.listed && !keep;
            keep
        });
        changed
    }

    /// How many things found no room in this read.
    pub(crate) fn refused(&self) -> usize {
        self.refused
    }

    /// The things that have columns; no value for one that is absent at this read.
    pub(crate) fn listed(&self) -> impl Iterator<Item = (&[u8], Option<&T>)> {
        self.slots
            .iter()
            .filter(|slot| slot.listed)
            .map(|slot| (slot.name.as_slice(), slot.present.then_some(&slot.value)))
    }

    /// The things that have columns, with what is known of them whether they are there or not.
    pub(crate) fn known(&self) -> impl Iterator<Item = (&[u8], &T)> {
        self.slots
            .iter()
            .filter(|slot| slot.listed)
            .map(|slot| (slot.name.as_slice(), &slot.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(slots: &mut Slots<u32>, names: &[&str]) -> bool {
        slots.begin();
        for name in names {
            slots.see(name.as_bytes(), || 7);
        }
        slots.end()
    }

    fn shown(slots: &Slots<u32>) -> Vec<(String, bool)> {
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        slots
            .listed()
            .map(|(name, value)| (text(name), value.is_some()))
            .collect()
    }

    #[test]
    fn the_first_read_lists_at_once_and_a_later_thing_must_settle() {
        let mut slots = Slots::new(4);
        assert!(read(&mut slots, &["a"]));
        assert!(!read(&mut slots, &["a", "b"]));
        assert!(!read(&mut slots, &["a"]), "b was there for a moment only");
        assert!(!read(&mut slots, &["b", "a"]));
        assert!(read(&mut slots, &["b", "a"]));
        assert_eq!(
            shown(&slots),
            [("a".to_owned(), true), ("b".to_owned(), true)]
        );
    }

    #[test]
    fn what_vanishes_is_missing_before_it_is_gone() {
        let mut slots = Slots::new(4);
        read(&mut slots, &["a", "b"]);
        for _ in 0..GONE_READS {
            assert!(!read(&mut slots, &["b"]));
            assert_eq!(
                shown(&slots),
                [("a".to_owned(), false), ("b".to_owned(), true)]
            );
        }
        assert!(read(&mut slots, &["b"]));
        assert_eq!(shown(&slots), [("b".to_owned(), true)]);
    }

    #[test]
    fn a_flapping_thing_never_changes_the_schema() {
        let mut slots = Slots::new(4);
        read(&mut slots, &["a", "b"]);
        for i in 0..200 {
            let names: &[&str] = if i % 20 == 0 { &["a", "b"] } else { &["a"] };
            assert!(!read(&mut slots, names));
        }
    }

    #[test]
    fn the_bound_holds_and_is_counted() {
        let mut slots = Slots::new(2);
        read(&mut slots, &["a", "b", "c", "d"]);
        assert_eq!((shown(&slots).len(), slots.refused()), (2, 2));
        read(&mut slots, &["a", "b"]);
        assert_eq!(slots.refused(), 0);
    }
}
