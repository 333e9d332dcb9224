//! One column of a block: the smallest of the codecs that [`super`] lists. All arithmetic wraps, so every column has a form.

use dawnwatch_proto::wire::{decode_row, encode_row};
use dawnwatch_proto::{MISSING, Malformed};
use pco::wrapped::{FileCompressor, FileDecompressor};
use pco::{ChunkConfig, PagingSpec};

use super::number::{get, length, put, unzigzag};
use super::rice::{self, AGR};
use super::{Effort, bad};

const CONST: u8 = 0;
const DELTA: u8 = 1;
const RAW: u8 = 2;
const LINEAR: u8 = 3;
const ZERO_RUN: u8 = 4;
const PCO: u8 = 5;
const PRESENT: u8 = 6;
/// Same as an earlier column; only among the columns of a block.
pub(super) const DUP: u8 = 7;

/// A column whose smallest form is below this is not tried with pco, whose tables alone take some twenty bytes.
const PCO_FROM_BYTES: usize = 48;

/// Nor is one that Golomb-Rice writes in so few bits a value: pco, at many times its cost, saved under 0.1 % on those of
/// real hosts.
const PCO_FROM_BITS: usize = 4;

/// Columns up to this length are tried as runs too: a few bytes are fewer there than a code's first steps.
const RUNS_TO: usize = 32;

/// pco's own effort: above 4 it costs twice the time for under one per cent.
const PCO_LEVEL: usize = 4;

/// The smallest form of a column, tag first.
pub(super) fn encode(values: &[i64], effort: Effort) -> Vec<u8> {
    if let Some(first) = values.first()
        && values.iter().all(|v| v == first)
    {
        return tagged(CONST, &encode_row(&[*first], None));
    }
    if !values.contains(&MISSING) {
        return whole(values, effort);
    }
    let present: Vec<i64> = values.iter().copied().filter(|v| *v != MISSING).collect();
    let mut runs = vec![PRESENT];
    for run in values.chunk_by(|a, b| (*a == MISSING) == (*b == MISSING)) {
        if runs.len() == 1 && run[0] == MISSING {
            put(&mut runs, 0);
        }
        put(&mut runs, run.len() as u64);
    }
    runs.extend(whole(&present, effort));
    smaller(runs, delta(values).unwrap_or_else(|| raw(values)))
}

/// The values of a column of so many ticks.
pub(super) fn decode(body: &[u8], ticks: usize) -> Result<Vec<i64>, Malformed> {
    match body.split_first() {
        Some((&PRESENT, body)) => decode_present(body, ticks),
        _ => decode_whole(body, ticks),
    }
}

/// The smallest form of values none of which is missing.
fn whole(values: &[i64], effort: Effort) -> Vec<u8> {
    if let Some(line) = linear(values) {
        return line;
    }
    let mut best = rice::encode(values);
    if values.len() <= RUNS_TO {
        let runs = [Some(raw(values)), delta(values)].into_iter().flatten();
        best = runs.fold(best, smaller);
    }
    let dear = best.len() * 8 > values.len() * PCO_FROM_BITS && best.len() >= PCO_FROM_BYTES;
    match effort {
        Effort::Best if dear => match packed(values) {
            Some(packed) => smaller(best, packed),
            None => best,
        },
        Effort::Best | Effort::Quick => best,
    }
}

fn decode_whole(whole: &[u8], ticks: usize) -> Result<Vec<i64>, Malformed> {
    let (tag, body) = whole.split_first().ok_or_else(|| bad("an empty column"))?;
    match *tag {
        CONST if ticks > 0 => Ok(vec![decode_row(body, 1, None)?[0]; ticks]),
        RAW => decode_row(body, ticks, None),
        DELTA => {
            let mut values = decode_row(body, ticks, None)?;
            let mut last = 0i64;
            for value in values.iter_mut().filter(|v| **v != MISSING) {
                last = last.wrapping_add(*value);
                *value = last;
            }
            Ok(values)
        }
        LINEAR => {
            let line = decode_row(body, 2, None)?;
            let mut next = line[0];
            Ok(std::iter::repeat_with(|| {
                let value = next;
                next = next.wrapping_add(line[1]);
                value
            })
            .take(ticks)
            .collect())
        }
        ZERO_RUN => unzero(body, ticks),
        AGR.. => rice::decode(whole, ticks),
        PCO => unpacked(body, ticks).ok_or_else(|| bad("a packed column does not unpack")),
        _ => Err(bad("unknown column tag")),
    }
}

fn decode_present(mut body: &[u8], ticks: usize) -> Result<Vec<i64>, Malformed> {
    let mut runs = Vec::new();
    let (mut all, mut present) = (0, 0);
    while all < ticks {
        let run = length(&mut body, ticks - all)?;
        // Only the first run may be empty: else a body of zeros would take no end.
        if run == 0 && !runs.is_empty() {
            return Err(bad("an empty run"));
        }
        present += if runs.len() % 2 == 0 { run } else { 0 };
        all += run;
        runs.push(run);
    }
    let mut values = decode_whole(body, present)?.into_iter();
    let mut out = Vec::with_capacity(ticks);
    for (i, run) in runs.into_iter().enumerate() {
        if i % 2 == 0 {
            out.extend(values.by_ref().take(run));
        } else {
            out.resize(out.len() + run, MISSING);
        }
    }
    Ok(out)
}

fn raw(values: &[i64]) -> Vec<u8> {
    tagged(RAW, &encode_row(values, None))
}

/// Differences to the last value that was not missing; none where one of them would read as missing.
fn delta(values: &[i64]) -> Option<Vec<u8>> {
    let mut deltas = Vec::with_capacity(values.len());
    let mut last = 0i64;
    for value in values {
        if *value == MISSING {
            deltas.push(MISSING);
            continue;
        }
        let delta = value.wrapping_sub(last);
        if delta == MISSING {
            return None;
        }
        deltas.push(delta);
        last = *value;
    }
    Some(tagged(DELTA, &encode_row(&deltas, None)))
}

fn linear(values: &[i64]) -> Option<Vec<u8>> {
    let [first, second, ..] = *values else {
        return None;
    };
    let step = second.wrapping_sub(first);
    let straight = values.windows(2).all(|w| w[1].wrapping_sub(w[0]) == step);
    // A step that reads as missing has no place in a row; such a line goes raw.
    (straight && step != MISSING).then(|| tagged(LINEAR, &encode_row(&[first, step], None)))
}

/// ZERO-RUN, which Golomb-Rice has taken the place of.
fn unzero(mut body: &[u8], ticks: usize) -> Result<Vec<i64>, Malformed> {
    let mut values = Vec::with_capacity(ticks);
    let mut last = unzigzag(get(&mut body)?);
    if ticks > 0 {
        values.push(last);
    }
    while values.len() < ticks {
        let run = length(&mut body, ticks - values.len())?;
        values.resize(values.len() + run, last);
        if values.len() < ticks {
            let delta = get(&mut body)?
                .checked_add(1)
                .ok_or_else(|| bad("a change over 64 bits"))?;
            last = last.wrapping_add(unzigzag(delta));
            values.push(last);
        }
    }
    if body.is_empty() {
        Ok(values)
    } else {
        Err(bad("bytes after the last column"))
    }
}

/// pco's wrapped form: header, table, one page. None where pco cannot take it.
fn packed(values: &[i64]) -> Option<Vec<u8>> {
    let config = ChunkConfig::default()
        .with_compression_level(PCO_LEVEL)
        .with_paging_spec(PagingSpec::Exact(vec![values.len()]));
    let file = FileCompressor::default();
    let mut out = file.write_header(vec![PCO]).ok()?;
    let mut chunk = file.chunk_compressor(values, &config).ok()?;
    out = chunk.write_meta(out).ok()?;
    chunk.write_page(0, out).ok()
}

fn unpacked(body: &[u8], ticks: usize) -> Option<Vec<i64>> {
    let (file, rest) = FileDecompressor::new(body).ok()?;
    let (mut chunk, rest) = file.chunk_decompressor::<i64, _>(rest).ok()?;
    let mut page = chunk.page_decompressor(rest, ticks).ok()?;
    let mut values = vec![0; ticks];
    let progress = page.read(&mut values).ok()?;
    let all = progress.n_processed == ticks && page.into_src().is_empty();
    all.then_some(values)
}

pub(super) fn smaller(a: Vec<u8>, b: Vec<u8>) -> Vec<u8> {
    if b.len() < a.len() { b } else { a }
}

fn tagged(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 1);
    out.push(tag);
    out.extend_from_slice(body);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::tests::chance;
    use proptest::prelude::*;

    fn check(values: &[i64]) -> Vec<u8> {
        let quick = encode(values, Effort::Quick);
        let best = encode(values, Effort::Best);
        assert_eq!(decode(&quick, values.len()).unwrap(), values);
        assert_eq!(decode(&best, values.len()).unwrap(), values);
        assert!(best.len() <= quick.len());
        best
    }

    /// What columns look like: noise, counters, steps, straight lines, gauges around a level.
    fn column() -> impl Strategy<Value = Vec<i64>> {
        let n = 0usize..=super::super::TICKS_MAX;
        let small = proptest::collection::vec(-9i64..900, n.clone());
        prop_oneof![
            proptest::collection::vec(any::<i64>(), n.clone()),
            proptest::collection::vec(
                prop_oneof![3 => Just(7i64), 1 => Just(MISSING), 1 => Just(MISSING + 1), 1 => Just(i64::MAX)],
                n.clone()
            ),
            small.clone(),
            small.clone().prop_map(|steps| steps
                .iter()
                .scan(1 << 40, |sum, step| {
                    *sum += (*step).max(0);
                    Some(*sum)
                })
                .collect()),
            small.prop_map(|noise| noise
                .iter()
                .scan(5, |level, n| {
                    if *n < 0 {
                        *level += n;
                    }
                    Some(*level)
                })
                .collect()),
            (any::<i64>(), any::<i64>(), n).prop_map(|(first, step, n)| (0..n)
                .map(|i| first.wrapping_add(step.wrapping_mul(i64::try_from(i).unwrap_or(0))))
                .collect()),
        ]
    }

    /// The same, with spans that could not be read.
    fn holes() -> impl Strategy<Value = Vec<i64>> {
        let spans = proptest::collection::vec((0usize..360, 0usize..90), 0..4);
        (column(), spans).prop_map(|(mut values, spans)| {
            for (from, length) in spans {
                values
                    .iter_mut()
                    .skip(from)
                    .take(length)
                    .for_each(|v| *v = MISSING);
            }
            values
        })
    }

    proptest! {
        #[test]
        fn every_column_comes_back(values in holes()) {
            check(&values);
        }

        #[test]
        fn noise_never_panics(
            body in proptest::collection::vec(any::<u8>(), 0..200),
            values in holes(),
            at in any::<prop::sample::Index>(),
            bit in 0u8..8,
            ticks in 0usize..=360,
        ) {
            for tag in (CONST..=DUP).chain(AGR..=255) {
                let mut tagged = vec![tag];
                tagged.extend_from_slice(&body);
                let _ = decode(&tagged, ticks);
            }
            let mut flipped = encode(&values, Effort::Best);
            let at = at.index(flipped.len());
            flipped[at] ^= 1 << bit;
            let _ = decode(&flipped, values.len());
            let _ = decode(&flipped[..at], values.len());
        }
    }

    #[test]
    fn each_form_where_it_wins() {
        let noise = |i: i64| 10_000 + chance(i, 509) + chance(i + 400, 509);
        let forms: [(&str, Vec<i64>, u8); 8] = [
            ("at rest", vec![5; 360], CONST),
            ("all missing", vec![MISSING; 360], CONST),
            (
                "a straight line",
                (0..360).map(|i| 5 + i * 3).collect(),
                LINEAR,
            ),
            (
                "an error counter",
                (0..360).map(|i| i / 100).collect(),
                rice::AGR + 8,
            ),
            ("a gauge", (0..360).map(noise).collect(), rice::AGR + 66),
            (
                "two levels",
                (0..360)
                    .map(|i| {
                        90_000 * crate::block::tests::chance(i, 2)
                            + crate::block::tests::chance(i, 13)
                    })
                    .collect(),
                PCO,
            ),
            ("a few of them", vec![700, 900, MISSING, 750], DELTA),
            (
                "a line with a hole",
                (0..360)
                    .map(|i| if (50..90).contains(&i) { MISSING } else { 7 })
                    .collect(),
                PRESENT,
            ),
        ];
        for (what, values, tag) in forms {
            let bytes = check(&values);
            assert_eq!(bytes[0], tag, "{what}: {} bytes", bytes.len());
        }
    }

    #[test]
    fn the_formats_stay() {
        let line = encode(&[5, 8, 11, 14], Effort::Quick);
        assert_eq!(line, [LINEAR, 12, 8]);
        let steps = [5, 5, 5, 7, 7, 7, 7, 7, 6, 6, 6];
        assert_eq!(encode(&steps, Effort::Quick), [AGR + 8, 10, 100, 4, 1]);
        let once = [ZERO_RUN, 10, 2, 3, 4, 0, 2];
        assert_eq!(decode(&once, 11).unwrap(), steps, "what version 2 wrote");
        let hole = encode(
            &[MISSING, MISSING, 3, 4, 5, 6, 7, 8, MISSING],
            Effort::Quick,
        );
        assert_eq!(hole, [PRESENT, 0, 2, 6, 1, LINEAR, 8, 4]);
        let packed: Vec<i64> = (0..60).map(|i| 1_000 + i * i * 37 % 211).collect();
        let packed = super::packed(&packed).unwrap();
        assert_eq!((packed[0], packed.len(), crc32c(&packed)), PACKED);
    }

    /// Tag, length and CRC32C of a packed column: a pco that writes otherwise must be looked at before it is taken.
    const PACKED: (u8, usize, u32) = (PCO, 76, 1411019795);

    fn crc32c(bytes: &[u8]) -> u32 {
        let step = |crc: u32, byte: &u8| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (0x82f6_3b78 & 0u32.wrapping_sub(crc & 1))
            })
        };
        !bytes.iter().fold(u32::MAX, step)
    }
}
