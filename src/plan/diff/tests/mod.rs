//! The order of the writes: after each of them a packet finds a consistent table, and from each of them
//! the next difference leads to what is wanted.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::net::Ipv4Addr;

use proptest::collection;
use proptest::prelude::*;

use super::RingImage;
use super::Running;
use super::RunningReal;
use super::RunningVip;
use super::Write;
use super::cleared;
use super::diff;
use super::mark;
use crate::model::abi;
use crate::model::abi::consts;
use crate::model::address::Protocol;
use crate::model::address::Vip;
use crate::model::config::Echo;
use crate::model::config::Encapsulation;
use crate::model::config::OtherPorts;
use crate::model::config::RealState;
use crate::model::health::RealHealth;
use crate::model::health::policies::Policies;
use crate::model::maglev::ring::Member;
use crate::model::real_way::Neighbour;
use crate::model::real_way::RealWay;
use crate::model::tunnel_end::TunnelEnd;
use crate::model::tunnel_end::TunnelSource;
use crate::model::tunnel_end::together;
use crate::model::vip_key::VipKey;
use crate::model::vip_table::RealSpec;
use crate::model::vip_table::Table;
use crate::model::vip_table::VipSpec;

mod counters;
mod serials;
mod tables;
mod ways;

use tables::table;

/// The maps, without a kernel.
#[derive(Clone, Debug)]
struct Maps {
    next_serial: u32,
    vips: BTreeMap<VipKey, abi::vip>,
    rings: BTreeMap<u32, RingImage>,
    reals: BTreeMap<u32, RunningReal>,
    server_ids: BTreeMap<u32, u32>,
    neighbours: BTreeMap<u32, Neighbour>,
    vip_reals: BTreeMap<(u32, u32), abi::vip_real>,
    policies: Policies,
    tunnel_ends: BTreeMap<IpAddr, TunnelEnd>,
    tunnel_sources: BTreeSet<TunnelSource>,
    /// Real ids that packets may have read in a ring before it was overwritten.
    under_way: BTreeSet<u32>,
    /// By serial: how packets looked for flows so far.
    looked_for: BTreeMap<u32, u32>,
    /// By serial: the ring that flows were remembered by at first.
    first_rings: BTreeMap<u32, Vec<Member>>,
}

impl Default for Maps {
    fn default() -> Self {
        Self {
            next_serial: 1,
            vips: BTreeMap::new(),
            rings: BTreeMap::new(),
            reals: BTreeMap::new(),
            server_ids: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            vip_reals: BTreeMap::new(),
            policies: Policies::default(),
            tunnel_ends: BTreeMap::new(),
            tunnel_sources: BTreeSet::new(),
            under_way: BTreeSet::new(),
            looked_for: BTreeMap::new(),
            first_rings: BTreeMap::new(),
        }
    }
}

impl Maps {
    fn write(&mut self, write: &Write) {
        match write {
            Write::Serials { next_serial } => self.next_serial = *next_serial,
            Write::Reals(reals) => self.reals.extend(reals.iter().copied()),
            Write::SetReal { id, real } => {
                assert!(!self.under_way.contains(id), "a packet would be dropped: {id}");
                self.reals.insert(*id, *real);
            }
            Write::Neighbours(of) => {
                for (id, neighbour) in of {
                    match neighbour {
                        Some(neighbour) => drop(self.neighbours.insert(*id, *neighbour)),
                        None => drop(self.neighbours.remove(id)),
                    }
                }
            }
            Write::ServerIds(ids) => self.server_ids.extend(ids.iter().copied()),
            Write::RemoveServerId(id) => drop(self.server_ids.remove(id)),
            Write::Vips(entries) => self.vips.extend(entries.iter().copied()),
            Write::RemoveVip(key) => drop(self.vips.remove(key)),
            Write::VipIndex
            | Write::ForgetReals(_)
            | Write::ForgetVipsBut(_)
            | Write::Counters(_)
            | Write::ClearVipCounts(_) => {}
            Write::Rings(rings) => {
                self.rings.extend(rings.iter().cloned());
                self.under_way.clear();
            }
            Write::RewriteRings(rings) => {
                for (vip, image) in rings {
                    let before = self.rings.insert(*vip, image.clone()).expect("there is a ring");
                    self.under_way.extend(before.ids);
                }
            }
            Write::RemoveRings(ids) => self.rings.retain(|id, _| !ids.contains(id)),
            Write::VipReals(entries) => {
                self.vip_reals.extend(entries.iter().map(|real| (real.key(), *real)));
            }
            Write::Policies(policies) => self.policies = Policies::clone(policies),
            Write::TunnelEnds(ends) => self.tunnel_ends.extend(ends.iter().cloned()),
            Write::RemoveTunnelEnds(gone) => {
                self.tunnel_ends.retain(|address, _| !gone.contains(address));
            }
            Write::TunnelSources(sources) => self.tunnel_sources.extend(sources.iter().copied()),
            Write::RemoveTunnelSources(gone) => {
                self.tunnel_sources.retain(|source| !gone.contains(source));
            }
            Write::RemoveVipReals(keys) => {
                let keys: BTreeSet<_> = keys.iter().collect();
                self.vip_reals.retain(|key, _| !keys.contains(key));
            }
        }
    }

    /// A ring that is being written over.
    fn rewrite_half(&mut self, rings: &[(u32, RingImage)]) {
        for (vip, new) in rings {
            let ring = self.rings.get_mut(vip).expect("there is a ring");
            ring.members.extend(&new.members);
            ring.ids.extend(&new.ids);
            ring.barred.extend(&new.barred);
        }
    }

    /// As `Dataplane::read_table`.
    fn running(&self) -> Running {
        let mut running = Running {
            next_serial: self.next_serial,
            reals: self.reals.clone(),
            server_ids: self.server_ids.clone(),
            neighbours: self.neighbours.clone(),
            policies: self.policies.clone(),
            ..Running::default()
        };
        let ends = self.tunnel_ends.iter();
        (running.decapsulate, running.stray_sources) = together(
            ends.map(|(address, end)| (*address, end.then, end.from.is_some())),
            self.tunnel_sources.iter().copied(),
        );
        let mut ids = BTreeSet::new();
        for (key, entry) in &self.vips {
            let Some(vip) = key.0.vip().filter(|_| entry.flags & consts::VIP_MARKER == 0) else {
                running.markers.insert(*key, entry.flags);
                continue;
            };
            let mut spec = VipSpec::from_flags(entry.flags);
            spec.health = self.policies.of(&vip);
            let id = u32::from(entry.id);
            let of_vip = (id, 0)..=(id, u32::MAX);
            for ((_, real), record) in self.vip_reals.range(of_vip) {
                let Some(real) = self.reals.get(real).filter(|real| real.live) else { continue };
                let states = [RealState::Up, RealState::Drain, RealState::Down];
                let state = states[usize::from(record.state)];
                let health = RealHealth::from_raw(record.health, record.missing_share);
                let delivery = real.way.said;
                let of_vip = RealSpec { health, delivery, ..RealSpec::new(record.weight, state) };
                spec.reals.insert(real.address, of_vip);
            }
            let barred = match self.rings.get(&id) {
                Some(ring) if entry.flags & consts::VIP_BARRED != 0 => ring.barred.clone(),
                _ => BTreeSet::new(),
            };
            ids.insert(id);
            let vip_running = RunningVip {
                id,
                counters: entry.counters.into(),
                serial: entry.serial,
                flags: entry.flags,
                changing: self.vip_reals.contains_key(&mark(id).key()),
                spec,
                barred,
            };
            running.vips.insert(vip, vip_running);
        }
        running.stray_rings = self.rings.keys().filter(|id| !ids.contains(id)).copied().collect();
        running.stray_vip_reals = self
            .vip_reals
            .keys()
            .filter(|(vip, real)| {
                let of_real = self.reals.get(real).is_some_and(|real| real.live);
                !ids.contains(vip) || !(of_real || *real == 0)
            })
            .copied()
            .collect();
        running
    }

    /// Asserts that packets find a consistent table.
    fn check(&mut self) {
        let mut ids = BTreeSet::new();
        let mut serials = BTreeSet::new();
        for (key, entry) in self.vips.iter().filter(|(_, vip)| vip.flags & consts::VIP_MARKER == 0)
        {
            assert!(ids.insert(entry.id), "{key:?} shares its id");
            assert!(serials.insert(entry.serial), "{key:?} shares its serial");
            assert!(entry.serial < self.next_serial, "{key:?} has a serial that may come again");
            let before = self.looked_for.insert(entry.serial, entry.flags).unwrap_or(entry.flags);
            assert!(!forgets_by(before, entry.flags), "{key:?} finds flows of another time");
            for marker in abi::vip_key::markers(&key.0.vip().unwrap()) {
                assert!(self.vips.contains_key(&VipKey::from(marker)), "{key:?} has no marker");
            }
            let ring = self.rings.get(&entry.id.into());
            let members = ring.map(|ring| ring.members.clone()).unwrap_or_default();
            let changed = entry.flags & consts::VIP_RING_CHANGED != 0;
            let first = self.first_rings.entry(entry.serial).or_insert_with(|| members.clone());
            // Otherwise a SYN in a flood, which does not use the table, would go elsewhere than the packets behind it.
            // While a ring is overwritten, it has the members of both rings.
            let same = members.iter().all(|member| first.contains(member))
                && first.iter().all(|member| members.contains(member));
            assert!(changed || same, "{key:?}: its ring changed before it said so");
            let Some(ring) = ring else { continue };
            let bars = entry.flags & consts::VIP_BARRED != 0;
            assert!(bars || ring.barred.is_empty(), "{key:?} does not look at its bars");
            for (member, id) in ring.members.iter().zip(&ring.ids) {
                let real = self.reals[id];
                assert!(real.live && real.address == member.address, "{key:?}: ring names {id}");
            }
        }
        for (id, real) in &self.server_ids {
            assert!(self.reals[real].live, "server id {id} names {real}");
        }
        let live: Vec<_> = self.reals.values().filter(|real| real.live).collect();
        let addresses: BTreeSet<_> = live.iter().map(|real| real.address).collect();
        assert_eq!(live.len(), addresses.len(), "two ids for one real");
    }

    /// Whether a flow that the table holds for a real may stay there. `flow_lookup` asks this.
    fn may_keep(&self, vip: &Vip, id: u32, generation: u32) -> bool {
        let entry = self.vips[&VipKey::from(abi::vip_key::from(*vip))];
        let real = self.reals[&id];
        let barred = entry.flags & consts::VIP_BARRED != 0
            && self.rings.get(&entry.id.into()).is_some_and(|ring| ring.barred.contains(&id));
        real.live && real.generation == generation && !barred
    }
}

/// Whether a VIP with the flags `after` must not find the flows that it remembered with the flags `before`.
fn forgets_by(before: u32, after: u32) -> bool {
    let keys = |flags| flags & consts::VIP_REDUCED_KEY;
    let remembers = |flags| flags & consts::VIP_STATELESS == 0;
    keys(before) != keys(after) || (!remembers(before) && remembers(after))
}

/// A VIP as the maps say it: with its encapsulation.
fn ipip() -> VipSpec {
    VipSpec { encapsulation: Some(Encapsulation::Ipip), ..VipSpec::default() }
}

fn real(n: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, n).into()
}

/// The parts of a write. Packets, or the end of the process, can come between two parts: the kernel carries out batches
/// entry by entry.
fn parts(write: &Write) -> Vec<Write> {
    fn each<T: Clone>(of: &[T], write: impl Fn(Vec<T>) -> Write) -> Vec<Write> {
        of.iter().map(|one| write(vec![one.clone()])).collect()
    }
    match write {
        Write::Reals(of) => each(of, Write::Reals),
        Write::ServerIds(of) => each(of, Write::ServerIds),
        Write::Vips(of) => each(of, Write::Vips),
        Write::Rings(of) => each(of, Write::Rings),
        Write::RewriteRings(of) => each(of, Write::RewriteRings),
        Write::RemoveRings(of) => each(of, Write::RemoveRings),
        Write::VipReals(of) => each(of, Write::VipReals),
        Write::TunnelEnds(of) => each(of, Write::TunnelEnds),
        Write::TunnelSources(of) => each(of, Write::TunnelSources),
        Write::RemoveTunnelSources(of) => each(of, Write::RemoveTunnelSources),
        Write::RemoveVipReals(of) => each(of, Write::RemoveVipReals),
        whole => vec![whole.clone()],
    }
}

/// Writes what leads to a table, and stops before the n-th part. A ring that is overwritten has two parts.
fn go(maps: &mut Maps, wanted: &Table, stop: Option<usize>) {
    let mut left = stop.unwrap_or(usize::MAX);
    let mut may_go_on = || {
        left = left.saturating_sub(1);
        left > 0
    };
    // The packets of the last call are finished.
    maps.under_way.clear();
    for part in diff(&maps.running(), wanted).writes.iter().flat_map(parts) {
        if let Write::RewriteRings(rings) = &part {
            if !may_go_on() {
                return;
            }
            maps.rewrite_half(rings);
            maps.check();
        }
        if !may_go_on() {
            return;
        }
        maps.write(&part);
        maps.check();
    }
}

fn assert_reached(maps: &Maps, wanted: &Table) {
    let running = maps.running();
    assert_eq!(running.table(), *wanted);
    let again = diff(&running, wanted);
    assert!(again.writes.is_empty(), "not the end: {:?}", again.writes);
    assert!(running.stray_rings.is_empty() && running.stray_vip_reals.is_empty());
    let needed = wanted.reals();
    let live = maps.reals.values().filter(|real| real.live);
    assert!(live.clone().all(|real| needed.contains(&real.address)), "a real was left behind");
    for (vip, spec) in &wanted.vips {
        let entry = maps.vips[&VipKey::from(abi::vip_key::from(*vip))];
        let ring = maps.rings.get(&entry.id.into());
        let members = ring.map(|ring| ring.members.clone()).unwrap_or_default();
        assert_eq!(members, spec.members(), "{vip}: an old ring stayed");
        for marker in abi::vip_key::markers(vip).map(VipKey::from) {
            let flags = maps.vips[&marker].flags;
            let wanted = consts::VIP_MARKER | wanted.rules(vip.address);
            assert!(flags & consts::VIP_MARKER == 0 || flags == wanted, "{vip}: {flags:#x}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// There are few tables, so it often returns to the table that it was leaving when it was interrupted.
    #[test]
    fn every_interruption_is_completed(
        tables in collection::vec(table(), 1..4),
        ways in collection::vec((any::<prop::sample::Index>(), 0..60_usize), 1..8),
        last in any::<prop::sample::Index>(),
    ) {
        let mut maps = Maps::default();
        for (table, stop) in &ways {
            go(&mut maps, table.get(&tables), Some(*stop));
        }
        let last = last.get(&tables);
        go(&mut maps, last, None);
        assert_reached(&maps, last);
    }

    #[test]
    fn flows_stay_as_long_as_their_real_may_have_them(
        tables in collection::vec(table(), 2..6),
    ) {
        let mut maps = Maps::default();
        let mut flows: BTreeSet<(Vip, u32, IpAddr, u32, u32)> = BTreeSet::new();
        for table in &tables {
            let before = maps.running().vips;
            go(&mut maps, table, None);
            assert_reached(&maps, table);
            for (vip, after) in maps.running().vips {
                let Some(before) = before.get(&vip) else { continue };
                let forgets = forgets_by(before.flags, after.flags);
                prop_assert_eq!(after.serial != before.serial, forgets, "{}", vip);
                let changed = after.flags & consts::VIP_RING_CHANGED != 0;
                prop_assert!(!(forgets && changed), "{} has an empty table", vip);
            }
            // An earlier flow keeps its real exactly if the VIP and the real lasted, and the real may keep flows.
            flows.retain(|(vip, serial, address, id, generation)| {
                let Some(spec) = table.vips.get(vip) else { return false };
                let entry = maps.vips[&VipKey::from(abi::vip_key::from(*vip))];
                if entry.serial != *serial {
                    return false;
                }
                let keeps = spec.keepers(&table.server_ids).contains(address);
                let may = maps.may_keep(vip, *id, *generation);
                assert!(!may || keeps, "{vip}: a flow went on to {address}");
                assert_eq!(maps.reals[id].live && maps.reals[id].address == *address && keeps, may
                    || (keeps && maps.reals[id].generation != *generation));
                may
            });
            for (vip, spec) in &table.vips {
                let serial = maps.vips[&VipKey::from(abi::vip_key::from(*vip))].serial;
                for address in spec.keepers(&table.server_ids) {
                    let (id, real) = maps
                        .reals
                        .iter()
                        .find(|(_, real)| real.live && real.address == address)
                        .unwrap();
                    flows.insert((*vip, serial, address, *id, real.generation));
                }
            }
        }
    }
}

#[test]
fn one_real_changed_touches_one_vip() {
    let vip =
        |n| Vip { address: Ipv4Addr::new(10, 200, 1, n).into(), port: 80, protocol: Protocol::Tcp };
    let reals = |weight| {
        (1..=100)
            .map(|n| (real(n), RealSpec::new(weight, RealState::Up)))
            .collect::<BTreeMap<_, _>>()
    };
    let mut table = Table::default();
    for n in 1..=50 {
        table.vips.insert(vip(n), VipSpec { reals: reals(1), ..ipip() });
    }
    let mut maps = Maps::default();
    go(&mut maps, &table, None);
    let weigh = |table: &mut Table, weight| {
        let spec = table.vips.get_mut(&vip(7)).unwrap();
        spec.reals.get_mut(&real(3)).unwrap().weight = weight;
    };
    weigh(&mut table, 3);
    let first = diff(&maps.running(), &table).writes;
    let said = |write: &Write| matches!(write, Write::Vips(vips) if vips[0].1.flags & consts::VIP_RING_CHANGED != 0);
    assert_eq!(first.iter().filter(|write| said(write)).count(), 1, "table and ring may differ");
    go(&mut maps, &table, None);
    weigh(&mut table, 2);
    let change = diff(&maps.running(), &table);
    assert_eq!(change.vips.len(), 1);
    assert_eq!(change.vips[0].vip, vip(7));
    // The writes are the mark, the ring, the record, and the removal of the mark. The VIP's entry stays as it is.
    assert_eq!(change.writes.len(), 4, "{:?}", change.writes);
    assert!(!change.writes.iter().any(|write| matches!(write, Write::Vips(_))));
    assert!(change.vips[0].moved > 0.0 && change.vips[0].moved < 0.03, "{}", change.vips[0].moved);
}

/// Asserts that the maps have room, by their sizes in state/maps.h.
fn assert_fits(maps: &Maps) {
    assert!(maps.vips.len() <= 4 * consts::MAX_VIPS as usize, "{} vips", maps.vips.len());
    assert!(maps.server_ids.len() <= 2 * consts::MAX_SERVER_IDS as usize);
    assert!(maps.vip_reals.len() <= consts::VIP_REAL_PLACES as usize);
    let ids = [maps.reals.first_key_value(), maps.reals.last_key_value()];
    assert!(ids.iter().flatten().all(|(id, _)| **id > 0 && **id < consts::REAL_IDS));
}

/// The largest configuration. It has nothing in common with that of another `set`.
fn full(set: u8) -> Table {
    let address = |n: u32| -> IpAddr {
        let [_, _, high, low] = n.to_be_bytes();
        Ipv4Addr::new(10, set, high, low).into()
    };
    let up = RealSpec::new(1, RealState::Up);
    let per_vip = consts::MAX_VIP_REALS / consts::MAX_VIPS;
    let vips = (0..consts::MAX_VIPS).map(|n| {
        let vip = Vip { address: address(n), port: 80, protocol: Protocol::Tcp };
        let reals = (0..per_vip).map(|r| (address((n * 8 + r) % consts::MAX_REALS), up));
        (vip, VipSpec { reals: reals.collect(), ..ipip() })
    });
    let ids = (0..consts::MAX_SERVER_IDS)
        .map(|id| (u32::from(set) << 24 | id, address(id % consts::MAX_REALS)));
    Table { vips: vips.collect(), server_ids: ids.collect(), ..Table::default() }
}

#[test]
fn everything_can_be_replaced_at_once() {
    let mut maps = Maps::default();
    for (set, stop) in [(1, None), (2, Some(3)), (3, Some(2)), (4, None), (5, None)] {
        let wanted = full(set);
        let change = diff(&maps.running(), &wanted);
        assert!(!change.ids_exhausted, "{set}");
        for write in change.writes.iter().take(stop.unwrap_or(usize::MAX)) {
            maps.write(write);
            // There are tens of thousands of these writes, and none takes room.
            if !matches!(write, Write::RemoveServerId(_)) {
                assert_fits(&maps);
            }
        }
    }
    assert_eq!(maps.running().table(), full(5));
    // The same VIPs with other reals: a VIP gets its new reals before another loses its old ones.
    let mut moved = full(5);
    for (spec, other) in moved.vips.values_mut().zip(full(6).vips.into_values()).take(4) {
        spec.reals = other.reals;
    }
    moved.server_ids.clear();
    for write in &diff(&maps.running(), &moved).writes {
        maps.write(write);
        if !matches!(write, Write::RemoveServerId(_)) {
            assert_fits(&maps);
        }
    }
    assert_eq!(maps.running().table(), moved);
}

#[test]
fn an_id_is_used_again_under_another_generation() {
    let vip =
        Vip { address: Ipv4Addr::new(10, 200, 1, 1).into(), port: 80, protocol: Protocol::Tcp };
    let with = |n| {
        let up = RealSpec::new(1, RealState::Up);
        let spec = VipSpec { reals: [(real(n), up)].into(), ..ipip() };
        Table { vips: [(vip, spec)].into(), ..Table::default() }
    };
    let mut maps = Maps::default();
    go(&mut maps, &with(1), None);
    go(&mut maps, &Table { vips: [(vip, ipip())].into(), ..Table::default() }, None);
    assert!(maps.rings.is_empty(), "the old ring stayed");
    go(&mut maps, &with(2), None);
    assert_eq!(
        maps.reals.keys().collect::<Vec<_>>(),
        [&1, &2],
        "an id that nobody had comes first"
    );
    go(&mut maps, &Table { vips: [(vip, ipip())].into(), ..Table::default() }, None);
    let other =
        RunningReal { generation: 9, live: false, address: real(3), way: RealWay::default() };
    maps.reals.extend((2..consts::REAL_IDS).map(|id| (id, other)));
    go(&mut maps, &with(2), None);
    assert!(maps.reals[&1].live);
    assert!(!maps.may_keep(&vip, 1, 1));
    assert!(maps.may_keep(&vip, 1, maps.reals[&1].generation));
}

#[test]
fn flows_are_forgotten_before_a_generation_or_a_serial_comes_back() {
    let vip =
        Vip { address: Ipv4Addr::new(10, 200, 1, 1).into(), port: 80, protocol: Protocol::Tcp };
    let up = RealSpec::new(1, RealState::Up);
    let spec = VipSpec { reals: [(real(1), up)].into(), ..ipip() };
    let wanted = Table { vips: [(vip, spec)].into(), ..Table::default() };
    let used =
        RunningReal { generation: 1, live: false, address: real(2), way: RealWay::default() };
    let running = Running {
        reals: (1..consts::REAL_IDS).map(|id| (id, used)).collect(),
        next_serial: consts::MAX_SERIAL + 1,
        ..Running::default()
    };
    assert_eq!(cleared(&RunningReal { generation: consts::MAX_GENERATION, ..used }).generation, 1);
    let writes = diff(&running, &wanted).writes;
    let place = |matches: fn(&Write) -> bool| writes.iter().position(matches).unwrap();
    assert!(
        place(|write| matches!(write, Write::ForgetReals(ids) if ids.contains(&1)))
            < place(|write| matches!(write, Write::Reals(_)))
    );
    assert!(
        place(|write| matches!(write, Write::ForgetVipsBut(kept) if kept.is_empty()))
            < place(|write| matches!(write, Write::Serials { next_serial: 2 }))
    );
}

/// Ports are not refused before their VIP exists, and echo requests are answered until the last real is gone.
#[test]
fn rules_come_behind_the_vips() {
    let vip =
        Vip { address: Ipv4Addr::new(10, 200, 1, 1).into(), port: 80, protocol: Protocol::Tcp };
    let (key, [_, marker]) = (abi::vip_key::from(vip), abi::vip_key::markers(&vip));
    let with = |state| {
        let spec = VipSpec {
            reals: [(real(1), RealSpec::new(1, state))].into(),
            other_ports: Some(OtherPorts::Reject),
            echo: Some(Echo::WhenUsable),
            ..ipip()
        };
        Table { vips: [(vip, spec)].into(), ..Table::default() }
    };
    let mut maps = Maps::default();
    let place = |writes: &[Write], key: abi::vip_key, flag: u32| {
        writes.iter().rposition(|write| {
            matches!(write, Write::Vips(of) if of.iter().any(|(k, vip)| *k == VipKey::from(key) && vip.flags & flag == flag))
        })
    };
    let rejects = OtherPorts::flags(Some(OtherPorts::Reject));
    let writes = diff(&maps.running(), &with(RealState::Up)).writes;
    assert!(place(&writes, key, 0).unwrap() < place(&writes, marker, rejects).unwrap());
    assert_eq!(place(&writes, marker, consts::VIP_NO_ECHO), None);
    go(&mut maps, &with(RealState::Up), None);
    let writes = diff(&maps.running(), &with(RealState::Drain)).writes;
    let gone = writes.iter().position(|write| matches!(write, Write::RemoveRings(_))).unwrap();
    assert!(gone < place(&writes, marker, consts::VIP_NO_ECHO).unwrap());
    go(&mut maps, &with(RealState::Drain), None);
    let writes = diff(&maps.running(), &with(RealState::Up)).writes;
    assert_eq!(place(&writes, marker, consts::VIP_NO_ECHO), None);
    assert!(place(&writes, marker, rejects).is_some(), "{writes:?}");
}
