//! Why checks cannot go through the tunnel, one line each.

use std::net::IpAddr;

use strum::IntoStaticStr;
use strum::VariantNames;

/// Why checks cannot go through the tunnel to a VIP's address.
///
/// Every message is one line that says what is missing, and what else there is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
#[non_exhaustive]
pub enum TunnelObstacle {
    /// The VIP's address is one of the host's own.
    #[error(
        "checks cannot go through the tunnel to {vip}: it is an address of this host, so its packets never leave it; \
         set via = \"direct\" for the check, or remove the address from the host"
    )]
    OwnAddress {
        /// The VIP's address.
        vip: IpAddr,
    },
    /// The host has no route to it.
    #[error(
        "checks cannot go through the tunnel to {vip}: this host has no {} route to it; add one by an interface of the \
         balancer, such as 'ip route add {vip} via {}', or set via = \"direct\" for the check",
        family(*vip), example.as_deref().unwrap_or("ROUTER dev INTERFACE")
    )]
    NoRoute {
        /// The VIP's address.
        vip: IpAddr,
        /// Router and interface of a route that would do: `192.0.2.1 dev eth0`.
        example: Option<String>,
    },
    /// The host has no address that packets could come from.
    #[error(
        "checks cannot go through the tunnel to {vip}: this host has no {} address that the reals could answer to{}; \
         add one ('ip address add ADDRESS dev INTERFACE'), or set via = \"direct\" for the check",
        family(*vip), found.map_or_else(String::new, |found| format!(" (only {found})"))
    )]
    NoSource {
        /// The VIP's address.
        vip: IpAddr,
        /// The address that its packets would have.
        found: Option<IpAddr>,
    },
    /// The route says that it is on a network, where nobody answers for it.
    #[error(
        "checks cannot go through the tunnel to {vip}: the route to it says that it is on the network of {interface}, \
         where nobody answers {} for it; add a route by a router, such as 'ip route add {vip} via {}', or set via = \
         \"direct\" for the check",
        if vip.is_ipv4() { "ARP" } else { "neighbour solicitations" },
        example.as_deref().unwrap_or("ROUTER dev INTERFACE")
    )]
    NoNeighbour {
        /// The VIP's address.
        vip: IpAddr,
        /// The interface.
        interface: String,
        /// Router and interface of a route that would do: `192.0.2.1 dev eth0`.
        example: Option<String>,
    },
    /// Packets to it leave by a device without Ethernet.
    #[error(
        "checks cannot go through the tunnel to {vip}: the route to it leads by {interface}, which is no Ethernet \
         interface; add a route by an interface of the balancer, or set via = \"direct\" for the check"
    )]
    NotEthernet {
        /// The VIP's address.
        vip: IpAddr,
        /// The interface.
        interface: String,
    },
    /// Packets to it leave by an interface that the balancer does not serve, and cannot be sent by another one.
    #[error(
        "checks cannot go through the tunnel to {vip}: the route to it leads by {interface}, which the balancer does \
         not serve, and none that it serves has a MAC of its own to send by; add a route by one of these, or set via \
         = \"direct\" for the check"
    )]
    NoExit {
        /// The VIP's address.
        vip: IpAddr,
        /// The interface.
        interface: String,
    },
    /// No VIP has the real, so it has no mark.
    #[error(
        "checks cannot go through the tunnel to {real}: no VIP of this instance has such a real; add it ('lbctl real add'), \
         or set via = \"direct\" for the check"
    )]
    NoSuchReal {
        /// The VIP's address.
        vip: IpAddr,
        /// The real.
        real: IpAddr,
    },
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_says_what_is_missing_and_what_else_there_is() {
        let v4: IpAddr = [192, 0, 2, 1].into();
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        let link_local = "fe80::1".parse().ok();
        let interface = || "eth0".to_owned();
        for (obstacle, says) in [
            (TunnelObstacle::OwnAddress { vip: v4 }, "an address of this host"),
            (TunnelObstacle::NoRoute { vip: v6, example: None }, "no IPv6 route to it"),
            (
                TunnelObstacle::NoRoute { vip: v4, example: Some("192.0.2.9 dev eth0".into()) },
                "'ip route add 192.0.2.1 via 192.0.2.9 dev eth0'",
            ),
            (TunnelObstacle::NoSource { vip: v6, found: link_local }, "(only fe80::1)"),
            (TunnelObstacle::NoSource { vip: v4, found: None }, "no IPv4 address"),
            (
                TunnelObstacle::NoNeighbour { vip: v4, interface: interface(), example: None },
                "nobody answers ARP for it",
            ),
            (TunnelObstacle::NotEthernet { vip: v4, interface: interface() }, "by eth0"),
            (TunnelObstacle::NoSuchReal { vip: v4, real: v6 }, "to 2001:db8::1: no VIP"),
            (TunnelObstacle::NoExit { vip: v4, interface: interface() }, "by eth0"),
        ] {
            let text = obstacle.to_string();
            assert!(text.contains(says) && text.contains("via = \"direct\""), "{text}");
            assert!(!text.contains('\n') && !text.contains("  "), "{text}");
        }
    }
}
