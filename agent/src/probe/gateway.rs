//! The way out, from `/proc/net/route` and `/proc/net/ipv6_route`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use dawnwatch_proto::probe::{Role, Target};

/// Flags of a route: it is in use, and leads to a gateway.
const UP_AND_GATEWAY: u32 = 0x3;

/// Routes looked at: more than this is a router with the whole Internet's table, whose default route stands at the top.
const ROUTES_MAX: usize = 4_096;

/// The default gateways, IPv4 first: of each family the one with the least metric.
pub(crate) fn read(proc: &Path) -> Vec<Target> {
    let text =
        |name: &str| std::fs::read_to_string(proc.join("net").join(name)).unwrap_or_default();
    let v4 = parse_v4(&text("route")).map(|gateway| target(IpAddr::V4(gateway).to_string()));
    let v6 = parse_v6(&text("ipv6_route")).map(|(gateway, interface)| {
        // A link-local address means something only together with its interface.
        target(if gateway.is_unicast_link_local() {
            format!("{gateway}%{interface}")
        } else {
            gateway.to_string()
        })
    });
    v4.into_iter().chain(v6).collect()
}

fn target(address: String) -> Target {
    Target {
        name: address.clone(),
        address,
        role: Role::Gateway,
        tcp_port: None,
    }
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask ...`, addresses as the host's own integers in hex.
fn parse_v4(text: &str) -> Option<Ipv4Addr> {
    let mut best: Option<(u32, Ipv4Addr)> = None;
    for line in text.lines().skip(1).take(ROUTES_MAX) {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, "00000000", gateway, flags, _, _, metric, "00000000", ..] = fields[..] else {
            continue;
        };
        let (Ok(gateway), Ok(flags), Ok(metric)) = (
            u32::from_str_radix(gateway, 16),
            u32::from_str_radix(flags, 16),
            metric.parse::<u32>(),
        ) else {
            continue;
        };
        let usable = flags & UP_AND_GATEWAY == UP_AND_GATEWAY && gateway != 0;
        if usable && best.is_none_or(|(least, _)| metric < least) {
            best = Some((metric, Ipv4Addr::from(gateway.to_ne_bytes())));
        }
    }
    best.map(|(_, gateway)| gateway)
}

/// `destination prefix source prefix gateway metric references uses flags interface`, all in hex.
fn parse_v6(text: &str) -> Option<(Ipv6Addr, &str)> {
    let mut best: Option<(u32, Ipv6Addr, &str)> = None;
    for line in text.lines().take(ROUTES_MAX) {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [
            destination,
            "00",
            _,
            "00",
            gateway,
            metric,
            _,
            _,
            flags,
            interface,
        ] = fields[..]
        else {
            continue;
        };
        let (Ok(0), Ok(gateway), Ok(metric), Ok(flags)) = (
            u128::from_str_radix(destination, 16),
            u128::from_str_radix(gateway, 16),
            u32::from_str_radix(metric, 16),
            u32::from_str_radix(flags, 16),
        ) else {
            continue;
        };
        let usable = flags & UP_AND_GATEWAY == UP_AND_GATEWAY && gateway != 0;
        if usable && best.is_none_or(|(least, ..)| metric < least) {
            best = Some((metric, Ipv6Addr::from(gateway), interface));
        }
    }
    best.map(|(_, gateway, interface)| (gateway, interface))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &str =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_least_metric_wins() {
        for (routes, want) in [
            (
                "eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n",
                Some([192, 168, 0, 1]),
            ),
            (
                "wlan0\t00000000\t0100A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\neth0\t00000000\tFE01000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n",
                Some([10, 0, 1, 254]),
            ),
            // A default route without a gateway (a tunnel), one that is down, a network, and garbage.
            (
                "tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n",
                None,
            ),
            (
                "eth0\t00000000\t0100A8C0\t0002\t0\t0\t0\t00000000\t0\t0\t0\n",
                None,
            ),
            (
                "eth0\t0000A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n",
                None,
            ),
            ("eth0\t00000000\tzz\t0003\n\n\u{fffd}\n", None),
            ("", None),
        ] {
            let got = parse_v4(&format!("{V4}{routes}"));
            assert_eq!(got, want.map(Ipv4Addr::from), "{routes}");
        }
    }

    #[test]
    fn a_default_route_of_ipv6() {
        let zero = "0".repeat(32);
        let route = |gateway: &str, metric: &str, flags: &str| {
            format!("{zero} 00 {zero} 00 {gateway} {metric} 00000001 00000000 {flags}     eth0\n")
        };
        let gateway = "fe800000000000000000000000000001";
        let global = "20010db8000000000000000000000001";
        for (text, want) in [
            (route(gateway, "00000400", "00450003"), Some("fe80::1")),
            (
                route(gateway, "00000400", "00000003") + &route(global, "00000100", "00000003"),
                Some("2001:db8::1"),
            ),
            // The kernel's own "unreachable".
            (route(&zero, "ffffffff", "00200200"), None),
            ("garbage\n".to_owned(), None),
        ] {
            let got = parse_v6(&text).map(|(address, _)| address);
            assert_eq!(got, want.map(|w| w.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_link_local_gateway_is_named_with_its_interface() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("net")).unwrap();
        let zero = "0".repeat(32);
        let text = format!(
            "{zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n"
        );
        std::fs::write(dir.path().join("net/ipv6_route"), text).unwrap();
        let found = read(dir.path());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].address, "fe80::1%eth0");
    }
}
