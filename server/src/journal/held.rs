//! What the journal holds of each host, so that everything counts once.

use std::collections::BTreeMap;

use dawnwatch_engine::input::{Batch, Input};
use dawnwatch_proto::wire::SCHEMAS_RECENT;
use dawnwatch_proto::{HostId, Item, SchemaId};
use serde::{Deserialize, Serialize};

/// Epochs remembered for one host: twice as many as one hello may name, so that none is forgotten while its spool still
/// has it.
const EPOCHS_MAX: usize = 512;

/// Schemas remembered for one host, by their last use: twice as many as an agent trusts us to remember, and fewer than the engine
/// keeps plans of. So one that the engine let go was told to it again before a row needs it.
const SCHEMAS_MAX: usize = 2 * SCHEMAS_RECENT;

/// The epochs and schemas held of one host.
pub(super) type Kept = (Option<Vec<(u64, u64)>>, Option<Vec<SchemaId>>);

/// What the journal holds of each host, for counting everything once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    epochs: BTreeMap<HostId, Vec<(u64, u64)>>,
    schemas: BTreeMap<HostId, Vec<SchemaId>>,
}

impl Held {
    /// The last sequence number held of an epoch, 0 for none.
    #[must_use]
    pub fn last(&self, host: HostId, epoch: u64) -> u64 {
        let epochs = self.epochs.get(&host).map_or(&[][..], Vec::as_slice);
        epochs
            .iter()
            .find(|(id, _)| *id == epoch)
            .map_or(0, |(_, last)| *last)
    }

    /// Whether the journal or a checkpoint has this schema of this host.
    #[must_use]
    pub fn has_schema(&self, host: HostId, schema: SchemaId) -> bool {
        self.schemas
            .get(&host)
            .is_some_and(|known| known.contains(&schema))
    }

    pub(super) fn keep(&self, host: HostId) -> Kept {
        (
            self.epochs.get(&host).cloned(),
            self.schemas.get(&host).cloned(),
        )
    }

    pub(super) fn put_back(&mut self, undo: BTreeMap<HostId, Kept>) {
        for (host, (epochs, schemas)) in undo {
            match epochs {
                Some(epochs) => self.epochs.insert(host, epochs),
                None => self.epochs.remove(&host),
            };
            match schemas {
                Some(schemas) => self.schemas.insert(host, schemas),
                None => self.schemas.remove(&host),
            };
        }
    }

    /// Forgets schemas that history does not know: their hosts send them again.
    pub fn forget_schemas(&mut self, known: impl Fn(SchemaId) -> bool) {
        for schemas in self.schemas.values_mut() {
            schemas.retain(|id| known(*id));
        }
    }

    /// Leaves in a batch only what is not held yet.
    pub fn trim(&self, batch: &mut Batch) {
        let last = self.last(batch.host, batch.epoch);
        let mut seq = batch.first_seq;
        let mut first = None;
        batch.items.retain_mut(|item| {
            let end = seq + item.width() - 1;
            let fresh = end > last;
            if fresh {
                // Only of one that begins before: what a full disk lost is a gap of one number that counts many.
                if let Item::Gap(gap) = item
                    && gap.from_seq <= last
                {
                    // One that stands for more than its numbers keeps what is over: counted twice rather than not at all.
                    let width = gap.to_seq - gap.from_seq + 1;
                    let excess = gap.ticks.saturating_add(gap.events).saturating_sub(width);
                    gap.from_seq = last + 1;
                    let left = (gap.to_seq - gap.from_seq + 1).saturating_add(excess);
                    gap.ticks = gap.ticks.min(left);
                    gap.events = gap.events.min(left);
                }
                first.get_or_insert(seq.max(last + 1));
            }
            seq = end + 1;
            fresh
        });
        batch.first_seq = first.unwrap_or(seq);
    }

    /// Schemas of a batch's ticks are in use: what makes room is the one that was not in use for longest.
    fn used(&mut self, batch: &Batch) {
        let Some(known) = self.schemas.get_mut(&batch.host) else {
            return;
        };
        for item in &batch.items {
            if let Item::Tick(tick) = item
                && known.last() != Some(&tick.schema)
                && let Some(at) = known.iter().position(|id| *id == tick.schema)
            {
                known[at..].rotate_left(1);
            }
        }
    }

    /// Takes note of an input that is held from here on.
    pub fn apply(&mut self, input: &Input) {
        match input {
            Input::Batch(batch) => {
                self.used(batch);
                let width: u64 = batch.items.iter().map(Item::width).sum();
                let epochs = self.epochs.entry(batch.host).or_default();
                let end = batch.first_seq + width - 1;
                // The one that is in use moves to the end: what makes room is the one that was silent longest.
                let at = epochs.iter().position(|(id, _)| *id == batch.epoch);
                let before = at.map_or(0, |at| epochs.remove(at).1);
                epochs.push((batch.epoch, end.max(before)));
                only_last(epochs, EPOCHS_MAX);
            }
            Input::Schema { host, schema } => {
                let known = self.schemas.entry(*host).or_default();
                known.retain(|id| *id != schema.id());
                known.push(schema.id());
                only_last(known, SCHEMAS_MAX);
            }
            Input::Config(_)
            | Input::Started(_)
            | Input::ClockStep { .. }
            | Input::Host(_)
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
    }
}

/// Leaves the last of a list; a checkpoint of an earlier version may hold more than one too many.
fn only_last<T>(list: &mut Vec<T>, most: usize) {
    list.drain(..list.len().saturating_sub(most));
}

#[cfg(test)]
mod tests {
    use super::*;
    use dawnwatch_engine::input::HostCard;
    use dawnwatch_engine::{At, Engine};
    use dawnwatch_proto::wire::Encoder;
    use dawnwatch_proto::{Kind, Schema, Series, Tick};
    use jiff::Timestamp;

    const HOST: HostId = HostId(1);

    fn at(second: i64) -> At {
        At {
            wall: Timestamp::from_second(1_764_021_600 + second).unwrap(),
            boot_ms: u64::try_from(second).unwrap() * 1_000,
            position: u64::try_from(second).unwrap(),
        }
    }

    #[test]
    fn what_an_earlier_version_held_too_much_of_goes_at_once() {
        let schema = |i: usize| Schema::new(vec![Series::new(&format!("s{i}"), Kind::Gauge)]);
        let mut held = Held::default();
        let epochs = (1..=EPOCHS_MAX as u64 + 50).map(|epoch| (epoch, 7));
        held.epochs.insert(HOST, epochs.collect());
        let schemas = (0..SCHEMAS_MAX + 50).map(|i| schema(i).id());
        held.schemas.insert(HOST, schemas.collect());
        held.apply(&Input::Schema {
            host: HOST,
            schema: schema(SCHEMAS_MAX + 50),
        });
        held.apply(&Input::Batch(Batch {
            host: HOST,
            epoch: EPOCHS_MAX as u64 + 51,
            first_seq: 1,
            items: vec![Item::Tick(Tick {
                time: at(0).wall,
                schema: schema(0).id(),
                row: vec![0],
            })],
            offset_ms: None,
        }));
        assert_eq!(
            (held.epochs[&HOST].len(), held.schemas[&HOST].len()),
            (EPOCHS_MAX, SCHEMAS_MAX)
        );
        let oldest = (held.epochs[&HOST][0], held.schemas[&HOST][0]);
        assert_eq!(oldest, ((52, 7), schema(51).id()), "the oldest go");
    }

    /// Agent, journal and engine each remember a few schemas. A disk that comes and goes, a new one each time, for hours on one
    /// connection: the schema without it stays in use, and every row is judged.
    #[test]
    fn a_host_that_changes_again_and_again_stays_judged() {
        let schemas: Vec<Schema> = (0..200)
            .map(|i| Schema::new(vec![Series::new(&format!("s{i}"), Kind::Gauge)]))
            .collect();
        let (mut encoder, mut held, mut engine) =
            (Encoder::default(), Held::default(), Engine::new());
        let card = HostCard::new(HOST, "web01", at(0).wall);
        engine.step(at(0), Input::Host(card));
        let uses = (1..200).flat_map(|i| [0, i]).chain((0..200).rev());
        let mut told = 0;
        for (second, i) in (1..).zip(uses) {
            let schema = schemas[i].clone();
            let (time, row) = (at(second).wall, vec![second]);
            let tick = Tick {
                time,
                schema: schema.id(),
                row,
            };
            let (announce, _) = encoder.tick(&tick, || schema.clone());
            if announce.is_some() && !held.has_schema(HOST, schema.id()) {
                let input = Input::Schema { host: HOST, schema };
                held.apply(&input);
                engine.step(at(second), input);
                told += 1;
            }
            let batch = Input::Batch(Batch {
                host: HOST,
                epoch: 1,
                first_seq: second.unsigned_abs(),
                items: vec![Item::Tick(tick)],
                offset_ms: Some(0),
            });
            held.apply(&batch);
            engine.step(at(second), batch);
        }
        assert!(told > 300, "{told} were told: nothing was forgotten");
        let notices = engine.view(at(1_000).wall).now.notices;
        let unfit = notices
            .iter()
            .find(|notice| notice.contains("fit no schema"));
        assert_eq!(unfit, None);
    }
}
