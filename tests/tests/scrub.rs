//! A disk that loses silently: bytes of sealed files change while the server is stopped. It starts all the same, finds the damage
//! without anybody asking, names file and span, reads all else, and makes anew what can be made.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use dawnwatch_proto::HostId;
use dawnwatch_proto::api::{History, NightHead, Now};
use dawnwatch_server::history::hour::HourFile;
use dawnwatch_tests::faketime::{FakeClock, real_now};
use dawnwatch_tests::house::{Agent, Launch, Server, ServerOptions, binary};
use dawnwatch_tests::needs::{Need, are_met};
use dawnwatch_tests::say;
use dawnwatch_tests::wait::{until, until_true};
use jiff::{SignedDuration, Timestamp};

/// A start, the first turn of the scrub through a few files, and what a loaded machine adds.
const SOON: Duration = Duration::from_secs(90);

/// Two hundred times the usual pace.
const TICK_MS: u64 = 50;

/// So many ticks make a block of several groups of columns.
const TICKS: usize = 360;

/// Series that are read before and after; they lie in more than one group of columns.
const SERIES: [&str; 6] = [
    "node_load1",
    "node_memory_MemFree_bytes",
    "node_context_switches_total",
    "dawnwatch_agent_resident_memory_bytes",
    "dawnwatch_agent_cpu_seconds_total",
    "node_vmstat_pgfault",
];

/// A block that is longer has two groups of columns at least.
const GROUPS_BYTES: u32 = 2 * 4_096;

/// What a host's series hold, by name.
type Points = BTreeMap<&'static str, Vec<(Timestamp, Option<f64>)>>;

#[test]
#[allow(
    clippy::too_many_lines,
    reason = "one life of a server, and its second"
)]
fn what_a_disk_loses_silently_is_found_without_anybody_asking() {
    if !are_met(&[Need::Faketime]) {
        return;
    }
    let _ = binary("dawnwatch-server");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut clock = FakeClock::new(dir.path(), real_now());
    let data = dir.path().join("server");
    fs::create_dir_all(&data).expect("the data directory");
    fs::write(data.join("dawnwatch.toml"), seals_soon(clock.now())).expect("the configuration");
    let options = ServerOptions {
        env: clock.env(),
        ..ServerOptions::default()
    };
    let mut server = Server::start(&data, &options);
    let token = server.token(2);
    let mut agents = ["web01", "web02"].map(|name| {
        let launch = Launch {
            env: clock.env(),
            ..Launch::default()
        };
        let state = dir.path().join(name);
        let mut agent = Agent::join_by(&state, name, server.address, &token.join, launch);
        agent.configure(
            TICK_MS,
            "ping = false\n[logs]\njournald = false\nfiles = []",
        );
        agent.start();
        agent
    });
    until_true("samples", SOON, || {
        ["web01", "web02"]
            .iter()
            .all(|host| points(&server, host)["node_load1"].len() > TICKS)
    });
    for agent in &mut agents {
        agent.stop();
    }
    let upto = clock.now();
    clock.set(clock.now() + SignedDuration::from_mins(61));
    let night = until("the night to be sealed", SOON, || {
        let nights: Vec<NightHead> = server.get("/api/v1/nights").ok()?;
        nights.into_iter().next_back()
    });
    let history = data.join("history");
    until_true("the hour and its summaries to be sealed", SOON, || {
        files(&history, ".dwh").len() == 1 && files(&history, ".1h.dws").len() == 1
    });
    let before = ["web01", "web02"].map(|host| points(&server, host));
    server.stop();
    assert_eq!(verified(&data).0, Some(0), "{}", verified(&data).1);

    // The last group of columns of a host's block; the other files in their middle.
    let hour = files(&history, ".dwh").remove(0);
    let summary = files(&history, ".1h.dws").remove(0);
    let sealed = data.join(format!("nights/{}.json", night.id));
    let footer = HourFile::open(&hour).expect("a sound hour file").footer;
    let mut blocks = footer.blocks.iter();
    let block = blocks.find(|block| block.host != HostId(0));
    let block = block.expect("a block beside the server's own");
    flip(&hour, |_| block.offset + u64::from(block.length) - 2);
    flip(&summary, |length| length / 2);
    flip(&sealed, |length| length / 2);
    let (code, told) = verified(&data);
    assert_eq!(code, Some(1), "the fault happened: {told}");
    for path in [&hour, &summary, &sealed] {
        assert!(told.contains(&name(path)), "{} in: {told}", name(path));
    }

    let mut server = Server::start(&data, &options);
    let finding = |server: &Server, subject: &str| {
        let now: Now = server.get("/api/v1/now").ok()?;
        let told = now.notices.into_iter().find(|n| n.starts_with(subject))?;
        let open = now.open.iter();
        let mut open = open.filter(|one| one.name == "server" && one.state == "open");
        open.any(|one| one.what.starts_with(subject))
            .then_some(told)
    };
    let history_told = until("the scrub to find the block", SOON, || {
        finding(&server, "history damaged")
    });
    say(&history_told);
    assert!(
        history_told.contains(&format!("history/{}", name(&hour))),
        "{history_told}"
    );
    let span = upto.strftime("%F").to_string();
    assert!(
        history_told.contains(" UTC: samples or events of web0")
            && history_told.contains(&span)
            && history_told.contains(" are lost: 1 of "),
        "{history_told}"
    );
    let night_told = until("the scrub to find the night", SOON, || {
        finding(&server, "records damaged")
    });
    say(&night_told);
    assert!(
        night_told.contains(&format!("nights/{}", name(&sealed))),
        "{night_told}"
    );

    // What one group of columns held is gone, of one host; all else is what it was.
    let after = ["web01", "web02"].map(|host| points(&server, host));
    let hurt: Vec<(usize, &str)> = (0..2)
        .flat_map(|host| SERIES.map(|series| (host, series)))
        .filter(|(host, series)| after[*host][series] != before[*host][series])
        .collect();
    say(&format!(
        "RESULT scrub series={} damaged={hurt:?}",
        2 * SERIES.len()
    ));
    let hosts: std::collections::BTreeSet<usize> = hurt.iter().map(|(host, _)| *host).collect();
    assert!(hosts.len() < 2, "both hosts: {hurt:?}");
    // A block of a few ticks is one group of columns; `server/src/history/hour/tests.rs` reads beside a damaged one.
    assert!(
        hurt.len() < SERIES.len() || block.length < GROUPS_BYTES,
        "other series of the block are read: {hurt:?}"
    );

    // The next sealing makes the summary anew, of what is left of its hour.
    clock.set(clock.now() + SignedDuration::from_mins(61));
    until_true("the summary to be made anew", SOON, || {
        let anew = format!("{}: made without 1 blocks", name(&summary));
        verified(&data).1.contains(&anew)
    });
    // What cannot be made anew stays told, by a server that starts once more too.
    server.stop();
    let server = Server::start(&data, &options);
    for subject in ["history damaged", "records damaged"] {
        until_true("it to be told again", SOON, || {
            finding(&server, subject).is_some()
        });
    }
}

fn points(server: &Server, host: &str) -> Points {
    let one = |series| {
        let path = format!("/api/v1/history?host={host}&series={series}&from=2020-01-01T00:00:00Z");
        let history: Option<History> = server.get(&path).ok();
        (
            series,
            history.map_or_else(Vec::new, |history| history.points),
        )
    };
    SERIES.into_iter().map(one).collect()
}

/// Hours that begin an hour and a half from now: the night is sealed in half an hour. A day has this moment twice only at the ends
/// of the calendar, and the hours are over before midnight of a zone in which it is ten now.
fn seals_soon(now: Timestamp) -> String {
    let hour = i64::from(now.to_zoned(jiff::tz::TimeZone::UTC).hour());
    let east = if hour > 21 { 34 - hour } else { 10 - hour };
    // The zones of this name count westwards.
    let zone = match east {
        0 => "Etc/GMT".to_owned(),
        _ => format!("Etc/GMT{:+}", -east),
    };
    let opens = now.in_tz(&zone).expect("a zone") + SignedDuration::from_mins(90);
    let opens = opens.strftime("%H:%M");
    format!("[calendar]\nzone = \"{zone}\"\nhours = \"Mon-Sun {opens}-18:00\"\n")
}

/// Files of a directory whose names end so, in order.
fn files(dir: &Path, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a directory").flatten();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().ends_with(end))
        .collect();
    found.sort();
    found
}

fn name(path: &Path) -> String {
    path.file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned()
}

/// Turns one bit round.
fn flip(path: &Path, at: impl FnOnce(u64) -> u64) {
    let mut bytes = fs::read(path).expect("a file");
    let at = usize::try_from(at(bytes.len() as u64)).expect("a place in it");
    bytes[at] ^= 0x10;
    fs::write(path, bytes).expect("a damaged file");
}

/// What `verify` says, and how it ends.
fn verified(data: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(binary("dawnwatch-server"));
    let words = ["verify"];
    let output = command
        .arg("--data")
        .arg(data)
        .args(words)
        .stdin(Stdio::null())
        .output();
    let output = output.expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), said)
}
