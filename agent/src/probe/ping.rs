//! ICMP echoes, over the first kind of socket that is permitted: datagram, then raw.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};

use dawnwatch_proto::probe::Method;
use socket2::Type;
use surge_ping::{Client, Config, ICMP, IcmpPacket, PingIdentifier, PingSequence, SurgeError};

use super::{ANSWER_MAX, Echo, tcp};

/// What an echo carries: as much as ping(8) sends, so that a way that drops larger packets shows.
const PAYLOAD: [u8; 56] = [0; 56];

/// Types of an answer: ICMP's and ICMPv6's echo reply. Anything else says that there is no way.
const REPLY_V4: u8 = 0;
const REPLY_V6: u8 = 129;

/// The sockets of IPv4 and IPv6, and how each family is asked.
pub struct Sockets {
    v4: Family,
    v6: Family,
    /// Makes two echoes to one address under way at once differ.
    sequence: AtomicU16,
    identifier: u16,
}

struct Family {
    client: Option<Client>,
    method: Method,
    /// Why it is not ICMP.
    why: Option<io::Error>,
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sockets").field(&self.methods()).finish()
    }
}

impl Sockets {
    /// Opens what is permitted. Must be called where tokio runs.
    #[must_use]
    pub fn open() -> Sockets {
        let identifier = u16::try_from(std::process::id() & 0xffff).unwrap_or(1);
        Sockets {
            v4: Family::open(ICMP::V4),
            v6: Family::open(ICMP::V6),
            sequence: AtomicU16::new(0),
            identifier,
        }
    }

    /// How IPv4 and IPv6 are asked.
    #[must_use]
    pub fn methods(&self) -> [Method; 2] {
        [self.v4.method, self.v6.method]
    }

    /// What is not as it should be, and what to do; none where ICMP is permitted.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let why = self.v4.why.as_ref()?;
        Some(match self.v4.method {
            Method::None => format!(
                "unknown: no permission to ping ({why}), nothing is pinged; permit it: {PERMIT}"
            ),
            Method::Tcp => format!(
                "no permission to ping ({why}): TCP connections are made instead; to permit it: {PERMIT}"
            ),
            Method::Datagram | Method::Raw => return None,
        })
    }

    /// Sends one probe and waits for its answer.
    pub(super) async fn echo(&self, to: SocketAddr) -> Echo {
        let family = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        let Some(client) = &family.client else {
            return tcp::connect(to).await;
        };
        let sequence = PingSequence(self.sequence.fetch_add(1, Ordering::Relaxed));
        let identifier = PingIdentifier(self.identifier);
        let mut pinger = client.pinger(to.ip(), identifier).await;
        if let SocketAddr::V6(to) = to {
            pinger.scope_id(to.scope_id());
        }
        pinger.timeout(ANSWER_MAX);
        match pinger.ping(sequence, &PAYLOAD).await {
            Ok((packet, rtt)) if is_reply(&packet) => Echo::Answered(rtt),
            Err(SurgeError::IOError(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                Echo::Unable
            }
            Ok(_) | Err(_) => Echo::Lost,
        }
    }
}

/// What permits it, for people.
const PERMIT: &str =
    "sysctl net.ipv4.ping_group_range=\"0 2147483647\", or give the agent CAP_NET_RAW";

impl Family {
    fn open(kind: ICMP) -> Family {
        let config = Config::builder()
            .kind(kind)
            .sock_type_hint(Type::DGRAM)
            .build();
        match Client::new(&config) {
            Ok(client) => {
                let method = if client.get_socket().get_type() == Type::RAW {
                    Method::Raw
                } else {
                    Method::Datagram
                };
                Family {
                    client: Some(client),
                    method,
                    why: None,
                }
            }
            Err(error) => Family {
                client: None,
                method: tcp::method(kind == ICMP::V6),
                why: Some(plain(&error)),
            },
        }
    }
}

/// The first line of an error: the crate adds advice of its own, ours is shorter.
fn plain(error: &io::Error) -> io::Error {
    let text = if error.kind() == io::ErrorKind::PermissionDenied {
        "permission denied".to_owned()
    } else {
        let text = error.to_string();
        text.lines().next().unwrap_or_default().to_owned()
    };
    io::Error::new(error.kind(), text)
}

fn is_reply(packet: &IcmpPacket) -> bool {
    match packet {
        IcmpPacket::V4(packet) => packet.get_icmp_type().0 == REPLY_V4,
        IcmpPacket::V6(packet) => packet.get_icmpv6_type().0 == REPLY_V6,
    }
}

/// How this process may ping, in words: for `doctor`. Must be called where tokio runs.
#[must_use]
pub fn permitted() -> (String, Option<String>) {
    let sockets = Sockets::open();
    let [v4, v6] = sockets.methods();
    let said = format!("IPv4 by {}, IPv6 by {}", v4.word(), v6.word());
    (said, sockets.trouble())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[tokio::test]
    async fn this_machine_answers_by_whatever_is_permitted() {
        let sockets = Sockets::open();
        for to in ["127.0.0.1:9", "[::1]:9"] {
            let to: SocketAddr = to.parse().unwrap();
            let method = sockets.methods()[usize::from(to.is_ipv6())];
            if method == Method::None {
                continue;
            }
            let echo = sockets.echo(to).await;
            assert!(
                matches!(echo, Echo::Answered(_)),
                "{to} by {method:?}: {echo:?}"
            );
        }
    }
}
