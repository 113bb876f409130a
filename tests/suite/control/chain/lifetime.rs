//! What stays in the chain, and on the interface, when a program is removed.

use super::order::chain;
use crate::fixtures::Host;
use crate::fixtures::Rig;
use crate::fixtures::UPLINK;
use crate::fixtures::chain_programs::Built;
use crate::fixtures::chain_programs::on_interface;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::goes_on;
use crate::fixtures::json;
use crate::fixtures::path_of;
use crate::fixtures::vip;

const VIP: &str = "tcp://10.200.1.1:80";

/// An upgrade, `down` and `apply` leave the link as it is while somebody else's program is there.
#[test]
fn the_link_stays_to_the_last_program() {
    let rig = Rig::new(1);
    let lbctl = rig.lbctl();
    let ns = &rig.topology.balancer.ns;
    let built = Built::tracer("other", &[]);
    // Before the first apply.
    lbctl.ok(&["chain", "insert", "3", &built.text(), "--interface", UPLINK]);
    let link = on_interface(ns, UPLINK).1;
    assert!(link.is_some(), "no link");
    let text = config(&vip(VIP, &["10.0.0.1"]));
    let file = config_file(&text);
    let path = path_of(&file);
    lbctl.ok(&["apply", "--yes", "-f", path]);
    let download = rig.download(VIP);
    // As a new build does.
    lbctl.apply(&text.replace("20000", "30000"));
    lbctl.ok(&["chain", "insert", "3", &built.text()]);
    goes_on(&download, "both programs are new");
    drop(download);
    lbctl.ok(&["decap", "attach", UPLINK]);
    lbctl.ok(&["down"]);
    assert_eq!(chain(&rig), [(3, "other".to_owned()), (12, "decap".to_owned())]);
    lbctl.ok(&["decap", "detach"]);
    assert_eq!(chain(&rig), [(3, "other".to_owned())]);
    assert_eq!(lbctl.ok(&["down"]).stdout, "instance 'default' was not running\n");
    lbctl.ok(&["apply", "--yes", "-f", path]);
    lbctl.ok(&["plan", "-f", path]);
    rig.download(VIP);
    lbctl.ok(&["down"]);
    assert_eq!(on_interface(ns, UPLINK).1, link);
    lbctl.ok(&["chain", "remove", "other"]);
    assert_eq!(on_interface(ns, UPLINK), (None, None));
    assert!(!rig.bpffs.path().join("l4lb/default").exists());
}

/// Interfaces that the balancer leaves go on running the chain while somebody else's program is in it.
#[test]
fn interfaces_that_the_balancer_leaves() {
    let host = Host::new();
    host.ns.shell(
        "ip link add second type veth peer name other; ip link set second up; ip link set other up",
    );
    let lbctl = host.lbctl();
    let second = "[[interfaces]]\nname = \"second\"\ngateway_mac = \"02:00:00:00:00:fd\"\n";
    let both = config_file(&format!("{second}\n{}", Host::config("")));
    let one = config_file(&Host::config(""));
    let [both, one] = [&both, &one].map(path_of);
    let built = Built::tracer("other", &[]);
    lbctl.ok(&["apply", "--yes", "-f", both]);
    lbctl.ok(&["chain", "insert", "3", &built.text()]);
    let plan = lbctl.exits(3, &["plan", "-f", one]);
    let says = "- interface second: stays attached, for other programs of the chain\n";
    assert!(plan.stdout.contains(says), "{plan}");
    lbctl.ok(&["apply", "--yes", "-f", one]);
    lbctl.ok(&["plan", "-f", one]);
    assert!(host.has_xdp("second") && host.has_xdp(UPLINK));
    lbctl.ok(&["chain", "remove", "other"]);
    assert!(!host.has_xdp("second") && host.has_xdp(UPLINK));
    lbctl.ok(&["plan", "-f", one]);
    // And one that the balancer never had.
    lbctl.ok(&["chain", "insert", "3", &built.text(), "--interface", "second"]);
    lbctl.ok(&["plan", "-f", one]);
    lbctl.ok(&["down"]);
    assert!(host.has_xdp("second") && host.has_xdp(UPLINK));
    lbctl.ok(&["chain", "remove", "3"]);
    assert!(!host.has_pins("default") && !host.has_xdp("second") && !host.has_xdp(UPLINK));
}

#[test]
fn what_list_says() {
    let host = Host::new();
    let lbctl = host.lbctl();
    assert_eq!(json(&lbctl.ok(&["chain", "list", "--json"])), serde_json::json!([]));
    let built = Built::tracer("other", &[]);
    let inserted = lbctl.ok(&["chain", "insert", "3", &built.text(), "--interface", UPLINK]);
    assert!(inserted.stdout.starts_with("slot 3: other (id "), "{inserted}");
    lbctl.apply(&Host::config(""));
    let list = json(&lbctl.ok(&["chain", "list", "--json"]));
    let status = json(&lbctl.ok(&["status", "--json"]));
    let names = |list: &serde_json::Value| {
        let list = list.as_array().expect("a list").iter();
        list.map(|program| (program["slot"].clone(), program["name"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(names(&list), names(&status["chain"]));
    assert_eq!((&list[0]["origin"], &list[0]["packets"]), (&"object".into(), &().into()));
    assert_eq!(list[1]["origin"], "own");
    assert!(list[1]["packets"].is_u64(), "{list}");
    let since = list[0]["since"].as_i64().expect("seconds since 1970");
    let age = jiff::Timestamp::now().as_second() - since;
    assert!((0..120).contains(&age), "{list}");
    let table = lbctl.ok(&["chain", "list"]).stdout;
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("SLOT  PROGRAM"), "{table}");
    assert!(lines[1].contains("other") && lines[1].ends_with(" -"), "{table}");
    assert!(
        lines[2].contains("balancer") && lines[2].ends_with(|last: char| last.is_ascii_digit()),
        "{table}"
    );
    // Also where the balancer serves nothing.
    lbctl.ok(&["down"]);
    let table = lbctl.ok(&["chain", "list"]).stdout;
    assert_eq!(table.lines().last(), Some("on uplink (native, direct: other)"), "{table}");
}
