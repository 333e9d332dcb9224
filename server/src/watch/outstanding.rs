//! Notifications whose fate is not known, in the order in which they were decided: in that order they are sent again after a
//! restart, so that nobody hears of an end before its beginning. Their keys have another order: `I-7/10/mail` before `I-7/9/mail`.

use std::collections::BTreeMap;

use dawnwatch_engine::effect::Notification;

/// What may have to be sent again.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    places: BTreeMap<String, u64>,
    in_order: BTreeMap<u64, Notification>,
    next: u64,
}

impl Outstanding {
    /// Takes one in behind all others; one that is known keeps its place.
    pub(super) fn insert(&mut self, notification: Notification) {
        let next = self.next;
        let place = self
            .places
            .entry(notification.key.clone())
            .or_insert_with(|| next);
        self.in_order.insert(*place, notification);
        self.next += 1;
    }

    /// What came of it is known.
    pub(super) fn remove(&mut self, key: &str) {
        if let Some(place) = self.places.remove(key) {
            self.in_order.remove(&place);
        }
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Notification> {
        self.in_order.values()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.in_order.len()
    }
}

impl FromIterator<Notification> for Outstanding {
    fn from_iter<I: IntoIterator<Item = Notification>>(all: I) -> Outstanding {
        let mut outstanding = Outstanding::default();
        all.into_iter().for_each(|one| outstanding.insert(one));
        outstanding
    }
}
