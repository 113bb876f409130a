//! Counts the slots that each member of a ring gets, without building the ring. A turn takes one slot, so counting the
//! turns is enough.

use crate::model::maglev::ring::LARGEST_EXACT_WEIGHT;
use crate::model::maglev::ring::Member;
use crate::model::maglev::ring::RING_SIZE;
use crate::model::maglev::ring::Ring;
use crate::model::maglev::ring::in_turn;
use crate::model::maglev::ring::turns;

impl Ring {
    /// How many slots each of the members owns in the ring that [`Ring::build`] makes of them; all 0 if it
    /// makes none. Takes microseconds, where building takes about a millisecond.
    pub fn shares(members: &[Member]) -> Vec<u32> {
        let mut shares = vec![0; members.len()];
        let used = in_turn(members);
        let weights: Vec<u32> = used.iter().map(|&(_, _, weight, _)| weight).collect();
        for (&(.., index), share) in used.iter().zip(count(&weights)) {
            shares[usize::from(index)] = share;
        }
        shares
    }

    /// The indices of members that have a weight and get no slot because of the others.
    pub(crate) fn without_slot(members: &[Member]) -> Vec<usize> {
        let weights = || members.iter().map(|member| member.weight).filter(|weight| *weight != 0);
        let (least, most) = (weights().min().unwrap_or(1), weights().max().unwrap_or(1));
        // A member has a turn once its weight, added up round by round, comes to the largest; at most all have a turn
        // in each round.
        let rounds = u64::from(RING_SIZE) / members.len().max(1) as u64;
        if rounds * u64::from(least) >= u64::from(most) && most <= LARGEST_EXACT_WEIGHT {
            return Vec::new();
        }
        let shares = Self::shares(members);
        let none = |(index, (member, share)): (usize, (&Member, u32))| {
            (member.weight != 0 && share == 0).then_some(index)
        };
        members.iter().zip(shares).enumerate().filter_map(none).collect()
    }
}

/// The number of turns of each member, by its place in `weights`. No weight is 0.
fn count(weights: &[u32]) -> Vec<u32> {
    let heaviest = weights.iter().copied().max().unwrap_or_default();
    if heaviest > LARGEST_EXACT_WEIGHT {
        let mut counts = vec![0; weights.len()];
        for member in turns(weights) {
            counts[usize::from(member)] += 1;
        }
        return counts;
    }
    let until =
        |round: u32| weights.iter().map(move |&weight| turns_until(round, weight, heaviest.max(1)));
    let total = |round| until(round).map(u64::from).sum::<u64>();
    // The heaviest member has a turn in every round: there are no more rounds than slots.
    let (mut too_few, mut enough) = (0, RING_SIZE);
    while enough - too_few > 1 {
        let round = too_few.midpoint(enough);
        if total(round) < u64::from(RING_SIZE) {
            too_few = round;
        } else {
            enough = round;
        }
    }
    // In the last round, the first members get the remaining slots.
    let mut left = u64::from(RING_SIZE) - total(too_few);
    until(too_few)
        .zip(until(enough))
        .map(|(before, after)| {
            let one_more = after > before && left > 0;
            left -= u64::from(one_more);
            before + u32::from(one_more)
        })
        .collect()
}

/// How many turns a member has in the first `rounds` rounds, at most one in each: a round adds its weight to
/// what it has, a turn costs the largest weight.
fn turns_until(rounds: u32, weight: u32, heaviest: u32) -> u32 {
    let turns = u64::from(rounds) * u64::from(weight) / u64::from(heaviest);
    u32::try_from(turns).unwrap_or(rounds)
}

#[cfg(test)]
mod tests {
    use std::iter::repeat_n;

    use proptest::collection;
    use proptest::prelude::*;

    use super::Member;
    use super::RING_SIZE;
    use super::Ring;

    fn numbered(weights: impl IntoIterator<Item = u32>) -> Vec<Member> {
        let addresses = (0x0a00_0001_u32..).map(|number| number.to_be_bytes().into());
        addresses.zip(weights).map(|(address, weight)| Member { address, weight }).collect()
    }

    /// Compares the shares with the slots of the ring itself.
    fn assert_counted(members: &[Member]) {
        let mut counted = vec![0; members.len()];
        for &owner in Ring::build(members).iter().flat_map(Ring::slots) {
            counted[usize::from(owner)] += 1;
        }
        assert_eq!(Ring::shares(members), counted, "{members:?}");
    }

    #[test]
    fn are_what_the_ring_has() {
        for weights in [
            vec![],
            vec![0, 0],
            vec![7],
            vec![0, 5, 0],
            vec![1; 10],
            vec![3; 65_535],
            vec![1; 65_536],
            vec![1, 1000],
            vec![65_535, 1],
            vec![1, u32::MAX],
            vec![1 << 31, 1 << 31, (1 << 31) - 1],
            vec![(1 << 31) + 1, 1 << 31, 1 << 30],
            (1..=100).collect(),
        ] {
            assert_counted(&numbered(weights));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            cases: 64,
            ..ProptestConfig::default()
        })]

        #[test]
        fn are_what_any_ring_has(weights in collection::vec(0..40_u32, 0..40), odd in any::<u32>()) {
            assert_counted(&numbered(weights.iter().copied()));
            let reals = weights.len();
            assert_counted(&numbered(weights.into_iter().chain([odd % (1 << 16)])));
            let equal = RING_SIZE / u32::try_from(reals.max(1)).unwrap();
            let shares = Ring::shares(&numbered(repeat_n(odd | 1, reals)));
            assert!(shares.iter().all(|share| (equal..=equal + 1).contains(share)), "{shares:?}");
        }
    }
}
