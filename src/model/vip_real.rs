//! The keys of the records in `vip_reals`.

use crate::model::abi;

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
