//! Keys of `vips`, with an order, for comparisons and sets.

use std::fmt;

use crate::model::abi;

/// A key of `vips`, comparable.
#[derive(Clone, Copy)]
pub(crate) struct VipKey(pub(crate) abi::vip_key);

impl From<abi::vip_key> for VipKey {
    fn from(key: abi::vip_key) -> Self {
        Self(key)
    }
}

impl fmt::Debug for VipKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.vip() {
            Some(vip) => write!(f, "{vip}"),
            None => write!(f, "{:?}", self.0),
        }
    }
}

impl PartialEq for VipKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.sort_key() == other.0.sort_key()
    }
}

impl Eq for VipKey {}

impl PartialOrd for VipKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for VipKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.sort_key().cmp(&other.0.sort_key())
    }
}
