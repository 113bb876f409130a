//! The keys of the records in `vip_reals`.

use crate::model::abi;
use crate::model::abi::consts;

/// The states of the records, which have one byte.
pub(crate) const STATE_UP: u8 = byte(consts::STATE_UP);
pub(crate) const STATE_DRAIN: u8 = byte(consts::STATE_DRAIN);
pub(crate) const STATE_DOWN: u8 = byte(consts::STATE_DOWN);
pub(crate) const STATE_CHANGING: u8 = byte(consts::STATE_CHANGING);

/// A state as a byte. The compiler refuses one that does not fit.
const fn byte(state: u32) -> u8 {
    assert!(state <= u8::MAX as u32);
    state.to_le_bytes()[0]
}

/// VIP and real, by their ids; real 0 is the mark of a VIP that changes.
pub(crate) type VipRealKey = (u32, u32);

impl abi::vip_real {
    /// Its key. An array holds no two records with the same key.
    pub(crate) fn key(&self) -> VipRealKey {
        (self.vip, self.real)
    }

    /// Whether the element of the array is free.
    pub(crate) fn is_none(&self) -> bool {
        self.real == 0 && self.state == 0
    }
}
