//! GUE in a file: what docs/dump.md says about Wireshark lets tshark decode it.

use l4lb::capture::Packet;

use super::packet;
use super::read_by;
use super::segments::CLIENT;
use super::segments::CLIENT6;
use super::segments::VIP;
use super::segments::VIP6;
use super::written;
use crate::fixtures::frame::Frame;
use crate::fixtures::frame::eth;

/// One packet of each family in each variant, with the protocol of what is inside.
fn packets() -> Vec<Packet> {
    let inner = [eth().ip4(CLIENT, VIP).tcp(31337, 443), eth().ip6(CLIENT6, VIP6).tcp(31337, 443)];
    let outer = [eth().ip4("172.31.0.2", "10.0.0.1"), eth().ip6("fc00:31::2", "fc00::1")];
    let header = |inner: &Frame| [1, if inner.is_v6() { 41 } else { 4 }, 0, 0, 0, 0, 0, 0];
    let mut frames = Vec::new();
    for outer in &outer {
        for inner in &inner {
            let inside = inner.packet();
            frames.push(outer.clone().udp(5000, 6080).data(&inside));
            frames
                .push(outer.clone().udp(5000, 19523).data(&[&header(inner)[..], &inside].concat()));
        }
    }
    (0..).zip(frames).map(|(number, frame)| packet(number, &frame.bytes())).collect()
}

/// tshark's answer: the protocols of each packet, its last addresses, and the port of what is inside.
#[track_caller]
fn asked(options: &[&str], packets: &[Packet]) -> Vec<String> {
    let fields = ["-T", "fields", "-E", "occurrence=l", "-E", "separator=|"];
    let names = ["-e", "ip.dst", "-e", "ipv6.dst", "-e", "tcp.dstport"];
    let arguments = [&["-r", "-"], options, &fields, &names].concat();
    read_by("tshark", &arguments, &written(packets)).lines().map(str::to_owned).collect()
}

/// The destination inside, and outside where that is of the other family.
fn expected() -> Vec<String> {
    let [v4, v6] = [VIP, VIP6];
    let pairs = [(v4, ""), ("10.0.0.1", v6), (v4, "fc00::1"), ("", v6)];
    let line = |(v4, v6): &(&str, &str)| format!("{v4}|{v6}|443");
    pairs.iter().map(line).collect()
}

#[test]
fn tshark_decodes_variant_1_as_ip() {
    let all = packets();
    let variant_1: Vec<_> = all.iter().step_by(2).cloned().collect();
    assert_eq!(asked(&["-d", "udp.port==6080,ip"], &variant_1), expected());
}

#[test]
fn our_dissector_decodes_both_variants() {
    let script = concat!("lua_script:", env!("CARGO_MANIFEST_DIR"), "/docs/gue.lua");
    let all = packets();
    let answers = asked(&["-X", script], &all);
    for (answers, expected) in answers.chunks(2).zip(expected()) {
        assert_eq!(answers, [expected.as_str(), expected.as_str()]);
    }
    for (filter, count) in [("gue.variant == 1", 4), ("gue.variant == 0 and gue.protocol == 41", 2)]
    {
        assert_eq!(asked(&["-X", script, "-Y", filter], &all).len(), count, "{filter}");
    }
    // Cut at any byte, it says what it can.
    let cut = |length| {
        let mut packet = all[1].clone();
        packet.data.truncate(length);
        packet
    };
    let cuts: Vec<_> = (14..all[1].data.len()).map(cut).collect();
    assert_eq!(asked(&["-X", script], &cuts).len(), cuts.len());
}
