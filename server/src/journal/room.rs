//! Room for what streams bring: how much of it may wait for the journal, by memory.

use std::sync::Arc;

use dawnwatch_engine::input::Input;
use dawnwatch_proto::Item;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory, in KiB, of what streams have brought and the journal has not taken yet. Of honest backlogs it is some 300 batches; a row of
/// 2,000 columns may come in a few bytes and takes 16 KB here, so that a number of inputs alone is no bound.
const ROOM_KIB: usize = 128 * 1024;

/// The room that an input holds until the journal takes it; none where nobody counts.
pub type Taken = Option<OwnedSemaphorePermit>;

/// The room of all streams.
#[derive(Debug)]
pub struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Room {
        Room(Arc::new(Semaphore::new(ROOM_KIB)))
    }
}

impl Room {
    /// Waits, in turn, until there is room for an input that came in so many bytes.
    pub async fn take(&self, input: &Input, bytes: usize) -> Taken {
        // Texts lie in memory about as they came. What is larger than half of all waits for half, so that it gets in.
        let kib = (bytes + row_bytes(input)).div_ceil(1024).min(ROOM_KIB / 2);
        let kib = u32::try_from(kib).unwrap_or(1);
        // Nobody closes it.
        Arc::clone(&self.0).acquire_many_owned(kib).await.ok()
    }
}

/// Memory that the rows of an input take.
#[must_use]
pub(super) fn row_bytes(input: &Input) -> usize {
    let Input::Batch(batch) = input else {
        return 0;
    };
    let of = |item: &Item| match item {
        Item::Tick(tick) => size_of_val(&tick.row[..]),
        Item::Event(_) | Item::Gap(_) => 0,
    };
    batch.items.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use dawnwatch_engine::input::Batch;
    use dawnwatch_proto::{HostId, SchemaId, Tick};
    use jiff::Timestamp;

    use super::*;

    /// As many ticks of 2,000 columns, 16 KB each.
    fn batch(ticks: usize) -> Input {
        let tick = Item::Tick(Tick {
            time: Timestamp::UNIX_EPOCH,
            schema: SchemaId(1),
            row: vec![0; 2_000],
        });
        Input::Batch(Batch {
            host: HostId(1),
            epoch: 1,
            first_seq: 1,
            items: vec![tick; ticks],
            offset_ms: None,
        })
    }

    fn taken_at_once(room: &Room, input: &Input, bytes: usize) -> Option<Taken> {
        let mut context = Context::from_waker(Waker::noop());
        match pin!(room.take(input, bytes)).poll(&mut context) {
            Poll::Ready(taken) => Some(taken),
            Poll::Pending => None,
        }
    }

    #[test]
    fn what_waits_is_bound_by_memory_and_all_get_in() {
        let room = Room::default();
        let full = batch(512);
        assert_eq!(row_bytes(&full), 512 * 16_000);
        // 8 MB each, that came in 2 KB each.
        let mut held = Vec::new();
        while let Some(taken) = taken_at_once(&room, &full, 2_000) {
            held.push(taken);
        }
        assert_eq!(held.len(), ROOM_KIB / 8_002);
        held.pop();
        assert!(taken_at_once(&room, &full, 2_000).is_some());
        // One that is larger than all there is gets in as well.
        held.clear();
        assert!(taken_at_once(&room, &full, usize::MAX / 2).is_some());
    }
}
