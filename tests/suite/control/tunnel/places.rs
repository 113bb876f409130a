//! Where it is attached: another network namespace, two instances, an interface that is replaced, `serve` killed.

use nix::sys::signal::Signal;

use super::CHECKED;
use super::instance;
use super::is_gone;
use super::lives::filters;
use super::lives::host;
use super::lives::pins;
use super::lives::qdisc;
use super::lives::without_links;
use super::program;
use crate::fixtures::Host;
use crate::fixtures::Lbctl;
use crate::fixtures::NetNs;
use crate::fixtures::Serve;
use crate::fixtures::UPLINK;
use crate::fixtures::config_file;
use crate::fixtures::path_of;
use crate::fixtures::vip;
use crate::fixtures::wait_until;
use std::time::Duration;

const VIP: &str = "tcp://10.200.1.1:80";

/// More than the time between two looks at routes and interfaces, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

fn checked() -> String {
    Host::config(&format!("{}{CHECKED}", vip(VIP, &["10.0.0.1"])))
}

fn plain() -> String {
    Host::config(&vip(VIP, &["10.0.0.1"]))
}

/// The index that the interface has.
fn index(ns: &NetNs) -> String {
    ns.shell(&format!("ip -o link show {UPLINK} | cut -d: -f1 | tr -d '\\n'"))
}

#[test]
fn another_network_namespace_has_nothing_taken_away() {
    for by_filter in [false, true] {
        let host = host();
        without_links(host.lbctl(), by_filter).apply(&checked());
        // An interface of the same name and index, whose qdisc is somebody else's, and still without a filter.
        let other = NetNs::new();
        other.shell(&format!(
            "ip link add {UPLINK} index {} type veth peer name nobody
             ip link set {UPLINK} up; ip link set nobody up
             tc qdisc add dev {UPLINK} clsact",
            index(&host.ns)
        ));
        let elsewhere = || without_links(Lbctl::new(&host.bpffs).in_ns(&other), by_filter);
        let before = (pins(&host), filters(&host.ns));

        // What needs no interface works, and leaves the tunnel alone.
        elsewhere().ok(&["real", "add", VIP, "10.0.0.3"]);
        assert_eq!((pins(&host), filters(&host.ns)), before);
        assert!(program(&host.bpffs).is_some());
        // A link is detached from anywhere. Of a filter, nobody there knows.
        if by_filter {
            let down = elsewhere().run(&["down"]);
            assert_eq!(down.code(), Some(1), "{down}");
            assert!(down.stderr.contains("of another network namespace"), "{down}");
            assert_eq!((pins(&host), filters(&host.ns)), before);
            host.lbctl().ok(&["down"]);
            assert_eq!((filters(&host.ns), qdisc(&host.ns)), (String::new(), String::new()));
        } else {
            elsewhere().ok(&["down"]);
        }
        assert!(qdisc(&other).contains("clsact"), "the qdisc of others is gone");
        assert!(!host.has_pins("default") && is_gone(&host.bpffs));
    }
}

#[test]
fn two_instances_whose_vips_are_behind_one_interface() {
    const OTHER: &str = "tcp://10.201.1.1:80";
    for by_filter in [false, true] {
        let host = host();
        host.ns.shell(
            "ip link add second mtu 1600 type veth peer name other-end
             ip addr add 172.32.0.2/24 dev second
             ip link set second up; ip link set other-end up",
        );
        let lbctl = || without_links(host.lbctl(), by_filter);
        lbctl().apply(&checked());
        let text = checked().replace("10.200.1.1", "10.201.1.1").replace(UPLINK, "second");
        let file = config_file(&text);
        lbctl().ok(&["--instance", "edge", "apply", "-f", path_of(&file)]);
        // The default route leads the packets of both by the first one's interface.
        let attached = || {
            let list = |instance: &str| {
                let folder = host.bpffs.path().join(format!("l4lb/{instance}/healthcheck"));
                std::fs::read_dir(folder).map_or(0, Iterator::count)
            };
            [list("default"), list("edge")]
        };
        assert_eq!(attached(), [1, 1]);
        if by_filter {
            assert_eq!(
                filters(&host.ns).matches("handle 0x4c34").count(),
                2,
                "{}",
                filters(&host.ns)
            );
        }
        // Neither takes the other's for its own, or away.
        let same = filters(&host.ns);
        lbctl().apply(&checked());
        lbctl().ok(&["--instance", "edge", "apply", "-f", path_of(&file)]);
        assert_eq!((attached(), filters(&host.ns)), ([1, 1], same));
        lbctl().ok(&["down"]);
        assert_eq!(attached(), [0, 1]);
        assert_eq!(filters(&host.ns).contains("handle 0x4c34"), by_filter);
        let list = lbctl().run(&["--instance", "edge", "vip", "list"]);
        assert!(list.stdout.contains(OTHER), "{list}");
        lbctl().ok(&["--instance", "edge", "down"]);
        assert_eq!((attached(), filters(&host.ns)), ([0, 0], String::new()));
    }
}

/// Somebody deletes the interface and makes it anew, as a driver that is loaded again does.
#[test]
fn an_interface_that_is_replaced_while_serve_runs() {
    for by_filter in [false, true] {
        let host = host();
        let serve = Serve::start(without_links(host.lbctl(), by_filter), &checked());
        let place = |ifindex: &str| {
            let names = pins(&host);
            names.len() == 1 && names[0].split(':').next() == Some(ifindex)
        };
        assert!(place(&index(&host.ns)), "{:?}", pins(&host));
        host.ns.shell(&format!("ip link del {UPLINK}"));
        host.ns.shell(
            "ip link add uplink mtu 1600 address 02:00:00:00:00:02 index 77 type veth peer name nobody mtu 1600
             ip addr add 172.31.0.2/24 dev uplink
             sysctl -qw net.ipv6.conf.nobody.disable_ipv6=1
             ip link set nobody arp off; ip link set uplink up; ip link set nobody up
             ip route add default via 172.31.0.254",
        );
        assert!(
            wait_until(PATIENCE, || place("77")),
            "{:?}\n{}",
            pins(&host),
            serve.running.stderr()
        );
        if by_filter {
            let there = wait_until(PATIENCE, || filters(&host.ns).contains("handle 0x4c344c42"));
            assert!(there, "{}", filters(&host.ns));
        }
        serve.stop();
        host.lbctl().ok(&["down"]);
        assert!(!host.has_pins("default") && is_gone(&host.bpffs));
        assert_eq!((filters(&host.ns), qdisc(&host.ns)), (String::new(), String::new()));
    }
}

#[test]
fn serve_is_killed_and_the_next_one_has_no_leftovers() {
    for by_filter in [false, true] {
        let host = host();
        let lbctl = || without_links(host.lbctl(), by_filter);
        let serve = Serve::start(lbctl(), &checked());
        let before = pins(&host);
        assert_eq!(before.len(), 1);
        serve.running.signal(Signal::SIGKILL);
        drop(serve);
        // The program goes on, for whoever checks next.
        assert_eq!(pins(&host), before);
        let serve = Serve::start(lbctl(), &checked());
        assert_eq!(pins(&host), before);
        assert!(filters(&host.ns).matches("handle 0x4c34").count() == usize::from(by_filter));
        serve.running.signal(Signal::SIGKILL);
        drop(serve);
        // Nobody checks any more.
        let serve = Serve::start(lbctl(), &plain());
        assert_eq!(pins(&host), [""; 0]);
        assert_eq!((filters(&host.ns), qdisc(&host.ns)), (String::new(), String::new()));
        assert!(is_gone(&host.bpffs));
        serve.stop();
        assert!(l4lb::Balancer::open(&instance(&host.bpffs)).is_ok());
        host.lbctl().ok(&["down"]);
        assert!(!host.has_pins("default"));
    }
}
