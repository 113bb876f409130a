//! Attached by commands, replaced, and removed: by links, and by filters as before Linux 6.6.

use std::net::SocketAddr;

use super::CHECKED;
use super::addresses;
use super::ask;
use super::ensure;
use super::is_gone;
use super::marks;
use super::program;
use crate::fixtures::Host;
use crate::fixtures::Lbctl;
use crate::fixtures::NetNs;
use crate::fixtures::Rig;
use crate::fixtures::UPLINK;
use crate::fixtures::config;
use crate::fixtures::json;
use crate::fixtures::vip;

const VIP: &str = "tcp://10.200.1.1:80";

/// `lbctl`, as on a kernel that has no links for such programs.
pub(super) fn without_links(lbctl: Lbctl<'_>, filters: bool) -> Lbctl<'_> {
    if filters { lbctl.env("LBCTL_FAIL_AT", "tcx") } else { lbctl }
}

pub(in crate::control) fn qdisc(ns: &NetNs) -> String {
    ns.shell(&format!("tc qdisc show dev {UPLINK} clsact"))
}

pub(in crate::control) fn filters(ns: &NetNs) -> String {
    ns.shell(&format!("tc filter show dev {UPLINK} egress"))
}

/// A host with a default route, and a configuration with or without a check.
pub(super) fn host() -> Host {
    let host = Host::new();
    host.ns.shell("ip route add default via 172.31.0.254");
    host
}

fn file(checked: &str) -> String {
    Host::config(&format!("{}{checked}", vip(VIP, &["10.0.0.1"])))
}

/// The pins of the program.
pub(super) fn pins(host: &Host) -> Vec<String> {
    let folder = host.bpffs.path().join("l4lb/default/healthcheck");
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let name = |entry: std::fs::DirEntry| entry.file_name().into_string().expect("text");
    entries.map(|entry| name(entry.expect("an entry"))).collect()
}

#[test]
fn checks_come_and_go_with_the_configuration() {
    let rig = Rig::new(1);
    let balancer = &rig.topology.balancer.ns;
    let plain = config(&vip(VIP, &["10.0.0.1"]));
    rig.lbctl().apply(&plain);
    assert!(is_gone(&rig.bpffs));
    rig.lbctl().apply(&format!("{plain}{CHECKED}"));
    let mark = *marks(&rig.bpffs).values().next().expect("a real");
    let to = SocketAddr::new(addresses()[0], 80);
    assert!(ask(balancer, mark, to).is_ok());
    let sent = |stats: &serde_json::Value| {
        stats["healthcheck"]["ipv4_in_ipv4"]["packets"].as_u64().expect("a number")
    };
    let before = sent(&json(&rig.lbctl().ok(&["stats", "--json"])));
    assert!(before > 2, "{before} packets of a connection");

    // Other knobs are another program, with the same counters.
    let more = "[packets]\nouter_df = true\n";
    rig.lbctl()
        .apply(&format!("{}\n{more}", config(&format!("{}{CHECKED}", vip(VIP, &["10.0.0.1"])))));
    assert!(ask(balancer, mark, to).is_ok());
    let after = sent(&json(&rig.lbctl().ok(&["stats", "--json"])));
    assert!(after > before, "{after} packets, and {before} before");

    rig.lbctl().apply(&plain);
    assert!(is_gone(&rig.bpffs));
}

#[test]
fn filters_take_the_place_of_links() {
    let rig = Rig::new(1);
    let balancer = &rig.topology.balancer.ns;
    let plain = config(&vip(VIP, &["10.0.0.1"]));
    let checked = format!("{plain}{CHECKED}");
    without_links(rig.lbctl(), true).apply(&checked);
    assert!(filters(balancer).contains("handle 0x4c344c42 healthcheck"), "{}", filters(balancer));
    assert!(qdisc(balancer).contains("clsact"));
    let mark = *marks(&rig.bpffs).values().next().expect("a real");
    let to = SocketAddr::new(addresses()[0], 80);
    assert!(ask(balancer, mark, to).is_ok());
    // Replaced in place.
    let other = checked.replace("entries = 20000", "entries = 10000");
    without_links(rig.lbctl(), true).apply(&other);
    assert_eq!(filters(balancer).matches("handle 0x4c344c42").count(), 1);
    assert!(ask(balancer, mark, to).is_ok());
    // Nobody else uses the qdisc, so it goes, too.
    rig.lbctl().apply(&plain);
    assert_eq!((filters(balancer), qdisc(balancer)), (String::new(), String::new()));

    // Somebody else does.
    without_links(rig.lbctl(), true).apply(&checked);
    balancer.shell(&format!(
        "tc filter add dev {UPLINK} ingress pref 8 protocol ip u32 match u32 0 0 flowid 1:2"
    ));
    rig.lbctl().ok(&["down"]);
    assert_eq!(filters(balancer), "");
    assert!(qdisc(balancer).contains("clsact"));

    // It was there before.
    balancer.shell(&format!("tc filter del dev {UPLINK} ingress"));
    without_links(rig.lbctl(), true).apply(&checked);
    assert!(filters(balancer).contains("handle 0x4c344c42"));
    rig.lbctl().ok(&["down"]);
    assert_eq!(filters(balancer), "");
    assert!(qdisc(balancer).contains("clsact"));
}

#[test]
fn an_interrupted_command_leaves_nothing_that_the_next_does_not_finish() {
    for filters in [false, true] {
        let host = host();
        let lbctl = || without_links(host.lbctl(), filters);
        let plain = crate::fixtures::config_file(&file(""));
        let checked = crate::fixtures::config_file(&file(CHECKED));
        let apply = |file| ["apply", "-f", crate::fixtures::path_of(file)];
        let mut kills = 0;
        loop {
            lbctl().ok(&apply(&plain));
            let at = (kills + 1).to_string();
            let killed = lbctl().env("LBCTL_KILL_AT_WRITE", &at).run(&apply(&checked));
            if killed.code() == Some(0) {
                break;
            }
            kills += 1;
            // One completes it, and one of two takes it back.
            if kills % 2 == 0 {
                lbctl().ok(&apply(&checked));
                assert_eq!(pins(&host).len(), 1, "after kill {kills}: {:?}", pins(&host));
                assert!(program(&host.bpffs).is_some(), "after kill {kills}");
            }
            lbctl().ok(&apply(&plain));
            assert_eq!(pins(&host), [""; 0], "after kill {kills}");
            assert!(is_gone(&host.bpffs), "after kill {kills}");
            assert_eq!(qdisc(&host.ns), "", "after kill {kills}");
        }
        assert!(kills > 3, "{kills} writes");
        lbctl().ok(&["down"]);
        assert!(!host.has_pins("default"));
        assert_eq!((qdisc(&host.ns), is_gone(&host.bpffs)), (String::new(), true));
    }
}

#[test]
fn removed_pins_are_made_anew_and_down_finds_links_without() {
    let host = host();
    host.lbctl().apply(&file(CHECKED));
    let folder = host.bpffs.path().join("l4lb/default/healthcheck");
    let [pin] = &pins(&host)[..] else { panic!("{:?}", pins(&host)) };
    let pin = folder.join(pin);
    // The link goes with its pin.
    std::fs::remove_file(&pin).expect("a pin");
    ensure(&host.bpffs, &host.ns, &addresses()[..1]);
    assert!(pin.exists());
    // Unless somebody holds it.
    let held = libbpf_rs::Link::open(&pin).expect("the link");
    std::fs::remove_file(&pin).expect("a pin");
    host.lbctl().ok(&["down"]);
    assert!(!host.has_pins("default"));
    let libbpf_rs::query::LinkTypeInfo::Tcx(info) = held.info().expect("a link").info else {
        panic!("another kind of link");
    };
    assert_eq!(info.ifindex, 0, "it is detached");
}
