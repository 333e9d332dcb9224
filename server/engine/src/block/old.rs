//! Blocks of versions 1 and 2, which are read and no longer written.
//!
//! | field | content |
//! |---|---|
//! | version | u8, 2; 1 had the tags up to RAW only |
//! | ticks | number of rows, at most 360 |
//! | columns | number of columns |
//! | lengths | one number for the times, then one a column: bytes of its body, tag included |
//! | times | tag, body: milliseconds as first value and differences of differences |
//! | columns | tag, body, as in later versions; DUP counts columns of the block |

use dawnwatch_proto::Malformed;
use dawnwatch_proto::series::SERIES_MAX;

use super::number::length;
use super::{Block, Group, TICKS_MAX, Times, bad, column};

pub(super) const FEWER_TAGS: u8 = 1;
pub(super) const WITHOUT_GROUPS: u8 = 2;

/// Reads what follows the version: all columns are one group.
pub(super) fn open(mut rest: &[u8]) -> Result<Block<'_>, Malformed> {
    let ticks = length(&mut rest, TICKS_MAX)?;
    let columns = length(&mut rest, SERIES_MAX)?;
    let most = rest.len();
    let lengths: Vec<usize> = (0..=columns)
        .map(|_| length(&mut rest, most))
        .collect::<Result<_, _>>()?;
    let (times, rest) = rest
        .split_at_checked(lengths[0])
        .ok_or_else(|| bad("it ends too early"))?;
    Ok(Block {
        ticks,
        columns,
        times: Times::Old(times),
        groups: vec![Group::of(rest, &lengths[1..], 0, ticks)?],
    })
}

/// The times, from first value and differences of differences.
pub(super) fn times(body: &[u8], ticks: usize) -> Result<Vec<i64>, Malformed> {
    let mut times = column::decode(body, ticks)?;
    let (mut value, mut step) = (0i64, 0i64);
    for (i, time) in times.iter_mut().enumerate() {
        match i {
            0 => value = *time,
            _ => {
                step = step.wrapping_add(*time);
                value = value.wrapping_add(step);
            }
        }
        *time = value;
    }
    Ok(times)
}
