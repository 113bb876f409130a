//! What takes the balancer's outer header off.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::Family;
use super::Real;
use crate::doctor::catalogue::Severity;
use crate::doctor::report::Answer;
use crate::doctor::report::Mend;
use crate::reason::decap_results;

pub(super) fn missing(real: &Real, family: Family) -> Option<Answer> {
    if !real.serves(family) {
        return None;
    }
    let ready = real.tunnels(family).any(|tunnel| tunnel.link.up && tunnel.remote.is_none());
    match &real.decap {
        // Whether it is on an interface is another question.
        Some(Ok(_)) => return Some(Answer::Well),
        _ if ready => return Some(Answer::Well),
        Some(Err(why)) => return Some(Answer::Unknown(why.clone())),
        None => {}
    }
    let attach = attach(real, real.uplink(), &[]);
    let tunnel = real.tunnels(family).find(|tunnel| tunnel.remote.is_none());
    let (what, mend) = match (tunnel, real.tunnels(family).next()) {
        (Some(tunnel), _) => {
            let name = &tunnel.link.name;
            (format!("tunnel {name} is down"), Mend::Command(format!("ip link set {name} up")))
        }
        (None, Some(tunnel)) => {
            (format!("tunnel {} takes packets from one sender only", tunnel.link.name), attach)
        }
        (None, None) => {
            (format!("nothing takes an outer header off {} packets", family.name()), attach)
        }
    };
    Some(Answer::hurts(
        Severity::Error,
        what,
        "packets of the balancer, which come from many senders, are dropped or refused by the kernel",
        mend,
    ))
}

/// Begins to decapsulate on an interface, for these addresses or for its own.
fn attach(real: &Real, interface: Option<&str>, addresses: &[IpAddr]) -> Mend {
    let mut command = format!("{} decap attach {}", real.lbctl, interface.unwrap_or("INTERFACE"));
    for address in addresses {
        // Writing to a String does not fail.
        let _ = write!(command, " --address {address}");
    }
    match interface {
        Some(_) => Mend::Command(command),
        None => Mend::Advice(format!("'{command}', where the balancers' packets come in")),
    }
}

pub(super) fn detached(real: &Real) -> Option<Answer> {
    let decap = real.xdp()?;
    let lost =
        decap.interfaces.iter().find(|(_, mode)| mode.is_none()).map(|(name, _)| name.as_str());
    if lost.is_none() && !decap.interfaces.is_empty() {
        return Some(Answer::Well);
    }
    let addresses: Vec<_> = decap.addresses.iter().copied().collect();
    Some(Answer::hurts(
        Severity::Error,
        match lost {
            Some(name) => format!("decapsulation is not on interface {name} any more"),
            None => "decapsulation is not on its interface any more".to_owned(),
        },
        "encapsulated packets reach the kernel as they are",
        attach(real, lost.or_else(|| real.uplink()), &addresses),
    ))
}

pub(super) fn other_destination(real: &Real) -> Option<Answer> {
    let decap = real.xdp()?;
    let packets = |name| decap.results.get(name).map_or(0, |count| count.packets);
    let other = packets("other_destination");
    if other == 0 {
        return Some(Answer::Well);
    }
    let taken: u64 = decap_results()
        .iter()
        .filter(|result| result.name.contains("_in_"))
        .map(|result| packets(result.name))
        .sum();
    let addresses: Vec<_> = decap.addresses.iter().map(ToString::to_string).collect();
    let addresses = addresses.join(", ");
    Some(Answer::hurts(
        if taken == 0 { Severity::Warning } else { Severity::Note },
        format!("{other} encapsulated packets came for other addresses than {addresses}"),
        "if the balancers know this real by another address, it does not serve them; other tunnels are none of it",
        Mend::Advice(format!(
            "'{} decap attach INTERFACE --address ADDRESS' for each address in the balancers' configuration",
            real.lbctl
        )),
    ))
}
