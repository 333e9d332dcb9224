//! Samples in equal slots of time: what a line of a chart is drawn from.

use jiff::Timestamp;

/// One value of a line: the mean of a slot, and the highest sample in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Slot {
    /// Its beginning, Unix milliseconds.
    pub(super) at_ms: i64,
    /// Mean and maximum, where there was a sample.
    pub(super) value: Option<(f64, f64)>,
}

/// One line of a chart.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    /// What it is called.
    pub(super) name: String,
    /// Its values, times strictly rising.
    pub(super) slots: Vec<Slot>,
}

/// Puts samples into equal slots of `[from, to)`.
pub(super) fn slots(
    samples: &[(i64, f64)],
    from: Timestamp,
    to: Timestamp,
    count: usize,
) -> Vec<Slot> {
    let (from, to) = (from.as_millisecond(), to.as_millisecond());
    let length = (to - from).max(1);
    let slots = i64::try_from(count.max(1)).unwrap_or(i64::MAX);
    let mut sums = vec![(0.0f64, 0u32, f64::NEG_INFINITY); count.max(1)];
    for (at, value) in samples {
        if !(from..to).contains(at) || !value.is_finite() {
            continue;
        }
        let index = (at - from).saturating_mul(slots) / length;
        let slot = &mut sums[usize::try_from(index).unwrap_or(0).min(count.max(1) - 1)];
        *slot = (slot.0 + value, slot.1 + 1, slot.2.max(*value));
    }
    let each = (0..slots).zip(sums);
    each.map(|(i, (sum, samples, max))| Slot {
        at_ms: from + i.saturating_mul(length) / slots,
        value: (samples > 0).then(|| (sum / f64::from(samples), max)),
    })
    .collect()
}
