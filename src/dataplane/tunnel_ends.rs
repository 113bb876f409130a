//! The addresses at which tunnels end: the maps `tunnel_ends` and `tunnel_sources`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use libbpf_rs::MapHandle;

use crate::kernel::maps::Map;
use crate::kernel::maps::MapError;
use crate::model::abi;
use crate::model::config::DecapsulateThen;
use crate::model::tunnel_end::TunnelEnd;
use crate::model::tunnel_end::TunnelEnds;
use crate::model::tunnel_end::TunnelSource;
use crate::model::tunnel_end::together;

/// The two maps.
#[derive(Debug)]
pub(crate) struct TunnelEndMaps {
    ends: Map<abi::lb_addr, abi::tunnel_end>,
    sources: Map<abi::tunnel_source, u32>,
}

impl TunnelEndMaps {
    pub(crate) fn new(ends: MapHandle, sources: MapHandle) -> Result<Self, MapError> {
        Ok(Self { ends: Map::new(ends)?, sources: Map::new(sources)? })
    }

    /// What they hold, and the sources that nothing checks.
    pub(crate) fn read(&self) -> Result<(TunnelEnds, BTreeSet<TunnelSource>), MapError> {
        let ends = self.ends.entries()?.into_iter().map(|(address, raw)| {
            (IpAddr::from(address), DecapsulateThen::from_raw(raw.then), raw.check_source != 0)
        });
        let sources = self.sources.walk()?.into_iter().filter_map(|(raw, _)| raw.parts());
        Ok(together(ends, sources))
    }

    pub(crate) fn set(&self, ends: &[(IpAddr, TunnelEnd)]) -> Result<(), MapError> {
        ends.iter().try_for_each(|(address, end)| {
            let check_source = end.from.is_some().into();
            self.ends
                .set(&(*address).into(), &abi::tunnel_end { then: end.then.raw(), check_source })
        })
    }

    pub(crate) fn remove(&self, addresses: &[IpAddr]) -> Result<(), MapError> {
        addresses.iter().try_for_each(|address| self.ends.remove(&(*address).into()).map(drop))
    }

    pub(crate) fn add_sources(&self, sources: &[TunnelSource]) -> Result<(), MapError> {
        sources.iter().try_for_each(|(address, prefix)| {
            self.sources.set(&abi::tunnel_source::of(*address, *prefix), &1)
        })
    }

    pub(crate) fn remove_sources(&self, sources: &[TunnelSource]) -> Result<(), MapError> {
        sources.iter().try_for_each(|(address, prefix)| {
            self.sources.remove(&abi::tunnel_source::of(*address, *prefix)).map(drop)
        })
    }
}
