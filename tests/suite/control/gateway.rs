//! The gateway that packets to reals are sent to: its MAC is found, however the gateway is configured.

use std::time::Duration;

use l4lb::netlink::Changes;
use serde_json::Value;
use tokio::time::timeout;

use crate::fixtures::Bpffs;
use crate::fixtures::Lbctl;
use crate::fixtures::Output;
use crate::fixtures::SOON;
use crate::fixtures::Serve;
use crate::fixtures::Topology;
use crate::fixtures::UPLINK;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::json;

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

/// A gateway outside the interface's subnets can still be a neighbour by a route.
#[test]
fn neighbours_by_a_route_are_found() {
    let (bpffs, topology) = (Bpffs::new(), Topology::new(0));
    let ns = &topology.balancer.ns;
    let lbctl = Lbctl::new(&bpffs).in_ns(ns);
    let finds = |line: &str| {
        ns.shell("ip neigh flush dev uplink");
        lbctl.apply(&with_gateway(line));
        assert_eq!(mac(&lbctl), ROUTER, "{line}");
        lbctl.ok(&["down"]);
    };
    topology.router.shell(
        "ip addr add 198.51.100.1/32 dev to-balancer
         ip addr add 2001:db8::1/128 dev to-balancer nodad
         ip addr add fe80::1/64 dev to-balancer nodad",
    );
    ns.shell("ip route add 198.51.100.1 dev uplink; ip -6 route add 2001:db8::1 dev uplink");
    finds("gateway = \"198.51.100.1\"");
    finds("gateway = \"2001:db8::1\"");
    finds("gateway = \"fe80::1\"");
    ns.shell(
        "ip route del 198.51.100.1
         ip route replace default via 198.51.100.1 dev uplink onlink",
    );
    finds("gateway = \"198.51.100.1\"");
    finds("gateway = \"auto\"");
    // Nor has who is a neighbour by an operator's word to be one by a route.
    ns.shell(&format!(
        "ip route replace default via 172.31.0.254
         ip neigh add 198.51.100.2 lladdr {ROUTER} dev uplink nud permanent"
    ));
    finds("gateway = \"198.51.100.2\"");
}

/// The kernel tells no more of a route than the id of its nexthop object.
#[test]
fn gateways_of_nexthop_objects_are_found() {
    let (bpffs, topology) = (Bpffs::new(), Topology::new(0));
    let ns = &topology.balancer.ns;
    let lbctl = Lbctl::new(&bpffs).in_ns(ns);
    let finds = |routes: &str, next_hop: Value| {
        ns.shell(routes);
        lbctl.apply(&with_gateway("gateway = \"auto\""));
        let interface = json(&lbctl.ok(&["status", "--json"]))["interfaces"][UPLINK].clone();
        assert_eq!((&interface["mac"], &interface["next_hop"]), (&ROUTER.into(), &next_hop));
        lbctl.ok(&["down"]);
    };
    ns.shell(
        "echo 0 >/proc/sys/net/ipv4/nexthop_compat_mode
         ip route del default; ip -6 route del default
         ip nexthop add id 1 via 172.31.0.254 dev uplink
         ip nexthop add id 3 via 172.31.0.253 dev uplink
         ip nexthop add id 6 via fc00:31::fe dev uplink
         ip nexthop add id 10 group 3/1",
    );
    let v4 = serde_json::json!({ "address": "172.31.0.254", "route": "ipv4" });
    finds("ip route add default nhid 1", v4.clone());
    finds("ip route replace default nhid 10", v4);
    finds(
        "ip route replace default nhid 6",
        serde_json::json!({ "address": "fc00:31::fe", "route": "ipv4" }),
    );
    let v6 = serde_json::json!({ "address": "fc00:31::fe", "route": "ipv6" });
    finds("ip route del default; ip -6 route add default nhid 6", v6);

    // It is followed where it leads to. No route changes with it, as far as the kernel tells.
    ns.shell(
        "ip -6 route del default; ip route add default nhid 1
         ip neigh add 172.31.0.9 lladdr 02:00:00:00:77:09 dev uplink nud permanent",
    );
    let serve = Serve::start(Lbctl::new(&bpffs).in_ns(ns), &with_gateway("gateway = \"auto\""));
    ns.shell("ip nexthop replace id 1 via 172.31.0.9 dev uplink");
    serve.follows_to("02:00:00:00:77:09", SOON);
    serve.stop();
}

/// `serve` hears of changes of nexthop objects, too.
#[test]
fn changes_of_nexthop_objects_are_heard() {
    let topology = Topology::new(0);
    let ns = &topology.balancer.ns;
    ns.shell("ip nexthop add id 1 via 172.31.0.254 dev uplink");
    let heard = ns.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let mut changes = Changes::subscribe().expect("a subscription");
            // Events of the link that are still to come.
            while timeout(Duration::from_secs(1), changes.next()).await.is_ok() {}
            ns.shell("ip nexthop replace id 1 via 172.31.0.253 dev uplink");
            timeout(SOON, changes.next()).await
        })
    });
    assert_eq!(heard, Ok(Some(())));
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
    fails_at_once(
        "gateway = \"198.51.100.1\"",
        "198.51.100.1 is not on the network of interface uplink: the route to it goes through the router 172.31.0.254",
    );
    fails_at_once(
        "gateway = \"fc00:99::1\"",
        "the route to it goes through the router fc00:31::fe",
    );
    let neighbours = ns.shell("ip neigh show dev uplink");
    for off_link in ["198.51.100.1", "fc00:99::1"] {
        assert!(
            !neighbours.contains(off_link),
            "nobody is asked for who is not there: {neighbours}"
        );
    }
    let own = "cannot be the gateway of interface uplink: it is the interface's own MAC";
    fails_at_once("gateway_mac = \"02:00:00:00:00:b1\"", own);
    ns.shell("ip route del default; ip -6 route del default");
    fails_at_once("gateway = \"auto\"", "interface uplink has no default route");
    fails_at_once(
        "gateway = \"198.51.100.1\"",
        "gateway 198.51.100.1 is not on the network of interface uplink: no route by the interface leads there",
    );
    ns.shell(
        "echo 0 >/proc/sys/net/ipv4/nexthop_compat_mode
         ip nexthop add id 7 blackhole; ip -6 nexthop add id 9 blackhole
         ip route add default nhid 7; ip -6 route add default nhid 9",
    );
    fails_at_once("gateway = \"auto\"", "interface uplink has no default route");
    ns.shell("ip link set uplink down");
    fails_at_once("gateway = \"172.31.0.254\"", "interface uplink is down");
    ns.shell("ip link del uplink");
    fails_at_once("gateway = \"172.31.0.254\"", "there is no interface \"uplink\"");
}
