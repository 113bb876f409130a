//! Whether an instance does its work: it runs, its interfaces are attached, their gateways are known.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::abi::consts;
use crate::addr::Mac;
use crate::balancer::Balancer;
use crate::balancer::PROGRAM;
use crate::balancer::read_interfaces;
use crate::chain::Chain;
use crate::config::XdpMode;
use crate::error::Error;
use crate::error::Result;
use crate::instance::Instance;
use crate::netlink;
use crate::netlink::Known;

/// What is known of the MAC that an interface's frames go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayState {
    /// The kernel has no neighbour on the interface with this MAC, or has asked it in vain.
    Unresolved,
    /// The kernel heard so long ago that the MAC is right. It asks again when it needs the neighbour and has
    /// not heard of it for about half a minute.
    Confirmed(Duration),
    /// Nobody asks: the configuration names the MAC, or an operator put it into the kernel's table.
    Fixed,
}

/// An interface that the balancer serves, and its gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InterfaceState {
    /// The interface's name.
    pub interface: String,
    /// How the chain is attached to it; `None`: it is not, or the interface is gone.
    pub mode: Option<XdpMode>,
    /// Bytes of IP packet that it can send.
    pub mtu: u32,
    /// The MAC that frames to reals are sent to.
    pub mac: Mac,
    /// What is known of that MAC.
    pub gateway: GatewayState,
}

/// Why an instance is not ready. Its text is one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Unready {
    /// It does not run, or what runs cannot be read.
    NotRunning(String),
    /// Its program is not the one in the chain, or the chain does not lead to it.
    NotInChain,
    /// It serves no interface.
    NoInterface,
    /// An interface is gone, or the program was taken off it.
    NotAttached(String),
    /// The kernel does not know who has the MAC that an interface's frames are sent to.
    GatewayUnresolved {
        /// The interface.
        interface: String,
        /// The MAC.
        mac: Mac,
    },
}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning(error) => f.write_str(error),
            Self::NotInChain => f.write_str(
                "the balancer's program is not in its place in the chain; 'lbctl apply -f FILE' puts it there",
            ),
            Self::NoInterface => f.write_str("no interface is served"),
            Self::NotAttached(interface) => {
                write!(f, "interface {interface}: no program of this instance is attached")
            }
            Self::GatewayUnresolved { interface, mac } => {
                write!(f, "interface {interface}: gateway {mac} is not resolved")
            }
        }
    }
}

/// Whether an instance is ready for traffic: the first thing that is in the way is the error.
pub fn readiness(instance: &Instance) -> Result<(), Unready> {
    let unreadable = |error: Error| Unready::NotRunning(error.to_string());
    let balancer = Balancer::open(instance).map_err(unreadable)?;
    let in_place = Chain::open(instance)
        .and_then(|chain| chain.in_place(consts::SLOT_BALANCER, PROGRAM))
        .map_err(unreadable)?;
    if !in_place {
        return Err(Unready::NotInChain);
    }
    let interfaces = balancer.interface_states().map_err(unreadable)?;
    if interfaces.is_empty() {
        return Err(Unready::NoInterface);
    }
    interfaces.into_iter().try_for_each(|state| match state {
        InterfaceState { interface, mode: None, .. } => Err(Unready::NotAttached(interface)),
        InterfaceState { interface, mac, gateway: GatewayState::Unresolved, .. } => {
            Err(Unready::GatewayUnresolved { interface, mac })
        }
        _ => Ok(()),
    })
}

impl Balancer {
    /// The interfaces, and what the kernel knows of their gateways. Asks no gateway.
    pub fn interface_states(&self) -> Result<Vec<InterfaceState>> {
        let running = read_interfaces(self.instance(), &self.dataplane)?;
        let served: Vec<_> = running
            .into_iter()
            .filter_map(|(name, interface)| Some((name, interface.mode, interface.entry?)))
            .collect();
        // An interface that is gone has no neighbours.
        let asks = |entry: &crate::abi::interface, mode: Option<XdpMode>| {
            mode.is_some() && u32::from(entry.gateway_kind) != consts::GATEWAY_MAC
        };
        let wanted: Vec<_> = served
            .iter()
            .filter(|(_, mode, entry)| asks(entry, *mode))
            .map(|(_, _, entry)| (entry.ifindex, Mac::from(entry.mac).0))
            .collect();
        let mut known = netlink::known_blocking(&wanted)?.into_iter();
        let states = served.into_iter().map(|(interface, mode, entry)| {
            let gateway = if u32::from(entry.gateway_kind) == consts::GATEWAY_MAC {
                GatewayState::Fixed
            } else {
                match mode.and_then(|_| known.next()) {
                    Some(Known::Confirmed(ago)) => GatewayState::Confirmed(ago),
                    Some(Known::Fixed) => GatewayState::Fixed,
                    Some(Known::Not) | None => GatewayState::Unresolved,
                }
            };
            InterfaceState { interface, mode, mtu: entry.mtu, mac: entry.mac.into(), gateway }
        });
        Ok(states.collect())
    }
}
