//! What the card and the kernel do to packets before XDP sees them, and what senders leave undone.

use super::catalogue::FindingId;
use super::catalogue::Severity;
use super::nic::Nic;
use super::report::Answer;
use super::report::Check;
use super::report::Fix;
use crate::kernel::netlink::Features;

pub(super) const CHECKS: &[Check<Nic>] = &[
    (FindingId::Lro, lro),
    (FindingId::VlanOffload, vlan_offload),
    (FindingId::SenderOffloads, sender_offloads),
];

/// The command that switches offloads off, or advice if the driver does not allow that.
fn switch_off(nic: &Nic, features: &Features, names: &[&str]) -> Fix {
    let (fixed, changeable): (Vec<&str>, Vec<&str>) =
        names.iter().partition(|name| features.fixed.contains(**name));
    if fixed.is_empty() {
        Fix::Command(format!("ethtool -K {} {} off", nic.name, changeable.join(" off ")))
    } else {
        Fix::Advice(format!(
            "the driver does not let {} be switched off: switch it off on the host of this virtual machine, or use another card",
            fixed.join(" and ")
        ))
    }
}

fn active<'a>(features: &Features, names: &[&'a str]) -> Vec<&'a str> {
    names.iter().copied().filter(|name| features.active.contains(*name)).collect()
}

/// For generic XDP the kernel switches LRO off by itself, and GRO with it. Native XDP comes before GRO.
fn lro(nic: &Nic) -> Option<Answer> {
    nic.link.as_ref().filter(|_| nic.wants_native())?;
    let features = match &nic.features {
        Ok(features) => features,
        Err(missing) => return Some(missing.answer()),
    };
    let on = active(features, &["rx-lro", "rx-gro-hw"]);
    if on.is_empty() {
        return Some(Answer::Well);
    }
    Some(Answer::hurts(
        Severity::Warning,
        format!("the card merges received packets: {} is on", on.join(" and ")),
        "some drivers refuse native XDP then; with others, merged packets are longer than packets.max_frame, and the \
         balancer does not balance them",
        switch_off(nic, features, &on),
    ))
}

fn vlan_offload(nic: &Nic) -> Option<Answer> {
    nic.link.as_ref().filter(|_| !nic.is_generic() && !nic.vlans.is_empty())?;
    let features = match &nic.features {
        Ok(features) => features,
        Err(missing) => return Some(missing.answer()),
    };
    let on = active(features, &["rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"]);
    if on.is_empty() {
        return Some(Answer::Well);
    }
    Some(Answer::hurts(
        Severity::Warning,
        format!(
            "{} on it, and the card takes VLAN tags off ({} is on)",
            nic.vlans.join(", "),
            on.join(" and ")
        ),
        "native XDP does not see such a tag, and sends the packet on without it, into another VLAN",
        switch_off(nic, features, &on),
    ))
}

/// Offloads of a veth, which has no card to carry them out: senders leave checksums and segmentation undone.
const LEFT_TO_THE_CARD: [&str; 6] = [
    "tx-checksum-ip-generic",
    "tx-checksum-ipv4",
    "tx-checksum-ipv6",
    "tx-tcp-segmentation",
    "tx-tcp6-segmentation",
    "tx-udp-segmentation",
];

/// XDP sends packets on as they are, and behind an outer header nobody finishes a checksum or segments a packet. The
/// kernel switches segmentation off by itself if native XDP runs at the other end (Linux 5.13), but never checksums.
fn sender_offloads(nic: &Nic) -> Option<Answer> {
    let peer = match nic.peer.as_ref()? {
        Ok(peer) => peer,
        Err(missing) => return Some(missing.answer()),
    };
    // Without checksum offload, the kernel does not leave segmentation to a card, either.
    let command = |shell: &str| format!("{shell}ethtool -K {} tx off", peer.name);
    let why = "senders on this host, as in containers and network namespaces, leave checksums unfinished and TCP in pieces \
               of up to 64 KiB, and XDP sends both on as they are: reals drop them, and nothing here counts them. Clients \
               beyond a card are not concerned";
    let features = match &peer.features {
        Ok(features) => features,
        Err(missing) if missing.is_a_matter_of_rights => return Some(missing.answer()),
        Err(missing) => {
            return Some(Answer::hurts(
                Severity::Note,
                format!(
                    "doctor cannot read whether its other end, {}, has checksum and segmentation offloads on: its \
                     network namespace: {}",
                    peer.name, missing.why
                ),
                why,
                Fix::Advice(format!(
                    "where {} is, 'ethtool -k {}' shows them; if there are clients on this host, run '{}' there",
                    peer.name,
                    peer.name,
                    command("")
                )),
            ));
        }
    };
    let on = active(features, &LEFT_TO_THE_CARD);
    if on.is_empty() {
        return Some(Answer::Well);
    }
    Some(Answer::hurts(
        Severity::Warning,
        format!(
            "its other end, {}, has offloads on that no card carries out: {}",
            peer.name,
            on.join(", ")
        ),
        why,
        match &peer.shell {
            Some(shell) => Fix::Command(command(shell)),
            None => Fix::Advice(format!("where {} is: {}", peer.name, command(""))),
        },
    ))
}
