//! Whether an instance does well, and what to do where it does not.

use std::fmt;

use serde::Serialize;

use crate::addr::Vip;
use crate::balancer::Balancer;
use crate::config::XdpMode;
use crate::cpus::cpu_list;
use crate::error::Result;
use crate::flood_guard::FloodGuard;
use crate::readiness::InterfaceState;
use crate::readiness::Unready;
use crate::stats::Stats;
use crate::status::Status;
use crate::status::TableStatus;
use crate::status::VipStatus;

/// VIPs that a problem's text names; its JSON has all of them.
const NAMED: usize = 3;

/// Something that is not as it should be. Its text says what; [`Self::mend`] what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "problem", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Problem {
    /// The instance is not ready for traffic, or not by all of its interfaces.
    Unready {
        /// Why.
        why: Unready,
    },
    /// An interface runs the programs behind its driver, and that was not asked for.
    GenericMode {
        /// The interface.
        interface: String,
    },
    /// VIPs have no real at all.
    NoReal {
        /// The VIPs.
        vips: Vec<Vip>,
    },
    /// VIPs have reals, and none that takes new flows.
    NoUsableReal {
        /// The VIPs.
        vips: Vec<Vip>,
    },
    /// CPUs do not remember new flows at this moment, as there were too many within the second.
    FloodGuardLimits {
        /// The CPUs.
        cpus: Vec<u32>,
    },
    /// CPUs without a connection table of their own have had packets for VIPs.
    CpusWithoutTable {
        /// The CPUs.
        cpus: Vec<u32>,
    },
    /// A connection table is full, and packets within connections did not find theirs.
    TableTooSmall(Misses),
}

/// A connection table that is full, and what was not found in any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Misses {
    /// Flows in the fullest table, of its fullest family.
    pub used: u32,
    /// Flows that there is room for in it.
    pub entries: u32,
    /// Packets whose flow was in a table.
    pub hits: u64,
    /// TCP packets within a connection that no table had.
    pub missed: u64,
}

impl Misses {
    /// What the counters tell; `None`: no CPU has a table of its own.
    ///
    /// The one that the other CPUs share is a stopgap and does not count.
    pub(crate) fn of(tables: &[TableStatus], stats: &Stats) -> Option<Self> {
        let own = tables.iter().filter(|table| table.cpu.is_some());
        let parts = own
            .flat_map(|table| [(table.used_ipv4, table.entries), (table.used_ipv6, table.entries)]);
        let (used, entries) =
            parts.max_by_key(|(used, room)| u64::from(*used) * 1000 / u64::from(*room).max(1))?;
        Some(Self { used, entries, hits: stats.event("hit"), missed: stats.event("miss_tcp") })
    }

    /// Whether the table is too small. One that is full is nothing by itself: flows that have ended stay until
    /// others need their place. Some misses are to be expected: connections from before the balancer, or from
    /// another one.
    pub(crate) fn hurt(self) -> bool {
        let full = u64::from(self.used) * 10 >= u64::from(self.entries) * 9;
        full && self.missed * 100 > self.hits
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unready { why } => why.fmt(f),
            Self::GenericMode { interface } => {
                write!(f, "interface {interface}: generic mode, slower than native")
            }
            Self::NoReal { vips } => write!(f, "no reals: {}", some(vips)),
            Self::NoUsableReal { vips } => write!(f, "no real takes new flows of {}", some(vips)),
            Self::FloodGuardLimits { cpus } => {
                write!(f, "{}: more new flows than are remembered within a second", cpu_list(cpus))
            }
            Self::CpusWithoutTable { cpus } => {
                write!(f, "{}: packets, but no connection table", cpu_list(cpus))
            }
            Self::TableTooSmall(Misses { used, entries, missed, .. }) => write!(
                f,
                "a connection table is full ({used} of {entries}), and {missed} TCP packets found no flow"
            ),
        }
    }
}

/// The first few.
fn some(vips: &[Vip]) -> String {
    let named: Vec<_> = vips.iter().take(NAMED).map(Vip::to_string).collect();
    let named = named.join(", ");
    match vips.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// The VIP that a command is shown for.
fn one(vips: &[Vip]) -> String {
    vips.first().map_or_else(|| "VIP".to_owned(), Vip::to_string)
}

impl Problem {
    /// What to do about it.
    pub fn mend(&self) -> String {
        match self {
            Self::Unready { why } => why.mend(),
            Self::GenericMode { interface } => {
                format!("why not native: lbctl doctor, interface {interface}")
            }
            Self::NoReal { vips } => format!(
                "lbctl real add {} ADDRESS, or in the file, and lbctl apply -f FILE",
                one(vips)
            ),
            Self::NoUsableReal { vips } => {
                format!("lbctl real list {}, then real up, weight or add", one(vips))
            }
            Self::FloodGuardLimits { .. } => {
                "no flood? raise connection_table.new_connections_per_second, and lbctl apply -f FILE"
                    .to_owned()
            }
            Self::CpusWithoutTable { .. } => {
                "connection_table.cpus = \"auto\" or with these CPUs, and lbctl apply -f FILE"
                    .to_owned()
            }
            Self::TableTooSmall(_) => {
                "raise connection_table.entries, and lbctl apply -f FILE".to_owned()
            }
        }
    }
}

/// A [`Problem`] with its texts, for reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The problem itself.
    #[serde(flatten)]
    pub problem: Problem,
    /// What it is, in one line.
    pub what: String,
    /// What to do about it, in one line.
    pub mend: String,
}

impl From<Problem> for Finding {
    fn from(problem: Problem) -> Self {
        Self { what: problem.to_string(), mend: problem.mend(), problem }
    }
}

/// Whether an instance does well, by what it tells itself. [`crate::doctor`] looks at the host as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Whether there is nothing to do.
    pub well: bool,
    /// What is not as it should be, the worst first.
    pub findings: Vec<Finding>,
}

impl Health {
    pub(crate) fn read(
        balancer: &Balancer,
        status: &Status,
        interfaces: &[InterfaceState],
    ) -> Result<Self> {
        let mut problems = Vec::new();
        let mut unready = |why| problems.push(Problem::Unready { why });
        if !balancer.is_in_place()? {
            unready(Unready::NotInChain);
        }
        if interfaces.is_empty() {
            unready(Unready::NoInterface);
        }
        interfaces.iter().filter_map(InterfaceState::unready).for_each(unready);
        // Whatever the interrupts of the interfaces say: what counts here is where packets were.
        let cpus = balancer.table_cpus([].into())?;
        let without_table = cpus.receiving.difference(&cpus.tables).copied().collect();
        problems.extend(counted(status, without_table));
        Ok(Self::of(problems))
    }

    fn of(problems: Vec<Problem>) -> Self {
        Self {
            well: problems.is_empty(),
            findings: problems.into_iter().map(Finding::from).collect(),
        }
    }
}

/// What configuration and counters tell.
fn counted(status: &Status, without_table: Vec<u32>) -> Vec<Problem> {
    let idle = status.vips.iter().filter(|vip| vip.usable_reals() == 0);
    let (bare, idle): (Vec<_>, Vec<_>) = idle.partition(|vip| vip.reals.is_empty());
    let limiting = |guard: &FloodGuard| guard.limiting.then_some(guard.cpu);
    let limited: Vec<_> = status.flood_guards.iter().filter_map(limiting).collect();
    let misses = Misses::of(&status.tables, &status.stats).filter(|misses| misses.hurt());

    let mut problems = Vec::new();
    let names = |vips: Vec<&VipStatus>| vips.into_iter().map(|vip| vip.vip).collect();
    if !bare.is_empty() {
        problems.push(Problem::NoReal { vips: names(bare) });
    }
    if !idle.is_empty() {
        problems.push(Problem::NoUsableReal { vips: names(idle) });
    }
    problems.extend(
        status
            .interfaces
            .iter()
            .filter(|(_, interface)| {
                interface.mode == Some(XdpMode::Generic)
                    && interface.config.xdp_mode != XdpMode::Generic
            })
            .map(|(name, _)| Problem::GenericMode { interface: name.clone() }),
    );
    if !limited.is_empty() {
        problems.push(Problem::FloodGuardLimits { cpus: limited });
    }
    if !without_table.is_empty() {
        problems.push(Problem::CpusWithoutTable { cpus: without_table });
    }
    problems.extend(misses.map(Problem::TableTooSmall));
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(used_ipv4: u32, used_ipv6: u32) -> TableStatus {
        TableStatus { cpu: Some(0), entries: 1000, used_ipv4, used_ipv6 }
    }

    fn stats(hit: u64, miss_tcp: u64) -> Stats {
        Stats { table: vec![("hit", hit), ("miss_tcp", miss_tcp)], ..Stats::default() }
    }

    fn status(tables: Vec<TableStatus>, stats: Stats) -> Status {
        Status {
            instance: "default".to_owned(),
            health: Health::default(),
            interfaces: [].into(),
            chain: Vec::new(),
            vips: Vec::new(),
            tables,
            flood_guards: Vec::new(),
            memory: Vec::new(),
            stats,
        }
    }

    #[test]
    fn full_tables_hurt_if_flows_are_missed() {
        let hurts = |table, stats| !counted(&status(vec![table], stats), Vec::new()).is_empty();
        assert!(hurts(table(0, 900), stats(10_000, 101)), "IPv6 alone");
        assert!(!hurts(table(899, 899), stats(10_000, 101)), "room is left");
        assert!(!hurts(table(1000, 0), stats(10_000, 100)), "one in a hundred");
        let shared = TableStatus { cpu: None, ..table(1000, 1000) };
        assert!(!hurts(shared, stats(0, 100)), "the stopgap");
    }

    #[test]
    fn cpus_and_vips_are_grouped() {
        let mut status = status(Vec::new(), Stats::default());
        let guard = FloodGuard {
            cpu: 2,
            limiting: true,
            new_flows: 10,
            limit: Some(10),
            not_remembered: 5,
        };
        status.flood_guards = vec![guard, FloodGuard { cpu: 3, limiting: false, ..guard }];
        let down = crate::status::VipRealStatus {
            address: [10, 0, 0, 1].into(),
            weight: 1,
            state: crate::config::RealState::Down,
            share: 0.0,
            sent: crate::stats::Count::default(),
        };
        let vip = |n: usize, reals: &[_]| VipStatus {
            vip: format!("tcp://10.200.1.{n}:80").parse().expect("a VIP"),
            sent: crate::stats::Count::default(),
            dropped: 0,
            reals: reals.to_vec(),
        };
        status.vips = (1..=5).map(|n| vip(n, std::slice::from_ref(&down))).collect();
        status.vips.push(vip(6, &[]));
        let health = Health::of(counted(&status, vec![1, 4, 5, 6]));
        assert!(!health.well);
        let what: Vec<_> = health.findings.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(
            what,
            [
                "no reals: tcp://10.200.1.6:80",
                "no real takes new flows of tcp://10.200.1.1:80, tcp://10.200.1.2:80, tcp://10.200.1.3:80 and 2 more",
                "CPU 2: more new flows than are remembered within a second",
                "CPUs 1,4-6: packets, but no connection table",
            ]
        );
        let json = serde_json::to_value(&health).expect("JSON");
        assert_eq!(json["findings"][1]["problem"], "no-usable-real");
        assert_eq!(json["findings"][1]["vips"].as_array().map(Vec::len), Some(5));
        assert_eq!(json["findings"][3]["cpus"], serde_json::json!([1, 4, 5, 6]));
        assert!(Health::of(Vec::new()).well);
    }
}
