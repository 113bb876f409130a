//! How much memory the maps take.

use libbpf_rs::MapCore;
use libbpf_rs::MapHandle;
use libbpf_rs::MapType;
use serde::Serialize;

use crate::dataplane::balancer::Balancer;
use crate::instance::kernel_is_at_least;
use crate::instance::own_programs::OwnProgram;
use crate::instance::programs;
use crate::kernel::host::possible_cpus;
use crate::kernel::maps;
use crate::kernel::maps::ArrayOfMaps;
use crate::kernel::maps::MapError;
use crate::kernel::maps::kernel_bytes;
use crate::model::abi::consts;
use crate::model::error::Result;
use crate::model::host::MapShape;
use crate::plan::map_cost::KERNEL_COUNTS_ALL;
use crate::plan::memory::Usage;

/// What maps of one purpose take, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MapsMemory {
    /// The purpose: `connection tables`, `rings`, `counters` or `other maps`.
    pub maps: &'static str,
    /// As [`Plan::memory`](crate::Plan::memory) has it.
    pub planned: u64,
    /// As the kernel counts it; `None`: the kernel is older than 6.4 and leaves out a large part.
    pub kernel: Option<u64>,
}

impl Balancer {
    /// The memory of the maps, by their pins.
    pub fn map_memory(&self) -> Result<Vec<MapMemory>> {
        let (cpus, tells) = (possible_cpus()?, kernel_is_at_least(KERNEL_COUNTS_ALL)?);
        let bytes =
            |map: &MapHandle| if tells { Ok(kernel_bytes(map)?) } else { computed(map, cpus) };
        let mut all = Vec::new();
        for map in OwnProgram::Balancer.maps() {
            let outer = maps::open(&self.instance().map(map))?;
            let mut sum = bytes(&outer)?;
            if outer.map_type() == MapType::ArrayOfMaps {
                let places = outer.max_entries();
                let outer = ArrayOfMaps::new(outer);
                for place in 0..places {
                    sum += outer.at(place)?.map_or(Ok(0), |map| bytes(&map))?;
                }
            }
            all.push(MapMemory { map, bytes: sum });
        }
        Ok(all)
    }

    /// The memory of the maps, by purpose.
    pub(crate) fn maps_memory(&self) -> Result<Vec<MapsMemory>> {
        let (cpus, maps) = (possible_cpus()?, programs::balancer_maps()?);
        let own = self.tables()?;
        let planned = Usage::of(&own, &self.dataplane.read_table(0)?, &maps, cpus);

        let mut tables = sum_inner(&self.dataplane.connections, [consts::SHARED_TABLE])?;
        for (_, outer) in self.dataplane.table_maps() {
            tables += sum_inner(outer, own.own.keys().map(|cpu| own.place(*cpu)))?;
        }
        let rings = sum_inner(&self.dataplane.rings, 0..consts::MAX_VIPS)?;
        let (mut counters, mut other) = (0, sum_inner(&self.dataplane.vip_index, [0])?);
        for name in OwnProgram::Balancer.maps() {
            let map = maps::open(&self.instance().map(name))?;
            let sum = if map.map_type().is_percpu() { &mut counters } else { &mut other };
            *sum += kernel_bytes(&map)?;
        }

        let tells = kernel_is_at_least(KERNEL_COUNTS_ALL)?;
        let group = |maps, planned, kernel| {
            let kernel = tells.then_some(kernel);
            MapsMemory { maps, planned, kernel }
        };
        Ok(vec![
            group("connection tables", planned.tables(), tables),
            group("rings", planned.rings, rings),
            group("counters", planned.counters, counters),
            group("other maps", planned.other, other),
        ])
    }
}

/// The memory of the maps at these indices, as the kernel reports it.
fn sum_inner(outer: &ArrayOfMaps, places: impl IntoIterator<Item = u32>) -> Result<u64> {
    let mut sum = 0;
    for place in places {
        if let Some(map) = outer.at(place)? {
            sum += kernel_bytes(&map)?;
        }
    }
    Ok(sum)
}

/// The memory of the maps below a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MapMemory {
    /// The pin's name. `rings`, for example, stands for all rings and the map that holds them.
    pub map: &'static str,
    /// Bytes as the kernel counts them. Before Linux 6.4 the kernel leaves out a large part, so `lbctl` computes them.
    pub bytes: u64,
}

/// The memory of a map, computed from its shape.
pub(crate) fn computed(map: &MapHandle, cpus: u32) -> Result<u64> {
    let info = map
        .info()
        .map_err(|error| MapError::new(&map.name().to_string_lossy(), "ask about", error))?;
    let shape = MapShape {
        kind: map.map_type(),
        flags: info.info.map_flags,
        key_size: map.key_size(),
        value_size: map.value_size(),
        max_entries: map.max_entries(),
    };
    Ok(shape.bytes(cpus))
}
