//! Packets for the programs of an instance, on a CPU of choice.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;

use l4lb::Protocol;
use l4lb::Vip;
use libbpf_rs::libbpf_sys;
use nix::net::if_::if_nametoindex;
use nix::sched::CpuSet;
use nix::sched::sched_setaffinity;
use nix::unistd::Pid;

use crate::fixtures::Host;
use crate::packets::frame::eth;

/// Room for the outer header.
const HEADROOM: usize = 256;
const XDP_TX: u32 = 3;

/// The frame that opens a flow, or of UDP any.
pub(crate) fn frame(vip: &Vip, client: SocketAddr, port: u16) -> Vec<u8> {
    let frame = eth().ip(client.ip(), vip.address);
    match vip.protocol {
        Protocol::Tcp => frame.tcp(client.port(), port).ack(),
        Protocol::Udp => frame.udp(client.port(), port),
    }
    .bytes()
}

/// What a host's interface runs.
#[derive(Debug)]
pub(crate) struct Injector<'h> {
    host: &'h Host,
    program: OwnedFd,
}

impl<'h> Injector<'h> {
    /// Takes the programs of instance `default`.
    pub(crate) fn new(host: &'h Host) -> Self {
        let pin = host.bpffs.path().join("l4lb/default/prog/root");
        let program = libbpf_rs::Program::fd_from_pinned_path(pin).expect("the pinned program");
        Self { host, program }
    }

    /// Does something on a CPU, with what hands packets to the programs there: it tells the real that each was
    /// sent to.
    pub(crate) fn on<T: Send>(
        &self,
        cpu: u32,
        work: impl FnOnce(&dyn Fn(&[u8]) -> Option<IpAddr>) -> T + Send,
    ) -> T {
        self.host.ns.run(|| {
            let mut only = CpuSet::new();
            only.set(cpu as usize).expect("a CPU");
            sched_setaffinity(Pid::from_raw(0), &only).expect("run on one CPU");
            let ifindex = if_nametoindex("uplink").expect("the interface");
            work(&|frame| self.run(frame, ifindex))
        })
    }

    /// Hands one packet over.
    pub(crate) fn send(&self, cpu: u32, frame: &[u8]) -> Option<IpAddr> {
        self.on(cpu, |send| send(frame))
    }

    #[expect(unsafe_code, reason = "libbpf-rs runs programs of object files only")]
    fn run(&self, frame: &[u8], ifindex: u32) -> Option<IpAddr> {
        let len = u32::try_from(frame.len()).expect("a short frame");
        let context = libbpf_sys::xdp_md {
            data_end: len,
            ingress_ifindex: ifindex,
            ..libbpf_sys::xdp_md::default()
        };
        let mut output = vec![0; frame.len() + HEADROOM];
        let mut opts = libbpf_sys::bpf_test_run_opts {
            sz: size_of::<libbpf_sys::bpf_test_run_opts>() as _,
            data_in: frame.as_ptr().cast(),
            data_size_in: len,
            data_out: output.as_mut_ptr().cast(),
            data_size_out: u32::try_from(output.len()).expect("a short frame"),
            ctx_in: (&raw const context).cast(),
            ctx_size_in: u32::try_from(size_of::<libbpf_sys::xdp_md>()).expect("a small struct"),
            ..libbpf_sys::bpf_test_run_opts::default()
        };
        // SAFETY: all buffers that `opts` names live until the call returns, with the sizes it gives.
        let result =
            unsafe { libbpf_sys::bpf_prog_test_run_opts(self.program.as_raw_fd(), &raw mut opts) };
        assert_eq!(result, 0, "the program runs");
        (opts.retval == XDP_TX).then(|| outer_destination(&output))
    }
}

fn outer_destination(frame: &[u8]) -> IpAddr {
    if frame[12..14] == [8, 0] {
        let octets: [u8; 4] = frame[30..34].try_into().expect("four bytes");
        Ipv4Addr::from(octets).into()
    } else {
        let octets: [u8; 16] = frame[38..54].try_into().expect("sixteen bytes");
        Ipv6Addr::from(octets).into()
    }
}
