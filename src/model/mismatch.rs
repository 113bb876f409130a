//! Maps that do not match each other. Pure.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use crate::model::address::Vip;
use crate::model::maglev::ring::RING_SIZE;

/// What to do about maps that do not match.
const REMEDY: &str = "lbctl apply -f FILE writes them anew, without an interruption; 'lbctl serve' does so within a minute. If \
    no other program wrote to the maps, it is a fault of l4lb: please report it";

/// What to do if the entry of a real is wrong. If its address is wrong, the maps do not tell the right one: neither
/// 'lbctl serve' nor 'lbctl save' knows it.
const REAL_REMEDY: &str = "apply the file that you have, not what 'lbctl save' prints: lbctl apply --yes -f FILE, \
    or lbctl reload; --yes, as flows that already go to a wrong address count as established";

/// A part of the packet path's maps that does not match the records of the control plane. Its text says what is wrong.
/// The next apply of a file writes it anew; `lbctl serve` does so within a minute, except [`Self::Real`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "map", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Mismatch {
    /// A ring is not the one that Maglev gives for the VIP's reals.
    Ring {
        /// The VIP.
        vip: Vip,
        /// How many of its [`RING_SIZE`] slots are wrong. 0: only the list of barred reals is wrong.
        slots: u32,
    },
    /// The index by which packets find their VIP does not match the map of the VIPs.
    VipIndex,
    /// The entry of a real does not match its address: encapsulated packets have a wrong checksum, or the wrong
    /// family.
    Real {
        /// The real.
        real: IpAddr,
    },
    /// An interrupted command left entries that no VIP needs, or did not write entries that one needs.
    Leftovers,
}

impl Mismatch {
    /// What to do about all of them.
    pub(crate) fn remedy(mismatches: &[Self]) -> &'static str {
        if mismatches.iter().any(Self::is_of_real) { REAL_REMEDY } else { REMEDY }
    }

    /// The first mismatch, and how many more there are. Empty: there are none.
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
