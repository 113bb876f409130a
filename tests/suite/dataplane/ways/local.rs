//! Local delivery: a balancer that is one of its own reals.

use super::carries;
use super::downloads;
use super::servers;
use super::vips;
use crate::fixtures::HttpServer;
use crate::fixtures::Rig;
use crate::fixtures::UdpEcho;
use crate::fixtures::config;

const FAMILIES: [(&str, [&str; 2]); 2] = [
    ("10.200.1.4", ["172.31.0.2, local = true", "10.0.0.1"]),
    ("[fc00:1::6]", ["fc00:31::2, local = true", "fc00::1"]),
];

#[test]
fn a_balancer_serves_its_own_share() {
    let rig = Rig::new(1);
    let balancer = &rig.topology.balancer.ns;
    balancer.shell(
        "ip addr add 10.200.1.4/32 dev lo
         ip addr add fc00:1::6/128 dev lo nodad
         ethtool -K uplink tx off tso off gso off >/dev/null",
    );
    let _own = HttpServer::start(balancer, "balancer", 80);
    let udp: Vec<_> = FAMILIES.iter().map(|(address, _)| servers(address)[1]).collect();
    let _echo = [rig.topology.serve_udp(&udp), vec![UdpEcho::start(balancer, "balancer", &udp)]];
    let more = "allow_own_address = true";
    let all: Vec<_> = FAMILIES.iter().map(|(address, reals)| vips(address, reals, more)).collect();
    rig.lbctl().apply(&config(&all.concat()));
    for (address, _) in FAMILIES {
        carries(rig.client(), address, &["balancer", "real1"]);
        downloads(rig.client(), servers(address)[0]);
    }
    super::nothing_dropped(&rig);
    assert!(rig.reason("local") > 0);
}
