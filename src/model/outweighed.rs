//! Reals that are up and get no new flows, because the other weights of their VIP leave them no slot of the ring.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use crate::model::address::Vip;
use crate::model::config::NoReal;
use crate::model::maglev::ring::Member;
use crate::model::maglev::ring::RING_SIZE;
use crate::model::maglev::ring::Ring;
use crate::model::vip_table::Table;

/// A real that is up, and whose weight is too low for a slot of its VIP's ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct OutweighedReal {
    /// The VIP.
    pub vip: Vip,
    /// The real.
    pub real: IpAddr,
    /// Its weight.
    pub weight: u32,
    /// The least weight that would give it a slot, if the other weights stay.
    pub needed: u32,
}

impl fmt::Display for OutweighedReal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vip, real, weight, .. } = self;
        write!(
            f,
            "real {real} of {vip} gets 0.00 % of new flows: compared with the other weights, its weight {weight} is too \
             low for one of the {RING_SIZE} slots of the ring"
        )
    }
}

impl OutweighedReal {
    /// What to do about it.
    pub fn fix(&self) -> String {
        let Self { vip, real, needed, .. } = self;
        format!(
            "lower the others' weights, or run 'lbctl real weight {vip} {real} {needed}'; weight 0 says that it is to get \
             none"
        )
    }
}

/// The outweighed reals among the members of a VIP's ring.
pub(crate) fn outweighed(vip: Vip, members: &[Member]) -> Vec<OutweighedReal> {
    let without = Ring::without_slot(members);
    let each = without.into_iter().filter_map(|index| {
        let Member { address, weight } = *members.get(index)?;
        Some(OutweighedReal { vip, real: address, weight, needed: needed(members, index) })
    });
    each.collect()
}

/// The least weight that gives a member a slot.
fn needed(members: &[Member], index: usize) -> u32 {
    let mut members = members.to_vec();
    let mut gets_one = |weight| {
        members[index].weight = weight;
        !Ring::without_slot(&members).contains(&index)
    };
    // The first gives none. The last gives one: no member has more.
    let (mut too_little, mut enough) = (0, crate::model::config::MAX_WEIGHT);
    while enough - too_little > 1 {
        let weight = too_little.midpoint(enough);
        if gets_one(weight) {
            enough = weight;
        } else {
            too_little = weight;
        }
    }
    enough
}

/// Warnings about VIPs and reals that work, but probably not as intended.
pub(crate) fn warnings(table: &Table, concerns: impl Fn(&Vip) -> bool) -> Vec<String> {
    let mut warnings = Vec::new();
    for (vip, spec) in table.vips.iter().filter(|(vip, _)| concerns(vip)) {
        let members = spec.members();
        if members.is_empty() && !spec.reals.is_empty() {
            let (all, them) = match spec.reals.len() {
                1 => ("its only one is".to_owned(), "it"),
                all => (format!("all {all} are"), "them"),
            };
            let fate = match spec.no_real {
                NoReal::Drop => "dropped",
                NoReal::Reject => "refused",
            };
            warnings.push(format!(
                "vip {vip}: no real takes new flows, because {all} drained, down or of weight 0: new flows are {fate}; \
                 'lbctl real list {vip}' shows {them}"
            ));
        }
        let without = outweighed(*vip, &members);
        warnings.extend(without.iter().map(|real| format!("{real}; {}", real.fix())));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gets_a_slot_is_told_with_the_weight_for_one() {
        let vip = "tcp://10.200.1.1:80".parse().expect("a VIP");
        for weights in [
            vec![1, 65_535, 65_535],
            vec![65_535, 1, 2, 3, 65_535],
            vec![0, 1, 65_535],
            vec![1; 4096],
            vec![],
            (1..=300).map(|weight| weight * 200).chain([1]).collect(),
        ] {
            let addresses = (0x0a00_0001_u32..).map(|number| number.to_be_bytes().into());
            let members: Vec<_> = addresses
                .zip(&weights)
                .map(|(address, weight)| Member { address, weight: *weight })
                .collect();
            let found = outweighed(vip, &members);
            let shares = Ring::shares(&members);
            let none = |(member, share): (&Member, &u32)| {
                (member.weight != 0 && *share == 0).then_some(member.address)
            };
            let expected: Vec<_> = members.iter().zip(&shares).filter_map(none).collect();
            assert_eq!(found.iter().map(|of| of.real).collect::<Vec<_>>(), expected);
            for of in found {
                let with = |weight| {
                    let mut members = members.clone();
                    let index = members.iter().position(|m| m.address == of.real).expect("there");
                    members[index].weight = weight;
                    Ring::shares(&members)[index]
                };
                assert_eq!((with(of.needed - 1), with(of.needed) > 0), (0, true), "{of:?}");
            }
        }
    }
}
