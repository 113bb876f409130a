//! `kill -9` of `decap attach --mss` at each of its writes: whoever comes next completes what it began, or takes it back.

use std::os::unix::process::ExitStatusExt;

use libbpf_rs::ProgramHandle;
use nix::sys::signal::Signal;

use super::*;
use crate::control::tunnel::lives::filters;
use crate::control::tunnel::lives::qdisc;

/// More writes than the command has.
const ENOUGH: u32 = 200;

const MAPS: [&str; 2] = ["mss_limits", "mss_states"];

fn host() -> Host {
    let host = Host::new();
    host.ns.shell(&format!(
        "ip addr add {VIP}/32 dev lo; ip addr add 172.31.9.9/24 dev lo
         ip link add second type veth peer name other; ip link set second up"
    ));
    host
}

/// What comes after the kill.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// An `lbctl decap serve` of another interface, which has run all the time.
    Serve,
    /// A command for another interface.
    Attach,
    Detach,
    /// The one that takes all away.
    DetachAll,
}

/// Kills `attach` at each write, as before Linux 6.6 or by links. `before` is what it starts from.
fn at_every_write(by_filters: bool, next: Next, others_qdisc: bool) {
    let host = host();
    let lbctl = || {
        let lbctl = host.lbctl();
        if by_filters { lbctl.env("LBCTL_FAIL_AT", "tcx") } else { lbctl }
    };
    let address = ["--address", "172.31.9.9"];
    let second = [&["decap", "attach", "second"][..], &address].concat();
    let attach = [&["decap", "attach", UPLINK, "--mss", "1234"][..], &address].concat();
    if others_qdisc {
        host.ns.shell(&format!("tc qdisc add dev {UPLINK} clsact"));
    }
    let qdisc_before = qdisc(&host.ns);
    lbctl().ok(&second);
    let serve = matches!(next, Next::Serve)
        .then(|| lbctl().spawn(&[&["decap", "serve", "second"][..], &address].concat()));
    let folder = host.bpffs.path().join("l4lb/default");
    let mut kills = 0;
    for n in 1.. {
        assert!(n < ENOUGH, "{ENOUGH} writes are not enough");
        let output = lbctl().env("LBCTL_KILL_AT_WRITE", &n.to_string()).run(&attach);
        let when = format!("killed at write {n}, then {next:?}, by filters: {by_filters}");
        let done = output.code() == Some(0);
        if !done {
            assert_eq!(output.status.signal(), Some(Signal::SIGKILL as i32), "{when}: {output}");
            // Whatever comes before, others look at.
            if !folder.join("map/mss_limits").exists() && !folder.join("mss").exists() {
                lbctl().run(&["decap", "detach", UPLINK]);
                continue;
            }
            kills += 1;
        }
        match next {
            Next::Serve => {}
            Next::Attach => drop(lbctl().ok(&second)),
            Next::Detach => {
                lbctl().ok(&["decap", "detach", "second"]);
            }
            Next::DetachAll => drop(lbctl().ok(&["decap", "detach"])),
        }
        if matches!(next, Next::DetachAll) {
            assert!(!host.has_pins("default"), "{when}");
        } else {
            let limits = || status(&host.lbctl())["mss"].clone();
            let expected = json!({ UPLINK: { "ipv4": 1234, "ipv6": 1234 } });
            assert!(wait_until(SOON, || limits() == expected), "{when}: {}", limits());
            if by_filters {
                assert_eq!(filters(&host.ns).matches("handle 0x4c354c42 mss").count(), 1, "{when}");
            }
            lbctl().ok(&["decap", "detach", UPLINK]);
        }
        assert_eq!((filters(&host.ns), qdisc(&host.ns)), (String::new(), qdisc_before.clone()));
        for map in MAPS {
            assert!(!folder.join("map").join(map).exists(), "{when}: {map}");
        }
        if done {
            assert!(kills >= 3, "{kills} kills while it was attached");
            drop(serve);
            return;
        }
        if !matches!(next, Next::Serve) {
            lbctl().ok(&second);
        }
    }
}

#[test]
fn serve_completes_it() {
    at_every_write(false, Next::Serve, false);
}

#[test]
fn serve_completes_filters() {
    at_every_write(true, Next::Serve, false);
}

#[test]
fn other_commands_complete_it() {
    at_every_write(false, Next::Attach, false);
    at_every_write(true, Next::Detach, false);
}

/// A clsact qdisc that somebody else made stays, with filters or without.
#[test]
fn nothing_is_left() {
    at_every_write(true, Next::DetachAll, true);
    at_every_write(false, Next::DetachAll, false);
}

/// The maps of another build were removed, and the command was killed before the program had its own. Until the next
/// command, the old program lowers by the old maps, and nobody says that it does not.
#[test]
fn a_program_gets_the_maps_that_are_pinned() {
    for by_filters in [false, true] {
        let host = host();
        let lbctl = || {
            let lbctl = host.lbctl();
            if by_filters { lbctl.env("LBCTL_FAIL_AT", "tcx") } else { lbctl }
        };
        let attach = |bytes: &str| {
            lbctl().ok(&["decap", "attach", UPLINK, "--address", "172.31.9.9", "--mss", bytes]);
        };
        attach("1234");
        for map in MAPS {
            let pin = host.bpffs.path().join("l4lb/default/map").join(map);
            std::fs::remove_file(pin).expect("remove");
        }
        let off = json!({ UPLINK: { "ipv4": null, "ipv6": null } });
        assert_eq!(status(&host.lbctl())["mss"], off, "what runs has other maps");
        attach("1000");
        let program = || {
            let text = if by_filters { filters(&host.ns) } else { String::new() };
            (status(&host.lbctl())["mss"].clone(), text.matches("mss").count())
        };
        let lowered = json!({ UPLINK: { "ipv4": 1000, "ipv6": 1000 } });
        assert_eq!(program().0, lowered);
        // A pin whose program is not the filter's, as a kill leaves it.
        if by_filters {
            let folder = host.bpffs.path().join("l4lb/default");
            let pin = std::fs::read_dir(folder.join("mss")).expect("the folder").next();
            let pin = pin.expect("a pin").expect("its name").path();
            std::fs::remove_file(&pin).expect("remove");
            let other = ProgramHandle::from_pinned_path(folder.join("prog/decap"));
            other.expect("a program").pin(&pin).expect("pin another program");
            assert_eq!(program().0, lowered);
        }
        lbctl().ok(&["decap", "detach"]);
        assert_eq!((filters(&host.ns), qdisc(&host.ns)), (String::new(), String::new()));
        assert!(!host.has_pins("default"));
    }
}
