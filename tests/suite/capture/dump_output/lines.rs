//! The lines that `lbctl dump` prints, compared with tcpdump's lines for the same file.

use fastrand::Rng;
use l4lb::capture::Packet;
use l4lb::capture::Sink as _;
use l4lb::capture::decode::Bytes;
use l4lb::capture::decode::LineOptions;
use l4lb::capture::decode::Lines;
use l4lb::capture::decode::Style;

use super::packet;
use super::read_by;
use super::segments::ACK;
use super::segments::CLIENT;
use super::segments::CLIENT6;
use super::segments::PSH;
use super::segments::SYN;
use super::segments::SYN_OPTIONS;
use super::segments::TCP;
use super::segments::VIP;
use super::segments::VIP6;
use super::segments::balanced;
use super::segments::segment;
use super::written;
use crate::fixtures::frame::DESTINATION_OPTIONS;
use crate::fixtures::frame::Frame;
use crate::fixtures::frame::HOP_BY_HOP;
use crate::fixtures::frame::eth;
use crate::fixtures::setting;

const RANDOM: usize = 5000;

/// How a line compares with tcpdump's.
#[derive(Clone, Copy, Debug)]
enum Expected {
    Same,
    /// The same, and this behind it, which tcpdump says only with `-v`.
    And(&'static str),
}

use Expected::And;
use Expected::Same;

fn ours(packets: &[Packet]) -> Vec<String> {
    ours_with(LineOptions::default(), packets).lines().map(str::to_owned).collect()
}

fn ours_with(options: LineOptions, packets: &[Packet]) -> String {
    let mut lines = Lines::new(Vec::new(), options);
    for packet in packets {
        lines.packet(packet).expect("memory takes it");
    }
    String::from_utf8(lines.into_inner()).expect("text")
}

/// tcpdump's lines without its hex dumps of what it does not know, and with one space where it prints two:
/// at what was cut off.
fn tcpdumps(packets: &[Packet]) -> Vec<String> {
    let text = read_by("tcpdump", &["-n", "-S", "--nano", "-r", "-"], &written(packets));
    let lines = text.lines().filter(|line| !line.starts_with('\t'));
    lines
        .map(|line| line.replace(":  ", ": ").replace("  [|", " [|").replace("[ [|tcp]", "[|tcp]"))
        .collect()
}

fn tcp4(flags: u8, options: &[u8], data: &[u8]) -> Frame {
    eth().ip4(CLIENT, VIP).raw(TCP).data(&segment(flags, 9, options, data))
}

fn quoted4() -> Frame {
    eth().ip4(VIP, CLIENT).udp(4433, 31337).data(&[0; 30])
}

fn quoted6() -> Frame {
    eth().ip6(VIP6, CLIENT6).raw(TCP).data(&segment(SYN, 0, &[], &[]))
}

const QUOTED4: &str = ", quoting IP 10.200.1.1.4433 > 192.0.2.1.31337: udp";
const QUOTED6: &str = ", quoting IP6 fc00:1::1.31337 > 2001:db8::1.4433: tcp";

fn forms() -> Vec<(&'static str, Frame, Expected)> {
    let ip4 = || eth().ip4(CLIENT, VIP);
    let ip6 = || eth().ip6(CLIENT6, VIP6);
    let inner4 = || ip4().udp(31337, 4433).data(&[0; 12]);
    let inner6 = || ip6().raw(TCP).data(&segment(SYN, 0, &[], &[]));
    let arp = |operation: u8, target_mac: [u8; 6]| {
        let mut bytes = vec![0, 1, 8, 0, 6, 4, 0, operation, 2, 0, 0, 0, 0, 1, 10, 0, 0, 2];
        bytes.extend(target_mac);
        bytes.extend([10, 0, 0, 1]);
        eth().ether_type(0x0806).data(&bytes)
    };
    let error4 =
        |kind, code, rest| eth().ip4("10.0.0.9", VIP).icmp(kind, code, rest).carrying(&quoted4());
    let error6 =
        |kind, code, rest| eth().ip6("fc00::9", VIP6).icmp(kind, code, rest).carrying(&quoted6());
    let target = "fe80::1".parse::<std::net::Ipv6Addr>().expect("an address").octets();
    let mut forms = vec![
        ("syn", tcp4(SYN, SYN_OPTIONS, &[]), Same),
        ("syn ack", tcp4(SYN | ACK, b"\x02\x04\x05\xb4", &[]), Same),
        ("data", tcp4(PSH | ACK, &[], &[0; 10]), Same),
        ("ack", tcp4(ACK, b"\x01\x01\x08\x0a\0\0\0\x01\0\0\0\x02", &[]), Same),
        ("no flags", tcp4(0, &[], &[]), Same),
        ("all flags", tcp4(0xff, &[], &[0; 3]), Same),
        ("sack", tcp4(ACK, b"\x05\x12\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04", &[]), Same),
        ("fast open, asked for", tcp4(SYN, b"\x22\x02\x01\x01", &[]), Same),
        ("fast open", tcp4(SYN, b"\x22\x0acookie12", &[]), Same),
        ("a server's id", tcp4(ACK, b"\xb7\x06abcd", &[]), Same),
        ("tcp header too short", tcp4(ACK, &[], &[0; 4]).patch_ip(32, &[0x30]), Same),
        ("tcp header too long", tcp4(ACK, &[], &[0; 4]).patch_ip(32, &[0xf0]), Same),
        ("tcp, nothing of it", ip4().raw(TCP), Same),
        ("tcp6", inner6(), Same),
        ("udp", inner4(), Same),
        ("udp, no data", ip4().udp(31337, 4433), Same),
        ("udp6", ip6().udp(31337, 4433).data(&[0; 12]), Same),
        ("udp, too long", inner4().patch_ip(24, &[0x0f, 0xa0]), Same),
        ("udp, too short", inner4().patch_ip(24, &[0, 3]), Same),
        ("udp, hardly any", ip4().raw(17).data(&[1, 2, 3, 4, 5]), Same),
        ("padding", inner4().pad(20), Same),
        ("ping", ip4().ping(3, 4).data(&[0; 56]), Same),
        ("pong", ip4().pong(3, 4).data(&[0; 56]), Same),
        ("ping6", ip6().ping(3, 4).data(&[0; 56]), Same),
        ("pong6", ip6().pong(3, 4).data(&[0; 56]), Same),
        ("mtu", error4(3, 4, [0, 0, 5, 0]), And(QUOTED4)),
        ("mtu unknown", error4(3, 4, [0; 4]), And(QUOTED4)),
        ("time exceeded", error4(11, 0, [0; 4]), And(QUOTED4)),
        ("reassembly", error4(11, 1, [0; 4]), And(QUOTED4)),
        ("redirect", error4(5, 1, [10, 0, 0, 3]), And(QUOTED4)),
        ("parameter problem", error4(12, 0, [20, 0, 0, 0]), And(QUOTED4)),
        ("source quench", error4(4, 0, [0; 4]), And(QUOTED4)),
        ("icmp of no known type", ip4().icmp(100, 0, [0; 4]), Same),
        ("mtu6", error6(2, 0, [0, 0, 5, 0]), And(QUOTED6)),
        ("time exceeded 6", error6(3, 0, [0; 4]), And(QUOTED6)),
        ("reassembly 6", error6(3, 1, [0; 4]), And(QUOTED6)),
        ("parameter problem 6", error6(4, 1, [0, 0, 0, 40]), And(QUOTED6)),
        ("solicitation", ip6().icmp(135, 0, [0; 4]).data(&target), Same),
        ("advertisement", ip6().icmp(136, 0, [0x60, 0, 0, 0]).data(&target), Same),
        ("router solicitation", ip6().icmp(133, 0, [0; 4]), Same),
        ("router advertisement", ip6().icmp(134, 0, [64, 0, 7, 8]).data(&[0; 8]), Same),
        ("icmp6 of no known type", ip6().icmp(100, 0, [0; 4]).data(&[0; 8]), Same),
        ("arp request", arp(1, [0; 6]), Same),
        ("arp request for a known one", arp(1, [2, 0, 0, 0, 0, 5]), Same),
        ("arp request, padded", arp(1, [0; 6]).pad(18), Same),
        ("arp reply", arp(2, [2, 0, 0, 0, 0, 5]), Same),
        ("4 in 4", eth().ip4("172.16.1.2", "10.0.0.1").raw(4).carrying(&inner4()), Same),
        ("6 in 4", eth().ip4("172.16.1.2", "10.0.0.1").raw(41).carrying(&inner6()), Same),
        ("4 in 6", eth().ip6("fc00::2", "fc00:2::1").raw(4).carrying(&inner4()), Same),
        ("6 in 6", eth().ip6("fc00::2", "fc00:2::1").raw(41).carrying(&inner6()), Same),
        ("first fragment", inner4().fragment(0, true), And(" (frag id 1, 20@0+)")),
        ("second fragment", inner4().fragment(185, true), And(" (frag id 1, 20@1480+)")),
        ("last fragment", inner4().fragment(370, false), And(" (frag id 1, 20@2960)")),
        ("first fragment 6", inner6().fragment(0, true), Same),
        ("second fragment 6", inner6().fragment(185, true), Same),
        ("atomic fragment 6", inner6().fragment(0, false), Same),
        ("hop by hop", inner6().extension(HOP_BY_HOP, 8), Same),
        ("destination options", ip6().udp(31337, 4433).extension(DESTINATION_OPTIONS, 16), Same),
        ("esp", ip4().raw(50).data(&[0, 0, 0, 7, 0, 0, 0, 9, 1, 2, 3, 4]), Same),
        ("no known protocol", ip4().raw(253).data(&[0; 20]), Same),
        ("no next header", ip6().raw(59), Same),
        ("total length of 0", inner4().ip_length(0), Same),
        ("more claimed than there is", inner4().ip_length(500), Same),
        ("header length of 12", inner4().patch_ip(0, &[0x43]), Same),
        ("version 5", inner4().patch_ip(0, &[0x55]), Same),
        ("version 4 for 6", inner6().patch_ip(0, &[0x40]), Same),
    ];
    for code in [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16] {
        forms.push(("unreachable", error4(3, code, [0; 4]), And(QUOTED4)));
    }
    for code in [0, 2, 3, 4] {
        forms.push(("unreachable 6", error6(1, code, [0; 4]), And(QUOTED6)));
    }
    forms
}

#[test]
fn lines_say_what_tcpdump_says() {
    let forms = forms();
    let packets: Vec<Packet> =
        (0..).zip(&forms).map(|(number, (_, frame, _))| packet(number, &frame.bytes())).collect();
    let (ours, theirs) = (ours(&packets), tcpdumps(&packets));
    assert_eq!(ours.len(), packets.len());
    assert_eq!(theirs.len(), packets.len(), "tcpdump: {theirs:#?}");
    let mut differences = Vec::new();
    for (((name, _, expected), ours), theirs) in forms.iter().zip(&ours).zip(&theirs) {
        let addition = match expected {
            Same => "",
            And(addition) => addition,
        };
        if ours.strip_suffix(addition) != Some(theirs) {
            differences.push(format!("{name}:\n  here    {ours}\n  tcpdump {theirs}{addition}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Well-formed packets with any flags, options and lengths, also inside of one another.
#[test]
fn lines_of_random_packets_are_those_of_tcpdump() {
    let seed: u64 = setting("LB_TEST_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("LB_TEST_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let packets: Vec<Packet> = (0..)
        .take(RANDOM)
        .map(|number| {
            let frame = balanced(&mut rng).bytes();
            let mut packet = packet(number, &frame);
            // Now and then, only part of it was asked for; what options tcpdump still shows then is its own matter.
            if rng.u8(..4) == 0 {
                packet.data.truncate(rng.usize(1..53));
            }
            packet
        })
        .collect();
    let mut differences = Vec::new();
    let theirs = tcpdumps(&packets);
    assert_eq!(theirs.len(), packets.len());
    for (packet, (ours, theirs)) in packets.iter().zip(ours(&packets).iter().zip(&theirs)) {
        if ours != theirs {
            differences
                .push(format!("{}\n  here    {ours}\n  tcpdump {theirs}", packet.data.len()));
        }
    }
    assert!(
        differences.is_empty(),
        "{} differ:\n{}",
        differences.len(),
        differences[..differences.len().min(20)].join("\n")
    );
}

/// tcpdump's options for what a line shows: the same packets, the same text.
#[test]
fn options_show_what_tcpdump_shows() {
    let ip4 = || eth().ip4(CLIENT, VIP);
    let ip6 = || eth().ip6(CLIENT6, VIP6);
    let text = b"GET / HTTP/1.1\r\nHost: \x1b[2J\xff\t~\r\n\r\n";
    let frames = [
        tcp4(SYN, SYN_OPTIONS, &[]),
        tcp4(PSH | ACK, &[], text),
        ip4().udp(31337, 4433).data(&[7; 32]),
        ip6().udp(31337, 4433).data(&[0; 12]),
        ip6().raw(TCP).data(&segment(SYN, 0, &[], &[])),
        eth().vlan(100).ip4(CLIENT, VIP).udp(31337, 4433).data(&[1; 6]),
    ];
    let packets: Vec<Packet> =
        (0..).zip(&frames).map(|(number, frame)| packet(number, &frame.bytes())).collect();
    let with = |change: fn(&mut LineOptions)| {
        let mut options = LineOptions { no_time: true, ..LineOptions::default() };
        change(&mut options);
        options
    };
    let mut differences = Vec::new();
    for (arguments, options) in [
        (&[][..], with(|_| {})),
        (&["-e"], with(|options| options.style = Style { link: true, ..Style::default() })),
        (&["-q"], with(|options| options.style = Style { quick: true, ..Style::default() })),
        (
            &["-q", "-e"],
            with(|options| options.style = Style { quick: true, link: true, ..Style::default() }),
        ),
        (&["-v"], with(|options| options.style = Style { verbose: 1, ..Style::default() })),
        (
            &["-v", "-e"],
            with(|options| options.style = Style { verbose: 1, link: true, ..Style::default() }),
        ),
        (&["-vv"], with(|options| options.style = Style { verbose: 2, ..Style::default() })),
        (&["-x"], with(|options| options.bytes = Some(Bytes::Hex))),
        (&["-X"], with(|options| options.bytes = Some(Bytes::HexAndAscii))),
        (&["-A"], with(|options| options.bytes = Some(Bytes::Ascii))),
    ] {
        for packet in &packets {
            let packet = std::slice::from_ref(packet);
            let base = ["-n", "-S", "-t", "-r", "-"];
            let theirs = read_by("tcpdump", &[arguments, &base].concat(), &written(packet));
            // VLAN tags are shown without -e, too. tcpdump shows the bytes of what it does not know.
            let is_tagged = packet[0].data[12..14] == [0x81, 0];
            if is_tagged && !options.style.link {
                continue;
            }
            let has_bytes = options.bytes.is_some();
            let unasked = |line: &&str| has_bytes || !line.starts_with('\t');
            let lines = theirs.lines().filter(unasked).map(|line| format!("{line}\n"));
            let theirs = lines.collect::<Vec<_>>().concat();
            let ours = ours_with(options, packet);
            if ours != theirs {
                differences.push(format!("{arguments:?}\n{ours}\ntcpdump:\n{theirs}"));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
