//! The next hop by which an interface's gateway was found.

use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;

use serde::Serialize;

/// The IP version of a default route. Its next hop may have an address of the other one (RFC 8950).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteFamily {
    /// A route of IPv4.
    Ipv4,
    /// A route of IPv6.
    Ipv6,
}

/// The next hop by which an interface's gateway was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NextHop {
    /// The address that the kernel resolved to the gateway's MAC.
    pub address: IpAddr,
    /// The IP version of the default route that it is the next hop of; `None`: it was configured.
    pub route: Option<RouteFamily>,
}

impl NextHop {
    /// The gateway's MAC is known, but not its next hop: an earlier build did not record it.
    pub(crate) const UNKNOWN: Self =
        Self { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), route: None };
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.route, self.address) {
            // The usual case.
            (None, address)
            | (Some(RouteFamily::Ipv4), address @ IpAddr::V4(_))
            | (Some(RouteFamily::Ipv6), address @ IpAddr::V6(_)) => write!(f, "{address}"),
            (Some(RouteFamily::Ipv4), address) => write!(f, "{address} (of the IPv4 route)"),
            (Some(RouteFamily::Ipv6), address) => write!(f, "{address} (of the IPv6 route)"),
        }
    }
}
