//! The life of hosts: named by a list, joined or missed, labelled, renamed, set up anew, retired.

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dawnwatch_agent::identity::join;
use dawnwatch_proto::api::{Host, Incident, LiveReview, Missing, Now};
use dawnwatch_proto::{Kind, Schema, Series, Tick};
use dawnwatch_tests::faketime::real_now;
use dawnwatch_tests::house::{Agent, Server, ServerOptions};
use dawnwatch_tests::stream::{Stream, batch};
use dawnwatch_tests::wait::{until, until_true};
use tokio::task::JoinSet;

/// Hosts of the list, and those of them that join.
const NAMED: usize = 180;
const JOINED: usize = 171;

/// What must come within a minute and a half: a hole is listed when it is a minute long.
const SOON: Duration = Duration::from_secs(150);

/// A simulated agent reports this often.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Joined hosts that are at work with the server at once.
const AT_ONCE: usize = 8;

struct Stage {
    server: Server,
    dir: tempfile::TempDir,
}

/// A server whose night does not end during the test, whatever the weekday: it opens once a week, three days from now.
fn stage() -> Stage {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("server");
    fs::create_dir_all(&data).expect("the data directory");
    let opens = real_now() + jiff::SignedDuration::from_hours(72);
    let day = opens.to_zoned(jiff::tz::TimeZone::UTC).strftime("%a");
    let text = format!("[calendar]\nzone = \"UTC\"\nhours = \"{day} 08:00-09:00\"\n");
    fs::write(data.join("dawnwatch.toml"), text).expect("the configuration");
    let server = Server::start(&data, &ServerOptions::default());
    Stage { server, dir }
}

impl Stage {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs the command; what it printed.
    #[track_caller]
    fn command(&self, arguments: &[&str]) -> String {
        let output = self.server.command(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs the command, which must refuse; its code and what it said.
    #[track_caller]
    fn refused(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.server.command(arguments);
        assert!(!output.status.success(), "{arguments:?} worked");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    }

    fn host(&self, name: &str) -> Option<Host> {
        let hosts: Vec<Host> = self.server.get("/api/v1/hosts").expect("the hosts");
        hosts.into_iter().find(|host| host.name == name)
    }

    fn agent(&self, name: &str) -> Agent {
        let token = self.server.token(1);
        let mut agent = Agent::join(&self.path(name), name, self.server.address, &token.join);
        agent.configure(250, "");
        agent.start();
        agent
    }
}

/// A simulated agent: joins, then reports until it is dropped.
async fn simulated(state: PathBuf, name: String, server: String, line: String) {
    join(&server, &line, &state, Some(name), real_now())
        .await
        .expect("it joins");
    let schema = Schema::new(vec![Series::new("node_load1", Kind::Gauge).quantum(1, 100)]);
    let (mut stream, _) = Stream::greet(&state, &server, 7).await.expect("a welcome");
    for seq in 1.. {
        let tick = Tick {
            time: real_now(),
            schema: schema.id(),
            row: vec![seq],
        };
        for said in batch(&schema, seq.unsigned_abs(), &[tick]) {
            stream.say(said).await;
        }
        // Whatever the server says is heard, so that it never waits for this host.
        let _ = tokio::time::timeout(REPORT_EVERY, stream.end()).await;
    }
}

async fn fleet(dir: PathBuf, server: String, line: String) {
    let mut hosts = JoinSet::new();
    for number in 1..=JOINED {
        let (state, name) = (dir.join(format!("h{number}")), format!("web{number:03}"));
        hosts.spawn(simulated(state, name, server.clone(), line.clone()));
        // A few at a time: joining is bounded on the server too.
        if number.is_multiple_of(AT_ONCE) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    while let Some(ended) = hosts.join_next().await {
        ended.expect("no simulated agent ends");
    }
}

fn list(path: &Path) {
    let mut text = String::from("name,site,service,owner,importance\n");
    for number in 1..=NAMED {
        let importance = if number % 50 == 0 { "high" } else { "" };
        text.push_str(&format!("web{number:03},hq,shop,A. Ruiz,{importance}\n"));
    }
    fs::write(path, text).expect("the list");
}

#[test]
fn nine_of_180_that_never_joined_are_named_and_count_as_not_watched() {
    let stage = stage();
    let file = stage.path("hosts.csv");
    list(&file);
    let file = file.display().to_string();
    let dry = stage.command(&["hosts", "import", &file, "--dry-run"]);
    assert!(
        dry.starts_with("180 hosts would be named: 180 new"),
        "{dry}"
    );
    let none: Vec<Missing> = stage.server.get("/api/v1/hosts/missing").expect("missing");
    assert_eq!(none.len(), 0, "a dry run changes nothing");
    let said = stage.command(&["hosts", "import", &file]);
    assert!(said.starts_with("180 hosts named: 180 new"), "{said}");

    let token = stage.server.token(200);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (dir, server) = (stage.path("fleet"), stage.server.address.to_string());
    runtime.spawn(fleet(dir, server, token.join));
    let now = || -> Now { stage.server.get("/api/v1/now").expect("now") };
    until_true("171 hosts to report", SOON, || {
        let now = now();
        (now.hosts_live, now.hosts_missing) == (171, 9)
    });
    let again = stage.command(&["hosts", "import", &file]);
    assert!(
        again.contains("0 new, 0 changed, 180 as they were; 171 joined already"),
        "{again}"
    );

    let want: Vec<String> = (JOINED + 1..=NAMED).map(|n| format!("web{n:03}")).collect();
    let missing = stage.command(&["hosts", "--missing"]);
    for name in &want {
        assert!(missing.contains(name.as_str()), "{missing}");
    }
    assert_eq!(missing.lines().count(), 10, "{missing}");
    let review = until("the nine to be listed in the review", SOON, || {
        let live: LiveReview = stage.server.get("/api/v1/review?night=so-far").ok()?;
        (live.review.coverage.unwatched.len() >= 9).then_some(live.review)
    });
    let coverage = &review.coverage;
    let mut named: Vec<&str> = coverage.unwatched.iter().map(|u| u.name.as_str()).collect();
    named.sort_unstable();
    assert_eq!(named, want);
    assert!(
        coverage
            .unwatched
            .iter()
            .all(|u| u.reason == "named and never joined")
    );
    assert_eq!(coverage.hosts, 180);
    assert!(review.blind, "9 of 180 are 5 %: {}", review.sentence);
    let open = stage.command(&[]);
    assert!(
        open.contains("171 of 171 hosts live, 9 never joined"),
        "{open}"
    );
    let hosts = stage.command(&["hosts"]);
    assert!(hosts.contains("9 hosts named and never joined"), "{hosts}");
    // It joined with what the list said of it.
    let host = stage.host("web050").expect("it joined");
    assert_eq!(host.owner.as_deref(), Some("A. Ruiz"));
    let said = stage.command(&["hosts", "forget", "web180"]);
    assert_eq!(said, "web180 is no longer named\n");
    until_true("one to be taken back", SOON, || now().hosts_missing == 8);
    runtime.shutdown_background();
}

#[test]
fn a_bad_list_is_refused_with_every_mistake_and_its_line() {
    let stage = stage();
    let file = stage.path("hosts.csv");
    fs::write(&file, "name,ownr\nweb01,x\n").expect("a list");
    let file = file.display().to_string();
    let (code, said) = stage.refused(&["hosts", "import", &file]);
    assert_eq!(code, Some(65), "{said}");
    assert!(
        said.contains("line 1: unknown column \"ownr\": did you mean owner?"),
        "{said}"
    );
    let (code, said) = stage.refused(&["hosts", "import", "/nonexistent.csv"]);
    assert_eq!(code, Some(65), "{said}");
    assert!(said.contains("/nonexistent.csv: No such file"), "{said}");
}

#[test]
#[allow(clippy::too_many_lines, reason = "one life of a host")]
fn a_host_is_labelled_renamed_set_up_anew_and_retired() {
    let stage = stage();
    let mut web01 = stage.agent("web01");
    let mut web04 = stage.agent("web04");
    let live = |name: &str| stage.host(name).is_some_and(|host| host.state == "live");
    until_true("both to report", SOON, || live("web01") && live("web04"));

    stage.command(&[
        "hosts",
        "label",
        "web01",
        "owner=B. Otto",
        "rack=7",
        "importance=high",
    ]);
    let labelled = until("the labels to hold", SOON, || {
        stage.host("web01").filter(|host| host.owner.is_some())
    });
    assert_eq!(labelled.labels, [("rack".to_owned(), "7".to_owned())]);
    stage.command(&["hosts", "rename", "web01", "shop1"]);
    until_true("the new name", SOON, || live("shop1"));
    let renamed = stage.host("shop1").expect("by its new name");
    assert_eq!(renamed.aliases, ["web01"]);
    assert_eq!(renamed.owner.as_deref(), Some("B. Otto"), "facts go along");
    let by_old = stage.command(&["show", "web01"]);
    assert!(by_old.contains("shop1"), "{by_old}");

    // The disk of web04 is lost; it is installed again, under another name, and a person says who it is.
    web04.kill();
    let mut anew = stage.agent("web04-new");
    until_true("it to report", SOON, || live("web04-new"));
    let (old, new) = (
        stage.host("web04").unwrap(),
        stage.host("web04-new").unwrap(),
    );
    let said = stage.command(&["hosts", "merge", "web04-new", "web04"]);
    assert!(
        said.starts_with("web04-new is web04 from here on"),
        "{said}"
    );
    let merged = until("web04 to report again", SOON, || {
        let host = stage.host("web04").filter(|host| host.state == "live");
        host.filter(|host| host.last_seen > new.last_seen)
    });
    assert_eq!(merged.id, old.id, "it goes on as the old one");
    assert!(
        stage.host("web04-new").is_none(),
        "and is no host of its own"
    );
    let before = stage
        .server
        .get::<dawnwatch_proto::api::History>("/api/v1/history?host=web04&series=node_load15");
    let before = before.expect("its history");
    let earlier = before
        .points
        .iter()
        .filter(|(at, _)| *at <= old.last_seen.unwrap());
    assert!(earlier.count() > 0, "from before");
    until_true("samples of after the merge", SOON, || {
        let path = "/api/v1/history?host=web04&series=node_load15";
        let history: dawnwatch_proto::api::History = stage.server.get(path).expect("its history");
        let last = history.points.last().map(|(at, _)| *at);
        // What is said again gets a time of its own, right behind the one before.
        let apart = history
            .points
            .windows(2)
            .all(|two| two[1].0.duration_since(two[0].0) > jiff::SignedDuration::from_millis(2));
        assert!(apart && history.repeated == 0, "held twice: {history:?}");
        last > merged.last_seen
    });
    let after = real_now();
    let review = until("the review of after the merge", SOON, || {
        let live: LiveReview = stage.server.get("/api/v1/review?night=so-far").ok()?;
        (live.review.until > after).then(|| format!("{:?}", live.review.changed))
    });
    assert!(
        review.contains("set up anew: web04-new is this host"),
        "{review}"
    );
    for again in ["agent restarted", "dropped by its agent"] {
        assert!(!review.contains(again), "said again, or missed: {review}");
    }
    let (_, said) = stage.refused(&["hosts", "merge", "shop1", "shop1"]);
    assert!(
        said.contains("a host cannot be merged with itself"),
        "{said}"
    );

    let said = stage.command(&["hosts", "retire", "shop1"]);
    assert!(
        said.starts_with("shop1 is retired: its history stays"),
        "{said}"
    );
    until_true("its agent to be told", SOON, || {
        web01.log().contains("was retired")
    });
    until_true("it to be out", SOON, || stage.host("shop1").is_none());
    let retired = stage.command(&["hosts", "--retired"]);
    assert!(retired.contains("shop1"), "{retired}");
    let history = stage.command(&["history", "shop1", "node_load15", "--output", "csv"]);
    assert!(history.lines().count() > 1, "its history stays: {history}");
    web01.kill();
    anew.kill();
}

/// A host that joined and says what the test tells it, of one epoch.
struct Told {
    runtime: tokio::runtime::Runtime,
    state: PathBuf,
    server: String,
    epoch: u64,
    schema: Schema,
}

impl Told {
    fn join(stage: &Stage, name: &str, epoch: u64) -> Told {
        let told = Told {
            runtime: tokio::runtime::Runtime::new().expect("a runtime"),
            state: stage.path(name),
            server: stage.server.address.to_string(),
            epoch,
            schema: Schema::new(vec![Series::new("node_load1", Kind::Gauge).quantum(1, 100)]),
        };
        let line = stage.server.token(1).join;
        let joined = join(
            &told.server,
            &line,
            &told.state,
            Some(name.to_owned()),
            real_now(),
        );
        told.runtime.block_on(joined).expect("it joins");
        until_true("it to be known", SOON, || stage.host(name).is_some());
        told
    }

    /// A new stream; what the server has of the epoch.
    fn greet(&self) -> (Stream, u64) {
        let greeted = Stream::greet(&self.state, &self.server, self.epoch);
        self.runtime.block_on(greeted).expect("a welcome")
    }

    /// Says ticks, all at once: as a backlog they are acknowledged at once.
    fn say(&self, stream: &Stream, numbers: RangeInclusive<i64>) {
        let first = numbers.start().unsigned_abs();
        let tick = |seq| Tick {
            time: real_now() + jiff::SignedDuration::from_millis(seq),
            schema: self.schema.id(),
            row: vec![seq],
        };
        let ticks: Vec<Tick> = numbers.map(tick).collect();
        for said in batch(&self.schema, first, &ticks) {
            self.runtime.block_on(stream.say(said));
        }
    }

    /// The same on a new stream, until the last is acknowledged; what the server had before.
    fn bring(&self, numbers: RangeInclusive<i64>) -> u64 {
        let (mut stream, held) = self.greet();
        let last = numbers.end().unsigned_abs();
        self.say(&stream, numbers);
        let acked = self.runtime.block_on(stream.acked(last));
        acked.expect("they are acknowledged");
        held
    }
}

#[test]
fn what_a_host_sent_before_it_was_merged_is_not_asked_for_again() {
    let mut stage = stage();
    let (old, new) = (
        Told::join(&stage, "web04", 7),
        Told::join(&stage, "web04-2", 8),
    );
    assert_eq!(old.bring(1..=3), 0);
    let (mut stream, _) = new.greet();
    new.say(&stream, 1..=5);
    new.runtime.block_on(stream.acked(5)).expect("acknowledged");
    stage.command(&["hosts", "merge", "web04-2", "web04"]);
    // Nothing more is taken in as of the host that it was.
    new.say(&stream, 6..=6);
    let ended = new.runtime.block_on(stream.end());
    assert_eq!(ended.code(), tonic::Code::Ok, "{ended}");
    assert_eq!(new.bring(6..=7), 5, "as web04");
    stage.server = stage.server.kill_and_start(&ServerOptions::default());
    assert_eq!(new.bring(8..=8), 7, "after a restart");
    // And the one that it is now is another again.
    Told::join(&stage, "web05", 9);
    stage.command(&["hosts", "merge", "web04", "web05"]);
    assert_eq!(new.bring(9..=9), 8, "as web05");
    let path = "/api/v1/history?host=web05&series=node_load1";
    // What is acknowledged is in the journal, and a moment later in the history.
    let history = until("its whole history", SOON, || {
        let history: dawnwatch_proto::api::History = stage.server.get(path).ok()?;
        (history.samples >= 12).then_some(history)
    });
    assert_eq!((history.samples, history.repeated), (12, 0), "of all three");
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory").flatten() {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("a copy");
        }
    }
}

#[test]
fn a_copied_host_is_refused_and_told_of() {
    let stage = stage();
    let mut web01 = stage.agent("web01");
    let live = || stage.host("web01").is_some_and(|host| host.state == "live");
    until_true("it to report", SOON, live);
    // Another machine with the state directory of this one.
    let token = stage.server.token(1);
    let mut copy = Agent::join(
        &stage.path("copy"),
        "copy",
        stage.server.address,
        &token.join,
    );
    fs::remove_dir_all(stage.path("copy")).expect("its own state");
    copy_dir(&stage.path("web01"), &stage.path("copy"));
    copy.configure(250, "");
    copy.start();
    let incident = until("the incident", SOON, || {
        let all: Vec<Incident> = stage.server.get("/api/v1/incidents?state=open").ok()?;
        let mut alerts = all.into_iter().flat_map(|i| {
            i.alerts
                .clone()
                .into_iter()
                .map(move |a| (i.name.clone(), a))
        });
        alerts.find(|(_, alert)| alert.rule == "identity_used_twice")
    });
    let (name, alert) = incident;
    assert_eq!(name, "web01");
    for part in [
        "by two agents at 127.0.0.1",
        "re-join it there",
        "--hostname NAME",
    ] {
        assert!(alert.why.contains(part), "{}", alert.why);
    }
    until_true("the copy to be told", SOON, || {
        copy.log().contains("re-join under a name of its own")
    });
    assert!(!web01.log().contains("re-join"), "{}", web01.log());
    let seen = stage.host("web01").and_then(|host| host.last_seen);
    until_true("the first one to report on", SOON, || {
        live() && stage.host("web01").and_then(|host| host.last_seen) > seen
    });
    copy.kill();
    web01.kill();
}
