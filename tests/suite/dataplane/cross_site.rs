//! Two sites: the balancer of one sends packets of a VIP to the balancer of the other.

use std::net::UdpSocket;
use std::time::Duration;

use serde_json::Value;

use crate::fixtures::HttpClient;
use crate::fixtures::Lbctl;
use crate::fixtures::NetNs;
use crate::fixtures::Rig;
use crate::fixtures::UPLINK;
use crate::fixtures::Verdict;
use crate::fixtures::XdpLink;
use crate::fixtures::config;
use crate::fixtures::config_file;
use crate::fixtures::frame::eth;
use crate::fixtures::http_get;
use crate::fixtures::json;
use crate::fixtures::path_of;
use crate::fixtures::reason;
use crate::fixtures::send_frame;
use crate::fixtures::server;
use crate::fixtures::udp_ask;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

/// Where tunnels end: at the balancer of the topology, and at that of the other site.
const HERE: &str = "10.8.1.1";
const THERE: &str = "10.8.2.1";
const THERE6: &str = "fc00:8:2::1";
/// At the other site, for the router.
const BACK: &str = "10.8.2.2";

/// The balancer of the topology sends by GUE.
const IN_GUE: &str = "\n[packets]\nencapsulation = \"gue\"\nencap_source_v4 = \"172.31.0.2\"\n\
                      encap_source_v6 = \"fc00:31::2\"\n";

const SOON: Duration = Duration::from_secs(20);

/// The balancer of the other site, behind the same router.
struct Site<'a> {
    rig: &'a Rig,
    ns: NetNs,
    _pass: XdpLink,
}

impl<'a> Site<'a> {
    fn new(rig: &'a Rig) -> Self {
        let ns = NetNs::new();
        let router = &rig.topology.router;
        router.shell(&format!(
            "ip link add to-site mtu 1600 address 02:00:00:00:fe:b3 type veth \
               peer name {UPLINK} mtu 1600 address 02:00:00:00:00:b3 netns {}
             ip addr add 172.33.0.254/24 dev to-site
             ip addr add fc00:33::fe/64 dev to-site nodad
             ip link set to-site up
             ethtool -K to-site tx off tso off gso off >/dev/null",
            ns.path().display()
        ));
        ns.shell(&format!(
            "ip addr add 172.33.0.2/24 dev {UPLINK}
             ip addr add fc00:33::2/64 dev {UPLINK} nodad
             ip link set {UPLINK} up
             ip route add default via 172.33.0.254
             ip route add default via fc00:33::fe
             ethtool -K {UPLINK} tx off tso off gso off >/dev/null"
        ));
        router.shell(&format!(
            "ip route add {HERE} via 172.31.0.2
             ip route add {THERE} via 172.33.0.2
             ip route add {THERE6} via fc00:33::2
             ip route add {BACK} via 172.33.0.2"
        ));
        let pass = XdpLink::attach(router, "to-site", Verdict::Pass);
        Self { rig, ns, _pass: pass }
    }

    fn lbctl(&self, arguments: &[&str]) -> crate::fixtures::Output {
        let lbctl = Lbctl::new(&self.rig.bpffs).in_ns(&self.ns);
        lbctl.ok(&[["--instance", "site"].as_slice(), arguments].concat())
    }

    fn apply(&self, config: &str) {
        let file = config_file(config);
        self.lbctl(&["apply", "--yes", "-f", path_of(&file)]);
    }

    fn stats(&self) -> Value {
        json(&self.lbctl(&["stats", "--json"]))
    }
}

fn event(stats: &Value, name: &str) -> u64 {
    let count = stats["table"][name].as_u64();
    count.unwrap_or_else(|| panic!("no event {name} in {stats}"))
}

fn ends(rest: &str) -> String {
    let end = |address, from| {
        format!(
            "
[[decapsulate]]
address = \"{address}\"
from = [{from}]
{rest}"
        )
    };
    let ends = [
        end(THERE, "\"172.16.0.0/16\", \"172.31.0.2\""),
        end(THERE6, "\"100::/64\", \"fc00:31::2\""),
    ];
    ends.concat()
}

/// Real HTTP, UDP and downloads, of either family, through two balancers.
#[test]
fn the_other_site_serves_the_vips() {
    const VIPS: [&str; 2] = ["tcp://10.200.1.4:80", "tcp://[fc00:1::6]:80"];
    const DNS: &str = "udp://10.200.1.4:53";
    let rig = Rig::new(1);
    let site = Site::new(&rig);
    let _echo = rig.topology.serve_udp(&[server(DNS)]);
    // Each VIP by an outer header of each family.
    for (first, second, packets) in
        [(THERE, THERE6, IN_GUE), (THERE6, THERE, IN_GUE), (THERE, THERE6, ""), (THERE6, THERE, "")]
    {
        let vips = [vip(VIPS[0], &[first]), vip(VIPS[1], &[second]), vip(DNS, &[first])].concat();
        let here = [packets, &vips].concat();
        rig.lbctl().ok(&["apply", "--yes", "-f", path_of(&config_file(&config(&here)))]);
        let there =
            [vip(VIPS[0], &["10.0.0.1"]), vip(VIPS[1], &["fc00::1"]), vip(DNS, &["fc00::1"])];
        site.apply(&config(&[there.concat(), ends("")].concat()));
        let before = event(&site.stats(), "decapsulated");
        for name in VIPS {
            let answer = http_get(rig.client(), server(name), "/").expect("an answer");
            assert_eq!(answer.real, "real1", "{name}");
            let mut client = HttpClient::connect(rig.client(), server(name)).expect("a connection");
            assert_eq!(client.put(300_000).expect("it arrives").real, "real1", "{name}");
        }
        assert_eq!(udp_ask(rig.client(), server(DNS), "?").expect("an answer"), "real1:?");
        let stats = site.stats();
        assert!(event(&stats, "decapsulated") > before + 400, "{stats}");
        for name in ["decap_source", "decap_checksum", "decap_malformed", "decap_not_vip"] {
            assert_eq!(reason(&stats, name), 0, "{name}");
        }
    }

    // By IP in IP, in the end; the balancer there takes both.
    super::ways::downloads(rig.client(), server(VIPS[0]));

    // A download goes on while the other site learns of further sources.
    let download = rig.download(VIPS[0]);
    let there = [vip(VIPS[0], &["10.0.0.1"]), vip(VIPS[1], &["fc00::1"])].concat();
    let wider = ends("").replace("172.16.0.0/16", "172.16.0.0/15");
    site.apply(&config(&[there.clone(), wider].concat()));
    crate::fixtures::goes_on(&download, "with further sources");
    // Others than the balancer may not send.
    let narrower = ends("").replace("100::/64", "fc00:77::/64");
    site.apply(&config(&[there, narrower].concat()));
    let dropped = || reason(&site.stats(), "decap_source") > 0;
    assert!(wait_until(SOON, dropped), "{}", site.stats());
}

/// Each site sends the packets of a VIP to the other one.
#[test]
fn a_loop_ends_by_the_ttl_and_is_counted() {
    const DNS: &str = "udp://10.200.1.4:53";
    let rig = Rig::new(0);
    let site = Site::new(&rig);
    let end = |address: &str| format!("\n[[decapsulate]]\naddress = \"{address}\"\n");
    rig.lbctl().apply(&config(&[vip(DNS, &[THERE]), end(HERE)].concat()));
    site.apply(&config(&[vip(DNS, &[HERE]), end(THERE)].concat()));
    let client = rig.client().open(|| UdpSocket::bind("0.0.0.0:0")).expect("a socket");
    client.send_to(b"?", server(DNS)).expect("it is sent");
    let stats = || [json(&rig.lbctl().ok(&["stats", "--json"])), site.stats()];
    let expired = || stats().iter().map(|stats| reason(stats, "decap_ttl")).sum::<u64>();
    assert!(wait_until(SOON, || expired() == 1), "{:?}", stats());
    // The router takes one off a TTL of 64, and the last balancer drops what has one left.
    let rounds: u64 = stats().iter().map(|stats| event(stats, "decapsulated")).sum();
    assert_eq!(rounds, 62);
    // It stays the only one: nothing comes back from the kernels.
    client.send_to(b"!", server(DNS)).expect("it is sent");
    assert!(wait_until(SOON, || expired() == 2), "{:?}", stats());
    let rounds: u64 = stats().iter().map(|stats| event(stats, "decapsulated")).sum();
    assert_eq!(rounds, 124);

    // A flood of them is found.
    let flood = || {
        for _ in 0..30 {
            let _ = client.send_to(b"?", server(DNS));
        }
    };
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                flood();
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let is_told = || {
            // Behind an even number of hops, the packets end there.
            let output = site.lbctl(&["status"]).stdout;
            output.contains("perhaps two sites send them to one another")
        };
        let told = wait_until(SOON, is_told);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(told, "{}", site.lbctl(&["status"]));
    });
}

/// A real answers by way of a balancer that decapsulates for the router.
#[test]
fn answers_go_back_by_the_router() {
    let rig = Rig::new(1);
    let site = Site::new(&rig);
    let end = format!(
        "\n[[decapsulate]]\naddress = \"{BACK}\"\nthen = \"router\"\nfrom = [\"10.0.0.0/24\"]\n"
    );
    site.apply(&config(&end));
    let client = rig.client().open(|| UdpSocket::bind("192.168.1.2:0")).expect("a socket");
    client.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    let port = client.local_addr().expect("an address").port();
    let real = &rig.topology.reals[0];
    let answer = eth().ip4("10.200.1.4", "192.168.1.2").udp(53, port).data(b"answer");
    let sent = eth()
        .ip4("10.0.0.1", BACK)
        .raw(4)
        .carrying(&answer)
        .macs(real.mac, real.gateway_mac)
        .bytes();
    let mut buffer = [0; 64];
    let came = wait_until(SOON, || {
        send_frame(&real.ns, UPLINK, &sent);
        client.recv_from(&mut buffer).is_ok()
    });
    assert!(came, "{}", site.stats());
    assert_eq!(&buffer[..6], b"answer");
    assert!(reason(&site.stats(), "to_router") > 0);
}
