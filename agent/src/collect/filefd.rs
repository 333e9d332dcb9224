//! `/proc/sys/fs/file-nr`: open files of the whole host.

use dawnwatch_proto::Series;

use super::file::KernelFile;
use super::metric::Metric;
use super::text::{fields, number, raw, trimmed};
use super::{CollectError, Collector, Out, Roots, Shape};

/// What this collector shows.
pub(crate) const METRICS: &[Metric] = &[
    Metric::gauge(
        "node_filefd_allocated",
        "File descriptor statistics: allocated.",
    ),
    Metric::gauge(
        "node_filefd_maximum",
        "File descriptor statistics: maximum.",
    ),
];

/// The collector of `/proc/sys/fs/file-nr`.
#[derive(Debug)]
pub(crate) struct FileDescriptors {
    file: KernelFile,
}

impl FileDescriptors {
    /// Names the file.
    pub(crate) fn new(roots: &Roots) -> FileDescriptors {
        FileDescriptors {
            file: KernelFile::new(roots.proc.join("sys/fs/file-nr")),
        }
    }
}

impl Collector for FileDescriptors {
    fn name(&self) -> &'static str {
        "filefd"
    }

    fn collect(&mut self, out: &mut Out) -> Result<Shape, CollectError> {
        let Some(values) = parse(self.file.read()?) else {
            let path = self.file.path().to_owned();
            return Err(CollectError::Garbled {
                path,
                why: "it does not hold three numbers",
            });
        };
        out.row.extend(values);
        Ok(Shape::Same)
    }

    fn describe(&self, series: &mut Vec<Series>) {
        series.extend(METRICS.iter().map(Metric::series));
    }
}

/// Allocated and maximum; the number between them is always 0.
fn parse(text: &[u8]) -> Option<[i64; 2]> {
    let mut fields = fields(trimmed(text));
    let allocated = number(fields.next()?)?;
    let maximum = number(fields.nth(1)?)?;
    Some([raw(allocated), raw(maximum)])
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn allocated_and_maximum() {
        for (text, want) in [
            ("592\t0\t2466177\n", Some([592, 2_466_177])),
            ("1\t0\t9223372036854775807\n", Some([1, i64::MAX])),
            ("592\t0\n", None),
            ("", None),
        ] {
            assert_eq!(parse(text.as_bytes()), want, "{text}");
        }
    }
}
