//! `lbctl trace` says what happens to a packet, and changes nothing.

mod answers;
mod frames;

use std::collections::BTreeMap;
use std::fs;

use l4lb::trace::TracePacket;
use libbpf_rs::MapCore;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use libbpf_rs::MapType;
use serde_json::Value;

use crate::fixtures::Capture;
use crate::fixtures::Frame;
use crate::fixtures::Host;
use crate::fixtures::Verdict;
use crate::fixtures::XdpLink;
use crate::fixtures::json;
use crate::fixtures::send_frame;
use crate::fixtures::vip;

const VIP: &str = "tcp://10.200.1.1:80";
const UDP_VIP: &str = "udp://[fc00:1::1]:53";

/// The other end of the host's interface, from which packets are sent.
const PEER: &str = "nobody";

/// A host that packets can be sent to; the other end of its link sends nothing of its own.
fn quiet_host() -> (Host, XdpLink) {
    let host = Host::new();
    host.ns.shell("sysctl -qw net.ipv6.conf.uplink.disable_ipv6=1");
    let link = XdpLink::attach(&host.ns, PEER, Verdict::Pass);
    (host, link)
}

fn balancer(kind: &str, more: &str) -> String {
    let vips = vip(VIP, &["10.0.0.1", "10.0.0.2"]) + &vip(UDP_VIP, &["fc00::1", "10.0.0.2"]);
    Host::config(&format!("kind = \"{kind}\"\n{more}\n{vips}"))
}

fn packet(vip: &str, client: &str, syn: bool) -> TracePacket {
    let vip: l4lb::Vip = vip.parse().expect("a VIP");
    TracePacket {
        protocol: vip.protocol,
        client: client.parse().expect("a client"),
        server: (vip.address, vip.port).into(),
        syn,
        payload: 0,
    }
}

#[track_caller]
fn ask(host: &Host, packet: &TracePacket) -> Vec<Value> {
    let (client, server) = (packet.client.to_string(), packet.server.to_string());
    let protocol = packet.protocol.to_string();
    let mut arguments = vec!["trace", &protocol, &client, &server, "--json"];
    if packet.syn {
        arguments.push("--syn");
    }
    let trace = json(&host.lbctl().ok(&arguments));
    trace["outcomes"].as_array().expect("outcomes").clone()
}

/// Sends the packet, and returns the frame that leaves for a real.
#[track_caller]
fn send(host: &Host, packet: &TracePacket) -> Vec<u8> {
    let mut capture = Capture::start(&host.ns, PEER);
    send_frame(&host.ns, PEER, &packet.frame().expect("a frame"));
    // The gateway's MAC is that of `Host::INTERFACE`.
    capture.wait_for(|frame: &Frame| frame.bytes.starts_with(&[2, 0, 0, 0, 0, 0xfe])).bytes
}

/// The bytes of every map of an instance, and of those inside of others.
#[track_caller]
fn contents(host: &Host) -> BTreeMap<String, Vec<u8>> {
    let mut contents = BTreeMap::new();
    for pin in fs::read_dir(host.bpffs.path().join("l4lb/default/map")).expect("the pins") {
        let pin = pin.expect("a pin").path();
        let map = MapHandle::from_pinned_path(&pin).expect("open the pin");
        let name = pin.file_name().expect("a name").to_string_lossy().into_owned();
        if matches!(map.map_type(), MapType::ArrayOfMaps) {
            for key in 0..map.max_entries() {
                let id = map.lookup(&key.to_ne_bytes(), MapFlags::ANY).expect("look it up");
                let Some(id) = id.and_then(|id| id.try_into().ok()).map(u32::from_ne_bytes) else {
                    continue;
                };
                let inner = MapHandle::from_map_id(id).expect("open an inner map");
                contents.insert(format!("{name}[{key}]"), bytes(&inner));
            }
        } else {
            contents.insert(name, bytes(&map));
        }
    }
    contents
}

/// No map.
const NONE: [String; 0] = [];

/// The maps that are no longer what they were.
#[track_caller]
fn changed(host: &Host, before: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let mut after = contents(host);
    after.retain(|name, bytes| before.get(name) != Some(bytes));
    after.into_keys().collect()
}

fn bytes(map: &MapHandle) -> Vec<u8> {
    let mut bytes = Vec::new();
    for key in map.keys() {
        bytes.extend(&key);
        if map.map_type().is_percpu() {
            for value in map.lookup_percpu(&key, MapFlags::ANY).ok().flatten().unwrap_or_default() {
                bytes.extend(value);
            }
        } else if let Ok(Some(value)) = map.lookup(&key, MapFlags::ANY) {
            bytes.extend(value);
        }
    }
    bytes
}

/// The answer is what then happens, byte for byte, in both kinds of tables and with the shared one; and
/// asking changes nothing.
#[test]
fn says_what_happens_and_changes_nothing() {
    let no_cpu_has_its_own = format!("cpus = [{}]", 1);
    for (kind, cpus) in
        [("set-associative", ""), ("lru", ""), ("set-associative", &*no_cpu_has_its_own)]
    {
        let (host, _link) = quiet_host();
        host.lbctl().apply(&balancer(kind, cpus));
        for (vip, client, real) in
            [(VIP, "192.0.2.1:31337", "10.0.0."), (UDP_VIP, "[2001:db8::7]:4242", "")]
        {
            let case = format!("{kind} {cpus} {vip}");
            let first = packet(vip, client, vip == VIP);
            let more = packet(vip, client, false);

            let before = contents(&host);
            assert!(before.len() > 15, "{case}: {:?}", before.keys());
            let asked = ask(&host, &first);
            assert_eq!(changed(&host, &before), NONE, "{case}: by asking for a new flow");
            let outcome = &asked[0];
            assert!(asked.iter().all(|other| other["frame"] == outcome["frame"]), "{asked:#?}");
            assert_eq!(outcome["reason"], "ring", "{case}: {outcome}");
            assert_eq!(outcome["vip"], vip, "{case}: {outcome}");
            assert_eq!(outcome["ring_real"], outcome["real"], "{case}: {outcome}");
            assert!(outcome["real"].as_str().is_some_and(|to| to.starts_with(real)), "{outcome}");
            assert_eq!(hex::encode(send(&host, &first)), outcome["frame"], "{case}");

            // The flow is in the table now: where it stays, whatever the ring says.
            let chosen = outcome["real"].as_str().expect("a real").to_owned();
            host.lbctl().ok(&["real", "weight", vip, &chosen, "0"]);
            let before = contents(&host);
            let asked = ask(&host, &more);
            assert_eq!(changed(&host, &before), NONE, "{case}: by asking for a known flow");
            let outcome = &asked[0];
            assert_eq!(outcome["reason"], "connection_table", "{case}: {outcome}");
            assert_eq!(outcome["real"], chosen, "{case}: {outcome}");
            assert_ne!(outcome["ring_real"], chosen, "{case}: {outcome}");
            assert!(outcome["table"].to_string().contains("hit"), "{case}: {outcome}");
            // A CPU that has not seen the flow asks the ring.
            for other in &asked[1..] {
                assert_eq!(other["reason"], "ring", "{case}: {other}");
                assert_ne!(other["real"], chosen, "{case}: {other}");
            }
            let flow = &outcome["flow"];
            assert_eq!(flow["source_port"], more.client.port(), "{case}: {flow}");
            assert_eq!(flow["source"], more.client.ip().to_string(), "{case}: {flow}");
            host.lbctl().ok(&["real", "weight", vip, &chosen, "1"]);
        }
    }
}

/// The answer says why a packet does not go to a real.
#[test]
fn says_why_not() {
    let (host, _link) = quiet_host();
    let empty = vip("tcp://10.200.1.9:80", &[]);
    host.lbctl().apply(&(balancer("set-associative", "") + &empty));
    let outcome = |packet: &TracePacket| ask(&host, packet)[0].clone();

    let other = outcome(&packet("tcp://10.9.9.9:80", "192.0.2.1:1024", true));
    assert_eq!((&other["verdict"], &other["reason"]), (&"pass".into(), &"not_vip".into()));
    assert_eq!((&other["vip"], &other["real"]), (&Value::Null, &Value::Null), "{other}");

    let nowhere = outcome(&packet("tcp://10.200.1.9:80", "192.0.2.1:1024", true));
    assert_eq!((&nowhere["verdict"], &nowhere["reason"]), (&"drop".into(), &"no_real".into()));
    assert_eq!(nowhere["vip"], "tcp://10.200.1.9:80", "{nowhere}");

    let ask_long =
        ["trace", "tcp", "192.0.2.1:1024", "10.200.1.1:80", "--payload", "1600", "--json"];
    let long = json(&host.lbctl().ok(&ask_long))["outcomes"][0].clone();
    assert_eq!((&long["verdict"], &long["reason"]), (&"tx".into(), &"too_big_reply".into()));
    assert_eq!(long["real"], Value::Null, "{long}");

    let text =
        host.lbctl().ok(&["trace", "tcp", "192.0.2.1:1024", "10.200.1.1:80", "--syn"]).stdout;
    for part in [
        "VIP         tcp://10.200.1.1:80",
        "miss_syn: ",
        "ring        slot ",
        "verdict     tx (ring: ",
        "real        10.0.0.",
        "0000  0200 0000 00fe",
    ] {
        assert!(text.contains(part), "'{part}' is missing in\n{text}");
    }
}

/// No answer says that an IPv6 path takes less than 1280 bytes (RFC 8200, section 5).
#[test]
fn no_ipv6_path_is_that_small() {
    let (host, _link) = quiet_host();
    let vips = vip(VIP, &["10.0.0.1"]) + &vip("tcp://[fc00:1::1]:80", &["10.0.0.1"]);
    let ask = |client: &str, server: &str, payload: &str| {
        let arguments = ["trace", "tcp", client, server, "--payload", payload, "--json"];
        json(&host.lbctl().ok(&arguments))["outcomes"][0]["reason"].clone()
    };
    let ask4 = |payload| ask("192.0.2.1:1024", "10.200.1.1:80", payload);
    // Headers are 60 bytes of it.
    let ask6 = |payload| ask("[2001:db8::7]:1024", "[fc00:1::1]:80", payload);
    host.ns.shell("ip link set uplink mtu 1300");
    host.lbctl().apply(&Host::config(&vips));
    assert_eq!((ask6("1220"), ask6("1221")), ("ring".into(), "too_big_reply".into()));
    host.ns.shell("ip link set uplink mtu 1299");
    let output = host.lbctl().apply(&Host::config(&vips));
    assert!(output.stderr.contains("longer IPv6 packets are dropped"), "{output}");
    assert_eq!((ask6("1219"), ask6("1220")), ("ring".into(), "small_mtu".into()));
    assert_eq!(ask4("1300"), "too_big_reply");
    let status = host.lbctl().ok(&["status"]).stdout;
    assert!(status.contains("its MTU is 1299"), "{status}");
}

/// A question without an answer is refused in one line.
#[test]
fn wrong_questions() {
    let host = Host::new();
    let not_there = host.lbctl().exits(1, &["trace", "tcp", "192.0.2.1:1024", "10.200.1.1:80"]);
    assert!(not_there.stderr.contains("does not run"), "{not_there}");
    host.lbctl().apply(&balancer("set-associative", ""));
    let families = host.lbctl().exits(1, &["trace", "tcp", "192.0.2.1:1024", "[fc00:1::1]:80"]);
    assert_eq!(families.stderr, "error: 192.0.2.1 and fc00:1::1 are of different IP versions\n");
    let interface = ["trace", "tcp", "192.0.2.1:1024", "10.200.1.1:80", "--interface", "nope"];
    assert!(host.lbctl().exits(1, &interface).stderr.contains("nope"));
    let file = host.lbctl().exits(1, &["trace", "--pcap", "/dev/null"]);
    assert_eq!(file.stderr, "error: /dev/null: is empty\n");
    let output = host.lbctl().exits(2, &["trace"]);
    assert!(output.stderr.contains("such as tcp 192.0.2.1:31337"), "{output}");
    host.lbctl().exits(2, &["trace", "tcp", "192.0.2.1:1024"]);
    host.lbctl().exits(2, &["trace", "tcp", "192.0.2.1:1024", "10.200.1.1:80", "--pcap", "x"]);
}
