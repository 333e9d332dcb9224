//! Wrong passwords slow down whoever gives them, by name and by address, and are counted for the ledger. Pure: time is an
//! argument.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Wrong passwords that cost nothing: people mistype.
const FREE: u32 = 5;

/// The longest wait for a name: an attacker must not lock its owner out for a night.
const NAME_WAIT_MS_MAX: u64 = 60_000;

/// The longest wait for an address.
const ADDRESS_WAIT_MS_MAX: u64 = 15 * 60_000;

/// A name or address that was left alone for this long starts anew.
const FORGET_MS: u64 = 30 * 60_000;

/// Names and addresses remembered, each; the one left alone longest makes room.
const KNOWN_MAX: usize = 4_096;

/// How often a name or address was wrong.
#[derive(Debug, Clone, Copy, Default)]
struct Wrong {
    count: u32,
    last_ms: u64,
}

impl Wrong {
    /// Until when nothing is tried: a second after the sixth, twice as long after each further one.
    fn until_ms(self, wait_ms_max: u64) -> u64 {
        let Some(over) = self.count.checked_sub(FREE + 1) else {
            return 0;
        };
        let wait = 1_000_u64.saturating_mul(1 << over.min(20));
        self.last_ms + wait.min(wait_ms_max)
    }
}

/// What was wrong since the ledger was told last.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Failures {
    /// The person's id, or none where no such name is known: what was typed there may be a password.
    pub person: Option<String>,
    /// From where.
    pub address: String,
    /// How often.
    pub count: u64,
}

/// Who was wrong how often.
#[derive(Debug, Default)]
pub struct Throttle {
    names: BTreeMap<String, Wrong>,
    addresses: BTreeMap<IpAddr, Wrong>,
    untold: BTreeMap<(Option<String>, String), u64>,
}

impl Throttle {
    /// Counts a try before it is made, so that many at once do not slip through, or says how many milliseconds to wait.
    ///
    /// # Errors
    /// The milliseconds until the next try may be made.
    pub fn attempt(&mut self, name: &str, address: IpAddr, now_ms: u64) -> Result<(), u64> {
        let of = |wrong: Option<&Wrong>, max| wrong.map_or(0, |wrong| wrong.until_ms(max));
        let by_name = of(self.names.get(&key(name)), NAME_WAIT_MS_MAX);
        let by_address = of(self.addresses.get(&net(address)), ADDRESS_WAIT_MS_MAX);
        let wait_ms = by_name.max(by_address).saturating_sub(now_ms);
        if wait_ms > 0 {
            return Err(wait_ms);
        }
        note(&mut self.names, key(name), now_ms);
        // A tunnel brings everybody from here: there only the name counts.
        if !address.to_canonical().is_loopback() {
            note(&mut self.addresses, net(address), now_ms);
        }
        Ok(())
    }

    /// A counted try was wrong.
    pub fn wrong(&mut self, person: Option<String>, address: IpAddr) {
        let what = (person, address.to_string());
        let known = self.untold.len() < KNOWN_MAX || self.untold.contains_key(&what);
        let what = if known {
            what
        } else {
            (None, "elsewhere".to_owned())
        };
        *self.untold.entry(what).or_insert(0) += 1;
    }

    /// A counted try was right: the name starts anew. Its address only gets the try back, else one good account would make an
    /// address free.
    pub fn right(&mut self, name: &str, address: IpAddr) {
        self.names.remove(&key(name));
        if let Some(known) = self.addresses.get_mut(&net(address)) {
            known.count = known.count.saturating_sub(1);
        }
    }

    /// What the ledger was not told yet.
    pub fn untold(&mut self) -> Vec<Failures> {
        let told = std::mem::take(&mut self.untold).into_iter();
        told.map(|((person, address), count)| Failures {
            person,
            address,
            count,
        })
        .collect()
    }
}

fn note<K: Ord + Clone>(table: &mut BTreeMap<K, Wrong>, key: K, now_ms: u64) {
    table.retain(|_, wrong| now_ms.saturating_sub(wrong.last_ms) < FORGET_MS);
    if table.len() >= KNOWN_MAX && !table.contains_key(&key) {
        let oldest = table.iter().min_by_key(|(_, wrong)| wrong.last_ms);
        if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
            table.remove(&oldest);
        }
    }
    let wrong = table.entry(key).or_default();
    wrong.count = wrong.count.saturating_add(1);
    wrong.last_ms = now_ms;
}

fn key(name: &str) -> String {
    // Longer than any name there is: only the beginning is told apart.
    name.trim()
        .chars()
        .take(64)
        .collect::<String>()
        .to_lowercase()
}

/// Whoever has one address of IPv6 has its whole /64.
fn net(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    /// Tries as soon as it may, so often, and returns the waits in seconds before each try.
    fn waits(throttle: &mut Throttle, name: &str, address: IpAddr, tries: usize) -> Vec<u64> {
        let mut now_ms = 0;
        let mut out = Vec::new();
        for _ in 0..tries {
            let wait_ms = throttle.attempt(name, address, now_ms).err().unwrap_or(0);
            now_ms += wait_ms;
            out.push(wait_ms / 1_000);
            if wait_ms > 0 {
                throttle.attempt(name, address, now_ms).unwrap();
            }
        }
        out
    }

    #[test]
    fn the_wait_doubles_and_is_bounded() {
        let mut throttle = Throttle::default();
        let found = waits(&mut throttle, "ann", HERE, 18);
        assert_eq!(found[..9], [0, 0, 0, 0, 0, 0, 1, 2, 4]);
        assert_eq!(
            found[17], 900,
            "an address waits a quarter of an hour at most"
        );
        let tunnel: IpAddr = [127, 0, 0, 1].into();
        let mut throttle = Throttle::default();
        let found = waits(&mut throttle, "ann", tunnel, 18);
        assert_eq!(found[17], 60, "a name waits a minute at most");
        assert!(
            throttle.attempt("bob", tunnel, 0).is_ok(),
            "a tunnel is shared"
        );
        assert!(throttle.attempt(" ANN", tunnel, 0).is_err());
        throttle.right("Ann", tunnel);
        assert!(throttle.attempt("ann", tunnel, 0).is_ok());
    }

    #[test]
    fn many_at_once_do_not_slip_through_and_a_right_one_is_not_held_against_anybody() {
        let mut throttle = Throttle::default();
        let passed = (0..100).filter(|_| throttle.attempt("ann", HERE, 0).is_ok());
        assert_eq!(passed.count(), 6);
        assert!(
            throttle.attempt("bob", HERE, 0).is_err(),
            "the address waits too"
        );
        assert!(throttle.attempt("bob", THERE, 0).is_ok());
        let mut throttle = Throttle::default();
        for _ in 0..100 {
            throttle.attempt("ann", HERE, 0).unwrap();
            throttle.right("ann", HERE);
        }
        assert!(throttle.attempt("bob", HERE, FORGET_MS).is_ok());
        assert_eq!(
            (throttle.names.len(), throttle.addresses.len()),
            (1, 1),
            "what is old is forgotten"
        );
    }

    #[test]
    fn failures_are_told_once_and_together() {
        let mut throttle = Throttle::default();
        for _ in 0..7 {
            throttle.wrong(Some("P-1".to_owned()), HERE);
        }
        throttle.wrong(None, HERE);
        let told = throttle.untold();
        let counts: Vec<_> = told
            .iter()
            .map(|one| (one.person.as_deref(), one.count))
            .collect();
        assert_eq!(counts, [(None, 1), (Some("P-1"), 7)]);
        assert!(throttle.untold().is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut throttle = Throttle::default();
        for i in 0..KNOWN_MAX + 100 {
            let address = IpAddr::V4(std::net::Ipv4Addr::from(u32::try_from(i).unwrap()));
            let _ = throttle.attempt(&format!("n{i}"), address, i as u64);
            throttle.wrong(None, address);
        }
        assert_eq!(throttle.names.len(), KNOWN_MAX);
        assert!(throttle.addresses.len() <= KNOWN_MAX);
        let told = throttle.untold();
        let sum: u64 = told.iter().map(|one| one.count).sum();
        assert_eq!(sum, KNOWN_MAX as u64 + 100);
        assert!(told.len() <= KNOWN_MAX + 1);
    }

    #[test]
    fn a_network_of_ipv6_is_one() {
        let mut throttle = Throttle::default();
        let address = |i: u32| -> IpAddr { format!("2001:db8::{i}").parse().unwrap() };
        for i in 0..6 {
            throttle.attempt(&format!("n{i}"), address(i), 0).unwrap();
        }
        assert!(throttle.attempt("x", address(99), 0).is_err());
    }
}
