//! What a map costs, computed from its shape. Pure.
//!
//! The figures are those that Linux 6.4 and later show as `memlock` in a map's fdinfo, except for some hundred bytes a
//! map. Older kernels show less than they allocate: only the keys and values of hash tables.

use libbpf_rs::MapType;

use crate::model::abi;
use crate::model::abi::consts;
use crate::model::config::TableKind;
use crate::model::connection_tables::SHARED_TABLE_ENTRIES;
use crate::model::host::MapShape;
use crate::plan::rings::RING_MAP_VALUES;

/// From this version on, the kernel counts all memory of a map.
pub(crate) const KERNEL_COUNTS_ALL: (u32, u32) = (6, 4);

const PAGE: u64 = 4096;

/// Of a hash table: the kernel's overhead for each element and each bucket.
const HASH_ELEMENT: u64 = 48;
const HASH_BUCKET: u64 = 16;

/// The additional cost of an element that the kernel allocates on demand.
const ALLOCATED_ELEMENT: u64 = 8;

/// Bytes of a value or key of this type in a map.
fn stored<T>() -> u64 {
    (size_of::<T>() as u64).next_multiple_of(8)
}

fn hash_buckets(max_entries: u32) -> u64 {
    u64::from(max_entries).next_power_of_two() * HASH_BUCKET
}

/// An LRU hash. The kernel allocates all elements at the start.
fn lru_hash<K, V>(max_entries: u32) -> u64 {
    hash_buckets(max_entries)
        + u64::from(max_entries) * (HASH_ELEMENT + stored::<K>() + stored::<V>())
}

/// An array that can be mapped: header and values have pages of their own.
fn mmapable_array(value: u64, entries: u32) -> u64 {
    PAGE + (value * u64::from(entries)).next_multiple_of(PAGE)
}

/// The table that CPUs without their own table share.
pub(crate) fn shared_table() -> u64 {
    own_table(TableKind::Lru, SHARED_TABLE_ENTRIES)
}

/// A CPU's own table of a size: see [`TableKind::size`].
pub(crate) fn own_table(kind: TableKind, size: u32) -> u64 {
    match kind {
        TableKind::SetAssociative => {
            mmapable_array(stored::<abi::flow4_set>(), size)
                + mmapable_array(stored::<abi::flow6_set>(), size)
        }
        TableKind::Lru => lru_hash::<abi::flow_key, abi::flow>(size),
    }
}

/// The index of the VIPs.
pub(crate) fn vip_index() -> u64 {
    mmapable_array(stored::<abi::vip_bucket>(), consts::VIP_BUCKETS)
}

/// A VIP's ring.
pub(crate) fn ring() -> u64 {
    mmapable_array(stored::<u64>(), RING_MAP_VALUES)
}

/// An element of a hash table that the kernel allocates on demand.
pub(crate) fn element<K, V>() -> u64 {
    HASH_ELEMENT + stored::<K>() + stored::<V>() + ALLOCATED_ELEMENT
}

impl MapShape {
    /// The memory of a map without elements.
    pub(crate) fn bytes(&self, cpus: u32) -> u64 {
        let (entries, cpus) = (u64::from(self.max_entries), u64::from(cpus));
        let key = u64::from(self.key_size).next_multiple_of(8);
        let value = u64::from(self.value_size).next_multiple_of(8);
        match self.kind {
            MapType::PercpuArray => entries * (8 + value * cpus),
            MapType::Hash if self.flags & libbpf_sys::BPF_F_NO_PREALLOC != 0 => {
                hash_buckets(self.max_entries)
            }
            // Each CPU keeps one spare element, to replace another in a full table.
            MapType::Hash => {
                hash_buckets(self.max_entries)
                    + (entries + cpus) * (HASH_ELEMENT + key + value)
                    + 8 * cpus
            }
            MapType::LruHash => {
                hash_buckets(self.max_entries) + entries * (HASH_ELEMENT + key + value)
            }
            // A trie allocates its nodes on demand.
            MapType::LpmTrie => 0,
            _ if self.flags & libbpf_sys::BPF_F_MMAPABLE != 0 => {
                mmapable_array(value, self.max_entries)
            }
            _ => entries * value,
        }
    }
}
