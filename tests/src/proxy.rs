//! A proxy between agent and server that reads acknowledgements off the wire, so that the oracle of the kill tests never has to
//! believe either side's own state.
//!
//! It ends the agent's TLS with the server's certificate and speaks to the server with the agent's, and so sees every message.
//! In the lying mode it acknowledges a batch that it never passed on: an oracle that does not notice is no oracle.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dawnwatch_agent::identity as agent_identity;
use dawnwatch_proto::pb::telemetry_client::TelemetryClient;
use dawnwatch_proto::pb::telemetry_server::{Telemetry, TelemetryServer};
use dawnwatch_proto::pb::{self, from_agent, from_server};
use dawnwatch_proto::wire::Decoder;
use dawnwatch_proto::{Item, Schema, Tick};
use dawnwatch_server::clock::Clock;
use dawnwatch_server::identity::{Identity, Limits, incoming};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Messages that may wait on either side of the proxy.
const QUEUE: usize = 64;

/// What went over the wire.
#[derive(Debug, Default)]
pub struct Seen {
    /// Items that the agent sent, by epoch and sequence number.
    pub sent: BTreeMap<(u64, u64), Item>,
    /// The highest number that was acknowledged, by epoch.
    pub acked: BTreeMap<u64, u64>,
    /// Schemas that were announced.
    pub schemas: BTreeMap<u64, Schema>,
}

impl Seen {
    /// The ticks that were acknowledged.
    #[must_use]
    pub fn acked_ticks(&self) -> Vec<&Tick> {
        let acked = |epoch, seq| self.acked.get(&epoch).is_some_and(|last| seq <= *last);
        let items = self
            .sent
            .iter()
            .filter(|((epoch, seq), _)| acked(*epoch, *seq));
        items
            .filter_map(|(_, item)| match item {
                Item::Tick(tick) => Some(tick),
                Item::Event(_) | Item::Gap(_) => None,
            })
            .collect()
    }
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    /// Where the agent connects.
    pub address: SocketAddr,
    /// What it saw.
    pub seen: Arc<Mutex<Seen>>,
    /// Set to make it acknowledge the next live batch itself and keep it.
    pub lie: Arc<AtomicBool>,
    /// Bytes are not counted here; messages are.
    pub messages: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy in front of a server, for one agent. It needs both sides' identity directories.
    ///
    /// # Panics
    /// Where a directory cannot be read or no port be had.
    pub async fn start(server: SocketAddr, server_identity: &Path, agent_state: &Path) -> Proxy {
        let (identity, _) = Identity::open(server_identity, Clock.wall(), &[])
            .expect("the server's identity opens");
        let now: dawnwatch_server::identity::Now = Arc::new(|| Clock.wall());
        let config = identity
            .server_config(now)
            .expect("the server's certificate serves");
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port on loopback");
        let address = listener.local_addr().expect("a bound port has an address");
        let between = Between {
            server,
            agent_state: agent_state.to_owned(),
            seen: Arc::default(),
            lie: Arc::default(),
            messages: Arc::default(),
        };
        let (seen, lie, messages) = (
            Arc::clone(&between.seen),
            Arc::clone(&between.lie),
            Arc::clone(&between.messages),
        );
        let task = tokio::spawn(async move {
            let served = tonic::transport::Server::builder()
                .add_service(TelemetryServer::new(between))
                .serve_with_incoming(incoming(listener, config, Limits::default()));
            let _ = served.await;
        });
        Proxy {
            address,
            seen,
            lie,
            messages,
            task,
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Between {
    server: SocketAddr,
    agent_state: PathBuf,
    seen: Arc<Mutex<Seen>>,
    lie: Arc<AtomicBool>,
    messages: Arc<AtomicU64>,
}

#[tonic::async_trait]
impl Telemetry for Between {
    type StreamStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<pb::FromServer, Status>> + Send>>;

    async fn stream(
        &self,
        request: Request<Streaming<pb::FromAgent>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let identity = agent_identity::Identity::load(&self.agent_state)
            .map_err(|e| Status::unavailable(e.to_string()))?;
        let channel =
            agent_identity::channel(&identity, &self.server.to_string(), Duration::from_secs(2))
                .await;
        let channel = channel.map_err(|e| Status::unavailable(e.to_string()))?;
        let (up, up_rx) = mpsc::channel(QUEUE);
        let (down, down_rx) = mpsc::channel(QUEUE);
        let mut client = TelemetryClient::new(channel);
        let wire = Wire {
            epochs: Arc::default(),
            seen: Arc::clone(&self.seen),
            lie: Arc::clone(&self.lie),
            messages: Arc::clone(&self.messages),
        };
        let inbound = request.into_inner();
        let upward = tokio::spawn(wire.clone().upward(inbound, up, down.clone()));
        let answers = client
            .stream(ReceiverStream::new(up_rx))
            .await?
            .into_inner();
        tokio::spawn(async move {
            wire.downward(answers, down).await;
            upward.abort();
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(down_rx))))
    }
}

/// What the two directions of one stream share.
#[derive(Debug, Clone)]
struct Wire {
    epochs: Arc<Mutex<Vec<u64>>>,
    seen: Arc<Mutex<Seen>>,
    lie: Arc<AtomicBool>,
    messages: Arc<AtomicU64>,
}

impl Wire {
    async fn upward(
        self,
        mut inbound: Streaming<pb::FromAgent>,
        up: mpsc::Sender<pb::FromAgent>,
        down: mpsc::Sender<Result<pb::FromServer, Status>>,
    ) {
        let mut decoder = Decoder::default();
        while let Some(Ok(message)) = inbound.next().await {
            self.messages.fetch_add(1, Ordering::Relaxed);
            let lied = self.note(&mut decoder, &message);
            if let Some(ack) = lied {
                let body = Some(from_server::Body::Ack(ack));
                self.acked(ack);
                let _ = down.send(Ok(pb::FromServer { body })).await;
                // What comes after the stolen batch would leave a hole that the server refuses: cut here.
                let _ = down.send(Err(Status::unavailable("cut"))).await;
                return;
            }
            if up.send(message).await.is_err() {
                return;
            }
        }
    }

    /// Takes note of a message; gives an acknowledgement where the proxy is to lie about it.
    fn note(&self, decoder: &mut Decoder, message: &pb::FromAgent) -> Option<pb::Ack> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        match message.body.clone()? {
            from_agent::Body::Hello(hello) => {
                *epochs = hello.epochs.iter().map(|epoch| epoch.id).collect();
            }
            from_agent::Body::Schema(schema) => {
                let schema = decoder
                    .schema(schema)
                    .expect("an agent sends sound schemas");
                seen.schemas.insert(schema.id().0, schema);
            }
            from_agent::Body::Heartbeat(heartbeat) => {
                if let Some(tick) = heartbeat.tick {
                    decoder.tick(tick).expect("an agent sends sound ticks");
                }
            }
            from_agent::Body::Batch(batch) => {
                let epoch = epochs[batch.epoch as usize];
                let (index, mut seq) = (batch.epoch, batch.first_seq);
                let items = decoder.batch(batch).expect("an agent sends sound batches");
                let stolen = items.iter().any(|item| matches!(item, Item::Tick(_)));
                for item in items {
                    let next = seq + item.width();
                    seen.sent.insert((epoch, seq), item);
                    seq = next;
                }
                if stolen && self.lie.swap(false, Ordering::Relaxed) {
                    return Some(pb::Ack {
                        epoch: index,
                        seq: seq - 1,
                        server_wall_ms: 0,
                        least_ms: None,
                    });
                }
            }
        }
        None
    }

    fn acked(&self, ack: pb::Ack) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        let last = seen.acked.entry(epochs[ack.epoch as usize]).or_default();
        *last = ack.seq.max(*last);
    }

    async fn downward(
        self,
        mut answers: Streaming<pb::FromServer>,
        down: mpsc::Sender<Result<pb::FromServer, Status>>,
    ) {
        while let Some(answer) = answers.next().await {
            let ended = answer.is_err();
            if let Ok(pb::FromServer {
                body: Some(from_server::Body::Ack(ack)),
            }) = &answer
            {
                self.acked(*ack);
            }
            // Noted before it is passed on: the agent may act on it at once and be killed.
            if down.send(answer).await.is_err() || ended {
                return;
            }
        }
    }
}
