//! A series over a span: from its samples where they are there and wanted so close, else from summaries.

use std::collections::BTreeMap;
use std::sync::Arc;

use dawnwatch_engine::block::Block;
use dawnwatch_proto::{HostId, Kind, Series};
use jiff::Timestamp;

use super::file::{self, SummaryAt, in_order};
use super::group::Part;
use super::keep::Summaries;
use super::{FIVE_MINUTES_S, Growth, HOUR_S, Shape, Summary, reduce, start_of, together};
use crate::history::head::{Mini, Row};
use crate::history::hour::HourFile;
use crate::history::quantum::{Quantum, common, summary_in};
use crate::history::query::{Points, thin};
use crate::history::{Error, History};

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The host, and those that it was before.
    pub hosts: &'a [HostId],
    /// Of them this series.
    pub series: &'a Series,
    /// From this time on.
    pub from: Timestamp,
    /// Before this one.
    pub to: Timestamp,
    /// Not more points than this; of summaries one more, for their steps are those of the clock.
    pub points: usize,
}

/// A series as it is shown.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Drawn {
    /// Time and value; a counter's is its rate a second.
    pub points: Vec<(Timestamp, Option<f64>)>,
    /// The highest value behind each point; empty where each point is one sample.
    pub peaks: Vec<Option<f64>>,
    /// How many samples stand behind the points.
    pub samples: u64,
    /// Samples that were held twice.
    pub repeated: u64,
    /// Parts of the span that could not be read, in words.
    pub damaged: Vec<String>,
    /// Seconds of the summaries that the points are made of; 0 where they are made of samples.
    pub resolution_s: u32,
}

/// A series as it was found.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// Samples, each of them a point.
    Samples(Points),
    /// Points that stand for more than one.
    Drawn(Drawn),
}

impl Found {
    /// Whether no sample stands behind it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Found::Samples(points) => points.raw.is_empty(),
            Found::Drawn(drawn) => drawn.samples == 0,
        }
    }

    fn damaged(&mut self) -> &mut Vec<String> {
        match self {
            Found::Samples(points) => &mut points.damaged,
            Found::Drawn(drawn) => &mut drawn.damaged,
        }
    }
}

impl History {
    /// A series over a span. Where an hour or more is behind each point, or samples of the span are gone, summaries answer.
    #[must_use]
    pub fn draw(&self, wanted: &Wanted<'_>) -> Drawn {
        match self.find(wanted) {
            Found::Samples(read) => Drawn {
                points: read.values(wanted.series.kind),
                peaks: Vec::new(),
                samples: read.raw.len() as u64,
                repeated: read.repeated,
                damaged: read.damaged,
                resolution_s: 0,
            },
            Found::Drawn(drawn) => drawn,
        }
    }

    /// The same, with samples as they lie where each of them is a point.
    #[must_use]
    pub fn find(&self, wanted: &Wanted<'_>) -> Found {
        let hosts = wanted.hosts.iter().copied();
        let hosts: Vec<HostId> = hosts.filter(|host| !self.is_erased(*host)).collect();
        let wanted = &Wanted {
            hosts: &hosts,
            ..*wanted
        };
        let sources = Sources::of(self, wanted);
        let mut found = sources.find(self);
        found.damaged().sort();
        found.damaged().dedup();
        found
    }
}

/// What an answer is made of, all taken at one time.
struct Sources<'a> {
    wanted: &'a Wanted<'a>,
    head: Vec<(HostId, Vec<Mini>, Vec<Row>)>,
    /// By journal position.
    files: Arc<Vec<Arc<HourFile>>>,
    summaries: Arc<Summaries>,
    /// The hours that the span touches, milliseconds.
    hours: (i64, i64),
    /// Milliseconds behind each point.
    each_ms: i64,
}

/// Summaries on their way into an answer.
#[derive(Default)]
struct Parts {
    parts: Vec<Part>,
    /// The widest step of them.
    step_s: u32,
    damaged: Vec<String>,
}

/// The earliest time that anything is known of.
fn first_ms(
    wanted: &Wanted<'_>,
    head: &[(HostId, Vec<Mini>, Vec<Row>)],
    files: &[Arc<HourFile>],
    summaries: &Summaries,
) -> Option<i64> {
    let minis = head.iter().flat_map(|(_, minis, _)| minis);
    let rows = head.iter().flat_map(|(_, _, rows)| rows);
    let gone = summaries
        .values()
        .filter(|at| !has(files, at.through))
        .map(|at| at.min_s.saturating_mul(1_000));
    let mut first = minis
        .map(|mini| mini.min_ms)
        .chain(rows.map(|row| row.time_ms))
        .chain(gone)
        .min();
    for file in files {
        // Hardly any file but the first that knows the host is searched for it.
        if first.is_some_and(|first| !file.meets(i64::MIN, first)) {
            continue;
        }
        let hosts = wanted.hosts.iter();
        let blocks = hosts.flat_map(|host| file.blocks_of(*host));
        first = blocks.map(|block| block.min_ms).chain(first).min();
    }
    first
}

/// Whether the samples up to a journal position, from the file before it on, are there.
fn has(files: &[Arc<HourFile>], through: u64) -> bool {
    files
        .binary_search_by_key(&through, |file| file.footer.through)
        .is_ok()
}

impl<'a> Sources<'a> {
    /// The head first, then the files, the summaries last: what is sealed or expires in between is in a later one.
    fn of(history: &History, wanted: &'a Wanted<'a>) -> Sources<'a> {
        let of_host = |host: &HostId| {
            let (minis, rows) = history.head().of(*host);
            (*host, minis, rows)
        };
        let head: Vec<_> = wanted.hosts.iter().map(of_host).collect();
        let files = history.files();
        let summaries = history.summaries();
        let (from, to) = (wanted.from.as_millisecond(), wanted.to.as_millisecond());
        let points = i64::try_from(wanted.points.max(1)).unwrap_or(i64::MAX);
        // Whoever asks from long ago of a host that joined today wants the samples of today, not one mean of them.
        let first = first_ms(wanted, &head, &files, &summaries).unwrap_or(from);
        let span = to.saturating_sub(from.max(first)).max(1);
        let last_hour = start_of(to.saturating_sub(1), HOUR_S);
        Sources {
            wanted,
            head,
            files,
            summaries,
            hours: (
                start_of(from, HOUR_S),
                last_hour.saturating_add(i64::from(HOUR_S) * 1_000),
            ),
            each_ms: span / points + i64::from(span % points != 0),
        }
    }

    fn find(&self, history: &History) -> Found {
        let hourly = self.each_ms >= i64::from(HOUR_S) * 1_000;
        let mut parts = Parts {
            step_s: if hourly { HOUR_S } else { FIVE_MINUTES_S },
            ..Parts::default()
        };
        self.gone(history, hourly, &mut parts);
        if !hourly && parts.parts.is_empty() {
            return self.samples(history, parts.damaged);
        }
        let (from, to) = self.hours;
        for file in self.files.iter().filter(|file| file.meets(from, to)) {
            for host in self.wanted.hosts {
                self.of_file(history, file, *host, &mut parts);
            }
        }
        self.of_head(history, &mut parts);
        Found::Drawn(self.shown(parts))
    }

    fn samples(&self, history: &History, damaged: Vec<String>) -> Found {
        let Wanted {
            hosts,
            series,
            from,
            to,
            points,
        } = *self.wanted;
        let mut reads = hosts
            .iter()
            .map(|host| history.read(*host, series, from, to));
        let Some(mut read) = reads.next() else {
            return Found::Drawn(Drawn::default());
        };
        // What it sent under another name before somebody said that it is this host.
        for other in reads {
            read.join(other);
        }
        read.damaged.extend(damaged);
        if read.count(series.kind) <= points {
            return Found::Samples(read);
        }
        let shown = thin(read.values(series.kind), points);
        Found::Drawn(Drawn {
            points: shown.points,
            peaks: shown.peaks,
            samples: read.raw.len() as u64,
            repeated: read.repeated,
            damaged: read.damaged,
            resolution_s: 0,
        })
    }

    /// The summaries of hours whose samples are gone.
    fn gone(&self, history: &History, hourly: bool, parts: &mut Parts) {
        let meets =
            |at: &&SummaryAt| at.meets(self.hours.0, self.hours.1) && !has(&self.files, at.through);
        let mut throughs: Vec<u64> = self
            .summaries
            .values()
            .filter(meets)
            .map(|a| a.through)
            .collect();
        throughs.dedup();
        let steps = match hourly {
            true => [HOUR_S, FIVE_MINUTES_S],
            false => [FIVE_MINUTES_S, HOUR_S],
        };
        for through in throughs {
            let known = steps
                .iter()
                .filter_map(|step| self.summaries.get(&(through, *step)));
            for host in self.wanted.hosts {
                let mut failed = Vec::new();
                let read = known.clone().find_map(|at| {
                    let read = self.of_summary(history, at, *host);
                    let read = read.unwrap_or_else(|error| {
                        failed.push(error.to_string());
                        None
                    });
                    read.map(|read| (at, read))
                });
                match read {
                    Some((at, read)) => {
                        let mut found = summaries(read);
                        found.retain(|part| self.within(&part.summary, at.step_s));
                        if !found.is_empty() {
                            parts.step_s = parts.step_s.max(at.step_s);
                        }
                        parts.parts.extend(found);
                    }
                    None => parts.damaged.extend(failed),
                }
            }
        }
    }

    fn of_summary(
        &self,
        history: &History,
        at: &SummaryAt,
        host: HostId,
    ) -> Result<Option<file::OfSeries>, Error> {
        file::read(&history.dir, at, Some(host), self.wanted.series)
    }

    /// Whether the step that a part is in touches the span.
    fn within(&self, part: &Summary, step_s: u32) -> bool {
        let start = start_of(part.first.0, step_s);
        start >= start_of(self.wanted.from.as_millisecond(), step_s)
            && start < self.wanted.to.as_millisecond()
    }

    /// What a host's part of an hour file comes to: as its summary says, or reckoned from the samples.
    fn of_file(&self, history: &History, file: &HourFile, host: HostId, parts: &mut Parts) {
        let touched = |block: &&_| {
            let block: &crate::history::hour::BlockAt = block;
            block.max_ms >= self.hours.0 && block.min_ms < self.hours.1
        };
        let blocks: Vec<_> = file.blocks_of(host).iter().filter(touched).collect();
        if blocks.is_empty() {
            return;
        }
        let at = self.summaries.get(&(file.footer.through, HOUR_S));
        if let Some(at) = at.filter(|_| parts.step_s >= HOUR_S) {
            match self.of_summary(history, at, host) {
                Ok(Some(read)) if read.left_out == 0 => {
                    parts.parts.extend(summaries(read));
                    return;
                }
                // The samples answer, and say what is damaged of them.
                Ok(Some(_)) => {}
                Ok(None) => history.forget(at),
                Err(error) => {
                    tracing::warn!(%error, "a summary is damaged: its hour answers, and makes it anew");
                    history.forget(at);
                }
            }
        }
        for block in blocks {
            let column = history.column_of(block.schema, self.wanted.series);
            let Some((column, quantum)) = column else {
                continue;
            };
            let samples = file.column(block, column).map(in_order);
            match samples {
                Ok(samples) => parts.reduce(&samples, self.wanted.series.kind, quantum),
                Err(error) => parts.damaged.push(error.to_string()),
            }
        }
    }

    fn of_head(&self, history: &History, parts: &mut Parts) {
        let sealed = self.files.last().map_or(0, |file| file.footer.through);
        let kind = self.wanted.series.kind;
        for (_, minis, rows) in &self.head {
            for mini in minis.iter().filter(|mini| mini.position > sealed) {
                let column = history.column_of(mini.schema, self.wanted.series);
                let Some((column, quantum)) = column else {
                    continue;
                };
                match decoded(&mini.bytes, column) {
                    Ok(samples) => parts.reduce(&samples, kind, quantum),
                    Err(why) => parts.damaged.push(why.to_string()),
                }
            }
            let mut found: BTreeMap<Quantum, Vec<(i64, i64)>> = BTreeMap::new();
            for row in rows.iter().filter(|row| row.position > sealed) {
                let column = history.column_of(row.schema, self.wanted.series);
                if let Some((i, quantum)) = column
                    && let Some(value) = row.values.get(i)
                {
                    let same = found.entry(quantum).or_default();
                    same.push((row.time_ms, *value));
                }
            }
            for (quantum, found) in found {
                parts.reduce(&in_order(found), kind, quantum);
            }
        }
    }

    fn shown(&self, parts: Parts) -> Drawn {
        let Parts {
            mut parts,
            step_s,
            damaged,
        } = parts;
        parts.retain(|part| self.within(&part.summary, step_s));
        let (parts, quantum) = in_one_quantum(&parts);
        let samples = parts.iter().map(|part| u64::from(part.count)).sum();
        // As many whole steps behind each point as leave no more points than are wanted.
        let step_ms = i64::from(step_s) * 1_000;
        let steps = self.each_ms / step_ms + i64::from(self.each_ms % step_ms != 0);
        let wide = steps.max(1).saturating_mul(i64::from(step_s));
        let wide_s = u32::try_from(wide).unwrap_or(u32::MAX);
        let joined = together(parts, wide_s);
        let from_ms = self.wanted.from.as_millisecond();
        let mut drawn = Drawn {
            samples,
            damaged,
            resolution_s: wide_s,
            ..Drawn::default()
        };
        let (mut before, mut next) = (None, None);
        for (start, summary) in joined {
            let value = value(self.wanted.series.kind, quantum, before, &summary);
            before = Some(summary.last);
            // The first count of all has nothing to be compared with.
            if value.is_none() && next.is_none() {
                continue;
            }
            let mut gap = next.unwrap_or(start);
            while gap < start {
                drawn.push(gap.max(from_ms), None);
                gap = gap.saturating_add(i64::from(wide_s) * 1_000);
            }
            drawn.push(start.max(from_ms), value);
            next = Some(start.saturating_add(i64::from(wide_s) * 1_000));
        }
        drawn
    }
}

impl Parts {
    fn reduce(&mut self, samples: &[(i64, i64)], kind: Kind, quantum: Quantum) {
        let found = reduce(samples, kind, self.step_s).into_values();
        self.parts
            .extend(found.map(|summary| Part { summary, quantum }));
    }
}

impl Drawn {
    fn push(&mut self, ms: i64, value: Option<(f64, f64)>) {
        let at = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
        self.points.push((at, value.map(|(mean, _)| mean)));
        self.peaks.push(value.map(|(_, peak)| peak));
    }
}

/// The summaries of one host, which is the only one that was asked for.
fn summaries(read: file::OfSeries) -> Vec<Part> {
    read.parts.into_iter().map(|(_, part)| part).collect()
}

/// Summaries in one quantum, and which it is.
fn in_one_quantum(parts: &[Part]) -> (Vec<Summary>, Quantum) {
    let quanta = parts.iter().map(|part| part.quantum);
    let shared = quanta.reduce(common).unwrap_or((1, 1));
    let same = |part: &Part| summary_in(&part.summary, part.quantum, shared);
    (parts.iter().map(same).collect(), shared)
}

pub(super) fn decoded(
    bytes: &[u8],
    column: usize,
) -> Result<Vec<(i64, i64)>, dawnwatch_proto::Malformed> {
    let block = Block::open(bytes)?;
    let samples = block.times_ms()?.into_iter().zip(block.column(column)?);
    Ok(in_order(samples.collect()))
}

/// Mean and maximum that a summary stands for; a counter's mean rate is what it grew by since the summary before, over that
/// time.
#[allow(
    clippy::cast_precision_loss,
    reason = "a value is shown and judged, never counted on"
)]
fn value(
    kind: Kind,
    quantum: Quantum,
    before: Option<(i64, i64)>,
    of: &Summary,
) -> Option<(f64, f64)> {
    let scaled = |raw: f64| raw * f64::from(quantum.0) / f64::from(quantum.1.max(1));
    match (kind, of.shape) {
        (Kind::Gauge, Shape::Gauge { max, sum, .. }) => {
            let mean = scaled(sum as f64 / f64::from(of.count.max(1)));
            Some((mean, scaled(max as f64)))
        }
        (Kind::Counter, Shape::Counter { increase, steepest }) => {
            let since = before.unwrap_or(of.first);
            let ms = of.last.0.saturating_sub(since.0);
            let between = before.map(|before| Growth::between(before, of.first));
            let by = increase.saturating_add(between.map_or(0, |growth| growth.by));
            let fastest = [between, steepest].into_iter().flatten();
            let fastest = fastest.reduce(Growth::faster)?;
            let rate = |by: i128, ms: i64| scaled(by as f64) / (ms as f64 / 1_000.0);
            (ms > 0).then(|| (rate(by, ms), rate(fastest.by, fastest.ms)))
        }
        (Kind::Gauge, Shape::Counter { .. }) | (Kind::Counter, Shape::Gauge { .. }) => None,
    }
}
