//! One connection, from hello to its end.

use std::collections::VecDeque;
use std::error::Error;
use std::time::Duration;

use dawnwatch_proto::pb::telemetry_client::TelemetryClient;
use dawnwatch_proto::pb::{self, from_agent, from_server};
use dawnwatch_proto::wire::{Encoder, ITEMS_MAX};
use dawnwatch_proto::{MESSAGE_BYTES_MAX, PROTOCOL, Schema};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::window::Window;
use super::{Dial, Shared, Timing, Uplink};
use crate::clock::Clock;
use crate::spool::{Cursor, Entry};

/// Bytes of one batch: small enough to lie between two heartbeats on a slow link, and in seven MiB of memory.
const BATCH_BYTES_MAX: usize = 64 * 1024;

/// Messages handed to the connection ahead of what it has sent: one, so that a heartbeat waits for little.
const QUEUE_MAX: usize = 1;

/// Messages that wait for the connection before heartbeats are left out: a batch, its schema, a heartbeat.
const OUTBOX_MAX: usize = 4;

/// Wait after "the server's disk is full" where it names no time.
const FULL_WAIT: Duration = Duration::from_secs(15);

/// How long after a live tick a heartbeat is due, in tenths of the heartbeat's interval: the next tick needs no help.
const LIVE_SLACK_TENTHS: u64 = 12;

/// How a session, or the attempt at one, ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
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

/// A stream that was welcomed.
#[derive(Debug)]
pub(super) struct Session<'a> {
    shared: &'a Shared,
    clock: Clock,
    timing: Timing,
    outbound: mpsc::Sender<pb::FromAgent>,
    host_name: String,
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
}

impl<D: Dial> Uplink<'_, D> {
    /// Says hello and waits for the welcome.
    pub(super) async fn open(
        &self,
        channel: Channel,
    ) -> Result<(Session<'_>, Streaming<pb::FromServer>), End> {
        let spans = self.shared.epochs();
        let generation = self.shared.with_spool(|spool| spool.generation());
        let (outbound, queue) = mpsc::channel(QUEUE_MAX);
        let hello = pb::Hello {
            protocol: PROTOCOL,
            agent_version: self.facts.agent_version.clone(),
            hostname: self.facts.hostname.clone(),
            boot_id: self.facts.boot_id.clone(),
            wall_ms: self.clock.wall().as_millisecond(),
            boottime_ms: self.clock.boot_ms(),
            epochs: spans
                .iter()
                .map(|span| pb::Epoch {
                    id: span.id,
                    first_seq: span.first_seq,
                    last_seq: span.last_seq,
                })
                .collect(),
        };
        let first = message(from_agent::Body::Hello(hello));
        outbound
            .try_send(first)
            .map_err(|_| End::Later("the stream closed at once".to_owned()))?;
        let mut client = TelemetryClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let greeting = async {
            let mut inbound = client
                .stream(ReceiverStream::new(queue))
                .await?
                .into_inner();
            let first = inbound.message().await?;
            Ok::<_, Status>((inbound, first))
        };
        let (inbound, first) = tokio::time::timeout(self.timing.welcome, greeting)
            .await
            .map_err(|_| End::Later("the server took the stream and said nothing".to_owned()))?
            .map_err(|status| end_of(&status))?;
        let welcome = match first.and_then(|m| m.body) {
            Some(from_server::Body::Welcome(welcome)) => welcome,
            Some(from_server::Body::Drain(drain)) => return Err(drained(&drain)),
            Some(
                from_server::Body::Ack(_)
                | from_server::Body::Settings(_)
                | from_server::Body::Probe(_),
            )
            | None => return Err(End::Later("the server did not say welcome".to_owned())),
        };
        self.dial.welcomed(welcome.server_wall_ms);
        let epochs: Vec<u64> = spans.iter().map(|span| span.id).collect();
        let session = Session {
            shared: self.shared,
            clock: self.clock,
            timing: self.timing,
            outbound,
            host_name: welcome.host_name.clone(),
            outbox: VecDeque::new(),
            encoder: Encoder::default(),
            cursor: Cursor::new(epochs.first().copied().unwrap_or(0), 0),
            epochs,
            at: 0,
            held: Vec::new(),
            generation,
            window: Window::new(),
            live_ms: self.clock.boot_ms(),
            caught_up: false,
        };
        Ok((session.welcomed(welcome), inbound))
    }
}

impl Session<'_> {
    pub(super) fn host_name(&self) -> &str {
        &self.host_name
    }

    fn welcomed(mut self, welcome: pb::Welcome) -> Self {
        if let Some(settings) = welcome.settings {
            self.shared.settings(settings);
        }
        self.held = welcome.held;
        self.held.resize(self.epochs.len(), 0);
        for (epoch, held) in self.epochs.iter().zip(&self.held) {
            if *held > 0 {
                self.shared.ack(*epoch, *held);
            }
        }
        self.begin_epoch(0);
        self
    }

    fn begin_epoch(&mut self, at: usize) {
        self.at = at;
        if let (Some(id), Some(held)) = (self.epochs.get(at), self.held.get(at)) {
            self.cursor = Cursor::new(*id, held.saturating_add(1));
        }
    }

    /// Sends and listens until the stream ends.
    pub(super) async fn run(
        mut self,
        mut inbound: Streaming<pb::FromServer>,
        is_first_ack_told: &mut bool,
    ) -> End {
        let (shared, outbound) = (self.shared, self.outbound.clone());
        if shared.backlog() > 1 {
            // The present goes ahead of what waited, also where the server has no room for that.
            self.beat();
        }
        loop {
            if let Err(end) = self.fill() {
                return end;
            }
            let idle = Duration::from_millis(self.idle_ms());
            tokio::select! {
                biased;
                said = inbound.message() => match said {
                    Ok(Some(message)) => {
                        if let Some(end) = self.heard(message, is_first_ack_told) {
                            return end;
                        }
                    }
                    Ok(None) => return End::Later("the server closed the stream".to_owned()),
                    Err(status) => return end_of(&status),
                },
                place = outbound.reserve(), if !self.outbox.is_empty() => match place {
                    Ok(place) => {
                        if let Some(message) = self.outbox.pop_front() {
                            place.send(message);
                        }
                    }
                    // The reason is on the inbound side, if there is one.
                    Err(_) => return reason(inbound.message().await),
                },
                () = shared.appended(), if self.caught_up => {}
                () = shared.renewed() => {
                    return End::Again("a fresh certificate takes a new connection".to_owned());
                }
                () = tokio::time::sleep(idle) => self.beat(),
            }
        }
    }

    /// Puts the next batch into the outbox, if there is one and room for it.
    fn fill(&mut self) -> Result<(), End> {
        if self.window.is_dead(self.clock.boot_ms()) {
            let why = "the server acknowledged nothing for three minutes";
            return Err(End::Later(why.to_owned()));
        }
        if self.shared.with_spool(|spool| spool.generation()) != self.generation
            || self.encoder.is_full()
        {
            return Err(End::Again("the spool began a new epoch".to_owned()));
        }
        while self.outbox.is_empty() && self.window.has_room() {
            let cursor = &mut self.cursor;
            let entries = self
                .shared
                .with_spool(|spool| spool.read(cursor, ITEMS_MAX, BATCH_BYTES_MAX));
            if !entries.is_empty() {
                self.push_batch(&entries);
            }
            let epoch = self.epochs.get(self.at).copied().unwrap_or(0);
            let waiting = self.shared.with_spool(|spool| spool.last_seq(epoch));
            let is_read = self.cursor.next_seq() > waiting;
            // A disk with a bad moment gives nothing though there is something: no epoch overtakes it.
            if entries.is_empty() && is_read && self.at + 1 < self.epochs.len() {
                self.begin_epoch(self.at + 1);
                continue;
            }
            self.caught_up = is_read && self.at + 1 >= self.epochs.len();
            if self.caught_up && !entries.is_empty() {
                self.live_ms = self.clock.boot_ms();
            }
            break;
        }
        Ok(())
    }

    fn push_batch(&mut self, entries: &[Entry]) {
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
        };
        self.outbox
            .push_back(message(from_agent::Body::Batch(batch)));
        let now_ms = self.clock.boot_ms();
        self.window
            .sent(epoch, last.last_seq(), bytes, now_ms, !self.caught_up);
    }

    /// Time until the server must hear something.
    fn idle_ms(&self) -> u64 {
        let interval = u64::try_from(self.timing.heartbeat.as_millis()).unwrap_or(u64::MAX);
        let due = if self.caught_up {
            interval / 10 * LIVE_SLACK_TENTHS
        } else {
            interval
        };
        (self.live_ms + due).saturating_sub(self.clock.boot_ms())
    }

    /// Nothing live was sent for a while: a heartbeat, ahead of the backlog.
    fn beat(&mut self) {
        let now_ms = self.clock.boot_ms();
        self.live_ms = now_ms;
        if self.outbox.len() > OUTBOX_MAX {
            // The connection takes nothing: HTTP/2 keep-alive will end it; heartbeats must not pile up meanwhile.
            return;
        }
        let mut heartbeat = pb::Heartbeat {
            wall_ms: self.clock.wall().as_millisecond(),
            boottime_ms: now_ms,
            backlog: self.shared.backlog(),
            tick: None,
        };
        if let Some((tick, schema)) = self.shared.latest() {
            let (announce, tick) = self.encoder.tick(&tick, || Schema::clone(&schema));
            if let Some(schema) = announce {
                self.outbox
                    .push_back(message(from_agent::Body::Schema(schema)));
            }
            heartbeat.tick = Some(tick);
        }
        self.outbox
            .push_back(message(from_agent::Body::Heartbeat(heartbeat)));
    }

    fn heard(&mut self, message: pb::FromServer, is_first_ack_told: &mut bool) -> Option<End> {
        match message.body? {
            from_server::Body::Ack(ack) => {
                let index = usize::try_from(ack.epoch).unwrap_or(usize::MAX);
                let Some(epoch) = self.epochs.get(index) else {
                    tracing::debug!(epoch = ack.epoch, "acknowledgement of an epoch not named");
                    return None;
                };
                self.window.acked(ack.epoch, ack.seq, self.clock.boot_ms());
                self.shared.ack(*epoch, ack.seq);
                if !*is_first_ack_told {
                    *is_first_ack_told = true;
                    tracing::info!("first sample acknowledged");
                }
                None
            }
            from_server::Body::Settings(settings) => {
                self.shared.settings(settings);
                None
            }
            from_server::Body::Drain(drain) => Some(drained(&drain)),
            // Single probes are not asked for by any server so far: targets come with the settings.
            from_server::Body::Probe(_) | from_server::Body::Welcome(_) => None,
        }
    }
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

fn reason(said: Result<Option<pb::FromServer>, Status>) -> End {
    match said {
        Err(status) => end_of(&status),
        Ok(_) => End::Later("the server closed the stream".to_owned()),
    }
}

/// What a status means for the next try.
fn end_of(status: &Status) -> End {
    let text = status.message();
    match status.code() {
        Code::Unauthenticated => End::Unauthenticated(format!(
            "the server refuses this host's certificate: {text}; its spool is kept"
        )),
        Code::PermissionDenied => End::Refused(format!(
            "the server refuses this host: {text}; its spool is kept"
        )),
        Code::FailedPrecondition => End::Refused(text.to_owned()),
        Code::InvalidArgument => End::Refused(format!(
            "the server does not understand this agent: {text}; same version on both?"
        )),
        Code::ResourceExhausted => End::After(
            retry_after(status).unwrap_or(FULL_WAIT),
            format!("the server takes nothing: {text}"),
        ),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => End::Later(plain(status)),
    }
}

/// The wait that a server names in gRPC's own header for it, milliseconds.
fn retry_after(status: &Status) -> Option<Duration> {
    let value = status.metadata().get("grpc-retry-pushback-ms")?;
    value.to_str().ok()?.parse().ok().map(Duration::from_millis)
}

/// Why a stream broke, as an admin would say it; the innermost cause says more than "transport error".
fn plain(status: &Status) -> String {
    let mut cause = Error::source(status);
    let mut text = status.message().to_owned();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    // The causes are texts by the time they come here: HTTP/2 keeps the sentence of an I/O error, and not the error.
    let known = ENDS.iter().find(|(part, _)| text.contains(part));
    match known {
        Some((_, told)) => (*told).to_owned(),
        None if text.is_empty() => format!("{:?}", status.code()),
        None => text,
    }
}

/// The ways in which a connection ends: a part of what is said below, and what it means.
const ENDS: [(&str, &str); 5] = [
    (
        "close_notify",
        "the server closed it without a word: it was killed, or something between cut it",
    ),
    (
        "reset by peer",
        "it was reset: the server was killed, or something between cut it",
    ),
    (
        "timed out",
        "no answer: the server hangs, or the network between is cut",
    ),
    // Where a keep-alive is not answered, too.
    (
        "broken pipe",
        "no answer: the server hangs or is gone, or the network between is cut",
    ),
    ("Broken pipe", "the server closed it"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_says_what_comes_next() {
        for (code, refused) in [
            (Code::Unauthenticated, false),
            (Code::PermissionDenied, true),
            (Code::FailedPrecondition, true),
            (Code::InvalidArgument, true),
            (Code::Unavailable, false),
            (Code::Unknown, false),
        ] {
            let end = end_of(&Status::new(code, "re-join with: dawnwatch-agent join"));
            assert_eq!(matches!(end, End::Refused(_)), refused, "{end:?}");
            let (End::Refused(why)
            | End::Unauthenticated(why)
            | End::Later(why)
            | End::Again(why)
            | End::After(_, why)) = end;
            assert!(why.contains("re-join with"), "{why}");
        }
        let cut = "peer closed connection without sending TLS close_notify: https://docs.rs/rustls";
        let End::Later(why) = end_of(&Status::unknown(cut)) else {
            panic!("a cut is no refusal");
        };
        assert!(why.starts_with("the server closed it"), "{why}");
        let mut full = Status::resource_exhausted("disk full");
        assert!(matches!(end_of(&full), End::After(FULL_WAIT, _)));
        full.metadata_mut()
            .insert("grpc-retry-pushback-ms", "1500".parse().unwrap());
        let wait = Duration::from_millis(1_500);
        assert!(matches!(end_of(&full), End::After(w, _) if w == wait));
    }
}
