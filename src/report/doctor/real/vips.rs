//! The VIPs on a real.

use std::net::IpAddr;

use super::Family;
use super::Real;
use super::Vip;
use crate::report::doctor::catalogue::Severity;
use crate::report::doctor::report::Answer;
use crate::report::doctor::report::Fix;

/// The address with the prefix length of a single host.
fn alone(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

pub(super) fn missing(_: &Real, vip: &Vip) -> Option<Answer> {
    if vip.local {
        return Some(Answer::Well);
    }
    Some(Answer::hurts(
        Severity::Error,
        "it is no address of this host",
        "once the outer header is off, the kernel drops packets to it, or sends them back to the network",
        Fix::Command(format!("ip address add {} dev lo", alone(vip.address))),
    ))
}

pub(super) fn on_wire(real: &Real, vip: &Vip) -> Option<Answer> {
    if vip.on.is_empty() {
        return None;
    }
    let answers = |name: &&String| real.link(name).is_some_and(|link| link.arp && !link.loopback);
    let Some(name) = vip.on.iter().find(answers) else { return Some(Answer::Well) };
    let address = alone(vip.address);
    Some(Answer::hurts(
        Severity::Error,
        format!("interface {name} has it"),
        "the host answers ARP for it there, whatever arp_ignore says: neighbours send its packets to this real alone, past the balancer",
        Fix::Command(format!(
            "ip address add {address} dev lo; ip address del {} dev {name}",
            vip.address
        )),
    ))
}

pub(super) fn none(real: &Real) -> Option<Answer> {
    if !real.vips.is_empty() {
        return Some(Answer::Well);
    }
    Some(Answer::hurts(
        Severity::Note,
        "you named no VIP, and the loopback interface has only its own addresses",
        "without the address of a VIP, a real answers nobody",
        Fix::Advice("name the VIPs: lbctl doctor --real --vip ADDRESS".to_owned()),
    ))
}

pub(super) fn forwarding(real: &Real, family: Family) -> Option<Answer> {
    if !real.serves(family) {
        return None;
    }
    match real.forwarding[family as usize] {
        Some(true) => {}
        Some(false) => return Some(Answer::Well),
        None => return Some(Answer::Unknown("without procfs this cannot be read".to_owned())),
    }
    let key = match family {
        Family::V4 => "net.ipv4.ip_forward",
        Family::V6 => "net.ipv6.conf.all.forwarding",
    };
    Some(Answer::hurts(
        Severity::Note,
        "the host forwards packets that are not for it",
        "packets for a VIP that it does not have, or no longer has, go back to the router, and from there to the \
         balancer: in circles until their hop limit is used up",
        Fix::Command(format!(
            "sysctl -w {key}=0   # unless the host routes for others, such as containers"
        )),
    ))
}
