//! `kill -9` at each write of the commands that change the chain. The chain goes on forwarding, and the next command
//! finds the state before or the state after.

use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::Signal;

use super::order::chain;
use crate::fixtures::Leaks;
use crate::fixtures::Rig;
use crate::fixtures::chain_programs::Built;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::goes_on;
use crate::fixtures::http_get;
use crate::fixtures::path_of;
use crate::fixtures::server;
use crate::fixtures::vip;

const VIP: &str = "tcp://10.200.1.1:80";

#[test]
fn at_every_write() {
    let rig = Rig::new(1);
    let lbctl = rig.lbctl();
    let file = config_file(&config(&vip(VIP, &["10.0.0.1"])));
    let path = path_of(&file);
    lbctl.ok(&["apply", "--yes", "-f", path]);
    let download = rig.download(VIP);
    let mut leaks = Leaks::watch(&rig);
    let (a, b) = (Built::tracer("a", &[]), Built::tracer("b", &[]));
    let (a, b) = (a.text(), b.text());
    lbctl.ok(&["chain", "insert", "4", &b, "--name", "b"]);
    // Whichever command was killed, another one settles it, and the same one again completes it.
    let insert: &[&str] = &["chain", "insert", "2", &a];
    let replace: &[&str] = &["chain", "insert", "2", &a];
    let past_b: &[&str] = &["chain", "move", "a", "6"];
    let back: &[&str] = &["chain", "move", "a", "2"];
    let balancer: &[&str] = &["chain", "move", "balancer", "1"];
    let balancer_back: &[&str] = &["chain", "move", "balancer", "8"];
    let beside: &[&str] = &["chain", "move", "a", "3"];
    let remove: &[&str] = &["chain", "remove", "a"];
    let two = |slot| vec![(slot, "a"), (4, "b"), (8, "balancer")];
    let mut past = two(6);
    past.sort_unstable();
    let moved = vec![(1, "balancer"), (2, "a"), (4, "b")];
    let gone = vec![(4, "b"), (8, "balancer")];
    // What it starts from, what it does, what it leads to, what leads back.
    for (before, command, after, undo) in [
        (&gone, insert, &two(2), remove),
        (&two(2), replace, &two(2), replace),
        (&two(2), past_b, &past, back),
        (&two(2), beside, &two(3), back),
        (&two(2), balancer, &moved, balancer_back),
        (&two(2), remove, &gone, insert),
    ] {
        let now = || -> Vec<(u64, String)> { chain(&rig) };
        let is = |list: &[(u64, &str)], now: &[(u64, String)]| {
            let now: Vec<_> = now.iter().map(|(slot, name)| (*slot, name.as_str())).collect();
            now == list
        };
        if !is(before, &now()) {
            lbctl.ok(if command == remove { insert } else { undo });
        }
        let mut writes = 0;
        for n in 1..200 {
            assert!(is(before, &now()), "before {command:?}: {:?}", now());
            let output = lbctl.clone().env("LBCTL_KILL_AT_WRITE", &n.to_string()).run(command);
            let when = format!("{command:?} killed at write {n}");
            if output.code() == Some(0) {
                writes = n - 1;
                assert!(is(after, &now()), "{when}: {:?}", now());
                lbctl.ok(undo);
                break;
            }
            assert_eq!(output.status.signal(), Some(Signal::SIGKILL as i32), "{when}: {output}");
            http_get(rig.client(), server(VIP), "/")
                .unwrap_or_else(|error| panic!("{when}: {error}"));
            goes_on(&download, &when);
            // A command that has nothing to do with it.
            lbctl.ok(&["chain", "move", "b", "5"]);
            lbctl.ok(&["chain", "move", "b", "4"]);
            let settled = now();
            assert!(is(before, &settled) || is(after, &settled), "{when}: {settled:?}");
            lbctl.ok(&["plan", "-f", path]);
            if !is(before, &settled) {
                lbctl.ok(undo);
            }
        }
        assert!(writes > 2, "{command:?}: {writes} writes");
    }
    assert_eq!(leaks.count(), 0, "packets for VIPs that reached the balancer's own kernel");
}
