//! Odd data: whatever arrives in whatever order, the engine neither panics nor grows without bound, and saves what it is.

use std::collections::BTreeSet;

use dawnwatch_engine::config::Config;
use dawnwatch_engine::input::{
    Act, Batch, Delivered, Heartbeat, HostCard, Notice, Order, Outcome, Started,
};
use dawnwatch_engine::{At, Effect, Engine, Input, RestoreError};
use dawnwatch_proto::event::{GoodbyeReason, Started as AgentStarted};
use dawnwatch_proto::{
    Event, EventBody, Gap, GapReason, HostId, Item, Kind, MISSING, Schema, SchemaId, Series, Tick,
};
use jiff::Timestamp;
use proptest::prelude::*;

fn schema() -> Schema {
    let gauge = |name: &str| Series::new(name, Kind::Gauge);
    Schema::new(vec![
        gauge("node_memory_MemTotal_bytes").quantum(u32::MAX, 1),
        gauge("node_memory_MemAvailable_bytes"),
        gauge("node_filesystem_size_bytes").label("mountpoint", "/"),
        gauge("node_filesystem_avail_bytes").label("mountpoint", "/"),
        gauge("node_filesystem_readonly").label("mountpoint", "/"),
        Series::new("node_cpu_seconds_total", Kind::Counter).label("mode", "user"),
        Series::new("node_cpu_seconds_total", Kind::Counter).label("mode", "idle"),
    ])
}

fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        8 => (0_i64..100_000).prop_map(|s| Timestamp::from_second(1_790_000_000 + s).expect("in range")),
        1 => Just(Timestamp::MIN),
        1 => Just(Timestamp::MAX),
        1 => Just(Timestamp::UNIX_EPOCH),
    ]
}

fn raw() -> impl Strategy<Value = i64> {
    prop_oneof![
        6 => 0_i64..1_000,
        1 => Just(MISSING),
        1 => Just(i64::MAX),
        1 => Just(i64::MIN + 1),
        1 => any::<i64>(),
    ]
}

fn item() -> impl Strategy<Value = Item> {
    let rows = prop_oneof![
        9 => prop::collection::vec(raw(), 7),
        1 => prop::collection::vec(raw(), 0..9)
    ];
    let ids = prop_oneof![9 => Just(schema().id()), 1 => Just(SchemaId(1))];
    let tick =
        (time(), ids, rows).prop_map(|(time, schema, row)| Item::Tick(Tick { time, schema, row }));
    let body = prop_oneof![
        Just(EventBody::Unknown),
        any::<bool>().prop_map(|clean| {
            let boot_id = format!("{clean}");
            let started = AgentStarted {
                boot_id,
                last_stop_clean: clean,
                ..Default::default()
            };
            EventBody::Started(started)
        }),
        Just(EventBody::Goodbye(GoodbyeReason::Reboot)),
        Just(EventBody::Goodbye(GoodbyeReason::Stopped)),
        "[a-c]".prop_map(|subject| EventBody::Trouble {
            subject,
            text: "x".to_owned()
        }),
    ];
    let event = (time(), body).prop_map(|(time, body)| Item::Event(Event { time, body }));
    let gap = (time(), time(), any::<u64>()).prop_map(|(from, to, ticks)| {
        let (from_seq, to_seq, events) = (1, 2, 0);
        Item::Gap(Gap {
            from_seq,
            to_seq,
            from,
            to,
            ticks,
            events,
            reason: GapReason::SpoolFull,
        })
    });
    prop_oneof![8 => tick, 2 => event, 1 => gap]
}

fn input() -> impl Strategy<Value = Input> {
    let host = || (0_u128..3).prop_map(HostId);
    let offset = || prop_oneof![Just(0_i64), -100_000_i64..100_000, any::<i64>()];
    let outcome = prop_oneof![
        Just(Outcome::Arrived),
        Just(Outcome::Refused),
        Just(Outcome::Struggling)
    ];
    prop_oneof![
        8 => (host(), prop::collection::vec(item(), 0..8), prop::option::of(offset())).prop_map(
            |(host, items, offset_ms)| {
                Input::Batch(Batch { host, epoch: 1, first_seq: 1, items, offset_ms })
            }
        ),
        3 => (host(), offset(), 0_u64..3, prop::collection::vec(raw(), 6..8)).prop_map(
            |(host, offset_ms, backlog, row)| {
                let row = Some((schema().id(), row));
                Input::Heartbeat(Heartbeat { host, offset_ms, backlog, row })
            }
        ),
        8 => Just(Input::Tick),
        2 => host().prop_map(|host| Input::Schema { host, schema: schema() }),
        1 => (host(), any::<bool>(), time()).prop_map(|(id, retired, joined)| {
            let name = format!("h{}", id.0);
            Input::Host(HostCard { id, name, joined, labels: Vec::new(), retired, aliases: Vec::new(), like: Vec::new(), merged: None, erased: retired && joined.as_second() % 2 == 0 })
        }),
        1 => offset().prop_map(|by_ms| Input::ClockStep { by_ms }),
        1 => prop::option::of(time()).prop_map(|last_up| {
            Input::Started(Started { version: String::new(), clean: false, last_up })
        }),
        1 => any::<bool>().prop_map(|on| {
            let mut config = Config::default();
            config.rules[0].enabled = on;
            config.rules[0].bound = if on { 0.5 } else { f64::NAN };
            config.calendar.zone = if on { "Europe/Berlin" } else { "Nowhere" }.to_owned();
            Input::Config(Box::new(config))
        }),
        1 => "I-[0-9]{1,30}|x|" .prop_map(|incident| {
            let act = Act::Acknowledge { incident, note: String::new() };
            Input::Order(Order { by: "anna".to_owned(), act })
        }),
        1 => ("I-1/1/ops|/|", outcome).prop_map(|(key, outcome)| {
            Input::Delivered(Delivered { key, outcome, answer: String::new() })
        }),
        1 => ("[a-c]", "x|").prop_map(|(subject, text)| {
            Input::Server(Notice { subject, text, critical: false })
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn nothing_breaks_the_engine(
        steps in prop::collection::vec((input(), 0_u64..40_000, prop::option::weighted(0.1, time())), 1..120)
    ) {
        let mut engine = Engine::new();
        let (mut boot_ms, mut wall) = (0_u64, Timestamp::from_second(1_790_000_000).unwrap());
        let mut erased = BTreeSet::new();
        for (position, (input, passed_ms, jump)) in (1_u64..).zip(steps) {
            boot_ms += passed_ms;
            wall = jump.unwrap_or(wall);
            if let Input::Host(card) = &input {
                if card.erased {
                    erased.insert(card.id);
                } else {
                    erased.remove(&card.id);
                }
            }
            let items = match &input {
                // What still comes of an erased host is passed over.
                Input::Batch(batch) if erased.contains(&batch.host) => 0,
                Input::Batch(batch) => batch.items.len(),
                Input::Config(_)
                | Input::Started(_)
                | Input::ClockStep { .. }
                | Input::Host(_)
                | Input::Schema { .. }
                | Input::Heartbeat(_)
                | Input::Tick
                | Input::Order(_)
                | Input::Delivered(_)
                | Input::Server(_)
                | Input::Named(_)
                | Input::Vitals(_)
                | Input::Twice(_)
                | Input::Restored(_) => 0,
            };
            let at = At { wall, boot_ms, position };
            let mut twin = Engine::restore(&engine.save()).unwrap();
            let effects = engine.step(at, input.clone());
            let same: Vec<Effect> = twin.step(at, input);
            prop_assert_eq!(format!("{effects:?}"), format!("{same:?}"));
            prop_assert_eq!(engine.stamps().len(), items, "stamps of what counts");
            prop_assert_eq!(engine.save(), twin.save());
        }
        let view = engine.view(wall);
        prop_assert!(serde_json::to_string(&view).is_ok());
    }
}

#[test]
fn bytes_that_are_no_engine_are_refused() {
    let saved = Engine::new().save();
    assert!(Engine::restore(&saved).is_ok());
    assert_eq!(Engine::restore(b"").unwrap_err(), RestoreError::NotSaved);
    assert_eq!(
        Engine::restore(&vec![0; saved.len()]).unwrap_err(),
        RestoreError::NotSaved
    );
    let mut newer = saved.clone();
    newer[4] = 99;
    assert_eq!(
        Engine::restore(&newer).unwrap_err(),
        RestoreError::Newer { found: 99 }
    );
    for index in 6..saved.len() {
        let mut bad = saved.clone();
        bad[index] ^= 1;
        assert_eq!(
            Engine::restore(&bad).unwrap_err(),
            RestoreError::Damaged,
            "byte {index}"
        );
    }
}
