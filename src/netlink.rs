//! Interfaces, routes and neighbours, read and watched over netlink: which MAC an interface's
//! frames go to, and what it takes to keep that answer true.
//!
//! The data plane sends every frame to a gateway's MAC and never asks the kernel's stack, so no
//! traffic of ours keeps the kernel's neighbour entry of that gateway alive. [`resolve_blocking`]
//! finds the MAC, and by asking for it makes the kernel check it: whoever wants to hear of a gateway
//! that got another MAC calls it every [`CHECK_INTERVAL`], and whenever [`Changes`] says so. Nothing
//! is left in the kernel that does not age by itself. This module knows nothing of BPF: its callers
//! put the MAC into the maps.
//!
//! A netlink socket belongs to the network namespace of the thread that opens it, and everything
//! here opens its own.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::num::NonZeroI32;
use std::panic;
use std::pin::Pin;
use std::pin::pin;
use std::task::Context;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use futures_util::stream::Stream;
use futures_util::stream::StreamExt;
use macaddr::MacAddr6;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::link::LinkExtentMask;
use netlink_packet_route::link::LinkFlags;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::NeighbourAddress;
use netlink_packet_route::neighbour::NeighbourAttribute;
use netlink_packet_route::neighbour::NeighbourExtFlags;
use netlink_packet_route::neighbour::NeighbourFlags;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::neighbour::NeighbourState;
use netlink_packet_route::route::RouteAddress;
use netlink_packet_route::route::RouteAttribute;
use netlink_packet_route::route::RouteFlags;
use netlink_packet_route::route::RouteHeader;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::route::RouteNextHopFlags;
use netlink_packet_route::route::RoutePreference;
use netlink_packet_route::route::RouteType;
use netlink_packet_route::route::RouteVia;
use nix::errno::Errno;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::ErrorMessage;
use rtnetlink::packet_core::NLM_F_ACK;
use rtnetlink::packet_core::NLM_F_CREATE;
use rtnetlink::packet_core::NLM_F_DUMP;
use rtnetlink::packet_core::NLM_F_DUMP_INTR;
use rtnetlink::packet_core::NLM_F_MULTIPART;
use rtnetlink::packet_core::NLM_F_REQUEST;
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_core::NlasIterator;
use rtnetlink::proto::Connection;
use rtnetlink::sys::AsyncSocket;
use rtnetlink::sys::SocketAddr;
use tokio::runtime;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio::time::timeout_at;

/// How often [`resolve_blocking`] is to be called for a gateway in use.
///
/// As often as the kernel checks neighbours that it was told to keep resolved.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// How long the kernel may take for each message of an answer; it normally takes microseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a dump is repeated when the table changed while it was read.
const DUMP_ATTEMPTS: usize = 5;

/// The pauses between two looks at a neighbour that is being resolved: from this, doubling, …
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);
/// … to this.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// How often the kernel is asked again to resolve a neighbour that does not answer.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How long [`Changes::next`] collects what else changes before it reports.
const SETTLE: Duration = Duration::from_millis(50);

/// How many neighbours [`Changes`] remembers before it forgets them all, to be bounded.
const SEEN_NEIGHBOURS: usize = 16_384;

/// The kernel's longest interface name without the closing NUL (`IFNAMSIZ - 1`).
const NAME_MAX: usize = 15;

/// A network interface, as the kernel described it when it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The interface's number in its network namespace.
    pub index: u32,
    /// Its name; never one of its alternative names.
    pub name: String,
    /// The longest packet it sends, without the Ethernet header.
    pub mtu: u32,
    /// Its MAC; `None` when its link-layer addresses are not MACs.
    pub mac: Option<MacAddr6>,
    /// Whether it is administratively up (`ip link set … up`).
    pub up: bool,
    /// Whether it is connected to something (`LOWER_UP`).
    pub carrier: bool,
}

impl Link {
    /// Reads a link message; `None` when it has no name.
    fn from_message(message: &LinkMessage) -> Option<Self> {
        let mut name = None;
        let mut mtu = 0;
        let mut mac = None;
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(text) => name = Some(text.clone()),
                LinkAttribute::Mtu(value) => mtu = *value,
                LinkAttribute::Address(bytes) => mac = mac_from(bytes),
                _ => {}
            }
        }
        Some(Self {
            index: message.header.index,
            name: name?,
            mtu,
            mac,
            up: message.header.flags.contains(LinkFlags::Up),
            carrier: message.header.flags.contains(LinkFlags::LowerUp),
        })
    }
}

/// Where an interface's frames go, as it is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    /// To the next hop of the default route through the interface: IPv4's, or IPv6's when there is
    /// none or it does not answer.
    Auto,
    /// To this neighbour on the interface.
    Address(IpAddr),
    /// To this MAC; the kernel is not asked.
    Mac(MacAddr6),
}

/// Where an interface's frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolvedGateway {
    /// The gateway's address; `None` for a fixed MAC.
    pub address: Option<IpAddr>,
    /// The destination MAC. Never zero, broadcast or multicast.
    pub mac: MacAddr6,
}

/// An entry of the kernel's neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The link-layer address, if the kernel has one and it is a MAC.
    pub mac: Option<MacAddr6>,
    state: NeighbourState,
    flags: NeighbourFlags,
    ext_flags: NeighbourExtFlags,
}

impl Neighbour {
    fn from_message(message: &NeighbourMessage) -> Self {
        let mut mac = None;
        let mut ext_flags = NeighbourExtFlags::empty();
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::LinkLayerAddress(bytes) => mac = mac_from(bytes),
                NeighbourAttribute::ExtFlags(flags) => ext_flags = *flags,
                _ => {}
            }
        }
        Self { mac, state: message.header.state, flags: message.header.flags, ext_flags }
    }

    /// The MAC, if the kernel would send a packet to it now (`REACHABLE`, `STALE`, `DELAY`,
    /// `PROBE`, `PERMANENT`, `NOARP`) and it is one that a single host can have.
    pub fn usable_mac(&self) -> Option<MacAddr6> {
        let valid = matches!(
            self.state,
            NeighbourState::Reachable
                | NeighbourState::Stale
                | NeighbourState::Delay
                | NeighbourState::Probe
                | NeighbourState::Permanent
                | NeighbourState::Noarp
        );
        self.mac.filter(|mac| valid && mac_problem(*mac).is_none())
    }

    /// Whether it needs no resolution, because somebody else answers for it: an operator
    /// (`PERMANENT`), the device (`NOARP`) or a control plane (`NTF_EXT_EXT_VALIDATED`).
    pub fn is_fixed(&self) -> bool {
        matches!(self.state, NeighbourState::Permanent | NeighbourState::Noarp)
            || self.ext_flags.contains(NeighbourExtFlags::ExtValidated)
    }
}

/// What went wrong between us, the kernel's tables and the gateway.
///
/// Every message is one line that says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetlinkError {
    /// The network namespace has no interface of that name.
    #[error("there is no interface {name:?} here; `ip link` lists the interfaces there are")]
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
    /// The interface is up, but connected to nothing, and so the gateway was not found.
    #[error(
        "interface {interface} has no carrier to find its gateway over; check the cable or the \
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
    /// The gateway did not answer ARP or neighbour discovery in time.
    #[error(
        "gateway {address} of interface {interface} did not answer {} within {timeout:?}; \
         check that it is up and on that network, or set gateway_mac for {interface}",
        resolution_protocol(*address)
    )]
    GatewayNotResolved {
        /// The interface's name.
        interface: String,
        /// The gateway's address; for [`Gateway::Auto`] with several candidates, the first one's.
        address: IpAddr,
        /// How long it was waited for.
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
        mac: MacAddr6,
    },
    /// The kernel refused a request.
    #[error("cannot {operation}: {}", explain(cause))]
    Netlink {
        /// What was asked of it.
        operation: String,
        /// What it answered; its text is part of the message, so this is no `source`.
        cause: rtnetlink::Error,
    },
    /// A netlink socket, the runtime or the thread it needs could not be had.
    #[error("cannot {operation}: {cause}; check the limits on open files and tasks")]
    System {
        /// What was tried.
        operation: &'static str,
        /// Why it failed; its text is part of the message, so this is no `source`.
        cause: io::Error,
    },
}

impl NetlinkError {
    /// Makes the error of a failed system call.
    fn system(operation: &'static str) -> impl Fn(io::Error) -> Self {
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

/// The kernel's errno, if the error is one.
fn errno(error: &rtnetlink::Error) -> Option<Errno> {
    match error {
        rtnetlink::Error::NetlinkError(message) => {
            Some(Errno::from_raw(message.raw_code().saturating_abs()))
        }
        _ => None,
    }
}

/// The words for a netlink error: the errno's, the kernel's own, and what to do if it is known.
fn explain(error: &rtnetlink::Error) -> String {
    let rtnetlink::Error::NetlinkError(message) = error else {
        return "the kernel did not answer; try again".to_owned();
    };
    let mut text = message.to_io().to_string();
    if let Some(detail) = kernel_message(&message.header) {
        text = format!("{text}: {}", detail.trim_end_matches('.'));
    }
    match errno(error) {
        Some(Errno::EPERM | Errno::EACCES) => text + "; run it as root or with CAP_NET_ADMIN",
        Some(Errno::ENOBUFS) => {
            text + "; the neighbour table may be full, see the sysctls \
                    net.ipv[46].neigh.default.gc_thresh3"
        }
        _ => text,
    }
}

/// The text the kernel attached to an error message (`NLMSGERR_ATTR_MSG`), if it did.
///
/// `payload` is what follows the error code: the header of the request alone, because the sockets
/// here set `NETLINK_CAP_ACK`, then the attributes.
fn kernel_message(payload: &[u8]) -> Option<String> {
    const NLMSG_HEADER: usize = 16;
    const NLMSGERR_ATTR_MSG: u16 = 1;
    let attributes = payload.get(NLMSG_HEADER..)?;
    NlasIterator::new(attributes)
        .map_while(Result::ok)
        .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
        .and_then(|attribute| {
            let text = attribute.value().split(|byte| *byte == 0).next()?;
            Some(String::from_utf8_lossy(text).replace('\n', " "))
        })
        .filter(|text| !text.is_empty())
}

/// The MAC in a link-layer address, unless that is of another kind.
fn mac_from(bytes: &[u8]) -> Option<MacAddr6> {
    <[u8; 6]>::try_from(bytes).ok().map(MacAddr6::from)
}

/// What a MAC is that no single host has; `None` for one that a gateway can have.
fn mac_problem(mac: MacAddr6) -> Option<&'static str> {
    if mac.is_nil() {
        Some("all zero")
    } else if mac.is_broadcast() {
        Some("the broadcast address")
    } else if mac.is_multicast() {
        Some("a multicast address")
    } else {
        None
    }
}

/// What an address is that no neighbour has; `None` for one that a gateway can have.
fn address_problem(address: IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        Some("the unspecified address")
    } else if address.is_loopback() {
        Some("a loopback address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else if matches!(address, IpAddr::V4(v4) if v4.is_broadcast()) {
        Some("the broadcast address")
    } else {
        None
    }
}

/// The address family of an address.
fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// A route's metric; less is better.
fn metric(route: &RouteMessage) -> u32 {
    let metric = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Priority(metric) => Some(*metric),
        _ => None,
    });
    metric.unwrap_or(0)
}

/// The rank of a route's router preference (RFC 4191) among routes of one metric; less is better.
fn preference_rank(route: &RouteMessage) -> u8 {
    let preference = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Preference(preference) => Some(*preference),
        _ => None,
    });
    match preference {
        Some(RoutePreference::High) => 0,
        Some(RoutePreference::Low) => 2,
        _ => 1,
    }
}

/// Whether a route is a default route that every packet can take: in the main table, for every
/// source and type of service, and forwarding rather than discarding.
fn is_default(route: &RouteMessage) -> bool {
    let header = &route.header;
    let table = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    header.destination_prefix_length == 0
        && header.source_prefix_length == 0
        && header.tos == 0
        && header.kind == RouteType::Unicast
        && !header.flags.contains(RouteFlags::Cloned)
        && table.unwrap_or(header.table.into()) == u32::from(RouteHeader::RT_TABLE_MAIN)
}

/// The next hop's address in the attributes of a route or of one hop of a multipath route.
///
/// An IPv4 route via an IPv6 next hop has it in `RTA_VIA`.
fn next_hop(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(v4))
        | RouteAttribute::Via(RouteVia::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Gateway(RouteAddress::Inet6(v6))
        | RouteAttribute::Via(RouteVia::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    })
}

/// The next hops a route has on an interface; none when it is a route to the link itself.
fn next_hops_on(route: &RouteMessage, index: u32) -> Vec<IpAddr> {
    let mut hops = Vec::new();
    let mut on_interface = false;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(oif) => on_interface = *oif == index,
            RouteAttribute::MultiPath(paths) => hops.extend(
                paths
                    .iter()
                    .filter(|path| path.interface_index == index)
                    .filter(|path| !path.flags.contains(RouteNextHopFlags::Dead))
                    .filter_map(|path| next_hop(&path.attributes)),
            ),
            _ => {}
        }
    }
    if on_interface && !route.header.flags.contains(RouteFlags::Dead) {
        hops.extend(next_hop(&route.attributes));
    }
    hops
}

/// The next hops of the default routes through an interface, the best first.
fn default_next_hops(routes: &[RouteMessage], index: u32) -> Vec<IpAddr> {
    let mut routes: Vec<_> = routes.iter().filter(|route| is_default(route)).collect();
    routes.sort_by_key(|route| (metric(route), preference_rank(route)));
    let mut hops = Vec::new();
    for hop in routes.into_iter().flat_map(|route| next_hops_on(route, index)) {
        if !hops.contains(&hop) {
            hops.push(hop);
        }
    }
    hops
}

/// A client of the kernel's link, route and neighbour tables in one network namespace.
#[derive(Debug)]
struct Netlink {
    handle: rtnetlink::Handle,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace, and serves it on the current runtime.
    fn connect() -> Result<Self, NetlinkError> {
        let failed = NetlinkError::system("open a netlink socket");
        // The strict check makes the kernel filter what it dumps by table and interface.
        let (mut connection, handle, unsolicited) =
            rtnetlink::new_connection_with_strict_check().map_err(&failed)?;
        // Without these an error that ends a dump, and a connection that died before it answered,
        // both look like success.
        connection.set_forward_done(true);
        connection.set_forward_ack(true);
        let socket = connection.socket_mut().socket_mut();
        socket.set_ext_ack(true).map_err(&failed)?;
        socket.set_cap_ack(true).map_err(&failed)?;
        // The connection ends when nobody listens to either of its channels.
        drop(unsolicited);
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// The interface of a name.
    async fn link(&self, name: &str) -> Result<Link, NetlinkError> {
        let missing = || NetlinkError::NoSuchInterface { name: name.to_owned() };
        if name.is_empty() || name.len() > NAME_MAX || name.contains('\0') {
            return Err(missing());
        }
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.read_link(message, &format!("{name:?}"), missing).await
    }

    /// The interface of a number.
    async fn link_by_index(&self, index: u32) -> Result<Link, NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let missing = || NetlinkError::NoSuchIndex { index };
        self.read_link(message, &format!("number {index}"), missing).await
    }

    async fn read_link(
        &self,
        mut message: LinkMessage,
        which: &str,
        missing: impl Fn() -> NetlinkError,
    ) -> Result<Link, NetlinkError> {
        message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        match self.request(RouteNetlinkMessage::GetLink(message), 0).await {
            Ok(answers) => {
                let link = answers.iter().find_map(|answer| match answer {
                    RouteNetlinkMessage::NewLink(link) => Link::from_message(link),
                    _ => None,
                });
                link.ok_or_else(missing)
            }
            Err(error) if errno(&error) == Some(Errno::ENODEV) => Err(missing()),
            Err(cause) => {
                Err(NetlinkError::Netlink { operation: format!("read interface {which}"), cause })
            }
        }
    }

    /// The next hops of all default routes through an interface in the main table, the best first:
    /// IPv4's before IPv6's, each by metric, router preference and the kernel's order.
    ///
    /// With the sysctl `net.ipv4.nexthop_compat_mode` off, routes that use nexthop objects have no
    /// next hop here.
    async fn default_gateways(&self, interface: &Link) -> Result<Vec<IpAddr>, NetlinkError> {
        let mut hops = self.default_gateways_of(interface, AddressFamily::Inet).await?;
        for hop in self.default_gateways_of(interface, AddressFamily::Inet6).await? {
            // An IPv4 route can have an IPv6 next hop.
            if !hops.contains(&hop) {
                hops.push(hop);
            }
        }
        Ok(hops)
    }

    async fn default_gateways_of(
        &self,
        interface: &Link,
        family: AddressFamily,
    ) -> Result<Vec<IpAddr>, NetlinkError> {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.kind = RouteType::Unicast;
        message.attributes.push(RouteAttribute::Oif(interface.index));
        match self.request(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP).await {
            Ok(answers) => {
                let routes: Vec<_> = answers
                    .into_iter()
                    .filter_map(|answer| match answer {
                        RouteNetlinkMessage::NewRoute(route) => Some(route),
                        _ => None,
                    })
                    // Asked for a family it does not have, the kernel can answer with all it has.
                    .filter(|route| route.header.address_family == family)
                    .collect();
                Ok(default_next_hops(&routes, interface.index))
            }
            // No route was ever added to the table, or the kernel has no IPv6.
            Err(error)
                if matches!(
                    errno(&error),
                    Some(Errno::ENOENT | Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP)
                ) =>
            {
                Ok(Vec::new())
            }
            Err(cause) => Err(NetlinkError::Netlink {
                operation: format!("read the default routes of interface {}", interface.name),
                cause,
            }),
        }
    }

    /// The kernel's neighbour entry for an address on an interface, if it has one. Changes nothing.
    async fn neighbour(
        &self,
        interface: &Link,
        address: IpAddr,
    ) -> Result<Option<Neighbour>, NetlinkError> {
        let message = neighbour_message(interface, address);
        match self.request(RouteNetlinkMessage::GetNeighbour(message), 0).await {
            Ok(answers) => Ok(answers.iter().find_map(|answer| match answer {
                RouteNetlinkMessage::NewNeighbour(entry) => Some(Neighbour::from_message(entry)),
                _ => None,
            })),
            Err(error) if errno(&error) == Some(Errno::ENOENT) => Ok(None),
            Err(cause) => Err(NetlinkError::Netlink {
                operation: format!(
                    "read the neighbour entry of {address} on interface {}",
                    interface.name
                ),
                cause,
            }),
        }
    }

    /// Finds the MAC of an interface's gateway.
    ///
    /// A neighbour entry that is usable is taken as it is; otherwise this waits until the kernel has
    /// resolved the address, or until `timeout`. Either way the kernel is made to use the entry, as if
    /// it had a packet to send: so it checks one that it has not heard of lately. An entry that
    /// somebody else answers for is never written to.
    ///
    /// For [`Gateway::Auto`] every next hop of [`default_gateways`](Self::default_gateways) is
    /// tried in order, each for an equal share of `timeout`; the first that answers wins, and if none
    /// does, the error is the first one's.
    async fn resolve(
        &self,
        interface: &Link,
        gateway: &Gateway,
        timeout: Duration,
    ) -> Result<ResolvedGateway, NetlinkError> {
        let not_a_gateway = |gateway: String, why| NetlinkError::NotAGateway {
            interface: interface.name.clone(),
            gateway,
            why,
        };
        let configured = match *gateway {
            Gateway::Mac(mac) => {
                return match mac_problem(mac) {
                    Some(why) => Err(not_a_gateway(mac.to_string(), why)),
                    None => Ok(ResolvedGateway { address: None, mac }),
                };
            }
            Gateway::Address(address) => {
                let address = address.to_canonical();
                if let Some(why) = address_problem(address) {
                    return Err(not_a_gateway(address.to_string(), why));
                }
                Some(address)
            }
            Gateway::Auto => None,
        };
        let interface = self.link_by_index(interface.index).await?;
        if !interface.up {
            return Err(NetlinkError::InterfaceDown { interface: interface.name });
        }
        if interface.mac.is_none() {
            return Err(NetlinkError::NotEthernet { interface: interface.name });
        }
        let candidates = match configured {
            Some(address) => vec![address],
            None => self.default_gateways(&interface).await?,
        };
        let mut failure = None;
        let share = timeout / u32::try_from(candidates.len()).unwrap_or(u32::MAX).max(1);
        for address in candidates {
            match self.resolve_address(&interface, address, share).await {
                Ok(mac) => {
                    return Ok(ResolvedGateway { address: Some(address), mac });
                }
                Err(error) => {
                    tracing::debug!(%error, "this gateway will not do");
                    failure.get_or_insert(error);
                }
            }
        }
        let no_route = || NetlinkError::NoDefaultRoute { interface: interface.name.clone() };
        let failure = failure.unwrap_or_else(no_route);
        if !matches!(failure, NetlinkError::GatewayNotResolved { .. }) {
            return Err(failure);
        }
        let interface = self.link_by_index(interface.index).await?;
        Err(if !interface.up {
            NetlinkError::InterfaceDown { interface: interface.name }
        } else if !interface.carrier {
            NetlinkError::NoCarrier { interface: interface.name }
        } else {
            failure
        })
    }

    /// Waits for an address to have a usable entry.
    ///
    /// Ends with [`NetlinkError::GatewayNotResolved`], [`NetlinkError::UnusableNeighbour`] or
    /// [`NetlinkError::Netlink`] when it gets none.
    async fn resolve_address(
        &self,
        interface: &Link,
        address: IpAddr,
        limit: Duration,
    ) -> Result<MacAddr6, NetlinkError> {
        let start = Instant::now();
        let mut pause = SHORTEST_PAUSE;
        let mut asked: Option<Instant> = None;
        loop {
            let entry = self.neighbour(interface, address).await?;
            let mac = entry.and_then(|entry| entry.usable_mac());
            match (entry, mac) {
                (Some(entry), None) if entry.is_fixed() => {
                    return Err(NetlinkError::UnusableNeighbour {
                        interface: interface.name.clone(),
                        address,
                        mac: entry.mac.unwrap_or_default(),
                    });
                }
                (Some(entry), Some(mac)) if entry.is_fixed() => return Ok(mac),
                (entry, _) if asked.is_none_or(|at| at.elapsed() >= ASK_AGAIN) => {
                    asked = Some(Instant::now());
                    match self.make_kernel_use(interface, address, entry).await {
                        Err(error) if mac.is_some() => {
                            tracing::warn!(%error, "the gateway's MAC is known, but not checked");
                        }
                        answer => answer?,
                    }
                }
                _ => {}
            }
            if let Some(mac) = mac {
                return Ok(mac);
            }
            let rest = limit.saturating_sub(start.elapsed());
            if rest.is_zero() {
                return Err(NetlinkError::GatewayNotResolved {
                    interface: interface.name.clone(),
                    address,
                    timeout: limit,
                });
            }
            sleep(pause.min(rest)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Makes the kernel do what it does before it sends a packet to a neighbour: resolve it if it has
    /// not, check it if it has not heard of it for long. Waits for no answer of the neighbour.
    ///
    /// `entry` is what there is now, and must not be fixed: the write would turn a permanent entry
    /// into one that expires.
    async fn make_kernel_use(
        &self,
        interface: &Link,
        address: IpAddr,
        entry: Option<Neighbour>,
    ) -> Result<(), NetlinkError> {
        let mut message = neighbour_message(interface, address);
        message.header.flags = use_flags(entry);
        let message = RouteNetlinkMessage::NewNeighbour(message);
        match self.request(message, NLM_F_ACK | NLM_F_CREATE).await {
            Ok(_) => Ok(()),
            Err(cause) => Err(NetlinkError::Netlink {
                operation: format!(
                    "have the kernel resolve {address} on interface {}",
                    interface.name
                ),
                cause,
            }),
        }
    }

    /// Sends a request and collects the answer; a dump that a change interrupted is repeated.
    async fn request(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, rtnetlink::Error> {
        let mut attempt = 1;
        loop {
            let (answers, interrupted) = self.exchange(message.clone(), flags).await?;
            // A table that never rests still has to be used; its changes are reported by `Changes`.
            if !interrupted || attempt == DUMP_ATTEMPTS {
                return Ok(answers);
            }
            attempt += 1;
        }
    }

    /// Sends a request and collects the answer, of routes only the default ones, and whether it is
    /// of a table that changed meanwhile.
    async fn exchange(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(Vec<RouteNetlinkMessage>, bool), rtnetlink::Error> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        let mut stream = pin!(self.handle.clone().request(request)?);
        let mut answers = Vec::new();
        let mut interrupted = false;
        let mut complete = false;
        loop {
            let next = timeout(ANSWER_TIMEOUT, stream.next()).await;
            let Some(answer) = next.map_err(|_| rtnetlink::Error::RequestFailed)? else {
                break;
            };
            interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
            match answer.payload {
                // A router's table can hold a million routes.
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route))
                    if !is_default(&route) => {}
                NetlinkPayload::InnerMessage(inner) => {
                    complete |= answer.header.flags & NLM_F_MULTIPART == 0;
                    answers.push(inner);
                }
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(rtnetlink::Error::NetlinkError(error));
                }
                NetlinkPayload::Done(done) if done.code < 0 => {
                    let mut error = ErrorMessage::default();
                    error.code = NonZeroI32::new(done.code);
                    return Err(rtnetlink::Error::NetlinkError(error));
                }
                NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => complete = true,
                _ => {}
            }
        }
        // The stream also ends when the connection does.
        if complete { Ok((answers, interrupted)) } else { Err(rtnetlink::Error::RequestFailed) }
    }
}

/// A message that names one neighbour and says nothing about it.
fn neighbour_message(interface: &Link, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = interface.index;
    message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::from(address)));
    message
}

/// The flags that make the kernel use, and so confirm, an entry, and leave what is known about it.
fn use_flags(entry: Option<Neighbour>) -> NeighbourFlags {
    let mut flags = NeighbourFlags::Use;
    flags.set(
        NeighbourFlags::ExtLearned,
        entry.is_some_and(|entry| entry.flags.contains(NeighbourFlags::ExtLearned)),
    );
    flags
}

/// Runs `work` with a [`Netlink`] of the calling thread's network namespace and waits for it.
///
/// It runs on a thread and a runtime of its own, so the caller may or may not be inside a runtime.
fn blocking<T, F>(work: F) -> Result<T, NetlinkError>
where
    T: Send,
    F: AsyncFnOnce(Netlink) -> Result<T, NetlinkError> + Send,
{
    let run = || {
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(NetlinkError::system("start a runtime for netlink"))?;
        runtime.block_on(async { work(Netlink::connect()?).await })
    };
    thread::scope(|scope| {
        // The kernel starts a thread in the network namespace of the thread that starts it.
        thread::Builder::new()
            .name("l4lb-netlink".to_owned())
            .spawn_scoped(scope, run)
            .map_err(NetlinkError::system("start a thread for netlink"))?
            .join()
            .unwrap_or_else(|payload| panic::resume_unwind(payload))
    })
}

/// Finds an interface and the MAC of its gateway, and makes the kernel check that MAC if it has not
/// heard of it lately.
///
/// A gateway that the kernel knows is taken as it knows it; another one is waited for until
/// `timeout`.
pub fn resolve_blocking(
    interface: &str,
    gateway: &Gateway,
    timeout: Duration,
) -> Result<(Link, ResolvedGateway), NetlinkError> {
    blocking(async |netlink| {
        let link = netlink.link(interface).await?;
        let resolved = netlink.resolve(&link, gateway, timeout).await?;
        Ok((link, resolved))
    })
}

/// Finds an interface.
pub fn link_blocking(name: &str) -> Result<Link, NetlinkError> {
    blocking(async |netlink| netlink.link(name).await)
}

/// The usable MACs of the neighbours, as the kernel last said: it also announces each step of a
/// neighbour's life. Entries that are gone have none.
#[derive(Debug, Default)]
struct Seen(HashMap<(u32, IpAddr), Option<MacAddr6>>);

impl Seen {
    /// Takes note of a message, and says whether it can alter a gateway: an interface or a default
    /// route of the main table came, went or changed; a neighbour got another MAC, got one at all or
    /// lost it. What was never seen counts as changed.
    fn is_news(&mut self, message: &RouteNetlinkMessage) -> bool {
        match message {
            RouteNetlinkMessage::NewLink(_) | RouteNetlinkMessage::DelLink(_) => true,
            RouteNetlinkMessage::NewNeighbour(message) => {
                let mac = Neighbour::from_message(message).usable_mac();
                self.is_new_mac(message, mac)
            }
            RouteNetlinkMessage::DelNeighbour(message) => self.is_new_mac(message, None),
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
                is_default(route)
            }
            _ => false,
        }
    }

    /// Takes note of the usable MAC a neighbour has now, and says whether that is a change.
    fn is_new_mac(&mut self, message: &NeighbourMessage, mac: Option<MacAddr6>) -> bool {
        let Some(key) = neighbour_key(message) else {
            return false;
        };
        if self.0.len() >= SEEN_NEIGHBOURS {
            self.0.clear();
        }
        self.0.insert(key, mac) != Some(mac)
    }
}

/// Which neighbour a message is about; `None` for entries of bridges and of proxies.
fn neighbour_key(message: &NeighbourMessage) -> Option<(u32, IpAddr)> {
    if message.header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    });
    Some((message.header.ifindex, address?))
}

/// A netlink message and who sent it.
type Received = (NetlinkMessage<RouteNetlinkMessage>, SocketAddr);

/// A subscription to everything that can alter a gateway: interfaces, neighbours and routes.
///
/// Subscribe first and resolve then, so that no change falls between. Nothing is read from the
/// socket but in [`next`](Self::next): a caller that does not come back costs no memory, the kernel
/// drops what the socket cannot hold, and `next` then says that everything may have changed.
pub struct Changes {
    /// `None` once it has ended.
    connection: Option<Connection<RouteNetlinkMessage>>,
    messages: Pin<Box<dyn Stream<Item = Received> + Send>>,
    /// Held because the connection ends with its last handle.
    _handle: rtnetlink::Handle,
    seen: Seen,
    /// Something is to be reported: kept here so that a dropped `next` loses nothing.
    pending: bool,
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").field("pending", &self.pending).finish_non_exhaustive()
    }
}

impl Changes {
    /// Subscribes in the calling thread's network namespace.
    ///
    /// # Panics
    ///
    /// As tokio does, outside a runtime that has its I/O and time drivers enabled.
    pub fn subscribe() -> Result<Self, NetlinkError> {
        let (connection, handle, messages) = rtnetlink::new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Neigh,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ])
        .map_err(NetlinkError::system("subscribe to netlink changes"))?;
        Ok(Self {
            connection: Some(connection),
            messages: Box::pin(messages),
            _handle: handle,
            seen: Seen::default(),
            pending: false,
        })
    }

    /// Waits until something changed that can alter a gateway, and a moment longer, so that what
    /// happens together is reported together. `None` when the subscription failed for good.
    ///
    /// Reports too much rather than too little: the first news of a neighbour always counts as a
    /// change. Dropping the future loses no change, so it fits `select!`.
    pub async fn next(&mut self) -> Option<()> {
        while !self.pending {
            let message = self.receive().await?;
            self.note(message);
        }
        let deadline = Instant::now() + SETTLE;
        // `timeout_at` alone would go on for as long as there is always a message.
        while Instant::now() < deadline
            && let Ok(Some(message)) = timeout_at(deadline, self.receive()).await
        {
            self.note(message);
        }
        self.pending = false;
        Some(())
    }

    fn note(&mut self, message: NetlinkMessage<RouteNetlinkMessage>) {
        match message.payload {
            NetlinkPayload::InnerMessage(message) => self.pending |= self.seen.is_news(&message),
            NetlinkPayload::Overrun(_) => {
                tracing::debug!("netlink lost messages; taking everything for changed");
                self.seen = Seen::default();
                self.pending = true;
            }
            _ => {}
        }
    }

    /// The next message; `None` when the connection has ended and all it read was taken.
    async fn receive(&mut self) -> Option<NetlinkMessage<RouteNetlinkMessage>> {
        poll_fn(|context| self.poll_receive(context)).await
    }

    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<NetlinkMessage<RouteNetlinkMessage>>> {
        let taken = self.messages.as_mut().poll_next(context);
        let taken = match (taken, &mut self.connection) {
            (Poll::Pending, Some(connection)) => {
                // It reads whatever the socket has into `messages`.
                if Pin::new(connection).poll(context).is_ready() {
                    self.connection = None;
                }
                self.messages.as_mut().poll_next(context)
            }
            (taken, _) => taken,
        };
        taken.map(|received| received.map(|(message, _)| message))
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::net::Ipv4Addr;
    use std::net::Ipv6Addr;

    use netlink_packet_route::route::RouteNextHop;

    use super::*;

    const ETH0: u32 = 2;
    const ETH1: u32 = 3;
    const MAC: MacAddr6 = MacAddr6::new(2, 0, 0, 0, 0, 1);
    const OTHER_MAC: MacAddr6 = MacAddr6::new(2, 0, 0, 0, 0, 2);

    fn v4(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, last)
    }

    fn v6(last: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last)
    }

    fn default_route(metric: u32, index: u32, hop: impl Into<RouteAddress>) -> RouteMessage {
        let mut route = RouteMessage::default();
        route.header.table = RouteHeader::RT_TABLE_MAIN;
        route.header.kind = RouteType::Unicast;
        route.attributes = vec![
            RouteAttribute::Table(RouteHeader::RT_TABLE_MAIN.into()),
            RouteAttribute::Priority(metric),
            RouteAttribute::Gateway(hop.into()),
            RouteAttribute::Oif(index),
        ];
        route
    }

    fn hop(index: u32, address: Ipv4Addr, flags: RouteNextHopFlags) -> RouteNextHop {
        let mut hop = RouteNextHop::default();
        hop.interface_index = index;
        hop.flags = flags;
        hop.attributes = vec![RouteAttribute::Gateway(address.into())];
        hop
    }

    #[test]
    fn the_lowest_metric_on_the_interface_wins() {
        let routes = [
            default_route(100, ETH0, v4(1)),
            default_route(50, ETH0, v4(2)),
            default_route(10, ETH1, v4(3)),
            default_route(200, ETH0, v4(2)),
        ];
        assert_eq!(default_next_hops(&routes, ETH0), [IpAddr::V4(v4(2)), IpAddr::V4(v4(1))]);
        assert_eq!(default_next_hops(&routes, ETH1), [IpAddr::V4(v4(3))]);
        assert_eq!(default_next_hops(&routes, 9), [] as [IpAddr; 0]);
    }

    #[test]
    fn a_route_without_a_metric_has_the_best() {
        let mut unmetered = default_route(0, ETH0, v4(1));
        unmetered.attributes.retain(|attribute| !matches!(attribute, RouteAttribute::Priority(_)));
        let routes = [default_route(1, ETH0, v4(2)), unmetered];
        assert_eq!(default_next_hops(&routes, ETH0), [IpAddr::V4(v4(1)), IpAddr::V4(v4(2))]);
    }

    #[test]
    fn router_preference_decides_between_equal_metrics_only() {
        let with = |preference, mut route: RouteMessage| {
            route.attributes.push(RouteAttribute::Preference(preference));
            route
        };
        let routes = [
            with(RoutePreference::Low, default_route(1024, ETH0, v6(1))),
            with(RoutePreference::Medium, default_route(1024, ETH0, v6(2))),
            with(RoutePreference::High, default_route(1024, ETH0, v6(3))),
            with(RoutePreference::Low, default_route(512, ETH0, v6(4))),
        ];
        assert_eq!(default_next_hops(&routes, ETH0), [v6(4), v6(3), v6(2), v6(1)].map(IpAddr::V6));
    }

    #[test]
    fn routes_not_every_packet_can_take_are_no_default_routes() {
        let mut to_a_prefix = default_route(0, ETH0, v4(1));
        to_a_prefix.header.destination_prefix_length = 8;
        let mut from_a_prefix = default_route(0, ETH0, v6(1));
        from_a_prefix.header.source_prefix_length = 64;
        let mut for_a_tos = default_route(0, ETH0, v4(1));
        for_a_tos.header.tos = 0x10;
        let mut blackhole = default_route(0, ETH0, v4(1));
        blackhole.header.kind = RouteType::BlackHole;
        let mut dead = default_route(0, ETH0, v4(1));
        dead.header.flags = RouteFlags::Dead;
        let mut other_table = default_route(0, ETH0, v4(1));
        other_table.attributes[0] = RouteAttribute::Table(1000);
        let mut to_the_link = default_route(0, ETH0, v4(1));
        to_the_link.attributes.remove(2);
        for route in
            [to_a_prefix, from_a_prefix, for_a_tos, blackhole, dead, other_table, to_the_link]
        {
            let hops = default_next_hops(std::slice::from_ref(&route), ETH0);
            assert!(hops.is_empty(), "{route:?}");
        }
    }

    #[test]
    fn multipath_hops_count_on_their_interface_and_alive() {
        let mut route = default_route(0, ETH0, v4(1));
        route.attributes = vec![RouteAttribute::MultiPath(vec![
            hop(ETH1, v4(1), RouteNextHopFlags::empty()),
            hop(ETH0, v4(2), RouteNextHopFlags::Dead),
            hop(ETH0, v4(3), RouteNextHopFlags::Onlink),
            hop(ETH0, v4(4), RouteNextHopFlags::empty()),
        ])];
        assert_eq!(default_next_hops(&[route], ETH0), [IpAddr::V4(v4(3)), IpAddr::V4(v4(4))]);
    }

    #[test]
    fn an_ipv4_route_can_have_an_ipv6_next_hop() {
        let mut route = default_route(0, ETH0, v4(1));
        route.attributes[2] = RouteAttribute::Via(RouteVia::Inet6(v6(1)));
        assert_eq!(default_next_hops(&[route], ETH0), [IpAddr::V6(v6(1))]);
    }

    fn entry(state: NeighbourState, mac: Option<MacAddr6>) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.ifindex = ETH0;
        message.header.state = state;
        message.attributes = vec![NeighbourAttribute::Destination(v4(1).into())];
        if let Some(mac) = mac {
            let bytes = mac.as_bytes().to_vec();
            message.attributes.push(NeighbourAttribute::LinkLayerAddress(bytes));
        }
        message
    }

    #[test]
    fn a_neighbour_is_usable_in_the_states_the_kernel_sends_in() {
        for (state, usable) in [
            (NeighbourState::None, false),
            (NeighbourState::Incomplete, false),
            (NeighbourState::Reachable, true),
            (NeighbourState::Stale, true),
            (NeighbourState::Delay, true),
            (NeighbourState::Probe, true),
            (NeighbourState::Failed, false),
            (NeighbourState::Noarp, true),
            (NeighbourState::Permanent, true),
            (NeighbourState::Other(0x300), false),
        ] {
            let neighbour = Neighbour::from_message(&entry(state, Some(MAC)));
            assert_eq!(neighbour.usable_mac(), usable.then_some(MAC), "{state}");
            let fixed = matches!(state, NeighbourState::Noarp | NeighbourState::Permanent);
            assert_eq!(neighbour.is_fixed(), fixed, "{state}");
            assert_eq!(Neighbour::from_message(&entry(state, None)).usable_mac(), None);
        }
    }

    #[test]
    fn only_a_single_hosts_mac_is_usable() {
        for mac in [[0; 6], [0xff; 6], [0x33, 0x33, 0, 0, 0, 1], [1, 0, 0x5e, 0, 0, 1]] {
            let noarp = Neighbour::from_message(&entry(NeighbourState::Noarp, Some(mac.into())));
            assert_eq!(noarp.usable_mac(), None);
            let permanent =
                Neighbour::from_message(&entry(NeighbourState::Permanent, Some(mac.into())));
            assert_eq!(permanent.usable_mac(), None);
        }
        let mut infiniband = entry(NeighbourState::Reachable, None);
        infiniband.attributes.push(NeighbourAttribute::LinkLayerAddress(vec![2; 20]));
        assert_eq!(Neighbour::from_message(&infiniband).usable_mac(), None);
    }

    #[test]
    fn a_write_keeps_what_a_control_plane_said() {
        let mut message = entry(NeighbourState::Stale, Some(MAC));
        message.header.flags = NeighbourFlags::ExtLearned | NeighbourFlags::Router;
        let flags = use_flags(Some(Neighbour::from_message(&message)));
        assert_eq!(flags, NeighbourFlags::Use | NeighbourFlags::ExtLearned);
        assert_eq!(use_flags(None), NeighbourFlags::Use);
    }

    #[test]
    fn a_neighbour_changes_with_its_usable_mac() {
        let mut seen = Seen::default();
        let mut news = |state, mac| {
            let message = RouteNetlinkMessage::NewNeighbour(entry(state, mac));
            seen.is_news(&message)
        };
        assert!(news(NeighbourState::Stale, Some(MAC)), "the first news");
        assert!(!news(NeighbourState::Probe, Some(MAC)));
        assert!(!news(NeighbourState::Reachable, Some(MAC)));
        assert!(news(NeighbourState::Reachable, Some(OTHER_MAC)));
        assert!(news(NeighbourState::Failed, None));
        assert!(!news(NeighbourState::Incomplete, None));
        assert!(news(NeighbourState::Reachable, Some(OTHER_MAC)));

        let end = RouteNetlinkMessage::DelNeighbour(entry(NeighbourState::Failed, None));
        assert!(seen.is_news(&end), "a usable entry went");
        assert!(!seen.is_news(&end), "it was gone already");
        assert!(Seen::default().is_news(&end), "an unknown entry went");
        let again = RouteNetlinkMessage::NewNeighbour(entry(NeighbourState::Incomplete, None));
        assert!(!seen.is_news(&again), "an entry of no use came");
    }

    #[test]
    fn the_memory_of_neighbours_is_bounded() {
        let mut seen = Seen::default();
        for index in 0..=u32::try_from(SEEN_NEIGHBOURS).expect("it is small") {
            let mut message = entry(NeighbourState::Stale, Some(MAC));
            message.header.ifindex = index;
            assert!(seen.is_news(&RouteNetlinkMessage::NewNeighbour(message)));
        }
        assert_eq!(seen.0.len(), 1);
    }

    #[test]
    fn entries_of_bridges_and_proxies_are_no_neighbours() {
        let mut seen = Seen::default();
        let mut bridge = entry(NeighbourState::Reachable, Some(MAC));
        bridge.header.family = AddressFamily::Bridge;
        bridge.attributes.remove(0);
        let mut proxy = entry(NeighbourState::Permanent, None);
        proxy.header.flags = NeighbourFlags::Proxy;
        for message in [bridge, proxy] {
            assert!(!seen.is_news(&RouteNetlinkMessage::NewNeighbour(message)));
        }
    }

    #[test]
    fn only_default_routes_are_news() {
        let mut seen = Seen::default();
        let route = default_route(0, ETH0, v4(1));
        assert!(seen.is_news(&RouteNetlinkMessage::NewRoute(route.clone())));
        assert!(seen.is_news(&RouteNetlinkMessage::DelRoute(route.clone())));
        let mut prefix = route;
        prefix.header.destination_prefix_length = 24;
        assert!(!seen.is_news(&RouteNetlinkMessage::NewRoute(prefix)));
    }

    fn kernel_error(errno: Errno, payload: &[u8]) -> rtnetlink::Error {
        let mut message = ErrorMessage::default();
        message.code = NonZeroI32::new(-(errno as i32));
        message.header = payload.to_vec();
        rtnetlink::Error::NetlinkError(message)
    }

    #[test]
    fn the_kernels_own_words_are_told() {
        let mut payload = vec![0; 16];
        // An attribute of another type, then NLMSGERR_ATTR_MSG.
        payload.extend(8u16.to_ne_bytes());
        payload.extend(2u16.to_ne_bytes());
        payload.extend([0; 4]);
        payload.extend(9u16.to_ne_bytes());
        payload.extend(1u16.to_ne_bytes());
        payload.extend(b"why.\0\0\0\0");
        assert_eq!(
            explain(&kernel_error(Errno::EINVAL, &payload)),
            "Invalid argument (os error 22): why"
        );
        for cut in 0..payload.len() - 8 {
            assert_eq!(
                explain(&kernel_error(Errno::EINVAL, &payload[..cut])),
                "Invalid argument (os error 22)"
            );
        }
    }

    #[test]
    fn every_error_is_one_line_that_names_its_object() {
        let interface = || "eth0".to_owned();
        let errors = [
            NetlinkError::NoSuchInterface { name: "eth0\n".to_owned() },
            NetlinkError::InterfaceDown { interface: interface() },
            NetlinkError::NoCarrier { interface: interface() },
            NetlinkError::NotEthernet { interface: interface() },
            NetlinkError::NoDefaultRoute { interface: interface() },
            NetlinkError::NotAGateway {
                interface: interface(),
                gateway: v4(1).to_string(),
                why: "a multicast address",
            },
            NetlinkError::GatewayNotResolved {
                interface: interface(),
                address: v4(1).into(),
                timeout: Duration::from_secs(3),
            },
            NetlinkError::UnusableNeighbour {
                interface: interface(),
                address: v4(1).into(),
                mac: MacAddr6::nil(),
            },
            NetlinkError::Netlink {
                operation: "read interface eth0".to_owned(),
                cause: kernel_error(Errno::EPERM, &[]),
            },
        ];
        for error in errors {
            let text = error.to_string();
            assert!(!text.contains('\n') && text.contains("eth0"), "{text}");
            assert!(error.source().is_none(), "the text says it all: {text}");
        }
    }

    #[test]
    fn fixed_macs_are_checked_without_the_kernel() {
        let found = resolve_blocking("lo", &Gateway::Mac(MAC), Duration::ZERO);
        let (link, resolved) = found.expect("every namespace has lo");
        assert_eq!((link.index, link.name.as_str()), (1, "lo"));
        assert_eq!(resolved, ResolvedGateway { address: None, mac: MAC });
        let refused = resolve_blocking("lo", &Gateway::Mac(MacAddr6::broadcast()), Duration::ZERO);
        assert!(matches!(refused, Err(NetlinkError::NotAGateway { .. })), "{refused:?}");
    }

    #[test]
    fn addresses_no_router_has_are_refused() {
        for address in
            ["0.0.0.0", "::", "127.0.0.1", "::1", "224.0.0.1", "ff02::1", "255.255.255.255"]
        {
            for text in [address, &format!("::ffff:{address}")] {
                let Ok(address) = text.parse() else { continue };
                let refused = resolve_blocking("lo", &Gateway::Address(address), Duration::ZERO);
                assert!(matches!(refused, Err(NetlinkError::NotAGateway { .. })), "{refused:?}");
            }
        }
    }

    #[test]
    fn names_no_interface_has_are_not_found() {
        let long = "a".repeat(NAME_MAX + 1);
        for name in ["", "lo\0", "no-such-if0", &long] {
            let found = link_blocking(name);
            assert!(
                matches!(&found, Err(NetlinkError::NoSuchInterface { name: n }) if n == name),
                "{found:?}"
            );
        }
    }

    #[tokio::test]
    async fn the_blocking_functions_work_inside_a_runtime() {
        assert_eq!(link_blocking("lo").expect("every namespace has lo").index, 1);
    }

    #[tokio::test]
    async fn the_connection_ends_with_its_client() {
        let metrics = runtime::Handle::current().metrics();
        assert_eq!(metrics.num_alive_tasks(), 0);
        let netlink = Netlink::connect().expect("netlink sockets are for everybody");
        assert_eq!(metrics.num_alive_tasks(), 1);
        let lo = netlink.link_by_index(1).await.expect("every namespace has lo");
        assert_eq!(lo.name, "lo");
        let missing = netlink.link_by_index(0x7fff_ffff).await;
        assert!(matches!(missing, Err(NetlinkError::NoSuchIndex { .. })));
        drop(netlink);
        timeout(Duration::from_secs(5), async {
            while metrics.num_alive_tasks() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the connection's task ends");
    }
}
