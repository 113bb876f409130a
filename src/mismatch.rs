//! Where the maps do not match each other. Pure.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use crate::addr::Vip;
use crate::ring::RING_SIZE;

/// Something that packets are handled by and that is not what the control plane's own records give. Its text says what
/// is wrong; the next apply, and `lbctl serve` within a minute, write it anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "map", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Mismatch {
    /// A ring is not what Maglev gives for the VIP's reals.
    Ring {
        /// Whose.
        vip: Vip,
        /// How many of its [`RING_SIZE`] slots lead elsewhere; 0: they are right, but not which reals it bars.
        slots: u32,
    },
    /// The index by which packets find their VIP is not what the map of the VIPs holds.
    VipIndex,
    /// The entry that packets get of a real does not match its address: encapsulated packets have a wrong checksum, or
    /// the wrong family.
    Real {
        /// Which.
        real: IpAddr,
    },
    /// The maps hold what no VIP needs, or lack what one does: an interrupted command left it so.
    Leftovers,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring { vip, slots: 0 } => {
                write!(f, "ring of {vip} does not bar the reals that it was written with")
            }
            Self::Ring { vip, slots } => {
                write!(
                    f,
                    "ring of {vip} does not match its reals ({slots} of {RING_SIZE} slots differ)"
                )
            }
            Self::VipIndex => f.write_str("index of the VIPs does not match the VIPs"),
            Self::Real { real } => write!(f, "entry of real {real} does not match its address"),
            Self::Leftovers => f.write_str("an interrupted command left entries that no VIP needs"),
        }
    }
}
