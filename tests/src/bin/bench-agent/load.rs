//! Hosts that exist only as far as the server can tell: each joined by itself, with its own certificate, connection and
//! stream, pushing what this machine measures.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use dawnwatch_agent::clock::Clock;
use dawnwatch_agent::collect::{Collectors, Reading, Roots};
use dawnwatch_agent::identity::{Identity, channel, join};
use dawnwatch_agent::uplink::random;
use dawnwatch_proto::pb::telemetry_client::TelemetryClient;
use dawnwatch_proto::pb::{self, from_agent, from_server};
use dawnwatch_proto::wire::Encoder;
use dawnwatch_proto::{Item, PROTOCOL, Schema, Tick};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;

/// Messages that may wait in one host's stream.
const QUEUE: usize = 64;

/// This machine is read once for so many pushes.
const PUSHES_A_READING: u64 = 50;

/// All hosts, each with an open stream.
#[derive(Debug)]
pub(crate) struct Fleet {
    hosts: Vec<Host>,
    collectors: Collectors,
    reading: Reading,
    pushed: u64,
}

impl Fleet {
    /// Joins hosts named `load000` and on, and opens their streams.
    pub(crate) async fn join(
        dir: &Path,
        server: SocketAddr,
        line: &str,
        hosts: usize,
    ) -> anyhow::Result<Fleet> {
        let server = server.to_string();
        let mut collectors = Collectors::new(Roots::default());
        let reading = collectors.read();
        let mut fleet = Fleet {
            hosts: Vec::new(),
            collectors,
            reading,
            pushed: 0,
        };
        for number in 0..hosts {
            let (state, name) = (dir.join(number.to_string()), format!("load{number:03}"));
            join(&server, line, &state, Some(name), Clock.wall()).await?;
            fleet
                .hosts
                .push(Host::open(&Identity::load(&state)?, &server).await?);
        }
        Ok(fleet)
    }

    /// Series of one tick.
    pub(crate) fn series(&self) -> usize {
        self.reading.row.len()
    }

    /// Ticks that each host has pushed.
    pub(crate) fn pushed_by_each(&self) -> u64 {
        self.pushed / self.hosts.len() as u64
    }

    /// Pushes so many ticks a second, host after host, for a time. Returns how many were pushed.
    pub(crate) async fn push(&mut self, a_second: u32, during: Duration) -> anyhow::Result<u64> {
        let rounds = u64::from(a_second) * during.as_secs() / self.hosts.len() as u64;
        let mut pace = interval(Duration::from_secs(1) / a_second);
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let before = self.pushed;
        for _ in 0..rounds {
            for host in &mut self.hosts {
                pace.tick().await;
                if self.pushed.is_multiple_of(PUSHES_A_READING) {
                    self.reading = self.collectors.read();
                }
                self.pushed += 1;
                host.push(&self.reading.schema, &self.reading.row).await?;
            }
        }
        Ok(self.pushed - before)
    }
}

#[derive(Debug)]
struct Host {
    up: mpsc::Sender<pb::FromAgent>,
    encoder: Encoder,
    seq: u64,
}

impl Host {
    async fn open(identity: &Identity, server: &str) -> anyhow::Result<Host> {
        let channel = channel(identity, server, Duration::from_secs(5)).await?;
        let (up, queue) = mpsc::channel(QUEUE);
        let hello = pb::Hello {
            protocol: PROTOCOL,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: identity.host_name.clone(),
            boot_id: identity.host_name.clone(),
            wall_ms: Clock.wall().as_millisecond(),
            boottime_ms: Clock.boot_ms(),
            epochs: vec![pb::Epoch {
                id: random(Clock.boot_ms()),
                first_seq: 1,
                last_seq: 0,
            }],
        };
        up.send(message(from_agent::Body::Hello(hello))).await?;
        let mut client = TelemetryClient::new(channel);
        let mut down = client
            .stream(ReceiverStream::new(queue))
            .await?
            .into_inner();
        let first = down.message().await?.and_then(|message| message.body);
        anyhow::ensure!(
            matches!(first, Some(from_server::Body::Welcome(_))),
            "no welcome"
        );
        tokio::spawn(async move { while let Ok(Some(_)) = down.message().await {} });
        Ok(Host {
            up,
            encoder: Encoder::default(),
            seq: 0,
        })
    }

    async fn push(&mut self, schema: &Arc<Schema>, row: &[i64]) -> anyhow::Result<()> {
        self.seq += 1;
        let tick = Tick {
            time: Clock.wall(),
            schema: schema.id(),
            row: row.to_vec(),
        };
        let (announce, item) = self
            .encoder
            .item(&Item::Tick(tick), || Schema::clone(schema));
        if let Some(schema) = announce {
            self.send(from_agent::Body::Schema(schema)).await?;
        }
        let batch = pb::Batch {
            epoch: 0,
            first_seq: self.seq,
            items: vec![item],
            most_ms: None,
        };
        self.send(from_agent::Body::Batch(batch)).await
    }

    async fn send(&self, body: from_agent::Body) -> anyhow::Result<()> {
        self.up
            .send(message(body))
            .await
            .context("the server ended the stream")
    }
}

fn message(body: from_agent::Body) -> pb::FromAgent {
    pb::FromAgent { body: Some(body) }
}
