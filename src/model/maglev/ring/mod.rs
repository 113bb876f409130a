//! The ring of a VIP: a table that maps every hash value of a flow to one of the VIP's reals.
//!
//! The algorithm is Katran's `MaglevHashV2`, after the Maglev paper (Eisenbud and others, NSDI
//! 2016). Each member has its own order of preference over all slots, and members take turns, in
//! proportion to their weights, at claiming the slot they prefer among those still free. A member
//! that comes or goes therefore moves few slots of the others. A fleet agrees about flows only
//! while all its machines build the same rings, so hashes, integer widths and the order of turns
//! are Katran's.
//!
//! # How it is fast
//!
//! A member prefers the slots `offset`, `offset + skip`, `offset + 2 * skip`, ..., modulo the
//! size of the ring. Nearly all of the work is stepping along this sequence over taken slots.
//!
//! * Positions are 64-bit fractions of the ring: an addition that overflows has gone round the
//!   ring, so no step needs a modulo. `fraction` explains why this is exact.
//! * Free slots are bits of a table that fits the first-level cache, looked at several at a time,
//!   because a branch for each would mostly be mispredicted.
//! * The last few slots would take hundreds of steps each. There, the inverse of `skip` tells how
//!   many steps away a free slot is, and the nearest one is taken.
//! * The order of turns does not depend on the slots. It is computed beforehand, and the cost does
//!   not grow if one member outweighs many.

#![expect(clippy::inline_always, reason = "a build for size would call these for each step")]

use std::fmt;
use std::iter;
use std::mem;
use std::net::IpAddr;

pub use crate::model::maglev::hash::RING_SIZE;
use crate::model::maglev::hash::murmur;
use crate::model::maglev::hash::real_hash;

/// A member first prefers a slot that is a hash of this key and of the hash of its address.
const OFFSET_KEY: u64 = 42;
/// The seed of that hash.
const OFFSET_SEED: u32 = 0;

/// A member's step from slot to slot is a hash of this key and of the hash of its address.
const SKIP_KEY: u64 = 2_718_281_828;
/// The seed of that hash.
const SKIP_SEED: u32 = 2307;

/// The largest weight up to which credit and weight together fit the `u32` that Katran adds them
/// in.
pub(crate) const LARGEST_EXACT_WEIGHT: u32 = 1 << 31;

/// How many free slots are few enough to compute the distance of each.
const LAST_SLOTS: usize = 256;

/// The value of a free slot. It is also the largest number of members, so it is no member's index.
const NOBODY: u16 = u16::MAX;

/// A real, as a ring sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// The address of the real. It alone decides in which order the member prefers the slots.
    pub address: IpAddr,
    /// How many turns the member has, relative to the others. 0: none, hence no slot.
    ///
    /// With a weight above 2^31 in the ring, Katran's sums overflow, and so do these: every
    /// machine still builds the same ring, but shares are not in proportion to the weights.
    pub weight: u32,
}

/// Which member owns each of the [`RING_SIZE`] slots.
#[derive(Clone, PartialEq, Eq)]
pub struct Ring {
    slots: Vec<u16>,
}

impl Ring {
    /// The ring of these members, or `None` if none has a weight other than 0.
    ///
    /// Only addresses and weights matter: with the members in another order, each owns the same
    /// slots, under its new index. Addresses are to be distinct.
    ///
    /// Slots hold indices into `members` as `u16`. The caller is to pass no more than 8192 members;
    /// more than 65,535 give `None`.
    pub fn build(members: &[Member]) -> Option<Self> {
        let used = in_turn(members);
        let slots = match used.as_slice() {
            [] => return None,
            [(.., index)] => vec![*index; RING_SIZE as usize],
            _ => {
                let weights: Vec<u32> = used.iter().map(|&(_, _, weight, _)| weight).collect();
                let mut claimants: Vec<Claimant> =
                    used.iter().map(|&(hash, .., index)| Claimant::of_hash(hash, index)).collect();
                fill(&turns(&weights), &mut claimants)
            }
        };
        Some(Self { slots })
    }

    /// The owner of each slot: an index into the members that the ring was built from.
    pub fn slots(&self) -> &[u16] {
        &self.slots
    }

    /// The owner of one slot (see [`flow_slot`](crate::model::maglev::hash::flow_slot)): an index into the
    /// members that the ring was built from. Panics unless the slot is below [`RING_SIZE`].
    pub fn member_at(&self, slot: u32) -> usize {
        usize::from(self.slots[slot as usize])
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("slots", &format_args!("[u16; {}]", self.slots.len())).finish()
    }
}

/// Hash, address, weight and index of the members that get slots, in the order of their turns. None if there
/// are more members than slots can name.
pub(crate) fn in_turn(members: &[Member]) -> Vec<(u64, IpAddr, u32, u16)> {
    if members.len() > usize::from(NOBODY) {
        return Vec::new();
    }
    let used = members.iter().zip(0..).filter(|(member, _)| member.weight > 0);
    let mut used: Vec<_> = used
        .map(|(member, index)| (real_hash(member.address), member.address, member.weight, index))
        .collect();
    used.sort_unstable();
    used
}

/// The member of each turn, as a place in `weights`. There are as many turns as slots.
///
/// In every round, each member in order adds its weight to its credit. If the credit reaches the largest weight, the
/// member has a turn, which costs that weight. Weights are not 0.
pub(crate) fn turns(weights: &[u32]) -> Vec<u16> {
    let heaviest = weights.iter().copied().max().unwrap_or_default();
    let mut turns = if weights.iter().all(|&weight| weight == heaviest) {
        turns_of_equals(weights.len())
    } else if heaviest <= LARGEST_EXACT_WEIGHT {
        turns_by_member(weights, heaviest)
    } else {
        turns_by_round(weights, heaviest)
    };
    turns.truncate(RING_SIZE as usize);
    turns
}

/// At least the [`turns`] of this many members of the same weight.
fn turns_of_equals(members: usize) -> Vec<u16> {
    let mut turns = Vec::with_capacity(RING_SIZE as usize + members);
    while turns.len() < RING_SIZE as usize {
        turns.extend((0..).take(members));
    }
    turns
}

/// At least the [`turns`], computed member by member and then sorted by round.
fn turns_by_member(weights: &[u32], heaviest: u32) -> Vec<u16> {
    let last_round = rounds_enough(weights, heaviest);
    let rounds_of = |weight| {
        rounds_with_turn(weight, heaviest)
            .take_while(|&round| round <= last_round)
            .map(|round| round as usize)
    };
    let mut places = vec![0; last_round as usize + 1];
    for &weight in weights {
        for round in rounds_of(weight) {
            places[round] += 1;
        }
    }
    let mut count = 0;
    for place in &mut places {
        count += mem::replace(place, count);
    }
    let mut turns = vec![0; count];
    for (member, &weight) in (0..).zip(weights) {
        for round in rounds_of(weight) {
            turns[places[round]] = member;
            places[round] += 1;
        }
    }
    turns
}

/// The rounds, the first being 1, in which a member of this weight has a turn.
fn rounds_with_turn(weight: u32, heaviest: u32) -> impl Iterator<Item = u32> {
    // This many rounds pay for a turn except `missing`. The credit pays that if it suffices.
    let (rounds, missing) = (heaviest / weight, heaviest % weight);
    let mut round = 0;
    let mut credit = 0;
    iter::repeat_with(move || {
        let one_more = credit < missing;
        round += rounds + u32::from(one_more);
        credit = if one_more { credit + (weight - missing) } else { credit - missing };
        round
    })
}

/// A number of rounds that have at least [`RING_SIZE`] turns, and not many more.
///
/// After `r` rounds, each member has had more than `r * weight / heaviest - 1` turns, and the
/// heaviest one has had `r`.
fn rounds_enough(weights: &[u32], heaviest: u32) -> u32 {
    let turns = u64::from(RING_SIZE) + weights.len() as u64;
    let total: u64 = weights.iter().copied().map(u64::from).sum();
    let rounds = (turns * u64::from(heaviest)).div_ceil(total);
    u32::try_from(rounds).map_or(RING_SIZE, |rounds| rounds.min(RING_SIZE))
}

/// At least the [`turns`], counted out round by round in sums that overflow.
fn turns_by_round(weights: &[u32], heaviest: u32) -> Vec<u16> {
    let mut credits = vec![0_u32; weights.len()];
    let mut turns = Vec::with_capacity(RING_SIZE as usize + weights.len());
    while turns.len() < RING_SIZE as usize {
        for ((member, &weight), credit) in (0..).zip(weights).zip(&mut credits) {
            *credit = credit.wrapping_add(weight);
            if *credit >= heaviest {
                *credit -= heaviest;
                turns.push(member);
            }
        }
    }
    turns
}

/// A member while the ring is being filled: how far it has come in its order of preference.
///
/// Katran computes `offset + next * skip` in a `u32`, which can overflow, but only with a skip of 65535 or 65536 and
/// when the member has been at all slots but one. Katran's member then finds that slot later (65535), or looks for it
/// forever (65536). Here, the member gets it at once. One address in 2^32, with an offset of 65536 too, overflows two
/// slots before the end, and may get the other of these two.
struct Claimant {
    index: u16,
    /// The position to look at next, a fraction of the ring.
    next: u64,
    /// From there to the following one, a fraction of the ring.
    skip: u64,
}

impl Claimant {
    fn of_hash(hash: u64, index: u16) -> Self {
        let offset = modulo(murmur(hash, OFFSET_KEY, OFFSET_SEED), RING_SIZE);
        let skip = modulo(murmur(hash, SKIP_KEY, SKIP_SEED), RING_SIZE - 1) + 1;
        Self::new(offset, skip, index)
    }

    fn new(offset: u32, skip: u32, index: u16) -> Self {
        Self { index, next: fraction(offset), skip: fraction(skip) }
    }
}

/// Lets members claim a slot at each turn: for each slot, the index of the member that got it.
fn fill(turns: &[u16], claimants: &mut [Claimant]) -> Vec<u16> {
    let mut owners = vec![NOBODY; RING_SIZE as usize];
    let mut free = FreeSlots::all();
    let (most, rest) = turns.split_at(turns.len().saturating_sub(LAST_SLOTS));
    for &turn in most {
        let claimant = &mut claimants[usize::from(turn)];
        let position = free.step_to(claimant.next, claimant.skip);
        claimant.next = position.wrapping_add(claimant.skip);
        free.remove(position);
        owners[slot_of(position)] = claimant.index;
    }

    let mut last: Vec<u64> = (0..)
        .zip(&owners)
        .filter(|&(_, &owner)| owner == NOBODY)
        .map(|(slot, _)| fraction(slot))
        .collect();
    for &turn in rest {
        let claimant = &mut claimants[usize::from(turn)];
        let position = last.swap_remove(nearest(&last, claimant.next, claimant.skip));
        claimant.next = position.wrapping_add(claimant.skip);
        owners[slot_of(position)] = claimant.index;
    }
    owners
}

fn modulo(value: u64, modulus: u32) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "the rest is less than the modulus")]
    let rest = (value % u64::from(modulus)) as u32;
    rest
}

/// The fraction of the ring that one slot is, in units of 2^-64, rounded down.
///
/// 65537 times this is 2^64 - 1.
const SLOT: u64 = u64::MAX / RING_SIZE as u64;

/// A slot, or a number of slots, as a fraction of the ring in units of 2^-64, rounded up.
///
/// An addition that overflows goes round the ring without any loss, so a sum of up to 65538
/// fractions is too large by no more than 65538 units. A slot is nearly 2^48 units: the sum is in
/// the slot that it should be in, close to where that begins.
#[inline(always)]
fn fraction(slots: u32) -> u64 {
    u64::from(slots) * SLOT + 1
}

/// The slot that a position, a fraction of the ring, is in.
#[inline(always)]
fn slot_of(position: u64) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "below 65537")]
    let slot = ((u128::from(position) * u128::from(RING_SIZE)) >> 64) as usize;
    slot
}

/// The free slots of a ring: a bit for each, looked up by position.
///
/// The bit is the half-slot that the position is in, in units of 2^-17 of the ring. A slot is a
/// little less than two of these, so no two slots share one. 65537 is odd, so a slot begins no less
/// than 2^47 / 65537 before the end of its half-slot (the first slot at its beginning), and the
/// rounding of positions does not get over that.
struct FreeSlots([u64; 1 << (17 - 6)]);

impl FreeSlots {
    fn all() -> Self {
        Self([u64::MAX; 1 << (17 - 6)])
    }

    #[inline(always)]
    fn has(&self, position: u64) -> bool {
        let half_slot = position >> 47;
        self.0[(half_slot >> 6) as usize] >> (half_slot & 63) & 1 != 0
    }

    #[inline(always)]
    fn remove(&mut self, position: u64) {
        let half_slot = position >> 47;
        self.0[(half_slot >> 6) as usize] &= !(1 << (half_slot & 63));
    }

    /// The first free slot from `position` on, in steps of `skip`. One must be free. Three slots are looked at without a
    /// branch between; a build for size would make a loop of a loop.
    #[inline(always)]
    fn step_to(&self, mut position: u64, skip: u64) -> u64 {
        if self.has(position) {
            return position;
        }
        loop {
            let taken = position;
            let first = taken.wrapping_add(skip);
            let second = first.wrapping_add(skip);
            position = second.wrapping_add(skip);
            let free = u32::from(self.has(first))
                | u32::from(self.has(second)) << 1
                | u32::from(self.has(position)) << 2;
            if free != 0 {
                let steps = u64::from(free.trailing_zeros()) + 1;
                return taken.wrapping_add(skip.wrapping_mul(steps));
            }
        }
    }
}

/// Which of some free slots is the fewest steps of `skip` behind `position`.
fn nearest(free: &[u64], position: u64, skip: u64) -> usize {
    // Adds half a step: rounding must not turn 0 steps into a whole turn of the ring.
    const HALF: u64 = SLOT / 2;
    let steps_per_slot = inverse(slot_of(skip) as u64);
    let steps_to = |slot: u64| {
        let slots = slot.wrapping_sub(position);
        slots.wrapping_mul(steps_per_slot).wrapping_add(HALF)
    };
    let nearest = free.iter().enumerate().min_by_key(|&(_, &slot)| steps_to(slot));
    nearest.map_or(0, |(place, _)| place)
}

/// The inverse of `value`, a number of slots from 1 to 65536: their product is 1 modulo [`RING_SIZE`]. By Fermat's
/// theorem, it is the 65535th power of `value`.
fn inverse(value: u64) -> u64 {
    let modulus = u64::from(RING_SIZE);
    (0..16).fold(1, |power, _| power * power % modulus * value % modulus)
}

#[cfg(test)]
mod tests;
