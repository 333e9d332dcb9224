//! Notifications for tests: the message at 03:12 of PRODUCT.md, and what followed.

use dawnwatch_engine::effect::{Content, IncidentContent, Notification, Reason};
use dawnwatch_proto::HostId;
use dawnwatch_proto::api::{Alert, Incident};
use dawnwatch_proto::review::{Coverage, Messages, Review, Severity, Verdict};
use jiff::Timestamp;

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// db02 fell silent at 03:12:08 in Berlin.
pub(crate) fn opened() -> Notification {
    Notification {
        key: "I-318/1/ops".to_owned(),
        channel: "ops".to_owned(),
        incident: "I-318".to_owned(),
        reason: Reason::Opened,
        decided: at("2026-10-04T01:12:44Z"),
        content: Content::Incident(Box::new(content())),
    }
}

/// Nobody took it for ten minutes.
pub(crate) fn reminder() -> Notification {
    let mut out = opened();
    out.reason = Reason::Reminder;
    out.key = "I-318/2/ops".to_owned();
    out.decided = at("2026-10-04T01:22:44Z");
    out
}

/// A filesystem fills up too.
pub(crate) fn worse() -> Notification {
    let mut out = opened();
    out.reason = Reason::Worse;
    out.key = "I-318/3/ops".to_owned();
    out.decided = at("2026-10-04T22:30:00Z");
    change(&mut out, |content| {
        let mut alert = alert();
        alert.rule = "disk_full".to_owned();
        alert.series = r#"node_filesystem_avail_bytes{mountpoint="/data"}"#.to_owned();
        alert.why = "volume /data 97.2 % full, bound 95 %, for 1 min".to_owned();
        content.incident.alerts.push(alert);
        content.incident.what = "volume /data full, off or hung".to_owned();
        content.incident.taken = Some(("A. Ruiz".to_owned(), at("2026-10-04T01:20:00Z")));
    });
    out
}

/// A disk that filled for a day is full.
pub(crate) fn turned() -> Notification {
    let mut out = opened();
    change(&mut out, |content| {
        let incident = &mut content.incident;
        incident.what = "/data 95 % full".to_owned();
        incident.turned = Some(dawnwatch_proto::review::Turned {
            at: at("2026-10-04T01:11:44Z"),
            from: "filling".to_owned(),
        });
        incident.since = at("2026-10-03T01:20:00Z");
        incident.alerts[0].rule = "disk_full".to_owned();
        incident.alerts[0].why =
            "/data 95 % full for 1 m (bound 95 %), 89.9 GiB free of 1.8 TiB".to_owned();
    });
    out
}

/// It came back.
pub(crate) fn closed() -> Notification {
    let mut out = opened();
    out.reason = Reason::Closed;
    out.key = "I-318/4/ops".to_owned();
    out.decided = at("2026-10-04T01:41:20Z");
    change(&mut out, |content| {
        let incident = &mut content.incident;
        incident.state = "closed".to_owned();
        incident.until = Some(at("2026-10-04T01:41:10Z"));
        incident.cause = "power loss".to_owned();
        incident.what = "was silent".to_owned();
        incident.alerts[0].state = "resolved".to_owned();
        incident.alerts[0].until = incident.until;
        content.fine = (180, 180);
        content.last = None;
    });
    out
}

/// A sealed review.
pub(crate) fn review() -> Notification {
    let mut out = opened();
    out.reason = Reason::Review;
    out.key = "N-2026-10-05/ops".to_owned();
    out.incident = String::new();
    out.decided = at("2026-10-05T05:00:00Z");
    out.content = Content::Review(Box::new(sealed()));
    out
}

/// A test of the channel.
pub(crate) fn test() -> Notification {
    let mut out = opened();
    out.reason = Reason::Test;
    out.key = "test/1/ops".to_owned();
    out.incident = String::new();
    out.content = Content::Test;
    out
}

/// An opening in which every text that others wrote is hostile.
pub(crate) fn hostile() -> Notification {
    let mut out = opened();
    change(&mut out, |content| {
        let evil = "web\r\nBcc: all@example.org\r\n\r\n\x1b[2J\u{202e}01";
        let incident = &mut content.incident;
        incident.name = evil.to_owned();
        incident.service = Some(format!("shop {evil}"));
        incident.owner = Some(evil.to_owned());
        incident.what = format!("volume /{evil} full");
        incident.alerts[0].series = format!("x{{a=\"{evil}\"}}");
        incident.alerts[0].why = format!("volume /{} full", "long".repeat(40));
        content.last = Some((incident.since, evil.to_owned()));
        content.changed = vec![evil.to_owned()];
        content.told = vec![evil.to_owned()];
    });
    out
}

pub(crate) fn change(notification: &mut Notification, how: impl FnOnce(&mut IncidentContent)) {
    let Content::Incident(content) = &mut notification.content else {
        panic!("no incident");
    };
    how(content);
}

fn content() -> IncidentContent {
    IncidentContent {
        incident: Incident {
            id: "I-318".to_owned(),
            host: HostId(0x0192_0000_0000_7000_8000_0000_0000_0002),
            name: "db02".to_owned(),
            service: Some("billing".to_owned()),
            owner: None,
            state: "open".to_owned(),
            severity: Severity::Critical,
            what: "off or hung".to_owned(),
            since: at("2026-10-04T01:12:08Z"),
            turned: None,
            until: None,
            taken: None,
            cause: "cause unknown".to_owned(),
            alerts: vec![alert()],
            told: Vec::new(),
            why: Vec::new(),
            lines: Vec::new(),
        },
        zone: "Europe/Berlin".to_owned(),
        fine: (179, 180),
        last: Some((
            at("2026-10-04T01:11:52Z"),
            "CPU 12 %, memory 61 %".to_owned(),
        )),
        changed: Vec::new(),
        before: vec!["12 Aug I-201".to_owned()],
        told: vec!["ops".to_owned(), "mail".to_owned()],
    }
}

fn alert() -> Alert {
    Alert {
        rule: "silent".to_owned(),
        series: String::new(),
        state: "firing".to_owned(),
        severity: Severity::Critical,
        since: at("2026-10-04T01:12:08Z"),
        fired: Some(at("2026-10-04T01:12:38Z")),
        until: None,
        why: "last heard Sun 4 Oct 03:12:08, no goodbye; last CPU 12 %, memory 61 %".to_owned(),
        observed: 36.0,
        worst: 36.0,
        bound: 30.0,
        evidence: Vec::new(),
        late: false,
    }
}

fn sealed() -> Review {
    Review {
        format: dawnwatch_proto::review::FORMAT,
        id: "N-2026-10-05".to_owned(),
        start: at("2026-10-02T16:00:00Z"),
        end: at("2026-10-05T06:00:00Z"),
        until: at("2026-10-05T05:00:00Z"),
        zone: "Europe/Berlin".to_owned(),
        calendar_confirmed: true,
        hours: "Mon-Fri 08:00-18:00".to_owned(),
        sealed: Some(at("2026-10-05T05:00:00Z")),
        learning: None,
        verdict: Verdict::Quiet,
        blind: false,
        sentence: "Everything worked and nothing needs you.".to_owned(),
        coverage: Coverage {
            ratio: 1.0,
            hosts: 42,
            expected_seconds: 42 * 3_600,
            watched_seconds: 42 * 3_600,
            server_up_seconds: 3_600,
            window_seconds: 3_600,
            unwatched: Vec::new(),
            ticks_dropped: 0,
            first_start: None,
            joined: 0,
            jumps: Vec::new(),
        },
        critical: Vec::new(),
        today: Vec::new(),
        healed: Vec::new(),
        changed: Vec::new(),
        tonight: Vec::new(),
        messages: Messages::default(),
        findings: 0,
        signed_off: 0,
        folded: 0,
        ledger_head: String::new(),
        tzdb: "2026a".to_owned(),
    }
}
