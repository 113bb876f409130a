//! Reads the interfaces of an instance and who needs each: the balancer, decapsulation, or other programs.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::dataplane::Dataplane;
use crate::dataplane::balancer::open_dataplane;
use crate::dataplane::decap::Layout;
use crate::dataplane::decap::Maps;
use crate::instance::Instance;
use crate::instance::chain::others;
use crate::instance::links::Link;
use crate::instance::links::links;
use crate::kernel::netlink::Gateway;
use crate::model::config::GatewayAddress;
use crate::model::config::InterfaceConfig;
use crate::model::config::XdpMode;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::interface::RunningInterface;

/// The links of an instance, without the balancer's entries.
pub(crate) fn running_interfaces(
    instance: &Instance,
) -> Result<BTreeMap<String, RunningInterface>> {
    let decap = decapsulated_interfaces(instance)?;
    let others = !self::others(instance).is_empty();
    let running = |link: Link| RunningInterface {
        attached: link.ifindex(),
        elsewhere: link.elsewhere(),
        mode: link.mode,
        entry: None,
        needed_by_others: link.index.is_some_and(|ifindex| others || decap.contains(&ifindex)),
        pin: Some(link.pin),
    };
    Ok(links(instance)?.into_iter().map(|(name, link)| (name, running(link))).collect())
}

/// The indices of the interfaces that the balancer serves.
pub(crate) fn served_interfaces(instance: &Instance) -> Result<BTreeSet<u32>> {
    let Some(dataplane) = open_dataplane(instance)? else { return Ok(BTreeSet::new()) };
    Ok(dataplane.read_interfaces()?.into_iter().map(|entry| entry.ifindex).collect())
}

/// The indices of the interfaces that decapsulation needs; all interfaces, if another build created its maps.
pub(crate) fn decapsulated_interfaces(instance: &Instance) -> Result<BTreeSet<u32>> {
    match Layout::of(instance)? {
        Layout::None => Ok(BTreeSet::new()),
        Layout::Ours => Ok(Maps::open(instance)?.requests()?.into_keys().collect()),
        Layout::Other => attached(instance),
    }
}

/// The indices of the interfaces that the instance has links to.
pub(crate) fn attached(instance: &Instance) -> Result<BTreeSet<u32>> {
    Ok(links(instance)?.into_values().filter_map(|link| link.index).collect())
}

/// Refuses a mode, if the balancer's configuration has another one for the interface.
pub(crate) fn refuse_other_mode(
    instance: &Instance,
    interface: &str,
    ifindex: u32,
    mode: XdpMode,
) -> Result<()> {
    let running = links(instance)?.into_values().find(|link| link.ifindex() == Some(ifindex));
    let runs = running.and_then(|link| link.mode);
    match runs.filter(|runs| ![*runs, XdpMode::Auto].contains(&mode)) {
        Some(runs) if served_interfaces(instance)?.contains(&ifindex) => {
            Err(Error::ModeOfBalancer { interface: interface.to_owned(), runs })
        }
        _ => Ok(()),
    }
}

/// The interfaces of an instance, with the balancer's entries of them.
pub(crate) fn read_interfaces(
    instance: &Instance,
    dataplane: &Dataplane,
) -> Result<BTreeMap<String, RunningInterface>> {
    let mut interfaces = running_interfaces(instance)?;
    let mut orphans = Vec::new();
    for entry in dataplane.read_interfaces()? {
        let index = Some(entry.ifindex);
        let here = interfaces.iter().find(|(_, link)| link.attached == index);
        // The interface may have moved to another network namespace and kept its index.
        let elsewhere = || interfaces.iter().find(|(_, link)| link.elsewhere == index);
        let name = here.or_else(elsewhere).map(|(name, _)| name.clone());
        match name.and_then(|name| interfaces.get_mut(&name)) {
            Some(link) => link.entry = Some(entry),
            None => orphans.push(entry),
        }
    }
    // These entries' interfaces are gone, or an interrupted command left the entries. The kernel does not tell which
    // interface a link had. The name is known only if there is one entry and one link.
    let mut gone = interfaces.values_mut().filter(|link| link.is_gone());
    if let ([entry], Some(link), None) = (&orphans[..], gone.next(), gone.next()) {
        link.entry = Some(*entry);
        orphans.clear();
    }
    for entry in orphans {
        interfaces.insert(
            format!("index {}", entry.ifindex),
            RunningInterface {
                pin: None,
                attached: None,
                elsewhere: None,
                mode: None,
                entry: Some(entry),
                needed_by_others: true,
            },
        );
    }
    Ok(interfaces)
}

/// How the gateway of an interface is found.
pub(crate) fn gateway_of(config: &InterfaceConfig) -> Gateway {
    match (config.gateway_mac, config.gateway) {
        (Some(mac), _) => Gateway::Mac(mac),
        (None, Some(GatewayAddress::Address(address))) => Gateway::Address(address),
        (None, _) => Gateway::Auto,
    }
}
