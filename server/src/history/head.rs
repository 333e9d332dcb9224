//! The head: per host up to 60 raw rows, older ones folded into immutable mini blocks, and its events.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use dawnwatch_engine::block::{self, Effort};
use dawnwatch_proto::{HostId, SchemaId};
use serde::{Deserialize, Serialize};

use super::events::EventRow;
use crate::checkpoint::Pieces;
use crate::plain;

/// What stands before the saved head: its kind, and its version.
pub(crate) const SAVED: &[u8; 6] = b"DWHD\x02\x00";

/// Rows that are kept raw; ten minutes. A mini block of them costs 13 % more than one of an hour.
const RAW_ROWS: usize = 60;

/// One tick of one host as history keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Corrected time, Unix milliseconds.
    pub time_ms: i64,
    /// Which series the values are of.
    pub schema: SchemaId,
    /// Raw values.
    pub values: Arc<[i64]>,
    /// The journal position that it came in at.
    pub position: u64,
}

/// Some rows of one host and one schema, encoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mini {
    /// Which series the columns are.
    pub schema: SchemaId,
    /// Lowest time in it, Unix milliseconds.
    pub min_ms: i64,
    /// Highest time in it.
    pub max_ms: i64,
    /// Number of rows.
    pub ticks: u32,
    /// Journal position of the last row.
    pub position: u64,
    /// The block.
    #[serde(serialize_with = "crate::plain::at_once")]
    pub bytes: Arc<[u8]>,
}

impl Mini {
    /// Encodes rows of one schema.
    #[must_use]
    pub fn of(rows: &[Row], effort: Effort) -> Option<Mini> {
        let (first, last) = (rows.first()?, rows.last()?);
        let times: Vec<i64> = rows.iter().map(|row| row.time_ms).collect();
        let values: Vec<&[i64]> = rows.iter().map(|row| &*row.values).collect();
        Some(Mini {
            schema: first.schema,
            min_ms: times.iter().copied().min().unwrap_or(0),
            max_ms: times.iter().copied().max().unwrap_or(0),
            ticks: u32::try_from(rows.len()).unwrap_or(u32::MAX),
            position: last.position,
            bytes: block::encode(&times, &values, effort).into(),
        })
    }
}

/// What the head holds of one host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRows {
    /// Older rows.
    pub minis: Vec<Mini>,
    /// The latest rows, all of one schema.
    pub raw: Vec<Row>,
    /// The schema of its latest row or announcement.
    pub latest: Option<SchemaId>,
    /// Its events, in order of arrival.
    pub events: Vec<EventRow>,
}

impl HostRows {
    /// Takes a row in; the bytes of the block that earlier ones were folded into, if they were.
    fn push(&mut self, row: Row) -> usize {
        let mut folded = 0;
        let other = self.raw.first().is_some_and(|first| {
            first.schema != row.schema || first.values.len() != row.values.len()
        });
        if other || self.raw.len() >= RAW_ROWS {
            folded = self.fold();
        }
        self.latest = Some(row.schema);
        self.raw.push(row);
        folded
    }

    fn fold(&mut self) -> usize {
        let mini = Mini::of(&self.raw, Effort::Quick);
        let bytes = mini.as_ref().map_or(0, |mini| mini.bytes.len());
        self.minis.extend(mini);
        self.raw.clear();
        bytes
    }

    /// Bytes of its blocks and events.
    fn bytes(&self) -> Bytes {
        Bytes {
            rows: self.minis.iter().map(|mini| mini.bytes.len()).sum(),
            events: self.events.iter().map(|event| event.bytes.len()).sum(),
        }
    }

    fn is_empty(&self) -> bool {
        self.minis.is_empty() && self.raw.is_empty() && self.events.is_empty()
    }
}

/// How much is held and not being sealed. The latest rows of each host are not counted: they are as many as there are hosts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Bytes of mini blocks.
    pub rows: usize,
    /// Bytes of events.
    pub events: usize,
}

/// What came in since the last sealing, and what is being sealed.
#[derive(Debug, Default)]
pub struct Head {
    hosts: BTreeMap<HostId, HostRows>,
    sealing: Arc<BTreeMap<HostId, HostRows>>,
    /// Of `hosts`.
    bytes: Bytes,
}

impl Head {
    /// Takes a row in.
    pub fn push(&mut self, host: HostId, row: Row) {
        self.bytes.rows += self.hosts.entry(host).or_default().push(row);
    }

    /// Takes an event in.
    pub fn push_event(&mut self, host: HostId, event: EventRow) {
        self.bytes.events += event.bytes.len();
        self.hosts.entry(host).or_default().events.push(event);
    }

    /// Forgets a host, also of what is being sealed.
    pub fn erase(&mut self, host: HostId) {
        self.hosts.remove(&host);
        if self.sealing.contains_key(&host) {
            Arc::make_mut(&mut self.sealing).remove(&host);
        }
        self.bytes = bytes_of(&self.hosts);
    }

    /// How much is held and not being sealed.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.bytes
    }

    /// A copy of all events that are held of a host, or of all; cheap, their bytes are shared.
    #[must_use]
    pub fn events(&self, host: Option<HostId>) -> Vec<(HostId, EventRow)> {
        let mut out = Vec::new();
        for (whose, rows) in self.sealing.iter().chain(&self.hosts) {
            if host.is_none_or(|host| host == *whose) {
                out.extend(rows.events.iter().map(|event| (*whose, event.clone())));
            }
        }
        out
    }

    /// A copy of the events that came in after a journal position, host by host.
    #[must_use]
    pub fn events_after(&self, position: u64) -> Vec<(HostId, EventRow)> {
        let mut out = Vec::new();
        for (host, rows) in self.sealing.iter().chain(&self.hosts) {
            let from = rows
                .events
                .partition_point(|event| event.position <= position);
            out.extend(rows.events[from..].iter().map(|e| (*host, e.clone())));
        }
        out
    }

    /// Takes note of the schema that a host announced.
    pub fn current(&mut self, host: HostId, schema: SchemaId) {
        self.hosts.entry(host).or_default().latest = Some(schema);
    }

    /// The schema of a host's latest row, if the head knows.
    #[must_use]
    pub fn latest(&self, host: HostId) -> Option<SchemaId> {
        self.hosts.get(&host).and_then(|rows| rows.latest)
    }

    /// A copy of all that is held of a host, oldest first; cheap, blocks and rows are shared.
    #[must_use]
    pub fn of(&self, host: HostId) -> (Vec<Mini>, Vec<Row>) {
        let (mut minis, mut raw) = (Vec::new(), Vec::new());
        for rows in [self.sealing.get(&host), self.hosts.get(&host)]
            .into_iter()
            .flatten()
        {
            minis.extend(rows.minis.iter().cloned());
            raw.extend(rows.raw.iter().cloned());
        }
        (minis, raw)
    }

    /// A copy of the rows of all hosts without their events, what is being sealed first; cheap, blocks and rows are shared.
    #[must_use]
    pub fn all(&self) -> [Arc<BTreeMap<HostId, HostRows>>; 2] {
        let rows = |(host, rows): (&HostId, &HostRows)| {
            let rows = HostRows {
                minis: rows.minis.clone(),
                raw: rows.raw.clone(),
                latest: rows.latest,
                events: Vec::new(),
            };
            (*host, rows)
        };
        let hosts = self.hosts.iter().map(rows).collect();
        [Arc::clone(&self.sealing), Arc::new(hosts)]
    }

    /// Puts all rows aside for sealing; they stay readable.
    #[must_use]
    pub fn begin_seal(&mut self) -> Arc<BTreeMap<HostId, HostRows>> {
        assert!(self.sealing.is_empty(), "one sealing at a time");
        let mut sealing = BTreeMap::new();
        for (host, rows) in &mut self.hosts {
            if rows.is_empty() {
                continue;
            }
            let latest = rows.latest;
            // Not folded here, where the watch waits: the sealing thread takes the rows as they are.
            let taken = std::mem::take(rows);
            rows.latest = latest;
            sealing.insert(*host, taken);
        }
        self.sealing = Arc::new(sealing);
        self.bytes = Bytes::default();
        Arc::clone(&self.sealing)
    }

    /// The rows put aside are in a durable file.
    pub fn end_seal(&mut self) {
        self.sealing = Arc::default();
    }

    /// The rows put aside could not be written: they go back.
    pub fn undo_seal(&mut self) {
        for (host, mut rows) in std::mem::take(&mut *Arc::make_mut(&mut self.sealing)) {
            rows.fold();
            let later = self.hosts.entry(host).or_default();
            rows.minis.append(&mut later.minis);
            later.minis = rows.minis;
            rows.events.append(&mut later.events);
            later.events = rows.events;
        }
        self.bytes = bytes_of(&self.hosts);
    }

    /// All that is held, as a checkpoint keeps it; cheap but for the latest rows, for blocks and events are shared.
    #[must_use]
    pub fn save(&self) -> Saved {
        let mut all: BTreeMap<HostId, HostRows> = BTreeMap::new();
        for (host, rows) in self.sealing.iter().chain(&self.hosts) {
            let kept = all.entry(*host).or_default();
            kept.minis.extend(rows.minis.iter().cloned());
            kept.minis.extend(Mini::of(&rows.raw, Effort::Quick));
            kept.latest = rows.latest;
            kept.events.extend(rows.events.iter().cloned());
        }
        Saved(all)
    }

    /// The head that was saved, without what is in durable files up to `through`.
    ///
    /// # Errors
    /// Where the bytes are of another version.
    pub fn restore(saved: &[u8], through: u64) -> Result<Head, String> {
        if saved.is_empty() {
            return Ok(Head::default());
        }
        let Some(saved) = saved.strip_prefix(SAVED) else {
            return Err("the head of the checkpoint is of another version".to_owned());
        };
        let mut hosts: BTreeMap<HostId, HostRows> =
            postcard::from_bytes(saved).map_err(|e| format!("the head of the checkpoint: {e}"))?;
        for rows in hosts.values_mut() {
            rows.minis.retain(|mini| mini.position > through);
            rows.events.retain(|event| event.position > through);
        }
        Ok(Head {
            bytes: bytes_of(&hosts),
            hosts,
            sealing: Arc::default(),
        })
    }
}

/// A head as a checkpoint keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saved(BTreeMap<HostId, HostRows>);

impl Pieces for Saved {
    fn size(&self) -> u64 {
        SAVED.len() as u64 + plain::size(&self.0)
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(SAVED)?;
        plain::write(&self.0, out)
    }
}

fn bytes_of(hosts: &BTreeMap<HostId, HostRows>) -> Bytes {
    hosts
        .values()
        .map(HostRows::bytes)
        .fold(Bytes::default(), |all, one| Bytes {
            rows: all.rows + one.rows,
            events: all.events + one.events,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(i: u64, schema: u64) -> Row {
        let time_ms = 10_000 * i64::try_from(i).unwrap();
        Row {
            time_ms,
            schema: SchemaId(schema),
            values: vec![i as i64, 7].into(),
            position: i,
        }
    }

    fn saved(head: &Head) -> Vec<u8> {
        crate::checkpoint::whole(&head.save())
    }

    fn times(head: &Head, host: HostId) -> Vec<i64> {
        let (minis, raw) = head.of(host);
        let folded = minis
            .iter()
            .flat_map(|mini| block::Block::open(&mini.bytes).unwrap().times_ms().unwrap());
        let mut times: Vec<i64> = folded.chain(raw.iter().map(|row| row.time_ms)).collect();
        times.sort_unstable();
        times
    }

    #[test]
    fn nothing_is_lost_by_folding_saving_or_sealing() {
        let host = HostId(1);
        let mut head = Head::default();
        let want: Vec<i64> = (1..=150).map(|i| 10_000 * i).collect();
        for i in 1..=150 {
            head.push(host, row(i, 1 + i / 100));
        }
        assert_eq!(times(&head, host), want);
        assert_eq!(times(&Head::restore(&saved(&head), 0).unwrap(), host), want);
        let _ = head.begin_seal();
        assert_eq!(times(&head, host), want, "readable while being sealed");
        head.push(host, row(151, 2));
        assert_eq!(
            times(&Head::restore(&saved(&head), 0).unwrap(), host).len(),
            151
        );
        assert_eq!(
            times(&Head::restore(&saved(&head), 150).unwrap(), host),
            [1_510_000]
        );
        head.undo_seal();
        assert_eq!(times(&head, host).len(), 151, "back after a failure");
        let _ = head.begin_seal();
        head.end_seal();
        assert_eq!(times(&head, host), [0i64; 0]);
    }

    #[test]
    fn how_much_it_holds_is_known_whatever_becomes_of_it() {
        let (host, other) = (HostId(1), HostId(2));
        let mut head = Head::default();
        let counted = |head: &Head| {
            assert_eq!(head.bytes(), bytes_of(&head.hosts));
            head.bytes()
        };
        for i in 1..=150 {
            head.push(host, row(i, 1 + i / 100));
            head.push(other, row(i, 1));
            counted(&head);
        }
        let bytes = counted(&head);
        assert!(bytes.rows > 0, "{bytes:?}");
        assert!(counted(&Head::restore(&saved(&head), 0).unwrap()).rows > bytes.rows);
        let _ = head.begin_seal();
        assert_eq!(counted(&head), Bytes::default());
        head.undo_seal();
        assert!(counted(&head).rows > bytes.rows, "what was raw is folded");
        head.erase(other);
        counted(&head);
    }

    #[test]
    fn the_form_that_a_checkpoint_keeps_stays() {
        let host = HostId(1);
        let mut head = Head::default();
        for i in 1..=3 {
            head.push(host, row(i, 5));
        }
        let golden = "44574844020001010105a09c01e0d40303031a030302010207845d2665080003a29c01a29c010302030404001000010500";
        let saved = saved(&head);
        assert_eq!(data_encoding::HEXLOWER.encode(&saved), golden);
        let read = Head::restore(&saved, 1).unwrap();
        assert_eq!(times(&read, host), [10_000, 20_000, 30_000]);
    }
}
