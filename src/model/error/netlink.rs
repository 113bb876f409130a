//! Errors of netlink, one line each.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use strum::IntoStaticStr;
use strum::VariantNames;

use crate::model::address::Mac;

/// An error of interfaces, routes, neighbours or a gateway.
///
/// Every message is one line that says what to do.
#[derive(Debug, thiserror::Error, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
#[non_exhaustive]
pub enum NetlinkError {
    /// The network namespace has no interface of that name.
    #[error("there is no interface {name:?} here; `ip link` lists the interfaces")]
    NoSuchInterface {
        /// The name asked for.
        name: String,
    },
    /// The network namespace has no interface of that number.
    #[error("there is no interface number {index} any more; it was removed or moved away")]
    NoSuchIndex {
        /// The number asked for.
        index: u32,
    },
    /// The interface is administratively down.
    #[error("interface {interface} is down; `ip link set {interface} up` brings it up")]
    InterfaceDown {
        /// The interface's name.
        interface: String,
    },
    /// The interface has no carrier, so the gateway was not found.
    #[error(
        "interface {interface} has no carrier, so its gateway cannot be found; check the cable or the \
         other end"
    )]
    NoCarrier {
        /// The interface's name.
        interface: String,
    },
    /// The interface's link-layer addresses are not MACs.
    #[error("interface {interface} is not an Ethernet interface; use one that has a MAC address")]
    NotEthernet {
        /// The interface's name.
        interface: String,
    },
    /// The main routing table has no default route with a next hop on the interface.
    #[error(
        "interface {interface} has no default route to take the gateway from; add one, or \
         set gateway = \"ADDRESS\" or gateway_mac for {interface}"
    )]
    NoDefaultRoute {
        /// The interface's name.
        interface: String,
    },
    /// The configured gateway cannot be one.
    #[error(
        "{gateway} cannot be the gateway of interface {interface}: it is {why}; give the \
         address or MAC of a router on that network"
    )]
    NotAGateway {
        /// The interface's name.
        interface: String,
        /// The address or MAC.
        gateway: String,
        /// What it is instead.
        why: &'static str,
    },
    /// The configured gateway is not a neighbour on the interface.
    #[error(
        "gateway {address} is not on the network of interface {interface}: {}; give the address of a \
         router there; if {address} is one, add a route: `ip route add {address} dev {interface}`",
        behind.map_or("no route by the interface leads there".to_owned(), |router| {
            format!("the route to it goes through the router {router}")
        })
    )]
    NotOnLink {
        /// The interface's name.
        interface: String,
        /// The gateway's address.
        address: IpAddr,
        /// The router that packets to it are sent to.
        behind: Option<IpAddr>,
    },
    /// The gateway did not answer ARP or neighbour discovery in time.
    #[error(
        "gateway {address} of interface {interface} did not answer {} within {timeout:?}; \
         check that it is up and on that network, or set gateway_mac for {interface}",
        resolution_protocol(*address)
    )]
    GatewayNotResolved {
        /// The interface's name.
        interface: String,
        /// The gateway's address; for [`Gateway::Auto`](crate::kernel::netlink::Gateway::Auto) with several candidates,
        /// the first one's.
        address: IpAddr,
        /// How long the kernel waited for an answer.
        timeout: Duration,
    },
    /// The gateway's neighbour entry is fixed to a MAC no single host has.
    #[error(
        "the neighbour entry of gateway {address} of interface {interface} is fixed to MAC {mac}, \
         which no router has; set another gateway or gateway_mac for {interface}, or correct the \
         entry with `ip neigh`"
    )]
    UnusableNeighbour {
        /// The interface's name.
        interface: String,
        /// The gateway's address.
        address: IpAddr,
        /// The entry's MAC, all zero when it has none.
        mac: Mac,
    },
    /// The kernel refused a request.
    #[error("cannot {operation}: {}", cause.text)]
    Netlink {
        /// The request.
        operation: String,
        /// The kernel's answer. Its text is part of the message, so this is no `source`.
        cause: NetlinkRefusal,
    },
    /// A netlink socket, its runtime or its thread could not be created.
    #[error("cannot {operation}: {cause}; check the limits on open files and tasks")]
    System {
        /// What was tried.
        operation: &'static str,
        /// Why it failed; its text is part of the message, so this is no `source`.
        cause: io::Error,
    },
}

/// What the kernel answered to a request that it refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetlinkRefusal {
    /// The error number, if it gave one.
    pub errno: Option<i32>,
    /// Its text, and what to do if that is known.
    pub text: String,
}

impl NetlinkRefusal {
    pub(crate) fn new(errno: Option<i32>, text: String) -> Self {
        Self { errno, text }
    }
}

impl NetlinkError {
    /// Whether the state of one interface causes the error, not the system or the request.
    pub(crate) fn is_of_interface(&self) -> bool {
        !matches!(self, Self::System { .. } | Self::NotAGateway { .. })
    }

    /// Makes the error of a failed system call.
    pub(crate) fn system(operation: &'static str) -> impl Fn(io::Error) -> Self {
        move |cause| Self::System { operation, cause }
    }
}

/// How an address is resolved to a MAC.
fn resolution_protocol(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "ARP",
        IpAddr::V6(_) => "neighbour discovery",
    }
}
