//! An interface as the system, the maps and the configuration describe it.

use std::net::IpAddr;

use crate::model::abi;
use crate::model::abi::consts;
use crate::model::address::Mac;
use crate::model::config::GatewayAddress;
use crate::model::config::InterfaceConfig;
use crate::model::config::XdpMode;
use crate::model::next_hop::NextHop;
use crate::model::next_hop::RouteFamily;

/// An interface of the configuration, as the system describes it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ResolvedInterface {
    pub(crate) config: InterfaceConfig,
    pub(crate) ifindex: u32,
    pub(crate) mtu: u32,
    /// Its own MAC; `None`: any MAC of a single host counts as its own.
    pub(crate) mac: Option<Mac>,
    pub(crate) gateway: Mac,
    /// The next hop by which the gateway was found; `None`: the gateway is fixed, or the next hop is not known.
    pub(crate) next_hop: Option<NextHop>,
    /// Next hops of better default routes that did not answer.
    pub(crate) passed_over: Vec<IpAddr>,
}

impl ResolvedInterface {
    /// What attaching needs: name, index and mode.
    pub(crate) fn target(&self) -> (&str, u32, XdpMode) {
        (&self.config.name, self.ifindex, self.config.xdp_mode)
    }

    /// The entry that the packet path needs.
    pub(crate) fn entry(&self) -> abi::interface {
        let mut mac = [0; 6];
        mac.copy_from_slice(&self.gateway.octets());
        let (kind, address) = match (self.config.gateway_mac, self.config.gateway) {
            (Some(_), _) => (consts::GATEWAY_MAC, None),
            (None, Some(GatewayAddress::Address(address))) => {
                (consts::GATEWAY_ADDRESS, Some(address))
            }
            (None, _) => (consts::GATEWAY_AUTO, self.next_hop.map(|next_hop| next_hop.address)),
        };
        let route = match self.next_hop.filter(|_| kind == consts::GATEWAY_AUTO) {
            Some(NextHop { route: Some(RouteFamily::Ipv4), .. }) => consts::ROUTE_V4,
            Some(NextHop { route: Some(RouteFamily::Ipv6), .. }) => consts::ROUTE_V6,
            _ => consts::ROUTE_NONE,
        };
        let mode = match self.config.xdp_mode {
            XdpMode::Auto => consts::MODE_AUTO,
            XdpMode::Native => consts::MODE_NATIVE,
            XdpMode::Generic => consts::MODE_GENERIC,
        };
        let mut macs = [u64::from(consts::NO_MAC); consts::MAX_MACS as usize];
        for (place, mac) in macs.iter_mut().zip(&self.config.macs) {
            *place = abi::mac_word(*mac);
        }
        abi::interface {
            ifindex: self.ifindex,
            mtu: self.mtu,
            own: self.mac.map_or(consts::NO_MAC.into(), abi::mac_word),
            macs,
            any_unicast: u32::from(self.mac.is_none()),
            gateway_route: route,
            mac,
            gateway_kind: kind.to_le_bytes()[0],
            mode: mode.to_le_bytes()[0],
            gateway: address.map(abi::lb_addr::from).unwrap_or_default(),
        }
    }
}

/// An interface entry, in the words of the configuration.
pub(crate) fn interface_config(name: &str, entry: &abi::interface) -> InterfaceConfig {
    let xdp_mode = match u32::from(entry.mode) {
        consts::MODE_NATIVE => XdpMode::Native,
        consts::MODE_GENERIC => XdpMode::Generic,
        _ => XdpMode::Auto,
    };
    let (gateway, gateway_mac) = match u32::from(entry.gateway_kind) {
        consts::GATEWAY_MAC => (None, Some(Mac::from(entry.mac))),
        consts::GATEWAY_ADDRESS => {
            (Some(GatewayAddress::Address(IpAddr::from(entry.gateway))), None)
        }
        _ => (Some(GatewayAddress::Auto), None),
    };
    let macs = entry.macs.iter().filter_map(|word| abi::mac_of(*word)).collect();
    InterfaceConfig { name: name.to_owned(), xdp_mode, gateway, gateway_mac, macs }
}

/// The next hop by which the gateway of an interface entry was found; `None`: there was none, or it is not known.
pub(crate) fn next_hop(entry: &abi::interface) -> Option<NextHop> {
    let address = IpAddr::from(entry.gateway);
    let route = match (u32::from(entry.gateway_kind), entry.gateway_route) {
        (consts::GATEWAY_ADDRESS, _) => None,
        (consts::GATEWAY_AUTO, consts::ROUTE_V4) => Some(RouteFamily::Ipv4),
        (consts::GATEWAY_AUTO, consts::ROUTE_V6) => Some(RouteFamily::Ipv6),
        _ => return None,
    };
    Some(NextHop { address, route })
}

/// An interface as the instance has it.
#[derive(Clone, Debug)]
pub(crate) struct RunningInterface {
    /// The name of its link's pin. The interface may have another name now. `None`: there is no link.
    pub(crate) pin: Option<String>,
    /// The index of the interface of this network namespace that the link is attached to. `None`: there is no link, or
    /// its interface is gone or in another namespace.
    pub(crate) attached: Option<u32>,
    /// The index of the link's interface in another network namespace.
    pub(crate) elsewhere: Option<u32>,
    /// How it is attached.
    pub(crate) mode: Option<XdpMode>,
    /// Its entry for the packet path; `None`: the balancer does not serve it.
    pub(crate) entry: Option<abi::interface>,
    /// Another program of the chain needs the link.
    pub(crate) needed_by_others: bool,
}

impl RunningInterface {
    /// Whether the interface of the link or the entry no longer exists.
    pub(crate) fn is_gone(&self) -> bool {
        self.attached.is_none() && self.elsewhere.is_none()
    }
}
