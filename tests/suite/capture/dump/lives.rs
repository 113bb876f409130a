//! Captures beside others, and through what happens to them and to the balancer.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::VIP;
use super::ask;
use super::counts;
use super::dump;
use super::elsewhere;
use super::ends::nothing_left;
use super::rig;
use super::send;
use super::vips;
use super::wait_for_lines;
use crate::fixtures::config;
use crate::fixtures::goes_on;
use crate::fixtures::json;
use crate::fixtures::reason;
use crate::fixtures::wait_until;

/// Each gets what it asked for, in whatever order they end.
#[test]
fn two_at_once() {
    let rig = rig();
    for first_ends_first in [true, false] {
        let first = dump(&rig, &["--at", "both", "udp port 7"]);
        let second = dump(&rig, &["--at", "both", "udp port 8"]);
        send(&rig, &elsewhere(7), 1);
        send(&rig, &elsewhere(8), 1);
        let (first, second) = ((first, "192.0.2.1.7 "), (second, "192.0.2.1.8 "));
        let (ends, stays) = if first_ends_first { (first, second) } else { (second, first) };
        for (capture, packet) in [&ends, &stays] {
            wait_for_lines(capture, packet, 2);
        }
        assert_eq!(counts(&ends.0.stop()).captured, 2);
        send(&rig, &elsewhere(7), 1);
        send(&rig, &elsewhere(8), 1);
        wait_for_lines(&stays.0, stays.1, 4);
        assert_eq!(counts(&stays.0.stop()).captured, 4);
        nothing_left(&rig);
    }
}

/// As many as there is room for, and no more.
#[test]
fn no_more_than_there_is_room_for() {
    let rig = rig();
    let four: Vec<_> = (0..4).map(|_| dump(&rig, &["udp"])).collect();
    let output = rig.lbctl().exits(1, &["dump", "udp"]);
    assert!(output.stderr.contains("4 captures of instance 'default' run already"), "{output}");
    send(&rig, &elsewhere(7), 1);
    for capture in four {
        wait_for_lines(&capture, "192.0.2.1.7 ", 1);
        capture.stop();
    }
    let three: Vec<_> = (0..3).map(|_| dump(&rig, &["--at", "both", "udp"])).collect();
    let output = rig.lbctl().exits(1, &["dump", "--at", "both", "udp"]);
    assert!(output.stderr.contains("more programs than the kernel allows"), "{output}");
    let fourth = dump(&rig, &["--at", "exit", "udp"]);
    send(&rig, &elsewhere(7), 1);
    for capture in &three {
        wait_for_lines(capture, "192.0.2.1.7 ", 2);
    }
    wait_for_lines(&fourth, "192.0.2.1.7 ", 1);
    drop((three, fourth));
    nothing_left(&rig);
}

/// A capture that is killed prevents nothing: packets go on, and the next command removes what is left.
#[test]
fn killed() {
    let rig = rig();
    let download = rig.download(VIP);
    let other = dump(&rig, &["--at", "both", "udp"]);
    for arguments in [&["--at", "both"][..], &["--at", "entry"], &["--at", "exit"]] {
        let capture = dump(&rig, arguments);
        goes_on(&download, "while it captures");
        capture.signal(Signal::SIGKILL);
        let output = capture.wait(Duration::from_secs(5));
        assert_eq!(output.code(), None, "{output}");
        goes_on(&download, "after it was killed");
        send(&rig, &elsewhere(7), 1);
    }
    wait_for_lines(&other, "192.0.2.1.7 ", 6);
    // The commands in between have taken away what the one before had left.
    let left = rig.bpffs.path().join("l4lb/default/captures");
    let folders = || std::fs::read_dir(&left).map_or(0, Iterator::count);
    assert_eq!(folders(), 2);
    rig.lbctl().ok(&["stats"]);
    assert_eq!(folders(), 1);
    other.stop();
    nothing_left(&rig);

    let capture = dump(&rig, &["--at", "both"]);
    capture.signal(Signal::SIGKILL);
    capture.wait(Duration::from_secs(5));
    rig.lbctl().ok(&["stats"]);
    nothing_left(&rig);
    goes_on(&download, "in the end");
}

/// Another program takes the balancer's place, by `apply`: the capture goes on, and no packet is lost.
#[test]
fn the_balancer_is_replaced() {
    let rig = rig();
    let download = rig.download(VIP);
    let capture = dump(&rig, &["--at", "both", "udp"]);
    for timeout in ["20", "30"] {
        let more = format!("udp_timeout_seconds = {timeout}\n{}", vips());
        let output = rig.lbctl().apply(&config(&more));
        assert!(output.stdout.contains("program"), "{output}");
        goes_on(&download, "after the balancer was replaced");
    }
    send(&rig, &elsewhere(7), 1);
    wait_for_lines(&capture, "192.0.2.1.7 ", 2);
    capture.stop();
    nothing_left(&rig);
}

/// The instance is set up anew while a capture runs: it captures there.
#[test]
fn the_instance_is_set_up_anew() {
    let rig = rig();
    let capture = dump(&rig, &["--at", "both", "udp"]);
    rig.lbctl().ok(&["down"]);
    rig.lbctl().apply(&config(&vips()));
    let mut port = 100;
    let seen = wait_until(Duration::from_secs(5), || {
        port += 1;
        send(&rig, &elsewhere(port), 1);
        capture.stdout().contains("pass not_vip: ")
    });
    assert!(seen, "{}", capture.stderr());
    capture.stop();
    nothing_left(&rig);
}

/// With a buffer that is much too small, copies are lost and counted; packets are not.
#[test]
fn a_flood_loses_copies_and_no_packets() {
    let rig = rig();
    let capture = dump(&rig, &["--buffer", "64KiB", "-w", "/dev/null", "udp"]);
    let passed = || reason(&json(&rig.lbctl().ok(&["stats", "--json"])), "not_vip");
    let before = passed();
    // It does not read.
    capture.signal(Signal::SIGSTOP);
    let mut frame = elsewhere(7);
    frame.resize(1400, 0);
    send(&rig, &frame, 1000);
    assert_eq!(passed(), before + 1000);
    capture.signal(Signal::SIGCONT);
    let counts = counts(&capture.stop());
    assert_eq!(counts.matched, 1000, "{counts:?}");
    assert!(counts.dropped_by_buffer > 500 && counts.captured > 30, "{counts:?}");
    ask(&rig, VIP, 25_000);
}

/// Without the pins that a capture needs, it does not begin; `apply` pins them again, and it sees all.
#[test]
fn pins_that_are_missing() {
    let rig = rig();
    let download = rig.download(VIP);
    let pins = rig.bpffs.path().join("l4lb/default/map");
    for map in ["captures", "capture_next", "capture_verdict"] {
        std::fs::remove_file(pins.join(map)).expect("remove a pin");
    }
    for at in ["entry", "exit", "both"] {
        let output = rig.lbctl().exits(1, &["dump", "--at", at]);
        let what = "somebody removed map/capture_next, map/capture_verdict, map/captures;";
        assert!(output.stderr.contains(what), "{output}");
        assert!(output.stderr.contains("'lbctl apply -f FILE'"), "{output}");
    }
    rig.lbctl().apply(&config(&vips()));
    let entry = dump(&rig, &["udp"]);
    send(&rig, &elsewhere(7), 1);
    wait_for_lines(&entry, "192.0.2.1.7 ", 1);
    rig.lbctl().apply(&config(&format!("udp_timeout_seconds = 20\n{}", vips())));
    let both = dump(&rig, &["--at", "both", "udp"]);
    send(&rig, &elsewhere(8), 1);
    wait_for_lines(&both, "192.0.2.1.8 ", 2);
    wait_for_lines(&entry, "192.0.2.1.8 ", 1);
    goes_on(&download, "in the end");
}
