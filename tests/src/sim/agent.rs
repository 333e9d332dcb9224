//! An agent: its spool on a simulated disk, its half of a stream, and what it wrote, for the oracle.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dawnwatch_agent::spool::{Limits, Spool, Start};
use dawnwatch_agent::uplink::Shared;
use dawnwatch_agent::uplink::course::{Course, Now};
use dawnwatch_proto::event::{GoodbyeReason, Started};
use dawnwatch_proto::{Event, EventBody, HostId, Kind, Schema, Series, Tick};
use dawnwatch_segment::sim::{Call, SimDisk};
use jiff::Timestamp;

use super::Trace;
use crate::chance::Chance;

/// Time between two ticks.
pub(super) const TICK_MS: u64 = 10_000;

/// Time between two syncs of the spool.
const SYNC_MS: u64 = 30_000;

/// Heartbeats, as the product sends them.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// The series whose values are the numbers of the ticks.
pub(super) fn numbers() -> Series {
    Series::new("sim_number", Kind::Gauge)
}

/// The calls of a disk that can fail.
pub(super) const CALLS: [Call; 6] = [
    Call::Write,
    Call::Sync,
    Call::SyncDir,
    Call::Create,
    Call::Rename,
    Call::Remove,
];

/// An agent that runs.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) shared: Shared,
    facts: Started,
    schema: Arc<Schema>,
    /// Its stream, by the number of its link.
    pub(super) stream: Option<(u64, Course)>,
    /// Whether the stream was welcomed.
    pub(super) is_welcome: bool,
    /// When it dials next.
    pub(super) dials_ms: u64,
    ticks_ms: u64,
    syncs_ms: u64,
}

/// An agent's host, whether the agent runs or not.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) host: HostId,
    pub(super) disk: SimDisk,
    limits: Limits,
    pub(super) life: Option<Life>,
    /// When it is started again.
    pub(super) up_ms: u64,
    /// It is suspended until then.
    pub(super) asleep_ms: u64,
    /// Its wall clock minus the true one, milliseconds.
    pub(super) off_ms: i64,
    /// `CLOCK_BOOTTIME` minus the true time, milliseconds.
    boot_ms: i64,
    /// The disk has room again then.
    pub(super) room_ms: u64,
    /// Whether it measures no more: the run ends.
    pub(super) is_quiet: bool,
    /// Items that were ever handed to the spool; the last one's number.
    pub(super) written: u64,
    /// Of these so many may be lost, for the power was cut, or the agent killed while its disk failed.
    pub(super) may_lack: u64,
    /// So many may be counted twice: a failed sync takes back what the server may have.
    pub(super) may_double: u64,
    /// Handed to the spool since it was last known to be durable.
    unsure: u64,
    /// Faults of the disk that had fired at the last sync.
    fired: u64,
    /// Whether a fault fired since the sync before that, or the disk was full: what it cost may be counted in memory alone.
    is_shaken: bool,
    /// Whether the disk was full at some time since the last sync.
    was_full: bool,
}

impl Agent {
    pub(super) fn new(number: u64, chance: &mut Chance) -> Agent {
        let bytes_max = [8, 16, 64, 4_096][chance.index(4)] * 1_024;
        Agent {
            host: HostId(u128::from(number) + 100),
            disk: SimDisk::new(chance.below(u64::MAX)),
            limits: Limits {
                bytes_max,
                items_max: 20_000,
            },
            life: None,
            up_ms: chance.below(20_000),
            asleep_ms: 0,
            off_ms: [0, 0, 700, -4_000, 300_000, -86_400_000][chance.index(6)],
            boot_ms: chance.below(1_000_000).cast_signed(),
            room_ms: 0,
            is_quiet: false,
            written: 0,
            may_lack: 0,
            may_double: 0,
            unsure: 0,
            fired: 0,
            is_shaken: false,
            was_full: false,
        }
    }

    pub(super) fn name(&self) -> String {
        format!("sim{:02}", self.host.0 - 100)
    }

    /// What its clocks say at a true time.
    pub(super) fn now(&self, wall: Timestamp, now_ms: u64) -> Now {
        let wall = wall.as_millisecond() + self.off_ms;
        Now {
            wall: Timestamp::from_millisecond(wall).expect("a time"),
            boot_ms: now_ms.saturating_add_signed(self.boot_ms),
        }
    }

    /// Starts it.
    pub(super) fn start(&mut self, now: Now, now_ms: u64, chance: &mut Chance, trace: &mut Trace) {
        let start = Start {
            id: chance.below(u64::MAX),
            at: now.wall,
        };
        let disk = Arc::new(self.disk.clone());
        let spool = match Spool::open(disk, Path::new("/spool"), self.limits, start) {
            Ok(spool) => spool,
            Err(error) => {
                trace.wrong(format!("{}: the spool is refused: {error}", self.name()));
                return;
            }
        };
        let facts = Started {
            agent_version: "0".to_owned(),
            hostname: self.name(),
            boot_id: format!("{}", self.boot_ms),
            boot_time_ms: 0,
            os: "sim".to_owned(),
            kernel: "0".to_owned(),
            arch: "sim".to_owned(),
            cpus: 1,
            memory_bytes: 1 << 30,
            last_stop_clean: spool.last_stop_clean(),
        };
        let mut series = vec![numbers(), Series::new("node_load1", Kind::Gauge)];
        let more = chance.below(3);
        series.extend((0..more).map(|i| Series::new(&format!("sim_more_{i}"), Kind::Gauge)));
        // Opening makes durable what it finds. Where a sync fails just then, what the last run wrote may be gone, and nobody is
        // left who knows how much.
        let unsure = std::mem::take(&mut self.unsure);
        if self.fired() != self.fired {
            self.may_lack += unsure;
        }
        self.life = Some(Life {
            shared: Shared::new(spool, None),
            facts: facts.clone(),
            schema: Arc::new(Schema::new(series)),
            stream: None,
            is_welcome: false,
            dials_ms: now_ms + chance.below(1_000),
            ticks_ms: now_ms + chance.below(TICK_MS),
            syncs_ms: now_ms + SYNC_MS,
        });
        self.event(now.wall, EventBody::Started(facts));
    }

    /// Hands an event to the spool.
    pub(super) fn event(&mut self, time: Timestamp, body: EventBody) {
        let Some(life) = &self.life else { return };
        self.written += 1;
        self.unsure += 1;
        life.shared.event(Event { time, body });
    }

    /// Does what is due: a tick, an event now and then, a sync.
    pub(super) fn work(&mut self, now: Now, now_ms: u64, chance: &mut Chance) {
        self.was_full |= self.room_ms > 0;
        let syncs = self.disk.fired(Call::Sync);
        self.measure(now, now_ms, chance);
        self.sync(now_ms);
        // A full segment is synced too, and a log that is opened anew.
        if self.disk.fired(Call::Sync) > syncs {
            self.may_double += self.unsure;
        }
    }

    fn measure(&mut self, now: Now, now_ms: u64, chance: &mut Chance) {
        let Some(life) = &mut self.life else { return };
        if now_ms >= life.ticks_ms && !self.is_quiet {
            // What was missed is skipped, as the sampler does.
            life.ticks_ms += (1 + (now_ms - life.ticks_ms) / TICK_MS) * TICK_MS;
            self.written += 1;
            self.unsure += 1;
            let number = i64::try_from(self.written).expect("a few ticks");
            let mut row = vec![number, 100 + number % 7];
            row.resize(life.schema.series().len(), number / 3);
            let tick = Tick {
                time: now.wall,
                schema: life.schema.id(),
                row,
            };
            life.shared.tick(tick, &life.schema);
            if chance.one_in(6) {
                let body = EventBody::Trouble {
                    subject: "sim".to_owned(),
                    text: format!("number {}", self.written + 1),
                };
                self.event(now.wall, body);
            }
        }
    }

    fn sync(&mut self, now_ms: u64) {
        let Some(life) = &mut self.life else { return };
        if now_ms >= life.syncs_ms {
            life.syncs_ms = now_ms + SYNC_MS;
            life.shared.sync();
            let fired = self.fired();
            self.is_shaken = fired != self.fired || std::mem::take(&mut self.was_full);
            if !self.is_shaken {
                self.unsure = 0;
            }
            self.fired = fired;
        }
    }

    /// Begins a stream over a link; the hello is what it says first.
    pub(super) fn dial(&mut self, link: u64, now: Now) -> Option<dawnwatch_proto::pb::FromAgent> {
        let life = self.life.as_mut()?;
        let (course, hello) = Course::begin(&life.shared, &life.facts, HEARTBEAT, now);
        (life.stream, life.is_welcome) = (Some((link, course)), false);
        Some(hello)
    }

    /// Killed by SIGKILL: what the disk was handed stays.
    pub(super) fn kill(&mut self) {
        let is_shaken = self.is_shaken || self.was_full || self.fired() != self.fired;
        if self.life.take().is_some() && is_shaken {
            // What a failing disk did not take was counted in memory alone.
            self.may_lack += self.unsure;
        }
    }

    /// Stopped on purpose.
    pub(super) fn stop(&mut self, wall: Timestamp) {
        self.event(wall, EventBody::Goodbye(GoodbyeReason::Stopped));
        if let Some(life) = &self.life {
            life.shared.sync();
        }
        self.kill();
    }

    /// The host's power is cut.
    pub(super) fn power_cut(&mut self, now_ms: u64, chance: &mut Chance) {
        self.life = None;
        self.may_lack += std::mem::take(&mut self.unsure);
        self.disk.power_cut();
        self.boot_ms = chance.below(60_000).cast_signed() - now_ms.cast_signed();
    }

    /// What the server has not acknowledged.
    pub(super) fn backlog(&self) -> u64 {
        self.life
            .as_ref()
            .map_or(u64::MAX, |life| life.shared.backlog())
    }

    /// How often a call of its disk failed.
    pub(super) fn fired(&self) -> u64 {
        CALLS.iter().map(|call| self.disk.fired(*call)).sum()
    }
}
