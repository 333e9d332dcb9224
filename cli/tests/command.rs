//! The real binary: exit codes, sentences, and answers over a real Unix socket.

#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn dawnwatch(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dawnwatch"));
    command
        .args(args)
        .env_remove("DAWNWATCH_DATA")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    dawnwatch(args).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A server that answers each request whose line begins so with that status and body, as often as asked.
fn serve(dir: &Path, answers: &'static [(&'static str, u16, &'static str)]) -> String {
    let listener = UnixListener::bind(dir.join("api.sock")).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                request.push(byte[0]);
            }
            let request = String::from_utf8(request).unwrap();
            let found = answers.iter().find(|(line, ..)| request.starts_with(line));
            let (_, status, body) =
                found.unwrap_or(&("", 404, r#"{"error":"no such page","suggestions":[]}"#));
            let head = format!(
                "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            // A command that has seen enough closes early, which is its right.
            let _ = stream
                .write_all(head.as_bytes())
                .and_then(|()| stream.write_all(body.as_bytes()));
        }
    });
    dir.to_str().unwrap().to_owned()
}

const NOW: &str = r#"{"at":"2026-10-05T05:30:00Z","zone":"Europe/Berlin","calendar_confirmed":true,"hosts":1,
    "hosts_live":1,"open":[],"last_night":null,"notices":[]}"#;
const HOSTS: &str = r#"[{"id":"019aa000-0000-7000-8000-000000000001","name":"web\u001b[1m01","state":"live",
    "joined":"2026-09-01T10:00:00Z","last_seen":"2026-10-05T05:29:56Z","importance":"normal","service":null,"owner":null,
    "site":null,"agent_version":"0.1.0","system":"Debian","clock_offset_seconds":0.0,"series":2,"worst":null,
    "values":[["cpu_ratio",0.12]]}]"#;
/// With one that was retired.
const ALL_HOSTS: &str = r#"[{"id":"019aa000-0000-7000-8000-000000000001","name":"web\u001b[1m01","state":"live",
    "joined":"2026-09-01T10:00:00Z","last_seen":"2026-10-05T05:29:56Z","importance":"normal","service":null,"owner":null,
    "site":null,"agent_version":"0.1.0","system":"Debian","clock_offset_seconds":0.0,"series":2,"worst":null,
    "values":[["cpu_ratio",0.12]]},{"id":"020aa000-0000-7000-8000-000000000002","name":"old01","state":"retired",
    "joined":"2026-09-01T10:00:00Z","last_seen":"2026-10-01T05:29:56Z","importance":"normal","service":null,"owner":null,
    "site":null,"agent_version":"0.1.0","system":"Debian","clock_offset_seconds":0.0,"series":2,"worst":null,"values":[]}]"#;
const HISTORY: &str = r#"{"host":"019aa000-0000-7000-8000-000000000001","name":"web01","series":"node_load1",
    "kind":"gauge","zone":"Europe/Berlin","points":[["2026-10-05T05:00:00Z",0.5],["2026-10-05T05:10:00Z",1.0]],"samples":2}"#;

const REVIEW: &str = r#"{"at":"2026-10-05T05:30:00Z","since":[],"review":{"format":1,"id":"N-2026-10-05",
    "start":"2026-10-02T16:00:00Z","end":"2026-10-05T06:00:00Z","until":"2026-10-05T05:00:00Z","zone":"Europe/Berlin",
    "calendar_confirmed":true,"hours":"Mon-Fri 08:00-18:00","sealed":"2026-10-05T05:00:00Z","learning":null,
    "verdict":"CRITICAL","blind":false,"sentence":"One thing cannot wait.","coverage":{"ratio":1.0,"hosts":1,
    "expected_seconds":1,"watched_seconds":1,"server_up_seconds":1,"window_seconds":1,"unwatched":[],"ticks_dropped":0},
    "critical":[],"today":[],"healed":[],"changed":[],"tonight":[],"messages":{"channels":[],"sent":0,"arrived":0,
    "confirmed":0,"lost":0,"pending":0,"events":0},"findings":0,"signed_off":0,"tzdb":"2026a"}}"#;

const ANSWERS: &[(&str, u16, &str)] = &[
    ("GET /api/v1/now ", 200, NOW),
    ("GET /api/v1/hosts ", 200, HOSTS),
    ("GET /api/v1/hosts?state=all ", 200, ALL_HOSTS),
    (
        "GET /api/v1/logs?limit=200&host=020aa000-0000-7000-8000-000000000002&",
        200,
        r#"{"zone":"UTC","lines":[{"time":"2026-10-01T05:00:00Z","host":"020aa000-0000-7000-8000-000000000002","name":"old01",
        "severity":3,"source":"kernel","text":"its last words","cut_from":0}],"more":false,"cut":0,"damaged":[]}"#,
    ),
    ("GET /api/v1/incidents?state=open ", 200, "[]"),
    (
        "GET /api/v1/incidents/I-9 ",
        404,
        r#"{"error":"no incident I-9","suggestions":["I-8"]}"#,
    ),
    (
        "POST /api/v1/incidents/I-8/ack ",
        403,
        r#"{"error":"viewers take nothing","suggestions":[]}"#,
    ),
    ("GET /api/v1/review?night=N-2026-10-05 ", 200, REVIEW),
    ("GET /api/v1/rules ", 500, "oops"),
    ("GET /api/v1/nights ", 200, "{"),
    (
        "GET /api/v1/series?host=019aa000-0000-7000-8000-000000000001 ",
        200,
        r#"["node_load1","node_load15"]"#,
    ),
    (
        "GET /api/v1/history?host=019aa000-0000-7000-8000-000000000001&series=node_load1&from=2026-10-05T01%3A00%3A00Z&to=2026-10-05T05%3A30%3A00Z&points=2000 ",
        200,
        HISTORY,
    ),
    (
        "GET /api/v1/history?host=019aa000-0000-7000-8000-000000000001&series=disk_up%7Bdevice%3D%22sdb%22%7D&",
        200,
        r#"{"host":"019aa000-0000-7000-8000-000000000001","name":"web01","series":"disk_up{device=\"sdb\"}","kind":"gauge",
        "zone":"Europe/Berlin","points":[["2026-10-05T05:00:00Z",0.5]],"samples":1}"#,
    ),
    // The server takes a part of a name too.
    (
        "GET /api/v1/history?host=019aa000-0000-7000-8000-000000000001&series=disk&",
        200,
        HISTORY,
    ),
    (
        "GET /api/v1/series?host=server ",
        200,
        r#"["journal_lag_seconds"]"#,
    ),
];

#[test]
fn bad_usage_is_64_and_help_is_none() {
    for args in [
        &["--nonsense"][..],
        &["frobnicate"],
        &["--output", "xml"],
        &["--tz", "Mars/Olympus", "hosts"],
        &["review", "last-tuesday"],
        &["why", "web01"],
        &["token", "create", "--uses", "0"],
        &["token", "create", "--expires", "soon"],
        &["token"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(64), "{args:?}: {}", err(&output));
        assert!(
            !err(&output).is_empty() && output.stdout.is_empty(),
            "{args:?}"
        );
    }
    for args in [
        &["--help"][..],
        &["--version"],
        &["review", "--help"],
        &["help", "token"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(
            out(&output).len() > 10 && output.stderr.is_empty(),
            "{args:?}"
        );
    }
}

#[test]
fn no_server_is_69_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    for args in [
        &["--data", data][..],
        &["--data", data, "hosts"],
        &["ack", "I-1", "--data", data],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(69), "{args:?}");
        let text = err(&output);
        assert!(
            text.contains(&format!("cannot reach the server at {data}/api.sock")),
            "{text}"
        );
        assert!(text.contains("dawnwatch-server run"), "{text}");
    }
    let output = dawnwatch(&["hosts"])
        .env("DAWNWATCH_DATA", data)
        .output()
        .unwrap();
    assert!(
        err(&output).contains(data),
        "the environment names the data directory"
    );
}

/// What is typed, the exit code, and a part of what is printed.
const CASES: &[(&[&str], i32, &str)] = &[
    (&["hosts"], 0, "web\\u{1b}[1m01  live         4 s"),
    (
        &["hosts", "--output", "csv"],
        0,
        "host,state,last_seen,worst,cpu_ratio,series,agent,service,owner\n",
    ),
    (
        &["hosts", "--output", "md"],
        0,
        "| web\\\\u{1b}\\[1m01 | live |",
    ),
    (
        &["hosts", "--output", "json"],
        0,
        r#""name":"web\u001b[1m01""#,
    ),
    (
        &["incidents"],
        0,
        "nothing is open; closed ones: dawnwatch incidents --all\n",
    ),
    (&["history", "web"], 0, "node_load1\nnode_load15\n"),
    (
        &["history", "019aa", "node_load1", "--from", "03:00"],
        0,
        " 1  Mon 07:10:00",
    ),
    (
        &[
            "history",
            "web",
            "node_load1",
            "--from",
            "03:00",
            "--output",
            "csv",
        ],
        0,
        "2026-10-05T05:10:00Z,1\n",
    ),
    (&["history", "web", "node", "load15"], 65, "no such page"),
    (&["history", "web", "node_laod1"], 65, "did you mean"),
    (&["history", "wbe"], 65, "no host is called wbe"),
    (&["logs", "old01", "--since", "-9d"], 0, "its last words"),
    (&["history", "server"], 0, "journal_lag_seconds\n"),
    (
        &["history", "web", "disk_up{device=\"sdb\"}"],
        0,
        "disk_up{device=\"sdb\"}  1 sample\n",
    ),
    (
        &["history", "web", "disk"],
        65,
        "the host has no series disk",
    ),
    (
        &["history", "web", "node_load1", "--from", "now"],
        64,
        "no time",
    ),
    (
        &["review", "n-2026-10-05", "--exit-code"],
        2,
        "One thing cannot wait.",
    ),
    (&["review", "--night", "2026-10-05"], 0, "Fri 2 Oct 18:00"),
    (
        &["show", "N-2026-10-05", "--tz", "UTC"],
        0,
        "Fri 2 Oct 16:00",
    ),
    (
        &["review", "2026-10-05", "--output", "md"],
        0,
        "```text\nNIGHT",
    ),
    (
        &["review", "2026-10-05", "--output", "json", "--exit-code"],
        2,
        "{\"at\":",
    ),
    (&["show", "I-9"], 65, "no incident I-9; did you mean I-8?"),
    (&["ack", "8"], 77, "viewers take nothing"),
    (&["rules"], 70, "500"),
    (&["nights"], 70, "cannot read the server's answer"),
];

#[test]
fn answers_are_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let data = serve(dir.path(), ANSWERS);
    for (args, code, wanted) in CASES {
        let output = dawnwatch(args).args(["--data", &data]).output().unwrap();
        let text = out(&output) + &err(&output);
        assert_eq!(output.status.code(), Some(*code), "{args:?}: {text}");
        assert!(text.contains(wanted), "{args:?}: {text}");
        assert!(!text.contains('\u{1b}'), "{args:?}: {text}");
    }
}

#[test]
fn colour_is_asked_for_or_off_on_a_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let data = serve(dir.path(), ANSWERS);
    for (args, colour) in [
        (&["--color", "always"][..], true),
        (&["--color", "never"], false),
        (&[], false),
    ] {
        let output = dawnwatch(&["hosts", "--data", &data])
            .args(args)
            .output()
            .unwrap();
        assert_eq!(
            out(&output).contains("\u{1b}[32mlive\u{1b}[0m"),
            colour,
            "{args:?}"
        );
    }
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let data = serve(dir.path(), ANSWERS);
    let mut child = dawnwatch(&["hosts", "--data", &data])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), err(&output)),
        (Some(0), String::new())
    );
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = dawnwatch(&["hosts", "--data", &data])
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(73),
        "a full disk is one: {}",
        err(&output)
    );
}
