//! Room for what streams bring: how much of it may wait for the journal, by memory.

use std::sync::Arc;

use dawnwatch_engine::input::Input;
use dawnwatch_proto::event::Process;
use dawnwatch_proto::{EventBody, Item};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory, in KiB, of what streams have brought and the journal has not taken yet. Of honest backlogs it is some 300 batches; a row of
/// 2,000 columns may come in a few bytes and takes 16 KB here, a table of processes in 130 and takes 4 KB, so that a number of inputs
/// alone is no bound.
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
        // Other texts lie in memory about as they came. What is larger than half of all waits for half, so that it gets in.
        let kib = (bytes + row_bytes(input)).div_ceil(1024).min(ROOM_KIB / 2);
        let kib = u32::try_from(kib).unwrap_or(1);
        // Nobody closes it.
        Arc::clone(&self.0).acquire_many_owned(kib).await.ok()
    }
}

/// Memory that rows, lists and names that may have been said before take in an input.
#[must_use]
pub(super) fn row_bytes(input: &Input) -> usize {
    let Input::Batch(batch) = input else {
        return 0;
    };
    let of = |item: &Item| match item {
        Item::Tick(tick) => size_of_val(&tick.row[..]),
        Item::Event(event) => list_bytes(&event.body),
        Item::Gap(_) => 0,
    };
    batch.items.iter().map(of).sum()
}

fn list_bytes(body: &EventBody) -> usize {
    let names = |one: &Process| one.name.len() + one.unit.len();
    match body {
        EventBody::LogCounts(told) => size_of_val(&told.counts[..]),
        EventBody::Processes(table) => {
            size_of_val(&table.top[..]) + table.top.iter().map(names).sum::<usize>()
        }
        EventBody::Started(_)
        | EventBody::Goodbye(_)
        | EventBody::Trouble { .. }
        | EventBody::Template(_)
        | EventBody::Line(_)
        | EventBody::Unknown => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use dawnwatch_engine::input::Batch;
    use dawnwatch_proto::event::{
        LogCounts, PROCESSES_MAX, Processes, TEMPLATES_MAX, TemplateCount,
    };
    use dawnwatch_proto::{Event, HostId, SchemaId, Tick};
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

    /// As many events.
    fn events(count: usize, body: &EventBody) -> Input {
        let Input::Batch(mut events) = batch(0) else {
            unreachable!("it is a batch")
        };
        let event = Event {
            time: Timestamp::UNIX_EPOCH,
            body: body.clone(),
        };
        events.items = vec![Item::Event(event); count];
        Input::Batch(events)
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

    #[test]
    fn lists_that_come_in_few_bytes_are_no_way_around_it() {
        let nobody = Process::default();
        let table = EventBody::Processes(Processes {
            top: vec![nobody; PROCESSES_MAX],
            ..Processes::default()
        });
        let again = Process {
            name: "x".repeat(4_096),
            ..Process::default()
        };
        let named = EventBody::Processes(Processes {
            top: vec![again],
            ..Processes::default()
        });
        let nothing = TemplateCount {
            template: 0,
            count: 0,
            severity: 0,
        };
        let counts = EventBody::LogCounts(LogCounts {
            counts: vec![nothing; TEMPLATES_MAX],
            ..LogCounts::default()
        });
        // How many events, what each takes at least, and in how few bytes it may come.
        for (body, events_each, takes, came) in [
            (&table, 512, 64 * 64, 64 * 2),
            (&named, 512, 4_096, 6),
            (&counts, 400, 5_000 * 12, 5_000 * 2),
        ] {
            let room = Room::default();
            let input = events(events_each, body);
            let mut held = Vec::new();
            while let Some(taken) = taken_at_once(&room, &input, events_each * came) {
                held.push(taken);
            }
            let memory = held.len() * events_each * takes;
            assert!(memory > 0 && memory <= ROOM_KIB * 1024, "{memory}");
        }
    }
}
