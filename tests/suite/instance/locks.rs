//! The lock of an instance's one writer: every wait for it ends, and a signal ends it at once.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process;
use std::time::Duration;
use std::time::Instant;

use nix::sys::signal::Signal;

use crate::fixtures::Host;
use crate::fixtures::METRICS;
use crate::fixtures::config_file;
use crate::fixtures::get;
use crate::fixtures::lock;
use crate::fixtures::path_of;
use crate::fixtures::vip;
use crate::fixtures::wait_for_waiting;

const VIP: &str = "tcp://10.200.1.1:80";

/// Far below what a command would wait for, and far above what one takes.
const SOON: Duration = Duration::from_secs(20);

/// A host that balances.
fn host() -> Host {
    let host = Host::new();
    host.lbctl().apply(&Host::config(&vip(VIP, &["10.0.0.1"])));
    host
}

#[test]
fn a_command_that_gives_up_names_the_holder() {
    let host = host();
    let file = config_file(&Host::config(&vip(VIP, &["10.0.0.2"])));
    let file = path_of(&file);
    let folder = host.bpffs.path().join("l4lb/default");
    let holder = format!("is being changed by process {} (", process::id());
    let before = host.lbctl().ok(&["save"]).stdout;
    let lock = lock(&folder);
    let commands = [
        &["apply", "-f", file][..],
        &["serve", "-f", file],
        &["down"],
        &["vip", "add", "tcp://10.200.1.2:80"],
        &["vip", "delete", VIP],
        &["real", "down", VIP, "10.0.0.1"],
        &["decap", "attach", "uplink"],
        &["decap", "detach"],
        &["chain", "remove", "1"],
        &["chain", "move", "1", "2"],
        &["flows", "delete", "--all"],
        &["dump"],
    ];
    for command in commands {
        let arguments = [&["--lock-timeout", "0"], command].concat();
        let output = host.lbctl().exits(1, &arguments);
        let error = output.stderr.lines().last().unwrap_or_default();
        for word in ["error: ", &holder, "this was not to wait", "--lock-timeout SECONDS"] {
            assert!(error.contains(word), "{command:?}: {word}, not {output}");
        }
    }
    let output =
        host.lbctl().exits(1, &["--lock-timeout", "2", "vip", "add", "tcp://10.200.1.2:80"]);
    assert!(output.stderr.contains(&holder) && output.stderr.contains("for 2 s"), "{output}");
    assert!(output.stderr.contains("waiting for process"), "it says so while it waits: {output}");
    for wrong in ["-1", "86401", "1.5", "x", "18446744073709551616"] {
        host.lbctl().exits(2, &[&format!("--lock-timeout={wrong}"), "down"]);
    }

    // `lbctl` cannot see processes of another pid namespace.
    let unshared = ["unshare", "--pid", "--fork", "--mount-proc"];
    let arguments = ["--lock-timeout", "0", "vip", "delete", VIP];
    let output = crate::fixtures::by_way_of(&host, &unshared, host.bpffs.text(), &arguments);
    assert_eq!(output.code(), Some(1), "{output}");
    assert!(output.stderr.contains("a process that cannot be seen from here"), "{output}");

    drop(lock);
    assert_eq!(host.lbctl().ok(&["save"]).stdout, before);
    host.lbctl().ok(&["--lock-timeout", "0", "vip", "add", "tcp://10.200.1.2:80"]);
}

#[test]
fn a_waiting_command_goes_on_when_the_lock_is_free() {
    let host = host();
    let folder = host.bpffs.path().join("l4lb/default");
    let lock = lock(&folder);
    let waiting = host.lbctl().spawn(&["vip", "add", "tcp://10.200.1.2:80"]);
    wait_for_waiting(&waiting, &folder);
    drop(lock);
    let output = waiting.wait(SOON);
    assert_eq!(output.code(), Some(0), "{output}");
    host.lbctl().ok(&["vip", "delete", "tcp://10.200.1.2:80"]);
}

/// A lock on a folder that is no longer the instance's protects nothing.
#[test]
fn the_lock_is_of_the_folder_that_is_there() {
    let host = host();
    let folder = host.bpffs.path().join("l4lb/default");
    let old = lock(&folder);
    let waiting = host.lbctl().spawn(&["--lock-timeout", "3", "vip", "add", "tcp://10.200.1.2:80"]);
    wait_for_waiting(&waiting, &folder);
    // The instance is taken down and set up anew, by somebody who is not done with it yet.
    fs::rename(&folder, folder.with_file_name("old")).expect("move the folder");
    fs::DirBuilder::new().mode(0o700).create(&folder).expect("make another one");
    for part in fs::read_dir(folder.with_file_name("old")).expect("list it").flatten() {
        fs::rename(part.path(), folder.join(part.file_name())).expect("move what is in it");
    }
    let new = lock(&folder);
    drop(old);
    let output = waiting.wait(SOON);
    assert_eq!(output.code(), Some(1), "it went on beside who has the lock: {output}");
    assert!(output.stderr.contains("is being changed by process"), "{output}");
    drop(new);
    assert!(!host.lbctl().ok(&["vip", "list"]).stdout.contains("10.200.1.2"));
}

#[test]
fn a_signal_ends_a_waiting_command() {
    let host = host();
    let file = config_file(&Host::config(&vip(VIP, &["10.0.0.2"])));
    let file = path_of(&file);
    let folder = host.bpffs.path().join("l4lb/default");
    let lock = lock(&folder);
    let patient = ["--lock-timeout", "600"];
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        for (command, code) in [
            (&["apply", "-f", file][..], None),
            (&["vip", "delete", VIP], None),
            (&["dump"], Some(1)),
            (&["serve", "-f", file], Some(0)),
        ] {
            let mut waiting = host.lbctl().spawn(&[&patient, command].concat());
            waiting.wait_for("waiting for process");
            let since = Instant::now();
            waiting.signal(signal);
            let output = waiting.wait(SOON);
            assert!(since.elapsed() < SOON, "{command:?}");
            assert_eq!(output.code(), code, "{signal} to {command:?}: {output}");
            let by = output.status.signal();
            assert_eq!(by, code.is_none().then_some(signal as i32), "{command:?}: {output}");
        }
    }
    drop(lock);
    assert!(host.lbctl().ok(&["real", "list"]).stdout.contains("10.0.0.1"), "nothing has changed");
}

/// While `serve` waits at a reload, it answers; and it ends when it is told to.
#[test]
fn serve_answers_while_it_waits() {
    let host = Host::new();
    let file = config_file(&Host::config(&vip(VIP, &["10.0.0.1"])));
    let path = path_of(&file);
    let folder = host.bpffs.path().join("l4lb/default");
    let mut serve = host.lbctl().spawn(&["--lock-timeout", "600", "serve", "-f", path]);
    serve.wait_for("metrics at http");
    let lock = lock(&folder);
    fs::write(&file, Host::config(&vip(VIP, &["10.0.0.2"]))).expect("write the configuration");
    serve.signal(Signal::SIGHUP);
    serve.wait_for("waiting for process");
    for path in ["/healthz", "/readyz", "/metrics"] {
        let (status, text) = get(&host.ns, METRICS, path).expect("it answers");
        assert!(status == 200 || path == "/readyz", "{path}: {status} {text}");
    }
    serve.signal(Signal::SIGTERM);
    let output = serve.wait(SOON);
    assert_eq!(output.code(), Some(0), "{output}");
    assert!(!output.stderr.contains("ERROR"), "{output}");
    drop(lock);
    assert!(host.lbctl().ok(&["real", "list"]).stdout.contains("10.0.0.1"), "nothing has changed");
}

/// A capture ends on a signal while another command holds the lock. The next command removes what it leaves.
#[test]
fn a_capture_ends_beside_a_command_that_goes_on() {
    let host = host();
    let folder = host.bpffs.path().join("l4lb/default");
    let mut capture = host.lbctl().spawn(&["dump"]);
    capture.wait_for("capturing at entry");
    let mode = |path: &str| {
        let about = fs::metadata(folder.join(path)).expect("the folder of a capture");
        about.permissions().mode() & 0o7777
    };
    assert_eq!([mode("captures"), mode("captures/0")], [0o700; 2]);
    let lock = lock(&folder);
    capture.signal(Signal::SIGTERM);
    let output = capture.wait(SOON);
    assert_eq!(output.code(), Some(0), "{output}");
    assert!(
        output.stderr.contains("the next command removes the capture")
            && output.stderr.contains("packets captured")
    );
    drop(lock);
    host.lbctl().ok(&["stats"]);
    assert!(!folder.join("captures").exists());
}
