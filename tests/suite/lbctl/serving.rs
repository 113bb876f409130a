//! One `lbctl serve` follows an instance, and one `lbctl decap serve` an interface of it. A second one is refused, and
//! names the first. All of them hear signals while they wait.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::NamedTempFile;

use crate::fixtures::Host;
use crate::fixtures::Output;
use crate::fixtures::Running;
use crate::fixtures::UPLINK;
use crate::fixtures::by_way_of;
use crate::fixtures::config_file;
use crate::fixtures::lock;
use crate::fixtures::path_of;
use crate::fixtures::vip;
use crate::fixtures::wait_for_waiting;

const VIP: &str = "tcp://10.200.1.1:80";
const SOON: Duration = Duration::from_secs(20);

#[track_caller]
fn serve(host: &Host, file: &NamedTempFile) -> Running {
    let mut running = host.lbctl().spawn(&["serve", "-f", path_of(file)]);
    running.wait_for("metrics at http");
    running
}

fn folder(host: &Host, name: &str) -> PathBuf {
    host.bpffs.path().join("l4lb").join(name)
}

/// The names in the folder of instances.
#[track_caller]
fn left(host: &Host) -> Vec<String> {
    let entries = fs::read_dir(host.bpffs.path().join("l4lb")).expect("the folder of instances");
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Fails unless it was refused because the other one serves.
#[track_caller]
fn refused(output: &Output, part: &str, first: &Running) {
    assert_eq!(output.code(), Some(1), "{output}");
    // A process that waits longer than a moment says so.
    let errors: Vec<_> = output.stderr.lines().filter(|line| !line.contains("INFO")).collect();
    let [error] = errors[..] else { panic!("one line, not {output}") };
    let names = format!("error: {part} is served already, by process {} (", first.pid());
    assert!(error.starts_with(&names), "not '{names}', but {output}");
    assert!(output.stderr.contains("serve") && output.stderr.contains("reload"), "{output}");
}

#[test]
fn a_second_one_is_refused() {
    const PART: &str = "the balancer of instance 'default'";
    let host = Host::new();
    let file = config_file(&Host::config(&vip(VIP, &["10.0.0.1"])));
    let other = config_file(&Host::config(&vip(VIP, &["10.0.0.2"])));
    let mut first = serve(&host, &file);
    let second = || host.lbctl().run(&["--lock-timeout", "0", "serve", "-f", path_of(&other)]);
    refused(&second(), PART, &first);
    assert!(host.lbctl().ok(&["real", "list"]).stdout.contains("10.0.0.1"), "nothing has changed");
    // A process that is stopped (SIGSTOP) still serves.
    first.signal(Signal::SIGSTOP);
    refused(&second(), PART, &first);
    first.signal(Signal::SIGCONT);
    // The pins of the instance go and come back; the same process serves it.
    host.lbctl().ok(&["down"]);
    refused(&second(), PART, &first);
    host.lbctl().ok(&["apply", "-f", path_of(&file)]);
    refused(&second(), PART, &first);
    // `lbctl` cannot see processes of another pid namespace.
    let unshared = ["unshare", "--pid", "--fork", "--mount-proc"];
    let output = by_way_of(
        &host,
        &unshared,
        host.bpffs.text(),
        &["--lock-timeout", "0", "serve", "-f", "lb.toml"],
    );
    assert_eq!(output.code(), Some(1), "{output}");
    assert!(output.stderr.contains("a process that cannot be seen from here"), "{output}");
    assert!(first.is_running());
    assert_eq!(first.stop().code(), Some(0));
    assert_eq!(left(&host), ["default"], "it takes its folder along");

    // A process that is killed leaves an empty folder. The next one takes it, or 'down' removes it.
    let killed = serve(&host, &file);
    killed.signal(Signal::SIGKILL);
    killed.wait(SOON);
    assert!(left(&host).contains(&"default:serve".to_owned()));
    let again = serve(&host, &file);
    refused(&second(), PART, &again);
    again.signal(Signal::SIGKILL);
    again.wait(SOON);
    host.lbctl().ok(&["down"]);
    assert_eq!(left(&host), [""; 0]);

    // 'down' removes it also where there is nothing else to take down, or where other programs stay.
    let killed = serve(&host, &file);
    host.lbctl().ok(&["down"]);
    killed.signal(Signal::SIGKILL);
    killed.wait(SOON);
    assert_eq!(left(&host), ["default:serve"]);
    host.lbctl().run(&["down"]);
    assert_eq!(left(&host), [""; 0]);
    let killed = serve(&host, &file);
    host.lbctl().ok(&["decap", "attach", UPLINK, "--address", "172.31.0.2"]);
    killed.signal(Signal::SIGKILL);
    killed.wait(SOON);
    host.lbctl().ok(&["down"]);
    assert_eq!(left(&host), ["default"]);
}

#[test]
fn of_several_that_start_at_once_one_serves() {
    let host = Host::new();
    let file = config_file(&Host::config(&vip(VIP, &["10.0.0.1"])));
    let start = |_| host.lbctl().spawn(&["serve", "-f", path_of(&file)]);
    let mut all: Vec<_> = (0..4).map(start).collect();
    let serves = crate::fixtures::wait_until(SOON * 2, || {
        all.iter_mut().map(Running::is_running).filter(|runs| *runs).count() == 1
    });
    assert!(serves, "one goes on");
    let at = all.iter_mut().position(Running::is_running).expect("one that serves");
    let mut first = all.remove(at);
    first.wait_for("metrics at http");
    for running in all {
        refused(&running.wait(SOON), "the balancer of instance 'default'", &first);
    }
    assert_eq!(first.stop().code(), Some(0));
}

/// An operator who restarts it by hand need not wait for the old one to end.
#[test]
fn the_next_one_waits_for_one_that_ends() {
    const WAITS: &str = "which serves the same, to end";
    let host = Host::new();
    let file = config_file(&Host::config(&vip(VIP, &["10.0.0.1"])));
    let mut serving = serve(&host, &file);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let mut next = host.lbctl().spawn(&["serve", "-f", path_of(&file)]);
        next.wait_for(WAITS);
        serving.signal(signal);
        serving.wait(SOON);
        next.wait_for("metrics at http");
        serving = next;
    }
    // It ends on a signal while it waits.
    let mut next = host.lbctl().spawn(&["serve", "-f", path_of(&file)]);
    next.wait_for(WAITS);
    next.signal(Signal::SIGTERM);
    let output = next.wait(SOON);
    assert_eq!(output.code(), Some(0), "{output}");
    assert!(output.stderr.contains("served already"), "{output}");
    assert_eq!(serving.stop().code(), Some(0));
}

#[test]
fn decapsulation_is_served_by_interface() {
    let host = Host::new();
    let file = config_file(&Host::config(&vip(VIP, &["10.0.0.1"])));
    let decap = |interfaces: &[&str]| {
        let mut running = host.lbctl().spawn(&[&["decap", "serve"], interfaces].concat());
        running.wait_for("decapsulating on");
        running
    };
    let first = decap(&["uplink", "uplink"]);
    let part = |interface: &str| format!("decapsulation on {interface} of instance 'default'");
    for interfaces in [&["uplink"][..], &["nobody", "uplink"]] {
        let second = [&["--lock-timeout", "0", "decap", "serve"], interfaces].concat();
        refused(&host.lbctl().run(&second), &part("uplink"), &first);
    }
    // As the units for systemd do it: one for each interface, and a balancer in the same instance.
    host.ns.shell("ip link property add dev uplink altname north");
    let second = host.lbctl().run(&["--lock-timeout", "0", "decap", "serve", "north"]);
    refused(&second, &part("uplink"), &first);
    host.lbctl().ok(&["decap", "reload", "north"]);
    let beside = decap(&["nobody"]);
    let balancer = serve(&host, &file);
    let second =
        |interface: &str| host.lbctl().run(&["--lock-timeout", "0", "decap", "serve", interface]);
    refused(&second("nobody"), &part("nobody"), &beside);
    host.lbctl().ok(&["decap", "detach"]);
    refused(&second("uplink"), &part("uplink"), &first);
    for running in [first, beside, balancer] {
        assert_eq!(running.stop().code(), Some(0));
    }
    assert_eq!(left(&host), ["default"]);
    // A name that no interface can have is refused as before.
    for strange in ["", "a/b", "a:b", "../default", "nothing"] {
        let output = host.lbctl().exits(1, &["decap", "serve", strange]);
        assert!(output.stderr.starts_with("error: "), "{output}");
    }
}

/// A configuration file that cannot be read yet delays nothing, neither at the start nor at a reload.
#[test]
fn a_file_that_does_not_come() {
    let host = Host::new();
    let file = config_file("");
    fs::remove_file(file.path()).expect("remove the file");
    mkfifo(file.path(), Mode::S_IRWXU).expect("put a pipe there");
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let waiting = host.lbctl().spawn(&["serve", "-f", path_of(&file)]);
        wait_for_waiting(&waiting, file.path());
        waiting.signal(signal);
        let output = waiting.wait(SOON);
        assert_eq!(output.status.signal(), Some(signal as i32), "{output}");
    }
    assert!(!host.has_pins("default"));
}

/// `decap serve` hears signals while another command has the lock, at the start and when it reloads.
#[test]
fn decap_serve_hears_signals() {
    let host = Host::new();
    host.lbctl().ok(&["decap", "attach", "nobody", "--address", "10.9.9.9"]);
    let folder = folder(&host, "default");
    let patient = ["--lock-timeout", "600", "decap", "serve", "uplink"];
    let held = lock(&folder);
    let waiting = host.lbctl().spawn(&patient);
    wait_for_waiting(&waiting, &folder);
    waiting.signal(Signal::SIGTERM);
    let output = waiting.wait(SOON);
    assert_eq!(output.code(), Some(0), "{output}");
    drop(held);

    let mut serving = host.lbctl().spawn(&patient);
    serving.wait_for("decapsulating on");
    let held = lock(&folder);
    host.ns.shell("ip addr add 172.31.0.7/32 dev uplink");
    serving.signal(Signal::SIGHUP);
    serving.wait_for("waiting for process");
    serving.signal(Signal::SIGTERM);
    let output = serving.wait(SOON);
    assert_eq!(output.code(), Some(0), "{output}");
    drop(held);
}
