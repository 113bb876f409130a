//! Compares a configuration, or what runs, with the host.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::catalogue::FindingId;
use super::catalogue::Severity;
use super::report::Answer;
use super::report::Fix;
use super::report::Report;
use crate::control::own_host::OwnHost;
use crate::control::own_host::local_without_vip;
use crate::control::own_host::refusals;
use crate::kernel::host::Files;
use crate::kernel::host::text;
use crate::kernel::netlink;
use crate::model::address::Protocol;
use crate::model::address::Vip;
use crate::model::config::Config;
use crate::model::config::DecapsulateThen;
use crate::model::config::Delivery;
use crate::model::config::OtherPorts;
use crate::model::outweighed::outweighed;
use crate::model::vip_table::Table;

/// Looks for VIPs, reals and gateways that have an address of this host.
pub(super) fn own_addresses(report: &mut Report, wanted: &Config) {
    let id = FindingId::OwnAddress;
    let own = match OwnHost::read(wanted) {
        Ok(own) => own,
        Err(error) => return report.add(id, "host", Some(Answer::Unknown(error.to_string()))),
    };
    let refused = refusals(wanted, &own);
    if refused.is_empty() {
        report.add(id, "host", Some(Answer::Well));
    }
    for refusal in refused {
        let fix = Fix::Advice(refusal.fix.to_owned());
        let answer = Answer::hurts(Severity::Error, refusal.what, refusal.why, fix);
        report.add(id, &refusal.place, Some(answer));
    }
}

/// Looks for reals that are this host, and for what keeps them from serving.
pub(super) fn own_reals(report: &mut Report, wanted: &Config) {
    let (local, sent) = (FindingId::LocalWithoutVip, FindingId::OwnRealSent);
    let own = match OwnHost::addresses() {
        Ok(own) => own,
        Err(error) => {
            let unknown = || Some(Answer::Unknown(error.to_string()));
            report.add(local, "host", unknown());
            return report.add(sent, "host", unknown());
        }
    };
    let table = Table::from(wanted);
    let bare = local_without_vip(&table, &own);
    let reals = table.vips.values().flat_map(|spec| &spec.reals);
    let sending = reals.filter(|(address, real)| {
        matches!(real.delivery, Delivery::By(_)) && own.owner(**address).is_some()
    });
    let sending: BTreeSet<_> = sending.map(|(address, _)| *address).collect();
    if bare.is_empty() {
        report.add(local, "host", Some(Answer::Well));
    }
    for (vip, real) in bare {
        report.add(local, &format!("VIP address {vip}"), Some(without_vip(vip, real)));
    }
    if sending.is_empty() {
        report.add(sent, "host", Some(Answer::Well));
    }
    for real in sending {
        report.add(sent, &format!("real {real}"), Some(sent_to_itself(real)));
    }
}

fn without_vip(vip: IpAddr, real: IpAddr) -> Answer {
    let length = if vip.is_ipv4() { 32 } else { 128 };
    Answer::hurts(
        Severity::Error,
        format!("real {real} is this host, which does not have the VIP's address"),
        "this host's kernel gets the packets, and drops them or sends them back to the router",
        Fix::Command(format!(
            "ip addr add {vip}/{length} dev lo   # and allow_own_address = true for the VIP"
        )),
    )
}

fn sent_to_itself(real: IpAddr) -> Answer {
    Answer::hurts(
        Severity::Warning,
        format!("{real} is an address of this host, and the real says an encapsulation"),
        "its packets leave by the interface, and come back only if the router returns them",
        Fix::Advice(format!(
            "lbctl real edit --all {real} --encapsulation default; and leave it out in the file"
        )),
    )
}

/// Looks for VIP addresses whose packets to other ports this host sends back to the router.
pub(super) fn forwarded_ports(report: &mut Report, wanted: &Config, files: &Files) {
    let id = FindingId::OtherPortsForwarded;
    let table = Table::from(wanted);
    let has_every_port = |address| {
        [Protocol::Tcp, Protocol::Udp]
            .into_iter()
            .all(|protocol| table.vips.contains_key(&Vip { address, port: 0, protocol }))
    };
    let addresses: BTreeSet<IpAddr> = table.vips.keys().map(|vip| vip.address).collect();
    if !files.has_procfs() {
        let why = "without procfs this cannot be read".to_owned();
        report.add(id, "host", Some(Answer::Unknown(why)));
        return;
    }
    let mut found = false;
    for address in addresses {
        let family = if address.is_ipv4() { "ipv4/ip_forward" } else { "ipv6/conf/all/forwarding" };
        let forwards = text(&files.proc.join("sys/net").join(family));
        if forwards.is_none_or(|value| value == "0")
            || table.other_ports(address) != OtherPorts::Pass
            || has_every_port(address)
        {
            continue;
        }
        found = true;
        let answer = match netlink::route_blocking(address) {
            Ok(Some(route)) if !route.local => circles(address),
            Ok(_) => Answer::Well,
            Err(error) => Answer::Unknown(error.to_string()),
        };
        report.add(id, &format!("VIP address {address}"), Some(answer));
    }
    if !found {
        report.add(id, "host", Some(Answer::Well));
    }
}

fn circles(address: IpAddr) -> Answer {
    let version = if address.is_ipv4() { "-4" } else { "-6" };
    Answer::hurts(
        Severity::Warning,
        "this host forwards packets to its ports that no VIP has",
        "the router sends them here again: each goes round until its hop limit is used up",
        Fix::Command(format!(
            "ip {version} route add blackhole {address}   # or other_ports = \"drop\" for a VIP of the address"
        )),
    )
}

/// Looks for addresses to which anybody may send packets in an outer header.
pub(super) fn open_ends(report: &mut Report, wanted: &Config) {
    let id = FindingId::DecapsulateOpen;
    let table = Table::from(wanted);
    let open: Vec<_> = table.decapsulate.iter().filter(|(_, end)| end.is_open()).collect();
    if open.is_empty() {
        report.add(id, "host", Some(Answer::Well));
    }
    for (address, end) in open {
        let why = match end.then {
            DecapsulateThen::Balance => {
                "whoever reaches the address sends packets with any source to the VIPs, past filters that see the outer \
                 header only"
            }
            DecapsulateThen::Router => {
                "whoever reaches the address sends packets with any source and destination from this host, past filters \
                 that see the outer header only"
            }
        };
        let fix = Fix::Advice(format!(
            "name the outer sources of those who send in from of [[decapsulate]] {address}, then lbctl apply -f FILE"
        ));
        let what = "packets in an outer header are taken out whoever sends them";
        let answer = Answer::hurts(Severity::Warning, what, why, fix);
        report.add(id, &format!("decapsulate {address}"), Some(answer));
    }
}

/// Looks for reals that get no new flows because their weight is too small beside the others.
pub(super) fn weights(report: &mut Report, wanted: &Config) {
    let id = FindingId::RealOutweighed;
    let table = Table::from(wanted);
    let found: Vec<_> =
        table.vips.iter().flat_map(|(vip, spec)| outweighed(*vip, &spec.members())).collect();
    if found.is_empty() {
        report.add(id, "host", Some(Answer::Well));
    }
    for real in found {
        let why = "it counts as up, but the others get its share of new flows";
        let fix = Fix::Advice(real.fix());
        let answer = Answer::hurts(Severity::Warning, real.to_string(), why, fix);
        report.add(id, &format!("VIP {}", real.vip), Some(answer));
    }
}
