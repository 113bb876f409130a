//! Each way to fail is found in time, with its own reason, and requests fail only until then.

use std::time::Duration;
use std::time::Instant;

use nix::sys::signal::Signal;

use super::FALL;
use super::INTERVAL;
use super::RISE;
use super::SLACK;
use super::TIMEOUT;
use super::VIP;
use super::checked;
use super::nginx_everywhere;
use crate::fixtures::NetNs;
use crate::fixtures::Nginx;
use crate::fixtures::Requests;
use crate::fixtures::Rig;
use crate::fixtures::Serve;
use crate::fixtures::UPLINK;
use crate::fixtures::wait_until;

/// A way to fail.
struct Failure<'a> {
    what: &'a str,
    /// What the log says about it.
    reason: &'a str,
    begin: &'a mut dyn FnMut(),
    end: &'a mut dyn FnMut(),
}

/// Tries a failure of real 1 while clients ask.
#[track_caller]
fn is_found(serve: &Serve<'_>, requests: &Requests, failure: Failure<'_>) {
    let Failure { what, reason, begin, end } = failure;
    let said = |state: &str| serve.count(&format!("real 10.0.0.1 is {state}, was"));
    let (unhealthy, healthy) = (said("unhealthy"), said("healthy"));
    let begun = Instant::now();
    begin();
    let limit = INTERVAL * FALL + TIMEOUT;
    let found = wait_until(limit + SLACK, || said("unhealthy") > unhealthy);
    let log = || serve.running.stderr();
    assert!(found, "{what}: not found\n{}", log());
    let found_at = Instant::now();
    let line = log();
    let line = line.lines().rev().find(|line| line.contains("real 10.0.0.1 is unhealthy"));
    let line = line.unwrap_or_default();
    assert!(line.contains(reason), "{what}: not '{reason}': {line}");
    // From here on, no request fails.
    let after = requests.next(100);
    let failed: Vec<_> = after.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert!(failed.is_empty(), "{what}: {failed:?} after it was found\n{}", log());
    assert!(after.iter().all(|real| real.as_deref() != Ok("real1")), "{what}: real1 still answers");
    let between = requests.between(begun, found_at);
    let lost = between.iter().filter(|one| one.outcome.is_err()).count();
    println!(
        "{what}: found after {:.1} s, {lost} of {} requests failed meanwhile: {line}",
        (found_at - begun).as_secs_f64(),
        between.len()
    );
    end();
    let back = wait_until(INTERVAL * RISE + TIMEOUT + SLACK, || said("healthy") > healthy);
    assert!(back, "{what}: it does not come back\n{}", log());
    let back = requests.next(200);
    let share = back.iter().filter(|real| real.as_deref() == Ok("real1")).count();
    assert!((30..=110).contains(&share), "{what}: real1 has {share} of {} afterwards", back.len());
}

/// What a process does on a real: it dies, hangs, or says that it is not well.
fn processes(via: &str) {
    let mut rig = Rig::new(3);
    let nginx = nginx_everywhere(&mut rig);
    let nginx = std::cell::RefCell::new(nginx);
    let real = &rig.topology.reals[0];
    let serve = Serve::start(rig.lbctl(), &checked(3, &format!(", via = \"{via}\""), ""));
    serve.wait_for("is healthy, was unknown", 3);
    let requests =
        Requests::start(rig.client(), VIP, 4, Duration::from_millis(10), Duration::from_secs(1));
    let first = |act: &dyn Fn(&mut Nginx)| act(&mut nginx.borrow_mut()[0]);
    let failures = [
        Failure {
            what: "stopped",
            reason: "refused",
            begin: &mut || first(&|nginx| nginx.stop()),
            end: &mut || first(&|nginx| nginx.begin(real)),
        },
        Failure {
            what: "SIGSTOP",
            reason: "no answer to the request in 500ms",
            begin: &mut || first(&|nginx| nginx.signal(Signal::SIGSTOP)),
            end: &mut || first(&|nginx| nginx.signal(Signal::SIGCONT)),
        },
        Failure {
            what: "503",
            reason: "HTTP 503",
            begin: &mut || first(&|nginx| nginx.set_sick(true)),
            end: &mut || first(&|nginx| nginx.set_sick(false)),
        },
    ];
    for failure in failures {
        is_found(&serve, &requests, failure);
    }
}

#[test]
fn a_process_that_fails_is_found_directly() {
    processes("direct");
}

#[test]
fn a_process_that_fails_is_found_through_the_tunnel() {
    processes("tunnel");
}

/// Some have nft in a folder that not every user's PATH has.
const NFT_PATH: &str = "PATH=$PATH:/usr/sbin:/sbin";

/// Whether a firewall can be made; else it says what is missing.
fn has_nftables(ns: &NetNs) -> bool {
    let why = ns.shell(&format!(
        "{NFT_PATH}; (nft add table inet try && nft delete table inet try) 2>&1 || true"
    ));
    if !why.is_empty() {
        eprintln!(
            "left out: cut off by nftables, which needs the package nftables and a kernel with it: {why}"
        );
    }
    why.is_empty()
}

/// What only packets that go the way of clients' packets find.
#[test]
fn a_network_that_fails_is_found_through_the_tunnel() {
    let mut rig = Rig::new(3);
    let _nginx = nginx_everywhere(&mut rig);
    let real = &rig.topology.reals[0];
    let serve = Serve::start(rig.lbctl(), &checked(3, "", ""));
    serve.wait_for("is healthy, was unknown", 3);
    let patience = Duration::from_secs(1);
    let requests = Requests::start(rig.client(), VIP, 4, Duration::from_millis(10), patience);
    let decap = |command: &str| {
        let mut arguments = vec!["--instance", "real1", "decap", command, UPLINK];
        if command == "attach" {
            arguments.extend(["--xdp-mode", "native"]);
        }
        crate::fixtures::Lbctl::new(&rig.bpffs).in_ns(&real.ns).ok(&arguments);
    };
    let router = |script: &str| {
        rig.topology.router.shell(&script.replace("LINK", &real.router_interface));
    };
    // What its own firewall does with the port of the VIP.
    let firewall = |what: &str| {
        real.ns.shell(&format!(
            "{NFT_PATH}; nft add table inet cut
             nft add chain inet cut in '{{ type filter hook input priority 0; }}'
             nft add rule inet cut in tcp dport 80 {what}"
        ));
    };
    let no_firewall = || drop(real.ns.shell(&format!("{NFT_PATH}; nft delete table inet cut")));
    let failures = [
        Failure {
            what: "lost its VIP addresses",
            reason: "no answer to SYN in the tunnel, only directly (decap? VIP?) in 500ms",
            begin: &mut || drop(real.ns.shell("ip route del local 10.200.0.0/16 dev lo")),
            end: &mut || drop(real.ns.shell("ip route add local 10.200.0.0/16 dev lo")),
        },
        Failure {
            what: "lost decapsulation",
            reason: "no answer to SYN in the tunnel, only directly (decap? VIP?) in 500ms",
            begin: &mut || decap("detach"),
            end: &mut || decap("attach"),
        },
        Failure {
            what: "lower MTU",
            reason: "MTU",
            begin: &mut || router("ip link set LINK mtu 1400"),
            end: &mut || router("ip link set LINK mtu 1600"),
        },
    ];
    for failure in failures {
        is_found(&serve, &requests, failure);
    }
    let by_firewall = [
        Failure {
            what: "cut off by nftables, silently",
            reason: "no answer to SYN in 500ms",
            begin: &mut || firewall("drop"),
            end: &mut || no_firewall(),
        },
        Failure {
            what: "cut off by nftables, which says so",
            reason: "ICMP",
            begin: &mut || firewall("reject with icmpx admin-prohibited"),
            end: &mut || no_firewall(),
        },
    ];
    for failure in by_firewall.into_iter().filter(|_| has_nftables(&real.ns)) {
        is_found(&serve, &requests, failure);
    }
}
