//! What comes from elsewhere: agents, people, programs that write logs.

use std::collections::{BTreeMap, BTreeSet};

use dawnwatch_agent::logs;
use dawnwatch_engine::named::NAMED_MAX;
use dawnwatch_proto::event::{LINE_BYTES_MAX, TEMPLATES_MAX, TEXT_BYTES_MAX};
use dawnwatch_proto::pb::{self, from_agent};
use dawnwatch_proto::review::Importance;
use dawnwatch_proto::{Event, EventBody, Item, JoinLine, Kind, Schema, Series, wire as rows};
use dawnwatch_server::identity::NamedRecord;
use dawnwatch_server::identity::named::read_hosts;
use jiff::Timestamp;
use prost::Message;

/// Messages of one stream: a schema of a few bytes a column makes each tick of two bytes as wide.
const MESSAGES_MAX: usize = 64;

/// Bytes of names that a batch may stand for beyond its own: what is promised of the decoder, with room for numbers and lengths.
const AGAIN_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Mistakes of a list of hosts that may be told: the bound, and those of the row at which it was passed.
const MISTAKES_MAX: usize = 20 + 10;

/// What an agent says on its stream, message after message, each behind its length; and the same bytes as the server's answer.
///
/// # Panics
/// Where something is wrong.
pub fn wire(data: &[u8]) {
    if let Ok(answer) = pb::FromServer::decode(data) {
        let again = pb::FromServer::decode(answer.encode_to_vec().as_slice());
        assert_eq!(
            again.map(|again| again.encode_to_vec()),
            Ok(answer.encode_to_vec())
        );
    }
    let (mut decoder, mut schemas, mut said) =
        (rows::Decoder::default(), BTreeMap::new(), Vec::new());
    let mut rest = data;
    for _ in 0..MESSAGES_MAX {
        let Ok(message) = pb::FromAgent::decode_length_delimited(&mut rest) else {
            break;
        };
        let heard = match message.body {
            Some(from_agent::Body::Schema(mut schema)) => {
                schema.id = content(&schema).id().0;
                decoder
                    .schema(schema)
                    .map(|schema| drop(schemas.insert(schema.id(), schema)))
            }
            Some(from_agent::Body::Batch(batch)) => {
                let most = batch.encoded_len() + AGAIN_BYTES_MAX;
                decoder.batch(batch).map(|items| {
                    assert!(bytes_of_events(&items) <= most, "few bytes stand for many");
                    said.extend(items);
                })
            }
            Some(from_agent::Body::Heartbeat(beat)) => beat.tick.map_or(Ok(()), |tick| {
                decoder.tick(tick).map(|tick| said.push(Item::Tick(tick)))
            }),
            Some(from_agent::Body::Hello(_)) | None => Ok(()),
        };
        if heard.is_err() {
            break;
        }
    }
    say_again(&schemas, said);
}

fn bytes_of_events(items: &[Item]) -> usize {
    let bytes = |item: &Item| match item {
        Item::Event(event) => event.to_pb().encoded_len(),
        Item::Tick(_) | Item::Gap(_) => 0,
    };
    items.iter().map(bytes).sum()
}

/// What was heard is heard the same when it is said again.
fn say_again(schemas: &BTreeMap<dawnwatch_proto::SchemaId, Schema>, said: Vec<Item>) {
    let (mut encoder, mut decoder) = (rows::Encoder::default(), rows::Decoder::default());
    for item in said {
        let schema = || match &item {
            Item::Tick(tick) => schemas[&tick.schema].clone(),
            Item::Event(_) | Item::Gap(_) => unreachable!("a tick alone has a schema"),
        };
        let (announced, message) = encoder.item(&item, schema);
        if let Some(schema) = announced {
            decoder.schema(schema).expect("it came that way");
        }
        let first_seq = match &item {
            Item::Gap(gap) => gap.from_seq,
            Item::Tick(_) | Item::Event(_) => 1,
        };
        let batch = pb::Batch {
            epoch: 0,
            first_seq,
            items: vec![message],
            most_ms: None,
        };
        assert_eq!(decoder.batch(batch), Ok(vec![item]));
    }
}

/// The schema that a message holds, whatever id it names.
fn content(message: &pb::Schema) -> Schema {
    let series = message.series.iter().map(|one| {
        let kind = if one.kind == 2 {
            Kind::Counter
        } else {
            Kind::Gauge
        };
        let mut series = Series::new(&one.name, kind);
        series.labels = one
            .labels
            .iter()
            .map(|label| (label.name.clone(), label.value.clone()))
            .collect();
        series.labels.sort();
        (series.mul, series.div) = (one.mul, one.div);
        series
    });
    Schema::new(series.collect())
}

/// The line that an admin pastes.
///
/// # Panics
/// Where something is wrong.
pub fn join_line(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(line) = text.parse::<JoinLine>() else {
        return;
    };
    let again = line.to_string();
    assert_eq!(again.parse::<JoinLine>().as_ref(), Ok(&line));
    assert_eq!(
        again,
        text.trim().to_ascii_lowercase(),
        "one line has one form but for its case"
    );
    // The hash of the CA's key may look like the secret of a line that noise made.
    let shown = format!("{line:?}");
    let shown = shown.rsplit('.').next().unwrap_or("");
    assert_eq!(shown, "<secret>)", "the secret shows");
}

/// The server's configuration.
///
/// # Panics
/// Where something is wrong.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Err(mistakes) = dawnwatch_server::config::parse(text, "dawnwatch.toml", "UTC") else {
        return;
    };
    let lines = text.lines().count().max(1) + 1;
    assert!(!mistakes.list.is_empty(), "refused without a mistake");
    assert!(
        mistakes
            .list
            .iter()
            .all(|one| (1..=lines).contains(&one.line)),
        "{mistakes}"
    );
    assert!(mistakes.list.is_sorted_by_key(|one| one.line), "{mistakes}");
    let clean = |c: char| c == '\n' || !c.is_control();
    assert!(
        mistakes.to_string().chars().all(clean),
        "control characters in {mistakes:?}"
    );
}

/// A list of hosts.
///
/// # Panics
/// Where something is wrong.
pub fn csv_hosts(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match read_hosts(text) {
        Err(mistakes) => {
            assert!(
                (1..=MISTAKES_MAX).contains(&mistakes.len()),
                "{} mistakes",
                mistakes.len()
            );
        }
        Ok(hosts) => {
            let names: BTreeSet<String> =
                hosts.iter().map(|host| host.name.to_lowercase()).collect();
            assert!(
                names.len() == hosts.len() && hosts.len() <= NAMED_MAX,
                "a name is there twice"
            );
            assert_eq!(
                read_hosts(&csv(&hosts)),
                Ok(hosts),
                "the list reads differently once written"
            );
        }
    }
}

/// A list of hosts as text.
pub(super) fn csv(hosts: &[NamedRecord]) -> String {
    let mut out = String::from("name,address,site,service,owner,importance,hours\n");
    for host in hosts {
        let importance = host.importance.map(|importance| match importance {
            Importance::Low => "low",
            Importance::Normal => "normal",
            Importance::High => "high",
        });
        let texts = [&host.address, &host.site, &host.service, &host.owner].map(Option::as_deref);
        let fields = [Some(host.name.as_str())]
            .into_iter()
            .chain(texts)
            .chain([importance, host.hours.as_deref()]);
        let fields: Vec<String> = fields
            .map(|field| format!("\"{}\"", field.unwrap_or("").replace('"', "\"\"")))
            .collect();
        out.push_str(&fields.join(","));
        out.push('\n');
    }
    out
}

/// A secret, and a beginning of a line that marks it as one.
const MARKED: (&str, &str) = ("Zq9vXw2Lk7", "app: password=Zq9vXw2Lk7 ");

/// What programs write into log files: cut, stripped of headers, redacted, masked, shaped.
///
/// # Panics
/// Where something is wrong.
pub fn log_line(data: &[u8]) {
    let whole = logs::shape(&[data]);
    let pieces: Vec<&[u8]> = data.chunks(7.max(data.len() / 50)).collect();
    assert_eq!(
        logs::shape(&pieces),
        whole,
        "how it was read makes a difference"
    );
    for body in whole {
        bounded(&body);
        let event = Event {
            time: Timestamp::UNIX_EPOCH,
            body,
        };
        assert_eq!(
            Event::from_pb(event.to_pb()),
            Ok(event),
            "the server cuts what an agent says"
        );
    }
    let (secret, beginning) = MARKED;
    if !data
        .windows(secret.len())
        .any(|part| part == secret.as_bytes())
    {
        let line = [beginning.as_bytes(), data].concat();
        let told = format!("{:?}", logs::shape(&[&line]));
        assert!(!told.contains(secret), "a secret left: {told}");
    }
}

fn bounded(body: &EventBody) {
    match body {
        EventBody::Template(one) => {
            let most = one.text.len().max(one.source.len()).max(one.example.len());
            assert!(most <= TEXT_BYTES_MAX && one.severity <= 7, "{one:?}");
        }
        EventBody::Line(one) => assert!(one.text.len() <= LINE_BYTES_MAX && one.severity <= 7),
        EventBody::LogCounts(counts) => assert!(counts.counts.len() <= TEMPLATES_MAX),
        EventBody::Started(_)
        | EventBody::Goodbye(_)
        | EventBody::Trouble { .. }
        | EventBody::Unknown
        | EventBody::Processes(_) => {}
    }
}
