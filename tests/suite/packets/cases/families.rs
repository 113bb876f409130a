//! Every version of IP inside of every version.

use super::C4;
use super::C4_TO_4;
use super::C4_TO_6;
use super::C6;
use super::C6_TO_4;
use super::C6_TO_6;
use super::PORT;
use crate::fixtures::frame::eth;
use crate::packets::case::Case;
use crate::packets::case::File;
use crate::packets::case::case;
use crate::packets::config::ConfigText;
use crate::packets::config::ONE4;
use crate::packets::config::ONE6;
use crate::packets::config::THREE4;
use crate::packets::config::THREE6;
use crate::packets::config::on_lo;

fn config() -> ConfigText {
    on_lo()
        // To one real each.
        .vip("tcp://10.200.1.1:4", ONE4)
        .vip("tcp://10.200.1.1:6", ONE6)
        .vip("udp://[fc00:1::1]:4", ONE4)
        .vip("udp://[fc00:1::1]:6", ONE6)
        // To reals of the other version.
        .vip("tcp://10.200.1.1:80", THREE6)
        .vip("tcp://[fc00:1::1]:80", THREE4)
        // To reals of both.
        .vip("tcp://10.200.1.1:81", &["10.0.0.1", "fc00::1"])
}

pub(crate) fn files() -> Vec<File> {
    vec![File { name: "families", config: config(), cases: cases() }]
}

fn cases() -> Vec<Case> {
    let v4 = |port| eth().ip4(C4, "10.200.1.1").tcp(PORT, port).data(b"four");
    let v6 = |port| eth().ip6(C6, "fc00:1::1").udp(PORT, port).data(b"six");
    let mixed = |client_port| eth().ip4(C4, "10.200.1.1").tcp(client_port, 81);
    vec![
        case("IPv4 in IPv4").send(v4(4)).sent("ring", C4_TO_4, "10.0.0.1"),
        case("IPv4 in IPv6").send(v4(6)).sent("ring", C4_TO_6, "fc00::1"),
        case("IPv6 in IPv4").send(v6(4)).sent("ring", C6_TO_4, "10.0.0.1"),
        case("IPv6 in IPv6").send(v6(6)).sent("ring", C6_TO_6, "fc00::1"),
        case("IPv4 in IPv4, known").send(v4(4)).sent("connection_table", C4_TO_4, "10.0.0.1"),
        case("IPv4 in IPv6, known").send(v4(6)).sent("connection_table", C4_TO_6, "fc00::1"),
        case("IPv6 in IPv4, known").send(v6(4)).sent("connection_table", C6_TO_4, "10.0.0.1"),
        case("IPv6 in IPv6, known").send(v6(6)).sent("connection_table", C6_TO_6, "fc00::1"),
        case("IPv4 in IPv4, with a class").send(v4(4).class(0x2e)).sent(
            "connection_table",
            C4_TO_4,
            "10.0.0.1",
        ),
        case("IPv4 in IPv6, with a class").send(v4(6).class(0x2e)).sent(
            "connection_table",
            C4_TO_6,
            "fc00::1",
        ),
        case("IPv6 in IPv4, with a class").send(v6(4).class(0xe2)).sent(
            "connection_table",
            C6_TO_4,
            "10.0.0.1",
        ),
        case("IPv6 in IPv6, with a class").send(v6(6).class(0xe2)).sent(
            "connection_table",
            C6_TO_6,
            "fc00::1",
        ),
        case("IPv4 in IPv4, padded").send(v4(4).pad(61)).sent(
            "connection_table",
            C4_TO_4,
            "10.0.0.1",
        ),
        case("IPv4 in IPv6, padded").send(v4(6).pad(61)).sent(
            "connection_table",
            C4_TO_6,
            "fc00::1",
        ),
        case("IPv6 in IPv4, padded").send(v6(4).pad(71)).sent(
            "connection_table",
            C6_TO_4,
            "10.0.0.1",
        ),
        case("IPv6 in IPv6, padded").send(v6(6).pad(71)).sent(
            "connection_table",
            C6_TO_6,
            "fc00::1",
        ),
        case("the packet's version decides about its hash: IPv4 among IPv6 reals")
            .send(v4(80).syn())
            .sent("ring", C4_TO_6, "fc00::1"),
        case("the packet's version decides about its hash: IPv6 among IPv4 reals")
            .send(eth().ip6(C6, "fc00:1::1").tcp(PORT, 80).syn())
            .sent("ring", C6_TO_4, "10.0.0.1"),
        case("all words of an IPv6 client enter the outer IPv4 source")
            .send(eth().ip6("2001:db8:1:2:3:4:5:6", "fc00:1::1").tcp(PORT, 80).syn())
            .sent("ring", "172.16.100.194", "10.0.0.2"),
        case("reals of both versions: one flow").send(mixed(PORT)).sent(
            "ring",
            "100::bac1:101",
            "fc00::1",
        ),
        case("reals of both versions: another").send(mixed(1)).sent(
            "ring",
            "172.16.0.1",
            "10.0.0.1",
        ),
        case("reals of both versions: a third").send(mixed(2)).sent(
            "ring",
            "172.16.3.1",
            "10.0.0.1",
        ),
    ]
}
