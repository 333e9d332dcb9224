//! What was measured beside what was wanted, as a Markdown table.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::{Line, Measured, SLICES};

/// Server CPU for a push of one agent that VictoriaMetrics takes, measured on this kind of machine; DESIGN section 9.
const VICTORIA_PUSH_US: f64 = 148.0;

/// Goals of DESIGN section 9.
const CPU_RATIO_MAX: f64 = 0.25;
const PSS_MIB_MAX: f64 = 7.0;
const TICK_BYTES_MAX: f64 = 220.0;

/// Prints everything.
#[allow(clippy::print_stdout, reason = "the table is what this program is for")]
pub(crate) fn print(line: &Line, measured: &Measured, load_before: &str) {
    let today = dawnwatch_agent::clock::Clock
        .wall()
        .to_zoned(TimeZone::UTC)
        .date();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "{today}, {cpus} CPUs, load {load_before} before, {} after",
        load.trim()
    );
    println!();
    println!("| what | dawnwatch | beside it | ratio | goal |");
    println!("|---|---|---|---|---|");
    cpu(measured);
    memory(measured);
    wire(measured);
    server(line, measured);
}

#[allow(clippy::print_stdout, reason = "the table is what this program is for")]
fn cpu(measured: &Measured) {
    let (spent, time) = measured.whole;
    let [ours, same, all] = measured.cpu.each_ref().map(|slices| median(slices));
    let [series, same_series, all_series] = measured.series;
    for (what, peer, peer_series, goal) in [
        (
            "the same six subjects",
            same,
            same_series,
            format!("<= {CPU_RATIO_MAX}"),
        ),
        ("all our subjects", all, all_series, String::new()),
    ] {
        println!(
            "| CPU of a collection, median of {SLICES} | {:.0} us ({series} series) | node_exporter, {what}: {:.0} us ({peer_series} series) | {:.2} | {goal} |",
            micros(ours),
            micros(peer),
            ratio(ours, peer),
        );
    }
    println!(
        "| CPU with everything on, a tick every 10 s, pings every 2 s ({} series) | {:.0} us a second | node_exporter, scraped every 10 s: {:.0} us a second, and it pings nobody and reads no logs | | |",
        measured.real_series,
        micros(spent) / time.as_secs_f64(),
        micros(same) / 10.0,
    );
    let spread = |slices: &[Duration]| {
        let list: Vec<String> = slices
            .iter()
            .map(|s| format!("{:.0}", micros(*s)))
            .collect();
        list.join(" ")
    };
    println!(
        "| its slices, us | {} | {} | | |",
        spread(&measured.cpu[0]),
        spread(&measured.cpu[1])
    );
}

#[allow(clippy::print_stdout, reason = "the table is what this program is for")]
fn memory(measured: &Measured) {
    let [ours, same, all] = measured
        .pss_kib
        .map(|kib| u32::try_from(kib).unwrap_or(u32::MAX));
    let mib = |kib: u32| f64::from(kib) / 1024.0;
    println!(
        "| memory (PSS), everything on | {:.1} MiB | node_exporter: {:.1} MiB (all our subjects, text shared: {:.1}) | {:.2} | <= {PSS_MIB_MAX} MiB |",
        mib(ours),
        mib(same),
        mib(all),
        mib(ours) / mib(same),
    );
}

#[allow(clippy::print_stdout, reason = "the table is what this program is for")]
fn wire(measured: &Measured) {
    for (what, series, (ticks, passed), goal) in [
        (
            "a tick every 10 s, everything on",
            measured.real_series,
            measured.real,
            format!("<= {TICK_BYTES_MAX} B at some 80 series"),
        ),
        (
            "a tick every 10 s, collecting alone",
            measured.plain_series,
            measured.plain,
            format!("<= {TICK_BYTES_MAX} B at some 80 series"),
        ),
        (
            "a tick every second, collecting alone",
            measured.plain_series,
            measured.quick,
            String::new(),
        ),
    ] {
        let each = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / ticks;
        println!(
            "| wire per tick, {what} ({series} series, {ticks:.1} ticks) | {:.0} B ({:.0} up, {:.0} down, {:.1} segments; announced besides: {} B) | one scrape, gzip, answer alone: {} B | {:.2} | {goal} |",
            each(passed.up + passed.down),
            each(passed.up),
            each(passed.down),
            each(passed.reads),
            passed.announced,
            measured.scrape_bytes[0],
            each(passed.up + passed.down) / each(measured.scrape_bytes[0]) / ticks,
        );
    }
}

#[allow(clippy::print_stdout, reason = "the table is what this program is for")]
fn server(line: &Line, measured: &Measured) {
    for ((spent, pushed), rate, pace, goal) in [
        (
            measured.load[1],
            line.busy_rate,
            "busy, as the peer was",
            format!("<= {CPU_RATIO_MAX}"),
        ),
        (
            measured.load[0],
            line.rate,
            "one by one on an idle machine",
            String::new(),
        ),
    ] {
        let push = micros(spent) / f64::from(u32::try_from(pushed).unwrap_or(u32::MAX));
        println!(
            "| server CPU of a pushed tick, {pace} ({} hosts, {rate} ticks/s) | {push:.0} us | VictoriaMetrics, earlier, busy: {VICTORIA_PUSH_US} us | {:.2} | {goal} |",
            line.hosts,
            push / VICTORIA_PUSH_US,
        );
    }
    let (spent, time) = measured.idle;
    println!(
        "| server CPU with all streams open and nobody pushing | {:.2} ms a second | | | |",
        micros(spent) / 1_000.0 / time.as_secs_f64(),
    );
}

fn median(slices: &[Duration]) -> Duration {
    let mut sorted = slices.to_vec();
    sorted.sort();
    sorted[sorted.len() / 2]
}

fn ratio(ours: Duration, theirs: Duration) -> f64 {
    ours.as_secs_f64() / theirs.as_secs_f64()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
