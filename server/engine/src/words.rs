//! Numbers and spans as people read them in a reason.

use dawnwatch_proto::review::text;

/// A share: `96.2 %`.
pub(crate) fn percent(ratio: f64) -> String {
    // Rounded before it is asked whether it is whole: 39.97 is 40, not 40.0.
    let value = (ratio * 1_000.0).round() / 10.0;
    if value.fract().abs() < 0.05 {
        format!("{value:.0} %")
    } else {
        format!("{value:.1} %")
    }
}

/// A size in binary units: `2.1 GiB`.
pub(crate) fn bytes(value: f64) -> String {
    let mut value = value;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            return if unit == "B" {
                format!("{value:.0} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} PiB")
}

/// A span as it is everywhere: `30 s`, `41 m`, `27 h 48 m`, `365 d`.
pub(crate) fn duration(ms: i64) -> String {
    text::duration(u64::try_from(ms / 1_000).unwrap_or(0))
}

/// One thing or many: `1 host`, `3 hosts`.
pub(crate) fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(percent(0.962), "96.2 %");
        assert_eq!(percent(0.95), "95 %");
        assert_eq!(percent(0.3997), "40 %");
        assert_eq!(percent(1.0), "100 %");
        assert_eq!(bytes(512.0), "512 B");
        assert_eq!(bytes(2.1 * 1024.0 * 1024.0 * 1024.0), "2.1 GiB");
        assert_eq!(duration(-5), "0 s");
        assert_eq!(duration(59_999), "59 s");
        assert_eq!(duration(2_460_000), "41 m");
        assert_eq!(duration(8_760 * 3_600_000), "365 d");
        assert_eq!(duration(27 * 3_600_000 + 48 * 60_000), "27 h 48 m");
        assert_eq!(count(1, "host"), "1 host");
    }
}
