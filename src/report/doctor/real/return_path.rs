//! The route from a real to clients: that there is one, that the reverse path filter accepts it, and what fits.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::Family;
use super::Real;
use super::decap::attach_all;
use crate::kernel::netlink::RouteFacts;
use crate::model::config::Encapsulation;
use crate::report::doctor::catalogue::Severity;
use crate::report::doctor::report::Answer;
use crate::report::doctor::report::Fix;

/// The MTU of most clients' networks.
const ETHERNET_MTU: u32 = 1500;

/// Bytes of a TCP header without options.
const TCP_HEADER: u32 = 20;

/// Strict: a packet must come in where an answer to its source would leave.
const STRICT: u32 = 1;

pub(super) fn no_route_back(real: &Real, family: Family) -> Option<Answer> {
    if !real.serves(family) {
        return None;
    }
    Some(match &real.back[family as usize].route {
        Some(Ok(_)) => Answer::Well,
        Some(Err(why)) => Answer::Unknown(why.clone()),
        None => Answer::hurts(
            Severity::Error,
            "there is no route to clients",
            "a real answers them itself, not by way of the balancer; without a route the kernel also drops what they \
             send, as packets from an impossible source",
            Fix::Advice(format!(
                "add one: ip{} route add default via ROUTER",
                if family == Family::V4 { "" } else { " -6" }
            )),
        ),
    })
}

pub(super) fn rp_filter(real: &Real, name: &str) -> Option<Answer> {
    let link = real.link(name).filter(|_| real.serves(Family::V4))?;
    let by_xdp = real.xdp_interfaces().any(|interface| interface == name);
    let tunnel = real.tunnels(Family::V4).any(|tunnel| tunnel.link.name == name);
    if !by_xdp && (!tunnel || real.xdp().is_some()) {
        return None;
    }
    let setting = real.settings.iter().find(|(of, _)| of == name)?.1.rp_filter;
    if setting != STRICT {
        return Some(Answer::Well);
    }
    let fix = Fix::Command("sysctl -w net.ipv4.conf.all.rp_filter=2".to_owned());
    let what = "rp_filter is 1, strict (the larger of its own and that of all)";
    if tunnel {
        return Some(Answer::hurts(
            Severity::Error,
            what,
            "decapsulated packets come in by the tunnel, and answers leave by another interface: the kernel drops them \
             (counted as IPReversePathFilter by 'nstat -az')",
            fix,
        ));
    }
    let back = real.route_back(Family::V4)?;
    let Some(index) = back.interface else {
        return Some(Answer::Unknown("the route to clients has several next hops".to_owned()));
    };
    if index == link.link.index {
        return Some(Answer::Well);
    }
    let other = real.interface_back(Family::V4).map_or("another interface", |link| &link.link.name);
    Some(Answer::hurts(
        Severity::Error,
        what,
        format!(
            "requests come in here, and answers leave by {other}: the kernel drops the requests (counted as \
             IPReversePathFilter by 'nstat -az')"
        ),
        fix,
    ))
}

/// Bytes of the longest outer header that packets may have. If nobody says by which way they come, what has come so far
/// by GUE counts: ports are open for it on every host.
fn overhead(real: &Real) -> u32 {
    if real.gets_no_outer_header() {
        return 0;
    }
    let v6 = match real.xdp() {
        Some(decap) => decap.addresses.iter().any(IpAddr::is_ipv6),
        None => real.links.iter().any(|l| l.link.up && l.kind.as_deref() == Some("ip6tnl")),
    };
    let came = |way: &str| {
        let results = real.xdp().into_iter().flat_map(|decap| &decap.results);
        results.into_iter().any(|(name, count)| name.starts_with(way) && count.packets != 0)
    };
    let gue = match (came("gue0_"), came("gue1_")) {
        (true, _) => 16,
        (false, true) => 8,
        (false, false) if real.ways.contains(&Encapsulation::Gue) => 8,
        (false, false) => 0,
    };
    gue + if v6 { Family::V6.header() } else { Family::V4.header() }
}

/// What the MSS is lowered to on the way out of an interface.
fn lowered(real: &Real, interface: &str, family: Family) -> Option<u32> {
    let mss = real.xdp()?.mss.get(interface)?;
    let bytes = if family == Family::V4 { mss.ipv4 } else { mss.ipv6 };
    bytes.map(u32::from)
}

/// `--mss` of decapsulation: that it is in force, and where answers leave.
pub(super) fn lowered_mss(real: &Real) -> Option<Answer> {
    let decap = real.xdp()?;
    let off: Vec<_> = decap.mss.iter().filter(|(_, mss)| mss.ipv4.is_none()).collect();
    if !off.is_empty() {
        let names: Vec<_> = off.iter().map(|(name, _)| name.as_str()).collect();
        return Some(Answer::hurts(
            Severity::Error,
            format!(
                "the MSS of answers that leave by {} is not lowered, as was asked",
                names.join(", ")
            ),
            "somebody took the program off the way out: clients send segments that are too long once encapsulated",
            attach_all(real, decap, off.into_iter().map(|(name, _)| name), |request| request),
        ));
    }
    if decap.mss.is_empty() {
        return Some(Answer::Well);
    }
    let elsewhere =
        Family::BOTH.into_iter().filter(|family| real.serves(*family)).find_map(|family| {
            let name = &real.interface_back(family)?.link.name;
            (!decap.mss.contains_key(name)).then_some((family, name))
        });
    let Some((family, name)) = elsewhere else { return Some(Answer::Well) };
    let asked: Vec<_> = decap.mss.keys().map(String::as_str).collect();
    Some(Answer::hurts(
        Severity::Warning,
        format!(
            "{} answers leave by {name}, but the MSS is lowered only by {}",
            family.name(),
            asked.join(", ")
        ),
        "clients send segments that are too long once encapsulated",
        Fix::Advice(format!(
            "'{} decap attach {name}' with --mss, and with the --from and --to of the others",
            real.lbctl
        )),
    ))
}

pub(super) fn mss(real: &Real, family: Family) -> Option<Answer> {
    let route = real.route_back(family).filter(|_| real.serves(family))?;
    if route.local {
        return None;
    }
    let out = &real.interface_back(family)?.link;
    // The MTU where encapsulated packets come in. The network to the balancer is assumed to carry as much.
    let mtus = real.xdp_interfaces().filter_map(|name| Some(real.link(name)?.link.mtu));
    let carried = mtus.min().unwrap_or(out.mtu);
    let headers = family.header() + TCP_HEADER;
    let overhead = overhead(real);

    let advertised =
        route.advmss.unwrap_or_else(|| route.mtu.unwrap_or(out.mtu).saturating_sub(headers));
    let advertised =
        lowered(real, &out.name, family).map_or(advertised, |most| most.min(advertised));
    let longest = advertised + headers;
    if longest + overhead <= carried {
        return Some(Answer::Well);
    }
    let wanted = if ETHERNET_MTU + overhead <= carried {
        RouteFacts { mtu: Some(ETHERNET_MTU), advmss: None, ..route.clone() }
    } else {
        let fits = carried.saturating_sub(overhead + headers);
        RouteFacts { advmss: Some(fits), ..route.clone() }
    };
    Some(Answer::hurts(
        Severity::Warning,
        format!(
            "the host asks clients for TCP segments of {advertised} bytes, which are packets of {longest}; with an outer \
             header of {overhead} that is more than the {carried} bytes that {} takes",
            real.uplink().unwrap_or(&out.name)
        ),
        "the balancer drops them, and tells the client what fits; connections of clients that do not hear of it hang; \
         in place of the route, 'lbctl decap attach INTERFACE --mss auto' lowers what they are asked for",
        replace_route(family, &wanted, &out.name),
    ))
}

/// The command that writes a route in place of the one with the same destination and metric.
fn replace_route(family: Family, route: &RouteFacts, interface: &str) -> Fix {
    let ip = if family == Family::V4 { "ip" } else { "ip -6" };
    let mut command = format!("{ip} route replace {}", route.destination);
    if let Some(gateway) = route.gateway {
        let inet6 = if gateway.is_ipv6() && family == Family::V4 { "inet6 " } else { "" };
        let _ = write!(command, " via {inet6}{gateway}");
    }
    let _ = write!(command, " dev {interface} proto {}", route.protocol);
    if let Some(source) = route.source {
        let _ = write!(command, " src {source}");
    }
    if route.metric != 0 {
        let _ = write!(command, " metric {}", route.metric);
    }
    if let Some(mtu) = route.mtu {
        let _ = write!(command, " mtu {mtu}");
    }
    if let Some(advmss) = route.advmss {
        let _ = write!(command, " advmss {advmss}");
    }
    Fix::Command(command)
}
