//! The summaries of one series of a group of hosts, in bits.
//!
//! | part | content |
//! |---|---|
//! | marks | 1 bit each: counter; gaps; other times; began anew; a bit that says of some that they are flat |
//! | flat | 1 bit, without that last mark: whether all are |
//! | quanta | 2 bits: 0 all are 1/1; 1 all are one, two words of 32 bits; 2 they differ |
//! | step | 1 bit; then as a wide number, what all values can be divided by, else 1 |
//! | lean | 2 bits, of levels that are not flat: what sums are written against; 1 bit, of counters that are not: what the steepest growth is |
//! | codes | one a kind of number that can be in it, in the order below: see `code.rs` |
//! | summaries | one after the other: each step of each host |
//!
//! | of a summary | content | where |
//! |---|---|---|
//! | there | 1 bit; a 0 ends it | gaps |
//! | other quantum | 1 bit; where it is 1, numerator and denominator, 32 bits each | quanta differ; 1/1 before the first |
//! | other times | 1 bit | other times |
//! | first time, last less first, samples | numbers, less those that the step has | a 1 |
//! | first value | a number, less the last value of the host's summary before; a code of its own where it has none | |
//! | flat | 1 bit | some are |
//! | last value | less the first | not flat |
//! | lowest | the lower of first and last, less it | levels, not flat |
//! | highest | less the higher of first and last | levels, not flat |
//! | sum | less samples times the mean of: lean 0 first and last; 1 first, last, lowest and highest; 2 lowest and highest | levels, not flat |
//! | began anew, increase | 1 bit, then a number; else last less first | counter, began anew, not flat |
//! | steepest growth | lean 0 as it is; 1 less the mean growth a sample | counter, not flat |
//! | its milliseconds | a number | counter, not flat |
//!
//! All values are divided by the step. What is left of the last byte is zeros.

use std::collections::BTreeMap;
use std::ops::Range;

use dawnwatch_engine::block::bits::{BitReader, BitWriter};
use dawnwatch_proto::HostId;

use super::code::Code;
use super::group::{Hosts, Part, Usual};
use super::marks::{
    BEGIN, BY, CHANGE, COUNT, FIRST, GROWN, HIGH, KINDS, LONG, LOW, MS, Marks, NEXT, NO_QUANTUM,
    SUM, word,
};
use super::scale::{OVER, divided, divisor, multiplied, narrow, values};
use super::{Growth, Shape, Summary, Why};

/// A bit, a word or a number on its way into a chunk.
enum Token {
    Bit(bool),
    Word(u32),
    Number(usize, i128),
}

/// The bytes of a chunk: of some steps of some hosts, by the number of the step, all of one kind of series.
pub(super) fn encode(hosts: &Hosts, parts: &BTreeMap<usize, Part>) -> Vec<u8> {
    let all = || parts.values().map(|part| &part.summary);
    let step = all().flat_map(values).fold(0, divisor).max(1);
    let scaled: BTreeMap<usize, Part> = parts
        .iter()
        .map(|(at, part)| {
            let summary = divided(&part.summary, step);
            (*at, Part { summary, ..*part })
        })
        .collect();
    let flat = all().filter(|one| is_flat(one)).count();
    let quantum = parts.values().next().map_or((1, 1), |part| part.quantum);
    let mut marks = Marks {
        counter: all().any(|one| matches!(one.shape, Shape::Counter { .. })),
        gaps: parts.len() < hosts.steps.len(),
        other_times: parts.iter().any(|(at, part)| {
            let usual = hosts.steps.get(*at);
            usual != Some(&times(&part.summary))
        }),
        anew: all().any(is_anew),
        flat: match flat {
            0 => Some(false),
            all if all == parts.len() => Some(true),
            _ => None,
        },
        quantum: parts
            .values()
            .all(|part| part.quantum == quantum)
            .then_some(quantum),
        step,
        lean: 0,
    };
    marks.lean = lean(&marks, &scaled);
    let tokens = tokens(&marks, hosts, &scaled);
    let mut out = BitWriter::default();
    marks.put(&mut out);
    let kinds = marks.kinds();
    let codes: [Option<Code>; KINDS] = std::array::from_fn(|kind| {
        let numbers = tokens.iter().filter_map(|token| match token {
            Token::Number(of, number) if *of == kind => Some(*number),
            Token::Bit(_) | Token::Word(_) | Token::Number(..) => None,
        });
        kinds[kind].then(|| Code::best(&numbers.collect::<Vec<_>>()).0)
    });
    codes.iter().flatten().for_each(|code| code.name(&mut out));
    for token in tokens {
        match token {
            Token::Bit(bit) => out.put(u64::from(bit), 1),
            Token::Word(word) => out.put(u64::from(word), 32),
            Token::Number(kind, number) => {
                if let Some(code) = &codes[kind] {
                    code.put(&mut out, number);
                }
            }
        }
    }
    out.done()
}

/// The lean that takes least.
fn lean(marks: &Marks, scaled: &BTreeMap<usize, Part>) -> u64 {
    let moving = || scaled.values().map(|part| &part.summary);
    let cost = |lean: u64| {
        let left = moving().filter(|one| !is_flat(one)).map(|one| {
            let whole = match one.shape {
                Shape::Gauge { sum, .. } => sum,
                Shape::Counter { steepest, .. } => steepest.map_or(0, |one| one.by),
            };
            whole.wrapping_sub(leaning(one, lean))
        });
        Code::best(&left.collect::<Vec<_>>()).1
    };
    match marks.lean_bits() {
        0 => 0,
        // Two of one bit, three of two.
        bits => (0..=u64::from(bits))
            .min_by_key(|lean| cost(*lean))
            .unwrap_or(0),
    }
}

/// What a sum, or a counter's steepest growth, is written against; of counters, lean 0 is none.
fn leaning(one: &Summary, lean: u64) -> i128 {
    let samples = i128::from(one.count);
    let ends = i128::from(one.first.1) + i128::from(one.last.1);
    match one.shape {
        Shape::Gauge { min, max, .. } => {
            let both = i128::from(min) + i128::from(max);
            match lean {
                0 => (samples * ends).div_euclid(2),
                1 => (samples * (ends + both)).div_euclid(4),
                _ => (samples * both).div_euclid(2),
            }
        }
        Shape::Counter { .. } if lean == 0 => 0,
        Shape::Counter { increase, .. } => increase.div_euclid((samples - 1).max(1)),
    }
}

fn tokens(marks: &Marks, hosts: &Hosts, scaled: &BTreeMap<usize, Part>) -> Vec<Token> {
    let mut out = Vec::new();
    let mut quantum = (1, 1);
    for (_, range) in hosts.ranges() {
        let mut known = None;
        for at in range {
            let part = scaled.get(&at);
            if marks.gaps {
                out.push(Token::Bit(part.is_some()));
            }
            let (Some(part), Some(usual)) = (part, hosts.steps.get(at)) else {
                continue;
            };
            if marks.quantum.is_none() {
                let other = part.quantum != quantum;
                out.push(Token::Bit(other));
                if other {
                    quantum = part.quantum;
                    out.extend([Token::Word(quantum.0), Token::Word(quantum.1)]);
                }
            }
            put_one(&mut out, marks, &part.summary, *usual, known);
            known = Some(i128::from(part.summary.last.1));
        }
    }
    out
}

fn put_one(out: &mut Vec<Token>, marks: &Marks, one: &Summary, usual: Usual, known: Option<i128>) {
    if marks.other_times {
        let (begin, long, count) = times(one);
        let other = (begin, long, count) != usual;
        out.push(Token::Bit(other));
        if other {
            let less = |a: i64, b: i64| i128::from(a) - i128::from(b);
            out.push(Token::Number(BEGIN, less(begin, usual.0)));
            out.push(Token::Number(LONG, less(long, usual.1)));
            out.push(Token::Number(COUNT, less(count.into(), usual.2.into())));
        }
    }
    let (first, last) = (i128::from(one.first.1), i128::from(one.last.1));
    out.push(match known {
        Some(known) => Token::Number(NEXT, first - known),
        None => Token::Number(FIRST, first),
    });
    let flat = is_flat(one);
    if marks.flat.is_none() {
        out.push(Token::Bit(flat));
    }
    if flat {
        return;
    }
    out.push(Token::Number(CHANGE, last - first));
    match one.shape {
        Shape::Gauge { min, max, sum } => {
            out.push(Token::Number(LOW, first.min(last) - i128::from(min)));
            out.push(Token::Number(HIGH, i128::from(max) - first.max(last)));
            let left = sum.wrapping_sub(leaning(one, marks.lean));
            out.push(Token::Number(SUM, left));
        }
        Shape::Counter { increase, steepest } => {
            if marks.anew {
                let anew = is_anew(one);
                out.push(Token::Bit(anew));
                if anew {
                    out.push(Token::Number(GROWN, increase));
                }
            }
            let steepest = steepest.unwrap_or(Growth { by: 0, ms: 1 });
            let left = steepest.by.wrapping_sub(leaning(one, marks.lean));
            out.push(Token::Number(BY, left));
            out.push(Token::Number(MS, steepest.ms.into()));
        }
    }
}

/// The summaries of a chunk, each with the number of its step; of some steps alone where these are wanted.
///
/// # Errors
/// What is wrong with it.
pub(super) fn decode(
    bytes: &[u8],
    hosts: &Hosts,
    wanted: Option<Range<usize>>,
    mut take: impl FnMut(HostId, usize, Part),
) -> Result<(), Why> {
    let mut bits = BitReader::new(bytes);
    let marks = Marks::get(&mut bits)?;
    let kinds = marks.kinds();
    let named = |kind: usize| {
        if kinds[kind] {
            Code::named(&mut bits)
        } else {
            Code::default()
        }
    };
    let codes: [Code; KINDS] = std::array::from_fn(named);
    let mut reader = Reader { bits, marks, codes };
    let mut quantum = marks.quantum.unwrap_or((1, 1));
    for (host, range) in hosts.ranges() {
        let (mut known, end) = (None, range.end);
        for at in range {
            if marks.gaps && !reader.bit() {
                continue;
            }
            if marks.quantum.is_none() && reader.bit() {
                quantum = (word(&mut reader.bits), word(&mut reader.bits));
                if quantum.1 == 0 {
                    return Err(NO_QUANTUM);
                }
            }
            let usual = hosts.steps.get(at).copied().unwrap_or_default();
            let one = reader.one(usual, known)?;
            known = Some(i128::from(one.last.1));
            if wanted.as_ref().is_none_or(|wanted| wanted.contains(&at)) {
                let summary = multiplied(&one, marks.step)?;
                take(host, at, Part { summary, quantum });
            }
        }
        if wanted.as_ref().is_some_and(|wanted| wanted.end <= end) {
            return Ok(());
        }
    }
    match reader.bits.is_spent() {
        true => Ok(()),
        false => Err("bytes after the last summary"),
    }
}

/// Takes summaries out of bits.
struct Reader<'a> {
    bits: BitReader<'a>,
    marks: Marks,
    codes: [Code; KINDS],
}

impl Reader<'_> {
    fn bit(&mut self) -> bool {
        self.bits.get(1) == 1
    }

    fn number(&mut self, kind: usize) -> Result<i128, Why> {
        self.codes[kind].get(&mut self.bits)
    }

    /// A number and what it was less.
    fn more(&mut self, kind: usize, than: i128) -> Result<i128, Why> {
        self.number(kind)?.checked_add(than).ok_or(OVER)
    }

    /// A number that another is more than by so much.
    fn less(&mut self, kind: usize, than: i128) -> Result<i128, Why> {
        than.checked_sub(self.number(kind)?).ok_or(OVER)
    }

    /// One summary, divided by the step.
    fn one(&mut self, usual: Usual, known: Option<i128>) -> Result<Summary, Why> {
        let (mut begin, mut long, mut count) = usual;
        if self.marks.other_times && self.bit() {
            begin = narrow(self.more(BEGIN, begin.into())?)?;
            long = narrow(self.more(LONG, long.into())?)?;
            count = narrow(self.more(COUNT, count.into())?)?;
        }
        let first = match known {
            Some(known) => self.more(NEXT, known)?,
            None => self.number(FIRST)?,
        };
        let flat = match self.marks.flat {
            Some(flat) => flat,
            None => self.bit(),
        };
        let last = match flat {
            true => first,
            false => self.more(CHANGE, first)?,
        };
        let mut one = Summary {
            count,
            first: (begin, narrow(first)?),
            last: (begin.checked_add(long).ok_or(OVER)?, narrow(last)?),
            shape: Shape::Counter {
                increase: 0,
                steepest: None,
            },
        };
        one.shape = match self.marks.counter {
            true => self.counter(&mut one, flat)?,
            false => self.gauge(&mut one, flat)?,
        };
        Ok(one)
    }

    fn gauge(&mut self, one: &mut Summary, flat: bool) -> Result<Shape, Why> {
        let (first, last) = (one.first.1, one.last.1);
        let (low, high) = (first.min(last), first.max(last));
        if flat {
            let sum = i128::from(first) * i128::from(one.count);
            return Ok(Shape::Gauge {
                min: low,
                max: high,
                sum,
            });
        }
        let min = narrow(self.less(LOW, low.into())?)?;
        let max = narrow(self.more(HIGH, high.into())?)?;
        one.shape = Shape::Gauge { min, max, sum: 0 };
        let sum = self.more(SUM, leaning(one, self.marks.lean))?;
        Ok(Shape::Gauge { min, max, sum })
    }

    fn counter(&mut self, one: &mut Summary, flat: bool) -> Result<Shape, Why> {
        let mut increase = i128::from(one.last.1) - i128::from(one.first.1);
        let mut growth = Growth { by: 0, ms: 1 };
        if !flat {
            if self.marks.anew && self.bit() {
                increase = self.number(GROWN)?;
            }
            one.shape = Shape::Counter {
                increase,
                steepest: None,
            };
            growth.by = self.more(BY, leaning(one, self.marks.lean))?;
            growth.ms = narrow(self.number(MS)?)?;
        }
        if growth.ms < 1 || growth.by < 0 || increase < 0 {
            return Err("a growth that cannot be");
        }
        let steepest = (one.count > 1).then_some(growth);
        Ok(Shape::Counter { increase, steepest })
    }
}

/// First time, last less first, samples.
pub(super) fn times(one: &Summary) -> Usual {
    (one.first.0, one.last.0.wrapping_sub(one.first.0), one.count)
}

fn is_flat(one: &Summary) -> bool {
    match one.shape {
        Shape::Gauge { min, max, .. } => min == max,
        Shape::Counter { increase, .. } => increase == 0 && one.first.1 == one.last.1,
    }
}

fn is_anew(one: &Summary) -> bool {
    let by_values = i128::from(one.last.1) - i128::from(one.first.1);
    matches!(one.shape, Shape::Counter { increase, .. } if increase != by_values)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use dawnwatch_proto::Kind;
    use proptest::prelude::*;

    use super::super::reduce;
    use super::*;

    fn value() -> impl Strategy<Value = i64> {
        prop_oneof![
            6 => 0i64..900,
            2 => (0i64..900).prop_map(|v| v * 4_096),
            1 => Just(0),
            1 => Just(i64::MAX),
            1 => Just(i64::MIN + 1),
        ]
    }

    /// Some samples of some steps of a host: how many milliseconds after the one before, and which value.
    fn samples() -> impl Strategy<Value = Vec<Vec<(i64, i64)>>> {
        let one = (1i64..40_000, value());
        let step = proptest::collection::vec(one, 0..6);
        proptest::collection::vec(step, 0..4)
    }

    /// Hosts and parts as a group has them; one step in three has the times of its neighbour.
    fn group(
        kind: Kind,
        all: &[Vec<Vec<(i64, i64)>>],
        quanta: &[(u32, u32)],
    ) -> (Hosts, BTreeMap<usize, Part>) {
        let (mut hosts, mut parts) = (Hosts::default(), BTreeMap::new());
        let mut quanta = quanta.iter().cycle();
        for (steps, number) in all.iter().zip(1u128..) {
            for step in steps {
                let add = |at: &mut i64, (ms, value): &(i64, i64)| {
                    *at += ms;
                    Some((*at, *value))
                };
                let at = hosts.steps.len();
                let samples: Vec<_> = step.iter().scan(1_700_000_000_000, add).collect();
                let one = reduce(&samples, kind, u32::MAX).into_values().next();
                let own = one.as_ref().map_or((0, 0, 0), times);
                hosts.steps.push(match hosts.steps.last() {
                    Some(usual) if at % 3 == 2 => *usual,
                    _ => own,
                });
                if let (Some(summary), Some(quantum)) = (one, quanta.next().copied()) {
                    parts.insert(at, Part { summary, quantum });
                }
            }
            hosts.push(HostId(number));
        }
        (hosts, parts)
    }

    fn decoded(bytes: &[u8], hosts: &Hosts) -> Result<BTreeMap<usize, Part>, Why> {
        let mut out = BTreeMap::new();
        decode(bytes, hosts, None, |_, at, part| {
            out.insert(at, part);
        })?;
        Ok(out)
    }

    proptest! {
        #[test]
        fn any_summaries_come_back(
            counter in any::<bool>(),
            all in proptest::collection::vec(samples(), 1..6),
            quanta in proptest::collection::vec((1u32..3, 1u32..3), 1..3),
            noise in proptest::collection::vec(any::<u8>(), 0..40),
            at in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let kind = if counter { Kind::Counter } else { Kind::Gauge };
            let (hosts, parts) = group(kind, &all, &quanta);
            let bytes = encode(&hosts, &parts);
            prop_assert_eq!(&decoded(&bytes, &hosts), &Ok(parts.clone()));
            for (host, range) in hosts.ranges() {
                let mut own = BTreeMap::new();
                decode(&bytes, &hosts, Some(range.clone()), |of, at, part| {
                    assert_eq!(of, host);
                    own.insert(at, part);
                }).unwrap();
                let want: BTreeMap<_, _> = parts.range(range).map(|(at, part)| (*at, *part)).collect();
                prop_assert_eq!(own, want);
            }
            let _ = decoded(&noise, &hosts);
            let mut flipped = bytes;
            let at = at.index(flipped.len());
            flipped[at] ^= 1 << bit;
            let _ = decoded(&flipped, &hosts);
            let _ = decoded(&flipped[..at], &hosts);
        }
    }

    #[test]
    fn a_constant_takes_hardly_anything() {
        let step: Vec<(i64, i64)> = vec![(10_000, 8 << 30); 360];
        let (hosts, parts) = group(Kind::Gauge, &vec![vec![step]; 64], &[(1, 4)]);
        let bytes = encode(&hosts, &parts);
        assert!(bytes.len() < 20, "{} bytes for 64 hosts", bytes.len());
        assert_eq!(decoded(&bytes, &hosts), Ok(parts));
    }
}
