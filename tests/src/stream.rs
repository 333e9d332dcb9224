//! A stream to the server with a real host's identity, on which the test says what it likes.

use std::path::Path;
use std::time::Duration;

use dawnwatch_agent::identity::{Identity, channel};
use dawnwatch_proto::pb::telemetry_client::TelemetryClient;
use dawnwatch_proto::pb::{self, from_agent, from_server};
use dawnwatch_proto::{Item, MESSAGE_BYTES_MAX, PROTOCOL, Schema, Tick, wire};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

/// An answer that does not come within this does not come.
const WITHIN: Duration = Duration::from_secs(20);

/// Messages that may wait on their way up.
const QUEUE: usize = 16;

/// An open stream.
#[derive(Debug)]
pub struct Stream {
    up: mpsc::Sender<pb::FromAgent>,
    down: Streaming<pb::FromServer>,
}

impl Stream {
    /// Connects as the host that joined with this state directory.
    ///
    /// # Errors
    /// The status that the server refuses the stream with.
    ///
    /// # Panics
    /// Where there is no connection.
    pub async fn open(state: &Path, server: &str) -> Result<Stream, Status> {
        let identity = Identity::load(state).expect("the host joined");
        let channel = channel(&identity, server, WITHIN)
            .await
            .expect("the server is reached");
        let (up, queue) = mpsc::channel(QUEUE);
        let mut client = TelemetryClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let down = client
            .stream(ReceiverStream::new(queue))
            .await?
            .into_inner();
        Ok(Stream { up, down })
    }

    /// Connects and greets; what the server holds of the epoch.
    ///
    /// # Errors
    /// The status that the server refuses the stream with.
    ///
    /// # Panics
    /// Where there is no welcome.
    pub async fn greet(state: &Path, server: &str, epoch: u64) -> Result<(Stream, u64), Status> {
        let mut stream = Stream::open(state, server).await?;
        stream.say(hello(&[epoch])).await;
        let answer = stream.hear().await?;
        let from_server::Body::Welcome(welcome) = answer else {
            panic!("no welcome: {answer:?}")
        };
        Ok((stream, welcome.held[0]))
    }

    /// Says something. A stream that has ended says why when it is heard.
    pub async fn say(&self, body: from_agent::Body) {
        let _ = self.up.send(pb::FromAgent { body: Some(body) }).await;
    }

    /// The next thing that the server says, or how it ended the stream.
    ///
    /// # Errors
    /// The status that the stream ended with; `Ok` for one that simply ended.
    pub async fn hear(&mut self) -> Result<from_server::Body, Status> {
        let heard = tokio::time::timeout(WITHIN, self.down.message()).await;
        let message = heard.map_err(|_| Status::deadline_exceeded("the test waited in vain"))??;
        let ended = || Status::new(Code::Ok, "the server ended the stream");
        message.and_then(|message| message.body).ok_or_else(ended)
    }

    /// How the server ends the stream, whatever it says before.
    pub async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.hear().await {
                return status;
            }
        }
    }

    /// Waits until everything up to a number is acknowledged.
    ///
    /// # Errors
    /// The status that the stream ended with instead.
    pub async fn acked(&mut self, seq: u64) -> Result<(), Status> {
        loop {
            if let from_server::Body::Ack(ack) = self.hear().await?
                && ack.seq >= seq
            {
                return Ok(());
            }
        }
    }
}

/// The first message of a stream.
#[must_use]
pub fn hello(epochs: &[u64]) -> from_agent::Body {
    let epoch = |id: &u64| pb::Epoch {
        id: *id,
        first_seq: 1,
        last_seq: 1,
    };
    from_agent::Body::Hello(pb::Hello {
        protocol: PROTOCOL,
        agent_version: "0".to_owned(),
        epochs: epochs.iter().map(epoch).collect(),
        wall_ms: crate::faketime::real_now().as_millisecond(),
        ..pb::Hello::default()
    })
}

/// Ticks as a batch of the first epoch, coded without regard to what was said before, and their schema as number 1.
#[must_use]
pub fn batch(schema: &Schema, first_seq: u64, ticks: &[Tick]) -> [from_agent::Body; 2] {
    let mut encoder = wire::Encoder::default();
    let mut items = Vec::new();
    let mut announced = None;
    for tick in ticks {
        let (schema, item) = encoder.item(&Item::Tick(tick.clone()), || schema.clone());
        announced = announced.or(schema);
        items.push(item);
    }
    let announced = announced.expect("the first tick announces its schema");
    let batch = pb::Batch {
        epoch: 0,
        first_seq,
        items,
        most_ms: None,
    };
    [
        from_agent::Body::Schema(announced),
        from_agent::Body::Batch(batch),
    ]
}
