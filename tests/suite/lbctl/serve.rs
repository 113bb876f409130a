//! `lbctl serve`: it follows the gateway, reloads, answers Prometheus, and is never needed for forwarding.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;
use std::time::Instant;

use l4lb::netlink::CHECK_INTERVAL;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixtures::Host;
use crate::fixtures::HttpClient;
use crate::fixtures::METRICS;
use crate::fixtures::Rig;
use crate::fixtures::SOON;
use crate::fixtures::Serve;
use crate::fixtures::Topology;
use crate::fixtures::UPLINK;
use crate::fixtures::Verdict;
use crate::fixtures::XdpLink;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::doubt_soon;
use crate::fixtures::get;
use crate::fixtures::goes_on;
use crate::fixtures::http_get;
use crate::fixtures::json;
use crate::fixtures::path_of;
use crate::fixtures::server;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

const VIP: &str = "tcp://10.200.1.1:80";
const OTHER_VIP: &str = "tcp://10.200.1.2:80";

fn one_vip() -> String {
    config(&vip(VIP, &["10.0.0.1"]))
}

fn two_vips() -> String {
    config(&[vip(VIP, &["10.0.0.1"]), vip(OTHER_VIP, &["10.0.0.1"])].concat())
}

/// A configuration with another `[metrics] listen`.
fn listening_at(address: &str) -> String {
    config(&format!("[metrics]\nlisten = \"{address}\"\n{}", vip(VIP, &["10.0.0.1"])))
}

/// A configuration with this gateway.
fn with_gateway(address: &str, config: &str) -> String {
    let mode = "xdp_mode = \"native\"\n";
    config.replace(mode, &format!("{mode}gateway = \"{address}\"\n"))
}

/// Whether the VIP answers clients.
#[track_caller]
fn answers(rig: &Rig, vip: &str) {
    let answer = http_get(rig.client(), server(vip), "/");
    assert_eq!(answer.expect("the VIP answers").real, "real1");
}

#[test]
fn it_follows_a_gateway_whose_mac_changes() {
    let rig = Rig::new(1);
    let Topology { router, balancer, .. } = &rig.topology;
    doubt_soon(&balancer.ns);
    let config = with_gateway("172.31.0.254", &one_vip());
    let serve = Serve::start(rig.lbctl(), &config);
    let download = rig.download(VIP);

    // Twice: the timer may have caught the first change by chance, but not the second.
    router.shell("echo 1 >/proc/sys/net/ipv4/conf/to-balancer/arp_notify");
    let mut after = Duration::MAX;
    for mac in ["02:00:00:00:fe:11", "02:00:00:00:fe:12"] {
        router.shell(&format!("ip link set to-balancer address {mac}"));
        let announced = Instant::now();
        serve.follows_to(mac, SOON);
        after = announced.elapsed();
    }
    assert!(after < Duration::from_secs(3), "the announcement is heard, not the timer: {after:?}");
    goes_on(&download, "a new MAC, announced");
    drop(download);

    // The router says nothing of its new MAC unless it is asked; and once the kernel has found the last one right
    // and has not needed it for a while, only the timer makes it ask.
    for state in ["REACHABLE", "STALE"] {
        let is_now = || balancer.ns.shell("ip neigh show 172.31.0.254").contains(state);
        assert!(wait_until(SOON, is_now), "{}", balancer.ns.shell("ip neigh"));
    }
    router.shell(
        "echo 0 >/proc/sys/net/ipv4/conf/to-balancer/arp_notify
         ip -batch - <<END
link set to-balancer address 02:00:00:00:fe:22
neigh replace 172.31.0.2 lladdr 02:00:00:00:00:b1 dev to-balancer nud permanent
END",
    );
    serve.follows_to("02:00:00:00:fe:22", SOON * 2);
    answers(&rig, VIP);
    serve.stop();
}

/// The interface's MAC decides which frames are its own. `serve` follows a change; without it, `status` reports it.
#[test]
fn its_own_mac_is_followed() {
    let rig = Rig::new(1);
    let Topology { router, balancer, .. } = &rig.topology;
    let readdress = |mac: &str| {
        balancer.ns.shell(&format!("ip link set {UPLINK} address {mac}"));
        router.shell(&format!(
            "ip neigh replace 172.31.0.2 lladdr {mac} dev to-balancer nud permanent"
        ));
    };
    let mut serve = Serve::start(rig.lbctl(), &one_vip());
    assert_eq!(serve.interface()["own_mac"], "02:00:00:00:00:b1");
    let download = rig.download(VIP);
    readdress("02:00:00:00:00:77");
    serve.wait_for("MAC 02:00:00:00:00:b1 → 02:00:00:00:00:77", 1);
    goes_on(&download, "another MAC");
    assert_eq!(serve.interface()["own_mac"], "02:00:00:00:00:77");
    // MACs from the configuration stay.
    let listed = |mac: &str| {
        let macs = format!("name = \"{UPLINK}\"\nmacs = [\"{mac}\"]");
        one_vip().replace(&format!("name = \"{UPLINK}\""), &macs)
    };
    serve.reload(&listed("02:00:00:00:00:78"), "INFO reloaded");
    let file = config_file(&listed("02:00:00:00:00:78"));
    assert!(rig.lbctl().ok(&["save"]).stdout.contains("macs = [\"02:00:00:00:00:78\"]"));
    serve.stop();

    // `status` does not report a MAC that is in the list.
    readdress("02:00:00:00:00:78");
    goes_on(&download, "a MAC of the list");
    let text = rig.lbctl().ok(&["status"]).stdout;
    assert!(text.contains("02:00:00:00:00:77 (now 02:00:00:00:00:78), and 1 more"), "{text}");
    let condition = || json(&rig.lbctl().ok(&["status", "--json"]))["condition"].clone();
    let told = |condition: &Value| condition["findings"].to_string().contains("\"mac_changed\"");
    assert!(!told(&condition()), "{}", condition());

    readdress("02:00:00:00:00:79");
    assert!(told(&condition()), "{}", condition());
    let missed = || rig.reason("other_mac") > 0;
    assert!(
        wait_until(SOON, missed),
        "what comes is not for the MAC that the packet path was told"
    );
    let planned = rig.lbctl().exits(3, &["plan", "-f", path_of(&file)]);
    assert!(planned.stdout.contains("MAC 02:00:00:00:00:77 → 02:00:00:00:00:79"), "{planned}");
    rig.lbctl().ok(&["apply", "-f", path_of(&file)]);
    goes_on(&download, "an apply");
    assert!(!told(&condition()), "{}", condition());
}

#[test]
fn a_gateway_that_falls_silent_keeps_its_mac() {
    const SILENT: &str = "gateway 172.31.0.254 of interface uplink did not answer";
    let rig = Rig::new(1);
    let Topology { router, balancer, .. } = &rig.topology;
    let lbctl = || rig.lbctl().env("RUST_LOG", "warn,l4lb=debug,lbctl=debug");
    let config = with_gateway("172.31.0.254", &one_vip());
    let serve = Serve::start(lbctl(), &config);
    let before = serve.interface();
    let download = rig.download(VIP);

    router.shell(
        "ip neigh replace 172.31.0.2 lladdr 02:00:00:00:00:b1 dev to-balancer nud permanent
         echo 8 >/proc/sys/net/ipv4/conf/to-balancer/arp_ignore",
    );
    balancer.ns.shell("ip neigh del 172.31.0.254 dev uplink");
    let warning = format!("WARN {SILENT}");
    serve.wait_for(&warning, 1);
    // It goes on asking, and logs nothing more about it.
    serve.wait_for("this gateway will not do", 2);
    assert_eq!(serve.count(&warning), 1, "{}", serve.running.stderr());
    assert_eq!(serve.interface(), before);
    goes_on(&download, "the gateway is silent");
    serve.stop();
    goes_on(&download, "the gateway is silent and nobody follows it");

    let mut serve = Serve::start(lbctl(), &config);
    assert_eq!(serve.interface(), before);
    serve.wait_for("this gateway will not do", 2);
    assert_eq!(serve.count(&warning), 1, "{}", serve.running.stderr());
    goes_on(&download, "started while the gateway is silent");

    // A reload that is not about the gateway is as good as ever, and so is all else of one to another silent gateway.
    serve.reload(&with_gateway("172.31.0.254", &two_vips()), "INFO reloaded");
    answers(&rig, OTHER_VIP);
    serve.reload(
        &with_gateway("172.31.0.99", &two_vips()),
        "WARN interface uplink: served as before, not as configured: gateway 172.31.0.99",
    );
    assert_eq!(serve.interface(), before);
    assert_eq!(serve.count(&warning), 1, "{}", serve.running.stderr());
    serve.reload(&with_gateway("172.31.0.254", &two_vips()), "INFO reloaded");
    assert_eq!(serve.interface(), before);
    let news = "INFO the gateway of interface uplink answers now";
    assert_eq!(serve.count(news), 0, "{}", serve.running.stderr());

    router.shell("echo 0 >/proc/sys/net/ipv4/conf/to-balancer/arp_ignore");
    serve.wait_for(news, 1);
    goes_on(&download, "the gateway answers again");
    serve.stop();
}

/// A new MAC makes the kernel forget its neighbours: while the gateway does not answer, packets come in frames to the new
/// MAC all the same.
#[test]
fn its_own_mac_is_followed_while_the_gateway_is_silent() {
    const SILENT: &str = "WARN gateway 172.31.0.254 of interface uplink did not answer";
    const CHANGE: &str = "MAC 02:00:00:00:00:b1 → 02:00:00:00:00:77, MTU 1600 → 1590";
    let rig = Rig::new(1);
    let Topology { router, balancer, .. } = &rig.topology;
    let serve = Serve::start(rig.lbctl(), &with_gateway("172.31.0.254", &one_vip()));
    let before = serve.interface();
    let download = rig.download(VIP);

    router.shell(
        "ip neigh replace 172.31.0.2 lladdr 02:00:00:00:00:77 dev to-balancer nud permanent
         echo 8 >/proc/sys/net/ipv4/conf/to-balancer/arp_ignore",
    );
    balancer.ns.shell("ip link set uplink address 02:00:00:00:00:77 mtu 1590");
    serve.wait_for(CHANGE, 1);
    goes_on(&download, "another MAC beside a silent gateway");
    serve.wait_for(SILENT, 1);
    let now = serve.interface();
    assert_eq!((&now["own_mac"], &now["mtu"]), (&"02:00:00:00:00:77".into(), &1590.into()));
    assert_eq!(now["mac"], before["mac"], "the gateway's last MAC");
    serve.stop();

    // The same where `serve` starts while the gateway is silent.
    router.shell(
        "ip neigh replace 172.31.0.2 lladdr 02:00:00:00:00:78 dev to-balancer nud permanent",
    );
    balancer.ns.shell("ip link set uplink address 02:00:00:00:00:78");
    let serve = Serve::start(rig.lbctl(), &with_gateway("172.31.0.254", &one_vip()));
    assert_eq!(serve.interface()["own_mac"], "02:00:00:00:00:78");
    // Not the download: TCP has backed off for as long as `serve` did not follow.
    answers(&rig, VIP);
}

/// The balancer's link, made anew on both sides as [`Topology`] made it. Frames come through for as long as
/// this lives.
#[track_caller]
fn make_link_anew(topology: &Topology) -> XdpLink {
    let Topology { router, balancer, .. } = topology;
    let ns = balancer.ns.path();
    router.shell(&format!(
        "ip link del to-balancer
         ip link add to-balancer mtu 1600 address 02:00:00:00:fe:b1 type veth \
            peer name uplink mtu 1600 address 02:00:00:00:00:b1 netns {}
         ethtool -K to-balancer tx off tso off gso off
         ip -batch - <<END
addr add 172.31.0.254/24 dev to-balancer
addr add fc00:31::fe/64 dev to-balancer nodad
link set to-balancer up
END",
        ns.display()
    ));
    let pass = XdpLink::attach(router, "to-balancer", Verdict::Pass);
    balancer.ns.shell(
        "ethtool -K uplink tx off tso off gso off
         ip -batch - <<END
addr add 172.31.0.2/24 dev uplink
addr add fc00:31::2/64 dev uplink nodad
link set uplink up
route add default via 172.31.0.254
END",
    );
    router.shell("ip route add 10.200.0.0/16 via 172.31.0.2");
    pass
}

#[test]
fn an_interface_that_is_made_anew_is_attached_again() {
    let rig = Rig::new(1);
    let serve = Serve::start(rig.lbctl(), &one_vip());
    let index = || rig.topology.balancer.ns.shell("cat /proc/net/igmp | grep uplink | cut -f1");
    answers(&rig, VIP);
    let before = index();
    let _pass = make_link_anew(&rig.topology);
    assert_ne!(index(), before, "another interface of the same name");
    let attached = wait_until(SOON, || serve.interface()["mode"] == "native");
    assert!(attached, "{}\n{}", serve.interface(), serve.running.stderr());
    answers(&rig, VIP);
    serve.wait_for("WARN interface uplink was made anew: attached again", 1);
    assert!(!serve.running.stderr().contains("interrupted"), "{}", serve.running.stderr());
    let status = json(&serve.lbctl.ok(&["status", "--json"]));
    let interfaces = status["interfaces"].as_object().expect("a map");
    assert_eq!(interfaces.keys().collect::<Vec<_>>(), [UPLINK], "nothing of the old one is left");
    serve.stop();
}

#[test]
fn it_reloads() {
    let rig = Rig::new(1);
    let lbctl = rig.lbctl();
    let mut serve = Serve::start(rig.lbctl(), &one_vip());
    let download = rig.download(VIP);
    assert!(http_get(rig.client(), server(VIP), "/").is_ok());

    serve.reload(&two_vips(), "INFO reloaded");
    answers(&rig, OTHER_VIP);
    goes_on(&download, "a reload");

    let reloaded = |success: &str| {
        let says = format!("\nl4lb_reload_success {success}\n");
        let page = || get(&rig.topology.balancer.ns, METRICS, "/metrics").expect("metrics").1;
        // Readings are shared for a second.
        assert!(wait_until(SOON, || page().contains(&says)), "no '{says}' in {}", page());
    };
    reloaded("1");
    let before = lbctl.ok(&["save"]).stdout;
    let mistake = two_vips().replace("10.0.0.1", "10.0.0.256");
    for (bad, why) in [
        ("[[vips]\n", "toml:1: unclosed array table"),
        (mistake.as_str(), "toml:12: vips[0].reals[0].address: "),
        ("colour = \"red\"\n", "colour"),
    ] {
        let log = serve.reload(bad, "ERROR not reloaded: ");
        assert_eq!(log.lines().count(), 1, "one line: {log}");
        assert!(log.contains(why), "not '{why}', but {log}");
        assert_eq!(lbctl.ok(&["save"]).stdout, before, "{log}");
    }
    goes_on(&download, "reloads that failed");
    reloaded("0");
    serve.reload(&one_vip(), "INFO reloaded");
    reloaded("1");
    assert!(!lbctl.ok(&["save"]).stdout.contains("10.200.1.2"));
    serve.stop();
}

/// `serve` keeps what other commands changed, in interfaces as in VIPs and reals, until a reload.
#[test]
fn what_another_command_has_set_up_stays() {
    let rig = Rig::new(1);
    let lbctl = rig.lbctl();
    let ns = &rig.topology.balancer.ns;
    let mut serve = Serve::start(rig.lbctl(), &one_vip());
    let mac = serve.interface()["mac"].as_str().expect("a MAC").to_owned();
    let mode = "xdp_mode = \"native\"\n";
    let fixed = one_vip().replace(mode, &format!("{mode}gateway_mac = \"{mac}\"\n"));
    let file = config_file(&fixed);

    let planned = lbctl.exits(3, &["plan", "-f", path_of(&file)]);
    assert!(planned.stdout.contains("gateway = \"auto\" → gateway_mac"), "{planned}");
    lbctl.ok(&["apply", "-f", path_of(&file)]);
    ns.shell(&format!("ip link set {UPLINK} mtu 1590"));
    serve.wait_for("MTU 1600 → 1590", 1);
    assert!(lbctl.ok(&["save"]).stdout.contains("gateway_mac"), "{}", serve.running.stderr());
    serve.reload(&one_vip(), "INFO reloaded");
    assert!(!lbctl.ok(&["save"]).stdout.contains("gateway_mac"));
    serve.stop();

    // `plan` still reports what differs.
    ns.shell(&format!("ip link set {UPLINK} mtu 1580"));
    let planned = lbctl.exits(3, &["plan", "-f", path_of(&file)]);
    for change in ["gateway = \"auto\" → gateway_mac", "MTU 1590 → 1580"] {
        assert!(planned.stdout.contains(change), "{planned}");
    }
}

#[test]
fn the_data_plane_does_not_need_it() {
    let rig = Rig::new(2);
    let both = config(&vip(VIP, &["10.0.0.1", "10.0.0.2"]));
    let serve = Serve::start(rig.lbctl(), &both);
    let client = HttpClient::connect(rig.client(), server(VIP)).expect("the VIP answers");
    let download = client.download(2_000_000, Some(500_000)).expect("the download begins");
    serve.stop();
    goes_on(&download, "after SIGTERM");
    let answer = http_get(rig.client(), server(VIP), "/");
    assert!(answer.is_ok(), "nobody serves, and everything is forwarded: {answer:?}");

    // Its real takes no new flows. A balancer that forgot the flow would send it to the other real.
    let own = if download.real() == "real1" { "10.0.0.1" } else { "10.0.0.2" };
    let drained = both.replace(
        &format!("address = \"{own}\""),
        &format!("address = \"{own}\", state = \"drain\""),
    );
    let serve = Serve::start(rig.lbctl(), &drained);
    goes_on(&download, "started again");
    serve.running.signal(Signal::SIGINT);
    let output = serve.running.wait(SOON);
    assert_eq!(output.code(), Some(0), "SIGINT: {output}");

    let serve = Serve::start(rig.lbctl(), &drained);
    serve.running.signal(Signal::SIGKILL);
    assert_eq!(serve.running.wait(SOON).code(), None);
    download.finish();
    let answer = http_get(rig.client(), server(VIP), "/").expect("the VIP answers");
    assert_ne!(if answer.real == "real1" { "10.0.0.1" } else { "10.0.0.2" }, own);
}

#[test]
fn the_endpoint_moves() {
    let rig = Rig::new(0);
    let ns = &rig.topology.balancer.ns;
    let mut serve = Serve::start(rig.lbctl(), &listening_at("127.0.0.1:9847"));
    let refuses = |listen: &str| {
        let refused = get(ns, listen, "/healthz").expect_err("nobody listens").kind();
        assert_eq!(refused, io::ErrorKind::ConnectionRefused, "{listen}");
    };
    let healthy = |listen: &str| assert_eq!(get(ns, listen, "/healthz").expect(listen).0, 200);

    serve.reload(&listening_at("127.0.0.1:9848"), "INFO reloaded");
    refuses("127.0.0.1:9847");
    healthy("127.0.0.1:9848");
    // The same port on all addresses, which the kernel refuses beside its present address.
    serve.reload(&listening_at("0.0.0.0:9848"), "INFO reloaded");
    healthy("172.31.0.2:9848");
    serve.reload(&listening_at("[::1]:9849"), "INFO reloaded");
    healthy("[::1]:9849");

    let taken = ns.bind(|| TcpListener::bind("127.0.0.1:9850")).expect("listen");
    let log = serve.reload(&listening_at("127.0.0.1:9850"), "ERROR");
    assert!(log.contains("127.0.0.1:9850") && log.contains("in use"), "{log}");
    healthy("[::1]:9849");
    drop(taken);
    serve.reload(&listening_at("127.0.0.1:9850"), "INFO reloaded");
    healthy("127.0.0.1:9850");
    serve.stop();
}

/// Neither the new address is free nor the old one: `serve` says so, goes on, and listens as soon as it can.
#[test]
fn the_endpoint_waits_for_its_address() {
    let rig = Rig::new(0);
    let ns = &rig.topology.balancer.ns;
    ns.shell("ip addr add 10.77.0.1/32 dev lo");
    let mut serve = Serve::start(rig.lbctl(), &listening_at("10.77.0.1:9847"));
    ns.shell("ip addr del 10.77.0.1/32 dev lo");
    let log = serve.reload(&listening_at("10.77.0.2:9847"), "ERROR reloaded, but for the metrics");
    for address in ["10.77.0.1:9847", "10.77.0.2:9847"] {
        assert!(log.contains(&format!("(metrics.listen = \"{address}\")")), "{address}: {log}");
    }
    ns.shell("ip addr add 10.77.0.2/32 dev lo");
    let healthy = |listen: &str| matches!(get(ns, listen, "/healthz"), Ok((200, ..)));
    assert!(
        wait_until(2 * CHECK_INTERVAL + SOON, || healthy("10.77.0.2:9847")),
        "{}",
        serve.running.stderr()
    );
    serve.reload(&listening_at("127.0.0.1:9847"), "INFO reloaded");
    assert!(healthy("127.0.0.1:9847"));
    serve.stop();
}

#[test]
fn systemd_is_notified() {
    let host = Host::new();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(SOON)).expect("set a timeout");
    let hears = |states: &[&str]| {
        for state in states {
            let mut buffer = [0; 512];
            let length = socket.recv(&mut buffer).expect(state);
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let lines: Vec<_> = message.lines().collect();
            assert!(lines.contains(state), "not {state}, but {message}");
            if *state == "RELOADING=1" {
                let time = lines.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
                let time: u64 = time.and_then(|time| time.parse().ok()).expect("the time");
                assert!(time > 0);
            }
        }
    };
    let config = Host::config("");
    let lbctl = host.lbctl().env("NOTIFY_SOCKET", path.to_str().expect("printable"));
    let mut serve = Serve::start(lbctl, &config);
    hears(&["READY=1"]);
    assert!(host.has_xdp(UPLINK), "ready is when it forwards");
    serve.reload(&config, "INFO reloaded");
    hears(&["RELOADING=1", "READY=1"]);
    serve.reload("nonsense", "ERROR not reloaded");
    hears(&["RELOADING=1", "READY=1"]);
    serve.stop();
    hears(&["STOPPING=1"]);
}
