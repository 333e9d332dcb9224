//! The agents' stream: identity from the certificate alone, limits checked, everything handed to the journal in order.
//!
//! A stream: hello, welcome with what is held, then batches and heartbeats in, cumulative acknowledgements out. It ends when
//! the agent ends it, the host's certificate is no longer good, a later session of the host takes over, or the server stops.

mod door;
mod twice;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dawnwatch_engine::input::{Batch, Heartbeat, Input};
use dawnwatch_proto::pb::telemetry_server::Telemetry;
use dawnwatch_proto::pb::{self, from_agent, from_server};
use dawnwatch_proto::probe::Target;
use dawnwatch_proto::wire::Decoder;
use dawnwatch_proto::{HostId, Item, MESSAGE_BYTES_MAX, PROTOCOL};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::clock::Clock;
use crate::identity::{Identity, Peer, Proven};
use crate::journal::{self, Full, Submit};
use crate::published::Published;
use crate::targets::Targets;
use crate::vitals::Gauges;
use door::Who;
use twice::Speakers;

/// An agent that connected and says nothing is let go after this.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// Whether a certificate is still good is asked this often on a live stream (revocation within 5 s).
const CHECK_EVERY: Duration = Duration::from_secs(4);

/// In quiet running an acknowledgement is sent at most this often: it frees the agent's spool, nothing waits for it.
const QUIET_ACK_EVERY_MS: u64 = 60_000;

/// An agent that ticks faster than usual must not run into its bound of 64 batches in flight before the minute is over.
const BATCHES_UNACKED: u32 = 16;

/// A single tick this close to the expected time is live and shows the agent's clock; older ones are backlog.
const LIVE_MS: i64 = 15_000;

/// Epochs that one hello may name: one a start of the agent that its spool still remembers.
const EPOCHS_MAX: usize = 256;

/// Messages to an agent that may wait in its stream.
const OUTBOUND: usize = 16;

/// Seconds between two ticks, unless the agent's own configuration says otherwise.
pub const TICK_SECONDS: u32 = 10;

/// The Telemetry service.
#[derive(Debug, Clone)]
pub struct Ingest {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    identity: Arc<Identity>,
    published: Arc<Published>,
    journal: mpsc::Sender<Submit>,
    targets: Arc<Targets>,
    clock: Clock,
    sessions: Mutex<BTreeMap<HostId, (u64, oneshot::Sender<()>)>>,
    speakers: Mutex<Speakers>,
    gauges: Arc<Gauges>,
    counter: AtomicU64,
    stop: watch::Receiver<bool>,
}

type Outbound = Result<pb::FromServer, Status>;

impl Ingest {
    /// Makes the service; `stop` turning true drains every stream.
    #[must_use]
    pub fn new(
        identity: Arc<Identity>,
        published: Arc<Published>,
        journal: mpsc::Sender<Submit>,
        targets: Arc<Targets>,
        stop: watch::Receiver<bool>,
        gauges: Arc<Gauges>,
    ) -> Ingest {
        let sessions = Mutex::default();
        let counter = AtomicU64::new(1);
        Ingest {
            shared: Arc::new(Shared {
                identity,
                published,
                journal,
                targets,
                clock: Clock,
                sessions,
                speakers: Mutex::default(),
                gauges,
                counter,
                stop,
            }),
        }
    }

    /// As a tonic service with its size limits.
    #[must_use]
    pub fn into_service(self) -> pb::telemetry_server::TelemetryServer<Ingest> {
        pb::telemetry_server::TelemetryServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
    }
}

#[tonic::async_trait]
impl Telemetry for Ingest {
    type StreamStream = Pin<Box<dyn tokio_stream::Stream<Item = Outbound> + Send>>;

    async fn stream(
        &self,
        request: Request<Streaming<pb::FromAgent>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let proven = request
            .extensions()
            .get::<Peer>()
            .and_then(|peer| peer.host);
        let Some(proven) = proven else {
            return Err(Status::unauthenticated(
                "no client certificate: join this host first",
            ));
        };
        check(&self.shared, &proven)?;
        let from = request
            .extensions()
            .get::<Peer>()
            .map(|peer| peer.addr.ip());
        let (out, inbox) = mpsc::channel(OUTBOUND);
        let shared = Arc::clone(&self.shared);
        let inbound = request.into_inner();
        // The task ends with its stream: it holds nothing but this stream's state, and `stop` ends it at shutdown.
        tokio::spawn(async move {
            let host = shared.identity.as_host(proven.id);
            let number = shared.counter.fetch_add(1, Ordering::Relaxed);
            let who = Who {
                proven,
                host,
                number,
                from,
            };
            let ended = Session::run(&shared, who, inbound, &out).await;
            shared.leave(host, number);
            if let Err(status) = ended {
                tracing::debug!(%host, code = ?status.code(), reason = status.message(), "stream ended");
                let _ = out.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(inbox))))
    }
}

fn check(shared: &Shared, proven: &Proven) -> Result<(), Status> {
    if shared.published.halted() {
        return Err(Status::resource_exhausted(Full.to_string()));
    }
    shared
        .identity
        .check(proven, shared.clock.wall())
        .map_err(Status::from)
}

impl Shared {
    async fn submit(&self, submit: Submit) -> Result<(), Status> {
        self.journal
            .send(submit)
            .await
            .map_err(|_| Status::unavailable("the server is stopping"))
    }

    /// What is held of the epochs of a hello.
    async fn held(&self, host: HostId, epochs: Vec<u64>) -> Result<Vec<u64>, Status> {
        let (reply, held) = oneshot::channel();
        self.submit(Submit::Held(host, epochs, reply)).await?;
        held.await
            .map_err(|_| Status::unavailable("the server is stopping"))
    }
}

/// One stream.
struct Session<'a> {
    shared: &'a Shared,
    out: &'a mpsc::Sender<Outbound>,
    host: HostId,
    decoder: Decoder,
    epochs: Vec<u64>,
    /// Next sequence number of each epoch.
    next: Vec<u64>,
    /// The agent's clock minus the server's at the hello, milliseconds.
    offset_ms: i64,
    /// What the journal knows this stream by.
    stream: Arc<journal::Stream>,
    acked_ms: u64,
    /// An acknowledgement that waits for its minute.
    waiting: Option<(u32, u64)>,
    /// Batches since the last acknowledgement.
    unacked: u32,
    /// Whether the last batch was backlog, or an event that should be acknowledged at once.
    urgent: bool,
    /// Whether a live tick has come: the first is acknowledged at once, for who installs an agent waits for it.
    is_live: bool,
    /// What the agent was told to ping.
    targets: Arc<Vec<Target>>,
}

impl Session<'_> {
    async fn run(
        shared: &Shared,
        who: Who,
        mut inbound: Streaming<pb::FromAgent>,
        out: &mpsc::Sender<Outbound>,
    ) -> Result<(), Status> {
        let Who { proven, host, .. } = who;
        let (stream, mut durable) = journal::Stream::new();
        let hello = tokio::time::timeout(HELLO_WITHIN, inbound.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello within 10 s"))??;
        if let Some(pb::FromAgent {
            body: Some(from_agent::Body::Hello(hello)),
        }) = &hello
        {
            shared.speaks(&who, hello).await?;
        }
        if let Some(from) = who.from {
            shared.targets.connected(host, from);
        }
        let mut superseded = shared.enter(host, who.number);
        let mut session = Session::greet(shared, host, hello, out, stream).await?;
        let mut stop = shared.stop.clone();
        let mut targets = shared.targets.follow();
        let mut checks = tokio::time::interval(CHECK_EVERY);
        checks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = inbound.message() => match message? {
                    Some(message) => session.take(message).await?,
                    None => return Ok(()),
                },
                Ok(()) = targets.changed() => session.retarget().await?,
                Some(ack) = durable.recv() => session.acknowledge(ack).await?,
                _ = checks.tick() => {
                    check(shared, &proven)?;
                    if shared.identity.as_host(proven.id) != host {
                        session.flush_ack(true).await?;
                        // A person said that it is another host, set up anew: its next stream is that host's.
                        return session.send(from_server::Body::Drain(pb::Drain { retry_after_ms: 0 })).await;
                    }
                    session.flush_ack(false).await?;
                }
                _ = &mut superseded => {
                    return Err(Status::aborted("a later session of this host took over"));
                }
                () = stopping(&mut stop) => {
                    session.flush_ack(true).await?;
                    return session.send(from_server::Body::Drain(pb::Drain { retry_after_ms: 2_000 })).await;
                }
            }
        }
    }

    /// Answers the hello with what is held, so that the agent goes on from there.
    async fn greet<'a>(
        shared: &'a Shared,
        host: HostId,
        hello: Option<pb::FromAgent>,
        out: &'a mpsc::Sender<Outbound>,
        stream: Arc<journal::Stream>,
    ) -> Result<Session<'a>, Status> {
        let Some(pb::FromAgent {
            body: Some(from_agent::Body::Hello(hello)),
        }) = hello
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
        let wall = shared.clock.wall();
        let epochs: Vec<u64> = hello.epochs.iter().map(|epoch| epoch.id).collect();
        let held = shared.held(host, epochs.clone()).await?;
        let next = held.iter().map(|held| held + 1).collect();
        let session = Session {
            shared,
            out,
            host,
            decoder: Decoder::default(),
            epochs,
            next,
            offset_ms: hello.wall_ms.saturating_sub(wall.as_millisecond()),
            stream,
            acked_ms: 0,
            waiting: None,
            unacked: 0,
            urgent: true,
            is_live: false,
            targets: shared.targets.of(host),
        };
        let welcome = pb::Welcome {
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            server_wall_ms: wall.as_millisecond(),
            held,
            settings: Some(session.settings()),
            host_name: shared
                .identity
                .host(host)
                .map(|host| host.name)
                .unwrap_or_default(),
        };
        session.send(from_server::Body::Welcome(welcome)).await?;
        Ok(session)
    }

    fn settings(&self) -> pb::Settings {
        pb::Settings {
            tick_seconds: TICK_SECONDS,
            targets: self.targets.iter().map(Target::to_pb).collect(),
        }
    }

    /// Some list changed: the agent is told if it is its own.
    async fn retarget(&mut self) -> Result<(), Status> {
        let targets = self.shared.targets.of(self.host);
        if targets == self.targets {
            return Ok(());
        }
        self.targets = targets;
        self.send(from_server::Body::Settings(self.settings()))
            .await
    }

    async fn take(&mut self, message: pb::FromAgent) -> Result<(), Status> {
        match message.body {
            Some(from_agent::Body::Schema(schema)) => {
                let schema = self.decoder.schema(schema).map_err(malformed)?;
                let input = Input::Schema {
                    host: self.host,
                    schema,
                };
                self.submit(input).await
            }
            Some(from_agent::Body::Batch(batch)) => self.batch(batch).await,
            Some(from_agent::Body::Heartbeat(heartbeat)) => self.heartbeat(heartbeat).await,
            Some(from_agent::Body::Hello(_)) => {
                Err(Status::invalid_argument("a second hello on one stream"))
            }
            // A message of a later protocol: ignored, as the protocol's neighbours agreed.
            None => Ok(()),
        }
    }

    async fn batch(&mut self, batch: pb::Batch) -> Result<(), Status> {
        let index = usize::try_from(batch.epoch).unwrap_or(usize::MAX);
        let (Some(&epoch), Some(&next)) = (self.epochs.get(index), self.next.get(index)) else {
            return Err(Status::invalid_argument(format!(
                "epoch {} was not in the hello",
                batch.epoch
            )));
        };
        let first_seq = batch.first_seq;
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
        let offset_ms = self.live_offset(&items);
        self.urgent = offset_ms.is_none() || !self.is_live;
        self.is_live |= offset_ms.is_some();
        let batch = Batch {
            host: self.host,
            epoch,
            first_seq,
            items,
            offset_ms,
        };
        self.submit(Input::Batch(batch)).await
    }

    /// Hands on what belongs to the order of the stream.
    async fn submit(&self, input: Input) -> Result<(), Status> {
        let submit = Submit::Stream(Box::new(input), Arc::clone(&self.stream));
        self.shared.submit(submit).await
    }

    /// The agent's clock minus the server's as a live tick shows it; none for backlog and events.
    fn live_offset(&self, items: &[Item]) -> Option<i64> {
        let [Item::Tick(tick)] = items else {
            return None;
        };
        let offset = tick
            .time
            .as_millisecond()
            .saturating_sub(self.shared.clock.wall().as_millisecond());
        (offset.saturating_sub(self.offset_ms).abs() < LIVE_MS).then_some(offset)
    }

    async fn heartbeat(&mut self, heartbeat: pb::Heartbeat) -> Result<(), Status> {
        let wall: Timestamp = self.shared.clock.wall();
        let row = match heartbeat.tick {
            Some(tick) => {
                let tick = self.decoder.tick(tick).map_err(malformed)?;
                Some((tick.schema, tick.row))
            }
            None => None,
        };
        let input = Input::Heartbeat(Heartbeat {
            host: self.host,
            offset_ms: heartbeat.wall_ms.saturating_sub(wall.as_millisecond()),
            backlog: heartbeat.backlog,
            row,
        });
        self.shared
            .submit(Submit::Input(Box::new(input), None))
            .await
    }

    /// Something is durable: told at once while draining, else once a minute.
    async fn acknowledge(&mut self, ack: Result<(u64, u64), Full>) -> Result<(), Status> {
        let (epoch, seq) = ack.map_err(|full| Status::resource_exhausted(full.to_string()))?;
        let index = self.epochs.iter().position(|id| *id == epoch);
        let Some(index) = index.and_then(|index| u32::try_from(index).ok()) else {
            return Ok(());
        };
        if self.waiting.is_some_and(|(other, _)| other != index) {
            self.flush_ack(true).await?;
        }
        self.waiting = Some((index, seq));
        self.unacked += 1;
        self.flush_ack(self.urgent || self.unacked >= BATCHES_UNACKED)
            .await
    }

    async fn flush_ack(&mut self, at_once: bool) -> Result<(), Status> {
        let now = self.shared.clock.boot_ms();
        if !at_once && now < self.acked_ms + QUIET_ACK_EVERY_MS {
            return Ok(());
        }
        let Some((epoch, seq)) = self.waiting.take() else {
            return Ok(());
        };
        (self.acked_ms, self.unacked) = (now, 0);
        self.send(from_server::Body::Ack(pb::Ack { epoch, seq }))
            .await
    }

    async fn send(&self, body: from_server::Body) -> Result<(), Status> {
        let message = pb::FromServer { body: Some(body) };
        self.out
            .send(Ok(message))
            .await
            .map_err(|_| Status::cancelled("the agent went away"))
    }
}

/// Waits until the server stops.
async fn stopping(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

#[allow(clippy::needless_pass_by_value, reason = "shaped for map_err")]
fn malformed(error: dawnwatch_proto::Malformed) -> Status {
    Status::invalid_argument(error.to_string())
}
