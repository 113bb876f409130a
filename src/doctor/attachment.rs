//! Whether our programs are, or can be, on an interface.

use super::catalogue::FindingId;
use super::catalogue::Severity;
use super::nic::Attachment;
use super::nic::Nic;
use super::report::Answer;
use super::report::Check;
use super::report::Mend;
use crate::config::XdpMode;

pub(super) const CHECKS: &[Check<Nic>] = &[
    (FindingId::InterfaceMissing, missing),
    (FindingId::InterfaceDown, down),
    (FindingId::BondInterface, bond),
    (FindingId::NotAttached, not_attached),
    (FindingId::ForeignProgram, foreign),
    (FindingId::GenericMode, generic_mode),
];

/// What to say of an interface that should run our programs.
pub(super) const LOST: &str = "the instance serves it, but its programs are not on it any more";
pub(super) const LOST_WHY: &str = "what comes in by it for the VIPs reaches nobody who knows them";

fn missing(nic: &Nic) -> Option<Answer> {
    if nic.link.is_some() {
        return Some(Answer::Well);
    }
    Some(Answer::hurts(
        Severity::Error,
        "there is no such interface here",
        "packets for the VIPs do not come in by it",
        Mend::Advice(
            "'ip link' lists the interfaces there are; correct the configuration".to_owned(),
        ),
    ))
}

fn down(nic: &Nic) -> Option<Answer> {
    let Nic { name, link, .. } = nic;
    let link = &link.as_ref()?.link;
    let why = "no packet comes in or goes out";
    Some(if !link.up {
        let mend = Mend::Command(format!("ip link set {name} up"));
        Answer::hurts(Severity::Error, "it is down", why, mend)
    } else if !link.carrier {
        let mend = Mend::Advice("check the cable, or the other end".to_owned());
        Answer::hurts(Severity::Error, "it is up, but has no carrier", why, mend)
    } else {
        Answer::Well
    })
}

fn bond(nic: &Nic) -> Option<Answer> {
    if nic.link.as_ref()?.kind.as_deref() != Some("bond") {
        return None;
    }
    Some(Answer::hurts(
        Severity::Error,
        "it is a bond",
        "in native mode its members run the program, a packet says by which of them it came in, and none of \
         them is served: packets for VIPs reach the kernel",
        Mend::Advice(format!(
            "name its members as [[interfaces]] instead: cat /sys/class/net/{}/bonding/slaves",
            nic.name
        )),
    ))
}

fn not_attached(nic: &Nic) -> Option<Answer> {
    match nic.attachment {
        Attachment::NotYet => None,
        Attachment::Runs(_) => Some(Answer::Well),
        Attachment::Lost => {
            Some(Answer::hurts(Severity::Error, LOST, LOST_WHY, Mend::Command(nic.reapply.clone())))
        }
    }
}

fn foreign(nic: &Nic) -> Option<Answer> {
    nic.link.as_ref()?;
    let Some((what, command)) = &nic.foreign else { return Some(Answer::Well) };
    Some(Answer::hurts(
        Severity::Error,
        what.clone(),
        "an interface runs one XDP program; lbctl replaces none that is not its own",
        match command {
            Some(command) => Mend::Command(command.clone()),
            None => Mend::Advice(
                "take it out of the other instance's configuration, or out of this one's"
                    .to_owned(),
            ),
        },
    ))
}

fn generic_mode(nic: &Nic) -> Option<Answer> {
    nic.link.as_ref()?;
    if !nic.is_generic() {
        return Some(match (&nic.native, nic.attachment) {
            (Err(missing), Attachment::NotYet) if nic.asked == XdpMode::Auto => missing.answer(),
            _ => Answer::Well,
        });
    }
    let why = "the kernel has made a packet of its own of each before the program sees it: slower";
    Some(if nic.asked == XdpMode::Generic {
        Answer::hurts(
            Severity::Note,
            "generic mode, as it was asked for",
            why,
            Mend::Advice("leave xdp_mode out, if the driver has native XDP".to_owned()),
        )
    } else {
        Answer::hurts(
            Severity::Warning,
            if nic.attachment == Attachment::NotYet {
                "it will run in generic mode"
            } else {
                "it runs in generic mode"
            },
            why,
            Mend::Advice(
                "'lbctl apply' with xdp_mode = \"native\" switches over, or says what the driver has against it; \
                 findings native-… tell known reasons"
                    .to_owned(),
            ),
        )
    })
}
