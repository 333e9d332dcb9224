//! What people and machines get wrong: one clear sentence, the exit code or status that fits, and the house goes on.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use dawnwatch_proto::api::{History, Host, Incident, NewToken, Now, Rule, Token, TokenState};
use dawnwatch_proto::pb::{self, from_agent};
use dawnwatch_proto::{JoinLine, Kind, MESSAGE_BYTES_MAX, Schema, Series, Tick};
use dawnwatch_tests::faketime::{FakeClock, real_now, sweep};
use dawnwatch_tests::house::{Agent, Launch, Server, ServerOptions, binary};
use dawnwatch_tests::mounts::{Tmpfs, fill};
use dawnwatch_tests::needs::{self, Need};
use dawnwatch_tests::receivers::Webhook;
use dawnwatch_tests::stream::{Stream, batch, hello};
use dawnwatch_tests::wait::{until, until_true};
use jiff::SignedDuration;
use tonic::Code;

/// Waiting for what must come within a few ticks and one back-off.
const SOON: Duration = Duration::from_secs(60);

/// A start that must fail does so within this.
const START: Duration = Duration::from_secs(20);

/// Forty times the usual pace.
const TICK_MS: u64 = 250;

struct Stage {
    server: Server,
    dir: tempfile::TempDir,
}

fn stage() -> Stage {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&dir.path().join("server"), &ServerOptions::default());
    Stage { server, dir }
}

impl Stage {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs `join`, whatever comes of it.
    fn join(&self, name: &str, line: &str) -> Output {
        let mut command = Command::new(binary("dawnwatch-agent"));
        command.args([
            "join",
            &self.server.address.to_string(),
            line,
            "--hostname",
            name,
        ]);
        command
            .arg("--state")
            .arg(self.path(name))
            .stdin(Stdio::null());
        command.output().expect("dawnwatch-agent runs")
    }

    fn agent(&self, name: &str) -> Agent {
        let token = self.server.token(1);
        let mut agent = Agent::join(&self.path(name), name, self.server.address, &token.join);
        agent.configure(TICK_MS, "");
        agent.start();
        agent
    }
}

/// Whether a program ended with this code and one short text that has these words.
#[track_caller]
fn check_end(output: &Output, code: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    assert!(
        !said.contains("panicked") && said.lines().count() <= 12,
        "{said}"
    );
}

#[test]
fn joining_with_what_is_no_good() {
    let stage = stage();
    let good: JoinLine = stage.server.token(1).join.parse().expect("a join line");
    let secret = format!("{}{}", &good.secret[1..], &good.secret[..1]);
    let wrong = JoinLine {
        secret,
        ..good.clone()
    };
    let refused = ["wrong, used up or expired", "dawnwatch token create"];
    check_end(&stage.join("wrong", &wrong.to_string()), 77, &refused);

    assert!(
        stage.join("first", &good.to_string()).status.success(),
        "the token is good after all"
    );
    check_end(&stage.join("second", &good.to_string()), 77, &refused);

    let wish = NewToken {
        uses: 1,
        expires_seconds: 1,
        labels: Vec::new(),
    };
    let expired: Token = stage.server.post("/api/v1/tokens", &wish).expect("a token");
    until_true("it to expire", START, || {
        let left: Vec<TokenState> = stage.server.get("/api/v1/tokens").expect("the tokens");
        left.iter().all(|token| token.id != expired.id)
    });
    check_end(&stage.join("late", &expired.join), 77, &refused);

    let other = Server::start(&stage.path("other"), &ServerOptions::default());
    let elsewhere = other.token(1).join;
    let words = [
        "not the one that made this join line",
        "Nothing was sent to it",
    ];
    check_end(&stage.join("elsewhere", &elsewhere), 77, &words);

    for (line, words) in [
        ("dw1.abc", "4"),
        ("hello", "must begin with"),
        ("", "must begin with"),
    ] {
        check_end(&stage.join("garbage", line), 65, &[words]);
    }
    let hosts: Vec<Host> = stage
        .server
        .get("/api/v1/hosts")
        .expect("the server goes on");
    assert_eq!(
        hosts
            .iter()
            .map(|host| host.name.as_str())
            .collect::<Vec<_>>(),
        ["first"]
    );
    assert!(
        stage
            .join("anew", &stage.server.token(1).join)
            .status
            .success()
    );
}

#[test]
fn a_clock_ten_years_off_still_joins() {
    if !needs::are_met(&[Need::Faketime]) {
        return;
    }
    let stage = stage();
    let years = SignedDuration::from_hours(10 * 365 * 24);
    for (name, off) in [("future", years), ("past", -years)] {
        let dir = stage.path(&format!("{name}-clock"));
        fs::create_dir(&dir).expect("a directory");
        let clock = FakeClock::new(&dir, real_now() + off);
        let launch = Launch {
            through: Vec::new(),
            env: clock.env(),
        };
        let token = stage.server.token(1);
        let state = stage.path(name);
        let mut agent = Agent::join_by(&state, name, stage.server.address, &token.join, launch);
        agent.configure(TICK_MS, "");
        let began = real_now();
        agent.start();
        let host: Host = until(
            "the host to be live and its clock to be known",
            SOON,
            || {
                let hosts: Vec<Host> = stage.server.get("/api/v1/hosts").ok()?;
                hosts
                    .into_iter()
                    .find(|h| h.name == name && h.state == "live" && h.series > 0)
            },
        );
        let error = host.clock_offset_seconds - off.as_secs_f64();
        assert!(
            error.abs() < 5.0,
            "the fault did not take effect: {}",
            host.clock_offset_seconds
        );
        let path = format!(
            "/api/v1/history?host={name}&series=node_load1&from={}",
            began - SignedDuration::from_secs(5)
        );
        let history: History = until("samples at corrected times", SOON, || {
            stage
                .server
                .get(&path)
                .ok()
                .filter(|history: &History| history.samples >= 4)
        });
        assert_eq!(history.repeated, 0);
        sweep(agent.pid().expect("it runs"));
        agent.kill();
    }
}

#[test]
fn a_series_that_is_not_there() {
    let stage = stage();
    let _agent = stage.agent("web01");
    until_true("the first samples", SOON, || {
        let hosts: Vec<Host> = stage.server.get("/api/v1/hosts").unwrap_or_default();
        hosts.iter().any(|host| host.series > 0)
    });
    let ask = |arguments: &[&str]| stage.server.command(arguments);
    check_end(
        &ask(&["history", "web01", "node_laod1"]),
        65,
        &["no series node_laod1", "node_load1"],
    );
    check_end(
        &ask(&["history", "web02", "node_load1"]),
        65,
        &["no host is called web02", "web01"],
    );
    check_end(&ask(&["show", "I-99"]), 65, &["I-99"]);
    check_end(&ask(&["ack", "I-99"]), 65, &["I-99"]);
    check_end(&ask(&["review", "N-2001-01-01"]), 65, &["N-2001-01-01"]);
    check_end(
        &ask(&["review", "yesterday"]),
        64,
        &["yesterday", "N-2026-10-05"],
    );
    check_end(&ask(&["histroy"]), 64, &["history"]);
    assert!(ask(&["history", "web01", "node_load1"]).status.success());
}

fn gauge() -> Schema {
    Schema::new(vec![Series::new("node_load1", Kind::Gauge)])
}

fn ticks(schema: &Schema, n: i64) -> Vec<Tick> {
    let now = real_now();
    let columns = schema.series().len();
    let tick = |i: i64| Tick {
        time: now + SignedDuration::from_millis(10 * (i - n)),
        schema: schema.id(),
        row: (0..columns).map(|column| noise(i, column)).collect(),
    };
    (0..n).map(tick).collect()
}

/// A number that no codec makes small, and that JSON carries exactly.
fn noise(i: i64, column: usize) -> i64 {
    let column = i64::try_from(column).unwrap_or(0);
    (i * 1_000_003 + column).wrapping_mul(0x1e37_79b9_7f4a_7c15) >> 20
}

/// What is said after the hello, and how the server ends the stream for it.
type Bad = (&'static str, Vec<from_agent::Body>, Code, &'static str);

/// A batch that is sound, and its schema.
fn sound() -> (pb::Schema, pb::Batch) {
    let schema = gauge();
    match batch(&schema, 1, &ticks(&schema, 3)) {
        [
            from_agent::Body::Schema(schema),
            from_agent::Body::Batch(batch),
        ] => (schema, batch),
        other => panic!("a schema and a batch: {other:?}"),
    }
}

fn bad_batches() -> Vec<Bad> {
    use from_agent::Body;
    let (schema, plain) = sound();
    let of = |change: fn(&mut pb::Batch)| {
        let mut changed = plain.clone();
        change(&mut changed);
        vec![Body::Schema(schema.clone()), Body::Batch(changed)]
    };
    let garbled = of(|batch| {
        if let Some(pb::item::Body::Tick(tick)) = &mut batch.items[0].body {
            tick.row = vec![0xff; 40];
        }
    });
    let mut hole = of(|batch| batch.first_seq = 9);
    hole.insert(1, Body::Batch(plain.clone()));
    let (bad, not_now) = (Code::InvalidArgument, Code::FailedPrecondition);
    vec![
        (
            "an epoch not greeted",
            of(|b| b.epoch = 1),
            bad,
            "not in the hello",
        ),
        ("number 0", of(|b| b.first_seq = 0), not_now, "missing"),
        ("a hole", hole, not_now, "4 to 9"),
        (
            "numbers past 2^64",
            of(|b| b.first_seq = u64::MAX),
            bad,
            "2^64",
        ),
        (
            "an empty item",
            of(|b| b.items[1].body = None),
            bad,
            "missing",
        ),
        (
            "no schema",
            vec![Body::Batch(plain.clone())],
            bad,
            "schema of a tick",
        ),
        ("a garbled row", garbled, bad, ""),
    ]
}

fn bad_messages() -> Vec<Bad> {
    use from_agent::Body;
    let (schema, _) = sound();
    let mut wide = schema.clone();
    wide.series = vec![schema.series[0].clone(); 50_000];
    let mut forged = schema;
    forged.id ^= 1;
    let mut large = hello(&[1]);
    if let Body::Hello(hello) = &mut large {
        hello.hostname = "x".repeat(MESSAGE_BYTES_MAX + 1);
    }
    let bad = Code::InvalidArgument;
    vec![
        ("a second hello", vec![hello(&[1])], bad, "second hello"),
        (
            "too many series",
            vec![Body::Schema(wide)],
            bad,
            "limit of 2000",
        ),
        (
            "another's schema id",
            vec![Body::Schema(forged)],
            bad,
            "does not match",
        ),
        (
            "a message over 4 MiB",
            vec![large],
            Code::OutOfRange,
            "too large",
        ),
    ]
}

#[test]
fn messages_that_no_honest_agent_sends() {
    let stage = stage();
    let address = stage.server.address.to_string();
    let state = stage.path("web01");
    let _joined = Agent::join(
        &state,
        "web01",
        stage.server.address,
        &stage.server.token(1).join,
    );
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut stream = Stream::open(&state, &address).await.expect("a stream");
        stream
            .say(from_agent::Body::Heartbeat(pb::Heartbeat::default()))
            .await;
        let status = stream.end().await;
        assert_eq!(
            (status.code(), status.message()),
            (Code::InvalidArgument, "the first message must be a hello")
        );
        let mut greeting = hello(&[]);
        if let from_agent::Body::Hello(hello) = &mut greeting {
            hello.protocol = 99;
        }
        for (greeting, code, words) in [
            (
                greeting,
                Code::FailedPrecondition,
                "protocol 99 is not spoken here",
            ),
            (
                hello(&[7; 1_000]),
                Code::InvalidArgument,
                "1000 epochs, limit",
            ),
        ] {
            let mut stream = Stream::open(&state, &address).await.expect("a stream");
            stream.say(greeting).await;
            let status = stream.end().await;
            assert_eq!(status.code(), code, "{status:?}");
            assert!(status.message().contains(words), "{status:?}");
        }
        for (epoch, (what, messages, code, words)) in
            (100..).zip([bad_batches(), bad_messages()].concat())
        {
            let (mut stream, held) = Stream::greet(&state, &address, epoch)
                .await
                .expect("a welcome");
            assert_eq!(held, 0, "{what}");
            for message in messages {
                stream.say(message).await;
            }
            let status = stream.end().await;
            assert_eq!(status.code(), code, "{what}: {status:?}");
            assert!(status.message().contains(words), "{what}: {status:?}");
        }
    });
    let now: Now = stage.server.get("/api/v1/now").expect("the server goes on");
    assert_eq!(now.hosts, 1);
    assert!(
        !stage.server.log().contains("panicked"),
        "{}",
        stage.server.log()
    );
}

#[test]
fn a_replayed_batch_counts_once() {
    let stage = stage();
    let address = stage.server.address.to_string();
    let state = stage.path("web01");
    let _joined = Agent::join(
        &state,
        "web01",
        stage.server.address,
        &stage.server.token(1).join,
    );
    let schema = gauge();
    let ticks = ticks(&schema, 6);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let (mut stream, _) = Stream::greet(&state, &address, 5).await.expect("a welcome");
        for message in batch(&schema, 1, &ticks[..4]) {
            stream.say(message).await;
        }
        stream.acked(4).await.expect("an acknowledgement");
        // On the same stream, on another one, and overlapping with what is not held yet.
        for message in batch(&schema, 1, &ticks[..4]) {
            stream.say(message).await;
        }
        let (mut stream, held) = Stream::greet(&state, &address, 5).await.expect("a welcome");
        assert_eq!(held, 4);
        for message in
            batch(&schema, 1, &ticks[..4])
                .into_iter()
                .chain(batch(&schema, 3, &ticks[2..]))
        {
            stream.say(message).await;
        }
        stream.acked(6).await.expect("an acknowledgement");
    });
    let from = ticks[0].time - SignedDuration::from_secs(60);
    let history: History = until("all ticks to be in the history", SOON, || {
        let path = format!("/api/v1/history?host=web01&series=node_load1&from={from}");
        stage
            .server
            .get(&path)
            .ok()
            .filter(|history: &History| history.samples >= 6)
    });
    assert_eq!((history.samples, history.repeated), (6, 0));
    let values: Vec<f64> = history
        .points
        .iter()
        .filter_map(|(_, value)| *value)
        .collect();
    let sent: Vec<f64> = ticks
        .iter()
        .map(|tick| schema.series()[0].value(tick.row[0]))
        .collect();
    assert_eq!(values, sent);
}

/// Starts a server that must not start.
fn start(data: &Path, listen: &str) -> Output {
    let mut command = Command::new(binary("dawnwatch-server"));
    command
        .arg("--data")
        .arg(data)
        .args(["run", "--listen", listen, "--web", "127.0.0.1:0"]);
    let command = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("dawnwatch-server starts");
    let mut ended = || child.try_wait().expect("a child can be waited for");
    until("the server to give up", START, || ended().map(|_| ()));
    child.wait_with_output().expect("its last words")
}

#[test]
fn a_port_and_a_directory_that_are_in_use() {
    let stage = stage();
    let address: SocketAddr = stage.server.address;
    let port = address.port().to_string();
    let taken = start(&stage.path("second"), &address.to_string());
    check_end(
        &taken,
        73,
        &[
            "cannot listen on",
            &port,
            "choose another address with --listen",
        ],
    );
    let in_use = start(&stage.server.data, "127.0.0.1:0");
    check_end(
        &in_use,
        73,
        &["is in use", "stop that one or choose another with --data"],
    );
    let now: Now = stage
        .server
        .get("/api/v1/now")
        .expect("the one that runs goes on");
    assert_eq!(now.hosts, 0);
}

#[test]
fn a_server_that_is_not_there() {
    let mut stage = stage();
    assert!(stage.server.command(&[]).status.success());
    stage.server.kill();
    for arguments in [&[][..], &["review"], &["hosts"], &["ack", "I-1"]] {
        let output = stage.server.command(arguments);
        check_end(
            &output,
            69,
            &["cannot reach the server", "dawnwatch-server run"],
        );
    }
}

/// Five mistakes, and the lines they are on.
const BROKEN: &str = r#"[calender]
zone = "Europe/Berlin"
[rules.disk_ful]
bound = 0.97
[rules.memory_full]
bound = 97
[[channel]]
name = "ops"
type = "webhok"
[[host]]
match = "db*"
importance = "hihg"
"#;

const MISTAKES: [&str; 5] = [
    "dawnwatch.toml:1: unknown key \"calender\"; did you mean \"calendar\"?",
    "dawnwatch.toml:3: unknown rule \"disk_ful\" in [rules]; did you mean \"disk_full\"?",
    "dawnwatch.toml:6: bound = 97",
    "dawnwatch.toml:9: type = \"webhok\" is unknown; did you mean \"webhook\"?",
    "dawnwatch.toml:12: importance = \"hihg\" is unknown; did you mean \"high\"?",
];

#[test]
fn a_broken_configuration_at_the_start() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("dawnwatch.toml"), BROKEN).expect("a configuration");
    check_end(&start(dir.path(), "127.0.0.1:0"), 78, &MISTAKES);
    let mut check = Command::new(binary("dawnwatch-server"));
    let output = check.arg("--data").arg(dir.path()).arg("check").output();
    check_end(&output.expect("dawnwatch-server runs"), 78, &MISTAKES);
}

#[test]
fn a_reload_asked_for_while_it_starts_comes_after_the_start() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("server");
    // The signal comes as soon as the data directory is locked, before all that takes time.
    let asks = "pid=$$; (until [ -e \"$0/LOCK\" ]; do :; done; kill -HUP $pid) & exec \"$@\"";
    let server = Server::start(
        &data,
        &ServerOptions {
            through: ["sh", "-c", asks, &data.display().to_string()]
                .map(str::to_owned)
                .to_vec(),
            ..ServerOptions::default()
        },
    );
    until_true("the reload", SOON, || {
        server.log().contains("configuration taken up")
    });
}

#[test]
fn a_broken_configuration_on_reload() {
    let stage = stage();
    let file = stage.server.data.join("dawnwatch.toml");
    let hang_up = || stage.server.signal(rustix::process::Signal::HUP);
    let condition = || {
        let rules: Vec<Rule> = stage.server.get("/api/v1/rules").expect("the rules");
        rules
            .into_iter()
            .find(|rule| rule.name == "disk_full")
            .expect("a rule")
            .condition
    };
    let notices = || {
        stage
            .server
            .get::<Now>("/api/v1/now")
            .expect("what is open")
            .notices
    };
    fs::write(&file, "[rules.disk_full]\nbound = 0.91\n").expect("a configuration");
    hang_up();
    until_true("the first change to be taken up", START, || {
        condition().contains("91 %")
    });

    fs::write(&file, format!("{BROKEN}[rules.disk_full]\nbound = 0.5\n")).expect("a configuration");
    hang_up();
    let told = until("a notice of it", START, || {
        notices()
            .into_iter()
            .find(|notice| notice.contains("the old one stays in force"))
    });
    for mistake in MISTAKES {
        assert!(told.contains(mistake), "{mistake} is not in: {told}");
    }
    assert!(condition().contains("91 %"), "{}", condition());
    let shown = stage.server.command(&[]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("configuration not taken up"), "{shown}");
    assert!(shown.lines().count() <= 12, "{shown}");

    fs::write(&file, "[rules.disk_full]\nbound = 0.92\n").expect("a configuration");
    hang_up();
    until_true("the mended one to be taken up", START, || {
        condition().contains("92 %")
    });
    until_true("the notice to be gone", START, || {
        !notices().iter().any(|n| n.contains("configuration"))
    });
}

/// Series of the host that fills the journal; the most a host may have.
const WIDE: usize = 2_000;

/// Ticks in one of its batches: somewhat under a megabyte.
const WIDE_TICKS: i64 = 50;

/// Its batches: the journal's segment takes some twenty.
const WIDE_BATCHES: u64 = 30;

#[test]
fn a_full_disk_of_the_server() {
    if !needs::are_met(&[Need::Mounts]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let disk = Tmpfs::mount(&dir.path().join("server"), "128m");
    let server = Server::start(&disk.point, &ServerOptions::default());
    let stage = Stage { server, dir };
    let mut agent = stage.agent("web01");
    let state = stage.path("wide01");
    let _joined = Agent::join(
        &state,
        "wide01",
        stage.server.address,
        &stage.server.token(1).join,
    );
    live(&stage, 1);
    let series = |i: usize| Series::new(&format!("wide_{i}"), Kind::Gauge);
    let schema = Schema::new((0..WIDE).map(series).collect());
    let ticks = ticks(
        &schema,
        WIDE_TICKS * i64::try_from(WIDE_BATCHES).expect("few"),
    );
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let address = stage.server.address.to_string();
    let send = |epoch| runtime.block_on(deliver(&state, &address, epoch, &schema, &ticks[1..]));
    // What the ledger keeps of a new host is told by its first samples: the full disk is to meet samples alone.
    let first = runtime.block_on(deliver(&state, &address, 8, &schema, &ticks[..1]));
    first.1.expect("room for one");
    live(&stage, 2);

    let ballast = disk.point.join("ballast");
    fill(&ballast, 1.0);
    let (acked, ended) = send(9);
    let status = ended.expect_err("there is no room for all");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("disk is full"), "{status:?}");
    assert!(acked > 0 && acked + 1 < ticks.len() as u64, "{acked}");
    let now: Now = stage.server.get("/api/v1/now").expect("the server goes on");
    assert_eq!(now.hosts, 2);

    fs::remove_file(&ballast).expect("the ballast");
    let all = until("room for all", SOON, || {
        let (all, ended) = send(9);
        ended.is_ok().then_some(all)
    });
    assert_eq!(all + 1, ticks.len() as u64);
    let wide = whole(&stage, "wide01", "wide_7", all + 1);
    assert_eq!((wide.samples, wide.repeated), (all + 1, 0));
    // The agent kept what was refused: no tick is missing, and none is there twice.
    let before = whole(&stage, "web01", "node_load1", 1).samples;
    let after = whole(&stage, "web01", "node_load1", before + 8);
    assert_eq!(after.repeated, 0);
    let far = SignedDuration::from_millis(4 * i64::try_from(TICK_MS).expect("small"));
    let pairs = after.points.windows(2);
    let gaps = pairs.filter(|pair| pair[1].0.duration_since(pair[0].0) > far);
    assert_eq!(gaps.count(), 0, "{:?}", after.points);
    agent.kill();
    let log = stage.server.log();
    assert!(!log.contains("panicked"), "{log}");
}

/// A new host's schema meets the full disk while its samples still find room in the journal: judging waits, streams are told,
/// and the command says so, until there is room again.
#[test]
fn a_full_disk_that_meets_a_new_host() {
    if !needs::are_met(&[Need::Mounts]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let disk = Tmpfs::mount(&dir.path().join("server"), "128m");
    let server = Server::start(&disk.point, &ServerOptions::default());
    let state = dir.path().join("wide01");
    let line = server.token(1).join;
    let _joined = Agent::join(&state, "wide01", server.address, &line);
    let series = |i: usize| Series::new(&format!("wide_{i}"), Kind::Gauge);
    let schema = Schema::new((0..WIDE).map(series).collect());
    let ticks = ticks(&schema, 3);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let address = server.address.to_string();
    let send = |ticks| {
        runtime
            .block_on(deliver(&state, &address, 9, &schema, ticks))
            .1
    };
    let told = || {
        let now: Now = server.get("/api/v1/now").expect("the server answers");
        now.notices
            .iter()
            .any(|notice| notice.contains("disk is full"))
    };

    let ballast = disk.point.join("ballast");
    fill(&ballast, 1.0);
    // Whether the first finds room in the journal depends on how full its segment is; either answer is an honest one.
    let _ = send(&ticks[..1]);
    until_true("the server to say that its disk is full", SOON, told);
    let status = send(&ticks).expect_err("nothing is taken in");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");

    fs::remove_file(&ballast).expect("the ballast");
    until_true("the server to go on", SOON, || !told());
    send(&ticks).expect("room for all");
    let stage = Stage { server, dir };
    let wide = whole(&stage, "wide01", "wide_7", ticks.len() as u64);
    assert_eq!((wide.samples, wide.repeated), (ticks.len() as u64, 0));
}

/// Longest wait while a disk is full: a silence, a message, and what agents wait before they come back.
const FULL_WITHIN: Duration = Duration::from_secs(120);

/// Agents of samples alone: nothing else of theirs is to be counted.
const QUIET: &str = "ping = false\n[logs]\njournald = false\nfiles = []";

#[test]
#[allow(
    clippy::too_many_lines,
    reason = "one full disk from its beginning to its end"
)]
fn a_full_disk_stops_neither_judging_nor_messages() {
    if !needs::are_met(&[Need::Mounts]) {
        return;
    }
    let dir = tempfile::tempdir().expect("it is there");
    let disk = Tmpfs::mount(&dir.path().join("server"), "192m");
    let webhook = Webhook::start();
    let settings = format!(
        "[[channel]]\nname = \"ops\"\ntype = \"webhook\"\nurl = \"http://{}/hook\"\n",
        webhook.address
    );
    fs::write(disk.point.join("dawnwatch.toml"), settings).expect("it is there");
    let mut server = Server::start(&disk.point, &ServerOptions::default());
    let reserve = disk.point.join("reserve");
    assert!(
        fs::metadata(&reserve).expect("it is there").len() > 0,
        "room is reserved"
    );
    let join = |name: &str| {
        let line = server.token(1).join;
        let mut agent = Agent::join(&dir.path().join(name), name, server.address, &line);
        agent.configure(TICK_MS, QUIET);
        agent.start();
        agent
    };
    let (mut stays, mut dies) = (join("stays01"), join("dies01"));
    let now = |server: &Server| -> Now { server.get("/api/v1/now").expect("the server answers") };
    until_true("both to report", FULL_WITHIN, || {
        now(&server).hosts_live == 2
    });

    let state = dir.path().join("wide01");
    let line = server.token(1).join;
    let _joined = Agent::join(&state, "wide01", server.address, &line);

    let ballast = disk.point.join("ballast");
    fill(&ballast, 1.0);
    let told = |server: &Server| {
        let notices = now(server).notices;
        notices
            .iter()
            .any(|n| n.contains("agents keep what they measure"))
    };
    // The journal's segment has room for hours of two agents: a third one brings more than that.
    let series = |i: usize| Series::new(&format!("wide_{i}"), Kind::Gauge);
    let schema = Schema::new((0..WIDE).map(series).collect());
    let many = WIDE_TICKS * i64::try_from(2 * WIDE_BATCHES).expect("few");
    let ticks = ticks(&schema, many);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let address = server.address.to_string();
    let sent = runtime.block_on(deliver(&state, &address, 9, &schema, &ticks));
    let status = sent.1.expect_err("there is no room for all");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    until_true(
        "the server to say that its disk is full",
        FULL_WITHIN,
        || told(&server),
    );
    assert_eq!(
        fs::metadata(&reserve).expect("it is there").len(),
        0,
        "given back"
    );

    // What happens now is judged and told.
    dies.kill();
    let silent = until("the silence to be told", FULL_WITHIN, || {
        let all: Vec<Incident> = server.get("/api/v1/incidents").ok()?;
        all.into_iter().find(|i| i.name == "dies01")
    });
    until_true("the message", FULL_WITHIN, || {
        webhook
            .posted()
            .iter()
            .any(|posted| posted.body.to_string().contains(&silent.id))
    });
    let of_others = |server: &Server| -> Vec<Incident> {
        let all: Vec<Incident> = server.get("/api/v1/incidents").expect("incidents");
        all.into_iter().filter(|i| i.name == "stays01").collect()
    };
    assert!(told(&server), "it was full all the time");
    let others = of_others(&server);
    assert!(others.is_empty(), "{others:?}\n{}", stays.log());

    // A restart on the full disk finds room to start, and goes on refusing.
    server = server.kill_and_start(&ServerOptions::default());
    until_true("the server to say it again", FULL_WITHIN, || told(&server));

    fs::remove_file(&ballast).expect("it is there");
    until_true("room again", FULL_WITHIN, || !told(&server));
    assert!(
        fs::metadata(&reserve).expect("it is there").len() > 0,
        "taken again"
    );
    let path = "/api/v1/history?host=stays01&series=node_load1&from=2020-01-01T00:00:00Z";
    let whole = |server: &Server| -> History { server.get(path).expect("history") };
    let before = whole(&server).samples;
    until_true("the backlog and more", FULL_WITHIN, || {
        whole(&server).samples >= before + 20 && now(&server).hosts_live >= 1
    });
    let history = whole(&server);
    assert_eq!(history.repeated, 0);
    let apart =
        |pair: &[(jiff::Timestamp, Option<f64>)]| pair[1].0.duration_since(pair[0].0).as_secs();
    let widest = history.points.windows(2).map(apart).max();
    assert!(
        widest.unwrap_or(0) <= 4,
        "a hole of {widest:?} s: {:?}",
        history.points
    );
    assert!(of_others(&server).is_empty(), "{:?}", of_others(&server));
    stays.kill();
}

/// Waits until so many hosts report.
fn live(stage: &Stage, hosts: u32) {
    until_true("the hosts to report", SOON, || {
        let now = stage.server.get("/api/v1/now");
        now.is_ok_and(|now: Now| now.hosts_live == hosts)
    });
}

/// The history of a series once it has so many samples.
fn whole(stage: &Stage, host: &str, series: &str, samples: u64) -> History {
    let path = format!("/api/v1/history?host={host}&series={series}&from=2020-01-01T00:00:00Z");
    until("the history to be whole", SOON, || {
        let history: Option<History> = stage.server.get(&path).ok();
        history.filter(|history| history.samples >= samples)
    })
}

/// Sends what the server does not hold yet; what it acknowledged, and how the stream ended if it did.
async fn deliver(
    state: &Path,
    address: &str,
    epoch: u64,
    schema: &Schema,
    ticks: &[Tick],
) -> (u64, Result<(), tonic::Status>) {
    let (mut stream, mut held) = match Stream::greet(state, address, epoch).await {
        Ok(greeted) => greeted,
        Err(status) => return (0, Err(status)),
    };
    while let Some(rest) = ticks
        .get(usize::try_from(held).expect("few")..)
        .filter(|rest| !rest.is_empty())
    {
        let part = &rest[..rest.len().min(usize::try_from(WIDE_TICKS).expect("few"))];
        for message in batch(schema, held + 1, part) {
            stream.say(message).await;
        }
        let seq = held + part.len() as u64;
        if let Err(status) = stream.acked(seq).await {
            return (held, Err(status));
        }
        held = seq;
    }
    (held, Ok(()))
}
