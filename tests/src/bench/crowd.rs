//! Hosts that live: each ticks at its own moment, keeps what it could not send, and comes back by itself as an agent does,
//! after a random time that grows with each failure.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dawnwatch_agent::clock::Clock;
use dawnwatch_agent::uplink::random;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::fleet::Member;
use crate::faketime::real_now;

/// The longest first wait after a connection that ended or failed, as with an agent.
const FIRST_MS: u64 = 1_000;

/// The longest wait of all, as with an agent.
const MOST_MS: u64 = 60_000;

/// All hosts, each a task.
#[derive(Debug)]
pub struct Crowd {
    /// What becomes of them.
    pub counts: Arc<Counts>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<Member>,
}

/// Counts over all hosts.
#[derive(Debug, Default)]
pub struct Counts {
    /// Streams that stand.
    pub connected: AtomicU64,
    /// Welcomes so far.
    pub welcomed: AtomicU64,
    /// Attempts that came to nothing.
    pub failed: AtomicU64,
    /// Welcomes by a server that holds less than it acknowledged.
    pub lost: AtomicU64,
}

impl Crowd {
    /// Lets hosts live, each ticking every so many milliseconds.
    #[must_use]
    pub fn of(members: Vec<Member>, tick_ms: i64) -> Crowd {
        let (stop, stopped) = watch::channel(false);
        let counts = Arc::<Counts>::default();
        let mut tasks = JoinSet::new();
        let began = real_now().as_millisecond();
        let all = i64::try_from(members.len().max(1)).unwrap_or(i64::MAX);
        for (i, mut member) in (0i64..).zip(members) {
            member.times.backlog = 0;
            member.times.live_step_ms = tick_ms;
            // All moments of the tick are taken equally, as agents' offsets have it.
            member.times.live_from_ms = began + i.saturating_mul(tick_ms) / all;
            tasks.spawn(live(member, Arc::clone(&counts), stopped.clone()));
        }
        Crowd {
            counts,
            stop,
            tasks,
        }
    }

    /// Stops all; those that stand have sent what was due.
    pub async fn stop(mut self) -> Vec<Member> {
        self.stop.send_replace(true);
        let mut members = Vec::new();
        while let Some(done) = self.tasks.join_next().await {
            members.extend(done.ok());
        }
        members
    }
}

async fn live(
    mut member: Member,
    counts: Arc<Counts>,
    mut stopped: watch::Receiver<bool>,
) -> Member {
    let mut failures = 0;
    while !*stopped.borrow() {
        if let Err(error) = member.connect().await {
            counts.failed.fetch_add(1, Ordering::Relaxed);
            if error.to_string().contains("were acknowledged") {
                counts.lost.fetch_add(1, Ordering::Relaxed);
            }
            wait(failures, &mut stopped).await;
            failures += 1;
            continue;
        }
        failures = 0;
        counts.welcomed.fetch_add(1, Ordering::Relaxed);
        counts.connected.fetch_add(1, Ordering::Relaxed);
        stay(&mut member, &mut stopped).await;
        counts.connected.fetch_sub(1, Ordering::Relaxed);
        if !*stopped.borrow() {
            wait(failures, &mut stopped).await;
        }
    }
    member
}

/// Sends what is due until the stream ends, or all stop.
async fn stay(member: &mut Member, stopped: &mut watch::Receiver<bool>) {
    loop {
        let now = real_now().as_millisecond();
        let times = member.times;
        let since = now - times.live_from_ms;
        let due = u64::try_from(since.div_euclid(times.live_step_ms) + 1).unwrap_or(0);
        if due > member.sent() && member.send(due - member.sent()).await.is_err() {
            return;
        }
        if *stopped.borrow() {
            return;
        }
        let next = times.live_step_ms - since.rem_euclid(times.live_step_ms);
        let next = Duration::from_millis(u64::try_from(next).unwrap_or(1));
        tokio::select! {
            () = tokio::time::sleep(next) => {}
            () = member.until_ended() => return,
            _ = stopped.changed() => {}
        }
    }
}

/// A random time of at most one second, twice as long after each failure.
async fn wait(failures: u32, stopped: &mut watch::Receiver<bool>) {
    let most = FIRST_MS.saturating_mul(1 << failures.min(6)).min(MOST_MS);
    let time = Duration::from_millis(random(Clock.boot_ms()) % most);
    let _ = tokio::time::timeout(time, stopped.changed()).await;
}
