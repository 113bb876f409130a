//! `lbctl status` says in which condition the instance is, and how to fix what is not.

use std::thread;
use std::time::Duration;

use libbpf_rs::Link;
use serde_json::Value;

use crate::fixtures::Host;
use crate::fixtures::Lbctl;
use crate::fixtures::Rig;
use crate::fixtures::Steady;
use crate::fixtures::UPLINK;
use crate::fixtures::Verdict;
use crate::fixtures::XdpLink;
use crate::fixtures::config;
use crate::fixtures::http_get;
use crate::fixtures::json;
use crate::fixtures::packet_from;
use crate::fixtures::server;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

/// The problems that `lbctl status --json` has.
#[track_caller]
fn problems(status: &Value) -> Vec<&str> {
    let findings = status["condition"]["findings"].as_array().expect("findings");
    let problems: Vec<_> =
        findings.iter().map(|finding| finding["problem"].as_str().expect("a name")).collect();
    assert_eq!(status["condition"]["well"], problems.is_empty(), "{status}");
    problems
}

/// A host, and what the other end of its interface needs, or native XDP loses all that it sends.
fn host() -> (Host, XdpLink) {
    let host = Host::new();
    let pass = XdpLink::attach(&host.ns, "nobody", Verdict::Pass);
    (host, pass)
}

#[test]
fn a_usual_case_is_well_and_fits_a_screen() {
    let (host, _pass) = host();
    host.ns.shell(
        "ip link add second mtu 1600 type veth peer name nobody2 mtu 1600
         ip link set second up; ip link set nobody2 up",
    );
    let _second = XdpLink::attach(&host.ns, "nobody2", Verdict::Pass);
    let vips: String = ["tcp://10.200.1.1:80", "tcp://10.200.1.1:443", "udp://[fc00:1::2]:443"]
        .map(|name| vip(name, &["10.0.0.1", "10.0.0.2, state = \"drain\"", "10.0.0.3, weight = 0"]))
        .concat();
    let second = Host::INTERFACE.replace(UPLINK, "second");
    host.lbctl().apply(&format!("{second}{}", Host::config(&vips)));

    let status = host.lbctl().ok(&["status"]).stdout;
    assert!(status.starts_with("instance default: well ("), "{status}");
    assert!(status.lines().count() <= 24, "{status}");
    assert!(status.lines().all(|line| line.chars().count() <= 80), "{status}");
    assert!(
        status.contains(
            "udp://[fc00:1::2]:443  1/3 (1 drained, 1 of weight 0)        0  0.00 %        0\n"
        ),
        "{status}"
    );
    assert!(problems(&json(&host.lbctl().ok(&["status", "--json", "--check"]))).is_empty());
}

#[test]
fn each_thing_that_is_wrong_comes_with_what_to_do() {
    let (host, _pass) = host();
    let a = "tcp://10.200.1.1:80";
    host.lbctl().apply(&Host::config(&vip(a, &["10.0.0.1"])));
    host.lbctl().ok(&["real", "drain", a, "10.0.0.1"]);
    let status = host.lbctl().ok(&["status"]).stdout;
    assert!(status.starts_with("instance default: NOT WELL, 1 thing "), "{status}");
    let line = format!(
        "\n- no real takes new flows of {a}: 'lbctl real list {a}' shows why; then lbctl real up, weight or add\n"
    );
    assert!(status.contains(&line), "{status}");
    assert!(status.contains("0/1 (1 drained)"), "{status}");
    host.lbctl().exits(1, &["status", "--check"]);
    let checked = host.lbctl().exits(1, &["status", "--check", "--json"]);
    assert_eq!(problems(&json(&checked)), ["no_usable_real"]);

    host.lbctl().ok(&["real", "delete", a, "10.0.0.1"]);
    let status = host.lbctl().ok(&["status"]).stdout;
    let line = format!(
        "\n- no reals: {a}: lbctl real add {a} ADDRESS; or add reals to the file, then lbctl apply -f FILE\n"
    );
    assert!(status.contains(&line), "{status}");

    host.ns.shell("ip link del uplink");
    let status = host.lbctl().ok(&["status"]).stdout;
    assert!(status.starts_with("instance default: NOT WELL, 2 things "), "{status}");
    let line =
        "\n- interface uplink: there is no such interface here: 'ip link' lists the interfaces";
    assert!(status.contains(line), "{status}");
    let status = json(&host.lbctl().ok(&["status", "--json"]));
    assert_eq!(problems(&status), ["unready", "no_real"]);
    assert_eq!(status["condition"]["findings"][0]["why"]["interface_missing"], UPLINK);
}

#[test]
fn a_gateway_that_is_gone() {
    let rig = Rig::new(1);
    let a = "tcp://10.200.1.1:80";
    rig.lbctl().apply(&config(&vip(a, &["10.0.0.1"])));
    http_get(rig.client(), server(a), "/").expect("the VIP answers");
    assert!(problems(&json(&rig.lbctl().ok(&["status", "--json"]))).is_empty());
    let status = rig.lbctl().ok(&["status"]).stdout;
    let line = status.lines().find(|line| line.starts_with(a)).expect("a line of the VIP");
    assert!(line.contains(" 1/1 ") && line.contains(" 100.00 % "), "{status}");

    rig.topology.balancer.ns.shell(&format!("ip neigh flush dev {UPLINK}"));
    let gone = || {
        let status = json(&rig.lbctl().ok(&["status", "--json"]));
        problems(&status) == ["unready"]
            && status["condition"]["findings"][0]["why"]["gateway_unresolved"]["interface"]
                == UPLINK
    };
    assert!(wait_until(Duration::from_secs(5), gone), "{}", rig.lbctl().ok(&["status"]));
}

/// What is wrong with the interface, and what is to be done about it.
#[track_caller]
fn is_unready(lbctl: &Lbctl<'_>, why: &str, fix: &str) {
    let status = json(&lbctl.ok(&["status", "--json"]));
    let finding = &status["condition"]["findings"][0];
    assert_eq!(finding["problem"], "unready", "{status:#}");
    let about = &finding["why"][why];
    assert!(*about == UPLINK || about["interface"] == UPLINK, "{why}: {finding}");
    assert!(finding["fix"].as_str().expect("text").contains(fix), "{finding}");
}

/// Status names the cause, not what follows from it, and what it says fixes it.
#[test]
fn the_own_interface_comes_before_the_router() {
    let rig = Rig::new(0);
    let (lbctl, ns) = (rig.lbctl(), &rig.topology.balancer.ns);
    let config = config(&vip("tcp://10.200.1.1:80", &["10.0.0.1"]));
    lbctl.apply(&config);
    let is_well = || {
        let status = json(&lbctl.ok(&["status", "--json"]));
        assert!(problems(&status).is_empty(), "{:#}", status["condition"]);
    };
    is_well();

    ns.shell("ip neigh replace 172.31.0.254 lladdr 02:00:00:00:00:77 dev uplink nud reachable");
    is_unready(&lbctl, "gateway_moved", "lbctl apply -f FILE; lbctl serve follows");
    lbctl.apply(&config);
    is_well();

    rig.topology.router.shell("ip link set to-balancer down");
    is_unready(&lbctl, "no_carrier", "cable");
    rig.topology.router.shell("ip link set to-balancer up");

    ns.shell("ip link set uplink down");
    is_unready(&lbctl, "interface_down", "ip link set uplink up");
    let text = lbctl.ok(&["status"]).stdout;
    assert!(text.contains("\nuplink     native, DOWN "), "{text}");
    ns.shell("ip link set uplink up");
    // The routes went with it.
    is_unready(&lbctl, "no_default_route", "ip route add default via ROUTER dev uplink");
    ns.shell("ip route add default via 172.31.0.254");
    is_unready(&lbctl, "gateway_unresolved", "lbctl apply -f FILE asks for it");
    lbctl.apply(&config);
    is_well();

    ns.shell("ip link del uplink");
    is_unready(&lbctl, "interface_missing", "'ip link' lists the interfaces");
}

/// `lbctl` does not resolve a fixed MAC, so it is never unresolved.
#[test]
fn a_fixed_gateway_is_never_unresolved() {
    let (host, _pass) = host();
    host.lbctl().apply(&Host::config(&vip("tcp://10.200.1.1:80", &["10.0.0.1"])));
    host.ns.shell("ip link set uplink down");
    is_unready(&host.lbctl(), "interface_down", "ip link set uplink up");
    host.ns.shell("ip link set uplink up; ip link set nobody down");
    is_unready(&host.lbctl(), "no_carrier", "cable");
    host.ns.shell("ip link set nobody up");
    let detach = host.bpffs.path().join("l4lb/default/link/uplink");
    let detach = Link::open(detach).and_then(|link| link.detach());
    detach.expect("detach");
    is_unready(&host.lbctl(), "not_attached", "lbctl apply -f FILE");
    host.ns.shell("ip link del uplink");
    is_unready(&host.lbctl(), "interface_missing", "'ip link' lists the interfaces");
}

#[test]
fn generic_mode_that_was_not_asked_for() {
    let (host, _pass) = host();
    let vips = vip("tcp://10.200.1.1:80", &["10.0.0.1"]);
    // Frames of that length are more than veth's driver has room for in native mode.
    host.ns.shell("ip link add long mtu 9000 type veth peer name other mtu 9000; ip link set long up; ip link set other up");
    let of = |mode: &str| {
        let config = Host::config(&vips).replace(UPLINK, "long");
        host.lbctl().apply(&config.replace("\"native\"", mode));
        json(&host.lbctl().ok(&["status", "--json"]))
    };
    let auto = of("\"auto\"");
    assert_eq!(problems(&auto), ["generic_mode"]);
    assert_eq!(auto["condition"]["findings"][0]["interface"], "long");
    assert!(problems(&of("\"generic\"")).is_empty(), "as it was asked for");
}

#[test]
fn many_vips_are_cut_to_the_busiest() {
    let host = Host::new();
    let name = |n: usize| format!("tcp://10.200.1.{n}:80");
    let vips: String = (1..=40).map(|n| vip(&name(n), &["10.0.0.1"])).collect();
    host.lbctl().apply(&Host::config(&vips));
    let vips = |status: &str| status.lines().filter(|line| line.starts_with("tcp://")).count();
    let status = host.lbctl().ok(&["status"]).stdout;
    assert_eq!(vips(&status), 15, "{status}");
    assert!(status.contains("\n… and 25 more: --all\n"), "{status}");
    let all = host.lbctl().ok(&["status", "--all"]).stdout;
    assert_eq!(vips(&all), 40, "{all}");
    assert!(all.contains("\nCPU 0 ") && all.contains("\ntotal "), "{all}");
}

/// Whenever one looks: the guard lets flows in again with each second.
#[test]
fn a_flood_is_reported_while_it_lasts() {
    let (host, _pass) = host();
    let vips = vip("tcp://10.200.1.1:80", &["10.0.0.1"]);
    host.lbctl().apply(&Host::config(&format!("new_connections_per_second = 100\n{vips}")));
    let problems_now = || {
        let status = json(&host.lbctl().ok(&["status", "--json"]));
        problems(&status).join(" ")
    };
    // By fits and starts.
    let flood = Steady::start(&host.ns, "nobody", |number| {
        if number % 500 == 0 {
            thread::sleep(Duration::from_millis(300));
        }
        packet_from(number)
    });
    let guard = || host.lbctl().ok(&["status"]).stdout.contains("LIMITING on CPU");
    assert!(wait_until(Duration::from_secs(10), guard), "it never began");
    for pause in [0, 300, 300, 300] {
        thread::sleep(Duration::from_millis(pause));
        assert_eq!(problems_now(), "flood_guard_limits");
    }
    let text = host.lbctl().ok(&["status"]).stdout;
    for words in [
        "if this is a flood, do nothing",
        "'lbctl stats --watch'",
        "normal traffic, raise connection_table.new_conn",
    ] {
        assert!(text.contains(words), "'{words}' in {text}");
    }
    drop(flood);
    assert_eq!(problems_now(), "", "it is over");
}

#[test]
fn a_table_is_too_small_for_the_traffic() {
    let (host, _pass) = host();
    let config = Host::config(&vip("tcp://10.200.1.1:80", &["10.0.0.1"]));
    host.lbctl().apply(&config.replace("entries = 20000", "entries = 64"));
    let problems_now = || {
        let status = json(&host.lbctl().ok(&["status", "--json"]));
        problems(&status).join(" ")
    };
    let busy = Steady::start(&host.ns, "nobody", |number| packet_from(number % 640));
    let full = || problems_now() == "table_too_small";
    assert!(wait_until(Duration::from_secs(10), full), "{}", problems_now());
    drop(busy);
    assert_eq!(problems_now(), "", "nobody is missed any more");
    // Those that are left fit in.
    let few = Steady::start(&host.ns, "nobody", |number| packet_from(number % 8));
    assert!(
        wait_until(Duration::from_secs(10), || problems_now().is_empty()),
        "{}",
        problems_now()
    );
    drop(few);
}

/// Every packet is of another connection, which no table knows, and there is room for all of them; then few
/// connections, which are known.
#[test]
fn connections_that_began_elsewhere_are_reported() {
    let (host, _pass) = host();
    let config = Host::config(&vip("tcp://10.200.1.1:80", &["10.0.0.1"]));
    host.lbctl().apply(&config.replace("entries = 20000", "entries = 8000000"));
    let finding = || {
        let status = json(&host.lbctl().ok(&["status", "--json"]));
        status["condition"]["findings"].as_array().expect("findings").first().cloned()
    };
    let strange = Steady::start(&host.ns, "nobody", packet_from);
    let is_told = || {
        finding().is_some_and(|finding| {
            assert_eq!(finding["problem"], "misses_with_room", "{finding}");
            assert_eq!(finding["forgotten"], 0, "they are new, not forgotten: {finding}");
            let fix = finding["fix"].as_str().expect("text");
            fix.contains("another balancer's flows")
        })
    };
    assert!(wait_until(Duration::from_secs(10), is_told), "{:?}", finding());
    drop(strange);
    let known = Steady::start(&host.ns, "nobody", |number| packet_from(number % 64));
    assert!(wait_until(Duration::from_secs(10), || finding().is_none()), "{:?}", finding());
    drop(known);
}

/// `status` is not well where doctor finds an error, as far as it can tell without asking the network.
#[test]
fn what_is_an_error_for_doctor() {
    let rig = Rig::new(0);
    let (lbctl, ns) = (rig.lbctl(), &rig.topology.balancer.ns);
    lbctl.apply(&config(&vip("tcp://10.200.1.1:80", &["10.0.0.1"])));
    let ids = || {
        let status = json(&lbctl.ok(&["status", "--json"]));
        let findings = status["condition"]["findings"].as_array().expect("findings").clone();
        let id = |finding: &Value| {
            assert_eq!(finding["problem"], "doctor", "{finding}");
            finding["finding"]["id"].as_str().expect("a name").to_owned()
        };
        findings.iter().map(id).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(ids(), "");
    let warnings = || json(&lbctl.ok(&["status", "--json"]))["condition"]["warnings"].clone();
    let before = warnings().as_u64().expect("a number");

    ns.shell("ip route del default; ip -6 route del default");
    assert_eq!(ids(), "gateway-unresolved");
    let text = lbctl.exits(1, &["status", "--check"]).stdout;
    assert!(text.contains("\n- interface uplink has no default route"), "{text}");
    ns.shell("ip route add default via 172.31.0.254");
    assert_eq!(ids(), "");

    ns.shell("ip link set uplink mtu 1550");
    assert_eq!(ids(), "mtu-changed");
    let text = lbctl.ok(&["status"]).stdout;
    assert!(text.contains(" 1600 (now 1550)\n"), "{text}");
    ns.shell("ip link set uplink mtu 1650");
    assert_eq!((ids(), warnings()), (String::new(), (before + 1).into()), "refused, not lost");
    let text = lbctl.ok(&["status"]).stdout;
    let begin = if before == 0 {
        "instance default: well (1 warning: lbctl doctor)\n".to_owned()
    } else {
        format!("instance default: well ({} warnings: lbctl doctor)\n", before + 1)
    };
    assert!(text.starts_with(&begin) && text.contains(" 1600 (now 1650)\n"), "{text}");

    let (host, pass) = host();
    host.lbctl().apply(&Host::config(&vip("tcp://10.200.1.1:80", &["10.0.0.1"])));
    assert!(problems(&json(&host.lbctl().ok(&["status", "--json"]))).is_empty());
    drop(pass);
    let text = host.lbctl().ok(&["status"]).stdout;
    let line =
        "\n- interface uplink: its other end, nobody, runs no XDP program in native mode: lbctl ";
    assert!(text.contains(line), "{text}");
}
