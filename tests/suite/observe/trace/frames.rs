//! The frames that `trace` takes: how long they may be, and the captures that they are read from.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use l4lb::capture::CapturePoint;
use l4lb::capture::Packet;
use l4lb::capture::Sink as _;
use l4lb::capture::pcapng::PcapngFile;
use l4lb::capture::pcapng::PcapngOptions;
use serde_json::Value;
use tempfile::TempDir;

use super::PEER;
use super::VIP;
use super::ask;
use super::balancer;
use super::packet;
use super::quiet_host;
use crate::fixtures::Capture;
use crate::fixtures::Frame;
use crate::fixtures::Host;
use crate::fixtures::json;
use crate::fixtures::reason;
use crate::fixtures::send_frame;
use crate::fixtures::wait_until;

/// Files of captures.
pub(super) struct Captures(TempDir);

impl Captures {
    pub(super) fn new() -> Self {
        Self(TempDir::new().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// As pcap: a header, and one before each packet.
    pub(super) fn pcap(&self, name: &str, frames: &[Vec<u8>]) -> PathBuf {
        let mut bytes =
            [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1].map(u32::to_le_bytes).concat();
        for frame in frames {
            let length = u32::try_from(frame.len()).expect("short");
            bytes.extend([0, 0, length, length].map(u32::to_le_bytes).concat());
            bytes.extend(frame);
        }
        fs::write(self.path(name), bytes).expect("write");
        self.path(name)
    }

    /// As pcapng.
    fn pcapng(&self, name: &str, frames: &[Vec<u8>]) -> PathBuf {
        let mut file =
            PcapngFile::create(&self.path(name), &PcapngOptions::default()).expect("a file");
        for frame in frames {
            file.packet(&captured(frame)).expect("write");
        }
        file.finish(&[]).expect("write");
        self.path(name)
    }
}

fn captured(frame: &[u8]) -> Packet {
    Packet {
        time: std::time::SystemTime::UNIX_EPOCH,
        at: CapturePoint::Entry,
        interface: "eth0".to_owned(),
        ifindex: 1,
        queue: 0,
        cpu: 0,
        length: u32::try_from(frame.len()).expect("short"),
        data: frame.to_vec(),
        decision: None,
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a name")
}

/// A packet for a VIP and one for somebody else.
fn two_frames() -> [Vec<u8>; 2] {
    [packet("tcp://10.9.9.9:80", "192.0.2.1:1024", true), packet(VIP, "192.0.2.1:1024", true)]
        .map(|packet| packet.frame().expect("a frame"))
}

fn frame_and_reason(trace: &Value) -> (Value, Value) {
    (trace["frame"].clone(), trace["outcomes"][0]["reason"].clone())
}

/// The most that the kernel shows of a frame, as a refusal says it.
#[track_caller]
fn longest(host: &Host) -> usize {
    let refused = host
        .lbctl()
        .exits(1, &["trace", "tcp", "192.0.2.1:1024", "10.200.1.1:80", "--payload", "60000"]);
    let longest = refused.stderr.split_once("sees at most ").map(|(_, rest)| rest);
    let longest = longest.and_then(|rest| rest.split_once(' ')).map(|(number, _)| number);
    longest.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{refused}"))
}

/// The longest frame that is answered ends as it is said, and what is longer is refused: no answer is about a
/// part of a frame.
#[test]
fn long_ones() {
    let host = Host::new();
    host.ns.shell(
        "sysctl -qw net.ipv6.conf.uplink.disable_ipv6=1
         ip link set uplink mtu 9000
         ip link set nobody mtu 9000",
    );
    // With this MTU, veth has no XDP of its own for programs that see one piece.
    let generic = balancer("set-associative", "").replace("\"native\"", "\"generic\"");
    host.lbctl().apply(&format!("[packets]\nmax_frame = 3514\n{generic}"));
    let longest = longest(&host);
    let captures = Captures::new();
    let frame_of = |length: usize| {
        let mut long = packet(VIP, &format!("192.0.2.1:{length}"), true);
        let headers = long.frame().expect("a frame").len();
        long.payload = u16::try_from(length - headers).expect("short");
        (long.payload.to_string(), long.frame().expect("a frame"))
    };
    let pcap = |frame: &[u8]| captures.pcap("long", &[two_frames()[0].clone(), frame.to_vec()]);
    for (length, reason) in [(3514, "ring"), (longest, "too_big_reply")] {
        let (_, frame) = frame_of(length);
        let pcap = pcap(&frame);
        let ask = ["trace", "--pcap", text(&pcap), "--packet", "2", "--json"];
        let outcome = json(&host.lbctl().ok(&ask))["outcomes"][0].clone();
        assert_eq!(outcome["reason"], reason, "{outcome}");
        let mut capture = Capture::start(&host.ns, PEER);
        send_frame(&host.ns, PEER, &frame);
        let left = capture.wait_for(|left: &Frame| left.bytes != frame);
        assert_eq!(hex::encode(left.bytes), outcome["frame"], "{length} bytes");
    }

    let (payload, frame) = frame_of(longest + 1);
    let pcap = pcap(&frame);
    let refused = host.lbctl().exits(1, &["trace", "--pcap", text(&pcap), "--packet", "2"]);
    let why = format!(
        "a frame of {} bytes; in a test run, a program sees at most {longest} bytes (BPF_PROG_TEST_RUN), and \
         packets for VIPs are too big above 3514 (packets.max_frame): take a shorter one of the flow, which goes \
         to the same real\n",
        longest + 1
    );
    assert_eq!(refused.stderr, format!("error: {}: packet 2: {why}", pcap.display()));
    let flow = ["tcp", "192.0.2.1:1024", "10.200.1.1:80", "--payload", &payload];
    let refused = host.lbctl().exits(1, &[&["trace"], &flow[..]].concat());
    assert_eq!(refused.stderr, format!("error: {why}"));
    // As the refusal says.
    let too_big = || reason(&json(&host.lbctl().ok(&["stats", "--json"])), "too_big_reply");
    let before = too_big();
    send_frame(&host.ns, PEER, &frame);
    assert!(wait_until(Duration::from_secs(2), || too_big() == before + 1), "{}", too_big());
}

/// An Ethernet header is the least.
#[test]
fn short_ones() {
    let (host, _link) = quiet_host();
    host.lbctl().apply(&balancer("set-associative", ""));
    let captures = Captures::new();
    let pcap = captures.pcap("short", &[vec![0; 14], vec![0; 13]]);
    let ask = |number: &'static str| ["trace", "--pcap", text(&pcap), "--packet", number];
    assert!(host.lbctl().ok(&ask("1")).stdout.contains("pass (not_ip"));
    let refused = host.lbctl().exits(1, &ask("2")).stderr;
    let file = pcap.display();
    assert_eq!(
        refused,
        format!(
            "error: {file}: packet 2: a frame of 13 bytes; an Ethernet header alone takes 14\n"
        )
    );
}

/// A packet of a capture is asked about like any other.
#[test]
fn captures() {
    let (host, _link) = quiet_host();
    host.lbctl().apply(&balancer("set-associative", ""));
    let frames = two_frames();
    let captures = Captures::new();
    for file in [captures.pcap("old", &frames), captures.pcapng("new", &frames)] {
        let file = text(&file);
        let answer = |number: &str| {
            let ask = ["trace", "--pcap", file, "--packet", number, "--json"];
            frame_and_reason(&json(&host.lbctl().ok(&ask)))
        };
        assert_eq!(answer("1"), (hex::encode(&frames[0]).into(), "not_vip".into()), "{file}");
        assert_eq!(answer("2"), (hex::encode(&frames[1]).into(), "ring".into()), "{file}");
        let missing = host.lbctl().exits(1, &["trace", "--pcap", file, "--packet", "3"]);
        assert_eq!(missing.stderr, format!("error: {file}: has 2 packets, and no number 3\n"));

        // From a pipe that gives little at a time, and does not end before the answer is there.
        let bytes = fs::read(file).expect("read it");
        let (first, rest) = bytes.split_at(10);
        fs::write(captures.path("first"), first).expect("write");
        fs::write(captures.path("rest"), rest).expect("write");
        let pipe = format!(
            "cd {}; mkfifo in; exec 3<>in; {{ cat first; sleep 0.2; cat rest; }} >&3 &
             timeout 20 {} --bpffs {} trace --pcap - --packet 2 --json <in; rm in",
            captures.0.path().display(),
            env!("CARGO_BIN_EXE_lbctl"),
            host.bpffs.text(),
        );
        let trace: Value = serde_json::from_str(&host.ns.shell(&pipe)).expect("JSON");
        let expected = (hex::encode(&frames[1]).into(), "ring".into());
        assert_eq!(frame_and_reason(&trace), expected, "{file}");
    }
}

/// A block of a capture may be longer than what is read at once; and what is wrong with a capture is said.
#[test]
fn long_blocks_and_bad_captures() {
    let (host, _link) = quiet_host();
    host.lbctl().apply(&balancer("set-associative", ""));
    let frames = two_frames();
    let captures = Captures::new();
    // TLS secrets, of which there may be many.
    let secrets = |size: u32| {
        let rest = 20 + size;
        let mut block = [10, rest, 0x544c_534b, size].map(u32::to_le_bytes).concat();
        block.resize(block.len() + size as usize, b'x');
        block.extend(rest.to_le_bytes());
        block
    };
    let file = captures.pcapng("new", &frames);
    let capture = fs::read(&file).expect("read it");
    let with = |block: &[u8]| fs::write(&file, [&capture, block].concat()).expect("write");
    let ask = |file: &Path| host.lbctl().run(&["trace", "--pcap", text(file), "--packet", "3"]);
    for (what, after, why) in [
        ("3 MiB", secrets(3 << 20), "has 2 packets, and no number 3"),
        ("15 MiB", secrets(15 << 20), "has 2 packets, and no number 3"),
        (
            "17 MiB",
            secrets(17 << 20),
            "the block after packet 2 is longer than 16 MiB, and no packet is",
        ),
        ("a half", secrets(100)[..50].to_vec(), "ends in the middle of the block after packet 2"),
        ("zeros", vec![0; 100], "is damaged after packet 2"),
    ] {
        with(&after);
        let output = ask(&file);
        assert_eq!(output.stderr, format!("error: {}: {why}\n", file.display()), "{what}");
        assert_eq!(output.code(), Some(1), "{what}");
    }

    // As pcap: a packet of 3 MiB, and one behind it.
    let pcap = captures.pcap("old", &[frames[1].clone(), vec![0; 3 << 20], frames[1].clone()]);
    assert_eq!(ask(&pcap).code(), Some(0), "{}", ask(&pcap));
    let second = host.lbctl().exits(1, &["trace", "--pcap", text(&pcap), "--packet", "2"]);
    assert!(second.stderr.contains("packet 2: a frame of 3145728 bytes; "), "{second}");
    for (bytes, why) in [
        (&b""[..], "is empty"),
        (b"Fellow citizens, with these words", "neither pcap nor pcapng"),
        (
            &fs::read(&pcap).expect("read it")[..10],
            "neither pcap nor pcapng, or ends within its header",
        ),
    ] {
        fs::write(&pcap, bytes).expect("write");
        assert_eq!(ask(&pcap).stderr, format!("error: {}: {why}\n", pcap.display()));
    }
    let folder = captures.0.path();
    let output = ask(folder);
    assert!(output.stderr.contains(": Is a directory"), "{output}");
}

/// A packet that is made up is sent to the interface's MAC; one of a capture is what it is.
#[test]
fn destination_macs_count() {
    let (host, _link) = quiet_host();
    host.ns.shell("ip link set uplink address 02:00:00:00:00:77");
    host.lbctl().apply(&balancer("set-associative", ""));
    let packet = packet(VIP, "192.0.2.1:1024", true);
    let outcome = &ask(&host, &packet)[0];
    assert_eq!(outcome["reason"], "ring", "{outcome}");
    let captures = Captures::new();
    let reason_of = |mac: [u8; 6]| {
        let mut frame = packet.frame().expect("a frame");
        frame[..6].copy_from_slice(&mac);
        let file = captures.pcap("one.pcap", &[frame]);
        let trace = json(&host.lbctl().ok(&["trace", "--pcap", text(&file), "--json"]));
        frame_and_reason(&trace).1
    };
    assert_eq!(reason_of([2, 0, 0, 0, 0, 0x77]), "ring");
    assert_eq!(reason_of([2, 0, 0, 0, 0, 2]), "other_mac");
    assert_eq!(reason_of([0xff; 6]), "other_mac");
}
