//! Random words of an instance. Somebody who knows them can choose packets for one place of its tables.

use std::fmt;

use crate::model::abi;

/// A secret of the instance. The place of a flow in its table depends on it.
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
    /// Makes a secret of random words.
    pub(crate) fn of([first, second, third, factors @ ..]: [u64; 6]) -> Self {
        let words = [first, second, third];
        let half = |n: usize| [abi::low_half(words[n / 2]), abi::high_half(words[n / 2])][n % 2];
        // The factors are odd, so that a multiplication by them is invertible.
        Self { keys: std::array::from_fn(half), factors: factors.map(|factor| factor | 1) }
    }
}

impl From<&abi::knobs> for Secret {
    fn from(knobs: &abi::knobs) -> Self {
        Self { keys: knobs.table_keys, factors: knobs.table_factors }
    }
}

/// A secret for the limits of answers. The bucket of a source depends on it. It is never printed: somebody who knows
/// it can silence other sources.
#[derive(Clone, Copy, Default)]
pub(crate) struct AnswerSecret([u64; 2]);

impl AnswerSecret {
    pub(crate) const fn of([first, second]: [u64; 2]) -> Self {
        // The words are odd, so that a multiplication by them loses nothing.
        Self([first | 1, second | 1])
    }

    pub(crate) fn words(self) -> [u64; 2] {
        self.0
    }
}

impl From<&abi::knobs> for AnswerSecret {
    fn from(knobs: &abi::knobs) -> Self {
        Self(knobs.answer_secret)
    }
}

impl fmt::Debug for AnswerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnswerSecret")
    }
}
