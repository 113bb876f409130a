//! Why checks cannot go through the tunnel, and what it is when several things are in the way.

use std::net::IpAddr;
use std::net::TcpListener;

use l4lb::Balancer;
use l4lb::Error;
use l4lb::TunnelObstacle;

use super::CHECKED;
use super::ensure;
use super::instance;
use super::is_gone;
use crate::fixtures::Host;
use crate::fixtures::Serve;
use crate::fixtures::json;
use crate::fixtures::vip;

const V4: &str = "10.200.1.1";
const V6: &str = "fc00:1::1";

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// What is in the way to one address.
#[track_caller]
fn obstacle(host: &Host, to: &str) -> Option<TunnelObstacle> {
    ensure(&host.bpffs, &host.ns, &[address(to)]).obstacles.remove(&address(to))
}

#[test]
fn the_host_lacks_a_route_or_an_address() {
    let host = Host::new();
    let vips = [
        vip(&format!("tcp://{V4}:80"), &["10.0.0.1"]),
        vip(&format!("tcp://[{V6}]:80"), &["10.0.0.1"]),
    ];
    host.lbctl().apply(&Host::config(&vips.concat()));
    let (v4, v6) = (address(V4), address(V6));
    assert_eq!(obstacle(&host, V4), Some(TunnelObstacle::NoRoute { vip: v4, example: None }));
    assert_eq!(obstacle(&host, V6), Some(TunnelObstacle::NoRoute { vip: v6, example: None }));
    host.ns.shell(&format!("ip route add blackhole {V4}"));
    assert_eq!(obstacle(&host, V4), Some(TunnelObstacle::NoRoute { vip: v4, example: None }));
    let own = address("172.31.0.2");
    assert_eq!(obstacle(&host, "172.31.0.2"), Some(TunnelObstacle::OwnAddress { vip: own }));
    assert!(is_gone(&host.bpffs));

    // Only an address that no real can answer to.
    host.ns.shell(
        "ip -6 addr add fe80::2/64 dev uplink nodad; ip -6 addr flush dev uplink scope global",
    );
    host.ns.shell(&format!("ip -6 route add {V6} via fe80::fe dev uplink"));
    let only = |found: Option<TunnelObstacle>| match found {
        Some(TunnelObstacle::NoSource { found: Some(IpAddr::V6(found)), .. }) => {
            found.is_unicast_link_local()
        }
        _ => false,
    };
    assert!(only(obstacle(&host, V6)));
    host.ns.shell("ip -6 addr add fc00:31::2/64 dev uplink nodad");
    assert_eq!(obstacle(&host, V6), None);
    host.ns.shell(&format!("ip route del blackhole {V4}; ip route add {V4} via 172.31.0.254"));
    assert_eq!(obstacle(&host, V4), None);
}

/// The kernel would ask for the VIP's own MAC, keep the check's packets meanwhile, and drop them.
#[test]
fn nobody_answers_for_the_vip_on_the_network_that_its_route_names() {
    let host = Host::new();
    let vips = [V4, V6].map(|to| {
        let to = std::net::SocketAddr::new(address(to), 80);
        format!("{}{CHECKED}", vip(&format!("tcp://{to}"), &["10.0.0.1"]))
    });
    host.ns.shell(&format!(
        "ip route add {V4} dev uplink; ip route add {V6} dev uplink; ip route add default via 172.31.0.254"
    ));
    let output = host.lbctl().apply(&Host::config(&vips.concat()));
    assert!(
        output.stderr.contains("on the network of uplink, where nobody answers ARP for it"),
        "{output}"
    );
    assert!(output.stderr.contains("nobody answers neighbour solicitations for it"), "{output}");
    for to in [V4, V6] {
        let interface = "uplink".to_owned();
        let wanted = TunnelObstacle::NoNeighbour { vip: address(to), interface, example: None };
        assert_eq!(obstacle(&host, to), Some(wanted));
        // Whoever answers, the program addresses the frame to the gateway.
        host.ns.shell(&format!(
            "ip neigh replace {to} lladdr 02:00:00:00:00:99 dev uplink nud permanent"
        ));
        assert_eq!(obstacle(&host, to), None);
    }
}

/// A VIP's address on a loopback device, as on a real.
#[test]
fn a_vip_on_the_balancers_own_host_is_told_and_says_nothing_about_reals() {
    let host = Host::new();
    host.ns.shell(&format!("ip route add default via 172.31.0.254; ip addr add {V4}/32 dev lo"));
    let vip = vip(&format!("tcp://{V4}:80"), &["10.0.0.1"]);
    let check = CHECKED.replace("\"tcp\"", "\"tcp\", interval = \"200ms\", timeout = \"100ms\"");
    let serve = Serve::start(
        host.lbctl(),
        &Host::config(&format!("{vip}allow_own_address = true\n{check}")),
    );
    serve.wait_for("it is an address of this host", 1);
    let real = || json(&host.lbctl().ok(&["real", "list", "--json"])).to_string();
    // Many intervals later, no check has said anything.
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(!serve.running.stderr().contains("is unhealthy"), "{}", serve.running.stderr());
    assert!(real().contains("unknown"), "{}", real());
    let probe = host.lbctl().run(&["probe", &format!("tcp://{V4}:80")]);
    assert!(
        probe.stderr.contains("it is an address of this host")
            || probe.stdout.contains("it is an address of this host"),
        "{probe}"
    );
}

/// A check's packets do not leave the host, nor do a client's that the balancer hands to the kernel.
#[test]
fn a_real_that_is_this_host_is_checked_at_the_vips_address_of_the_host() {
    let host = Host::new();
    host.ns.shell(&format!("ip route add default via 172.31.0.254; ip addr add {V4}/32 dev lo"));
    let vip = vip(&format!("tcp://{V4}:80"), &["172.31.0.2", "10.0.0.1"]);
    host.lbctl().apply(&Host::config(&format!("{vip}allow_own_address = true\n")));
    let listener = host.ns.open(|| TcpListener::bind((V4, 80))).expect("the host serves");
    let balancer = Balancer::open(&instance(&host.bpffs)).expect("it runs");
    assert_eq!(balancer.local_reals().expect("they can be read"), [address("172.31.0.2")].into());
    let to = |real: &str| host.ns.run(|| balancer.tunnel_to(address(V4), address(real)));
    assert!(to("172.31.0.2").is_ok());
    let error = to("10.0.0.1").expect_err("its packets would stay here");
    assert!(error.to_string().contains("it is an address of this host"), "{error}");
    let probe = |real: &str| host.lbctl().run(&["probe", &format!("tcp://{V4}:80"), real]);
    assert_eq!(probe("172.31.0.2").code(), Some(0), "{}", probe("172.31.0.2"));
    assert_ne!(probe("10.0.0.1").code(), Some(0), "{}", probe("10.0.0.1"));
    drop(listener);
    assert_ne!(probe("172.31.0.2").code(), Some(0), "{}", probe("172.31.0.2"));
}

#[test]
fn apply_warns_and_a_check_of_one_real_says_what_is_wrong() {
    let host = Host::new();
    let file = Host::config(&format!("{}{CHECKED}", vip(&format!("tcp://{V4}:80"), &["10.0.0.1"])));
    let output = host.lbctl().apply(&file);
    assert!(output.stderr.contains("this host has no IPv4 route to it"), "{output}");
    let balancer = Balancer::open(&instance(&host.bpffs)).expect("it runs");
    let to = |real: &str| host.ns.run(|| balancer.tunnel_to(address(V4), address(real)));
    let error = to("10.0.0.1").expect_err("no route");
    assert!(
        matches!(error, Error::Tunnel(ref why) if matches!(**why, TunnelObstacle::NoRoute { .. })),
        "{error}"
    );

    host.ns.shell("ip route add default via 172.31.0.254");
    let error = to("10.0.0.9").expect_err("no such real");
    assert!(
        matches!(error, Error::Tunnel(ref why) if matches!(**why, TunnelObstacle::NoSuchReal { .. })),
        "{error}"
    );
    assert_eq!(to("10.0.0.1").expect("a mark"), super::marks(&host.bpffs)[&address("10.0.0.1")]);
    assert!(super::program(&host.bpffs).is_some());
    // A check by hand leaves nothing that nobody asks for.
    let plain = Host::config(&vip(&format!("tcp://{V4}:80"), &["10.0.0.1"]));
    host.lbctl().apply(&plain);
    assert!(is_gone(&host.bpffs));
    to("10.0.0.1").expect("a mark");
    assert!(super::program(&host.bpffs).is_some());
    host.ns.run(|| balancer.release_tunnel()).expect("it is released");
    assert!(is_gone(&host.bpffs));
}
