//! The quantum that raw values are counted in: value = raw * mul / div. A series' changes when its host does (more memory, a
//! larger disk), so each part of history is shown by the one of its own schema.
//!
//! Parts of several are brought to one that all of them are whole multiples of, so that they stay integers: what a counter
//! grew by between two parts is as exact as within one. Where no such quantum can be written down, the finest one of them is
//! taken, and others are rounded to it.

use dawnwatch_proto::MISSING;

use super::summary::{Growth, Shape, Summary};

/// Numerator and denominator.
pub(crate) type Quantum = (u32, u32);

/// A quantum that both are whole multiples of; the finer one, where that does not fit.
#[must_use]
pub(crate) fn common(a: Quantum, b: Quantum) -> Quantum {
    if a == b {
        return a;
    }
    let wide = |one: u32| u64::from(one.max(1));
    let (left, right) = (wide(a.0) * wide(b.1), wide(b.0) * wide(a.1));
    let below = wide(a.1) * wide(b.1);
    let above = gcd(left, right);
    let shared = gcd(above, below);
    match (u32::try_from(above / shared), u32::try_from(below / shared)) {
        (Ok(mul), Ok(div)) => (mul, div),
        _ if left <= right => a,
        _ => b,
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    match b {
        0 => a.max(1),
        _ => gcd(b, a % b),
    }
}

/// A raw value of one quantum in another, rounded to the nearest; missing stays missing.
#[must_use]
pub(crate) fn raw_in(raw: i64, from: Quantum, to: Quantum) -> i64 {
    if from == to || raw == MISSING {
        return raw;
    }
    let scaled = long_in(i128::from(raw), from, to);
    i64::try_from(scaled.clamp(i128::from(MISSING + 1), i128::from(i64::MAX))).unwrap_or(i64::MAX)
}

/// The same of a sum.
fn long_in(raw: i128, from: Quantum, to: Quantum) -> i128 {
    let wide = |one: u32| u64::from(one.max(1));
    let (above, below) = (wide(from.0) * wide(to.1), wide(from.1) * wide(to.0));
    let shared = gcd(above, below);
    let (above, below) = (i128::from(above / shared), i128::from(below / shared));
    let half = if raw < 0 { -below / 2 } else { below / 2 };
    raw.saturating_mul(above).saturating_add(half) / below
}

/// A summary of one quantum in another.
#[must_use]
pub(crate) fn summary_in(of: &Summary, from: Quantum, to: Quantum) -> Summary {
    if from == to {
        return *of;
    }
    let raw = |raw| raw_in(raw, from, to);
    Summary {
        count: of.count,
        first: (of.first.0, raw(of.first.1)),
        last: (of.last.0, raw(of.last.1)),
        shape: match of.shape {
            Shape::Gauge { min, max, sum } => Shape::Gauge {
                min: raw(min),
                max: raw(max),
                sum: long_in(sum, from, to),
            },
            Shape::Counter { increase, steepest } => Shape::Counter {
                increase: long_in(increase, from, to),
                steepest: steepest.map(|one| Growth {
                    by: long_in(one.by, from, to),
                    ms: one.ms,
                }),
            },
        },
    }
}

#[cfg(test)]
mod tests;
