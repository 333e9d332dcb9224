//! The targets and their stats, shared by the rounds that ask and the collector that tells.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dawnwatch_proto::probe::{Method, Role, TARGETS_MAX, Target};

use super::Echo;
use super::stats::Stats;

/// What is pinged at present. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    slots: Vec<Slot>,
    /// How IPv4 and IPv6 are asked; none before it was tried.
    methods: [Option<Method>; 2],
    /// Counts up when the list of targets or methods changes.
    generation: u64,
    /// Targets that found no room.
    refused: usize,
}

#[derive(Debug)]
struct Slot {
    target: Target,
    stats: Stats,
    /// Where the name led when it was resolved last.
    resolved: Option<SocketAddr>,
}

/// One target as the collector shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The label `target`.
    pub target: String,
    /// The label `role`.
    pub role: Role,
}

impl Board {
    /// Brings the list up to date: what is still in it goes on. Returns how many found no room.
    pub(crate) fn set(&self, targets: &[Target]) -> usize {
        let mut inner = self.inner();
        let refused = targets.len().saturating_sub(TARGETS_MAX);
        let wanted = &targets[..targets.len() - refused];
        inner.refused = refused;
        if inner.slots.iter().map(|slot| &slot.target).eq(wanted) {
            return refused;
        }
        let mut before = std::mem::take(&mut inner.slots);
        for target in wanted {
            // One name is one series: the first of it holds.
            if inner.slots.iter().any(|slot| same(&slot.target, target)) {
                continue;
            }
            let at = before.iter().position(|slot| same(&slot.target, target));
            let mut slot = match at {
                Some(at) => before.swap_remove(at),
                None => Slot {
                    target: target.clone(),
                    stats: Stats::default(),
                    resolved: None,
                },
            };
            if slot.target != *target {
                slot.target = target.clone();
                slot.resolved = None;
            }
            inner.slots.push(slot);
        }
        inner.generation += 1;
        refused
    }

    /// Notes how a family of addresses is asked. Returns whether that is news.
    pub(crate) fn set_methods(&self, methods: [Method; 2]) -> bool {
        let mut inner = self.inner();
        let methods = methods.map(Some);
        if inner.methods == methods {
            return false;
        }
        if inner.methods.iter().any(Option::is_none) {
            inner.generation += 1;
        }
        inner.methods = methods;
        true
    }

    /// The targets, and where their names led.
    pub(crate) fn targets(&self) -> Vec<(Target, Option<SocketAddr>)> {
        let inner = self.inner();
        let slots = inner.slots.iter();
        slots
            .map(|slot| (slot.target.clone(), slot.resolved))
            .collect()
    }

    /// Notes where a name led.
    pub(crate) fn resolved(&self, target: &Target, to: Option<SocketAddr>) {
        let mut inner = self.inner();
        if let Some(slot) = inner.slots.iter_mut().find(|slot| slot.target == *target) {
            slot.resolved = to;
        }
    }

    /// Takes in what came of a probe; of a target that is gone meanwhile nothing is kept.
    pub(crate) fn take(&self, target: &Target, echo: Echo) {
        let mut inner = self.inner();
        if let Some(slot) = inner.slots.iter_mut().find(|slot| slot.target == *target) {
            slot.stats.take(echo);
        }
    }

    /// Changes with the list of series.
    pub(crate) fn generation(&self) -> u64 {
        self.inner().generation
    }

    /// The targets as series.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let inner = self.inner();
        let row = |slot: &Slot| Row {
            target: slot.target.name.clone(),
            role: slot.target.role,
        };
        inner.slots.iter().map(row).collect()
    }

    /// Ends the window of every target and pushes its values; then the methods, if they are known.
    pub(crate) fn tick(&self, row: &mut Vec<i64>) {
        let mut inner = self.inner();
        for slot in &mut inner.slots {
            row.extend(slot.stats.tick());
        }
        row.extend(inner.methods.iter().flatten().map(|method| method.number()));
    }

    /// Whether the methods have been tried.
    pub(crate) fn has_methods(&self) -> bool {
        self.inner().methods.iter().all(Option::is_some)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether two targets are one series.
fn same(a: &Target, b: &Target) -> bool {
    a.name == b.name && a.role == b.role
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn target(name: &str, address: &str) -> Target {
        Target {
            name: name.to_owned(),
            address: address.to_owned(),
            role: Role::Mesh,
            tcp_port: None,
        }
    }

    #[test]
    fn who_stays_goes_on_and_who_is_gone_is_forgotten() {
        let board = Board::default();
        let (a, b) = (target("a", "192.0.2.1"), target("b", "192.0.2.2"));
        assert_eq!(board.set(&[a.clone(), b.clone()]), 0);
        let first = board.generation();
        board.take(&a, Echo::Answered(Duration::from_micros(100)));
        board.set(&[a.clone(), b.clone()]);
        assert_eq!(board.generation(), first, "nothing changed");

        // Another address is the same series: its counts go on.
        let moved = target("a", "192.0.2.9");
        board.set(std::slice::from_ref(&moved));
        assert!(board.generation() > first);
        board.take(&a, Echo::Lost);
        board.take(&b, Echo::Lost);
        board.take(&moved, Echo::Lost);
        let mut row = Vec::new();
        board.tick(&mut row);
        assert_eq!(row[5..], [2, 1], "sent and lost: {row:?}");
    }

    #[test]
    fn bounds_and_doubles() {
        let board = Board::default();
        let many: Vec<_> = (0..TARGETS_MAX + 3)
            .map(|i| target(&format!("t{i}"), "192.0.2.1"))
            .collect();
        assert_eq!(board.set(&many), 3);
        assert_eq!(board.rows().len(), TARGETS_MAX);
        board.set(&[target("a", "192.0.2.1"), target("a", "192.0.2.2")]);
        assert_eq!(board.rows().len(), 1);
    }

    #[test]
    fn methods_are_series_once_they_are_known() {
        let board = Board::default();
        let mut row = Vec::new();
        board.tick(&mut row);
        assert!(row.is_empty() && !board.has_methods());
        assert!(board.set_methods([Method::Raw, Method::Tcp]));
        assert!(!board.set_methods([Method::Raw, Method::Tcp]));
        let known = board.generation();
        assert!(board.set_methods([Method::Datagram, Method::Tcp]));
        assert_eq!(
            board.generation(),
            known,
            "another value is no other series"
        );
        board.tick(&mut row);
        assert_eq!(row, [1, 3]);
    }
}
