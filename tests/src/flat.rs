//! Whether something that runs for long stays as large as it is: samples of a process, and what they say.

use std::fs;
use std::path::Path;

/// What a process held at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Seconds since the first sample.
    pub at_s: u64,
    /// Memory in RAM that is no page of a file, KiB: pages of the program and of files may be taken back at any time.
    pub anon_kib: u64,
    /// Open descriptors but those of hour files, which stay open: one an hour for 35 days; and of the files of other processes that an
    /// agent keeps, at most 256: they are as many as the machine has processes.
    pub descriptors: u64,
}

impl Sample {
    /// Looks at a process; none where it is gone.
    #[must_use]
    pub fn of(pid: u32, at_s: u64) -> Option<Sample> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))?;
        let anon_kib = line.trim().strip_suffix(" kB")?.parse().ok()?;
        let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let is_bounded = |path: &Path| {
            path.extension().is_some_and(|ending| ending == "dwh") || is_of_a_process(path)
        };
        let descriptors = open
            .flatten()
            .filter(|one| !fs::read_link(one.path()).is_ok_and(|path| is_bounded(&path)))
            .count() as u64;
        Some(Sample {
            at_s,
            anon_kib,
            descriptors,
        })
    }
}

/// `/proc/1/stat`, not `/proc/stat`.
fn is_of_a_process(path: &Path) -> bool {
    let pid = path.strip_prefix("/proc").ok().and_then(Path::to_str);
    pid.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Memory rises and falls with the hour, for the server holds what came in since the last one: samples an hour apart compare.
const PERIOD_S: u64 = 3_600;

/// Growth of memory in an hour that is still flat, in percent.
const GROWTH_PERCENT_MAX: u64 = 5;

/// Descriptors that may come in an hour: a moment may have a connection or two more.
const DESCRIPTORS_MORE_MAX: u64 = 2;

/// Fewest pairs of samples that say anything.
const PAIRS_MIN: usize = 30;

/// What the samples of one process say: medians of those that have another an hour later, and of those others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Course {
    /// Memory, KiB.
    pub anon_kib: [u64; 2],
    /// The most memory at any time, KiB.
    pub most_kib: u64,
    /// Descriptors.
    pub descriptors: [u64; 2],
}

impl Course {
    /// Draws it from samples in order of time, without those of the first `warm_up_s`; none where there are too few.
    #[must_use]
    pub fn of(samples: &[Sample], warm_up_s: u64) -> Option<Course> {
        let warm = samples.iter().filter(|one| one.at_s >= warm_up_s);
        let pairs: Vec<[&Sample; 2]> = warm
            .filter_map(|one| {
                let later = samples.partition_point(|other| other.at_s < one.at_s + PERIOD_S);
                Some([one, samples.get(later)?])
            })
            .collect();
        if pairs.len() < PAIRS_MIN {
            return None;
        }
        let of = |at: usize, what: fn(&Sample) -> u64| {
            median(pairs.iter().map(|pair| what(pair[at])).collect())
        };
        Some(Course {
            anon_kib: [0, 1].map(|at| of(at, |one| one.anon_kib)),
            most_kib: samples.iter().map(|one| one.anon_kib).max().unwrap_or(0),
            descriptors: [0, 1].map(|at| of(at, |one| one.descriptors)),
        })
    }

    /// What grew, in words; none where nothing did.
    #[must_use]
    pub fn growth(&self) -> Option<String> {
        let [before, after] = self.anon_kib;
        if after * 100 > before * (100 + GROWTH_PERCENT_MAX) {
            return Some(format!(
                "memory grew from {before} to {after} KiB in an hour"
            ));
        }
        let [before, after] = self.descriptors;
        (after > before + DESCRIPTORS_MORE_MAX)
            .then(|| format!("descriptors grew from {before} to {after} in an hour"))
    }
}

/// Seconds from this moment until the server has sealed the first hour that it saw at least half of, and rests again.
#[must_use]
pub fn warm_up_s(now_s: u64) -> u64 {
    let left = PERIOD_S - now_s % PERIOD_S;
    let sealed = if left < PERIOD_S / 2 {
        left + PERIOD_S
    } else {
        left
    };
    sealed + 300
}

fn median<T: Ord + Copy>(mut values: Vec<T>) -> T {
    values.sort_unstable();
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sample a minute for three hours.
    fn course(anon_kib: impl Fn(u64) -> u64, descriptors: impl Fn(u64) -> u64) -> Course {
        let sample = |minute| Sample {
            at_s: 60 * minute,
            anon_kib: anon_kib(minute),
            descriptors: descriptors(minute),
        };
        let samples: Vec<Sample> = (0..180).map(sample).collect();
        Course::of(&samples, 60 * 45).expect("enough")
    }

    #[test]
    fn what_warms_up_and_then_fills_and_empties_with_the_hour_is_flat() {
        let flat = course(
            |minute| 10_000 + 100 * minute.min(40) + 100 * ((minute + 20) % 60),
            |minute| 30 + minute % 2,
        );
        assert_eq!(flat.growth(), None, "{flat:?}");
        assert!(flat.most_kib >= 19_900, "{flat:?}");
    }

    #[test]
    fn what_grows_is_found() {
        let grows = course(|minute| 20_000 + 40 * minute + 100 * (minute % 60), |_| 30);
        let said = grows.growth().expect("it grows");
        assert!(said.starts_with("memory grew from 2"), "{said}");
        let [before, after] = grows.anon_kib;
        assert_eq!(after - before, 40 * 60, "{grows:?}");
        let leaks = course(|_| 20_000, |minute| 30 + minute / 10);
        let said = leaks.growth().expect("it grows");
        assert!(said.starts_with("descriptors grew from"), "{said}");
    }

    #[test]
    fn few_samples_say_nothing() {
        assert_eq!(Course::of(&[], 0), None);
        let short = (0..100).map(|minute| Sample {
            at_s: 60 * minute,
            anon_kib: 1,
            descriptors: 1,
        });
        assert_eq!(Course::of(&short.collect::<Vec<_>>(), 60 * 20), None);
    }

    #[test]
    fn an_hour_of_which_most_was_missed_is_no_warming_up() {
        assert_eq!(warm_up_s(7_200 + 60), 3_540 + 300);
        assert_eq!(warm_up_s(7_200 + 1_800), 1_800 + 300);
        assert_eq!(warm_up_s(7_200 + 3_000), 600 + 3_600 + 300);
    }

    #[test]
    fn a_process_is_looked_at() {
        let own = Sample::of(std::process::id(), 0).expect("it runs");
        assert!(own.anon_kib > 100 && own.descriptors >= 3, "{own:?}");
        let dir = tempfile::tempdir().expect("a directory");
        let _hour = fs::File::create(dir.path().join("1.dwh")).expect("a file");
        let _other = fs::File::create(dir.path().join("1.seg")).expect("a file");
        let _process = fs::File::open("/proc/1/stat").expect("there is one");
        let _kernel = fs::File::open("/proc/stat").expect("it is there");
        let links = fs::read_dir("/proc/self/fd").expect("it is there").count() as u64;
        let with = Sample::of(std::process::id(), 0).expect("it runs");
        assert!(with.descriptors + 1 < links, "{with:?} of {links}");
        for (path, want) in [
            ("/proc/1/stat", true),
            ("/proc/stat", false),
            ("/a/1", false),
        ] {
            assert_eq!(is_of_a_process(Path::new(path)), want, "{path}");
        }
    }
}
