//! Counters of the packet path, summed over the CPUs, as typed reports.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::AddAssign;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustc_hash::FxHashMap;
use serde::Serialize;
use serde::Serializer;

use crate::dataplane::balancer::Balancer;
use crate::dataplane::real_counters::Counted;
use crate::dataplane::real_counters::SentToReals;
use crate::instance::chain::slots::Chain;
use crate::instance::egress::STATES;
use crate::kernel::bpf;
use crate::kernel::bpf::ProgramInfo;
use crate::kernel::host;
use crate::kernel::host::Files;
use crate::kernel::maps::PerCpuArray;
use crate::model::abi;
use crate::model::address::Vip;
use crate::model::error::Error;
use crate::model::error::Result;
use crate::model::reason::Verdict;
use crate::model::reason::healthcheck_results;
use crate::model::reason::reasons;
use crate::model::reason::table_events;

/// Packets and the bytes of their frames as received, without checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Count {
    pub(crate) fn from_raw(packets: u64, bytes: u64) -> Self {
        Self { packets, bytes }
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

/// What became of packets for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReasonCount {
    /// The reason's name.
    pub reason: &'static str,
    /// The verdict that the reason implies.
    pub verdict: Verdict,
    /// How many.
    #[serde(flatten)]
    pub count: Count,
}

/// A VIP's counters, since it was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VipCount {
    /// Sent to reals.
    #[serde(flatten)]
    pub sent: Count,
    /// Dropped. Packets that are too long and get an answer are in neither counter.
    pub dropped: u64,
    /// Packets sent to reals that the ring selected, because no connection table had their flow: SYNs, repeated SYNs,
    /// and packets of flows that were not remembered. 0, if the VIP has no connection table, or if a server id names
    /// the real.
    pub new_flows: u64,
}

/// What came in on a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CpuCount {
    /// The CPU.
    pub cpu: u32,
    /// How much.
    #[serde(flatten)]
    pub count: Count,
}

/// What the programs of the chain cost, others' programs included, while the kernel kept statistics of programs
/// (`sysctl kernel.bpf_stats_enabled=1`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ChainRuns {
    /// Packets that they ran for.
    pub runs: u64,
    /// How long, in nanoseconds.
    pub nanoseconds: u64,
}

/// All counters. The total is the sum over the reasons.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Everything that came in.
    pub total: Count,
    /// By reason, in the order of [`crate::reasons`].
    pub reasons: Vec<ReasonCount>,
    /// Events at connection table and server ids, by name, in the order of [`crate::table_events`]; in JSON
    /// an object.
    #[serde(serialize_with = "by_name")]
    pub table: Vec<(&'static str, u64)>,
    /// By VIP.
    pub vips: BTreeMap<Vip, VipCount>,
    /// By real: what was sent to it for any VIP, since it was added.
    pub reals: BTreeMap<IpAddr, Count>,
    /// By VIP and real: what was sent to the real for this VIP, since it was added to it. A VIP for which the maps have
    /// no room for such counters is left out.
    #[serde(skip)]
    pub sent: FxHashMap<(Vip, IpAddr), Count>,
    /// By CPU: those that are online, and others that counted packets.
    pub cpus: Vec<CpuCount>,
    /// Packets of checks through the tunnel, by what became of them, in the order of [`crate::healthcheck_results`];
    /// in JSON an object.
    #[serde(serialize_with = "by_name")]
    pub healthcheck: Vec<(&'static str, Count)>,
}

/// Serializes names and values as an object, in their order.
pub(crate) fn by_name<V: Serialize, S: Serializer>(
    named: &[(&'static str, V)],
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_map(named.iter().map(|(name, value)| (name, value)))
}

impl Stats {
    /// How many packets ended for the reason of this name, one of [`crate::reasons`]; 0 for other names.
    pub fn reason(&self, name: &str) -> u64 {
        let found = self.reasons.iter().find(|reason| reason.reason == name);
        found.map_or(0, |reason| reason.count.packets)
    }

    /// How often the event of this name, one of [`crate::table_events`], was counted; 0 for other names.
    pub fn event(&self, name: &str) -> u64 {
        self.table.iter().find(|(event, _)| *event == name).map_or(0, |(_, count)| *count)
    }
}

/// Sums what the CPUs counted by reason and table event.
pub(crate) fn sum_states(cpus: &[abi::cpu_state]) -> Stats {
    let mut stats = Stats {
        reasons: reasons()
            .iter()
            .map(|reason| ReasonCount {
                reason: reason.name,
                verdict: reason.verdict,
                count: Count::default(),
            })
            .collect(),
        table: table_events().iter().map(|event| (event.name, 0)).collect(),
        ..Stats::default()
    };
    for (cpu, state) in (0..).zip(cpus) {
        let mut total = Count::default();
        // Index 0 is LB_GO_ON's.
        for (sum, count) in stats.reasons.iter_mut().zip(&state.reasons[1..]) {
            let count = Count::from_raw(count.packets, count.bytes);
            sum.count += count;
            total += count;
        }
        stats.total += total;
        stats.cpus.push(CpuCount { cpu, count: total });
        for ((_, sum), events) in stats.table.iter_mut().zip(state.table) {
            *sum += events;
        }
    }
    stats
}

impl Balancer {
    /// Reads all counters.
    pub fn stats(&self) -> Result<Stats> {
        let mut stats = sum_states(&self.dataplane.cpu_states.get(0)?);
        let online = Files::host().online_cpus()?;
        stats.cpus.retain(|cpu| cpu.count.packets != 0 || online.contains(&cpu.cpu));
        let vips: HashMap<u32, Vip> =
            self.dataplane.vip_ids()?.into_iter().map(|(vip, id)| (id, vip)).collect();
        let ids = vips.keys().copied().collect();
        self.dataplane.vip_counts.each(&ids, |id, of_cpus| {
            let Some(vip) = vips.get(&id) else { return };
            let mut sum = VipCount::default();
            for count in of_cpus {
                sum.sent += Count::from_raw(count.sent.packets, count.sent.bytes);
                sum.dropped += count.dropped;
                sum.new_flows += count.new_flows;
            }
            stats.vips.insert(*vip, sum);
        })?;
        let SentToReals { in_all, by_vip } = self.dataplane.sent_to_reals()?;
        let count = |count: Counted| Count::from_raw(count.packets, count.bytes);
        stats.reals = in_all.into_iter().map(|(real, sent)| (real, count(sent))).collect();
        stats.sent = by_vip.into_iter().map(|(pair, sent)| (pair, count(sent))).collect();
        stats.healthcheck = self.healthcheck_counts()?;
        Ok(stats)
    }

    /// The counters of the program for health checks. They are there once it was attached.
    fn healthcheck_counts(&self) -> Result<Vec<(&'static str, Count)>> {
        let named = healthcheck_results().iter().map(|result| (result.name, Count::default()));
        let mut counts: Vec<_> = named.collect();
        let pin = self.instance().map(STATES);
        if !pin.exists() {
            return Ok(counts);
        }
        for state in PerCpuArray::<abi::healthcheck_state>::open(&pin)?.get(0)? {
            for ((_, sum), count) in counts.iter_mut().zip(state.results) {
                *sum += Count::from_raw(count.packets, count.bytes);
            }
        }
        Ok(counts)
    }

    /// What the programs of the chain cost; `None`: the kernel keeps no statistics now and did not before.
    pub fn chain_runs(&self) -> Result<Option<ChainRuns>> {
        let chain = Chain::open(self.instance())?;
        // The kernel counts the time of the whole chain with its first program: the root program, or the only program
        // of the chain, which interfaces run themselves. A program that a tail call reaches counts nothing.
        let info = |program: BorrowedFd<'_>| {
            bpf::program_info(program).map_err(|source| Error::Host {
                operation: "ask the kernel about the chain",
                source,
            })
        };
        let mut sum = info(chain.root())?;
        for id in chain.slots()?.into_iter().flatten() {
            // A command may replace the program just now.
            let Ok(program) = bpf::program_by_id(id) else { continue };
            let ProgramInfo { runs, run_ns, .. } = info(program.as_fd())?;
            sum.runs += runs;
            sum.run_ns += run_ns;
        }
        let on = host::text(Path::new("/proc/sys/kernel/bpf_stats_enabled"));
        let known = sum.runs != 0 || on.is_some_and(|on| on != "0");
        Ok(known.then_some(ChainRuns { runs: sum.runs, nanoseconds: sum.run_ns }))
    }
}
