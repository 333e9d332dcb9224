//! The address of a server as people write it.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use dawnwatch_proto::AGENT_PORT;

/// A name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A DNS name, or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// The text is no address of a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a server's address: {why}; write HOST, HOST:PORT or [V6]:PORT")]
pub struct BadAddress {
    text: String,
    why: &'static str,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Address, BadAddress> {
        let bad = |why| BadAddress {
            text: text.to_owned(),
            why,
        };
        let trimmed = text.trim();
        let (host, port) = split(trimmed).map_err(bad)?;
        let port = match port {
            None => AGENT_PORT,
            Some(port) => match port.parse() {
                Ok(port) if port > 0 => port,
                Ok(_) | Err(_) => return Err(bad("the port must be 1 to 65535")),
            },
        };
        Ok(Address {
            host: host.to_owned(),
            port,
        })
    }
}

fn split(text: &str) -> Result<(&str, Option<&str>), &'static str> {
    if text.contains("://") {
        return Err("it begins with a scheme");
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok((text, None));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("the bracket is not closed")?;
        host.parse::<Ipv6Addr>()
            .map_err(|_| "between the brackets is no IPv6 address")?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err("after the bracket only :PORT may follow"),
        };
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.is_empty() {
        return Err("the host is missing");
    }
    if !host.chars().all(name) {
        return Err("a host name has letters, digits, dots and hyphens");
    }
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_understood() {
        for (text, want) in [
            ("mon", "mon:7443"),
            ("mon.example:1", "mon.example:1"),
            (" 192.0.2.1 ", "192.0.2.1:7443"),
            ("192.0.2.1:65535", "192.0.2.1:65535"),
            ("::1", "[::1]:7443"),
            ("[2001:db8::1]", "[2001:db8::1]:7443"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), want, "{text}");
            assert_eq!(
                want.parse::<Address>().unwrap(),
                address,
                "the printed form parses"
            );
        }
    }

    #[test]
    fn what_is_no_address_is_told_why() {
        for (text, why) in [
            ("", "host is missing"),
            (":7443", "host is missing"),
            ("https://mon", "scheme"),
            ("mon:0", "1 to 65535"),
            ("mon:65536", "1 to 65535"),
            ("mon:", "1 to 65535"),
            ("mon:a", "1 to 65535"),
            ("a b", "letters, digits"),
            ("mon/x", "letters, digits"),
            ("[::1", "not closed"),
            ("[mon]:1", "no IPv6"),
            ("[::1]1", "only :PORT"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
