//! What an hour of a host costs: in memory while it is not sealed, by what this process grew by, and on disk after. All of
//! it of a fleet of G1; `DAWNWATCH_HOSTS` names another number of hosts.

#[path = "../engine/tests/blocks/g1.rs"]
mod g1;

use std::path::Path;
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};

use dawnwatch_proto::{HostId, Kind, Schema, SchemaId, Series};
use dawnwatch_segment::{Disk, RealDisk};
use dawnwatch_server::history::History;
use dawnwatch_server::history::head::{Head, Row};
use jiff::Timestamp;

/// Resident KiB of this process.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process has a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let digits = line.expect("resident memory").trim();
    let digits = digits.trim_end_matches(" kB").trim();
    digits.parse().expect("a number")
}

fn hosts() -> u64 {
    let hosts = std::env::var("DAWNWATCH_HOSTS");
    hosts.map_or(60, |hosts| hosts.parse().expect("a number"))
}

/// Resident memory is the whole process's: these tests take turns.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn an_hour_of_a_host_stays_small() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let hosts = hosts();
    let mut head = Head::default();
    // What the allocator takes once is not the hosts'.
    fill(&mut head, 1_000_000);
    let before = resident_kib();
    (0..hosts).for_each(|host| fill(&mut head, host));
    let each = (resident_kib() - before) / hosts;
    println!("{hosts} hosts: {each} KiB each");
    assert!(each > 10, "{each} KiB a host: nothing was measured");
    // 10,000 hosts within a quarter of 4 GiB.
    assert!(each < 100, "{each} KiB a host");
    assert_eq!(head.begin_seal().len() as u64, hosts + 1);
}

/// An hour of a host, but for one row: then most is held raw.
fn fill(head: &mut Head, host: u64) {
    let (times, rows) = g1::host(host, 359, 5);
    for (time_ms, values) in times.into_iter().zip(rows) {
        let row = Row {
            time_ms,
            schema: SchemaId(1),
            values: values.into(),
            position: 1,
        };
        head.push(HostId(u128::from(host)), row);
    }
}

/// From the first tick of G1 to the next full hour, when hours are sealed.
const TO_THE_HOUR_MS: i64 = 2_800_000;

fn schema() -> Schema {
    let series = (0..g1::SERIES).map(|s| {
        let kind = match s {
            30..52 => Kind::Counter,
            _ => Kind::Gauge,
        };
        Series::new(&format!("node_series_{s}"), kind)
    });
    Schema::new(series.collect())
}

/// Bytes of the files of a directory whose names end so.
fn bytes(dir: &Path, ends: &str) -> u64 {
    let files = std::fs::read_dir(dir).expect("a directory");
    let files = files.map(|file| file.expect("a file").path());
    let files = files.filter(|path| path.to_string_lossy().ends_with(ends));
    files
        .map(|path| path.metadata().expect("a file").len())
        .sum()
}

#[test]
fn an_hour_on_disk_stays_small() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for (jitter_ms, most) in [(0, 0.755), (5, 0.765)] {
        let data = tempfile::tempdir().expect("a directory");
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let (history, damage) = History::open(&disk, data.path()).expect("history");
        assert_eq!(damage, [""; 0]);
        let schema = schema();
        for host in 0..hosts() {
            let id = HostId(u128::from(host));
            history.schema(id, &schema).expect("kept");
            let (times, rows) = g1::host(host, 360, jitter_ms);
            for (time_ms, values) in times.into_iter().zip(rows) {
                let row = Row {
                    time_ms: time_ms + TO_THE_HOUR_MS,
                    schema: schema.id(),
                    values: values.into(),
                    position: 1,
                };
                history.push(id, row, 0);
            }
        }
        let sealing = history.begin_seal();
        history
            .seal(&sealing, 1, Timestamp::UNIX_EPOCH)
            .expect("sealed");
        history.summarise().expect("summaries");
        let dir = data.path().join("history");
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        let each = |bytes: u64| bytes as f64 / (hosts() * 360 * g1::SERIES) as f64;
        let (raw, hourly) = (each(bytes(&dir, ".dwh")), each(bytes(&dir, ".1h.dws")));
        println!("G1 +-{jitter_ms} ms: {raw:.4} bytes a sample, and {hourly:.4} of summaries");
        assert!(raw > 0.718 && raw < most, "{raw}");
        assert!(hourly > 0.0 && hourly < 0.022, "{hourly}");
    }
}
