//! Computes which set of a table a flow belongs to, as `set_of` in `table_sets.h` does. That file says why nobody can
//! aim at a set.

use crate::model::abi;
use crate::model::connection_tables::Family;
use crate::model::secret::Secret;

fn keyed_product(pair: [u32; 2], keys: &[u32]) -> u64 {
    let [a, b] = [0, 1].map(|n| u64::from(pair[n].wrapping_add(keys[n])));
    a * b
}

/// `set_of` in `table_sets.h`, for the words of an entry.
pub(super) fn set_of(
    words: &[u64; 4],
    vip: u32,
    family: Family,
    sets: u32,
    secret: &Secret,
) -> u32 {
    let pair = |word: u64| [abi::low_half(word), abi::high_half(word)];
    let Secret { keys, factors: [of_vip, first, second] } = secret;
    let mut hash = match family {
        Family::V4 => keyed_product(pair(words[0]), &keys[..2])
            .wrapping_add(u64::from(vip).wrapping_mul(*of_vip)),
        Family::V6 => keyed_product(pair(words[0]), &keys[..2])
            .wrapping_add(keyed_product(pair(words[1]), &keys[2..4]))
            .wrapping_add(keyed_product([abi::high_half(words[2]), vip], &keys[4..])),
    };
    for factor in [first, second] {
        hash ^= hash >> 32;
        hash = hash.wrapping_mul(*factor);
    }
    abi::high_half(u64::from(abi::high_half(hash)) * u64::from(sets))
}

#[cfg(test)]
mod tests;
