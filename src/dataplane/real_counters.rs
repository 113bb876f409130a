//! The counters of pairs of a VIP and a real, see `LB_REAL_COUNTS` in abi/counters.h.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;

use libbpf_rs::MapHandle;
use rustc_hash::FxHashMap;

use super::Dataplane;
use crate::kernel::maps::Map;
use crate::kernel::maps::MapError;
use crate::kernel::maps::PerCpuArray;
use crate::model::abi;
use crate::model::abi::consts;
use crate::model::address::Vip;
use crate::model::error::Result;
use crate::model::vip_table::VipSpec;
use crate::plan::counter_change::CounterChange;
use crate::plan::counter_change::hand_on;
use crate::plan::counter_change::minus;
use crate::plan::counter_change::plus;

/// Packets and bytes, as two counters of the kernel.
pub(crate) type Counted = abi::count;

/// The maps of these counters.
#[derive(Debug)]
pub(crate) struct RealCounters {
    blocks: PerCpuArray<abi::count_block>,
    starts: Map<u32, abi::count>,
}

/// A pair of a VIP and a real, and its counter.
#[derive(Clone, Copy, Debug)]
struct Pair {
    vip: Vip,
    real: u32,
    /// `None`: the VIP counts by real only.
    counter: Option<u32>,
}

/// What was sent to reals.
#[derive(Debug, Default)]
pub(crate) struct SentToReals {
    /// For all VIPs.
    pub(crate) in_all: BTreeMap<IpAddr, Counted>,
    /// For one VIP. Left out: the VIP counts by real only.
    pub(crate) by_vip: FxHashMap<(Vip, IpAddr), Counted>,
}

impl RealCounters {
    pub(crate) fn new(blocks: MapHandle, starts: MapHandle) -> Result<Self, MapError> {
        Ok(Self { blocks: PerCpuArray::new(blocks)?, starts: Map::new(starts)? })
    }

    /// What these counters have counted on all CPUs since the kernel made them.
    fn sums(&self, counters: &BTreeSet<u32>) -> Result<FxHashMap<u32, Counted>> {
        let mut sums = FxHashMap::default();
        sums.reserve(counters.len());
        self.each_block(counters, |block, of_cpus| {
            let mut sum = [Counted::default(); consts::COUNTS_PER_BLOCK as usize];
            for of_cpu in of_cpus {
                for (sum, count) in sum.iter_mut().zip(of_cpu.of) {
                    *sum = plus(*sum, count);
                }
            }
            let first = block * consts::COUNTS_PER_BLOCK;
            for counter in counters.range(first..first + consts::COUNTS_PER_BLOCK) {
                sums.insert(*counter, sum[(counter - first) as usize]);
            }
        })?;
        Ok(sums)
    }

    /// Reads the blocks that have these counters.
    fn each_block(
        &self,
        counters: &BTreeSet<u32>,
        take: impl FnMut(u32, &mut dyn Iterator<Item = abi::count_block>),
    ) -> Result<()> {
        let blocks: BTreeSet<_> =
            counters.iter().map(|counter| counter / consts::COUNTS_PER_BLOCK).collect();
        Ok(self.blocks.each(&blocks, take)?)
    }

    /// What each counter of the map had when its pair began to use it.
    fn starts(&self) -> Result<Vec<Counted>> {
        let mut starts = vec![Counted::default(); consts::REAL_COUNTS as usize];
        self.starts.each_value(|counter, start| {
            if let Some(place) = starts.get_mut(counter as usize) {
                *place = start;
            }
        })?;
        Ok(starts)
    }

    /// Hands on counters, in this order.
    pub(crate) fn change(&self, changes: &[CounterChange]) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let counters = changes.iter().flat_map(|change| change.counters()).collect();
        let (sums, mut starts) = (self.sums(&counters)?, self.starts()?);
        let sum = |counter: u32| sums.get(&counter).copied().unwrap_or_default();
        let begun = hand_on(changes, sum, &mut starts);
        let entries: Vec<_> =
            begun.into_iter().map(|counter| (counter, starts[counter as usize])).collect();
        Ok(self.starts.set_many(&entries)?)
    }

    /// Packets on each CPU, of all these counters together.
    pub(crate) fn packets_of_cpus(&self, counters: &BTreeSet<u32>) -> Result<Vec<u64>> {
        let mut packets = Vec::new();
        self.each_block(counters, |block, of_cpus| {
            let first = block * consts::COUNTS_PER_BLOCK;
            for (cpu, of_cpu) in of_cpus.enumerate() {
                if packets.len() <= cpu {
                    packets.resize(cpu + 1, 0);
                }
                for counter in counters.range(first..first + consts::COUNTS_PER_BLOCK) {
                    packets[cpu] += of_cpu.of[(counter - first) as usize].packets;
                }
            }
        })?;
        Ok(packets)
    }
}

impl Dataplane {
    /// The pairs of VIPs and reals that packets may be counted for.
    fn pairs(&self) -> Result<Vec<Pair>> {
        let mut vips: Vec<Option<(Vip, abi::vip)>> = vec![None; consts::MAX_VIPS as usize];
        for (key, vip) in self.vips.entries()? {
            let place = vips.get_mut(usize::from(vip.id));
            if let (true, Some(address), Some(place)) =
                (vip.flags & consts::VIP_MARKER == 0, key.vip(), place)
            {
                *place = Some((address, vip));
            }
        }
        let pair = |(address, vip): (Vip, abi::vip), real: u32| Pair {
            vip: address,
            real,
            counter: (vip.counters != 0).then(|| u32::from(vip.counters) + real),
        };
        let mut pairs = Vec::new();
        self.vip_reals.each(|entry| {
            let vip = vips.get(entry.vip as usize).copied().flatten();
            // Real 0 is the mark of a VIP that changes.
            pairs.extend(vip.filter(|_| entry.real != 0).map(|vip| pair(vip, entry.real)));
        })?;
        let by_id = vips.into_iter().flatten();
        let by_id = by_id.filter(|(_, vip)| VipSpec::from_flags(vip.flags).is_routed_by_id());
        let by_id: Vec<_> = by_id.collect();
        if !by_id.is_empty() {
            let named: BTreeSet<u32> =
                self.server_ids.entries()?.into_iter().map(|(_, real)| real).collect();
            let known: BTreeSet<_> = pairs.iter().map(|pair| (pair.vip, pair.real)).collect();
            let more = by_id.iter().flat_map(|vip| named.iter().map(|real| pair(*vip, *real)));
            pairs.extend(more.filter(|pair| !known.contains(&(pair.vip, pair.real))));
        }
        Ok(pairs)
    }

    /// The counters that count for a real, whichever the VIP.
    pub(crate) fn counters_of(&self, real: u32) -> Result<BTreeSet<u32>> {
        let pairs = self.pairs()?.into_iter().filter(|pair| pair.real == real);
        Ok(pairs.filter_map(|pair| pair.counter).chain([real]).collect())
    }

    /// What was sent to the reals that there are.
    pub(crate) fn sent_to_reals(&self) -> Result<SentToReals> {
        let mut reals = self.read_reals()?;
        reals.retain(|_, real| real.live);
        let mut pairs = self.pairs()?;
        pairs.retain(|pair| reals.contains_key(&pair.real));
        let counters = pairs.iter().filter_map(|pair| pair.counter);
        let counters: BTreeSet<u32> = counters.chain(reals.keys().copied()).collect();
        let (sums, starts) = (self.real_counters.sums(&counters)?, self.real_counters.starts()?);
        let counted = |counter: u32| {
            let start = starts.get(counter as usize).copied().unwrap_or_default();
            minus(sums.get(&counter).copied().unwrap_or_default(), start)
        };
        let mut sent = SentToReals::default();
        for (id, real) in &reals {
            sent.in_all.insert(real.address, counted(*id));
        }
        for Pair { vip, real, counter } in pairs {
            let (Some(own), Some(real)) = (counter, reals.get(&real)) else { continue };
            let count = counted(own);
            sent.by_vip.insert((vip, real.address), count);
            if let Some(sum) = sent.in_all.get_mut(&real.address) {
                *sum = plus(*sum, count);
            }
        }
        Ok(sent)
    }
}
