//! Which series a schema id stands for: an append-only log, each schema once.
//!
//! | payload of a frame | content |
//! |---|---|
//! | a schema | postcard form of [`Schema`] |
//! | a union | "\0UNION\x01\0", then the ids of its parts, u64 LE, at most 64: see [`union`] |
//!
//! A union is what the columns of a block are in whose hour a host changed its schema: all series of its parts. It is kept as
//! the parts' names, for its series would take a fifth of the samples of the hour.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use dawnwatch_proto::series::SERIES_MAX;
use dawnwatch_proto::{Schema, SchemaId, Series};
use dawnwatch_segment::{Disk, Log, Options, Read, Reader};

use super::Error;
use crate::plain;

const KIND: [u8; 4] = *b"SCHM";

/// Schema segments: a schema is 5 KiB, and there are a few a host.
const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

/// Most schemas of a union: a host that changes more often than that within an hour gets more blocks.
pub const PARTS_MAX: usize = 64;

/// The form of a union's frame; schemas themselves have none, their ids are hashes of what they say.
pub(crate) const UNION_VERSION: u32 = 1;

/// Schemas that are kept ready for use: a fleet has fewer at a time, and one that is not among them is put together anew.
const READY_MAX: usize = 256;

/// What a frame of a union begins with: as a schema it would have no such id.
const UNION: &[u8; 8] = b"\0UNION\x01\0";

/// All schemas ever seen.
#[derive(Debug)]
pub struct Schemas {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    log: Log,
    known: Known,
    ready: BTreeMap<SchemaId, Arc<Schema>>,
    /// Whether the log holds what is not synced.
    unsynced: bool,
}

/// What the frames of the log say. All schemas that ever were have few series among them: each is here once, and a schema is a
/// list of places, for a host whose disks come and go has a new one each time.
#[derive(Debug, Default)]
pub struct Known {
    series: Vec<Arc<Series>>,
    places: BTreeMap<Arc<Series>, u32>,
    schemas: BTreeMap<SchemaId, Box<[u32]>>,
    /// Unions of schemas some of which are not known: their frame is damaged, their host sends them again.
    waiting: Vec<Vec<SchemaId>>,
}

impl Schemas {
    /// Opens the log and reads it; a damaged entry is passed over, its host sends the schema again.
    ///
    /// # Errors
    /// Where the log cannot be opened.
    pub fn open(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Schemas, Error> {
        let options = Options {
            kind: KIND,
            segment_bytes: SEGMENT_BYTES,
            preallocate: false,
            header_note: Vec::new(),
        };
        let (log, _) = Log::open(Arc::clone(disk), dir, options)?;
        let mut known = Known::default();
        for read in Reader::open(Arc::clone(disk), dir, KIND, 1)? {
            if let Read::Frame { payload, .. } = read? {
                // One that does not decode is passed over too.
                let _ = known.take(&payload);
            }
        }
        let inner = Inner {
            log,
            known,
            ready: BTreeMap::new(),
            unsynced: false,
        };
        Ok(Schemas {
            inner: Mutex::new(inner),
        })
    }

    /// Keeps a schema, durably, if it is not known.
    ///
    /// # Errors
    /// Where the log cannot be written.
    pub fn add(&self, schema: &Schema) -> Result<(), Error> {
        let mut inner = self.inner();
        if inner.known.has(schema.id()) {
            return Ok(());
        }
        inner.append(&plain::bytes(schema))?;
        inner.log.sync()?;
        inner.unsynced = false;
        inner.known.add(schema);
        Ok(())
    }

    /// The union of some schemas, if there is one; see [`union`].
    #[must_use]
    pub fn union_of(&self, parts: &[SchemaId]) -> Option<Schema> {
        self.inner().known.union_of(parts)
    }

    /// Keeps the union of some schemas, if it is not known; durable after [`Schemas::sync`].
    ///
    /// # Errors
    /// Where the log cannot be written.
    ///
    /// # Panics
    /// Where they have none: a bug of the caller.
    pub fn add_union(&self, parts: &[SchemaId]) -> Result<Arc<Schema>, Error> {
        let mut inner = self.inner();
        let union = inner.known.union_of(parts);
        let union = Arc::new(union.expect("asked for before"));
        if !inner.known.has(union.id()) {
            let mut payload = UNION.to_vec();
            payload.extend(parts.iter().flat_map(|part| part.0.to_le_bytes()));
            inner.append(&payload)?;
            inner.unsynced = true;
            inner.known.put(&union);
        }
        Ok(union)
    }

    /// Makes all that was kept durable.
    ///
    /// # Errors
    /// Where the log cannot be synced.
    pub fn sync(&self) -> Result<(), Error> {
        let mut inner = self.inner();
        if inner.unsynced {
            inner.log.sync()?;
            inner.unsynced = false;
        }
        Ok(())
    }

    /// The schema of an id.
    #[must_use]
    pub fn get(&self, id: SchemaId) -> Option<Arc<Schema>> {
        let mut inner = self.inner();
        if let Some(ready) = inner.ready.get(&id) {
            return Some(Arc::clone(ready));
        }
        let schema = Arc::new(inner.known.get(id)?);
        if inner.ready.len() >= READY_MAX {
            inner.ready.clear();
        }
        inner.ready.insert(id, Arc::clone(&schema));
        Some(schema)
    }

    /// Whether the schema of an id is known.
    #[must_use]
    pub fn has(&self, id: SchemaId) -> bool {
        self.inner().known.has(id)
    }

    /// The column of a schema whose series is looked for, and what its values are counted in: value = raw * mul / div.
    #[must_use]
    pub fn column(
        &self,
        id: SchemaId,
        is: impl Fn(&Series) -> bool,
    ) -> Option<(usize, (u32, u32))> {
        let inner = self.inner();
        let mut series = inner.known.series_of(id)?.enumerate();
        let (column, one) = series.find(|(_, one)| is(one))?;
        Some((column, (one.mul, one.div)))
    }

    /// The first series, of all schemas, that is looked for.
    #[must_use]
    pub fn find(&self, is: impl Fn(&Series) -> bool) -> Option<Series> {
        let inner = self.inner();
        let found = inner.known.series.iter().find(|one| is(one));
        found.map(|one| Series::clone(one))
    }

    /// The notations in which a text stands, each once; no more than `most`.
    #[must_use]
    pub fn notations_with(&self, text: &str, most: usize) -> Vec<String> {
        let inner = self.inner();
        let mut found = BTreeSet::new();
        for series in &inner.known.series {
            let shown = series.to_string();
            if shown.contains(text) {
                found.insert(shown);
            }
            if found.len() >= most {
                break;
            }
        }
        found.into_iter().collect()
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn append(&mut self, payload: &[u8]) -> Result<(), Error> {
        if let Err(error) = self.log.append(payload) {
            self.log.heal()?;
            return Err(error.into());
        }
        Ok(())
    }
}

impl Known {
    /// Takes the payload of a frame in.
    ///
    /// # Errors
    /// Where it is neither a schema nor a union.
    pub fn take(&mut self, payload: &[u8]) -> Result<(), postcard::Error> {
        if let Some(parts) = parts_of(payload) {
            self.waiting.push(parts);
            self.settle();
        } else {
            self.add(&postcard::from_bytes(payload)?);
        }
        Ok(())
    }

    /// The schema of an id.
    #[must_use]
    pub fn get(&self, id: SchemaId) -> Option<Schema> {
        let series = self.series_of(id)?;
        Some(Schema::new(series.cloned().collect()))
    }

    /// Whether the schema of an id is known.
    #[must_use]
    pub fn has(&self, id: SchemaId) -> bool {
        self.schemas.contains_key(&id)
    }

    fn series_of(&self, id: SchemaId) -> Option<impl Iterator<Item = &Series>> {
        let places = self.schemas.get(&id)?;
        Some(places.iter().map(|place| &*self.series[*place as usize]))
    }

    fn add(&mut self, schema: &Schema) {
        self.put(schema);
        self.settle();
    }

    fn put(&mut self, schema: &Schema) {
        let places = schema.series().iter().map(|one| self.place(one));
        let places = places.collect();
        self.schemas.insert(schema.id(), places);
    }

    fn place(&mut self, one: &Series) -> u32 {
        if let Some(place) = self.places.get(one) {
            return *place;
        }
        let place = u32::try_from(self.series.len()).expect("memory ends before");
        let one = Arc::new(one.clone());
        self.series.push(Arc::clone(&one));
        self.places.insert(one, place);
        place
    }

    fn union_of(&self, parts: &[SchemaId]) -> Option<Schema> {
        let parts: Option<Vec<Schema>> = parts.iter().map(|part| self.get(*part)).collect();
        union(&parts?.iter().collect::<Vec<&Schema>>())
    }

    /// Makes the unions whose parts have all become known.
    fn settle(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        for parts in waiting {
            match self.union_of(&parts) {
                Some(union) => self.put(&union),
                None => self.waiting.push(parts),
            }
        }
    }
}

/// All series of some schemas, those of the first one first; a schema that has them all as it is. None where two of them
/// count a series differently, or there are more than a schema may have.
#[must_use]
pub fn union(parts: &[&Schema]) -> Option<Schema> {
    let mut known: BTreeMap<_, &Series> = BTreeMap::new();
    let mut series = Vec::new();
    for one in parts.iter().flat_map(|part| part.series()) {
        match known.insert((&one.name, &one.labels), one) {
            None => series.push(one.clone()),
            Some(same) if same == one => {}
            Some(_) => return None,
        }
    }
    let whole = parts
        .iter()
        .find(|part| part.series().len() == series.len());
    match whole {
        Some(whole) => Some((*whole).clone()),
        None => (series.len() <= SERIES_MAX).then(|| Schema::new(series)),
    }
}

/// The parts of a union, if a frame is one.
fn parts_of(payload: &[u8]) -> Option<Vec<SchemaId>> {
    let ids = payload.strip_prefix(UNION)?;
    let (ids, rest) = ids.as_chunks::<8>();
    let id = |id: &[u8; 8]| SchemaId(u64::from_le_bytes(*id));
    (rest.is_empty() && ids.len() <= PARTS_MAX).then(|| ids.iter().map(id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dawnwatch_proto::Kind;
    use dawnwatch_segment::RealDisk;

    fn schema(names: &[&str]) -> Schema {
        let one = |name: &&str| Series::new(name, Kind::Gauge);
        Schema::new(names.iter().map(one).collect())
    }

    fn open(dir: &Path) -> Schemas {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        Schemas::open(&disk, dir).unwrap()
    }

    #[test]
    fn a_union_has_all_series_and_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b, all) = (
            schema(&["x", "y"]),
            schema(&["y", "z"]),
            schema(&["x", "y", "z"]),
        );
        let log = open(dir.path());
        log.add(&a).unwrap();
        assert!(log.union_of(&[a.id(), b.id()]).is_none(), "one is unknown");
        log.add(&b).unwrap();
        let union = log.add_union(&[a.id(), b.id()]).unwrap();
        assert_eq!(*union, all);
        assert_eq!(log.add_union(&[b.id(), union.id()]).unwrap(), union);
        log.sync().unwrap();
        let written = || {
            let files = std::fs::read_dir(dir.path()).unwrap();
            files
                .map(|f| f.unwrap().metadata().unwrap().len())
                .sum::<u64>()
        };
        let bytes = written();
        log.add_union(&[a.id(), b.id()]).unwrap();
        assert_eq!(written(), bytes, "kept once");
        assert_eq!(open(dir.path()).get(all.id()), Some(Arc::new(all)));
    }

    /// More schemas than are kept ready, each with one series of its own: what all have is kept once.
    #[test]
    fn many_schemas_are_kept_as_places_of_few_series() {
        let dir = tempfile::tempdir().unwrap();
        let all: Vec<Schema> = (0..2 * READY_MAX)
            .map(|i| schema(&["x", "y", &format!("disk{i}")]))
            .collect();
        let log = open(dir.path());
        for one in &all {
            log.add(one).unwrap();
        }
        drop(log);
        let log = open(dir.path());
        for one in all.iter().chain(all.iter().rev()) {
            assert!(log.has(one.id()));
            assert_eq!(log.get(one.id()).as_deref(), Some(one));
            let own = log.column(one.id(), |series| series.name.starts_with("disk"));
            assert_eq!(own, Some((2, (1, 1))));
        }
        assert_eq!(log.column(all[0].id(), |series| series.name == "z"), None);
        let inner = log.inner();
        assert_eq!(inner.known.series.len(), 2 + all.len());
        assert!(inner.ready.len() <= READY_MAX, "{}", inner.ready.len());
    }

    #[test]
    fn a_union_waits_for_its_parts() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (schema(&["x"]), schema(&["y"]));
        let log = open(dir.path());
        log.add(&a).unwrap();
        // As if the frame of the other were damaged.
        let mut payload = UNION.to_vec();
        for part in [&a, &b] {
            payload.extend(part.id().0.to_le_bytes());
        }
        log.inner().append(&payload).unwrap();
        drop(log);
        let log = open(dir.path());
        let union = schema(&["x", "y"]).id();
        assert!(log.get(union).is_none());
        log.add(&b).unwrap();
        assert!(log.get(union).is_some());
        for wrong in [&b"\0UNION\x01\x01"[..], &UNION[..7], b"\0UNION\x01\0\x01"] {
            assert_eq!(parts_of(wrong), None);
        }
    }
}
