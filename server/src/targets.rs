//! Who pings whom: each agent's list, from the hosts there are, what the configuration names, and who is silent.
//!
//! - **Mesh**: every host pings its next two neighbours of its site, in the order of their ids, and one of another site where
//!   sites are labelled. So each is seen by others, at a cost that does not grow with the fleet.
//! - **Targets** of the configuration: by the hosts that their glob names, else by the server's pinger.
//! - **Silent hosts**: by the pinger, from the moment on when a heartbeat is missing.
//!
//! The **pinger** is the agent on the server's own machine, told by the same hash of the machine-id that agents join with, or
//! the host that `pinger` in the configuration names.
//!
//! `plan` is pure; [`Targets`] keeps what it needs and what came of it. Addresses are those that the server saw agents
//! connect from, since its last start. One that several machines connect from is an address translator's, and is not used:
//! an answer from there would say nothing of the host. Neither is a loopback address of any use to others.

mod plan;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dawnwatch_engine::config::Target as Named;
use dawnwatch_proto::HostId;
use dawnwatch_proto::probe::Target;
use jiff::Timestamp;
use ring::digest;
use tokio::sync::watch;

use crate::identity::Identity;
use crate::published::Published;
use plan::{Fleet, Member, plan};

/// Where the id of this machine stands; the second is the older place. As agents look for it.
const MACHINE_IDS: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// A host is pinged from the moment on when its next heartbeat is this late: by the time that it counts as silent, it is known
/// whether it answers.
const SUSPECT_MS: i64 = 13_000;

/// A host that is heard again is pinged for this long on: one that comes and goes does not change the pinger's series each time.
const KEPT_MS: i64 = 600_000;

/// A host that was not heard of for this long is nobody's neighbour.
const NEIGHBOUR_MS: i64 = 86_400_000;

/// The lists, and how they are made.
#[derive(Debug)]
pub struct Targets {
    identity: Arc<Identity>,
    published: Arc<Published>,
    /// Hash of the server's own machine-id; empty where it has none.
    machine: String,
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    named: Vec<Named>,
    /// The pinger's name, as configured.
    wanted: Option<String>,
    addresses: BTreeMap<HostId, IpAddr>,
    /// Silent hosts, and when they were last seen to be.
    silent: BTreeMap<HostId, Timestamp>,
    lists: BTreeMap<HostId, Arc<Vec<Target>>>,
    pinger: Option<HostId>,
}

impl Targets {
    /// Nothing is pinged yet.
    #[must_use]
    pub fn new(identity: Arc<Identity>, published: Arc<Published>) -> Targets {
        Targets {
            identity,
            published,
            machine: machine(),
            inner: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    /// Takes up what the configuration names.
    pub fn configure(&self, named: &[Named], pinger: Option<&str>) {
        let mut inner = self.inner();
        inner.named = named.to_vec();
        inner.wanted = pinger.map(str::to_owned);
    }

    /// Notes where a host connects from.
    pub fn connected(&self, host: HostId, from: IpAddr) {
        self.inner().addresses.insert(host, from.to_canonical());
    }

    /// A host's list.
    #[must_use]
    pub fn of(&self, host: HostId) -> Arc<Vec<Target>> {
        self.inner().lists.get(&host).cloned().unwrap_or_default()
    }

    /// Tells when any list changes.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What people should know: targets that nobody pings, a fleet without a pinger.
    #[must_use]
    pub fn notices(&self) -> Vec<String> {
        let inner = self.inner();
        let mut out = Vec::new();
        if inner.pinger.is_none() && !self.identity.hosts().is_empty() {
            let what = match &inner.wanted {
                Some(name) => format!("pinger: no host {name} has joined"),
                None => "pinger: no agent runs on the server's own host".to_owned(),
            };
            out.push(format!(
                "{what}, so a host that falls silent is pinged by its neighbours only; install one here, or name a host: [server] pinger = \"HOST\""
            ));
        }
        for target in &inner.named {
            let pinged = |list: &Arc<Vec<Target>>| list.iter().any(|t| t.name == target.name);
            if !inner.lists.values().any(pinged) {
                let from = target.from.as_deref().unwrap_or("the pinger");
                out.push(format!(
                    "target {}: pinged by nobody, for {from} is no host that has joined",
                    target.name
                ));
            }
        }
        out
    }

    /// Makes the lists anew; called every second.
    pub fn refresh(&self, now: Timestamp) {
        let view = self.published.view();
        let machines: BTreeMap<HostId, String> = self
            .identity
            .hosts()
            .into_iter()
            .filter(|host| host.retired.is_none())
            .map(|host| (host.id, host.machine))
            .collect();
        let mut inner = self.inner();
        let Inner {
            addresses, silent, ..
        } = &mut *inner;
        addresses.retain(|id, _| machines.contains_key(id));
        let age_ms = |since: Timestamp| now.as_millisecond().saturating_sub(since.as_millisecond());
        let mut members = Vec::new();
        for host in &view.hosts {
            let (Some(machine), Some(seen)) = (machines.get(&host.id), host.last_seen) else {
                continue;
            };
            if host.state != "goodbye" && age_ms(seen) >= SUSPECT_MS {
                silent.insert(host.id, now);
            }
            members.push(Member {
                id: host.id,
                name: host.name.clone(),
                site: host.site.clone(),
                machine: machine.clone(),
                address: addresses.get(&host.id).copied(),
                neighbour: age_ms(seen) < NEIGHBOUR_MS,
                silent: false,
            });
        }
        silent.retain(|id, since| machines.contains_key(id) && age_ms(*since) < KEPT_MS);
        for member in &mut members {
            member.silent = silent.contains_key(&member.id);
        }
        let fleet = Fleet {
            members,
            named: &inner.named,
            pinger: inner.wanted.as_deref(),
            machine: &self.machine,
        };
        let planned = plan(fleet);
        inner.pinger = planned.pinger;
        let same = |(id, list): (&HostId, &Vec<Target>)| {
            inner.lists.get(id).is_some_and(|known| **known == *list)
        };
        if planned.lists.len() == inner.lists.len() && planned.lists.iter().all(same) {
            return;
        }
        inner.lists = planned
            .lists
            .into_iter()
            .map(|(id, list)| (id, Arc::new(list)))
            .collect();
        drop(inner);
        self.changed.send_modify(|generation| *generation += 1);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The hash that an agent on this machine joins with.
fn machine() -> String {
    let text = MACHINE_IDS
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .find(|text| !text.trim().is_empty());
    text.map_or(String::new(), |text| {
        let whole = format!("dawnwatch machine {}", text.trim());
        let hash = digest::digest(&digest::SHA256, whole.as_bytes());
        data_encoding::HEXLOWER.encode(hash.as_ref())
    })
}
