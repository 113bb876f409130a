//! Nexthop objects (`ip nexthop`, Linux 5.3), which the crate that has netlink's messages does not know.
//!
//! A route can name one by its id. With the sysctl `net.ipv4.nexthop_compat_mode` off, the kernel then tells nothing else
//! of where the route leads to.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteAddress;
use netlink_packet_route::route::RouteAttribute;
use netlink_packet_route::route::RouteFlags;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::route::RouteNextHop;
use netlink_packet_route::route::RouteNextHopFlags;
use nix::errno::Errno;
use rtnetlink::packet_core::DecodeError;
use rtnetlink::packet_core::NetlinkDeserializable;
use rtnetlink::packet_core::NetlinkHeader;
use rtnetlink::packet_core::NetlinkSerializable;
use rtnetlink::packet_core::NlasIterator;

use super::client::Netlink;
use super::error::NetlinkError;
use super::error::errno;

// linux/rtnetlink.h
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
const RTM_GETNEXTHOP: u16 = 106;
/// `RTNH_F_DEAD`
const DEAD: u32 = 1;

// linux/nexthop.h
/// Length of `struct nhmsg`, and where its flags are.
const HEADER: usize = 8;
const FLAGS: usize = 4;
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
/// Length of `struct nexthop_grp`, which begins with the member's id.
const GROUP_ENTRY: usize = 8;

/// A message of the kernel's tables of links, addresses, routes, neighbours, and of nexthop objects.
#[derive(Clone, Debug)]
pub(super) enum Message {
    Route(RouteNetlinkMessage),
    Nexthop(NexthopMessage),
}

/// What is said about a nexthop object.
#[derive(Clone, Debug)]
pub(super) enum NexthopMessage {
    /// Asks for the one of this id.
    Get(u32),
    /// It is so, or became so.
    New(Nexthop),
    /// It is gone.
    Removed(Nexthop),
}

/// A nexthop object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Nexthop {
    pub(super) id: u32,
    /// The ids of its members, if it is a group. No member is a group.
    pub(super) group: Vec<u32>,
    /// It discards packets.
    pub(super) blackhole: bool,
    /// The index of the interface that it leads out by.
    interface: Option<u32>,
    gateway: Option<IpAddr>,
    /// Its interface cannot send.
    dead: bool,
}

impl Nexthop {
    fn parse(payload: &[u8]) -> Result<Self, DecodeError> {
        let short = || DecodeError::from(format!("{} bytes are no nexthop", payload.len()));
        let flags = word(payload.get(FLAGS..).unwrap_or_default()).ok_or_else(short)?;
        let mut nexthop = Self { dead: flags & DEAD != 0, ..Self::default() };
        for attribute in NlasIterator::new(&payload[HEADER..]) {
            let attribute = attribute?;
            let value = attribute.value();
            match attribute.kind() {
                NHA_ID => nexthop.id = word(value).ok_or_else(short)?,
                NHA_GROUP => {
                    nexthop.group = value.chunks_exact(GROUP_ENTRY).filter_map(word).collect();
                }
                NHA_BLACKHOLE => nexthop.blackhole = true,
                NHA_OIF => nexthop.interface = word(value),
                NHA_GATEWAY => nexthop.gateway = address(value),
                _ => {}
            }
        }
        Ok(nexthop)
    }
}

/// The first four bytes, in the byte order of the host.
fn word(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).ok().map(|bytes| Ipv4Addr::from(bytes).into());
    let v6 = || <[u8; 16]>::try_from(bytes).ok().map(|bytes| Ipv6Addr::from(bytes).into());
    v4().or_else(v6)
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        Ok(match header.message_type {
            RTM_NEWNEXTHOP => Self::Nexthop(NexthopMessage::New(Nexthop::parse(payload)?)),
            RTM_DELNEXTHOP => Self::Nexthop(NexthopMessage::Removed(Nexthop::parse(payload)?)),
            _ => Self::Route(RouteNetlinkMessage::deserialize(header, payload)?),
        })
    }
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        match self {
            Self::Route(message) => message.message_type(),
            Self::Nexthop(NexthopMessage::Get(_)) => RTM_GETNEXTHOP,
            Self::Nexthop(NexthopMessage::New(_)) => RTM_NEWNEXTHOP,
            Self::Nexthop(NexthopMessage::Removed(_)) => RTM_DELNEXTHOP,
        }
    }

    fn buffer_len(&self) -> usize {
        match self {
            Self::Route(message) => message.buffer_len(),
            Self::Nexthop(_) => HEADER + 8,
        }
    }

    fn serialize(&self, buffer: &mut [u8]) {
        match self {
            Self::Route(message) => message.serialize(buffer),
            Self::Nexthop(
                NexthopMessage::Get(id)
                | NexthopMessage::New(Nexthop { id, .. })
                | NexthopMessage::Removed(Nexthop { id, .. }),
            ) => {
                // An empty header, and one attribute: its length, its type, the id.
                buffer.fill(0);
                buffer[HEADER..HEADER + 2].copy_from_slice(&8_u16.to_ne_bytes());
                buffer[HEADER + 2..HEADER + 4].copy_from_slice(&NHA_ID.to_ne_bytes());
                buffer[HEADER + 4..HEADER + 8].copy_from_slice(&id.to_ne_bytes());
            }
        }
    }
}

impl Netlink {
    /// The nexthop object of an id.
    async fn nexthop(&self, id: u32) -> Result<Option<Nexthop>, NetlinkError> {
        match self.ask(Message::Nexthop(NexthopMessage::Get(id)), 0).await {
            Ok(answers) => Ok(answers.into_iter().find_map(|answer| match answer {
                Message::Nexthop(NexthopMessage::New(nexthop)) if nexthop.id == id => Some(nexthop),
                _ => None,
            })),
            // It is gone meanwhile, or the kernel has none at all.
            Err(error) if matches!(errno(&error), Some(Errno::ENOENT | Errno::EOPNOTSUPP)) => {
                Ok(None)
            }
            Err(cause) => {
                Err(NetlinkError::Netlink { operation: format!("read nexthop {id}"), cause })
            }
        }
    }

    /// Writes into a route where it leads to by nexthop objects, if it only has the id of one: as the kernel does with
    /// the sysctl `net.ipv4.nexthop_compat_mode` on.
    pub(super) async fn expand(&self, route: &mut RouteMessage) -> Result<(), NetlinkError> {
        let mut id = None;
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::NhId(nexthop) => id = Some(*nexthop),
                RouteAttribute::Oif(_)
                | RouteAttribute::Gateway(_)
                | RouteAttribute::Via(_)
                | RouteAttribute::MultiPath(_) => return Ok(()),
                _ => {}
            }
        }
        let Some(id) = id else { return Ok(()) };
        let Some(nexthop) = self.nexthop(id).await? else { return Ok(()) };
        let mut members = Vec::new();
        // The kernel bounds a group: its members fit one attribute.
        for id in &nexthop.group {
            members.extend(self.nexthop(*id).await?);
        }
        write_hops(route, &nexthop, &members);
        Ok(())
    }
}

/// The attributes of a route, or of one path of several, for a nexthop.
fn attributes(nexthop: &Nexthop) -> Option<RouteAttribute> {
    nexthop.gateway.map(|gateway| RouteAttribute::Gateway(RouteAddress::from(gateway)))
}

/// Writes the next hops of a nexthop object, or those of the members of a group, into a route.
pub(super) fn write_hops(route: &mut RouteMessage, nexthop: &Nexthop, members: &[Nexthop]) {
    if nexthop.group.is_empty() {
        // Of one that discards packets the kernel says so in the route itself.
        let Some(interface) = nexthop.interface else { return };
        route.attributes.push(RouteAttribute::Oif(interface));
        route.attributes.extend(attributes(nexthop));
        route.header.flags.set(RouteFlags::Dead, nexthop.dead);
        return;
    }
    let paths = members.iter().filter(|member| !member.blackhole).filter_map(|member| {
        let mut path = RouteNextHop::default();
        path.interface_index = member.interface?;
        path.flags.set(RouteNextHopFlags::Dead, member.dead);
        path.attributes.extend(attributes(member));
        Some(path)
    });
    route.attributes.push(RouteAttribute::MultiPath(paths.collect()));
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::route::RouteMessage;
    use rtnetlink::packet_core::NetlinkDeserializable;
    use rtnetlink::packet_core::NetlinkHeader;
    use rtnetlink::packet_core::NetlinkSerializable;

    use super::HEADER;
    use super::Message;
    use super::NHA_GATEWAY;
    use super::NHA_GROUP;
    use super::NHA_ID;
    use super::NHA_OIF;
    use super::Nexthop;
    use super::NexthopMessage;
    use super::RTM_NEWNEXTHOP;
    use super::write_hops;
    use crate::netlink::next_hop::RouteFamily;
    use crate::netlink::route::default_next_hops;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).expect("it is short");
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn parse(payload: &[u8]) -> Option<Nexthop> {
        let mut header = NetlinkHeader::default();
        header.message_type = RTM_NEWNEXTHOP;
        match Message::deserialize(&header, payload) {
            Ok(Message::Nexthop(NexthopMessage::New(nexthop))) => Some(nexthop),
            _ => None,
        }
    }

    #[test]
    fn a_nexthop_is_read_whole_or_not_at_all() {
        let mut payload = vec![0; HEADER];
        payload[4] = 1;
        payload.extend(attribute(NHA_ID, &7_u32.to_ne_bytes()));
        payload.extend(attribute(NHA_OIF, &2_u32.to_ne_bytes()));
        payload.extend(attribute(NHA_GATEWAY, &[10, 0, 0, 1]));
        let nexthop = parse(&payload).expect("a nexthop");
        assert_eq!((nexthop.id, nexthop.interface, nexthop.dead), (7, Some(2), true));
        assert_eq!(nexthop.gateway, Some([10, 0, 0, 1].into()));
        for length in 0..payload.len() {
            // What ends between two attributes is whole.
            let whole = length >= HEADER && (length - HEADER).is_multiple_of(8);
            assert_eq!(parse(&payload[..length]).is_some(), whole, "{length}");
        }
        let group = [[3, 0, 0, 0, 0, 0, 0, 0], [4, 0, 0, 0, 1, 0, 0, 0]].concat();
        let payload = [vec![0; HEADER], attribute(NHA_GROUP, &group)].concat();
        let ids: Vec<_> = [3_u32, 4].map(u32::to_le).into();
        assert_eq!(parse(&payload).expect("a group").group, ids);
    }

    #[test]
    fn a_question_names_an_id() {
        let question = Message::Nexthop(NexthopMessage::Get(9));
        let mut buffer = vec![0xff; question.buffer_len()];
        question.serialize(&mut buffer);
        assert_eq!(parse(&buffer), Some(Nexthop { id: 9, ..Nexthop::default() }));
    }

    #[test]
    fn members_that_lead_nowhere_are_no_next_hops() {
        let member = |last: u8| Nexthop {
            interface: Some(2),
            gateway: Some([10, 0, 0, last].into()),
            ..Nexthop::default()
        };
        let members = [
            Nexthop { dead: true, ..member(1) },
            Nexthop { blackhole: true, ..member(2) },
            Nexthop { interface: Some(3), ..member(3) },
            Nexthop { gateway: None, ..member(4) },
            member(5),
        ];
        let default_route = || {
            let mut route = RouteMessage::default();
            route.header.kind = netlink_packet_route::route::RouteType::Unicast;
            route.header.table = netlink_packet_route::route::RouteHeader::RT_TABLE_MAIN;
            route
        };
        let mut route = default_route();
        let group = Nexthop { group: vec![1, 2, 3, 4, 5], ..Nexthop::default() };
        write_hops(&mut route, &group, &members);
        let hops = default_next_hops(&[route], RouteFamily::Ipv4, 2);
        let hops: Vec<_> = hops.iter().map(|hop| hop.address.to_string()).collect();
        assert_eq!(hops, ["10.0.0.5"]);

        for (dead, hops) in [(false, 1), (true, 0)] {
            let mut route = default_route();
            write_hops(&mut route, &Nexthop { dead, ..member(1) }, &[]);
            let found = default_next_hops(&[route], RouteFamily::Ipv4, 2);
            assert_eq!(found.len(), hops, "one that leads out alone, dead: {dead}");
        }
    }
}
