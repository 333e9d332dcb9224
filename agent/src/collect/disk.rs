//! `/proc/diskstats`: operations, bytes and times of each disk.
//!
//! As node_exporter does by default, partitions, RAM and loop devices and floppies are left out. So is a device that
//! has never read or written anything (idle `nbd` devices, an empty drive) until it does.
//!
//! Caveat: kernels count the times in 32 bits; a wrap after 49 busy days reads as a restart of the counter.

use dawnwatch_proto::{MISSING, Series};

use super::file::KernelFile;
use super::metric::Metric;
use super::slots::Slots;
use super::text::{fields, lines, number, raw};
use super::{CollectError, Collector, Out, Roots, Shape};

/// Most disks that are shown: with the other subjects at their bounds, a host stays under its bound of series.
const DISKS_MAX: usize = 64;

/// Sectors are 512 bytes here whatever the disk's own are; sizes are counted in KiB.
const SECTORS_PER_KIB: u64 = 2;

/// What this collector shows, in the order of a line's columns.
pub(crate) const METRICS: &[Metric] = &[
    Metric::counter(
        "node_disk_reads_completed_total",
        "The total number of reads completed successfully.",
    ),
    Metric::counter(
        "node_disk_read_bytes_total",
        "The total number of bytes read successfully.",
    )
    .quantum(1024, 1),
    Metric::counter(
        "node_disk_read_time_seconds_total",
        "The total number of seconds spent by all reads.",
    )
    .quantum(1, 1_000),
    Metric::counter(
        "node_disk_writes_completed_total",
        "The total number of writes completed successfully.",
    ),
    Metric::counter(
        "node_disk_written_bytes_total",
        "The total number of bytes written successfully.",
    )
    .quantum(1024, 1),
    Metric::counter(
        "node_disk_write_time_seconds_total",
        "This is the total number of seconds spent by all writes.",
    )
    .quantum(1, 1_000),
    Metric::counter(
        "node_disk_io_time_seconds_total",
        "Total seconds spent doing I/Os.",
    )
    .quantum(1, 1_000),
    Metric::counter(
        "node_disk_io_time_weighted_seconds_total",
        "The weighted number of seconds spent doing I/Os.",
    )
    .quantum(1, 1_000),
];

/// Columns of a disk.
const COLUMNS: usize = 8;

type Counters = [i64; COLUMNS];

/// The collector of `/proc/diskstats`.
#[derive(Debug)]
pub(crate) struct Disks {
    file: KernelFile,
    disks: Slots<Counters>,
}

impl Disks {
    /// Names the file.
    pub(crate) fn new(roots: &Roots) -> Disks {
        Disks {
            file: KernelFile::new(roots.proc.join("diskstats")),
            disks: Slots::new(DISKS_MAX),
        }
    }
}

impl Collector for Disks {
    fn name(&self) -> &'static str {
        "diskstats"
    }

    fn collect(&mut self, out: &mut Out) -> Result<Shape, CollectError> {
        let text = self.file.read()?;
        self.disks.begin();
        for (name, counters) in lines(text).filter_map(parse) {
            if let Some(held) = self.disks.see(name, || counters) {
                *held = counters;
            }
        }
        let changed = self.disks.end();
        if self.disks.refused() > 0 {
            let more = self.disks.refused();
            out.complaints.push(format!(
                "more than {DISKS_MAX} disks: {more} are not watched"
            ));
        }
        for (_, counters) in self.disks.listed() {
            out.row
                .extend_from_slice(counters.unwrap_or(&[MISSING; COLUMNS]));
        }
        Ok(if changed { Shape::Changed } else { Shape::Same })
    }

    fn describe(&self, series: &mut Vec<Series>) {
        for (name, _) in self.disks.known() {
            let name = String::from_utf8_lossy(name);
            series.extend(
                METRICS
                    .iter()
                    .map(|metric| metric.series().label("device", &name)),
            );
        }
    }
}

/// A line, unless it is of a device that is not shown: its name and its counters.
fn parse(line: &[u8]) -> Option<(&[u8], Counters)> {
    let mut fields = fields(line).skip(2);
    let name = fields.next()?;
    if is_ignored(name) {
        return None;
    }
    let mut numbers = [0; 11];
    for value in &mut numbers {
        *value = number(fields.next()?)?;
    }
    let [
        reads,
        _,
        read,
        read_ms,
        writes,
        _,
        written,
        write_ms,
        _,
        io_ms,
        weighted_ms,
    ] = numbers;
    if reads == 0 && writes == 0 {
        return None;
    }
    let kib = |sectors| sectors / SECTORS_PER_KIB;
    let counters = [
        reads,
        kib(read),
        read_ms,
        writes,
        kib(written),
        write_ms,
        io_ms,
        weighted_ms,
    ]
    .map(raw);
    Some((name, counters))
}

/// node_exporter's `^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$`.
fn is_ignored(name: &[u8]) -> bool {
    let stem = name.trim_ascii_end();
    let digits = stem
        .iter()
        .rev()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let stem = &stem[..stem.len() - digits];
    if digits == 0 {
        return false;
    }
    match stem {
        b"ram" | b"zram" | b"loop" | b"fd" => true,
        [b'h' | b's' | b'v', b'd', letter] | [b'x', b'v', b'd', letter] => {
            letter.is_ascii_lowercase()
        }
        [b'n', b'v', b'm', b'e', rest @ .., b'p'] => is_namespace(rest),
        _ => false,
    }
}

/// `\d+n\d+`
fn is_namespace(text: &[u8]) -> bool {
    let all_digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let mut parts = text.splitn(2, |byte| *byte == b'n');
    matches!((parts.next(), parts.next()), (Some(a), Some(b)) if all_digits(a) && all_digits(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_several_kernels() {
        let want = [24371, 3_208_133, 22098, 4192, 12928, 3324, 7176, 31187];
        let numbers = "24371 7900 6416266 22098 4192 25856 25856 3324 0 7176 31187";
        for (line, want) in [
            (
                format!(" 254 0 vda {numbers} 4649 28 231952 426 224 9"),
                Some(want),
            ),
            (format!(" 254 0 vda {numbers}"), Some(want)),
            (format!(" 254 1 vda1 {numbers}"), None),
            (" 254 0 vda 24371 7900 6416266".to_owned(), None),
            (" 254 0 vda 1 2 3 4 5 6 x 8 9 10 11".to_owned(), None),
            (" 43 0 nbd0 0 0 0 0 0 0 0 0 0 0 0".to_owned(), None),
            (" 254 0".to_owned(), None),
        ] {
            assert_eq!(
                parse(line.as_bytes()).map(|(_, counters)| counters),
                want,
                "{line}"
            );
        }
    }

    #[test]
    fn a_number_past_the_range_is_missing() {
        let line = format!("8 0 sda {} 0 1 2 3 4 5 6 7 8 9", u64::MAX);
        let (_, counters) = parse(line.as_bytes()).unwrap();
        assert_eq!(counters[0], MISSING);
    }

    #[test]
    fn partitions_and_memory_are_left_out() {
        for (name, want) in [
            ("sda", false),
            ("sda1", true),
            ("xvdb2", true),
            ("vdz15", true),
            ("sdaa", false),
            ("sdaa1", false),
            ("nvme0n1", false),
            ("nvme0n1p1", true),
            ("nvme10n2p15", true),
            ("nvmen1p1", false),
            ("mmcblk0", false),
            ("mmcblk0p1", false),
            ("dm-0", false),
            ("md127", false),
            ("sr0", false),
            ("loop0", true),
            ("ram15", true),
            ("zram0", true),
            ("fd0", true),
            ("loop", false),
            ("", false),
        ] {
            assert_eq!(is_ignored(name.as_bytes()), want, "{name}");
        }
    }
}
