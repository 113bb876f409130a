//! The structs and constants of include/l4lb/abi/abi.h, and their conversion from and to the words of users.
//!
//! The structs come from the skeletons' BTF, the constants from the header by way of build.rs. Byte order
//! is converted here and nowhere else.
#![expect(unsafe_code, reason = "asserts which structs are plain bytes")]

use std::mem::size_of;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

pub(crate) use crate::model::skel::balancer::types::control;
pub(crate) use crate::model::skel::balancer::types::count;
pub(crate) use crate::model::skel::balancer::types::count_block;
pub(crate) use crate::model::skel::balancer::types::cpu_state;
pub(crate) use crate::model::skel::balancer::types::flow;
pub(crate) use crate::model::skel::balancer::types::flow_entry;
pub(crate) use crate::model::skel::balancer::types::flow_key;
pub(crate) use crate::model::skel::balancer::types::flow4_set;
pub(crate) use crate::model::skel::balancer::types::flow6_entry;
pub(crate) use crate::model::skel::balancer::types::flow6_set;
pub(crate) use crate::model::skel::balancer::types::interface;
pub(crate) use crate::model::skel::balancer::types::knobs;
pub(crate) use crate::model::skel::balancer::types::lb_addr;
pub(crate) use crate::model::skel::balancer::types::neighbour;
pub(crate) use crate::model::skel::balancer::types::real;
pub(crate) use crate::model::skel::balancer::types::rodata as balancer_rodata;
pub(crate) use crate::model::skel::balancer::types::trace;
pub(crate) use crate::model::skel::balancer::types::tunnel_end;
pub(crate) use crate::model::skel::balancer::types::tunnel_source;
pub(crate) use crate::model::skel::balancer::types::vip;
pub(crate) use crate::model::skel::balancer::types::vip_bucket;
pub(crate) use crate::model::skel::balancer::types::vip_count;
pub(crate) use crate::model::skel::balancer::types::vip_entry;
pub(crate) use crate::model::skel::balancer::types::vip_key;
pub(crate) use crate::model::skel::balancer::types::vip_real;
pub(crate) use crate::model::skel::copy::types::capture_count;
pub(crate) use crate::model::skel::copy::types::capture_event;
pub(crate) use crate::model::skel::copy::types::capture_options;
pub(crate) use crate::model::skel::copy::types::capture_wanted;
pub(crate) use crate::model::skel::decap::types::decap_prefix;
pub(crate) use crate::model::skel::decap::types::decap_request;
pub(crate) use crate::model::skel::decap::types::decap_settings;
pub(crate) use crate::model::skel::decap::types::decap_state;
pub(crate) use crate::model::skel::decap::types::lb_addr as decap_addr;
pub(crate) use crate::model::skel::healthcheck::types::healthcheck_options;
pub(crate) use crate::model::skel::healthcheck::types::healthcheck_state;
pub(crate) use crate::model::skel::healthcheck::types::knobs as healthcheck_knobs;
pub(crate) use crate::model::skel::healthcheck::types::rodata as healthcheck_rodata;
pub(crate) use crate::model::skel::mss::types::mss_limit;
pub(crate) use crate::model::skel::mss::types::mss_state;

use crate::model::address::Mac;
use crate::model::address::Protocol;
use crate::model::address::Vip;
use crate::model::prefix::Prefix;

/// The constants of abi/abi.h, without their prefix.
pub(crate) mod consts {
    #![allow(
        dead_code,
        unused_parens,
        unreachable_pub,
        clippy::pedantic,
        clippy::identity_op,
        clippy::manual_div_ceil,
        reason = "generated from C; some are for the programs alone"
    )]
    include!(concat!(env!("OUT_DIR"), "/consts.rs"));
}

/// `IPPROTO_ICMP`: the protocol of the marker that says "this is a VIP's address".
const ICMP: u8 = 1;

/// A type that is plain bytes, and for which all bytes are valid.
///
/// # Safety
/// No padding, no pointers, no invalid values.
pub(crate) unsafe trait Pod: Copy + Default + 'static {}

macro_rules! pod {
    ($($type:ty, $size:expr;)*) => {$(
        const _: () = assert!(size_of::<$type>() == $size);
        // SAFETY: integers and arrays of integers only; the headers assert that there is no padding.
        unsafe impl Pod for $type {}
    )*};
}

pod! {
    u32, 4;
    u64, 8;
    control, 24;
    count, 16;
    count_block, 16 * (consts::COUNTS_PER_BLOCK as usize);
    cpu_state, size_of::<[u64; 2]>() * (consts::REASON_COUNTERS as usize) + 8 * (consts::EVENT_COUNTERS as usize) + 64 + 32 + 80
        + size_of::<[u64; 2]>() * (consts::ANSWER_BUCKETS as usize);
    decap_addr, 16;
    decap_prefix, 20;
    decap_request, 28 + 56 * consts::DECAP_MAX_ASKED as usize;
    decap_settings, 24;
    decap_state, 16 * (consts::DECAP_COUNTERS as usize) + 32;
    capture_count, 24;
    capture_event, 56;
    flow, 16;
    flow_entry, 16;
    flow6_entry, 32;
    flow_key, 24;
    healthcheck_knobs, 160;
    healthcheck_options, 16;
    healthcheck_state, 16 * (consts::HEALTHCHECK_COUNTERS as usize) + 32;
    interface, 128;
    knobs, 160;
    lb_addr, 16;
    neighbour, 12;
    mss_limit, 4;
    mss_state, 8 * (consts::MSS_COUNTERS as usize) + 8;
    real, 32;
    trace, 60;
    tunnel_end, 8;
    tunnel_source, 40;
    vip, 12;
    vip_bucket, 64;
    vip_count, 32;
    vip_key, 20;
    vip_real, 16;
    [u8; 16], 16;
    Unserved, 512;
    UnservedName, 128;
    HealthKey, 8;
    HealthRecord, 128;
}

/// The name of an interface that is not served, padded with zeros. It may be an alternative name (`ALTIFNAMSIZ`).
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct UnservedName(pub(crate) [u8; 128]);

impl Default for UnservedName {
    fn default() -> Self {
        Self([0; 128])
    }
}

/// The interface is served as the previous configuration had it.
pub(crate) const UNSERVED_AS_BEFORE: u32 = 1;

/// Interfaces that the configuration no longer names stay until it is served.
pub(crate) const UNSERVED_REPLACES: u32 = 2;

/// The record of an interface that is not served. Only the control plane uses it; the C headers do not have it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Unserved {
    /// The configuration, as an entry of an interface without an index.
    pub(crate) asked: interface,
    /// [`UNSERVED_AS_BEFORE`], [`UNSERVED_REPLACES`].
    pub(crate) flags: u32,
    /// UTF-8, padded with zeros.
    pub(crate) why: [u8; 380],
}

impl Default for Unserved {
    fn default() -> Self {
        Self { asked: interface::default(), flags: 0, why: [0; 380] }
    }
}

/// VIP and real, by their ids.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HealthKey {
    pub(crate) vip: u32,
    pub(crate) real: u32,
}

/// Details of what was found about a real of a VIP. Only the control plane uses it; the C headers do not have it. Times
/// are in seconds since 1970.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HealthRecord {
    /// When its health last changed.
    pub(crate) since: u64,
    /// When what somebody told ends; 0: never.
    pub(crate) expires: u64,
    /// Until when it stays out because it failed too often; 0: it does not.
    pub(crate) held_until: u64,
    /// Since when failures are counted.
    pub(crate) failing_since: u64,
    /// The VIP's serial: another VIP may have the id later.
    pub(crate) serial: u32,
    /// How many checks in a row said so.
    pub(crate) checks: u32,
    /// How often it became unhealthy since [`Self::failing_since`].
    pub(crate) failures: u32,
    /// How often it stayed out because it failed too often.
    pub(crate) holds: u32,
    /// UTF-8, padded with zeros.
    pub(crate) reason: [u8; 80],
}

impl Default for HealthRecord {
    fn default() -> Self {
        Self {
            since: 0,
            expires: 0,
            held_until: 0,
            failing_since: 0,
            serial: 0,
            checks: 0,
            failures: 0,
            holds: 0,
            reason: [0; 80],
        }
    }
}

/// The bytes of a value.
pub(crate) fn bytes_of<T: Pod>(value: &T) -> &[u8] {
    // SAFETY: `Pod` has no padding, so every byte is initialised, and the slice lives as long as `value`.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// The value of these bytes, if their number is right.
pub(crate) fn from_bytes<T: Pod>(bytes: &[u8]) -> Option<T> {
    // SAFETY: as many bytes as the value takes are readable, and any of them are valid for `Pod`.
    (bytes.len() >= size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

fn words(address: Ipv6Addr) -> [u32; 4] {
    let octets = address.octets();
    std::array::from_fn(|i| {
        u32::from_ne_bytes([octets[4 * i], octets[4 * i + 1], octets[4 * i + 2], octets[4 * i + 3]])
    })
}

/// The address of these words; IPv4 if it is IPv4-mapped.
pub(crate) fn address_of(words: [u32; 4]) -> IpAddr {
    let mut octets = [0; 16];
    for (bytes, word) in octets.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    Ipv6Addr::from(octets).to_canonical()
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

impl From<IpAddr> for lb_addr {
    fn from(address: IpAddr) -> Self {
        Self { word: words(mapped(address)) }
    }
}

impl From<lb_addr> for IpAddr {
    fn from(address: lb_addr) -> Self {
        address_of(address.word)
    }
}

impl From<IpAddr> for decap_addr {
    fn from(address: IpAddr) -> Self {
        Self { word: words(mapped(address)) }
    }
}

impl From<decap_addr> for IpAddr {
    fn from(address: decap_addr) -> Self {
        address_of(address.word)
    }
}

/// The first half of a word as it lies in memory, on the little-endian machines that XDP runs on.
#[expect(clippy::cast_possible_truncation, reason = "the half that is asked for")]
pub(crate) fn low_half(word: u64) -> u32 {
    word as u32
}

/// The other half.
pub(crate) fn high_half(word: u64) -> u32 {
    low_half(word >> 32)
}

/// The `__be32` of an IPv4 address.
pub(crate) fn be32(address: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(address.octets())
}

/// The IPv4 address of a `__be32`.
pub(crate) fn from_be32(word: u32) -> Ipv4Addr {
    Ipv4Addr::from(word.to_ne_bytes())
}

/// A MAC as the packet path compares it: see `LB_MAC_SHIFT` in abi/addr.h.
pub(crate) fn mac_word(mac: Mac) -> u64 {
    let mut bytes = [0; 8];
    bytes[2..].copy_from_slice(&mac.octets());
    u64::from_le_bytes(bytes)
}

/// The MAC of such a word; `None` for [`consts::NO_MAC`].
pub(crate) fn mac_of(word: u64) -> Option<Mac> {
    match word.to_le_bytes() {
        [0, 0, mac @ ..] => Some(Mac::from(mac)),
        _ => None,
    }
}

impl From<Vip> for vip_key {
    fn from(vip: Vip) -> Self {
        Self {
            addr: vip.address.into(),
            port: vip.port.to_be(),
            proto: vip.protocol.number(),
            pad: 0,
        }
    }
}

impl vip_key {
    /// The VIP of a key; `None` for the marker of an address, whose protocol is not that of a VIP.
    pub(crate) fn vip(&self) -> Option<Vip> {
        Some(Vip {
            address: self.addr.into(),
            port: u16::from_be(self.port),
            protocol: Protocol::from_number(self.proto)?,
        })
    }

    /// The address.
    pub(crate) fn address(&self) -> IpAddr {
        self.addr.into()
    }

    /// The keys of the markers that a VIP needs in addition to its own entry: see `struct vip_key` in abi/vip.h.
    pub(crate) fn markers(vip: &Vip) -> [Self; 2] {
        [vip.protocol.number(), ICMP].map(|proto| Self {
            addr: vip.address.into(),
            port: 0,
            proto,
            pad: 0,
        })
    }

    /// An order of keys, for comparisons and sets.
    pub(crate) fn sort_key(&self) -> ([u32; 4], u16, u8) {
        (self.addr.word, self.port, self.proto)
    }
}

impl tunnel_source {
    /// Bits of an IPv4-mapped address in front of the IPv4 address.
    const MAPPED: u32 = 96;

    /// The sources of a prefix, which may send to an address.
    pub(crate) fn of(end: IpAddr, prefix: Prefix) -> Self {
        let source = prefix.network().address();
        let mapped = if source.is_ipv4() { Self::MAPPED } else { 0 };
        Self {
            length: consts::TUNNEL_SOURCE_BITS + mapped + u32::from(prefix.prefix_len()),
            v6: source.is_ipv6().into(),
            end: end.into(),
            source: source.into(),
        }
    }

    /// The address, and the prefix that may send to it; `None`: nothing that [`Self::of`] makes.
    pub(crate) fn parts(&self) -> Option<(IpAddr, Prefix)> {
        let mapped = if self.v6 == 0 { Self::MAPPED } else { 0 };
        let length = self.length.checked_sub(consts::TUNNEL_SOURCE_BITS + mapped)?;
        let prefix = Prefix::new(self.source.into(), u8::try_from(length).ok()?)?;
        Some((self.end.into(), prefix))
    }
}

impl real {
    /// A live real. `csum` sums what is the same in every outer IPv4 header to it: version and header
    /// length, and the destination.
    pub(crate) fn live(address: IpAddr, generation: u32) -> Self {
        let (csum, v6) = match address {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                let half = |high, low| u32::from(u16::from_ne_bytes([high, low]));
                (half(0x45, 0) + half(a, b) + half(c, d), 0)
            }
            IpAddr::V6(_) => (0, consts::REAL_V6),
        };
        Self { addr: address.into(), flags: consts::REAL_LIVE | v6, generation, csum, pad: 0 }
    }
}
