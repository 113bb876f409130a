//! GUE of both variants: what is taken off, and what is refused by its kind.

use std::net::UdpSocket;

use super::*;

const PORT: u16 = 6080;
/// To which GLB sends variant 0.
const OTHER_PORT: u16 = 19523;

const IPV4: u8 = 4;
const IPV6: u8 = 41;

/// The length of an IP header.
fn header(own: &str) -> usize {
    if own.contains(':') { 40 } else { 20 }
}

/// A datagram to a port of one of the host's addresses, with these bytes inside.
fn gue_to(port: u16, own: &str, inside: &[u8]) -> Frame {
    let source = if own.contains(':') { BALANCER6 } else { BALANCER };
    ip(source, own).udp(0xc123, port).data(inside)
}

fn gue(own: &str, inside: &[u8]) -> Frame {
    gue_to(PORT, own, inside)
}

/// A header of variant 0, with so many words behind it, and then the packet.
fn variant0(protocol: u8, words: &[[u8; 4]], inner: &Frame) -> Vec<u8> {
    let first = u8::try_from(words.len()).expect("at most 31");
    [&[first, protocol, 0, 0], words.concat().as_slice(), &inner.packet()].concat()
}

/// A packet of each family.
fn inners() -> [Frame; 2] {
    [datagram(CLIENT, VIP), datagram(CLIENT6, VIP6)]
}

fn protocol(inner: &Frame) -> u8 {
    if inner.is_v6() { IPV6 } else { IPV4 }
}

fn families(inner: &Frame, own: &str) -> String {
    let family = |v6| if v6 { "ipv6" } else { "ipv4" };
    format!("{}_in_{}", family(inner.is_v6()), family(own.contains(':')))
}

#[test]
fn both_variants_are_taken_off() {
    let host = real(&FROM);
    let mut kernel = Kernel::of(&host);
    let hops4 = [[0, 0, 0, 2], [10, 0, 0, 7], [10, 0, 0, 8]];
    let hops6 = [[0, 1, 1, 1], [0xfc, 0, 0, 0], [0; 4], [0; 4], [0, 0, 0, 7]];
    // Nobody here knows what the private data of others means, and it changes nothing about the packet.
    let others = [[0x77, 1, 255, 255]];
    for inner in &inners() {
        for own in [OWN, OWN6] {
            let number = protocol(inner);
            for (variant, inside) in [
                (1, inner.packet()),
                (0, variant0(number, &[], inner)),
                (0, variant0(number, &[[0; 4]], inner)),
                (0, variant0(number, &hops4, inner)),
                (0, variant0(number, &hops6, inner)),
                (0, variant0(number, &others, inner)),
                (0, variant0(number, &[[1; 4]; 31], inner)),
            ] {
                for port in [PORT, OTHER_PORT] {
                    let frame = gue_to(port, own, &inside).bytes();
                    let expected = format!("gue{variant}_{}", families(inner, own));
                    assert_eq!(result(&host, &frame), expected, "{}", hex::encode(&frame));
                    kernel.got(&host, Some(&inner.packet()));
                }
            }
        }
    }
    // Behind tags, and in an atomic fragment.
    let [inner, _] = inners();
    let tagged = gue(OWN, &inner.packet()).vlan(7);
    assert_eq!(result(&host, &tagged.bytes()), "gue1_ipv4_in_ipv4");
    let atomic = gue(OWN6, &inner.packet()).fragment(0, false);
    assert_eq!(result(&host, &atomic.bytes()), "gue1_ipv4_in_ipv6");
}

/// Each packet is refused by what is wrong with it, and the kernel gets none of them.
#[test]
fn lying_headers_are_refused_by_their_kind() {
    let host = real(&FROM);
    let mut kernel = Kernel::of(&host);
    let mut failures = Vec::new();
    let mut expect = |expected: &str, frame: &[u8]| {
        let found = result(&host, frame);
        if found != expected {
            failures.push(format!("{found} instead of {expected}: {}", hex::encode(frame)));
        }
    };
    let [v4, v6] = inners();
    for own in [OWN, OWN6] {
        let udp = header(own);
        // The length in the UDP header: longer than the packet, shorter, and shorter than the header itself.
        let right = u16::try_from(8 + v4.packet().len()).expect("short");
        for length in [right + 1, right + 1000, 65535, right - 1, 8, 7, 0] {
            let frame = gue(own, &v4.packet()).patch_ip(udp + 4, &length.to_be_bytes());
            expect("gue_udp_length", &frame.bytes());
        }
        // The outer packet says that it is longer than its frame.
        let frame = gue(own, &v4.packet());
        let cut = frame.bytes().len() - 1;
        expect("malformed", &frame.cut(cut).bytes());
        // The packet ends within the headers.
        let source = if own == OWN { BALANCER } else { BALANCER6 };
        let short = &gue(own, &[]).packet()[udp..];
        for len in 4..8 {
            expect("gue_udp_length", &ip(source, own).raw(17).data(&short[..len]).bytes());
        }
        expect("gue_truncated", &gue(own, &[]).bytes());
        for len in 1..4 {
            expect("gue_truncated", &gue(own, &[0, IPV4, 0, 0][..len]).bytes());
        }
        expect("malformed", &gue(own, &v4.packet()[..1]).bytes());
        expect("malformed", &gue(own, &v4.packet()[..19]).bytes());
        expect("malformed", &gue(own, &v6.packet()[..39]).bytes());
        expect("malformed", &gue(own, &variant0(IPV4, &[], &v4)[..4]).bytes());
        expect("malformed", &gue(own, &variant0(IPV4, &[[0; 4]], &v4)[..8]).bytes());
        // Variants that nobody has defined.
        for first in [0x80, 0x84, 0xbf, 0xc0, 0xc6, 0xff] {
            let mut inside = variant0(IPV4, &[], &v4);
            inside[0] = first;
            expect("gue_version", &gue(own, &inside).bytes());
        }
        let header0 = |at: usize, byte: u8| {
            let mut inside = variant0(IPV4, &[[0; 4]], &v4);
            inside[at] = byte;
            gue(own, &inside).bytes()
        };
        for first in [0x20, 0x21, 0x3f] {
            expect("gue_control", &header0(0, first));
        }
        for (at, byte) in [(2, 0x80), (2, 1), (3, 0x80), (3, 1)] {
            expect("gue_flags", &header0(at, byte));
        }
        for number in [0, 1, 5, 6, 17, 40, 42, 47, 59, 137, 255] {
            expect("gue_protocol", &header0(1, number));
        }
        // The header reaches beyond the packet, by its own length or by that of its hops.
        let mut inside = variant0(IPV4, &[], &v4);
        let words = u8::try_from((inside.len() - 4) / 4 + 1).expect("few");
        for words in words..=31 {
            inside[0] = words;
            expect("gue_header_length", &gue(own, &inside).bytes());
        }
        for hops in [[0, 0, 0, 1], [0, 0, 9, 255], [0, 1, 0, 1], [0, 1, 0, 255]] {
            expect("gue_hops", &gue(own, &variant0(IPV4, &[hops], &v4)).bytes());
        }
        expect("gue_hops", &gue(own, &variant0(IPV4, &[[0, 1, 0, 2]; 8], &v4)).bytes());
        // Another IP version than is said, or none.
        expect("gue_inner_version", &gue(own, &variant0(IPV6, &[], &v4)).bytes());
        expect("gue_inner_version", &gue(own, &variant0(IPV4, &[], &v6)).bytes());
        for version in [5, 7] {
            let wrong = v4.clone().patch_ip(0, &[version << 4 | 5]);
            expect("gue_inner_version", &gue(own, &wrong.packet()).bytes());
        }
        // What is inside is refused as in other outer headers.
        let long = v4.clone().ip_length(1000);
        for inside in [long.packet(), variant0(IPV4, &[], &long)] {
            expect("malformed", &gue(own, &inside).bytes());
        }
        for inner in [datagram(CLIENT, OWN), datagram(CLIENT6, "fc00:31::9")] {
            for inside in [inner.packet(), variant0(protocol(&inner), &[], &inner)] {
                expect("unknown_inner_destination", &gue(own, &inside).bytes());
            }
        }
        for inner in [datagram("127.0.0.1", VIP), datagram("fe80::1", VIP6)] {
            expect("bad_inner_source", &gue(own, &inner.packet()).bytes());
        }
    }
    let damaged = gue(OWN, &v4.packet()).patch_ip(8, &[1]);
    expect("malformed", &damaged.bytes());
    assert_eq!(failures, [""; 0]);
    kernel.got(&host, None);
}

/// Right whatever the length, and wrong whichever byte is damaged.
#[test]
fn the_outer_checksum_is_checked() {
    let host = real(&FROM);
    for own in [OWN, OWN6] {
        for length in (0..40).chain([255, 256, 484, 511, 512, 513, 996, 1023, 1024, 1400, 1480]) {
            let data: Vec<u8> = (0..length).map(|n: usize| n.to_le_bytes()[0] ^ 0xa5).collect();
            let inner = ip(CLIENT, VIP).udp(40_000, 53).data(&data);
            let frame = gue(own, &inner.packet());
            assert_eq!(result(&host, &frame.bytes()), format!("gue1_{}", families(&inner, own)));
        }
        // One byte of each part, the payload of the packet inside too, which its own checksum would tell as well.
        let inner = datagram(CLIENT, VIP);
        let right = gue(own, &inner.packet()).bytes();
        let (udp, inside) = (14 + header(own), 14 + header(own) + 8);
        let mut kernel = Kernel::of(&host);
        for at in [udp, udp + 1, udp + 6, udp + 7, inside + 8, inside + 21, right.len() - 1] {
            let mut damaged = right.clone();
            damaged[at] ^= 0x10;
            assert_eq!(result(&host, &damaged), "gue_checksum", "byte {at} of {}", right.len());
        }
        // With a packet inside that was damaged before, so that the sum over all is right: the kernel finds that out.
        let mut other = inner.packet();
        *other.last_mut().expect("it has bytes") ^= 0x10;
        let taken = result(&host, &gue(own, &other).bytes());
        assert_eq!(taken, format!("gue1_{}", families(&inner, own)));
        kernel.got(&host, Some(&other));
        // None: allowed over IPv4 alone.
        let without = gue(own, &inner.packet()).patch_ip(header(own) + 6, &[0, 0]);
        let expected = if own == OWN { "gue1_ipv4_in_ipv4" } else { "gue_no_checksum" };
        assert_eq!(result(&host, &without.bytes()), expected);
        kernel.got(&host, (own == OWN).then(|| inner.packet()).as_deref());
    }
}

/// Other ports, addresses and senders, pieces, and frames to many.
#[test]
fn what_is_no_business_of_ours() {
    let host = real(&FROM);
    let mut kernel = Kernel::of(&host);
    let [inner, _] = inners();
    let inside = inner.packet();
    for (frame, expected) in [
        (gue_to(6081, OWN, &inside), "not_encapsulated"),
        (gue_to(0, OWN, &inside), "not_encapsulated"),
        // The port that it comes from says nothing.
        (ip(BALANCER, OWN).udp(PORT, 53).data(&inside), "not_encapsulated"),
        (gue(OWN, &inside).options(&[1, 1, 1, 1]), "not_encapsulated"),
        (gue(OWN6, &inside).extension(DESTINATION_OPTIONS, 8), "not_encapsulated"),
        (gue("172.31.0.99", &inside), "other_destination"),
        (gue("fc00:31::99", &inside), "other_destination"),
        (gue(VIP, &inside), "other_destination"),
        (gue(OWN, &inside).macs([2, 0, 0, 0, 0, 9], [0xff; 6]), "not_encapsulated"),
    ] {
        assert_eq!(result(&host, &frame.bytes()), expected);
        kernel.got(&host, Some(&frame.packet()));
    }
    for source in [CLIENT, CLIENT6] {
        let own = if source == CLIENT { OWN } else { OWN6 };
        let frame = ip(source, own).udp(0xc123, PORT).data(&inside);
        assert_eq!(result(&host, &frame.bytes()), "unknown_source");
    }
    for own in [OWN, OWN6] {
        for (offset, more, expected) in [
            (0, true, "outer_fragment"),
            (1, true, "not_encapsulated"),
            (1, false, "not_encapsulated"),
        ] {
            let frame = gue(own, &inside).fragment(offset, more);
            assert_eq!(result(&host, &frame.bytes()), expected, "{own} {offset}");
        }
    }
}

#[test]
fn congestion_marks_are_carried_out_of_gue() {
    let host = real(&FROM);
    let mut kernel = Kernel::of(&host);
    for (outer, inner, out) in [(3, 2, 3), (3, 1, 3), (3, 0, 0), (1, 2, 2), (0, 3, 3)] {
        for own in [OWN, OWN6] {
            for (client, vip) in [(CLIENT, VIP), (CLIENT6, VIP6)] {
                let inside = datagram(client, vip).class(0xb8 | inner);
                for bytes in [inside.packet(), variant0(protocol(&inside), &[[0; 4]], &inside)] {
                    let taken = result(&host, &gue(own, &bytes).class(outer).bytes());
                    assert!(taken.contains("_in_"), "{taken}");
                    kernel.got(&host, Some(&datagram(client, vip).class(0xb8 | out).packet()));
                }
            }
        }
    }
}

#[test]
fn ports_are_those_that_were_asked_for() {
    let host = real(&FROM);
    let inside = datagram(CLIENT, VIP).packet();
    let taken = |port| result(&host, &gue_to(port, OWN, &inside).bytes());
    let attach = |arguments: &[&str]| {
        host.lbctl().ok(&[&["decap", "attach", UPLINK][..], &FROM, arguments].concat());
        status(&host.lbctl())["gue_ports"].clone()
    };
    assert_eq!(status(&host.lbctl())["gue_ports"], json!([PORT, OTHER_PORT]));
    assert_eq!(attach(&["--gue-port", "7000", "--gue-port", "1,65535"]), json!([1, 7000, 65535]));
    for (port, expected) in [
        (1, "gue1_ipv4_in_ipv4"),
        (7000, "gue1_ipv4_in_ipv4"),
        (65535, "gue1_ipv4_in_ipv4"),
        (PORT, "not_encapsulated"),
        (0, "not_encapsulated"),
    ] {
        assert_eq!(taken(port), expected, "{port}");
    }
    let table = host.lbctl().ok(&["decap", "status"]).stdout;
    assert!(table.contains("GUE                UDP port 7000   --gue-port"), "{table}");
    assert!(table.contains("gue1_ipv4_in_ipv4") && !table.contains("gue0"), "{table}");
    // None, but IP in IP as ever.
    assert_eq!(attach(&["--gue-port", "none"]), json!([]));
    for port in [0, 1, PORT, OTHER_PORT] {
        assert_eq!(taken(port), "not_encapsulated", "{port}");
    }
    assert_eq!(result(&host, &outer(&datagram(CLIENT, VIP)).bytes()), "ipv4_in_ipv4");
    // What is allowed for one interface is allowed for all, up to four ports.
    host.ns.shell("ip link add second type veth peer name other; ip link set second up");
    let second = |ports: &'static str| {
        ["decap", "attach", "second", "--address", "10.8.8.8", "--gue-port", ports]
    };
    host.lbctl().ok(&second("7000"));
    assert_eq!(attach(&["--gue-port", "1,2,3"]), json!([1, 2, 3, 7000]));
    let refused = host.lbctl().exits(1, &second("4,5"));
    assert!(
        refused.stderr.contains("5 UDP ports of GUE: decapsulation has room for 4"),
        "{refused}"
    );
    assert_eq!(taken(7000), "gue1_ipv4_in_ipv4");
}

/// A program of the host that listens where GUE is to come.
#[test]
fn ports_in_use() {
    let host = real(&["--gue-port", "none"]);
    let lbctl = host.lbctl();
    let bind = |at: &str| {
        let at = at.to_owned();
        host.ns.bind(move || UdpSocket::bind(&at)).expect("the port is free")
    };
    let ports = || status(&lbctl)["gue_ports"].clone();
    for at in ["0.0.0.0:6080", "[::]:6080", "172.31.0.2:6080", "[fc00:31::2]:6080"] {
        let socket = bind(at);
        // Asked for: an error, and nothing changes.
        let refused = lbctl.exits(1, &["decap", "attach", UPLINK, "--gue-port", "6080"]);
        let words = format!("--gue-port 6080: this host itself listens on UDP {at} (program ");
        assert!(refused.stderr.contains(&words), "{refused}");
        assert_eq!(refused.stderr.lines().count(), 1, "{refused}");
        assert_eq!(ports(), json!([]));
        // Not asked for: left to the program, and said.
        let warned = lbctl.ok(&["decap", "attach", UPLINK]);
        assert!(warned.stderr.contains("GUE is not taken from UDP port 6080"), "{warned}");
        assert_eq!(ports(), json!([19523]));
        drop(socket);
        lbctl.ok(&["decap", "attach", UPLINK, "--gue-port", "none"]);
    }
    // Another address, or a socket that is connected, is no obstacle.
    let elsewhere = bind("127.0.0.1:6080");
    let vip = bind("10.200.1.1:6080");
    assert!(!lbctl.ok(&["decap", "attach", UPLINK]).stderr.contains("UDP port 6080"));
    assert_eq!(ports(), json!([6080, 19523]));
    drop((elsewhere, vip));
    // Who comes later gets nothing, and is told by doctor; attaching again is no error.
    let late = bind("0.0.0.0:6080");
    lbctl.ok(&["decap", "attach", UPLINK, "--gue-port", "6080"]);
    let doctor = lbctl.exits(1, &["doctor", "--real", "--vip", VIP]).stdout;
    assert!(doctor.contains("decap-gue-port") && doctor.contains("gets nothing"), "{doctor}");
    drop(late);
    // A port that becomes free is taken by whoever follows.
    lbctl.ok(&["decap", "attach", UPLINK, "--gue-port", "none"]);
    let socket = bind("0.0.0.0:6080");
    lbctl.ok(&["decap", "attach", UPLINK]);
    assert_eq!(ports(), json!([19523]));
    drop(socket);
    let table = lbctl.ok(&["decap", "status"]).stdout;
    assert!(table.contains("+ GUE from UDP port 6080"), "{table}");
}
