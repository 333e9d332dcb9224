//! What readers see follows what happened.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use dawnwatch_engine::input::{Batch, HostCard, Input, Started};
use dawnwatch_engine::{At, Engine};
use dawnwatch_proto::{Event, EventBody, HostId, Item};
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
    let mut engine = Engine::new();
    let started = Started {
        version: "1".to_owned(),
        clean: true,
        last_up: None,
    };
    let card = HostCard::new(host, "web01", at(1).wall);
    engine.step(at(0), Input::Config(Box::default()));
    engine.step(at(0), Input::Started(started));
    engine.step(at(1), Input::Host(card));
    assert_eq!(
        engine.view(at(1).wall).so_far.coverage.hosts,
        0,
        "it never reported"
    );
    // An agent's first word is an event: its first tick is still on its way.
    let event = Event {
        time: at(2).wall,
        body: EventBody::Unknown,
    };
    let batch = Batch {
        host,
        epoch: 1,
        first_seq: 1,
        items: vec![Item::Event(event)],
        offset_ms: Some(0),
    };
    engine.step(at(2), Input::Batch(batch));
    let coverage = &engine.view(at(3).wall).so_far.coverage;
    assert_eq!(coverage.hosts, 1);
    assert!(
        coverage.ratio > 0.99,
        "watched from joining on: {coverage:?}"
    );
}
