//! Ethernet, VLAN tags, ARP.

use std::fmt;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use etherparse::ArpHardwareId;
use etherparse::ArpOperation;
use etherparse::ArpPacketSlice;
use etherparse::EtherType;
use etherparse::Ethernet2HeaderSlice;
use etherparse::SingleVlanHeaderSlice;

use super::NESTING;
use super::Part;
use super::Style;
use super::Telling;
use super::ip;
use crate::model::address::Mac;

/// Below this value, the field is a length, not a type: IEEE 802.3.
const FIRST_ETHER_TYPE: u16 = 0x0600;

/// How many bytes of a frame are in front of the network header: those of the Ethernet header and of VLAN tags.
pub(super) fn header_length(frame: &[u8]) -> usize {
    let Ok(header) = Ethernet2HeaderSlice::from_slice(frame) else { return frame.len() };
    let (mut length, mut ether_type) = (header.slice().len(), header.ether_type());
    for _ in 0..NESTING {
        let rest = frame.get(length..).unwrap_or_default();
        let tag = is_tag(ether_type).then(|| SingleVlanHeaderSlice::from_slice(rest).ok());
        let Some(tag) = tag.flatten() else { break };
        length += tag.slice().len();
        ether_type = tag.ether_type();
    }
    length
}

fn is_tag(ether_type: EtherType) -> bool {
    matches!(
        ether_type,
        EtherType::VLAN_TAGGED_FRAME
            | EtherType::PROVIDER_BRIDGING
            | EtherType::VLAN_DOUBLE_TAGGED_FRAME
    )
}

/// The Ethernet header, as `-e` shows it.
fn write_header(
    line: &mut String,
    header: &Ethernet2HeaderSlice<'_>,
    length: usize,
    quick: bool,
) -> fmt::Result {
    let EtherType(ether_type) = header.ether_type();
    write!(line, "{} > {}, ", Mac::from(header.source()), Mac::from(header.destination()))?;
    match ether_type {
        0..FIRST_ETHER_TYPE => write!(line, "802.3, length {ether_type}: "),
        _ if quick => write!(line, "{}, length {length}: ", ether_type_name(ether_type)),
        _ => {
            let name = ether_type_name(ether_type);
            write!(line, "ethertype {name} ({ether_type:#06x}), length {length}: ")
        }
    }
}

pub(super) fn ethernet(line: &mut String, frame: Part<'_>, telling: Telling) -> fmt::Result {
    let style = telling.style;
    let Ok(header) = Ethernet2HeaderSlice::from_slice(frame.captured) else {
        return line.write_str("[|ether]");
    };
    let mut ether_type = header.ether_type();
    let mut rest = frame.skip(header.slice().len());
    let mut tags = 0;
    if style.link {
        write_header(line, &header, frame.length, style.quick)?;
    }
    while is_tag(ether_type) {
        if tags == NESTING {
            return line.write_str("[more tags]");
        }
        tags += 1;
        let Ok(tag) = SingleVlanHeaderSlice::from_slice(rest.captured) else {
            return line.write_str("[|vlan]");
        };
        let eligible = if tag.drop_eligible_indicator() { ", DEI" } else { "" };
        write!(
            line,
            "vlan {}, p {}{eligible}, ",
            tag.vlan_identifier().value(),
            tag.priority_code_point().value()
        )?;
        ether_type = tag.ether_type();
        if style.link && style.quick {
            write!(line, "{}, ", ether_type_name(ether_type.0))?;
        } else if style.link && ether_type.0 >= FIRST_ETHER_TYPE {
            write!(line, "ethertype {} ({:#06x}), ", ether_type_name(ether_type.0), ether_type.0)?;
        }
        rest = rest.skip(tag.slice().len());
    }
    match ether_type {
        EtherType::IPV4 | EtherType::IPV6 if rest.captured.is_empty() => {
            line.write_str(if ether_type == EtherType::IPV4 { "[|ip]" } else { "[|ip6]" })
        }
        EtherType::IPV4 => ip::ipv4(line, rest, telling),
        EtherType::IPV6 => ip::ipv6(line, rest, telling),
        EtherType::ARP => arp(line, rest, style),
        _ if style.link => write!(line, "length {}", rest.length),
        EtherType(other) => {
            write!(line, "{} > {}, ", Mac::from(header.source()), Mac::from(header.destination()))?;
            if other < FIRST_ETHER_TYPE {
                write!(line, "802.3, length {other}")
            } else {
                write!(
                    line,
                    "ethertype {} ({other:#06x}), length {}",
                    ether_type_name(other),
                    frame.length
                )
            }
        }
    }
}

/// tcpdump's names of the types that are usual on a balancer's links.
fn ether_type_name(ether_type: u16) -> &'static str {
    match ether_type {
        0x0800 => "IPv4",
        0x0806 => "ARP",
        0x8100 => "802.1Q",
        0x86dd => "IPv6",
        0x88a8 => "802.1Q-QinQ",
        0x9100 => "802.1Q-9100",
        0x8809 => "Slow Protocols",
        0x8847 => "MPLS unicast",
        0x8848 => "MPLS multicast",
        0x8863 => "PPPoE D",
        0x8864 => "PPPoE S",
        0x888e => "EAPOL",
        0x88cc => "LLDP",
        0x88e5 => "MACsec",
        0x88f7 => "PTP",
        0x9000 => "Loopback",
        _ => "Unknown",
    }
}

fn arp(line: &mut String, packet: Part<'_>, style: Style) -> fmt::Result {
    let Ok(arp) = ArpPacketSlice::from_slice(packet.captured) else {
        return line.write_str("[|arp]");
    };
    if !style.link {
        line.write_str("ARP, ")?;
    }
    if style.verbose > 0 {
        let (hardware, protocol) = (arp.hw_addr_size(), arp.proto_addr_size());
        write!(line, "Ethernet (len {hardware}), IPv4 (len {protocol}), ")?;
    }
    let hardware = |address: &[u8]| <[u8; 6]>::try_from(address).map(Mac::from);
    let protocol = |address: &[u8]| <[u8; 4]>::try_from(address).map(Ipv4Addr::from);
    let (Ok(sender), Ok(target), Ok(sender_mac), Ok(target_mac)) = (
        protocol(arp.sender_protocol_addr()),
        protocol(arp.target_protocol_addr()),
        hardware(arp.sender_hw_addr()),
        hardware(arp.target_hw_addr()),
    ) else {
        let ArpHardwareId(hardware) = arp.hw_addr_type();
        let EtherType(protocol) = arp.proto_addr_type();
        return write!(
            line,
            "hardware {hardware}, protocol {protocol:#06x}, length {}",
            packet.length
        );
    };
    match arp.operation() {
        ArpOperation::REQUEST => {
            write!(line, "Request who-has {target} ")?;
            // Asks whether the station that had the address is still there.
            if target_mac.is_station() {
                write!(line, "({target_mac}) ")?;
            }
            write!(line, "tell {sender}")?;
        }
        ArpOperation::REPLY => write!(line, "Reply {sender} is-at {sender_mac}")?,
        ArpOperation(other) => write!(line, "Unknown ({other})")?,
    }
    write!(line, ", length {}", packet.length)
}
