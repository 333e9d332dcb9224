//! What the server measures of itself every ten seconds: a row of series like any host's, kept in history as host 0, "server".
//!
//! Which series there are stands in [`Vitals::measures`] alone: history, `/metrics` and the rules about the server follow it.

use dawnwatch_proto::{HostId, Kind, Schema, Series};
use serde::{Deserialize, Serialize};

/// Under which id the server's own series are kept; no host ever has it.
pub const SERVER: HostId = HostId(0);

/// The name that the server's own series are asked for by.
pub const SERVER_NAME: &str = "server";

/// Sizes are kept in steps of a page: free space changes by the byte all the time, and nobody reads that.
const PAGE_BYTES: u32 = 4_096;

/// One look of the server at itself. Peaks are over the ten seconds or so before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vitals {
    /// Inputs that wait for the journal.
    pub queue_inputs: u64,
    /// Peak age of the oldest input that was not durable, milliseconds.
    pub lag_ms: u64,
    /// How long the last sync of the journal took, microseconds.
    pub sync_last_us: u64,
    /// The longest sync of the journal, microseconds.
    pub sync_max_us: u64,
    /// The longest step of the engine, microseconds.
    pub step_max_us: u64,
    /// Inputs journalled since the process started.
    pub inputs: u64,
    /// Notifications that nobody took or refused yet.
    pub outbox: u64,
    /// Age of the oldest of them, milliseconds.
    pub outbox_oldest_ms: u64,
    /// Agents that are connected.
    pub streams: u64,
    /// Memory of the process.
    pub memory_bytes: u64,
    /// Room in the data directory, for the server's user.
    pub free_bytes: u64,
    /// Size of the filesystem of the data directory; 0 where it could not be asked.
    pub size_bytes: u64,
    /// Space that the journal takes.
    pub journal_bytes: u64,
    /// Space that history takes.
    pub history_bytes: u64,
    /// Space that the ledger takes.
    pub ledger_bytes: u64,
}

/// One number of the server: its series, what it says, and its raw value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VitalSign {
    /// The series.
    pub series: Series,
    /// What it says, in one sentence.
    pub help: &'static str,
    /// Its value in the quantum of the series.
    pub raw: i64,
}

impl Vitals {
    /// All numbers, in column order.
    #[must_use]
    pub fn measures(&self) -> Vec<VitalSign> {
        let one = |name: &str, help, kind, (mul, div): (u32, u32), value: u64| {
            let series = Series::new(&format!("dawnwatch_server_{name}"), kind).quantum(mul, div);
            let raw = i64::try_from(value / u64::from(mul)).unwrap_or(i64::MAX);
            VitalSign { series, help, raw }
        };
        let gauge = |name, help, quantum, value| one(name, help, Kind::Gauge, quantum, value);
        let (count, ms, us, size) = ((1, 1), (1, 1_000), (1, 1_000_000), (PAGE_BYTES, 1));
        let part = |part, value| {
            let help = "Space that a part of the data directory takes.";
            let mut out = gauge("data_bytes", help, size, value);
            out.series = out.series.label("part", part);
            out
        };
        #[rustfmt::skip]
        let out = vec![
            gauge("journal_queue_inputs", "Inputs that wait for the journal.", count, self.queue_inputs),
            gauge("journal_lag_seconds", "Peak age of the oldest input that was not durable.", ms, self.lag_ms),
            gauge("journal_sync_seconds", "How long the last sync of the journal took.", us, self.sync_last_us),
            gauge("journal_sync_max_seconds", "The longest sync of the journal.", us, self.sync_max_us),
            gauge("step_max_seconds", "The longest step of the engine.", us, self.step_max_us),
            one("inputs_total", "Inputs journalled since the start.", Kind::Counter, count, self.inputs),
            gauge("outbox_pending_notifications", "Notifications nobody took or refused yet.", count, self.outbox),
            gauge("outbox_oldest_seconds", "Age of the oldest of them.", ms, self.outbox_oldest_ms),
            gauge("streams_open", "Agents that are connected.", count, self.streams),
            gauge("resident_memory_bytes", "Memory of the process.", size, self.memory_bytes),
            gauge("data_free_bytes", "Room in the data directory.", size, self.free_bytes),
            gauge("data_size_bytes", "Size of the filesystem of the data directory.", size, self.size_bytes),
            part("journal", self.journal_bytes),
            part("history", self.history_bytes),
            part("ledger", self.ledger_bytes),
        ];
        out
    }

    /// The schema that the rows follow.
    #[must_use]
    pub fn schema() -> Schema {
        let measures = Vitals::default().measures();
        Schema::new(measures.into_iter().map(|one| one.series).collect())
    }

    /// The raw values, in column order.
    #[must_use]
    pub fn row(&self) -> Vec<i64> {
        self.measures().iter().map(|one| one.raw).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_fits_its_schema_and_keeps_the_values() {
        let vitals = Vitals {
            lag_ms: 2_500,
            free_bytes: 3 * 4_096 + 1,
            ledger_bytes: u64::MAX,
            ..Vitals::default()
        };
        let (schema, row) = (Vitals::schema(), vitals.row());
        assert_eq!(schema.series().len(), row.len());
        let value = |name: &str| {
            let mut columns = schema.series().iter().zip(&row);
            let (series, raw) = columns.find(|(s, _)| s.to_string() == name).unwrap();
            series.value(*raw)
        };
        let whole = |name: &str| format!("{:.3}", value(name));
        assert_eq!(whole("dawnwatch_server_journal_lag_seconds"), "2.500");
        assert_eq!(whole("dawnwatch_server_data_free_bytes"), "12288.000");
        assert!(value("dawnwatch_server_data_bytes{part=\"ledger\"}") > 1e19);
    }
}
