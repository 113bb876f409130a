//! The VIPs and their reals, with what was sent to them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use crate::dataplane::balancer::Balancer;
use crate::model::address::Vip;
use crate::model::config::Echo;
use crate::model::config::NoReal;
use crate::model::config::OtherPorts;
use crate::model::config::RealState;
use crate::model::error::Result;
use crate::model::health::Health;
use crate::model::maglev::ring::Member;
use crate::model::maglev::ring::RING_SIZE;
use crate::model::maglev::ring::Ring;
use crate::model::vip_table::Table;
use crate::observe::health::HealthDetails;
use crate::observe::health::KnownHealth;
use crate::observe::stats::Count;
use crate::observe::stats::Stats;

/// A real of a VIP.
#[derive(Clone, Debug, Serialize)]
pub struct VipRealStatus {
    /// Its address.
    pub address: IpAddr,
    /// Its weight.
    pub weight: u32,
    /// Its state in this VIP.
    pub state: RealState,
    /// Its share of new flows by the ring, 0 to 1.
    pub share: f64,
    /// What is known about its health.
    #[serde(flatten)]
    pub health: HealthDetails,
    /// Its weight in the ring, beside those of the VIP's other reals; 0: it gets no new flows.
    #[serde(skip)]
    pub ring_weight: u32,
    /// What was sent to it for this VIP, since it was added to it; null: the maps have no room for counters of this
    /// VIP's reals.
    pub sent: Option<Count>,
    /// What was sent to it for all VIPs.
    pub sent_for_all_vips: Count,
}

impl VipRealStatus {
    /// Whether it takes new flows: it is up, has a weight, and has at least one slot of the ring.
    pub fn is_usable(&self) -> bool {
        self.wants_flows() && self.share > 0.0
    }

    /// Whether it could take new flows, but has no slot of the ring, because its weight is too small beside the VIP's other reals.
    pub fn is_outweighed(&self) -> bool {
        self.wants_flows() && !self.is_usable()
    }

    fn wants_flows(&self) -> bool {
        self.ring_weight != 0
    }
}

/// A VIP.
#[derive(Clone, Debug, Serialize)]
pub struct VipStatus {
    /// Its protocol, address and port.
    pub vip: Vip,
    /// What was sent to its reals.
    pub sent: Count,
    /// Packets for it that were sent to no real.
    pub dropped: u64,
    /// What becomes of packets to ports of its address that no VIP has.
    pub other_ports: OtherPorts,
    /// What becomes of packets while it has no usable real.
    pub no_real: NoReal,
    /// When its address answers echo requests.
    pub echo: Echo,
    /// The check of its reals: its name, or its type if it has no name.
    pub check: Option<String>,
    /// How often they are checked, if there are any.
    #[serde(skip)]
    pub check_interval: Option<Duration>,
    /// Whether all reals are used that the operator has up, because too few are healthy.
    pub fails_open: bool,
    /// Its reals.
    pub reals: Vec<VipRealStatus>,
}

impl VipStatus {
    /// Whether nothing is known about the health of its reals, and nobody is going to find out: it has no check, and
    /// nobody told.
    pub fn is_unchecked(&self) -> bool {
        let is_unknown = |real: &VipRealStatus| real.health.state == Health::Unknown;
        self.check.is_none() && !self.reals.is_empty() && self.reals.iter().all(is_unknown)
    }

    /// How many of its reals take new flows.
    pub fn usable_reals(&self) -> usize {
        self.reals.iter().filter(|real| real.is_usable()).count()
    }

    /// The members of its ring.
    pub(crate) fn members(&self) -> Vec<Member> {
        let wanting = self.reals.iter().filter(|real| real.wants_flows());
        wanting.map(|real| Member { address: real.address, weight: real.ring_weight }).collect()
    }

    /// Packets that came in for it.
    pub fn packets(&self) -> u64 {
        self.sent.packets + self.dropped
    }
}

impl Balancer {
    /// The VIPs, their reals, and what was sent to them.
    pub fn vips(&self) -> Result<Vec<VipStatus>> {
        self.vips_with(&self.stats()?)
    }

    /// The same, from counters that the caller has read.
    pub fn vips_with(&self, stats: &Stats) -> Result<Vec<VipStatus>> {
        let (table, known) = self.table_and_health()?;
        Ok(vips(&table, &known, stats))
    }
}

fn vips(table: &Table, known: &KnownHealth, stats: &Stats) -> Vec<VipStatus> {
    let vips = table.vips.iter().map(|(vip, spec)| {
        let members = spec.members();
        let shares: HashMap<_, _> = members
            .iter()
            .map(|member| member.address)
            .zip(members.iter().map(|member| member.weight).zip(Ring::shares(&members)))
            .collect();
        let count = stats.vips.get(vip).copied().unwrap_or_default();
        let reals = spec.reals.iter().map(|(address, real)| {
            let (ring_weight, slots) = shares.get(address).copied().unwrap_or_default();
            VipRealStatus {
                address: *address,
                weight: real.weight,
                state: real.state,
                share: f64::from(slots) / f64::from(RING_SIZE),
                health: known.of(vip, address, real.health),
                ring_weight,
                sent: stats.sent.get(&(*vip, *address)).copied(),
                sent_for_all_vips: stats.reals.get(address).copied().unwrap_or_default(),
            }
        });
        VipStatus {
            vip: *vip,
            sent: count.sent,
            dropped: count.dropped,
            other_ports: table.other_ports(vip.address),
            no_real: spec.no_real,
            echo: table.echo(vip.address),
            check: spec.health.check.as_ref().map(ToString::to_string),
            check_interval: table.checked_every(spec),
            fails_open: spec.fails_open(),
            reals: reals.collect(),
        }
    });
    vips.collect()
}
