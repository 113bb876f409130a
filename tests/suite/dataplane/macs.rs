//! Frames to other hosts: two balancers behind a switch that floods; broadcast and multicast.

use std::time::Duration;

use crate::fixtures::Bpffs;
use crate::fixtures::Capture;
use crate::fixtures::Direction;
use crate::fixtures::Frame;
use crate::fixtures::Lbctl;
use crate::fixtures::NetNs;
use crate::fixtures::Verdict;
use crate::fixtures::XdpLink;
use crate::fixtures::frame::eth;
use crate::fixtures::json;
use crate::fixtures::reason;
use crate::fixtures::send_frame;
use crate::fixtures::vip;
use crate::fixtures::wait_until;

const VIP: &str = "tcp://10.200.1.1:80";
const SOON: Duration = Duration::from_secs(10);

const FIRST: [u8; 6] = [2, 0, 0, 0, 0, 0xb1];
const SECOND: [u8; 6] = [2, 0, 0, 0, 0, 0xb2];
const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];

/// A router and two balancers, each in a namespace of its own, at a switch that knows no MAC.
struct Segment {
    bpffs: [Bpffs; 2],
    switch: NetNs,
    router: NetNs,
    balancers: [NetNs; 2],
    /// What native XDP on a veth needs at the other end.
    _passes: Vec<XdpLink>,
}

impl Segment {
    #[track_caller]
    fn new() -> Self {
        let (switch, router) = (NetNs::new(), NetNs::new());
        let balancers = [NetNs::new(), NetNs::new()];
        let hosts = [
            ("router", "fe", &router),
            ("first", "b1", &balancers[0]),
            ("second", "b2", &balancers[1]),
        ];
        // Nothing but what the test sends is to be seen.
        switch.shell(
            "sysctl -qw net.ipv6.conf.default.disable_ipv6=1
             ip link add switch mtu 1600 type bridge ageing_time 0 mcast_snooping 0
             ip link set switch arp off up",
        );
        for (name, mac, host) in hosts {
            host.shell("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
            switch.shell(&format!(
                "ip link add {name} mtu 1600 type veth \
                   peer name uplink mtu 1600 address 02:00:00:00:00:{mac} netns {}
                 ip link set {name} master switch up",
                host.path().display()
            ));
            host.shell("ip link set uplink arp off up");
        }
        let pass = |name| XdpLink::attach(&switch, name, Verdict::Pass);
        let passes = ["first", "second"].map(pass).into();
        let segment = Self {
            bpffs: [Bpffs::new(), Bpffs::new()],
            switch,
            router,
            balancers,
            _passes: passes,
        };
        // The router's MAC is the gateway's.
        let config = format!(
            "[[interfaces]]\nname = \"uplink\"\nxdp_mode = \"native\"\ngateway_mac = \"02:00:00:00:00:fe\"\n\n\
             [connection_table]\nentries = 20000\n{}",
            vip(VIP, &["10.0.0.1"])
        );
        for lbctl in segment.lbctls() {
            lbctl.apply(&config);
        }
        segment.await_ports();
        segment
    }

    fn lbctls(&self) -> [Lbctl<'_>; 2] {
        [0, 1].map(|at| Lbctl::new(&self.bpffs[at]).in_ns(&self.balancers[at]))
    }

    /// How many packets ended for a reason at each.
    #[track_caller]
    fn reasons(&self, name: &str) -> [u64; 2] {
        self.lbctls().map(|lbctl| reason(&json(&lbctl.ok(&["stats", "--json"])), name))
    }

    /// Until the switch forwards at all of its ports.
    #[track_caller]
    fn await_ports(&self) {
        let stray = eth().macs(ROUTER, [2, 0, 0, 0, 0, 0x99]).ip4("192.0.2.1", "192.0.2.2").raw(59);
        let reached = || {
            send_frame(&self.router, "uplink", &stray.bytes());
            self.reasons("other_protocol").iter().all(|packets| *packets > 0)
        };
        assert!(wait_until(SOON, reached), "{}", self.switch.shell("bridge link"));
    }

    /// Sends a frame that ends for these reasons at the balancers, and returns the answers that reach the router:
    /// so many are to come, and no more.
    #[track_caller]
    fn exchange(&self, frame: &[u8], ends: [&str; 2], answers: usize) -> Vec<Frame> {
        let counts = || [0, 1].map(|at| self.reasons(ends[at])[at]);
        let wanted = counts().map(|count| count + 1);
        let mut capture = Capture::start(&self.router, "uplink");
        send_frame(&self.router, "uplink", frame);
        assert!(
            wait_until(SOON, || counts() == wanted),
            "{ends:?}: {:?}, not {wanted:?}",
            counts()
        );
        // What else is sent comes before these.
        let last = eth().macs([2, 0, 0, 0, 0, 0xee], ROUTER).ip4("192.0.2.1", "192.0.2.3").raw(59);
        let last = last.bytes();
        for balancer in &self.balancers {
            send_frame(balancer, "uplink", &last);
        }
        let came = |frame: &&Frame| frame.direction == Direction::In;
        let done = wait_until(SOON, || {
            let frames: Vec<_> = capture.frames().iter().filter(came).collect();
            let lasts = frames.iter().filter(|frame| frame.bytes == last).count();
            lasts == 2 && frames.len() >= lasts + answers
        });
        let frames: Vec<_> = capture.frames().iter().filter(came).cloned().collect();
        let sent: Vec<_> = frames.into_iter().filter(|frame| frame.bytes != last).collect();
        assert!(done && sent.len() == answers, "{ends:?}: not {answers}, but {sent:#?}");
        sent
    }
}

#[test]
fn one_of_two_balancers_behind_a_flooding_switch_answers() {
    let segment = Segment::new();
    let syn = |mac| eth().macs(ROUTER, mac).ip4("192.0.2.1", "10.200.1.1").tcp(1024, 80).syn();
    let ping = |mac| eth().macs(ROUTER, mac).ip4("192.0.2.1", "10.200.1.1").ping(1, 1);

    for (mac, at) in [(FIRST, 0), (SECOND, 1)] {
        for (frame, end) in [(syn(mac), "ring"), (ping(mac), "echo_reply")] {
            let mut ends = ["other_mac"; 2];
            ends[at] = end;
            // By the one that was asked, and with its MAC.
            let answer = &segment.exchange(&frame.bytes(), ends, 1)[0];
            assert_eq!(answer.bytes[..12], [ROUTER, mac].concat(), "{end}");
        }
    }
    // For neither, and for everybody.
    for mac in [[2, 0, 0, 0, 0, 0xb3], [0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
        for frame in [syn(mac), ping(mac)] {
            segment.exchange(&frame.bytes(), ["other_mac"; 2], 0);
        }
    }
    // Two hosts with the same further MAC: whom the switch reaches, answers.
    for lbctl in segment.lbctls() {
        let saved = lbctl.ok(&["save"]).stdout;
        let shared =
            saved.replacen("gateway_mac", "macs = [\"00:00:5e:00:01:33\"]\ngateway_mac", 1);
        lbctl.apply(&shared);
    }
    segment.exchange(&syn([0, 0, 0x5e, 0, 1, 0x33]).bytes(), ["ring"; 2], 2);
}
