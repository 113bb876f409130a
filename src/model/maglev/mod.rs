//! The Maglev ring of a VIP: who gets which slot, and the hashes of flows and reals.

pub mod hash;
pub mod ring;
pub(crate) mod shares;
