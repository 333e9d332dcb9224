//! What agents ping, and what the series of it are called.
//!
//! | series | unit | meaning |
//! |---|---|---|
//! | `probe_success` | 0 or 1 | 0 where the last [`DOWN_PROBES`] probes in a row had no answer (blackbox_exporter's name) |
//! | `dawnwatch_ping_rtt_min_seconds`, `_avg_`, `_max_` | 0.1 ms | round trips answered since the tick before |
//! | `dawnwatch_ping_jitter_seconds` | 0.1 ms | mean difference of two round trips in a row |
//! | `dawnwatch_ping_sent_total`, `dawnwatch_ping_lost_total` | probes | probes that were answered or given up, and those given up |
//!
//! All of them are labelled `target` (name or address) and `role` ([`Role`]). `dawnwatch_ping_method` says how a host may
//! probe ([`Method`]). Where nothing may be probed, or a name cannot be resolved, the values are missing: never "down".

use serde::{Deserialize, Serialize};

use crate::series::{LABEL_BYTES_MAX, limit};
use crate::{Malformed, pb};

/// 1 while answers come.
pub const SUCCESS: &str = "probe_success";
/// Shortest round trip.
pub const RTT_MIN: &str = "dawnwatch_ping_rtt_min_seconds";
/// Mean round trip.
pub const RTT_AVG: &str = "dawnwatch_ping_rtt_avg_seconds";
/// Longest round trip.
pub const RTT_MAX: &str = "dawnwatch_ping_rtt_max_seconds";
/// Mean difference of two round trips in a row.
pub const JITTER: &str = "dawnwatch_ping_jitter_seconds";
/// Probes whose fate is known.
pub const SENT: &str = "dawnwatch_ping_sent_total";
/// Probes without an answer.
pub const LOST: &str = "dawnwatch_ping_lost_total";
/// How the host may probe: see [`Method::number`].
pub const METHOD: &str = "dawnwatch_ping_method";

/// Probes in a row without an answer that make a target count as down.
pub const DOWN_PROBES: u32 = 3;

/// Most targets of one agent: seven series each are under half of what a host may declare.
pub const TARGETS_MAX: usize = 128;

/// Why a target is pinged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The host's own way out.
    Gateway,
    /// The server that the agent reports to.
    Server,
    /// Another agent's host.
    Mesh,
    /// Named in the server's configuration.
    Target,
    /// A host that fell silent, pinged from the server's own host.
    Host,
}

impl Role {
    /// The word in the label `role`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Role::Gateway => "gateway",
            Role::Server => "server",
            Role::Mesh => "mesh",
            Role::Target => "target",
            Role::Host => "host",
        }
    }

    /// The role that a label's word stands for.
    #[must_use]
    pub fn of(word: &str) -> Option<Role> {
        [
            Role::Gateway,
            Role::Server,
            Role::Mesh,
            Role::Target,
            Role::Host,
        ]
        .into_iter()
        .find(|role| role.word() == word)
    }

    fn to_pb(self) -> pb::TargetRole {
        match self {
            Role::Gateway => pb::TargetRole::Gateway,
            Role::Server => pb::TargetRole::Server,
            Role::Mesh => pb::TargetRole::Mesh,
            Role::Target => pb::TargetRole::Target,
            Role::Host => pb::TargetRole::Host,
        }
    }

    /// None for a role that a later server may know.
    fn from_pb(role: i32) -> Option<Role> {
        match pb::TargetRole::try_from(role).ok()? {
            pb::TargetRole::Unspecified => None,
            pb::TargetRole::Gateway => Some(Role::Gateway),
            pb::TargetRole::Server => Some(Role::Server),
            pb::TargetRole::Mesh => Some(Role::Mesh),
            pb::TargetRole::Target => Some(Role::Target),
            pb::TargetRole::Host => Some(Role::Host),
        }
    }
}

/// How a host may probe: the first that is permitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Nothing is permitted.
    None,
    /// ICMP echo over an unprivileged datagram socket (`net.ipv4.ping_group_range`).
    Datagram,
    /// ICMP echo over a raw socket (`CAP_NET_RAW`).
    Raw,
    /// A TCP connection, opened or refused: both are answers.
    Tcp,
}

impl Method {
    /// The value of [`METHOD`].
    #[must_use]
    pub const fn number(self) -> i64 {
        match self {
            Method::None => 0,
            Method::Datagram => 1,
            Method::Raw => 2,
            Method::Tcp => 3,
        }
    }

    /// The method that a value of [`METHOD`] stands for.
    #[must_use]
    pub fn of(number: i64) -> Option<Method> {
        [Method::None, Method::Datagram, Method::Raw, Method::Tcp]
            .into_iter()
            .find(|method| method.number() == number)
    }

    /// What people read.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Method::None => "unknown: no permission",
            Method::Datagram => "ICMP, datagram socket",
            Method::Raw => "ICMP, raw socket",
            Method::Tcp => "TCP connect",
        }
    }
}

/// Something that an agent pings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Target {
    /// What series call it.
    pub name: String,
    /// IPv4 or IPv6 address, or a name to be resolved on the host.
    pub address: String,
    /// Why it is pinged.
    pub role: Role,
    /// Port to connect to where no ping is permitted.
    pub tcp_port: Option<u16>,
}

impl Target {
    /// The wire form.
    #[must_use]
    pub fn to_pb(&self) -> pb::Target {
        pb::Target {
            name: self.name.clone(),
            address: self.address.clone(),
            role: i32::from(self.role.to_pb()),
            tcp_port: u32::from(self.tcp_port.unwrap_or(0)),
        }
    }
}

/// Checks the targets of settings from the wire. One whose role this build does not know is left out.
///
/// # Errors
/// [`Malformed`] says which bound is broken; then none of them holds.
pub fn targets_from_pb(targets: Vec<pb::Target>) -> Result<Vec<Target>, Malformed> {
    limit("targets of an agent", targets.len(), TARGETS_MAX)?;
    let mut out = Vec::with_capacity(targets.len());
    for target in targets {
        let longest = target.name.len().max(target.address.len());
        limit(
            "length of a target's name or address",
            longest,
            LABEL_BYTES_MAX,
        )?;
        if target.name.is_empty() || target.address.is_empty() {
            return Err(Malformed::Missing("name or address of a target"));
        }
        let tcp_port = u16::try_from(target.tcp_port).map_err(|_| Malformed::Invalid {
            what: "TCP port of a target",
            why: format!("{} is over 65535", target.tcp_port),
        })?;
        if let Some(role) = Role::from_pb(target.role) {
            out.push(Target {
                name: target.name,
                address: target.address,
                role,
                tcp_port: (tcp_port != 0).then_some(tcp_port),
            });
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str) -> Target {
        Target {
            name: name.to_owned(),
            address: "192.0.2.1".to_owned(),
            role: Role::Mesh,
            tcp_port: Some(22),
        }
    }

    #[test]
    fn targets_pass_the_wire_and_bounds_hold() {
        let both = vec![
            target("a"),
            Target {
                tcp_port: None,
                ..target("b")
            },
        ];
        let wire: Vec<_> = both.iter().map(Target::to_pb).collect();
        assert_eq!(targets_from_pb(wire.clone()), Ok(both));

        let later = pb::Target {
            role: 99,
            ..wire[0].clone()
        };
        assert_eq!(targets_from_pb(vec![later]), Ok(Vec::new()));
        let many = vec![wire[0].clone(); TARGETS_MAX + 1];
        assert!(targets_from_pb(many).is_err());
        for bad in [
            pb::Target {
                name: String::new(),
                ..wire[0].clone()
            },
            pb::Target {
                address: "a".repeat(LABEL_BYTES_MAX + 1),
                ..wire[0].clone()
            },
            pb::Target {
                tcp_port: 65_536,
                ..wire[0].clone()
            },
        ] {
            assert!(targets_from_pb(vec![bad]).is_err());
        }
    }

    #[test]
    fn words_and_numbers_lead_back() {
        for word in ["gateway", "server", "mesh", "target", "host"] {
            assert_eq!(Role::of(word).map(Role::word), Some(word));
        }
        assert_eq!(Role::of("else"), None);
        for number in 0..4 {
            assert_eq!(Method::of(number).map(Method::number), Some(number));
        }
        assert_eq!(Method::of(4), None);
    }
}
