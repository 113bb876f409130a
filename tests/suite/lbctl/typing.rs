//! What a user may leave out, and shorter ways of typing.

use std::fs;

use tempfile::TempDir;

use crate::fixtures::Host;
use crate::fixtures::json;
use crate::fixtures::vip;

const VIP: &str = "tcp://10.200.1.1:80";

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
