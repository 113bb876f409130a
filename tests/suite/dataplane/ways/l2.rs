//! L2: the frame goes to the real's own MAC, as long as it came.

use super::carries;
use super::downloads;
use super::servers;
use super::vips;
use crate::fixtures::Lbctl;
use crate::fixtures::Segment;
use crate::fixtures::UdpEcho;
use crate::fixtures::config;
use crate::fixtures::json;
use crate::fixtures::reason;

const FAMILIES: [(&str, [&str; 2]); 3] = [
    ("10.200.1.4", ["172.31.0.11", "172.31.0.12"]),
    ("[fc00:1::6]", ["fc00:31::b", "fc00:31::c"]),
    // A real is known by any of its addresses: only its MAC matters.
    ("[fc00:1::4]", ["172.31.0.11", "172.31.0.12"]),
];

const NAMES: [&str; 2] = ["near1", "near2"];

#[test]
fn neighbours_get_frames_as_they_came() {
    let segment = Segment::new(2);
    let udp: Vec<_> = FAMILIES.iter().map(|(address, _)| servers(address)[1]).collect();
    let _echo: Vec<_> = segment
        .reals
        .iter()
        .zip(NAMES)
        .map(|(real, name)| UdpEcho::start(real, name, &udp))
        .collect();
    let lbctl = || Lbctl::new(&segment.bpffs).in_ns(&segment.topology.balancer.ns);
    let more = "encapsulation = \"l2\"";
    let all: Vec<_> = FAMILIES.iter().map(|(address, reals)| vips(address, reals, more)).collect();
    lbctl().apply(&config(&all.concat()));
    let client = &segment.topology.client.ns;
    for (address, _) in FAMILIES {
        // Uploads fill frames of 1500 bytes, and nothing on the segment takes longer ones.
        carries(client, address, &NAMES);
        downloads(client, servers(address)[0]);
    }
    let stats = json(&lbctl().ok(&["stats", "--json"]));
    for name in ["too_big", "too_big_reply", "no_neighbour"] {
        assert_eq!(reason(&stats, name), 0, "{name}: {stats}");
    }
}
