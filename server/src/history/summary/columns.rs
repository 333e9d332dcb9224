//! The form of summaries in files of version 2: by series, so that one series of all hosts is one read.
//!
//! Hosts come in groups of up to 64, in order. What all series of a host share, its times, stands once, in the group's chunk
//! of times; each series has one chunk a group beside it.
//!
//! | chunk of times | content |
//! |---|---|
//! | hosts | their number, LEB128 |
//! | each host | id u128 LE, number of steps (LEB128), then each step: first time (zigzag LEB128 of the difference to the step before, from 0), last less first time, samples (LEB128) |
//!
//! | chunk of a series | content |
//! |---|---|
//! | each step of each host | as [`super::bytes`] writes a summary; the last known value begins at 0 with each host, the quantum at 1/1 with the chunk |

use std::collections::BTreeMap;

use dawnwatch_engine::block::TICKS_MAX;
use dawnwatch_proto::{HostId, Schema, Series};

use super::Summary;
use super::bytes::{
    CUT, Quantum, Step, Usual, Why, get, get_one, get_times, put, put_one, put_times, times,
};

/// Hosts in a group: one host's series is read with those of so many others, some two KiB; the tables of contents of 10,000
/// hosts stay small.
pub(super) const GROUP_HOSTS: usize = 64;

/// Most steps of a host that are read: a hundred changes of schema in an hour, each with the five minutes of an hour.
const STEPS_MAX: u128 = 16 * TICKS_MAX as u128;

/// What a series is found by in a file: its name, labels and kind. Two that share a key by chance would be shown as one; who
/// wants that can send the other's name in the first place, and for its own host alone.
#[must_use]
pub(super) fn key(series: &Series) -> u64 {
    let plain = series.clone().quantum(1, 1);
    Schema::new(vec![plain]).id().0
}

/// A summary and the quantum that its values are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The summary.
    pub summary: Summary,
    /// value = raw * mul / div.
    pub quantum: (u32, u32),
}

/// The steps of some hosts in the making.
#[derive(Debug, Default)]
pub(super) struct Group {
    hosts: Vec<(HostId, Vec<Usual>)>,
    series: BTreeMap<u64, BTreeMap<(usize, usize), Part>>,
}

impl Group {
    /// Hosts in it.
    pub(super) fn len(&self) -> usize {
        self.hosts.len()
    }

    /// The first host.
    pub(super) fn first(&self) -> HostId {
        self.hosts.first().map_or(HostId(0), |(host, _)| *host)
    }

    /// Adds the steps of a raw block: of the host that was added last, or of a later one.
    pub(super) fn add(&mut self, host: HostId, series: &[Series], steps: &[Step]) {
        if self.hosts.last().is_none_or(|(last, _)| *last != host) {
            self.hosts.push((host, Vec::new()));
        }
        let number = self.hosts.len() - 1;
        let Some((_, known)) = self.hosts.last_mut() else {
            return;
        };
        let keys: Vec<u64> = series.iter().map(key).collect();
        for step in steps {
            let usual = step.iter().flatten().max_by_key(|one| one.count);
            let place = (number, known.len());
            known.push(usual.map_or((0, 0, 0), times));
            for ((one, key), series) in step.iter().zip(&keys).zip(series) {
                let Some(summary) = *one else { continue };
                let quantum = (series.mul, series.div);
                let part = Part { summary, quantum };
                self.series.entry(*key).or_default().insert(place, part);
            }
        }
    }

    /// What chunks hold, without some hosts.
    pub(super) fn without(
        hosts: &[(HostId, Vec<Usual>)],
        series: &BTreeMap<u64, Vec<u8>>,
        gone: &impl Fn(HostId) -> bool,
    ) -> Result<Group, Why> {
        let kept = hosts.iter().filter(|(host, _)| !gone(*host)).cloned();
        let mut group = Group {
            hosts: kept.collect(),
            series: BTreeMap::new(),
        };
        for (key, chunk) in series {
            let mut parts = BTreeMap::new();
            let (mut number, mut last) = (0, None);
            places(chunk, hosts, |host, step, part| {
                if gone(host) {
                    return;
                }
                if last != Some(host) {
                    let found = group.hosts.iter().position(|(one, _)| *one == host);
                    (number, last) = (found.unwrap_or(0), Some(host));
                }
                parts.insert((number, step), part);
            })?;
            if !parts.is_empty() {
                group.series.insert(*key, parts);
            }
        }
        Ok(group)
    }

    /// The chunk of times, and the chunk of each series by its key.
    pub(super) fn encode(&self) -> (Vec<u8>, BTreeMap<u64, Vec<u8>>) {
        let mut out = Vec::new();
        put(&mut out, self.hosts.len() as u128);
        for (host, steps) in &self.hosts {
            out.extend(host.0.to_le_bytes());
            put(&mut out, steps.len() as u128);
            let mut before = 0;
            for usual in steps {
                put_times(&mut out, *usual, before);
                before = usual.0;
            }
        }
        let chunk = |parts: &BTreeMap<(usize, usize), Part>| {
            let (mut out, mut quantum) = (Vec::new(), (1, 1));
            for (number, (_, steps)) in self.hosts.iter().enumerate() {
                let mut known = 0;
                for (at, usual) in steps.iter().enumerate() {
                    let Some(part) = parts.get(&(number, at)) else {
                        out.push(0);
                        continue;
                    };
                    let other = (part.quantum != quantum).then_some(part.quantum);
                    quantum = part.quantum;
                    put_one(&mut out, &part.summary, *usual, &mut known, other);
                }
            }
            out
        };
        let all = self.series.iter().map(|(key, parts)| (*key, chunk(parts)));
        (out, all.collect())
    }
}

/// The hosts of a chunk of times, each with the times of its steps.
pub(super) fn hosts(bytes: &[u8]) -> Result<Vec<(HostId, Vec<Usual>)>, Why> {
    let mut rest = bytes;
    let count = get(&mut rest)?;
    if count > GROUP_HOSTS as u128 {
        return Err("more hosts in a group than there can be");
    }
    let mut out = Vec::new();
    for _ in 0..count {
        let (id, tail) = rest.split_first_chunk::<16>().ok_or(CUT)?;
        rest = tail;
        let count = get(&mut rest)?;
        if count > STEPS_MAX {
            return Err("more steps than there can be");
        }
        let (mut steps, mut before) = (Vec::new(), 0);
        for _ in 0..count {
            let usual = get_times(&mut rest, before)?;
            before = usual.0;
            steps.push(usual);
        }
        out.push((HostId(u128::from_le_bytes(*id)), steps));
    }
    whole(rest)?;
    Ok(out)
}

/// The summaries of a chunk of a series, with the host of each; those of one host alone, where one is wanted.
pub(super) fn parts(
    bytes: &[u8],
    hosts: &[(HostId, Vec<Usual>)],
    wanted: Option<HostId>,
    mut take: impl FnMut(HostId, Part),
) -> Result<(), Why> {
    places(bytes, hosts, |host, _, part| {
        if wanted.is_none_or(|wanted| wanted == host) {
            take(host, part);
        }
    })
}

/// The summaries of a chunk, each with its host and the number of its step there.
fn places(
    bytes: &[u8],
    hosts: &[(HostId, Vec<Usual>)],
    mut take: impl FnMut(HostId, usize, Part),
) -> Result<(), Why> {
    let (mut rest, mut quantum): (&[u8], Quantum) = (bytes, (1, 1));
    for (host, steps) in hosts {
        let mut known = 0;
        for (step, usual) in steps.iter().enumerate() {
            let Some(summary) = get_one(&mut rest, *usual, &mut known, Some(&mut quantum))? else {
                continue;
            };
            if quantum.1 == 0 {
                return Err("a quantum of nothing");
            }
            take(*host, step, Part { summary, quantum });
        }
    }
    whole(rest)
}

fn whole(rest: &[u8]) -> Result<(), Why> {
    match rest {
        [] => Ok(()),
        _ => Err("bytes after the last step"),
    }
}
