//! Log first: an input is stamped, journalled and synced; then acknowledged; then judged.
//!
//! One thread owns the journal. It takes what has come in as one group, drops what it holds already ((host, epoch, seq)
//! counts once), writes the group as one frame and syncs it; then it acknowledges and hands the group to the watch. What a
//! welcome says is held is an acknowledgement too: it is answered after the sync, like all others.
//! Frame payload: version u8, then the postcard form of [`Group`].

mod held;
mod pending;
mod room;
mod stream;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use dawnwatch_engine::At;
use dawnwatch_engine::input::Input;
use dawnwatch_proto::HostId;
use dawnwatch_segment::{Disk, Log, Options};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::clock::{Clock, Stamper};
use crate::plain;
use crate::reserve::Reserve;
use crate::vitals::Gauges;

pub use held::Held;
use pending::{GROUP_BYTES_MAX, Pending};
use room::row_bytes;
pub use room::{Room, Taken};
pub use stream::{Full, Heard, Stream};

/// Inputs that may wait for the journal: a full channel slows the streams, which the agents' spools absorb.
/// A batch of a backlog takes some 400 KB here, so this is also what bounds the memory of 10,000 agents that come back.
pub const QUEUE: usize = 512;

/// Groups that may wait for the watch: judging may lag behind this far before taking in slows down.
pub const GROUPS: usize = 16;

/// Under load the disk is synced at most every so often: four times a second costs little and delays nobody.
const SYNC_EVERY: Duration = Duration::from_millis(250);

/// Journal segments: small enough that releasing them gives space back soon.
pub(crate) const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// Version of the frame payload.
pub(crate) const VERSION: u8 = 1;

/// Why the journal cannot go on, or a frame cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log below.
    #[error(transparent)]
    Log(#[from] dawnwatch_segment::Error),
    /// A frame that passed its checksum and still makes no sense.
    #[error(
        "journal frame {frame} cannot be read ({why}); it was written by another version of dawnwatch-server"
    )]
    Frame {
        /// The frame's position.
        frame: u64,
        /// What is wrong.
        why: String,
    },
}

/// One group commit: inputs with consecutive positions and one stamp.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Stamp of the first input; the others follow by position.
    pub at: At,
    /// The inputs.
    pub inputs: Vec<Input>,
}

impl Group {
    /// The inputs with their stamps.
    pub fn stamped(&self) -> impl Iterator<Item = (At, &Input)> {
        (self.at.position..)
            .zip(&self.inputs)
            .map(|(position, input)| {
                (
                    At {
                        position,
                        ..self.at
                    },
                    input,
                )
            })
    }

    /// The position of the last input.
    #[must_use]
    pub fn last_position(&self) -> u64 {
        self.at.position + (self.inputs.len() as u64).saturating_sub(1)
    }
}

/// What comes to the journal thread.
#[derive(Debug)]
pub enum Submit {
    /// An input; the reply says that it is durable.
    Input(Box<Input>, Option<oneshot::Sender<Result<(), Full>>>),
    /// A schema or a batch that a stream brought; what becomes of it is told to the stream. Its room in the queue is given back when
    /// it is taken.
    Stream(Box<Input>, Arc<Stream>, Taken),
    /// What is held of these epochs, after everything submitted before.
    Held(HostId, Vec<u64>, oneshot::Sender<Vec<u64>>),
    /// Begin a segment after what has come in, so that what came before it goes as a whole.
    Rotate(oneshot::Sender<()>),
    /// Finish what has come in and stop.
    Stop,
}

/// Opens the journal in a data directory.
///
/// # Errors
/// Where the log cannot be opened; see [`dawnwatch_segment::Error`].
pub fn open(
    disk: &Arc<dyn Disk>,
    data: &Path,
) -> Result<(Log, dawnwatch_segment::Recovery), Error> {
    Ok(Log::open(
        Arc::clone(disk),
        &data.join("journal"),
        options(),
    )?)
}

/// How the journal's segments are made.
#[must_use]
pub fn options() -> Options {
    Options {
        kind: *b"JRNL",
        segment_bytes: SEGMENT_BYTES,
        preallocate: true,
        header_note: Vec::new(),
    }
}

/// Reads one frame.
///
/// # Errors
/// Where the frame was written by another version.
pub fn decode(frame: u64, payload: &[u8]) -> Result<Group, Error> {
    let broken = |why: String| Error::Frame { frame, why };
    match payload.split_first() {
        Some((&VERSION, body)) => postcard::from_bytes(body).map_err(|e| broken(e.to_string())),
        Some((version, _)) => Err(broken(format!(
            "version {version}, this build reads {VERSION}"
        ))),
        None => Err(broken("empty".to_owned())),
    }
}

/// The frame of a group whose inputs are in postcard form already.
fn frame(at: At, inputs: usize, bytes: &[u8]) -> Vec<u8> {
    let mut out = plain::bytes_after(vec![VERSION], &at);
    out = plain::bytes_after(out, &(inputs as u64));
    out.extend_from_slice(bytes);
    out
}

/// A group that is durable, on its way to the watch.
#[derive(Debug)]
pub struct Written {
    /// The position of its frame.
    pub frame: u64,
    /// How many bytes the frame takes.
    pub bytes: u64,
    /// The group.
    pub group: Group,
}

/// What the journal thread works with.
#[derive(Debug)]
pub struct Journal {
    /// The open log.
    pub log: Log,
    /// Stamps go on from here.
    pub stamper: Stamper,
    /// What is held already.
    pub held: Held,
    /// Asked for every group.
    pub clock: Clock,
    /// Groups go to the watch.
    pub groups: SyncSender<Written>,
    /// Whether the disk was full at the last group; false at the start.
    pub refusing: bool,
    /// Told how long things take.
    pub gauges: Arc<Gauges>,
    /// Room for what is not brought by streams.
    pub reserve: Arc<Reserve>,
}

/// Where the watch asks for journal segments to be released: frames below this are in two checkpoints.
pub type Release = Arc<AtomicU64>;

impl Journal {
    /// Runs until told to stop.
    ///
    /// # Errors
    /// A failed sync: what was written is in doubt, so the process must start anew from what is on disk.
    pub fn run(
        mut self,
        mut inbox: mpsc::Receiver<Submit>,
        release: &Release,
    ) -> Result<(), Error> {
        let mut last_sync = 0;
        // When the queue was last seen empty: nothing in it came before.
        let mut empty_ms = self.clock.boot_ms();
        loop {
            let first = if let Ok(first) = inbox.try_recv() {
                first
            } else {
                let Some(first) = inbox.blocking_recv() else {
                    break;
                };
                empty_ms = self.clock.boot_ms();
                first
            };
            self.gauges.taken(empty_ms, inbox.len());
            // All that came before it is durable: who comes back after a restart need not wait for the next sync.
            let first = match first {
                Submit::Held(host, epochs, reply) => {
                    self.answer(host, &epochs, reply);
                    continue;
                }
                first @ (Submit::Input(..)
                | Submit::Stream(..)
                | Submit::Rotate(_)
                | Submit::Stop) => first,
            };
            let due = last_sync + u64::try_from(SYNC_EVERY.as_millis()).unwrap_or(0);
            let now = self.clock.boot_ms();
            if now < due && inbox.len() < QUEUE / 2 {
                std::thread::sleep(Duration::from_millis(due - now));
            }
            let mut pending = Pending::default();
            let mut stop = self.take(first, &mut pending);
            while !pending.is_full() && !stop {
                let Ok(next) = inbox.try_recv() else {
                    empty_ms = self.clock.boot_ms();
                    break;
                };
                stop = self.take(next, &mut pending);
            }
            let inputs = pending.inputs.len();
            let rotate = pending.rotate.take();
            self.commit(pending, self.clock.wall(), self.clock.boot_ms())?;
            self.gauges.durable(inputs);
            last_sync = self.clock.boot_ms();
            if let Some(reply) = rotate {
                self.rotate()?;
                // Who asked may have gone.
                let _ = reply.send(());
            }
            self.log.release(release.load(Ordering::Acquire))?;
            self.reserve.look(last_sync);
            if stop {
                break;
            }
        }
        Ok(())
    }

    /// Begins a segment. On a full disk the one there is goes on.
    fn rotate(&mut self) -> Result<(), Error> {
        if let Err(error) = self.log.rotate() {
            self.log.heal()?;
            tracing::debug!(%error, "journal segment not changed");
        }
        Ok(())
    }

    /// Takes these submissions as one group and makes it durable, at this moment: one turn of the thread, for who drives the
    /// journal without one. Groups that nobody takes out of the channel block it.
    ///
    /// # Errors
    /// As [`Journal::run`].
    pub fn turn(
        &mut self,
        submits: Vec<Submit>,
        wall: Timestamp,
        boot_ms: u64,
    ) -> Result<(), Error> {
        let mut pending = Pending::default();
        for submit in submits {
            self.take(submit, &mut pending);
        }
        self.commit(pending, wall, boot_ms)
    }

    /// Takes one submission into the group; true where it was the last.
    fn take(&mut self, submit: Submit, pending: &mut Pending) -> bool {
        match submit {
            Submit::Stop => return true,
            Submit::Rotate(reply) => pending.rotate = Some(reply),
            Submit::Held(host, epochs, reply) => pending.asked.push((host, epochs, reply)),
            Submit::Input(input, reply) => {
                if self.add(*input, pending) {
                    pending.replies.extend(reply);
                }
            }
            Submit::Stream(input, stream, _room) => self.take_stream(*input, stream, pending),
        }
        false
    }

    fn take_stream(&mut self, mut input: Input, stream: Arc<Stream>, pending: &mut Pending) {
        let known = matches!(&input, Input::Schema { host, schema } if self.held.has_schema(*host, schema.id()));
        // What is known takes no room: refused, it would end the stream before the heartbeat that comes behind it.
        if stream.refused.load(Ordering::Relaxed) || (self.reserve.is_given() && !known) {
            stream.refuse();
            return;
        }
        if let Input::Batch(batch) = &mut input {
            self.held.trim(batch);
            let (host, epoch) = (batch.host, batch.epoch);
            if !batch.items.is_empty() && !self.add(input, pending) {
                // No honest agent brings so much at once: the log must not take it for its own fault.
                tracing::warn!(%host, "a batch that is larger than a frame of the journal was refused");
                stream.refuse();
                return;
            }
            let last = self.held.last(host, epoch);
            pending.acks.push((stream, Some((epoch, last))));
            return;
        }
        if known || self.add(input, pending) {
            pending.acks.push((stream, None));
        } else {
            stream.refuse();
        }
    }

    /// Takes an input into the group; false where it does not fit.
    fn add(&mut self, input: Input, pending: &mut Pending) -> bool {
        let before = pending.bytes.len();
        pending.bytes = plain::bytes_after(std::mem::take(&mut pending.bytes), &input);
        if pending.bytes.len() > GROUP_BYTES_MAX {
            pending.bytes.truncate(before);
            return false;
        }
        pending.remember(&self.held, &input);
        pending.row_bytes += row_bytes(&input);
        self.held.apply(&input);
        pending.inputs.push(input);
        true
    }

    /// Makes the group durable, then tells those who wait and the watch.
    fn commit(&mut self, mut pending: Pending, wall: Timestamp, boot_ms: u64) -> Result<(), Error> {
        let full = !pending.inputs.is_empty() && self.write(&mut pending, wall, boot_ms)?.is_err();
        if full != std::mem::replace(&mut self.refusing, full) && !full {
            tracing::info!("there is room on the disk again, inputs are taken in");
        }
        for reply in pending.replies {
            let _ = reply.send(if full { Err(Full) } else { Ok(()) });
        }
        for (stream, ack) in pending.acks {
            match ack {
                _ if full => stream.refuse(),
                Some(ack) => drop(stream.durable.send(Ok(ack))),
                None => {}
            }
        }
        for (host, epochs, reply) in pending.asked {
            self.answer(host, &epochs, reply);
        }
        Ok(())
    }

    /// Says what is held of a host; of nothing that waits, so that the answer is an acknowledgement.
    fn answer(&self, host: HostId, epochs: &[u64], reply: oneshot::Sender<Vec<u64>>) {
        let held = epochs.iter().map(|epoch| self.held.last(host, *epoch));
        // Who asked may have gone.
        let _ = reply.send(held.collect());
    }

    /// Stamps the group, makes it durable and hands it to the watch; or takes everything back where the disk is full.
    fn write(
        &mut self,
        pending: &mut Pending,
        wall: Timestamp,
        boot_ms: u64,
    ) -> Result<Result<(), Full>, Error> {
        let (at, stepped) = self.stamper.stamp(wall, boot_ms);
        let mut inputs = std::mem::take(&mut pending.inputs);
        if let Some(by_ms) = stepped {
            let step = Input::ClockStep { by_ms };
            let mut bytes = plain::bytes(&step);
            bytes.append(&mut pending.bytes);
            pending.bytes = bytes;
            inputs.insert(0, step);
        }
        self.stamper.skip(inputs.len() as u64 - 1);
        let payload = frame(at, inputs.len(), &pending.bytes);
        match self.append(&payload) {
            Ok(frame) => {
                self.gauges.sync(|| self.log.sync())?;
                let (bytes, group) = (payload.len() as u64, Group { at, inputs });
                let written = Written {
                    frame,
                    bytes,
                    group,
                };
                // A watch that is gone has reported why; the app stops the rest.
                let _ = self.groups.send(written);
                Ok(Ok(()))
            }
            // Nothing of the group counts, agents keep it and send it again.
            Err(error) if error.is_full() => {
                self.log.heal()?;
                self.stamper.take_back();
                self.held.put_back(std::mem::take(&mut pending.undo));
                if !self.refusing {
                    tracing::error!(%error, "disk full, inputs are refused until there is room");
                }
                Ok(Err(Full))
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Journal {
    /// Writes a frame, in reserved room where the disk is full.
    fn append(&mut self, payload: &[u8]) -> Result<u64, dawnwatch_segment::Error> {
        match self.log.append(payload) {
            Err(error) if error.is_full() && self.reserve.give() => {
                self.log.heal()?;
                self.log.append(payload)
            }
            done => done,
        }
    }
}

/// The wall time as the journal keeps it before anything was written.
#[must_use]
pub fn origin() -> At {
    At {
        wall: Timestamp::UNIX_EPOCH,
        boot_ms: 0,
        position: 0,
    }
}

#[cfg(test)]
mod tests;
