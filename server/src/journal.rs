//! Log first: an input is stamped, journalled and synced; then acknowledged; then judged.
//!
//! One thread owns the journal. It takes what has come in as one group, drops what it holds already ((host, epoch, seq)
//! counts once), writes the group as one frame and syncs it; then it acknowledges and hands the group to the watch.
//! Frame payload: version u8, then the postcard form of [`Group`].

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use dawnwatch_engine::At;
use dawnwatch_engine::input::{Batch, Input};
use dawnwatch_proto::{HostId, Item, SchemaId};
use dawnwatch_segment::{Disk, Log, Options};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::clock::{Clock, Stamper};
use crate::plain;

/// Inputs that may wait for the journal: a full channel slows the streams, which the agents' spools absorb.
pub const QUEUE: usize = 4_096;

/// Groups that may wait for the watch: judging may lag behind this far before taking in slows down.
pub const GROUPS: usize = 64;

/// Most inputs in one group: bounds the frame and the time to the next acknowledgement.
const GROUP_INPUTS: usize = 2_048;

/// Under load the disk is synced at most every so often: four times a second costs little and delays nobody.
const SYNC_EVERY: Duration = Duration::from_millis(250);

/// Journal segments: small enough that releasing them gives space back soon.
const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// Epochs remembered for one host: one a start of its agent, and a spool holds the last few only.
const EPOCHS_MAX: usize = 64;

/// Version of the frame payload.
const VERSION: u8 = 1;

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
    /// Items of a stream; its acknowledgements go to `acks`.
    Batch(Batch, Acks),
    /// What is held of these epochs, after everything submitted before.
    Held(HostId, Vec<u64>, oneshot::Sender<Vec<u64>>),
    /// Finish what has come in and stop.
    Stop,
}

/// The journal's disk takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server's disk is full: nothing was taken in; free space in its data directory")]
pub struct Full;

/// Where a stream hears what is durable: epoch id and the last sequence number, or that the disk is full.
pub type Acks = mpsc::UnboundedSender<Result<(u64, u64), Full>>;

/// The epochs and schemas held of one host.
type Kept = (Option<Vec<(u64, u64)>>, Option<Vec<SchemaId>>);

/// What the journal holds of each host, for counting everything once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    epochs: BTreeMap<HostId, Vec<(u64, u64)>>,
    schemas: BTreeMap<HostId, Vec<SchemaId>>,
}

impl Held {
    /// The last sequence number held of an epoch, 0 for none.
    #[must_use]
    pub fn last(&self, host: HostId, epoch: u64) -> u64 {
        let epochs = self.epochs.get(&host).map_or(&[][..], Vec::as_slice);
        epochs
            .iter()
            .find(|(id, _)| *id == epoch)
            .map_or(0, |(_, last)| *last)
    }

    /// Whether the journal or a checkpoint has this schema of this host.
    #[must_use]
    pub fn has_schema(&self, host: HostId, schema: SchemaId) -> bool {
        self.schemas
            .get(&host)
            .is_some_and(|known| known.contains(&schema))
    }

    fn keep(&self, host: HostId) -> Kept {
        (
            self.epochs.get(&host).cloned(),
            self.schemas.get(&host).cloned(),
        )
    }

    fn put_back(&mut self, undo: BTreeMap<HostId, Kept>) {
        for (host, (epochs, schemas)) in undo {
            match epochs {
                Some(epochs) => self.epochs.insert(host, epochs),
                None => self.epochs.remove(&host),
            };
            match schemas {
                Some(schemas) => self.schemas.insert(host, schemas),
                None => self.schemas.remove(&host),
            };
        }
    }

    /// Leaves in a batch only what is not held yet.
    pub fn trim(&self, batch: &mut Batch) {
        let last = self.last(batch.host, batch.epoch);
        let mut seq = batch.first_seq;
        let mut first = None;
        batch.items.retain_mut(|item| {
            let end = seq + item.width() - 1;
            let fresh = end > last;
            if fresh {
                if let Item::Gap(gap) = item {
                    gap.from_seq = gap.from_seq.max(last + 1);
                }
                first.get_or_insert(seq.max(last + 1));
            }
            seq = end + 1;
            fresh
        });
        batch.first_seq = first.unwrap_or(seq);
    }

    /// Takes note of an input that is held from here on.
    pub fn apply(&mut self, input: &Input) {
        match input {
            Input::Batch(batch) => {
                let width: u64 = batch.items.iter().map(Item::width).sum();
                let epochs = self.epochs.entry(batch.host).or_default();
                let end = batch.first_seq + width - 1;
                match epochs.iter_mut().find(|(id, _)| *id == batch.epoch) {
                    Some((_, last)) => *last = end.max(*last),
                    None => epochs.push((batch.epoch, end)),
                }
                if epochs.len() > EPOCHS_MAX {
                    epochs.remove(0);
                }
            }
            Input::Schema { host, schema } => {
                let known = self.schemas.entry(*host).or_default();
                if !known.contains(&schema.id()) {
                    known.push(schema.id());
                }
            }
            Input::Config(_)
            | Input::Started(_)
            | Input::ClockStep { .. }
            | Input::Host(_)
            | Input::Heartbeat(_)
            | Input::Tick
            | Input::Order(_)
            | Input::Delivered(_)
            | Input::Server(_) => {}
        }
    }
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

fn encode(group: &Group) -> Vec<u8> {
    plain::bytes_after(vec![VERSION], group)
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
    /// Groups go to the watch with the position of their frame.
    pub groups: SyncSender<(u64, Group)>,
}

/// Where the watch asks for journal segments to be released: frames below this are in two checkpoints.
pub type Release = Arc<std::sync::atomic::AtomicU64>;

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
        while let Some(first) = inbox.blocking_recv() {
            let due = last_sync + u64::try_from(SYNC_EVERY.as_millis()).unwrap_or(0);
            let now = self.clock.boot_ms();
            if now < due && inbox.len() < GROUP_INPUTS {
                std::thread::sleep(Duration::from_millis(due - now));
            }
            let mut pending = Pending::default();
            let mut stop = self.take(first, &mut pending);
            while pending.inputs.len() < GROUP_INPUTS && !stop {
                let Ok(next) = inbox.try_recv() else { break };
                stop = self.take(next, &mut pending);
            }
            self.commit(pending)?;
            last_sync = self.clock.boot_ms();
            let below = release.load(std::sync::atomic::Ordering::Acquire);
            self.log.release(below)?;
            if stop {
                break;
            }
        }
        Ok(())
    }

    /// Takes one submission into the group; true where it was the last.
    fn take(&mut self, submit: Submit, pending: &mut Pending) -> bool {
        match submit {
            Submit::Stop => return true,
            Submit::Held(host, epochs, reply) => {
                let held = epochs
                    .iter()
                    .map(|epoch| self.held.last(host, *epoch))
                    .collect();
                let _ = reply.send(held);
            }
            Submit::Input(input, reply) => {
                if let Input::Schema { host, schema } = &*input
                    && self.held.has_schema(*host, schema.id())
                {
                    return false;
                }
                pending.remember(&self.held, &input);
                self.held.apply(&input);
                pending.inputs.push(*input);
                pending.replies.extend(reply);
            }
            Submit::Batch(mut batch, acks) => {
                self.held.trim(&mut batch);
                let (host, epoch) = (batch.host, batch.epoch);
                if !batch.items.is_empty() {
                    let input = Input::Batch(batch);
                    pending.remember(&self.held, &input);
                    self.held.apply(&input);
                    pending.inputs.push(input);
                }
                pending
                    .acks
                    .push((acks, epoch, self.held.last(host, epoch)));
            }
        }
        false
    }

    /// Makes the group durable, then tells those who wait and the watch.
    fn commit(&mut self, pending: Pending) -> Result<(), Error> {
        let Pending {
            mut inputs,
            undo,
            replies,
            acks,
        } = pending;
        if !inputs.is_empty() {
            let (at, stepped) = self.stamper.stamp(self.clock.wall(), self.clock.boot_ms());
            if let Some(by_ms) = stepped {
                inputs.insert(0, Input::ClockStep { by_ms });
            }
            self.stamper.skip(inputs.len() as u64 - 1);
            let group = Group { at, inputs };
            match self.write(&group) {
                Ok(frame) => {
                    // A watch that is gone has reported why; the app stops the rest.
                    let _ = self.groups.send((frame, group));
                }
                Err(error) if error.is_full() => return self.refuse(&group, undo, replies, &acks),
                Err(error) => return Err(error.into()),
            }
        }
        for reply in replies {
            let _ = reply.send(Ok(()));
        }
        for (ack, epoch, seq) in acks {
            let _ = ack.send(Ok((epoch, seq)));
        }
        Ok(())
    }

    fn write(&mut self, group: &Group) -> Result<u64, dawnwatch_segment::Error> {
        let frame = self.log.append(&encode(group))?;
        self.log.sync()?;
        Ok(frame)
    }

    /// A full disk: nothing of the group counts, agents keep it and send it again.
    fn refuse(
        &mut self,
        group: &Group,
        undo: BTreeMap<HostId, Kept>,
        replies: Vec<oneshot::Sender<Result<(), Full>>>,
        acks: &[(Acks, u64, u64)],
    ) -> Result<(), Error> {
        self.log.heal()?;
        self.stamper.rewind(group.at.position);
        self.held.put_back(undo);
        tracing::warn!(inputs = group.inputs.len(), "disk full, inputs refused");
        for reply in replies {
            let _ = reply.send(Err(Full));
        }
        for (ack, _, _) in acks {
            let _ = ack.send(Err(Full));
        }
        Ok(())
    }
}

/// A group in the making.
#[derive(Debug, Default)]
struct Pending {
    inputs: Vec<Input>,
    /// What was held of each host before this group, for a disk that turns out full.
    undo: BTreeMap<HostId, Kept>,
    replies: Vec<oneshot::Sender<Result<(), Full>>>,
    acks: Vec<(Acks, u64, u64)>,
}

impl Pending {
    fn remember(&mut self, held: &Held, input: &Input) {
        let host = match input {
            Input::Batch(batch) => batch.host,
            Input::Schema { host, .. } => *host,
            Input::Config(_)
            | Input::Started(_)
            | Input::ClockStep { .. }
            | Input::Host(_)
            | Input::Heartbeat(_)
            | Input::Tick
            | Input::Order(_)
            | Input::Delivered(_)
            | Input::Server(_) => return,
        };
        self.undo.entry(host).or_insert_with(|| held.keep(host));
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
