//! Which of the flows that a table is to get find room in it: its CPU's own first, then those of CPUs that lose their
//! table.

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

/// Where flows may go that are put into a table that packets use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Where there is room.
    Free,
    /// Also where something gives way to them that was used longer ago.
    Taken,
}

/// The flows for a CPU's table in the order in which they find room: its own, the latest first, then those of CPUs that
/// lose their table, the latest first, each once; and how many are its own. Where both have a flow, it leads where the
/// later of them says.
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

    /// Puts flows in while no packet uses the tables: the first ones, where not all find room.
    pub(crate) fn fill(&self, flows: &[Flow], v6_vips: &BTreeSet<u32>, secret: &Secret) {
        for flow in flows {
            self.of(flow, v6_vips).add(flow, secret);
        }
    }

    /// Puts flows in while packets use the tables, on their CPU.
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

/// Puts what [`own_first`] returns into a table of kind LRU that no packet uses.
pub(crate) fn fill_lru(table: &LruTable, flows: &[Flow], own: usize) -> Result<()> {
    let max = table.max_entries();
    let (own, leaving) = flows.split_at(own.min(flows.len()));
    let own = &own[..own.len().min(max as usize)];
    let room = usize::try_from(lru_room(max, own.len() as u64)).unwrap_or(usize::MAX);
    let flows = own.iter().chain(leaving.iter().take(room));
    // The first last, as the kernel forgets those first that came first.
    let entries: Vec<_> = flows.rev().map(|flow| (flow.key, flow.into())).collect();
    table.set_many(&entries)
}

/// Puts flows into a table of kind LRU that packets use, the first ones where not all find room: `most` do, should
/// others have to give way to them. What is there already stays, unless it leads elsewhere and is older.
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
    // The first last, as the kernel forgets those first that came first.
    for flow in new.into_iter().rev() {
        table.add(&flow.key, &flow.into())?;
    }
    Ok(())
}

/// Whether an entry of a flow is to be replaced by what another table says of it.
fn outdates(flow: &Flow, there: &abi::flow) -> bool {
    let abi::flow { real, generation, last_seen } = flow.into();
    (there.real, there.generation) != (real, generation) && there.last_seen < last_seen
}
