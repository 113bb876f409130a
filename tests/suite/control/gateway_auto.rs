//! `gateway = "auto"`: which default router is chosen, and which one may replace another.

use crate::fixtures::METRICS;
use crate::fixtures::NetNs;
use crate::fixtures::Rig;
use crate::fixtures::SOON;
use crate::fixtures::Serve;
use crate::fixtures::Topology;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::doubt_soon;
use crate::fixtures::get;
use crate::fixtures::goes_on;
use crate::fixtures::json;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

const VIP: &str = "tcp://10.200.1.1:80";

/// The router's MAC on the balancer's link.
const ROUTER: &str = "02:00:00:00:fe:b1";

/// That of somebody on the same link who says that he is a router of IPv6.
const ROGUE: &str = "02:00:00:00:66:66";

/// What `serve` says of the router while it does not answer.
const SILENT: &str = "gateway 172.31.0.254 of interface uplink did not answer ARP";

/// What it says, if it is asked to, each time nobody answers.
const ASKED_IN_VAIN: &str = "this gateway will not do";

/// Puts [`ROGUE`], `fe80::66`, on the balancer's link, and a route to it as its advertisement makes it. IPv6 has no other.
#[track_caller]
fn advertise_rogue(topology: &Topology) {
    topology.router.shell(&format!(
        "ip link add rogue link to-balancer address {ROGUE} type macvlan mode bridge
         ip addr add fe80::66/64 dev rogue nodad
         ip link set rogue up
         echo 8 >/proc/sys/net/ipv4/conf/rogue/arp_ignore"
    ));
    let ns = &topology.balancer.ns;
    ns.shell(
        "ip -6 route del default
         ip -6 route add default via fe80::66 dev uplink proto ra metric 1024 pref high",
    );
}

/// Makes the router deaf to ARP while it goes on forwarding.
#[track_caller]
fn fall_silent(topology: &Topology) {
    topology.router.shell(
        "ip neigh replace 172.31.0.2 lladdr 02:00:00:00:00:b1 dev to-balancer nud permanent
         echo 8 >/proc/sys/net/ipv4/conf/to-balancer/arp_ignore",
    );
    topology.balancer.ns.shell("ip neigh flush 172.31.0.254 dev uplink");
}

/// Waits until `serve` has looked at everything as it is now: it logs the last of two changes after that.
#[track_caller]
fn looks(serve: &Serve<'_>, ns: &NetNs) {
    for (before, after) in [(1600, 1590), (1590, 1600)] {
        let change = format!("MTU {before} → {after}");
        let times = serve.count(&change) + 1;
        ns.shell(&format!("ip link set uplink mtu {after}"));
        serve.wait_for(&change, times);
    }
}

#[test]
fn a_silent_gateway_is_not_replaced_by_who_advertises() {
    let rig = Rig::new(1);
    let Topology { router, balancer, .. } = &rig.topology;
    let config = config(&vip(VIP, &["10.0.0.1"]));
    let lbctl = || rig.lbctl().env("RUST_LOG", "warn,l4lb=debug,lbctl=info");
    doubt_soon(&balancer.ns);
    let serve = Serve::start(lbctl(), &config);
    let before = serve.interface();
    assert_eq!(
        (&before["mac"], &before["next_hop"]["address"]),
        (&ROUTER.into(), &"172.31.0.254".into())
    );
    let download = rig.download(VIP);

    advertise_rogue(&rig.topology);
    fall_silent(&rig.topology);
    serve.wait_for(&format!("WARN {SILENT}"), 1);
    serve.wait_for(ASKED_IN_VAIN, 3);
    assert_eq!(serve.interface(), before, "{}", serve.running.stderr());
    goes_on(&download, "the gateway is silent");

    // `serve` reports that the gateway is silent, although another router would answer.
    let is_silent = || {
        let status = json(&rig.lbctl().ok(&["status", "--json"]));
        let why = status["condition"]["findings"][0]["why"]["gateway_unresolved"].clone();
        why["silent"] == true
            && why["next_hop"] == "172.31.0.254"
            && why["alternative"] == "fe80::66"
    };
    assert!(wait_until(SOON, is_silent), "{}", rig.lbctl().ok(&["status", "--json"]));
    let text = rig.lbctl().exits(1, &["status", "--check"]).stdout;
    for part in [
        "gateway 172.31.0.254 at 02:00:00:00:fe:b1 does not answer ARP",
        "'lbctl apply -f FILE' takes another default router if that answers, such as fe80::66",
        "auto: 172.31.0.254 at 02:00:00:00:fe:b1",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (code, ready) = get(&balancer.ns, METRICS, "/readyz").expect("an answer");
    assert!(code == 503 && ready.contains("gateway 172.31.0.254"), "{code} {ready}");
    let metrics = get(&balancer.ns, METRICS, "/metrics").expect("metrics").1;
    assert!(metrics.contains("l4lb_gateway_resolved{interface=\"uplink\"} 0"), "{metrics}");
    serve.stop();

    // Neither a start nor a reload asks for another gateway.
    let mut serve = Serve::start(lbctl(), &config);
    serve.reload(&config, "INFO reloaded");
    serve.wait_for(ASKED_IN_VAIN, 3);
    assert_eq!(serve.interface(), before, "{}", serve.running.stderr());
    goes_on(&download, "started and reloaded");

    // An apply does. It says which one it takes, and `serve` follows that one.
    let file = config_file(&config);
    let file = file.path().to_str().expect("printable");
    let planned = rig.lbctl().exits(3, &["plan", "-f", file]);
    assert!(planned.stdout.contains("next hop 172.31.0.254 → fe80::66"), "{planned}");
    assert!(planned.to_string().contains("router 172.31.0.254 does not answer"), "{planned}");
    rig.lbctl().ok(&["apply", "-f", file]);
    assert_eq!(serve.interface()["mac"], ROGUE);
    router.shell("echo 0 >/proc/sys/net/ipv4/conf/to-balancer/arp_ignore");
    looks(&serve, &balancer.ns);
    assert_eq!(serve.interface()["mac"], ROGUE, "{}", serve.running.stderr());
    rig.lbctl().ok(&["apply", "-f", file]);
    assert_eq!(serve.interface()["mac"], ROUTER);
    serve.stop();
}

/// `--strict` does not ask for another router.
#[test]
fn a_strict_serve_keeps_its_gateway() {
    let rig = Rig::new(0);
    let lbctl = rig.lbctl();
    doubt_soon(&rig.topology.balancer.ns);
    let file = config_file(&config(""));
    let command = ["serve", "--strict", "-f", file.path().to_str().expect("printable")];
    let mut serve = lbctl.spawn(&command);
    serve.wait_for("metrics at http");
    let mac = || json(&lbctl.ok(&["status", "--json"]))["interfaces"]["uplink"]["mac"].clone();
    assert_eq!(mac(), ROUTER);
    advertise_rogue(&rig.topology);
    fall_silent(&rig.topology);
    let failed = lbctl.exits(1, &["reload"]);
    assert!(failed.stderr.contains("172.31.0.254"), "{failed}");
    assert_eq!(mac(), ROUTER);
    assert_eq!(serve.stop().code(), Some(0));
    let started = lbctl.exits(1, &command);
    assert!(started.stderr.contains(SILENT), "{started}");
    assert_eq!(mac(), ROUTER);
}

#[test]
fn a_gateway_is_left_for_its_route_not_for_another_family() {
    let rig = Rig::new(0);
    let Topology { router, balancer, .. } = &rig.topology;
    let ns = &balancer.ns;
    doubt_soon(ns);
    advertise_rogue(&rig.topology);
    let serve = Serve::start(rig.lbctl(), &config(""));
    assert_eq!(serve.interface()["mac"], ROUTER);

    // Another MAC of the same router (VRRP) is followed at once.
    router.shell(
        "echo 1 >/proc/sys/net/ipv4/conf/to-balancer/arp_notify
         ip link set to-balancer address 02:00:00:00:fe:11",
    );
    serve.follows_to("02:00:00:00:fe:11", SOON);

    // Better routes of the same family are, too, by address as well as by MAC; not worse ones.
    ns.shell(
        "ip route replace default via 172.31.0.254 metric 200
         ip route del default metric 0
         ip neigh add 172.31.0.7 lladdr 02:00:00:00:77:07 dev uplink nud permanent
         ip neigh add 172.31.0.8 lladdr 02:00:00:00:77:08 dev uplink nud permanent
         ip route add default via 172.31.0.8 metric 300",
    );
    looks(&serve, ns);
    assert_eq!(serve.interface()["mac"], "02:00:00:00:fe:11");
    ns.shell("ip route add default via 172.31.0.7 metric 100");
    serve.follows_to("02:00:00:00:77:07", SOON);

    // Its route is gone: first whom the same family has.
    ns.shell("ip route del default via 172.31.0.7; ip route del default via 172.31.0.254");
    serve.follows_to("02:00:00:00:77:08", SOON);
    ns.shell("ip route del default via 172.31.0.8");
    serve.follows_to(ROGUE, SOON);
    serve.wait_for("next hop 172.31.0.8 → fe80::66", 1);

    // Nobody takes over from it by an advertisement, nor does IPv4 when it comes back.
    ns.shell(
        "ip -6 neigh add fe80::99 lladdr 02:00:00:00:77:99 dev uplink nud permanent
         ip -6 route add default via fe80::99 dev uplink proto ra metric 10 pref high
         ip route add default via 172.31.0.7",
    );
    looks(&serve, ns);
    assert_eq!(serve.interface()["mac"], ROGUE, "{}", serve.running.stderr());
    // An operator's route is better than that.
    ns.shell("ip -6 route add default via fe80::99 dev uplink proto static metric 5");
    serve.follows_to("02:00:00:00:77:99", SOON);
    serve.stop();
}

/// A host that boots takes the first router that answers, IPv4 before IPv6, and names those it passed over.
#[test]
fn a_first_apply_takes_who_answers() {
    let rig = Rig::new(0);
    advertise_rogue(&rig.topology);
    fall_silent(&rig.topology);
    let applied = rig.lbctl().apply(&config(""));
    let told = "the default router 172.31.0.254 does not answer: the gateway is fe80::66";
    assert!(applied.to_string().contains(told), "{applied}");
    let status = json(&rig.lbctl().ok(&["status", "--json"]));
    let interface = &status["interfaces"]["uplink"];
    assert_eq!(interface["mac"], ROGUE);
    assert_eq!(
        interface["next_hop"],
        serde_json::json!({ "address": "fe80::66", "route": "ipv6" })
    );
    // That is what it is kept by.
    let serve = Serve::start(rig.lbctl(), &config(""));
    rig.topology.router.shell("echo 0 >/proc/sys/net/ipv4/conf/to-balancer/arp_ignore");
    looks(&serve, &rig.topology.balancer.ns);
    assert_eq!(serve.interface()["mac"], ROGUE);
    serve.stop();
}
