//! The index of `vips` that the packet path reads: see include/l4lb/vips.h. Pure.

use crate::abi;
use crate::abi::consts;

/// The bucket of a key, as `vip_bucket` in vips.h has it.
fn bucket_of(key: &abi::vip_key) -> usize {
    let [a, b, c, d] = key.addr.word.map(u64::from);
    let (high, low) = (b << 32 | a, d << 32 | c);
    let rest = u64::from(key.proto) << 16 | u64::from(key.port);
    let sum = low.wrapping_add(high.wrapping_mul(consts::VIP_HASH_HIGH)) ^ rest;
    let bucket = sum.wrapping_mul(consts::VIP_HASH_SUM) >> (64 - consts::VIP_BUCKET_BITS);
    usize::try_from(bucket).unwrap_or_default()
}

/// Lays entries of `vips` out in buckets. VIPs come before markers, which fewer packets ask for; what
/// finds no room is left to `vips`.
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
    buckets
}

/// The words of buckets, as the kernel's array has them.
pub(crate) fn words(buckets: &[abi::vip_bucket]) -> impl Iterator<Item = u64> + '_ {
    let bytes = buckets.iter().flat_map(|bucket| abi::bytes_of(bucket).chunks_exact(8));
    bytes.map(|bytes| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Vip;

    fn entries(count: u32) -> Vec<(abi::vip_key, abi::vip)> {
        let vip = |id: u32| {
            let [_, _, a, b] = id.to_be_bytes();
            let vip: Vip = format!("tcp://10.200.{a}.{b}:443").parse().unwrap();
            (abi::vip_key::from(vip), abi::vip { id, serial: id + 1, flags: 0 })
        };
        (0..count).map(vip).collect()
    }

    #[test]
    fn every_key_is_in_its_bucket_or_the_bucket_says_that_there_are_more() {
        let entries = entries(4 * consts::MAX_VIPS);
        let buckets = build(&entries);
        let mut missing = 0;
        for (key, vip) in &entries {
            let bucket = &buckets[bucket_of(key)];
            let same = |entry: &&abi::vip_entry| entry.key.sort_key() == key.sort_key();
            if let Some(entry) = bucket.entry.iter().find(same) {
                assert_eq!(entry.vip.id, vip.id);
            } else {
                assert_ne!(bucket.entry[0].vip.flags & consts::VIP_BUCKET_FULL, 0);
                missing += 1;
            }
        }
        assert!(
            missing < 100,
            "{missing} of {} keys have to be looked up in `vips`",
            entries.len()
        );
    }
}
