//! An instance belongs to the network namespace of its interfaces: what a command from another one may do.

use crate::fixtures::Host;
use crate::fixtures::Lbctl;
use crate::fixtures::NetNs;
use crate::fixtures::Output;
use crate::fixtures::UPLINK;
use crate::fixtures::config_file;
use crate::fixtures::json;
use crate::fixtures::path_of;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

use std::time::Duration;

const VIP: &str = "tcp://10.200.1.1:80";

/// The index that an interface has.
fn index(ns: &NetNs, interface: &str) -> String {
    ns.shell(&format!("ip -o link show {interface} | cut -d: -f1 | tr -d '\\n'"))
}

fn has_xdp(ns: &NetNs, interface: &str) -> bool {
    ns.shell(&format!("ip link show {interface}")).contains("xdp")
}

/// Another namespace, with an interface of the same name and index.
fn another(host: &Host) -> NetNs {
    let other = NetNs::new();
    other.shell(&format!(
        "ip link add {UPLINK} index {} mtu 1400 type veth peer name nobody
         ip link set {UPLINK} up; ip link set nobody up",
        index(&host.ns, UPLINK)
    ));
    assert_eq!(index(&other, UPLINK), index(&host.ns, UPLINK));
    other
}

#[track_caller]
fn refused(output: &Output, interface: &str) {
    assert_eq!(output.code(), Some(1), "{output}");
    let says = format!("runs on interface {interface} (index ");
    assert!(output.stderr.contains(&says), "{output}");
    assert!(output.stderr.contains("of another network namespace"), "{output}");
    assert!(output.stderr.contains("(net:["), "{output}");
    assert_eq!(output.stderr.lines().count(), 1, "{output}");
}

#[test]
fn a_command_from_another_one_leaves_the_interfaces_alone() {
    let host = Host::new();
    let lbctl = host.lbctl();
    let text = Host::config(&vip(VIP, &["10.0.0.1"]));
    lbctl.apply(&text);
    lbctl.ok(&["decap", "attach", UPLINK, "--address", "172.31.0.2"]);
    let other = another(&host);
    let elsewhere = Lbctl::new(&host.bpffs).in_ns(&other);
    let state = || {
        let status = json(&lbctl.ok(&["status", "--json"]));
        let decap = json(&lbctl.ok(&["decap", "status", "--json"]));
        (lbctl.ok(&["save"]).stdout, status["interfaces"].clone(), decap["requests"].clone())
    };
    let before = state();

    let file = config_file(&text.replace("10.0.0.1", "10.0.0.2"));
    let none = config_file(&text.replace(Host::INTERFACE, ""));
    let with = |command: &[&str], file: &tempfile::NamedTempFile| {
        let path = path_of(&file);
        elsewhere.run(&[command, &["-f", path]].concat())
    };
    for file in [&file, &none] {
        refused(&with(&["apply", "--yes"], file), UPLINK);
        refused(&with(&["apply", "--yes", "--adopt", "4"], file), UPLINK);
        refused(&with(&["plan"], file), UPLINK);
        refused(&with(&["serve"], file), UPLINK);
    }
    for command in [
        &["decap", "attach", UPLINK, "--address", "10.9.9.9"][..],
        &["decap", "serve", UPLINK],
        &["decap", "detach", UPLINK],
        &["trace", "tcp", "192.0.2.1:1024", "10.200.1.1:80", "--syn"],
    ] {
        refused(&elsewhere.run(command), UPLINK);
    }
    assert_eq!(state(), before);
    assert!(host.has_xdp(UPLINK) && !has_xdp(&other, UPLINK));

    // What needs no interface works from anywhere.
    assert_eq!(elsewhere.ok(&["save"]).stdout, before.0);
    elsewhere.ok(&["real", "add", VIP, "10.0.0.3"]);
    elsewhere.ok(&["real", "delete", VIP, "10.0.0.3"]);
    // Reports tell nothing of the interface that has the name here.
    let status = elsewhere.run(&["status"]).stdout;
    assert!(status.contains("OTHER NETNS") && !status.contains("1400"), "{status}");
    assert!(status.contains("the instance runs on it in another network namespace"), "{status}");
    let status = elsewhere.ok(&["decap", "status"]).stdout;
    assert!(status.contains("runs on interface uplink"), "{status}");
    let doctor = elsewhere.run(&["doctor", "--real"]).stdout;
    assert!(doctor.contains("runs on interface uplink"), "{doctor}");
    let doctor = elsewhere.run(&["doctor"]).stdout;
    assert!(doctor.contains("the instance runs on it in another network namespace"), "{doctor}");
    assert!(!doctor.contains("error interface-missing"), "{doctor}");
    assert_eq!(state(), before);

    // `decap detach` and `down` work from any namespace.
    elsewhere.ok(&["decap", "detach"]);
    elsewhere.ok(&["down"]);
    assert!(!host.has_xdp(UPLINK) && !host.has_pins("default"));
    // Then another namespace can start it.
    elsewhere.apply(&text);
    assert!(has_xdp(&other, UPLINK));
    refused(&lbctl.run(&["plan", "-f", path_of(&file)]), UPLINK);
    // An interface that is gone is in no namespace.
    other.shell(&format!("ip link del {UPLINK}"));
    lbctl.apply(&text);
    assert!(host.has_xdp(UPLINK));
}

/// The link moves with the interface, and the program goes on.
#[test]
fn an_interface_that_moves_to_another_one() {
    let host = Host::new();
    let lbctl = host.lbctl();
    let second = Host::INTERFACE.replace(UPLINK, "second");
    let make = |end: &str| {
        host.ns.shell(&format!(
            "ip link add second mtu 1600 type veth peer name {end}
             ip link set second up; ip link set {end} up"
        ));
    };
    make("end");
    let both = Host::config(&vip(VIP, &["10.0.0.1"])) + &second;
    let one = Host::config(&vip(VIP, &["10.0.0.2"]));
    lbctl.apply(&both);

    // It has the index there that the other one has here: both run the same program.
    let other = NetNs::new();
    let there = index(&host.ns, UPLINK);
    let path = other.path();
    host.ns.shell(&format!("ip link set second netns {} index {there}", path.display()));
    assert_eq!(index(&other, "second"), there);
    assert!(has_xdp(&other, "second"));
    let status = json(&lbctl.run(&["status", "--json"]));
    assert_eq!(status["interfaces"][UPLINK]["mode"], "native", "{status}");
    let interfaces = json(&lbctl.ok(&["chain", "list", "--json"]));
    assert!(interfaces.to_string().contains("balancer"), "{interfaces}");

    // What is left here can be changed, and does not end what is there.
    let output = lbctl.apply(&one);
    assert!(output.stderr.contains("interface second has moved to another"), "{output}");
    assert!(host.has_xdp(UPLINK) && has_xdp(&other, "second"));
    let file = config_file(&one);
    lbctl.ok(&["plan", "-f", path_of(&file)]);
    let saved = lbctl.ok(&["save"]).stdout;
    assert!(saved.contains("\"uplink\"") && !saved.contains("\"second\""), "{saved}");

    // One that is made here by its name is not taken for it.
    make("other-end");
    let file = config_file(&both);
    let path = path_of(&file);
    let says = "interface second: not served: instance 'default' runs on interface second (index ";
    let planned = lbctl.exits(3, &["plan", "-f", path]).stdout;
    assert!(planned.contains(&format!("! {says}")), "{planned}");
    // The others are served, and a real can be taken out.
    let reals = || json(&lbctl.ok(&["real", "list", VIP, "--json"])).to_string();
    assert!(reals().contains("10.0.0.2"));
    let applied = lbctl.exits(1, &["apply", "--yes", "-f", path]);
    assert!(applied.stderr.contains(says), "{applied}");
    assert!(reals().contains("10.0.0.1") && !reals().contains("10.0.0.2"));
    let strict = lbctl.exits(1, &["apply", "--yes", "--strict", "-f", path]);
    assert!(strict.stderr.contains("runs on interface second (index "), "{strict}");
    refused(&lbctl.run(&["decap", "attach", "second", "--address", "10.9.9.9"]), "second");
    assert!(!host.has_xdp("second") && has_xdp(&other, "second"));
    // As the message says: it is ended where it is.
    let (_, id) = planned.split_once("bpftool link detach id ").expect("a command");
    let id: String = id.chars().take_while(char::is_ascii_digit).collect();
    detach_link(id.parse().expect("a number"));
    assert!(wait_until(Duration::from_secs(10), || !has_xdp(&other, "second")));
    lbctl.ok(&["apply", "--yes", "-f", path]);
    lbctl.ok(&["plan", "-f", path]);
    assert!(host.has_xdp("second"));
}

/// As `bpftool link detach id` does.
#[expect(unsafe_code, reason = "libbpf's safe wrapper has only links of object files")]
fn detach_link(id: u32) {
    use std::os::fd::AsRawFd;
    use std::os::fd::FromRawFd;
    use std::os::fd::OwnedFd;
    // SAFETY: takes no pointers.
    let fd = unsafe { libbpf_sys::bpf_link_get_fd_by_id(id) };
    assert!(fd >= 0, "open link {id}");
    // SAFETY: the kernel has just opened it for this caller alone.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the descriptor is valid for the call.
    assert_eq!(unsafe { libbpf_sys::bpf_link_detach(fd.as_raw_fd()) }, 0);
}
