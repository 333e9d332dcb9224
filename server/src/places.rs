//! How much of what a port takes on one address may have at a time, so that nobody takes all of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

type ByAddress = Arc<Mutex<BTreeMap<IpAddr, usize>>>;

/// Places by address.
#[derive(Debug)]
pub(crate) struct Places {
    held: ByAddress,
    of_one: usize,
}

/// One place of an address, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    ip: IpAddr,
    held: ByAddress,
}

impl Places {
    /// So many for each address.
    pub(crate) fn new(of_one: usize) -> Places {
        let held = ByAddress::default();
        Places { held, of_one }
    }

    /// A place; none where the address has too many. This machine itself is not bounded.
    pub(crate) fn take(&self, ip: IpAddr) -> Option<Place> {
        let ip = ip.to_canonical();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(ip).or_insert(0);
        if *count >= self.of_one && !ip.is_loopback() {
            return None;
        }
        *count += 1;
        let held = Arc::clone(&self.held);
        Some(Place { ip, held })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = held.get_mut(&self.ip) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            held.remove(&self.ip);
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
