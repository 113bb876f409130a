//! The part of a plan about interfaces.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Plan;
use super::Snapshot;
use super::detail::Detail;
use crate::model::abi;
use crate::model::address::Mac;
use crate::model::config::Config;
use crate::model::config::GatewayAddress;
use crate::model::config::InterfaceConfig;
use crate::model::config::PacketsConfig;
use crate::model::config::XdpMode;
use crate::model::interface::ResolvedInterface;
use crate::model::interface::RunningInterface;
use crate::model::interface::interface_config;
use crate::model::interface::next_hop;
use crate::model::next_hop::NextHop;

/// An IPv6 path carries packets of this size (RFC 8200, section 5).
pub(crate) const IPV6_MINIMUM_MTU: u32 = 1280;

/// Bytes that an outer header adds, before there are reals.
const LEAST_OVERHEAD: u32 = 20;

/// What happens to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterfaceAction {
    /// The root program gets attached to it.
    Attach,
    /// It is detached and attached again in another mode: for some milliseconds its packets reach the
    /// kernel.
    Reattach,
    /// Its gateway, MTU, MAC or configuration changes. No packet is missed.
    Update,
    /// The balancer leaves it. The root program is detached from it, unless other programs of the chain need it.
    Detach,
}

/// An interface's part in a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct InterfaceChange {
    /// Its name.
    pub name: String,
    /// What happens to it.
    pub action: InterfaceAction,
    /// What changes.
    pub details: Vec<Detail>,
    /// Whether somebody deleted the interface and created it again since the program was attached.
    pub made_anew: bool,
}

/// Plans the steps that serve these interfaces. Others stay as they are.
pub(crate) fn plan_interfaces(
    plan: &mut Plan,
    snapshot: &Snapshot,
    interfaces: &[ResolvedInterface],
    config: &Config,
) {
    for wanted in interfaces {
        let name = &wanted.config.name;
        let attached = |running: &&RunningInterface| running.attached == Some(wanted.ifindex);
        let running = snapshot.interfaces.values().find(attached);
        let running = running.or_else(|| snapshot.interfaces.get(name));
        warn_of_mtu(plan, wanted, config);
        warn_of_silence(plan, wanted);
        let details = plan_entry(plan, running, wanted);
        let change = match running {
            Some(running) if attached(&running) => update(plan, running, wanted, details),
            _ => Some(attach(plan, running, wanted)),
        };
        plan.interfaces.extend(change);
    }
}

/// Plans the entry of an interface in the table of interfaces. Returns what differs from the running one.
fn plan_entry(
    plan: &mut Plan,
    running: Option<&RunningInterface>,
    wanted: &ResolvedInterface,
) -> Vec<Detail> {
    let (name, entry) = (&wanted.config.name, wanted.entry());
    let old = running.and_then(|running| running.entry);
    let is_same = |old: &abi::interface| abi::bytes_of(old) == abi::bytes_of(&entry);
    let mut details = Vec::new();
    if let Some(old) = old.filter(|old| !is_same(old)) {
        describe_entry(&mut details, name, &old, wanted);
    }
    if !old.as_ref().is_some_and(is_same) {
        plan.steps.entries.push(entry);
    }
    if let Some(pin) = running.and_then(|running| running.pin.as_ref())
        && pin != name
    {
        details.push(Detail::setting("name", pin, name, format!("was {pin}")));
    }
    plan.steps.remove_entries.extend(stale(running, wanted));
    details
}

/// The entry of a deleted interface of this name: the interface that exists now has another index.
fn stale(running: Option<&RunningInterface>, wanted: &ResolvedInterface) -> Option<abi::interface> {
    running?.entry.filter(|old| old.ifindex != wanted.ifindex)
}

/// Plans to change an interface that the root program is attached to. `None`: nothing changes.
fn update(
    plan: &mut Plan,
    running: &RunningInterface,
    wanted: &ResolvedInterface,
    mut details: Vec<Detail>,
) -> Option<InterfaceChange> {
    let asked = wanted.config.xdp_mode;
    let action = if asked != XdpMode::Auto && running.mode != Some(asked) {
        let text = format!("attached again in {asked} mode");
        details.insert(0, Detail::setting("mode", running.mode, asked, text));
        plan.steps.attach.push(wanted.clone());
        InterfaceAction::Reattach
    } else {
        if running.entry.is_none() {
            details.push(gateway(wanted));
        }
        InterfaceAction::Update
    };
    let name = wanted.config.name.clone();
    (!details.is_empty()).then_some(InterfaceChange { name, action, details, made_anew: false })
}

/// Plans to attach the root program to an interface.
fn attach(
    plan: &mut Plan,
    running: Option<&RunningInterface>,
    wanted: &ResolvedInterface,
) -> InterfaceChange {
    let mode = wanted.config.xdp_mode;
    let mode = Detail::setting("xdp_mode", (), mode, format!("{mode} mode"));
    let mut details = vec![mode, gateway(wanted)];
    let stale = stale(running, wanted);
    if let Some(stale) = stale {
        let text = format!("made anew, index {} → {}", stale.ifindex, wanted.ifindex);
        details.push(Detail::setting("index", stale.ifindex, wanted.ifindex, text));
    }
    plan.steps.attach.push(wanted.clone());
    InterfaceChange {
        name: wanted.config.name.clone(),
        action: InterfaceAction::Attach,
        details,
        made_anew: stale.is_some(),
    }
}

/// Plans to leave the interfaces that the configuration does not name.
pub(crate) fn plan_detaching(
    plan: &mut Plan,
    snapshot: &Snapshot,
    interfaces: &[ResolvedInterface],
    config: &Config,
) {
    let kept: BTreeSet<_> = config.interfaces.iter().map(|interface| &interface.name).collect();
    for (name, running) in &snapshot.interfaces {
        // An interrupted command may have removed the link of an entry that the configuration names again.
        let wanted_again =
            |entry: abi::interface| interfaces.iter().any(|i| i.ifindex == entry.ifindex);
        if running.elsewhere.is_some() {
            plan.warnings.push(format!(
                "interface {name} has moved to another network namespace, and the instance runs on it there: it stays \
                 so until 'lbctl down', or until the interface comes back"
            ));
            continue;
        }
        let attached = interfaces.iter().any(|i| Some(i.ifindex) == running.attached);
        if kept.contains(name) || attached || running.entry.is_some_and(wanted_again) {
            continue;
        }
        plan.steps.remove_entries.extend(running.entry);
        if let Some(entry) = running.entry.filter(|_| !running.is_gone()) {
            plan.steps.leaving.insert(name.clone(), entry.ifindex);
        }
        if !running.needed_by_others {
            plan.steps.detach.push(name.clone());
        }
        if running.entry.is_some() || !running.needed_by_others {
            let stays = running.needed_by_others && running.pin.is_some();
            let why = || {
                let text = "stays attached, for other programs of the chain";
                Detail::setting("attached", true, true, text)
            };
            plan.interfaces.push(InterfaceChange {
                name: name.clone(),
                action: InterfaceAction::Detach,
                details: stays.then(why).into_iter().collect(),
                made_anew: false,
            });
        }
    }
}

fn describe_entry(
    details: &mut Vec<Detail>,
    name: &str,
    old: &abi::interface,
    wanted: &ResolvedInterface,
) {
    let (before, after) = (interface_config(name, old), interface_config(name, &wanted.entry()));
    if gateway_key(&before) != gateway_key(&after) {
        let text = format!("{} → {}", gateway_key(&before), gateway_key(&after));
        let value = |config: &InterfaceConfig| match (config.gateway_mac, config.gateway) {
            (Some(_), _) => None,
            (None, Some(GatewayAddress::Address(address))) => Some(address.to_string()),
            (None, _) => Some("auto".to_owned()),
        };
        details.push(Detail::setting("gateway", value(&before), value(&after), text));
    }
    if old.mac != wanted.entry().mac {
        let (old, new) = (Mac::from(old.mac), wanted.gateway);
        details.push(Detail::setting("gateway_mac", old, new, format!("gateway {old} → {new}")));
    }
    let (hop_before, hop_now) = (next_hop(old), next_hop(&wanted.entry()));
    // The code above reports a change of the configuration.
    if hop_before != hop_now && gateway_key(&before) == gateway_key(&after) {
        let text = |hop: Option<NextHop>| hop.map_or("not known".to_owned(), |hop| hop.to_string());
        let what = format!("next hop {} → {}", text(hop_before), text(hop_now));
        details.push(Detail::setting("next_hop", hop_before, hop_now, what));
    }
    if abi::mac_of(old.own) != wanted.mac {
        let text = |mac: Option<Mac>| mac.map_or("any".to_owned(), |mac| mac.to_string());
        let old = abi::mac_of(old.own);
        let what = format!("MAC {} → {}", text(old), text(wanted.mac));
        details.push(Detail::setting("mac", old, wanted.mac, what));
    }
    if before.macs != after.macs {
        let list = |macs: &[Mac]| macs.iter().map(Mac::to_string).collect::<Vec<_>>().join(", ");
        let what = format!("macs [{}] → [{}]", list(&before.macs), list(&after.macs));
        details.push(Detail::setting("macs", &before.macs, &after.macs, what));
    }
    if old.mtu != wanted.mtu {
        let (old, new) = (old.mtu, wanted.mtu);
        details.push(Detail::setting("mtu", old, new, format!("MTU {old} → {new}")));
    }
    if before.xdp_mode != wanted.config.xdp_mode {
        let (old, new) = (before.xdp_mode, wanted.config.xdp_mode);
        details.push(Detail::setting("xdp_mode", old, new, format!("xdp_mode {old} → {new}")));
    }
}

/// The gateway of an interface that has none yet.
fn gateway(wanted: &ResolvedInterface) -> Detail {
    let text = format!("gateway {}", wanted.gateway);
    Detail::setting("gateway_mac", (), wanted.gateway, text)
}

/// How the gateway is found, as the configuration has it.
fn gateway_key(interface: &InterfaceConfig) -> String {
    match (interface.gateway_mac, interface.gateway) {
        (Some(_), _) => "gateway_mac".to_owned(),
        (None, Some(GatewayAddress::Address(address))) => format!("gateway = \"{address}\""),
        (None, _) => "gateway = \"auto\"".to_owned(),
    }
}

/// Warns that the gateway is not that of the best route.
fn warn_of_silence(plan: &mut Plan, interface: &ResolvedInterface) {
    let Some(next_hop) = interface.next_hop.filter(|_| !interface.passed_over.is_empty()) else {
        return;
    };
    let silent: Vec<_> = interface.passed_over.iter().map(IpAddr::to_string).collect();
    plan.warnings.push(format!(
        "interface {}: the default router {} does not answer: the gateway is {next_hop}, the next one; when it \
         answers again, 'lbctl apply -f FILE' takes it",
        interface.config.name,
        silent.join(", ")
    ));
}

fn warn_of_mtu(plan: &mut Plan, interface: &ResolvedInterface, config: &Config) {
    let name = &interface.config.name;
    let largest = config.packets.max_frame - PacketsConfig::ETHERNET_HEADER;
    let overhead = config.largest_overhead().unwrap_or(LEAST_OVERHEAD);
    if overhead == 0 {
        return;
    }
    let fits = interface.mtu.saturating_sub(overhead);
    if fits < IPV6_MINIMUM_MTU {
        plan.warnings.push(format!(
            "interface {name}: MTU {} is too small to encapsulate packets of {IPV6_MINIMUM_MTU} bytes, \
             which every IPv6 path must carry: longer IPv6 packets are dropped; raise it to {} or more",
            interface.mtu,
            largest + overhead
        ));
    } else if fits < largest {
        plan.warnings.push(format!(
            "interface {name}: MTU {} leaves no room to encapsulate packets of {largest} bytes: senders \
             are told to send {fits} at most; raise it to {} to avoid that",
            interface.mtu,
            largest + overhead
        ));
    }
}
