//! The size of segments that clients are asked for: lowered on the way out, and nothing else.

use std::collections::BTreeMap;
use std::net::TcpListener;

use etherparse::TcpHeader;

use super::*;
use crate::control::tunnel::lives::filters;
use crate::control::tunnel::lives::qdisc;
use crate::fixtures::HttpClient;
use crate::fixtures::Rig;
use crate::fixtures::config;
use crate::fixtures::server;
use crate::fixtures::vip;

const MSS: u8 = 2;
const NOP: u8 = 1;
/// TCP-AO (RFC 5925).
const AUTHENTICATION: u8 = 29;

/// An option that asks for segments of so many bytes.
fn mss(bytes: u16) -> Vec<u8> {
    [&[MSS, 4][..], &bytes.to_be_bytes()].concat()
}

fn mss_counts(lbctl: &Lbctl<'_>) -> BTreeMap<String, u64> {
    let status = status(lbctl);
    let results = status["mss_results"].as_object().expect("a map").iter();
    results.map(|(name, count)| (name.clone(), count.as_u64().expect("a number"))).collect()
}

/// A segment with SYN, and ACK if it answers, with these options, filled up to whole words.
fn segment(source: &str, syn: bool, options: &[u8]) -> Frame {
    let client = if source.contains(':') { CLIENT6 } else { CLIENT };
    let mut header = TcpHeader::new(80, 40_000, 1000, 8192);
    (header.syn, header.ack) = (syn, true);
    let mut options = options.to_vec();
    options.resize(options.len().next_multiple_of(4), 0);
    header.set_options_raw(&options).expect("at most 40 bytes");
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    header.checksum = match (address(source), address(client)) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            header.calc_checksum_ipv4_raw(a.octets(), b.octets(), b"data").expect("short")
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            header.calc_checksum_ipv6_raw(a.octets(), b.octets(), b"data").expect("short")
        }
        _ => unreachable!("both are of one family"),
    };
    let bytes = [header.to_bytes().as_slice(), b"data"].concat();
    ip(source, client).raw(6).data(&bytes)
}

/// Sends a frame by the host's interface, and returns it as it arrives at the other end.
#[track_caller]
fn leaves_as(host: &Host, frame: &Frame) -> Vec<u8> {
    let mut wire = Capture::start(&host.ns, "nobody");
    send_frame(&host.ns, UPLINK, &frame.bytes());
    // The last bytes are data that no other frame has.
    let ours = |captured: &crate::fixtures::Frame| {
        captured.direction == Direction::In && captured.bytes.ends_with(b"data")
    };
    wire.wait_for(ours).bytes.clone()
}

#[test]
fn options_are_lowered_and_nothing_else() {
    let host = real(&["--mss", "1400"]);
    let lbctl = host.lbctl();
    let nops = |count| vec![NOP; count];
    let ao = vec![AUTHENTICATION, 16, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let other = vec![3, 3, 7, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    let large = |before: &[u8], after: &[u8]| [before, &mss(1460), after].concat();
    for vip in [VIP, VIP6] {
        for (options, expected, becomes) in [
            (mss(1460), "lowered", mss(1400)),
            (mss(65535), "lowered", mss(1400)),
            (mss(1401), "lowered", mss(1400)),
            (mss(1400), "fits", mss(1400)),
            (mss(0), "fits", mss(0)),
            // Anywhere among the options, at odd places too.
            (large(&other, &[]), "lowered", [&other[..], &mss(1400)].concat()),
            (large(&[], &other), "lowered", [&mss(1400)[..], &other].concat()),
            (large(&nops(1), &[]), "lowered", [nops(1), mss(1400)].concat()),
            (large(&nops(35), &[]), "lowered", [nops(35), mss(1400)].concat()),
            (large(&nops(36), &[]), "lowered", [nops(36), mss(1400)].concat()),
            // None is added.
            (Vec::new(), "no_option", Vec::new()),
            (other.clone(), "no_option", other.clone()),
            (nops(40), "no_option", nops(40)),
            // What is behind the end is no option.
            (large(&[0], &[]), "no_option", large(&[0], &[])),
            // Whoever authenticates the options would refuse others.
            (large(&[], &ao), "authenticated", large(&[], &ao)),
            (large(&ao, &[]), "authenticated", large(&ao, &[])),
            // Options that cannot be told from each other.
            (large(&[5, 0], &[]), "malformed", large(&[5, 0], &[])),
            (large(&[5, 1], &[]), "malformed", large(&[5, 1], &[])),
            (large(&[5, 41], &[]), "malformed", large(&[5, 41], &[])),
            (large(&nops(3), &[5]), "malformed", large(&nops(3), &[5])),
            (vec![MSS, 3, 9, 1], "no_option", vec![MSS, 3, 9, 1]),
        ] {
            let before = mss_counts(&lbctl);
            let left = leaves_as(&host, &segment(vip, true, &options));
            let wanted = segment(vip, true, &becomes).bytes();
            assert_eq!(hex::encode(left), hex::encode(wanted), "{expected}: {options:?}");
            let grown: Vec<_> =
                mss_counts(&lbctl).into_iter().filter(|(name, n)| before[name] != *n).collect();
            assert_eq!(grown.len(), 1, "{options:?}: {grown:?}");
            assert_eq!(grown[0].0, expected, "{options:?}");
        }
        // Behind a tag, which the kernel at the other end takes off.
        let tagged = segment(vip, true, &mss(1460)).vlan(7);
        assert_eq!(leaves_as(&host, &tagged), segment(vip, true, &mss(1400)).bytes());
    }
    // Within a connection, from another address, of another protocol: not even looked at.
    let before = mss_counts(&lbctl);
    for frame in [
        segment(VIP, false, &mss(1460)),
        segment(OWN, true, &mss(1460)),
        segment(OWN6, true, &mss(1460)),
        ip(VIP, CLIENT).udp(80, 40_000).data(b"data"),
    ] {
        assert_eq!(leaves_as(&host, &frame), frame.bytes());
    }
    assert_eq!(mss_counts(&lbctl), before);
}

/// The kernel's own answers: with finished checksums, and with such as are left to the card.
#[test]
fn answers_of_the_kernel() {
    for offload in ["off", "on"] {
        let host = real(&["--mss", "1300"]);
        host.ns.shell(&format!(
            "ethtool -K {UPLINK} tx {offload} >/dev/null
             ip route add default dev {UPLINK}; ip -6 route add default dev {UPLINK}
             ip neigh add {CLIENT} lladdr 02:00:00:00:00:01 dev {UPLINK}
             ip -6 neigh add {CLIENT6} lladdr 02:00:00:00:00:01 dev {UPLINK}"
        ));
        for (client, vip) in [(CLIENT, VIP), (CLIENT6, VIP6)] {
            let at: IpAddr = vip.parse().expect("an address");
            let _listener = host.ns.bind(move || TcpListener::bind((at, 80))).expect("bind");
            let mut wire = Capture::start(&host.ns, "nobody");
            send_frame(&host.ns, "nobody", &ip(client, vip).tcp(40_000, 80).syn().bytes());
            let header = if client == CLIENT { 20 } else { 40 };
            let answer = wire.wait_for(|frame| {
                let tcp = frame.bytes.get(14 + header..).unwrap_or_default();
                frame.direction == Direction::In && tcp.get(..2) == Some(&[0, 80])
            });
            let answer = &answer.bytes[14 + header..];
            let (mut tcp, _) = TcpHeader::from_slice(answer).expect("a segment");
            assert!(tcp.syn && tcp.ack, "{tcp:?}");
            assert_eq!(&answer[20..24], mss(1300), "{vip}, offload {offload}");
            let found = tcp.checksum;
            tcp.checksum = 0;
            let (from, to): (IpAddr, IpAddr) = (at, client.parse().expect("an address"));
            let right = match (from, to) {
                (IpAddr::V4(a), IpAddr::V4(b)) => {
                    tcp.calc_checksum_ipv4_raw(a.octets(), b.octets(), &[])
                }
                (IpAddr::V6(a), IpAddr::V6(b)) => {
                    tcp.calc_checksum_ipv6_raw(a.octets(), b.octets(), &[])
                }
                _ => unreachable!("both are of one family"),
            };
            let right = right.expect("short");
            if offload == "off" {
                assert_eq!(found, right, "{vip}");
            } else {
                // The sum of the pseudo-header: what completes it, sums the option as it is now.
                let sum = pseudo_sum(from, to, answer.len());
                assert_eq!(found, sum, "{vip}: {right:#x} would be the finished one");
            }
        }
        assert_eq!(mss_counts(&host.lbctl())["lowered"], 2);
    }
}

fn pseudo_sum(from: IpAddr, to: IpAddr, length: usize) -> u16 {
    let bytes = match (from, to) {
        (IpAddr::V4(a), IpAddr::V4(b)) => [a.octets(), b.octets()].concat(),
        (IpAddr::V6(a), IpAddr::V6(b)) => [a.octets(), b.octets()].concat(),
        _ => unreachable!("both are of one family"),
    };
    let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum = words.sum::<u32>() + 6 + u32::try_from(length).expect("short");
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded")
}

/// It comes and goes with what is asked for, by links and by filters as before Linux 6.6.
#[test]
fn comes_and_goes() {
    for by_filters in [false, true] {
        let host = Host::new();
        host.ns.shell(&format!(
            "ip addr add {VIP}/32 dev lo
             ip link add second type veth peer name other; ip link set second up"
        ));
        let lbctl = || {
            let lbctl = host.lbctl();
            if by_filters { lbctl.env("LBCTL_FAIL_AT", "tcx") } else { lbctl }
        };
        let limits = || status(&host.lbctl())["mss"].clone();
        let attach = |interface: &str, arguments: &[&str]| {
            lbctl().ok(&[&["decap", "attach", interface, "--address", "10.0.0.9"], arguments].concat());
        };
        attach(UPLINK, &[]);
        assert_eq!(limits(), json!({}));
        // 1600 bytes, less 20 + 8 + 8 of an outer header, 20 and 40 of IP, and 20 of TCP.
        attach(UPLINK, &["--mss", "auto"]);
        assert_eq!(limits(), json!({ UPLINK: { "ipv4": 1524, "ipv6": 1504 } }));
        let lowers = |most: u16| {
            let left = leaves_as(&host, &segment(VIP, true, &mss(9000)));
            assert_eq!(left, segment(VIP, true, &mss(most)).bytes());
        };
        lowers(1524);
        attach(UPLINK, &["--mss", "auto", "--gue-port", "none"]);
        lowers(1540);
        attach(UPLINK, &["--mss", "1234"]);
        lowers(1234);
        attach("second", &["--mss", "536"]);
        let both = json!({ UPLINK: { "ipv4": 1234, "ipv6": 1234 }, "second": { "ipv4": 536, "ipv6": 536 } });
        assert_eq!(limits(), both);
        lbctl().ok(&["decap", "detach", "second"]);
        lowers(1234);
        if by_filters {
            assert!(filters(&host.ns).contains("handle 0x4c354c42 mss"), "{}", filters(&host.ns));
        }
        // Another MTU: whoever follows adapts it.
        attach(UPLINK, &["--mss", "auto"]);
        host.ns.shell("ip link set uplink mtu 1500");
        let serve = host.lbctl().spawn(&[
            "decap",
            "serve",
            UPLINK,
            "--address",
            "10.0.0.9",
            "--mss",
            "auto",
        ]);
        let lowered =
            wait_until(SOON, || limits() == json!({ UPLINK: { "ipv4": 1424, "ipv6": 1404 } }));
        assert!(lowered, "{}", limits());
        host.ns.shell("ip link set uplink mtu 1400");
        let followed =
            wait_until(SOON, || limits() == json!({ UPLINK: { "ipv4": 1324, "ipv6": 1304 } }));
        assert!(followed, "{}", limits());
        drop(serve);
        // Not asked for any more.
        attach(UPLINK, &[]);
        assert_eq!(limits(), json!({}));
        lowers(9000);
        assert_eq!((filters(&host.ns), qdisc(&host.ns)), (String::new(), String::new()));
        attach(UPLINK, &["--mss", "600"]);
        lowers(600);
        // A balancer in the same instance comes and goes without it.
        host.lbctl().apply(&Host::config(""));
        host.lbctl().ok(&["down"]);
        lowers(600);
        host.lbctl().apply(&Host::config(""));
        lbctl().ok(&["decap", "detach"]);
        lowers(9000);
        host.lbctl().ok(&["down"]);
        assert!(!host.has_pins("default"));
        assert_eq!((filters(&host.ns), qdisc(&host.ns)), (String::new(), String::new()));
    }
}

/// Where no network carries more than 1500 bytes, nothing is too long in the first place.
#[test]
fn uploads_on_a_path_of_1500() {
    const SERVED: &str = "tcp://10.200.1.1:80";
    const SERVED6: &str = "tcp://[fc00:1::1]:80";
    let rig = Rig::new(1);
    let topology = &rig.topology;
    let real = &topology.reals[0];
    for node in [&topology.balancer, real] {
        node.ns.shell("ip link set uplink mtu 1500");
        topology.router.shell(&format!("ip link set {} mtu 1500", node.router_interface));
    }
    rig.lbctl().apply(&config(&[vip(SERVED, &["10.0.0.1"]), vip(SERVED6, &["10.0.0.1"])].concat()));
    let upload = |vip| {
        let mut client = HttpClient::connect(rig.client(), server(vip)).expect("the VIP answers");
        let answer = client.put(300_000).expect("an answer");
        assert_eq!(answer.status, 200, "{vip}: {}", answer.body);
    };
    let lbctl = Lbctl::new(&rig.bpffs).in_ns(&real.ns);
    lbctl.ok(&["--instance", "real1", "decap", "attach", UPLINK, "--mss", "auto"]);
    upload(SERVED);
    upload(SERVED6);
    assert_eq!(rig.reason("too_big_reply"), 0, "no segment was too long");
    // The same without.
    lbctl.ok(&["--instance", "real1", "decap", "attach", UPLINK]);
    upload(SERVED);
    assert_ne!(rig.reason("too_big_reply"), 0, "the test can tell");
}
