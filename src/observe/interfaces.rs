//! The interfaces that a balancer serves, as they are now.

use serde::Serialize;

use crate::kernel::netlink::NextHop;
use crate::model::address::Mac;
use crate::model::config::InterfaceConfig;
use crate::model::config::XdpMode;
use crate::observe::readiness::InterfaceState;
use crate::observe::readiness::LinkState;

/// An interface that the balancer serves.
#[derive(Clone, Debug, Serialize)]
pub struct InterfaceStatus {
    /// What was asked for.
    #[serde(flatten)]
    pub config: InterfaceConfig,
    /// Whether it can carry packets.
    pub link: LinkState,
    /// How it is attached; `None`: the interface is gone, or the program was removed from it.
    pub mode: Option<XdpMode>,
    /// Its own MAC, as the packet path was told; `None`: any unicast MAC counts.
    pub own_mac: Option<Mac>,
    /// The same, as the interface has it now; `None`: it is gone, or has none.
    pub own_mac_now: Option<Mac>,
    /// The MAC that frames to reals are sent to.
    pub mac: Mac,
    /// The address that this MAC was found by; `None`: the MAC was configured.
    pub next_hop: Option<NextHop>,
    /// Bytes of IP packet that it can send, as the packet path was told.
    pub mtu: u32,
    /// The same, as the interface has it now; `None`: it is gone.
    pub mtu_now: Option<u32>,
}

impl InterfaceStatus {
    /// Combines what was asked for with what is there.
    pub(crate) fn new(config: InterfaceConfig, state: &InterfaceState) -> Self {
        Self {
            config,
            link: state.link,
            mode: state.mode,
            own_mac: state.own_mac,
            own_mac_now: state.own_mac_now,
            mac: state.mac,
            next_hop: state.next_hop,
            mtu: state.mtu,
            mtu_now: state.mtu_now,
        }
    }
}
