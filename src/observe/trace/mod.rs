//! Where a packet would go, and why: asked of the program that forwards.
//!
//! A copy of the balancer runs once over the frame (`BPF_PROG_TEST_RUN`) on each CPU, with the maps of the
//! running one. What packets change is its own: counters and limits, which begin with the running ones'
//! values, and tables of kind LRU, which hold what the running ones hold of the flow. In tables of sets it
//! reads only. So nothing changes: no counter, no entry, no entry's age.

mod packet;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use libbpf_rs::MapCore;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use serde::Serialize;

use crate::dataplane::Dataplane;
use crate::dataplane::balancer::Balancer;
use crate::dataplane::balancer::running_knobs;
use crate::dataplane::tables;
use crate::dataplane::tables::LruTable;
use crate::instance::own_programs::OwnProgram;
use crate::instance::programs;
use crate::kernel::host::possible_cpus;
use crate::kernel::maps::Map;
use crate::kernel::maps::MapError;
use crate::kernel::test_run::test_run;
use crate::model::abi;
use crate::model::abi::consts;
use crate::model::address::Mac;
use crate::model::address::Vip;
use crate::model::connection_tables::Tables;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::parallel;
use crate::model::reason::Reason;
use crate::model::reason::Verdict;
use crate::model::reason::reasons;
use crate::model::reason::table_events;

pub use packet::TracePacket;
pub use packet::TracePacketError;

/// Flows that a copy of a table has room for: it holds one.
const COPY_ENTRIES: u32 = 128;

/// The flow of a packet, as the VIP's hash mode leaves it: what it is remembered by, and hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct TraceFlow {
    /// The client's address; all zeros: left out.
    pub source: IpAddr,
    /// The client's port; 0: left out.
    pub source_port: u16,
    /// The VIP's port; 0: left out.
    pub destination_port: u16,
}

/// Where a packet would go, on some CPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TraceOutcome {
    /// The CPUs that would do this with it, if they received it.
    pub cpus: Vec<u32>,
    /// What would become of it.
    pub verdict: Verdict,
    /// Why, by name.
    pub reason: &'static str,
    /// What the reason means.
    pub help: &'static str,
    /// The VIP that it is for.
    pub vip: Option<Vip>,
    /// The flow, if the VIP has reals asked for it.
    pub flow: Option<TraceFlow>,
    /// What would be counted at connection table and server ids, by the names of [`crate::table_events`].
    pub table: Vec<&'static str>,
    /// The server id that the packet carries.
    pub server_id: Option<u32>,
    /// The slot of the VIP's ring that the flow's hash selects.
    pub ring_slot: Option<u32>,
    /// The real in that slot; not where the packet goes if table or server id know better.
    pub ring_real: Option<IpAddr>,
    /// The real that the packet would be sent to.
    pub real: Option<IpAddr>,
    /// The frame that would leave, as hexadecimal digits in JSON; of a dropped one, the frame as it was.
    #[serde(serialize_with = "hex::serde::serialize")]
    pub frame: Vec<u8>,
}

/// Where a packet would go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// The interface that it would come in by.
    pub interface: String,
    /// The frame, as hexadecimal digits in JSON.
    #[serde(serialize_with = "hex::serde::serialize")]
    pub frame: Vec<u8>,
    /// The programs of the chain that see the packet before the balancer does, and are not asked.
    pub in_front: Vec<String>,
    /// What becomes of it. CPUs may differ, as each has a connection table of its own; those that remember
    /// the flow come first.
    pub outcomes: Vec<TraceOutcome>,
}

/// One run of the copy.
struct Run {
    frame: Vec<u8>,
    found: abi::trace,
    events: Vec<&'static str>,
}

/// The copy of the balancer, and the running one's maps.
struct Tracer<'a> {
    balancer: &'a Balancer,
    tables: Tables,
    program: OwnedFd,
    found: MapHandle,
    dataplane: Dataplane,
    ifindex: u32,
}

impl Balancer {
    /// Where a frame would go that comes in by an interface, or by the first one that the balancer serves.
    /// Changes nothing, and packets do not notice.
    ///
    /// Its destination MAC counts: see [`Self::trace_mac`].
    ///
    /// The frame has at least 14 bytes, and at most what the kernel lays out in one piece for a program that is
    /// run so: some 3500 bytes on most kernels. [`Error::FrameTooShort`] or [`Error::FrameTooLong`] otherwise.
    ///
    /// What other programs of the chain would do in front of the balancer is not asked; [`Trace::in_front`] names
    /// them.
    pub fn trace(&self, interface: Option<&str>, frame: &[u8]) -> Result<Trace> {
        let (interface, ifindex) = self.trace_interface(interface)?;
        let knobs = running_knobs(self.instance())?.ok_or_else(|| Error::NotRunning {
            instance: self.instance().name().to_owned(),
            path: self.instance().dir(),
        })?;
        let mut loaded = programs::load_trace(self.instance(), &knobs)?;
        let found = loaded.maps.iter().position(|map| map.name() == ".data.trace");
        let found = found.ok_or_else(|| MapError::layout(".data.trace"))?;
        let found = loaded.maps.swap_remove(found);
        let tracer = Tracer {
            balancer: self,
            tables: self.tables()?,
            program: loaded.program,
            found,
            dataplane: Dataplane::of_loaded(loaded.maps)?,
            ifindex,
        };
        let mut outcomes: Vec<TraceOutcome> = Vec::new();
        for cpu in 0..possible_cpus()? {
            // Those that are offline, or not ours to run on, receive no packets, or cannot be asked.
            let Ok(outcome) = parallel::on_cpu(cpu, || tracer.outcome(cpu, frame)) else {
                continue;
            };
            let mut new = outcome?;
            let alike = |old: &&mut TraceOutcome| {
                new.cpus.clone_from(&old.cpus);
                **old == new
            };
            if let Some(same) = outcomes.iter_mut().find(alike) {
                same.cpus.push(cpu);
            } else {
                new.cpus = vec![cpu];
                outcomes.push(new);
            }
        }
        outcomes.sort_by_key(|outcome| !outcome.table.contains(&"hit"));
        let chain =
            crate::observe::chain::list(self.instance())?.into_iter().map(|program| program.name);
        let in_front = chain.take_while(|name| name != OwnProgram::Balancer.name()).collect();
        Ok(Trace { interface, frame: frame.to_owned(), in_front, outcomes })
    }

    /// The MAC to which routers send what comes in by an interface, or by the first one that the balancer serves;
    /// `None`: any will do.
    pub fn trace_mac(&self, interface: Option<&str>) -> Result<Option<Mac>> {
        let (_, ifindex) = self.trace_interface(interface)?;
        let entries = self.dataplane.read_interfaces()?;
        let served = entries.iter().find(|entry| entry.ifindex == ifindex);
        Ok(served.and_then(|entry| abi::mac_of(entry.own)))
    }

    fn trace_interface(&self, asked: Option<&str>) -> Result<(String, u32)> {
        // The kernel looks for the interface of the run in the namespace of who asks.
        crate::instance::links::refuse_other_namespace(self.instance(), &[])?;
        if let Some(name) = asked {
            let link = crate::kernel::netlink::link_blocking(name)?;
            return Ok((link.name, link.index));
        }
        for entry in self.dataplane.read_interfaces()? {
            if let Some(name) = crate::instance::links::interface_name(entry.ifindex) {
                return Ok((name, entry.ifindex));
            }
        }
        Err(Error::NoServedInterface { instance: self.instance().name().to_owned() })
    }
}

impl Tracer<'_> {
    fn outcome(&self, cpu: u32, frame: &[u8]) -> Result<TraceOutcome> {
        let mut run = self.run(cpu, frame)?;
        // What the program asks its own tables of kind LRU for is known only now.
        if run.found.has_key != 0 && self.copy_flow(cpu, &run.found.key)? {
            run = self.run(cpu, frame)?;
        }
        let Run { frame, found, events } = run;
        let reason = reason(found.reason).ok_or_else(|| MapError::layout(".data.trace"))?;
        let vips: BTreeMap<u32, Vip> =
            self.dataplane.vip_ids()?.into_iter().map(|(vip, id)| (id, vip)).collect();
        let to_real = reason.goes_to_real();
        let flow = (found.has_key != 0).then_some(found);
        Ok(TraceOutcome {
            cpus: Vec::new(),
            verdict: reason.verdict,
            reason: reason.name,
            help: reason.help,
            vip: (found.has_vip != 0).then(|| vips.get(&found.vip).copied()).flatten(),
            flow: flow.map(|found| TraceFlow {
                source: source(&found),
                source_port: u16::from_be(found.key.sport),
                destination_port: u16::from_be(found.key.dport),
            }),
            table: events,
            server_id: (found.has_server_id != 0).then_some(found.server_id),
            ring_slot: flow.map(|found| found.ring_slot),
            ring_real: match flow {
                Some(found) => self.ring_real(found.vip, found.ring_slot)?,
                None => None,
            },
            real: if to_real { self.real(found.real)? } else { None },
            frame,
        })
    }

    /// Runs the copy on the CPU that the thread is on.
    fn run(&self, cpu: u32, frame: &[u8]) -> Result<Run> {
        self.dataplane.cpu_states.set(0, &self.balancer.dataplane.cpu_states.get(0)?)?;
        let nothing = vec![0_u8; self.found.value_size() as usize];
        let failed = |operation| move |error| MapError::new(".data.trace", operation, error);
        self.found
            .update(&0_u32.to_ne_bytes(), &nothing, MapFlags::ANY)
            .map_err(failed("clear"))?;
        let before = self.events(cpu)?;
        let run = test_run(self.program.as_fd(), frame, 0, self.ifindex)?;
        let after = self.events(cpu)?;
        let found = self
            .found
            .lookup(&0_u32.to_ne_bytes(), MapFlags::ANY)
            .map_err(failed("read"))?
            .and_then(|bytes| abi::from_bytes(&bytes))
            .ok_or_else(|| MapError::layout(".data.trace"))?;
        let counted = table_events().iter().zip(before.iter().zip(&after));
        let events = counted.filter(|(_, (b, a))| b != a).map(|(event, _)| event.name).collect();
        Ok(Run { frame: run.frame, found, events })
    }

    fn events(&self, cpu: u32) -> Result<Vec<u64>> {
        let states = self.dataplane.cpu_states.get(0)?;
        Ok(states.get(cpu as usize).map(|state| state.table.to_vec()).unwrap_or_default())
    }

    /// Gives the copy tables of kind LRU where the running program has some that this CPU may use, with what
    /// they hold of the flow. Whether there are any.
    fn copy_flow(&self, cpu: u32, key: &abi::flow_key) -> Result<bool> {
        let mut any = false;
        for place in [self.tables.place(cpu), consts::SHARED_TABLE] {
            let Some(running) = self.balancer.dataplane.connections.at(place)? else { continue };
            let running: LruTable = Map::new(running)?;
            let copy = tables::new_lru(COPY_ENTRIES, 0)?;
            // Asked by a system call, the kernel does not take it for a use of the entry.
            if let Some(flow) = running.get(key)? {
                copy.set(key, &flow)?;
            }
            self.dataplane.connections.set(place, copy.handle())?;
            any = true;
        }
        Ok(any)
    }

    fn real(&self, id: u32) -> Result<Option<IpAddr>> {
        let real = self.dataplane.reals.get(&id)?;
        Ok(real.filter(|real| real.flags & consts::REAL_LIVE != 0).map(|real| real.addr.into()))
    }

    fn ring_real(&self, vip: u32, slot: u32) -> Result<Option<IpAddr>> {
        let Some(ring) = self.dataplane.rings.at(vip)? else { return Ok(None) };
        let ring: Map<u32, u64> = Map::new(ring)?;
        let ids = ring.get(&(slot / consts::RING_IDS_PER_VALUE))?.unwrap_or_default();
        let id = abi::low_half(ids >> (16 * (slot % consts::RING_IDS_PER_VALUE))) & 0xffff;
        self.real(id)
    }
}

/// The reason with a number of `enum lb_reason`.
fn reason(number: u32) -> Option<&'static Reason> {
    reasons().get((number as usize).checked_sub(1)?)
}

/// Who the flow belongs to.
fn source(found: &abi::trace) -> IpAddr {
    let address = IpAddr::from(found.key.src);
    // What a hash mode leaves out is all zeros in either family.
    if found.v6 == 0 && address.is_unspecified() {
        return std::net::Ipv4Addr::UNSPECIFIED.into();
    }
    address
}
