//! GUE, in all four families and both variants.

use std::net::SocketAddr;

use super::REALS_V4;
use super::REALS_V6;
use super::carries;
use super::downloads;
use super::nothing_dropped;
use super::servers;
use super::taken_out;
use super::vips;
use crate::fixtures::Rig;
use crate::fixtures::config;

/// How the families of VIP and reals go together, and how decapsulation's name for it ends.
const FAMILIES: [(&str, [&str; 3], &str); 4] = [
    ("10.200.1.4", REALS_V4, "ipv4_in_ipv4"),
    ("10.200.1.6", REALS_V6, "ipv4_in_ipv6"),
    ("[fc00:1::6]", REALS_V6, "ipv6_in_ipv6"),
    ("[fc00:1::4]", REALS_V4, "ipv6_in_ipv4"),
];

/// `[packets]` with GUE from the balancer's own addresses.
fn packets(more: &str) -> String {
    format!(
        "\n[packets]\nencapsulation = \"gue\"\nencap_source_v4 = \"172.31.0.2/32\"\n\
         encap_source_v6 = \"fc00:31::2/128\"\n{more}\n"
    )
}

fn rig(packets: &str) -> (Rig, Vec<crate::fixtures::UdpEcho>) {
    let rig = Rig::new(3);
    let udp: Vec<SocketAddr> = FAMILIES.iter().map(|(address, ..)| servers(address)[1]).collect();
    let echo = rig.topology.serve_udp(&udp);
    let vips: Vec<_> =
        FAMILIES.iter().map(|(address, reals, _)| vips(address, reals, "")).collect();
    rig.lbctl().apply(&config(&(packets.to_owned() + &vips.concat())));
    (rig, echo)
}

const NAMES: [&str; 3] = ["real1", "real2", "real3"];

#[test]
fn gue_carries_every_family() {
    let (rig, _echo) = rig(&packets(""));
    for (address, _, kind) in FAMILIES {
        carries(rig.client(), address, &NAMES);
        let taken = taken_out(&rig, |name| name == format!("gue1_{kind}"));
        assert!(taken > 300, "{address}: {kind}: {taken}");
    }
    nothing_dropped(&rig);
    assert_eq!(taken_out(&rig, |name| name.starts_with("ipv")), 0, "IP in IP");
}

#[test]
fn long_downloads_by_gue_in_every_family() {
    let (rig, _echo) = rig(&packets(""));
    for (address, ..) in FAMILIES {
        downloads(rig.client(), servers(address)[0]);
    }
    nothing_dropped(&rig);
}

#[test]
fn gue_with_a_header_carries_every_family() {
    let (rig, _echo) = rig(&packets("gue_variant = 0"));
    for (address, _, kind) in FAMILIES {
        carries(rig.client(), address, &NAMES);
        let taken = taken_out(&rig, |name| name == format!("gue0_{kind}"));
        assert!(taken > 300, "{address}: {kind}: {taken}");
    }
    nothing_dropped(&rig);
}
