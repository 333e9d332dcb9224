//! A series is one stream of numbers of one host; a schema is the list of series that a tick's row follows.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Malformed, pb};

/// Most series a host may declare: node_exporter's full set on a large machine is about 1,500.
pub const SERIES_MAX: usize = 2_000;

/// Longest name or label value, in bytes: mount points and unit names fit, log lines do not.
pub const LABEL_BYTES_MAX: usize = 256;

/// Most labels on one series.
pub const LABELS_MAX: usize = 16;

/// Whether a series is a level or an ever-growing count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A level: any value at any time.
    Gauge,
    /// A count that only grows, but for restarts from zero.
    Counter,
}

/// One stream of numbers: node_exporter's name and labels, and the quantum it is counted in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Series {
    /// Name whose suffix is the unit, such as `node_memory_MemTotal_bytes`.
    pub name: String,
    /// Labels sorted by name.
    pub labels: Vec<(String, String)>,
    /// Level or count.
    pub kind: Kind,
    /// Numerator of the quantum: value = raw * mul / div.
    pub mul: u32,
    /// Denominator of the quantum.
    pub div: u32,
}

impl Series {
    /// A series without labels that is counted in whole units.
    #[must_use]
    pub fn new(name: &str, kind: Kind) -> Series {
        Series {
            name: name.to_owned(),
            labels: Vec::new(),
            kind,
            mul: 1,
            div: 1,
        }
    }

    /// Adds a label, keeping them sorted.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Series {
        self.labels.push((name.to_owned(), value.to_owned()));
        self.labels.sort();
        self
    }

    /// Sets the quantum: value = raw * mul / div.
    #[must_use]
    pub fn quantum(mut self, mul: u32, div: u32) -> Series {
        (self.mul, self.div) = (mul, div);
        self
    }

    /// The value of a raw integer in the unit that the name ends in.
    #[must_use]
    pub fn value(&self, raw: i64) -> f64 {
        #[allow(
            clippy::cast_precision_loss,
            reason = "a value is shown and judged, never counted on"
        )]
        let raw = raw as f64;
        raw * f64::from(self.mul) / f64::from(self.div)
    }

    /// The value of a label, if the series has it.
    #[must_use]
    pub fn get(&self, label: &str) -> Option<&str> {
        self.labels
            .iter()
            .find(|(name, _)| name == label)
            .map(|(_, value)| value.as_str())
    }
}

/// Prometheus notation: `name{a="b"}`.
impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (i, (name, value)) in self.labels.iter().enumerate() {
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            write!(f, "{}{name}=\"{value}\"", if i == 0 { "{" } else { "," })?;
        }
        if self.labels.is_empty() {
            Ok(())
        } else {
            f.write_str("}")
        }
    }
}

/// Content hash of a schema.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SchemaId(pub u64);

impl fmt::Debug for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The list of series that a row follows, column by column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    id: SchemaId,
    series: Vec<Series>,
}

impl Schema {
    /// Makes a schema; its id is FNV-1a (64 bit) over every field in order.
    #[must_use]
    pub fn new(series: Vec<Series>) -> Schema {
        let mut hash = Fnv::new();
        for one in &series {
            hash.text(&one.name);
            for (name, value) in &one.labels {
                hash.text(name);
                hash.text(value);
            }
            hash.bytes(&[0xff, u8::from(one.kind == Kind::Counter)]);
            hash.bytes(&one.mul.to_le_bytes());
            hash.bytes(&one.div.to_le_bytes());
        }
        Schema {
            id: SchemaId(hash.0),
            series,
        }
    }

    /// The content hash.
    #[must_use]
    pub fn id(&self) -> SchemaId {
        self.id
    }

    /// The series, in column order.
    #[must_use]
    pub fn series(&self) -> &[Series] {
        &self.series
    }

    /// The wire form, under the number that this connection gives it.
    #[must_use]
    pub fn to_pb(&self, number: u32) -> pb::Schema {
        let series = self.series.iter().map(series_to_pb).collect();
        pb::Schema {
            number,
            id: self.id.0,
            series,
        }
    }

    /// Checks a schema from the wire against the bounds and its own hash.
    ///
    /// # Errors
    /// [`Malformed`] says which bound is broken.
    pub fn from_pb(message: pb::Schema) -> Result<Schema, Malformed> {
        limit("series of a host", message.series.len(), SERIES_MAX)?;
        let series = message
            .series
            .into_iter()
            .map(series_from_pb)
            .collect::<Result<Vec<_>, _>>()?;
        let schema = Schema::new(series);
        if schema.id.0 != message.id {
            let why = format!("{:016x} does not match its content", message.id);
            return Err(Malformed::Invalid {
                what: "schema id",
                why,
            });
        }
        Ok(schema)
    }
}

fn series_to_pb(series: &Series) -> pb::Series {
    let labels = series
        .labels
        .iter()
        .cloned()
        .map(|(name, value)| pb::Label { name, value })
        .collect();
    let kind = match series.kind {
        Kind::Gauge => pb::Kind::Gauge,
        Kind::Counter => pb::Kind::Counter,
    };
    let kind = i32::from(kind);
    pb::Series {
        name: series.name.clone(),
        labels,
        kind,
        mul: series.mul,
        div: series.div,
    }
}

fn series_from_pb(message: pb::Series) -> Result<Series, Malformed> {
    limit(
        "length of a series name",
        message.name.len(),
        LABEL_BYTES_MAX,
    )?;
    limit("labels of a series", message.labels.len(), LABELS_MAX)?;
    if message.name.is_empty() {
        return Err(Malformed::Missing("name of a series"));
    }
    let mut labels = Vec::with_capacity(message.labels.len());
    for label in message.labels {
        limit(
            "length of a label",
            label.name.len().max(label.value.len()),
            LABEL_BYTES_MAX,
        )?;
        labels.push((label.name, label.value));
    }
    labels.sort();
    if message.mul == 0 || message.div == 0 {
        return Err(Malformed::Invalid {
            what: "quantum",
            why: "zero".to_owned(),
        });
    }
    let kind = match message.kind {
        2 => Kind::Counter,
        _ => Kind::Gauge,
    };
    Ok(Series {
        name: message.name,
        labels,
        kind,
        mul: message.mul,
        div: message.div,
    })
}

pub(crate) fn limit(what: &'static str, got: usize, limit: usize) -> Result<(), Malformed> {
    if got <= limit {
        return Ok(());
    }
    Err(Malformed::OverLimit {
        what,
        got: got as u64,
        limit: limit as u64,
    })
}

struct Fnv(u64);

impl Fnv {
    fn new() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn text(&mut self, text: &str) {
        self.bytes(&(text.len() as u64).to_le_bytes());
        self.bytes(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Schema {
        Schema::new(vec![
            Series::new("node_load1", Kind::Gauge).quantum(1, 100),
            Series::new("node_cpu_seconds_total", Kind::Counter)
                .label("mode", "user")
                .label("cpu", "0")
                .quantum(1, 100),
        ])
    }

    #[test]
    fn survives_the_wire() {
        let schema = sample();
        assert_eq!(Schema::from_pb(schema.to_pb(3)), Ok(schema));
    }

    #[test]
    fn the_id_follows_the_content() {
        let other = Schema::new(sample().series()[..1].to_vec());
        assert_ne!(other.id(), sample().id());
        let mut lie = sample().to_pb(1);
        lie.id ^= 1;
        assert!(matches!(
            Schema::from_pb(lie),
            Err(Malformed::Invalid {
                what: "schema id",
                ..
            })
        ));
    }

    #[test]
    fn bounds_hold() {
        let many = (0..=SERIES_MAX)
            .map(|i| Series::new(&format!("s{i}"), Kind::Gauge))
            .collect();
        let error = Schema::from_pb(Schema::new(many).to_pb(1)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "series of a host: 2001 is over the limit of 2000"
        );
        let long = Schema::new(vec![
            Series::new("x", Kind::Gauge).label("l", &"y".repeat(257)),
        ]);
        assert!(Schema::from_pb(long.to_pb(1)).is_err());
    }

    #[test]
    fn shows_prometheus_notation() {
        let shown = sample().series()[1].to_string();
        assert_eq!(shown, r#"node_cpu_seconds_total{cpu="0",mode="user"}"#);
    }
}
