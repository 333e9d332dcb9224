//! The thread that owns the index: it follows the ledger and the events of history from where the index stands, and answers in
//! between. An index that is damaged, ahead of the ledger, or of another one is put aside and followed anew from the start.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use dawnwatch_engine::scrub::Scrub;
use dawnwatch_proto::event::EventBody;
use dawnwatch_segment::Disk;

use super::doc;
use super::store::{self, Error, Place, Store};
use super::{Job, OFF, Poke, Standing};
use crate::erase;
use crate::history::History;
use crate::ledger::{self, Seen};
use crate::plain;

/// The index looks by itself this often for what nobody told it of: events.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Ledger frames between two writes while the index is being built: few batches, and bounded memory.
const FRAMES_A_WRITE: u64 = 64;

/// Templates between two writes.
const EVENTS_A_WRITE: usize = 256;

/// An index that turns out damaged so often in one run is a disk that is.
const TIMES_ANEW_MAX: u32 = 5;

/// Where there is no room, or the ledger cannot be read, it is tried again this often.
const AGAIN_EVERY: Duration = Duration::from_secs(30);

/// Owns the index.
pub(super) struct Owner {
    disk: Arc<dyn Disk>,
    data: PathBuf,
    history: Arc<History>,
    poke: Arc<Poke>,
    standing: Arc<Standing>,
    inbox: Receiver<Job>,
    place: Place,
    stopped: bool,
    /// Hosts that were erased: the ledger still names them.
    scrub: Arc<Scrub>,
}

impl Owner {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        data: &Path,
        history: Arc<History>,
        poke: Arc<Poke>,
        standing: Arc<Standing>,
        inbox: Receiver<Job>,
    ) -> Owner {
        Owner {
            disk,
            data: data.to_owned(),
            history,
            poke,
            standing,
            inbox,
            place: Place::default(),
            stopped: false,
            scrub: Arc::default(),
        }
    }

    /// Runs until told to stop.
    pub(super) fn run(mut self) {
        let mut anew = 0;
        while !self.stopped {
            // sled panics over a damaged database, and what it holds then is of no use to anybody.
            let ended = catch_unwind(AssertUnwindSafe(|| self.serve()));
            match ended.unwrap_or_else(|_| Err(store::panicked())) {
                Ok(()) => return,
                Err(error @ (Error::NoRoom | Error::Source(_))) => {
                    self.standing.off(&error.to_string());
                    self.wait_off(AGAIN_EVERY);
                    self.standing.built(0);
                }
                Err(Error::Anew) => {
                    self.standing.built(0);
                    if let Err(error) = store::remove(&self.data) {
                        tracing::warn!(%error, "the index stays as it is for now");
                        self.wait_off(LOOK_EVERY);
                    } else {
                        self.standing.is_anew();
                    }
                }
                Err(error @ Error::Damaged(_)) => {
                    anew += 1;
                    tracing::warn!(%error, "index put aside, it is built anew from ledger and history");
                    self.standing.built(0);
                    let aside = store::put_aside(&self.data);
                    if anew > TIMES_ANEW_MAX || aside.is_err() {
                        tracing::error!(
                            "there is no index until the server starts anew: look at the disk"
                        );
                        self.standing.off(&error.to_string());
                        self.wait_off(Duration::MAX);
                    }
                }
            }
        }
    }

    /// Opens the index, follows, answers.
    fn serve(&mut self) -> Result<(), Error> {
        if self.standing.is_asked_anew() {
            return Err(Error::Anew);
        }
        let erased = self.history.erased();
        if !erased.is_empty() {
            // One that the ledger does not tell of yet is about to: all is made anew then.
            let scrub = erase::scrub(&self.disk, &self.data, &erased)?;
            self.scrub = Arc::new(scrub.unwrap_or_default());
            self.standing.erased(&self.scrub);
        }
        let mut store = Store::open(&self.data)?;
        self.place = store.place()?;
        if self.place.frame > self.poke.frame.load(Ordering::Acquire) {
            let why = "it knows more than the ledger, whose end was lost";
            return Err(Error::Damaged(why.to_owned()));
        }
        self.check_ledger()?;
        if self.place.frame == 0 {
            self.standing.built(0);
        }
        loop {
            let news = self.follow_ledger(&mut store)? | self.follow_events(&mut store)?;
            if self.stopped {
                return store.flush();
            }
            if news {
                store.flush()?;
            }
            store.forget_before(self.history.expired());
            self.standing.built(super::WHOLE);
            match self.inbox.recv_timeout(LOOK_EVERY) {
                Ok(job) => self.answer(&store, job)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.stopped = true,
            }
            self.answer_all(&store)?;
            if self.standing.is_asked_anew() {
                return Err(Error::Anew);
            }
        }
    }

    /// Whether the frame that the index ends at is that of this ledger.
    fn check_ledger(&self) -> Result<(), Error> {
        let (at, want) = (self.place.frame, self.place.frame_sum);
        if at == 0 {
            return Ok(());
        }
        let mut found = None;
        let walked = ledger::walk_from(&self.disk, &self.data, at, at, |seen| {
            found = Some(sum(&seen));
            Ok::<(), Error>(())
        });
        walked?;
        if found == Some(want) {
            Ok(())
        } else {
            Err(Error::Damaged("it belongs to another ledger".to_owned()))
        }
    }

    /// Takes in what the ledger has over the index. True where there was anything.
    fn follow_ledger(&mut self, store: &mut Store) -> Result<bool, Error> {
        let until = self.poke.frame.load(Ordering::Acquire);
        let from = self.place.frame + 1;
        if from > until {
            return Ok(false);
        }
        let (disk, data) = (Arc::clone(&self.disk), self.data.clone());
        let scrub = Arc::clone(&self.scrub);
        ledger::walk_from(&disk, &data, from, until, |mut seen| {
            self.place.frame_sum = sum(&seen);
            if !scrub.is_empty() {
                seen.of.effects.iter_mut().for_each(|one| scrub.effect(one));
            }
            doc::take_in(store, seen.frame, seen.of.wall, &seen.of.effects);
            self.place.frame = seen.frame;
            if seen.frame % FRAMES_A_WRITE == 0 {
                self.write(store, seen.frame, until)?;
            }
            Ok::<(), Error>(())
        })?;
        store.commit(&self.place)?;
        Ok(true)
    }

    /// Writes what was taken in so far, and answers who asked meanwhile: an index that is being built says so.
    fn write(&mut self, store: &mut Store, at: u64, until: u64) -> Result<(), Error> {
        store.commit(&self.place)?;
        let percent = at.saturating_mul(99) / until.max(1);
        let standing = self.standing.percent.load(Ordering::Acquire);
        if standing != super::WHOLE && standing != OFF {
            self.standing.built(u8::try_from(percent).unwrap_or(99));
        }
        self.answer_all(store)
    }

    /// Takes in the shapes of log lines that hosts told of since. True where there were any.
    fn follow_events(&mut self, store: &mut Store) -> Result<bool, Error> {
        let (mut pending, mut any) = (0, false);
        let history = Arc::clone(&self.history);
        let through = history.events_after(self.place.events, |shown| {
            let EventBody::Template(told) = &shown.event.body else {
                return Ok(());
            };
            doc::template(store, shown.host, shown.at, shown.position, told);
            (pending, any) = (pending + 1, true);
            if pending < EVENTS_A_WRITE {
                return Ok(());
            }
            pending = 0;
            store.commit(&self.place)
        })?;
        // Where nothing was to be found this is written with what comes next.
        self.place.events = through;
        if any {
            store.commit(&self.place)?;
        }
        Ok(any)
    }

    fn answer_all(&mut self, store: &Store) -> Result<(), Error> {
        loop {
            match self.inbox.try_recv() {
                Ok(job) => self.answer(store, job)?,
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => {
                    self.stopped = true;
                    return Ok(());
                }
            }
        }
    }

    /// Answers one question. Damage met over it goes on to whoever builds anew; the question is then left without an answer.
    fn answer(&mut self, store: &Store, job: Job) -> Result<(), Error> {
        // Who has gone away needs no answer.
        match job {
            Job::Wake => {}
            Job::Search(query, reply) => drop(reply.send(Some(store.search(&query)?))),
            Job::Frames(incident, reply) => drop(reply.send(Some(store.frames(&incident)?))),
            Job::Stop => self.stopped = true,
        }
        Ok(())
    }

    /// Leaves questions unanswered for a while.
    fn wait_off(&mut self, long: Duration) {
        let mut left = long;
        while !self.stopped && left > Duration::ZERO {
            if self.standing.is_asked_anew() && store::remove(&self.data).is_ok() {
                self.standing.is_anew();
            }
            let pause = left.min(LOOK_EVERY);
            match self.inbox.recv_timeout(pause) {
                Ok(Job::Search(_, reply)) => drop(reply.send(None)),
                Ok(Job::Frames(_, reply)) => drop(reply.send(None)),
                Ok(Job::Wake) => {}
                Ok(Job::Stop) | Err(RecvTimeoutError::Disconnected) => self.stopped = true,
                Err(RecvTimeoutError::Timeout) => left = left.saturating_sub(pause),
            }
        }
    }
}

/// What tells one ledger's frame from another's.
fn sum(seen: &Seen) -> u32 {
    crc32c::crc32c(&plain::bytes(&seen.of))
}
