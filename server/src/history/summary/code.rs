//! Numbers in few bits: those of one kind share a code, which is the one that takes least for all of them.
//!
//! | part of a code | content |
//! |---|---|
//! | form | 2 bits: 0 all numbers are 0, 1 plain, 2 Golomb-Rice, 3 exponential Golomb |
//! | parameter `k` | 7 bits; not of form 0 |
//! | floor | 1 bit, whether there is one; then its zigzag, as a wide number |
//!
//! A number `v` is written as `u`: `v - floor`, or where there is no floor its zigzag; all of it in 128 bits that wrap. The `k`
//! lowest bits of `u` go last; what is above them, `q`, goes before:
//!
//! | form | before the `k` lowest bits |
//! |---|---|
//! | plain | nothing: `q` is 0 |
//! | Golomb-Rice | `q` ones and a zero |
//! | exponential Golomb | as many ones as `q + 1` has bits, less 1, a zero, and `q + 1` without its highest bit |
//!
//! Where there were [`ONES_MAX`] ones or more, that many stand there, and then all of `u` as a wide number: 7 bits for its length
//! in bits, less 1, and these.

use dawnwatch_engine::block::bits::{BitReader, BitWriter};

use super::Why;

/// Ones after which a number is written whole: one that is far from all others costs some bits more, never its size in bits.
const ONES_MAX: u32 = 20;

/// How numbers above the lowest bits are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Form {
    #[default]
    Zeros,
    Plain,
    Rice,
    Exponential,
}

/// The code of numbers of one kind.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Code {
    form: Form,
    k: u32,
    floor: Option<i128>,
}

impl Code {
    /// The code that takes least for these numbers, and how many bits it takes.
    pub(super) fn best(numbers: &[i128]) -> (Code, u64) {
        let signed: Vec<u128> = numbers.iter().map(|v| zigzag(*v)).collect();
        let best = of(&signed, None);
        let Some(floor) = numbers.iter().min().copied() else {
            return best;
        };
        let above = numbers
            .iter()
            .map(|v| v.wrapping_sub(floor).cast_unsigned());
        let above = of(&above.collect::<Vec<_>>(), Some(floor));
        if above.1 < best.1 { above } else { best }
    }

    /// Writes the code itself.
    pub(super) fn name(&self, out: &mut BitWriter) {
        out.put(self.form as u64, 2);
        if self.form != Form::Zeros {
            out.put(u64::from(self.k), 7);
        }
        out.put(u64::from(self.floor.is_some()), 1);
        if let Some(floor) = self.floor {
            put_wide(out, zigzag(floor));
        }
    }

    /// Reads a code.
    pub(super) fn named(bits: &mut BitReader<'_>) -> Code {
        let form = match bits.get(2) {
            0 => Form::Zeros,
            1 => Form::Plain,
            2 => Form::Rice,
            _ => Form::Exponential,
        };
        let k = match form {
            Form::Zeros => 0,
            Form::Plain | Form::Rice | Form::Exponential => seven(bits),
        };
        let floor = (bits.get(1) == 1).then(|| unzigzag(get_wide(bits)));
        Code { form, k, floor }
    }

    /// Writes a number: one of those that the code was made for.
    pub(super) fn put(&self, out: &mut BitWriter, v: i128) {
        let u = match self.floor {
            Some(floor) => v.wrapping_sub(floor).cast_unsigned(),
            None => zigzag(v),
        };
        let q = u >> self.k;
        let ones = match self.form {
            Form::Zeros => return,
            Form::Plain => return put(out, u, self.k),
            Form::Rice => u32::try_from(q).unwrap_or(ONES_MAX),
            Form::Exponential => length(q.saturating_add(1)) - 1,
        };
        if ones >= ONES_MAX {
            out.put((1 << ONES_MAX) - 1, ONES_MAX);
            put_wide(out, u);
            return;
        }
        out.put((1 << ones) - 1, ones + 1);
        if self.form == Form::Exponential {
            put(out, low(q + 1, ones), ones);
        }
        put(out, low(u, self.k), self.k);
    }

    /// Reads a number.
    ///
    /// # Errors
    /// Where it is over 128 bits.
    pub(super) fn get(&self, bits: &mut BitReader<'_>) -> Result<i128, Why> {
        let u = match self.form {
            Form::Zeros => 0,
            Form::Plain => get(bits, self.k),
            Form::Rice | Form::Exponential => {
                let ones = bits.ones(ONES_MAX);
                if ones == ONES_MAX {
                    get_wide(bits)
                } else {
                    let q = match self.form == Form::Exponential {
                        true => (1 << ones | bits.get(ones)) - 1,
                        false => u64::from(ones),
                    };
                    let high = u128::from(q) << self.k;
                    if high >> self.k != u128::from(q) {
                        return Err("a number over 128 bits");
                    }
                    high | get(bits, self.k)
                }
            }
        };
        Ok(match self.floor {
            Some(floor) => floor.wrapping_add(u.cast_signed()),
            None => unzigzag(u),
        })
    }
}

/// The code that takes least for numbers of no sign, and how many bits it takes.
fn of(numbers: &[u128], floor: Option<i128>) -> (Code, u64) {
    let code = |form, k| Code { form, k, floor };
    let highest = numbers.iter().max().copied().unwrap_or(0);
    let named = 3 + floor.map_or(0, |floor| 7 + u64::from(length(zigzag(floor))));
    if highest == 0 {
        return (code(Form::Zeros, 0), named);
    }
    let count = numbers.len() as u128;
    let sum = numbers.iter().fold(0u128, |sum, u| sum.saturating_add(*u));
    let mean = (sum / count).max(1).ilog2();
    let mut sorted = numbers.to_vec();
    let middle = numbers.len() / 2;
    let median = sorted.select_nth_unstable(middle).1.max(&mut 1).ilog2();
    let around = |form, k: u32| {
        let few = k.saturating_sub(2)..=(k + 1).min(127);
        few.map(move |k| code(form, k))
    };
    let plain = (highest < 1 << 127).then(|| code(Form::Plain, length(highest)));
    let all = plain.into_iter();
    let all = all.chain(around(Form::Rice, mean));
    // One that is far off all others moves the mean and not the median.
    let all = all.chain(around(Form::Rice, median));
    let all = all.chain(around(Form::Exponential, median));
    let cost = |code: Code| {
        let each = numbers.iter().map(|u| cost(code.form, code.k, *u));
        (code, named + 7 + each.sum::<u64>())
    };
    let best = all.map(cost).min_by_key(|(_, bits)| *bits);
    best.unwrap_or((code(Form::Exponential, 0), u64::MAX))
}

fn cost(form: Form, k: u32, u: u128) -> u64 {
    let q = u >> k;
    let ones = match form {
        Form::Zeros => return 0,
        Form::Plain => return u64::from(k),
        Form::Rice => u32::try_from(q).unwrap_or(ONES_MAX),
        Form::Exponential => length(q.saturating_add(1)) - 1,
    };
    let more = if form == Form::Exponential { ones } else { 0 };
    u64::from(match ones {
        ONES_MAX.. => ONES_MAX + 7 + length(u),
        _ => ones + 1 + more + k,
    })
}

/// Writes a number and its length.
pub(super) fn put_wide(out: &mut BitWriter, u: u128) {
    out.put(u64::from(length(u) - 1), 7);
    put(out, u, length(u));
}

/// Reads what [`put_wide`] wrote.
pub(super) fn get_wide(bits: &mut BitReader<'_>) -> u128 {
    let length = seven(bits) + 1;
    get(bits, length)
}

/// So many bits, at most 128; those above them are 0.
fn put(out: &mut BitWriter, u: u128, bits: u32) {
    let word = |u: u128| u64::try_from(u).unwrap_or(u64::MAX);
    out.put(word(low(u, bits.min(64))), bits.min(64));
    if bits > 64 {
        out.put(word(u >> 64), bits - 64);
    }
}

/// Seven bits.
fn seven(bits: &mut BitReader<'_>) -> u32 {
    u32::try_from(bits.get(7)).unwrap_or(0)
}

fn get(from: &mut BitReader<'_>, bits: u32) -> u128 {
    let low = u128::from(from.get(bits.min(64)));
    match bits {
        65.. => low | u128::from(from.get(bits - 64)) << 64,
        _ => low,
    }
}

/// The lowest bits, at most 127.
fn low(u: u128, bits: u32) -> u128 {
    u & ((1 << bits) - 1)
}

/// How many bits a number has; 0 has one.
fn length(u: u128) -> u32 {
    (u | 1).ilog2() + 1
}

pub(super) fn zigzag(v: i128) -> u128 {
    ((v << 1) ^ (v >> 127)).cast_unsigned()
}

pub(super) fn unzigzag(u: u128) -> i128 {
    (u >> 1).cast_signed() ^ -((u & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number() -> impl Strategy<Value = i128> {
        prop_oneof![
            3 => -9i128..900,
            2 => 1_000_000i128..1_200_000,
            1 => Just(0),
            1 => any::<i64>().prop_map(i128::from),
            1 => any::<i128>(),
            1 => Just(i128::MAX),
            1 => Just(i128::MIN),
        ]
    }

    /// The bytes of a code and its numbers.
    fn check(numbers: &[i128]) -> Vec<u8> {
        let (code, bits) = Code::best(numbers);
        let mut out = BitWriter::default();
        code.name(&mut out);
        numbers.iter().for_each(|v| code.put(&mut out, *v));
        let bytes = out.done();
        assert_eq!(bytes.len() as u64, bits.div_ceil(8), "{code:?}");
        let mut bits = BitReader::new(&bytes);
        let code = Code::named(&mut bits);
        for v in numbers {
            assert_eq!(code.get(&mut bits), Ok(*v), "{code:?}");
        }
        assert!(bits.is_spent());
        bytes
    }

    proptest! {
        #[test]
        fn any_numbers_come_back(
            kind in 0usize..3,
            numbers in proptest::collection::vec(number(), 0..80),
        ) {
            let near = |v: &i128| match kind {
                0 => *v,
                1 => v.rem_euclid(300) - 150,
                _ => v.rem_euclid(7) + (1 << 90),
            };
            check(&numbers.iter().map(near).collect::<Vec<_>>());
        }

        #[test]
        fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut bits = BitReader::new(&bytes);
            let code = Code::named(&mut bits);
            for _ in 0..40 {
                let _ = code.get(&mut bits);
            }
        }
    }

    #[test]
    fn each_form_where_it_wins() {
        let chance = |i: i128, below: i128| (i * 7_919 % 1_009) * 31 % below;
        let forms: [(&str, Vec<i128>, Form, bool); 6] = [
            ("nothing", vec![], Form::Zeros, false),
            ("all the same", vec![3_600; 64], Form::Zeros, true),
            (
                "about nothing",
                (0..64)
                    .map(|i| chance(i, 40) * chance(i + 9, 40) / 80 * (i % 2 * 2 - 1))
                    .collect(),
                Form::Rice,
                false,
            ),
            (
                "a level",
                (0..64).map(|i| 80_000 + chance(i, 256)).collect(),
                Form::Plain,
                true,
            ),
            (
                "all sizes",
                (0..64).map(|i| 1 << (chance(i, 30))).collect(),
                Form::Exponential,
                true,
            ),
            (
                "one of them far off",
                (0..64)
                    .map(|i| if i == 9 { 1 << 60 } else { chance(i, 64) })
                    .collect(),
                Form::Rice,
                true,
            ),
        ];
        for (what, numbers, form, floor) in forms {
            check(&numbers);
            let (code, _) = Code::best(&numbers);
            assert_eq!((code.form, code.floor.is_some()), (form, floor), "{what}");
        }
    }

    #[test]
    fn the_format_stays() {
        let near: Vec<i128> = (0..12).map(|i| 70_000 + i * i * 7 % 23).collect();
        let far = [1 << 40, 3, 900, 70, 0, 0, 2];
        let got = [&near[..], &[-3, 0, 5, 1, 0, 0, 90], &far].map(check);
        let want: [&[u8]; 3] = [
            &[21, 70, 192, 69, 4, 167, 68, 234, 108, 93, 79, 77],
            &[3, 76, 183, 242, 87, 3],
            &[
                15, 252, 255, 127, 10, 0, 0, 0, 0, 64, 254, 19, 227, 9, 1, 16,
            ],
        ];
        assert_eq!(got, want);
    }
}
