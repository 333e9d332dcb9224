//! The choice itself: the same fleet, the same lists.

use std::collections::{BTreeMap, BTreeSet};
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
    let shared: BTreeSet<IpAddr> = machines
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

/// Who pings whom among the hosts themselves. Made anew every second: what it takes grows with the fleet, not with its square.
fn mesh(members: &[Member]) -> BTreeMap<HostId, Vec<Target>> {
    let ring: Vec<&Member> = members
        .iter()
        .filter(|m| m.neighbour && m.address.is_some())
        .collect();
    let mut sites: BTreeMap<&str, Site<'_>> = BTreeMap::new();
    for (place, member) in ring.iter().enumerate() {
        if let Some(name) = &member.site {
            sites.entry(name).or_default().add(place, member);
        }
    }
    let empty = Site::default();
    let mut lists = BTreeMap::new();
    for (place, member) in members.iter().enumerate().filter(|(_, m)| m.neighbour) {
        let (near, far) = match &member.site {
            None => (&ring, None),
            Some(name) => {
                let site = sites.get(name.as_str()).unwrap_or(&empty);
                // By its place, so that the hosts of one site do not all ask the same host of another.
                (&site.members, site.other(&ring, place, member))
            }
        };
        let (before, after) = near.split_at(near.partition_point(|m| m.id < member.id));
        let near = after.iter().chain(before);
        let near = near.filter(|m| m.id != member.id && m.machine_differs(member));
        let near = near.filter_map(|m| host_target(m, Role::Mesh));
        let mut list: Vec<Target> = near.take(NEAR).collect();
        list.extend(far.and_then(|m| host_target(m, Role::Mesh)));
        if !list.is_empty() {
            lists.insert(member.id, list);
        }
    }
    lists
}

/// The hosts of one site that can be pinged.
#[derive(Default)]
struct Site<'a> {
    members: Vec<&'a Member>,
    /// Of each of them, how many hosts of other sites stand before it among all.
    others_before: Vec<usize>,
}

impl<'a> Site<'a> {
    /// Takes in the next one, which has this place among all.
    fn add(&mut self, place: usize, member: &'a Member) {
        self.others_before.push(place - self.members.len());
        self.members.push(member);
    }

    /// The host of another site that has this place among those, beginning anew behind the last; the next one where it is the same
    /// machine.
    fn other(&self, ring: &[&'a Member], place: usize, of: &Member) -> Option<&'a Member> {
        let others = ring.len() - self.members.len();
        let at = |more: usize| {
            let place = (place + more) % others;
            ring[place
                + self
                    .others_before
                    .partition_point(|others| *others <= place)]
        };
        (0..others).map(at).find(|m| m.machine_differs(of))
    }
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

    /// The same lists, found by looking at every host for every host.
    fn of_every_pair(members: &[Member]) -> BTreeMap<HostId, Vec<Target>> {
        let mut lists = BTreeMap::new();
        for (place, member) in members.iter().enumerate().filter(|(_, m)| m.neighbour) {
            let ring = members
                .iter()
                .filter(|m| m.neighbour && m.address.is_some());
            let is_near = |m: &&&Member| member.site.is_none() || m.site == member.site;
            let (near, far): (Vec<&Member>, Vec<&Member>) = ring.partition(|m| is_near(&m));
            let turned = |list: &[&Member], by: usize| {
                let turn = [&list[by..], &list[..by]].concat().into_iter();
                let others = turn.filter(|m| m.id != member.id && m.machine_differs(member));
                others
                    .filter_map(|m| host_target(m, Role::Mesh))
                    .collect::<Vec<_>>()
            };
            let after = near.iter().filter(|m| m.id < member.id).count();
            let mut list = turned(&near, after);
            list.truncate(NEAR);
            if !far.is_empty() {
                list.extend(turned(&far, place % far.len()).into_iter().next());
            }
            if !list.is_empty() {
                lists.insert(member.id, list);
            }
        }
        lists
    }

    #[test]
    fn each_list_is_as_if_every_host_had_been_looked_at() {
        let mut random = 7_u64;
        let mut one_in = |n: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005) + 1;
            (random >> 33).is_multiple_of(n)
        };
        let mut asked = 0;
        for hosts in (1..=60).cycle().take(600) {
            let mut members: Vec<Member> = Vec::new();
            for i in 1..=hosts {
                let site = ["", "hq", "branch", "lab"]
                    .into_iter()
                    .find(|_| one_in(3))
                    .unwrap_or("hq");
                let mut one = member(i, site);
                if let Some(before) = members.last().filter(|_| one_in(4)) {
                    one.machine.clone_from(&before.machine);
                }
                one.address = one.address.filter(|_| !one_in(6));
                one.neighbour = !one_in(8);
                members.push(one);
            }
            let lists = mesh(&members);
            assert_eq!(lists, of_every_pair(&members), "{members:#?}");
            asked += lists.values().map(Vec::len).sum::<usize>();
        }
        assert!(asked > 20_000, "{asked}");
    }

    #[test]
    fn a_fleet_of_ten_thousand_is_planned() {
        let fleet = (1..=10_000_u64).map(|i| {
            let site = format!("site{}", i % 20);
            let host = i.to_string();
            let [.., high, low] = i.to_be_bytes();
            Member {
                id: HostId::v7(i, 0),
                machine: format!("machine {host}"),
                name: host,
                address: Some(IpAddr::from([10, 0, high, low])),
                ..member(1, &site)
            }
        });
        let fleet: Vec<Member> = fleet.collect();
        let mut asked: BTreeMap<String, usize> = BTreeMap::new();
        for list in mesh(&fleet).into_values() {
            assert_eq!(list.len(), NEAR + 1);
            for target in list {
                *asked.entry(target.name).or_default() += 1;
            }
        }
        assert_eq!(asked.len(), fleet.len(), "everybody is seen");
        assert!(asked.values().all(|by| (2..=5).contains(by)), "evenly");
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
