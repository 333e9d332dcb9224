//! The times of a block's rows.
//!
//! | tag | body |
//! |---|---|
//! | 0 PLAIN | a column of the times |
//! | 1 GRID | first time (zigzag), step (number, 1 or more), length of the column of steps, that column, the column of misses |
//!
//! GRID: time = first + steps * step + miss. Ticks that come as the clock strikes, but for some milliseconds, so cost their
//! own jitter and not that of their neighbours.

use dawnwatch_proto::Malformed;

use super::number::{get, length, put, unzigzag, zigzag};
use super::{Effort, bad, column};

const PLAIN: u8 = 0;
const GRID: u8 = 1;

/// The smaller form of the times, tag first.
pub(super) fn encode(times_ms: &[i64], effort: Effort) -> Vec<u8> {
    let mut plain = vec![PLAIN];
    plain.extend(column::encode(times_ms, effort));
    match grid(times_ms, effort) {
        Some(grid) => column::smaller(plain, grid),
        None => plain,
    }
}

/// The times of so many ticks.
///
/// # Errors
/// [`Malformed`] where they do not decode.
pub(super) fn decode(body: &[u8], ticks: usize) -> Result<Vec<i64>, Malformed> {
    match body.split_first() {
        Some((&PLAIN, body)) => column::decode(body, ticks),
        Some((&GRID, mut rest)) => {
            let first = unzigzag(get(&mut rest)?);
            let step = get(&mut rest)?.cast_signed();
            let most = rest.len();
            let long = length(&mut rest, most)?;
            let (steps, misses) = rest
                .split_at_checked(long)
                .ok_or_else(|| bad("it ends too early"))?;
            let steps = column::decode(steps, ticks)?;
            let mut times = column::decode(misses, ticks)?;
            for (time, steps) in times.iter_mut().zip(steps) {
                let nominal = first.wrapping_add(step.wrapping_mul(steps));
                *time = time.wrapping_add(nominal);
            }
            Ok(times)
        }
        _ => Err(bad("unknown form of times")),
    }
}

fn grid(times_ms: &[i64], effort: Effort) -> Option<Vec<u8>> {
    let first = *times_ms.first()?;
    let step = step_of(times_ms)?;
    let (mut steps, mut misses) = (Vec::new(), Vec::new());
    for time in times_ms {
        let since = time.checked_sub(first)?;
        let whole = since.checked_add(step / 2)?.div_euclid(step);
        steps.push(whole);
        misses.push(since - whole.checked_mul(step)?);
    }
    let steps = column::encode(&steps, effort);
    let mut out = vec![GRID];
    put(&mut out, zigzag(first));
    put(&mut out, step.unsigned_abs());
    put(&mut out, steps.len() as u64);
    out.extend(steps);
    out.extend(column::encode(&misses, effort));
    Some(out)
}

/// What times are apart as a rule: the mean over the whole span, each gap counted as so many steps as fit in.
fn step_of(times_ms: &[i64]) -> Option<i64> {
    let (first, last) = (times_ms.first()?, times_ms.last()?);
    let mut apart: Vec<i64> = times_ms
        .windows(2)
        .map(|w| w[1].checked_sub(w[0]))
        .collect::<Option<_>>()?;
    let middle = apart.len() / 2;
    let usual = match apart.is_empty() {
        true => return None,
        false => *apart.select_nth_unstable(middle).1,
    };
    if usual < 1 {
        return None;
    }
    let span = last.checked_sub(*first)?;
    let each = apart
        .iter()
        .map(|ms| ms.saturating_add(usual / 2).div_euclid(usual));
    let counted = each.fold(0i64, i64::saturating_add);
    (counted > 0).then(|| (span.saturating_add(counted / 2) / counted).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(times: &[i64]) -> Vec<u8> {
        let bytes = encode(times, Effort::Best);
        assert_eq!(decode(&bytes, times.len()).unwrap(), times);
        bytes
    }

    /// Ticks of ten seconds that are late or early by as much as this.
    fn ticks(jitter_ms: i64) -> Vec<i64> {
        let late = |i: i64| super::super::tests::chance(i, 2 * jitter_ms + 1) - jitter_ms;
        (0..360)
            .map(|i| 1_764_000_000_000 + i * 10_000 + late(i))
            .collect()
    }

    proptest! {
        #[test]
        fn any_times_come_back(times in proptest::collection::vec(prop_oneof![any::<i64>(), 0i64..100_000], 0..60)) {
            check(&times);
        }

        #[test]
        fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60), ticks in 0usize..100) {
            for tag in [PLAIN, GRID, 2] {
                let mut tagged = vec![tag];
                tagged.extend_from_slice(&bytes);
                let _ = decode(&tagged, ticks);
            }
        }
    }

    #[test]
    fn ticks_cost_their_own_jitter() {
        assert!(check(&ticks(0)).len() < 16);
        let bytes = check(&ticks(5)).len();
        assert!(bytes < 360 * 4 / 8 + 20, "{bytes} bytes");
        let mut gaps = ticks(5);
        gaps.drain(100..140);
        gaps.drain(200..201);
        assert!(check(&gaps).len() < bytes + 12, "two gaps");
    }
}
