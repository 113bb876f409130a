//! `lbctl decap serve`: it follows the host's addresses, and is never needed for decapsulation.

use std::os::unix::net::UnixDatagram;

use libbpf_rs::Link;
use nix::sys::signal::Signal;

use super::*;
use crate::fixtures::Bpffs;
use crate::fixtures::Rig;
use crate::fixtures::Running;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::get;
use crate::fixtures::http_get;
use crate::fixtures::lock;
use crate::fixtures::path_of;
use crate::fixtures::server;
use crate::fixtures::vip;
use crate::fixtures::wait_for_waiting;

const METRICS: &str = "127.0.0.1:9848";

#[track_caller]
fn serve(lbctl: &Lbctl<'_>, arguments: &[&str]) -> Running {
    let mut serve = lbctl.spawn(&[&["decap", "serve"], arguments].concat());
    serve.wait_for("decapsulating on");
    serve
}

#[track_caller]
fn becomes(lbctl: &Lbctl<'_>, key: &str, expected: &Value) {
    let reached = wait_until(SOON, || status(lbctl)[key] == *expected);
    assert!(reached, "not {expected}, but {}", status(lbctl)[key]);
}

/// An address and a VIP that come later, while requests pass.
#[test]
fn addresses_that_come_later() {
    const SERVED: &str = "tcp://10.77.0.1:80";
    let rig = Rig::new(1);
    let real = &rig.topology.reals[0];
    rig.lbctl().in_ns(&real.ns).ok(&["--instance", "real1", "decap", "detach"]);
    // Where the real pins as instance default.
    let bpffs = Bpffs::new();
    let lbctl = Lbctl::new(&bpffs).in_ns(&real.ns);
    let running = serve(&lbctl, &[&[UPLINK, "--metrics", METRICS][..], &FROM].concat());
    rig.topology.router.shell(&format!(
        "ip route add 10.77.0.1 via {}; ip route add 10.0.0.77 dev {}",
        rig.topology.balancer.v4, real.router_interface
    ));
    rig.lbctl().apply(&config(
        &[vip(SERVED, &["10.0.0.77"]), vip("tcp://10.200.1.1:80", &["10.0.0.1"])].concat(),
    ));
    let answers = |vip: &str| http_get(rig.client(), server(vip), "/").expect("an answer").real;
    assert_eq!(answers("tcp://10.200.1.1:80"), "real1");

    real.ns
        .shell(&format!("ip addr add 10.0.0.77/32 dev {UPLINK}; ip addr add 10.77.0.1/32 dev lo"));
    becomes(&lbctl, "addresses", &json!(["10.0.0.1", "10.0.0.77", "fc00::1"]));
    becomes(&lbctl, "to", &json!(["10.77.0.1/32", "10.200.0.0/16", "fc00:1::/64"]));
    for _ in 0..12 {
        assert_eq!(answers(SERVED), "real1");
    }
    assert_eq!(answers("tcp://10.200.1.1:80"), "real1");
    let log = running.stderr();
    for line in ["+ decapsulated: packets to 10.0.0.77", "+ inner destination 10.77.0.1"] {
        assert!(log.contains(line), "'{line}' in {log}");
    }

    let page = || get(&real.ns, METRICS, "/metrics").expect("an answer").1;
    let metrics = page();
    for result in l4lb::decap_results() {
        let series = format!("l4lb_decap_packets_total{{result=\"{}\"}}", result.name);
        assert!(metrics.contains(&series), "{series} in {metrics}");
    }
    for line in [
        "l4lb_decap_interface_attached{interface=\"uplink\"} 1",
        "l4lb_decap_outer_destinations 3",
        "l4lb_decap_inner_destination_prefixes 3",
        "l4lb_decap_outer_source_prefixes 2",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert!(
        !metrics.contains("\nl4lb_running "),
        "nobody says that there ought to be a balancer: {metrics}"
    );
    assert_eq!(get(&real.ns, METRICS, "/healthz").expect("an answer").0, 200);
    assert_eq!(get(&real.ns, METRICS, "/readyz").expect("an answer"), (200, "ready\n".to_owned()));

    real.ns
        .shell(&format!("ip addr del 10.0.0.77/32 dev {UPLINK}; ip addr del 10.77.0.1/32 dev lo"));
    becomes(&lbctl, "addresses", &json!(["10.0.0.1", "fc00::1"]));
    becomes(&lbctl, "to", &json!(["10.200.0.0/16", "fc00:1::/64"]));
    real.ns.shell(&format!("ip link set {UPLINK} down"));
    let unready = wait_until(SOON, || {
        get(&real.ns, METRICS, "/readyz").expect("an answer")
            == (503, "interface uplink: it is down\n".to_owned())
    });
    assert!(unready, "{:?}", get(&real.ns, METRICS, "/readyz"));
    assert_eq!(running.stop().code(), Some(0));
}

/// Addresses that were asked for stay, whatever addresses the host has.
#[test]
fn what_was_asked_for_stays() {
    let host = real(&[]);
    let lbctl = host.lbctl();
    let running = serve(&lbctl, &[UPLINK, "--address", "10.9.9.9", "--to", VIP]);
    host.ns.shell("ip addr add 172.31.0.7/32 dev uplink; ip addr add 10.200.1.7/32 dev lo");
    // Its own addresses are known, whatever was asked for.
    let own = wait_until(SOON, || {
        result(&host, &ip(BALANCER, "10.9.9.9").around(&datagram("10.200.1.7", VIP)).bytes())
            == "bad_inner_source"
    });
    assert!(own, "{}", running.stderr());
    let status = status(&lbctl);
    assert_eq!(
        (&status["addresses"], &status["to"]),
        (&json!(["10.9.9.9"]), &json!(["10.200.1.1/32"]))
    );
    // Another command decides for as long as it is the last one.
    lbctl.ok(&["decap", "attach", UPLINK]);
    host.ns.shell("ip addr add 172.31.0.8/32 dev uplink");
    becomes(&lbctl, "addresses", &json!(["172.31.0.2", "172.31.0.7", "172.31.0.8", "fc00:31::2"]));
    assert_eq!(running.stop().code(), Some(0));
}

#[test]
fn it_leaves_and_decapsulation_goes_on() {
    let host = real(&[]);
    let lbctl = host.lbctl();
    lbctl.ok(&["decap", "detach"]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(SOON)).expect("set a timeout");
    let hears = |state: &str| {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).expect(state);
        let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
        assert!(message.lines().any(|line| line == state), "not {state}, but {message}");
    };
    let notified = host.lbctl().env("NOTIFY_SOCKET", path.to_str().expect("printable"));
    let mut running = serve(&notified, &[UPLINK]);
    hears("READY=1");
    assert!(host.has_xdp(UPLINK));
    running.signal(Signal::SIGHUP);
    running.wait_for("addresses are read again");
    hears("RELOADING=1");
    hears("READY=1");
    assert_eq!(running.stop().code(), Some(0));
    hears("STOPPING=1");
    assert_eq!(result(&host, &outer(&datagram(CLIENT, VIP)).bytes()), "ipv4_in_ipv4");
    // Nobody follows; 'lbctl decap attach' reads once.
    host.ns.shell("ip addr add 172.31.0.7/32 dev uplink");
    assert_eq!(status(&lbctl)["addresses"], json!(["172.31.0.2", "fc00:31::2"]));
    lbctl.ok(&["decap", "attach", UPLINK]);
    assert_eq!(status(&lbctl)["addresses"], json!(["172.31.0.2", "172.31.0.7", "fc00:31::2"]));
}

#[test]
fn an_interface_that_is_made_anew() {
    let host = Host::new();
    host.ns.shell(&format!("ip link set lo up; ip addr add {VIP}/32 dev lo"));
    let make = "ip link add second type veth peer name other; ip addr add 10.8.0.1/24 dev second; ip link set second up; ip link set other up";
    host.ns.shell(make);
    let lbctl = host.lbctl();
    let mut running = serve(&lbctl, &["second"]);
    host.ns.shell("ip link del second");
    host.ns.shell(make);
    running.wait_for("interface second did not run the program: attached again");
    becomes(&lbctl, "addresses", &json!(["10.8.0.1"]));
    assert_eq!(status(&lbctl)["interfaces"], json!({ "second": "native" }));
    // After a detach, `decap serve` attaches nothing.
    lbctl.ok(&["decap", "detach"]);
    host.ns.shell("ip addr add 10.8.0.2/24 dev second");
    running.signal(Signal::SIGHUP);
    running.wait_for("addresses are read again");
    assert!(running.is_running() && !host.has_xdp("second") && !host.has_pins("default"));
    assert_eq!(running.stop().code(), Some(0));
}

/// What another command is about to detach, as it has the lock, is not attached again.
#[test]
fn an_interface_that_is_being_detached() {
    let host = real(&[]);
    let running = serve(&host.lbctl(), &[UPLINK]);
    let folder = host.bpffs.path().join("l4lb/default");
    let lock = lock(&folder);
    let pin = folder.join("link").join(UPLINK);
    Link::open(&pin).and_then(|link| link.detach()).expect("detach");
    // Netlink says that the interface has changed.
    host.ns.shell("ip addr add 172.31.0.7/32 dev uplink");
    wait_for_waiting(&running, &folder);
    std::fs::remove_file(&pin).expect("remove the pin");
    drop(lock);
    running.signal(Signal::SIGHUP);
    let mut running = running;
    running.wait_for("addresses are read again");
    assert!(!host.has_xdp(UPLINK) && !pin.exists(), "{}", running.stderr());
    assert_eq!(running.stop().code(), Some(0));
}

/// An interface whose address comes after the host has started.
#[test]
fn an_interface_without_an_address_yet() {
    let host = Host::new();
    host.ns.shell(&format!(
        "ip link set lo up; ip addr add {VIP}/32 dev lo
         ip link add second type veth peer name other; ip link set second up; ip link set other up"
    ));
    let lbctl = host.lbctl();
    let output = lbctl.exits(1, &["decap", "attach", "second", "--from", "172.16.0.0/16"]);
    assert!(output.stderr.contains("second has no address to decapsulate for"), "{output}");
    host.ns.shell("sysctl -qw net.ipv6.conf.second.disable_ipv6=1");
    let running = serve(&lbctl, &["second", "--from", "172.16.0.0/16", "--metrics", METRICS]);
    let log = running.stderr();
    assert!(log.contains("WARN interface second has no address to decapsulate for yet"), "{log}");
    let ready = || get(&host.ns, METRICS, "/readyz").expect("an answer");
    assert_eq!(ready(), (503, "no interface has an address to decapsulate for\n".to_owned()));
    host.ns.shell("ip addr add 10.8.0.1/24 dev second");
    becomes(&lbctl, "addresses", &json!(["10.8.0.1"]));
    assert!(wait_until(SOON, || ready().0 == 200), "{:?}", ready());
    let inner = datagram(CLIENT, VIP);
    send_frame(&host.ns, "other", &ip(BALANCER, "10.8.0.1").around(&inner).bytes());
    assert!(wait_until(SOON, || counts(&lbctl)["ipv4_in_ipv4"] == 1), "{:?}", counts(&lbctl));
    assert_eq!(running.stop().code(), Some(0));
}

/// What was asked for an interface is not in force when that is gone.
#[test]
fn anybody_might_send_by_an_interface_that_is_gone() {
    let host = real(&FROM);
    host.ns.shell("ip link add second type veth peer name other; ip link set second up");
    let lbctl = host.lbctl();
    let open = ["decap", "attach", "second", "--address", "10.8.8.8"];
    lbctl.ok(&open);
    let running = serve(&lbctl, &[&[UPLINK][..], &FROM].concat());
    assert_eq!(status(&lbctl)["anybody_may_send"], json!(true));
    host.ns.shell("ip link del second");
    becomes(&lbctl, "anybody_may_send", &json!(false));
    becomes(&lbctl, "from", &json!(["172.16.0.0/16", "100::/64"]));
    let lost = &status(&lbctl)["lost"];
    assert_eq!(lost["second"]["addresses"], json!(["10.8.8.8"]), "{lost}");
    assert_eq!(
        result(&host, &ip(CLIENT, OWN).around(&datagram(CLIENT, VIP)).bytes()),
        "unknown_source"
    );
    let log = running.stderr();
    for line in ["- outer source: anybody", "+ outer source 100::/64"] {
        assert!(log.contains(line), "'{line}' in {log}");
    }
    assert_eq!(running.stop().code(), Some(0));
}

/// `lbctl serve` of an instance that decapsulates as well.
#[test]
fn the_balancer_follows_too() {
    let host = real(&[]);
    let lbctl = host.lbctl();
    let file = config_file(&Host::config(""));
    let mut running = lbctl.spawn(&["serve", "-f", path_of(&file)]);
    running.wait_for("metrics at");
    host.ns.shell("ip addr add 172.31.0.7/32 dev uplink; ip addr add 10.200.1.7/32 dev lo");
    becomes(&lbctl, "addresses", &json!(["172.31.0.2", "172.31.0.7", "fc00:31::2"]));
    becomes(&lbctl, "to", &json!(["10.200.1.1/32", "10.200.1.7/32", "fc00:1::1/128"]));
    assert_eq!(running.stop().code(), Some(0));
}

/// Decapsulation starts without metrics; `decap serve` listens when the port is free.
#[test]
fn it_waits_for_its_port() {
    let host = Host::new();
    host.ns.shell("ip link set lo up");
    let taken = host.ns.bind(|| std::net::TcpListener::bind(METRICS)).expect("listen");
    let mut running = host.lbctl().spawn(&["decap", "serve", UPLINK, "--metrics", METRICS]);
    running.wait_for("WARN no metrics: cannot listen for metrics: ");
    running.wait_for("INFO decapsulating on uplink");
    assert!(host.has_xdp(UPLINK) && !running.stderr().contains("metrics at"));
    drop(taken);
    running.wait_for("INFO metrics at http://127.0.0.1:9848/metrics");
    assert_eq!(running.stop().code(), Some(0));
}
