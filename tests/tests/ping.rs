//! Pings over real links between namespaces: what gets lost is measured, and what is wrong is told of what it is.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so and ends"
)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use dawnwatch_proto::api::{Incident, Link};
use dawnwatch_proto::review::Severity;
use dawnwatch_tests::house::{Agent, Launch, Server, ServerOptions};
use dawnwatch_tests::needs::{Need, are_met};
use dawnwatch_tests::netns::{Lan, dropped, drops, drops_nothing, exec, inside};
use dawnwatch_tests::wait::{until, until_true};

/// Ticks of a second and five pings in each: what takes two minutes at the usual pace takes twelve seconds.
const PACE: &str = "ping_ms = 200\n[logs]\njournald = false\nfiles = []";

/// Longest wait for anything; machines that build beside their tests are slow.
const WITHIN: Duration = Duration::from_secs(120);

fn server(dir: &Path, lan: &Lan, config: &str) -> Server {
    let data = dir.join("server");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("dawnwatch.toml"), config).unwrap();
    let options = ServerOptions {
        listen: Some(lan.listen()),
        ..ServerOptions::default()
    };
    Server::start(&data, &options)
}

/// Joins an agent whose process runs in a namespace, by these words before it.
fn agent(dir: &Path, name: &str, server: &Server, through: Vec<String>) -> Agent {
    let line = server.token(1).join;
    let launch = Launch {
        through,
        env: Vec::new(),
    };
    let agent = Agent::join_by(&dir.join(name), name, server.address, &line, launch);
    agent.configure(1_000, PACE);
    agent
}

fn link(server: &Server, from: &str, to: &str) -> Option<Link> {
    let links: Vec<Link> = server.get("/api/v1/net").expect("the ways");
    links.into_iter().find(|l| l.from == from && l.to == to)
}

fn incident(server: &Server, rule: &str, about: &str) -> Option<Incident> {
    let all: Vec<Incident> = server.get("/api/v1/incidents").expect("the incidents");
    all.into_iter()
        .find(|i| i.name.contains(about) && i.alerts.iter().any(|a| a.rule == rule))
}

#[test]
fn a_loss_is_measured_and_an_outage_is_told() {
    if !are_met(&[Need::Namespaces, Need::Nft]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut lan = Lan::new(0);
    lan.address(9);
    let printer = lan.at(9);
    let space = lan.host(2);
    let config = format!(
        "[server]\npinger = \"edge\"\n[[target]]\nname = \"printer1\"\naddress = \"{printer}\"\nseverity = \"critical\"\n"
    );
    let server = server(dir.path(), &lan, &config);
    let mut edge = agent(dir.path(), "edge", &server, inside(&space));
    edge.start();
    let gateway = lan.at(1).to_string();
    for (to, role) in [("printer1", "target"), (gateway.as_str(), "gateway")] {
        until_true(&format!("an answer of {to}"), WITHIN, || {
            link(&server, "edge", to).is_some_and(|l| {
                l.state == "up" && l.role.word() == role && l.rtt_seconds.is_some() && l.sent >= 20
            })
        });
    }
    let healthy = link(&server, "edge", "printer1").unwrap();
    assert!(healthy.lost * 20 <= healthy.sent, "{healthy:?}");
    assert!(incident(&server, "ping_loss", "printer1").is_none());

    drops(&space, printer, "numgen random mod 100 < 30");
    until_true("the loss to be told", WITHIN, || {
        incident(&server, "ping_loss", "printer1").is_some()
    });
    // Until all probes of the window are of the lossy time.
    until_true("a window of loss", WITHIN, || dropped(&space).0 >= 80);
    let lossy = until("a count of the loss", WITHIN, || {
        link(&server, "edge", "printer1").filter(|l| l.state == "lossy" && l.sent >= 50)
    });
    let (sent, lost) = dropped(&space);
    assert!(lost >= 10, "the fault happened: {lost} of {sent} dropped");
    let share = |lost: u64, sent: u64| f64::from(u32::try_from(lost * 100 / sent).unwrap()) / 100.0;
    let (measured, true_share) = (share(lossy.lost, lossy.sent), share(lost, sent));
    assert!(
        (measured - true_share).abs() <= 0.2 && measured > 0.08,
        "measured {measured}, dropped {true_share}"
    );

    drops(&space, printer, "");
    // Three losses in a row may have been an outage before: this one goes on.
    let told = until("the outage to be told", WITHIN, || {
        let down = link(&server, "edge", "printer1").is_some_and(|l| l.state == "down");
        let told = incident(&server, "target_down", "printer1")?;
        let fires =
            |a: &dawnwatch_proto::api::Alert| a.rule == "target_down" && a.state == "firing";
        (down && told.alerts.iter().any(fires)).then_some(told)
    });
    assert!(dropped(&space).1 >= 3, "the fault happened");
    assert_eq!(told.severity, Severity::Critical, "{told:?}");
    assert_eq!(
        told.name, "printer1",
        "asked by one alone, it is the target"
    );
    let shown = server.command(&["net"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains("printer1") && shown.contains("down"),
        "{shown}"
    );

    drops_nothing(&space);
    until_true("the outage to end", WITHIN, || {
        let told = incident(&server, "target_down", "printer1").expect("it stays known");
        let alert = told.alerts.iter().find(|a| a.rule == "target_down");
        alert.is_some_and(|a| a.state == "resolved")
    });
}

#[test]
fn it_says_by_what_it_pings() {
    if !are_met(&[Need::Namespaces]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut lan = Lan::new(1);
    let server = server(dir.path(), &lan, "");
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    for (host, range, user, want) in [
        (2, "1 0", &[][..], "ICMP, raw socket"),
        (3, "1 0", &nobody[..], "TCP connect"),
        (4, "0 2147483647", &nobody[..], "ICMP, datagram socket"),
    ] {
        let space = lan.host(host);
        exec(
            &space,
            &[
                "sysctl",
                "-q",
                "-w",
                &format!("net.ipv4.ping_group_range={range}"),
            ],
        );
        let mut through = inside(&space);
        through.extend(user.iter().map(|word| (*word).to_owned()));
        let name = format!("h{host}");
        let mut agent = agent(dir.path(), &name, &server, through);
        if !user.is_empty() {
            hand_over(dir.path(), &agent.state);
        }
        agent.start();
        let gateway = lan.at(1).to_string();
        let found = until(&format!("{name} to ping by {want}"), WITHIN, || {
            link(&server, &name, &gateway).filter(|l| l.role.word() == "gateway" && l.state == "up")
        });
        assert_eq!(found.method, want, "{}", agent.log());
        let told = agent.log().contains("no permission to ping");
        assert_eq!(told, want == "TCP connect", "{}", agent.log());
    }
}

/// Gives an agent's files to the user that it runs as.
fn hand_over(dir: &Path, state: &Path) {
    let nobody = Some(65_534);
    let mut left = vec![state.to_owned()];
    for further in ["agent.toml", "agent.log"] {
        let path = state.with_extension(further);
        if path.exists() {
            std::os::unix::fs::chown(&path, nobody, nobody).unwrap();
        }
    }
    while let Some(path) = left.pop() {
        std::os::unix::fs::chown(&path, nobody, nobody).unwrap();
        if path.is_dir() {
            left.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
    }
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(dir, open).unwrap();
}

#[test]
fn an_agent_that_died_is_no_dead_host() {
    if !are_met(&[Need::Namespaces]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut lan = Lan::new(2);
    let (first, second) = (lan.host(2), lan.host(3));
    let server = server(dir.path(), &lan, "[server]\npinger = \"edge\"\n");
    let mut edge = agent(dir.path(), "edge", &server, inside(&first));
    let mut web = agent(dir.path(), "web04", &server, inside(&second));
    edge.start();
    web.start();
    for name in ["edge", "web04"] {
        until_true(&format!("{name} to report"), WITHIN, || {
            link(&server, name, &lan.at(1).to_string()).is_some_and(|l| l.state == "up")
        });
    }
    web.kill();
    let told = until("word of the silence", WITHIN, || {
        incident(&server, "silent", "web04")
            .filter(|i| i.what.starts_with("monitoring lost, host works"))
    });
    assert_eq!(told.severity, Severity::Warning, "{told:?}");
    assert!(told.what.contains("ping answers edge"), "{told:?}");

    // Then the host goes too: nobody gets an answer any more, and nothing says that it works.
    exec(&second, &["ip", "link", "set", "eth0", "down"]);
    let told = until("word of the host", WITHIN, || {
        incident(&server, "silent", "web04").filter(|i| !i.what.starts_with("monitoring lost"))
    });
    assert_eq!(told.severity, Severity::Critical, "{told:?}");
}
