//! One series of all hosts over a span of whole hours: a night's maximum of a fleet, without reading its samples.
//!
//! Summaries answer, one file an hour, read by two threads in turn; samples only of the hour that is not sealed, and where a summary is missing.
//! Percentiles cannot be put together from summaries: [`History::percentiles`] reads the samples of every host.

use std::collections::BTreeMap;

use dawnwatch_proto::{HostId, Kind, MISSING, SchemaId, Series};
use jiff::Timestamp;

use super::draw::decoded;
use super::file::{SummaryAt, in_order};
use super::group::Part;
use super::{HOUR_S, Shape, Summary, file, reduce, start_of};
use crate::history::hour::HourFile;
use crate::history::query::Column;
use crate::history::{Error, History, Sealing};

/// Fewer files than these are read by one thread: another costs about as much to begin as one of them.
const WORTH_A_THREAD: usize = 4;

/// What a series came to on one host.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Total {
    /// Samples behind it.
    pub samples: u64,
    /// Lowest value; none of a counter.
    pub min: Option<f64>,
    /// Mean value; of a counter its mean rate a second.
    pub mean: f64,
    /// Highest value; of a counter its steepest rate.
    pub max: f64,
    /// Last value; none of a counter.
    pub last: Option<f64>,
}

/// One series of all hosts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OfFleet {
    /// By host; those without a sample in the span are not in it.
    pub hosts: BTreeMap<HostId, Total>,
    /// Parts of the span that could not be read, in words.
    pub damaged: Vec<String>,
}

/// A span of whole hours, milliseconds.
#[derive(Debug, Clone, Copy)]
struct Hours {
    from: i64,
    to: i64,
}

impl Hours {
    fn of(from: Timestamp, to: Timestamp) -> Hours {
        let last = start_of(to.as_millisecond().saturating_sub(1), HOUR_S);
        Hours {
            from: start_of(from.as_millisecond(), HOUR_S),
            to: last.saturating_add(i64::from(HOUR_S) * 1_000),
        }
    }

    fn meets(self, min_ms: i64, max_ms: i64) -> bool {
        max_ms >= self.from && min_ms < self.to
    }

    fn has(self, time_ms: i64) -> bool {
        (self.from..self.to).contains(&time_ms)
    }
}

/// The whole hours that a span touches.
#[must_use]
pub fn whole_hours(from: Timestamp, to: Timestamp) -> (Timestamp, Timestamp) {
    let hours = Hours::of(from, to);
    let at = |ms| Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    (at(hours.from), at(hours.to))
}

impl History {
    /// A series that some host has or had, by its whole notation, name and labels.
    #[must_use]
    pub fn named(&self, notation: &str) -> Option<Series> {
        let name = notation.split('{').next().unwrap_or(notation);
        self.schemas.find(|one| {
            // Cheap before dear: a fleet has many thousands of series.
            one.name == name && one.to_string() == notation
        })
    }

    /// The notations in which a text stands, of all series that any host has or had, each once; no more than `most`.
    #[must_use]
    pub fn notations_with(&self, text: &str, most: usize) -> Vec<String> {
        self.schemas.notations_with(text, most)
    }

    /// What a series came to on every host, in the whole hours that a span touches. `as_host` says which host it is that a
    /// host's samples count for: another one where somebody said that they are the same.
    #[must_use]
    pub fn fleet(
        &self,
        series: &Series,
        (from, to): (Timestamp, Timestamp),
        as_host: &dyn Fn(HostId) -> HostId,
    ) -> OfFleet {
        let hours = Hours::of(from, to);
        let mut sums = Sums::new(series.kind, hours, as_host);
        // The head first, then the files, the summaries last: what is sealed or expires in between is in a later one.
        let head = self.head().all();
        let files = self.files();
        let known = self.summaries();
        let sealed = files.last().map_or(0, |file| file.footer.through);
        let raw: BTreeMap<u64, _> = files.iter().map(|f| (f.footer.through, f)).collect();
        let meeting = |at: &&SummaryAt| at.step_s == HOUR_S && at.meets(hours.from, hours.to);
        let meeting: Vec<&SummaryAt> = known.values().filter(meeting).collect();
        self.read_in_turn(&meeting, series, |at, read| {
            let file = raw.get(&at.through);
            match read {
                Ok(Some(read)) if read.left_out == 0 || file.is_none() => {
                    for (host, part) in read.parts {
                        sums.add(host, part);
                    }
                    return;
                }
                Ok(_) => {}
                // Its hour makes it anew. One whose hour is gone stays known, or the next answer would lack it and not say so.
                Err(_) if file.is_some() => self.forget(at),
                Err(error) => sums.damaged.push(error.to_string()),
            }
            if let Some(file) = file {
                self.of_samples(file, series, &mut sums);
            }
        });
        for file in files.iter() {
            if !known.contains_key(&(file.footer.through, HOUR_S)) {
                self.of_samples(file, series, &mut sums);
            }
        }
        for part in &head {
            self.of_head(part, sealed, series, &mut sums);
        }
        // Their rows leave the files little by little.
        for host in self.erased() {
            sums.whose.remove(&host);
        }
        sums.totals()
    }

    /// Reads a series from summary files and hands them out in order: every other one is read by a second thread, which is
    /// ahead by two at most.
    fn read_in_turn(
        &self,
        files: &[&SummaryAt],
        series: &Series,
        mut take: impl FnMut(&SummaryAt, Result<Option<file::OfSeries>, Error>),
    ) {
        let read = |at: &SummaryAt| file::read(&self.dir, at, None, series);
        if files.len() < WORTH_A_THREAD {
            files.iter().for_each(|at| take(at, read(at)));
            return;
        }
        std::thread::scope(|scope| {
            let (send, others) = std::sync::mpsc::sync_channel(1);
            let odd = files.iter().skip(1).step_by(2);
            scope.spawn(move || {
                for at in odd {
                    // Nobody waits for more where the one who takes has ended.
                    if send.send(read(at)).is_err() {
                        return;
                    }
                }
            });
            for two in files.chunks(2) {
                take(two[0], read(two[0]));
                if let Some(other) = two.get(1) {
                    take(other, others.recv().unwrap_or(Ok(None)));
                }
            }
        });
    }

    /// The samples of an hour file, where its summary does not answer.
    fn of_samples(&self, file: &HourFile, series: &Series, sums: &mut Sums<'_>) {
        let blocks = file.footer.blocks.iter();
        let hours = sums.hours;
        for at in blocks.filter(|at| hours.meets(at.min_ms, at.max_ms)) {
            let Some((column, quantum)) = self.column_of(at.schema, series) else {
                continue;
            };
            match file.column(at, column).map(in_order) {
                Ok(samples) => sums.reduce(at.host, &samples, quantum),
                Err(error) => sums.damaged.push(error.to_string()),
            }
        }
    }

    /// The rows of the head, those that are in a file already left out.
    fn of_head(&self, head: &Sealing, sealed: u64, series: &Series, sums: &mut Sums<'_>) {
        // Hosts of one kind have one schema, and rows of one host nearly always.
        let mut columns: BTreeMap<SchemaId, Option<Column>> = BTreeMap::new();
        let mut column = |schema: SchemaId| {
            *columns
                .entry(schema)
                .or_insert_with(|| self.column_of(schema, series))
        };
        for (host, rows) in head.iter() {
            for mini in rows.minis.iter().filter(|mini| mini.position > sealed) {
                if !sums.hours.meets(mini.min_ms, mini.max_ms) {
                    continue;
                }
                let Some((i, quantum)) = column(mini.schema) else {
                    continue;
                };
                match decoded(&mini.bytes, i) {
                    Ok(samples) => sums.reduce(*host, &samples, quantum),
                    Err(why) => sums.damaged.push(why.to_string()),
                }
            }
            let (mut values, mut counted) = (Vec::new(), (1, 1));
            for row in rows.raw.iter().filter(|row| row.position > sealed) {
                if let Some((i, quantum)) = column(row.schema)
                    && let Some(value) = row.values.get(i)
                {
                    counted = quantum;
                    values.push((row.time_ms, *value));
                }
            }
            sums.reduce(*host, &in_order(values), counted);
        }
    }

    /// The value that a share of the samples of each host stay at or below, in a span: by reading them. Of counters, their
    /// rates. Each host stands with those that it was before, itself first.
    #[must_use]
    pub fn percentiles(
        &self,
        hosts: impl Iterator<Item = Vec<HostId>>,
        series: &Series,
        (from, to): (Timestamp, Timestamp),
        share: f64,
    ) -> BTreeMap<HostId, f64> {
        let mut out = BTreeMap::new();
        for names in hosts {
            let mut reads = names.iter().map(|one| self.read(*one, series, from, to));
            let (Some(host), Some(mut read)) = (names.first().copied(), reads.next()) else {
                continue;
            };
            reads.for_each(|before| read.join(before));
            let values = read.values(series.kind).into_iter();
            let mut values: Vec<f64> = values.filter_map(|(_, value)| value).collect();
            if values.is_empty() {
                continue;
            }
            #[allow(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a place in a list of at most some thousands"
            )]
            let place = ((values.len() - 1) as f64 * share.clamp(0.0, 1.0)).ceil() as usize;
            let (_, value, _) = values.select_nth_unstable_by(place, f64::total_cmp);
            out.insert(host, *value);
        }
        out
    }
}

/// What is known of every host so far.
struct Sums<'a> {
    as_host: &'a dyn Fn(HostId) -> HostId,
    kind: Kind,
    hours: Hours,
    sums: Vec<Option<Sum>>,
    /// By the host that samples count for: where its sum is.
    whose: BTreeMap<HostId, usize>,
    /// Hosts as they were met, each with where the sum is that it counts for.
    met: Vec<(HostId, usize)>,
    /// Where each host is in that list.
    places: BTreeMap<HostId, usize>,
    /// Where in that list the last one was: each file has its hosts in the same order.
    at: usize,
    damaged: Vec<String>,
}

/// Of one host, in the unit of the series: two parts may be counted in different quanta.
#[derive(Debug, Clone, Copy)]
struct Sum {
    count: u64,
    min: f64,
    max: f64,
    /// Values added up; of a counter what it grew by.
    sum: f64,
    /// First and last sample: time, and raw value with its quantum.
    first: (i64, f64),
    last: (i64, f64),
}

impl<'a> Sums<'a> {
    fn new(kind: Kind, hours: Hours, as_host: &'a dyn Fn(HostId) -> HostId) -> Sums<'a> {
        Sums {
            as_host,
            kind,
            hours,
            sums: Vec::new(),
            whose: BTreeMap::new(),
            met: Vec::new(),
            places: BTreeMap::new(),
            at: 0,
            damaged: Vec::new(),
        }
    }

    fn reduce(&mut self, host: HostId, samples: &[(i64, i64)], quantum: (u32, u32)) {
        let from = samples.partition_point(|(time, _)| *time < self.hours.from);
        let to = samples.partition_point(|(time, _)| *time < self.hours.to);
        let samples: Vec<_> = samples[from..to]
            .iter()
            .filter(|(_, value)| *value != MISSING)
            .copied()
            .collect();
        for summary in reduce(&samples, self.kind, HOUR_S).into_values() {
            self.add(host, Part { summary, quantum });
        }
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "a value is shown and judged, never counted on"
    )]
    fn add(&mut self, host: HostId, part: Part) {
        let Part { summary, quantum } = part;
        if !self.hours.has(start_of(summary.first.0, HOUR_S)) {
            return;
        }
        let unit = f64::from(quantum.0) / f64::from(quantum.1.max(1));
        let scaled = |raw: i64| raw as f64 * f64::from(quantum.0) / f64::from(quantum.1.max(1));
        let Summary {
            count, first, last, ..
        } = summary;
        let (min, max, sum) = match (self.kind, summary.shape) {
            (Kind::Gauge, Shape::Gauge { min, max, sum }) => {
                (scaled(min), scaled(max), sum as f64 * unit)
            }
            (Kind::Counter, Shape::Counter { increase, steepest }) => {
                let rate = steepest.map(|one| one.by as f64 * unit / (one.ms as f64 / 1_000.0));
                (0.0, rate.unwrap_or(0.0), increase as f64 * unit)
            }
            (Kind::Gauge, Shape::Counter { .. }) | (Kind::Counter, Shape::Gauge { .. }) => return,
        };
        let new = Sum {
            count: u64::from(count),
            min,
            max,
            sum,
            first: (first.0, scaled(first.1)),
            last: (last.0, scaled(last.1)),
        };
        let is_counter = self.kind == Kind::Counter;
        let at = self.place_of(host);
        match &mut self.sums[at] {
            Some(known) => known.join(&new, is_counter),
            none => *none = Some(new),
        }
    }

    /// Where the sum is that a host's samples count for.
    fn place_of(&mut self, host: HostId) -> usize {
        for at in [self.at, self.at + 1] {
            if let Some((_, place)) = self.met.get(at).filter(|(met, _)| *met == host) {
                self.at = at;
                return *place;
            }
        }
        self.at = *self.places.entry(host).or_insert_with(|| {
            let next = self.sums.len();
            let place = *self.whose.entry((self.as_host)(host)).or_insert(next);
            if place == next {
                self.sums.push(None);
            }
            self.met.push((host, place));
            self.met.len() - 1
        });
        self.met[self.at].1
    }

    #[allow(clippy::cast_precision_loss, reason = "as above")]
    fn totals(self) -> OfFleet {
        let total = |of: &Sum| match self.kind {
            Kind::Gauge => Some(Total {
                samples: of.count,
                min: Some(of.min),
                mean: of.sum / of.count.max(1) as f64,
                max: of.max,
                last: Some(of.last.1),
            }),
            Kind::Counter => {
                let seconds = (of.last.0 - of.first.0) as f64 / 1_000.0;
                // A single count has nothing to be compared with.
                (seconds > 0.0).then(|| Total {
                    samples: of.count,
                    min: None,
                    mean: of.sum / seconds,
                    max: of.max,
                    last: None,
                })
            }
        };
        let whose = self.whose.iter();
        let sums = whose.filter_map(|(host, at)| Some((*host, self.sums[*at].as_ref()?)));
        let mut damaged = self.damaged;
        damaged.sort();
        damaged.dedup();
        OfFleet {
            hosts: sums
                .filter_map(|(host, of)| Some((host, total(of)?)))
                .collect(),
            damaged,
        }
    }
}

impl Sum {
    /// Adds a part; parts come mostly in order of time. What a counter grew by between two parts counts where one follows
    /// the other.
    #[allow(clippy::cast_precision_loss, reason = "milliseconds")]
    fn join(&mut self, other: &Sum, is_counter: bool) {
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum += other.sum;
        if is_counter {
            let between = match () {
                () if other.first.0 > self.last.0 => Some((self.last, other.first)),
                () if self.first.0 > other.last.0 => Some((other.last, self.first)),
                () => None,
            };
            if let Some((before, after)) = between {
                let grown = match after.1 >= before.1 {
                    true => after.1 - before.1,
                    false => after.1.max(0.0),
                };
                self.sum += grown;
                let seconds = (after.0 - before.0) as f64 / 1_000.0;
                self.max = self.max.max(grown / seconds);
            }
        }
        if other.last.0 >= self.last.0 {
            self.last = other.last;
        }
        if other.first.0 < self.first.0 {
            self.first = other.first;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_whole() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let hours = whole_hours(at("2026-10-05T18:10:00Z"), at("2026-10-06T08:00:00Z"));
        assert_eq!(
            hours,
            (at("2026-10-05T18:00:00Z"), at("2026-10-06T08:00:00Z"))
        );
    }
}
