//! Interfaces: gateways, several in one instance, several instances, XDP modes, renamed and recreated interfaces.

use std::net::SocketAddr;
use std::net::UdpSocket;
use std::time::Duration;

use etherparse::PacketBuilder;

use crate::fixtures::Bpffs;
use crate::fixtures::Capture;
use crate::fixtures::Direction;
use crate::fixtures::Frame;
use crate::fixtures::Host;
use crate::fixtures::Lbctl;
use crate::fixtures::Leaks;
use crate::fixtures::NetNs;
use crate::fixtures::Rig;
use crate::fixtures::Topology;
use crate::fixtures::UPLINK;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::config_in_mode;
use crate::fixtures::goes_on;
use crate::fixtures::http_get;
use crate::fixtures::json;
use crate::fixtures::path_of;
use crate::fixtures::second_interface;
use crate::fixtures::second_network;
use crate::fixtures::send_frame;
use crate::fixtures::server;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

const VIP: &str = "tcp://10.200.1.1:80";
const UDP_VIP: &str = "udp://10.200.1.1:53";

/// Whether a frame holds an IPv4 packet in an IPv4 packet to 10.0.0.1.
fn is_encapsulated(frame: &Frame) -> bool {
    let bytes = &frame.bytes;
    bytes.get(12..14) == Some(&[8, 0])
        && bytes.get(23) == Some(&4)
        && bytes.get(30..34) == Some(&[10, 0, 0, 1])
}

/// Sends a datagram to a VIP and returns the MAC to which the balancer sends it on.
#[track_caller]
fn mac_towards_reals(topology: &Topology) -> [u8; 6] {
    let mut capture = Capture::start(&topology.router, &topology.balancer.router_interface);
    let socket = topology.client.ns.open(|| UdpSocket::bind("0.0.0.0:0")).expect("open a socket");
    socket.send_to(b"?", server(UDP_VIP)).expect("send");
    let frame =
        capture.wait_for(|frame| frame.direction == Direction::In && is_encapsulated(frame));
    frame.bytes[..6].try_into().expect("six bytes")
}

#[test]
fn gateways() {
    let topology = Topology::new(1);
    let bpffs = Bpffs::new();
    let lbctl = Lbctl::new(&bpffs).in_ns(&topology.balancer.ns);
    let router = topology.balancer.gateway_mac;
    let other = [2, 0, 0, 0, 0xfe, 0x99];
    let apply = |gateway: &str| {
        let interface =
            format!("[[interfaces]]\nname = \"{UPLINK}\"\nxdp_mode = \"native\"\n{gateway}\n");
        let file = config_file(&(interface + &vip(UDP_VIP, &["10.0.0.1"])));
        let path = path_of(&file);
        lbctl.ok(&["apply", "--yes", "-f", path]);
        lbctl.ok(&["plan", "-f", path]);
    };
    for (gateway, mac) in [
        ("", router),
        ("gateway_mac = \"02:00:00:00:fe:99\"", other),
        ("gateway = \"172.31.0.254\"", router),
        ("gateway_mac = \"02:00:00:00:fe:99\"", other),
        ("gateway = \"fc00:31::fe\"", router),
        ("gateway = \"auto\"", router),
    ] {
        apply(gateway);
        assert_eq!(mac_towards_reals(&topology), mac, "{gateway}");
    }

    // Where only one family has a default route, it is that.
    topology.balancer.ns.shell("ip -4 route del default; ip neigh flush all");
    apply("");
    assert_eq!(mac_towards_reals(&topology), router, "by way of IPv6");

    // Another router in its place: the next apply finds out.
    topology.router.shell("ip link set to-balancer address 02:00:00:00:fe:99");
    topology.balancer.ns.shell("ip neigh flush all");
    apply("gateway = \"172.31.0.254\"");
    assert_eq!(mac_towards_reals(&topology), other, "another MAC");
}

/// Sends a datagram to a VIP from the second network; whether it comes back, for the real, within moments.
#[track_caller]
fn balanced_at_second(edge: &NetNs, vip: &str) -> bool {
    let SocketAddr::V4(to) = server(vip) else { panic!("IPv4") };
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0xfe, 0xb2], [2, 0, 0, 0, 0, 0xb2])
        .ipv4([172, 32, 0, 254], to.ip().octets(), 64)
        .udp(40_000, to.port())
        .write(&mut frame, b"?")
        .expect("a frame");
    let mut capture = Capture::start(edge, "edge");
    send_frame(edge, "edge", &frame);
    wait_until(Duration::from_millis(500), || {
        let found = |frame: &&Frame| frame.direction == Direction::In && is_encapsulated(frame);
        let back = capture.frames().iter().find(found);
        if let Some(frame) = back {
            assert_eq!(frame.bytes[..6], [2, 0, 0, 0, 0xfe, 0xb2], "the gateway of this interface");
        }
        back.is_some()
    })
}

#[test]
fn several_interfaces_in_one_instance() {
    let rig = Rig::new(1);
    let (edge, _pass) = second_network(&rig.topology);
    let vips = vip(VIP, &["10.0.0.1"]) + &vip(UDP_VIP, &["10.0.0.1"]);
    rig.lbctl().apply(&config(&vips));
    let download = rig.download(VIP);
    let mut leaks = Leaks::watch(&rig);
    assert!(!balanced_at_second(&edge, UDP_VIP), "nobody serves it as yet");

    rig.lbctl().apply(&(second_interface().to_owned() + &config(&vips)));
    assert!(balanced_at_second(&edge, UDP_VIP));
    assert_eq!(mac_towards_reals(&rig.topology), rig.topology.balancer.gateway_mac);
    goes_on(&download, "a second interface");
    let status = json(&rig.lbctl().ok(&["status", "--json"]));
    assert_eq!(status["interfaces"]["second"]["mac"], "02:00:00:00:fe:b2");
    assert_eq!(status["interfaces"][UPLINK]["mac"], "02:00:00:00:fe:b1");

    rig.lbctl().apply(&config(&vips));
    assert!(!balanced_at_second(&edge, UDP_VIP), "it is let go");
    assert!(!rig.topology.balancer.ns.shell("ip link show second").contains("xdp"));
    goes_on(&download, "the second interface is gone");
    assert_eq!(leaks.count(), 0);
}

#[test]
fn several_instances_side_by_side() {
    let rig = Rig::new(1);
    let (edge, _pass) = second_network(&rig.topology);
    let first = config(&vip(VIP, &["10.0.0.1"]));
    rig.lbctl().apply(&first);
    let download = rig.download(VIP);
    let run = |code: i32, command: &[&str], text: &str| {
        let file = config_file(text);
        let path = path_of(&file);
        rig.lbctl().exits(code, &[&["--instance", "second"], command, &[path]].concat())
    };

    // An interface has one instance.
    let output = run(1, &["apply", "--yes", "-f"], &first);
    assert_eq!(
        output.stderr,
        "error: interface uplink belongs to instance 'default'; take it out of that instance first\n"
    );
    let output = rig.lbctl().exits(1, &["--instance", "second", "decap", "attach", UPLINK]);
    assert!(output.stderr.contains("belongs to instance 'default'"), "{output}");
    assert!(!rig.bpffs.path().join("l4lb/second").exists());

    // Another interface, another instance, another VIP.
    let text = second_interface().to_owned() + &vip(UDP_VIP, &["10.0.0.1"]);
    run(0, &["apply", "--yes", "-f"], &text);
    assert!(balanced_at_second(&edge, UDP_VIP));
    run(0, &["plan", "-f"], &text);
    let vips = |instance: &str| rig.lbctl().ok(&["--instance", instance, "vip", "list"]).stdout;
    assert!(vips("default").contains(VIP) && !vips("default").contains(UDP_VIP));
    assert!(vips("second").contains(UDP_VIP) && !vips("second").contains(VIP));
    goes_on(&download, "another instance");

    rig.lbctl().ok(&["--instance", "second", "down"]);
    assert!(!balanced_at_second(&edge, UDP_VIP));
    goes_on(&download, "the other instance is down");
    assert!(rig.bpffs.path().join("l4lb/default").exists());
}

/// From each mode to each other one, and traffic in all of them.
#[test]
fn modes_change() {
    let rig = Rig::new(1);
    let vips = vip(VIP, &["10.0.0.1"]);
    for (asked, runs) in [
        ("auto", "native"),
        ("generic", "generic"),
        ("auto", "generic"),
        ("native", "native"),
        ("auto", "native"),
        ("generic", "generic"),
        ("native", "native"),
    ] {
        let file = config_file(&config_in_mode(asked, &vips));
        let path = path_of(&file);
        rig.lbctl().ok(&["apply", "--yes", "-f", path]);
        rig.lbctl().ok(&["plan", "-f", path]);
        let status = json(&rig.lbctl().ok(&["status", "--json"]));
        assert_eq!(status["interfaces"][UPLINK]["mode"], runs, "asked for {asked}");
        assert!(http_get(rig.client(), server(VIP), "/").is_ok(), "{runs}");
    }
}

/// An interface that is renamed stays attached, and `lbctl` knows it by its new name.
#[test]
fn an_interface_that_is_renamed() {
    let host = Host::new();
    let lbctl = host.lbctl();
    let two = |first: &str, second: &str| {
        let interface = |name, mode: &str, gateway: &str| {
            Host::INTERFACE.replace(UPLINK, name).replace("native", mode).replace(":fe", gateway)
        };
        config_file(&(interface(first, "native", ":fe") + &interface(second, "generic", ":fd")))
    };
    let links = || {
        let pins = host.bpffs.path().join("l4lb/default/link");
        let pins = std::fs::read_dir(pins).expect("read the folder of links");
        let mut names: Vec<_> = pins.map(|pin| pin.expect("a pin").file_name()).collect();
        names.sort();
        names
    };
    let gateways = || {
        let status = json(&lbctl.ok(&["status", "--json"]));
        let interfaces = status["interfaces"].as_object().expect("an object").clone();
        let mac = |(name, interface): (String, serde_json::Value)| {
            assert!(!interface["mode"].is_null(), "{name}: {interface}");
            (name, interface["mac"].as_str().expect("a MAC").to_owned())
        };
        interfaces.into_iter().map(mac).collect::<Vec<_>>()
    };
    let known = |first: &str, second: &str| {
        let (fe, fd) = ("02:00:00:00:00:fe".to_owned(), "02:00:00:00:00:fd".to_owned());
        let mut known = vec![(first.to_owned(), fe), (second.to_owned(), fd)];
        known.sort();
        known
    };
    host.ns.shell("ip link add second type veth peer name other; ip link set second up");
    lbctl.ok(&["apply", "--yes", "-f", path_of(&two(UPLINK, "second"))]);
    lbctl.ok(&["decap", "attach", UPLINK]);

    let rename = |from: &str, to: &str| {
        host.ns.shell(&format!(
            "ip link set {from} down; ip link set {from} name {to}; ip link set {to} up"
        ));
    };
    rename(UPLINK, "wan0");
    assert_eq!(gateways(), known("wan0", "second"));
    assert!(lbctl.ok(&["save"]).stdout.contains("name = \"wan0\""));
    let file = two("wan0", "second");
    let plan = lbctl.exits(3, &["plan", "-f", path_of(&file)]).stdout;
    let (plan, digest) = plan.split_once("digest ").expect("a digest");
    assert_eq!(plan, "~ interface wan0: was uplink\n    flows: no flow moves\n");
    assert_eq!(digest.lines().count(), 1, "{digest}");
    lbctl.ok(&["apply", "--yes", "-f", path_of(&file)]);
    lbctl.ok(&["plan", "-f", path_of(&file)]);
    assert_eq!(links(), ["second", "wan0"]);

    // Two that swap their names.
    rename("wan0", "aside");
    rename("second", "wan0");
    rename("aside", "second");
    assert_eq!(gateways(), known("second", "wan0"));
    let file = two("second", "wan0");
    lbctl.exits(3, &["plan", "-f", path_of(&file)]);
    // Killed at any of its writes, it is completed.
    let mut killed = 0;
    while lbctl
        .clone()
        .env("LBCTL_KILL_AT_WRITE", &(killed + 1).to_string())
        .run(&["apply", "--yes", "-f", path_of(&file)])
        .code()
        .is_none()
    {
        killed += 1;
        assert_eq!(gateways(), known("second", "wan0"));
    }
    assert!(killed > 0);
    lbctl.ok(&["plan", "-f", path_of(&file)]);
    assert_eq!(links(), ["second", "wan0"]);

    // A name that one which is gone had.
    host.ns.shell("ip link del wan0");
    rename("second", "wan0");
    lbctl.apply(&Host::INTERFACE.replace(UPLINK, "wan0"));
    assert_eq!(gateways(), known("wan0", "")[1..]);
    assert_eq!(links(), ["wan0"]);

    // Decapsulation knows it, too.
    rename("wan0", "lan0");
    let status = json(&lbctl.ok(&["decap", "attach", "lan0", "--json"]));
    assert_eq!(status["interfaces"], serde_json::json!({ "lan0": "native" }));
    lbctl.ok(&["down"]);
    assert!(host.has_xdp("lan0"));
    lbctl.ok(&["decap", "detach", "lan0"]);
    assert!(!host.has_xdp("lan0") && !host.has_pins("default"));
}

/// Also with a name that the bpf filesystem would not take, as VLAN interfaces have.
#[test]
fn an_interface_that_was_made_anew() {
    let host = Host::new();
    let make = || {
        host.ns.shell("ip link add up.100 type veth peer name other; ip link set up.100 up; ip link set other up")
    };
    let file = config_file(&Host::INTERFACE.replace(UPLINK, "up.100"));
    let path = path_of(&file);
    make();
    host.lbctl().ok(&["apply", "--yes", "-f", path]);
    assert!(host.lbctl().ok(&["save"]).stdout.contains("name = \"up.100\""));

    host.ns.shell("ip link del up.100");
    let status = host.lbctl().ok(&["status"]).stdout;
    assert!(status.contains("up.100     NOT ATTACHED"), "{status}");
    // What is saved still asks for it.
    let saved = host.lbctl().ok(&["save"]).stdout;
    for path in [path, path_of(&config_file(&saved))] {
        let plan = host.lbctl().exits(3, &["plan", "-f", path]).stdout;
        assert!(plan.starts_with("! interface up.100: not served: there is no"), "{plan}");
        assert!(plan.ends_with("\nnothing to change\n"), "{plan}");
    }
    let without = config_file("[connection_table]\nentries = 100000\n");
    let plan = host.lbctl().exits(3, &["plan", "-f", path_of(&without)]).stdout;
    assert!(
        plan.contains("- interface up.100\n    flows: no packets come in by it any more\n"),
        "{plan}"
    );

    make();
    host.lbctl().exits(3, &["plan", "-f", path]);
    host.lbctl().ok(&["apply", "--yes", "-f", path]);
    host.lbctl().ok(&["plan", "-f", path]);
    assert!(host.has_xdp("up.100"));
    let status = json(&host.lbctl().ok(&["status", "--json"]));
    assert_eq!(status["interfaces"].as_object().expect("an object").len(), 1, "{status}");

    // An interface that is gone for good prevents nothing.
    host.ns.shell("ip link del up.100");
    host.lbctl().apply(&Host::config(""));
    host.lbctl().ok(&["down"]);
    assert!(!host.has_pins("default") && !host.has_xdp(UPLINK));
}

/// The kernel finds an interface by either; it is attached and known by its own.
#[test]
fn an_interface_with_alternative_names() {
    const LONG: &str = "rack-12-port-48-to-the-routers";
    let host = Host::new();
    let lbctl = host.lbctl();
    host.ns.shell(&format!(
        "ip link property add dev {UPLINK} altname wan; ip link property add dev {UPLINK} altname {LONG}"
    ));
    let named = |name: &str| config_file(&Host::config("").replace(UPLINK, name));
    let pins = || {
        let pins = std::fs::read_dir(host.bpffs.path().join("l4lb/default/link")).expect("links");
        pins.map(|pin| pin.expect("a pin").file_name()).collect::<Vec<_>>()
    };
    for name in ["wan", LONG, UPLINK] {
        lbctl.ok(&["apply", "--yes", "-f", path_of(&named(name))]);
        assert_eq!(pins(), [UPLINK], "{name}");
        for same in ["wan", LONG, UPLINK] {
            lbctl.ok(&["plan", "-f", path_of(&named(same))]);
        }
        let status = json(&lbctl.ok(&["status", "--json"]));
        assert_eq!(status["interfaces"][UPLINK]["mode"], "native", "{status}");
        let doctor = lbctl.run(&["doctor", "-f", path_of(&named(name))]).stdout;
        assert!(!doctor.contains("error interface-missing"), "{doctor}");
        assert!(lbctl.ok(&["save"]).stdout.contains("name = \"uplink\""));
        lbctl.ok(&["decap", "attach", name, "--address", "172.31.0.2"]);
        lbctl.ok(&["down"]);
        assert!(host.has_xdp(UPLINK));
        lbctl.ok(&["decap", "detach", name]);
        assert!(!host.has_pins("default"), "{name}");
    }

    let twice = Host::INTERFACE.to_owned() + &Host::INTERFACE.replace(UPLINK, "wan");
    let file = config_file(&twice);
    for command in ["plan", "apply"] {
        let output = lbctl.exits(1, &[command, "-f", path_of(&file)]);
        let says = "interfaces[1].name: wan and interfaces[0] (uplink) are one interface, uplink: keep one of them";
        assert!(output.stderr.contains(says), "{output}");
    }
    assert!(!host.has_pins("default"));
}

/// Which this bpf filesystem does not show: its root program is no program of somebody's to be taken over.
#[test]
fn an_instance_in_another_bpf_filesystem() {
    let host = Host::new();
    host.lbctl().apply(&Host::config(""));
    let bpffs = Bpffs::new();
    let beside = Lbctl::new(&bpffs).in_ns(&host.ns);
    let file = config_file(&Host::config(""));
    for command in [
        &["apply", "-f", path_of(&file)][..],
        &["apply", "--adopt", "4", "-f", path_of(&file)],
        &["decap", "attach", UPLINK, "--adopt", "4", "--address", "172.31.0.2"],
    ] {
        let output = beside.exits(1, command);
        for says in
            ["of another instance of l4lb", "lbctl --bpffs PATH --instance NAME down", "findmnt"]
        {
            assert!(output.stderr.contains(says), "{output}");
        }
        assert!(!bpffs.path().join("l4lb/default").exists());
    }
    let doctor = beside.run(&["doctor", "-f", path_of(&file)]).stdout;
    assert!(doctor.contains("of another instance of l4lb"), "{doctor}");
    host.lbctl().ok(&["plan", "-f", path_of(&file)]);
    host.lbctl().ok(&["down"]);
    beside.ok(&["apply", "-f", path_of(&file)]);
}
