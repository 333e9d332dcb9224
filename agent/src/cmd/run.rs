//! `run`: measures and delivers until told to stop.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use dawnwatch_proto::event::Started;
use dawnwatch_proto::{Event, EventBody, HostId};
use dawnwatch_segment::RealDisk;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::dial::Tls;
use super::{Failure, exit, runtime};
use crate::beside::Beside;
use crate::clock::Clock;
use crate::collect::{Collectors, Roots, slow};
use crate::config::Config;
use crate::identity::{Address, Identity, LoadError};
use crate::logs::{Logs, Settings};
use crate::spool::{Limits, Spool, Start};
use crate::state::{State, StateError};
use crate::uplink::{Shared, TICK, Timing, Uplink};
use crate::{durable, facts, goodbye, probe, sampler, status, supervisor};

/// Bound of the spool (DESIGN section 8).
const SPOOL_BYTES: u64 = 1 << 30;

/// The other bound: a long weekend.
const SPOOL_HOURS: u64 = 72;

/// Longest wait for the goodbye's acknowledgement: a host that shuts down does not wait for its monitor.
const GOODBYE_MAX: Duration = Duration::from_secs(5);

/// A first sample is taken within ten seconds and acknowledged within one more; a slow network gets the rest.
pub(super) const SAMPLED_WITHIN: Duration = Duration::from_secs(30);

/// Measures and delivers.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// Seconds between two ticks, 1 to 300, whatever server and configuration say [default: what the server says, 10].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=300))]
    tick_seconds: Option<u64>,
    /// Ends when the server has acknowledged a first sample, or after 30 seconds with the reason why it has not.
    #[arg(long)]
    once: bool,
}

/// One agent, from its start to its goodbye.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) shared: Shared,
    pub(super) facts: Started,
    pub(super) host: HostId,
    pub(super) tls: Tls,
    roots: Roots,
    logs: Settings,
    state: State,
    server: Option<Address>,
    ping: Duration,
}

impl Run {
    pub(super) fn main(self, config: &Config, state: &Path) -> Result<(), Failure> {
        let tick = self.tick_seconds.map(Duration::from_secs).or(config.tick);
        let agent = Agent::open(config, state, tick)?;
        let runtime = runtime()?;
        let ended = runtime.block_on(agent.run(self.once.then_some(SAMPLED_WITHIN)));
        // A disk that hangs in a sync holds up no stop.
        runtime.shutdown_background();
        ended
    }
}

impl Agent {
    /// Takes hold of the state directory and opens what is in it.
    pub(super) fn open(
        config: &Config,
        dir: &Path,
        tick: Option<Duration>,
    ) -> Result<Agent, Failure> {
        let identity = Identity::load(dir).map_err(|error| refusal(&error))?;
        let state = State::lock(dir).map_err(|error| Failure::new(in_use(&error), error))?;
        let spool = Spool::open(
            Arc::new(RealDisk),
            &state.spool_dir(),
            limits(config, tick),
            Start {
                id: crate::uplink::random(Clock.boot_ms()),
                at: Clock.wall(),
            },
        )
        .map_err(|error| Failure::new(exit::CANNOT_CREATE, error))?;
        let facts = facts::started(spool.last_stop_clean());
        Ok(Agent {
            shared: Shared::new(spool, tick),
            facts,
            host: identity.host_id,
            roots: config.roots(),
            server: server(config, &identity),
            ping: config.ping.unwrap_or(probe::INTERVAL),
            tls: Tls::new(identity, config.servers.clone(), Clock),
            logs: config.logs.clone(),
            state,
        })
    }

    pub(super) fn uplink(&self) -> Uplink<'_, &Tls> {
        Uplink {
            shared: &self.shared,
            dial: &self.tls,
            facts: &self.facts,
            clock: Clock,
            timing: Timing::default(),
        }
    }

    /// Pings for ever, beside the ticks.
    async fn pinging(&self, roots: Roots) {
        if self.ping.is_zero() {
            return std::future::pending().await;
        }
        let rounds = probe::Rounds {
            board: roots.board,
            proc: roots.proc,
            interval: self.ping,
            server: self.server.clone(),
        };
        probe::run(rounds, &self.shared, Clock).await;
    }

    /// Runs until told to stop, or until a first sample is acknowledged within so long.
    async fn run(self, once: Option<Duration>) -> Result<(), Failure> {
        let stops = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
        let [Ok(terminate), Ok(interrupt)] = stops else {
            return Err(Failure::new(exit::INTERNAL, "cannot listen for signals"));
        };
        let started = EventBody::Started(self.facts.clone());
        self.shared.event(Event {
            time: Clock.wall(),
            body: started,
        });
        supervisor::tell("READY=1");
        let roots = Roots {
            offset: self.shared.offset().clone(),
            ..self.roots.clone()
        };
        let collectors = Collectors::new(roots);
        let looks = collectors.looks();
        let logs = Logs::start(self.logs.clone(), self.state.dir(), Clock)
            .map_err(|error| Failure::new(exit::INTERNAL, format!("cannot read logs: {error}")))?;
        let pinging = self.pinging(self.roots.clone());
        let uplink = self.uplink();
        let mut delivering = std::pin::pin!(uplink.run());
        Beside::new()
            .with(sampler::run(&self.shared, Clock, self.host, collectors))
            .with(delivering.as_mut())
            .with(slow::run(&self.shared, Clock, looks))
            .with(self.tls.keep_fresh(&self.shared))
            .with(durable::run(&self.shared))
            .with(logs.run(&self.shared))
            .with(status::run(&self.shared, self.state.dir(), Clock))
            .with(self.sampled(once))
            .with(supervisor::live())
            .with(pinging)
            .with(told_to_stop(terminate, interrupt))
            .await;
        supervisor::tell("STOPPING=1");
        logs.stop(&self.shared).await;
        let now = Clock.wall();
        let goodbye = EventBody::Goodbye(goodbye::reason(now));
        self.shared.event(Event {
            time: now,
            body: goodbye,
        });
        let telling = async {
            if self.shared.is_connected() {
                tokio::select! {
                    () = &mut delivering => {}
                    () = self.shared.all_acked() => {}
                    () = tokio::time::sleep(GOODBYE_MAX) => {}
                }
            }
        };
        tokio::join!(telling, durable::last(&self.shared));
        tracing::info!(backlog = self.shared.backlog(), "stopped");
        let progress = self.shared.progress();
        if once.is_none() || progress.is_sampled {
            return Ok(());
        }
        let why = progress
            .trouble
            .unwrap_or_else(|| "the server is connected and acknowledges nothing".to_owned());
        Err(Failure::new(
            exit::UNREACHABLE,
            format!("no sample was acknowledged: {why}"),
        ))
    }

    /// Waits for the first acknowledged sample, if that is what it is run for.
    async fn sampled(&self, once: Option<Duration>) {
        match once {
            Some(within) => drop(tokio::time::timeout(within, self.shared.sampled()).await),
            None => std::future::pending().await,
        }
    }
}

async fn told_to_stop(mut terminate: Signal, mut interrupt: Signal) {
    tokio::select! {
        _ = terminate.recv() => tracing::info!("told to stop"),
        _ = interrupt.recv() => tracing::info!("interrupted"),
    }
}

/// The server as it is dialled first; none where its address makes no sense, which dialling it will tell.
fn server(config: &Config, identity: &Identity) -> Option<Address> {
    let own = config.servers.first();
    own.or(identity.servers.first())?.parse().ok()
}

fn limits(config: &Config, tick: Option<Duration>) -> Limits {
    let hours = config.spool_hours.unwrap_or(SPOOL_HOURS);
    let tick_ms = tick.unwrap_or(TICK).as_millis().max(1);
    let items = u128::from(hours) * 3_600_000 / tick_ms;
    Limits {
        bytes_max: config.spool_bytes.unwrap_or(SPOOL_BYTES),
        items_max: u64::try_from(items).unwrap_or(u64::MAX),
    }
}

/// What a missing identity means for a command that needs one.
pub(super) fn refusal(error: &LoadError) -> Failure {
    match error {
        LoadError::NotJoined(_) => Failure::new(exit::CONFIG, format!("join first: {error}")),
        LoadError::Read { .. } => Failure::new(exit::NOT_ALLOWED, error),
        LoadError::Damaged { .. } | LoadError::Newer(_) => Failure::new(exit::CONFIG, error),
    }
}

fn in_use(error: &StateError) -> u8 {
    match error {
        StateError::InUse(_) | StateError::Io { .. } => exit::CANNOT_CREATE,
    }
}
