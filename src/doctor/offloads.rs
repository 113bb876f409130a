//! What card and kernel do to packets before XDP sees them.

use super::catalogue::FindingId;
use super::catalogue::Severity;
use super::nic::Nic;
use super::report::Answer;
use super::report::Check;
use super::report::Mend;
use crate::netlink::Features;

pub(super) const CHECKS: &[Check<Nic>] =
    &[(FindingId::Lro, lro), (FindingId::VlanOffload, vlan_offload)];

/// Switches offloads off; of those that cannot be, says so.
fn switch_off(nic: &Nic, features: &Features, names: &[&str]) -> Mend {
    let (fixed, changeable): (Vec<&str>, Vec<&str>) =
        names.iter().partition(|name| features.fixed.contains(**name));
    if fixed.is_empty() {
        Mend::Command(format!("ethtool -K {} {} off", nic.name, changeable.join(" off ")))
    } else {
        Mend::Advice(format!(
            "the driver does not let {} be switched off: do it on the host of this virtual machine, or use another card",
            fixed.join(" and ")
        ))
    }
}

fn active<'a>(features: &Features, names: &[&'a str]) -> Vec<&'a str> {
    names.iter().copied().filter(|name| features.active.contains(*name)).collect()
}

/// For generic XDP the kernel switches it off by itself, and GRO with it; native XDP comes before GRO.
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
        "some drivers refuse native XDP then; with others, merged packets are longer than packets.max_frame and \
         are not balanced",
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
            "{} on it, and the card takes tags away ({} is on)",
            nic.vlans.join(", "),
            on.join(" and ")
        ),
        "native XDP does not see such a tag, and sends the packet on without it, into another VLAN",
        switch_off(nic, features, &on),
    ))
}
