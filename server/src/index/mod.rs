//! The index: finds incidents, findings and shapes of log lines by words, time, host and kind. The only room that names sled.
//!
//! A hint, never a truth: it holds nothing that ledger and history do not hold, it may be deleted while the server is
//! stopped, and what it gives is checked on the way out. It is filled by following the ledger and the events of history from
//! where it stands, which is also how it is built anew: one code path, so that both lead to the same answers.
//!
//! - `doc`: what it knows of one thing, and the words it is found by. Pure.
//! - `old`: an incident that the engine has forgotten, put together from the ledger. Pure.
//! - `store`: the sled database, how it is opened and put aside.
//! - `follow`: the one thread that owns it.

pub mod doc;
mod follow;
pub mod old;
mod store;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use dawnwatch_engine::scrub::Scrub;
use dawnwatch_proto::HostId;
use dawnwatch_segment::Disk;
use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::history::History;
use doc::Doc;

/// Questions that wait for the index: more at once are told to come again.
const QUEUE: usize = 64;

/// Most answers to one search.
pub const FOUND_MAX: usize = 500;

/// A server that stops waits this long for the index; what it has not written it follows anew.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// The old index is gone within this: it is busy with some frames of the ledger at most.
const ANEW_WITHIN: Duration = Duration::from_secs(30);

/// What is searched for.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Every one of these must begin a word of what is found; none finds all.
    pub words: Vec<String>,
    /// Not over before this.
    pub from: Option<Timestamp>,
    /// Begun before this.
    pub to: Option<Timestamp>,
    /// Of this host.
    pub host: Option<HostId>,
    /// `incident`, `finding` or `template`.
    pub kind: Option<String>,
    /// At most so many; [`FOUND_MAX`] at most.
    pub limit: usize,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Found {
    /// Latest first.
    pub docs: Vec<Doc>,
    /// There are more.
    pub more: bool,
}

/// What the owner of the index is asked.
pub(crate) enum Job {
    /// Ledger or history went on.
    Wake,
    Search(Query, oneshot::Sender<Option<Found>>),
    /// The ledger frames that tell of an incident.
    Frames(String, oneshot::Sender<Option<Vec<u64>>>),
    Stop,
}

/// How far the ledger is durable, and a nudge for the index; the watch never waits for it.
#[derive(Debug, Default)]
pub struct Poke {
    frame: AtomicU64,
    jobs: Mutex<Option<SyncSender<Job>>>,
}

impl Poke {
    /// The frame up to which the ledger is durable.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.frame.load(Ordering::Acquire)
    }

    /// Says up to which frame the ledger is durable.
    pub fn ledger(&self, frame: u64) {
        self.frame.store(frame, Ordering::Release);
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(jobs) = jobs.as_ref() {
            // Full: it is awake.
            let _ = jobs.try_send(Job::Wake);
        }
    }
}

/// How the index stands.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Per cent; 100 is whole, [`OFF`] is none at all.
    percent: AtomicU8,
    why: Mutex<String>,
    /// Whether it is to be removed and built anew.
    anew: AtomicBool,
    /// Hosts that were erased, with the names that the ledger has of them.
    scrub: Mutex<Arc<Scrub>>,
}

const WHOLE: u8 = 100;
const OFF: u8 = 255;

impl Standing {
    fn off(&self, why: &str) {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = why.to_owned();
        self.percent.store(OFF, Ordering::Release);
    }

    fn is_asked_anew(&self) -> bool {
        self.anew.load(Ordering::Acquire)
    }

    fn is_anew(&self) {
        self.anew.store(false, Ordering::Release);
    }

    fn erased(&self, scrub: &Arc<Scrub>) {
        *self.scrub.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(scrub);
    }

    fn built(&self, percent: u8) {
        self.percent.store(percent.min(WHOLE), Ordering::Release);
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// It is on its way.
    #[error("the index is being built, {0} %: ask again in a moment")]
    Building(u8),
    /// It cannot be.
    #[error("there is no index: {0}")]
    Off(String),
    /// Too many ask at once.
    #[error("too many searches at once: ask again in a moment")]
    Busy,
}

/// The way to the index.
#[derive(Debug)]
pub struct Index {
    jobs: SyncSender<Job>,
    standing: Arc<Standing>,
    owner: Mutex<Option<JoinHandle<()>>>,
}

impl Index {
    /// Starts the thread that owns the index. Nothing waits for it.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(
        disk: Arc<dyn Disk>,
        data: &Path,
        history: Arc<History>,
        poke: Arc<Poke>,
    ) -> std::io::Result<Index> {
        let (jobs, inbox): (SyncSender<Job>, Receiver<Job>) = sync_channel(QUEUE);
        *poke.jobs.lock().unwrap_or_else(PoisonError::into_inner) = Some(jobs.clone());
        let standing = Arc::new(Standing::default());
        let owner = follow::Owner::new(disk, data, history, poke, Arc::clone(&standing), inbox);
        let owner = std::thread::Builder::new()
            .name("index".to_owned())
            .spawn(move || owner.run())?;
        Ok(Index {
            jobs,
            standing,
            owner: Mutex::new(Some(owner)),
        })
    }

    /// Searches.
    ///
    /// # Errors
    /// [`Unanswered`] while there is no whole index.
    pub async fn search(&self, query: Query) -> Result<Found, Unanswered> {
        self.ask(|reply| Job::Search(query, reply)).await
    }

    /// The ledger frames that tell of an incident, in order.
    ///
    /// # Errors
    /// [`Unanswered`] while there is no whole index.
    pub async fn frames(&self, incident: &str) -> Result<Vec<u64>, Unanswered> {
        let incident = incident.to_owned();
        self.ask(|reply| Job::Frames(incident, reply)).await
    }

    async fn ask<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Option<T>>) -> Job,
    ) -> Result<T, Unanswered> {
        self.stands()?;
        let (reply, answer) = oneshot::channel();
        match self.jobs.try_send(job(reply)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(Unanswered::Busy),
            Err(TrySendError::Disconnected(_)) => {
                return Err(Unanswered::Off("its thread has ended".to_owned()));
            }
        }
        match answer.await {
            Ok(Some(answer)) => Ok(answer),
            // It was found damaged over this question, and is built anew.
            Ok(None) | Err(_) => self.stands().and(Err(Unanswered::Building(0))),
        }
    }

    /// Has the index removed and built anew: what the ledger says of hosts that were erased is in it without their names. True
    /// once the old one is gone; false where that takes too long.
    pub(crate) fn anew(&self, stops: impl Fn() -> bool) -> bool {
        self.standing.anew.store(true, Ordering::Release);
        // Full: it is awake.
        let _ = self.jobs.try_send(Job::Wake);
        let pause = Duration::from_millis(20);
        let mut left = ANEW_WITHIN.as_millis() / pause.as_millis();
        while self.standing.is_asked_anew() && left > 0 && !stops() {
            std::thread::sleep(pause);
            left -= 1;
        }
        !self.standing.is_asked_anew()
    }

    /// Takes the names of erased hosts out of what the ledger says.
    #[must_use]
    pub fn scrub(&self) -> Arc<Scrub> {
        let scrub = self.standing.scrub.lock();
        Arc::clone(&scrub.unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until the index is whole.
    #[cfg(test)]
    fn wait_whole(&self) {
        while let Err(Unanswered::Building(_)) = self.stands() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn stands(&self) -> Result<(), Unanswered> {
        match self.standing.percent.load(Ordering::Acquire) {
            WHOLE => Ok(()),
            OFF => {
                let why = self.standing.why.lock();
                Err(Unanswered::Off(
                    why.unwrap_or_else(PoisonError::into_inner).clone(),
                ))
            }
            percent => Err(Unanswered::Building(percent)),
        }
    }

    /// Ends the thread. What it has not written by then it follows anew after the next start.
    pub fn stop(&self) {
        let owner = self
            .owner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(owner) = owner else { return };
        let pause = Duration::from_millis(10);
        let mut left = STOP_WITHIN.as_millis() / pause.as_millis();
        let mut told = false;
        while !owner.is_finished() && left > 0 {
            told = told || self.jobs.try_send(Job::Stop).is_ok();
            std::thread::sleep(pause);
            left -= 1;
        }
        if owner.is_finished() {
            // A panic was logged where it happened.
            let _ = owner.join();
        }
    }
}

#[cfg(test)]
mod tests;
