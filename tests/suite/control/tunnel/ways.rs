//! All families, and what the balancer sees of it.

use std::net::IpAddr;
use std::net::SocketAddr;

use super::ask;
use super::ensure;
use super::marks;
use crate::fixtures::Rig;
use crate::fixtures::UPLINK;
use crate::fixtures::config;
use crate::fixtures::json;
use crate::fixtures::vip;

const V4: &str = "10.200.1.1";
const V6: &str = "fc00:1::1";

/// A rig whose balancer has a VIP of each family, with reals of both.
fn rig() -> Rig {
    let rig = Rig::new(2);
    let reals = ["10.0.0.1", "10.0.0.2", "fc00::1", "fc00::2"];
    let vips = [vip(&format!("tcp://{V4}:80"), &reals), vip(&format!("tcp://[{V6}]:80"), &reals)];
    rig.lbctl().apply(&config(&vips.concat()));
    rig
}

fn addresses() -> [IpAddr; 2] {
    [V4, V6].map(|address| address.parse().expect("an address"))
}

#[test]
fn checks_reach_the_real_under_test_in_all_four_families() {
    let rig = rig();
    let balancer = &rig.topology.balancer.ns;
    let path = ensure(&rig.bpffs, balancer, &addresses());
    assert_eq!(path.obstacles, [].into());
    assert_eq!(path.interfaces, [UPLINK.to_owned()].into());
    let before = rig.lbctl().ok(&["stats", "--json"]);

    let marks = marks(&rig.bpffs);
    assert_eq!(marks.len(), 4);
    for address in addresses() {
        for (real, mark) in &marks {
            let answer = ask(balancer, *mark, SocketAddr::new(address, 80));
            let answer = answer.unwrap_or_else(|error| panic!("{address} at {real}: {error}"));
            let name = if real.to_string().ends_with('1') { "real1" } else { "real2" };
            assert!(answer.ends_with(name), "{address} at {real}: {answer}");
        }
    }

    // The balancer has seen the answers, as packets for no VIP. It has no flow and no VIP's packet more.
    let after = rig.lbctl().ok(&["stats", "--json"]);
    let (before, after) = (json(&before), json(&after));
    assert_eq!(before["vips"], after["vips"]);
    assert_eq!(before["table_events"], after["table_events"]);
    let reason = |stats: &serde_json::Value, name| crate::fixtures::reason(stats, name);
    for name in ["connection_table", "ring"] {
        assert_eq!(reason(&before, name), reason(&after, name), "{name}");
    }
    assert!(reason(&after, "not_vip") >= reason(&before, "not_vip") + 8 * 3, "{after}");
}
