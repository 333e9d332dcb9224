//! A group in the making, and its bounds.

use std::collections::BTreeMap;
use std::sync::Arc;

use dawnwatch_engine::input::Input;
use dawnwatch_proto::HostId;
use dawnwatch_segment::PAYLOAD_BYTES_MAX;
use tokio::sync::oneshot;

use super::held::{Held, Kept};
use super::stream::{Full, Stream};

/// Most inputs in one group: bounds the frame and the time to the next acknowledgement.
const GROUP_INPUTS: usize = 2_048;

/// A group that has grown to this many bytes is written: with one more input of the largest kind (10 MiB, 512 rows of 2,000
/// columns) it still fits one frame.
const GROUP_BYTES: usize = 4 * 1024 * 1024;

/// A group whose rows take so much memory is written too, however few bytes they are on disk.
const GROUP_ROW_BYTES: usize = 16 * 1024 * 1024;

/// Most bytes of inputs in a group, with room for stamps in the same frame: what a stream brings beyond it is refused.
pub(super) const GROUP_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - 1024;

/// A stream that brought something, and what can be acknowledged once it is durable.
pub(super) type Ack = (Arc<Stream>, Option<(u64, u64)>);

/// A group in the making.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Somebody waits for a segment to begin after this group.
    pub(super) rotate: Option<oneshot::Sender<()>>,
    pub(super) inputs: Vec<Input>,
    /// The inputs in postcard form, one after the other.
    pub(super) bytes: Vec<u8>,
    /// Memory of their rows.
    pub(super) row_bytes: usize,
    /// What was held of each host before this group, for a disk that turns out full.
    pub(super) undo: BTreeMap<HostId, Kept>,
    pub(super) replies: Vec<oneshot::Sender<Result<(), Full>>>,
    pub(super) acks: Vec<Ack>,
    /// Who wants to know what is held.
    pub(super) asked: Vec<(HostId, Vec<u64>, oneshot::Sender<Vec<u64>>)>,
}

impl Pending {
    pub(super) fn is_full(&self) -> bool {
        self.inputs.len() >= GROUP_INPUTS
            || self.bytes.len() >= GROUP_BYTES
            || self.row_bytes >= GROUP_ROW_BYTES
            || self.acks.len() + self.asked.len() >= GROUP_INPUTS
    }

    pub(super) fn remember(&mut self, held: &Held, input: &Input) {
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
            | Input::Server(_)
            | Input::Named(_)
            | Input::Vitals(_)
            | Input::Twice(_)
            | Input::Restored(_) => return,
        };
        self.undo.entry(host).or_insert_with(|| held.keep(host));
    }
}
