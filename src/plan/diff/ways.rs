//! The way of packets to each real: what its entry says, and where its frames go.

use std::collections::BTreeSet;
use std::net::IpAddr;

use rustc_hash::FxHashMap;
use rustc_hash::FxHashSet;

use super::Differ;
use super::Running;
use super::RunningReal;
use super::RunningVip;
use super::TableDiff;
use crate::model::config::Delivery;
use crate::model::config::Encapsulation;
use crate::model::real_way::Neighbour;
use crate::model::real_way::RealFacts;
use crate::model::real_way::RealWay;
use crate::model::vip_table::Table;
use crate::plan::detail::Detail;
use crate::plan::writes::Write;

impl Running {
    /// What the maps hold about the host: nothing new is known.
    pub(crate) fn facts(&self) -> RealFacts {
        let live = self.reals.values().filter(|real| real.live && real.way.is_own);
        RealFacts { own: live.map(|real| real.address).collect(), ..RealFacts::default() }
    }

    /// The reals whose own MAC frames go to, and whether it is known.
    pub(crate) fn reals_by_mac(&self) -> Vec<(IpAddr, bool)> {
        let is_l2 = |vip: &RunningVip| vip.spec.encapsulation == Some(Encapsulation::L2);
        let says_l2 =
            |real: &RunningReal| real.live && real.way.said == Delivery::By(Encapsulation::L2);
        if !self.vips.values().any(is_l2) && !self.reals.values().any(says_l2) {
            return Vec::new();
        }
        let ids = self.live_ids();
        let reals = on_link(&self.table(), &self.facts().own).into_iter();
        reals.map(|real| (real, self.neighbour(&ids, real).is_some())).collect()
    }

    /// Where frames for a real go, by its address.
    pub(crate) fn neighbour(
        &self,
        ids: &FxHashMap<IpAddr, u32>,
        real: IpAddr,
    ) -> Option<Neighbour> {
        self.neighbours.get(ids.get(&real)?).copied()
    }
}

/// The reals of a table that say something themselves about the way of their packets.
fn said(table: &Table) -> FxHashMap<IpAddr, Delivery> {
    let reals = table.vips.values().flat_map(|spec| &spec.reals);
    let said = reals.filter(|(_, real)| real.delivery != Delivery::AsVip);
    said.map(|(address, real)| (*address, real.delivery)).collect()
}

/// The reals whose own MAC frames go to, unless they are this host itself.
pub(crate) fn on_link(table: &Table, own: &FxHashSet<IpAddr>) -> BTreeSet<IpAddr> {
    let l2 = Encapsulation::L2;
    let mut on_link = BTreeSet::new();
    for spec in table.vips.values() {
        let by_vip = spec.encapsulation == Some(l2);
        let needs = |delivery: Delivery| match delivery {
            Delivery::AsVip => by_vip,
            own => own == Delivery::By(l2),
        };
        let reals = spec.reals.iter().filter(|(_, real)| needs(real.delivery));
        on_link.extend(reals.map(|(address, _)| *address));
        if by_vip && spec.is_routed_by_id() {
            on_link.extend(table.server_ids.values());
        }
    }
    if !on_link.is_empty() {
        let said = said(table);
        on_link.retain(|address| match said.get(address) {
            None => !own.contains(address),
            Some(said) => *said == Delivery::By(l2),
        });
    }
    on_link
}

/// The writes after which the maps say of running reals what the host knows now. VIPs and reals stay as they are.
pub(crate) fn follow_ways(running: &Running, facts: &RealFacts) -> TableDiff {
    let table = running.table();
    let mut differ = Differ::new(running, &table);
    differ.follows = true;
    differ.find_ways(facts);
    differ.set_ways(facts);
    differ.forget_neighbours();
    differ.diff
}

impl Differ<'_> {
    /// Finds out the way of packets to each real that is wanted.
    pub(super) fn find_ways(&mut self, facts: &RealFacts) {
        let own = self.wanted_reals.iter().filter(|address| facts.own.contains(*address));
        let own = own.map(|address| (*address, RealWay { said: Delivery::AsVip, is_own: true }));
        self.ways = own.collect();
        let said = said(self.wanted).into_iter();
        self.ways.extend(said.map(|(address, said)| (address, RealWay { said, is_own: false })));
        self.on_link = on_link(self.wanted, &facts.own);
    }

    pub(super) fn way(&self, address: IpAddr) -> RealWay {
        self.ways.get(&address).copied().unwrap_or_default()
    }

    /// Writes where frames for reals go, before packets may go there, and then what differs about the ways.
    pub(super) fn set_ways(&mut self, facts: &RealFacts) {
        let before = self.running.live_ids();
        let mut neighbours = Vec::new();
        for address in &self.on_link {
            let Some(id) = self.ids.get(address) else { continue };
            let held = self.running.neighbours.get(id).copied();
            // An id that gets a new owner may still have the neighbour of the last one.
            let of_real = held.filter(|_| before.contains_key(address));
            let now = facts.neighbours.get(address).copied().or(of_real);
            if now != held {
                neighbours.push((*id, now));
            }
            match (of_real, now) {
                (Some(old), Some(now)) if old != now => {
                    self.diff.reals.push(moved(*address, old, now));
                }
                // An apply finds the MACs of all reals for the first time.
                (None, Some(now)) if self.follows => self.diff.reals.push(found(*address, now)),
                _ => {}
            }
        }
        self.write(Write::Neighbours(neighbours));
        let kept: Vec<(u32, RunningReal)> = before
            .iter()
            .filter(|(address, _)| self.wanted_reals.contains(*address))
            .filter_map(|(_, id)| Some((*id, *self.running.reals.get(id)?)))
            .collect();
        for (id, real) in kept {
            let way = self.way(real.address);
            if way != real.way {
                self.write(Write::SetReal { id, real: RunningReal { way, ..real } });
            }
        }
        let mut own: Vec<_> = self.wanted_reals.iter().copied().collect();
        own.retain(|address| {
            let was = before.get(address).and_then(|id| self.running.reals.get(id));
            was.is_some_and(|real| real.way.is_own) != self.way(*address).is_own
        });
        own.sort_unstable();
        for address in own {
            let way = self.way(address);
            // What the operator says now is told with the VIP.
            if way.said == Delivery::AsVip {
                self.diff.reals.push(owned(address, way.is_own));
            }
        }
    }

    /// Forgets where frames went for reals that no longer need it, once no packet goes there.
    pub(super) fn forget_neighbours(&mut self) {
        let needed: FxHashSet<_> =
            self.on_link.iter().filter_map(|address| self.ids.get(address)).collect();
        let gone = self.running.neighbours.keys().filter(|id| !needed.contains(id));
        let gone = gone.map(|id| (*id, None)).collect();
        self.write(Write::Neighbours(gone));
    }
}

/// A real answers for its MAC.
fn found(real: IpAddr, now: Neighbour) -> Detail {
    let text = format!("real {real}: MAC {}, so that it gets its packets now", now.mac);
    Detail { real: Some(real), ..Detail::setting("mac", (), now.mac, text) }
}

/// A real has another MAC, or is on another interface.
fn moved(real: IpAddr, old: Neighbour, now: Neighbour) -> Detail {
    let text = if old.ifindex == now.ifindex {
        format!("real {real}: MAC {} → {}", old.mac, now.mac)
    } else {
        format!(
            "real {real}: MAC {} on interface number {} → {} on number {}",
            old.mac, old.ifindex, now.mac, now.ifindex
        )
    };
    Detail { real: Some(real), ..Detail::setting("mac", old.mac, now.mac, text) }
}

/// The host got or lost the address of a real.
fn owned(real: IpAddr, is_own: bool) -> Detail {
    let text = if is_own {
        format!(
            "real {real}: it has an address of this host, so this host's kernel gets its packets"
        )
    } else {
        format!("real {real}: this host no longer has its address, so packets for it leave again")
    };
    Detail { real: Some(real), ..Detail::setting("local", !is_own, is_own, text) }
}
