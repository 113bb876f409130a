//! Each section of docs/encapsulation.md sets up its way to the reals, as somebody would who has nothing but the page.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::Block;
use super::Host;
use super::for_real;
use super::network;
use crate::fixtures::HttpServer;
use crate::fixtures::Verdict;
use crate::fixtures::XdpLink;
use crate::fixtures::http_get;

/// A network as that of docs/install.md, with what that page says about routers and about veth.
fn routed() -> (Vec<Host>, Vec<XdpLink>) {
    let hosts = network();
    let pass = XdpLink::attach(&hosts[0].ns, "to-balancer", Verdict::Pass);
    hosts[0].run(
        "ip route add 10.200.1.1/32 via 172.31.0.2
         ethtool -K to-balancer tx off >/dev/null",
    );
    hosts[1].run("ethtool -K eth0 tx off >/dev/null");
    (hosts, vec![pass])
}

/// The same hosts, with the reals on the balancer's segment: 172.31.0.11, 172.31.0.12 …
fn neighbours() -> (Vec<Host>, Vec<XdpLink>) {
    let (hosts, mut passes) = routed();
    hosts[0].run(
        "ip addr flush dev to-balancer
         ip link add segment type bridge
         ip addr add 172.31.0.254/24 dev segment
         ip link set to-balancer master segment
         ip link set segment up
         ip route add 10.200.1.1/32 via 172.31.0.2
         ethtool -K segment tx off >/dev/null",
    );
    for real in hosts.iter().filter(|host| host.name.starts_with("real")) {
        let number = &real.name["real".len()..];
        let end = format!("to-{}", real.name);
        hosts[0].run(&format!(
            "ip addr flush dev {end}
             ip link set {end} master segment
             ethtool -K {end} tx off >/dev/null"
        ));
        real.run(&format!(
            "ip addr flush dev eth0
             ip addr add 172.31.0.1{number}/24 dev eth0
             ip route add default via 172.31.0.254"
        ));
        passes.push(XdpLink::attach(&hosts[0].ns, &end, Verdict::Pass));
    }
    (hosts, passes)
}

/// Follows a section. Then requests reach `servers`, and `lbctl trace` says that they go by `ways`.
#[track_caller]
fn follow(
    section: &str,
    (hosts, _passes): (Vec<Host>, Vec<XdpLink>),
    servers: &[&str],
    ways: &[&str],
) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/encapsulation.md");
    let page = fs::read_to_string(page).expect("the page");
    let heading = format!("\n## {section}\n");
    let (_, text) = page.split_once(&heading).expect("the section");
    let text = text.split("\n## ").next().unwrap_or_default();
    let host = |name: &str| hosts.iter().find(|host| host.name == name).expect("a host");
    let balancer = host("balancer");
    for block in Block::of(text) {
        if let Some(file) = block.option("file") {
            let path = balancer.files.path().join("etc/l4lb").join(file);
            fs::write(path, &block.text).expect(file);
        }
        let Some(place) = block.option("run-on") else { continue };
        let runs = |host: &&Host| place.split(',').any(|name| host.name.starts_with(name));
        for host in hosts.iter().filter(runs) {
            host.run(&for_real(&block.text, &host.name));
        }
    }
    let _servers: Vec<_> = hosts
        .iter()
        .filter(|host| host.name.starts_with("real") || host.name == "balancer")
        .map(|host| HttpServer::start(&host.ns, &host.name, 80))
        .collect();
    balancer.run("lbctl apply --yes -f /etc/l4lb/default.toml");

    let vip = ([10, 200, 1, 1], 80).into();
    let ask = || http_get(&host("client").ns, vip, "/").expect("the VIP answers").real;
    let answered: BTreeSet<_> = (0..24).map(|_| ask()).collect();
    let expected: BTreeSet<_> = servers.iter().map(|&server| server.to_owned()).collect();
    assert_eq!(answered, expected, "{section}");
    let trace = |port: u16| {
        let client = format!("192.168.1.2:{port}");
        let said = balancer.run(&format!("lbctl trace tcp {client} 10.200.1.1:80 --syn --json"));
        let trace: Value = serde_json::from_str(&said).expect("JSON");
        let around = &trace["outcomes"][0]["around"];
        let way = around["encapsulation"].as_str().expect("a way").to_owned();
        around["variant"].as_u64().map_or(way.clone(), |variant| format!("{way} {variant}"))
    };
    let ways: BTreeSet<_> = ways.iter().map(|&way| way.to_owned()).collect();
    let mut said = BTreeSet::new();
    for port in 20_000..20_024 {
        said.insert(trace(port));
        if said == ways {
            return;
        }
    }
    panic!("{section}: {said:?}, not {ways:?}");
}

#[test]
fn ip_in_ip() {
    follow("IP in IP", routed(), &["real1", "real2"], &["ipip"]);
}

#[test]
fn gue() {
    follow("GUE", routed(), &["real1", "real2"], &["gue 1"]);
}

#[test]
fn gue_with_a_header() {
    let reals = routed();
    // The page says what the real needs one section above.
    for real in reals.0.iter().filter(|host| host.name == "real1") {
        real.run("ip addr add 10.200.1.1/32 dev lo; lbctl decap attach eth0 --from 172.31.0.2/32");
    }
    follow("GUE with a header", reals, &["real1"], &["gue 0"]);
}

#[test]
fn l2() {
    follow("L2", neighbours(), &["real1", "real2"], &["l2"]);
}

#[test]
fn local_delivery() {
    follow("Local delivery", neighbours(), &["balancer", "real1"], &["ipip", "local"]);
}
