//! Requests: which packets are to be decapsulated on an interface.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;

use serde::Serialize;
use serde::Serializer;

use crate::model::abi;
use crate::model::abi::consts;
use crate::model::address::check_service_address;
use crate::model::error::DecapError;
use crate::model::error::Result;
use crate::model::prefix::Prefix;

/// Bits of an IPv4-mapped address in front of the IPv4 address (RFC 4291, section 2.5.5.2).
const MAPPED_BITS: u8 = 96;

/// Which packets are decapsulated. Each list has at most [`Request::MOST`] entries.
///
/// The program does not distinguish packets by interface: a request for one interface is valid for the whole
/// instance. So any source may send as long as one interface has a request without `from`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Request {
    /// Outer destinations; empty: the present addresses of the interface, as they change.
    pub addresses: BTreeSet<IpAddr>,
    /// Outer sources; empty: any source may send.
    pub from: BTreeSet<Prefix>,
    /// Destinations of the inner packets; empty: the addresses of the host's loopback devices, as they change.
    /// Packets for another host are always dropped.
    pub to: BTreeSet<Prefix>,
    /// The UDP ports at which GUE comes, [`Request::MOST_GUE_PORTS`] at most. Empty: GUE is not taken. `None`:
    /// [`Request::GUE_PORTS`], without those at which this host listens.
    pub gue_ports: Option<BTreeSet<u16>>,
    /// To what the MSS of the answers is lowered that leave by the interface; `None`: it stays.
    pub mss: Option<Mss>,
}

/// What segments to clients may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mss {
    /// What fits the interface's MTU with the longest outer header that is taken off.
    Auto,
    /// So many bytes, of IPv4 and IPv6 alike.
    Bytes(u16),
}

impl Mss {
    /// The least: what every host takes without being asked (RFC 9293, section 3.7.1).
    #[expect(clippy::cast_possible_truncation, reason = "the header has smaller numbers")]
    pub const MIN: u16 = consts::MSS_MIN as u16;

    /// The most: what fits packets of 9216 bytes, the longest that Ethernet cards take.
    #[expect(clippy::cast_possible_truncation, reason = "the header has smaller numbers")]
    pub const MAX: u16 = consts::MSS_MAX as u16;

    fn is_in_range(self) -> bool {
        match self {
            Self::Auto => true,
            Self::Bytes(bytes) => (Self::MIN..=Self::MAX).contains(&bytes),
        }
    }
}

impl fmt::Display for Mss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Bytes(bytes) => bytes.fmt(f),
        }
    }
}

impl Serialize for Mss {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Bytes(bytes) => serializer.serialize_u16(*bytes),
        }
    }
}

impl Request {
    /// The most entries that a list may have.
    pub const MOST: usize = consts::DECAP_MAX_ASKED as usize;

    /// The most UDP ports of GUE, of a request and of all requests of an instance together.
    pub const MOST_GUE_PORTS: usize = consts::DECAP_MAX_GUE_PORTS as usize;

    /// The ports that balancers send GUE to unless they are told otherwise: the one that is registered for it, to which
    /// Katran sends variant 1; and the one that GLB sends variant 0 to.
    #[expect(clippy::cast_possible_truncation, reason = "the header has smaller numbers")]
    pub const GUE_PORTS: [u16; 2] = [consts::GUE_PORT as u16, consts::GUE_PORT_V0 as u16];

    /// Checks what the types cannot express.
    pub fn check(&self) -> Result<()> {
        let invalid = |option, why: String| Err(DecapError::Request { option, why }.into());
        for (option, count) in [
            ("--address", self.addresses.len()),
            ("--from", self.from.len()),
            ("--to", self.to.len()),
        ] {
            if count > Self::MOST {
                return invalid(option, format!("{count} are given, {} is the most", Self::MOST));
            }
        }
        let ports = self.gue_ports.iter().flatten();
        if ports.clone().count() > Self::MOST_GUE_PORTS {
            let (count, most) = (ports.count(), Self::MOST_GUE_PORTS);
            return invalid("--gue-port", format!("{count} are given, {most} is the most"));
        }
        if ports.clone().any(|port| *port == 0) {
            return invalid("--gue-port", "'none' stands alone: it takes no GUE".to_owned());
        }
        if let Some(Mss::Bytes(bytes)) = self.mss.filter(|mss| !mss.is_in_range()) {
            let why =
                format!("{bytes} is out of range; write {} to {}, or auto", Mss::MIN, Mss::MAX);
            return invalid("--mss", why);
        }
        for address in &self.addresses {
            if let Err(why) = check_service_address(*address) {
                return invalid("--address", format!("{address}: {why}"));
            }
        }
        for (option, prefixes) in [("--from", &self.from), ("--to", &self.to)] {
            for prefix in prefixes {
                let net = prefix.network();
                if net != *prefix {
                    let why = format!("{prefix} has bits set behind the prefix; write {net}");
                    return invalid(option, why);
                }
                let why = misfit(net).or_else(|| (option == "--to").then(|| no_vip(net)).flatten());
                if let Some(why) = why {
                    return invalid(option, format!("{net}: {why}"));
                }
            }
        }
        Ok(())
    }

    /// The ports of GUE, if nobody listens there.
    pub(crate) fn wanted_ports(&self) -> BTreeSet<u16> {
        self.gue_ports.clone().unwrap_or_else(|| Self::GUE_PORTS.into())
    }

    pub(super) fn to_raw(&self) -> abi::decap_request {
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let mut raw = abi::decap_request {
            addresses: count(self.addresses.len()),
            from: count(self.from.len()),
            to: count(self.to.len()),
            mss: match self.mss {
                None => consts::MSS_NONE,
                Some(Mss::Auto) => consts::MSS_AUTO,
                Some(Mss::Bytes(bytes)) => bytes.into(),
            },
            gue_ports: self.gue_ports.as_ref().map_or(0, |ports| count(ports.len() + 1)),
            ..Default::default()
        };
        for (raw, port) in raw.gue_port.iter_mut().zip(self.gue_ports.iter().flatten()) {
            *raw = port.to_be();
        }
        for (raw, address) in raw.address.iter_mut().zip(&self.addresses) {
            *raw = (*address).into();
        }
        for (raw, prefix) in raw.from_prefix.iter_mut().zip(&self.from) {
            *raw = raw_prefix(*prefix);
        }
        for (raw, prefix) in raw.to_prefix.iter_mut().zip(&self.to) {
            *raw = raw_prefix(*prefix);
        }
        raw
    }

    pub(super) fn from_raw(raw: &abi::decap_request) -> Self {
        let first = |count: u32| count as usize;
        let prefixes = |raw: &[abi::decap_prefix], count| {
            raw.iter().take(first(count)).map(prefix_of).collect()
        };
        Self {
            addresses: raw
                .address
                .iter()
                .take(first(raw.addresses))
                .map(|address| (*address).into())
                .collect(),
            from: prefixes(&raw.from_prefix, raw.from),
            to: prefixes(&raw.to_prefix, raw.to),
            mss: match raw.mss {
                consts::MSS_NONE => None,
                consts::MSS_AUTO => Some(Mss::Auto),
                bytes => Some(Mss::Bytes(u16::try_from(bytes).unwrap_or(Mss::MAX))),
            },
            gue_ports: raw.gue_ports.checked_sub(1).map(|count| {
                raw.gue_port.iter().take(first(count)).map(|port| u16::from_be(*port)).collect()
            }),
        }
    }
}

fn is_within(net: Prefix, outer: &str) -> bool {
    outer.parse::<Prefix>().is_ok_and(|outer| outer.covers(net))
}

/// Says why no packet to a prefix can come through routers, in addition to the reasons of [`misfit`].
fn no_vip(net: Prefix) -> Option<&'static str> {
    let link_local = is_within(net, "169.254.0.0/16") || is_within(net, "fe80::/10");
    link_local.then_some("link-local addresses are not reachable through routers")
}

/// Says why no packet from or to a prefix can come over the network.
fn misfit(net: Prefix) -> Option<&'static str> {
    let within = |outer: &str| is_within(net, outer);
    if within("0.0.0.0/8") || within("::/128") {
        return Some("such addresses name no host");
    }
    if within("255.255.255.255/32") {
        return Some("the broadcast address names no single host");
    }
    if within("127.0.0.0/8") || within("::1/128") {
        return Some("loopback addresses do not come by the network");
    }
    if within("224.0.0.0/4") || within("ff00::/8") {
        return Some("multicast addresses name no single host");
    }
    within("::ffff:0:0/96").then_some("IPv4-mapped addresses; write the IPv4 prefix itself")
}

/// A key of the kernel's tries, which hold IPv4 as a part of IPv6.
pub(super) fn raw_prefix(prefix: Prefix) -> abi::decap_prefix {
    let first = prefix.network().address();
    let length = prefix.prefix_len() + if first.is_ipv4() { MAPPED_BITS } else { 0 };
    abi::decap_prefix { length: length.into(), addr: first.into() }
}

pub(super) fn prefix_of(raw: &abi::decap_prefix) -> Prefix {
    let length = u8::try_from(raw.length).unwrap_or(u8::MAX);
    let (address, length) = match (IpAddr::from(raw.addr), length.checked_sub(MAPPED_BITS)) {
        (IpAddr::V4(v4), Some(length)) => (v4.into(), length),
        (IpAddr::V4(v4), None) => (v4.to_ipv6_mapped().into(), length),
        (v6, _) => (v6, length),
    };
    Prefix::new(address, length).unwrap_or_else(|| address.into())
}

/// Whether an IPv6 prefix covers the IPv4-mapped addresses.
pub(super) fn covers_ipv4(prefix: &Prefix) -> bool {
    let mapped = Ipv4Addr::UNSPECIFIED.to_ipv6_mapped();
    prefix.prefix_len() <= MAPPED_BITS && prefix.contains(mapped.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(prefixes: &[&str]) -> BTreeSet<Prefix> {
        prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect()
    }

    #[test]
    fn a_request_survives_the_maps() {
        let request = Request {
            addresses: ["10.0.0.1".parse().unwrap(), "fc00::1".parse().unwrap()].into(),
            from: nets(&["172.16.0.0/16", "100::/64", "192.0.2.7/32", "0.0.0.0/0", "::/0"]),
            to: nets(&["10.200.1.1/32", "fc00:1::/64"]),
            gue_ports: Some([1, 6080, 0xff00, 65535].into()),
            mss: Some(Mss::Bytes(1404)),
        };
        assert_eq!(Request::from_raw(&request.to_raw()), request);
        let none = Request { gue_ports: Some(BTreeSet::new()), mss: Some(Mss::Auto), ..request };
        assert_eq!(Request::from_raw(&none.to_raw()), none);
        let most = (0..64).map(|n| Prefix::from(IpAddr::V4(Ipv4Addr::new(10, 0, 0, n))));
        let full = Request { to: most.collect(), ..Request::default() };
        full.check().unwrap();
        assert_eq!(Request::from_raw(&full.to_raw()), full);
        assert_eq!(Request::from_raw(&abi::decap_request::default()), Request::default());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let from = |prefix| Request { from: nets(&[prefix]), ..Request::default() };
        let to = |prefix| Request { to: nets(&[prefix]), ..Request::default() };
        let address = |address: &str| Request {
            addresses: [address.parse().unwrap()].into(),
            ..Request::default()
        };
        let ports = |ports: &[u16]| Request {
            gue_ports: Some(ports.iter().copied().collect()),
            ..Request::default()
        };
        let mss = |bytes| Request { mss: Some(Mss::Bytes(bytes)), ..Request::default() };
        let many = (0..=64).map(|n| Prefix::from(IpAddr::V4(Ipv4Addr::new(10, 0, 0, n))));
        for (request, words) in [
            (
                from("172.16.5.0/16"),
                "--from: 172.16.5.0/16 has bits set behind the prefix; write 172.16.0.0/16",
            ),
            (from("127.1.0.0/16"), "--from: 127.1.0.0/16: loopback"),
            (to("::1/128"), "--to: ::1/128: loopback"),
            (to("224.0.0.0/8"), "multicast"),
            (to("ff02::/16"), "multicast"),
            (to("0.0.0.0/8"), "name no host"),
            (to("::/128"), "name no host"),
            (to("255.255.255.255/32"), "broadcast"),
            (to("169.254.0.0/16"), "--to: 169.254.0.0/16: link-local"),
            (to("fe80::/10"), "--to: fe80::/10: link-local"),
            (from("::ffff:10.0.0.0/104"), "IPv4-mapped"),
            (address("127.0.0.1"), "--address: 127.0.0.1: a loopback address"),
            (
                Request { to: many.collect(), ..Request::default() },
                "--to: 65 are given, 64 is the most",
            ),
            (ports(&[1, 2, 3, 4, 5]), "--gue-port: 5 are given, 4 is the most"),
            (ports(&[0, 6080]), "--gue-port: 'none' stands alone"),
            (mss(535), "--mss: 535 is out of range; write 536 to 9176, or auto"),
            (mss(9177), "--mss: 9177 is out of range"),
            (mss(0), "--mss: 0 is out of range"),
        ] {
            let error = request.check().unwrap_err().to_string();
            assert!(error.contains(words), "'{words}' in {error}");
        }
        for fine in
            [to("0.0.0.0/0"), from("::/0"), to("10.200.1.1/32"), address("10.0.0.1"), ports(&[])]
        {
            fine.check().unwrap();
        }
    }

    #[test]
    fn short_ipv6_prefixes_are_not_ipv4() {
        for (prefix, covers) in
            [("::/0", true), ("::/80", true), ("::/81", false), ("fc00::/7", false)]
        {
            assert_eq!(covers_ipv4(&prefix.parse().unwrap()), covers, "{prefix}");
        }
        assert!(!covers_ipv4(&Prefix::ALL_IPV4));
    }
}
