//! What runs, in one report.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::IpAddr;

use libbpf_rs::MapCore;
use libbpf_rs::MapHandle;
use libbpf_rs::MapType;
use serde::Serialize;

use crate::abi::consts;
use crate::addr::Mac;
use crate::addr::Vip;
use crate::balancer::Balancer;
use crate::balancer::possible_cpus;
use crate::chain;
use crate::chain::SlotStatus;
use crate::config::Echo;
use crate::config::InterfaceConfig;
use crate::config::NoReal;
use crate::config::OtherPorts;
use crate::config::RealState;
use crate::config::XdpMode;
use crate::error::Result;
use crate::flood_guard::FloodGuard;
use crate::health::Health;
use crate::instance::kernel_is_at_least;
use crate::instance::own_programs::OwnProgram;
use crate::maps;
use crate::maps::ArrayOfMaps;
use crate::maps::Map;
use crate::maps::kernel_bytes;
use crate::memory::KERNEL_COUNTS_ALL;
use crate::memory::MapMemory;
use crate::memory::Usage;
use crate::memory::computed;
use crate::netlink::NextHop;
use crate::object;
use crate::plan::Unserved;
use crate::readiness::InterfaceState;
use crate::readiness::LinkState;
use crate::ring::Member;
use crate::ring::RING_SIZE;
use crate::ring::Ring;
use crate::serving;
use crate::serving::Part;
use crate::serving::Server;
use crate::stats::Count;
use crate::stats::Stats;
use crate::table::RealSpec;
use crate::table::Table;
use crate::tables::LruTable;
use crate::tables::lru_used;

/// An interface that the balancer serves.
#[derive(Clone, Debug, Serialize)]
pub struct InterfaceStatus {
    /// What was asked for.
    #[serde(flatten)]
    pub config: InterfaceConfig,
    /// Whether it can carry packets.
    pub link: LinkState,
    /// How it is attached; `None`: its interface is gone, or the program was taken off it.
    pub mode: Option<XdpMode>,
    /// Its own MAC, as the packet path was told; `None`: any of a single host counts.
    pub own_mac: Option<Mac>,
    /// The same, as the interface has it now; `None`: it is gone, or has none.
    pub own_mac_now: Option<Mac>,
    /// The MAC that frames to reals are sent to.
    pub mac: Mac,
    /// Whom that MAC was found by; `None`: it was configured.
    pub next_hop: Option<NextHop>,
    /// Bytes of IP packet that it can send, as the packet path was told.
    pub mtu: u32,
    /// The same, as the interface has it now; `None`: it is gone.
    pub mtu_now: Option<u32>,
}

/// A real of a VIP.
#[derive(Clone, Debug, Serialize)]
pub struct VipRealStatus {
    /// Where it is.
    pub address: IpAddr,
    /// Its weight.
    pub weight: u32,
    /// Its state in this VIP.
    pub state: RealState,
    /// Its share of new flows, 0 to 1, as the ring has it.
    pub share: f64,
    /// What was sent to it, for this VIP and others: the packet path counts reals, not pairs.
    pub sent_for_all_vips: Count,
}

impl VipRealStatus {
    /// Whether it takes new flows: it is up, has a weight, and got a slot of the ring for it.
    pub fn is_usable(&self) -> bool {
        self.wants_flows() && self.share > 0.0
    }

    /// Whether its weight is so far below those of the VIP's other reals that it takes no new flows, though it is up.
    pub fn is_outweighed(&self) -> bool {
        self.wants_flows() && !self.is_usable()
    }

    fn wants_flows(&self) -> bool {
        RealSpec { weight: self.weight, state: self.state }.is_usable()
    }
}

/// A VIP.
#[derive(Clone, Debug, Serialize)]
pub struct VipStatus {
    /// Which one.
    pub vip: Vip,
    /// What was sent to its reals.
    pub sent: Count,
    /// Packets for it that no real got.
    pub dropped: u64,
    /// What becomes of packets to ports of its address that no VIP has.
    pub other_ports: OtherPorts,
    /// What becomes of packets while it has no usable real.
    pub no_real: NoReal,
    /// When its address answers echo requests.
    pub echo: Echo,
    /// Its reals.
    pub reals: Vec<VipRealStatus>,
}

impl VipStatus {
    /// How many of its reals take new flows.
    pub fn usable_reals(&self) -> usize {
        self.reals.iter().filter(|real| real.is_usable()).count()
    }

    /// What its ring is made of.
    pub(crate) fn members(&self) -> Vec<Member> {
        let wanting = self.reals.iter().filter(|real| real.wants_flows());
        wanting.map(|real| Member { address: real.address, weight: real.weight }).collect()
    }

    /// Packets that came in for it.
    pub fn packets(&self) -> u64 {
        self.sent.packets + self.dropped
    }
}

/// A connection table.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TableStatus {
    /// The CPU whose table it is; `None`: the one that all others share.
    pub cpu: Option<u32>,
    /// Flows that it was made for: of each family in a table of sets, of both in one of kind LRU.
    pub entries: u32,
    /// IPv4 flows in it.
    pub used_ipv4: u32,
    /// IPv6 flows in it.
    pub used_ipv6: u32,
}

/// What maps of one purpose take, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MapsMemory {
    /// Which: `connection tables`, `rings`, `counters` or `other maps`.
    pub maps: &'static str,
    /// As [`Plan::memory`](crate::Plan::memory) has it.
    pub planned: u64,
    /// As the kernel counts it; `None`: a kernel before 6.4, which leaves out a good part.
    pub kernel: Option<u64>,
}

/// What `lbctl status` shows.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The instance's name.
    pub instance: String,
    /// Whether all is well.
    pub health: Health,
    /// The process that serves the balancer (`lbctl serve`); `None`: nobody follows its gateways.
    pub serve: Option<Server>,
    /// The interfaces.
    pub interfaces: BTreeMap<String, InterfaceStatus>,
    /// Interfaces that are asked for and are not served, or not as they are asked for.
    pub unserved: Vec<Unserved>,
    /// The programs on them.
    pub chain: Vec<SlotStatus>,
    /// The VIPs.
    pub vips: Vec<VipStatus>,
    /// The connection tables.
    pub tables: Vec<TableStatus>,
    /// The limits of new flows.
    pub flood_guards: Vec<FloodGuard>,
    /// What the maps take.
    pub memory: Vec<MapsMemory>,
    /// All counters.
    pub stats: Stats,
}

impl Balancer {
    /// Reads everything that `lbctl status` shows, with [`Self::table_status`].
    ///
    /// It takes about a second longer, for which the thread sleeps, where counters since the start leave open
    /// whether all is well now: new flows were not remembered once, a connection table is full and flows were
    /// missed, or packets for VIPs came in frames to other hosts. Then the counters are read twice, and [`Health`] is about the time in between.
    pub fn status(&self) -> Result<Status> {
        let stats = self.stats()?;
        let observed = self.observed()?;
        let interfaces = observed.iter().map(|(config, state)| {
            let InterfaceState { interface, link, mode, mac, mtu, mtu_now, .. } = state;
            let (own_mac, own_mac_now) = (state.own_mac, state.own_mac_now);
            let (config, link, mode) = (config.clone(), *link, *mode);
            let (mac, mtu, mtu_now) = (*mac, *mtu, *mtu_now);
            let next_hop = state.next_hop;
            (
                interface.clone(),
                InterfaceStatus {
                    config,
                    link,
                    mode,
                    own_mac,
                    own_mac_now,
                    mac,
                    next_hop,
                    mtu,
                    mtu_now,
                },
            )
        });
        let mut report = Status {
            instance: self.instance().name().to_owned(),
            health: Health::default(),
            serve: serving::server(self.instance(), &Part::Balancer)?,
            interfaces: interfaces.collect(),
            unserved: self.unserved()?,
            chain: chain::list(self.instance())?,
            vips: vips(&self.table()?, &stats),
            tables: self.table_status()?,
            flood_guards: self.flood_guards()?,
            memory: self.memory()?,
            stats,
        };
        let observed: Vec<_> = observed.into_iter().map(|(_, state)| state).collect();
        report.health = Health::read(self, &report, &observed)?;
        Ok(report)
    }

    /// The VIPs, their reals, and what these get.
    pub fn vips(&self) -> Result<Vec<VipStatus>> {
        self.vips_with(&self.stats()?)
    }

    /// The same, with counters that have been read already.
    pub fn vips_with(&self, stats: &Stats) -> Result<Vec<VipStatus>> {
        Ok(vips(&self.table()?, stats))
    }

    /// How full the connection tables are. All of them are read for that: a million entries take about ten
    /// milliseconds in tables of sets, and longer in those of kind LRU.
    pub fn table_status(&self) -> Result<Vec<TableStatus>> {
        let tables = self.tables()?;
        let mut status = Vec::new();
        for (cpu, size) in &tables.own {
            let used = self.dataplane.used_on(&tables, *cpu)?;
            status.push(TableStatus::new(Some(*cpu), tables.kind.entries(*size), used));
        }
        if let Some(shared) = self.dataplane.connections.at(consts::SHARED_TABLE)? {
            let shared: LruTable = Map::new(shared)?;
            status.push(TableStatus::new(None, shared.max_entries(), lru_used(&shared)?));
        }
        Ok(status)
    }

    /// What the maps take, by their pins.
    pub fn map_memory(&self) -> Result<Vec<MapMemory>> {
        let (cpus, tells) = (possible_cpus()?, kernel_is_at_least(KERNEL_COUNTS_ALL)?);
        let bytes =
            |map: &MapHandle| if tells { Ok(kernel_bytes(map)?) } else { computed(map, cpus) };
        let mut all = Vec::new();
        for map in OwnProgram::Balancer.maps() {
            let outer = maps::open(&self.instance().map(map))?;
            let mut sum = bytes(&outer)?;
            if outer.map_type() == MapType::ArrayOfMaps {
                let places = outer.max_entries();
                let outer = ArrayOfMaps::new(outer);
                for place in 0..places {
                    sum += outer.at(place)?.map_or(Ok(0), |map| bytes(&map))?;
                }
            }
            all.push(MapMemory { map, bytes: sum });
        }
        Ok(all)
    }

    /// What the maps take, by what they are for.
    fn memory(&self) -> Result<Vec<MapsMemory>> {
        let (cpus, maps) = (possible_cpus()?, object::balancer_maps()?);
        let own = self.tables()?;
        let planned = Usage::of(&own, &self.dataplane.read_table(0)?, &maps, cpus);

        let mut tables = sum_inner(&self.dataplane.connections, [consts::SHARED_TABLE])?;
        for (_, outer) in self.dataplane.table_maps() {
            tables += sum_inner(outer, own.own.keys().map(|cpu| own.place(*cpu)))?;
        }
        let rings = sum_inner(&self.dataplane.rings, 0..consts::MAX_VIPS)?;
        let (mut counters, mut other) = (0, sum_inner(&self.dataplane.vip_index, [0])?);
        for name in OwnProgram::Balancer.maps() {
            let map = maps::open(&self.instance().map(name))?;
            let sum = if map.map_type().is_percpu() { &mut counters } else { &mut other };
            *sum += kernel_bytes(&map)?;
        }

        let tells = kernel_is_at_least(KERNEL_COUNTS_ALL)?;
        let group = |maps, planned, kernel| {
            let kernel = tells.then_some(kernel);
            MapsMemory { maps, planned, kernel }
        };
        Ok(vec![
            group("connection tables", planned.tables(), tables),
            group("rings", planned.rings, rings),
            group("counters", planned.counters, counters),
            group("other maps", planned.other, other),
        ])
    }
}

impl TableStatus {
    fn new(cpu: Option<u32>, entries: u32, [used_ipv4, used_ipv6]: [u32; 2]) -> Self {
        Self { cpu, entries, used_ipv4, used_ipv6 }
    }
}

/// What the kernel says that the maps at these places take.
fn sum_inner(outer: &ArrayOfMaps, places: impl IntoIterator<Item = u32>) -> Result<u64> {
    let mut sum = 0;
    for place in places {
        if let Some(map) = outer.at(place)? {
            sum += kernel_bytes(&map)?;
        }
    }
    Ok(sum)
}

fn vips(table: &Table, stats: &Stats) -> Vec<VipStatus> {
    let vips = table.vips.iter().map(|(vip, spec)| {
        let members = spec.members();
        let shares: HashMap<_, _> =
            members.iter().map(|member| member.address).zip(Ring::shares(&members)).collect();
        let count = stats.vips.get(vip).copied().unwrap_or_default();
        let reals = spec.reals.iter().map(|(address, real)| VipRealStatus {
            address: *address,
            weight: real.weight,
            state: real.state,
            share: f64::from(shares.get(address).copied().unwrap_or_default())
                / f64::from(RING_SIZE),
            sent_for_all_vips: stats.reals.get(address).copied().unwrap_or_default(),
        });
        VipStatus {
            vip: *vip,
            sent: count.sent,
            dropped: count.dropped,
            other_ports: table.other_ports(vip.address),
            no_real: spec.no_real,
            echo: table.echo(vip.address),
            reals: reals.collect(),
        }
    });
    vips.collect()
}
