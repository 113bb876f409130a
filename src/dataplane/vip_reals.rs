//! The record of the reals of each VIP, which only the control plane uses. The map's memory is shared, so reading
//! fifty thousand entries costs no more than copying them.

use libbpf_rs::MapHandle;
use rustc_hash::FxHashMap;
use rustc_hash::FxHashSet;

use crate::kernel::maps::Map;
use crate::kernel::maps::MapError;
use crate::model::abi;
use crate::model::vip_real::VipRealKey;

type Result<T> = std::result::Result<T, MapError>;

/// See `vip_reals` in state/maps.h.
#[derive(Debug)]
pub(crate) struct VipReals(Map<u32, abi::vip_real>);

impl VipReals {
    pub(crate) fn new(handle: MapHandle) -> Result<Self> {
        Map::new(handle).map(Self)
    }

    /// Calls `take` for each entry, in no particular order.
    pub(crate) fn each(&self, mut take: impl FnMut(abi::vip_real)) -> Result<()> {
        self.0.each_value(|_, entry| {
            if !entry.is_none() {
                take(entry);
            }
        })
    }

    /// Finds the entries of these VIPs, to write them. The result stays right while nobody else writes. It has room for
    /// `more` new entries, or for as many as fit.
    pub(crate) fn writer(&self, vips: &FxHashSet<u32>, more: usize) -> Result<Writer<'_>> {
        let (mut places, mut free) = (FxHashMap::default(), Vec::new());
        self.0.each_value(|place, entry| {
            if !entry.is_none() {
                if vips.contains(&entry.vip) {
                    places.insert(entry.key(), place);
                }
            } else if free.len() < more {
                free.push(place);
            }
        })?;
        // The first free places come first.
        free.reverse();
        Ok(Writer { map: &self.0, places, free })
    }
}

/// See [`VipReals::writer`].
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    map: &'a Map<u32, abi::vip_real>,
    places: FxHashMap<VipRealKey, u32>,
    free: Vec<u32>,
}

impl Writer<'_> {
    /// Writes these entries. An entry of the same VIP and real is replaced.
    pub(crate) fn set(&mut self, entries: &[abi::vip_real]) -> Result<()> {
        let mut set = Vec::with_capacity(entries.len());
        for entry in entries {
            let known = self.places.get(&entry.key()).copied();
            let Some(place) = known.or_else(|| self.free.pop()) else {
                return Err(self.map.full());
            };
            self.places.insert(entry.key(), place);
            set.push((place, *entry));
        }
        self.map.set_many(&set)
    }

    /// Removes these entries. Skips those that do not exist.
    pub(crate) fn remove(&mut self, keys: &[VipRealKey]) -> Result<()> {
        let gone: Vec<u32> = keys.iter().filter_map(|key| self.places.remove(key)).collect();
        let none = abi::vip_real::default();
        self.map.set_many(&gone.iter().map(|place| (*place, none)).collect::<Vec<_>>())?;
        self.free.extend(gone);
        Ok(())
    }
}
