//! Data set G1: 70 series a host from a counter and a mixing function, so that every store is given the same numbers and
//! anybody can make them anew. Its entropy is 402 bits for the 70 values of a tick: 0.718 bytes a sample.

use dawnwatch_proto::{Kind, Schema, Series};

/// Series of a host.
pub const SERIES: usize = 70;

/// Milliseconds between two ticks.
pub const TICK_MS: i64 = 10_000;

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
const SEED: u64 = 20_261_121;

/// The number of the random stream that a host's jitter comes from.
const JITTER: u64 = 70;

/// Names of the series, in order.
pub const NAMES: [&str; SERIES] = [
    "cpu_user",
    "cpu_system",
    "cpu_idle",
    "cpu_nice",
    "cpu_iowait",
    "cpu_irq",
    "cpu_softirq",
    "cpu_steal",
    "cpu_guest",
    "cpu_guest_nice",
    "mem_used_pct",
    "mem_cached_pct",
    "mem_buffered_pct",
    "mem_available_pct",
    "mem_slab_pct",
    "load1",
    "load5",
    "load15",
    "psi_cpu_some",
    "psi_mem_some",
    "psi_io_some",
    "fs0_used_pct",
    "fs1_used_pct",
    "fs2_used_pct",
    "fs3_used_pct",
    "temp0",
    "temp1",
    "ping0_rtt_ms",
    "ping1_rtt_ms",
    "ping2_rtt_ms",
    "net0_rx_bytes",
    "net0_tx_bytes",
    "net0_rx_packets",
    "net0_tx_packets",
    "net1_rx_bytes",
    "net1_tx_bytes",
    "net1_rx_packets",
    "net1_tx_packets",
    "disk0_read_bytes",
    "disk0_write_bytes",
    "disk0_discard_bytes",
    "disk0_flush_bytes",
    "disk1_read_bytes",
    "disk1_write_bytes",
    "disk1_discard_bytes",
    "disk1_flush_bytes",
    "kernel_ctxt",
    "kernel_intr",
    "kernel_forks",
    "kernel_pgfault",
    "kernel_pgin",
    "kernel_pgout",
    "mem_total",
    "swap_total",
    "fs0_size",
    "fs1_size",
    "fs2_size",
    "fs3_size",
    "cpu_count",
    "boot_time",
    "inodes_total",
    "net0_mtu",
    "procs_blocked",
    "users",
    "zombies",
    "sockets_alloc",
    "net_errs",
    "net_drops",
    "fs_ro",
    "updates_pending",
];

/// The series as a host of ours declares them: values are what G1 says, `raw / div`.
#[must_use]
pub fn schema() -> Schema {
    let one = |(i, name): (usize, &&str)| {
        let kind = match i {
            30..=51 => Kind::Counter,
            _ => Kind::Gauge,
        };
        Series::new(name, kind).quantum(1, div(i))
    };
    Schema::new(NAMES.iter().enumerate().map(one).collect())
}

/// What a raw value of a series is divided by.
#[must_use]
pub const fn div(series: usize) -> u32 {
    match series {
        0..=9 => 100,
        10..=29 => 10,
        _ => 1,
    }
}

/// One host, tick after tick.
#[derive(Debug, Clone)]
pub struct Host {
    number: u64,
    tick: u64,
    row: Vec<i64>,
}

impl Host {
    /// The host of a number, before its first tick.
    #[must_use]
    pub fn new(number: u64) -> Host {
        Host {
            number,
            tick: 0,
            row: vec![0; SERIES],
        }
    }

    /// Ticks that were made so far.
    #[must_use]
    pub fn ticks(&self) -> u64 {
        self.tick
    }

    /// The raw values of the next tick.
    pub fn next_row(&mut self) -> &[i64] {
        let (host, tick) = (self.number, self.tick);
        for (series, x) in (0..).zip(&mut self.row) {
            let word = word(key(host, series), tick);
            *x = if tick == 0 {
                first(series, word)
            } else {
                after(*x, host, series, word)
            };
        }
        self.tick += 1;
        &self.row
    }

    /// How much later than its time a tick is, with so many milliseconds of jitter to either side.
    #[must_use]
    #[allow(
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        reason = "a few milliseconds"
    )]
    pub fn late_ms(&self, tick: u64, jitter_ms: i64) -> i64 {
        let span = 2 * jitter_ms as u64 + 1;
        (word(key(self.number, JITTER), tick) % span) as i64 - jitter_ms
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

pub(super) fn key(host: u64, series: u64) -> u64 {
    mix(SEED.wrapping_add((host * 71 + series + 1).wrapping_mul(GOLDEN)))
}

pub(super) fn word(key: u64, tick: u64) -> u64 {
    mix(key.wrapping_add((tick + 1).wrapping_mul(GOLDEN)))
}

#[allow(clippy::cast_possible_wrap, reason = "all below 2^41")]
fn first(series: u64, w: u64) -> i64 {
    (match series {
        0..=9 => w % 10_001,
        10..=29 => w % 1_001,
        30..=37 => w % (1 << 40),
        38..=45 => w % (1 << 28) * 4_096,
        46..=51 => w % (1 << 32),
        52..=61 => (1 + w % 64) * 1_048_576,
        _ => w % 1_000,
    }) as i64
}

#[allow(clippy::cast_possible_wrap, reason = "steps of at most some millions")]
fn after(x: i64, host: u64, series: u64, w: u64) -> i64 {
    match series {
        0..=9 => (x + (w % 301) as i64 - 150).clamp(0, 10_000),
        10..=29 => (x + (w % 21) as i64 - 10).clamp(0, 1_000),
        30..=37 if host.is_multiple_of(4) => x + (w % 1_250_001) as i64,
        30..=37 => x + (w % 20_001) as i64,
        38..=45 if (w >> 32) % 8 < 5 => x,
        38..=45 => x + (w % 256 + 1) as i64 * 4_096,
        46..=51 => x + (w % 5_000) as i64,
        52..=61 => x,
        _ if w.is_multiple_of(256) => ((w >> 8) % 1_000) as i64,
        _ => x,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// The hash is that of other programs that make the same set, in another language too.
    #[test]
    fn the_numbers_are_those_of_everybody() {
        let (schema, mut text) = (schema(), String::new());
        let mut hosts: Vec<Host> = (0..3).map(Host::new).collect();
        for tick in 0..50 {
            for (number, host) in hosts.iter_mut().enumerate() {
                let time = 1_700_000_000_000i64 + tick * TICK_MS;
                for (series, raw) in schema.series().iter().zip(host.next_row()) {
                    let (name, value) = (&series.name, series.value(*raw));
                    writeln!(text, "{time},host_{number:04},{name},{value}").unwrap();
                }
            }
        }
        let hash = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        let hash = data_encoding::HEXLOWER.encode(hash.as_ref());
        let want = "5d6a01ce306e7be9adfb085e7433a7ed6f5540c0f6ea8d45f4107aaa4798a65a";
        assert_eq!(hash, want);
    }

    #[test]
    fn jitter_stays_within_its_bound() {
        let host = Host::new(7);
        let late: Vec<i64> = (0..1_000).map(|tick| host.late_ms(tick, 5)).collect();
        let (least, most) = (late.iter().min().unwrap(), late.iter().max().unwrap());
        assert_eq!((*least, *most, host.late_ms(3, 0)), (-5, 5, 0));
    }
}
