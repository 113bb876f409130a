//! The connection tables of a program: kinds, sizes, and how many flows they have room for.

use std::collections::BTreeMap;

use crate::model::abi;
use crate::model::abi::consts;
use crate::model::config::TableKind;

/// Flows in the table that CPUs without their own table share.
pub(crate) const SHARED_TABLE_ENTRIES: u32 = 16_384;

/// How late the coarse clock may be: two ticks of the slowest kernel, which updates it after it counts a tick. A
/// packet then gets a time before its arrival, and its flow looks idle for longer than it is.
const CLOCK_LATE: u64 = 20_000_000;

/// UDP flows expire above these limits, and none expires early: nanoseconds between two packets; in tables of sets,
/// units between the two times, which are rounded down.
pub(crate) fn udp_timeout(seconds: u32) -> (u64, u32) {
    let nanoseconds = u64::from(seconds) * 1_000_000_000 + CLOCK_LATE;
    let units = nanoseconds.div_ceil(1 << consts::SEEN_SHIFT);
    (nanoseconds, u32::try_from(units).unwrap_or(u32::MAX))
}

/// The IP version of packets. In the kind of sets, each version has tables of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(crate) fn entry_size(self) -> usize {
        match self {
            Self::V4 => size_of::<abi::flow_entry>(),
            Self::V6 => size_of::<abi::flow6_entry>(),
        }
    }

    pub(crate) fn set_size(self) -> usize {
        self.entry_size() * consts::SET_WAYS as usize
    }

    pub(crate) fn map_name(self) -> &'static str {
        match self {
            Self::V4 => "flows4",
            Self::V6 => "flows6",
        }
    }
}

impl TableKind {
    /// Size of a table with room for this many flows: elements of a table of kind LRU, sets of each family.
    pub(crate) fn size(self, entries: u32) -> u32 {
        match self {
            Self::SetAssociative => entries.div_ceil(consts::SET_WAYS),
            Self::Lru => entries,
        }
    }

    /// Flows that a table of a size has room for.
    pub(crate) fn entries(self, size: u32) -> u32 {
        match self {
            Self::SetAssociative => size.saturating_mul(consts::SET_WAYS),
            Self::Lru => size,
        }
    }

    /// The program's number for the kind.
    pub(crate) fn raw(self) -> u32 {
        match self {
            Self::SetAssociative => consts::TABLE_KIND_SETS,
            Self::Lru => consts::TABLE_KIND_LRU,
        }
    }

    pub(crate) fn from_raw(raw: u32) -> Self {
        if raw == consts::TABLE_KIND_LRU { Self::Lru } else { Self::SetAssociative }
    }
}

/// The tables of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tables {
    pub(crate) kind: TableKind,
    /// Which half of the outer maps holds them.
    pub(crate) bank: u32,
    /// CPU → size of its own table, the same for all. Other CPUs use the shared table.
    pub(crate) own: BTreeMap<u32, u32>,
}

impl Tables {
    /// The index of a CPU's table in the outer maps.
    pub(crate) fn place(&self, cpu: u32) -> u32 {
        self.bank * consts::MAX_CPUS + cpu
    }

    /// Size of every own table.
    pub(crate) fn size(&self) -> u32 {
        self.own.values().copied().max().unwrap_or_default()
    }
}

/// What stays free in a table of kind LRU: the kernel hands out 128 free entries at a time to a CPU. If fewer are
/// free, it evicts used ones, while other CPUs still hold free ones.
const LRU_SPARE: u64 = 4 * 128;

/// How many flows a table of kind LRU holds before it evicts others.
pub(crate) fn lru_room(size: u32, used: u64) -> u64 {
    u64::from(size).saturating_sub(used).saturating_sub(LRU_SPARE)
}
