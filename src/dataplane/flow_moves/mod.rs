//! Operations on all connection tables of an instance: list, create, fill, forget flows, remove.

mod copy;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;

use libbpf_rs::MapCore;

use super::Dataplane;
use super::flow_view::View;
use crate::dataplane::tables;
use crate::dataplane::tables::Flow;
use crate::dataplane::tables::LruTable;
use crate::dataplane::tables::SetTable;
use crate::kernel::bpf;
use crate::kernel::host::Files;
use crate::kernel::host::possible_cpus;
use crate::kernel::maps::ArrayOfMaps;
use crate::kernel::maps::Map;
use crate::kernel::maps::Walk;
use crate::model::abi;
use crate::model::abi::consts;
use crate::model::config::TableKind;
use crate::model::connection_tables::Family;
use crate::model::connection_tables::SHARED_TABLE_ENTRIES;
use crate::model::connection_tables::Tables;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::parallel;
use crate::model::secret::Secret;

use copy::Move;

impl Dataplane {
    /// The tables in a bank, and whether the maps also hold other tables, which an interrupted command left.
    pub(crate) fn read_tables(
        &self,
        kind: TableKind,
        bank: u32,
        possible_cpus: u32,
    ) -> Result<(Tables, bool)> {
        let mut tables = Tables { kind, bank, own: BTreeMap::new() };
        let mut strays = false;
        for cpu in 0..possible_cpus {
            for (name, outer) in self.table_maps() {
                let other = Tables { bank: 1 - bank, ..Tables::default() };
                strays |= outer.id_at(other.place(cpu))?.is_some();
                let Some(table) = outer.at(tables.place(cpu))? else { continue };
                let (primary, secondary) = match kind {
                    TableKind::SetAssociative => ("flows4", "flows6"),
                    TableKind::Lru => ("connections", ""),
                };
                if name == primary {
                    tables.own.insert(cpu, table.max_entries());
                } else if name != secondary {
                    strays = true;
                }
            }
        }
        Ok((tables, strays))
    }

    pub(crate) fn table_maps(&self) -> [(&'static str, &ArrayOfMaps); 3] {
        [("flows4", &self.flows4), ("flows6", &self.flows6), ("connections", &self.connections)]
    }

    pub(crate) fn flows_of(&self, family: Family) -> &ArrayOfMaps {
        match family {
            Family::V4 => &self.flows4,
            Family::V6 => &self.flows6,
        }
    }

    /// Whether the shared table exists.
    pub(crate) fn has_shared_table(&self) -> Result<bool> {
        Ok(self.connections.id_at(consts::SHARED_TABLE)?.is_some())
    }

    fn shared_table(&self, node: u32) -> Result<LruTable> {
        if let Some(shared) = self.connections.at(consts::SHARED_TABLE)? {
            return Ok(Map::new(shared)?);
        }
        let shared = tables::new_lru(SHARED_TABLE_ENTRIES, node)?;
        self.connections.set(consts::SHARED_TABLE, shared.handle())?;
        Ok(shared)
    }

    /// Prepares the tables of the program that will replace the running one: in the other bank, on the CPUs' NUMA
    /// nodes, filled with the flows of the tables `running` (see [`copy`]). `knobs` are the new program's. Returns the
    /// time before the copy, for [`Self::copy_latest_flows`].
    pub(crate) fn prepare_tables(
        &self,
        running: &Tables,
        new: &Tables,
        knobs: &abi::knobs,
        nodes: &BTreeMap<u32, u32>,
    ) -> Result<u64> {
        let since = bpf::monotonic_ns()?;
        let shared = self.shared_table(nodes.values().min().copied().unwrap_or_default());
        let prepared = shared.and_then(|shared| {
            if running == new {
                return Ok(());
            }
            let (secret, view) =
                (&Secret::from(knobs), &View::new(self.read_table(0)?, Some(knobs)));
            self.fill_tables(Move { running, new, secret, view }, &shared, nodes)
        });
        if prepared.is_err() {
            self.remove_tables_but(running)?;
        }
        prepared.map(|()| since)
    }

    /// Copies what changed in the old tables since they were copied. Call this when the new program has replaced the
    /// old one, and the old one handles no packet any more.
    pub(crate) fn copy_latest_flows(
        &self,
        running: &Tables,
        new: &Tables,
        knobs: &abi::knobs,
        since: u64,
    ) -> Result<()> {
        match self.connections.at(consts::SHARED_TABLE)? {
            Some(shared) if running != new => {
                let (secret, view) =
                    (&Secret::from(knobs), &View::new(self.read_table(0)?, Some(knobs)));
                let tables = Move { running, new, secret, view };
                self.copy_latest(tables, &Map::new(shared)?, since)
            }
            _ => Ok(()),
        }
    }

    /// Removes all tables but these and the shared one.
    pub(crate) fn remove_tables_but(&self, kept: &Tables) -> Result<()> {
        let kept_maps: &[&str] = match kept.kind {
            TableKind::SetAssociative => &["flows4", "flows6"],
            TableKind::Lru => &["connections"],
        };
        for cpu in 0..possible_cpus()? {
            for bank in 0..consts::TABLE_BANKS {
                let keep = bank == kept.bank && kept.own.contains_key(&cpu);
                for (name, outer) in self.table_maps() {
                    if !(keep && kept_maps.contains(&name)) {
                        outer.remove(bank * consts::MAX_CPUS + cpu)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Serials of the IPv6 VIPs.
    fn v6_serials(&self) -> Result<BTreeSet<u32>> {
        let vips = self.vips.entries()?.into_iter();
        let v6 = vips.filter(|(key, _)| IpAddr::from(key.addr).is_ipv6());
        Ok(v6.map(|(_, vip)| vip.serial).collect())
    }

    /// How many flows a CPU's own table holds, IPv4 and IPv6.
    pub(crate) fn used_on(&self, tables: &Tables, cpu: u32) -> Result<[u32; 2]> {
        let place = tables.place(cpu);
        if tables.kind == TableKind::Lru {
            let table = self.connections.at(place)?;
            return table.map_or(Ok([0; 2]), |table| Ok(tables::lru_used(&Map::new(table)?)?));
        }
        let mut used = [0; 2];
        for (used, family) in used.iter_mut().zip(Family::BOTH) {
            if let Some(table) = self.flows_of(family).at(place)? {
                *used = SetTable::new(&table, family)?.used();
            }
        }
        Ok(used)
    }

    /// Forgets flows in every table. Packets may use the tables meanwhile.
    pub(super) fn forget_flows(&self, unwanted: &(dyn Fn(&Flow) -> bool + Sync)) -> Result<()> {
        for place in 0..=consts::SHARED_TABLE {
            if let Some(table) = self.connections.at(place)? {
                forget_in_lru(&Map::new(table)?, unwanted)?;
            }
            if place == consts::SHARED_TABLE {
                break;
            }
            for family in Family::BOTH {
                if let Some(table) = self.flows_of(family).at(place)? {
                    let table = SetTable::new(&table, family)?;
                    let forget = || table.forget(unwanted);
                    // If this process cannot run there, it forgets from here: a real's id cannot wait. Another flow is
                    // forgotten only if a packet comes within the same few nanoseconds.
                    parallel::on_cpu(place % consts::MAX_CPUS, forget)
                        .unwrap_or_else(|_| forget())?;
                }
            }
        }
        Ok(())
    }

    /// Forgets flows in the tables of a program. Returns how many entries that were.
    pub(crate) fn forget_flows_in(
        &self,
        tables: &Tables,
        unwanted: &(dyn Fn(&Flow) -> bool + Sync),
    ) -> Result<u64> {
        let online = Files::host().online_cpus()?;
        let mut forgotten = 0;
        for cpu in tables.own.keys() {
            let place = tables.place(*cpu);
            match tables.kind {
                TableKind::SetAssociative => {
                    for family in Family::BOTH {
                        let Some(table) = self.flows_of(family).at(place)? else { continue };
                        let table = SetTable::new(&table, family)?;
                        let forget = || table.forget(unwanted);
                        forgotten += if online.contains(cpu) {
                            parallel::on_cpu(*cpu, forget)
                                .map_err(|source| Error::NotOnCpu { cpu: *cpu, source })??
                        } else {
                            // No packet uses the table.
                            forget()?
                        };
                    }
                }
                TableKind::Lru => {
                    if let Some(table) = self.connections.at(place)? {
                        forgotten += forget_in_lru(&Map::new(table)?, unwanted)?;
                    }
                }
            }
        }
        if let Some(shared) = self.connections.at(consts::SHARED_TABLE)? {
            forgotten += forget_in_lru(&Map::new(shared)?, unwanted)?;
        }
        Ok(forgotten)
    }
}

fn forget_in_lru(table: &LruTable, unwanted: &dyn Fn(&Flow) -> bool) -> Result<u64> {
    let (mut forgotten, mut walk) = (0, Walk::default());
    loop {
        let entries = table.next_entries(&mut walk)?;
        if entries.is_empty() {
            return Ok(forgotten);
        }
        for flow in entries.into_iter().map(Flow::from) {
            if unwanted(&flow) && table.remove(&flow.key)? {
                forgotten += 1;
            }
        }
    }
}
