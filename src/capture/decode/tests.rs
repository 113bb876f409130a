use std::net::IpAddr;
use std::time::Duration;

use jiff::tz::Offset;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::model::reason::reasons;

const MACS: &[u8] = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01";

fn packet(data: &[u8]) -> Packet {
    Packet {
        time: SystemTime::UNIX_EPOCH + Duration::new(86_399, 42),
        at: CapturePoint::Entry,
        interface: "eth0".to_owned(),
        ifindex: 2,
        queue: 0,
        cpu: 0,
        length: u32::try_from(data.len()).expect("short"),
        data: data.to_vec(),
        decision: None,
    }
}

fn frame(ether_type: u16, parts: &[&[u8]]) -> Vec<u8> {
    [MACS, &ether_type.to_be_bytes(), &parts.concat()].concat()
}

/// An IPv4 header from 192.0.2.1 to 10.200.1.1.
fn ip4(protocol: u8, payload: usize, options: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let mut bytes = vec![0x40 | u8::try_from(header / 4).expect("short"), 0];
    bytes.extend(u16::try_from(header + payload).expect("short").to_be_bytes());
    bytes.extend([0, 1, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 10, 200, 1, 1]);
    bytes.extend(options);
    bytes
}

/// A UDP header from port 31337 to `port`.
fn udp(port: u16, payload: usize) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    let mut bytes = vec![0x7a, 0x69, high, low];
    bytes.extend(u16::try_from(8 + payload).expect("short").to_be_bytes());
    bytes.extend([0, 0]);
    bytes
}

/// A packet's line without what is not in the frame: no time, no interface, no decision.
fn describe(packet: &Packet) -> String {
    let mut line = String::new();
    write_frame(&mut line, packet, Telling::default()).expect("strings take all");
    line
}

#[track_caller]
fn line(data: &[u8], expected: &str) {
    assert_eq!(describe(&packet(data)), expected);
}

fn lines(options: LineOptions, packet: &Packet) -> String {
    let zone = TimeZone::fixed(Offset::from_seconds(3600 + 1800).expect("an offset"));
    let mut lines = Lines::in_zone(Vec::new(), options, zone);
    lines.packet(packet).expect("memory");
    String::from_utf8(lines.into_inner()).expect("text")
}

#[test]
fn a_line_begins_with_time_interface_and_decision() {
    let frame = frame(0x0800, &[&ip4(17, 8, &[]), &udp(53, 0)]);
    let said = "IP 192.0.2.1.31337 > 10.200.1.1.53: UDP, length 0\n";
    let plain = packet(&frame);
    assert_eq!(lines(LineOptions::default(), &plain), format!("01:29:59.000000042 {said}"));
    let options = LineOptions { interface: true, ..LineOptions::default() };
    assert_eq!(lines(options, &plain), format!("01:29:59.000000042 eth0 {said}"));

    let reason = &reasons()[0];
    let decided = |vip: Option<&str>, real: Option<[u8; 4]>| Packet {
        at: CapturePoint::Exit,
        decision: Some(Decision {
            reason,
            vip: vip.map(|vip| vip.parse().expect("a VIP")),
            real: real.map(IpAddr::from),
        }),
        ..plain.clone()
    };
    let because = format!("{} {}", reason.verdict, reason.name);
    assert_eq!(
        lines(options, &decided(None, None)),
        format!("01:29:59.000000042 eth0 {because}: {said}")
    );
    assert_eq!(
        lines(options, &decided(Some("tcp://10.200.1.1:80"), Some([10, 0, 0, 1]))),
        format!(
            "01:29:59.000000042 eth0 {because}, vip tcp://10.200.1.1:80, real 10.0.0.1: {said}"
        )
    );
}

#[test]
fn what_tcpdump_does_not_say() {
    let inner = [ip4(17, 8, &[]), udp(4433, 0)].concat();
    let flow = "IP 192.0.2.1.31337 > 10.200.1.1.4433: UDP, length 0";
    line(&frame(0x8100, &[&[0x60, 100, 8, 0], &inner]), &format!("vlan 100, p 3, {flow}"));
    let tags = [0x10, 200, 0x81, 0, 0x00, 100, 8, 0];
    line(&frame(0x88a8, &[&tags, &inner]), &format!("vlan 200, p 0, DEI, vlan 100, p 0, {flow}"));
    let options = [7, 3, 4, 1];
    line(
        &frame(0x0800, &[&ip4(17, 8, &options), &udp(4433, 0)]),
        "IP options (RR,NOP) 192.0.2.1.31337 > 10.200.1.1.4433: UDP, length 0",
    );
    line(
        &frame(0x88cc, &[&[0; 46]]),
        "02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype LLDP (0x88cc), length 60",
    );
    line(
        &frame(0x88b5, &[&[0; 46]]),
        "02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype Unknown (0x88b5), length 60",
    );
    line(&frame(38, &[&[0; 46]]), "02:00:00:00:00:01 > 02:00:00:00:00:02, 802.3, length 38");
    line(
        &frame(0x0800, &[&ip4(47, 20, &[]), &[0; 20]]),
        "IP 192.0.2.1 > 10.200.1.1: GRE, length 20",
    );
}

#[test]
fn quic_headers_are_noted() {
    let datagram = |port, payload: &[u8]| {
        frame(0x0800, &[&ip4(17, 8 + payload.len(), &[]), &udp(port, payload.len()), payload])
    };
    let long = b"\xc0\0\0\0\x01\x04\x01\x02\x03\x04\x02\xaa\xbb\0";
    line(
        &datagram(8443, long),
        "IP 192.0.2.1.31337 > 10.200.1.1.8443: UDP, length 14, quic initial v1 dcid 01020304 scid aabb",
    );
    line(
        &datagram(443, b"\xa0\xfa\xce\xb0\x02\x00\x00"),
        "IP 192.0.2.1.31337 > 10.200.1.1.443: UDP, length 7, quic handshake mvfst",
    );
    line(
        &datagram(443, b"\xe0\x6b\x33\x43\xcf\x00\x00"),
        "IP 192.0.2.1.31337 > 10.200.1.1.443: UDP, length 7, quic 0-rtt v2",
    );
    let short = b"\x40\x01\x02\x03\x04\x05\x06\x07\x08\x09";
    line(
        &datagram(443, short),
        "IP 192.0.2.1.31337 > 10.200.1.1.443: UDP, length 10, quic short dcid 0102030405060708",
    );
    // Only the port tells that this is a short header.
    line(&datagram(8443, short), "IP 192.0.2.1.31337 > 10.200.1.1.8443: UDP, length 10");
    line(
        &datagram(443, b"\xc0\0\0\0\x01\xff\x01"),
        "IP 192.0.2.1.31337 > 10.200.1.1.443: UDP, length 7, quic initial v1 [|quic]",
    );
}

/// An error about a packet that the balancer has encapsulated tells both flows.
#[test]
fn errors_quote_encapsulated_packets() {
    let inner = [ip4(17, 8, &[]), udp(4433, 0)].concat();
    let outer = [ip4(4, inner.len(), &[]), inner].concat();
    let message = [&[3, 4, 0, 0, 0, 0, 5, 0], outer.as_slice()].concat();
    line(
        &frame(0x0800, &[&ip4(1, message.len(), &[]), &message]),
        "IP 192.0.2.1 > 10.200.1.1: ICMP 10.200.1.1 unreachable - need to frag (mtu 1280), length 56, \
         quoting IP 192.0.2.1 > 10.200.1.1: IP 192.0.2.1.31337 > 10.200.1.1.4433: udp",
    );
}

#[test]
fn gue_shows_the_packet_inside() {
    let inner = [ip4(17, 8, &[]), udp(4433, 0)].concat();
    let flow = "IP 192.0.2.1.31337 > 10.200.1.1.4433: UDP, length 0";
    let sent = |port: u16, header: &[u8], inside: &[u8]| {
        let payload = [header, inside].concat();
        let udp = udp(port, payload.len());
        frame(0x0800, &[&ip4(17, udp.len() + payload.len(), &[]), &udp, &payload])
    };
    let said = |port: u16, header: &[u8], expected: &str| {
        let outer = format!("IP 192.0.2.1.31337 > 10.200.1.1.{port}: ");
        line(&sent(port, header, &inner), &(outer + expected));
    };
    said(6080, &[], &format!("GUE variant 1: {flow}"));
    said(6081, &[], "UDP, length 28");
    said(6080, &[0, 4, 0, 0], &format!("GUE variant 0: {flow}"));
    let hops = |line: &str| format!("GUE variant 0, next hop {line}: {flow}");
    said(19523, &[1, 4, 0, 0, 0, 0, 0, 0], &hops("0 of 0"));
    let two = [3, 4, 0, 0, 0, 0, 1, 2, 10, 0, 0, 1, 10, 0, 0, 2];
    said(19523, &two, &hops("1 of 2 (10.0.0.1, 10.0.0.2)"));
    let with_fields = [1, 4, 0x80, 0, 0, 0, 0, 0];
    let what = "flags 0x8000, 4 bytes of fields or private data";
    said(19523, &with_fields, &format!("GUE variant 0, {what}: {flow}"));
    said(19523, &[0x20, 7, 0, 0], "GUE variant 0, control message 7, length 28");
    let what = "28 bytes of fields or private data, bad header length 64 > 32";
    said(19523, &[15, 4, 0, 0], &format!("GUE variant 0, {what}"));
    said(19523, &[0, 47, 0, 0], "GUE variant 0: GRE, length 28");
    said(6080, &[0x80], "GUE of an unknown variant, 0x80, length 29");
    line(&sent(6080, &[], &[]), "IP 192.0.2.1.31337 > 10.200.1.1.6080: [|gue]");

    // A router's error, about as much of it as the router quotes.
    let quoted = &sent(6080, &[], &inner)[14..];
    let message = |quoted: &[u8]| {
        let message = [&[3, 3, 0, 0, 0, 0, 0, 0], quoted].concat();
        frame(0x0800, &[&ip4(1, message.len(), &[]), &message])
    };
    let error = |length: usize, flow: &str| {
        format!(
            "IP 192.0.2.1 > 10.200.1.1: ICMP 10.200.1.1 udp port 6080 unreachable, length {length}, quoting \
             IP 192.0.2.1.31337 > 10.200.1.1.6080: {flow}"
        )
    };
    let inside = "GUE variant 1: IP 192.0.2.1.31337 > 10.200.1.1.4433: udp";
    line(&message(quoted), &error(64, inside));
    line(&message(&quoted[..28]), &error(36, "udp"));

    let ports = LineOptions { gue: GuePorts::only(7), no_time: true, ..LineOptions::default() };
    let to = |port| lines(ports, &packet(&sent(port, &[], &inner)));
    assert!(to(7).contains("GUE variant 1: ") && !to(6080).contains("GUE"), "{}", to(7));
}

#[test]
fn names_with_control_characters_do_no_harm() {
    let mut packet = packet(&frame(0x0800, &[]));
    packet.interface = "e\x1b[2J\n".to_owned();
    let line = lines(LineOptions { interface: true, ..LineOptions::default() }, &packet);
    assert_eq!(line, "01:29:59.000000042 e\\u{1b}[2J\\n [|ip]\n");
}

/// Frames with valid headers in any order, and any bytes between them.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let ether_type = prop_oneof![
        Just(0x0800_u16),
        Just(0x86dd),
        Just(0x0806),
        Just(0x8100),
        Just(0x88a8),
        any::<u16>()
    ];
    let header = prop_oneof![
        (
            prop_oneof![
                Just(1_u8),
                Just(4),
                Just(6),
                Just(17),
                Just(41),
                Just(50),
                Just(51),
                any::<u8>()
            ],
            0_usize..2000
        )
            .prop_map(|(protocol, length)| ip4(protocol, length, &[])),
        (
            prop_oneof![
                Just(58_u8),
                Just(6),
                Just(17),
                Just(44),
                Just(0),
                Just(43),
                Just(4),
                Just(41)
            ],
            any::<u16>()
        )
            .prop_map(|(next, length)| {
                let mut bytes = vec![0x60, 0, 0, 0];
                bytes.extend(length.to_be_bytes());
                bytes.extend([next, 64]);
                bytes.extend([0xfc; 32]);
                bytes
            }),
        vec(any::<u8>(), 0..64),
        (0_u8..20, 0_u8..20).prop_map(|(kind, code)| vec![kind, code, 0, 0, 0, 0, 5, 0]),
        (128_u8..150, 0_u8..5).prop_map(|(kind, code)| vec![kind, code, 0, 0, 0, 0, 5, 0]),
        Just(vec![0x08, 0x00]),
        prop_oneof![Just(6080_u16), Just(19523)].prop_map(|port| udp(port, 1000)),
        (0_u8..0x42, prop_oneof![Just(4_u8), Just(41), any::<u8>()])
            .prop_map(|(first, protocol)| vec![first, protocol, 0, 0, 0, 0, 1, 2]),
        Just(vec![0, 1, 8, 0, 6, 4, 0, 1]),
    ];
    (ether_type, vec(header, 0..12))
        .prop_map(|(ether_type, headers)| frame(ether_type, &[&headers.concat()]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_bytes_do_harm(
        bytes in prop_oneof![vec(any::<u8>(), 0..128), frames()],
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        length in prop_oneof![Just(0_u32), any::<u32>(), 0_u32..2000],
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = bytes;
        for (at, value) in flips {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
        }
        for data in [&bytes[..], &bytes[..cut.index(bytes.len() + 1)]] {
            let packet = Packet { length, ..packet(data) };
            let line = describe(&packet);
            prop_assert!(!line.is_empty());
            prop_assert!(line.chars().all(|letter| letter == ' ' || letter.is_ascii_graphic()), "{:?}", line);
        }
    }
}

/// Even if nested headers fill the frame, the line and the stack stay short.
#[test]
fn nesting_ends() {
    let deep = ip4(4, 9000, &[]).repeat(400);
    let said = describe(&packet(&frame(0x0800, &[&deep])));
    assert!(said.ends_with("[more packets inside]") && said.len() < 1000, "{said}");
    let tags = [0, 1, 0x81, 0].repeat(2000);
    let said = describe(&packet(&frame(0x8100, &[&tags])));
    assert!(said.ends_with("[more tags]") && said.len() < 1000, "{said}");
    let mut extensions = vec![0x60, 0, 0, 0, 0x20, 0, 60, 64];
    extensions.extend([0xfc; 32]);
    extensions.extend([60, 0, 1, 4, 0, 0, 0, 0].repeat(1000));
    let said = describe(&packet(&frame(0x86dd, &[&extensions])));
    assert!(said.ends_with("[more extension headers]") && said.len() < 1000, "{said}");
}
