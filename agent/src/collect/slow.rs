//! Subjects that may be slow to answer, looked at once a minute on a thread of their own, so that no tick waits for them.
//!
//! [`Looks`] reads them and puts what it found on a board; each tick takes the board's values as they are. A board that was
//! not renewed for three looks shows `MISSING`: what is stuck must not look well.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dawnwatch_proto::event::Processes;
use dawnwatch_proto::{Event, EventBody, MISSING, Series};

use super::ask::Asks;
use super::processes::Table;
use super::{Out, Room, Roots, own};
use crate::alarm::Alarm;
use crate::clock::Clock;
use crate::uplink::Shared;

/// Time between two looks at the usual pace.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// A look every so many ticks where ticks are quicker than usual.
const LOOK_TICKS: u32 = 6;

/// Looks that may fail to come before what they found is no longer shown.
const STALE_LOOKS: i64 = 3;

/// What the last look found.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// Counts up when the list of series is another.
    pub(super) generation: u64,
    pub(super) series: Vec<Series>,
    pub(super) row: Vec<i64>,
    /// What could not be read and no tick has taken yet.
    pub(super) troubles: Vec<(String, String)>,
    at_us: i64,
    /// What lies between two looks, as the last two were apart.
    apart_us: i64,
}

impl Board {
    /// The values as a tick shows them.
    pub(super) fn values(&self, now_us: i64) -> impl Iterator<Item = i64> {
        let usual_us = i64::try_from(LOOK_EVERY.as_micros()).unwrap_or(i64::MAX);
        let age_us = now_us.saturating_sub(self.at_us);
        let stale = age_us > STALE_LOOKS * self.apart_us.max(usual_us);
        self.row
            .iter()
            .map(move |raw| if stale { MISSING } else { *raw })
    }
}

/// Looks at the slow subjects.
#[derive(Debug)]
pub struct Looks {
    rooms: Vec<Room>,
    processes: Table,
    asks: Asks,
    board: Arc<Mutex<Board>>,
    first: bool,
}

impl Looks {
    pub(super) fn new(roots: &Roots, board: Arc<Mutex<Board>>) -> Looks {
        Looks {
            rooms: super::slow_list(roots).into_iter().map(Room::new).collect(),
            processes: Table::new(roots),
            asks: roots.asks,
            board,
            first: true,
        }
    }

    /// Looks once: what is found goes on the board, who used the machine since the last look is returned.
    pub fn look(&mut self) -> Option<Processes> {
        let first = std::mem::take(&mut self.first);
        let mut out = Out::default();
        let mut changed = first;
        let mut troubles = Vec::new();
        for room in &mut self.rooms {
            changed |= room.collect(&mut out, first);
            let name = room.collector.name();
            troubles.extend(out.complaints.drain(..).map(|text| (name.to_owned(), text)));
        }
        let now_us = (self.asks.elapsed_us)();
        let top = self.processes.look(now_us);
        troubles.extend(top.trouble.map(|text| ("processes".to_owned(), text)));
        out.row
            .extend(self.rooms.iter().map(|room| i64::from(room.success)));
        let series = changed.then(|| self.describe());
        let mut board = held(&self.board);
        if let Some(series) = series {
            board.series = series;
            board.generation += 1;
        }
        board.row = out.row;
        board.troubles = troubles;
        board.apart_us = if first { 0 } else { now_us - board.at_us };
        board.at_us = now_us;
        top.processes
    }

    fn describe(&self) -> Vec<Series> {
        let mut series = Vec::new();
        for room in &self.rooms {
            room.collector.describe(&mut series);
        }
        for room in &self.rooms {
            let success = own::SUCCESS.series();
            series.push(success.label("collector", room.collector.name()));
        }
        series
    }
}

/// Nobody panics while holding a board; what is on it is whole all the same.
pub(super) fn held(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks for ever.
pub(crate) async fn run(shared: &Shared, clock: Clock, mut looks: Looks) {
    let alarm = Alarm::new();
    loop {
        let looking = tokio::task::spawn_blocking(move || {
            let found = looks.look();
            (looks, found)
        });
        let Ok((back, found)) = looking.await else {
            tracing::error!("looking at units and processes ended; they are no longer shown");
            return std::future::pending().await;
        };
        looks = back;
        if let Some(processes) = found {
            shared.event(Event {
                time: clock.wall(),
                body: EventBody::Processes(processes),
            });
        }
        let ticks = shared.tick_interval() * LOOK_TICKS;
        alarm.sleep(ticks.min(LOOK_EVERY)).await;
    }
}
