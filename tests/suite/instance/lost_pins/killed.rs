//! `kill -9` of `apply` at each write of a fix of pins. What runs goes on, and the next `apply` completes the fix.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::VIP;
use super::answers;
use super::applied;
use super::folder;
use super::pins;
use super::remove;
use crate::fixtures::Rig;
use crate::fixtures::goes_on;
use crate::fixtures::path_of;
use crate::fixtures::wait_until;

/// More writes than any of the commands makes.
const ENOUGH: u32 = 300;

/// Removes pins, and kills the command at its first write, its second, and so on until it has no more, or at each of
/// so many; each time, once more without. Returns how many writes it has, about.
fn at_every_write(
    rig: &Rig,
    lost: &[&str],
    command: &[&str],
    each: usize,
    meanwhile: impl Fn(&str),
) -> u32 {
    let (lbctl, all) = (rig.lbctl(), pins(&folder(rig)));
    for n in (1..ENOUGH).step_by(each) {
        for pin in lost {
            remove(rig, pin);
        }
        // The kernel frees what nobody holds some time later, and until then it can be pinned again.
        let is_freed = || lbctl.run(&["status"]).stderr.contains("apply --repair");
        if command.contains(&"--repair") {
            assert!(wait_until(Duration::from_secs(30), is_freed), "without {lost:?}");
        }
        let output = lbctl.clone().env("LBCTL_KILL_AT_WRITE", &n.to_string()).run(command);
        let when = format!("without {lost:?}, killed at write {n}");
        if output.code() == Some(0) {
            return n - 1;
        }
        assert_eq!(output.status.signal(), Some(Signal::SIGKILL as i32), "{when}: {output}");
        meanwhile(&when);
        let output = lbctl.run(command);
        assert_eq!(output.code(), Some(0), "{when}: {output}");
        answers(rig, &when);
        assert_eq!(pins(&folder(rig)), all, "{when}");
        let planned = lbctl.run(&["plan", command[command.len() - 2], command[command.len() - 1]]);
        assert_eq!(planned.code(), Some(0), "{when}: {planned}");
    }
    panic!("without {lost:?}, it still writes after {ENOUGH} writes");
}

#[test]
fn while_it_fixes() {
    let (rig, file) = applied();
    let path = path_of(&file);
    let download = rig.download(VIP);
    let apply = ["apply", "-f", path];
    let all = ["prog/root", "prog/balancer", "map/control", "map/vips", "map/vip_reals"];
    let writes = at_every_write(&rig, &all, &apply, 1, |when| goes_on(&download, when));
    assert!(writes >= 5, "{writes} writes");
    // The kernel has emptied the chain.
    let writes = at_every_write(&rig, &["map/chain", "map/chain_next"], &apply, 1, |_| {});
    assert!(writes >= 3, "{writes} writes");
    goes_on(&download, "in the end");
}

#[test]
fn while_it_sets_up_anew() {
    let (rig, file) = applied();
    let path = path_of(&file);
    let apply = ["apply", "--yes", "--repair", "-f", path];
    // Otherwise the link holds the balancer itself.
    let lost = ["link/uplink", "map/chain", "prog/balancer"];
    let writes = at_every_write(&rig, &lost, &apply, 3, |_| {});
    assert!(writes > 30, "{writes} writes");
}
