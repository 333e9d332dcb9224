//! What sampler and uplink share. Both run on one thread: no borrow lives across an await.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use dawnwatch_proto::probe::{self, Target};
use dawnwatch_proto::{Event, Schema, Tick, pb};
use tokio::sync::Notify;

use crate::clock::Offset;
use crate::spool::{EpochSpan, Spool};

/// Time between two ticks until the server says otherwise.
pub const TICK: Duration = Duration::from_secs(10);

/// Slowest sampling that a server may ask for.
const TICK_SECONDS_MAX: u32 = 300;

/// The spool, and the bells that ring when it changes.
#[derive(Debug)]
pub struct Shared {
    spool: RefCell<Spool>,
    latest: RefCell<Option<(Tick, Arc<Schema>)>>,
    tick: Cell<Duration>,
    tick_is_set: bool,
    targets: RefCell<Rc<[Target]>>,
    connected: Cell<bool>,
    appended: Notify,
    acked: Notify,
    renewed: Notify,
    progress: RefCell<Progress>,
    progressed: Notify,
    offset: Offset,
}

/// How far this run has come, for [`crate::status`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// The server whose stream is up.
    pub server: Option<String>,
    /// Whether the server has acknowledged a sample of this run.
    pub is_sampled: bool,
    /// Why there is no stream.
    pub trouble: Option<String>,
    /// Epoch and number of the first sample of this run.
    first_tick: Option<(u64, u64)>,
}

impl Shared {
    /// Shares a spool; `tick` is the interval that the host's own configuration sets, which no server overrides.
    #[must_use]
    pub fn new(spool: Spool, tick: Option<Duration>) -> Shared {
        Shared {
            spool: RefCell::new(spool),
            latest: RefCell::new(None),
            tick: Cell::new(tick.unwrap_or(TICK)),
            tick_is_set: tick.is_some(),
            targets: RefCell::default(),
            connected: Cell::new(false),
            appended: Notify::new(),
            acked: Notify::new(),
            renewed: Notify::new(),
            progress: RefCell::new(Progress::default()),
            progressed: Notify::new(),
            offset: Offset::default(),
        }
    }

    /// How far the host's clock is off, as the server is heard.
    #[must_use]
    pub fn offset(&self) -> &Offset {
        &self.offset
    }

    /// Keeps a tick and wakes the uplink.
    pub fn tick(&self, tick: Tick, schema: &Arc<Schema>) {
        self.with_spool(|spool| spool.append_tick(&tick, schema));
        if self.progress.borrow().first_tick.is_none() {
            let last = self.epochs().last().map(|span| (span.id, span.last_seq));
            self.progress.borrow_mut().first_tick = last;
        }
        *self.latest.borrow_mut() = Some((tick, Arc::clone(schema)));
        self.appended.notify_one();
    }

    /// Keeps an event and wakes the uplink.
    pub fn event(&self, event: Event) {
        self.with_spool(|spool| spool.append_event(event));
        self.appended.notify_one();
    }

    /// Keeps events with a note of where they end, as `Spool::append_noted` does, and wakes the uplink.
    pub(crate) fn events(
        &self,
        events: Vec<Event>,
        note: impl FnOnce(u64) -> std::io::Result<()>,
    ) -> Result<bool, String> {
        let kept = self.with_spool(|spool| spool.append_noted(events, note));
        self.appended.notify_one();
        kept
    }

    /// Makes all that is spooled durable, here and at once: for who has no threads.
    pub fn sync(&self) {
        self.with_spool(Spool::sync);
    }

    /// Time between two ticks.
    #[must_use]
    pub fn tick_interval(&self) -> Duration {
        self.tick.get()
    }

    /// Items that the server has not acknowledged.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        self.spool.borrow().backlog()
    }

    /// Whether a stream is up.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected.get()
    }

    /// Waits until the server has acknowledged everything that is spooled.
    pub async fn all_acked(&self) {
        while self.backlog() > 0 {
            self.acked.notified().await;
        }
    }

    /// The certificate was renewed: a stream that is up is made anew.
    pub fn renew(&self) {
        if self.is_connected() {
            self.renewed.notify_one();
        }
    }

    pub(crate) async fn renewed(&self) {
        self.renewed.notified().await;
    }

    /// Waits until something is appended.
    pub(crate) async fn appended(&self) {
        self.appended.notified().await;
    }

    pub(crate) fn with_spool<T>(&self, act: impl FnOnce(&mut Spool) -> T) -> T {
        let mut spool = self.spool.borrow_mut();
        let done = act(&mut spool);
        if let Some(trouble) = spool.take_trouble() {
            tracing::warn!("{trouble}");
        }
        done
    }

    pub(crate) fn latest(&self) -> Option<(Tick, Arc<Schema>)> {
        self.latest.borrow().clone()
    }

    pub(crate) fn epochs(&self) -> Vec<EpochSpan> {
        self.spool.borrow().epochs()
    }

    pub(crate) fn ack(&self, epoch: u64, seq: u64) {
        self.with_spool(|spool| spool.ack(epoch, seq));
        self.acked.notify_one();
        self.change(|progress| {
            let covers = |first: (u64, u64)| first.0 == epoch && first.1 <= seq;
            progress.is_sampled |= progress.first_tick.is_some_and(covers);
        });
    }

    /// How far this run has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Waits until [`Shared::progress`] has changed.
    pub async fn progressed(&self) {
        self.progressed.notified().await;
    }

    /// Waits until the server has acknowledged a sample of this run.
    pub async fn sampled(&self) {
        while !self.progress().is_sampled {
            self.progressed().await;
        }
    }

    /// A stream is up, or why there is none.
    pub(crate) fn streams(&self, to: Result<&str, &str>) {
        self.change(|progress| {
            progress.server = to.ok().map(str::to_owned);
            progress.trouble = to.err().map(str::to_owned);
        });
    }

    fn change(&self, change: impl FnOnce(&mut Progress)) {
        let mut progress = self.progress.borrow_mut();
        let before = progress.clone();
        change(&mut progress);
        if *progress != before {
            self.progressed.notify_waiters();
        }
    }

    pub(crate) fn set_connected(&self, connected: bool) {
        self.connected.set(connected);
    }

    /// What the server wants to be pinged: the same list until that changes.
    #[must_use]
    pub fn targets(&self) -> Rc<[Target]> {
        Rc::clone(&self.targets.borrow())
    }

    /// Takes the server's settings.
    pub(crate) fn settings(&self, settings: pb::Settings) {
        self.interval(settings.tick_seconds);
        match probe::targets_from_pb(settings.targets) {
            Ok(targets) if targets[..] == **self.targets.borrow() => {}
            Ok(targets) => *self.targets.borrow_mut() = targets.into(),
            Err(error) => tracing::warn!(%error, "the server's targets are not taken up"),
        }
    }

    /// Takes the server's wish, unless the host's configuration sets the interval itself.
    fn interval(&self, tick_seconds: u32) {
        if !self.tick_is_set && (1..=TICK_SECONDS_MAX).contains(&tick_seconds) {
            self.tick.set(Duration::from_secs(u64::from(tick_seconds)));
        }
    }
}
