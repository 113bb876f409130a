//! Some interfaces cannot be served. The others are; `lbctl` reports those that are not, and `serve` tries them again.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::Value;

use crate::fixtures::Host;
use crate::fixtures::Lbctl;
use crate::fixtures::METRICS;
use crate::fixtures::NetNs;
use crate::fixtures::Rig;
use crate::fixtures::UPLINK;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::get;
use crate::fixtures::goes_on;
use crate::fixtures::http_get;
use crate::fixtures::json;
use crate::fixtures::path_of;
use crate::fixtures::second_interface;
use crate::fixtures::second_network;
use crate::fixtures::server;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

const VIP: &str = "tcp://10.200.1.1:80";

/// Several checks of the timer, each with a gateway that does not answer for three seconds, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The uplink, an interface `second`, and reals of [`VIP`].
fn two_interfaces(reals: &[&str]) -> String {
    second_interface().to_owned() + &config(&vip(VIP, reals))
}

#[track_caller]
fn status(lbctl: &Lbctl<'_>) -> Value {
    json(&lbctl.ok(&["status", "--json"]))
}

#[track_caller]
fn served(ns: &NetNs, interface: &str) -> Option<String> {
    let (_, metrics) = get(ns, METRICS, "/metrics").ok()?;
    let series = format!("l4lb_interface_served{{interface=\"{interface}\"}} ");
    let line = metrics.lines().find(|line| line.starts_with(&series))?;
    Some(line[series.len()..].to_owned())
}

/// An interface beside the uplink that is missing, down, not connected, without a gateway that answers, without a
/// route to one, or has another program: `apply` does the rest, says so and exits 1; `--strict` does nothing.
#[test]
fn a_dead_interface_delays_no_other() {
    let rig = Rig::new(1);
    let ns = &rig.topology.balancer.ns;
    let lbctl = rig.lbctl();
    let auto = second_interface().replace("172.32.0.254", "auto");
    let veth =
        "ip link add second type veth peer name edge; ip addr add 172.32.0.2/24 dev second\n";
    let up = "ip link set edge up; ip link set second up";
    for (how, make, interface, why) in [
        ("missing", String::new(), second_interface(), "there is no interface \"second\" here"),
        ("down", veth.to_owned(), second_interface(), "interface second is down"),
        (
            "no carrier",
            format!("{veth}ip link set second up"),
            second_interface(),
            "interface second has no carrier",
        ),
        (
            "a silent gateway",
            format!("{veth}{up}"),
            second_interface(),
            "gateway 172.32.0.254 of interface second did not answer",
        ),
        (
            "no default route",
            format!("{veth}{up}"),
            auto.as_str(),
            "interface second has no default route",
        ),
    ] {
        ns.shell(&make);
        let file = config_file(&(interface.to_owned() + &config(&vip(VIP, &["10.0.0.1"]))));

        let strict = lbctl.exits(1, &["apply", "--strict", "-f", path_of(&file)]);
        assert!(strict.stderr.contains(why) && strict.stdout.is_empty(), "{how}: {strict}");
        assert!(!rig.bpffs.path().join("l4lb/default").exists(), "{how}: something is pinned");

        let planned = lbctl.exits(3, &["plan", "-f", path_of(&file)]).stdout;
        let line = format!("! interface second: not served: {why}");
        assert!(planned.contains(&line), "{how}: {planned}");
        let applied = lbctl.exits(1, &["apply", "-f", path_of(&file)]);
        let told = format!("ERROR interface second: not served: {why}");
        assert_eq!(applied.stderr.lines().count(), 1, "{how}: {applied}");
        assert!(applied.stderr.contains(&told), "{how}: {applied}");
        assert!(http_get(rig.client(), server(VIP), "/").is_ok(), "{how}: the uplink serves");

        // `status` reports it, though no `serve` runs.
        let status = status(&lbctl);
        assert_eq!(status["unserved"][0]["name"], "second", "{how}: {status}");
        let findings = status["condition"]["findings"].to_string();
        assert!(
            findings.contains("\"not_served\"") && findings.contains("not served"),
            "{findings}"
        );
        let text = lbctl.exits(1, &["status", "--check"]).stdout;
        assert!(text.contains("NOT WELL") && text.contains("second     NOT SERVED"), "{text}");

        // `save` and `plan` still name it.
        let saved = config_file(&lbctl.ok(&["save"]).stdout);
        for file in [&saved, &file] {
            let planned = lbctl.exits(3, &["plan", "-f", path_of(file)]).stdout;
            assert!(
                planned.starts_with(&line) && planned.ends_with("\nnothing to change\n"),
                "{planned}"
            );
            let applied = lbctl.exits(1, &["apply", "-f", path_of(file)]);
            assert_eq!(applied.stdout, "nothing to change\n", "{how}: {applied}");
            assert!(applied.stderr.contains(&told), "{how}: {applied}");
        }
        let strict = lbctl.exits(1, &["apply", "--strict", "-f", path_of(&file)]);
        assert!(strict.stderr.contains(why), "{how}: {strict}");

        // Until no file asks for it any more.
        let without = config_file(&config(&vip(VIP, &["10.0.0.1"])));
        let planned = lbctl.exits(3, &["plan", "-f", path_of(&without)]).stdout;
        assert!(planned.starts_with("- interface second: was not served\n"), "{how}: {planned}");
        lbctl.ok(&["apply", "-f", path_of(&without)]);
        lbctl.ok(&["plan", "-f", path_of(&without)]);
        lbctl.ok(&["status", "--check"]);
        lbctl.ok(&["down"]);
        ns.shell("ip link del second 2>/dev/null || true");
    }
}

/// What another XDP program has, and what cannot run XDP as it is asked to, is found out when attaching.
#[test]
fn refused_programs_and_modes_delay_no_other() {
    let host = Host::new();
    let lbctl = host.lbctl();
    host.ns.shell("ip link add second mtu 9000 type veth peer name edge mtu 9000; ip link set edge up; ip link set second up");
    let second = |mode: &str| {
        let second = Host::INTERFACE.replace(UPLINK, "second").replace("native", mode);
        config_file(&(second + &Host::config(&vip(VIP, &["10.0.0.1"]))))
    };
    let file = second("native");
    let strict = lbctl.exits(1, &["apply", "--strict", "-f", path_of(&file)]);
    assert!(strict.stderr.contains("interface second cannot run XDP in native mode"), "{strict}");
    assert!(!host.has_xdp(UPLINK) && !host.has_pins("default"), "all or nothing: {strict}");
    let applied = lbctl.exits(1, &["apply", "-f", path_of(&file)]);
    assert!(applied.stderr.contains("interface second cannot run XDP in native mode"), "{applied}");
    assert!(!applied.stdout.contains("interface second"), "{applied}");
    assert!(host.has_xdp(UPLINK) && !host.has_xdp("second"));
    assert_eq!(status(&lbctl)["interfaces"].as_object().map(serde_json::Map::len), Some(1));
    lbctl.exits(1, &["apply", "--strict", "-f", path_of(&file)]);

    // One that runs goes on in the mode that it has.
    lbctl.ok(&["apply", "-f", path_of(&second("generic"))]);
    let findings = || status(&lbctl)["condition"]["findings"].to_string();
    let is_told = || findings().contains("not_served") || findings().contains("served_as_before");
    assert!(!is_told(), "{}", findings());
    let applied = lbctl.exits(1, &["apply", "-f", path_of(&file)]);
    assert!(applied.stderr.contains("second: served as before, not as configured"), "{applied}");
    assert!(host.has_xdp("second"));
    let told = status(&lbctl);
    assert_eq!(told["interfaces"]["second"]["mode"], "generic", "{told}");
    assert!(is_told(), "{told}");
    assert!(lbctl.ok(&["save"]).stdout.matches("xdp_mode = \"native\"").count() == 2);
    lbctl.ok(&["apply", "-f", path_of(&second("generic"))]);
    assert!(!is_told(), "{}", findings());
    lbctl.ok(&["plan", "-f", path_of(&second("generic"))]);

    // Another instance has it.
    let other =
        config_file(&Host::config("").replace(UPLINK, "second").replace("native", "generic"));
    lbctl.ok(&["down"]);
    lbctl.ok(&["--instance", "other", "apply", "-f", path_of(&other)]);
    let applied = lbctl.exits(1, &["apply", "-f", path_of(&file)]);
    assert!(applied.stderr.contains("second belongs to instance 'other'"), "{applied}");
    assert!(host.has_xdp(UPLINK));
}

/// Reals come and go while a gateway is silent, while another one is asked for that does not answer, and while an
/// interface is gone.
#[test]
fn reals_change_while_an_interface_is_dead() {
    let rig = Rig::new(2);
    let lbctl = rig.lbctl();
    let (edge, _pass) = second_network(&rig.topology);
    let (both, one) = (["10.0.0.1", "10.0.0.2"], ["10.0.0.1"]);
    let file = |text: &str| config_file(text);
    let reals = || {
        let listed = json(&lbctl.ok(&["real", "list", VIP, "--json"]));
        listed.to_string().matches("10.0.0.").count()
    };
    lbctl.apply(&two_interfaces(&both));
    assert_eq!(reals(), 2);

    edge.shell("echo 8 >/proc/sys/net/ipv4/conf/edge/arp_ignore");
    rig.topology.balancer.ns.shell("ip neigh flush dev second");
    let applied = lbctl.ok(&["apply", "--yes", "-f", path_of(&file(&two_interfaces(&one)))]);
    assert!(applied.stderr.contains("did not answer"), "{applied}");
    assert!(applied.stderr.contains("the gateway's last known MAC stays"), "{applied}");
    assert_eq!(reals(), 1);
    let strict = ["apply", "--yes", "--strict", "-f", path_of(&file(&two_interfaces(&both)))]
        .map(str::to_owned);
    let strict: Vec<_> = strict.iter().map(String::as_str).collect();
    lbctl.exits(1, &strict);
    assert_eq!(reals(), 1);

    let other =
        |reals: &[&str]| file(&two_interfaces(reals).replace("172.32.0.254", "172.32.0.99"));
    let asked = other(&both);
    let applied = lbctl.exits(1, &["apply", "--yes", "-f", path_of(&asked)]);
    assert!(applied.stderr.contains("second: served as before, not as configured"), "{applied}");
    assert_eq!(reals(), 2);
    let interface = || status(&lbctl)["interfaces"]["second"].clone();
    assert_eq!(
        (&interface()["mac"], &interface()["gateway"]),
        (&"02:00:00:00:fe:b2".into(), &"172.32.0.254".into())
    );
    let saved = lbctl.ok(&["save"]).stdout;
    assert!(saved.contains("172.32.0.99") && !saved.contains("172.32.0.254"), "{saved}");
    edge.shell(
        "ip addr add 172.32.0.99/24 dev edge; echo 0 >/proc/sys/net/ipv4/conf/edge/arp_ignore",
    );
    lbctl.ok(&["apply", "--yes", "-f", path_of(&asked)]);
    assert_eq!(interface()["gateway"], "172.32.0.99");
    lbctl.ok(&["plan", "-f", path_of(&asked)]);

    rig.topology.balancer.ns.shell("ip link del second");
    let file = file(&two_interfaces(&one));
    let applied = lbctl.exits(1, &["apply", "--yes", "-f", path_of(&file)]);
    assert!(applied.stderr.contains("there is no interface \"second\""), "{applied}");
    assert_eq!(reals(), 1);
    assert!(http_get(rig.client(), server(VIP), "/").is_ok());
    // Once, though its entry and the record both tell.
    let condition = status(&lbctl)["condition"]["findings"].to_string();
    assert_eq!(condition.matches("\"unready\"").count(), 1, "{condition}");
    assert!(lbctl.ok(&["save"]).stdout.contains("name = \"second\""));
}

/// `serve` starts with what there is, none of the interfaces if need be, and takes up the others as they come.
#[test]
fn serve_waits_for_interfaces() {
    let rig = Rig::new(1);
    let ns = &rig.topology.balancer.ns;
    let lbctl = rig.lbctl();
    ns.shell(&format!("ip link set {UPLINK} down"));
    let file = config_file(&two_interfaces(&["10.0.0.1"]));
    let mut serve = lbctl.spawn(&["serve", "-f", path_of(&file)]);
    serve.wait_for("metrics at http");
    for why in
        ["interface uplink: not served", "interface second: not served: there is no interface"]
    {
        assert_eq!(serve.stderr().matches(&format!("WARN {why}")).count(), 1, "{}", serve.stderr());
    }
    assert!(lbctl.ok(&["vip", "list"]).stdout.contains(VIP), "VIPs wait");
    assert_eq!(served(ns, UPLINK).as_deref(), Some("0"));
    let (code, body) = get(ns, METRICS, "/readyz").expect("it answers");
    assert!(code == 503 && body.contains("not served"), "{code}: {body}");

    // The kernel forgot the routes with the link.
    let routes =
        "ip route replace default via 172.31.0.254; ip -6 route replace default via fc00:31::fe";
    ns.shell(&format!(
        "ip link set {UPLINK} up; ip addr replace fc00:31::2/64 dev {UPLINK} nodad\n{routes}"
    ));
    let balances = || http_get(rig.client(), server(VIP), "/").is_ok();
    assert!(wait_until(PATIENCE, balances), "{}", serve.stderr());
    serve.wait_for("INFO interface uplink is served now");
    serve.wait_for("INFO interface uplink is up again");
    assert_eq!(served(ns, UPLINK).as_deref(), Some("1"));
    let waiting = status(&lbctl)["unserved"].clone();
    let waits = |n: usize| waiting[n]["name"].as_str();
    assert_eq!((waits(0), waits(1)), (Some("second"), None), "the other one still: {waiting}");
    let download = rig.download(VIP);

    // Something changed meanwhile: the reasons follow, and nothing is said twice.
    ns.shell("ip link add second type veth peer name edge");
    serve.wait_for("WARN interface second: not served: interface second is down");
    let told = || status(&lbctl)["unserved"][0]["why"].to_string().contains("is down");
    assert!(wait_until(PATIENCE, told), "{}", status(&lbctl));
    ns.shell("ip link del second");
    let (_edge, _pass) = second_network(&rig.topology);
    let is_served = || served(ns, "second").as_deref() == Some("1");
    assert!(wait_until(PATIENCE, is_served), "{}", serve.stderr());
    // The metric reads what runs; serve tells it after the command is through.
    serve.wait_for("INFO interface second is served now");
    assert_eq!(serve.stderr().matches("interface second is served now").count(), 1);
    assert_eq!(get(ns, METRICS, "/readyz").expect("it answers").0, 200);
    lbctl.ok(&["plan", "-f", path_of(&file)]);
    lbctl.ok(&["status", "--check"]);
    goes_on(&download, "a second interface");
    assert_eq!(serve.stop().code(), Some(0));
}

/// With `--strict` it starts with all or not at all, as to its port as well.
#[test]
fn strict_serve_starts_with_all_or_nothing() {
    let host = Host::new();
    let lbctl = host.lbctl();
    let two = config_file(&(second_interface().to_owned() + &Host::config("")));
    let output = lbctl.exits(1, &["serve", "--strict", "-f", path_of(&two)]);
    assert!(output.stderr.contains("there is no interface \"second\""), "{output}");
    assert!(!host.has_pins("default"));

    let _taken = host.ns.bind(|| TcpListener::bind(METRICS)).expect("listen");
    let one = config_file(&Host::config(""));
    let output = lbctl.exits(1, &["serve", "--strict", "-f", path_of(&one)]);
    assert!(output.stderr.contains("metrics.listen = \"127.0.0.1:9847\""), "{output}");
    assert!(!host.has_pins("default"));
}

/// Forwarding starts without metrics; `serve` listens when the port is free.
#[test]
fn serve_waits_for_its_port() {
    let host = Host::new();
    let taken = host.ns.bind(|| TcpListener::bind(METRICS)).expect("listen");
    let file = config_file(&Host::config(""));
    let mut serve = host.lbctl().spawn(&["serve", "-f", path_of(&file)]);
    serve.wait_for("WARN no metrics:");
    let attached = || host.has_xdp(UPLINK);
    assert!(wait_until(PATIENCE, attached), "{}", serve.stderr());
    assert!(
        serve.is_running() && !serve.stderr().contains("metrics at http"),
        "{}",
        serve.stderr()
    );
    drop(taken);
    let answers = || get(&host.ns, METRICS, "/healthz").is_ok();
    assert!(wait_until(PATIENCE, answers), "{}", serve.stderr());
    assert_eq!(serve.stderr().matches("WARN").count(), 1, "{}", serve.stderr());
    assert_eq!(serve.stop().code(), Some(0));
}

/// Killed at any of its writes, the next `apply` completes it: with an interface that is dead, and when it comes.
#[test]
fn killed_with_a_dead_interface() {
    let rig = Rig::new(1);
    let lbctl = rig.lbctl();
    let file = config_file(&two_interfaces(&["10.0.0.1"]));
    let apply = ["apply", "--yes", "-f", path_of(&file)];
    let kill_at_every_write = |start: &dyn Fn(), ends: i32, check: &dyn Fn(u32)| {
        for n in 1..400 {
            start();
            let killing = lbctl.clone().env("LBCTL_KILL_AT_WRITE", &n.to_string());
            let output = killing.run(&apply);
            let done = output.code().is_some();
            assert!(!done || output.code() == Some(ends), "{output}");
            lbctl.exits(ends, &apply);
            check(n);
            if done {
                return n - 1;
            }
        }
        panic!("it still writes");
    };
    let without = config_file(&config(&vip(VIP, &["10.0.0.1"])));
    let forget = || drop(lbctl.ok(&["apply", "--yes", "-f", path_of(&without)]));
    let waits = |n: u32| {
        let told = status(&lbctl);
        assert_eq!(told["unserved"][0]["name"], "second", "write {n}: {told}");
        assert!(http_get(rig.client(), server(VIP), "/").is_ok(), "write {n}");
    };
    forget();
    assert!(kill_at_every_write(&forget, 1, &waits) >= 3);

    let (_edge, _pass) = second_network(&rig.topology);
    let dead = || {
        rig.topology.balancer.ns.shell("ip link set second down");
        forget();
        lbctl.exits(1, &apply);
        rig.topology.balancer.ns.shell("ip link set second up");
    };
    let serves = |n: u32| {
        let told = status(&lbctl);
        assert_eq!(told["unserved"], serde_json::json!([]), "write {n}: {told}");
        lbctl.ok(&["plan", "-f", path_of(&file)]);
        assert!(http_get(rig.client(), server(VIP), "/").is_ok(), "write {n}");
    };
    assert!(kill_at_every_write(&dead, 0, &serves) >= 3);
    lbctl.ok(&["down"]);
    assert!(!rig.bpffs.path().join("l4lb/default").exists());
}

/// An instance whose record is missing, as an earlier build makes it, or somebody removed it.
#[test]
fn without_a_record() {
    let host = Host::new();
    let lbctl = host.lbctl();
    let file = config_file(&(second_interface().to_owned() + &Host::config("")));
    lbctl.exits(1, &["apply", "-f", path_of(&file)]);
    let pin = host.bpffs.path().join("l4lb/default/map/unserved");
    std::fs::remove_file(&pin).expect("a pin");
    assert_eq!(status(&lbctl)["unserved"], serde_json::json!([]));
    assert!(!lbctl.ok(&["save"]).stdout.contains("name = \"second\""));
    lbctl.exits(1, &["apply", "-f", path_of(&file)]);
    assert!(pin.exists());
    lbctl.ok(&["apply", "-f", path_of(&config_file(&Host::config("")))]);
    assert!(!pin.exists(), "nothing waits");
    lbctl.ok(&["down"]);
    assert!(!host.has_pins("default"));
}
