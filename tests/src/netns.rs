//! A small network of its own: a bridge on this side, and hosts behind it, each in a namespace. Always removed again.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

/// A bridge with an address, and the namespaces behind it.
#[derive(Debug)]
pub struct Lan {
    bridge: String,
    number: u8,
    net: u8,
    spaces: Vec<String>,
}

impl Lan {
    /// Makes the bridge; `number` tells the networks of one test program apart.
    ///
    /// # Panics
    /// Where the system does not let it be made.
    #[must_use]
    pub fn new(number: u8) -> Lan {
        let pid = std::process::id();
        let lan = Lan {
            bridge: format!("dwp{number}b{pid}"),
            number,
            net: u8::try_from((pid * 4 + u32::from(number)) % 250 + 1).expect("at most 250"),
            spaces: Vec::new(),
        };
        ip(&["link", "add", &lan.bridge, "type", "bridge"]);
        lan.address(1);
        ip(&["link", "set", &lan.bridge, "up"]);
        lan
    }

    /// An address in it: 1 is this side's.
    #[must_use]
    pub fn at(&self, host: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 231, self.net, host))
    }

    /// Gives this side a further address: a printer, say.
    pub fn address(&self, host: u8) {
        let address = format!("{}/24", self.at(host));
        ip(&["addr", "add", &address, "dev", &self.bridge]);
    }

    /// Where a server can listen on this side, at any free port.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        SocketAddr::new(self.at(1), 0)
    }

    /// Adds a host with this address, whose way out is this side. Returns its namespace.
    pub fn host(&mut self, host: u8) -> String {
        let space = format!("{}-{host}", self.bridge);
        let outer = format!("dw{}h{host}o{}", self.number, std::process::id());
        let inner = "eth0";
        ip(&["netns", "add", &space]);
        self.spaces.push(space.clone());
        ip(&[
            "link", "add", &outer, "type", "veth", "peer", "name", inner, "netns", &space,
        ]);
        ip(&["link", "set", &outer, "master", &self.bridge, "up"]);
        let address = format!("{}/24", self.at(host));
        let gateway = self.at(1).to_string();
        ip(&["-n", &space, "addr", "add", &address, "dev", inner]);
        ip(&["-n", &space, "link", "set", "lo", "up"]);
        ip(&["-n", &space, "link", "set", inner, "up"]);
        ip(&["-n", &space, "route", "add", "default", "via", &gateway]);
        space
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for space in &self.spaces {
            // The pair goes with its inner end.
            let _ = run("ip", &["netns", "del", space]);
        }
        let _ = run("ip", &["link", "del", &self.bridge]);
    }
}

/// The words that start a program in a namespace.
#[must_use]
pub fn inside(space: &str) -> Vec<String> {
    ["ip", "netns", "exec", space].map(str::to_owned).into()
}

/// Runs a program in a namespace.
///
/// # Panics
/// Where it fails; what it said is in the text.
pub fn exec(space: &str, words: &[&str]) -> String {
    let mut all = vec!["netns", "exec", space];
    all.extend(words);
    ip(&all)
}

/// Drops answers to pings on their way into a namespace: `rule` says which, as nft writes it. What was there before goes.
/// A packet dropped on its way out would be an error to its sender, as a forbidden one is, and no loss.
///
/// # Panics
/// As [`exec`] does.
pub fn drops(space: &str, from: IpAddr, rule: &str) {
    let text = format!(
        "add table inet dw; flush table inet dw; \
         add chain inet dw in {{ type filter hook input priority 0; }}; \
         add rule inet dw in ip saddr {from} icmp type echo-reply counter; \
         add rule inet dw in ip saddr {from} icmp type echo-reply {rule} counter drop"
    );
    exec(space, &["nft", &text]);
}

/// Drops nothing any more.
///
/// # Panics
/// As [`exec`] does.
pub fn drops_nothing(space: &str) {
    exec(space, &["nft", "flush table inet dw"]);
}

/// Packets that came by, and packets that were dropped, since [`drops`].
///
/// # Panics
/// As [`exec`] does, and where nothing drops.
#[must_use]
pub fn dropped(space: &str) -> (u64, u64) {
    let text = exec(space, &["nft", "list", "table", "inet", "dw"]);
    let counts: Vec<u64> = text
        .split("packets ")
        .skip(1)
        .filter_map(|rest| rest.split_whitespace().next()?.parse().ok())
        .collect();
    let [all, dropped] = counts[..] else {
        panic!("two counters are in: {text}");
    };
    (all, dropped)
}

fn ip(words: &[&str]) -> String {
    match run("ip", words) {
        Ok(said) => said,
        Err(why) => panic!("ip {}: {why}", words.join(" ")),
    }
}

fn run(program: &str, words: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    let output = command.args(words).stdin(Stdio::null()).output();
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}
