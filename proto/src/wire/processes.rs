//! A table of processes against the one before it on the same connection: most of them are the same ones, minute for minute, and
//! their names and units are most of its bytes.
//!
//! A process that the table before had (same number, name and unit) says its place there and how much its memory has grown.
//! So few bytes may stand for many: what the places of one batch stand for is bounded.

use crate::event::PROCESSES_MAX;
use crate::series::limit;
use crate::{Malformed, pb};

/// Most bytes of names and units that the places of one batch may stand for. A batch of nothing but tables of ten processes with names
/// as long as Linux has them takes less; without a bound four MiB could stand for hundreds of gigabytes.
pub(super) const AGAIN_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The last table that went over a connection, whole.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<pb::Process>);

impl Table {
    /// Shortens an event that is a table; any other stays as it is.
    pub(super) fn shorten(&mut self, event: &mut pb::Event) {
        let Some(pb::event::Body::Processes(processes)) = &mut event.body else {
            return;
        };
        let whole = processes.top.clone();
        for process in &mut processes.top {
            let same = |one: &pb::Process| {
                (one.pid, &one.name, &one.unit) == (process.pid, &process.name, &process.unit)
            };
            let Some(at) = self.0.iter().position(same) else {
                continue;
            };
            *process = pb::Process {
                again: u32::try_from(at + 1).unwrap_or(0),
                rss_more: process
                    .rss_bytes
                    .wrapping_sub(self.0[at].rss_bytes)
                    .cast_signed(),
                cpu_permille: process.cpu_permille,
                ..pb::Process::default()
            };
        }
        self.0 = whole;
    }

    /// Completes an event that is a table; any other stays as it is. `left` is what the places may still stand for.
    ///
    /// # Errors
    /// [`Malformed`] where it names a place that the table before does not have, or stands for too much.
    pub(super) fn complete(
        &mut self,
        event: &mut pb::Event,
        left: &mut usize,
    ) -> Result<(), Malformed> {
        let Some(pb::event::Body::Processes(processes)) = &mut event.body else {
            return Ok(());
        };
        limit("processes of a table", processes.top.len(), PROCESSES_MAX)?;
        for process in &mut processes.top {
            let Some(at) = usize::try_from(process.again)
                .unwrap_or(usize::MAX)
                .checked_sub(1)
            else {
                continue;
            };
            let known = self
                .0
                .get(at)
                .ok_or(Malformed::Missing("process of an earlier table"))?;
            let bytes = known.name.len() + known.unit.len();
            *left = left.checked_sub(bytes).ok_or_else(|| {
                let why = format!("more than {AGAIN_BYTES_MAX} bytes of names said again");
                Malformed::Invalid { what: "batch", why }
            })?;
            *process = pb::Process {
                cpu_permille: process.cpu_permille,
                rss_bytes: known.rss_bytes.wrapping_add_signed(process.rss_more),
                ..known.clone()
            };
        }
        self.0.clone_from(&processes.top);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    fn process(pid: u32, name: &str, rss_bytes: u64) -> pb::Process {
        pb::Process {
            pid,
            name: name.to_owned(),
            unit: format!("{name}.service"),
            cpu_permille: pid % 1_000,
            rss_bytes,
            ..pb::Process::default()
        }
    }

    fn event(top: Vec<pb::Process>) -> pb::Event {
        let processes = pb::Processes {
            span_ms: 60_000,
            top,
        };
        pb::Event {
            body: Some(pb::event::Body::Processes(processes)),
            ..pb::Event::default()
        }
    }

    #[test]
    fn tables_come_back_and_what_is_said_again_is_short() {
        let (mut sent, mut heard) = (Table::default(), Table::default());
        let (a, b) = (
            process(1, "postgres", 1 << 30),
            process(700, "java", 1 << 33),
        );
        let (mut sizes, mut left) = (Vec::new(), AGAIN_BYTES_MAX);
        for top in [
            vec![a.clone(), b.clone()],
            vec![b.clone(), a.clone()],
            // Less memory; another process of a known number; one that comes back after a table without it.
            vec![process(1, "postgres", 1 << 20), process(700, "other", 5)],
            vec![],
            vec![a.clone(), process(u32::MAX, "", u64::MAX)],
            vec![process(u32::MAX, "", 0), a, b],
        ] {
            let whole = event(top);
            let mut wire = whole.clone();
            sent.shorten(&mut wire);
            sizes.push((whole.encoded_len(), wire.encoded_len()));
            heard.complete(&mut wire, &mut left).unwrap();
            assert_eq!(wire, whole);
        }
        assert_eq!(sizes[0].0, sizes[0].1, "nothing is known before the first");
        assert!(sizes[1].1 * 3 < sizes[1].0, "{sizes:?}");
    }

    #[test]
    fn a_place_that_is_not_there_is_refused() {
        let (mut table, mut left) = (Table::default(), AGAIN_BYTES_MAX);
        let mut first = event(vec![process(1, "a", 1)]);
        table.complete(&mut first, &mut left).unwrap();
        for again in [2, u32::MAX] {
            let unknown = pb::Process {
                again,
                ..pb::Process::default()
            };
            assert!(
                table
                    .complete(&mut event(vec![unknown]), &mut left)
                    .is_err(),
                "{again}"
            );
        }
    }

    /// A message that stands for far more than it weighs, told by a peer that means harm: it costs its stream and no more.
    #[test]
    fn few_bytes_that_stand_for_many_are_refused() {
        let again = |again| pb::Process {
            again,
            ..pb::Process::default()
        };
        let items = |tables: Vec<Vec<pb::Process>>| {
            let item = |top| pb::Item {
                body: Some(pb::item::Body::Event(event(top))),
            };
            pb::Batch {
                first_seq: 1,
                items: tables.into_iter().map(item).collect(),
                ..pb::Batch::default()
            }
        };
        // Names as long as an event may have them; a name as long as a message may be; a table as long as one may be.
        let long = "n".repeat(4 * 1024);
        let mut many = vec![(1..=64).map(|pid| process(pid, &long, 1)).collect()];
        many.extend((0..511).map(|_| (1..=64).map(again).collect::<Vec<_>>()));
        let huge = vec![
            vec![process(1, &"n".repeat(100_000), 1)],
            vec![again(1); PROCESSES_MAX],
        ];
        let wide = vec![vec![process(1, "a", 1)], vec![again(1); PROCESSES_MAX + 1]];
        for tables in [many, huge, wide] {
            let refused = crate::wire::Decoder::default().batch(items(tables));
            assert!(
                matches!(
                    refused,
                    Err(Malformed::Invalid { .. } | Malformed::OverLimit { .. })
                ),
                "{refused:?}"
            );
        }
        // A batch of nothing but tables, ten processes each, with names of 15 bytes and units of 255.
        let unit = "u".repeat(255);
        let whole = |pid| pb::Process {
            unit: unit.clone(),
            ..process(pid, "123456789012345", 1)
        };
        let mut honest = vec![(1..=10).map(whole).collect::<Vec<_>>()];
        honest.extend((0..511).map(|_| (1..=10).map(again).collect::<Vec<_>>()));
        let items = crate::wire::Decoder::default()
            .batch(items(honest))
            .unwrap();
        assert_eq!(items.len(), 512);
    }
}
