//! Whether an instance can forward: it runs, its interfaces are attached, their gateways are known.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use crate::dataplane::balancer::Balancer;
use crate::dataplane::interfaces::gateway_of;
use crate::dataplane::interfaces::read_interfaces;
use crate::instance::Instance;
use crate::instance::chain::slots::Chain;
use crate::instance::links;
use crate::instance::own_programs::OwnProgram;
use crate::instance::repair::LostPins;
use crate::instance::serving::rfc3339;
use crate::kernel::netlink;
use crate::kernel::netlink::InUse;
use crate::kernel::netlink::Known;
use crate::kernel::netlink::Link;
use crate::kernel::netlink::NextHop;
use crate::kernel::netlink::Observed;
use crate::kernel::netlink::Which;
use crate::model::abi;
use crate::model::address::Mac;
use crate::model::config::InterfaceConfig;
use crate::model::config::XdpMode;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::interface::interface_config;
use crate::model::interface::next_hop;
use crate::plan::Unserved;

/// What the kernel knows about the MAC that an interface's frames go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GatewayState {
    /// The gateway is not in the kernel's neighbour table, or has another MAC there. If the gateway's address is not
    /// known: no neighbour has this MAC.
    Unresolved,
    /// The kernel asks the gateway for its MAC and gets no answer. It last heard the gateway this long ago, if it
    /// remembers.
    Silent(Option<Duration>),
    /// The kernel last heard this long ago that the MAC is right. It asks again when it needs the neighbour and has
    /// not heard from it for about half a minute.
    Confirmed(Duration),
    /// The kernel does not ask: the configuration names the MAC, or an operator put it into the neighbour table.
    Fixed,
}

/// Whether an interface can carry packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// It is up and connected.
    Up,
    /// It is up, and connected to nothing.
    NoCarrier,
    /// It is down (`ip link set … down`).
    Down,
    /// There is no interface of that name in this network namespace.
    Missing,
    /// The instance runs on it in another network namespace, and it can only be read there.
    OtherNamespace,
}

impl LinkState {
    pub(crate) fn of(link: Option<&Link>) -> Self {
        match link {
            None => Self::Missing,
            Some(link) if !link.up => Self::Down,
            Some(link) if !link.carrier => Self::NoCarrier,
            Some(_) => Self::Up,
        }
    }

    /// What is wrong with an interface in this state.
    pub(crate) fn unready(self, interface: &str) -> Option<Unready> {
        let interface = interface.to_owned();
        match self {
            Self::Up => None,
            Self::NoCarrier => Some(Unready::NoCarrier(interface)),
            Self::Down => Some(Unready::InterfaceDown(interface)),
            Self::Missing => Some(Unready::InterfaceMissing(interface)),
            Self::OtherNamespace => Some(Unready::OtherNamespace(interface)),
        }
    }
}

/// An interface that the balancer serves, and its gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InterfaceState {
    /// The interface's name.
    pub interface: String,
    /// Whether it can carry packets.
    pub link: LinkState,
    /// How the chain is attached to it; `None`: it is not attached, or is gone, or is in another network namespace.
    pub mode: Option<XdpMode>,
    /// The longest IP packet that it can send, in bytes, as the packet path was told.
    pub mtu: u32,
    /// The same, as the interface has it now; `None`: it is gone.
    pub mtu_now: Option<u32>,
    /// Its own MAC, as the packet path was told. Frames to other MACs are not for this host. `None`: any unicast MAC
    /// counts.
    pub own_mac: Option<Mac>,
    /// The same, as the interface has it now; `None`: it is gone, or has none.
    pub own_mac_now: Option<Mac>,
    /// Further MACs that are its own (`macs` of the configuration).
    pub macs: Vec<Mac>,
    /// The MAC that frames to reals are sent to.
    pub mac: Mac,
    /// What is known of that MAC.
    pub gateway: GatewayState,
    /// The gateway's MAC, if the kernel has another one for its address. `lbctl serve` follows it.
    pub moved_to: Option<Mac>,
    /// The address that this MAC was found by; `None`: the MAC was configured, or the address is not known.
    pub next_hop: Option<NextHop>,
    /// Another default router. Nothing is sent to it, and it is not known whether it answers.
    pub alternative: Option<IpAddr>,
    /// Whether there is a way to find the gateway. `false`: it should come from a default route, and no default route
    /// leads out here.
    pub routed: bool,
}

impl InterfaceState {
    /// If frames to the interface's present MAC are not taken for this host's: the MAC that the packet path was told,
    /// and the present one.
    fn readdressed(&self) -> Option<(Mac, Mac)> {
        let (mac, now) = (self.own_mac?, self.own_mac_now?);
        (mac != now && !self.macs.contains(&now)).then_some((mac, now))
    }

    /// Why traffic does not pass through the interface, as far as is known. The obstacle nearest to the interface comes
    /// first.
    pub fn unready(&self) -> Option<Unready> {
        let Self { interface, link, mode, mac, moved_to, routed, .. } = self;
        if let Some(unready) = link.unready(interface) {
            return Some(unready);
        }
        let interface = interface.clone();
        if let (Some(_), Some((mac, now))) = (mode, self.readdressed()) {
            return Some(Unready::MacChanged { interface, mac, now });
        }
        match (mode, moved_to, self.gateway) {
            (None, ..) => Some(Unready::NotAttached(interface)),
            (_, Some(now), _) => Some(Unready::GatewayMoved { interface, mac: *mac, now: *now }),
            (.., GatewayState::Confirmed(_) | GatewayState::Fixed) => None,
            _ if !routed => Some(Unready::NoDefaultRoute(interface)),
            (.., gateway) => {
                let (silent, heard) = match gateway {
                    GatewayState::Silent(heard) => (true, heard),
                    _ => (false, None),
                };
                Some(Unready::GatewayUnresolved {
                    interface,
                    mac: *mac,
                    next_hop: self.next_hop.map(|next_hop| next_hop.address),
                    silent,
                    heard_seconds_ago: heard.map(|heard| heard.as_secs()),
                    alternative: self.alternative,
                })
            }
        }
    }
}

/// Why an instance is not ready. Its text is one line; [`Self::fix`] is another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Unready {
    /// It does not run, or its state cannot be read.
    NotRunning(String),
    /// The program in the chain is not the balancer's, or the chain does not lead to it.
    NotInChain,
    /// The node is drained since this time, in seconds since 1970, as for maintenance. Packets are forwarded.
    Draining(u64),
    /// It serves no interface.
    NoInterface,
    /// An interface is gone.
    InterfaceMissing(String),
    /// An interface is down.
    InterfaceDown(String),
    /// An interface is up, but has no carrier.
    NoCarrier(String),
    /// The program was removed from an interface, or the interface was made anew.
    NotAttached(String),
    /// An interface that the instance runs on is in another network namespace than the caller.
    OtherNamespace(String),
    /// An interface has another MAC than the packet path was told, and frames to it are not balanced.
    MacChanged {
        /// The interface.
        interface: String,
        /// The MAC that the packet path was told.
        mac: Mac,
        /// The interface's present MAC.
        now: Mac,
    },
    /// An interface's gateway has another MAC than the one that its frames are sent to.
    GatewayMoved {
        /// The interface.
        interface: String,
        /// The MAC that frames are sent to.
        mac: Mac,
        /// The gateway's present MAC.
        now: Mac,
    },
    /// The kernel does not know whether the gateway has the MAC that an interface's frames are sent to.
    GatewayUnresolved {
        /// The interface.
        interface: String,
        /// The MAC.
        mac: Mac,
        /// The gateway's address; `None`: not known.
        next_hop: Option<IpAddr>,
        /// Whether the kernel asks for the MAC and gets no answer. Otherwise the kernel does not ask.
        silent: bool,
        /// How many seconds ago the kernel last heard it, if it remembers.
        heard_seconds_ago: Option<u64>,
        /// Another default router.
        alternative: Option<IpAddr>,
    },
    /// The same, and the default route that named the gateway is gone.
    NoDefaultRoute(String),
    /// An interface is configured, but could not be served at the last attempt.
    NotServed {
        /// The interface.
        interface: String,
        /// Why not, and what to do.
        why: String,
    },
    /// No interface has an address to decapsulate for.
    NoOuterDestination,
    /// There is no address that the inner packets may be for.
    NoInnerDestination,
}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(interface) = self.interface() {
            write!(f, "interface {interface}: ")?;
        }
        f.write_str(&self.what())
    }
}

impl Unready {
    fn interface(&self) -> Option<&str> {
        match self {
            Self::NotRunning(_)
            | Self::NotInChain
            | Self::Draining(_)
            | Self::NoInterface
            | Self::NoOuterDestination
            | Self::NoInnerDestination => None,
            Self::InterfaceMissing(interface)
            | Self::InterfaceDown(interface)
            | Self::NoCarrier(interface)
            | Self::NotAttached(interface)
            | Self::OtherNamespace(interface)
            | Self::MacChanged { interface, .. }
            | Self::GatewayMoved { interface, .. }
            | Self::GatewayUnresolved { interface, .. }
            | Self::NoDefaultRoute(interface)
            | Self::NotServed { interface, .. } => Some(interface),
        }
    }

    /// What is wrong, without the interface's name.
    pub(crate) fn what(&self) -> String {
        match self {
            Self::NotRunning(error) => error.clone(),
            Self::NotInChain => {
                "the balancer's program is not in its place in the chain; 'lbctl apply -f FILE' puts it there"
                    .to_owned()
            }
            Self::Draining(since) => format!("draining since {}", rfc3339(*since)),
            Self::NoInterface => "no interface is served".to_owned(),
            Self::InterfaceMissing(_) => "there is no such interface here".to_owned(),
            Self::InterfaceDown(_) => "it is down".to_owned(),
            Self::NoCarrier(_) => "it is up, but has no carrier".to_owned(),
            Self::NotAttached(_) => "no program of this instance is attached".to_owned(),
            Self::OtherNamespace(_) => {
                "the instance runs on it in another network namespace, and it can only be read there".to_owned()
            }
            Self::MacChanged { mac, now, .. } => {
                format!("its MAC is {now} now, but only frames to {mac} are balanced")
            }
            Self::GatewayMoved { mac, now, .. } => {
                format!("the gateway's MAC is {now} now, but packets are sent to {mac}")
            }
            Self::GatewayUnresolved { mac, next_hop, silent, heard_seconds_ago, .. } => {
                let who = match next_hop {
                    Some(address) => format!("gateway {address} at {mac}"),
                    None => format!("gateway {mac}"),
                };
                let heard = match heard_seconds_ago {
                    Some(seconds) => format!(", and was heard {seconds} s ago"),
                    None => String::new(),
                };
                match (silent, next_hop) {
                    (true, Some(IpAddr::V4(_))) => format!("{who} does not answer ARP{heard}"),
                    (true, _) => format!("{who} does not answer neighbour discovery{heard}"),
                    (false, _) => format!("{who} is not resolved"),
                }
            }
            Self::NoDefaultRoute(_) => {
                "there is no default route by it any more, and its last gateway does not answer".to_owned()
            }
            Self::NotServed { why, .. } => format!("not served: {}", Unserved::reason(why)),
            Self::NoOuterDestination => "no interface has an address to decapsulate for".to_owned(),
            Self::NoInnerDestination => {
                "no loopback device has an address, and --to names none: every packet is dropped".to_owned()
            }
        }
    }

    /// What to do about it, in one line.
    pub fn fix(&self) -> String {
        match self {
            Self::NotRunning(_) | Self::NotInChain | Self::NotAttached(_) => {
                "lbctl apply -f FILE".to_owned()
            }
            Self::NoOuterDestination => {
                "ip address add ADDRESS dev INTERFACE; lbctl decap serve follows by itself".to_owned()
            }
            Self::NoInnerDestination => {
                "ip address add VIP dev lo; lbctl decap serve follows by itself".to_owned()
            }
            Self::Draining(_) => "lbctl node undrain".to_owned(),
            Self::NotServed { why, .. } => Unserved::remedy(why),
            Self::NoInterface => "add one to [[interfaces]], then lbctl apply -f FILE".to_owned(),
            Self::InterfaceMissing(_) => {
                "'ip link' lists the interfaces; create it or correct [[interfaces]], then lbctl apply -f FILE"
                    .to_owned()
            }
            Self::OtherNamespace(_) => {
                "run lbctl in that namespace: 'ip netns exec NAME lbctl …', or 'nsenter --net=/proc/PID/ns/net lbctl …'"
                    .to_owned()
            }
            Self::InterfaceDown(interface) => format!("ip link set {interface} up"),
            Self::NoCarrier(_) => "check the cable, or the other end".to_owned(),
            Self::MacChanged { .. } | Self::GatewayMoved { .. } => {
                "lbctl apply -f FILE; lbctl serve follows by itself".to_owned()
            }
            Self::GatewayUnresolved { interface, alternative, silent, .. } => {
                let ask = format!("is the gateway up? 'ip neigh show dev {interface}'");
                let last = "packets still go to its last MAC";
                match (silent, alternative) {
                    (true, Some(other)) => format!(
                        "{ask}; {last}; 'lbctl apply -f FILE' takes another default router if that answers, such as {other}"
                    ),
                    (true, None) => format!("{ask}; {last}"),
                    (false, _) => format!("lbctl apply -f FILE asks for it; {ask}"),
                }
            }
            Self::NoDefaultRoute(interface) => format!(
                "ip route add default via ROUTER dev {interface}, then lbctl apply -f FILE"
            ),
        }
    }
}

/// Why traffic does not pass through interfaces; served interfaces come first. Leaves out an interface that is still
/// served as before: traffic passes through it, though something else is configured.
pub(crate) fn unready_interfaces(states: &[InterfaceState], unserved: &[Unserved]) -> Vec<Unready> {
    let mut unready: Vec<_> = states.iter().filter_map(InterfaceState::unready).collect();
    // An interface that is gone is in both lists.
    let known = |name: &str| states.iter().any(|state| state.interface == name);
    let waiting = unserved.iter().filter(|one| !one.as_before && !known(&one.name));
    unready.extend(
        waiting.map(|one| Unready::NotServed { interface: one.name.clone(), why: one.why.clone() }),
    );
    if states.is_empty() && unready.is_empty() {
        unready.push(Unready::NoInterface);
    }
    unready
}

fn unreadable(error: &Error) -> Unready {
    Unready::NotRunning(error.to_string())
}

/// Whether an instance is ready for traffic. The error is the first obstacle.
///
/// Returns the pins that somebody removed, if traffic goes on without them: see [`LostPins::goes_on`].
pub fn readiness(instance: &Instance) -> Result<LostPins, Unready> {
    let balancer = match Balancer::open(instance) {
        Err(Error::LostPins(lost)) => return ready_without_pins(instance, *lost),
        opened => opened.map_err(|error| unreadable(&error))?,
    };
    let control = balancer.dataplane.control().map_err(|error| unreadable(&error))?;
    if let Some(control) = control.filter(|control| control.draining_since != 0) {
        return Err(Unready::Draining(control.draining_since.into()));
    }
    let in_place = Chain::open(instance)
        .and_then(|chain| chain.in_place(OwnProgram::Balancer.slot(), OwnProgram::Balancer.name()))
        .map_err(|error| unreadable(&error))?;
    if !in_place {
        return Err(Unready::NotInChain);
    }
    let interfaces = balancer.interface_states().map_err(|error| unreadable(&error))?;
    let unserved = balancer.unserved().map_err(|error| unreadable(&error))?;
    let unready = unready_interfaces(&interfaces, &unserved).into_iter().next();
    unready.map_or_else(|| Ok(LostPins::default()), Err)
}

/// The same, if pins are lost and maps cannot be read: then this only checks whether the program runs on the
/// interfaces.
pub(crate) fn ready_without_pins(instance: &Instance, lost: LostPins) -> Result<LostPins, Unready> {
    if !lost.goes_on() {
        return Err(Unready::NotRunning(lost.to_string()));
    }
    let links = links::links(instance).map_err(|error| unreadable(&error))?;
    for (name, running) in &links {
        if running.elsewhere().is_some() {
            return Err(Unready::OtherNamespace(name.clone()));
        }
        let link = netlink::link_blocking(name).ok();
        if let Some(unready) = LinkState::of(link.as_ref()).unready(name) {
            return Err(unready);
        }
        if running.ifindex().is_none() {
            return Err(Unready::NotAttached(name.clone()));
        }
    }
    if links.is_empty() { Err(Unready::NoInterface) } else { Ok(lost) }
}

impl Balancer {
    /// The interfaces, and what the kernel knows of them and of their gateways. Sends nothing to the gateways.
    pub fn interface_states(&self) -> Result<Vec<InterfaceState>> {
        Ok(self.observed()?.into_iter().map(|(_, state)| state).collect())
    }

    /// The same, with their configuration.
    pub(crate) fn observed(&self) -> Result<Vec<(InterfaceConfig, InterfaceState)>> {
        let running = read_interfaces(self.instance(), &self.dataplane)?;
        let served: Vec<_> = running
            .into_iter()
            .filter_map(|(name, interface)| {
                let entry = interface.entry?;
                Some((entry, interface_config(&name, &entry), interface))
            })
            .collect();
        let wanted: Vec<_> = served
            .iter()
            .map(|(entry, config, interface)| InUse {
                // An interface without the program may have been made anew. Without a link, its name is not known.
                which: if interface.elsewhere.is_some() {
                    Which::Elsewhere
                } else if interface.mode.is_none() && interface.pin.is_some() {
                    Which::Name(config.name.clone())
                } else {
                    Which::Index(entry.ifindex)
                },
                gateway: gateway_of(config),
                next_hop: next_hop(entry),
                mac: Mac::from(entry.mac),
            })
            .collect();
        let observed = netlink::observe_blocking(&wanted)?;
        let states =
            served.into_iter().zip(observed).map(|((entry, config, running), observed)| {
                let Observed { link, known, routed, moved_to, alternative } = observed;
                let state = InterfaceState {
                    interface: config.name.clone(),
                    link: match running.elsewhere {
                        Some(_) => LinkState::OtherNamespace,
                        None => LinkState::of(link.as_ref()),
                    },
                    mode: running.mode,
                    mtu: entry.mtu,
                    mtu_now: link.as_ref().map(|link| link.mtu),
                    own_mac: abi::mac_of(entry.own),
                    own_mac_now: link.and_then(|link| link.mac),
                    macs: config.macs.clone(),
                    mac: entry.mac.into(),
                    gateway: match known {
                        Known::Confirmed(ago) => GatewayState::Confirmed(ago),
                        Known::Fixed => GatewayState::Fixed,
                        Known::Silent(heard) => GatewayState::Silent(heard),
                        Known::Not => GatewayState::Unresolved,
                    },
                    next_hop: next_hop(&entry),
                    alternative,
                    moved_to,
                    routed,
                };
                (config, state)
            });
        Ok(states.collect())
    }
}
