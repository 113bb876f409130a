//! Where packets to reals are sent: the MAC of a gateway, however it is configured.

use std::time::Duration;

use serde_json::Value;

use crate::common::Bpffs;
use crate::common::Lbctl;
use crate::common::Output;
use crate::common::Topology;
use crate::common::UPLINK;
use crate::common::config;
use crate::common::config_file;
use crate::common::json;

/// How long `lbctl` may take to find out that nobody answers.
const PATIENCE: Duration = Duration::from_secs(20);

/// The router's MAC on the balancer's link.
const ROUTER: &str = "02:00:00:00:fe:b1";

/// A configuration that finds its gateway by this line.
fn with_gateway(line: &str) -> String {
    let mode = "xdp_mode = \"native\"\n";
    config("").replace(mode, &format!("{mode}{line}\n"))
}

/// The gateway's MAC, as the status has it.
#[track_caller]
fn mac(lbctl: &Lbctl<'_>) -> Value {
    json(&lbctl.ok(&["status", "--json"]))["interfaces"][UPLINK]["mac"].clone()
}

#[test]
fn gateways_are_found() {
    let (bpffs, topology) = (Bpffs::new(), Topology::new(0));
    let ns = &topology.balancer.ns;
    let lbctl = Lbctl::new(&bpffs).in_ns(ns);
    let finds = |line: &str, mac_of_it: &str| {
        ns.shell("ip neigh flush dev uplink");
        lbctl.apply(&with_gateway(line));
        assert_eq!(mac(&lbctl), mac_of_it, "{line}");
        let neighbours = ns.shell("ip neigh show dev uplink");
        assert!(
            !neighbours.contains("managed"),
            "nothing stays behind in the kernel: {neighbours}"
        );
        lbctl.ok(&["down"]);
    };
    finds("", ROUTER);
    finds("gateway = \"auto\"", ROUTER);
    finds("gateway = \"172.31.0.254\"", ROUTER);
    finds("gateway = \"fc00:31::fe\"", ROUTER);
    finds("gateway_mac = \"02:00:00:00:77:77\"", "02:00:00:00:77:77");

    ns.shell("ip neigh add 172.31.0.66 lladdr 02:00:00:00:66:66 dev uplink nud permanent");
    finds("gateway = \"172.31.0.66\"", "02:00:00:00:66:66");
    let neighbours = ns.shell("ip neigh show 172.31.0.66 dev uplink");
    assert!(neighbours.contains("PERMANENT"), "an operator's entry stays his: {neighbours}");

    // The better of two routes leads nowhere.
    ns.shell(
        "ip route replace default via 172.31.0.254 metric 200
         ip route del default metric 0
         ip route add default via 172.31.0.253 metric 100",
    );
    finds("gateway = \"auto\"", ROUTER);

    // Only IPv6 is left. It would find nothing by ARP.
    ns.shell("ip -4 addr flush dev uplink");
    finds("gateway = \"auto\"", ROUTER);
}

#[test]
fn a_gateway_that_is_not_found_is_one_line_and_nothing_else() {
    let (bpffs, topology) = (Bpffs::new(), Topology::new(0));
    let ns = &topology.balancer.ns;
    let lbctl = Lbctl::new(&bpffs).in_ns(ns);
    let fails = |gateway: &str, output: Output, why: &str| {
        assert_eq!(output.code(), Some(1), "{gateway}: {output}");
        assert_eq!(output.stdout, "", "{gateway}: {output}");
        assert_eq!(output.stderr.lines().count(), 1, "{gateway}: {output}");
        assert!(output.stderr.starts_with("error: "), "{gateway}: {output}");
        assert!(output.stderr.contains(why), "{gateway}: not '{why}', but {output}");
        assert!(!bpffs.path().join("l4lb").exists(), "{gateway}: something is pinned");
        assert!(!ns.shell("ip link show").contains("xdp"), "{gateway}: it is attached");
    };
    let begin = |gateway: &str| {
        let file = config_file(&with_gateway(gateway));
        let running = lbctl.spawn(&["apply", "-f", file.path().to_str().expect("printable")]);
        (file, running)
    };

    // Both at once: each takes as long as a gateway may to answer.
    let silent = [
        ("gateway = \"172.31.0.77\"", "gateway 172.31.0.77 of interface uplink did not answer ARP"),
        ("gateway = \"fc00:31::77\"", "fc00:31::77 of interface uplink did not answer neighbour"),
    ];
    let running = silent.map(|(gateway, _)| begin(gateway));
    for ((gateway, why), (_file, running)) in silent.into_iter().zip(running) {
        fails(gateway, running.wait(PATIENCE), why);
    }
    let neighbours = ns.shell("ip neigh show dev uplink");
    assert!(!neighbours.contains("managed"), "the kernel asks no further: {neighbours}");

    let fails_at_once = |gateway: &str, why: &str| {
        let (_file, running) = begin(gateway);
        fails(gateway, running.wait(PATIENCE), why);
    };
    ns.shell("ip route del default; ip -6 route del default");
    fails_at_once("gateway = \"auto\"", "interface uplink has no default route");
    ns.shell("ip link set uplink down");
    fails_at_once("gateway = \"172.31.0.254\"", "interface uplink is down");
    ns.shell("ip link del uplink");
    fails_at_once("gateway = \"172.31.0.254\"", "there is no interface \"uplink\"");
}
