//! Packets that somebody made to harm the balancer by its tunnels: cut off, with lengths that lie, or one within another.

use l4lb::Config;
use l4lb::packet_test::Sandbox;

use crate::fixtures::frame::Frame;
use crate::fixtures::frame::eth;
use crate::packets::config::ONE4;
use crate::packets::config::ONE6;
use crate::packets::config::on_lo;
use crate::packets::reference::Reference;

const END4: &str = "10.8.0.1";
const END6: &str = "fc00:8::1";
const BACK4: &str = "10.8.0.2";
const GUE: u16 = 6080;

fn configuration() -> Config {
    let text = on_lo()
        .vip("tcp://10.200.1.1:80", ONE4)
        .vip("tcp://[fc00:1::1]:80", ONE6)
        .decapsulate(END4, "")
        .decapsulate(END6, "")
        .decapsulate(BACK4, "then = \"router\"");
    Config::from_toml(text.as_str()).expect("a configuration")
}

/// The program, and the reference beside it.
struct Both {
    sandbox: Sandbox,
    reference: Reference,
    /// How many packets of a tunnel reached the kernel.
    leaked: usize,
}

impl Both {
    fn new() -> Self {
        let config = configuration();
        Self {
            sandbox: Sandbox::new(&config).expect("the balancer loads"),
            reference: Reference::new(&config),
            leaked: 0,
        }
    }

    /// Both agree about the frame. Returns the reason.
    fn judge(&mut self, frame: &[u8]) -> &'static str {
        let expected = self.reference.judge(frame);
        let outcome = self.sandbox.run(frame, 0).expect("the program runs");
        let reason = outcome.reasons[0].name;
        assert_eq!(
            (outcome.action, reason),
            (expected.action, expected.reason),
            "{}",
            hex::encode(frame)
        );
        if let Some(bytes) = &expected.frame {
            assert_eq!(hex::encode(&outcome.frame), hex::encode(bytes), "{}", hex::encode(frame));
        }
        self.leaked += usize::from(outcome.action == "XDP_PASS");
        reason
    }
}

fn v4() -> Frame {
    eth().ip4("192.168.1.1", "10.200.1.1").tcp(31337, 80).data(b"hello")
}

fn v6() -> Frame {
    eth().ip6("fc00:2::1", "fc00:1::1").tcp(31337, 80).data(b"hello")
}

fn ipip(end: &str, inner: &Frame) -> Frame {
    let outer =
        if end.contains(':') { eth().ip6("fc00:9::1", end) } else { eth().ip4("10.9.0.1", end) };
    outer.raw(if inner.is_v6() { 41 } else { 4 }).carrying(inner)
}

/// GUE of variant 1, or of variant 0 with a further hop.
fn gue(end: &str, inner: &Frame, variant: u8) -> Frame {
    let outer =
        if end.contains(':') { eth().ip6("fc00:9::1", end) } else { eth().ip4("10.9.0.1", end) };
    let protocol = if inner.is_v6() { 41 } else { 4 };
    let header: &[u8] =
        if variant == 1 { &[] } else { &[2, protocol, 0, 0, 0, 0, 0, 1, 10, 0, 0, 9] };
    outer.udp(5555, GUE).data(&[header, &inner.packet()].concat())
}

fn all() -> Vec<Frame> {
    let mut frames = Vec::new();
    for end in [END4, END6, BACK4] {
        for inner in [v4(), v6()] {
            frames.extend([ipip(end, &inner), gue(end, &inner, 1), gue(end, &inner, 0)]);
        }
    }
    frames
}

#[test]
fn packets_are_cut_off_at_every_byte() {
    let mut both = Both::new();
    for frame in all() {
        let bytes = frame.bytes();
        assert!(!both.judge(&bytes).starts_with("decap"), "{}", hex::encode(&bytes));
        let outer = if frame.is_v6() { 40 } else { 20 };
        for len in 14..bytes.len() {
            both.leaked = 0;
            both.judge(&bytes[..len]);
            // Only what does not tell that it is a tunnel's reaches the kernel: it ends within its outer IP header, or
            // in front of the UDP port.
            assert!(both.leaked == 0 || len < 14 + outer + 4, "{len}: {}", hex::encode(&bytes));
        }
    }
}

/// Each length of each header says something else.
#[test]
fn lengths_lie() {
    let mut both = Both::new();
    for frame in all() {
        let bytes = frame.bytes();
        let outer = if frame.is_v6() { 40 } else { 20 };
        let mut places = vec![if frame.is_v6() { 18 } else { 16 }];
        // Of UDP, and where inner packets have theirs.
        places.extend([14 + outer + 2, 14 + outer + 4, 14 + outer + 8 + 2, 14 + outer + 8 + 4]);
        for at in places {
            let right = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            let near = (0..=48).map(|n| right.wrapping_add(n).wrapping_sub(24));
            for length in near.chain(0..48).chain([255, 256, 1480, 1500, 9000, 65535]) {
                let mut lying = bytes.clone();
                lying[at..at + 2].copy_from_slice(&length.to_be_bytes());
                both.judge(&lying);
            }
        }
        // Every value of the bytes that say what comes next.
        let next = if frame.is_v6() { 20 } else { 23 };
        for at in [14, next, 14 + outer, 14 + outer + 8, 14 + outer + 9] {
            for byte in 0..=255 {
                let mut lying = bytes.clone();
                lying[at] = byte;
                both.judge(&lying);
            }
        }
    }
}

/// One outer header is taken off, however many there are, and the kernel gets nothing of it.
#[test]
fn packets_are_nested_thirty_deep() {
    let mut both = Both::new();
    let ends = [END4, END6, BACK4];
    for first in 0..ends.len() {
        let mut frame = v4();
        for depth in 0..30 {
            let end = ends[(first + depth) % ends.len()];
            frame = if depth % 2 == 0 { ipip(end, &frame) } else { gue(end, &frame, 1) };
            let reason = both.judge(&frame.bytes());
            match (depth, end) {
                (0, BACK4) => assert_eq!(reason, "to_router"),
                (0, _) => assert!(["ring", "connection_table"].contains(&reason), "{reason}"),
                (_, BACK4) => assert_eq!(reason, "decap_inner_address", "{depth}"),
                _ => assert_eq!(reason, "decap_not_vip", "{depth}"),
            }
        }
    }
    assert_eq!(both.leaked, 0);
}
