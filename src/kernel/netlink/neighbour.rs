//! The kernel's neighbour table.

use std::net::IpAddr;
use std::time::Duration;

use crate::model::address::Mac;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::NeighbourAddress;
use netlink_packet_route::neighbour::NeighbourAttribute;
use netlink_packet_route::neighbour::NeighbourExtFlags;
use netlink_packet_route::neighbour::NeighbourFlags;
use netlink_packet_route::neighbour::NeighbourHeader;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::neighbour::NeighbourState;
use nix::errno::Errno;
use rtnetlink::packet_core::NLM_F_ACK;
use rtnetlink::packet_core::NLM_F_CREATE;
use rtnetlink::packet_core::NLM_F_DUMP;

use super::client::Netlink;
use super::link::Link;
use super::link::mac_from;
use super::link::mac_problem;
use super::refused::errno;
use crate::model::error::NetlinkError;

/// The kernel reports times in hundredths of a second (`USER_HZ`).
const MS_PER_TICK: u64 = 10;

/// An entry of the kernel's neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    /// The link-layer address, if the kernel has one and it is a MAC.
    pub(super) mac: Option<Mac>,
    state: NeighbourState,
    flags: NeighbourFlags,
    ext_flags: NeighbourExtFlags,
    /// How long ago the kernel last confirmed this MAC; `None`: the kernel does not say.
    pub(super) confirmed: Option<Duration>,
}

impl Neighbour {
    pub(super) fn from_message(message: &NeighbourMessage) -> Self {
        let mut mac = None;
        let mut ext_flags = NeighbourExtFlags::empty();
        let mut confirmed = None;
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::LinkLayerAddress(bytes) => mac = mac_from(bytes),
                NeighbourAttribute::ExtFlags(flags) => ext_flags = *flags,
                NeighbourAttribute::CacheInfo(info) => {
                    confirmed =
                        Some(Duration::from_millis(u64::from(info.confirmed) * MS_PER_TICK));
                }
                _ => {}
            }
        }
        let NeighbourHeader { state, flags, .. } = message.header;
        Self { mac, state, flags, ext_flags, confirmed }
    }

    /// The MAC, if the kernel would send a packet to it now (`REACHABLE`, `STALE`, `DELAY`,
    /// `PROBE`, `PERMANENT`, `NOARP`) and it is one that a single host can have.
    pub(super) fn usable_mac(&self) -> Option<Mac> {
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

    /// Whether the kernel got no answer for its MAC, or asks for the first time now.
    pub(super) fn is_silent(&self) -> bool {
        matches!(self.state, NeighbourState::Incomplete | NeighbourState::Failed)
    }

    /// Whether the kernel does not resolve it, because somebody else sets the MAC: an operator (`PERMANENT`), the
    /// device (`NOARP`) or a control plane (`NTF_EXT_EXT_VALIDATED`).
    pub(super) fn is_fixed(&self) -> bool {
        matches!(self.state, NeighbourState::Permanent | NeighbourState::Noarp)
            || self.ext_flags.contains(NeighbourExtFlags::ExtValidated)
    }
}

/// The address family of an address.
fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
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

/// The flags that make the kernel use, and so confirm, an entry without changing it.
pub(super) fn use_flags(entry: Option<Neighbour>) -> NeighbourFlags {
    let mut flags = NeighbourFlags::Use;
    flags.set(
        NeighbourFlags::ExtLearned,
        entry.is_some_and(|entry| entry.flags.contains(NeighbourFlags::ExtLearned)),
    );
    flags
}

/// Which neighbour a message is about; `None` for entries of bridges and of proxies.
pub(super) fn neighbour_key(message: &NeighbourMessage) -> Option<(u32, IpAddr)> {
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

impl Netlink {
    /// The kernel's neighbour entry for an address on an interface, if it has one. Changes nothing.
    pub(super) async fn neighbour(
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
                cause: cause.into(),
            }),
        }
    }

    /// The kernel's neighbour entries on an interface. Changes nothing.
    pub(super) async fn neighbours(
        &self,
        index: u32,
    ) -> Result<Vec<(IpAddr, Neighbour)>, NetlinkError> {
        let mut message = NeighbourMessage::default();
        message.attributes.push(NeighbourAttribute::IfIndex(index));
        match self.request(RouteNetlinkMessage::GetNeighbour(message), NLM_F_DUMP).await {
            Ok(answers) => {
                let entries = answers.iter().filter_map(|answer| match answer {
                    RouteNetlinkMessage::NewNeighbour(entry) => Some(entry),
                    _ => None,
                });
                let here = entries.filter_map(|entry| {
                    let (ifindex, address) = neighbour_key(entry)?;
                    (ifindex == index).then(|| (address, Neighbour::from_message(entry)))
                });
                Ok(here.collect())
            }
            Err(cause) => Err(NetlinkError::Netlink {
                operation: format!("read the neighbour entries of interface number {index}"),
                cause: cause.into(),
            }),
        }
    }

    /// Makes the kernel do what it does before it sends a packet to a neighbour: resolve it if it is not resolved,
    /// check it if it was not confirmed for a long time. Does not wait for the neighbour's answer.
    ///
    /// `entry` is what there is now, and must not be fixed: the write would turn a permanent entry
    /// into one that expires.
    pub(super) async fn make_kernel_use(
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
                cause: cause.into(),
            }),
        }
    }
}

/// What the kernel knows about neighbours with a MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It would send to none of them now: there is none, or the neighbour has another MAC.
    Not,
    /// It would not send to the neighbour: it gets no answer for its MAC, and last confirmed it this long ago.
    Silent(Option<Duration>),
    /// It would send. Somebody else than the kernel sets the MAC.
    Fixed,
    /// It would send. It confirmed the MAC this long ago.
    Confirmed(Duration),
}
