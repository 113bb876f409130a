//! Compares a configuration, or what runs, with the host.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::catalogue::FindingId;
use super::catalogue::Severity;
use super::instance;
use super::report::Answer;
use super::report::Fix;
use super::report::Report;
use crate::control::own_host::OwnHost;
use crate::control::own_host::local_without_vip;
use crate::control::own_host::refusals;
use crate::control::reals;
use crate::kernel::host::Files;
use crate::kernel::host::text;
use crate::kernel::netlink;
use crate::model::address::Protocol;
use crate::model::address::Vip;
use crate::model::config::Config;
use crate::model::config::DecapsulateThen;
use crate::model::config::Delivery;
use crate::model::config::OtherPorts;
use crate::model::config::SentBy;
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

/// Looks for sources of GUE that this host does not have: answers about such packets do not come here.
pub(super) fn gue_sources(report: &mut Report, wanted: &Config) {
    let id = FindingId::GueSourceElsewhere;
    let own = match OwnHost::addresses() {
        Ok(own) => own,
        Err(error) => return report.add(id, "host", Some(Answer::Unknown(error.to_string()))),
    };
    let table = Table::from(wanted);
    let by_gue = table.vips.values().flat_map(|spec| {
        let reals = spec.reals.iter().filter(|(address, real)| {
            SentBy::of(spec.encapsulation, real.delivery) == SentBy::Gue && !own.takes(**address)
        });
        reals.map(|(address, _)| address.is_ipv6())
    });
    let families: BTreeSet<bool> = by_gue.collect();
    let sources = families.into_iter().map(|v6| {
        let packets = &wanted.packets;
        let source: IpAddr = if v6 {
            packets.source_v6().address().into()
        } else {
            packets.source_v4().address().into()
        };
        (source, if v6 { "encap_source_v6" } else { "encap_source_v4" })
    });
    let elsewhere: Vec<_> = sources.filter(|(source, _)| own.owner(*source).is_none()).collect();
    if elsewhere.is_empty() {
        report.add(id, "host", Some(Answer::Well));
    }
    for (source, key) in elsewhere {
        let answer = Answer::hurts(
            Severity::Note,
            format!("packets by gue leave from {source}, which is no address of this host"),
            "what reals and routers answer about them goes to whoever has it, so that nobody here learns of reals which take no \
             GUE; networks that look at sources may drop them",
            Fix::Advice(format!(
                "if balancers share the source on purpose, do nothing; else let {key} be an address of this host, which the \
                 reals must allow before (lbctl decap attach --from)"
            )),
        );
        report.add(id, &format!("packets.{key}"), Some(answer));
    }
}

/// Looks for the reals that get their packets by L2, as an apply does: where they are, and whether they answer.
pub(super) fn neighbours(report: &mut Report, wanted: &Config, interfaces: &[(&str, u32)]) {
    let (far, silent) = (FindingId::RealNotOnLink, FindingId::RealMacUnknown);
    let looked = match reals::look(&Table::from(wanted), interfaces, |_| true) {
        Ok(looked) => looked,
        Err(error) => return report.add(far, "host", Some(Answer::Unknown(error.to_string()))),
    };
    // A real may be on the network of an interface that is not there yet.
    let all_are_there = interfaces.len() == wanted.interfaces.len();
    let far_away: Vec<_> = looked.far_away().filter(|_| all_are_there).collect();
    if far_away.is_empty() {
        report.add(far, "host", all_are_there.then_some(Answer::Well));
    }
    for (real, what) in far_away {
        let fix = Fix::Advice(
            "say encapsulation = \"ipip\" or \"gue\" for it, or give it an address on that network"
                .to_owned(),
        );
        let why = "frames can only go to a neighbour: an apply refuses the file";
        let answer = Answer::hurts(Severity::Error, what, why, fix);
        report.add(far, &format!("real {real}"), Some(answer));
    }
    if looked.silent.is_empty() {
        report.add(silent, "host", Some(Answer::Well));
    }
    for real in &looked.silent {
        report.add(silent, &format!("real {real}"), Some(instance::mac_unknown(*real, 0)));
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
