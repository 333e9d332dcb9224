//! Hosts that exist only as far as the server can tell: each joined by itself, with its own certificate, TLS connection and
//! stream, sending data set G1. What was sent and not acknowledged is sent again after a reconnect, as an agent does from its
//! spool; here it is made anew, for its numbers follow from host and tick.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use dawnwatch_agent::clock::Clock;
use dawnwatch_agent::identity::{Identity, channel, join};
use dawnwatch_agent::uplink::random;
use dawnwatch_proto::pb::telemetry_client::TelemetryClient;
use dawnwatch_proto::pb::{self, from_agent, from_server};
use dawnwatch_proto::wire::{Encoder, ITEMS_MAX};
use dawnwatch_proto::{HostId, Item, MESSAGE_BYTES_MAX, PROTOCOL, Schema, Tick};
use jiff::Timestamp;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::{g1, life};

/// Messages that may wait in one host's stream, as with an agent.
const QUEUE: usize = 4;

/// Bytes of rows in one message, as with an agent that catches up.
const BATCH_BYTES_MAX: usize = 64 * 1024;

/// What an event is taken for in that.
const EVENT_BYTES: usize = 512;

/// Joins that are under way at one time: as many as the server takes at once.
const JOINS_AT_ONCE: usize = 64;

/// A connection that takes longer is given up, as with an agent.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);

/// Which time a tick has.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Of the first tick, Unix milliseconds.
    pub from_ms: i64,
    /// Milliseconds between ticks of the backlog.
    pub step_ms: i64,
    /// Ticks that are backlog; the others are live.
    pub backlog: u64,
    /// Of the first live tick.
    pub live_from_ms: i64,
    /// Milliseconds between live ticks.
    pub live_step_ms: i64,
    /// How far a tick is off its time at most, to either side.
    pub jitter_ms: i64,
}

impl Times {
    /// Backlog of so many ticks that ends now.
    #[must_use]
    pub fn backlog(ticks: u64, now_ms: i64) -> Times {
        let step_ms = g1::TICK_MS;
        let long = step_ms.saturating_mul(i64::try_from(ticks).unwrap_or(i64::MAX));
        Times {
            from_ms: now_ms.saturating_sub(long),
            step_ms,
            backlog: ticks,
            live_from_ms: now_ms,
            live_step_ms: 1_000,
            jitter_ms: 0,
        }
    }

    /// The time of a host's tick.
    #[must_use]
    pub fn of(&self, host: &g1::Host, tick: u64) -> i64 {
        let steps = |from: i64, n: u64, step: i64| {
            from.saturating_add(i64::try_from(n).unwrap_or(i64::MAX).saturating_mul(step))
        };
        let at = match tick.checked_sub(self.backlog) {
            Some(live) => steps(self.live_from_ms, live, self.live_step_ms),
            None => steps(self.from_ms, tick, self.step_ms),
        };
        at + host.late_ms(tick, self.jitter_ms)
    }
}

/// One host.
#[derive(Debug)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Which times its ticks have.
    pub times: Times,
    number: u64,
    server: String,
    identity: Identity,
    schema: Arc<Schema>,
    epoch: u64,
    /// Stands at what was sent: sequence numbers count ticks from 1.
    source: g1::Host,
    /// What it sends in place of G1, so many of the last items.
    life: Option<(life::What, Arc<Schema>)>,
    /// Items that were no ticks of G1.
    lived: u64,
    heard: Arc<Heard>,
    link: Option<Link>,
}

/// What the server said.
#[derive(Debug, Default)]
struct Heard {
    acked: AtomicU64,
    ended: AtomicBool,
    news: Notify,
}

#[derive(Debug)]
struct Link {
    up: mpsc::Sender<pb::FromAgent>,
    encoder: Encoder,
    down: tokio::task::JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.down.abort();
    }
}

/// Joins hosts of these numbers, named `g0000` and on; those whose state is there already are only loaded.
///
/// # Errors
/// Where one cannot join.
pub async fn join_all(
    dir: &Path,
    server: &str,
    line: &str,
    numbers: std::ops::Range<u64>,
    times: Times,
) -> anyhow::Result<Vec<Member>> {
    let schema = Arc::new(g1::schema());
    let places = Arc::new(tokio::sync::Semaphore::new(JOINS_AT_ONCE));
    let mut tasks = Vec::new();
    for number in numbers {
        let (state, name) = (dir.join(number.to_string()), format!("g{number:04}"));
        let (server, line, places) = (server.to_owned(), line.to_owned(), Arc::clone(&places));
        tasks.push((
            number,
            name.clone(),
            tokio::spawn(join_one(state, name, server, line, places)),
        ));
    }
    let mut members = Vec::new();
    for (number, name, task) in tasks {
        let identity = task.await?.with_context(|| format!("join {name}"))?;
        members.push(Member {
            name,
            times,
            number,
            server: server.to_owned(),
            identity,
            schema: Arc::clone(&schema),
            epoch: random(Clock.boot_ms()) ^ (number << 32),
            source: g1::Host::new(number),
            life: None,
            lived: 0,
            heard: Arc::default(),
            link: None,
        });
    }
    Ok(members)
}

async fn join_one(
    state: PathBuf,
    name: String,
    server: String,
    line: String,
    places: Arc<tokio::sync::Semaphore>,
) -> anyhow::Result<Identity> {
    let _place = places.acquire().await?;
    if let Ok(identity) = Identity::load(&state) {
        return Ok(identity);
    }
    join(&server, &line, &state, Some(name), Clock.wall()).await?;
    Ok(Identity::load(&state)?)
}

impl Member {
    /// The id that the server gave it.
    #[must_use]
    pub fn host(&self) -> HostId {
        self.identity.host_id
    }

    /// Ticks and other items that were sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.source.ticks() + self.lived
    }

    /// From here on it sends this, and no more of G1.
    pub fn lives(&mut self, what: life::What, pings: &Arc<Schema>) {
        self.life = Some((what, Arc::clone(pings)));
    }

    /// Ends its stream without a word, as a host does that loses its power.
    pub fn vanish(&mut self) {
        self.link = None;
    }

    /// Ticks that the server said are durable.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.heard.acked.load(Ordering::Acquire)
    }

    /// Whether its stream stands, as far as it knows.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.link.is_some() && !self.heard.ended.load(Ordering::Acquire)
    }

    /// Connects, greets, and goes back to what the server holds.
    ///
    /// # Errors
    /// Where there is no connection or no welcome, or the server holds less than it acknowledged: a loss.
    pub async fn connect(&mut self) -> anyhow::Result<()> {
        self.link = None;
        let channel = channel(&self.identity, &self.server, CONNECT_WITHIN).await?;
        let (up, queue) = mpsc::channel(QUEUE);
        up.send(message(self.hello())).await?;
        let mut client = TelemetryClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let down = tokio::time::timeout(CONNECT_WITHIN, client.stream(ReceiverStream::new(queue)));
        let mut down = down.await??.into_inner();
        let first = tokio::time::timeout(CONNECT_WITHIN, down.message()).await??;
        let Some(from_server::Body::Welcome(welcome)) = first.and_then(|message| message.body)
        else {
            anyhow::bail!("no welcome")
        };
        let held = *welcome.held.first().context("a welcome names the epoch")?;
        anyhow::ensure!(
            held >= self.acked(),
            "{}: {} ticks were acknowledged, the server holds {held}",
            self.name,
            self.acked()
        );
        self.go_to(held);
        self.heard = Arc::new(Heard {
            acked: AtomicU64::new(held),
            ..Heard::default()
        });
        let heard = Arc::clone(&self.heard);
        let down = tokio::spawn(async move {
            while let Ok(Some(message)) = down.message().await {
                if let Some(from_server::Body::Ack(ack)) = message.body {
                    heard.acked.fetch_max(ack.seq, Ordering::AcqRel);
                    heard.news.notify_waiters();
                }
            }
            heard.ended.store(true, Ordering::Release);
            heard.news.notify_waiters();
        });
        self.link = Some(Link {
            up,
            encoder: Encoder::default(),
            down,
        });
        Ok(())
    }

    fn hello(&self) -> from_agent::Body {
        from_agent::Body::Hello(pb::Hello {
            protocol: PROTOCOL,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: self.name.clone(),
            boot_id: self.name.clone(),
            wall_ms: Clock.wall().as_millisecond(),
            boottime_ms: Clock.boot_ms(),
            epochs: vec![pb::Epoch {
                id: self.epoch,
                first_seq: 1,
                last_seq: self.sent(),
            }],
        })
    }

    fn go_to(&mut self, tick: u64) {
        if self.life.is_some() {
            self.lived = tick.saturating_sub(self.source.ticks());
            return;
        }
        if tick < self.source.ticks() {
            self.source = g1::Host::new(self.number);
        }
        while self.source.ticks() < tick {
            self.source.next_row();
        }
    }

    /// Sends the next ticks, in messages as an agent's that catches up; a single one is what a live agent sends.
    ///
    /// # Errors
    /// Where the stream has ended.
    pub async fn send(&mut self, ticks: u64) -> anyhow::Result<()> {
        let mut left = ticks;
        while left > 0 {
            let first_seq = self.sent() + 1;
            let (mut items, mut bytes) = (Vec::new(), 0);
            let mut announced = None;
            let link = self.link.as_mut().context("connect first")?;
            while left > 0 && items.len() < ITEMS_MAX && bytes < BATCH_BYTES_MAX {
                let at = self
                    .times
                    .of(&self.source, self.source.ticks() + self.lived);
                let time = Timestamp::from_millisecond(at)?;
                let (item, of) = match &self.life {
                    Some((what, pings)) => {
                        let item = life::item(*what, self.number, self.lived, time, pings);
                        self.lived += 1;
                        (item, pings)
                    }
                    None => {
                        let (schema, row) = (self.schema.id(), self.source.next_row().to_vec());
                        (Item::Tick(Tick { time, schema, row }), &self.schema)
                    }
                };
                let (announce, item) = link.encoder.item(&item, || Schema::clone(of));
                announced = announced.or(announce);
                bytes += match &item.body {
                    Some(pb::item::Body::Tick(tick)) => tick.row.len(),
                    _ => EVENT_BYTES,
                };
                items.push(item);
                left -= 1;
            }
            if let Some(schema) = announced {
                self.say(from_agent::Body::Schema(schema)).await?;
            }
            let batch = pb::Batch {
                epoch: 0,
                first_seq,
                items,
                most_ms: None,
            };
            self.say(from_agent::Body::Batch(batch)).await?;
        }
        Ok(())
    }

    async fn say(&self, body: from_agent::Body) -> anyhow::Result<()> {
        let link = self.link.as_ref().context("connect first")?;
        let sent = link.up.send(message(body)).await;
        sent.context("the server ended the stream")
    }

    /// Waits until so many ticks are durable.
    ///
    /// # Errors
    /// Where the stream ends before.
    pub async fn until_acked(&self, ticks: u64) -> anyhow::Result<()> {
        loop {
            let news = self.heard.news.notified();
            if self.acked() >= ticks {
                return Ok(());
            }
            anyhow::ensure!(self.is_connected(), "{}: the stream ended", self.name);
            // A word between the look and the wait is heard at the next look.
            let _ = tokio::time::timeout(Duration::from_millis(100), news).await;
        }
    }

    /// Waits until the stream ends.
    pub async fn until_ended(&self) {
        while self.is_connected() {
            let news = self.heard.news.notified();
            let _ = tokio::time::timeout(Duration::from_millis(100), news).await;
        }
    }
}

fn message(body: from_agent::Body) -> pb::FromAgent {
    pb::FromAgent { body: Some(body) }
}
