//! No detour while alone: the link of an interface holds the only program of the chain itself.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use etherparse::PacketBuilder;
use l4lb::Balancer;
use l4lb::Instance;
use l4lb::Vip;
use l4lb::capture::Capture;
use l4lb::capture::CaptureOptions;
use l4lb::capture::Points;
use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use libbpf_rs::ProgramHandle;
use nix::sys::signal::Signal;

use crate::fixtures::Host;
use crate::fixtures::Leaks;
use crate::fixtures::NetNs;
use crate::fixtures::Rig;
use crate::fixtures::Sender;
use crate::fixtures::UPLINK;
use crate::fixtures::chain_programs::Built;
use crate::fixtures::chain_programs::on_interface;
use crate::fixtures::chain_programs::seen;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::goes_on;
use crate::fixtures::json;
use crate::fixtures::path_of;
use crate::fixtures::put_into_link;
use crate::fixtures::setting;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

const VIP: &str = "tcp://10.200.1.1:80";
const UDP_VIP: &str = "udp://10.200.1.1:53";
const ROOT: &str = "l4lb_root";
const PATIENCE: Duration = Duration::from_secs(30);

/// The kernel's name of the program that an interface runs.
#[track_caller]
fn runs(ns: &NetNs, interface: &str) -> String {
    let id = on_interface(ns, interface).0.expect("a program");
    let program = ProgramHandle::from_prog_id(id).expect("open a program");
    program.name().to_str().expect("a printable name").to_owned()
}

/// The programs of the chain, by the kernel's ids.
fn in_slots(instance: &Path) -> Vec<(u32, u32)> {
    let chain = MapHandle::from_pinned_path(instance.join("map/chain")).expect("open a pinned map");
    let id = |slot: u32| {
        let id = chain.lookup(&slot.to_ne_bytes(), MapFlags::ANY).expect("read a map")?;
        Some((slot, u32::from_ne_bytes(id.try_into().expect("four bytes"))))
    };
    (0..16).filter_map(id).collect()
}

/// The slot to which the root program leads.
fn first_slot(instance: &Path) -> u32 {
    let next = MapHandle::from_pinned_path(instance.join("map/chain_next")).expect("open a map");
    let first = next.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY).expect("read a map");
    u32::from_ne_bytes(first.expect("a value").try_into().expect("four bytes"))
}

/// Whoever comes and goes: the interface runs the only program, and the root program while there are two. Its link
/// stays the same.
#[test]
fn whoever_is_alone_is_in_the_link() {
    let host = Host::new();
    let (lbctl, ns) = (host.lbctl(), &host.ns);
    let other = Built::tracer("other", &[]);
    let insert = ["chain", "insert", "4", &other.text()];
    lbctl.apply(&Host::config(""));
    assert_eq!(runs(ns, UPLINK), "balancer");
    let (first, link) = on_interface(ns, UPLINK);
    let last_line = || {
        let table = lbctl.ok(&["chain", "list"]).stdout;
        table.lines().last().expect("a line").to_owned()
    };
    let direct = || json(&lbctl.ok(&["chain", "list", "--json"]))[0]["direct"].clone();
    assert_eq!(last_line(), "on uplink (native, direct: balancer)");
    assert_eq!(direct(), serde_json::json!([UPLINK]));
    let of_kernel = |program: &str, when: &str| {
        assert_eq!(runs(ns, UPLINK), program, "{when}");
        assert_eq!(on_interface(ns, UPLINK).1, link, "{when}: another link");
    };

    // The only program is replaced.
    lbctl.apply(&Host::config("").replace("20000", "30000"));
    of_kernel("balancer", "other tables");
    assert_ne!(on_interface(ns, UPLINK).0, first, "the old program");

    lbctl.ok(&insert);
    of_kernel(ROOT, "a second program");
    assert_eq!(last_line(), "on uplink (native, root)");
    assert_eq!(direct(), serde_json::json!([]));
    lbctl.ok(&insert);
    of_kernel(ROOT, "the second one is replaced");
    lbctl.ok(&["chain", "move", "other", "10"]);
    of_kernel(ROOT, "it has moved");
    lbctl.ok(&["chain", "remove", "other"]);
    of_kernel("balancer", "it has left");
    lbctl.ok(&["chain", "move", "balancer", "3"]);
    of_kernel("balancer", "alone in another slot");

    lbctl.ok(&["decap", "attach", UPLINK]);
    of_kernel(ROOT, "decapsulation beside the balancer");
    lbctl.ok(&["down"]);
    of_kernel("decap", "decapsulation alone");
    lbctl.ok(&insert);
    of_kernel(ROOT, "beside decapsulation");
    lbctl.ok(&["decap", "detach"]);
    let own = runs(ns, UPLINK);
    assert!(own != ROOT && own != "decap", "somebody else's program alone, not {own}");
    lbctl.ok(&insert);
    of_kernel(&own, "it is replaced");
    lbctl.ok(&["chain", "remove", "other"]);
    assert_eq!(on_interface(ns, UPLINK), (None, None));
}

/// A capture at entry needs the chain; one at exit is a matter of the balancer alone.
#[test]
fn captures() {
    let host = Host::new();
    host.lbctl().apply(&Host::config(""));
    let instance = Instance::new(host.bpffs.path(), "default").expect("an instance");
    for (at, during) in [(Points::Entry, ROOT), (Points::Both, ROOT), (Points::Exit, "balancer")] {
        let mut options = CaptureOptions::default();
        options.at = at;
        let capture = host.ns.run(|| Capture::start(&instance, &options));
        let mut capture = capture.expect("a capture begins");
        assert_eq!(runs(&host.ns, UPLINK), during, "{at:?}");
        // The only program is replaced meanwhile.
        host.lbctl().apply(&Host::config("udp_timeout_seconds = 9\n"));
        assert_eq!(runs(&host.ns, UPLINK), during, "{at:?}");
        host.lbctl().apply(&Host::config(""));
        drop(capture.stop().expect("the capture ends"));
        assert_eq!(runs(&host.ns, UPLINK), "balancer", "{at:?}");
    }
    // Of one that is killed, the next command takes away what is left.
    let dump = host.lbctl().spawn(&["dump"]);
    assert!(wait_until(PATIENCE, || runs(&host.ns, UPLINK) == ROOT), "it has begun");
    dump.signal(Signal::SIGKILL);
    dump.wait(PATIENCE);
    host.lbctl().ok(&["stats"]);
    assert_eq!(runs(&host.ns, UPLINK), "balancer");
}

/// Two interfaces, of which one is in generic mode; a third one comes and goes.
#[test]
fn every_interface() {
    let host = Host::new();
    let (lbctl, ns) = (host.lbctl(), &host.ns);
    for name in ["second", "third"] {
        ns.shell(&format!(
            "ip link add {name} type veth peer name {name}-peer; ip link set {name} up; ip link set {name}-peer up"
        ));
    }
    let interface = |name: &str, mode: &str| {
        format!(
            "[[interfaces]]\nname = \"{name}\"\nxdp_mode = \"{mode}\"\ngateway_mac = \"02:00:00:00:00:fd\"\n"
        )
    };
    let two = format!("{}{}", interface("second", "generic"), Host::config(""));
    let three = format!("{}{two}", interface("third", "native"));
    let all = |interfaces: &[&str], program: &str| {
        for interface in interfaces {
            assert_eq!(runs(ns, interface), program, "{interface}");
        }
    };
    lbctl.apply(&two);
    all(&[UPLINK, "second"], "balancer");
    let table = lbctl.ok(&["chain", "list"]).stdout;
    let last = "on second (generic, direct: balancer), uplink (native, direct: balancer)";
    assert_eq!(table.lines().last(), Some(last));
    lbctl.apply(&three);
    all(&[UPLINK, "second", "third"], "balancer");
    let other = Built::tracer("other", &[]);
    lbctl.ok(&["chain", "insert", "4", &other.text()]);
    all(&[UPLINK, "second", "third"], ROOT);
    lbctl.ok(&["chain", "remove", "other"]);
    all(&[UPLINK, "second", "third"], "balancer");
    // One changes its mode, and so gets another link.
    lbctl.apply(&three.replace("generic", "native"));
    all(&[UPLINK, "second", "third"], "balancer");
    lbctl.apply(&two);
    all(&[UPLINK, "second"], "balancer");
}

/// What another process has loaded stays behind the root program: its loader may have it elsewhere, too.
#[test]
fn programs_that_others_have_loaded() {
    let host = Host::new();
    let (lbctl, ns) = (host.lbctl(), &host.ns);
    let instance = host.bpffs.path().join("l4lb/default");
    let built = Built::tracer("pinned", &[]);
    lbctl.apply(&Host::config(""));
    let object = built.load(6, Some(&instance));
    let pin = host.bpffs.path().join("somebodys");
    object.progs_mut().next().expect("a program").pin(&pin).expect("pin it");
    lbctl.ok(&["chain", "insert", "4", pin.to_str().expect("a printable path")]);
    lbctl.ok(&["down"]);
    assert_eq!(runs(ns, UPLINK), ROOT);
    lbctl.apply(&Host::config(""));
    lbctl.ok(&["chain", "remove", "somebodys"]);
    assert_eq!(runs(ns, UPLINK), "balancer");
}

/// A detour without need: `doctor` finds it, and the next `apply` ends it, though there is nothing to plan. So does
/// `serve`.
#[test]
fn a_detour_is_found_and_ended() {
    let host = Host::new();
    let (lbctl, ns) = (host.lbctl(), &host.ns);
    let file = config_file(&Host::config(""));
    let path = path_of(&file);
    let pins = host.bpffs.path().join("l4lb/default");
    let detour = || put_into_link(&pins.join("link/uplink"), &pins.join("prog/root"));
    let finds = || {
        let report = json(&lbctl.run(&["doctor", "--json"]));
        let findings = report["findings"].as_array().expect("a list").clone();
        findings.into_iter().find(|finding| finding["id"] == "chain-detour")
    };
    lbctl.ok(&["apply", "-f", path]);
    assert_eq!(finds(), None);
    detour();
    assert_eq!(runs(ns, UPLINK), ROOT);
    let found = finds().expect("the finding");
    assert_eq!(found["severity"], "warning", "{found}");
    assert!(found.to_string().contains(UPLINK), "{found}");
    lbctl.ok(&["plan", "-f", path]);
    lbctl.ok(&["apply", "-f", path]);
    assert_eq!(runs(ns, UPLINK), "balancer");

    let mut serve = lbctl.clone().env("LBCTL_REPAIR_MS", "200").spawn(&["serve", "-f", path]);
    serve.wait_for("metrics at http");
    detour();
    assert!(wait_until(PATIENCE, || runs(ns, UPLINK) == "balancer"), "{}", serve.stderr());
    serve.stop();
}

/// `kill -9` at each write. At any moment the link holds the root program, or the only program that the chain holds
/// and leads to; after the next command, it holds what it should.
#[test]
fn killed_at_each_write() {
    let host = Host::new();
    let (lbctl, ns) = (host.lbctl(), &host.ns);
    ns.shell(
        "ip link add second type veth peer name other; ip link set second up; ip link set other up",
    );
    let second = "[[interfaces]]\nname = \"second\"\ngateway_mac = \"02:00:00:00:00:fd\"\n";
    let text = format!("{second}\n{}", Host::config(""));
    let one = config_file(&text);
    let two = config_file(&text.replace("20000", "30000"));
    let instance = host.bpffs.path().join("l4lb/default");
    let other = Built::tracer("other", &[]);
    let other = other.text();
    let apply: &[&str] = &["apply", "--yes", "-f", path_of(&one)];
    let replace: &[&str] = &["apply", "--yes", "-f", path_of(&two)];
    let insert: &[&str] = &["chain", "insert", "4", &other];
    let remove: &[&str] = &["chain", "remove", "other"];
    let shift: &[&str] = &["chain", "move", "balancer", "3"];
    let back: &[&str] = &["chain", "move", "balancer", "8"];
    let attach: &[&str] = &["decap", "attach", UPLINK];
    let detach: &[&str] = &["decap", "detach"];
    let dump: &[&str] = &["dump", "--duration", "1ms"];
    lbctl.ok(apply);
    // What is killed, and what leads there and back.
    for (before, command, undo) in [
        (apply, replace, apply),
        (apply, insert, remove),
        (insert, remove, apply),
        (back, shift, back),
        (apply, attach, detach),
        (apply, dump, apply),
    ] {
        let mut both_ways = [false; 2];
        let mut writes = 0;
        for n in 1..400 {
            lbctl.ok(before);
            let output = lbctl.clone().env("LBCTL_KILL_AT_WRITE", &n.to_string()).run(command);
            let when = format!("{command:?} killed at write {n}");
            let slots = in_slots(&instance);
            for interface in [UPLINK, "second"] {
                let id = on_interface(ns, interface).0.expect("a program");
                let is_root = runs(ns, interface) == ROOT;
                both_ways[usize::from(is_root)] = true;
                if !is_root {
                    assert_eq!(slots.iter().map(|(_, id)| *id).collect::<Vec<_>>(), [id], "{when}");
                    assert_eq!(first_slot(&instance), slots[0].0, "{when}");
                }
            }
            let killed = output.code() != Some(0);
            let signal = killed.then_some(Signal::SIGKILL as i32);
            assert_eq!(output.status.signal(), signal, "{when}: {output}");
            if killed {
                // Another command, which has nothing else to do, settles what was begun.
                lbctl.ok(back);
            }
            let alone = in_slots(&instance).len() == 1;
            for interface in [UPLINK, "second"] {
                let program = runs(ns, interface);
                assert_eq!(program, if alone { "balancer" } else { ROOT }, "{when}: {interface}");
            }
            if !killed {
                writes = n - 1;
                lbctl.ok(undo);
                break;
            }
            if instance.join("prog/other").exists() && command == insert {
                lbctl.ok(remove);
            }
            if instance.join("prog/decap").exists() && command == attach {
                lbctl.ok(detach);
            }
        }
        assert!(writes > 2, "{command:?}: {writes} writes");
        assert_eq!(both_ways, [true; 2], "{command:?}: root and direct");
    }
}

/// A datagram for [`UDP_VIP`], from one of many clients, as the router sends it to the balancer.
fn datagram(rig: &Rig, number: u64) -> Vec<u8> {
    let port = 1024 + u16::try_from(number % 60_000).expect("a port");
    let mut frame = Vec::new();
    let node = &rig.topology.balancer;
    PacketBuilder::ethernet2(node.gateway_mac, node.mac)
        .ipv4([192, 168, 1, 2], [10, 200, 1, 1], 64)
        .udp(port, 53)
        .write(&mut frame, b"?")
        .expect("a frame");
    frame
}

/// Datagrams of a round.
const AT_ONCE: u64 = 50;

/// Sends rounds of datagrams until it is `over`: the balancer counts all of a round before the next one begins, and no
/// more. `sent` is how many they are.
fn send_until(
    over: &AtomicBool,
    sent: &AtomicU64,
    rig: &Rig,
    sender: &Sender,
    counted: &impl Fn() -> u64,
) {
    let mut number = 0;
    while !over.load(Ordering::SeqCst) {
        for _ in 0..AT_ONCE {
            sender.send(&datagram(rig, number));
            number += 1;
        }
        let arrived = wait_until(PATIENCE, || counted() >= number);
        assert!(arrived && counted() == number, "of {number} packets, {} came", counted());
        sent.store(number, Ordering::SeqCst);
    }
}

/// Programs and captures come, move and go in random order, and the balancer is replaced, while a download runs and
/// datagrams are sent and counted: the balancer sees each of them once, and what is beside it sees them, too. So many
/// changes are made, 10,000 for example: `LB_TEST_CHAIN_CHANGES`.
#[test]
fn none_is_lost_or_seen_twice_whatever_changes() {
    let changes: u32 = setting("LB_TEST_CHAIN_CHANGES").unwrap_or(60);
    let seed: u64 = setting("LB_TEST_SEED").unwrap_or(1);
    let rig = Rig::new(1);
    let lbctl = rig.lbctl();
    let ns = &rig.topology.balancer.ns;
    let text = config(&[vip(VIP, &["10.0.0.1"]), vip(UDP_VIP, &["10.0.0.1"])].concat());
    let files = [&text, &text.replace("20000", "30000")].map(|text| config_file(text));
    lbctl.ok(&["apply", "--yes", "-f", path_of(&files[0])]);
    let folder = rig.bpffs.path().join("l4lb/default");
    let instance = Instance::new(rig.bpffs.path(), "default").expect("an instance");
    let balancer = ns.run(|| Balancer::open(&instance)).expect("open the balancer");
    let udp_vip: Vip = UDP_VIP.parse().expect("a VIP");
    let counted = || {
        let stats = balancer.stats().expect("read the counters");
        stats.vips.get(&udp_vip).map_or(0, |vip| vip.sent.packets + vip.dropped)
    };
    let download = rig.download(VIP);
    let mut leaks = Leaks::watch(&rig);
    let sender = Sender::new(&rig.topology.router, &rig.topology.balancer.router_interface);
    let (over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let built = Built::tracer("other", &[]);
    let insert = |slot: &str| drop(lbctl.ok(&["chain", "insert", slot, &built.text()]));
    let start = |at| {
        let mut options = CaptureOptions::default();
        options.at = at;
        options.filter = "udp".to_owned();
        ns.run(|| Capture::start(&instance, &options)).expect("a capture begins")
    };
    thread::scope(|scope| {
        let sending = scope.spawn(|| send_until(&over, &sent, &rig, &sender, &counted));
        let mut random = seed;
        let mut captures: [Option<Capture>; 2] = [None, None];
        // The slot of the other program, whether decapsulation is attached, which file is in force.
        let (mut slot, mut decap, mut file) = (None, false, 0);
        for change in 0..changes {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let what = match ((random >> 33) % 8, slot) {
                (0 | 1, None) => {
                    insert("4");
                    slot = Some(4);
                    "insert"
                }
                (0, Some(at)) => {
                    insert(if at == 4 { "4" } else { "10" });
                    "replace"
                }
                (1 | 2, Some(at)) => {
                    let to = if at == 4 { 10 } else { 4 };
                    lbctl.ok(&["chain", "move", "other", &to.to_string()]);
                    slot = Some(to);
                    "move"
                }
                (3 | 4, Some(_)) => {
                    lbctl.ok(&["chain", "remove", "other"]);
                    slot = None;
                    "remove"
                }
                (5, _) => {
                    decap = !decap;
                    let command = if decap { "attach" } else { "detach" };
                    lbctl.ok(&["decap", command, UPLINK]);
                    command
                }
                (6, _) => {
                    file = 1 - file;
                    lbctl.ok(&["apply", "--yes", "-f", path_of(&files[file])]);
                    "apply"
                }
                (other, _) => {
                    let at = usize::from(other.is_multiple_of(2));
                    match captures[at].take() {
                        Some(mut capture) => drop(capture.stop().expect("the capture ends")),
                        None => captures[at] = Some(start([Points::Entry, Points::Exit][at])),
                    }
                    "capture"
                }
            };
            let when = format!("seed {seed}, change {change}, {what}");
            let alone = slot.is_none() && !decap && captures[0].is_none();
            assert_eq!(runs(ns, UPLINK), if alone { "balancer" } else { ROOT }, "{when}");
            // Two rounds of the sender are wholly after the change.
            let other = || if slot == Some(4) { seen(&folder, "other") } else { 0 };
            let (before, from) = (other(), sent.load(Ordering::SeqCst));
            let goes_on_sending = wait_until(PATIENCE, || {
                sending.is_finished() || sent.load(Ordering::SeqCst) >= from + 2 * AT_ONCE
            });
            assert!(goes_on_sending && !sending.is_finished(), "{when}: packets stopped");
            assert!(slot != Some(4) || other() >= before + AT_ONCE, "{when}: packets pass it by");
            if change % 10 == 0 {
                goes_on(&download, &when);
            }
        }
        over.store(true, Ordering::SeqCst);
        sending.join().expect("all is sent");
    });
    assert_eq!(counted(), sent.load(Ordering::SeqCst));
    assert_eq!(leaks.count(), 0, "packets for VIPs that reached the balancer's own kernel");
}
