//! The ways of the network as readers see them.

use std::sync::Arc;

use dawnwatch_proto::api;
use dawnwatch_proto::probe::Role;
use jiff::Timestamp;

use crate::detect::link::{Link, State};
use crate::engine::Engine;
use crate::host::Host;

/// The list is made anew this often: it is as long as hosts have targets, and changes with every tick.
const NET_EVERY_MS: u64 = 5_000;

/// A way that nobody reported for this long is stale.
const STALE_MS: u64 = 60_000;

impl Engine {
    /// The list as it stood at most five seconds ago.
    pub(crate) fn recent_net(&mut self) -> Arc<Vec<api::Link>> {
        let boot_ms = self.state.last.map_or(0, |last| last.boot_ms);
        if let Some((made_ms, net)) = &self.shown.net
            && boot_ms.saturating_sub(*made_ms) < NET_EVERY_MS
        {
            return Arc::clone(net);
        }
        let net = Arc::new(self.net());
        self.shown.net = Some((boot_ms, Arc::clone(&net)));
        net
    }

    /// All ways, by host and target.
    #[must_use]
    pub fn net(&self) -> Vec<api::Link> {
        let boot_ms = self.state.last.map_or(0, |last| last.boot_ms);
        let hosts = self.state.hosts.values().filter(|h| !h.card.retired);
        let mut out: Vec<api::Link> = hosts
            .flat_map(|host| {
                let links = host.links.iter();
                links.map(move |(key, link)| shown(host, key, link, boot_ms))
            })
            .collect();
        out.sort_by(|a, b| (&a.from, a.role, &a.to).cmp(&(&b.from, b.role, &b.to)));
        out
    }
}

fn shown(host: &Host, (role, target): &(Role, String), link: &Link, boot_ms: u64) -> api::Link {
    let stale = boot_ms.saturating_sub(link.seen_ms) > STALE_MS;
    let (state, since): (&str, Timestamp) = match (link.state, &link.loss) {
        _ if stale => ("stale", link.seen),
        (State::Down, _) => ("down", link.since),
        (State::Up, Some(loss)) => ("lossy", loss.since),
        (State::Up, None) => ("up", link.since),
        (State::Unknown | State::Never, _) => ("unknown", link.since),
    };
    // Only an address of its own tells which family it is; names are nearly always asked over IPv4.
    let v6 = target.contains(':');
    let method = host.latest().map_or(String::new(), |(plan, before)| {
        plan.pings.method(&before.row, v6)
    });
    let (sent, lost) = match link.state {
        State::Down | State::Never => link.outage,
        State::Up | State::Unknown => link.counts(),
    };
    api::Link {
        host: host.card.id,
        from: host.card.name.clone(),
        to: target.clone(),
        role: *role,
        state: state.to_owned(),
        since,
        method,
        rtt_seconds: link.rtt.filter(|_| !stale),
        jitter_seconds: link.jitter.filter(|_| !stale),
        sent,
        lost,
        recent: link.recent.iter().copied().collect(),
        seen: link.seen,
    }
}
