use std::sync::Arc;

use dawnwatch_proto::api::Alert;

use super::*;
use crate::config::Calendar;
use crate::night::Nights;

fn t(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn incident(
    id: &str,
    name: &str,
    severity: Severity,
    since: &str,
    until: Option<&str>,
) -> Incident {
    Incident {
        id: id.to_owned(),
        host: HostId(u128::from(name.as_bytes()[name.len() - 1])),
        name: name.to_owned(),
        service: None,
        owner: None,
        state: if until.is_some() { "closed" } else { "open" }.to_owned(),
        severity,
        what: "/data full; 2.1 GiB free".to_owned(),
        since: t(since),
        turned: None,
        until: until.map(t),
        taken: None,
        cause: "cause unknown".to_owned(),
        alerts: vec![Alert {
            rule: "disk_full".to_owned(),
            series: String::new(),
            state: "firing".to_owned(),
            severity,
            since: t(since),
            fired: Some(t(since)),
            until: None,
            why: "/data 96.2 % full for 1 m (bound 95 %)".to_owned(),
            observed: 0.962,
            worst: 0.962,
            bound: 0.95,
            evidence: Vec::new(),
            late: false,
        }],
        told: Vec::new(),
        why: Vec::new(),
        lines: Vec::new(),
    }
}

fn shared(incidents: &[Incident]) -> Vec<Arc<Incident>> {
    incidents.iter().cloned().map(Arc::new).collect()
}

struct Scene {
    incidents: Vec<Incident>,
    /// Unwatched seconds of each of the hosts.
    holes: Vec<i64>,
    importance: Importance,
    server_hole: i64,
    sealed: bool,
    changes: Vec<Change>,
    joined: Vec<&'static str>,
    first_start: Option<&'static str>,
    jumps: Vec<(Timestamp, i64)>,
}

fn scene() -> Scene {
    Scene {
        incidents: Vec::new(),
        holes: vec![0; 4],
        importance: Importance::Normal,
        server_hole: 0,
        sealed: true,
        changes: Vec::new(),
        joined: Vec::new(),
        first_start: None,
        jumps: Vec::new(),
    }
}

/// The weekend of N-2026-10-05, Friday 18:00 to Monday 08:00 in Berlin, sealed at 07:00.
fn make(scene: &Scene) -> Review {
    let config = Config {
        calendar: Calendar {
            zone: "Europe/Berlin".to_owned(),
            confirmed: true,
            ..Calendar::default()
        },
        ..Config::default()
    };
    let night = Nights::new(&config.calendar)
        .unwrap()
        .by_id("N-2026-10-05")
        .unwrap();
    let hole = |seconds: i64| {
        let mut watched = Watched::default();
        let begin = night.start + jiff::SignedDuration::from_hours(5);
        watched.add(night.start, begin);
        watched.add(begin + jiff::SignedDuration::from_secs(seconds), night.end);
        watched
    };
    let watched: Vec<Watched> = scene.holes.iter().map(|seconds| hole(*seconds)).collect();
    let (down, server_up) = (Watched::default(), hole(scene.server_hole));
    let names: Vec<String> = (1..=watched.len()).map(|n| format!("db0{n}")).collect();
    let hosts: Vec<HostInput<'_>> = names
        .iter()
        .zip(&watched)
        .enumerate()
        .map(|(n, (name, watched))| HostInput {
            expected: None,
            id: HostId(u128::from(name.as_bytes()[3])),
            name,
            importance: scene.importance,
            joined: t(scene.joined.get(n).unwrap_or(&"2026-01-01T00:00:00Z")),
            retired: None,
            watched,
            down: &down,
            reason: "silent".to_owned(),
        })
        .collect();
    let now = if scene.sealed {
        night.seal_at
    } else {
        t("2026-10-04T06:00:00Z")
    };
    let incidents = shared(&scene.incidents);
    build(&ReviewInput {
        night: &night,
        now,
        sealed: scene.sealed.then_some(now),
        config: &config,
        incidents: &incidents,
        hosts: &hosts,
        server_up: &server_up,
        first_start: scene.first_start.map(t),
        jumps: &scene.jumps,
        changes: &scene.changes,
        tonight: &[],
        messages: &Messages::default(),
        learning: None,
        ticks_dropped: 0,
        signed_off: 0,
    })
}

fn check(scene: &Scene, verdict: Verdict, sentence: &str) {
    let review = make(scene);
    assert_eq!(
        (review.verdict, review.sentence.as_str()),
        (verdict, sentence)
    );
}

const SUN: &str = "2026-10-04T01:12:00Z";
const HEALED: Option<&str> = Some("2026-10-04T02:00:00Z");

#[test]
fn quiet() {
    let mut night = scene();
    check(
        &night,
        Verdict::Quiet,
        "Nothing needs you: 4 of 4 hosts were watched all night.",
    );
    night.holes = vec![0];
    check(
        &night,
        Verdict::Quiet,
        "Nothing needs you: the one host was watched all night.",
    );
    night.holes = vec![0, 600, 0, 0];
    let want = "Nothing needs you; 1 of 4 hosts went unwatched for a short while.";
    check(&night, Verdict::Quiet, want);
    night.holes = vec![0, 0];
    night.incidents = vec![
        incident("I-1", "db01", Severity::Critical, SUN, HEALED),
        incident("I-2", "db02", Severity::Warning, SUN, HEALED),
        incident("I-3", "db02", Severity::Info, SUN, None),
    ];
    check(
        &night,
        Verdict::Quiet,
        "Nothing needs you: 2 of 2 hosts were watched all night. One critical fault healed by itself: db01.",
    );
    let review = make(&night);
    assert_eq!(
        (review.healed.len(), review.folded, review.findings),
        (2, 1, 0)
    );
    assert!(!review.tzdb.is_empty() && review.hours == "Mon-Fri 08:00-18:00");
}

#[test]
fn attention() {
    let mut night = scene();
    night.incidents = vec![incident("I-1", "db01", Severity::Warning, SUN, None)];
    check(
        &night,
        Verdict::Attention,
        "One thing needs you today: db01, /data full since Sunday 03:12.",
    );
    night
        .incidents
        .push(incident("I-2", "db02", Severity::Warning, SUN, None));
    check(
        &night,
        Verdict::Attention,
        "Two things need you today: db01, /data full since Sunday 03:12; db02, /data full since Sunday 03:12.",
    );
}

#[test]
fn critical() {
    let mut night = scene();
    let mut db02 = incident("I-1", "db02", Severity::Critical, SUN, None);
    db02.service = Some("billing".to_owned());
    db02.what = "x".repeat(90);
    night.incidents = vec![db02];
    let what = "x".repeat(59);
    let one = format!(
        "One thing cannot wait: billing (db02), {what}… since Sunday 03:12. All else worked."
    );
    check(&night, Verdict::Critical, &one);
    for n in 2..=20 {
        night.incidents.push(incident(
            &format!("I-{n}"),
            "db01",
            Severity::Critical,
            SUN,
            None,
        ));
    }
    night
        .incidents
        .push(incident("I-21", "db03", Severity::Warning, SUN, None));
    let many = format!(
        "20 things cannot wait: first billing (db02), {what}… since Sunday 03:12. One more needs you today."
    );
    check(&night, Verdict::Critical, &many);
    assert_eq!(make(&night).findings, 21);
}

#[test]
fn blind() {
    let mut night = scene();
    night.holes = vec![36_000, 36_000, 0, 0];
    check(
        &night,
        Verdict::Blind,
        "Nothing needs anybody, but 2 of 4 hosts were not watched: we cannot call the night quiet.",
    );
    night.incidents = vec![incident("I-1", "db03", Severity::Warning, SUN, None)];
    check(
        &night,
        Verdict::Blind,
        "One thing needs you today: db03, /data full since Sunday 03:12. 2 of 4 hosts were not watched: \
         there may be more.",
    );
    night.incidents[0].severity = Severity::Critical;
    let review = make(&night);
    assert_eq!(
        (review.verdict, review.blind),
        (Verdict::Critical, true),
        "both are said"
    );
    let mut server = scene();
    server.server_hole = 5 * 3600;
    check(
        &server,
        Verdict::Blind,
        "Nothing needs anybody, but nothing was watched for 5 h while the monitor itself was down: we cannot \
         call the night quiet.",
    );
    let mut important = scene();
    (important.importance, important.holes) = (Importance::High, vec![0, 0, 0, 901]);
    assert_eq!(make(&important).verdict, Verdict::Blind);
    let mut nobody = scene();
    nobody.holes.clear();
    check(
        &nobody,
        Verdict::Blind,
        "No host was there to be watched: nothing can be said about this night.",
    );
}

#[test]
fn rows_are_in_the_window_and_ranked() {
    let mut night = scene();
    let mut long = incident(
        "I-5",
        "db01",
        Severity::Critical,
        "2026-09-01T00:00:00Z",
        None,
    );
    long.alerts[0].state = "pending".to_owned();
    night.incidents = vec![
        incident(
            "I-1",
            "db01",
            Severity::Critical,
            "2026-10-02T14:00:00Z",
            Some("2026-10-02T15:59:59Z"),
        ),
        incident(
            "I-2",
            "db01",
            Severity::Critical,
            "2026-10-02T14:00:00Z",
            Some("2026-10-02T16:00:00Z"),
        ),
        incident(
            "I-3",
            "db01",
            Severity::Critical,
            "2026-10-05T05:00:00Z",
            None,
        ),
        incident(
            "I-4",
            "db01",
            Severity::Critical,
            SUN,
            Some("2026-10-05T05:30:00Z"),
        ),
        long,
        incident("I-6", "db01", Severity::Warning, SUN, HEALED),
    ];
    let review = make(&night);
    let ids = |rows: &[Row]| rows.iter().map(|row| row.id.clone()).collect::<Vec<_>>();
    assert_eq!(
        ids(&review.critical),
        ["I-5", "I-4"],
        "one that ends after sealing is still open"
    );
    assert_eq!(ids(&review.healed), ["I-2", "I-6"]);
    assert_eq!(review.critical[1].state, "open");
    assert_eq!(
        review.critical[1].evidence,
        ["/data 96.2 % full for 1 m (bound 95 %)"]
    );
    assert!(
        review.critical[0].evidence.is_empty(),
        "a pending alert is no evidence"
    );
    assert_eq!(
        review.critical[1].rank,
        "critical, normal importance, still open, 27 h 48 m"
    );
}

#[test]
fn changes_are_those_of_the_night_in_order() {
    let mut night = scene();
    night.changes = [
        "2026-10-04T00:00:00Z",
        "2026-10-02T15:00:00Z",
        "2026-10-03T00:00:00Z",
    ]
    .map(|at| Change {
        at: t(at),
        text: at.to_owned(),
        group: String::new(),
    })
    .into();
    let review = make(&night);
    let changes: Vec<&str> = review
        .changed
        .iter()
        .map(|change| change.text.as_str())
        .collect();
    assert_eq!(changes, ["2026-10-03T00:00:00Z", "2026-10-04T00:00:00Z"]);
}

#[test]
fn each_part_of_the_rank_outweighs_what_follows() {
    let score = |severity, importance, open, seconds| rank(severity, importance, open, seconds).0;
    let scores = [
        score(Severity::Info, Importance::High, true, u64::MAX),
        score(Severity::Warning, Importance::Low, false, 0),
        score(Severity::Warning, Importance::Low, false, u64::MAX),
        score(Severity::Warning, Importance::Low, true, 0),
        score(Severity::Warning, Importance::Low, true, u64::MAX),
        score(Severity::Warning, Importance::Normal, false, 0),
        score(Severity::Critical, Importance::Low, false, 0),
    ];
    assert!(scores.is_sorted_by(|a, b| a < b), "{scores:?}");
}

#[test]
fn a_storm_is_bounded_and_counted() {
    let mut night = scene();
    night.incidents = (0..5000)
        .map(|n| incident(&format!("I-{n}"), "db01", Severity::Critical, SUN, None))
        .collect();
    let review = make(&night);
    assert_eq!((review.critical.len(), review.findings), (ROWS_MAX, 5000));
    assert_eq!(review.critical[ROWS_MAX - 1].subject, "4501 more");
    night.incidents.truncate(1);
    let alert = night.incidents[0].alerts[0].clone();
    night.incidents[0].alerts = (0..40)
        .map(|n| Alert {
            why: format!("why {n}"),
            ..alert.clone()
        })
        .collect();
    let evidence = &make(&night).critical[0].evidence;
    assert_eq!(evidence.len(), EVIDENCE_MAX);
    assert_eq!(evidence[EVIDENCE_MAX - 1], "33 more: dawnwatch show I-0");
}

#[test]
fn so_far_covers_up_to_the_present() {
    let mut night = scene();
    night.sealed = false;
    let review = make(&night);
    assert_eq!(
        (review.until, review.sealed),
        (t("2026-10-04T06:00:00Z"), None)
    );
    assert_eq!(review.coverage.window_seconds, 38 * 3600);
    assert!(live(&review, review.until, &[]).since.is_empty());
}

#[test]
fn what_happened_since_sealing_stands_above() {
    let mut night = scene();
    night.incidents = vec![incident("I-1", "db02", Severity::Critical, SUN, None)];
    let review = make(&night);
    let at = t("2026-10-05T07:00:00Z");
    assert!(
        live(&review, at, &shared(&night.incidents))
            .since
            .is_empty()
    );
    night.incidents[0].state = "closed".to_owned();
    night.incidents[0].until = Some(t("2026-10-05T05:45:00Z"));
    night.incidents.extend([
        incident(
            "I-2",
            "db03",
            Severity::Critical,
            "2026-10-05T05:20:00Z",
            None,
        ),
        incident("I-3", "db03", Severity::Info, "2026-10-05T05:20:00Z", None),
        incident(
            "I-4",
            "db03",
            Severity::Critical,
            "2026-10-05T07:20:00Z",
            None,
        ),
        incident("I-5", "db01", Severity::Warning, SUN, HEALED),
    ]);
    let later = live(&review, at, &shared(&night.incidents));
    assert_eq!(
        later.since,
        [
            "late warning: I-5 db01, /data full; 2.1 GiB free, Sun 03:12",
            "new critical: I-2 db03, /data full; 2.1 GiB free, Mon 07:20",
            "over: I-1 db02, Mon 07:45",
        ]
    );
    let busy: Vec<Incident> = (0..150)
        .map(|n| {
            incident(
                &format!("I-{n}"),
                "db03",
                Severity::Warning,
                "2026-10-05T06:00:00Z",
                None,
            )
        })
        .collect();
    let since = live(&review, at, &shared(&busy)).since;
    assert_eq!(since[SINCE_MAX..], ["50 more: dawnwatch incidents"]);
    assert_eq!(later.review.critical[0].state, "closed");
    assert_eq!(
        later.review.sentence, review.sentence,
        "what was sealed stays"
    );
}

#[test]
fn who_joined_was_watched_since_then() {
    let mut night = scene();
    let sunday = "2026-10-04T01:12:00Z";
    night.joined = vec![sunday; 4];
    check(
        &night,
        Verdict::Quiet,
        "Nothing needs you: 4 of 4 hosts were watched since they joined.",
    );
    night.joined.truncate(2);
    check(
        &night,
        Verdict::Quiet,
        "Nothing needs you: 4 of 4 hosts were watched all night, 2 of them since they joined.",
    );
    night.joined.truncate(1);
    check(
        &night,
        Verdict::Quiet,
        "Nothing needs you: 4 of 4 hosts were watched all night, one of them since it joined.",
    );
    night.holes = vec![0];
    check(
        &night,
        Verdict::Quiet,
        "Nothing needs you: the one host was watched since it joined.",
    );
}

#[test]
fn before_the_first_start_nothing_was_to_be_watched() {
    let mut night = scene();
    night.first_start = Some("2026-10-04T01:00:00Z");
    // All hosts unwatched for the first ten hours, and the server away: long before the start.
    (night.holes, night.server_hole) = (vec![36_000; 4], 36_000);
    let coverage = make(&night).coverage;
    assert_eq!(
        (coverage.window_seconds, coverage.server_up_seconds),
        (28 * 3600, 28 * 3600)
    );
    assert_eq!(coverage.first_start, Some(t("2026-10-04T01:00:00Z")));
    assert_eq!((coverage.joined, coverage.unwatched.len()), (4, 0));
    // One of another night is no news.
    night.first_start = Some("2026-10-01T01:00:00Z");
    assert_eq!(make(&night).coverage.first_start, None);
    assert_eq!(make(&night).verdict, Verdict::Blind);
}

#[test]
fn time_that_the_clock_jumped_over_never_was() {
    let mut night = scene();
    (night.holes, night.server_hole) = (vec![36_000; 4], 36_000);
    let after = t("2026-10-03T07:00:00Z");
    night.jumps = vec![(after, 36_000_000)];
    let review = make(&night);
    assert_eq!(review.coverage.jumps, [(after, 36_000)]);
    assert_eq!(review.coverage.window_seconds, 51 * 3600);
    assert_eq!(
        review.sentence,
        "Nothing needs you: 4 of 4 hosts were watched all night; the server's clock jumped ahead by 10 h."
    );
    // It went back and ran through that time after all.
    night
        .jumps
        .push((after - jiff::SignedDuration::from_hours(10), -36_000_000));
    assert_eq!(make(&night).verdict, Verdict::Blind);
    assert_eq!(make(&night).coverage.window_seconds, 61 * 3600);
    // What a time server mends every day is not told.
    night.jumps = vec![(after, 59_999)];
    assert_eq!(make(&night).coverage.jumps, []);
}

#[test]
fn the_sentence_takes_the_time_of_its_words_and_worse_is_told_after_sealing() {
    let mut night = scene();
    let mut filling = incident("I-1", "db01", Severity::Warning, SUN, None);
    let review = {
        night.incidents = vec![filling.clone()];
        make(&night)
    };
    filling.severity = Severity::Critical;
    filling.what = "/data 95 % full".to_owned();
    let turned = |at| {
        let from = "filling".to_owned();
        Some(dawnwatch_proto::review::Turned { at: t(at), from })
    };
    filling.turned = turned("2026-10-05T05:20:00Z");
    let after = live(
        &review,
        t("2026-10-05T07:00:00Z"),
        &shared(&[filling.clone()]),
    );
    assert_eq!(
        after.since,
        ["worse: I-1 db01 is critical, /data 95 % full, Mon 07:20"]
    );
    filling.turned = turned("2026-10-05T01:30:00Z");
    night.incidents = vec![filling];
    check(
        &night,
        Verdict::Critical,
        "One thing cannot wait: db01, /data 95 % full since Monday 03:30. All else worked.",
    );
    assert_eq!(make(&night).critical[0].since, t(SUN));
}
