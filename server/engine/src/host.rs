//! What the engine knows of one host.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dawnwatch_proto::event::{GoodbyeReason, Started};
use dawnwatch_proto::probe::Role;
use dawnwatch_proto::wire::SCHEMAS_RECENT;
use dawnwatch_proto::{Schema, SchemaId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::{HostClock, ms_between};
use crate::config::Rule;
use crate::coverage::Watched;
use crate::detect::growth::Growths;
use crate::detect::link::Link;
use crate::detect::measure::{Known, Plan, Rows};
use crate::detect::threshold::{Edge, Firing, GONE_MS, Phase, Sample, Slot};
use crate::input::HostCard;

/// Schemas remembered of a host, by their last use: three times as many as an agent trusts us to remember. A disk or an interface
/// that comes or goes makes a new one.
const PLANS_MAX: usize = 3 * SCHEMAS_RECENT;
/// Gaps remembered of a host for the review: a spool that overflows reports one a batch.
const GAPS_MAX: usize = 256;
/// Troubles remembered of a host, by subject: as many as there are collectors.
const TROUBLES_MAX: usize = 32;
/// Heartbeats nearer to each other than this came in a burst: what a counter grew between them says nothing of a rate.
const BEATS_APART_MS: i64 = 5_000;
/// Mount points remembered as once writable: more than this no plan holds.
const WRITABLE_MAX: usize = 512;

/// One host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Host {
    pub(crate) card: HostCard,
    pub(crate) retired: Option<Timestamp>,
    pub(crate) clock: HostClock,
    /// Boot time of the server when anything came from the host, and its wall clock then.
    pub(crate) heard: Option<(u64, Timestamp)>,
    /// When it was first known, in boot time.
    pub(crate) known_ms: u64,
    /// The goodbye that holds at present.
    pub(crate) goodbye: Option<Goodbye>,
    /// Goodbye in the stream of items, until the next tick or start.
    pub(crate) farewell: Option<Timestamp>,
    pub(crate) facts: Option<Started>,
    pub(crate) plans: BTreeMap<SchemaId, Plan>,
    plan_order: VecDeque<SchemaId>,
    pub(crate) before: Option<Before>,
    /// The heartbeat that rates are reckoned from while a backlog drains, by boot time.
    last_beat: Option<Beat>,
    /// Busy share of the CPUs at the latest tick.
    pub(crate) cpu_ratio: Option<f64>,
    pub(crate) writable: BTreeSet<String>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) watched: Watched,
    pub(crate) down: Watched,
    /// Counted holes: first, last, ticks.
    pub(crate) gaps: VecDeque<(Timestamp, Timestamp, u64)>,
    pub(crate) troubles: BTreeMap<String, (Timestamp, String)>,
    /// Rows without a known schema, or of another width than it.
    pub(crate) refused: u64,
    /// Last moment of silence that ended, for telling its cause: since, until, incident.
    pub(crate) returned: Option<(Timestamp, u64)>,
    /// What counters of units grew by of late.
    pub(crate) growths: Growths,
    /// What its pings say, by role and target.
    pub(crate) links: BTreeMap<(Role, String), Link>,
    /// Heard of without a break since then, boot time.
    pub(crate) here_ms: u64,
    /// When a copy of it tried to speak for it last, boot time.
    pub(crate) twice_ms: Option<u64>,
}

/// A goodbye that holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Goodbye {
    pub(crate) reason: GoodbyeReason,
    pub(crate) at: Timestamp,
    pub(crate) boot_ms: u64,
}

/// The tick before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Before {
    pub(crate) stamp: Timestamp,
    pub(crate) schema: SchemaId,
    pub(crate) row: Vec<i64>,
}

/// The values of a heartbeat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Beat {
    clock_ms: i64,
    schema: SchemaId,
    row: Vec<i64>,
}

/// How a row is to be judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    pub(crate) at: Timestamp,
    /// Sample time of a tick, boot time of a heartbeat.
    pub(crate) clock_ms: i64,
    pub(crate) live: bool,
}

/// Something that judging a row brought about.
#[derive(Debug)]
pub(crate) struct Found {
    /// Which rule, by its place in the list; none where its subject is gone.
    pub(crate) rule: Option<usize>,
    pub(crate) slot: usize,
    pub(crate) edge: Edge,
    pub(crate) value: f64,
    /// What is left, in words, and the series; only where it begins to fire.
    pub(crate) left: Option<String>,
    pub(crate) series: String,
}

impl Host {
    pub(crate) fn new(card: HostCard, boot_ms: u64) -> Host {
        Host {
            card,
            retired: None,
            clock: HostClock::default(),
            heard: None,
            known_ms: boot_ms,
            goodbye: None,
            farewell: None,
            facts: None,
            plans: BTreeMap::new(),
            plan_order: VecDeque::new(),
            before: None,
            last_beat: None,
            cpu_ratio: None,
            writable: BTreeSet::new(),
            slots: Vec::new(),
            watched: Watched::default(),
            down: Watched::default(),
            gaps: VecDeque::new(),
            troubles: BTreeMap::new(),
            refused: 0,
            returned: None,
            growths: Growths::default(),
            links: BTreeMap::new(),
            here_ms: boot_ms,
            twice_ms: None,
        }
    }

    /// Takes in a schema; the one that was not in use for longest makes room.
    pub(crate) fn schema(&mut self, schema: &Schema) {
        let id = schema.id();
        self.used(id);
        self.plans.insert(id, Plan::new(schema));
        // What an earlier version saved may have been more.
        while self.plan_order.len() > PLANS_MAX
            && let Some(oldest) = self.plan_order.pop_front()
        {
            self.plans.remove(&oldest);
        }
    }

    fn used(&mut self, id: SchemaId) {
        if self.plan_order.back() != Some(&id) {
            self.plan_order.retain(|known| *known != id);
            self.plan_order.push_back(id);
        }
    }

    pub(crate) fn trouble(&mut self, at: Timestamp, subject: String, text: String) {
        if self.troubles.len() < TROUBLES_MAX || self.troubles.contains_key(&subject) {
            self.troubles.insert(subject, (at, text));
        }
    }

    pub(crate) fn gap(&mut self, from: Timestamp, to: Timestamp, ticks: u64) {
        if self.gaps.len() >= GAPS_MAX {
            self.gaps.pop_front();
        }
        self.gaps.push_back((from, to, ticks));
    }

    /// The latest row, and the one before where it is of the same schema.
    pub(crate) fn latest(&self) -> Option<(&Plan, &Before)> {
        let before = self.before.as_ref()?;
        Some((self.plans.get(&before.schema)?, before))
    }

    /// A row that comes after the latest one, with that beside it where it is of the same schema.
    pub(crate) fn rows<'a>(&'a self, schema: SchemaId, row: &'a [i64], at: Timestamp) -> Rows<'a> {
        let known = self.before.as_ref().filter(|b| b.schema == schema);
        Rows {
            row,
            before: known.map(|b| (b.row.as_slice(), ms_between(b.stamp, at))),
        }
    }

    /// Judges a tick and keeps it as the one before the next. Counts a row that fits no schema.
    pub(crate) fn tick(
        &mut self,
        rules: &[Rule],
        how: How,
        schema: SchemaId,
        row: Vec<i64>,
        found: &mut Vec<Found>,
    ) {
        let before = self.before.take();
        let known = before.as_ref().filter(|b| b.schema == schema);
        let rows = Rows {
            row: &row,
            before: known.map(|b| (b.row.as_slice(), ms_between(b.stamp, how.at))),
        };
        let stamp = how.at;
        self.before = if self.judge(rules, how, schema, rows, found) {
            Some(Before { stamp, schema, row })
        } else {
            before
        };
    }

    /// Judges the values of a heartbeat, rates included where the one before is at hand.
    pub(crate) fn beat(
        &mut self,
        rules: &[Rule],
        how: How,
        schema: SchemaId,
        row: &[i64],
        found: &mut Vec<Found>,
    ) {
        let before = self.last_beat.take();
        let known = before.as_ref().filter(|b| b.schema == schema);
        let apart_ms = known.map_or(0, |b| how.clock_ms.saturating_sub(b.clock_ms));
        let apart = apart_ms >= BEATS_APART_MS;
        let rows = Rows {
            row,
            before: known
                .filter(|_| apart)
                .map(|b| (b.row.as_slice(), apart_ms)),
        };
        let judged = self.judge(rules, how, schema, rows, found);
        self.last_beat = match before {
            Some(before) if !judged || before.schema == schema && !apart => Some(before),
            Some(_) | None => judged.then(|| Beat {
                clock_ms: how.clock_ms,
                schema,
                row: row.to_vec(),
            }),
        };
    }

    fn judge(
        &mut self,
        rules: &[Rule],
        how: How,
        schema: SchemaId,
        rows: Rows<'_>,
        found: &mut Vec<Found>,
    ) -> bool {
        let row = rows.row;
        if self.plans.contains_key(&schema) {
            self.used(schema);
        }
        let Some(plan) = self.plans.get(&schema).filter(|p| p.width == row.len()) else {
            // A heartbeat may come ahead of its schema, again and again while the server's disk is full; its row also comes as a tick.
            if !how.live {
                self.refused = self.refused.saturating_add(1);
            }
            return false;
        };
        for mount in plan.writable(row) {
            if self.writable.len() < WRITABLE_MAX && !self.writable.contains(mount) {
                self.writable.insert(mount.to_owned());
            }
        }
        if !how.live {
            self.cpu_ratio = plan.cpu_busy(rows);
            plan.subjects.counters(row, |measure, subject, value| {
                self.growths.take(measure, subject, how.clock_ms, value);
            });
        }
        let known = Known {
            writable: &self.writable,
            growths: (!how.live).then_some(&self.growths),
        };
        let slots = &mut self.slots;
        for (index, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.enabled) {
            plan.each(rule.measure, rows, known, |subject, value| {
                let Some(slot) = slot_for(slots, rule, subject, value) else {
                    return;
                };
                let sample = Sample {
                    at: how.at,
                    clock_ms: how.clock_ms,
                    value,
                };
                let edge = slots[slot].phase_of(how).take(rule, sample);
                let fires = matches!(edge, Edge::Fire(_));
                if edge != Edge::None {
                    found.push(Found {
                        rule: Some(index),
                        slot,
                        edge,
                        value,
                        left: fires
                            .then(|| plan.left(rule.measure, subject, row))
                            .flatten(),
                        series: if fires {
                            plan.series(rule.measure, subject)
                        } else {
                            String::new()
                        },
                    });
                }
            });
        }
        if !how.live {
            self.gone(rules, how, found);
        }
        true
    }

    /// What has fired and has no value any more is over: the file system was unmounted, swap switched off.
    fn gone(&mut self, rules: &[Rule], how: How, found: &mut Vec<Found>) {
        for (slot, state) in self.slots.iter_mut().enumerate() {
            let Phase::Firing(firing) = &state.phase else {
                continue;
            };
            let unseen_ms = how.clock_ms.saturating_sub(firing.seen_ms);
            let judged = rules.iter().any(|r| r.name == state.rule && r.enabled);
            if judged && unseen_ms > GONE_MS {
                let edge = Edge::Clear(firing.alert, how.at);
                state.phase = Phase::Clear;
                found.push(Found {
                    rule: None,
                    slot,
                    edge,
                    value: 0.0,
                    left: None,
                    series: String::new(),
                });
            }
        }
    }

    /// The present has caught up: what heartbeats found goes on by ticks.
    pub(crate) fn caught_up(&mut self, clock_ms: i64) {
        self.last_beat = None;
        for slot in &mut self.slots {
            let Some(live) = slot.live.take() else {
                continue;
            };
            if let (Phase::Firing(firing), None) = (&live, slot.phase.alert()) {
                slot.phase = Phase::Firing(Firing::new(firing.alert, clock_ms));
            }
        }
        self.slots.retain(|slot| !slot.is_clear());
    }

    pub(crate) fn slot(&self, rule: &str) -> Option<usize> {
        self.slots
            .iter()
            .position(|s| s.rule == rule && s.subject.is_empty())
    }

    /// Ticks that were dropped and counted within a window.
    pub(crate) fn dropped_within(&self, from: Timestamp, to: Timestamp) -> u64 {
        self.gaps
            .iter()
            .filter(|(first, last, _)| *first < to && *last >= from)
            .map(|(_, _, ticks)| *ticks)
            .fold(0, u64::saturating_add)
    }
}

impl Slot {
    fn phase_of(&mut self, how: How) -> &mut Phase {
        if !how.live {
            return &mut self.phase;
        }
        let start = match &self.phase {
            Phase::Firing(firing) => Phase::Firing(Firing::new(firing.alert, how.clock_ms)),
            Phase::Clear | Phase::Pending(_) => Phase::Clear,
        };
        self.live.get_or_insert(start)
    }
}

/// The slot of a rule's subject; one is made where the value is beyond the bound. None: all is well, as nearly always.
fn slot_for(slots: &mut Vec<Slot>, rule: &Rule, subject: &str, value: f64) -> Option<usize> {
    let known = slots
        .iter()
        .position(|s| s.subject == subject && s.rule == rule.name);
    if known.is_some() {
        return known;
    }
    if value < rule.bound {
        return None;
    }
    slots.push(Slot {
        rule: rule.name.clone(),
        subject: subject.to_owned(),
        phase: Phase::Clear,
        live: None,
    });
    Some(slots.len() - 1)
}

#[cfg(test)]
mod tests {
    use dawnwatch_proto::{HostId, Kind, Series};

    use super::*;

    #[test]
    fn plans_that_an_earlier_version_kept_too_many_of_go_at_once() {
        let card = HostCard::new(HostId(1), "web01", Timestamp::UNIX_EPOCH);
        let mut host = Host::new(card, 0);
        let schema = |i: usize| Schema::new(vec![Series::new(&format!("s{i}"), Kind::Gauge)]);
        for i in 0..PLANS_MAX + 50 {
            host.plans.insert(schema(i).id(), Plan::new(&schema(i)));
            host.plan_order.push_back(schema(i).id());
        }
        host.schema(&schema(PLANS_MAX + 50));
        assert_eq!(
            (host.plans.len(), host.plan_order.len()),
            (PLANS_MAX, PLANS_MAX)
        );
        assert!(!host.plans.contains_key(&schema(50).id()), "the oldest go");
        assert!(host.plans.contains_key(&schema(51).id()));
    }
}
