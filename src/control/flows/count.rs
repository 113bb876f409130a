//! Counts flows in groups.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use super::Flow;
use super::FlowFilter;
use super::FlowState;
use crate::dataplane::balancer::Balancer;
use crate::model::address::Vip;
use crate::model::error::Result;

/// What to count flows by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupBy {
    /// The VIP.
    #[default]
    Vip,
    /// The real.
    Real,
    /// The CPU whose table has the entry.
    Cpu,
    /// The state.
    State,
}

/// What the flows of a group have in common. Serialised as its value, or null.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum FlowGroup {
    /// The VIP; `None`: VIPs that were removed.
    Vip(Option<Vip>),
    /// The real; `None`: reals that were removed, and whose ids were given to others.
    Real(Option<IpAddr>),
    /// The CPU; `None`: the table that CPUs without a table of their own share.
    Cpu(Option<u32>),
    /// The state.
    State(FlowState),
}

/// The entries of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FlowCount {
    /// The group.
    pub group: FlowGroup,
    /// All entries.
    pub entries: u64,
    /// Entries whose next packet goes to their real.
    pub live: u64,
    /// All other entries.
    pub stale: u64,
}

/// The entries of all groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlowCounts {
    /// What they were counted by.
    pub by: GroupBy,
    /// The groups that have entries, in order.
    pub groups: Vec<FlowCount>,
    /// All entries.
    pub entries: u64,
    /// Entries whose next packet goes to their real.
    pub live: u64,
    /// All other entries.
    pub stale: u64,
}

impl GroupBy {
    fn group(self, flow: &Flow) -> FlowGroup {
        match self {
            Self::Vip => FlowGroup::Vip(flow.vip),
            Self::Real => FlowGroup::Real(flow.real),
            Self::Cpu => FlowGroup::Cpu(flow.cpu),
            Self::State => FlowGroup::State(flow.state),
        }
    }
}

impl Balancer {
    /// Counts the flows that match a filter, once for every table that has them.
    pub fn count_flows(&self, filter: &FlowFilter, by: GroupBy) -> Result<FlowCounts> {
        let mut groups: BTreeMap<FlowGroup, (u64, u64)> = BTreeMap::new();
        for flow in self.flows(filter)? {
            let flow = flow?;
            let (live, stale) = groups.entry(by.group(&flow)).or_default();
            *(if flow.state.is_stale() { stale } else { live }) += 1;
        }
        let count =
            |(group, (live, stale))| FlowCount { group, entries: live + stale, live, stale };
        let groups: Vec<_> = groups.into_iter().map(count).collect();
        let sum = |of: fn(&FlowCount) -> u64| groups.iter().map(of).sum();
        let (entries, live, stale) = (sum(|g| g.entries), sum(|g| g.live), sum(|g| g.stale));
        Ok(FlowCounts { by, groups, entries, live, stale })
    }
}
