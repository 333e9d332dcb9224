//! Tells a copied host from one that comes back. A run of an agent has an epoch of its own; a run that was followed by another
//! and then speaks again was not ended by it, so both run, with one identity: the one that came later is a copy. Pure.
//!
//! Until the first one speaks again, some seconds as a rule, the copy is taken for a restart and what it sends is kept.
//! The later one is refused while the first one's stream stands: who replaces a host for good needs only stop the old one.
//! What is known is forgotten at a restart of the server, and found out anew.

use std::collections::BTreeMap;

use dawnwatch_proto::{HostId, pb};

/// Longest boot id that is kept: Linux has 36 characters, and a hello could bring megabytes.
const BOOT_ID_BYTES_MAX: usize = 64;

/// An agent's run, as its hello shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Speaker {
    /// Generation of the certificate: a host that joined anew, or renewed, is judged from then on anew.
    pub(super) generation: u64,
    /// The run's own epoch.
    pub(super) epoch: u64,
    /// The machine's boot.
    pub(super) boot_id: String,
    /// Where it speaks from, for people.
    pub(super) from: String,
}

impl Speaker {
    /// The run that a hello shows; none where it names no epoch.
    pub(super) fn of(generation: u64, hello: &pb::Hello, from: &str) -> Option<Speaker> {
        let boot_id = &hello.boot_id;
        Some(Speaker {
            generation,
            // The last one is the epoch of this run.
            epoch: hello.epochs.last()?.id,
            boot_id: boot_id[..boot_id.floor_char_boundary(BOOT_ID_BYTES_MAX)].to_owned(),
            from: from.to_owned(),
        })
    }
}

/// What a hello comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nobody else speaks for the host, as far as is known.
    One,
    /// This is the first of two: the second was taken for a restart until now.
    First {
        /// Where the second speaks from.
        second: String,
    },
    /// This is the second of two.
    Second {
        /// Where the first speaks from.
        first: String,
        /// Where this one speaks from.
        second: String,
    },
}

/// Who speaks for each host; one small entry for each that was heard since the start.
#[derive(Debug, Default)]
pub(super) struct Speakers {
    hosts: BTreeMap<HostId, Known>,
}

#[derive(Debug)]
struct Known {
    latest: Speaker,
    before: Option<Speaker>,
    copy: Option<Speaker>,
}

impl Speakers {
    /// Takes a hello in; `taken` says whether a stream of the host stands.
    pub(super) fn hear(&mut self, host: HostId, now: Speaker, taken: bool) -> Heard {
        let Some(known) = self.hosts.get_mut(&host) else {
            self.hosts.insert(host, Known::of(now));
            return Heard::One;
        };
        if known.latest.epoch == now.epoch {
            known.latest = now;
            return Heard::One;
        }
        let copy = known
            .copy
            .as_ref()
            .is_some_and(|copy| known.is_same(copy, &now));
        if copy && taken {
            let (first, second) = (known.latest.from.clone(), now.from.clone());
            // Its next run is known as well.
            known.copy = Some(now);
            return Heard::Second { first, second };
        }
        if known
            .before
            .as_ref()
            .is_some_and(|before| before.epoch == now.epoch)
        {
            let copy = std::mem::replace(&mut known.latest, now);
            let second = copy.from.clone();
            (known.before, known.copy) = (None, Some(copy));
            return Heard::First { second };
        }
        if known.latest.generation != now.generation {
            known.copy = None;
        }
        known.before = Some(std::mem::replace(&mut known.latest, now));
        Heard::One
    }
}

impl Known {
    fn of(latest: Speaker) -> Known {
        Known {
            latest,
            before: None,
            copy: None,
        }
    }

    /// Whether a speaker is the copy: the same run, or another on the same boot, where that is not the first one's boot too.
    fn is_same(&self, copy: &Speaker, now: &Speaker) -> bool {
        let by_boot = !now.boot_id.is_empty() && now.boot_id != self.latest.boot_id;
        copy.generation == now.generation
            && (copy.epoch == now.epoch || by_boot && copy.boot_id == now.boot_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speaker(text: &str) -> Speaker {
        let mut words = text.split(' ');
        let mut number = || words.next().unwrap().parse().unwrap();
        let (generation, epoch) = (number(), number());
        let boot_id = words.next().unwrap().to_owned();
        let from = words.next().unwrap().to_owned();
        Speaker {
            generation,
            epoch,
            boot_id,
            from,
        }
    }

    #[test]
    fn what_is_kept_of_a_hello_is_small() {
        let mut hello = pb::Hello {
            boot_id: "ä".repeat(1_000_000),
            ..pb::Hello::default()
        };
        assert_eq!(Speaker::of(1, &hello, "192.0.2.1"), None, "no run");
        hello.epochs = [7, 8]
            .map(|id| pb::Epoch {
                id,
                ..pb::Epoch::default()
            })
            .to_vec();
        let speaker = Speaker::of(1, &hello, "192.0.2.1").unwrap();
        assert_eq!((speaker.epoch, speaker.boot_id), (8, "ä".repeat(32)));
    }

    /// Hellos of one host, with whether a stream stands, and what each comes to.
    #[track_caller]
    fn check(told: &[(&str, bool, &str)]) {
        let mut speakers = Speakers::default();
        for (hello, taken, want) in told {
            let got = match speakers.hear(HostId(1), speaker(hello), *taken) {
                Heard::One => "one".to_owned(),
                Heard::First { second } => format!("first, second at {second}"),
                Heard::Second { first, second } => format!("second at {second}, first at {first}"),
            };
            assert_eq!(got, *want, "{hello}");
        }
    }

    #[test]
    fn who_comes_back_or_starts_anew_is_one() {
        check(&[
            ("1 7 boot-a 192.0.2.1", false, "one"),
            ("1 7 boot-a 192.0.2.1", true, "one"),
            ("1 7 boot-a 198.51.100.1", true, "one"),
            ("1 8 boot-a 192.0.2.1", false, "one"),
            ("1 9 boot-b 192.0.2.1", true, "one"),
            ("2 10 boot-b 192.0.2.1", true, "one"),
        ]);
    }

    #[test]
    fn the_later_of_two_is_refused_as_long_as_the_first_speaks() {
        check(&[
            ("1 7 boot-a 192.0.2.1", false, "one"),
            // Taken for a restart, until the first one speaks again.
            ("1 8 boot-b 192.0.2.2", true, "one"),
            ("1 7 boot-a 192.0.2.1", true, "first, second at 192.0.2.2"),
            (
                "1 8 boot-b 192.0.2.2",
                true,
                "second at 192.0.2.2, first at 192.0.2.1",
            ),
            // Its agent starts anew: the machine gives it away.
            (
                "1 9 boot-b 192.0.2.3",
                true,
                "second at 192.0.2.3, first at 192.0.2.1",
            ),
            // The first one starts anew.
            ("1 10 boot-a 192.0.2.1", false, "one"),
            (
                "1 9 boot-b 192.0.2.3",
                true,
                "second at 192.0.2.3, first at 192.0.2.1",
            ),
            // The first one is switched off for good.
            ("1 9 boot-b 192.0.2.3", false, "one"),
            ("1 9 boot-b 192.0.2.3", true, "one"),
        ]);
    }

    #[test]
    fn two_agents_of_one_boot_are_told_apart_by_their_runs() {
        check(&[
            ("1 7 boot-a 192.0.2.1", false, "one"),
            ("1 8 boot-a 192.0.2.1", true, "one"),
            ("1 7 boot-a 192.0.2.1", true, "first, second at 192.0.2.1"),
            (
                "1 8 boot-a 192.0.2.1",
                true,
                "second at 192.0.2.1, first at 192.0.2.1",
            ),
            // A restart of either cannot be told from one of the other.
            ("1 9 boot-a 192.0.2.1", true, "one"),
            ("1 7 boot-a 192.0.2.1", true, "first, second at 192.0.2.1"),
        ]);
    }

    #[test]
    fn a_host_that_joined_anew_is_no_copy() {
        check(&[
            ("1 7 boot-a 192.0.2.1", false, "one"),
            ("1 8 boot-b 192.0.2.2", true, "one"),
            ("1 7 boot-a 192.0.2.1", true, "first, second at 192.0.2.2"),
            ("2 8 boot-b 192.0.2.2", true, "one"),
        ]);
    }
}
