//! A host that was set up anew: its log lines go on as those of the host that it is.

use std::collections::btree_map::Entry;

use dawnwatch_proto::HostId;

use super::Logs;

impl Logs {
    /// A host turned out to be another one, set up anew: what it has is that one's. Its agent says once which shape a number is, and
    /// not again, so numbers are the agent's own from here on.
    pub(crate) fn merge(&mut self, id: HostId, into: HostId) {
        let Some(new) = self.hosts.remove(&id) else {
            return;
        };
        let Some(old) = self.hosts.get_mut(&into) else {
            self.hosts.insert(into, new);
            return;
        };
        let mut shared = Vec::new();
        for (key, seen) in new.seen {
            match old.seen.entry(key) {
                Entry::Vacant(free) => drop(free.insert(seen)),
                Entry::Occupied(mut known) => {
                    let known = known.get_mut();
                    known.last = known.last.max(seen.last);
                    known.severity = known.severity.min(seen.severity);
                    shared.push(key);
                }
            }
        }
        old.ids.extend(new.ids);
        (old.minute, old.lines) = (new.minute, new.lines);
        old.processes = new.processes.or(old.processes.take());
        old.cut = old.cut.saturating_add(new.cut);
        old.skipped = old.skipped.saturating_add(new.skipped);
        self.pairs -= shared.len();
        for key in shared {
            let shape = self.touch(key);
            shape.hosts = shape.hosts.saturating_sub(1);
        }
    }
}
