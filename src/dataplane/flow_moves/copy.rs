//! Copies flows into the tables of the next program, while packets change the old tables and the new ones.
//!
//! | a CPU | its new table gets |
//! | --- | --- |
//! | keeps its table | the same table |
//! | gets one of another size or kind | the flows of its old table |
//! | gets one, and had none | the flows of the shared table |
//! | loses its table | its packets may come to any CPU: all tables get its flows, the shared one as well |
//!
//! A CPU's own flows come first. Flows of CPUs that lose their table get the room that is left and evict no others.
//! Those CPUs use the shared table from now on: there, their flows get at least half the room.
//!
//! Entries that no packet would use are not copied: entries of removed VIPs and reals, entries of barred reals, and
//! expired UDP flows. They would take room from live flows.
//!
//! Flows are copied twice. The first time, no program uses the new tables yet, except for those that CPUs keep. The
//! second time, the new program is in use; this copies the flows that began or changed meanwhile. Among flows with the
//! same right to room, the latest come first: the last ones may get no room. But tables of kind LRU, and the
//! shared table, store when a TCP flow began, not when it was used. TCP flows from there are ordered by when they
//! began, so a long flow that is in use may get no room. A CPU's own flow that began meanwhile may evict an entry that
//! is older by these times.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::ErrorKind;

use libbpf_rs::MapHandle;

use super::Dataplane;
use crate::dataplane::flow_view::View;
use crate::dataplane::tables;
use crate::dataplane::tables::Flow;
use crate::dataplane::tables::LruTable;
use crate::dataplane::tables::Room;
use crate::dataplane::tables::SetTable;
use crate::dataplane::tables::SetTables;
use crate::kernel::bpf;
use crate::kernel::maps::Map;
use crate::model::abi::consts;
use crate::model::config::TableKind;
use crate::model::connection_tables::Family;
use crate::model::connection_tables::SHARED_TABLE_ENTRIES;
use crate::model::connection_tables::Tables;
use crate::model::error::Result;
use crate::model::parallel;
use crate::model::secret::Secret;

/// How much too early an entry's time may be: times are rounded down to units.
const ROUNDED: u64 = 2 << consts::SEEN_SHIFT;

/// Flows of CPUs that lose their table get at least this many entries of the shared table.
const LEAVING_IN_SHARED: u64 = SHARED_TABLE_ENTRIES as u64 / 2;

/// A CPU's new table.
enum OwnTable {
    Sets(SetTables, [MapHandle; 2]),
    Lru(LruTable),
}

impl OwnTable {
    fn create(kind: TableKind, size: u32, node: u32) -> Result<Self> {
        Ok(match kind {
            TableKind::SetAssociative => {
                let [v4, v6] = Family::BOTH.map(|family| SetTable::create(family, size, node));
                let ((v4, map4), (v6, map6)) = (v4?, v6?);
                Self::Sets(SetTables { v4, v6 }, [map4, map6])
            }
            TableKind::Lru => Self::Lru(tables::new_lru(size, node)?),
        })
    }
}

/// The tables of the old program and of the new one.
#[derive(Clone, Copy)]
pub(super) struct Move<'a> {
    pub(super) running: &'a Tables,
    pub(super) new: &'a Tables,
    pub(super) secret: &'a Secret,
    /// The present VIPs and reals, with the new program's limits.
    pub(super) view: &'a View,
}

impl Move<'_> {
    /// Whether a CPU keeps its table.
    fn keeps(&self, cpu: u32) -> bool {
        self.running.kind == self.new.kind
            && self.running.own.get(&cpu).is_some_and(|size| self.new.own.get(&cpu) == Some(size))
    }

    fn is_leaving(&self, cpu: u32) -> bool {
        !self.new.own.contains_key(&cpu)
    }

    /// The flows that packets would still use.
    fn live(&self, mut flows: Vec<Flow>) -> Result<Vec<Flow>> {
        let now = bpf::monotonic_ns()?;
        flows.retain(|flow| self.view.is_live(flow, now));
        Ok(flows)
    }
}

impl Dataplane {
    /// Creates and fills the new tables.
    pub(super) fn fill_tables(
        &self,
        tables: Move<'_>,
        shared: &LruTable,
        nodes: &BTreeMap<u32, u32>,
    ) -> Result<()> {
        let Move { running, new, secret, .. } = tables;
        // The NUMA node of an offline CPU is not known. The first node always exists.
        let first = nodes.values().min().copied().unwrap_or_default();
        let mut made = Vec::new();
        // Allocating memory is slow, so it comes first.
        for (cpu, size) in &new.own {
            if tables.keeps(*cpu) {
                for (_, outer) in self.table_maps() {
                    if let Some(table) = outer.at(running.place(*cpu))? {
                        outer.set(new.place(*cpu), &table)?;
                    }
                }
            } else {
                let node = nodes.get(cpu).copied().unwrap_or(first);
                made.push((*cpu, OwnTable::create(new.kind, *size, node)?));
            }
        }
        let v6_vips = self.v6_serials()?;
        let leaving = self.flows_of_leaving(tables, 0)?;
        for (cpu, table) in made {
            let own = if running.own.contains_key(&cpu) {
                self.flows_on(tables, cpu)?
            } else {
                tables.live(tables::lru_flows(shared)?)?
            };
            let (flows, own) = tables::own_first(own, &leaving);
            let place = new.place(cpu);
            match table {
                OwnTable::Sets(table, [map4, map6]) => {
                    table.fill(&flows, &v6_vips, secret);
                    self.flows4.set(place, &map4)?;
                    self.flows6.set(place, &map6)?;
                }
                OwnTable::Lru(table) => {
                    tables::fill_lru(&table, &flows, own)?;
                    self.connections.set(place, table.handle())?;
                }
            }
        }
        if !leaving.is_empty() {
            for cpu in new.own.keys().filter(|cpu| tables.keeps(**cpu)) {
                self.insert_flows(tables, *cpu, &leaving, &v6_vips, Room::Free)?;
            }
            tables::insert_in_lru(shared, &leaving, LEAVING_IN_SHARED)?;
        }
        Ok(())
    }

    /// Copies flows that began or changed since the new tables were filled. The new program already uses them, and no
    /// packet is left in the old one. `since` is of `CLOCK_MONOTONIC`, in nanoseconds.
    pub(super) fn copy_latest(
        &self,
        tables: Move<'_>,
        shared: &LruTable,
        since: u64,
    ) -> Result<()> {
        let Move { running, new, .. } = tables;
        bpf::fail_point("copy-latest")?;
        let since = since.saturating_sub(ROUNDED);
        let v6_vips = self.v6_serials()?;
        let leaving = self.flows_of_leaving(tables, since)?;
        for cpu in new.own.keys() {
            let mut own = Vec::new();
            if !running.own.contains_key(cpu) {
                let shared = tables.live(tables::lru_flows(shared)?)?.into_iter();
                own.extend(shared.filter(|flow| flow.last_seen >= since));
            } else if !tables.keeps(*cpu) {
                let before = self.flows_on(tables, *cpu)?.into_iter();
                own.extend(before.filter(|flow| flow.last_seen >= since));
            }
            tables::newest_first(&mut own);
            self.insert_flows(tables, *cpu, &own, &v6_vips, Room::Taken)?;
            self.insert_flows(tables, *cpu, &leaving, &v6_vips, Room::Free)?;
        }
        if !leaving.is_empty() {
            tables::insert_in_lru(shared, &leaving, LEAVING_IN_SHARED)?;
        }
        Ok(())
    }

    /// The flows of the CPUs that lose their table, used at `since` or later, the latest first.
    fn flows_of_leaving(&self, tables: Move<'_>, since: u64) -> Result<Vec<Flow>> {
        let mut flows = Vec::new();
        for cpu in tables.running.own.keys().filter(|cpu| tables.is_leaving(**cpu)) {
            let of_cpu = self.flows_on(tables, *cpu)?.into_iter();
            flows.extend(of_cpu.filter(|flow| flow.last_seen >= since));
        }
        tables::newest_first(&mut flows);
        Ok(flows)
    }

    /// Puts flows into a table of the new program while packets use it.
    fn insert_flows(
        &self,
        tables: Move<'_>,
        cpu: u32,
        flows: &[Flow],
        v6_vips: &BTreeSet<u32>,
        room: Room,
    ) -> Result<()> {
        if flows.is_empty() {
            return Ok(());
        }
        let place = tables.new.place(cpu);
        if tables.new.kind == TableKind::Lru {
            let Some(table) = self.connections.at(place)? else { return Ok(()) };
            let most = if room == Room::Taken { u64::MAX } else { 0 };
            return Ok(tables::insert_in_lru(&Map::new(table)?, flows, most)?);
        }
        let open = |family: Family| -> Result<Option<SetTable>> {
            let map: Option<MapHandle> = self.flows_of(family).at(place)?;
            Ok(map.map(|map| SetTable::new(&map, family)).transpose()?)
        };
        let (Some(v4), Some(v6)) = (open(Family::V4)?, open(Family::V6)?) else { return Ok(()) };
        let table = SetTables { v4, v6 };
        let insert = || table.insert(flows, v6_vips, tables.secret, room);
        match parallel::on_cpu(cpu, insert) {
            Ok(done) => done,
            // The CPU is offline: no packet uses the table.
            Err(error) if error.kind() == ErrorKind::InvalidInput && !is_online(cpu)? => insert(),
            Err(error) => {
                tracing::warn!(
                    "CPU {cpu}: some flows in use may move: its table can only be written to there, and this process \
                     may not run on it: {error}"
                );
                Ok(())
            }
        }
    }

    /// The flows in a CPU's own table of the running program. Packets may use the table meanwhile: every flow that
    /// stays in it is returned.
    fn flows_on(&self, tables: Move<'_>, cpu: u32) -> Result<Vec<Flow>> {
        let place = tables.running.place(cpu);
        if tables.running.kind == TableKind::Lru {
            return match self.connections.at(place)? {
                Some(table) => tables.live(tables::lru_flows(&Map::new(table)?)?),
                None => Ok(Vec::new()),
            };
        }
        let read = || -> Result<Vec<Flow>> {
            let (mut flows, now) = (Vec::new(), bpf::monotonic_ns()?);
            for family in Family::BOTH {
                if let Some(table) = self.flows_of(family).at(place)? {
                    SetTable::new(&table, family)?.read_flows(now, &mut flows);
                }
            }
            Ok(flows)
        };
        // On that CPU, no packet is half done. On another CPU, this misses a flow only if a packet moves the flow
        // within the same few nanoseconds.
        tables.live(parallel::on_cpu(cpu, read).unwrap_or_else(|_| read())?)
    }

    /// Frees the entries that an interrupted command had claimed.
    pub(crate) fn release_claims(&self, tables: &Tables) -> Result<()> {
        for cpu in tables.own.keys().filter(|_| tables.kind == TableKind::SetAssociative) {
            for family in Family::BOTH {
                if let Some(table) = self.flows_of(family).at(tables.place(*cpu))? {
                    SetTable::new(&table, family)?.release_claims();
                }
            }
        }
        Ok(())
    }
}

fn is_online(cpu: u32) -> Result<bool> {
    Ok(crate::kernel::host::Files::host().online_cpus()?.contains(&cpu))
}
