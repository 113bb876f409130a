//! Somebody removed pins, or replaced them. What runs goes on, `status` says what is missing, `apply` pins it again,
//! and `down` always works.

mod anew;
mod killed;
mod ready;
mod replaced;

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use tempfile::NamedTempFile;

use crate::fixtures::Leaks;
use crate::fixtures::Rig;
use crate::fixtures::UPLINK;
use crate::fixtures::chain_programs::Built;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::goes_on;
use crate::fixtures::http_get;
use crate::fixtures::json;
use crate::fixtures::path_of;
use crate::fixtures::put_into_link;
use crate::fixtures::server;
use crate::fixtures::vip;

const VIP: &str = "tcp://10.200.1.1:80";

/// The folder of the balancer's instance.
fn folder(rig: &Rig) -> PathBuf {
    rig.bpffs.path().join("l4lb/default")
}

/// Every pin of an instance, by its place in the folder.
fn pins(folder: &Path) -> Vec<String> {
    let mut pins = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).expect("list a folder of pins") {
            let path = entry.expect("list a folder of pins").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let pin = path.strip_prefix(folder).expect("it is below");
                pins.push(pin.to_str().expect("a printable path").to_owned());
            }
        }
    }
    pins.sort();
    pins
}

fn remove(rig: &Rig, pin: &str) {
    fs::remove_file(folder(rig).join(pin)).unwrap_or_else(|error| panic!("remove {pin}: {error}"));
}

/// Fails unless nothing of the instance is pinned or attached.
fn nothing_left(rig: &Rig, when: &str) {
    let folder = folder(rig);
    assert!(!folder.exists(), "{when}: {} is still there", folder.display());
    let link = rig.topology.balancer.ns.shell(&format!("ip link show {UPLINK}"));
    assert!(!link.contains("xdp"), "{when}: {link}");
}

fn answers(rig: &Rig, when: &str) {
    let answer = http_get(rig.client(), server(VIP), "/");
    assert!(answer.is_ok(), "{when}: {answer:?}");
}

/// What the balancer is set up with: also what only the control plane knows.
fn reals() -> String {
    config(&vip(VIP, &["10.0.0.1, weight = 3", "10.0.0.2, state = \"drain\", weight = 2"]))
}

/// A balancer that was set up with these, and the file.
fn applied() -> (Rig, NamedTempFile) {
    let (rig, file) = (Rig::new(2), config_file(&reals()));
    rig.lbctl().ok(&["apply", "-f", path_of(&file)]);
    (rig, file)
}

/// The pins with which the kernel ends what runs: of a link, and of an array of programs.
fn ends_at_once(pin: &str) -> bool {
    pin.starts_with("link/") || pin == "map/chain"
}

/// Whatever is removed, `status` names it, what runs goes on, and `apply` pins it again.
#[test]
fn each_is_pinned_again() {
    let (rig, file) = applied();
    let (lbctl, folder, path) = (rig.lbctl(), folder(&rig), path_of(&file));
    let (apply, plan) = (["apply", "-f", path], ["plan", "-f", path]);
    lbctl.ok(&["decap", "attach", UPLINK, "--from", "10.0.0.0/8"]);
    lbctl.ok(&["chain", "insert", "3", &Built::tracer("other", &[]).text()]);
    lbctl.ok(&plan);
    let download = rig.download(VIP);
    let (all, saved) = (pins(&folder), lbctl.ok(&["save"]).stdout);
    let requests = || json(&lbctl.ok(&["decap", "status", "--json"]))["requests"].clone();
    let requested = requests();
    assert!(all.len() > 30, "{all:?}");
    let mut leaks = Leaks::watch(&rig);
    for (n, pin) in all.iter().enumerate() {
        remove(&rig, pin);
        // What every command does with every pin takes minutes: some pins stand for the others.
        let in_detail = n % 6 == 0 || !pin.starts_with("map/");
        let status = lbctl.run(&["status"]);
        if pin.starts_with("link/") {
            assert!(status.stdout.contains("NOT ATTACHED"), "{pin}: {status}");
        } else {
            assert_eq!(status.code(), Some(1), "{pin}: {status}");
            assert!(status.stderr.contains(&format!("somebody removed {pin};")), "{pin}: {status}");
            assert!(status.stderr.contains("'lbctl apply -f FILE'"), "{pin}: {status}");
            // Those that could make it worse leave it alone.
            let others = [&["dump", "--duration", "1ms"][..], &["chain", "list"], &["stats"]];
            for command in others.iter().filter(|_| in_detail) {
                let output = lbctl.run(command);
                assert_eq!(output.code(), Some(1), "{pin}, {command:?}: {output}");
                assert!(output.stderr.contains(pin), "{pin}, {command:?}: {output}");
            }
            if in_detail {
                let planned = lbctl.exits(3, &plan);
                assert!(planned.stdout.contains(&format!("~ pin {pin}: ")), "{pin}: {planned}");
            }
        }
        if !ends_at_once(pin) {
            goes_on(&download, pin);
        }
        let applied = lbctl.run(&apply);
        assert_eq!(applied.code(), Some(0), "{pin}: {applied}");
        goes_on(&download, pin);
        assert_eq!(pins(&folder), all, "{pin}");
        let planned = lbctl.run(&plan);
        assert_eq!(planned.code(), Some(0), "{pin}: {planned}");
        if in_detail {
            assert_eq!(lbctl.ok(&["save"]).stdout, saved, "{pin}");
            assert_eq!(requests(), requested, "{pin}");
        }
        answers(&rig, pin);
        let new = leaks.count();
        if ends_at_once(pin) {
            leaks = Leaks::watch(&rig);
        } else {
            assert_eq!(new, 0, "{pin}: packets for VIPs that reached the kernel");
        }
    }
    // The reals' shares, and which one is drained, are what they were.
    let list = json(&lbctl.ok(&["real", "list", "--json"]));
    assert_eq!(list[0]["reals"][1]["state"], "drain", "{list}");
}

/// Commands of the chain and of decapsulation fix the pins they need, too.
#[test]
fn without_a_balancer() {
    let rig = Rig::new(1);
    let lbctl = rig.lbctl();
    let (folder, built) = (folder(&rig), Built::tracer("other", &[]));
    let insert = ["chain", "insert", "3", &built.text(), "--interface", UPLINK];
    lbctl.ok(&insert);
    lbctl.ok(&["decap", "attach", UPLINK]);
    let (all, listed) = (pins(&folder), json(&lbctl.ok(&["chain", "list", "--json"])));
    for pin in &all {
        for command in [&["decap", "attach", UPLINK][..], &["chain", "move", "other", "3"]] {
            remove(&rig, pin);
            if !pin.starts_with("link/") {
                let status = lbctl.exits(1, &["decap", "status"]);
                assert!(status.stderr.contains(pin), "{pin}: {status}");
            }
            let output = lbctl.run(command);
            assert_eq!(output.code(), Some(0), "{pin}, {command:?}: {output}");
            if pin.starts_with("link/") {
                lbctl.ok(&["decap", "attach", UPLINK]);
            }
            assert_eq!(pins(&folder), all, "{pin}, {command:?}");
        }
        let now = json(&lbctl.ok(&["chain", "list", "--json"]));
        assert_eq!(now[0]["name"], listed[0]["name"], "{pin}: {now}");
        assert_eq!(now[0]["id"], listed[0]["id"], "{pin}: {now}");
        assert_eq!(now[1]["name"], "decap", "{pin}: {now}");
    }
}

/// Whatever is missing, `down` leaves nothing of the balancer; programs of others in the chain stay.
#[test]
fn down_always_works() {
    let rig = Rig::new(1);
    let lbctl = rig.lbctl();
    let file = config_file(&config(&vip(VIP, &["10.0.0.1"])));
    let apply = ["apply", "-f", path_of(&file)];
    lbctl.ok(&apply);
    let all = pins(&folder(&rig));
    for pin in &all {
        lbctl.ok(&apply);
        remove(&rig, pin);
        lbctl.ok(&["down"]);
        nothing_left(&rig, pin);
    }
    for part in ["link", "prog", "map", "object"] {
        lbctl.ok(&apply);
        fs::remove_dir_all(folder(&rig).join(part)).expect("remove a folder of pins");
        lbctl.ok(&["down"]);
        nothing_left(&rig, part);
    }

    lbctl.ok(&apply);
    lbctl.ok(&["decap", "attach", UPLINK]);
    let all = pins(&folder(&rig));
    for pin in all.iter().filter(|pin| !pin.starts_with("link/")) {
        lbctl.ok(&apply);
        remove(&rig, pin);
        lbctl.ok(&["down"]);
        let status = json(&lbctl.ok(&["decap", "status", "--json"]));
        assert_eq!(status["interfaces"][UPLINK], "native", "{pin}: {status}");
        lbctl.exits(1, &["save"]);
    }
    lbctl.ok(&["decap", "detach"]);
    nothing_left(&rig, "in the end");
}

/// Two at a time: what is held is pinned again.
#[test]
fn two_at_a_time() {
    let rig = Rig::new(1);
    let (lbctl, folder) = (rig.lbctl(), folder(&rig));
    let file = config_file(&config(&vip(VIP, &["10.0.0.1"])));
    let path = path_of(&file);
    let (apply, plan) = (["apply", "-f", path], ["plan", "-f", path]);
    lbctl.ok(&apply);
    let all = pins(&folder);
    // Of the maps that the balancer has, one of each kind, unless all are asked for.
    let each = std::env::var_os("LB_TEST_ALL_PAIRS").is_some();
    let kinds =
        ["chain", "chain_next", "control", "vip_reals", "rings", "captures", "capture_next"];
    let one_of_each =
        |pin: &&String| pin.strip_prefix("map/").is_none_or(|map| each || kinds.contains(&map));
    let some: Vec<_> = all.iter().filter(one_of_each).collect();
    let link = format!("link/{UPLINK}");
    for (n, first) in some.iter().enumerate() {
        for second in &some[n + 1..] {
            let pair = [first.as_str(), second.as_str()];
            let when = format!("{pair:?}");
            for pin in pair {
                remove(&rig, pin);
            }
            let stopped = pair == [&*link, "prog/root"];
            let status = lbctl.run(&["status"]);
            let named = |pin: &&str| pin.starts_with("link/") || status.stderr.contains(*pin);
            assert!(stopped || pair.iter().all(named), "{when}: {status}");
            // The link holds the balancer itself, and the balancer all else but the root program, which is loaded anew.
            let output = lbctl.run(&apply);
            assert_eq!(output.code(), Some(0), "{when}: {output}");
            answers(&rig, &when);
            assert_eq!(pins(&folder), all, "{when}");
            let planned = lbctl.run(&plan);
            assert_eq!(planned.code(), Some(0), "{when}: {planned}");
        }
    }
}

/// While a link holds the only program itself, the kernel empties the chain in vain, and all else is found by the
/// program. If the interfaces have the root program, the kernel frees a program that only the chain held.
#[test]
fn alone_in_the_link() {
    let rig = Rig::new(1);
    let (lbctl, folder) = (rig.lbctl(), folder(&rig));
    let file = config_file(&config(&vip(VIP, &["10.0.0.1"])));
    let apply = ["apply", "-f", path_of(&file)];
    lbctl.ok(&apply);
    let all = pins(&folder);
    let download = rig.download(VIP);
    let mut leaks = Leaks::watch(&rig);
    let link = format!("link/{UPLINK}");
    for pin in all.iter().filter(|pin| **pin != link) {
        remove(&rig, pin);
    }
    goes_on(&download, "everything but the link is gone");
    let status = lbctl.exits(1, &["status"]);
    for named in ["prog/root", "prog/balancer", "map/vips", "what runs goes on"] {
        assert!(status.stderr.contains(named), "{named}: {status}");
    }
    lbctl.ok(&apply);
    assert_eq!(pins(&folder), all);
    goes_on(&download, "pinned again");
    // The root program is another one, of the same chain.
    lbctl.ok(&["chain", "insert", "3", &Built::tracer("other", &[]).text()]);
    answers(&rig, "by way of the new root program");
    goes_on(&download, "by way of the new root program");
    assert_eq!(leaks.count(), 0, "packets for VIPs that reached the kernel");
    lbctl.ok(&["chain", "remove", "other"]);

    put_into_link(&folder.join(&link), &folder.join("prog/root"));
    remove(&rig, "map/chain");
    remove(&rig, "prog/balancer");
    let refused = lbctl.exits(1, &apply);
    assert!(refused.stderr.contains("--repair"), "{refused}");
    lbctl.ok(&["apply", "--repair", "-f", path_of(&file)]);
    answers(&rig, "set up anew");
    assert_eq!(pins(&folder), all);
}

/// `serve` pins again by itself what runs still holds.
#[test]
fn serve_fixes() {
    let rig = Rig::new(1);
    let file = config_file(&config(&vip(VIP, &["10.0.0.1"])));
    let path = path_of(&file);
    let mut serve = rig.lbctl().spawn(&["serve", "-f", path]);
    serve.wait_for("metrics at http");
    let download = rig.download(VIP);
    for pin in ["prog/root", "prog/balancer", "map/vip_reals"] {
        remove(&rig, pin);
    }
    let all = ["prog/root", "prog/balancer", "map/vip_reals"].map(|pin| folder(&rig).join(pin));
    let fixed = crate::fixtures::wait_until(std::time::Duration::from_secs(100), || {
        all.iter().all(|pin| pin.exists())
    });
    assert!(fixed, "{}", serve.stderr());
    serve.wait_for("somebody removed map/vip_reals, prog/balancer, prog/root: pinned again");
    goes_on(&download, "fixed");
    rig.lbctl().ok(&["plan", "-f", path]);
    serve.stop();
}
