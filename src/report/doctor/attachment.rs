//! Whether l4lb's programs are, or can be, on an interface.

use super::catalogue::FindingId;
use super::catalogue::Severity;
use super::nic::Attachment;
use super::nic::Nic;
use super::report::Answer;
use super::report::Check;
use super::report::Fix;
use crate::model::config::XdpMode;
use crate::observe::readiness::LinkState;
use crate::observe::readiness::Unready;

pub(super) const CHECKS: &[Check<Nic>] = &[
    (FindingId::InterfaceMissing, missing),
    (FindingId::InterfaceDown, down),
    (FindingId::BondInterface, bond),
    (FindingId::NotAttached, not_attached),
    (FindingId::ForeignProgram, foreign),
    (FindingId::GenericMode, generic_mode),
];

const LOST_WHY: &str = "packets for the VIPs that come in there are not balanced";

/// The finding about an interface that the instance serves, and that does not run its programs.
pub(super) fn lost(why: &Unready, command: &str) -> Answer {
    let fix = match why {
        Unready::NotAttached(_) => Fix::Command(command.to_owned()),
        why => Fix::Advice(why.fix()),
    };
    Answer::hurts(Severity::Error, why.what(), LOST_WHY, fix)
}

fn missing(nic: &Nic) -> Option<Answer> {
    if nic.attachment == Attachment::Elsewhere {
        return None;
    }
    Some(match LinkState::of(nic.link.as_ref().map(|facts| &facts.link)) {
        LinkState::Missing => lost(&Unready::InterfaceMissing(nic.name.clone()), &nic.reapply),
        _ => Answer::Well,
    })
}

fn down(nic: &Nic) -> Option<Answer> {
    let state = LinkState::of(Some(&nic.link.as_ref()?.link));
    let Some(unready) = state.unready(&nic.name) else { return Some(Answer::Well) };
    let fix = match state {
        LinkState::Down => Fix::Command(unready.fix()),
        _ => Fix::Advice(unready.fix()),
    };
    let why = "no packet comes in or goes out";
    Some(Answer::hurts(Severity::Error, unready.what(), why, fix))
}

fn bond(nic: &Nic) -> Option<Answer> {
    if nic.link.as_ref()?.kind.as_deref() != Some("bond") {
        return None;
    }
    Some(Answer::hurts(
        Severity::Error,
        "it is a bond",
        "in native mode its members run the program, and the program sees a member as the interface of a packet; the \
         instance serves no member, so packets for VIPs reach the kernel",
        Fix::Advice(format!(
            "name its members as [[interfaces]] instead: cat /sys/class/net/{}/bonding/slaves",
            nic.name
        )),
    ))
}

fn not_attached(nic: &Nic) -> Option<Answer> {
    match nic.attachment {
        Attachment::NotYet => None,
        Attachment::Runs(_) => Some(Answer::Well),
        Attachment::Lost => Some(lost(&Unready::NotAttached(nic.name.clone()), &nic.reapply)),
        Attachment::Elsewhere => {
            Some(lost(&Unready::OtherNamespace(nic.name.clone()), &nic.reapply))
        }
    }
}

fn foreign(nic: &Nic) -> Option<Answer> {
    nic.link.as_ref()?;
    let Some((what, command)) = &nic.foreign else { return Some(Answer::Well) };
    Some(Answer::hurts(
        Severity::Error,
        what.clone(),
        "an interface runs one XDP program, and lbctl replaces only its own",
        match command {
            Some(command) => Fix::Command(command.clone()),
            None => Fix::Advice(
                "take the interface out of the other instance's configuration, or out of this one's"
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
    let why = "the kernel makes a socket buffer for each packet before the program sees it, which is slower";
    Some(if nic.asked == XdpMode::Generic {
        Answer::hurts(
            Severity::Note,
            "it runs in generic mode, as xdp_mode asks for",
            why,
            Fix::Advice("leave xdp_mode out, if the driver has native XDP".to_owned()),
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
            Fix::Advice(
                "'lbctl apply' with xdp_mode = \"native\" switches over, or says why the driver refuses; \
                 the findings native-… name known reasons"
                    .to_owned(),
            ),
        )
    })
}
