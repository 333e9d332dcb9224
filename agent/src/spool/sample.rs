//! Ticks and events for tests.

use std::sync::Arc;

use dawnwatch_proto::{Event, EventBody, Item, Kind, Schema, Series, Tick};
use jiff::Timestamp;

/// Columns of a sample tick.
pub(crate) const COLUMNS: usize = 20;

pub(crate) fn schema() -> Arc<Schema> {
    let series = (0..COLUMNS)
        .map(|i| Series::new("node_cpu_seconds_total", Kind::Counter).label("cpu", &i.to_string()));
    Arc::new(Schema::new(series.collect()))
}

pub(crate) fn time(seq: u64) -> Timestamp {
    Timestamp::from_millisecond(1_764_000_000_000 + 10_000 * i64::try_from(seq).unwrap()).unwrap()
}

/// The tick of a number: readable back from its first column.
pub(crate) fn tick(seq: u64) -> (Tick, Arc<Schema>) {
    let schema = schema();
    let mut row = vec![7; COLUMNS];
    row[0] = i64::try_from(seq).unwrap();
    (
        Tick {
            time: time(seq),
            schema: schema.id(),
            row,
        },
        schema,
    )
}

pub(crate) fn event_of(seq: u64) -> Event {
    let body = EventBody::Trouble {
        subject: "test".to_owned(),
        text: format!("number {seq}"),
    };
    Event {
        time: time(seq),
        body,
    }
}

pub(crate) fn event(seq: u64) -> Item {
    Item::Event(event_of(seq))
}
