//! Where the maps do not match each other. Pure.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use crate::model::address::Vip;
use crate::model::maglev::ring::RING_SIZE;

/// What to do about maps that do not match.
const REMEDY: &str = "lbctl apply -f FILE writes them anew, without an interruption; 'lbctl serve' does so within a minute. If \
    no other program wrote to the maps, it is a fault of l4lb: please report it";

/// What to do where the entry of a real is wrong. Its address may be, and then the maps do not tell which is right:
/// neither 'lbctl serve' nor what 'lbctl save' prints knows.
const REAL_REMEDY: &str = "apply the file that you have, not what 'lbctl save' prints: lbctl apply --yes -f FILE, \
    or lbctl reload; --yes, as flows that already go to a wrong address count as established";

/// Something that packets are handled by and that is not what the control plane's own records give. Its text says what
/// is wrong. The next apply of a file writes it anew; `lbctl serve` does so within a minute, but for [`Self::Real`].
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

impl Mismatch {
    /// What to do about all of them.
    pub(crate) fn remedy(mismatches: &[Self]) -> &'static str {
        if mismatches.iter().any(Self::is_of_real) { REAL_REMEDY } else { REMEDY }
    }

    /// The first of them, and how many more there are; empty: there are none.
    pub(crate) fn summary(mismatches: &[Self]) -> String {
        let Some((first, more)) = mismatches.split_first() else { return String::new() };
        match more.len() {
            0 => first.to_string(),
            more => format!("{first}; and {more} more such maps"),
        }
    }

    /// Whether the address of a real may be wrong, which only the file knows.
    pub(crate) fn is_of_real(&self) -> bool {
        matches!(self, Self::Real { .. })
    }
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
