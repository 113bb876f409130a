//! Builds frames, good ones and bad ones.
//!
//! ```text
//! eth().ip4("192.168.1.1", "10.200.1.1").tcp(31337, 80).syn().bytes()
//! eth().vlan(7).ip6(CLIENT, VIP).extension(DESTINATION_OPTIONS, 8).udp(31337, 443).data(b"x").cut(60)
//! ```
//!
//! A frame is put together when its bytes are asked for: lengths and checksums are right unless a
//! setter made them wrong. Headers and checksums are etherparse's, so that frames that the balancer is
//! expected to send share no code with it.

mod answers;

use std::net::IpAddr;

use etherparse::IpDscp;
use etherparse::IpEcn;
use etherparse::IpFragOffset;
use etherparse::IpNumber;

use etherparse::Ipv4Header;
use etherparse::Ipv6Header;
use etherparse::TcpHeader;
use etherparse::UdpHeader;
use etherparse::checksum::Sum16BitWords;

/// The sender's MAC address, as far as the balancer sees: the router's.
pub(crate) const ROUTER: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// The balancer's.
pub(crate) const BALANCER: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];

pub(crate) const HOP_BY_HOP: u8 = 0;
pub(crate) const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const AUTHENTICATION: u8 = 51;
pub(crate) const DESTINATION_OPTIONS: u8 = 60;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP6: u8 = 58;

const ETHERNET: usize = 14;
const TAG: usize = 4;

#[derive(Clone, Debug)]
struct Ip {
    source: IpAddr,
    destination: IpAddr,
    class: u8,
    flow_label: u32,
    ttl: u8,
    id: u16,
    dont_fragment: bool,
    /// IPv4: offset in units of eight bytes, and whether more fragments follow.
    fragment: Option<(u16, bool)>,
    options: Vec<u8>,
    /// IPv6: type, and everything behind the "next header" byte.
    extensions: Vec<(u8, Vec<u8>)>,
    /// In place of the right one: total length or payload length.
    length: Option<u16>,
}

#[derive(Clone, Debug)]
enum Transport {
    Tcp(TcpHeader),
    Udp {
        source: u16,
        destination: u16,
    },
    Icmp {
        kind: u8,
        code: u8,
        rest: [u8; 4],
    },
    /// Just bytes that claim to be of a protocol.
    Raw(u8),
}

/// A frame in the making.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    destination: [u8; 6],
    source: [u8; 6],
    tags: Vec<(u16, u16)>,
    ether_type: Option<u16>,
    ip: Option<Ip>,
    transport: Transport,
    data: Vec<u8>,
    patches: Vec<(usize, Vec<u8>)>,
    ip_patches: Vec<(usize, Vec<u8>)>,
    cut: Option<usize>,
    pad: usize,
}

/// A frame from the router to the balancer, so far without content.
pub(crate) fn eth() -> Frame {
    Frame {
        destination: BALANCER,
        source: ROUTER,
        tags: Vec::new(),
        ether_type: None,
        ip: None,
        transport: Transport::Raw(59),
        data: Vec::new(),
        patches: Vec::new(),
        ip_patches: Vec::new(),
        cut: None,
        pad: 0,
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("'{text}' is no address"))
}

// Link.
impl Frame {
    #[must_use]
    pub(crate) fn macs(mut self, source: [u8; 6], destination: [u8; 6]) -> Self {
        (self.source, self.destination) = (source, destination);
        self
    }

    /// Sends it back where it came from.
    #[must_use]
    pub(crate) fn turned_round(self) -> Self {
        let (source, destination) = (self.destination, self.source);
        self.macs(source, destination)
    }

    /// Adds an 802.1Q tag, inside of those it has.
    #[must_use]
    pub(crate) fn vlan(self, tci: u16) -> Self {
        self.tag(0x8100, tci)
    }

    #[must_use]
    pub(crate) fn tag(mut self, tpid: u16, tci: u16) -> Self {
        self.tags.push((tpid, tci));
        self
    }

    #[must_use]
    pub(crate) fn ether_type(mut self, ether_type: u16) -> Self {
        self.ether_type = Some(ether_type);
        self
    }
}

// IP.
impl Frame {
    /// IPv4.
    #[must_use]
    pub(crate) fn ip4(self, source: &str, destination: &str) -> Self {
        self.ip(address(source), address(destination))
    }

    /// IPv6.
    #[must_use]
    pub(crate) fn ip6(self, source: &str, destination: &str) -> Self {
        self.ip(address(source), address(destination))
    }

    /// The version that the addresses say.
    #[must_use]
    pub(crate) fn ip(mut self, source: IpAddr, destination: IpAddr) -> Self {
        assert_eq!(source.is_ipv4(), destination.is_ipv4(), "{source} → {destination}");
        self.ip = Some(Ip {
            source,
            destination,
            class: 0,
            flow_label: 0,
            ttl: 57,
            id: 1,
            dont_fragment: false,
            fragment: None,
            options: Vec::new(),
            extensions: Vec::new(),
            length: None,
        });
        self
    }

    #[track_caller]
    fn ip_mut(&mut self) -> &mut Ip {
        self.ip.as_mut().expect("ip4 or ip6 comes first")
    }

    #[must_use]
    pub(crate) fn is_v6(&self) -> bool {
        self.ip.as_ref().is_some_and(|ip| ip.source.is_ipv6())
    }

    /// TOS or traffic class.
    #[must_use]
    pub(crate) fn class(mut self, class: u8) -> Self {
        self.ip_mut().class = class;
        self
    }

    #[must_use]
    pub(crate) fn flow_label(mut self, label: u32) -> Self {
        self.ip_mut().flow_label = label;
        self
    }

    #[must_use]
    pub(crate) fn ttl(mut self, ttl: u8) -> Self {
        self.ip_mut().ttl = ttl;
        self
    }

    #[must_use]
    pub(crate) fn id(mut self, id: u16) -> Self {
        self.ip_mut().id = id;
        self
    }

    #[must_use]
    pub(crate) fn dont_fragment(mut self) -> Self {
        self.ip_mut().dont_fragment = true;
        self
    }

    /// IPv4 options, a multiple of four bytes.
    #[must_use]
    pub(crate) fn options(mut self, options: &[u8]) -> Self {
        self.ip_mut().options = options.to_vec();
        self
    }

    /// Makes it a fragment, `offset` in units of eight bytes. IPv6: by a header behind those it has.
    #[must_use]
    pub(crate) fn fragment(mut self, offset: u16, more: bool) -> Self {
        if self.is_v6() {
            let mut body = vec![0];
            body.extend((offset << 3 | u16::from(more)).to_be_bytes());
            body.extend(0x1234_5678_u32.to_be_bytes());
            self.ip_mut().extensions.push((FRAGMENT, body));
        } else {
            self.ip_mut().fragment = Some((offset, more));
        }
        self
    }

    /// Adds an IPv6 extension header of `len` bytes.
    #[must_use]
    pub(crate) fn extension(mut self, kind: u8, len: usize) -> Self {
        let unit = if kind == AUTHENTICATION { 4 } else { 8 };
        assert!(len.is_multiple_of(unit) && len >= 8, "no extension header has {len} bytes");
        let mut body = vec![0; len - 1];
        let units = if kind == AUTHENTICATION { len / 4 - 2 } else { len / 8 - 1 };
        body[0] = u8::try_from(units).expect("extension headers are shorter");
        if kind == DESTINATION_OPTIONS || kind == HOP_BY_HOP {
            // One padding option: type 1, and its length.
            body[1] = 1;
            body[2] = u8::try_from(len - 4).unwrap_or(255);
        }
        self.ip_mut().extensions.push((kind, body));
        self
    }

    /// Writes a length into the IP header that is not the right one: IPv4's total length, IPv6's
    /// payload length.
    #[must_use]
    pub(crate) fn ip_length(mut self, length: u16) -> Self {
        self.ip_mut().length = Some(length);
        self
    }
}

// Transport.
impl Frame {
    /// TCP with ACK set.
    #[must_use]
    pub(crate) fn tcp(mut self, source: u16, destination: u16) -> Self {
        let mut header = TcpHeader::new(source, destination, 1000, 8192);
        header.ack = true;
        self.transport = Transport::Tcp(header);
        self
    }

    #[track_caller]
    fn tcp_mut(&mut self) -> &mut TcpHeader {
        match &mut self.transport {
            Transport::Tcp(header) => header,
            other => panic!("{other:?} is not TCP"),
        }
    }

    /// SYN, without ACK.
    #[must_use]
    pub(crate) fn syn(mut self) -> Self {
        let header = self.tcp_mut();
        (header.syn, header.ack) = (true, false);
        self
    }

    #[must_use]
    pub(crate) fn ack(mut self) -> Self {
        self.tcp_mut().ack = true;
        self
    }

    #[must_use]
    pub(crate) fn fin(mut self) -> Self {
        self.tcp_mut().fin = true;
        self
    }

    #[must_use]
    pub(crate) fn rst(mut self) -> Self {
        self.tcp_mut().rst = true;
        self
    }

    #[must_use]
    pub(crate) fn udp(mut self, source: u16, destination: u16) -> Self {
        self.transport = Transport::Udp { source, destination };
        self
    }

    /// ICMP of the version that IP has.
    #[must_use]
    pub(crate) fn icmp(mut self, kind: u8, code: u8, rest: [u8; 4]) -> Self {
        self.transport = Transport::Icmp { kind, code, rest };
        self
    }

    /// An echo request with this id and sequence number.
    #[must_use]
    pub(crate) fn ping(self, id: u16, sequence: u16) -> Self {
        let kind = if self.is_v6() { 128 } else { 8 };
        self.echo(kind, id, sequence)
    }

    /// The answer to it.
    #[must_use]
    pub(crate) fn pong(self, id: u16, sequence: u16) -> Self {
        let kind = if self.is_v6() { 129 } else { 0 };
        self.echo(kind, id, sequence)
    }

    fn echo(self, kind: u8, id: u16, sequence: u16) -> Self {
        let ([a, b], [c, d]) = (id.to_be_bytes(), sequence.to_be_bytes());
        self.icmp(kind, 0, [a, b, c, d])
    }

    /// "Destination unreachable, fragmentation needed", or "packet too big".
    #[must_use]
    pub(crate) fn too_big(self, mtu: u16) -> Self {
        let [high, low] = mtu.to_be_bytes();
        let (kind, code) = if self.is_v6() { (2, 0) } else { (3, 4) };
        self.icmp(kind, code, [0, 0, high, low])
    }

    /// No transport header that this builder knows: the data begins here.
    #[must_use]
    pub(crate) fn raw(mut self, protocol: u8) -> Self {
        self.transport = Transport::Raw(protocol);
        self
    }

    #[must_use]
    pub(crate) fn data(mut self, data: &[u8]) -> Self {
        self.data = data.to_vec();
        self
    }

    /// The IP packet of `inner` as data: what an ICMP error quotes, or a tunnel carries.
    #[must_use]
    pub(crate) fn carrying(self, inner: &Self) -> Self {
        let data = inner.packet();
        self.data(&data)
    }
}

// Damage, in this order: patches, cut, padding.
impl Frame {
    /// Overwrites bytes of the frame.
    #[must_use]
    pub(crate) fn patch(mut self, at: usize, bytes: &[u8]) -> Self {
        self.patches.push((at, bytes.to_vec()));
        self
    }

    /// Overwrites bytes, counted from the IP header on.
    #[must_use]
    pub(crate) fn patch_ip(mut self, at: usize, bytes: &[u8]) -> Self {
        self.ip_patches.push((at, bytes.to_vec()));
        self
    }

    /// Ends the frame after this many bytes.
    #[must_use]
    pub(crate) fn cut(mut self, len: usize) -> Self {
        self.cut = Some(len);
        self
    }

    /// Puts bytes behind the packet, as Ethernet does up to 60 bytes of frame.
    #[must_use]
    pub(crate) fn pad(mut self, len: usize) -> Self {
        self.pad = len;
        self
    }

    /// Fills the data up so that the frame, tags included, has `len` bytes.
    #[must_use]
    pub(crate) fn filled_to(mut self, len: usize) -> Self {
        let missing = len - self.bytes().len();
        self.data.extend((0_u8..=255).cycle().take(missing));
        self
    }
}

// Bytes.
impl Frame {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.link(if self.is_v6() { 0x86dd } else { 0x0800 });
        let ip_at = bytes.len();
        match &self.ip {
            Some(ip) => bytes.extend(self.ip_bytes(ip)),
            None => bytes.extend(&self.data),
        }
        let shifted = self.ip_patches.iter().map(|(at, patch)| (at + ip_at, patch));
        for (at, patch) in self.patches.iter().map(|(at, patch)| (*at, patch)).chain(shifted) {
            bytes[at..at + patch.len()].copy_from_slice(patch);
        }
        if let Some(len) = self.cut {
            assert!(len <= bytes.len(), "the frame has {} bytes", bytes.len());
            bytes.truncate(len);
        }
        bytes.resize(bytes.len().max(self.pad), 0);
        bytes
    }

    /// From the IP header on.
    pub(crate) fn packet(&self) -> Vec<u8> {
        self.bytes().split_off(self.link_len())
    }

    fn link_len(&self) -> usize {
        ETHERNET + self.tags.len() * TAG
    }

    fn link(&self, ether_type: u16) -> Vec<u8> {
        let mut bytes = [self.destination, self.source].concat();
        for (tpid, tci) in &self.tags {
            bytes.extend(tpid.to_be_bytes());
            bytes.extend(tci.to_be_bytes());
        }
        bytes.extend(self.ether_type.unwrap_or(ether_type).to_be_bytes());
        bytes
    }

    fn ip_bytes(&self, ip: &Ip) -> Vec<u8> {
        let (protocol, payload) = self.transport_bytes(ip);
        match (ip.source, ip.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = Ipv4Header::new(
                    0,
                    ip.ttl,
                    IpNumber(protocol),
                    source.octets(),
                    destination.octets(),
                )
                .expect("an empty packet is not too long");
                header.dscp = IpDscp::try_new(ip.class >> 2).expect("six bits");
                header.ecn = IpEcn::try_new(ip.class & 3).expect("two bits");
                header.identification = ip.id;
                header.dont_fragment = ip.dont_fragment;
                if let Some((offset, more)) = ip.fragment {
                    header.more_fragments = more;
                    header.fragment_offset = IpFragOffset::try_new(offset).expect("13 bits");
                }
                header.options = ip.options.as_slice().try_into().expect("words, up to 40 bytes");
                let length = length(header.header_len() + payload.len());
                header.total_len = ip.length.unwrap_or(length);
                header.header_checksum = header.calc_header_checksum();
                [header.to_bytes().as_slice(), &payload].concat()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut chain = Vec::new();
                let mut next = protocol;
                for (kind, body) in ip.extensions.iter().rev() {
                    chain = [&[next], body.as_slice(), &chain].concat();
                    next = *kind;
                }
                let header = Ipv6Header {
                    traffic_class: ip.class,
                    flow_label: ip.flow_label.try_into().expect("20 bits"),
                    payload_length: ip.length.unwrap_or(length(chain.len() + payload.len())),
                    next_header: IpNumber(next),
                    hop_limit: ip.ttl,
                    source: source.octets(),
                    destination: destination.octets(),
                };
                [header.to_bytes().as_slice(), &chain, &payload].concat()
            }
            _ => unreachable!("checked when they were set"),
        }
    }

    /// The protocol number, and the payload of the IP packet with its checksum.
    fn transport_bytes(&self, ip: &Ip) -> (u8, Vec<u8>) {
        let (protocol, mut bytes, checksum_at) = match &self.transport {
            Transport::Raw(protocol) => return (*protocol, self.data.clone()),
            Transport::Tcp(header) => (TCP, header.to_bytes().to_vec(), 16),
            Transport::Udp { source, destination } => {
                let header = UdpHeader {
                    source_port: *source,
                    destination_port: *destination,
                    length: length(UdpHeader::LEN + self.data.len()),
                    checksum: 0,
                };
                (UDP, header.to_bytes().to_vec(), 6)
            }
            Transport::Icmp { kind, code, rest } => {
                let protocol = if ip.source.is_ipv6() { ICMP6 } else { ICMP };
                (protocol, [&[*kind, *code, 0, 0], rest.as_slice()].concat(), 2)
            }
        };
        bytes.extend(&self.data);
        let mut sum = Sum16BitWords::new();
        // The pseudo-header, which ICMP for IPv4 alone does without.
        if protocol != ICMP {
            sum = match (ip.source, ip.destination) {
                (IpAddr::V4(a), IpAddr::V4(b)) => sum.add_4bytes(a.octets()).add_4bytes(b.octets()),
                (IpAddr::V6(a), IpAddr::V6(b)) => {
                    sum.add_16bytes(a.octets()).add_16bytes(b.octets())
                }
                _ => unreachable!("checked when they were set"),
            };
            sum = sum.add_2bytes([0, protocol]).add_2bytes(length(bytes.len()).to_be_bytes());
        }
        let sum = sum.add_slice(&bytes);
        // To UDP, 0 means that there is no checksum.
        let checksum = match protocol {
            UDP => sum.to_ones_complement_with_no_zero(),
            _ => sum.ones_complement(),
        };
        // As a number in the order of memory.
        bytes[checksum_at..checksum_at + 2].copy_from_slice(&checksum.to_ne_bytes());
        (protocol, bytes)
    }
}

fn length(length: usize) -> u16 {
    u16::try_from(length).expect("packets are shorter")
}

// What the balancer makes of it.
impl Frame {
    /// The frame behind an outer IP header with these addresses, sent to the gateway.
    pub(crate) fn encapsulated(&self, source: IpAddr, real: IpAddr, gateway: [u8; 6]) -> Vec<u8> {
        let ip = self.ip.as_ref().expect("an IP packet");
        let inner = self.packet();
        let inner_length = usize::from(u16::from_be_bytes(if self.is_v6() {
            [inner[4], inner[5]]
        } else {
            [inner[2], inner[3]]
        })) + if self.is_v6() { Ipv6Header::LEN } else { 0 };
        // Padding of the frame stays behind the packet, and no length counts it.
        let mut outer = Frame { tags: self.tags.clone(), ..eth() }
            .macs(self.destination, gateway)
            .ip(source, real)
            .class(ip.class)
            .ttl(64)
            .id(0)
            .raw(if self.is_v6() { 41 } else { 4 })
            .data(&inner);
        let header = if real.is_ipv6() { 0 } else { Ipv4Header::MIN_LEN };
        outer = outer.ip_length(length(header + inner_length));
        outer.bytes()
    }
}
