//! `/proc/loadavg`: the load averages.

use dawnwatch_proto::{MISSING, Series};

use super::file::KernelFile;
use super::metric::Metric;
use super::text::{fields, hundredths, raw};
use super::{CollectError, Collector, Out, Roots, Shape};

/// What this collector shows.
pub(crate) const METRICS: &[Metric] = &[
    Metric::gauge("node_load1", "1m load average.").quantum(1, 100),
    Metric::gauge("node_load5", "5m load average.").quantum(1, 100),
    Metric::gauge("node_load15", "15m load average.").quantum(1, 100),
];

/// The collector of `/proc/loadavg`.
#[derive(Debug)]
pub(crate) struct Load {
    file: KernelFile,
}

impl Load {
    /// Names the file.
    pub(crate) fn new(roots: &Roots) -> Load {
        Load {
            file: KernelFile::new(roots.proc.join("loadavg")),
        }
    }
}

impl Collector for Load {
    fn name(&self) -> &'static str {
        "loadavg"
    }

    fn collect(&mut self, out: &mut Out) -> Result<Shape, CollectError> {
        let Some(loads) = parse(self.file.read()?) else {
            let path = self.file.path().to_owned();
            return Err(CollectError::Garbled {
                path,
                why: "it does not begin with three numbers",
            });
        };
        out.row.extend(loads);
        Ok(Shape::Same)
    }

    fn describe(&self, series: &mut Vec<Series>) {
        series.extend(METRICS.iter().map(Metric::series));
    }
}

fn parse(text: &[u8]) -> Option<[i64; 3]> {
    let mut loads = [MISSING; 3];
    let mut fields = fields(text);
    for load in &mut loads {
        *load = raw(hundredths(fields.next()?)?);
    }
    Some(loads)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn loads_in_hundredths() {
        for (text, want) in [
            ("0.06 0.22 0.30 2/95 15255\n", Some([6, 22, 30])),
            ("128.00 64.50 9.99 1/1 1\n", Some([12800, 6450, 999])),
            ("0.06 0.22\n", None),
            ("a b c\n", None),
            ("", None),
        ] {
            assert_eq!(parse(text.as_bytes()), want, "{text}");
        }
    }
}
