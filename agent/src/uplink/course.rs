//! What one connection says and does with what it hears, without its sockets: the agent's half of the stream. It asks no clock
//! and waits for nothing, so a simulation drives the same code.

use std::collections::VecDeque;
use std::time::Duration;

use dawnwatch_proto::event::Started;
use dawnwatch_proto::offset::Most;
use dawnwatch_proto::pb::{self, from_agent, from_server};
use dawnwatch_proto::wire::{Encoder, ITEMS_MAX, SCHEMAS_RECENT};
use dawnwatch_proto::{Item, PROTOCOL, Schema};
use jiff::Timestamp;

use super::Shared;
use super::window::Window;
use crate::spool::{Cursor, Entry};

/// Bytes of one batch: small enough to lie between two heartbeats on a slow link, and in seven MiB of memory.
const BATCH_BYTES_MAX: usize = 64 * 1024;

/// Messages that wait for the connection before heartbeats are left out: a batch, its schema, a heartbeat.
const OUTBOX_MAX: usize = 4;

/// How long after a live tick a heartbeat is due, in tenths of the heartbeat's interval: the next tick needs no help.
const LIVE_SLACK_TENTHS: u64 = 12;

/// The server is told again how its clock was heard once that has changed by this: the host's own clock was set.
const CLOCK_MOVED_MS: u64 = 100;

/// What the clocks say.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// The wall clock.
    pub wall: Timestamp,
    /// `CLOCK_BOOTTIME`, milliseconds.
    pub boot_ms: u64,
}

/// How a session, or the attempt at one, ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// Connect anew at once.
    Again(String),
    /// The connection is lost: try again by and by.
    Later(String),
    /// The server asked for this much time.
    After(Duration, String),
    /// The server does not accept the certificate: a fresh one may help.
    Unauthenticated(String),
    /// The server will not have this host as it is.
    Refused(String),
}

/// The course of one stream.
#[derive(Debug)]
pub struct Course {
    /// Encoded and not yet handed to the connection.
    outbox: VecDeque<pb::FromAgent>,
    encoder: Encoder,
    /// Ids of the hello's epochs, by index.
    epochs: Vec<u64>,
    /// Epoch under way, by index, and the place in it.
    at: usize,
    cursor: Cursor,
    held: Vec<u64>,
    /// The spool's generation at the hello: another one means an epoch that this stream cannot name.
    generation: u64,
    window: Window,
    /// When the server last heard what is true now.
    live_ms: u64,
    caught_up: bool,
    /// Longest time without a word to the server.
    heartbeat: Duration,
    /// The server's time by its last words, and when they came by `CLOCK_BOOTTIME`.
    server: Option<(i64, u64)>,
    /// What it was told of that.
    told_ms: Option<i64>,
    most: Most,
}

impl Course {
    /// Begins a stream: its first message, which names what the spool holds.
    #[must_use]
    pub fn begin(
        shared: &Shared,
        facts: &Started,
        heartbeat: Duration,
        now: Now,
    ) -> (Course, pb::FromAgent) {
        let spans = shared.epochs();
        let epochs: Vec<u64> = spans.iter().map(|span| span.id).collect();
        let named = spans.iter().map(|span| pb::Epoch {
            id: span.id,
            first_seq: span.first_seq,
            last_seq: span.last_seq,
        });
        let hello = pb::Hello {
            protocol: PROTOCOL,
            agent_version: facts.agent_version.clone(),
            hostname: facts.hostname.clone(),
            boot_id: facts.boot_id.clone(),
            wall_ms: now.wall.as_millisecond(),
            boottime_ms: now.boot_ms,
            epochs: named.collect(),
        };
        let course = Course {
            outbox: VecDeque::new(),
            encoder: Encoder::default(),
            cursor: Cursor::new(epochs.first().copied().unwrap_or(0), 0),
            epochs,
            at: 0,
            held: Vec::new(),
            generation: shared.with_spool(|spool| spool.generation()),
            window: Window::new(),
            live_ms: now.boot_ms,
            caught_up: false,
            heartbeat,
            server: None,
            told_ms: None,
            most: Most::default(),
        };
        (course, message(from_agent::Body::Hello(hello)))
    }

    /// The server's first message: what it holds is acknowledged, and what comes after it is sent.
    ///
    /// # Errors
    /// How the attempt ended, where it is no welcome.
    pub fn welcome(
        &mut self,
        shared: &Shared,
        first: Option<pb::FromServer>,
        now: Now,
    ) -> Result<pb::Welcome, End> {
        let mut welcome = match first.and_then(|m| m.body) {
            Some(from_server::Body::Welcome(welcome)) => welcome,
            Some(from_server::Body::Drain(drain)) => return Err(drained(&drain)),
            Some(
                from_server::Body::Ack(_)
                | from_server::Body::Settings(_)
                | from_server::Body::Probe(_),
            )
            | None => return Err(End::Later("the server did not say welcome".to_owned())),
        };
        if let Some(settings) = welcome.settings.take() {
            shared.settings(settings);
        }
        self.held = std::mem::take(&mut welcome.held);
        self.held.resize(self.epochs.len(), 0);
        for (epoch, held) in self.epochs.iter().zip(&self.held) {
            if *held > 0 {
                shared.ack(*epoch, *held);
            }
        }
        self.live_ms = now.boot_ms;
        self.hears_time(welcome.server_wall_ms, now);
        self.begin_epoch(0);
        if shared.backlog() > 0 {
            // The present goes ahead of what waited, also where the server has no room for that; a tick alone may have waited long.
            self.beat(shared, now);
        }
        Ok(welcome)
    }

    fn begin_epoch(&mut self, at: usize) {
        self.at = at;
        if let (Some(id), Some(held)) = (self.epochs.get(at), self.held.get(at)) {
            self.cursor = Cursor::new(*id, held.saturating_add(1));
        }
    }

    /// The server said what time it is. From here on its words show this host's clock too far ahead, by what they took.
    fn hears_time(&mut self, server_wall_ms: i64, now: Now) {
        if server_wall_ms == 0 {
            return;
        }
        self.server = Some((server_wall_ms, now.boot_ms));
        self.told_ms = None;
        self.most.heard(ahead_ms(server_wall_ms, now.boot_ms, now));
    }

    /// How far this host's clock is ahead by the server's last words; none where the server knows.
    fn news_of_time(&mut self, now: Now) -> Option<i64> {
        let (server_wall_ms, boot_ms) = self.server?;
        let most_ms = ahead_ms(server_wall_ms, boot_ms, now);
        let is_known = |told: i64| told.abs_diff(most_ms) < CLOCK_MOVED_MS;
        if self.told_ms.is_some_and(is_known) {
            return None;
        }
        self.told_ms = Some(most_ms);
        self.told_ms
    }

    /// The id of an epoch that the hello named, by its place there.
    #[must_use]
    pub fn epoch_id(&self, index: u32) -> Option<u64> {
        self.epochs.get(usize::try_from(index).ok()?).copied()
    }

    /// The next message for the connection.
    pub fn next_message(&mut self) -> Option<pb::FromAgent> {
        self.outbox.pop_front()
    }

    /// Whether something waits for the connection.
    #[must_use]
    pub fn has_message(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Whether all that the spool has was put into batches.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.caught_up
    }

    /// Puts the next batch into the outbox, if there is one and room for it.
    ///
    /// # Errors
    /// How the stream ends, where it must.
    pub fn fill(&mut self, shared: &Shared, now: Now) -> Result<(), End> {
        if self.window.is_dead(now.boot_ms) {
            let why = "the server acknowledged nothing for three minutes";
            return Err(End::Later(why.to_owned()));
        }
        if shared.with_spool(|spool| spool.generation()) != self.generation {
            return Err(End::Again("the spool began a new epoch".to_owned()));
        }
        while self.outbox.is_empty() && self.window.has_room() {
            let cursor = &mut self.cursor;
            let entries = shared.with_spool(|spool| spool.read(cursor, ITEMS_MAX, BATCH_BYTES_MAX));
            let mut rest = &entries[..];
            while !rest.is_empty() {
                if self.encoder.is_full() {
                    let why = "the series changed so often that the server remembers no more";
                    return Err(End::Again(why.to_owned()));
                }
                let (batch, later) = rest.split_at(of_few_schemas(rest));
                self.push_batch(batch, now);
                rest = later;
            }
            let epoch = self.epochs.get(self.at).copied().unwrap_or(0);
            let waiting = shared.with_spool(|spool| spool.last_seq(epoch));
            let is_read = self.cursor.next_seq() > waiting;
            // A disk with a bad moment gives nothing though there is something: no epoch overtakes it.
            if entries.is_empty() && is_read && self.at + 1 < self.epochs.len() {
                self.begin_epoch(self.at + 1);
                continue;
            }
            self.caught_up = is_read && self.at + 1 >= self.epochs.len();
            if self.caught_up && !entries.is_empty() {
                self.live_ms = now.boot_ms;
            }
            break;
        }
        Ok(())
    }

    fn push_batch(&mut self, entries: &[Entry], now: Now) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return;
        };
        let epoch = u32::try_from(self.at).unwrap_or(u32::MAX);
        let mut items = Vec::with_capacity(entries.len());
        let mut bytes = 0;
        for entry in entries {
            let schema = || entry.schema.as_deref().cloned().unwrap_or_else(none);
            let (announce, item) = self.encoder.item(&entry.item, schema);
            if let Some(schema) = announce {
                self.outbox
                    .push_back(message(from_agent::Body::Schema(schema)));
            }
            bytes += entry.bytes;
            items.push(item);
        }
        let batch = pb::Batch {
            epoch,
            first_seq: first.seq,
            items,
            most_ms: self.news_of_time(now),
        };
        self.outbox
            .push_back(message(from_agent::Body::Batch(batch)));
        self.window
            .sent(epoch, last.last_seq(), bytes, now.boot_ms, !self.caught_up);
    }

    /// Milliseconds until the server must hear something.
    #[must_use]
    pub fn idle_ms(&self, now: Now) -> u64 {
        let interval = u64::try_from(self.heartbeat.as_millis()).unwrap_or(u64::MAX);
        let due = if self.caught_up {
            interval / 10 * LIVE_SLACK_TENTHS
        } else {
            interval
        };
        (self.live_ms + due).saturating_sub(now.boot_ms)
    }

    /// Nothing live was sent for a while: a heartbeat, ahead of the backlog.
    pub fn beat(&mut self, shared: &Shared, now: Now) {
        self.live_ms = now.boot_ms;
        if self.outbox.len() > OUTBOX_MAX {
            // The connection takes nothing: HTTP/2 keep-alive will end it; heartbeats must not pile up meanwhile.
            return;
        }
        let mut heartbeat = pb::Heartbeat {
            wall_ms: now.wall.as_millisecond(),
            boottime_ms: now.boot_ms,
            backlog: shared.backlog(),
            tick: None,
            most_ms: self.news_of_time(now),
        };
        if let Some((tick, schema)) = shared.latest()
            && !self.encoder.is_full()
        {
            let (announce, tick) = self.encoder.tick(&tick, || Schema::clone(&schema));
            if let Some(schema) = announce {
                // A server whose disk is full takes no new schema: that this host is alive goes ahead of it.
                let bare = message(from_agent::Body::Heartbeat(heartbeat.clone()));
                let schema = message(from_agent::Body::Schema(schema));
                self.outbox.extend([bare, schema]);
            }
            heartbeat.tick = Some(tick);
        }
        self.outbox
            .push_back(message(from_agent::Body::Heartbeat(heartbeat)));
    }

    /// Takes what the server says after its welcome.
    ///
    /// # Errors
    /// How the stream ends, where it must.
    pub fn heard(&mut self, shared: &Shared, message: pb::FromServer, now: Now) -> Result<(), End> {
        match message.body {
            Some(from_server::Body::Ack(ack)) => {
                if ack.server_wall_ms != 0 {
                    self.hears_time(ack.server_wall_ms, now);
                    let most_ms = ahead_ms(ack.server_wall_ms, now.boot_ms, now);
                    let ms = ack
                        .least_ms
                        .map_or(most_ms, |least_ms| self.most.offset_ms(least_ms));
                    shared.offset().set(ms);
                }
                let index = usize::try_from(ack.epoch).unwrap_or(usize::MAX);
                let Some(epoch) = self.epochs.get(index) else {
                    tracing::debug!(epoch = ack.epoch, "acknowledgement of an epoch not named");
                    return Ok(());
                };
                self.window.acked(ack.epoch, ack.seq, now.boot_ms);
                shared.ack(*epoch, ack.seq);
            }
            Some(from_server::Body::Settings(settings)) => shared.settings(settings),
            Some(from_server::Body::Drain(drain)) => return Err(drained(&drain)),
            // Single probes are not asked for by any server so far: targets come with the settings.
            Some(from_server::Body::Probe(_) | from_server::Body::Welcome(_)) | None => {}
        }
        Ok(())
    }
}

/// The host's clock minus the server's, by words that came at this `CLOCK_BOOTTIME`; also where the clock was set since.
fn ahead_ms(server_wall_ms: i64, boot_ms: u64, now: Now) -> i64 {
    let since = i64::try_from(now.boot_ms.saturating_sub(boot_ms)).unwrap_or(i64::MAX);
    let server_ms = server_wall_ms.saturating_add(since);
    now.wall.as_millisecond().saturating_sub(server_ms)
}

/// How many of the first entries have no more schemas than the server remembers: all schemas of a batch are told before it.
fn of_few_schemas(entries: &[Entry]) -> usize {
    let mut schemas = Vec::new();
    let is_too_many = |entry: &Entry| {
        if let Item::Tick(tick) = &entry.item
            && !schemas.contains(&tick.schema)
        {
            schemas.push(tick.schema);
        }
        schemas.len() > SCHEMAS_RECENT
    };
    let too_many = entries.iter().position(is_too_many);
    too_many.unwrap_or(entries.len())
}

fn none() -> Schema {
    Schema::new(Vec::new())
}

fn message(body: from_agent::Body) -> pb::FromAgent {
    pb::FromAgent { body: Some(body) }
}

fn drained(drain: &pb::Drain) -> End {
    let after = Duration::from_millis(u64::from(drain.retry_after_ms));
    End::After(after, "the server is stopping".to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use dawnwatch_proto::wire::Decoder;
    use dawnwatch_proto::{Kind, Series, Tick};
    use dawnwatch_segment::sim::SimDisk;

    use super::*;
    use crate::spool::{Limits, Spool, Start, sample};

    fn at(wall_ms: i64, boot_ms: u64) -> Now {
        Now {
            wall: Timestamp::from_millisecond(wall_ms).unwrap(),
            boot_ms,
        }
    }

    fn said(body: from_server::Body) -> pb::FromServer {
        pb::FromServer { body: Some(body) }
    }

    /// What the next batch tells of the server's time.
    fn next_most(course: &mut Course, shared: &Shared, now: Now) -> Option<i64> {
        let (tick, schema) = sample::tick(now.boot_ms);
        shared.tick(tick, &schema);
        course.fill(shared, now).unwrap();
        let messages = std::iter::from_fn(|| course.next_message());
        let mut batches = messages.filter_map(|message| match message.body {
            Some(from_agent::Body::Batch(batch)) => Some(batch.most_ms),
            Some(_) | None => None,
        });
        batches.next().flatten()
    }

    fn ack(course: &mut Course, shared: &Shared, least_ms: Option<i64>, server_ms: i64, now: Now) {
        let ack = pb::Ack {
            server_wall_ms: server_ms,
            least_ms,
            ..pb::Ack::default()
        };
        let message = said(from_server::Body::Ack(ack));
        course.heard(shared, message, now).unwrap();
    }

    fn shared() -> Shared {
        let limits = Limits {
            bytes_max: 1 << 24,
            items_max: u64::MAX,
        };
        let start = Start {
            id: 1,
            at: sample::time(0),
        };
        let disk = Arc::new(SimDisk::new(1));
        let spool = Spool::open(disk, Path::new("/spool"), limits, start).unwrap();
        Shared::new(spool, None)
    }

    fn begin(shared: &Shared, held: u64) -> Course {
        let (facts, heartbeat) = (Started::default(), Duration::from_secs(10));
        let now = at(5_000, 100);
        let (mut course, _) = Course::begin(shared, &facts, heartbeat, now);
        let welcome = from_server::Body::Welcome(pb::Welcome {
            held: vec![held],
            ..pb::Welcome::default()
        });
        course.welcome(shared, Some(said(welcome)), now).unwrap();
        course
    }

    /// A tick of a series that no other has.
    fn own_series(shared: &Shared, number: u64) {
        let series = vec![Series::new(&format!("disk{number}"), Kind::Gauge)];
        let schema = Arc::new(Schema::new(series));
        let tick = Tick {
            time: sample::time(number),
            schema: schema.id(),
            row: vec![1],
        };
        shared.tick(tick, &schema);
    }

    /// Hands all that waits over to a server; the last number that it has then.
    fn deliver(course: &mut Course, server: &mut Decoder, held: u64) -> u64 {
        let mut last = held;
        while let Some(message) = course.next_message() {
            match message.body.unwrap() {
                from_agent::Body::Schema(schema) => drop(server.schema(schema).unwrap()),
                from_agent::Body::Batch(batch) => {
                    let first = batch.first_seq;
                    last = first + server.batch(batch).unwrap().len() as u64 - 1;
                }
                from_agent::Body::Heartbeat(heartbeat) => {
                    if let Some(tick) = heartbeat.tick {
                        server.tick(tick).unwrap();
                    }
                }
                from_agent::Body::Hello(_) => panic!("a second hello"),
            }
        }
        last
    }

    #[test]
    fn a_backlog_of_more_series_than_a_connection_may_name_goes_over_several() {
        let shared = shared();
        let ticks = 1_500;
        (1..=ticks).for_each(|number| own_series(&shared, number));
        let (mut held, mut connections) = (0, 0);
        let mut ends = Vec::new();
        while shared.backlog() > 0 {
            let (mut course, mut server) = (begin(&shared, held), Decoder::default());
            connections += 1;
            assert!(connections < 5, "it goes round: {held} held, {ends:?}");
            let mut filled = Ok(());
            while filled.is_ok() && shared.backlog() > 0 {
                filled = course.fill(&shared, at(6_000, 1_100));
                course.beat(&shared, at(6_000, 1_100));
                held = deliver(&mut course, &mut server, held);
                let ack = from_server::Body::Ack(pb::Ack {
                    seq: held,
                    ..pb::Ack::default()
                });
                course.heard(&shared, said(ack), at(6_000, 1_100)).unwrap();
            }
            ends.extend(filled.err());
        }
        assert_eq!(held, ticks);
        assert!(matches!(&ends[..], [End::Again(_)]), "{ends:?}");
    }

    #[test]
    fn a_single_tick_that_waited_does_not_go_ahead_of_a_sign_of_life() {
        let shared = shared();
        own_series(&shared, 1);
        let mut course = begin(&shared, 0);
        course.fill(&shared, at(6_000, 1_100)).unwrap();
        let first = course.next_message().and_then(|message| message.body);
        // A server whose disk is full refuses what comes behind it.
        assert!(
            matches!(first, Some(from_agent::Body::Heartbeat(_))),
            "{first:?}"
        );
        // Where nothing waits, nothing need be said.
        assert!(begin(&shared, 1).next_message().is_none());
    }

    #[test]
    fn what_the_server_said_of_its_time_is_told_back_once() {
        let shared = shared();
        let (mut course, _) = Course::begin(
            &shared,
            &Started::default(),
            Duration::from_secs(10),
            at(5_000, 100),
        );
        let welcome = from_server::Body::Welcome(pb::Welcome {
            server_wall_ms: 5_000,
            ..pb::Welcome::default()
        });
        // Its way took 800 ms.
        let now = at(5_800, 900);
        course.welcome(&shared, Some(said(welcome)), now).unwrap();
        assert_eq!(next_most(&mut course, &shared, at(6_000, 1_100)), Some(800));
        assert_eq!(next_most(&mut course, &shared, at(16_000, 11_100)), None);
        // The host's clock is set forward by ten seconds: the words of then show that.
        assert_eq!(
            next_most(&mut course, &shared, at(36_000, 21_100)),
            Some(10_800)
        );
        ack(&mut course, &shared, None, 25_500, at(36_500, 21_600));
        assert_eq!(shared.offset().ms(), Some(11_000));
        assert_eq!(
            next_most(&mut course, &shared, at(36_600, 21_700)),
            Some(11_000)
        );
        // With both ways known, the middle; and nothing where the round trip explains it all.
        ack(
            &mut course,
            &shared,
            Some(9_000),
            26_500,
            at(37_500, 22_600),
        );
        assert_eq!(shared.offset().ms(), Some(10_000));
        ack(&mut course, &shared, Some(-900), 37_000, at(37_800, 22_900));
        assert_eq!(shared.offset().ms(), Some(0));
    }
}
