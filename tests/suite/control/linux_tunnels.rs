//! Reals that l4lb did not write: Linux' own tunnel devices take every outer header off that the balancer puts on.
//!
//! Kernels without these modules skip the tests; those in `tests/vm` have them, and say so by `LB_TEST_TUNNELS`.

use crate::fixtures::Bpffs;
use crate::fixtures::Capture;
use crate::fixtures::Direction;
use crate::fixtures::HttpClient;
use crate::fixtures::NetNs;
use crate::fixtures::Rig;
use crate::fixtures::Topology;
use crate::fixtures::UPLINK;
use crate::fixtures::config;
use crate::fixtures::http_get;
use crate::fixtures::server;
use crate::fixtures::vip;

/// VIP and real: all four combinations of families, the real's last.
const WAYS: [(&str, &str); 4] = [
    ("tcp://10.200.1.1:80", "10.0.0.1"),
    ("tcp://[fc00:1::1]:80", "10.0.0.1"),
    ("tcp://10.200.1.2:80", "fc00::1"),
    ("tcp://[fc00:1::2]:80", "fc00::1"),
];

/// What docs/decap.md tells to type: the devices of a real that has these two addresses.
const DEVICES: &str = "\
ip link add lb4 type ipip local 10.0.0.1
ip link add lb4in6 type sit local 10.0.0.1
ip link add lb6 type ip6tnl mode any local fc00::1
ip link set lb4 up
ip link set lb4in6 up
ip link set lb6 up
";

/// What docs/encapsulation.md tells to type: the devices that come with the modules.
const DEFAULT_DEVICES: &str = "\
ip link set tunl0 up
ip link set sit0 up
ip -6 tunnel change ip6tnl0 mode any
ip link set ip6tnl0 up
";

/// What GUE needs besides.
const GUE: &str = "\
ip fou add port PORT gue
ip -6 fou add port PORT gue
";

/// Whether this kernel has such devices.
fn has_tunnels() -> bool {
    let ns = NetNs::new();
    let probe = "ip link add probe4 type ipip local 10.9.9.9; ip link add probe64 type sit local 10.9.9.9
         ip link add probe6 type ip6tnl mode any local fc00:9::9; ip fou add port 6080 gue; ip -6 fou add port 6080 gue";
    let found = ns.command("sh").args(["-euc", probe]).output().expect("run sh");
    let has = found.status.success();
    let demanded = std::env::var_os("LB_TEST_TUNNELS").is_some();
    assert!(has || !demanded, "{}", String::from_utf8_lossy(&found.stderr));
    if !has {
        eprintln!("skipped: this kernel lacks ipip, sit, ip6_tunnel or fou");
    }
    has
}

/// A rig whose real has Linux' devices in place of `lbctl decap`.
fn rig(script: &str) -> Rig {
    let topology = Topology::new(1);
    topology.reals[0].ns.shell(script);
    Rig { servers: topology.serve_http(80), bpffs: Bpffs::new(), topology }
}

/// Requests and uploads by each of the ways, and that packets come as `is_outer` says, which gets the IP protocol, and of
/// UDP the bytes from its header on.
#[track_caller]
fn all_ways_work(rig: &Rig, packets: &str, is_outer: impl Fn(bool, u8, &[u8]) -> bool) {
    let vips = WAYS.map(|(at, real)| vip(at, &[real])).concat();
    rig.lbctl().apply(&format!("{}\n[packets]\n{packets}", config(&vips)));
    for (vip, real) in WAYS {
        let mut wire = Capture::start(&rig.topology.reals[0].ns, UPLINK);
        let answer = http_get(rig.client(), server(vip), "/");
        let answer = answer.unwrap_or_else(|error| panic!("{packets}: {vip} at {real}: {error}"));
        assert_eq!(answer.status, 200, "{packets}: {vip}");
        let inner_v6 = vip.contains('[');
        wire.wait_for(|frame| {
            let (protocol, header) = match frame.bytes.get(12..14) {
                Some([0x08, 0x00]) => (23, 20),
                Some([0x86, 0xdd]) => (20, 40),
                _ => return false,
            };
            let outer_v6 = header == 40;
            let bytes = frame.bytes.get(14 + header..).unwrap_or_default();
            let protocol = frame.bytes.get(protocol).copied().unwrap_or_default();
            frame.direction == Direction::In
                && outer_v6 == real.contains(':')
                && is_outer(inner_v6, protocol, bytes)
        });
        let mut client = HttpClient::connect(rig.client(), server(vip)).expect("the VIP answers");
        let uploaded = client.put(200_000);
        let uploaded = uploaded.unwrap_or_else(|error| panic!("{packets}: {vip}: {error}"));
        assert_eq!(uploaded.status, 200, "{packets}: {vip}: {}", uploaded.body);
    }
}

#[test]
fn ip_in_ip() {
    if !has_tunnels() {
        return;
    }
    for devices in [DEVICES, DEFAULT_DEVICES] {
        all_ways_work(&rig(devices), "encapsulation = \"ipip\"", |v6, protocol, _| {
            protocol == if v6 { 41 } else { 4 }
        });
    }
}

#[test]
fn gue_of_both_variants() {
    if !has_tunnels() {
        return;
    }
    for (variant, port, devices) in [(1, 6080_u16, DEFAULT_DEVICES), (0, 19523, DEVICES)] {
        let rig = rig(&format!("{devices}{}", GUE.replace("PORT", &port.to_string())));
        let packets = format!(
            "encapsulation = \"gue\"\ngue_variant = {variant}\nencap_source_v4 = \"172.31.0.2\"\n\
             encap_source_v6 = \"fc00:31::2\""
        );
        all_ways_work(&rig, &packets, |v6, protocol, udp| {
            let first = match (variant, v6) {
                (1, true) => 6 << 4,
                (1, false) => 4 << 4,
                // One word of private data behind the header.
                _ => 1,
            };
            let mask = if variant == 1 { 0xf0 } else { 0xff };
            protocol == 17
                && udp.get(2..4) == Some(&port.to_be_bytes()[..])
                // Linux has checked it.
                && udp.get(6..8) != Some(&[0, 0])
                && udp.get(8).is_some_and(|byte| byte & mask == first)
        });
        // Who listens there is named: it is no program.
        let real = crate::fixtures::Lbctl::new(&rig.bpffs).in_ns(&rig.topology.reals[0].ns);
        let attach = ["--instance", "real1", "decap", "attach", UPLINK, "--gue-port"];
        let refused = real.exits(1, &[&attach[..], &[&port.to_string()]].concat());
        assert!(refused.stderr.contains("the kernel's own fou ('ip fou show')"), "{refused}");
    }
}
