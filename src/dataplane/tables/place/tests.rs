//! Flows with regular numbers spread over the sets as a random function would spread them.

use std::net::Ipv6Addr;

use super::*;
use crate::dataplane::tables::Flow;
use crate::dataplane::tables::entry_words;
use crate::model::abi::consts;

const FLOWS: u32 = 20_000;

/// A name, and a function that gives the flow of a number below [`FLOWS`].
type Numbered = (String, Family, Numbering);
type Numbering = Box<dyn Fn(u64) -> abi::flow_key>;

fn v6(high: u64, low: u64, sport: u16, dport: u16, vip: u32) -> abi::flow_key {
    let address = Ipv6Addr::from(u128::from(high) << 64 | u128::from(low));
    abi::flow_key {
        src: std::net::IpAddr::V6(address).into(),
        sport: sport.to_be(),
        dport: dport.to_be(),
        vip,
    }
}

fn v4(address: u32, sport: u16, dport: u16, vip: u32) -> abi::flow_key {
    let mapped = u64::from(0xffff_u32) << 32 | u64::from(address);
    v6(0, mapped, sport, dport, vip)
}

fn half(word: u64) -> u32 {
    abi::low_half(word)
}

fn port(word: u64) -> u16 {
    u16::try_from(word & 0xffff).unwrap()
}

/// Clients whose addresses and ports form sequences of every stride, in each word of a flow.
fn families() -> Vec<Numbered> {
    const NET: u64 = 0x2001_0db8_0000_0000;
    let mut all: Vec<Numbered> = Vec::new();
    let mut add = |name: String, family, flow: Numbering| {
        all.push((name, family, flow));
    };
    for (name, sport) in [("port 4500", 4500), ("no source port", 0)] {
        add(
            format!("fd00:10:244:NODE::POD, {name}"),
            Family::V6,
            Box::new(move |n| v6(0xfd00_0010_0244_0000 + n / 100, 1 + n % 100, sport, 4500, 1)),
        );
    }
    let small = [3, 5, 7, 9, 100, 255, 257, 65_537];
    // With these strides, every flow has its own address.
    for stride in (0..50).map(|bit| 1_u64 << bit).chain(small) {
        let high = move |n: u64| v6(NET.wrapping_add(n.wrapping_mul(stride)), 1, 0, 443, 3);
        let low = move |n: u64| v6(NET, n.wrapping_mul(stride).wrapping_add(1), 4500, 4500, 3);
        add(format!("networks by {stride}"), Family::V6, Box::new(high));
        add(format!("hosts by {stride}"), Family::V6, Box::new(low));
    }
    for stride in (0..18).map(|bit| 1_u32 << bit).chain([3, 5, 7, 9, 100, 255, 257, 65_537]) {
        let flow =
            move |n| v4(0x0a00_0001_u32.wrapping_add(half(n).wrapping_mul(stride)), 4500, 53, 1);
        add(format!("IPv4 hosts by {stride}"), Family::V4, Box::new(flow));
        // In the byte order of memory.
        let flow = move |n| v4(half(n).wrapping_mul(stride).swap_bytes(), 0, 53, 1);
        add(format!("IPv4 swapped by {stride}"), Family::V4, Box::new(flow));
    }
    for family in Family::BOTH {
        let client = move |host: u64, sport, dport, vip| match family {
            Family::V4 => v4(0xc612_0000 + half(host), sport, dport, vip),
            Family::V6 => v6(NET, host, sport, dport, vip),
        };
        let fields: [(&str, Numbering); 5] = [
            ("ports", Box::new(move |n| client(1, port(30_000 + n), 443, 1))),
            ("hosts × ports", Box::new(move |n| client(n / 100, port(40_000 + n % 100), 443, 1))),
            ("hosts × even", Box::new(move |n| client(n / 100, port(32_768 + n % 100 * 2), 80, 1))),
            ("hosts × VIPs", Box::new(move |n| client(n / 100, 0, 443, 1 + half(n % 100)))),
            (
                "destination-port",
                Box::new(move |n| v6(0, 0, port(n + 1), port(n + 1), 1 + half(n >> 16))),
            ),
        ];
        for (name, flow) in fields {
            add(format!("{family:?} {name}"), family, flow);
        }
    }
    all
}

/// How many of the places get room in sets of four.
fn remembered(places: impl Iterator<Item = u32>, sets: u32) -> u32 {
    let mut used = vec![0; sets as usize];
    let mut remembered = 0;
    for set in places {
        let used = &mut used[set as usize];
        remembered += u32::from(*used < consts::SET_WAYS);
        *used += 1;
    }
    remembered
}

fn secrets(count: usize) -> impl Iterator<Item = Secret> {
    let mut rng = fastrand::Rng::with_seed(1);
    std::iter::repeat_with(move || Secret::of(std::array::from_fn(|_| rng.u64(..)))).take(count)
}

fn words(key: &abi::flow_key, family: Family) -> [u64; 4] {
    entry_words(&Flow { key: *key, real: 1, generation: 1, last_seen: 0, units: None }, family)
}

fn place(key: &abi::flow_key, family: Family, sets: u32, secret: &Secret) -> u32 {
    set_of(&words(key, family), key.vip, family, sets, secret)
}

/// Tries a table with as many entries as flows, one whose size is no power of two, and one with ample room.
#[test]
fn numbered_flows_are_remembered_as_random_ones_are() {
    let families = families();
    for sets in [5000, 250_000] {
        let mut rng = fastrand::Rng::with_seed(sets.into());
        let mut random = || remembered((0..FLOWS).map(|_| rng.u32(..sets)), sets);
        let least = (0..100).map(|_| random()).min().expect("some");
        for (name, family, flow) in &families {
            let flows = (0..u64::from(FLOWS)).map(flow);
            let flows: Vec<_> = flows.map(|key| (words(&key, *family), key.vip)).collect();
            for (number, secret) in secrets(3).enumerate() {
                let places =
                    flows.iter().map(|(words, vip)| set_of(words, *vip, *family, sets, &secret));
                let found = remembered(places, sets);
                // Allows one per cent: of some thousand tries, some are worse than a hundred random ones.
                assert!(
                    found + FLOWS / 100 >= least,
                    "{name}, secret {number}: {found} of {sets} sets, a random function {least}"
                );
            }
        }
    }
}

/// The flows differ in bytes that the multiplication of a whole word would carry out of it. Somebody who does not know
/// the secret chooses a victim and 16 such flows. They meet the victim no more often than by chance.
#[test]
fn nobody_can_aim() {
    const SETS: u32 = 250_000;
    let victim = v6(0xfd00_0010_0244_0007, 0x0700_0000_0000_0001, 4500, 4500, 1);
    // The amount added to the last byte of one word is subtracted from that of another.
    let aimed: Vec<_> = (1..=16)
        .flat_map(|n| {
            [(56, 56), (0, 0), (0, 56), (56, 0), (32, 32)].map(|(high, low)| {
                let (add, take) = (n << high, n << low);
                v6(
                    0xfd00_0010_0244_0007_u64.wrapping_add(add),
                    0x0700_0000_0000_0001_u64.wrapping_sub(take),
                    4500,
                    4500,
                    1,
                )
            })
        })
        .collect();
    let (mut meetings, secrets) = (0, secrets(1000));
    for secret in secrets {
        let set = place(&victim, Family::V6, SETS, &secret);
        let hits = aimed.iter().filter(|key| place(key, Family::V6, SETS, &secret) == set);
        meetings += hits.count();
    }
    // 80,000 tries, each with a chance of at most two in 250,000.
    assert!(meetings <= 8, "{meetings} flows share the victim's set");
}

/// Another word, another key or another factor gives another set.
#[test]
fn everything_counts() {
    const SETS: u32 = 1 << 31;
    let [secret] = secrets(1).collect::<Vec<_>>()[..] else { panic!("one secret") };
    for family in Family::BOTH {
        let base = match family {
            Family::V4 => v4(0xc633_6401, 1234, 443, 7),
            Family::V6 => v6(0x2001_0db8_0000_0001, 0x1000_0000_0000_0002, 1234, 443, 7),
        };
        let at = place(&base, family, SETS, &secret);
        let mut others = vec![abi::flow_key { sport: base.sport ^ 1, ..base }];
        others.push(abi::flow_key { dport: base.dport ^ 1, ..base });
        others.push(abi::flow_key { vip: 8, ..base });
        let words = if family == Family::V4 { 3..4 } else { 0..4 };
        for word in words {
            let mut other = base;
            other.src.word[word] ^= 1;
            others.push(other);
        }
        for other in others {
            assert_ne!(place(&other, family, SETS, &secret), at, "{family:?}");
        }
        let keys = if family == Family::V4 { 0..2 } else { 0..6 };
        for key in keys {
            let mut other = secret;
            other.keys[key] ^= 1;
            assert_ne!(place(&base, family, SETS, &other), at, "{family:?} key {key}");
        }
        let factors = if family == Family::V4 { 0..3 } else { 1..3 };
        for factor in factors {
            let mut other = secret;
            other.factors[factor] ^= 2;
            assert_ne!(place(&base, family, SETS, &other), at, "{family:?} factor {factor}");
        }
    }
}

#[test]
fn a_secret_is_not_printed() {
    let secret = Secret::of([0x1234_5678; 6]);
    assert_eq!(format!("{secret:?}"), "Secret");
    assert!(secret.factors.iter().all(|factor| factor & 1 == 1));
}
