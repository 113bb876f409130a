//! What tells the records of `vip_reals` apart.

use crate::model::abi;

/// VIP and real, by their ids; real 0 is the mark of a VIP that changes.
pub(crate) type VipRealKey = (u32, u32);

impl abi::vip_real {
    /// What it is about. An array holds no two with the same.
    pub(crate) fn key(&self) -> VipRealKey {
        (self.vip, self.real)
    }

    /// Whether the place is free.
    pub(crate) fn is_none(&self) -> bool {
        self.real == 0 && self.state == 0
    }
}
