//! The points of a series as JSON, written from samples as they lie: a day of ticks is a quarter of a megabyte of text, and
//! what stands between a block and that text costs more than both.
//!
//! A number that is counted in a power of ten is written in decimals, digit by digit, which is exactly the number that the
//! quotient would be; all others as serde writes them.

use std::io::Write as _;

use dawnwatch_proto::{HostId, Kind, MISSING};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub(super) use crate::history::query::Points;
use crate::history::query::scaled;
pub(super) use crate::history::summary::draw::Drawn;
use crate::history::summary::draw::Found;

/// How points are told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// One after the other, each with its time in words: [`dawnwatch_proto::api::History`].
    #[default]
    Points,
    /// Times and values apart, in few bytes: [`dawnwatch_proto::api::Columns`].
    Columns,
}

/// Whose points they are.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct About<'a> {
    /// The host.
    pub host: HostId,
    /// Its name.
    pub name: &'a str,
    /// The series in Prometheus notation.
    pub series: &'a str,
    /// What its points are.
    pub kind: Kind,
    /// Zone to show times in.
    pub zone: &'a str,
}

/// What is known of all points together.
#[derive(Serialize)]
struct Head<'a> {
    #[serde(flatten)]
    about: About<'a>,
    samples: u64,
    repeated: u64,
    resolution_seconds: u32,
    damaged: u64,
}

/// Room for a point of either form: `["2026-10-05T05:00:00.003Z",1234.56],`, and `10003,1234.56,`.
const POINT_BYTES: [usize; 2] = [36, 16];

/// Room for all else.
const HEAD_BYTES: usize = 1024;

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// The length of `2026-10-05T`.
const DAY_BYTES: usize = 11;

/// Room for a number or a time.
const NUMBER_BYTES: usize = 32;

/// Above it not every whole number is a double.
const EXACT_MAX: u64 = 1 << 53;

/// The whole document.
///
/// # Panics
/// Never: memory takes what is written.
#[must_use]
pub fn document(about: &About<'_>, found: &Found, form: Form) -> Vec<u8> {
    let mut text = Text::default();
    match found {
        Found::Samples(points) => {
            text.head(about, points.raw.len(), found, form);
            match (about.kind, places(points.quantum)) {
                (Kind::Gauge, Some(places)) => {
                    let mul = i64::from(points.quantum.0);
                    let number = |raw: i64| match raw.checked_mul(mul) {
                        _ if raw == MISSING => Number::None,
                        Some(whole) if whole.unsigned_abs() <= EXACT_MAX => Number::Decimal(whole),
                        _ => Number::Double(scaled(raw, points.quantum)),
                    };
                    let each = points.raw.iter();
                    text.points(each.map(|(ms, raw)| (*ms, number(*raw))), places, form);
                }
                (Kind::Gauge | Kind::Counter, _) => {
                    let each = points.each(about.kind);
                    text.points(each.map(|(ms, value)| (ms, value.into())), 0, form);
                }
            }
            text.peaks(&[]);
        }
        Found::Drawn(drawn) => {
            text.head(about, drawn.points.len(), found, form);
            let each = drawn.points.iter();
            let each = each.map(|(at, value)| (at.as_millisecond(), Number::from(*value)));
            text.points(each, 0, form);
            text.peaks(&drawn.peaks);
        }
    }
    text.out
}

/// How many decimals a quantum's values have; none where they have no end.
fn places((_, div): (u32, u32)) -> Option<usize> {
    let places = div.max(1).ilog10();
    (10u32.pow(places) == div.max(1)).then_some(places as usize)
}

/// A value as it will be written.
#[derive(Clone, Copy)]
enum Number {
    None,
    /// In units of the last decimal.
    Decimal(i64),
    Double(f64),
}

impl From<Option<f64>> for Number {
    fn from(value: Option<f64>) -> Number {
        value.map_or(Number::None, Number::Double)
    }
}

/// JSON in the making.
#[derive(Default)]
struct Text {
    out: Vec<u8>,
    /// The day that was worded last, by its number since 1970.
    day: Option<(i64, Option<[u8; DAY_BYTES]>)>,
}

impl Text {
    /// Everything but the points and the peaks.
    fn head(&mut self, about: &About<'_>, count: usize, found: &Found, form: Form) {
        self.out = Vec::with_capacity(HEAD_BYTES + count * POINT_BYTES[form as usize]);
        let (samples, repeated, resolution_seconds, damaged) = match found {
            Found::Samples(of) => (of.raw.len() as u64, of.repeated, 0, &of.damaged),
            Found::Drawn(of) => (of.samples, of.repeated, of.resolution_s, &of.damaged),
        };
        let head = Head {
            about: *about,
            samples,
            repeated,
            resolution_seconds,
            damaged: damaged.len() as u64,
        };
        serde_json::to_writer(&mut self.out, &head).expect("plain fields are written to memory");
        // What follows is of the same object.
        self.out.pop();
    }

    fn points(&mut self, each: impl Iterator<Item = (i64, Number)>, places: usize, form: Form) {
        match form {
            Form::Points => self.pairs(each, places),
            Form::Columns => self.columns(each, places),
        }
    }

    fn pairs(&mut self, each: impl Iterator<Item = (i64, Number)>, places: usize) {
        self.out.extend_from_slice(br#","points":["#);
        let from = self.out.len();
        for (ms, number) in each {
            self.out.extend_from_slice(br#"[""#);
            self.time(ms);
            self.out.extend_from_slice(br#"","#);
            self.number(number, places);
            self.out.extend_from_slice(b"],");
        }
        self.end_list(from);
    }

    fn columns(&mut self, each: impl Iterator<Item = (i64, Number)>, places: usize) {
        let mut times = Vec::with_capacity(each.size_hint().1.unwrap_or(0));
        self.out.extend_from_slice(br#","values":["#);
        let from = self.out.len();
        for (ms, number) in each {
            times.push(ms);
            self.number(number, places);
            self.out.push(b',');
        }
        self.end_list(from);
        self.out.extend_from_slice(br#","start_ms":"#);
        self.whole(times.first().copied().unwrap_or(0));
        self.out.extend_from_slice(br#","steps_ms":["#);
        let from = self.out.len();
        let step = |two: &[i64]| two[1] - two[0];
        let mut steps = times.windows(2).map(step);
        match steps.next() {
            Some(first) if steps.all(|step| step == first) => {
                self.whole(first);
                self.out.push(b',');
            }
            Some(_) | None => {
                for two in times.windows(2) {
                    self.whole(step(two));
                    self.out.push(b',');
                }
            }
        }
        self.end_list(from);
    }

    /// The last of the document.
    fn peaks(&mut self, peaks: &[Option<f64>]) {
        self.out.extend_from_slice(br#","peaks":["#);
        let from = self.out.len();
        for peak in peaks {
            self.number(Number::from(*peak), 0);
            self.out.push(b',');
        }
        self.end_list(from);
        self.out.push(b'}');
    }

    /// Ends a list that began there; each of its members has a comma behind it.
    fn end_list(&mut self, from: usize) {
        if self.out.len() > from {
            self.out.pop();
        }
        self.out.push(b']');
    }

    fn number(&mut self, number: Number, places: usize) {
        match number {
            Number::None => self.out.extend_from_slice(b"null"),
            Number::Decimal(whole) => self.decimal(whole, places),
            // What is no number has none in JSON either.
            Number::Double(value) => {
                serde_json::to_writer(&mut self.out, &value)
                    .expect("a number is written to memory");
            }
        }
    }

    fn whole(&mut self, whole: i64) {
        self.decimal(whole, 0);
    }

    /// So many units of the last decimal; zeros at its end are left out.
    fn decimal(&mut self, whole: i64, mut places: usize) {
        let mut rest = whole.unsigned_abs();
        while places > 0 && rest.is_multiple_of(10) {
            rest /= 10;
            places -= 1;
        }
        let digits = rest.checked_ilog10().map_or(1, |log| log as usize + 1);
        let digits = digits.max(places + 1);
        let mut text = [b'0'; NUMBER_BYTES];
        let from = usize::from(whole < 0);
        if whole < 0 {
            text[0] = b'-';
        }
        let end = from + digits + usize::from(places > 0);
        let mut at = end;
        for _ in 0..places {
            at -= 1;
            text[at] = pair(rest % 10)[1];
            rest /= 10;
        }
        if places > 0 {
            at -= 1;
            text[at] = b'.';
        }
        while rest >= 10 {
            at -= 2;
            text[at..at + 2].copy_from_slice(&pair(rest % 100));
            rest /= 100;
        }
        if rest > 0 {
            text[at - 1] = pair(rest)[1];
        }
        self.put(text, end);
    }

    /// A time as RFC 3339 has it, in UTC, the way `jiff` writes it.
    fn time(&mut self, ms: i64) {
        let (day, within) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS).unsigned_abs());
        if self.day.is_none_or(|(known, _)| known != day) {
            self.day = Some((day, words_of(day)));
        }
        let Some((_, Some(words))) = self.day else {
            let at = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
            write!(self.out, "{at}").expect("a time is written to memory");
            return;
        };
        let mut text = *b"0000-00-00T00:00:00.000Z\0\0\0\0\0\0\0\0";
        text[..DAY_BYTES].copy_from_slice(&words);
        text[11..13].copy_from_slice(&pair(within / 3_600_000));
        text[14..16].copy_from_slice(&pair(within / 60_000 % 60));
        text[17..19].copy_from_slice(&pair(within / 1_000 % 60));
        let ms = within % 1_000;
        text[20] = pair(ms / 100)[1];
        text[21..23].copy_from_slice(&pair(ms % 100));
        let mut end = 23;
        while text[end - 1] == b'0' && end > 20 {
            end -= 1;
        }
        // Nothing behind the point, and no point.
        end = if end == 20 { 19 } else { end };
        text[end] = b'Z';
        self.put(text, end + 1);
    }

    /// Adds the first bytes of some: all of them are copied, for a copy of a fixed size is no call.
    fn put(&mut self, text: [u8; NUMBER_BYTES], length: usize) {
        let from = self.out.len();
        self.out.extend_from_slice(&text);
        self.out.truncate(from + length);
    }
}

/// `2026-10-05T` of a day since 1970; none where a year has not four digits.
fn words_of(day: i64) -> Option<[u8; DAY_BYTES]> {
    let at = Timestamp::from_millisecond(day.checked_mul(DAY_MS)?).ok()?;
    let text = at.to_string();
    let (words, rest) = text.as_bytes().split_first_chunk()?;
    (rest == b"00:00:00Z").then_some(*words)
}

/// The last two digits of a number below 100.
fn pair(number: u64) -> [u8; 2] {
    let at = usize::try_from(number).map_or(0, |number| 2 * (number % 100));
    [PAIRS[at], PAIRS[at + 1]]
}

/// `00`, `01`, and on to `99`.
const PAIRS: [u8; 200] = {
    let mut out = [b'0'; 200];
    let (mut tens, mut at) = (0, 0);
    while tens < 10 {
        let mut ones = 0;
        while ones < 10 {
            (out[at], out[at + 1]) = (b'0' + tens, b'0' + ones);
            (ones, at) = (ones + 1, at + 2);
        }
        tens += 1;
    }
    out
};

#[cfg(test)]
mod tests {
    use super::*;
    use dawnwatch_proto::api::{Columns, History};

    const ABOUT: About<'_> = About {
        host: HostId(7),
        name: "web\"01",
        series: "node_load1",
        kind: Kind::Gauge,
        zone: "Europe/Berlin",
    };

    fn points(raw: &[(i64, i64)], quantum: (u32, u32)) -> Points {
        Points {
            raw: raw.to_vec(),
            quantum,
            damaged: vec!["a block".to_owned()],
            repeated: 2,
        }
    }

    /// Both documents hold what serde would have written.
    fn check(about: &About<'_>, found: &Found) {
        let drawn = match found.clone() {
            Found::Samples(of) => Drawn {
                points: of.values(about.kind),
                samples: of.raw.len() as u64,
                repeated: of.repeated,
                damaged: of.damaged,
                ..Drawn::default()
            },
            Found::Drawn(drawn) => drawn,
        };
        let want = History {
            host: about.host,
            name: about.name.to_owned(),
            series: about.series.to_owned(),
            kind: about.kind,
            zone: about.zone.to_owned(),
            points: drawn.points,
            peaks: drawn.peaks,
            samples: drawn.samples,
            repeated: drawn.repeated,
            resolution_seconds: drawn.resolution_s,
            damaged: drawn.damaged.len() as u64,
        };
        // Text and back, for reading may round the last bit.
        let want: History = serde_json::from_str(&serde_json::to_string(&want).unwrap()).unwrap();
        let document = |form| String::from_utf8(document(about, found, form)).unwrap();
        let text = document(Form::Points);
        assert_eq!(
            serde_json::from_str::<History>(&text).unwrap(),
            want,
            "{text}"
        );
        let text = document(Form::Columns);
        let columns: Columns = serde_json::from_str(&text).unwrap();
        assert_eq!(columns.history().unwrap(), want, "{text}");
    }

    #[test]
    fn the_text_is_what_was_measured() {
        let raws = [
            0,
            7,
            -7,
            10,
            99,
            100,
            -12_345,
            1_234_500,
            MISSING,
            1 << 53,
            -(1 << 53) - 1,
            i64::MAX,
            MISSING + 1,
            3,
        ];
        let day = 1_759_708_795_000;
        let raw: Vec<(i64, i64)> = (0..).map(|i| day + i * 1_001).zip(raws).collect();
        for quantum in [
            (1, 1),
            (1, 100),
            (1, 1_000_000_000),
            (4_096, 1),
            (25, 10),
            (1, 1_024),
            (3, 7),
        ] {
            for kind in [Kind::Gauge, Kind::Counter] {
                for length in [0, 1, 2, raw.len()] {
                    check(
                        &About { kind, ..ABOUT },
                        &Found::Samples(points(&raw[..length], quantum)),
                    );
                }
            }
        }
        let drawn = Drawn {
            points: points(&raw, (1, 100)).values(Kind::Gauge),
            peaks: raws.map(|raw| (raw != MISSING).then_some(0.5)).to_vec(),
            samples: 900,
            resolution_s: 300,
            ..Drawn::default()
        };
        check(&ABOUT, &Found::Drawn(drawn));
    }

    #[test]
    fn the_forms_stay() {
        let raw = [
            (1_759_640_400_000, 25),
            (1_759_640_410_003, MISSING),
            (1_759_640_420_000, 300),
        ];
        let found = Found::Samples(points(&raw, (1, 100)));
        let text = |form| String::from_utf8(document(&ABOUT, &found, form)).unwrap();
        let head = r#"{"host":"00000000-0000-0000-0000-000000000007","name":"web\"01","series":"node_load1","kind":"gauge","zone":"Europe/Berlin","samples":3,"repeated":2,"resolution_seconds":0,"damaged":1,"#;
        let rest = r#""points":[["2025-10-05T05:00:00Z",0.25],["2025-10-05T05:00:10.003Z",null],["2025-10-05T05:00:20Z",3]],"peaks":[]}"#;
        assert_eq!(text(Form::Points), format!("{head}{rest}"));
        let rest = r#""values":[0.25,null,3],"start_ms":1759640400000,"steps_ms":[10003,9997],"peaks":[]}"#;
        assert_eq!(text(Form::Columns), format!("{head}{rest}"));
    }

    #[test]
    fn times_are_worded_as_everywhere() {
        let mut text = Text::default();
        for ms in [
            0,
            1,
            10,
            500,
            999,
            86_399_990,
            -1,
            -86_400_000,
            1_759_708_799_999,
            1_759_708_800_000,
            -62_167_219_200_001,
            253_402_207_199_000,
        ] {
            text.out.clear();
            text.time(ms);
            let want = Timestamp::from_millisecond(ms).unwrap().to_string();
            assert_eq!(String::from_utf8_lossy(&text.out), want);
        }
    }
}
