//! systemd's units, from the message bus to an incident: a fake bus, the agent's own client, real processes.

use std::time::Duration;

use dawnwatch_agent::collect::{Collectors, Roots};
use dawnwatch_proto::api::Incident;
use dawnwatch_tests::bus::Bus;
use dawnwatch_tests::dbus::DbusDaemon;
use dawnwatch_tests::house::{Agent, Server, ServerOptions};
use dawnwatch_tests::needs::{Need, are_met};
use dawnwatch_tests::wait::until;

/// Waiting for what comes within a few looks and holding times.
const SOON: Duration = Duration::from_secs(60);

/// Forty times the usual pace: a look at units every second and a half.
const TICK_MS: u64 = 250;

const SETTINGS: &str = "[rules.unit_failed]\nhold = \"1s\"\nclear_hold = \"1s\"\n";

/// What the next tick says of units, as `name{labels} value`.
fn shown(collectors: &mut Collectors) -> Vec<String> {
    let reading = collectors.read();
    let all = reading.schema.series().iter().zip(&reading.row);
    let units = all.filter(|(one, _)| {
        let name = one.name.as_str();
        name == "node_systemd_unit_state" || name == "dawnwatch_unit_restarts_total"
    });
    units.map(|(one, raw)| format!("{one} {raw}")).collect()
}

#[test]
fn a_unit_gets_its_columns_when_it_fails_or_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let bus = dir.path().join("bus");
    let roots = Roots {
        bus: bus.clone(),
        ..Roots::default()
    };
    let mut collectors = Collectors::new(roots);
    let mut looks = collectors.looks();
    looks.look();
    let none: [String; 0] = [];
    assert_eq!(shown(&mut collectors), none, "a host without systemd");
    assert!(
        collectors
            .read()
            .troubles
            .iter()
            .all(|(s, _)| s != "systemd")
    );

    let bus = Bus::start(&bus);
    for i in 0..100 {
        bus.set(&format!("calm{i}.service"), "active", 0);
    }
    bus.set("a.service", "active", 3);
    bus.set("b.mount", "active", 0);
    looks.look();
    let restarts = "dawnwatch_unit_restarts_total{unit=\"a.service\"}";
    let state = |name: &str| format!("node_systemd_unit_state{{name=\"{name}\",state=\"failed\"}}");
    let first = [format!("{} 0", state("a.service")), format!("{restarts} 3")];
    assert_eq!(shown(&mut collectors), first);

    bus.set("a.service", "activating", 9);
    bus.set("b.mount", "failed", 0);
    looks.look();
    let second = [
        format!("{} 0", state("a.service")),
        format!("{restarts} 9"),
        format!("{} 1", state("b.mount")),
    ];
    assert_eq!(shown(&mut collectors), second);

    // Quick restarts of a service that is active at every look: it is asked in turn, and what it had before comes first.
    // By now all were asked once.
    for _ in 0..5 {
        looks.look();
    }
    bus.set("calm77.service", "active", 8);
    let quick = "dawnwatch_unit_restarts_total{unit=\"calm77.service\"}";
    let value = |collectors: &mut Collectors| {
        let all = shown(collectors);
        all.iter()
            .find_map(|line| line.strip_prefix(quick).map(str::to_owned))
    };
    let found = (0..5).find_map(|_| {
        looks.look();
        value(&mut collectors)
    });
    assert_eq!(found.as_deref(), Some(" 0"));
    looks.look();
    assert_eq!(value(&mut collectors).as_deref(), Some(" 8"));
}

#[test]
fn a_real_message_bus_without_systemd_is_no_failure_and_one_that_forbids_is() {
    if !are_met(&[Need::DbusDaemon]) {
        return;
    }
    let look = |policy: &str, answers: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        let bus = DbusDaemon::start(dir.path(), policy);
        let roots = Roots {
            bus: bus.socket.clone(),
            ..Roots::default()
        };
        let mut collectors = Collectors::new(roots);
        collectors.looks().look();
        let troubles = collectors.read().troubles;
        for words in answers {
            assert!(bus.said(words), "{words}");
        }
        assert_eq!(shown(&mut collectors), Vec::<String>::new());
        let own = troubles.into_iter().filter(|(of, _)| of == "systemd");
        own.map(|(_, text)| text).collect::<Vec<String>>()
    };
    // The greeting is answered, a signal comes in between, and then the refusal.
    let none = "org.freedesktop.DBus.Error.ServiceUnknown";
    assert_eq!(
        look("", &[":1.0", "NameAcquired", none]),
        Vec::<String>::new()
    );

    let told = look("<deny user=\"*\"/>", &[]);
    assert!(
        told.len() == 1 && told[0].contains("it hung up: its policy may not let this user in"),
        "{told:?}"
    );
}

#[test]
#[allow(clippy::too_many_lines, reason = "one story")]
fn what_fails_on_a_host_becomes_an_incident_with_evidence() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("bus");
    let bus = Bus::start(&socket);
    bus.set("nginx.service", "failed", 0);
    bus.set("app.service", "active", 1);
    let data = dir.path().join("server");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("dawnwatch.toml"), SETTINGS).unwrap();
    let server = Server::start(&data, &ServerOptions::default());
    let token = server.token(1);
    let mut agent = Agent::join(
        &dir.path().join("web01"),
        "web01",
        server.address,
        &token.join,
    );
    agent.configure(
        TICK_MS,
        &format!("roots = {{ bus = {:?} }}", socket.display().to_string()),
    );
    agent.start();

    let incident = |what: &str, wanted: &dyn Fn(&Incident) -> bool| {
        until(what, SOON, || {
            let all: Vec<Incident> = server.get("/api/v1/incidents?state=all").ok()?;
            all.into_iter().find(wanted)
        })
    };
    let of = |incident: &Incident, rule: &str| {
        let found = incident.alerts.iter().find(|alert| alert.rule == rule);
        found.cloned()
    };
    let failed = incident("the failed unit", &|one| of(one, "unit_failed").is_some());
    assert_eq!(failed.name, "web01");
    let alert = of(&failed, "unit_failed").unwrap();
    assert!(
        alert.why.starts_with("unit nginx.service failed"),
        "{}",
        alert.why
    );
    assert!(
        alert
            .series
            .contains("node_systemd_unit_state{name=\"nginx.service\"")
    );
    assert!(
        alert.evidence.iter().any(|(_, value)| *value >= 1.0),
        "{alert:?}"
    );

    // A storm: nine restarts more, told once.
    bus.set("app.service", "activating", 10);
    let storm = incident("the storm", &|one| of(one, "unit_restarting").is_some());
    let alert = of(&storm, "unit_restarting").unwrap();
    assert!(
        alert
            .why
            .starts_with("unit app.service restarted 9 times in 10 m"),
        "{}",
        alert.why
    );
    assert_eq!(storm.id, failed.id, "one host, one incident");

    // Repaired: that alert ends, the storm goes on.
    bus.set("nginx.service", "active", 0);
    incident("the repair", &|one| {
        of(one, "unit_failed").is_some_and(|alert| alert.state == "resolved")
    });
    let storms = incident("the storm, still", &|one| one.id == failed.id).alerts;
    let storms = storms
        .iter()
        .filter(|alert| alert.rule == "unit_restarting");
    assert_eq!(storms.count(), 1);
    assert!(
        agent.stop().is_some_and(|status| status.success()),
        "{}",
        agent.log()
    );
}
