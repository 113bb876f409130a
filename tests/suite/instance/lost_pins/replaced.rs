//! Somebody pinned something else at the path of one of our pins.

use std::fs;
use std::path::Path;

use super::VIP;
use super::applied;
use super::folder;
use super::nothing_left;
use super::pins;
use super::reals;
use crate::fixtures::Rig;
use crate::fixtures::UPLINK;
use crate::fixtures::Verdict;
use crate::fixtures::XdpLink;
use crate::fixtures::config_file;
use crate::fixtures::goes_on;
use crate::fixtures::path_of;

/// What somebody does to the pins of an instance.
type Harm = (&'static str, fn(&Path));

fn rename(folder: &Path, from: &str, to: &str) {
    fs::rename(folder.join(from), folder.join(to)).unwrap_or_else(|e| panic!("{from} {to}: {e}"));
}

fn make_folder(folder: &Path, pin: &str) {
    fs::remove_file(folder.join(pin)).unwrap_or_else(|error| panic!("remove {pin}: {error}"));
    fs::create_dir(folder.join(pin)).unwrap_or_else(|error| panic!("make {pin}: {error}"));
}

const HARM: [Harm; 13] = [
    ("map/reals", |folder| rename(folder, "map/vips", "map/reals")),
    ("map/rings", |folder| rename(folder, "map/vip_index", "map/rings")),
    ("map/control", |folder| rename(folder, "map/server_ids", "map/control")),
    ("map/chain_next", |folder| rename(folder, "prog/balancer", "map/chain_next")),
    ("prog/balancer", |folder| rename(folder, "map/cpu_states", "prog/balancer")),
    ("prog/balancer", |folder| rename(folder, "prog/root", "prog/balancer")),
    ("prog/root", |folder| rename(folder, "map/cpu_states", "prog/root")),
    ("map/vips", |folder| rename(folder, "map/vips", "elsewhere")),
    ("prog/balancer", |folder| rename(folder, "prog/balancer", "prog/foreign")),
    ("map/vips", |folder| make_folder(folder, "map/vips")),
    ("map/chain_next", |folder| make_folder(folder, "map/chain_next")),
    ("prog/root", |folder| make_folder(folder, "prog/root")),
    ("prog/balancer", |folder| make_folder(folder, "prog/balancer")),
];

/// `status` says so, and `apply` puts right what it is without an interruption.
#[test]
fn apply_replaces_it() {
    let (rig, file) = applied();
    let (lbctl, folder, path) = (rig.lbctl(), folder(&rig), path_of(&file));
    let apply = ["apply", "-f", path];
    let download = rig.download(VIP);
    let all = pins(&folder);
    for (pin, harm) in HARM {
        harm(&folder);
        let when = format!("{pin}: {:?}", pins(&folder));
        let status = lbctl.run(&["status"]);
        assert_eq!(status.code(), Some(1), "{when}: {status}");
        assert!(status.stderr.contains(pin), "{when}: {status}");
        goes_on(&download, &when);
        let applied = lbctl.run(&apply);
        assert_eq!(applied.code(), Some(0), "{when}: {applied}");
        goes_on(&download, &when);
        let _ = fs::remove_file(folder.join("elsewhere"));
        assert_eq!(pins(&folder), all, "{when}");
        let planned = lbctl.run(&["plan", "-f", path]);
        assert_eq!(planned.code(), Some(0), "{when}: {planned}");
    }
}

/// A link that was pinned elsewhere, and one whose place another pin has.
#[test]
fn links() {
    let (rig, file) = applied();
    let (lbctl, folder, path) = (rig.lbctl(), folder(&rig), path_of(&file));
    let apply = ["apply", "-f", path];
    let download = rig.download(VIP);
    let (all, link) = (pins(&folder), format!("link/{UPLINK}"));
    rename(&folder, &link, "elsewhere");
    lbctl.ok(&apply);
    fs::remove_file(folder.join("elsewhere")).expect("remove a pin");
    goes_on(&download, "pinned again");
    assert_eq!(pins(&folder), all);
    rename(&folder, "map/captures", &link);
    lbctl.ok(&apply);
    goes_on(&download, "attached again");
    assert_eq!(pins(&folder), all);
    lbctl.ok(&["plan", "-f", path]);
}

/// `down` leaves nothing.
#[test]
fn down_always_works() {
    let rig = Rig::new(2);
    let (lbctl, folder) = (rig.lbctl(), folder(&rig));
    let file = config_file(&reals());
    let apply = ["apply", "-f", path_of(&file)];
    let links: [Harm; 3] = [
        ("link", |folder| make_folder(folder, &format!("link/{UPLINK}"))),
        ("link", |folder| rename(folder, &format!("link/{UPLINK}"), "elsewhere")),
        ("link", |folder| rename(folder, "map/vips", &format!("link/{UPLINK}"))),
    ];
    for (pin, harm) in HARM.iter().chain(&links) {
        lbctl.ok(&apply);
        harm(&folder);
        let when = format!("{pin}: {:?}", pins(&folder));
        let down = lbctl.run(&["down"]);
        assert_eq!(down.code(), Some(0), "{when}: {down}");
        nothing_left(&rig, &when);
    }
}

/// Somebody else's link among ours: its pin goes, and what it holds stays on its interface.
#[test]
fn somebody_elses_link() {
    let rig = Rig::new(1);
    let (lbctl, folder, ns) = (rig.lbctl(), folder(&rig), &rig.topology.balancer.ns);
    ns.shell("ip link add foreign type veth peer name peer; ip link set foreign up");
    let foreign = XdpLink::attach(ns, "foreign", Verdict::Pass);
    let has_xdp = || ns.shell("ip link show foreign").contains("xdp");
    let file = config_file(&reals());
    let apply = ["apply", "-f", path_of(&file)];
    lbctl.ok(&apply);
    let all = pins(&folder);
    let pin = folder.join("link/foreign");
    foreign.pin(&pin);
    lbctl.ok(&apply);
    assert_eq!(pins(&folder), all);
    assert!(has_xdp(), "after an apply");
    foreign.pin(&pin);
    lbctl.ok(&["down"]);
    nothing_left(&rig, "with somebody else's link");
    assert!(has_xdp(), "after 'down'");
}
