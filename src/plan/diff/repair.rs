//! What is written anew because it does not match the other maps, without a change of the configuration.

use super::Differ;
use super::RunningVip;
use crate::model::abi::consts;
use crate::model::mismatch::Mismatch;
use crate::plan::writes::Write;

impl Differ<'_> {
    /// Repairs all but the rings. Those are repaired with the changes of their VIPs.
    pub(super) fn repair(&mut self) {
        if self.running.stale_index {
            self.write(Write::VipIndex);
            self.diff.repairs.push(Mismatch::VipIndex);
        }
        for id in &self.running.wrong_reals {
            let Some(real) = self.running.reals.get(id).filter(|real| real.live) else { continue };
            self.write(Write::SetReal { id: *id, real: *real });
            self.diff.repairs.push(Mismatch::Real { real: real.address });
        }
        let ids = self.running.live_ids();
        for (vip, running) in &self.running.vips {
            if !self.wanted.vips.contains_key(vip) {
                continue;
            }
            if let Some(slots) = self.running.wrong_rings.get(&running.id) {
                self.diff.repairs.push(Mismatch::Ring { vip: *vip, slots: *slots });
            } else if self.running.unsigned_rings.contains(&running.id)
                && self.wanted.vips.get(vip) == Some(&running.spec)
            {
                self.diff.unsigned.extend(running.ring(&ids).map(|image| (running.id, image)));
            }
        }
    }

    /// Whether a VIP's ring cannot be trusted: a comparison found it wrong, or a command was interrupted while it
    /// changed the VIP.
    pub(super) fn has_wrong_ring(&self, running: &RunningVip) -> bool {
        running.changing || self.running.wrong_rings.contains_key(&running.id)
    }

    /// Whether it is unknown which reals a VIP bars. Then all reals that the VIP does not have may be barred: none of
    /// them may keep a flow.
    pub(super) fn lost_bars(&self, running: &RunningVip) -> bool {
        running.flags & consts::VIP_BARRED != 0
            && self.running.wrong_rings.contains_key(&running.id)
    }
}
