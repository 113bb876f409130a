//! A file replaces what is served by something that is not possible. What is served goes on until it is possible.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::fixtures::Host;
use crate::fixtures::Rig;
use crate::fixtures::Serve;
use crate::fixtures::UPLINK;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::goes_on;
use crate::fixtures::json;
use crate::fixtures::path_of;
use crate::fixtures::second_interface;
use crate::fixtures::second_network;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

use std::time::Duration;

const VIP: &str = "tcp://10.200.1.1:80";

/// Several checks of the timer, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The file with `second` in the place of the uplink.
fn second_only(config: &str) -> String {
    let (_, rest) = config.split_once("[connection_table]").expect("a table");
    format!("{}[connection_table]{rest}", second_interface())
}

/// A name that was mistyped, and a mode that cannot be had, end no traffic: `plan` says so, `apply` exits 1.
#[test]
fn the_old_interface_stays_until_the_new_one_is_served() {
    let rig = Rig::new(1);
    let ns = &rig.topology.balancer.ns;
    let lbctl = rig.lbctl();
    let text = config(&vip(VIP, &["10.0.0.1"]));
    lbctl.apply(&text);
    let download = rig.download(VIP);
    let file = config_file(&second_only(&text));
    let path = path_of(&file);
    let stays = "(until it is served, the balancer stays on uplink, which the configuration no longer names)";

    for (make, why) in [
        ("true", "there is no interface \"second\""),
        (
            "ip link add second mtu 9000 type veth peer name end mtu 9000
             ip addr add 172.32.0.2/24 dev second; ip link set end up; ip link set second up
             ip neigh add 172.32.0.254 lladdr 02:00:00:00:fe:b2 dev second nud permanent",
            "cannot run XDP in native mode",
        ),
    ] {
        ns.shell(make);
        let planned = lbctl.exits(3, &["plan", "-f", path]).stdout;
        // Whether a mode can be had is found out when attaching.
        let is_known = planned.contains("! interface second");
        assert_ne!(is_known, planned.contains("- interface uplink"), "{why}: {planned}");
        for _ in 0..2 {
            let applied = lbctl.exits(1, &["apply", "--yes", "-f", path]);
            assert!(applied.stderr.contains(why), "{why}: {applied}");
            assert!(applied.stderr.contains(stays), "{why}: {applied}");
            assert!(!applied.stdout.contains("interface uplink"), "{why}: {applied}");
            goes_on(&download, why);
        }
        let status = json(&lbctl.ok(&["status", "--json"]));
        assert!(status["interfaces"][UPLINK].is_object(), "{why}: {status}");
        assert!(status["unserved"][0]["why"].to_string().contains("stays on uplink"), "{status}");
        let doctor = lbctl.run(&["status", "--check"]).stdout;
        assert!(doctor.contains("stays on uplink"), "{why}: {doctor}");
    }
    let strict = lbctl.exits(1, &["apply", "--strict", "--yes", "-f", path]);
    assert!(strict.stderr.contains("native mode"), "{strict}");
    goes_on(&download, "all or nothing");
    drop(download);

    // It can be had now: the old one leaves.
    ns.shell("ip link set second mtu 1600; ip link set end mtu 1600");
    lbctl.ok(&["apply", "--yes", "-f", path]);
    lbctl.ok(&["plan", "-f", path]);
    assert!(!ns.shell("ip link show uplink").contains("xdp"));
    assert!(ns.shell("ip link show second").contains("xdp"));
}

/// `serve` takes the old one off as soon as the new one is served, not before.
#[test]
fn serve_leaves_the_old_interface_when_the_new_one_is_served() {
    let rig = Rig::new(1);
    let ns = &rig.topology.balancer.ns;
    let text = config(&vip(VIP, &["10.0.0.1"]));
    let mut serve = Serve::start(rig.lbctl(), &text);
    let download = rig.download(VIP);
    serve.reload(&second_only(&text), "the balancer stays on uplink");
    serve.wait_for("WARN interface second: not served", 1);
    goes_on(&download, "the new interface is missing");
    ns.shell("ip link add second type veth peer name edge");
    serve.wait_for("WARN interface second: not served: interface second is down", 1);
    goes_on(&download, "the new interface is down");
    assert!(ns.shell("ip link show uplink").contains("xdp"));
    ns.shell("ip link del second");
    drop(download);
    let (_edge, _pass) = second_network(&rig.topology);
    let moved = || {
        let xdp = |name: &str| ns.shell(&format!("ip link show {name}")).contains("xdp");
        xdp("second") && !xdp(UPLINK)
    };
    assert!(wait_until(PATIENCE, moved), "{}", serve.running.stderr());
    let lbctl = rig.lbctl();
    let file = config_file(&second_only(&text));
    lbctl.ok(&["plan", "-f", path_of(&file)]);
    let status = json(&lbctl.ok(&["status", "--json"]));
    assert_eq!(status["interfaces"].as_object().map(serde_json::Map::len), Some(1), "{status}");
    serve.stop();
}

/// An interface is missing that the file has an alternative name for, longer than a name of an interface can be.
#[test]
fn an_alternative_name_that_is_missing() {
    let host = Host::new();
    let lbctl = host.lbctl();
    let name = "provider-uplink-number-one";
    let text = Host::INTERFACE.replace(UPLINK, name) + &Host::config("");
    let file = config_file(&text);
    let path = path_of(&file);
    lbctl.exits(1, &["apply", "-f", path]);
    let planned = lbctl.exits(3, &["plan", "-f", path]).stdout;
    assert!(planned.ends_with("\nnothing to change\n") && !planned.contains("- "), "{planned}");
    let unserved = || json(&lbctl.ok(&["status", "--json"]))["unserved"].clone();
    assert_eq!(unserved()[0]["name"], name);
    assert!(lbctl.ok(&["save"]).stdout.contains(&format!("name = \"{name}\"")));

    let serve = Serve::start(host.lbctl(), &text);
    host.ns.shell(&format!(
        "ip link add second mtu 1600 type veth peer name edge mtu 1600
         ip link property add dev second altname {name}
         ip link set edge up; ip link set second up"
    ));
    let is_served = || unserved() == serde_json::json!([]);
    assert!(wait_until(PATIENCE, is_served), "{}\n{}", unserved(), serve.running.stderr());
    assert!(host.has_xdp("second"));
    serve.stop();
    lbctl.ok(&["plan", "-f", path]);
}

/// Something else is pinned in the place of the record.
#[test]
fn a_record_that_is_none() {
    let host = Host::new();
    let lbctl = host.lbctl();
    let one = config_file(&Host::config(""));
    let two = config_file(&(second_interface().to_owned() + &Host::config("")));
    let (one, two) =
        (one.path().to_str().expect("printable"), two.path().to_str().expect("printable"));
    let dir = host.bpffs.path().join("l4lb/default");
    let pin = dir.join("map/unserved");
    lbctl.ok(&["apply", "-f", one]);
    for other in ["map/reals", "prog/root"] {
        std::fs::hard_link(dir.join(other), &pin).expect("a pin");
        lbctl.ok(&["plan", "-f", one]);
        lbctl.ok(&["status"]);
        lbctl.ok(&["save"]);
        lbctl.ok(&["apply", "-f", one]);
        assert!(!pin.exists(), "{other}");
        std::fs::hard_link(dir.join(other), &pin).expect("a pin");
        lbctl.exits(1, &["apply", "-f", two]);
        let status = json(&lbctl.ok(&["status", "--json"]));
        assert_eq!(status["unserved"][0]["name"], "second", "{other}: {status}");
        lbctl.ok(&["apply", "-f", one]);
        assert!(!pin.exists(), "{other}");
    }
}

/// A mode that cannot be had is not tried at each look: that takes the program off for a moment.
#[test]
fn serve_tries_a_mode_only_when_asked() {
    let host = Host::new();
    let ns = &host.ns;
    ns.shell(
        "ip link add second mtu 9000 type veth peer name edge mtu 9000
         ip link set edge up; ip link set second up",
    );
    let asked = |mode: &str| {
        let second = Host::INTERFACE.replace(UPLINK, "second").replace("native", mode);
        second + &Host::config(&vip(VIP, &["10.0.0.1"]))
    };
    let mut serve = Serve::start(host.lbctl(), &asked("generic"));
    let link = || -> u64 {
        let pin: PathBuf = host.bpffs.path().join("l4lb/default/link/second");
        pin.metadata().expect("a link").ino()
    };
    let told = "second: served as before, not as configured";
    serve.reload(&asked("native"), told);
    let before = link();
    for (from, to) in [(9000, 8990), (8990, 8980), (8980, 9000)] {
        ns.shell(&format!("ip link set second mtu {to}"));
        serve.wait_for(&format!("MTU {from} → {to}"), 1);
        assert_eq!(link(), before, "{}", serve.running.stderr());
    }
    assert_eq!(serve.count(told), 1, "{}", serve.running.stderr());
    let lbctl = host.lbctl();
    let saved = lbctl.ok(&["save"]).stdout;
    assert_eq!(saved.matches("xdp_mode = \"native\"").count(), 2, "{saved}");

    // Who asks again has it tried.
    ns.shell("ip link set second mtu 1600; ip link set edge mtu 1600");
    serve.reload(&asked("native"), "INFO reloaded");
    assert_ne!(link(), before);
    let status = json(&lbctl.ok(&["status", "--json"]));
    assert_eq!(status["interfaces"]["second"]["mode"], "native", "{status}");
    assert_eq!(status["unserved"], serde_json::json!([]));
    serve.stop();
}
