//! Values that can all be divided by the same number: pages, KiB, milliseconds of ten.

use super::{Growth, Shape, Summary, Why};

pub(super) const OVER: Why = "a number that is too large";

/// A number within its type.
pub(super) fn narrow<T: TryFrom<i128>>(v: i128) -> Result<T, Why> {
    T::try_from(v).map_err(|_| OVER)
}

/// The numbers that a step divides.
pub(super) fn values(one: &Summary) -> [i128; 5] {
    let (a, b, c) = match one.shape {
        Shape::Gauge { min, max, sum } => (min.into(), max.into(), sum),
        Shape::Counter { increase, steepest } => (increase, steepest.map_or(0, |one| one.by), 0),
    };
    [one.first.1.into(), one.last.1.into(), a, b, c]
}

/// What two numbers can be divided by.
pub(super) fn divisor(a: i128, b: i128) -> i128 {
    let (mut a, mut b) = (a.unsigned_abs(), b.unsigned_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    i128::try_from(a).unwrap_or(1)
}

/// The same with other values, in the order of [`values`].
fn with_values(one: &Summary, [first, last, a, b, c]: [i128; 5]) -> Result<Summary, Why> {
    let shape = match one.shape {
        Shape::Gauge { .. } => Shape::Gauge {
            min: narrow(a)?,
            max: narrow(b)?,
            sum: c,
        },
        Shape::Counter { steepest, .. } => Shape::Counter {
            increase: a,
            steepest: steepest.map(|one| Growth { by: b, ..one }),
        },
    };
    Ok(Summary {
        first: (one.first.0, narrow(first)?),
        last: (one.last.0, narrow(last)?),
        shape,
        ..*one
    })
}

/// All values divided by a number that divides them.
pub(super) fn divided(one: &Summary, step: i128) -> Summary {
    if step == 1 {
        return *one;
    }
    // What is divided by a whole number fits where it was.
    with_values(one, values(one).map(|v| v / step)).unwrap_or(*one)
}

/// What was divided.
///
/// # Errors
/// Where a value is too large.
pub(super) fn multiplied(one: &Summary, step: i128) -> Result<Summary, Why> {
    if step == 1 {
        return Ok(*one);
    }
    let mut all = values(one);
    for v in &mut all {
        *v = v.checked_mul(step).ok_or(OVER)?;
    }
    with_values(one, all)
}
