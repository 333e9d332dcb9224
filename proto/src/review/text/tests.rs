//! Golden texts in `golden/`. `UPDATE_GOLDEN=1` writes them anew: read the difference before you keep it.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::HostId;
use crate::api::{Alert, Incident, LiveReview, LogLine, NightHead, Now, Told};
use crate::review::{
    Change, Coverage, FORMAT, Importance, Messages, Review, Turned, Unwatched, Verdict as V,
};

const HOSTILE: &str = "db\x1b[31m02\nQUIET\u{202e}\u{200b}";

fn t(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn check(name: &str, got: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, got).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        want == got,
        "{}:\n{got}\nis not what was expected:\n{want}",
        path.display()
    );
}

fn row(id: &str, subject: &str, what: &str, since: &str, cause: &str) -> Row {
    Row {
        id: id.to_owned(),
        subject: subject.to_owned(),
        service: None,
        what: what.to_owned(),
        severity: Severity::Warning,
        since: t(since),
        turned: None,
        until: None,
        cause: cause.to_owned(),
        owner: None,
        taken: None,
        evidence: Vec::new(),
        rank: String::new(),
        score: 0,
        state: "open".to_owned(),
    }
}

/// Two critical, two for today, two healed.
fn weekend_rows() -> [Vec<Row>; 3] {
    let db02 = Row {
        service: Some("billing".to_owned()),
        severity: Severity::Critical,
        taken: Some(("A. Ruiz".to_owned(), t("2026-10-04T01:20:00Z"))),
        evidence: vec!["no goodbye; silent to server, web04 and nas01".to_owned()],
        ..row(
            "I-318",
            "db02",
            "off or hung",
            "2026-10-04T01:12:00Z",
            "very likely the host, not the network",
        )
    };
    let db01 = Row {
        severity: Severity::Critical,
        evidence: vec!["due 02:10 Sun and Mon; last good Sat 02:04".to_owned()],
        ..row(
            "J-021",
            "db01",
            "backup pg-nightly missed, 2 runs in a row",
            "2026-10-04T00:10:00Z",
            "timer disabled",
        )
    };
    let file01 = Row {
        owner: Some("L. Chen".to_owned()),
        evidence: vec!["/data 86.1 % full for 5 m (bound 85 %), 6.9 TiB of 8.0 TiB".to_owned()],
        ..row(
            "I-317",
            "file01",
            "volume /data filling up",
            "2026-10-04T10:00:00Z",
            "cause unknown",
        )
    };
    let web04 = row(
        "I-319",
        "web04",
        "monitoring lost, host works",
        "2026-10-04T23:40:00Z",
        "cause unknown",
    );
    let report01 = Row {
        until: Some(t("2026-10-04T00:41:00Z")),
        state: "closed".to_owned(),
        ..row(
            "I-320",
            "report01",
            "CPU 97 %",
            "2026-10-04T00:00:00Z",
            "cause unknown",
        )
    };
    let branch2 = Row {
        until: Some(t("2026-10-03T22:05:00Z")),
        severity: Severity::Critical,
        state: "closed".to_owned(),
        ..row(
            "I-316",
            "branch2",
            "silent",
            "2026-10-03T20:00:00Z",
            "cause unknown",
        )
    };
    [
        vec![db02, db01],
        vec![web04, file01],
        vec![branch2, report01],
    ]
}

/// The first screen of PRODUCT.md, as far as the engine can tell it.
fn weekend() -> Review {
    let [critical, today, healed] = weekend_rows();
    Review {
        format: FORMAT,
        id: "N-2026-10-05".to_owned(),
        start: t("2026-10-02T16:00:00Z"),
        end: t("2026-10-05T06:00:00Z"),
        until: t("2026-10-05T05:00:00Z"),
        zone: "Europe/Berlin".to_owned(),
        calendar_confirmed: true,
        hours: "Mon-Fri 08:00-18:00".to_owned(),
        sealed: Some(t("2026-10-05T05:00:00Z")),
        learning: None,
        verdict: V::Critical,
        blind: false,
        sentence:
            "Two things cannot wait: billing (db02), off or hung since Sunday 03:12; db01, backup \
                   pg-nightly missed since Sunday 02:10. Two more need you today."
                .to_owned(),
        coverage: Coverage {
            ratio: 0.987,
            hosts: 42,
            expected_seconds: 42 * 61 * 3600,
            watched_seconds: 0,
            server_up_seconds: 61 * 3600,
            window_seconds: 61 * 3600,
            unwatched: vec![unwatched("web04", 5 * 3600 + 20 * 60, "monitoring lost")],
            ticks_dropped: 0,
            first_start: None,
            joined: 0,
            jumps: Vec::new(),
        },
        critical,
        today,
        healed,
        folded: 3,
        changed: vec![
            change("2026-10-03T09:31:00Z", "db01 timer disabled (m.ito)"),
            change("2026-10-03T10:00:00Z", "web02 joined"),
        ],
        tonight: Vec::new(),
        messages: Messages {
            channels: vec!["ops".to_owned()],
            sent: 3,
            arrived: 3,
            confirmed: 3,
            lost: 0,
            pending: 0,
            events: 214,
        },
        findings: 4,
        signed_off: 0,
        ledger_head: String::new(),
        tzdb: "2026b".to_owned(),
    }
}

fn unwatched(name: &str, seconds: u64, reason: &str) -> Unwatched {
    Unwatched {
        host: HostId(1),
        name: name.to_owned(),
        seconds,
        from: t("2026-10-03T00:00:00Z"),
        reason: reason.to_owned(),
        importance: Importance::Normal,
    }
}

fn change(at: &str, text: &str) -> Change {
    Change {
        at: t(at),
        text: text.to_owned(),
        group: String::new(),
    }
}

fn perfect() -> Review {
    let mut review = weekend();
    review.verdict = V::Quiet;
    review.sentence = "Nothing needs you: 42 of 42 hosts were watched all night.".to_owned();
    review.coverage.ratio = 1.0;
    review.coverage.unwatched.clear();
    for block in [&mut review.critical, &mut review.today, &mut review.healed] {
        block.clear();
    }
    review.changed.clear();
    (review.folded, review.findings) = (0, 0);
    review.messages = Messages {
        channels: vec!["ops".to_owned()],
        ..Messages::default()
    };
    review
}

fn live(review: Review) -> LiveReview {
    LiveReview {
        at: t("2026-10-05T05:30:00Z"),
        review,
        since: Vec::new(),
    }
}

fn draw(name: &str, live: &LiveReview, options: &Text) {
    let text = super::review(live, options);
    bounded(&text, options);
    check(name, &text);
}

fn bounded(text: &str, options: &Text) {
    if options.full.is_none() {
        assert!(
            text.lines().count() <= LINES_MAX,
            "{} lines:\n{text}",
            text.lines().count()
        );
    }
    for line in text.lines() {
        assert!(line.chars().count() <= options.width, "too wide: {line}");
        assert!(
            !line.chars().any(char::is_control),
            "control character in {line:?}"
        );
    }
}

/// Many of everything, so that every block overflows.
fn storm() -> Review {
    let mut review = weekend();
    let many = |rows: &mut Vec<Row>, prefix: usize| {
        let first = rows[0].clone();
        *rows = (0..60)
            .map(|n| Row {
                id: format!("I-{}", prefix + n),
                subject: format!("web{n:02}"),
                ..first.clone()
            })
            .collect();
    };
    many(&mut review.critical, 100);
    many(&mut review.today, 200);
    many(&mut review.healed, 300);
    review.changed = (0..40)
        .map(|n| change("2026-10-03T10:00:00Z", &format!("host{n} joined")))
        .collect();
    review.tonight = (0..30)
        .map(|n| format!("certificate of shop{n} runs out in 9 days"))
        .collect();
    review.coverage.unwatched = (0..9)
        .map(|n| unwatched(&format!("nas{n:02}"), 4000 - n, "monitoring lost"))
        .collect();
    review.blind = true;
    review.learning = Some((3, 14));
    review.calendar_confirmed = false;
    review.messages = Messages::default();
    review
}

#[test]
fn the_first_screen() {
    draw("weekend", &live(weekend()), &Text::screen());
    draw("weekend-mail", &live(weekend()), &Text::mail());
}

#[test]
fn a_perfect_night_is_a_review_too() {
    draw("perfect", &live(perfect()), &Text::screen());
    draw("perfect-mail", &live(perfect()), &Text::mail());
}

#[test]
fn a_first_night_says_since_when() {
    let mut review = perfect();
    review.sentence =
        "Nothing needs you: 180 of 180 hosts were watched since they joined.".to_owned();
    let coverage = &mut review.coverage;
    (coverage.hosts, coverage.joined) = (180, 180);
    coverage.first_start = Some(t("2026-10-04T22:14:00Z"));
    coverage.jumps = vec![
        (t("2026-10-05T01:00:00Z"), 2 * 86_400),
        (t("2026-10-05T02:00:00Z"), -3_600),
        (t("2026-10-05T03:00:00Z"), 3_600),
    ];
    (coverage.window_seconds, coverage.server_up_seconds) = (24_360, 24_360);
    for n in 0..180 {
        for (what, group) in [
            ("joined", "joined"),
            ("reports", "report for the first time"),
        ] {
            if n < 176 || what == "joined" {
                review.changed.push(Change {
                    group: group.to_owned(),
                    ..change("2026-10-05T00:00:00Z", &format!("host{n} {what}"))
                });
            }
        }
    }
    review.changed.push(change(
        "2026-10-05T00:30:00Z",
        "db01 timer disabled (m.ito)",
    ));
    draw("first-night", &live(review.clone()), &Text::screen());
    draw("first-night-mail", &live(review), &Text::mail());
}

#[test]
fn what_turned_worse_says_both_times() {
    let mut review = weekend();
    review.today[1].what = "/data 95 % full".to_owned();
    review.today[1].turned = Some(Turned {
        at: t("2026-10-05T01:30:00Z"),
        from: "filling".to_owned(),
    });
    let text = super::review(&live(review), &Text::screen());
    let want = " I-317 file01  /data 95 % full since Mon 03:30, filling since Sun 12:00, 19 h";
    assert!(text.contains(want), "{text}");
    let mut case = case();
    case.turned = Some(Turned {
        at: t("2026-10-04T02:00:00Z"),
        from: HOSTILE.repeat(9),
    });
    let at = t("2026-10-05T05:00:00Z");
    let options = Text::screen();
    let text = incident(&case, "Europe/Berlin", at, &options);
    bounded(&text, &options);
    assert!(
        text.contains("/data full, since Sun 4 Oct 2026 04:00:00 CEST; before:"),
        "{text}"
    );
    let mut open = open_list(1);
    open.open[0] = case;
    bounded(&now(&open, &options), &options);
}

#[test]
fn attention_and_blind() {
    let mut attention = weekend();
    attention.critical.clear();
    attention.verdict = V::Attention;
    attention.sentence =
        "Two things need you today: web04, monitoring lost since Monday 01:40; more.".to_owned();
    (
        attention.findings,
        attention.messages.lost,
        attention.messages.pending,
    ) = (2, 1, 1);
    let mut attention = live(attention);
    attention.since = vec!["new critical: I-322 nas01, silent, 07:12".to_owned()];
    draw("attention", &attention, &Text::screen());
    let mut blind = perfect();
    (blind.verdict, blind.blind) = (V::Blind, true);
    blind.coverage.ratio = 0.91239;
    blind.coverage.server_up_seconds -= 5 * 3600;
    blind.coverage.ticks_dropped = 12;
    blind.sentence =
        "Nothing needs anybody, but nothing was watched for 5 h while the monitor itself was \
                      down: we cannot call the night quiet."
            .to_owned();
    draw("blind", &live(blind), &Text::screen());
}

#[test]
fn a_review_so_far_with_guesses_and_no_channel() {
    let mut review = weekend();
    review.sealed = None;
    review.until = t("2026-10-03T12:00:00Z");
    review.learning = Some((3, 14));
    review.calendar_confirmed = false;
    review.messages.channels.clear();
    draw("so-far", &live(review), &Text::screen());
}

#[test]
fn overflow_is_counted_and_can_be_asked_for() {
    draw("storm", &live(storm()), &Text::screen());
    draw("storm-mail", &live(storm()), &Text::mail());
    for section in [
        Section::Watched,
        Section::Critical,
        Section::Today,
        Section::Healed,
        Section::Changed,
        Section::Tonight,
    ] {
        let options = Text {
            full: Some(section),
            ..Text::screen()
        };
        let text = super::review(&live(storm()), &options);
        bounded(&text, &options);
        let flag = format!("dawnwatch review --{}", section.flag());
        let below = text.split_once("\n\n").unwrap().1;
        assert!(
            below.lines().count() > 8 && !below.contains(&flag),
            "{section:?}:\n{text}"
        );
        let screen = super::review(&live(storm()), &Text::screen());
        assert!(screen.contains(&flag), "{flag} is not on:\n{screen}");
    }
}

#[test]
fn hostile_names_stay_text() {
    let mut review = weekend();
    for row in review.critical.iter_mut().chain(&mut review.healed) {
        row.subject = HOSTILE.to_owned();
        row.service = Some(HOSTILE.repeat(9));
        row.what = HOSTILE.to_owned();
        row.cause = format!("{HOSTILE}{HOSTILE}");
        row.owner = Some("x".repeat(300));
        row.evidence = vec![HOSTILE.repeat(20)];
    }
    review.sentence = format!("One thing cannot wait: {HOSTILE}.");
    review.changed[0].text = HOSTILE.to_owned();
    review.coverage.unwatched[0].name = HOSTILE.to_owned();
    review.coverage.unwatched[0].reason = HOSTILE.repeat(9);
    let mut live = live(review);
    live.since = vec![HOSTILE.to_owned()];
    draw("hostile", &live, &Text::screen());
    draw("hostile-mail", &live, &Text::mail());
}

#[test]
fn a_night_with_a_clock_change_names_both_zones() {
    let mut review = perfect();
    review.id = "N-2026-10-26".to_owned();
    review.start = t("2026-10-23T16:00:00Z");
    review.end = t("2026-10-26T07:00:00Z");
    review.until = t("2026-10-26T06:00:00Z");
    review.sealed = Some(review.until);
    let text = super::review(&live(review.clone()), &Text::screen());
    let want =
        "NIGHT N-2026-10-26   Fri 23 Oct 18:00 CEST -> Mon 26 Oct 08:00 CET, 63 h, sealed 07:00";
    assert_eq!(text.lines().next(), Some(want));
    let there = Text {
        zone: Some("America/New_York".to_owned()),
        ..Text::screen()
    };
    let text = super::review(&live(review), &there);
    let want = "NIGHT N-2026-10-26   Fri 23 Oct 12:00 -> Mon 26 Oct 03:00 EDT, 63 h, sealed 02:00";
    assert_eq!(text.lines().next(), Some(want));
}

#[test]
fn colour_repeats_what_the_words_say() {
    let colored = super::review(
        &live(weekend()),
        &Text {
            color: true,
            ..Text::screen()
        },
    );
    assert!(colored.contains("\x1b[1;31mCRITICAL\x1b[0m"), "{colored}");
    let mut plain = String::new();
    let mut inside = false;
    for c in colored.chars() {
        inside |= c == '\x1b';
        if !inside {
            plain.push(c);
        }
        inside &= c != 'm';
    }
    assert_eq!(plain, super::review(&live(weekend()), &Text::screen()));
}

fn case() -> Incident {
    Incident {
        id: "I-318".to_owned(),
        host: HostId(1),
        name: "db02".to_owned(),
        service: Some("billing".to_owned()),
        owner: None,
        state: "open".to_owned(),
        severity: Severity::Critical,
        what: "/data full".to_owned(),
        since: t("2026-10-04T01:12:08Z"),
        turned: None,
        until: None,
        taken: None,
        cause: "cause unknown".to_owned(),
        alerts: vec![Alert {
            rule: "disk_full".to_owned(),
            series: "node_filesystem_avail_bytes{mountpoint=\"/data\"}".to_owned(),
            state: "firing".to_owned(),
            severity: Severity::Critical,
            since: t("2026-10-04T01:12:08Z"),
            fired: Some(t("2026-10-04T01:13:08Z")),
            until: None,
            why: "/data 96.2 % full for 1 m (bound 95 %), 2.1 GiB free of 50.0 GiB".to_owned(),
            observed: 0.962,
            worst: 0.971,
            bound: 0.95,
            evidence: (0..8)
                .map(|n| {
                    (
                        t("2026-10-04T01:12:08Z") + jiff::SignedDuration::from_secs(n * 10),
                        0.94 + 0.004 * f64::from(i32::try_from(n).unwrap()),
                    )
                })
                .collect(),
            late: true,
        }],
        told: vec![Told {
            channel: "ops".to_owned(),
            reason: "opened".to_owned(),
            decided: t("2026-10-04T01:13:08Z"),
            fate: "arrived".to_owned(),
            at: Some(t("2026-10-04T01:13:10Z")),
            answer: "200 OK".to_owned(),
        }],
        why: vec!["critical at night: pages (channel ops pages from critical)".to_owned()],
        lines: Vec::new(),
    }
}

/// A finding about log lines: it knows no cause, and its lines are what there is to see.
fn logged() -> Incident {
    let alert = Alert {
        rule: "new_log_line".to_owned(),
        series: String::new(),
        severity: Severity::Warning,
        why: "\"TLS handshake failed peer <ip> alert <n>\" (postfix.service, error)".to_owned(),
        observed: 3.0,
        worst: 3.0,
        bound: 0.0,
        evidence: Vec::new(),
        late: false,
        ..case().alerts[0].clone()
    };
    let line = |at: &str, name: &str, severity: u8, text: &str| LogLine {
        time: t(at),
        host: HostId(1),
        name: name.to_owned(),
        severity,
        source: "postfix.service".to_owned(),
        text: text.to_owned(),
        cut_from: 0,
    };
    let mut long = line("2026-10-04T01:12:09Z", "db02", 2, &"stack ".repeat(200));
    long.cut_from = 4_096;
    Incident {
        id: "L-052".to_owned(),
        severity: Severity::Warning,
        what: "new log line, never seen in 90 days, 3 times".to_owned(),
        cause: String::new(),
        alerts: vec![alert],
        told: Vec::new(),
        lines: vec![
            line(
                "2026-10-04T01:12:08Z",
                "db02",
                3,
                "TLS handshake failed peer 192.0.2.7 alert 40",
            ),
            long,
            line("2026-10-04T01:12:10Z", "web01", 3, HOSTILE),
        ],
        ..case()
    }
}

#[test]
fn a_finding_about_log_lines_shows_them() {
    let at = t("2026-10-05T05:00:00Z");
    let mut options = Text::screen();
    let mut found = logged();
    let shown = incident(&found, "Europe/Berlin", at, &options);
    check("finding", &shown);
    check("finding-why", &why(&found, "Europe/Berlin", at, &options));
    assert!(!shown.contains("CAUSE"), "{shown}");
    // The last of many, however long and hostile each is.
    let mut many = vec![found.lines[2].clone(); 40];
    for line in &mut many {
        (line.name, line.source) = (HOSTILE.repeat(30), HOSTILE.repeat(30));
        line.text = HOSTILE.repeat(900);
    }
    many.push(found.lines[0].clone());
    found.lines = many;
    options.full = Some(Section::Critical);
    for width in [72, 100] {
        options.width = width;
        let text = incident(&found, "Europe/Berlin", at, &options);
        bounded(&text, &options);
        assert!(text.contains("31 earlier: dawnwatch show L-052"), "{text}");
        assert!(
            text.contains("TLS handshake failed peer 192.0.2.7"),
            "{text}"
        );
        assert!(text.lines().count() < 70, "{text}");
    }
}

#[test]
fn an_incident_and_its_reasons() {
    let at = t("2026-10-05T05:00:00Z");
    let mut options = Text::screen();
    check(
        "incident",
        &incident(&case(), "Europe/Berlin", at, &options),
    );
    check("why", &why(&case(), "Europe/Berlin", at, &options));
    let mut hostile = case();
    (hostile.name, hostile.what) = (HOSTILE.repeat(9), HOSTILE.repeat(30));
    hostile.taken = Some((HOSTILE.to_owned(), at));
    hostile.until = Some(at);
    hostile.alerts[0].series = HOSTILE.repeat(30);
    hostile.alerts[0].evidence.clear();
    hostile.alerts = vec![hostile.alerts[0].clone(); 30];
    hostile.told = vec![
        Told {
            answer: HOSTILE.repeat(99),
            at: None,
            ..hostile.told[0].clone()
        };
        30
    ];
    options.full = Some(Section::Critical);
    for width in [72, 100] {
        options.width = width;
        for text in [
            incident(&hostile, "Europe/Berlin", at, &options),
            why(&hostile, "", at, &options),
        ] {
            bounded(&text, &options);
            assert!(
                text.contains("10 more: dawnwatch show I-318 --output json"),
                "{text}"
            );
        }
    }
}

fn open_list(count: usize) -> Now {
    Now {
        at: t("2026-10-05T05:00:00Z"),
        zone: "Europe/Berlin".to_owned(),
        calendar_confirmed: true,
        hosts: 42,
        hosts_live: 41,
        hosts_missing: 0,
        open: (0..count)
            .map(|n| Incident {
                id: format!("I-{}", 318 + n),
                ..case()
            })
            .collect(),
        last_night: Some(NightHead {
            id: "N-2026-10-05".to_owned(),
            start: t("2026-10-02T16:00:00Z"),
            end: t("2026-10-05T06:00:00Z"),
            sealed: t("2026-10-05T05:00:00Z"),
            verdict: V::Critical,
            sentence: weekend().sentence,
        }),
        notices: vec!["no channel is configured: nobody is told at night".to_owned()],
    }
}

#[test]
fn the_open_list_fits_twelve_lines() {
    check("now", &now(&open_list(2), &Text::screen()));
    let mut crowded = open_list(30);
    crowded.calendar_confirmed = false;
    crowded.notices = vec![HOSTILE.repeat(30); 5];
    crowded.open[0].name = HOSTILE.to_owned();
    check("now-crowded", &now(&crowded, &Text::screen()));
    let mut quiet = open_list(0);
    (quiet.hosts_live, quiet.last_night, quiet.notices) = (42, None, Vec::new());
    assert_eq!(
        now(&quiet, &Text::screen()),
        "NOTHING OPEN, 42 of 42 hosts live, Mon 5 Oct 07:00 CEST\n"
    );
    for count in [0, 1, 8, 9, 10, 11, 12, 500] {
        for options in [Text::screen(), Text::mail()] {
            let text = now(&open_list(count), &options);
            assert!(text.lines().count() <= NOW_LINES_MAX, "{text}");
            bounded(&text, &options);
            let more = text
                .lines()
                .find_map(|line| line.trim().split_once(" more: ")?.0.parse::<usize>().ok());
            let shown = text.lines().filter(|line| line.starts_with(" I-")).count();
            assert_eq!(shown + more.unwrap_or(0), count, "{text}");
        }
    }
}

#[test]
fn durations() {
    for (seconds, want) in [
        (0, "0 s"),
        (30, "30 s"),
        (60, "1 m"),
        (41 * 60 + 59, "41 m"),
        (3600, "1 h"),
        (27 * 3600 + 48 * 60, "27 h 48 m"),
        (62 * 3600, "62 h"),
        (100 * 3600, "4 d 4 h"),
        (240 * 3600, "10 d"),
    ] {
        assert_eq!(duration(seconds), want);
    }
}

#[test]
fn moments() {
    let (zone, now) = (zone("Europe/Berlin"), t("2026-10-05T05:00:00Z"));
    for (at, want) in [
        ("2026-10-04T01:12:08Z", "Sun 03:12"),
        ("2026-10-05T04:00:00Z", "Mon 06:00"),
        ("2026-09-29T04:00:00Z", "Tue 06:00"),
        ("2026-09-28T04:00:00Z", "28 Sep 06:00"),
        ("2025-12-31T23:30:00Z", "1 Jan 00:30"),
        ("2025-12-31T22:30:00Z", "31 Dec 2025 23:30"),
    ] {
        assert_eq!(when(t(at), &zone, now), want, "{at}");
    }
}

#[test]
fn sparklines() {
    let some = |values: &[f64]| values.iter().copied().map(Some).collect::<Vec<_>>();
    for (values, want) in [
        (some(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]), "▁▂▃▄▅▆▇█"),
        (some(&[5.0, 5.0]), "▁▁"),
        (vec![Some(0.0), None, Some(f64::NAN), Some(1.0)], "▁  █"),
        (some(&[f64::MIN, 0.0, f64::MAX]), "▁▅█"),
        (vec![None], " "),
        (Vec::new(), ""),
    ] {
        assert_eq!(sparkline(&values), want, "{values:?}");
    }
}

#[test]
fn numbers() {
    for (value, want) in [
        (0.962, "0.962"),
        (96.25, "96.25"),
        (0.03125, "0.0312"),
        (0.0, "0"),
        (-12.0, "-12"),
        (1_240_000.4, "1240000"),
        (1e18, "1.00e18"),
        (-0.000031, "-3.10e-5"),
        (100.0, "100"),
        (f64::NAN, "NaN"),
    ] {
        assert_eq!(number(value), want);
    }
}

proptest! {
    #[test]
    fn any_review_fits_its_bounds(
        counts in proptest::array::uniform5(0_usize..30),
        evidence in 0_usize..6,
        texts in proptest::collection::vec("\\PC{0,90}|[a-z ]{0,200}", 6),
        blind in any::<bool>(),
        confirmed in any::<bool>(),
        sealed in any::<bool>(),
        channels in any::<bool>(),
        since in 0_usize..9,
        gaps in 0_usize..400,
        odd in any::<[u32; 4]>(),
        learning in any::<bool>(),
        groups in 1_usize..300,
    ) {
        let mut review = storm();
        for (block, count) in [&mut review.critical, &mut review.today, &mut review.healed].into_iter().zip(counts) {
            block.truncate(count);
            for row in block {
                row.subject.clone_from(&texts[0]);
                row.service = Some(texts[1].clone());
                row.what.clone_from(&texts[2]);
                row.cause.clone_from(&texts[3]);
                row.owner = Some(texts[4].clone());
                row.evidence = vec![texts[5].clone(); evidence];
            }
        }
        review.changed.truncate(counts[3]);
        review.tonight.truncate(counts[4]);
        (review.blind, review.calendar_confirmed) = (blind, confirmed);
        review.sentence = texts.join(" ");
        if channels {
            review.messages.channels.push("ops".to_owned());
        }
        if !sealed {
            review.sealed = None;
        }
        if !learning {
            review.learning = None;
        }
        review.id.clone_from(&texts[1]);
        review.coverage.unwatched = (0..gaps).map(|n| unwatched(&format!("{}{n}", texts[2]), u64::from(odd[0]), &texts[3])).collect();
        (review.folded, review.findings, review.coverage.hosts) = (odd[0], odd[1], odd[2]);
        review.coverage.ticks_dropped = u64::from(odd[3]) << 32;
        review.coverage.first_start = blind.then_some(review.start);
        review.coverage.jumps = vec![(review.start, i64::from(odd[0]) - i64::from(odd[1])); gaps % 7];
        review.messages.sent = odd[0];
        (review.messages.lost, review.messages.pending, review.messages.events) = (odd[1], odd[2], odd[3]);
        for n in 0..600 {
            let group = texts[n % groups % texts.len()].clone();
            review.changed.push(Change { group, ..change("2026-10-03T10:00:00Z", &texts[n % 6]) });
        }
        for row in review.critical.iter_mut().chain(&mut review.today) {
            row.turned = confirmed.then(|| Turned { at: row.since, from: texts[4].clone() });
            row.severity = if blind { Severity::Critical } else { Severity::Warning };
        }
        let rows = review.critical.len();
        let mut live = live(review);
        live.since = vec![texts[0].clone(); since];
        for options in [Text::screen(), Text::mail(), Text { width: 20, ..Text::screen() }] {
            let text = super::review(&live, &options);
            bounded(&text, &Text { width: options.width.max(WIDTH_MIN), ..options.clone() });
            prop_assert!(rows == 0 || text.contains("I-100") , "the worst row is always there:\n{text}");
        }
    }
}

/// A night with something in every field.
fn full() -> Review {
    let mut review = weekend();
    review.learning = Some((3, 14));
    review.coverage.first_start = Some(t("2026-10-02T16:00:00Z"));
    review.tonight = vec!["certificate of mail ends on 2026-10-06".to_owned()];
    review.signed_off = 1;
    review.ledger_head = "00ff".repeat(16);
    review
}

#[test]
fn a_sealed_night_is_kept_in_this_form() {
    let path = format!(
        "{}/src/review/testdata/night-{FORMAT}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let found = serde_json::to_string_pretty(&full()).unwrap() + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        found, golden,
        "nights are kept for years: a change of this is a change of FORMAT"
    );
    assert_eq!(serde_json::from_str::<Review>(&golden).unwrap(), full());
}
