//! The agents' stream: identity from the certificate alone, limits checked, everything handed to the journal in order.
//!
//! A stream: hello, welcome with what is held, then batches and heartbeats in, cumulative acknowledgements out. It ends when
//! the agent ends it, the host's certificate is no longer good, a later session of the host takes over, or the server stops.

mod door;
mod talk;
mod twice;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dawnwatch_proto::pb::telemetry_server::Telemetry;
use dawnwatch_proto::pb::{self, from_agent, from_server};
use dawnwatch_proto::probe::Target;
use dawnwatch_proto::{HostId, MESSAGE_BYTES_MAX};
use prost::Message as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::clock::Clock;
use crate::identity::{Identity, Peer, Proven};
use crate::journal::{self, Full, Heard, Room, Submit};
use crate::published::Published;
use crate::targets::Targets;
use crate::vitals::Gauges;
use door::Who;
use twice::Speakers;

pub use talk::{Talk, Took};

/// An agent that connected and says nothing is let go after this.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// Whether a certificate is still good is asked this often on a live stream (revocation within 5 s).
const CHECK_EVERY: Duration = Duration::from_secs(4);

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
    room: Room,
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
                room: Room::default(),
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

    /// What is held of the epochs of a hello: of the host, or of one that it was before somebody said that it is this one. An
    /// epoch's id is random, so it is the same epoch.
    async fn held(&self, host: HostId, epochs: &[u64]) -> Result<Vec<u64>, Status> {
        let mut most = vec![0; epochs.len()];
        let before = self.identity.merged_into(host);
        for one in std::iter::once(host).chain(before) {
            let (reply, held) = oneshot::channel();
            self.submit(Submit::Held(one, epochs.to_vec(), reply))
                .await?;
            let held = held
                .await
                .map_err(|_| Status::unavailable("the server is stopping"))?;
            for (most, held) in most.iter_mut().zip(held) {
                *most = held.max(*most);
            }
        }
        Ok(most)
    }
}

/// One stream.
struct Session<'a> {
    shared: &'a Shared,
    out: &'a mpsc::Sender<Outbound>,
    host: HostId,
    /// Whose certificate it is: the host itself, or another that turned out to be it.
    certified: HostId,
    talk: Talk,
    /// What the journal knows this stream by.
    stream: Arc<journal::Stream>,
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
        let mut session = Session::greet(shared, &who, hello, out, stream).await?;
        let mut stop = shared.stop.clone();
        let mut targets = shared.targets.follow();
        let mut checks = tokio::time::interval(CHECK_EVERY);
        checks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let quiet = session.talk.ack_in_ms(shared.clock.boot_ms());
            tokio::select! {
                message = inbound.message() => match message? {
                    Some(message) => if !session.take(message).await? {
                        // The next stream says it again, as of the host that it is.
                        return session.end(0).await;
                    },
                    None => return Ok(()),
                },
                Ok(()) = targets.changed() => session.retarget().await?,
                Some(ack) = durable.recv() => session.acknowledge(ack).await?,
                _ = checks.tick() => {
                    check(shared, &proven)?;
                    // A person said that it is another host, set up anew: its next stream is that host's.
                    if session.is_another() {
                        return session.end(0).await;
                    }
                }
                () = tokio::time::sleep(Duration::from_millis(quiet.unwrap_or(0))), if quiet.is_some() => {
                    session.flush_ack(false).await?;
                }
                _ = &mut superseded => {
                    return Err(Status::aborted("a later session of this host took over"));
                }
                () = stopping(&mut stop) => return session.end(2_000).await,
            }
        }
    }

    /// Answers the hello with what is held, so that the agent goes on from there.
    async fn greet<'a>(
        shared: &'a Shared,
        who: &Who,
        hello: Option<pb::FromAgent>,
        out: &'a mpsc::Sender<Outbound>,
        stream: Arc<journal::Stream>,
    ) -> Result<Session<'a>, Status> {
        let (host, certified) = (who.host, who.proven.id);
        let hello = Talk::hello(hello)?;
        let wall = shared.clock.wall();
        let epochs: Vec<u64> = hello.epochs.iter().map(|epoch| epoch.id).collect();
        let held = shared.held(host, &epochs).await?;
        let session = Session {
            shared,
            out,
            host,
            certified,
            talk: Talk::new(host, &hello, &held, wall),
            stream,
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

    /// Whether somebody said since it began that the host is another one.
    fn is_another(&self) -> bool {
        self.shared.identity.as_host(self.certified) != self.host
    }

    /// Hands a message to the journal; false where the host is another one, so that it was not.
    async fn take(&mut self, message: pb::FromAgent) -> Result<bool, Status> {
        let bytes = message.encoded_len();
        let submit = match self.talk.take(message, self.shared.clock.wall())? {
            Some(Took::Ordered(input)) => {
                let taken = self.shared.room.take(&input, bytes).await;
                Submit::Stream(Box::new(input), Arc::clone(&self.stream), taken)
            }
            Some(Took::Beside(input)) => Submit::Input(Box::new(input), None),
            None => return Ok(true),
        };
        if self.is_another() {
            return Ok(false);
        }
        self.shared.submit(submit).await?;
        Ok(true)
    }

    /// Something is durable.
    async fn acknowledge(&mut self, heard: Heard) -> Result<(), Status> {
        let clock = self.shared.clock;
        for ack in self.talk.durable(heard, clock.boot_ms(), clock.wall())? {
            self.send(from_server::Body::Ack(ack)).await?;
        }
        Ok(())
    }

    async fn flush_ack(&mut self, at_once: bool) -> Result<(), Status> {
        let clock = self.shared.clock;
        match self.talk.ack(at_once, clock.boot_ms(), clock.wall()) {
            Some(ack) => self.send(from_server::Body::Ack(ack)).await,
            None => Ok(()),
        }
    }

    /// Acknowledges what can be; the agent comes back after so long.
    async fn end(&mut self, retry_after_ms: u32) -> Result<(), Status> {
        self.flush_ack(true).await?;
        self.send(from_server::Body::Drain(pb::Drain { retry_after_ms }))
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
