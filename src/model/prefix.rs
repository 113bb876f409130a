//! A prefix: addresses that have their leading bits in common.

use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::IpNet;
use ipnet::Ipv4Net;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;

use crate::model::config::SourceV4;
use crate::model::config::SourceV6;
use crate::model::text::quote;

/// An address and how many of its leading bits count. The bits behind may be set, as in `192.0.2.7/24`.
///
/// ```
/// let prefix: l4lb::Prefix = "192.0.2.0/24".parse()?;
/// assert!(prefix.contains("192.0.2.7".parse()?));
/// assert_eq!("2001:db8::1".parse::<l4lb::Prefix>()?.to_string(), "2001:db8::1/128");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(IpNet);

impl Prefix {
    pub(crate) const ALL_IPV4: Self =
        Self(IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)));

    /// The prefix of this address and length. `None`: the address has fewer bits.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        IpNet::new(address, length).ok().map(Self)
    }

    /// The prefix of an address and its netmask. `None`: that is no netmask of this address.
    pub(crate) fn with_netmask(address: IpAddr, netmask: IpAddr) -> Option<Self> {
        IpNet::with_netmask(address, netmask).ok().map(Self)
    }

    /// The address, as it was given.
    pub fn address(self) -> IpAddr {
        self.0.addr()
    }

    /// How many leading bits count.
    pub fn prefix_len(self) -> u8 {
        self.0.prefix_len()
    }

    /// Whether it is a single address.
    pub fn is_single(self) -> bool {
        self.0.prefix_len() == self.0.max_prefix_len()
    }

    /// Whether an address is one of the prefix.
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Whether all addresses of another prefix are in this one.
    pub(crate) fn covers(self, other: Self) -> bool {
        self.0.contains(&other.0)
    }

    /// The same prefix, without the bits behind it.
    pub(crate) fn network(self) -> Self {
        Self(self.0.trunc())
    }

    /// The broadcast address of an IPv4 network. A network of two addresses has none (RFC 3021).
    pub(crate) fn broadcast(self) -> Option<Ipv4Addr> {
        match self.0 {
            IpNet::V4(v4) if v4.prefix_len() < 31 => Some(v4.broadcast()),
            _ => None,
        }
    }
}

impl From<IpAddr> for Prefix {
    fn from(address: IpAddr) -> Self {
        Self(address.into())
    }
}

impl From<SourceV4> for Prefix {
    fn from(source: SourceV4) -> Self {
        Self(source.net().into())
    }
}

impl From<SourceV6> for Prefix {
    fn from(source: SourceV6) -> Self {
        Self(source.net().into())
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Prefix {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A text that is no prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is neither an address nor a prefix; write it like 192.0.2.0/24, 2001:db8::/32 or 192.0.2.1"
)]
pub struct PrefixParseError {
    text: String,
}

impl FromStr for Prefix {
    type Err = PrefixParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let net = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        net.map(Self).map_err(|_| PrefixParseError { text: quote(text) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn prefixes_are_written_with_their_length() {
        for (text, written) in
            [("192.0.2.7/24", "192.0.2.7/24"), ("192.0.2.1", "192.0.2.1/32"), ("::/0", "::/0")]
        {
            assert_eq!(prefix(text).to_string(), written);
        }
        for wrong in ["", "192.0.2.0/33", "::1/129", "192.0.2.0/", "host", "192.0.2.0/24 "] {
            assert!(wrong.parse::<Prefix>().is_err(), "{wrong}");
        }
        assert_eq!(Prefix::new([192, 0, 2, 0].into(), 33), None);
    }

    #[test]
    fn families_do_not_contain_each_other() {
        assert!(prefix("192.0.2.7/24").contains([192, 0, 2, 200].into()));
        assert!(!prefix("::/0").contains([192, 0, 2, 200].into()));
        assert!(prefix("192.0.0.0/16").covers(prefix("192.0.2.0/24")));
        assert!(!prefix("192.0.2.0/24").covers(prefix("192.0.0.0/16")));
    }

    #[test]
    fn networks_of_two_have_no_broadcast_address() {
        assert_eq!(prefix("192.0.2.7/24").broadcast(), Some(Ipv4Addr::new(192, 0, 2, 255)));
        assert_eq!(prefix("192.0.2.7/31").broadcast(), None);
        assert_eq!(prefix("2001:db8::1/64").broadcast(), None);
    }
}
