//! What one stream says, without its sockets: messages in; out what the journal is told and what is acknowledged. It asks no
//! clock and waits for nothing, so a simulation drives the same code.

use dawnwatch_engine::input::{Batch, Heartbeat, Input};
use dawnwatch_proto::offset::Most;
use dawnwatch_proto::pb::{self, from_agent};
use dawnwatch_proto::wire::Decoder;
use dawnwatch_proto::{HostId, Item, PROTOCOL};
use jiff::Timestamp;
use tonic::Status;

use crate::journal::Heard;

/// In quiet running an acknowledgement is sent this often, if there is something to acknowledge. Nothing waits for it; but an agent
/// that has heard nothing for 15 s asks whether anybody is there, and its question and the answer weigh twice as much.
const QUIET_ACK_EVERY_MS: u64 = 14_000;

/// How often an acknowledgement says what time it is, and what the agent's clock showed: clocks drift slowly.
const TIME_EVERY_MS: u64 = 55_000;

/// An agent that ticks faster than usual must not run into its bound of 64 batches in flight before the minute is over.
const BATCHES_UNACKED: u32 = 16;

/// A single tick this close to the expected time is live and shows the agent's clock; older ones are backlog.
const LIVE_MS: i64 = 15_000;

/// Epochs that one hello may name: one a start of the agent that its spool still remembers.
const EPOCHS_MAX: usize = 256;

/// What a message makes for the journal.
#[derive(Debug)]
pub enum Took {
    /// It belongs to the order of the stream: a schema or a batch.
    Ordered(Input),
    /// It stands beside it: what is true now.
    Beside(Input),
}

/// One stream, from its hello on.
#[derive(Debug)]
pub struct Talk {
    host: HostId,
    decoder: Decoder,
    epochs: Vec<u64>,
    /// Next sequence number of each epoch.
    next: Vec<u64>,
    /// The agent's clock minus the server's at the hello, milliseconds.
    offset_ms: i64,
    /// How large it can be, by what the agent heard of this end.
    most: Most,
    /// The agent's clock minus the server's by its last live message, which takes its time.
    least_ms: Option<i64>,
    acked_ms: u64,
    /// When an acknowledgement said what time it is.
    timed_ms: Option<u64>,
    /// An acknowledgement that waits for its time.
    waiting: Option<(u32, u64)>,
    /// Batches since the last acknowledgement.
    unacked: u32,
    /// Epoch and last number of the latest batch that was backlog, or an event: up to there everything is acknowledged at once.
    urgent: (u32, u64),
    /// Whether a live tick has come: the first is acknowledged at once, for who installs an agent waits for it.
    is_live: bool,
}

impl Talk {
    /// The hello that a stream begins with.
    ///
    /// # Errors
    /// The status that the stream is refused with.
    pub fn hello(message: Option<pb::FromAgent>) -> Result<pb::Hello, Status> {
        let Some(pb::FromAgent {
            body: Some(from_agent::Body::Hello(hello)),
        }) = message
        else {
            return Err(Status::invalid_argument(
                "the first message must be a hello",
            ));
        };
        if hello.protocol.abs_diff(PROTOCOL) > 1 {
            let text = format!(
                "protocol {} is not spoken here ({PROTOCOL} is): upgrade the older side",
                hello.protocol
            );
            return Err(Status::failed_precondition(text));
        }
        if hello.epochs.len() > EPOCHS_MAX {
            return Err(Status::invalid_argument(format!(
                "{} epochs, limit {EPOCHS_MAX}",
                hello.epochs.len()
            )));
        }
        Ok(hello)
    }

    /// Begins after a hello that came in at `wall`, of whose epochs so much is held.
    #[must_use]
    pub fn new(host: HostId, hello: &pb::Hello, held: &[u64], wall: Timestamp) -> Talk {
        Talk {
            host,
            decoder: Decoder::default(),
            epochs: hello.epochs.iter().map(|epoch| epoch.id).collect(),
            next: held.iter().map(|held| held.saturating_add(1)).collect(),
            offset_ms: hello.wall_ms.saturating_sub(wall.as_millisecond()),
            most: Most::default(),
            least_ms: None,
            acked_ms: 0,
            timed_ms: None,
            waiting: None,
            unacked: 0,
            urgent: (0, 0),
            is_live: false,
        }
    }

    /// Takes a message that came in at `wall`; none where it says nothing to the journal.
    ///
    /// # Errors
    /// The status that the stream ends with.
    pub fn take(
        &mut self,
        message: pb::FromAgent,
        wall: Timestamp,
    ) -> Result<Option<Took>, Status> {
        match message.body {
            Some(from_agent::Body::Schema(schema)) => {
                let host = self.host;
                let schema = self.decoder.schema(schema).map_err(malformed)?;
                Ok(Some(Took::Ordered(Input::Schema { host, schema })))
            }
            Some(from_agent::Body::Batch(batch)) => {
                let batch = self.batch(batch, wall)?;
                Ok(Some(Took::Ordered(Input::Batch(batch))))
            }
            Some(from_agent::Body::Heartbeat(heartbeat)) => {
                let heartbeat = self.heartbeat(heartbeat, wall)?;
                Ok(Some(Took::Beside(Input::Heartbeat(heartbeat))))
            }
            Some(from_agent::Body::Hello(_)) => {
                Err(Status::invalid_argument("a second hello on one stream"))
            }
            // A message of a later protocol: ignored, as the protocol's neighbours agreed.
            None => Ok(None),
        }
    }

    fn batch(&mut self, batch: pb::Batch, wall: Timestamp) -> Result<Batch, Status> {
        let number = batch.epoch;
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        let (Some(&epoch), Some(&next)) = (self.epochs.get(index), self.next.get(index)) else {
            return Err(Status::invalid_argument(format!(
                "epoch {number} was not in the hello"
            )));
        };
        let (first_seq, most_ms) = (batch.first_seq, batch.most_ms);
        if first_seq == 0 || (first_seq > next && next > 1) {
            let text = format!(
                "numbers {next} to {first_seq} of an epoch are missing: send a gap or go back"
            );
            return Err(Status::failed_precondition(text));
        }
        let items = self.decoder.batch(batch).map_err(malformed)?;
        let Some(end) = items
            .iter()
            .try_fold(first_seq, |seq, item| seq.checked_add(item.width()))
        else {
            return Err(Status::invalid_argument("sequence numbers past 2^64"));
        };
        self.next[index] = end.max(next);
        let least_ms = self.live_offset(&items, wall);
        let offset_ms = self.offset(least_ms, most_ms);
        if offset_ms.is_none() || !self.is_live {
            self.urgent = (number, end - 1);
        }
        self.is_live |= offset_ms.is_some();
        Ok(Batch {
            host: self.host,
            epoch,
            first_seq,
            items,
            offset_ms,
        })
    }

    /// The agent's clock minus the server's, without what a round trip explains.
    fn offset(&mut self, least_ms: Option<i64>, most_ms: Option<i64>) -> Option<i64> {
        if let Some(most_ms) = most_ms {
            self.most.heard(most_ms);
        }
        let least_ms = least_ms?;
        self.least_ms = Some(least_ms);
        Some(self.most.offset_ms(least_ms))
    }

    /// The agent's clock minus the server's as a live tick shows it; none for backlog and events.
    fn live_offset(&self, items: &[Item], wall: Timestamp) -> Option<i64> {
        let [Item::Tick(tick)] = items else {
            return None;
        };
        let offset = tick
            .time
            .as_millisecond()
            .saturating_sub(wall.as_millisecond());
        (offset.saturating_sub(self.offset_ms).saturating_abs() < LIVE_MS).then_some(offset)
    }

    fn heartbeat(
        &mut self,
        heartbeat: pb::Heartbeat,
        wall: Timestamp,
    ) -> Result<Heartbeat, Status> {
        let row = match heartbeat.tick {
            Some(tick) => {
                let tick = self.decoder.tick(tick).map_err(malformed)?;
                Some((tick.schema, tick.row))
            }
            None => None,
        };
        let least_ms = heartbeat.wall_ms.saturating_sub(wall.as_millisecond());
        let offset_ms = self.offset(Some(least_ms), heartbeat.most_ms);
        Ok(Heartbeat {
            host: self.host,
            offset_ms: offset_ms.unwrap_or(least_ms),
            backlog: heartbeat.backlog,
            row,
        })
    }

    /// Something is durable, heard at `boot_ms`: what is acknowledged of it, at once while draining, else when it is time.
    ///
    /// # Errors
    /// The status that the stream ends with, where nothing was taken in.
    pub fn durable(
        &mut self,
        heard: Heard,
        boot_ms: u64,
        wall: Timestamp,
    ) -> Result<Vec<pb::Ack>, Status> {
        let (epoch, seq) = heard.map_err(|full| Status::resource_exhausted(full.to_string()))?;
        let index = self.epochs.iter().position(|id| *id == epoch);
        let Some(index) = index.and_then(|index| u32::try_from(index).ok()) else {
            return Ok(Vec::new());
        };
        let mut acks = Vec::new();
        if self.waiting.is_some_and(|(other, _)| other != index) {
            acks.extend(self.ack(true, boot_ms, wall));
        }
        self.waiting = Some((index, seq));
        self.unacked += 1;
        let is_urgent = index != self.urgent.0 || seq <= self.urgent.1;
        let at_once = is_urgent || self.unacked >= BATCHES_UNACKED;
        acks.extend(self.ack(at_once, boot_ms, wall));
        Ok(acks)
    }

    /// Milliseconds until the acknowledgement that waits is due; none where none waits.
    #[must_use]
    pub fn ack_in_ms(&self, boot_ms: u64) -> Option<u64> {
        let due_ms = self.acked_ms + QUIET_ACK_EVERY_MS;
        self.waiting.map(|_| due_ms.saturating_sub(boot_ms))
    }

    /// The acknowledgement that waits, where it is due or wanted at once. At `wall` it leaves.
    pub fn ack(&mut self, at_once: bool, boot_ms: u64, wall: Timestamp) -> Option<pb::Ack> {
        if !at_once && self.ack_in_ms(boot_ms)? > 0 {
            return None;
        }
        let (epoch, seq) = self.waiting.take()?;
        (self.acked_ms, self.unacked) = (boot_ms, 0);
        let tells = self.timed_ms.is_none_or(|ms| boot_ms >= ms + TIME_EVERY_MS);
        if !tells {
            return Some(pb::Ack {
                epoch,
                seq,
                ..pb::Ack::default()
            });
        }
        self.timed_ms = Some(boot_ms);
        Some(pb::Ack {
            epoch,
            seq,
            server_wall_ms: wall.as_millisecond(),
            least_ms: self.least_ms,
        })
    }
}

#[allow(clippy::needless_pass_by_value, reason = "shaped for map_err")]
fn malformed(error: dawnwatch_proto::Malformed) -> Status {
    Status::invalid_argument(error.to_string())
}

#[cfg(test)]
mod tests {
    use dawnwatch_proto::event::GoodbyeReason;
    use dawnwatch_proto::wire::Encoder;
    use dawnwatch_proto::{Event, EventBody, Schema, Tick};

    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_790_000_000_000 + ms).unwrap()
    }

    fn said(body: from_agent::Body) -> pb::FromAgent {
        pb::FromAgent { body: Some(body) }
    }

    /// A stream of a host whose clock is ahead by `clock_ms`, over a line that takes `up_ms` and `down_ms`: what the server reckons
    /// from a tick and, ten seconds later, from a heartbeat.
    fn offsets(clock_ms: i64, up_ms: i64, down_ms: i64, tells: bool) -> [Option<i64>; 2] {
        let hello = pb::Hello {
            wall_ms: at(clock_ms).as_millisecond(),
            epochs: vec![pb::Epoch::default()],
            ..pb::Hello::default()
        };
        let mut talk = Talk::new(HostId(1), &hello, &[0], at(up_ms));
        let mut encoder = Encoder::default();
        let tick = tick(at(3_000 + clock_ms));
        let (schema, item) = encoder.item(&tick, || Schema::new(Vec::new()));
        let schema = said(from_agent::Body::Schema(schema.unwrap()));
        talk.take(schema, at(3_000 + up_ms)).unwrap();
        let batch = said(from_agent::Body::Batch(pb::Batch {
            epoch: 0,
            first_seq: 1,
            items: vec![item],
            most_ms: tells.then_some(clock_ms + down_ms),
        }));
        let took = talk.take(batch, at(3_000 + up_ms)).unwrap();
        let Some(Took::Ordered(Input::Batch(batch))) = took else {
            panic!("{took:?}");
        };
        let beat = said(from_agent::Body::Heartbeat(pb::Heartbeat {
            wall_ms: at(13_000 + clock_ms).as_millisecond(),
            ..pb::Heartbeat::default()
        }));
        let took = talk.take(beat, at(13_000 + up_ms)).unwrap();
        let Some(Took::Beside(Input::Heartbeat(beat))) = took else {
            panic!("{took:?}");
        };
        talk.waiting = Some((0, 1));
        let ack = talk.ack(true, 0, at(13_000)).unwrap();
        assert_eq!(ack.least_ms, Some(clock_ms - up_ms), "the agent is told");
        [batch.offset_ms, Some(beat.offset_ms)]
    }

    #[test]
    fn a_slow_line_is_no_wrong_clock() {
        for (clock_ms, up_ms, down_ms, bare_ms, told_ms) in [
            (0, 0, 0, 0, 0),
            (0, 30, 20, -30, 0),
            (0, 2_300, 850, -2_300, 0),
            (-900, 2_300, 950, -3_200, 0),
            (-5_000, 900, 900, -5_900, -5_000),
            (-5_000, 2_300, 850, -7_300, -5_725),
            (300_000, 2_300, 850, 297_700, 299_275),
            (0, 12_000, 850, -12_000, 0),
        ] {
            for (tells, want_ms) in [(false, bare_ms), (true, told_ms)] {
                let case = (clock_ms, up_ms, down_ms, tells);
                let found = offsets(clock_ms, up_ms, down_ms, tells);
                assert_eq!(found, [Some(want_ms); 2], "{case:?}");
            }
        }
    }

    /// A batch of one item; the schema of a tick goes ahead of it.
    fn bring(talk: &mut Talk, first_seq: u64, item: &Item, wall: Timestamp) -> Batch {
        let (schema, item) = Encoder::default().item(item, || Schema::new(Vec::new()));
        if let Some(schema) = schema {
            let schema = said(from_agent::Body::Schema(schema));
            talk.take(schema, wall).unwrap();
        }
        let batch = said(from_agent::Body::Batch(pb::Batch {
            epoch: 0,
            first_seq,
            items: vec![item],
            most_ms: None,
        }));
        match talk.take(batch, wall).unwrap() {
            Some(Took::Ordered(Input::Batch(batch))) => batch,
            took => panic!("{took:?}"),
        }
    }

    fn tick(time: Timestamp) -> Item {
        Item::Tick(Tick {
            time,
            schema: Schema::new(Vec::new()).id(),
            row: Vec::new(),
        })
    }

    #[test]
    fn a_hello_may_say_any_time() {
        let year = i64::from(i32::MAX) * 1_000;
        for (hello_ms, tick_ms, is_live) in [
            (1_790_000_000_000, 1_790_000_003_000, true),
            (i64::MAX, 1_790_000_003_000, false),
            (i64::MAX, -year, false),
            (i64::MIN, 1_790_000_003_000, false),
            (i64::MIN, year, false),
            (0, -year, false),
        ] {
            let hello = pb::Hello {
                wall_ms: hello_ms,
                epochs: vec![pb::Epoch::default()],
                ..pb::Hello::default()
            };
            let mut talk = Talk::new(HostId(1), &hello, &[0], at(0));
            let item = tick(Timestamp::from_millisecond(tick_ms).unwrap());
            let batch = bring(&mut talk, 1, &item, at(3_000));
            let case = (hello_ms, tick_ms);
            assert_eq!(batch.offset_ms.is_some(), is_live, "{case:?}");
        }
    }

    #[test]
    fn an_event_is_acknowledged_at_once_though_a_tick_followed_it() {
        let hello = pb::Hello {
            wall_ms: at(0).as_millisecond(),
            epochs: vec![pb::Epoch {
                id: 7,
                ..pb::Epoch::default()
            }],
            ..pb::Hello::default()
        };
        let mut talk = Talk::new(HostId(1), &hello, &[0], at(0));
        let event = Item::Event(Event {
            time: at(12_000),
            body: EventBody::Goodbye(GoodbyeReason::Stopped),
        });
        let acked = |talk: &mut Talk, seq: u64, ms: u64| {
            let acks = talk.durable(Ok((7, seq)), ms, at(0)).unwrap();
            acks.iter().map(|ack| ack.seq).collect::<Vec<_>>()
        };
        bring(&mut talk, 1, &tick(at(1_000)), at(1_000));
        assert_eq!(acked(&mut talk, 1, 100_000), [1], "the first live tick");
        bring(&mut talk, 2, &tick(at(11_000)), at(11_000));
        assert_eq!(
            acked(&mut talk, 2, 110_000),
            [0_u64; 0],
            "nothing waits for it"
        );
        bring(&mut talk, 3, &event, at(12_000));
        bring(&mut talk, 4, &tick(at(12_000)), at(12_000));
        assert_eq!(acked(&mut talk, 3, 111_000), [3]);
        assert_eq!(acked(&mut talk, 4, 111_000), [0_u64; 0]);
    }

    #[test]
    fn a_quiet_agent_hears_something_before_it_would_ask() {
        let hello = pb::Hello {
            epochs: vec![pb::Epoch {
                id: 7,
                ..pb::Epoch::default()
            }],
            ..pb::Hello::default()
        };
        let mut talk = Talk::new(HostId(1), &hello, &[0], at(0));
        assert_eq!(talk.ack_in_ms(0), None, "nothing waits");
        let mut heard = Vec::new();
        let mut said = |ms: u64, acks: Vec<pb::Ack>| {
            heard.extend(
                acks.iter()
                    .map(|ack| (ms, ack.seq, ack.server_wall_ms != 0)),
            );
        };
        // A tick every 10 s; the clock is looked at every second.
        for ms in (100_000..200_000).step_by(1_000) {
            if ms % 10_000 == 0 {
                said(ms, talk.durable(Ok((7, ms / 10_000)), ms, at(0)).unwrap());
            }
            if talk.ack_in_ms(ms) == Some(0) {
                said(ms, talk.ack(false, ms, at(0)).into_iter().collect());
            }
        }
        let ends: Vec<u64> = heard.iter().map(|(ms, ..)| *ms).collect();
        assert!(
            ends.windows(2).all(|two| two[1] - two[0] == 14_000),
            "{heard:?}"
        );
        let timed: Vec<u64> = heard
            .iter()
            .filter(|(.., timed)| *timed)
            .map(|(ms, ..)| *ms)
            .collect();
        assert_eq!(timed, [100_000, 156_000], "once a minute");
        assert_eq!(heard.last(), Some(&(198_000, 19, false)));
        // Nothing came: nothing is said.
        assert_eq!(talk.ack(false, 300_000, at(0)), None);
    }
}
