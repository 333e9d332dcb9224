//! Bytes to begin from: what the real writers write, and the texts of the documentation.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use dawnwatch_agent::spool::{Limits, Spool, Start};
use dawnwatch_engine::block::{Effort, encode};
use dawnwatch_engine::story::season;
use dawnwatch_engine::{At, Effect, Engine, Input};
use dawnwatch_proto::event::{Process, Processes, Started, Template};
use dawnwatch_proto::pb::{self, from_agent, from_server};
use dawnwatch_proto::{
    Event, EventBody, HostId, Item, JoinLine, Kind, MISSING, PROTOCOL, Schema, Series, Tick,
};
use dawnwatch_segment::sim::SimDisk;
use dawnwatch_segment::{Disk, Log, Read, Reader};
use dawnwatch_server::history::events::EventRow;
use dawnwatch_server::history::head::{Head, Row};
use dawnwatch_server::history::hour::{HourFile, write};
use dawnwatch_server::history::schemas::Schemas;
use dawnwatch_server::history::summary::{FIVE_MINUTES_S, HOUR_S, file};
use dawnwatch_server::journal::{Group, Held};
use dawnwatch_server::{checkpoint, ledger};
use jiff::Timestamp;
use prost::Message;

use super::kept::{SEGMENT, journal_frame, options};

/// A Friday evening.
const START_MS: i64 = 1_790_953_200_000;

/// Inputs of the story that the engine has seen when it is saved.
const INPUTS: usize = 400;

/// The same bytes with their checksums as they are, and put right.
fn both(kind: u8, content: &[u8]) -> [Vec<u8>; 2] {
    [2 * kind, 2 * kind + 1].map(|first| [&[first], content].concat())
}

/// An evening of eight hosts.
fn evening() -> Vec<(At, Input)> {
    let mut inputs = season(7, 1);
    inputs.truncate(INPUTS);
    inputs
}

/// Frames of journal, ledger and schemas.
///
/// # Panics
/// Never: a simulated disk takes them all.
#[must_use]
pub fn frame() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut engine = Engine::new();
    let mut effects: Vec<Effect> = Vec::new();
    for inputs in evening().chunks(25) {
        let group = Group {
            at: inputs[0].0,
            inputs: inputs.iter().map(|(_, input)| input.clone()).collect(),
        };
        out.push([&[0], journal_frame(&group).as_slice()].concat());
        for (at, input) in inputs {
            effects.extend(engine.step(*at, input.clone()));
        }
    }
    out.truncate(6);
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let data = Path::new("/data");
    let mut ledger = ledger::Ledger::open(&disk, data).expect("an empty disk");
    for (position, effects) in (1..).zip(effects.chunks(8).take(4)) {
        let frame = ledger::Frame {
            position,
            wall: Timestamp::UNIX_EPOCH,
            effects: effects.to_vec(),
        };
        ledger.append(&frame).expect("room");
    }
    out.extend(payloads(&disk, &data.join("ledger"), *b"LEDG", 1));
    let schemas = Schemas::open(&disk, &data.join("schemas")).expect("an empty disk");
    let other = Schema::new(vec![
        Series::new("node_other", Kind::Counter).quantum(1, 1_000),
    ]);
    for one in [&schema(), &other] {
        schemas.add(one).expect("room");
    }
    schemas
        .add_union(&[schema().id(), other.id()])
        .expect("they have one");
    out.extend(payloads(&disk, &data.join("schemas"), *b"SCHM", 2));
    out
}

fn payloads(disk: &Arc<dyn Disk>, dir: &Path, kind: [u8; 4], first: u8) -> Vec<Vec<u8>> {
    let reader = Reader::open(Arc::clone(disk), dir, kind, 1).expect("it was just written");
    let payload = |read| match read {
        Ok(Read::Frame { payload, .. }) => Some([&[first], payload.as_slice()].concat()),
        Ok(Read::Damage { .. }) | Err(_) => None,
    };
    reader.filter_map(payload).collect()
}

pub(super) fn schema() -> Schema {
    Schema::new(vec![
        Series::new("node_load1", Kind::Gauge).quantum(1, 100),
        Series::new("node_cpu_seconds_total", Kind::Counter)
            .label("mode", "user")
            .quantum(1, 100),
        Series::new("node_memory_MemAvailable_bytes", Kind::Gauge).quantum(4_096, 1),
    ])
}

fn tick(i: i64) -> Tick {
    let level = if i % 7 == 3 { MISSING } else { 100 + i % 5 };
    Tick {
        time: Timestamp::from_millisecond(START_MS + 10_000 * i).expect("a time of today"),
        schema: schema().id(),
        row: vec![level, 40 * i, 7],
    }
}

fn events() -> Vec<Event> {
    let template = Template {
        id: 7,
        text: "peer <ip> gone".to_owned(),
        source: "sshd".to_owned(),
        severity: 4,
        example: "peer 192.0.2.1 gone".to_owned(),
        old: false,
    };
    let init = Process {
        pid: 1,
        name: "init".to_owned(),
        cpu_permille: 12,
        ..Process::default()
    };
    let bodies = [
        EventBody::Started(Started {
            hostname: "web01".to_owned(),
            cpus: 2,
            ..Started::default()
        }),
        EventBody::Template(template),
        EventBody::Processes(Processes {
            span_ms: 60_000,
            top: vec![init],
        }),
        EventBody::Trouble {
            subject: "spool".to_owned(),
            text: "disk full".to_owned(),
        },
    ];
    let event = |(i, body)| Event {
        time: tick(i).time,
        body,
    };
    (0..).zip(bodies).map(event).collect()
}

/// The spool of an agent, and a log of few frames.
///
/// # Panics
/// Never: a simulated disk takes them all.
#[must_use]
pub fn segment() -> Vec<Vec<u8>> {
    let dir = Path::new("/log");
    let spooled = SimDisk::new(1);
    let (limits, start) = (
        Limits {
            bytes_max: 1 << 16,
            items_max: 10_000,
        },
        Start {
            id: 7,
            at: tick(0).time,
        },
    );
    let mut spool =
        Spool::open(Arc::new(spooled.clone()), dir, limits, start).expect("an empty disk");
    let schema = Arc::new(schema());
    (0..40).for_each(|i| spool.append_tick(&tick(i), &schema));
    events()
        .into_iter()
        .for_each(|event| spool.append_event(event));
    drop(spool);
    let plain = SimDisk::new(1);
    let (mut log, _) =
        Log::open(Arc::new(plain.clone()), dir, options(*b"SPOL")).expect("an empty disk");
    for payload in [&b"dawn"[..], b"dusk and more", &[0; 300]] {
        log.append(payload).expect("room");
    }
    log.sync().expect("a sound disk");
    let segments =
        [spooled, plain].map(|disk| disk.content(Path::new(SEGMENT)).expect("the first segment"));
    segments.iter().flat_map(|bytes| both(0, bytes)).collect()
}

/// Blocks of several shapes, and those of the versions before.
#[must_use]
pub fn block() -> Vec<Vec<u8>> {
    let times: Vec<i64> = (0..90).map(|i| START_MS + 10_000 * i + i % 3).collect();
    let rows: Vec<Vec<i64>> = (0..90)
        .map(|i| {
            vec![
                5,
                7 * i,
                (i * i * 2_654_435_761) % 10_007,
                if i % 9 < 2 { MISSING } else { i / 20 },
                7 * i,
                i64::MAX - i,
            ]
        })
        .collect();
    let mut out = Vec::new();
    for ticks in [1, 4, 90] {
        let rows: Vec<&[i64]> = rows[..ticks].iter().map(Vec::as_slice).collect();
        for effort in [Effort::Quick, Effort::Best] {
            out.extend(both(0, &encode(&times[..ticks], &rows, effort)));
        }
    }
    // As the goldens of `engine::block` have them.
    let second = [
        2, 4, 3, 9, 2, 8, 2, 2, 162, 156, 1, 162, 156, 1, 2, 8, 0, 12, 1, 250, 10, 146, 3, 1, 173,
        2, 7, 1,
    ];
    let first = [
        1, 3, 2, 8, 2, 4, 2, 162, 156, 1, 162, 156, 1, 2, 0, 12, 1, 16, 6, 1,
    ];
    out.extend(both(0, &second));
    out.extend(both(0, &first));
    out
}

/// An hour of two hosts in a directory; the file, and the schemas that it is of.
fn hour(dir: &Path) -> (HourFile, Schemas) {
    let mut head = Head::default();
    for host in [HostId(1), HostId(2)] {
        for i in 0..60i64 {
            let tick = tick(i);
            head.push(
                host,
                Row {
                    time_ms: tick.time.as_millisecond(),
                    schema: tick.schema,
                    values: tick.row.into(),
                    position: i.unsigned_abs(),
                },
            );
        }
        for event in events() {
            head.push_event(host, EventRow::of(&event, event.time, 60));
        }
    }
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let schemas = Schemas::open(&disk, Path::new("/schemas")).expect("an empty disk");
    schemas.add(&schema()).expect("room");
    let rows = head.begin_seal();
    let file = write(dir, &rows, &schemas, (60, tick(60).time)).expect("a directory with room");
    (file, schemas)
}

/// An hour of two hosts.
///
/// # Panics
/// Where no directory can be written.
#[must_use]
pub fn hour_file() -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().expect("a directory");
    let (file, _) = hour(dir.path());
    both(0, &fs::read(&file.path).expect("it was just written")).to_vec()
}

/// Files of summaries.
///
/// # Panics
/// Where no directory can be written.
#[must_use]
pub fn summary() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let dir = tempfile::tempdir().expect("a directory");
    let (raw, schemas) = hour(dir.path());
    for step_s in [HOUR_S, FIVE_MINUTES_S] {
        let at = file::write(dir.path(), &raw, &schemas, step_s).expect("a directory with room");
        let bytes = fs::read(dir.path().join(at.name())).expect("it was just written");
        out.extend(both(0, &bytes));
    }
    out
}

/// Streams of an agent, and answers of the server.
#[must_use]
pub fn wire() -> Vec<Vec<u8>> {
    let mut encoder = dawnwatch_proto::wire::Encoder::default();
    let mut stream = Vec::new();
    let mut say = |body| {
        let message = pb::FromAgent { body: Some(body) };
        stream.extend(message.encode_length_delimited_to_vec());
    };
    say(from_agent::Body::Hello(pb::Hello {
        protocol: PROTOCOL,
        ..pb::Hello::default()
    }));
    let ticks = (0..40).map(|i| Item::Tick(tick(i)));
    let mut items = Vec::new();
    for item in ticks.chain(events().into_iter().map(Item::Event)) {
        let (announced, item) = encoder.item(&item, schema);
        announced
            .into_iter()
            .for_each(|schema| say(from_agent::Body::Schema(schema)));
        items.push(item);
    }
    say(from_agent::Body::Batch(pb::Batch {
        epoch: 0,
        first_seq: 1,
        items,
        most_ms: None,
    }));
    let gap = pb::item::Body::Gap(pb::Gap {
        from_seq: 45,
        to_seq: 50,
        ticks: 6,
        ..pb::Gap::default()
    });
    let items = vec![pb::Item { body: Some(gap) }];
    say(from_agent::Body::Batch(pb::Batch {
        epoch: 0,
        first_seq: 45,
        items,
        most_ms: None,
    }));
    let (_, beat) = encoder.tick(&tick(41), schema);
    say(from_agent::Body::Heartbeat(pb::Heartbeat {
        tick: Some(beat),
        ..pb::Heartbeat::default()
    }));
    let answers = [
        from_server::Body::Ack(pb::Ack {
            seq: 7,
            ..pb::Ack::default()
        }),
        from_server::Body::Welcome(pb::Welcome {
            held: vec![7, 9],
            ..pb::Welcome::default()
        }),
    ];
    let answer = |body| pb::FromServer { body: Some(body) }.encode_to_vec();
    let streams = [stream, restless()].into_iter();
    streams.chain(answers.map(answer)).collect()
}

/// The stream of a host whose series come and go, and whose processes stay.
fn restless() -> Vec<u8> {
    let mut encoder = dawnwatch_proto::wire::Encoder::default();
    let mut stream = Vec::new();
    let mut say = |body| {
        let message = pb::FromAgent { body: Some(body) };
        stream.extend(message.encode_length_delimited_to_vec());
    };
    let slim = Schema::new(vec![Series::new("node_load1", Kind::Gauge)]);
    for i in 0..6 {
        let (wide, is_slim) = (tick(i), i % 2 == 1);
        let tick = if is_slim {
            Tick {
                schema: slim.id(),
                row: vec![i],
                ..wide
            }
        } else {
            wide
        };
        let schema = || if is_slim { slim.clone() } else { schema() };
        let (announced, tick) = encoder.item(&Item::Tick(tick), schema);
        let table = events().into_iter().map(Item::Event);
        let table = table.map(|event| encoder.item(&event, schema).1);
        let items: Vec<pb::Item> = [tick].into_iter().chain(table).collect();
        announced
            .into_iter()
            .for_each(|schema| say(from_agent::Body::Schema(schema)));
        say(from_agent::Body::Batch(pb::Batch {
            epoch: 0,
            first_seq: 1 + u64::try_from(i).expect("a few") * items.len() as u64,
            items,
            most_ms: None,
        }));
    }
    stream
}

/// Lines that the server might have printed.
#[must_use]
pub fn join_line() -> Vec<Vec<u8>> {
    [0u8, 7, 255]
        .map(|byte| {
            JoinLine::new([byte; 32], [byte; 5], [byte ^ 0x55; 20])
                .to_string()
                .into_bytes()
        })
        .to_vec()
}

/// The example that is delivered, and its sections.
#[must_use]
pub fn config() -> Vec<Vec<u8>> {
    let example = include_str!("../../../deploy/dawnwatch.example.toml");
    let bare: String = example
        .lines()
        .map(|line| line.strip_prefix('#').unwrap_or(line).trim_start())
        .fold(String::new(), |all, line| all + line + "\n");
    let sections = bare
        .split("\n[")
        .map(|section| format!("[{}", section.trim_start_matches('[')).into_bytes());
    [example.as_bytes().to_vec()]
        .into_iter()
        .chain(sections)
        .collect()
}

/// Lists of hosts as people and spreadsheets write them.
#[must_use]
pub fn csv_hosts() -> Vec<Vec<u8>> {
    [
        "name,address,site,service,owner,importance,hours\nweb01,192.0.2.10,hq,shop,A. Ruiz,high,always\ndesk7,,hq,,L. Chen,low,Mon-Fri 07:00-19:00\n",
        "\u{feff}name;site;owner\r\nweb01;\"hq; cellar\";\"A. \"\"Ada\"\" Ruiz\"\r\n",
        "owner\tname\nL. Chen\tdb1.example.org\n\nX\tdb2\n",
        "name,importance\nweb01,urgent\nweb 02,low,more\nweb01,low\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// An engine after an evening, and a checkpoint with it.
///
/// # Panics
/// Where no directory can be written.
#[must_use]
pub fn saved() -> Vec<Vec<u8>> {
    let mut out = both(0, &Engine::new().save()).to_vec();
    let mut engine = Engine::new();
    let (mut head, mut last) = (Head::default(), None);
    for (at, input) in evening() {
        engine.step(at, input);
        last = Some(at);
    }
    for i in 0..30 {
        let tick = tick(i);
        head.push(
            HostId(1),
            Row {
                time_ms: tick.time.as_millisecond(),
                schema: tick.schema,
                values: tick.row.into(),
                position: 9,
            },
        );
    }
    out.extend(both(0, &engine.save()));
    let mut rows = Vec::new();
    checkpoint::Pieces::write(&head.save(), &mut rows).expect("memory takes all");
    out.extend(both(2, &rows));
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("checkpoint")).expect("a directory");
    let one = checkpoint::Checkpoint {
        frame: 1,
        at: last.expect("an evening has inputs"),
        engine: Engine::new().save(),
        held: Held::default(),
        pending: Vec::new(),
        head: head.save(),
    };
    checkpoint::write(dir.path(), &one).expect("a directory with room");
    let path = dir.path().join("checkpoint/00000000000000000001.ckpt");
    out.extend(both(1, &fs::read(path).expect("it was just written")));
    out
}

/// Lines as programs write them.
#[must_use]
pub fn log_line() -> Vec<Vec<u8>> {
    [
        "Jun 14 15:16:01 combo sshd(pam_unix)[19939]: check pass; user unknown\nJun 14 15:16:02 combo sshd(pam_unix)[19940]: check pass; user unknown\n",
        "<34>1 2026-11-22T02:48:15.123456+00:00 web01 cron[7]: (root) CMD (x)\r\n[Sun Dec 04 04:47:44 2005] [error] mod_jk child workerEnv in error state 6\n",
        "2026-11-22 10:00:00,123 ERROR a.b: login of anna@example.org from 192.0.2.7 failed: password=hunter2 token: \"a81f00b1c2d3e4f5\"\n",
        "GET https://anna:geheim@example.org/x?api_key=0123456789abcdef HTTP/1.1\nAuthorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl\n",
        "mysql -u root --password hunter2 -psecret\nAKIAIOSFODNN7EXAMPLE glpat-0123456789abcdefghij\n-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n",
        "{\"level\":\"error\",\"msg\":\"dial tcp [2001:db8::1]:5432: connect: connection refused\",\"took\":\"1.5s\",\"id\":\"6ba7b810-9dad-11d1-80b4-00c04fd430c8\"}\n",
        "kernel: [12345.678901] EXT4-fs error (device sda1): ext4_find_entry:1455: inode #2: comm ls: reading directory lblock 0\n\u{0}\u{1b}[31mred\u{1b}[0m \u{202e}gnp.exe 0x7ffdeadbeef0 /var/lib/x y=3 z=<nil>\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
