//! The example of how to embed the library works.

use crate::fixtures::Bpffs;
use crate::fixtures::Lbctl;
use crate::fixtures::Topology;
use crate::fixtures::UPLINK;
use crate::fixtures::example;

#[test]
fn the_quickstart_attaches_programs_and_counts() {
    let topology = Topology::new(0);
    let bpffs = Bpffs::new();
    let gateway = l4lb::Mac::from(topology.balancer.gateway_mac).to_string();
    let output = topology
        .balancer
        .ns
        .command(&example("quickstart"))
        .args([UPLINK, &gateway, bpffs.text()])
        .output()
        .expect("runs");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}{stderr}");
    for part in [
        "+ vip tcp://10.200.1.1:80",
        "+ real 10.0.0.2 weight 2",
        "packets in all",
        "tcp://10.200.1.1:80: 0 packets sent, 0 dropped",
    ] {
        assert!(stdout.contains(part), "{part} is missing in\n{stdout}");
    }
    // It left a balancer behind that needs no process.
    let lbctl = Lbctl::new(&bpffs).in_ns(&topology.balancer.ns);
    let saved = lbctl.ok(&["--instance", "quickstart", "save"]).stdout;
    assert!(saved.contains("10.0.0.1") && saved.contains("10.0.0.2"), "{saved}");
}
