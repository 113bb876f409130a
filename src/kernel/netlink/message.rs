//! Messages of the kernel's tables, and what one message alone tells.
//!
//! The crate for netlink's messages does not know nexthop objects. Their messages are read and written here.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteAttribute;
use netlink_packet_route::route::RouteFlags;
use netlink_packet_route::route::RouteHeader;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::route::RouteType;
use rtnetlink::packet_core::DecodeError;
use rtnetlink::packet_core::NetlinkDeserializable;
use rtnetlink::packet_core::NetlinkHeader;
use rtnetlink::packet_core::NetlinkSerializable;
use rtnetlink::packet_core::NlasIterator;

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

/// The kind of a message about a nexthop object.
#[derive(Clone, Debug)]
pub(super) enum NexthopMessage {
    /// Asks for the object of this id.
    Get(u32),
    /// The object exists, or changed.
    New(Nexthop),
    /// It is gone.
    Removed(Nexthop),
}

/// A nexthop object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Nexthop {
    pub(super) id: u32,
    /// The ids of its members, if it is a group. A member is never a group.
    pub(super) group: Vec<u32>,
    /// It discards packets.
    pub(super) blackhole: bool,
    /// The index of the interface through which it leads.
    pub(super) interface: Option<u32>,
    pub(super) gateway: Option<IpAddr>,
    /// Its interface cannot send.
    pub(super) dead: bool,
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

/// Whether a route is a default route that every packet can take: in the main table, for every
/// source and type of service, and forwarding rather than discarding.
pub(super) fn is_default(route: &RouteMessage) -> bool {
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

/// Whether a route says that its destinations are the host's own addresses.
pub(super) fn is_local(route: &RouteMessage) -> bool {
    route.header.kind == RouteType::Local
}

#[cfg(test)]
mod tests {
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
            // A message that ends between two attributes is complete.
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
}
