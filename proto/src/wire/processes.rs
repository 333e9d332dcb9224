//! A table of processes against the one before it on the same connection: most of them are the same ones, minute for minute, and
//! their names and units are most of its bytes.
//!
//! A process that the table before had (same number, name and unit) says its place there and how much its memory has grown.

use crate::{Malformed, pb};

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

    /// Completes an event that is a table; any other stays as it is.
    ///
    /// # Errors
    /// [`Malformed`] where it names a place that the table before does not have.
    pub(super) fn complete(&mut self, event: &mut pb::Event) -> Result<(), Malformed> {
        let Some(pb::event::Body::Processes(processes)) = &mut event.body else {
            return Ok(());
        };
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
        let mut sizes = Vec::new();
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
            heard.complete(&mut wire).unwrap();
            assert_eq!(wire, whole);
        }
        assert_eq!(sizes[0].0, sizes[0].1, "nothing is known before the first");
        assert!(sizes[1].1 * 3 < sizes[1].0, "{sizes:?}");
    }

    #[test]
    fn a_place_that_is_not_there_is_refused() {
        let mut table = Table::default();
        table
            .complete(&mut event(vec![process(1, "a", 1)]))
            .unwrap();
        for again in [2, u32::MAX] {
            let unknown = pb::Process {
                again,
                ..pb::Process::default()
            };
            assert!(
                table.complete(&mut event(vec![unknown])).is_err(),
                "{again}"
            );
        }
    }
}
