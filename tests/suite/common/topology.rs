//! The network of the tests.
//!
//! ```text
//!              client 192.168.1.2 fc00:2::2
//!                │ MTU 1500
//!                │ .254 / ::fe
//!              router ──────────────── balancer 172.31.0.2 fc00:31::2
//!                │ 10.0.0.254 fc00::fe          (MTU 1600)
//!                │ MTU 1600
//!      ┌─────────┼─────────┐
//!    real1     real2     real3 …   10.0.0.1 fc00::1, 10.0.0.2 fc00::2, …
//! ```
//!
//! Each is a namespace whose only interface is [`UPLINK`]; the router's end of it is
//! `to-client`, `to-balancer`, `to-real1` … The router sends the VIPs, `10.200.0.0/16` and
//! `fc00:1::/64`, to the balancer; the reals take every address of these for their own.
//! MAC addresses: `02:00:00:00:00:xx`, and `02:00:00:00:fe:xx` at the router's end, where `xx` is
//! `c1` for the client, `b1` for the balancer, and a real's number.

use std::fs;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::HttpServer;
use super::NetNs;
use super::UdpEcho;
use super::Verdict;
use super::XdpLink;
use super::wait_until;

/// The interface of client, balancer and reals: a name that no interface of the machine has.
pub(crate) const UPLINK: &str = "uplink";

/// The IPv4 VIPs the router knows.
const VIPS_V4: &str = "10.200.0.0/16";
/// The IPv6 VIPs the router knows.
const VIPS_V6: &str = "fc00:1::/64";

/// How long the longest frame of a link is, less its Ethernet header.
const PLAIN_MTU: u16 = 1500;
/// The same where encapsulated frames travel.
const ENCAPSULATED_MTU: u16 = 1600;

/// Client, router, balancer and reals.
#[derive(Debug)]
pub(crate) struct Topology {
    /// Where clients run.
    pub(crate) client: Node,
    /// Where the balancer is to be attached, to [`UPLINK`].
    pub(crate) balancer: Node,
    /// The servers: `reals[0]` is real1.
    pub(crate) reals: Vec<Node>,
    /// What connects them.
    pub(crate) router: NetNs,
    /// What native XDP needs at the other end, or veth loses the frames that it sends.
    passes: Vec<XdpLink>,
}

/// A namespace with one interface, [`UPLINK`].
#[derive(Debug)]
pub(crate) struct Node {
    /// `client`, `balancer`, `real1` …
    pub(crate) name: String,
    /// The namespace.
    pub(crate) ns: NetNs,
    /// Its IPv4 address.
    pub(crate) v4: Ipv4Addr,
    /// Its IPv6 address.
    pub(crate) v6: Ipv6Addr,
    /// The MAC address of its interface.
    pub(crate) mac: [u8; 6],
    /// The router's IPv4 address on this link: its default route.
    pub(crate) gateway_v4: Ipv4Addr,
    /// The router's IPv6 address on this link.
    pub(crate) gateway_v6: Ipv6Addr,
    /// The MAC address of the router's end.
    pub(crate) gateway_mac: [u8; 6],
    /// The name of the router's end.
    pub(crate) router_interface: String,
    mtu: u16,
    /// Whether both ends know the other's address as a route, not as a neighbour in their subnet.
    routed: bool,
}

impl Topology {
    /// Builds it, with `reals` reals, at most 100; ready for traffic when it returns.
    #[track_caller]
    pub(crate) fn new(reals: u8) -> Self {
        assert!(reals <= 100, "100 reals at most, not {reals}");
        let mut topology = Self {
            client: Node::client(),
            balancer: Node::balancer(),
            reals: (1..=reals).map(Node::real).collect(),
            router: NetNs::new(),
            passes: Vec::new(),
        };
        topology.router.shell(&topology.router_script());
        for node in topology.nodes() {
            node.ns.shell(&node.script());
        }
        for real in &topology.reals {
            real.ns.shell(&own_vips_script());
        }
        let attach =
            |node: &Node| XdpLink::attach(&topology.router, &node.router_interface, Verdict::Pass);
        topology.passes = topology.nodes().map(attach).collect();
        topology.stay_on_one_cpu();
        topology.await_links();
        topology
    }

    /// An HTTP server on every real.
    #[track_caller]
    pub(crate) fn serve_http(&self, port: u16) -> Vec<HttpServer> {
        self.reals.iter().map(|real| HttpServer::start(&real.ns, &real.name, port)).collect()
    }

    /// A UDP echo server on every real, for each of `vips`.
    #[track_caller]
    pub(crate) fn serve_udp(&self, vips: &[SocketAddr]) -> Vec<UdpEcho> {
        self.reals.iter().map(|real| UdpEcho::start(&real.ns, &real.name, vips)).collect()
    }

    /// All but the router.
    fn nodes(&self) -> impl Iterator<Item = &Node> {
        [&self.client, &self.balancer].into_iter().chain(&self.reals)
    }

    /// The commands that make every link and the router's end of it.
    fn router_script(&self) -> String {
        let mut batch = Vec::new();
        let mut script = vec![
            "echo 1 >/proc/sys/net/ipv4/ip_forward".to_owned(),
            "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding".to_owned(),
        ];
        for node in self.nodes() {
            let Node { router_interface: end, gateway_v4, gateway_v6, mtu, .. } = node;
            let (bits_v4, bits_v6) = node.prefix_lengths();
            let mac = mac_text(node.mac);
            let gateway_mac = mac_text(node.gateway_mac);
            let ns = node.ns.path();
            let ns = ns.display();
            batch.extend([
                format!(
                    "link add name {end} mtu {mtu} address {gateway_mac} type veth \
                     peer name {UPLINK} mtu {mtu} address {mac} netns {ns}"
                ),
                format!("addr add {gateway_v4}/{bits_v4} dev {end}"),
                format!("addr add {gateway_v6}/{bits_v6} dev {end} nodad"),
                format!("link set {end} up"),
            ]);
            if node.routed {
                batch.push(format!("route add {} dev {end}", node.v4));
                batch.push(format!("route add {} dev {end}", node.v6));
            }
            script.push(offloads_off(end));
        }
        batch.push(format!("route add {VIPS_V4} via {}", self.balancer.v4));
        batch.push(format!("route add {VIPS_V6} via {}", self.balancer.v6));
        script.insert(0, ip_batch(&batch));
        script.join("\n")
    }

    /// Makes one CPU handle everything that the client sends, another one in the next topology.
    ///
    /// A network card sees to it that a flow's packets stay on one CPU, each of which has a connection table of
    /// its own. A virtual link hands them to whichever CPU the sender runs on at the moment.
    #[track_caller]
    fn stay_on_one_cpu(&self) {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let cpus = thread::available_parallelism().map_or(1, NonZero::get);
        let mask = 1_u64 << (NEXT.fetch_add(1, Ordering::Relaxed) % cpus.min(32));
        let file = format!("/sys/class/net/{}/queues/rx-0/rps_cpus", self.client.router_interface);
        let written = self.router.run(|| fs::write(&file, format!("{mask:x}")));
        written.unwrap_or_else(|error| panic!("{file}: {error}"));
    }

    /// Waits until the kernel has noticed that the links are up: before, it drops what is sent.
    /// The link-local addresses appear after everything else.
    #[track_caller]
    fn await_links(&self) {
        let links = self.nodes().count();
        let ready = || {
            let addresses = fs::read_to_string("/proc/thread-self/net/if_inet6");
            addresses
                .is_ok_and(|all| all.lines().filter(|l| l.starts_with("fe80")).count() == links)
        };
        let ready = self.router.open(|| wait_until(Duration::from_secs(10), ready));
        assert!(ready, "the router's links are not up:\n{}", self.router.shell("ip addr"));
    }
}

impl Node {
    fn client() -> Self {
        let v6 = [0xfc00, 2, 0, 0, 0, 0, 0, 2];
        Self::new("client", [192, 168, 1, 2], v6, 0xc1, PLAIN_MTU)
    }

    fn balancer() -> Self {
        let v6 = [0xfc00, 0x31, 0, 0, 0, 0, 0, 2];
        Self::new("balancer", [172, 31, 0, 2], v6, 0xb1, ENCAPSULATED_MTU)
    }

    fn real(number: u8) -> Self {
        let v6 = [0xfc00, 0, 0, 0, 0, 0, 0, number.into()];
        let name = format!("real{number}");
        Self { routed: true, ..Self::new(&name, [10, 0, 0, number], v6, number, ENCAPSULATED_MTU) }
    }

    fn new(name: &str, v4: [u8; 4], v6: [u16; 8], mac: u8, mtu: u16) -> Self {
        Self {
            name: name.to_owned(),
            ns: NetNs::new(),
            v4: v4.into(),
            v6: v6.into(),
            mac: [2, 0, 0, 0, 0, mac],
            gateway_v4: [v4[0], v4[1], v4[2], 254].into(),
            gateway_v6: [v6[0], v6[1], 0, 0, 0, 0, 0, 0xfe].into(),
            gateway_mac: [2, 0, 0, 0, 0xfe, mac],
            router_interface: format!("to-{name}"),
            mtu,
            routed: false,
        }
    }

    /// How many bits of the IPv4 and of the IPv6 address both ends share.
    fn prefix_lengths(&self) -> (u8, u8) {
        if self.routed { (32, 128) } else { (24, 64) }
    }

    /// The commands that set up its end of the link.
    fn script(&self) -> String {
        let Self { v4, v6, gateway_v4, gateway_v6, .. } = self;
        let (bits_v4, bits_v6) = self.prefix_lengths();
        let mut batch = vec![
            format!("addr add {v4}/{bits_v4} dev {UPLINK}"),
            format!("addr add {v6}/{bits_v6} dev {UPLINK} nodad"),
            format!("link set {UPLINK} up"),
        ];
        if self.routed {
            batch.push(format!("route add {gateway_v4} dev {UPLINK}"));
            batch.push(format!("route add {gateway_v6} dev {UPLINK}"));
        }
        batch.push(format!("route add default via {gateway_v4} mtu {PLAIN_MTU}"));
        batch.push(format!("route add default via {gateway_v6} mtu {PLAIN_MTU}"));
        [ip_batch(&batch), offloads_off(UPLINK)].join("\n")
    }
}

/// The commands that make a real own every VIP, and keep that to itself.
fn own_vips_script() -> String {
    let batch =
        [format!("route add local {VIPS_V4} dev lo"), format!("route add local {VIPS_V6} dev lo")];
    [
        &ip_batch(&batch),
        "echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore",
        "echo 2 >/proc/sys/net/ipv4/conf/all/arp_announce",
        // IPv6 sockets cannot be bound to one of a routed prefix otherwise; IPv4 ones can.
        "echo 1 >/proc/sys/net/ipv6/ip_nonlocal_bind",
    ]
    .join("\n")
}

/// One run of `ip` for many commands.
fn ip_batch(commands: &[String]) -> String {
    format!("ip -batch - <<END\n{}\nEND", commands.join("\n"))
}

/// The command that makes an interface send finished packets: an XDP program at the other end would
/// encapsulate unfinished ones, and nobody computes the inner checksum afterwards.
fn offloads_off(interface: &str) -> String {
    format!("ethtool -K {interface} tx off tso off gso off")
}

/// A MAC address as `ip` reads it.
fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
