//! Decapsulation on a real: takes the balancer's outer header off, on hosts without tunnel devices.
//!
//! The program is in the chain of an instance, as the balancer is, and may share the instance with a balancer. A
//! [`Request`] says which packets it decapsulates. Where the request names no addresses, [`follow`] uses those of the
//! host. docs/decap.md says what is dropped, and why.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::os::fd::AsFd;

use serde::Serialize;

use crate::dataplane::decap::Facts;
use crate::dataplane::decap::InUse;
use crate::dataplane::decap::Layout;
use crate::dataplane::decap::Maps;
use crate::dataplane::decap::is_attached;
use crate::dataplane::decap::listener;
use crate::dataplane::decap::mss;
use crate::dataplane::decap::other;
use crate::dataplane::decap::ours;
use crate::dataplane::decap::remove_maps;
use crate::dataplane::interfaces::attached;
use crate::dataplane::interfaces::refuse_other_mode;
use crate::dataplane::interfaces::served_interfaces;
use crate::instance::Instance;
use crate::instance::Lock;
use crate::instance::chain::adopt::Attaching;
use crate::instance::chain::adopt::refuse_foreign_programs;
use crate::instance::chain::is_needed_without;
use crate::instance::chain::others;
use crate::instance::chain::slots::Chain;
use crate::instance::links;
use crate::instance::own_programs::OwnProgram;
use crate::instance::programs;
use crate::instance::repair;
use crate::instance::set_up::set_up;
use crate::kernel::netlink;
use crate::kernel::sockets::listeners;
use crate::kernel::sockets::udp_holder;
use crate::model::abi::consts;
use crate::model::address::Protocol;
use crate::model::config::XdpMode;
use crate::model::error::Result;
use crate::model::prefix::Prefix;

pub use crate::dataplane::decap::Mss;
pub use crate::dataplane::decap::Request;
pub use crate::model::error::DecapError;
pub use crate::observe::decap::DecapStatus;
pub use crate::observe::decap::MssStatus;
pub use crate::observe::decap::readiness;
pub use crate::observe::decap::status;

/// Decapsulates packets that come in by an interface. A second call for the same interface replaces its request.
///
/// Where the request names no addresses, it uses those that the host has now; [`follow`] adapts them later. If the
/// interface has an XDP program already, that is an error; with `adopt`, the program goes into that slot of the chain.
/// Maps of another build are replaced.
pub fn attach(
    instance: &Instance,
    interface: &str,
    mode: XdpMode,
    request: &Request,
    adopt: Option<u32>,
) -> Result<DecapStatus> {
    request.check()?;
    if waits_for_address(interface, request)? {
        return Err(DecapError::NoAddress { interface: interface.to_owned() }.into());
    }
    attach_to_follow(instance, interface, mode, request, adopt)
}

/// Whether the interface exists but has no address yet to decapsulate for.
pub fn waits_for_address(interface: &str, request: &Request) -> Result<bool> {
    let interface = &netlink::link_blocking(interface)?.name;
    Ok(request.addresses.is_empty() && Facts::read()?.of_interface(interface).next().is_none())
}

/// As [`attach`], for callers of [`follow`]: the interface may have no address yet.
pub fn attach_to_follow(
    instance: &Instance,
    interface: &str,
    mode: XdpMode,
    request: &Request,
    adopt: Option<u32>,
) -> Result<DecapStatus> {
    request.check()?;
    instance.check_host()?;
    let link = netlink::link_blocking(interface)?;
    let interface = link.name.as_str();
    let at = (interface, link.index, mode);
    let ((), _lock) = set_up(
        instance,
        || refuse_foreign_programs(instance, &[at], adopt),
        || carry_out(instance, at, request, adopt),
    )?;
    status(instance)
}

/// As [`attach_to_follow`], if an interface that decapsulated has lost the program: somebody took it off, or the
/// interface was made anew. Returns `false` if it was detached by command, or still has the program.
pub fn attach_again(
    instance: &Instance,
    interface: &str,
    mode: XdpMode,
    request: &Request,
    adopt: Option<u32>,
) -> Result<bool> {
    request.check()?;
    instance.check_host()?;
    let interface = &*netlink::own_name(interface)?;
    links::refuse_other_namespace(instance, &[interface])?;
    if !is_lost(instance, interface)? {
        return Ok(false);
    }
    let Some(_lock) = instance.lock_existing()? else { return Ok(false) };
    // Another command may have detached it meanwhile.
    if !is_lost(instance, interface)? {
        return Ok(false);
    }
    let link = netlink::link_blocking(interface)?;
    carry_out(instance, (interface, link.index, mode), request, adopt)?;
    Ok(true)
}

fn is_lost(instance: &Instance, interface: &str) -> Result<bool> {
    if !is_attached(instance) {
        return Ok(false);
    }
    let links = links::links(instance)?;
    let link = links.iter().find(|(name, link)| *name == interface || link.pin == interface);
    Ok(link.is_some_and(|(_, link)| link.mode.is_none()))
}

/// The requests in force: those of interfaces that the instance has links to.
fn in_force_of(
    instance: &Instance,
    mut requests: BTreeMap<u32, Request>,
) -> Result<BTreeMap<u32, Request>> {
    let attached = attached(instance)?;
    requests.retain(|ifindex, _| attached.contains(ifindex));
    Ok(requests)
}

/// What the program should check packets against now, and what segments by which interface may ask for.
fn wanted(instance: &Instance, maps: &Maps) -> Result<(InUse, BTreeMap<u32, mss::Limit>)> {
    let requests = in_force_of(instance, maps.requests()?)?;
    let in_use = InUse::of(&requests, &Facts::read_for(&requests, maps.in_use()?.gue_ports)?)?;
    let limits = mss::wanted(&requests, &in_use)?;
    Ok((in_use, limits))
}

fn carry_out(
    instance: &Instance,
    (interface, ifindex, mode): (&str, u32, XdpMode),
    request: &Request,
    adopt: Option<u32>,
) -> Result<()> {
    let (_, left) = repair::recover(instance)?;
    if left.needs_repair()
        && OwnProgram::Decap.maps().iter().any(|map| left.has(&format!("map/{map}")))
    {
        // The requests of other interfaces are lost. The running program keeps the maps that it has.
        remove_maps(instance)?;
    }
    refuse_other_mode(instance, interface, ifindex, mode)?;
    let chain = Chain::open_or_create(instance)?;
    chain.settle()?;
    chain.home(OwnProgram::Decap)?;
    Attaching::or_undo(instance, &chain, |attaching| {
        attaching.attach(instance, &chain, &[(interface, ifindex, mode)], adopt)?;
        program(instance, &chain, ifindex, request)
    })
}

/// Loads the program and writes its maps.
fn program(instance: &Instance, chain: &Chain, ifindex: u32, request: &Request) -> Result<()> {
    let (slot, place) = chain.home(OwnProgram::Decap)?;
    let ours = Layout::of(instance)? == Layout::Ours;
    let (mut requests, before) = if ours {
        let maps = Maps::open(instance)?;
        (maps.requests()?, maps.in_use()?)
    } else {
        Default::default()
    };
    // If somebody took the program off an interface, its request stays: it says how to attach again.
    let attached = attached(instance)?;
    requests.retain(|ifindex, _| {
        attached.contains(ifindex) || links::interface_name(*ifindex).is_some()
    });
    requests.insert(ifindex, request.clone());
    // Fails if there are too many addresses, so it comes before any write.
    let in_force = in_force_of(instance, requests.clone())?;
    let facts = Facts::read_for(&in_force, before.gue_ports)?;
    let in_use = InUse::of(&in_force, &facts)?;
    refuse_ports_in_use(request, &in_use, &facts)?;
    warn_of_left_out(&in_use);
    if !ours {
        // The running program keeps the maps that it has.
        remove_maps(instance)?;
    }
    let loaded = programs::load_decap(Some(instance), place)?;
    let maps = Maps::open(instance)?;
    maps.set_requests(&requests)?;
    maps.set_in_use(&in_use)?;
    chain.put(slot, loaded.program.as_fd(), OwnProgram::Decap.name())?;
    mss::ensure(instance, &mss::wanted(&in_force, &in_use)?)?;
    if request.from.is_empty() {
        warn_of_anybody(ifindex, &before.from);
    }
    Ok(())
}

/// Refuses a port of GUE at which this host listens. Ports that nobody asked for are only left out.
fn refuse_ports_in_use(request: &Request, in_use: &InUse, facts: &Facts) -> Result<()> {
    for port in request.gue_ports.iter().flatten() {
        if let Some(at) = in_use.listener(*port, facts) {
            return Err(DecapError::PortInUse { port: *port, at, holder: udp_holder(at) }.into());
        }
    }
    if request.gue_ports.is_none() {
        for port in Request::GUE_PORTS {
            if let Some(at) = in_use.listener(port, facts) {
                tracing::warn!(
                    "GUE is not taken from UDP port {port}: this host itself listens on {at} ({}); if balancers \
                     send there, end that and attach again; if not, '--gue-port none' or another port ends this warning",
                    udp_holder(at)
                );
            }
        }
    }
    Ok(())
}

/// The UDP ports of GUE at which this host itself listens, and who does. The host's sockets that cannot be read are none.
pub fn at_gue_ports(status: &DecapStatus) -> BTreeMap<u16, String> {
    let wanted = status.requests.values().flat_map(Request::wanted_ports);
    let ports: BTreeSet<_> = status.gue_ports.iter().copied().chain(wanted).collect();
    if ports.is_empty() {
        return BTreeMap::new();
    }
    let listeners = listeners(Protocol::Udp).unwrap_or_default();
    let at = |port| listener(&listeners, port, |address| status.addresses.contains(&address));
    ports.into_iter().filter_map(|port| Some((port, udp_holder(at(port)?)))).collect()
}

/// `before`: the outer sources that could send so far; empty: any source could, or none.
fn warn_of_anybody(ifindex: u32, before: &BTreeSet<Prefix>) {
    let interface = links::interface_name(ifindex).unwrap_or_else(|| format!("index {ifindex}"));
    let before: Vec<_> = before.iter().map(prefix_name).collect();
    let before = if before.is_empty() {
        String::new()
    } else {
        format!("; until now, only {} could", before.join(", "))
    };
    tracing::warn!(
        "interface {interface} is attached without --from: anybody may send{before}; attach it again with --from \
         PREFIX, the prefixes that balancers send from"
    );
}

fn warn_of_left_out(in_use: &InUse) {
    if in_use.own_left_out != 0 {
        tracing::warn!(
            "this host has {} addresses and prefixes more than decapsulation has room for ({} and {}); inner packets \
             from them are not refused",
            in_use.own_left_out,
            consts::DECAP_MAX_ADDRESSES,
            consts::DECAP_MAX_PREFIXES - 1
        );
    }
}

/// Stops decapsulating on an interface, or on all. Returns whether there was anything to stop.
pub fn detach(instance: &Instance, interface: Option<&str>) -> Result<bool> {
    instance.check_host()?;
    let Some(lock) = instance.lock_existing()? else { return Ok(false) };
    let own_name = interface.map(netlink::own_name).transpose()?;
    let interface = own_name.as_deref();
    if let Some(interface) = interface {
        links::refuse_other_namespace(instance, &[interface])?;
    }
    repair::recover(instance)?;
    let served = served_interfaces(instance)?;
    let (asked, rest): (BTreeMap<_, _>, BTreeMap<_, _>) = links::links(instance)?
        .into_iter()
        .partition(|(name, _)| interface.is_none_or(|asked| asked == name));

    let stays = !others(instance).is_empty();
    let layout = Layout::of(instance)?;
    let kept: BTreeSet<u32> = rest.values().filter_map(|link| link.index).collect();
    let (mut found, needed) = match layout {
        Layout::Ours => forget_but(instance, &kept)?,
        // The maps of another build do not say which interfaces they are for.
        Layout::Other if interface.is_some() && !kept.is_subset(&served) => {
            return Err(other(instance));
        }
        Layout::None | Layout::Other => (false, false),
    };
    for link in asked.into_values() {
        if !stays && !link.index.is_some_and(|ifindex| served.contains(&ifindex)) {
            links::remove_link(&instance.link(&link.pin))?;
            found = true;
        }
    }
    if !needed {
        found |= layout == Layout::Other;
        remove_program(instance, lock)?;
    }
    Ok(found)
}

/// Forgets the requests of all interfaces but these. Returns whether there were any others, and whether any are left.
fn forget_but(instance: &Instance, kept: &BTreeSet<u32>) -> Result<(bool, bool)> {
    let maps = Maps::open(instance)?;
    let before = maps.requests()?;
    let mut requests = before.clone();
    requests.retain(|ifindex, _| kept.contains(ifindex));
    // Writes the filters first, then the requests. While an interface's request is there, the next command knows what
    // an interrupted command left.
    let facts = Facts::read_for(&requests, maps.in_use()?.gue_ports)?;
    let in_use = InUse::of(&requests, &facts)?;
    maps.set_in_use(&in_use)?;
    mss::ensure(instance, &mss::wanted(&requests, &in_use)?)?;
    maps.set_requests(&requests)?;
    Ok((requests.len() != before.len(), !requests.is_empty()))
}

fn remove_program(instance: &Instance, lock: Lock) -> Result<()> {
    if !is_needed_without(instance, OwnProgram::Decap.name()) {
        return links::remove_all(instance, lock);
    }
    mss::remove(instance)?;
    Chain::open(instance)?.remove_named(OwnProgram::Decap.name())?;
    remove_maps(instance)
}

/// What [`follow`] changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Followed {
    /// Outer destinations that are decapsulated from now on.
    pub added: BTreeSet<IpAddr>,
    /// Outer destinations that are no longer decapsulated.
    pub removed: BTreeSet<IpAddr>,
    /// Inner destinations that are accepted from now on.
    pub to_added: BTreeSet<Prefix>,
    /// Inner destinations that are no longer accepted.
    pub to_removed: BTreeSet<Prefix>,
    /// Outer sources that may send from now on, because an interface is gone and its request has no effect any more.
    pub from_added: BTreeSet<Prefix>,
    /// Outer sources that may no longer send.
    pub from_removed: BTreeSet<Prefix>,
    /// Whether any source may send now, if that has changed.
    pub anybody: Option<bool>,
    /// UDP ports from which GUE is taken from now on, because nobody listens there any more.
    pub gue_ports_added: BTreeSet<u16>,
    /// UDP ports from which GUE is no longer taken.
    pub gue_ports_removed: BTreeSet<u16>,
}

impl Followed {
    fn between(before: &InUse, after: &InUse) -> Self {
        let (from, to) = (before.outer(), after.outer());
        Self {
            added: &to - &from,
            removed: &from - &to,
            to_added: &after.to - &before.to,
            to_removed: &before.to - &after.to,
            from_added: &after.from - &before.from,
            from_removed: &before.from - &after.from,
            anybody: (before.anybody() != after.anybody()).then_some(after.anybody()),
            gue_ports_added: &after.gue_ports - &before.gue_ports,
            gue_ports_removed: &before.gue_ports - &after.gue_ports,
        }
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            added,
            removed,
            to_added,
            to_removed,
            from_added,
            from_removed,
            anybody,
            gue_ports_added,
            gue_ports_removed,
        } = self;
        for (sign, addresses) in [("+", added), ("-", removed)] {
            for address in addresses {
                writeln!(f, "{sign} decapsulated: packets to {address}")?;
            }
        }
        for (sign, prefixes) in [("+", to_added), ("-", to_removed)] {
            for prefix in prefixes {
                writeln!(f, "{sign} inner destination {}", prefix_name(prefix))?;
            }
        }
        for (sign, prefixes) in [("+", from_added), ("-", from_removed)] {
            for prefix in prefixes {
                writeln!(f, "{sign} outer source {}", prefix_name(prefix))?;
            }
        }
        if let Some(anybody) = anybody {
            writeln!(f, "{} outer source: anybody", if *anybody { "+" } else { "-" })?;
        }
        for (sign, ports) in [("+", gue_ports_added), ("-", gue_ports_removed)] {
            for port in ports {
                writeln!(f, "{sign} GUE from UDP port {port}")?;
            }
        }
        Ok(())
    }
}

/// A prefix as text; a single address without its length.
pub fn prefix_name(prefix: &Prefix) -> String {
    if prefix.is_single() { prefix.address().to_string() } else { prefix.to_string() }
}

/// What [`follow`] would change now.
///
/// Uses the addresses of the calling thread's network namespace.
pub fn outdated(instance: &Instance) -> Result<Followed> {
    links::refuse_other_namespace(instance, &[])?;
    let maps = ours(instance)?;
    Ok(Followed::between(&maps.in_use()?, &wanted(instance, &maps)?.0))
}

/// Adapts decapsulation to the addresses of the host, where requests name none. Also ends the effect of requests whose
/// interfaces are gone.
///
/// Uses the addresses of the calling thread's network namespace.
pub fn follow(instance: &Instance) -> Result<Followed> {
    instance.check_host()?;
    links::refuse_other_namespace(instance, &[])?;
    let maps = ours(instance)?;
    let differs = |maps: &Maps| -> Result<_> {
        let wanted = wanted(instance, maps)?;
        let running = (maps.in_use()?, mss::running(instance)?);
        Ok((running != wanted).then_some((running.0, wanted)))
    };
    if differs(&maps)?.is_none() {
        return Ok(Followed::default());
    }
    let _lock = instance.lock_existing()?;
    // Another command may have replaced the maps before this one got the lock.
    let maps = ours(instance)?;
    let Some((running, (wanted, limits))) = differs(&maps)? else {
        return Ok(Followed::default());
    };
    if wanted.own_left_out != running.own_left_out {
        warn_of_left_out(&wanted);
    }
    maps.set_in_use(&wanted)?;
    mss::ensure(instance, &limits)?;
    Ok(Followed::between(&running, &wanted))
}
