//! The choice itself: the same fleet, the same lists.

use std::collections::BTreeMap;
use std::net::IpAddr;

use dawnwatch_engine::config::{Target as Named, glob};
use dawnwatch_proto::HostId;
use dawnwatch_proto::probe::{Role, TARGETS_MAX, Target};

/// Neighbours of its own site that a host pings: with two, each host is seen by two.
const NEAR: usize = 2;

/// Hosts that ping one configured target: more of them say nothing more.
const OBSERVERS_MAX: usize = 8;

/// A host as the choice sees it.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) id: HostId,
    pub(super) name: String,
    pub(super) site: Option<String>,
    /// Hash of its machine-id; empty where it has none.
    pub(super) machine: String,
    /// Where it connects from.
    pub(super) address: Option<IpAddr>,
    /// It was heard of lately.
    pub(super) neighbour: bool,
    /// It is silent, or was until a moment ago.
    pub(super) silent: bool,
}

/// What the choice is made from.
#[derive(Debug)]
pub(super) struct Fleet<'a> {
    pub(super) members: Vec<Member>,
    pub(super) named: &'a [Named],
    /// The pinger's name, where it is configured.
    pub(super) pinger: Option<&'a str>,
    /// Hash of the server's machine-id.
    pub(super) machine: &'a str,
}

/// Each host's list.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) lists: BTreeMap<HostId, Vec<Target>>,
    pub(super) pinger: Option<HostId>,
}

pub(super) fn plan(mut fleet: Fleet<'_>) -> Plan {
    fleet.members.sort_by_key(|member| member.id);
    drop_shared_addresses(&mut fleet.members);
    let pinger = pinger(&fleet);
    let mut plan = Plan {
        lists: mesh(&fleet.members),
        pinger,
    };
    for named in fleet.named {
        for observer in observers(named, &fleet.members, pinger) {
            push(&mut plan.lists, observer, target(named));
        }
    }
    if let Some(pinger) = pinger {
        for host in fleet.members.iter().filter(|m| m.silent && m.id != pinger) {
            if let Some(target) = host_target(host, Role::Host) {
                push(&mut plan.lists, pinger, target);
            }
        }
    }
    plan
}

/// Adds a target; beyond the bound of an agent's targets nothing is added.
fn push(lists: &mut BTreeMap<HostId, Vec<Target>>, host: HostId, target: Target) {
    let list = lists.entry(host).or_default();
    if list.len() < TARGETS_MAX {
        list.push(target);
    }
}

/// An address that several machines come from is none of theirs, and nobody else can use a loopback address.
fn drop_shared_addresses(members: &mut [Member]) {
    let mut machines: BTreeMap<IpAddr, Vec<&str>> = BTreeMap::new();
    for member in members.iter() {
        if let Some(address) = member.address {
            machines.entry(address).or_default().push(&member.machine);
        }
    }
    let shared: Vec<IpAddr> = machines
        .into_iter()
        .filter(|(_, machines)| machines.iter().any(|machine| *machine != machines[0]))
        .map(|(address, _)| address)
        .collect();
    for member in members {
        let of_no_use = |address: IpAddr| address.is_loopback() || shared.contains(&address);
        member.address = member.address.filter(|address| !of_no_use(*address));
    }
}

fn pinger(fleet: &Fleet<'_>) -> Option<HostId> {
    if let Some(name) = fleet.pinger {
        let found = fleet.members.iter().find(|m| m.name == name);
        return found.map(|member| member.id);
    }
    let own = |m: &&Member| !fleet.machine.is_empty() && m.machine == fleet.machine;
    let mut here = fleet.members.iter().filter(own);
    let first = here.next()?;
    // Several agents on one machine: the one that is heard of.
    let live = std::iter::once(first)
        .chain(here)
        .find(|m| m.neighbour && !m.silent);
    Some(live.unwrap_or(first).id)
}

fn mesh(members: &[Member]) -> BTreeMap<HostId, Vec<Target>> {
    let ring: Vec<&Member> = members
        .iter()
        .filter(|m| m.neighbour && m.address.is_some())
        .collect();
    let mut lists = BTreeMap::new();
    for member in members.iter().filter(|m| m.neighbour) {
        let others = || {
            ring.iter()
                .filter(|m| m.id != member.id && m.machine_differs(member))
        };
        let (near, far): (Vec<&Member>, Vec<&Member>) = match &member.site {
            None => (others().copied().collect(), Vec::new()),
            Some(_) => others().copied().partition(|m| m.site == member.site),
        };
        let after = |list: &[&Member], count: usize| -> Vec<Target> {
            let start = list.partition_point(|m| m.id < member.id);
            let turn = list.iter().cycle().skip(start).take(list.len());
            let found = turn.filter_map(|m| host_target(m, Role::Mesh));
            found.take(count).collect()
        };
        let mut list = after(&near, NEAR);
        if !far.is_empty() {
            // By its place, so that the hosts of one site do not all ask the same host of another.
            let place = members.partition_point(|m| m.id < member.id);
            list.extend(host_target(far[place % far.len()], Role::Mesh));
        }
        if !list.is_empty() {
            lists.insert(member.id, list);
        }
    }
    lists
}

impl Member {
    fn machine_differs(&self, other: &Member) -> bool {
        self.machine.is_empty() || self.machine != other.machine
    }
}

fn observers(named: &Named, members: &[Member], pinger: Option<HostId>) -> Vec<HostId> {
    match &named.from {
        None => pinger.into_iter().collect(),
        Some(pattern) => members
            .iter()
            .filter(|member| glob(pattern, &member.name))
            .map(|member| member.id)
            .take(OBSERVERS_MAX)
            .collect(),
    }
}

fn target(named: &Named) -> Target {
    Target {
        name: named.name.clone(),
        address: named.address.clone(),
        role: Role::Target,
        tcp_port: named.tcp_port,
    }
}

fn host_target(host: &Member, role: Role) -> Option<Target> {
    Some(Target {
        name: host.name.clone(),
        address: host.address?.to_string(),
        role,
        tcp_port: None,
    })
}

#[cfg(test)]
mod tests {
    use dawnwatch_proto::review::Severity;

    use super::*;

    fn member(number: u64, site: &str) -> Member {
        Member {
            id: HostId::v7(number, 0),
            name: format!("h{number}"),
            site: (!site.is_empty()).then(|| site.to_owned()),
            machine: format!("machine {number}"),
            address: Some(IpAddr::from([10, 0, 0, u8::try_from(number).unwrap()])),
            neighbour: true,
            silent: false,
        }
    }

    fn check(members: Vec<Member>, named: &[Named], want: &[&str]) -> Plan {
        let fleet = Fleet {
            members,
            named,
            pinger: None,
            machine: "machine 1",
        };
        let names: BTreeMap<_, _> = fleet
            .members
            .iter()
            .map(|m| (m.id, m.name.clone()))
            .collect();
        let plan = plan(fleet);
        let line = |(id, list): (&HostId, &Vec<Target>)| {
            let list: Vec<String> = list
                .iter()
                .map(|t| format!("{}:{}", t.role.word(), t.name))
                .collect();
            format!("{} {}", names[id], list.join(" "))
        };
        let got: Vec<String> = plan.lists.iter().map(line).collect();
        assert_eq!(got, want);
        plan
    }

    #[test]
    fn neighbours_go_round() {
        check(vec![member(1, "")], &[], &[]);
        check(
            vec![member(2, ""), member(1, "")],
            &[],
            &["h1 mesh:h2", "h2 mesh:h1"],
        );
        check(
            (1..=4).map(|i| member(i, "")).collect(),
            &[],
            &[
                "h1 mesh:h2 mesh:h3",
                "h2 mesh:h3 mesh:h4",
                "h3 mesh:h4 mesh:h1",
                "h4 mesh:h1 mesh:h2",
            ],
        );
    }

    #[test]
    fn one_of_another_site_where_sites_are_labelled() {
        let members = vec![
            member(1, "hq"),
            member(2, "hq"),
            member(3, "hq"),
            member(4, "branch"),
            member(5, "branch"),
        ];
        check(
            members,
            &[],
            &[
                "h1 mesh:h2 mesh:h3 mesh:h4",
                "h2 mesh:h3 mesh:h1 mesh:h5",
                "h3 mesh:h1 mesh:h2 mesh:h4",
                "h4 mesh:h5 mesh:h1",
                "h5 mesh:h4 mesh:h2",
            ],
        );
    }

    #[test]
    fn an_address_of_several_machines_or_of_loopback_is_not_used() {
        let mut members: Vec<Member> = (1..=4).map(|i| member(i, "")).collect();
        members[1].address = members[0].address;
        members[2].address = Some(IpAddr::from([127, 0, 0, 1]));
        check(members, &[], &["h1 mesh:h4", "h2 mesh:h4", "h3 mesh:h4"]);
    }

    #[test]
    fn who_is_silent_is_pinged_from_the_servers_host() {
        let mut members: Vec<Member> = (1..=3).map(|i| member(i, "")).collect();
        members[2].silent = true;
        let plan = check(
            members.clone(),
            &[],
            &[
                "h1 mesh:h2 mesh:h3 host:h3",
                "h2 mesh:h3 mesh:h1",
                "h3 mesh:h1 mesh:h2",
            ],
        );
        assert_eq!(plan.pinger, Some(members[0].id));
        // Gone for days: nobody's neighbour, and still asked for while it counts as silent.
        members[2].neighbour = false;
        check(members, &[], &["h1 mesh:h2 host:h3", "h2 mesh:h1"]);
    }

    #[test]
    fn configured_targets_are_pinged_by_whom_they_name() {
        let named = |from: Option<&str>| Named {
            name: "printer1".to_owned(),
            address: "10.0.0.9".to_owned(),
            from: from.map(str::to_owned),
            tcp_port: None,
            severity: Severity::Warning,
        };
        let one = || vec![member(1, "")];
        check(one(), &[named(None)], &["h1 target:printer1"]);
        check(one(), &[named(Some("h*"))], &["h1 target:printer1"]);
        check(one(), &[named(Some("web*"))], &[]);
        let many: Vec<Member> = (1..=20).map(|i| member(i, "")).collect();
        let fleet = Fleet {
            members: many,
            named: &[named(Some("h*"))],
            pinger: None,
            machine: "",
        };
        let plan = plan(fleet);
        let asked = plan
            .lists
            .values()
            .flatten()
            .filter(|t| t.role == Role::Target);
        assert_eq!(asked.count(), OBSERVERS_MAX);
        assert_eq!(plan.pinger, None, "no machine-id, no guess");
    }

    #[test]
    fn a_pinger_by_name_and_the_bound_of_a_list() {
        let mut members: Vec<Member> = (1..=200).map(|i| member(i, "")).collect();
        for member in &mut members {
            member.silent = member.name != "h7";
        }
        let fleet = Fleet {
            members,
            named: &[],
            pinger: Some("h7"),
            machine: "machine 1",
        };
        let plan = plan(fleet);
        let pinger = plan.pinger.expect("h7 is there");
        assert_eq!(plan.lists[&pinger].len(), TARGETS_MAX);
    }
}
