//! What is known of log lines: one dictionary of shapes for the whole fleet, what each host has of them, and its latest whole
//! lines and processes.
//!
//! A shape is known by its text. Hosts number their shapes themselves; here each has one key, whoever met it. A shape that nobody
//! saw for 90 days is forgotten, and so is new again.

mod anew;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dawnwatch_proto::event::{Line, Process, Processes, TEMPLATES_MAX, Template};
use dawnwatch_proto::{HostId, api};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::ms_between;
use crate::detect::rate::Usual;
use crate::incident::AlertRef;
use crate::scrub::Scrub;

/// A shape that nobody saw for so long is new again (PRODUCT: "never seen in 90 days").
pub(crate) const KNOWN_MS: i64 = 90 * 86_400_000;
/// Bytes of text in the dictionary: 100,000 usual shapes; one host that makes up shapes must not fill the memory.
const TEXT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Shapes that hosts have, all hosts together: 180 hosts with 2,500 each, some 30 MB.
const PAIRS_MAX: usize = 450_000;
/// Bytes kept of a shape's text and of its example: a page shows no more.
const SHAPE_BYTES_MAX: usize = 1_024;
/// Latest whole lines kept of a host, for the evidence of what happens next.
const LINES_MAX: usize = 24;
/// Bytes kept of a whole line here: the history has all of it.
const LINE_BYTES_MAX: usize = 512;
/// Processes kept of a host: those that use most CPU, and as many that hold most memory.
const PROCESSES_MAX: usize = 5;

/// Everything that is known of log lines.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Logs {
    keys: BTreeMap<String, u32>,
    pub(crate) shapes: BTreeMap<u32, Shape>,
    last_key: u32,
    /// When log lines were heard of first.
    pub(crate) since: Option<Timestamp>,
    /// When findings were looked through last, in boot time.
    pub(crate) looked_ms: u64,
    text_bytes: usize,
    pairs: usize,
    /// Shapes that were met and not remembered.
    pub(crate) dropped: u64,
    pub(crate) hosts: BTreeMap<HostId, HostLogs>,
    /// Boot times at which findings of their own were opened: so many in a night and no more.
    pub(crate) opened: VecDeque<u64>,
    /// The finding that gathers what is over that.
    pub(crate) gathering: Option<u64>,
    /// Alerts about a shape that fire, or fired lately: rule, shape.
    pub(crate) alerts: BTreeMap<(Rule, u32), Firing>,
    /// Shapes that changed since readers were shown them last.
    #[serde(skip)]
    pub(crate) changed: BTreeSet<u32>,
}

/// What is judged of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Rule {
    New,
    Rate,
    Severity,
}

/// An alert about a shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Firing {
    pub(crate) alert: AlertRef,
    pub(crate) began: Timestamp,
    pub(crate) seen: Timestamp,
    /// When a line of it came last, in boot time of the server.
    pub(crate) seen_ms: u64,
    pub(crate) over: bool,
    /// What is said behind the number of its lines.
    pub(crate) tail: String,
    /// A line of it was critical or worse.
    pub(crate) grave: bool,
}

/// A shape of log lines, over the fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shape {
    pub(crate) text: String,
    pub(crate) source: String,
    pub(crate) example: String,
    pub(crate) severity: u8,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    pub(crate) lines: u64,
    /// Hosts that have it.
    pub(crate) hosts: u32,
}

/// What a host has of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct HostLogs {
    /// When its logs were heard of first: it learns from then on.
    pub(crate) since: Timestamp,
    /// The host's own numbers.
    ids: BTreeMap<u32, u32>,
    pub(crate) seen: BTreeMap<u32, Seen>,
    pub(crate) minute: Minute,
    pub(crate) lines: VecDeque<KeptLine>,
    pub(crate) processes: Option<(Timestamp, Vec<Process>, Vec<Process>)>,
    /// Lines that were not sent whole, and lines that were not shaped.
    pub(crate) cut: u64,
    pub(crate) skipped: u64,
}

/// A shape on one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    /// The worst severity that is usual for it.
    pub(crate) severity: u8,
    pub(crate) usual: Usual,
}

/// Lines of the minute that is under way, by shape.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Minute {
    /// Minutes since 1970.
    pub(crate) number: i64,
    pub(crate) counts: BTreeMap<u32, u32>,
    /// Part of it came from a backlog: it says nothing of a rate.
    pub(crate) backlog: bool,
}

/// A whole line of a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeptLine {
    pub(crate) time: Timestamp,
    pub(crate) key: u32,
    pub(crate) severity: u8,
    pub(crate) source: String,
    pub(crate) text: String,
    pub(crate) cut_from: u32,
}

/// What became of a shape that a host told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Met {
    /// The host has it already, or had one that it grew out of.
    Known,
    /// The host has it since now; who else had it before.
    New {
        key: u32,
        /// First seen in the fleet, where any other host has it.
        elsewhere: Option<Timestamp>,
    },
    /// Over the bounds: counted.
    Dropped,
}

impl Logs {
    /// What is known of a host's logs.
    pub(crate) fn host(&mut self, id: HostId, at: Timestamp) -> &mut HostLogs {
        self.hosts.entry(id).or_insert_with(|| HostLogs {
            since: at,
            ids: BTreeMap::new(),
            seen: BTreeMap::new(),
            minute: Minute::default(),
            lines: VecDeque::new(),
            processes: None,
            cut: 0,
            skipped: 0,
        })
    }

    /// Takes in a shape that a host met, or says anew.
    pub(crate) fn meet(&mut self, id: HostId, at: Timestamp, template: &Template) -> Met {
        let text = cut(&template.text, SHAPE_BYTES_MAX);
        let known = self.host(id, at).ids.get(&template.id).copied();
        let before = known.and_then(|key| Some((key, self.shapes.get(&key)?)));
        if let Some((key, shape)) = before {
            if shape.text == text {
                let worst = shape.severity.min(template.severity);
                self.touch(key).severity = worst;
                return Met::Known;
            }
            if grew(&shape.text, &text) {
                self.rename(id, at, key, template, text);
                return Met::Known;
            }
        }
        let other = self.keys.get(&text).and_then(|key| self.shapes.get(key));
        let elsewhere = other
            .filter(|shape| ms_between(shape.last, at) < KNOWN_MS)
            .map(|shape| shape.first);
        let Some(key) = self.key(text, template, at) else {
            self.dropped = self.dropped.saturating_add(1);
            return Met::Dropped;
        };
        if self.has(id, at, key, template) {
            Met::New { key, elsewhere }
        } else {
            Met::Known
        }
    }

    /// The key of a shape, a fresh one where it is not known; none where there is no room.
    fn key(&mut self, text: String, template: &Template, at: Timestamp) -> Option<u32> {
        if let Some(key) = self.keys.get(&text).copied() {
            let shape = self.touch(key);
            shape.severity = shape.severity.min(template.severity);
            return Some(key);
        }
        let source = cut(&template.source, SHAPE_BYTES_MAX);
        let example = cut(&template.example, SHAPE_BYTES_MAX);
        let bytes = 2 * text.len() + source.len() + example.len();
        if self.text_bytes + bytes > TEXT_BYTES_MAX {
            return None;
        }
        self.text_bytes += bytes;
        self.last_key += 1;
        let key = self.last_key;
        self.keys.insert(text.clone(), key);
        let shape = Shape {
            text,
            source,
            example,
            severity: template.severity,
            first: at,
            last: at,
            lines: 0,
            hosts: 0,
        };
        self.shapes.insert(key, shape);
        self.changed.insert(key);
        Some(key)
    }

    /// The host has a shape. Returns whether it had not before; where there is no room, it had.
    fn has(&mut self, id: HostId, at: Timestamp, key: u32, template: &Template) -> bool {
        let room = self.pairs < PAIRS_MAX;
        let host = self.host(id, at);
        if host.ids.len() >= TEMPLATES_MAX && !host.ids.contains_key(&template.id) {
            self.dropped = self.dropped.saturating_add(1);
            return false;
        }
        host.ids.insert(template.id, key);
        if let Some(seen) = host.seen.get_mut(&key) {
            let forgotten = ms_between(seen.last, at) >= KNOWN_MS;
            seen.last = seen.last.max(at);
            return forgotten;
        }
        if !room {
            host.ids.remove(&template.id);
            self.dropped = self.dropped.saturating_add(1);
            return false;
        }
        let seen = Seen {
            first: at,
            last: at,
            severity: template.severity,
            usual: Usual::default(),
        };
        host.seen.insert(key, seen);
        self.pairs += 1;
        self.touch(key).hosts += 1;
        true
    }

    /// A shape became more general: what is known of it goes on under its new text.
    fn rename(&mut self, id: HostId, at: Timestamp, old: u32, template: &Template, text: String) {
        let Some(key) = self.key(text, template, at) else {
            return;
        };
        let (first, lines) = self
            .shapes
            .get(&old)
            .map_or((at, 0), |s| (s.first, s.lines));
        let shape = self.touch(key);
        shape.first = shape.first.min(first);
        shape.lines = shape.lines.max(lines);
        let host = self.host(id, at);
        host.ids.insert(template.id, key);
        let before = host.seen.remove(&old);
        let fresh = before.is_some() && !host.seen.contains_key(&key);
        match before {
            Some(before) if fresh => drop(host.seen.insert(key, before)),
            Some(_) => self.pairs -= 1,
            None => {}
        }
        if fresh {
            self.touch(key).hosts += 1;
        }
        let left = self.touch(old);
        left.hosts = left.hosts.saturating_sub(1);
        let rules = [Rule::New, Rule::Rate, Rule::Severity];
        for rule in rules {
            if let Some(firing) = self.alerts.get(&(rule, old)).cloned() {
                self.alerts.entry((rule, key)).or_insert(firing);
            }
        }
    }

    /// The key of a host's own number.
    pub(crate) fn key_of(&self, id: HostId, number: u32) -> Option<u32> {
        self.hosts.get(&id)?.ids.get(&number).copied()
    }

    /// A shape to change, so that readers are shown it anew.
    pub(crate) fn touch(&mut self, key: u32) -> &mut Shape {
        self.changed.insert(key);
        self.shapes
            .get_mut(&key)
            .expect("keys name shapes that are there")
    }

    /// Keeps a whole line.
    pub(crate) fn line(&mut self, id: HostId, at: Timestamp, line: &Line) -> KeptLine {
        let key = self.key_of(id, line.template).unwrap_or(0);
        let text = cut(&line.text, LINE_BYTES_MAX);
        let cut_from = if text.len() < line.text.len() && line.cut_from == 0 {
            u32::try_from(line.text.len()).unwrap_or(u32::MAX)
        } else {
            line.cut_from
        };
        let kept = KeptLine {
            time: at,
            key,
            severity: line.severity,
            source: cut(&line.source, LINE_BYTES_MAX),
            text,
            cut_from,
        };
        let host = self.host(id, at);
        if host.lines.len() >= LINES_MAX {
            host.lines.pop_front();
        }
        host.lines.push_back(kept.clone());
        kept
    }

    /// Keeps who uses the machine.
    pub(crate) fn processes(&mut self, id: HostId, at: Timestamp, processes: Processes) {
        let mut busy = processes.top;
        let mut large = busy.clone();
        busy.sort_by(|a, b| (b.cpu_permille, a.pid).cmp(&(a.cpu_permille, b.pid)));
        large.sort_by(|a, b| (b.rss_bytes, a.pid).cmp(&(a.rss_bytes, b.pid)));
        busy.truncate(PROCESSES_MAX);
        large.truncate(PROCESSES_MAX);
        self.host(id, at).processes = Some((at, busy, large));
    }

    /// Forgets a host.
    pub(crate) fn forget(&mut self, id: HostId) {
        let Some(host) = self.hosts.remove(&id) else {
            return;
        };
        self.pairs -= host.seen.len();
        for key in host.seen.keys() {
            let shape = self.touch(*key);
            shape.hosts = shape.hosts.saturating_sub(1);
        }
    }

    /// Forgets a host, and shapes that no host has any more. Returns those whose examples may be its lines: its own shapes, or
    /// all, where it was retired before and nobody knows which they were.
    pub(crate) fn forget_all(&mut self, id: HostId) -> BTreeSet<u32> {
        let had: Option<BTreeSet<u32>> = self
            .hosts
            .get(&id)
            .map(|host| host.seen.keys().copied().collect());
        self.forget(id);
        let orphans = self.shapes.iter().filter(|(_, shape)| shape.hosts == 0);
        let gone: BTreeSet<u32> = orphans.map(|(key, _)| *key).collect();
        self.remove(&gone);
        self.alerts.retain(|(_, key), _| !gone.contains(key));
        had.unwrap_or_else(|| self.shapes.keys().copied().collect())
    }

    /// Empties examples that may be an erased host's, and takes its names out of the others' texts.
    pub(crate) fn scrub(&mut self, shared: &BTreeSet<u32>, scrub: &Scrub) {
        for (key, shape) in &mut self.shapes {
            let mut text = shape.text.clone();
            let renamed = scrub.text(&mut text) && !self.keys.contains_key(&text);
            if renamed {
                self.keys.remove(&shape.text);
                self.keys.insert(text.clone(), *key);
                self.text_bytes =
                    (self.text_bytes + 2 * text.len()).saturating_sub(2 * shape.text.len());
                shape.text = text;
            }
            let emptied = shared.contains(key) || scrub.text(&mut shape.example.clone());
            if emptied {
                self.text_bytes = self.text_bytes.saturating_sub(shape.example.len());
                shape.example.clear();
            }
            let mut source = shape.source.clone();
            let moved = scrub.text(&mut source);
            if moved {
                self.text_bytes =
                    (self.text_bytes + source.len()).saturating_sub(shape.source.len());
                shape.source = source;
            }
            if renamed || emptied || moved {
                self.changed.insert(*key);
            }
        }
        for host in self.hosts.values_mut() {
            for line in &mut host.lines {
                scrub.text(&mut line.text);
            }
        }
    }

    /// Forgets what nobody saw for long.
    pub(crate) fn prune(&mut self, wall: Timestamp) {
        let old = |last: Timestamp| ms_between(last, wall) > KNOWN_MS;
        let mut gone: BTreeSet<u32> = self
            .shapes
            .iter()
            .filter(|(_, s)| old(s.last))
            .map(|(k, _)| *k)
            .collect();
        gone.retain(|key| !self.alerts.keys().any(|(_, known)| known == key));
        self.remove(&gone);
    }

    fn remove(&mut self, gone: &BTreeSet<u32>) {
        if gone.is_empty() {
            return;
        }
        for key in gone {
            if let Some(shape) = self.shapes.remove(key) {
                let bytes = 2 * shape.text.len() + shape.source.len() + shape.example.len();
                self.text_bytes = self.text_bytes.saturating_sub(bytes);
                self.keys.remove(&shape.text);
            }
            self.changed.insert(*key);
        }
        for host in self.hosts.values_mut() {
            host.ids.retain(|_, key| !gone.contains(key));
            let before = host.seen.len();
            host.seen.retain(|key, _| !gone.contains(key));
            self.pairs -= before - host.seen.len();
        }
    }
}

impl KeptLine {
    /// As the API shows it.
    pub(crate) fn shown(&self, host: HostId, name: &str) -> api::LogLine {
        api::LogLine {
            time: self.time,
            host,
            name: name.to_owned(),
            severity: self.severity,
            source: self.source.clone(),
            text: self.text.clone(),
            cut_from: self.cut_from,
        }
    }
}

/// Whether a shape can have become another by lines that differ in more places: as many words, each the same or open now.
fn grew(before: &str, after: &str) -> bool {
    let (mut before, mut after) = (before.split_whitespace(), after.split_whitespace());
    loop {
        match (before.next(), after.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a == b || b.contains('<') && b.contains('>') => {}
            (Some(_) | None, Some(_) | None) => return false,
        }
    }
}

/// The beginning of a text, cut at a character.
pub(crate) fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most).rev().find(|i| text.is_char_boundary(*i));
    text[..end.unwrap_or(0)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_gives_one_shape_ever_new_numbers_takes_no_more_than_its_bound() {
        let (host, at) = (HostId(1), Timestamp::UNIX_EPOCH);
        let mut logs = Logs::default();
        for id in 0..=u32::try_from(TEMPLATES_MAX).unwrap() + 10 {
            let template = Template {
                id,
                text: "link <num> is up".to_owned(),
                ..Template::default()
            };
            logs.meet(host, at, &template);
        }
        assert_eq!(logs.hosts[&host].ids.len(), TEMPLATES_MAX);
        assert_eq!((logs.dropped, logs.pairs), (11, 1));
    }
}
