//! The words operators use for addresses: VIP and protocol, and how they are written.

use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::str::FromStr;

use ipnet::Ipv4Net;
use macaddr::MacAddr6;
use serde::Deserialize;
use serde::Serialize;

use crate::model::text::is_host_name;
use crate::model::text::quote;

/// The transport protocol a VIP balances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Protocol {
    /// TCP, IP protocol 6.
    Tcp,
    /// UDP, IP protocol 17.
    Udp,
}

impl Protocol {
    /// The IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// The protocol of an IP protocol number, if it is one that a VIP can have.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A service address: what clients connect to.
///
/// Written `tcp://10.200.1.1:80`, `udp://[fc00:1::2]:443`; `*` as the port means every port of the
/// address that has no VIP of its own, and is port 0 in configuration files.
///
/// ```
/// let vip: l4lb::Vip = "tcp://10.200.1.2:*".parse()?;
/// assert_eq!(vip.port, 0);
/// assert_eq!(vip.to_string(), "tcp://10.200.1.2:*");
/// # Ok::<(), l4lb::VipParseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vip {
    /// The address clients send to. Never an IPv4-mapped IPv6 address.
    pub address: IpAddr,
    /// Destination port in host order; 0: every port without a VIP of its own.
    pub port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
}

/// A text that is not a VIP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a VIP: {why}; write {like}")]
pub struct VipParseError {
    text: String,
    why: &'static str,
    like: String,
}

impl VipParseError {
    fn new(text: &str, why: &'static str) -> Self {
        let like = meant_vip(text).unwrap_or_else(|| {
            "it like tcp://10.200.1.1:80, udp://[fc00:1::2]:443 or tcp://10.200.1.2:*".to_owned()
        });
        Self { text: quote(text), why, like }
    }
}

/// How the VIP is written that was perhaps meant: `10.200.1.1:80`, `tcp:10.200.1.1:80`, `tcp://fc00:1::1:80`.
fn meant_vip(text: &str) -> Option<String> {
    let all = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
    let named = all.into_iter().find_map(|(name, protocol)| {
        let (before, rest) = text.split_at_checked(name.len())?;
        let rest = rest.trim_start_matches([':', '/', ' ']);
        before.eq_ignore_ascii_case(name).then_some((protocol, rest))
    });
    let behind = all
        .into_iter()
        .find_map(|(name, protocol)| Some((protocol, text.strip_suffix(name)?.strip_suffix('/')?)));
    let (protocol, rest) = match named.or(behind) {
        Some((protocol, rest)) => (Some(protocol), rest),
        None => (None, text),
    };
    let (address, port) = match meant_address(rest)? {
        (address, Some(port)) => (address, port),
        // Without brackets, the port looks like a part of the address.
        (address, None) => match rest.rsplit_once(':') {
            Some((address, port)) => (address.parse().ok()?, port.parse().ok()?),
            None => (address, 80),
        },
    };
    check_service_address(address).ok()?;
    let write = |protocol| Vip { address, port, protocol }.to_string();
    Some(match protocol {
        Some(protocol) => write(protocol),
        None => format!("{} or {}", write(Protocol::Tcp), write(Protocol::Udp)),
    })
}

/// The address that was perhaps meant, with the port that was behind it: `[fc00:1::1]`, `10.0.1.1:80`, `10.0.1.1/24`.
pub(crate) fn meant_address(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(with_port) = text.parse::<SocketAddr>() {
        return Some((with_port.ip(), Some(with_port.port())));
    }
    let address = match text.split_once('/') {
        Some((address, length)) if length.parse::<u8>().is_ok() => address,
        _ => text,
    };
    let inside = address.strip_prefix('[').and_then(|address| address.strip_suffix(']'));
    Some((inside.unwrap_or(address).parse().ok()?, None))
}

impl FromStr for Vip {
    type Err = VipParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |why| VipParseError::new(text, why);
        let (protocol, rest) = text.split_once("://").ok_or_else(|| error("no '://'"))?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(error("the protocol is tcp or udp")),
        };
        let (address, port) = rest.rsplit_once(':').ok_or_else(|| error("no port"))?;
        let address = match address.strip_prefix('[').and_then(|a| a.strip_suffix(']')) {
            Some(v6) => v6.parse::<Ipv6Addr>().map(IpAddr::V6).ok(),
            None => address.parse().ok().map(IpAddr::V4),
        };
        let host = rest.rsplit_once(':').map_or(rest, |(host, _)| host);
        let address = address.ok_or_else(|| {
            error(if is_host_name(host) {
                "a host name, where only an IP address can be"
            } else {
                "no IP address; IPv6 addresses are in brackets"
            })
        })?;
        check_service_address(address).map_err(error)?;
        let port = match port {
            "*" => 0,
            port => match port.parse::<u16>() {
                Ok(port) if port != 0 => port,
                _ => return Err(error("the port is 1 to 65535, or * for every port")),
            },
        };
        Ok(Self { address, port, protocol })
    }
}

impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V4(a) => write!(f, "{}://{a}:", self.protocol)?,
            IpAddr::V6(a) => write!(f, "{}://[{a}]:", self.protocol)?,
        }
        match self.port {
            0 => f.write_str("*"),
            port => write!(f, "{port}"),
        }
    }
}

impl Serialize for Vip {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Vip {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// An Ethernet address, written `02:00:5e:10:00:01`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mac([u8; 6]);

impl Mac {
    /// The address of all stations.
    pub(crate) const BROADCAST: Self = Self([0xff; 6]);

    /// Makes an address of its bytes.
    pub const fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// Its bytes, as they are on the wire.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// Whether all of its bytes are zero.
    pub(crate) fn is_zero(self) -> bool {
        self.0 == [0; 6]
    }

    /// Whether it is the address of all stations.
    pub(crate) fn is_broadcast(self) -> bool {
        self == Self::BROADCAST
    }

    /// Whether it is the address of a group. The address of all stations is one.
    pub(crate) fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether it can be the address of one station: neither a group's nor zero.
    pub fn is_station(self) -> bool {
        !self.is_zero() && !self.is_multicast()
    }
}

impl From<[u8; 6]> for Mac {
    fn from(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if i == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(|mac: MacAddr6| Self(mac.into_array())).map_err(|_| {
            format!("'{}' is not a MAC address; write it like 02:00:5e:10:00:01", quote(text))
        })
    }
}

impl Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Says why an address can be neither a VIP nor a real, nor the source of packets to reals: those packets pass
/// routers.
pub(crate) fn check_service_address(address: IpAddr) -> Result<(), &'static str> {
    check_neighbour_address(address)?;
    // RFC 3927, section 2.7; RFC 4291, section 2.5.6.
    if is_link_local(address) {
        return Err("a link-local address is not reachable through routers");
    }
    Ok(())
}

/// Says why an address can be no host's on a network.
pub(crate) fn check_neighbour_address(address: IpAddr) -> Result<(), &'static str> {
    if address.is_unspecified() {
        return Err("the unspecified address names no host");
    }
    if address.is_multicast() {
        return Err("a multicast address names no single host");
    }
    if address.is_loopback() {
        return Err("a loopback address is not reachable through the network");
    }
    match address {
        IpAddr::V4(a) if a.is_broadcast() => Err("the broadcast address names no single host"),
        // RFC 1122, section 3.2.1.3.
        IpAddr::V4(a) if a.octets()[0] == 0 => Err("an address of 0.0.0.0/8 names no host"),
        IpAddr::V6(a) if a.to_ipv4_mapped().is_some() => {
            Err("an IPv4-mapped address; write the IPv4 address itself")
        }
        _ => Ok(()),
    }
}

/// Says why a prefix cannot be used for outer IPv4 sources: flows are spread over all of its addresses.
pub(crate) fn check_source_prefix(prefix: Ipv4Net) -> Result<(), String> {
    const NOBODYS: [(Ipv4Net, &str); 4] = [
        (Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 8), "which name no host"),
        (Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8), "loopback addresses"),
        (Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16), "link-local addresses"),
        (Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 3), "multicast and reserved addresses"),
    ];
    let met = NOBODYS.iter().find(|(net, _)| net.contains(&prefix) || prefix.contains(net));
    match met {
        Some((net, what)) => {
            Err(format!("has addresses of {net}, {what}; routers drop such sources"))
        }
        None => Ok(()),
    }
}

/// Whether an address means something on its own network only.
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::Vip;

    #[test]
    fn vips_print_as_they_are_written() {
        for text in ["tcp://10.200.1.1:80", "udp://[fc00:1::2]:443", "tcp://10.200.1.2:*"] {
            assert_eq!(text.parse::<Vip>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_vips_say_why() {
        for (text, why) in [
            ("10.200.1.1:80", "no '://'"),
            ("sctp://10.200.1.1:80", "the protocol is tcp or udp"),
            ("tcp://10.200.1.1", "no port"),
            ("tcp://10.200.1.1:0", "the port is"),
            ("tcp://10.200.1.1:65536", "the port is"),
            ("tcp://fc00::1:80", "no IP address"),
            ("tcp://[10.0.0.1]:80", "no IP address"),
            ("tcp://web1.example:80", "a host name"),
            ("tcp://0.0.0.0:80", "unspecified"),
            ("tcp://224.0.0.1:80", "multicast"),
            ("tcp://127.0.0.1:80", "loopback"),
            ("tcp://255.255.255.255:80", "broadcast"),
            ("tcp://0.1.2.3:80", "0.0.0.0/8"),
            ("tcp://169.254.1.1:80", "link-local"),
            ("tcp://[fe80::1]:80", "link-local"),
            ("tcp://[::ffff:10.0.0.1]:80", "IPv4-mapped"),
        ] {
            let error = text.parse::<Vip>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
            assert!(error.contains(text), "{text}: {error}");
        }
    }

    #[test]
    fn bad_vips_say_what_was_meant() {
        for (text, meant) in [
            ("10.200.1.1:80", "; write tcp://10.200.1.1:80 or udp://10.200.1.1:80"),
            ("[fc00:1::1]:80", "; write tcp://[fc00:1::1]:80 or udp://[fc00:1::1]:80"),
            ("fc00:1::1:443", "; write tcp://[fc00:1::1]:443 or udp://[fc00:1::1]:443"),
            ("tcp://fc00:1::1:443", "; write tcp://[fc00:1::1]:443"),
            ("udp://10.200.1.1", "; write udp://10.200.1.1:80"),
            ("TCP://10.200.1.1:80", "; write tcp://10.200.1.1:80"),
            ("tcp:10.200.1.1:80", "; write tcp://10.200.1.1:80"),
            ("10.200.1.1:53/udp", "; write udp://10.200.1.1:53"),
            ("tcp://10.200.1.1:80/10.0.2.1", "; write it like"),
            ("tcp://127.0.0.1", "; write it like"),
            ("web", "; write it like"),
            ("", "; write it like"),
        ] {
            let error = text.parse::<Vip>().unwrap_err().to_string();
            assert!(error.contains(meant), "{text}: {error}");
        }
    }
}
