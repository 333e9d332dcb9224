//! Whole trees of `/proc` and `/sys`, read as one: `fixtures/` of this crate.
//!
//! - `small`: captured on a virtual machine of two CPUs.
//! - `server`: 16 CPUs, many disks, mounts and interfaces; a filesystem gone read-only; a sandboxed agent.
//! - `bare`: a tiny old machine without PSI, with PID 1 hidden, and with lines that no kernel should write.
//!
//! Nobody answers for systemd here: `tests/tests/units.rs` has a bus.
//!
//! `UPDATE_GOLDEN=1` writes the expected texts anew.

use std::ffi::CStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dawnwatch_proto::series::SERIES_MAX;
use dawnwatch_proto::{MISSING, Schema};

use super::slots::{GONE_READS, SETTLE_READS};
use super::*;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn roots(dir: &Path) -> Roots {
    Roots {
        proc: dir.join("proc"),
        sys: dir.join("sys"),
        bus: dir.join("bus"),
        asks: Asks {
            usage,
            mounts_changed: |_| true,
            elapsed_us: || 1_000,
            unix_s: || 1_800_000_000,
            own_cpu_ms: || 12_345,
            machine: || "x86_64".to_owned(),
            page_bytes: 4096,
            ticks_per_second: 100,
        },
        board: crate::probe::Board::default(),
        offset: crate::clock::Offset::default(),
    }
}

/// Filesystems that the fixtures have.
fn usage(path: &CStr) -> io::Result<Usage> {
    const MIB: u64 = 1 << 20;
    let (size, free, avail, files) = match path.to_bytes() {
        b"/" => (50_000 * MIB, 20_000 * MIB, 17_500 * MIB, 3_276_800),
        b"/boot/efi" => (64 * MIB, 60 * MIB, 60 * MIB, 0),
        b"/locked" => return Err(io::ErrorKind::PermissionDenied.into()),
        _ => (1_000 * MIB + 4096, 250 * MIB, 250 * MIB, 65_536),
    };
    Ok(Usage {
        size,
        free,
        avail,
        files,
        files_free: files / 2,
        readonly: false,
    })
}

/// The text of one tree, troubles on top, against its golden text.
fn check(name: &str) {
    let mut collectors = Collectors::new(roots(&fixtures().join(name)));
    collectors.looks().look();
    let reading = collectors.read();
    let mut text = String::new();
    for (subject, trouble) in &reading.troubles {
        let trouble = trouble.replace(&fixtures().display().to_string(), "FIXTURES");
        text.push_str(&format!("# trouble: {subject}: {trouble}\n"));
    }
    text.push_str(&show(&reading));
    let path = fixtures().join(format!("{name}.prom"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, want, "{name}");
    let again = collectors.read();
    assert_eq!(again.row, reading.row, "the same files give the same row");
    assert!(Arc::ptr_eq(&again.schema, &reading.schema));
    assert_eq!(again.troubles, [], "a trouble is told once");
}

#[test]
fn a_small_virtual_machine() {
    check("small");
}

#[test]
fn a_large_server() {
    check("server");
}

#[test]
fn a_bare_machine_with_odd_tables() {
    check("bare");
}

/// A copy of a tree that a test may change.
fn copy(name: &str) -> (tempfile::TempDir, Collectors) {
    let dir = tempfile::tempdir().unwrap();
    copy_tree(&fixtures().join(name), dir.path());
    let collectors = Collectors::new(roots(dir.path()));
    (dir, collectors)
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Adds lines to a file in place, as the kernel would.
fn append(dir: &tempfile::TempDir, file: &str, lines: &str) -> String {
    let path = dir.path().join(file);
    let before = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{before}{lines}")).unwrap();
    before
}

fn put(dir: &tempfile::TempDir, file: &str, text: &str) {
    let path = dir.path().join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn many_arrays() -> String {
    let array =
        |i| format!("md{i} : active raid1 sdb1[1] sda1[0]\n      10 blocks super 1.2 [2/2] [UU]\n");
    (1..30).map(array).collect()
}

fn columns(schema: &Schema, label: &str, value: &str) -> Vec<usize> {
    let with = schema
        .series()
        .iter()
        .enumerate()
        .filter(|(_, one)| one.get(label) == Some(value));
    with.map(|(i, _)| i).collect()
}

#[test]
fn a_disk_appears_and_vanishes() {
    let (dir, mut collectors) = copy("small");
    let first = collectors.read();
    let line = "8 16 sdb 10 0 80 5 4 0 32 6 0 9 11\n";
    let before = append(&dir, "proc/diskstats", line);
    let mut reading = collectors.read();
    for _ in 1..SETTLE_READS {
        assert!(
            Arc::ptr_eq(&reading.schema, &first.schema),
            "it must settle first"
        );
        reading = collectors.read();
    }
    let columns = columns(&reading.schema, "device", "sdb");
    assert_eq!(columns.len(), disk::METRICS.len());
    let values: Vec<i64> = columns.iter().map(|i| reading.row[*i]).collect();
    assert_eq!(values, [10, 40, 5, 4, 16, 6, 9, 11]);

    std::fs::write(dir.path().join("proc/diskstats"), before).unwrap();
    for _ in 0..GONE_READS {
        let gone = collectors.read();
        assert!(
            Arc::ptr_eq(&gone.schema, &reading.schema),
            "its columns stay for a while"
        );
        assert!(columns.iter().all(|i| gone.row[*i] == MISSING));
        assert_eq!(gone.row.len(), gone.schema.series().len());
    }
    let after = collectors.read();
    assert_eq!(after.schema.id(), first.schema.id());
    assert_eq!(after.row.len(), first.row.len());
}

#[test]
fn a_filesystem_comes_and_goes() {
    let (dir, mut collectors) = copy("small");
    let first = collectors.read();
    let mount = "90 28 0:80 / /mnt/tape rw - tmpfs tmpfs rw\n";
    let tables = ["proc/1/mountinfo", "proc/self/mountinfo"];
    let before = tables.map(|table| append(&dir, table, mount));
    for _ in 1..SETTLE_READS {
        collectors.read();
    }
    let reading = collectors.read();
    let columns = columns(&reading.schema, "mountpoint", "/mnt/tape");
    assert_eq!(columns.len(), filesystem::METRICS.len());
    assert!(columns.iter().all(|i| reading.row[*i] != MISSING));
    for (table, text) in tables.iter().zip(before) {
        std::fs::write(dir.path().join(table), text).unwrap();
    }
    let gone = collectors.read();
    assert!(Arc::ptr_eq(&gone.schema, &reading.schema));
    let parent = "an unmounted filesystem must not show its parent's values";
    assert!(columns.iter().all(|i| gone.row[*i] == MISSING), "{parent}");
    assert_eq!(gone.troubles, [], "unmounting is no failure");
    for _ in 0..GONE_READS {
        collectors.read();
    }
    assert_eq!(collectors.read().schema.id(), first.schema.id());
}

#[test]
fn a_link_learns_its_speed() {
    let (dir, mut collectors) = copy("small");
    let name = "node_network_speed_bytes";
    let speed = |reading: &Reading| {
        let at = reading
            .schema
            .series()
            .iter()
            .position(|one| one.name == name);
        at.map(|at| (at, reading.row[at]))
    };
    assert_eq!(speed(&collectors.read()), None);
    std::fs::write(dir.path().join("sys/class/net/eth0/speed"), "1000\n").unwrap();
    let known = (0..10).find_map(|_| speed(&collectors.read()));
    let (at, raw) = known.expect("within a minute of ticks");
    assert_eq!(raw, 1000);
    std::fs::write(dir.path().join("sys/class/net/eth0/speed"), "-1\n").unwrap();
    let lost = (0..10).find(|_| collectors.read().row[at] == MISSING);
    assert!(lost.is_some(), "unknown again, its column stays");
}

#[test]
fn a_counter_that_wraps_is_handed_on_as_it_is() {
    let (dir, mut collectors) = copy("bare");
    let line = |ms: u64| format!(" 179 0 mmcblk0 10 0 80 5 4 0 32 6 0 {ms} 11\n");
    let path = dir.path().join("proc/diskstats");
    let mut values = Vec::new();
    for ms in [u64::from(u32::MAX), 7] {
        std::fs::write(&path, line(ms)).unwrap();
        let reading = collectors.read();
        let name = "node_disk_io_time_seconds_total";
        let at = reading
            .schema
            .series()
            .iter()
            .position(|one| one.name == name)
            .unwrap();
        values.push(reading.row[at]);
    }
    assert_eq!(values, [i64::from(u32::MAX), 7]);
}

#[test]
fn a_container_that_starts_leaves_the_schema_alone() {
    let (dir, mut collectors) = copy("small");
    let first = collectors.read();
    append(
        &dir,
        "proc/net/dev",
        "vethab12cd: 1000 10 0 0 0 0 0 0 2000 20 0 0 0 0 0 0\n",
    );
    let mount = "90 28 0:80 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw\n";
    for table in ["proc/1/mountinfo", "proc/self/mountinfo"] {
        append(&dir, table, mount);
    }
    for _ in 0..GONE_READS {
        assert!(Arc::ptr_eq(&collectors.read().schema, &first.schema));
    }
}

#[test]
fn a_filesystem_that_goes_read_only_shows_at_the_next_read() {
    let (dir, mut collectors) = copy("server");
    let reading = collectors.read();
    let at = reading.schema.series().iter().position(|one| {
        one.name == "node_filesystem_readonly" && one.get("mountpoint") == Some("/")
    });
    let at = at.unwrap();
    assert_eq!(
        reading.row[at], 0,
        "the sandbox's own read-only view is not the host's"
    );
    let path = dir.path().join("proc/1/mountinfo");
    let table = std::fs::read_to_string(&path).unwrap();
    let table = table.replace("/dev/nvme0n1p2 rw", "/dev/nvme0n1p2 ro");
    std::fs::write(&path, table).unwrap();
    assert_eq!(collectors.read().row[at], 1);
    std::fs::remove_file(&path).unwrap();
    let mut blind = Collectors::new(roots(dir.path()));
    let reading = blind.read();
    assert!(
        reading
            .troubles
            .iter()
            .any(|(_, text)| text.contains("hidepid"))
    );
    let flags = reading.schema.series().iter().zip(&reading.row);
    let mut flags = flags.filter(|(one, _)| one.name == "node_filesystem_readonly");
    assert!(flags.all(|(_, raw)| *raw == MISSING), "unknown, never 1");
}

#[test]
fn a_filesystem_that_turns_itself_read_only_shows_within_a_minute() {
    let dir = tempfile::tempdir().unwrap();
    copy_tree(&fixtures().join("server"), dir.path());
    let mut roots = roots(dir.path());
    roots.asks.mounts_changed = |_| false;
    let mut collectors = Collectors::new(roots);
    let flag = |reading: &Reading| {
        let flags = reading.schema.series().iter().zip(&reading.row);
        let mut flags = flags.filter(|(one, _)| one.name == "node_filesystem_readonly");
        *flags
            .find(|(one, _)| one.get("mountpoint") == Some("/"))
            .unwrap()
            .1
    };
    assert_eq!(flag(&collectors.read()), 0);
    let path = dir.path().join("proc/1/mountinfo");
    let table = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        table.replace("/dev/nvme0n1p2 rw", "/dev/nvme0n1p2 ro"),
    )
    .unwrap();
    let reads = (1..=6).find(|_| flag(&collectors.read()) == 1);
    assert!(reads.is_some_and(|reads| reads > 1), "{reads:?}");
}

#[test]
fn the_kernel_tells_of_mounts_only_when_they_change() {
    let file = std::fs::File::open("/proc/self/mountinfo").unwrap();
    assert!(!(Asks::default().mounts_changed)(&file));
}

#[test]
fn a_collector_that_breaks_leaves_the_others_alone() {
    let (dir, mut collectors) = copy("small");
    let first = collectors.read();
    std::fs::write(dir.path().join("proc/meminfo"), "nothing\n").unwrap();
    let broken = collectors.read();
    assert!(Arc::ptr_eq(&broken.schema, &first.schema));
    for ((one, was), is) in first
        .schema
        .series()
        .iter()
        .zip(&first.row)
        .zip(&broken.row)
    {
        let memory = one.name.starts_with("node_memory_");
        let success = one.get("collector") == Some("meminfo");
        let want = if memory {
            MISSING
        } else {
            *was * i64::from(!success)
        };
        assert_eq!(*is, want, "{one}");
    }
    assert_eq!(broken.troubles.len(), 1);
    assert!(
        broken.troubles[0]
            .1
            .ends_with("meminfo is not understood: it has no MemTotal")
    );
    std::fs::copy(
        fixtures().join("small/proc/meminfo"),
        dir.path().join("proc/meminfo"),
    )
    .unwrap();
    assert_eq!(collectors.read().row, first.row);
}

#[test]
fn a_machine_at_every_bound_stays_under_the_bound_of_series() {
    let (dir, mut collectors) = copy("server");
    let (mut disks, mut mounts, mut links) = (String::new(), String::new(), String::new());
    for i in 0..200 {
        disks += &format!("253 {i} dm-{i}x 10 0 80 5 4 0 32 6 0 9 11\n");
        mounts += &format!("{i} 28 9:{i} / /srv/{i} rw - xfs /dev/mapper/{i} rw\n");
        links += &format!("br{i}: 1000 10 0 0 0 0 0 0 2000 20 0 0 0 0 0 0\n");
    }
    append(&dir, "proc/diskstats", &disks);
    append(&dir, "proc/1/mountinfo", &mounts);
    append(&dir, "proc/self/mountinfo", &mounts);
    append(&dir, "proc/net/dev", &links);
    append(&dir, "proc/mdstat", &many_arrays());
    for i in 0..200 {
        for (file, text) in [
            ("temp1_input", "40000"),
            ("temp1_crit", "90000"),
            ("temp1_crit_alarm", "0"),
        ] {
            put(&dir, &format!("sys/class/hwmon/hwmon{i}/{file}"), text);
        }
        put(
            &dir,
            &format!("sys/class/hwmon/hwmon{i}/name"),
            &format!("chip{i}"),
        );
        put(
            &dir,
            &format!("sys/fs/cgroup/system.slice/s{i}.service/memory.current"),
            "4096",
        );
    }
    collectors.looks().look();
    let reading = collectors.read();
    // Units of systemd, at most 24 of them with two columns each, and their five counts: nobody answers for it here.
    const UNITS: usize = 24 * 2 + 5;
    let series = reading.schema.series().len();
    assert_eq!(series, reading.row.len());
    let series = series + UNITS;
    assert!(
        (1_400..SERIES_MAX - 30).contains(&series),
        "{series}: the server takes them all"
    );
    let more = reading
        .troubles
        .iter()
        .filter(|(_, text)| text.starts_with("more than "));
    assert_eq!(
        more.count(),
        5,
        "what found no room is said: {:?}",
        reading.troubles
    );
}

/// Values of a name by its first label's value, as the next tick has them.
fn by_label(collectors: &mut Collectors, name: &str) -> Vec<(String, i64)> {
    let reading = collectors.read();
    let all = reading.schema.series().iter().zip(&reading.row);
    all.filter(|(one, _)| one.name == name)
        .map(|(one, raw)| (one.labels[0].1.clone(), *raw))
        .collect()
}

#[test]
fn what_is_slow_comes_with_the_next_look() {
    let (dir, mut collectors) = copy("server");
    let memory = "dawnwatch_unit_memory_bytes";
    assert_eq!(by_label(&mut collectors, memory), [], "nobody looked yet");
    let mut looks = collectors.looks();
    looks.look();
    let file = "sys/fs/cgroup/system.slice/nginx.service/memory.current";
    let nginx = |collectors: &mut Collectors| {
        let all = by_label(collectors, memory);
        all.iter()
            .find(|(unit, _)| unit == "nginx.service")
            .map(|(_, raw)| *raw)
    };
    assert_eq!(nginx(&mut collectors), Some(2_048));
    put(&dir, file, "65536");
    assert_eq!(
        nginx(&mut collectors),
        Some(2_048),
        "a tick reads no slow file"
    );
    looks.look();
    assert_eq!(nginx(&mut collectors), Some(1));
    // A service inside of another is that one's own affair.
    let units = by_label(&mut collectors, memory);
    assert!(
        units.iter().all(|(unit, _)| unit != "inner.service"),
        "{units:?}"
    );
}

#[test]
fn what_nobody_looks_at_any_more_is_missing() {
    thread_local!(static NOW_US: std::cell::Cell<i64> = const { std::cell::Cell::new(0) });
    let dir = tempfile::tempdir().unwrap();
    copy_tree(&fixtures().join("server"), dir.path());
    let mut roots = roots(dir.path());
    roots.asks.elapsed_us = || NOW_US.get();
    let mut collectors = Collectors::new(roots);
    collectors.looks().look();
    let minutes = |minutes: i64| NOW_US.set(minutes * 60_000_000);
    let name = "node_hwmon_temp_celsius";
    minutes(3);
    let shown = by_label(&mut collectors, name);
    assert!(shown.len() > 2 && shown[0].1 == 108, "{shown:?}");
    minutes(4);
    let stuck = by_label(&mut collectors, name);
    assert_eq!(stuck.len(), shown.len(), "its columns stay");
    assert!(stuck.iter().all(|(_, raw)| *raw == MISSING));
}

#[test]
fn chips_are_named_by_their_device() {
    let (dir, mut collectors) = copy("small");
    put(
        &dir,
        "sys/devices/platform/coretemp.0/hwmon/hwmon0/temp1_input",
        "45250",
    );
    std::fs::create_dir_all(dir.path().join("sys/class/hwmon")).unwrap();
    let at = dir.path().join("sys/devices/platform/coretemp.0");
    std::os::unix::fs::symlink(&at, at.join("hwmon/hwmon0/device")).unwrap();
    let link = dir.path().join("sys/class/hwmon/hwmon0");
    std::os::unix::fs::symlink(at.join("hwmon/hwmon0"), link).unwrap();
    collectors.looks().look();
    let got = by_label(&mut collectors, "node_hwmon_temp_celsius");
    assert_eq!(got, [("platform_coretemp_0".to_owned(), 91)]);
}

#[test]
fn every_series_is_in_the_table_of_metrics_once() {
    let names: Vec<&str> = METRICS
        .iter()
        .copied()
        .flatten()
        .map(|metric| metric.name)
        .collect();
    let mut unique = names.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), names.len());
    let mut collectors = Collectors::new(roots(&fixtures().join("server")));
    collectors.looks().look();
    let reading = collectors.read();
    for one in reading.schema.series() {
        assert!(names.contains(&one.name.as_str()), "{one}");
    }
    assert!(
        Schema::from_pb(reading.schema.to_pb(1)).is_ok(),
        "the server takes it"
    );
}

#[test]
fn this_machine_can_be_read() {
    let mut collectors = Collectors::new(Roots::default());
    let (first, second) = (collectors.read(), collectors.read());
    assert_eq!(first.row.len(), first.schema.series().len());
    let at = |name: &str| {
        first
            .schema
            .series()
            .iter()
            .position(|one| one.name == name)
            .unwrap()
    };
    let total = at("node_memory_MemTotal_bytes");
    assert!(first.row[total] > 0);
    for (i, one) in first.schema.series().iter().enumerate() {
        let missing = first.row[i] == MISSING || second.row[i] == MISSING;
        if one.name == "node_cpu_seconds_total" && !missing {
            assert!(second.row[i] >= first.row[i], "{one} fell");
        }
    }
}
