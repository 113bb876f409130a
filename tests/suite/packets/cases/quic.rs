//! QUIC connection ids that carry the id of a server.

use super::C4;
use super::C4_TO_4;
use super::C4_TO_6;
use super::C6;
use super::C6_TO_4;
use super::C6_TO_6;
use super::PORT;
use crate::fixtures::frame::Frame;
use crate::fixtures::frame::eth;
use crate::packets::case::Case;
use crate::packets::case::File;
use crate::packets::case::case;
use crate::packets::config::ConfigText;
use crate::packets::config::ONE4;
use crate::packets::config::THREE4;
use crate::packets::config::THREE6;
use crate::packets::config::on_lo;

fn config() -> ConfigText {
    on_lo()
        .vip(
            "udp://10.200.1.1:443",
            &[
                "10.0.0.1",
                "10.0.0.2",
                "10.0.0.3",
                r#"10.0.0.4, state = "down""#,
                r#"10.0.0.5, state = "drain""#,
            ],
        )
        .set("routing", vec!["quic-connection-id"])
        .vip("udp://[fc00:1::1]:443", THREE6)
        .set("routing", vec!["quic-connection-id"])
        // Flows are not remembered.
        .vip("udp://10.200.1.2:443", THREE4)
        .set("connection_table", false)
        .set("routing", vec!["quic-connection-id"])
        // Ids do not matter.
        .vip("udp://10.200.1.3:443", ONE4)
        .vip("udp://10.200.1.4:443", &[])
        .set("routing", vec!["quic-connection-id"])
        .server_id(1, "10.0.0.1")
        .server_id(2, "10.0.0.2")
        .server_id(4, "10.0.0.4")
        .server_id(5, "10.0.0.5")
        .server_id(9, "10.0.0.9")
        .server_id(0xffff, "10.0.0.3")
        .server_id(0x1_0000, "fc00::2")
        .server_id(0xff_ffff, "10.0.0.1")
        .server_id(0x100_0000, "10.0.0.2")
        .server_id(u32::MAX, "fc00::1")
}

pub(crate) fn files() -> Vec<File> {
    vec![
        File { name: "quic", config: config(), cases: cases() },
        File { name: "quic_versions", config: config(), cases: versions() },
    ]
}

/// A connection id of eight bytes, with a server id in the form of a version.
fn id(version: u8, server: u32) -> [u8; 8] {
    let [a, b, c, d] = server.to_be_bytes();
    match version {
        1 => [0x40 | c >> 2, c << 6 | d >> 2, d << 6 | 0x2a, 0x11, 0x22, 0x33, 0x44, 0x55],
        2 => [0x80, b, c, d, 0x22, 0x33, 0x44, 0x55],
        3 => [0xc0, a, b, c, d, 0x33, 0x44, 0x55],
        _ => [0x15, a, b, c, d, 0x33, 0x44, 0x55],
    }
}

const V1: u32 = 1;
const V2: u32 = 0x6b33_43cf;

// First bytes of version 1.
const INITIAL: u8 = 0xc0;
const ZERO_RTT: u8 = 0xd0;
const HANDSHAKE: u8 = 0xe0;
const RETRY: u8 = 0xf0;

// And of version 2.
const RETRY2: u8 = 0xc0;
const INITIAL2: u8 = 0xd0;
const ZERO_RTT2: u8 = 0xe0;
const HANDSHAKE2: u8 = 0xf0;

/// A long header of a version: first byte, the destination's id, a source id of no bytes.
fn long_of(version: u32, first: u8, id: &[u8]) -> Vec<u8> {
    let len = u8::try_from(id.len()).expect("ids have up to 20 bytes");
    [&[first], version.to_be_bytes().as_slice(), &[len], id, &[0, 0x40, 0x01]].concat()
}

fn long(first: u8, id: &[u8]) -> Vec<u8> {
    long_of(V1, first, id)
}

fn short(id: &[u8]) -> Vec<u8> {
    [&[0x41], id, &[0xaa; 12]].concat()
}

fn from(client_port: u16, data: &[u8]) -> Frame {
    eth().ip4(C4, "10.200.1.1").udp(client_port, 443).data(data)
}

fn v4(data: &[u8]) -> Frame {
    from(PORT, data)
}

fn v6(data: &[u8]) -> Frame {
    eth().ip6(C6, "fc00:1::1").udp(PORT, 443).data(data)
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn cases() -> Vec<Case> {
    let known = "connection_table";
    vec![
        case("Initial: the client's id means nothing")
            .send(v4(&long(INITIAL, &id(1, 2))))
            .sent("ring", C4_TO_4, "10.0.0.3"),
        case("Initial, again").send(v4(&long(INITIAL, &id(1, 2)))).sent(known, C4_TO_4, "10.0.0.3"),
        case("0-RTT: nor does it here")
            .send(v4(&long(ZERO_RTT, &id(1, 2))))
            .sent(known, C4_TO_4, "10.0.0.3"),
        case("Handshake, form 1").send(v4(&long(HANDSHAKE, &id(1, 2)))).sent(
            "server_id",
            C4_TO_4,
            "10.0.0.2",
        ),
        case("and the table is in line: 0-RTT")
            .send(v4(&long(ZERO_RTT, &id(1, 1))))
            .sent(known, C4_TO_4, "10.0.0.2"),
        case("Retry, form 1").send(v4(&long(RETRY, &id(1, 1)))).sent(
            "server_id",
            C4_TO_4,
            "10.0.0.1",
        ),
        case("and the table is in line again")
            .send(v4(&long(INITIAL, &id(1, 2))))
            .sent(known, C4_TO_4, "10.0.0.1"),
        case("short header, form 1").send(v4(&short(&id(1, 2)))).sent(
            "server_id",
            C4_TO_4,
            "10.0.0.2",
        ),
        case("short header, form 1, the largest id").send(v4(&short(&id(1, 65535)))).sent(
            "server_id",
            C4_TO_4,
            "10.0.0.3",
        ),
        case("short header, form 2, a small id").send(v4(&short(&id(2, 1)))).sent(
            "server_id",
            C4_TO_4,
            "10.0.0.1",
        ),
        case("short header, form 2, to an IPv6 real").send(v4(&short(&id(2, 65536)))).sent(
            "server_id",
            C4_TO_6,
            "fc00::2",
        ),
        case("short header, form 2, the largest id").send(v4(&short(&id(2, 16_777_215)))).sent(
            "server_id",
            C4_TO_4,
            "10.0.0.1",
        ),
        case("short header, form 3, a small id").send(v4(&short(&id(3, 2)))).sent(
            "server_id",
            C4_TO_4,
            "10.0.0.2",
        ),
        case("short header, form 3").send(v4(&short(&id(3, 16_777_216)))).sent(
            "server_id",
            C4_TO_4,
            "10.0.0.2",
        ),
        case("short header, form 3, the largest id").send(v4(&short(&id(3, 4_294_967_295)))).sent(
            "server_id",
            C4_TO_6,
            "fc00::1",
        ),
        case("Handshake, form 2").send(v4(&long(HANDSHAKE, &id(2, 65536)))).sent(
            "server_id",
            C4_TO_6,
            "fc00::2",
        ),
        case("Handshake, form 3").send(v4(&long(HANDSHAKE, &id(3, 1)))).sent(
            "server_id",
            C4_TO_4,
            "10.0.0.1",
        ),
        case("an id of 20 bytes")
            .send(v4(&long(HANDSHAKE, &[&id(1, 2)[..], &[0x77; 12]].concat())))
            .sent("server_id", C4_TO_4, "10.0.0.2"),
        case("form 0 carries none: the table")
            .send(v4(&short(&id(0, 1))))
            .sent(known, C4_TO_4, "10.0.0.2"),
        case("an unknown id: the table")
            .send(v4(&short(&id(1, 77))))
            .sent(known, C4_TO_4, "10.0.0.2"),
        case("id 0: the table").send(v4(&short(&id(1, 0)))).sent(known, C4_TO_4, "10.0.0.2"),
        case("an unknown id of a new flow: the ring").send(from(2000, &short(&id(2, 77)))).sent(
            "ring",
            "172.16.209.6",
            "10.0.0.1",
        ),
        case("form 0 of a new flow: the ring").send(from(2001, &short(&id(0, 1)))).sent(
            "ring",
            "172.16.208.6",
            "10.0.0.1",
        ),
        case("a client whose address changed").send(from(2002, &short(&id(1, 2)))).sent(
            "server_id",
            "172.16.211.6",
            "10.0.0.2",
        ),
        case("is remembered").send(from(2002, &short(&id(0, 0)))).sent(
            known,
            "172.16.211.6",
            "10.0.0.2",
        ),
        case("a real that is down: the table")
            .send(v4(&short(&id(1, 4))))
            .sent(known, C4_TO_4, "10.0.0.2"),
        case("a real that is drained has its flows").send(v4(&short(&id(1, 5)))).sent(
            "server_id",
            C4_TO_4,
            "10.0.0.5",
        ),
        case("a real that is none of the VIP's").send(v4(&short(&id(1, 9)))).sent(
            "server_id",
            C4_TO_4,
            "10.0.0.9",
        ),
        case("keeps them").send(v4(&short(&id(0, 0)))).sent(known, C4_TO_4, "10.0.0.9"),
        case("short header with 8 bytes of id, and nothing else")
            .send(v4(&short(&id(1, 1))[..9]))
            .sent("server_id", C4_TO_4, "10.0.0.1"),
        case("with 7").send(v4(&short(&id(1, 2))[..8])).sent(known, C4_TO_4, "10.0.0.1"),
        case("with 7, padded")
            .send(v4(&short(&id(1, 2))[..8]).pad(60))
            .sent(known, C4_TO_4, "10.0.0.1"),
        case("with none").send(v4(&[0x41])).sent(known, C4_TO_4, "10.0.0.1"),
        case("no payload").send(v4(&[])).sent(known, C4_TO_4, "10.0.0.1"),
        case("long header with an id of 7 bytes")
            .send(v4(&long(HANDSHAKE, &id(1, 2)[..7])))
            .sent(known, C4_TO_4, "10.0.0.1"),
        case("long header that ends within its id")
            .send(v4(&long(HANDSHAKE, &id(1, 2))[..13]))
            .sent(known, C4_TO_4, "10.0.0.1"),
        case("long header that ends behind its id")
            .send(v4(&long(HANDSHAKE, &id(1, 2))[..14]))
            .sent("server_id", C4_TO_4, "10.0.0.2"),
        case("long header that ends before its id")
            .send(v4(&[HANDSHAKE, 0, 0, 0, 1]))
            .sent(known, C4_TO_4, "10.0.0.2"),
        case("IPv6: Initial").send(v6(&long(INITIAL, &id(1, 1)))).sent("ring", C6_TO_6, "fc00::1"),
        case("IPv6: Handshake").send(v6(&long(HANDSHAKE, &id(2, 65536)))).sent(
            "server_id",
            C6_TO_6,
            "fc00::2",
        ),
        case("IPv6: to an IPv4 real").send(v6(&short(&id(1, 1)))).sent(
            "server_id",
            C6_TO_4,
            "10.0.0.1",
        ),
        case("IPv6: and the table is in line")
            .send(v6(&short(&id(0, 0))))
            .sent(known, C6_TO_4, "10.0.0.1"),
        case("without a table: the id")
            .send(eth().ip4(C4, "10.200.1.2").udp(PORT, 443).data(&short(&id(1, 1))))
            .sent("server_id", C4_TO_4, "10.0.0.1"),
        case("without a table: else the ring")
            .send(eth().ip4(C4, "10.200.1.2").udp(PORT, 443).data(&short(&id(0, 1))))
            .sent("ring", C4_TO_4, "10.0.0.3"),
        case("a VIP that does not look for ids")
            .send(eth().ip4(C4, "10.200.1.3").udp(PORT, 443).data(&short(&id(1, 2))))
            .sent("ring", C4_TO_4, "10.0.0.1"),
        case("a VIP without reals: the id")
            .send(eth().ip4(C4, "10.200.1.4").udp(PORT, 443).data(&short(&id(1, 2))))
            .sent("server_id", C4_TO_4, "10.0.0.2"),
        case("a VIP without reals, of a new flow")
            .send(eth().ip4("192.168.1.2", "10.200.1.4").udp(PORT, 443).data(&short(&id(1, 77))))
            .dropped("no_real"),
        case("a packet that is too long")
            .send(from(2000, &short(&id(1, 5))).filled_to(1515))
            .told(1500),
        case("leaves the table alone").send(from(2000, &short(&id(0, 0)))).sent(
            known,
            "172.16.209.6",
            "10.0.0.1",
        ),
        case("a flow that begins with one")
            .send(from(2003, &short(&id(1, 5))).filled_to(1515))
            .told(1500),
        case("is not remembered").send(from(2003, &short(&id(0, 0)))).sent(
            "ring",
            "172.16.210.6",
            "10.0.0.2",
        ),
        case("a fragment").send(v4(&short(&id(1, 1))).fragment(0, true)).dropped("fragment"),
    ]
}

/// What a long header's type says depends on the version.
fn versions() -> Vec<Case> {
    let known = "connection_table";
    let v2 = |first, server| v4(&long_of(V2, first, &id(1, server)));
    let handshake_of = |version| v4(&long_of(version, HANDSHAKE, &id(1, 2)));
    vec![
        case("version 2, 0-RTT: the client's id means nothing")
            .send(v2(ZERO_RTT2, 2))
            .sent("ring", C4_TO_4, "10.0.0.3"),
        case("version 2, Initial: nor does it here")
            .send(v2(INITIAL2, 2))
            .sent(known, C4_TO_4, "10.0.0.3"),
        case("version 2, Handshake").send(v2(HANDSHAKE2, 2)).sent("server_id", C4_TO_4, "10.0.0.2"),
        case("and the table is in line").send(v2(INITIAL2, 1)).sent(known, C4_TO_4, "10.0.0.2"),
        case("version 2, Retry").send(v2(RETRY2, 1)).sent("server_id", C4_TO_4, "10.0.0.1"),
        case("version 2, Handshake without the fixed bit").send(v2(HANDSHAKE2 & !0x40, 2)).sent(
            "server_id",
            C4_TO_4,
            "10.0.0.2",
        ),
        case("version 2, 0-RTT without the fixed bit")
            .send(v2(ZERO_RTT2 & !0x40, 1))
            .sent(known, C4_TO_4, "10.0.0.2"),
        case("version 1, Handshake without the fixed bit")
            .send(v4(&long(HANDSHAKE & !0x40, &id(1, 1))))
            .sent("server_id", C4_TO_4, "10.0.0.1"),
        case("version 1, Initial without the fixed bit")
            .send(v4(&long(INITIAL & !0x40, &id(1, 2))))
            .sent(known, C4_TO_4, "10.0.0.1"),
        case("a short header without the fixed bit")
            .send(v4(&[&[0x01], &id(1, 5)[..], &[0xaa; 12]].concat()))
            .sent("server_id", C4_TO_4, "10.0.0.5"),
        case("version 1 in the other byte order is another version")
            .send(handshake_of(0x0100_0000))
            .sent(known, C4_TO_4, "10.0.0.5"),
        case("version negotiation: the table")
            .send(handshake_of(0))
            .sent(known, C4_TO_4, "10.0.0.5"),
        case("a version that is reserved to provoke negotiation")
            .send(handshake_of(0xfa1a_2a3a))
            .sent(known, C4_TO_4, "10.0.0.5"),
        case("an unknown version").send(handshake_of(0xff00_001d)).sent(known, C4_TO_4, "10.0.0.5"),
        case("an unknown version of a new flow: the ring")
            .send(from(2000, &long_of(0x0000_0002, HANDSHAKE, &id(1, 5))))
            .sent("ring", "172.16.209.6", "10.0.0.1"),
        case("an unknown version whose id is too long for version 1: the ring")
            .send(from(2001, &long_of(0x709a_50c4, HANDSHAKE, &[0x41; 200])))
            .sent("ring", "172.16.208.6", "10.0.0.1"),
        case("mvfst, Handshake").send(handshake_of(0xface_b002)).sent(
            "server_id",
            C4_TO_4,
            "10.0.0.2",
        ),
        case("mvfst, Initial")
            .send(v4(&long_of(0xface_b002, INITIAL, &id(1, 1))))
            .sent(known, C4_TO_4, "10.0.0.2"),
        case("in front of mvfst's versions")
            .send(v4(&long_of(0xface_afff, HANDSHAKE, &id(1, 1))))
            .sent(known, C4_TO_4, "10.0.0.2"),
        case("behind mvfst's versions")
            .send(v4(&long_of(0xface_b020, HANDSHAKE, &id(1, 1))))
            .sent(known, C4_TO_4, "10.0.0.2"),
        case("IPv6, version 2: 0-RTT")
            .send(v6(&long_of(V2, ZERO_RTT2, &id(2, 65536))))
            .sent("ring", C6_TO_6, "fc00::1"),
        case("IPv6, version 2: Handshake").send(v6(&long_of(V2, HANDSHAKE2, &id(2, 65536)))).sent(
            "server_id",
            C6_TO_6,
            "fc00::2",
        ),
    ]
}
