//! All families, and what the balancer sees of it.

use std::net::SocketAddr;

use super::addresses;
use super::ask;
use super::ensure;
use super::marks;
use super::rig;
use crate::fixtures::UPLINK;
use crate::fixtures::json;

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
    assert!(before["table"].is_object() && before["vips"] != serde_json::Value::Null, "{before}");
    assert_eq!(before["table"], after["table"]);
    assert_eq!(before["reals"], after["reals"]);
    let reason = |stats: &serde_json::Value, name| crate::fixtures::reason(stats, name);
    for name in ["connection_table", "ring"] {
        assert_eq!(reason(&before, name), reason(&after, name), "{name}");
    }
    assert!(reason(&after, "not_vip") >= reason(&before, "not_vip") + 8 * 3, "{after}");
}
