//! All families, and what the balancer sees of it.

use std::net::SocketAddr;

use super::addresses;
use super::ask;
use super::connect_marked;
use super::ensure;
use super::marks;
use super::rig;
use super::rig_by;
use crate::fixtures::Capture;
use crate::fixtures::Direction;
use crate::fixtures::Frame;
use crate::fixtures::HttpClient;
use crate::fixtures::NetNs;
use crate::fixtures::Rig;
use crate::fixtures::UPLINK;
use crate::fixtures::json;

#[test]
fn checks_reach_the_real_under_test_in_all_four_families() {
    reach_all(&rig());
}

#[test]
fn checks_reach_the_real_under_test_by_gue() {
    for variant in [1, 0] {
        reach_all(&rig_by(&format!("{GUE}gue_variant = {variant}\n")));
    }
}

/// GUE for all VIPs.
const GUE: &str = "[packets]\nencapsulation = \"gue\"\nencap_source_v4 = \"172.31.0.2\"\nencap_source_v6 = \"fc00:31::2\"\n";

#[track_caller]
fn reach_all(rig: &Rig) {
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

/// Uploads by a marked socket.
#[track_caller]
fn upload(ns: &NetNs, mark: u32, to: SocketAddr, when: &str) {
    let stream = connect_marked(ns, mark, to, 20).unwrap_or_else(|error| panic!("{when}: {error}"));
    let answer = HttpClient::of(stream).put(300_000);
    let answer = answer.unwrap_or_else(|error| panic!("{when}: {to}, {mark:#x}: {error}"));
    assert_eq!(answer.status, 200, "{when}: {}", answer.body);
}

/// The server checks the content, and its kernel the checksums.
#[test]
fn long_segments_arrive_whatever_the_kernel_has_left_to_the_device() {
    let rig = rig();
    let balancer = &rig.topology.balancer.ns;
    ensure(&rig.bpffs, balancer, &addresses());
    let marks = marks(&rig.bpffs);
    for offloads in ["tx off", "tx on gso on tso off", "tx on gso on tso on"] {
        balancer.shell(&format!("ethtool -K {UPLINK} {offloads} >/dev/null"));
        for address in addresses() {
            for mark in marks.values() {
                upload(balancer, *mark, SocketAddr::new(address, 80), offloads);
            }
        }
    }
}

#[test]
fn a_route_by_another_interface_leads_to_one_that_is_served() {
    let rig = rig();
    let balancer = &rig.topology.balancer.ns;
    balancer.shell(&format!(
        "ip link add management type veth peer name to-management netns {}
         ip addr add 172.33.0.2/24 dev management
         ip addr add fc00:33::2/64 dev management nodad
         ip link set management up
         ethtool -K management tx off tso off gso off >/dev/null",
        rig.topology.router.path().display()
    ));
    rig.topology.router.shell(
        "ip addr add 172.33.0.254/24 dev to-management
         ip addr add fc00:33::fe/64 dev to-management nodad
         ip link set to-management up",
    );
    balancer.shell(
        "ip route add 10.200.1.1 via 172.33.0.254
         ip route add fc00:1::1 via fc00:33::fe",
    );
    let path = ensure(&rig.bpffs, balancer, &addresses());
    assert_eq!(path.obstacles, [].into());
    assert_eq!(path.interfaces, ["management".to_owned()].into());
    let mut seen = Capture::start(&rig.topology.router, "to-management");
    for address in addresses() {
        for (real, mark) in &marks(&rig.bpffs) {
            let answer = ask(balancer, *mark, SocketAddr::new(address, 80));
            assert!(answer.is_ok(), "{address} at {real}: {answer:?}");
        }
    }
    let to_vip = |frame: &&Frame| {
        frame.direction == Direction::In
            && (frame.bytes[30..34] == [10, 200, 1, 1] || frame.bytes[23] == 4)
    };
    let strays: Vec<_> = seen.frames().iter().filter(to_vip).collect();
    assert!(strays.is_empty(), "{strays:?}");
}
