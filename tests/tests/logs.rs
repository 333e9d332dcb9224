//! Log lines from the file and the journal to the review: real agent, real server, and text that means harm.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so and ends"
)]

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use dawnwatch_proto::api::{Incident, LiveReview, LogTemplate, LogTemplates, Logs};
use dawnwatch_tests::faketime::real_now;
use dawnwatch_tests::house::{Agent, Server, ServerOptions};
use dawnwatch_tests::journal::{self, Entry};
use dawnwatch_tests::needs::{self, Need};
use dawnwatch_tests::receivers::{Smtp, Webhook};
use dawnwatch_tests::wait::{until, until_true};
use jiff::SignedDuration;

/// Waiting for what comes within a few ticks; machines that build beside their tests are slow.
const SOON: Duration = Duration::from_secs(60);

/// Forty times the usual pace.
const TICK_MS: u64 = 250;

/// A server and a host with a log file and a journal.
struct House {
    server: Server,
    agent: Agent,
    log: PathBuf,
    journals: PathBuf,
    dir: tempfile::TempDir,
}

/// Working hours of one hour, half a day away: whenever the test runs, it is night.
fn night_now() -> String {
    let hour = (real_now().to_zoned(jiff::tz::TimeZone::UTC).hour() + 11).rem_euclid(23);
    format!(
        "[calendar]\nzone = \"UTC\"\nhours = \"Mon-Sun {hour:02}:00-{:02}:00\"\n",
        hour + 1
    )
}

impl House {
    /// Starts both, and waits until what was logged before is known.
    fn build(dir: tempfile::TempDir, settings: &str) -> House {
        let data = dir.path().join("server");
        let (logs, journals) = (dir.path().join("log"), dir.path().join("journal"));
        for made in [&data, &logs, &journals] {
            fs::create_dir(made).unwrap();
        }
        let settings = format!("{}{settings}", night_now());
        fs::write(data.join("dawnwatch.toml"), settings).unwrap();
        let server = Server::start(&data, &ServerOptions::default());
        let token = server.token(1);
        let state = dir.path().join("web01");
        let mut agent = Agent::join(&state, "web01", server.address, &token.join);
        let logged = format!(
            "[logs]\nfiles = [\"{}/*.log\"]\njournald = true\njournal_directory = \"{}\"",
            logs.display(),
            journals.display()
        );
        agent.configure(TICK_MS, &logged);
        let log = logs.join("app.log");
        fs::write(&log, "ERROR the old and well-known trouble\n").unwrap();
        let past = real_now() - SignedDuration::from_hours(1);
        journal::write(&journals, "old", past, &[("sshd", 6, "session opened")]);
        agent.start();
        let house = House {
            server,
            agent,
            log,
            journals,
            dir,
        };
        for old in ["the old and well-known trouble", "session opened"] {
            until_true("what was logged before", SOON, || house.kind(old).is_some());
        }
        house
    }

    /// Appends to the log file.
    fn append(&self, text: &str) {
        let file = OpenOptions::new().append(true).open(&self.log);
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn journal(&self, name: &str, entries: &[Entry<'_>]) {
        journal::write(&self.journals, name, real_now(), entries);
    }

    fn kinds(&self) -> Vec<LogTemplate> {
        let found: LogTemplates = self.server.get("/api/v1/templates").expect("the shapes");
        found.templates
    }

    /// The kind of line whose shape has this in it.
    fn kind(&self, part: &str) -> Option<LogTemplate> {
        let mut kinds = self.kinds().into_iter();
        kinds.find(|kind| kind.text.contains(part))
    }

    fn findings(&self) -> Vec<Incident> {
        let all: Vec<Incident> = self
            .server
            .get("/api/v1/incidents?state=all")
            .expect("the incidents");
        all.into_iter().filter(|i| i.id.starts_with("L-")).collect()
    }

    /// The finding that tells of a kind of line.
    fn finding(&self, part: &str) -> Option<Incident> {
        let told = |i: &Incident| {
            i.alerts
                .iter()
                .any(|a| a.rule == "new_log_line" && a.why.contains(part))
        };
        self.findings().into_iter().find(told)
    }

    /// What the command prints, where it works.
    fn command(&self, arguments: &[&str]) -> String {
        let output = self.server.command(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// A page, as its bytes come.
    fn page(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(self.server.data.join("api.sock")).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let head = format!("GET {path} HTTP/1.0\r\nhost: dawnwatch\r\naccept: text/html\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(" 200 "), "{path}: {answer}");
        answer
    }
}

#[test]
fn new_error_lines_are_in_the_review_and_each_is_told_once() {
    if !needs::are_met(&[Need::Journal]) {
        return;
    }
    let mut house = House::build(tempfile::tempdir().unwrap(), "");
    // Known kinds again, and warnings that nobody knows yet: while learning, nobody is bothered by those.
    house.append("ERROR the old and well-known trouble\nWARNING queue is 91 % full\n");
    house.journal("milder", &[("cron", 4, "job took 71 seconds")]);
    for milder in ["queue is", "job took"] {
        until_true("the warnings to be known", SOON, || {
            house.kind(milder).is_some_and(|kind| kind.severity == 4)
        });
    }
    house.append("ERROR payment 1 refused by 192.0.2.7\n");
    house.journal(
        "error",
        &[("smtpd", 3, "TLS handshake failed peer 192.0.2.9 alert 40")],
    );
    for (part, line) in [
        ("payment", "payment 1 refused by 192.0.2.7"),
        (
            "TLS handshake",
            "TLS handshake failed peer 192.0.2.9 alert 40",
        ),
    ] {
        let found = until("a finding with its line", SOON, || {
            house
                .finding(part)
                .filter(|i| i.lines.iter().any(|l| l.text.contains(line)))
        });
        assert_eq!(
            (found.name.as_str(), found.state.as_str()),
            ("web01", "open")
        );
        assert!(found.what.contains("new"), "{}", found.what);
        for verb in ["show", "why"] {
            let shown = house.command(&[verb, &found.id]);
            assert!(shown.contains("LOGGED") && shown.contains(line), "{shown}");
            assert!(!shown.contains("CAUSE"), "{shown}");
        }
        let logged = house.command(&["logs", "web01"]);
        assert!(logged.contains(line), "{logged}");
        the_review_has(&house, &found.id, part);
    }
    // Nothing else is told: no warning, nothing of before, and no kind twice.
    let told: Vec<String> = house
        .findings()
        .iter()
        .flat_map(|i| i.alerts.iter().map(|a| a.why.clone()))
        .collect();
    assert_eq!(told.len(), 2, "{told:#?}");

    let written = kills_while_lines_come(&mut house);
    let told = payments(&house);
    assert_eq!(told.len(), written, "lines that never came: {told:?}");
    let twice: Vec<_> = told.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "not told once: {twice:?}");
    for (kind, lines) in [("payment", written), ("TLS handshake", 6)] {
        let counted = house.kind(kind).expect("the kind").lines;
        assert_eq!(counted, u64::try_from(lines).unwrap(), "{kind}");
    }
    let findings = house.findings();
    let of = |i: &&Incident| i.alerts.iter().any(|a| a.why.contains("payment"));
    assert_eq!(findings.iter().filter(of).count(), 1, "{findings:#?}");
    assert!(
        house.agent.stop().is_some_and(|status| status.success()),
        "{}",
        house.agent.log()
    );
}

fn the_review_has(house: &House, id: &str, part: &str) {
    let live: LiveReview =
        serde_json::from_str(&house.command(&["review", "--output", "json"])).expect("JSON");
    let row = live.review.today.iter().find(|row| row.id == id);
    let row = row.unwrap_or_else(|| panic!("{id} is not in the review: {live:#?}"));
    assert_eq!(row.subject, "web01");
    // The first kind of a finding stands below its row; further ones are in the finding.
    let shown = house.command(&["review"]);
    assert!(shown.contains(id), "{shown}");
    let told = row.evidence.join("\n");
    assert!(
        told.contains(part) || row.what.contains("2 new kinds"),
        "{row:#?}"
    );
}

/// Writes payments while the agent is killed again and again; returns how many there are in all.
fn kills_while_lines_come(house: &mut House) -> usize {
    let mut written = 1;
    for round in 0..5 {
        let mut some = |house: &House, count: usize| {
            for _ in 0..count {
                written += 1;
                house.append(&format!("ERROR payment {written} refused by 192.0.2.7\n"));
            }
        };
        some(house, 5);
        if round % 2 == 0 {
            // In the middle of it: some are told, some may be spooled, some unread.
            let last = payments(house).len();
            until_true("some of it", SOON, || payments(house).len() > last);
        }
        some(house, 2);
        let before = house.agent.pid();
        house.agent.kill();
        some(house, 3);
        house.journal(
            &format!("dead{round}"),
            &[(
                "smtpd",
                3,
                &format!("TLS handshake failed peer 192.0.2.9 alert {round}"),
            )],
        );
        house.agent.start();
        assert_ne!(house.agent.pid(), before, "it was killed");
    }
    // Lines are told at once. Counts once a minute, and what is left of them by an agent that stops.
    until_true("all lines", SOON, || payments(house).len() >= written);
    assert!(house.agent.stop().is_some_and(|status| status.success()));
    house.agent.start();
    for (kind, lines) in [("payment", written), ("TLS handshake", 6)] {
        until_true("all counts", SOON, || {
            let known = house.kind(kind).map_or(0, |kind| kind.lines);
            known >= u64::try_from(lines).unwrap()
        });
    }
    // What was told before this is counted by the time that this is shown.
    house.append("ERROR the last line of all\n");
    until_true("the last line", SOON, || {
        house.kind("the last line of all").is_some()
    });
    written
}

/// How often each payment was told.
fn payments(house: &House) -> BTreeMap<String, u32> {
    let text = house.command(&[
        "logs", "--grep", "payment", "--limit", "5000", "--output", "json",
    ]);
    let logs: Logs = serde_json::from_str(&text).expect("JSON");
    assert!(!logs.more && logs.cut == 0, "all lines are whole: {logs:?}");
    let mut told = BTreeMap::new();
    for line in logs.lines {
        let mut words = line.text.split(' ').skip_while(|word| *word != "payment");
        let number = words.nth(1).expect("a payment has a number");
        *told.entry(number.to_owned()).or_default() += 1;
    }
    told
}

/// A line that clears a terminal and names its window.
const ESCAPE: &str = "disk gone \x1b[2J\x1b]0;owned\x07 in slot";
/// A line for whoever opens a page.
const SCRIPT: &str = "login failed for <script>alert('dwx')</script>";
/// A line with headers of a mail.
const HEADERS: &str = "no route\r\nBcc: thief@example.net\r\nSubject: all is well\r\n\r\nto host";
/// A line that a spreadsheet would run.
const FORMULA: &str = "=cmd|' /C calc'!A0 was refused";
/// More that a spreadsheet takes for a formula.
const FURTHER: [&str; 3] = [
    "@SUM(1+1) went wrong",
    "+1+cmd went astray",
    "-2+3 went away",
];

const SETTINGS: &str = r#"
[rules.new_log_line]
severity = "critical"

[[channel]]
name = "ops"
type = "webhook"
url = "http://WEBHOOK/hook"

[[channel]]
name = "mail"
type = "email"
server = "127.0.0.1"
port = SMTP_PORT
tls = "starttls"
ca_file = "SMTP_CA"
from = "dawnwatch <dawnwatch@example.org>"
to = ["ops@example.org"]
"#;

#[test]
fn hostile_lines_pass_harmlessly() {
    if !needs::are_met(&[Need::Journal, Need::Aiosmtpd]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (webhook, smtp) = (Webhook::start(), Smtp::start(dir.path()));
    let settings = SETTINGS
        .replace("WEBHOOK", &webhook.address.to_string())
        .replace("SMTP_PORT", &smtp.port.to_string())
        .replace("SMTP_CA", &smtp.ca_file.display().to_string());
    let house = House::build(dir, &settings);
    let mut entries = vec![
        ("kernel", 3, ESCAPE),
        ("sshd", 3, SCRIPT),
        ("smtpd", 3, HEADERS),
        ("=1+1", 3, FORMULA),
    ];
    entries.extend(FURTHER.map(|line| ("app", 3, line)));
    house.journal("hostile", &entries);
    house.append(&format!("ERROR {ESCAPE} of the file\n"));
    // They are there, with all that makes them hostile: what follows would prove nothing otherwise.
    let lines = until("the lines", SOON, || {
        let logs: Logs = house.server.get("/api/v1/logs").ok()?;
        (logs.lines.len() == entries.len() + 1).then_some(logs.lines)
    });
    for hostile in ["\x1b[2J", "<script>alert", "Bcc: thief", "=cmd|"] {
        assert!(
            lines.iter().any(|line| line.text.contains(hostile)),
            "{hostile:?} {lines:#?}"
        );
    }
    let ids: Vec<String> = until("the findings", SOON, || {
        let found = house.findings();
        let kinds: usize = found.iter().map(|i| i.alerts.len()).sum();
        (kinds == entries.len() + 1).then(|| found.into_iter().map(|i| i.id).collect())
    });
    the_command_is_harmless(&house, &ids);
    the_pages_are_harmless(&house, &ids);
    the_mail_is_harmless(&smtp);
    the_webhook_is_harmless(&webhook);
    drop(house.dir);
}

fn inert(what: &str, text: &str) {
    let bad = text
        .char_indices()
        .find(|(_, c)| c.is_control() && *c != '\n');
    assert!(bad.is_none(), "{what}: {bad:?} in {text:?}");
}

fn the_command_is_harmless(house: &House, ids: &[String]) {
    let mut asked: Vec<Vec<&str>> = vec![
        vec![],
        vec!["review"],
        vec!["incidents", "--all"],
        vec!["logs"],
        vec!["logs", "--templates"],
    ];
    for id in ids {
        asked.extend([vec!["show", id], vec!["why", id]]);
    }
    let mut seen = String::new();
    for arguments in asked {
        for output in ["table", "json", "csv", "md"] {
            let mut all = arguments.clone();
            all.extend(["--output", output]);
            let text = house.command(&all);
            inert(&format!("{all:?}"), &text);
            if output == "csv" {
                for cell in cells(&text) {
                    let number = cell.parse::<f64>().is_ok();
                    let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
                    assert!(number || !formula, "{all:?}: {cell:?} in {text}");
                }
            }
            if output == "md" {
                assert!(
                    !outside_of_code(&text).contains("<script"),
                    "{all:?}: {text}"
                );
            }
            if output != "json" {
                let own_line = text
                    .lines()
                    .any(|line| line.trim_start().starts_with("Bcc:"));
                assert!(!own_line, "{all:?}: {text}");
            }
            seen.push_str(&text);
        }
    }
    // All of it was drawn, made harmless.
    let drawn = [
        "\\u{1b}[2J",
        "<script>alert",
        "'=cmd|",
        "'@SUM",
        "'+1+cmd",
        "'-2+3",
    ];
    let missing: Vec<_> = drawn.iter().filter(|text| !seen.contains(**text)).collect();
    assert!(missing.is_empty(), "{missing:?} nowhere in {seen}");
}

/// The cells of CSV, without their quotes.
fn cells(csv: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut quoted = false;
    for c in csv.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' | '\n' if !quoted => cells.push(String::new()),
            _ => cells.last_mut().expect("a cell").push(c),
        }
    }
    cells
}

/// Markdown without what stands in fenced blocks, where nothing is taken for HTML.
fn outside_of_code(text: &str) -> String {
    let mut fenced = false;
    let mut out = String::new();
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            out.push_str(line);
            out.push('\n');
        }
    }
    assert!(!fenced, "a block that does not end: {text}");
    out
}

fn the_pages_are_harmless(house: &House, ids: &[String]) {
    let mut paths: Vec<String> = [
        "/",
        "/now",
        "/now/strip",
        "/incidents",
        "/hosts/web01",
        "/nights",
    ]
    .map(str::to_owned)
    .to_vec();
    paths.extend(ids.iter().map(|id| format!("/incidents/{id}")));
    let mut seen = String::new();
    for path in paths {
        let answer = house.page(&path);
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        inert(&path, body);
        inert(&path, &head.replace('\r', ""));
        assert!(!body.contains("<script>"), "{path}: {body}");
        assert!(!head.to_lowercase().contains("bcc"), "{path}: {head}");
        seen.push_str(body);
    }
    let drawn = ["script&#62;alert", "\\u{1b}[2J", "Bcc: thief", "=cmd|"];
    let missing: Vec<_> = drawn.iter().filter(|text| !seen.contains(**text)).collect();
    assert!(missing.is_empty(), "{missing:?} on no page: {seen}");
}

fn the_mail_is_harmless(smtp: &Smtp) {
    let mails = until("the mails", SOON, || {
        let mails = smtp.mails();
        mails
            .iter()
            .any(|mail| mail.body.contains("disk gone"))
            .then_some(mails)
    });
    let mut own = vec![
        "auto-submitted",
        "content-transfer-encoding",
        "content-type",
        "date",
        "from",
        "in-reply-to",
        "message-id",
        "mime-version",
        "references",
        "subject",
        "to",
    ];
    own.extend(["list-id", "precedence", "x-auto-response-suppress"]);
    for mail in &mails {
        assert_eq!(mail.recipients, ["ops@example.org"], "{mail:#?}");
        for name in mail.headers.keys() {
            let known = own.contains(&name.as_str()) || name.starts_with("x-dawnwatch");
            assert!(known, "{name} is no header of ours: {mail:#?}");
        }
        assert_ne!(mail.header("subject"), "all is well");
        assert!(
            mail.header("content-type").starts_with("text/plain"),
            "{mail:#?}"
        );
        inert("subject", mail.header("subject"));
        inert("mail", &mail.body.replace("\r\n", "\n"));
    }
}

fn the_webhook_is_harmless(webhook: &Webhook) {
    let posted = until("the messages", SOON, || {
        let posted = webhook.posted();
        posted
            .iter()
            .any(|one| one.body.to_string().contains("disk gone"))
            .then_some(posted)
    });
    for one in &posted {
        assert!(!one.headers.contains_key("bcc"), "{one:#?}");
        // What is written for people. The rest is for programs, which get it as it is, escaped by JSON.
        for for_people in [
            "/commonAnnotations",
            "/dawnwatch/subject",
            "/dawnwatch/text",
        ] {
            every_text(one.at(for_people), &mut |text| inert("webhook", text));
        }
        let alerts = one.at("/alerts").as_array().expect("alerts");
        assert!(!alerts.is_empty());
        for alert in alerts {
            every_text(&alert["annotations"], &mut |text| inert("webhook", text));
        }
    }
}

fn every_text(value: &serde_json::Value, see: &mut dyn FnMut(&str)) {
    match value {
        serde_json::Value::String(text) => see(text),
        serde_json::Value::Array(all) => all.iter().for_each(|one| every_text(one, see)),
        serde_json::Value::Object(all) => {
            for (key, one) in all {
                see(key);
                every_text(one, see);
            }
        }
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
}
