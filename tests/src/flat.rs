//! Whether something that runs for long stays as large as it is: samples of a process, and what they say.

use std::fs;

/// What a process held at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Seconds since the first sample.
    pub at_s: u64,
    /// Memory in RAM, KiB.
    pub rss_kib: u64,
    /// Open descriptors.
    pub descriptors: u64,
}

impl Sample {
    /// Looks at a process; none where it is gone.
    #[must_use]
    pub fn of(pid: u32, at_s: u64) -> Option<Sample> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let rss_kib = line.trim().strip_suffix(" kB")?.parse().ok()?;
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
        Some(Sample {
            at_s,
            rss_kib,
            descriptors,
        })
    }
}

/// Growth of memory from the second to the last quarter that is still flat, in percent: the first quarter is for warming up.
const GROWTH_PERCENT_MAX: u64 = 10;

/// Descriptors that may come: the server holds each hour file open, one an hour, and a moment may have a connection or two more.
const DESCRIPTORS_MORE_MAX: u64 = 4;

/// Fewest samples that say anything: some in each quarter.
pub const SAMPLES_MIN: usize = 12;

/// What the samples of one process say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Course {
    /// Medians of memory in the first, second and last quarter, KiB.
    pub rss_kib: [u64; 3],
    /// Median of the growth between samples half the time apart, KiB an hour.
    pub slope_kib_an_hour: i64,
    /// Medians of descriptors in the second and last quarter.
    pub descriptors: [u64; 2],
}

impl Course {
    /// Draws it from samples in order of time; none where there are too few.
    #[must_use]
    pub fn of(samples: &[Sample]) -> Option<Course> {
        if samples.len() < SAMPLES_MIN {
            return None;
        }
        let quarter = samples.len() / 4;
        let (first, second) = (&samples[..quarter], &samples[quarter..2 * quarter]);
        let last = &samples[samples.len() - quarter..];
        let rss = |part: &[Sample]| median(part.iter().map(|one| one.rss_kib).collect());
        let open = |part: &[Sample]| median(part.iter().map(|one| one.descriptors).collect());
        let (early, late) = samples.split_at(samples.len() / 2);
        let slope = |(a, b): (&Sample, &Sample)| {
            let seconds = i64::try_from(b.at_s.saturating_sub(a.at_s).max(1)).unwrap_or(i64::MAX);
            (b.rss_kib.cast_signed() - a.rss_kib.cast_signed()) * 3_600 / seconds
        };
        Some(Course {
            rss_kib: [rss(first), rss(second), rss(last)],
            slope_kib_an_hour: median(early.iter().zip(late).map(slope).collect()),
            descriptors: [open(second), open(last)],
        })
    }

    /// What grew, in words; none where nothing did.
    #[must_use]
    pub fn growth(&self) -> Option<String> {
        let [_, second, last] = self.rss_kib;
        if last * 100 > second * (100 + GROWTH_PERCENT_MAX) {
            return Some(format!("memory grew from {second} to {last} KiB"));
        }
        let [second, last] = self.descriptors;
        (last > second + DESCRIPTORS_MORE_MAX)
            .then(|| format!("descriptors grew from {second} to {last}"))
    }
}

fn median<T: Ord + Copy>(mut values: Vec<T>) -> T {
    values.sort_unstable();
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(rss_kib: impl Fn(u64) -> u64, descriptors: impl Fn(u64) -> u64) -> Course {
        let sample = |i| Sample {
            at_s: 10 * i,
            rss_kib: rss_kib(i),
            descriptors: descriptors(i),
        };
        Course::of(&(0..40).map(sample).collect::<Vec<_>>()).expect("enough")
    }

    #[test]
    fn what_warms_up_and_then_wavers_is_flat() {
        let flat = course(
            |i| {
                if i < 8 {
                    10_000 + 1_000 * i
                } else {
                    20_000 + 500 * (i % 3)
                }
            },
            |i| 30 + i % 2,
        );
        assert_eq!(flat.growth(), None, "{flat:?}");
    }

    #[test]
    fn what_grows_is_found() {
        let grows = course(|i| 20_000 + 200 * i, |_| 30);
        assert_eq!(
            grows.growth().as_deref(),
            Some("memory grew from 23000 to 27000 KiB")
        );
        assert_eq!(grows.slope_kib_an_hour, 200 * 360);
        let leaks = course(|_| 20_000, |i| 30 + i);
        assert_eq!(
            leaks.growth().as_deref(),
            Some("descriptors grew from 45 to 65")
        );
    }

    #[test]
    fn few_samples_say_nothing() {
        assert_eq!(Course::of(&[]), None);
    }

    #[test]
    fn a_process_is_looked_at() {
        let own = Sample::of(std::process::id(), 0).expect("it runs");
        assert!(own.rss_kib > 100 && own.descriptors >= 3, "{own:?}");
    }
}
