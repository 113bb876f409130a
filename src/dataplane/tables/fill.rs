//! Decides which flows get room in a table: first those of its own CPU, then those of CPUs that lose their table.

use std::collections::BTreeSet;
use std::collections::HashMap;

use super::Flow;
use super::FlowId;
use super::LruTable;
use super::Result;
use super::SetTable;
use super::lru_used;
use super::newest_first;
use crate::kernel::bpf;
use crate::model::abi;
use crate::model::connection_tables::lru_room;
use crate::model::secret::Secret;

/// Where flows may go in a table that packets use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Where there is room.
    Free,
    /// Also in place of an entry that was used longer ago.
    Taken,
}

/// The flows for a CPU's table, in the order in which they get room: its own, the latest first, then those of CPUs that
/// lose their table, the latest first. Each flow occurs once. Also returns the number of own flows. If both have a
/// flow, the later entry decides where it leads.
pub(crate) fn own_first(own: Vec<Flow>, leaving: &[Flow]) -> (Vec<Flow>, usize) {
    let mut flows = own;
    newest_first(&mut flows);
    let count = flows.len();
    let places: HashMap<FlowId, usize> =
        flows.iter().enumerate().map(|(at, flow)| (flow.id(), at)).collect();
    for flow in leaving {
        match places.get(&flow.id()) {
            None => flows.push(*flow),
            Some(at) => {
                let own = &mut flows[*at];
                if own.leads() != flow.leads() && own.last_seen < flow.last_seen {
                    *own = *flow;
                }
            }
        }
    }
    (flows, count)
}

/// A CPU's tables of sets.
#[derive(Debug)]
pub(crate) struct SetTables {
    pub(crate) v4: SetTable,
    pub(crate) v6: SetTable,
}

impl SetTables {
    fn of(&self, flow: &Flow, v6_vips: &BTreeSet<u32>) -> &SetTable {
        if v6_vips.contains(&flow.key.vip) { &self.v6 } else { &self.v4 }
    }

    /// Inserts flows while no packet uses the tables: the first ones, if not all have room.
    pub(crate) fn fill(&self, flows: &[Flow], v6_vips: &BTreeSet<u32>, secret: &Secret) {
        for flow in flows {
            self.of(flow, v6_vips).add(flow, secret);
        }
    }

    /// Inserts flows while packets use the tables. Runs on the tables' CPU.
    pub(crate) fn insert(
        &self,
        flows: &[Flow],
        v6_vips: &BTreeSet<u32>,
        secret: &Secret,
        room: Room,
    ) -> crate::model::error::Result<()> {
        for flow in flows {
            let now = bpf::monotonic_ns()?;
            self.of(flow, v6_vips).insert(flow, secret, now, room);
        }
        Ok(())
    }
}

/// Inserts the result of [`own_first`] into a table of kind LRU that no packet uses.
pub(crate) fn fill_lru(table: &LruTable, flows: &[Flow], own: usize) -> Result<()> {
    let max = table.max_entries();
    let (own, leaving) = flows.split_at(own.min(flows.len()));
    let own = &own[..own.len().min(max as usize)];
    let room = usize::try_from(lru_room(max, own.len() as u64)).unwrap_or(usize::MAX);
    let flows = own.iter().chain(leaving.iter().take(room));
    // The first flow is inserted last: the kernel evicts the oldest entries first.
    let entries: Vec<_> = flows.rev().map(|flow| (flow.key, flow.into())).collect();
    table.set_many(&entries)
}

/// Inserts flows into a table of kind LRU that packets use: the first ones, if not all have room. Up to `most` may
/// evict other entries. An existing entry stays, unless it is older and leads elsewhere.
pub(crate) fn insert_in_lru(table: &LruTable, flows: &[Flow], most: u64) -> Result<()> {
    let used = lru_used(table)?.into_iter().map(u64::from).sum();
    let room = lru_room(table.max_entries(), used).max(most);
    let room = usize::try_from(room.min(table.max_entries().into())).unwrap_or(usize::MAX);
    bpf::write_point();
    let mut new = Vec::new();
    for flow in flows {
        match table.get(&flow.key)? {
            Some(there) if outdates(flow, &there) => table.set(&flow.key, &flow.into())?,
            None if new.len() < room => new.push(flow),
            Some(_) | None => {}
        }
    }
    // The first flow is inserted last: the kernel evicts the oldest entries first.
    for flow in new.into_iter().rev() {
        table.add(&flow.key, &flow.into())?;
    }
    Ok(())
}

/// Whether `flow`, from another table, should replace the entry that is there.
fn outdates(flow: &Flow, there: &abi::flow) -> bool {
    let abi::flow { real, generation, last_seen } = flow.into();
    (there.real, there.generation) != (real, generation) && there.last_seen < last_seen
}
