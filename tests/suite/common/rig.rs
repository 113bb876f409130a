//! A topology with everything in place but the balancer's configuration.

use std::net::SocketAddr;
use std::time::Duration;

use l4lb::Vip;
use serde_json::Value;

use super::Bpffs;
use super::Capture;
use super::Direction;
use super::Download;
use super::Frame;
use super::HttpClient;
use super::HttpServer;
use super::Lbctl;
use super::NetNs;
use super::Output;
use super::Topology;
use super::UPLINK;
use super::wait_until;

/// How long something that goes on may pause. TCP retransmits within a second, but on a busy machine servers and
/// clients have their turn late. Only who fails waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A [`Topology`] whose reals decapsulate and serve HTTP on port 80.
#[derive(Debug)]
pub(crate) struct Rig {
    /// Where everybody pins: the balancer as instance `default`, real1 as instance `real1` …
    pub(crate) bpffs: Bpffs,
    /// The web servers, one on each real.
    pub(crate) servers: Vec<HttpServer>,
    /// The network.
    pub(crate) topology: Topology,
}

impl Rig {
    /// Sets it up; programs run in native mode, which veth has.
    #[track_caller]
    pub(crate) fn new(reals: u8) -> Self {
        Self::in_mode(reals, "native")
    }

    /// The same, with decapsulation in `mode`.
    #[track_caller]
    pub(crate) fn in_mode(reals: u8, mode: &str) -> Self {
        let bpffs = Bpffs::new();
        let topology = Topology::new(reals);
        let attach = |real: &super::Node| {
            let arguments =
                ["--instance", &real.name, "decap", "attach", UPLINK, "--xdp-mode", mode];
            Lbctl::new(&bpffs).in_ns(&real.ns).spawn(&arguments)
        };
        let attaching: Vec<_> = topology.reals.iter().map(attach).collect();
        for attach in attaching {
            let output = attach.wait(PATIENCE);
            assert_eq!(output.code(), Some(0), "decap attach: {output}");
        }
        Self { servers: topology.serve_http(80), bpffs, topology }
    }

    /// `lbctl` on the balancer.
    pub(crate) fn lbctl(&self) -> Lbctl<'_> {
        Lbctl::new(&self.bpffs).in_ns(&self.topology.balancer.ns)
    }

    /// Where clients run.
    pub(crate) fn client(&self) -> &NetNs {
        &self.topology.client.ns
    }

    /// Starts a download by way of a VIP that never ends by itself.
    #[track_caller]
    pub(crate) fn download(&self, vip: &str) -> Download {
        let client = HttpClient::connect(self.client(), server(vip)).expect("the VIP answers");
        client.download(1 << 30, Some(400_000)).expect("the download begins")
    }

    /// How many packets ended for a reason.
    #[track_caller]
    pub(crate) fn reason(&self, name: &str) -> u64 {
        reason(&json(&self.lbctl().ok(&["stats", "--json"])), name)
    }
}

/// How many packets ended for a reason, in what `lbctl stats --json` printed.
#[track_caller]
pub(crate) fn reason(stats: &Value, name: &str) -> u64 {
    let reasons = stats["reasons"].as_array().expect("stats has reasons");
    let found = reasons.iter().find(|reason| reason["reason"] == name);
    let found = found.unwrap_or_else(|| panic!("no reason {name} in {stats}"));
    found["packets"].as_u64().expect("packets is a number")
}

/// Fails the test unless more of the download comes.
#[track_caller]
pub(crate) fn goes_on(download: &Download, when: &str) {
    let so_far = download.progress();
    let more = wait_until(PATIENCE, || download.progress() > so_far);
    assert!(more, "{when}: the download from {} stops at byte {so_far}", download.real());
}

/// What `lbctl --json` printed.
#[track_caller]
pub(crate) fn json(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"))
}

/// Where clients of a VIP such as `tcp://10.200.1.1:80` connect.
#[track_caller]
pub(crate) fn server(vip: &str) -> SocketAddr {
    let vip: Vip = vip.parse().expect("a VIP");
    SocketAddr::new(vip.address, vip.port)
}

/// A configuration for [`UPLINK`], in native mode, with small connection tables: `more` are its VIPs, and may
/// begin with further keys of `[connection_table]`.
pub(crate) fn config(more: &str) -> String {
    config_in_mode("native", more)
}

/// The same, in another mode.
pub(crate) fn config_in_mode(xdp_mode: &str, more: &str) -> String {
    format!(
        "[[interfaces]]\nname = \"{UPLINK}\"\nxdp_mode = \"{xdp_mode}\"\n\n[connection_table]\nentries = 20000\n{more}"
    )
}

/// A `[[vips]]` of a configuration. Each real is an address, and behind a comma what else it has:
/// `10.0.0.1, weight = 2`.
#[track_caller]
pub(crate) fn vip(vip: &str, reals: &[&str]) -> String {
    let Vip { address, port, protocol } = vip.parse().expect("a VIP");
    let real = |real: &&str| {
        let (address, more) = real.split_at(real.find(',').unwrap_or(real.len()));
        format!("{{ address = \"{address}\"{more} }}")
    };
    let reals: Vec<_> = reals.iter().map(real).collect();
    format!(
        "\n[[vips]]\naddress = \"{address}\"\nport = {port}\nprotocol = \"{protocol}\"\nreals = [{}]\n",
        reals.join(", ")
    )
}

/// Sees the packets for VIPs that the balancer's programs let pass to the kernel: there should be none.
#[derive(Debug)]
pub(crate) struct Leaks(Capture);

impl Leaks {
    /// Starts to look.
    #[track_caller]
    pub(crate) fn watch(rig: &Rig) -> Self {
        Self(Capture::start(&rig.topology.balancer.ns, UPLINK))
    }

    /// How many there were so far.
    #[track_caller]
    pub(crate) fn count(&mut self) -> usize {
        let for_vip = |frame: &&Frame| {
            let bytes = &frame.bytes;
            let v4 = bytes.get(12..14) == Some(&[8, 0]) && bytes.get(30..32) == Some(&[10, 200]);
            let v6 = bytes.get(12..14) == Some(&[0x86, 0xdd])
                && bytes.get(38..46) == Some(&[0xfc, 0, 0, 1, 0, 0, 0, 0]);
            frame.direction == Direction::In && (v4 || v6)
        };
        self.0.frames().iter().filter(for_vip).count()
    }
}

/// A host with one interface, [`UPLINK`], for what needs no traffic: at the other end nobody listens, and nobody
/// speaks, or the programs on it would count what was not sent by the test.
#[derive(Debug)]
pub(crate) struct Host {
    /// Where it pins.
    pub(crate) bpffs: Bpffs,
    /// The host.
    pub(crate) ns: NetNs,
}

impl Host {
    /// The `[[interfaces]]` of a configuration for it.
    pub(crate) const INTERFACE: &str = "[[interfaces]]\nname = \"uplink\"\nxdp_mode = \"native\"\ngateway_mac = \"02:00:00:00:00:fe\"\n";

    /// Sets it up.
    #[track_caller]
    pub(crate) fn new() -> Self {
        let ns = NetNs::new();
        ns.shell(
            "ip link add uplink mtu 1600 address 02:00:00:00:00:02 type veth peer name nobody mtu 1600
             ip addr add 172.31.0.2/24 dev uplink
             ip addr add fc00:31::2/64 dev uplink nodad
             sysctl -qw net.ipv6.conf.nobody.disable_ipv6=1
             ip link set nobody arp off
             ip link set uplink up
             ip link set nobody up
             ethtool -K nobody tx off >/dev/null",
        );
        Self { bpffs: Bpffs::new(), ns }
    }

    /// `lbctl` on it.
    pub(crate) fn lbctl(&self) -> Lbctl<'_> {
        Lbctl::new(&self.bpffs).in_ns(&self.ns)
    }

    /// A configuration for it with small connection tables: `more` are its VIPs, and may begin with further
    /// keys of `[connection_table]`.
    pub(crate) fn config(more: &str) -> String {
        format!("{}\n[connection_table]\nentries = 20000\n{more}", Self::INTERFACE)
    }

    /// Whether an instance has anything pinned.
    pub(crate) fn has_pins(&self, instance: &str) -> bool {
        self.bpffs.path().join("l4lb").join(instance).exists()
    }

    /// Whether an XDP program is on an interface.
    #[track_caller]
    pub(crate) fn has_xdp(&self, interface: &str) -> bool {
        self.ns.shell(&format!("ip link show {interface}")).contains("xdp")
    }
}
