//! From mini blocks to blocks of an hour. A change of schema splits no block: its columns are those of all schemas of the
//! window, and read as missing where a tick had no such series. So an hour with changes takes hardly more than one without.

use std::collections::BTreeMap;
use std::sync::Arc;

use dawnwatch_engine::block::{Block, Effort, TICKS_MAX};
use dawnwatch_proto::{MISSING, Schema, SchemaId, Series};

use crate::history::Error;
use crate::history::head::{HostRows, Mini, Row};
use crate::history::schemas::{PARTS_MAX, Schemas};

/// Joins neighbouring mini blocks, and the latest rows, into blocks of an hour. One that does not decode is kept as it is.
pub(super) fn join(held: &HostRows, schemas: &Schemas) -> Result<Vec<Mini>, Error> {
    let mut out = Vec::new();
    let mut window = Window::default();
    for mini in &held.minis {
        let Some(rows) = rows_of(mini) else {
            out.extend(window.close(schemas)?);
            out.push(mini.clone());
            continue;
        };
        if !window.takes(&rows, schemas) {
            out.extend(window.close(schemas)?);
        }
        window.add(rows);
    }
    if !window.takes(&held.raw, schemas) {
        out.extend(window.close(schemas)?);
    }
    window.add(held.raw.clone());
    out.extend(window.close(schemas)?);
    Ok(out)
}

/// Rows on their way into one block.
#[derive(Default)]
struct Window {
    rows: Vec<Row>,
    /// Their schemas, sorted.
    parts: Vec<SchemaId>,
}

impl Window {
    /// Whether rows of one schema fit in.
    fn takes(&self, more: &[Row], schemas: &Schemas) -> bool {
        let (Some(first), Some(next)) = (self.rows.first(), more.first()) else {
            return true;
        };
        if self.rows.len() + more.len() > TICKS_MAX {
            return false;
        }
        if self.parts == [next.schema] {
            return first.values.len() == next.values.len();
        }
        let parts = with(&self.parts, next.schema);
        let fits = |row: &Row| {
            let schema = schemas.get(row.schema);
            schema.is_some_and(|schema| schema.series().len() == row.values.len())
        };
        parts.len() <= PARTS_MAX && fits(first) && fits(next) && schemas.union_of(&parts).is_some()
    }

    fn add(&mut self, rows: Vec<Row>) {
        if let Some(first) = rows.first() {
            self.parts = with(&self.parts, first.schema);
        }
        self.rows.extend(rows);
    }

    /// The block of all rows that were added; there are none then.
    fn close(&mut self, schemas: &Schemas) -> Result<Option<Mini>, Error> {
        let parts = std::mem::take(&mut self.parts);
        let mut rows = std::mem::take(&mut self.rows);
        if parts.len() > 1 {
            let union = schemas.add_union(&parts)?;
            widen(&mut rows, &union, schemas);
        }
        Ok(Mini::of(&rows, Effort::Best))
    }
}

/// Brings rows into the columns of a union.
fn widen(rows: &mut [Row], union: &Schema, schemas: &Schemas) {
    let places: BTreeMap<&Series, usize> = union.series().iter().zip(0..).collect();
    let mut columns: BTreeMap<SchemaId, Vec<Option<usize>>> = BTreeMap::new();
    for row in rows {
        let columns = columns.entry(row.schema).or_insert_with(|| {
            let schema = schemas.get(row.schema);
            let series = schema.iter().flat_map(|schema| schema.series());
            series.map(|one| places.get(one).copied()).collect()
        });
        let mut wide: Arc<[i64]> = vec![MISSING; union.series().len()].into();
        let cells = Arc::get_mut(&mut wide).expect("it was made here");
        for (value, place) in row.values.iter().zip(columns) {
            if let Some(place) = place {
                cells[*place] = *value;
            }
        }
        row.values = wide;
        row.schema = union.id();
    }
}

fn with(parts: &[SchemaId], one: SchemaId) -> Vec<SchemaId> {
    let mut parts = parts.to_vec();
    if let Err(at) = parts.binary_search(&one) {
        parts.insert(at, one);
    }
    parts
}

fn rows_of(mini: &Mini) -> Option<Vec<Row>> {
    let block = Block::open(&mini.bytes).ok()?;
    let times = block.times_ms().ok()?;
    let rows = times.into_iter().zip(block.rows().ok()?);
    let row = |(time_ms, values): (i64, Vec<i64>)| Row {
        time_ms,
        schema: mini.schema,
        values: values.into(),
        position: mini.position,
    };
    Some(rows.map(row).collect())
}
