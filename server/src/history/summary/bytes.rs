//! The form of one summary, and that of the blocks of version 1: all series of a schema over some steps of time.
//!
//! | field | content |
//! |---|---|
//! | schema | u64 LE |
//! | series, steps | their numbers, LEB128 |
//! | each step | first time (zigzag LEB128 of the difference to the step before, from 0), last less first time, samples (LEB128), then each series |
//!
//! | field of a series | content | where |
//! |---|---|---|
//! | marks | u8: 1 present, 2 other times, 4 flat, 8 counter, 16 began anew, 32 other quantum | always; 0: no sample |
//! | numerator, denominator of the quantum | LEB128 | other quantum; not in files of version 1 |
//! | first, last less first time, samples | as those of the step | other times |
//! | first value | zigzag LEB128 of the difference (wrapping) to the last value that is known of the series, from 0 | present |
//! | last value | zigzag LEB128 of the difference to the first | not flat |
//! | first less min, max less first | LEB128 | gauge, not flat |
//! | sum less first times samples | zigzag LEB128 of 128 bits | gauge, not flat |
//! | increase | LEB128 of 128 bits; else last less first value | began anew |
//! | steepest growth, its milliseconds | LEB128 | counter, not flat |

#[cfg(test)]
pub(super) use tests_form::encode;

use dawnwatch_engine::block::TICKS_MAX;
use dawnwatch_proto::SchemaId;

use super::{Growth, Shape, Summary};

/// Most series of a block that is read: a host may send 2,000.
const SERIES_MAX: u64 = 4_096;

const PRESENT: u8 = 1;
const OTHER_TIMES: u8 = 2;
const FLAT: u8 = 4;
const COUNTER: u8 = 8;
const ANEW: u8 = 16;
const QUANTUM: u8 = 32;

/// First time in Unix milliseconds, last less first, samples.
pub(super) type Usual = (i64, i64, u32);

/// Numerator and denominator of a series' quantum.
pub(super) type Quantum = (u32, u32);

/// The summaries of all series of one step; none of a series that has no sample in it.
pub type Step = Vec<Option<Summary>>;

pub(super) type Why = &'static str;

/// The times of a summary.
pub(super) fn times(one: &Summary) -> Usual {
    (one.first.0, one.last.0.wrapping_sub(one.first.0), one.count)
}

/// Writes times, against those before them.
pub(super) fn put_times(out: &mut Vec<u8>, (first, long, count): Usual, before: i64) {
    put_signed(out, i128::from(first.wrapping_sub(before)));
    put(out, u128::from(long.unsigned_abs()));
    put(out, u128::from(count));
}

/// Writes a summary, and its quantum where it is another than that of the one before.
pub(super) fn put_one(
    out: &mut Vec<u8>,
    one: &Summary,
    usual: Usual,
    known: &mut i64,
    quantum: Option<Quantum>,
) {
    let (first, last) = (i128::from(one.first.1), i128::from(one.last.1));
    let flat = match one.shape {
        Shape::Gauge { min, max, .. } => min == max,
        Shape::Counter { increase, .. } => increase == 0 && first == last,
    };
    let (kind, anew) = match one.shape {
        Shape::Gauge { .. } => (0, false),
        Shape::Counter { increase, .. } => (COUNTER, increase != last - first),
    };
    let other = times(one) != usual;
    let mark = |bit, set| if set { bit } else { 0 };
    let marks = mark(OTHER_TIMES, other) | mark(FLAT, flat) | mark(ANEW, anew);
    out.push(PRESENT | kind | marks | mark(QUANTUM, quantum.is_some()));
    if let Some((mul, div)) = quantum {
        put(out, u128::from(mul));
        put(out, u128::from(div));
    }
    if other {
        put_times(out, times(one), usual.0);
    }
    put_signed(out, i128::from(one.first.1.wrapping_sub(*known)));
    *known = one.last.1;
    if flat {
        return;
    }
    put_signed(out, last - first);
    match one.shape {
        Shape::Gauge { min, max, sum } => {
            put(out, (first - i128::from(min)).unsigned_abs());
            put(out, (i128::from(max) - first).unsigned_abs());
            put_signed(out, sum.wrapping_sub(first * i128::from(one.count)));
        }
        Shape::Counter { increase, steepest } => {
            if anew {
                put(out, increase.unsigned_abs());
            }
            let steepest = steepest.unwrap_or(Growth { by: 0, ms: 1 });
            put(out, steepest.by.unsigned_abs());
            put(out, u128::from(steepest.ms.unsigned_abs()));
        }
    }
}

/// The schema of a block, without the rest of it.
///
/// # Errors
/// Where it is cut off.
pub fn schema(bytes: &[u8]) -> Result<SchemaId, Why> {
    let first = bytes.first_chunk::<8>().ok_or(CUT)?;
    Ok(SchemaId(u64::from_le_bytes(*first)))
}

/// The steps of a block.
///
/// # Errors
/// What is wrong with it.
pub fn decode(bytes: &[u8]) -> Result<Vec<Step>, Why> {
    let mut rest = bytes.get(8..).ok_or(CUT)?;
    let (width, count) = (get(&mut rest)?, get(&mut rest)?);
    if width > u128::from(SERIES_MAX) || count > TICKS_MAX as u128 {
        return Err("more series or steps than there can be");
    }
    let (width, count) = (narrow::<usize>(width)?, narrow::<usize>(count)?);
    let mut known = vec![0i64; width];
    let mut before = 0i64;
    let mut steps = Vec::new();
    for _ in 0..count {
        let usual = get_times(&mut rest, before)?;
        before = usual.0;
        let mut step = Vec::new();
        for known in &mut known {
            step.push(get_one(&mut rest, usual, known, None)?);
        }
        steps.push(step);
    }
    match rest {
        [] => Ok(steps),
        _ => Err("bytes after the last step"),
    }
}

/// Reads what [`put_times`] wrote.
pub(super) fn get_times(rest: &mut &[u8], before: i64) -> Result<Usual, Why> {
    let first = before.wrapping_add(get_signed(rest)?);
    Ok((first, narrow(get(rest)?)?, narrow(get(rest)?)?))
}

/// Reads what [`put_one`] wrote; `quantum` is the one that holds, where the file says it.
pub(super) fn get_one(
    rest: &mut &[u8],
    usual: Usual,
    known: &mut i64,
    quantum: Option<&mut Quantum>,
) -> Result<Option<Summary>, Why> {
    let (marks, tail) = rest.split_first().ok_or(CUT)?;
    *rest = tail;
    if *marks == 0 {
        return Ok(None);
    }
    let has = |bit| marks & bit != 0;
    let mut all = PRESENT | OTHER_TIMES | FLAT | COUNTER | ANEW;
    if let Some(quantum) = quantum {
        all |= QUANTUM;
        if has(QUANTUM) {
            *quantum = (narrow(get(rest)?)?, narrow(get(rest)?)?);
        }
    }
    if !has(PRESENT) || marks & !all != 0 || (has(ANEW) && !has(COUNTER)) {
        return Err("unknown marks");
    }
    let (start, long, count) = match has(OTHER_TIMES) {
        true => get_times(rest, usual.0)?,
        false => usual,
    };
    let first = known.wrapping_add(get_signed(rest)?);
    let wide = i128::from(first);
    let last = match has(FLAT) {
        true => first,
        false => narrow_signed(wide.checked_add(get_signed_wide(rest)?).ok_or(OVER)?)?,
    };
    *known = last;
    let shape = if has(COUNTER) {
        let by_values = i128::from(last) - wide;
        get_counter(rest, has(FLAT), has(ANEW), by_values, count)?
    } else {
        get_gauge(rest, has(FLAT), wide, count)?
    };
    Ok(Some(Summary {
        count,
        first: (start, first),
        last: (start.checked_add(long).ok_or(OVER)?, last),
        shape,
    }))
}

fn get_gauge(rest: &mut &[u8], flat: bool, first: i128, count: u32) -> Result<Shape, Why> {
    let all = first * i128::from(count);
    let (mut low, mut high, mut sum) = (first, first, all);
    if !flat {
        low = less(first, get(rest)?)?;
        let more: i128 = narrow(get(rest)?)?;
        high = first.checked_add(more).ok_or(OVER)?;
        sum = all.checked_add(get_signed_wide(rest)?).ok_or(OVER)?;
    }
    Ok(Shape::Gauge {
        min: narrow_signed(low)?,
        max: narrow_signed(high)?,
        sum,
    })
}

fn get_counter(
    rest: &mut &[u8],
    flat: bool,
    anew: bool,
    by_values: i128,
    count: u32,
) -> Result<Shape, Why> {
    let increase = match anew {
        true => narrow(get(rest)?)?,
        false => by_values,
    };
    let growth = match flat {
        true => Growth { by: 0, ms: 1 },
        false => Growth {
            by: narrow(get(rest)?)?,
            ms: narrow(get(rest)?)?,
        },
    };
    if growth.ms < 1 || increase < 0 {
        return Err("a growth that cannot be");
    }
    Ok(Shape::Counter {
        increase,
        steepest: (count > 1).then_some(growth),
    })
}

pub(super) const CUT: Why = "it is cut off";
const OVER: Why = "a number that is too large";

fn less(from: i128, by: u128) -> Result<i128, Why> {
    from.checked_sub(narrow(by)?).ok_or(OVER)
}

/// A number within its type.
pub(super) fn narrow<T: TryFrom<u128>>(v: u128) -> Result<T, Why> {
    T::try_from(v).map_err(|_| OVER)
}

fn narrow_signed(v: i128) -> Result<i64, Why> {
    i64::try_from(v).map_err(|_| OVER)
}

fn get_signed(rest: &mut &[u8]) -> Result<i64, Why> {
    narrow_signed(get_signed_wide(rest)?)
}

#[allow(
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "zigzag is a map of bits"
)]
fn get_signed_wide(rest: &mut &[u8]) -> Result<i128, Why> {
    let v = get(rest)?;
    Ok((v >> 1) as i128 ^ -((v & 1) as i128))
}

#[allow(clippy::cast_sign_loss, reason = "zigzag is a map of bits")]
fn put_signed(out: &mut Vec<u8>, v: i128) {
    put(out, ((v << 1) ^ (v >> 127)) as u128);
}

/// Writes LEB128.
pub(super) fn put(out: &mut Vec<u8>, mut v: u128) {
    while v >= 0x80 {
        out.push(v.to_le_bytes()[0] | 0x80);
        v >>= 7;
    }
    out.push(v.to_le_bytes()[0]);
}

/// Reads LEB128.
pub(super) fn get(rest: &mut &[u8]) -> Result<u128, Why> {
    let mut v = 0u128;
    for shift in (0..128).step_by(7) {
        let (byte, tail) = rest.split_first().ok_or(CUT)?;
        *rest = tail;
        v |= u128::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(v);
        }
    }
    Err(OVER)
}

/// What version 1 wrote, for the test that it is read.
#[cfg(test)]
mod tests_form {
    use super::{SchemaId, Step, put, put_one, put_times, times};

    /// The bytes of some steps, in order; all as wide as the first.
    pub(in crate::history::summary) fn encode(schema: SchemaId, steps: &[Step]) -> Vec<u8> {
        let width = steps.first().map_or(0, Vec::len);
        let mut out = schema.0.to_le_bytes().to_vec();
        put(&mut out, width as u128);
        put(&mut out, steps.len() as u128);
        let mut known = vec![0i64; width];
        let mut before = 0i64;
        for step in steps {
            let usual = step.iter().flatten().max_by_key(|one| one.count);
            let usual = usual.map_or((0, 0, 0), times);
            put_times(&mut out, usual, before);
            before = usual.0;
            for (one, known) in step.iter().zip(&mut known) {
                match one {
                    Some(one) => put_one(&mut out, one, usual, known, None),
                    None => out.push(0),
                }
            }
        }
        out
    }
}
