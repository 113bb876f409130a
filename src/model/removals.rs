//! How much of what runs a configuration removes: a file that was cut off removes much.

use std::fmt;

/// How many are few: who has two VIPs may remove both.
const FEW: usize = 2;

/// What a configuration removes, and how much of it there is. A real counts once for each VIP that it leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removals {
    /// VIPs that are removed.
    pub vips: usize,
    /// VIPs that run.
    pub of_vips: usize,
    /// Reals that are removed, those of removed VIPs among them.
    pub reals: usize,
    /// Reals that run.
    pub of_reals: usize,
}

impl Removals {
    /// Whether it is more than half of the VIPs, or of the reals, and more than two.
    pub fn are_many(&self) -> bool {
        let many = |gone: usize, all: usize| gone > FEW && gone > all / 2;
        many(self.vips, self.of_vips) || many(self.reals, self.of_reals)
    }
}

impl fmt::Display for Removals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vips, of_vips, reals, of_reals } = self;
        write!(f, "{vips} of {of_vips} VIPs and {reals} of {of_reals} reals are removed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_half_and_more_than_two_are_many() {
        let of = |vips, of_vips, reals, of_reals| Removals { vips, of_vips, reals, of_reals };
        for (removals, many) in [
            (of(0, 0, 0, 0), false),
            (of(2, 2, 2, 2), false),
            (of(3, 3, 0, 9), true),
            (of(3, 6, 3, 6), false),
            (of(4, 7, 0, 9), true),
            (of(0, 9, 5, 9), true),
            (of(0, 9, 4, 9), false),
        ] {
            assert_eq!(removals.are_many(), many, "{removals}");
        }
    }
}
