//! Weights and states of reals.

use super::C4;
use super::C4_TO_4;
use super::C6;
use super::C6_TO_6;
use super::PORT;
use crate::fixtures::frame::Frame;
use crate::fixtures::frame::eth;
use crate::packets::case::Case;
use crate::packets::case::File;
use crate::packets::case::case;
use crate::packets::config::ConfigText;
use crate::packets::config::on_lo;

fn config() -> ConfigText {
    on_lo()
        // One that takes flows.
        .vip(
            "tcp://10.200.1.1:1",
            &[
                r#"10.0.0.1, state = "down""#,
                r#"10.0.0.2, state = "drain""#,
                "10.0.0.3, weight = 0",
                "10.0.0.4, weight = 5",
            ],
        )
        // None.
        .vip("tcp://10.200.1.1:2", &[])
        .vip("tcp://10.200.1.1:3", &[r#"10.0.0.1, state = "down""#, r#"10.0.0.2, state = "down""#])
        .vip("udp://10.200.1.1:4", &[r#"10.0.0.1, state = "drain""#])
        .vip("udp://10.200.1.1:5", &["10.0.0.1, weight = 0"])
        .vip("tcp://[fc00:1::1]:6", &[])
        .set("connection_table", false)
        // Two, of which one has nearly everything.
        .vip("tcp://10.200.1.1:7", &["10.0.0.1, weight = 1", "10.0.0.2, weight = 65535"])
        // Three by weight.
        .vip(
            "tcp://10.200.1.1:80",
            &["10.0.0.1, weight = 1", "10.0.0.2, weight = 2", "10.0.0.3, weight = 3"],
        )
        // Those that are left are Maglev's as if there were no others.
        .vip(
            "tcp://10.200.1.2:80",
            &[
                "10.0.0.1, weight = 7",
                "10.0.0.2, weight = 7",
                "10.0.0.3, weight = 7",
                r#"10.0.0.4, weight = 7, state = "drain""#,
                "10.0.0.5, weight = 0",
            ],
        )
        .vip(
            "tcp://[fc00:1::1]:80",
            &["fc00::1", "fc00::2", "fc00::3", r#"fc00::4, state = "down""#],
        )
}

pub(crate) fn files() -> Vec<File> {
    vec![File { name: "states", config: config(), cases: cases() }]
}

fn cases() -> Vec<Case> {
    let tcp = |port| eth().ip4(C4, "10.200.1.1").tcp(PORT, port);
    let udp = |port| eth().ip4(C4, "10.200.1.1").udp(PORT, port);
    let from = |client_port| -> Frame { eth().ip4(C4, "10.200.1.1").tcp(client_port, 80) };
    vec![
        case("only one takes flows").send(tcp(1).syn()).sent("ring", C4_TO_4, "10.0.0.4"),
        case("and keeps them").send(tcp(1)).sent("connection_table", C4_TO_4, "10.0.0.4"),
        case("no reals").send(tcp(2).syn()).dropped("no_real"),
        case("no reals: an ACK").send(tcp(2)).dropped("no_real"),
        case("no reals: a RST").send(tcp(2).rst()).dropped("no_real"),
        case("all down").send(tcp(3)).dropped("no_real"),
        case("all drained").send(udp(4)).dropped("no_real"),
        case("all of weight 0").send(udp(5)).dropped("no_real"),
        case("no reals, IPv6, without connection table")
            .send(eth().ip6(C6, "fc00:1::1").tcp(PORT, 6))
            .dropped("no_real"),
        case("no reals: a fragment is a fragment")
            .send(tcp(2).fragment(0, true))
            .dropped("fragment"),
        case("a weight that leaves the other next to nothing")
            .send(tcp(7))
            .sent("ring", C4_TO_4, "10.0.0.2"),
        case("by weight: one flow").send(from(PORT)).sent("ring", C4_TO_4, "10.0.0.3"),
        case("by weight: another").send(from(1000)).sent("ring", "172.16.233.2", "10.0.0.3"),
        case("by weight: a third").send(from(1001)).sent("ring", "172.16.232.2", "10.0.0.2"),
        case("by weight: a fourth").send(from(1002)).sent("ring", "172.16.235.2", "10.0.0.3"),
        case("by weight: a fifth").send(from(1003)).sent("ring", "172.16.234.2", "10.0.0.3"),
        case("equal weights are equal, whatever they are")
            .send(eth().ip4(C4, "10.200.1.2").tcp(PORT, 80))
            .sent("ring", C4_TO_4, "10.0.0.3"),
        case("IPv6: those that are down do not matter")
            .send(eth().ip6(C6, "fc00:1::1").tcp(PORT, 80))
            .sent("ring", C6_TO_6, "fc00::3"),
    ]
}
