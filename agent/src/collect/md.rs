//! `/proc/mdstat`: how many disks each software RAID array has, and how many it should have.

use dawnwatch_proto::{MISSING, Series};

use super::file::KernelFile;
use super::metric::Metric;
use super::slots::Slots;
use super::text::{fields, lines, number, raw};
use super::{CollectError, Collector, Out, Roots, Shape};

/// Most arrays that are shown: a host of more has a controller of its own.
const ARRAYS_MAX: usize = 10;

const DISKS: Metric = Metric::gauge(
    "node_md_disks",
    "Number of active/failed/spare disks of device.",
);
const REQUIRED: Metric =
    Metric::gauge("node_md_disks_required", "Total number of disks of device.");

/// What this collector shows.
pub(crate) const METRICS: &[Metric] = &[DISKS, REQUIRED];

/// States of disks, in the order of the columns; the disks required come last.
const STATES: [&str; 3] = ["active", "failed", "spare"];

/// The collector of RAID arrays.
#[derive(Debug)]
pub(crate) struct Arrays {
    file: KernelFile,
    arrays: Slots<Disks>,
}

/// Disks of one array: active, failed, spare, required.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Disks([i64; 4]);

impl Arrays {
    /// Names the file.
    pub(crate) fn new(roots: &Roots) -> Arrays {
        Arrays {
            file: KernelFile::new(roots.proc.join("mdstat")).unbounded(),
            arrays: Slots::new(ARRAYS_MAX),
        }
    }
}

impl Collector for Arrays {
    fn name(&self) -> &'static str {
        "md"
    }

    fn collect(&mut self, out: &mut Out) -> Result<Shape, CollectError> {
        let text = match self.file.read() {
            Ok(text) => text,
            Err(error) if error.is_absent() => {
                return Err(CollectError::NotAvailable("software RAID"));
            }
            Err(error) => return Err(error),
        };
        self.arrays.begin();
        for (name, disks) in parse(text) {
            if let Some(known) = self.arrays.see(name, || disks) {
                *known = disks;
            }
        }
        let changed = self.arrays.end();
        if self.arrays.refused() > 0 {
            let more = self.arrays.refused();
            out.complaints.push(format!(
                "more than {ARRAYS_MAX} RAID arrays: {more} are not watched"
            ));
        }
        for (_, disks) in self.arrays.listed() {
            out.row.extend(disks.map_or([MISSING; 4], |disks| disks.0));
        }
        Ok(if changed { Shape::Changed } else { Shape::Same })
    }

    fn describe(&self, series: &mut Vec<Series>) {
        for (name, _) in self.arrays.known() {
            let device = String::from_utf8_lossy(name);
            for state in STATES {
                series.push(
                    DISKS
                        .series()
                        .label("device", &device)
                        .label("state", state),
                );
            }
            series.push(REQUIRED.series().label("device", &device));
        }
    }
}

/// The arrays of the table:
///
/// ```text
/// md0 : active raid1 sdb1[1](F) sda1[0]
///       1953382464 blocks super 1.2 [2/1] [U_]
/// ```
/// An array without redundancy (raid0, linear) has no `[2/1]`: it needs all the disks it lists.
fn parse(text: &[u8]) -> Vec<(&[u8], Disks)> {
    let mut arrays: Vec<(&[u8], Disks)> = Vec::new();
    for line in lines(text) {
        let mut words = fields(line);
        let (first, second) = (words.next().unwrap_or_default(), words.next());
        if first.starts_with(b"md") && second == Some(b":") {
            if arrays.len() <= ARRAYS_MAX {
                arrays.push((first, members(words)));
            }
        } else if let (Some((_, disks)), Some((required, active))) =
            (arrays.last_mut(), fields(line).find_map(ratio))
        {
            // Only the line of blocks, right below the array's own, has the form.
            disks.0[0] = raw(active);
            disks.0[3] = raw(required);
        }
    }
    arrays
}

/// Counts `sda1[0]`, `sdb1[1](F)`, `sdc1[2](S)`; the state and the level have no bracket.
fn members<'a>(words: impl Iterator<Item = &'a [u8]>) -> Disks {
    let [mut active, mut failed, mut spare] = [0; 3];
    for word in words.filter(|word| word.contains(&b'[')) {
        if word.ends_with(b"(F)") {
            failed += 1;
        } else if word.ends_with(b"(S)") {
            spare += 1;
        } else {
            active += 1;
        }
    }
    Disks([active, failed, spare, active + failed])
}

/// `[2/1]`: required and active disks.
fn ratio(word: &[u8]) -> Option<(u64, u64)> {
    let inner = word.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let slash = inner.iter().position(|byte| *byte == b'/')?;
    Some((number(&inner[..slash])?, number(&inner[slash + 1..])?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &[(&str, [i64; 4])]) {
        let got = parse(text.as_bytes());
        let got: Vec<_> = got
            .iter()
            .map(|(name, disks)| (std::str::from_utf8(name).unwrap(), disks.0))
            .collect();
        assert_eq!(got, want, "{text}");
    }

    #[test]
    fn arrays_whole_and_degraded() {
        check(
            "Personalities : [raid1] [raid6] [raid5] [raid4]\n\
             md0 : active raid1 sdb1[1](F) sda1[0]\n      1953382464 blocks super 1.2 [2/1] [U_]\n      bitmap: 3/15 pages [12KB], 65536KB chunk\n\n\
             md1 : active raid5 sde[4](S) sdd[3] sdc[1] sdb[0]\n      7813772288 blocks level 5, 512k chunk, algorithm 2 [3/3] [UUU]\n\n\
             md2 : active raid0 sdf[0] sdg[1]\n      1000 blocks super 1.2 512k chunks\n\n\
             md127 : inactive sdh[0](S)\n      1000 blocks super 1.2\n\n\
             unused devices: <none>\n",
            &[
                ("md0", [1, 1, 0, 2]),
                ("md1", [3, 0, 1, 3]),
                ("md2", [2, 0, 0, 2]),
                ("md127", [0, 0, 1, 0]),
            ],
        );
    }

    #[test]
    fn a_rebuild_is_degraded_until_it_is_done() {
        check(
            "md0 : active raid1 sdb1[2] sda1[0]\n      100 blocks super 1.2 [2/1] [U_]\n      [=>....]  recovery =  9.4% (9/100) finish=1.0min speed=1K/sec\n",
            &[("md0", [1, 0, 0, 2])],
        );
    }

    #[test]
    fn no_arrays_and_broken_lines() {
        check("Personalities : \nunused devices: <none>\n", &[]);
        check("md0\nmd1 :\n  [x/y] [2/] [/1]\n", &[("md1", [0, 0, 0, 0])]);
        check("[2/1]\n", &[]);
    }
}
