//! `lbctl dump` on real traffic.

mod clock;
mod ends;
mod gue;
mod lives;
mod looking;
mod options;

use std::time::Duration;

use l4lb::capture::CaptureCounts;

use crate::fixtures::Capture;
use crate::fixtures::Direction;
use crate::fixtures::Output;
use crate::fixtures::Rig;
use crate::fixtures::Running;
use crate::fixtures::UPLINK;
use crate::fixtures::config;
use crate::fixtures::frame::eth;
use crate::fixtures::http_get_from;
use crate::fixtures::send_frame;
use crate::fixtures::server;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

pub(super) const VIP: &str = "tcp://10.200.1.1:80";
pub(super) const OTHER: &str = "tcp://10.200.1.2:80";

/// A balancer with two VIPs.
pub(super) fn rig() -> Rig {
    let rig = Rig::new(2);
    rig.lbctl().apply(&config(&vips()));
    rig
}

pub(super) fn vips() -> String {
    vip(VIP, &["10.0.0.1"]) + &vip(OTHER, &["10.0.0.2"])
}

/// Starts a capture, and waits until it runs.
#[track_caller]
pub(super) fn dump(rig: &Rig, arguments: &[&str]) -> Running {
    let mut running = rig.lbctl().spawn(&[&["dump"], arguments].concat());
    running.wait_for("capturing");
    running
}

/// Asks a VIP from this port, once.
#[track_caller]
pub(super) fn ask(rig: &Rig, vip: &str, from_port: u16) {
    let answer = http_get_from(rig.client(), from_port, server(vip), "/");
    answer.unwrap_or_else(|error| panic!("{vip}: {error}"));
}

/// Sends frames to the balancer as if the router did.
#[track_caller]
pub(super) fn send(rig: &Rig, frame: &[u8], times: usize) {
    for _ in 0..times {
        send_frame(&rig.topology.router, "to-balancer", frame);
    }
}

/// A frame to no VIP.
pub(super) fn elsewhere(port: u16) -> Vec<u8> {
    let mut frame = eth().ip4("192.0.2.1", "172.31.0.2").udp(port, 9).bytes();
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 0xb1]);
    frame
}

/// What a capture said at its end.
#[track_caller]
pub(super) fn counts(output: &Output) -> CaptureCounts {
    let last = output.stderr.lines().last().unwrap_or_default();
    let numbers: Vec<u64> =
        last.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    let [captured, dropped_by_buffer, left_out_by_sampling] = numbers[..] else {
        panic!("no counts: {output}");
    };
    let matched = captured + dropped_by_buffer + left_out_by_sampling;
    CaptureCounts { matched, captured, dropped_by_buffer, left_out_by_sampling }
}

/// Waits until a capture has printed so many lines with a text.
#[track_caller]
pub(super) fn wait_for_lines(running: &Running, text: &str, count: usize) {
    let lines = || running.stdout().lines().filter(|line| line.contains(text)).count();
    let all = wait_until(Duration::from_secs(5), || lines() >= count);
    assert!(all, "not {count} lines with '{text}':\n{}\n{}", running.stdout(), running.stderr());
}

/// What comes in is captured byte by byte as the kernel of the sender has it, and nothing else.
#[test]
fn entry_sees_what_comes_in() {
    let rig = rig();
    let file = tempfile::NamedTempFile::new().expect("make a file");
    let path = file.path().to_str().expect("printable");
    let capture = dump(&rig, &["-w", path]);
    let mut sent = Capture::start(&rig.topology.router, "to-balancer");
    ask(&rig, VIP, 21_000);
    ask(&rig, OTHER, 21_001);
    send(&rig, &elsewhere(7), 1);
    let outgoing = sent.frames().iter().filter(|frame| frame.direction == Direction::Out);
    let wanted: Vec<_> = outgoing.map(|frame| frame.bytes.clone()).collect();
    let output = capture.stop();
    assert_eq!(output.code(), Some(0), "{output}");
    let bytes = std::fs::read(path).expect("read the file");
    let got = frames(&bytes);
    for frame in &wanted {
        assert!(got.contains(&&frame[..]), "this was not captured: {frame:02x?}");
    }
    assert_eq!(got.len() as u64, counts(&output).captured, "{output}");
    assert!(got.len() >= wanted.len() && wanted.len() > 8, "{} of {}", got.len(), wanted.len());
}

fn word(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(block[at..at + 4].try_into().expect("4 bytes"))
}

/// The packets of a pcapng file, as blocks: those that are there as a whole.
fn packets(mut file: &[u8]) -> Vec<&[u8]> {
    let mut packets = Vec::new();
    while file.len() >= 8
        && let Some((block, rest)) = file.split_at_checked(word(file, 4) as usize)
    {
        // An enhanced packet block.
        if word(block, 0) == 6 {
            packets.push(block);
        }
        file = rest;
    }
    packets
}

/// The frames of a pcapng file.
#[track_caller]
fn frames(file: &[u8]) -> Vec<&[u8]> {
    let packets = packets(file).into_iter();
    packets.map(|packet| &packet[28..28 + word(packet, 20) as usize]).collect()
}

/// Encapsulated frames with what was decided about them.
#[test]
fn exit_tells_verdict_reason_vip_and_real() {
    let rig = rig();
    rig.lbctl().ok(&["vip", "add", "tcp://10.200.1.3:80"]);
    let capture = dump(&rig, &["--at", "exit"]);
    ask(&rig, VIP, 22_000);
    let _ = http_get_from(rig.client(), 22_001, server("tcp://10.200.1.3:80"), "/");
    send(&rig, &elsewhere(7), 1);
    wait_for_lines(&capture, "tx ring, vip tcp://10.200.1.1:80, real 10.0.0.1: IP ", 1);
    wait_for_lines(&capture, "tx connection_table, vip tcp://10.200.1.1:80, real 10.0.0.1: IP", 2);
    wait_for_lines(&capture, "drop no_real, vip tcp://10.200.1.3:80: IP 192.168.1.2.22001", 1);
    wait_for_lines(&capture, "pass not_vip: IP 192.0.2.1.7 > 172.31.0.2.9: UDP", 1);
    let output = capture.stop();
    let syn = output.stdout.lines().find(|line| line.contains("tx ring")).expect("the SYN");
    assert!(syn.contains("> 10.0.0.1: IP 192.168.1.2.22000 > 10.200.1.1.80: Flags [S]"), "{syn}");
    assert_eq!(output.code(), Some(0), "{output}");
}

/// The kernel does not copy packets that the filter excludes; its counter shows it.
#[test]
fn filters_decide_in_the_kernel() {
    let rig = rig();
    let all = dump(&rig, &["--at", "exit"]);
    let inner = "tcp dst port 80 and tcp[13] & 2 != 0";
    let syn = dump(&rig, &["--at", "both", "--inner", inner]);
    // Words are joined.
    let words = dump(&rig, &["udp", "src", "port", "7"]);
    ask(&rig, VIP, 23_000);
    send(&rig, &elsewhere(7), 2);
    send(&rig, &elsewhere(8), 2);
    wait_for_lines(&all, ": IP", 4);
    wait_for_lines(&syn, "10.200.1.1", 1);
    assert_eq!(counts(&syn.stop()).matched, 1);
    wait_for_lines(&words, "192.0.2.1.7 > 172.31.0.2.9: UDP", 2);
    assert_eq!(counts(&words.stop()).matched, 2);
}

/// Ids are followed: a VIP that goes and comes again is another one to the program.
#[test]
fn vips_are_followed() {
    let rig = rig();
    let mut capture = dump(&rig, &["--at", "exit", "--vip", VIP]);
    rig.lbctl().ok(&["vip", "delete", VIP]);
    rig.lbctl().ok(&["vip", "add", "tcp://10.200.1.9:80"]);
    rig.lbctl().ok(&["vip", "add", VIP]);
    rig.lbctl().ok(&["real", "add", VIP, "10.0.0.1"]);
    let mut port = 24_000;
    let seen = wait_until(Duration::from_secs(5), || {
        port += 1;
        ask(&rig, VIP, port);
        capture.stdout().contains("vip tcp://10.200.1.1:80")
    });
    assert!(seen && capture.is_running(), "{}", capture.stderr());
}

/// A VIP that gets the id of another one is never taken for that.
#[test]
fn ids_that_are_given_away_again() {
    let rig = rig();
    let capture = dump(&rig, &["--at", "exit", "tcp or ip proto 4"]);
    for round in 1..=4 {
        // One goes, the other comes, in one command; packets follow at once.
        let address = format!("10.200.2.{round}");
        rig.lbctl().apply(&config(&(vip(&format!("tcp://{address}:80"), &["10.0.0.1"]))));
        let mut syn = eth().ip4("192.0.2.1", &address).tcp(25_000, 80).syn().bytes();
        syn[..6].copy_from_slice(&[2, 0, 0, 0, 0, 0xb1]);
        send(&rig, &syn, 2);
        let (to, called) = (format!(" > {address}.80: "), format!("vip tcp://{address}:80, "));
        wait_for_lines(&capture, &to, 2);
        let wrong = |line: &&str| line.contains(&to) && !line.contains(&called);
        assert_eq!(capture.stdout().lines().find(wrong), None);
    }
}

#[test]
fn interface_cpu_snaplen_and_sample() {
    let rig = rig();
    let output = rig.lbctl().exits(1, &["dump", "-i", "lo"]);
    assert!(output.stderr.contains("not run on interface lo; it runs on uplink"), "{output}");
    let output = rig.lbctl().exits(1, &["dump", "--cpu", "1000"]);
    assert!(output.stderr.contains("none of the CPUs asked for is online"), "{output}");

    let file = tempfile::NamedTempFile::new().expect("make a file");
    let path = file.path().to_str().expect("printable");
    let cut = dump(&rig, &["-i", UPLINK, "-s", "20", "-w", path, "udp"]);
    // As one is used to from tcpdump.
    let sampled = dump(&rig, &["-nn", "-i", "any", "--sample", "1/4", "udp"]);
    let on_0 = dump(&rig, &["--cpu", "0", "udp"]);
    let last = (nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN))
        .expect("sysconf")
        .expect("a number");
    let others = (last > 1).then(|| dump(&rig, &["--cpu", &format!("1-{}", last - 1), "udp"]));
    send(&rig, &elsewhere(7), 400);

    let sampled = counts(&sampled.stop());
    assert_eq!(sampled.matched, 400);
    assert!((40..160).contains(&sampled.captured), "{sampled:?}");
    let mut on_cpus = counts(&on_0.stop()).matched;
    if let Some(others) = others {
        on_cpus += counts(&others.stop()).matched;
    }
    assert_eq!(on_cpus, 400, "every packet was on one CPU");
    let output = cut.stop();
    assert_eq!(counts(&output).captured, 400, "{output}");
    let bytes = std::fs::read(path).expect("read the file");
    let got = frames(&bytes);
    assert!(got.len() == 400 && got.iter().all(|frame| **frame == elsewhere(7)[..20]));
}

/// Impossible requests are refused with one line that says why.
#[test]
fn wrong_usage() {
    let rig = rig();
    for (code, arguments, message) in [
        (2, &["--at", "entry", "--vip", VIP][..], "are known at exit only: use --at exit"),
        (
            2,
            &["--at", "exit", "--reason", "rign"],
            "there is no such reason; there are connection_table",
        ),
        (2, &["--sample", "4"], "write it as 1/N"),
        (2, &["--buffer", "1KiB"], "it must be 64.0 KiB to 1.0 GiB"),
        (2, &["--json"], "dump prints no JSON"),
        (1, &["port", "nosuchport"], "filter 'port nosuchport': "),
        (1, &["--at", "exit", "--vip", "tcp://10.9.9.9:1"], "no VIP tcp://10.9.9.9:1"),
        (1, &["--at", "exit", "--real", "10.9.9.9"], "no VIP has real 10.9.9.9"),
        (
            1,
            &["--at", "exit", "--verdict", "drop", "--reason", "ring"],
            "none of the reasons asked for has one of the verdicts",
        ),
    ] {
        let output = rig.lbctl().exits(code, &[&["dump"], arguments].concat());
        assert!(output.stderr.contains(message), "{arguments:?}: {output}");
        assert_eq!(output.stderr.lines().count(), 1, "{arguments:?}: {output}");
    }
    let output = rig.lbctl().exits(1, &["--instance", "none", "dump"]);
    assert!(output.stderr.contains("instance 'none' does not run"), "{output}");
    let real = crate::fixtures::Lbctl::new(&rig.bpffs).in_ns(&rig.topology.reals[0].ns);
    let output = real.exits(1, &["--instance", "real1", "dump", "--at", "exit"]);
    assert!(output.stderr.contains("instance 'real1' has no balancer"), "{output}");
}
