//! Hosts on which a command is not possible: it prints one line to stderr that says why, exits with 1, and changes
//! nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use libbpf_rs::MapCore;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;

use crate::fixtures::Bpffs;
use crate::fixtures::Host;
use crate::fixtures::Lbctl;
use crate::fixtures::NOBODY;
use crate::fixtures::NetNs;
use crate::fixtures::Output;
use crate::fixtures::Topology;
use crate::fixtures::UPLINK;
use crate::fixtures::Verdict;
use crate::fixtures::XdpLink;
use crate::fixtures::by_way_of;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::path_of;
use crate::fixtures::vip;

const VIP: &str = "tcp://10.200.1.1:80";

/// An interface of a configuration.
fn interface(name: &str, mode: &str, gateway: &str) -> String {
    format!("[[interfaces]]\nname = \"{name}\"\nxdp_mode = \"{mode}\"\n{gateway}\n")
}

const GATEWAY_MAC: &str = "gateway_mac = \"02:00:00:00:00:fe\"";

/// Fails unless the run failed, with one line that has these words.
#[track_caller]
fn refused(output: &Output, words: &[&str]) {
    assert_eq!(output.code(), Some(1), "{output}");
    assert_eq!(output.stdout, "", "{output}");
    // Warnings are lines of their own.
    let lines: Vec<_> = output.stderr.lines().filter(|line| !line.starts_with(" WARN ")).collect();
    assert!(lines.len() == 1 && lines[0].starts_with("error: "), "one line, not {output}");
    for word in words {
        assert!(lines[0].contains(word), "'{word}' is not in {output}");
    }
}

/// Runs `lbctl apply` by way of another program.
#[track_caller]
fn apply_by_way_of(host: &Host, wrapper: &[&str], bpffs: &str) -> Output {
    by_way_of(host, wrapper, bpffs, &["apply", "-f", "lb.toml"])
}

#[test]
fn not_root() {
    let host = Host::new();
    refused(&apply_by_way_of(&host, &NOBODY, host.bpffs.text()), &["not root", "sudo"]);
    assert!(!host.has_pins(""));
}

/// The capabilities decide, not the user.
#[test]
fn capabilities() {
    let host = Host::new();
    for (sets, missing) in [
        ("-all", &["root without CAP_NET_ADMIN and CAP_SYS_ADMIN", "--cap-add SYS_ADMIN"][..]),
        ("-all,+net_admin,+bpf,+perfmon", &["root without CAP_SYS_ADMIN,"]),
        (
            "-all,+sys_admin",
            &["root without CAP_NET_ADMIN,", "CapabilityBoundingSet=CAP_NET_ADMIN)"],
        ),
    ] {
        let bounded = format!("--bounding-set={sets}");
        let output = apply_by_way_of(&host, &["setpriv", &bounded], host.bpffs.text());
        refused(&output, missing);
    }
    let mapped = ["unshare", "--user", "--map-root-user"];
    refused(&apply_by_way_of(&host, &mapped, host.bpffs.text()), &["user namespace do not count"]);
    assert!(!host.has_pins(""));

    // A folder that root made for the user, in a bpf filesystem that the user may only enter.
    let bpffs = Bpffs::in_mode("0711");
    let own = bpffs.path().join("l4lb");
    fs::create_dir(&own).expect("make a folder");
    std::os::unix::fs::chown(&own, Some(65_534), None).expect("give it away");
    fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).expect("close it");
    let sets = ["inh-caps", "ambient-caps", "bounding-set"];
    let sets = sets.map(|set| format!("--{set}=-all,+net_admin,+sys_admin"));
    let mut user = NOBODY.to_vec();
    user.extend(sets.iter().map(String::as_str));
    for arguments in [&["apply", "-f", "lb.toml"][..], &["status"], &["plan", "-f", "lb.toml"]] {
        let output = by_way_of(&host, &user, bpffs.text(), arguments);
        assert_eq!(output.code(), Some(0), "{arguments:?}: {output}");
    }
    // Root does not trust pins that another user could change.
    let output = host
        .ns
        .command(env!("CARGO_BIN_EXE_lbctl"))
        .args(["--bpffs", bpffs.text(), "status"])
        .output();
    let stderr = String::from_utf8_lossy(&output.expect("run it").stderr).into_owned();
    assert!(stderr.contains("belongs to user 65534"), "{stderr}");
    let output = by_way_of(&host, &user, bpffs.text(), &["down"]);
    assert_eq!(output.code(), Some(0), "{output}");
    assert!(!host.has_xdp("uplink"));
}

#[test]
fn kernel_too_old() {
    let host = Host::new();
    let output = apply_by_way_of(&host, &["setarch", "--uname-2.6"], host.bpffs.text());
    refused(&output, &["kernel 2.6.", "too old", "5.15 or newer"]);
    assert!(!host.has_pins(""));
}

#[test]
fn no_bpf_filesystem() {
    let host = Host::new();
    let folder = tempfile::tempdir().expect("make a folder");
    let plain = path_of(&folder);
    let missing = format!("{plain}/missing");
    for path in [plain, &missing] {
        let mount = format!("mount -t bpf -o mode=0700 bpf {path}");
        refused(
            &apply_by_way_of(&host, &["env"], path),
            &["no bpf filesystem at", &mount, "--mount-bpffs"],
        );
    }
    assert_eq!(fs::read_dir(plain).expect("read a folder").count(), 0, "nothing is created");

    // The command that it suggests works. The mount ends with the namespace of the command.
    let output = apply_by_way_of(&host, &["sh", "-c", "exec \"$@\" --mount-bpffs", "sh"], &missing);
    assert_eq!(output.code(), Some(0), "{output}");
}

/// Files that name an interface which cannot be used, each after its own preparation.
#[test]
fn interfaces_that_cannot_be_used() {
    let host = Host::new();
    host.ns.shell(
        "ip link add second type veth peer name other
         ip addr add 172.32.0.2/24 dev second
         ip link set second up; ip link set other up
         ip link add idle type veth peer name idle-too
         ip link add no-carrier type veth peer name silent
         ip link set no-carrier up; ip addr add 172.33.0.2/24 dev no-carrier",
    );
    let _foreign = XdpLink::attach(&host.ns, "second", Verdict::Pass);
    let auto = "";
    for (name, mode, gateway, words) in [
        ("absent", "auto", GATEWAY_MAC, &["no interface \"absent\"", "ip link"][..]),
        (
            "second",
            "auto",
            GATEWAY_MAC,
            &["second already runs XDP program 'test_Pass' (id ", "bpftool link detach id "],
        ),
        ("second", "generic", GATEWAY_MAC, &["second already runs XDP program"]),
        ("lo", "native", GATEWAY_MAC, &["lo cannot run XDP in native mode", "generic"]),
        ("idle", "native", auto, &["interface idle is down", "ip link set idle up"]),
        ("no-carrier", "native", "gateway = \"172.33.0.254\"", &["no-carrier has no carrier"]),
        ("second", "native", auto, &["second has no default route", "gateway_mac"]),
        ("lo", "generic", auto, &["lo has no default route"]),
        (
            "uplink",
            "native",
            "gateway = \"172.31.0.99\"",
            &["172.31.0.99 of interface uplink did not answer ARP"],
        ),
        (
            "uplink",
            "native",
            "gateway = \"fc00:31::99\"",
            &["fc00:31::99 of interface uplink did not answer"],
        ),
    ] {
        let file = config_file(&interface(name, mode, gateway));
        let path = path_of(&file);
        refused(&host.lbctl().run(&["apply", "-f", path]), words);
        assert!(!host.has_pins("default"), "{name}: nothing is pinned");
    }
    assert!(!host.has_xdp(UPLINK) && !host.has_xdp("lo"));
    for (interface, words) in [
        ("absent", &["no interface \"absent\""][..]),
        ("second", &["second already runs XDP program"]),
        ("idle-too", &["idle-too has no address", "--address"]),
    ] {
        refused(&host.lbctl().run(&["decap", "attach", interface]), words);
        assert!(!host.has_pins("default"), "{interface}: nothing is pinned");
    }
    refused(
        &host.lbctl().run(&["decap", "attach", "lo", "--xdp-mode", "native"]),
        &["lo cannot run XDP in native mode"],
    );
    assert!(!host.has_pins("default"));
}

/// What to do about another's program depends on what holds it: a link, as above, or the interface itself.
#[test]
fn a_program_that_no_link_holds() {
    let host = Host::new();
    host.ns.shell("ip link add second type veth peer name other; ip link set second up");
    host.lbctl().apply(&Host::config(""));
    let pin = format!("{}/l4lb/default/prog/root", host.bpffs.text());
    host.ns.shell(&format!("ip link set second xdp pinned {pin}"));
    let file = config_file(
        &(interface(UPLINK, "auto", GATEWAY_MAC) + &interface("second", "auto", GATEWAY_MAC)),
    );
    let apply = ["apply", "--strict", "-f", path_of(&file)];
    refused(
        &host.lbctl().run(&apply),
        &["second already runs XDP program 'l4lb_root'", "(ip link set dev second xdp off)"],
    );
    host.ns.shell("ip link set dev second xdp off");
    host.lbctl().ok(&apply);
}

/// The same beside an interface that works, of an instance that is new and of one that runs.
#[test]
fn one_interface_of_two_cannot_be_used() {
    let host = Host::new();
    host.ns.shell(
        "ip link add second type veth peer name other; ip link set second up; ip link set other up",
    );
    let _foreign = XdpLink::attach(&host.ns, "second", Verdict::Pass);
    let first = interface("uplink", "native", GATEWAY_MAC);
    let bad = [
        (interface("second", "native", GATEWAY_MAC), "already runs XDP program"),
        (interface("lo", "native", GATEWAY_MAC), "native mode"),
        (interface("absent", "native", GATEWAY_MAC), "no interface \"absent\""),
    ];
    let apply = |interfaces: &str, vips: &str| {
        let file = config_file(&format!("{interfaces}{vips}"));
        host.lbctl().run(&["apply", "--strict", "-f", path_of(&file)])
    };
    for (second, words) in &bad {
        refused(&apply(&(first.clone() + second), &vip(VIP, &["10.0.0.1"])), &[words]);
        assert!(!host.has_pins("default") && !host.has_xdp(UPLINK), "{second}: nothing remains");
    }
    assert_eq!(apply(&first, &vip(VIP, &["10.0.0.1"])).code(), Some(0));
    let saved = host.lbctl().ok(&["save"]).stdout;
    for (second, words) in &bad {
        refused(&apply(&(first.clone() + second), &vip(VIP, &["10.0.0.2"])), &[words]);
        assert_eq!(host.lbctl().ok(&["save"]).stdout, saved, "{second}: nothing changes");
        assert!(host.has_xdp(UPLINK) && !host.has_xdp("lo"), "{second}: what is attached stays");
    }
}

/// A mode that is not possible: the interface keeps its mode, and the rest of the same file is not applied either.
#[test]
fn a_mode_that_cannot_be_changed_to() {
    let host = Host::new();
    // Neither has native mode; a kernel may lack either.
    host.ns.shell(
        "ip link add plain type bridge || ip link add plain type dummy; ip link set plain up",
    );
    let apply = |first: &str, plain: &str, vips: &str| {
        let interfaces =
            interface("uplink", first, GATEWAY_MAC) + &interface("plain", plain, GATEWAY_MAC);
        let file = config_file(&(interfaces + vips));
        host.lbctl().run(&["apply", "--strict", "-f", path_of(&file)])
    };
    let runs = || {
        let status = crate::fixtures::json(&host.lbctl().ok(&["status", "--json"]));
        ["uplink", "plain"]
            .map(|name| status["interfaces"][name]["mode"].as_str().map(str::to_owned))
    };
    let both = |first: &str| [Some(first.to_owned()), Some("generic".to_owned())];
    assert_eq!(apply("generic", "generic", "").code(), Some(0));
    let saved = host.lbctl().ok(&["save"]).stdout;
    refused(
        &apply("native", "native", &vip(VIP, &["10.0.0.1"])),
        &["plain cannot run XDP in native mode"],
    );
    assert_eq!(runs(), both("generic"), "also the one that could");
    assert_eq!(host.lbctl().ok(&["save"]).stdout, saved);
    assert_eq!(apply("native", "generic", "").code(), Some(0));
    assert_eq!(runs(), both("native"));

    let attach =
        ["--instance", "real", "decap", "attach", "lo", "--address", "10.0.0.1", "--xdp-mode"];
    let mode = || {
        let status = host.lbctl().ok(&["--instance", "real", "decap", "status", "--json"]);
        crate::fixtures::json(&status)["interfaces"]["lo"].clone()
    };
    host.lbctl().ok(&[&attach[..], &["generic"]].concat());
    refused(
        &host.lbctl().run(&[&attach[..], &["native"]].concat()),
        &["lo cannot run XDP in native mode"],
    );
    assert_eq!(mode(), "generic");
}

/// A command that fails half-way leaves VIPs, interfaces and modes as they were.
#[test]
fn an_apply_that_fails_changes_nothing() {
    let host = Host::new();
    let lbctl = host.lbctl();
    let first = |mode| interface(UPLINK, mode, GATEWAY_MAC);
    let apply = |interfaces: &str, real: &str| {
        let file = config_file(&format!("{interfaces}{}", vip(VIP, &[real])));
        lbctl.run(&["apply", "--strict", "-f", path_of(&file)])
    };
    let state = || {
        let status = crate::fixtures::json(&lbctl.ok(&["status", "--json"]));
        let mut chain = status["chain"].as_array().expect("a chain").clone();
        for program in &mut chain {
            // New links send packets of their own.
            program.as_object_mut().expect("a program").remove("packets");
        }
        (lbctl.ok(&["save"]).stdout, status["interfaces"].clone(), chain)
    };
    // Too long for native mode on such an interface.
    host.ns.shell("ip link set uplink mtu 9000; ip link set nobody mtu 9000");
    assert_eq!(apply(&first("generic"), "10.0.0.1").code(), Some(0));
    let before = state();
    let output = apply(&first("native"), "10.0.0.2");
    refused(&output, &["uplink cannot run XDP in native mode"]);
    assert_eq!(output.stderr.lines().count(), 1, "said once: {output}");
    assert_eq!(state(), before);

    // Nine interfaces whose indexes compete for eight places; the first interface is attached again in another mode.
    host.ns.shell("ip link set uplink mtu 1600; ip link set nobody mtu 1600");
    assert_eq!(apply(&first("generic"), "10.0.0.1").code(), Some(0));
    let before = state();
    let mut interfaces = first("native");
    for n in 1..=9 {
        let index = 1000 + 1024 * n;
        host.ns.shell(&format!(
            "ip link add v{n} index {index} type veth peer name p{n}; ip link set v{n} up"
        ));
        interfaces += &interface(&format!("v{n}"), "generic", GATEWAY_MAC);
    }
    let in_the_way = [
        "no place for interface v9 (index 10216)",
        "v1 (2024), v2 (3048), v3 (4072), v4 (5096), v5 (6120), v6 (7144), v7 (8168), v8 (9192) hold all 8",
        "'ip link set NAME netns OTHER index N' and back",
    ];
    refused(&apply(&interfaces, "10.0.0.2"), &in_the_way);
    let file = config_file(&Host::config("").replace(Host::INTERFACE, &interfaces));
    let planned = lbctl.exits(3, &["plan", "-f", file.path().to_str().expect("a path")]).stdout;
    assert!(planned.contains("! interface v9: not served: "), "{planned}");
    assert!(in_the_way.iter().all(|words| planned.contains(words)), "{planned}");
    assert!(!planned.contains("+ interface v9"), "{planned}");
    assert_eq!(state(), before);
    assert!((1..=9).all(|n| !host.has_xdp(&format!("v{n}"))), "none stays attached");
    // Unless it may be left out.
    let file = config_file(&format!("{interfaces}{}", vip(VIP, &["10.0.0.2"])));
    let output =
        lbctl.exits(1, &["apply", "--yes", "-f", file.path().to_str().expect("printable")]);
    assert!(
        output
            .stderr
            .contains("interface v9: not served: the table of interfaces has no place for"),
        "{output}"
    );
    assert!((1..=8).all(|n| host.has_xdp(&format!("v{n}"))) && !host.has_xdp("v9"));
    assert!(lbctl.ok(&["real", "list", VIP]).stdout.contains("10.0.0.2"));
}

/// Pins of a build with other structs: the refusal says what to do, and that works.
#[test]
fn another_abi_version() {
    let host = Host::new();
    let file = config_file(&Host::config(&vip(VIP, &["10.0.0.1"])));
    let path = path_of(&file);
    host.lbctl().ok(&["apply", "-f", path]);

    let pins = host.bpffs.path().join("l4lb/default/map");
    let control =
        MapHandle::from_pinned_path(pins.join("control")).expect("open the control record");
    let key = 0_u32.to_ne_bytes();
    let mut value = control.lookup(&key, MapFlags::ANY).expect("read it").expect("it is there");
    value[..4].copy_from_slice(&99_u32.to_ne_bytes());
    control.update(&key, &value, MapFlags::ANY).expect("write it");

    for command in [
        vec!["plan", "-f", path],
        vec!["apply", "-f", path],
        vec!["save"],
        vec!["status"],
        vec!["stats"],
        vec!["vip", "list"],
        vec!["vip", "add", "tcp://10.200.1.2:80"],
        vec!["real", "delete", VIP, "10.0.0.1"],
    ] {
        let words = [
            "instance 'default' runs data of ABI version 99, this build has version ",
            "lbctl down",
        ];
        refused(&host.lbctl().run(&command), &words);
    }
    assert_eq!(
        control.lookup(&key, MapFlags::ANY).expect("read it"),
        Some(value),
        "nothing is written"
    );
    assert!(host.has_xdp(UPLINK), "it goes on");
    drop(control);
    host.lbctl().ok(&["down"]);
    assert!(!host.has_pins("default") && !host.has_xdp(UPLINK));
    host.lbctl().ok(&["apply", "-f", path]);
}

/// Commands that need an instance which does not run.
#[test]
fn nothing_runs() {
    let host = Host::new();
    for command in
        [vec!["save"], vec!["status"], vec!["stats"], vec!["vip", "list"], vec!["real", "list"]]
    {
        refused(&host.lbctl().run(&command), &["instance 'default' does not run", "lbctl apply"]);
    }
    refused(
        &host.lbctl().run(&["decap", "status"]),
        &["'default' does not decapsulate", "lbctl decap attach"],
    );
    assert_eq!(host.lbctl().ok(&["down"]).stdout, "instance 'default' was not running\n");
    assert_eq!(host.lbctl().ok(&["decap", "detach"]).stdout, "nothing to detach\n");
    assert!(!host.has_pins(""), "asking creates nothing");
}

/// The gateway stops answering: an error with --strict, and packets go on to the last known MAC.
#[test]
fn a_gateway_that_falls_silent() {
    let topology = Topology::new(0);
    let bpffs = crate::fixtures::Bpffs::new();
    let lbctl = Lbctl::new(&bpffs).in_ns(&topology.balancer.ns);
    lbctl.apply(&config(""));
    let saved = lbctl.ok(&["save"]).stdout;
    topology.router.shell(
        "ip addr flush dev to-balancer; sysctl -qw net.ipv6.conf.to-balancer.disable_ipv6=1",
    );
    topology.balancer.ns.shell("ip neigh flush all");
    let file = config_file(&config(&vip(VIP, &["10.0.0.1"])));
    let output = lbctl.run(&["apply", "--strict", "-f", path_of(&file)]);
    refused(&output, &["gateway 172.31.0.254 of interface uplink did not answer"]);
    assert_eq!(lbctl.ok(&["save"]).stdout, saved);
}

/// `auto` takes generic mode where native is not possible, and says so.
#[test]
fn auto_mode_warns() {
    let ns = NetNs::new();
    let bpffs = crate::fixtures::Bpffs::new();
    let lbctl = Lbctl::new(&bpffs).in_ns(&ns);
    let output = lbctl.apply(&interface("lo", "auto", GATEWAY_MAC));
    assert!(output.stderr.contains("WARN interface lo: native XDP is not possible"), "{output}");
    let status = crate::fixtures::json(&lbctl.ok(&["status", "--json"]));
    assert_eq!(status["interfaces"]["lo"]["mode"], "generic");
    assert_eq!(status["interfaces"]["lo"]["xdp_mode"], "auto");
}
