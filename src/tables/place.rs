//! Which set of a table a flow belongs to: `set_of` in `flow_sets.h`, which says why nobody can aim at one.

use std::fmt;

use super::Family;
use crate::abi;
use crate::error::Result;
use crate::sys;

/// What the place of a flow in its table depends on, and nobody but the instance knows.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Secret {
    pub(crate) keys: [u32; 6],
    pub(crate) factors: [u64; 3],
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// Draws one.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self::of(sys::random()?))
    }

    fn of([first, second, third, factors @ ..]: [u64; 6]) -> Self {
        let words = [first, second, third];
        let half = |n: usize| [abi::low_half(words[n / 2]), abi::high_half(words[n / 2])][n % 2];
        // Odd, so that multiplying by them loses nothing.
        Self { keys: std::array::from_fn(half), factors: factors.map(|factor| factor | 1) }
    }
}

impl From<&abi::knobs> for Secret {
    fn from(knobs: &abi::knobs) -> Self {
        Self { keys: knobs.table_keys, factors: knobs.table_factors }
    }
}

fn keyed_product(pair: [u32; 2], keys: &[u32]) -> u64 {
    let [a, b] = [0, 1].map(|n| u64::from(pair[n].wrapping_add(keys[n])));
    a * b
}

/// `set_of` in `flow_sets.h`, for the words of an entry.
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
