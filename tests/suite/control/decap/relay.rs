//! Nobody can use a real that forwards as a relay.

use super::*;
use crate::fixtures::Rig;
use crate::fixtures::config;
use crate::fixtures::server;
use crate::fixtures::udp_ask;
use crate::fixtures::vip;

/// Whatever is asked for, packets for others are not sent on; those for VIPs are taken.
#[test]
fn a_real_that_forwards_is_no_relay() {
    const SERVED: &str = "udp://10.200.1.1:53";
    const SERVED6: &str = "udp://[fc00:1::6]:53";
    let rig = Rig::new(1);
    let real = &rig.topology.reals[0];
    real.ns.shell("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    let _echo = rig.topology.serve_udp(&[server(SERVED), server(SERVED6)]);
    rig.lbctl().apply(&config(&[vip(SERVED, &["10.0.0.1"]), vip(SERVED6, &["fc00::1"])].concat()));
    let lbctl = Lbctl::new(&rig.bpffs).in_ns(&real.ns);
    let everywhere =
        ["--instance", "real1", "decap", "attach", UPLINK, "--to", "0.0.0.0/0", "--to", "::/0"];
    lbctl.ok(&everywhere);
    let count = |name: &str| {
        let status = json_of(&lbctl.ok(&["--instance", "real1", "decap", "status", "--json"]));
        status["results"][name]["packets"].as_u64().expect("a number")
    };

    let mut back = Capture::start(&rig.topology.router, &real.router_interface);
    let relayed = |back: &mut Capture| {
        let about = [CLIENT, CLIENT6].map(ip_bytes);
        let frames = back.frames().iter().filter(|frame| frame.direction == Direction::In);
        frames
            .filter(|frame| {
                about
                    .iter()
                    .any(|address| frame.bytes.windows(address.len()).any(|at| at == address))
            })
            .count()
    };
    let (balancer, balancer6) =
        (rig.topology.balancer.v4.to_string(), rig.topology.balancer.v6.to_string());
    let strangers = [
        (CLIENT, balancer.as_str()),
        (CLIENT, "198.51.100.1"),
        (CLIENT6, balancer6.as_str()),
        (CLIENT6, "2001:db8::1"),
    ];
    for (n, (source, destination)) in (1..).zip(strangers) {
        let frame = ip(BALANCER, &real.v4.to_string())
            .around(&datagram(source, destination))
            .macs(real.gateway_mac, real.mac);
        send_frame(&rig.topology.router, &real.router_interface, &frame.bytes());
        assert!(wait_until(SOON, || count("would_be_forwarded") == n), "{destination}");
    }
    assert_eq!(relayed(&mut back), 0);
    for vip in [SERVED, SERVED6] {
        assert_eq!(udp_ask(rig.client(), server(vip), "?").expect("an answer"), "real1:?");
    }
    assert_eq!(count("would_be_forwarded"), 4);

    // A VIP that the host no longer has would go in circles.
    real.ns.shell("ip route del local 10.200.0.0/16 dev lo");
    assert!(udp_ask(rig.client(), server(SERVED), "?").is_err());
    assert_eq!(count("would_be_forwarded"), 5);
    // On a host that does not forward, the kernel drops it.
    real.ns.shell("sysctl -qw net.ipv4.ip_forward=0");
    assert!(udp_ask(rig.client(), server(SERVED), "?").is_err());
    assert_eq!(count("would_be_forwarded"), 5);
}
