//! Name, meaning and quantum of a metric: one table a collector.

use dawnwatch_proto::{Kind, Series};

/// Names a metric as node_exporter does, and says what it is and how it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// One sentence for `# HELP`.
    pub help: &'static str,
    /// Level or count.
    pub kind: Kind,
    /// Numerator of the quantum.
    pub mul: u32,
    /// Denominator of the quantum.
    pub div: u32,
}

impl Metric {
    /// A level in whole units.
    pub(crate) const fn gauge(name: &'static str, help: &'static str) -> Metric {
        Metric {
            name,
            help,
            kind: Kind::Gauge,
            mul: 1,
            div: 1,
        }
    }

    /// A count of whole units.
    pub(crate) const fn counter(name: &'static str, help: &'static str) -> Metric {
        Metric {
            name,
            help,
            kind: Kind::Counter,
            mul: 1,
            div: 1,
        }
    }

    /// The same with another quantum: value = raw * mul / div.
    pub(crate) const fn quantum(mut self, mul: u32, div: u32) -> Metric {
        self.mul = mul;
        self.div = div;
        self
    }

    /// The series of this metric, labels to be added.
    pub(crate) fn series(&self) -> Series {
        Series::new(self.name, self.kind).quantum(self.mul, self.div)
    }
}

/// Largest quantum of sizes in bytes: nobody asks about a fraction of a MiB on a large disk.
const QUANTUM_BYTES_MAX: u64 = 1024 * 1024;

/// Smallest quantum of sizes in bytes: what `/proc/meminfo` counts in.
const QUANTUM_BYTES_MIN: u64 = 1024;

/// A size is counted in at least so many steps, so that a threshold on a share is exact to 0.1 %.
const STEPS_MIN: u64 = 1024;

/// The quantum for parts of a total: a power of two from 1 KiB to 1 MiB that still leaves 1,024 steps.
///
/// Sizes in MiB take fewer bytes on the wire than any codec saves; 1 MiB of a 512 MiB host would be 0.2 %, so
/// smaller totals get smaller steps.
pub(crate) fn quantum_bytes(total: u64) -> u32 {
    let wanted = (total / STEPS_MIN).clamp(QUANTUM_BYTES_MIN, QUANTUM_BYTES_MAX);
    let power = 1_u64 << wanted.ilog2();
    u32::try_from(power).expect("at most 1 MiB")
}

/// A raw value counted in steps of a quantum, rounded down.
pub(crate) fn steps(value: u64, quantum: u32) -> i64 {
    super::text::raw(value / u64::from(quantum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_has_a_thousand_steps() {
        const MIB: u64 = 1 << 20;
        for (total, want) in [
            (0, 1024),
            (1, 1024),
            (MIB, 1024),
            (8 * MIB, 8 * 1024),
            (63 * MIB, 32 * 1024),
            (64 * MIB, 64 * 1024),
            (512 * MIB, 512 * 1024),
            (1024 * MIB, 1024 * 1024),
            (u64::MAX, 1024 * 1024),
        ] {
            let got = quantum_bytes(total);
            assert_eq!(got, want, "{total}");
            assert!(
                total < MIB || total / u64::from(got) >= STEPS_MIN,
                "{total}"
            );
        }
    }
}
