//! Where the network carries 1500 bytes and no more, the reals' SYN-ACKs ask clients for shorter segments, so that
//! nothing is too long in the first place.

use super::UPLOAD;
use super::nothing_dropped;
use super::uploads;
use super::vips;
use crate::fixtures::Lbctl;
use crate::fixtures::Rig;
use crate::fixtures::UPLINK;
use crate::fixtures::config;
use crate::fixtures::server;

const FAMILIES: [(&str, &str); 2] = [("10.200.1.4", "10.0.0.1"), ("[fc00:1::6]", "fc00::1")];

const PACKETS: &str = "\n[packets]\nencapsulation = \"gue\"\nencap_source_v4 = \"172.31.0.2/32\"\n\
                       encap_source_v6 = \"fc00:31::2/128\"\n";

#[test]
fn shorter_segments_fit_a_path_of_1500_bytes() {
    let rig = Rig::new(1);
    let real = &rig.topology.reals[0];
    for (ns, interface) in [
        (&rig.topology.balancer.ns, UPLINK),
        (&rig.topology.router, "to-balancer"),
        (&rig.topology.router, "to-real1"),
        (&real.ns, UPLINK),
    ] {
        ns.shell(&format!("ip link set {interface} mtu 1500"));
    }
    let all: Vec<_> = FAMILIES.iter().map(|(address, real)| vips(address, &[real], "")).collect();
    rig.lbctl().apply(&config(&(PACKETS.to_owned() + &all.concat())));
    let upload = || {
        for (address, _) in FAMILIES {
            uploads(rig.client(), server(&format!("tcp://{address}:80")));
        }
    };

    // Without it, clients hear "too big", and send again.
    upload();
    let told = rig.reason("too_big_reply");
    assert!(told > 0, "{UPLOAD} bytes");
    // What clients have learnt must not help them the second time.
    rig.client().shell("ip route flush cache; ip -6 route flush cache");

    let attach = ["--instance", "real1", "decap", "attach", UPLINK, "--mss", "auto"];
    Lbctl::new(&rig.bpffs).in_ns(&real.ns).ok(&attach);
    upload();
    assert_eq!(rig.reason("too_big_reply"), told, "clients still send what is too long");
    nothing_dropped(&rig);
}
