//! How much of what a port takes on one address, or one host, may have at a time, so that nobody takes all of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

type Held<K> = Arc<Mutex<BTreeMap<K, usize>>>;

/// Places by whom they are of.
#[derive(Debug)]
pub(crate) struct Places<K: Ord = IpAddr> {
    held: Held<K>,
    of_one: usize,
}

/// One place of somebody, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place<K: Ord = IpAddr> {
    whose: K,
    held: Held<K>,
}

impl<K: Ord + Copy> Places<K> {
    /// So many for each.
    pub(crate) fn new(of_one: usize) -> Places<K> {
        let held = Held::default();
        Places { held, of_one }
    }

    /// A place; none where they have too many.
    pub(crate) fn of(&self, whose: K) -> Option<Place<K>> {
        self.one_of(whose, self.of_one)
    }

    fn one_of(&self, whose: K, most: usize) -> Option<Place<K>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(whose).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        let held = Arc::clone(&self.held);
        Some(Place { whose, held })
    }
}

impl Places {
    /// A place; none where the address has too many. This machine itself is not bounded.
    pub(crate) fn take(&self, ip: IpAddr) -> Option<Place> {
        let ip = ip.to_canonical();
        let bound = !ip.is_loopback();
        self.one_of(ip, if bound { self.of_one } else { usize::MAX })
    }
}

impl<K: Ord> Drop for Place<K> {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = held.get_mut(&self.whose) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            held.remove(&self.whose);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_every_place() {
        let places = Places::new(2);
        let (greedy, other): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let held: Vec<_> = (0..2).map(|_| places.take(greedy).unwrap()).collect();
        assert!(places.take(greedy).is_none());
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert!(places.take(mapped).is_none(), "the same address");
        assert!(places.take(other).is_some());
        let local: Vec<_> = (0..9).map(|_| places.take([127, 0, 0, 1].into())).collect();
        let free = local.iter().all(Option::is_some);
        assert!(free, "this machine is not bounded");
        drop((held, local));
        assert!(places.take(greedy).is_some());
        assert!(
            places.held.lock().unwrap().is_empty(),
            "nothing is left behind"
        );
    }
}
