//! Reads flows one by one, table by table.

use std::vec;

use libbpf_rs::MapCore;
use libbpf_rs::MapHandle;

use super::AgeOf;
use super::Flow;
use super::filter::Resolved;
use crate::dataplane::Dataplane;
use crate::dataplane::View;
use crate::dataplane::tables;
use crate::dataplane::tables::LruTable;
use crate::dataplane::tables::SETS_OF_PART;
use crate::dataplane::tables::SetTable;
use crate::kernel::bpf;
use crate::kernel::maps::Map;
use crate::kernel::maps::Walk;
use crate::model::abi::consts;
use crate::model::config::TableKind;
use crate::model::connection_tables::Family;
use crate::model::connection_tables::Tables;
use crate::model::error::Error;
use crate::model::error::Result;

/// A table of the running program.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    /// `None`: the shared table.
    pub(super) cpu: Option<u32>,
    /// The IP version of a set-associative table; `None`: it is an LRU table.
    pub(super) family: Option<Family>,
    /// The kernel's id of the map.
    id: u32,
}

/// An open table.
#[derive(Debug)]
pub(super) enum Opened {
    Sets(MapHandle, Family),
    Lru(LruTable),
}

impl Source {
    /// All tables, by CPU.
    pub(super) fn all(dataplane: &Dataplane, tables: &Tables) -> Result<Vec<Self>> {
        let mut sources = Vec::new();
        let families: &[_] = match tables.kind {
            TableKind::SetAssociative => &Family::BOTH.map(Some),
            TableKind::Lru => &[None],
        };
        for cpu in tables.own.keys() {
            for family in families {
                let outer = family.map_or(&dataplane.connections, |f| dataplane.flows_of(f));
                if let Some(id) = outer.id_at(tables.place(*cpu))? {
                    sources.push(Self { cpu: Some(*cpu), family: *family, id });
                }
            }
        }
        if let Some(id) = dataplane.connections.id_at(consts::SHARED_TABLE)? {
            sources.push(Self { cpu: None, family: None, id });
        }
        Ok(sources)
    }

    pub(super) fn open(&self, dataplane: &Dataplane) -> Result<Opened> {
        let outer = self.family.map_or(&dataplane.connections, |f| dataplane.flows_of(f));
        let map = outer.inner(self.id).map_err(|error| {
            if error.is_not_found() { Error::TablesReplaced } else { error.into() }
        })?;
        Ok(match self.family {
            Some(family) => Opened::Sets(map, family),
            None => Opened::Lru(Map::new(map)?),
        })
    }

    /// What the ages of TCP flows count from.
    pub(super) fn tcp_age(&self) -> AgeOf {
        if self.family.is_some() { AgeOf::LastPacket } else { AgeOf::Insert }
    }
}

/// The table that is being read.
#[derive(Debug)]
pub(super) enum Place {
    /// The table is read in parts; `next` is the next set.
    Sets {
        map: MapHandle,
        family: Family,
        part: Option<SetTable>,
        next: u32,
    },
    Lru {
        table: LruTable,
        walk: Walk,
    },
}

impl Place {
    /// The start of a table.
    pub(super) fn new(opened: Opened) -> Self {
        match opened {
            Opened::Sets(map, family) => Self::Sets { map, family, part: None, next: 0 },
            Opened::Lru(table) => Self::Lru { table, walk: Walk::default() },
        }
    }

    /// Appends the next flows. Returns `false` if there are no more.
    pub(super) fn read(&mut self, into: &mut Vec<tables::Flow>) -> Result<bool> {
        match self {
            Self::Sets { map, family, part, next } => {
                let end = next.saturating_add(SETS_AT_ONCE).min(map.max_entries());
                if *next >= end {
                    return Ok(false);
                }
                if next.is_multiple_of(SETS_OF_PART) {
                    // Unmap the previous part first.
                    *part = None;
                }
                let part = match part {
                    Some(part) => part,
                    None => part.insert(SetTable::part(map, *family, *next)?),
                };
                for set in *next..end {
                    into.extend(part.flows_in(set % SETS_OF_PART)?);
                }
                *next = end;
                Ok(true)
            }
            Self::Lru { table, walk } => {
                into.extend(table.next_entries(walk)?.into_iter().map(tables::Flow::from));
                Ok(!into.is_empty())
            }
        }
    }
}

/// Sets that are read before their flows are returned.
pub(super) const SETS_AT_ONCE: u32 = 256;
const _: () = assert!(SETS_OF_PART.is_multiple_of(SETS_AT_ONCE));

/// The flows in all tables of a balancer: see [`Balancer::flows`](crate::Balancer::flows). It ends after an error.
#[derive(Debug)]
pub struct Flows<'a> {
    dataplane: &'a Dataplane,
    view: View,
    filter: Resolved,
    sources: vec::IntoIter<Source>,
    /// The table that is being read, and its source.
    current: Option<(Source, Place)>,
    /// The flows that were read from it, the time of the reading, and how many flows were returned.
    read: Vec<tables::Flow>,
    now: u64,
    done: usize,
}

impl<'a> Flows<'a> {
    pub(super) fn new(
        dataplane: &'a Dataplane,
        tables: &Tables,
        view: View,
        filter: Resolved,
    ) -> Result<Self> {
        let sources = Source::all(dataplane, tables)?.into_iter();
        let (current, read) = (None, Vec::new());
        Ok(Self { dataplane, view, filter, sources, current, read, now: 0, done: 0 })
    }

    /// Reads on. Returns `false` after the last table.
    fn read_on(&mut self) -> Result<bool> {
        self.read.clear();
        self.done = 0;
        loop {
            if let Some((_, place)) = &mut self.current {
                if place.read(&mut self.read)? {
                    self.now = bpf::monotonic_ns()?;
                    return Ok(true);
                }
                self.current = None;
            }
            let Some(source) = self.sources.next() else { return Ok(false) };
            let place = Place::new(source.open(self.dataplane)?);
            self.current = Some((source, place));
        }
    }
}

impl Iterator for Flows<'_> {
    type Item = Result<Flow>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            while let Some(raw) = self.read.get(self.done) {
                self.done += 1;
                let Some((source, _)) = &self.current else { break };
                if self.filter.may_match(raw) {
                    let flow = Flow::new(raw, &self.view, source.cpu, source.tcp_age(), self.now);
                    if self.filter.matches(&flow) {
                        return Some(Ok(flow));
                    }
                }
            }
            match self.read_on() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.sources = Vec::new().into_iter();
                    self.current = None;
                    return Some(Err(error));
                }
            }
        }
    }
}
