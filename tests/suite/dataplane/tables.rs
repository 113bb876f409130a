//! Connection tables: which CPUs get one, what they and the other maps cost, and the limit of new flows.

use std::net::UdpSocket;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::fixtures::Host;
use crate::fixtures::Rig;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::json;
use crate::fixtures::path_of;
use crate::fixtures::server;
use crate::fixtures::two_cpus;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

const VIP: &str = "tcp://10.200.1.1:80";
const UDP_VIP: &str = "udp://10.200.1.1:53";

/// Where the kernel lists the CPUs that are online.
const ONLINE: &str = "/sys/devices/system/cpu/online";

const SOON: Duration = Duration::from_secs(20);

/// A file that says so much.
fn file(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().expect("make a file");
    std::fs::write(file.path(), text).expect("write a file");
    file
}

/// A virtual link has no interrupts: any CPU may receive.
#[test]
fn lbctl_warns_of_a_cpu_without_a_table() {
    if !two_cpus() {
        return;
    }
    let host = Host::new();
    let only = file("0-1\n");
    let lbctl = host.lbctl().finds(ONLINE, only.path());
    let listed = config_file(&Host::config(&format!("cpus = [0]\n{}", vip(VIP, &["10.0.0.1"]))));
    for command in ["plan", "apply", "plan"] {
        let output = lbctl.run(&[command, "-f", path_of(&listed)]);
        let warnings: Vec<_> = output.stderr.lines().collect();
        let [warning] = warnings[..] else { panic!("one warning, not {output}") };
        for words in ["CPU 1 may receive packets", "add it to connection_table.cpus", "\"auto\""] {
            assert!(warning.contains(words), "'{words}' is not in {warning}");
        }
    }
    let auto = config_file(&Host::config(&vip(VIP, &["10.0.0.1"])));
    let output = lbctl.exits(3, &["plan", "-f", path_of(&auto)]);
    assert!(output.stdout.contains("cpus [0] → \"auto\" (0, 1)"), "{output}");
    assert_eq!(output.stderr, "", "{output}");
    lbctl.ok(&["apply", "-f", path_of(&auto)]);
    assert_eq!(lbctl.ok(&["apply", "-f", path_of(&auto)]).stdout, "nothing to change\n");
}

#[test]
fn auto_follows_the_cpus() {
    let host = Host::new();
    let one = file("0\n");
    let config = config_file(&Host::config(&vip(VIP, &["10.0.0.1"])));
    let output = host.lbctl().finds(ONLINE, one.path()).ok(&["apply", "-f", path_of(&config)]);
    assert!(output.stdout.contains("1 table of 20000 entries, cpus \"auto\" (0)"), "{output}");
    if !two_cpus() {
        return;
    }
    std::fs::write(one.path(), "0-1\n").expect("write a file");
    let lbctl = host.lbctl().finds(ONLINE, one.path());
    let output = lbctl.exits(3, &["plan", "-f", path_of(&config)]);
    assert!(output.stdout.contains("cpus \"auto\" (0) → \"auto\" (0, 1)"), "{output}");
    assert_eq!(output.stderr, "", "what an apply fixes is no warning");
}

/// A CPU comes and goes while `serve` runs: each time one warning, and a reload shares the tables out again.
#[test]
fn serve_notices_other_cpus() {
    const WARNING: &str = "WARN CPU 1 may receive packets, but has no connection table";
    if !two_cpus() {
        return;
    }
    let host = Host::new();
    let online = file("0\n");
    let config = config_file(&Host::config(&vip(VIP, &["10.0.0.1"])));
    let lbctl = host.lbctl().finds(ONLINE, online.path());
    let mut serve = lbctl.spawn(&["serve", "-f", path_of(&config)]);
    serve.wait_for("metrics at http");
    assert!(!serve.stderr().contains("WARN"), "{}", serve.stderr());
    let tables = || json(&host.lbctl().ok(&["status", "--json"]))["tables"].clone();
    let entries = |tables: &Value, place: usize| tables[place]["entries"].as_u64();
    assert_eq!(entries(&tables(), 0), Some(20_000));

    std::fs::write(online.path(), "0-1\n").expect("write a file");
    serve.wait_for(WARNING);
    assert!(serve.stderr().contains("'lbctl apply', or a reload"), "{}", serve.stderr());
    // Something else happens on the host: no reason to say it again.
    host.ns.shell("ip link set uplink mtu 1500");
    serve.wait_for("MTU 1600 → 1500");
    assert_eq!(serve.stderr().matches(WARNING).count(), 1, "{}", serve.stderr());

    serve.signal(Signal::SIGHUP);
    serve.wait_for("reloaded");
    assert!(serve.stderr().contains("cpus \"auto\" (0) → \"auto\" (0, 1)"), "{}", serve.stderr());
    let after = tables();
    assert_eq!((entries(&after, 0), entries(&after, 1)), (Some(10_000), Some(10_000)));
    std::fs::write(online.path(), "0\n").expect("write a file");
    serve.wait_for("the connection tables of CPU 1 are idle");
    serve.stop();
}

/// The plan's figures are the kernel's, within one per cent.
#[test]
fn memory_is_what_was_planned() {
    let host = Host::new();
    let (small, large) = ("entries = 20000", "entries = 300000");
    let vips: String =
        (1..=40).map(|n| vip(&format!("tcp://10.200.1.{n}:80"), &["10.0.0.1"])).collect();
    let with = |entries: &str| config_file(&Host::config(&vips).replace(small, entries));
    let (first, second) = (with(small), with(large));

    let fresh = host.lbctl().exits(3, &["plan", "--json", "-f", path_of(&first)]);
    let fresh = json(&fresh)["memory"].clone();
    assert_eq!(fresh["total"], fresh["additional"], "{fresh}");
    let output = host.lbctl().ok(&["apply", "-f", path_of(&first)]);
    let before_all = output.stdout.lines().next().expect("a line");
    assert!(
        before_all.starts_with("memory: connection tables ") && before_all.contains(", total "),
        "the first line is the memory: {output}"
    );
    assert_eq!(output.stdout.matches("memory:").count(), 2, "{output}");
    assert!(output.stdout.contains("while the kernel verifies the program"), "{output}");
    agree(&host, &fresh);
    // What runs costs nothing more, and a change of a weight is not worth a word.
    assert_eq!(host.lbctl().ok(&["apply", "-f", path_of(&first)]).stdout, "nothing to change\n");
    let weight = host.lbctl().ok(&["real", "weight", "tcp://10.200.1.1:80", "10.0.0.1", "7"]);
    assert!(!weight.stdout.contains("memory"), "{weight}");
    host.lbctl().ok(&["apply", "-f", path_of(&first)]);

    let larger =
        json(&host.lbctl().exits(3, &["plan", "--json", "-f", path_of(&second)]))["memory"].clone();
    let bytes = |memory: &Value, key: &str| memory[key].as_u64().expect("bytes");
    let tables = |memory: &Value| -> u64 {
        let tables = memory["tables"].as_array().expect("tables");
        tables.iter().map(|table| table["bytes"].as_u64().expect("bytes")).sum()
    };
    let additional = bytes(&larger, "additional");
    let grown = tables(&larger) - tables(&fresh);
    assert!(grown < additional && additional <= tables(&larger), "{larger} after {fresh}");
    host.lbctl().ok(&["apply", "-f", path_of(&second)]);
    agree(&host, &larger);
}

/// Compares a plan with what `lbctl status` says, and that with the kernel's own figures.
#[track_caller]
fn agree(host: &Host, plan: &Value) {
    let memory = json(&host.lbctl().ok(&["status", "--json"]))["memory"].clone();
    let groups = memory.as_array().expect("groups");
    let sum = |key: &str| groups.iter().map(|group| group[key].as_u64()).sum::<Option<u64>>();
    assert_eq!(sum("planned"), plan["total"].as_u64(), "{memory} is not {plan}");
    if sum("kernel").is_none() {
        eprintln!(
            "skipped: this kernel is older than 6.4, and does not count all that a map takes"
        );
        return;
    }
    for group in groups {
        let (planned, kernel) = (&group["planned"], &group["kernel"]);
        let (planned, kernel) = (planned.as_u64().expect("bytes"), kernel.as_u64().expect("bytes"));
        assert!(planned.abs_diff(kernel) * 100 <= kernel, "{group}");
    }
}

#[test]
fn memory_that_is_not_there_is_refused() {
    let host = Host::new();
    let meminfo = std::fs::read_to_string("/proc/meminfo").expect("read meminfo");
    let available = |kilobytes: u32| {
        let line = |line: &str| {
            if line.starts_with("MemAvailable:") {
                format!("MemAvailable: {kilobytes} kB\n")
            } else {
                format!("{line}\n")
            }
        };
        file(&meminfo.lines().map(line).collect::<String>())
    };
    let little = available(50_000);
    let lbctl = host.lbctl().finds("/proc/meminfo", little.path());
    let fits = Host::config(&vip(VIP, &["10.0.0.1"]));
    let huge = config_file(&fits.replace("entries = 20000", "entries = 2000000"));
    let fits = config_file(&fits);
    let refused = |command: &str| {
        let output = lbctl.exits(1, &[command, "-f", path_of(&huge)]);
        assert_eq!(output.stdout, "", "{output}");
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
        for words in [
            "error: not enough memory",
            "51.2 MB are available on this host",
            "connection_table.entries",
        ] {
            assert!(output.stderr.contains(words), "'{words}' is not in {output}");
        }
    };
    refused("plan");
    refused("apply");
    assert!(!host.has_pins(""), "nothing is left");

    // Where something runs, it goes on.
    lbctl.ok(&["apply", "-f", path_of(&fits)]);
    let before = host.lbctl().ok(&["save"]).stdout;
    refused("apply");
    assert_eq!(host.lbctl().ok(&["save"]).stdout, before);
    // What runs is not counted again.
    let less = available(1000);
    let lbctl = host.lbctl().finds("/proc/meminfo", less.path());
    assert_eq!(lbctl.ok(&["apply", "-f", path_of(&fits)]).stdout, "nothing to change\n");
}

/// Whether the flood guard limits on some CPU right now, and how many flows it kept out on all.
#[track_caller]
fn flood_guard(rig: &Rig) -> (bool, u64) {
    let status = json(&rig.lbctl().ok(&["status", "--json"]));
    let guards = status["flood_guards"].as_array().expect("flood guards");
    let limiting = |guard: &Value| guard["limiting"] == true && guard["new_flows"] == 10;
    for guard in guards {
        assert_eq!(guard["limit"], 10, "{guard}");
    }
    let kept_out = guards.iter().map(|guard| guard["not_remembered"].as_u64().expect("a number"));
    (guards.iter().any(limiting), kept_out.sum())
}

#[test]
fn a_flood_is_seen_while_it_lasts() {
    let rig = Rig::new(1);
    let limit = "new_connections_per_second = 10\n";
    rig.lbctl().apply(&config(&format!("{limit}{}", vip(UDP_VIP, &["10.0.0.1"]))));
    assert_eq!(flood_guard(&rig), (false, 0));

    let flood = || {
        for _ in 0..40 {
            let socket = rig.client().open(|| UdpSocket::bind("0.0.0.0:0")).expect("a socket");
            socket.send_to(b"?", server(UDP_VIP)).expect("send");
        }
    };
    let limits = || {
        flood();
        flood_guard(&rig).0
    };
    assert!(wait_until(SOON, limits), "{}", rig.lbctl().ok(&["status"]).stdout);
    // It looks for a second, and the flood goes on meanwhile.
    let shows = || {
        let mut status = rig.lbctl().spawn(&["status"]);
        while status.is_running() {
            flood();
        }
        status.wait(SOON).stdout.contains("LIMITING")
    };
    assert!(wait_until(SOON, shows), "{}", rig.lbctl().ok(&["status"]).stdout);

    let over = || !flood_guard(&rig).0;
    assert!(wait_until(SOON, over), "{}", rig.lbctl().ok(&["status"]).stdout);
    let (_, kept_out) = flood_guard(&rig);
    let stats = json(&rig.lbctl().ok(&["stats", "--json"]));
    assert_eq!(stats["table"]["flood"].as_u64(), Some(kept_out));
    assert!(kept_out >= 30, "{kept_out}");
}
