//! Which interfaces can be served: compares the configuration with what runs, and asks the gateways.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::control::options::OnUnserved;
use crate::control::unserved::Records;
use crate::dataplane::interfaces::gateway_of;
use crate::instance::Instance;
use crate::instance::chain::adopt::refuse_foreign_programs;
use crate::kernel::netlink;
use crate::kernel::netlink::Choice;
use crate::kernel::netlink::NextHop;
use crate::kernel::netlink::ResolvedGateway;
use crate::kernel::netlink::Wanted;
use crate::model::abi;
use crate::model::config::Config;
use crate::model::config::ConfigError;
use crate::model::config::InterfaceConfig;
use crate::model::config::XdpMode;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::interface::ResolvedInterface;
use crate::model::interface::RunningInterface;
use crate::model::interface::interface_config;
use crate::model::interface::next_hop;
use crate::plan::Unserved;

/// How long a gateway may take to answer.
const GATEWAY_TIMEOUT: Duration = Duration::from_secs(3);

/// The configuration with the interfaces' own names in place of alternative ones. Pins follow own names. An interface
/// that is named twice is refused. A missing interface keeps the name that the file has.
pub(crate) fn own_names(config: &Config) -> Result<Cow<'_, Config>> {
    let given: Vec<_> = config.interfaces.iter().map(|interface| interface.name.as_str()).collect();
    let names = netlink::own_names_blocking(&given)?;
    for (i, name) in names.iter().enumerate() {
        if let Some(first) = names[..i].iter().position(|first| first == name) {
            let what = format!(
                "{} and interfaces[{first}] ({}) are one interface, {name}: keep one of them",
                given[i], given[first]
            );
            return Err(ConfigError::at(format!("interfaces[{i}].name"), what).into());
        }
    }
    if names.iter().map(String::as_str).eq(given) {
        return Ok(Cow::Borrowed(config));
    }
    let mut config = config.clone();
    for (interface, name) in config.interfaces.iter_mut().zip(names) {
        interface.name = name;
    }
    Ok(Cow::Owned(config))
}

/// The interfaces of a configuration, each with the next hop that its gateway was found by. A running interface has the
/// settings that it was set up with; a waiting one has those that were asked for.
pub(crate) fn followed(
    config: &Config,
    interfaces: &BTreeMap<String, RunningInterface>,
    records: &Records,
) -> Vec<(InterfaceConfig, Option<NextHop>)> {
    let followed = config.interfaces.iter().map(|wanted| {
        let running = running(&wanted.name, interfaces);
        let entry = running.and_then(|running| running.entry);
        if let Some(record) = records.get(&wanted.name) {
            let mut asked = record.config.clone();
            let running = running.filter(|_| record.as_before);
            if let Some(mode) = running.and_then(|running| mode_to_keep(&asked, running)) {
                asked.xdp_mode = mode;
            }
            let same = |entry: &abi::interface| has_gateway(&asked, entry);
            let next_hop = entry.filter(same).and_then(|entry| next_hop_of(&entry));
            return (asked, next_hop);
        }
        match entry {
            Some(entry) => (interface_config(&wanted.name, &entry), next_hop_of(&entry)),
            None => (wanted.clone(), None),
        }
    });
    followed.collect()
}

/// The mode that an interface keeps while it is followed, although the configuration asks for another. Trying the other
/// mode takes the program off for a moment, which only `apply` and a reload do.
fn mode_to_keep(asked: &InterfaceConfig, running: &RunningInterface) -> Option<XdpMode> {
    let mode = running.mode.filter(|mode| ![XdpMode::Auto, *mode].contains(&asked.xdp_mode))?;
    let before = interface_config(&asked.name, &running.entry?).xdp_mode;
    Some(if before == XdpMode::Auto { before } else { mode })
}

/// The next hop by which an entry's gateway was found; `None`: the gateway is configured by its MAC.
fn next_hop_of(entry: &abi::interface) -> Option<NextHop> {
    let is_auto = u32::from(entry.gateway_kind) == abi::consts::GATEWAY_AUTO;
    next_hop(entry).or_else(|| is_auto.then_some(NextHop::UNKNOWN))
}

/// Whether an entry's gateway was found in the way that `asked` names.
fn has_gateway(asked: &InterfaceConfig, entry: &abi::interface) -> bool {
    gateway_of(asked) == gateway_of(&interface_config(&asked.name, entry))
}

/// The interfaces as the configuration asks for them, with the next hops of those that run.
fn with_next_hops(
    config: &Config,
    interfaces: &BTreeMap<String, RunningInterface>,
) -> Vec<(InterfaceConfig, Option<NextHop>)> {
    let followed = followed(config, interfaces, &Records::new()).into_iter();
    let each = config.interfaces.iter().zip(followed).map(|(wanted, (runs, next_hop))| {
        // A configured gateway does not come from a route.
        let same = gateway_of(wanted) == gateway_of(&runs);
        (wanted.clone(), next_hop.filter(|_| same))
    });
    each.collect()
}

/// What was found out about the interfaces of a configuration.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Those that can be served, by present or by last known facts.
    pub(crate) served: Vec<ResolvedInterface>,
    /// The interfaces in `served` whose facts are present ones.
    pub(crate) current: Vec<ResolvedInterface>,
    /// Those that cannot be served, or not as asked for.
    pub(crate) unserved: Vec<Unserved>,
    /// Why the first of them cannot be served.
    pub(crate) error: Option<Error>,
    pub(crate) warnings: Vec<String>,
}

impl Found {
    /// Adds the result for an interface. If it fails and the interface is served already, its last known facts stay.
    pub(crate) fn add(
        &mut self,
        config: &InterfaceConfig,
        found: Result<ResolvedInterface>,
        running: &BTreeMap<String, RunningInterface>,
    ) {
        let error = match found {
            Ok(resolved) => {
                self.current.push(resolved.clone());
                self.served.push(resolved);
                return;
            }
            Err(error) => error,
        };
        match last_known(config, running, error) {
            Ok((last, warning)) => {
                self.served.push(last);
                self.warnings.push(warning);
            }
            Err(error) => {
                let as_before = as_before(config, running);
                let mut unserved = Unserved::new(config, &error);
                unserved.as_before = as_before.is_some();
                self.unserved.push(unserved);
                self.served.extend(as_before);
                self.error.get_or_insert(error);
            }
        }
    }

    /// Keeps the record that an interface is asked for in another mode than the one that it runs in.
    pub(crate) fn keep_mode(
        &mut self,
        record: &Unserved,
        followed: &InterfaceConfig,
        running: &BTreeMap<String, RunningInterface>,
    ) {
        if record.config.xdp_mode == followed.xdp_mode {
            return;
        }
        if let Some(unserved) = self.unserved.iter_mut().find(|one| one.name == record.name) {
            unserved.config = record.config.clone();
            return;
        }
        let mut unserved = record.clone();
        let entry = self::running(&record.name, running).and_then(|running| running.entry);
        if !entry.is_some_and(|entry| has_gateway(&record.config, &entry)) {
            // The former reason is no longer true; the mode has not been tried.
            let mode = record.config.xdp_mode;
            unserved.why = format!(
                "only an apply or a reload tries xdp_mode = \"{mode}\": that takes the program off for a moment"
            );
        }
        self.unserved.push(unserved);
    }
}

/// What to do about a program that an interface has already.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Already {
    /// Warn: apply can give it a slot of the chain.
    Warn,
    /// Put it into this slot; `None`: the interface cannot be served.
    Adopt(Option<u32>),
}

/// Finds out which interfaces of a configuration can be served.
pub(crate) fn find_all(
    instance: &Instance,
    config: &Config,
    running: &BTreeMap<String, RunningInterface>,
    on_unserved: OnUnserved,
    choice: Choice,
    already: Already,
) -> Result<Found> {
    let wanted = with_next_hops(config, running);
    let mut found = Found::default();
    for (interface, result) in config.interfaces.iter().zip(resolve_all(&wanted, choice)?) {
        let result = result.and_then(|resolved| {
            let refused = |adopt| refuse_foreign_programs(instance, &[resolved.target()], adopt);
            match already {
                Already::Adopt(slot) => refused(slot)?,
                Already::Warn => match refused(None) {
                    Err(error @ Error::ForeignProgram { .. }) => {
                        found.warnings.push(error.to_string());
                    }
                    other => other?,
                },
            }
            Ok(resolved)
        });
        match result {
            Err(error) if on_unserved == OnUnserved::Fail || !error.is_of_interface() => {
                return Err(error);
            }
            result => found.add(interface, result, running),
        }
    }
    if let Already::Adopt(Some(slot)) = already {
        // A slot has room for one program. Check that before the first of several interfaces loses its own.
        let targets: Vec<_> = found.current.iter().map(ResolvedInterface::target).collect();
        refuse_foreign_programs(instance, &targets, Some(slot))?;
    }
    Ok(found)
}

/// Asks for the gateways of all interfaces at once. Each interface comes with the next hop that its gateway was found
/// by before.
pub(crate) fn resolve_all(
    interfaces: &[(InterfaceConfig, Option<NextHop>)],
    choice: Choice,
) -> Result<Vec<Result<ResolvedInterface>>> {
    let wanted = interfaces.iter().map(|(config, in_use)| Wanted {
        interface: &config.name,
        gateway: gateway_of(config),
        in_use: *in_use,
        choice,
    });
    let found = netlink::resolve_all_blocking(&wanted.collect::<Vec<_>>(), GATEWAY_TIMEOUT)?;
    let each = interfaces.iter().zip(found).map(|((config, _), found)| {
        let (link, resolved) = found?;
        Ok(resolved_interface(config, &link, resolved))
    });
    Ok(each.collect())
}

fn resolved_interface(
    config: &InterfaceConfig,
    link: &netlink::Link,
    gateway: ResolvedGateway,
) -> ResolvedInterface {
    let ResolvedGateway { next_hop, mac, passed_over } = gateway;
    ResolvedInterface {
        config: config.clone(),
        ifindex: link.index,
        mtu: link.mtu,
        mac: link.mac,
        gateway: mac,
        next_hop,
        passed_over,
    }
}

/// The running interface of this name, or the one that had this name before it was renamed.
fn running<'a>(
    name: &str,
    interfaces: &'a BTreeMap<String, RunningInterface>,
) -> Option<&'a RunningInterface> {
    let had = || interfaces.values().find(|running| running.pin.as_deref() == Some(name));
    interfaces.get(name).or_else(had)
}

/// The entry of a running interface, and what is known without its gateway's answer: the MAC and MTU that the kernel
/// has now, and the gateway's last MAC.
pub(crate) fn known(
    config: &InterfaceConfig,
    running: &BTreeMap<String, RunningInterface>,
) -> Option<(abi::interface, ResolvedInterface)> {
    let running = self::running(&config.name, running).filter(|running| running.attached.is_some());
    let entry = running.and_then(|running| running.entry)?;
    let link = netlink::link_blocking(&config.name).ok();
    let link = link.filter(|link| link.index == entry.ifindex);
    let known = ResolvedInterface {
        config: config.clone(),
        ifindex: entry.ifindex,
        mtu: link.as_ref().map_or(entry.mtu, |link| link.mtu),
        mac: link.map_or(abi::mac_of(entry.own), |link| link.mac),
        gateway: entry.mac.into(),
        next_hop: next_hop(&entry),
        passed_over: Vec::new(),
    };
    Some((entry, known))
}

/// A running interface with its present gateway, if the gateway that is asked for was not found.
fn as_before(
    config: &InterfaceConfig,
    interfaces: &BTreeMap<String, RunningInterface>,
) -> Option<ResolvedInterface> {
    let entry = running(&config.name, interfaces)?.entry?;
    let before = interface_config(&config.name, &entry);
    known(&before, interfaces).map(|(_, known)| known)
}

/// The last known facts of an interface whose gateway does not answer, with a warning that says so. Returns the error
/// if there are none, or if they belong to another gateway.
fn last_known(
    config: &InterfaceConfig,
    running: &BTreeMap<String, RunningInterface>,
    error: Error,
) -> Result<(ResolvedInterface, String)> {
    let Some((entry, last)) = known(config, running) else {
        return Err(error);
    };
    let gateway = |entry: &abi::interface| {
        let config = interface_config(&config.name, entry);
        (config.gateway, config.gateway_mac)
    };
    if gateway(&last.entry()) != gateway(&entry) {
        return Err(error);
    }
    Ok((last, format!("{error}; until then the gateway's last known MAC stays")))
}
