//! What decapsulation accepts and what it refuses: outer sources, inner destinations, kinds of packet.

mod follow;
mod gue;
mod layout;
mod mss;
mod mss_kills;
mod relay;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::fixtures::Capture;
use crate::fixtures::Direction;
use crate::fixtures::Host;
use crate::fixtures::Lbctl;
use crate::fixtures::UPLINK;
use crate::fixtures::frame::DESTINATION_OPTIONS;
use crate::fixtures::frame::Frame;
use crate::fixtures::frame::eth;
use crate::fixtures::json as json_of;
use crate::fixtures::send_frame;
use crate::fixtures::wait_until;

/// The host's own addresses, as [`Host`] has them.
const OWN: &str = "172.31.0.2";
const OWN6: &str = "fc00:31::2";
const VIP: &str = "10.200.1.1";
const VIP6: &str = "fc00:1::1";
const CLIENT: &str = "192.0.2.7";
const CLIENT6: &str = "2001:db8::7";
/// As balancers have them.
const BALANCER: &str = "172.16.1.2";
const BALANCER6: &str = "100::1:2";

const FROM: [&str; 4] = ["--from", "172.16.0.0/16", "--from", "100::/64"];

/// Something that takes no longer than it has to.
const SOON: Duration = Duration::from_secs(10);

/// A host that has the VIPs on its loopback interface and decapsulates.
#[track_caller]
fn real(arguments: &[&str]) -> Host {
    let host = Host::new();
    host.ns.shell(&format!(
        "ip link set lo up; ip addr add {VIP}/32 dev lo; ip addr add {VIP6}/128 dev lo nodad"
    ));
    host.lbctl().ok(&[&["decap", "attach", UPLINK], arguments].concat());
    host
}

#[track_caller]
fn status(lbctl: &Lbctl<'_>) -> Value {
    json_of(&lbctl.ok(&["decap", "status", "--json"]))
}

#[track_caller]
fn counts(lbctl: &Lbctl<'_>) -> BTreeMap<String, u64> {
    let status = status(lbctl);
    let results = status["results"].as_object().expect("a map").iter();
    let packets = |count: &Value| count["packets"].as_u64().expect("a number");
    results.map(|(name, count)| (name.clone(), packets(count))).collect()
}

/// Sends a frame, and returns what decapsulation did with it.
#[track_caller]
fn result(host: &Host, frame: &[u8]) -> String {
    let before = counts(&host.lbctl());
    send_frame(&host.ns, "nobody", frame);
    let mut grown = Vec::new();
    let counted = wait_until(SOON, || {
        let now = counts(&host.lbctl());
        grown = now.into_iter().filter(|(name, count)| before.get(name) != Some(count)).collect();
        !grown.is_empty()
    });
    assert!(counted && grown.len() == 1, "{grown:?}");
    grown.remove(0).0
}

/// A frame of Ethernet, with a datagram inside.
fn datagram(source: &str, destination: &str) -> Frame {
    let frame = if source.contains(':') {
        eth().ip6(source, destination)
    } else {
        eth().ip4(source, destination)
    };
    frame.udp(40_000, 53).data(b"question")
}

fn ip(source: &str, destination: &str) -> Frame {
    if source.contains(':') {
        eth().ip6(source, destination)
    } else {
        eth().ip4(source, destination)
    }
}

trait Around {
    /// With a packet inside.
    fn around(self, inner: &Frame) -> Self;
}

impl Around for Frame {
    fn around(self, inner: &Frame) -> Self {
        self.raw(if inner.is_v6() { 41 } else { 4 }).carrying(inner)
    }
}

/// From a balancer to the host, with this inside.
fn outer(inner: &Frame) -> Frame {
    ip(BALANCER, OWN).around(inner)
}

/// What a host's kernel gets to see.
struct Kernel(Capture);

impl Kernel {
    #[track_caller]
    fn of(host: &Host) -> Self {
        Self(Capture::start(&host.ns, UPLINK))
    }

    /// Whether it got a packet, as the only one since the last call; headers of Ethernet left out.
    #[track_caller]
    fn got(&mut self, host: &Host, expected: Option<&[u8]>) {
        static MARKS: AtomicU16 = AtomicU16::new(1);
        let mark =
            eth().ip4("192.0.2.99", "192.0.2.98").udp(1, MARKS.fetch_add(1, Ordering::Relaxed));
        let mark = mark.bytes();
        send_frame(&host.ns, "nobody", &mark);
        self.0.wait_for(|frame| frame.bytes.get(14..) == mark.get(14..));
        let frames = self.0.frames().iter();
        let about = [CLIENT, CLIENT6].map(ip_bytes);
        let seen: Vec<_> = frames
            .take_while(|frame| frame.bytes.get(14..) != mark.get(14..))
            .filter(|frame| frame.direction == Direction::In)
            .filter(|frame| {
                about
                    .iter()
                    .any(|address| frame.bytes.windows(address.len()).any(|at| at == address))
            })
            .map(|frame| frame.bytes[14..].to_vec())
            .collect();
        assert_eq!(seen, expected.map(<[u8]>::to_vec).into_iter().collect::<Vec<_>>());
        // What was seen is over.
        *self = Self::of(host);
    }
}

fn ip_bytes(address: &str) -> Vec<u8> {
    match address.parse().expect("an address") {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

#[test]
fn only_balancers_may_send() {
    let host = real(&FROM);
    let inner = datagram(CLIENT, VIP);
    for (source, own, expected) in [
        (BALANCER, OWN, "ipv4_in_ipv4"),
        ("172.16.255.255", OWN, "ipv4_in_ipv4"),
        ("172.17.0.0", OWN, "unknown_source"),
        (CLIENT, OWN, "unknown_source"),
        (BALANCER6, OWN6, "ipv4_in_ipv6"),
        ("100::ffff", OWN6, "ipv4_in_ipv6"),
        ("100:0:0:1::1", OWN6, "unknown_source"),
        (CLIENT6, OWN6, "unknown_source"),
    ] {
        assert_eq!(result(&host, &ip(source, own).around(&inner).bytes()), expected, "{source}");
    }
    let mut kernel = Kernel::of(&host);
    send_frame(&host.ns, "nobody", &ip(CLIENT, OWN).around(&inner).bytes());
    kernel.got(&host, None);
    assert_eq!(status(&host.lbctl())["from"], json!(["172.16.0.0/16", "100::/64"]));

    // A prefix of IPv6, however short, is none of IPv4.
    host.lbctl().ok(&["decap", "attach", UPLINK, "--from", "::/0"]);
    assert_eq!(result(&host, &outer(&inner).bytes()), "unknown_source");
    assert_eq!(result(&host, &ip(CLIENT6, OWN6).around(&inner).bytes()), "ipv4_in_ipv6");
    assert_eq!(status(&host.lbctl())["from"], json!(["::/0"]));
    // Anybody.
    let opened = |arguments: &[&str]| {
        let output = host.lbctl().ok(&[&["decap", "attach", UPLINK], arguments].concat());
        output.stderr.lines().find(|line| line.contains("anybody may send")).map(str::to_owned)
    };
    assert_eq!(opened(&FROM), None);
    let warning = opened(&[]).expect("a warning");
    assert!(
        warning.contains("WARN")
            && warning.contains("interface uplink is attached without --from")
            && warning.contains("until now, only 172.16.0.0/16, 100::/64 could"),
        "{warning}"
    );
    let again = opened(&[]).expect("a warning");
    assert!(!again.contains("until now"), "{again}");
    for frame in [ip(CLIENT, OWN), ip(CLIENT6, OWN6)] {
        assert!(result(&host, &frame.around(&inner).bytes()).starts_with("ipv4_in"));
    }
    assert_eq!(status(&host.lbctl())["from"], json!([]));
    // As long as it is anybody's for one of the interfaces.
    host.ns.shell("ip link add second type veth peer name other; ip link set second up");
    host.lbctl().ok(&[&["decap", "attach", UPLINK][..], &FROM].concat());
    host.lbctl().ok(&["decap", "attach", "second", "--address", "10.8.8.8"]);
    assert!(result(&host, &ip(CLIENT, OWN).around(&inner).bytes()).starts_with("ipv4_in"));
    host.lbctl().ok(&["decap", "detach", "second"]);
    assert_eq!(result(&host, &ip(CLIENT, OWN).around(&inner).bytes()), "unknown_source");
}

#[test]
fn only_vips_are_reached() {
    let host = real(&FROM);
    host.ns.shell("ip route add local 10.201.0.0/16 dev lo");
    let mut kernel = Kernel::of(&host);
    let tried = |destination: &str| {
        let source = if destination.contains(':') { CLIENT6 } else { CLIENT };
        result(&host, &outer(&datagram(source, destination)).bytes())
    };
    // A service of the real that is no VIP, its loopback, another host, everybody.
    for forged in [
        OWN,
        "127.0.0.1",
        "172.31.0.9",
        "224.0.0.1",
        "255.255.255.255",
        OWN6,
        "::1",
        "fc00:31::9",
        "ff02::1",
    ] {
        assert_eq!(tried(forged), "unknown_inner_destination", "{forged}");
    }
    kernel.got(&host, None);
    for vip in [VIP, VIP6] {
        assert!(tried(vip).contains("_in_ipv4"), "{vip}");
    }
    // Routed to the host as its own came later: what was attached once does not know.
    assert_eq!(tried("10.201.7.7"), "unknown_inner_destination");
    let table = host.lbctl().ok(&["decap", "status"]).stdout;
    let outdated = "only 'lbctl decap serve' follows them:\n+ inner destination 10.201.0.0/16";
    assert!(table.contains(outdated), "{table}");
    host.lbctl().ok(&[&["decap", "attach", UPLINK][..], &FROM].concat());
    assert_eq!(tried("10.201.7.7"), "ipv4_in_ipv4");
    assert_eq!(
        status(&host.lbctl())["to"],
        json!(["10.200.1.1/32", "10.201.0.0/16", "fc00:1::1/128"])
    );

    // Asked for, it is that alone.
    host.lbctl().ok(&["decap", "attach", UPLINK, "--to", "10.201.7.0/24"]);
    assert_eq!(tried("10.201.7.7"), "ipv4_in_ipv4");
    for other in [VIP, VIP6, "10.201.8.1"] {
        assert_eq!(tried(other), "unknown_inner_destination", "{other}");
    }
    let table = host.lbctl().ok(&["decap", "status"]).stdout;
    for row in [
        "outer source       anybody",
        "inner destination  10.201.7.0/24   --to",
        "outer destination  172.31.0.2      host's addresses",
    ] {
        assert!(table.contains(row), "'{row}' in {table}");
    }
}

#[test]
fn no_client_has_such_an_address() {
    let host = real(&FROM);
    host.ns.shell("ip link add other type veth peer name another; ip addr add 10.99.0.1/24 dev other; ip addr add fc00:99::1/64 dev other nodad");
    host.lbctl().ok(&[&["decap", "attach", UPLINK][..], &FROM].concat());
    let tried = |source: &str| {
        let vip = if source.contains(':') { VIP6 } else { VIP };
        result(&host, &outer(&datagram(source, vip)).bytes())
    };
    for forged in [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "127.255.0.1",
        "224.0.0.1",
        "239.1.2.3",
        "255.255.255.255",
        OWN,
        VIP,
        "10.99.0.1",
        "::",
        "::1",
        "::192.0.2.1",
        "ff02::1",
        "fe80::1",
        "febf::1",
        OWN6,
        VIP6,
        "fc00:99::1",
    ] {
        assert_eq!(tried(forged), "bad_inner_source", "{forged}");
    }
    // Nor one that is only routed to the host as its own: with IPv6, no kernel would refuse it.
    for fine in ["10.201.7.7", "10.202.0.1", "fc00:1:5::7"] {
        assert!(tried(fine).contains("_in_ipv4"), "{fine}");
    }
    host.ns.shell("ip route add local 10.201.0.0/16 dev lo; ip route add local 10.202.0.1/32 dev lo; ip route add local fc00:1:5::/64 dev lo");
    host.lbctl().ok(&[&["decap", "attach", UPLINK][..], &FROM].concat());
    for forged in ["10.201.7.7", "10.202.0.1", "fc00:1:5::7"] {
        assert_eq!(tried(forged), "bad_inner_source", "{forged}");
    }
    for fine in ["10.202.0.2", "fc00:1:4::7", "fc00:1:6::7"] {
        assert!(tried(fine).contains("_in_ipv4"), "{fine}");
    }
    host.ns
        .shell("ip route del local fc00:1:5::/64 dev lo; ip route del local 10.201.0.0/16 dev lo");
    host.lbctl().ok(&[&["decap", "attach", UPLINK][..], &FROM].concat());
    assert!(tried("fc00:1:5::7").contains("_in_ipv4"));
    // What looks like IPv4 there would be taken for it.
    let mapped = datagram(CLIENT6, VIP6).patch_ip(8, &ip_bytes("::ffff:192.0.2.1"));
    assert_eq!(result(&host, &outer(&mapped).bytes()), "malformed");
    // Routers send ICMP errors with link-local addresses, too; and what was reserved once is in use.
    for fine in [
        CLIENT,
        "169.254.1.1",
        "240.0.0.1",
        "126.1.1.1",
        "10.99.0.2",
        CLIENT6,
        "fec0::1",
        "fe00::1",
        "64:ff9b::1",
    ] {
        assert!(tried(fine).contains("_in_ipv4"), "{fine}");
    }
}

/// However wide `--to` is, and although the host has all of these.
#[test]
fn what_no_router_brings_is_not_reached() {
    let host = real(&["--to", "0.0.0.0/0", "--to", "::/0"]);
    host.ns.shell("ip addr add 169.254.1.1/32 dev lo");
    let mut kernel = Kernel::of(&host);
    let tried = |destination: &str| {
        let source = if destination.contains(':') { CLIENT6 } else { CLIENT };
        result(&host, &outer(&datagram(source, destination)).bytes())
    };
    for nobody in [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "127.255.0.1",
        "169.254.1.1",
        "224.0.0.1",
        "239.1.2.3",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "febf::1",
        "ff02::1",
    ] {
        assert_eq!(tried(nobody), "unknown_inner_destination", "{nobody}");
    }
    kernel.got(&host, None);
    for vip in [VIP, VIP6] {
        assert!(tried(vip).contains("_in_ipv4"), "{vip}");
    }
    let refused = host.lbctl().exits(1, &["decap", "attach", UPLINK, "--to", "fe80::/10"]);
    assert!(refused.stderr.contains("--to: fe80::/10: link-local"), "{}", refused.stderr);
}

/// Out of the outer header, a packet to everybody on the link would be one to this host.
#[test]
fn frames_to_many_are_left_alone() {
    let host = real(&FROM);
    let inner = datagram(CLIENT, VIP);
    let mut kernel = Kernel::of(&host);
    for group in [[0xff; 6], [0x01, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]] {
        for (source, own) in [(BALANCER, OWN), (BALANCER6, OWN6)] {
            let frame = ip(source, own).around(&inner).macs([2, 0, 0, 0, 0, 9], group);
            assert_eq!(result(&host, &frame.bytes()), "not_encapsulated", "{group:?}");
            kernel.got(&host, Some(&frame.packet()));
        }
    }
}

/// Kills the mutation "decap without carrying ECN inwards".
#[test]
fn congestion_marks_are_carried_inwards() {
    let host = real(&FROM);
    let mut kernel = Kernel::of(&host);
    // Of the outer header, of the one inside, of what comes out (RFC 6040, section 4.2); behind a code point.
    for (outer, inner, out) in
        [(3, 2, 3), (3, 1, 3), (3, 3, 3), (3, 0, 0), (2, 2, 2), (1, 2, 2), (0, 1, 1), (0, 3, 3)]
    {
        let code_point = 0xb8;
        for (source, own, client, vip) in [
            (BALANCER, OWN, CLIENT, VIP),
            (BALANCER, OWN, CLIENT6, VIP6),
            (BALANCER6, OWN6, CLIENT, VIP),
            (BALANCER6, OWN6, CLIENT6, VIP6),
        ] {
            let inside = datagram(client, vip).class(code_point | inner);
            send_frame(&host.ns, "nobody", &ip(source, own).class(outer).around(&inside).bytes());
            // Its checksum is that of the new header.
            kernel.got(&host, Some(&datagram(client, vip).class(code_point | out).packet()));
        }
    }
}

/// Kills the mutation "decap inner length beyond the frame".
#[test]
fn what_is_inside_must_be_whole() {
    let host = real(&FROM);
    let mut kernel = Kernel::of(&host);
    let inner = datagram(CLIENT, VIP);
    let inner6 = datagram(CLIENT6, VIP6);
    let length = u16::try_from(inner.packet().len()).expect("short");
    let right = outer(&inner).bytes();
    let wrong = u16::from_be_bytes([right[24], right[25]]) ^ 0x0100;
    let malformed = [
        // The outer header is not what its sender wrote.
        outer(&inner).patch_ip(10, &wrong.to_be_bytes()).bytes(),
        outer(&inner6).patch_ip(8, &[1]).bytes(),
        // The packet inside says that it is longer than the outer one, or than its own header is long.
        outer(&inner.clone().ip_length(length + 1)).bytes(),
        outer(&inner.clone().ip_length(19)).bytes(),
        outer(&inner6.clone().ip_length(17)).bytes(),
        outer(&inner.clone().patch_ip(0, &[0x44])).bytes(),
        outer(&inner.clone().patch_ip(0, &[0x4f])).bytes(),
        // Of another version than the outer header says.
        outer(&inner.clone().patch_ip(0, &[0x65])).bytes(),
        outer(&inner6.clone().patch_ip(0, &[0x40])).bytes(),
        // Bytes behind the end of the outer packet are none of the one inside.
        outer(&inner).ip_length(20 + length - 1).bytes(),
        // The outer packet says that it is longer than its frame.
        outer(&inner).ip_length(20 + length + 1).bytes(),
        outer(&inner).cut(14 + 20 + usize::from(length) - 1).bytes(),
        // Not even a header.
        ip(BALANCER, OWN).raw(4).data(&inner.packet()[..19]).bytes(),
        ip(BALANCER, OWN).raw(41).data(&inner6.packet()[..39]).bytes(),
        ip(BALANCER6, OWN6).raw(4).bytes(),
    ];
    for frame in &malformed {
        assert_eq!(result(&host, frame), "malformed", "{}", hex::encode(frame));
    }
    kernel.got(&host, None);
    // Padding is no harm.
    send_frame(&host.ns, "nobody", &outer(&inner).pad(100).bytes());
    kernel.0.wait_for(|frame| {
        frame.bytes.get(14..14 + inner.packet().len()) == Some(&inner.packet()[..])
    });
}

#[test]
fn fragments_are_counted_and_dropped() {
    let host = real(&FROM);
    let inner = datagram(CLIENT, VIP);
    let from = |source: &str, own: &str| ip(source, own).around(&inner);
    for (offset, more) in [(0, true), (1, true), (1, false)] {
        for (frame, expected) in [
            (from(BALANCER, OWN), "outer_fragment"),
            (from(BALANCER6, OWN6), "outer_fragment"),
            (from(BALANCER6, OWN6).extension(DESTINATION_OPTIONS, 8), "not_encapsulated"),
            (from(CLIENT, OWN), "unknown_source"),
            (from(BALANCER, "172.31.0.99"), "other_destination"),
            (from(BALANCER6, "fc00:31::99"), "other_destination"),
            // Of what is not encapsulated.
            (datagram(CLIENT, OWN), "not_encapsulated"),
            (datagram(CLIENT6, OWN6), "not_encapsulated"),
        ] {
            let frame = frame.fragment(offset, more).bytes();
            assert_eq!(result(&host, &frame), expected, "{}", hex::encode(&frame));
        }
    }
    // All there is of a packet (RFC 6946) is no piece of one.
    let atomic = from(BALANCER6, OWN6).fragment(0, false).bytes();
    assert_eq!(result(&host, &atomic), "ipv4_in_ipv6");
    let mut kernel = Kernel::of(&host);
    send_frame(&host.ns, "nobody", &from(BALANCER, OWN).fragment(0, true).bytes());
    kernel.got(&host, None);
}
