use std::path::Path;

use jiff::Timestamp;

use super::*;
use crate::notify::receiver::{FarEnd, identity, post_office, starttls_office};
use crate::notify::render::samples;

const NOW: Now = Now {
    wall: Timestamp::UNIX_EPOCH,
    boot_ms: 0,
};

fn settings(far_end: &FarEnd) -> EmailSettings {
    EmailSettings {
        server: "localhost".to_owned(),
        port: far_end.addr.port(),
        tls: Tls::None,
        login: None,
        from: "dawnwatch <dawnwatch@example.org>".parse().unwrap(),
        to: vec!["Ops <ops@example.org>".parse().unwrap()],
        ca_file: None,
    }
}

/// The recipients of a connection's mails.
fn recipients(commands: &[String]) -> Vec<&str> {
    commands
        .iter()
        .filter_map(|command| command.strip_prefix("RCPT TO:"))
        .collect()
}

fn header<'a>(mail: &'a str, name: &str) -> Option<&'a str> {
    let head = mail.split("\r\n\r\n").next()?;
    head.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[test]
fn a_mail_arrives_with_its_headers_and_its_text() {
    let far_end = post_office(vec![Vec::new()], None);
    let out = Email::new(settings(&far_end)).deliver(&samples::opened(), NOW);
    assert_eq!(out, Ok("250 2.0.0 queued as 4711".to_owned()));
    let heard = far_end.heard();
    let mail = &heard.body;
    for (name, want) in [
        ("From", "dawnwatch <dawnwatch@example.org>"),
        ("To", "Ops <ops@example.org>"),
        (
            "Subject",
            "db02 (billing) OFF OR HUNG since 03:12 - CRITICAL I-318",
        ),
        ("Date", "Sun, 04 Oct 2026 01:12:44 +0000"),
        ("Auto-Submitted", "auto-generated"),
        ("Content-Type", "text/plain; charset=utf-8"),
    ] {
        assert_eq!(header(mail, name), Some(want), "{mail}");
    }
    assert!(mail.contains("\r\nWHY      last heard"), "{mail}");
    assert_eq!(recipients(&heard.commands), ["<ops@example.org>"]);
    assert!(
        heard
            .commands
            .iter()
            .all(|command| !command.starts_with("AUTH"))
    );
}

#[test]
fn one_incident_is_one_thread_and_every_message_keeps_its_id() {
    let far_end = post_office(Vec::new(), None);
    let settings = settings(&far_end);
    let of = |notification: &Notification, name: &str| {
        let mail = mail(&settings, notification).unwrap().formatted();
        header(std::str::from_utf8(&mail).unwrap(), name).map(str::to_owned)
    };
    let (opened, closed) = (samples::opened(), samples::closed());
    assert_eq!(of(&opened, "Message-ID"), of(&opened, "Message-ID"));
    assert_ne!(of(&opened, "Message-ID"), of(&closed, "Message-ID"));
    assert_eq!(of(&opened, "References"), of(&closed, "References"));
    assert_eq!(of(&closed, "References"), of(&closed, "In-Reply-To"));
    assert!(of(&opened, "References").is_some());
    assert_eq!(of(&samples::review(), "References"), None);
    let mut other = samples::opened();
    samples::change(&mut other, |content| {
        content.incident.id = "I-319".to_owned()
    });
    assert_ne!(of(&opened, "References"), of(&other, "References"));
}

#[test]
fn answers_have_their_meaning() {
    let greylist = |why: &str| Failure::Transient {
        why: why.to_owned(),
        again: Again::Greylist,
    };
    for (odd, want) in [
        (
            ("RCPT", "451 4.7.1 come back later"),
            greylist("transient error (451): 4.7.1 come back later"),
        ),
        (
            ("MAIL", "421 4.3.2 closing"),
            Failure::transient("transient error (421): 4.3.2 closing"),
        ),
        (
            ("RCPT", "550 5.1.1 who?"),
            Failure::permanent("ops@example.org: permanent error (550): 5.1.1 who?; 0 of 1 got it"),
        ),
        (
            (".", "554 5.6.0 no"),
            Failure::permanent("ops@example.org: permanent error (554): 5.6.0 no; 0 of 1 got it"),
        ),
    ] {
        let far_end = post_office(vec![vec![odd]], None);
        let out = Email::new(settings(&far_end)).deliver(&samples::opened(), NOW);
        assert_eq!(out, Err(want), "{odd:?}");
    }
}

#[test]
fn a_mail_without_an_answer_is_sent_again_with_the_same_id() {
    let far_end = post_office(vec![vec![(".", "")], Vec::new()], None);
    let mut email = Email::new(settings(&far_end));
    email.word = Duration::from_millis(500);
    let first = email.deliver(&samples::opened(), NOW);
    assert!(
        matches!(
            &first,
            Err(Failure::Transient {
                again: Again::Backoff,
                ..
            })
        ),
        "after DATA nobody knows: {first:?}"
    );
    email.deliver(&samples::opened(), NOW).unwrap();
    let (first, second) = (far_end.heard().body, far_end.heard().body);
    assert_eq!(first, second, "the same bytes, Message-ID included");
    assert!(
        header(&first, "Message-ID")
            .unwrap()
            .starts_with("<dawnwatch.")
    );
}

#[test]
fn a_dead_address_costs_nobody_else_the_mail_and_nobody_gets_it_twice() {
    let script = vec![
        vec![("RCPT TO:<b@", "451 later"), ("RCPT TO:<c@", "550 who?")],
        vec![("RCPT TO:<c@", "550 who?")],
        Vec::new(),
        Vec::new(),
    ];
    let far_end = post_office(script, None);
    let mut settings = settings(&far_end);
    settings.to = ["a@x.org", "b@x.org", "c@x.org", "d@x.org"]
        .map(|to| to.parse().unwrap())
        .into();
    let mut email = Email::new(settings);
    let first = email.deliver(&samples::opened(), NOW);
    assert!(
        matches!(first, Err(Failure::Transient { .. })),
        "b is still to come: {first:?}"
    );
    let second = email.deliver(&samples::opened(), NOW);
    let why = "c@x.org: permanent error (550): who?; 3 of 4 got it";
    assert_eq!(second, Err(Failure::permanent(why)));
    let heard: Vec<_> = (0..4).map(|_| far_end.heard()).collect();
    let asked: Vec<_> = heard
        .iter()
        .map(|heard| recipients(&heard.commands))
        .collect();
    assert_eq!(
        asked,
        [
            vec!["<a@x.org>", "<b@x.org>"],
            vec!["<c@x.org>"],
            vec!["<d@x.org>"],
            vec!["<b@x.org>"]
        ]
    );
    assert!(
        email.handed_over.is_empty(),
        "an ended message is forgotten"
    );
}

#[test]
fn without_starttls_nothing_is_said() {
    let far_end = post_office(vec![Vec::new()], None);
    let mut settings = settings(&far_end);
    settings.tls = Tls::Starttls;
    let (ca, _) = identity();
    let dir = tempfile::tempdir().unwrap();
    settings.ca_file = Some(write(dir.path(), "ca.pem", &ca));
    settings.login = Some(("u".to_owned(), write(dir.path(), "pw", "secret\n")));
    let out = Email::new(settings).deliver(&samples::opened(), NOW);
    assert!(matches!(out, Err(Failure::Transient { .. })), "{out:?}");
    let heard = far_end.heard();
    let said: Vec<&str> = heard
        .commands
        .iter()
        .map(|c| c.split(' ').next().unwrap())
        .collect();
    assert!(
        said.iter().all(|verb| ["EHLO", "QUIT"].contains(verb)),
        "{said:?}"
    );
}

#[test]
fn after_starttls_login_and_mail_are_encrypted() {
    let (ca, tls) = identity();
    let far_end = starttls_office(tls);
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(&far_end);
    settings.tls = Tls::Starttls;
    settings.ca_file = Some(write(dir.path(), "ca.pem", &ca));
    settings.login = Some(("user".to_owned(), write(dir.path(), "pw", "pass\n")));
    Email::new(settings)
        .deliver(&samples::opened(), NOW)
        .unwrap();
    let heard = far_end.heard();
    let verbs: Vec<&str> = heard
        .commands
        .iter()
        .map(|c| c.split(' ').next().unwrap())
        .collect();
    let want = [
        "EHLO", "STARTTLS", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", ".", "QUIT",
    ];
    assert_eq!(verbs, want);
    assert!(heard.body.contains("db02"), "{}", heard.body);
}

#[test]
fn tls_from_the_first_byte_with_login_and_a_private_ca() {
    let (ca, tls) = identity();
    let far_end = post_office(vec![Vec::new()], Some(tls));
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(&far_end);
    settings.tls = Tls::Wrapper;
    settings.ca_file = Some(write(dir.path(), "ca.pem", &ca));
    settings.login = Some(("user".to_owned(), write(dir.path(), "pw", "pass word\n")));
    Email::new(settings)
        .deliver(&samples::opened(), NOW)
        .unwrap();
    let heard = far_end.heard();
    let login = data_encoding::BASE64.encode(b"\0user\0pass word");
    assert!(
        heard.commands.contains(&format!("AUTH PLAIN {login}")),
        "{:?}",
        heard.commands
    );
}

#[test]
fn without_tls_nothing_leaves_this_machine() {
    let far_end = post_office(Vec::new(), None);
    let mut settings = settings(&far_end);
    settings.server = "192.0.2.1".to_owned();
    let out = Email::new(settings).deliver(&samples::opened(), NOW);
    assert_eq!(
        out,
        Err(Failure::permanent("192.0.2.1 is not this machine: set tls"))
    );
}

#[test]
fn a_missing_password_file_is_named() {
    let far_end = post_office(vec![Vec::new()], None);
    let mut settings = settings(&far_end);
    settings.login = Some(("u".to_owned(), PathBuf::from("/nonexistent/pw")));
    let out = Email::new(settings).deliver(&samples::opened(), NOW);
    assert!(matches!(out, Err(Failure::Transient { why, .. }) if why.contains("/nonexistent/pw")));
}

#[test]
fn hostile_names_add_no_header_and_no_recipient() {
    let far_end = post_office(vec![Vec::new(), Vec::new()], None);
    let mut email = Email::new(settings(&far_end));
    email.deliver(&samples::opened(), NOW).unwrap();
    email.deliver(&samples::hostile(), NOW).unwrap();
    let names = |mail: &str| -> Vec<String> {
        let head = mail.split("\r\n\r\n").next().unwrap();
        let own = head.lines().filter(|line| !line.starts_with(' '));
        own.map(|line| line.split(':').next().unwrap().to_owned())
            .collect()
    };
    let (plain, hostile) = (far_end.heard(), far_end.heard());
    let mut want = names(&plain.body);
    want.sort_unstable();
    let mut got = names(&hostile.body);
    got.sort_unstable();
    assert_eq!(got, want);
    assert_eq!(recipients(&hostile.commands), ["<ops@example.org>"]);
    assert!(!hostile.body.contains('\x1b'), "{}", hostile.body);
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}
