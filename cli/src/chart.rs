//! A picture of a series in characters: columns of eighths, an axis, holes left open.

use dawnwatch_proto::quantity::Unit;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Columns of the picture: with the values at its side it fits 100 columns.
pub(crate) const COLUMNS_MAX: usize = 80;

/// Rows of the picture: enough to see a shape, few enough to leave room for the table.
const ROWS: usize = 8;

const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws the points between `from` and `to`; each column shows the highest value that falls into it.
pub(crate) fn draw(
    points: &[(Timestamp, Option<f64>)],
    span: (Timestamp, Timestamp),
    zone: &TimeZone,
    unit: Unit,
) -> String {
    let columns = columns(points, span);
    let values = columns.iter().flatten().copied();
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
        (low.min(v), high.max(v))
    });
    if low > high {
        return "no samples in this time\n".to_owned();
    }
    let (low, high) = bounds(low, high);
    let heights: Vec<Option<usize>> = columns
        .iter()
        .map(|value| value.map(|value| eighths((value - low) / (high - low))))
        .collect();
    let labels = [
        (0, high),
        (ROWS / 2, f64::midpoint(low, high)),
        (ROWS - 1, low),
    ]
    .map(|(row, value)| (row, unit.show(value)));
    let side = labels
        .iter()
        .map(|(_, label)| label.chars().count())
        .max()
        .unwrap_or(0);
    let mut out = String::new();
    for row in 0..ROWS {
        let label = labels
            .iter()
            .find(|(at, _)| *at == row)
            .map_or("", |(_, label)| label.as_str());
        let base = (ROWS - 1 - row) * 8;
        let bars: String = heights
            .iter()
            .map(|height| EIGHTHS[height.map_or(0, |height| height.saturating_sub(base).min(8))])
            .collect();
        let pad = " ".repeat(side - label.chars().count());
        out.push_str(&format!("{pad}{label} ┤{}\n", bars.trim_end()));
    }
    let axis: String = heights
        .iter()
        .map(|height| if height.is_some() { '─' } else { ' ' })
        .collect();
    out.push_str(&format!("{} └{}\n", " ".repeat(side), axis.trim_end()));
    out.push_str(&times(span, heights.len(), side + 2, zone));
    if heights.contains(&None) {
        out.push_str("the line below is open where no samples are\n");
    }
    out
}

/// The highest value of each column. A column that no point happens to fall into takes over the one before, once.
fn columns(
    points: &[(Timestamp, Option<f64>)],
    (from, to): (Timestamp, Timestamp),
) -> Vec<Option<f64>> {
    let span_ms = (to.as_millisecond() - from.as_millisecond()).max(1);
    let width = width(points, span_ms);
    let mut found: Vec<Option<Option<f64>>> = vec![None; width];
    for (time, value) in points
        .iter()
        .filter(|(time, _)| *time >= from && *time <= to)
    {
        let share = i128::from(time.as_millisecond() - from.as_millisecond()) * width as i128
            / i128::from(span_ms);
        let column = usize::try_from(share).unwrap_or(0).min(width - 1);
        let value = value.filter(|value| value.is_finite());
        let best = found[column].flatten();
        found[column] = Some(match (best, value) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        });
    }
    (0..width)
        .map(|i| {
            found[i].unwrap_or_else(|| i.checked_sub(1).and_then(|before| found[before].flatten()))
        })
        .collect()
}

/// As many columns as the points are apart, so that no picture is stretched.
fn width(points: &[(Timestamp, Option<f64>)], span_ms: i64) -> usize {
    let mut steps: Vec<i64> = points
        .windows(2)
        .map(|pair| pair[1].0.as_millisecond() - pair[0].0.as_millisecond())
        .filter(|step| *step > 0)
        .collect();
    steps.sort_unstable();
    let step = steps
        .get(steps.len() / 2)
        .copied()
        .unwrap_or(span_ms)
        .max(1);
    usize::try_from(span_ms / step + 1)
        .unwrap_or(COLUMNS_MAX)
        .clamp(1, COLUMNS_MAX)
}

/// The scale: from zero where that is near, else with room around the values.
fn bounds(low: f64, high: f64) -> (f64, f64) {
    let low = if low >= 0.0 && low <= high / 2.0 {
        0.0
    } else {
        low
    };
    if high - low > high.abs() * 1e-9 && high > low {
        return (low, high);
    }
    let room = if high.abs() > 0.0 {
        high.abs() * 0.05
    } else {
        1.0
    };
    (
        if low >= 0.0 {
            (low - room).max(0.0)
        } else {
            low - room
        },
        high + room,
    )
}

/// Height of a bar; also the lowest value shows, so that zero is told from nothing.
fn eighths(share: f64) -> usize {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of 0 to 1 times 64"
    )]
    let height = (share.clamp(0.0, 1.0) * (ROWS * 8) as f64).round() as usize;
    height.max(1)
}

fn times((from, to): (Timestamp, Timestamp), width: usize, side: usize, zone: &TimeZone) -> String {
    let seconds = (to.as_millisecond() - from.as_millisecond()) / 1_000;
    let format = match seconds {
        ..1_200 => "%H:%M:%S",
        1_200..72_000 => "%H:%M",
        _ => "%a %d %b %H:%M",
    };
    let show = |at: Timestamp| at.to_zoned(zone.clone()).strftime(format).to_string();
    let (first, last) = (show(from), show(to));
    let room = width.saturating_sub(first.chars().count() + last.chars().count());
    let gap = " ".repeat(room.max(2));
    format!("{}{first}{gap}{last}\n", " ".repeat(side))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_ramp_with_a_hole() {
        let history = sample::history();
        let span = (
            sample::at("2026-10-05T05:00:00Z"),
            sample::at("2026-10-05T05:30:00Z"),
        );
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let got = draw(&history.points, span, &zone, Unit::Count);
        sample::golden("ramp", &got);
    }

    #[test]
    fn few_flat_and_no_points() {
        let at = |s: i64| Timestamp::from_second(s).unwrap();
        let zone = TimeZone::UTC;
        let none = draw(&[(at(0), None)], (at(0), at(60)), &zone, Unit::Count);
        assert_eq!(none, "no samples in this time\n");
        let flat: Vec<(Timestamp, Option<f64>)> = (0..6).map(|i| (at(i * 10), Some(0.0))).collect();
        let flat = draw(&flat, (at(0), at(50)), &zone, Unit::Ratio);
        assert!(flat.contains("  0 % ┤▁▁▁▁▁▁\n"), "{flat}");
        assert!(
            flat.lines().last().unwrap().contains("00:00:00  00:00:50"),
            "{flat}"
        );
        let one = draw(&[(at(30), Some(5.0))], (at(30), at(30)), &zone, Unit::Count);
        assert!(one.contains('█') || one.contains('▄'), "{one}");
    }

    #[test]
    fn any_points_give_a_picture_of_bounded_size() {
        let at = |s: i64| Timestamp::from_second(s).unwrap();
        for (count, step) in [
            (1, 1),
            (2, 86_400),
            (79, 10),
            (80, 10),
            (81, 10),
            (5_000, 3),
        ] {
            let points: Vec<(Timestamp, Option<f64>)> = (0..count)
                .map(|i| {
                    (
                        at(i * step),
                        (i % 7 != 3)
                            .then_some(-1e300 + 3e299 * f64::from(u8::try_from(i % 5).unwrap())),
                    )
                })
                .collect();
            let text = draw(
                &points,
                (at(0), at(count * step)),
                &TimeZone::UTC,
                Unit::CountRate,
            );
            assert!(
                text.lines().all(|line| line.chars().count() <= 500),
                "{text}"
            );
            let bars = text
                .lines()
                .filter_map(|line| line.split_once('┤'))
                .map(|(_, bars)| bars.chars().count());
            assert!(bars.max() <= Some(COLUMNS_MAX), "{text}");
        }
    }
}
