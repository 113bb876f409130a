//! `allow_own_address` of a VIP.

use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de;

/// `allow_own_address`: whether a VIP may be on an address of the host that balances it.
///
/// Packets for the VIP no longer reach the host's own sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum OwnAddress {
    /// `false`: refused.
    #[default]
    Refused,
    /// `true`: allowed. A VIP for every port is allowed only where no socket of the host listens.
    Allowed,
    /// `"force"`: allowed. A VIP for every port is allowed, too, whatever listens there.
    Forced,
}

impl<'de> Deserialize<'de> for OwnAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = OwnAddress;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or \"force\"")
            }

            fn visit_bool<E: de::Error>(self, allowed: bool) -> Result<OwnAddress, E> {
                Ok(if allowed { OwnAddress::Allowed } else { OwnAddress::Refused })
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OwnAddress, E> {
                match text {
                    "force" => Ok(OwnAddress::Forced),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for OwnAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Refused => serializer.serialize_bool(false),
            Self::Allowed => serializer.serialize_bool(true),
            Self::Forced => serializer.serialize_str("force"),
        }
    }
}
