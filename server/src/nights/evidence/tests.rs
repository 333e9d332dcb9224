use std::cell::Cell;

use dawnwatch_proto::api::Alert;
use dawnwatch_proto::event::{Event, Line};
use dawnwatch_proto::review::{Row, Severity};
use dawnwatch_proto::{Kind, Schema};
use dawnwatch_segment::{Disk, RealDisk};

use super::*;
use crate::history::events::EventRow;
use crate::history::head::Row as Sample;
use crate::nights;

const HOST: HostId = HostId(7);
/// The finding begins after two hours of samples.
const BEGUN: i64 = 7_200;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

fn load() -> Series {
    Series::new("node_load1", Kind::Gauge)
}

/// Three hours of a host: a sample each ten seconds, a log line each minute, and a storm after the start of the finding.
fn history(dir: &Path) -> History {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (history, damage) = History::open(&disk, dir).unwrap();
    assert_eq!(damage, [""; 0]);
    let schema = Schema::new(vec![load()]);
    history.schema(HOST, &schema).unwrap();
    for (position, second) in (1..).zip((0..10_800).step_by(10)) {
        let row = Sample {
            time_ms: at(second).as_millisecond(),
            schema: schema.id(),
            values: vec![second].into(),
            position,
        };
        history.push(HOST, row, 0);
        let storm = (BEGUN..BEGUN + 600).contains(&second);
        for n in 0..if storm {
            50
        } else {
            i64::from(second % 60 == 0)
        } {
            let long = if second == 7_140 {
                "é".repeat(2_000)
            } else {
                String::new()
            };
            let body = EventBody::Line(Line {
                template: 1,
                severity: 3,
                source: "kernel".to_owned(),
                text: format!("line {n} of {second} {long}"),
                cut_from: 0,
            });
            let time = at(second);
            let row = EventRow::of(&Event { time, body }, time, position);
            history.push_event(HOST, row, 0);
        }
    }
    // Half of it in a file, half in the head, as at any moment of a real night.
    let sealing = history.begin_seal();
    history.seal(&sealing, 10_000, at(10_800)).unwrap();
    history
}

fn incident(id: &str, since: i64, series: &[String]) -> Arc<Incident> {
    let alert = |series: &String| Alert {
        rule: "deviation".to_owned(),
        series: series.clone(),
        state: "firing".to_owned(),
        severity: Severity::Warning,
        since: at(since),
        fired: Some(at(since)),
        until: None,
        why: String::new(),
        observed: 1.0,
        worst: 1.0,
        bound: 0.5,
        evidence: Vec::new(),
        late: false,
    };
    Arc::new(Incident {
        id: id.to_owned(),
        host: HOST,
        name: "web01".to_owned(),
        service: None,
        owner: None,
        state: "open".to_owned(),
        severity: Severity::Warning,
        what: "load".to_owned(),
        since: at(since),
        turned: None,
        until: None,
        taken: None,
        cause: "cause unknown".to_owned(),
        alerts: series.iter().map(alert).collect(),
        told: Vec::new(),
        why: Vec::new(),
        lines: Vec::new(),
    })
}

fn review(ids: &[&str]) -> Review {
    let mut review = dawnwatch_engine::Engine::new()
        .view(at(0))
        .so_far
        .as_ref()
        .clone();
    review.id = "N-2026-09-22".to_owned();
    review.sealed = Some(at(10_800));
    review.today = ids
        .iter()
        .map(|id| Row {
            id: (*id).to_owned(),
            subject: "web01".to_owned(),
            service: None,
            what: "load".to_owned(),
            severity: Severity::Warning,
            since: at(BEGUN),
            turned: None,
            until: None,
            cause: String::new(),
            owner: None,
            taken: None,
            evidence: Vec::new(),
            rank: String::new(),
            score: 1,
            state: "open".to_owned(),
        })
        .collect();
    review
}

#[test]
fn a_night_can_be_read_when_its_raw_history_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let history = history(dir.path());
    let incidents = [incident("I-1", BEGUN, &[load().to_string()])];
    let gathered = gather(&history, &review(&["I-1"]), &incidents, || 0);
    let (bytes, hash) = nights::canonical(&gathered);
    assert_eq!(nights::canonical(&gathered), (bytes.clone(), hash));
    write(dir.path(), &gathered.night, &bytes).unwrap();
    history.expire_now();
    drop(history);
    std::fs::remove_dir_all(dir.path().join("history")).unwrap();

    let read = read(dir.path(), "N-2026-09-22").unwrap().unwrap();
    assert_eq!(read, gathered);
    let [kept] = read.findings.as_slice() else {
        panic!("{} findings", read.findings.len())
    };
    assert_eq!((kept.from, kept.to), (at(BEGUN - 1_800), at(BEGUN + 1_800)));
    let [series] = kept.series.as_slice() else {
        panic!("{} series", kept.series.len())
    };
    assert_eq!((series.samples, series.points.len()), (360, POINTS_MAX));
    assert_eq!(series.points[0], (at(BEGUN - 1_800), Some(5_410.0)));
    assert_eq!(series.peaks[0], Some(5_420.0));
    let lines: Vec<&str> = kept.lines.iter().map(|line| &line.text[..14]).collect();
    assert_eq!((lines.len(), kept.lines_more), (20, true));
    assert!(lines[9].starts_with("line 0 of 7140"), "{lines:?}");
    assert!(
        lines[10..].iter().all(|line| line.contains(" of 720")),
        "the first of the storm: {lines:?}"
    );
    let long = &kept.lines[9];
    assert!(
        long.text.len() <= LINE_BYTES_MAX && long.cut_from > 4_000,
        "{}",
        long.text.len()
    );
    assert_eq!(
        nights::list(dir.path()).unwrap(),
        [],
        "evidence alone is no night"
    );
}

#[test]
fn what_is_over_the_bounds_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let history = history(dir.path());
    let series: Vec<String> = (0..12).map(|i| format!("made_up_{i}")).collect();
    let incidents = [
        incident("I-1", 10_790, &series),
        incident("I-2", BEGUN, &[load().to_string()]),
    ];
    let spent = Cell::new(0);
    let slow = || spent.replace(BUDGET_MS);
    let gathered = gather(&history, &review(&["I-1", "I-2", "I-3"]), &incidents, slow);
    assert_eq!((gathered.findings.len(), gathered.left_out), (1, 2));
    let kept = &gathered.findings[0];
    assert_eq!((kept.series.len(), kept.series_more), (0, 4));
    assert_eq!(kept.to, at(10_800), "nothing after the sealing");
}

#[test]
fn evidence_of_another_format_and_odd_names_are_told_apart_from_none() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read(dir.path(), "N-1").unwrap(), None);
    assert_eq!(read(dir.path(), "../identity/ca").unwrap(), None);
    let later = r#"{"format":2,"night":"N-1","zone":"UTC","sealed":"2026-01-01T00:00:00Z","findings":[],"left_out":0,"damaged":[]}"#;
    write(dir.path(), "N-1", later.as_bytes()).unwrap();
    let error = read(dir.path(), "N-1").unwrap_err().to_string();
    assert!(
        error.ends_with("N-1.evidence.json: format 2, this build reads 1"),
        "{error}"
    );
    write(dir.path(), "N-1", b"{").unwrap();
    assert!(read(dir.path(), "N-1").is_err());
}

#[test]
fn evidence_is_kept_in_this_form() {
    let series = load().to_string();
    let kept = Evidence {
        format: EVIDENCE_FORMAT,
        night: "N-2026-09-22".to_owned(),
        zone: "Europe/Berlin".to_owned(),
        sealed: at(10_800),
        findings: vec![FindingEvidence {
            incident: incident("I-1", BEGUN, std::slice::from_ref(&series))
                .as_ref()
                .clone(),
            from: at(BEGUN - 1_800),
            to: at(BEGUN + 1_800),
            series: vec![SeriesEvidence {
                series,
                kind: Kind::Gauge,
                points: vec![(at(BEGUN), Some(1.5)), (at(BEGUN + 30), None)],
                peaks: vec![Some(2.0), None],
                samples: 3,
            }],
            series_more: 1,
            lines: vec![LogLine {
                time: at(BEGUN),
                host: HOST,
                name: "web01".to_owned(),
                severity: 3,
                source: "kernel".to_owned(),
                text: "Out of memory: killed process 4242".to_owned(),
                cut_from: 2_000,
            }],
            lines_more: true,
        }],
        left_out: 2,
        damaged: vec!["an hour file cannot be read".to_owned()],
    };
    let (bytes, hash) = nights::canonical(&kept);
    let golden = include_str!("testdata/evidence-1.json");
    assert_eq!(String::from_utf8(bytes).unwrap(), golden);
    assert_eq!(
        hash,
        "62b02c3555f811970d36f46d8a6b842aa2e245b4146023a1b0c44dc876fd5c08"
    );
    assert_eq!(serde_json::from_str::<Evidence>(golden).unwrap(), kept);
}

#[test]
fn a_series_that_its_host_sends_no_more_is_kept_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let history = history(dir.path());
    // The disk that the finding is about is gone soon after, so the host's schema has it no more; another host has one like it.
    let other = Schema::new(vec![Series::new("node_load5", Kind::Gauge)]);
    history.schema(HOST, &other).unwrap();
    let foreign = Series::new("node_load15", Kind::Gauge);
    let of_another = Schema::new(vec![foreign.clone()]);
    history.schema(HostId(8), &of_another).unwrap();
    assert_eq!(history.series(HOST), other.series());
    let series = [
        load().to_string(),
        foreign.to_string(),
        "derived".to_owned(),
    ];
    let incidents = [incident("I-1", BEGUN, &series)];
    let gathered = gather(&history, &review(&["I-1"]), &incidents, || 0);
    let kept = &gathered.findings[0].series;
    let named: Vec<(&str, u64)> = kept
        .iter()
        .map(|one| (one.series.as_str(), one.samples))
        .collect();
    assert_eq!(named, [("node_load1", 360)]);
}
