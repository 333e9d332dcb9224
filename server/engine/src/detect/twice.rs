//! One identity on two machines: a host was copied with its key. The server's door tells which of the two came later, and
//! refuses it; here it becomes something that people are told of, once, until it stopped.

use dawnwatch_proto::review::Severity;

use crate::detect::absence::host_anomaly;
use crate::engine::{Engine, Out};
use crate::input::{At, Twice};

/// The rule's name.
pub(crate) const TWICE: &str = "identity_used_twice";

/// It is over when the copy did not try for so long: a refused agent asks every minute.
const OVER_MS: u64 = 600_000;

impl Engine {
    /// A copy of a host tried to speak for it.
    pub(crate) fn twice(&mut self, at: At, twice: &Twice, out: &mut Out) {
        let Some(host) = self.state.hosts.get_mut(&twice.host) else {
            return;
        };
        if host.card.retired {
            return;
        }
        host.twice_ms = Some(at.boot_ms);
        let Twice { first, second, .. } = twice;
        let what = if first == second {
            format!("identity used twice, by two agents at {first}")
        } else {
            format!("identity used twice, from {first} and {second}")
        };
        let why = format!(
            "{what}; the one at {second} came later and is refused: if it is a copy, re-join it there under a name of its own: \
             dawnwatch-agent join SERVER LINE --hostname NAME (dawnwatch token create prints a line); if it took the host's place, \
             stop the agent at {first}"
        );
        let anomaly = host_anomaly(TWICE, Severity::Warning, at.wall, at, what, why);
        self.raise(twice.host, at, anomaly, out);
    }

    /// Ends what did not happen again for long.
    pub(crate) fn twice_over(&mut self, at: At, out: &mut Out) {
        let mut ended = Vec::new();
        for host in self.state.hosts.values_mut() {
            let quiet = |last: u64| at.boot_ms.saturating_sub(last) >= OVER_MS;
            if !host.twice_ms.is_some_and(quiet) {
                continue;
            }
            host.twice_ms = None;
            if let Some(slot) = host.slot(TWICE) {
                ended.extend(host.slots.remove(slot).alerts());
            }
        }
        for alert in ended {
            self.resolve(alert, at.wall, "the copy did not come again for 10 m", out);
        }
    }
}
