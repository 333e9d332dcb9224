//! A group of hosts in a summary file: who they are and when they have what, once for all series, and then the series.
//!
//! | part | content |
//! |---|---|
//! | head | pages: their number, then of each the key of its first series u64 LE, its length, its CRC32C u32 LE |
//! | | hosts: their number, then of each its id u128 LE, and how many steps it has |
//! | | times, in bits: the codes of six kinds of number (`code.rs`), and then each step of each host: first time, last less first, samples; from a host's second step on the first time less the last one of the step before, and all three with codes of their own |
//! | pages | chunks one after the other, by key: key u64 LE, length, and what `chunk.rs` writes |
//!
//! Lengths and numbers without a type are LEB128. A page is closed when it has some 4 KiB: whoever wants one series reads the
//! head and one page. A group that has nothing of a series has no chunk of it.

use std::collections::BTreeMap;
use std::ops::Range;

use dawnwatch_engine::block::TICKS_MAX;
use dawnwatch_engine::block::bits::{BitReader, BitWriter};
use dawnwatch_proto::{HostId, Kind, Schema, Series};

use super::chunk::{self, times};
use super::code::Code;
use super::make::Step;
use super::scale::OVER;
use super::{Shape, Summary, Why};

/// Hosts in a group: one host's series is read with those of so many others, some half a KiB.
const GROUP_HOSTS: usize = 64;

/// A group is closed as well when it has so many steps.
const GROUP_STEPS: usize = 16 * 1_024;

/// Most steps of a host that are read: a hundred changes of schema in an hour, each with the five minutes of an hour.
const STEPS_MAX: usize = 16 * TICKS_MAX;

/// Most steps of a group that are read.
pub const GROUP_STEPS_MAX: usize = GROUP_STEPS + STEPS_MAX;

/// A page is closed when it has so many bytes: a read costs about as much as that many are worth, and each page some fourteen.
const PAGE_BYTES: usize = 4 * 1024;

/// Longest page that is read: the most steps of a group, each with numbers of 128 bits.
const PAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most pages of a group that are read: as many series as 64 hosts of 2,000 could name.
const PAGES_MAX: u64 = 1 << 17;

/// First time in Unix milliseconds, last less first, samples.
pub(super) type Usual = (i64, i64, u32);

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

/// Hosts in order, and the times of their steps.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Hosts {
    /// Each with the number of its last step, and one more.
    ids: Vec<(HostId, usize)>,
    /// The times of all steps, host by host.
    pub(super) steps: Vec<Usual>,
}

impl Hosts {
    /// Each host, and which steps are its own.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (HostId, Range<usize>)> {
        let mut from = 0;
        self.ids.iter().map(move |(host, end)| {
            let range = from..*end;
            from = *end;
            (*host, range)
        })
    }

    /// Adds a host: of the steps that are no other's.
    pub(super) fn push(&mut self, host: HostId) {
        self.ids.push((host, self.steps.len()));
    }

    /// The steps of a host; none where it is not here.
    pub(super) fn steps_of(&self, wanted: HostId) -> Option<Range<usize>> {
        self.ranges()
            .find_map(|(host, range)| (host == wanted).then_some(range))
    }

    /// Whether one of them is among these.
    pub(super) fn any(&self, is: impl Fn(HostId) -> bool) -> bool {
        self.ids.iter().any(|(host, _)| is(*host))
    }

    fn write(&self, out: &mut Vec<u8>) {
        put(out, self.ids.len() as u64);
        for (host, range) in self.ranges() {
            out.extend(host.0.to_le_bytes());
            put(out, range.len() as u64);
        }
        let mut numbers: [Vec<i128>; 6] = Default::default();
        for number in self.numbers() {
            numbers[number.0].push(number.1);
        }
        let codes = numbers.map(|numbers| Code::best(&numbers).0);
        let mut bits = BitWriter::after(std::mem::take(out));
        codes.iter().for_each(|code| code.name(&mut bits));
        for (kind, number) in self.numbers() {
            codes[kind].put(&mut bits, number);
        }
        *out = bits.done();
    }

    /// The numbers of all steps, each with its kind.
    fn numbers(&self) -> impl Iterator<Item = (usize, i128)> {
        self.ranges().flat_map(|(_, range)| {
            let mut before = None;
            self.steps[range]
                .iter()
                .flat_map(move |(first, long, count)| {
                    let first = i128::from(*first);
                    let (kind, since) = before.map_or((0, 0), |before| (3, before));
                    let end = first + i128::from(*long);
                    before = Some(end);
                    [
                        (kind, first - since),
                        (kind + 1, (*long).into()),
                        (kind + 2, (*count).into()),
                    ]
                })
        })
    }

    fn read(mut rest: &[u8]) -> Result<Hosts, Why> {
        let count = get(&mut rest)?;
        if count > GROUP_HOSTS as u64 {
            return Err("more hosts in a group than there can be");
        }
        let (mut ids, mut all) = (Vec::new(), 0usize);
        for _ in 0..count {
            let (id, tail) = rest.split_first_chunk::<16>().ok_or(CUT)?;
            rest = tail;
            all += length(&mut rest, STEPS_MAX)?;
            ids.push((HostId(u128::from_le_bytes(*id)), all));
        }
        if all > GROUP_STEPS_MAX {
            return Err("more steps in a group than there can be");
        }
        let mut bits = BitReader::new(rest);
        let codes: [Code; 6] = std::array::from_fn(|_| Code::named(&mut bits));
        let mut hosts = Hosts {
            ids,
            steps: Vec::with_capacity(all),
        };
        let mut from = 0;
        for (_, end) in &hosts.ids {
            let mut before = None;
            for _ in from..*end {
                let (kind, since) = before.map_or((0, 0), |before| (3, before));
                let mut number = |kind: usize| codes[kind].get(&mut bits);
                let first = number(kind)?.checked_add(since).ok_or(OVER)?;
                let (long, count) = (number(kind + 1)?, number(kind + 2)?);
                before = Some(first.checked_add(long).ok_or(OVER)?);
                let first = i64::try_from(first).map_err(|_| OVER)?;
                let long = i64::try_from(long).map_err(|_| OVER)?;
                let count = u32::try_from(count).map_err(|_| OVER)?;
                hosts.steps.push((first, long, count));
            }
            from = *end;
        }
        match bits.is_spent() {
            true => Ok(hosts),
            false => Err("bytes after the last step"),
        }
    }
}

/// Where a page is.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageAt {
    /// The key of its first series.
    key: u64,
    /// Its first byte, from the end of the head.
    pub(super) offset: u64,
    /// Number of its bytes.
    pub(super) length: usize,
    crc: u32,
}

/// The head of a group.
#[derive(Debug)]
pub(super) struct Head {
    /// Its hosts.
    pub(super) hosts: Hosts,
    /// Its pages, by key.
    pub(super) pages: Vec<PageAt>,
}

impl Head {
    /// Reads a head.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(bytes: &[u8]) -> Result<Head, Why> {
        let mut rest = bytes;
        let count = get(&mut rest)?;
        if count > PAGES_MAX {
            return Err("more pages than there can be");
        }
        let (mut pages, mut offset) = (Vec::new(), 0);
        for _ in 0..count {
            let (key, tail) = rest.split_first_chunk::<8>().ok_or(CUT)?;
            rest = tail;
            let length = length(&mut rest, PAGE_BYTES_MAX)?;
            let (crc, tail) = rest.split_first_chunk::<4>().ok_or(CUT)?;
            rest = tail;
            pages.push(PageAt {
                key: u64::from_le_bytes(*key),
                offset,
                length,
                crc: u32::from_le_bytes(*crc),
            });
            offset += length as u64;
        }
        let hosts = Hosts::read(rest)?;
        Ok(Head { hosts, pages })
    }

    /// The page that a series would be in.
    pub(super) fn page_of(&self, key: u64) -> Option<&PageAt> {
        let behind = self.pages.partition_point(|page| page.key <= key);
        behind.checked_sub(1).and_then(|at| self.pages.get(at))
    }

    /// Where the last page ends, from the end of the head.
    pub(super) fn end(&self) -> u64 {
        let last = self.pages.last();
        last.map_or(0, |page| page.offset + page.length as u64)
    }
}

impl PageAt {
    /// The chunks of the page, each with its key.
    fn chunks<'a>(
        &self,
        page: &'a [u8],
    ) -> Result<impl Iterator<Item = Result<(u64, &'a [u8]), Why>>, Why> {
        if crc32c::crc32c(page) != self.crc {
            return Err("a page is damaged");
        }
        let mut rest = page;
        Ok(std::iter::from_fn(move || {
            (!rest.is_empty()).then(|| {
                let one = one_chunk(&mut rest);
                // Nothing behind what cannot be read.
                rest = if one.is_ok() { rest } else { &[] };
                one
            })
        }))
    }

    /// The chunk of a series, where the page has one.
    ///
    /// # Errors
    /// What is wrong with the page.
    pub(super) fn chunk<'a>(&self, page: &'a [u8], key: u64) -> Result<Option<&'a [u8]>, Why> {
        for one in self.chunks(page)? {
            let (own, chunk) = one?;
            if own == key {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }
}

/// Takes a chunk from the front of a page.
fn one_chunk<'a>(rest: &mut &'a [u8]) -> Result<(u64, &'a [u8]), Why> {
    let (key, mut tail) = rest.split_first_chunk::<8>().ok_or(CUT)?;
    let most = tail.len();
    let length = length(&mut tail, most)?;
    let (chunk, tail) = tail.split_at_checked(length).ok_or(CUT)?;
    *rest = tail;
    Ok((u64::from_le_bytes(*key), chunk))
}

/// A group that was read whole: its hosts, and the chunk of each series by its key.
#[derive(Debug)]
pub(super) struct Whole<'a> {
    pub(super) hosts: Hosts,
    pub(super) chunks: Vec<(u64, &'a [u8])>,
}

impl<'a> Whole<'a> {
    /// Takes what is behind a head apart.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn of(head: Head, pages: &'a [u8]) -> Result<Whole<'a>, Why> {
        let (mut rest, mut chunks) = (pages, Vec::new());
        for at in &head.pages {
            let (page, tail) = rest.split_at_checked(at.length).ok_or(CUT)?;
            rest = tail;
            let from = chunks.len();
            for one in at.chunks(page)? {
                chunks.push(one?);
            }
            if chunks.get(from).is_none_or(|(key, _)| *key != at.key) {
                return Err("a page begins with another series than its head says");
            }
        }
        if !chunks.is_sorted_by(|a, b| a.0 < b.0) {
            return Err("its series are in no order");
        }
        let hosts = head.hosts;
        Ok(Whole { hosts, chunks })
    }
}

/// A group in the making.
#[derive(Debug, Default)]
pub(super) struct Group {
    hosts: Hosts,
    series: BTreeMap<u64, BTreeMap<usize, Part>>,
}

impl Group {
    /// Whether it takes no further host.
    pub(super) fn is_full(&self) -> bool {
        self.hosts.ids.len() >= GROUP_HOSTS || self.hosts.steps.len() >= GROUP_STEPS
    }

    /// The first host; none where there is none.
    pub(super) fn first(&self) -> Option<HostId> {
        self.hosts.ids.first().map(|(host, _)| *host)
    }

    /// Adds the steps of a raw block: of the host that was added last, or of a later one.
    pub(super) fn add(&mut self, host: HostId, series: &[Series], steps: &[Step]) {
        let from = self.hosts.steps.len();
        match self.hosts.ids.last_mut() {
            Some((last, end)) if *last == host => *end += steps.len(),
            _ => self.hosts.ids.push((host, from + steps.len())),
        }
        let keys: Vec<u64> = series.iter().map(key).collect();
        for (step, at) in steps.iter().zip(from..) {
            let usual = step.iter().flatten().max_by_key(|one| one.count);
            self.hosts.steps.push(usual.map_or((0, 0, 0), times));
            for ((one, key), series) in step.iter().zip(&keys).zip(series) {
                let Some(summary) = *one else { continue };
                // A chunk is of one kind, as its series is.
                let is_counter = matches!(summary.shape, Shape::Counter { .. });
                if is_counter == (series.kind == Kind::Counter) {
                    let quantum = (series.mul, series.div);
                    let parts = self.series.entry(*key).or_default();
                    parts.insert(at, Part { summary, quantum });
                }
            }
        }
    }

    /// What a group holds, without some hosts.
    pub(super) fn without(
        Whole { hosts, chunks }: &Whole<'_>,
        gone: &impl Fn(HostId) -> bool,
    ) -> Result<Group, Why> {
        let mut group = Group::default();
        // The new number of each step that stays.
        let mut places = BTreeMap::new();
        for (host, range) in hosts.ranges().filter(|(host, _)| !gone(*host)) {
            for at in range {
                places.insert(at, group.hosts.steps.len());
                group.hosts.steps.push(hosts.steps[at]);
            }
            group.hosts.push(host);
        }
        for (key, bytes) in chunks {
            let mut parts = BTreeMap::new();
            chunk::decode(bytes, hosts, None, |_, at, part| {
                if let Some(at) = places.get(&at) {
                    parts.insert(*at, part);
                }
            })?;
            if !parts.is_empty() {
                group.series.insert(*key, parts);
            }
        }
        Ok(group)
    }

    /// The head, and the pages behind it.
    pub(super) fn encode(&self) -> (Vec<u8>, Vec<u8>) {
        let mut pages: Vec<(u64, Vec<u8>)> = Vec::new();
        for (key, parts) in &self.series {
            if pages
                .last()
                .is_none_or(|(_, page)| page.len() >= PAGE_BYTES)
            {
                pages.push((*key, Vec::new()));
            }
            let Some((_, page)) = pages.last_mut() else {
                continue;
            };
            let chunk = chunk::encode(&self.hosts, parts);
            page.extend(key.to_le_bytes());
            put(page, chunk.len() as u64);
            page.extend(chunk);
        }
        let mut head = Vec::new();
        put(&mut head, pages.len() as u64);
        for (key, page) in &pages {
            head.extend(key.to_le_bytes());
            put(&mut head, page.len() as u64);
            head.extend(crc32c::crc32c(page).to_le_bytes());
        }
        self.hosts.write(&mut head);
        let pages = pages.into_iter().flat_map(|(_, page)| page);
        (head, pages.collect())
    }
}

const CUT: Why = "it is cut off";

/// Writes LEB128.
fn put(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v.to_le_bytes()[0] | 0x80);
        v >>= 7;
    }
    out.push(v.to_le_bytes()[0]);
}

/// Reads LEB128.
fn get(rest: &mut &[u8]) -> Result<u64, Why> {
    let mut v = 0u64;
    for shift in (0..63).step_by(7) {
        let (byte, tail) = rest.split_first().ok_or(CUT)?;
        *rest = tail;
        v |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(v);
        }
    }
    Err(OVER)
}

/// Reads a length that may be as long as `most`.
fn length(rest: &mut &[u8], most: usize) -> Result<usize, Why> {
    let length = usize::try_from(get(rest)?).ok();
    length.filter(|length| *length <= most).ok_or(OVER)
}
