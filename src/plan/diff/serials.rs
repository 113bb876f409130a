//! Serials. They are part of the keys of flows. Which VIPs get new ones, and how they are handed out.

use std::collections::BTreeSet;

use super::Differ;
use super::RunningVip;
use crate::model::abi::consts;
use crate::model::address::Vip;
use crate::model::vip_table::VipSpec;
use crate::plan::writes::Write;

/// Whether a VIP must not find its old flows any more: they have other keys, or they date from before the VIP went
/// without a connection table. Otherwise flows would return to their old reals when the VIP is changed back.
pub(super) fn forgets(vip: &Vip, running: &RunningVip, spec: &VipSpec) -> bool {
    let (before, after) = (running.flags, spec.flags(vip));
    (before ^ after) & consts::VIP_REDUCED_KEY != 0 || before & !after & consts::VIP_STATELESS != 0
}

impl Differ<'_> {
    /// Hands out serials.
    pub(super) fn new_serials(&mut self, count: usize) -> Vec<u32> {
        if count == 0 {
            return Vec::new();
        }
        let mut taken: BTreeSet<u32> = self.running.vips.values().map(|vip| vip.serial).collect();
        taken.extend(&self.handed_out);
        let free = |from| {
            let all = from..=consts::MAX_SERIAL;
            all.filter(|serial| !taken.contains(serial)).take(count).collect::<Vec<u32>>()
        };
        // 0 stands for no VIP.
        let mut serials = free(self.next_serial.max(1));
        if serials.len() < count {
            serials = free(1);
            self.write(Write::ForgetVipsBut(taken.clone()));
        }
        let next_serial = serials.last().map_or(1, |last| last + 1);
        self.write(Write::Serials { next_serial });
        self.next_serial = next_serial;
        self.handed_out.extend(&serials);
        serials
    }
}
