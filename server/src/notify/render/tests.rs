use dawnwatch_engine::effect::Reason;

use super::*;

fn check(notification: &Notification, subject: &str, body: &str) {
    let got = text(notification);
    assert_eq!(got.subject, subject);
    assert_eq!(got.body, body.strip_prefix('\n').unwrap_or(body));
}

#[test]
fn opened() {
    check(
        &samples::opened(),
        "db02 (billing) OFF OR HUNG since 03:12 - CRITICAL I-318",
        "
db02 (billing), off or hung, since Sun 4 Oct 03:12:08 CEST (message of
03:12:44).
WHY      last heard Sun 4 Oct 03:12:08, no goodbye; last CPU 12 %,
         memory 61 %
HIT      179 of 180 hosts fine.
BEFORE   12 Aug I-201
TOLD     ops, mail.
DO       take it: dawnwatch ack I-318; more: dawnwatch why I-318
",
    );
}

#[test]
fn reminder() {
    let got = text(&samples::reminder());
    assert_eq!(
        got.subject,
        "db02 (billing) OFF OR HUNG since 03:12 - NOBODY TOOK IT, CRITICAL I-318"
    );
}

#[test]
fn worse_and_on_another_day() {
    check(
        &samples::worse(),
        "db02 (billing) SILENT since Sun 03:12 - WORSE, CRITICAL I-318: volume /data full, off or hung",
        "
db02 (billing), volume /data full, off or hung, since Sun 4 Oct 03:12:08
CEST (message of 00:30:00).
WHY      last heard Sun 4 Oct 03:12:08, no goodbye; last CPU 12 %,
         memory 61 %
         volume /data 97.2 % full, bound 95 %, for 1 min
HIT      179 of 180 hosts fine.
BEFORE   12 Aug I-201
TAKEN    by A. Ruiz, Sun 4 Oct 03:20:00 CEST
TOLD     ops, mail.
DO       take it: dawnwatch ack I-318; more: dawnwatch why I-318
",
    );
}

#[test]
fn the_time_is_that_of_the_words() {
    check(
        &samples::turned(),
        "db02 (billing) DISK FULL since 03:11 - CRITICAL I-318: /data 95 % full",
        "
db02 (billing), /data 95 % full, since Sun 4 Oct 03:11:44 CEST; filling
since Sat 3 Oct 03:20:00 CEST (message of 03:12:44).
WHY      /data 95 % full for 1 m (bound 95 %), 89.9 GiB free of 1.8 TiB
HIT      179 of 180 hosts fine.
LAST     03:11:52 CPU 12 %, memory 61 %
BEFORE   12 Aug I-201
TOLD     ops, mail.
DO       take it: dawnwatch ack I-318; more: dawnwatch why I-318
",
    );
}

#[test]
fn closed() {
    check(
        &samples::closed(),
        "db02 (billing) BACK 03:41 after 29 m - I-318: power loss",
        "
db02 (billing): over at Sun 4 Oct 03:41:10 CEST, after 29 m (since
03:12:08). It was silent.
WHY      last heard Sun 4 Oct 03:12:08, no goodbye; last CPU 12 %,
         memory 61 %
CAUSE    power loss
HIT      180 of 180 hosts fine.
BEFORE   12 Aug I-201
TOLD     ops, mail.
SEE      dawnwatch show I-318
",
    );
}

#[test]
fn a_test_says_that_nothing_is_wrong() {
    check(
        &samples::test(),
        "dawnwatch test: channel ops works",
        "
This is a test of channel ops. Nothing is wrong.

Asked for at 2026-10-04T01:12:44Z.
",
    );
}

#[test]
fn a_review_is_told_by_its_verdict() {
    let got = text(&samples::review());
    assert_eq!(
        got.subject,
        "Night N-2026-10-05: QUIET - Everything worked and nothing needs you."
    );
    assert!(
        got.body.contains("Everything worked and nothing needs"),
        "{}",
        got.body
    );
    let widest = got.body.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(BODY_COLUMNS), "{}", got.body);
    let mut blind = samples::review();
    if let Content::Review(review) = &mut blind.content {
        review.verdict = Verdict::Critical;
        review.blind = true;
    }
    assert!(
        text(&blind)
            .subject
            .starts_with("Night N-2026-10-05: CRITICAL, BLIND - ")
    );
}

#[test]
fn nothing_breaks_the_bounds_of_lines() {
    let reasons = [
        Reason::Opened,
        Reason::Worse,
        Reason::Closed,
        Reason::Reminder,
    ];
    for base in [
        samples::opened(),
        samples::worse(),
        samples::closed(),
        samples::hostile(),
    ] {
        for reason in reasons {
            let mut notification = base.clone();
            notification.reason = reason;
            let got = text(&notification);
            assert!(
                got.subject.chars().count() <= SUBJECT_CHARS_MAX,
                "{}",
                got.subject
            );
            assert!(
                got.short.chars().count() <= SHORT_CHARS_MAX,
                "{}",
                got.short
            );
            for line in got.body.lines() {
                assert!(line.chars().count() <= BODY_COLUMNS, "{line}");
            }
            let plain = |c: char| c == '\n' || !c.is_control();
            assert!(got.body.chars().all(plain) && !got.subject.contains(char::is_control));
            assert!(!format!("{got:?}").contains('\u{202e}'));
        }
    }
}

#[test]
fn the_first_forty_characters_carry_the_time() {
    let long = "a-very-long-host-name-of-a-virtual-machine-17.example.org";
    for (name, service, what, want) in [
        ("db02", None, "off or hung", "db02 OFF OR HUNG since 03:12"),
        (
            "db02",
            Some("billing"),
            "volume /data full",
            "db02 (billing) SILENT since 03:12",
        ),
        (
            long,
            None,
            "off or hung",
            "a-very-long-host-nam… SILENT since 03:12",
        ),
        (
            long,
            Some("payroll of the whole group"),
            "off",
            "a-very-long-… (payroll…) OFF since 03:12",
        ),
    ] {
        let mut notification = samples::opened();
        samples::change(&mut notification, |content| {
            content.incident.name = name.to_owned();
            content.incident.service = service.map(str::to_owned);
            content.incident.what = what.to_owned();
        });
        let subject = text(&notification).subject;
        assert!(subject.starts_with(want), "{subject}");
        assert!(want.chars().count() <= 40, "{want}");
    }
}

proptest::proptest! {
    #[test]
    fn the_time_is_within_the_first_forty_whatever_the_names(
        name in "\\PC{1,60}",
        service in proptest::option::of("\\PC{1,60}"),
        what in "\\PC{0,60}",
        closed in proptest::bool::ANY,
    ) {
        let mut notification = if closed { samples::closed() } else { samples::opened() };
        samples::change(&mut notification, |content| {
            content.incident.name = name;
            content.incident.service = service;
            content.incident.what = what;
        });
        let head: String = text(&notification).subject.chars().take(40).collect();
        let time = if closed { " 03:41" } else { " since 03:12" };
        proptest::prop_assert!(head.contains(time), "{}", head);
    }
}

#[test]
fn wrapping() {
    assert_eq!(wrap("", "a b"), "a b\n");
    assert_eq!(wrap("WHY", "a\nb"), "WHY      a\\u{a}b\n");
    let long = "x".repeat(100);
    let want = format!("WHY      {}\n         {}\n", "x".repeat(63), "x".repeat(37));
    assert_eq!(wrap("WHY", &long), want);
}

#[test]
fn clipping_counts_characters() {
    for (text, max, want) in [
        ("äöü", 3, "äöü"),
        ("äöüß", 3, "äö…"),
        ("a bcd", 3, "a…"),
        ("", 0, ""),
    ] {
        assert_eq!(clip(text, max), want);
    }
}
