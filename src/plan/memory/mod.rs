//! The memory that the maps of a configuration take, computed before they are created. Pure.

mod shortage;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;

use libbpf_rs::MapType;
use serde::Serialize;

use crate::model::abi;
use crate::model::connection_tables::Tables;
use crate::model::host::Bytes;
use crate::model::host::Host;
use crate::model::host::MapShape;
use crate::model::host::cpus_in_words;
use crate::model::tunnel_end::TunnelEnds;
use crate::model::tunnel_end::sources;
use crate::model::vip_table::Table;
use crate::plan::diff::Running;
use crate::plan::map_cost::element;
use crate::plan::map_cost::own_table;
use crate::plan::map_cost::ring;
use crate::plan::map_cost::shared_table;
use crate::plan::map_cost::vip_index;
use crate::plan::rings::RINGS_AT_ONCE;
use crate::plan::steps::Snapshot;
use crate::plan::steps::Steps;
use crate::plan::writes::Write;

/// The memory that loading the balancer's program takes besides the maps, and gives back: the verifier keeps states of
/// the program at each branch, and libbpf and this process need some. Measured as the peak of a control group (Linux
/// 6.18, x86-64). It depends on the kernel's version.
const LOADING: u64 = 36_000_000;

/// What the kernel allocates for a node of `tunnel_sources`.
const TRIE_NODE: u64 = 96;

/// The memory of the balancer's maps, by purpose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// The table of each CPU that has its own.
    pub(crate) tables: BTreeMap<u32, u64>,
    pub(crate) shared_table: u64,
    pub(crate) rings: u64,
    pub(crate) counters: u64,
    pub(crate) other: u64,
}

impl Usage {
    /// The memory of what runs.
    pub(crate) fn of(
        tables: &Tables,
        running: &Running,
        maps: &[MapShape],
        possible_cpus: u32,
    ) -> Self {
        Self {
            tables: table_bytes(tables),
            shared_table: shared_table(),
            ..Self::of_fixed(maps, possible_cpus)
        }
        .with_table(rings(running).len(), running.server_ids.len(), &running.decapsulate)
    }

    fn of_fixed(maps: &[MapShape], possible_cpus: u32) -> Self {
        let sum = |counters: bool| {
            let maps = maps.iter().filter(|map| (map.kind == MapType::PercpuArray) == counters);
            maps.map(|map| map.bytes(possible_cpus)).sum()
        };
        Self { counters: sum(true), other: sum(false) + vip_index(), ..Self::default() }
    }

    fn with_table(mut self, rings: usize, server_ids: usize, ends: &TunnelEnds) -> Self {
        self.rings = rings as u64 * ring();
        self.other += self::server_ids(server_ids) + tunnel_ends(ends);
        self
    }

    pub(crate) fn tables(&self) -> u64 {
        self.tables.values().sum::<u64>() + self.shared_table
    }

    pub(crate) fn total(&self) -> u64 {
        self.tables() + self.rings + self.counters + self.other
    }
}

/// The memory of this many server ids.
fn server_ids(count: usize) -> u64 {
    count as u64 * element::<u32, u32>()
}

/// The memory of addresses at which tunnels end. Each prefix of sources may need a node of its own in the trie, and one to
/// branch off at.
fn tunnel_ends(ends: &TunnelEnds) -> u64 {
    let sources = sources(ends).count() as u64;
    ends.len() as u64 * element::<abi::lb_addr, abi::tunnel_end>() + sources * 2 * TRIE_NODE
}

fn table_bytes(tables: &Tables) -> BTreeMap<u32, u64> {
    tables.own.iter().map(|(cpu, size)| (*cpu, own_table(tables.kind, *size))).collect()
}

/// The VIPs that have a ring.
fn rings(running: &Running) -> BTreeSet<u32> {
    let has_ring = running
        .vips
        .values()
        .filter(|vip| !vip.spec.members().is_empty() || !vip.barred.is_empty());
    has_ring.map(|vip| vip.id).chain(running.stray_rings.iter().copied()).collect()
}

/// Counts memory that is taken and given back, and its peak.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    now: i64,
    peak: i64,
}

impl Level {
    fn take(&mut self, bytes: u64) {
        self.now += i64::try_from(bytes).unwrap_or(i64::MAX);
        self.peak = self.peak.max(self.now);
    }

    fn give_back(&mut self, bytes: u64) {
        self.now -= i64::try_from(bytes).unwrap_or(i64::MAX);
    }

    fn peak(self) -> u64 {
        self.peak.cast_unsigned()
    }
}

/// The memory that is taken while the steps of a plan are carried out: on the whole host, and on each NUMA node.
#[derive(Debug, Default)]
struct Course {
    host: Level,
    nodes: BTreeMap<u32, Level>,
}

impl Course {
    /// All new tables exist before the first old one is removed.
    fn replace_tables(&mut self, before: &Tables, after: &Tables, nodes: &BTreeMap<u32, u32>) {
        let kept =
            |cpu: &u32| before.kind == after.kind && before.own.get(cpu) == after.own.get(cpu);
        let (old, new) = (table_bytes(before), table_bytes(after));
        let taken = new.iter().filter(|(cpu, _)| !kept(cpu)).map(|(cpu, bytes)| (cpu, *bytes, 0));
        let given = old.iter().filter(|(cpu, _)| !kept(cpu)).map(|(cpu, bytes)| (cpu, 0, *bytes));
        for (cpu, taken, given_back) in taken.chain(given) {
            let node = nodes.get(cpu).map(|node| self.nodes.entry(*node).or_default());
            for level in [Some(&mut self.host), node].into_iter().flatten() {
                level.take(taken);
                level.give_back(given_back);
            }
        }
    }

    /// Writes and removes rings. Takes the VIPs that have a ring before, and returns those that have one afterwards.
    fn write_rings(&mut self, writes: &[Write], mut vips: BTreeSet<u32>) -> BTreeSet<u32> {
        for write in writes {
            match write {
                Write::Rings(images) => {
                    for images in images.chunks(RINGS_AT_ONCE) {
                        self.host.take(images.len() as u64 * ring());
                        let replaced = images.iter().filter(|(vip, _)| !vips.insert(*vip)).count();
                        self.host.give_back(replaced as u64 * ring());
                    }
                }
                Write::RemoveRings(gone) => {
                    let gone = gone.iter().filter(|vip| vips.remove(vip)).count();
                    self.host.give_back(gone as u64 * ring());
                }
                _ => {}
            }
        }
        vips
    }
}

/// A CPU's connection table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TableMemory {
    /// The CPU.
    pub cpu: u32,
    /// The CPU's NUMA node, which holds the table. `None`: the kernel knows no nodes.
    pub node: Option<u32>,
    /// Its size.
    pub bytes: u64,
}

/// The memory that an apply takes: bytes, by purpose. Its `Display` is a few lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// The connection tables of the CPUs that have one of their own.
    pub tables: Vec<TableMemory>,
    /// The table that all other CPUs share.
    pub shared_table: u64,
    /// The rings of the VIPs.
    pub rings: u64,
    /// The counters, which every possible CPU has for itself.
    pub counters: u64,
    /// All other maps.
    pub other: u64,
    /// The total, once the apply is done.
    pub total: u64,
    /// The peak during the apply, in addition to what runs before. Old maps are removed only after the new ones exist.
    pub additional: u64,
    /// The peak while the kernel loads and verifies the program: a part is for maps, the rest is given back. The
    /// figure is approximate: it depends on the kernel's version. 0: the program stays.
    pub loading: u64,
    #[serde(skip)]
    additional_on: BTreeMap<u32, u64>,
}

impl MemoryPlan {
    /// Plans the memory of a change. `None`: number and size of tables and rings stay.
    pub(crate) fn new(
        running: &Snapshot,
        steps: &Steps,
        wanted: &Table,
        host: &Host,
    ) -> Option<Self> {
        let fixed = Usage::of_fixed(&host.maps, host.possible_cpus);
        let fresh = running.control.is_none();
        let loading = match (steps.replace_program, fresh) {
            (false, _) => 0,
            (true, false) => LOADING,
            // The maps of the program are created before the program is loaded.
            (true, true) => LOADING + fixed.total(),
        };
        let tables = steps.tables.as_ref().unwrap_or(&running.tables);
        let rings_before = rings(&running.table);
        let (ids_before, ids) = (running.table.server_ids.len(), wanted.server_ids.len());
        let ends_before = tunnel_ends(&running.table.decapsulate);
        let ends = tunnel_ends(&wanted.decapsulate);

        let mut course = Course::default();
        if fresh {
            course.host.take(fixed.total());
        }
        if !running.shared_table {
            course.host.take(shared_table());
        }
        course.replace_tables(&running.tables, tables, &host.nodes);
        let rings = course.write_rings(&steps.table.writes, rings_before.clone());
        course.host.take(server_ids(ids).saturating_sub(server_ids(ids_before)));
        course.host.take(ends.saturating_sub(ends_before));

        let unchanged = !fresh
            && running.shared_table
            && steps.tables.is_none()
            && rings.len() == rings_before.len();
        let usage = Usage { tables: table_bytes(tables), shared_table: shared_table(), ..fixed };
        let usage = usage.with_table(rings.len(), ids, &wanted.decapsulate);
        (!unchanged).then(|| Self { loading, ..Self::of(&usage, &course, &host.nodes) })
    }

    /// The memory of loading the program again while tables and rings stay.
    pub(crate) fn of_loading() -> Self {
        Self { loading: LOADING, ..Self::default() }
    }

    /// The memory after an apply, and the peak during it.
    fn of(usage: &Usage, course: &Course, nodes: &BTreeMap<u32, u32>) -> Self {
        let table = |(cpu, bytes): (&u32, &u64)| TableMemory {
            cpu: *cpu,
            node: nodes.get(cpu).copied(),
            bytes: *bytes,
        };
        Self {
            tables: usage.tables.iter().map(table).collect(),
            shared_table: usage.shared_table,
            rings: usage.rings,
            counters: usage.counters,
            other: usage.other,
            total: usage.total(),
            additional: course.host.peak(),
            loading: 0,
            additional_on: course.nodes.iter().map(|(node, level)| (*node, level.peak())).collect(),
        }
    }

    /// The memory that must be available.
    fn needed(&self) -> u64 {
        self.additional.max(self.loading)
    }

    /// The tables by NUMA node: its CPUs, and the bytes of their tables.
    fn by_node(&self) -> BTreeMap<u32, (Vec<u32>, u64)> {
        let mut nodes: BTreeMap<u32, (Vec<u32>, u64)> = BTreeMap::new();
        for table in &self.tables {
            let Some(node) = table.node else { continue };
            let (cpus, bytes) = nodes.entry(node).or_default();
            cpus.push(table.cpu);
            *bytes += table.bytes;
        }
        nodes
    }

    /// The memory of the maps by purpose, in a few words.
    fn summary(&self) -> String {
        let tables: u64 = self.tables.iter().map(|table| table.bytes).sum();
        let count = self.tables.len();
        let tables = match self.tables.first() {
            Some(first) if first.bytes * count as u64 == tables => {
                format!("{count} x {}", Bytes(first.bytes))
            }
            _ => Bytes(tables).to_string(),
        };
        format!(
            "connection tables {tables}, shared table {}, rings {}, counters {}, other maps {}",
            Bytes(self.shared_table),
            Bytes(self.rings),
            Bytes(self.counters),
            Bytes(self.other),
        )
    }
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "memory: {}, total {}", self.summary(), Bytes(self.total))?;
        if self.additional != self.total {
            let taken = Bytes(self.additional);
            writeln!(f, "memory: {taken} more than now while old and new maps exist together")?;
        }
        if self.loading > self.additional {
            let most = Bytes(self.loading);
            writeln!(f, "memory: about {most} while the kernel verifies the program")?;
        }
        let nodes = self.by_node();
        if nodes.len() > 1 {
            for (node, (cpus, bytes)) in nodes {
                let (cpus, bytes) = (cpus_in_words(&cpus), Bytes(bytes));
                writeln!(f, "memory: NUMA node {node} holds the tables of {cpus}: {bytes}")?;
            }
        }
        Ok(())
    }
}
