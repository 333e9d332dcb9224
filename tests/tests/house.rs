//! One night in the whole house, with real processes over mutual TLS: two agents and a server whose wall clock the test
//! sets, real filesystems that fill up, a killed agent, a killed server, a real SMTP server, a webhook receiver, one review.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dawnwatch_engine::{Effect, Entry};
use dawnwatch_proto::api::{
    Evidence, Host, Incident, Link, LiveReview, LogTemplates, NightHead, Now,
};
use dawnwatch_proto::review::{Review, Row, Severity, Verdict};
use dawnwatch_segment::{Disk, RealDisk};
use dawnwatch_server::ledger;
use dawnwatch_tests::bus::Bus;
use dawnwatch_tests::faketime::{self, FakeClock};
use dawnwatch_tests::house::{Agent, Launch, Server, ServerOptions, binary};
use dawnwatch_tests::journal;
use dawnwatch_tests::mounts::{fill, inner, kill_inner, private_tmpfs, seen_by};
use dawnwatch_tests::needs::{self, Need};
use dawnwatch_tests::netns::{Lan, dropped, drops, inside};
use dawnwatch_tests::receivers::{Mail, Posted, Smtp, Webhook};
use dawnwatch_tests::wait::{until, until_true};
use jiff::{SignedDuration, Timestamp};

/// Waiting for what comes within a few ticks and holding times.
const SOON: Duration = Duration::from_secs(30);

/// A host is silent after 30 s; a server that starts anew gives every host that time again.
const SILENCE: Duration = Duration::from_secs(90);

/// Forty times the usual pace.
const TICK_MS: u64 = 250;

/// Where the filesystem is that fills up: there on every Debian, and in nobody's way.
const POINT: &str = "/srv";

/// A jump of the server's clock that is longer than six hours holds sealing back for an hour.
const STEP_MAX: SignedDuration = SignedDuration::from_hours(5);

const SETTINGS: &str = r#"
[calendar]
zone = "Europe/Berlin"
hours = "Mon-Fri 08:00-18:00"

[rules.disk_full]
hold = "2s"
clear_hold = "2s"
[rules.disk_filling]
enabled = false
[rules.memory_full]
enabled = false
[rules.memory_high]
enabled = false

[[host]]
match = "db*"
service = "billing"
owner = "A. Ruiz"
importance = "high"

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

struct House {
    clock: FakeClock,
    webhook: Webhook,
    smtp: Smtp,
    options: ServerOptions,
    server: Server,
    web01: Agent,
    db02: Agent,
    file03: Agent,
    _dir: tempfile::TempDir,
}

impl House {
    fn build() -> House {
        // Built before the clock starts: that may take longer than the whole night.
        let _ = binary("dawnwatch-server");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let clock = FakeClock::new(dir.path(), berlin("2026-10-04T03:10:00"));
        let (webhook, smtp) = (Webhook::start(), Smtp::start(dir.path()));
        let data = dir.path().join("server");
        std::fs::create_dir(&data).expect("the data directory");
        let settings = SETTINGS
            .replace("WEBHOOK", &webhook.address.to_string())
            .replace("SMTP_PORT", &smtp.port.to_string())
            .replace("SMTP_CA", &smtp.ca_file.display().to_string());
        std::fs::write(data.join("dawnwatch.toml"), settings).expect("the configuration");
        let options = ServerOptions {
            env: clock.env(),
            ..ServerOptions::default()
        };
        let server = Server::start(&data, &options);
        let token = server.token(3);
        let agent = |name: &str| {
            let launch = Launch {
                through: private_tmpfs(Path::new(POINT), "16m"),
                env: clock.env(),
            };
            let state = dir.path().join(name);
            let mut agent = Agent::join_by(&state, name, server.address, &token.join, launch);
            agent.configure(TICK_MS, "");
            agent.start();
            agent
        };
        let (web01, db02, file03) = (agent("web01"), agent("db02"), agent("file03"));
        House {
            clock,
            webhook,
            smtp,
            options,
            server,
            web01,
            db02,
            file03,
            _dir: dir,
        }
    }

    fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Option<T> {
        self.server.get(path).ok()
    }

    /// Waits until an incident is as wanted.
    fn incident(
        &self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&Incident) -> bool,
    ) -> Incident {
        until(what, within, || {
            let all: Vec<Incident> = self.get("/api/v1/incidents?state=all")?;
            all.into_iter().find(&wanted)
        })
    }

    /// What the command prints, where it works.
    fn command(&self, arguments: &[&str]) -> String {
        let output = self.server.command(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{arguments:?}: {} {said}",
            output.status
        );
        String::from_utf8(output.stdout).expect("text")
    }

    /// The webhook's messages about an incident, in order; a message that came again counts once, by its key.
    fn posted(&self, id: &str) -> Vec<Posted> {
        let mut seen = BTreeSet::new();
        let mut posted = self.webhook.posted();
        posted.retain(|posted| {
            posted.at("/dawnwatch/incident/id") == id && seen.insert(posted.key().to_owned())
        });
        posted
    }

    /// The mails about an incident, in order; a mail that came again counts once, by its Message-ID.
    fn mails(&self, id: &str) -> Vec<Mail> {
        let mut seen = BTreeSet::new();
        let mut mails = self.smtp.mails();
        mails.retain(|mail| {
            let words = mail.header("subject").replace(':', " ");
            let about = words.split_whitespace().any(|word| word == id);
            about && seen.insert(mail.header("message-id").to_owned())
        });
        mails
    }
}

#[test]
fn a_night_from_the_first_sample_to_the_review() {
    if !needs::are_met(&[Need::Mounts, Need::Faketime, Need::Aiosmtpd]) {
        return;
    }
    let mut house = House::build();
    let began = faketime::real_now();
    let done = |what: &str| {
        println!(
            "{:5.1} s {what}",
            faketime::real_now().duration_since(began).as_secs_f64()
        );
    };
    all_hosts_report_on_sunday_night(&house);
    done("all hosts report");
    let killed = web01_is_killed(&mut house);
    let healed = file03_fills_and_heals(&house);
    done("file03 was full and healed");
    let full = db02_fills_and_is_taken(&house);
    done("db02 is full and taken");
    let silent = web01_is_silent(&house, killed);
    done("web01 is silent");
    let full = the_server_is_killed(&mut house, &full, &silent);
    done("the server was killed and is back");
    monday_comes(&mut house.clock, &house.server);
    done("Monday");
    the_night_is_sealed(&house);
    done("sealed");
    the_review_tells_it(&house, [&healed, &full, &silent]);
    let all = [&healed, &full, &silent];
    the_review_was_mailed(&house, all);
    the_webhook_was_told(&house, all);
    people_were_mailed(&house, all);
    done("all was told");
    for agent in [&mut house.db02, &mut house.file03] {
        kill_agent(agent);
    }
    the_night_is_read_without_raw_history(&mut house, &full);
    done("the night was read without raw history");
    faketime::sweep(house.server.pid());
}

fn all_hosts_report_on_sunday_night(house: &House) {
    let now: Now = until("all hosts to be live", SOON, || {
        house
            .get("/api/v1/now")
            .filter(|now: &Now| now.hosts_live == 3)
    });
    let (from, to) = (berlin("2026-10-04T03:10:00"), berlin("2026-10-04T03:12:00"));
    assert!(
        from <= now.at && now.at < to,
        "the server's clock is not the test's: {}",
        now.at
    );
    let hosts: Vec<Host> = house.get("/api/v1/hosts").expect("the hosts");
    for host in hosts {
        let seen = host.last_seen.expect("a live host was seen");
        assert!(from <= seen && seen < to, "{}: {seen}", host.name);
        // The agent's own clock is the test's too, or this would be weeks.
        assert!(
            host.clock_offset_seconds.abs() < 2.0,
            "{}: {}",
            host.name,
            host.clock_offset_seconds
        );
    }
}

fn data_of(agent: &Agent) -> PathBuf {
    let inside = inner(agent.pid().expect("the agent runs"));
    seen_by(inside, &Path::new(POINT).join("data"))
}

/// Fills a host's filesystem, and waits for the incident that says so.
fn fill_up(house: &House, agent: &Agent) -> Incident {
    let began = house.clock.now();
    fill(&data_of(agent), 0.97);
    let name = agent.name.as_str();
    let incident = house.incident("the full filesystem to be told", SOON, |i| {
        i.name == name && i.state == "open"
    });
    let told = house.clock.now();
    let [alert] = incident.alerts.as_slice() else {
        panic!("one alert: {incident:#?}")
    };
    assert_eq!(
        (alert.rule.as_str(), alert.state.as_str()),
        ("disk_full", "firing"),
        "{incident:#?}"
    );
    assert_eq!((incident.severity, alert.late), (Severity::Critical, false));
    assert!(
        alert.series.contains(&format!("mountpoint=\"{POINT}\"")),
        "{}",
        alert.series
    );
    assert!(incident.what.contains(POINT), "{}", incident.what);
    assert!(
        began <= incident.since && incident.since <= told,
        "{began} {} {told}",
        incident.since
    );
    assert!(
        (0.965..=1.0).contains(&alert.observed),
        "observed {}",
        alert.observed
    );
    assert!(alert.evidence.len() >= 4, "{:?}", alert.evidence);
    assert!(
        alert
            .evidence
            .iter()
            .all(|(at, _)| began <= *at && *at <= told),
        "{:?}",
        alert.evidence
    );
    assert!(alert.why.contains("bound 95 %"), "{}", alert.why);
    incident
}

fn file03_fills_and_heals(house: &House) -> Incident {
    let opened = fill_up(house, &house.file03);
    until_true("the message of it", SOON, || {
        !house.posted(&opened.id).is_empty()
    });
    std::fs::remove_file(data_of(&house.file03)).expect("the file that fills");
    let closed = house.incident("it to heal by itself", SOON, |i| {
        i.id == opened.id && i.state == "closed"
    });
    assert_eq!((closed.since, &closed.taken), (opened.since, &None));
    assert!(closed.until.is_some_and(|until| until > opened.since));
    closed
}

fn db02_fills_and_is_taken(house: &House) -> Incident {
    // Nobody hears of it yet: the receiver is down, and stays so while the server is killed.
    house.webhook.set_down(true);
    let opened = fill_up(house, &house.db02);
    assert_eq!(
        (opened.service.as_deref(), opened.owner.as_deref()),
        (Some("billing"), Some("A. Ruiz"))
    );
    until_true("a first attempt to tell it", SOON, || {
        !house.webhook.refused().is_empty()
    });
    let said = house.command(&["ack", &opened.id, "--note", "on my way"]);
    assert!(
        said.contains(&opened.id) && said.contains("taken by"),
        "{said}"
    );
    house.incident("it to be taken", SOON, |i| {
        i.id == opened.id && i.state == "acknowledged"
    })
}

fn the_server_is_killed(house: &mut House, full: &Incident, silent: &Incident) -> Incident {
    let data = house.server.data.clone();
    let listen = Some(house.server.address);
    house.server.kill();
    faketime::sweep(house.server.pid());
    let options = ServerOptions {
        listen,
        ..house.options.clone()
    };
    house.server = Server::start(&data, &options);
    for before in [full, silent] {
        let id = &before.id;
        let after = house.incident("the incident to be there again", SOON, |i| i.id == *id);
        let kept = |i: &Incident| (i.since, i.state.clone(), i.taken.clone(), i.alerts[0].fired);
        assert_eq!(kept(&after), kept(before));
        assert!(house.posted(id).is_empty(), "the receiver was down");
    }
    house.webhook.set_down(false);
    until_true("the messages that were pending", SOON, || {
        [full, silent]
            .iter()
            .all(|incident| !house.posted(&incident.id).is_empty())
    });
    until_true("the agents that live to be back", SOON, || {
        house
            .get("/api/v1/now")
            .is_some_and(|now: Now| now.hosts_live == 2)
    });
    house.incident("its arrival to be known", SOON, |i| {
        let arrived = |channel: &str| {
            i.told
                .iter()
                .any(|told| told.channel == channel && told.fate == "arrived")
        };
        i.id == full.id && arrived("ops") && arrived("mail")
    })
}

/// Kills its agent as the kernel would; the time before it.
fn web01_is_killed(house: &mut House) -> Timestamp {
    let killed = house.clock.now();
    kill_agent(&mut house.web01);
    killed
}

fn kill_agent(agent: &mut Agent) {
    kill_inner(agent.pid().expect("the agent runs"));
    agent.kill();
}

fn web01_is_silent(house: &House, killed: Timestamp) -> Incident {
    let silent = house.incident("the silence to be told", SILENCE, |i| {
        i.name == "web01" && i.state == "open"
    });
    let told = house.clock.now();
    let [alert] = silent.alerts.as_slice() else {
        panic!("one alert: {silent:#?}")
    };
    assert_eq!(
        (alert.rule.as_str(), silent.severity),
        ("silent", Severity::Critical)
    );
    assert!(alert.observed >= 30.0, "{}", alert.observed);
    let second = SignedDuration::from_secs(1);
    // It was heard of at most one heartbeat before, and is silent since then.
    let (earliest, latest) = (killed - second * 11, killed + second);
    assert!(
        earliest <= silent.since && silent.since <= latest,
        "{killed} {}",
        silent.since
    );
    let after = told.duration_since(silent.since);
    assert!((30..40).contains(&after.as_secs()), "told after {after}");
    assert!(
        !silent.what.to_lowercase().contains("down"),
        "nobody can know that: {}",
        silent.what
    );
    silent
}

fn monday_comes(clock: &mut FakeClock, server: &Server) {
    let opening = berlin("2026-10-05T06:59:55");
    loop {
        let next = opening.min(clock.now() + STEP_MAX);
        clock.set(next);
        until_true("the server to follow its clock", SOON, || {
            let now = server.get("/api/v1/now");
            now.is_ok_and(|now: Now| now.at >= next)
        });
        if next == opening {
            return;
        }
    }
}

fn the_night_is_sealed(house: &House) {
    let night = until("the night to be sealed", SOON, || {
        let nights: Vec<NightHead> = house.get("/api/v1/nights")?;
        nights.into_iter().next()
    });
    assert_eq!(
        (night.id.as_str(), night.verdict),
        ("N-2026-10-05", Verdict::Critical)
    );
    assert_eq!(
        (night.start, night.end),
        (berlin("2026-10-02T18:00:00"), berlin("2026-10-05T08:00:00"))
    );
    let sealing = berlin("2026-10-05T07:00:00");
    let late = night.sealed.duration_since(sealing);
    assert!((0..20).contains(&late.as_secs()), "sealed {}", night.sealed);

    let data = &house.server.data;
    let file = std::fs::read(data.join("nights/N-2026-10-05.json")).expect("the sealed night");
    let review: Review = serde_json::from_slice(&file).expect("a review");
    assert_eq!(review.id, night.id);
    let hash = ring::digest::digest(&ring::digest::SHA256, &file);
    let hash: String = hash
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut sealed = Vec::new();
    let mut see = |effect| {
        if let Effect::Record(Entry::Sealed { night, hash }) = effect {
            sealed.push((night, hash));
        }
    };
    ledger::walk(&disk, data, |frame| {
        frame.effects.into_iter().for_each(&mut see)
    })
    .expect("the ledger");
    assert_eq!(sealed, [(night.id, hash)]);
}

/// Years later the hour files are gone: what the night kept of a finding still answers.
fn the_night_is_read_without_raw_history(house: &mut House, full: &Incident) {
    let data = house.server.data.clone();
    house.server.kill();
    faketime::sweep(house.server.pid());
    std::fs::remove_dir_all(data.join("history")).expect("the raw history");
    house.server = Server::start(&data, &house.options);
    let kept: Evidence = until("the evidence of the night", SOON, || {
        house.get("/api/v1/nights/N-2026-10-05/evidence")
    });
    let ids: Vec<&str> = kept
        .findings
        .iter()
        .map(|f| f.incident.id.as_str())
        .collect();
    assert_eq!(
        (ids.len(), kept.left_out, kept.damaged.len()),
        (3, 0, 0),
        "{ids:?}"
    );
    let finding = kept
        .findings
        .iter()
        .find(|f| f.incident.id == full.id)
        .expect("it");
    let series = &finding.series[0];
    assert_eq!(series.series, full.alerts[0].series);
    assert!(
        series.samples > 1 && (2..=120).contains(&series.points.len()),
        "{series:?}"
    );
    assert!(finding.from < full.since && full.since < finding.to);

    let file = std::fs::read(data.join("nights/N-2026-10-05.evidence.json")).expect("the file");
    let hash = ring::digest::digest(&ring::digest::SHA256, &file);
    let want: String = hash
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut hashes = Vec::new();
    ledger::walk(&disk, &data, |frame| {
        for effect in frame.effects {
            if let Effect::Record(Entry::Evidence { hash, .. }) = effect {
                hashes.push(hash);
            }
        }
    })
    .expect("the ledger");
    assert_eq!(hashes, [want], "once, and of this file");
}

fn the_review_tells_it(house: &House, [healed, full, silent]: [&Incident; 3]) {
    let live: LiveReview =
        serde_json::from_str(&house.command(&["review", "--output", "json"])).expect("JSON");
    let review = &live.review;
    let ids = |rows: &[Row]| rows.iter().map(|row| row.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&review.critical), [full.id.clone(), silent.id.clone()]);
    assert_eq!(ids(&review.today), Vec::<String>::new());
    assert_eq!(ids(&review.healed), std::slice::from_ref(&healed.id));
    let [row, _] = review.critical.as_slice() else {
        panic!("two rows")
    };
    assert_eq!(
        (row.subject.as_str(), row.state.as_str(), row.since),
        ("db02", "acknowledged", full.since)
    );
    assert_eq!((review.findings, review.coverage.hosts), (2, 3));
    assert!(review.sealed.is_some() && !review.ledger_head.is_empty() && review.calendar_confirmed);
    coverage_adds_up(review);

    let text = house.command(&["review"]);
    let order = [
        "NIGHT N-2026-10-05   Fri 2 Oct 18:00 -> Mon 5 Oct 08:00 CEST, 62 h, sealed 07:00",
        "CRITICAL",
        "WATCHED",
        "SINCE 07:00",
        "CRITICAL, STILL OPEN",
        &format!(" {:5} db02 (billing)", full.id),
        &format!(" {:5} web01", silent.id),
        "TODAY",
        "HEALED BY ITSELF",
        &format!(" {:5} file03", healed.id),
        "CHANGED",
        "TONIGHT",
        "MESSAGES",
        "SIGN-OFF",
    ];
    in_order(&text, &order);
    assert!(
        text.lines().count() <= 40 && text.lines().all(|line| line.chars().count() <= 100),
        "{text}"
    );
    let coded = house.server.command(&["review", "--exit-code"]);
    assert_eq!(coded.status.code(), Some(2), "critical");
    let open = house.command(&[]);
    in_order(&open, &[&silent.id, &full.id]);
    assert!(open.lines().count() <= 12, "{open}");
}

/// The hours that the clock jumped over never were; what is left of the night was watched, but for web01.
fn coverage_adds_up(review: &Review) {
    let coverage = &review.coverage;
    let jumped: i64 = coverage.jumps.iter().map(|(_, seconds)| seconds).sum();
    let story = i64::try_from(coverage.window_seconds).expect("a night");
    let whole = review
        .until
        .duration_since(berlin("2026-10-04T03:10:00"))
        .as_secs();
    assert!(
        (jumped + story - whole).abs() <= 10,
        "{whole} s: {coverage:?}"
    );
    assert!(
        coverage.expected_seconds <= 3 * coverage.window_seconds + 5,
        "{coverage:?}"
    );
    // At least the 30 s that it takes to fall silent are missing, and nothing of the two that live on.
    let watched = coverage.watched_seconds;
    assert!(watched + 25 <= coverage.expected_seconds, "{coverage:?}");
    assert!(watched >= coverage.expected_seconds / 2, "{coverage:?}");
    assert!(review.blind && coverage.ratio < 0.98, "{coverage:?}");
}

fn the_review_was_mailed(house: &House, [healed, full, silent]: [&Incident; 3]) {
    let sealed = until("the review to be mailed", SOON, || {
        let mut mails = house.smtp.mails().into_iter();
        mails.find(|mail| mail.header("subject").contains("N-2026-10-05"))
    });
    let (subject, body) = (sealed.header("subject"), &sealed.body);
    assert!(
        subject.starts_with("Night N-2026-10-05: CRITICAL"),
        "{subject}"
    );
    let (healed, full, silent) = (&healed.id, &full.id, &silent.id);
    in_order(
        body,
        &[
            "NIGHT N-2026-10-05",
            "STILL OPEN",
            full,
            silent,
            "HEALED",
            healed,
        ],
    );
    assert!(
        body.lines().all(|line| line.chars().count() <= 72),
        "{body}"
    );
}

fn the_webhook_was_told(house: &House, [healed, full, silent]: [&Incident; 3]) {
    let posted = [healed, full, silent].map(|incident| house.posted(&incident.id));
    let wanted = [&["opened", "closed"][..], &["opened"], &["opened"]];
    for (posted, reasons) in posted.iter().zip(wanted) {
        let reason = |posted: &Posted| posted.at("/dawnwatch/reason").clone();
        assert_eq!(posted.iter().map(reason).collect::<Vec<_>>(), reasons);
    }
    let [opened, closed] = posted[0].as_slice() else {
        panic!("two messages")
    };
    alertmanager_reads(opened, "firing");
    alertmanager_reads(closed, "resolved");
    let same = [
        "/groupKey",
        "/alerts/0/fingerprint",
        "/alerts/0/startsAt",
        "/commonLabels/alertname",
    ];
    for same in same {
        assert_eq!(opened.at(same), closed.at(same), "{same}");
    }
    assert_eq!(opened.key(), format!("{}/1/ops", healed.id));
    assert_eq!(closed.key(), format!("{}/2/ops", healed.id));
    // What was tried before the server was killed and came after it is one message.
    let tried = house.webhook.refused();
    assert!(
        tried.iter().any(|tried| tried.key() == posted[1][0].key()),
        "{tried:#?}"
    );
}

fn people_were_mailed(house: &House, [healed, full, silent]: [&Incident; 3]) {
    let [first, last] = <[Mail; 2]>::try_from(house.mails(&healed.id)).expect("two mails of it");
    let (began, ended) = (first.header("subject"), last.header("subject"));
    assert!(
        began
            .to_lowercase()
            .starts_with(&format!("file03 {POINT} ")),
        "{began}"
    );
    assert!(began.contains(" since 03:1"), "{began}");
    assert!(
        began.ends_with(&format!("- CRITICAL {}", healed.id)),
        "{began}"
    );
    assert!(ended.starts_with("file03 OVER 03:1"), "{ended}");
    assert!(!first.header("references").is_empty());
    assert_eq!(first.header("references"), last.header("references"));
    assert_eq!(last.header("in-reply-to"), last.header("references"));
    for (incident, beginning) in [(full, "db02 (billing) "), (silent, "web01 SILENT")] {
        let [mail] = <[Mail; 1]>::try_from(house.mails(&incident.id)).expect("one mail of it");
        let subject = mail.header("subject");
        assert!(subject.starts_with(beginning), "{subject}");
    }
    let mails = house.smtp.mails();
    for mail in &mails {
        assert!(
            mail.tls && mail.recipients == ["ops@example.org"],
            "{mail:#?}"
        );
        assert_eq!(mail.sender, "dawnwatch@example.org");
        let id = mail.header("message-id");
        assert!(
            id.starts_with("<dawnwatch.") && id.ends_with("@example.org>"),
            "{id}"
        );
        // Only a message whose arrival the killed server had not kept may come again, and then as it was.
        let again = mails
            .iter()
            .filter(|other| other.header("message-id") == id);
        for other in again {
            assert_eq!((&other.headers, &other.body), (&mail.headers, &mail.body));
        }
    }
}

/// Whether a message has what Alertmanager's own documents say of version 4.
fn alertmanager_reads(posted: &Posted, status: &str) {
    assert_eq!(
        (posted.at("/version"), posted.at("/receiver")),
        (&"4".into(), &"ops".into())
    );
    assert_eq!(
        (posted.at("/status"), posted.at("/alerts/0/status")),
        (&status.into(), &status.into())
    );
    assert_eq!(posted.at("/truncatedAlerts").as_u64(), Some(0));
    assert_eq!(posted.at("/alerts/0/labels/alertname"), "disk_full");
    assert_eq!(posted.at("/alerts/0/labels/host"), "file03");
    for text in [
        "/groupKey",
        "/externalURL",
        "/alerts/0/fingerprint",
        "/alerts/0/generatorURL",
    ] {
        assert!(posted.at(text).is_string(), "{text}");
    }
    for map in [
        "/groupLabels",
        "/commonLabels",
        "/commonAnnotations",
        "/alerts/0/annotations",
    ] {
        assert!(posted.at(map).is_object(), "{map}");
    }
    let ended = posted.at("/alerts/0/endsAt").as_str().expect("a time");
    assert_eq!(
        ended.starts_with("0001-01-01"),
        status == "firing",
        "{ended}"
    );
}

/// Between two pings of the host that pings.
const PINGS_MS: u64 = 200;

/// What the host's agent reads beside its samples.
const PACE: &str = "ping_ms = PINGS_MS\nroots = { bus = \"BUS\" }\n[logs]\nfiles = [\"LOG\"]\njournal_directory = \"JOURNALS\"";

/// A unit that failed is told at once; `web01` pings a printer.
const OTHER_SETTINGS: &str = r#"
[server]
pinger = "web01"
[[target]]
name = "printer1"
address = "PRINTER"
[calendar]
zone = "Europe/Berlin"
hours = "Mon-Fri 08:00-18:00"
[rules.unit_failed]
hold = "1s"
clear_hold = "1s"
"#;

#[test]
#[allow(clippy::too_many_lines, reason = "one night")]
fn a_night_of_log_lines_a_failed_unit_and_lost_pings() {
    let needs = [Need::Faketime, Need::Journal, Need::Namespaces, Need::Nft];
    if !needs::are_met(&needs) {
        return;
    }
    let _ = binary("dawnwatch-server");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| dir.path().join(name);
    let mut clock = FakeClock::new(dir.path(), berlin("2026-10-04T03:10:00"));
    let (data, log, journals) = (path("server"), path("app.log"), path("journal"));
    for made in [&data, &journals] {
        std::fs::create_dir(made).expect("a directory");
    }
    std::fs::write(&log, "INFO all is well\n").expect("the log");
    let mut lan = Lan::new(0);
    lan.address(9);
    let (printer, space) = (lan.at(9), lan.host(2));
    let settings = OTHER_SETTINGS.replace("PRINTER", &printer.to_string());
    std::fs::write(data.join("dawnwatch.toml"), settings).expect("the configuration");
    let options = ServerOptions {
        env: clock.env(),
        listen: Some(lan.listen()),
        ..ServerOptions::default()
    };
    let server = Server::start(&data, &options);
    let launch = Launch {
        env: clock.env(),
        through: inside(&space),
    };
    let bus = Bus::start(&path("bus"));
    bus.set("nginx.service", "active", 0);
    let line = server.token(1).join;
    let mut agent = Agent::join_by(&path("web01"), "web01", server.address, &line, launch);
    let text = |name: &str| path(name).display().to_string();
    let pace = PACE
        .replace("PINGS_MS", &PINGS_MS.to_string())
        .replace("BUS", &text("bus"))
        .replace("LOG", &text("app.log"))
        .replace("JOURNALS", &text("journal"));
    // Five pings a tick: fewer are too few to be judged.
    agent.configure(PINGS_MS * 5, &pace);
    agent.start();
    // What was logged before is known by then.
    until_true("the shapes of before", SOON, || {
        let found = server.get::<LogTemplates>("/api/v1/templates");
        found.is_ok_and(|found| !found.templates.is_empty())
    });
    let told = |what: &str, rule: &str, about: &str| {
        until(what, SILENCE, || {
            let all: Vec<Incident> = server.get("/api/v1/incidents?state=all").ok()?;
            let has = |i: &Incident| {
                let mut alerts = i.alerts.iter();
                alerts.any(|a| a.rule == rule && (a.why.contains(about) || i.name.contains(about)))
            };
            all.into_iter().find(has)
        })
    };

    // Lines first: what is logged after a unit failed is evidence of that.
    let mut file = std::fs::File::options()
        .append(true)
        .open(&log)
        .expect("the log");
    writeln!(file, "ERROR payment 1 refused by 192.0.2.7").expect("a line");
    let entries = [("smtpd", 3, "TLS handshake failed peer 192.0.2.9 alert 40")];
    journal::write(&journals, "night", clock.now(), &entries);
    let from_file = told("the line of the file", "new_log_line", "payment");
    let from_journal = told("the line of the journal", "new_log_line", "TLS handshake");
    bus.set("nginx.service", "failed", 0);
    let failed = told("the failed unit", "unit_failed", "nginx.service");
    until_true("answers of the printer", SILENCE, || {
        let links: Vec<Link> = server.get("/api/v1/net").unwrap_or_default();
        links
            .iter()
            .any(|l| l.to == "printer1" && l.state == "up" && l.sent >= 20)
    });
    drops(&space, printer, "numgen random mod 100 < 40");
    let lossy = told("the lost pings", "ping_loss", "printer1");
    let (all, lost) = dropped(&space);
    assert!(lost > 0, "the fault happened: {lost} of {all} dropped");

    monday_comes(&mut clock, &server);
    let file = until("the night to be sealed", SOON, || {
        std::fs::read(data.join("nights/N-2026-10-05.json")).ok()
    });
    let review: Review = serde_json::from_slice(&file).expect("a review");
    assert!(review.sealed.is_some(), "{review:#?}");
    let rows: Vec<&Row> = [&review.critical, &review.today, &review.healed]
        .into_iter()
        .flatten()
        .collect();
    let evidence = |incident: &Incident| {
        let row = rows.iter().find(|row| row.id == incident.id);
        let row = row.unwrap_or_else(|| panic!("{} is not in {review:#?}", incident.id));
        format!("{} {} {}", row.subject, row.what, row.evidence.join(" "))
    };
    for (incident, words) in [
        (&from_file, &["web01", "payment"][..]),
        (&from_journal, &["web01", "new"]),
        (&failed, &["web01", "nginx.service failed"]),
        (&lossy, &["printer1", "loses", "from web01"]),
    ] {
        let text = evidence(incident);
        for word in words {
            assert!(text.contains(word), "{word:?} is not in {text:?}");
        }
    }
    // All of what each is made of is there for whoever asks, the lines themselves too.
    for (incident, want) in [
        (&from_file, "payment 1 refused by 192.0.2.7"),
        (
            &from_journal,
            "TLS handshake failed peer 192.0.2.9 alert 40",
        ),
        (&failed, "nginx.service"),
    ] {
        let shown = server.command(&["show", &incident.id]);
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.contains(want), "{want:?} is not in {shown}");
    }
    agent.kill();
    faketime::sweep(server.pid());
}

fn in_order(text: &str, wanted: &[&str]) {
    let mut rest = text;
    for want in wanted {
        let Some(at) = rest.find(want) else {
            panic!("{want:?} is not there, or not in its place:\n{text}")
        };
        rest = &rest[at + want.len()..];
    }
}

fn berlin(civil: &str) -> Timestamp {
    let civil: jiff::civil::DateTime = civil.parse().expect("a civil time");
    civil.in_tz("Europe/Berlin").expect("a zone").timestamp()
}
