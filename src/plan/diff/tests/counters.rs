//! Packets are counted for their pair of a VIP and a real, whatever changes.

use super::*;
use crate::plan::counter_change::CounterChange;
use crate::plan::counter_change::hand_on;
use crate::plan::counter_change::minus;

/// The maps and their counters, beside what really was sent.
struct Counting {
    maps: Maps,
    /// What each counter has on all CPUs.
    sums: Vec<abi::count>,
    starts: Vec<abi::count>,
    /// VIPs that the index has no more, and `vips` still has.
    leaving: BTreeSet<VipKey>,
    sent: BTreeMap<(Vip, IpAddr), u64>,
    sent_in_all: BTreeMap<IpAddr, u64>,
}

impl Counting {
    fn new() -> Self {
        let none = vec![abi::count::default(); consts::REAL_COUNTS as usize];
        Self {
            maps: Maps::default(),
            sums: none.clone(),
            starts: none,
            leaving: BTreeSet::new(),
            sent: BTreeMap::new(),
            sent_in_all: BTreeMap::new(),
        }
    }

    fn hand_on(&mut self, changes: &[CounterChange]) {
        let sums = &self.sums;
        hand_on(changes, |counter| sums[counter as usize], &mut self.starts);
    }

    fn go(&mut self, table: &Table) {
        self.maps.under_way.clear();
        let mut packets_come = true;
        // A server id that changes names another real before the VIPs have counters for it: these packets are lost.
        let named: BTreeSet<_> = self.maps.running().server_id_addresses().into_iter().collect();
        let after: BTreeSet<_> = table.server_ids.clone().into_iter().collect();
        let named = named.intersection(&after).map(|(_, real)| *real).collect();
        let writes = diff(&self.maps.running(), table).writes;
        let leaving: BTreeSet<_> = writes
            .iter()
            .filter_map(|write| match write {
                Write::RemoveVip(key) => Some(*key),
                _ => None,
            })
            .collect();
        for write in writes {
            if let Write::Reals(reals) = &write {
                let reused = reals.iter().filter(|(_, real)| real.generation > 1);
                let begin: Vec<_> = reused.map(|(id, _)| CounterChange::Begin(*id)).collect();
                self.hand_on(&begin);
            }
            if let Write::VipIndex | Write::Vips(_) | Write::RemoveVip(_) = &write {
                self.leaving.clone_from(&leaving);
            }
            match &write {
                Write::Counters(changes) => self.hand_on(changes),
                other => self.maps.write(other),
            }
            // What comes between the two is lost, if the VIP goes or gets other counters.
            packets_come = match write {
                Write::Counters(_) => false,
                Write::Vips(_) | Write::RemoveVip(_) | Write::RemoveVipReals(_) => true,
                _ => packets_come,
            };
            if packets_come {
                self.packets(&named);
            }
        }
        self.leaving.clear();
        self.packets(&table.server_ids.values().copied().collect());
        self.sent.retain(|(vip, real), _| {
            table.vips.get(vip).is_some_and(|spec| {
                let named =
                    spec.is_routed_by_id() && table.server_ids.values().any(|id| id == real);
                named || spec.reals.contains_key(real)
            })
        });
        let reals = table.reals();
        self.sent_in_all.retain(|real, _| reals.contains(real));
    }

    /// A packet of each VIP to each real that it may send one to. Server ids name some.
    fn packets(&mut self, named: &BTreeSet<IpAddr>) {
        let mut used = BTreeMap::new();
        for (vip, running) in self.maps.running().vips {
            if self.leaving.contains(&VipKey::from(abi::vip_key::from(vip))) {
                continue;
            }
            let ring = self.maps.rings.get(&running.id);
            let mut ids: BTreeSet<u32> = ring.iter().flat_map(|ring| &ring.ids).copied().collect();
            if running.spec.is_routed_by_id() {
                let live = self.maps.reals.iter().filter(|(_, real)| real.live);
                ids.extend(
                    live.filter(|(_, real)| named.contains(&real.address)).map(|(id, _)| *id),
                );
            }
            ids.retain(|id| !running.barred.contains(id) && self.maps.reals[id].live);
            for id in ids {
                let (counter, real) = (running.counters + id, self.maps.reals[&id].address);
                if running.counters != 0 {
                    let other = used.insert(counter, (vip, real));
                    assert_eq!(other, None, "{vip} and {real} count there, too");
                }
                self.sums[counter as usize].packets += 1;
                *self.sent.entry((vip, real)).or_default() += 1;
                *self.sent_in_all.entry(real).or_default() += 1;
            }
        }
    }

    fn shown(&self, counter: u32) -> u64 {
        minus(self.sums[counter as usize], self.starts[counter as usize]).packets
    }

    fn assert_right(&self) {
        let running = self.maps.running();
        let ids = running.live_ids();
        let mut in_all: BTreeMap<IpAddr, u64> =
            ids.iter().map(|(real, id)| (*real, self.shown(*id))).collect();
        for (vip, of_vip) in &running.vips {
            let named = running.server_id_addresses();
            let named = named.values().filter(|_| of_vip.spec.is_routed_by_id());
            let pairs: BTreeSet<_> = of_vip.spec.reals.keys().chain(named).collect();
            for real in pairs {
                assert_ne!(of_vip.counters, 0, "{vip} has no counters");
                let shown = self.shown(of_vip.counters + ids[real]);
                if of_vip.spec.reals.contains_key(real) {
                    let sent = self.sent.get(&(*vip, *real)).copied().unwrap_or_default();
                    assert_eq!(shown, sent, "{vip} to {real}");
                }
                *in_all.get_mut(real).expect("a real") += shown;
            }
        }
        for (real, shown) in in_all {
            let sent = self.sent_in_all.get(&real).copied().unwrap_or_default();
            assert_eq!(shown, sent, "all to {real}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn each_packet_is_counted_for_its_pair(tables in collection::vec(table(), 2..8)) {
        let mut counting = Counting::new();
        for table in &tables {
            counting.go(table);
            counting.assert_right();
        }
    }
}
