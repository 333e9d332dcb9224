//! Documents that the tests draw (three hosts, an incident, half an hour of one series), and golden texts.

use dawnwatch_proto::api::{Alert, History, Host, Incident, Told};
use dawnwatch_proto::review::{Importance, Severity};
use dawnwatch_proto::{HostId, Kind};
use jiff::{SignedDuration, Timestamp};

/// Monday 5 October 2026, 07:30 in Berlin.
pub(crate) fn now() -> Timestamp {
    at("2026-10-05T05:30:00Z")
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn hosts() -> Vec<Host> {
    let mut out: Vec<Host> = [
        ("db01", "live", None),
        ("db02", "silent", Some(Severity::Critical)),
        ("web01", "live", None),
    ]
    .iter()
    .zip(1u128..)
    .map(|((name, state, worst), i)| Host {
        id: HostId::v7(1_764_000_000_000, i << 40),
        name: (*name).to_owned(),
        state: (*state).to_owned(),
        joined: at("2026-09-01T10:00:00Z"),
        last_seen: Some(now() - SignedDuration::from_secs(4)),
        importance: Importance::Normal,
        service: None,
        owner: None,
        site: None,
        aliases: Vec::new(),
        labels: Vec::new(),
        agent_version: "0.1.0".to_owned(),
        system: "Debian 13, Linux 6.12".to_owned(),
        clock_offset_seconds: 0.012,
        series: 81,
        worst: *worst,
        values: vec![
            ("cpu_ratio".to_owned(), 0.12),
            ("memory_ratio".to_owned(), 0.614),
        ],
    })
    .collect();
    out[1].last_seen = Some(at("2026-10-04T01:12:08Z"));
    out[1].service = Some("billing".to_owned());
    out[1].owner = Some("A. Ruiz".to_owned());
    out[1].importance = Importance::High;
    out[1].values.clear();
    out[2].state = "never".to_owned();
    out[2].last_seen = None;
    out[2].values.remove(1);
    out
}

pub(crate) fn incident() -> Incident {
    let alert = Alert {
        rule: "silent".to_owned(),
        series: String::new(),
        state: "firing".to_owned(),
        severity: Severity::Critical,
        since: at("2026-10-04T01:12:08Z"),
        fired: Some(at("2026-10-04T01:12:38Z")),
        until: None,
        why: "silent for 30 s (bound 30 s)".to_owned(),
        observed: 30.0,
        worst: 100_000.0,
        bound: 30.0,
        evidence: vec![(at("2026-10-04T01:12:38Z"), 30.0)],
        late: false,
    };
    let told = Told {
        channel: "ops".to_owned(),
        reason: "opened".to_owned(),
        decided: at("2026-10-04T01:12:38Z"),
        fate: "arrived".to_owned(),
        at: Some(at("2026-10-04T01:12:40Z")),
        answer: "250 ok".to_owned(),
    };
    Incident {
        id: "I-318".to_owned(),
        host: hosts()[1].id,
        name: "db02".to_owned(),
        service: Some("billing".to_owned()),
        owner: Some("A. Ruiz".to_owned()),
        state: "acknowledged".to_owned(),
        severity: Severity::Critical,
        what: "off or hung".to_owned(),
        since: at("2026-10-04T01:12:08Z"),
        turned: None,
        until: None,
        taken: Some(("A. Ruiz".to_owned(), at("2026-10-04T01:20:00Z"))),
        cause: "cause unknown".to_owned(),
        alerts: vec![alert],
        told: vec![told],
        why: vec!["critical: pages at night".to_owned()],
        lines: Vec::new(),
    }
}

/// Half an hour of load: a ramp with a hole of five minutes.
pub(crate) fn history() -> History {
    let points = (0..180)
        .map(|i| {
            let value = f64::from(i) / 100.0;
            let hole = (60..90).contains(&i);
            (
                at("2026-10-05T05:00:00Z") + SignedDuration::from_secs(i64::from(i) * 10),
                (!hole).then_some(value),
            )
        })
        .collect();
    History {
        host: hosts()[2].id,
        name: "web01".to_owned(),
        series: "node_load1".to_owned(),
        kind: Kind::Gauge,
        zone: "Europe/Berlin".to_owned(),
        points,
        peaks: Vec::new(),
        samples: 150,
        repeated: 0,
        resolution_seconds: 0,
        damaged: 0,
    }
}

/// Compares with the golden text of this name; UPDATE_GOLDEN=1 writes it anew, to be read before it is committed.
pub(crate) fn golden(name: &str, got: &str) {
    let path = format!("{}/tests/golden/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, got).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(got, want, "{name}: got\n{got}\nwant\n{want}");
}
