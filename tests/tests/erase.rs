//! A host is erased: afterwards its name stands in no file but those that are proof, whatever happened in between.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so and ends"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dawnwatch_engine::{Effect, Entry};
use dawnwatch_proto::api::{
    Evidence, History, Host, Incident, LogTemplates, Logs, NightHead, Now, Search,
};
use dawnwatch_segment::{Disk, RealDisk};
use dawnwatch_server::{ledger, nights};
use dawnwatch_tests::faketime::{self, FakeClock, real_now};
use dawnwatch_tests::house::{Agent, Launch, Server, ServerOptions, binary};
use dawnwatch_tests::needs::{self, Need};
use dawnwatch_tests::wait::{until, until_true};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// A line of before.
const OLD: &str = "ERROR the old and well-known trouble";

/// A name that is no word.
const NAME: &str = "zanzibar17";

const SOON: Duration = Duration::from_secs(90);

/// A host is silent after 30 s.
const SILENCE: Duration = Duration::from_secs(150);

/// A server with a clock of its own, whose night is sealed within the hour, and two hosts with log files.
struct Stage {
    clock: FakeClock,
    options: ServerOptions,
    server: Server,
    gone: Agent,
    stays: Agent,
    dir: tempfile::TempDir,
}

impl Stage {
    fn new() -> Stage {
        let _ = binary("dawnwatch-server");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let clock = FakeClock::new(dir.path(), real_now());
        let data = dir.path().join("server");
        fs::create_dir_all(&data).expect("the data directory");
        fs::write(data.join("dawnwatch.toml"), calendar(clock.now())).expect("the configuration");
        let options = ServerOptions {
            env: clock.env(),
            ..ServerOptions::default()
        };
        let server = Server::start(&data, &options);
        let agent = |name: &str| agent(dir.path(), name, &server, &clock);
        let (gone, stays) = (agent(NAME), agent("web01"));
        Stage {
            clock,
            options,
            server,
            gone,
            stays,
            dir,
        }
    }

    fn data(&self) -> PathBuf {
        self.server.data.clone()
    }

    fn get(&self, path: &str) -> Value {
        self.server
            .get(path)
            .unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    #[track_caller]
    fn command(&self, arguments: &[&str]) -> String {
        let output = self.server.command(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Samples, lines, a finding about them, an incident, a sealed night with evidence of both, an hour file and its summaries.
    fn live_a_night(&mut self) -> String {
        // What stood in the files before is read as known.
        until_true("both to have read their files", SOON, || {
            let known: LogTemplates = self.server.get("/api/v1/templates").expect("shapes");
            let mut known = known.templates.into_iter();
            known.any(|kind| kind.text.contains(OLD) && kind.hosts == 2)
        });
        for (name, line) in [
            (NAME, format!("ERROR {NAME} lost its payment gateway\n")),
            ("web01", "ERROR web01 lost its printer\n".to_owned()),
        ] {
            let log = logs_of(self.dir.path(), name).join("app.log");
            let file = fs::File::options().append(true).open(log);
            let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
            written.expect("a line");
        }
        let incidents =
            || -> Vec<Incident> { self.server.get("/api/v1/incidents").expect("incidents") };
        let finding = |name: &str| {
            let mut all = incidents().into_iter();
            all.any(|one| one.id.starts_with("L-") && one.name == name)
        };
        until_true("findings about the lines", SOON, || {
            finding(NAME) && finding("web01")
        });
        self.gone.kill();
        until_true("the host to be missed", SILENCE, || {
            let mut all = incidents().into_iter();
            all.any(|one| one.id.starts_with("I-") && one.name == NAME)
        });
        self.clock
            .set(self.clock.now() + SignedDuration::from_mins(60));
        let night = until("the night to be sealed", SOON, || {
            let nights: Vec<NightHead> = self.server.get("/api/v1/nights").ok()?;
            nights.into_iter().next_back()
        });
        until_true("the hour to be sealed", SOON, || {
            let ends = |end: &str| {
                let mut files = files(&self.data().join("history")).into_iter();
                files.any(|file| file.to_string_lossy().ends_with(end))
            };
            ends(".dwh") && ends(".dws")
        });
        night.id
    }

    /// What is shown of the host that stays; it must not change.
    fn of_the_other(&self, upto: Timestamp) -> (History, usize) {
        let path = format!("/api/v1/history?host=web01&series=node_load15&to={upto}");
        let history = self.server.get(&path).expect("its history");
        let logs: Logs = self.server.get("/api/v1/logs?text=printer").expect("lines");
        (history, logs.lines.len())
    }

    /// What can be found, as often as the index needs.
    fn found(&self, words: &str) -> Vec<(String, String, String)> {
        let path = format!("/api/v1/search?limit=500&q={words}");
        let search = until("the index to answer", SOON, || {
            self.server.get::<Search>(&path).ok()
        });
        let found = search.found.into_iter();
        let mut found: Vec<_> = found.map(|one| (one.id, one.name, one.text)).collect();
        found.sort();
        found
    }
}

/// Hours that begin an hour and a half from now, so that the night is sealed in half an hour, by a zone in which it is ten now.
fn calendar(now: Timestamp) -> String {
    let hour = i64::from(now.to_zoned(TimeZone::UTC).hour());
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

/// Where a host's lines are written: a path that does not hold its name, which would stay known by it.
fn logs_of(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("logs-{}", name.len()))
}

fn agent(dir: &Path, name: &str, server: &Server, clock: &FakeClock) -> Agent {
    let logs = logs_of(dir, name);
    fs::create_dir_all(&logs).expect("a directory");
    fs::write(logs.join("app.log"), format!("{OLD}\n")).expect("a line");
    let token = server.token(1);
    let launch = Launch {
        env: clock.env(),
        ..Launch::default()
    };
    let mut agent = Agent::join_by(&dir.join(name), name, server.address, &token.join, launch);
    agent.configure(
        250,
        &format!(
            "[logs]\nfiles = [\"{}/*.log\"]\njournald = false",
            logs.display()
        ),
    );
    agent.start();
    agent
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => out.extend(files(&entry.path())),
            Ok(kind) if kind.is_file() => out.push(entry.path()),
            Ok(_) | Err(_) => {}
        }
    }
    out
}

/// The kinds of files of a data directory that the name is in, with one of each.
fn holding(data: &Path) -> BTreeMap<String, PathBuf> {
    let mut out = BTreeMap::new();
    for path in files(data) {
        // A file may go while it is looked for.
        let bytes = fs::read(&path).unwrap_or_default().to_ascii_lowercase();
        let holds = bytes.windows(NAME.len()).any(|w| w == NAME.as_bytes());
        if !holds {
            continue;
        }
        let within = path
            .strip_prefix(data)
            .expect("a file of it")
            .to_string_lossy()
            .into_owned();
        let mut kind = within.split('/').next().unwrap_or_default().to_owned();
        if within.ends_with(".evidence.json") {
            kind = "evidence".to_owned();
        }
        out.insert(kind, path);
    }
    out
}

fn is_done(data: &Path) -> bool {
    let text = fs::read_to_string(data.join("history/erased")).unwrap_or_default();
    text.lines()
        .next()
        .is_some_and(|line| line.ends_with(" done"))
}

#[test]
#[allow(
    clippy::too_many_lines,
    reason = "one life of a host, and what is left of it"
)]
fn an_erased_host_stays_in_no_file_but_ledger_and_sealed_nights() {
    if !needs::are_met(&[Need::Faketime]) {
        return;
    }
    let mut stage = Stage::new();
    let night = stage.live_a_night();
    let data = stage.data();
    let upto = stage.clock.now() - SignedDuration::from_mins(30);
    let before = stage.of_the_other(upto);
    assert!(before.0.points.len() > 5 && before.1 == 1, "{before:?}");
    until_true("the index to know of it", SOON, || {
        !stage.found(NAME).is_empty()
    });

    // Without --erase all of it stays.
    stage.command(&["hosts", "retire", NAME]);
    let kept = stage.command(&["hosts", "--retired"]);
    assert!(kept.contains(NAME), "{kept}");
    let held: BTreeSet<String> = holding(&data).into_keys().collect();
    for kind in [
        "identity", "journal", "history", "index", "ledger", "nights", "evidence",
    ] {
        assert!(held.contains(kind), "the name is in no {kind}: {held:?}");
    }
    let id = stage.get("/api/v1/hosts?state=retired")[0]["id"]
        .as_str()
        .expect("its id")
        .to_owned();

    // Asked for first, and there is no terminal.
    let refused = stage.server.command(&["hosts", "retire", NAME, "--erase"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.status.code() == Some(64) && said.contains("--yes"),
        "{said}"
    );
    assert!(!data.join("history/erased").exists(), "nothing was erased");

    let said = stage.command(&["hosts", "retire", NAME, "--erase", "--yes"]);
    assert!(said.contains("told of erased-1"), "{said}");
    assert!(
        said.contains("Its name stays in the ledger and in sealed nights"),
        "{said}"
    );
    // Killed at once: it goes on where it was.
    let options = stage.options.clone();
    let Stage {
        clock,
        server,
        gone,
        stays,
        dir,
        ..
    } = stage;
    let server = server.kill_and_start(&options);
    let mut stage = Stage {
        clock,
        options,
        server,
        gone,
        stays,
        dir,
    };
    until_true("the files to be done", SOON, || is_done(&data));
    until_true("the server to say no more of it", SOON, || {
        let now: Now = stage.server.get("/api/v1/now").expect("now");
        !now.notices.iter().any(|text| text.contains("erasing"))
    });

    nobody_finds(&stage, &id, &night);
    assert_eq!(
        stage.of_the_other(upto),
        before,
        "what is the other's stays"
    );
    let all = ["trouble", "erased", "silent", "printer"].map(|words| stage.found(words));
    assert!(
        all[1].iter().any(|(_, name, _)| name == "erased-1"),
        "{:?}",
        all[1]
    );

    until_true("journal and checkpoints to be done", SOON, || {
        let held = holding(&data);
        held.keys()
            .all(|kind| ["ledger", "nights"].contains(&kind.as_str()))
    });
    the_proofs_hold(&data, &night);

    // What was deleted is not in what is built anew.
    stage.stays.stop();
    assert!(stage.server.stop().success());
    let held: Vec<String> = holding(&data).into_keys().collect();
    assert_eq!(held, ["ledger", "nights"]);
    fs::remove_dir_all(data.join("index")).expect("the index is there");
    stage.server = Server::start(&data, &stage.options);
    until_true("the index to be whole", SOON, || {
        !stage.found("erased").is_empty()
    });
    let anew = ["trouble", "erased", "silent", "printer"].map(|words| stage.found(words));
    assert_eq!(anew, all);

    // Who joins under the name, from the very machine, is another.
    let again = agent(
        &stage.dir.path().join("again"),
        NAME,
        &stage.server,
        &stage.clock,
    );
    let hosts = until("the new one", SOON, || {
        let hosts: Vec<Host> = stage.server.get("/api/v1/hosts").ok()?;
        hosts.into_iter().find(|host| host.name == NAME)
    });
    assert_ne!(hosts.id.to_string(), id);
    drop(again);
    faketime::sweep(stage.server.pid());
}

/// Nothing that is asked has the name in its answer.
fn nobody_finds(stage: &Stage, id: &str, night: &str) {
    for path in [
        format!("/api/v1/history?host={NAME}&series=node_load15"),
        format!("/api/v1/history?host={id}&series=node_load15"),
        format!("/api/v1/series?host={NAME}"),
        format!("/api/v1/logs?host={NAME}"),
        format!("/api/v1/search?host={NAME}"),
    ] {
        let refused = stage.server.get::<Value>(&path).unwrap_err().to_string();
        assert!(refused.contains(" 404 "), "{path}: {refused}");
    }
    for path in [
        "/api/v1/hosts?state=all",
        "/api/v1/hosts/missing",
        "/api/v1/incidents",
        "/api/v1/now",
        "/api/v1/review?night=so-far",
        "/api/v1/logs",
        "/api/v1/templates",
        "/api/v1/net",
        &format!("/api/v1/nights/{night}/evidence"),
    ] {
        let mut answer = stage.get(path);
        // The sentence of a sealed night is proof.
        if let Some(now) = answer.as_object_mut() {
            now.remove("last_night");
        }
        let answer = answer.to_string();
        assert!(!answer.to_lowercase().contains(NAME), "{path}: {answer}");
        assert!(!answer.contains("payment gateway"), "{path}: {answer}");
    }
    let incidents = stage.get("/api/v1/incidents").to_string();
    assert!(incidents.contains("\"erased-1\""), "{incidents}");
    assert_eq!(stage.found(NAME), [], "found by its name");
    assert_eq!(stage.found("payment"), [], "found by its lines");
    let others = stage.found("printer");
    let is_other =
        |(_, name, text): &(String, String, String)| name != NAME && !text.contains(NAME);
    assert!(
        !others.is_empty() && others.iter().all(is_other),
        "what is the other's is found: {others:?}"
    );
}

/// The chain is whole, and the evidence is what the ledger says last of it.
fn the_proofs_hold(data: &Path, night: &str) {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut hashes = Vec::new();
    let mut who = Vec::new();
    ledger::walk(&disk, data, |frame| {
        for effect in frame.effects {
            match effect {
                Effect::Record(Entry::Evidence { night: of, hash }) if of == night => {
                    hashes.push(hash)
                }
                Effect::Record(Entry::Person { by, what, .. }) => who.push(format!("{by}: {what}")),
                Effect::Record(_) | Effect::Notify(_) | Effect::SealNight(_) => {}
            }
        }
    })
    .expect("the chain is whole");
    let bytes = fs::read(data.join(format!("nights/{night}.evidence.json"))).expect("evidence");
    let kept: Evidence = serde_json::from_slice(&bytes).expect("evidence");
    let (canonical, hash) = nights::canonical(&kept);
    assert_eq!(canonical, bytes);
    assert!(
        hashes.len() >= 2 && hashes.last() == Some(&hash),
        "{hashes:?} {hash}"
    );
    assert!(
        kept.findings
            .iter()
            .any(|one| one.incident.name == "erased-1" && one.series.is_empty())
    );
    assert!(kept.findings.iter().any(|one| one.incident.name == "web01"));
    let told = |part: &str| who.iter().any(|line| line.contains(part));
    assert!(
        told("root: host ") && told("erased, erased-1 from here on"),
        "{who:?}"
    );
    assert!(
        // How many of them after the kill is a matter of when it came.
        told("server: hosts erased from the files: 1; written anew: "),
        "{who:?}"
    );
}
