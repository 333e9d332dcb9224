//! TCP as a whole, from `/proc/net/snmp` and `/proc/net/sockstat`: connections, segments sent again, sockets in use.

use dawnwatch_proto::{MISSING, Series};

use super::file::KernelFile;
use super::metric::Metric;
use super::text::{fields, lines, raw_field};
use super::{CollectError, Collector, Out, Roots, Shape};

/// What this collector shows.
pub(crate) const METRICS: &[Metric] = &[
    Metric::gauge(
        "node_netstat_Tcp_CurrEstab",
        "Statistic TcpCurrEstab: established connections.",
    ),
    Metric::counter(
        "node_netstat_Tcp_RetransSegs",
        "Statistic TcpRetransSegs: segments sent again.",
    ),
    Metric::gauge(
        "node_sockstat_TCP_inuse",
        "Number of TCP sockets in state inuse.",
    ),
    Metric::gauge("node_sockstat_TCP_tw", "Number of TCP sockets in state tw."),
];

/// The collector of TCP.
#[derive(Debug)]
pub(crate) struct Sockets {
    snmp: KernelFile,
    sockstat: KernelFile,
}

impl Sockets {
    /// Names the files.
    pub(crate) fn new(roots: &Roots) -> Sockets {
        Sockets {
            snmp: KernelFile::new(roots.proc.join("net/snmp")),
            sockstat: KernelFile::new(roots.proc.join("net/sockstat")),
        }
    }
}

impl Collector for Sockets {
    fn name(&self) -> &'static str {
        "sockets"
    }

    fn collect(&mut self, out: &mut Out) -> Result<Shape, CollectError> {
        let snmp = self.snmp.read().map_err(absent)?;
        out.row
            .extend(["CurrEstab", "RetransSegs"].map(|name| in_snmp(snmp, name)));
        let sockstat = self.sockstat.read().map_err(absent)?;
        out.row
            .extend(["inuse", "tw"].map(|name| in_sockstat(sockstat, name)));
        Ok(Shape::Same)
    }

    fn describe(&self, series: &mut Vec<Series>) {
        series.extend(METRICS.iter().map(Metric::series));
    }
}

/// A kernel without networking has no such file.
fn absent(error: CollectError) -> CollectError {
    if error.is_absent() {
        CollectError::NotAvailable("TCP statistics")
    } else {
        error
    }
}

/// A value of the two lines `Tcp: NAMES` and `Tcp: VALUES`.
fn in_snmp(text: &[u8], name: &str) -> i64 {
    let mut tcp = lines(text).filter(|line| line.starts_with(b"Tcp:"));
    let (Some(names), Some(values)) = (tcp.next(), tcp.next()) else {
        return MISSING;
    };
    let at = fields(names).position(|field| field == name.as_bytes());
    raw_field(at.and_then(|at| fields(values).nth(at)))
}

/// A value of the line `TCP: inuse 27 orphan 0 tw 12 alloc 30 mem 4`.
fn in_sockstat(text: &[u8], name: &str) -> i64 {
    let Some(tcp) = lines(text).find(|line| line.starts_with(b"TCP:")) else {
        return MISSING;
    };
    let mut fields = fields(tcp).skip_while(|field| *field != name.as_bytes());
    raw_field(fields.nth(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_on_two_lines() {
        let text = b"Ip: A B\nIp: 1 2\nTcp: RtoMin MaxConn CurrEstab RetransSegs\nTcp: 200 -1 57 1234\nTcpExt: x\n";
        assert_eq!(in_snmp(text, "CurrEstab"), 57);
        assert_eq!(in_snmp(text, "RetransSegs"), 1234);
        assert_eq!(in_snmp(text, "MaxConn"), MISSING, "-1 is no count");
        assert_eq!(in_snmp(text, "Other"), MISSING);
        assert_eq!(in_snmp(b"Tcp: CurrEstab\n", "CurrEstab"), MISSING);
        assert_eq!(in_snmp(b"Tcp: A CurrEstab\nTcp: 1\n", "CurrEstab"), MISSING);
    }

    #[test]
    fn names_stand_before_their_values() {
        let text =
            b"sockets: used 9\nTCP: inuse 27 orphan 0 tw 12 alloc 30 mem 4\nUDP: inuse 5 mem 1\n";
        assert_eq!(in_sockstat(text, "inuse"), 27);
        assert_eq!(in_sockstat(text, "tw"), 12);
        assert_eq!(in_sockstat(b"UDP: inuse 5\n", "inuse"), MISSING);
        assert_eq!(in_sockstat(b"TCP: inuse\n", "inuse"), MISSING);
    }
}
