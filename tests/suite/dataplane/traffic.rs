//! Real traffic through the balancer: client → router → balancer → (encapsulated) → router → real → client.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::fixtures::HttpClient;
use crate::fixtures::HttpServer;
use crate::fixtures::Leaks;
use crate::fixtures::Rig;
use crate::fixtures::UPLINK;
use crate::fixtures::config;
use crate::fixtures::config_in_mode;
use crate::fixtures::http_get;
use crate::fixtures::http_get_from;
use crate::fixtures::json;
use crate::fixtures::reason;
use crate::fixtures::server;
use crate::fixtures::udp_ask_from;
use crate::fixtures::vip;

const REALS_V4: [&str; 3] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
const REALS_V6: [&str; 3] = ["fc00::1", "fc00::2", "fc00::3"];

/// How the families of VIP and reals go together, and what decapsulation calls it.
const FAMILIES: [(&str, [&str; 3], &str); 4] = [
    ("10.200.1.4", REALS_V4, "ipv4_in_ipv4"),
    ("10.200.1.6", REALS_V6, "ipv4_in_ipv6"),
    ("[fc00:1::6]", REALS_V6, "ipv6_in_ipv6"),
    ("[fc00:1::4]", REALS_V4, "ipv6_in_ipv4"),
];

/// Connections tried for each VIP: enough to meet every real.
const SOURCE_PORTS: std::ops::Range<u16> = 20_000..20_024;

/// More than fits a connection's first window, in frames of full size.
const BULK: usize = 300_000;

#[test]
fn native_mode_carries_every_family() {
    carries_every_family("native");
}

#[test]
fn generic_mode_carries_every_family() {
    carries_every_family("generic");
}

fn carries_every_family(mode: &str) {
    let rig = Rig::in_mode(3, mode);
    let udp: Vec<SocketAddr> =
        FAMILIES.iter().map(|(address, ..)| server(&format!("udp://{address}:53"))).collect();
    let _echo = rig.topology.serve_udp(&udp);
    let both = |(address, reals, _): &(&str, [&str; 3], &str)| {
        ["tcp", "udp"].map(|protocol| {
            let port = if protocol == "tcp" { 80 } else { 53 };
            vip(&format!("{protocol}://{address}:{port}"), reals)
        })
    };
    let vips: Vec<_> = FAMILIES.iter().flat_map(both).collect();
    rig.lbctl().apply(&config_in_mode(mode, &vips.concat()));
    let mut leaks = Leaks::watch(&rig);

    let status = json(&rig.lbctl().ok(&["status", "--json"]));
    assert_eq!(status["interfaces"][UPLINK]["mode"], mode);

    for (i, (address, _, kind)) in FAMILIES.iter().enumerate() {
        let before = decapsulated(&rig, kind);
        tcp(&rig, server(&format!("tcp://{address}:80")));
        let after_tcp = decapsulated(&rig, kind);
        assert!(
            after_tcp > before + BULK as u64 / 1500,
            "{address}: frames decapsulated as {kind}"
        );
        every_udp_flow_is_answered(&rig, udp[i]);
        assert!(
            decapsulated(&rig, kind) > after_tcp,
            "{address}: datagrams decapsulated as {kind}"
        );
    }

    let counters = json(&rig.lbctl().ok(&["stats", "--json"]));
    let dropped =
        counters["vips"].as_object().expect("an object").values().map(|vip| &vip["dropped"]);
    assert!(dropped.clone().all(|dropped| *dropped == 0), "{counters}");
    assert_eq!(dropped.count(), udp.len() * 2);
    assert_eq!(leaks.count(), 0, "packets for VIPs that reached the balancer's own kernel");
}

/// Every real answers, and bulk goes through in both directions.
fn tcp(rig: &Rig, vip: SocketAddr) {
    let ask = |port| http_get_from(rig.client(), port, vip, "/");
    let mut reals = BTreeSet::new();
    for port in SOURCE_PORTS {
        let answer = ask(port).unwrap_or_else(|error| panic!("{vip} from port {port}: {error}"));
        assert_eq!((answer.status, &answer.body), (200, &answer.real));
        reals.insert(answer.real);
    }
    assert_eq!(reals.len(), rig.servers.len(), "{vip}: only {reals:?} answer");

    let mut client = HttpClient::connect(rig.client(), vip).expect("connect");
    let answer = client.put(BULK).expect("upload");
    assert_eq!(answer.status, 200, "{}", answer.body);
    client.download(BULK, None).expect("ask").finish();
}

fn every_udp_flow_is_answered(rig: &Rig, vip: SocketAddr) {
    let mut reals = BTreeSet::new();
    for port in SOURCE_PORTS {
        let answer = udp_ask_from(rig.client(), port, vip, "hello");
        let answer = answer.unwrap_or_else(|error| panic!("{vip} from port {port}: {error}"));
        let (real, echo) = answer.split_once(':').expect("a name and the echo");
        assert_eq!(echo, "hello");
        reals.insert(real.to_owned());
    }
    assert_eq!(reals.len(), rig.servers.len(), "{vip}: only {reals:?} answer");
}

/// Packets that the reals decapsulated from this kind of encapsulation.
fn decapsulated(rig: &Rig, kind: &str) -> u64 {
    let of = |real: &str| {
        let status = json(&rig.lbctl().ok(&["--instance", real, "decap", "status", "--json"]));
        status["results"][kind]["packets"].as_u64().expect("a number")
    };
    rig.servers.iter().map(|server| of(server.name())).sum()
}

/// A sender whose packets would not fit once encapsulated is told so, and sends smaller ones.
#[test]
fn senders_learn_what_fits() {
    let rig = Rig::new(1);
    let vips =
        [vip("tcp://10.200.1.4:80", &["10.0.0.1"]), vip("tcp://[fc00:1::6]:80", &["fc00::1"])]
            .concat();
    rig.lbctl().apply(&config(&format!("\n[packets]\nmax_frame = 1400\n{vips}")));
    for vip in ["tcp://10.200.1.4:80", "tcp://[fc00:1::6]:80"] {
        let before = rig.reason("too_big_reply");
        let mut client = HttpClient::connect(rig.client(), server(vip)).expect("connect");
        let answer = client.put(BULK).unwrap_or_else(|error| panic!("{vip}: upload: {error}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(rig.reason("too_big_reply") > before, "{vip}: the sender was told");
    }
}

/// What is not for a VIP is the host's own and does not notice the balancer.
#[test]
fn the_hosts_own_traffic_passes() {
    let rig = Rig::new(1);
    let balancer = &rig.topology.balancer;
    let _own = HttpServer::start(&balancer.ns, "balancer", 80);
    rig.lbctl().apply(&config(&vip("tcp://10.200.1.4:80", &["10.0.0.1"])));
    for address in [SocketAddr::from((balancer.v4, 80)), SocketAddr::from((balancer.v6, 80))] {
        let answer = http_get(rig.client(), address, "/").expect("the host answers");
        assert_eq!(answer.real, "balancer");
    }
    // And a real of its own is no less reachable directly for decapsulating.
    let real = SocketAddr::from((rig.topology.reals[0].v4, 80));
    assert_eq!(http_get(rig.client(), real, "/").expect("the real answers").real, "real1");
    let stats = json(&rig.lbctl().ok(&["stats", "--json"]));
    assert!(reason(&stats, "not_vip") > 0, "{stats}");
}
