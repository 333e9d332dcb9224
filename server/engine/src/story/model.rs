//! A host of a story: what it would measure.

use std::collections::BTreeMap;

use dawnwatch_proto::{HostId, Item, Kind, Schema, Series};
use jiff::Timestamp;

use crate::input::HostCard;

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

#[derive(Debug)]
pub(super) struct HostModel {
    pub(super) id: HostId,
    pub(super) joined: Timestamp,
    pub(super) up: bool,
    pub(super) cut: bool,
    pub(super) draining: bool,
    pub(super) clock_ms: i64,
    pub(super) boot: u32,
    pub(super) epoch: u64,
    pub(super) seq: u64,
    pub(super) spool: Vec<Item>,
    pub(super) schema: Schema,
    pub(super) values: BTreeMap<String, f64>,
    pub(super) counters: BTreeMap<String, f64>,
}

impl HostModel {
    pub(super) fn new(id: HostId, joined: Timestamp, disks: &str) -> HostModel {
        let gauge = |name: &str| Series::new(name, Kind::Gauge);
        let mut series = vec![
            gauge("node_memory_MemTotal_bytes").quantum(1024, 1),
            gauge("node_memory_MemAvailable_bytes").quantum(1024, 1),
            gauge("node_memory_SwapTotal_bytes").quantum(1024, 1),
            gauge("node_memory_SwapFree_bytes").quantum(1024, 1),
        ];
        for mode in ["user", "idle"] {
            let cpu = Series::new("node_cpu_seconds_total", Kind::Counter);
            series.push(cpu.label("cpu", "0").label("mode", mode).quantum(1, 100));
        }
        for disk in disks.split(',') {
            for name in ["size_bytes", "avail_bytes", "free_bytes"] {
                let bytes = gauge(&format!("node_filesystem_{name}")).quantum(1024, 1);
                series.push(bytes.label("mountpoint", disk));
            }
            let readonly = gauge("node_filesystem_readonly");
            series.push(readonly.label("mountpoint", disk));
        }
        HostModel {
            id,
            joined,
            up: false,
            cut: false,
            draining: false,
            clock_ms: 0,
            boot: 0,
            epoch: 0,
            seq: 0,
            spool: Vec::new(),
            schema: Schema::new(series),
            values: BTreeMap::new(),
            counters: BTreeMap::new(),
        }
    }

    pub(super) fn card(&self, name: &str, retired: bool) -> HostCard {
        let name = name.to_owned();
        HostCard {
            id: self.id,
            name,
            joined: self.joined,
            labels: Vec::new(),
            retired,
        }
    }

    pub(super) fn value(&self, name: &str, default: f64) -> f64 {
        self.values.get(name).copied().unwrap_or(default)
    }

    /// Ten seconds of counters.
    pub(super) fn pass(&mut self) {
        let cpu = self.value("cpu", 0.05);
        *self.counters.entry("user".to_owned()).or_default() += cpu * 10.0;
        *self.counters.entry("idle".to_owned()).or_default() += (1.0 - cpu) * 10.0;
    }

    pub(super) fn row(&self) -> Vec<i64> {
        let raw = |series: &Series| -> f64 {
            let disk = series.get("mountpoint").unwrap_or("/");
            match series.name.as_str() {
                "node_memory_MemTotal_bytes" => 16.0 * GIB,
                "node_memory_MemAvailable_bytes" => 16.0 * GIB * (1.0 - self.value("memory", 0.4)),
                "node_memory_SwapTotal_bytes" => 2.0 * GIB,
                "node_memory_SwapFree_bytes" => 2.0 * GIB * (1.0 - self.value("swap", 0.0)),
                "node_filesystem_size_bytes" => 50.0 * GIB,
                "node_filesystem_readonly" => self.value(&format!("readonly:{disk}"), 0.0),
                "node_cpu_seconds_total" => {
                    let mode = series.get("mode").unwrap_or("idle");
                    self.counters.get(mode).copied().unwrap_or(0.0)
                }
                _ => 50.0 * GIB * (1.0 - self.value(disk, 0.3)),
            }
        };
        let integer = |series: &Series| {
            let value = raw(series) * f64::from(series.div) / f64::from(series.mul);
            #[allow(
                clippy::cast_possible_truncation,
                reason = "a made-up value far from 2^63"
            )]
            let integer = value.round() as i64;
            integer
        };
        self.schema.series().iter().map(integer).collect()
    }
}
