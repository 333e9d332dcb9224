//! Takes the names of erased hosts out of what was written before: each gives way to its host's pseudonym.
//!
//! A name is found as a word: `db` is in `db: volume full` and not in `db02` or `old-db`. Words that happen to be an erased
//! host's name go as well: better one word too many than a name that stays.

use std::collections::BTreeMap;

use dawnwatch_proto::review::Review;
use dawnwatch_proto::{HostId, api};

use crate::effect::{Content, Effect, Entry};

/// Hosts that were erased, and what stands where their names stood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scrub {
    hosts: BTreeMap<HostId, String>,
    /// Names in small letters and what they become, the longest first: a name may be part of another.
    names: Vec<(String, String)>,
}

impl Scrub {
    /// Takes a host up, by its pseudonym.
    pub fn host(&mut self, id: HostId, pseudonym: &str) {
        self.hosts.insert(id, pseudonym.to_owned());
    }

    /// Takes up a name that a host of these went by; of others nothing is taken up.
    pub fn name(&mut self, id: HostId, name: &str) {
        let Some(to) = self.hosts.get(&id) else {
            return;
        };
        let name = name.to_ascii_lowercase();
        let known = self.names.iter().any(|(known, _)| *known == name);
        // Names that are no words of their own would be found everywhere.
        if known || name.is_empty() || self.hosts.values().any(|to| *to == name) {
            return;
        }
        self.names.push((name, to.clone()));
        self.names
            .sort_by(|(a, _), (b, _)| (b.len(), a).cmp(&(a.len(), b)));
    }

    /// Whether there is anything to take out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Whether a host is one of them.
    #[must_use]
    pub fn has(&self, id: HostId) -> bool {
        self.hosts.contains_key(&id)
    }

    /// Takes the names out of a text. Returns whether there was one.
    pub fn text(&self, text: &mut String) -> bool {
        let mut any = false;
        for (name, to) in &self.names {
            any |= replace(text, name, to);
        }
        any
    }

    /// Takes the names out of texts.
    pub fn texts<'a>(&self, texts: impl IntoIterator<Item = &'a mut String>) {
        for text in texts {
            self.text(text);
        }
    }

    /// Takes the hosts out of an incident as readers see it: names, and of their own incidents lines and samples.
    pub fn incident(&self, incident: &mut api::Incident) {
        let own = self.hosts.get(&incident.host);
        if let Some(to) = own {
            incident.name.clone_from(to);
        }
        self.texts([&mut incident.name, &mut incident.what, &mut incident.cause]);
        self.texts(incident.turned.iter_mut().map(|turned| &mut turned.from));
        self.texts(&mut incident.why);
        self.texts(incident.told.iter_mut().map(|told| &mut told.answer));
        for alert in &mut incident.alerts {
            self.texts([&mut alert.series, &mut alert.why]);
            if own.is_some() {
                alert.evidence.clear();
                unquote(&incident.id, &mut alert.why);
            }
        }
        self.lines(&mut incident.lines);
    }

    /// Takes the hosts' lines out of a list, and the names out of the others.
    pub fn lines(&self, lines: &mut Vec<api::LogLine>) {
        lines.retain(|line| !self.has(line.host));
        for line in lines {
            self.texts([&mut line.name, &mut line.text]);
        }
    }

    /// Takes the hosts out of a review.
    pub fn review(&self, review: &mut Review) {
        self.text(&mut review.sentence);
        for unwatched in &mut review.coverage.unwatched {
            if let Some(to) = self.hosts.get(&unwatched.host) {
                unwatched.name.clone_from(to);
            }
            self.texts([&mut unwatched.name, &mut unwatched.reason]);
        }
        let rows = review.critical.iter_mut().chain(&mut review.today);
        for row in rows.chain(&mut review.healed) {
            self.texts([
                &mut row.subject,
                &mut row.what,
                &mut row.cause,
                &mut row.rank,
                &mut row.state,
            ]);
            self.texts(row.turned.iter_mut().map(|turned| &mut turned.from));
            self.texts(&mut row.evidence);
            // It quotes log lines.
            if self.hosts.values().any(|to| *to == row.subject) {
                row.evidence.clear();
            }
        }
        for change in &mut review.changed {
            self.texts([&mut change.text, &mut change.group]);
        }
        self.texts(&mut review.tonight);
    }

    /// Takes the hosts out of an effect that the ledger keeps, for whoever reads it.
    pub fn effect(&self, effect: &mut Effect) {
        match effect {
            Effect::Record(entry) => self.entry(entry),
            Effect::Notify(notification) => match &mut notification.content {
                Content::Incident(content) => {
                    self.incident(&mut content.incident);
                    self.texts(content.last.iter_mut().map(|(_, last)| last));
                    self.texts(&mut content.changed);
                }
                Content::Review(review) => self.review(review),
                Content::Test => {}
            },
            Effect::SealNight(review) => self.review(review),
        }
    }

    fn entry(&self, entry: &mut Entry) {
        match entry {
            Entry::Alert {
                incident,
                host,
                series,
                why,
                ..
            } => {
                self.texts([series, why]);
                if self.has(*host) {
                    unquote(incident, why);
                }
            }
            Entry::Incident { what, .. } | Entry::Server { what } | Entry::Person { what, .. } => {
                self.texts([what])
            }
            Entry::Host { id, name, what } => {
                if let Some(to) = self.hosts.get(id) {
                    name.clone_from(to);
                }
                self.texts([name, what]);
            }
            Entry::Delivered { answer, .. } => self.texts([answer]),
            Entry::Sealed { .. } | Entry::Evidence { .. } => {}
        }
    }
}

/// What the ids of findings about log lines begin with.
const LOG: &str = "L-";

/// Findings about log lines quote them.
pub(crate) const UNQUOTED: &str = "log lines of an erased host";

fn unquote(id: &str, why: &mut String) {
    if id.starts_with(LOG) {
        UNQUOTED.clone_into(why);
    }
}

/// Replaces a word, whatever the size of its letters. Returns whether it was there.
fn replace(text: &mut String, word: &str, with: &str) -> bool {
    // Small letters of ASCII alone: every byte stays where it is.
    let lower = text.to_ascii_lowercase();
    let part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    let mut out = String::new();
    let mut done = 0;
    for (at, found) in lower.match_indices(word) {
        let end = at + found.len();
        let before = lower[..at].chars().next_back();
        let after = lower[end..].chars().next();
        let within = before.is_some_and(|c| part(c) || c == '.') || after.is_some_and(part);
        if within || at < done {
            continue;
        }
        out.push_str(&text[done..at]);
        out.push_str(with);
        done = end;
    }
    if done == 0 {
        return false;
    }
    out.push_str(&text[done..]);
    *text = out;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_as_words() {
        let mut scrub = Scrub::default();
        scrub.host(HostId(1), "erased-1");
        scrub.name(HostId(1), "db");
        scrub.name(HostId(1), "DB.example.org");
        scrub.name(HostId(2), "web01");
        for (text, want) in [
            ("db: volume /data full", "erased-1: volume /data full"),
            ("link web01 - db", "link web01 - erased-1"),
            ("DB and db.", "erased-1 and erased-1."),
            (
                "db.example.org, db02, old-db, my.db",
                "erased-1, db02, old-db, my.db",
            ),
            ("ping{target=\"db\"}", "ping{target=\"erased-1\"}"),
            ("dbdb db_1 ädb", "dbdb db_1 ädb"),
            ("", ""),
        ] {
            let mut got = text.to_owned();
            assert_eq!(scrub.text(&mut got), text != want, "{text}");
            assert_eq!(got, want);
            assert!(!scrub.text(&mut got), "once is enough: {got}");
        }
    }

    #[test]
    fn a_pseudonym_is_no_name() {
        let mut scrub = Scrub::default();
        scrub.host(HostId(1), "erased-1");
        scrub.name(HostId(1), "erased-1");
        scrub.name(HostId(1), "");
        let mut text = "erased-1 was erased".to_owned();
        assert!(!scrub.text(&mut text));
    }
}
