//! More VIPs and reals than one batch of reads or writes holds.

use std::net::Ipv4Addr;

use crate::fixtures::Rig;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::http_get;
use crate::fixtures::json;
use crate::fixtures::path_of;
use crate::fixtures::server;
use crate::fixtures::vip;

/// Counters are read in batches: each is that of its own real and VIP, whatever came before.
#[test]
fn counters_of_many() {
    const VIP: &str = "tcp://10.200.1.200:80";
    let rig = Rig::new(1);
    // Reals get their ids, and VIPs theirs, in the order of addresses.
    let idle: Vec<_> = (0..3000_u32)
        .map(|n| Ipv4Addr::from(0x0900_0001 + n).to_string() + ", weight = 0")
        .collect();
    let idle: Vec<_> = idle.iter().map(String::as_str).collect();
    let mut vips: Vec<_> =
        (1..=100).map(|n| vip(&format!("tcp://10.200.1.{n}:80"), &idle[n..n + 10])).collect();
    vips.push(vip(VIP, &[&idle[..], &["10.0.0.1"]].concat()));
    rig.lbctl().apply(&config(&vips.concat()));
    for _ in 0..3 {
        http_get(rig.client(), server(VIP), "/").expect("the VIP answers");
    }

    let stats = json(&rig.lbctl().ok(&["stats", "--json"]));
    let vips = stats["vips"].as_object().expect("VIPs by name");
    let reals = stats["reals"].as_object().expect("reals by address");
    assert_eq!((vips.len(), reals.len()), (101, 3001));
    assert_eq!(vips[VIP]["new_flows"], 3, "{}", vips[VIP]);
    let sent = &vips[VIP]["packets"];
    assert!(sent.as_u64() > Some(3) && *sent == reals["10.0.0.1"]["packets"], "{stats}");
    let others = vips.iter().filter(|(name, _)| *name != VIP);
    let others = others.chain(reals.iter().filter(|(address, _)| *address != "10.0.0.1"));
    for (name, count) in others {
        assert_eq!(count["packets"], 0, "{name}");
    }
}

/// More rings than are replaced at once, written over, replaced and removed: the last VIP has what the file
/// says after each, and so has the first.
#[test]
fn changes_of_many() {
    let rig = Rig::new(2);
    let name = |n: u32| format!("tcp://10.200.{}.{}:80", n / 250, n % 250 + 1);
    let all = |reals: &[&str]| (0..300).map(|n| vip(&name(n), reals)).collect::<String>();
    let apply = |vips: &str| {
        let file = config_file(&config(vips));
        let path = path_of(&file);
        rig.lbctl().ok(&["apply", "--yes", "-f", path]);
        let again = rig.lbctl().ok(&["plan", "-f", path]);
        assert_eq!(again.stdout, "nothing to change\n");
    };
    let real_of = |n| http_get(rig.client(), server(&name(n)), "/").expect("the VIP answers").real;
    let only = |real: &str| {
        for n in [0, 255, 256, 299] {
            assert_eq!((real_of(n), real_of(n)), (real.to_owned(), real.to_owned()), "{n}");
        }
    };

    apply(&all(&["10.0.0.1", "10.0.0.2, weight = 0"]));
    only("real1");
    // All reals stay.
    apply(&all(&["10.0.0.1, weight = 0", "10.0.0.2"]));
    only("real2");
    // One goes altogether.
    apply(&all(&["10.0.0.1"]));
    only("real1");
    apply(&vip(&name(299), &["10.0.0.2"]));
    assert_eq!(real_of(299), "real2");
}
