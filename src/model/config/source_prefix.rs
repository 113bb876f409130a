//! The prefixes of the outer sources of encapsulated packets.

use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;
use ipnet::Ipv6Net;
use serde::Deserialize;
use serde::Serialize;

use crate::model::text::quote;

macro_rules! source_prefix {
    ($(#[$doc:meta])* $name:ident, $net:ty, $address:ty, $bits:literal, $other:ty, $family:literal,
     $default:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name($net);

        impl Default for $name {
            fn default() -> Self {
                Self($default)
            }
        }

        impl $name {
            /// The prefix of this address and length. `None`: the length is too large, or bits behind it are set.
            pub fn new(address: $address, length: u8) -> Option<Self> {
                <$net>::new(address, length).ok().filter(|net| net.trunc() == *net).map(Self)
            }

            /// Its first address.
            pub fn address(self) -> $address {
                self.0.addr()
            }

            /// How many leading bits all of its addresses share.
            pub fn prefix_len(self) -> u8 {
                self.0.prefix_len()
            }

            pub(crate) fn net(self) -> $net {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                if let Ok(address) = text.parse::<$address>() {
                    return Ok(Self(<$net>::from(address)));
                }
                if let Ok(net) = text.parse::<$net>() {
                    return match net.trunc() == net {
                        true => Ok(Self(net)),
                        false => Err(format!(
                            "'{text}' has bits set behind the prefix; write {}", net.trunc()
                        )),
                    };
                }
                let other = text.split('/').next().is_some_and(|a| a.parse::<$other>().is_ok());
                Err(if other {
                    format!("'{}' is not {}", quote(text), $family)
                } else {
                    format!("'{}' is neither an address nor a prefix of {}", quote(text), $family)
                })
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self.0.prefix_len() {
                    $bits => serializer.collect_str(&self.0.addr()),
                    _ => serializer.collect_str(&self.0),
                }
            }
        }
    };
}

source_prefix!(
    /// An IPv4 source: an address, or a prefix.
    SourceV4, Ipv4Net, Ipv4Addr, 32, Ipv6Addr, "IPv4",
    Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 16)
);
source_prefix!(
    /// An IPv6 source: an address, or a prefix. The default is the discard-only prefix of RFC 6666.
    SourceV6, Ipv6Net, Ipv6Addr, 128, Ipv4Addr, "IPv6",
    Ipv6Net::new_assert(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64)
);
