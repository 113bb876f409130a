//! The program for health checks and the balancer make the same bytes of the same packet.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;

use libbpf_rs::libbpf_sys;
use nix::net::if_::if_nametoindex;

use super::FIRST_MARK;
use super::ensure;
use super::marks;
use super::program;
use crate::fixtures::Host;
use crate::fixtures::UPLINK;
use crate::fixtures::frame::BALANCER;
use crate::fixtures::frame::Frame;
use crate::fixtures::frame::eth;
use crate::fixtures::vip;

/// Room for the outer header.
const HEADROOM: usize = 256;

const XDP_TX: u32 = 3;
/// `TC_ACT_UNSPEC`: on to the next program.
const NEXT: u32 = u32::MAX;
/// `TC_ACT_SHOT`
const SHOT: u32 = 2;

/// VIPs, and the one real of each: all four combinations.
const VIPS: [(&str, &str); 4] = [
    ("10.200.1.1", "10.0.0.1"),
    ("10.200.1.2", "fc00::1"),
    ("fc00:1::1", "10.0.0.1"),
    ("fc00:1::2", "fc00::1"),
];

/// A host with a route to the VIPs and a balancer that has them, for TCP and UDP.
struct Both {
    host: Host,
    balancer: OwnedFd,
    healthcheck: OwnedFd,
    ifindex: u32,
}

impl Both {
    /// Sets it up, with further keys of the configuration.
    #[track_caller]
    fn new(more: &str) -> Self {
        let host = Host::new();
        let of = |(address, real): (&str, &str)| {
            let at = SocketAddr::new(address.parse().expect("an address"), 80);
            [vip(&format!("tcp://{at}"), &[real]), vip(&format!("udp://{at}"), &[real])].concat()
        };
        let vips: Vec<_> = VIPS.into_iter().map(of).collect();
        host.lbctl().apply(&Host::config(&format!("{more}\n{}", vips.concat())));
        host.ns.shell(
            "ip route add 10.200.0.0/16 via 172.31.0.254; ip route add fc00:1::/64 via fc00:31::fe",
        );
        Self::of(host, &VIPS.map(|(address, _)| address.parse().expect("an address")))
    }

    /// Of a host that has these VIPs, and a route to them.
    #[track_caller]
    fn of(host: Host, addresses: &[IpAddr]) -> Self {
        let path = ensure(&host.bpffs, &host.ns, addresses);
        assert_eq!(path.obstacles, [].into());
        let root = host.bpffs.path().join("l4lb/default/prog/root");
        let balancer = libbpf_rs::Program::fd_from_pinned_path(root).expect("the pinned program");
        let healthcheck = program(&host.bpffs).expect("it is attached");
        let ifindex = host.ns.open(|| if_nametoindex("uplink")).expect("the interface");
        Self { host, balancer, healthcheck, ifindex }
    }

    /// What the balancer sends of a frame.
    fn balancer(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let context = libbpf_sys::xdp_md {
            data_end: u32::try_from(frame.len()).expect("a short frame"),
            ingress_ifindex: self.ifindex,
            ..libbpf_sys::xdp_md::default()
        };
        let (verdict, sent) = self.run(&self.balancer, frame, &context);
        (verdict == XDP_TX).then_some(sent)
    }

    /// What the program for health checks does with a frame that has this mark.
    fn healthcheck(&self, frame: &[u8], mark: u32) -> (u32, Vec<u8>) {
        // The first members of struct __sk_buff, as linux/bpf.h has them.
        let mut context = [0_u32; 11];
        (context[2], context[10]) = (mark, self.ifindex);
        self.run(&self.healthcheck, frame, &context)
    }

    #[expect(unsafe_code, reason = "libbpf-rs runs programs of object files only")]
    fn run<C: Sync>(&self, program: &OwnedFd, frame: &[u8], context: &C) -> (u32, Vec<u8>) {
        let mut output = vec![0; frame.len() + HEADROOM];
        let run = || {
            let mut opts = libbpf_sys::bpf_test_run_opts {
                sz: size_of::<libbpf_sys::bpf_test_run_opts>() as _,
                data_in: frame.as_ptr().cast(),
                data_size_in: u32::try_from(frame.len()).expect("a short frame"),
                data_out: output.as_mut_ptr().cast(),
                data_size_out: u32::try_from(output.len()).expect("a short frame"),
                ctx_in: std::ptr::from_ref(context).cast(),
                ctx_size_in: u32::try_from(size_of::<C>()).expect("a small struct"),
                ..libbpf_sys::bpf_test_run_opts::default()
            };
            // SAFETY: all buffers that `opts` names live until the call returns, with the sizes it gives.
            let done =
                unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut opts) };
            assert_eq!(done, 0, "the program runs");
            (opts.retval, opts.data_size_out as usize)
        };
        let (verdict, length) = self.host.ns.open(run);
        output.truncate(length);
        (verdict, output)
    }

    fn mark(&self, real: &str) -> u32 {
        marks(&self.host.bpffs)[&real.parse::<IpAddr>().expect("an address")]
    }
}

/// GUE for all VIPs, with a further key of `[packets]`.
fn by_gue(key: &str) -> String {
    format!(
        "[packets]\nencapsulation = \"gue\"\nencap_source_v4 = \"172.31.0.2\"\nencap_source_v6 = \"fc00:31::2\"\n{key}\n"
    )
}

/// A frame as this host would send it, which it can also be sent by itself: both MACs are its own.
fn frame(from: &str, to: &str) -> Frame {
    eth().macs(BALANCER, BALANCER).ip(address(from), address(to))
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The host's address of a VIP's family.
fn source(vip: &str) -> &'static str {
    if vip.contains(':') { "fc00:31::2" } else { "172.31.0.2" }
}

#[test]
fn the_bytes_are_the_balancers() {
    for more in [
        "",
        "[packets]\nouter_df = true\n",
        "[packets]\nencap_source_v4 = \"172.16.0.0/24\"\nencap_source_v6 = \"2001:db8::/112\"\n",
        &by_gue("outer_df = true"),
        &by_gue("gue_variant = 0"),
        &by_gue("gue_port = 9886"),
    ] {
        let both = Both::new(more);
        for (vip, real) in VIPS {
            let mark = both.mark(real);
            for (port, class, length) in
                [(40_000, 0, 0), (40_001, 0x2e << 2, 1), (61_000, 1, 512), (7, 0xff, 1_300)]
            {
                let data = vec![0x5a; length];
                for frame in [
                    frame(source(vip), vip).class(class).tcp(port, 80).syn().data(&data),
                    frame(source(vip), vip).class(class).tcp(port, 80).ack().data(&data),
                    frame(source(vip), vip).class(class).udp(port, 80).data(&data),
                ] {
                    let bytes = frame.bytes();
                    let wanted = both.balancer(&bytes).expect("the balancer sends it");
                    let (verdict, sent) = both.healthcheck(&bytes, mark);
                    assert_eq!(verdict, NEXT, "{more}: {vip}, {port}: {length} bytes");
                    assert_eq!(sent, wanted, "{more}: {vip}, {port}: {length} bytes");
                    assert!(sent.len() > bytes.len());
                }
            }
        }
    }
}

/// Without a checksum, which sockets of UDP may leave out, and with one that no sum of a pseudo-header has.
#[test]
fn a_datagram_without_a_checksum_goes_by_gue_over_ipv4_only() {
    let both = Both::new(&by_gue(""));
    for (vip, real) in VIPS {
        let place = if vip.contains(':') { 46 } else { 26 };
        let bytes = frame(source(vip), vip).udp(40_000, 80).patch_ip(place, &[0, 0]).bytes();
        let (verdict, sent) = both.healthcheck(&bytes, both.mark(real));
        if real.contains(':') {
            assert_eq!(verdict, SHOT, "{vip}");
        } else {
            let wanted = both.balancer(&bytes).expect("the balancer sends it");
            assert_eq!((verdict, sent), (NEXT, wanted), "{vip}");
        }
    }
}

/// To the real's own MAC, and otherwise as it is.
#[test]
fn a_real_on_the_network_gets_the_frame_itself() {
    let host = Host::new();
    host.ns.shell(&format!(
        "ip neigh replace 172.31.0.77 lladdr 02:00:00:00:00:77 dev {UPLINK} nud permanent
         ip route add 10.200.0.0/16 via 172.31.0.254"
    ));
    let vip = vip("tcp://10.200.1.1:80", &["172.31.0.77"]) + "encapsulation = \"l2\"\n";
    host.lbctl().apply(&Host::config(&vip));
    let both = Both::of(host, &["10.200.1.1".parse().expect("an address")]);
    let mark = both.mark("172.31.0.77");
    let mac = [2, 0, 0, 0, 0, 0x77];
    // Port 81 is no VIP's: the way is that of the address's first one.
    for port in [80, 81] {
        let syn = frame("172.31.0.2", "10.200.1.1").tcp(40_000, port).syn().filled_to(1600);
        let wanted = syn.clone().macs(BALANCER, mac).bytes();
        assert_eq!(both.healthcheck(&syn.bytes(), mark), (NEXT, wanted), "{port}");
    }
    both.host.ns.shell(&format!("ip neigh del 172.31.0.77 dev {UPLINK}"));
}

#[test]
fn packets_without_such_a_mark_stay_as_they_are() {
    let both = Both::new("");
    let (vip, real) = VIPS[0];
    let bytes = frame(source(vip), vip).tcp(40_000, 80).syn().bytes();
    let mark = both.mark(real);
    // The last mark is that of the last id.
    for other in [0, 1, FIRST_MARK - 1, FIRST_MARK + 3 * 4096, mark ^ 1 << 31] {
        assert_eq!(both.healthcheck(&bytes, other), (NEXT, bytes.clone()), "{other:#x}");
    }
    // A mark of ours on a packet to somebody else, by whomever it is.
    let other = frame(source(vip), "10.201.1.1").tcp(40_000, 80).syn().bytes();
    assert_eq!(both.healthcheck(&other, mark), (NEXT, other.clone()));
    let arp = eth().macs(BALANCER, [0xff; 6]).ether_type(0x0806).data(&[0; 28]).bytes();
    assert_eq!(both.healthcheck(&arp, mark), (NEXT, arp.clone()));
}

#[test]
fn what_cannot_be_sent_is_dropped() {
    let both = Both::new("[packets]\nmax_frame = 1514\n");
    let (vip, real) = VIPS[0];
    let mark = both.mark(real);
    let to = || frame(source(vip), vip);
    let longest = to().udp(40_000, 80).filled_to(1514);
    assert_eq!(both.healthcheck(&longest.bytes(), mark).0, NEXT);
    let verdict = |frame: &Frame, mark| both.healthcheck(&frame.bytes(), mark).0;
    assert_eq!(verdict(&to().udp(40_000, 80).filled_to(1515), mark), SHOT, "too long");
    assert_eq!(verdict(&to().udp(40_000, 80).fragment(0, true), mark), SHOT, "a fragment");
    assert_eq!(verdict(&to().ping(1, 1), mark), SHOT, "a ping");
    let syn = to().tcp(40_000, 80).syn();
    assert_eq!(verdict(&syn, FIRST_MARK), SHOT, "no real has id 0");
    assert_eq!(verdict(&syn, FIRST_MARK + 3 * 4096 - 1), SHOT, "no real has the last id");
    assert_eq!(verdict(&syn, mark), NEXT);
}

/// What the kernel sends for a flow whose socket is gone has no mark.
#[test]
fn what_no_socket_sends_follows_the_flow_of_a_check() {
    let both = Both::new("");
    for (vip, real) in VIPS {
        let mark = both.mark(real);
        let to = |port| frame(source(vip), vip).tcp(port, 80);
        let is_left = |frame: &Frame, when: &str| {
            let bytes = frame.bytes();
            assert_eq!(both.healthcheck(&bytes, 0), (NEXT, bytes), "{vip}: {when}");
        };
        let is_sent = |frame: &Frame, when: &str| {
            let bytes = frame.bytes();
            let wanted = both.balancer(&bytes).expect("the balancer sends it");
            assert_eq!(both.healthcheck(&bytes, 0), (NEXT, wanted), "{vip}: {when}");
        };
        is_left(&to(4000).rst(), "nobody has checked");
        assert_eq!(both.healthcheck(&to(4000).syn().bytes(), mark).0, NEXT);
        is_sent(&to(4000).rst(), "the RST of a check's flow");
        is_sent(&to(4000).rst().ack(), "once more");
        is_left(&to(4001).rst(), "another flow");
        is_left(&to(4000).ack(), "a segment of a socket without a mark");
        is_left(&to(4000).syn().ack(), "no client's SYN");
        is_left(&to(4000).rst().fragment(0, true), "a fragment");
        is_left(&to(4000).syn(), "another connection from the same port");
        is_left(&to(4000).rst(), "its RST");

        // "Port unreachable" and all that quotes the answer of a flow.
        let answer =
            |port| eth().ip(address(vip), address(source(vip))).udp(80, port).data(b"late");
        let (kind, code) = if vip.contains(':') { (1, 4) } else { (3, 3) };
        let error = |port| {
            let error = frame(source(vip), vip).icmp(kind, code, [0; 4]);
            error.carrying(&answer(port))
        };
        is_left(&error(4000), "nobody has checked by UDP");
        let check = frame(source(vip), vip).udp(4000, 80).data(b"check");
        assert_eq!(both.healthcheck(&check.bytes(), mark).0, NEXT);
        is_sent(&error(4000), "an ICMP error about a check's flow");
        is_left(&error(4001), "about another");
        is_left(&frame(source(vip), vip).ping(4000, 80), "a ping");
        is_left(&check, "a datagram of a socket without a mark");
    }
}
