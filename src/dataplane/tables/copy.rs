//! Moving flows to the tables of the program that is to replace the one that runs, while packets change both.
//!
//! | a CPU | its new table gets |
//! | --- | --- |
//! | keeps its table | that is it |
//! | gets one of another size or kind | the flows of the one before |
//! | gets one, and had none | those of the shared one |
//! | loses its table | nobody knows which CPUs its packets will come to: all tables get its flows, the shared one as well |
//!
//! This happens twice. First while the new tables are not in use but those that CPUs keep; then, when the new program
//! is, for the flows that began or changed meanwhile. The latest come first: what finds no room is what was used longest
//! ago. In a table that packets use, an entry that was used longer ago gives way; none that is newer does.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::ErrorKind;

use libbpf_rs::MapHandle;

use super::Dataplane;
use crate::abi::consts;
use crate::config::TableKind;
use crate::error::Result;
use crate::maps::Map;
use crate::parallel;
use crate::plan::SHARED_TABLE_ENTRIES;
use crate::sys;
use crate::tables;
use crate::tables::Family;
use crate::tables::Flow;
use crate::tables::LruTable;
use crate::tables::Secret;
use crate::tables::SetTable;
use crate::tables::Tables;

/// How much earlier than it was made an entry may say that it was: times are rounded down to units.
const ROUNDED: u64 = 2 << consts::SEEN_SHIFT;

/// A CPU's table that is to be filled.
enum OwnTable {
    Sets(SetTable, SetTable),
    Lru(LruTable),
}

impl OwnTable {
    fn create(kind: TableKind, size: u32, node: u32) -> Result<Self> {
        Ok(match kind {
            TableKind::SetAssociative => {
                let [v4, v6] = Family::BOTH.map(|family| SetTable::create(family, size, node));
                Self::Sets(v4?, v6?)
            }
            TableKind::Lru => Self::Lru(tables::new_lru(size, node)?),
        })
    }
}

/// The tables of two programs.
#[derive(Clone, Copy)]
pub(super) struct Move<'a> {
    pub(super) running: &'a Tables,
    pub(super) new: &'a Tables,
    pub(super) secret: &'a Secret,
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
}

impl Dataplane {
    /// Makes and fills the new tables.
    pub(super) fn fill_tables(
        &self,
        tables: Move<'_>,
        shared: &LruTable,
        nodes: &BTreeMap<u32, u32>,
    ) -> Result<()> {
        let Move { running, new, secret } = tables;
        // Of a CPU that is offline, no node is known; the first that is there always exists.
        let first = nodes.values().min().copied().unwrap_or_default();
        let mut made = Vec::new();
        // The slow part first, memory.
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
            let mut flows = if running.own.contains_key(&cpu) {
                self.flows_on(running, cpu)?
            } else {
                tables::lru_flows(shared)?
            };
            flows.extend(&leaving);
            tables::newest_first(&mut flows);
            let place = new.place(cpu);
            match table {
                OwnTable::Sets(v4, v6) => {
                    for flow in &flows {
                        let table = if v6_vips.contains(&flow.key.vip) { &v6 } else { &v4 };
                        table.add(flow, secret);
                    }
                    self.flows4.set(place, v4.map())?;
                    self.flows6.set(place, v6.map())?;
                }
                OwnTable::Lru(table) => {
                    flows.truncate(table.max_entries() as usize);
                    // The kernel forgets those first that came first.
                    let flows: Vec<_> =
                        flows.iter().rev().map(|flow| (flow.key, flow.into())).collect();
                    table.set_many(&flows)?;
                    self.connections.set(place, table.handle())?;
                }
            }
        }
        if !leaving.is_empty() {
            for cpu in new.own.keys().filter(|cpu| tables.keeps(**cpu)) {
                self.insert_flows(tables, *cpu, &leaving, &v6_vips, Room::Free)?;
            }
            add_to_shared(shared, &leaving)?;
        }
        Ok(())
    }

    /// Copies the flows that began or changed since the new tables were filled, for the program that uses them by now.
    /// Packets of the one before are over. `since` is of `CLOCK_MONOTONIC`, in nanoseconds.
    pub(super) fn copy_latest(
        &self,
        tables: Move<'_>,
        shared: &LruTable,
        since: u64,
    ) -> Result<()> {
        let Move { running, new, .. } = tables;
        let since = since.saturating_sub(ROUNDED);
        let v6_vips = self.v6_serials()?;
        let leaving = self.flows_of_leaving(tables, since)?;
        for cpu in new.own.keys() {
            let mut flows = leaving.clone();
            if !running.own.contains_key(cpu) {
                let shared = tables::lru_flows(shared)?.into_iter();
                flows.extend(shared.filter(|flow| flow.last_seen >= since));
            } else if !tables.keeps(*cpu) {
                let own = self.flows_on(running, *cpu)?.into_iter();
                flows.extend(own.filter(|flow| flow.last_seen >= since));
            }
            tables::newest_first(&mut flows);
            self.insert_flows(tables, *cpu, &flows, &v6_vips, Room::Taken)?;
        }
        add_to_shared(shared, &leaving)
    }

    /// The flows of the CPUs that lose their table, not longer ago than `since`, the latest first.
    fn flows_of_leaving(&self, tables: Move<'_>, since: u64) -> Result<Vec<Flow>> {
        let mut flows = Vec::new();
        for cpu in tables.running.own.keys().filter(|cpu| tables.is_leaving(**cpu)) {
            let of_cpu = self.flows_on(tables.running, *cpu)?.into_iter();
            flows.extend(of_cpu.filter(|flow| flow.last_seen >= since));
        }
        tables::newest_first(&mut flows);
        Ok(flows)
    }

    /// Puts flows into a table of the new program that packets use.
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
            return insert_in_lru(&Map::new(table)?, flows, room);
        }
        let open = |family: Family| -> Result<Option<SetTable>> {
            let map: Option<MapHandle> = self.flows_of(family).at(place)?;
            Ok(map.map(|map| SetTable::new(map, family)).transpose()?)
        };
        let (Some(v4), Some(v6)) = (open(Family::V4)?, open(Family::V6)?) else { return Ok(()) };
        let insert = || -> Result<()> {
            for flow in flows {
                let table = if v6_vips.contains(&flow.key.vip) { &v6 } else { &v4 };
                table.insert(flow, tables.secret, sys::monotonic_ns()?);
            }
            Ok(())
        };
        match parallel::on_cpu(cpu, insert) {
            Ok(done) => done,
            // It is offline: no packet uses the table.
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

    /// The flows in a CPU's own table. Packets may use it meanwhile: those that stay are among them.
    fn flows_on(&self, tables: &Tables, cpu: u32) -> Result<Vec<Flow>> {
        let place = tables.place(cpu);
        if tables.kind == TableKind::Lru {
            let table = self.connections.at(place)?;
            return table.map_or(Ok(Vec::new()), |table| Ok(tables::lru_flows(&Map::new(table)?)?));
        }
        let read = || -> Result<Vec<Flow>> {
            let (mut flows, now) = (Vec::new(), sys::monotonic_ns()?);
            for family in Family::BOTH {
                if let Some(table) = self.flows_of(family).at(place)? {
                    SetTable::new(table, family)?.read_flows(now, &mut flows);
                }
            }
            Ok(flows)
        };
        // There, no packet is half done. Elsewhere it takes bad luck of some nanoseconds for a flow to be missed.
        parallel::on_cpu(cpu, read).unwrap_or_else(|_| read())
    }

    /// Frees what an interrupted command had claimed in the tables.
    pub(crate) fn release_claims(&self, tables: &Tables) -> Result<()> {
        for cpu in tables.own.keys().filter(|_| tables.kind == TableKind::SetAssociative) {
            for family in Family::BOTH {
                if let Some(table) = self.flows_of(family).at(tables.place(*cpu))? {
                    SetTable::new(table, family)?.release_claims();
                }
            }
        }
        Ok(())
    }
}

fn is_online(cpu: u32) -> Result<bool> {
    Ok(crate::host::Files::host().online_cpus()?.contains(&cpu))
}

/// Where flows that are put into a table of kind LRU may go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    /// Where there is room.
    Free,
    /// Also where the kernel gives way to them.
    Taken,
}

/// Puts flows into a table of kind LRU that packets use. What is there already stays, unless it leads elsewhere and is
/// older.
fn insert_in_lru(table: &LruTable, flows: &[Flow], room: Room) -> Result<()> {
    let mut free = table.max_entries() as usize;
    if room == Room::Free {
        let used: u32 = tables::lru_used(table)?.iter().sum();
        free = free.saturating_sub(used as usize);
    }
    sys::write_point();
    // The latest last, as the kernel forgets those first that came first.
    for flow in flows.iter().take(free).rev() {
        if table.add(&flow.key, &flow.into())? {
            continue;
        }
        let leads = |real: u32, generation: u32| (real, generation);
        if let Some(there) = table.get(&flow.key)?
            && leads(there.real, there.generation) != leads(flow.real, flow.generation)
            && there.last_seen < flow.last_seen
        {
            table.set(&flow.key, &flow.into())?;
        }
    }
    Ok(())
}

/// Puts flows into the shared table, the latest first. What is there was put there by packets of CPUs that go on using
/// it: that stays.
fn add_to_shared(shared: &LruTable, flows: &[Flow]) -> Result<()> {
    sys::write_point();
    for flow in flows.iter().take(SHARED_TABLE_ENTRIES as usize).rev() {
        shared.add(&flow.key, &flow.into())?;
    }
    Ok(())
}
