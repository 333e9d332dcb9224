//! Numbers and spans as people read them in a reason.

/// A share: `96.2 %`.
pub(crate) fn percent(ratio: f64) -> String {
    let value = ratio * 100.0;
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

/// A span: `30 s`, `41 m`, `27 h 48 m`; from a minute on without seconds.
pub(crate) fn duration(ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    match (seconds / 3_600, seconds % 3_600 / 60) {
        (0, 0) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} m"),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} m"),
    }
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
        assert_eq!(percent(1.0), "100 %");
        assert_eq!(bytes(512.0), "512 B");
        assert_eq!(bytes(2.1 * 1024.0 * 1024.0 * 1024.0), "2.1 GiB");
        assert_eq!(duration(-5), "0 s");
        assert_eq!(duration(59_999), "59 s");
        assert_eq!(duration(2_460_000), "41 m");
        assert_eq!(duration(27 * 3_600_000 + 48 * 60_000), "27 h 48 m");
        assert_eq!(count(1, "host"), "1 host");
    }
}
