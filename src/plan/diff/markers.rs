//! Markers: which addresses have VIPs, and what these addresses do with packets that no VIP takes.

use std::collections::BTreeMap;

use super::Differ;
use crate::model::abi;
use crate::model::abi::consts;
use crate::model::vip_key::VipKey;
use crate::plan::writes::Write;

/// See `struct vip_key` in abi/vip.h.
pub(super) const MARKER: abi::vip = marker(consts::VIP_MARKER);

const fn marker(flags: u32) -> abi::vip {
    abi::vip { id: 0, counters: 0, serial: 0, flags }
}

impl Differ<'_> {
    /// New markers have no rules yet. Rules are for packets that no VIP takes, so the VIPs are written first.
    pub(super) fn add_markers(&mut self) {
        let runs = |key: &VipKey| {
            self.running.markers.contains_key(key)
                || key.0.vip().is_some_and(|vip| self.running.vips.contains_key(&vip))
        };
        let markers = self.wanted_keys.iter().filter(|(key, vip)| vip.is_none() && !runs(key));
        let markers = markers.map(|(key, _)| (*key, MARKER)).collect();
        self.write(Write::Vips(markers));
    }

    /// Brings the rules of all markers in line with the VIPs of their addresses.
    pub(super) fn set_rules(&mut self) {
        let mut rules = BTreeMap::new();
        let markers = self.wanted_keys.iter().filter(|(_, vip)| vip.is_none());
        let wanted = markers.map(|(key, _)| {
            let address = key.0.address();
            let flags = *rules.entry(address).or_insert_with(|| self.wanted.rules(address));
            (*key, consts::VIP_MARKER | flags)
        });
        let now = |key: &VipKey| self.running.markers.get(key).copied().unwrap_or(MARKER.flags);
        let changed = wanted.filter(|(key, flags)| now(key) != *flags);
        let changed = changed.map(|(key, flags)| (key, marker(flags))).collect();
        self.write(Write::Vips(changed));
    }

    pub(super) fn remove_markers(&mut self) {
        let gone = self.running.markers.keys();
        let gone = gone.filter(|key| !self.wanted_keys.contains_key(key));
        for key in gone.copied().collect::<Vec<_>>() {
            self.write(Write::RemoveVip(key));
        }
    }
}
