//! The index of `vips` that the packet path reads: see include/l4lb/balance/vips.h. Pure.

use crate::model::abi;
use crate::model::abi::consts;
use crate::model::config::OtherPorts;

/// The bucket of a key, as `vip_bucket` in balance/vips.h has it.
fn bucket_of(key: &abi::vip_key) -> usize {
    let [a, b, c, d] = key.addr.word.map(u64::from);
    let (high, low) = (b << 32 | a, d << 32 | c);
    let rest = u64::from(key.proto) << 16 | u64::from(key.port);
    let fold = |hash: u64| hash ^ hash >> 32;
    let hash = fold(fold(high.wrapping_mul(consts::VIP_HASH_HIGH)).wrapping_add(low));
    let hash = fold(hash.wrapping_mul(consts::VIP_HASH_ADDR)) ^ rest;
    let bucket = hash.wrapping_mul(consts::VIP_HASH_LAST) >> (64 - consts::VIP_BUCKET_BITS);
    usize::try_from(bucket).unwrap_or_default()
}

/// Distributes the entries of `vips` over buckets. VIPs come before markers, which fewer packets need. If a bucket has
/// no room for an entry, packets find the entry in `vips`.
pub(crate) fn build(entries: &[(abi::vip_key, abi::vip)]) -> Vec<abi::vip_bucket> {
    let mut buckets = vec![abi::vip_bucket::default(); consts::VIP_BUCKETS as usize];
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_by_key(|(key, vip)| (vip.flags & consts::VIP_MARKER, key.sort_key()));
    for (key, vip) in sorted {
        let Some(bucket) = buckets.get_mut(bucket_of(key)) else { continue };
        match bucket.entry.iter_mut().find(|entry| entry.key.proto == 0) {
            Some(free) => {
                *free = abi::vip_entry { key: *key, vip: *vip };
            }
            None => bucket.entry[0].vip.flags |= consts::VIP_BUCKET_FULL,
        }
    }
    // If a packet finds nothing in its bucket, the bucket tells it whether to look for a rule of its address.
    let rules = |(_, vip): &(abi::vip_key, abi::vip)| {
        vip.flags & consts::VIP_MARKER != 0 && OtherPorts::from_flags(vip.flags).is_some()
    };
    let mut flags = if entries.iter().any(rules) { consts::VIP_PORT_RULES } else { 0 };
    // … and whether to look for a VIP that has every port.
    let every_port = |(key, vip): &(abi::vip_key, abi::vip)| {
        vip.flags & consts::VIP_MARKER == 0 && key.port == 0
    };
    if !entries.iter().any(every_port) {
        flags |= consts::VIP_PORTS_NAMED;
    }
    for bucket in &mut buckets {
        bucket.entry[0].vip.flags |= flags;
    }
    buckets
}

/// The words of buckets, as the kernel's array has them.
pub(crate) fn words(buckets: &[abi::vip_bucket]) -> impl Iterator<Item = u64> + '_ {
    let bytes = buckets.iter().flat_map(|bucket| abi::bytes_of(bucket).chunks_exact(8));
    bytes.map(|bytes| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests;
