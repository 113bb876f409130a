//! A real.

use etherparse::IpNumber;
use etherparse::PacketBuilder;
use libbpf_rs::Link;

use std::time::Duration;

use super::Patient;
use crate::fixtures::Host;
use crate::fixtures::frame::eth;
use crate::fixtures::send_frame;
use crate::fixtures::wait_until;

/// Something that takes no longer than it has to.
const SOON: Duration = Duration::from_secs(10);

const PLACE: &str = "interface uplink";
const VIP: &str = "10.200.1.1";
const VIP6: &str = "fc00:1::1";

/// Where balancers send from.
const FROM: [&str; 4] = ["--from", "172.16.0.0/16", "--from", "100::/64"];

/// A host with a way to clients, and all that a real of the VIPs needs.
fn real() -> Host {
    let host = Host::new();
    host.ns.shell(&format!(
        "ip route add default via 172.31.0.254 mtu 1500
         ip -6 route add default via fc00:31::fe mtu 1500
         ip addr add {VIP}/32 dev lo
         ip addr add {VIP6}/128 dev lo
         sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2"
    ));
    host.lbctl().ok(&[&["decap", "attach", "uplink"][..], &FROM].concat());
    host
}

fn patient(host: &Host) -> Patient<'_> {
    Patient::new(host.lbctl(), &host.ns, &["--real"])
}

#[test]
fn nothing_hurts() {
    let host = real();
    let output = host.lbctl().ok(&["doctor", "--real", "--vip", VIP, "--vip", VIP6]);
    assert!(output.stdout.ends_with("\n0 errors, 0 warnings, 0 notes\n"), "{output}");
    let patient = patient(&host);
    for family in ["IPv4", "IPv6"] {
        for id in ["no-decap", "no-route-back", "mss", "forwarding"] {
            patient.is_well(id, family);
        }
    }
    patient.is_well("no-vip", "host");
    patient.is_well("rp-filter", PLACE);
}

#[test]
fn decapsulation() {
    let host = Host::new();
    host.ns.shell(&format!(
        "ip route add default via 172.31.0.254 mtu 1500; ip link set lo up; ip addr add {VIP}/32 dev lo"
    ));
    let patient = patient(&host);
    assert_eq!(patient.find("decap-detached", "host"), None);
    patient.is_fixed("no-decap", "IPv4", "error", &["nothing takes an outer header off"]);
    patient.is_well("decap-detached", "host");

    let link = host.bpffs.path().join("l4lb/default/link/uplink");
    Link::open(&link).and_then(|link| link.detach()).expect("detach");
    let before = status(&host);
    patient.is_fixed("decap-detached", "host", "error", &["no longer on interface uplink"]);
    // All that was asked for is asked for again.
    assert_eq!(status(&host)["requests"], before["lost"]);
    host.lbctl().ok(&[&["decap", "attach", "uplink", "--to", "10.200.0.0/16"][..], &FROM].concat());
    Link::open(&link).and_then(|link| link.detach()).expect("detach");
    patient.is_fixed("decap-detached", "host", "error", &["no longer on interface uplink"]);
    assert_eq!(status(&host)["to"], serde_json::json!(["10.200.0.0/16"]));

    patient.is_well("decap-open", "host");
    patient.is_well("decap-other-destination", "host");
    let to = |address: [u8; 4]| send_to(&host, address);
    to([172, 31, 0, 99]);
    patient.is_advised("decap-other-destination", "host", "warning", "--address ADDRESS");
    to([172, 31, 0, 2]);
    patient.finds("decap-other-destination", "host", "note", &["than 172.31.0.2, fc00:31::2"]);
}

fn status(host: &Host) -> serde_json::Value {
    crate::fixtures::json(&host.lbctl().ok(&["decap", "status", "--json"]))
}

/// Sends an encapsulated datagram to an address, as the balancer does.
fn send_to(host: &Host, address: [u8; 4]) {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 0xfe], [2, 0, 0, 0, 0, 1])
        .ipv4([172, 16, 0, 1], address, 64)
        .write(&mut frame, IpNumber::IPV4, &inner())
        .expect("a frame");
    send_frame(&host.ns, "nobody", &frame);
}

/// A datagram from a client.
fn inner() -> Vec<u8> {
    let mut packet = Vec::new();
    let builder = PacketBuilder::ipv4([192, 0, 2, 7], [10, 200, 1, 1], 64).udp(40_000, 53);
    builder.write(&mut packet, b"?").expect("a packet");
    packet
}

/// Findings about outer sources, refused packets, and changes since decapsulation was attached.
#[test]
fn what_decapsulation_takes() {
    let host = real();
    let patient = patient(&host);
    patient.is_well("decap-open", "host");
    host.ns.shell("ip link add second type veth peer name other; ip link set second up");
    host.lbctl().ok(&["decap", "attach", "uplink", "--to", "10.200.0.0/16", "--to", VIP6]);
    host.lbctl().ok(&["decap", "attach", "second", "--address", "10.8.8.8"]);
    let words = ["from any outer source", "second, uplink without --from"];
    patient.is_fixed("decap-open", "host", "warning", &words);
    let status = crate::fixtures::json(&host.lbctl().ok(&["decap", "status", "--json"]));
    let own = serde_json::json!({ "addresses": [], "from": ["172.16.0.0/16", "100::/64"], "to": ["10.200.0.0/16", "fc00:1::1/128"], "gue_ports": null, "mss": null });
    assert_eq!(status["requests"]["uplink"], own, "what else was asked for stays");
    host.lbctl().ok(&["decap", "detach", "second"]);

    // What was asked for one that is gone is in force until somebody looks.
    host.lbctl().ok(&[&["decap", "attach", "uplink"][..], &FROM].concat());
    host.lbctl().ok(&["decap", "attach", "second", "--address", "10.8.8.8"]);
    host.ns.shell("ip link del second");
    patient.finds("decap-outdated", "host", "warning", &["who may send: no longer anybody"]);
    patient.is_fixed("decap-open", "host", "warning", &["attached to an interface that is gone"]);
    patient.is_well("decap-outdated", "host");
    host.ns.shell("ip link add second type veth peer name other; ip link set second up");
    host.lbctl().ok(&["decap", "attach", "uplink", "--to", "10.200.0.0/16", "--to", VIP6]);

    patient.is_well("decap-vip-refused", &format!("VIP {VIP}"));
    let asked = patient.with(&["--real", "--vip", "10.203.1.1"]);
    host.ns.shell("ip addr add 10.203.1.1/32 dev other");
    asked.is_fixed(
        "decap-vip-refused",
        "VIP 10.203.1.1",
        "error",
        &["neither on a loopback device"],
    );

    host.lbctl().ok(&[&["decap", "attach", "uplink"][..], &FROM].concat());
    patient.is_well("decap-outdated", "host");
    host.ns.shell("ip addr add 10.200.1.9/32 dev lo; ip addr add 172.31.0.9/32 dev uplink");
    let words = ["new outer destinations: 172.31.0.9", "new inner destinations: 10.200.1.9"];
    assert_eq!(patient.find("decap-vip-refused", "VIP 10.200.1.9"), None, "one finding is enough");
    patient.is_fixed("decap-outdated", "host", "error", &words);
    host.ns.shell("ip addr del 10.200.1.9/32 dev lo");
    let words = ["inner destinations that are gone: 10.200.1.9"];
    patient.is_fixed("decap-outdated", "host", "warning", &words);

    patient.is_well("decap-refused", "host");
    patient.is_well("decap-fragments", "host");
    host.lbctl().ok(&["decap", "attach", "uplink", "--from", "192.0.2.0/24"]);
    send_to(&host, [172, 31, 0, 2]);
    assert!(wait_until(SOON, || patient.find("decap-refused", "host").is_some()));
    patient.is_advised("decap-refused", "host", "note", "docs/decap.md");
    patient.finds("decap-refused", "host", "note", &["this host: 1 unknown_source"]);
    host.lbctl().ok(&[&["decap", "attach", "uplink"][..], &FROM].concat());
    let piece = eth().ip4("172.16.0.1", "172.31.0.2").raw(4).data(&inner()).fragment(0, true);
    send_frame(&host.ns, "nobody", &piece.bytes());
    assert!(wait_until(SOON, || patient.find("decap-fragments", "host").is_some()));
    patient.finds("decap-fragments", "host", "warning", &["1 fragments of encapsulated packets"]);
    patient.is_advised("decap-fragments", "host", "warning", "outer_df = true");
}

#[test]
fn vips() {
    let host = real();
    host.ns.shell(&format!("ip addr del {VIP}/32 dev lo; ip addr del {VIP6}/128 dev lo"));
    let patient = patient(&host);
    patient.finds("no-vip", "host", "note", &[]);
    let asked = patient.with(&["--real", "--vip", VIP, "--vip", VIP6]);
    for vip in [VIP, VIP6] {
        let place = format!("VIP {vip}");
        asked.is_fixed("vip-missing", &place, "error", &["no address of this host"]);
        asked.is_well("vip-on-wire", &place);
        host.ns.shell(&format!("ip addr del {vip} dev lo; ip addr add {vip} dev uplink"));
        asked.is_well("vip-missing", &place);
        asked.is_fixed("vip-on-wire", &place, "error", &["interface uplink has it"]);
    }
    // Those that it has need not be named.
    patient.is_well("vip-on-wire", &format!("VIP {VIP}"));
    patient.is_well("no-vip", "host");

    // A whole prefix.
    host.ns.shell("ip route add local 10.201.0.0/16 dev lo");
    let routed = patient.with(&["--real", "--vip", "10.201.7.7"]);
    routed.is_well("vip-missing", "VIP 10.201.7.7");
    assert_eq!(routed.find("vip-on-wire", "VIP 10.201.7.7"), None);
}

#[test]
fn arp() {
    let host = real();
    let patient = patient(&host);
    let set = |key: &str, all: u32, own: u32| {
        host.ns.shell(&format!(
            "sysctl -qw net.ipv4.conf.all.{key}={all} net.ipv4.conf.uplink.{key}={own}"
        ));
    };
    // Of both the larger one counts.
    for (all, own) in [(1, 0), (0, 1), (2, 1), (8, 0)] {
        set("arp_ignore", all, own);
        patient.is_well("arp-ignore", PLACE);
    }
    for (all, own) in [(0, 0), (1, 3), (0, 4)] {
        set("arp_ignore", all, own);
        patient.is_fixed("arp-ignore", PLACE, "error", &[]);
    }
    for (all, own) in [(1, 0), (0, 1), (2, 0)] {
        set("arp_announce", all, own);
        patient.is_well("arp-announce", PLACE);
    }
    set("arp_announce", 0, 0);
    patient.is_fixed("arp-announce", PLACE, "warning", &[]);

    // IPv6 is another matter.
    host.ns
        .shell(&format!("ip addr del {VIP}/32 dev lo; sysctl -qw net.ipv4.conf.all.arp_ignore=0"));
    assert_eq!(patient.find("arp-ignore", PLACE), None);
}

#[test]
fn the_way_back() {
    let host = real();
    let patient = patient(&host);
    host.ns.shell(
        "ip link add second type veth peer name beyond
         ip addr add 172.32.0.2/24 dev second; ip link set second up; ip link set beyond up
         sysctl -qw net.ipv4.conf.all.rp_filter=1",
    );
    patient.is_well("rp-filter", PLACE);
    host.ns.shell("ip route replace default via 172.32.0.254 mtu 1500");
    patient.is_fixed("rp-filter", PLACE, "error", &["rp_filter is 1, strict"]);
    host.ns.shell("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.uplink.rp_filter=0");
    patient.is_well("rp-filter", PLACE);
    host.ns.shell("sysctl -qw net.ipv4.conf.uplink.rp_filter=1");
    patient.is_fixed("rp-filter", PLACE, "error", &[]);

    host.ns.shell("ip route del default; ip -6 route del default");
    patient.is_advised("no-route-back", "IPv4", "error", "ip route add default via ROUTER");
    patient.is_advised("no-route-back", "IPv6", "error", "ip -6 route add default via ROUTER");
}

#[test]
fn segments_that_fit() {
    let host = real();
    let both = patient(&host);
    let route = |more: &str| {
        host.ns.shell(&format!(
            "ip route replace default via 172.31.0.254 dev uplink proto static metric 7 src 172.31.0.2 {more}
             ip -6 route replace default via fc00:31::fe dev uplink {more}"
        ));
    };
    let fixed = |words: &[&str], v4: &str, v6: &str| {
        both.is_fixed("mss", "IPv4", "warning", words);
        both.is_fixed("mss", "IPv6", "warning", &[]);
        let routes = host.ns.shell("ip route show default; ip -6 route show default");
        assert!(routes.contains(v4) && routes.contains(v6), "{routes}");
    };
    host.ns.shell("ip route del default; ip -6 route del default");
    // The network carries more: what clients get is to stay as long as theirs.
    route("");
    let words =
        &["segments of 1560 bytes, which are packets of 1600", "header of 40", "the 1600 bytes"];
    fixed(words, "proto static src 172.31.0.2 metric 7 mtu 1500", "mtu 1500");

    // It does not.
    host.ns.shell("ip link set uplink mtu 1500");
    fixed(&["packets of 1500"], "advmss 1420", "advmss 1400");

    // Known to balancers by an IPv4 address only.
    route("");
    host.lbctl()
        .ok(&[&["decap", "attach", "uplink", "--address", "172.31.0.2"][..], &FROM].concat());
    fixed(&["outer header of 20"], "advmss 1440", "advmss 1420");
    route("advmss 1440");
    both.is_well("mss", "IPv4");
    route("advmss 1441");
    both.finds("mss", "IPv4", "warning", &["segments of 1441 bytes"]);
    route("mtu 1480");
    both.is_well("mss", "IPv4");
}

#[test]
fn forwarding() {
    let host = real();
    host.ns.shell("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    let patient = patient(&host);
    patient.is_well("decap-wide", "host");
    host.lbctl().ok(&["decap", "attach", "uplink", "--to", "10.200.0.0/16", "--to", VIP6]);
    patient.finds("decap-wide", "host", "warning", &["its own addresses: 10.200.0.0/16"]);
    patient.is_advised("decap-wide", "host", "warning", "without --to");
    host.ns.shell("ip route add local 10.200.0.0/16 dev lo");
    patient.is_well("decap-wide", "host");
    patient.is_fixed("forwarding", "IPv4", "note", &[]);
    patient.is_fixed("forwarding", "IPv6", "note", &[]);
}
