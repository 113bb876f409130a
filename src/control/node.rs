//! Maintenance of the balancer itself: it tells others that it is about to go, and forwarding goes on.

use crate::dataplane::balancer::Balancer;
use crate::instance::Instance;
use crate::kernel::clock::seconds_since_1970;
use crate::kernel::maps::Map;
use crate::model::abi;
use crate::model::error::Result;

impl Balancer {
    /// Begins to drain the node: [`crate::readiness()`] is [`crate::Unready::Draining`] from now on, and so `/readyz` is 503,
    /// so that routing takes traffic elsewhere. Nothing changes for packets. It lasts until [`Self::undrain_node`] or
    /// [`Self::down`], whatever is applied and whether `lbctl serve` runs. Returns since when, in seconds since 1970.
    pub fn drain_node(&self) -> Result<u64> {
        let now = u32::try_from(seconds_since_1970()).unwrap_or(u32::MAX).max(1);
        self.set_draining(|since| if since == 0 { now } else { since })
    }

    /// Ends [`Self::drain_node`]. Returns since when the node was drained, in seconds since 1970; 0: it was not.
    pub fn undrain_node(&self) -> Result<u64> {
        let since = self.draining_since()?.unwrap_or(0);
        self.set_draining(|_| 0)?;
        Ok(since)
    }

    /// Since when the node is drained, in seconds since 1970; `None`: it is not.
    pub fn draining_since(&self) -> Result<Option<u64>> {
        let since = self.dataplane.control()?.map_or(0, |control| control.draining_since);
        Ok((since != 0).then_some(since.into()))
    }

    /// How many packets came for all VIPs so far. It may become less when a VIP goes.
    pub fn packets_for_vips(&self) -> Result<u64> {
        Ok(self.stats()?.vips.values().map(|vip| vip.sent.packets + vip.dropped).sum())
    }

    fn set_draining(&self, set: impl FnOnce(u32) -> u32) -> Result<u64> {
        let _lock = self.instance.lock_existing()?;
        // Another command may have replaced the maps before this one got the lock.
        let current = Self::open(&self.instance)?;
        let Some(control) = current.dataplane.control()? else { return Ok(0) };
        let draining_since = set(control.draining_since);
        current.dataplane.control.set(&0, &abi::control { draining_since, ..control })?;
        Ok(draining_since.into())
    }
}

/// What a repair must keep: since when the node is drained. `None`: the record cannot be read.
pub(crate) fn read(instance: &Instance) -> Option<u32> {
    let control = Map::<u32, abi::control>::open(&instance.map("control")).ok()?.get(&0).ok()??;
    Some(control.draining_since)
}

/// Drains the node again after a repair has made the record anew. The caller has the lock.
pub(crate) fn restore(instance: &Instance, draining_since: u32) -> Result<()> {
    let map = Map::<u32, abi::control>::open(&instance.map("control"))?;
    match map.get(&0)? {
        Some(control) if draining_since != 0 && control.abi != 0 => {
            map.set(&0, &abi::control { draining_since, ..control })?;
            Ok(())
        }
        _ => Ok(()),
    }
}
