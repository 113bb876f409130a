//! What decides about the real, by the VIP's hash mode.

use super::C4;
use super::C4_TO_4;
use super::C6;
use super::PORT;
use crate::fixtures::frame::Frame;
use crate::fixtures::frame::eth;
use crate::packets::case::Case;
use crate::packets::case::File;
use crate::packets::case::case;
use crate::packets::config::ConfigText;
use crate::packets::config::THREE4;
use crate::packets::config::THREE6;
use crate::packets::config::on_lo;

fn config() -> ConfigText {
    on_lo()
        .vip("tcp://10.200.1.1:80", THREE4)
        .set("hash", "no-source-port")
        .vip("tcp://10.200.1.1:*", THREE4)
        .set("hash", "no-source-port")
        .vip("tcp://10.200.1.2:*", THREE4)
        .set("hash", "destination-port")
        .vip("tcp://10.200.1.3:*", THREE4)
        .set("hash", "source-and-destination-port")
        .vip("udp://[fc00:1::1]:80", THREE6)
        .set("hash", "no-source-port")
        .vip("udp://[fc00:1::2]:*", THREE6)
        .set("hash", "destination-port")
}

pub(crate) fn files() -> Vec<File> {
    vec![File { name: "hash", config: config(), cases: cases() }]
}

fn tcp(client: &str, client_port: u16, vip: &str, port: u16) -> Frame {
    eth().ip4(client, vip).tcp(client_port, port)
}

fn udp(client: &str, client_port: u16, vip: &str, port: u16) -> Frame {
    eth().ip6(client, vip).udp(client_port, port)
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn cases() -> Vec<Case> {
    const NO_SOURCE: &str = "10.200.1.1";
    const DESTINATION: &str = "10.200.1.2";
    const BOTH: &str = "10.200.1.3";
    vec![
        // The outer source does without the port too: it is the client's last bytes.
        case("no source port: a flow").send(tcp(C4, PORT, NO_SOURCE, 80)).sent(
            "ring",
            "172.16.1.1",
            "10.0.0.3",
        ),
        case("no source port: another port is no other flow")
            .send(tcp(C4, 4711, NO_SOURCE, 80))
            .sent("connection_table", "172.16.1.1", "10.0.0.3"),
        case("no source port: nor does a SYN begin one")
            .send(tcp(C4, 4712, NO_SOURCE, 80).syn())
            .sent("connection_table", "172.16.1.1", "10.0.0.3"),
        case("no source port: a SYN with RST is no other flow")
            .send(tcp(C4, 4713, NO_SOURCE, 80).syn().rst())
            .sent("connection_table", "172.16.1.1", "10.0.0.3"),
        case("no source port: another client's SYN")
            .send(tcp("192.168.1.8", 4712, NO_SOURCE, 80).syn())
            .sent("ring", "172.16.1.8", "10.0.0.3"),
        case("no source port: is remembered")
            .send(tcp("192.168.1.8", 4713, NO_SOURCE, 80).syn())
            .sent("connection_table", "172.16.1.8", "10.0.0.3"),
        case("no source port: another client is")
            .send(tcp("192.168.1.7", PORT, NO_SOURCE, 80))
            .sent("ring", "172.16.1.7", "10.0.0.3"),
        case("no source port, any port: a flow").send(tcp(C4, PORT, NO_SOURCE, 81)).sent(
            "ring",
            "172.16.1.1",
            "10.0.0.3",
        ),
        case("no source port, any port: all ports are one flow")
            .send(tcp(C4, 4711, NO_SOURCE, 82))
            .sent("connection_table", "172.16.1.1", "10.0.0.3"),
        case("no source port, any port: of which a SYN is one")
            .send(tcp(C4, 4712, NO_SOURCE, 83).syn())
            .sent("connection_table", "172.16.1.1", "10.0.0.3"),
        case("no source port: an ICMP error")
            .send(
                eth()
                    .ip4("198.51.100.1", NO_SOURCE)
                    .too_big(1400)
                    .carrying(&tcp(NO_SOURCE, 80, C4, 999)),
            )
            .sent("icmp_error", "172.16.1.1", "10.0.0.3"),
        // The outer source does without the address: it is the port.
        case("destination port: a flow").send(tcp(C4, PORT, DESTINATION, 80)).sent(
            "ring",
            "172.16.105.122",
            "10.0.0.1",
        ),
        case("destination port: another client's port is no other flow")
            .send(tcp(C4, 1, DESTINATION, 80))
            .sent("connection_table", "172.16.1.0", "10.0.0.1"),
        case("destination port: nor is another client")
            .send(tcp("203.0.113.9", PORT, DESTINATION, 80))
            .sent("connection_table", "172.16.105.122", "10.0.0.1"),
        case("destination port: nor is a client's SYN")
            .send(tcp("203.0.113.9", PORT, DESTINATION, 80).syn())
            .sent("connection_table", "172.16.105.122", "10.0.0.1"),
        case("destination port: another port is").send(tcp(C4, PORT, DESTINATION, 81)).sent(
            "ring",
            "172.16.105.122",
            "10.0.0.1",
        ),
        case("destination port: an ICMP error")
            .send(eth().ip4("198.51.100.1", DESTINATION).too_big(1400).carrying(&tcp(
                DESTINATION,
                80,
                "203.0.113.9",
                PORT,
            )))
            .sent("icmp_error", "172.16.105.122", "10.0.0.1"),
        case("both ports: as with a port of its own")
            .send(tcp(C4, PORT, BOTH, 80))
            .sent("ring", C4_TO_4, "10.0.0.3"),
        case("both ports: another destination port is another flow")
            .send(tcp(C4, PORT, BOTH, 81))
            .sent("ring", C4_TO_4, "10.0.0.2"),
        case("both ports: a SYN begins its flow anew")
            .send(tcp(C4, PORT, BOTH, 80).syn())
            .sent("ring", C4_TO_4, "10.0.0.3"),
        case("both ports: the first again").send(tcp(C4, PORT, BOTH, 80)).sent(
            "connection_table",
            C4_TO_4,
            "10.0.0.3",
        ),
        case("IPv6, no source port: a flow")
            .send(udp(C6, PORT, "fc00:1::1", 80))
            .sent("ring", "100::1", "fc00::1"),
        case("IPv6, no source port: another port is no other flow")
            .send(udp(C6, 4711, "fc00:1::1", 80))
            .sent("connection_table", "100::1", "fc00::1"),
        case("IPv6, destination port: a flow").send(udp(C6, PORT, "fc00:1::2", 80)).sent(
            "ring",
            "100::7a69:0",
            "fc00::3",
        ),
        case("IPv6, destination port: another client is no other flow")
            .send(udp("2001:db8::1", 1, "fc00:1::2", 80))
            .sent("connection_table", "100::1:0", "fc00::3"),
        case("IPv6, destination port: another port is").send(udp(C6, PORT, "fc00:1::2", 81)).sent(
            "ring",
            "100::7a69:0",
            "fc00::3",
        ),
        case("no VIP: IPv6, no source port, another port")
            .send(udp(C6, PORT, "fc00:1::1", 81))
            .passed("not_vip"),
        case("the class and the outer source of IPv6 do not mix")
            .send(udp(C6, PORT, "fc00:1::2", 80).class(0xff))
            .sent("connection_table", "100::7a69:0", "fc00::3"),
        case("both ports: port 0").send(tcp(C4, PORT, BOTH, 0)).sent("ring", C4_TO_4, "10.0.0.2"),
    ]
}
