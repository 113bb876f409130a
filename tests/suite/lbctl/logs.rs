//! What is logged, where, and by whom it was caused.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::fixtures::Host;
use crate::fixtures::config_file;
use crate::fixtures::path_of;
use crate::fixtures::vip;

/// VIPs with as many reals each, below 10.0.0.0/16.
fn many(vips: u8, reals: u8) -> String {
    let vip = |n: u8| {
        let reals: Vec<_> = (1..=reals).map(|real| format!("10.0.{n}.{real}")).collect();
        let reals: Vec<_> = reals.iter().map(String::as_str).collect();
        vip(&format!("tcp://10.200.1.{n}:80"), &reals)
    };
    Host::config(&(1..=vips).map(vip).collect::<String>())
}

/// A change of any size is a few lines.
#[test]
fn a_large_plan_is_a_few_short_lines() {
    let host = Host::new();
    let file = config_file(&many(8, 40));
    let mut serve = host.lbctl().spawn(&["serve", "-f", path_of(&file)]);
    serve.wait_for("metrics at");
    let log = serve.stderr();
    let expected = "8 VIPs added (tcp://10.200.1.1:80, tcp://10.200.1.2:80, tcp://10.200.1.3:80, 5 more); \
        320 reals added (10.0.1.1, 10.0.1.2, 10.0.1.3, 317 more)";
    assert!(log.contains(expected), "{log}");
    assert!(log.lines().count() < 30, "{log}");
    assert!(log.lines().all(|line| line.chars().count() < 1300), "{log}");
    serve.stop();
    // Each of them at debug level.
    host.lbctl().ok(&["down"]);
    let mut serve = host.lbctl().spawn(&["-v", "serve", "-f", path_of(&file)]);
    serve.wait_for("metrics at");
    assert!(serve.stderr().contains("DEBUG     + real 10.0.8.40 weight 1"), "{}", serve.stderr());
    serve.stop();
}

#[test]
fn formats_of_the_log() {
    let host = Host::new();
    let file = config_file(&many(1, 2));
    for arguments in [&["serve", "--log-format", "json"][..], &["--json", "serve"]] {
        let mut serve = host.lbctl().spawn(&[arguments, &["-f", path_of(&file)]].concat());
        serve.wait_for("metrics at");
        let log = serve.stderr();
        for line in log.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {log}"));
            let keys: Vec<_> = line.as_object().expect("an object").keys().cloned().collect();
            assert_eq!(keys, ["fields", "level", "message", "target", "time"], "{line}");
        }
        serve.stop();
    }
    let mut serve = host.lbctl().spawn(&["serve", "-f", path_of(&file), "--log-format", "journal"]);
    serve.wait_for("metrics at");
    let log = serve.stderr();
    assert!(log.lines().all(|line| line.starts_with("<6>") || line.starts_with("<4>")), "{log}");
    serve.stop();
}

/// Lines have priorities if `JOURNAL_STREAM` names standard error, and only then.
#[test]
fn journald_is_recognized() {
    let folder = tempfile::tempdir().expect("a folder");
    for (offset, prefix) in [(0, "<3>error: "), (1, "error: ")] {
        let path = folder.path().join("log");
        let log = File::create(&path).expect("create");
        let metadata = log.metadata().expect("metadata");
        let status = Command::new(env!("CARGO_BIN_EXE_lbctl"))
            .args(["status", "--instance", "no instance"])
            .env("JOURNAL_STREAM", format!("{}:{}", metadata.dev(), metadata.ino() + offset))
            .stderr(log)
            .status()
            .expect("run it");
        assert_eq!(status.code(), Some(1));
        let text = std::fs::read_to_string(&path).expect("read");
        assert!(text.starts_with(prefix), "{text}");
    }
}

/// Whoever changes something is in the system's log, with what came of it, whether it is a command or a request.
#[test]
fn every_change_is_told() {
    let host = Host::new();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log");
    let socket = UnixDatagram::bind(&path).expect("bind");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a bound");
    let next = || {
        let mut buffer = [0; 8192];
        let length = socket.recv(&mut buffer).expect("a line");
        String::from_utf8(buffer[..length].to_vec()).expect("text")
    };
    let lbctl = || host.lbctl().env("LBCTL_AUDIT", path.to_str().expect("text"));
    let file = config_file(&many(1, 2));
    lbctl().ok(&["apply", "-f", path_of(&file)]);
    let line = next();
    assert!(line.starts_with("<85>lbctl[") && !line.contains('\n'), "{line}");
    assert!(line.contains("]: instance default: lbctl --bpffs "), "{line}");
    assert!(
        line.contains(" by user 0 (root)") && line.contains(": done: program loaded"),
        "{line}"
    );
    // Nobody forges a line.
    let vip = "tcp://10.200.1.1:80";
    let reason = "x\nERROR\u{1b}[2J";
    let told = ["real", "health", vip, "10.0.1.1", "unhealthy", "--reason", reason];
    lbctl().env("SUDO_USER", "mal\nlory").ok(&told);
    let line = next();
    assert!(!line.contains('\n') && !line.contains('\u{1b}'), "{line}");
    assert!(line.contains("SUDO_USER claims mal\\nlory"), "{line}");
    assert!(
        line.contains(": done: 1 VIP changed (tcp://10.200.1.1:80); 1 real changed (10.0.1.1)"),
        "{line}"
    );
    lbctl().exits(1, &["real", "delete", vip, "10.0.9.9"]);
    let line = next();
    assert!(line.contains(": FAILED: VIP tcp://10.200.1.1:80 has no real 10.0.9.9"), "{line}");
    // Looking is no change.
    lbctl().ok(&["status"]);
    lbctl().ok(&["real", "list"]);
    lbctl().exits(2, &["real", "delete"]);
    let mut serve = lbctl().spawn(&["serve", "-f", path_of(&file)]);
    serve.wait_for("metrics at");
    assert!(next().contains(": serve -f /"), "nothing before");
    lbctl().ok(&["reload"]);
    let lines = [next(), next()].concat();
    assert!(lines.contains(": reload of /") && lines.contains(" reload by user 0"), "{lines}");
    std::fs::write(file.path(), "nonsense").expect("write");
    lbctl().exits(1, &["reload"]);
    let lines = [next(), next()].concat();
    assert_eq!(lines.matches(": FAILED: ").count(), 2, "{lines}");
    serve.stop();
    // Nobody takes it: the command is as quick and as well.
    drop(socket);
    lbctl().ok(&["vip", "delete", vip]);
}
