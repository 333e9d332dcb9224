//! Sessions: who is logged in. In memory alone, so a restart of the server logs everybody out. Pure: time is an argument.

use std::collections::BTreeMap;

use dawnwatch_proto::api::Role;

use crate::identity::people::{PersonRecord, hash};

/// A session nobody used for this long ends: a shift.
pub const IDLE_MS: u64 = 12 * 3_600_000;

/// No session lasts longer: a week.
pub const LIFE_MS: u64 = 7 * 86_400_000;

/// Sessions in all; the one that was idle longest makes room.
pub const SESSIONS_MAX: usize = 5_000;

/// Sessions of one person: laptop, phone, the screen on the wall. The one idle longest makes room.
pub const SESSIONS_OF_ONE_MAX: usize = 20;

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The person's id.
    pub person: String,
    /// The person's generation when it began: a new password ends it.
    pub generation: u64,
    /// The role it began with: another one ends it, so that a new id goes with new rights.
    pub role: Role,
    /// What its forms carry.
    pub csrf: String,
    began_ms: u64,
    used_ms: u64,
}

/// All sessions, by the hash of what the cookie holds.
#[derive(Debug, Default)]
pub struct Sessions {
    all: BTreeMap<String, Session>,
}

impl Sessions {
    /// Begins a session; `secret` is what the cookie holds, `csrf` what its forms carry.
    pub fn begin(&mut self, secret: &str, csrf: String, person: &PersonRecord, now_ms: u64) {
        self.all.retain(|_, session| session.lives(now_ms));
        let own = |session: &Session| session.person == person.id;
        if self.all.values().filter(|one| own(one)).count() >= SESSIONS_OF_ONE_MAX {
            self.drop_idlest(own);
        }
        if self.all.len() >= SESSIONS_MAX {
            self.drop_idlest(|_| true);
        }
        let session = Session {
            person: person.id.clone(),
            generation: person.generation,
            role: person.role,
            csrf,
            began_ms: now_ms,
            used_ms: now_ms,
        };
        self.all.insert(hash(secret), session);
    }

    /// The session of a cookie, used now.
    pub fn used(&mut self, secret: &str, now_ms: u64) -> Option<Session> {
        let key = hash(secret);
        let session = self.all.get_mut(&key)?;
        if !session.lives(now_ms) {
            self.all.remove(&key);
            return None;
        }
        session.used_ms = now_ms;
        Some(session.clone())
    }

    /// Ends a session.
    pub fn end(&mut self, secret: &str) {
        self.all.remove(&hash(secret));
    }

    /// Ends all sessions of a person.
    pub fn end_all(&mut self, person: &str) {
        self.all.retain(|_, session| session.person != person);
    }

    fn drop_idlest(&mut self, which: impl Fn(&Session) -> bool) {
        let fitting = self.all.iter().filter(|(_, session)| which(session));
        let idlest = fitting.min_by_key(|(_, session)| session.used_ms);
        if let Some(key) = idlest.map(|(key, _)| key.clone()) {
            self.all.remove(&key);
        }
    }
}

impl Session {
    fn lives(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.used_ms) < IDLE_MS
            && now_ms.saturating_sub(self.began_ms) < LIFE_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn begin(sessions: &mut Sessions, secret: &str, person: &str, now_ms: u64) {
        let person = PersonRecord {
            id: person.to_owned(),
            name: String::new(),
            role: Role::Viewer,
            password: None,
            created: jiff::Timestamp::UNIX_EPOCH,
            generation: 1,
            tokens: Vec::new(),
        };
        sessions.begin(secret, "c".to_owned(), &person, now_ms);
    }

    #[test]
    fn a_session_slides_and_ends_after_a_week_all_the_same() {
        let mut sessions = Sessions::default();
        begin(&mut sessions, "one", "P-1", 0);
        assert_eq!(sessions.used("other", 0), None);
        let mut now = 0;
        while now + 11 * HOUR < LIFE_MS {
            now += 11 * HOUR;
            assert!(sessions.used("one", now).is_some(), "{now}");
        }
        assert_eq!(sessions.used("one", LIFE_MS), None);

        begin(&mut sessions, "two", "P-1", 0);
        assert_eq!(sessions.used("two", IDLE_MS), None, "idle");
        assert!(sessions.all.is_empty());
    }

    #[test]
    fn the_idlest_makes_room_and_only_ones_own() {
        let mut sessions = Sessions::default();
        begin(&mut sessions, "guest", "P-2", 0);
        for i in 0..=SESSIONS_OF_ONE_MAX {
            begin(&mut sessions, &format!("s{i}"), "P-1", 1 + i as u64);
        }
        assert!(sessions.used("s0", 100).is_none());
        assert!(sessions.used("s1", 100).is_some());
        assert!(sessions.used("guest", 100).is_some());
        sessions.end_all("P-1");
        assert!(sessions.used("s1", 100).is_none());
        sessions.end("guest");
        assert!(sessions.all.is_empty());
    }

    #[test]
    fn sessions_are_bounded_in_all() {
        let mut sessions = Sessions::default();
        for i in 0..SESSIONS_MAX + 5 {
            begin(&mut sessions, &format!("s{i}"), &format!("P-{i}"), i as u64);
        }
        assert_eq!(sessions.all.len(), SESSIONS_MAX);
        assert!(sessions.used("s4", 0).is_none() && sessions.used("s5", 0).is_some());
    }
}
