//! Order and verdicts, on real traffic.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use l4lb::Instance;
use l4lb::capture::Capture;
use l4lb::capture::CaptureOptions;
use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use serde_json::Value;

use crate::fixtures::Host;
use crate::fixtures::Leaks;
use crate::fixtures::Rig;
use crate::fixtures::UPLINK;
use crate::fixtures::UdpEcho;
use crate::fixtures::chain_programs::Built;
use crate::fixtures::chain_programs::count;
use crate::fixtures::chain_programs::on_interface;
use crate::fixtures::chain_programs::own_data;
use crate::fixtures::chain_programs::run_many;
use crate::fixtures::chain_programs::seen;
use crate::fixtures::chain_programs::set_verdict;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::goes_on;
use crate::fixtures::json;
use crate::fixtures::path_of;
use crate::fixtures::server;
use crate::fixtures::udp_ask;
use crate::fixtures::vip;

const VIP: &str = "tcp://10.200.1.1:80";
const UDP_VIP: &str = "udp://10.200.1.1:53";
const DROP: u32 = 1;

fn both_vips() -> String {
    config(&[vip(VIP, &["10.0.0.1"]), vip(UDP_VIP, &["10.0.0.1"])].concat())
}

fn rig() -> (Rig, Vec<UdpEcho>, PathBuf) {
    let rig = Rig::new(1);
    let echo = rig.topology.serve_udp(&[server(UDP_VIP)]);
    let instance = rig.bpffs.path().join("l4lb/default");
    (rig, echo, instance)
}

/// What `lbctl chain list` has: slot and name.
pub(super) fn chain(rig: &Rig) -> Vec<(u64, String)> {
    let list = json(&rig.lbctl().ok(&["chain", "list", "--json"]));
    let program = |program: &Value| {
        let name = program["name"].as_str().expect("a name").to_owned();
        (program["slot"].as_u64().expect("a slot"), name)
    };
    list.as_array().expect("a list").iter().map(program).collect()
}

/// Programs behind one that drops a packet do not see it. A replaced program keeps its maps, a moved one its data.
#[test]
fn order_and_verdicts() {
    let (rig, _echo, instance) = rig();
    let lbctl = rig.lbctl();
    lbctl.apply(&both_vips());
    let download = rig.download(VIP);
    let (first, second) = (Built::tracer("first", &[]), Built::tracer("second", &[]));
    lbctl.ok(&["chain", "insert", "2", &first.text()]);
    lbctl.ok(&["chain", "insert", "5", &second.text()]);
    let ask = || udp_ask(rig.client(), server(UDP_VIP), "?");
    let seen_by = |names: [&str; 2]| names.map(|name| seen(&instance, name));
    ask().expect("both hand on, and the balancer sends on");
    assert_eq!(seen_by(["first", "second"]), [1, 1]);

    set_verdict(&instance, "first", DROP);
    ask().expect_err("the first one drops it");
    assert_eq!(seen_by(["first", "second"]), [2, 1]);
    set_verdict(&instance, "first", 0);
    set_verdict(&instance, "second", DROP);
    ask().expect_err("the second one drops it");
    assert_eq!(seen_by(["first", "second"]), [3, 2]);

    // The other way round: the one that drops is now before the other.
    lbctl.ok(&["chain", "move", "second", "1"]);
    assert_eq!(
        chain(&rig),
        [(1, "second".to_owned()), (2, "first".to_owned()), (8, "balancer".to_owned())]
    );
    ask().expect_err("the second one drops it");
    assert_eq!(seen_by(["first", "second"]), [3, 3]);
    set_verdict(&instance, "second", 0);
    ask().expect("both hand on again");
    assert_eq!(seen_by(["first", "second"]), [4, 4]);

    // What the balancer sends on does not come to those behind it.
    lbctl.ok(&["chain", "move", "2", "14"]);
    ask().expect("the VIP answers");
    assert_eq!(seen_by(["first", "second"]), [4, 5]);
    // Nor does it if the balancer itself is what moves.
    lbctl.ok(&["chain", "move", "balancer", "15"]);
    ask().expect("the VIP answers");
    assert_eq!(seen_by(["first", "second"]), [5, 6]);
    let file = config_file(&both_vips());
    lbctl.ok(&["plan", "-f", path_of(&file)]);
    lbctl.apply(&both_vips().replace("20000", "30000"));
    assert_eq!(chain(&rig)[2], (15, "balancer".to_owned()), "its new program is where it was");

    // A new version has the maps of the old one.
    set_verdict(&instance, "first", DROP);
    lbctl.ok(&["chain", "insert", "14", &first.text()]);
    ask().expect_err("the first one drops it still");
    assert_eq!(seen_by(["first", "second"]), [6, 7]);
    set_verdict(&instance, "first", 0);
    goes_on(&download, "in the end");

    // So does what is its own, when it moves; a new version begins with none.
    let list = json(&lbctl.ok(&["chain", "list", "--json"]));
    let all = |name: &str| {
        let list = json(&lbctl.ok(&["chain", "list", "--json"]));
        let programs = list.as_array().expect("a list").iter();
        let mut found = programs.filter(|program| program["name"] == name);
        let id = found.next().expect("the program")["id"].as_u64().expect("an id");
        own_data(u32::try_from(id).expect("an id"))
    };
    assert_eq!(all("first"), 1, "{list}");
    assert_eq!(all("second"), 7, "{list}");
}

/// The example of docs/chain.md, built by its own Makefile, before the balancer.
#[test]
fn the_drop_list() {
    let (rig, _echo, instance) = rig();
    let lbctl = rig.lbctl();
    lbctl.apply(&both_vips());
    let example = Built::example();
    lbctl.ok(&["chain", "insert", "4", &example.text()]);
    let ask = || udp_ask(rig.client(), server(UDP_VIP), "?");
    ask().expect("nobody is listed");
    let map = |name: &str| {
        let pin = instance.join("map/drop_list").join(name);
        libbpf_rs::MapHandle::from_pinned_path(pin).expect("open a pinned map")
    };
    let network = [24, 0, 0, 0, 192, 168, 1, 0];
    map("drop4").update(&network, &7_u32.to_ne_bytes(), MapFlags::ANY).expect("list a network");
    ask().expect_err("the client is listed");
    let counts = map("dropped").lookup_percpu(&7_u32.to_ne_bytes(), MapFlags::ANY);
    let counts = counts.expect("read a map").expect("a value");
    let packets = |bytes: Vec<u8>| u64::from_ne_bytes(bytes.try_into().expect("eight bytes"));
    assert_eq!(counts.into_iter().map(packets).sum::<u64>(), 1);
    // It keeps its list wherever it is.
    lbctl.ok(&["chain", "move", "drop_list", "9"]);
    ask().expect("behind the balancer it sees no VIP's packets");
    lbctl.ok(&["chain", "move", "drop_list", "1"]);
    ask().expect_err("the client is listed");
    map("drop4").delete(&network).expect("take it off the list");
    ask().expect("nobody is listed");
}

/// Two programs of others, the balancer and a capture leave in every order. Who is still there sees
/// its packets, and the interface's link stays the same to the end.
#[test]
fn removal_in_any_order() {
    let (rig, _echo, instance) = rig();
    let lbctl = rig.lbctl();
    let file = config_file(&both_vips());
    let path = path_of(&file).to_owned();
    let mut options = CaptureOptions::default();
    options.filter = "udp and src host 192.168.1.2".to_owned();
    let built = [Built::tracer("first", &[]), Built::tracer("last", &[])];
    let ask = || udp_ask(rig.client(), server(UDP_VIP), "?");
    let own = (rig.topology.balancer.v4, 7777);
    let orders =
        [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1], [2, 1, 0, 3], [0, 3, 1, 2]];
    for order in orders {
        lbctl.ok(&["apply", "--yes", "-f", &path]);
        lbctl.ok(&["chain", "insert", "3", &built[0].text()]);
        lbctl.ok(&["chain", "insert", "13", &built[1].text()]);
        let default = Instance::new(rig.bpffs.path(), "default").expect("an instance");
        let capture = rig.topology.balancer.ns.run(|| Capture::start(&default, &options));
        let mut capture = capture.expect("a capture begins");
        lbctl.ok(&["chain", "move", "first", "4"]);
        let link = || on_interface(&rig.topology.balancer.ns, UPLINK).1;
        let at_first = link();
        let mut there = [true; 4];
        let counts = |capture: &Capture, there: [bool; 4]| {
            [
                capture.counts().expect("its counts").matched,
                if there[1] { seen(&instance, "first") } else { 0 },
                if there[3] { seen(&instance, "last") } else { 0 },
            ]
        };
        for leaving in order {
            let alone = there.iter().filter(|there| **there).count() == 1
                || (there[0] && there.iter().filter(|there| **there).count() == 2);
            match leaving {
                0 => drop(capture.stop().expect("the capture ends")),
                1 => drop(lbctl.ok(&["chain", "remove", "first"])),
                2 => drop(lbctl.ok(&["down"])),
                _ => drop(lbctl.ok(&["chain", "remove", "13"])),
            }
            there[leaving] = false;
            if alone && leaving != 0 {
                break;
            }
            let when = format!("{order:?}, {leaving} has left");
            assert_eq!(link(), at_first, "{when}");
            let before = counts(&capture, there);
            assert_eq!(ask().is_ok(), there[2], "{when}: the VIP");
            // Nobody listens there, and the balancer hands on.
            udp_ask(rig.client(), own.into(), "?").expect_err("nobody answers");
            let after = counts(&capture, there);
            // Without the balancer, the VIP's packets go on as well.
            let behind = if there[2] { 1 } else { 2 };
            let expected = [
                if there[0] { 2 } else { 0 },
                if there[1] { 2 } else { 0 },
                if there[3] { behind } else { 0 },
            ];
            let grown: Vec<_> =
                after.iter().zip(before).map(|(after, before)| after - before).collect();
            assert_eq!(grown, expected, "{when}");
        }
        assert!(!instance.exists(), "{order:?}: {} is still there", instance.display());
        assert_eq!(on_interface(&rig.topology.balancer.ns, UPLINK), (None, None), "{order:?}");
    }
}

/// A program that somebody else has loaded and pinned; what it is refused for, and that it moves.
#[test]
fn pinned_programs() {
    let (rig, _echo, instance) = rig();
    let lbctl = rig.lbctl();
    lbctl.apply(&both_vips());
    let mut leaks = Leaks::watch(&rig);
    let built = Built::tracer("pinned", &[]);
    let pin = rig.bpffs.path().join("somebodys");
    let text = pin.to_str().expect("a printable path");
    let refused = |place: u32, chain: bool, words: &str| {
        let object = built.load(place, chain.then_some(instance.as_path()));
        let mut program = object.progs_mut().next().expect("a program");
        program.pin(&pin).expect("pin it");
        let output = lbctl.exits(1, &["chain", "insert", "4", text]);
        assert!(output.stderr.contains(words), "{words}: {output}");
        std::fs::remove_file(&pin).expect("remove the pin");
    };
    refused(6, false, "does not use the maps 'chain' and 'chain_next' of this instance");
    refused(u32::MAX, true, "its l4lb_slot cannot be read, or is out of range");
    refused(8, true, "l4lb_slot = 8, which is 'balancer'");

    let object = built.load(6, Some(&instance));
    let mut program = object.progs_mut().next().expect("a program");
    program.pin(&pin).expect("pin it");
    lbctl.ok(&["chain", "insert", "4", text]);
    let own = object.maps().find(|map| map.name() == "seen").expect("a map");
    let ask = || udp_ask(rig.client(), server(UDP_VIP), "?").expect("the VIP answers");
    ask();
    assert_eq!(count(&own), 1);
    // No program lies between: it moves without a gap.
    assert_eq!(lbctl.ok(&["chain", "move", "somebodys", "7"]).stderr, "");
    ask();
    assert_eq!(count(&own), 2);
    let output = lbctl.ok(&["chain", "move", "somebodys", "9"]);
    assert!(output.stderr.contains("cannot be copied: packets bypass it"), "{output}");
    ask();
    assert_eq!(count(&own), 2);
    lbctl.ok(&["chain", "move", "somebodys", "1"]);
    ask();
    assert_eq!(count(&own), 3);
    lbctl.ok(&["chain", "remove", "somebodys"]);
    ask();
    assert_eq!((count(&own), leaks.count()), (3, 0));
}

/// Millions of packets run through a chain while programs in front of its last one come, are replaced, move and go:
/// the last one sees every single packet.
#[test]
fn no_packet_skips_a_program() {
    const PACKETS: u32 = 1_000_000;
    let host = Host::new();
    let lbctl = host.lbctl();
    let instance = host.bpffs.path().join("l4lb/default");
    let [other, last] = ["other", "last"].map(|name| Built::tracer(name, &[]));
    lbctl.ok(&["chain", "insert", "15", &last.text(), "--interface", UPLINK]);
    set_verdict(&instance, "last", DROP);
    let root = libbpf_rs::Program::fd_from_pinned_path(instance.join("prog/root")).expect("a pin");
    let over = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let mut sent = 0;
            while !over.load(Ordering::SeqCst) {
                run_many(&root, PACKETS);
                sent += u64::from(PACKETS);
            }
            sent
        });
        for _ in 0..25 {
            lbctl.ok(&["chain", "insert", "4", &other.text()]);
            lbctl.ok(&["chain", "insert", "4", &other.text()]);
            lbctl.ok(&["chain", "move", "other", "9"]);
            lbctl.ok(&["chain", "remove", "other"]);
        }
        over.store(true, Ordering::SeqCst);
        sending.join().expect("packets are sent")
    });
    assert_eq!(seen(&instance, "last"), sent, "packets that the last program saw");
}
