//! Finds the shapes of lines, one line at a time: which words stay the same and which differ.
//!
//! Lines of one shape have the same marks between the same number of words. A line whose masked text is new is a shape of
//! its own at first. Two shapes become one where they differ in words that look like values, or where enough shapes differ
//! in one and the same word: then that word is one that differs. The lower number lives on; the other one is an alias of it
//! for ever, so a number never means anything else than it did.
//!
//! Deterministic: the same lines in the same order give the same numbers. What it knows are [`Shape`]s in the order they
//! were found or changed; given back, it goes on as if it had never stopped.

use std::collections::BTreeMap;

use super::mask::{ANY, Masked};

/// The number of everything beyond the bound.
pub(crate) const OTHER: u32 = 0;

/// Shapes that differ in one plain word become one from this many on: fewer are states (opened, closed, failed), more are
/// names.
const PLAIN_VALUES: usize = 6;

/// The same for words with dots, dashes and the like in them: names of things rather than words.
const NAME_VALUES: usize = 3;

/// What stands behind a size, and differs with it.
const UNITS: [&str; 8] = ["B", "KB", "MB", "GB", "TB", "KiB", "MiB", "GiB"];

/// Most shapes of one skeleton that a line is compared with: beyond it a program writes prose, and each line costs more
/// than it tells.
const COMPARED_MAX: usize = 256;

/// One shape, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Its number, from 1.
    pub(crate) id: u32,
    /// Its text and words.
    pub(crate) masked: Masked,
    /// The number it became part of; 0 for none.
    pub(crate) into: u32,
}

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shaped {
    /// The number of its shape, or [`OTHER`].
    pub(crate) id: u32,
    /// Whether the shape is new or its text changed.
    pub(crate) is_changed: bool,
}

/// The shapes of one host.
#[derive(Debug, Default)]
pub(crate) struct Miner {
    /// By number less one.
    shapes: Vec<Shape>,
    /// Hash of a masked text to its number.
    exact: BTreeMap<u64, u32>,
    /// Hash of a skeleton to the living shapes that have it.
    groups: BTreeMap<u64, Vec<u32>>,
    /// Shapes that changed since they were last asked for.
    changed: Vec<u32>,
    bound: usize,
    line: Masked,
}

impl Miner {
    /// A miner of at most so many shapes.
    pub(crate) fn new(bound: usize) -> Miner {
        Miner {
            bound,
            ..Miner::default()
        }
    }

    /// Takes a shape that was kept; one with a number that is known replaces it.
    pub(crate) fn restore(&mut self, shape: Shape) {
        let at = shape.id as usize;
        if at == 0 || at > self.shapes.len() + 1 || at > self.bound {
            return;
        }
        self.exact.insert(hash(&shape.masked.text), shape.id);
        let skeleton = skeleton(&shape.masked);
        let group = self.groups.entry(skeleton).or_default();
        group.retain(|id| *id != shape.id);
        if shape.into == 0 {
            group.push(shape.id);
            group.sort_unstable();
        }
        if at == self.shapes.len() + 1 {
            self.shapes.push(shape);
        } else {
            self.shapes[at - 1] = shape;
        }
    }

    /// A shape by its number.
    pub(crate) fn get(&self, id: u32) -> Option<&Shape> {
        self.shapes.get((id as usize).checked_sub(1)?)
    }

    /// The number that a number became part of, or itself.
    pub(crate) fn living(&self, mut id: u32) -> u32 {
        // An alias points to a lower number, so this ends.
        while let Some(shape) = self
            .get(id)
            .filter(|shape| shape.into != 0 && shape.into < id)
        {
            id = shape.into;
        }
        id
    }

    /// Numbers of shapes that are new, changed or became part of another since the last call, in that order.
    pub(crate) fn take_changed(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.changed)
    }

    /// The shape of a line, without its header and its secrets.
    pub(crate) fn shape(&mut self, line: &str) -> Shaped {
        let mut masked = std::mem::take(&mut self.line);
        masked.set(line);
        let shaped = self.find(&masked);
        self.line = masked;
        shaped
    }

    fn find(&mut self, line: &Masked) -> Shaped {
        let known = |id| Shaped {
            id,
            is_changed: false,
        };
        let text = hash(&line.text);
        if let Some(id) = self.exact.get(&text) {
            return known(self.living(*id));
        }
        let skeleton = skeleton(line);
        let group = self.groups.get(&skeleton).map_or(&[][..], Vec::as_slice);
        if let Some(id) = self.matching(group, line) {
            return known(id);
        }
        if self.shapes.len() >= self.bound {
            return known(OTHER);
        }
        let (id, parts) = self.alike(group, line);
        let is_changed = true;
        if parts.is_empty() {
            let id = u32::try_from(self.shapes.len() + 1).unwrap_or(u32::MAX);
            self.restore(Shape {
                id,
                masked: line.clone(),
                into: 0,
            });
            self.changed.push(id);
            return Shaped { id, is_changed };
        }
        self.join(id, &parts, line, skeleton);
        Shaped { id, is_changed }
    }

    /// The shape that this line is one of already: the one with the fewest words left open.
    fn matching(&self, group: &[u32], line: &Masked) -> Option<u32> {
        let open = |id: &&u32| {
            let shape = self.get(**id)?;
            let pairs = || shape.masked.words().zip(line.words());
            pairs()
                .all(|(a, b)| a == b || a == ANY)
                .then(|| pairs().filter(|(a, _)| *a == ANY).count())
        };
        let fits = group
            .iter()
            .take(COMPARED_MAX)
            .filter_map(|id| Some((open(&id)?, *id)));
        fits.min().map(|(_, id)| id)
    }

    /// The shapes that this line makes one, by rising number, and the first of them.
    fn alike(&self, group: &[u32], line: &Masked) -> (u32, Vec<u32>) {
        let mut by_word: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for id in group.iter().take(COMPARED_MAX) {
            let Some(shape) = self.get(*id) else { continue };
            let Some(differs) = differing(&shape.masked, line) else {
                continue;
            };
            if differs.values_only {
                return (*id, vec![*id]);
            }
            if let [at] = differs.words[..]
                && differs.same > 0
            {
                by_word.entry(at).or_default().push(*id);
            }
        }
        for (at, ids) in by_word {
            let is_plain = line.word(at).bytes().all(|b| b.is_ascii_alphabetic());
            let enough = match is_plain {
                true if at == 0 => usize::MAX,
                true => PLAIN_VALUES,
                false => NAME_VALUES,
            };
            if ids.len() + 1 >= enough {
                return (ids[0], ids);
            }
        }
        (OTHER, Vec::new())
    }

    /// Makes these shapes and a line one.
    fn join(&mut self, id: u32, parts: &[u32], line: &Masked, skeleton: u64) {
        let mut masked = line.clone();
        for part in parts {
            if let Some(shape) = self.get(*part) {
                masked = general(&masked, &shape.masked);
            }
        }
        for part in parts {
            let Some(shape) = self.shapes.get_mut(*part as usize - 1) else {
                continue;
            };
            if *part == id {
                shape.masked = masked.clone();
                self.exact.insert(hash(&masked.text), id);
                self.changed.push(id);
            } else {
                shape.into = id;
                self.changed.push(*part);
            }
        }
        if let Some(group) = self.groups.get_mut(&skeleton) {
            group.retain(|other| *other == id || !parts.contains(other));
        }
    }
}

struct Differing {
    words: Vec<usize>,
    /// Words that are the same and no masks.
    same: usize,
    /// All of them look like values, and enough words are the same.
    values_only: bool,
}

/// How two of one skeleton differ; none where a comparison makes no sense.
fn differing(shape: &Masked, line: &Masked) -> Option<Differing> {
    if shape.words.len() != line.words.len() {
        return None;
    }
    let (mut words, mut same, mut values) = (Vec::new(), 0, true);
    for (at, (a, b)) in shape.words().zip(line.words()).enumerate() {
        if a == b {
            same += usize::from(!is_mask(a));
        } else if a != ANY {
            values &= is_value(a) && is_value(b);
            words.push(at);
        }
    }
    let values_only = values && same >= words.len().max(1);
    Some(Differing {
        words,
        same,
        values_only,
    })
}

/// The words that both have, open where they differ.
fn general(a: &Masked, b: &Masked) -> Masked {
    let mut out = Masked::default();
    let mut at = 0;
    for (i, (from, to)) in a.words.iter().enumerate() {
        out.text.push_str(&a.text[at as usize..*from as usize]);
        let start = len(&out.text);
        let word = if a.word(i) == b.word(i) {
            a.word(i)
        } else {
            ANY
        };
        out.text.push_str(word);
        out.words.push((start, len(&out.text)));
        at = *to;
    }
    out.text.push_str(&a.text[at as usize..]);
    out
}

fn len(text: &str) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}

fn is_mask(word: &str) -> bool {
    word.starts_with('<') && word.len() > 1
}

/// Whether a word looks like a value: it was masked, has digits or is a unit of size.
fn is_value(word: &str) -> bool {
    is_mask(word) || UNITS.contains(&word) || word.bytes().any(|b| b.is_ascii_digit())
}

/// What lies between the words, and how many there are.
fn skeleton(masked: &Masked) -> u64 {
    let (mut state, mut at) = (SEED, 0);
    for (from, to) in &masked.words {
        state = mix(state, &masked.text.as_bytes()[at..*from as usize]);
        // A place for the word itself.
        state = mix(state, b"\0");
        at = *to as usize;
    }
    mix(state, &masked.text.as_bytes()[at..])
}

const SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// A 64-bit hash of a text: stable over versions, for it decides nothing but speed.
pub(crate) fn hash_of(bytes: &[u8]) -> u64 {
    mix(SEED, bytes)
}

fn hash(text: &str) -> u64 {
    mix(SEED, text.as_bytes())
}

/// Eight bytes a step, as FxHash does, with a last mixing.
pub(crate) fn mix(mut state: u64, bytes: &[u8]) -> u64 {
    const K: u64 = 0x517c_c1b7_2722_0a95;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let word = chunk
            .first_chunk::<8>()
            .map_or(0, |c| u64::from_le_bytes(*c));
        state = (state.rotate_left(5) ^ word).wrapping_mul(K);
    }
    let mut word = [0; 8];
    let rest = chunks.remainder();
    word[..rest.len()].copy_from_slice(rest);
    state = (state.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(K);
    state = (state.rotate_left(5) ^ bytes.len() as u64).wrapping_mul(K);
    state ^ (state >> 32)
}
