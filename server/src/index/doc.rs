//! What the index knows of one thing: an incident, a finding of a review, the shape of log lines. Made from ledger entries and
//! events in their order alone, so that an index that was built anew knows the same.

use dawnwatch_engine::Entry;
use dawnwatch_engine::effect::{Content, Effect};
use dawnwatch_proto::HostId;
use dawnwatch_proto::event::Template;
use dawnwatch_proto::review::{Review, Row, Severity};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Longest text of a document in bytes: with all else it stays under the 4 KiB that a value may have.
const TEXT_BYTES_MAX: usize = 1_024;

/// Longest id, name, state or night.
const NAME_BYTES_MAX: usize = 128;

/// Most ledger frames that a document names; ten bytes each at most. Of an incident with more, the first and the latest.
pub const FRAMES_MAX: usize = 128;

/// Most words of a document: an incident has a dozen.
const WORDS_MAX: usize = 96;

/// Longest word that is kept; a longer one is found by its beginning.
pub const WORD_BYTES_MAX: usize = 32;

/// The kind of a document that says what a host is called: it is looked up, never found.
pub const NAME: &str = "name";

/// What is known of one thing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Doc {
    /// `incident`, `finding`, `template`, or [`NAME`].
    pub kind: String,
    /// `I-318`, `F-077`; the host's own number for a template.
    pub id: String,
    /// The host; 0 for the server itself.
    pub host: HostId,
    /// What the host was called, as far as the source says; of a template where its lines come from.
    pub name: String,
    /// `open`, `acknowledged`, `closed`; empty for a template.
    pub state: String,
    /// How bad it got.
    pub severity: Severity,
    /// Since when; of a template, when it was told last.
    pub since: Timestamp,
    /// Until when.
    pub until: Option<Timestamp>,
    /// What happened; the text of a template.
    pub text: String,
    /// The latest sealed night that tells of it.
    pub night: String,
    /// Ledger frames that tell of it, rising; of a template the journal position that it came in at, or that of its file.
    pub frames: Vec<u64>,
}

impl Doc {
    /// The key it is kept under.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        key(&self.kind, self.host, &self.id)
    }

    /// The words it is found by: small letters, each once, in order.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let all = [&self.id, &self.name, &self.state, &self.night, &self.text];
        let mut words: Vec<String> = all.iter().flat_map(|text| words(text)).collect();
        words.truncate(WORDS_MAX);
        words.sort();
        words.dedup();
        words
    }

    fn frame(&mut self, frame: u64) {
        if self.frames.last() == Some(&frame) {
            return;
        }
        if self.frames.len() == FRAMES_MAX {
            self.frames.remove(FRAMES_MAX / 2);
        }
        self.frames.push(frame);
    }

    fn tell(&mut self, text: &str) {
        self.text = cut(text, TEXT_BYTES_MAX);
    }
}

/// The key of a thing: incidents and findings have ids of the house, templates of their host.
#[must_use]
pub fn key(kind: &str, host: HostId, id: &str) -> Vec<u8> {
    let mut key = vec![kind.as_bytes().first().copied().unwrap_or(b'?')];
    if kind == "template" {
        key.extend_from_slice(&host.0.to_be_bytes());
    }
    key.extend_from_slice(cut(id, NAME_BYTES_MAX).as_bytes());
    key
}

/// The words of a text: runs of letters and digits, in small letters.
pub fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(|word| cut(&word.to_lowercase(), WORD_BYTES_MAX))
}

/// Where documents are looked up and put while a frame is taken in.
pub trait Docs {
    /// The document of a key, as it stands.
    fn get(&mut self, key: &[u8]) -> Option<Doc>;
    /// Replaces it.
    fn put(&mut self, doc: Doc);
}

/// Takes in the effects of the ledger frame `frame`, made at `wall`.
pub fn take_in(docs: &mut impl Docs, frame: u64, wall: Timestamp, effects: &[Effect]) {
    for effect in effects {
        match effect {
            Effect::Record(entry) => record(docs, frame, wall, entry),
            Effect::Notify(notification) => {
                if let Content::Incident(content) = &notification.content {
                    let told = &content.incident;
                    change(docs, &told.id, told.host, told.since, frame, |doc| {
                        doc.name = cut(&told.name, NAME_BYTES_MAX);
                        doc.tell(&told.what);
                        doc.severity = doc.severity.max(told.severity);
                        doc.since = doc.since.min(told.since);
                    });
                }
            }
            Effect::SealNight(review) => night(docs, frame, review),
        }
    }
}

fn record(docs: &mut impl Docs, frame: u64, wall: Timestamp, entry: &Entry) {
    match entry {
        Entry::Alert {
            incident,
            host,
            severity,
            at,
            why,
            rule,
            ..
        } => change(docs, incident, *host, *at, frame, |doc| {
            doc.severity = doc.severity.max(*severity);
            if doc.text.is_empty() {
                doc.tell(&format!("{rule}: {why}"));
            }
        }),
        Entry::Incident {
            id,
            host,
            state,
            severity,
            at,
            what,
            ..
        } => change(docs, id, *host, *at, frame, |doc| {
            doc.state = cut(state, NAME_BYTES_MAX);
            doc.severity = doc.severity.max(*severity);
            doc.until = (state == "closed").then_some(*at);
            // A remark or a closing line does not take the place of what happened.
            if doc.text.is_empty() || state == "open" {
                doc.tell(what);
            }
        }),
        Entry::Delivered { key, .. } => {
            // The key begins with the incident's id, which is all that is known of it here.
            let id = key.split('/').next().unwrap_or_default();
            if let Some(doc) = docs.get(&self::key("incident", HostId(0), id)) {
                change(docs, id, doc.host, wall, frame, |_| {});
            }
        }
        Entry::Host { id, name, .. } => {
            let mut doc = empty(NAME, &id.to_string(), wall);
            doc.name = cut(name, NAME_BYTES_MAX);
            docs.put(doc);
        }
        Entry::Server { .. }
        | Entry::Sealed { .. }
        | Entry::Person { .. }
        | Entry::Evidence { .. } => {}
    }
}

fn night(docs: &mut impl Docs, frame: u64, review: &Review) {
    for row in review
        .critical
        .iter()
        .chain(&review.today)
        .chain(&review.healed)
    {
        change(docs, &row.id, HostId(0), row.since, frame, |doc| {
            doc.night = cut(&review.id, NAME_BYTES_MAX);
            doc.name = cut(&row.subject, NAME_BYTES_MAX);
            doc.severity = doc.severity.max(row.severity);
            doc.tell(&told(row));
            if doc.kind == "finding" {
                doc.state = cut(&row.state, NAME_BYTES_MAX);
                doc.until = row.until;
            }
        });
    }
}

fn told(row: &Row) -> String {
    let mut text = row.what.clone();
    for more in [row.service.as_deref(), Some(row.cause.as_str())]
        .into_iter()
        .flatten()
        .chain(row.evidence.iter().map(String::as_str))
    {
        text.push_str("; ");
        text.push_str(more);
    }
    text
}

fn change(
    docs: &mut impl Docs,
    id: &str,
    host: HostId,
    at: Timestamp,
    frame: u64,
    how: impl FnOnce(&mut Doc),
) {
    let kind = if id.starts_with("I-") {
        "incident"
    } else {
        "finding"
    };
    let mut doc = docs
        .get(&key(kind, host, id))
        .unwrap_or_else(|| empty(kind, id, at));
    if host != HostId(0) {
        doc.host = host;
        if doc.name.is_empty()
            && let Some(named) = docs.get(&key(NAME, HostId(0), &host.to_string()))
        {
            doc.name = named.name;
        }
    }
    how(&mut doc);
    doc.frame(frame);
    docs.put(doc);
}

/// Takes in a shape of log lines as a host told it at a journal position. What it told last is what counts: tellings before
/// that may be in no file any more when the index is built anew.
pub fn template(docs: &mut impl Docs, host: HostId, at: Timestamp, position: u64, told: &Template) {
    let mut doc = empty("template", &told.id.to_string(), at);
    doc.host = host;
    doc.frames = vec![position];
    doc.name = cut(&told.source, NAME_BYTES_MAX);
    doc.state = String::new();
    doc.severity = match told.severity {
        0..=2 => Severity::Critical,
        3..=4 => Severity::Warning,
        _ => Severity::Info,
    };
    doc.tell(&told.text);
    docs.put(doc);
}

fn empty(kind: &str, id: &str, at: Timestamp) -> Doc {
    Doc {
        kind: kind.to_owned(),
        id: cut(id, NAME_BYTES_MAX),
        host: HostId(0),
        name: String::new(),
        state: "open".to_owned(),
        severity: Severity::Info,
        since: at,
        until: None,
        text: String::new(),
        night: String::new(),
        frames: Vec::new(),
    }
}

fn cut(text: &str, most: usize) -> String {
    text[..text.floor_char_boundary(most)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Default)]
    struct Map(BTreeMap<Vec<u8>, Doc>);

    impl Docs for Map {
        fn get(&mut self, key: &[u8]) -> Option<Doc> {
            self.0.get(key).cloned()
        }

        fn put(&mut self, doc: Doc) {
            self.0.insert(doc.key(), doc);
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn incident(state: &str, second: i64, what: &str) -> Effect {
        Effect::Record(Entry::Incident {
            id: "I-7".to_owned(),
            host: HostId(5),
            state: state.to_owned(),
            severity: Severity::Warning,
            at: at(second),
            by: String::new(),
            what: what.to_owned(),
        })
    }

    #[test]
    fn an_incident_is_followed_through_its_life() {
        let mut docs = Map::default();
        take_in(
            &mut docs,
            3,
            at(10),
            &[incident("open", 9, "volume /data full")],
        );
        take_in(
            &mut docs,
            4,
            at(20),
            &[incident("acknowledged", 19, "on it")],
        );
        let delivered = Effect::Record(Entry::Delivered {
            key: "I-7/1/ops".to_owned(),
            outcome: dawnwatch_engine::input::Outcome::Arrived,
            answer: String::new(),
        });
        take_in(&mut docs, 5, at(21), &[delivered]);
        take_in(&mut docs, 9, at(30), &[incident("closed", 29, "healed")]);
        let doc = &docs.0[&key("incident", HostId(0), "I-7")];
        assert_eq!(
            (doc.state.as_str(), doc.text.as_str()),
            ("closed", "volume /data full")
        );
        assert_eq!(
            (doc.since, doc.until, &doc.frames[..]),
            (at(9), Some(at(29)), &[3, 4, 5, 9][..])
        );
        assert_eq!(doc.words(), ["7", "closed", "data", "full", "i", "volume"]);
    }

    #[test]
    fn a_shape_of_a_host_is_its_own_and_is_kept_as_told_last() {
        let mut docs = Map::default();
        let mut told = Template {
            id: 4,
            text: "Peer <ip> gone".to_owned(),
            source: "sshd".to_owned(),
            severity: 6,
            ..Template::default()
        };
        template(&mut docs, HostId(1), at(40), 7, &told);
        told.severity = 3;
        template(&mut docs, HostId(1), at(50), 9, &told);
        template(&mut docs, HostId(2), at(60), 9, &told);
        assert_eq!(docs.0.len(), 2);
        let doc = docs.0.values().next().unwrap();
        assert_eq!((doc.since, doc.severity), (at(50), Severity::Warning));
        assert_eq!(doc.words(), ["4", "gone", "ip", "peer", "sshd"]);
    }

    #[test]
    fn the_longest_document_fits() {
        let mut docs = Map::default();
        for frame in 0..1_000 {
            take_in(
                &mut docs,
                u64::MAX - 1_000 + frame,
                at(1),
                &[incident("open", 1, &"ä".repeat(9_000))],
            );
        }
        let doc = docs.0.values().next().unwrap();
        assert_eq!(doc.frames.len(), FRAMES_MAX);
        assert_eq!(doc.frames[0], u64::MAX - 1_000);
        assert_eq!(*doc.frames.last().unwrap(), u64::MAX - 1);
        assert!(crate::plain::bytes(doc).len() <= 4 * 1024);
    }
}
