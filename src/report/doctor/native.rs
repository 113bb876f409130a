//! What native XDP needs from a driver, and why some drivers refuse it.

use super::catalogue::FindingId;
use super::catalogue::Severity;
use super::nic::Attachment;
use super::nic::Nic;
use super::nic::PAGE_MTU;
use super::report::Answer;
use super::report::Check;
use super::report::Fix;
use crate::kernel::netlink::Channels;
use crate::model::config::XdpMode;

pub(super) const CHECKS: &[Check<Nic>] = &[
    (FindingId::NativeUnsupported, unsupported),
    (FindingId::NativeMtu, mtu),
    (FindingId::NativeQueues, queues),
    (FindingId::SharedTransmitQueues, shared_transmit_queues),
    (FindingId::VethPeer, veth_peer),
];

fn runs_native(nic: &Nic) -> bool {
    nic.attachment == Attachment::Runs(XdpMode::Native)
}

/// What happens if the driver refuses.
fn consequence(nic: &Nic) -> &'static str {
    match nic.asked {
        XdpMode::Native => "xdp_mode is \"native\": an apply fails",
        XdpMode::Auto | XdpMode::Generic => "the slower generic mode takes its place",
    }
}

fn unsupported(nic: &Nic) -> Option<Answer> {
    nic.link.as_ref().filter(|_| nic.wants_native())?;
    if runs_native(nic) {
        return Some(Answer::Well);
    }
    Some(match &nic.native {
        Ok(true) => Answer::Well,
        Err(missing) => missing.answer(),
        Ok(false) => Answer::hurts(
            nic.refusal(),
            format!("its driver{} has no native XDP", named(&nic.driver)),
            consequence(nic),
            Fix::Advice(
                "use another card, or a newer driver; if it is a VLAN or a bridge, name the interface below it"
                    .to_owned(),
            ),
        ),
    })
}

fn named(driver: &str) -> String {
    if driver.is_empty() { String::new() } else { format!(" ({driver})") }
}

fn mtu(nic: &Nic) -> Option<Answer> {
    let link = nic.link.as_ref().filter(|_| nic.wants_native())?;
    if runs_native(nic) {
        return Some(Answer::Well);
    }
    // The other end's MTU limits the frames that a veth receives.
    let (name, mtu, elsewhere) = match &nic.peer {
        Some(Ok(peer)) => (&peer.name, peer.mtu, peer.tx_queues.is_none()),
        Some(Err(missing)) => return Some(missing.answer()),
        None => (&nic.name, link.link.mtu, false),
    };
    if mtu <= PAGE_MTU {
        return Some(Answer::Well);
    }
    let whose = if nic.peer.is_some() { "its other end's MTU" } else { "its MTU" };
    Some(Answer::hurts(
        nic.refusal(),
        format!("{whose} of {mtu} is more than {PAGE_MTU}"),
        format!("native XDP takes frames within one page of memory; {}", consequence(nic)),
        if elsewhere {
            Fix::Advice(format!("where {name} is: ip link set {name} mtu {PAGE_MTU}"))
        } else {
            Fix::Command(format!("ip link set {name} mtu {PAGE_MTU}"))
        },
    ))
}

/// Drivers that refuse native XDP if more than half of the card's queues are in use: XDP needs as many queues of its own
/// to send.
pub(super) const HALF_OF_QUEUES: [&str; 2] = ["ena", "gve"];

fn queues(nic: &Nic) -> Option<Answer> {
    nic.link.as_ref().filter(|_| nic.wants_native())?;
    let veth = nic.peer.is_some();
    if !veth && !HALF_OF_QUEUES.contains(&nic.driver.as_str()) {
        return None;
    }
    if runs_native(nic) {
        return Some(Answer::Well);
    }
    let channels = match &nic.channels {
        Ok(channels) => channels,
        Err(missing) => return Some(missing.answer()),
    };
    let (name, why) = (&nic.name, consequence(nic));
    if let Some(peer) = &nic.peer {
        let peer = match peer {
            Ok(peer) => peer,
            Err(missing) => return Some(missing.answer()),
        };
        let Some(theirs) = peer.tx_queues else {
            let why = "its other end's queues are in another network namespace";
            return Some(Answer::Unknown(why.to_owned()));
        };
        let ours = channels.receiving();
        if ours >= theirs {
            return Some(Answer::Well);
        }
        return Some(Answer::hurts(
            nic.refusal(),
            format!(
                "it has {ours} receive queue{}, and its other end, {}, has {theirs} transmit queues",
                if ours == 1 { "" } else { "s" },
                peer.name
            ),
            format!("native XDP on a veth needs as many receive queues; {why}"),
            if channels.rx_max >= theirs {
                Fix::Command(format!("ethtool -L {name} rx {theirs}"))
            } else {
                Fix::Command(format!("ethtool -L {} tx {}", peer.name, channels.rx_max))
            },
        ));
    }
    let (used, most) = in_use(channels);
    let half = most / 2;
    if used <= half {
        return Some(Answer::Well);
    }
    Some(Answer::hurts(
        nic.refusal(),
        format!(
            "{used} of {most} queues are in use, and the driver ({}) runs native XDP with at most {half}",
            nic.driver
        ),
        format!("XDP needs as many queues of its own to send; {why}"),
        Fix::Command(set_queues(nic, channels, half.max(1))),
    ))
}

/// How many queues are in use, and how many there could be.
pub(super) fn in_use(channels: &Channels) -> (u32, u32) {
    if channels.combined_max > 0 {
        (channels.combined, channels.combined_max)
    } else {
        (channels.rx, channels.rx_max)
    }
}

/// The command that gives a card as many receive queues.
pub(super) fn set_queues(nic: &Nic, channels: &Channels, count: u32) -> String {
    let name = &nic.name;
    if channels.combined_max > 0 {
        format!("ethtool -L {name} combined {count}")
    } else if HALF_OF_QUEUES.contains(&nic.driver.as_str()) {
        // Native XDP with such a driver (gve) needs as many of either kind.
        format!("ethtool -L {name} rx {count} tx {count}")
    } else {
        format!("ethtool -L {name} rx {count}")
    }
}

/// For what XDP sends, `virtio_net` takes a queue for each CPU, beside those in use. If there are too few, XDP shares the
/// kernel's queues, under a lock. Kernels older than [`MINIMUM_KERNEL`](crate::MINIMUM_KERNEL) refuse instead.
fn shared_transmit_queues(nic: &Nic) -> Option<Answer> {
    nic.link.as_ref().filter(|_| nic.wants_native() && nic.driver == "virtio_net")?;
    let (channels, cpus) = match nic.channels_and_cpus() {
        Ok(both) => both,
        Err(answer) => return Some(answer),
    };
    let (used, most) = (channels.combined, channels.combined_max);
    if used + cpus <= most {
        return Some(Answer::Well);
    }
    let free = most.saturating_sub(cpus);
    Some(Answer::hurts(
        Severity::Warning,
        format!(
            "{used} of {most} queues are in use, and native XDP needs one more for each of {cpus} CPUs"
        ),
        "XDP shares the kernel's queues, under a lock: the more CPUs, the slower",
        if free == 0 {
            Fix::Advice(format!("give the virtual machine {} queues", 2 * cpus))
        } else {
            Fix::Command(format!("ethtool -L {} combined {free}", nic.name))
        },
    ))
}

fn veth_peer(nic: &Nic) -> Option<Answer> {
    let peer = nic.peer.as_ref().filter(|_| nic.wants_native() && !nic.is_generic())?;
    Some(match peer {
        Err(missing) => missing.answer(),
        Ok(peer) if peer.native_xdp => Answer::Well,
        Ok(peer) => Answer::hurts(
            Severity::Error,
            format!("its other end, {}, runs no XDP program in native mode", peer.name),
            "a veth drops what XDP sends to such an end, and counts nothing",
            if peer.tx_queues.is_some() {
                Fix::Command(format!(
                    "{0} --instance {1} decap attach {1} --xdp-mode native --address 192.0.2.0",
                    nic.lbctl, peer.name
                ))
            } else {
                Fix::Advice(format!(
                    "attach one where {0} is, such as 'lbctl decap attach {0} --xdp-mode native' (any program will \
                     do); or set xdp_mode = \"generic\"",
                    peer.name
                ))
            },
        ),
    })
}
