//! How captures end.

use std::io::BufRead as _;
use std::io::BufReader;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::counts;
use super::dump;
use super::elsewhere;
use super::frames;
use super::rig;
use super::send;
use crate::fixtures::Rig;
use crate::fixtures::UPLINK;
use crate::fixtures::wait_until;

/// No capture and nothing of it is left.
#[track_caller]
pub(super) fn nothing_left(rig: &Rig) {
    let instance = rig.bpffs.path().join("l4lb/default");
    assert!(!instance.join("captures").exists(), "a capture's folder is left");
    assert!(!instance.join("prog/capture").exists(), "a program is left");
    let status = crate::fixtures::json(&rig.lbctl().ok(&["status", "--json"]));
    let slots = status["chain"].as_array().expect("a list");
    assert!(slots.iter().all(|slot| slot["slot"] != 0), "{status}");
}

#[test]
fn by_a_signal_or_the_count() {
    let rig = rig();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let capture = dump(&rig, &["--at", "both", "udp"]);
        send(&rig, &elsewhere(7), 3);
        capture.signal(signal);
        let output = capture.wait(Duration::from_secs(5));
        assert_eq!((output.code(), counts(&output).captured), (Some(0), 6), "{output}");
        assert_eq!(output.stdout.lines().count(), 6, "{output}");
        nothing_left(&rig);
    }
    let capture = dump(&rig, &["-c", "2", "udp"]);
    send(&rig, &elsewhere(7), 5);
    let output = capture.wait(Duration::from_secs(5));
    assert_eq!((output.code(), output.stdout.lines().count()), (Some(0), 2), "{output}");
    nothing_left(&rig);
}

/// As in `lbctl dump | head -1`, also while no packet comes.
#[test]
fn when_the_reader_has_gone() {
    let rig = rig();
    for packets in [0, 1] {
        let mut command = rig.topology.balancer.ns.command(env!("CARGO_BIN_EXE_lbctl"));
        command.arg("--bpffs").arg(rig.bpffs.path()).args(["dump", "-w", "-"]);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start lbctl");
        let mut stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut first = String::new();
        stderr.read_line(&mut first).expect("it says something");
        assert!(first.contains("capturing"), "{first}");
        drop(child.stdout.take());
        send(&rig, &elsewhere(7), packets);
        let ended = wait_until(Duration::from_secs(5), || {
            child.try_wait().expect("wait for a child").is_some()
        });
        if !ended {
            let _ = child.kill();
        }
        let status = child.wait().expect("wait for a child");
        assert_eq!((ended, status.code()), (true, Some(0)), "{packets} packets");
        nothing_left(&rig);
    }
}

#[test]
fn when_the_disk_is_full() {
    let rig = rig();
    let mount = tempfile::tempdir().expect("make a folder");
    let path = mount.path().join("file");
    let ns = &rig.topology.balancer.ns;
    // In the mount namespace of the process alone, whose files are seen by way of its root.
    let mut command = ns.command("sh");
    let script = format!(
        "mount -t tmpfs -o size=64k tmpfs {dir}; exec 3>{dir}/file; {lbctl} --bpffs {bpffs} dump -w {dir}/file udp; \
         echo \"exit $?\" >&2; cat {dir}/file",
        dir = mount.path().display(),
        lbctl = env!("CARGO_BIN_EXE_lbctl"),
        bpffs = rig.bpffs.text(),
    );
    command.args(["-c", &format!("unshare -m sh -c '{script}'")]);
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start a shell");
    let mut stderr = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut line = String::new();
    stderr.read_line(&mut line).expect("it says something");
    assert!(line.contains("capturing"), "{line}");
    send(&rig, &elsewhere(7), 1200);
    let output = child.wait_with_output().expect("wait for a child");
    let rest: String = stderr.lines().map(|line| line.expect("text") + "\n").collect();
    assert!(rest.contains("No space left on device"), "{rest}");
    assert!(rest.contains("exit 1"), "{rest}");
    let got = frames(&output.stdout);
    assert!(got.len() > 100 && got.len() < 1200, "{}: {path:?}", got.len());
    assert!(got.iter().all(|frame| **frame == elsewhere(7)));
    nothing_left(&rig);
}

/// The instance is taken down under it.
#[test]
fn when_the_balancer_goes() {
    let rig = rig();
    let attach = ["decap", "attach", UPLINK, "--address", "10.9.9.9"];
    rig.lbctl().ok(&attach);
    let capture = dump(&rig, &["--at", "exit", "udp"]);
    rig.lbctl().ok(&["down"]);
    let output = capture.wait(Duration::from_secs(30));
    assert_eq!(output.code(), Some(1), "{output}");
    assert!(output.stderr.contains("has no balancer"), "{output}");
    rig.lbctl().ok(&["decap", "detach"]);
}

#[test]
fn when_the_instance_goes() {
    let rig = rig();
    let capture = dump(&rig, &["--at", "both", "udp"]);
    send(&rig, &elsewhere(7), 1);
    rig.lbctl().ok(&["down"]);
    let output = capture.wait(Duration::from_secs(10));
    assert!(output.stderr.contains("instance 'default' was taken down"), "{output}");
    assert_eq!((output.code(), output.stdout.lines().count()), (Some(1), 2), "{output}");
    assert!(!rig.bpffs.path().join("l4lb/default").exists());
}
