//! `dawnwatch-demo`: a bad weekend of ten hosts, told to the real engine tick by tick, and the review that comes of it.
//!
//! Only the hosts are made up. Their series are those that agents send; each ten seconds of 62 hours are judged. The
//! story: file01's volume fills up, db02 falls silent on Sunday at 03:12, web04 is short of memory for a while and heals,
//! report01's CPU is busy, somebody stops the agent of web02, and the server itself is killed and comes back.
//! With `--json` it prints the sealed review as `nights/` keeps it.

use std::fmt::Write as _;
use std::io::Write as _;

use dawnwatch_engine::config::{Channel, HostFacts};
use dawnwatch_engine::effect::{Content, Notification, Reason};
use dawnwatch_engine::input::{Act, Batch, Delivered, HostCard, Order, Outcome, Started};
use dawnwatch_engine::{At, Config, Effect, Engine, Input};
use dawnwatch_proto::api::LiveReview;
use dawnwatch_proto::event::GoodbyeReason;
use dawnwatch_proto::review::text::{self, Text};
use dawnwatch_proto::review::{Importance, Review, Severity};
use dawnwatch_proto::untrusted::term;
use dawnwatch_proto::{Event, EventBody, HostId, Item, Kind, Schema, Series, Tick};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Friday 2 October 2026, 17:30 in Berlin.
const START_SECOND: i64 = 1_790_955_000;

/// Monday 07:10, ten minutes after sealing.
const END: i64 = 61 * HOUR + 40 * MINUTE;

/// Agents measure every ten seconds.
const STEP: i64 = 10;

const MINUTE: i64 = 60;
const HOUR: i64 = 3_600;
const KIB_PER_GIB: i64 = 1024 * 1024;
const ZONE: &str = "Europe/Berlin";

const SATURDAY_0200: i64 = 8 * HOUR + 30 * MINUTE;
const SATURDAY_0400: i64 = 10 * HOUR + 30 * MINUTE;
const SUNDAY_0200: i64 = 32 * HOUR + 30 * MINUTE;
const SUNDAY_0312: i64 = 33 * HOUR + 42 * MINUTE;
const SUNDAY_2210: i64 = 52 * HOUR + 40 * MINUTE;

/// How long the server is away on Saturday.
const SERVER_AWAY: i64 = 3 * MINUTE;

/// How long after its page somebody takes an incident.
const TAKEN_AFTER: i64 = 8 * MINUTE;

const NAMES: [&str; 10] = [
    "db01", "db02", "file01", "mail01", "nas01", "report01", "web01", "web02", "web03", "web04",
];

fn main() -> std::process::ExitCode {
    let told = match std::env::args().nth(1).as_deref() {
        Some("--json") => document(),
        Some(other) => format!("{other:?} is not known: the only option is --json\n"),
        None => tell(),
    };
    match std::io::stdout().write_all(told.as_bytes()) {
        // A reader that has enough is no failure.
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            std::process::ExitCode::SUCCESS
        }
        Err(_) => std::process::ExitCode::from(73),
    }
}

/// The review as `nights/` keeps it.
fn document() -> String {
    let mut weekend = Weekend::new();
    weekend.run();
    let review = weekend.review.expect("the weekend seals its night");
    let (bytes, _) = dawnwatch_server::nights::canonical(&review);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The weekend as text: what was said at night, and the review.
fn tell() -> String {
    let mut weekend = Weekend::new();
    weekend.run();
    let zone = text::zone(ZONE);
    let mut out = String::new();
    let hours = END / HOUR;
    let _ = writeln!(
        out,
        "{} samples of ten hosts in {hours} h, judged one by one.\n",
        weekend.samples
    );
    let _ = writeln!(out, "SAID AT NIGHT");
    for line in said(&weekend.messages, &zone) {
        let _ = writeln!(out, "  {line}");
    }
    out.push('\n');
    match weekend.review {
        Some(review) => {
            let live = LiveReview {
                at: review.sealed.unwrap_or(review.until),
                review,
                since: Vec::new(),
            };
            out.push_str(&text::review(&live, &Text::screen()));
        }
        None => out.push_str("no night was sealed: this is a bug\n"),
    }
    out
}

/// A line for each message; reminders that follow each other share one.
fn said(messages: &[Notification], zone: &TimeZone) -> Vec<String> {
    let when = |message: &Notification| {
        message
            .decided
            .to_zoned(zone.clone())
            .strftime("%a %H:%M:%S")
            .to_string()
    };
    let mut lines = Vec::new();
    for run in
        messages.chunk_by(|a, b| a.reason == Reason::Reminder && b.reason == Reason::Reminder)
    {
        let (first, last) = (&run[0], &run[run.len() - 1]);
        let what = match first.reason {
            Reason::Opened => "opened",
            Reason::Worse => "worse",
            Reason::Closed => "closed",
            Reason::Reminder => "reminder",
            Reason::Review => "mailed",
            Reason::Test => "test",
        };
        let about = match &first.content {
            Content::Incident(content) => {
                let incident = &content.incident;
                format!(
                    "{} {}: {}",
                    term(&incident.id),
                    term(&incident.name),
                    term(&incident.what)
                )
            }
            Content::Review(review) => format!("review {}", term(&review.id)),
            Content::Test => String::new(),
        };
        let more = match run.len() {
            1 => String::new(),
            count => format!(" ({count} times until {})", when(last)),
        };
        lines.push(format!("{} {what:8} {about}{more}", when(first)));
    }
    lines
}

/// The engine, the ten hosts, and what came out.
struct Weekend {
    engine: Engine,
    hosts: Vec<Host>,
    position: u64,
    samples: u64,
    messages: Vec<Notification>,
    review: Option<Review>,
    /// Acts of people and of channels that are still to come: when, and what.
    later: Vec<(i64, Input)>,
}

impl Weekend {
    fn new() -> Weekend {
        let hosts = NAMES
            .iter()
            .zip(1u128..)
            .map(|(name, i)| Host::new(name, i))
            .collect();
        Weekend {
            engine: Engine::new(),
            hosts,
            position: 0,
            samples: 0,
            messages: Vec::new(),
            review: None,
            later: Vec::new(),
        }
    }

    fn run(&mut self) {
        self.step(0, Input::Config(Box::new(config())));
        self.step(0, started(None));
        for i in 0..self.hosts.len() {
            let host = &self.hosts[i];
            let card = HostCard::new(host.id, host.name, at(-30 * 24 * HOUR));
            let schema = Input::Schema {
                host: host.id,
                schema: host.schema.clone(),
            };
            self.step(0, Input::Host(card));
            self.step(0, schema);
        }
        let mut second = STEP;
        while second <= END {
            self.ten_seconds(second);
            second += STEP;
        }
    }

    fn ten_seconds(&mut self, second: i64) {
        let server_up = !(SATURDAY_0400..SATURDAY_0400 + SERVER_AWAY).contains(&second);
        if second == SATURDAY_0400 + SERVER_AWAY {
            self.step(second, started(Some(at(SATURDAY_0400))));
        }
        for i in 0..self.hosts.len() {
            let host = &mut self.hosts[i];
            host.measure(second);
            if server_up && let Some(batch) = host.send(second) {
                self.samples += batch.items.len() as u64 * host.schema.series().len() as u64;
                self.step(second, Input::Batch(batch));
            }
        }
        if server_up {
            let due: Vec<(i64, Input)> = self
                .later
                .extract_if(.., |(when, _)| *when <= second)
                .collect();
            for (_, input) in due {
                self.step(second, input);
            }
            self.step(second, Input::Tick);
        }
    }

    fn step(&mut self, second: i64, input: Input) {
        self.position += 1;
        let boot_ms = u64::try_from(second * 1_000).unwrap_or(0);
        let at = At {
            wall: at(second),
            boot_ms,
            position: self.position,
        };
        for effect in self.engine.step(at, input) {
            match effect {
                Effect::Record(_) => {}
                Effect::Notify(message) => self.deliver(second, message),
                Effect::SealNight(review) => self.review = Some(*review),
            }
        }
    }

    /// Every message arrives after two seconds; the first about db02 is taken by its owner.
    fn deliver(&mut self, second: i64, message: Notification) {
        let arrived = Delivered {
            key: message.key.clone(),
            outcome: Outcome::Arrived,
            answer: "200 OK".to_owned(),
        };
        self.later.push((second + 2, Input::Delivered(arrived)));
        if let Content::Incident(content) = &message.content
            && content.incident.name == "db02"
            && content.incident.taken.is_none()
        {
            let act = Act::Acknowledge {
                incident: message.incident.clone(),
                note: String::new(),
            };
            let order = Order {
                by: "A. Ruiz".to_owned(),
                act,
            };
            self.later.push((second + TAKEN_AFTER, Input::Order(order)));
        }
        self.messages.push(message);
    }
}

fn config() -> Config {
    let mut config = Config::default();
    config.calendar.zone = ZONE.to_owned();
    config.calendar.confirmed = true;
    config.channels = vec![Channel {
        name: "ops".to_owned(),
        night: Severity::Critical,
        day: Severity::Warning,
        reviews: true,
    }];
    let facts = |name: &str, service: &str, owner: &str, importance| HostFacts {
        name: name.to_owned(),
        service: (!service.is_empty()).then(|| service.to_owned()),
        owner: (!owner.is_empty()).then(|| owner.to_owned()),
        site: Some("hq".to_owned()),
        importance: Some(importance),
        hours: None,
    };
    config.hosts = vec![
        facts("*", "", "", Importance::Normal),
        facts("db0?", "billing", "A. Ruiz", Importance::Normal),
        facts("file01", "shares", "L. Chen", Importance::Normal),
        facts("mail01", "mail", "L. Chen", Importance::High),
        facts("web*", "shop", "", Importance::Normal),
        facts("report01", "", "", Importance::Low),
    ];
    config
}

fn started(last_up: Option<Timestamp>) -> Input {
    Input::Started(Started {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        clean: last_up.is_none(),
        last_up,
    })
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(START_SECOND + second).expect("2026 is in range")
}

/// A host that is made up: its counters, and what it has not sent yet.
struct Host {
    id: HostId,
    name: &'static str,
    schema: Schema,
    number: i64,
    counters: Counters,
    waiting: Vec<Item>,
    seq: u64,
}

/// Raw counts in the quanta of the schema.
#[derive(Default)]
struct Counters {
    idle: i64,
    user: i64,
    system: i64,
    cpu_waiting: i64,
    memory_stalled: i64,
    io_stalled: i64,
}

impl Host {
    fn new(name: &'static str, number: u128) -> Host {
        Host {
            id: HostId::v7(1_788_000_000_000, number << 40),
            name,
            schema: schema(),
            number: i64::try_from(number).unwrap_or(0),
            counters: Counters::default(),
            waiting: Vec::new(),
            seq: 1,
        }
    }

    /// Measures as an agent does, unless the host or its agent is gone.
    fn measure(&mut self, second: i64) {
        if self.name == "db02" && second >= SUNDAY_0312
            || self.name == "web02" && second > SUNDAY_2210
        {
            return;
        }
        let row = self.row(second);
        self.waiting.push(Item::Tick(Tick {
            time: at(second),
            schema: self.schema.id(),
            row,
        }));
        if self.name == "web02" && second == SUNDAY_2210 {
            let body = EventBody::Goodbye(GoodbyeReason::Stopped);
            self.waiting.push(Item::Event(Event {
                time: at(second),
                body,
            }));
        }
    }

    /// All that waits, as one batch.
    fn send(&mut self, second: i64) -> Option<Batch> {
        let items = std::mem::take(&mut self.waiting);
        let backlog = items.len() > 2;
        let first_seq = self.seq;
        self.seq += items.len() as u64;
        // The offset is known from live messages alone.
        let offset_ms = (!backlog && second > 0).then_some(0);
        (!items.is_empty()).then_some(Batch {
            host: self.id,
            epoch: 1,
            first_seq,
            items,
            offset_ms,
        })
    }

    fn row(&mut self, second: i64) -> Vec<i64> {
        // Small and regular, so that the same weekend comes out each time.
        let wobble = (second / STEP * 7 + self.number * 31) % 97;
        let busy =
            self.name == "report01" && (SUNDAY_0200..SUNDAY_0200 + 41 * MINUTE).contains(&second);
        let short =
            self.name == "web04" && (SATURDAY_0200..SATURDAY_0200 + 25 * MINUTE).contains(&second);
        // Of 1,000 hundredths of a second in ten seconds.
        let user = if busy { 960 } else { 60 + wobble };
        let counters = &mut self.counters;
        counters.user += user;
        counters.system += 20;
        counters.idle += 980 - user;
        counters.cpu_waiting += if busy { 4_000 } else { 20 };
        counters.memory_stalled += if short { 3_500 } else { 0 };
        counters.io_stalled += 5;
        let available_percent = if short { 12 } else { 55 - wobble / 10 };
        let memory = 16 * KIB_PER_GIB;
        let mut row = vec![
            user / 10,
            memory,
            memory * available_percent / 100,
            2 * KIB_PER_GIB,
            2 * KIB_PER_GIB,
            counters.cpu_waiting,
            counters.memory_stalled,
            counters.io_stalled,
            counters.idle,
            counters.user,
            counters.system,
        ];
        row.extend(volume(40 * KIB_PER_GIB, 38_000 + wobble));
        // 71 % on Friday, growing steadily: 95 % on Monday at about four.
        let data = if self.name == "file01" {
            71_000 + second * 24_000 / (58 * HOUR)
        } else {
            52_000
        };
        row.extend(volume(1_800 * KIB_PER_GIB, data));
        row
    }
}

/// Size, available, free, files, free files, read-only; `used` in thousandths of a percent.
fn volume(size: i64, used: i64) -> [i64; 6] {
    let free = size / 1_000 * (100_000 - used) / 100;
    [size, free, free, 4_000_000, 3_600_000, 0]
}

fn schema() -> Schema {
    let kib = |name: &str| Series::new(name, Kind::Gauge).quantum(1_024, 1);
    let pressure = |what: &str| {
        Series::new(
            &format!("node_pressure_{what}_seconds_total"),
            Kind::Counter,
        )
        .quantum(1, 1_000)
    };
    let mut series = vec![
        Series::new("node_load1", Kind::Gauge).quantum(1, 100),
        kib("node_memory_MemTotal_bytes"),
        kib("node_memory_MemAvailable_bytes"),
        kib("node_memory_SwapTotal_bytes"),
        kib("node_memory_SwapFree_bytes"),
        pressure("cpu_waiting"),
        pressure("memory_stalled"),
        pressure("io_stalled"),
    ];
    for mode in ["idle", "user", "system"] {
        let cpu = Series::new("node_cpu_seconds_total", Kind::Counter)
            .label("cpu", "0")
            .label("mode", mode);
        series.push(cpu.quantum(1, 100));
    }
    for (device, mount) in [("/dev/sda1", "/"), ("/dev/sdb1", "/data")] {
        for (what, mul) in [
            ("size_bytes", 1_024),
            ("avail_bytes", 1_024),
            ("free_bytes", 1_024),
            ("files", 1),
            ("files_free", 1),
            ("readonly", 1),
        ] {
            let one = Series::new(&format!("node_filesystem_{what}"), Kind::Gauge)
                .label("device", device)
                .label("fstype", "ext4")
                .label("mountpoint", mount);
            series.push(one.quantum(mul, 1));
        }
    }
    Schema::new(series)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weekend_is_told_as_it_was() {
        let mut weekend = Weekend::new();
        weekend.run();
        let review = weekend.review.as_ref().expect("the night is sealed");
        assert_eq!(review.id, "N-2026-10-05");
        let subjects = |rows: &[dawnwatch_proto::review::Row]| -> Vec<String> {
            rows.iter().map(|row| row.subject.clone()).collect()
        };
        let critical = subjects(&review.critical);
        assert!(
            critical.contains(&"db02".to_owned()) && critical.contains(&"file01".to_owned()),
            "{critical:?}"
        );
        let healed = subjects(&review.healed);
        assert!(
            healed.contains(&"web04".to_owned()) && healed.contains(&"report01".to_owned()),
            "{healed:?}"
        );
        let about = |name: &str| {
            weekend.messages.iter().filter(|message| matches!(&message.content, Content::Incident(c) if c.incident.name == name)).count()
        };
        assert!(
            about("db02") >= 1 && about("web04") == 0,
            "only what is critical pages at night"
        );
        let told = tell();
        assert!(
            told.lines().all(|line| line.chars().count() <= 100),
            "{told}"
        );
        assert_eq!(told, tell(), "the same weekend comes out each time");
    }
}
