//! Programs of others that an interface already runs when the balancer comes.

use libbpf_rs::MapCore as _;
use nix::sys::signal::Signal;
use std::os::unix::process::ExitStatusExt;

use crate::fixtures::Host;
use crate::fixtures::Rig;
use crate::fixtures::UPLINK;
use crate::fixtures::Verdict;
use crate::fixtures::XdpLink;
use crate::fixtures::chain_programs::Attached;
use crate::fixtures::chain_programs::Built;
use crate::fixtures::chain_programs::Linked;
use crate::fixtures::chain_programs::on_interface;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::json;
use crate::fixtures::path_of;
use crate::fixtures::vip;

const VIP: &str = "tcp://10.200.1.1:80";

/// Both ways in which somebody else's program can be on an interface.
#[test]
fn by_link_and_without() {
    let built = Built::tracer("theirs", &["-DFOREIGN"]);
    for by_link in [false, true] {
        let rig = Rig::new(1);
        let lbctl = rig.lbctl();
        let ns = &rig.topology.balancer.ns;
        let object = built.load(0, None);
        let held = by_link.then(|| Linked::new(ns, UPLINK, &object));
        let object = if by_link { object } else { Attached::new(ns, UPLINK, object).object };
        let before = on_interface(ns, UPLINK);
        assert!(before.0.is_some());
        let file = config_file(&config(&vip(VIP, &["10.0.0.1"])));
        let path = path_of(&file);
        let refused = lbctl.exits(1, &["apply", "-f", path]);
        assert!(refused.stderr.contains("already runs XDP program 'tracer'"), "{refused}");
        assert!(refused.stderr.contains("--adopt SLOT"), "{refused}");
        assert_eq!(on_interface(ns, UPLINK), before);

        let output = lbctl.ok(&["apply", "-f", path, "--adopt", "10"]);
        assert!(
            output.stderr.contains("'tracer'") && output.stderr.contains("slot 10"),
            "{output}"
        );
        assert!(output.stderr.contains("past the programs behind slot 10"), "{output}");
        let list = json(&lbctl.ok(&["chain", "list", "--json"]));
        assert_eq!((&list[0]["name"], &list[1]["name"]), (&"balancer".into(), &"tracer".into()));
        assert_eq!((&list[1]["slot"], &list[1]["hands_on"]), (&10.into(), &false.into()));
        assert_eq!((&list[1]["origin"], &list[1]["id"]), (&"foreign".into(), &before.0.into()));
        let table = lbctl.ok(&["chain", "list"]).stdout;
        assert!(table.contains("ENDS THE CHAIN"), "{table}");
        rig.download(VIP);
        lbctl.ok(&["plan", "-f", path]);
        lbctl.ok(&["apply", "-f", path, "--adopt", "10"]);
        // Nor does either get past the other later.
        for [program, slot] in [["10", "4"], ["balancer", "14"]] {
            let refused = lbctl.exits(1, &["chain", "move", program, slot]);
            assert!(refused.stderr.contains("hands no packet on"), "{refused}");
        }
        let seen = || {
            let map = object.maps().find(|map| map.name() == "theirs.bss").expect("its data");
            crate::fixtures::chain_programs::count(&map)
        };
        let own = (rig.topology.balancer.v4, 7777);
        crate::fixtures::udp_ask(rig.client(), own.into(), "?").expect_err("nobody listens");
        assert_eq!(seen(), 1);
        // It is a program of the chain like any other.
        lbctl.ok(&["down"]);
        lbctl.ok(&["chain", "remove", "tracer"]);
        assert_eq!(on_interface(ns, UPLINK), (None, None));
        assert!(!rig.bpffs.path().join("l4lb/default").exists());
        drop(held);
    }
}

/// Other ways in: before the first apply, and for decapsulation.
#[test]
fn by_other_commands() {
    let theirs = Built::tracer("theirs", &["-DFOREIGN"]);
    let ours = Built::tracer("ours", &[]);
    let ours = ours.text();
    let insert = ["chain", "insert", "3", &ours, "--interface", UPLINK];
    let attach = ["decap", "attach", UPLINK];
    for command in [&insert[..], &attach[..]] {
        let host = Host::new();
        let lbctl = host.lbctl();
        let attached = Attached::new(&host.ns, UPLINK, theirs.load(0, None));
        let before = on_interface(&host.ns, UPLINK);
        lbctl.exits(1, command);
        assert!(!host.has_pins("default"));
        assert_eq!(on_interface(&host.ns, UPLINK), before);
        lbctl.ok(&[command, &["--adopt", "14"]].concat());
        let list = json(&lbctl.ok(&["chain", "list", "--json"]));
        assert_eq!((&list[1]["name"], &list[1]["slot"]), (&"tracer".into(), &14.into()), "{list}");
        assert_ne!(on_interface(&host.ns, UPLINK), before);
        drop(attached);
    }
}

/// What cannot be taken over stays where it is.
#[test]
fn what_cannot_be_adopted() {
    let frags = Built::tracer("theirs", &["-DFOREIGN", "-DSECTION=\"xdp.frags\""]);
    let plain = Built::tracer("theirs", &["-DFOREIGN"]);
    let other = Built::tracer("other", &[]);
    let host = Host::new();
    let lbctl = host.lbctl();
    let file = config_file(&Host::config(""));
    let path = path_of(&file);
    let refused = |slot: &str, words: &[&str]| {
        let before = on_interface(&host.ns, UPLINK);
        let output = lbctl.exits(1, &["apply", "-f", path, "--adopt", slot]);
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
        for word in words {
            assert!(output.stderr.contains(word), "'{word}' is not in {output}");
        }
        assert_eq!(on_interface(&host.ns, UPLINK), before, "{words:?}");
    };
    {
        let object = frags.load(0, None);
        let _link = Linked::new(&host.ns, UPLINK, &object);
        refused("10", &["program 'tracer' (id ", "cannot be taken into the chain", "xdp.frags"]);
        assert!(!host.has_pins("default"));
    }
    {
        // Linux before 6.18 takes it.
        let _link = XdpLink::attach(&host.ns, UPLINK, Verdict::Pass);
        let output = lbctl.run(&["apply", "-f", path, "--adopt", "10"]);
        if output.code() == Some(0) {
            lbctl.ok(&["down"]);
            lbctl.ok(&["chain", "remove", "10"]);
        } else {
            assert!(output.stderr.contains("without an expected attach type"), "{output}");
        }
        assert!(!host.has_pins("default"));
    }
    let object = plain.load(0, None);
    let held = Linked::new(&host.ns, UPLINK, &object);
    refused("0", &["slot 0 is not for programs that are taken over"]);
    refused("8", &["slot 8 is kept for a program of l4lb"]);
    refused("4", &["hands no packet on", "keep all packets from balancer in slot 8"]);
    assert!(!host.has_pins("default"));
    let planned = lbctl.exits(3, &["plan", "-f", path]);
    assert!(planned.to_string().contains("already runs XDP program 'tracer'"), "{planned}");
    // Its slot has another program.
    host.ns.shell(
        "ip link add second type veth peer name end; ip link set second up; ip link set end up",
    );
    lbctl.ok(&["chain", "insert", "10", &other.text(), "--interface", "second"]);
    refused("10", &["slot 10 of the chain holds 'other'"]);
    // Another instance's.
    let elsewhere = ["--instance", "elsewhere", "chain", "insert", "3"];
    let output = lbctl.exits(
        1,
        &[&elsewhere[..], &[&other.text(), "--interface", "second", "--adopt", "11"]].concat(),
    );
    assert!(output.stderr.contains("second belongs to instance 'default'"), "{output}");

    // If the root program cannot have its place, it is put back: too long a frame for native mode.
    lbctl.ok(&["chain", "remove", "other"]);
    drop(held);
    host.ns.shell("ip link set uplink mtu 9000; ip link set nobody mtu 9000");
    let generic = attach_generic(&host, &plain);
    let before = on_interface(&host.ns, UPLINK);
    let output = lbctl.exits(1, &["apply", "-f", path, "--adopt", "10"]);
    assert!(output.stderr.contains("cannot run XDP in native mode"), "{output}");
    assert_eq!(on_interface(&host.ns, UPLINK).0, before.0);
    assert!(!host.has_pins("default"));
    drop(generic);
}

/// Two interfaces run a program each, and there is one slot: neither leaves its interface.
#[test]
fn two_programs_for_one_slot() {
    let (one, other) =
        (Built::tracer("one", &["-DFOREIGN"]), Built::tracer("other", &["-DFOREIGN"]));
    let host = Host::new();
    let lbctl = host.lbctl();
    host.ns.shell(
        "ip link add second type veth peer name end; ip link set second up; ip link set end up",
    );
    let _one = Attached::new(&host.ns, UPLINK, one.load(0, None));
    let _other = Attached::new(&host.ns, "second", other.load(0, None));
    let on = || (on_interface(&host.ns, UPLINK), on_interface(&host.ns, "second"));
    let before = on();
    let text = Host::config("") + &Host::INTERFACE.replace(UPLINK, "second");
    let file = config_file(&text);
    let path = path_of(&file);
    let refused = lbctl.exits(1, &["apply", "-f", path, "--adopt", "10"]);
    assert!(refused.stderr.contains("add one interface at a time"), "{refused}");
    assert_eq!(on(), before);
    assert!(!host.has_pins("default"));
    // One at a time, they are both taken over.
    let first = config_file(&Host::config(""));
    let first = path_of(&first);
    lbctl.ok(&["apply", "-f", first, "--adopt", "10"]);
    let refused = lbctl.exits(1, &["apply", "-f", path, "--adopt", "10"]);
    assert!(refused.stderr.contains("slot 10 of the chain holds"), "{refused}");
    lbctl.ok(&["apply", "-f", path, "--adopt", "11"]);
}

/// Attaches somebody else's program in generic mode.
fn attach_generic(host: &Host, built: &Built) -> libbpf_rs::Object {
    use std::os::fd::AsFd as _;
    let object = built.load(0, None);
    host.ns.run(|| {
        let index = nix::net::if_::if_nametoindex(UPLINK).expect("the interface").cast_signed();
        let program = object.progs().next().expect("a program");
        libbpf_rs::Xdp::new(program.as_fd())
            .attach(index, libbpf_rs::XdpFlags::SKB_MODE)
            .expect("attach a program");
    });
    object
}

/// Killed at any write: the next command, asked the same, completes it.
#[test]
fn killed_at_any_write() {
    let built = Built::tracer("theirs", &["-DFOREIGN"]);
    let ours = Built::tracer("ours", &[]);
    let ours = ours.text();
    let command = ["chain", "insert", "3", &ours, "--interface", UPLINK, "--adopt", "10"];
    for n in 1..200 {
        let host = Host::new();
        let lbctl = host.lbctl();
        let attached = Attached::new(&host.ns, UPLINK, built.load(0, None));
        let output = lbctl.clone().env("LBCTL_KILL_AT_WRITE", &n.to_string()).run(&command);
        if output.code() == Some(0) {
            assert!(n > 10, "{n} writes");
            return;
        }
        assert_eq!(output.status.signal(), Some(Signal::SIGKILL as i32), "{output}");
        let output = lbctl.run(&command);
        assert_eq!(output.code(), Some(0), "killed at write {n}: {output}");
        let list = json(&lbctl.ok(&["chain", "list", "--json"]));
        let names = (&list[0]["name"], &list[1]["name"], list[2].is_null());
        assert_eq!(names, (&"ours".into(), &"tracer".into(), true), "killed at write {n}: {list}");
        drop(attached);
    }
    panic!("it still writes");
}
