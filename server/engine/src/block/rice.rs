//! Adaptive Golomb-Rice: a column as small differences to what a simple predictor expected.
//!
//! Values become `(value - first) / step`, `step` being what all differences can be divided by; a predictor guesses each
//! from those before it, and what it missed by is written in a code whose parameter follows the mean of the latest misses; or,
//! where misses are spread evenly, in one of their highest (`even.rs`).
//!
//! | field | content |
//! |---|---|
//! | tag | u8: 128, plus the predictor (0 to 5), 8 zero-run, 16 a step follows, 32 a start follows, 64 misses spread evenly |
//! | first | zigzag LEB128 |
//! | step | LEB128, less 2; else 1 |
//! | floor | zigzag LEB128; predictors 4 and 5 |
//! | start | u8, at most 63: the parameter that the code begins with; else 2; never of misses spread evenly |
//! | highest | LEB128, the highest number that a miss is written as; of misses spread evenly |
//! | misses | bits, lowest first, the last byte filled up with zeros |
//!
//! | predictor | guesses | misses are |
//! |---|---|---|
//! | 0 | the value before | signed |
//! | 1 | the value before and the last change | signed |
//! | 2 | a moving mean of values, a quarter each | signed |
//! | 3 | the value before and a moving mean of changes, an eighth each | signed |
//! | 4 | the floor, which no value is below | 0 or more |
//! | 5 | the value before and the floor, which no change is below | 0 or more |
//!
//! Signed misses are zigzagged. A number `u` is written with parameter `k` as `u >> k` ones, a zero and the lowest `k` bits; where
//! that were [`ONES_MAX`] ones or more, as that many ones, six bits for the length of `u` less 1, and `u`. `k` is the largest with
//! `n << k <= a`, or 0; they begin as `n` = 2, `a` = 3 << start. After each number `n` grows by 1 up to [`MEMORY`]; once there, `a`
//! loses a part in so many; then `a` grows by `u`, or by [`FAR`]` << k` if that is less.
//!
//! Zero-run: in turn how many misses are 0 (a code of its own, start 3) and the next miss less 1, until all are there.

use dawnwatch_proto::Malformed;

use super::bad;
use super::bits::{BitReader, BitWriter};
use super::even::Even;
use super::number::{get, put, unzigzag, zigzag};
use super::predict::Predictor;

/// The lowest tag; all above it are this codec's too.
pub(super) const AGR: u8 = 128;

const SPARSE: u8 = 8;
const STEPPED: u8 = 16;
const STARTED: u8 = 32;
const EVEN: u8 = 64;

/// Ones after which a number is written whole: a burst costs some bits more, never its size in bits.
const ONES_MAX: u32 = 20;

/// A number counts as no more than so many times the parameter's power of two.
const FAR: u64 = 24;

/// Numbers that the mean remembers.
const MEMORY: u64 = 8;

/// The parameter that a code begins with where none is named.
const START: u32 = 2;

/// The parameter that run lengths begin with.
const RUNS_START: u32 = 3;

/// Number of predictors.
const PREDICTORS: u8 = 6;

/// This predictor and those above it only ever guess too low, by a floor that is written.
const FLOORED: u8 = 4;

/// The column in this form, tag first. Any values have one; that of none or one value is never the shortest.
pub(super) fn encode(values: &[i64]) -> Vec<u8> {
    let first = values.first().copied().unwrap_or(0);
    let step = step_of(values, first);
    let scaled: Vec<i64> = values
        .iter()
        .map(|value| match step {
            1 => value.wrapping_sub(first),
            _ => (value - first) / step,
        })
        .collect();
    let plans = (0..PREDICTORS).filter_map(|kind| Plan::of(&scaled, kind));
    let best = plans.min_by_key(|plan| plan.bits);
    let plan = best.expect("the first predictor takes any values");
    let mut out = vec![AGR | plan.kind];
    put(&mut out, zigzag(first));
    if step > 1 {
        out[0] |= STEPPED;
        put(&mut out, step.unsigned_abs() - 2);
    }
    if plan.kind >= FLOORED {
        put(&mut out, zigzag(plan.floor));
    }
    let mut code = plan.code.start();
    match plan.code {
        Form::Rice(None) => {}
        Form::Rice(Some(start)) => {
            out[0] |= STARTED;
            out.push(start.to_le_bytes()[0]);
        }
        Form::Even(most, _) => {
            out[0] |= EVEN;
            put(&mut out, most);
        }
    }
    let mut bits = BitWriter::after(out);
    if plan.sparse {
        let mut runs = Code::new(RUNS_START);
        sparse(&plan.misses, |number, of| match of {
            Of::Run => runs.put(&mut bits, number),
            Of::Miss => code.put(&mut bits, number),
        });
    } else {
        plan.misses
            .iter()
            .for_each(|miss| code.put(&mut bits, *miss));
    }
    let mut out = bits.done();
    if plan.sparse {
        out[0] |= SPARSE;
    }
    out
}

/// The values of a column of so many ticks.
///
/// # Errors
/// [`Malformed`] where the bytes do not hold exactly that many.
pub(super) fn decode(body: &[u8], ticks: usize) -> Result<Vec<i64>, Malformed> {
    let (tag, mut rest) = body.split_first().ok_or_else(|| bad("an empty column"))?;
    let both = EVEN | STARTED;
    if tag & AGR == 0 || tag & 7 >= PREDICTORS || tag & both == both || ticks == 0 {
        return Err(bad("unknown column tag"));
    }
    let first = unzigzag(get(&mut rest)?);
    let step = match tag & STEPPED {
        0 => 1,
        _ => get(&mut rest)?.wrapping_add(2).cast_signed(),
    };
    let kind = tag & 7;
    let floor = match kind {
        FLOORED.. => unzigzag(get(&mut rest)?),
        _ => 0,
    };
    let form = Form::read(*tag, &mut rest)?;
    let mut misses = Misses {
        bits: BitReader::new(rest),
        code: form.start(),
        runs: (tag & SPARSE != 0).then(|| Code::new(RUNS_START)),
        zeros: None,
    };
    let mut predictor = Predictor::new(kind, floor);
    let mut values = Vec::with_capacity(ticks);
    values.push(first);
    for left in (1..ticks).rev() {
        let miss = misses.next(left)?;
        let miss = if kind >= FLOORED {
            miss.cast_signed()
        } else {
            unzigzag(miss)
        };
        let value = predictor.guess().wrapping_add(miss);
        predictor.learn(value);
        values.push(first.wrapping_add(value.wrapping_mul(step)));
    }
    if misses.bits.is_spent() {
        Ok(values)
    } else {
        Err(bad("bytes after the last value of a column"))
    }
}

/// What all differences to the first value can be divided by; 1 where one of them leaves 64 bits.
fn step_of(values: &[i64], first: i64) -> i64 {
    let mut step = 0u64;
    for value in values {
        let Some(difference) = value.checked_sub(first) else {
            return 1;
        };
        let (mut a, mut b) = (difference.unsigned_abs(), step);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        step = a;
        if step == 1 {
            return 1;
        }
    }
    i64::try_from(step).unwrap_or(1).max(1)
}

/// How a miss is written.
#[derive(Clone, Copy)]
enum Form {
    /// In a code whose parameter begins with this, or with [`START`].
    Rice(Option<u32>),
    /// In that of numbers up to this one.
    Even(u64, Even),
}

impl Form {
    /// The form that a tag names, with what follows the floor.
    fn read(tag: u8, rest: &mut &[u8]) -> Result<Form, Malformed> {
        if tag & EVEN != 0 {
            let most = get(rest)?;
            let code = Even::new(most).ok_or_else(|| bad("a highest miss that is too high"))?;
            return Ok(Form::Even(most, code));
        }
        if tag & STARTED == 0 {
            return Ok(Form::Rice(None));
        }
        let (start, tail) = rest.split_first().ok_or_else(|| bad("it ends too early"))?;
        *rest = tail;
        if *start > 63 {
            return Err(bad("a parameter over 63"));
        }
        Ok(Form::Rice(Some(u32::from(*start))))
    }

    /// The code at its beginning.
    fn start(self) -> MissCode {
        match self {
            Form::Rice(start) => MissCode::Rice(Code::new(start.unwrap_or(START))),
            Form::Even(_, code) => MissCode::Even(code),
        }
    }
}

/// The code of the misses.
enum MissCode {
    Rice(Code),
    Even(Even),
}

impl MissCode {
    fn cost(&mut self, u: u64) -> u64 {
        match self {
            MissCode::Rice(code) => code.cost(u),
            MissCode::Even(code) => code.cost(u),
        }
    }

    fn put(&mut self, out: &mut BitWriter, u: u64) {
        match self {
            MissCode::Rice(code) => code.put(out, u),
            MissCode::Even(code) => code.put(out, u),
        }
    }

    fn get(&mut self, bits: &mut BitReader<'_>) -> Result<u64, Malformed> {
        match self {
            MissCode::Rice(code) => code.get(bits),
            MissCode::Even(code) => Ok(code.get(bits)),
        }
    }
}

/// One way to write the misses, and what it costs.
struct Plan {
    kind: u8,
    floor: i64,
    code: Form,
    sparse: bool,
    misses: Vec<u64>,
    bits: u64,
}

impl Plan {
    /// None where a predictor has no use for the values.
    fn of(scaled: &[i64], kind: u8) -> Option<Plan> {
        let floor = floor_of(scaled, kind)?;
        let mut predictor = Predictor::new(kind, floor);
        let mut misses = Vec::with_capacity(scaled.len());
        for value in scaled.iter().skip(1) {
            let miss = value.wrapping_sub(predictor.guess());
            predictor.learn(*value);
            misses.push(if kind >= FLOORED {
                miss.cast_unsigned()
            } else {
                zigzag(miss)
            });
        }
        let zeros = misses.iter().filter(|miss| **miss == 0).count();
        let sparse_form = zeros * 2 > misses.len();
        let rice = Form::Rice(start_of(&misses, sparse_form));
        let most = misses.iter().max().copied().unwrap_or(0);
        let most = if sparse_form {
            most.saturating_sub(1)
        } else {
            most
        };
        let even = Even::new(most).map(|code| Form::Even(most, code));
        let forms = [Some(rice), even].into_iter().flatten();
        let costs = forms.map(|form| (cost(&misses, sparse_form, form), form));
        let (bits, code) = costs.min_by_key(|(bits, _)| *bits)?;
        let mut fields = Vec::new();
        if kind >= FLOORED {
            put(&mut fields, zigzag(floor));
        }
        Some(Plan {
            kind,
            floor,
            code,
            sparse: sparse_form,
            misses,
            bits: bits + 8 * fields.len() as u64,
        })
    }
}

/// What misses take in a form, in bits, with what names it.
fn cost(misses: &[u64], sparse_form: bool, form: Form) -> u64 {
    let mut code = form.start();
    let mut bits = match form {
        Form::Rice(start) => 8 * u64::from(start.is_some()),
        Form::Even(most, _) => 8 * u64::from((most | 1).ilog2() / 7 + 1),
    };
    if sparse_form {
        let mut runs = Code::new(RUNS_START);
        sparse(misses, |number, of| {
            bits += match of {
                Of::Run => runs.cost(number),
                Of::Miss => code.cost(number),
            }
        });
    } else {
        bits += misses.iter().map(|miss| code.cost(*miss)).sum::<u64>();
    }
    bits
}

/// The floor of a predictor: what no value or no change is below; none where the highest is over 64 bits above it.
fn floor_of(scaled: &[i64], kind: u8) -> Option<i64> {
    let changes = || scaled.windows(2).map(|w| w[1].checked_sub(w[0]));
    let (min, max) = match kind {
        0..FLOORED => return Some(0),
        FLOORED => (*scaled.get(1..)?.iter().min()?, *scaled.iter().max()?),
        _ => (changes().min()??, changes().max()??),
    };
    max.checked_sub(min)?;
    Some(min)
}

/// Where a code begins, if that is worth its byte: far from where it would begin else.
fn start_of(misses: &[u64], sparse: bool) -> Option<u32> {
    let few = misses.iter().filter(|miss| !sparse || **miss != 0).take(8);
    let (n, a) = few.fold((0u64, 0u64), |(n, a), miss| {
        (n + 1, a.saturating_add(*miss))
    });
    let mean = a.checked_div(n)?;
    let start = mean.checked_ilog2()?.min(63);
    (start > START + 3).then_some(start)
}

/// What a number of the zero-run form is.
enum Of {
    Run,
    Miss,
}

/// In turn how many misses are 0, and the next one less 1.
fn sparse(misses: &[u64], mut tell: impl FnMut(u64, Of)) {
    let mut run = 0;
    for miss in misses {
        if *miss == 0 {
            run += 1;
        } else {
            tell(run, Of::Run);
            tell(miss - 1, Of::Miss);
            run = 0;
        }
    }
    if run > 0 {
        tell(run, Of::Run);
    }
}

/// Misses on their way out of their bits.
struct Misses<'a> {
    bits: BitReader<'a>,
    code: MissCode,
    /// The code of run lengths, where there are runs.
    runs: Option<Code>,
    /// Zeros that are still to come before a miss; none where a run is to be read.
    zeros: Option<u64>,
}

impl Misses<'_> {
    /// The next of so many that are left.
    fn next(&mut self, left: usize) -> Result<u64, Malformed> {
        let Some(runs) = &mut self.runs else {
            return self.code.get(&mut self.bits);
        };
        let zeros = match self.zeros {
            Some(zeros) => zeros,
            None => runs.get(&mut self.bits)?,
        };
        if zeros > left as u64 {
            return Err(bad("a run past the end"));
        }
        self.zeros = zeros.checked_sub(1);
        if zeros > 0 {
            return Ok(0);
        }
        let miss = self.code.get(&mut self.bits)?;
        miss.checked_add(1)
            .ok_or_else(|| bad("a change over 64 bits"))
    }
}

/// A Golomb-Rice code whose parameter follows the mean.
struct Code {
    sum: u64,
    count: u64,
}

impl Code {
    fn new(start: u32) -> Code {
        Code {
            sum: 3u64.checked_shl(start).unwrap_or(u64::MAX).max(3),
            count: 2,
        }
    }

    fn k(&self) -> u32 {
        let (a, n) = (self.sum.max(1).ilog2(), self.count.ilog2());
        let k = a.saturating_sub(n);
        if self.count << k > self.sum {
            k.saturating_sub(1)
        } else {
            k
        }
    }

    /// Takes a number in that was coded with this parameter. One far off moves the mean little: it may be alone.
    fn learn(&mut self, u: u64, k: u32) {
        if self.count < MEMORY {
            self.count += 1;
        } else {
            self.sum -= self.sum / MEMORY;
        }
        let most = if k < 58 { FAR << k } else { u64::MAX };
        self.sum = self.sum.saturating_add(u.min(most));
    }

    fn cost(&mut self, u: u64) -> u64 {
        let k = self.k();
        self.learn(u, k);
        match u >> k {
            ones if ones < u64::from(ONES_MAX) => ones + 1 + u64::from(k),
            _ => u64::from(ONES_MAX + 6 + u.ilog2() + 1),
        }
    }

    fn put(&mut self, out: &mut BitWriter, u: u64) {
        let k = self.k();
        self.learn(u, k);
        let ones = u >> k;
        if ones < u64::from(ONES_MAX) {
            let ones = u32::try_from(ones).unwrap_or(0);
            out.put((1 << ones) - 1, ones + 1);
            out.put(u & ((1 << k) - 1), k);
        } else {
            let length = u.ilog2() + 1;
            out.put((1 << ONES_MAX) - 1, ONES_MAX);
            out.put(u64::from(length - 1), 6);
            out.put(u, length);
        }
    }

    fn get(&mut self, bits: &mut BitReader<'_>) -> Result<u64, Malformed> {
        let k = self.k();
        let ones = bits.ones(ONES_MAX);
        let u = if ones < ONES_MAX {
            let high = u64::from(ones) << k;
            if high >> k != u64::from(ones) {
                return Err(bad("a number over 64 bits"));
            }
            high | bits.get(k)
        } else {
            let length = u32::try_from(bits.get(6)).unwrap_or(0) + 1;
            bits.get(length)
        };
        self.learn(u, k);
        Ok(u)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[i64]) -> Vec<u8> {
        let bytes = encode(values);
        assert_eq!(decode(&bytes, values.len()).unwrap(), values);
        bytes
    }

    #[test]
    fn extremes_come_back() {
        let wild = [
            i64::MIN,
            i64::MAX,
            0,
            -1,
            i64::MAX,
            i64::MIN,
            1 << 62,
            -(1 << 62),
        ];
        for n in 1..=wild.len() {
            check(&wild[..n]);
            check(&wild.repeat(20)[n..]);
            let calm: Vec<i64> = (0..90)
                .map(|i| if i == 40 { wild[n - 1] } else { i % 3 })
                .collect();
            check(&calm);
        }
        check(&[0, i64::MIN, 0, i64::MIN]);
    }

    #[test]
    fn each_predictor_where_it_wins() {
        let chance = crate::block::tests::chance;
        let sum = |of: &dyn Fn(i64) -> i64| {
            let add = |sum: &mut i64, i: i64| {
                *sum += of(i);
                Some(*sum)
            };
            (0..360).scan(1 << 33, add).collect::<Vec<i64>>()
        };
        let forms: [(&str, Vec<i64>, u8); 7] = [
            ("a walk", sum(&|i| chance(i, 41) - 20), 0),
            (
                "a heap",
                (0..360).map(|i| i * i / 7 + chance(i, 2)).collect(),
                1,
            ),
            (
                "a level that drifts",
                (0..360).map(|i| i * i / 90 + chance(i, 90)).collect(),
                2,
            ),
            (
                "a count that quickens",
                sum(&|i| i * 20 + chance(i, 900)),
                3,
            ),
            (
                "pages",
                (0..360)
                    .map(|i| 4_096 * (chance(i, 90) * chance(i + 7, 90) / 90))
                    .collect(),
                4 | STEPPED,
            ),
            (
                "bytes",
                sum(&|i| 1_000 + chance(i, 1_000) * chance(i + 5, 1_000) / 2_000),
                5,
            ),
            (
                "what is often idle",
                sum(&|i| (chance(i, 5) / 4) * chance(i + 3, 90)),
                5 | SPARSE,
            ),
        ];
        for (what, values, want) in forms {
            let tag = check(&values)[0] - AGR;
            assert_eq!(tag & !(STARTED | EVEN), want, "{what}");
        }
    }

    #[test]
    fn even_misses_take_hardly_more_than_their_chance() {
        let chance = crate::block::tests::chance;
        let level: Vec<i64> = (0..360).map(|i| chance(i, 301)).collect();
        let bytes = check(&level);
        assert_eq!(bytes[0] & EVEN, EVEN);
        // 360 times log2 of 301 are 371 bytes; Golomb-Rice takes 394.
        assert!(bytes.len() < 371 + 12, "{} bytes", bytes.len());
        let rare: Vec<i64> = (0..360)
            .map(|i| chance(i, 5) / 4 * chance(i + 3, 90))
            .collect();
        assert_eq!(check(&rare)[0] & (EVEN | SPARSE), EVEN | SPARSE);
        let mut burst = level;
        burst[200] = 1 << 40;
        assert_eq!(
            check(&burst)[0] & EVEN,
            0,
            "one burst, and all would be long"
        );
    }

    #[test]
    fn the_format_stays() {
        let noise: Vec<i64> = (0..12).map(|i| 70_000 + 10 * (i * i * 7 % 23)).collect();
        assert_eq!(
            check(&noise),
            [147, 224, 197, 8, 8, 231, 18, 125, 231, 118, 195, 158, 1]
        );
        let idle = [
            5, 5, 5, 900, 900, 900, 900, 900, 900, 907, 907, 907, 907, 907, 907,
        ];
        assert_eq!(check(&idle), [168, 10, 9, 116, 253, 84, 3, 5]);
        let even: Vec<i64> = (0..14).map(|i| 50 + i * 5 % 13).collect();
        assert_eq!(
            check(&even),
            [192, 100, 15, 170, 175, 250, 250, 170, 175, 15]
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let idle: Vec<i64> = (0..40).map(|i| i / 13 * 77).collect();
        let good = check(&idle);
        assert_ne!(good[0] & SPARSE, 0);
        for ticks in [0, 1, 14, 39, 300] {
            assert!(decode(&good, ticks).is_err(), "{ticks} ticks");
        }
        for cut in 0..good.len() {
            assert!(decode(&good[..cut], idle.len()).is_err(), "cut at {cut}");
        }
        let mut long = good;
        long.push(0);
        assert!(decode(&long, idle.len()).is_err(), "a byte too many");
        let idle: Vec<i64> = (0..45).map(|i| i / 13 * 77).collect();
        let ends_at_rest = check(&idle);
        assert!(decode(&ends_at_rest, 44).is_err(), "a run past the end");
        let start = [AGR | STARTED, 0, 64, 0];
        assert!(decode(&start, 3).is_err(), "a parameter of 64");
        let steep = [AGR | STARTED, 0, 63, 255, 255, 255, 255];
        assert!(decode(&steep, 3).is_err(), "over 64 bits");
        let both = [AGR | EVEN | STARTED, 0, 3, 3, 0, 0];
        assert!(decode(&both, 3).is_err(), "two codes");
        let mut high = vec![AGR | EVEN, 0];
        put(&mut high, super::super::even::MOST + 1);
        high.extend([0; 8]);
        assert!(decode(&high, 2).is_err(), "a highest miss over the limit");
        assert!(decode(&[AGR | 6, 0, 0], 2).is_err(), "a predictor of later");
    }
}
