//! What must be true, whatever happened: everything acknowledged is held once and in order, what is gone is counted, the judge
//! stands where one that was never interrupted would, and every message left, with one key.
//!
//! It keeps a copy of every group that was durable, and steps an engine of its own over them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use dawnwatch_engine::Engine;
use dawnwatch_engine::effect::{Effect, Entry, Notification};
use dawnwatch_engine::input::{Delivered, Input, Outcome};
use dawnwatch_proto::{HostId, Item};
use dawnwatch_segment::sim::SimDisk;
use dawnwatch_segment::{Disk, Read, Reader};
use dawnwatch_server::history::History;
use dawnwatch_server::journal::{self, Group, Held, Written};
use dawnwatch_server::ledger;
use dawnwatch_server::watch::Recovered;
use jiff::Timestamp;

use super::Trace;
use super::agent::{Agent, CALLS, numbers};

/// Ticks of a host that may meet the millisecond of another: it takes a clock that was set back, and chance.
const SHARED_MAX: usize = 1;

/// What is held of a host, as the journal's groups say.
#[derive(Debug, Default)]
pub(super) struct Sum {
    /// Numbers of its ticks, in order of the journal.
    ticks: Vec<i64>,
    events: u64,
    /// What gaps count.
    gone: u64,
    /// The last sequence number of each epoch.
    last: BTreeMap<u64, u64>,
    /// When its ticks were taken, as the engine says.
    moments: BTreeSet<Timestamp>,
    /// Ticks at a moment that another has: a clock that was set back goes through the same hour again.
    shared: usize,
}

/// The oracle of one server and its agents.
#[derive(Debug)]
pub(super) struct Oracle {
    engine: Engine,
    held: Held,
    groups: BTreeMap<u64, Group>,
    sums: BTreeMap<HostId, Sum>,
    /// Messages that must leave.
    expected: BTreeMap<String, Notification>,
    first: Option<String>,
    sent: BTreeSet<String>,
    delivered: BTreeSet<String>,
    /// What the ledger must say, by the last position of a group.
    effects: Vec<(u64, Vec<Effect>)>,
    /// Last acknowledged number by host and epoch, as the agent heard it.
    acked: BTreeMap<(HostId, u64), u64>,
    pub(super) repeated: u64,
}

impl Oracle {
    pub(super) fn new() -> Oracle {
        Oracle {
            engine: Engine::new(),
            held: Held::default(),
            groups: BTreeMap::new(),
            sums: BTreeMap::new(),
            expected: BTreeMap::new(),
            first: None,
            sent: BTreeSet::new(),
            delivered: BTreeSet::new(),
            effects: Vec::new(),
            acked: BTreeMap::new(),
            repeated: 0,
        }
    }

    pub(super) fn fired(&self, disk: &SimDisk) -> u64 {
        CALLS.iter().map(|call| disk.fired(*call)).sum()
    }

    /// A group is durable: it is judged here as it must be judged there.
    pub(super) fn journalled(&mut self, written: &Written, trace: &mut Trace) {
        self.add(written.frame, &written.group, trace);
    }

    fn add(&mut self, frame: u64, group: &Group, trace: &mut Trace) {
        let position = group.last_position();
        trace.note(&format!(
            "frame {frame} up to {position} at {}",
            group.at.wall
        ));
        let mut effects = Vec::new();
        for (at, input) in group.stamped() {
            self.held.apply(input);
            match input {
                Input::Batch(batch) => {
                    let sum = self.sums.entry(batch.host).or_default();
                    if let Err(why) = sum.add(batch.epoch, batch.first_seq, &batch.items) {
                        trace.wrong(format!("host {} at {}: {why}", batch.host.0, at.position));
                    }
                }
                Input::Delivered(Delivered { key, outcome, .. })
                    if *outcome != Outcome::Struggling =>
                {
                    self.delivered.insert(key.clone());
                }
                Input::Config(_)
                | Input::Started(_)
                | Input::ClockStep { .. }
                | Input::Host(_)
                | Input::Schema { .. }
                | Input::Heartbeat(_)
                | Input::Tick
                | Input::Order(_)
                | Input::Delivered(_)
                | Input::Server(_)
                | Input::Named(_)
                | Input::Vitals(_)
                | Input::Twice(_)
                | Input::Restored(_) => {}
            }
            effects.extend(self.engine.step(at, input.clone()));
            if let Input::Batch(batch) = input {
                let sum = self.sums.entry(batch.host).or_default();
                for (item, moment) in batch.items.iter().zip(self.engine.stamps()) {
                    sum.shared +=
                        usize::from(matches!(item, Item::Tick(_)) && !sum.moments.insert(moment));
                }
            }
        }
        for effect in &effects {
            if let Effect::Notify(one) = effect {
                self.first.get_or_insert_with(|| one.key.clone());
                let before = self.expected.insert(one.key.clone(), one.clone());
                if before.is_some() {
                    trace.wrong(format!("the key {} is used twice", one.key));
                }
            }
        }
        if !effects.is_empty() {
            self.effects.push((position, effects));
        }
        self.groups.insert(frame, group.clone());
    }

    /// The server came up: its journal holds all that was durable, and its state is that of one that was never interrupted.
    pub(super) fn recovered(
        &mut self,
        disk: &SimDisk,
        data: &Path,
        recovered: &Recovered,
        trace: &mut Trace,
    ) {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let dir = data.join("journal");
        let (mut first, mut next) = (None, 0);
        let reader = Reader::open(disk, &dir, journal::options().kind, 1);
        for read in reader.expect("a journal that was just opened") {
            let Ok(Read::Frame { position, payload }) = read else {
                trace.wrong(format!("the journal is damaged: {read:?}"));
                continue;
            };
            let group = journal::decode(position, &payload).expect("a group");
            first.get_or_insert(position);
            next = position + 1;
            match self.groups.get(&position) {
                Some(known) if *known == group => {}
                Some(_) => trace.wrong(format!("frame {position} is another one than it was")),
                // Written, and cut off before anybody heard of it: it counts from here on.
                None => self.add(position, &group, trace),
            }
        }
        let known = self.groups.keys().next_back().map_or(0, |last| last + 1);
        if next < known && (first.is_some() || recovered.watch.snapshot().frame < known) {
            trace.wrong(format!("the journal ends at {next}, {known} was durable"));
        }
        if recovered.watch.snapshot().engine != self.engine.save() {
            trace.wrong("the engine is not what it would be without interruption".to_owned());
        }
        for text in &recovered.damage {
            trace.wrong(format!("recovery found damage: {text}"));
        }
        self.check_acked(trace);
    }

    /// An agent heard of an acknowledgement, or of what is held.
    pub(super) fn acked(&mut self, host: HostId, epoch: u64, seq: u64) {
        let last = self.acked.entry((host, epoch)).or_default();
        *last = seq.max(*last);
    }

    fn check_acked(&self, trace: &mut Trace) {
        for ((host, epoch), acked) in &self.acked {
            let held = self.held.last(*host, *epoch);
            if held < *acked {
                trace.wrong(format!(
                    "host {}: {acked} was acknowledged of an epoch, {held} is held",
                    host.0
                ));
            }
        }
    }

    /// Whether it is the key of the first message.
    pub(super) fn is_first(&self, key: &str) -> bool {
        self.first.as_deref() == Some(key)
    }

    /// A message left.
    pub(super) fn sent(&mut self, one: &Notification, trace: &mut Trace) {
        match self.expected.get(&one.key) {
            Some(known) if known == one => {}
            Some(_) => trace.wrong(format!("{} says something else than it should", one.key)),
            None => trace.wrong(format!("{} was sent and never decided", one.key)),
        }
        if self.delivered.contains(&one.key) {
            trace.wrong(format!("{} was sent again though it arrived", one.key));
        }
        if !self.sent.insert(one.key.clone()) {
            self.repeated += 1;
        }
    }

    /// The run is over, everything is delivered and judged.
    pub(super) fn end(
        &mut self,
        agents: &[Agent],
        disk: &SimDisk,
        data: &Path,
        history: &History,
        trace: &mut Trace,
    ) {
        self.check_acked(trace);
        for key in self.expected.keys() {
            if !self.sent.contains(key) {
                trace.wrong(format!("{key} never left"));
            }
        }
        self.check_ledger(disk, data, trace);
        for agent in agents {
            let sum = self.sums.remove(&agent.host).unwrap_or_default();
            sum.check(agent, trace);
            sum.check_history(agent, history, trace);
            let items = u64::try_from(sum.ticks.len()).unwrap_or(0) + sum.events;
            trace.outcome.compared += items;
        }
        trace.outcome.messages += u64::try_from(self.expected.len()).unwrap_or(0);
        trace.note(&format!("{} messages again", self.repeated));
    }

    /// The ledger has the effects of each group once, in order.
    fn check_ledger(&self, disk: &SimDisk, data: &Path, trace: &mut Trace) {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut found: Vec<(u64, Vec<Effect>)> = Vec::new();
        let walked = ledger::walk(&disk, data, |frame| {
            found.push((frame.position, frame.effects));
        });
        if let Err(error) = walked {
            trace.wrong(format!("the ledger: {error}"));
        }
        let (found, wanted) = (found.iter(), self.effects.iter());
        let alike = found.map(plain).eq(wanted.map(plain));
        if !alike {
            trace.wrong("the ledger is not what was decided, once and in order".to_owned());
        }
    }
}

/// A ledger frame without what the server fills in when it seals a night.
fn plain((position, effects): &(u64, Vec<Effect>)) -> (u64, Vec<Effect>) {
    let kept = effects.iter().filter(|effect| {
        !matches!(
            effect,
            Effect::SealNight(_) | Effect::Record(Entry::Sealed { .. } | Entry::Evidence { .. })
        )
    });
    (*position, kept.cloned().collect())
}

impl Sum {
    fn add(&mut self, epoch: u64, first_seq: u64, items: &[Item]) -> Result<(), String> {
        let last = self.last.entry(epoch).or_default();
        // An epoch whose beginning was never told of starts anywhere: nothing else may be left out.
        if first_seq != *last + 1 && *last > 0 {
            return Err(format!("after {last} of an epoch comes {first_seq}"));
        }
        *last = first_seq - 1;
        for item in items {
            *last += item.width();
            match item {
                Item::Tick(tick) => {
                    if self
                        .ticks
                        .last()
                        .is_some_and(|before| *before >= tick.row[0])
                    {
                        return Err(format!("tick {} comes late or twice", tick.row[0]));
                    }
                    self.ticks.push(tick.row[0]);
                }
                Item::Event(_) => self.events += 1,
                Item::Gap(gap) => self.gone += gap.ticks + gap.events,
            }
        }
        Ok(())
    }

    /// What came and what is counted as gone is all that was written.
    fn check(&self, agent: &Agent, trace: &mut Trace) {
        let came = u64::try_from(self.ticks.len()).unwrap_or(0) + self.events + self.gone;
        let (least, most) = (
            agent.written.saturating_sub(agent.may_lack),
            agent.written + agent.may_double,
        );
        trace.note(&format!(
            "{} wrote {}, {} came, of these {} gone",
            agent.name(),
            agent.written,
            came,
            self.gone
        ));
        if !(least..=most).contains(&came) {
            trace.wrong(format!(
                "{} wrote {} (at most {} lost, {} twice), {came} were told, {} of them gone",
                agent.name(),
                agent.written,
                agent.may_lack,
                agent.may_double,
                self.gone
            ));
        }
    }

    /// History holds what the journal was given, once.
    fn check_history(&self, agent: &Agent, history: &History, trace: &mut Trace) {
        let (from, to) = (Timestamp::MIN, Timestamp::MAX);
        let points = history.read(agent.host, &numbers(), from, to);
        let is_chance = self.shared <= SHARED_MAX && points.repeated == self.shared as u64;
        if !is_chance || !points.damaged.is_empty() {
            trace.wrong(format!(
                "{}: {} samples held twice, {} share a moment, damaged: {:?}",
                agent.name(),
                points.repeated,
                self.shared,
                points.damaged
            ));
        }
        let mut numbers: Vec<i64> = points.raw.iter().map(|(_, number)| *number).collect();
        numbers.sort_unstable();
        let is_whole = numbers.len() + self.shared == self.ticks.len()
            && numbers.is_sorted_by(|a, b| a < b)
            && numbers.iter().all(|number| self.ticks.contains(number));
        if !is_whole {
            let lacks = self.ticks.iter().find(|tick| !numbers.contains(tick));
            trace.wrong(format!(
                "{}: history has {} ticks, the journal had {}; not number {lacks:?}",
                agent.name(),
                numbers.len(),
                self.ticks.len()
            ));
        }
        let events = history.events(Some(agent.host), from, to, usize::MAX).len();
        if u64::try_from(events) != Ok(self.events) {
            trace.wrong(format!(
                "{}: history has {events} events, the journal had {}",
                agent.name(),
                self.events
            ));
        }
    }
}
