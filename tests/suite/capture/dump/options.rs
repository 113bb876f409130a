//! Which packets each option selects, out of many kinds. The tests compare the kernel's counts, so that an option
//! without effect is noticed, and one that selects nothing, too.

use std::ops::Range;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::counts;
use super::dump;
use super::elsewhere;
use super::send;
use super::wait_for_lines;
use crate::fixtures::Rig;
use crate::fixtures::Running;
use crate::fixtures::UPLINK;
use crate::fixtures::config;
use crate::fixtures::frame::eth;
use crate::fixtures::on_one_cpu;
use crate::fixtures::second_interface;
use crate::fixtures::second_network;
use crate::fixtures::send_frame;
use crate::fixtures::vip;

const FIRST: &str = "udp://10.200.1.1:53";
const SECOND: &str = "udp://10.200.1.2:53";

/// A VIP without reals.
const EMPTY: &str = "udp://10.200.1.3:53";

/// What the balancer handles at either point, without what hosts say by themselves.
const ALL: &str = "udp or ip proto 4";

fn vips() -> String {
    vip(FIRST, &["10.0.0.1"]) + &vip(SECOND, &["10.0.0.2"]) + &vip(EMPTY, &[])
}

fn rig() -> Rig {
    let rig = Rig::new(2);
    rig.lbctl().apply(&config(&vips()));
    rig
}

fn to(address: &str, port: u16) -> Vec<u8> {
    let mut frame = eth().ip4("192.0.2.1", address).udp(port, 53).data(&[0; 10]).bytes();
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 0xb1]);
    frame
}

/// 3 packets for the first VIP, 5 for the second, 4 for the one without reals, and 2 for none; each kind is a
/// flow, which is new if the port is.
#[track_caller]
fn send_all(rig: &Rig, port: u16) {
    on_one_cpu(|| {
        for (address, times) in [("10.200.1.1", 3), ("10.200.1.2", 5), ("10.200.1.3", 4)] {
            send(rig, &to(address, port), times);
        }
        send(rig, &elsewhere(port), 2);
    });
}

/// Waits until a capture has shown that many packets, and ends it: it has seen no others.
#[track_caller]
fn shows(capture: Running, count: usize, arguments: &[&str]) -> String {
    wait_for_lines(&capture, " > ", count);
    let output = capture.stop();
    let right = counts(&output).matched == count as u64 && output.stdout.lines().count() == count;
    assert!(right, "{arguments:?}: not {count} packets: {output}");
    output.stdout
}

#[test]
fn decisions() {
    let rig = rig();
    let cases: [(&[&str], usize); 16] = [
        (&[], 14),
        (&["--vip", FIRST], 3),
        (&["--vip", SECOND], 5),
        (&["--vip", FIRST, "--vip", EMPTY], 7),
        (&["--real", "10.0.0.1"], 3),
        (&["--real", "10.0.0.2"], 5),
        (&["--real", "10.0.0.1", "--real", "10.0.0.2"], 8),
        (&["--verdict", "tx"], 8),
        (&["--verdict", "drop"], 4),
        (&["--verdict", "pass"], 2),
        (&["--verdict", "drop", "--verdict", "pass"], 6),
        (&["--reason", "ring"], 2),
        (&["--reason", "connection_table"], 6),
        (&["--reason", "no_real"], 4),
        (&["--reason", "ring", "--reason", "no_real"], 6),
        (&["--vip", SECOND, "--real", "10.0.0.2", "--verdict", "tx", "--reason", "ring"], 1),
    ];
    // As many at a time as there can be.
    for (port, cases) in (1000..).zip(cases.chunks(4)) {
        let started: Vec<_> = cases
            .iter()
            .map(|(arguments, count)| {
                let capture = dump(&rig, &[&["--at", "exit", ALL], *arguments].concat());
                (capture, *count, *arguments)
            })
            .collect();
        send_all(&rig, port);
        for (capture, count, arguments) in started {
            shows(capture, count, arguments);
        }
    }
}

/// At entry nothing is decided yet: there, all that the expression matches.
#[test]
fn decisions_choose_at_exit_only() {
    let rig = rig();
    let cases: [(&[&str], usize); 4] = [
        (&["--vip", FIRST], 3),
        (&["--real", "10.0.0.2"], 5),
        (&["--verdict", "drop"], 4),
        (&["--reason", "not_vip"], 2),
    ];
    // Three at both points are as many as there can be.
    for (port, cases) in (1000..).zip(cases.chunks(3)) {
        let started: Vec<_> = cases
            .iter()
            .map(|(arguments, at_exit)| {
                let capture = dump(&rig, &[&["--at", "both", ALL], *arguments].concat());
                (capture, *at_exit, *arguments)
            })
            .collect();
        send_all(&rig, port);
        for (capture, at_exit, arguments) in started {
            let lines = shows(capture, 14 + at_exit, arguments);
            let decided = [" tx ", " drop ", " pass "];
            let decided = |line: &&str| decided.iter().any(|verdict| line.contains(verdict));
            assert_eq!(lines.lines().filter(decided).count(), at_exit, "{arguments:?}: {lines}");
        }
    }
}

#[test]
fn the_packet_inside() {
    let rig = rig();
    let cases: [(&[&str], usize); 4] = [
        (&["--inner", "dst host 10.200.1.1"], 3),
        (&["--inner", "udp dst port 53"], 8),
        (&["--inner", "tcp"], 0),
        // Of the outer header and the inner one.
        (&["--inner", "udp dst port 53", "dst host 10.0.0.2"], 5),
    ];
    let started = cases.map(|(arguments, count)| {
        (dump(&rig, &[&["--at", "exit"], arguments].concat()), count, arguments)
    });
    send_all(&rig, 1000);
    for (capture, count, arguments) in started {
        shows(capture, count, arguments);
    }
}

#[test]
fn one_interface_of_two() {
    let rig = rig();
    let (edge, _pass) = second_network(&rig.topology);
    rig.lbctl().apply(&(second_interface().to_owned() + &config(&vips())));
    let cases: [(&[&str], usize); 4] = [
        (&["-i", UPLINK, "udp"], 3),
        (&["-i", "second", "udp"], 5),
        (&["-i", "any", "udp"], 8),
        (&["-i", "second", "--at", "exit", "udp"], 5),
    ];
    let started = cases.map(|(arguments, count)| (dump(&rig, arguments), count, arguments));
    send(&rig, &elsewhere(7), 3);
    let mut at_second = elsewhere(7);
    at_second[..6].copy_from_slice(&[2, 0, 0, 0, 0, 0xb2]);
    for _ in 0..5 {
        send_frame(&edge, "edge", &at_second);
    }
    for (capture, count, arguments) in started {
        shows(capture, count, arguments);
    }
}

/// The larger buffer has room for what the default has none for.
#[test]
fn buffers_have_the_size_that_was_asked_for() {
    let rig = rig();
    let captures =
        ["64KiB", "16MiB"].map(|size| dump(&rig, &["--buffer", size, "-w", "/dev/null", "udp"]));
    for capture in &captures {
        // It does not read.
        capture.signal(Signal::SIGSTOP);
    }
    let mut frame = elsewhere(7);
    frame.resize(1500, 0);
    on_one_cpu(|| send(&rig, &frame, 3500));
    for capture in &captures {
        capture.signal(Signal::SIGCONT);
    }
    let [small, large] = captures.map(|capture| counts(&capture.stop()));
    assert_eq!((large.captured, large.dropped_by_buffer), (3500, 0));
    assert_eq!(small.matched, 3500, "{small:?}");
    let room: Range<u64> = 30..100;
    assert!(room.contains(&small.captured), "{small:?}");
}

/// It captures until then, and not only what was there when it began.
#[test]
fn the_time_that_was_asked_for() {
    let rig = rig();
    let capture = dump(&rig, &["--duration", "3s", "udp"]);
    send(&rig, &elsewhere(7), 1);
    let output = capture.wait(Duration::from_secs(30));
    assert_eq!((output.code(), counts(&output).matched), (Some(0), 1), "{output}");
}
