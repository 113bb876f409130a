//! Decapsulation, and tunnel devices, which also take the balancer's outer header off.

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
use crate::model::config::Encapsulation;
use crate::model::config::PacketsConfig;
use crate::model::prefix::Prefix;
use crate::model::reason::decap_results;
use crate::report::doctor::catalogue::Severity;
use crate::report::doctor::report::Answer;
use crate::report::doctor::report::Fix;

pub(super) fn missing(real: &Real, family: Family) -> Option<Answer> {
    if !real.serves(family) || real.gets_no_outer_header() {
        return None;
    }
    if let Some(answer) = gue_missing(real) {
        return Some(answer);
    }
    let ready = real.tunnels(family).any(|tunnel| tunnel.link.up && tunnel.remote.is_none());
    match &real.decap {
        // Finding decap-detached says whether it is on an interface.
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
        (None, Some(tunnel)) => (
            format!("tunnel {} takes packets from one outer source only", tunnel.link.name),
            attach,
        ),
        (None, None) => {
            (format!("nothing takes an outer header off {} packets", family.name()), attach)
        }
    };
    Some(Answer::hurts(
        Severity::Error,
        what,
        "the kernel drops or refuses the balancer's packets, unless they come by l2. --from names its sources by default: \
         put its encap_source_v4 and encap_source_v6 in their place",
        fix,
    ))
}

/// What is missing if packets come by GUE; `None`: nothing, or they do not.
fn gue_missing(real: &Real) -> Option<Answer> {
    if !real.ways.contains(&Encapsulation::Gue) {
        return None;
    }
    let what = match (&real.decap, &real.udp_ports) {
        (Some(Ok(decap)), _) if !decap.gue_ports.is_empty() => return None,
        (Some(Ok(_)), _) => "decapsulation takes no GUE (--gue-port none)".to_owned(),
        (Some(Err(_)), _) | (None, None) => return None,
        (None, Some(Err(why))) => return Some(Answer::Unknown(why.clone())),
        (None, Some(Ok(ports))) => {
            let usual = [0, 1].map(PacketsConfig::default_gue_port);
            // The port may be another one, which only the balancers know.
            if usual.iter().any(|port| ports.contains(port)) {
                return None;
            }
            format!("nothing takes GUE at UDP port {} or {}", usual[1], usual[0])
        }
    };
    let request = real.uplink().and_then(|name| Some(asked(real.xdp()?, name)));
    let request = Request { gue_ports: None, ..request.unwrap_or_default() };
    let request = if request.from.is_empty() { from_balancers(request) } else { request };
    Some(Answer::hurts(
        Severity::Error,
        what,
        "the kernel answers \"port unreachable\", and drops the balancer's packets. --from names the sources of balancers: put \
         their encap_source_v4 and encap_source_v6 there. Or use Linux' own: ip fou add port 6080 gue, and tunnel devices",
        attach(real, real.uplink(), &request),
    ))
}

/// Adds the outer sources that balancers use by default.
fn from_balancers(request: Request) -> Request {
    let packets = PacketsConfig::default();
    Request { from: [packets.source_v4().into(), packets.source_v6().into()].into(), ..request }
}

/// What was asked for an interface.
fn asked(decap: &DecapStatus, interface: &str) -> Request {
    decap.requests.get(interface).or_else(|| decap.lost.get(interface)).cloned().unwrap_or_default()
}

/// The command that attaches decapsulation to an interface.
fn attach(real: &Real, interface: Option<&str>, request: &Request) -> Fix {
    let command = command(real, interface.unwrap_or("INTERFACE"), request);
    match interface {
        Some(_) => Fix::Command(command),
        None => Fix::Advice(format!(
            "'{command}', where INTERFACE is the one that the balancers' packets come in by"
        )),
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
    if let Some(mss) = request.mss {
        let _ = write!(command, " --mss {mss}");
    }
    if let Some(ports) = &request.gue_ports {
        if ports.is_empty() {
            command.push_str(" --gue-port none");
        }
        for port in ports {
            let _ = write!(command, " --gue-port {port}");
        }
    }
    command
}

/// One command for each of these interfaces, with what was asked for them.
pub(super) fn attach_all<'a>(
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
    // An interface that is gone is a fault only if it was the last one.
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
            Some(name) => format!("decapsulation is no longer on interface {name}"),
            None => "decapsulation is no longer on its interface".to_owned(),
        },
        "encapsulated packets reach the kernel as they are",
        attach(real, lost.or_else(|| real.uplink()), &request),
    ))
}

pub(super) fn open(real: &Real) -> Option<Answer> {
    let decap = real.xdp()?;
    let open = || decap.requests.iter().filter(|(_, request)| request.from.is_empty());
    // The request of an interface that is gone may still be in force.
    if !decap.anybody_may_send && open().next().is_none() {
        return Some(Answer::Well);
    }
    let names: Vec<_> = open().map(|(name, _)| name.as_str()).collect();
    let (names, fix) = if names.is_empty() {
        let fix = match decap.requests.iter().next() {
            // This command writes anew what is in force.
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
        "any host that can send to this one reaches the VIPs with any inner source, past filters that see only the outer \
         header; name the balancers' packets.encap_source_v4 and _v6 by --from (the defaults are shown here)",
        fix,
    ))
}

/// The program asks the kernel's routing with the interface that a packet came in by. The kernel itself may use another.
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
            "the host forwards, and inner packets may be for more than its own addresses: {}",
            wide.join(", ")
        ),
        "if the kernel routes by another interface than the program can ask for, as on members of a bond, this host \
         relays packets past filters that see only the outer header (docs/decap.md)",
        Fix::Advice(format!(
            "run '{} decap attach INTERFACE' without --to, which takes the addresses of the loopback devices; or name \
             only addresses that the host has; or switch forwarding off",
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
        "decapsulation does not refuse inner packets with such a source; Linux refuses them for IPv4, but not for IPv6",
        Fix::Advice(format!(
            "have fewer than {} addresses; one route can replace those of a prefix: 'ip route add local PREFIX dev lo'",
            consts::DECAP_MAX_ADDRESSES
        )),
    ))
}

pub(super) fn gue_port(real: &Real) -> Option<Answer> {
    let decap = real.xdp()?;
    let Some((port, holder)) = real.listening.iter().next() else { return Some(Answer::Well) };
    let taken = decap.gue_ports.contains(port);
    Some(Answer::hurts(
        Severity::Warning,
        if taken {
            format!(
                "{holder} listens on UDP port {port}, and gets nothing: decapsulation takes it for GUE"
            )
        } else {
            format!("GUE is not taken from UDP port {port}: {holder} listens there")
        },
        if taken {
            "datagrams to the host's own address and this port are taken for balancers' packets, or dropped"
        } else {
            "if balancers send GUE to this port, this real serves nobody by it"
        },
        Fix::Advice(format!(
            "end that program; or give the ports that the balancers' [packets] gue_port has, or none: \
             '{} decap attach INTERFACE --gue-port none'",
            real.lbctl
        )),
    ))
}

pub(super) fn outdated(real: &Real) -> Option<Answer> {
    let decap = real.xdp()?;
    if real.outdated.is_empty() {
        return Some(Answer::Well);
    }
    if decap.requests.is_empty() {
        // Finding decap-detached says so.
        return None;
    }
    let Followed {
        added,
        removed,
        to_added,
        to_removed,
        from_added,
        from_removed,
        anybody,
        gue_ports_added,
        gue_ports_removed,
    } = &real.outdated;
    let anybody = anybody.map(|may| if may { "anybody" } else { "no longer anybody" });
    let changes = [
        ("new outer destinations", list(added.iter().map(ToString::to_string))),
        ("new inner destinations", list(to_added.iter().map(decap::prefix_name))),
        ("outer destinations that are gone", list(removed.iter().map(ToString::to_string))),
        ("inner destinations that are gone", list(to_removed.iter().map(decap::prefix_name))),
        ("new outer sources", list(from_added.iter().map(decap::prefix_name))),
        ("outer sources that are gone", list(from_removed.iter().map(decap::prefix_name))),
        ("who may send", list(anybody.into_iter().map(str::to_owned))),
        ("new UDP ports of GUE", list(gue_ports_added.iter().map(ToString::to_string))),
        ("UDP ports of GUE that are gone", list(gue_ports_removed.iter().map(ToString::to_string))),
    ];
    let changes: Vec<_> = changes
        .iter()
        .filter(|(_, addresses)| !addresses.is_empty())
        .map(|(what, addresses)| format!("{what}: {addresses}"))
        .collect();
    let loses = !added.is_empty() || !to_added.is_empty() || !gue_ports_added.is_empty();
    Some(Answer::hurts(
        if loses { Severity::Error } else { Severity::Warning },
        format!(
            "the host's addresses or interfaces have changed since lbctl read them; {}",
            changes.join("; ")
        ),
        if loses {
            "the real drops packets for the new addresses, or does not decapsulate them; 'lbctl decap serve' follows by itself"
        } else {
            "the real still decapsulates packets that it no longer should; 'lbctl decap serve' follows by itself"
        },
        attach_all(real, decap, decap.requests.keys(), |request| request),
    ))
}

pub(super) fn vip_refused(real: &Real, vip: &Vip) -> Option<Answer> {
    let decap = real.xdp()?;
    if decap.to.iter().any(|prefix| prefix.contains(vip.address)) {
        return Some(Answer::Well);
    }
    // Finding decap-outdated says so.
    if real.outdated.to_added.iter().any(|prefix| prefix.contains(vip.address)) {
        return None;
    }
    let add = |mut request: Request| {
        // With a VIP in --to, decapsulation no longer follows the loopback devices: name what it has from them.
        let to = if request.to.is_empty() { &decap.to } else { &BTreeSet::new() };
        request.to.extend(to);
        request.to.insert(Prefix::from(vip.address));
        request
    };
    Some(Answer::hurts(
        Severity::Error,
        "it is no inner destination of decapsulation: neither on a loopback device nor among --to",
        "decapsulation drops its packets (unknown_inner_destination)",
        attach_all(real, decap, decap.requests.keys().take(1), add),
    ))
}

/// The filter for packets that decapsulation looks into.
fn encapsulated(decap: &DecapStatus) -> String {
    let mut filter = "ip proto 4 or ip proto 41 or ip6 proto 4 or ip6 proto 41".to_owned();
    for port in &decap.gue_ports {
        // Writing to a String does not fail.
        let _ = write!(filter, " or udp dst port {port}");
    }
    filter
}

/// Whether a packet with this result is dropped.
fn is_refusal(name: &str) -> bool {
    let others = ["other_destination", "not_encapsulated"];
    !name.contains("_in_") && !others.contains(&name)
}

pub(super) fn refused(real: &Real) -> Option<Answer> {
    let decap = real.xdp()?;
    // Finding decap-fragments is about pieces.
    let refused = |name: &str| is_refusal(name) && name != "outer_fragment";
    let names = decap_results().iter().map(|result| result.name);
    let counts: Vec<_> = names
        .filter(|name| refused(name) && packets(decap, name) != 0)
        .map(|name| format!("{} {name}", packets(decap, name)))
        .collect();
    if counts.is_empty() {
        return Some(Answer::Well);
    }
    Some(Answer::hurts(
        Severity::Note,
        format!("decapsulation dropped encapsulated packets to this host: {}", counts.join(", ")),
        "the sender is no balancer, or a balancer uses another outer source (unknown_source) or a VIP that this host does \
         not have (unknown_inner_destination, would_be_forwarded)",
        Fix::Advice(format!(
            "'{} dump {}' shows the senders; docs/decap.md explains each reason",
            real.lbctl,
            encapsulated(decap)
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
        format!("{fragments} fragments of encapsulated packets came: routers fragment them on the way from the balancers"),
        "all have the same id, so nobody can reassemble them, and they are dropped: large packets are lost, and connections hang",
        Fix::Advice(
            "raise the MTU on the way from the balancers, or lower 'advmss' of the route to clients here (finding mss); \
             with 'outer_df = true' in the balancers' [packets], routers drop such packets instead of fragmenting them"
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
        "if balancers know this real by another address, decapsulation leaves their packets to the kernel; packets of other \
         tunnels do no harm",
        Fix::Advice(format!(
            "'{} decap attach INTERFACE --address ADDRESS' for each address in the balancers' configuration",
            real.lbctl
        )),
    ))
}
