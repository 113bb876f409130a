//! ARP for VIPs: neighbours must send packets for a VIP to the balancer, and to no real.

use std::fmt::Write as _;

use super::Family;
use super::Real;
use crate::kernel::netlink::LinkFacts;
use crate::report::doctor::catalogue::Severity;
use crate::report::doctor::report::Answer;
use crate::report::doctor::report::Fix;

/// An interface on which neighbours ask by ARP: a card, or a virtual interface by which packets come in or leave.
/// The interfaces of containers do not lead to the balancer.
fn asked_by_arp<'a>(real: &'a Real, name: &str) -> Option<&'a LinkFacts> {
    let link =
        real.link(name).filter(|link| link.arp && !link.loopback && link.link.mac.is_some())?;
    let back = real.interface_back(Family::V4).is_some_and(|back| back.link.name == name);
    let uplink = back || real.xdp_interfaces().any(|interface| interface == name);
    (link.kind.is_none() || uplink).then_some(link)
}

/// Sets a value for all interfaces. If the interface's own value is larger, that one counts: then this sets it, too.
fn set(key: &str, value: u32, name: &str, found: u32) -> Fix {
    let mut command = format!("sysctl -w net.ipv4.conf.all.{key}={value}");
    if found > value {
        // With slashes, because names of interfaces may have dots.
        let _ = write!(command, " net/ipv4/conf/{name}/{key}={value}");
    }
    Fix::Command(command)
}

pub(super) fn ignore(real: &Real, name: &str) -> Option<Answer> {
    asked_by_arp(real, name).filter(|_| real.serves(Family::V4))?;
    let setting = real.settings.iter().find(|(of, _)| of == name)?.1.arp_ignore;
    // 3 is about an address's scope, 4 to 7 mean nothing.
    if matches!(setting, 1 | 2 | 8) {
        return Some(Answer::Well);
    }
    let known = !real.vips.is_empty();
    Some(Answer::hurts(
        if known { Severity::Error } else { Severity::Warning },
        format!("arp_ignore is {setting} (the larger of its own and that of all)"),
        "the host answers ARP requests there for all of its addresses, VIPs on the loopback interface too: neighbours \
         send packets for the VIPs to this real alone, past the balancer",
        set("arp_ignore", 1, name, setting),
    ))
}

pub(super) fn announce(real: &Real, name: &str) -> Option<Answer> {
    asked_by_arp(real, name).filter(|_| real.serves(Family::V4))?;
    let setting = real.settings.iter().find(|(of, _)| of == name)?.1.arp_announce;
    if setting != 0 {
        return Some(Answer::Well);
    }
    Some(Answer::hurts(
        Severity::Warning,
        "arp_announce is 0, its own and that of all",
        "when the host asks for a neighbour's MAC to answer a client, it announces the VIP as its own address, and the \
         neighbour remembers that",
        set("arp_announce", 2, name, setting),
    ))
}
