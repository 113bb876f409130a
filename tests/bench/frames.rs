//! The frames of the paths, and the fields that differ from flow to flow.

use std::net::IpAddr;

use crate::fixtures::frame::Frame;
use crate::fixtures::frame::eth;
use crate::programs::Flows;

/// The VIPs that the frames are for. All have port 80.
pub(crate) const VIP4: &str = "10.200.1.1";
/// Without connection table.
pub(crate) const STATELESS_VIP4: &str = "10.200.1.9";
pub(crate) const VIP6: &str = "fc00:1::1";
/// With reals of the other IP version.
pub(crate) const VIP4_TO_6: &str = "10.200.1.6";
pub(crate) const VIP6_TO_4: &str = "fc00:1::4";
pub(crate) const PORT: u16 = 80;

const CLIENT4: &str = "192.168.1.2";
const CLIENT6: &str = "fc00:2::2";
const ROUTER4: &str = "192.168.1.254";
/// An address for documentation (RFC 5737), which is no VIP.
const ELSEWHERE4: &str = "192.0.2.80";

const CLIENT_PORT: u16 = 31337;

/// As in traffic.h: the fields that may change lie within so many 8-byte words.
const WORDS: usize = 9;

const ETHERNET: u32 = 14;
const IP4: u32 = 20;
const IP6: u32 = 40;
const ICMP: u32 = 8;
/// Where the padding of an echo request begins, at a word.
const BEHIND_ECHO: u32 = (ETHERNET + IP4 + ICMP).next_multiple_of(8);

/// What kind of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp4Ack,
    Tcp4Syn,
    Tcp4Stateless,
    Udp4,
    Tcp6Ack,
    Tcp6Syn,
    /// To IPv6 reals.
    Tcp4To6Ack,
    /// To IPv4 reals.
    Tcp6To4Ack,
    /// An echo request.
    Echo4,
    /// "Host unreachable", quoting a packet from [`VIP4`].
    Error4,
    /// For no VIP.
    Elsewhere4,
}

/// A frame, and what a program does to it.
#[derive(Clone, Debug)]
pub(crate) struct Packets {
    pub(crate) frame: Vec<u8>,
    /// How many 8-byte words at the front of the frame the balancer changes, beside the header that it adds.
    restore: u32,
    address_at: u32,
    port_at: u32,
}

impl Kind {
    /// The frames of this kind, the shortest that serve.
    pub(crate) fn packets(self) -> Packets {
        let tcp4 = |vip| eth().ip4(CLIENT4, vip).tcp(CLIENT_PORT, PORT);
        let tcp6 = |vip| eth().ip6(CLIENT6, vip).tcp(CLIENT_PORT, PORT);
        let frame: Frame = match self {
            Self::Tcp4Ack => tcp4(VIP4),
            Self::Tcp4Syn => tcp4(VIP4).syn(),
            Self::Tcp4Stateless => tcp4(STATELESS_VIP4),
            Self::Udp4 => eth().ip4(CLIENT4, VIP4).udp(CLIENT_PORT, PORT),
            Self::Tcp6Ack => tcp6(VIP6),
            Self::Tcp6Syn => tcp6(VIP6).syn(),
            Self::Tcp4To6Ack => tcp4(VIP4_TO_6),
            Self::Tcp6To4Ack => tcp6(VIP6_TO_4),
            Self::Echo4 => eth().ip4(CLIENT4, VIP4).ping(1, 1),
            Self::Error4 => {
                let quoted = eth().ip4(VIP4, CLIENT4).tcp(PORT, CLIENT_PORT);
                eth().ip4(ROUTER4, VIP4).icmp(3, 1, [0; 4]).carrying(&quoted)
            }
            Self::Elsewhere4 => tcp4(ELSEWHERE4),
        };
        let mut bytes = frame.bytes();
        if self == Self::Echo4 {
            // No checksum covers this padding, so the flow's number can be written there.
            bytes.resize(WORDS * 8, 0);
        } else if bytes.len() < WORDS * 8 {
            bytes = frame.filled_to(WORDS * 8).bytes();
        }
        let v6 = bytes[12..14] == [0x86, 0xdd];
        let (address_at, port_at) = match self {
            // The quoted packet's destination.
            Self::Error4 => {
                let quoted = ETHERNET + IP4 + ICMP;
                (quoted + 16, quoted + IP4 + 2)
            }
            // All requests have one source, and the balancer looks at checksums: the number goes behind the packet.
            Self::Echo4 => (BEHIND_ECHO, BEHIND_ECHO + 4),
            _ if v6 => (ETHERNET + 8 + 12, ETHERNET + IP6),
            _ => (ETHERNET + 12, ETHERNET + IP4),
        };
        let restore = match self {
            Self::Elsewhere4 => 0,
            // The balancer turns the request itself into the reply.
            Self::Echo4 => (ETHERNET + IP4 + ICMP).div_ceil(8),
            // The outer header lies where the Ethernet header was.
            _ => ETHERNET.div_ceil(8),
        };
        Packets { frame: bytes, restore, address_at, port_at }
    }
}

impl Packets {
    /// The same, for a way to the real on which the balancer changes the TTL.
    pub(crate) fn with_ttl(self) -> Self {
        // Of IPv4, up to the checksum; the hop limit of IPv6 lies in front of that.
        Self { restore: (ETHERNET + 12).div_ceil(8), ..self }
    }

    /// `struct traffic` of traffic.h.
    pub(crate) fn traffic(&self, flows: Flows) -> Vec<u8> {
        let len = u32::try_from(self.frame.len()).unwrap_or(u32::MAX);
        let Flows { first, count, stride, known, strangers, begin } = flows;
        let Self { restore, address_at, port_at, .. } = *self;
        [len, restore, address_at, port_at, first, count, stride, known, strangers, begin]
            .iter()
            .flat_map(|word: &u32| word.to_ne_bytes())
            .chain(self.frame[..WORDS * 8].iter().copied())
            .collect()
    }
}

/// The address of real `number`.
pub(crate) fn real(v6: bool, number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    if v6 { [0xfc00, 0, 0, 0, 0, 0, 0, number].into() } else { [10, 0, high, low].into() }
}
