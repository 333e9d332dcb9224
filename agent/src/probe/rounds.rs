//! Who is asked when: every target once in each round, spread over it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use dawnwatch_proto::probe::{Role, TARGETS_MAX, Target};
use dawnwatch_proto::{Event, EventBody};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::{ANSWER_MAX, Board, Echo, Sockets, gateway, tcp};
use crate::clock::Clock;
use crate::identity::Address;
use crate::uplink::Shared;

/// Routes and names are looked up anew this often.
const LOOK_UP_EVERY: Duration = Duration::from_secs(60);

/// What is permitted is tried anew this often: an admin who permits it wants no restart.
const PERMITTED_EVERY: Duration = Duration::from_secs(3_600);

/// A gateway whose route is gone is pinged for this many looks on: a link that is down takes its route along, and that the
/// gateway is lost is what is to be told.
const GONE_LOOKS: u32 = 5;

/// Sentences of trouble that one run tells: past that the series say so.
const TOLD_MAX: usize = 64;

/// What the rounds are made of.
#[derive(Debug)]
pub(crate) struct Rounds {
    /// The targets, shared with the collector.
    pub(crate) board: Board,
    /// Usually `/proc`.
    pub(crate) proc: PathBuf,
    /// Time between two probes of a target.
    pub(crate) interval: Duration,
    /// The server, as the agent dials it.
    pub(crate) server: Option<Address>,
}

/// What a run knows from one round to the next.
struct State {
    sockets: Arc<Sockets>,
    /// Gateways, and how many looks ago their route was there.
    gateways: Vec<(Target, u32)>,
    looked: Option<Instant>,
    opened: Instant,
    told: Vec<String>,
    set: Option<Rc<[Target]>>,
}

/// Asks for ever.
pub(crate) async fn run(rounds: Rounds, shared: &Shared, clock: Clock) {
    let mut state = State {
        sockets: Arc::new(Sockets::open()),
        gateways: Vec::new(),
        looked: None,
        opened: Instant::now(),
        told: Vec::new(),
        set: None,
    };
    rounds.opened(&mut state, shared, clock);
    let mut probes = JoinSet::new();
    loop {
        let begun = Instant::now();
        rounds.look(&mut state, shared, clock);
        let fresh = state.looked == Some(begun);
        let targets = rounds.board.targets();
        let share = rounds.interval / u32::try_from(targets.len().max(1)).unwrap_or(u32::MAX);
        for (i, (target, resolved)) in targets.into_iter().enumerate() {
            let at = begun + share * u32::try_from(i).unwrap_or(0);
            sleep_until(at).await;
            let resolved = resolved.filter(|_| !fresh);
            let (board, sockets) = (rounds.board.clone(), Arc::clone(&state.sockets));
            probes.spawn(async move { probe(&board, &sockets, &target, resolved).await });
            while let Some(ended) = probes.try_join_next() {
                if let Ok(Some(trouble)) = ended {
                    tell(&mut state.told, trouble, shared, clock);
                }
            }
        }
        sleep_until(begun + rounds.interval).await;
    }
}

impl Rounds {
    /// Brings targets and sockets up to date.
    fn look(&self, state: &mut State, shared: &Shared, clock: Clock) {
        let now = Instant::now();
        if now.duration_since(state.opened) >= PERMITTED_EVERY {
            state.opened = now;
            state.sockets = Arc::new(Sockets::open());
            self.opened(state, shared, clock);
        }
        let set = shared.targets();
        let known = state
            .set
            .as_ref()
            .is_some_and(|known| Rc::ptr_eq(known, &set));
        let due = state
            .looked
            .is_none_or(|looked| now.duration_since(looked) >= LOOK_UP_EVERY);
        if known && !due {
            return;
        }
        state.looked = Some(now);
        remember(&mut state.gateways, gateway::read(&self.proc));
        let own = state.gateways.iter().map(|(gateway, _)| gateway.clone());
        let all: Vec<Target> = own
            .chain(self.server())
            .chain(set.iter().cloned())
            .collect();
        let refused = self.board.set(&all);
        if refused > 0 {
            let text = format!("{refused} targets over the limit of {TARGETS_MAX} are not pinged");
            tell(&mut state.told, text, shared, clock);
        }
        state.set = Some(set);
    }

    fn server(&self) -> Option<Target> {
        let server = self.server.as_ref()?;
        Some(Target {
            name: server.host.clone(),
            address: server.host.clone(),
            role: Role::Server,
            tcp_port: Some(server.port),
        })
    }

    /// Says how pings go out, where that is news.
    fn opened(&self, state: &mut State, shared: &Shared, clock: Clock) {
        let methods = state.sockets.methods();
        if !self.board.set_methods(methods) {
            return;
        }
        let [v4, v6] = methods;
        tracing::info!(ipv4 = v4.word(), ipv6 = v6.word(), "how pings go out");
        if let Some(trouble) = state.sockets.trouble() {
            tell(&mut state.told, trouble, shared, clock);
        }
    }
}

/// Keeps gateways whose route is gone for a while, unless another of their family took over.
fn remember(known: &mut Vec<(Target, u32)>, found: Vec<Target>) {
    let v6 = |target: &Target| target.address.contains(':');
    known.retain_mut(|(gateway, gone)| {
        *gone += 1;
        *gone <= GONE_LOOKS && !found.iter().any(|other| v6(other) == v6(gateway))
    });
    known.extend(found.into_iter().map(|gateway| (gateway, 0)));
    known.sort();
}

/// One probe. Returns what a person should hear of it.
async fn probe(
    board: &Board,
    sockets: &Sockets,
    target: &Target,
    resolved: Option<SocketAddr>,
) -> Option<String> {
    let to = match resolved {
        Some(to) => to,
        None => {
            let found = resolve(target).await;
            board.resolved(target, found);
            let Some(to) = found else {
                board.take(target, Echo::Unable);
                let Target { name, address, .. } = target;
                return Some(format!(
                    "{name}: {address:?} is no address and no name that this host can resolve: it is not pinged"
                ));
            };
            to
        }
    };
    board.take(target, sockets.echo(to).await);
    None
}

/// Where an address or name leads, with the port for TCP.
async fn resolve(target: &Target) -> Option<SocketAddr> {
    let port = target.tcp_port.unwrap_or(tcp::PORT);
    if let Some((address, interface)) = target.address.split_once('%') {
        let address: Ipv6Addr = address.parse().ok()?;
        let scope = scope(interface)?;
        return Some(SocketAddrV6::new(address, port, 0, scope).into());
    }
    if let Ok(address) = target.address.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, port));
    }
    let found = timeout(
        ANSWER_MAX,
        tokio::net::lookup_host((target.address.as_str(), port)),
    );
    found.await.ok()?.ok()?.next()
}

/// The number of an interface.
fn scope(interface: &str) -> Option<u32> {
    if interface.contains('/') {
        return None;
    }
    let path = format!("/sys/class/net/{interface}/ifindex");
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Tells a sentence once a run.
fn tell(told: &mut Vec<String>, text: String, shared: &Shared, clock: Clock) {
    if told.len() >= TOLD_MAX || told.contains(&text) {
        return;
    }
    tracing::warn!(subject = "ping", "{text}");
    told.push(text.clone());
    let body = EventBody::Trouble {
        subject: "ping".to_owned(),
        text,
    };
    let time = clock.wall();
    shared.event(Event { time, body });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(address: &str) -> Target {
        Target {
            name: address.to_owned(),
            address: address.to_owned(),
            role: Role::Gateway,
            tcp_port: None,
        }
    }

    fn names(known: &[(Target, u32)]) -> Vec<&str> {
        known
            .iter()
            .map(|(target, _)| target.name.as_str())
            .collect()
    }

    #[test]
    fn a_gateway_is_missed_for_a_while_unless_another_took_over() {
        let mut known = Vec::new();
        remember(
            &mut known,
            vec![gateway("10.0.0.1"), gateway("fe80::1%eth0")],
        );
        for _ in 0..GONE_LOOKS {
            remember(&mut known, Vec::new());
            assert_eq!(names(&known), ["10.0.0.1", "fe80::1%eth0"]);
        }
        remember(&mut known, vec![gateway("10.0.0.2")]);
        assert_eq!(names(&known), ["10.0.0.2"]);
    }

    #[tokio::test]
    async fn addresses_and_names_lead_somewhere() {
        let of = |address: &str| Target {
            tcp_port: Some(22),
            ..gateway(address)
        };
        for (address, want) in [
            ("192.0.2.1", Some("192.0.2.1:22")),
            ("2001:db8::1", Some("[2001:db8::1]:22")),
            ("not-there.invalid", None),
            ("fe80::1%../../etc", None),
            ("300.0.0.1%lo", None),
        ] {
            let got = resolve(&of(address)).await.map(|to| to.to_string());
            assert_eq!(got.as_deref(), want, "{address}");
        }
        let Some(SocketAddr::V6(to)) = resolve(&of("fe80::1%lo")).await else {
            panic!("the loopback interface is there");
        };
        assert!(to.scope_id() > 0);
    }
}
