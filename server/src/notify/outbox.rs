//! The workers: a thread for each channel, driven by its queue.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use dawnwatch_engine::effect::Notification;
use dawnwatch_engine::input::{Delivered, Outcome};
use ring::rand::{SecureRandom, SystemRandom};

use super::queue::{Queue, Step, Taken};
use super::{ChannelSettings, Clock, Failure, Notifier, Now, answer};

/// Longest pause of a worker with something to send: a clock that a suspend or a test moved on is noticed within it.
const WAIT_MS_MAX: u64 = 250;

/// The workers could not be started.
#[derive(Debug, thiserror::Error)]
#[error("start the thread of channel {channel}: {source}")]
pub struct NoThread {
    channel: String,
    source: std::io::Error,
}

/// Sends notifications, each until its far end took or refused it.
pub struct Outbox {
    lanes: BTreeMap<String, Lane>,
    /// Refuses what is meant for channels that are not there.
    nowhere: Lane,
    /// Workers of channels that were removed.
    leaving: Vec<JoinHandle<()>>,
    clock: Clock,
    delivered: Arc<dyn Fn(Delivered) + Send + Sync>,
    /// Every worker holds a sender and drops it at its end.
    alive: Sender<()>,
    ended: Receiver<()>,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lanes: Vec<&String> = self.lanes.keys().collect();
        f.debug_struct("Outbox")
            .field("channels", &lanes)
            .finish_non_exhaustive()
    }
}

/// A channel's queue and its worker.
struct Lane {
    settings: Option<ChannelSettings>,
    shared: Arc<Shared>,
    worker: JoinHandle<()>,
}

/// What a worker and the outbox share.
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    queue: Queue,
    /// A sender that takes the place of the worker's own.
    replaced: Option<Box<dyn Notifier>>,
    stop: Stop,
}

/// Whether a worker is to end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    No,
    /// Now; what waits is sent after the next start.
    Keep,
    /// The channel is gone: what waits is refused.
    Refuse,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held can only leave a message waiting that was sent: at least once holds.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self, how: Stop) {
        self.lock().stop = how;
        self.wake.notify_all();
    }
}

impl Outbox {
    /// Starts one worker for each channel. `delivered` is called from the workers' threads with every end of a
    /// notification, and once where one is still being tried after five minutes.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        channels: &[ChannelSettings],
        clock: Clock,
        delivered: impl Fn(Delivered) + Send + Sync + 'static,
    ) -> Result<Outbox, NoThread> {
        let delivered: Arc<dyn Fn(Delivered) + Send + Sync> = Arc::new(delivered);
        let (alive, ended) = channel();
        let mut nowhere = Launch {
            clock: Arc::clone(&clock),
            delivered: Arc::clone(&delivered),
            alive: alive.clone(),
        };
        let nowhere = nowhere.lane("none", None, Box::new(Nowhere))?;
        let mut outbox = Outbox {
            lanes: BTreeMap::new(),
            nowhere,
            leaving: Vec::new(),
            clock,
            delivered,
            alive,
            ended,
        };
        outbox.replace_channels(channels)?;
        Ok(outbox)
    }

    /// Takes a notification; it is durable already, in the ledger. A key that waits, is under way or ended not long ago
    /// is dropped. Never blocks on a far end.
    pub fn send(&self, notification: Notification) {
        let lane = self
            .lanes
            .get(&notification.channel)
            .unwrap_or(&self.nowhere);
        let key = notification.key.clone();
        let now = (self.clock)();
        let taken = lane.shared.lock().queue.push(notification, now.boot_ms);
        match taken {
            Taken::Yes => lane.shared.wake.notify_all(),
            Taken::Repeat => tracing::debug!(key, "notification is known, dropped"),
            Taken::Full => {
                // Not told as refused: it has no outcome in the ledger and is sent after the next start.
                tracing::error!(key, "too many notifications wait, this one is put off");
            }
        }
    }

    /// Starts the channels that are not there yet and leaves all others as they are: before anybody can name them.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn add_channels(&mut self, channels: &[ChannelSettings]) -> Result<(), NoThread> {
        for channel in channels {
            if !self.lanes.contains_key(&channel.name) {
                self.replace_channel(channel)?;
            }
        }
        Ok(())
    }

    /// Takes up changed settings: queues of channels that stay are kept and tried at once with the new settings; what
    /// waits for a channel that is gone is refused.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn replace_channels(&mut self, channels: &[ChannelSettings]) -> Result<(), NoThread> {
        let gone: Vec<String> = self
            .lanes
            .keys()
            .filter(|name| channels.iter().all(|channel| channel.name != **name))
            .cloned()
            .collect();
        for name in gone {
            if let Some(lane) = self.lanes.remove(&name) {
                lane.shared.stop(Stop::Refuse);
                self.leaving.push(lane.worker);
            }
        }
        for channel in channels {
            self.replace_channel(channel)?;
        }
        Ok(())
    }

    fn replace_channel(&mut self, channel: &ChannelSettings) -> Result<(), NoThread> {
        let Some(lane) = self.lanes.get_mut(&channel.name) else {
            let mut launch = Launch {
                clock: Arc::clone(&self.clock),
                delivered: Arc::clone(&self.delivered),
                alive: self.alive.clone(),
            };
            let lane = launch.lane(&channel.name, Some(channel.clone()), channel.notifier())?;
            self.lanes.insert(channel.name.clone(), lane);
            return Ok(());
        };
        if lane.settings.as_ref() != Some(channel) {
            lane.settings = Some(channel.clone());
            let mut state = lane.shared.lock();
            state.replaced = Some(channel.notifier());
            state.queue.start_over((self.clock)().boot_ms);
            lane.shared.wake.notify_all();
        }
        Ok(())
    }

    /// How many notifications wait or are under way.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let lanes = self.lanes.values().chain(std::iter::once(&self.nowhere));
        lanes.map(|lane| lane.shared.lock().queue.len()).sum()
    }

    /// Stops: attempts under way may end within `timeout`, what waits is sent after the next start. Returns whether all
    /// workers ended in time; one that did not ends with the process.
    #[must_use]
    pub fn stop(self, timeout: Duration) -> bool {
        let Outbox {
            lanes,
            nowhere,
            mut leaving,
            alive,
            ended,
            ..
        } = self;
        for lane in lanes.into_values().chain(std::iter::once(nowhere)) {
            lane.shared.stop(Stop::Keep);
            leaving.push(lane.worker);
        }
        drop(alive);
        // Nothing is ever sent: the channel closes when the last worker drops its end.
        if matches!(
            ended.recv_timeout(timeout),
            Err(RecvTimeoutError::Timeout) | Ok(())
        ) {
            return false;
        }
        for worker in leaving {
            if worker.join().is_err() {
                tracing::error!("a channel's worker panicked");
            }
        }
        true
    }
}

/// What every worker is given.
struct Launch {
    clock: Clock,
    delivered: Arc<dyn Fn(Delivered) + Send + Sync>,
    alive: Sender<()>,
}

impl Launch {
    fn lane(
        &mut self,
        name: &str,
        settings: Option<ChannelSettings>,
        notifier: Box<dyn Notifier>,
    ) -> Result<Lane, NoThread> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                queue: Queue::new(),
                replaced: None,
                stop: Stop::No,
            }),
            wake: Condvar::new(),
        });
        let mut worker = Worker {
            name: name.to_owned(),
            shared: Arc::clone(&shared),
            notifier,
            clock: Arc::clone(&self.clock),
            delivered: Arc::clone(&self.delivered),
            random: SystemRandom::new(),
            _alive: self.alive.clone(),
        };
        let started = std::thread::Builder::new()
            .name(format!("notify-{name}"))
            .spawn(move || worker.run());
        let worker = started.map_err(|source| NoThread {
            channel: name.to_owned(),
            source,
        })?;
        Ok(Lane {
            settings,
            shared,
            worker,
        })
    }
}

/// One channel's thread.
struct Worker {
    name: String,
    shared: Arc<Shared>,
    notifier: Box<dyn Notifier>,
    clock: Clock,
    delivered: Arc<dyn Fn(Delivered) + Send + Sync>,
    random: SystemRandom,
    _alive: Sender<()>,
}

impl Worker {
    fn run(&mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            let now = (self.clock)();
            let mut state = shared.lock();
            if state.stop != Stop::No {
                break;
            }
            if let Some(notifier) = state.replaced.take() {
                self.notifier = notifier;
            }
            let struggling = state.queue.struggling(now.boot_ms);
            let step = state.queue.next(now.boot_ms);
            if struggling.is_empty() {
                match step {
                    Step::Send(notification) => {
                        drop(state);
                        self.attempt(&notification, now);
                    }
                    Step::Wait(ms) => {
                        let pause = Duration::from_millis(ms.clamp(1, WAIT_MS_MAX));
                        drop(shared.wake.wait_timeout(state, pause));
                    }
                    Step::Idle => drop(shared.wake.wait(state)),
                }
                continue;
            }
            drop(state);
            for (key, why) in struggling {
                tracing::warn!(channel = self.name, key, why, "still not delivered");
                self.tell(key, Outcome::Struggling, why);
            }
            if let Step::Send(notification) = step {
                self.attempt(&notification, now);
            }
        }
        self.refuse_the_rest();
    }

    /// Tries once and notes what came of it.
    fn attempt(&mut self, notification: &Notification, now: Now) {
        let key = notification.key.clone();
        let notifier = &mut self.notifier;
        let outcome = catch_unwind(AssertUnwindSafe(|| notifier.deliver(notification, now)));
        let outcome = outcome.unwrap_or_else(|_| {
            Err(Failure::transient(
                "sending panicked: this is a bug of dawnwatch",
            ))
        });
        match outcome {
            Ok(said) => {
                tracing::debug!(channel = self.name, key, said, "delivered");
                self.shared.lock().queue.ended(&key);
                self.tell(key, Outcome::Arrived, said);
            }
            Err(Failure::Permanent { why }) => {
                tracing::warn!(channel = self.name, key, why, "refused for good");
                self.shared.lock().queue.ended(&key);
                self.tell(key, Outcome::Refused, why);
            }
            Err(Failure::Transient { why, again }) => {
                tracing::debug!(
                    channel = self.name,
                    key,
                    why,
                    "not delivered, will be tried again"
                );
                let (why, chance) = (answer(&why), self.chance());
                let now_ms = (self.clock)().boot_ms;
                self.shared
                    .lock()
                    .queue
                    .failed(&key, &why, again, now_ms, chance);
            }
        }
    }

    fn refuse_the_rest(&self) {
        let keys = {
            let mut state = self.shared.lock();
            if state.stop == Stop::Refuse {
                state.queue.take_keys()
            } else {
                Vec::new()
            }
        };
        for key in keys {
            let why = format!("channel {} was taken out of the configuration", self.name);
            self.tell(key, Outcome::Refused, why);
        }
    }

    fn tell(&self, key: String, outcome: Outcome, said: String) {
        let answer = answer(&said);
        (self.delivered)(Delivered {
            key,
            outcome,
            answer,
        });
    }

    /// Any number; without the system's randomness the jitter falls away, not the sending.
    fn chance(&self) -> u64 {
        let mut bytes = [0; 8];
        match self.random.fill(&mut bytes) {
            Ok(()) => u64::from_le_bytes(bytes),
            Err(_) => 0,
        }
    }
}

/// The channel of what has no channel.
struct Nowhere;

impl Notifier for Nowhere {
    fn deliver(&mut self, notification: &Notification, _: Now) -> Result<String, Failure> {
        let why = format!("no channel named {} is configured", notification.channel);
        Err(Failure::permanent(why))
    }
}

#[cfg(test)]
mod tests;
