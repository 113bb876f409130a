//! Keys of `vips`, as the planning of writes compares them. Pure.

use std::fmt;

use crate::abi;

/// A key of `vips`, comparable.
#[derive(Clone, Copy)]
pub(crate) struct Key(pub(crate) abi::vip_key);

impl From<abi::vip_key> for Key {
    fn from(key: abi::vip_key) -> Self {
        Self(key)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.vip() {
            Some(vip) => write!(f, "{vip}"),
            None => write!(f, "{:?}", self.0),
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.sort_key() == other.0.sort_key()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.sort_key().cmp(&other.0.sort_key())
    }
}
