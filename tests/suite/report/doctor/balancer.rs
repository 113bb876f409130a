//! A balancer before its first apply.

use std::io::Write;

use tempfile::NamedTempFile;

use super::Patient;
use crate::fixtures::Host;
use crate::fixtures::UPLINK;
use crate::fixtures::Verdict;
use crate::fixtures::XdpLink;
use crate::fixtures::attach_without_link;
use crate::fixtures::config_file;
use crate::fixtures::path_of;
use crate::fixtures::vip;

const PLACE: &str = "interface uplink";
const VIP: &str = "tcp://10.200.1.1:80";
const ONLINE: &str = "/sys/devices/system/cpu/online";

/// A file that says so much, in place of one of the host's.
fn says(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("make a file");
    file.write_all(text.as_bytes()).expect("write a file");
    file
}

fn with_real(real: &str) -> NamedTempFile {
    config_file(&Host::config(&vip(VIP, &[real])))
}

#[test]
fn nothing_hurts() {
    let host = Host::new();
    let _pass = XdpLink::attach(&host.ns, "nobody", Verdict::Pass);
    let one = says("0\n");
    let file = with_real("10.0.0.1");
    let lbctl = host.lbctl().finds(ONLINE, one.path());
    let output = lbctl.ok(&["doctor", "-f", path_of(&file)]);
    assert!(output.stdout.contains("\nlooked for, and not found:\n"), "{output}");
    // The VIP has no check, which is no fault.
    assert!(output.stdout.contains("note no-check: "), "{output}");
    assert!(output.stdout.ends_with("\n0 errors, 0 warnings, 1 note\n"), "{output}");
    assert!(!host.has_pins("default") && !host.has_xdp(UPLINK), "it changes nothing");
    // Without a file, and nothing that runs: the host alone.
    let output = lbctl.ok(&["doctor"]);
    assert!(!output.stdout.contains("interface uplink"), "{output}");
    let bpffs = host.bpffs.text();
    let hint = format!("it does not run: 'lbctl --bpffs {bpffs} doctor -f FILE' looks at");
    assert!(output.stdout.contains(&hint), "{output}");
    host.lbctl().ok(&["decap", "attach", UPLINK]);
    let output = lbctl.ok(&["doctor"]);
    assert!(output.stdout.contains("it has no balancer, but decapsulates"), "{output}");
}

#[test]
fn interfaces_that_are_missing_or_down() {
    let host = Host::new();
    let file = config_file(&Host::config("").replace("\"uplink\"", "\"eth7\""));
    let patient = Patient::new(host.lbctl(), &host.ns, &["-f", path_of(&file)]);
    patient.is_advised("interface-missing", "interface eth7", "error", "ip link");

    let file = with_real("10.0.0.1");
    let patient = patient.with(&["-f", path_of(&file)]);
    patient.is_well("interface-missing", PLACE);
    patient.is_well("interface-down", PLACE);
    host.ns.shell("ip link set nobody down");
    patient.finds("interface-down", PLACE, "error", &["no carrier"]);
    host.ns.shell("ip link set nobody up; ip link set uplink down");
    patient.is_fixed("interface-down", PLACE, "error", &["it is down"]);
}

#[test]
fn room_for_the_outer_header() {
    let host = Host::new();
    let (v4, v6) = (with_real("10.0.0.1"), with_real("fc00::1"));
    let v4 = Patient::new(host.lbctl(), &host.ns, &["-f", path_of(&v4)]);
    let v6 = v4.with(&["-f", path_of(&v6)]);
    host.ns.shell("ip link set uplink mtu 1520");
    v4.is_well("mtu-no-room", PLACE);
    host.ns.shell("ip link set uplink mtu 1519");
    v4.is_fixed("mtu-no-room", PLACE, "warning", &["1519", "1500 bytes take 1520"]);
    v6.is_fixed("mtu-no-room", PLACE, "warning", &["1500 bytes take 1540"]);
    let vip6 = config_file(&Host::config(&vip("tcp://[fc00:1::1]:80", &["10.0.0.1"])));
    let vip6 = v4.with(&["-f", path_of(&vip6)]);
    host.ns.shell("ip link set uplink mtu 1300");
    vip6.finds("mtu-no-room", PLACE, "warning", &["1300"]);
    host.ns.shell("ip link set uplink mtu 1299");
    v4.finds("mtu-no-room", PLACE, "warning", &["1299"]);
    vip6.is_fixed("mtu-no-room", PLACE, "error", &["1299"]);

    // Without reals, there is no outer header.
    let none = config_file(&Host::config(""));
    assert_eq!(v4.with(&["-f", path_of(&none)]).find("mtu-no-room", PLACE), None);
}

/// What a router sends here for a port that no VIP has must not go back to it.
#[test]
fn other_ports_that_are_forwarded() {
    let host = Host::new();
    let two = vip("tcp://10.200.1.1:80", &["10.0.0.1"]) + &vip("tcp://[fc00:1::1]:80", &[]);
    let file = config_file(&Host::config(&two));
    let patient = Patient::new(host.lbctl(), &host.ns, &["-f", path_of(&file)]);
    let id = "other-ports-forwarded";
    patient.is_well(id, "host");
    host.ns.shell(
        "ip addr add 192.0.2.1/24 dev uplink; ip route add default via 192.0.2.254
         ip -6 addr add 2001:db8::1/64 dev uplink nodad; ip -6 route add default via 2001:db8::fe
         sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
    );
    for place in ["VIP address 10.200.1.1", "VIP address fc00:1::1"] {
        patient.is_fixed(id, place, "warning", &["forwards packets to its ports"]);
    }
    host.ns.shell("ip route del blackhole 10.200.1.1");
    patient.finds(id, "VIP address 10.200.1.1", "warning", &[]);
    for rest in ["other_ports = \"drop\"\n", "other_ports = \"reject\"\n"] {
        let file = config_file(&Host::config(&(vip("tcp://10.200.1.1:80", &[]) + rest)));
        patient.with(&["-f", path_of(&file)]).is_well(id, "host");
    }
    let every = vip("tcp://10.200.1.1:*", &[]) + &vip("udp://10.200.1.1:*", &[]);
    let file = config_file(&Host::config(&every));
    patient.with(&["-f", path_of(&file)]).is_well(id, "host");
}

/// Whether an apply that asks for native mode works; what it does is undone.
#[track_caller]
fn runs_natively(host: &Host, file: &NamedTempFile) -> bool {
    let output = host.lbctl().run(&["apply", "-f", path_of(file)]);
    let done = output.code() == Some(0);
    assert!(done || output.stderr.contains("cannot run XDP in native mode"), "{output}");
    host.lbctl().ok(&["down"]);
    done
}

/// Doctor says no where the driver says no.
#[test]
fn native_mode_is_refused() {
    let host = Host::new();
    let native = with_real("10.0.0.1");
    let auto = config_file(&Host::config("").replace("\"native\"", "\"auto\""));
    let auto = Patient::new(host.lbctl(), &host.ns, &["-f", path_of(&auto)]);
    let patient = auto.with(&["-f", path_of(&native)]);

    host.ns.shell("ip link set nobody mtu 3506");
    patient.is_well("native-mtu", PLACE);
    assert!(runs_natively(&host, &native));
    host.ns.shell("ip link set nobody mtu 3507");
    assert!(!runs_natively(&host, &native));
    auto.finds("native-mtu", PLACE, "warning", &["its other end's MTU of 3507"]);
    patient.is_fixed("native-mtu", PLACE, "error", &["3507 is more than 3506"]);
    assert!(runs_natively(&host, &native));

    host.ns.shell(
        "ip link del uplink
         ip link add uplink mtu 1600 numrxqueues 2 numtxqueues 2 type veth \
           peer name nobody mtu 1600 numrxqueues 2 numtxqueues 2
         ethtool -L uplink rx 1 tx 1
         ip link set uplink up; ip link set nobody up",
    );
    assert!(!runs_natively(&host, &native));
    auto.finds("native-queues", PLACE, "warning", &[]);
    let words = &["it has 1 receive queue, and its other end, nobody, has 2 transmit queues"];
    patient.is_fixed("native-queues", PLACE, "error", words);
    assert!(runs_natively(&host, &native));
}

#[test]
fn a_driver_without_native_mode() {
    let host = Host::new();
    host.ns.shell("ip link add br0 type bridge; ip link set nobody master br0; ip link set br0 up");
    let on_bridge = |mode: &str| {
        config_file(&Host::config("").replace("uplink", "br0").replace("native", mode))
    };
    let (native, auto, generic) = (on_bridge("native"), on_bridge("auto"), on_bridge("generic"));
    let patient = Patient::new(host.lbctl(), &host.ns, &["-f", path_of(&native)]);
    let place = "interface br0";
    patient.finds("native-unsupported", place, "error", &["its driver (bridge) has no native XDP"]);
    assert!(!runs_natively(&host, &native));

    let patient = patient.with(&["-f", path_of(&auto)]);
    patient.finds("native-unsupported", place, "warning", &[]);
    patient.finds("generic-mode", place, "warning", &["will run in generic mode"]);

    let patient = patient.with(&["-f", path_of(&generic)]);
    patient.finds("generic-mode", place, "note", &["as xdp_mode asks for"]);
    assert_eq!(patient.find("native-unsupported", place), None);
}

#[test]
fn the_other_end_of_a_veth() {
    let host = Host::new();
    let file = with_real("10.0.0.1");
    // The command that fixes it brings up a neighbour of this instance.
    let patient = Patient::new(host.lbctl(), &host.ns, &["-f", path_of(&file)]);
    patient.is_fixed("veth-peer", PLACE, "error", &["nobody, runs no XDP program"]);

    // In generic mode, a program there is none.
    host.lbctl().ok(&["--instance", "nobody", "decap", "detach"]);
    attach_without_link(&host.ns, "nobody", Verdict::Pass);
    patient.finds("veth-peer", PLACE, "error", &[]);
    host.ns.shell("ip link set nobody xdpgeneric off");

    // In another network namespace.
    let other = crate::fixtures::NetNs::new();
    host.ns.shell(&format!("ip link set nobody netns {}", other.path().display()));
    other.shell("ip link set nobody up");
    patient.is_advised("veth-peer", PLACE, "error", "lbctl decap attach nobody");
    let _pass = XdpLink::attach(&other, "nobody", Verdict::Pass);
    patient.is_well("veth-peer", PLACE);
}

#[test]
fn programs_of_others() {
    let host = Host::new();
    let file = with_real("10.0.0.1");
    let patient = Patient::new(host.lbctl(), &host.ns, &["-f", path_of(&file)]);
    patient.is_well("foreign-program", PLACE);
    attach_without_link(&host.ns, UPLINK, Verdict::Pass);
    patient.is_fixed("foreign-program", PLACE, "error", &["'test_Pass'"]);

    let link = XdpLink::attach(&host.ns, UPLINK, Verdict::Pass);
    let finding = patient.finds("foreign-program", PLACE, "error", &["'test_Pass'"]);
    let command = finding["fix"]["command"].as_str().expect("a command");
    assert!(command.starts_with("bpftool link detach id "), "{command}");
    drop(link);

    let other = config_file(&Host::config(""));
    host.lbctl().ok(&["--instance", "other", "apply", "-f", path_of(&other)]);
    patient.is_advised("foreign-program", PLACE, "error", "other instance");
    patient.with(&["-f", path_of(&file), "--instance", "other"]).is_well("foreign-program", PLACE);
}

#[test]
fn a_gateway_that_does_not_answer() {
    let host = Host::new();
    let gateway = |address: &str| {
        let asked = format!("gateway = \"{address}\"");
        config_file(&Host::config("").replace("gateway_mac = \"02:00:00:00:00:fe\"", &asked))
    };
    let silent = gateway("172.31.0.254");
    let patient = Patient::new(host.lbctl(), &host.ns, &["-f", path_of(&silent)]);
    let words = &["172.31.0.254 of interface uplink did not answer ARP"];
    patient.finds("gateway-unresolved", PLACE, "error", words);
    host.ns.shell("ip neigh replace 172.31.0.254 lladdr 02:00:00:00:00:fe dev uplink");
    patient.is_well("gateway-unresolved", PLACE);
}

#[test]
fn cpus_queues_and_memory() {
    let host = Host::new();
    host.ns.shell(
        "ip link del uplink
         ip link add uplink mtu 1600 numrxqueues 2 numtxqueues 1 type veth \
           peer name nobody mtu 1600 numtxqueues 1
         ip link set uplink up; ip link set nobody up; ethtool -L uplink rx 1",
    );
    let two = says("0-1\n");
    let lbctl = host.lbctl().finds(ONLINE, two.path());
    let file = with_real("10.0.0.1");
    let patient = Patient::new(lbctl.clone(), &host.ns, &["-f", path_of(&file)]);
    patient.is_fixed("few-queues", PLACE, "warning", &["1 receive queue for 2 CPUs"]);
    let three = says("0-2\n");
    let patient =
        Patient::new(host.lbctl().finds(ONLINE, three.path()), &host.ns, &["-f", path_of(&file)]);
    patient.is_advised("few-queues", PLACE, "note", "the interface has no more queues");

    let one = config_file(&Host::config("cpus = [0]"));
    let patient = Patient::new(lbctl.clone(), &host.ns, &["-f", path_of(&one)]);
    patient.is_advised("cpus-without-table", "host", "warning", "add it to connection_table.cpus");
    let both = config_file(&Host::config("cpus = [0, 1]"));
    patient.with(&["-f", path_of(&both)]).is_well("cpus-without-table", "host");
    patient.with(&["-f", path_of(&both)]).is_well("idle-tables", "host");
    let single = says("0\n");
    let lbctl = lbctl.finds(ONLINE, single.path());
    let patient = Patient::new(lbctl.clone(), &host.ns, &["-f", path_of(&both)]);
    patient.is_advised("idle-tables", "host", "note", "take it out of connection_table.cpus");

    patient.is_well("memory-short", "host");
    let little = says("MemAvailable: 1000 kB\n");
    let patient = Patient::new(
        lbctl.finds("/proc/meminfo", little.path()),
        &host.ns,
        &["-f", path_of(&file)],
    );
    patient.finds("memory-short", "host", "error", &["not enough memory", "on this host"]);
}

#[test]
fn no_bpf_filesystem() {
    let host = Host::new();
    let output = host.lbctl().exits(1, &["doctor", "--bpffs", "/proc"]);
    assert!(
        output.stdout.contains("error no-bpffs: host: there is no bpf filesystem at /proc\n"),
        "{output}"
    );
    assert!(
        output.stdout.contains("# mkdir -p /proc && mount -t bpf -o mode=0700 bpf /proc\n"),
        "{output}"
    );
}

/// What a file asks for comes with the errors of other commands.
#[test]
fn wrong_usage() {
    let host = Host::new();
    host.lbctl().exits(1, &["doctor", "-f", "/nonexistent.toml"]);
    host.lbctl().exits(2, &["doctor", "--vip", "10.200.1.1"]);
    host.lbctl().exits(2, &["doctor", "--real", "-f", "/nonexistent.toml"]);
}
