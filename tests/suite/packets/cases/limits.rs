//! Limits per second, and drivers that leave little room in front of a frame.

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
use crate::packets::config::ONE4;
use crate::packets::config::on_lo;

fn limited() -> ConfigText {
    on_lo().set("connection_table.new_connections_per_second", 2).one_of_each()
}

fn limited_and_shared() -> ConfigText {
    on_lo()
        .set("connection_table.new_connections_per_second", 2)
        .vip("tcp://10.200.1.1:80", ONE4)
        .set("hash", "no-source-port")
}

pub(crate) fn files() -> Vec<File> {
    vec![
        File { name: "too_big_limit", config: on_lo().one_of_each(), cases: too_big() },
        File { name: "flood", config: limited(), cases: flood() },
        File {
            name: "flood_of_shared_entries",
            config: limited_and_shared(),
            cases: flood_of_shared(),
        },
        File { name: "headroom", config: on_lo().one_of_each(), cases: headroom() },
    ]
}

fn v4() -> Frame {
    eth().ip4(C4, "10.200.1.1").tcp(PORT, 80)
}

fn v6() -> Frame {
    eth().ip6(C6, "fc00:1::1").tcp(PORT, 80)
}

fn too_big() -> Vec<Case> {
    // Sources that no two share a limit of.
    let hosts = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 33, 14, 15, 16, 17, 18, 19, 20];
    let from = |host: u8| {
        let source = format!("203.0.113.{host}");
        eth().ip4(&source, "10.200.1.1").tcp(PORT, 80).filled_to(1515)
    };
    let fifty = hosts.map(|host| case("fifty to one source").send(from(host)).times(50).told(1500));
    let mut cases = fifty.to_vec();
    cases.extend([
        case("one more to it").send(from(1)).dropped("source_limited"),
        case("the thousand of all is over").send(v4().filled_to(1515)).dropped("too_big_limited"),
        case("IPv6 has the same limit").send(v6().filled_to(1515)).dropped("too_big_limited"),
        case("what is not too long has none, and is a new flow")
            .send(v4())
            .sent("ring", C4_TO_4, "10.0.0.1"),
        case("echo requests have another").send(eth().ip4(C4, "10.200.1.1").ping(1, 1)).answered(),
        case("also of who had his share")
            .send(eth().ip4("203.0.113.1", "10.200.1.1").ping(1, 1))
            .answered(),
        case("five hundred echo requests")
            .send(eth().ip4(C4, "10.200.1.1").ping(1, 2))
            .times(499)
            .answered(),
        case("one more").send(eth().ip4(C4, "10.200.1.1").ping(1, 3)).dropped("source_limited"),
        case("of a host in a /64")
            .send(eth().ip6("2001:db8:0:7::1", "fc00:1::1").ping(1, 1))
            .times(500)
            .answered(),
        case("of another in it")
            .send(eth().ip6("2001:db8:0:7:ffff::2", "fc00:1::1").ping(1, 1))
            .dropped("source_limited"),
        case("of the /64 beside")
            .send(eth().ip6("2001:db8:0:8::1", "fc00:1::1").ping(1, 1))
            .answered(),
    ]);
    cases
}

fn flood() -> Vec<Case> {
    let from = |client_port| eth().ip4(C4, "10.200.1.1").tcp(client_port, 80);
    vec![
        case("first new flow").send(from(PORT).syn()).sent("ring", C4_TO_4, "10.0.0.1"),
        case("second new flow").send(v6().syn()).sent("ring", C6_TO_6, "fc00::1"),
        case("the third is balanced").send(from(1).syn()).sent("ring", "172.16.0.1", "10.0.0.1"),
        case("but not remembered").send(from(1)).sent("ring", "172.16.0.1", "10.0.0.1"),
        case("the first still is").send(from(PORT)).sent("connection_table", C4_TO_4, "10.0.0.1"),
        case("the second too").send(v6()).sent("connection_table", C6_TO_6, "fc00::1"),
    ]
}

/// What a SYN finds costs nothing of the limit.
fn flood_of_shared() -> Vec<Case> {
    let syn = |client, port| eth().ip4(client, "10.200.1.1").tcp(port, 80).syn();
    let known = "connection_table";
    vec![
        case("first client").send(syn(C4, 1)).sent("ring", "172.16.1.1", "10.0.0.1"),
        case("another connection of it").send(syn(C4, 2)).times(10).sent(
            known,
            "172.16.1.1",
            "10.0.0.1",
        ),
        case("second client").send(syn("192.168.1.2", 1)).sent("ring", "172.16.1.2", "10.0.0.1"),
        case("the third is balanced").send(syn("192.168.1.3", 1)).sent(
            "ring",
            "172.16.1.3",
            "10.0.0.1",
        ),
        case("but not remembered").send(syn("192.168.1.3", 2)).sent(
            "ring",
            "172.16.1.3",
            "10.0.0.1",
        ),
        case("the first still is").send(syn(C4, 3)).sent(known, "172.16.1.1", "10.0.0.1"),
        case("the second too").send(syn("192.168.1.2", 2)).sent(known, "172.16.1.2", "10.0.0.1"),
    ]
}

/// Driver metadata takes headroom away.
fn headroom() -> Vec<Case> {
    // All that there can be.
    let no_room = 216;
    vec![
        case("some metadata: IPv4")
            .send(v4())
            .behind_metadata(32)
            .sent("ring", C4_TO_4, "10.0.0.1"),
        case("some metadata: IPv6").send(v6()).behind_metadata(32).sent("ring", C6_TO_6, "fc00::1"),
        case("some metadata: too long").send(v4().filled_to(1515)).behind_metadata(32).told(1500),
        case("some metadata: echo request")
            .send(eth().ip4(C4, "10.200.1.1").ping(1, 1))
            .behind_metadata(32)
            .answered(),
        case("no room: IPv4").send(v4()).behind_metadata(no_room).dropped("no_headroom"),
        case("no room: IPv6").send(v6()).behind_metadata(no_room).dropped("no_headroom"),
        case("no room: too long")
            .send(v4().filled_to(1515))
            .behind_metadata(no_room)
            .dropped("no_headroom"),
        case("no room is needed for an echo request")
            .send(eth().ip6(C6, "fc00:1::1").ping(1, 1))
            .behind_metadata(no_room)
            .answered(),
        case("nor to pass")
            .send(eth().ip4(C4, "10.200.1.9").tcp(PORT, 80))
            .behind_metadata(no_room)
            .passed("not_vip"),
    ]
}
