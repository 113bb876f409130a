//! Changes of slots while packets pass: the order of the writes, and what they wait for.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use libbpf_rs::Program;
use nix::sys::signal::Signal;

use crate::fixtures::Host;
use crate::fixtures::UPLINK;
use crate::fixtures::chain_programs::Built;
use crate::fixtures::chain_programs::count;
use crate::fixtures::chain_programs::run_many;
use crate::fixtures::chain_programs::seen;
use crate::fixtures::chain_programs::set_verdict;
use crate::fixtures::wait_until;

const DROP: u32 = 1;

/// Of the map `hold`: what the test asks for, and what the program says.
const LET_GO: u32 = 0;
const HOLD: u32 = 1;
const HELD: u32 = 2;

const PATIENCE: Duration = Duration::from_secs(30);

fn value(map: &MapHandle, at: u32) -> u32 {
    let value = map.lookup(&at.to_ne_bytes(), MapFlags::ANY).expect("read a map");
    u32::from_ne_bytes(value.expect("an array has values").try_into().expect("four bytes"))
}

fn set(map: &MapHandle, value: u32) {
    map.update(&0_u32.to_ne_bytes(), &value.to_ne_bytes(), MapFlags::ANY).expect("write a map");
}

fn root(instance: &Path) -> impl std::os::fd::AsFd + Sync + use<> {
    Program::fd_from_pinned_path(instance.join("prog/root")).expect("a pin")
}

/// A packet that has read which slot is next gets to the program there, and to all behind it, though that program is
/// removed just then: its slot is not emptied before the packet is over.
#[test]
fn a_slot_is_emptied_after_the_last_packet_on_its_way() {
    let host = Host::new();
    let lbctl = host.lbctl();
    let instance = host.bpffs.path().join("l4lb/default");
    let other = Built::tracer("other", &[]);
    let last = Built::tracer("last", &[]);
    let holds = Built::tracer("holds", &["-DHOLDS"]);
    lbctl.ok(&["chain", "insert", "15", &last.text(), "--interface", UPLINK]);
    lbctl.ok(&["chain", "insert", "3", &holds.text()]);
    set_verdict(&instance, "last", DROP);
    let root = root(&instance);
    let pinned = |name: &str| MapHandle::from_pinned_path(instance.join("map").join(name));
    let next = pinned("chain_next").expect("open a pinned map");
    let hold = pinned("holds/hold").expect("open a pinned map");
    // The program holds a packet for some seconds at most, which a busy machine may need for the command.
    let held_long_enough = (0..10).any(|_| {
        lbctl.ok(&["chain", "insert", "9", &other.text()]);
        assert_eq!(value(&next, 4), 9, "the program in slot 3 leads to that in slot 9");
        let before = seen(&instance, "last");
        set(&hold, HOLD);
        let on_its_way = thread::scope(|scope| {
            let packet = scope.spawn(|| run_many(&root, 1));
            assert!(wait_until(PATIENCE, || value(&hold, 0) == HELD), "a packet is held");
            let removing = lbctl.spawn(&["chain", "remove", "other"]);
            let unlinked = wait_until(PATIENCE, || value(&next, 4) != 9);
            // Nothing but the packet keeps the command from emptying the slot.
            thread::sleep(Duration::from_millis(300));
            let on_its_way = value(&hold, 0) == HELD;
            set(&hold, LET_GO);
            packet.join().expect("the packet is over");
            let output = removing.wait(PATIENCE);
            assert_eq!((output.code(), unlinked), (Some(0), true), "{output}");
            on_its_way
        });
        assert_eq!(seen(&instance, "last"), before + 1, "the packet skipped the last program");
        on_its_way
    });
    assert!(held_long_enough, "the command was never so quick that a packet was held all along");
}

/// A program that cannot be copied moves past another one. Whatever of that has been written, no packet meets a program
/// twice, or misses one that stays: what a program hands on to is written before packets are led to it.
#[test]
fn a_move_past_others_is_written_last_to_first() {
    let host = Host::new();
    let lbctl = host.lbctl();
    let instance = host.bpffs.path().join("l4lb/default");
    let [between, last, pinned] =
        ["between", "last", "pinned"].map(|name| Built::tracer(name, &[]));
    lbctl.ok(&["chain", "insert", "15", &last.text(), "--interface", UPLINK]);
    lbctl.ok(&["chain", "insert", "6", &between.text()]);
    set_verdict(&instance, "last", DROP);
    let object = pinned.load(4, Some(&instance));
    let pin = host.bpffs.path().join("somebodys");
    object.progs_mut().next().expect("a program").pin(&pin).expect("pin it");
    lbctl.ok(&["chain", "insert", "4", pin.to_str().expect("a printable path")]);
    let own = object.maps().find(|map| map.name() == "seen").expect("a map");
    let root = root(&instance);
    let counts = || [count(&own), seen(&instance, "between"), seen(&instance, "last")];
    for (from, to) in [("4", "9"), ("9", "4")] {
        let mut writes = 0;
        for n in 1..100 {
            let command = ["chain", "move", "somebodys", to];
            let output = lbctl.clone().env("LBCTL_KILL_AT_WRITE", &n.to_string()).run(&command);
            let when = format!("{command:?} killed at write {n}");
            let killed = output.code() != Some(0);
            let signal = killed.then_some(Signal::SIGKILL as i32);
            assert_eq!(output.status.signal(), signal, "{when}: {output}");
            let before = counts();
            run_many(&root, 1);
            let [moved, between, last] = counts();
            assert!(moved <= before[0] + 1, "{when}: the packet met the program that moves twice");
            assert_eq!([between, last], [before[1] + 1, before[2] + 1], "{when}: others");
            writes = n;
            if !killed {
                break;
            }
            // A command that has nothing to do with it settles what was begun.
            lbctl.ok(&["chain", "move", "last", "14"]);
            lbctl.ok(&["chain", "move", "last", "15"]);
            lbctl.ok(&["chain", "move", "somebodys", from]);
        }
        assert!((5..99).contains(&writes), "{writes} writes");
    }
}
