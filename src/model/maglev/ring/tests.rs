use super::*;
use crate::model::maglev::hash::flow_slot;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn equals(addresses: &[&str]) -> Vec<Member> {
    addresses.iter().map(|text| Member { address: address(text), weight: 1 }).collect()
}

fn numbered(weights: impl IntoIterator<Item = u32>) -> Vec<Member> {
    let addresses = (0x0a00_0001_u32..).map(|number| IpAddr::from(number.to_be_bytes()));
    addresses.zip(weights).map(|(address, weight)| Member { address, weight }).collect()
}

fn build(members: &[Member]) -> Ring {
    let ring = Ring::build(members).unwrap();
    assert_eq!(ring.slots().len(), RING_SIZE as usize);
    let owners = ring.slots().iter().map(|&owner| usize::from(owner));
    for owner in owners {
        assert!(members[owner].weight > 0, "member {owner} has no weight, but a slot");
    }
    ring
}

/// The ring by the words of WIRE.md, from weights, offsets and skips in the order of hashes; `None`: the algorithm
/// never ends.
fn by_the_book(members: &[(u32, u32, u32)]) -> Option<Vec<u16>> {
    let largest = members.iter().map(|&(weight, ..)| weight).max().unwrap();
    let mut ring = vec![None; RING_SIZE as usize];
    let mut next = vec![0_u32; members.len()];
    let mut cum = vec![0_u32; members.len()];
    let mut free = ring.len();
    loop {
        for (real, &(weight, offset, skip)) in members.iter().enumerate() {
            cum[real] = cum[real].wrapping_add(weight);
            if cum[real] < largest {
                continue;
            }
            cum[real] -= largest;
            let mut looks = 0;
            let slot = loop {
                let slot = offset.wrapping_add(next[real].wrapping_mul(skip)) % RING_SIZE;
                next[real] = next[real].wrapping_add(1);
                if ring[slot as usize].is_none() {
                    break slot;
                }
                looks += 1;
                if looks == 10 * RING_SIZE {
                    return None;
                }
            };
            ring[slot as usize] = Some(u16::try_from(real).unwrap());
            free -= 1;
            if free == 0 {
                return ring.into_iter().collect();
            }
        }
    }
}

fn reference(members: &[Member]) -> Option<Vec<u16>> {
    let mut reals: Vec<usize> = (0..members.len()).filter(|&i| members[i].weight > 0).collect();
    reals.sort_by_key(|&i| real_hash(members[i].address));
    let index = |real: usize| u16::try_from(reals[real]).unwrap();
    match reals.len() {
        0 => None,
        1 => Some(vec![index(0); RING_SIZE as usize]),
        _ => {
            let ring = by_the_book(
                &reals
                    .iter()
                    .map(|&i| {
                        let hash = real_hash(members[i].address);
                        let offset = murmur(hash, 42, 0) % 65537;
                        let skip = murmur(hash, 2_718_281_828, 2307) % 65536 + 1;
                        let [offset, skip] = [offset, skip].map(|n| n.try_into().unwrap());
                        (members[i].weight, offset, skip)
                    })
                    .collect::<Vec<_>>(),
            );
            ring.map(|ring| ring.into_iter().map(|real| index(real.into())).collect())
        }
    }
}

/// Pseudorandom numbers: `SplitMix64`.
struct Random(u64);

impl Random {
    /// Numbers that follow from `LB_TEST_SEED`, or always the same ones.
    fn new() -> Self {
        let seed = std::env::var("LB_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or(1);
        println!("LB_TEST_SEED={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u32) -> u32 {
        u32::try_from(self.next() % u64::from(end)).unwrap()
    }

    fn address(&mut self) -> IpAddr {
        if self.below(2) == 0 {
            IpAddr::from(self.below(u32::MAX).to_be_bytes())
        } else {
            IpAddr::from((u128::from(self.next()) << 64 | u128::from(self.next())).to_be_bytes())
        }
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in 1..items.len() {
            items.swap(end, self.below(u32::try_from(end + 1).unwrap()) as usize);
        }
    }
}

#[test]
fn picks_what_katran_picks() {
    let client = address("192.168.1.1");
    let members = equals(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    let ring = build(&members);
    assert_eq!(ring.member_at(flow_slot(client, 31337, 80)), 2);
    assert_eq!(ring.member_at(flow_slot(client, 31337, 0)), 1);

    let members = equals(&["fc00::1", "fc00::2", "fc00::3"]);
    let ring = build(&members);
    assert_eq!(ring.member_at(flow_slot(client, 31337, 80)), 0);
    assert_eq!(ring.member_at(flow_slot(address("fc00:2::1"), 31337, 80)), 2);
}

#[test]
fn equals_the_reference() {
    let mut random = Random::new();
    for case in 0..48 {
        let size = match case % 4 {
            0 => 2,
            1 => 100 + random.below(300),
            _ => 3 + random.below(20),
        };
        let members: Vec<Member> = (0..size)
            .map(|_| {
                let weight = match case % 12 {
                    0..4 => 1,
                    4 | 5 => random.below(4),
                    6 => 1 + random.below(100),
                    7 => [1, 1000][random.below(2) as usize],
                    8 => [1, 1 << 31][random.below(2) as usize],
                    9 => (1 << 31) - random.below(1000),
                    10 => u32::MAX - random.below(1 << 31),
                    _ => 1 << random.below(32),
                };
                Member { address: random.address(), weight }
            })
            .collect();
        let ring = Ring::build(&members).map(|ring| ring.slots);
        assert!(ring == reference(&members), "case {case}: {members:?}");
    }
}

#[test]
fn equals_the_reference_for_telling_weights() {
    for weights in [
        vec![1, 2, 3],
        vec![3, 2, 1],
        vec![1, 1000],
        vec![1000, 1],
        vec![0, 0, 7, 0, 5],
        vec![0, 9, 0],
        vec![1, u32::MAX],
        vec![u32::MAX, u32::MAX - 1],
        vec![1 << 31, 1 << 31, (1 << 31) - 1],
        vec![(1 << 31) + 1, 1 << 31, 1 << 30],
        vec![65536, 1, 1],
        vec![65538, 65537, 1],
    ] {
        let members = numbered(weights.iter().copied());
        let ring = Ring::build(&members).map(|ring| ring.slots);
        assert!(ring == reference(&members), "{weights:?}");
    }
}

/// No address is known for which `u32` arithmetic overflows, so offsets and skips are made up.
#[test]
fn equals_the_reference_where_skips_overflow() {
    let mut random = Random::new();
    let mut heavy = vec![(65536, 65535), (65535, 65535), (0, 65535), (1, 65535), (65536, 65534)];
    heavy.extend((0..20).map(|case| (random.below(65536), 65535 + case % 2)));
    let mut endless = 0;
    for (offset, skip) in heavy {
        for weight in [1, 3, 100_000] {
            let light = (1, random.below(RING_SIZE), 1 + random.below(65536));
            let members = [(weight, offset, skip), light];
            let owners = filled(&members);
            match by_the_book(&members) {
                Some(expected) => assert!(owners == expected, "{members:?}"),
                None => endless += 1,
            }
            assert!(!owners.contains(&NOBODY), "{members:?}");
        }
    }
    assert!((10..20).contains(&endless), "{endless}");
}

fn filled(members: &[(u32, u32, u32)]) -> Vec<u16> {
    let weights: Vec<u32> = members.iter().map(|&(weight, ..)| weight).collect();
    let mut claimants: Vec<Claimant> = (0..)
        .zip(members)
        .map(|(index, &(_, offset, skip))| Claimant::new(offset, skip, index))
        .collect();
    fill(&turns(&weights), &mut claimants)
}

#[test]
fn a_position_stays_in_its_slot_however_many_steps_it_took() {
    let mut random = Random::new();
    for case in 0..24 {
        let offset = random.below(RING_SIZE);
        let skip = [1, 2, 32768, 65535, 65536, 1 + random.below(65536)][case % 6];
        let mut free = FreeSlots::all();
        let mut position = fraction(offset);
        for step in 0..RING_SIZE {
            let slot = u64::from(offset) + u64::from(step) * u64::from(skip);
            let slot = modulo(slot, RING_SIZE);
            assert_eq!(slot_of(position), slot as usize, "{offset}, {skip}, step {step}");
            assert!(free.has(position), "{offset}, {skip}: slot {slot} shares its bit");
            free.remove(fraction(slot));
            assert!(!free.has(position), "{offset}, {skip}: slot {slot} has two bits");
            position = position.wrapping_add(fraction(skip));
        }
    }
}

#[test]
fn inverses_undo_multiplication() {
    for value in (1..u64::from(RING_SIZE)).step_by(37).chain([65535, 65536]) {
        assert_eq!(value * inverse(value) % u64::from(RING_SIZE), 1, "{value}");
    }
}

#[test]
fn order_of_members_does_not_matter() {
    let mut random = Random::new();
    let members = numbered((0..50).map(|i| i % 4));
    let mut shuffled = members.clone();
    random.shuffle(&mut shuffled);
    let ring = build(&members);
    let other = build(&shuffled);
    for (&owner, &other) in ring.slots().iter().zip(other.slots()) {
        assert_eq!(members[usize::from(owner)], shuffled[usize::from(other)]);
    }
}

#[test]
fn no_weight_means_no_ring() {
    assert_eq!(Ring::build(&[]), None);
    assert_eq!(Ring::build(&numbered([0, 0])), None);
    assert_eq!(Ring::build(&numbered(iter::repeat_n(1, 65536))), None);
}

#[test]
fn as_many_members_as_slots_can_name() {
    for size in [8192, 65535] {
        let members = numbered(iter::repeat_n(1, size));
        let mut owners = build(&members).slots;
        owners.sort_unstable();
        owners.dedup();
        assert_eq!(owners.len(), size);
    }
}

#[test]
fn shares_are_in_proportion_to_weights() {
    for weights in [vec![1, 2, 3], vec![1, 1000], (1..=100).collect(), vec![1 << 31, 1 << 29]] {
        let shares = Ring::shares(&numbered(weights.iter().copied()));
        let total: u64 = weights.iter().copied().map(u64::from).sum();
        for (&share, &weight) in shares.iter().zip(&weights) {
            let due = u64::from(RING_SIZE) * u64::from(weight) / total;
            assert!(u64::from(share).abs_diff(due) <= 2, "{share} for {weight} of {total}");
        }
    }
}

#[test]
fn a_member_that_leaves_moves_few_slots_of_the_others() {
    let members = numbered(iter::repeat_n(1, 100));
    let before = build(&members);
    for leaver in [0, 42, 99] {
        let mut remaining = members.clone();
        remaining[leaver].weight = 0;
        let after = build(&remaining);
        let kept = before.slots().iter().zip(after.slots());
        let others = kept.filter(|&(&owner, _)| usize::from(owner) != leaver);
        let moved = others.filter(|(before, after)| before != after).count();
        assert!(moved < before.slots().len() / 50, "{moved} slots moved without {leaver}");
    }
}

#[test]
fn debug_output_is_short() {
    assert_eq!(format!("{:?}", build(&numbered([1]))), "Ring { slots: [u16; 65537] }");
}
