//! What a user may leave out, and shorter ways of typing.

use std::fs;
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use crate::fixtures::Host;
use crate::fixtures::json;
use crate::fixtures::vip;

const VIP: &str = "tcp://10.200.1.1:80";
const SECOND: &str = "udp://[fc00:1::1]:443";

/// A folder that stands for /etc, with the file of an instance.
fn etc(instance: &str, config: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("make a folder");
    fs::create_dir(folder.path().join("l4lb")).expect("make l4lb in it");
    fs::write(folder.path().join(format!("l4lb/{instance}.toml")), config).expect("write the file");
    folder
}

#[test]
fn a_file_that_nobody_names() {
    let host = Host::new();
    let etc = etc("blue", &Host::config(&vip(VIP, &["10.0.0.1"])));
    let lbctl = host.lbctl().finds("/etc", etc.path());
    lbctl.exits(3, &["plan", "--instance", "blue"]);
    lbctl.ok(&["apply", "--instance", "blue"]);
    lbctl.ok(&["plan", "--instance", "blue"]);
    let mut serve = lbctl.spawn(&["serve", "--instance", "blue"]);
    serve.wait_for("metrics at http");
    serve.stop();
    for command in ["plan", "apply", "serve"] {
        let output = lbctl.exits(2, &[command]);
        let says =
            "instance 'default' has no file /etc/l4lb/default.toml; write it, or name another";
        assert!(output.stderr.contains(says), "{output}");
    }
    // Without a file, 'doctor' looks at what runs.
    let doctor = lbctl.run(&["doctor"]);
    assert!(!doctor.stderr.contains("has no file"), "{doctor}");
}

#[test]
fn standard_input() {
    let host = Host::new();
    let config = Host::config(&vip(VIP, &["10.0.0.1"]));
    let lbctl = host.lbctl().input(&config);
    lbctl.exits(3, &["plan", "-f", "-"]);
    lbctl.ok(&["apply", "-f", "-"]);
    lbctl.ok(&["plan", "-f", "-"]);
    lbctl.run(&["doctor", "-f", "-"]);
    let saved = host.lbctl().ok(&["save", "--json"]).stdout;
    host.lbctl().input(&saved).ok(&["plan", "-f", "-"]);
    for (text, says) in [
        ("", "error: standard input: is empty; to stop balancing, use 'lbctl down'"),
        ("[packets]\nmtu = 1", "error: standard input:2: packets"),
        ("{\"packets\": 1}", "error: standard input"),
    ] {
        let output = host.lbctl().input(text).exits(1, &["apply", "-f", "-"]);
        assert!(output.stderr.starts_with(says), "{output}");
    }
    let output = lbctl.exits(2, &["serve", "-f", "-"]);
    assert!(output.stderr.contains("name a file"), "{output}");
}

#[test]
fn instance_and_bpffs_from_the_environment() {
    let host = Host::new();
    let config = Host::config(&vip(VIP, &["10.0.0.1"]));
    let blue = host.lbctl().env("LBCTL_INSTANCE", "blue").input(&config);
    blue.ok(&["apply", "-f", "-"]);
    assert!(host.has_pins("blue") && !host.has_pins("default"));
    // What is typed decides.
    blue.exits(1, &["status", "--instance", "default"]);
    let output = host.lbctl().env("LBCTL_INSTANCE", "no/name").exits(1, &["status"]);
    assert!(output.stderr.contains("no/name"), "{output}");
    let mut command = host.ns.command(env!("CARGO_BIN_EXE_lbctl"));
    command.env("LBCTL_BPFFS", host.bpffs.text()).env("LBCTL_INSTANCE", "blue");
    let output = command.args(["vip", "list", "--json"]).output().expect("run lbctl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn more_and_less_in_the_log() {
    let host = Host::new();
    let config = Host::config(&(vip(VIP, &["10.0.0.1"]) + "\n[checks.unused]\ntype = \"tcp\"\n"));
    let lbctl = host.lbctl().input(&config);
    let most = lbctl.ok(&["apply", "-vv", "-f", "-"]).stderr;
    assert!(most.contains("DEBUG libbpf"), "{most}");
    let plain = lbctl.ok(&["apply", "-f", "-"]).stderr;
    assert!(plain.contains(" WARN "), "{plain}");
    let quiet = lbctl.ok(&["apply", "-q", "-f", "-"]).stderr;
    assert_eq!(quiet, "");
    let quiet = lbctl.env("RUST_LOG", "debug").ok(&["apply", "--quiet", "-f", "-"]).stderr;
    assert_eq!(quiet, "", "the command line decides");
    let lbctl = host.lbctl().input(&config);
    let more = lbctl.ok(&["-v", "apply", "-f", "-"]).stderr;
    assert!(more.len() >= plain.len() && !more.contains("DEBUG libbpf"), "{more}");
    lbctl.exits(2, &["status", "-q", "-v"]);
    assert!(json(&host.lbctl().ok(&["status", "--json"])).is_object());
}

/// The state and weight of each real, by VIP: `tcp://10.200.1.1:80 10.0.0.1 up 1`.
fn reals(host: &Host) -> Vec<String> {
    let vips = json(&host.lbctl().ok(&["real", "list", "--json"]));
    let vips = vips.as_array().expect("a list of VIPs");
    let word = |value: &serde_json::Value| value.to_string().replace('"', "");
    let of_vip = |status: &serde_json::Value| -> Vec<String> {
        let reals = status["reals"].as_array().expect("its reals");
        let real = |real: &serde_json::Value| {
            let parts = [&status["vip"], &real["address"], &real["state"], &real["weight"]];
            parts.map(word).join(" ")
        };
        reals.iter().map(real).collect()
    };
    vips.iter().flat_map(of_vip).collect()
}

#[test]
fn several_vips_and_reals_are_one_change() {
    let host = Host::new();
    host.lbctl().apply(&Host::config(""));
    let run = |arguments: &[&str]| host.lbctl().ok(arguments).stdout;
    run(&["vip", "add", VIP, SECOND]);
    run(&["real", "add", VIP, "10.0.0.1", "10.0.0.2", "--weight", "3"]);
    run(&["real", "add", SECOND, "10.0.0.1", "10.0.0.3"]);
    run(&["real", "drain", VIP, SECOND, "10.0.0.1"]);
    assert_eq!(
        reals(&host),
        [
            "tcp://10.200.1.1:80 10.0.0.1 drain 3",
            "tcp://10.200.1.1:80 10.0.0.2 up 3",
            "udp://[fc00:1::1]:443 10.0.0.1 drain 1",
            "udp://[fc00:1::1]:443 10.0.0.3 up 1",
        ]
    );
    run(&["real", "undrain", "10.0.0.1", "--all"]);
    run(&["real", "weight", "--all", "10.0.0.1", "10.0.0.3", "9"]);
    run(&["real", "health", "--all", "10.0.0.1", "10.0.0.2", "unhealthy", "--reason", "disk full"]);
    let list = run(&["real", "ls"]);
    assert_eq!(list.matches("disk full").count(), 3, "{list}");
    run(&["real", "health", VIP, "10.0.0.1", "10.0.0.2", "auto"]);
    assert_eq!(run(&["real", "show"]).matches("disk full").count(), 1);
    // One that is not there: nothing changes.
    let before = reals(&host);
    for arguments in [
        &["real", "down", VIP, "10.0.0.1", "10.0.0.9"][..],
        &["real", "delete", VIP, SECOND, "10.0.0.2"],
        &["vip", "delete", VIP, "tcp://10.200.1.9:80"],
        &["real", "health", VIP, "10.0.0.1", "10.0.0.9", "healthy"],
    ] {
        host.lbctl().exits(1, arguments);
        assert_eq!(reals(&host), before, "{arguments:?}");
    }
    for (arguments, says) in [
        (&["drain", "10.0.0.1", VIP, "--wait"][..], "VIPs come first"),
        (&["drain", "--all", "10.0.0.1", "10.0.0.2", "--wait"], "--wait is for one real"),
        (&["drain", VIP], "which reals of tcp://10.200.1.1:80"),
        (&["health", VIP, "10.0.0.1", "sick"], "write it like"),
        (&["health", VIP, "10.0.0.1", "unhealthy"], "--reason"),
    ] {
        let output = host.lbctl().exits(2, &[&["real"], arguments].concat());
        assert!(output.stderr.contains(says), "{arguments:?}: {output}");
    }
    run(&["real", "rm", VIP, "10.0.0.1", "10.0.0.2"]);
    run(&["vip", "remove", VIP, SECOND]);
    assert!(reals(&host).is_empty());
}

#[test]
fn a_batch_is_made_as_a_whole_or_not_at_all() {
    let host = Host::new();
    host.lbctl().apply(&Host::config(&vip(VIP, &["10.0.0.1"])));
    let batch = |text: &str| host.lbctl().input(text).run(&["batch", "-f", "-"]);
    let output = batch(
        "# Two VIPs, and a real moves.
         vip add udp://[fc00:1::1]:443
         lbctl real add udp://[fc00:1::1]:443 10.0.0.3 --weight 2

         real delete tcp://10.200.1.1:80 10.0.0.1   # its only one
         real add tcp://10.200.1.1:80 10.0.0.2\n",
    );
    assert_eq!(output.code(), Some(0), "{output}");
    let after = ["tcp://10.200.1.1:80 10.0.0.2 up 1", "udp://[fc00:1::1]:443 10.0.0.3 up 2"];
    assert_eq!(reals(&host), after);
    for (text, says) in [
        (
            "real down --all 10.0.0.2\nreal down --all 10.0.0.9",
            "standard input:2: no VIP has a real",
        ),
        (
            "real down --all 10.0.0.2\nreal dwon --all 10.0.0.3",
            "a similar subcommand exists: 'down'",
        ),
        ("real list", "standard input:1: 'real list' is no change of a batch"),
        ("# nothing", "holds no change"),
        ("vip add tcp://10.200.1.1:81\nvip add tcp://10.200.1.1:81", "standard input:2:"),
        ("real down 'x", "standard input:1: a quotation mark"),
        (
            "vip add tcp://10.200.1.1:82\n\nvip add tcp://10.200.1.1:81 --check absent\nvip delete tcp://10.200.1.1:82",
            "error: standard input:3: check: no check is called 'absent'",
        ),
        ("\nreal add tcp://10.200.1.1:80 127.0.0.1", "standard input:2: "),
    ] {
        let output = batch(text);
        assert_eq!(output.code(), Some(1), "{text}: {output}");
        assert!(output.stderr.contains(says), "{text}: {output}");
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
        assert_eq!(reals(&host), after, "{text}");
    }
    // As JSON: the line, and the key if there is one.
    for (text, line, key) in [
        ("\nreal down --all 10.0.0.9", 2.into(), Value::Null),
        ("vip add tcp://10.200.1.1:81 --check absent", 1.into(), "check".into()),
        ("# nothing", Value::Null, Value::Null),
    ] {
        let output = host.lbctl().input(text).exits(1, &["batch", "-f", "-", "--json"]);
        let error = serde_json::from_str::<Value>(&output.stderr).expect("JSON")["error"].clone();
        assert_eq!((&error["line"], &error["key"]), (&line, &key), "{error}");
        assert_eq!(error["file"], "standard input", "{error}");
    }
    let file = tempfile::NamedTempFile::new().expect("make a file");
    let path = file.path().to_str().expect("a printable path");
    let line = |n: u32| format!("real add {VIP} 10.1.{}.{}\n", n >> 8, n & 255);
    fs::write(path, (0..1000).map(line).collect::<String>()).expect("write it");
    let since = Instant::now();
    host.lbctl().ok(&["batch", "-f", path]);
    assert!(since.elapsed().as_secs() < 30, "a line takes milliseconds");
    assert_eq!(reals(&host).len(), 1002);
    let too_many = (0..70_000).map(|_| "vip delete tcp://10.0.0.1:1\n").collect::<String>();
    fs::write(path, too_many).expect("write it");
    let output = host.lbctl().exits(1, &["batch", "-f", path]);
    assert!(output.stderr.contains("more than 65536 changes"), "{output}");
}

#[test]
fn a_typo_is_told_from_what_was_meant() {
    let host = Host::new();
    for (arguments, says) in [
        (&["statsu"][..], "similar subcommands exist: 'status', 'stats'"),
        (&["real", "drian"], "'drain'; see 'lbctl real --help'"),
        (&["status", "--chekc"], "a similar option exists: '--check'"),
        (&["vip", "add", VIP, "--no-real", "rejct"], "a similar value exists: 'reject'"),
    ] {
        let output = host.lbctl().exits(2, arguments);
        assert!(output.stderr.contains(says), "{output}");
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
    }
}

/// Without a command, the help comes: to standard error, as a usage error.
#[test]
fn nothing_typed_is_answered_by_help() {
    let host = Host::new();
    let output = host.ns.command(env!("CARGO_BIN_EXE_lbctl")).output().expect("run lbctl");
    let help = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), &*output.stdout), (Some(2), &b""[..]), "{help}");
    for said in ["Set up:\n", "Change:\n", "Look:\n", "Test:\n", "  apply ", "tcp://10.200.1.1:80"]
    {
        assert!(help.contains(said), "'{said}' is not in {help}");
    }
    let output = host.ns.command(env!("CARGO_BIN_EXE_lbctl")).arg("real").output();
    let output = output.expect("run lbctl");
    let help = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{help}");
    assert!(help.contains("  drain ") && help.contains("[aliases: ls, show]"), "{help}");
    let drain = host.lbctl().ok(&["real", "drain", "--help"]).stdout;
    assert!(drain.contains("Examples:\n  lbctl real drain tcp://"), "{drain}");
}

#[test]
fn instances_side_by_side() {
    let host = Host::new();
    assert!(host.lbctl().ok(&["instances"]).stdout.starts_with("no instance runs"));
    assert_eq!(json(&host.lbctl().ok(&["instances", "--json"])), serde_json::json!([]));
    host.lbctl().apply(&Host::config(&vip(VIP, &["10.0.0.1"])));
    let green = "[[interfaces]]\nname = \"lo\"\nxdp_mode = \"generic\"\ngateway_mac = \"02:00:00:00:00:fe\"\n";
    host.lbctl().input(green).ok(&["apply", "--instance", "green", "-f", "-"]);
    let file = crate::fixtures::config_file(green);
    let path = crate::fixtures::path_of(&file);
    let mut serve = host.lbctl().spawn(&["serve", "--instance", "green", "-f", path]);
    serve.wait_for("metrics at http");
    let text = host.lbctl().ok(&["instances"]).stdout;
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["INSTANCE", "CONDITION", "VIPS", "INTERFACES", "SERVE"], "{text}");
    assert!(rows[1][0] == "default" && rows[1].ends_with(&["1", "uplink", "no"]), "{text}");
    assert!(rows[2][0] == "green" && rows[2].contains(&"process"), "{text}");
    let list = json(&host.lbctl().ok(&["instances", "--json"]));
    assert_eq!(list[0]["interfaces"], serde_json::json!(["uplink"]), "{list}");
    assert_eq!((&list[1]["vips"], &list[0]["serve"]), (&0.into(), &serde_json::Value::Null));
    assert!(list[0]["condition"]["well"].is_boolean(), "{list}");
    serve.stop();
    // Removes its program alone.
    host.lbctl().ok(&["down", "--instance", "green"]);
    assert_eq!(json(&host.lbctl().ok(&["instances", "--json"])).as_array().map(Vec::len), Some(1));
}

#[test]
fn a_dry_run_shows_a_change_and_makes_none() {
    let host = Host::new();
    let config = Host::config(&vip(VIP, &["10.0.0.1"]));
    host.lbctl().input(&config).ok(&["apply", "-f", "-"]);
    let before = host.lbctl().ok(&["save"]).stdout;
    for arguments in [
        &["real", "add", VIP, "10.0.0.9", "--dry-run"][..],
        &["real", "--dry-run", "drain", "--all", "10.0.0.1"],
        &["vip", "delete", VIP, "--dry-run"],
        &["vip", "add", "udp://10.200.1.9:53", "--dry-run"],
    ] {
        let output = host.lbctl().ok(arguments);
        assert!(output.stdout.contains("nothing was changed"), "{output}");
        assert!(output.stdout.lines().count() > 1, "the change is shown: {output}");
        assert_eq!(host.lbctl().ok(&["save"]).stdout, before, "{arguments:?}");
    }
    // As --json prints what a change did.
    let output = host.lbctl().ok(&["--json", "vip", "delete", VIP, "--dry-run"]);
    assert!(output.stdout.contains("\"remove\""), "{output}");
    assert_eq!(host.lbctl().ok(&["save"]).stdout, before);
    for arguments in [
        &["real", "drain", VIP, "10.0.0.1", "--wait", "--dry-run"][..],
        &["real", "health", VIP, "10.0.0.1", "healthy", "--dry-run"],
    ] {
        host.lbctl().exits(2, arguments);
        assert_eq!(host.lbctl().ok(&["save"]).stdout, before, "{arguments:?}");
    }
    // What is wrong is found as if it were made.
    let output =
        host.lbctl().exits(1, &["real", "add", "tcp://10.9.9.9:1", "10.0.0.9", "--dry-run"]);
    assert!(output.stderr.contains("no VIP"), "{output}");
}

#[test]
fn words_of_other_tools_are_told_what_does_the_same() {
    let host = Host::new();
    for (arguments, says) in [
        (&["drain", "10.0.0.1"][..], "'lbctl real drain VIP REAL' drains a real"),
        (&["-L", "-n"], "'lbctl real list'"),
        (&["check", "lb.toml"], "write -f lb.toml; see 'lbctl check --help'"),
        (&["real", "set", VIP, "10.0.0.1", "weight", "5"], "see 'lbctl real --help'"),
        (&["vip", "add", "10.200.1.1:80"], "write tcp://10.200.1.1:80 or udp://10.200.1.1:80"),
        (&["real", "add", VIP, "10.0.0.1:8080"], "a real has no port of its own"),
        (&["chain", "insert", "drop_list.bpf.o", "4"], "a slot is a number"),
    ] {
        let output = host.lbctl().exits(2, arguments);
        assert!(output.stderr.contains(says), "{output}");
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
    }
}
