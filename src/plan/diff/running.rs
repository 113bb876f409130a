//! What the maps hold, as the planning of writes sees it. Pure.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;

use rustc_hash::FxHashMap;

use crate::model::abi::consts;
use crate::model::address::Vip;
use crate::model::health::policies::Policies;
use crate::model::real_way::Neighbour;
use crate::model::real_way::RealWay;
use crate::model::tunnel_end::TunnelEnds;
use crate::model::tunnel_end::TunnelSource;
use crate::model::vip_key::VipKey;
use crate::model::vip_real::VipRealKey;
use crate::model::vip_table::Table;
use crate::model::vip_table::VipSpec;
use crate::plan::rings::RingImage;

/// A VIP as the maps hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunningVip {
    pub(crate) id: u32,
    /// Where the counters of its reals begin; 0: it counts by real only.
    pub(crate) counters: u32,
    pub(crate) serial: u32,
    pub(crate) flags: u32,
    /// It has the mark of an incomplete change.
    pub(crate) changing: bool,
    pub(crate) spec: VipSpec,
    /// Real ids that no packet of the VIP may go to.
    pub(crate) barred: BTreeSet<u32>,
}

impl RunningVip {
    /// What its ring must hold; `None`: it has none.
    pub(crate) fn ring(&self, ids: &FxHashMap<IpAddr, u32>) -> Option<RingImage> {
        RingImage::new(self.spec.members(), ids, self.barred.clone())
    }
}

/// An entry of `reals`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunningReal {
    pub(crate) address: IpAddr,
    pub(crate) generation: u32,
    pub(crate) live: bool,
    pub(crate) way: RealWay,
}

/// What the maps hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Running {
    pub(crate) vips: BTreeMap<Vip, RunningVip>,
    /// The markers and their flags.
    pub(crate) markers: BTreeMap<VipKey, u32>,
    /// All ids that were ever used.
    pub(crate) reals: BTreeMap<u32, RunningReal>,
    pub(crate) server_ids: BTreeMap<u32, u32>,
    /// Where frames for reals go, by their ids.
    pub(crate) neighbours: BTreeMap<u32, Neighbour>,
    pub(crate) next_serial: u32,
    /// The addresses at which tunnels end.
    pub(crate) decapsulate: TunnelEnds,
    /// Sources that no such address checks: an interrupted command left them.
    pub(crate) stray_sources: BTreeSet<TunnelSource>,
    /// The checks, and what VIPs say about them.
    pub(crate) policies: Policies,
    /// Rings, reals and marks of ids that no VIP has: an interrupted command left them.
    pub(crate) stray_rings: BTreeSet<u32>,
    pub(crate) stray_vip_reals: Vec<VipRealKey>,
    /// The index of the VIPs does not match `vips`: a command was interrupted before it wrote the index.
    pub(crate) stale_index: bool,
    /// Ids of VIPs whose rings do not match their reals, and how many slots differ. Empty if rings were not compared.
    pub(crate) wrong_rings: BTreeMap<u32, u32>,
    /// Ids of VIPs whose rings are right, but have no checksum.
    pub(crate) unsigned_rings: BTreeSet<u32>,
    /// Ids of reals whose entries for the packet path do not match their addresses. Empty if entries were not
    /// compared.
    pub(crate) wrong_reals: BTreeSet<u32>,
}

impl Running {
    /// What runs, as a table of the same type as the wanted one.
    pub(crate) fn table(&self) -> Table {
        let vips = self.vips.iter().map(|(vip, running)| (*vip, running.spec.clone())).collect();
        Table {
            vips,
            server_ids: self.server_id_addresses(),
            checks: self.policies.checks.clone(),
            health: self.policies.health.clone(),
            decapsulate: self.decapsulate.clone(),
            ..Table::default()
        }
    }

    /// The same, without a copy of all reals.
    pub(crate) fn into_table(self) -> Table {
        let server_ids = self.server_id_addresses();
        let vips = self.vips.into_iter().map(|(vip, running)| (vip, running.spec)).collect();
        let Policies { checks, health, .. } = self.policies;
        let decapsulate = self.decapsulate;
        Table { vips, server_ids, checks, health, decapsulate, ..Table::default() }
    }

    /// What a VIP is like.
    pub(crate) fn spec(&self, vip: &Vip) -> Option<&VipSpec> {
        self.vips.get(vip).map(|running| &running.spec)
    }

    pub(super) fn server_id_addresses(&self) -> BTreeMap<u32, IpAddr> {
        let address =
            |real: &u32| self.reals.get(real).filter(|real| real.live).map(|real| real.address);
        self.server_ids.iter().filter_map(|(id, real)| Some((*id, address(real)?))).collect()
    }

    /// Address → id.
    pub(crate) fn live_ids(&self) -> FxHashMap<IpAddr, u32> {
        let live = self.reals.iter().filter(|(_, real)| real.live);
        live.map(|(id, real)| (real.address, *id)).collect()
    }
}

impl RunningReal {
    /// Whether the flows of a generation belong to this address. This is also known of a cleared real, until its id
    /// has another owner.
    pub(crate) fn owns(&self, generation: u32) -> bool {
        self.generation == if self.live { generation } else { next_generation(generation) }
    }
}

/// The generation of a real's id for its next owner.
pub(super) fn next_generation(generation: u32) -> u32 {
    generation % consts::MAX_GENERATION + 1
}
