use serde_json::Value;

use super::*;
use crate::notify::receiver::{Answer, FarEnd, identity, web};
use crate::notify::render::samples::{self, at};

const NOW: Now = Now {
    wall: Timestamp::UNIX_EPOCH,
    boot_ms: 0,
};

fn sender(far_end: &FarEnd) -> Webhook {
    Webhook::new(WebhookSettings {
        url: Secret::new(far_end.url("http")),
        secret: None,
        ca_file: None,
    })
}

/// What comes of one attempt at a server that answers so.
fn attempt(answer: Answer) -> Result<String, Failure> {
    let far_end = web(vec![answer], None);
    let mut webhook = sender(&far_end);
    webhook.attempt = Duration::from_millis(400);
    let out = webhook.deliver(&samples::opened(), NOW);
    let heard = far_end.heard();
    assert_eq!(heard.commands, ["POST /hook HTTP/1.1"]);
    assert_eq!(heard.headers["idempotency-key"], "I-318/1/ops");
    out
}

fn transient(why: &str, again: Again) -> Result<String, Failure> {
    Err(Failure::Transient {
        why: why.to_owned(),
        again,
    })
}

#[test]
fn every_answer_has_its_meaning() {
    let raw = |text| attempt(Answer::Raw(text));
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nok\x1b\n";
    assert_eq!(raw(ok), Ok(r"200 ok\u{1b}".to_owned()));
    let after = |seconds| Again::After(Duration::from_secs(seconds));
    for (answer, want) in [
        (
            "HTTP/1.1 500 Oops\r\ncontent-length: 5\r\n\r\nbroke",
            transient("500 broke", Again::Backoff),
        ),
        (
            "HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n",
            transient("429", after(7)),
        ),
        (
            "HTTP/1.1 503 Later\r\nretry-after: Thu, 01 Jan 1970 00:02:00 GMT\r\ncontent-length: 0\r\n\r\n",
            transient("503", after(120)),
        ),
        (
            "HTTP/1.1 429 Slow\r\nretry-after: soon\r\ncontent-length: 0\r\n\r\n",
            transient("429", Again::Backoff),
        ),
        (
            "HTTP/1.1 301 Moved\r\nlocation: http://localhost/\r\ncontent-length: 0\r\n\r\n",
            Err(Failure::permanent(
                "301: redirects are not followed; set the final URL",
            )),
        ),
        (
            "HTTP/1.1 307 Moved\r\nlocation: http://localhost/\r\ncontent-length: 0\r\n\r\n",
            Err(Failure::permanent(
                "307: redirects are not followed; set the final URL",
            )),
        ),
        (
            "HTTP/1.1 400 Bad\r\ncontent-length: 3\r\n\r\nwhy",
            Err(Failure::permanent("400 why")),
        ),
        (
            "HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n",
            Err(Failure::permanent("401")),
        ),
        (
            "HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n",
            Err(Failure::permanent("404")),
        ),
        (
            "HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n",
            Err(Failure::permanent("410")),
        ),
    ] {
        assert_eq!(raw(answer), want, "{answer}");
    }
}

#[test]
fn silence_and_nonsense_are_tried_again() {
    for answer in [
        Answer::Hang,
        Answer::Close,
        Answer::Raw("SSH-2.0-OpenSSH\r\n"),
    ] {
        let out = attempt(answer);
        assert!(
            matches!(&out, Err(Failure::Transient { why, .. }) if why.starts_with("no answer: ")),
            "{answer:?}: {out:?}"
        );
    }
    let mut nobody = Webhook::new(WebhookSettings {
        url: Secret::new("http://127.0.0.1:1/"),
        secret: None,
        ca_file: None,
    });
    let out = nobody.deliver(&samples::opened(), NOW);
    assert!(matches!(out, Err(Failure::Transient { .. })), "{out:?}");
}

#[test]
fn a_reply_without_end_is_read_in_part() {
    let out = attempt(Answer::Endless).unwrap();
    assert!(
        out.starts_with("200 xxx") && out.chars().count() == 200,
        "{out}"
    );
}

#[test]
fn https_believes_its_ca_file_alone() {
    let (pem, tls) = identity();
    let dir = tempfile::tempdir().unwrap();
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, pem).unwrap();
    let ok = Answer::Raw("HTTP/1.1 204 No Content\r\n\r\n");
    let far_end = web(vec![ok, ok], Some(tls));
    let mut settings = WebhookSettings {
        url: Secret::new(far_end.url("https")),
        secret: None,
        ca_file: Some(ca_file.clone()),
    };
    let out = Webhook::new(settings.clone()).deliver(&samples::opened(), NOW);
    assert_eq!(out, Ok("204".to_owned()));
    assert!(far_end.heard().body.contains("I-318"));

    std::fs::write(&ca_file, identity().0).unwrap();
    let out = Webhook::new(settings.clone()).deliver(&samples::opened(), NOW);
    assert!(
        matches!(out, Err(Failure::Transient { .. })),
        "bad TLS: {out:?}"
    );

    settings.ca_file = Some(dir.path().join("absent.pem"));
    let out = Webhook::new(settings).deliver(&samples::opened(), NOW);
    assert!(matches!(out, Err(Failure::Transient { why, .. }) if why.contains("absent.pem")));
}

/// A private CA is renewed while the server runs.
#[test]
fn a_ca_file_that_changed_is_read_again() {
    let (pem, tls) = identity();
    let dir = tempfile::tempdir().unwrap();
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, identity().0).unwrap();
    let ok = Answer::Raw("HTTP/1.1 204 No Content\r\n\r\n");
    let far_end = web(vec![Answer::Close, ok], Some(tls));
    let mut webhook = Webhook::new(WebhookSettings {
        url: Secret::new(far_end.url("https")),
        secret: None,
        ca_file: Some(ca_file.clone()),
    });
    let out = webhook.deliver(&samples::opened(), NOW);
    assert!(matches!(out, Err(Failure::Transient { .. })), "{out:?}");
    std::fs::write(&ca_file, pem).unwrap();
    let out = webhook.deliver(&samples::opened(), NOW);
    assert_eq!(out, Ok("204".to_owned()));
}

#[test]
fn the_signature_is_that_of_standard_webhooks() {
    // The example of the Standard Webhooks specification's libraries.
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let body = br#"{"test": 2432232314}"#;
    let got = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
    assert_eq!(
        got,
        Ok("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=".to_owned())
    );

    let far_end = web(
        vec![Answer::Raw("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")],
        None,
    );
    let mut webhook = sender(&far_end);
    webhook.settings.secret = Some(Secret::new(secret));
    let now = Now {
        wall: at("2026-10-04T01:13:00Z"),
        boot_ms: 0,
    };
    webhook.deliver(&samples::opened(), now).unwrap();
    let heard = far_end.heard();
    assert_eq!(heard.headers["webhook-id"], "I-318/1/ops");
    let seconds = now.wall.as_second();
    assert_eq!(heard.headers["webhook-timestamp"], seconds.to_string());
    let want = signature(secret, "I-318/1/ops", seconds, heard.body.as_bytes()).unwrap();
    assert_eq!(heard.headers["webhook-signature"], want);
}

#[test]
fn secrets_that_sign_nothing_are_found() {
    for (secret, want) in [
        ("", false),
        ("whsec_", false),
        ("whsec_!", false),
        ("plain", true),
    ] {
        assert_eq!(signing_key(secret).is_some(), want, "{secret}");
    }
}

/// A document, to be compared field by field.
fn document(notification: &Notification) -> Value {
    serde_json::to_value(payload::payload(notification)).unwrap()
}

#[test]
fn the_document_has_the_fields_of_alertmanager_version_4() {
    let got = document(&samples::opened());
    let fields =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    // As Alertmanager 0.25 posts it, and ours.
    let mut want = vec![
        "alerts",
        "commonAnnotations",
        "commonLabels",
        "externalURL",
        "groupKey",
        "groupLabels",
        "receiver",
        "status",
        "truncatedAlerts",
        "version",
    ];
    want.push("dawnwatch");
    want.sort_unstable();
    let mut found = fields(&got);
    found.sort_unstable();
    assert_eq!(found, want);
    let mut alert = fields(&got["alerts"][0]);
    alert.sort_unstable();
    let mut want = vec![
        "annotations",
        "endsAt",
        "fingerprint",
        "generatorURL",
        "labels",
        "startsAt",
        "status",
    ];
    want.sort_unstable();
    assert_eq!(alert, want);
}

#[test]
fn the_document_of_an_opening() {
    let got = document(&samples::opened());
    for (pointer, want) in [
        ("/version", "4"),
        ("/status", "firing"),
        ("/receiver", "ops"),
        ("/groupKey", r#"{}:{incident="I-318"}"#),
        ("/alerts/0/status", "firing"),
        ("/alerts/0/labels/alertname", "silent"),
        ("/alerts/0/labels/severity", "critical"),
        ("/alerts/0/labels/host", "db02"),
        ("/alerts/0/labels/service", "billing"),
        ("/alerts/0/startsAt", "2026-10-04T01:12:08Z"),
        ("/alerts/0/endsAt", "0001-01-01T00:00:00Z"),
        ("/commonLabels/host", "db02"),
        ("/dawnwatch/key", "I-318/1/ops"),
        ("/dawnwatch/reason", "opened"),
        ("/dawnwatch/incident/id", "I-318"),
        ("/dawnwatch/context/zone", "Europe/Berlin"),
    ] {
        assert_eq!(got.pointer(pointer), Some(&Value::from(want)), "{pointer}");
    }
    assert_eq!(got["dawnwatch"]["context"]["hosts_fine"], 179);
}

#[test]
fn an_end_resolves_every_alert_under_the_fingerprint_it_fired_with() {
    let (opened, worse) = (document(&samples::opened()), document(&samples::worse()));
    let mut closed = samples::closed();
    samples::change(&mut closed, |content| {
        content.incident.alerts[0].state = "firing".to_owned();
        content.incident.alerts[0].until = None;
        content.incident.name = "renamed".to_owned();
    });
    let closed = document(&closed);
    assert_eq!(closed["status"], "resolved");
    assert_eq!(closed["alerts"][0]["status"], "resolved");
    assert_eq!(closed["alerts"][0]["endsAt"], "2026-10-04T01:41:10Z");
    let fingerprint = |document: &Value, i: usize| document["alerts"][i]["fingerprint"].clone();
    assert_eq!(fingerprint(&opened, 0), fingerprint(&closed, 0));
    assert_eq!(fingerprint(&opened, 0), fingerprint(&worse, 0));
    assert_ne!(fingerprint(&worse, 0), fingerprint(&worse, 1));
    assert_eq!(
        worse["commonLabels"].get("alertname"),
        None,
        "they differ in it"
    );
}

#[test]
fn reviews_tests_and_incidents_without_alerts_have_a_document_too() {
    let review = document(&samples::review());
    assert_eq!(
        review["alerts"][0]["labels"]["alertname"],
        "dawnwatch_review"
    );
    assert_eq!(review["dawnwatch"]["review"]["id"], "N-2026-10-05");
    let test = document(&samples::test());
    assert_eq!(test["alerts"][0]["labels"]["alertname"], "dawnwatch_test");
    let mut bare = samples::opened();
    samples::change(&mut bare, |content| {
        content.incident.alerts[0].state = "pending".to_owned()
    });
    let bare = document(&bare);
    assert_eq!(bare["alerts"].as_array().unwrap().len(), 1);
    assert_eq!(bare["alerts"][0]["labels"]["alertname"], "incident");
}
