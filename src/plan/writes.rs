//! The writes that bring the maps from one table to another.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::model::abi;
use crate::model::health::policies::Policies;
use crate::model::real_way::Neighbour;
use crate::model::tunnel_end::TunnelEnd;
use crate::model::tunnel_end::TunnelSource;
use crate::model::vip_key::VipKey;
use crate::model::vip_real::VipRealKey;
use crate::plan::counter_change::CounterChange;
use crate::plan::diff::running::RunningReal;
use crate::plan::rings::RingImage;

/// One step. After each step, and after each part of a step with several, the packet path finds a consistent table.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    /// Forgets the flows of reals that get an id with a generation that was used before.
    ForgetReals(BTreeSet<u32>),
    /// Forgets the flows of all VIPs but those with these serials: serials start over.
    ForgetVipsBut(BTreeSet<u32>),
    /// Hands out serials: those below `next_serial` are used.
    Serials {
        next_serial: u32,
    },
    Reals(Vec<(u32, RunningReal)>),
    SetReal {
        id: u32,
        real: RunningReal,
    },
    /// Where frames for reals go, by their ids.
    Neighbours(Vec<(u32, Option<Neighbour>)>),
    ServerIds(Vec<(u32, u32)>),
    RemoveServerId(u32),
    /// Brings the index in line with `vips`. [`Write::Vips`] and [`Write::RemoveVip`] do so too.
    VipIndex,
    Vips(Vec<(VipKey, abi::vip)>),
    RemoveVip(VipKey),
    /// Hands on the counters of pairs of a VIP and a real.
    Counters(Vec<CounterChange>),
    /// Sets a VIP's counters to zero: its id had another owner.
    ClearVipCounts(u32),
    /// Replaces each ring in one step, and then waits until no packet uses the old one.
    Rings(Vec<(u32, RingImage)>),
    /// Overwrites rings in place, which takes microseconds. During that time, some slots are still those of the old
    /// ring, and packets that began before may use them for as long again.
    RewriteRings(Vec<(u32, RingImage)>),
    RemoveRings(Vec<u32>),
    VipReals(Vec<abi::vip_real>),
    RemoveVipReals(Vec<VipRealKey>),
    TunnelEnds(Vec<(IpAddr, TunnelEnd)>),
    RemoveTunnelEnds(Vec<IpAddr>),
    TunnelSources(Vec<TunnelSource>),
    RemoveTunnelSources(Vec<TunnelSource>),
    /// Replaces the checks, and what VIPs say about them.
    Policies(Box<Policies>),
}

impl Write {
    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Reals(of) => of.is_empty(),
            Self::Neighbours(of) => of.is_empty(),
            Self::ServerIds(of) | Self::RemoveVipReals(of) => of.is_empty(),
            Self::Vips(of) => of.is_empty(),
            Self::Counters(of) => of.is_empty(),
            Self::Rings(of) | Self::RewriteRings(of) => of.is_empty(),
            Self::RemoveRings(of) => of.is_empty(),
            Self::VipReals(of) => of.is_empty(),
            Self::TunnelEnds(of) => of.is_empty(),
            Self::RemoveTunnelEnds(of) => of.is_empty(),
            Self::TunnelSources(of) | Self::RemoveTunnelSources(of) => of.is_empty(),
            Self::Serials { .. }
            | Self::Policies(_)
            | Self::VipIndex
            | Self::ForgetReals(_)
            | Self::ForgetVipsBut(_)
            | Self::SetReal { .. }
            | Self::RemoveServerId(_)
            | Self::RemoveVip(_)
            | Self::ClearVipCounts(_) => false,
        }
    }
}
