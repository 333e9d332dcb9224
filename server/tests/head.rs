//! What a host costs in memory while its hour is not sealed: rows and mini blocks of a fleet of G1, by what this process
//! grew by. `DAWNWATCH_HOSTS` names another number of hosts.

#[path = "../engine/tests/blocks/g1.rs"]
mod g1;

use dawnwatch_proto::{HostId, SchemaId};
use dawnwatch_server::history::head::{Head, Row};

/// Resident KiB of this process.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process has a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let digits = line.expect("resident memory").trim();
    let digits = digits.trim_end_matches(" kB").trim();
    digits.parse().expect("a number")
}

#[test]
fn an_hour_of_a_host_stays_small() {
    let hosts = std::env::var("DAWNWATCH_HOSTS");
    let hosts = hosts.map_or(60, |hosts| hosts.parse().expect("a number"));
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
