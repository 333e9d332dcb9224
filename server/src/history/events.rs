//! Events of hosts: what happened that is not a number, beside the rows in head and hour files.
//!
//! In an hour file a host's events stand in chunks, in the order of their arrival. A chunk is
//!
//! | field | content |
//! |---|---|
//! | version | u8, 1 |
//! | count | number of events, LEB128 |
//! | events | each: corrected time in Unix milliseconds (zigzag LEB128 of the difference to the one before), length (LEB128), the event's protobuf form |
//!
//! The protobuf form is the wire's: kinds and fields that a later build adds are passed over by an earlier one, never an error.

use std::collections::BTreeMap;
use std::sync::Arc;

use dawnwatch_proto::event::Event;
use dawnwatch_proto::{HostId, pb};
use jiff::Timestamp;
use prost::Message;
use serde::{Deserialize, Serialize};

use super::hour::{EventsAt, HourFile};
use super::{Error, History};

/// A chunk is closed once it holds so many bytes: reading one costs well under a millisecond.
pub const CHUNK_BYTES: usize = 256 * 1024;

/// Most events in one answer: what a person or a page can take, and a bound for the memory of a request.
pub const EVENTS_MAX: usize = 20_000;

/// Most bytes of events in one answer: 20,000 lines of 64 KiB would be more than a small server has.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

pub(crate) const VERSION: u8 = 1;

/// An event as history keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRow {
    /// Corrected time, Unix milliseconds.
    pub time_ms: i64,
    /// The journal position that it came in at.
    pub position: u64,
    /// Its protobuf form.
    #[serde(serialize_with = "crate::plain::at_once")]
    pub bytes: Arc<[u8]>,
}

impl EventRow {
    /// Keeps an event that came in at a journal position.
    #[must_use]
    pub fn of(event: &Event, at: Timestamp, position: u64) -> EventRow {
        EventRow {
            time_ms: at.as_millisecond(),
            position,
            bytes: event.to_pb().encode_to_vec().into(),
        }
    }
}

/// Which events are wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Of this host; of all where it is none.
    pub host: Option<HostId>,
    /// From this corrected time on.
    pub from: Timestamp,
    /// Before this one.
    pub to: Timestamp,
    /// Not more than this, the latest ones; [`EVENTS_MAX`] at most.
    pub limit: usize,
}

/// Events of a span.
#[derive(Debug, Default)]
pub struct Found {
    /// Host, corrected time and event, in order of time.
    pub events: Vec<(HostId, Timestamp, Event)>,
    /// There were earlier ones in the span, over the limit.
    pub more: bool,
    /// Parts of the span that could not be read, in words.
    pub damaged: Vec<String>,
}

impl History {
    /// The latest events within `[from, to)`, `limit` at most, in order of their corrected times.
    #[must_use]
    pub fn events(
        &self,
        host: Option<HostId>,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
    ) -> Vec<(HostId, Timestamp, Event)> {
        let wanted = Wanted {
            host,
            from,
            to,
            limit,
        };
        self.events_where(&wanted, |_, _| true).events
    }

    /// As [`History::events`], of those alone that `keep` says yes to; the limit counts these.
    #[must_use]
    pub fn events_where(
        &self,
        wanted: &Wanted,
        mut keep: impl FnMut(HostId, &Event) -> bool,
    ) -> Found {
        let mut latest = Latest::of(wanted);
        let erased = self.erased();
        let mut keep = |host: HostId, event: &Event| !erased.contains(&host) && keep(host, event);
        // The head first, the files after it: what is sealed in between is seen twice and kept once.
        for (host, row) in self.head().events(wanted.host) {
            latest.offer(host, row.time_ms, &row.bytes, &mut keep);
        }
        for file in self.files().iter().rev() {
            for chunk in file.events_of(wanted.host) {
                if latest.may_hold(chunk)
                    && let Err(error) = latest.read(file, chunk, &mut keep)
                {
                    latest.found.damaged.push(error.to_string());
                }
            }
        }
        latest.end()
    }

    /// The latest events of a host, and of those that it was before somebody said that they are one.
    #[must_use]
    pub fn events_joined(
        &self,
        wanted: &Wanted,
        before: &[HostId],
        mut keep: impl FnMut(&Event) -> bool,
    ) -> Found {
        let mut keep = |_: HostId, event: &Event| keep(event);
        let mut all = self.events_where(wanted, &mut keep);
        for host in before {
            let host = Some(*host);
            let more = self.events_where(&Wanted { host, ..*wanted }, &mut keep);
            all.events.extend(more.events);
            all.events.sort_by_key(|(_, at, _)| *at);
            let over = all.events.len().saturating_sub(wanted.limit);
            all.events.drain(..over);
            all.more |= more.more || over > 0;
            all.damaged.extend(more.damaged);
        }
        all.damaged.sort();
        all.damaged.dedup();
        all
    }
}

/// An event as [`History::events_after`] shows it.
#[derive(Debug)]
pub struct Shown {
    /// Whose.
    pub host: HostId,
    /// Its corrected time.
    pub at: Timestamp,
    /// A journal position that it came in at, or the last one of the file that it is in.
    pub position: u64,
    /// What.
    pub event: Event,
}

impl History {
    /// Shows every event that came in after a journal position, each host's in their order, some of them twice. Returns the
    /// position up to which all were shown. What is damaged on disk is passed over.
    ///
    /// # Errors
    /// What `see` says.
    pub fn events_after<E>(
        &self,
        position: u64,
        mut see: impl FnMut(Shown) -> Result<(), E>,
    ) -> Result<u64, E> {
        // The head first: what is sealed meanwhile is then in both. Shown last, for it came last.
        let head = self.head().events_after(position);
        let erased = self.erased();
        let mut through = position;
        for file in self.files().iter() {
            let position = file.footer.through;
            if position <= through {
                continue;
            }
            let chunks = file.events_of(None).iter();
            for chunk in chunks.filter(|chunk| !erased.contains(&chunk.host)) {
                let Ok(bytes) = file.read_events(chunk) else {
                    continue;
                };
                for (time_ms, bytes) in decode(&bytes).unwrap_or_default() {
                    show(chunk.host, time_ms, position, bytes, &mut see)?;
                }
            }
            through = position;
        }
        for (host, row) in head {
            through = through.max(row.position);
            show(host, row.time_ms, row.position, &row.bytes, &mut see)?;
        }
        Ok(through)
    }
}

fn show<E>(
    host: HostId,
    time_ms: i64,
    position: u64,
    bytes: &[u8],
    see: &mut impl FnMut(Shown) -> Result<(), E>,
) -> Result<(), E> {
    let event = pb::Event::decode(bytes).ok().map(Event::from_pb);
    let Some(Ok(event)) = event else {
        return Ok(());
    };
    let at = Timestamp::from_millisecond(time_ms).unwrap_or(Timestamp::MAX);
    see(Shown {
        host,
        at,
        position,
        event,
    })
}

/// The latest events seen so far.
struct Latest {
    from_ms: i64,
    to_ms: i64,
    limit: usize,
    bytes: usize,
    kept: BTreeMap<(i64, HostId, Arc<[u8]>), Event>,
    found: Found,
}

impl Latest {
    fn of(wanted: &Wanted) -> Latest {
        Latest {
            from_ms: wanted.from.as_millisecond(),
            to_ms: wanted.to.as_millisecond(),
            limit: wanted.limit.min(EVENTS_MAX),
            bytes: 0,
            kept: BTreeMap::new(),
            found: Found::default(),
        }
    }

    /// Whether a chunk can hold anything that belongs to the answer, or that tells of more.
    fn may_hold(&self, chunk: &EventsAt) -> bool {
        let within = chunk.max_ms >= self.from_ms && chunk.min_ms < self.to_ms;
        let first = self.kept.first_key_value().map(|(key, _)| key.0);
        let later = first.is_none_or(|first| chunk.max_ms >= first);
        within && (later || !self.is_full() || !self.found.more)
    }

    fn is_full(&self) -> bool {
        self.kept.len() >= self.limit || self.bytes >= ANSWER_BYTES_MAX
    }

    fn read(
        &mut self,
        file: &HourFile,
        chunk: &EventsAt,
        keep: &mut impl FnMut(HostId, &Event) -> bool,
    ) -> Result<(), Error> {
        let bytes = file.read_events(chunk)?;
        let rows = decode(&bytes).map_err(|why| Error::Damaged {
            path: file.path.clone(),
            why: why.to_owned(),
        })?;
        for (time_ms, event) in rows {
            self.offer(chunk.host, time_ms, event, keep);
        }
        Ok(())
    }

    fn offer(
        &mut self,
        host: HostId,
        time_ms: i64,
        bytes: &[u8],
        keep: &mut impl FnMut(HostId, &Event) -> bool,
    ) {
        if !(self.from_ms..self.to_ms).contains(&time_ms) {
            return;
        }
        let first = self.kept.first_key_value().map(|(key, _)| key.0);
        if self.is_full() && self.found.more && first.is_none_or(|first| time_ms < first) {
            return;
        }
        let event = pb::Event::decode(bytes).ok().map(Event::from_pb);
        let Some(Ok(event)) = event else { return };
        if !keep(host, &event) {
            return;
        }
        if self
            .kept
            .insert((time_ms, host, bytes.into()), event)
            .is_none()
        {
            self.bytes += bytes.len();
        }
        while self.kept.len() > self.limit || (self.bytes > ANSWER_BYTES_MAX && self.kept.len() > 1)
        {
            if let Some(((_, _, gone), _)) = self.kept.pop_first() {
                self.bytes -= gone.len();
            }
            self.found.more = true;
        }
    }

    fn end(mut self) -> Found {
        let kept = self.kept.into_iter();
        self.found.events = kept
            .map(|((time_ms, host, _), event)| {
                let at = Timestamp::from_millisecond(time_ms).unwrap_or(Timestamp::MAX);
                (host, at, event)
            })
            .collect();
        self.found
    }
}

/// One chunk of an hour file.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) min_ms: i64,
    pub(super) max_ms: i64,
    pub(super) count: u32,
    pub(super) bytes: Vec<u8>,
}

/// Puts events, in their order, into chunks.
pub(super) fn chunks(rows: &[EventRow]) -> impl Iterator<Item = Chunk> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let mut taken = 0;
        while taken < rest.len() && (taken == 0 || bytes + rest[taken].bytes.len() <= CHUNK_BYTES) {
            bytes += rest[taken].bytes.len();
            taken += 1;
        }
        let (chunk, tail) = rest.split_at(taken);
        rest = tail;
        (!chunk.is_empty()).then(|| encode(chunk))
    })
}

fn encode(rows: &[EventRow]) -> Chunk {
    let mut bytes = vec![VERSION];
    put(&mut bytes, rows.len() as u64);
    let mut last = 0i64;
    for row in rows {
        let step = row.time_ms.wrapping_sub(last);
        put(&mut bytes, ((step << 1) ^ (step >> 63)).cast_unsigned());
        put(&mut bytes, row.bytes.len() as u64);
        bytes.extend_from_slice(&row.bytes);
        last = row.time_ms;
    }
    let times = rows.iter().map(|row| row.time_ms);
    Chunk {
        min_ms: times.clone().min().unwrap_or(0),
        max_ms: times.max().unwrap_or(0),
        count: u32::try_from(rows.len()).unwrap_or(u32::MAX),
        bytes,
    }
}

/// The times and protobuf forms of a chunk.
///
/// # Errors
/// What is wrong with it.
pub fn decode(bytes: &[u8]) -> Result<Vec<(i64, &[u8])>, &'static str> {
    let Some((&VERSION, mut rest)) = bytes.split_first() else {
        return Err("a chunk of events of another version");
    };
    let count = get(&mut rest)?;
    // An event takes two bytes at least, so a count that lies asks for no more memory than there are bytes.
    if count > rest.len() as u64 {
        return Err("a chunk of events counts more than it holds");
    }
    let mut rows = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
    let mut last = 0i64;
    for _ in 0..count {
        let step = get(&mut rest)?;
        last = last.wrapping_add((step >> 1).cast_signed() ^ -(step & 1).cast_signed());
        let length = usize::try_from(get(&mut rest)?).map_err(|_| "an event is too long")?;
        let (event, tail) = rest
            .split_at_checked(length)
            .ok_or("a chunk of events ends too early")?;
        rest = tail;
        rows.push((last, event));
    }
    if rest.is_empty() {
        Ok(rows)
    } else {
        Err("bytes after the last event")
    }
}

fn put(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v.to_le_bytes()[0] | 0x80);
        v >>= 7;
    }
    out.push(v.to_le_bytes()[0]);
}

fn get(rest: &mut &[u8]) -> Result<u64, &'static str> {
    let mut v = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first().ok_or("a chunk of events is cut off")?;
        *rest = tail;
        v |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(v);
        }
    }
    Err("a number over ten bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(time_ms: i64, bytes: &[u8]) -> EventRow {
        EventRow {
            time_ms,
            position: 1,
            bytes: bytes.into(),
        }
    }

    proptest! {
        #[test]
        fn chunks_come_back(rows in proptest::collection::vec((any::<i64>(), proptest::collection::vec(any::<u8>(), 0..40)), 1..50)) {
            let rows: Vec<EventRow> = rows.iter().map(|(at, bytes)| row(*at, bytes)).collect();
            let chunk = encode(&rows);
            let want: Vec<(i64, &[u8])> = rows.iter().map(|row| (row.time_ms, &*row.bytes)).collect();
            prop_assert_eq!(decode(&chunk.bytes), Ok(want));
        }

        #[test]
        fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut bytes = bytes;
            let _ = decode(&bytes);
            bytes.insert(0, VERSION);
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn the_format_stays() {
        let chunk = encode(&[row(1_000, b"ab"), row(900, b"")]);
        assert_eq!(
            chunk.bytes,
            [1, 2, 0xd0, 0x0f, 2, b'a', b'b', 0xc7, 0x01, 0]
        );
        assert_eq!((chunk.min_ms, chunk.max_ms, chunk.count), (900, 1_000, 2));
    }

    #[test]
    fn a_chunk_is_closed_at_its_bound_and_a_large_event_has_one_of_its_own() {
        let rows: Vec<EventRow> = (0..5).map(|i| row(i, &[7; CHUNK_BYTES / 2])).collect();
        let counts: Vec<u32> = chunks(&rows).map(|chunk| chunk.count).collect();
        assert_eq!(counts, [2, 2, 1]);
        let large = [row(0, &[7; CHUNK_BYTES * 2]), row(1, b"x")];
        assert_eq!(chunks(&large).count(), 2);
        assert_eq!(chunks(&[]).count(), 0);
    }
}
