//! The interface's MTU and its gateway.

use super::catalogue::FindingId;
use super::catalogue::Severity;
use super::nic::Nic;
use super::report::Answer;
use super::report::Check;
use super::report::Fix;
use crate::observe::readiness::Unready;
use crate::plan::IPV6_MINIMUM_MTU;

pub(super) const CHECKS: &[Check<Nic>] = &[
    (FindingId::MtuNoRoom, no_room),
    (FindingId::MtuChanged, mtu_changed),
    (FindingId::MacChanged, mac_changed),
    (FindingId::GatewayUnresolved, gateway_unresolved),
    (FindingId::GatewayMoved, gateway_moved),
];

fn no_room(nic: &Nic) -> Option<Answer> {
    let mtu = nic.link.as_ref().filter(|_| nic.overhead != 0)?.link.mtu;
    let needed = nic.longest + nic.overhead;
    if mtu >= needed {
        return Some(Answer::Well);
    }
    let fits = mtu.saturating_sub(nic.overhead);
    let (severity, ipv6) = if nic.balances_v6 && fits < IPV6_MINIMUM_MTU {
        (
            Severity::Error,
            "; IPv6 packets without an answer, because an answer may not name less than 1280",
        )
    } else {
        (Severity::Warning, "")
    };
    Some(Answer::hurts(
        severity,
        format!(
            "its MTU is {mtu}; packets of {} bytes take {needed} with the outer header",
            nic.longest
        ),
        format!(
            "the balancer drops packets over {fits} bytes, and tells the senders or not (packets.oversize){ipv6}; \
             connections of clients that do not hear of it hang"
        ),
        Fix::Command(format!(
            "ip link set {} mtu {needed}   # the routers and reals behind it, too; if you cannot, run on the reals: \
             'lbctl doctor --real', finding mss",
            nic.name
        )),
    ))
}

fn mtu_changed(nic: &Nic) -> Option<Answer> {
    let (mtu, told) = (nic.link.as_ref()?.link.mtu, nic.told.as_ref()?.mtu);
    if mtu == told {
        return Some(Answer::Well);
    }
    let (severity, why) = if mtu < told {
        (Severity::Error, "the balancer sends packets that no longer fit: they are lost on the way")
    } else {
        (Severity::Warning, "the balancer refuses packets that would fit now")
    };
    Some(Answer::hurts(
        severity,
        format!("its MTU is {mtu} now, and the packet path was told {told}"),
        format!("{why}; 'lbctl serve' follows by itself"),
        Fix::Command(nic.reapply.clone()),
    ))
}

fn mac_changed(nic: &Nic) -> Option<Answer> {
    let (now, told) = (nic.link.as_ref()?.link.mac?, nic.told.as_ref()?);
    let mac = told.own_mac.filter(|mac| *mac != now && !told.config.macs.contains(&now));
    let Some(mac) = mac else { return Some(Answer::Well) };
    Some(Answer::hurts(
        Severity::Error,
        Unready::MacChanged { interface: nic.name.clone(), mac, now }.what(),
        "routers send to the new MAC, and nothing is balanced; 'lbctl serve' follows by itself",
        Fix::Command(nic.reapply.clone()),
    ))
}

fn gateway_unresolved(nic: &Nic) -> Option<Answer> {
    nic.link.as_ref()?;
    Some(match &nic.gateway {
        Ok(_) => Answer::Well,
        Err(missing) if missing.is_a_matter_of_rights => missing.answer(),
        Err(missing) => Answer::hurts(
            Severity::Error,
            missing.why.clone(),
            "all packets to the reals go to the gateway's MAC; without it, an apply does not serve the interface, or takes another default router",
            Fix::Advice(format!(
                "'ip route show default dev {0}' and 'ip neigh show dev {0}' show what the kernel knows",
                nic.name
            )),
        ),
    })
}

fn gateway_moved(nic: &Nic) -> Option<Answer> {
    let (Ok(mac), Some(told)) = (&nic.gateway, &nic.told) else { return None };
    if *mac == told.mac {
        return Some(Answer::Well);
    }
    Some(Answer::hurts(
        Severity::Error,
        Unready::GatewayMoved { interface: nic.name.clone(), mac: told.mac, now: *mac }.what(),
        "packets to the old MAC may be lost; 'lbctl serve' follows by itself",
        Fix::Command(nic.reapply.clone()),
    ))
}
