//! A chart as SVG made on the server: lines, the bound that was broken, shaded spans, a summary in one line and a table.
//!
//! The picture has no text but the times below it, so it may be stretched to any width; what the lines say is in the
//! summary and in the table, for eyes and for screen readers alike. Lines differ by their dashes as well as by colour.

use askama::Template;
use askama::filters::HtmlSafe;
use dawnwatch_proto::quantity::Unit;
use dawnwatch_proto::review::text::{duration, when};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::moment::Moment;
pub(super) use super::slots::{Line, Slot, slots};

/// Most rows of a data table: what is read, not scrolled through.
const TABLE_ROWS_MAX: usize = 24;

/// Most times below a chart: five fit the narrowest phone.
const TICKS_MAX: i64 = 5;

/// Width of the picture in its own units.
const WIDTH: f64 = 1_000.0;

/// Height of the picture in its own units.
const HEIGHT: f64 = 140.0;

/// Room above the picture, so that the topmost line is whole.
const ABOVE: f64 = 5.0;

/// Parts that the height is divided into.
const PARTS: u32 = 4;

/// What to draw.
#[derive(Debug, Clone)]
pub(super) struct Plot {
    pub(super) title: String,
    pub(super) unit: Unit,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    pub(super) lines: Vec<Line>,
    /// The bound of a rule.
    pub(super) bound: Option<f64>,
    /// Spans to shade: while an alert lasted.
    pub(super) shades: Vec<(Timestamp, Timestamp)>,
    /// The top of the picture where that is known, such as 1 for a share.
    pub(super) top: Option<f64>,
}

/// A chart, drawn.
#[derive(Debug, Template)]
#[template(path = "chart.html")]
pub(super) struct Chart {
    title: String,
    summary: String,
    /// What the script draws from: JSON.
    data: String,
    lines: Vec<Drawn>,
    envelope: String,
    shades: Vec<Shade>,
    bound_y: Option<String>,
    y_labels: Vec<String>,
    grid: Vec<String>,
    x_ticks: Vec<Tick>,
    table: Vec<TableRow>,
}

impl HtmlSafe for Chart {}

#[derive(Debug)]
struct Drawn {
    name: String,
    path: String,
}

#[derive(Debug)]
struct Shade {
    x: String,
    width: String,
}

#[derive(Debug)]
struct Tick {
    percent: String,
    anchor: &'static str,
    text: String,
}

#[derive(Debug)]
struct TableRow {
    at: Moment,
    cells: Vec<String>,
}

/// What the script needs to draw the same under the pointer.
#[derive(Debug, Serialize)]
struct Data<'a> {
    zone: &'a str,
    unit: &'static str,
    top: f64,
    bound: Option<f64>,
    /// Unix seconds.
    t: Vec<i64>,
    lines: Vec<DataLine<'a>>,
}

#[derive(Debug, Serialize)]
struct DataLine<'a> {
    name: &'a str,
    v: Vec<Option<f64>>,
}

impl Chart {
    /// Draws it; times in a zone, as they are said at `now`.
    pub(super) fn new(plot: &Plot, zone: &TimeZone, now: Timestamp) -> Chart {
        let most = highest(plot);
        let top = nice(plot.top.map_or(most, |top| top.max(most)), plot.unit);
        let span = Span::new(plot.from, plot.to);
        let parts = f64::from(PARTS);
        let part = |i: u32| f64::from(i) / parts;
        Chart {
            title: plot.title.clone(),
            summary: summary(plot, zone, now),
            data: data(plot, zone, top),
            lines: plot
                .lines
                .iter()
                .map(|line| Drawn {
                    name: line.name.clone(),
                    path: path(line, &span, top),
                })
                .collect(),
            envelope: match &plot.lines[..] {
                [one] => envelope(one, &span, top),
                _ => String::new(),
            },
            shades: plot
                .shades
                .iter()
                .filter_map(|shade| span.shade(*shade))
                .collect(),
            bound_y: plot
                .bound
                .filter(|bound| (0.0..=top).contains(bound))
                .map(|bound| short(y(bound, top))),
            y_labels: (0..=PARTS)
                .map(|i| plot.unit.show(top * (1.0 - part(i))))
                .collect(),
            grid: (0..=PARTS)
                .map(|i| short(ABOVE + HEIGHT * part(i)))
                .collect(),
            x_ticks: ticks(&span, zone),
            table: table(plot, zone, now),
        }
    }
}

/// The span that a chart shows.
struct Span {
    from_ms: i64,
    to_ms: i64,
}

impl Span {
    fn new(from: Timestamp, to: Timestamp) -> Span {
        let from_ms = from.as_millisecond();
        Span {
            from_ms,
            to_ms: to.as_millisecond().max(from_ms + 1),
        }
    }

    /// Where a moment stands, 0 to 1.
    fn share(&self, at_ms: i64) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "a place in a picture")]
        let share = (at_ms - self.from_ms) as f64 / (self.to_ms - self.from_ms) as f64;
        share.clamp(0.0, 1.0)
    }

    fn x(&self, at_ms: i64) -> f64 {
        self.share(at_ms) * WIDTH
    }

    fn shade(&self, (from, to): (Timestamp, Timestamp)) -> Option<Shade> {
        let (from, to) = (from.as_millisecond(), to.as_millisecond());
        if to < self.from_ms || from >= self.to_ms {
            return None;
        }
        let (left, right) = (self.x(from), self.x(to));
        Some(Shade {
            x: short(left),
            width: short((right - left).max(2.0)),
        })
    }
}

fn y(value: f64, top: f64) -> f64 {
    HEIGHT - (value / top).clamp(0.0, 1.0) * HEIGHT
}

fn short(value: f64) -> String {
    format!("{value:.1}")
}

fn highest(plot: &Plot) -> f64 {
    let values = plot
        .lines
        .iter()
        .flat_map(|line| &line.slots)
        .filter_map(|slot| slot.value);
    let most = values.map(|(_, max)| max).fold(0.0, f64::max);
    plot.bound.map_or(most, |bound| bound.max(most))
}

/// The least round number that is not below the value, so that a quarter of it is round too.
fn nice(value: f64, unit: Unit) -> f64 {
    let floor = match unit {
        Unit::Ratio | Unit::TimeShare => 0.01,
        Unit::Bytes | Unit::BytesRate => 1_024.0,
        Unit::Seconds => 0.001,
        Unit::Count | Unit::CountRate => 1.0,
    };
    if !value.is_finite() || value <= floor {
        return floor;
    }
    let mut scale = match unit {
        Unit::Bytes | Unit::BytesRate => 1.0,
        Unit::Ratio | Unit::TimeShare | Unit::Seconds | Unit::Count | Unit::CountRate => 1e-6,
    };
    let (step, mantissas): (f64, &[f64]) = match unit {
        Unit::Bytes | Unit::BytesRate => (
            1_024.0,
            &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0],
        ),
        Unit::Ratio | Unit::TimeShare | Unit::Seconds | Unit::Count | Unit::CountRate => {
            (10.0, &[1.0, 2.0, 4.0])
        }
    };
    loop {
        if let Some(mantissa) = mantissas
            .iter()
            .find(|mantissa| value <= **mantissa * scale * (1.0 + 1e-9))
        {
            return mantissa * scale;
        }
        scale *= step;
    }
}

/// Runs of values that follow each other.
fn runs(line: &Line) -> Vec<Vec<(i64, f64, f64)>> {
    let mut runs = vec![Vec::new()];
    for slot in &line.slots {
        match (slot.value, runs.last_mut()) {
            (Some((mean, max)), Some(run)) => run.push((slot.at_ms, mean, max)),
            (None, Some(run)) if !run.is_empty() => runs.push(Vec::new()),
            (None | Some(_), _) => {}
        }
    }
    runs.retain(|run| !run.is_empty());
    runs
}

fn path(line: &Line, span: &Span, top: f64) -> String {
    let mut out = String::new();
    for run in runs(line) {
        for (i, (at, mean, _)) in run.iter().enumerate() {
            let command = if i == 0 { 'M' } else { 'L' };
            out.push_str(&format!("{command}{:.1} {:.1}", span.x(*at), y(*mean, top)));
        }
        if run.len() == 1 {
            // A sample alone is a dot, not nothing.
            out.push_str("h2");
        }
    }
    out
}

/// From the mean up to the highest sample: what a mean alone would hide.
fn envelope(line: &Line, span: &Span, top: f64) -> String {
    let mut out = String::new();
    for run in runs(line).iter().filter(|run| run.len() > 1) {
        let upper = run.iter().map(|(at, _, max)| (at, max));
        let lower = run.iter().rev().map(|(at, mean, _)| (at, mean));
        for (i, (at, value)) in upper.chain(lower).enumerate() {
            let command = if i == 0 { 'M' } else { 'L' };
            out.push_str(&format!(
                "{command}{:.1} {:.1}",
                span.x(*at),
                y(*value, top)
            ));
        }
        out.push('Z');
    }
    out
}

/// `now 12 %, mean 9 %, highest 97 % Sun 02:14`, for each line; and how long there was nothing.
fn summary(plot: &Plot, zone: &TimeZone, now: Timestamp) -> String {
    let mut texts = Vec::new();
    for line in &plot.lines {
        let known: Vec<(usize, i64, f64, f64)> = line
            .slots
            .iter()
            .enumerate()
            .filter_map(|(i, slot)| slot.value.map(|(mean, max)| (i, slot.at_ms, mean, max)))
            .collect();
        let Some((last, _, latest, _)) = known.last() else {
            texts.push(format!("{}: no samples", line.name));
            continue;
        };
        #[allow(clippy::cast_precision_loss, reason = "a few hundred slots")]
        let mean = known.iter().map(|(_, _, mean, _)| mean).sum::<f64>() / known.len() as f64;
        let peak = known
            .iter()
            .max_by(|a, b| a.3.total_cmp(&b.3).then(b.0.cmp(&a.0)));
        let peak = peak.map_or_else(String::new, |(_, at, _, max)| {
            let at = Timestamp::from_millisecond(*at).unwrap_or(now);
            format!(", highest {} {}", plot.unit.show(*max), when(at, zone, now))
        });
        let fresh = last + 3 >= line.slots.len()
            && now.as_millisecond() - plot.to.as_millisecond() < 60_000;
        let word = if fresh { "now" } else { "last" };
        let name = if plot.lines.len() > 1 {
            format!("{}: ", line.name)
        } else {
            String::new()
        };
        texts.push(format!(
            "{name}{word} {}, mean {}{peak}",
            plot.unit.show(*latest),
            plot.unit.show(mean)
        ));
    }
    if let Some(bound) = plot.bound {
        texts.push(format!("bound {}", plot.unit.show(bound)));
    }
    if let Some(missing) = missing_seconds(plot) {
        texts.push(format!("no samples for {} in all", duration(missing)));
    }
    texts.join("; ")
}

/// How long no line had a sample, after the first that had one.
fn missing_seconds(plot: &Plot) -> Option<u64> {
    let slots = plot
        .lines
        .first()
        .map(|line| line.slots.len())
        .filter(|count| *count > 1)?;
    let empty = |i: usize| {
        plot.lines
            .iter()
            .all(|line| line.slots.get(i).is_none_or(|slot| slot.value.is_none()))
    };
    let first = (0..slots).find(|i| !empty(*i))?;
    let missing = (first..slots).filter(|i| empty(*i)).count();
    let length = plot.to.duration_since(plot.from).as_secs();
    let seconds =
        u64::try_from(length).ok()? * u64::try_from(missing).ok()? / u64::try_from(slots).ok()?;
    // The slot that is just beginning is no gap.
    (missing > 1).then_some(seconds)
}

fn data(plot: &Plot, zone: &TimeZone, top: f64) -> String {
    let first = plot.lines.first().map_or(&[][..], |line| &line.slots);
    let rounded = |value: f64| format!("{value:.4e}").parse::<f64>().unwrap_or(value);
    let data = Data {
        zone: zone.iana_name().unwrap_or("UTC"),
        unit: match plot.unit {
            Unit::Bytes => "bytes",
            Unit::BytesRate => "bytes/s",
            Unit::Ratio | Unit::TimeShare => "ratio",
            Unit::Seconds => "s",
            Unit::Count => "",
            Unit::CountRate => "/s",
        },
        top,
        bound: plot.bound,
        t: first.iter().map(|slot| slot.at_ms / 1_000).collect(),
        lines: plot
            .lines
            .iter()
            .map(|line| DataLine {
                name: &line.name,
                v: line
                    .slots
                    .iter()
                    .map(|slot| slot.value.map(|(mean, _)| rounded(mean)))
                    .collect(),
            })
            .collect(),
    };
    serde_json::to_string(&data).unwrap_or_default()
}

fn ticks(span: &Span, zone: &TimeZone) -> Vec<Tick> {
    const STEPS: [i64; 18] = [
        5, 10, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400,
        172_800, 604_800, 2_592_000,
    ];
    let (from, to) = (span.from_ms / 1_000, span.to_ms / 1_000);
    let step = STEPS
        .into_iter()
        .find(|step| (to - from) / step < TICKS_MAX)
        .unwrap_or(31_536_000);
    let format = match step {
        ..60 => "%H:%M:%S",
        60..43_200 => "%H:%M",
        43_200..86_400 => "%a %H:%M",
        _ => "%a %-d",
    };
    let offset = |second: i64| {
        let at = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
        i64::from(zone.to_offset(at).seconds())
    };
    let first = (from + offset(from)).div_euclid(step) * step + step - offset(from);
    let mut out = Vec::new();
    let mut second = first;
    while second < to && out.len() < 8 {
        let at = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
        let share = span.share(second * 1_000);
        let anchor = match share {
            ..0.06 => "start",
            0.94.. => "end",
            _ => "middle",
        };
        out.push(Tick {
            percent: short(share * 100.0),
            anchor,
            text: at.to_zoned(zone.clone()).strftime(format).to_string(),
        });
        second += step;
    }
    out
}

fn table(plot: &Plot, zone: &TimeZone, now: Timestamp) -> Vec<TableRow> {
    let count = plot
        .lines
        .iter()
        .map(|line| line.slots.len())
        .max()
        .unwrap_or(0);
    let group = count.div_ceil(TABLE_ROWS_MAX).max(1);
    let mut out = Vec::new();
    for start in (0..count).step_by(group) {
        let mut cells = Vec::new();
        let mut at_ms = None;
        for line in &plot.lines {
            let slots = line
                .slots
                .get(start..count.min(start + group).min(line.slots.len()))
                .unwrap_or(&[]);
            at_ms = at_ms.or(slots.first().map(|slot| slot.at_ms));
            let known: Vec<(f64, f64)> = slots.iter().filter_map(|slot| slot.value).collect();
            if known.is_empty() {
                cells.extend(["none".to_owned(), "none".to_owned()]);
                continue;
            }
            #[allow(clippy::cast_precision_loss, reason = "a few hundred slots")]
            let mean = known.iter().map(|(mean, _)| mean).sum::<f64>() / known.len() as f64;
            let max = known
                .iter()
                .map(|(_, max)| *max)
                .fold(f64::NEG_INFINITY, f64::max);
            cells.extend([plot.unit.show(mean), plot.unit.show(max)]);
        }
        let at = at_ms
            .and_then(|ms| Timestamp::from_millisecond(ms).ok())
            .unwrap_or(plot.from);
        out.push(TableRow {
            at: Moment::new(at, zone, now),
            cells,
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn plot(samples: &[(i64, f64)]) -> Plot {
        Plot {
            title: "CPU busy".to_owned(),
            unit: Unit::Ratio,
            from: at(0),
            to: at(100),
            lines: vec![Line {
                name: "busy".to_owned(),
                slots: slots(samples, at(0), at(100), 10),
            }],
            bound: Some(0.95),
            shades: vec![(at(50), at(70))],
            top: Some(1.0),
        }
    }

    #[test]
    fn slots_keep_means_peaks_and_gaps() {
        let slots = slots(
            &[
                (0, 1.0),
                (4_000, 3.0),
                (25_000, 5.0),
                (100_000, 9.0),
                (-1, 9.0),
            ],
            at(0),
            at(100),
            10,
        );
        let values: Vec<_> = slots.iter().map(|slot| slot.value).collect();
        assert_eq!(
            values[..4],
            [Some((2.0, 3.0)), None, Some((5.0, 5.0)), None]
        );
        assert!(
            values[4..].iter().all(Option::is_none),
            "what is outside does not count"
        );
    }

    #[test]
    fn a_chart_says_in_words_what_it_draws() {
        let samples: Vec<(i64, f64)> = (0..100)
            .map(|s| (s * 1_000, if s == 55 { 0.97 } else { 0.1 }))
            .collect();
        let chart = Chart::new(&plot(&samples), &TimeZone::UTC, at(100));
        assert_eq!(
            chart.summary,
            "now 10 %, mean 10.9 %, highest 97 % Thu 00:00; bound 95 %"
        );
        let html = chart.render().unwrap();
        assert!(
            html.contains(r#"<rect class="shade" x="500.0" y="0" width="200.0""#),
            "{html}"
        );
        assert!(
            html.contains(r#"class="bound" x1="0" x2="1000" y1="7.0""#),
            "{html}"
        );
        assert_eq!(html.matches("<tr>").count(), 11, "a head and ten rows");
        assert!(
            !html.contains("style="),
            "the policy forbids styles in place"
        );
    }

    #[test]
    fn a_gap_is_a_gap_in_the_line_and_is_said() {
        let samples: Vec<(i64, f64)> = (0..100)
            .filter(|s| !(30..60).contains(s))
            .map(|s| (s * 1_000, 0.5))
            .collect();
        let chart = Chart::new(&plot(&samples), &TimeZone::UTC, at(100));
        assert!(
            chart.summary.ends_with("no samples for 30 s in all"),
            "{}",
            chart.summary
        );
        assert_eq!(
            chart.lines[0].path.matches('M').count(),
            2,
            "{}",
            chart.lines[0].path
        );
    }

    #[test]
    fn tops_are_round() {
        for (value, unit, want) in [
            (0.07, Unit::Ratio, "10 %"),
            (0.97, Unit::Ratio, "100 %"),
            (0.0, Unit::Ratio, "1 %"),
            (3_000.0, Unit::BytesRate, "4 KiB/s"),
            (1_500_000_000.0, Unit::Bytes, "2 GiB"),
            (0.0123, Unit::Seconds, "0.02 s"),
            (7.0, Unit::Count, "10"),
            (f64::NAN, Unit::Count, "1"),
            (f64::MAX, Unit::Ratio, ""),
        ] {
            let top = nice(value, unit);
            assert!(
                want.is_empty() || unit.show(top) == want,
                "{value}: {}",
                unit.show(top)
            );
        }
    }

    #[test]
    fn times_below_stand_at_round_local_times() {
        let zone = dawnwatch_proto::review::text::zone("Asia/Kolkata");
        let span = Span::new(at(1_800_000_000), at(1_800_000_000 + 86_400));
        let texts: Vec<String> = ticks(&span, &zone)
            .into_iter()
            .map(|tick| tick.text)
            .collect();
        assert_eq!(texts, ["18:00", "00:00", "06:00", "12:00"]);
    }

    #[test]
    fn nothing_to_draw_is_said() {
        let chart = Chart::new(&plot(&[]), &TimeZone::UTC, at(100));
        assert_eq!(chart.summary, "busy: no samples; bound 95 %");
    }
}
