//! Where keys find room in the index.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use super::*;
use crate::model::address::Protocol;
use crate::model::address::Vip;
use crate::model::vip_table::Table;
use crate::model::vip_table::VipSpec;

fn entries(count: u32) -> Vec<(abi::vip_key, abi::vip)> {
    let vip = |id: u32| {
        let [_, _, a, b] = id.to_be_bytes();
        let vip: Vip = format!("tcp://10.200.{a}.{b}:443").parse().unwrap();
        (
            abi::vip_key::from(vip),
            abi::vip { id: u16::from_be_bytes([a, b]), counters: 0, serial: id + 1, flags: 0 },
        )
    };
    (0..count).map(vip).collect()
}

#[test]
fn every_bucket_says_whether_other_ports_have_rules() {
    let rules = |buckets: &[abi::vip_bucket]| {
        let has =
            |bucket: &&abi::vip_bucket| bucket.entry[0].vip.flags & consts::VIP_PORT_RULES != 0;
        buckets.iter().filter(has).count()
    };
    let mut entries: Vec<_> = ["tcp://10.200.1.1:80", "tcp://10.200.1.2:80"]
        .map(|vip| (abi::vip_key::from(vip.parse::<Vip>().unwrap()), abi::vip::default()))
        .to_vec();
    let reject = OtherPorts::flags(Some(OtherPorts::Reject));
    // In a VIP's entry, the flag only records the VIP's setting. In a marker, it is a rule.
    entries[0].1.flags = reject;
    entries[1].1.flags = consts::VIP_MARKER;
    assert_eq!(rules(&build(&entries)), 0);
    entries[1].1.flags |= reject;
    assert_eq!(rules(&build(&entries)), consts::VIP_BUCKETS as usize);
}

#[test]
fn every_bucket_says_whether_all_vips_name_their_port() {
    let named = |buckets: &[abi::vip_bucket]| {
        let has =
            |bucket: &&abi::vip_bucket| bucket.entry[0].vip.flags & consts::VIP_PORTS_NAMED != 0;
        buckets.iter().filter(has).count()
    };
    let all = consts::VIP_BUCKETS as usize;
    assert_eq!(named(&build(&[])), all);
    let mut entries = entries(2);
    // The marker of an address has no port, either.
    entries[1].0.port = 0;
    entries[1].1.flags = consts::VIP_MARKER;
    assert_eq!(named(&build(&entries)), all);
    entries[1].1.flags = 0;
    assert_eq!(named(&build(&entries)), 0);
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
    assert!(missing < 100, "{missing} of {} keys have to be looked up in `vips`", entries.len());
}

/// A name, and the VIPs of the numbers below [`consts::MAX_VIPS`].
type Numbered = (String, Box<dyn Fn(u32) -> Vip>);

/// The highest number of VIPs, with addresses and ports in regular patterns.
fn families() -> Vec<Numbered> {
    const NET: u128 = 0xfc00_0001 << 96;
    let vip = |address: IpAddr, port: u32| Vip {
        address,
        port: u16::try_from(port).unwrap(),
        protocol: Protocol::Tcp,
    };
    let v4 = move |host: u32, port| vip(Ipv4Addr::from(0x0ac8_0101 + host).into(), port);
    let v6 = move |host: u128, port| vip(Ipv6Addr::from(NET + 1 + host).into(), port);
    let mut all: Vec<Numbered> = Vec::new();
    for stride in (0..22).map(|bit| 1 << bit).chain([3, 5, 7, 9, 100, 255, 257]) {
        all.push((format!("IPv4 by {stride}"), Box::new(move |n| v4(n * stride, 443))));
    }
    for bit in 0..112 {
        all.push((format!("IPv6 by 2^{bit}"), Box::new(move |n| v6(u128::from(n) << bit, 443))));
    }
    for of in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512] {
        let port = move |n: u32| 8000 + n % of;
        all.push((format!("IPv4, {of} ports"), Box::new(move |n| v4(n / of, port(n)))));
        all.push((format!("IPv6, {of} ports"), Box::new(move |n| v6((n / of).into(), port(n)))));
        let net = move |n: u32| u128::from(n / of);
        let host = move |n: u32| u128::from(n % of);
        all.push((format!("/24 × {of}"), Box::new(move |n| v4(((n / of) << 8) + n % of, 443))));
        all.push((format!("/64 × {of}"), Box::new(move |n| v6((net(n) << 64) + host(n), 443))));
        all.push((format!("/48 × {of}"), Box::new(move |n| v6((net(n) << 80) + host(n), 443))));
    }
    let either = move |n: u32| Vip {
        protocol: if n.is_multiple_of(2) { Protocol::Tcp } else { Protocol::Udp },
        ..v4(n / 2, 443)
    };
    all.push(("TCP and UDP".to_owned(), Box::new(either)));
    all
}

/// How many keys find their bucket full.
fn overflowing(buckets: impl Iterator<Item = usize>) -> usize {
    let mut used = vec![0; consts::VIP_BUCKETS as usize];
    let mut overflowing = 0;
    for bucket in buckets {
        used[bucket] += 1;
        overflowing += usize::from(used[bucket] > abi::vip_bucket::default().entry.len());
    }
    overflowing
}

/// Among hundreds of random functions, the most keys that find their bucket full.
fn at_random(keys: usize) -> usize {
    let mut rng = fastrand::Rng::with_seed(keys as u64);
    let mut random = || overflowing((0..keys).map(|_| rng.usize(..consts::VIP_BUCKETS as usize)));
    (0..300).map(|_| random()).max().expect("some")
}

/// The VIPs and their markers.
#[test]
fn numbered_vips_share_buckets_no_more_than_random_ones() {
    let mut most = BTreeMap::new();
    for (name, vip) in families() {
        let vips = (0..consts::MAX_VIPS).map(|n| (vip(n), VipSpec::default())).collect();
        let table = Table { vips, ..Table::default() };
        let keys: Vec<_> = table.keys().into_keys().collect();
        let found = overflowing(keys.iter().map(|key| bucket_of(&key.0)));
        let most = *most.entry(keys.len()).or_insert_with(|| at_random(keys.len()));
        assert!(found <= most, "{name}: {found} of {} keys, a random function {most}", keys.len());
    }
}
