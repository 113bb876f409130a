//! Weights and states of reals.

use super::C4;
use super::C4_TO_4;
use super::C6;
use super::C6_TO_6;
use super::PORT;
use crate::packets::case::Case;
use crate::packets::case::File;
use crate::packets::case::case;
use crate::packets::frame::Frame;
use crate::packets::frame::eth;

const CONFIG: &str = r#"
interfaces = [ { name = "lo", gateway_mac = "02:00:00:00:00:fe" } ]

# One that takes flows.
[[vips]]
address = "10.200.1.1"
port = 1
protocol = "tcp"
reals = [
  { address = "10.0.0.1", state = "down" },
  { address = "10.0.0.2", state = "drain" },
  { address = "10.0.0.3", weight = 0 },
  { address = "10.0.0.4", weight = 5 },
]

# None.
[[vips]]
address = "10.200.1.1"
port = 2
protocol = "tcp"
reals = []

[[vips]]
address = "10.200.1.1"
port = 3
protocol = "tcp"
reals = [ { address = "10.0.0.1", state = "down" }, { address = "10.0.0.2", state = "down" } ]

[[vips]]
address = "10.200.1.1"
port = 4
protocol = "udp"
reals = [ { address = "10.0.0.1", state = "drain" } ]

[[vips]]
address = "10.200.1.1"
port = 5
protocol = "udp"
reals = [ { address = "10.0.0.1", weight = 0 } ]

[[vips]]
address = "fc00:1::1"
port = 6
protocol = "tcp"
connection_table = false
reals = []

# Two, of which one has nearly everything.
[[vips]]
address = "10.200.1.1"
port = 7
protocol = "tcp"
reals = [ { address = "10.0.0.1", weight = 1 }, { address = "10.0.0.2", weight = 65535 } ]

# Three by weight.
[[vips]]
address = "10.200.1.1"
port = 80
protocol = "tcp"
reals = [
  { address = "10.0.0.1", weight = 1 },
  { address = "10.0.0.2", weight = 2 },
  { address = "10.0.0.3", weight = 3 },
]

# Those that are left are Maglev's as if there were no others.
[[vips]]
address = "10.200.1.2"
port = 80
protocol = "tcp"
reals = [
  { address = "10.0.0.1", weight = 7 },
  { address = "10.0.0.2", weight = 7 },
  { address = "10.0.0.3", weight = 7 },
  { address = "10.0.0.4", weight = 7, state = "drain" },
  { address = "10.0.0.5", weight = 0 },
]

[[vips]]
address = "fc00:1::1"
port = 80
protocol = "tcp"
reals = [
  { address = "fc00::1" },
  { address = "fc00::2" },
  { address = "fc00::3" },
  { address = "fc00::4", state = "down" },
]
"#;

pub(crate) fn files() -> Vec<File> {
    vec![File { name: "states", config: CONFIG, cases: cases() }]
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
