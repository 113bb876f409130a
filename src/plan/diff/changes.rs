//! Changes of VIPs that run.

use super::Differ;
use super::RunningVip;
use super::VipAction;
use super::VipChange;
use super::mark;
use super::raw_vip;
use super::serials::forgets;
use crate::model::abi;
use crate::model::abi::consts;
use crate::model::address::Vip;
use crate::model::vip_key::VipKey;
use crate::model::vip_real::VipRealKey;
use crate::model::vip_table::VipSpec;
use crate::plan::counter_change::CounterChange;
use crate::plan::report::describe;
use crate::plan::report::differs_by_reals;
use crate::plan::rings::RingImage;
use crate::plan::rings::Rings;
use crate::plan::writes::Write;

/// A VIP that runs, and what is wanted of it.
#[derive(Clone, Copy)]
struct Change<'a> {
    vip: &'a Vip,
    running: &'a RunningVip,
    spec: &'a VipSpec,
}

/// The writes that change VIPs, in the order in which they come. Each write covers all VIPs: the kernel waits for
/// running programs once for each batch of rings.
#[derive(Default)]
struct Changes {
    marks: Vec<abi::vip_real>,
    new_counters: Vec<CounterChange>,
    bars: Vec<(VipKey, abi::vip)>,
    rewritten: Vec<(u32, RingImage)>,
    rings: Vec<(u32, RingImage)>,
    no_rings: Vec<u32>,
    reals: Vec<abi::vip_real>,
    gone: Vec<VipRealKey>,
    old_counters: Vec<CounterChange>,
    entries: Vec<(VipKey, abi::vip)>,
    last_counters: Vec<CounterChange>,
    unmark: Vec<VipRealKey>,
}

impl Changes {
    fn write(self, differ: &mut Differ<'_>) {
        differ.write(Write::VipReals(self.marks));
        differ.write(Write::Counters(self.new_counters));
        differ.write(Write::Vips(self.bars));
        differ.write(Write::RewriteRings(self.rewritten));
        differ.write(Write::Rings(self.rings));
        differ.write(Write::RemoveRings(self.no_rings));
        // Like the records of the reals: after the rings that were made from them.
        differ.set_policies();
        differ.write(Write::Counters(self.old_counters));
        differ.write(Write::VipReals(self.reals));
        differ.write(Write::RemoveVipReals(self.gone));
        differ.write(Write::Vips(self.entries));
        differ.write(Write::Counters(self.last_counters));
        differ.write(Write::RemoveVipReals(self.unmark));
    }
}

impl<'a> Differ<'a> {
    pub(super) fn change_vips(&mut self) {
        let changing = self.changing_vips();
        let anew =
            changing.iter().filter(|change| forgets(change.vip, change.running, change.spec));
        let mut serials = self.new_serials(anew.count()).into_iter();
        let mut changes = Changes::default();
        for change in &changing {
            self.change_vip(&mut changes, *change, &mut serials);
        }
        changes.write(self);
        self.tell_changes(changing);
    }

    fn changing_vips(&self) -> Vec<Change<'a>> {
        let both = self.wanted.vips.iter().filter_map(|(vip, spec)| {
            let running = self.running.vips.get(vip)?;
            Some(Change { vip, running, spec })
        });
        both.filter(|change| self.differs(change.running, change.spec)).collect()
    }

    /// Whether a VIP changes. It also changes if only the set of reals that may keep flows differs.
    fn differs(&self, running: &RunningVip, spec: &VipSpec) -> bool {
        if self.has_wrong_ring(running) || running.spec != *spec {
            return true;
        }
        spec.is_routed_by_id()
            && self.server_ids != self.wanted.server_ids
            && spec.keepers(&self.server_ids) != spec.keepers(&self.wanted.server_ids)
    }

    fn change_vip(
        &self,
        changes: &mut Changes,
        Change { vip, running, spec }: Change<'_>,
        serials: &mut impl Iterator<Item = u32>,
    ) {
        let barred = self.barred(Some(running), spec);
        let bar = if barred.is_empty() { 0 } else { consts::VIP_BARRED };
        let key = VipKey::from(abi::vip_key::from(*vip));
        let counters = self.counters(vip, Some(running));
        let value = |flags| raw_vip(running.id, counters, running.serial, flags);

        if !running.changing {
            changes.marks.push(mark(running.id));
        }
        let mut kept = running.flags & consts::VIP_RING_CHANGED;
        if self.has_wrong_ring(running) || running.spec.members() != spec.members() {
            kept = consts::VIP_RING_CHANGED;
        }
        let with_bar = running.flags | bar | kept;
        let of_counters = self.change_counters(vip, running, spec);
        changes.new_counters.extend(of_counters.before);
        changes.old_counters.extend(of_counters.after);
        changes.last_counters.extend(of_counters.last);
        if with_bar != running.flags || counters != running.counters {
            changes.bars.push((key, value(with_bar)));
        }
        self.change_ring(changes, running, self.ring(spec, barred));

        let before = &running.spec.reals;
        let new = spec.reals.iter().filter(|(real, spec)| before.get(real) != Some(spec));
        changes.reals.extend(self.vip_reals(running.id, new));
        let gone = before.keys().filter(|real| !spec.reals.contains_key(real));
        changes.gone.extend(self.vip_real_keys(running.id, gone));

        let flags = spec.flags(vip) | bar | kept;
        if forgets(vip, running, spec) {
            // From now on, its connection table is filled from the new ring.
            let flags = flags & !consts::VIP_RING_CHANGED;
            let serial = serials.next().unwrap_or(running.serial);
            changes.entries.push((key, raw_vip(running.id, counters, serial, flags)));
        } else if flags != with_bar {
            changes.entries.push((key, value(flags)));
        }
        changes.unmark.push(mark(running.id).key());
    }

    fn change_ring(&self, changes: &mut Changes, running: &RunningVip, wanted: Option<RingImage>) {
        let before = (!self.has_wrong_ring(running))
            .then(|| self.ring(&running.spec, running.barred.clone()))
            .flatten();
        match wanted {
            None => changes.no_rings.push(running.id),
            Some(image) if before.as_ref() == Some(&image) => {}
            Some(image) if before.is_some_and(|before| self.stay(&before)) => {
                changes.rewritten.push((running.id, image));
            }
            Some(image) => changes.rings.push((running.id, image)),
        }
    }

    /// Reports the changes. Leaves out VIPs of which only the set of reals that may keep flows differs.
    fn tell_changes(&mut self, changing: Vec<Change<'_>>) {
        let members: Vec<_> = changing
            .iter()
            .map(|change| (change.running.spec.members(), change.spec.members()))
            .collect();
        let moved = self.diff.rings.moved(&members);
        for (Change { vip, running, spec }, moved) in changing.into_iter().zip(moved) {
            let action = match (running.spec == *spec, running.changing) {
                (true, false) => continue,
                (true, true) => VipAction::Repair,
                (false, _) => VipAction::Change,
            };
            let details = describe(&running.spec, spec);
            let keys = |spec: &VipSpec| spec.flags(vip) & consts::VIP_REDUCED_KEY;
            let moved = if keys(&running.spec) == keys(spec) {
                moved
            } else {
                Rings::moved_anew(&running.spec.members(), &spec.members())
            };
            let moves_by_reals =
                action == VipAction::Change && differs_by_reals(&running.spec, spec);
            self.diff.vips.push(VipChange { vip: *vip, action, details, moved, moves_by_reals });
        }
    }
}
