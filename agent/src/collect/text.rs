//! Parsing of the kernel's tables: bytes in, numbers out, nothing allocated.
//!
//! Every function takes any bytes: what is not understood is skipped, and its value stays `MISSING`.

use dawnwatch_proto::MISSING;

/// The lines of a table, without their ends.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (line, more) = match memchr::memchr(b'\n', rest) {
                Some(end) => (&rest[..end], &rest[end + 1..]),
                None => (rest, &rest[rest.len()..]),
            };
            rest = more;
            if !line.is_empty() {
                return Some(line);
            }
        }
        None
    })
}

/// The fields of a line, parted by any run of blanks.
pub(crate) fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| matches!(byte, b' ' | b'\t'))
        .filter(|field| !field.is_empty())
}

/// A field that is a whole number and nothing else.
pub(crate) fn number(field: &[u8]) -> Option<u64> {
    if field.is_empty() {
        return None;
    }
    let mut value = 0_u64;
    for byte in field {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(value)
}

/// A field such as `0.25`, counted in hundredths; further decimals are dropped.
pub(crate) fn hundredths(field: &[u8]) -> Option<u64> {
    let dot = field.iter().position(|byte| *byte == b'.')?;
    let (whole, decimals) = (number(&field[..dot])?, &field[dot + 1..]);
    let decimals = match decimals.len() {
        0 => return None,
        1 => number(decimals)? * 10,
        _ => number(&decimals[..2])?,
    };
    whole.checked_mul(100)?.checked_add(decimals)
}

/// A kernel number as a raw value; past the range of a raw value it is `MISSING`.
pub(crate) fn raw(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(MISSING)
}

/// A field as a raw value, `MISSING` where it is no number.
pub(crate) fn raw_field(field: Option<&[u8]>) -> i64 {
    field.and_then(number).map_or(MISSING, raw)
}

/// The whole of a small file without blanks around it.
pub(crate) fn trimmed(text: &[u8]) -> &[u8] {
    text.trim_ascii()
}

/// Picks the values of `keys` out of lines such as `MemTotal:  123 kB` or `pgfault 123`.
///
/// Keys are best listed in the file's own order: then each line is compared with one key, and reading ends at the last.
pub(crate) fn keyed(text: &[u8], keys: &[&str], values: &mut [Option<u64>]) {
    values.fill(None);
    let mut next = 0;
    let mut left = keys.len();
    for line in lines(text) {
        let end = line.iter().position(|byte| matches!(byte, b':' | b' '));
        let Some(end) = end else { continue };
        let key = &line[..end];
        let Some(at) = position(keys, next, key) else {
            continue;
        };
        next = at + 1;
        if values[at].is_some() {
            continue;
        }
        values[at] = fields(&line[end + 1..]).next().and_then(number);
        left -= usize::from(values[at].is_some());
        if left == 0 {
            return;
        }
    }
}

/// Where a key is in the list, looking first where it is expected.
fn position(keys: &[&str], expected: usize, key: &[u8]) -> Option<usize> {
    if keys.get(expected).is_some_and(|k| k.as_bytes() == key) {
        return Some(expected);
    }
    keys.iter().position(|k| k.as_bytes() == key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers() {
        for (field, want) in [
            ("0", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("99999999999999999999999", None),
            ("-1", None),
            ("+1", None),
            ("1a", None),
            ("", None),
        ] {
            assert_eq!(number(field.as_bytes()), want, "{field}");
        }
    }

    #[test]
    fn decimals_become_hundredths() {
        for (field, want) in [
            ("0.06", Some(6)),
            ("12.34", Some(1234)),
            ("3.5", Some(350)),
            ("3.999", Some(399)),
            ("3", None),
            ("3.", None),
            (".5", None),
            ("1.x5", None),
        ] {
            assert_eq!(hundredths(field.as_bytes()), want, "{field}");
        }
    }

    #[test]
    fn keys_are_found_in_any_order_and_first_wins() {
        let text = b"b: 2 kB\na 1\nnoise\nb: 7 kB\nc: x\naa: 9\n";
        let mut values = [Some(5); 4];
        keyed(text, &["a", "b", "c", "d"], &mut values);
        assert_eq!(values, [Some(1), Some(2), None, None]);
    }

    proptest! {
        #[test]
        fn any_bytes_do(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut values = [None; 2];
            keyed(&text, &["a", "b"], &mut values);
            for line in lines(&text) {
                for field in fields(line) {
                    prop_assert!(!field.is_empty());
                    let _ = (number(field), hundredths(field));
                }
            }
        }
    }
}
