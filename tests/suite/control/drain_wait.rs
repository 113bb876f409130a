//! `lbctl real drain --wait`, with connections that go on while it waits.

use std::fs::File;
use std::io::Read as _;
use std::process::Stdio;
use std::time::Duration;

use nix::pty::Winsize;
use nix::pty::openpty;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixtures::Host;
use crate::fixtures::Lbctl;
use crate::fixtures::Rig;
use crate::fixtures::changes_of;
use crate::fixtures::config;
use crate::fixtures::config_in_mode;
use crate::fixtures::goes_on;
use crate::fixtures::http_get;
use crate::fixtures::json;
use crate::fixtures::server;
use crate::fixtures::udp_ask;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

const VIP: &str = "tcp://10.200.1.1:80";
const OTHER: &str = "tcp://10.200.1.2:80";
const REALS: [&str; 2] = ["10.0.0.1", "10.0.0.2"];

/// Longer than any of these commands takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The address of a real, by its name.
fn address(name: &str) -> String {
    format!("10.0.0.{}", name.trim_start_matches("real"))
}

fn state(lbctl: &Lbctl<'_>, vip: &str, real: &str) -> Option<String> {
    let vips = json(&lbctl.ok(&["real", "list", vip, "--json"]));
    let reals = vips[0]["reals"].as_array().expect("reals").clone();
    let found = reals.iter().find(|other| other["address"] == real)?;
    Some(found["state"].as_str().expect("a state").to_owned())
}

/// It waits as long as a connection is in use, though its CPU sees no new flows and so reads no clock. New connections
/// go elsewhere meanwhile. Connections that ended are no reason to wait.
#[test]
fn waits_for_the_last_connection() {
    let rig = Rig::new(2);
    rig.lbctl().apply(&config(&[vip(VIP, &REALS), vip(OTHER, &REALS)].concat()));
    for _ in 0..20 {
        http_get(rig.client(), server(VIP), "/").expect("an answer");
        http_get(rig.client(), server(OTHER), "/").expect("an answer");
    }
    let download = rig.download(VIP);
    let real = address(download.real());
    let arguments = ["real", "drain", "--all", &real, "--wait", "--idle", "3s", "--then", "down"];
    let mut drain = rig.lbctl().spawn(&arguments);
    drain.wait_for("left");
    for _ in 0..3 {
        let begun = std::time::Instant::now();
        assert!(wait_until(PATIENCE, || begun.elapsed() > Duration::from_secs(3)));
        goes_on(&download, "while its real is drained");
        assert!(drain.is_running(), "it ended too early: {}{}", drain.stdout(), drain.stderr());
    }
    let new = http_get(rig.client(), server(VIP), "/").expect("an answer");
    assert_ne!(address(&new.real), real);
    assert_eq!(state(&rig.lbctl(), VIP, &real).as_deref(), Some("drain"));
    drop(download);
    let output = drain.wait(PATIENCE);
    assert_eq!(output.code(), Some(0), "{output}");
    assert!(
        output.stdout.contains(&format!("{real} has no flows left in 2 VIPs, after ")),
        "{output}"
    );
    assert_eq!(state(&rig.lbctl(), VIP, &real).as_deref(), Some("down"));
    assert_eq!(state(&rig.lbctl(), OTHER, &real).as_deref(), Some("down"));
}

/// At the timeout, by a signal, and when somebody takes the drain back, nothing moves unless --force says so.
#[test]
fn ends_without_harm() {
    let rig = Rig::new(2);
    rig.lbctl().apply(&config(&vip(VIP, &REALS)));
    let download = rig.download(VIP);
    let real = address(download.real());
    let drain = ["real", "drain", VIP, &real, "--wait"];
    let with = |more: &[&'static str]| [&drain[..], more].concat();

    let late = rig.lbctl().exits(1, &with(&["--timeout", "2s", "--then", "down"]));
    let stays = "it stays drained, and --then down is not done; 'lbctl real undrain";
    assert!(late.stderr.contains(stays) && late.stderr.contains(&format!("1 of {VIP}")), "{late}");
    assert_eq!(late.stderr.lines().count(), 1, "{late}");
    assert_eq!(state(&rig.lbctl(), VIP, &real).as_deref(), Some("drain"));

    let mut waiting = rig.lbctl().spawn(&drain);
    waiting.wait_for("left");
    waiting.signal(Signal::SIGINT);
    let interrupted = waiting.wait(PATIENCE);
    assert_eq!(interrupted.code(), Some(1), "{interrupted}");
    let stays = format!("interrupted: {real} stays drained in {VIP}, with 1 flows left");
    assert!(interrupted.stderr.contains(&stays), "{interrupted}");
    assert_eq!(state(&rig.lbctl(), VIP, &real).as_deref(), Some("drain"));

    let mut waiting = rig.lbctl().spawn(&drain);
    waiting.wait_for("left");
    rig.lbctl().ok(&["real", "undrain", VIP, &real]);
    let taken_back = waiting.wait(PATIENCE);
    assert_eq!(taken_back.code(), Some(1), "{taken_back}");
    assert!(taken_back.stderr.contains(&format!("take flows of {VIP} again")), "{taken_back}");
    goes_on(&download, "after all that");

    let forced =
        rig.lbctl().ok(&with(&["--timeout", "1s", "--then", "delete", "--force", "--json"]));
    let lines: Vec<Value> =
        forced.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines[0]["event"], "drain", "{forced}");
    assert_eq!(lines[1]["left"]["active"], 1, "{forced}");
    let end = lines.last().expect("an end");
    assert_eq!((&end["event"], &end["outcome"]), (&"end".into(), &"timeout".into()), "{forced}");
    assert_eq!(changes_of(&end["plan"], "vip").len(), 1, "{forced}");
    assert_eq!(state(&rig.lbctl(), VIP, &real), None);
}

/// UDP flows end by their timeout, and TCP flows in LRU tables by the silence of the real.
#[test]
fn flows_that_tell_less() {
    const UDP: &str = "udp://10.200.1.1:53";
    let rig = Rig::new(1);
    let _echo = rig.topology.serve_udp(&[server(UDP)]);
    for kind in ["set-associative", "lru"] {
        let more = format!("kind = \"{kind}\"\nudp_timeout_seconds = 4\n");
        let vips = [vip(UDP, &REALS[..1]), vip(VIP, &REALS[..1])].concat();
        rig.lbctl().apply(&config_in_mode("native", &(more + &vips)));
        udp_ask(rig.client(), server(UDP), "hello").expect("an echo");
        http_get(rig.client(), server(VIP), "/").expect("an answer");
        // Readings of a busy machine are seconds apart: one of them has to be between the two times.
        let wait = ["real", "drain", "--all", REALS[0], "--wait", "--idle", "20s", "--json"];
        let drained = rig.lbctl().ok(&wait);
        let counts = drained.stdout.lines().filter_map(|line| {
            let line: Value = serde_json::from_str(line).expect("JSON");
            Some(line.get("left")?["vips"].to_string())
        });
        let counts: Vec<_> = counts.collect();
        assert!(counts[0].contains(UDP) && counts[0].contains(VIP), "{kind}: {counts:?}");
        let udp_gone = counts.iter().position(|left| !left.contains(UDP));
        let tcp_gone = counts.iter().position(|left| !left.contains(VIP));
        assert!(udp_gone < tcp_gone && udp_gone.is_some(), "{kind}: {counts:?}");
        rig.lbctl().ok(&["real", "undrain", "--all", REALS[0]]);
    }
}

/// On a terminal there is a bar, drawn anew on one line, and gone in the end. What stays is on stdout.
#[test]
fn a_bar_on_a_terminal() {
    let host = Host::new();
    host.lbctl().apply(&Host::config(&vip(VIP, &REALS)));
    let size = Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None).expect("a terminal");
    let mut command = host.ns.command(env!("CARGO_BIN_EXE_lbctl"));
    command
        .args(["--bpffs", host.bpffs.text(), "real", "drain", VIP, REALS[0], "--wait"])
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(pty.slave));
    let child = command.spawn().expect("starts");
    // Its own ends: the terminal is at its end once the child has ended.
    drop(command);
    let mut screen = Vec::new();
    let mut terminal = File::from(pty.master);
    let mut buffer = [0; 4096];
    // EIO says that nobody has the other end any more.
    while let Ok(length @ 1..) = terminal.read(&mut buffer) {
        screen.extend_from_slice(&buffer[..length]);
    }
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        printed.contains("10.0.0.1 has no flows left in tcp://10.200.1.1:80, after "),
        "{printed}"
    );
    assert!(!printed.contains("; 0s of 10m"), "no lines of progress: {printed}");
    let drawn = String::from_utf8_lossy(&screen).into_owned();
    assert!(drawn.contains("10.0.0.1: 0 flows left; ") && drawn.contains(" of 10m"), "{drawn:?}");
    let mut parser =
        vt100::Parser::new(24.try_into().expect("a height"), 100.try_into().expect("a width"), 0);
    parser.process(&screen);
    assert_eq!(parser.screen().contents().trim(), "", "the bar is gone: {drawn:?}");
}

/// A host that serves 200 VIPs: one command, one plan for all of them, one wait, and the same back.
#[test]
fn a_host_in_200_vips() {
    let host = Host::new();
    let vips: String =
        (0..200).map(|port| vip(&format!("tcp://10.200.1.1:{}", 1000 + port), &REALS)).collect();
    host.lbctl().apply(&Host::config(&vips));
    let states = || -> Vec<String> {
        let vips = json(&host.lbctl().ok(&["real", "list", "--json"]));
        let vips = vips.as_array().expect("VIPs").iter();
        vips.map(|vip| vip["reals"][0]["state"].as_str().expect("a state").to_owned()).collect()
    };
    let drain = ["real", "drain", "--all", REALS[0], "--wait", "--then", "down", "--json"];
    let output = host.lbctl().ok(&drain);
    let lines: Vec<Value> =
        output.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let in_plan = |line: &Value| changes_of(&line["plan"], "vip").len();
    assert_eq!((&lines[0]["event"], in_plan(&lines[0])), (&"drain".into(), 200));
    let end = lines.last().expect("an end");
    assert_eq!((&end["outcome"], in_plan(end)), (&"drained".into(), 200));
    assert_eq!(states(), vec!["down"; 200]);
    host.lbctl().ok(&["real", "drain", "--all", REALS[0]]);
    // Those that were down stay so: each of them has a state of its own.
    assert_eq!(states(), vec!["down"; 200]);
    host.lbctl().ok(&["real", "up", "--all", REALS[0]]);
    host.lbctl().ok(&["real", "drain", "--all", REALS[0]]);
    assert_eq!(states(), vec!["drain"; 200]);
    let back = json(&host.lbctl().ok(&["real", "undrain", "--all", REALS[0], "--json"]));
    assert_eq!(changes_of(&back, "vip").len(), 200);
    assert_eq!(states(), vec!["up"; 200]);
}
