//! Reads flows for counting: all of them, or a representative part of large tables.

use std::io;
use std::time::Instant;

use super::Flow;
use super::read::Opened;
use super::read::SETS_AT_ONCE;
use super::read::Source;
use crate::dataplane::balancer::Balancer;
use crate::dataplane::tables;
use crate::dataplane::tables::SETS_OF_PART;
use crate::dataplane::tables::SetTable;
use crate::kernel::bpf;
use crate::model::error::Error;
use crate::model::error::Result;

/// How many places for flows are looked at, in all tables of a balancer. That takes about a second.
const PLACES: u64 = 1 << 22;

fn in_time(until: Option<Instant>) -> Result<()> {
    if until.is_none_or(|until| Instant::now() < until) {
        return Ok(());
    }
    Err(Error::Host { operation: "count flows in time", source: io::ErrorKind::TimedOut.into() })
}

impl Balancer {
    /// Calls `take` for flows, each with the number of flows that it stands for. Tables place flows by hash, so every
    /// n-th part of a table is like the others. Returns whether every flow was read. It is an error if reading takes
    /// past `until`.
    pub(crate) fn sample_flows(
        &self,
        until: Option<Instant>,
        take: &mut dyn FnMut(&Flow, u64),
    ) -> Result<bool> {
        let view = self.flow_view()?;
        let tables = self.tables()?;
        let places: u64 =
            tables.own.values().map(|size| u64::from(tables.kind.entries(*size))).sum();
        let every = places.div_ceil(PLACES).max(1);
        let step = u32::try_from(every).unwrap_or(u32::MAX);
        for source in Source::all(&self.dataplane, &tables)? {
            let age_of = source.tcp_age();
            let mut hand_out = |raw: &tables::Flow, now, weight| {
                take(&Flow::new(raw, &view, source.cpu, age_of, now), weight);
            };
            match source.open(&self.dataplane)? {
                Opened::Sets(map, family) => {
                    let (mut next, sets) = (0, libbpf_rs::MapCore::max_entries(&map));
                    let mut part: Option<(u32, SetTable)> = None;
                    while next < sets {
                        in_time(until)?;
                        let first = next - next % SETS_OF_PART;
                        if part.as_ref().is_none_or(|(at, _)| *at != first) {
                            // Unmap the previous part first.
                            drop(part.take());
                            part = Some((first, SetTable::part(&map, family, first)?));
                        }
                        let Some((_, table)) = &part else { break };
                        let now = bpf::monotonic_ns()?;
                        for set in next..next.saturating_add(SETS_AT_ONCE).min(sets) {
                            for raw in table.flows_in(set - first)? {
                                hand_out(&raw, now.max(raw.last_seen), every);
                            }
                        }
                        next = next.saturating_add(SETS_AT_ONCE.saturating_mul(step));
                    }
                }
                Opened::Lru(table) => {
                    // The shared table is small.
                    let step = if source.cpu.is_some() { step } else { 1 };
                    let mut walk = crate::kernel::maps::Walk::default();
                    loop {
                        in_time(until)?;
                        let entries = table.next_entries(&mut walk)?;
                        if entries.is_empty() {
                            break;
                        }
                        let now = bpf::monotonic_ns()?;
                        for raw in entries.into_iter().map(tables::Flow::from) {
                            hand_out(&raw, now, u64::from(step));
                        }
                        walk.skip(step - 1);
                    }
                }
            }
        }
        Ok(every == 1)
    }
}
