//! Which series a schema id stands for: an append-only log, each schema once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use dawnwatch_proto::{Schema, SchemaId};
use dawnwatch_segment::{Disk, Log, Options, Read, Reader};

use super::Error;
use crate::plain;

const KIND: [u8; 4] = *b"SCHM";

/// Schema segments: a schema is 5 KiB, and there are a few a host.
const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

/// All schemas ever seen.
#[derive(Debug)]
pub struct Schemas {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    log: Log,
    known: BTreeMap<SchemaId, Arc<Schema>>,
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
        let mut known = BTreeMap::new();
        for read in Reader::open(Arc::clone(disk), dir, KIND, 1)? {
            let Read::Frame { payload, .. } = read? else {
                continue;
            };
            if let Ok(schema) = postcard::from_bytes::<Schema>(&payload) {
                known.insert(schema.id(), Arc::new(schema));
            }
        }
        Ok(Schemas {
            inner: Mutex::new(Inner { log, known }),
        })
    }

    /// Keeps a schema, durably, if it is not known.
    ///
    /// # Errors
    /// Where the log cannot be written.
    pub fn add(&self, schema: &Schema) -> Result<(), Error> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.known.contains_key(&schema.id()) {
            return Ok(());
        }
        let bytes = plain::bytes(schema);
        if let Err(error) = inner.log.append(&bytes) {
            inner.log.heal()?;
            return Err(error.into());
        }
        inner.log.sync()?;
        inner.known.insert(schema.id(), Arc::new(schema.clone()));
        Ok(())
    }

    /// The schema of an id.
    #[must_use]
    pub fn get(&self, id: SchemaId) -> Option<Arc<Schema>> {
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .known
            .get(&id)
            .cloned()
    }
}
