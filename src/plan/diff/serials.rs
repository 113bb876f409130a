//! Serials, which the flows of VIPs are keyed by: which VIPs get new ones, and handing them out.

use std::collections::BTreeSet;

use super::Differ;
use super::RunningVip;
use crate::model::abi::consts;
use crate::model::address::Vip;
use crate::model::vip_table::VipSpec;
use crate::plan::writes::Write;

/// Whether what a VIP has remembered must not be found any more: it is under other keys, or from before the VIP went
/// without a table. Else flows would go on where they were then, once the VIP is as it was.
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
