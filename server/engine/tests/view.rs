//! What readers see follows what happened.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use dawnwatch_engine::input::{Batch, HostCard, Input, Started};
use dawnwatch_engine::{At, Engine};
use dawnwatch_proto::{HostId, Item, Kind, Schema, Series, Tick};
use jiff::Timestamp;

/// Seconds after Monday 22:00 UTC: a night is under way.
fn at(second: i64) -> At {
    let boot_ms = u64::try_from(second).unwrap() * 1_000;
    let wall = Timestamp::from_second(1_764_021_600 + second).unwrap();
    At {
        wall,
        boot_ms,
        position: boot_ms,
    }
}

/// The review so far is kept for some seconds while nothing happens; a host's first report is no nothing.
#[test]
fn the_review_so_far_shows_a_first_report_at_once() {
    let host = HostId(1);
    let schema = Schema::new(vec![Series::new("node_load1", Kind::Gauge)]);
    let mut engine = Engine::new();
    let started = Started {
        version: "1".to_owned(),
        clean: true,
        last_up: None,
    };
    let card = HostCard {
        id: host,
        name: "web01".to_owned(),
        joined: at(1).wall,
        labels: Vec::new(),
        retired: false,
    };
    engine.step(at(0), Input::Config(Box::default()));
    engine.step(at(0), Input::Started(started));
    engine.step(at(1), Input::Host(card));
    assert_eq!(
        engine.view(at(1).wall).so_far.coverage.hosts,
        0,
        "it never reported"
    );
    engine.step(
        at(2),
        Input::Schema {
            host,
            schema: schema.clone(),
        },
    );
    let tick = Tick {
        time: at(2).wall,
        schema: schema.id(),
        row: vec![5],
    };
    let items = vec![Item::Tick(tick)];
    engine.step(
        at(2),
        Input::Batch(Batch {
            host,
            epoch: 1,
            first_seq: 1,
            items,
            offset_ms: Some(0),
        }),
    );
    let coverage = &engine.view(at(3).wall).so_far.coverage;
    assert_eq!(coverage.hosts, 1);
    assert!(
        coverage.ratio > 0.99,
        "watched from joining on: {coverage:?}"
    );
}
