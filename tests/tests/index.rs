//! The index may be deleted, cut, flipped, or killed while it is being built: every request of the API is answered the same.
//!
//! A real server is filled with hosts, an incident, shapes of log lines, and a ledger that remembers more than the engine
//! does. Its data directory is copied once for each fate of the index, and all answers are compared byte for byte, but for
//! what tells the time of asking.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dawnwatch_engine::{Effect, Entry};
use dawnwatch_proto::api::{Evidence, Host, Incident, Search};
use dawnwatch_proto::event::{Event, EventBody, Template};
use dawnwatch_proto::pb::{self, from_agent};
use dawnwatch_proto::review::{Review, Severity};
use dawnwatch_proto::{HostId, Item, wire};
use dawnwatch_segment::{Disk, RealDisk};
use dawnwatch_server::ledger::{Frame, Ledger};
use dawnwatch_server::nights;
use dawnwatch_server::web::access::ROUTES;
use dawnwatch_tests::faketime::real_now;
use dawnwatch_tests::house::{Agent, Server, ServerOptions};
use dawnwatch_tests::socket::request;
use dawnwatch_tests::stream::Stream;
use dawnwatch_tests::wait::{until, until_true};
use jiff::Timestamp;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

/// A host is silent after 30 s.
const SILENCE: Duration = Duration::from_secs(120);

/// Incidents of years ago: enough that building the index takes more than one write.
const OLD: u64 = 400;

/// A night of then.
const NIGHT: &str = "N-2021-01-01";

/// What every GET route of the API is asked here. A route that is added must be added here too.
fn asked(route: &str) -> Vec<String> {
    let with = |all: &[&str]| {
        let one = |query: &&str| format!("{route}{query}");
        all.iter().map(one).collect::<Vec<_>>()
    };
    match route {
        "/api/v1/hosts" => with(&["", "?state=all", "?state=retired"]),
        "/api/v1/series" => with(&["?host=web02"]),
        "/api/v1/history" => with(&[
            "?host=web02&series=node_load1",
            "?host=web02&series=node_load15&points=3",
            "?host=web02&series=node_load15&form=columns",
        ]),
        "/api/v1/incidents" => with(&["", "?state=open", "?state=closed"]),
        "/api/v1/incidents/{id}" => [1, 900_001, 900_007, 900_400, 77_777]
            .iter()
            .map(|number| format!("/api/v1/incidents/I-{number}"))
            .collect(),
        "/api/v1/review" => with(&["", "?night=so-far", "?night=-1", "?night=N-2021-01-01"]),
        "/api/v1/search" => with(&[
            "",
            "?q=web",
            "?q=volume+full",
            "?q=data3&limit=500",
            "?q=I-900007",
            "?q=handshake",
            "?q=handshake&host=web01",
            "?q=handshake&host=web02",
            "?kind=incident&limit=500",
            "?kind=finding",
            "?kind=template",
            "?kind=host",
            "?q=volume&to=2021-01-03T00:00:00Z",
            "?q=closed&from=2021-01-02T12:00:00Z",
            "?q=nothing+of+this",
        ]),
        "/api/v1/nights/{id}/evidence" => ["N-2021-01-01", "-1", "N-2021-01-02"]
            .iter()
            .map(|night| format!("/api/v1/nights/{night}/evidence"))
            .collect(),
        _ if !route.contains('{') => with(&[""]),
        other => panic!("{other} is asked nothing here: add it to the list"),
    }
}

/// All answers of a server, in words: what was asked and what came.
fn answers(server: &Server, since: Timestamp) -> Vec<(String, String)> {
    until_true("the index to be whole", SOON, || {
        server.get::<Search>("/api/v1/search?q=web").is_ok()
    });
    let routes = ROUTES
        .iter()
        .filter(|route| route.method == "GET" && route.path.starts_with("/api/"));
    let mut out = Vec::new();
    for request in routes.flat_map(|route| asked(route.path)) {
        let answer = match server.get::<Value>(&request) {
            Ok(mut value) => {
                timeless(&mut value, since, !request.contains(NIGHT));
                value.to_string()
            }
            Err(error) => error.to_string(),
        };
        out.push((request, answer));
    }
    out
}

/// Takes out what tells the time of asking: moments since the servers to compare began, and of what still goes on how long it
/// has gone on.
fn timeless(value: &mut Value, since: Timestamp, goes_on: bool) {
    match value {
        Value::String(text) => {
            if text.parse::<Timestamp>().is_ok_and(|at| at >= since) {
                *text = "later".to_owned();
            }
        }
        Value::Array(all) => all.iter_mut().for_each(|one| timeless(one, since, goes_on)),
        Value::Object(all) => {
            let words = |value: &Value| {
                let all = value.as_array();
                all.is_some_and(|all| all.iter().all(Value::is_string))
            };
            let tells = |key: &str, value: &Value| {
                key.ends_with("seconds")
                    || ["ratio", "sentence", "rank", "score"].contains(&key)
                    || (key == "evidence" && words(value))
            };
            all.retain(|key, value| !(goes_on && tells(key, value)));
            // A review so far reaches to the last input that was judged, which may be one of before the restart.
            if goes_on && all.contains_key("tzdb") {
                all.remove("until");
            }
            all.values_mut()
                .for_each(|one| timeless(one, since, goes_on));
            // Starts of the servers that are compared.
            if let Some(Value::Array(changed)) = all.get_mut("changed") {
                changed.retain(|one| one["at"] != "later");
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A ledger of years ago, whose incidents no engine remembers.
fn old_ledger(data: &Path) {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut ledger = Ledger::open(&disk, data).expect("a ledger");
    let begin: Timestamp = "2021-01-01T00:00:00Z".parse().expect("a moment");
    sealed_night(&mut ledger, data, begin);
    for number in 1..=OLD {
        let at = Timestamp::from_second(begin.as_second() + 600 * number.cast_signed());
        let at = at.expect("a moment");
        let incident = |state: &str, what: &str| {
            Effect::Record(Entry::Incident {
                id: format!("I-{}", 900_000 + number),
                host: HostId(7),
                state: state.to_owned(),
                severity: Severity::Critical,
                at,
                by: String::new(),
                what: what.to_owned(),
            })
        };
        let what = format!("volume /data{} full", number % 10);
        let effects = vec![incident("open", &what), incident("closed", "healed")];
        let frame = Frame {
            position: 0,
            wall: at,
            effects,
        };
        ledger.append(&frame).expect("a frame");
    }
}

/// A night of years ago, sealed with what it keeps of one of these incidents.
fn sealed_night(ledger: &mut Ledger, data: &Path, begin: Timestamp) {
    let at = |hours: i64| {
        let at = Timestamp::from_second(begin.as_second() + 3_600 * hours);
        at.expect("a moment")
    };
    let incident = json!({
        "id": "I-900007", "host": HostId(7), "name": "old7", "state": "closed", "severity": "critical",
        "what": "volume /data7 full", "since": at(1), "until": at(2), "cause": "cause unknown",
        "alerts": [{
            "rule": "disk_full", "series": "node_filesystem_avail_bytes{mountpoint=\"/data7\"}",
            "state": "resolved", "severity": "critical", "since": at(1), "why": "0 B are left",
            "observed": 0.0, "worst": 0.0, "bound": 1_048_576.0, "evidence": [], "late": false,
        }],
        "told": [], "why": [], "lines": [],
    });
    let kept: Evidence = serde_json::from_value(json!({
        "format": 1, "night": NIGHT, "zone": "Europe/Berlin", "sealed": at(9), "left_out": 0, "damaged": [],
        "findings": [{
            "incident": incident, "from": at(0), "to": at(2), "series_more": 0, "lines_more": false,
            "series": [{
                "series": "node_filesystem_avail_bytes{mountpoint=\"/data7\"}", "kind": "gauge",
                "points": [[at(0), 4096.0], [at(1), null], [at(2), 0.0]], "peaks": [], "samples": 2,
            }],
            "lines": [{
                "time": at(1), "host": HostId(7), "name": "old7", "severity": 3, "source": "kernel",
                "text": "no space left on device",
            }],
        }],
    }))
    .expect("evidence");
    let review: Review = serde_json::from_value(json!({
        "format": 1, "id": NIGHT, "start": at(-6), "end": at(9), "until": at(9), "zone": "Europe/Berlin",
        "calendar_confirmed": true, "hours": "Mon-Fri 08:00-18:00", "sealed": at(9), "verdict": "CRITICAL",
        "blind": false, "sentence": "One volume ran full and is in order again.", "critical": [],
        "today": [], "changed": [], "tonight": [], "findings": 1, "signed_off": 0, "tzdb": "2020f",
        "coverage": {
            "ratio": 1.0, "hosts": 1, "expected_seconds": 54_000, "watched_seconds": 54_000,
            "server_up_seconds": 54_000, "window_seconds": 54_000, "unwatched": [], "ticks_dropped": 0,
        },
        "messages": {
            "channels": [], "sent": 0, "arrived": 0, "confirmed": 0, "lost": 0, "pending": 0, "events": 1,
        },
        "healed": [{
            "id": "I-900007", "subject": "old7", "what": "volume /data7 full", "severity": "critical",
            "since": at(1), "until": at(2), "cause": "cause unknown", "evidence": ["0 B are left"],
            "rank": "healed", "score": 1, "state": "closed",
        }],
    }))
    .expect("a review");
    let (bytes, hash) = nights::canonical(&kept);
    nights::evidence::write(data, NIGHT, &bytes).expect("evidence");
    let night = NIGHT.to_owned();
    let evidence = Effect::Record(Entry::Evidence { night, hash });
    let (bytes, hash) = nights::canonical(&review);
    nights::write(data, &review, &bytes).expect("a night");
    let night = NIGHT.to_owned();
    let sealed = Effect::Record(Entry::Sealed { night, hash });
    let frame = Frame {
        position: 0,
        wall: at(9),
        effects: vec![Effect::SealNight(Box::new(review)), sealed, evidence],
    };
    ledger.append(&frame).expect("a frame");
}

/// A host tells the shape of its log lines.
fn tell_shapes(state: &Path, server: &Server) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let item = |id: u32| {
        let told = Template {
            id,
            text: format!("TLS handshake failed peer <ip> alert {id}"),
            source: "postfix".to_owned(),
            severity: 4,
            ..Template::default()
        };
        let body = EventBody::Template(told);
        let time = real_now();
        let item = Item::Event(Event { time, body });
        wire::Encoder::default().item(&item, || unreachable!()).1
    };
    let batch = pb::Batch {
        epoch: 0,
        first_seq: 1,
        items: (1..=20).map(item).collect(),
        most_ms: None,
    };
    runtime.block_on(async {
        let address = server.address.to_string();
        let (mut stream, _) = Stream::greet(state, &address, 5).await.expect("a welcome");
        stream.say(from_agent::Body::Batch(batch)).await;
        stream.acked(20).await.expect("an acknowledgement");
    });
}

/// Fills a house and stops it; where its data is.
fn fill(dir: &Path) -> PathBuf {
    let data = dir.join("server");
    fs::create_dir(&data).expect("the data directory");
    // How full this machine's own disk is, and that the server is killed again and again, must not show in the answers.
    let rules =
        "[rules.server_disk]\nenabled = false\n[rules.server_restarting]\nenabled = false\n";
    fs::write(data.join("dawnwatch.toml"), rules).expect("the configuration");
    old_ledger(&data);
    let mut server = Server::start(&data, &ServerOptions::default());
    let token = server.token(2);
    let state = dir.join("web01");
    let web01 = Agent::join(&state, "web01", server.address, &token.join);
    tell_shapes(&state, &server);
    drop(web01);
    let mut web02 = Agent::join(&dir.join("web02"), "web02", server.address, &token.join);
    web02.configure(100, "");
    web02.start();
    until("samples of web02", SOON, || {
        let hosts = server.get::<Vec<Host>>("/api/v1/hosts").ok()?;
        hosts.into_iter().find(|host| host.series > 10)
    });
    web02.kill();
    until("web02 to be missed", SILENCE, || {
        let all = server.get::<Vec<Incident>>("/api/v1/incidents").ok()?;
        all.into_iter().find(|incident| incident.name == "web02")
    });
    let found = until("the incident to be found", SOON, || {
        let found = server.get::<Search>("/api/v1/search?kind=incident&q=web02");
        found.ok().filter(|search| !search.found.is_empty())
    });
    assert!(found.found.iter().all(|one| one.name == "web02"));
    assert!(server.stop().success());
    data
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let kind = entry.file_type().expect("its kind");
        let to = to.join(entry.file_name());
        if kind.is_dir() {
            copy(&entry.path(), &to);
        } else if kind.is_file() {
            fs::copy(entry.path(), to).expect("a copy");
        }
    }
}

/// What befalls the index of a data directory while the server stands still.
type Fate = fn(&Path);

fn flip(file: &Path) {
    let mut bytes = fs::read(file).expect("the index");
    let middle = bytes.len() / 3;
    bytes[middle] ^= 0x10;
    fs::write(file, bytes).expect("the index");
}

/// Kills the server while it builds its index, at ever later moments.
fn kill_while_building(data: &Path) {
    for round in 0..6u64 {
        let mut server = Server::start(data, &ServerOptions::default());
        std::thread::sleep(Duration::from_millis(round * 15));
        server.kill();
    }
    let half = fs::read_dir(data.join("index")).map(Iterator::count);
    assert!(half.is_ok_and(|files| files > 0), "no index was begun");
}

#[test]
fn every_request_is_answered_the_same_whatever_became_of_the_index() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = fill(dir.path());
    let since = real_now();
    let fates: [(&str, Fate); 5] = [
        ("kept", |_| {}),
        ("deleted", |data| {
            fs::remove_dir_all(data.join("index")).expect("the index is there");
        }),
        ("flipped", |data| flip(&data.join("index/db"))),
        ("cut", |data| {
            let db = data.join("index/db");
            let half = fs::metadata(&db).expect("the index").len() / 2;
            let file = fs::File::options().write(true).open(&db);
            file.and_then(|file| file.set_len(half)).expect("a cut");
        }),
        ("killed while it was built", |data| {
            fs::remove_dir_all(data.join("index")).expect("the index is there");
            kill_while_building(data);
        }),
    ];
    let mut want: Option<Vec<(String, String)>> = None;
    for (fate, befall) in fates {
        let copied = dir.path().join(fate.replace(' ', "-"));
        copy(&data, &copied);
        befall(&copied);
        let mut server = Server::start(&copied, &ServerOptions::default());
        let got = answers(&server, since);
        let of = |what: &str| &got.iter().find(|(asked, _)| asked == what).expect(what).1;
        assert!(
            of("/api/v1/incidents/I-900007").contains("volume /data7 full"),
            "{fate}"
        );
        assert!(
            of("/api/v1/incidents/I-900007").contains("no space left on device"),
            "{fate}: what the night kept"
        );
        let night = of("/api/v1/review?night=N-2021-01-01");
        assert!(night.contains("volume /data7 full"), "{fate}: {night}");
        let kept = of("/api/v1/nights/N-2021-01-01/evidence");
        assert!(kept.contains("4096"), "{fate}: {kept}");
        assert!(of("/api/v1/incidents/I-77777").contains(" 404 "), "{fate}");
        assert!(
            of("/api/v1/search?q=handshake").contains("alert 20"),
            "{fate}"
        );
        assert!(
            of("/api/v1/search?q=data3&limit=500")
                .matches("volume")
                .count()
                == 40,
            "{fate}"
        );
        match &want {
            None => want = Some(got),
            Some(want) => {
                for (got, want) in got.iter().zip(want) {
                    assert_eq!(got, want, "the index was {fate}");
                }
                assert_eq!(got.len(), want.len());
            }
        }
        assert!(server.stop().success());
    }
}

#[test]
fn the_command_finds_and_shows_what_only_the_ledger_remembers() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("server");
    fs::create_dir(&data).expect("the data directory");
    old_ledger(&data);
    let server = Server::start(&data, &ServerOptions::default());
    let ran = |arguments: &[&str]| {
        let out = server.command(arguments);
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        (
            out.status.code(),
            text,
            String::from_utf8_lossy(&out.stderr).into_owned(),
        )
    };
    until_true("the index to be whole", SOON, || {
        ran(&["find", "volume"]).0 == Some(0)
    });
    let (_, found, _) = ran(&["find", "data7", "full"]);
    assert!(
        found.contains("I-900397") && !found.contains("I-900008"),
        "{found}"
    );
    let (code, shown, _) = ran(&["show", "I-900007"]);
    assert!(
        code == Some(0) && shown.contains("volume /data7 full"),
        "{shown}"
    );
    let (code, _, error) = ran(&["find", "x", "--kind", "cat"]);
    assert!(
        code != Some(0) && error.contains("none of host, incident"),
        "{error}"
    );
    let none = request::<Value>(&data, "GET", "/api/v1/search?q=volume&host=nobody", "");
    assert!(none.unwrap_err().to_string().contains(" 404 "));
}
