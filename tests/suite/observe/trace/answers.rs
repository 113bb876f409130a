//! The further parts of an answer: the CPUs, the server id, the programs in front.

use std::net::IpAddr;

use l4lb::trace::TracePacket;
use serde_json::Value;
use serde_json::json;

use super::PEER;
use super::UDP_VIP;
use super::VIP;
use super::ask;
use super::balancer;
use super::frames::Captures;
use super::packet;
use super::quiet_host;
use crate::fixtures::Capture;
use crate::fixtures::Frame;
use crate::fixtures::Host;
use crate::fixtures::Injector;
use crate::fixtures::chain_programs::Built;
use crate::fixtures::send_frame;
use crate::fixtures::two_cpus;
use crate::fixtures::vip;

/// The CPUs of the outcomes that remember the flow, and the real of these.
#[track_caller]
fn remembering(outcomes: &[Value]) -> (Vec<u32>, Option<IpAddr>) {
    let (mut cpus, mut to) = (Vec::new(), None);
    for outcome in outcomes {
        if outcome["table"].as_array().expect("a list").contains(&"hit".into()) {
            let of: Vec<u32> = serde_json::from_value(outcome["cpus"].clone()).expect("CPUs");
            cpus.extend(of);
            to = serde_json::from_value(outcome["real"].clone()).expect("a real");
        }
    }
    cpus.sort_unstable();
    (cpus, to)
}

/// The table of the CPU that received its packets knows a flow. CPUs without one share a table, so it is known on all
/// that share it. Each online CPU is in one of the answers.
#[test]
fn on_which_cpus() {
    if !two_cpus() {
        return;
    }
    let all: Vec<_> = (0..2).collect();
    for kind in ["set-associative", "lru"] {
        for own in [vec![0_u32, 1], vec![0], vec![1]] {
            let host = Host::new();
            let cpus = format!("cpus = {own:?}");
            host.lbctl().apply(&balancer(kind, &cpus));
            let injector = Injector::new(&host);
            for cpu in [0, 1] {
                for (uri, client) in [(VIP, "192.0.2.1"), (UDP_VIP, "[2001:db8::7]")] {
                    let case = format!("{kind}, {cpus}, {uri} on CPU {cpu}");
                    let client = format!("{client}:{}", 1024 + cpu);
                    let packet = packet(uri, &client, false);
                    let (nowhere, _) = remembering(&ask(&host, &packet));
                    assert_eq!(nowhere, Vec::<u32>::new(), "{case}, before");
                    let frame = packet.frame().expect("a frame");
                    let real = injector.send(cpu, &frame).expect("sent to a real");
                    let outcomes = ask(&host, &packet);
                    let (known, to) = remembering(&outcomes);
                    let mut expected = vec![cpu];
                    if !own.contains(&cpu) {
                        expected = all.iter().copied().filter(|cpu| !own.contains(cpu)).collect();
                    }
                    let known: Vec<_> = known.into_iter().filter(|cpu| *cpu < 2).collect();
                    assert_eq!((known, to), (expected, Some(real)), "{case}");
                    // Those that remember it come first.
                    let first = outcomes[0]["cpus"].as_array().expect("a list");
                    assert!(first.contains(&json!(cpu)), "{case}: {outcomes:?}");
                    let mut asked: Vec<_> = outcomes
                        .iter()
                        .flat_map(|outcome| outcome["cpus"].as_array().expect("a list"))
                        .filter_map(Value::as_u64)
                        .filter(|cpu| *cpu < 2)
                        .collect();
                    asked.sort_unstable();
                    assert_eq!(asked, [0, 1], "{case}: {outcomes:?}");
                }
            }
        }
    }
}

/// A packet that carries the id of a server goes there, and the answer has the id.
#[test]
fn by_server_id() {
    let (host, _link) = quiet_host();
    let ids = "\n[[server_ids]]\nid = 1022\nreal = \"10.0.0.1\"\n\n[[server_ids]]\nid = 70000\nreal = \"10.0.0.2\"\n";
    let quic = vip("udp://10.200.1.1:443", &["10.0.0.1", "10.0.0.2"])
        + "routing = [\"quic-connection-id\"]\n";
    host.lbctl().apply(&Host::config(&format!("{quic}{ids}")));
    let captures = Captures::new();
    for (id, real) in [(1022_u32, "10.0.0.1"), (70_000, "10.0.0.2"), (5, "")] {
        let client = format!("192.0.2.1:{}", 1024 + id % 1000);
        let payload = 20;
        let packet = TracePacket { payload, ..packet("udp://10.200.1.1:443", &client, false) };
        let mut bytes = packet.frame().expect("a frame");
        let at = bytes.len() - usize::from(payload);
        // A short header, and a connection id of version 2: the server's in bytes 1 to 3.
        let [_, high, middle, low] = id.to_be_bytes();
        bytes[at..at + 5].copy_from_slice(&[0x40, 0x80, high, middle, low]);
        let file = captures.pcap("quic", std::slice::from_ref(&bytes));
        let file = file.to_str().expect("a name");
        let trace = crate::fixtures::json(&host.lbctl().ok(&["trace", "--pcap", file, "--json"]));
        let outcome = &trace["outcomes"][0];
        assert_eq!(outcome["server_id"], id, "{outcome}");
        let text = host.lbctl().ok(&["trace", "--pcap", file]).stdout;
        assert!(text.contains(&format!("  server id   {id}\n")), "{text}");
        if real.is_empty() {
            // No server has this id: the ring chooses.
            assert_eq!(outcome["reason"], "ring", "{outcome}");
        } else {
            assert_eq!((&outcome["reason"], &outcome["real"]), (&"server_id".into(), &real.into()));
        }
        let mut capture = Capture::start(&host.ns, PEER);
        send_frame(&host.ns, PEER, &bytes);
        let left = capture.wait_for(|left: &Frame| left.bytes != bytes);
        assert_eq!(hex::encode(left.bytes), outcome["frame"], "id {id}");
    }
    // A packet of TCP carries none.
    let other = ask(&host, &packet(VIP, "192.0.2.1:1024", true));
    assert_eq!(other[0]["server_id"], Value::Null, "{other:?}");
}

/// The programs that see the packet first are named, in their order; those behind are not.
#[test]
fn programs_in_front() {
    let host = Host::new();
    let lbctl = host.lbctl();
    lbctl.apply(&balancer("set-associative", ""));
    let ask = ["trace", "tcp", "192.0.2.1:1024", "10.200.1.1:80"];
    let in_front = || {
        let trace = crate::fixtures::json(&lbctl.ok(&[&ask[..], &["--json"]].concat()));
        (trace["in_front"].clone(), trace["interface"].clone())
    };
    assert_eq!(in_front(), (json!([]), json!("uplink")));
    assert!(!lbctl.ok(&ask).stdout.contains("in front of"));
    let built = Built::tracer("tracer", &[]);
    for (slot, name) in [("12", "behind"), ("5", "second"), ("2", "first")] {
        lbctl.ok(&["chain", "insert", slot, &built.text(), "--name", name]);
    }
    assert_eq!(in_front(), (json!(["first", "second"]), json!("uplink")));
    let text = lbctl.ok(&ask).stdout;
    let line = "not asked, but runs before the balancer: first, second\n";
    assert!(text.contains(line), "{text}");
}
