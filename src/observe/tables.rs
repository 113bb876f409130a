//! How full the connection tables are.

use serde::Serialize;

use crate::dataplane::balancer::Balancer;
use crate::dataplane::tables::LruTable;
use crate::dataplane::tables::lru_used;
use crate::kernel::maps::Map;
use crate::model::abi::consts;
use crate::model::error::Result;

/// A connection table.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TableStatus {
    /// The CPU whose table it is; `None`: the table that all other CPUs share.
    pub cpu: Option<u32>,
    /// Flows that it has room for: of each family in a table of sets, of both together in one of kind LRU.
    pub entries: u32,
    /// IPv4 flows in it.
    pub used_ipv4: u32,
    /// IPv6 flows in it.
    pub used_ipv6: u32,
}

impl TableStatus {
    fn new(cpu: Option<u32>, entries: u32, [used_ipv4, used_ipv6]: [u32; 2]) -> Self {
        Self { cpu, entries, used_ipv4, used_ipv6 }
    }
}

impl Balancer {
    /// How full the connection tables are. This reads every table: a million entries take about ten milliseconds in
    /// tables of sets, and longer in those of kind LRU.
    pub fn table_status(&self) -> Result<Vec<TableStatus>> {
        let tables = self.tables()?;
        let mut status = Vec::new();
        for (cpu, size) in &tables.own {
            let used = self.dataplane.used_on(&tables, *cpu)?;
            status.push(TableStatus::new(Some(*cpu), tables.kind.entries(*size), used));
        }
        if let Some(shared) = self.dataplane.connections.at(consts::SHARED_TABLE)? {
            let shared: LruTable = Map::new(shared)?;
            status.push(TableStatus::new(None, shared.max_entries(), lru_used(&shared)?));
        }
        Ok(status)
    }
}
