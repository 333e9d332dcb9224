//! One series of one host over a span: from hour files, mini blocks and raw rows, in order of time.

use std::collections::BTreeSet;

use dawnwatch_engine::block::Block;
use dawnwatch_proto::{HostId, Kind, MISSING, SchemaId, Series};
use jiff::Timestamp;

use super::History;
use super::head::Mini;
use super::quantum::{Quantum, common, raw_in};

/// Which column of a schema a series is, and the quantum that it is counted in there.
pub(super) type Column = (usize, Quantum);

/// The points of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Points {
    /// Raw time in milliseconds and raw value, [`MISSING`] where it could not be read; times strictly rise.
    pub raw: Vec<(i64, i64)>,
    /// What the raw values are counted in, which need not be what the host counts in at present: value = raw * mul / div.
    pub quantum: (u32, u32),
    /// Parts of the span that could not be read, in words.
    pub damaged: Vec<String>,
    /// Samples that were held twice: once too often, but for a moment while an hour is being sealed, and where two hosts that
    /// turned out to be one measured at one time.
    pub repeated: u64,
}

impl Points {
    /// Adds the points of another; of two at one time the first stays.
    pub fn join(&mut self, mut other: Points) {
        if other.raw.is_empty() || self.raw.is_empty() {
            if self.raw.is_empty() {
                self.quantum = other.quantum;
            }
        } else {
            let shared = common(self.quantum, other.quantum);
            self.count_in(shared);
            other.count_in(shared);
        }
        self.raw.extend(other.raw);
        self.raw.sort_by_key(|(time, _)| *time);
        let all = self.raw.len();
        self.raw.dedup_by_key(|(time, _)| *time);
        self.repeated += (all - self.raw.len()) as u64;
        self.damaged.extend(other.damaged);
        self.repeated += other.repeated;
    }

    /// Times in milliseconds and values, none where one is missing: a gauge's own, a counter's rate a second since the point
    /// before, which the first of all has not.
    pub fn each(&self, kind: Kind) -> impl Iterator<Item = (i64, Option<f64>)> {
        each(kind, self.quantum, &self.raw)
    }

    /// The same as a list.
    #[must_use]
    pub fn values(&self, kind: Kind) -> Vec<(Timestamp, Option<f64>)> {
        let at = |ms| Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
        let mut out = Vec::with_capacity(self.raw.len());
        out.extend(self.each(kind).map(|(ms, value)| (at(ms), value)));
        out
    }

    /// How many values [`Points::each`] has.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        let counted = || self.raw.iter().any(|(_, value)| *value != MISSING);
        self.raw.len() - usize::from(kind == Kind::Counter && counted())
    }

    fn count_in(&mut self, quantum: Quantum) {
        if self.quantum != quantum {
            for (_, raw) in &mut self.raw {
                *raw = raw_in(*raw, self.quantum, quantum);
            }
            self.quantum = quantum;
        }
    }

    /// Adds samples that are counted in a quantum of their own.
    fn add(&mut self, samples: impl Iterator<Item = (i64, i64)>, quantum: Quantum) {
        let own = self.shared(quantum);
        self.raw
            .extend(samples.map(|(time, raw)| (time, raw_in(raw, quantum, own))));
    }

    /// The same where all of them are wanted.
    fn add_all(&mut self, samples: &[(i64, i64)], quantum: Quantum) {
        if self.shared(quantum) == quantum {
            self.raw.extend_from_slice(samples);
        } else {
            self.add(samples.iter().copied(), quantum);
        }
    }

    /// The quantum that holds what is there and what comes; what is there is counted in it then.
    fn shared(&mut self, quantum: Quantum) -> Quantum {
        if self.raw.is_empty() {
            self.quantum = quantum;
        }
        if self.quantum != quantum {
            self.count_in(common(self.quantum, quantum));
        }
        self.quantum
    }
}

impl History {
    /// Reads a series of a host within `[from, to)`.
    #[must_use]
    pub fn read(&self, host: HostId, series: &Series, from: Timestamp, to: Timestamp) -> Points {
        let span = (from.as_millisecond(), to.as_millisecond());
        let inside = |(time, _): &(i64, i64)| (span.0..span.1).contains(time);
        let mut columns = Columns {
            history: self,
            series,
            last: None,
        };
        let mut points = Points {
            raw: Vec::new(),
            quantum: (series.mul, series.div),
            damaged: Vec::new(),
            repeated: 0,
        };
        if self.is_erased(host) {
            return points;
        }
        // The head first, the files after it: what is sealed in between is seen twice and counted once.
        let (minis, rows) = self.head().of(host);
        let files = self.files();
        let meeting = || files.iter().filter(|file| file.meets(span.0, span.1));
        for file in meeting() {
            for block in file.blocks_of(host) {
                if block.max_ms < span.0 || block.min_ms >= span.1 {
                    continue;
                }
                let Some((column, quantum)) = columns.of(block.schema) else {
                    continue;
                };
                let whole = span.0 <= block.min_ms && block.max_ms < span.1;
                match file.column(block, column) {
                    Ok(more) if whole => {
                        if points.raw.is_empty() {
                            // The hours of a host are alike.
                            points.raw.reserve(more.len() * meeting().count());
                        }
                        points.add_all(&more, quantum);
                    }
                    Ok(more) => points.add(more.into_iter().filter(inside), quantum),
                    Err(error) => points.damaged.push(error.to_string()),
                }
            }
        }
        let within = |mini: &Mini| span.0 <= mini.max_ms && mini.min_ms < span.1;
        for mini in minis.into_iter().filter(within) {
            let Some((column, quantum)) = columns.of(mini.schema) else {
                continue;
            };
            match part(&mini.bytes, column) {
                Ok(more) => points.add(more.filter(inside), quantum),
                Err(why) => points.damaged.push(why.to_string()),
            }
        }
        for row in rows
            .iter()
            .filter(|row| span.0 <= row.time_ms && row.time_ms < span.1)
        {
            let Some((column, quantum)) = columns.of(row.schema) else {
                continue;
            };
            let value = row.values.get(column).map(|value| (row.time_ms, *value));
            points.add(value.into_iter(), quantum);
        }
        points.raw.sort_by_key(|(time, _)| *time);
        let all = points.raw.len();
        points.raw.dedup_by_key(|(time, _)| *time);
        points.repeated = (all - points.raw.len()) as u64;
        points
    }

    /// The series that some hosts, the first of them above all, send at present, and what else they sent within `[from, to)`: a
    /// disk that died within a night belongs to it. Each once.
    #[must_use]
    pub fn series_within(&self, hosts: &[HostId], from: Timestamp, to: Timestamp) -> Vec<Series> {
        let (from, to) = (from.as_millisecond(), to.as_millisecond());
        let meets = |min_ms: i64, max_ms: i64| from <= max_ms && min_ms < to;
        let mut out: Vec<Series> = hosts.first().map_or_else(Vec::new, |h| self.series(*h));
        let mut named: BTreeSet<_> = out.iter().map(name_of).collect();
        let mut schemas = BTreeSet::new();
        for host in hosts.iter().filter(|host| !self.is_erased(**host)) {
            let (minis, rows) = self.head().of(*host);
            let minis = minis.iter().filter(|mini| meets(mini.min_ms, mini.max_ms));
            schemas.extend(minis.map(|mini| mini.schema));
            let rows = rows.iter().filter(|row| meets(row.time_ms, row.time_ms));
            schemas.extend(rows.map(|row| row.schema));
            for file in self.files().iter().filter(|file| file.meets(from, to)) {
                let blocks = file.blocks_of(*host).iter();
                let blocks = blocks.filter(|block| meets(block.min_ms, block.max_ms));
                schemas.extend(blocks.map(|block| block.schema));
            }
        }
        for schema in schemas.into_iter().filter_map(|id| self.schemas.get(id)) {
            for one in schema.series() {
                if named.insert(name_of(one)) {
                    out.push(one.clone());
                }
            }
        }
        out
    }

    /// The column of a series, and the quantum that it is counted in there.
    pub(super) fn column_of(&self, schema: SchemaId, series: &Series) -> Option<Column> {
        let same = |one: &Series| one.name == series.name && one.labels == series.labels;
        self.schemas.column(schema, same)
    }
}

/// By which two series are one, whatever they are counted in.
fn name_of(series: &Series) -> (String, Vec<(String, String)>) {
    (series.name.clone(), series.labels.clone())
}

/// Where a series is in each schema: the last answer is kept, for a host's hours mostly have one schema.
struct Columns<'a> {
    history: &'a History,
    series: &'a Series,
    last: Option<(SchemaId, Option<Column>)>,
}

impl Columns<'_> {
    fn of(&mut self, schema: SchemaId) -> Option<Column> {
        if let Some((last, column)) = self.last
            && last == schema
        {
            return column;
        }
        let column = self.history.column_of(schema, self.series);
        self.last = Some((schema, column));
        column
    }
}

fn part(
    bytes: &[u8],
    column: usize,
) -> Result<impl Iterator<Item = (i64, i64)>, dawnwatch_proto::Malformed> {
    let block = Block::open(bytes)?;
    Ok(block.times_ms()?.into_iter().zip(block.column(column)?))
}

/// What a raw value is: raw * mul / div.
pub(crate) fn scaled(raw: i64, quantum: Quantum) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "as Series::value")]
    let raw = raw as f64;
    raw * f64::from(quantum.0) / f64::from(quantum.1.max(1))
}

/// Turns raw points into values: a gauge's own, a counter's rate a second since the point before. A counter that fell was
/// reset: what it shows now came since.
fn each(
    kind: Kind,
    quantum: Quantum,
    raw: &[(i64, i64)],
) -> impl Iterator<Item = (i64, Option<f64>)> {
    let mut last: Option<(i64, i64)> = None;
    raw.iter().filter_map(move |&(time, value)| {
        if value == MISSING {
            return Some((time, None));
        }
        if kind == Kind::Gauge {
            return Some((time, Some(scaled(value, quantum))));
        }
        // The first of a counter is no rate yet.
        let (before, from) = last.replace((time, value))?;
        let grown = if value >= from {
            value.wrapping_sub(from)
        } else {
            value
        };
        #[allow(clippy::cast_precision_loss, reason = "a span of milliseconds")]
        let seconds = (time - before) as f64 / 1_000.0;
        Some((time, Some(scaled(grown, quantum) / seconds)))
    })
}

/// Points of a series, thinned or not.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Thinned {
    /// Time and value: each the mean of its slice.
    pub points: Vec<(Timestamp, Option<f64>)>,
    /// The maximum of each slice; empty where nothing was thinned.
    pub peaks: Vec<Option<f64>>,
}

/// One slice of time.
#[derive(Clone, Copy)]
struct Slice {
    sum: f64,
    count: u32,
    max: f64,
}

/// Thins points to at most `points`: mean and maximum of each equal slice of time; a slice without values shows a gap.
#[must_use]
pub fn thin(values: Vec<(Timestamp, Option<f64>)>, points: usize) -> Thinned {
    let (first, last) = match values[..] {
        [(first, _), .., (last, _)] if values.len() > points && points > 0 => (first, last),
        _ => {
            let peaks = Vec::new();
            let points = values;
            return Thinned { points, peaks };
        }
    };
    let from = first.as_millisecond();
    let span = last.as_millisecond() - from + 1;
    let slices = i64::try_from(points).unwrap_or(i64::MAX);
    let empty = Slice {
        sum: 0.0,
        count: 0,
        max: f64::NEG_INFINITY,
    };
    let mut out = vec![empty; points];
    for (at, value) in &values {
        let Some(value) = value else { continue };
        let slice = (at.as_millisecond() - from).saturating_mul(slices) / span;
        let slice = &mut out[usize::try_from(slice).unwrap_or(0).min(points - 1)];
        slice.sum += value;
        slice.count += 1;
        slice.max = slice.max.max(*value);
    }
    let shown = (0..slices).zip(&out).map(|(i, slice)| {
        let time = from + i.saturating_mul(span) / slices;
        let at = Timestamp::from_millisecond(time).unwrap_or(Timestamp::MAX);
        (
            at,
            (slice.count > 0).then(|| slice.sum / f64::from(slice.count)),
        )
    });
    Thinned {
        points: shown.collect(),
        peaks: out
            .iter()
            .map(|slice| (slice.count > 0).then_some(slice.max))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    #[test]
    fn counters_become_rates() {
        let raw = [
            (0, 1_000),
            (10_000, 2_000),
            (20_000, MISSING),
            (30_000, 3_000),
            (40_000, 500),
        ];
        let want = [
            (at(10_000), Some(1.0)),
            (at(20_000), None),
            (at(30_000), Some(0.5)),
            (at(40_000), Some(0.5)),
        ];
        let points = Points {
            raw: raw.to_vec(),
            quantum: (1, 100),
            damaged: Vec::new(),
            repeated: 0,
        };
        assert_eq!(points.values(Kind::Counter), want);
        assert_eq!(points.count(Kind::Counter), want.len());
        assert_eq!(points.count(Kind::Gauge), raw.len());
    }

    #[test]
    fn of_two_hosts_that_are_one_a_moment_counts_once() {
        let of = |raw: &[(i64, i64)], repeated| Points {
            raw: raw.to_vec(),
            quantum: (1, 1),
            damaged: Vec::new(),
            repeated,
        };
        let mut points = of(&[(10, 1), (20, 2), (30, 3)], 0);
        points.join(of(&[(20, 7), (40, 8)], 4));
        let all = of(&[(10, 1), (20, 2), (30, 3), (40, 8)], 5);
        assert_eq!(points, all);
    }

    #[test]
    fn thinning_keeps_means_peaks_and_gaps() {
        let points: Vec<_> = (0..8)
            .map(|i| {
                (
                    at(i * 1_000),
                    (!(2..4).contains(&i)).then_some(f64::from(i32::try_from(i).unwrap())),
                )
            })
            .collect();
        let whole = thin(points.clone(), 8);
        assert_eq!((&whole.points, whole.peaks.len()), (&points, 0));
        let thin = thin(points, 4);
        let shown: Vec<Option<f64>> = thin.points.iter().map(|(_, v)| *v).collect();
        assert_eq!(shown, [Some(0.5), None, Some(4.5), Some(6.5)]);
        assert_eq!(thin.peaks, [Some(1.0), None, Some(5.0), Some(7.0)]);
    }
}
