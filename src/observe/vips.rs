//! The VIPs and their reals, with what was sent to them.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::dataplane::balancer::Balancer;
use crate::dataplane::interfaces::read_interfaces;
use crate::model::address::Mac;
use crate::model::address::Vip;
use crate::model::config::Delivery;
use crate::model::config::Echo;
use crate::model::config::Encapsulation;
use crate::model::config::NoReal;
use crate::model::config::OtherPorts;
use crate::model::config::RealState;
use crate::model::config::SentBy;
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
use crate::plan::diff::Running;

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
    /// How its packets go to it.
    pub encapsulation: SentBy,
    /// Where its frames go, if they go to its own MAC; `None`: they do not, or its MAC is not known, and its packets are
    /// dropped.
    pub neighbour: Option<RealNeighbour>,
}

/// Where frames for a real go that is on a network of this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RealNeighbour {
    /// The interface whose network it is on. Packets that come in by another one do not reach it.
    pub interface: String,
    /// Its MAC.
    pub mac: Mac,
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

    /// Whether its packets are dropped because its MAC is not known.
    pub fn lacks_mac(&self) -> bool {
        self.encapsulation == SentBy::L2 && self.neighbour.is_none()
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
        let running = self.running()?;
        let known = self.known_health(&running)?;
        let ways = Ways {
            names: self.interface_names(&running)?,
            running: &running,
            ids: running.live_ids(),
        };
        Ok(vips(&running.table(), &known, stats, &ways))
    }
}

impl Balancer {
    /// The names of the interfaces that reals are known to be on, by their indices.
    fn interface_names(&self, running: &Running) -> Result<BTreeMap<u32, String>> {
        if running.neighbours.is_empty() {
            return Ok(BTreeMap::new());
        }
        let interfaces = read_interfaces(&self.instance, &self.dataplane)?.into_iter();
        let names = interfaces.filter_map(|(name, running)| Some((running.entry?.ifindex, name)));
        Ok(names.collect())
    }
}

/// The ways of packets to the reals.
struct Ways<'a> {
    running: &'a Running,
    ids: FxHashMap<IpAddr, u32>,
    names: BTreeMap<u32, String>,
}

impl Ways<'_> {
    fn sent_by(&self, vip: Option<Encapsulation>, real: IpAddr, said: Delivery) -> SentBy {
        let entry = self.ids.get(&real).and_then(|id| self.running.reals.get(id));
        match entry {
            Some(entry) if entry.way.is_local() => SentBy::Local,
            _ => SentBy::of(vip, said),
        }
    }

    fn neighbour(&self, real: IpAddr) -> Option<RealNeighbour> {
        let found = self.running.neighbour(&self.ids, real)?;
        let number = || format!("number {}", found.ifindex);
        let interface = self.names.get(&found.ifindex).cloned().unwrap_or_else(number);
        Some(RealNeighbour { interface, mac: found.mac })
    }
}

fn vips(table: &Table, known: &KnownHealth, stats: &Stats, ways: &Ways<'_>) -> Vec<VipStatus> {
    let vips = table.vips.iter().map(|(vip, spec)| {
        let members = spec.members();
        let shares: HashMap<_, _> = members
            .iter()
            .map(|member| member.address)
            .zip(members.iter().map(|member| member.weight).zip(Ring::shares(&members)))
            .collect();
        let count = stats.vips.get(vip).copied().unwrap_or_default();
        let reals = spec.reals.iter().map(|(address, real)| {
            let sent_by = ways.sent_by(spec.encapsulation, *address, real.delivery);
            let by_mac = sent_by == SentBy::L2;
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
                encapsulation: sent_by,
                neighbour: by_mac.then(|| ways.neighbour(*address)).flatten(),
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
