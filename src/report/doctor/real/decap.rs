//! What takes the balancer's outer header off.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::Family;
use super::Real;
use super::Vip;
use crate::control::decap;
use crate::control::decap::DecapStatus;
use crate::control::decap::Followed;
use crate::control::decap::Request;
use crate::model::abi::consts;
use crate::model::config::PacketsConfig;
use crate::model::prefix::Prefix;
use crate::model::reason::decap_results;
use crate::report::doctor::catalogue::Severity;
use crate::report::doctor::report::Answer;
use crate::report::doctor::report::Fix;

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
    let attach = attach(real, real.uplink(), &from_balancers(Request::default()));
    let tunnel = real.tunnels(family).find(|tunnel| tunnel.remote.is_none());
    let (what, fix) = match (tunnel, real.tunnels(family).next()) {
        (Some(tunnel), _) => {
            let name = &tunnel.link.name;
            (format!("tunnel {name} is down"), Fix::Command(format!("ip link set {name} up")))
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
        fix,
    ))
}

/// Where balancers send from, unless their configuration says otherwise.
fn from_balancers(request: Request) -> Request {
    let packets = PacketsConfig::default();
    Request { from: [packets.source_v4().into(), packets.source_v6().into()].into(), ..request }
}

/// What was asked for an interface.
fn asked(decap: &DecapStatus, interface: &str) -> Request {
    decap.requests.get(interface).or_else(|| decap.lost.get(interface)).cloned().unwrap_or_default()
}

/// Begins to decapsulate on an interface.
fn attach(real: &Real, interface: Option<&str>, request: &Request) -> Fix {
    let command = command(real, interface.unwrap_or("INTERFACE"), request);
    match interface {
        Some(_) => Fix::Command(command),
        None => Fix::Advice(format!("'{command}', where the balancers' packets come in")),
    }
}

fn command(real: &Real, interface: &str, request: &Request) -> String {
    let mut command = format!("{} decap attach {interface}", real.lbctl);
    // Writing to a String does not fail.
    for address in &request.addresses {
        let _ = write!(command, " --address {address}");
    }
    for (option, prefixes) in [("--from", &request.from), ("--to", &request.to)] {
        for prefix in prefixes {
            let _ = write!(command, " {option} {}", decap::prefix_name(prefix));
        }
    }
    command
}

/// One command for each of these interfaces, with what was asked for them.
fn attach_all<'a>(
    real: &Real,
    decap: &DecapStatus,
    interfaces: impl Iterator<Item = &'a String>,
    change: impl Fn(Request) -> Request,
) -> Fix {
    let commands: Vec<_> =
        interfaces.map(|name| command(real, name, &change(asked(decap, name)))).collect();
    Fix::Command(commands.join("; "))
}

fn packets(decap: &DecapStatus, name: &str) -> u64 {
    decap.results.get(name).map_or(0, |count| count.packets)
}

pub(super) fn detached(real: &Real) -> Option<Answer> {
    let decap = real.xdp()?;
    let lost =
        decap.interfaces.iter().find(|(_, mode)| mode.is_none()).map(|(name, _)| name.as_str());
    // One that is gone is a fault only if it was the last one.
    let there = |name: &&String| real.link(name).is_some();
    let lost = lost.or_else(|| decap.lost.keys().find(there).map(String::as_str));
    if lost.is_none() && !decap.interfaces.is_empty() {
        return Some(Answer::Well);
    }
    let request = match lost {
        Some(name) => asked(decap, name),
        None => decap
            .lost
            .values()
            .next()
            .cloned()
            .unwrap_or_else(|| from_balancers(Request::default())),
    };
    Some(Answer::hurts(
        Severity::Error,
        match lost {
            Some(name) => format!("decapsulation is not on interface {name} any more"),
            None => "decapsulation is not on its interface any more".to_owned(),
        },
        "encapsulated packets reach the kernel as they are",
        attach(real, lost.or_else(|| real.uplink()), &request),
    ))
}

pub(super) fn open(real: &Real) -> Option<Answer> {
    let decap = real.xdp()?;
    let open = || decap.requests.iter().filter(|(_, request)| request.from.is_empty());
    // What is in force: that of an interface that is gone may still be.
    if !decap.anybody_may_send && open().next().is_none() {
        return Some(Answer::Well);
    }
    let names: Vec<_> = open().map(|(name, _)| name.as_str()).collect();
    let (names, fix) = if names.is_empty() {
        let fix = match decap.requests.iter().next() {
            // What is in force is written anew with it.
            Some((name, request)) => Fix::Command(command(real, name, request)),
            None => Fix::Command(format!("{} decap detach", real.lbctl)),
        };
        ("an interface that is gone".to_owned(), fix)
    } else {
        let fix = attach_all(real, decap, open().map(|(name, _)| name), from_balancers);
        (names.join(", "), fix)
    };
    Some(Answer::hurts(
        Severity::Warning,
        format!(
            "decapsulation takes packets from any outer source: it was attached to {names} without --from"
        ),
        "whoever can send to this host reaches the VIPs with any inner source, past filters that see the outer header \
         only; the prefixes are packets.encap_source_v4 and _v6 of the balancers, here their defaults",
        fix,
    ))
}

/// The program asks the kernel by the interface that a packet came in by, which is not always the one that the
/// kernel goes by itself.
pub(super) fn wide(real: &Real) -> Option<Answer> {
    let decap = real.xdp()?;
    let family = |prefix: &Prefix| usize::from(prefix.address().is_ipv6());
    let own = |prefix: &Prefix| real.own.iter().any(|own| own.covers(*prefix));
    let wide: Vec<_> = decap
        .to
        .iter()
        .filter(|prefix| real.forwarding[family(prefix)] == Some(true) && !own(prefix))
        .map(decap::prefix_name)
        .collect();
    if wide.is_empty() {
        return Some(Answer::Well);
    }
    Some(Answer::hurts(
        Severity::Warning,
        format!(
            "the host forwards, and packets inside may be for more than its own addresses: {}",
            wide.join(", ")
        ),
        "where the kernel judges by another interface than the program can, as on members of a bond, this host is a relay \
         past filters that see the outer header only (docs/decap.md)",
        Fix::Advice(format!(
            "'{} decap attach INTERFACE' without --to takes what the host has by its loopback devices; or name only \
             addresses that it has; or turn forwarding off",
            real.lbctl
        )),
    ))
}

pub(super) fn own_left_out(real: &Real) -> Option<Answer> {
    let decap = real.xdp()?;
    let left_out = decap.own_addresses_left_out;
    if left_out == 0 {
        return Some(Answer::Well);
    }
    Some(Answer::hurts(
        Severity::Warning,
        format!("decapsulation has no room for {left_out} addresses of this host"),
        "packets inside that come from one of them are not refused: for IPv4 Linux does it, for IPv6 nobody",
        Fix::Advice(format!(
            "have fewer than {} addresses: one route for all of a prefix will do, 'ip route add local PREFIX dev lo'",
            consts::DECAP_MAX_ADDRESSES
        )),
    ))
}

pub(super) fn outdated(real: &Real) -> Option<Answer> {
    let decap = real.xdp()?;
    if real.outdated.is_empty() {
        return Some(Answer::Well);
    }
    if decap.requests.is_empty() {
        // Another finding says so.
        return None;
    }
    let Followed { added, removed, to_added, to_removed, from_added, from_removed, anybody } =
        &real.outdated;
    let anybody = anybody.map(|may| if may { "anybody" } else { "no longer anybody" });
    let changes = [
        ("outer destinations that came", list(added.iter().map(ToString::to_string))),
        ("inner ones that came", list(to_added.iter().map(decap::prefix_name))),
        ("outer destinations that went", list(removed.iter().map(ToString::to_string))),
        ("inner ones that went", list(to_removed.iter().map(decap::prefix_name))),
        ("outer sources that came", list(from_added.iter().map(decap::prefix_name))),
        ("outer sources that went", list(from_removed.iter().map(decap::prefix_name))),
        ("who may send", list(anybody.into_iter().map(str::to_owned))),
    ];
    let changes: Vec<_> = changes
        .iter()
        .filter(|(_, addresses)| !addresses.is_empty())
        .map(|(what, addresses)| format!("{what}: {addresses}"))
        .collect();
    let loses = !added.is_empty() || !to_added.is_empty();
    Some(Answer::hurts(
        if loses { Severity::Error } else { Severity::Warning },
        format!(
            "the host's addresses or interfaces have changed since they were read; {}",
            changes.join("; ")
        ),
        if loses {
            "packets for addresses that came are dropped, or not decapsulated; 'lbctl decap serve' follows by itself"
        } else {
            "packets that are no longer to be decapsulated still are; 'lbctl decap serve' follows by itself"
        },
        attach_all(real, decap, decap.requests.keys(), |request| request),
    ))
}

pub(super) fn vip_refused(real: &Real, vip: &Vip) -> Option<Answer> {
    let decap = real.xdp()?;
    if decap.to.iter().any(|prefix| prefix.contains(vip.address)) {
        return Some(Answer::Well);
    }
    // Another finding says so.
    if real.outdated.to_added.iter().any(|prefix| prefix.contains(vip.address)) {
        return None;
    }
    let add = |mut request: Request| {
        // What is followed would not be with it.
        let to = if request.to.is_empty() { &decap.to } else { &BTreeSet::new() };
        request.to.extend(to);
        request.to.insert(Prefix::from(vip.address));
        request
    };
    Some(Answer::hurts(
        Severity::Error,
        "it is no inner destination of decapsulation: neither on a loopback device nor among --to",
        "its packets are dropped once they came out of the outer header (unknown_inner_destination)",
        attach_all(real, decap, decap.requests.keys().take(1), add),
    ))
}

pub(super) fn refused(real: &Real) -> Option<Answer> {
    let decap = real.xdp()?;
    let refusals = [
        "unknown_source",
        "unknown_inner_destination",
        "bad_inner_source",
        "would_be_forwarded",
        "malformed",
    ];
    let counts: Vec<_> = refusals
        .iter()
        .filter(|name| packets(decap, name) != 0)
        .map(|name| format!("{} {name}", packets(decap, name)))
        .collect();
    if counts.is_empty() {
        return Some(Answer::Well);
    }
    Some(Answer::hurts(
        Severity::Note,
        format!("encapsulated packets to this host were dropped: {}", counts.join(", ")),
        "somebody else than the balancers sends them, or a balancer uses another source (unknown_source) or a VIP that this \
         host does not have (unknown_inner_destination, would_be_forwarded)",
        Fix::Advice(format!(
            "'{} dump ip proto 4 or ip proto 41 or ip6 proto 4 or ip6 proto 41' shows who; docs/decap.md says what each means",
            real.lbctl
        )),
    ))
}

pub(super) fn fragments(real: &Real) -> Option<Answer> {
    let decap = real.xdp()?;
    let fragments = packets(decap, "outer_fragment");
    if fragments == 0 {
        return Some(Answer::Well);
    }
    Some(Answer::hurts(
        Severity::Warning,
        format!("{fragments} pieces of encapsulated packets came: routers cut them on the way from the balancers"),
        "they cannot be put together again, as all have the same id, and are dropped: large packets are lost, connections hang",
        Fix::Advice(
            "raise the MTU on the way from the balancers, or lower 'advmss' of the route to clients here (finding mss); \
             'outer_df = true' in the balancers' [packets] has routers drop such packets instead of cutting them"
                .to_owned(),
        ),
    ))
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

pub(super) fn other_destination(real: &Real) -> Option<Answer> {
    let decap = real.xdp()?;
    let other = packets(decap, "other_destination");
    if other == 0 {
        return Some(Answer::Well);
    }
    let taken: u64 = decap_results()
        .iter()
        .filter(|result| result.name.contains("_in_"))
        .map(|result| packets(decap, result.name))
        .sum();
    let addresses: Vec<_> = decap.addresses.iter().map(ToString::to_string).collect();
    let addresses = addresses.join(", ");
    Some(Answer::hurts(
        if taken == 0 { Severity::Warning } else { Severity::Note },
        format!("{other} encapsulated packets came for other addresses than {addresses}"),
        "if the balancers know this real by another address, it does not serve them; other tunnels are none of it",
        Fix::Advice(format!(
            "'{} decap attach INTERFACE --address ADDRESS' for each address in the balancers' configuration",
            real.lbctl
        )),
    ))
}
