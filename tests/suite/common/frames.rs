//! Whole frames: what an interface sends and receives, and sending one.

use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use etherparse::PacketBuilder;
use nix::errno::Errno;
use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sched::CpuSet;
use nix::sched::sched_getcpu;
use nix::sched::sched_setaffinity;
use nix::sys::socket::AddressFamily;
use nix::sys::socket::LinkAddr;
use nix::sys::socket::MsgFlags;
use nix::sys::socket::SockFlag;
use nix::sys::socket::SockType;
use nix::sys::socket::SockaddrLike;
use nix::sys::socket::bind;
use nix::sys::socket::recvfrom;
use nix::sys::socket::send;
use nix::sys::socket::setsockopt;
use nix::sys::socket::socket;
use nix::sys::socket::sockopt;
use nix::unistd::Pid;

use super::Cleanup;
use super::NetNs;
use super::wait_until;

/// The family of packet sockets, in the type that addresses have it in.
#[expect(clippy::cast_possible_truncation, reason = "17")]
const FAMILY: u16 = libc::AF_PACKET as u16;

/// Every frame is to be heard.
#[expect(clippy::cast_possible_truncation, reason = "3")]
const ALL_PROTOCOLS: u16 = libc::ETH_P_ALL as u16;

/// No frame is to be heard.
const NO_PROTOCOL: u16 = 0;

/// Which way a captured frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The interface received it.
    In,
    /// The interface sent it.
    Out,
}

/// A captured frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Which way it went.
    pub(crate) direction: Direction,
    /// All of it from the destination MAC address on.
    pub(crate) bytes: Vec<u8>,
}

/// What an interface sends and receives.
///
/// It hears what the kernel handles, not what an XDP program on the same interface takes or sends:
/// the balancer's frames are seen at the router's end, `to-balancer`.
#[derive(Debug)]
pub(crate) struct Capture {
    socket: OwnedFd,
    frames: Vec<Frame>,
}

impl Capture {
    /// Starts to capture on `interface` of `ns`. The kernel keeps what comes until it is asked for,
    /// some 14,000 frames of full size; it drops what comes after.
    #[track_caller]
    pub(crate) fn start(ns: &NetNs, interface: &str) -> Self {
        let socket = ns.open(|| packet_socket(interface, ALL_PROTOCOLS));
        let socket = socket.unwrap_or_else(|error| panic!("capture on {interface}: {error}"));
        Self { socket, frames: Vec::new() }
    }

    /// Everything captured so far.
    #[track_caller]
    pub(crate) fn frames(&mut self) -> &[Frame] {
        let mut buffer = vec![0; 1 << 16];
        loop {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((length, from)) => {
                    let outgoing = from.is_some_and(|from| from.pkttype() == libc::PACKET_OUTGOING);
                    let direction = if outgoing { Direction::Out } else { Direction::In };
                    self.frames.push(Frame { direction, bytes: buffer[..length].to_vec() });
                }
                Err(Errno::EAGAIN) => return &self.frames,
                Err(error) => panic!("read captured frames: {error}"),
            }
        }
    }

    /// The first frame that `wanted` picks, be it captured already or within two seconds.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, wanted: impl Fn(&Frame) -> bool) -> Frame {
        let mut found = None;
        let _: bool = wait_until(Duration::from_secs(2), || {
            found = self.frames().iter().find(|frame| wanted(frame)).cloned();
            found.is_some()
        });
        found.unwrap_or_else(|| panic!("the frame did not come; these did: {:#?}", self.frames))
    }
}

/// Sends a frame out of `interface` of `ns`, as it is.
#[track_caller]
pub(crate) fn send_frame(ns: &NetNs, interface: &str, frame: &[u8]) {
    let attempt = || -> io::Result<usize> {
        let socket = packet_socket(interface, NO_PROTOCOL)?;
        Ok(send(socket.as_raw_fd(), frame, MsgFlags::empty())?)
    };
    let sent = ns.open(attempt).unwrap_or_else(|error| panic!("send on {interface}: {error}"));
    assert_eq!(sent, frame.len(), "bytes sent on {interface}");
}

/// Frames that go out of an interface all the time, some thousand a second, until it is dropped.
#[derive(Debug)]
pub(crate) struct Steady {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Steady {
    /// Starts to send what `frame` makes of 0, 1, 2 …
    #[track_caller]
    pub(crate) fn start(
        ns: &NetNs,
        interface: &str,
        frame: impl Fn(u32) -> Vec<u8> + Send + 'static,
    ) -> Self {
        let socket = ns.open(|| packet_socket(interface, NO_PROTOCOL));
        let socket = socket.unwrap_or_else(|error| panic!("send on {interface}: {error}"));
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let run = move || {
            for number in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                // What there is no room for is not sent: there is more.
                let _ = send(socket.as_raw_fd(), &frame(number), MsgFlags::empty());
                if number % 10 == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        };
        Self { stop, thread: Some(thread::spawn(run)) }
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let mut cleanup = Cleanup::of("a sender");
        if let Some(thread) = self.thread.take() {
            cleanup.thread("send", thread.join());
        }
        cleanup.finish();
    }
}

/// A packet within a TCP connection to 10.200.1.1:80, from one of many clients, for [`Host`](super::Host).
pub(crate) fn packet_from(client: u32) -> Vec<u8> {
    let [_, b, c, d] = client.to_be_bytes();
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 0xfe], [2, 0, 0, 0, 0, 2])
        .ipv4([10, 100 + b % 100, c, d], [10, 200, 1, 1], 64)
        .tcp(40_000, 80, 1, 1024)
        .ack(1)
        .write(&mut frame, b"?")
        .expect("a frame");
    frame
}

/// Sends so that one CPU handles all of it: the connection table that knows a flow is that of a CPU.
#[track_caller]
pub(crate) fn on_one_cpu(send: impl FnOnce() + Send) {
    let stay_and_send = || {
        let cpu = sched_getcpu().expect("a CPU");
        let mut here = CpuSet::new();
        // Threads inherit where they run.
        here.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &here)).expect("stay");
        send();
    };
    thread::scope(|scope| scope.spawn(stay_and_send).join()).expect("all is sent");
}

/// A packet socket on `interface` of the calling thread's namespace. It never blocks, and has room
/// for 32 MiB of frames.
fn packet_socket(interface: &str, protocol: u16) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    // Without a protocol it hears nothing yet, so nothing of the other interfaces.
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
    setsockopt(&socket, sockopt::RcvBufForce, &(32 << 20))?;
    bind(socket.as_raw_fd(), &link_address(if_nametoindex(interface)?, protocol))?;
    Ok(socket)
}

/// An interface and a protocol, as the address of a packet socket.
fn link_address(interface: u32, protocol: u16) -> LinkAddr {
    let address = libc::sockaddr_ll {
        sll_family: FAMILY,
        sll_protocol: protocol.to_be(),
        sll_ifindex: interface.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    #[expect(unsafe_code, reason = "nix has no other way to make this kind of address")]
    // SAFETY: the pointer is to a whole `sockaddr_ll`, of the family that says so.
    let address = unsafe { LinkAddr::from_raw((&raw const address).cast(), None) };
    address.expect("the family is right")
}
