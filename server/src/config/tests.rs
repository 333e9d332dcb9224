use dawnwatch_proto::review::Severity;

use super::*;
use crate::notify::{ChannelKind, Tls};

fn good(text: &str) -> Settings {
    match parse(text, "dawnwatch.toml", "Europe/Vienna") {
        Ok(settings) => settings,
        Err(mistakes) => panic!("{mistakes}"),
    }
}

/// All mistakes, as they are shown.
fn check(text: &str, want: &[&str]) {
    let shown = match parse(text, "d.toml", "UTC") {
        Ok(_) => String::new(),
        Err(mistakes) => mistakes.to_string(),
    };
    assert_eq!(shown.lines().collect::<Vec<_>>(), want, "of\n{text}");
}

#[test]
fn without_a_file_everything_has_a_default() {
    let settings = good("");
    assert_eq!(settings, Settings::defaults("Europe/Vienna"));
    assert_eq!(settings.engine.calendar.zone, "Europe/Vienna");
    assert!(!settings.engine.calendar.confirmed);
    assert_eq!(settings.listen.port(), 7443);
}

#[test]
fn the_example_is_valid_and_commented_out_it_is_the_default() {
    let example = include_str!("../../../deploy/dawnwatch.example.toml");
    let defaults = Settings::defaults("Europe/Vienna");
    assert_eq!(good(example), defaults, "as it stands it changes nothing");
    let set: String = example
        .lines()
        .map(|line| format!("{}\n", line.strip_prefix("#: ").unwrap_or(line)))
        .collect();
    let settings = good(&set);
    assert!(settings.engine.calendar.confirmed);
    assert_eq!(settings.engine.calendar.zone, "Europe/Berlin");
    assert_eq!(settings.engine.calendar.weekdays[4], [(480, 960)]);
    assert_eq!(settings.engine.calendar.holidays.len(), 2);
    assert_eq!(settings.channels.len(), 2);
    assert_eq!(
        settings.engine.facts("db02").service.as_deref(),
        Some("billing")
    );
}

#[test]
fn targets_are_checked() {
    let settings = good(
        r#"
        [server]
        pinger = "mon1"
        [[target]]
        name = "printer1"
        address = "192.0.2.9"
        [[target]]
        name = "branch2"
        address = "gw.branch2.example.org"
        from = "web*"
        tcp = 443
        severity = "critical"
        "#,
    );
    assert_eq!(settings.pinger.as_deref(), Some("mon1"));
    let [printer, branch] = &settings.engine.targets[..] else {
        panic!("{:?}", settings.engine.targets);
    };
    assert_eq!(
        (printer.severity, printer.tcp_port),
        (Severity::Warning, None)
    );
    assert_eq!(
        (branch.severity, branch.tcp_port),
        (Severity::Critical, Some(443))
    );
    assert_eq!(branch.from.as_deref(), Some("web*"));
    let text = "[[target]]\nname = \"a\"\naddress = \"http://x\"\n[[target]]\nname = \"a\"\naddress = \"x\"\nport = 1\n";
    let shown = parse(text, "d.toml", "UTC").unwrap_err().to_string();
    for part in [
        "d.toml:3:",
        "neither a host name nor an address",
        "a second target \"a\"",
        "unknown key \"port\"",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
}

#[test]
fn a_full_file() {
    let settings = good(
        r#"
        [server]
        listen = "127.0.0.1:7000"
        names = ["monitor.example.org", "192.0.2.7"]
        [calendar]
        zone = "europe/berlin"
        hours = "Mon-Fri 08:00-18:00"
        fri = "08:00-12:00, 13:00-16:00"
        holidays = ["2026-12-25", 2026-12-26, "2026-12-25"]
        seal_before = "90m"
        [rules.disk_full]
        bound = 0.9
        hold = "2m"
        [rules.silent]
        bound = "1m"
        severity = "warning"
        [rules.cpu_busy]
        enabled = false
        [[channel]]
        type = "webhook"
        name = "ops"
        url = "https://hooks.example.org/x"
        night = "info"
        [[channel]]
        type = "email"
        server = "smtp.example.org"
        tls = "wrapper"
        from = "dawnwatch@example.org"
        to = "ops@example.org"
        [[host]]
        match = "db*"
        importance = "high"
        "#,
    );
    let engine = &settings.engine;
    assert_eq!(settings.names, ["monitor.example.org", "192.0.2.7"]);
    assert_eq!(engine.calendar.zone, "Europe/Berlin");
    assert!(engine.calendar.confirmed);
    assert_eq!(engine.calendar.weekdays[0], [(480, 1080)]);
    assert_eq!(engine.calendar.weekdays[4], [(480, 720), (780, 960)]);
    assert_eq!(engine.calendar.holidays.len(), 2);
    assert_eq!(engine.calendar.seal_before_minutes, 90);
    let rule = |name: &str| engine.rules.iter().find(|rule| rule.name == name).unwrap();
    assert!((rule("disk_full").bound - 0.9).abs() < 1e-9);
    assert!(
        (rule("disk_full").clear - 0.88).abs() < 1e-9,
        "it moved along"
    );
    assert_eq!(rule("disk_full").hold_seconds, 120);
    assert!((rule("silent").bound - 60.0).abs() < 1e-9);
    assert!((rule("silent").clear - 60.0).abs() < 1e-9);
    assert_eq!(rule("silent").severity, Severity::Warning);
    assert!(!rule("cpu_busy").enabled);
    assert_eq!(engine.channels[0].night, Severity::Info);
    assert_eq!(engine.channels[0].day, Severity::Warning);
    assert_eq!(
        (engine.channels[0].reviews, engine.channels[1].reviews),
        (false, true)
    );
    let ChannelKind::Email(email) = &settings.channels[1].kind else {
        panic!("no mail");
    };
    assert_eq!((email.port, email.tls), (465, Tls::Wrapper));
    assert_eq!(settings.channels[1].name, "email");
}

#[test]
fn the_calendar_counts_as_confirmed_only_when_zone_and_hours_are_set() {
    for (text, want) in [
        ("zone = \"UTC\"", false),
        ("hours = \"Mon 08:00-09:00\"", false),
        ("zone = \"UTC\"\nsat = \"08:00-09:00\"", true),
        ("confirmed = true", true),
        (
            "zone = \"UTC\"\nhours = \"Mon 08:00-09:00\"\nconfirmed = false",
            false,
        ),
    ] {
        let settings = good(&format!("[calendar]\n{text}\n"));
        assert_eq!(settings.engine.calendar.confirmed, want, "{text}");
    }
}

#[test]
fn all_mistakes_at_once_with_line_and_suggestion() {
    check(
        r#"[calender]
[calendar]
zone = "Europe/Berln"
holydays = ["2026-12-25"]
mon = "08:00-12:00, 11:00-18:00"
tue = "8-18"
holidays = ["25.12.2026"]
seal_before = "1 hour"
holidays_ics = "x.ics"
[rules.disk_ful]
bound = 0.9
[rules.disk_full]
bound = 97
severity = "kritical"
hold = 5
"#,
        &[
            r#"d.toml:1: unknown key "calender"; did you mean "calendar"?"#,
            r#"d.toml:3: unknown time zone "Europe/Berln"; did you mean "Europe/Berlin"?"#,
            r#"d.toml:4: unknown key "holydays" in [calendar]; did you mean "holidays"?"#,
            r#"d.toml:5: working hours overlap: mon 08:00-12:00 and mon 11:00-18:00; join them into one span"#,
            r#"d.toml:6: tue: "8" is no time of day; write it like "08:00-12:00, 13:00-18:00" or "closed""#,
            r#"d.toml:7: holidays: "25.12.2026" is no date; write it like "2026-12-25""#,
            r#"d.toml:8: seal_before = "1 hour" is no length of time; write it like "90s", "2m" or "1h30m""#,
            r#"d.toml:9: holidays_ics is not supported by this version; list the dates: holidays = ["2026-12-25"]"#,
            r#"d.toml:10: unknown rule "disk_ful" in [rules]; did you mean "disk_full"?"#,
            "d.toml:13: bound = 97: a share above 0 and up to 1 is wanted; write it like 0.97",
            r#"d.toml:14: severity = "kritical" is unknown; did you mean "critical"?"#,
            r#"d.toml:15: "hold" must be text in quotes, not a TOML integer"#,
        ],
    );
}

#[test]
fn a_file_that_is_not_toml_is_told_with_its_line() {
    let mistakes = parse("[server]\nlisten = \n[calendar\n", "d.toml", "UTC").unwrap_err();
    let lines: Vec<_> = mistakes.list.iter().map(|mistake| mistake.line).collect();
    assert_eq!(
        lines,
        [2, 3],
        "what follows from a broken line is not told: {mistakes}"
    );
    assert!(
        mistakes.to_string().starts_with("d.toml:2: not TOML: "),
        "{mistakes}"
    );
}

#[test]
fn channels() {
    check(
        r#"[[channel]]
type = "webhok"
[[channel]]
type = "webhook"
name = "a"
url = "ftp://x/"
sercet = "x"
[[channel]]
type = "webhook"
name = "b c"
url = "https://x/"
[[channel]]
type = "webhook"
url = "https://x/"
secret = "whsec_?"
[[channel]]
type = "webhook"
url = "https://y/"
[[channel]]
name = "m"
type = "email"
tls = "none"
server = "smtp.example.org"
port = 0
user = "u"
from = "nobody"
to = []
night = "crit"
"#,
        &[
            r#"d.toml:2: type = "webhok" is unknown; did you mean "webhook"?"#,
            r#"d.toml:6: url is no address to post to: it must begin with https:// or http://; write it like "https://hooks.example.org/x""#,
            r#"d.toml:7: unknown key "sercet" in [[channel]]; did you mean "secret"?"#,
            r#"d.toml:10: "b c" is no name for a channel; 1 to 32 letters, digits, "-", "_" or ".""#,
            "d.toml:15: the secret is empty, or not base64 after whsec_",
            r#"d.toml:16: a channel named "webhook" is there already; give each channel its own name"#,
            r#"d.toml:22: tls = "none" is possible only to this machine; use "starttls" or "wrapper"; ca_file trusts your own CA"#,
            r#"d.toml:24: "port" must be a number from 1 to 65535, without quotes"#,
            "d.toml:25: user without password_file; set password_file to a file that holds only the password",
            r#"d.toml:26: from: "nobody" is no mail address; write it like "ops@example.org" or "Ops <ops@example.org>""#,
            "d.toml:27: to must name 1 to 50 addresses",
            r#"d.toml:28: night = "crit" is unknown; did you mean "critical"?"#,
        ],
    );
}

#[test]
fn rules_about_the_server_are_set_as_all_others() {
    let settings = good(
        r#"
        [rules.journal_slow]
        bound = "5s"
        hold = "2m"
        [rules.outbox_old]
        enabled = false
        [rules.server_disk]
        bound = 0.8
        severity = "critical"
        "#,
    );
    let rules = &settings.engine.rules;
    let rule = |name: &str| rules.iter().find(|rule| rule.name == name).unwrap();
    let slow = rule("journal_slow");
    assert!((slow.bound - 5.0).abs() < 1e-9 && slow.hold_seconds == 120);
    assert!(!rule("outbox_old").enabled);
    let disk = rule("server_disk");
    assert!((disk.bound - 0.8).abs() < 1e-9 && (disk.clear - 0.79).abs() < 1e-9);
    assert_eq!(disk.severity, Severity::Critical);
    check(
        r#"[rules.journal_slow]
bound = "2h"
clear = 1
[rules.outbox_old]
bound = "10s"
[rules.server_disk]
bound = 90
[rules.server_restarting]
bound = 0
"#,
        &[
            r#"d.toml:2: bound = 7200: 1s to 1h are possible; the default is "2s""#,
            r#"d.toml:3: [rules.journal_slow] has no "clear": it clears by itself; leave it out"#,
            r#"d.toml:5: bound = 10: 1m to 24h are possible; the default is "15m""#,
            "d.toml:7: bound = 90: a share above 0 and up to 1 is wanted; write it like 0.9",
            "d.toml:9: bound = 0: a count from 1 to 1000 is wanted; write it like 5",
        ],
    );
}

#[test]
fn bounds_and_hours_that_make_no_sense() {
    check(
        r#"[calendar]
hours = "Mon 08:00-18:00"
mon = "closed"
[rules.silent]
bound = "5s"
clear = 3
[rules.disk_readonly]
bound = 0.5
[rules.swap_high]
bound = 0.5
clear = 0.6
hold = "2d"
[[host]]
service = "x"
[[host]]
match = ""
importance = "hihg"
"#,
        &[
            "d.toml:2: no working hours on any day, so no night would ever end; set at least one span",
            r#"d.toml:5: bound = 5: 20s to 24h are possible; the default is "30s""#,
            r#"d.toml:6: [rules.silent] has no "clear": it clears by itself; leave it out"#,
            "d.toml:8: bound = 0.5: this rule knows only yes and no; leave it out; enabled = false turns the rule off",
            "d.toml:11: clear = 0.6 must lie between 0 and bound = 0.5",
            "d.toml:12: hold must be at most 24h",
            r#"d.toml:13: "match" is missing in [[host]]; set a glob over host names, like match = "db*""#,
            r#"d.toml:16: match = "" matches no host; write "*" for every host"#,
            r#"d.toml:17: importance = "hihg" is unknown; did you mean "high"?"#,
        ],
    );
}

#[test]
fn hostile_text_in_a_mistake_is_inert() {
    let mistakes = parse("[server]\n\"a\\u001b[2J\" = 1\n", "d.toml", "UTC").unwrap_err();
    assert!(!mistakes.to_string().contains('\x1b'), "{mistakes}");
}

#[test]
fn values_of_the_wrong_kind_are_named() {
    check(
        "server = 1\nchannel = \"x\"\n[calendar]\nzone = 5\nconfirmed = \"yes\"\n[rules]\nsilent = 5\n",
        &[
            r#"d.toml:1: "server" must be a section [server], not a TOML integer"#,
            r#"d.toml:2: "channel" must be sections [[channel]], with two brackets, not a TOML string"#,
            r#"d.toml:4: "zone" must be text in quotes, not a TOML integer"#,
            r#"d.toml:5: "confirmed" must be true or false, without quotes, not a TOML string"#,
            r#"d.toml:7: "silent" must be a section [rules.silent], not a TOML integer"#,
        ],
    );
}

proptest::proptest! {
    #[test]
    fn no_text_breaks_the_reader(text in "\\PC{0,200}") {
        let _ = parse(&text, "d.toml", "UTC");
    }

    #[test]
    fn no_value_breaks_the_calendar(key in "zone|hours|mon|sun|holidays|seal_before", value in "[0-9:a-zA-Z, -]{0,30}") {
        let _ = parse(&format!("[calendar]\n{key} = \"{value}\"\n"), "d.toml", "UTC");
    }
}
