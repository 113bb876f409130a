//! Where a packet would go, and why. The program that forwards gives the answer.
//!
//! A copy of the balancer runs once over the frame (`BPF_PROG_TEST_RUN`) on each CPU, with the maps of the running
//! balancer. The copy has its own maps for what packets change: counters and limits, which start with the running
//! values, and tables of kind LRU, which hold what the running tables hold of the flow. It only reads tables of sets.
//! So no counter, no entry and no entry's age changes.

mod around;
#[cfg(feature = "capture")]
mod capture_file;
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
use crate::model::gue::GuePorts;
use crate::model::parallel;
use crate::model::reason::Reason;
use crate::model::reason::Verdict;
use crate::model::reason::reasons;
use crate::model::reason::table_events;

pub use around::Around;
pub use packet::TracePacket;
pub use packet::TracePacketError;

/// Flows that a copy of a table has room for. It holds one.
const COPY_ENTRIES: u32 = 128;

/// The flow of a packet, as the VIP's hash mode reduces it: the key of its entry, and what is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct TraceFlow {
    /// The client's address; all zeros: the hash mode leaves it out.
    pub source: IpAddr,
    /// The client's port; 0: the hash mode leaves it out.
    pub source_port: u16,
    /// The VIP's port; 0: the hash mode leaves it out.
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
    /// The flow, if the packet got as far as selecting a real of the VIP.
    pub flow: Option<TraceFlow>,
    /// Events at connection table and server ids that would be counted, by the names of [`crate::table_events`].
    pub table: Vec<&'static str>,
    /// The server id that the packet carries.
    pub server_id: Option<u32>,
    /// The slot of the VIP's ring that the flow's hash selects.
    pub ring_slot: Option<u32>,
    /// The real in that slot. If the table or a server id names another real, the packet goes there instead.
    pub ring_real: Option<IpAddr>,
    /// The real that the packet would be sent to.
    pub real: Option<IpAddr>,
    /// What would be around it on its way to the real.
    pub around: Option<Around>,
    /// The frame that would leave, as hexadecimal digits in JSON. For a dropped frame: the frame as it came.
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
    /// The programs of the chain that see the packet before the balancer does. They are not run.
    pub in_front: Vec<String>,
    /// What would come to or go from these ports is GUE.
    #[serde(skip)]
    pub gue: GuePorts,
    /// What becomes of it. CPUs may differ, as each has its own connection table. Those that remember the flow come
    /// first.
    pub outcomes: Vec<TraceOutcome>,
}

/// One run of the copy.
struct Run {
    frame: Vec<u8>,
    found: abi::trace,
    events: Vec<&'static str>,
}

/// The copy of the balancer, and the maps of the running one.
struct Tracer<'a> {
    balancer: &'a Balancer,
    tables: Tables,
    program: OwnedFd,
    found: MapHandle,
    dataplane: Dataplane,
    ifindex: u32,
    gue: GuePorts,
}

impl Balancer {
    /// Where a frame would go that comes in by an interface, or by the first one that the balancer serves. Nothing
    /// changes, and packets are not affected.
    ///
    /// The frame's destination MAC matters: see [`Self::trace_mac`].
    ///
    /// The frame has at least 14 bytes, and at most what the kernel puts into one buffer for a test run: some 3500
    /// bytes on most kernels. Other lengths are [`Error::FrameTooShort`] or [`Error::FrameTooLong`].
    ///
    /// Other programs of the chain in front of the balancer do not run. [`Trace::in_front`] names them.
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
            gue: GuePorts::of_knobs(&knobs),
        };
        let mut outcomes: Vec<TraceOutcome> = Vec::new();
        for cpu in 0..possible_cpus()? {
            // CPUs that are offline receive no packets. CPUs that this process may not run on cannot be asked.
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
        Ok(Trace { interface, frame: frame.to_owned(), in_front, gue: tracer.gue, outcomes })
    }

    /// The MAC to which routers send packets that come in by an interface, or by the first one that the balancer
    /// serves. `None`: any MAC will do.
    pub fn trace_mac(&self, interface: Option<&str>) -> Result<Option<Mac>> {
        let (_, ifindex) = self.trace_interface(interface)?;
        let entries = self.dataplane.read_interfaces()?;
        let served = entries.iter().find(|entry| entry.ifindex == ifindex);
        Ok(served.and_then(|entry| abi::mac_of(entry.own)))
    }

    fn trace_interface(&self, asked: Option<&str>) -> Result<(String, u32)> {
        // The kernel looks for the interface of a test run in the caller's namespace.
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
        // Only this first run tells which flow the program looks up in its own tables of kind LRU.
        if run.found.has_key != 0 && self.copy_flow(cpu, &run.found.key)? {
            run = self.run(cpu, frame)?;
        }
        let Run { frame, found, events } = run;
        let reason = reason(found.reason).ok_or_else(|| MapError::layout(".data.trace"))?;
        let vips: BTreeMap<u32, Vip> =
            self.dataplane.vip_ids()?.into_iter().map(|(vip, id)| (id, vip)).collect();
        let real = if reason.goes_to_real() { self.real(found.real)? } else { None };
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
            around: Around::of(&frame, reason, real, self.gue),
            real,
            frame,
        })
    }

    /// Runs the copy on the thread's current CPU.
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

    /// Gives the copy tables of kind LRU in place of those that the running program uses on this CPU, with what they
    /// hold of the flow. Returns whether there are any.
    fn copy_flow(&self, cpu: u32, key: &abi::flow_key) -> Result<bool> {
        let mut any = false;
        for place in [self.tables.place(cpu), consts::SHARED_TABLE] {
            let Some(running) = self.balancer.dataplane.connections.at(place)? else { continue };
            let running: LruTable = Map::new(running)?;
            let copy = tables::new_lru(COPY_ENTRIES, 0)?;
            // The kernel does not count a look-up by system call as a use of the entry.
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

/// The reason of this number of `enum lb_reason`.
fn reason(number: u32) -> Option<&'static Reason> {
    reasons().get((number as usize).checked_sub(1)?)
}

/// The client's address of the flow.
fn source(found: &abi::trace) -> IpAddr {
    let address = IpAddr::from(found.key.src);
    // In either family, a hash mode that leaves the address out makes it all zeros.
    if found.v6 == 0 && address.is_unspecified() {
        return std::net::Ipv4Addr::UNSPECIFIED.into();
    }
    address
}
