//! Interfaces.

use crate::model::address::Mac;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::link::LinkExtentMask;
use netlink_packet_route::link::LinkFlags;
use netlink_packet_route::link::LinkMessage;
use nix::errno::Errno;
use rtnetlink::packet_core::DefaultNla;

use super::client::Netlink;
use super::client::blocking;
use super::refused::errno;
use crate::model::error::NetlinkError;

/// The kernel's longest interface name without the closing NUL (`IFNAMSIZ - 1`).
pub(super) const NAME_MAX: usize = 15;

/// The longest alternative name (`ALTIFNAMSIZ - 1`).
pub(super) const ALTERNATIVE_NAME_MAX: usize = 127;

/// `IFLA_ALT_IFNAME`: the kernel accepts longer names only in this attribute.
const ALTERNATIVE_NAME: u16 = 53;

/// A network interface, as the kernel described it at the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The interface's number in its network namespace.
    pub index: u32,
    /// Its name; never one of its alternative names.
    pub name: String,
    /// Its MTU: the longest packet, without the Ethernet header.
    pub mtu: u32,
    /// Its MAC; `None` when its link-layer addresses are not MACs.
    pub mac: Option<Mac>,
    /// Whether it is administratively up (`ip link set … up`).
    pub up: bool,
    /// Whether it has a carrier (`LOWER_UP`).
    pub carrier: bool,
}

impl Link {
    /// Reads a link message; `None` when it has no name.
    pub(super) fn from_message(message: &LinkMessage) -> Option<Self> {
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

/// The MAC in a link-layer address, unless that is of another kind.
pub(super) fn mac_from(bytes: &[u8]) -> Option<Mac> {
    <[u8; 6]>::try_from(bytes).ok().map(Mac::from)
}

/// Why no single host can have a MAC; `None` for one that a gateway can have.
pub(super) fn mac_problem(mac: Mac) -> Option<&'static str> {
    if mac.is_zero() {
        Some("all zero")
    } else if mac.is_broadcast() {
        Some("the broadcast address")
    } else if mac.is_multicast() {
        Some("a multicast address")
    } else {
        None
    }
}

impl Netlink {
    /// The interface of a name, or of an alternative one (`ip link property add … altname`).
    pub(super) async fn link(&self, name: &str) -> Result<Link, NetlinkError> {
        let missing = || NetlinkError::NoSuchInterface { name: name.to_owned() };
        if name.is_empty() || name.len() > ALTERNATIVE_NAME_MAX || name.contains('\0') {
            return Err(missing());
        }
        let mut message = LinkMessage::default();
        message.attributes.push(if name.len() > NAME_MAX {
            let text = [name.as_bytes(), &[0]].concat();
            LinkAttribute::Other(DefaultNla::new(ALTERNATIVE_NAME, text))
        } else {
            LinkAttribute::IfName(name.to_owned())
        });
        self.read_link(message, &format!("{name:?}"), missing).await
    }

    /// The interface of a number.
    pub(super) async fn link_by_index(&self, index: u32) -> Result<Link, NetlinkError> {
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
            Err(cause) => Err(NetlinkError::Netlink {
                operation: format!("read interface {which}"),
                cause: cause.into(),
            }),
        }
    }
}

/// Turns names that may be alternative names into the interfaces' own names. If an interface does not exist, keeps the
/// given name.
pub(crate) fn own_names_blocking(names: &[&str]) -> Result<Vec<String>, NetlinkError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    blocking(async |netlink| {
        let mut own = Vec::new();
        for name in names {
            own.push(match netlink.link(name).await {
                Ok(link) => link.name,
                Err(NetlinkError::NoSuchInterface { .. }) => (*name).to_owned(),
                Err(error) => return Err(error),
            });
        }
        Ok(own)
    })
}

/// The own name of an interface, given by its own or an alternative name. If it does not exist, the given name.
pub fn own_name(name: &str) -> Result<String, NetlinkError> {
    Ok(own_names_blocking(&[name])?.pop().unwrap_or_else(|| name.to_owned()))
}

/// Finds an interface, by its name or an alternative one.
pub fn link_blocking(name: &str) -> Result<Link, NetlinkError> {
    blocking(async |netlink| netlink.link(name).await)
}
