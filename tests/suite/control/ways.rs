//! The ways of packets to reals: what is said of them is kept, and what depends on the host is found and followed.

use serde_json::Value;
use serde_json::json;

use crate::fixtures::Bpffs;
use crate::fixtures::Host;
use crate::fixtures::Lbctl;
use crate::fixtures::SOON;
use crate::fixtures::Serve;
use crate::fixtures::Topology;
use crate::fixtures::UPLINK;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::get;
use crate::fixtures::json;
use crate::fixtures::path_of;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

const VIP: &str = "tcp://10.200.1.1:80";

/// The router's MAC on the balancer's link.
const ROUTER: &str = "02:00:00:00:fe:b1";

/// Where `lbctl serve` answers.
const METRICS: &str = "127.0.0.1:9847";

const L2: &str = "encapsulation = \"l2\"\n";

/// A real of the VIP.
#[track_caller]
fn real(lbctl: &Lbctl<'_>, address: &str) -> Value {
    let listed = json(&lbctl.ok(&["real", "list", "--json"]));
    let vips = listed.as_array().expect("a list").iter();
    let mut reals = vips.flat_map(|vip| vip["reals"].as_array().expect("a list"));
    reals.find(|real| real["address"] == address).expect(address).clone()
}

#[track_caller]
fn becomes(
    lbctl: &Lbctl<'_>,
    address: &str,
    key: &str,
    expected: &Value,
    log: impl Fn() -> String,
) {
    let reached = wait_until(SOON, || real(lbctl, address)[key] == *expected);
    assert!(reached, "not {expected}, but {}\n{}", real(lbctl, address), log());
}

fn at(mac: &str) -> Value {
    json!({ "interface": UPLINK, "mac": mac })
}

fn problems(lbctl: &Lbctl<'_>) -> Vec<Value> {
    let status = json(&lbctl.ok(&["status", "--json"]));
    let findings = status["condition"]["findings"].as_array().expect("a list");
    findings.iter().map(|finding| finding["problem"].clone()).collect()
}

/// Neighbours that are there, that come later, that move, and that die.
#[test]
fn macs_of_reals_are_found_and_followed() {
    let (bpffs, topology) = (Bpffs::new(), Topology::new(0));
    let (ns, router) = (&topology.balancer.ns, &topology.router);
    let lbctl = || Lbctl::new(&bpffs).in_ns(ns);
    router.shell(
        "ip addr add 172.31.0.50/24 dev to-balancer; ip addr add fc00:31::50/64 dev to-balancer nodad",
    );
    let file = config(&(vip(VIP, &["172.31.0.50", "fc00:31::50"]) + L2));
    lbctl().apply(&file);
    for address in ["172.31.0.50", "fc00:31::50"] {
        let found = real(&lbctl(), address);
        assert_eq!((&found["encapsulation"], &found["neighbour"]), (&json!("l2"), &at(ROUTER)));
    }
    assert_eq!(problems(&lbctl()), [Value::Null; 0]);
    lbctl().ok(&["plan", "-f", path_of(&config_file(&file))]);
    let listed = lbctl().ok(&["real", "list"]).stdout;
    assert!(listed.contains(&format!("l2 {ROUTER} {UPLINK}")), "{listed}");

    // It is not there yet, as at boot: everything else works.
    let added = lbctl().ok(&["real", "add", VIP, "172.31.0.77"]);
    assert!(added.stderr.contains("172.31.0.77: it does not answer for its MAC"), "{added}");
    assert_eq!(real(&lbctl(), "172.31.0.77")["neighbour"], Value::Null);
    assert_eq!(real(&lbctl(), "172.31.0.50")["neighbour"], at(ROUTER));
    assert!(problems(&lbctl()).contains(&json!("reals_without_mac")), "{:?}", problems(&lbctl()));
    let listed = lbctl().ok(&["real", "list"]).stdout;
    assert!(listed.contains("l2, NO MAC"), "{listed}");
    lbctl().exits(1, &["status", "--check"]);

    let three = config(&(vip(VIP, &["172.31.0.50", "fc00:31::50", "172.31.0.77"]) + L2));
    let serve = Serve::start(lbctl(), &three);
    let log = || serve.running.stderr();
    let known = |number: u8| {
        let series = format!("l4lb_real_mac_known{{real=\"172.31.0.77\"}} {number}\n");
        wait_until(SOON, || get(ns, METRICS, "/metrics").expect("an answer").1.contains(&series))
    };
    assert!(known(0), "{}", get(ns, METRICS, "/metrics").expect("an answer").1);
    router.shell("ip addr add 172.31.0.77/24 dev to-balancer");
    // What hosts do when their MAC changes.
    router.shell(
        "echo 1 >/proc/sys/net/ipv4/conf/to-balancer/arp_notify
         echo 1 >/proc/sys/net/ipv6/conf/to-balancer/ndisc_notify",
    );
    becomes(&lbctl(), "172.31.0.77", "neighbour", &at(ROUTER), log);
    assert!(known(1), "{}", log());

    let moved = "02:00:00:00:fe:33";
    router.shell(&format!("ip link set to-balancer address {moved}"));
    for address in ["172.31.0.50", "172.31.0.77", "fc00:31::50"] {
        becomes(&lbctl(), address, "neighbour", &at(moved), log);
    }
    // A real that is dead keeps its last MAC: health checks decide about it.
    router.shell("ip addr del 172.31.0.77/24 dev to-balancer");
    ns.shell(&format!("ip neigh flush dev {UPLINK}"));
    becomes(&lbctl(), "172.31.0.50", "neighbour", &at(moved), log);
    assert_eq!(real(&lbctl(), "172.31.0.77")["neighbour"], at(moved));
    serve.stop();

    // Nothing stays behind when they go.
    lbctl().ok(&["vip", "edit", VIP, "--encapsulation", "default"]);
    assert_eq!(real(&lbctl(), "172.31.0.50")["neighbour"], Value::Null);
    assert_eq!(real(&lbctl(), "172.31.0.50")["encapsulation"], "ipip");
}

/// An edit waits for the MAC of a real that it brings, and for no other: it may be urgent.
#[test]
fn edits_do_not_wait_for_others_that_are_silent() {
    let (bpffs, topology) = (Bpffs::new(), Topology::new(0));
    let lbctl = Lbctl::new(&bpffs).in_ns(&topology.balancer.ns);
    topology.router.shell("ip addr add 172.31.0.50/24 dev to-balancer");
    let waits = |arguments: &[&str]| -> Vec<String> {
        let said = lbctl.ok(&[&["-v"], arguments].concat()).stderr;
        let waits = said.split("waiting for ").skip(1);
        let reals = waits.filter_map(|rest| rest.split(' ').next()).map(str::to_owned);
        let mut reals: Vec<_> = reals.collect();
        reals.dedup();
        reals
    };
    let with = |reals: &[&str]| config_file(&config(&(vip(VIP, reals) + L2)));
    let one = with(&["172.31.0.50"]);
    lbctl.ok(&["apply", "-f", path_of(&one)]);
    assert_eq!(waits(&["apply", "-f", path_of(&one)]), [""; 0]);
    assert_eq!(waits(&["real", "add", VIP, "172.31.0.77"]), ["172.31.0.77"]);
    for edit in [
        &["real", "weight", VIP, "172.31.0.50", "3"][..],
        &["real", "down", VIP, "172.31.0.77"],
        &["real", "add", VIP, "10.0.0.1", "--encapsulation", "ipip"],
        &["real", "up", VIP, "172.31.0.77"],
    ] {
        assert_eq!(waits(edit), [""; 0], "{edit:?}");
    }
    // An apply is what finds it, and a plan tells what an apply would find.
    let both = with(&["172.31.0.50", "172.31.0.77"]);
    assert_eq!(waits(&["apply", "-f", path_of(&both)]), ["172.31.0.77"]);
    // Once its MAC is known, that stays until another is told.
    topology.router.shell("ip addr add 172.31.0.77/24 dev to-balancer");
    lbctl.ok(&["apply", "-f", path_of(&both)]);
    assert_eq!(real(&lbctl, "172.31.0.77")["neighbour"], at(ROUTER));
    topology.router.shell("ip addr del 172.31.0.77/24 dev to-balancer");
    topology.balancer.ns.shell(&format!("ip neigh flush dev {UPLINK}"));
    assert_eq!(waits(&["apply", "-f", path_of(&both)]), [""; 0]);
    assert_eq!(real(&lbctl, "172.31.0.77")["neighbour"], at(ROUTER));
}

#[test]
fn reals_that_are_on_no_network_of_an_interface_are_refused() {
    let (bpffs, topology) = (Bpffs::new(), Topology::new(0));
    let ns = &topology.balancer.ns;
    let lbctl = Lbctl::new(&bpffs).in_ns(ns);
    let far = config_file(&config(&(vip(VIP, &["10.0.0.9"]) + L2)));
    for command in ["plan", "apply"] {
        let refused = lbctl.exits(1, &[command, "-f", path_of(&far)]);
        assert_eq!(refused.stderr.lines().count(), 1, "{refused}");
        for part in [
            "vips[0].reals[0].address: 10.0.0.9",
            "not on the network of uplink",
            "behind router 172.31.0.254",
            "encapsulation = \"ipip\"",
        ] {
            assert!(refused.stderr.contains(part), "not '{part}': {refused}");
        }
    }
    assert!(!bpffs.path().join("l4lb").exists(), "something is pinned");

    lbctl.apply(&config(&vip(VIP, &["10.0.0.9"])));
    for command in [
        &["vip", "edit", VIP, "--encapsulation", "l2"][..],
        &["real", "edit", VIP, "10.0.0.9", "--encapsulation", "l2"],
        &["real", "add", VIP, "10.0.0.8", "--encapsulation", "l2"],
    ] {
        let refused = lbctl.exits(1, command);
        assert!(refused.stderr.contains("not on the network of uplink"), "{refused}");
        assert_eq!(refused.stderr.lines().count(), 1, "{refused}");
    }
    assert_eq!(real(&lbctl, "10.0.0.9")["encapsulation"], "ipip");
}

/// A host that is one of its own reals.
#[test]
fn addresses_of_the_host_are_local() {
    let (bpffs, topology) = (Bpffs::new(), Topology::new(0));
    let ns = &topology.balancer.ns;
    let lbctl = || Lbctl::new(&bpffs).in_ns(ns);
    ns.shell("ip addr add 172.31.0.22/32 dev lo; ip link set lo up");
    let file = config(&vip(VIP, &["10.0.0.1", "172.31.0.22", "10.0.0.3, local = true"]));
    lbctl().apply(&file);
    let way = |address: &str| real(&lbctl(), address)["encapsulation"].clone();
    assert_eq!(["10.0.0.1", "172.31.0.22", "10.0.0.3"].map(way), ["ipip", "local", "local"]);
    let plan = lbctl().ok(&["plan", "-f", path_of(&config_file(&file))]);
    let bare = "real 172.31.0.22 is this host, which does not have the VIP's address";
    assert!(plan.stderr.contains(bare), "{plan}");
    // What was found is not what was said.
    let saved = lbctl().ok(&["save"]).stdout;
    assert_eq!(saved.matches("local = true").count(), 1, "{saved}");

    let serve = Serve::start(lbctl(), &file);
    let log = || serve.running.stderr();
    ns.shell("ip addr del 172.31.0.22/32 dev lo; ip addr add 10.0.0.1/32 dev lo");
    becomes(&lbctl(), "172.31.0.22", "encapsulation", &json!("ipip"), log);
    becomes(&lbctl(), "10.0.0.1", "encapsulation", &json!("local"), log);
    serve.wait_for("real 10.0.0.1: it has an address of this host", 1);
    serve.wait_for("real 172.31.0.22: this host no longer has its address", 1);
    serve.stop();
    lbctl().ok(&["real", "edit", VIP, "10.0.0.1", "--encapsulation", "ipip"]);
    assert_eq!(way("10.0.0.1"), "ipip");
}

const SOURCES: &str =
    "[packets]\nencap_source_v4 = \"192.0.2.9\"\nencap_source_v6 = \"2001:db8::9\"\n";

/// A change of the way is one entry of the index, moves no flow, and says what it needs.
#[test]
fn a_change_of_the_way_is_told_and_kept() {
    let host = Host::new();
    let lbctl = || host.lbctl();
    let other = "tcp://10.200.1.2:80";
    lbctl().apply(&Host::config(
        &[SOURCES, &vip(VIP, &["10.0.0.1", "fc00::1"]), &vip(other, &["10.0.0.1"])].concat(),
    ));
    let told = lbctl().ok(&["vip", "edit", VIP, "--encapsulation", "gue"]);
    for part in [
        "~ vip tcp://10.200.1.1:80\n",
        "    encapsulation ipip → gue\n",
        "packets of new and established flows to 2 reals go by gue instead of ipip at once",
        "all of 0 established flows stay",
    ] {
        assert!(told.stdout.contains(part), "not '{part}': {told}");
    }
    assert!(
        told.stderr.contains(
            "the reals must take off GUE from this balancer's source (lbctl decap attach --from)"
        ),
        "{told}"
    );
    assert!(told.stderr.contains("bytes fit"), "{told}");
    let plan = json(&lbctl().ok(&["vip", "edit", VIP, "--encapsulation", "ipip", "--json"]));
    let setting = plan["changes"].as_array().expect("a list").iter();
    let setting = setting.filter(|change| change["key"] == "encapsulation").collect::<Vec<_>>();
    assert_eq!((&setting[0]["old"], &setting[0]["new"]), (&json!("gue"), &json!("ipip")));
    assert_eq!(plan["changes"][0]["flows"]["moved"]["flows"], 0);

    // A real says it for all of its VIPs.
    lbctl().ok(&["real", "edit", VIP, "10.0.0.1", "--encapsulation", "gue"]);
    let saved = lbctl().ok(&["save"]).stdout;
    assert_eq!(saved.matches("encapsulation = \"gue\"").count(), 2, "{saved}");
    let refused = lbctl().exits(1, &["real", "edit", VIP, "10.0.0.1", "--encapsulation", "ipip"]);
    assert!(refused.stderr.contains("lbctl real edit --all 10.0.0.1"), "{refused}");
    lbctl().ok(&["real", "edit", "--all", "10.0.0.1", "--encapsulation", "default"]);
    assert!(!lbctl().ok(&["save"]).stdout.contains("encapsulation = \"gue\""));
    let batch = format!("vip edit {VIP} --encapsulation gue\nreal add {other} 10.0.0.7 --local\n");
    lbctl().input(&batch).ok(&["batch", "-f", "-"]);
    let listed = lbctl().ok(&["vip", "list"]).stdout;
    assert!(listed.contains("gue") && listed.contains("ipip"), "{listed}");
    assert_eq!(real(&lbctl(), "10.0.0.7")["encapsulation"], "local");
    // Both at once say nothing that could be done.
    lbctl().exits(2, &["real", "add", VIP, "10.0.0.8", "--local", "--encapsulation", "gue"]);
    lbctl().exits(2, &["real", "edit", VIP, "10.0.0.1"]);
}

/// VIPs that say nothing follow [packets]; one that says something keeps it, and so does `save`.
#[test]
fn the_default_is_that_of_packets() {
    let host = Host::new();
    let lbctl = || host.lbctl();
    let own = vip("tcp://10.200.1.2:80", &["10.0.0.1"]) + "encapsulation = \"ipip\"\n";
    let of = |encapsulation: &str| {
        let packets = format!("{SOURCES}encapsulation = \"{encapsulation}\"\ngue_variant = 0\n");
        Host::config(&[packets, vip(VIP, &["10.0.0.1"]), own.clone()].concat())
    };
    lbctl().apply(&of("gue"));
    let way = |vip: &str| {
        let listed = json(&lbctl().ok(&["real", "list", vip, "--json"]));
        listed[0]["reals"][0]["encapsulation"].clone()
    };
    assert_eq!((way(VIP), way("tcp://10.200.1.2:80")), (json!("gue"), json!("ipip")));
    lbctl().ok(&["vip", "add", "tcp://10.200.1.3:80"]);
    lbctl().ok(&["real", "add", "tcp://10.200.1.3:80", "10.0.0.2"]);
    assert_eq!(way("tcp://10.200.1.3:80"), "gue");
    let saved = lbctl().ok(&["save"]).stdout;
    assert_eq!(saved.matches("encapsulation = \"ipip\"").count(), 1, "{saved}");
    lbctl().ok(&["plan", "-f", path_of(&config_file(&saved))]);
    lbctl().ok(&["vip", "delete", "tcp://10.200.1.3:80"]);
    let told = lbctl().ok(&["apply", "-f", path_of(&config_file(&of("ipip")))]);
    assert!(told.stdout.contains("packets.encapsulation \"gue\" → \"ipip\""), "{told}");
    assert_eq!((way(VIP), way("tcp://10.200.1.2:80")), (json!("ipip"), json!("ipip")));
}
