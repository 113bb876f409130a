//! The units for systemd: what they allow is what `lbctl` needs, and not more.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use nix::sys::signal::Signal;

use super::api::VIPS;
use super::api::client::ask_at;
use crate::fixtures::Host;
use crate::fixtures::Lbctl;
use crate::fixtures::SOON;
use crate::fixtures::Serve;
use crate::fixtures::config_file;
use crate::fixtures::lock;
use crate::fixtures::path_of;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

const UNITS: [(&str, &str); 2] = [
    ("l4lb@.service", include_str!("../../../examples/systemd/l4lb@.service")),
    ("l4lb-decap@.service", include_str!("../../../examples/systemd/l4lb-decap@.service")),
];

/// The exposure that `systemd-analyze security` may find, times ten. The capabilities and the network are what counts.
const EXPOSURE: &str = "33";

/// The value of a setting.
#[track_caller]
fn setting<'a>(unit: &'a str, name: &str) -> &'a str {
    let value = unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {name}="))
}

#[test]
fn systemd_finds_no_fault_with_them() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in UNITS {
        let file = folder.path().join(name);
        let text = text.replace("/usr/local/bin/lbctl", env!("CARGO_BIN_EXE_lbctl"));
        fs::write(&file, text).expect("write the unit");
        let analyze = |arguments: &[&str]| {
            let mut command = Command::new("systemd-analyze");
            let output = command.args(arguments).arg(&file).output().expect("systemd-analyze");
            let text = format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            assert!(output.status.success(), "{name}: {arguments:?}: {text}");
            text
        };
        let faults = analyze(&["verify", "--man=no"]);
        assert!(!faults.contains("l4lb"), "{faults}");
        analyze(&["security", "--offline=yes", &format!("--threshold={EXPOSURE}")]);
    }
}

/// The system calls of each group that systemd knows.
fn groups() -> BTreeMap<String, Vec<String>> {
    let output = Command::new("systemd-analyze").arg("syscall-filter").output();
    let output = output.expect("systemd-analyze");
    let (mut groups, mut group) = (BTreeMap::<_, Vec<String>>::new(), String::new());
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let word = line.trim();
        if line.starts_with('@') {
            word.clone_into(&mut group);
        } else if line.starts_with(' ') && !word.starts_with('#') && !word.is_empty() {
            groups.entry(group.clone()).or_default().push(word.to_owned());
        }
    }
    groups
}

fn expand(groups: &BTreeMap<String, Vec<String>>, name: &str, into: &mut BTreeSet<String>) {
    match groups.get(name) {
        Some(members) => members.iter().for_each(|member| expand(groups, member, into)),
        None => drop(into.insert(name.to_owned())),
    }
}

/// Runs a service for some seconds with the capabilities of its unit, and compares its system calls with the unit's filter.
#[track_caller]
fn needs_no_more(host: &Host, unit: &str, arguments: &[&str], meanwhile: impl FnOnce()) {
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("trace");
    let bounding = setting(unit, "CapabilityBoundingSet").to_lowercase().replace("cap_", "+");
    let bounding = format!("-all,{}", bounding.replace(' ', ","));
    let mut traced = host
        .ns
        .command("setpriv")
        .args(["--bounding-set", &bounding, "--inh-caps", "-all", "--no-new-privs"])
        .args(["strace", "-f", "-qq", "-o", path_of(&trace), "timeout", "-s", "TERM", "20"])
        .args([env!("CARGO_BIN_EXE_lbctl"), "--bpffs", host.bpffs.text()])
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("setpriv and strace");
    meanwhile();
    let status = traced.wait().expect("its end");
    let mut stderr = String::new();
    let mut pipe = traced.stderr.take().expect("stderr");
    std::io::Read::read_to_string(&mut pipe, &mut stderr).expect("text");
    assert_eq!(status.code(), Some(124), "it is ended by timeout: {stderr}");
    assert!(!stderr.contains("ERROR") && !stderr.contains("WARN"), "{stderr}");

    let groups = groups();
    let mut allowed = BTreeSet::new();
    for name in setting(unit, "SystemCallFilter").split(' ') {
        expand(&groups, name, &mut allowed);
    }
    let families: BTreeSet<_> = setting(unit, "RestrictAddressFamilies").split(' ').collect();
    let text = fs::read_to_string(&trace).expect("what strace wrote");
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        let Some((_, call)) = line.split_once(' ') else { continue };
        let Some((name, behind)) = call.trim_start().split_once('(') else { continue };
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            continue;
        }
        seen.insert(name.to_owned());
        if name == "socket" {
            let family = behind.split(',').next().unwrap_or_default();
            assert!(families.contains(family), "{line}");
        }
        let writes = behind.contains("PROT_WRITE") && behind.contains("PROT_EXEC");
        assert!(!(["mmap", "mprotect"].contains(&name) && writes), "{line}");
    }
    let more: Vec<_> = seen.difference(&allowed).collect();
    assert!(more.is_empty(), "the filter leaves out {more:?}");
    assert!(seen.contains("bpf") && seen.contains("epoll_wait"), "{seen:?}");
}

#[test]
fn the_balancer_needs_no_more_than_its_unit_allows() {
    let host = Host::new();
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("api.sock");
    let check = "[checks.c]\ntype = \"exec\"\nprogram = \"/bin/true\"\ninterval = \"1s\"\n";
    let control = format!("[control]\nsocket = \"{}\"\ngroup = \"61236\"\n", socket.display());
    let vips = VIPS.replacen("protocol = \"tcp\"\n", "protocol = \"tcp\"\ncheck = \"c\"\n", 1);
    let config = Host::config(&format!("{control}{check}{vips}"));
    let file = config_file(&config);
    needs_no_more(&host, UNITS[0].1, &["serve", "-f", path_of(&file)], || {
        assert!(wait_until(SOON * 2, || socket.exists()), "it does not serve");
        let lbctl = host.lbctl();
        fs::write(&file, config.replace("\"10.0.0.2\"", "\"10.0.0.7\"")).expect("write");
        lbctl.ok(&["reload"]);
        for path in ["/v1/status", "/v1/flows/count", "/v1/output"] {
            ask_at(&socket, "GET", path, "", None).is(200);
        }
        ask_at(&socket, "DELETE", "/v1/vips/tcp/10.200.1.1/80", "", None).is(200);
    });
}

#[test]
fn decapsulation_needs_no_more_than_its_unit_allows() {
    let host = Host::new();
    let serve =
        ["decap", "serve", "uplink", "--from", "172.16.0.0/16", "--metrics", "127.0.0.1:9848"];
    needs_no_more(&host, UNITS[1].1, &serve, || {
        let runs = || host.lbctl().run(&["decap", "status"]).code() == Some(0);
        assert!(wait_until(SOON * 2, runs), "it does not serve");
        host.ns.shell("ip addr add 172.31.0.9/32 dev uplink");
        host.lbctl().ok(&["decap", "reload", "uplink"]);
    });
}

/// What systemd hears.
struct Manager {
    socket: UnixDatagram,
    _folder: tempfile::TempDir,
}

impl Manager {
    /// With an `lbctl` that reports to it, and is to do so within three minutes.
    #[track_caller]
    fn of(lbctl: Lbctl<'_>) -> (Self, Lbctl<'_>) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        let lbctl = lbctl.env("NOTIFY_SOCKET", path_of(&path)).env("WATCHDOG_USEC", "180000000");
        (Self { socket, _folder: folder }, lbctl)
    }

    /// The messages until one has this line, or none comes in time.
    fn until(&self, line: &str, patience: Duration) -> Result<Vec<String>, Vec<String>> {
        let (since, mut heard) = (Instant::now(), Vec::new());
        while let left @ 1.. = patience.saturating_sub(since.elapsed()).as_millis() {
            let left = Duration::from_millis(u64::try_from(left).expect("some seconds"));
            self.socket.set_read_timeout(Some(left)).expect("set a timeout");
            let mut buffer = [0; 4096];
            let Ok(length) = self.socket.recv(&mut buffer) else { break };
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let is_it = message.lines().any(|found| found == line);
            heard.push(message);
            if is_it {
                return Ok(heard);
            }
        }
        Err(heard)
    }
}

const ALIVE: &str = "WATCHDOG=1";

/// The balancer's loop reports, and a loop that hangs does not.
#[test]
fn the_watchdog_hears_the_loop_itself() {
    let host = Host::new();
    let (manager, lbctl) = Manager::of(host.lbctl());
    let file = config_file(&Host::config(VIPS));
    // It waits for the lock of the instance as long as nobody stops it.
    let arguments = ["--lock-timeout", "600", "serve", "-f", path_of(&file)];
    let running = lbctl.spawn(&arguments);
    // 600 s for the lock several times: more than the unit's three minutes.
    let start = manager.until("READY=1", SOON * 2).expect("it is ready");
    assert!(!start.concat().contains("WATCHDOG=1\n"), "no sooner than it is ready: {start:?}");
    manager.until("WATCHDOG_USEC=2460000000", SOON).expect("it may wait for the lock");
    for _ in 0..3 {
        manager.until(ALIVE, SOON * 2).expect("it is alive");
    }
    let held = lock(&host.bpffs.path().join("l4lb/default"));
    // What it says until it comes to the lock.
    while manager.until(ALIVE, Duration::from_secs(7)).is_ok() {}
    let heard = manager.until(ALIVE, Duration::from_secs(8));
    assert!(heard.is_err(), "it hangs, and says that it is alive: {heard:?}");
    drop(held);
    manager.until(ALIVE, SOON * 2).expect("it goes on");
    running.stop();
}

/// A reload may take longer than the time between two signs of life.
#[test]
fn a_reload_has_more_time() {
    let host = Host::new();
    let (manager, lbctl) = Manager::of(host.lbctl());
    let mut serve = Serve::start(lbctl, &Host::config(VIPS));
    manager.until("READY=1", SOON).expect("it is ready");
    serve.reload(
        &Host::config(&(VIPS.to_owned() + &vip("tcp://10.200.1.9:80", &[]))),
        "INFO reloaded",
    );
    manager.until("RELOADING=1", SOON).expect("it reloads");
    manager.until("WATCHDOG_USEC=900000000", SOON).expect("it needs time");
    manager.until("READY=1", SOON).expect("it is ready");
    manager.until("WATCHDOG_USEC=180000000", SOON).expect("as before");
    manager.until(ALIVE, SOON).expect("it is alive");
    serve.running.signal(Signal::SIGTERM);
    manager.until("STOPPING=1", SOON).expect("it ends");
    serve.stop();
}

/// Decapsulation reports too.
#[test]
fn the_watchdog_hears_decapsulation() {
    let host = Host::new();
    let (manager, lbctl) = Manager::of(host.lbctl());
    let running = lbctl.spawn(&["decap", "serve", "uplink"]);
    manager.until("READY=1", SOON).expect("it is ready");
    for _ in 0..2 {
        manager.until(ALIVE, SOON * 2).expect("it is alive");
    }
    running.stop();
}

#[test]
fn the_units_say_what_the_documentation_says() {
    for (name, text) in UNITS {
        assert_eq!(setting(text, "WatchdogSec"), "3min", "{name}");
        assert_eq!(setting(text, "StartLimitIntervalSec"), "0", "{name}");
        assert_eq!(setting(text, "RequiresMountsFor"), "/sys/fs/bpf", "{name}");
        assert_eq!(setting(text, "ProtectKernelModules"), "yes", "{name}");
    }
    assert!(Path::new(setting(UNITS[0].1, "ConditionPathExists")).is_absolute());
}
